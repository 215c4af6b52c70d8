//! How a stream reaches its server: [`Transport`], and ready-made ones.
//!
//! | transport | connects |
//! |---|---|
//! | [`http2::Connector`] | over any byte stream (TCP, unix socket, TLS, one's own connection pool) |
//! | `Endpoint` (feature `tonic-channel`) | as tonic does |

pub mod http2;

#[cfg(feature = "tonic-channel")]
mod endpoint;
#[cfg(feature = "tonic-channel")]
pub use endpoint::Endpoint;

use http::HeaderMap;
use tonic::client::GrpcService;

/// Any error that can be sent over threads.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes connections to the management server. One connection carries one stream.
///
/// Neither the transport, its service nor the futures need be `Send`: the driver runs where it is polled.
pub trait Transport {
    /// The body of its responses.
    type Body: http_body::Body<Error: Into<BoxError>> + Send + 'static;
    /// What calls are made on: a [`tower::Service`] from HTTP requests to responses.
    type Service: GrpcService<tonic::body::Body, ResponseBody = Self::Body>;

    /// A fresh connection. Should fail rather than hang: the driver sets no deadline of its own.
    ///
    /// Cancel safe: the driver drops the future when it is dropped itself.
    fn connect(&self) -> impl Future<Output = Result<Self::Service, BoxError>>;

    /// Headers of the next call, read anew for each: a bearer token from a file, for instance. An error counts as a
    /// failed attempt to connect.
    fn metadata(&self) -> Result<HeaderMap, BoxError> {
        Ok(HeaderMap::new())
    }
}
