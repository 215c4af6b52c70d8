//! `envoy.config.accesslog.v3.AccessLogFilter`: which streams get a line. Local reply mappers choose by the same filters.

use http::HeaderMap;
use xds_protos::envoy::config::accesslog::v3 as pb;
use xds_protos::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use xds_protos::envoy::config::accesslog::v3::comparison_filter::Op;

use super::{AccessLogType, LogContext};
use crate::config::percent::FractionalPercent;
use crate::config::{BuildCx, Path, Reject};
use crate::formatter::grpc_status;
use crate::route::HeaderMatcher;
use crate::runtime::{Live, Value};
use crate::stream_info::{ResponseFlags, TraceReason};

/// A filter as built.
pub enum Filter {
    StatusCode(Comparison),
    /// Milliseconds from the first byte of the request to the end.
    Duration(Comparison),
    NotHealthCheck,
    /// Tracing was forced: sampled requests do not count, and there are none without `tracing`.
    Traceable,
    Sampled {
        percent: Live<FractionalPercent>,
        /// By chance, and not by the request id, by which all proxies on a request's way decide alike.
        independent: bool,
    },
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Header(Box<HeaderMatcher>),
    /// Any of these; none given: any at all.
    Flags(ResponseFlags),
    GrpcStatus {
        statuses: Vec<u32>,
        exclude: bool,
    },
    LogType {
        types: Vec<AccessLogType>,
        exclude: bool,
    },
}

/// A number against a configured one.
pub struct Comparison {
    op: Op,
    value: Live<u32>,
}

impl Comparison {
    fn build(proto: Option<&pb::ComparisonFilter>, path: &Path<'_>, cx: &BuildCx) -> Result<Self, Reject> {
        let path = path.field("comparison");
        let proto = proto.ok_or_else(|| path.reject("expected a comparison, got none"))?;
        let value = path.field("value");
        let configured = proto.value.as_ref().ok_or_else(|| value.reject("expected a number, got none"))?;
        let op = Op::try_from(proto.op)
            .map_err(|_| path.field("op").reject(format_args!("expected EQ, GE, LE or NE, got {}", proto.op)))?;
        Ok(Comparison { op, value: cx.runtime.uint32(configured) })
    }

    fn holds(&self, actual: u64) -> bool {
        let value = u64::from(self.value.get());
        match self.op {
            Op::Eq => actual == value,
            Op::Ge => actual >= value,
            Op::Le => actual <= value,
            Op::Ne => actual != value,
        }
    }
}

impl Filter {
    /// # Errors
    /// For filters that need what this proxy does not have (metadata, CEL), and for bad values.
    pub fn build(proto: &pb::AccessLogFilter, path: &Path<'_>, cx: &BuildCx) -> Result<Self, Reject> {
        let Some(specifier) = &proto.filter_specifier else { return Err(path.reject("expected a filter, got none")) };
        let all = |list: &[pb::AccessLogFilter], path: &Path<'_>| {
            if list.len() < 2 {
                return Err(path.reject(format_args!("expected at least 2 filters, got {}", list.len())));
            }
            list.iter().enumerate().map(|(i, f)| Filter::build(f, &path.index(i), cx)).collect::<Result<Vec<_>, _>>()
        };
        Ok(match specifier {
            FilterSpecifier::StatusCodeFilter(f) => {
                Filter::StatusCode(Comparison::build(f.comparison.as_ref(), &path.field("status_code_filter"), cx)?)
            }
            FilterSpecifier::DurationFilter(f) => {
                Filter::Duration(Comparison::build(f.comparison.as_ref(), &path.field("duration_filter"), cx)?)
            }
            FilterSpecifier::NotHealthCheckFilter(_) => Filter::NotHealthCheck,
            FilterSpecifier::TraceableFilter(_) => Filter::Traceable,
            FilterSpecifier::RuntimeFilter(f) => sampled(f, &path.field("runtime_filter"), cx)?,
            FilterSpecifier::AndFilter(f) => Filter::All(all(&f.filters, &path.field("and_filter").field("filters"))?),
            FilterSpecifier::OrFilter(f) => Filter::Any(all(&f.filters, &path.field("or_filter").field("filters"))?),
            FilterSpecifier::HeaderFilter(f) => {
                let path = path.field("header_filter");
                let path = path.field("header");
                let header = f.header.as_ref().ok_or_else(|| path.reject("expected a header matcher, got none"))?;
                Filter::Header(Box::new(HeaderMatcher::build(header, &path)?))
            }
            FilterSpecifier::ResponseFlagFilter(f) => Filter::Flags(flags(f, &path.field("response_flag_filter"))?),
            FilterSpecifier::GrpcStatusFilter(f) => Filter::GrpcStatus {
                statuses: f.statuses.iter().map(|status| *status as u32).collect(),
                exclude: f.exclude,
            },
            FilterSpecifier::LogTypeFilter(f) => {
                Filter::LogType { types: log_types(f, &path.field("log_type_filter"))?, exclude: f.exclude }
            }
            FilterSpecifier::MetadataFilter(_) => {
                return Err(path.field("metadata_filter").reject("dynamic metadata is not supported yet"));
            }
            FilterSpecifier::ExtensionFilter(f) => {
                return Err(path.field("extension_filter").reject(format_args!("unsupported extension {:?}", f.name)));
            }
        })
    }

    pub fn matches(&self, cx: &LogContext<'_>) -> bool {
        match self {
            Filter::StatusCode(comparison) => comparison.holds(cx.info.response_code.into()),
            Filter::Duration(comparison) => {
                let end = cx.info.end.unwrap_or_else(std::time::Instant::now);
                comparison.holds(end.saturating_duration_since(cx.info.start).as_millis() as u64)
            }
            Filter::NotHealthCheck => !cx.info.is_health_check,
            Filter::Traceable => !cx.info.is_health_check && cx.info.trace_reason == TraceReason::ServiceForced,
            Filter::Sampled { percent, independent } => {
                let by_id = cx.info.request_id.as_deref().and_then(id_as_number).filter(|_| !independent);
                percent.get().hit(by_id.unwrap_or_else(|| fastrand::u64(..)))
            }
            Filter::All(filters) => filters.iter().all(|filter| filter.matches(cx)),
            Filter::Any(filters) => filters.iter().any(|filter| filter.matches(cx)),
            // A connection has no headers; an inverted matcher matches it.
            Filter::Header(matcher) => match cx.request {
                Some(head) => matcher.matches_request(head),
                None => matcher.matches_map(&HeaderMap::new()),
            },
            Filter::Flags(flags) if flags.is_empty() => !cx.info.flags.is_empty(),
            Filter::Flags(flags) => cx.info.flags.intersects(*flags),
            Filter::GrpcStatus { statuses, exclude } => {
                statuses.contains(&grpc_status(cx).unwrap_or(GRPC_UNKNOWN)) != *exclude
            }
            Filter::LogType { types, exclude } => types.contains(&cx.kind) != *exclude,
        }
    }
}

/// What counts when nothing says a status.
const GRPC_UNKNOWN: u32 = 2;

/// The first eight digits of a UUID.
fn id_as_number(id: &str) -> Option<u64> {
    u64::from_str_radix(id.get(..8)?, 16).ok()
}

fn sampled(f: &pb::RuntimeFilter, path: &Path<'_>, cx: &BuildCx) -> Result<Filter, Reject> {
    if f.runtime_key.is_empty() {
        return Err(path.field("runtime_key").reject("expected at least one character"));
    }
    let percent = match &f.percent_sampled {
        Some(percent) => FractionalPercent::build(percent, &path.field("percent_sampled"))?,
        None => FractionalPercent::NEVER,
    };
    // Unlike elsewhere a runtime value is the numerator and no percentage: the denominator stays.
    let percent = cx.runtime.follow(&f.runtime_key, move |value| match value.and_then(Value::integer) {
        Some(number) => FractionalPercent { numerator: u32::try_from(number).unwrap_or(u32::MAX), ..percent },
        None => percent,
    });
    Ok(Filter::Sampled { percent, independent: f.use_independent_randomness })
}

fn flags(f: &pb::ResponseFlagFilter, path: &Path<'_>) -> Result<ResponseFlags, Reject> {
    let path = path.field("flags");
    f.flags.iter().enumerate().try_fold(ResponseFlags::empty(), |flags, (i, name)| {
        let flag = ResponseFlags::from_short(name);
        let flag = flag.ok_or_else(|| path.index(i).reject(format_args!("expected a response flag, got {name:?}")))?;
        Ok(flags.with(flag))
    })
}

fn log_types(f: &pb::LogTypeFilter, path: &Path<'_>) -> Result<Vec<AccessLogType>, Reject> {
    use xds_protos::envoy::data::accesslog::v3::AccessLogType as Proto;
    let path = path.field("types");
    let one = |(i, number): (usize, &i32)| {
        let proto = Proto::try_from(*number).ok().map(|proto| proto.as_str_name());
        let found = proto.and_then(|name| AccessLogType::ALL.iter().find(|(_, known)| *known == name));
        found.map(|(kind, _)| *kind).ok_or_else(|| path.index(i).reject(format_args!("unknown log type {number}")))
    };
    f.types.iter().enumerate().map(one).collect()
}
