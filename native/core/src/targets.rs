//! How long requests of each class may take, from what the operator says and what a row was measured to take.

use std::collections::BTreeMap;
use std::time::Duration;

/// The target of a model of which nothing else is said.
const AUTOMATIC: Duration = Duration::from_millis(100);

/// A model so slow that this many rows, one after the other, take longer than [`AUTOMATIC`] has so much time.
const ROWS: u32 = 5;

/// Latency targets of one model, for each of `levels` priority levels, the highest first.
///
/// `said_ms` is what is said of the model as a whole, `said_of_levels_ms` by level from 1; zero is no target. Where
/// nothing is said a target is 100 ms, or five times what one row takes (`one_row`) if that is longer.
#[must_use]
pub fn latency_targets(
    levels: u8,
    said_ms: Option<u64>,
    said_of_levels_ms: &BTreeMap<u8, u64>,
    one_row: Option<Duration>,
) -> Box<[Duration]> {
    let automatic = AUTOMATIC.max(one_row.unwrap_or_default().saturating_mul(ROWS));
    let unsaid = said_ms.map_or(automatic, Duration::from_millis);
    let target = |level: u8| said_of_levels_ms.get(&level).map_or(unsaid, |&ms| Duration::from_millis(ms));
    (1..=levels.max(1)).map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_ms(targets: &[Duration]) -> Vec<u128> {
        targets.iter().map(Duration::as_millis).collect()
    }

    #[test]
    fn a_target_is_what_is_said_or_follows_from_one_row() {
        let none = BTreeMap::new();
        let row = |milliseconds| Some(Duration::from_millis(milliseconds));
        assert_eq!(in_ms(&latency_targets(2, None, &none, None)), [100, 100]);
        assert_eq!(in_ms(&latency_targets(1, None, &none, row(20))), [100]);
        assert_eq!(in_ms(&latency_targets(1, None, &none, row(21))), [105]);
        assert_eq!(in_ms(&latency_targets(1, Some(0), &none, row(900))), [0]);
        assert_eq!(in_ms(&latency_targets(1, Some(7), &none, row(900))), [7]);
    }

    #[test]
    fn what_is_said_of_a_level_is_said_of_no_other() {
        let said = BTreeMap::from([(1, 20), (3, 0), (9, 5)]);
        assert_eq!(in_ms(&latency_targets(4, Some(50), &said, None)), [20, 50, 0, 50]);
        assert_eq!(in_ms(&latency_targets(3, None, &said, None)), [20, 100, 0]);
    }
}
