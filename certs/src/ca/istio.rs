//! The client of Istio's certificate service, `istio.v1.auth.IstioCertificateService/CreateCertificate` (istio/api,
//! `security/v1alpha1/ca.proto`).
//!
//! One connection a call: there are two calls a day. The token is read from its file for each, because the kubelet replaces it.

use std::error::Error;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::{Code, Status};

use super::{CaError, CertificateAuthority};
use crate::client::{ClientTls, ClientTlsBuilder, ConnectOptions, ContextError, Validation};
use crate::handshake::Handshake;
use crate::material::{TlsCertificate, TrustBundle};
use crate::params::{TlsParams, TlsVersion};
use crate::slot::SecretSlot;
use crate::validation::ValidationContext;

/// The method's path.
pub const CREATE_CERTIFICATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// `istio.v1.auth.IstioCertificateRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateRequest {
    /// The certificate signing request as PEM.
    #[prost(string, tag = "1")]
    pub csr: String,
    /// In seconds.
    #[prost(int64, tag = "3")]
    pub validity_duration: i64,
    /// Known are `CertSigner` and `ImpersonatedIdentity`.
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<prost_types::Struct>,
}

/// `istio.v1.auth.IstioCertificateResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateResponse {
    /// PEM, leaf first, root last.
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
}

/// What goes along with each call.
#[derive(Debug, Clone)]
pub struct IstioCaOptions {
    /// `:authority`, host and port: `istiod.istio-system.svc:15012`.
    pub authority: String,
    /// Read for each call; sent as `authorization: Bearer`. None: the client certificate speaks.
    pub token: Option<PathBuf>,
    /// `ClusterID`
    pub cluster_id: String,
    /// `CA_HEADER_*`
    pub headers: Vec<(String, String)>,
    /// `ISTIO_META_CERT_SIGNER`
    pub cert_signer: Option<String>,
    /// For connection and answer together.
    pub timeout: Duration,
}

impl Default for IstioCaOptions {
    fn default() -> Self {
        Self {
            authority: "istiod.istio-system.svc:15012".to_owned(),
            token: None,
            cluster_id: String::new(),
            headers: Vec::new(),
            cert_signer: None,
            timeout: Duration::from_secs(10),
        }
    }
}

/// The client. `open` makes a byte stream to the service for each call: [`TlsDial::open`], or a stream of the caller's own.
pub struct IstioCa<F> {
    options: IstioCaOptions,
    open: F,
}

impl<F, Fut, Io> IstioCa<F>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<Io, CaError>>,
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// A client that has connected to nothing yet.
    pub fn new(options: IstioCaOptions, open: F) -> Self {
        Self { options, open }
    }

    async fn call(&self, csr_pem: &str, validity: Duration) -> Result<Vec<String>, CaError> {
        let mut request = tonic::Request::new(IstioCertificateRequest {
            csr: csr_pem.to_owned(),
            validity_duration: i64::try_from(validity.as_secs()).unwrap_or(i64::MAX),
            metadata: self.options.cert_signer.as_deref().map(cert_signer),
        });
        self.add_metadata(request.metadata_mut())?;
        let io = (self.open)().await?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(io))
            .await
            .map_err(|error| CaError::Connect(error.to_string()))?;
        let origin =
            http::Uri::builder().scheme("https").authority(self.options.authority.as_str()).path_and_query("/");
        let origin = origin.build().map_err(|error| CaError::Request(format!("the authority: {error}")))?;
        let mut grpc = tonic::client::Grpc::with_origin(Http2 { sender }, origin);
        let exchange = async {
            grpc.ready().await.map_err(|error| CaError::Connect(error.to_string()))?;
            let path = PathAndQuery::from_static(CREATE_CERTIFICATE);
            let codec = tonic_prost::ProstCodec::<_, IstioCertificateResponse>::default();
            grpc.unary(request, path, codec).await.map_err(|status| refused(&status))
        };
        let response = tokio::select! {
            biased;
            response = exchange => response?,
            Err(error) = connection => return Err(CaError::Connect(error.to_string())),
        };
        Ok(response.into_inner().cert_chain)
    }

    fn add_metadata(&self, metadata: &mut MetadataMap) -> Result<(), CaError> {
        if let Some(path) = &self.options.token {
            metadata.insert("authorization", bearer(path)?);
        }
        let value = |name: &str, value: &str| {
            let unusable = |_| CaError::Request(format!("the value of {name} cannot be sent as a header"));
            value.parse::<AsciiMetadataValue>().map_err(unusable)
        };
        metadata.insert("clusterid", value("ClusterID", &self.options.cluster_id)?);
        for (name, text) in &self.options.headers {
            let key: AsciiMetadataKey = name
                .to_ascii_lowercase()
                .parse()
                .map_err(|_| CaError::Request(format!("{name:?} is no name of a header")))?;
            metadata.insert(key, value(name, text)?);
        }
        Ok(())
    }
}

impl<F, Fut, Io> CertificateAuthority for IstioCa<F>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<Io, CaError>>,
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async fn sign(&self, csr_pem: &str, validity: Duration) -> Result<Vec<String>, CaError> {
        let timeout = self.options.timeout;
        let result = tokio::time::timeout(timeout, self.call(csr_pem, validity)).await;
        result.unwrap_or(Err(CaError::TimedOut(timeout)))
    }
}

fn bearer(path: &Path) -> Result<AsciiMetadataValue, CaError> {
    let failed = |why: &str| CaError::Token { path: path.display().to_string(), why: why.to_owned() };
    let token = std::fs::read_to_string(path).map_err(|error| failed(&error.to_string()))?;
    match token.trim() {
        "" => Err(failed("the file is empty")),
        token => {
            let mut value: AsciiMetadataValue =
                format!("Bearer {token}").parse().map_err(|_| failed("it holds characters that no token has"))?;
            value.set_sensitive(true);
            Ok(value)
        }
    }
}

fn cert_signer(name: &str) -> prost_types::Struct {
    let value = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(name.to_owned())) };
    prost_types::Struct { fields: [("CertSigner".to_owned(), value)].into() }
}

fn refused(status: &Status) -> CaError {
    // The codes after which Istio's agent asks again.
    let retriable = matches!(
        status.code(),
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
    );
    CaError::Refused { code: format!("{:?}", status.code()), message: status.message().to_owned(), retriable }
}

/// One HTTP/2 connection, as tonic calls it.
struct Http2 {
    sender: SendRequest<Body>,
}

impl tower::Service<http::Request<Body>> for Http2 {
    type Response = http::Response<Incoming>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.sender.poll_ready(cx).map_err(|error| unavailable(&error))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.sender.send_request(request);
        Box::pin(async { answer.await.map_err(|error| unavailable(&error)) })
    }
}

/// A connection that broke, with all that hyper knows of it.
fn unavailable(error: &hyper::Error) -> Status {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Status::unavailable(text)
}

/// Opens TLS connections to an authority whose root is known.
pub struct TlsDial {
    address: String,
    tls: ClientTls,
}

impl TlsDial {
    /// To `address` (host and port). The server's certificate must lead to `root` and carry `server_name`. `certificate` is shown
    /// if the server asks for one.
    ///
    /// # Errors
    /// A server name that is none.
    pub fn new(
        address: impl Into<String>,
        server_name: &str,
        root: Arc<TrustBundle>,
        certificate: Option<Arc<SecretSlot<TlsCertificate>>>,
    ) -> Result<Self, ContextError> {
        if server_name.is_empty() {
            return Err(ContextError::Sni(String::new())); // without a name, anybody below the root would do
        }
        let tls = ClientTlsBuilder {
            tls_params: TlsParams { max: Some(TlsVersion::V1_3), ..TlsParams::default() },
            alpn_protocols: vec!["h2".to_owned()],
            tls_certificate: certificate,
            validation: Validation::Fixed(Arc::new(ValidationContext::trusting(root))),
            sni: server_name.to_owned(),
            auto_sni_san_validation: true,
            max_session_keys: 0,
            ..Default::default()
        }
        .build()?;
        Ok(Self { address: address.into(), tls })
    }

    /// Connects, and shakes hands.
    ///
    /// # Errors
    /// What the network or TLS says; the check that the server's certificate failed is named.
    pub async fn open(&self) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static + use<>, CaError> {
        let failed = |error: io::Error| CaError::Connect(format!("{}: {error}", self.address));
        let stream = TcpStream::connect(&self.address).await.map_err(failed)?;
        self.shake_hands(stream).await
    }

    /// The same over a stream that is open already.
    ///
    /// # Errors
    /// Those of TLS.
    pub async fn shake_hands<Io>(&self, io: Io) -> Result<tokio_rustls::client::TlsStream<Io>, CaError>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let failed = |why: String| CaError::Connect(format!("{}: {why}", self.address));
        let (choice, mut handshake) =
            self.tls.choose(ConnectOptions::default()).map_err(|error| failed(error.to_string()))?;
        let connector = TlsConnector::from(Arc::clone(&choice.config));
        let connect = || connector.with_alpn(choice.alpn_protocols.clone()).connect(choice.server_name.clone(), io);
        let mut connecting = handshake.run(connect);
        let connected = std::future::poll_fn(|cx| handshake.run(|| Pin::new(&mut connecting).poll(cx))).await;
        match connected {
            Ok(stream) => Ok(stream),
            Err(error) => Err(failed(said(&handshake, &error))),
        }
    }
}

fn said(handshake: &Handshake, error: &io::Error) -> String {
    handshake.failure.as_ref().map_or_else(|| error.to_string(), |failure| failure.message().to_owned())
}

#[cfg(test)]
mod tests;
