//! `transport_socket` and `transport_socket_matches`.

use prost_types::Struct;
use xds_protos::envoy::config::cluster::v3 as pb;
use xds_protos::envoy::config::core::v3 as core;

use super::ClusterCx;
use crate::config::metadata::has_labels;
use crate::config::{Path, Reject};
use crate::transport_socket::{TransportCx, Upstream};

/// In the metadata of a host or locality: what `transport_socket_matches` look at.
const MATCH_FILTER: &str = "envoy.transport_socket_match";

pub(super) fn socket(
    proto: Option<&core::TransportSocket>,
    path: &Path<'_>,
    cx: &ClusterCx<'_>,
) -> Result<Upstream, Reject> {
    Upstream::build(proto, path, TransportCx { build: cx.build, scope: cx.stat_scope })
}

/// What decides which transport socket a host uses.
pub(super) struct Matches<'a> {
    matches: Vec<(&'a str, Option<&'a Struct>)>,
}

/// The sockets of `transport_socket_matches`, and what chooses between them.
pub(super) fn matches<'a>(
    protos: &'a [pb::cluster::TransportSocketMatch],
    path: &Path<'_>,
    cx: &ClusterCx<'_>,
) -> Result<(Box<[Upstream]>, Matches<'a>), Reject> {
    let (mut sockets, mut matches) = (Vec::with_capacity(protos.len()), Vec::with_capacity(protos.len()));
    for (index, proto) in protos.iter().enumerate() {
        let pb::cluster::TransportSocketMatch { name, r#match, transport_socket } = proto;
        let path = path.index(index);
        if name.is_empty() {
            return Err(path.field("name").reject("expected a name, got none"));
        }
        let at = path.field("transport_socket");
        let transport_socket = transport_socket.as_ref().ok_or_else(|| at.reject("expected one, got none"))?;
        sockets.push(socket(Some(transport_socket), &at, cx)?);
        matches.push((name.as_str(), r#match.as_ref()));
    }
    if u16::try_from(sockets.len()).is_err() {
        return Err(path.reject(format_args!("expected at most 65535 matches, got {}", sockets.len())));
    }
    Ok((sockets.into(), Matches { matches }))
}

impl<'a> Matches<'a> {
    /// Of protos whose sockets have been built.
    pub fn of(protos: &'a [pb::cluster::TransportSocketMatch]) -> Self {
        Matches { matches: protos.iter().map(|proto| (proto.name.as_str(), proto.r#match.as_ref())).collect() }
    }
}

impl Matches<'_> {
    /// The index of the first match for a host; its own metadata comes before its locality's. None is `transport_socket`.
    pub fn resolve(&self, host: Option<&core::Metadata>, locality: Option<&core::Metadata>) -> Option<u16> {
        let find = |metadata: Option<&core::Metadata>| {
            self.matches
                .iter()
                .position(|(_, labels)| labels.is_none_or(|labels| has_labels(labels, metadata, MATCH_FILTER, false)))
        };
        find(host).or_else(|| find(locality)).map(|index| index as u16)
    }

    pub fn names(&self) -> Box<[Box<str>]> {
        self.matches.iter().map(|(name, _)| (*name).into()).collect()
    }
}
