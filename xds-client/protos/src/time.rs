//! The JSON forms of `google.protobuf.Duration` and `google.protobuf.Timestamp`.

use std::fmt::Write;

const MAX_DURATION: i64 = 315_576_000_000;
const DAY: i64 = 86_400;

/// Seconds and nanoseconds of `1.5s`; both carry the sign.
pub(crate) fn parse_duration(text: &str) -> Option<(i64, i32)> {
    let text = text.strip_suffix('s')?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (seconds, nanos) = seconds_and_fraction(text)?;
    if seconds > MAX_DURATION {
        return None;
    }
    Some(if negative { (-seconds, -nanos) } else { (seconds, nanos) })
}

fn seconds_and_fraction(text: &str) -> Option<(i64, i32)> {
    let (seconds, nanos) = match text.split_once('.') {
        Some((seconds, fraction)) => (seconds, fraction_nanos(fraction)?),
        None => (text, 0),
    };
    if seconds.is_empty() || !seconds.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((seconds.parse().ok()?, nanos))
}

fn fraction_nanos(fraction: &str) -> Option<i32> {
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(fraction.parse::<i32>().ok()? * 10i32.pow(9 - fraction.len() as u32))
}

/// `1.500s`: no fraction, or one of 3, 6 or 9 digits.
pub(crate) fn format_duration(seconds: i64, nanos: i32, out: &mut String) {
    if seconds < 0 || nanos < 0 {
        out.push('-');
    }
    write_all(out, format_args!("{}", seconds.unsigned_abs()));
    format_nanos(nanos.unsigned_abs(), out);
    out.push('s');
}

fn format_nanos(nanos: u32, out: &mut String) {
    match nanos {
        0 => {}
        n if n % 1_000_000 == 0 => write_all(out, format_args!(".{:03}", n / 1_000_000)),
        n if n % 1_000 == 0 => write_all(out, format_args!(".{:06}", n / 1_000)),
        n => write_all(out, format_args!(".{n:09}")),
    }
}

fn write_all(out: &mut String, args: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(args);
}

/// Seconds since 1970 and nanoseconds of an RFC 3339 time between the years 1 and 9999.
pub(crate) fn parse_timestamp(text: &str) -> Option<(i64, i32)> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, c)| text.as_bytes().get(*at) != Some(c)) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let valid = (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month);
    if year < 1 || !valid || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let end = fraction.find(|c: char| !c.is_ascii_digit())?;
        nanos = fraction_nanos(fraction.get(..end)?)?;
        rest = fraction.get(end..)?;
    }
    let seconds = days_from_1970(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset(rest)?;
    Some((seconds, nanos))
}

/// Seconds east of Greenwich: `Z`, `+01:00`.
fn offset(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let part = |t: &str, max: i64| {
        (t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse::<i64>().ok())?.filter(|v| *v <= max)
    };
    Some(sign * (part(hours, 23)? * 3600 + part(minutes, 59)? * 60))
}

/// `2024-05-01T12:00:00.250Z`; `None` outside the years 1 to 9999.
pub(crate) fn format_timestamp(seconds: i64, nanos: i32, out: &mut String) -> Option<()> {
    let (days, time) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let nanos = u32::try_from(nanos).ok().filter(|n| *n < 1_000_000_000)?;
    if !(-719_162..=2_932_896).contains(&days) {
        return None;
    }
    let (year, month, day) = date_from_1970(days);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    write_all(out, format_args!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"));
    format_nanos(nanos, out);
    out.push('Z');
    Some(())
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days before a year of the proleptic Gregorian calendar, from year 1.
fn days_before(year: i64) -> i64 {
    let y = year - 1;
    y * 365 + y / 4 - y / 100 + y / 400
}

fn days_from_1970(year: i64, month: i64, day: i64) -> i64 {
    let months: i64 = (1..month).map(|m| days_in_month(year, m)).sum();
    days_before(year) - days_before(1970) + months + day - 1
}

fn date_from_1970(days: i64) -> (i64, i64, i64) {
    let days = days + days_before(1970);
    // Leap days make the estimate some years late.
    let mut year = days / 365 + 1;
    while days_before(year) > days {
        year -= 1;
    }
    let (mut rest, mut month) = (days - days_before(year), 1);
    while rest >= days_in_month(year, month) {
        rest -= days_in_month(year, month);
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, value) in [
            ("1.5s", Some((1, 500_000_000))),
            ("0s", Some((0, 0))),
            ("0001s", Some((1, 0))),
            ("-0.5s", Some((0, -500_000_000))),
            ("-2.000000001s", Some((-2, -1))),
            ("315576000000s", Some((MAX_DURATION, 0))),
            ("315576000001s", None),
            ("1", None),
            ("1ms", None),
            ("1.s", None),
            (".5s", None),
            ("+1s", None),
            (" 1s", None),
            ("1e3s", None),
            ("1.0000000001s", None),
            ("s", None),
            ("-s", None),
            ("--1s", None),
        ] {
            assert_eq!(parse_duration(text), value, "{text}");
        }
        for (value, text) in [
            ((0, 0), "0s"),
            ((1, 0), "1s"),
            ((1, 500_000_000), "1.500s"),
            ((0, 25_000), "0.000025s"),
            ((0, 1), "0.000000001s"),
            ((0, -500_000_000), "-0.500s"),
            ((-3, -1_000), "-3.000001s"),
            ((i64::MIN, 0), "-9223372036854775808s"),
        ] {
            let mut out = String::new();
            format_duration(value.0, value.1, &mut out);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn timestamps() {
        for (text, value) in [
            ("1970-01-01T00:00:00Z", Some((0, 0))),
            ("2024-02-29T12:34:56.250Z", Some((1_709_210_096, 250_000_000))),
            ("2000-01-01T00:00:00+01:30", Some((946_679_400, 0))),
            ("0001-01-01T00:00:00Z", Some((-62_135_596_800, 0))),
            ("9999-12-31T23:59:59.999999999Z", Some((253_402_300_799, 999_999_999))),
            ("1969-12-31T23:59:59.5Z", Some((-1, 500_000_000))),
            ("2023-02-29T00:00:00Z", None),
            ("2023-13-01T00:00:00Z", None),
            ("2023-01-01T24:00:00Z", None),
            ("2023-01-01 00:00:00Z", None),
            ("2023-01-01T00:00:00", None),
            ("2023-01-01T00:00:00.Z", None),
            ("2023-01-01T00:00:00+1:00", None),
            ("0000-01-01T00:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(parse_timestamp(text), value, "{text}");
        }
    }

    #[test]
    fn timestamps_round_trip() {
        for days in (-719_162..=2_932_896).step_by(997).chain([-719_162, 2_932_896, -1, 0, 11_016, 11_017]) {
            let (mut text, seconds) = (String::new(), days * DAY + 3_661);
            format_timestamp(seconds, 120_000_000, &mut text).unwrap();
            assert_eq!(parse_timestamp(&text), Some((seconds, 120_000_000)), "{text}");
        }
        let mut out = String::new();
        assert_eq!(format_timestamp(253_402_300_800, 0, &mut out), None);
        assert_eq!(format_timestamp(-62_135_596_801, 0, &mut out), None);
        assert_eq!(format_timestamp(0, -1, &mut out), None);
    }
}
