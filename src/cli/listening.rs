//! The addresses on which a command listens.

use std::io;
use std::net::SocketAddr;

use anyhow::anyhow;
use tokio::net::{TcpListener, TcpSocket};

/// 1,024: the number of connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// An address that belongs to this process and still refuses connections.
pub(super) struct BoundAddress {
    socket: TcpSocket,
    address: SocketAddr,
    /// The option or key that sets the address.
    setting: &'static str,
}

impl BoundAddress {
    /// Binds an address, which fails if another process listens there. The error names `setting`.
    pub(super) fn bind(address: SocketAddr, setting: &'static str) -> anyhow::Result<Self> {
        match bind(address) {
            Ok(socket) => Ok(Self {
                socket,
                address,
                setting,
            }),
            Err(error) => Err(cannot_listen(address, setting, &error)),
        }
    }

    /// Accepts connections from now on.
    pub(super) fn listen(self) -> anyhow::Result<TcpListener> {
        let listener = self.socket.listen(BACKLOG);
        listener.map_err(|error| cannot_listen(self.address, self.setting, &error))
    }
}

/// Listens on an address at once.
pub(super) fn listen(address: SocketAddr, setting: &'static str) -> anyhow::Result<TcpListener> {
    BoundAddress::bind(address, setting)?.listen()
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections of an earlier process may still be closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn cannot_listen(address: SocketAddr, setting: &str, error: &io::Error) -> anyhow::Error {
    anyhow!("cannot listen on {address}: {error}; {setting} sets another address")
}
