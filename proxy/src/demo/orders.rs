//! `orders.OrderService` over gRPC, with messages small enough to write by hand: a request is a string in field 1, and so
//! is an answer.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use prost::Message;

use super::apps::Answer;

/// A string in field 1.
#[derive(Clone, PartialEq, Message)]
pub struct Text {
    #[prost(string, tag = "1")]
    pub text: String,
}

/// A gRPC message with its five-byte prefix.
pub fn frame(text: &str) -> Bytes {
    let message = Text { text: text.to_owned() }.encode_to_vec();
    let mut out = BytesMut::with_capacity(message.len() + 5);
    out.put_u8(0);
    out.put_u32(message.len() as u32);
    out.put_slice(&message);
    out.freeze()
}

/// The texts of the messages in a body.
pub fn unframe(mut body: &[u8]) -> Option<Vec<String>> {
    let mut out = Vec::new();
    while !body.is_empty() {
        let (prefix, rest) = body.split_at_checked(5)?;
        let [0, a, b, c, d] = *prefix else { return None };
        let (message, rest) = rest.split_at_checked(u32::from_be_bytes([a, b, c, d]) as usize)?;
        out.push(Text::decode(message).ok()?.text);
        body = rest;
    }
    Some(out)
}

/// `Place` answers once; `Watch` answers three times.
pub async fn answer(request: Request<Incoming>) -> Answer {
    let watch = request.uri().path().ends_with("/Watch");
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let (frames, status) = match unframe(&body) {
        Some(texts) if !texts.is_empty() => {
            let what = texts.join(",");
            let times = if watch { 3 } else { 1 };
            ((1..=times).map(|i| frame(&format!("order {i} of {what}"))).collect(), "0")
        }
        _ => (VecDeque::new(), "3"),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let mut response = Response::new(Messages { frames, trailers: Some(trailers) }.boxed());
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

struct Messages {
    frames: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(frame) = self.frames.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }
}
