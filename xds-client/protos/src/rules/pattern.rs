//! The patterns of `validate.rules`: `^[a-z\-]+[^?#]$`, that is, anchored character classes each with `+`, `*` or nothing.
//!
//! The build script refuses the API if it contains another form. A regex engine for the three patterns there are would
//! be the largest part of this crate.

/// Whether the whole text matches.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let pattern = pattern.strip_prefix('^').and_then(|p| p.strip_suffix('$')).unwrap_or(pattern);
    rest_matches(pattern, text)
}

fn rest_matches(pattern: &str, text: &str) -> bool {
    let Some((class, pattern)) = pattern.strip_prefix('[').and_then(|p| p.split_once(']')) else {
        return pattern.is_empty() && text.is_empty();
    };
    let end_of = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(i, _)| i);
    let run = text.chars().take_while(|c| is_in(class, *c)).count();
    let (fewest, pattern) = match pattern.as_bytes().first() {
        Some(b'+') => (1, pattern.get(1..).unwrap_or_default()),
        Some(b'*') => (0, pattern.get(1..).unwrap_or_default()),
        _ if run == 0 => return false,
        _ => return rest_matches(pattern, text.get(end_of(1)..).unwrap_or_default()),
    };
    // Greedy, as it nearly always succeeds at once.
    (fewest..=run).rev().any(|n| rest_matches(pattern, text.get(end_of(n)..).unwrap_or_default()))
}

fn is_in(class: &str, c: char) -> bool {
    let (negated, class) = class.strip_prefix('^').map_or((false, class), |rest| (true, rest));
    let mut chars = class.chars().peekable();
    let mut found = false;
    while let Some(next) = chars.next() {
        let low = if next == '\\' { chars.next().unwrap_or(next) } else { next };
        let mut after = chars.clone();
        let high = match (after.next(), after.next()) {
            (Some('-'), Some(high)) => {
                chars = after;
                high
            }
            _ => low,
        };
        found |= (low..=high).contains(&c);
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn classes_and_repetition() {
        for (pattern, text, result) in [
            (r"^[0-9a-zA-Z_\-\.~:]+$", "a-B.9~:_", true),
            (r"^[0-9a-zA-Z_\-\.~:]+$", "", false),
            (r"^[0-9a-zA-Z_\-\.~:]+$", "a b", false),
            (r"^[0-9a-zA-Z_\-\.~:]+$", "a/b", false),
            (r"^[0-9a-zA-Z_\-\./~:]+$", "a/b", true),
            (r"^[^?#]+[^?#/]$", "/prefix", true),
            (r"^[^?#]+[^?#/]$", "/prefix/", false),
            (r"^[^?#]+[^?#/]$", "/", false),
            (r"^[^?#]+[^?#/]$", "/a", true),
            (r"^[^?#]+[^?#/]$", "/a?b", false),
            (r"^[^?#]+[^?#/]$", "/ä/ö", true),
            (r"^[a]*[b]$", "b", true),
            (r"^[a]*[b]$", "aab", true),
            (r"^[a]*[b]$", "aa", false),
            (r"^[a]*$", "", true),
        ] {
            assert_eq!(matches(pattern, text), result, "{pattern} {text}");
        }
    }
}
