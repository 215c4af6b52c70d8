use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn header(kind: u8, flags: u8, stream_id: u32, length: u32) -> Event {
    Event::Header(FrameHeader { length, kind, flags, stream_id })
}

fn reset(stream_id: u32, code: u8) -> [Event; 2] {
    let head = FrameHeader { length: 4, kind: kind::RST_STREAM, flags: 0, stream_id };
    [Event::Header(head), Event::Unit(head, [0, 0, 0, code, 0, 0, 0, 0])]
}

/// How many times `event` passes before it is too much.
fn passes(side: Side, event: Event, most: u32) -> (u32, Option<Violation>) {
    let now = Instant::now();
    let mut flood = Flood::new(FloodLimits::new(side), now);
    for n in 0..most {
        if let Err(violation) = flood.received(&event, now) {
            return (n, Some(violation));
        }
    }
    (most, None)
}

#[test]
fn what_asks_for_nothing_useful_ends() {
    let cases = [
        (header(kind::PING, 0, 0, 8), 1000, Violation::Control),
        (header(kind::PING, flag::ACK, 0, 8), 1000, Violation::Control),
        (header(kind::SETTINGS, 0, 0, 6), 1000, Violation::Control),
        (header(99, 0, 0, 100), 1000, Violation::Control),
        (header(kind::GOAWAY, 0, 0, 8), 1000, Violation::Control),
        (header(kind::PRIORITY, 0, 1, 5), 100, Violation::Priority),
        (header(kind::PRIORITY_UPDATE, 0, 0, 5), 100, Violation::Priority),
        (header(kind::WINDOW_UPDATE, 0, 0, 4), 1000, Violation::WindowUpdate),
        (header(kind::RST_STREAM, 0, 1, 4), 1000, Violation::Resets),
        (header(kind::DATA, 0, 1, 0), 1, Violation::EmptyFrames),
        (header(kind::HEADERS, 0, 1, 0), 1, Violation::EmptyFrames),
    ];
    for (event, most, violation) in cases {
        assert_eq!(passes(Side::Server, event, 20_000), (most, Some(violation)), "{event:?}");
    }
    assert_eq!(passes(Side::Server, header(kind::DATA, flag::END_STREAM, 1, 0), 20_000).1, None);
    assert_eq!(
        passes(Side::Client, header(kind::HEADERS, flag::END_HEADERS, 1, 1), 20_000).1,
        Some(Violation::Headers)
    );
}

#[test]
fn control_frames_are_forgiven_with_time_and_with_data_sent() {
    let start = Instant::now();
    let mut flood = Flood::new(FloodLimits::new(Side::Server), start);
    let ping = header(kind::PING, 0, 0, 8);
    for second in 0..60 {
        for _ in 0..100 {
            flood.received(&ping, start + Duration::from_secs(second)).unwrap();
        }
    }
    let now = start + Duration::from_secs(60);
    for _ in 0..20_000 {
        flood.sent(&header(kind::DATA, 0, 1, 16_384), now).unwrap();
        flood.received(&ping, now).unwrap();
    }
}

#[test]
fn windows_may_be_opened_as_often_as_data_is_sent() {
    let now = Instant::now();
    let mut flood = Flood::new(FloodLimits::new(Side::Server), now);
    for _ in 0..10_000 {
        flood.sent(&header(kind::DATA, 0, 1, 16_384), now).unwrap();
        flood.received(&header(kind::WINDOW_UPDATE, 0, 0, 4), now).unwrap();
        flood.received(&header(kind::WINDOW_UPDATE, 0, 1, 4), now).unwrap();
    }
}

#[test]
fn padding_alone_is_an_empty_payload() {
    let now = Instant::now();
    let mut flood = Flood::new(FloodLimits::new(Side::Server), now);
    let head = FrameHeader { length: 11, kind: kind::DATA, flags: flag::PADDED, stream_id: 1 };
    let padded = |padding| [Event::Header(head), Event::Unit(head, [padding, 0, 0, 0, 0, 0, 0, 0])];
    for event in [padded(10), padded(9), padded(10)].concat() {
        flood.received(&event, now).unwrap();
    }
    assert!(padded(10).iter().any(|event| flood.received(event, now) == Err(Violation::EmptyFrames)));
}

#[test]
fn header_blocks_are_bounded_in_pieces_and_octets() {
    let start = Instant::now();
    let mut small = Flood::new(FloodLimits::new(Side::Server), start);
    small.received(&header(kind::HEADERS, 0, 1, 1), start).unwrap();
    let piece = header(kind::CONTINUATION, 0, 1, 1);
    let passed = (0..100).take_while(|_| small.received(&piece, start).is_ok()).count();
    assert_eq!(passed, 16);
    let mut large = Flood::new(FloodLimits::new(Side::Server), start);
    large.received(&header(kind::HEADERS, 0, 1, 16_384), start).unwrap();
    let piece = header(kind::CONTINUATION, 0, 1, 16_384);
    let passed = (0..100).take_while(|_| large.received(&piece, start).is_ok()).count();
    assert_eq!(passed, 3, "64 KiB");
    // A block that ended does not count towards the next.
    let mut many = Flood::new(FloodLimits::new(Side::Server), start);
    for id in 0..1000 {
        many.received(&header(kind::HEADERS, 0, 2 * id + 1, 100), start).unwrap();
        many.received(&header(kind::CONTINUATION, flag::END_HEADERS, 2 * id + 1, 100), start).unwrap();
    }
}

fn open(flood: &mut Flood, id: u32, now: Instant) {
    flood.received(&header(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, id, 10), now).unwrap();
}

#[test]
fn rapid_resets_end_after_a_hundred() {
    let now = Instant::now();
    let mut flood = Flood::new(FloodLimits::new(Side::Server), now);
    let mut resets = 0;
    for id in (1..).step_by(2) {
        open(&mut flood, id, now);
        if reset(id, 8).iter().any(|event| flood.received(event, now).is_err()) {
            break;
        }
        resets += 1;
    }
    assert_eq!(resets, 99);
}

#[test]
fn slower_resets_end_once_most_streams_were_reset() {
    let start = Instant::now();
    let mut flood = Flood::new(FloodLimits::new(Side::Server), start);
    let mut ended = None;
    for n in 0..2000 {
        let now = start + Duration::from_millis(50 * u64::from(n));
        open(&mut flood, 2 * n + 1, now);
        if reset(2 * n + 1, 8).iter().any(|event| flood.received(event, now).is_err()) {
            ended = Some(n);
            break;
        }
    }
    assert_eq!(ended, Some(199));
}

#[test]
fn a_client_that_gives_up_on_some_requests_is_no_flood() {
    let start = Instant::now();
    let mut flood = Flood::new(FloodLimits::new(Side::Server), start);
    for n in 0..100_000 {
        let now = start + Duration::from_micros(200 * u64::from(n));
        open(&mut flood, 2 * n + 1, now);
        if n % 5 == 0 {
            for event in reset(2 * n + 1, 8) {
                flood.received(&event, now).unwrap();
            }
        } else {
            flood.sent(&header(kind::HEADERS, flag::END_STREAM, 2 * n + 1, 10), now).unwrap();
        }
    }
    // Nor one that resets what it has been answered.
    for n in 100_000..200_000 {
        let now = start + Duration::from_millis(u64::from(n));
        open(&mut flood, 2 * n + 1, now);
        flood.sent(&header(kind::HEADERS, flag::END_STREAM, 2 * n + 1, 10), now).unwrap();
        for event in reset(2 * n + 1, 0) {
            flood.received(&event, now).unwrap();
        }
    }
}

#[test]
fn our_resets_for_the_peers_faults_are_counted_but_not_others() {
    let now = Instant::now();
    let mut flood = Flood::new(FloodLimits::new(Side::Server), now);
    for _ in 0..10_000 {
        for event in reset(1, 2) {
            flood.sent(&event, now).unwrap();
        }
    }
    let passed = (0..1000).take_while(|_| reset(1, 1).iter().all(|e| flood.sent(e, now).is_ok())).count();
    assert_eq!(passed, 100);
    for event in reset(1, 1) {
        flood.sent(&event, now + Duration::from_secs(5)).unwrap();
    }
}

#[test]
fn lengths_that_the_type_forbids_are_found() {
    for (kind, flags, length) in [
        (kind::SETTINGS, 0, 5),
        (kind::SETTINGS, flag::ACK, 6),
        (kind::PING, 0, 7),
        (kind::RST_STREAM, 0, 3),
        (kind::WINDOW_UPDATE, 0, 5),
        (kind::GOAWAY, 0, 7),
    ] {
        let found = passes(Side::Client, header(kind, flags, 1, length), 1);
        assert_eq!(found, (0, Some(Violation::FrameSize)), "{kind}");
    }
    let head = FrameHeader { length: 6, kind: kind::SETTINGS, flags: 0, stream_id: 0 };
    let window = |high| Event::Unit(head, [0, 4, high, 0, 0, 0, 0, 0]);
    assert_eq!(passes(Side::Server, window(0x80), 1).1, Some(Violation::WindowSetting));
    assert_eq!(passes(Side::Server, window(0x7f), 1).1, None);
}

proptest! {
    #[test]
    fn any_frames_are_taken_or_refused_but_never_panic(
        frames in proptest::collection::vec((any::<bool>(), any::<u8>(), any::<u8>(), any::<u32>(), any::<u32>(), any::<[u8; 8]>(), 0u64..10_000), 0..200),
        client in any::<bool>(),
    ) {
        let start = Instant::now();
        let side = if client { Side::Client } else { Side::Server };
        let mut flood = Flood::new(FloodLimits::new(side), start);
        for (sent, kind, flags, stream_id, length, unit, ms) in frames {
            let head = FrameHeader { length: length & 0xff_ffff, kind: kind % 18, flags, stream_id };
            let now = start + Duration::from_millis(ms);
            for event in [Event::Header(head), Event::Unit(head, unit)] {
                let _ = if sent { flood.sent(&event, now) } else { flood.received(&event, now) };
            }
        }
    }
}
