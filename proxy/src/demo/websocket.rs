//! Just enough of RFC 6455 for an echo.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::apps::{Answer, text};

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The `Sec-WebSocket-Accept` for a key (RFC 6455 §4.2.2).
pub fn accept_key(key: &str) -> String {
    STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes()))
}

/// Switches protocols and echoes messages until the peer closes.
pub fn accept(request: Request<Incoming>) -> Answer {
    let key = request.headers().get("sec-websocket-key").and_then(|key| key.to_str().ok()).map(accept_key);
    let Some(Ok(accept)) = key.map(HeaderValue::try_from) else {
        return text(StatusCode::BAD_REQUEST, "text/plain", "expected a WebSocket handshake\n".to_owned());
    };
    tokio::task::spawn_local(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let _ = echo(TokioIo::new(upgraded)).await;
        }
    });
    let mut response = Response::new(Empty::<Bytes>::new().boxed());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-accept", accept);
    response
}

async fn echo(mut io: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    while let Some((opcode, payload)) = read_message(&mut io).await? {
        write_message(&mut io, opcode, &payload, None).await?;
        if opcode == 8 {
            break;
        }
    }
    io.shutdown().await
}

/// One unfragmented message of less than 64 KiB: its opcode and its payload, unmasked.
pub async fn read_message(io: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<(u8, Vec<u8>)>> {
    let Ok(first) = io.read_u8().await else { return Ok(None) };
    let second = io.read_u8().await?;
    let len = match second & 0x7f {
        126 => usize::from(io.read_u16().await?),
        127 => return Err(std::io::Error::other("a message of 64 KiB or more")),
        n => usize::from(n),
    };
    let mask = if second & 0x80 != 0 { io.read_u32().await?.to_be_bytes() } else { [0; 4] };
    let mut payload = vec![0; len];
    io.read_exact(&mut payload).await?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok(Some((first & 0x0f, payload)))
}

/// Writes one unfragmented message; clients mask theirs.
pub async fn write_message(
    io: &mut (impl AsyncWrite + Unpin),
    opcode: u8,
    payload: &[u8],
    mask: Option<[u8; 4]>,
) -> std::io::Result<()> {
    let mut out = vec![0x80 | opcode];
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    match payload.len() {
        n @ 0..126 => out.push(mask_bit | n as u8),
        n => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
    }
    let mask = mask.inspect(|mask| out.extend_from_slice(mask)).unwrap_or_default();
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    io.write_all(&out).await
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_accept_key_is_the_one_of_the_rfc() {
        assert_eq!(super::accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
