use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// `envoy.config.core.v3.Address` after resolution: an IP socket or a pipe. Prints as Envoy prints it
/// (`127.0.0.1:80`, `[::1]:80`, `/path` or `@abstract`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    Ip(SocketAddr),
    Pipe(Arc<str>),
}

impl Address {
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Address::Ip(addr) => Some(addr.ip()),
            Address::Pipe(_) => None,
        }
    }

    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Ip(addr) => Some(addr.port()),
            Address::Pipe(_) => None,
        }
    }

    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(addr) => Some(*addr),
            Address::Pipe(_) => None,
        }
    }
}

impl From<SocketAddr> for Address {
    /// IPv4-mapped IPv6 addresses become IPv4, as Envoy shows them.
    fn from(addr: SocketAddr) -> Self {
        Address::Ip(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(addr) => write!(f, "{addr}"),
            Address::Pipe(path) => f.write_str(path),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
