//! Byte streams as the data path sees them: a socket, bytes that were already read from it, and TLS around both.

mod address;
mod io;
mod socket_options;

pub use address::Address;
pub use io::{Io, RawIo, Socket};
pub use socket_options::{SocketOptions, SocketState, TcpKeepalive, canonical};
