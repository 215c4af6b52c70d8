//! Looking for header fields that are mostly absent.
//!
//! `HeaderMap` hashes a name to look for it, which for a name of our own costs more than to compare it with the few that
//! a message has: names of different lengths differ at once.

use http::{HeaderMap, HeaderName, HeaderValue};

/// From so many names on a look-up is the better way.
const MANY: usize = 24;

/// The first value of the field.
pub fn find<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    if headers.keys_len() > MANY {
        return headers.get(name);
    }
    headers.iter().find_map(|(known, value)| (known == name).then_some(value))
}

pub fn has(headers: &HeaderMap, name: &HeaderName) -> bool {
    find(headers, name).is_some()
}

/// A number as a value. The small ones, which most are, take no memory.
pub fn decimal(n: u64) -> HeaderValue {
    const SMALL: [&str; 20] =
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19"];
    let small = usize::try_from(n).ok().and_then(|n| SMALL.get(n));
    small.map_or_else(|| HeaderValue::from(n), |text| HeaderValue::from_static(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_among_few_and_many() {
        let wanted = HeaderName::from_static("x-envoy-internal");
        let mut headers = HeaderMap::new();
        for extra in [0, 5, 40] {
            for i in 0..extra {
                headers.append(HeaderName::try_from(format!("x-{i}")).unwrap(), HeaderValue::from_static("v"));
            }
            assert_eq!(find(&headers, &wanted), None);
            headers.append(&wanted, HeaderValue::from_static("first"));
            headers.append(&wanted, HeaderValue::from_static("second"));
            assert_eq!(find(&headers, &wanted).unwrap(), "first");
            headers.remove(&wanted);
        }
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for n in [0, 9, 10, 19, 20, 21, 15_000, u64::MAX] {
            assert_eq!(decimal(n), n.to_string().as_str());
        }
    }
}
