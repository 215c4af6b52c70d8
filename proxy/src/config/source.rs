//! `envoy.config.core.v3.ConfigSource`: where a resource comes from that is not in the configuration that names it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use xds_protos::envoy::config::core::v3::grpc_service::TargetSpecifier;

use super::{Path, Reject, values};

/// How long to wait for a resource where nothing else is said, as Envoy.
const INITIAL_FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// Where to ask for a resource, and how long to wait for its first version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSource {
    pub origin: Origin,
    /// None: for ever.
    pub initial_fetch_timeout: Option<Duration>,
}

/// A place that answers for resources.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The one stream of `dynamic_resources.ads_config`.
    Ads,
    /// A stream for each type of resource.
    Grpc(Arc<GrpcSource>),
    Path(Arc<PathSource>),
}

/// `envoy.config.core.v3.ApiConfigSource` over gRPC.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GrpcSource {
    /// Incremental, else state of the world.
    pub delta: bool,
    /// The cluster whose hosts are asked.
    pub cluster: Arc<str>,
    /// `:authority`; empty for the cluster's name.
    pub authority: String,
    pub initial_metadata: Vec<(HeaderName, HeaderValue)>,
    pub set_node_on_first_message_only: bool,
    /// Base and largest interval between attempts to connect.
    pub back_off: Option<(Duration, Duration)>,
    /// Requests at once, and per second; the rate in thousandths.
    pub rate_limit: Option<(u32, u64)>,
}

/// `envoy.config.core.v3.PathConfigSource`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathSource {
    pub path: String,
    /// The directory whose changes tell of a new version, when it is not the file's own.
    pub watched_directory: Option<String>,
}

impl ConfigSource {
    /// # Errors
    /// For sources other than ADS, gRPC with the v3 protocol, and files.
    pub fn build(proto: &core::ConfigSource, path: &Path<'_>) -> Result<Self, Reject> {
        let core::ConfigSource { authorities, initial_fetch_timeout, resource_api_version, config_source_specifier } =
            proto;
        if !authorities.is_empty() {
            return Err(path.field("authorities").reject("not supported yet"));
        }
        api_version(*resource_api_version, &path.field("resource_api_version"))?;
        let at = path.field("initial_fetch_timeout");
        let timeout = values::optional_duration(initial_fetch_timeout.as_ref(), &at)?.unwrap_or(INITIAL_FETCH_TIMEOUT);
        let origin = match config_source_specifier {
            // What came over ADS may say that it means the same stream.
            Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_)) => Origin::Ads,
            Some(ConfigSourceSpecifier::ApiConfigSource(api)) => {
                Origin::Grpc(Arc::new(GrpcSource::build(api, false, &path.field("api_config_source"))?))
            }
            Some(ConfigSourceSpecifier::PathConfigSource(source)) => {
                let core::PathConfigSource { path: file, watched_directory, poll_interval } = source;
                let path = path.field("path_config_source");
                if poll_interval.is_some() {
                    return Err(path.field("poll_interval").reject("not supported: changes of the file are noticed"));
                }
                Origin::Path(Arc::new(PathSource {
                    path: file.clone(),
                    watched_directory: watched_directory.as_ref().map(|watched| watched.path.clone()),
                }))
            }
            #[allow(deprecated, reason = "still accepted by Envoy")]
            Some(ConfigSourceSpecifier::Path(file)) => {
                Origin::Path(Arc::new(PathSource { path: file.clone(), watched_directory: None }))
            }
            None => return Err(path.reject("expected ads, api_config_source or path_config_source; none is set")),
        };
        Ok(ConfigSource { origin, initial_fetch_timeout: Some(timeout).filter(|timeout| !timeout.is_zero()) })
    }
}

/// `AUTO` (the default) and `V3` are the same by now.
fn api_version(version: i32, path: &Path<'_>) -> Result<(), Reject> {
    match core::ApiVersion::try_from(version) {
        Ok(core::ApiVersion::V3 | core::ApiVersion::Auto) => Ok(()),
        Ok(other) => Err(path.reject(format_args!("expected V3, got {}", other.as_str_name()))),
        Err(_) => Err(path.reject(format_args!("expected V3, got {version}"))),
    }
}

impl GrpcSource {
    /// `aggregated`: whether this is `ads_config`.
    ///
    /// # Errors
    /// For REST, for Google's gRPC library, and for anything but one gRPC service.
    pub fn build(proto: &core::ApiConfigSource, aggregated: bool, path: &Path<'_>) -> Result<Self, Reject> {
        use core::api_config_source::ApiType;
        let core::ApiConfigSource {
            api_type,
            transport_api_version,
            cluster_names,
            grpc_services,
            refresh_delay: _,   // of REST
            request_timeout: _, // of REST
            rate_limit_settings,
            set_node_on_first_message_only,
            config_validators,
        } = proto;
        let at = path.field("api_type");
        let delta = match ApiType::try_from(*api_type) {
            Ok(ApiType::Grpc) => false,
            Ok(ApiType::DeltaGrpc) => true,
            Ok(other) if aggregated => {
                return Err(at.reject(format_args!("expected GRPC or DELTA_GRPC, got {}", other.as_str_name())));
            }
            Ok(other) => {
                let why = format_args!("expected GRPC or DELTA_GRPC, which are supported, got {}", other.as_str_name());
                return Err(at.reject(why));
            }
            Err(_) => return Err(at.reject(format_args!("unknown type {api_type}"))),
        };
        let at = path.field("transport_api_version");
        match core::ApiVersion::try_from(*transport_api_version) {
            Ok(core::ApiVersion::V3) => {}
            _ => return Err(at.reject("expected V3, the only version there is")),
        }
        if !cluster_names.is_empty() {
            return Err(path.field("cluster_names").reject("only for REST; expected grpc_services"));
        }
        if !config_validators.is_empty() {
            return Err(path.field("config_validators").reject("not supported yet"));
        }
        let [service] = grpc_services.as_slice() else {
            let why = format_args!("expected exactly one service, got {}", grpc_services.len());
            return Err(path.field("grpc_services").reject(why));
        };
        let path_of_list = path.field("grpc_services");
        let mut source = GrpcSource::service(service, &path_of_list.index(0))?;
        source.delta = delta;
        source.set_node_on_first_message_only = *set_node_on_first_message_only;
        source.rate_limit = rate_limit_settings.as_ref().map(|limit| {
            let rate = limit.fill_rate.unwrap_or(10.0).clamp(0.001, 1e9);
            (limit.max_tokens.unwrap_or(100), (rate * 1000.0) as u64)
        });
        Ok(source)
    }

    fn service(proto: &core::GrpcService, path: &Path<'_>) -> Result<Self, Reject> {
        let core::GrpcService {
            timeout: _, // of single calls; a stream has none
            initial_metadata,
            retry_policy,
            target_specifier,
        } = proto;
        let grpc = match target_specifier {
            Some(TargetSpecifier::EnvoyGrpc(grpc)) => grpc,
            Some(TargetSpecifier::GoogleGrpc(_)) => {
                return Err(path.field("google_grpc").reject("not supported: expected envoy_grpc with a cluster"));
            }
            None => return Err(path.reject("expected envoy_grpc, got none")),
        };
        let at = path.field("envoy_grpc");
        let core::grpc_service::EnvoyGrpc {
            cluster_name,
            authority,
            retry_policy: own_retry_policy,
            max_receive_message_length,
            skip_envoy_headers: _, // none are sent
        } = grpc;
        if cluster_name.is_empty() {
            return Err(at.field("cluster_name").reject("expected a name, got none"));
        }
        if max_receive_message_length.is_some_and(|length| length != 0) {
            return Err(at.field("max_receive_message_length").reject("not supported: messages have no limit"));
        }
        let at = path.field("initial_metadata");
        let metadata = initial_metadata.iter().enumerate().map(|(index, header)| {
            let at = at.index(index);
            let name = HeaderName::from_bytes(header.key.as_bytes())
                .map_err(|_| at.field("key").reject(format_args!("expected a header name, got {:?}", header.key)))?;
            let raw = if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value[..] };
            let value = HeaderValue::from_bytes(raw)
                .map_err(|_| at.field("value").reject("expected a value without control characters"))?;
            Ok((name, value))
        });
        let retry = own_retry_policy.as_ref().or(retry_policy.as_ref());
        let at = path.field("retry_policy");
        let at = at.field("retry_back_off");
        let back_off = retry.and_then(|policy| policy.retry_back_off.as_ref()).map(|back_off| {
            let base = values::optional_duration(back_off.base_interval.as_ref(), &at.field("base_interval"))?
                .filter(|base| !base.is_zero())
                .ok_or_else(|| at.field("base_interval").reject("expected more than 0s"))?;
            let max = values::optional_duration(back_off.max_interval.as_ref(), &at.field("max_interval"))?;
            let max = max.unwrap_or(base * 10);
            if max < base {
                return Err(at.field("max_interval").reject("expected at least base_interval"));
            }
            Ok((base, max))
        });
        Ok(GrpcSource {
            delta: false,
            cluster: cluster_name.as_str().into(),
            authority: authority.clone(),
            initial_metadata: metadata.collect::<Result<_, Reject>>()?,
            set_node_on_first_message_only: false,
            back_off: back_off.transpose()?,
            rate_limit: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::testing::proto;

    fn source(yaml: &str) -> Result<ConfigSource, String> {
        ConfigSource::build(&proto(yaml), &Path::root("")).map_err(|reject| reject.to_string())
    }

    #[test]
    fn what_istio_sends() {
        let ads = source("{ ads: {}, initial_fetch_timeout: 0s, resource_api_version: V3 }").unwrap();
        assert_eq!(ads, ConfigSource { origin: Origin::Ads, initial_fetch_timeout: None });
        let sds = source(
            "api_config_source: { api_type: GRPC, transport_api_version: V3, set_node_on_first_message_only: true, \
             grpc_services: [ { envoy_grpc: { cluster_name: sds-grpc } } ] }",
        )
        .unwrap();
        assert_eq!(sds.initial_fetch_timeout, Some(Duration::from_secs(15)));
        let Origin::Grpc(grpc) = sds.origin else { panic!("not gRPC") };
        assert_eq!((&*grpc.cluster, grpc.delta, grpc.set_node_on_first_message_only), ("sds-grpc", false, true));
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let refused = |yaml: &str, path: &str| {
            let why = source(yaml).unwrap_err();
            assert!(why.starts_with(path), "{why}");
        };
        refused("{}", ": expected ads");
        refused("api_config_source: { api_type: REST, transport_api_version: V3 }", "api_config_source.api_type: ");
        let grpc = |rest: &str| format!("api_config_source: {{ api_type: GRPC, transport_api_version: V3, {rest} }}");
        refused(&grpc(""), "api_config_source.grpc_services: expected exactly one");
        refused(
            &grpc("grpc_services: [ { google_grpc: { target_uri: a, stat_prefix: b } } ]"),
            "api_config_source.grpc_services[0].google_grpc: ",
        );
        refused(
            &grpc("grpc_services: [ { envoy_grpc: { cluster_name: a }, initial_metadata: [ { key: \"a b\" } ] } ]"),
            "api_config_source.grpc_services[0].initial_metadata[0].key: ",
        );
        refused("{ ads: {}, resource_api_version: V2 }", "resource_api_version: expected V3");
    }
}
