//! What a stream does from its response's head to its end: the body under its time limits, lines of the access log, the
//! one exit.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::Stream;
use crate::access_log::{AccessLogType, LogContext};
use crate::http::{BodyError, BodySource, Frame, RequestHead};
use crate::http_filters::StreamCx;
use crate::http_filters::router::{self, Outcome};
use crate::network::http_connection_manager::connection::note_downstream_reset;
use crate::network::http_connection_manager::deadlines::Expired;
use crate::stats::names::HttpStats;
use crate::stream_info::StreamInfo;

/// A response body under the stream's time limits.
pub struct WatchedBody {
    pub stream: Rc<Stream>,
    pub source: Box<dyn BodySource>,
}

impl BodySource for WatchedBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match self.source.poll_frame(cx) {
            Poll::Ready(frame) => {
                if !self.source.is_end_stream() {
                    self.stream.deadlines.touch(Instant::now());
                }
                match &frame {
                    Some(Ok(Frame::Trailers(trailers))) if !self.stream.config().access_logs.is_empty() => {
                        *self.stream.trailers.borrow_mut() = Some(trailers.clone());
                    }
                    Some(Err(error)) => self.stream.upstream_broke_off(error),
                    _ => {}
                }
                Poll::Ready(frame)
            }
            Poll::Pending => {
                let which = std::task::ready!(self.stream.poll_deadline(cx));
                Poll::Ready(Some(Err(self.stream.cut_short(which))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn exact_len(&self) -> Option<u64> {
        self.source.exact_len()
    }
}

impl Stream {
    fn upstream_broke_off(&self, error: &BodyError) {
        // What ended was the client's side.
        if self.ctl.reset.get().is_some() {
            return;
        }
        self.cut.set(true);
        let info = &mut self.cx.borrow_mut().info;
        info.set_flag(router::flag(error.reason));
        info.response_code_details = Some(router::after_response_started(error.reason));
    }

    /// A time limit after the response's head: the stream is reset.
    fn cut_short(&self, which: Expired) -> BodyError {
        self.cut.set(true);
        let details = match self.expired(which) {
            Outcome::Reply(reply) => {
                let info = &mut self.cx.borrow_mut().info;
                info.flags = info.flags.with(reply.flags);
                info.response_code_details = Some(reply.details.clone());
                reply.details
            }
            Outcome::Response(..) => "".into(),
        };
        BodyError { reason: crate::http::ResetReason::LocalReset, details }
    }

    fn finish(&self) {
        let config = self.config();
        let stats = &config.stats;
        let now = Instant::now();
        stats.gauge_dec(HttpStats::DOWNSTREAM_RQ_ACTIVE);
        let cx = &mut *self.cx.borrow_mut();
        let info = &mut cx.info;
        stats.record(HttpStats::DOWNSTREAM_RQ_TIME, now.saturating_duration_since(info.start).as_millis() as u64);
        let incomplete = || self.refused.get() || self.ctl.request_complete.get().is_none();
        if self.cut.get() {
            // One of our own comes back as one of the codec's, in Envoy.
            stats.inc(HttpStats::DOWNSTREAM_RQ_TX_RESET);
            stats.inc(HttpStats::DOWNSTREAM_RQ_RX_RESET);
        } else if self.ctl.reset.get().is_none() && self.early.get() && incomplete() {
            stats.inc(HttpStats::DOWNSTREAM_RQ_RX_RESET);
        }
        if let Some(reason) = self.ctl.reset.get().filter(|_| !self.cut.get()) {
            note_downstream_reset(info, reason, &self.ctl, stats);
        }
        info.end = Some(now);
        info.last_downstream_tx = self.responded.get().then_some(now);
        self.log_with(cx, AccessLogType::DownstreamEnd);
        if self.upgrading.get() {
            stats.gauge_dec(HttpStats::DOWNSTREAM_CX_UPGRADES_ACTIVE);
        }
        self.connection.stream_ended(self.timer.take());
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Stream {
    /// When the next line of `access_log_flush_interval` is due.
    pub fn next_log(&self, now: Instant) -> Option<Instant> {
        let interval = self.config().access_log_flush_interval.filter(|_| !self.config().access_logs.is_empty());
        interval.and_then(|interval| now.checked_add(interval))
    }

    /// Writes a line about the stream as it is now.
    pub fn log(&self, kind: AccessLogType) {
        self.log_with(&mut self.cx.borrow_mut(), kind);
    }

    fn log_with(&self, cx: &mut StreamCx, kind: AccessLogType) {
        let config = self.config();
        if config.access_logs.is_empty() {
            return;
        }
        let head = self.head.borrow();
        self.snapshot(&mut cx.info, &head);
        let response = self.response.borrow();
        let trailers = self.trailers.borrow();
        let (request, response, trailers) = (Some(&*head), response.as_ref(), trailers.as_ref());
        let context = LogContext { request, response, trailers, info: &cx.info, kind };
        config.access_logs.iter().for_each(|log| log.log(&context));
    }

    /// Copies into `info` what codec and router have counted so far.
    fn snapshot(&self, info: &mut StreamInfo, head: &RequestHead) {
        info.request_complete = self.ctl.request_complete.get();
        info.first_downstream_tx = self.ctl.first_tx.get();
        info.bytes_received = self.ctl.body_received.get();
        info.bytes_sent = self.ctl.body_sent.get();
        info.downstream_wire_bytes_received = self.ctl.wire_received.get();
        info.downstream_wire_bytes_sent = self.ctl.wire_sent.get();
        info.downstream_header_bytes_sent = self.ctl.header_bytes_sent.get();
        info.downstream_header_bytes_received = head.wire_size as u64;
        let upstream = &self.ctl.upstream;
        info.upstream.wire_bytes_sent = upstream.sent.get();
        info.upstream.wire_bytes_received = upstream.received.get();
        info.upstream.header_bytes_sent = upstream.header_sent.get();
        info.upstream.header_bytes_received = upstream.header_received.get();
        info.upstream.timing.first_rx_body = upstream.first_rx_body.get();
        info.upstream.timing.last_rx = upstream.last_rx.get();
    }
}
