//! Which object of the mesh's user a resource comes from: `filter_metadata.istio.config`, which istiod writes into clusters,
//! filter chains and routes. Named in refusals, so that whoever reads the NACK in istiod knows what to look at.

use xds_protos::envoy::config::cluster::v3::Cluster;
use xds_protos::envoy::config::core::v3::Metadata;
use xds_protos::envoy::config::listener::v3::Listener;
use xds_protos::envoy::config::route::v3::RouteConfiguration;

use crate::config::{Reject, metadata};

/// The refusal in the words of a NACK.
pub(super) fn reason(reject: &Reject, object: Option<&str>) -> String {
    match object {
        Some(object) => format!("{reject} (from {object})"),
        None => reject.to_string(),
    }
}

fn of(metadata: Option<&Metadata>) -> Option<String> {
    metadata::text(metadata?, "istio", &["config"]).map(str::to_owned)
}

pub(super) fn cluster(proto: &Cluster) -> Option<String> {
    of(proto.metadata.as_ref())
}

/// Of the filter chain that the refusal points into, or else of the listener.
pub(super) fn listener(proto: &Listener, reject: &Reject) -> Option<String> {
    let chain = index(&reject.path, "filter_chains[").and_then(|index| proto.filter_chains.get(index));
    chain.and_then(|chain| of(chain.metadata.as_ref())).or_else(|| of(proto.metadata.as_ref()))
}

/// Of the route or virtual host that the refusal points into.
pub(super) fn route(proto: &RouteConfiguration, reject: &Reject) -> Option<String> {
    let host = index(&reject.path, "virtual_hosts[").and_then(|index| proto.virtual_hosts.get(index))?;
    let route = index(&reject.path, ".routes[").and_then(|index| host.routes.get(index));
    route.and_then(|route| of(route.metadata.as_ref())).or_else(|| of(host.metadata.as_ref()))
}

/// The number that follows `field` in a path.
fn index(path: &str, field: &str) -> Option<usize> {
    let (_, rest) = path.split_once(field)?;
    rest.split_once(']')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::testing::proto;

    #[test]
    fn the_object_of_the_part_that_was_refused() {
        let routes: RouteConfiguration = proto(
            "virtual_hosts: [ { name: a, domains: [ a ], routes: [ \
             { match: { prefix: / }, metadata: { filter_metadata: { istio: { config: /apis/v1/one } } } }, \
             { match: { prefix: / } } ], metadata: { filter_metadata: { istio: { config: /apis/v1/host } } } } ]",
        );
        let at = |path: &str| route(&routes, &Reject { path: path.into(), why: String::new() });
        assert_eq!(at("virtual_hosts[0].routes[0].match").as_deref(), Some("/apis/v1/one"));
        assert_eq!(at("virtual_hosts[0].routes[1].route.cluster").as_deref(), Some("/apis/v1/host"));
        assert_eq!(at("virtual_hosts[0].domains").as_deref(), Some("/apis/v1/host"));
        assert_eq!(at("name"), None);
    }
}
