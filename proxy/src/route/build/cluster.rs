//! Where a route sends requests: a cluster, weighted clusters, or what a header says.

use xds_protos::envoy::config::route::v3::route_action::ClusterSpecifier as ProtoSpecifier;
use xds_protos::envoy::config::route::v3::weighted_cluster::cluster_weight::HostRewriteSpecifier;
use xds_protos::envoy::config::route::v3::weighted_cluster::{ClusterWeight, RandomValueSpecifier};
use xds_protos::envoy::config::route::v3::{self as pb};

use super::{Cx, check_host, header_name, header_ops};
use crate::config::{Path, Reject};
use crate::route::action::{ClusterSpecifier, ClusterTarget, WeightedCluster, WeightedClusters};
use crate::route::unsupported::{refuse, reject};
use crate::runtime::{Live, Value};

impl Cx<'_> {
    pub(super) fn cluster_specifier(
        self,
        proto: Option<&ProtoSpecifier>,
        path: &Path,
    ) -> Result<ClusterSpecifier, Reject> {
        Ok(match proto {
            Some(ProtoSpecifier::Cluster(name)) => {
                ClusterSpecifier::Target(self.cluster(name, &path.field("cluster"))?)
            }
            Some(ProtoSpecifier::ClusterHeader(name)) => {
                ClusterSpecifier::Target(cluster_header(name, &path.field("cluster_header"))?)
            }
            Some(ProtoSpecifier::WeightedClusters(clusters)) => {
                let path = path.field("weighted_clusters");
                ClusterSpecifier::Weighted(Box::new(self.weighted_clusters(clusters, &path)?))
            }
            Some(ProtoSpecifier::ClusterSpecifierPlugin(_)) => return Err(reject(path, "cluster_specifier_plugin")),
            Some(ProtoSpecifier::InlineClusterSpecifierPlugin(_)) => {
                return Err(reject(path, "inline_cluster_specifier_plugin"));
            }
            None => return Err(path.reject("expected one of cluster, weighted_clusters, cluster_header")),
        })
    }

    fn cluster(self, name: &str, path: &Path) -> Result<ClusterTarget, Reject> {
        if name.is_empty() {
            return Err(path.reject("expected the name of a cluster, got an empty string"));
        }
        let slot = self.cx.clusters.slot(name);
        if self.validate_clusters && slot.load().is_none() {
            return Err(path.reject(format_args!("route: unknown cluster '{name}'")));
        }
        Ok(ClusterTarget::Cluster(slot))
    }

    #[expect(deprecated, reason = "total_weight is still sent")]
    fn weighted_clusters(self, proto: &pb::WeightedCluster, path: &Path) -> Result<WeightedClusters, Reject> {
        let pb::WeightedCluster {
            clusters,
            total_weight: _, // Envoy adds the weights up and does not look at it
            runtime_key_prefix,
            random_value_specifier,
        } = proto;
        let header_path = path.field("header_name");
        let random_header = match random_value_specifier {
            None | Some(RandomValueSpecifier::UseHashPolicy(false)) => None,
            Some(RandomValueSpecifier::HeaderName(name)) if name.is_empty() => None,
            Some(RandomValueSpecifier::HeaderName(name)) => Some(header_name(name, &header_path)?),
            Some(RandomValueSpecifier::UseHashPolicy(true)) => return Err(reject(path, "use_hash_policy")),
        };
        let clusters_path = path.field("clusters");
        if clusters.is_empty() {
            return Err(clusters_path.reject("expected at least one cluster"));
        }
        let built = clusters.iter().enumerate();
        let built = built.map(|(i, c)| self.weighted_cluster(c, runtime_key_prefix, &clusters_path.index(i)));
        let built: Box<[WeightedCluster]> = built.collect::<Result<_, _>>()?;
        let total: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight.unwrap_or(0))).sum();
        if total > u64::from(u32::MAX) {
            let why = format_args!("expected weights of at most {} in all, got {total}", u32::MAX);
            return Err(clusters_path.reject(why));
        }
        if total == 0 {
            return Err(clusters_path.reject("Sum of weights in the weighted_cluster must be greater than 0."));
        }
        Ok(WeightedClusters { clusters: built, header_name: random_header })
    }

    fn weighted_cluster(self, proto: &ClusterWeight, key_prefix: &str, path: &Path) -> Result<WeightedCluster, Reject> {
        let ClusterWeight {
            name,
            cluster_header: header,
            weight,
            metadata_match,
            request_headers_to_add,
            request_headers_to_remove,
            response_headers_to_add,
            response_headers_to_remove,
            typed_per_filter_config,
            host_rewrite_specifier,
        } = proto;
        refuse(path, &[("metadata_match", metadata_match.is_some())])?;
        let target = match (name.as_str(), header.as_str()) {
            ("", "") => return Err(path.reject("At least one of name or cluster_header need to be specified")),
            (name, "") => self.cluster(name, &path.field("name"))?,
            ("", header) => cluster_header(header, &path.field("cluster_header"))?,
            _ => return Err(path.reject("Only one of name or cluster_header can be specified")),
        };
        let weight = weight.ok_or_else(|| path.field("weight").reject("expected a weight, got none"))?;
        let weight = match key_prefix {
            "" => Live::fixed(weight),
            prefix => self.cx.runtime.follow(&format!("{prefix}.{name}"), move |value| {
                let set = value.and_then(Value::integer);
                set.map_or(weight, |set| u32::try_from(set).unwrap_or(u32::MAX))
            }),
        };
        let host = host_rewrite_specifier.as_ref().map(|HostRewriteSpecifier::HostRewriteLiteral(host)| host);
        if let Some(host) = host {
            check_host(host, &path.field("host_rewrite_literal"))?;
        }
        Ok(WeightedCluster {
            target,
            weight,
            headers: header_ops(
                (request_headers_to_add, request_headers_to_remove),
                (response_headers_to_add, response_headers_to_remove),
                path,
            )?,
            host_rewrite_literal: host.filter(|host| !host.is_empty()).map(|host| host.as_str().into()),
            per_filter: self.per_filter(typed_per_filter_config, &path.field("typed_per_filter_config"))?,
        })
    }
}

fn cluster_header(name: &str, path: &Path) -> Result<ClusterTarget, Reject> {
    Ok(ClusterTarget::Header(header_name(name, path)?))
}
