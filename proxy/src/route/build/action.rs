//! The actions of a route.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use xds_protos::envoy::config::core::v3::{RoutingPriority as ProtoPriority, TypedExtensionConfig};
use xds_protos::envoy::config::route::v3 as pb;
use xds_protos::envoy::config::route::v3::redirect_action::{PathRewriteSpecifier, SchemeRewriteSpecifier};
use xds_protos::envoy::config::route::v3::route_action::{self, HostRewriteSpecifier};
use xds_protos::envoy::extensions::path::rewrite::uri_template::v3::UriTemplateRewriteConfig;

use super::{Cx, Inherited, header_name};
use crate::config::data_source::DataSource;
use crate::config::matcher::RegexSubstitution;
use crate::config::values::{decode, optional_duration};
use crate::config::{Path, Reject};
use crate::formatter::{Extensions, Formatter, LineFormat};
use crate::route::action::{
    Action, ConnectConfig, DirectResponse, MaxStreamDuration, RouteAction, RoutingPriority, Timeouts, UpgradeConfig,
};
use crate::route::hash_policy::HashPolicy;
use crate::route::matcher::{PathMatcher, RouteMatcher};
use crate::route::redirect::{PathRedirect, RedirectAction};
use crate::route::retry::RetryPolicy;
use crate::route::rewrite::{HostRewrite, PathRewrite};
use crate::route::unsupported::{refuse, reject};
use crate::route::uri_template::UriTemplateRewrite;

impl Cx<'_> {
    pub(super) fn action(
        self,
        proto: Option<&pb::route::Action>,
        matcher: &RouteMatcher,
        inherited: &Inherited,
        path: &Path,
    ) -> Result<Action, Reject> {
        Ok(match proto {
            Some(pb::route::Action::Route(route)) => {
                Action::Route(Box::new(self.route_action(route, matcher, inherited, &path.field("route"))?))
            }
            Some(pb::route::Action::Redirect(redirect)) => {
                Action::Redirect(Box::new(redirect_action(redirect, &path.field("redirect"))?))
            }
            Some(pb::route::Action::DirectResponse(response)) => {
                let response =
                    direct_response(response, self.max_direct_response_body, &path.field("direct_response"))?;
                Action::DirectResponse(Box::new(response))
            }
            Some(pb::route::Action::NonForwardingAction(pb::NonForwardingAction {})) => Action::NonForwarding,
            Some(pb::route::Action::FilterAction(_)) => return Err(reject(path, "filter_action")),
            None => {
                return Err(path.reject("expected one of route, redirect, direct_response, non_forwarding_action"));
            }
        })
    }

    #[expect(deprecated, reason = "max_grpc_timeout and others are still sent")]
    fn route_action(
        self,
        proto: &pb::RouteAction,
        matcher: &RouteMatcher,
        inherited: &Inherited,
        path: &Path,
    ) -> Result<RouteAction, Reject> {
        let pb::RouteAction {
            cluster_not_found_response_code,
            metadata_match,
            prefix_rewrite,
            regex_rewrite,
            path_rewrite_policy,
            path_rewrite,
            append_x_forwarded_host,
            timeout,
            idle_timeout,
            flush_timeout,
            early_data_policy,
            retry_policy,
            retry_policy_typed_config,
            request_mirror_policies,
            priority,
            rate_limits,
            include_vh_rate_limits,
            hash_policy,
            cors,
            max_grpc_timeout,
            grpc_timeout_offset,
            upgrade_configs,
            internal_redirect_policy,
            internal_redirect_action,
            max_internal_redirects,
            hedge_policy,
            max_stream_duration,
            cluster_specifier,
            host_rewrite_specifier,
        } = proto;
        refuse(
            path,
            &[
                ("metadata_match", metadata_match.is_some()),
                ("early_data_policy", early_data_policy.is_some()),
                ("retry_policy_typed_config", retry_policy_typed_config.is_some()),
                ("request_mirror_policies", !request_mirror_policies.is_empty()),
                ("rate_limits", !rate_limits.is_empty()),
                ("include_vh_rate_limits", include_vh_rate_limits.unwrap_or(false)),
                ("cors", cors.is_some()),
                ("internal_redirect_policy", internal_redirect_policy.is_some()),
                ("internal_redirect_action", *internal_redirect_action != 0),
                ("max_internal_redirects", max_internal_redirects.is_some()),
                ("hedge_policy", hedge_policy.is_some()),
            ],
        )?;
        let optional =
            |value: &Option<prost_types::Duration>, field| optional_duration(value.as_ref(), &path.field(field));
        let max_path = path.field("max_stream_duration");
        let timeouts = Timeouts {
            timeout: optional(timeout, "timeout")?.unwrap_or(Timeouts::default().timeout),
            idle_timeout: optional(idle_timeout, "idle_timeout")?,
            flush_timeout: optional(flush_timeout, "flush_timeout")?,
            max_stream_duration: max_stream_duration.as_ref().map(|m| max_duration(m, &max_path)).transpose()?,
            max_grpc_timeout: optional(max_grpc_timeout, "max_grpc_timeout")?,
            grpc_timeout_offset: optional(grpc_timeout_offset, "grpc_timeout_offset")?,
        };
        let retry_policy = match retry_policy {
            Some(policy) => Some(Arc::new(RetryPolicy::build(policy, &path.field("retry_policy"))?)),
            None => inherited.retry_policy.clone(),
        };
        let hash_path = path.field("hash_policy");
        let hash_policy = hash_policy.iter().enumerate().map(|(i, p)| HashPolicy::build(p, &hash_path.index(i)));
        let rewrites = Rewrites { prefix_rewrite, regex_rewrite, path_rewrite_policy, path_rewrite };
        Ok(RouteAction {
            cluster: self.cluster_specifier(cluster_specifier.as_ref(), path)?,
            cluster_not_found_response_code: not_found_code(*cluster_not_found_response_code, path)?,
            path_rewrite: rewrites.build(matcher, path)?,
            host_rewrite: host_rewrite(host_rewrite_specifier.as_ref(), path)?,
            append_x_forwarded_host: *append_x_forwarded_host,
            timeouts,
            priority: routing_priority(*priority, path)?,
            upgrade_configs: upgrades(upgrade_configs, &path.field("upgrade_configs"))?,
            retry_policy,
            hash_policy: hash_policy.collect::<Result<_, _>>()?,
        })
    }
}

fn not_found_code(code: i32, path: &Path) -> Result<StatusCode, Reject> {
    use route_action::ClusterNotFoundResponseCode as Code;
    match Code::try_from(code) {
        Ok(Code::ServiceUnavailable) => Ok(StatusCode::SERVICE_UNAVAILABLE),
        Ok(Code::NotFound) => Ok(StatusCode::NOT_FOUND),
        Ok(Code::InternalServerError) => Ok(StatusCode::INTERNAL_SERVER_ERROR),
        Err(_) => Err(path.field("cluster_not_found_response_code").reject(format_args!("{code} is not known"))),
    }
}

fn routing_priority(priority: i32, path: &Path) -> Result<RoutingPriority, Reject> {
    match ProtoPriority::try_from(priority) {
        Ok(ProtoPriority::Default) => Ok(RoutingPriority::Default),
        Ok(ProtoPriority::High) => Ok(RoutingPriority::High),
        Err(_) => Err(path.field("priority").reject(format_args!("expected DEFAULT or HIGH, got {priority}"))),
    }
}

fn max_duration(proto: &route_action::MaxStreamDuration, path: &Path) -> Result<MaxStreamDuration, Reject> {
    let route_action::MaxStreamDuration { max_stream_duration, grpc_timeout_header_max, grpc_timeout_header_offset } =
        proto;
    let optional = |value: &Option<prost_types::Duration>, field| optional_duration(value.as_ref(), &path.field(field));
    Ok(MaxStreamDuration {
        max_stream_duration: optional(max_stream_duration, "max_stream_duration")?,
        grpc_timeout_header_max: optional(grpc_timeout_header_max, "grpc_timeout_header_max")?,
        grpc_timeout_header_offset: optional(grpc_timeout_header_offset, "grpc_timeout_header_offset")?,
    })
}

/// Of these a route may have one.
struct Rewrites<'p> {
    prefix_rewrite: &'p str,
    regex_rewrite: &'p Option<xds_protos::envoy::r#type::matcher::v3::RegexMatchAndSubstitute>,
    path_rewrite_policy: &'p Option<TypedExtensionConfig>,
    path_rewrite: &'p str,
}

impl Rewrites<'_> {
    fn build(&self, matcher: &RouteMatcher, path: &Path) -> Result<Option<PathRewrite>, Reject> {
        let Rewrites { prefix_rewrite, regex_rewrite, path_rewrite_policy, path_rewrite } = self;
        let set = [
            !prefix_rewrite.is_empty(),
            regex_rewrite.is_some(),
            path_rewrite_policy.is_some(),
            !path_rewrite.is_empty(),
        ];
        if set.iter().filter(|is_set| **is_set).count() > 1 {
            return Err(
                path.reject("expected only one of prefix_rewrite, regex_rewrite, path_rewrite_policy or path_rewrite")
            );
        }
        let template = match &matcher.path {
            PathMatcher::UriTemplate(template) => Some(template),
            _ => None,
        };
        if !prefix_rewrite.is_empty() {
            if template.is_some() {
                return Err(path.field("prefix_rewrite").reject("cannot be used with path_match_policy"));
            }
            return Ok(Some(PathRewrite::Prefix((*prefix_rewrite).into())));
        }
        if let Some(rewrite) = regex_rewrite {
            let substitution = RegexSubstitution::build(rewrite, &path.field("regex_rewrite"))?;
            return Ok(Some(PathRewrite::Regex(Box::new(substitution))));
        }
        if !path_rewrite.is_empty() {
            return Ok(Some(PathRewrite::Format(format(path_rewrite, &path.field("path_rewrite"))?)));
        }
        let Some(TypedExtensionConfig { name, typed_config }) = path_rewrite_policy else { return Ok(None) };
        let path = path.field("path_rewrite_policy");
        let path = path.field("typed_config");
        let any = typed_config.as_ref().ok_or_else(|| path.reject("expected a path rewriter, got none"))?;
        let known = "envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig";
        if any.type_url.rsplit('/').next() != Some(known) {
            return Err(
                path.reject(format_args!("path rewriter {name:?} with type URL {:?} is not known", any.type_url))
            );
        }
        let UriTemplateRewriteConfig { path_template_rewrite } = decode(any, &path)?;
        let path = path.field("path_template_rewrite");
        let template = template.ok_or_else(|| path.reject("expected a path_match_policy in the route's match"))?;
        let rewrite = UriTemplateRewrite::parse(&path_template_rewrite, template).map_err(|why| path.reject(why))?;
        Ok(Some(PathRewrite::UriTemplate(Box::new(rewrite))))
    }
}

fn host_rewrite(proto: Option<&HostRewriteSpecifier>, path: &Path) -> Result<Option<HostRewrite>, Reject> {
    Ok(match proto {
        None | Some(HostRewriteSpecifier::AutoHostRewrite(false)) => None,
        Some(HostRewriteSpecifier::AutoHostRewrite(true)) => Some(HostRewrite::Auto),
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) if host.is_empty() => None,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
            super::check_host(host, &path.field("host_rewrite_literal"))?;
            Some(HostRewrite::Literal(host.as_str().into()))
        }
        Some(HostRewriteSpecifier::HostRewriteHeader(name)) => {
            Some(HostRewrite::Header(header_name(name, &path.field("host_rewrite_header"))?))
        }
        Some(HostRewriteSpecifier::HostRewritePathRegex(rewrite)) => {
            let substitution = RegexSubstitution::build(rewrite, &path.field("host_rewrite_path_regex"))?;
            Some(HostRewrite::PathRegex(Box::new(substitution)))
        }
        Some(HostRewriteSpecifier::HostRewrite(host)) if host.is_empty() => None,
        Some(HostRewriteSpecifier::HostRewrite(host)) => {
            Some(HostRewrite::Format(format(host, &path.field("host_rewrite"))?))
        }
    })
}

fn format(text: &str, path: &Path) -> Result<Box<Formatter>, Reject> {
    Formatter::parse(text, Extensions::default()).map(Box::new).map_err(|why| path.reject(why))
}

fn upgrades(protos: &[route_action::UpgradeConfig], path: &Path) -> Result<Box<[UpgradeConfig]>, Reject> {
    let mut built: Vec<UpgradeConfig> = Vec::with_capacity(protos.len());
    for (i, proto) in protos.iter().enumerate() {
        let path = path.index(i);
        let route_action::UpgradeConfig { upgrade_type, enabled, connect_config } = proto;
        let lower = upgrade_type.to_ascii_lowercase();
        let type_path = path.field("upgrade_type");
        if lower.is_empty() {
            return Err(type_path.reject("expected at least one character"));
        }
        if built.iter().any(|have| *have.upgrade_type == *lower) {
            return Err(type_path.reject(format_args!("Duplicate upgrade {upgrade_type}")));
        }
        let config_path = path.field("connect_config");
        let connect = connect_config.as_ref().map(|config| {
            let route_action::upgrade_config::ConnectConfig { proxy_protocol_config, allow_post } = config;
            if !matches!(lower.as_str(), "connect" | "connect-udp") {
                return Err(
                    config_path.reject(format_args!("Non-CONNECT upgrade type {upgrade_type} has ConnectConfig"))
                );
            }
            refuse(&config_path, &[("proxy_protocol_config", proxy_protocol_config.is_some())])?;
            Ok(ConnectConfig { allow_post: *allow_post })
        });
        built.push(UpgradeConfig {
            upgrade_type: lower.into(),
            enabled: enabled.unwrap_or(true),
            connect: connect.transpose()?,
        });
    }
    Ok(built.into())
}

fn redirect_action(proto: &pb::RedirectAction, path: &Path) -> Result<RedirectAction, Reject> {
    use pb::redirect_action::RedirectResponseCode as Code;
    let pb::RedirectAction {
        host_redirect,
        port_redirect,
        response_code,
        strip_query,
        scheme_rewrite_specifier,
        path_rewrite_specifier,
    } = proto;
    let response_code = match Code::try_from(*response_code) {
        Ok(Code::MovedPermanently) => StatusCode::MOVED_PERMANENTLY,
        Ok(Code::Found) => StatusCode::FOUND,
        Ok(Code::SeeOther) => StatusCode::SEE_OTHER,
        Ok(Code::TemporaryRedirect) => StatusCode::TEMPORARY_REDIRECT,
        Ok(Code::PermanentRedirect) => StatusCode::PERMANENT_REDIRECT,
        Err(_) => return Err(path.field("response_code").reject(format_args!("{response_code} is not known"))),
    };
    let text = |field: &str, text: &str| match text.contains(['\r', '\n', '\0']) {
        true => Err(path.field(field).reject(format_args!("expected no line break and no NUL, got {text:?}"))),
        false => Ok((!text.is_empty()).then(|| Box::<str>::from(text))),
    };
    let scheme = match scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => text("scheme_redirect", scheme)?,
        Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
    };
    let path_redirect = match path_rewrite_specifier {
        None => PathRedirect::Keep,
        Some(PathRewriteSpecifier::PathRedirect(to)) => {
            text("path_redirect", to)?.map_or(PathRedirect::Keep, PathRedirect::Path)
        }
        Some(PathRewriteSpecifier::PrefixRewrite(to)) => {
            text("prefix_rewrite", to)?.map_or(PathRedirect::Keep, PathRedirect::Prefix)
        }
        Some(PathRewriteSpecifier::RegexRewrite(rewrite)) => {
            PathRedirect::Regex(Box::new(RegexSubstitution::build(rewrite, &path.field("regex_rewrite"))?))
        }
        Some(PathRewriteSpecifier::PathRewrite(to)) if to.is_empty() => PathRedirect::Keep,
        Some(PathRewriteSpecifier::PathRewrite(to)) => PathRedirect::Format(format(to, &path.field("path_rewrite"))?),
    };
    Ok(RedirectAction {
        response_code,
        scheme,
        host: text("host_redirect", host_redirect)?,
        port: Some(*port_redirect).filter(|port| *port != 0),
        path: path_redirect,
        strip_query: *strip_query,
    })
}

fn direct_response(proto: &pb::DirectResponseAction, max_body: u32, path: &Path) -> Result<DirectResponse, Reject> {
    let pb::DirectResponseAction { status, body, body_format } = proto;
    let format_path = path.field("body_format");
    let format = body_format.as_ref().map(|format| LineFormat::build(format, &format_path)).transpose()?;
    let code = u16::try_from(*status).ok().filter(|code| (200..600).contains(code));
    let code = code.and_then(|code| StatusCode::from_u16(code).ok());
    let status_path = path.field("status");
    let status = code.ok_or_else(|| status_path.reject(format_args!("expected from 200 to 599, got {status}")))?;
    let body_path = path.field("body");
    let body = body.as_ref().map_or(Ok(Bytes::new()), |source| DataSource::load(source, &body_path))?;
    if body.len() > max_body as usize {
        let why = format_args!("response body size is {} bytes; maximum is {max_body}", body.len());
        return Err(body_path.reject(why));
    }
    Ok(DirectResponse { status, body, body_format: format.map(Box::new) })
}
