//! Resources from a file: `envoy.config.core.v3.PathConfigSource`.
//!
//! The file holds a `DiscoveryResponse`. It is read at the start, and whenever a [`Watcher`] sees it replaced by a move;
//! a file that is edited in place is not looked at, as it may be half written. As in Envoy the extension tells the
//! format: `.pb` is binary, `.yaml` and `.yml` are YAML, everything else is JSON (`.pb_text` is refused), and
//! `initial_fetch_timeout` means nothing for files.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use prost::Message as _;
use tokio::sync::mpsc;
use xds_protos::envoy::service::discovery::v3::DiscoveryResponse;
use xds_protos::{encode, text};

use crate::session::{Event, Response, Session};
use crate::subscriptions::Command;
use crate::watch::{Watch, Watcher};
use crate::{Commands, Handler, Options, StreamEvent, TypeUrl, Variant};

/// How long until a directory that cannot be watched is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A source of one type in a file. See the [module's rules](crate::FileSource#rules).
///
/// # Rules
/// - Every reading is a whole response: for listeners and clusters what it does not hold is gone.
/// - A file that cannot be read or understood changes nothing: [`StreamEvent::Disconnected`] says why, and the next
///   move is the next chance. A response that contradicts itself is [`StreamEvent::Refused`].
/// - A verdict is logged: there is nobody to send it to.
///
/// ```no_run
/// use xds_client::{FileSource, Handler, Subscriptions, TypeUrl};
/// # async fn example(handler: impl Handler) {
/// let (subscriptions, commands) = Subscriptions::new();
/// subscriptions.wildcard(TypeUrl::CLUSTER, std::time::Duration::ZERO);
/// let source = FileSource::new(TypeUrl::CLUSTER, "/etc/config/cds.yaml").watched_directory("/etc/config");
/// source.run(commands, handler).await;
/// # }
/// ```
pub struct FileSource {
    type_url: TypeUrl,
    path: PathBuf,
    watched_directory: Option<PathBuf>,
    watcher: Option<Watcher>,
}

impl FileSource {
    /// `path_config_source.path`.
    pub fn new(type_url: TypeUrl, path: impl Into<PathBuf>) -> Self {
        Self { type_url, path: path.into(), watched_directory: None, watcher: None }
    }

    /// `path_config_source.watched_directory`: read again when something is moved in this directory, instead of over the
    /// file itself. Kubernetes swaps a symbolic link there.
    pub fn watched_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.watched_directory = Some(directory.into());
        self
    }

    /// Waits with a watcher that somebody else [runs](Watcher::run). Without, the source makes its own, of which a user
    /// may have few.
    pub fn watcher(mut self, watcher: Watcher) -> Self {
        self.watcher = Some(watcher);
        self
    }

    /// Reads the file once. The type URL is this source's, whatever the file says.
    ///
    /// # Errors
    /// With the place in the file, as far as the format knows places.
    pub fn read(&self) -> Result<DiscoveryResponse, String> {
        let shown = self.path.display();
        let bytes = std::fs::read(&self.path).map_err(|error| format!("cannot read {shown}: {error}"))?;
        let wire = match self.path.extension().and_then(|it| it.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("pb") => bytes,
            Some("pb_text") => return Err(format!("{shown}: the text format of protobuf is not supported")),
            Some("yaml" | "yml") => to_wire(&bytes, text::Format::Yaml, &self.path)?,
            _ => to_wire(&bytes, text::Format::Json, &self.path)?,
        };
        let response = DiscoveryResponse::decode(&*wire).map_err(|error| format!("{shown}: {error}"))?;
        Ok(DiscoveryResponse { type_url: self.type_url.as_str().to_owned(), ..response })
    }

    /// Reads, applies, and watches for ever; drop the future to stop. A name that is asked for later has the file read
    /// again. Files are read on the calling thread.
    pub async fn run<H: Handler>(self, commands: Commands, handler: H) -> Infallible {
        let session = Session::new(&Options::new(Default::default(), Variant::Sotw));
        let mut reader = Reader { source: self, session, commands: commands.0, handles: true, handler };
        loop {
            let failed = reader.follow().await;
            let reason = format!("cannot watch {}: {failed}", reader.source.path.display());
            reader.handler.stream(StreamEvent::Disconnected { code: 14, reason, retry_in: RETRY });
            tokio::time::sleep(RETRY).await;
        }
    }

    fn watch(&self, watcher: &Watcher) -> std::io::Result<Watch> {
        match &self.watched_directory {
            Some(directory) => watcher.directory(directory),
            None => watcher.file(&self.path),
        }
    }
}

fn to_wire(bytes: &[u8], format: text::Format, path: &Path) -> Result<Vec<u8>, String> {
    let file = path.display().to_string();
    let text = std::str::from_utf8(bytes).map_err(|error| format!("{file}: not UTF-8: {error}"))?;
    let tree = text::parse(text, format).map_err(|problem| problem.in_file(&file).to_string())?;
    let name = "envoy.service.discovery.v3.DiscoveryResponse";
    let encoded = encode::to_wire(tree.root(), name, &encode::Options::default());
    let (wire, _) = encoded.map_err(|mut problems| problems.remove(0).in_file(&file).to_string())?;
    Ok(wire)
}

struct Reader<H> {
    source: FileSource,
    /// A stream that never leaves the process: it filters by name, finds duplicates and keeps times to live.
    session: Session,
    commands: mpsc::UnboundedReceiver<Command>,
    handles: bool,
    handler: H,
}

impl<H: Handler> Reader<H> {
    /// Watches and reads until watching fails.
    async fn follow(&mut self) -> std::io::Error {
        let (watcher, own) = match &self.source.watcher {
            Some(watcher) => (watcher.clone(), false),
            None => match Watcher::new() {
                Ok(watcher) => (watcher, true),
                Err(error) => return error,
            },
        };
        let mut watch = match self.source.watch(&watcher) {
            Ok(watch) => watch,
            Err(error) => return error,
        };
        self.apply_commands();
        self.read();
        loop {
            let deadline = self.session.deadline();
            let wait = deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            tokio::select! {
                command = self.commands.recv(), if self.handles => {
                    let Some(command) = command else {
                        self.handles = false;
                        continue;
                    };
                    let mut asked = self.apply(command);
                    asked |= self.apply_commands();
                    if asked {
                        self.read();
                    }
                }
                () = watch.moved() => self.read(),
                () = tokio::time::sleep(wait), if deadline.is_some() => {
                    let events = self.session.expired(Instant::now());
                    self.tell(events);
                }
                Err(error) = watcher.run(), if own => return error,
            }
        }
    }

    fn read(&mut self) {
        match self.source.read() {
            Ok(response) => {
                let now = Instant::now();
                self.session.connected(now);
                while self.session.poll_request(now).is_some() {}
                let events = self.session.received(Response::Sotw(response), now);
                self.tell(events);
            }
            Err(reason) => {
                self.handler.stream(StreamEvent::Disconnected { code: 14, reason, retry_in: Duration::ZERO });
            }
        }
    }

    fn tell(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Update(update) => {
                    let answer = !update.expired;
                    let rejected = self.handler.update(update);
                    for it in &rejected {
                        let file = self.source.path.display();
                        tracing::warn!("{file}: resource {:?} rejected: {}", it.name, it.reason);
                    }
                    if answer {
                        self.session.verdict(rejected, Instant::now());
                    }
                }
                Event::Missing(type_url, name, why) => self.handler.missing(&type_url, &name, why),
                Event::FetchTimedOut(type_url, names) => self.handler.fetch_timed_out(&type_url, names),
                // That nobody wants anything yet is no event of a file.
                Event::Stream(StreamEvent::Unasked(_)) => {}
                Event::Stream(event) => self.handler.stream(event),
            }
        }
    }

    /// True if something new is wanted.
    fn apply_commands(&mut self) -> bool {
        let mut asked = false;
        while let Ok(command) = self.commands.try_recv() {
            asked |= self.apply(command);
        }
        asked
    }

    fn apply(&mut self, command: Command) -> bool {
        match command {
            Command::Subscribe { type_url, name, .. } => {
                self.session.subscribe(&type_url, &name, Duration::ZERO, Instant::now());
                true
            }
            Command::Unsubscribe { type_url, name } => {
                self.session.unsubscribe(&type_url, &name);
                false
            }
            Command::Refresh(_) => true,
            // There are no requests to hold back.
            Command::Pause(_) | Command::Resume(_) => false,
        }
    }
}
