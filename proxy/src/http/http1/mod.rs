//! HTTP/1: the downstream codec ([`server`], `HttpConnectionManager.codec_type: HTTP1`) and the upstream connection
//! ([`client`]), with `envoy.config.core.v3.Http1ProtocolOptions`.
//!
//! Our own codec, because a general-purpose one hides or repairs what we must answer: a second `Host`, a bare line feed, an
//! early end. Heads are split and judged by [`head`], bodies by [`decode`], and all by [`super::check`]; [`encode`] writes.
//! Those are pure; the two drivers own the socket.
//!
//! Invariants:
//! - the verdict on an input is the same however the network cuts it;
//! - nothing of a head is copied: names come from a table, values are slices of the read buffer;
//! - an idle connection owns no buffer; a busy one is bounded by its buffer limit whatever the peer does;
//! - small messages are one write.
//!
//! Deliberately missing: HTTP/0.9, obsolete folding in requests, `Upgrade: h2c`, the reason phrase of an upstream
//! (`forward_reason_phrase`).

pub mod chunked;
pub mod client;
pub mod decode;
pub mod encode;
pub mod head;
pub mod names;
pub mod out;
pub mod read;
pub mod server;
mod settings;
mod timer;

pub use client::{H1Client, H1Exchange, IdleEnd};
pub use settings::{ClientSettings, HeadLimits, HeaderKeyFormat, OwnHeaders, ServerSettings};
