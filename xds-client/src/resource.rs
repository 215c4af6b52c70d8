//! What a management server sends, once the protocol's wrapping is off: resources, updates, and verdicts on them.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::TypeUrl;

/// `google.protobuf.Any` with shared bytes: cloning does not copy the value.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Any {
    /// Which message [`Any::value`] is the encoding of.
    pub type_url: String,
    /// The message as the server encoded it.
    pub value: Bytes,
}

impl fmt::Debug for Any {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The bytes may be a private key.
        write!(f, "Any({}, {} bytes)", self.type_url, self.value.len())
    }
}

impl From<prost_types::Any> for Any {
    fn from(any: prost_types::Any) -> Self {
        Self { type_url: any.type_url, value: any.value.into() }
    }
}

impl From<Any> for prost_types::Any {
    fn from(any: Any) -> Self {
        Self { type_url: any.type_url, value: any.value.into() }
    }
}

/// One resource of a response. Only the name is decoded; the rest is for the handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// From the `envoy.service.discovery.v3.Resource` around it, or else from the resource itself.
    pub name: String,
    /// Other names by which it may have been asked for (`Resource.aliases`, used by VHDS).
    pub aliases: Vec<String>,
    /// Per resource in delta; in state-of-the-world the version of the response. May be empty.
    pub version: String,
    /// When set, the resource goes away unless the server renews it within this time ([`Update::removed`] tells).
    pub ttl: Option<Duration>,
    /// The resource. Its type URL is that of the update: others are refused before the handler sees them.
    pub any: Any,
}

/// What changed, as one response said it. See [`crate::Handler::update`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// What kind of resources these are.
    pub type_url: TypeUrl,
    /// `version_info`, or `system_version_info` in delta: for display. Empty when [`Update::expired`].
    pub version: String,
    /// The nonce of the response: for display.
    pub nonce: String,
    /// Added or changed, in the order of the response, each name once. Only what is subscribed to.
    pub added: Vec<Resource>,
    /// Gone: named by the server in delta, or out of their time to live. Never in [`Update::added`] too.
    pub removed: Vec<String>,
    /// The state of the world: whatever is not in `added` is gone. LDS and CDS in state-of-the-world only.
    pub full: bool,
    /// No response caused this: resources in `removed` outlived their `ttl`. The verdict is not sent to anybody.
    pub expired: bool,
}

/// The handler's verdict on a resource that it cannot use. The last good one of that name, if any, stays in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Of the resource; empty if the update cannot be used as a whole: then none of it counts as accepted.
    pub name: String,
    /// What was expected and what came, for the operator of the management server.
    pub reason: String,
}
