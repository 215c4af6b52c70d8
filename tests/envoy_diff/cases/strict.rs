//! What Envoy takes, or answers with another status, and we refuse: every field of these may differ, by a rule of
//! `differences.rs`. What is compared is that the rest of the group goes on working, and that they still differ.

use super::bad_heads::{STRICT, all};
use crate::group::{Group, raw};

pub fn group() -> Group {
    let mut group = all("strict");
    group.cases.retain(|case| STRICT.contains(&case.id.as_str()));
    group.cases.push(raw("rewritten-host", "GET /rewritten/path HTTP/1.1\r\nHost: a\r\n\r\n"));
    group
}
