//! What a proof says.

use super::{Magnified, Worst};
use crate::probe::suspicion;
use crate::scan::Clues;

/// A row was answered otherwise among these neighbours.
pub(super) fn influence(output: &str, neighbour: &str, rows: usize, share: f64) -> String {
    format!(
        "rows influence each other: among {neighbour} in a batch of {rows}, output '{output}' of a row is {} what it \
         is alone",
        apart(share)
    )
}

/// A row was answered otherwise in a batch of this size, whoever was in it.
pub(super) fn size_matters(output: &str, rows: usize, place: usize, share: f64) -> String {
    format!("output '{output}' of row {place} in a batch of {rows} is {} what the row gets alone", apart(share))
}

fn apart(share: f64) -> String {
    if share.is_finite() { format!("{} of its largest value from", number(share)) } else { "not".to_owned() }
}

pub(super) fn random(clues: &Clues) -> String {
    format!("the model answers the same row differently each time, so nothing can be compared{}", suspicion(clues))
}

pub(super) fn nothing_proved(limit: &str) -> String {
    format!("{limit} before two rows were compared; raise proof_seconds_max, or trust the model with trust_batching")
}

/// What was compared, and how near the answers were.
pub(super) fn proved(sizes: &[u32], worst: Worst, magnified: Option<Magnified>, limit: Option<&str>) -> String {
    let mut text = match sizes {
        [] => "batches have one row".to_owned(),
        sizes => format!("rows alone and in batches of {}, among zeros, large values and copies, answer ", list(sizes)),
    };
    if !sizes.is_empty() && worst.tolerance == 0.0 && magnified.is_none() {
        text += "the same bit for bit";
    } else if worst.tolerance > 0.0 {
        let (difference, tolerance) = (number(worst.difference), number(worst.tolerance));
        text += &format!("within {difference} of the largest value, {tolerance} is allowed");
    } else if !sizes.is_empty() {
        text += "the same";
    }
    if let Some(Magnified { share, row, .. }) = magnified {
        text += &format!("; the model magnifies rounding in {row}");
        text +=
            &if share.is_finite() { format!(" to {}", number(share)) } else { ", where answers are tied".to_owned() };
    }
    if let (Some(limit), Some(rows)) = (limit, sizes.last()) {
        text += &format!("; {limit} after {rows} rows");
    }
    text
}

fn number(share: f64) -> String {
    format!("{share:.1e}")
}

/// `2, 3 and 8`.
fn list(sizes: &[u32]) -> String {
    let words: Vec<String> = sizes.iter().map(u32::to_string).collect();
    match &words[..] {
        [others @ .., last] if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        words => words.concat(),
    }
}
