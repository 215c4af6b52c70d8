//! `envoy.config.core.v3.Http2ProtocolOptions` as plain data for the two sides.
//!
//! Called by the builders of the connection manager and of clusters; they set the fields that come from other messages
//! (`HttpProtocolOptions`, timeouts of the connection manager) afterwards.
//!
//! Defaults are Envoy's, but for the flow-control windows: what a peer may send before anybody has read it is held in
//! memory, and Envoy's 16 MiB a stream and 24 MiB a connection are a thousand times what a proxy needs to keep a stream
//! going.
//!
//! Not used, because it makes no difference here: `max_outbound_frames` (the queue it bounds is bounded in bytes),
//! `use_oghttp2_codec`, `enable_huffman_encoding` (always on), `max_header_field_size_kb` (the limit of the whole header
//! list applies), `stream_error_on_invalid_http_messaging` and its override (a malformed message always costs its stream
//! alone), `max_metadata_size`.

use std::time::Duration;

use tokio::time::Instant;
use xds_protos::envoy::config::core::v3 as core;

use super::flood::{BucketConfig, FloodLimits, Side};
use super::head::ListLimits;
use super::stats::Http2Stats;
use crate::config::values::optional_duration;
use crate::config::{Path, Reject};
use crate::http::check::UnderscoreAction;
use crate::stats::StatBlock;

const MAX_WINDOW: u32 = (1 << 31) - 1;
const MIN_WINDOW: u32 = 65_535;

/// What both sides read from `Http2ProtocolOptions`.
#[derive(Debug, Clone)]
pub struct Http2Options {
    /// Octets of the dynamic table that we offer the peer's HPACK encoder.
    pub hpack_table_size: u32,
    pub max_concurrent_streams: u32,
    pub initial_stream_window_size: u32,
    pub initial_connection_window_size: u32,
    /// Extended CONNECT (RFC 8441) is offered to clients; upstreams are taken to understand it, whatever they say.
    pub allow_connect: bool,
    pub connection_keepalive: Option<Keepalive>,
    /// Field values with octets above 0x7f are refused.
    pub disallow_obs_text: bool,
    pub flood: FloodLimits,
}

/// `KeepaliveSettings`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Keepalive {
    /// A PING so often; none without.
    pub interval: Option<Duration>,
    /// The connection ends when a PING is not answered in this time.
    pub timeout: Duration,
    /// At most this percentage is added to each interval.
    pub interval_jitter: f64,
    /// Before a request is sent on a connection idle for so long, a PING is.
    pub connection_idle_interval: Option<Duration>,
}

impl Http2Options {
    /// The defaults.
    pub fn new(side: Side) -> Self {
        Http2Options {
            hpack_table_size: 4096,
            max_concurrent_streams: 1024,
            initial_stream_window_size: 256 * 1024,
            initial_connection_window_size: if side == Side::Server { 1 << 20 } else { 2 << 20 },
            allow_connect: false,
            connection_keepalive: None,
            disallow_obs_text: false,
            flood: FloodLimits::new(side),
        }
    }

    /// # Errors
    /// A field out of its range, or one that we cannot do.
    pub fn build(proto: Option<&core::Http2ProtocolOptions>, side: Side, path: &Path<'_>) -> Result<Self, Reject> {
        let mut options = Self::new(side);
        let Some(proto) = proto else { return Ok(options) };
        options.limits(proto, path)?;
        options.flood(proto, path)?;
        if proto.allow_metadata {
            return Err(path.field("allow_metadata").reject("METADATA frames are not supported"));
        }
        if !proto.custom_settings_parameters.is_empty() {
            return Err(path
                .field("custom_settings_parameters")
                .reject("expected none, got some: only the named settings are supported"));
        }
        options.allow_connect = proto.allow_connect;
        options.disallow_obs_text = proto.disallow_obs_text.unwrap_or(false);
        options.connection_keepalive = proto
            .connection_keepalive
            .as_ref()
            .map(|keepalive| Keepalive::build(keepalive, &path.field("connection_keepalive")))
            .transpose()?;
        Ok(options)
    }

    fn limits(&mut self, proto: &core::Http2ProtocolOptions, path: &Path<'_>) -> Result<(), Reject> {
        let window =
            |value: Option<u32>, to: &mut u32, name| set(value, to, MIN_WINDOW..=MAX_WINDOW, &path.field(name));
        window(proto.initial_stream_window_size, &mut self.initial_stream_window_size, "initial_stream_window_size")?;
        window(
            proto.initial_connection_window_size,
            &mut self.initial_connection_window_size,
            "initial_connection_window_size",
        )?;
        let streams = &mut self.max_concurrent_streams;
        set(proto.max_concurrent_streams, streams, 1..=MAX_WINDOW, &path.field("max_concurrent_streams"))?;
        set(proto.hpack_table_size, &mut self.hpack_table_size, 0..=u32::MAX, &path.field("hpack_table_size"))?;
        // Envoy's range is checked although the limit of the whole list decides.
        set(proto.max_header_field_size_kb, &mut 0, 64..=256, &path.field("max_header_field_size_kb"))
    }

    fn flood(&mut self, proto: &core::Http2ProtocolOptions, path: &Path<'_>) -> Result<(), Reject> {
        let flood = &mut self.flood;
        set(proto.max_outbound_frames, &mut 0, 1..=u32::MAX, &path.field("max_outbound_frames"))?;
        let control = &mut flood.max_outbound_control_frames;
        set(proto.max_outbound_control_frames, control, 1..=u32::MAX, &path.field("max_outbound_control_frames"))?;
        let name = "max_inbound_window_update_frames_per_data_frame_sent";
        let updates = &mut flood.max_inbound_window_update_frames_per_data_frame_sent;
        set(proto.max_inbound_window_update_frames_per_data_frame_sent, updates, 1..=u32::MAX, &path.field(name))?;
        if let Some(most) = proto.max_consecutive_inbound_frames_with_empty_payload {
            flood.max_consecutive_inbound_frames_with_empty_payload = most;
        }
        if let Some(most) = proto.max_inbound_priority_frames_per_stream {
            flood.max_inbound_priority_frames_per_stream = most;
        }
        if proto.stream_reset_burst.is_some() || proto.stream_reset_rate.is_some() {
            flood.stream_resets = BucketConfig {
                burst: proto.stream_reset_burst.unwrap_or(1000) as f64,
                per_second: proto.stream_reset_rate.unwrap_or(33) as f64,
                per_finished: 0.0,
            };
        }
        Ok(())
    }
}

impl Keepalive {
    fn build(proto: &core::KeepaliveSettings, path: &Path<'_>) -> Result<Self, Reject> {
        let least = |value: Option<Duration>, least: Duration, path: &Path<'_>| match value {
            Some(value) if value < least => {
                Err(path.reject(format_args!("expected at least {least:?}, got {value:?}")))
            }
            value => Ok(value),
        };
        let millisecond = Duration::from_millis(1);
        let at = path.field("interval");
        let interval = least(optional_duration(proto.interval.as_ref(), &at)?, millisecond, &at)?;
        let at = path.field("connection_idle_interval");
        let idle = least(optional_duration(proto.connection_idle_interval.as_ref(), &at)?, millisecond, &at)?;
        let at = path.field("timeout");
        let timeout = least(optional_duration(proto.timeout.as_ref(), &at)?, millisecond, &at)?
            .ok_or_else(|| at.reject("expected a duration, got none"))?;
        let jitter = proto.interval_jitter.map_or(15.0, |percent| percent.value);
        if !(0.0..=100.0).contains(&jitter) {
            let at = path.field("interval_jitter");
            return Err(at.field("value").reject(format_args!("expected 0 to 100, got {jitter}")));
        }
        Ok(Keepalive { interval, timeout, interval_jitter: jitter, connection_idle_interval: idle })
    }

    /// The time to the next PING; `random` is uniform in 0..1.
    pub fn next_interval(&self, random: f64) -> Option<Duration> {
        self.interval.map(|interval| jittered(interval, self.interval_jitter, random))
    }
}

/// `after` later than `at`; a configured duration may be longer than any clock runs.
pub fn deadline(at: Instant, after: Duration) -> Instant {
    const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);
    at.checked_add(after).unwrap_or_else(|| at + FOR_EVER)
}

/// `duration` and up to `percent` of it more; `random` is uniform in 0..1.
pub fn jittered(duration: Duration, percent: f64, random: f64) -> Duration {
    // Durations near the end of their range have no room for more.
    Duration::try_from_secs_f64(duration.as_secs_f64() * (1.0 + percent / 100.0 * random)).unwrap_or(duration)
}

fn set(value: Option<u32>, to: &mut u32, range: std::ops::RangeInclusive<u32>, path: &Path<'_>) -> Result<(), Reject> {
    match value {
        None => Ok(()),
        Some(value) if range.contains(&value) => {
            *to = value;
            Ok(())
        }
        Some(value) => Err(path.reject(format_args!("expected {} to {}, got {value}", range.start(), range.end()))),
    }
}

/// The downstream side. Fields outside `options` come from the connection manager; the values that
/// [`ServerSettings::new`] puts there are Envoy's defaults.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    pub options: Http2Options,
    /// `max_request_headers_kb`.
    pub max_request_headers_kb: u32,
    /// `common_http_protocol_options.max_headers_count`.
    pub max_headers_count: u32,
    pub headers_with_underscores_action: UnderscoreAction,
    /// No stream for so long ends the connection.
    pub idle_timeout: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    /// At most this percentage is added to it, for each connection anew.
    pub max_connection_duration_jitter: f64,
    pub max_requests_per_connection: Option<u32>,
    /// From the first GOAWAY of a graceful end to the last.
    pub drain_timeout: Duration,
    /// At most this percentage is added to it, for each connection anew.
    pub drain_timeout_jitter: f64,
    /// How long a connection ended by us waits for the peer to close first.
    pub delayed_close_timeout: Duration,
    /// A response whose bytes the peer does not take for so long is reset (`stream_idle_timeout` of the connection
    /// manager; our own bound when that is off).
    pub stream_flush_timeout: Duration,
    pub stats: StatBlock<Http2Stats>,
}

impl ServerSettings {
    /// Bounds on a request's head and on its trailers.
    pub fn list_limits(&self) -> ListLimits {
        ListLimits::new(self.max_headers_count, self.max_request_headers_kb)
    }

    pub fn new(options: Http2Options, stats: StatBlock<Http2Stats>) -> Self {
        ServerSettings {
            options,
            max_request_headers_kb: 60,
            max_headers_count: 100,
            headers_with_underscores_action: UnderscoreAction::Allow,
            idle_timeout: Some(Duration::from_secs(3600)),
            max_connection_duration: None,
            max_connection_duration_jitter: 0.0,
            max_requests_per_connection: None,
            drain_timeout: Duration::from_secs(5),
            drain_timeout_jitter: 0.0,
            delayed_close_timeout: Duration::from_secs(1),
            stream_flush_timeout: Duration::from_secs(300),
            stats,
        }
    }
}

/// The upstream side. Fields outside `options` come from the cluster's `HttpProtocolOptions`.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    pub options: Http2Options,
    /// `max_response_headers_kb`.
    pub max_response_headers_kb: u32,
    /// `max_headers_count`.
    pub max_headers_count: u32,
    /// A request whose bytes the peer does not take for so long is reset.
    pub stream_flush_timeout: Duration,
    pub stats: StatBlock<Http2Stats>,
}

impl ClientSettings {
    /// Bounds on a response's head and on its trailers.
    pub fn list_limits(&self) -> ListLimits {
        ListLimits::new(self.max_headers_count, self.max_response_headers_kb)
    }

    pub fn new(options: Http2Options, stats: StatBlock<Http2Stats>) -> Self {
        ClientSettings {
            options,
            max_response_headers_kb: 60,
            max_headers_count: 100,
            stream_flush_timeout: Duration::from_secs(300),
            stats,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(change: impl FnOnce(&mut core::Http2ProtocolOptions)) -> Result<Http2Options, String> {
        let mut proto = core::Http2ProtocolOptions::default();
        change(&mut proto);
        Http2Options::build(Some(&proto), Side::Server, &Path::root("http2_protocol_options"))
            .map_err(|r| r.to_string())
    }

    #[test]
    fn every_range_is_envoys() {
        type Change = fn(&mut core::Http2ProtocolOptions);
        let refused: [(&str, Change); 15] = [
            ("max_concurrent_streams", |o| o.max_concurrent_streams = Some(0)),
            ("max_concurrent_streams", |o| o.max_concurrent_streams = Some(1 << 31)),
            ("initial_stream_window_size", |o| o.initial_stream_window_size = Some(65_534)),
            ("initial_stream_window_size", |o| o.initial_stream_window_size = Some(1 << 31)),
            ("initial_connection_window_size", |o| o.initial_connection_window_size = Some(65_534)),
            ("max_outbound_frames", |o| o.max_outbound_frames = Some(0)),
            ("max_outbound_control_frames", |o| o.max_outbound_control_frames = Some(0)),
            ("max_inbound_window_update_frames_per_data_frame_sent", |o| {
                o.max_inbound_window_update_frames_per_data_frame_sent = Some(0)
            }),
            ("max_header_field_size_kb", |o| o.max_header_field_size_kb = Some(63)),
            ("max_header_field_size_kb", |o| o.max_header_field_size_kb = Some(257)),
            ("allow_metadata", |o| o.allow_metadata = true),
            ("custom_settings_parameters", |o| o.custom_settings_parameters.push(Default::default())),
            ("connection_keepalive.timeout", |o| o.connection_keepalive = Some(Default::default())),
            ("connection_keepalive.timeout", |o| {
                o.connection_keepalive =
                    Some(core::KeepaliveSettings { timeout: time(0, 999_999), ..Default::default() })
            }),
            ("connection_keepalive.interval", |o| {
                let interval = time(0, 1);
                o.connection_keepalive =
                    Some(core::KeepaliveSettings { timeout: time(1, 0), interval, ..Default::default() })
            }),
        ];
        for (field, change) in refused {
            let why = build(change).err().unwrap_or_default();
            assert!(why.starts_with(&format!("http2_protocol_options.{field}: ")), "{field}: {why}");
        }
    }

    fn time(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos })
    }

    #[test]
    fn what_is_set_is_used() {
        let options = build(|o| {
            o.hpack_table_size = Some(0);
            o.max_concurrent_streams = Some(7);
            o.initial_stream_window_size = Some(65_535);
            o.initial_connection_window_size = Some(1 << 30);
            o.allow_connect = true;
            o.disallow_obs_text = Some(true);
            o.max_outbound_control_frames = Some(5);
            o.max_consecutive_inbound_frames_with_empty_payload = Some(0);
            o.max_inbound_priority_frames_per_stream = Some(3);
            o.max_inbound_window_update_frames_per_data_frame_sent = Some(2);
            o.stream_reset_burst = Some(11);
            let jitter = Some(xds_protos::envoy::r#type::v3::Percent { value: 50.0 });
            o.connection_keepalive = Some(core::KeepaliveSettings {
                interval: time(10, 0),
                timeout: time(2, 0),
                interval_jitter: jitter,
                connection_idle_interval: time(3, 0),
            });
        })
        .unwrap();
        assert_eq!((options.hpack_table_size, options.max_concurrent_streams), (0, 7));
        assert_eq!((options.initial_stream_window_size, options.initial_connection_window_size), (65_535, 1 << 30));
        assert!(options.allow_connect && options.disallow_obs_text);
        let flood = FloodLimits {
            max_outbound_control_frames: 5,
            max_consecutive_inbound_frames_with_empty_payload: 0,
            max_inbound_priority_frames_per_stream: 3,
            max_inbound_window_update_frames_per_data_frame_sent: 2,
            stream_resets: BucketConfig { burst: 11.0, per_second: 33.0, per_finished: 0.0 },
            ..FloodLimits::new(Side::Server)
        };
        assert_eq!(options.flood, flood);
        let keepalive = options.connection_keepalive.unwrap();
        assert_eq!((keepalive.timeout.as_secs(), keepalive.connection_idle_interval.unwrap().as_secs()), (2, 3));
        assert_eq!(keepalive.next_interval(0.0).unwrap().as_secs(), 10);
        assert_eq!(keepalive.next_interval(1.0).unwrap().as_secs(), 15);
    }
}
