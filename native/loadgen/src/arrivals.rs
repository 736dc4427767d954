//! When requests are due.

use std::f64::consts::TAU;

use crate::dice::Dice;
use crate::plan::Arrivals;
use crate::{Error, trace};

const NS_PER_S: f64 = 1e9;
/// Rates of the two states, in this ratio: 0.4 and 2.2 times the mean where the low one holds twice as long.
const MMPP_LOW: f64 = 0.4;
const MMPP_HIGH: f64 = 2.2;
const ON: f64 = 10.0;
const OFF: f64 = 1.0;
/// Swing of the sine around its mean: the peak is three times the trough.
const SWING: f64 = 0.5;

/// An endless sequence of due times in nanoseconds, never falling.
#[derive(Debug)]
pub(crate) struct Schedule {
    dice: Dice,
    rate: f64,
    /// Seconds of the latest one.
    at_s: f64,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    Steady,
    Constant { count: u64 },
    Turns(Turns),
    Sine { period_s: f64 },
    Trace { offsets_s: Vec<f64>, period_s: f64, stretch: f64, count: usize },
}

/// Two rates in turn.
#[derive(Debug)]
struct Turns {
    /// Requests per second of each state.
    rates: [f64; 2],
    /// Mean or fixed time in each state.
    dwell_s: [f64; 2],
    random: bool,
    state: usize,
    ends_s: f64,
}

impl Turns {
    /// Two rates in the ratio of `weights` whose mean over time is `rate`.
    fn new(rate: f64, weights: [f64; 2], dwell_s: [f64; 2], dice: Option<&mut Dice>) -> Self {
        let mean = (weights[0] * dwell_s[0] + weights[1] * dwell_s[1]) / (dwell_s[0] + dwell_s[1]);
        let random = dice.is_some();
        let ends_s = dwell_s[0] * dice.map_or(1.0, Dice::exponential);
        Self { rates: weights.map(|weight| rate * weight / mean), dwell_s, random, state: 0, ends_s }
    }

    /// The time of the next request after `at_s`: its exponential is used up at the rate of each state in turn.
    fn next(&mut self, mut at_s: f64, dice: &mut Dice) -> f64 {
        let mut work = dice.exponential();
        loop {
            let rate = self.rates[self.state];
            if work <= (self.ends_s - at_s) * rate {
                return at_s + work / rate;
            }
            work -= (self.ends_s - at_s) * rate;
            at_s = self.ends_s;
            self.state = 1 - self.state;
            self.ends_s += self.dwell_s[self.state] * if self.random { dice.exponential() } else { 1.0 };
        }
    }
}

impl Schedule {
    /// `rate` is what the whole has in the mean; a trace has one of its own.
    pub(crate) fn new(arrivals: &Arrivals, rate: Option<f64>, seed: u64) -> Result<Self, Error> {
        let mut dice = Dice::new(seed, 0);
        let mean = rate.unwrap_or(1.0);
        let shape = match arrivals {
            Arrivals::Poisson => Shape::Steady,
            Arrivals::Constant => Shape::Constant { count: 0 },
            Arrivals::Mmpp { low_s, high_s } => {
                Shape::Turns(Turns::new(mean, [MMPP_LOW, MMPP_HIGH], [*low_s, *high_s], Some(&mut dice)))
            }
            Arrivals::Onoff { on_s, off_s } => Shape::Turns(Turns::new(mean, [ON, OFF], [*on_s, *off_s], None)),
            Arrivals::Diurnal { period_s } => Shape::Sine { period_s: *period_s },
            Arrivals::Trace { path } => recorded(&trace::read(path)?, rate)?,
        };
        Ok(Self { dice, rate: mean, at_s: 0.0, shape })
    }

    /// When the next request is due.
    pub(crate) fn next_ns(&mut self) -> u64 {
        let dice = &mut self.dice;
        self.at_s = match &mut self.shape {
            Shape::Steady => self.at_s + dice.exponential() / self.rate,
            Shape::Constant { count } => {
                *count += 1;
                (*count - 1) as f64 / self.rate
            }
            Shape::Turns(turns) => turns.next(self.at_s, dice),
            Shape::Sine { period_s } => {
                let mut at_s = self.at_s;
                loop {
                    at_s += dice.exponential() / (self.rate * (1.0 + SWING));
                    let now = 1.0 - SWING * (TAU * at_s / *period_s).cos();
                    if dice.share() * (1.0 + SWING) < now {
                        break at_s;
                    }
                }
            }
            Shape::Trace { offsets_s, period_s, stretch, count } => {
                let (round, at) = (*count / offsets_s.len(), *count % offsets_s.len());
                *count += 1;
                (offsets_s[at] + round as f64 * *period_s) * *stretch
            }
        };
        (self.at_s * NS_PER_S) as u64
    }
}

/// A trace that begins again one mean gap after its last time.
fn recorded(offsets_s: &[f64], rate: Option<f64>) -> Result<Shape, Error> {
    let (first_s, last_s) = (offsets_s[0], offsets_s[offsets_s.len() - 1]);
    let gaps = offsets_s.len() as f64 - 1.0;
    if last_s <= first_s {
        return Err(Error::Plan("all times of the trace are the same; two that differ are needed for a rate".into()));
    }
    let offsets_s: Vec<f64> = offsets_s.iter().map(|offset_s| offset_s - first_s).collect();
    let period_s = (last_s - first_s) * (gaps + 1.0) / gaps;
    let own_rate = (gaps + 1.0) / period_s;
    Ok(Shape::Trace { offsets_s, period_s, stretch: rate.map_or(1.0, |rate| own_rate / rate), count: 0 })
}

#[cfg(test)]
mod tests;
