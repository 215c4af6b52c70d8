//! Building resources without a process around them: what `outrigger validate --config-dump` and the fuzz targets do.

use prost::Message;
use prost_types::Any;
use xds_client::{Resource, TypeUrl};
use xds_protos::envoy::config::cluster::v3::Cluster;
use xds_protos::envoy::config::core::v3::TypedExtensionConfig;
use xds_protos::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_protos::envoy::config::listener::v3 as listener;
use xds_protos::envoy::config::route::v3::RouteConfiguration;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::Secret;

use super::decode;
use crate::config::{BuildCx, Path, Reject};
use crate::listener::Listener;
use crate::registry;
use crate::route::RouteTable;
use crate::transport_socket::SecretManager;

/// Builds a resource as discovery would. Clusters are kept in `cx`, so that what refers to them, and their endpoints, can be
/// built after them; nothing else has an effect.
///
/// # Errors
/// Why it would be refused; also for types that nothing here uses.
pub fn build(any: &Any, cx: &BuildCx) -> Result<(), Reject> {
    let resource = Resource {
        name: String::new(),
        aliases: Vec::new(),
        version: String::new(),
        ttl: None,
        any: any.clone().into(),
    };
    let path = Path::root("");
    match TypeUrl::from(any.type_url.as_str()) {
        url if url == TypeUrl::CLUSTER => {
            let proto: Cluster = decode(&resource)?;
            let prepared = cx.clusters.prepare(&proto, proto.encode_to_vec().into(), &path, cx)?;
            cx.clusters.commit(prepared, true, cx);
            Ok(())
        }
        url if url == TypeUrl::ENDPOINT => {
            let proto: ClusterLoadAssignment = decode(&resource)?;
            cx.clusters.assign(&proto.cluster_name, &proto, &path, cx).map(drop)
        }
        url if url == TypeUrl::LISTENER => {
            let proto: listener::Listener = decode(&resource)?;
            Listener::build(&proto, &path, &cx.for_resource()).map(drop)
        }
        url if url == TypeUrl::ROUTE => {
            let proto: RouteConfiguration = decode(&resource)?;
            RouteTable::build(&proto, &path, cx, false, &registry::filter_config).map(drop)
        }
        url if url == TypeUrl::SECRET => {
            let proto: Secret = decode(&resource)?;
            SecretManager::default().add_static(&[proto], &path)
        }
        url if url == TypeUrl::EXTENSION_CONFIG => {
            let proto: TypedExtensionConfig = decode(&resource)?;
            let of = proto.typed_config.as_ref().map_or("none", |config| config.type_url.as_str());
            Err(path.reject(format_args!("discovery of extensions is not supported yet, got a configuration of {of}")))
        }
        other => Err(path.reject(format_args!("nothing here uses resources of type {other}"))),
    }
}
