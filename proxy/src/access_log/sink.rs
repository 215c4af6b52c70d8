//! Where lines go: files and standard streams, each written by a thread of its own.
//!
//! A worker appends lines to a buffer of its own and hands it over when it is full or the flush interval has passed; no
//! lock is taken for a line. The sink's thread owns the file, so that a pipe nobody reads holds up its own log and nothing
//! else: neither other logs nor a worker, the control thread or the end of the process. When it cannot keep up, whole
//! buffers are dropped and their lines counted: traffic comes first.
//!
//! A sink lives as long as a log writes to it or a worker has lines for it; then its thread writes what is left and ends.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::stats::names::FilesystemStats;
use crate::stats::{StatBlock, Stats};

/// A buffer of this size is handed over at once.
const FLUSH_SIZE: usize = 64 * 1024;
/// Buffers that may wait for one thread, from all workers: 4 MiB and what the last lines of each exceed.
const MAX_WAITING: usize = 64;
/// How long the end of the process waits for files that take no more.
const LAST_FLUSH: Duration = Duration::from_secs(5);

crate::stat_block! {
    /// Scope `access_logs`. Envoy, whose buffers have no bound, has no such counter.
    pub struct AccessLogStats {
        lazy_counter LINES_DROPPED,
    }
}

/// Where a log is written to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    File(PathBuf),
    Stdout,
    Stderr,
}

/// An open target, shared by the logs that write to it.
pub struct Sink {
    id: u64,
    target: Target,
    flush_interval: Duration,
    queue: Arc<Queue>,
}

/// What the workers and the sink's thread share.
struct Queue {
    state: Mutex<State>,
    /// There is something to do.
    work: Condvar,
    /// Everything is written.
    idle: Condvar,
    files: StatBlock<FilesystemStats>,
    logs: StatBlock<AccessLogStats>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    is_writing: bool,
    reopen: bool,
    /// No log writes to this sink any more.
    closed: bool,
}

static SINKS: Mutex<Vec<Weak<Sink>>> = Mutex::new(Vec::new());

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// What this thread has not handed over yet. A process has a handful of logs, so that a list is the fastest index.
#[derive(Default)]
struct Buffers(Vec<Buffer>);

struct Buffer {
    sink_id: u64,
    bytes: Vec<u8>,
    lines: u64,
    /// Keeps the sink while there are bytes for it.
    sink: Option<Arc<Sink>>,
}

impl Drop for Buffers {
    /// A worker that ends leaves nothing behind.
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Buffer::hand_over);
    }
}

impl Buffer {
    fn hand_over(&mut self) {
        let Some(sink) = self.sink.take() else { return };
        // The next buffer will most likely get as full as this one.
        let next = if self.bytes.len() >= FLUSH_SIZE { Vec::with_capacity(self.bytes.capacity()) } else { Vec::new() };
        sink.queue.push(std::mem::replace(&mut self.bytes, next), std::mem::take(&mut self.lines));
    }
}

impl Sink {
    /// Opens a target, or finds it open.
    ///
    /// # Errors
    /// When a file cannot be opened for appending, or there can be no more threads.
    pub fn open(target: Target, flush_interval: Duration, stats: &Stats) -> io::Result<Arc<Sink>> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let mut sinks = SINKS.lock();
        sinks.retain(|sink| sink.strong_count() > 0);
        if let Some(sink) = sinks.iter().filter_map(Weak::upgrade).find(|sink| sink.target == target) {
            return Ok(sink);
        }
        let output = target.open()?;
        let queue = Arc::new(Queue::new(stats));
        let writer = Writer { queue: queue.clone(), target: target.clone(), output };
        std::thread::Builder::new().name("access_log".to_owned()).spawn(move || writer.run())?;
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let sink = Arc::new(Sink { id, target, flush_interval, queue });
        sinks.push(Arc::downgrade(&sink));
        Ok(sink)
    }

    /// Appends the line that `write` makes to this thread's buffer.
    pub fn append(self: &Arc<Self>, write: impl FnOnce(&mut Vec<u8>)) {
        BUFFERS.with_borrow_mut(|buffers| {
            let at = buffers.0.iter().position(|buffer| buffer.sink_id == self.id).unwrap_or_else(|| {
                self.flush_regularly();
                buffers.0.push(Buffer { sink_id: self.id, bytes: Vec::new(), lines: 0, sink: None });
                buffers.0.len() - 1
            });
            let Some(buffer) = buffers.0.get_mut(at) else { return };
            let before = buffer.bytes.len();
            write(&mut buffer.bytes);
            buffer.lines += 1;
            self.queue.files.inc(FilesystemStats::WRITE_BUFFERED);
            self.queue.files.gauge_add(FilesystemStats::WRITE_TOTAL_BUFFERED, (buffer.bytes.len() - before) as u64);
            if buffer.sink.is_none() {
                buffer.sink = Some(self.clone());
            }
            if buffer.bytes.len() >= FLUSH_SIZE {
                buffer.hand_over();
            }
        });
    }

    /// Starts this thread's timer for this sink; it ends with the sink. Outside of a worker (tests of pure code) the buffer
    /// is handed over when it is full and at the end of the thread.
    fn flush_regularly(self: &Arc<Self>) {
        if tokio::runtime::Handle::try_current().is_err() || crate::server::worker::index().is_none() {
            return;
        }
        let (sink, id) = (Arc::downgrade(self), self.id);
        let every = self.flush_interval.max(Duration::from_millis(1));
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(every).await;
                BUFFERS.with_borrow_mut(|buffers| {
                    let buffer = buffers.0.iter_mut().find(|buffer| buffer.sink_id == id && buffer.sink.is_some());
                    if let Some(buffer) = buffer {
                        buffer.sink.iter().for_each(|s| s.queue.files.inc(FilesystemStats::FLUSHED_BY_TIMER));
                        buffer.hand_over();
                    }
                });
                if sink.strong_count() == 0 {
                    BUFFERS.with_borrow_mut(|buffers| buffers.0.retain(|buffer| buffer.sink_id != id));
                    return;
                }
            }
        });
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.queue.state.lock().closed = true;
        self.queue.work.notify_one();
    }
}

impl Queue {
    fn new(stats: &Stats) -> Queue {
        Queue {
            state: Mutex::default(),
            work: Condvar::new(),
            idle: Condvar::new(),
            files: stats.block("filesystem"),
            logs: stats.block("access_logs"),
        }
    }

    /// Takes a buffer, or drops it when too many wait.
    fn push(&self, bytes: Vec<u8>, lines: u64) {
        let len = bytes.len() as u64;
        let mut state = self.state.lock();
        if state.waiting.len() < MAX_WAITING {
            state.waiting.push_back(bytes);
            drop(state);
            self.work.notify_one();
            return;
        }
        drop(state);
        self.logs.add(AccessLogStats::LINES_DROPPED, lines);
        self.files.gauge_sub(FilesystemStats::WRITE_TOTAL_BUFFERED, len);
    }

    /// Waits until everything that was handed over is written. False when `deadline` came first.
    fn wait_until_idle(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        while state.is_writing || !state.waiting.is_empty() || state.reopen {
            if self.idle.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
        true
    }
}

enum Output {
    File(File),
    Stdout,
    Stderr,
}

impl Target {
    fn open(&self) -> io::Result<Output> {
        match self {
            Target::File(path) => OpenOptions::new().create(true).append(true).open(path).map(Output::File),
            Target::Stdout => Ok(Output::Stdout),
            Target::Stderr => Ok(Output::Stderr),
        }
    }
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Output::File(file) => file.write_all(bytes),
            Output::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()
            }
            Output::Stderr => io::stderr().lock().write_all(bytes),
        }
    }
}

/// The thread of a sink.
struct Writer {
    queue: Arc<Queue>,
    target: Target,
    output: Output,
}

impl Writer {
    fn run(mut self) {
        loop {
            let mut state = self.queue.state.lock();
            while state.waiting.is_empty() && !state.reopen && !state.closed {
                self.queue.work.wait(&mut state);
            }
            if state.waiting.is_empty() && state.closed {
                return;
            }
            let (reopen, next) = (std::mem::take(&mut state.reopen), state.waiting.pop_front());
            state.is_writing = true;
            drop(state);

            if reopen {
                self.reopen();
            }
            if let Some(bytes) = next {
                self.write(&bytes);
            }
            let mut state = self.queue.state.lock();
            state.is_writing = false;
            if state.waiting.is_empty() && !state.reopen {
                self.queue.idle.notify_all();
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let files = &self.queue.files;
        match self.output.write(bytes) {
            Ok(()) => files.inc(FilesystemStats::WRITE_COMPLETED),
            Err(error) => {
                files.inc(FilesystemStats::WRITE_FAILED);
                tracing::debug!("cannot write to {:?}: {error}", self.target);
            }
        }
        files.gauge_sub(FilesystemStats::WRITE_TOTAL_BUFFERED, bytes.len() as u64);
    }

    fn reopen(&mut self) {
        match self.target.open() {
            Ok(output) => self.output = output,
            Err(error) => {
                self.queue.files.inc(FilesystemStats::REOPEN_FAILED);
                tracing::warn!("cannot reopen {:?}: {error}", self.target);
            }
        }
    }
}

fn open_sinks() -> Vec<Arc<Sink>> {
    SINKS.lock().iter().filter_map(Weak::upgrade).collect()
}

/// Has the files opened anew, after they were moved away: what is written from now on goes to the new ones. One that cannot
/// be opened stays as it is. Does not wait.
pub fn reopen() {
    for sink in open_sinks() {
        sink.queue.state.lock().reopen = true;
        sink.queue.work.notify_one();
    }
}

/// Waits until what was handed over so far is written, at most five seconds; for the end of the process, when the workers
/// are gone.
pub fn flush_all() {
    BUFFERS.with_borrow_mut(|buffers| buffers.0.iter_mut().for_each(Buffer::hand_over));
    let deadline = Instant::now() + LAST_FLUSH;
    for sink in open_sinks() {
        if !sink.queue.wait_until_idle(deadline) {
            tracing::warn!("{:?} takes no more: its last access-log lines are lost", sink.target);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn stats() -> Stats {
        Stats::new(1)
    }

    fn open(path: &std::path::Path, stats: &Stats) -> Arc<Sink> {
        Sink::open(Target::File(path.into()), Duration::from_secs(10), stats).unwrap()
    }

    fn idle(sink: &Sink) -> bool {
        sink.queue.wait_until_idle(Instant::now() + Duration::from_secs(30))
    }

    fn hand_over() {
        BUFFERS.with_borrow_mut(|buffers| buffers.0.iter_mut().for_each(Buffer::hand_over));
    }

    #[test]
    fn lines_and_bytes_are_counted_as_envoy_does() {
        let folder = tempfile::tempdir().unwrap();
        let (path, stats) = (folder.path().join("log"), stats());
        let sink = open(&path, &stats);
        for _ in 0..3 {
            sink.append(|line| line.extend_from_slice(b"line\n"));
        }
        let files = stats.block::<FilesystemStats>("filesystem");
        assert_eq!(files.read(FilesystemStats::WRITE_BUFFERED), 3);
        assert_eq!(files.read_gauge(FilesystemStats::WRITE_TOTAL_BUFFERED), 15);
        assert_eq!(std::fs::read(&path).unwrap(), b"", "nothing is written before it is time");
        hand_over();
        assert!(idle(&sink));
        assert_eq!(files.read(FilesystemStats::WRITE_COMPLETED), 1);
        assert_eq!(files.read_gauge(FilesystemStats::WRITE_TOTAL_BUFFERED), 0);
        assert_eq!(std::fs::read(&path).unwrap(), b"line\nline\nline\n");
    }

    #[test]
    fn a_full_buffer_is_written_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (path, stats) = (folder.path().join("log"), stats());
        let sink = open(&path, &stats);
        sink.append(|line| line.extend_from_slice(&[b'x'; FLUSH_SIZE]));
        assert!(idle(&sink));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), FLUSH_SIZE as u64);
    }

    #[test]
    fn a_thread_that_ends_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (path, stats) = (folder.path().join("log"), stats());
        let sink = open(&path, &stats);
        let of_thread = sink.clone();
        std::thread::spawn(move || of_thread.append(|line| line.extend_from_slice(b"last\n"))).join().unwrap();
        assert!(idle(&sink));
        assert_eq!(std::fs::read(&path).unwrap(), b"last\n");
    }

    #[test]
    fn a_sink_is_dropped_when_nobody_has_lines_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let sink = open(&folder.path().join("log"), &stats());
        let (weak, queue) = (Arc::downgrade(&sink), sink.queue.clone());
        sink.append(|line| line.extend_from_slice(b"x\n"));
        drop(sink);
        assert_eq!(weak.strong_count(), 1, "the buffer keeps it");
        hand_over();
        assert_eq!(weak.strong_count(), 0);
        assert!(queue.state.lock().closed);
        assert!(queue.wait_until_idle(Instant::now() + Duration::from_secs(30)), "what was left is written");
    }

    /// A queue whose writer cannot go on: its output is a socket that nobody reads.
    #[test]
    fn who_does_not_read_loses_lines_and_holds_up_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let stats = stats();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let queue = Arc::new(Queue::new(&stats));
        let output = Output::File(File::from(std::os::fd::OwnedFd::from(ours)));
        let target = Target::File(folder.path().join("socket"));
        let writer = Writer { queue: queue.clone(), target: target.clone(), output };
        let thread = std::thread::spawn(move || writer.run());
        let stuck = Sink { id: u64::MAX, target, flush_interval: LAST_FLUSH, queue };

        let block = vec![b'x'; 4 * FLUSH_SIZE];
        let logs = stats.block::<AccessLogStats>("access_logs");
        let mut pushed = 0;
        while logs.read(AccessLogStats::LINES_DROPPED) == 0 {
            stuck.queue.push(block.clone(), 7);
            pushed += 1;
            assert!(pushed < 1000, "the queue has a bound");
        }
        assert_eq!(logs.read(AccessLogStats::LINES_DROPPED), 7);
        assert!(!stuck.queue.wait_until_idle(Instant::now() + Duration::from_millis(20)), "the wait has an end");
        // Asking for new files waits for nothing either, and another log goes on.
        stuck.queue.state.lock().reopen = true;
        let other = open(&folder.path().join("log"), &stats);
        other.append(|line| line.extend_from_slice(b"x\n"));
        hand_over();
        assert!(idle(&other));

        drop(theirs);
        drop(stuck);
        thread.join().unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_opened_again_stays() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let stats = stats();
        let sink = open(&inner.join("log"), &stats);
        let moved = folder.path().join("moved");
        std::fs::rename(&inner, &moved).unwrap();
        // Of this sink only, as tests that run beside this one have theirs.
        sink.queue.state.lock().reopen = true;
        sink.queue.work.notify_one();
        assert!(idle(&sink));
        assert_eq!(stats.block::<FilesystemStats>("filesystem").read(FilesystemStats::REOPEN_FAILED), 1);
        sink.append(|line| line.extend_from_slice(b"still\n"));
        hand_over();
        assert!(idle(&sink));
        assert_eq!(std::fs::read(moved.join("log")).unwrap(), b"still\n");
    }
}
