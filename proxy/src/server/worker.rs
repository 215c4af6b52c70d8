//! Worker threads: each a tokio `current_thread` runtime with its own listening sockets, pools, load-balancer cursors and
//! stat shard. A connection lives and dies on one worker.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

use super::watchdog::Heartbeat;
use crate::cluster::{ClusterEvent, ClusterManager};
use crate::listener::Listener;
use crate::listener::bind::ListenSocket;
use crate::listener::worker::{Handed, ListenerId, Neighbours, WorkerListeners, panic_text};
use crate::net::Address;
use crate::pool;
use crate::stats::{self, Stats};

thread_local! {
    static INDEX: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Which worker the calling thread is, from 0; none on the control thread.
pub fn index() -> Option<usize> {
    INDEX.get()
}

/// What the control thread, or another worker, asks of a worker.
pub(super) enum Command {
    Add {
        id: ListenerId,
        listener: Arc<Listener>,
        sockets: Vec<(Address, ListenSocket)>,
        table: Vec<SocketAddr>,
    },
    Update(ListenerId, Arc<Listener>),
    Stop(ListenerId),
    /// Say when the listeners that were told to stop have.
    Stopped(oneshot::Sender<()>),
    Remove(ListenerId),
    /// Touch this from now on, by this clock and at this interval.
    Beat(Arc<Heartbeat>, Instant, Duration),
    Take(ListenerId, Box<Handed>),
    /// End the thread: what still runs is dropped.
    Exit,
}

/// What workers tell the control thread.
#[derive(Debug)]
pub enum Event {
    /// The process cannot go on.
    Fatal(String),
    /// The thread ended as it was told.
    Exited(usize),
}

/// The running workers.
pub struct Workers {
    commands: Vec<UnboundedSender<Command>>,
    threads: Vec<thread::JoinHandle<()>>,
}

struct Links {
    commands: Vec<UnboundedSender<Command>>,
    events: UnboundedSender<Event>,
}

impl Workers {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        count: usize,
        stats: &Stats,
        clusters: &ClusterManager,
    ) -> io::Result<(Self, UnboundedReceiver<Event>)> {
        let (events, received) = unbounded_channel();
        let (commands, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| unbounded_channel()).unzip();
        let mut threads = Vec::with_capacity(count);
        for (index, receiver) in receivers.into_iter().enumerate() {
            let (commands, events, stats) = (commands.clone(), events.clone(), stats.clone());
            let removals = clusters.subscribe();
            // Only what is `Send` crosses; the links are shared within the worker.
            let body = move || run_thread(index, receiver, Links { commands, events }, removals, &stats);
            threads.push(thread::Builder::new().name(format!("wrk:worker_{index}")).spawn(body)?);
        }
        Ok((Workers { commands, threads }, received))
    }

    pub(super) fn send(&self, worker: usize, command: Command) {
        if let Some(commands) = self.commands.get(worker) {
            // A worker that is gone has said why, and that ends the process.
            let _ = commands.send(command);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.commands.len()
    }

    /// Ends all workers and waits for them; connections that are still open are cut.
    pub fn exit(self) {
        for commands in &self.commands {
            let _ = commands.send(Command::Exit);
        }
        for thread in self.threads {
            // A panic has been reported as an event.
            let _ = thread.join();
        }
    }
}

impl Neighbours for Links {
    fn hand_over(&self, worker: usize, id: ListenerId, connection: Handed) {
        if let Some(commands) = self.commands.get(worker) {
            let _ = commands.send(Command::Take(id, Box::new(connection)));
        }
    }

    fn fatal(&self, why: String) {
        let _ = self.events.send(Event::Fatal(why));
    }
}

fn run_thread(
    index: usize,
    commands: UnboundedReceiver<Command>,
    links: Links,
    removals: UnboundedReceiver<ClusterEvent>,
    stats: &Stats,
) {
    INDEX.set(Some(index));
    stats::set_shard(index + 1);
    let events = links.events.clone();
    let body = AssertUnwindSafe(|| -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = LocalSet::new();
        local.spawn_local(pool::follow(removals));
        local.block_on(&runtime, serve(index, commands, links, stats));
        Ok(())
    });
    let event = match std::panic::catch_unwind(body) {
        Ok(Ok(())) => Event::Exited(index),
        Ok(Err(error)) => Event::Fatal(format!("worker {index}: {error}")),
        Err(panic) => Event::Fatal(format!("worker {index}: panic: {}", panic_text(&*panic))),
    };
    let _ = events.send(event);
}

async fn serve(index: usize, mut commands: UnboundedReceiver<Command>, links: Links, stats: &Stats) {
    let events = links.events.clone();
    let listeners = WorkerListeners::new(index, Box::new(links), stats.block("server"));
    while let Some(command) = commands.recv().await {
        match command {
            Command::Add { id, listener, sockets, table } => {
                let name = listener.name.clone();
                if let Err(error) = listeners.add(id, listener, sockets, &table) {
                    let _ = events.send(Event::Fatal(format!("listener {name}: cannot accept: {error}")));
                }
            }
            Command::Update(id, listener) => listeners.update(id, listener),
            Command::Stop(id) => listeners.stop(id),
            Command::Stopped(done) => {
                let stopped = listeners.stopped();
                spawn_local(async {
                    stopped.await;
                    // Nobody waits any more: nothing is lost.
                    let _ = done.send(());
                });
            }
            Command::Remove(id) => listeners.remove(id),
            Command::Beat(heartbeat, start, interval) => {
                spawn_local(heartbeat.beat(start, interval));
            }
            Command::Take(id, handed) => listeners.take(id, *handed),
            Command::Exit => return,
        }
    }
}
