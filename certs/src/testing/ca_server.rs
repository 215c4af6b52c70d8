//! A test authority behind Istio's certificate service.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use rustls::time_provider::TimeProvider;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Code;

use super::Ca;
use crate::ca::istio::{CREATE_CERTIFICATE, IstioCertificateRequest, IstioCertificateResponse};

/// Serves `CreateCertificate`: certifies whatever it is asked for, from now on and for as long as is asked.
pub struct CaServer {
    ca: Ca,
    time: Arc<dyn TimeProvider>,
    seen: Mutex<Vec<Seen>>,
    refusals: Mutex<VecDeque<(Code, &'static str)>>,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its metadata.
    pub headers: HeaderMap,
    /// Its message.
    pub request: IstioCertificateRequest,
}

impl CaServer {
    /// An authority that signs.
    pub fn new(ca: Ca, time: Arc<dyn TimeProvider>) -> Arc<Self> {
        Arc::new(Self { ca, time, seen: Mutex::default(), refusals: Mutex::default() })
    }

    /// Refuses one of the next requests; several refusals are given in turn.
    pub fn refuse_next(&self, code: Code, message: &'static str) {
        self.refusals.lock().expect("no panic before").push_back((code, message));
    }

    /// What came so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic before").clone()
    }

    /// Serves one connection to its end.
    pub async fn serve(self: Arc<Self>, io: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(move |request| {
            let server = Arc::clone(&self);
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        // A client that goes away is no failure of the server.
        let _ = server.serve_connection(TokioIo::new(io), service).await;
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Response<impl hyper::body::Body<Data = Bytes, Error = Infallible> + use<>> {
        assert_eq!(request.uri().path(), CREATE_CERTIFICATE);
        let headers = request.headers().clone();
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        let message = IstioCertificateRequest::decode(&body[5..]).expect("a message behind a frame's five bytes");
        self.seen.lock().expect("no panic before").push(Seen { headers, request: message.clone() });
        let refusal = self.refusals.lock().expect("no panic before").pop_front();
        let outcome = match refusal {
            Some(refusal) => Err((refusal.0, refusal.1.to_owned())),
            None => self.sign(&message).map_err(|why| (Code::InvalidArgument, why)),
        };
        let (status, text, bytes) = match outcome {
            Ok(cert_chain) => {
                let message = IstioCertificateResponse { cert_chain }.encode_to_vec();
                let length = u32::try_from(message.len()).expect("a short answer").to_be_bytes();
                (Code::Ok, String::new(), [&[0], &length[..], &message].concat())
            }
            Err((code, text)) => (code, text, Vec::new()),
        };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(i32::from(status)));
        trailers.insert("grpc-message", HeaderValue::from_str(&text).expect("plain text"));
        let body = Full::new(Bytes::from(bytes)).with_trailers(async move { Some(Ok(trailers)) });
        Response::builder().header("content-type", "application/grpc").body(body).expect("a response")
    }

    fn sign(&self, request: &IstioCertificateRequest) -> Result<Vec<String>, String> {
        let now = self.time.current_time().expect("a clock").as_secs();
        let life = Duration::from_secs(u64::try_from(request.validity_duration).map_err(|error| error.to_string())?);
        self.ca.sign(&request.csr, Some((now, now + life.as_secs())))
    }
}
