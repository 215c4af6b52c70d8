//! Network filters: what a filter chain does with a connection's bytes.
//!
//! A chain has any number of [`NetworkFilter`]s, which look at a new connection and let it pass or not, and ends in one
//! [`TerminalFilter`], which owns it: the HTTP connection manager or the TCP proxy.

pub mod direct_response;
pub mod echo;
pub mod http_connection_manager;
pub mod local_ratelimit;
pub mod rbac;
pub mod tcp_proxy;

use std::any::Any;
use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;

use crate::config::BuildCx;
use crate::net::Io;
use crate::server::drain::Drain;
use crate::stream_info::{ConnectionInfo, ResponseFlags, StreamInfo, TrafficDirection};

/// An accepted connection after its transport handshake.
pub struct Connection {
    pub io: Io,
    pub info: Rc<ConnectionInfo>,
    pub drain: Drain,
    /// `per_connection_buffer_limit_bytes` of the listener.
    pub buffer_limit: usize,
    /// Where a filter that treats the connection as one stream keeps its facts, when the listener logs connections.
    pub stream_info: Option<Rc<RefCell<StreamInfo>>>,
    /// Gauges and limits to be given back when the connection ends.
    pub guard: Box<dyn Any>,
}

/// The last filter of a chain.
pub trait TerminalFilter: Send + Sync {
    /// Serves the connection to its end. Dropping the future closes the connection at once.
    fn serve(self: Arc<Self>, connection: Connection) -> LocalBoxFuture<'static, ()>;
}

/// A filter before the last one.
pub trait NetworkFilter: Send + Sync {
    fn on_new_connection(&self, info: &ConnectionInfo) -> NetworkStep;
}

/// What a [`NetworkFilter`] decides.
pub enum NetworkStep {
    Continue,
    Close(Close),
}

/// Why and when a connection is closed.
#[derive(Default)]
pub struct Close {
    /// `%CONNECTION_TERMINATION_DETAILS%`.
    pub termination_details: Option<Cow<'static, str>>,
    /// `%DOWNSTREAM_LOCAL_CLOSE_REASON%`.
    pub local_close_reason: Option<Cow<'static, str>>,
    pub flags: ResponseFlags,
    /// How long it is kept waiting first.
    pub delay: Option<Duration>,
}

/// What a filter's builder made.
pub enum BuiltFilter {
    Network(Arc<dyn NetworkFilter>),
    Terminal(Arc<dyn TerminalFilter>),
}

/// What the builder of a network filter may know beside [`BuildCx`], which it can be used as.
pub struct ListenerCx<'a> {
    pub build: &'a BuildCx,
    pub listener_name: &'a Arc<str>,
    /// The scope of the listener's stats, e.g. `listener.127.0.0.1_80`.
    pub stat_scope: &'a str,
    pub direction: TrafficDirection,
}

impl Deref for ListenerCx<'_> {
    type Target = BuildCx;

    fn deref(&self) -> &BuildCx {
        self.build
    }
}
