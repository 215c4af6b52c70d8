//! [`Request`] and [`Response`] on a gRPC stream.

use prost::Message as _;
use tonic::Status;
use tonic::codec::{DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::Variant;
use crate::session::{Request, Response};

/// The client's codec. What cannot be decoded ends the stream with `INTERNAL`.
#[derive(Clone, Copy)]
pub(crate) struct Codec(pub Variant);

impl tonic::codec::Codec for Codec {
    type Encode = Request;
    type Decode = Response;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Codec {
    type Item = Request;
    type Error = Status;

    fn encode(&mut self, request: Request, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let encoded = match request {
            Request::Delta(request) => request.encode(buffer),
            Request::Sotw(request) => request.encode(buffer),
        };
        encoded.map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Codec {
    type Item = Response;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Response>, Status> {
        let decoded = Response::decode(self.0, buffer);
        decoded.map(Some).map_err(|error| Status::internal(format!("the response cannot be decoded: {error}")))
    }
}
