//! The accept loop, and what to do when accept(2) fails.
//!
//! Errors fall into three classes: the peer is gone already, which concerns nobody else; the process or system is out of
//! something, most often descriptors; or the socket is broken. The second is where proxies burn a core, because the socket
//! stays readable: here it costs one system call each 25 to 75 ms, and accepting goes on within that time of the first
//! descriptor that comes free. The last descriptors are never taken for downstream connections: what is already connected
//! needs upstream ones, and the operator the admin port.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::Instant;

use super::{Active, WorkerListeners, panic_text};
use crate::net::{Address, Socket};
use crate::stats::names::ListenerStats;
use crate::sys;

/// Descriptors that downstream connections leave to others.
const SPARE_FDS: u64 = 32;
const LOG_EVERY: Duration = Duration::from_secs(10);

pub(super) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, Option<Address>)>> {
        match self {
            Acceptor::Tcp(tcp) => {
                tcp.poll_accept(cx).map_ok(|(socket, peer)| (Socket::Tcp(socket), Some(Address::from(peer))))
            }
            Acceptor::Unix(unix) => unix.poll_accept(cx).map_ok(|(socket, _)| (Socket::Unix(socket), None)),
        }
    }

    /// accept(2) without a look at readiness.
    fn accept_now(&self) -> io::Result<(Socket, Option<Address>)> {
        let listening = match self {
            Acceptor::Tcp(tcp) => SockRef::from(tcp),
            Acceptor::Unix(unix) => SockRef::from(unix),
        };
        let (socket, peer) = listening.accept()?;
        socket.set_nonblocking(true)?;
        Ok(match self {
            Acceptor::Tcp(_) => {
                let peer = peer.as_socket().map(Address::from);
                (Socket::Tcp(TcpStream::from_std(socket.into())?), peer)
            }
            Acceptor::Unix(_) => (Socket::Unix(UnixStream::from_std(socket.into())?), None),
        })
    }
}

/// Which descriptors are spare. New ones get the lowest free number, so a high number tells that few are left.
#[derive(Debug, Clone, Copy)]
pub(super) struct FdReserve {
    first: RawFd,
}

impl FdReserve {
    pub fn of_this_process() -> Self {
        Self::of(sys::file_limit().map_or(u64::MAX, |limit| limit.soft))
    }

    fn of(limit: u64) -> Self {
        // Of a small limit an eighth, so that something is left to work with.
        let spare = SPARE_FDS.min(limit / 8);
        FdReserve { first: RawFd::try_from(limit.saturating_sub(spare)).unwrap_or(RawFd::MAX) }
    }

    fn is_spare(self, fd: &impl AsFd) -> bool {
        fd.as_fd().as_raw_fd() >= self.first
    }
}

#[derive(Debug, PartialEq, Eq)]
enum AcceptError {
    PeerGone,
    Exhausted,
    Fatal,
}

/// accept(2): errors that are already pending on the new connection come out of it, as do those of firewalls.
fn classify(error: &io::Error) -> AcceptError {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => AcceptError::Exhausted,
        Some(libc::EBADF | libc::EFAULT | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP) | None => {
            AcceptError::Fatal
        }
        Some(_) => AcceptError::PeerGone,
    }
}

/// How long to leave an exhausted system alone.
fn back_off(random: f64) -> Duration {
    Duration::from_millis(25) + Duration::from_millis(50).mul_f64(random)
}

impl WorkerListeners {
    /// Accepts until the listener is stopped.
    pub(super) async fn accept(self: Rc<Self>, active: Rc<Active>, socket: Acceptor, address: Address) {
        let accepting = AssertUnwindSafe(self.accept_all(&active, &socket, &address));
        let why = match accepting.catch_unwind().await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("panic: {}", panic_text(&*panic)),
        };
        let name = active.listener().name.clone();
        self.neighbours.fatal(format!("listener {name}: cannot accept on {address} any more: {why}"));
    }

    /// # Errors
    /// After which accepting is over.
    async fn accept_all(self: &Rc<Self>, active: &Rc<Active>, socket: &Acceptor, address: &Address) -> io::Result<()> {
        let mut logged: Option<Instant> = None;
        loop {
            let first = tokio::select! {
                biased;
                first = poll_fn(|cx| socket.poll_accept(cx)) => first,
                () = active.stopped() => {
                    self.accept_rest(active, socket, address);
                    return Ok(());
                }
            };
            if let Some(error) = self.accept_batch(active, socket, address, first).await? {
                if logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
                    logged = Some(Instant::now());
                    tracing::error!("listener {}: cannot accept, trying again: {error}", active.listener().name);
                }
                if active.stopped.get() {
                    return Ok(());
                }
                tokio::time::sleep(back_off(fastrand::f64())).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Takes what waits, up to `max_connections_to_accept_per_socket_event`. Gives back why there is no room for more.
    async fn accept_batch(
        self: &Rc<Self>,
        active: &Rc<Active>,
        socket: &Acceptor,
        address: &Address,
        first: io::Result<(Socket, Option<Address>)>,
    ) -> io::Result<Option<io::Error>> {
        let listener = active.listener();
        let mut accepted = 0;
        let mut next = Some(first);
        let mut exhausted = None;
        while let Some(result) = next.take() {
            match result {
                Ok((socket, peer)) => {
                    accepted += 1;
                    if self.is_spare(&socket) {
                        listener.stats.inc(ListenerStats::DOWNSTREAM_CX_OVERLOAD_REJECT);
                        exhausted = Some(io::Error::from_raw_os_error(libc::EMFILE));
                        break;
                    }
                    let local = local_address(&socket, address, &listener);
                    // A pipe's client has no name; Envoy shows the listener's for it.
                    self.accepted(active, socket, local, peer.unwrap_or_else(|| address.clone()));
                }
                Err(error) => match classify(&error) {
                    AcceptError::PeerGone => {}
                    AcceptError::Exhausted => {
                        exhausted = Some(error);
                        break;
                    }
                    AcceptError::Fatal => return Err(error),
                },
            }
            if accepted < listener.max_connections_to_accept_per_socket_event {
                next = poll_fn(|cx| match socket.poll_accept(cx) {
                    Poll::Ready(result) => Poll::Ready(Some(result)),
                    Poll::Pending => Poll::Ready(None),
                })
                .await;
            }
        }
        listener.stats.record(ListenerStats::CONNECTIONS_ACCEPTED_PER_SOCKET_EVENT, accepted as u64);
        Ok(exhausted)
    }

    /// What the kernel has connected already, asked directly: the event loop may not know of it yet.
    fn accept_rest(self: &Rc<Self>, active: &Rc<Active>, socket: &Acceptor, address: &Address) {
        while let Ok((socket, peer)) = socket.accept_now() {
            if self.is_spare(&socket) {
                return;
            }
            let local = local_address(&socket, address, &active.listener());
            self.accepted(active, socket, local, peer.unwrap_or_else(|| address.clone()));
        }
    }

    fn is_spare(&self, socket: &Socket) -> bool {
        match socket {
            Socket::Tcp(tcp) => self.fds.is_spare(tcp),
            Socket::Unix(unix) => self.fds.is_spare(unix),
            Socket::Memory(_) => false,
        }
    }
}

/// Where the connection came in: known from the listener, unless that takes more than one address.
fn local_address(socket: &Socket, listening: &Address, listener: &super::Listener) -> Address {
    let Socket::Tcp(tcp) = socket else { return listening.clone() };
    let _ = tcp.set_nodelay(true);
    let fixed = listening.ip().is_some_and(|ip| !ip.is_unspecified());
    if fixed && !listener.is_transparent() {
        return listening.clone();
    }
    tcp.local_addr().map_or_else(|_| listening.clone(), Address::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_classed() {
        let class = |code| classify(&io::Error::from_raw_os_error(code));
        assert_eq!(class(libc::ECONNABORTED), AcceptError::PeerGone);
        assert_eq!(class(libc::EPERM), AcceptError::PeerGone);
        assert_eq!(class(libc::ENETUNREACH), AcceptError::PeerGone);
        assert_eq!(class(libc::EMFILE), AcceptError::Exhausted);
        assert_eq!(class(libc::ENFILE), AcceptError::Exhausted);
        assert_eq!(class(libc::EBADF), AcceptError::Fatal);
        assert_eq!(class(libc::EINVAL), AcceptError::Fatal);
    }

    #[test]
    fn the_last_descriptors_are_spare() {
        assert_eq!(FdReserve::of(1024).first, 992);
        assert_eq!(FdReserve::of(64).first, 56);
        assert_eq!(FdReserve::of(u64::MAX).first, RawFd::MAX);
    }

    /// At most 5 % of a core at 100 µs a try, and back within a second.
    #[test]
    fn backing_off_is_neither_short_nor_long() {
        assert!(back_off(0.0) >= Duration::from_millis(20));
        assert!(back_off(1.0) <= Duration::from_millis(100));
    }
}
