//! Connections made by tonic's own channel.

use super::{BoxError, Transport};

/// A [`Transport`] over `tonic::transport::Endpoint`, which brings DNS and TLS as its features say.
///
/// ```
/// let endpoint = tonic::transport::Endpoint::from_static("http://127.0.0.1:15010");
/// let transport = xds_client::transport::Endpoint::new(endpoint);
/// ```
pub struct Endpoint(tonic::transport::Endpoint);

impl Endpoint {
    /// Wraps an endpoint; its settings (keepalive, windows, TLS) are used as they are.
    pub fn new(endpoint: tonic::transport::Endpoint) -> Self {
        Self(endpoint)
    }
}

impl Transport for Endpoint {
    type Body = tonic::body::Body;
    type Service = tonic::transport::Channel;

    async fn connect(&self) -> Result<Self::Service, BoxError> {
        Ok(self.0.connect().await?)
    }
}
