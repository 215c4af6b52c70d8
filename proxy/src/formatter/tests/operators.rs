use super::*;

#[test]
fn headers() {
    let mut stream =
        Stream::new(get("a.test", "/p?q", &[("x-h", "abcdef"), ("x-two", "one"), ("x-two", "two"), ("x-e", "")]));
    stream.trailers = Some([("x-t".parse().unwrap(), HeaderValue::from_static("tv"))].into_iter().collect());
    for (format, want) in [
        ("%REQ(:METHOD)% %REQ(:path)% %REQ(:authority)% %REQ(HOST)% %REQ(:scheme)%", "GET /p?q a.test a.test http"),
        ("%REQ(X-H):3% %REQ(X-H):0%| %REQ(x-h):99%", "abc | abcdef"),
        ("%REQ(none?x-h)% %REQ(x-h?none)% %REQ(none)% %REQ(?x-h)%", "abcdef abcdef - abcdef"),
        ("%REQ(x-two)% [%REQ(x-e)%] %REQUEST_HEADER(x-h)%", "one [] abcdef"),
        ("%RESP(:status)% %RESP(server)% %RESP(none?server)% %RESPONSE_HEADER(none)%", "200 envoy envoy -"),
        ("%TRAILER(x-t)% %RESPONSE_TRAILER(none)% %TRAILER(:path)%", "tv - -"),
        ("%REQ_WITHOUT_QUERY(:path)% %REQ_WITHOUT_QUERY(none?x-h):2%", "/p ab"),
        ("100%% %PROTOCOL%", "100% HTTP/1.1"),
    ] {
        assert_eq!(stream.text(format), want, "{format}");
    }
}

#[test]
fn paths_queries_and_hosts() {
    let stream = Stream::new(get("a.test:80", "/a/b?q=va%6cue&e&q=2", &[]));
    for (operator, want) in [
        ("PATH", "/a/b?q=va%6cue&e&q=2"),
        ("PATH(NQ)", "/a/b"),
        ("PATH(NQ:ORIG)", "-"),
        ("PATH(NQ:ORIG_OR_PATH)", "/a/b"),
        ("PATH(NQ:PATH):2", "/a"),
        ("QUERY_PARAM(q)", "value"),
        ("QUERY_PARAM(q):2", "va"),
        ("QUERY_PARAM(e)", ""),
        ("QUERY_PARAM(n)", "-"),
        ("QUERY_PARAMS", "q=va%6cue&e&q=2"),
        ("QUERY_PARAMS(DECODED)", "q=value&e&q=2"),
        ("QUERY_PARAMS(DECODED):3", "q=v"),
        ("REQUESTED_SERVER_NAME", "-"),
        ("REQUESTED_SERVER_NAME(SNI_FIRST)", "a.test"),
        ("REQUESTED_SERVER_NAME(HOST_FIRST:ORIG)", "-"),
        ("REQUESTED_SERVER_NAME(HOST_FIRST:HOST)", "a.test"),
        ("REQUESTED_SERVER_NAME(SNI_ONLY:HOST)", "-"),
    ] {
        assert_eq!(stream.text(&format!("%{operator}%")), want, "{operator}");
    }
    let rewritten =
        Stream::new(get("n.test", "/zza", &[("x-envoy-original-path", "/a?b"), ("x-envoy-original-host", "o.test:1")]));
    *rewritten.info.connection.requested_server_name.borrow_mut() = Some("sni.test".into());
    let formats = "%PATH% %PATH(WQ:PATH)% %PATH(NQ:ORIG)% %QUERY_PARAMS% %REQUESTED_SERVER_NAME% %REQUESTED_SERVER_NAME(HOST_FIRST)% %REQUESTED_SERVER_NAME(HOST_FIRST:HOST)% %REQUESTED_SERVER_NAME(SNI_FIRST)%";
    assert_eq!(rewritten.text(formats), "/a?b /zza /a - sni.test o.test n.test sni.test");
}

#[test]
fn queries_are_decoded_in_two_ways() {
    for (query, parameter, all) in [
        ("a=%20", " ", "a=%20"),
        ("a=%2B+", "++", "a=++"),
        ("a=%25", "%", "a=%"),
        ("a=%c3%a9", "é", "a=%c3%a9"),
        ("a=%", "%", "a=%"),
        ("a=%4", "%4", "a=%4"),
        ("a=%zz", "%zz", "a=zz"),
        ("a=%41%4", "A%4", "a=A%4"),
        ("a=%%41", "%A", "a=A"),
        ("a=%3D%26b=c", "=&b=c", "a==&b=c"),
        ("a=%1g&x", "%1g", "a=1g&x"),
        ("%61=v", "v", "a=v"),
        ("a=%2%41", "%2A", "a=2A"),
        ("a=%23%2f%5c%22%3c", "#/\\\"<", "a=#/%5c%22%3c"),
    ] {
        let stream = Stream::new(get("a.test", &format!("/p?{query}"), &[]));
        assert_eq!(stream.text("%QUERY_PARAM(a)%"), parameter, "{query}");
        assert_eq!(stream.text("%QUERY_PARAMS(DECODED)%"), all, "{query}");
        assert_eq!(stream.text("%QUERY_PARAM(%61)%"), "-");
    }
}

#[test]
fn nobody_forges_a_line() {
    let stream = Stream::new(get("a.test", "/p?a=x%0aGET%0d%00%1b%7f%09y", &[]));
    assert_eq!(stream.text("[%QUERY_PARAM(a)%]\n"), "[x\\x0aGET\\x0d\\x00\\x1b\\x7f\ty]\n");
    assert_eq!(
        stream.line("json_format: {a: '%QUERY_PARAM(a)%'}"),
        "{\"a\":\"x\\nGET\\r\\u0000\\u001b\\u007f\\ty\"}\n"
    );
}

#[test]
fn results_and_flags() {
    let mut stream = Stream::new(get("a.test", "/", &[]));
    let formats = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG% %RESPONSE_CODE_DETAILS% %ROUTE_NAME% %UPSTREAM_HOST% %UPSTREAM_CLUSTER% %ACCESS_LOG_TYPE% %CUSTOM_FLAGS%|%LOCAL_REPLY_BODY%|%UPSTREAM_REQUEST_ATTEMPT_COUNT% %CONNECTION_TERMINATION_DETAILS% %VIRTUAL_CLUSTER_NAME% %GRPC_STATUS%";
    assert_eq!(stream.text(formats), "0 - - - - - - DownstreamEnd ||0 - - -");
    let info = &mut stream.info;
    info.response_code = 503;
    info.set_flag(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
    info.set_flag(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
    info.response_code_details = Some("upstream_reset{remote connection failure}".into());
    info.upstream.transport_failure_reason = Some("delayed connect error: Connection refused".into());
    info.route_name = Some("rt".into());
    info.upstream.host = Some(Arc::new(Host::new(address("127.0.0.1:9090"), "h.test:9090".into(), 1)));
    info.upstream.attempts = 2;
    info.local_reply_body = Some("no\nbody".into());
    for (format, want) in [
        (
            "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%",
            "503 UF,URX UpstreamConnectionFailure,UpstreamRetryLimitExceeded",
        ),
        ("%RESPONSE_CODE_DETAILS%", "upstream_reset{remote_connection_failure}"),
        ("%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", "upstream_reset{remote connection failure}"),
        ("%UPSTREAM_TRANSPORT_FAILURE_REASON%", "delayed_connect_error:_Connection_refused"),
        ("%ROUTE_NAME% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %LOCAL_REPLY_BODY%", "rt 2 no\\x0abody"),
        ("%UPSTREAM_HOST% %UPSTREAM_HOST_NAME% %UPSTREAM_HOST_NAME_WITHOUT_PORT%", "127.0.0.1:9090 h.test:9090 h.test"),
        ("%UPSTREAM_HOSTS_ATTEMPTED%", "-"),
    ] {
        assert_eq!(stream.text(format), want);
    }
    let host = |a: &str| Arc::new(Host::new(address(a), "".into(), 1));
    stream.info.upstream.hosts_attempted = vec![host("10.0.0.1:1"), host("[::1]:2")];
    let formats = "%UPSTREAM_HOSTS_ATTEMPTED% %UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT% %UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT%";
    assert_eq!(stream.text(formats), "10.0.0.1:1,[::1]:2 10.0.0.1,::1 10.0.0.1,::1");
}

#[test]
fn addresses() {
    let mut stream = Stream::new(get("a.test", "/", &[]));
    stream.info.upstream.remote_address = Some(address("127.1.2.3:9090"));
    stream.info.remote_address = Some(address("[2001:db8::1]:5"));
    for (format, want) in [
        ("%UPSTREAM_REMOTE_ADDRESS% %UPSTREAM_REMOTE_PORT%", "127.1.2.3:9090 9090"),
        ("%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "127.1.2.3"),
        ("%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(8)%", "127.0.0.0/8"),
        ("%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(0)%", "0.0.0.0/0"),
        ("%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(33)%", "127.1.2.3/32"),
        ("%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(x)%", "127.1.2.3"),
        ("%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_PORT%", "[2001:db8::1]:5 5"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(32)%", "2001:db8::/32"),
        (
            "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT%",
            "127.0.0.1:80 127.0.0.1:80 80",
        ),
        ("%UPSTREAM_LOCAL_ADDRESS% %UPSTREAM_LOCAL_PORT% %UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(8)%", "- - -"),
        ("%DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID%|", "|"),
    ] {
        assert_eq!(stream.text(format), want, "{format}");
    }
    *stream.info.connection.local_address.borrow_mut() = Address::Pipe("/tmp/s".into());
    assert_eq!(stream.text("%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT%"), "/tmp/s -");
}

#[test]
fn durations() {
    let mut stream = Stream::new(get("a.test", "/", &[]));
    let start = stream.info.start;
    let at = |ms: u64| Some(start + Duration::from_micros(ms * 1000 + 500));
    let (request, first_tx, last_tx, first_rx, last_down) = (at(1), at(2), at(3), at(10), at(25));
    let info = &mut stream.info;
    info.request_complete = request;
    info.upstream.timing.first_tx = first_tx;
    info.upstream.timing.last_tx = last_tx;
    info.upstream.timing.first_rx = first_rx;
    (info.last_downstream_tx, info.end) = (last_down, last_down);
    for (format, want) in [
        (
            "%DURATION% %REQUEST_DURATION% %REQUEST_TX_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%",
            "25 1 3 10 15",
        ),
        ("%COMMON_DURATION(DS_RX_BEG:DS_TX_END)% %COMMON_DURATION(DS_RX_BEG:US_RX_BEG:us)%", "25 10500"),
        ("%COMMON_DURATION(US_TX_BEG:US_RX_BEG:ns)%", "8000000"),
        (
            "%COMMON_DURATION(DS_TX_END:DS_RX_BEG)% %COMMON_DURATION(X:DS_TX_END)% %COMMON_DURATION(DS_RX_BEG:US_CX_BEG)%",
            "- - -",
        ),
        ("%ROUNDTRIP_DURATION% %DOWNSTREAM_HANDSHAKE_DURATION% %UPSTREAM_CONNECTION_POOL_READY_DURATION%", "- - -"),
    ] {
        assert_eq!(stream.text(format), want, "{format}");
    }
}

#[test]
fn grpc_statuses() {
    let mut stream = Stream::new(get("a.test", "/", &[("content-type", "application/grpc")]));
    let formats = "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%";
    assert_eq!(stream.text(formats), "- - - -");
    stream.info.response_code = 503;
    assert_eq!(stream.text(formats), "Unavailable UNAVAILABLE 14 14");
    let status = |value| [("grpc-status".parse().unwrap(), HeaderValue::from_static(value))].into_iter().collect();
    stream.response.as_mut().unwrap().headers = status("1");
    assert_eq!(stream.text(formats), "Canceled CANCELLED 1 1");
    stream.trailers = Some(status("5"));
    assert_eq!(stream.text(formats), "NotFound NOT_FOUND 5 5");
    stream.trailers = Some(status("99"));
    assert_eq!(stream.text(formats), "99 99 99 99");
    stream.request = Some(get("a.test", "/", &[]));
    assert_eq!(stream.text(formats), "- - - -");
}

#[test]
fn certificates() {
    let mut params = rcgen::CertificateParams::new(["c.test".to_owned(), "*.c.test".to_owned()]).unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI("spiffe://td/ns/n/sa/c".try_into().unwrap()));
    params.not_after = rcgen::date_time_ymd(2030, 1, 2);
    let cert = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let leaf = certs::CertInfo::parse(cert.der()).unwrap();
    let fingerprint = leaf.sha256_hex().to_owned();
    let chain = vec![cert.der().to_vec(), cert.der().to_vec()];
    let tls = TlsInfo {
        version: "TLSv1.3",
        cipher: "AES",
        peer: Some(Arc::new(PeerCertificate { leaf, chain })),
        ..TlsInfo::default()
    };
    let mut stream = Stream::new(get("a.test", "/", &[]));
    let formats = "%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_PEER_SUBJECT% %DOWNSTREAM_PEER_CERT_V_END% %DOWNSTREAM_PEER_CHAIN_SERIALS%";
    assert_eq!(stream.text(formats), "- - - - -");
    stream.info.upstream.tls = Some(Rc::new(tls.clone()));
    assert!(stream.info.connection.tls.set(tls).is_ok());
    for side in ["DOWNSTREAM", "UPSTREAM"] {
        let formats = format!(
            "%{side}_TLS_VERSION% %{side}_TLS_CIPHER% %{side}_TLS_GROUP% %{side}_PEER_URI_SAN% %{side}_PEER_DNS_SAN% %{side}_PEER_IP_SAN% %{side}_PEER_CERT_V_END% %{side}_PEER_CERT_V_END(%Y)%"
        );
        assert_eq!(
            stream.text(&formats),
            "TLSv1.3 AES - spiffe://td/ns/n/sa/c c.test,*.c.test - 2030-01-02T00:00:00.000Z 2030"
        );
    }
    let formats = "%DOWNSTREAM_PEER_FINGERPRINT_256% %DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256% %DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256%";
    assert_eq!(stream.text(formats), format!("{fingerprint} {fingerprint} {fingerprint},{fingerprint}"));
    let pem = stream.text("%DOWNSTREAM_PEER_CERT%");
    assert!(
        pem.starts_with("-----BEGIN%20CERTIFICATE-----%0AMII") && pem.ends_with("-----END%20CERTIFICATE-----%0A"),
        "{pem}"
    );
}

#[test]
fn coalesce_takes_the_first_value() {
    let stream = Stream::new(get("a.test", "/", &[("x-h", "abcdef")]));
    let operators = r#"{"operators":["REQUESTED_SERVER_NAME",{"command":"REQ","param":"x-h","max_length":4}]}"#;
    assert_eq!(stream.text(&format!("%COALESCE({operators})%")), "abcd");
    assert_eq!(stream.text(&format!("%COALESCE({operators}):2%")), "ab");
    assert_eq!(stream.text(r#"%COALESCE({"operators":["ROUTE_NAME"]})%"#), "-");
    assert_eq!(
        stream.line(r#"json_format: {a: '%COALESCE({"operators":["ROUTE_NAME","RESPONSE_CODE"]})%'}"#),
        "{\"a\":0}\n"
    );
}

fn with_metadata(mut request: RequestHead) -> Stream {
    let table = table(
        "virtual_hosts: [{name: v, domains: ['*'], metadata: {filter_metadata: {vh: {k: host}}}, virtual_clusters: \
         [{name: vc, headers: [{name: ':method', string_match: {exact: GET}}]}], routes: [{match: {prefix: /}, direct_response: \
         {status: 200}, metadata: {filter_metadata: {ns: {a: 1, b: [x, true], n: 1.5, t: true, s: 'str\"x', e: null, o: {}}}}}]}]",
    );
    request.path = "/p".into();
    let mut stream = Stream::new(request);
    stream.info.route = table.find(stream.request.as_ref().unwrap(), &stream.info, 0);
    stream
}

#[test]
fn metadata_of_routes_and_virtual_hosts() {
    let stream = with_metadata(get("a.test", "/p", &[]));
    for (operator, want) in [
        ("METADATA(ROUTE:ns)", r#"{"a":1,"b":["x",true],"e":null,"n":"1.5","o":{},"s":"str\"x","t":true}"#),
        ("METADATA(ROUTE:ns:s)", "str\"x"),
        ("METADATA(ROUTE:ns:s):2", "st"),
        ("METADATA(ROUTE:ns:b)", r#"["x",true]"#),
        ("METADATA(ROUTE:ns:e)", "-"),
        ("METADATA(ROUTE:ns:o)", "{}"),
        ("METADATA(ROUTE:ns:a)", "1"),
        ("METADATA(ROUTE:ns:zz)", "-"),
        ("METADATA(ROUTE:none)", "-"),
        ("METADATA(VIRTUAL_HOST:vh:k)", "host"),
        ("METADATA(CLUSTER:vh:k)", "-"),
        ("DYNAMIC_METADATA(a:b)", "-"),
        ("FILTER_STATE(a:PLAIN)", "-"),
        ("VIRTUAL_CLUSTER_NAME", "vc"),
    ] {
        assert_eq!(stream.text(&format!("%{operator}%")), want, "{operator}");
    }
}

const JSON: &str = r#"
json_format: {a: "%REQ(x-h)%", b: "p%REQ(x-h)%", c: "%REQ(none)%", d: "x%REQ(none)%y", e: "%RESPONSE_CODE%", f: 7, g: true, h: null, i: 1.5, j: {z: "%REQ(none)%", y: {x: "%REQ(none)%"}}, k: ["%REQ(none)%", 1, "%PROTOCOL%", [true]], l: "", m: "%%", n: "%REQ(x-h):2%", o: "%LOCAL_REPLY_BODY%", q: "%RESPONSE_FLAGS%", "k\"ey": "a\"b", s: "%BYTES_SENT%%BYTES_SENT%", t: "%METADATA(ROUTE:ns)%", u: "%METADATA(ROUTE:ns:a)%", v: "x%METADATA(ROUTE:ns:b)%", w: "%METADATA(ROUTE:ns:n)%", w2: "%METADATA(ROUTE:ns:t)%", w3: "%METADATA(ROUTE:ns:s):2%", w4: "%METADATA(ROUTE:ns:b):2%", x2: 1e30, x3: -0.1, y: {}, z: []}
"#;

#[test]
fn json_keeps_types_and_sorts_keys() {
    let mut stream = with_metadata(get("a.test", "/p", &[("x-h", "say \"hi\" \\ \t end / <>&")]));
    stream.info.response_code = 200;
    assert_eq!(
        stream.line(JSON),
        concat!(
            r#"{"a":"say \"hi\" \\ \t end / <>&","b":"psay \"hi\" \\ \t end / <>&","c":null,"d":"x-y","e":200,"f":7,"g":true,"#,
            r#""h":null,"i":"1.5","j":{"y":{"x":null},"z":null},"k":[null,1,"HTTP/1.1",[true]],"k\"ey":"a\"b","l":"","m":"%","#,
            r#""n":"sa","o":"","q":"-","s":"00","t":{"a":1,"b":["x",true],"e":null,"n":"1.5","o":{},"s":"str\"x","t":true},"#,
            r#""u":1,"v":"x[\"x\",true]","w":"1.5","w2":true,"w3":"st","w4":["x",true],"x2":"1e30","x3":"-0.1","y":{},"z":[]}"#,
            "\n"
        )
    );
}

#[test]
fn json_may_leave_out_what_has_no_value() {
    let mut stream = with_metadata(get("a.test", "/p", &[]));
    stream.info.response_code = 200;
    assert_eq!(
        stream.line(&format!("omit_empty_values: true\n{JSON}")),
        concat!(
            r#"{"b":"p","d":"xy","e":200,"f":7,"g":true,"i":"1.5","k":[1,"HTTP/1.1",[true]],"k\"ey":"a\"b","l":"","m":"%","#,
            r#""o":"","q":"-","s":"00","t":{"a":1,"b":["x",true],"e":null,"n":"1.5","o":{},"s":"str\"x","t":true},"#,
            r#""u":1,"v":"x[\"x\",true]","w":"1.5","w2":true,"w3":"st","w4":["x",true],"x2":"1e30","x3":"-0.1","z":[]}"#,
            "\n"
        )
    );
    assert_eq!(stream.line("{omit_empty_values: true, json_format: {a: {b: '%REQ(none)%'}}}"), "{}\n");
    assert_eq!(stream.line("{omit_empty_values: true, text_format: '[%REQ(none)%][%RESPONSE_FLAGS%]'}"), "[][-]");
}

#[test]
fn text_that_is_not_utf8_is_latin1_in_json() {
    let latin = Stream::new(get("a.test", "/", &[]));
    let mut stream = latin;
    let headers = &mut stream.request.as_mut().unwrap().headers;
    headers.insert("x-h", HeaderValue::from_bytes(b"caf\xc3\xa9 \xff x").unwrap());
    headers.insert("x-u", HeaderValue::from_bytes("café 😀".as_bytes()).unwrap());
    let line = stream.line("json_format: {a: '%REQ(x-h)%', b: 'p%REQ(x-h)%', c: '%REQ(x-u)%', d: '%REQ(x-u):4%'}");
    assert_eq!(
        line,
        "{\"a\":\"caf\\u00c3\\u00a9 \\u00ff x\",\"b\":\"pcaf\\u00c3\\u00a9 \\u00ff x\",\"c\":\"café 😀\",\"d\":\"caf\\u00c3\"}\n"
    );
}

#[test]
fn constants_and_ids() {
    let stream = Stream::new(get("a.test", "/", &[]));
    let package = std::env::var("CARGO_PKG_NAME").unwrap();
    assert_eq!(
        stream.text("%ENVIRONMENT(CARGO_PKG_NAME)% %ENVIRONMENT(OUTRIGGER_UNSET)% %ENVIRONMENT(CARGO_PKG_NAME):2%"),
        format!("{package} - {}", &package[..2])
    );
    assert!(!stream.text("%HOSTNAME%").is_empty());
    let (one, two) = (stream.text("%UNIQUE_ID%"), stream.text("%UNIQUE_ID%"));
    assert_ne!(one, two);
    let digits: Vec<&str> = one.split('-').collect();
    assert_eq!(digits.iter().map(|d| d.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    assert!(digits[2].starts_with('4') && digits[3].starts_with(['8', '9', 'a', 'b']), "{one}");
}

proptest::proptest! {
    #[test]
    fn whatever_the_format_and_the_request(
        pieces in proptest::collection::vec("%|%%|%[A-Z_]{2,8}%|%REQ\\([a-z:?-]{0,6}\\)(:[0-9]{1,2})?%|%QUERY_PARAM\\(a\\)%|%PATH\\(NQ\\)%|%START_TIME\\(%[a-zA-Z]\\)%|[a-z(): \n]{0,4}", 0..8),
        path in "/[a-z?&=%]{0,20}",
        header in "[ -~]{0,12}",
    ) {
        let stream = Stream::new(get("a.test", &path, &[("a", &header)]));
        let format = pieces.concat();
        if let Ok(formatter) = Formatter::parse(&format, Extensions::default()) {
            let mut out = Vec::new();
            formatter.write(&stream.cx(), "-", &mut out);
            let breaks = |text: &[u8]| text.iter().filter(|b| **b == b'\n').count();
            proptest::prop_assert_eq!(breaks(&out), breaks(format.as_bytes()), "only the format breaks lines");
            let mut fields = prost_types::Struct::default();
            fields.fields.insert(path.clone(), prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(format)) });
            let mut line = Vec::new();
            LineFormat::json(&fields).unwrap().write(&stream.cx(), &mut line);
            let parsed: serde_json::Value = serde_json::from_slice(&line).unwrap();
            proptest::prop_assert!(parsed.get(&path).is_some());
        }
    }
}
