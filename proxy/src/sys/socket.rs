//! Socket options that `socket2` has no name for.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use socket2::SockRef;

/// setsockopt(2) with any level, name and value: `envoy.config.core.v3.SocketOption`.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_option(fd: impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let len = libc::socklen_t::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open while `fd` is borrowed; the kernel reads `len` bytes at `value` and keeps no pointer.
    let rc = unsafe { libc::setsockopt(fd.as_fd().as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `TCP_FASTOPEN` on a socket that listens or is going to: at most `queue` connections whose SYN carried data wait for
/// their handshake to end.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_tcp_fast_open(fd: impl AsFd, queue: u32) -> io::Result<()> {
    let queue = libc::c_int::try_from(queue).unwrap_or(libc::c_int::MAX);
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, &queue.to_ne_bytes())
}

/// Where the peer connected to before a REDIRECT rule of netfilter changed it (`SO_ORIGINAL_DST`,
/// `IP6T_SO_ORIGINAL_DST`). `None` when the connection is not tracked or was not redirected.
pub fn original_destination(fd: impl AsFd) -> Option<SocketAddr> {
    let socket = SockRef::from(&fd);
    let local = socket.local_addr().ok()?.as_socket()?;
    // A connection that came in over IPv4 on a dual-stack socket is tracked as IPv4.
    let v4 = local.is_ipv4() || local.ip().to_canonical().is_ipv4();
    let found = if v4 { socket.original_dst_v4() } else { socket.original_dst_v6() };
    found.ok()?.as_socket()
}
