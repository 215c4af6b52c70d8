//! The server's side of one gRPC call, message by message: what a scripted peer in a test needs.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::{Connection, SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};

/// Starts HTTP/2 as a server, with windows wide enough for large requests.
pub async fn handshake<Io: AsyncRead + AsyncWrite + Unpin>(io: Io) -> Result<Connection<Io, Bytes>, h2::Error> {
    h2::server::Builder::new().initial_window_size(1 << 20).initial_connection_window_size(1 << 20).handshake(io).await
}

/// One bidirectional call. The connection it came from must be polled (by `accept`) for anything to move.
pub struct Call {
    path: String,
    headers: HeaderMap,
    requests: h2::RecvStream,
    buffer: BytesMut,
    responses: h2::SendStream<Bytes>,
}

impl Call {
    /// Accepts the call: the response head leaves at once.
    pub fn accept(request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) -> Result<Self, h2::Error> {
        let (head, requests) = request.into_parts();
        let mut response = Response::new(());
        response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let responses = respond.send_response(response, false)?;
        Ok(Self {
            path: head.uri.path().to_owned(),
            headers: head.headers,
            requests,
            buffer: BytesMut::new(),
            responses,
        })
    }

    /// Refuses a call: a response of trailers alone.
    pub fn refuse(mut respond: SendResponse<Bytes>, code: i32, message: &'static str) -> Result<(), h2::Error> {
        let mut response = Response::new(());
        *response.headers_mut() = trailers(code, message);
        response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        respond.send_response(response, true)?;
        Ok(())
    }

    /// The gRPC method.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The request's headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The next message, or `None` at the end of the client's side. Cancel safe.
    pub async fn message<M: Message + Default>(&mut self) -> io::Result<Option<M>> {
        loop {
            if let Some(message) = self.take_message()? {
                return M::decode(message).map(Some).map_err(io::Error::other);
            }
            match self.requests.data().await {
                None => return Ok(None),
                Some(data) => {
                    let data = data.map_err(io::Error::other)?;
                    let _ = self.requests.flow_control().release_capacity(data.len());
                    self.buffer.extend_from_slice(&data);
                }
            }
        }
    }

    fn take_message(&mut self) -> io::Result<Option<BytesMut>> {
        let Some((head, rest)) = self.buffer.split_first_chunk::<5>() else { return Ok(None) };
        let [compressed, length @ ..] = *head;
        if compressed != 0 {
            return Err(io::Error::other("compressed messages are not supported"));
        }
        let length = u32::from_be_bytes(length) as usize;
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some(self.buffer.split_to(length)))
    }

    /// Sends a message. It is buffered whatever its size, and leaves as the client's window allows.
    pub fn send<M: Message>(&mut self, message: &M) -> Result<(), h2::Error> {
        self.send_bytes(&message.encode_to_vec())
    }

    /// Sends a message of any bytes.
    pub fn send_bytes(&mut self, message: &[u8]) -> Result<(), h2::Error> {
        let mut frame = BytesMut::with_capacity(5 + message.len());
        frame.put_u8(0);
        frame.put_u32(message.len() as u32);
        frame.extend_from_slice(message);
        self.send_raw(frame.freeze())
    }

    /// Sends bytes as they are, without the five that come before a gRPC message.
    pub fn send_raw(&mut self, bytes: Bytes) -> Result<(), h2::Error> {
        self.responses.send_data(bytes, false)
    }

    /// Ends the call with a status.
    pub fn finish(mut self, code: i32, message: &'static str) -> Result<(), h2::Error> {
        self.responses.send_trailers(trailers(code, message))
    }
}

fn trailers(code: i32, message: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(code));
    trailers.insert("grpc-message", HeaderValue::from_static(message));
    trailers
}
