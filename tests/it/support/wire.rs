//! A wire in front of servers: spreads connections over those that are there, and can be cut.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A running wire; a clone is the same one. It knows nothing of what it carries.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    address: SocketAddr,
    /// Where it leads; none for a server that is not there.
    targets: Arc<Mutex<Vec<Option<String>>>>,
    turn: Arc<AtomicUsize>,
    /// How often it was cut.
    cuts: Arc<watch::Sender<u64>>,
}

impl Wire {
    /// A wire to these servers, each a host and a port.
    pub(crate) async fn to(targets: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let targets = targets.iter().map(|target| Some((*target).to_owned()));
        let wire = Self {
            address: listener.local_addr().unwrap(),
            targets: Arc::new(Mutex::new(targets.collect())),
            turn: Arc::default(),
            cuts: Arc::new(watch::Sender::new(0)),
        };
        tokio::task::spawn(wire.clone().carry(listener));
        wire
    }

    /// Where it begins: a host and a port.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Says where one of the servers is now.
    pub(crate) fn lead(&self, place: usize, target: Option<&str>) {
        self.targets.lock().unwrap()[place] = target.map(str::to_owned);
    }

    /// Breaks every connection that it carries.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    async fn carry(self, listener: TcpListener) {
        loop {
            // One that was gone before it was accepted is no matter.
            let Ok((client, _)) = listener.accept().await else {
                continue;
            };
            let wire = self.clone();
            tokio::task::spawn(async move { wire.join(client).await });
        }
    }

    /// Joins a client to a server; without one the client finds its connection closed.
    async fn join(&self, mut client: TcpStream) {
        let mut cuts = self.cuts.subscribe();
        let Some(mut server) = self.reach().await else {
            return;
        };
        // Without it the small writes of both sides wait for each other.
        for end in [&client, &server] {
            let _may_be_gone = end.set_nodelay(true);
        }
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => {}
            _ = cuts.changed() => {}
        }
    }

    /// Connects to the next server, or to another one if that is not there.
    async fn reach(&self) -> Option<TcpStream> {
        let targets = self.targets.lock().unwrap().clone();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        for step in 0..targets.len() {
            let target = &targets[(turn + step) % targets.len()];
            if let Some(target) = target
                && let Ok(server) = TcpStream::connect(target).await
            {
                return Some(server);
            }
        }
        None
    }
}
