//! Bodies: from the bytes behind a head to pieces of data and the end.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::chunked::{Chunk, ChunkedDecoder, ChunkedOptions};
use crate::http::check::{Framing, Violation, details};

#[derive(Debug)]
pub enum Piece {
    Data(Bytes),
    End(Option<HeaderMap>),
}

/// The decoder of one body, by its framing.
#[derive(Debug, Default)]
pub enum BodyDecoder {
    /// The end has been handed out.
    #[default]
    Done,
    Length(u64),
    Chunked(ChunkedDecoder),
    /// Everything until the peer closes: a response without length, or a tunnel.
    UntilClose,
    /// Behind a head that asks for a tunnel, until the answer to it is known.
    Held,
}

impl BodyDecoder {
    pub fn new(framing: Framing, options: ChunkedOptions) -> Self {
        match framing {
            Framing::None => BodyDecoder::Done,
            Framing::Length(length) => BodyDecoder::Length(length),
            Framing::Chunked => BodyDecoder::Chunked(ChunkedDecoder::new(options)),
            Framing::UntilClose => BodyDecoder::UntilClose,
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self, BodyDecoder::Done)
    }

    pub fn exact_len(&self) -> Option<u64> {
        match self {
            BodyDecoder::Done => Some(0),
            BodyDecoder::Length(left) => Some(*left),
            _ => None,
        }
    }

    /// How much of what is to come could be this body, to size a read.
    pub fn wants(&self) -> usize {
        match self {
            BodyDecoder::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX),
            BodyDecoder::Chunked(_) | BodyDecoder::UntilClose => 32 * 1024,
            BodyDecoder::Done | BodyDecoder::Held => 0,
        }
    }

    /// Takes the next piece from the front of `buf`; `None` if more bytes are wanted. After the end it is [`Done`](Self::Done),
    /// and a `Length` is so with its last byte.
    ///
    /// # Errors
    /// A chunked body that breaks the grammar.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Piece>, Violation> {
        match self {
            BodyDecoder::Done => Ok(Some(Piece::End(None))),
            BodyDecoder::Held => Ok(None),
            _ if buf.is_empty() => Ok(None),
            BodyDecoder::Length(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
                *left -= n as u64;
                if *left == 0 {
                    *self = BodyDecoder::Done;
                }
                Ok(Some(Piece::Data(buf.split_to(n).freeze())))
            }
            BodyDecoder::UntilClose => Ok(Some(Piece::Data(buf.split().freeze()))),
            BodyDecoder::Chunked(decoder) => Ok(match decoder.decode(buf)? {
                Some(Chunk::Data(data)) => Some(Piece::Data(data)),
                Some(Chunk::End(trailers)) => {
                    *self = BodyDecoder::Done;
                    Some(Piece::End(trailers))
                }
                None => None,
            }),
        }
    }

    /// The peer will send no more, and nothing is left in the buffer.
    ///
    /// # Errors
    /// The body is not over.
    pub fn end_of_stream(&mut self) -> Result<(), Violation> {
        match self {
            BodyDecoder::UntilClose | BodyDecoder::Done => {
                *self = BodyDecoder::Done;
                Ok(())
            }
            _ => Err(Violation::bad_request(details::CODEC_ERROR)),
        }
    }
}
