//! Floating-point numbers as C++ prints them.

/// `%.32g`: up to 32 significant digits, exactly.
pub fn general_32(value: f64) -> String {
    general(value, 32)
}

/// `%g`: up to 6 significant digits.
pub fn general_6(value: f64) -> String {
    general(value, 6)
}

fn general(value: f64, precision: usize) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value == 0.0 {
        return "0".into();
    }
    let scientific = format!("{value:.*e}", precision - 1);
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= precision as i32 {
        return format!("{}e{exponent:+03}", trim(mantissa));
    }
    let decimals = usize::try_from(precision as i32 - 1 - exponent).unwrap_or(0);
    trim(&format!("{value:.decimals$}")).to_owned()
}

/// The shortest text that reads back as the same number, as `std::to_chars` gives it: plain or scientific, whichever is
/// shorter, plain if equal.
pub fn shortest(value: f64) -> String {
    let plain = format!("{value}");
    let scientific = format!("{value:e}");
    match scientific.split_once('e') {
        Some((mantissa, exponent)) => {
            let exponent: i32 = exponent.parse().unwrap_or(0);
            let scientific = format!("{mantissa}e{exponent:+03}");
            if scientific.len() < plain.len() { scientific } else { plain }
        }
        None => plain,
    }
}

fn trim(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}
