//! Formats of times: `%START_TIME(%Y-%m-%dT%H:%M:%E3SZ)%` and the like.
//!
//! A format is strftime's in the C locale with its flags and widths, and what Envoy adds: `%s` and `%f` (`%3f`) are seconds and
//! fractions of a second since 1970, `%E3S` and `%E*S` seconds with a fraction, `%Ez` and `%:z` the offset with a colon.
//! Anything else stays as written.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::sys::local_time;

/// A format as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeFormat {
    parts: Box<[Part]>,
    /// `%START_TIME_LOCAL%` and its like.
    local: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<[u8]>),
    /// `%s`
    Epoch,
    /// `%3f`: so many digits of the fraction.
    Fraction(u8),
    /// `%E*f`: as many as are needed.
    ShortFraction,
    /// `%E3S`
    SecondsWithFraction(u8),
    ShortSecondsWithFraction,
    /// The offset, with so many colons.
    Offset(u8),
    Strftime(Spec),
}

/// A conversion of strftime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spec {
    conversion: u8,
    pad: Option<Pad>,
    upper: bool,
    width: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pad {
    /// `-`
    None,
    /// `_`
    Space,
    /// `0`
    Zero,
}

/// `%START_TIME%` without a format.
pub const DEFAULT: &str = "%Y-%m-%dT%H:%M:%E3SZ";
pub const DEFAULT_LOCAL: &str = "%Y-%m-%dT%H:%M:%E3S%z";

const CONVERSIONS: &[u8] = b"aAbBcCdDeFgGhHIjklmMpPrRStTuUVwWxXyYZ";

impl TimeFormat {
    /// # Errors
    /// For a format that makes a line break, in Envoy's words.
    pub fn parse(format: &str, local: bool) -> Result<TimeFormat, String> {
        let mut parts = Vec::new();
        let mut text = Vec::new();
        let mut rest = format.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            let found = if byte == b'%' { conversion(after) } else { None };
            let Some((part, len)) = found else {
                text.push(byte);
                rest = after;
                continue;
            };
            rest = after.get(len..).unwrap_or_default();
            match part {
                Found::NewLine => return Err("Invalid header configuration. Format string contains newline.".into()),
                Found::Text(byte) => text.push(byte),
                Found::Part(part) => {
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text).into()));
                    }
                    parts.push(part);
                }
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text.into()));
        }
        Ok(TimeFormat { parts: parts.into(), local })
    }

    pub fn write(&self, at: SystemTime, out: &mut Vec<u8>) {
        let (seconds, nanos) = match at.duration_since(UNIX_EPOCH) {
            Ok(since) => (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos()),
            Err(before) => {
                let before: Duration = before.duration();
                let whole = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match before.subsec_nanos() {
                    0 => (whole, 0),
                    nanos => (whole.saturating_sub(1), 1_000_000_000 - nanos),
                }
            }
        };
        let zone = if self.local { Some(local_time(seconds)) } else { None };
        let (offset, zone) = zone.as_ref().map_or((0, "UTC"), |(offset, name)| (*offset, name.as_str()));
        let time = Civil::of(seconds, offset);
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Epoch => push_number(out, seconds),
                Part::Fraction(digits) => push_fraction(out, nanos, *digits),
                Part::ShortFraction => push_short_fraction(out, nanos),
                Part::SecondsWithFraction(digits) => {
                    push_two(out, time.second);
                    if *digits > 0 {
                        out.push(b'.');
                        push_fraction(out, nanos, *digits);
                    }
                }
                Part::ShortSecondsWithFraction => {
                    push_two(out, time.second);
                    if nanos > 0 {
                        out.push(b'.');
                        push_short_fraction(out, nanos);
                    }
                }
                Part::Offset(colons) => push_offset(out, offset, *colons),
                Part::Strftime(spec) => spec.write(&time, zone, out),
            }
        }
    }
}

enum Found {
    Part(Part),
    Text(u8),
    NewLine,
}

/// What follows a `%`, and its length.
fn conversion(from: &[u8]) -> Option<(Found, usize)> {
    let part = |part, len| Some((Found::Part(part), len));
    match from {
        [b'%', ..] => Some((Found::Text(b'%'), 1)),
        [b's', ..] => part(Part::Epoch, 1),
        [b'f', ..] => part(Part::Fraction(9), 1),
        [digit @ b'1'..=b'9', b'f', ..] => part(Part::Fraction(digit - b'0'), 2),
        [b'z', ..] => part(Part::Offset(0), 1),
        [b':', b'z', ..] | [b'E', b'z', ..] => part(Part::Offset(1), 2),
        [b':', b':', b'z', ..] | [b'E', b'*', b'z', ..] => part(Part::Offset(2), 3),
        [b'E', b'T', ..] => Some((Found::Text(b'T'), 2)),
        [b'E', b'4', b'Y', ..] => part(Part::Strftime(Spec { conversion: b'Y', pad: None, upper: false, width: 4 }), 3),
        [b'E', b'*', b'S', ..] => part(Part::ShortSecondsWithFraction, 3),
        [b'E', b'*', b'f', ..] => part(Part::ShortFraction, 3),
        [b'E', b'0'..=b'9', ..] => {
            let digits = from.get(1..)?.iter().take_while(|b| b.is_ascii_digit()).count();
            let number = std::str::from_utf8(from.get(1..=digits)?).ok()?.parse::<u8>().ok()?;
            match from.get(digits + 1)? {
                b'S' => part(Part::SecondsWithFraction(number), digits + 2),
                b'f' => part(Part::Fraction(number), digits + 2),
                _ => None,
            }
        }
        _ => strftime(from),
    }
}

fn strftime(from: &[u8]) -> Option<(Found, usize)> {
    let mut spec = Spec { conversion: 0, pad: None, upper: false, width: 0 };
    let mut at = 0;
    while let Some(&byte) = from.get(at) {
        match byte {
            b'-' => spec.pad = Some(Pad::None),
            b'_' => spec.pad = Some(Pad::Space),
            b'0' => spec.pad = Some(Pad::Zero),
            b'^' | b'#' => spec.upper = true,
            _ => break,
        }
        at += 1;
    }
    while let Some(digit @ b'0'..=b'9') = from.get(at) {
        spec.width = spec.width.saturating_mul(10).saturating_add(digit - b'0');
        at += 1;
    }
    let plain = at == 0;
    // The modifiers choose another calendar or other digits, of which the C locale has none.
    if let Some(b'E' | b'O') = from.get(at) {
        at += 1;
    }
    let conversion = *from.get(at)?;
    if conversion == b'n' {
        return Some((Found::NewLine, at + 1));
    }
    // `%ES` with nothing between is not known to Envoy.
    if !CONVERSIONS.contains(&conversion) || (plain && from.starts_with(b"ES")) {
        return None;
    }
    spec.conversion = conversion;
    Some((Found::Part(Part::Strftime(spec)), at + 1))
}

/// A moment in the proleptic Gregorian calendar.
struct Civil {
    year: i64,
    /// 1 to 12.
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    /// 0 is Sunday.
    weekday: u8,
    /// 0 is the first of January.
    yearday: u16,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Civil {
    fn of(seconds: i64, offset: i32) -> Civil {
        let seconds = seconds.saturating_add(i64::from(offset));
        let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Years that begin in March make the leap day the last: eras of 400 years, counted from 1 March 0000.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let yearday = if month <= 2 { of_year - 306 } else { of_year + 59 + i64::from(is_leap) };
        Civil {
            year,
            month: month as u8,
            day: day as u8,
            hour: (of_day / 3_600) as u8,
            minute: (of_day / 60 % 60) as u8,
            second: (of_day % 60) as u8,
            weekday: (days + 4).rem_euclid(7) as u8,
            yearday: yearday as u16,
        }
    }

    /// ISO 8601: the year that the week belongs to, and the week.
    fn iso_week(&self) -> (i64, i64) {
        let weeks_in = |year: i64| {
            let first =
                |year: i64| (year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400)).rem_euclid(7);
            if first(year) == 4 || first(year - 1) == 3 { 53 } else { 52 }
        };
        let monday_based = (i64::from(self.weekday) + 6) % 7;
        match (i64::from(self.yearday) - monday_based + 10) / 7 {
            0 => (self.year - 1, weeks_in(self.year - 1)),
            53 if weeks_in(self.year) == 52 => (self.year + 1, 1),
            week => (self.year, week),
        }
    }

    /// Weeks since the first of this weekday (0 is Sunday).
    fn week_from(&self, first: i64) -> i64 {
        (i64::from(self.yearday) + 7 - (i64::from(self.weekday) + 7 - first) % 7) / 7
    }
}

impl Spec {
    fn write(&self, time: &Civil, zone: &str, out: &mut Vec<u8>) {
        let start = out.len();
        let hour12 = i64::from(match time.hour % 12 {
            0 => 12,
            hour => hour,
        });
        let name = |names: &[&'static str], at: u8| names.get(usize::from(at)).copied().unwrap_or_default();
        let (day, month) = (name(&DAYS, time.weekday), name(&MONTHS, time.month.wrapping_sub(1)));
        let half = if time.hour < 12 { "AM" } else { "PM" };
        match self.conversion {
            b'a' => out.extend_from_slice(day.get(..3).unwrap_or_default().as_bytes()),
            b'A' => out.extend_from_slice(day.as_bytes()),
            b'b' | b'h' => out.extend_from_slice(month.get(..3).unwrap_or_default().as_bytes()),
            b'B' => out.extend_from_slice(month.as_bytes()),
            b'c' => self.compound("%a %b %e %H:%M:%S %Y", time, zone, out),
            b'D' | b'x' => self.compound("%m/%d/%y", time, zone, out),
            b'F' => self.compound("%Y-%m-%d", time, zone, out),
            b'r' => self.compound("%I:%M:%S %p", time, zone, out),
            b'R' => self.compound("%H:%M", time, zone, out),
            b'T' | b'X' => self.compound("%H:%M:%S", time, zone, out),
            b'p' => out.extend_from_slice(half.as_bytes()),
            b'P' => out.extend_from_slice(half.to_ascii_lowercase().as_bytes()),
            b't' => out.push(b'\t'),
            b'Z' => out.extend_from_slice(zone.as_bytes()),
            b'C' => return self.number(time.year.div_euclid(100), 2, Pad::Zero, out),
            b'd' => return self.number(i64::from(time.day), 2, Pad::Zero, out),
            b'e' => return self.number(i64::from(time.day), 2, Pad::Space, out),
            b'g' => return self.number(time.iso_week().0.rem_euclid(100), 2, Pad::Zero, out),
            b'G' => return self.number(time.iso_week().0, 1, Pad::Zero, out),
            b'H' => return self.number(i64::from(time.hour), 2, Pad::Zero, out),
            b'I' => return self.number(hour12, 2, Pad::Zero, out),
            b'j' => return self.number(i64::from(time.yearday) + 1, 3, Pad::Zero, out),
            b'k' => return self.number(i64::from(time.hour), 2, Pad::Space, out),
            b'l' => return self.number(hour12, 2, Pad::Space, out),
            b'm' => return self.number(i64::from(time.month), 2, Pad::Zero, out),
            b'M' => return self.number(i64::from(time.minute), 2, Pad::Zero, out),
            b'S' => return self.number(i64::from(time.second), 2, Pad::Zero, out),
            b'u' => return self.number(i64::from((time.weekday + 6) % 7 + 1), 1, Pad::Zero, out),
            b'U' => return self.number(time.week_from(0), 2, Pad::Zero, out),
            b'V' => return self.number(time.iso_week().1, 2, Pad::Zero, out),
            b'w' => return self.number(i64::from(time.weekday), 1, Pad::Zero, out),
            b'W' => return self.number(time.week_from(1), 2, Pad::Zero, out),
            b'y' => return self.number(time.year.rem_euclid(100), 2, Pad::Zero, out),
            b'Y' => return self.number(time.year, 1, Pad::Zero, out),
            _ => {}
        }
        if self.upper {
            out.get_mut(start..).unwrap_or_default().make_ascii_uppercase();
        }
        let fill = if self.pad == Some(Pad::Zero) { b'0' } else { b' ' };
        pad_to(out, start, usize::from(self.width), fill);
    }

    fn compound(&self, format: &str, time: &Civil, zone: &str, out: &mut Vec<u8>) {
        let mut rest = format.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            if let (b'%', Some((&conversion, after))) = (byte, after.split_first()) {
                rest = after;
                Spec { conversion, pad: None, upper: false, width: 0 }.write(time, zone, out);
            } else {
                out.push(byte);
            }
        }
    }

    fn number(&self, value: i64, width: usize, pad: Pad, out: &mut Vec<u8>) {
        let start = out.len();
        push_number(out, value);
        let width = width.max(usize::from(self.width));
        match self.pad.unwrap_or(pad) {
            Pad::None => {}
            Pad::Space => pad_to(out, start, width, b' '),
            Pad::Zero => pad_to(out, start, width, b'0'),
        }
    }
}

/// Fills up in front of what was written since `start`.
fn pad_to(out: &mut Vec<u8>, start: usize, width: usize, fill: u8) {
    let len = out.len() - start;
    if let Some(missing) = width.checked_sub(len).filter(|missing| *missing > 0) {
        out.splice(start..start, std::iter::repeat_n(fill, missing));
    }
}

fn push_number(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn push_two(out: &mut Vec<u8>, value: u8) {
    out.extend([b'0' + value / 10, b'0' + value % 10]);
}

/// The first `digits` of the fraction; beyond nine they are zeros.
fn push_fraction(out: &mut Vec<u8>, nanos: u32, digits: u8) {
    let mut left = nanos;
    for _ in 0..digits {
        out.push(b'0' + (left / 100_000_000) as u8);
        left = left % 100_000_000 * 10;
    }
}

/// The fraction without zeros at its end, but at least one digit.
fn push_short_fraction(out: &mut Vec<u8>, nanos: u32) {
    let mut left = nanos;
    loop {
        out.push(b'0' + (left / 100_000_000) as u8);
        left = left % 100_000_000 * 10;
        if left == 0 {
            break;
        }
    }
}

fn push_offset(out: &mut Vec<u8>, offset: i32, colons: u8) {
    out.push(if offset < 0 { b'-' } else { b'+' });
    let offset = offset.unsigned_abs();
    push_two(out, (offset / 3_600 % 100) as u8);
    if colons > 0 {
        out.push(b':');
    }
    push_two(out, (offset / 60 % 60) as u8);
    if colons > 1 {
        out.push(b':');
        push_two(out, (offset % 60) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(format: &str, seconds: u64, nanos: u32) -> String {
        let mut out = Vec::new();
        TimeFormat::parse(format, false).unwrap().write(UNIX_EPOCH + Duration::new(seconds, nanos), &mut out);
        String::from_utf8(out).unwrap()
    }

    /// What Envoy 1.40 wrote for a request that began at 2026-11-21T05:24:45.100507Z.
    #[test]
    fn agrees_with_envoy() {
        let all =
            "%a %A %b %B %c %C %d %D %e %F %g %G %h %H %I %j %k %l %m %M %p %P %r %R %S %T %u %U %V %w %W %x %X %y %%";
        let all_becomes = "Sat Saturday Nov November Sat Nov 21 05:24:45 2026 20 21 11/21/26 21 2026-11-21 26 2026 Nov 05 05 \
                           325  5  5 11 24 AM am 05:24:45 AM 05:24 45 05:24:45 6 46 47 6 46 11/21/26 05:24:45 26 %";
        for (format, want) in [
            (DEFAULT, "2026-11-21T05:24:45.100Z"),
            ("%s", "1795238685"),
            ("%3f", "100"),
            ("%f", "100507000"),
            ("%1f", "1"),
            ("%6f", "100507"),
            ("%s.%3f", "1795238685.100"),
            ("%E6S", "45.100507"),
            ("%E*S", "45.100507"),
            ("%ES", "%ES"),
            ("%E0S", "45"),
            ("%E15S", "45.100507000000000"),
            ("%E*f", "100507"),
            ("%E3f", "100"),
            ("%Ez %E*z %z %:z %::z %Z", "+00:00 +00:00:00 +0000 +00:00 +00:00:00 UTC"),
            (all, all_becomes),
            ("%E4Y%ET", "2026T"),
            ("%q %i %L %N %Q", "%q %i %L %N %Q"),
            ("%Ex %Ey %Od %OH", "11/21/26 26 21 05"),
            ("%-d %_d %^a %#a %10d %0e", "21 21 SAT SAT 0000000021 21"),
            ("a% %", "a% %"),
            ("%E", "%E"),
            ("%3x", "11/21/26"),
            ("%t", "\t"),
        ] {
            assert_eq!(at(format, 1_795_238_685, 100_507_000), want, "{format}");
        }
    }

    #[test]
    fn calendars_turn_over() {
        for (seconds, want) in [
            (0, "1970-01-01 001 Thu 01"),
            (951_782_400, "2000-02-29 060 Tue 09"),
            (951_868_800, "2000-03-01 061 Wed 09"),
            (1_072_915_199, "2003-12-31 365 Wed 01"),
            (1_104_537_600, "2005-01-01 001 Sat 53"),
            (4_107_542_400, "2100-03-01 060 Mon 09"),
        ] {
            assert_eq!(at("%F %j %a %V", seconds, 0), want);
        }
        assert_eq!(at("%H:%I %l%p", 46_800, 0), "13:01  1PM");
        assert_eq!(at("%E*S", 1, 0), "01");
    }

    #[test]
    fn a_time_before_1970_has_a_fraction_too() {
        let mut out = Vec::new();
        let at = UNIX_EPOCH - Duration::from_millis(1);
        TimeFormat::parse("%F %E3S %s", false).unwrap().write(at, &mut out);
        assert_eq!(out, b"1969-12-31 59.999 -1");
    }

    #[test]
    fn local_time_has_an_offset() {
        let mut out = Vec::new();
        let at = UNIX_EPOCH + Duration::from_secs(1_795_238_685);
        TimeFormat::parse("%z %s", true).unwrap().write(at, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (offset, epoch) = text.split_once(' ').unwrap();
        assert!(offset.len() == 5 && offset.starts_with(['+', '-']) && epoch == "1795238685", "{text}");
        let (seconds, name) = local_time(1_795_238_685);
        assert!(seconds.abs() < 86_400 && !name.is_empty());
    }

    #[test]
    fn no_format_breaks_the_line() {
        for format in ["%n", "a%-n", "%10n", "%En"] {
            assert!(TimeFormat::parse(format, false).is_err(), "{format}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_is_survived(format in "[%EO0-9_^#:*aA-Zz -]{0,12}", seconds in proptest::num::i64::ANY, nanos in 0u32..1_000_000_000) {
            let at = match u64::try_from(seconds) {
                Ok(seconds) => UNIX_EPOCH.checked_add(Duration::new(seconds, nanos)),
                Err(_) => UNIX_EPOCH.checked_sub(Duration::new(seconds.unsigned_abs(), nanos)),
            };
            if let (Ok(format), Some(at)) = (TimeFormat::parse(&format, false), at) {
                format.write(at, &mut Vec::new());
            }
        }
    }
}
