use tests::config::{bootstrap, certificate, chain, cluster, hcm, http_protocol_options, http2, listener_with, tls};
use tests::http2::Request;
use tests::tls::Offer;

use super::{http_listener, log};
use crate::group::EndCheck::Wait;
use crate::group::{Case, Group, Kind, get, http2 as h2, plain, plain_http2, raw, steps};

const CLIENT: Offer<'static> =
    Offer { sni: Some("server.test"), alpn: &[], certificate: Some("client"), only_tls12: false };
const STRANGER: Offer<'static> = Offer { certificate: Some("stranger"), ..CLIENT };
const NOBODY: Offer<'static> = Offer { certificate: None, ..CLIENT };

const ROUTES: &str = "
- { match: { prefix: /tls }, route: { cluster: tls } }
- { match: { prefix: /wrong-san }, route: { cluster: wrong-san } }
- { match: { prefix: /wrong-ca }, route: { cluster: wrong-ca } }
- { match: { prefix: /mutual }, route: { cluster: mutual } }
- { match: { prefix: /no-certificate }, route: { cluster: no-certificate } }
- { match: { prefix: /plain-server }, route: { cluster: plain-server } }
- { match: { prefix: /h2 }, route: { cluster: h2 } }
- { match: { path: /auto }, route: { cluster: auto } }
- { match: { prefix: /auto-sni }, route: { cluster: auto-sni } }
- { match: { prefix: /presented, tls_context: { presented: true, validated: true } }, direct_response: { status: 200, body: { inline_string: validated } } }
- { match: { prefix: /presented, tls_context: { presented: false } }, direct_response: { status: 200, body: { inline_string: nobody } } }
- { match: { prefix: / }, route: { cluster: up } }
";

/// A listener with a server's TLS context.
fn secured(name: &str, context: &str, http: &str) -> String {
    let filters = hcm(ROUTES, &format!("{}{http}", log()));
    listener_with(name, &chain(&filters, &tls("DownstreamTlsContext", context)), "")
}

fn common(fields: &str) -> String {
    let certificates = certificate("server").replace('\n', "\n  ");
    format!("common_tls_context:\n  tls_certificates:\n  {certificates}\n{}", tests::config::indent(fields, 2))
}

const MUTUAL: &str = "validation_context: { trusted_ca: { filename: \"{certs}/ca.pem\" } }";

fn downstream() -> Vec<Case> {
    let mut cases = vec![
        get("plain-tls", "/up", &[]).on("tls").tls(NOBODY),
        get("without-sni", "/up", &[]).on("tls").tls(Offer { sni: None, ..NOBODY }),
        get("tls12", "/up", &[]).on("tls").tls(Offer { only_tls12: true, ..NOBODY }),
        get("unasked-certificate", "/up", &[]).on("tls").tls(CLIENT),
        get("alpn-unknown", "/up", &[]).on("tls").tls(Offer { alpn: &["foo"], ..NOBODY }),
        get("alpn-http1", "/up", &[]).on("alpn").tls(Offer { alpn: &["http/1.1"], ..NOBODY }),
        get("alpn-none-common", "/up", &[]).on("alpn").tls(Offer { alpn: &["foo"], ..NOBODY }),
        get("alpn-none", "/up", &[]).on("alpn").tls(NOBODY),
        h2("alpn-h2", vec![Request::get("https://server.test/up")]).on("alpn").tls(Offer { alpn: &["h2"], ..NOBODY }),
        h2("alpn-h2-first", vec![Request::get("https://server.test/up")])
            .on("alpn")
            .tls(Offer { alpn: &["h2", "http/1.1"], ..NOBODY }),
        raw("plain-bytes-on-tls", "GET / HTTP/1.1\r\nHost: a\r\n\r\n").on("tls").ignore("0.instead").ignore("end"),
        steps("silent-handshake", vec![]).on("slow").end(Wait),
        get("tls13-only", "/up", &[]).on("tls13").tls(NOBODY),
        get("tls13-only-with-tls12", "/up", &[]).on("tls13").tls(Offer { only_tls12: true, ..NOBODY }),
    ];
    for (name, offer) in [("client", CLIENT), ("stranger", STRANGER), ("nobody", NOBODY)] {
        // With TLS 1.3 a client learns of the refusal when it reads.
        for listener in
            ["mutual", "optional", "optional-unverified", "spiffe-match", "dns-match", "no-san-match", "spki-mismatch"]
        {
            let case = get(format!("{listener} {name}"), "/up", &["x-forwarded-client-cert: By=spoof"])
                .on(listener)
                .tls(offer);
            cases.push(case.ignore("0.instead").ignore("end"));
            let case = get(format!("{listener} {name} tls12"), "/up", &[])
                .on(listener)
                .tls(Offer { only_tls12: true, ..offer });
            cases.push(case.ignore("0.instead").ignore("end"));
        }
        for mode in MODES {
            let spoofed = &["x-forwarded-client-cert: By=spoof;Hash=abc;Subject=\"CN=x\""];
            cases.push(
                get(format!("{mode} {name}"), "/up", spoofed).on(mode).tls(offer).ignore("0.instead").ignore("end"),
            );
        }
        cases.push(
            get(format!("presented {name}"), "/presented", &[])
                .on("optional")
                .tls(offer)
                .ignore("0.instead")
                .ignore("end"),
        );
    }
    for sni in ["server.test", "other.test", "x.wild.test", "wild.test", "third.test"] {
        cases.push(
            get(format!("sni {sni}"), "/up", &[])
                .on("sni")
                .tls(Offer { sni: Some(sni), ..NOBODY })
                .ignore("0.instead")
                .ignore("end"),
        );
    }
    cases.push(raw("sni plaintext", "GET /up HTTP/1.1\r\nHost: a\r\n\r\n").on("sni"));
    cases
}

const MODES: &[&str] = &["SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"];

pub fn group() -> Group {
    let mut cases = downstream();
    for path in ["/tls", "/mutual", "/h2", "/auto", "/auto-sni"] {
        cases.push(get(format!("upstream {path}"), path, &[]).requests(1));
    }
    for path in ["/wrong-san", "/wrong-ca", "/no-certificate", "/plain-server"] {
        cases.push(get(format!("upstream {path}"), path, &[]).requests(0).expect("0.status", "503"));
    }
    let details = "set_current_client_cert_details: { subject: true, cert: true, chain: true, dns: true, uri: true }\n";
    let mut listeners = vec![
        http_listener("main", ROUTES, ""),
        secured("tls", &common(""), ""),
        secured("alpn", &common("alpn_protocols: [ h2, http/1.1 ]"), ""),
        secured("tls13", &common("tls_params: { tls_minimum_protocol_version: TLSv1_3 }"), ""),
        secured("mutual", &format!("require_client_certificate: true\n{}", common(MUTUAL)), ""),
        secured("optional", &common(MUTUAL), ""),
        secured(
            "optional-unverified",
            &common(
                "validation_context: { trusted_ca: { filename: \"{certs}/ca.pem\" }, trust_chain_verification: ACCEPT_UNTRUSTED }",
            ),
            "",
        ),
        secured("slow", &common(""), "").replace(
            "  filter_chains:\n  - filters:",
            "  filter_chains:\n  - transport_socket_connect_timeout: 0.3s\n    filters:",
        ),
    ];
    for (name, matcher) in [
        ("spiffe-match", "{ san_type: URI, matcher: { prefix: \"spiffe://cluster.local/ns/default/\" } }"),
        ("dns-match", "{ san_type: DNS, matcher: { exact: client.test } }"),
        ("no-san-match", "{ san_type: URI, matcher: { exact: \"spiffe://cluster.local/ns/other/sa/client\" } }"),
    ] {
        let validation = format!(
            "validation_context: {{ trusted_ca: {{ filename: \"{{certs}}/ca.pem\" }}, match_typed_subject_alt_names: [ {matcher} ] }}"
        );
        listeners.push(secured(name, &format!("require_client_certificate: true\n{}", common(&validation)), ""));
    }
    let spki = "validation_context: { trusted_ca: { filename: \"{certs}/ca.pem\" }, verify_certificate_spki: [ \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\" ] }";
    listeners.push(secured("spki-mismatch", &format!("require_client_certificate: true\n{}", common(spki)), ""));
    for mode in MODES {
        listeners.push(secured(mode, &common(MUTUAL), &format!("forward_client_cert_details: {mode}\n{details}")));
    }
    listeners.push(sni_listener());
    Group {
        name: "tls",
        config: bootstrap(&listeners.concat(), &clusters()),
        upstreams: vec![
            ("up", Kind::Http1(plain)),
            ("tls", Kind::Tls("upstream", None, plain)),
            ("mutual", Kind::Tls("upstream", Some("ca"), plain)),
            ("h2", Kind::Http2Tls("upstream", plain_http2)),
        ],
        cases,
        fields: &[],
        stats: &[
            "^cluster\\..*\\.ssl\\.(handshake|fail_verify_error|fail_verify_san|fail_verify_no_cert|no_certificate|connection_error)$",
            "^cluster\\..*\\.upstream_cx_(connect_fail|ssl.*)$",
        ],
        logs: &["access.log"],
    }
}

fn sni_listener() -> String {
    let of = |names: &str, certificate_name: &str, route: &str| {
        let context = tls("DownstreamTlsContext", &common("").replace("server.", &format!("{certificate_name}.")));
        let filters = hcm(
            &format!(
                "- {{ match: {{ prefix: / }}, direct_response: {{ status: 200, body: {{ inline_string: {route} }} }} }}"
            ),
            &log(),
        );
        chain(&filters, &format!("filter_chain_match: {{ {names} }}\n{context}"))
    };
    let raw_chain = chain(
        &hcm("- { match: { prefix: / }, direct_response: { status: 200, body: { inline_string: raw } } }", &log()),
        "filter_chain_match: { transport_protocol: raw_buffer }",
    );
    let chains = [
        of("server_names: [ server.test ]", "server", "server"),
        of("server_names: [ other.test ]", "other-server", "other"),
        of("server_names: [ \"*.wild.test\" ]", "server", "wild"),
        raw_chain,
    ];
    let inspector = "listener_filters:\n- name: envoy.filters.listener.tls_inspector\n  typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector }\n";
    listener_with("sni", &chains.concat(), inspector)
}

fn clusters() -> String {
    let context = |fields: &str| tls("UpstreamTlsContext", fields);
    let trusting = |matcher: &str| {
        format!(
            "sni: upstream.test\ncommon_tls_context:\n  validation_context:\n    trusted_ca: {{ filename: \"{{certs}}/ca.pem\" }}\n    match_typed_subject_alt_names: [ {matcher} ]\n"
        )
    };
    let right = trusting("{ san_type: URI, matcher: { exact: \"spiffe://cluster.local/ns/default/sa/upstream\" } }");
    let wrong = trusting("{ san_type: URI, matcher: { exact: \"spiffe://cluster.local/ns/default/sa/other\" } }");
    let own = format!("  tls_certificates:\n  {}", certificate("client").replace('\n', "\n  "));
    let auto = http_protocol_options("auto_config: { http_protocol_options: {}, http2_protocol_options: {} }");
    let auto_sni = http_protocol_options(
        "upstream_http_protocol_options: { auto_sni: true, auto_san_validation: false }\nexplicit_http_config: { http_protocol_options: {} }",
    );
    [
        cluster("up", "{up:up}", ""),
        cluster("tls", "{up:tls}", &context(&right)),
        cluster("wrong-san", "{up:tls}", &context(&wrong)),
        cluster("wrong-ca", "{up:tls}", &context(&right.replace("ca.pem", "other-ca.pem"))),
        cluster("mutual", "{up:mutual}", &context(&(right.clone() + &own))),
        cluster("no-certificate", "{up:mutual}", &context(&right)),
        cluster("plain-server", "{up:up}", &context(&right)),
        cluster("h2", "{up:h2}", &(context(&(right.clone() + "  alpn_protocols: [ h2 ]\n")) + &http2())),
        cluster("auto", "{up:h2}", &(context(&right) + &auto)),
        cluster("auto-sni", "{up:tls}", &(context(&right.replace("sni: upstream.test\n", "")) + &auto_sni)),
    ]
    .concat()
}
