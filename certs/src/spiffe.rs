//! SPIFFE identities (the SPIFFE-ID document, sections 2.1 to 2.4).
//!
//! A SPIFFE ID is `spiffe://<trust domain>/<path>`. The rules are narrower than those of a URI, on purpose: a trust domain
//! is lower case, nothing is percent-encoded, no user, port, query or fragment, no empty or relative path segment,
//! at most 2048 bytes. Two IDs are the same when their bytes are the same; nothing is ever normalised.

use std::fmt;
use std::str::FromStr;

/// The longest SPIFFE ID, in bytes (SPIFFE-ID 2.3).
pub const MAX_ID_BYTES: usize = 2048;
/// The longest trust domain name, in bytes (SPIFFE-ID 2.3).
pub const MAX_TRUST_DOMAIN_BYTES: usize = 255;

const SCHEME: &str = "spiffe://";

/// Why a string is no SPIFFE ID or trust domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// It does not begin with `spiffe://`.
    #[error("a SPIFFE ID begins with \"spiffe://\"")]
    Scheme,
    /// More than [`MAX_ID_BYTES`] or [`MAX_TRUST_DOMAIN_BYTES`].
    #[error("{what} has {len} bytes, at most {max} are allowed")]
    TooLong {
        /// "SPIFFE ID" or "trust domain".
        what: &'static str,
        /// Its length.
        len: usize,
        /// What is allowed.
        max: usize,
    },
    /// `spiffe:///path`.
    #[error("the trust domain is empty")]
    EmptyTrustDomain,
    /// Upper case, a port, a user, anything but `[a-z0-9._-]`.
    #[error("character {0:?} is not allowed in a trust domain (a-z, 0-9, '.', '-', '_' are)")]
    TrustDomainChar(char),
    /// A percent sign, a query, a fragment, anything but `[a-zA-Z0-9._-]` and `/`.
    #[error("character {0:?} is not allowed in the path of a SPIFFE ID (a-z, A-Z, 0-9, '.', '-', '_', '/' are)")]
    PathChar(char),
    /// `//` or a `/` at the end.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `.` or `..`.
    #[error("the path has a relative segment")]
    RelativeSegment,
}

/// The name of a trust domain: `cluster.local`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Takes a bare trust domain name; an ID is taken apart by [`SpiffeId::parse`].
    pub fn parse(name: &str) -> Result<Self, SpiffeError> {
        check_trust_domain(name)?;
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeError;

    fn from_str(s: &str) -> Result<Self, SpiffeError> {
        Self::parse(s)
    }
}

/// A SPIFFE ID that has been checked: `spiffe://cluster.local/ns/default/sa/client`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    id: String,
    /// Where the path begins, at its `/`, or the length of `id`.
    path_at: usize,
}

impl SpiffeId {
    /// Checks `id` against the SPIFFE-ID document.
    pub fn parse(id: &str) -> Result<Self, SpiffeError> {
        if id.len() > MAX_ID_BYTES {
            return Err(SpiffeError::TooLong { what: "SPIFFE ID", len: id.len(), max: MAX_ID_BYTES });
        }
        let rest = id.strip_prefix(SCHEME).ok_or(SpiffeError::Scheme)?;
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        check_trust_domain(domain)?;
        check_path(path)?;
        Ok(Self { id: id.to_owned(), path_at: SCHEME.len() + domain.len() })
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.id
    }

    /// The name of the trust domain.
    pub fn trust_domain(&self) -> &str {
        self.id.get(SCHEME.len()..self.path_at).unwrap_or_default()
    }

    /// The path with its leading `/`, or nothing for the ID of a trust domain itself.
    pub fn path(&self) -> &str {
        self.id.get(self.path_at..).unwrap_or_default()
    }

    /// Whether the trust domain is this one.
    pub fn is_member_of(&self, domain: &TrustDomain) -> bool {
        self.trust_domain() == domain.as_str()
    }

    /// Whether a workload may bear it: the ID of a bare trust domain names a signing authority (X.509-SVID 5.2).
    pub fn names_a_workload(&self) -> bool {
        !self.path().is_empty()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(s: &str) -> Result<Self, SpiffeError> {
        Self::parse(s)
    }
}

fn check_trust_domain(name: &str) -> Result<(), SpiffeError> {
    if name.is_empty() {
        return Err(SpiffeError::EmptyTrustDomain);
    }
    if name.len() > MAX_TRUST_DOMAIN_BYTES {
        return Err(SpiffeError::TooLong { what: "trust domain", len: name.len(), max: MAX_TRUST_DOMAIN_BYTES });
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    match name.chars().find(|c| !allowed(*c)) {
        Some(c) => Err(SpiffeError::TrustDomainChar(c)),
        None => Ok(()),
    }
}

fn check_path(path: &str) -> Result<(), SpiffeError> {
    let Some(segments) = path.strip_prefix('/') else {
        return Ok(());
    };
    for segment in segments.split('/') {
        match segment {
            "" => return Err(SpiffeError::EmptySegment),
            "." | ".." => return Err(SpiffeError::RelativeSegment),
            _ => {}
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if let Some(c) = segment.chars().find(|c| !allowed(*c)) {
            return Err(SpiffeError::PathChar(c));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_apart() {
        let id = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/client").unwrap();
        assert_eq!((id.trust_domain(), id.path()), ("cluster.local", "/ns/default/sa/client"));
        assert!(id.names_a_workload());
        assert!(id.is_member_of(&TrustDomain::parse("cluster.local").unwrap()));
        assert!(!id.is_member_of(&TrustDomain::parse("cluster.loca").unwrap()));
        let root = SpiffeId::parse("spiffe://a_b-c.9").unwrap();
        assert_eq!((root.trust_domain(), root.path(), root.names_a_workload()), ("a_b-c.9", "", false));
    }

    #[test]
    fn what_the_document_forbids_is_refused() {
        let cases = [
            ("", SpiffeError::Scheme),
            ("SPIFFE://a/b", SpiffeError::Scheme),
            ("spiffe:/a/b", SpiffeError::Scheme),
            ("https://a/b", SpiffeError::Scheme),
            ("spiffe://", SpiffeError::EmptyTrustDomain),
            ("spiffe:///b", SpiffeError::EmptyTrustDomain),
            ("spiffe://Cluster.local/b", SpiffeError::TrustDomainChar('C')),
            ("spiffe://a:80/b", SpiffeError::TrustDomainChar(':')),
            ("spiffe://u@a/b", SpiffeError::TrustDomainChar('@')),
            ("spiffe://a%41/b", SpiffeError::TrustDomainChar('%')),
            ("spiffe://a?q", SpiffeError::TrustDomainChar('?')),
            ("spiffe://a/", SpiffeError::EmptySegment),
            ("spiffe://a/b/", SpiffeError::EmptySegment),
            ("spiffe://a//b", SpiffeError::EmptySegment),
            ("spiffe://a/./b", SpiffeError::RelativeSegment),
            ("spiffe://a/../b", SpiffeError::RelativeSegment),
            ("spiffe://a/%62", SpiffeError::PathChar('%')),
            ("spiffe://a/b?c", SpiffeError::PathChar('?')),
            ("spiffe://a/b#c", SpiffeError::PathChar('#')),
            ("spiffe://a/b\0", SpiffeError::PathChar('\0')),
            ("spiffe://a/b ", SpiffeError::PathChar(' ')),
            ("spiffe://a/ü", SpiffeError::PathChar('ü')),
        ];
        for (id, why) in cases {
            assert_eq!(SpiffeId::parse(id), Err(why), "{id:?}");
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let longest = format!("spiffe://a/{}", "b".repeat(MAX_ID_BYTES - 11));
        assert!(SpiffeId::parse(&longest).is_ok());
        assert!(matches!(SpiffeId::parse(&format!("{longest}b")), Err(SpiffeError::TooLong { len: 2049, .. })));
        assert!(TrustDomain::parse(&"a".repeat(255)).is_ok());
        assert!(matches!(TrustDomain::parse(&"a".repeat(256)), Err(SpiffeError::TooLong { max: 255, .. })));
    }

    #[test]
    fn ids_compare_as_bytes() {
        let a = SpiffeId::parse("spiffe://a/B").unwrap();
        assert_ne!(a, SpiffeId::parse("spiffe://a/b").unwrap());
        assert_eq!(a.to_string(), "spiffe://a/B");
    }
}
