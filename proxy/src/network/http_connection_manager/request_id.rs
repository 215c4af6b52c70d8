//! `x-request-id` (`envoy.request_id.uuid`): a random UUID per request, whose 15th character carries the trace decision.

use http::HeaderMap;
use http::header::HeaderValue;

use super::request_headers::{X_REQUEST_ID, join};
use crate::stream_info::TraceReason;

/// `UuidRequestIdConfig`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestIdOptions {
    pub pack_trace_reason: bool,
    pub use_for_trace_sampling: bool,
}

impl Default for RequestIdOptions {
    fn default() -> Self {
        RequestIdOptions { pack_trace_reason: true, use_for_trace_sampling: true }
    }
}

/// Position of the version digit, which Envoy overwrites with the reason a request is traced.
const TRACE_BYTE: usize = 14;
const NO_TRACE: u8 = b'4';
const LENGTH: usize = 36;

/// Makes an id where there is none, or where one from outside may not be kept.
pub fn set(headers: &mut HeaderMap, edge: bool, keep_external: bool, options: RequestIdOptions) {
    join(headers, X_REQUEST_ID);
    match headers.get(X_REQUEST_ID).filter(|id| !id.is_empty()) {
        Some(id) if !edge || keep_external => {
            // A trace decision from outside does not count.
            if edge && is_uuid(id.as_bytes()) && trace_reason(headers, options) != TraceReason::NotTraceable {
                set_trace_reason(headers, TraceReason::NotTraceable, options);
            }
        }
        _ => {
            headers.insert(X_REQUEST_ID, generate());
        }
    }
}

/// The id's first eight digits, which sampling goes by.
pub fn number(headers: &HeaderMap) -> Option<u64> {
    u64::from_str_radix(headers.get(X_REQUEST_ID)?.to_str().ok()?.get(..8)?, 16).ok()
}

/// The decision that the id carries, if ids carry any.
pub fn trace_reason(headers: &HeaderMap, options: RequestIdOptions) -> TraceReason {
    let id = headers.get(X_REQUEST_ID).map(HeaderValue::as_bytes);
    let id = id.filter(|id| options.pack_trace_reason && id.len() == LENGTH);
    match id.and_then(|id| id.get(TRACE_BYTE)) {
        Some(b'9') => TraceReason::Sampling,
        Some(b'a') => TraceReason::ServiceForced,
        Some(b'b') => TraceReason::ClientForced,
        _ => TraceReason::NotTraceable,
    }
}

/// Packs a decision into the id, if it is one that has room.
pub fn set_trace_reason(headers: &mut HeaderMap, reason: TraceReason, options: RequestIdOptions) {
    let Some(id) = headers.get(X_REQUEST_ID).filter(|id| options.pack_trace_reason && id.len() == LENGTH) else {
        return;
    };
    let mut bytes = id.as_bytes().to_vec();
    if let Some(byte) = bytes.get_mut(TRACE_BYTE) {
        *byte = match reason {
            TraceReason::NotTraceable => NO_TRACE,
            TraceReason::Sampling => b'9',
            TraceReason::ServiceForced => b'a',
            TraceReason::ClientForced => b'b',
        };
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(bytes)) {
        headers.insert(X_REQUEST_ID, value);
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
pub fn generate() -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    /// Where the two digits of each byte go.
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let mut random = fastrand::u128(..).to_le_bytes();
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut random;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    let mut text = [b'-'; 36];
    for (byte, place) in random.into_iter().zip(PLACES) {
        if let Some([high, low]) = text.get_mut(place..place + 2)
            && let (Some(h), Some(l)) = (HEX.get(usize::from(byte >> 4)), HEX.get(usize::from(byte & 0xf)))
        {
            (*high, *low) = (*h, *l);
        }
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
        set(&mut inside, false, false, RequestIdOptions::default());
        assert_eq!(inside[X_REQUEST_ID], "client-chosen");
        let mut edge = with("client-chosen");
        set(&mut edge, true, false, RequestIdOptions::default());
        assert!(is_uuid(edge[X_REQUEST_ID].as_bytes()));
        let mut kept = with("client-chosen");
        set(&mut kept, true, true, RequestIdOptions::default());
        assert_eq!(kept[X_REQUEST_ID], "client-chosen");
    }

    #[test]
    fn a_kept_external_id_loses_its_trace_decision() {
        let mut kept = with("a4d5a4d5-0000-9000-8000-000000000000");
        set(&mut kept, true, true, RequestIdOptions::default());
        assert_eq!(kept[X_REQUEST_ID], "a4d5a4d5-0000-4000-8000-000000000000");
    }

    #[test]
    fn decisions_are_packed_where_there_is_room() {
        let options = RequestIdOptions::default();
        let mut id = with("a4d5a4d5-0000-4000-8000-000000000000");
        assert_eq!((number(&id), trace_reason(&id, options)), (Some(0xa4d5_a4d5), TraceReason::NotTraceable));
        for reason in [TraceReason::Sampling, TraceReason::ServiceForced, TraceReason::ClientForced] {
            set_trace_reason(&mut id, reason, options);
            assert_eq!(trace_reason(&id, options), reason);
        }
        assert_eq!(id[X_REQUEST_ID], "a4d5a4d5-0000-b000-8000-000000000000");
        set_trace_reason(&mut id, TraceReason::NotTraceable, RequestIdOptions { pack_trace_reason: false, ..options });
        assert_eq!(trace_reason(&id, options), TraceReason::ClientForced);
        let mut short = with("12345678-own");
        set_trace_reason(&mut short, TraceReason::Sampling, options);
        assert_eq!((number(&short), trace_reason(&short, options)), (Some(0x1234_5678), TraceReason::NotTraceable));
        assert_eq!(number(&with("own")), None);
    }
}
