//! The side that uses the resources: [`Handler`].

use std::time::Duration;

use crate::{Rejected, TypeUrl, Update};

/// Receives what the management server says. Called on the driver's task, one call at a time; need not be `Send`.
///
/// Calls must not block. A handler may use its [`crate::Subscriptions`] inside any call: such requests leave together,
/// one a type, once the call returned and the acknowledgement is queued.
pub trait Handler {
    /// Applies an update and says what could not be used; an empty list is an ACK, any other a NACK that names each.
    ///
    /// What is not listed counts as in force: its version is what a reconnect reports to the server.
    fn update(&mut self, update: Update) -> Vec<Rejected>;

    /// The server will not send this resource. Not called for what an [`Update`] lists as removed.
    fn missing(&mut self, _type_url: &TypeUrl, _name: &str, _why: Missing) {}

    /// Nothing came for these names within their `initial_fetch_timeout`: stop waiting for them. They stay subscribed,
    /// and may still come. A wildcard subscription is told as the name `*`.
    fn fetch_timed_out(&mut self, _type_url: &TypeUrl, _names: Vec<String>) {}

    /// Something happened to the stream; for statistics and logs.
    fn stream(&mut self, _event: StreamEvent) {}
}

impl<H: Handler + ?Sized> Handler for &mut H {
    fn update(&mut self, update: Update) -> Vec<Rejected> {
        (**self).update(update)
    }
    fn missing(&mut self, type_url: &TypeUrl, name: &str, why: Missing) {
        (**self).missing(type_url, name, why);
    }
    fn fetch_timed_out(&mut self, type_url: &TypeUrl, names: Vec<String>) {
        (**self).fetch_timed_out(type_url, names);
    }
    fn stream(&mut self, event: StreamEvent) {
        (**self).stream(event);
    }
}

/// Why a resource will not come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// [`crate::Options::does_not_exist_timeout`] passed on a connected stream without a word about it.
    TimedOut,
    /// The server said so in `resource_errors`, with this code and message.
    Error {
        /// A gRPC status code.
        code: i32,
        /// The server's words.
        message: String,
    },
}

/// What happens to a stream between updates.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEvent {
    /// A stream is open; its first requests are on their way.
    Connected,
    /// The stream ended, or could not be opened; the driver tries again after `retry_in`.
    Disconnected {
        /// gRPC status code; 14 (unavailable) when there was no connection.
        code: i32,
        /// The server's or the transport's words.
        reason: String,
        /// The pause before the next attempt.
        retry_in: Duration,
    },
    /// The name that the management server gave itself (`control_plane.identifier`) is new or changed.
    Identifier(String),
    /// A response was refused without asking the handler, and a NACK says why.
    Refused {
        /// The response's type.
        type_url: TypeUrl,
        /// The response's version.
        version: String,
        /// What the NACK says.
        reason: String,
    },
    /// A response of a type that nobody subscribed to was ignored.
    Unasked(TypeUrl),
    /// Requests wait because [`crate::Options::rate_limit`] is used up.
    RateLimited {
        /// How many types have something to say.
        waiting: usize,
    },
}
