//! Files that are replaced while they are in use: what Envoy's `WatchedDirectory` and file-based `path_config_source` wait for.
//!
//! A [`Watcher`] holds one inotify instance, of which a user may have few (128 by default), for any number of [`Watch`]es. One task has
//! to drive it ([`Watcher::run`]).
//!
//! As in Envoy, only *moves* count, unless a [watched directory](Watcher::watched_directory) says `watch_modify`: a file or a symbolic link that was renamed into a directory, which is how Kubernetes swaps
//! `..data` and how a careful writer replaces a file. A file that is edited in place may be half written, and is not
//! looked at before the next move. Whoever was woken reads the file again; that it changed is not promised.
//!
//! Deliberately missing: `poll_interval`; following a directory that is itself removed and made anew.

use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// Tells watches of moves. Cheap to clone; all clones share one inotify instance.
#[derive(Clone)]
pub struct Watcher {
    shared: Arc<Shared>,
}

struct Shared {
    inotify: OwnedFd,
    watches: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    next: u64,
    /// By the descriptor of a directory, which is the same for all watches of one directory.
    directories: HashMap<i32, Vec<Registration>>,
}

struct Registration {
    id: u64,
    /// Only moves to this name count.
    name: Option<OsString>,
    /// Files that are edited in place count, too.
    modify: bool,
    moves: watch::Sender<u64>,
}

/// Waits for moves into one directory. Dropping it ends the watch.
pub struct Watch {
    shared: Arc<Shared>,
    directory: i32,
    id: u64,
    moves: watch::Receiver<u64>,
}

impl Watcher {
    /// A watcher without watches.
    ///
    /// # Errors
    /// When the user has too many inotify instances or descriptors.
    pub fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self { shared: Arc::new(Shared { inotify, watches: Mutex::default() }) })
    }

    /// Waits for anything that is moved into `directory`: `WatchedDirectory.path`, or the parent of a key file.
    ///
    /// # Errors
    /// When there is no such directory, it cannot be read, or there are too many watches.
    pub fn directory(&self, directory: &Path) -> io::Result<Watch> {
        self.watch(directory, None, false)
    }

    /// As [`Watcher::directory`]; with `modify`, whatever is written to a file in it counts, too.
    ///
    /// # Errors
    /// Those of [`Watcher::directory`].
    pub fn watched_directory(&self, directory: &Path, modify: bool) -> io::Result<Watch> {
        self.watch(directory, None, modify)
    }

    /// Waits for something that is moved to the name of `file`: `path_config_source.path`.
    ///
    /// # Errors
    /// Those of [`Watcher::directory`] for the file's directory, and when `file` names none.
    pub fn file(&self, file: &Path) -> io::Result<Watch> {
        let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        self.watch(parent(file), Some(name.to_owned()), false)
    }

    fn watch(&self, directory: &Path, name: Option<OsString>, modify: bool) -> io::Result<Watch> {
        // Under the lock, so that the end of another watch does not remove the descriptor between the two steps.
        let mut registry = self.shared.registry();
        let mut flags = WatchFlags::MOVED_TO | WatchFlags::ONLYDIR | WatchFlags::MASK_ADD;
        if modify {
            flags |= WatchFlags::MODIFY;
        }
        let descriptor = inotify::add_watch(&self.shared.inotify, directory, flags)?;
        let id = registry.next;
        registry.next += 1;
        let (moves, receiver) = watch::channel(0);
        registry.directories.entry(descriptor).or_default().push(Registration { id, name, modify, moves });
        drop(registry);
        Ok(Watch { shared: Arc::clone(&self.shared), directory: descriptor, id, moves: receiver })
    }

    /// Reads events and wakes watches, until an error. Needs a tokio runtime with I/O. Cancel safe; run it once.
    ///
    /// # Errors
    /// What epoll or reading the inotify instance gives; neither is expected.
    pub async fn run(&self) -> io::Result<Infallible> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for descriptors that may be swapped; this one is borrowed"
        )]
        let ready = AsyncFd::with_interest(self.shared.inotify.as_fd(), Interest::READABLE)?;
        loop {
            let mut guard = ready.readable().await?;
            self.shared.dispatch()?;
            guard.clear_ready();
        }
    }
}

/// The directory that a file lies in; the current one for a bare name.
pub fn parent(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that is to be read now.
    fn dispatch(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    self.registry().moved(event.wd(), name, event.events());
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Registry {
    fn moved(&self, directory: i32, name: Option<&OsStr>, events: ReadFlags) {
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.directories.values().flatten().for_each(Registration::wake); // whom it concerned is lost
        } else if events.contains(ReadFlags::MOVED_TO) {
            self.wake(directory, |watch| watch.name.is_none() || watch.name.as_deref() == name);
        } else if events.contains(ReadFlags::MODIFY) {
            self.wake(directory, |watch| watch.modify);
        }
    }

    fn wake(&self, directory: i32, concerns: impl Fn(&Registration) -> bool) {
        let watches = self.directories.get(&directory).into_iter().flatten();
        watches.filter(|watch| concerns(watch)).for_each(Registration::wake);
    }
}

impl Registration {
    fn wake(&self) {
        self.moves.send_modify(|moves| *moves += 1);
    }
}

impl Watch {
    /// Waits for the next move; those since the last call count as one. Cancel safe.
    pub async fn moved(&mut self) {
        if self.moves.changed().await.is_err() {
            std::future::pending().await // the registration is gone with the watcher: nothing will come
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut registry = self.shared.registry();
        let Some(watches) = registry.directories.get_mut(&self.directory) else { return };
        watches.retain(|watch| watch.id != self.id);
        if watches.is_empty() {
            registry.directories.remove(&self.directory);
            // Fails only if the directory is gone, and the watch with it.
            let _ = inotify::remove_watch(&self.shared.inotify, self.directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tempfile::TempDir;
    use tokio::time::timeout;

    use super::*;

    /// Whether the watch woke; nothing is waited for but what the watcher has to say.
    async fn woke(watcher: &Watcher, watch: &mut Watch) -> bool {
        watcher.shared.dispatch().unwrap();
        timeout(Duration::ZERO, watch.moved()).await.is_ok()
    }

    fn replace(directory: &TempDir, name: &str) {
        let new = directory.path().join("new");
        fs::write(&new, "").unwrap();
        fs::rename(new, directory.path().join(name)).unwrap();
    }

    #[tokio::test]
    async fn moves_wake_and_edits_do_not() {
        let (watcher, directory) = (Watcher::new().unwrap(), TempDir::new().unwrap());
        let file = directory.path().join("key.pem");
        let mut of_file = watcher.file(&file).unwrap();
        let mut of_directory = watcher.directory(directory.path()).unwrap();
        fs::write(&file, "in place").unwrap();
        assert!(!woke(&watcher, &mut of_file).await && !woke(&watcher, &mut of_directory).await);
        replace(&directory, "key.pem");
        assert!(woke(&watcher, &mut of_file).await && woke(&watcher, &mut of_directory).await);
        assert!(!woke(&watcher, &mut of_file).await, "once");
        replace(&directory, "other.pem");
        assert!(!woke(&watcher, &mut of_file).await && woke(&watcher, &mut of_directory).await);
        replace(&directory, "key.pem");
        replace(&directory, "key.pem");
        assert!(woke(&watcher, &mut of_file).await && !woke(&watcher, &mut of_file).await, "two are one");
    }

    #[tokio::test]
    async fn edits_wake_whoever_asks_for_them() {
        let (watcher, directory) = (Watcher::new().unwrap(), TempDir::new().unwrap());
        let mut moves = watcher.directory(directory.path()).unwrap();
        let mut both = watcher.watched_directory(directory.path(), true).unwrap();
        let mut late = watcher.file(&directory.path().join("key.pem")).unwrap();
        fs::write(directory.path().join("key.pem"), "in place").unwrap();
        assert!(woke(&watcher, &mut both).await);
        assert!(!woke(&watcher, &mut moves).await && !woke(&watcher, &mut late).await);
        replace(&directory, "key.pem");
        assert!(woke(&watcher, &mut both).await && woke(&watcher, &mut moves).await && woke(&watcher, &mut late).await);
    }

    #[tokio::test]
    async fn a_symbolic_link_that_is_swapped_wakes() {
        let (watcher, directory) = (Watcher::new().unwrap(), TempDir::new().unwrap());
        let at = |name: &str| directory.path().join(name);
        std::os::unix::fs::symlink("1", at("..data")).unwrap();
        let mut watch = watcher.directory(directory.path()).unwrap();
        std::os::unix::fs::symlink("2", at("..data_tmp")).unwrap();
        assert!(!woke(&watcher, &mut watch).await);
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(woke(&watcher, &mut watch).await);
    }

    #[tokio::test]
    async fn watches_of_one_directory_end_one_by_one() {
        let (watcher, directory) = (Watcher::new().unwrap(), TempDir::new().unwrap());
        let mut stays = watcher.directory(directory.path()).unwrap();
        drop(watcher.directory(directory.path()).unwrap());
        replace(&directory, "a");
        assert!(woke(&watcher, &mut stays).await);
        drop(stays);
        assert!(watcher.shared.registry().directories.is_empty());
        let mut anew = watcher.directory(directory.path()).unwrap();
        replace(&directory, "b");
        assert!(woke(&watcher, &mut anew).await);
    }

    #[tokio::test]
    async fn a_driven_watcher_wakes_by_itself() {
        let (watcher, directory) = (Watcher::new().unwrap(), TempDir::new().unwrap());
        let mut watch = watcher.directory(directory.path()).unwrap();
        replace(&directory, "a");
        tokio::select! {
            () = watch.moved() => {}
            result = watcher.run() => panic!("{result:?}"),
        }
    }

    #[test]
    fn what_cannot_be_watched_is_an_error() {
        let (watcher, directory) = (Watcher::new().unwrap(), TempDir::new().unwrap());
        assert!(watcher.directory(&directory.path().join("missing")).is_err());
        fs::write(directory.path().join("file"), "").unwrap();
        assert!(watcher.directory(&directory.path().join("file")).is_err(), "not a directory");
        assert!(watcher.file(Path::new("/")).is_err());
        assert_eq!(parent(Path::new("bare")), Path::new("."));
    }
}
