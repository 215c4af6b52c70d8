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

pub static ON_PURPOSE: &[Difference] = &[];
