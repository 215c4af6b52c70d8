//! `HttpConnectionManager.tracing` without a tracer: which requests would be traced, told to everybody behind us by the
//! request id, and what routes call them (`decorator`).
//!
//! The decision is made once, by whoever sees the request first, and packed into the id's 15th character
//! ([`request_id`](super::request_id)); random and overall sampling are functions of the id, so that all proxies on a
//! request's way agree. Spans are not made: a `provider` is refused.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use xds_protos::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as proto;
use xds_protos::envoy::r#type::v3::Percent;

use super::request_headers::X_ENVOY_FORCE_TRACE;
use super::request_id::{self, RequestIdOptions};
use crate::config::percent::{Denominator, FractionalPercent};
use crate::config::{BuildCx, Path, Reject};
use crate::route::RouteMatch;
use crate::runtime::Live;
use crate::stats::StatBlock;
use crate::stats::names::HttpTracingStats;
use crate::stream_info::{TraceReason, TrafficDirection};

pub const X_ENVOY_DECORATOR_OPERATION: HeaderName = HeaderName::from_static("x-envoy-decorator-operation");
const X_CLIENT_TRACE_ID: HeaderName = HeaderName::from_static("x-client-trace-id");

/// Sampling as configured.
pub struct Tracing {
    client: Live<FractionalPercent>,
    random: Live<FractionalPercent>,
    overall: Live<FractionalPercent>,
    /// Outbound requests carry their operation's name, inbound responses do.
    egress: bool,
    stats: StatBlock<HttpTracingStats>,
}

impl Tracing {
    /// # Errors
    /// For a provider, and for percentages that are none.
    pub fn build(
        p: &proto::Tracing,
        direction: TrafficDirection,
        scope: &str,
        path: &Path<'_>,
        cx: &BuildCx,
    ) -> Result<Self, Reject> {
        let proto::Tracing {
            client_sampling,
            random_sampling,
            overall_sampling,
            provider,
            // What spans are made of, of which there are none.
            verbose: _,
            max_path_tag_length: _,
            custom_tags: _,
            spawn_upstream_span: _,
            operation: _,
            upstream_operation: _,
            // Without a tracer no context is propagated.
            no_context_propagation: _,
        } = p;
        if let Some(provider) = provider {
            let why = format_args!(
                "expected no tracer, got {:?}: spans are not made yet; without a provider sampling decisions are passed on",
                provider.name
            );
            return Err(path.field("provider").reject(why));
        }
        let hundred = |percent: &Option<Percent>, field: &str| {
            let value = self::percent(percent.as_ref(), &path.field(field))?;
            Ok(FractionalPercent { numerator: value as u32, denominator: Denominator::Hundred })
        };
        let random = percent(random_sampling.as_ref(), &path.field("random_sampling"))? / 100.0 * 10_000.0;
        let random = FractionalPercent { numerator: random as u32, denominator: Denominator::TenThousand };
        Ok(Tracing {
            client: cx.runtime.live_fraction("tracing.client_enabled", hundred(client_sampling, "client_sampling")?),
            random: cx.runtime.live_fraction("tracing.random_sampling", random),
            overall: cx.runtime.live_fraction("tracing.global_enabled", hundred(overall_sampling, "overall_sampling")?),
            egress: direction == TrafficDirection::Outbound,
            stats: cx.stats.block(&format!("{scope}.tracing")),
        })
    }

    /// Decides, packs the decision into the request id and counts it. `random` is for the client's wishes, which are not
    /// sampled by the id.
    pub fn decide(&self, headers: &mut HeaderMap, options: RequestIdOptions, random: u64) -> TraceReason {
        let reason = self.reason(headers, options, random);
        self.stats.inc(match reason {
            TraceReason::NotTraceable => HttpTracingStats::NOT_TRACEABLE,
            TraceReason::ClientForced => HttpTracingStats::CLIENT_ENABLED,
            TraceReason::ServiceForced => HttpTracingStats::SERVICE_FORCED,
            TraceReason::Sampling => HttpTracingStats::RANDOM_SAMPLING,
        });
        reason
    }

    fn reason(&self, headers: &mut HeaderMap, options: RequestIdOptions, random: u64) -> TraceReason {
        if !options.use_for_trace_sampling {
            return TraceReason::Sampling;
        }
        let Some(number) = request_id::number(headers) else { return TraceReason::NotTraceable };
        let number = number % 10_000;
        let mut reason = request_id::trace_reason(headers, options);
        if reason == TraceReason::NotTraceable {
            reason = if headers.contains_key(X_CLIENT_TRACE_ID) && self.client.get().hit(random) {
                TraceReason::ClientForced
            } else if headers.contains_key(X_ENVOY_FORCE_TRACE) {
                TraceReason::ServiceForced
            } else if self.random.get().hit(number) {
                TraceReason::Sampling
            } else {
                return TraceReason::NotTraceable;
            };
            request_id::set_trace_reason(headers, reason, options);
        }
        if !self.overall.get().hit(number) {
            reason = TraceReason::NotTraceable;
            request_id::set_trace_reason(headers, reason, options);
        }
        reason
    }

    /// Names the operation to the next hop, or takes the name that the last one gave. Whether the response is to name it.
    pub fn decorate_request(&self, headers: &mut HeaderMap, route: Option<&RouteMatch>) -> bool {
        let decorator =
            route.and_then(|route| route.entry().decorator.as_ref()).filter(|decorator| decorator.propagate);
        if self.egress {
            if let Some(operation) = decorator.and_then(|d| HeaderValue::from_str(&d.operation).ok()) {
                headers.insert(X_ENVOY_DECORATOR_OPERATION, operation);
            }
            return false;
        }
        let overridden = headers.remove(X_ENVOY_DECORATOR_OPERATION).is_some_and(|operation| !operation.is_empty());
        decorator.is_some() && !overridden
    }

    /// The same for the response; `named` is what [`decorate_request`](Self::decorate_request) said.
    pub fn decorate_response(&self, headers: &mut HeaderMap, route: Option<&RouteMatch>, named: bool) {
        if self.egress {
            headers.remove(X_ENVOY_DECORATOR_OPERATION);
        } else if named
            && let Some(decorator) = route.and_then(|route| route.entry().decorator.as_ref())
            && let Ok(operation) = HeaderValue::from_str(&decorator.operation)
        {
            headers.insert(X_ENVOY_DECORATOR_OPERATION, operation);
        }
    }
}

fn percent(percent: Option<&Percent>, path: &Path<'_>) -> Result<f64, Reject> {
    match percent {
        None => Ok(100.0),
        Some(Percent { value }) if (0.0..=100.0).contains(value) => Ok(*value),
        Some(Percent { value }) => Err(path.field("value").reject(format_args!("expected 0 to 100, got {value}"))),
    }
}
