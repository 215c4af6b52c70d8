//! The body of a request that may be sent again: what was read of it is kept, up to a limit, for the next attempt.
//!
//! [`Replay`] holds the body; each attempt gets a [`ReplayBody`], which gives first what is kept and then what comes,
//! trailers included. Once the request is too long, or its answer has begun, nothing more is kept and the memory goes as
//! the running attempt takes it: there is no other attempt then.
//!
//! Invariant: one [`ReplayBody`] is read at a time. Its drop leaves the body to the next.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;

use crate::cluster::Cluster;
use crate::http::{Body, BodyError, BodySource, Frame};
use crate::stats::names::ClusterStats;

pub struct Replay(Rc<RefCell<Kept>>);

struct Kept {
    source: Body,
    /// There was never anything.
    empty: bool,
    /// Read and kept, in order.
    frames: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    ended: bool,
    bytes: u64,
    limit: u64,
    /// Another attempt may follow.
    keep: bool,
    overflowed: bool,
    cluster: Arc<Cluster>,
}

impl Replay {
    /// `limit` is in octets. Passing it counts as `retry_or_shadow_abandoned` of the cluster.
    pub fn new(source: Body, limit: u64, cluster: Arc<Cluster>) -> Self {
        let ended = source.is_end_stream();
        Replay(Rc::new(RefCell::new(Kept {
            empty: matches!(source, Body::Empty),
            source,
            frames: VecDeque::new(),
            trailers: None,
            ended,
            bytes: 0,
            limit,
            keep: true,
            overflowed: false,
            cluster,
        })))
    }

    /// The body from its start, for one attempt.
    pub fn attempt(&self) -> Body {
        match self.0.borrow().empty {
            true => Body::Empty,
            false => Body::Stream(Box::new(ReplayBody { kept: self.0.clone(), at: 0, trailers_given: false })),
        }
    }

    /// The request was longer than what may be kept: it cannot be sent again.
    pub fn overflowed(&self) -> bool {
        self.0.borrow().overflowed
    }

    /// There will be no other attempt.
    pub fn release(&self) {
        self.0.borrow_mut().keep = false;
    }
}

struct ReplayBody {
    kept: Rc<RefCell<Kept>>,
    /// The next of the kept frames.
    at: usize,
    trailers_given: bool,
}

impl BodySource for ReplayBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let kept = &mut *self.kept.borrow_mut();
        if !kept.keep {
            kept.frames.drain(..self.at.min(kept.frames.len()));
            self.at = 0;
            if let Some(frame) = kept.frames.pop_front() {
                return Poll::Ready(Some(Ok(Frame::Data(frame))));
            }
        } else if let Some(frame) = kept.frames.get(self.at) {
            self.at += 1;
            return Poll::Ready(Some(Ok(Frame::Data(frame.clone()))));
        }
        if kept.ended {
            let trailers = kept.trailers.clone().filter(|_| !std::mem::replace(&mut self.trailers_given, true));
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::Trailers(trailers))));
        }
        let frame = ready!(kept.source.poll_frame(cx));
        match &frame {
            Some(Ok(Frame::Data(data))) => {
                kept.bytes += data.len() as u64;
                if kept.keep && kept.bytes > kept.limit {
                    (kept.keep, kept.overflowed) = (false, true);
                    kept.cluster.stats.inc(ClusterStats::RETRY_OR_SHADOW_ABANDONED);
                }
                if kept.keep {
                    kept.frames.push_back(data.clone());
                    self.at += 1;
                }
                kept.ended = kept.source.is_end_stream();
            }
            Some(Ok(Frame::Trailers(trailers))) => {
                kept.trailers = Some(trailers.clone());
                kept.ended = true;
                self.trailers_given = true;
            }
            None => kept.ended = true,
            Some(Err(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let kept = self.kept.borrow();
        kept.ended && self.at >= kept.frames.len() && (kept.trailers.is_none() || self.trailers_given)
    }

    fn exact_len(&self) -> Option<u64> {
        let kept = self.kept.borrow();
        let ahead: usize = kept.frames.iter().skip(self.at).map(Bytes::len).sum();
        let left = if kept.ended { Some(0) } else { kept.source.exact_len() };
        left.map(|left| left + ahead as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http::HeaderValue;

    use super::*;
    use crate::stats::Stats;

    /// Gives these pieces, with a pause before each.
    struct Pieces(VecDeque<Frame>, bool);

    impl BodySource for Pieces {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
            self.1 = !self.1;
            if self.1 {
                return Poll::Pending;
            }
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    fn cluster() -> Arc<Cluster> {
        Arc::new(Cluster::new("c", &Stats::new(0)))
    }

    fn replay(pieces: &[&'static str], trailers: bool, limit: u64) -> Replay {
        let mut frames: VecDeque<Frame> =
            pieces.iter().map(|p| Frame::Data(Bytes::from_static(p.as_bytes()))).collect();
        if trailers {
            frames
                .push_back(Frame::Trailers(HeaderMap::from_iter([(http::header::TE, HeaderValue::from_static("t"))])));
        }
        Replay::new(Body::Stream(Box::new(Pieces(frames, false))), limit, cluster())
    }

    /// Reads so many frames, or all.
    fn read(body: &mut Body, frames: usize) -> String {
        let mut cx = Context::from_waker(Waker::noop());
        let mut text = String::new();
        let mut got = 0;
        while got < frames {
            match body.poll_frame(&mut cx) {
                Poll::Pending => {}
                Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                    text += std::str::from_utf8(&data).unwrap();
                    got += 1;
                }
                Poll::Ready(Some(Ok(Frame::Trailers(_)))) => {
                    text += "+trailers";
                    got += 1;
                }
                Poll::Ready(None) => return text + ".",
                Poll::Ready(Some(Err(error))) => panic!("{error}"),
            }
        }
        text
    }

    #[test]
    fn every_attempt_gets_all_of_it() {
        let replay = replay(&["one ", "two ", "three"], true, 100);
        assert_eq!(read(&mut replay.attempt(), 1), "one ");
        assert_eq!(read(&mut replay.attempt(), 2), "one two ");
        assert_eq!(read(&mut replay.attempt(), 99), "one two three+trailers.");
        let mut last = replay.attempt();
        assert_eq!(read(&mut last, 99), "one two three+trailers.");
        assert!(last.is_end_stream());
        assert!(!replay.overflowed());
    }

    #[test]
    fn what_is_too_long_is_sent_once_and_not_kept() {
        let replay = replay(&["1234", "5678", "9"], false, 7);
        let mut body = replay.attempt();
        assert_eq!(read(&mut body, 1), "1234");
        assert!(!replay.overflowed());
        assert_eq!(read(&mut body, 99), "56789.");
        assert!(replay.overflowed());
        let abandoned = replay.0.borrow().cluster.stats.read(ClusterStats::RETRY_OR_SHADOW_ABANDONED);
        assert_eq!(abandoned, 1);
        assert!(replay.0.borrow().frames.is_empty());
    }

    #[test]
    fn an_answer_ends_the_keeping() {
        let replay = replay(&["a", "b", "c", "d"], true, 100);
        assert_eq!(read(&mut replay.attempt(), 3), "abc");
        let mut second = replay.attempt();
        assert_eq!(read(&mut second, 1), "a");
        replay.release();
        assert_eq!(read(&mut second, 1), "b");
        assert_eq!(replay.0.borrow().frames.len(), 1, "what the attempt has taken is gone");
        assert_eq!(read(&mut second, 99), "cd+trailers.");
    }

    #[test]
    fn no_body_is_none_each_time() {
        let replay = Replay::new(Body::Empty, 0, cluster());
        assert!(matches!(replay.attempt(), Body::Empty) && matches!(replay.attempt(), Body::Empty));
        let full = Replay::new(Body::Full(Bytes::from_static(b"full")), 4, cluster());
        assert_eq!(full.attempt().exact_len(), Some(4));
        assert_eq!(read(&mut full.attempt(), 9), "full.");
        assert_eq!(read(&mut full.attempt(), 9), "full.");
    }
}
