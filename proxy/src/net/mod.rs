//! Byte streams as the data path sees them: a socket, bytes that were already read from it, and TLS around both.

mod address;
mod io;
mod socket_options;

pub use address::Address;
pub use io::{Io, RawIo, Socket};
pub use socket_options::{SocketOptions, SocketState, TcpKeepalive, canonical};

/// This machine's first address that is not a loopback one, of the preferred family; loopback when there is none.
pub fn local_ip(prefer_ipv6: bool) -> std::net::IpAddr {
    let addresses = crate::sys::interface_addresses();
    let found = addresses.into_iter().find(|ip| !ip.is_loopback() && ip.is_ipv6() == prefer_ipv6);
    found.unwrap_or_else(|| {
        if prefer_ipv6 { std::net::Ipv6Addr::LOCALHOST.into() } else { std::net::Ipv4Addr::LOCALHOST.into() }
    })
}
