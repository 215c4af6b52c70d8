//! Which virtual host a `Host` belongs to: `VirtualHost.domains`, in Envoy's precedence.
//!
//! Exact names, then the longest `*suffix`, then the longest `prefix*`, then `*`. A wildcard stands for at least one
//! byte, so `*.a.test` does not match `.a.test`. Names are compared without regard to ASCII case.
//!
//! All names lie in one string, and one hash table holds places in it: a mesh's sidecar sees tens of thousands of names,
//! most of them exact, and a request costs one look-up plus one for each distinct length of wildcard.

use std::fmt;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use smallvec::SmallVec;

/// How a name was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainMatch {
    Exact,
    /// `*suffix`
    Suffix,
    /// `prefix*`
    Prefix,
    /// `*`
    Any,
}

#[derive(Clone, Copy)]
struct Entry {
    start: u32,
    len: u32,
    kind: DomainMatch,
    virtual_host: u32,
}

/// The index. Values are positions in the route table's list of virtual hosts.
pub struct Domains {
    names: String,
    table: HashTable<Entry>,
    hash: foldhash::fast::RandomState,
    /// Distinct lengths of suffixes and of prefixes, longest first.
    suffix_lengths: Vec<u32>,
    prefix_lengths: Vec<u32>,
    any: Option<u32>,
}

/// Why a domain cannot be added; the text is Envoy's, without the name of the route table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Duplicate {
    Any,
    Domain(String),
}

impl fmt::Display for Duplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Duplicate::Any => f.write_str("Only a single wildcard domain is permitted"),
            Duplicate::Domain(domain) => {
                write!(f, "Only unique values for domains are permitted. Duplicate entry of domain {domain}")
            }
        }
    }
}

impl Default for Domains {
    fn default() -> Self {
        Domains {
            names: String::new(),
            table: HashTable::new(),
            hash: foldhash::fast::RandomState::default(),
            suffix_lengths: Vec::new(),
            prefix_lengths: Vec::new(),
            any: None,
        }
    }
}

impl Domains {
    /// # Errors
    /// When the domain is there already.
    pub fn insert(&mut self, domain: &str, virtual_host: u32) -> Result<(), Duplicate> {
        let domain = domain.to_ascii_lowercase();
        if domain == "*" {
            return match self.any.replace(virtual_host) {
                None => Ok(()),
                Some(_) => Err(Duplicate::Any),
            };
        }
        let (kind, name) = match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
            (Some(suffix), _) => (DomainMatch::Suffix, suffix),
            (None, Some(prefix)) => (DomainMatch::Prefix, prefix),
            (None, None) => (DomainMatch::Exact, domain.as_str()),
        };
        if self.get(kind, name.as_bytes()).is_some() {
            return Err(Duplicate::Domain(domain));
        }
        let (start, len) = (self.names.len() as u32, name.len() as u32);
        self.names.push_str(name);
        match kind {
            DomainMatch::Suffix => longest_first(&mut self.suffix_lengths, len),
            DomainMatch::Prefix => longest_first(&mut self.prefix_lengths, len),
            DomainMatch::Exact | DomainMatch::Any => {}
        }
        let Domains { names, table, hash, .. } = self;
        let rehash = |e: &Entry| hash.hash_one((e.kind as u8, name_of(names, e)));
        let entry = Entry { start, len, kind, virtual_host };
        table.insert_unique(rehash(&entry), entry, rehash);
        Ok(())
    }

    /// Gives back what growing left over.
    pub fn shrink(&mut self) {
        self.names.shrink_to_fit();
        let Domains { names, table, hash, .. } = self;
        table.shrink_to_fit(|e| hash.hash_one((e.kind as u8, name_of(names, e))));
    }

    /// The virtual host of `host`, which has no port unless ports take part in matching. No allocation, unless a host of
    /// more than 256 bytes has capital letters.
    pub fn find(&self, host: &str) -> Option<(u32, DomainMatch)> {
        if self.table.is_empty() {
            return self.any.map(|v| (v, DomainMatch::Any));
        }
        let mut lower = SmallVec::<[u8; 256]>::new();
        let host = if host.bytes().any(|b| b.is_ascii_uppercase()) {
            lower.extend(host.bytes().map(|b| b.to_ascii_lowercase()));
            lower.as_slice()
        } else {
            host.as_bytes()
        };
        if let Some(found) = self.get(DomainMatch::Exact, host) {
            return Some((found, DomainMatch::Exact));
        }
        let shorter = |len: &usize| *len < host.len();
        for len in self.suffix_lengths.iter().map(|len| *len as usize).filter(shorter) {
            let suffix = host.get(host.len() - len..).unwrap_or_default();
            if let Some(found) = self.get(DomainMatch::Suffix, suffix) {
                return Some((found, DomainMatch::Suffix));
            }
        }
        for len in self.prefix_lengths.iter().map(|len| *len as usize).filter(shorter) {
            if let Some(found) = self.get(DomainMatch::Prefix, host.get(..len).unwrap_or_default()) {
                return Some((found, DomainMatch::Prefix));
            }
        }
        self.any.map(|v| (v, DomainMatch::Any))
    }

    fn get(&self, kind: DomainMatch, name: &[u8]) -> Option<u32> {
        let hash = self.hash.hash_one((kind as u8, name));
        let found = self.table.find(hash, |e| e.kind == kind && name_of(&self.names, e) == name)?;
        Some(found.virtual_host)
    }
}

fn name_of<'a>(names: &'a str, entry: &Entry) -> &'a [u8] {
    names.as_bytes().get(entry.start as usize..(entry.start + entry.len) as usize).unwrap_or_default()
}

fn longest_first(lengths: &mut Vec<u32>, len: u32) {
    if let Err(at) = lengths.binary_search_by(|have| len.cmp(have)) {
        lengths.insert(at, len);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index(domains: &[&str]) -> Domains {
        let mut index = Domains::default();
        for (i, domain) in domains.iter().enumerate() {
            index.insert(domain, i as u32).unwrap();
        }
        index
    }

    #[test]
    fn exact_then_longest_suffix_then_longest_prefix_then_any() {
        let index = index(&["a.test", "*.test", "*.b.test", "www.*", "www.x.*", "*", "*-q.b.test"]);
        for (host, want, how) in [
            ("a.test", 0, DomainMatch::Exact),
            ("A.TEST", 0, DomainMatch::Exact),
            ("c.test", 1, DomainMatch::Suffix),
            ("c.b.test", 2, DomainMatch::Suffix),
            ("c-q.b.test", 6, DomainMatch::Suffix),
            (".b.test", 1, DomainMatch::Suffix),
            ("www.b.test", 2, DomainMatch::Suffix),
            ("www.org", 3, DomainMatch::Prefix),
            ("www.x.org", 4, DomainMatch::Prefix),
            ("www.x.", 3, DomainMatch::Prefix),
            ("www.", 5, DomainMatch::Any),
            ("a.test:80", 5, DomainMatch::Any),
        ] {
            assert_eq!(index.find(host), Some((want, how)), "{host}");
        }
        assert_eq!(index.find(""), Some((5, DomainMatch::Any)));
    }

    #[test]
    fn without_a_default_a_host_may_find_nothing() {
        assert_eq!(index(&["*"]).find("x"), Some((0, DomainMatch::Any)));
        assert_eq!(index(&["a.test", "*.test"]).find("test"), None);
    }

    #[test]
    fn duplicates_are_refused_in_any_case() {
        let mut index = index(&["a.test", "*.b.test", "www.*", "*"]);
        for domain in ["A.test", "*.B.test", "WWW.*"] {
            assert_eq!(index.insert(domain, 9), Err(Duplicate::Domain(domain.to_ascii_lowercase())));
        }
        assert_eq!(index.insert("*", 9), Err(Duplicate::Any));
        assert!(index.insert("b.test", 9).is_ok(), "a suffix and an exact name are different domains");
    }

    /// What the page above says, in the slowest way.
    fn slow(domains: &[String], host: &str) -> Option<usize> {
        let host = host.to_ascii_lowercase();
        let best = |f: &dyn Fn(&str) -> Option<usize>| {
            let found = domains.iter().enumerate().filter_map(|(i, d)| f(&d.to_ascii_lowercase()).map(|len| (len, i)));
            found.max_by_key(|(len, i)| (*len, usize::MAX - i)).map(|(_, i)| i)
        };
        best(&|d| (d == host).then_some(0))
            .or_else(|| {
                let suffix = |d: &str| {
                    d.strip_prefix('*')
                        .filter(|s| !s.is_empty() && s.len() < host.len() && host.ends_with(*s))
                        .map(str::len)
                };
                best(&suffix)
            })
            .or_else(|| {
                let prefix = |d: &str| {
                    (!d.starts_with('*'))
                        .then(|| d.strip_suffix('*'))?
                        .filter(|p| p.len() < host.len() && host.starts_with(*p))
                        .map(str::len)
                };
                best(&prefix)
            })
            .or_else(|| best(&|d| (d == "*").then_some(0)))
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_a_scan(
            domains in prop::collection::btree_set("\\*?[ab.]{1,4}|[ab.]{1,4}\\*|\\*", 1..12),
            hosts in prop::collection::vec("[abA.]{1,6}", 1..20),
        ) {
            let domains: Vec<String> = domains.into_iter().collect();
            let mut index = Domains::default();
            for (i, domain) in domains.iter().enumerate() {
                index.insert(domain, i as u32).unwrap();
            }
            index.shrink();
            for host in hosts {
                prop_assert_eq!(index.find(&host).map(|(v, _)| v as usize), slow(&domains, &host), "{} in {:?}", host, domains);
            }
        }
    }
}
