//! HTTP filters: what happens to a request between the connection manager and the router, and to its response on the
//! way back.
//!
//! A filter is built once from configuration and shared by all streams of all workers; whatever it keeps about one
//! stream goes into [`StreamCx`]. Only a filter that must wait (for a body, for another service) boxes a future. The first
//! [`Step::Reply`] ends the chain: no later filter sees the request.

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;

use crate::config::BuildCx;
use crate::http::{Body, RequestHead, ResponseHead};
use crate::route::RouteMatch;
use crate::stream_info::StreamInfo;

pub mod cors;
pub mod local_ratelimit;
mod local_reply;
pub mod rbac;
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

/// What the builder of a filter may know.
pub struct FilterCx<'a> {
    pub build: &'a BuildCx,
    /// The connection manager's scope, `http.<stat_prefix>`.
    pub scope: &'a str,
    pub place: FilterPlace,
}

/// Where a filter is: the name that overrides of routes call it by, and its position, which is its slot in
/// [`StreamCx::state`].
#[derive(Debug, Clone)]
pub struct FilterPlace {
    pub name: Arc<str>,
    pub position: usize,
}

impl FilterPlace {
    /// The most specific override of a route for this filter.
    pub fn route_config<'r, T: 'static>(&self, route: Option<&'r RouteMatch>) -> Option<&'r T> {
        route?.filter_config(&self.name)?.downcast_ref()
    }

    /// Keeps something about a stream until it ends.
    pub fn keep(&self, cx: &mut StreamCx, state: Rc<dyn Any>) {
        if cx.state.len() <= self.position {
            cx.state.resize(self.position + 1, None);
        }
        if let Some(slot) = cx.state.get_mut(self.position) {
            *slot = Some(state);
        }
    }

    /// What was kept about a stream.
    pub fn kept<T: 'static>(&self, cx: &StreamCx) -> Option<Rc<T>> {
        cx.state.get(self.position)?.clone()?.downcast().ok()
    }
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

    /// Called once with the final response's head, in reverse order, also for local replies, which may be of a filter before
    /// this one: then there was no [`request`](Self::request).
    fn response(&self, _head: &mut ResponseHead, _body: &mut Body, _request: &RequestHead, _cx: &mut StreamCx) {}
}
