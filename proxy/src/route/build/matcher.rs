//! `envoy.config.route.v3.RouteMatch`.

use xds_protos::envoy::config::core::v3::TypedExtensionConfig;
use xds_protos::envoy::config::route::v3 as pb;
use xds_protos::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use xds_protos::envoy::config::route::v3::route_match::PathSpecifier;
use xds_protos::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;

use super::Cx;
use crate::config::matcher::{Regex, StringMatcher};
use crate::config::values::decode;
use crate::config::{Path, Reject};
use crate::route::header_matcher::HeaderMatcher;
use crate::route::matcher::{
    Conditions, CookieMatcher, PathMatcher, QueryParameterMatcher, QueryParameterValue, RouteMatcher, TlsContext,
};
use crate::route::unsupported::refuse;
use crate::route::uri_template::UriTemplate;

const MAX_NAME: usize = 1024;

impl Cx<'_> {
    pub(super) fn matcher(self, proto: &pb::RouteMatch, path: &Path) -> Result<RouteMatcher, Reject> {
        let pb::RouteMatch {
            case_sensitive,
            runtime_fraction,
            headers,
            query_parameters,
            cookies,
            grpc,
            tls_context,
            dynamic_metadata,
            filter_state,
            path_specifier,
        } = proto;
        refuse(
            path,
            &[("dynamic_metadata", !dynamic_metadata.is_empty()), ("filter_state", !filter_state.is_empty())],
        )?;
        let fraction_path = path.field("runtime_fraction");
        let fraction = runtime_fraction.as_ref();
        let fraction = fraction.map(|f| self.cx.runtime.fractional_percent(f, &fraction_path)).transpose()?;
        let conditions = Conditions {
            runtime_fraction: fraction,
            grpc: grpc.is_some(),
            headers: HeaderMatcher::build_all(headers, &path.field("headers"))?,
            query_parameters: all(query_parameters, &path.field("query_parameters"), query_parameter)?,
            cookies: all(cookies, &path.field("cookies"), cookie)?,
            tls_context: tls_context.as_ref().map(
                |pb::route_match::TlsContextMatchOptions { presented, validated }| TlsContext {
                    presented: *presented,
                    validated: *validated,
                },
            ),
        };
        Ok(RouteMatcher {
            path: path_matcher(path_specifier.as_ref(), path)?,
            case_sensitive: case_sensitive.unwrap_or(true),
            conditions: (!conditions.is_none()).then(|| Box::new(conditions)),
        })
    }
}

fn all<P, T>(protos: &[P], path: &Path, build: fn(&P, &Path) -> Result<T, Reject>) -> Result<Box<[T]>, Reject> {
    protos.iter().enumerate().map(|(i, proto)| build(proto, &path.index(i))).collect()
}

fn path_matcher(proto: Option<&PathSpecifier>, path: &Path) -> Result<PathMatcher, Reject> {
    Ok(match proto {
        Some(PathSpecifier::Prefix(prefix)) => PathMatcher::Prefix(prefix.as_str().into()),
        Some(PathSpecifier::Path(exact)) => PathMatcher::Path(exact.as_str().into()),
        Some(PathSpecifier::SafeRegex(regex)) => {
            PathMatcher::SafeRegex(Regex::build(regex, &path.field("safe_regex"))?)
        }
        Some(PathSpecifier::ConnectMatcher(pb::route_match::ConnectMatcher {})) => PathMatcher::Connect,
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
            if prefix.len() < 2 || prefix.contains(['?', '#']) || prefix.ends_with('/') {
                let why = "expected at least two characters, no ? and #, and no / at the end";
                return Err(path.field("path_separated_prefix").reject(format_args!("{why}, got {prefix:?}")));
            }
            PathMatcher::PathSeparatedPrefix(prefix.as_str().into())
        }
        Some(PathSpecifier::PathMatchPolicy(extension)) => uri_template(extension, &path.field("path_match_policy"))?,
        None => {
            let names = "prefix, path, safe_regex, connect_matcher, path_separated_prefix, path_match_policy";
            return Err(path.reject(format_args!("expected one of {names}")));
        }
    })
}

fn uri_template(proto: &TypedExtensionConfig, path: &Path) -> Result<PathMatcher, Reject> {
    UriTemplate::build(proto, path).map(|template| PathMatcher::UriTemplate(Box::new(template)))
}

impl UriTemplate {
    /// From the extension `envoy.path.match.uri_template.uri_template_matcher`.
    ///
    /// # Errors
    /// For another extension, and what is wrong with the template.
    pub fn build(proto: &TypedExtensionConfig, path: &Path) -> Result<Self, Reject> {
        let TypedExtensionConfig { name, typed_config } = proto;
        let path = path.field("typed_config");
        let any = typed_config.as_ref().ok_or_else(|| path.reject("expected a path matcher, got none"))?;
        let known = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";
        if any.type_url.rsplit('/').next() != Some(known) {
            return Err(
                path.reject(format_args!("path matcher {name:?} with type URL {:?} is not known", any.type_url))
            );
        }
        let UriTemplateMatchConfig { path_template } = decode(any, &path)?;
        UriTemplate::parse(&path_template)
            .map_err(|why| path.field("path_template").reject(format_args!("{why}, got {path_template:?}")))
    }
}

fn query_parameter(proto: &pb::QueryParameterMatcher, path: &Path) -> Result<QueryParameterMatcher, Reject> {
    let pb::QueryParameterMatcher { name, query_parameter_match_specifier } = proto;
    if name.is_empty() || name.len() > MAX_NAME {
        let why = format_args!("expected from 1 to {MAX_NAME} bytes, got {}", name.len());
        return Err(path.field("name").reject(why));
    }
    let value = match query_parameter_match_specifier {
        None => QueryParameterValue::Present(true),
        Some(QueryParameterMatchSpecifier::PresentMatch(present)) => QueryParameterValue::Present(*present),
        Some(QueryParameterMatchSpecifier::StringMatch(matcher)) => {
            QueryParameterValue::Text(StringMatcher::build(matcher, &path.field("string_match"))?)
        }
    };
    Ok(QueryParameterMatcher { name: name.as_str().into(), value })
}

fn cookie(proto: &pb::CookieMatcher, path: &Path) -> Result<CookieMatcher, Reject> {
    let pb::CookieMatcher { name, string_match, invert_match } = proto;
    if name.is_empty() || name.len() > MAX_NAME {
        let why = format_args!("expected from 1 to {MAX_NAME} bytes, got {}", name.len());
        return Err(path.field("name").reject(why));
    }
    let value_path = path.field("string_match");
    let value = string_match.as_ref().ok_or_else(|| value_path.reject("expected a matcher, got none"))?;
    Ok(CookieMatcher {
        name: name.as_str().into(),
        value: StringMatcher::build(value, &value_path)?,
        invert_match: *invert_match,
    })
}
