use xds_protos::envoy::r#type::matcher::v3 as pb;
use xds_protos::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

use super::{Regex, RegexSubstitution, StringMatcher};
use crate::config::Path;

fn build(pattern: MatchPattern, ignore_case: bool) -> Result<StringMatcher, String> {
    let proto = pb::StringMatcher { ignore_case, match_pattern: Some(pattern) };
    StringMatcher::build(&proto, &Path::root("m")).map_err(|r| r.to_string())
}

fn regex(text: &str) -> pb::RegexMatcher {
    pb::RegexMatcher { regex: text.into(), engine_type: None }
}

#[test]
fn text_matchers_compare_bytes_and_ascii_case_only() {
    type Values = &'static [&'static str];
    // Pattern, what always matches, what matches when case is ignored, what never matches.
    let cases: &[(MatchPattern, Values, Values, Values)] = &[
        (MatchPattern::Exact("aB".into()), &["aB"], &["ab", "AB"], &["", "aBc", "a"]),
        (MatchPattern::Exact("".into()), &[""], &[], &["a"]),
        (MatchPattern::Prefix("aB".into()), &["aB", "aBc"], &["AB", "abc"], &["", "a", "xaB"]),
        (MatchPattern::Suffix("aB".into()), &["aB", "caB"], &["ab", "cAB"], &["", "B", "aBx"]),
        (MatchPattern::Contains("aB".into()), &["aB", "caBd"], &["cabd"], &["", "a B"]),
        (MatchPattern::Exact("É".into()), &["É"], &[], &["é"]),
    ];
    for (pattern, always, folded, never) in cases {
        let minds = build(pattern.clone(), false).unwrap();
        let ignores = build(pattern.clone(), true).unwrap();
        for value in *always {
            assert!(minds.matches(value.as_bytes()) && ignores.matches(value.as_bytes()), "{minds:?} {value:?}");
        }
        for value in *folded {
            assert!(!minds.matches(value.as_bytes()) && ignores.matches(value.as_bytes()), "{minds:?} {value:?}");
        }
        for value in *never {
            assert!(!minds.matches(value.as_bytes()) && !ignores.matches(value.as_bytes()), "{minds:?} {value:?}");
        }
    }
}

#[test]
fn ignore_case_has_no_effect_on_a_regex() {
    let matcher = build(MatchPattern::SafeRegex(regex("a+")), true).unwrap();
    assert!(matcher.matches(b"aa") && !matcher.matches(b"AA"));
}

#[test]
fn bad_matchers_are_refused_with_their_path() {
    let custom = xds_protos::xds::core::v3::TypedExtensionConfig { name: "lua".into(), typed_config: None };
    let cases = [
        (MatchPattern::Prefix(String::new()), "m.prefix: expected at least one character"),
        (MatchPattern::Suffix(String::new()), "m.suffix: expected at least one character"),
        (MatchPattern::Contains(String::new()), "m.contains: expected at least one character"),
        (MatchPattern::SafeRegex(regex("")), "m.safe_regex.regex: expected a regular expression, got an empty string"),
        (
            MatchPattern::SafeRegex(regex("a**")),
            "m.safe_regex.regex: expected a regular expression of RE2, got \"a**\": * after another repetition",
        ),
        (MatchPattern::Custom(custom), "m.custom: string matcher extension \"lua\" is not known"),
    ];
    for (pattern, message) in cases {
        assert_eq!(build(pattern, false).unwrap_err(), message);
    }
    let none = pb::StringMatcher { ignore_case: false, match_pattern: None };
    let reject = StringMatcher::build_all(&[none], &Path::root("list")).unwrap_err();
    assert_eq!(reject.path, "list[0]");
}

/// Pattern, value, and whether RE2 (2025) matches it fully with default options.
const RE2_MATCHES: &[(&str, &[u8], bool)] = &[
    ("a|ab", b"ab", true),
    ("b", b"abc", false),
    (".*", b"/a", true),
    (".*", b"a\nb", false),
    ("(?s).*", b"a\nb", true),
    (".*", b"/a\xff", false),
    ("[^/]*", b"a\xff", false),
    (r"\C*", b"a\xff\n", true),
    (".", "é".as_bytes(), true),
    ("[^a]", b"\n", true),
    (r"\_\<\-\ ", b"_<- ", true),
    (r"\s", b"\x0b", false),
    (r"[[:space:]]", b"\x0b", true),
    (r"\d\w\s", b"1a ", true),
    (r"\d", "٣".as_bytes(), false),
    (r"\w", "é".as_bytes(), false),
    (r"[\d\s]+", b"1 2", true),
    (r"[^\W_]+", b"ab1", true),
    (r"[^\W_]+", b"a_b", false),
    ("(?i)k", "\u{212a}".as_bytes(), true),
    ("x{,3}", b"x{,3}", true),
    ("a{01}", b"a{01}", true),
    ("a{1 }", b"a{1 }", true),
    ("a{99999999999}", b"a{99999999999}", true),
    ("a{0}", b"", true),
    ("a{2,3}?", b"aaa", true),
    ("a{2,}", b"aaaa", true),
    ("a{1,}{", b"a{", true),
    ("{}]", b"{}]", true),
    (r"\141\060\0", b"a0\0", true),
    (r"\12", b"\n", true),
    (r"\07", b"\x07", true),
    (r"[\141]", b"a", true),
    (r"\x41\x{42}\x{00043}", b"ABC", true),
    ("[a&&b]", b"&", true),
    ("[a-b-c]", b"-", true),
    ("[]a]", b"]", true),
    ("[^]a]", b"b", true),
    ("[[a]", b"[", true),
    ("[a-]", b"-", true),
    ("[--0]", b".", true),
    ("[[.a.]]", b".]", true),
    ("[[:alpha:][:digit:]]+", b"a1", true),
    ("[[:^alpha:]]", b"1", true),
    (r"\Qa.b*", b"a.b*", true),
    (r"\Qab\E+", b"abb", true),
    (r"(?P<1a>x)(?<b>y)(?P<1a>z)", b"xyz", true),
    ("(?i-s:A.)b", b"a.b", true),
    ("(?i-s:A.)b", b"a.B", false),
    ("(?U)a+", b"aa", true),
    ("(|a)*", b"aa", true),
    (r"\pL\p{^L}\P{^L}\p{Greek}", "é1aα".as_bytes(), true),
    (r"\bfoo\b.*\Bx", b"foo ax", true),
    (r"\b{start}", b"x", false),
    ("^*a$", b"a", true),
    (r"\Aa\z", b"a", true),
    ("$a", b"a", false),
    ("(?m)a$\n^b", b"a\nb", true),
    (r"\a\f\t\n\r\v", b"\x07\x0c\t\n\r\x0b", true),
    (" #x", b" #x", true),
];

#[test]
fn patterns_mean_what_they_mean_to_re2() {
    for (pattern, value, expected) in RE2_MATCHES {
        let regex = Regex::new(pattern).unwrap();
        assert_eq!(regex.matches(value), *expected, "{pattern:?} on {value:?}");
    }
}

#[test]
fn patterns_that_re2_refuses_are_refused() {
    let bad = [
        "",
        "a**",
        "a{2}{3}",
        "a?+",
        "a{1001}",
        "((a{100}){100})",
        "a{2,1}",
        "(?x)a b",
        "(?i)*",
        "*",
        "a|*",
        "(*)",
        "+a",
        "(",
        ")",
        "(?",
        "(?i",
        "(?-)a",
        "(?i-)a",
        "(?=a)",
        "(?!a)",
        "(?<=a)",
        "(?P=n)",
        "(?P<>a)",
        "[",
        "[]",
        "[b-a]",
        r"[a-\d]",
        "[[:foo:]]",
        r"[\Q]\E]",
        r"[\b]",
        r"[\C]",
        r"\8",
        r"\1",
        r"\x4",
        r"\xzz",
        r"\x{110000}",
        r"\x{}",
        r"\é",
        r"\E",
        r"\k",
        r"\Z",
        r"\G",
        r"\Q\E*",
        r"[\Pd]",
        r"\p",
        r"\p{L",
        "a\\",
        "{1}",
        "a|{1}",
    ];
    for pattern in bad {
        assert!(Regex::new(pattern).is_err(), "{pattern:?}");
    }
}

#[test]
fn a_pattern_is_bounded_in_depth_and_size() {
    let nested = |n| format!("{}a{}", "(b|".repeat(n), "c)?".repeat(n));
    assert!(Regex::new(&nested(50)).is_ok());
    assert!(Regex::new(&nested(51)).unwrap_err().contains("nested too deeply"));
    let wide = r"[\p{L}\p{N}]{300}".repeat(20);
    assert!(Regex::new(&wide).unwrap_err().contains("larger than"), "{:?}", Regex::new(&wide).is_ok());
}

fn substitution(pattern: &str, text: &str) -> Result<RegexSubstitution, String> {
    let proto = pb::RegexMatchAndSubstitute { pattern: Some(regex(pattern)), substitution: text.into() };
    RegexSubstitution::build(&proto, &Path::root("rewrite")).map_err(|r| r.to_string())
}

#[test]
fn a_substitution_replaces_every_match() {
    let cases = [
        ("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api", "/v1/api/instance/foo"),
        ("one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"),
        ("^(.*?)one(.*)$", r"\1two\2", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"),
        ("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"),
        ("a(x)?", r"[\1\0\\]", "aax", r"[a\][xax\]"),
        ("x*", "-", "axb", "-a-b-"),
        ("z", "y", "abc", "abc"),
    ];
    for (pattern, text, value, expected) in cases {
        let replaced = substitution(pattern, text).unwrap().replace_all(value.as_bytes()).into_owned();
        assert_eq!(String::from_utf8(replaced).unwrap(), expected, "{pattern:?}");
    }
}

#[test]
fn a_bad_substitution_is_refused() {
    for text in [r"\2", r"a\", r"\x", "a\nb"] {
        assert!(substitution("(a)", text).unwrap_err().starts_with("rewrite.substitution: expected"), "{text:?}");
    }
    let none = pb::RegexMatchAndSubstitute { pattern: None, substitution: String::new() };
    assert_eq!(RegexSubstitution::build(&none, &Path::root("r")).unwrap_err().path, "r.pattern");
}
