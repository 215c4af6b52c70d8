//! Where we differ from Envoy on purpose. The reasons are rows of `docs/differences.md`, by `id`.

use crate::observe::{Differing, is_meant};

/// One difference, as the cases show it.
pub struct Difference {
    /// The row of `docs/differences.md`.
    pub id: &'static str,
    pub group: &'static str,
    /// Which cases show it; `*` at either end.
    pub cases: &'static [&'static str],
    /// In which fields; `*` at either end.
    pub fields: &'static [&'static str],
}

impl Difference {
    pub fn covers(&self, found: &Differing) -> bool {
        self.cases.iter().any(|case| is_meant(case, &found.case))
            && self.fields.iter().any(|field| is_meant(field, &found.field))
    }
}

pub static ON_PURPOSE: &[Difference] = &[
    Difference { id: "tunnel-half-close", group: "upgrades", cases: &["connect"], fields: &["raw.2"] },
    Difference { id: "tunnel-half-close", group: "upgrades", cases: &["log access.log"], fields: &["line 028"] },
    Difference {
        id: "connect-length",
        group: "upgrades",
        cases: &["connect forwarded to http1"],
        fields: &["0.header.content-length"],
    },
    Difference { id: "upgrade-spelling", group: "upgrades", cases: &["websocket*"], fields: &["0.header.connection"] },
];
