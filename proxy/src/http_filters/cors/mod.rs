//! `envoy.filters.http.cors`: cross-origin resource sharing (the Fetch standard), as policies of routes say.
//!
//! The filter has no configuration of its own: without a `CorsPolicy` on weighted cluster, route, virtual host or table it
//! does nothing. Each field is taken from the most specific policy that sets it; whether there is CORS at all is said by the
//! most specific one alone.
//!
//! Called for every request of a mesh, since istiod sends it always: what it costs without a policy is one look at the route.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use prost_types::Any;
use xds_protos::envoy::extensions::filters::http::cors::v3 as pb;

use super::{FilterCx, FilterPlace, HttpFilter, LocalReply, Step, StreamCx};
use crate::config::matcher::StringMatcher;
use crate::config::{BuildCx, FractionalPercent, Path, Reject, values};
use crate::http::{Body, RequestHead, ResponseHead};
use crate::route::{Action, FilterConfig, RouteMatch};
use crate::runtime::Live;
use crate::stat_block;
use crate::stats::StatBlock;

const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");
const TRUE: HeaderValue = HeaderValue::from_static("true");

stat_block! {
    /// Scope `http.<stat_prefix>.cors`.
    pub struct CorsStats {
        counter ORIGIN_INVALID,
        counter ORIGIN_VALID,
    }
}

struct Cors {
    place: FilterPlace,
    stats: StatBlock<CorsStats>,
}

/// `CorsPolicy` as built; what is `None` is left to a less specific policy.
struct CorsPolicy {
    allow_origins: Vec<StringMatcher>,
    allow_methods: Option<HeaderValue>,
    allow_headers: Option<HeaderValue>,
    expose_headers: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    allow_credentials: Option<bool>,
    allow_private_network_access: Option<bool>,
    forward_not_matching_preflights: Option<bool>,
    enabled: Live<FractionalPercent>,
    shadow_enabled: Live<FractionalPercent>,
}

/// What a response to an origin that is allowed gets.
struct Allowed {
    origin: HeaderValue,
    credentials: bool,
    expose_headers: Option<HeaderValue>,
}

/// # Errors
/// When the bytes are not that message.
pub fn build(config: &Any, path: &Path<'_>, cx: &FilterCx<'_>) -> Result<Arc<dyn HttpFilter>, Reject> {
    let pb::Cors {} = values::decode(config, path)?;
    let stats = cx.build.stats.block_verbatim(&format!("{}.cors", cx.scope));
    Ok(Arc::new(Cors { place: cx.place.clone(), stats }))
}

/// `CorsPolicy`.
///
/// # Errors
/// For a bad matcher or fraction, and for what cannot stand in a header.
pub fn build_route(config: &Any, path: &Path<'_>, cx: &BuildCx) -> Result<FilterConfig, Reject> {
    let pb::CorsPolicy {
        allow_origin_string_match,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        filter_enabled,
        shadow_enabled,
        allow_private_network_access,
        forward_not_matching_preflights,
    } = values::decode(config, path)?;
    let value = |text: &str, field: &str| match text {
        "" => Ok(None),
        text => HeaderValue::from_str(text)
            .map(Some)
            .map_err(|_| path.field(field).reject(format_args!("expected the value of a header, got {text:?}"))),
    };
    let fraction = |proto: Option<_>, field: &str, default| match proto {
        Some(proto) => cx.runtime.fractional_percent(&proto, &path.field(field)),
        None => Ok(Live::fixed(default)),
    };
    let origins = path.field("allow_origin_string_match");
    Ok(Arc::new(CorsPolicy {
        allow_origins: StringMatcher::build_all(&allow_origin_string_match, &origins)?,
        allow_methods: value(&allow_methods, "allow_methods")?,
        allow_headers: value(&allow_headers, "allow_headers")?,
        expose_headers: value(&expose_headers, "expose_headers")?,
        max_age: value(&max_age, "max_age")?,
        allow_credentials,
        allow_private_network_access,
        forward_not_matching_preflights,
        enabled: fraction(filter_enabled, "filter_enabled", FractionalPercent::ALWAYS)?,
        shadow_enabled: fraction(shadow_enabled, "shadow_enabled", FractionalPercent::NEVER)?,
    }))
}

/// The policies of a request, the most specific first.
struct Policies<'r>(Vec<&'r CorsPolicy>);

impl<'r> Policies<'r> {
    fn of(place: &'r FilterPlace, route: Option<&'r RouteMatch>) -> Self {
        let route = route.filter(|route| matches!(route.action(), Action::Route(_)));
        let policies = route.into_iter().flat_map(|route| route.filter_configs(&place.name));
        Policies(policies.filter_map(|policy| policy.downcast_ref()).collect())
    }

    fn first<T>(&self, field: impl Fn(&'r CorsPolicy) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(|policy| field(policy))
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        let origins = self.first(|policy| Some(&policy.allow_origins).filter(|origins| !origins.is_empty()));
        origins.is_some_and(|origins| origins.iter().any(|o| o.matches(b"*") || o.matches(origin.as_bytes())))
    }

    fn credentials(&self) -> bool {
        self.first(|policy| policy.allow_credentials).unwrap_or(false)
    }

    /// The answer to a preflight.
    fn preflight(&self, head: &RequestHead, origin: Option<&HeaderValue>) -> LocalReply {
        let mut reply = LocalReply::new(StatusCode::OK, "", "cors_response");
        let headers = &mut reply.headers;
        if let Some(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
        if self.credentials() {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        // `*` is whatever was asked for, because credentials forbid the wildcard.
        let asked = |value: &HeaderValue, name: HeaderName| match value.as_bytes() {
            b"*" => head.headers.get(name).cloned().unwrap_or(HeaderValue::from_static("")),
            _ => value.clone(),
        };
        if let Some(methods) = self.first(|policy| policy.allow_methods.as_ref()) {
            let methods = asked(methods, header::ACCESS_CONTROL_REQUEST_METHOD);
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        if let Some(names) = self.first(|policy| policy.allow_headers.as_ref()) {
            let names = asked(names, header::ACCESS_CONTROL_REQUEST_HEADERS);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        if let Some(max_age) = self.first(|policy| policy.max_age.as_ref()) {
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, max_age.clone());
        }
        if self.first(|policy| policy.allow_private_network_access) == Some(true)
            && head.headers.get(REQUEST_PRIVATE_NETWORK).is_some_and(|asked| asked == TRUE)
        {
            headers.insert(ALLOW_PRIVATE_NETWORK, TRUE);
        }
        reply
    }
}

impl HttpFilter for Cors {
    fn request(&self, head: &mut RequestHead, _: &mut Body, cx: &mut StreamCx) -> Step {
        let route = cx.route.clone();
        let policies = Policies::of(&self.place, route.as_ref());
        let Some(first) = policies.0.first() else { return Step::Continue };
        let enabled = first.enabled.get().hit(fastrand::u64(..));
        if !enabled && !first.shadow_enabled.get().hit(fastrand::u64(..)) {
            return Step::Continue;
        }
        let Some(origin) = head.headers.get(header::ORIGIN).filter(|origin| !origin.is_empty()).cloned() else {
            return Step::Continue;
        };
        let allowed = policies.allows(&origin);
        self.stats.inc(if allowed { CorsStats::ORIGIN_VALID } else { CorsStats::ORIGIN_INVALID });
        if !enabled {
            return Step::Continue;
        }
        if allowed {
            let expose_headers = policies.first(|policy| policy.expose_headers.as_ref()).cloned();
            let state = Allowed { origin: origin.clone(), credentials: policies.credentials(), expose_headers };
            self.place.keep(cx, Rc::new(state));
        }
        let asks = head.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|method| !method.is_empty());
        if head.method != Method::OPTIONS || !asks {
            return Step::Continue;
        }
        if !allowed && policies.first(|policy| policy.forward_not_matching_preflights).unwrap_or(true) {
            return Step::Continue;
        }
        Step::Reply(Box::new(policies.preflight(head, allowed.then_some(&origin))))
    }

    fn response(&self, head: &mut ResponseHead, _: &mut Body, _: &RequestHead, cx: &mut StreamCx) {
        let Some(allowed) = self.place.kept::<Allowed>(cx) else { return };
        head.headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed.origin.clone());
        if allowed.credentials {
            head.headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        if let Some(names) = &allowed.expose_headers {
            head.headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, names.clone());
        }
    }
}
