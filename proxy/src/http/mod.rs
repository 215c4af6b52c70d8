//! HTTP messages as they travel between a codec, the filters and the upstream, independent of the version.
//!
//! A codec ([`http1`], [`http2`]) turns bytes into a canonical [`RequestHead`] and a [`Body`] and calls the connection
//! manager; what it gets back is a [`ResponseHead`] and a [`Body`]. "Canonical" is [`check`]'s word: exactly one
//! authority, one framing, no control bytes; what cannot be written that way is refused before the router sees it, and
//! the same check guards what we send.

mod body;
pub mod check;
mod exchange;
mod field_name;
pub mod http1;
pub mod http2;
pub mod lookup;
mod message;
pub mod path;

pub use crate::sys::ByteStr;
pub use body::{Body, BodyError, BodySource, Frame};
pub use exchange::ExchangeError;
pub use field_name::FieldName;
pub use message::{
    BadRequest, BadRequestKind, CodecService, HeaderCase, Protocol, Reply, Request, RequestHead, ResetReason,
    ResponseHead, Scheme, StreamCtl, UpstreamWire,
};
