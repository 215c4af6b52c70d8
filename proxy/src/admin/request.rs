//! Requests to the admin interface.

use std::borrow::Cow;

use http::Method;

use super::AdminContext;

/// A request whose body, if it matters, has been read.
pub struct Request<'a> {
    pub cx: &'a AdminContext,
    pub method: &'a Method,
    /// Path and query, with repeated slashes merged.
    pub target: &'a str,
    pub path: &'a str,
    pub query: Query,
    /// The fields of a form, from the body.
    pub form: Query,
}

impl<'a> Request<'a> {
    /// `target` is what [`merge_slashes`] gave; `form` is the body of a form, or empty.
    pub fn new(cx: &'a AdminContext, method: &'a Method, target: &'a str, form: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self { cx, method, target, path, query: Query::parse(query), form: Query::parse(form) }
    }
}

/// Path and query with runs of slashes in the path made one.
pub fn merge_slashes(target: &str) -> Cow<'_, str> {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    if !path.contains("//") {
        return Cow::Borrowed(target);
    }
    let mut merged = String::with_capacity(target.len());
    for c in path.chars() {
        if c != '/' || !merged.ends_with('/') {
            merged.push(c);
        }
    }
    Cow::Owned(merged + query)
}

/// Query parameters in order. Anything that is not `=`, `&` or an escape is taken as it is, so regular expressions need no
/// escaping; a `+` is a plus.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self(pairs.map(|(name, value)| (decode(name), decode(value))).collect())
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

/// Undoes percent-encoding; a `%` that begins no escape stays.
fn decode(text: &str) -> String {
    let mut bytes = text.as_bytes().iter();
    let mut out = Vec::with_capacity(text.len());
    while let Some(&byte) = bytes.next() {
        let hex = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16));
        let rest = bytes.as_slice();
        match (byte, hex(rest.first()), hex(rest.get(1))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                bytes.nth(1);
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_taken_as_they_come() {
        let query = Query::parse(r"usedonly&filter=^(a|b\.c)$&x=1&x=2&y=a%20b+c%zz%&=v&f=a=b");
        assert!(query.has("usedonly"));
        assert_eq!(query.get("filter"), Some(r"^(a|b\.c)$"));
        assert_eq!(query.get("x"), Some("1"));
        assert_eq!(query.get("y"), Some("a b+c%zz%"));
        assert_eq!(query.get(""), Some("v"));
        assert_eq!(query.get("f"), Some("a=b"));
        assert_eq!(query.get("z"), None);
    }

    #[test]
    fn slashes_merge_in_the_path_only() {
        assert_eq!(merge_slashes("//stats///prometheus?a=//"), "/stats/prometheus?a=//");
        assert_eq!(merge_slashes("/ready"), "/ready");
    }
}
