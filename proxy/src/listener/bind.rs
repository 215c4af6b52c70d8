//! Listening sockets: made and bound on the control thread, before any worker runs, so that an address that is taken is an
//! error at once; listening begins when the workers start.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{ListenAddress, Listener, SocketSettings};
use crate::net::{Address, SocketState};
use crate::sys;

/// The sockets of one address of a listener.
pub struct Bound {
    /// With the port that was chosen if the configuration says 0.
    pub address: Address,
    /// One for each worker, or one for all of them.
    sockets: Vec<Socket>,
    listen: ListenAddress,
    settings: SocketSettings,
}

/// What a worker accepts on.
pub enum ListenSocket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// Binds every address of a listener, for so many workers.
///
/// # Errors
/// When an address or an option is refused; the text names it.
pub fn bind(listener: &Listener, workers: usize) -> io::Result<Vec<Bound>> {
    let bind = |listen: &ListenAddress| Bound::new(listen, listener.socket, workers);
    listener.addresses.iter().map(bind).collect()
}

impl Bound {
    fn new(listen: &ListenAddress, settings: SocketSettings, workers: usize) -> io::Result<Self> {
        let mut bound =
            Bound { address: listen.address.clone(), sockets: Vec::new(), listen: listen.clone(), settings };
        let sockets = match listen.address {
            Address::Ip(_) if settings.reuse_port => workers.max(1),
            // Without SO_REUSEPORT all workers accept on the same socket.
            _ => 1,
        };
        for _ in 0..sockets {
            let socket = bound.bind_one().map_err(|e| context(&e, "cannot bind", &bound.address))?;
            if let Some(chosen) = socket.local_addr()?.as_socket() {
                bound.address = Address::Ip(chosen);
            }
            bound.sockets.push(socket);
        }
        Ok(bound)
    }

    fn bind_one(&self) -> io::Result<Socket> {
        match &self.address {
            Address::Ip(address) => self.bind_ip(*address),
            Address::Pipe(path) => bind_pipe(path, self.listen.mode),
        }
    }

    fn bind_ip(&self, address: SocketAddr) -> io::Result<Socket> {
        let protocol = if self.settings.mptcp { Protocol::MPTCP } else { Protocol::TCP };
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(protocol))?;
        if address.is_ipv6() {
            socket.set_only_v6(!self.listen.ipv4_compat)?;
        }
        socket.set_reuse_address(true)?;
        if self.settings.reuse_port {
            socket.set_reuse_port(true)?;
        }
        self.listen.options.apply(&socket, address.ip(), SocketState::Prebind)?;
        socket.bind(&address.into())?;
        self.listen.options.apply(&socket, address.ip(), SocketState::Bound)?;
        Ok(socket)
    }

    /// Begins to listen.
    ///
    /// # Errors
    /// Those of listen(2), and of options for that state.
    pub fn listen(&self) -> io::Result<()> {
        for socket in &self.sockets {
            let listen = || {
                socket.listen(self.settings.backlog)?;
                let Some(ip) = self.address.ip() else { return Ok(()) };
                if let Some(queue) = self.settings.tcp_fast_open_queue_length {
                    sys::set_tcp_fast_open(socket, queue)?;
                }
                self.listen.options.apply(socket, ip, SocketState::Listening)
            };
            listen().map_err(|e| context(&e, "cannot listen on", &self.address))?;
        }
        Ok(())
    }

    /// The socket on which a worker accepts; a duplicate, so that it can be given out again.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn for_worker(&self, worker: usize) -> io::Result<ListenSocket> {
        let socket = self.sockets.get(worker).or(self.sockets.first()).ok_or(io::ErrorKind::NotConnected)?;
        let socket = socket.try_clone()?;
        Ok(match self.address {
            Address::Ip(_) => ListenSocket::Tcp(socket.into()),
            Address::Pipe(_) => ListenSocket::Unix(socket.into()),
        })
    }

    /// Closes the sockets. The address stays known.
    pub fn close(&mut self) {
        self.sockets.clear();
    }

    /// Where the table of hand-offs has this address.
    pub fn table_addresses(&self) -> Vec<SocketAddr> {
        self.listen.table_addresses(self.address.socket())
    }
}

impl ListenAddress {
    /// The same for a listener that does not bind. A `[::]` that takes IPv4 connections too also stands for `0.0.0.0`; pipes
    /// are in no table.
    pub fn table_addresses(&self, actual: Option<SocketAddr>) -> Vec<SocketAddr> {
        let Some(address) = actual.or(self.address.socket()) else { return Vec::new() };
        let mut addresses = vec![address];
        if self.ipv4_compat && address.ip() == Ipv6Addr::UNSPECIFIED {
            addresses.push((Ipv4Addr::UNSPECIFIED, address.port()).into());
        }
        addresses
    }
}

fn bind_pipe(path: &str, mode: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    if let Some(name) = path.strip_prefix('@') {
        socket.bind(&SockAddr::unix(format!("\0{name}"))?)?;
        return Ok(socket);
    }
    // What an earlier process left behind. Only a socket: a mistyped path must not cost a file.
    if let Ok(found) = std::fs::symlink_metadata(path)
        && std::os::unix::fs::FileTypeExt::is_socket(&found.file_type())
    {
        std::fs::remove_file(path)?;
    }
    socket.bind(&SockAddr::unix(path)?)?;
    if mode != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(socket)
}

fn context(error: &io::Error, what: &str, address: &Address) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {address}: {error}"))
}
