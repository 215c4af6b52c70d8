//! HTTP filters: what happens to a request between the connection manager and the router, and to its response on the
//! way back.
//!
//! A filter is built once from configuration and shared by all streams of all workers; whatever it keeps about one
//! stream goes into [`StreamCx`]. Only a filter that must wait (for a body, for another service) boxes a future. The first
//! [`Step::Reply`] ends the chain: no later filter sees the request.

use std::any::Any;
use std::rc::Rc;

use futures_util::future::LocalBoxFuture;

use crate::http::{Body, RequestHead, ResponseHead};
use crate::route::RouteMatch;
use crate::stream_info::StreamInfo;

mod local_reply;
pub mod router;

pub use local_reply::LocalReply;

/// One stream as filters see it.
pub struct StreamCx {
    pub info: StreamInfo,
    /// The route the request has now; `None` when none matched. Cleared by a filter that changed what routes depend on,
    /// then looked up again before the router.
    pub route: Option<RouteMatch>,
    /// The random value of this stream, for weighted choices and runtime fractions.
    pub random: u64,
    /// State of filters by their position in the chain.
    pub state: Vec<Option<Rc<dyn Any>>>,
}

/// What a filter decides about a request.
pub enum Step {
    Continue,
    Reply(Box<LocalReply>),
    /// Run this to its end first. It gives back the body it took, if any.
    Wait(LocalBoxFuture<'static, (Option<Body>, Step)>),
}

/// A filter as built from its configuration.
pub trait HttpFilter: Send + Sync {
    /// Called once with the request's head. A filter that needs the body takes it and leaves a wrapped one.
    fn request(&self, _head: &mut RequestHead, _body: &mut Body, _cx: &mut StreamCx) -> Step {
        Step::Continue
    }

    /// Called once with the final response's head, in reverse order, also for local replies.
    fn response(&self, _head: &mut ResponseHead, _body: &mut Body, _request: &RequestHead, _cx: &mut StreamCx) {}
}
