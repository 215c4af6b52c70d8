//! Answers of the admin interface.

use bytes::Bytes;
use http::StatusCode;
use xds_protos::Message;
use xds_protos::print::{self, Options};

pub const TEXT: &str = "text/plain; charset=UTF-8";
pub const JSON: &str = "application/json";
pub const HTML: &str = "text/html; charset=UTF-8";

pub struct Reply {
    pub status: StatusCode,
    pub content_type: &'static str,
    pub content: Content,
}

pub enum Content {
    Whole(Bytes),
    /// Made while it is sent.
    Pieces(Box<dyn Iterator<Item = Bytes>>),
}

impl Reply {
    pub fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, content_type: TEXT, content: Content::Whole(text.into().into()) }
    }

    pub fn ok() -> Self {
        Self::text(StatusCode::OK, "OK\n")
    }

    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::text(StatusCode::BAD_REQUEST, text)
    }

    pub fn html(text: String) -> Self {
        Self { status: StatusCode::OK, content_type: HTML, content: Content::Whole(text.into()) }
    }

    pub fn json_text(text: String) -> Self {
        Self { status: StatusCode::OK, content_type: JSON, content: Content::Whole(text.into()) }
    }

    pub fn pieces(content_type: &'static str, pieces: impl Iterator<Item = Bytes> + 'static) -> Self {
        Self { status: StatusCode::OK, content_type, content: Content::Pieces(Box::new(pieces)) }
    }

    /// A protobuf message as JSON. `defaults`: with fields that have their default value.
    pub fn message<M: Message + prost::Name>(message: &M, defaults: bool) -> Self {
        let options = Options { pretty: true, redact: true, defaults };
        match print::to_json(&M::full_name(), &message.encode_to_vec(), &options) {
            Ok(json) => Self::json_text(json + "\n"),
            Err(error) => {
                let why = format!("{} cannot be printed: {error}\n", M::full_name());
                Self::text(StatusCode::INTERNAL_SERVER_ERROR, why)
            }
        }
    }
}
