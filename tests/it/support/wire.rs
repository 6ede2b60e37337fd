//! A load balancer that spreads connections over the reachable servers and can cut them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A running load balancer of TCP connections; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    address: SocketAddr,
    /// The addresses of the servers; `None` for a server that is down.
    targets: Arc<Mutex<Vec<Option<String>>>>,
    next: Arc<AtomicUsize>,
    /// The number of cuts.
    cuts: Arc<watch::Sender<u64>>,
}

impl Wire {
    /// Starts a load balancer in front of these servers, given as host and port.
    pub(crate) async fn to(targets: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let targets = targets.iter().map(|target| Some((*target).to_owned()));
        let wire = Self {
            address: listener.local_addr().unwrap(),
            targets: Arc::new(Mutex::new(targets.collect())),
            next: Arc::default(),
            cuts: Arc::new(watch::Sender::new(0)),
        };
        tokio::task::spawn(wire.clone().serve(listener));
        wire
    }

    /// Returns the host and port at which it listens.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Sets the address of the server with this index.
    pub(crate) fn set_target(&self, index: usize, target: Option<&str>) {
        self.targets.lock().unwrap()[index] = target.map(str::to_owned);
    }

    /// Closes every connection.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    async fn serve(self, listener: TcpListener) {
        loop {
            // A client that disconnected before it was accepted does not matter.
            let Ok((client, _)) = listener.accept().await else {
                continue;
            };
            let wire = self.clone();
            tokio::task::spawn(async move { wire.relay(client).await });
        }
    }

    /// Connects a client to a server. Without a server, the client's connection is closed.
    async fn relay(&self, mut client: TcpStream) {
        let mut cuts = self.cuts.subscribe();
        let Some(mut server) = self.connect_to_next().await else {
            return;
        };
        // With Nagle's algorithm, small writes of both sides would wait for each other.
        for end in [&client, &server] {
            let _may_be_gone = end.set_nodelay(true);
        }
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => {}
            _ = cuts.changed() => {}
        }
    }

    /// Connects to the next server, or to another one if that is down.
    async fn connect_to_next(&self) -> Option<TcpStream> {
        let targets = self.targets.lock().unwrap().clone();
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        for step in 0..targets.len() {
            let target = &targets[(next + step) % targets.len()];
            if let Some(target) = target
                && let Ok(server) = TcpStream::connect(target).await
            {
                return Some(server);
            }
        }
        None
    }
}
