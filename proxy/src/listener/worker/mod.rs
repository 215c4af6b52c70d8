//! The listeners of one worker thread: who accepts where, which listener a restored destination belongs to, and the way of
//! a connection from accept to its terminal filter.

mod accept;
mod connection;
mod inspect;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};

use super::Listener;
use super::bind::ListenSocket;
use super::connections::ConnectionPlace;
use crate::net::{Address, RawIo, Socket};
use crate::stats::StatBlock;
use crate::stats::names::{ListenerStats, ProcessStats};
use crate::stream_info::ConnectionInfo;

use accept::{Acceptor, FdReserve};

pub use connection::HANDSHAKE_TIMEOUT;

/// A listener for as long as it exists; an update keeps its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u64);

/// What the listeners of a worker need from the process around them.
pub trait Neighbours {
    /// Sends a connection to another worker.
    fn hand_over(&self, worker: usize, id: ListenerId, connection: Handed);

    /// Something ended that must not: the process cannot go on.
    fn fatal(&self, why: String);
}

/// The listeners of one worker.
pub struct WorkerListeners {
    index: usize,
    neighbours: Box<dyn Neighbours>,
    listeners: RefCell<HashMap<ListenerId, Rc<Active>>>,
    table: RefCell<HashMap<SocketAddr, Rc<Active>>>,
    fds: FdReserve,
    stats: StatBlock<ProcessStats>,
}

/// A listener on this worker.
struct Active {
    id: ListenerId,
    current: RefCell<Arc<Listener>>,
    stopped: Cell<bool>,
    stop: Notify,
    accepting: RefCell<Vec<JoinHandle<()>>>,
}

impl Active {
    /// Resolves when no more connections are to be accepted. Cancel safe.
    async fn stopped(&self) {
        let stop = self.stop.notified();
        if !self.stopped.get() {
            stop.await;
        }
    }

    fn listener(&self) -> Arc<Listener> {
        self.current.borrow().clone()
    }
}

/// A connection before a filter chain serves it.
struct Incoming {
    raw: RawIo,
    info: ConnectionInfo,
    open: Open,
}

/// A connection on its way to another worker.
pub struct Handed {
    socket: HandedSocket,
    prefix: BytesMut,
    info: ConnectionInfo,
    open: Open,
    hand_off: bool,
}

enum HandedSocket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// One connection's part in the counts of its listener and of the process.
struct Open {
    listener: Arc<Listener>,
    /// The worker that `exact_balance` counts it for.
    worker: usize,
    _of_listener: ConnectionPlace,
    of_process: Option<ConnectionPlace>,
}

impl Open {
    fn new(
        listener: Arc<Listener>,
        worker: usize,
        of_listener: ConnectionPlace,
        of_process: Option<ConnectionPlace>,
    ) -> Self {
        let worker = listener.exact_balance.as_ref().map_or(worker, |balance| balance.pick(worker));
        Open { listener, worker, _of_listener: of_listener, of_process }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(balance) = &self.listener.exact_balance {
            balance.ended(self.worker);
        }
    }
}

impl WorkerListeners {
    /// `stats` counts what concerns the process; `index` is the worker's, from 0.
    pub fn new(index: usize, neighbours: Box<dyn Neighbours>, stats: StatBlock<ProcessStats>) -> Rc<Self> {
        Rc::new(WorkerListeners {
            index,
            neighbours,
            listeners: RefCell::default(),
            table: RefCell::default(),
            fds: FdReserve::of_this_process(),
            stats,
        })
    }

    /// Begins to serve a listener: accepts on `sockets`, each with the address it is bound to, and takes hand-offs for
    /// `table` addresses.
    ///
    /// # Errors
    /// When a socket cannot be registered with the event loop.
    pub fn add(
        self: &Rc<Self>,
        id: ListenerId,
        listener: Arc<Listener>,
        sockets: Vec<(Address, ListenSocket)>,
        table: &[SocketAddr],
    ) -> io::Result<()> {
        let active = Rc::new(Active {
            id,
            current: RefCell::new(listener),
            stopped: Cell::new(false),
            stop: Notify::new(),
            accepting: RefCell::default(),
        });
        for (address, socket) in sockets {
            let socket = match socket {
                ListenSocket::Tcp(tcp) => Acceptor::Tcp(TcpListener::from_std(tcp)?),
                ListenSocket::Unix(unix) => Acceptor::Unix(UnixListener::from_std(unix)?),
            };
            let accepting = spawn_local(self.clone().accept(active.clone(), socket, address));
            active.accepting.borrow_mut().push(accepting);
        }
        self.table.borrow_mut().extend(table.iter().map(|address| (*address, active.clone())));
        self.listeners.borrow_mut().insert(id, active);
        Ok(())
    }

    /// New connections get the new configuration; old ones keep theirs.
    pub fn update(&self, id: ListenerId, listener: Arc<Listener>) {
        if let Some(active) = self.listeners.borrow().get(&id) {
            *active.current.borrow_mut() = listener;
        }
    }

    /// Accepts what is connected already, then closes this worker's sockets. Connections go on, and hand-offs are still taken.
    pub fn stop(&self, id: ListenerId) {
        if let Some(active) = self.listeners.borrow().get(&id) {
            active.stopped.set(true);
            active.stop.notify_waiters();
        }
    }

    /// Resolves when listeners that were stopped have accepted what they had, and closed their sockets.
    pub fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let listeners = self.listeners.borrow();
        let stopped = listeners.values().filter(|active| active.stopped.get());
        let tasks: Vec<_> = stopped.flat_map(|active| active.accepting.take()).collect();
        async {
            for task in tasks {
                // However it ended, it accepts no more.
                let _ = task.await;
            }
        }
    }

    /// Forgets a listener; its connections go on.
    pub fn remove(&self, id: ListenerId) {
        self.stop(id);
        self.table.borrow_mut().retain(|_, active| active.id != id);
        self.listeners.borrow_mut().remove(&id);
    }

    /// Takes a connection that another worker sent.
    pub fn take(self: &Rc<Self>, id: ListenerId, handed: Handed) {
        let Some(active) = self.listeners.borrow().get(&id).cloned() else { return };
        let Handed { socket, prefix, info, open, hand_off } = handed;
        let socket = match socket {
            HandedSocket::Tcp(tcp) => TcpStream::from_std(tcp).map(Socket::Tcp),
            HandedSocket::Unix(unix) => UnixStream::from_std(unix).map(Socket::Unix),
        };
        match socket {
            Ok(socket) => self.spawn(active, Incoming { raw: RawIo { prefix, socket }, info, open }, hand_off),
            Err(error) => {
                tracing::warn!("listener {}: lost a connection between workers: {error}", active.listener().name)
            }
        }
    }

    /// The listener for a restored destination: bound or listed at exactly that address, else at its port of any address.
    fn find(&self, destination: &Address) -> Option<Rc<Active>> {
        let address = destination.socket()?;
        let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let table = self.table.borrow();
        table.get(&address).or_else(|| table.get(&SocketAddr::new(any, address.port()))).cloned()
    }

    /// A new socket: limits, then its worker, then its task.
    fn accepted(self: &Rc<Self>, active: &Rc<Active>, socket: Socket, local: Address, remote: Address) {
        let listener = active.listener();
        let Some(of_process) = listener.of_process.acquire(!listener.ignore_global_conn_limit) else {
            listener.stats.inc(ListenerStats::DOWNSTREAM_GLOBAL_CX_OVERFLOW);
            return;
        };
        let Some(of_listener) = listener.open.acquire(true) else {
            listener.stats.inc(ListenerStats::DOWNSTREAM_CX_OVERFLOW);
            return;
        };
        let info = ConnectionInfo::new(listener.name.clone(), local, remote, listener.direction);
        let open = Open::new(listener, self.index, of_listener, Some(of_process));
        self.dispatch(active, Incoming { raw: RawIo::new(socket), info, open }, true);
    }

    /// Runs a connection here, or sends it to the worker it is counted for.
    fn dispatch(self: &Rc<Self>, active: &Rc<Active>, incoming: Incoming, hand_off: bool) {
        let worker = incoming.open.worker;
        if worker == self.index {
            return self.spawn(active.clone(), incoming, hand_off);
        }
        let Incoming { raw: RawIo { prefix, socket }, info, open } = incoming;
        let socket = match socket {
            Socket::Tcp(tcp) => tcp.into_std().map(HandedSocket::Tcp),
            Socket::Unix(unix) => unix.into_std().map(HandedSocket::Unix),
            Socket::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        };
        match socket {
            Ok(socket) => {
                self.neighbours.hand_over(worker, active.id, Handed { socket, prefix, info, open, hand_off });
            }
            Err(error) => tracing::warn!("listener {}: lost a connection between workers: {error}", open.listener.name),
        }
    }

    /// The task of a connection. A panic in it ends nothing else.
    fn spawn(self: &Rc<Self>, active: Rc<Active>, incoming: Incoming, hand_off: bool) {
        let worker = self.clone();
        spawn_local(async move {
            let name = incoming.info.listener_name.clone();
            let stats = worker.stats.clone();
            // In a box that goes when a filter has the connection: an idle connection must not carry the room for its start.
            let serving = AssertUnwindSafe(async {
                if let Some(serving) = Box::pin(worker.serve(active, incoming, hand_off)).await {
                    serving.await;
                }
            });
            if let Err(panic) = serving.catch_unwind().await {
                stats.inc(ProcessStats::PANICS);
                tracing::error!("listener {name}: a connection ended with a panic: {}", panic_text(&*panic));
            }
        });
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
