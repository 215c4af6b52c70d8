//! `x-request-id` (`envoy.request_id.uuid`): a random UUID per request, whose 15th character carries the trace decision.

use http::HeaderMap;
use http::header::HeaderValue;

use super::request_headers::X_REQUEST_ID;

/// Position of the version digit, which Envoy overwrites with the reason a request is traced.
const TRACE_BYTE: usize = 14;
const NO_TRACE: u8 = b'4';

/// Makes an id where there is none, or where one from outside may not be kept.
pub fn set(headers: &mut HeaderMap, edge: bool, keep_external: bool, pack_trace_reason: bool) {
    join(headers);
    match headers.get(X_REQUEST_ID).filter(|id| !id.is_empty()) {
        Some(id) if !edge || keep_external => {
            // A trace decision from outside does not count.
            if edge && pack_trace_reason && is_uuid(id.as_bytes()) && id.as_bytes().get(TRACE_BYTE) != Some(&NO_TRACE) {
                let mut bytes = id.as_bytes().to_vec();
                if let Some(byte) = bytes.get_mut(TRACE_BYTE) {
                    *byte = NO_TRACE;
                }
                if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(bytes)) {
                    headers.insert(X_REQUEST_ID, value);
                }
            }
        }
        _ => {
            headers.insert(X_REQUEST_ID, generate());
        }
    }
}

/// Several ids are one header with a list, as for everything that may have one value only.
fn join(headers: &mut HeaderMap) {
    let mut values = headers.get_all(X_REQUEST_ID).iter();
    if let (Some(_), Some(_)) = (values.next(), values.next()) {
        let all: Vec<&[u8]> = headers.get_all(X_REQUEST_ID).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_maybe_shared(bytes::Bytes::from(all.join(&b","[..]))) {
            headers.insert(X_REQUEST_ID, joined);
        }
    }
}

fn is_uuid(id: &[u8]) -> bool {
    id.len() == 36
        && id.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// A version 4 UUID from the thread's generator. Ids are labels, not secrets.
fn generate() -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let random = fastrand::u128(..);
    let mut text = [b'-'; 36];
    let mut nibble = 0;
    for (i, byte) in text.iter_mut().enumerate() {
        if matches!(i, 8 | 13 | 18 | 23) {
            continue;
        }
        let bits = (random >> (nibble * 4)) as usize & 0xf;
        nibble += 1;
        let bits = match i {
            TRACE_BYTE => 4,
            19 => bits & 0x3 | 0x8,
            _ => bits,
        };
        *byte = HEX.get(bits).copied().unwrap_or(b'0');
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(id: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_static(id))])
    }

    #[test]
    fn generated_ids_are_version_4_uuids() {
        for _ in 0..100 {
            let id = generate();
            assert!(is_uuid(id.as_bytes()));
            assert_eq!(id.as_bytes()[14], b'4');
            assert!(b"89ab".contains(&id.as_bytes()[19]));
        }
        assert_ne!(generate(), generate());
    }

    #[test]
    fn an_id_is_kept_inside_and_replaced_at_the_edge() {
        let mut inside = with("client-chosen");
        set(&mut inside, false, false, true);
        assert_eq!(inside[X_REQUEST_ID], "client-chosen");
        let mut edge = with("client-chosen");
        set(&mut edge, true, false, true);
        assert!(is_uuid(edge[X_REQUEST_ID].as_bytes()));
        let mut kept = with("client-chosen");
        set(&mut kept, true, true, true);
        assert_eq!(kept[X_REQUEST_ID], "client-chosen");
    }

    #[test]
    fn a_kept_external_id_loses_its_trace_decision() {
        let mut kept = with("a4d5a4d5-0000-9000-8000-000000000000");
        set(&mut kept, true, true, true);
        assert_eq!(kept[X_REQUEST_ID], "a4d5a4d5-0000-4000-8000-000000000000");
    }
}
