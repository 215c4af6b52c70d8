use std::time::Duration;

use crate::http::BadRequestKind;
use crate::http::check::UnderscoreAction;
use crate::http::check::details;
use crate::stats::StatBlock;
use crate::stats::names::Http1Stats;

/// Holds when `request_headers_timeout` is not configured, from a head's first byte to its last: nobody needs longer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// How header names are spelled when a message is written (`Http1ProtocolOptions.header_key_format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeaderKeyFormat {
    /// Lower case.
    #[default]
    LowerCase,
    /// `proper_case_words`: a letter at the start and after anything that is no letter or digit is upper case.
    ProperCase,
    /// `preserve_case`: as the peer of the other side spelled it, [`OwnHeaders`] for what it did not send.
    PreserveCase(OwnHeaders),
}

/// `PreserveCaseFormatterConfig.formatter_type_on_envoy_headers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OwnHeaders {
    #[default]
    LowerCase,
    ProperCase,
}

impl HeaderKeyFormat {
    /// Whether a parser must remember the spelling.
    pub fn preserves(self) -> bool {
        matches!(self, HeaderKeyFormat::PreserveCase(_))
    }
}

/// Limits of one head or trailer section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// `max_request_headers_kb` or `max_response_headers_kb`, in bytes; start line and line ends count.
    pub max_bytes: usize,
    /// `max_headers_count`.
    pub max_headers: usize,
}

/// What a connection manager configures of its HTTP/1 codec: `Http1ProtocolOptions`, `HttpProtocolOptions` and fields of
/// `HttpConnectionManager`. Defaults are Envoy's.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    pub limits: HeadLimits,
    pub allow_absolute_url: bool,
    pub accept_http_10: bool,
    /// Host of an HTTP/1.0 request that has none.
    pub default_host_for_http_10: String,
    pub enable_trailers: bool,
    pub header_key_format: HeaderKeyFormat,
    /// A `content-length` beside `transfer-encoding: chunked` is removed instead of refused.
    pub allow_chunked_length: bool,
    pub allow_custom_methods: bool,
    pub headers_with_underscores_action: UnderscoreAction,
    /// A request without `Host` is answered without closing the connection (`stream_error_on_invalid_http_message`, or the
    /// codec's `override_stream_error_on_invalid_http_message`). Broken syntax closes it in any case, as in Envoy.
    pub stream_error_on_invalid_http_message: bool,
    /// Between requests, and before the first. `None` is no limit.
    pub idle_timeout: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    /// Up to so many percent are added to it for each connection.
    pub max_connection_duration_jitter: f64,
    /// A connection that has reached it waits for the next request, however long, and closes after that.
    pub safe_max_connection_duration: bool,
    /// The response to this many-th request closes the connection. 0 is no limit.
    pub max_requests_per_connection: u32,
    /// From the first byte of a head to its end. `None` is not configured: a bound of 60 s holds.
    pub request_headers_timeout: Option<Duration>,
    /// Limits of streams that hold from a head's first byte, and so before there is a request: `stream_idle_timeout`,
    /// `request_timeout`, `max_stream_duration`.
    pub stream_idle_timeout: Option<Duration>,
    pub request_timeout: Option<Duration>,
    pub max_stream_duration: Option<Duration>,
    /// How long a connection that is closed under a request waits for the peer to close first. Zero is at once.
    pub delayed_close_timeout: Duration,
    /// How long a connection that has reached `max_connection_duration` waits for a next request to tell it.
    pub drain_timeout: Duration,
    /// Up to so many percent are added to it for each connection.
    pub drain_timeout_jitter: f64,
    /// Scope `http1`.
    pub stats: Option<StatBlock<Http1Stats>>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        ServerSettings {
            limits: HeadLimits { max_bytes: 60 * 1024, max_headers: 100 },
            allow_absolute_url: true,
            accept_http_10: false,
            default_host_for_http_10: String::new(),
            enable_trailers: false,
            header_key_format: HeaderKeyFormat::LowerCase,
            allow_chunked_length: false,
            allow_custom_methods: false,
            headers_with_underscores_action: UnderscoreAction::Allow,
            stream_error_on_invalid_http_message: false,
            idle_timeout: Some(Duration::from_secs(3600)),
            max_connection_duration: None,
            max_connection_duration_jitter: 0.0,
            safe_max_connection_duration: false,
            max_requests_per_connection: 0,
            request_headers_timeout: None,
            stream_idle_timeout: None,
            request_timeout: None,
            max_stream_duration: None,
            delayed_close_timeout: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(5),
            drain_timeout_jitter: 0.0,
            stats: None,
        }
    }
}

impl ServerSettings {
    /// How long a head may take from its first byte, which limit that is, and its detail string.
    pub fn head_timeout(&self) -> (Duration, BadRequestKind, &'static str) {
        [
            (self.stream_idle_timeout, BadRequestKind::StreamIdleTimeout, details::STREAM_IDLE_TIMEOUT),
            (self.request_timeout, BadRequestKind::RequestTimeout, details::REQUEST_OVERALL_TIMEOUT),
            (self.max_stream_duration, BadRequestKind::MaxDuration, details::MAX_DURATION_TIMEOUT),
        ]
        .into_iter()
        .filter_map(|(limit, kind, details)| Some((limit?, kind, details)))
        .chain([(
            self.request_headers_timeout.unwrap_or(HEAD_TIMEOUT),
            BadRequestKind::HeadTimeout,
            details::REQUEST_HEADER_TIMEOUT,
        )])
        .min_by_key(|(limit, ..)| *limit)
        .unwrap_or((HEAD_TIMEOUT, BadRequestKind::HeadTimeout, details::REQUEST_HEADER_TIMEOUT))
    }
}

/// What a cluster configures of its HTTP/1 codec. Defaults are Envoy's.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// `max_response_headers_kb` (80 KiB when not set, more than for requests) and `max_headers_count`.
    pub limits: HeadLimits,
    pub enable_trailers: bool,
    pub header_key_format: HeaderKeyFormat,
    pub allow_chunked_length: bool,
    /// `per_connection_buffer_limit_bytes` of the cluster.
    pub buffer_limit: usize,
    /// Scope `cluster.<name>.http1`.
    pub stats: Option<StatBlock<Http1Stats>>,
}

impl Default for ClientSettings {
    fn default() -> Self {
        ClientSettings {
            limits: HeadLimits { max_bytes: 80 * 1024, max_headers: 100 },
            enable_trailers: false,
            header_key_format: HeaderKeyFormat::LowerCase,
            allow_chunked_length: false,
            buffer_limit: 1024 * 1024,
            stats: None,
        }
    }
}
