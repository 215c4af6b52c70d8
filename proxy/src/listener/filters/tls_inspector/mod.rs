//! `envoy.filters.listener.tls_inspector`: whether a connection begins with a TLS ClientHello, and which server name and
//! application protocols it asks for.
//!
//! What counts as TLS is what Envoy takes for it, down to versions, duplicate extensions and empty records: filter chains are
//! chosen by it, and a different reading would be a way around them. One difference: bytes that cannot become a ClientHello
//! are recognised at the first of them, where Envoy waits for a record header, and so might wait for ever for a client that
//! waits too.
//!
//! Deliberately missing: JA3 and JA4 fingerprints, `failure_reason` in dynamic metadata.

use std::sync::Arc;

use prost_types::Any;
use xds_protos::envoy::extensions::filters::listener::tls_inspector::v3 as proto;

use super::{Facts, Inspection, ListenerFilter, OnAccept};
use crate::config::{BuildCx, Path, Reject, values};
use crate::net::Socket;
use crate::stats::StatBlock;
use crate::stats::names::TlsInspectorStats;
use crate::stream_info::ConnectionInfo;

mod client_hello;
#[cfg(test)]
mod tests;

use client_hello::{ClientHello, Hello, parse};

/// The most that a ClientHello may take with its record headers, and the default of `max_client_hello_size`.
const MAX_CLIENT_HELLO_SIZE: usize = 16 * 1024;

struct TlsInspector {
    max_client_hello_size: usize,
    close_connection_on_client_hello_parsing_errors: bool,
    stats: StatBlock<TlsInspectorStats>,
}

pub fn build(config: &Any, path: &Path<'_>, cx: &BuildCx) -> Result<Arc<dyn ListenerFilter>, Reject> {
    let proto::TlsInspector {
        enable_ja3_fingerprinting,
        enable_ja4_fingerprinting,
        // How much Envoy reads at first; we read what there is.
        initial_read_buffer_size: _,
        close_connection_on_client_hello_parsing_errors,
        max_client_hello_size,
    } = values::decode(config, path)?;
    if enable_ja3_fingerprinting == Some(true) {
        return Err(path.field("enable_ja3_fingerprinting").reject("fingerprints are not supported"));
    }
    if enable_ja4_fingerprinting == Some(true) {
        return Err(path.field("enable_ja4_fingerprinting").reject("fingerprints are not supported"));
    }
    let max_client_hello_size = match max_client_hello_size {
        None => MAX_CLIENT_HELLO_SIZE,
        Some(size) if (1..=MAX_CLIENT_HELLO_SIZE as u32).contains(&size) => size as usize,
        Some(size) => {
            let why = format_args!("expected 1 to {MAX_CLIENT_HELLO_SIZE} bytes, got {size}");
            return Err(path.field("max_client_hello_size").reject(why));
        }
    };
    Ok(Arc::new(TlsInspector {
        max_client_hello_size,
        close_connection_on_client_hello_parsing_errors,
        stats: cx.stats.block("tls_inspector"),
    }))
}

impl TlsInspector {
    fn found(&self, hello: ClientHello) -> Facts {
        self.stats.inc(TlsInspectorStats::TLS_FOUND);
        self.stats.record(TlsInspectorStats::BYTES_PROCESSED, hello.size as u64);
        self.stats.inc(match hello.server_name {
            Some(_) => TlsInspectorStats::SNI_FOUND,
            None => TlsInspectorStats::SNI_NOT_FOUND,
        });
        self.stats.inc(match hello.application_protocols {
            Some(_) => TlsInspectorStats::ALPN_FOUND,
            None => TlsInspectorStats::ALPN_NOT_FOUND,
        });
        Facts {
            transport_protocol: Some("tls"),
            server_name: hello.server_name,
            application_protocols: hello.application_protocols,
            ..Facts::default()
        }
    }
}

impl ListenerFilter for TlsInspector {
    fn on_accept(&self, _: &Socket, _: &ConnectionInfo) -> OnAccept {
        OnAccept::Inspect
    }

    fn inspect(&self, buffer: &[u8]) -> Inspection {
        let visible = buffer.get(..self.max_client_hello_size).unwrap_or(buffer);
        match parse(visible) {
            Hello::Need if visible.len() < self.max_client_hello_size => Inspection::Need,
            Hello::Need => {
                self.stats.inc(TlsInspectorStats::CLIENT_HELLO_TOO_LARGE);
                Inspection::Reject("ClientHello too large")
            }
            Hello::Found(hello) => Inspection::Done(self.found(hello)),
            Hello::UnsupportedVersion => Inspection::Reject("ClientHello of an unsupported version"),
            Hello::NotTls if self.close_connection_on_client_hello_parsing_errors => {
                Inspection::Reject("not a ClientHello")
            }
            Hello::NotTls => {
                self.stats.inc(TlsInspectorStats::TLS_NOT_FOUND);
                Inspection::Done(Facts::default())
            }
        }
    }

    fn max_bytes(&self) -> usize {
        self.max_client_hello_size
    }
}
