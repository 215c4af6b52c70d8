//! The four messages of the protocol under two names: [`Request`] and [`Response`].

use bytes::Buf;
use prost::Message as _;
use xds_protos::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};

use crate::Variant;

/// What a client says.
#[derive(Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "short-lived: made, encoded and dropped")]
pub enum Request {
    /// Delta.
    Delta(DeltaDiscoveryRequest),
    /// State of the world.
    Sotw(DiscoveryRequest),
}

/// What a server says.
#[derive(Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "short-lived: decoded and taken apart")]
pub enum Response {
    /// Delta.
    Delta(DeltaDiscoveryResponse),
    /// State of the world.
    Sotw(DiscoveryResponse),
}

impl Request {
    /// What the request is about.
    pub fn type_url(&self) -> &str {
        match self {
            Self::Delta(request) => &request.type_url,
            Self::Sotw(request) => &request.type_url,
        }
    }

    /// The nonce of the response that this acknowledges or refuses; empty if it answers none.
    pub fn response_nonce(&self) -> &str {
        match self {
            Self::Delta(request) => &request.response_nonce,
            Self::Sotw(request) => &request.response_nonce,
        }
    }

    /// The reason, if this is a NACK.
    pub fn nack(&self) -> Option<&str> {
        let detail = match self {
            Self::Delta(request) => &request.error_detail,
            Self::Sotw(request) => &request.error_detail,
        };
        detail.as_ref().map(|status| status.message.as_str())
    }

    /// Decodes a message of the given variant.
    pub fn decode(variant: Variant, bytes: impl Buf) -> Result<Self, prost::DecodeError> {
        match variant {
            Variant::Delta => DeltaDiscoveryRequest::decode(bytes).map(Self::Delta),
            Variant::Sotw => DiscoveryRequest::decode(bytes).map(Self::Sotw),
        }
    }
}

impl Response {
    /// Decodes a message of the given variant. No limit on the size.
    pub fn decode(variant: Variant, bytes: impl Buf) -> Result<Self, prost::DecodeError> {
        match variant {
            Variant::Delta => DeltaDiscoveryResponse::decode(bytes).map(Self::Delta),
            Variant::Sotw => DiscoveryResponse::decode(bytes).map(Self::Sotw),
        }
    }
}
