//! Times as HAProxy writes them (Configuration Manual, section 2.5 "Time format"). Pure.

use std::time::Duration;

const UNITS: [(&str, u128); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// A time in whole milliseconds, with the greatest unit that says it in one whole number.
pub fn span(time: Duration) -> String {
    let millis = time.as_millis();
    let whole = UNITS
        .iter()
        .find(|(_, unit)| millis >= *unit && millis.is_multiple_of(*unit));
    whole.map_or_else(
        || "0ms".to_owned(),
        |(name, unit)| format!("{}{name}", millis / unit),
    )
}

/// The milliseconds of a time, whose number has them for its unit where it has none; none for what is no time.
pub fn millis(text: &str) -> Option<u128> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u128 = number.parse().ok()?;
    let unit = match unit {
        "" => 1,
        "us" => return Some(number / 1000),
        unit => UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    Some(number.saturating_mul(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_one_number_and_read_back() {
        for (time, text) in [
            (Duration::from_millis(1500), "1500ms"),
            (Duration::from_secs(90), "90s"),
            (Duration::from_secs(120), "2m"),
            (Duration::from_secs(36 * 3600), "36h"),
            (Duration::from_secs(7 * 86_400), "7d"),
            (Duration::ZERO, "0ms"),
            (Duration::from_nanos(1_999_999), "1ms"),
        ] {
            assert_eq!(span(time), text);
            assert_eq!(millis(text), Some(time.as_millis()));
        }
        assert_eq!(millis("10000"), Some(10_000));
        assert_eq!(millis("2500us"), Some(2));
        for odd in ["", "s", "1w", "1 s", "-1s", "$X"] {
            assert_eq!(millis(odd), None, "{odd}");
        }
    }
}
