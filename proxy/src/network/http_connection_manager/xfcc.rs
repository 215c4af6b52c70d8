//! `x-forwarded-client-cert`: who the TLS peer is, told to the upstream (`forward_client_cert_details`).

use std::fmt::Write;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::config::{ForwardClientCert, HcmConfig};
use super::request_headers::append;
use crate::stream_info::ConnectionInfo;

pub const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Which parts of the peer's certificate are told, beside `By` and `Hash`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Details {
    pub cert: bool,
    pub chain: bool,
    pub subject: bool,
    pub uri: bool,
    pub dns: bool,
    pub issuer: bool,
}

/// Removes, keeps, appends or sets the header as configured. Without a client certificate nothing a client wrote
/// survives, except in `ALWAYS_FORWARD_ONLY`.
pub fn mutate(headers: &mut HeaderMap, connection: &ConnectionInfo, config: &HcmConfig) {
    let mode = config.forward_client_cert;
    if mode == ForwardClientCert::AlwaysForwardOnly {
        return;
    }
    let Some(tls) = connection.tls.get().filter(|tls| tls.peer.is_some()) else {
        headers.remove(X_FORWARDED_CLIENT_CERT);
        return;
    };
    match mode {
        ForwardClientCert::Sanitize => drop(headers.remove(X_FORWARDED_CLIENT_CERT)),
        ForwardClientCert::ForwardOnly | ForwardClientCert::AlwaysForwardOnly => {}
        ForwardClientCert::AppendForward | ForwardClientCert::SanitizeSet => {
            let Ok(value) = HeaderValue::try_from(element(tls, config.client_cert_details)) else {
                // A name in the certificate that no header can carry: nobody is told a half-true identity.
                headers.remove(X_FORWARDED_CLIENT_CERT);
                return;
            };
            if mode == ForwardClientCert::AppendForward {
                append(headers, X_FORWARDED_CLIENT_CERT, &value, b",");
            } else {
                headers.insert(X_FORWARDED_CLIENT_CERT, value);
            }
        }
    }
}

fn element(tls: &crate::stream_info::TlsInfo, details: Details) -> String {
    let mut out = String::with_capacity(256);
    let mut field = |args: std::fmt::Arguments<'_>| {
        if !out.is_empty() {
            out.push(';');
        }
        let _ = out.write_fmt(args);
    };
    for uri in tls.local.iter().flat_map(|local| local.uri_sans()) {
        field(format_args!("By={uri}"));
    }
    let Some(peer) = &tls.peer else { return out };
    let leaf = &peer.leaf;
    field(format_args!("Hash={}", leaf.sha256_hex()));
    if details.cert {
        field(format_args!("Cert=\"{}\"", url_encode(leaf.pem())));
    }
    if details.chain {
        field(format_args!("Chain=\"{}\"", url_encode(&chain_pem(peer))));
    }
    if details.subject {
        field(format_args!("Subject=\"{}\"", escape_quotes(leaf.subject())));
    }
    if details.issuer {
        field(format_args!("Issuer=\"{}\"", escape_quotes(leaf.issuer())));
    }
    if details.uri {
        let mut any = false;
        for uri in leaf.uri_sans() {
            field(format_args!("URI={uri}"));
            any = true;
        }
        if !any {
            field(format_args!("URI="));
        }
    }
    if details.dns {
        for dns in leaf.dns_sans() {
            field(format_args!("DNS={dns}"));
        }
    }
    out
}

/// A name with a `"` in it must not end its field.
fn escape_quotes(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('"') { text.replace('"', "\\\"").into() } else { text.into() }
}

/// The chain as the peer sent it, leaf first.
fn chain_pem(peer: &crate::stream_info::PeerCertificate) -> String {
    use base64::Engine;
    let mut out = String::new();
    for der in &peer.chain {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        out.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            out.push_str(std::str::from_utf8(line).unwrap_or_default());
            out.push('\n');
        }
        out.push_str("-----END CERTIFICATE-----\n");
    }
    out
}

/// PEM as Envoy escapes it for a header: what would end the field or the line, and `+`, `/`, `=`.
fn url_encode(pem: &str) -> String {
    let mut out = String::with_capacity(pem.len() + 64);
    for c in pem.chars() {
        match c {
            '\n' => out.push_str("%0A"),
            ' ' => out.push_str("%20"),
            '+' => out.push_str("%2B"),
            '/' => out.push_str("%2F"),
            '=' => out.push_str("%3D"),
            c => out.push(c),
        }
    }
    out
}
