//! Asking for resources: [`Subscriptions`].

use std::time::Duration;

use tokio::sync::mpsc;

use crate::TypeUrl;

/// A handle by which resources are asked for, from any thread and from inside a [`crate::Handler`]. Cheap to clone.
///
/// Interest is a set: asking twice is asking once, and one `unsubscribe` ends it. Calls never block or fail; after the
/// driver is gone they do nothing.
///
/// ```
/// use std::time::Duration;
/// use xds_client::{Subscriptions, TypeUrl};
///
/// let (subscriptions, _commands) = Subscriptions::new();
/// subscriptions.wildcard(TypeUrl::CLUSTER, Duration::ZERO);
/// subscriptions.subscribe(TypeUrl::ENDPOINT, "reviews", Duration::from_secs(15));
/// subscriptions.unsubscribe(TypeUrl::ENDPOINT, "reviews");
/// ```
#[derive(Clone, Debug)]
pub struct Subscriptions(mpsc::UnboundedSender<Command>);

/// The driver's end of [`Subscriptions`].
#[derive(Debug)]
pub struct Commands(pub(crate) mpsc::UnboundedReceiver<Command>);

/// The name that stands for every resource of a type.
pub const WILDCARD: &str = "*";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Subscribe { type_url: TypeUrl, name: String, initial_fetch_timeout: Duration },
    Unsubscribe { type_url: TypeUrl, name: String },
    Refresh(TypeUrl),
    Pause(TypeUrl),
    Resume(TypeUrl),
}

impl Subscriptions {
    /// A handle, and the end that [`crate::run`] takes.
    pub fn new() -> (Self, Commands) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), Commands(receiver))
    }

    /// Asks for every resource of a type that the server has for this node. After `initial_fetch_timeout` (zero: never)
    /// without an answer the handler hears [`crate::Handler::fetch_timed_out`].
    pub fn wildcard(&self, type_url: TypeUrl, initial_fetch_timeout: Duration) {
        self.subscribe(type_url, WILDCARD, initial_fetch_timeout);
    }

    /// Asks for one resource by its name.
    pub fn subscribe(&self, type_url: TypeUrl, name: impl Into<String>, initial_fetch_timeout: Duration) {
        self.send(Command::Subscribe { type_url, name: name.into(), initial_fetch_timeout });
    }

    /// Wants this resource no more. `*` ends a wildcard subscription and leaves those by name.
    pub fn unsubscribe(&self, type_url: TypeUrl, name: impl Into<String>) {
        self.send(Command::Unsubscribe { type_url, name: name.into() });
    }

    /// In state of the world, has the names sent again, as Envoy does when it makes a cluster anew. Delta does nothing.
    pub fn refresh(&self, type_url: TypeUrl) {
        self.send(Command::Refresh(type_url));
    }

    /// Holds back what is to be sent of a type, its ACKs and NACKs included, until as many calls of [`Self::resume`].
    /// Envoy holds back CDS while clusters warm.
    pub fn pause(&self, type_url: TypeUrl) {
        self.send(Command::Pause(type_url));
    }

    /// See [`Self::pause`].
    pub fn resume(&self, type_url: TypeUrl) {
        self.send(Command::Resume(type_url));
    }

    fn send(&self, command: Command) {
        // A driver that was dropped wants nothing any more.
        let _ = self.0.send(command);
    }
}
