//! What a peer may send of the frames that the `h2` crate answers or skips without limit, and of resets.
//!
//! Pure: [`Flood`] is told every frame of both directions and the time, and says when it is enough. The names of the
//! limits are those of `Http2ProtocolOptions`; where they bound a queue of replies in Envoy
//! (`max_outbound_control_frames`) they bound here what asks for replies, because `h2` owes its peer at most one reply at a
//! time and so has no such queue.

#[cfg(test)]
mod tests;

use std::time::Instant;

use h2::Reason;

use super::frames::{Event, FrameHeader, flag, kind};
use super::stats::Http2Stats;
use crate::stats::StatBlock;

/// WINDOW_UPDATE frames that a connection may receive whatever it sends. Envoy's base of 5 is too tight for peers that
/// announce a window in steps.
const WINDOW_UPDATE_BASE: u64 = 1000;
/// CONTINUATION frames of one header block: at 16 KiB a frame far more than any permitted header list.
const MAX_CONTINUATIONS: u32 = 16;
/// HEADERS frames that an upstream may send besides ten for each stream (interim responses, the head, trailers): each is
/// held in memory until its stream looks at it.
const HEADERS_BASE: u64 = 10_000;
/// A window of resets is judged when it holds this many ...
const PREMATURE_IN_WINDOW: u32 = 100;
/// ... and a connection as a whole once it has opened this many streams.
const PREMATURE_TOTAL_STREAMS: u32 = 200;
const WINDOW_SECS: u64 = 1;

/// Which end of the connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Server,
    Client,
}

/// Limits of one connection.
#[derive(Debug, Clone, PartialEq)]
pub struct FloodLimits {
    pub side: Side,
    /// PING, SETTINGS, GOAWAY and unknown frames: so many at once and per ten seconds, and one more for each DATA frame we
    /// send, because peers that estimate bandwidth ping as they receive.
    pub max_outbound_control_frames: u32,
    pub max_consecutive_inbound_frames_with_empty_payload: u32,
    pub max_inbound_priority_frames_per_stream: u32,
    pub max_inbound_window_update_frames_per_data_frame_sent: u32,
    pub stream_resets: BucketConfig,
    /// RST_STREAM that we send because of what the peer did.
    pub faults: BucketConfig,
    /// Octets of one encoded header block.
    pub max_header_block: u32,
}

impl FloodLimits {
    pub fn new(side: Side) -> Self {
        FloodLimits {
            side,
            max_outbound_control_frames: 1000,
            max_consecutive_inbound_frames_with_empty_payload: 1,
            max_inbound_priority_frames_per_stream: 100,
            max_inbound_window_update_frames_per_data_frame_sent: 10,
            stream_resets: BucketConfig { burst: 1000.0, per_second: 33.0, per_finished: 1.0 },
            faults: BucketConfig { burst: 100.0, per_second: 10.0, per_finished: 0.25 },
            max_header_block: 64 * 1024,
        }
    }
}

/// A token bucket that refills with time and with work done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BucketConfig {
    pub burst: f64,
    pub per_second: f64,
    /// Tokens for each message that we have sent to its end, so that resets are judged against what is served.
    pub per_finished: f64,
}

#[derive(Debug)]
struct Bucket {
    config: BucketConfig,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn new(config: BucketConfig, now: Instant) -> Self {
        Bucket { config, tokens: config.burst, at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.credit(passed * self.config.per_second);
        self.tokens -= 1.0;
        self.tokens >= 0.0
    }

    fn credit(&mut self, tokens: f64) {
        self.tokens = (self.tokens + tokens).min(self.config.burst);
    }
}

/// What was too much, or broken beyond the frame it was in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    Control,
    EmptyFrames,
    Priority,
    WindowUpdate,
    Resets,
    Faults,
    Continuation,
    Headers,
    /// A frame whose length its type forbids (RFC 9113 §4.2).
    FrameSize,
    /// A pseudo-header in trailers (RFC 9113 §8.1), which `h2` drops without a word.
    PseudoTrailer,
    /// SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1 (RFC 9113 §6.5.2).
    WindowSetting,
}

impl Violation {
    /// The code for GOAWAY.
    pub fn reason(self) -> Reason {
        match self {
            Violation::FrameSize => Reason::FRAME_SIZE_ERROR,
            Violation::WindowSetting => Reason::FLOW_CONTROL_ERROR,
            Violation::PseudoTrailer => Reason::PROTOCOL_ERROR,
            _ => Reason::ENHANCE_YOUR_CALM,
        }
    }

    pub fn details(self) -> &'static str {
        match self {
            Violation::Control => "http2.outbound_control_flood",
            Violation::EmptyFrames => "http2.inbound_empty_frames_flood",
            Violation::Priority => "http2.inbound_priority_frames_flood",
            Violation::WindowUpdate => "http2.inbound_window_update_frames_flood",
            Violation::Resets | Violation::Faults => "http2.inbound_reset_flood",
            Violation::Continuation | Violation::Headers => "http2.inbound_continuation_flood",
            Violation::FrameSize | Violation::WindowSetting => "http2.frame_error",
            Violation::PseudoTrailer => "http2.violation.of.messaging.rule",
        }
    }

    pub fn count(self, stats: &StatBlock<Http2Stats>) {
        match self {
            Violation::Control => stats.inc(Http2Stats::OUTBOUND_CONTROL_FLOOD),
            Violation::EmptyFrames => stats.inc(Http2Stats::INBOUND_EMPTY_FRAMES_FLOOD),
            Violation::Priority => stats.inc(Http2Stats::INBOUND_PRIORITY_FRAMES_FLOOD),
            Violation::WindowUpdate => stats.inc(Http2Stats::INBOUND_WINDOW_UPDATE_FRAMES_FLOOD),
            Violation::Resets | Violation::Faults => stats.inc(Http2Stats::INBOUND_RESET_FLOOD),
            Violation::Continuation | Violation::Headers => stats.inc(Http2Stats::INBOUND_CONTINUATION_FLOOD),
            Violation::FrameSize | Violation::WindowSetting | Violation::PseudoTrailer => {
                stats.inc(Http2Stats::RX_MESSAGING_ERROR)
            }
        }
    }
}

/// Streams opened, answered and reset within one span of time.
#[derive(Debug, Default, Clone, Copy)]
struct Resets {
    opened: u32,
    finished: u32,
    premature: u32,
}

impl Resets {
    /// Most of what was opened was reset before it was answered: a rapid reset, not a client that changed its mind.
    fn is_abuse(&self) -> bool {
        u64::from(self.premature) * 2 >= u64::from(self.opened) && u64::from(self.finished) * 2 < u64::from(self.opened)
    }
}

/// The counters of one connection.
#[derive(Debug)]
pub struct Flood {
    limits: FloodLimits,
    control: Bucket,
    resets: Bucket,
    faults: Bucket,
    max_stream_id: u32,
    total: Resets,
    window: Resets,
    window_start: Instant,
    /// Streams above this id were opened in the current window.
    window_floor: u32,
    empty: u32,
    priority: u64,
    window_updates: u64,
    data_sent: u64,
    headers: u64,
    /// The HEADERS being received are trailers.
    is_trailers: bool,
    /// CONTINUATION frames and octets of the header block being received.
    block: Option<(u32, u64)>,
}

impl Flood {
    pub fn new(limits: FloodLimits, now: Instant) -> Self {
        let control = f64::from(limits.max_outbound_control_frames);
        Flood {
            control: Bucket::new(BucketConfig { burst: control, per_second: control / 10.0, per_finished: 0.0 }, now),
            resets: Bucket::new(limits.stream_resets, now),
            faults: Bucket::new(limits.faults, now),
            limits,
            max_stream_id: 0,
            total: Resets::default(),
            window: Resets::default(),
            window_start: now,
            window_floor: 0,
            empty: 0,
            priority: 0,
            window_updates: 0,
            data_sent: 0,
            headers: 0,
            is_trailers: false,
            block: None,
        }
    }

    /// Streams opened so far.
    pub fn opened(&self) -> u32 {
        self.total.opened
    }

    /// The highest id a stream was opened with.
    pub fn max_stream_id(&self) -> u32 {
        self.max_stream_id
    }

    /// A frame, or a piece of one, came from the peer.
    ///
    /// # Errors
    /// When the connection should end.
    pub fn received(&mut self, event: &Event, now: Instant) -> Result<(), Violation> {
        match event {
            Event::Header(frame) => self.received_frame(frame, now),
            Event::Unit(frame, unit) => match frame.kind {
                kind::DATA => {
                    let padding = u32::from(unit[0]) + 1;
                    self.payload(frame.length <= padding && !frame.has(flag::END_STREAM))
                }
                kind::RST_STREAM => self.received_reset(frame, Event::number(unit, 0)),
                kind::HEADERS => {
                    let first = unit.get(frame.block_offset()).copied().unwrap_or_default();
                    if self.is_trailers && is_pseudo(first) { Err(Violation::PseudoTrailer) } else { Ok(()) }
                }
                // Only the identifier's low octet can differ from 4 in what is left; the value starts at octet 2.
                kind::SETTINGS if unit[0] == 0 && unit[1] == 4 && Event::number(unit, 2) > 0x7fff_ffff => {
                    Err(Violation::WindowSetting)
                }
                _ => Ok(()),
            },
        }
    }

    fn received_frame(&mut self, frame: &FrameHeader, now: Instant) -> Result<(), Violation> {
        check_length(frame)?;
        match frame.kind {
            kind::DATA if frame.has(flag::PADDED) => Ok(()),
            kind::DATA => self.payload(frame.length == 0 && !frame.has(flag::END_STREAM)),
            kind::HEADERS => {
                self.headers_frame(frame, now)?;
                self.payload(frame.length == 0 && !frame.has(flag::END_STREAM))
            }
            kind::CONTINUATION => {
                self.continuation(frame)?;
                self.payload(frame.length == 0)
            }
            kind::PRIORITY | kind::PRIORITY_UPDATE => {
                self.priority += 1;
                let each = u64::from(self.limits.max_inbound_priority_frames_per_stream);
                within(self.priority, each.saturating_mul(1 + u64::from(self.total.opened)), Violation::Priority)
            }
            kind::WINDOW_UPDATE => {
                self.window_updates += 1;
                let each = u64::from(self.limits.max_inbound_window_update_frames_per_data_frame_sent);
                let earned = u64::from(self.total.opened) + each.saturating_mul(self.data_sent);
                within(self.window_updates, WINDOW_UPDATE_BASE.saturating_add(2 * earned), Violation::WindowUpdate)
            }
            kind::RST_STREAM => self.resets.take(now).then_some(()).ok_or(Violation::Resets),
            // h2 ends the connection on its own for a PUSH_PROMISE that nobody allowed.
            kind::PUSH_PROMISE => Ok(()),
            _ => self.control.take(now).then_some(()).ok_or(Violation::Control),
        }
    }

    fn headers_frame(&mut self, frame: &FrameHeader, now: Instant) -> Result<(), Violation> {
        self.block = (!frame.has(flag::END_HEADERS)).then_some((0, u64::from(frame.length)));
        // A client cannot tell trailers from a head without knowing of each stream what came before.
        self.is_trailers = self.limits.side == Side::Server && frame.stream_id <= self.max_stream_id;
        if self.limits.side == Side::Server && !self.is_trailers {
            self.opened_stream(frame.stream_id, now);
        }
        self.headers += 1;
        if self.limits.side == Side::Client {
            within(self.headers, HEADERS_BASE + 10 * u64::from(self.total.opened), Violation::Headers)?;
        }
        Ok(())
    }

    fn continuation(&mut self, frame: &FrameHeader) -> Result<(), Violation> {
        // One that continues nothing is h2's to refuse.
        let Some((frames, octets)) = &mut self.block else { return Ok(()) };
        *frames += 1;
        *octets += u64::from(frame.length);
        if *frames > MAX_CONTINUATIONS || *octets > u64::from(self.limits.max_header_block) {
            return Err(Violation::Continuation);
        }
        if frame.has(flag::END_HEADERS) {
            self.block = None;
        }
        Ok(())
    }

    fn payload(&mut self, is_empty: bool) -> Result<(), Violation> {
        self.empty = if is_empty { self.empty + 1 } else { 0 };
        let most = self.limits.max_consecutive_inbound_frames_with_empty_payload;
        if self.empty > most { Err(Violation::EmptyFrames) } else { Ok(()) }
    }

    fn received_reset(&mut self, frame: &FrameHeader, code: u32) -> Result<(), Violation> {
        // NO_ERROR tidies up a stream that is done.
        if self.limits.side == Side::Client || frame.stream_id <= self.window_floor || code == 0 {
            return Ok(());
        }
        self.window.premature += 1;
        self.total.premature += 1;
        let in_window = self.window.premature >= PREMATURE_IN_WINDOW && self.window.is_abuse();
        let in_total = self.total.opened >= PREMATURE_TOTAL_STREAMS && self.total.is_abuse();
        if in_window || in_total { Err(Violation::Resets) } else { Ok(()) }
    }

    /// A frame, or a piece of one, is about to go to the peer.
    ///
    /// # Errors
    /// When the connection should end.
    pub fn sent(&mut self, event: &Event, now: Instant) -> Result<(), Violation> {
        match event {
            Event::Header(frame) => {
                match frame.kind {
                    kind::DATA => {
                        self.data_sent += 1;
                        self.control.credit(1.0);
                    }
                    kind::HEADERS if self.limits.side == Side::Client && frame.stream_id > self.max_stream_id => {
                        self.opened_stream(frame.stream_id, now);
                    }
                    _ => {}
                }
                if matches!(frame.kind, kind::DATA | kind::HEADERS) && frame.has(flag::END_STREAM) {
                    self.window.finished += 1;
                    self.total.finished += 1;
                    self.resets.credit(self.resets.config.per_finished);
                    self.faults.credit(self.faults.config.per_finished);
                }
                Ok(())
            }
            Event::Unit(frame, unit) if frame.kind == kind::RST_STREAM => {
                let is_fault = matches!(
                    Reason::from(Event::number(unit, 0)),
                    Reason::PROTOCOL_ERROR
                        | Reason::FLOW_CONTROL_ERROR
                        | Reason::STREAM_CLOSED
                        | Reason::FRAME_SIZE_ERROR
                        | Reason::REFUSED_STREAM
                );
                if is_fault && !self.faults.take(now) { Err(Violation::Faults) } else { Ok(()) }
            }
            Event::Unit(..) => Ok(()),
        }
    }

    fn opened_stream(&mut self, id: u32, now: Instant) {
        if now.saturating_duration_since(self.window_start).as_secs() >= WINDOW_SECS {
            self.window = Resets::default();
            self.window_start = now;
            self.window_floor = self.max_stream_id;
        }
        self.max_stream_id = id;
        self.window.opened += 1;
        self.total.opened += 1;
    }
}

/// Lengths that RFC 9113 fixes and whose breach is a connection error FRAME_SIZE_ERROR; `h2` answers some of them with
/// another code.
fn check_length(frame: &FrameHeader) -> Result<(), Violation> {
    let fits = match frame.kind {
        kind::SETTINGS if frame.has(flag::ACK) => frame.length == 0,
        kind::SETTINGS => frame.length.is_multiple_of(6),
        kind::PING => frame.length == 8,
        kind::PRIORITY => frame.length == 5,
        kind::RST_STREAM | kind::WINDOW_UPDATE => frame.length == 4,
        kind::GOAWAY => frame.length >= 8,
        _ => true,
    };
    if fits { Ok(()) } else { Err(Violation::FrameSize) }
}

/// Whether a header block that begins with this octet (RFC 7541 §6) begins with a pseudo-header, as far as one octet tells:
/// pseudo-headers stand first and have the entries 1 to 14 of the static table, which encoders use.
fn is_pseudo(first: u8) -> bool {
    let index = match first {
        0x80.. => first & 0x7f,
        0x40..0x80 => first & 0x3f,
        // A change of the table's size.
        0x20..0x40 => 0,
        _ => first & 0x0f,
    };
    (1..=14).contains(&index)
}

fn within(n: u64, most: u64, violation: Violation) -> Result<(), Violation> {
    if n > most { Err(violation) } else { Ok(()) }
}
