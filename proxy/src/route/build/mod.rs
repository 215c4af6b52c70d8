//! Builds a [`RouteTable`] from `envoy.config.route.v3.RouteConfiguration`.
//!
//! Every field of every message is used here, refused by [`unsupported`](super::unsupported), or named with the reason why
//! it may be passed over; a new field of the API does not compile until that is decided.

mod action;
mod cluster;
mod matcher;
mod per_filter;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::HeaderName;
use xds_protos::envoy::config::core::v3::HeaderValueOption;
use xds_protos::envoy::config::route::v3 as pb;

pub use self::per_filter::BuildFilterConfig;
use super::action::Action;
use super::domains::Domains;
use super::header_matcher::HeaderMatcher;
use super::matcher::{PathMatcher, RouteMatcher};
use super::per_filter::PerFilterConfigs;
use super::redirect::RedirectAction;
use super::retry::RetryPolicy;
use super::table::{Decorator, HeaderOps, RouteEntry, RouteTable, TlsRequirement, VirtualHost};
use super::unsupported::refuse;
use super::virtual_cluster::{VirtualCluster, VirtualClusters};
use crate::config::metadata::LazyMetadata;
use crate::config::{BuildCx, Path, Reject};
use crate::formatter::HeaderMutations;

/// `max_direct_response_body_size_bytes` unless set.
const DEFAULT_MAX_DIRECT_RESPONSE_BODY: u32 = 4096;

/// What builders within a table need besides the process's context.
#[derive(Clone, Copy)]
struct Cx<'a> {
    cx: &'a BuildCx,
    build_filter_config: BuildFilterConfig<'a>,
    /// Refuse clusters that do not exist.
    validate_clusters: bool,
    max_direct_response_body: u32,
}

/// The same empty name for all that have none.
struct Names {
    empty: Arc<str>,
}

impl Names {
    fn of(&self, name: &str) -> Arc<str> {
        if name.is_empty() { self.empty.clone() } else { name.into() }
    }
}

impl RouteTable {
    /// `validate_clusters` is what the configuration gets when it does not say: true where it is part of a listener, false
    /// where it came by RDS. `build_filter_config` looks up the filter that an override is for.
    ///
    /// # Errors
    /// The first field that Envoy would refuse, or that is not supported.
    pub fn build(
        proto: &pb::RouteConfiguration,
        path: &Path,
        cx: &BuildCx,
        validate_clusters: bool,
        build_filter_config: BuildFilterConfig,
    ) -> Result<Arc<RouteTable>, Reject> {
        let pb::RouteConfiguration {
            name,
            virtual_hosts,
            vhds,
            internal_only_headers,
            response_headers_to_add,
            response_headers_to_remove,
            request_headers_to_add,
            request_headers_to_remove,
            most_specific_header_mutations_wins,
            validate_clusters: says_validate_clusters,
            max_direct_response_body_size_bytes,
            cluster_specifier_plugins,
            request_mirror_policies,
            ignore_port_in_host_matching,
            vhost_header,
            ignore_path_parameters_in_path_matching,
            typed_per_filter_config,
            metadata,
            route_specifiers,
        } = proto;
        refuse(
            path,
            &[
                ("vhds", vhds.is_some()),
                ("cluster_specifier_plugins", !cluster_specifier_plugins.is_empty()),
                ("request_mirror_policies", !request_mirror_policies.is_empty()),
                ("route_specifiers", !route_specifiers.is_empty()),
            ],
        )?;
        let cx = Cx {
            cx,
            build_filter_config,
            validate_clusters: says_validate_clusters.unwrap_or(validate_clusters),
            max_direct_response_body: max_direct_response_body_size_bytes.unwrap_or(DEFAULT_MAX_DIRECT_RESPONSE_BODY),
        };
        let names = Names { empty: Arc::from("") };
        let (virtual_hosts, domains) = cx.virtual_hosts(virtual_hosts, name, &names, &path.field("virtual_hosts"))?;
        let internal_path = path.field("internal_only_headers");
        let internal = internal_only_headers.iter().enumerate();
        let internal = internal.map(|(i, name)| header_name(name, &internal_path.index(i)));
        let vhost_header = Some(vhost_header.as_str()).filter(|name| !name.is_empty());
        Ok(Arc::new(RouteTable {
            name: names.of(name),
            virtual_hosts,
            domains,
            vhost_header: vhost_header.map(|name| header_name(name, &path.field("vhost_header"))).transpose()?,
            ignore_port_in_host_matching: *ignore_port_in_host_matching,
            ignore_path_parameters_in_path_matching: *ignore_path_parameters_in_path_matching,
            most_specific_header_mutations_wins: *most_specific_header_mutations_wins,
            headers: header_ops(
                (request_headers_to_add, request_headers_to_remove),
                (response_headers_to_add, response_headers_to_remove),
                path,
            )?,
            per_filter: cx.per_filter(typed_per_filter_config, &path.field("typed_per_filter_config"))?,
            metadata: metadata.as_ref().map(|metadata| Arc::new(LazyMetadata::new(metadata))),
            internal_only_headers: internal.collect::<Result<_, _>>()?,
            tls_redirect: tls_redirect(&names),
        }))
    }
}

/// The nameless route that `require_tls` sends requests to.
fn tls_redirect(names: &Names) -> RouteEntry {
    RouteEntry {
        name: names.of(""),
        matcher: RouteMatcher { path: PathMatcher::Prefix("".into()), case_sensitive: true, conditions: None },
        action: Action::Redirect(Box::new(RedirectAction::TO_TLS)),
        metadata: None,
        decorator: None,
        stats: None,
        request_body_buffer_limit: None,
        headers: HeaderOps::default(),
        per_filter: PerFilterConfigs::default(),
    }
}

/// What routes inherit from their virtual host.
struct Inherited {
    retry_policy: Option<Arc<RetryPolicy>>,
    request_body_buffer_limit: Option<u64>,
}

impl Cx<'_> {
    fn virtual_hosts(
        self,
        protos: &[pb::VirtualHost],
        table: &str,
        names: &Names,
        path: &Path,
    ) -> Result<(Box<[VirtualHost]>, Domains), Reject> {
        let mut domains = Domains::default();
        let mut built = Vec::with_capacity(protos.len());
        for (i, proto) in protos.iter().enumerate() {
            let path = path.index(i);
            let at = path.field("domains");
            if proto.domains.is_empty() {
                return Err(at.reject("expected at least one domain"));
            }
            for (d, domain) in proto.domains.iter().enumerate() {
                let duplicate = |why| at.index(d).reject(format_args!("{why} in route {table}"));
                domains.insert(domain, i as u32).map_err(duplicate)?;
            }
            built.push(self.virtual_host(proto, names, &path)?);
        }
        domains.shrink();
        Ok((built.into(), domains))
    }

    #[expect(deprecated, reason = "cors and per_request_buffer_limit_bytes are still sent")]
    fn virtual_host(self, proto: &pb::VirtualHost, names: &Names, path: &Path) -> Result<VirtualHost, Reject> {
        let pb::VirtualHost {
            name,
            domains: _, // the index has them
            routes,
            matcher,
            require_tls,
            virtual_clusters,
            rate_limits,
            request_headers_to_add,
            request_headers_to_remove,
            response_headers_to_add,
            response_headers_to_remove,
            cors,
            typed_per_filter_config,
            include_request_attempt_count,
            include_attempt_count_in_response,
            retry_policy,
            retry_policy_typed_config,
            hedge_policy,
            include_is_timeout_retry_header,
            per_request_buffer_limit_bytes,
            request_body_buffer_limit,
            request_mirror_policies,
            metadata,
            route_specifiers,
        } = proto;
        if name.is_empty() {
            return Err(path.field("name").reject("expected at least one character"));
        }
        refuse(
            path,
            &[
                ("matcher", matcher.is_some()),
                ("rate_limits", !rate_limits.is_empty()),
                ("cors", cors.is_some()),
                ("retry_policy_typed_config", retry_policy_typed_config.is_some()),
                ("hedge_policy", hedge_policy.is_some()),
                ("include_is_timeout_retry_header", *include_is_timeout_retry_header),
                ("request_mirror_policies", !request_mirror_policies.is_empty()),
                ("route_specifiers", !route_specifiers.is_empty()),
            ],
        )?;
        let tls_path = path.field("require_tls");
        let require_tls = match pb::virtual_host::TlsRequirementType::try_from(*require_tls) {
            Ok(pb::virtual_host::TlsRequirementType::None) => TlsRequirement::None,
            Ok(pb::virtual_host::TlsRequirementType::ExternalOnly) => TlsRequirement::ExternalOnly,
            Ok(pb::virtual_host::TlsRequirementType::All) => TlsRequirement::All,
            Err(_) => {
                return Err(tls_path.reject(format_args!("expected NONE, EXTERNAL_ONLY or ALL, got {require_tls}")));
            }
        };
        let retry_policy =
            retry_policy.as_ref().map(|p| RetryPolicy::build(p, &path.field("retry_policy"))).transpose()?;
        let inherited = Inherited {
            retry_policy: retry_policy.map(Arc::new),
            request_body_buffer_limit: request_body_buffer_limit.or(per_request_buffer_limit_bytes.map(u64::from)),
        };
        let routes_path = path.field("routes");
        let built = routes.iter().enumerate();
        let built = built.map(|(i, route)| self.route(route, name, &inherited, names, &routes_path.index(i)));
        Ok(VirtualHost {
            name: names.of(name),
            routes: built.collect::<Result<_, _>>()?,
            require_tls,
            include_request_attempt_count: *include_request_attempt_count,
            include_attempt_count_in_response: *include_attempt_count_in_response,
            metadata: metadata.as_ref().map(|metadata| Arc::new(LazyMetadata::new(metadata))),
            virtual_clusters: self.virtual_clusters(virtual_clusters, name, &path.field("virtual_clusters"))?,
            headers: header_ops(
                (request_headers_to_add, request_headers_to_remove),
                (response_headers_to_add, response_headers_to_remove),
                path,
            )?,
            per_filter: self.per_filter(typed_per_filter_config, &path.field("typed_per_filter_config"))?,
        })
    }

    fn virtual_clusters(
        self,
        protos: &[pb::VirtualCluster],
        virtual_host: &str,
        path: &Path,
    ) -> Result<Option<Box<VirtualClusters>>, Reject> {
        if protos.is_empty() {
            return Ok(None);
        }
        let cluster = |name: &str| VirtualCluster {
            name: name.into(),
            stats: self.cx.stats.block(&format!("vhost.{virtual_host}.vcluster.{name}")),
        };
        let clusters = protos.iter().enumerate().map(|(i, proto)| {
            let pb::VirtualCluster { headers, name } = proto;
            let path = path.index(i);
            if name.is_empty() {
                return Err(path.field("name").reject("expected at least one character"));
            }
            if headers.is_empty() {
                return Err(path.field("headers").reject("virtual clusters must define 'headers'"));
            }
            Ok((HeaderMatcher::build_all(headers, &path.field("headers"))?, cluster(name)))
        });
        let clusters = clusters.collect::<Result<_, _>>()?;
        Ok(Some(Box::new(VirtualClusters { clusters, other: cluster("other") })))
    }

    #[expect(deprecated, reason = "per_request_buffer_limit_bytes is still sent")]
    fn route(
        self,
        proto: &pb::Route,
        virtual_host: &str,
        inherited: &Inherited,
        names: &Names,
        path: &Path,
    ) -> Result<RouteEntry, Reject> {
        let pb::Route {
            name,
            r#match,
            metadata,
            decorator,
            typed_per_filter_config,
            request_headers_to_add,
            request_headers_to_remove,
            response_headers_to_add,
            response_headers_to_remove,
            tracing,
            per_request_buffer_limit_bytes,
            stat_prefix,
            request_body_buffer_limit,
            route_specifiers,
            action,
        } = proto;
        refuse(path, &[("tracing", tracing.is_some()), ("route_specifiers", !route_specifiers.is_empty())])?;
        let matcher = match r#match {
            Some(proto) => self.matcher(proto, &path.field("match"))?,
            None => return Err(path.field("match").reject("expected a match, got none")),
        };
        let decorator_path = path.field("decorator");
        let decorator = decorator.as_ref().map(|pb::Decorator { operation, propagate }| match operation.as_str() {
            "" => Err(decorator_path.field("operation").reject("expected at least one character")),
            operation => Ok(Box::new(Decorator { operation: operation.into(), propagate: propagate.unwrap_or(true) })),
        });
        let limit = request_body_buffer_limit.or(per_request_buffer_limit_bytes.map(u64::from));
        let stats = Some(stat_prefix).filter(|prefix| !prefix.is_empty());
        Ok(RouteEntry {
            name: names.of(name),
            action: self.action(action.as_ref(), &matcher, inherited, path)?,
            matcher,
            metadata: metadata.as_ref().map(|metadata| Arc::new(LazyMetadata::new(metadata))),
            decorator: decorator.transpose()?,
            stats: stats.map(|prefix| self.cx.stats.block(&format!("vhost.{virtual_host}.route.{prefix}"))),
            request_body_buffer_limit: limit.or(inherited.request_body_buffer_limit),
            headers: header_ops(
                (request_headers_to_add, request_headers_to_remove),
                (response_headers_to_add, response_headers_to_remove),
                path,
            )?,
            per_filter: self.per_filter(typed_per_filter_config, &path.field("typed_per_filter_config"))?,
        })
    }
}

type Mutations<'p> = (&'p [HeaderValueOption], &'p [String]);

fn header_ops(request: Mutations, response: Mutations, path: &Path) -> Result<HeaderOps, Reject> {
    let request = HeaderMutations::build(
        (request.0, &path.field("request_headers_to_add")),
        (request.1, &path.field("request_headers_to_remove")),
    )?;
    let response = HeaderMutations::build(
        (response.0, &path.field("response_headers_to_add")),
        (response.1, &path.field("response_headers_to_remove")),
    )?;
    let none = request.is_empty() && response.is_empty();
    Ok(HeaderOps((!none).then(|| Box::new((request, response)))))
}

fn header_name(name: &str, path: &Path) -> Result<HeaderName, Reject> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| path.reject(format_args!("expected the name of a header, got {name:?}")))
}

/// A host that is written into requests as it stands.
fn check_host(host: &str, path: &Path) -> Result<(), Reject> {
    match http::HeaderValue::from_str(host) {
        Ok(_) => Ok(()),
        Err(_) => Err(path.reject(format_args!("expected a host, got {host:?}"))),
    }
}
