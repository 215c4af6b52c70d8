//! Where lines go: files and standard streams, written by one thread of their own.
//!
//! A worker appends lines to a buffer of its own and hands it over when it is full or the flush interval has passed; no
//! lock is taken for a line. The writer thread owns the files. When it cannot keep up, whole buffers are dropped and
//! counted: traffic comes first, as in Envoy.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::stats::StatBlock;
use crate::stats::names::FilesystemStats;

/// A buffer of this size is handed over at once.
const FLUSH_SIZE: usize = 64 * 1024;
/// Buffers that may wait for the writer, from all workers.
const QUEUE: usize = 256;

/// Where a log is written to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    File(PathBuf),
    Stdout,
    Stderr,
}

/// An open target, shared by the logs that write to it.
pub struct Sink {
    target: Target,
    file: Mutex<Option<File>>,
    flush_interval: Duration,
    stats: StatBlock<FilesystemStats>,
}

enum Job {
    Write(Arc<Sink>, Vec<u8>),
    Done(SyncSender<()>),
}

static SINKS: Mutex<Vec<Weak<Sink>>> = Mutex::new(Vec::new());
static WRITER: OnceLock<SyncSender<Job>> = OnceLock::new();

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// What this thread has not handed over yet.
#[derive(Default)]
struct Buffers(HashMap<usize, Buffer>);

struct Buffer {
    sink: Arc<Sink>,
    bytes: Vec<u8>,
}

impl Drop for Buffers {
    /// A worker that ends leaves nothing behind.
    fn drop(&mut self) {
        self.0.drain().for_each(|(_, buffer)| hand_over(&buffer.sink, buffer.bytes));
    }
}

impl Sink {
    /// Opens a target, or finds it open.
    ///
    /// # Errors
    /// When a file cannot be opened for appending.
    pub fn open(target: Target, flush_interval: Duration, stats: StatBlock<FilesystemStats>) -> io::Result<Arc<Sink>> {
        let mut sinks = SINKS.lock();
        sinks.retain(|sink| sink.strong_count() > 0);
        if let Some(sink) = sinks.iter().filter_map(Weak::upgrade).find(|sink| sink.target == target) {
            return Ok(sink);
        }
        let file = target.open()?;
        let sink = Arc::new(Sink { target, file: Mutex::new(file), flush_interval, stats });
        sinks.push(Arc::downgrade(&sink));
        Ok(sink)
    }

    /// Appends what `write` makes to this thread's buffer.
    pub fn append(self: &Arc<Self>, write: impl FnOnce(&mut Vec<u8>)) {
        let key = Arc::as_ptr(self) as usize;
        let full = BUFFERS.with_borrow_mut(|buffers| {
            let buffer = buffers.0.entry(key).or_insert_with(|| {
                self.flush_regularly();
                Buffer { sink: self.clone(), bytes: Vec::new() }
            });
            write(&mut buffer.bytes);
            (buffer.bytes.len() >= FLUSH_SIZE).then(|| std::mem::take(&mut buffer.bytes))
        });
        if let Some(bytes) = full {
            hand_over(self, bytes);
        }
    }

    /// Starts this thread's timer for this sink. Without a local executor (tests of pure code) the buffer is handed over
    /// when it is full and at the end of the thread.
    fn flush_regularly(self: &Arc<Self>) {
        if tokio::runtime::Handle::try_current().is_err() || crate::server::worker::index().is_none() {
            return;
        }
        let (sink, key) = (Arc::downgrade(self), Arc::as_ptr(self) as usize);
        let every = self.flush_interval.max(Duration::from_millis(1));
        tokio::task::spawn_local(async move {
            let mut tick = tokio::time::interval(every);
            loop {
                tick.tick().await;
                let Some(sink) = sink.upgrade() else { return };
                let waiting = BUFFERS.with_borrow_mut(|buffers| {
                    buffers.0.get_mut(&key).map(|buffer| std::mem::take(&mut buffer.bytes)).unwrap_or_default()
                });
                if !waiting.is_empty() {
                    sink.stats.inc(FilesystemStats::FLUSHED_BY_TIMER);
                    hand_over(&sink, waiting);
                }
            }
        });
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match (&self.target, &mut *self.file.lock()) {
            (_, Some(file)) => file.write_all(bytes),
            (Target::Stdout, None) => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()
            }
            (Target::Stderr, None) => io::stderr().lock().write_all(bytes),
            (Target::File(_), None) => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Target {
    fn open(&self) -> io::Result<Option<File>> {
        match self {
            Target::File(path) => OpenOptions::new().create(true).append(true).open(path).map(Some),
            Target::Stdout | Target::Stderr => Ok(None),
        }
    }
}

fn hand_over(sink: &Arc<Sink>, bytes: Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    sink.stats.inc(FilesystemStats::WRITE_BUFFERED);
    let writer = WRITER.get_or_init(start_writer);
    if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = writer.try_send(Job::Write(sink.clone(), bytes))
    {
        sink.stats.inc(FilesystemStats::WRITE_FAILED);
    }
}

fn start_writer() -> SyncSender<Job> {
    let (jobs, queue) = sync_channel(QUEUE);
    // Without the thread the queue is closed, and every buffer counts as failed.
    let _ = std::thread::Builder::new().name("access_log".to_owned()).spawn(move || write_all(&queue));
    jobs
}

fn write_all(queue: &Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        match job {
            Job::Write(sink, bytes) => match sink.write(&bytes) {
                Ok(()) => sink.stats.inc(FilesystemStats::WRITE_COMPLETED),
                Err(error) => {
                    sink.stats.inc(FilesystemStats::WRITE_FAILED);
                    tracing::debug!("cannot write to {:?}: {error}", sink.target);
                }
            },
            Job::Done(done) => drop(done.send(())),
        }
    }
}

/// Opens the files anew, after they were moved away. One that cannot be opened stays as it is.
pub fn reopen() {
    for sink in SINKS.lock().iter().filter_map(Weak::upgrade) {
        match sink.target.open() {
            Ok(file) => *sink.file.lock() = file,
            Err(error) => {
                sink.stats.inc(FilesystemStats::REOPEN_FAILED);
                tracing::warn!("cannot reopen {:?}: {error}", sink.target);
            }
        }
    }
}

/// Writes out what was handed over so far; for the end of the process, when the workers are gone.
pub fn flush_all() {
    BUFFERS.with_borrow_mut(|buffers| {
        buffers.0.values_mut().for_each(|buffer| hand_over(&buffer.sink, std::mem::take(&mut buffer.bytes)));
    });
    let Some(writer) = WRITER.get() else { return };
    let (done, wait) = sync_channel(1);
    if writer.send(Job::Done(done)).is_ok() {
        let _ = wait.recv_timeout(Duration::from_secs(5));
    }
}
