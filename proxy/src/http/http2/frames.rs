//! Follows the 9-byte frame headers (RFC 9113 §4.1) of one direction of a connection as its bytes pass by.
//!
//! Pure: bytes in, events out. Payloads are skipped, never copied, but for the few bytes that [`Walker`] needs of
//! RST_STREAM, GOAWAY, SETTINGS, HEADERS and padded DATA. However the bytes are cut into pieces, the events are the same.

/// The type octet of a frame.
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
    /// RFC 9218 §7.1.
    pub const PRIORITY_UPDATE: u8 = 16;
}

/// The flags octet of a frame.
pub mod flag {
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Octets of a frame header.
pub const HEADER_LEN: usize = 9;

/// The client's connection preface (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameHeader {
    /// Of the payload.
    pub length: u32,
    pub kind: u8,
    pub flags: u8,
    pub stream_id: u32,
}

impl FrameHeader {
    pub fn parse(b: &[u8; HEADER_LEN]) -> Self {
        FrameHeader {
            length: u32::from_be_bytes([0, b[0], b[1], b[2]]),
            kind: b[3],
            flags: b[4],
            stream_id: u32::from_be_bytes([b[5], b[6], b[7], b[8]]) & 0x7fff_ffff,
        }
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Octets on the wire.
    pub fn wire_len(&self) -> u64 {
        u64::from(self.length) + HEADER_LEN as u64
    }

    /// Of the header block in the payload of HEADERS: padding length and priority stand before it.
    pub fn block_offset(&self) -> usize {
        usize::from(self.has(flag::PADDED)) + if self.has(flag::PRIORITY) { 5 } else { 0 }
    }

    /// How many payload octets make one [`Event::Unit`]; 0 for frames whose payload nobody looks at.
    fn unit(&self) -> usize {
        match self.kind {
            kind::RST_STREAM => 4,
            kind::GOAWAY => 8,
            kind::SETTINGS => 6,
            kind::DATA if self.has(flag::PADDED) => 1,
            kind::HEADERS => 1 + self.block_offset(),
            _ => 0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A frame's header is complete.
    Header(FrameHeader),
    /// The first octets of a RST_STREAM (error code), GOAWAY (last stream id, error code), padded DATA (pad length) or
    /// HEADERS (up to the first of the header block), or one parameter of a SETTINGS frame. Only as many octets as that takes are set. A frame too short for it has none.
    Unit(FrameHeader, [u8; 8]),
}

impl Event {
    /// The big-endian number in octets `from..from + 4` of a unit.
    pub fn number(unit: &[u8; 8], from: usize) -> u32 {
        let mut bytes = [0; 4];
        for (to, b) in bytes.iter_mut().zip(unit.iter().skip(from)) {
            *to = *b;
        }
        u32::from_be_bytes(bytes)
    }
}

/// Where in a frame the stream of bytes stands.
#[derive(Debug, Default)]
pub struct Walker {
    /// Octets of the preface still to come.
    preface: usize,
    /// The frame header being filled, or once the frame has begun its payload's current unit.
    part: [u8; HEADER_LEN],
    have: usize,
    frame: FrameHeader,
    /// Payload octets of `frame` still to come.
    left: usize,
    /// Octets that the current unit still waits for; 0 when the rest of the payload is skipped.
    unit_left: usize,
}

impl Walker {
    /// For a direction that starts with `preface` octets which are not frames.
    pub fn new(preface: usize) -> Self {
        Walker { preface, part: [0; HEADER_LEN], have: 0, frame: FrameHeader::default(), left: 0, unit_left: 0 }
    }

    /// Takes the next bytes and reports what they complete, in order. Stops where `sink` fails.
    ///
    /// # Errors
    /// What `sink` returns.
    pub fn feed<E>(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(Event) -> Result<(), E>) -> Result<(), E> {
        let skip = self.preface.min(bytes.len());
        self.preface -= skip;
        bytes = bytes.get(skip..).unwrap_or_default();
        while !bytes.is_empty() {
            if self.left > 0 {
                bytes = self.payload(bytes, sink)?;
                continue;
            }
            let taken = self.fill(bytes, HEADER_LEN - self.have);
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.have == HEADER_LEN {
                self.frame = FrameHeader::parse(&self.part);
                self.left = self.frame.length as usize;
                self.unit_left = self.frame.unit();
                self.have = 0;
                sink(Event::Header(self.frame))?;
            }
        }
        Ok(())
    }

    /// Whether the bytes so far end with a whole frame.
    pub fn is_between_frames(&self) -> bool {
        self.preface == 0 && self.left == 0 && self.have == 0
    }

    fn payload<'a, E>(
        &mut self,
        bytes: &'a [u8],
        sink: &mut impl FnMut(Event) -> Result<(), E>,
    ) -> Result<&'a [u8], E> {
        if self.unit_left == 0 {
            let skip = self.left.min(bytes.len());
            self.left -= skip;
            return Ok(bytes.get(skip..).unwrap_or_default());
        }
        let taken = self.fill(bytes, self.unit_left.min(self.left));
        self.left -= taken;
        self.unit_left -= taken;
        if self.unit_left == 0 {
            let [unit @ .., _] = self.part;
            self.have = 0;
            if self.frame.kind == kind::SETTINGS {
                self.unit_left = self.frame.unit();
            }
            sink(Event::Unit(self.frame, unit))?;
        }
        if self.left == 0 {
            self.have = 0;
        }
        Ok(bytes.get(taken..).unwrap_or_default())
    }

    /// Appends at most `want` bytes to `part`, returns how many.
    fn fill(&mut self, bytes: &[u8], want: usize) -> usize {
        let mut taken = 0;
        for (to, from) in self.part.iter_mut().skip(self.have).take(want).zip(bytes) {
            *to = *from;
            taken += 1;
        }
        self.have += taken;
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(preface: usize, pieces: &[&[u8]]) -> Vec<Event> {
        let (mut walker, mut seen) = (Walker::new(preface), Vec::new());
        for piece in pieces {
            let taken: Result<(), ()> = walker.feed(piece, &mut |e| {
                seen.push(e);
                Ok(())
            });
            taken.unwrap();
        }
        seen
    }

    fn frame(kind: u8, flags: u8, stream_id: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream_id.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn sample() -> Vec<u8> {
        [
            PREFACE.to_vec(),
            frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100, 0, 4, 0, 1, 0, 0]),
            frame(kind::SETTINGS, flag::ACK, 0, &[]),
            frame(kind::HEADERS, flag::END_HEADERS, 1, b"block"),
            frame(kind::DATA, flag::PADDED, 1, &[3, b'x', 0, 0, 0]),
            frame(kind::DATA, 0, 1, b""),
            frame(kind::RST_STREAM, 0, 1, &8u32.to_be_bytes()),
            frame(kind::RST_STREAM, 0, 3, &[1, 2]),
            frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 11, b'd', b'b', b'g']),
            frame(200, 0xff, u32::MAX, b"?"),
        ]
        .concat()
    }

    #[test]
    fn every_frame_and_its_first_octets_are_seen() {
        let seen = events(PREFACE.len(), &[&sample()]);
        let kinds: Vec<u8> =
            seen.iter().filter_map(|e| if let Event::Header(h) = e { Some(h.kind) } else { None }).collect();
        assert_eq!(kinds, [4, 4, 1, 0, 0, 3, 3, 7, 200]);
        let units: Vec<(u8, u32, u32)> = seen
            .iter()
            .filter_map(|e| match e {
                Event::Unit(h, u) => Some((h.kind, Event::number(u, 0), Event::number(u, 4))),
                Event::Header(_) => None,
            })
            .collect();
        assert_eq!(units.len(), 6, "{units:?}");
        assert_eq!(units[0].1, 0x0003_0000, "MAX_CONCURRENT_STREAMS and the high half of its value");
        assert_eq!(units[2].1 >> 24, u32::from(b'b'), "of the header block");
        assert_eq!(units[3].1 >> 24, 3, "pad length");
        assert_eq!(units[4], (kind::RST_STREAM, 8, units[4].2));
        assert_eq!(units[5], (kind::GOAWAY, 5, 11));
        assert_eq!(
            seen.last(),
            Some(&Event::Header(FrameHeader { length: 1, kind: 200, flags: 255, stream_id: 0x7fff_ffff }))
        );
    }

    #[test]
    fn the_end_of_a_frame_is_known() {
        let bytes = sample();
        let ends: Vec<usize> = (0..=bytes.len())
            .filter(|at| {
                let mut walker = Walker::new(PREFACE.len());
                let fed: Result<(), ()> = walker.feed(&bytes[..*at], &mut |_| Ok(()));
                fed.is_ok() && walker.is_between_frames()
            })
            .collect();
        assert_eq!(ends, [24, 45, 54, 68, 82, 91, 104, 115, 135, 145]);
    }

    #[test]
    fn any_two_pieces_give_the_same_events() {
        let bytes = sample();
        let whole = headers_and_codes(&events(PREFACE.len(), &[&bytes]));
        for at in 0..=bytes.len() {
            let (a, b) = bytes.split_at(at);
            assert_eq!(headers_and_codes(&events(PREFACE.len(), &[a, b])), whole, "split at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(headers_and_codes(&events(PREFACE.len(), &single)), whole);
    }

    /// Units without the octets that do not belong to them.
    fn headers_and_codes(events: &[Event]) -> Vec<(FrameHeader, Option<Vec<u8>>)> {
        let one = |e: &Event| match e {
            Event::Header(h) => (*h, None),
            Event::Unit(h, u) => (*h, Some(u[..h.unit()].to_vec())),
        };
        events.iter().map(one).collect()
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_splits_do_not_matter(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            short in any::<bool>(),
            cuts in proptest::collection::vec(0usize..400, 0..6),
        ) {
            let mut bytes = bytes;
            if short {
                // Lengths small enough for several frames to fit.
                for at in [0usize, 1, 20, 21] {
                    if let Some(b) = bytes.get_mut(at) { *b = 0; }
                }
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.push(0);
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(headers_and_codes(&events(0, &pieces)), headers_and_codes(&events(0, &[&bytes])));
        }
    }
}
