//! Numbers, strings and bytes in JSON.

use super::{Printer, Result};
use crate::schema::Kind;
use crate::wire::Scalar;

pub(super) const REDACTED: &str = "[redacted]";

impl Printer<'_> {
    pub(super) fn scalar(&mut self, kind: Kind, value: Scalar<'_>, sensitive: bool) -> Result<()> {
        let wide = matches!(kind, Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64);
        match value {
            Scalar::Text(_) if sensitive => self.string(REDACTED)?,
            Scalar::Bytes(_) if sensitive => self.base64(REDACTED.as_bytes())?,
            Scalar::Text(text) => self.string(text)?,
            Scalar::Bytes(bytes) => self.base64(bytes)?,
            // A map value; as a field of its own it is left out.
            _ if sensitive => return self.scalar(kind, Scalar::default_of(kind), false),
            Scalar::Bool(value) => write!(self.out, "{value}")?,
            Scalar::Int(value) if wide => write!(self.out, "\"{value}\"")?,
            Scalar::Uint(value) if wide => write!(self.out, "\"{value}\"")?,
            Scalar::Int(value) => write!(self.out, "{value}")?,
            Scalar::Uint(value) => write!(self.out, "{value}")?,
            Scalar::Float(value) => {
                self.number(f64::from(value), || general(f64::from(value), 6, 9, |t| t.parse() == Ok(value)))?
            }
            Scalar::Double(value) => self.number(value, || general(value, 15, 17, |t| t.parse() == Ok(value)))?,
            Scalar::Enum(number) => match kind {
                Kind::Enum(kind) if kind.is_null_value() => self.out.write_str("null")?,
                Kind::Enum(kind) => match kind.by_number(number) {
                    Some(value) => self.string(value.name)?,
                    None => write!(self.out, "{number}")?,
                },
                _ => write!(self.out, "{number}")?,
            },
        }
        Ok(())
    }

    pub(super) fn double(&mut self, value: f64) -> Result<()> {
        self.scalar(Kind::Double, Scalar::Double(value), false)
    }

    fn number(&mut self, value: f64, text: impl Fn() -> String) -> Result<()> {
        let text = match value {
            v if v.is_nan() => "\"NaN\"".into(),
            f64::INFINITY => "\"Infinity\"".into(),
            f64::NEG_INFINITY => "\"-Infinity\"".into(),
            _ => text(),
        };
        Ok(self.out.write_str(&text)?)
    }

    pub(super) fn string(&mut self, text: &str) -> Result<()> {
        self.out.write_char('"')?;
        let mut plain = 0;
        for (at, c) in text.char_indices() {
            if !must_escape(c) {
                continue;
            }
            self.out.write_str(text.get(plain..at).unwrap_or_default())?;
            plain = at + c.len_utf8();
            match c {
                '"' => self.out.write_str("\\\"")?,
                '\\' => self.out.write_str("\\\\")?,
                '\u{8}' => self.out.write_str("\\b")?,
                '\u{c}' => self.out.write_str("\\f")?,
                '\n' => self.out.write_str("\\n")?,
                '\r' => self.out.write_str("\\r")?,
                '\t' => self.out.write_str("\\t")?,
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(self.out, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        self.out.write_str(text.get(plain..).unwrap_or_default())?;
        Ok(self.out.write_char('"')?)
    }

    pub(super) fn base64(&mut self, bytes: &[u8]) -> Result<()> {
        const DIGITS: [u8; 64] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        self.out.write_char('"')?;
        for chunk in bytes.chunks(3) {
            let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for i in 0..4 {
                let digit = DIGITS.get((bits >> (18 - 6 * i) & 63) as usize).copied().unwrap_or(b'=');
                self.out.write_char(if i > chunk.len() { '=' } else { char::from(digit) })?;
            }
        }
        Ok(self.out.write_char('"')?)
    }
}

/// What protobuf's JSON writer escapes: controls, HTML's angle brackets, and characters that do not show or that turn
/// the text around them.
fn must_escape(c: char) -> bool {
    match c {
        '"' | '\\' | '<' | '>' => true,
        ' '..='~' => false,
        '\0'..='\u{9f}' => true,
        '\u{ad}' | '\u{600}'..='\u{603}' | '\u{6dd}' | '\u{70f}' | '\u{17b4}' | '\u{17b5}' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{206a}'..='\u{206f}' => true,
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' => true,
        '\u{e0001}' | '\u{e0020}'..='\u{e007f}' => true,
        _ => false,
    }
}

/// C's `%.{short}g`, or `%.{long}g` when the short form does not read back as the same number.
fn general(value: f64, short: usize, long: usize, same: impl Fn(&str) -> bool) -> String {
    let text = percent_g(value, short);
    if same(&text) { text } else { percent_g(value, long) }
}

fn percent_g(value: f64, precision: usize) -> String {
    let scientific = format!("{value:.*e}", precision - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let stripped = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= precision as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", stripped(mantissa), exponent.unsigned_abs());
    }
    let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
    stripped(&format!("{value:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Observed with Envoy 1.40: `node.metadata` as `/server_info` shows it.
    #[test]
    fn doubles_print_as_in_envoy() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (1000.0, "1000"),
            (100000.0, "100000"),
            (1e15, "1e+15"),
            (1.5e15, "1.5e+15"),
            (999999999999999.0, "999999999999999"),
            (9007199254740992.0, "9007199254740992"),
            (9999999999999998.0, "9999999999999998"),
            (12345678901234567890.0, "1.2345678901234567e+19"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (123456789012345.67, "123456789012345.67"),
            (0.12345678901234566, "0.12345678901234566"),
            (123456789.125, "123456789.125"),
            (0.30000000000000004, "0.30000000000000004"),
            (0.1, "0.1"),
            (1.1, "1.1"),
            (0.0001, "0.0001"),
            (1e-5, "1e-05"),
            (1e-7, "1e-07"),
            (2.5e-10, "2.5e-10"),
            (5e-324, "4.94065645841247e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (1e21, "1e+21"),
        ] {
            assert_eq!(general(value, 15, 17, |t| t.parse() == Ok(value)), text);
        }
    }

    #[test]
    fn every_double_reads_back() {
        let mut bits = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..10_000 {
            bits = bits.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let value = f64::from_bits(bits);
            if value.is_finite() {
                let text = general(value, 15, 17, |t| t.parse() == Ok(value));
                assert_eq!(text.parse(), Ok(value), "{text}");
            }
        }
    }
}
