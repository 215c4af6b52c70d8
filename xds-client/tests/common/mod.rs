//! What the integration tests share: a server, a client, and a handler that tells what it hears.
#![allow(dead_code, reason = "each test takes what it needs")]

pub mod script;

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};
use xds_client::server::{Store, serve_tcp};
use xds_client::session::Event;
use xds_client::transport::http2::{Connector, Http2Options};
use xds_client::{
    BackOffOptions, Handler, Missing, Options, Rejected, StreamEvent, Subscriptions, Transport, TypeUrl, Update,
    Variant,
};
use xds_protos::envoy::config::core::v3::Node;

/// Longer than anything takes; a test that hangs fails by it.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const BOTH: [Variant; 2] = [Variant::Delta, Variant::Sotw];

/// Runs a test on one thread, with local tasks and an end.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { tokio::time::timeout(PATIENCE, test).await.expect("in time") });
}

pub fn options(variant: Variant) -> Options {
    let mut options = Options::new(Node { id: "test".into(), ..Node::default() }, variant);
    options.back_off = BackOffOptions { base: Duration::from_millis(5), max: Duration::from_millis(20) };
    options
}

/// Sends all it hears to the test; rejects what `reject` says.
pub struct Teller<F> {
    pub heard: mpsc::UnboundedSender<Event>,
    pub reject: F,
}

impl<F: FnMut(&Update) -> Vec<Rejected>> Handler for Teller<F> {
    fn update(&mut self, update: Update) -> Vec<Rejected> {
        let rejected = (self.reject)(&update);
        let _ = self.heard.send(Event::Update(update));
        rejected
    }
    fn missing(&mut self, type_url: &TypeUrl, name: &str, why: Missing) {
        let _ = self.heard.send(Event::Missing(type_url.clone(), name.to_owned(), why));
    }
    fn fetch_timed_out(&mut self, type_url: &TypeUrl, names: Vec<String>) {
        let _ = self.heard.send(Event::FetchTimedOut(type_url.clone(), names));
    }
    fn stream(&mut self, event: StreamEvent) {
        let _ = self.heard.send(Event::Stream(event));
    }
}

/// A client on a task of its own.
pub struct Client {
    pub subscriptions: Subscriptions,
    pub heard: mpsc::UnboundedReceiver<Event>,
    _task: Task,
}

pub struct Task(pub JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    pub fn start(options: Options, port: u16, reject: impl FnMut(&Update) -> Vec<Rejected> + 'static) -> Self {
        Self::start_over(options, connector(port), reject)
    }

    pub fn start_over(
        options: Options,
        transport: impl Transport + 'static,
        reject: impl FnMut(&Update) -> Vec<Rejected> + 'static,
    ) -> Self {
        let (subscriptions, commands) = Subscriptions::new();
        let (sender, heard) = mpsc::unbounded_channel();
        let handler = Teller { heard: sender, reject };
        let task = tokio::task::spawn_local(async move {
            xds_client::run(options, commands, transport, handler).await;
        });
        Self { subscriptions, heard, _task: Task(task) }
    }

    /// The next update; other events before it are passed over.
    pub async fn update(&mut self) -> Update {
        loop {
            if let Event::Update(update) = self.heard.recv().await.expect("the client runs") {
                return update;
            }
        }
    }

    /// Waits for an event of the stream.
    pub async fn stream_event(&mut self, wanted: impl Fn(&StreamEvent) -> bool) -> StreamEvent {
        loop {
            if let Event::Stream(event) = self.heard.recv().await.expect("the client runs")
                && wanted(&event)
            {
                return event;
            }
        }
    }
}

pub fn connector(port: u16) -> impl Transport {
    Connector::new(Http2Options::default(), move || TcpStream::connect(("127.0.0.1", port)))
}

/// A store behind a port, which can be taken away and given back.
pub struct Server {
    pub store: Store,
    pub port: u16,
    task: Option<JoinHandle<()>>,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut server = Self { store: Store::new(), port, task: None };
        server.serve(listener);
        server
    }

    fn serve(&mut self, listener: TcpListener) {
        let store = self.store.clone();
        self.task = Some(tokio::task::spawn_local(async move {
            serve_tcp(listener, store).await.unwrap();
        }));
    }

    pub async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    pub async fn start_again(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.serve(listener);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
