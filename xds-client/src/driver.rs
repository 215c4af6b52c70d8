//! The driver: connects, moves messages between the transport, the session and the handler, and connects again.

use std::convert::Infallible;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::stream::poll_fn;
use http::HeaderMap;
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;

use crate::codec::Codec;
use crate::session::{Event, Request, Session};
use crate::subscriptions::Command;
use crate::{BackOff, Commands, Handler, Options, StreamEvent, Transport};

/// Runs one stream for ever: connects, subscribes, applies, acknowledges, and reconnects with back-off.
///
/// The future never completes; drop it to stop (it is cancel safe, and closes the stream). An absent server, a broken
/// stream or a malformed message are told to [`Handler::stream`] and tried again, never returned. So is a
/// [`crate::Service::Single`] of a type that has no method: every attempt fails.
pub async fn run<T: Transport, H: Handler>(
    options: Options,
    commands: Commands,
    transport: T,
    handler: H,
) -> Infallible {
    let mut rng = fastrand::Rng::new();
    let mut back_off = BackOff::new(options.back_off);
    let mut driver = Driver {
        session: Session::new(&options),
        handler,
        commands: commands.0,
        handles: true,
        requests: None,
        throttled: false,
    };
    driver.apply_commands();
    loop {
        let status = driver.stream(&options, &transport, &mut back_off).await;
        driver.requests = None;
        driver.session.disconnected();
        let retry_in = back_off.next(&mut rng);
        let reason = status.message().to_owned();
        driver.handler.stream(StreamEvent::Disconnected { code: status.code() as i32, reason, retry_in });
        driver.during(tokio::time::sleep(retry_in)).await;
    }
}

struct Driver<H> {
    session: Session,
    handler: H,
    commands: mpsc::UnboundedReceiver<Command>,
    /// Somebody can still send commands.
    handles: bool,
    /// The request side of the open stream.
    requests: Option<mpsc::UnboundedSender<Request>>,
    /// The handler was told of the rate limit.
    throttled: bool,
}

impl<H: Handler> Driver<H> {
    /// One stream from connecting to its end, and why it ended.
    async fn stream<T: Transport>(&mut self, options: &Options, transport: &T, back_off: &mut BackOff) -> Status {
        let (path, metadata) = match call(options, transport) {
            Ok(call) => call,
            Err(status) => return status,
        };
        let service = match self.during(transport.connect()).await {
            Ok(service) => service,
            Err(error) => return Status::unavailable(error.to_string()),
        };
        let mut grpc = Grpc::with_origin(service, options.origin.clone()).max_decoding_message_size(usize::MAX);
        if let Err(error) = self.during(grpc.ready()).await {
            return Status::unavailable(error.into().to_string());
        }
        let (requests, mut queue) = mpsc::unbounded_channel();
        let mut request = tonic::Request::new(poll_fn(move |cx| queue.poll_recv(cx)));
        *request.metadata_mut() = metadata;
        self.requests = Some(requests);
        self.session.connected(Instant::now());
        self.handler.stream(StreamEvent::Connected);
        self.apply_commands();
        // Some servers send no headers before they have something to say: the first requests leave while we wait.
        let mut responses = match self.during(grpc.streaming(request, path, Codec(options.variant))).await {
            Ok(response) => response.into_inner(),
            Err(status) => return status,
        };
        loop {
            match self.during(responses.message()).await {
                Ok(Some(response)) => {
                    back_off.reset();
                    let events = self.session.received(response, Instant::now());
                    self.tell(events);
                }
                Ok(None) => return Status::ok("the server ended the stream"),
                Err(status) => return status,
            }
        }
    }

    /// Waits for a future while commands, timers and requests go on. Cancel safe as far as the future is.
    async fn during<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            self.send_requests();
            let deadline = self.session.deadline();
            let wait = deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            tokio::select! {
                biased;
                command = self.commands.recv(), if self.handles => {
                    match command {
                        Some(command) => self.apply(command),
                        None => self.handles = false,
                    }
                    self.apply_commands();
                }
                output = &mut future => return output,
                () = tokio::time::sleep(wait), if deadline.is_some() => {
                    let events = self.session.expired(Instant::now());
                    self.tell(events);
                }
            }
        }
    }

    /// Hands events to the handler. What it asks for meanwhile is in the session before its verdict is.
    fn tell(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Update(update) => {
                    let answer = !update.expired;
                    let rejected = self.handler.update(update);
                    self.apply_commands();
                    if answer {
                        self.session.verdict(rejected, Instant::now());
                    }
                }
                Event::Missing(type_url, name, why) => self.handler.missing(&type_url, &name, why),
                Event::FetchTimedOut(type_url, names) => self.handler.fetch_timed_out(&type_url, names),
                Event::Stream(event) => self.handler.stream(event),
            }
            self.apply_commands();
        }
    }

    fn apply_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.apply(command);
        }
    }

    fn apply(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Subscribe { type_url, name, initial_fetch_timeout } => {
                self.session.subscribe(&type_url, &name, initial_fetch_timeout, now);
            }
            Command::Unsubscribe { type_url, name } => self.session.unsubscribe(&type_url, &name),
            Command::Refresh(type_url) => self.session.refresh(&type_url),
            Command::Pause(type_url) => self.session.pause(&type_url),
            Command::Resume(type_url) => self.session.resume(&type_url),
        }
    }

    fn send_requests(&mut self) {
        let Some(requests) = &self.requests else { return };
        while let Some(request) = self.session.poll_request(Instant::now()) {
            // If the stream is gone its response side tells.
            let _ = requests.send(request);
        }
        let waiting = self.session.throttled();
        if let Some(waiting) = waiting.filter(|_| !self.throttled) {
            self.handler.stream(StreamEvent::RateLimited { waiting });
        }
        self.throttled = waiting.is_some();
    }
}

fn call<T: Transport>(options: &Options, transport: &T) -> Result<(PathAndQuery, MetadataMap), Status> {
    let path = options.method().ok_or_else(|| Status::unimplemented("there is no discovery service for this type"))?;
    let path = PathAndQuery::try_from(path).map_err(|error| Status::internal(error.to_string()))?;
    let mut headers: HeaderMap = options.initial_metadata.clone();
    headers.extend(transport.metadata().map_err(|error| Status::unauthenticated(error.to_string()))?);
    Ok((path, MetadataMap::from_headers(headers)))
}
