//! Header names without an allocation per name.
//!
//! `http::HeaderName` stores names it has no constant for on the heap. Each worker keeps the few hundred such names that its
//! peers use; a name of the table is cloned, which costs a reference count. A flood of invented names only replaces
//! entries.

use std::cell::RefCell;

use http::HeaderName;

const SLOTS: usize = 256;
/// Longer names are rare and not worth keeping.
const MAX_LEN: usize = 48;

struct Slot {
    /// As spelled on the wire: other spellings of the same name are other entries.
    spelling: Box<[u8]>,
    name: HeaderName,
}

thread_local! {
    static CACHE: RefCell<Vec<Option<Slot>>> = const { RefCell::new(Vec::new()) };
}

/// The name that these bytes spell in any case, `None` if they are no token.
pub fn header_name(spelling: &[u8]) -> Option<HeaderName> {
    if spelling.len() > MAX_LEN {
        return HeaderName::from_bytes(spelling).ok();
    }
    CACHE.with_borrow_mut(|cache| {
        if cache.is_empty() {
            cache.resize_with(SLOTS, || None);
        }
        let slot = cache.get_mut(slot_of(spelling))?;
        if let Some(known) = slot
            && *known.spelling == *spelling
        {
            return Some(known.name.clone());
        }
        let name = HeaderName::from_bytes(spelling).ok()?;
        *slot = Some(Slot { spelling: spelling.into(), name: name.clone() });
        Some(name)
    })
}

/// Mixes the length with the first and the last eight bytes, in which names that occur together differ.
fn slot_of(spelling: &[u8]) -> usize {
    let mut first = [0; 8];
    let mut last = [0; 8];
    let n = spelling.len().min(8);
    if let (Some(a), Some(b)) = (spelling.get(..n), spelling.get(spelling.len() - n..)) {
        if let Some(first) = first.get_mut(..n) {
            first.copy_from_slice(a);
        }
        if let Some(last) = last.get_mut(..n) {
            last.copy_from_slice(b);
        }
    }
    let mixed = u64::from_le_bytes(first) ^ u64::from_le_bytes(last).rotate_left(29) ^ spelling.len() as u64;
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
}

#[cfg(test)]
mod tests {
    use super::header_name;

    #[test]
    fn names_come_out_lower_case_whichever_spelling_was_kept() {
        for spelling in ["X-Request-Id", "x-request-id", "X-REQUEST-ID", "X-Request-Id", "Host", "x"] {
            assert_eq!(header_name(spelling.as_bytes()).unwrap(), spelling.to_ascii_lowercase().as_str());
        }
        for bad in [&b""[..], b"a b", b"a:", b"\xe9", b"(", b"a\0"] {
            assert!(header_name(bad).is_none(), "{bad:?}");
            assert!(header_name(bad).is_none(), "{bad:?} the second time");
        }
        let long = "a".repeat(100);
        assert_eq!(header_name(long.as_bytes()).unwrap(), long.as_str());
    }

    #[test]
    fn more_names_than_slots_stay_right() {
        for round in 0..2 {
            for i in 0..5000 {
                let name = format!("x-{i}-{round}");
                assert_eq!(header_name(name.as_bytes()).unwrap(), name.as_str());
            }
        }
    }
}
