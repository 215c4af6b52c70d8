//! `envoy.filters.listener.proxy_protocol`: the PROXY protocol, versions 1 and 2
//! (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>), that a proxy in front of us puts before the stream.
//!
//! The addresses it names become the connection's; the header is taken off the stream. Bytes that cannot become a header end
//! the connection at the first of them, or pass unchanged with `allow_requests_without_proxy_protocol`. A version in
//! `disallowed_versions` counts as no header at all when requests without one are allowed, as in Envoy.
//!
//! Deliberately missing: TLVs in dynamic metadata or filter state (`rules`, `tlv_location`) and handed to the upstream
//! (`pass_through_tlvs`). They are checked for their lengths and dropped.

use std::sync::Arc;

use prost_types::Any;
use xds_protos::envoy::config::core::v3::proxy_protocol_config::Version;
use xds_protos::envoy::extensions::filters::listener::proxy_protocol::v3 as proto;

use super::{Facts, Inspection, ListenerFilter, OnAccept};
use crate::config::{BuildCx, Path, Reject, values};
use crate::net::Socket;
use crate::stats::StatBlock;
use crate::stats::names::{ProxyProtocolErrorStats, ProxyProtocolStats};
use crate::stream_info::ConnectionInfo;

mod header;
#[cfg(test)]
mod tests;

use header::{Header, Signature, parse_v1, parse_v2, signature};

/// The fixed part of a version 2 header and the greatest length it can name.
const MAX_HEADER: usize = 16 + 65_535;

struct ProxyProtocol {
    allow_requests_without_proxy_protocol: bool,
    allow_v1: bool,
    allow_v2: bool,
    errors: StatBlock<ProxyProtocolErrorStats>,
    stats: StatBlock<ProxyProtocolStats>,
}

pub fn build(config: &Any, path: &Path<'_>, cx: &BuildCx) -> Result<Arc<dyn ListenerFilter>, Reject> {
    let proto::ProxyProtocol {
        rules,
        allow_requests_without_proxy_protocol,
        pass_through_tlvs,
        disallowed_versions,
        stat_prefix,
        // Only says where `rules` put TLVs.
        tlv_location: _,
    } = values::decode(config, path)?;
    if !rules.is_empty() {
        return Err(path.field("rules").reject("TLVs in dynamic metadata are not supported"));
    }
    if pass_through_tlvs.is_some() {
        return Err(path.field("pass_through_tlvs").reject("TLVs are not passed on"));
    }
    let disallowed = |version: Version| disallowed_versions.contains(&(version as i32));
    let (allow_v1, allow_v2) = (!disallowed(Version::V1), !disallowed(Version::V2));
    if !allow_v1 && !allow_v2 {
        return Err(path.field("disallowed_versions").reject("expected at least one version to be allowed"));
    }
    let scope = if stat_prefix.is_empty() { "proxy_proto".to_owned() } else { format!("proxy_proto.{stat_prefix}") };
    Ok(Arc::new(ProxyProtocol {
        allow_requests_without_proxy_protocol,
        allow_v1,
        allow_v2,
        errors: cx.stats.block(""),
        stats: cx.stats.block(&scope),
    }))
}

impl ProxyProtocol {
    fn refuse(&self, why: &'static str) -> Inspection {
        self.errors.inc(ProxyProtocolErrorStats::DOWNSTREAM_CX_PROXY_PROTO_ERROR);
        Inspection::Reject(why)
    }

    fn without_header(&self) -> Inspection {
        if self.allow_requests_without_proxy_protocol {
            self.stats.inc(ProxyProtocolStats::NOT_FOUND_ALLOWED);
            return Inspection::Done(Facts::default());
        }
        self.stats.inc(ProxyProtocolStats::NOT_FOUND_DISALLOWED);
        self.refuse("no PROXY header")
    }
}

impl ListenerFilter for ProxyProtocol {
    fn on_accept(&self, _: &Socket, _: &ConnectionInfo) -> OnAccept {
        OnAccept::Inspect
    }

    fn inspect(&self, buffer: &[u8]) -> Inspection {
        use ProxyProtocolStats as Stats;
        let found = signature(buffer);
        // With requests without a header allowed, a disallowed version is one of them.
        let hidden = |allowed: bool| !allowed && self.allow_requests_without_proxy_protocol;
        let (header, allowed, found, disallowed, error) = match found {
            Signature::Neither => return self.without_header(),
            Signature::V1 if hidden(self.allow_v1) => return self.without_header(),
            Signature::V2 if hidden(self.allow_v2) => return self.without_header(),
            Signature::Perhaps { v1, v2 } => {
                let possible = v1 && !hidden(self.allow_v1) || v2 && !hidden(self.allow_v2);
                return if possible { Inspection::Need } else { self.without_header() };
            }
            Signature::V1 => (parse_v1(buffer), self.allow_v1, Stats::V1_FOUND, Stats::V1_DISALLOWED, Stats::V1_ERROR),
            Signature::V2 => (parse_v2(buffer), self.allow_v2, Stats::V2_FOUND, Stats::V2_DISALLOWED, Stats::V2_ERROR),
        };
        match header {
            Header::Need => Inspection::Need,
            Header::Bad(why) => {
                self.stats.inc(error);
                self.refuse(why)
            }
            Header::Good { .. } if !allowed => {
                self.stats.inc(found);
                self.stats.inc(disallowed);
                self.refuse("PROXY header of a disallowed version")
            }
            Header::Good { size, addresses } => {
                self.stats.inc(found);
                let (remote_address, local_address) = addresses.unzip();
                Inspection::Done(Facts { consumed: size, remote_address, local_address, ..Facts::default() })
            }
        }
    }

    fn max_bytes(&self) -> usize {
        MAX_HEADER
    }
}
