//! A network between the service and a server such as its database. It can be silenced or cut.

use std::net::SocketAddr;

use liveperson_bridge::store::Location;
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

use super::database::Database;

/// A relay of bytes that can be silenced or cut.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    address: SocketAddr,
    network: watch::Sender<Network>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Network {
    /// True while no data passes on any connection.
    is_silent: bool,
    /// Connections with smaller numbers never pass data again.
    silent_before: u64,
    /// Connections with smaller numbers are cut.
    cut_before: u64,
    /// The number of accepted connections.
    accepted: u64,
    /// Bytes of a request. The connection that sends them next is cut when its answer arrives.
    lost: Option<&'static [u8]>,
}

impl Relay {
    /// Starts a relay in front of a server, given as host and port.
    pub(crate) async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self {
            address: listener.local_addr().unwrap(),
            network: watch::Sender::default(),
        };
        let network = relay.network.clone();
        tokio::task::spawn(async move {
            loop {
                // A client that disconnected before it was accepted does not matter.
                let Ok((client, _)) = listener.accept().await else {
                    continue;
                };
                let mut number = 0;
                network.send_modify(|network| {
                    number = network.accepted;
                    network.accepted += 1;
                });
                let (server, network) = (server.clone(), network.clone());
                tokio::task::spawn(pass(client, server, network, number));
            }
        });
        relay
    }

    /// Starts a relay in front of the server of a PostgreSQL database. Also returns the database as
    /// reached through the relay, for a pool of this number of connections.
    pub(crate) async fn before(database: &Database, max_connections: u32) -> (Self, Database) {
        let Location::Postgres { url, .. } = &database.location else {
            panic!("SQLite has no network");
        };
        let mut url: Url = url.expose_secret().parse().unwrap();
        let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
        let relay = Self::start(server).await;
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(relay.address.port())).unwrap();
        let location = Location::Postgres {
            url: url.to_string().into(),
            schema: None,
            max_connections,
        };
        (relay, Database::at(location))
    }

    /// Returns the host and port at which it listens.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Passes no data from now on, but still accepts connections.
    pub(crate) fn silence(&self) {
        self.network.send_modify(|network| network.is_silent = true);
    }

    /// Passes data again, including the data that was held back.
    pub(crate) fn pass(&self) {
        self.network
            .send_modify(|network| network.is_silent = false);
    }

    /// Silences the open connections for ever, without closing them. New connections work.
    pub(crate) fn silence_open_connections(&self) {
        self.network
            .send_modify(|network| network.silent_before = network.accepted);
    }

    /// Cuts the connection that sends these bytes next, before their answer passes.
    pub(crate) fn lose_response_to(&self, message: &'static [u8]) {
        self.network
            .send_modify(|network| network.lost = Some(message));
    }

    /// Cuts the open connections. New connections work.
    pub(crate) fn cut(&self) {
        self.network
            .send_modify(|network| network.cut_before = network.accepted);
    }
}

/// Connects a client to the server. Without a server, the client's connection is closed.
async fn pass(mut client: TcpStream, server: String, network: watch::Sender<Network>, number: u64) {
    let mut changes = network.subscribe();
    let mut is_lost = false;
    let Ok(mut server) = TcpStream::connect(server).await else {
        return;
    };
    // With Nagle's algorithm, small writes of both sides would wait for each other.
    for end in [&client, &server] {
        let _may_be_gone = end.set_nodelay(true);
    }
    let (mut request, mut response) = (vec![0; 16384], vec![0; 16384]);
    loop {
        let now = *changes.borrow_and_update();
        if number < now.cut_before {
            return;
        }
        let passes = !now.is_silent && number >= now.silent_before;
        tokio::select! {
            outcome = changes.changed() => if outcome.is_err() {
                return;
            },
            read = client.read(&mut request), if passes => match read {
                Ok(count) if count > 0 && server.write_all(&request[..count]).await.is_ok() => {
                    let sent = &request[..count];
                    is_lost |= network.send_if_modified(|network| {
                        let is_it = |lost: &[u8]| sent.windows(lost.len()).any(|part| part == lost);
                        network.lost.take_if(|lost| is_it(lost)).is_some()
                    });
                }
                _ => return,
            },
            read = server.read(&mut response), if passes => match read {
                Ok(_) if is_lost => return,
                Ok(count) if count > 0 && client.write_all(&response[..count]).await.is_ok() => {}
                _ => return,
            },
        }
    }
}
