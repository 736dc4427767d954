//! In which batches rows are compared.

use crate::values::Kind;

/// Who stands where in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrangement {
    /// All rows in turn, beginning with this one.
    Mixed(usize),
    /// The first row at this share of the way through the batch, in tenths, among rows of a kind.
    Amid(Kind, usize),
    /// The first row, again and again.
    Copies,
}

impl Arrangement {
    /// The row at each place of a batch. `named` finds the first row of a kind; where there is none, others stand in.
    pub(super) fn order(self, size: usize, rows: usize, named: &dyn Fn(Kind) -> Option<usize>) -> Vec<usize> {
        match self {
            Self::Mixed(first) => (0..size).map(|place| (first + place) % rows).collect(),
            Self::Amid(kind, tenths) => {
                let mut order = vec![named(kind).unwrap_or(rows - 1); size];
                order[(size - 1) * tenths / 10] = 0;
                order
            }
            Self::Copies => vec![0; size],
        }
    }
}

/// One batch of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing larger is proved without it.
    Required { rows: u32, arrangement: Arrangement },
    /// As large as there is time for.
    Largest,
    /// Done if there is time left.
    Further { rows: u32, arrangement: Arrangement },
}

impl Step {
    pub(super) fn arrangement(self) -> Arrangement {
        match self {
            Self::Required { arrangement, .. } | Self::Further { arrangement, .. } => arrangement,
            Self::Largest => Arrangement::Mixed(0),
        }
    }
}

/// All steps for batches of at most so many rows. Few rows first: what they refute need not be tried with many, and
/// what they prove holds when time is up. A mixed batch of all rows has zeros, large values and copies next to each
/// other; where they hide each other's influence, the batches of one kind show it.
pub(super) fn steps(rows_max: u32) -> Vec<Step> {
    use Arrangement::{Amid, Copies, Mixed};
    const SMALL: [(u32, Arrangement); 7] = [
        (2, Amid(Kind::Zeros, 0)),
        (2, Amid(Kind::Large, 10)),
        (2, Copies),
        (2, Mixed(0)),
        (3, Amid(Kind::Large, 5)),
        (3, Mixed(2)),
        (8, Mixed(0)),
    ];
    const FURTHER: [Arrangement; 4] = [Copies, Amid(Kind::Zeros, 5), Amid(Kind::Large, 10), Mixed(3)];
    let small = SMALL.into_iter().filter(|(rows, _)| *rows <= rows_max);
    let small = small.map(|(rows, arrangement)| Step::Required { rows, arrangement });
    let largest = (rows_max > 3 && rows_max != 8).then_some(Step::Largest);
    let mut sizes = [8.min(rows_max), rows_max].to_vec();
    sizes.dedup();
    let further = sizes
        .into_iter()
        .filter(|rows| *rows > 1)
        .flat_map(|rows| FURTHER.into_iter().map(move |arrangement| Step::Further { rows, arrangement }));
    small.chain(largest).chain(further).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_up_to_the_largest_is_tried() {
        for (rows_max, expected) in
            [(1, vec![]), (2, vec![2]), (3, vec![2, 3]), (8, vec![2, 3, 8]), (64, vec![2, 3, 8])]
        {
            let steps = steps(rows_max);
            let mut required: Vec<u32> = steps
                .iter()
                .filter_map(|step| if let Step::Required { rows, .. } = step { Some(*rows) } else { None })
                .collect();
            required.dedup();
            assert_eq!(required, expected);
            assert_eq!(steps.contains(&Step::Largest), rows_max == 64);
        }
        assert!(steps(5).contains(&Step::Largest));
    }

    #[test]
    fn a_row_stands_first_in_the_middle_and_last() {
        let named = |kind| (kind == Kind::Zeros).then_some(2);
        assert_eq!(Arrangement::Amid(Kind::Zeros, 0).order(3, 5, &named), [0, 2, 2]);
        assert_eq!(Arrangement::Amid(Kind::Zeros, 5).order(3, 5, &named), [2, 0, 2]);
        assert_eq!(Arrangement::Amid(Kind::Large, 10).order(3, 5, &named), [4, 4, 0]);
        assert_eq!(Arrangement::Mixed(3).order(4, 5, &named), [3, 4, 0, 1]);
        assert_eq!(Arrangement::Copies.order(2, 5, &named), [0, 0]);
    }
}
