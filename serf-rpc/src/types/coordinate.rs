//! Network coordinates: the reply to `get-coordinate` in, estimated round-trip times out.

use std::time::Duration;

use crate::wire::codec::{DecodeError, Reader};

/// Where a member is in the space whose distances are round-trip times (`coordinate/coordinate.go`).
///
/// All figures are seconds, as the agent gives them: nothing keeps a member from claiming others
/// that are negative or no numbers.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Coordinate {
    /// Its place in the Euclidean part; 8 dimensions in Serf.
    pub vec: Vec<f64>,
    /// How confident it is, from 0 to about 1.5; higher is worse.
    pub error: f64,
    /// What is added to distances for the way to the core of the network.
    pub adjustment: f64,
    /// The part of the way to the core that is not Euclidean.
    pub height: f64,
}

/// Dimensions that a coordinate may have. Serf has always had 8.
const MAX_DIMENSIONS: u32 = 64;

impl Coordinate {
    /// The estimated round-trip time to another member, as `serf rtt` has it. None if the two have
    /// not the same number of dimensions, or what they claim gives no time.
    pub fn rtt(&self, other: &Self) -> Option<Duration> {
        if self.vec.len() != other.vec.len() {
            return None;
        }
        let square: f64 = self
            .vec
            .iter()
            .zip(&other.vec)
            .map(|(a, b)| (a - b) * (a - b))
            .sum();
        let raw = square.sqrt() + self.height + other.height;
        let adjusted = raw + self.adjustment + other.adjustment;
        let seconds = if adjusted > 0.0 { adjusted } else { raw };
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Whether all its figures are such as Serf makes: numbers, and the height not below 0
    /// (`coordinate/coordinate.go`, `IsValid`).
    pub fn is_valid(&self) -> bool {
        let figures = [self.error, self.adjustment, self.height];
        let mut figures = self.vec.iter().chain(&figures);
        figures.all(|figure| figure.is_finite()) && self.height >= 0.0
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut coordinate = Self::default();
        reader.fields(|key, value| {
            match key {
                b"Vec" => {
                    let dimensions = value.array_len()?;
                    if dimensions > MAX_DIMENSIONS {
                        return Err(DecodeError::Range { field: "Vec" });
                    }
                    coordinate.vec = (0..dimensions)
                        .map(|_| value.float())
                        .collect::<Result<_, _>>()?;
                }
                b"Error" => coordinate.error = value.float()?,
                b"Adjustment" => coordinate.adjustment = value.float()?,
                b"Height" => coordinate.height = value.float()?,
                _ => value.skip()?,
            }
            Ok(())
        })?;
        Ok(coordinate)
    }
}

/// None if the agent has no coordinate of that member, or coordinates are disabled.
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(vec: &[f64], height: f64, adjustment: f64) -> Coordinate {
        Coordinate {
            vec: vec.to_vec(),
            error: 0.0,
            adjustment,
            height,
        }
    }

    #[test]
    fn the_time_is_the_distance_the_heights_and_the_adjustments() {
        let a = at(&[0.003, 0.0], 0.001, 0.0);
        let b = at(&[0.0, 0.004], 0.002, 0.000_5);
        let micros = |rtt: Option<Duration>| rtt.unwrap().as_micros();
        assert_eq!(micros(a.rtt(&b)), 8_500);
        assert_eq!(a.rtt(&b), b.rtt(&a));
        let pulled = at(&[0.0, 0.004], 0.002, -1.0);
        assert_eq!(
            micros(a.rtt(&pulled)),
            8_000,
            "an adjustment below 0 is none"
        );
    }

    #[test]
    fn what_is_no_time_is_none() {
        let a = at(&[0.0], 0.0, 0.0);
        assert_eq!(a.rtt(&at(&[0.0, 0.0], 0.0, 0.0)), None);
        for height in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
            assert_eq!(a.rtt(&at(&[0.0], height, 0.0)), None, "{height}");
        }
    }

    #[test]
    fn who_is_at_fault_has_figures_that_serf_does_not_make() {
        assert!(at(&[0.0, -1.0], 0.0, -1.0).is_valid());
        for figure in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let faulty = [
                at(&[figure], 0.0, 0.0),
                at(&[0.0], figure, 0.0),
                at(&[0.0], 0.0, figure),
            ];
            assert!(!faulty.iter().any(Coordinate::is_valid), "{figure}");
        }
        assert!(!at(&[0.0], -1.0, 0.0).is_valid());
    }

    proptest! {
        #[test]
        fn no_claim_panics_and_both_sides_agree(
            x in prop::collection::vec(any::<f64>(), 0..9),
            y in prop::collection::vec(any::<f64>(), 0..9),
            rest in any::<[f64; 4]>(),
        ) {
            let (a, b) = (at(&x, rest[0], rest[1]), at(&y, rest[2], rest[3]));
            let near = |one: Option<Duration>, other: Option<Duration>| match (one, other) {
                (Some(one), Some(other)) => one.abs_diff(other).as_secs_f64() <= one.as_secs_f64() * 1e-9 + 1e-9,
                (one, other) => one.is_none() == other.is_none(),
            };
            prop_assert!(near(a.rtt(&b), b.rtt(&a)) || rest.iter().any(|part| part.abs() > 1e15));
        }
    }
}
