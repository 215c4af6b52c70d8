use super::*;

fn mutations(add: &str, remove: &[&str]) -> Result<HeaderMutations, String> {
    let route: route::Route = from_yaml(&format!("request_headers_to_add: [{add}]"));
    let remove: Vec<String> = remove.iter().map(|name| (*name).to_owned()).collect();
    HeaderMutations::build((&route.request_headers_to_add, &Path::root("add")), (&remove, &Path::root("remove")))
        .map_err(|reject| reject.to_string())
}

fn applied(add: &str, remove: &[&str], headers: &[(&str, &str)]) -> HeaderMap {
    let mut head = get("a.test", "/p?b=%41%0a", headers);
    mutations(add, remove).unwrap().apply_to_request(&mut head, &info());
    head.headers
}

#[test]
fn the_four_actions() {
    let add = |key: &str, action: &str| format!("{{header: {{key: {key}, value: New}}, append_action: {action}}}");
    let add = ["APPEND_IF_EXISTS_OR_ADD", "ADD_IF_ABSENT", "OVERWRITE_IF_EXISTS_OR_ADD", "OVERWRITE_IF_EXISTS"]
        .iter()
        .flat_map(|action| {
            [add(&format!("has-{}", &action[..9]), action), add(&format!("not-{}", &action[..9]), action)]
        })
        .collect::<Vec<_>>();
    // The two that overwrite begin alike.
    let add = add.join(", ").replacen("has-OVERWRITE", "has-SET", 1).replacen("not-OVERWRITE", "not-SET", 1);
    let had =
        [("has-append_if", "a"), ("has-add_if_ab", "a"), ("has-set", "a"), ("has-set", "b"), ("has-overwrite", "a")];
    let headers = applied(&add, &[], &had);
    for (name, want) in [
        ("has-append_if", "a|New"),
        ("not-append_if", "New"),
        ("has-add_if_ab", "a"),
        ("not-add_if_ab", "New"),
        ("has-set", "New"),
        ("not-set", "New"),
        ("has-overwrite", "New"),
        ("not-overwrite", ""),
    ] {
        assert_eq!(values(&headers, name), want, "{name}");
    }
}

#[test]
fn removal_comes_first_and_values_are_of_what_was_there() {
    let add = "{header: {key: x-a, value: '%REQ(x-a)%+'}}, {header: {key: x-b, value: '%REQ(x-a)%'}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}, \
               {header: {key: x-c, value: '%REQ(x-gone)%'}}";
    let headers = applied(add, &["X-Gone"], &[("x-a", "1"), ("x-b", "2"), ("x-gone", "3"), ("x-gone", "4")]);
    assert_eq!((values(&headers, "x-a"), values(&headers, "x-b")), ("1|1+".into(), "1".into()));
    assert!(!headers.contains_key("x-gone") && !headers.contains_key("x-c"));
}

#[test]
fn an_empty_value_changes_nothing_unless_kept() {
    let add = "{header: {key: x-a}}, {header: {key: x-b}, keep_empty_value: true}, {header: {key: x-c, value: '%REQ(none)%'}}, \
               {header: {key: x-d, value: 'a%REQ(none)%b'}}, {header: {key: x-e, value: '%REQ(none)%'}, append_action: OVERWRITE_IF_EXISTS_OR_ADD, keep_empty_value: true}";
    let headers = applied(add, &[], &[("x-e", "1")]);
    assert!(!headers.contains_key("x-a") && headers.contains_key("x-b") && !headers.contains_key("x-c"));
    assert_eq!((values(&headers, "x-d"), values(&headers, "x-e")), ("ab".into(), String::new()));
}

#[test]
fn no_header_is_split() {
    let headers =
        applied("{header: {key: x-a, value: '%QUERY_PARAM(b)%'}}, {header: {key: x-p, value: 100%%}}", &[], &[]);
    assert_eq!((values(&headers, "x-a"), values(&headers, "x-p")), ("A\\x0a".into(), "100%".into()));
}

#[test]
fn old_forms_of_operators_are_understood() {
    for format in
        ["%UPSTREAM_METADATA([\"a\", \"b\"])%", "%DYNAMIC_METADATA([\"a\",\"b\",\"c\"])%", "%PER_REQUEST_STATE(k)%"]
    {
        assert!(mutations(&format!("{{header: {{key: x, value: '{format}'}}}}"), &[]).is_ok(), "{format}");
    }
}

#[test]
fn the_response_sees_both_heads() {
    let mutations = mutations("{header: {key: x-a, value: '%REQ(x-in)%-%RESP(x-up)%-%RESPONSE_CODE%'}}", &[]).unwrap();
    let mut stream = Stream::new(get("a.test", "/", &[("x-in", "in")]));
    stream.info.response_code = 418;
    let response = stream.response.as_mut().unwrap();
    response.headers.insert("x-up", HeaderValue::from_static("up"));
    mutations.apply_to_response(response, stream.request.as_ref().unwrap(), &stream.info);
    assert_eq!(values(&response.headers, "x-a"), "in-up-418");
}

#[test]
fn what_must_not_be_changed_is_refused() {
    let refused = |add: &str, remove: &[&str], want: &str| {
        let message = mutations(add, remove).err().unwrap_or_else(|| panic!("accepted {add} {remove:?}"));
        assert!(message.starts_with(want), "{message}");
    };
    let modified = "add[0].header.key: :-prefixed or host headers may not be modified";
    refused("{header: {key: Host, value: x}}", &[], modified);
    refused("{header: {key: ':path', value: x}}", &[], modified);
    refused("{header: {key: '', value: x}}", &[], "add[0].header.key: expected a header name");
    refused("{append_action: ADD_IF_ABSENT}", &[], "add[0].header: expected a header");
    refused("{header: {key: a, value: x}, append: true, append_action: ADD_IF_ABSENT}", &[], "add[0]: Both append");
    refused("{header: {key: a, value: '%NOPE%'}}", &[], "add[0].header.value: Not supported field");
    refused("{header: {key: a, value: \"x\\ny\"}}", &[], "add[0].header.value: expected a header value");
    refused("", &["host"], "remove[0]: :-prefixed or host headers may not be removed");
    refused("", &[""], "remove[0]: expected a header name");
    let overwrites = mutations("{header: {key: a, value: x}, append: false}", &[]).unwrap();
    let mut head = get("a.test", "/", &[("a", "1")]);
    overwrites.apply_to_request(&mut head, &info());
    assert_eq!(values(&head.headers, "a"), "x");
    assert_eq!(Protocol::Http11, head.protocol);
}
