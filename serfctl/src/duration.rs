//! Durations as Go has them (`1.5s`, `300ms`, `1m30s`) and as people write them (`2min`) in, a [`Duration`] out.

use std::time::Duration;

/// Reads one.
///
/// # Errors
///
/// It is neither.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .or_else(|| decimal(text))
        .ok_or_else(|| "a duration is wanted, 15s, 1.5s or 300ms".to_owned())
}

fn decimal(text: &str) -> Option<Duration> {
    let units = [
        ("ms", 1e-3),
        ("us", 1e-6),
        ("ns", 1e-9),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    let number: f64 = number.chars().all(digits).then(|| number.parse().ok())??;
    Duration::try_from_secs_f64(number * factor).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_takes_is_taken() {
        for (text, millis) in [
            ("1.5s", 1500),
            ("300ms", 300),
            ("1m30s", 90_000),
            (".5m", 30_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "1.5", "-1s", "xs", "1e3s", "s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
