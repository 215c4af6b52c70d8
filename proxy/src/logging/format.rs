use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::Event;
use tracing::field::{Field, Visit};

use super::Level;

/// A log line's pattern in spdlog's syntax, as far as Envoy's users need it.
pub struct Pattern(String);

impl Pattern {
    /// Envoy's default.
    pub const DEFAULT: &'static str = "[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v";

    pub fn new(pattern: &str) -> Self {
        Pattern(pattern.to_owned())
    }

    /// One line with its newline. Control characters of the message are escaped: a log line cannot be forged.
    pub fn line(&self, event: &Event<'_>, component: &str, level: Level) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let date = Date::of(now);
        let mut out = String::with_capacity(128);
        let mut chars = self.0.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let Some(flag) = chars.next() else { break };
            // Writing to a String cannot fail.
            let _ = match flag {
                'Y' => write!(out, "{:04}", date.year),
                'm' => write!(out, "{:02}", date.month),
                'd' => write!(out, "{:02}", date.day),
                'H' => write!(out, "{:02}", date.hour),
                'M' => write!(out, "{:02}", date.minute),
                'S' => write!(out, "{:02}", date.second),
                'T' => write!(out, "{:02}:{:02}:{:02}", date.hour, date.minute, date.second),
                'e' => write!(out, "{:03}", now.subsec_millis()),
                'f' => write!(out, "{:06}", now.subsec_micros()),
                'F' => write!(out, "{:09}", now.subsec_nanos()),
                'E' => write!(out, "{}", now.as_secs()),
                'z' => write!(out, "+00:00"),
                't' => write!(out, "{}", thread_id()),
                'P' => write!(out, "{}", std::process::id()),
                'l' => write!(out, "{level}"),
                'L' => write!(out, "{}", level.as_str().get(..1).unwrap_or_default().to_ascii_uppercase()),
                'n' => write!(out, "{component}"),
                'g' | 's' => write!(out, "{}", event.metadata().file().unwrap_or("-")),
                '#' => write!(out, "{}", event.metadata().line().unwrap_or(0)),
                '@' => {
                    write!(out, "{}:{}", event.metadata().file().unwrap_or("-"), event.metadata().line().unwrap_or(0))
                }
                '!' => write!(out, "{}", event.metadata().target()),
                'v' | '_' | 'j' => {
                    event.record(&mut Message(&mut out));
                    Ok(())
                }
                '%' => write!(out, "%"),
                other => write!(out, "%{other}"),
            };
        }
        out.push('\n');
        out
    }
}

fn thread_id() -> String {
    std::thread::current().name().map_or_else(|| "?".to_owned(), ToOwned::to_owned)
}

/// The message, then the other fields as `name=value`.
struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        if field.name() != "message" {
            let _ = write!(self.0, " {}=", field.name());
        }
        for c in text.chars() {
            if c.is_control() {
                self.0.extend(c.escape_default());
            } else {
                self.0.push(c);
            }
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

struct Date {
    year: i64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Date {
    /// Proleptic Gregorian calendar in UTC, counted in years that begin in March, so that the leap day comes last.
    fn of(since_epoch: Duration) -> Self {
        let seconds = since_epoch.as_secs();
        let days = (seconds / 86_400) as i64 + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Date {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as u64,
            day: day as u64,
            hour: seconds / 3600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_on_both_sides_of_leap_days() {
        let date = |seconds| {
            let d = Date::of(Duration::from_secs(seconds));
            (d.year, d.month, d.day, d.hour, d.minute, d.second)
        };
        assert_eq!(date(0), (1970, 1, 1, 0, 0, 0));
        assert_eq!(date(951_782_399), (2000, 2, 28, 23, 59, 59));
        assert_eq!(date(951_782_400), (2000, 2, 29, 0, 0, 0));
        assert_eq!(date(951_868_800), (2000, 3, 1, 0, 0, 0));
        assert_eq!(date(1_795_224_034), (2026, 11, 21, 1, 20, 34));
    }
}
