use super::*;

/// The tree as compact JSON, numbers as written.
fn shown(node: Node<'_>) -> String {
    match node.value() {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(text) => text.into(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(",")),
        Value::Object(object) => {
            let pairs: Vec<_> = object.iter().map(|(k, v)| format!("{}:{}", shown(k), shown(v))).collect();
            format!("{{{}}}", pairs.join(","))
        }
    }
}

fn yaml(text: &str) -> String {
    match parse(text, Format::Yaml) {
        Ok(tree) => shown(tree.root()),
        Err(problem) => format!("{problem}"),
    }
}

fn json(text: &str) -> String {
    match parse(text, Format::Json) {
        Ok(tree) => shown(tree.root()),
        Err(problem) => format!("{problem}"),
    }
}

#[test]
fn json_values() {
    assert_eq!(
        json(r#" {"a" : [1, -0.5e+3, true,false,null, "x"], "b":{}, "c":[]} "#),
        r#"{"a":[1,-0.5e+3,true,false,null,"x"],"b":{},"c":[]}"#
    );
    assert_eq!(json(r#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00z""#), "\"a\\\"\\\\/\\u{8}\\u{c}\\n\\r\\té😀z\"");
    assert_eq!(json("\u{feff}{}"), "{}");
}

#[test]
fn json_that_is_not_json() {
    for (text, message) in [
        ("", "1:1: expected a JSON value, got the end of the text"),
        ("{\"a\":1,}", "1:8: expected a key in double quotes, got '}'"),
        ("[1,]", "1:4: expected a JSON value, got ']'"),
        ("{'a':1}", "1:2: expected a key in double quotes, got '''"),
        ("{\"a\" 1}", "1:6: expected ':' after the key, got '1'"),
        ("{\n \"a\":1\n \"b\":2}", "3:2: expected ',' or '}', got '\"'"),
        ("01", "1:2: expected the end of the number, got '1'"),
        ("1.", "1:3: expected a digit, got the end of the text"),
        ("+1", "1:1: expected a JSON value, got '+'"),
        ("nul", "1:1: expected a JSON value, got 'n'"),
        ("truely", "1:1: expected a JSON value, got 't'"),
        ("1 2", "1:3: expected the end of the text after the value, got '2'"),
        ("\"a\nb\"", "1:3: expected control characters in a string escaped, got the control character U+000A"),
        ("\"abc", "1:1: expected '\"' at the end of the string, got the end of the text"),
        ("\"\\x\"", "1:3: expected one of"),
        ("\"\\u12g4\"", "1:4: expected four hexadecimal digits after \\u, got '1'"),
        ("\"\\ud800\"", "1:2: expected both halves of a surrogate pair, got one half"),
        ("\"\\ud800\\u0041\"", "1:2: expected both halves of a surrogate pair, got one half"),
        ("{\"a\":1,\"a\":2}", "1:8: expected each key of an object once, got \"a\" a second time"),
        ("// c\n1", "1:1: expected a JSON value, got '/'"),
    ] {
        let got = json(text);
        assert!(got.starts_with(message), "{text:?} gave {got}");
    }
}

#[test]
fn duplicates_are_found_in_large_objects_too() {
    let mut text: String = (0..100).map(|i| format!("\"k{i}\":{{\"x\":[{i}]}},\n")).collect();
    text = format!("{{{text}\"k42\":0}}");
    assert!(json(&text).starts_with("101:1: expected each key of an object once, got \"k42\" a second time"));
}

#[test]
fn nesting_is_limited() {
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(json(&nested(200)).starts_with("[["));
    assert!(json(&nested(100_000)).starts_with("1:202: expected at most 200 levels"), "{}", json(&nested(100_000)));
    assert!(yaml(&nested(200)).starts_with("[["));
    assert!(yaml(&nested(100_000)).contains("expected"));
    assert!(yaml(&"- ".repeat(100_000)).contains("at most 200 levels"));
}

/// Observed with Envoy 1.40: `node.metadata` as `/server_info` shows it.
#[test]
fn yaml_scalars_are_those_of_envoy() {
    for (text, value) in [
        ("yes", "true"),
        ("no", "false"),
        ("on", "true"),
        ("off", "false"),
        ("y", "true"),
        ("N", "false"),
        ("Yes", "true"),
        ("TRUE", "true"),
        ("tRUE", "\"tRUE\""),
        ("010", "8"),
        ("-010", "-8"),
        ("08", "\"08\""),
        ("0x1F", "31"),
        ("0X1f", "31"),
        ("-0x10", "-16"),
        ("0x", "\"0x\""),
        ("0o17", "\"0o17\""),
        ("0b11", "\"0b11\""),
        ("1_000", "\"1_000\""),
        ("+5", "5"),
        ("-6", "-6"),
        ("0", "0"),
        ("1.5", "\"1.5\""),
        ("1e3", "\"1e3\""),
        ("2147483647", "2147483647"),
        ("2147483648", "\"2147483648\""),
        ("-2147483649", "\"-2147483649\""),
        ("9223372036854775808", "\"9223372036854775808\""),
        ("0xFFFFFFFFFF", "\"1099511627775\""),
        (".inf", "\".inf\""),
        ("12:30", "\"12:30\""),
        ("2020-01-01", "\"2020-01-01\""),
        ("\" 5\"", "\" 5\""),
        ("'yes'", "\"yes\""),
        ("\"\"", "\"\""),
        ("!!str 5", "5"),
        ("!!int \"7\"", "7"),
        ("!!bool \"yes\"", "true"),
        ("! 5", "\"5\""),
        ("! \"\"", "\"\""),
        ("!foo 5", "5"),
        ("!!str null", "\"null\""),
        ("!!null \"\"", "\"\""),
        ("!!str", "\"\""),
        ("~", "null"),
        ("null", "null"),
        ("Null", "null"),
        ("NULL", "null"),
        ("nULL", "\"nULL\""),
        ("", "null"),
        ("|\n  a\n  b\n", "\"a\\nb\\n\""),
        (">-\n  a\n  b\n", "\"a b\""),
        ("|-\n  5\n", "\"5\""),
        ("\"\\u00e9\\x7f\\t\\U0001F600\"", "\"é\\u{7f}\\t😀\""),
    ] {
        assert_eq!(yaml(&format!("k: {text}")), format!("{{\"k\":{value}}}"), "{text}");
    }
}

#[test]
fn yaml_keys_are_strings() {
    assert_eq!(yaml("1: a\ntrue: b\n~: c\n'': d"), r#"{"1":"a","true":"b","null":"c","":"d"}"#);
    assert!(yaml("? [1, 2]\n: 3").starts_with("1:3: expected a key that is a plain or quoted text"));
}

#[test]
fn yaml_anchors_aliases_and_merge_keys() {
    assert_eq!(
        yaml("a: &x {b: 1, l: [1, 2]}\nc: *x\nd: &y 5\ne: [*y, *y]"),
        r#"{"a":{"b":1,"l":[1,2]},"c":{"b":1,"l":[1,2]},"d":5,"e":[5,5]}"#
    );
    assert_eq!(
        yaml("a: &a {x: 1, y: {z: 2}}\nb: &b {x: 3, w: 4}\nc:\n  <<: *a\n  x: 9\n  q: 7\nd: {<<: [*b, *a]}"),
        r#"{"a":{"x":1,"y":{"z":2}},"b":{"x":3,"w":4},"c":{"x":9,"q":7,"y":{"z":2}},"d":{"x":3,"w":4,"y":{"z":2}}}"#
    );
    // An anchor on a mapping that merges holds the merged one.
    assert_eq!(
        yaml("a: &a {x: 1}\nb: &b {<<: *a, y: &n {k: 2}}\nc: *b\nd: *n"),
        r#"{"a":{"x":1},"b":{"y":{"k":2},"x":1},"c":{"y":{"k":2},"x":1},"d":{"k":2}}"#
    );
    assert_eq!(yaml("a: {'<<': {x: 1}}"), r#"{"a":{"<<":{"x":1}}}"#);
    assert!(yaml("a: &a {b: *a}").contains("expected an alias of a finished node"), "{}", yaml("a: &a {b: *a}"));
    assert!(yaml("a: *nope").contains("expected well-formed YAML"));
    assert!(yaml("a: {<<: 5}").starts_with("1:9: expected an object, or a list of objects, after '<<'"));
    assert!(yaml("a: &a {x: 1}\nb: {<<: *a, y: 1, y: 2}").contains("each key of an object once"));
}

#[test]
fn yaml_cannot_explode() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let item = format!("*a{}, ", i - 1);
        text += &format!("a{i}: &a{i} [{}]\n", item.repeat(10));
    }
    assert!(yaml(&text).contains("values by anchors and aliases"));
}

#[test]
fn yaml_that_is_refused() {
    for (text, message) in [
        ("a: 1\n---\na: 2", "2:1: expected one YAML document, got a second one"),
        ("a: 1\na: 2", "2:1: expected each key of an object once, got \"a\" a second time"),
        ("a:\n  b: 1\n c: 2", "3:2: expected well-formed YAML"),
        ("a: [1, 2", "expected well-formed YAML"),
        ("a: 'x", "expected well-formed YAML"),
    ] {
        let got = yaml(text);
        assert!(got.contains(message), "{text:?} gave {got}");
    }
    assert_eq!(yaml(""), "null");
    assert_eq!(yaml("# only a comment\n"), "null");
    assert_eq!(yaml("---\na: 1\n...\n"), r#"{"a":1}"#);
}

#[test]
fn nodes_know_their_place() {
    let text = "# ü comment\nétat: &x\n  - name: \"ünö\"  # ß\n    kind: 5\n  - { a: [1,\n     zwei] }\nlast: *x\n";
    let tree = parse(text, Format::Yaml).unwrap();
    let place = |path: &str| {
        let Position { line, column } = tree.locate(path).position().unwrap();
        (line, column)
    };
    assert_eq!(place("état"), (3, 3));
    assert_eq!(place("état[0].name"), (3, 11));
    assert_eq!(place("état[0].kind"), (4, 11));
    assert_eq!(place("état[1].a[1]"), (6, 6));
    // The closest node that exists.
    assert_eq!(place("état[1].b"), (5, 5));
    assert_eq!(place("last[0].kind"), (4, 11));

    let text = "{\"staticResources\": {\"x\": [\r\n {\"é\": 1, \"a.b\": 2}]}}";
    let tree = parse(text, Format::Json).unwrap();
    let Position { line, column } = tree.locate("static_resources.x[0][\"a.b\"]").position().unwrap();
    assert_eq!((line, column), (2, 18));
}

#[test]
fn auto_takes_json_that_is_json_and_yaml_otherwise() {
    let auto = |text: &str| match parse(text, Format::Auto) {
        Ok(tree) => shown(tree.root()),
        Err(problem) => format!("{problem}"),
    };
    assert_eq!(auto("  {\"a\": 3000000000}"), "{\"a\":3000000000}");
    assert_eq!(auto("a: 3000000000"), "{\"a\":\"3000000000\"}");
    assert_eq!(auto("{a: yes}"), "{\"a\":true}");
    assert!(
        auto("{\"a\": 1,\n \"b\": [1 2]\n \"c\": 3}").starts_with("2:"),
        "{}",
        auto("{\"a\": 1,\n \"b\": [1 2]\n \"c\": 3}")
    );
}

#[test]
fn messages_show_the_line() {
    let got = json("{\"a\": 1,\n\t\"b\": @}");
    assert_eq!(got, "2:7: expected a JSON value, got '@'\n    \t\"b\": @}\n    \t     ^");
    let long = format!("{{\"a\": \"{}\", @}}", "x".repeat(500));
    let shown = json(&long);
    assert!(shown.lines().all(|l| l.chars().count() < 140), "{shown}");
    let mut lines = shown.lines().skip(1);
    let (source, caret) = (lines.next().unwrap(), lines.next().unwrap());
    assert_eq!(source.chars().nth(caret.chars().count() - 1), Some('@'));
}

#[test]
fn the_tree_is_thrifty() {
    let mut text = String::from("[");
    for i in 0..10_000 {
        text +=
            &format!("{{\"name\": \"cluster-{i}\", \"type\": \"EDS\", \"connect_timeout\": \"1s\", \"n\": {i}}},\n");
    }
    text += "{}]";
    let tree = parse(&text, Format::Json).unwrap();
    assert!(tree.heap_size() < text.len() * 3 / 2, "{} for {}", tree.heap_size(), text.len());
}

mod any_input {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn never_panics(text in "\\PC*") {
            for format in [Format::Json, Format::Yaml, Format::Auto] {
                match parse(&text, format) {
                    Ok(tree) => { shown(tree.root()); }
                    Err(problem) => { problem.to_string(); }
                }
            }
        }

        #[test]
        fn never_panics_on_what_looks_like_yaml(text in "([-a-c:&*!?|>{}\\[\\], #'\"\\\\~<%@\n]|\n  |: |<<: |é)*") {
            for format in [Format::Json, Format::Yaml, Format::Auto] {
                match parse(&text, format) {
                    Ok(tree) => { shown(tree.root()); }
                    Err(problem) => { problem.to_string(); }
                }
            }
        }
    }
}
