//! Policies side by side.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::Trial;
use crate::comparator::{Comparator, Pick, Rule};
use crate::scenario::Scenario;
use crate::slackline::{Setting, Slackline};
use crate::world::{Policy, simulate};

/// A policy that can be set up for any scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Contender {
    /// A simple one, the oldest first.
    Simple(Rule),
    /// A simple one with another order of the models.
    Picking(Rule, Pick),
    /// A simple one on queues for ranges of lengths.
    ByLength(Rule),
    /// The real one.
    Slackline(Setting),
}

impl Contender {
    /// The policy at the start of this scenario.
    #[must_use]
    pub fn policy(self, scenario: &Scenario) -> Box<dyn Policy> {
        /// A quarter apart, to the longest text.
        const EDGES: [u32; 12] = [32, 40, 50, 62, 78, 98, 122, 153, 191, 239, 350, 512];
        match self {
            Self::Simple(rule) => Box::new(Comparator::new(rule, scenario)),
            Self::Picking(rule, pick) => Box::new(Comparator::new(rule, scenario).picking(pick)),
            Self::ByLength(rule) => Box::new(Comparator::by_length(rule, scenario, &EDGES)),
            Self::Slackline(setting) => Box::new(Slackline::new(setting, scenario)),
        }
    }

    /// Runs this scenario through it.
    #[must_use]
    pub fn trial(self, scenario: &Scenario) -> Trial {
        simulate(scenario, &mut *self.policy(scenario))
    }
}

/// Does this to every item, on as many threads as there are cores, and gives the results in the items' order.
pub fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(items.len());
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(index) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&index| index < items.len())
                {
                    let result = work(&items[index]);
                    found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, result));
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_their_items() {
        let items: Vec<usize> = (0..100).collect();
        assert_eq!(each(&items, |item| item * 2), items.iter().map(|item| item * 2).collect::<Vec<_>>());
        assert!(each(&[], |(): &()| ()).is_empty());
    }
}
