//! Simple policies that the Batcher is compared with. Those that plan are told the true line of the service.

use std::collections::VecDeque;

use crate::Fluid;
use crate::scenario::{Scenario, in_ns};
use crate::world::{Policy, Step, World};

/// When rows leave a queue, and who is dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// All there is, at once, the dead as well: Triton without a delay.
    Greedy,
    /// All there is once a batch is full or the oldest has waited this share of the target: Triton with a delay.
    Delay(f64),
    /// Greedy, and who has waited too long to survive the largest batch is dropped; both tuned by hand for the model.
    Timeout,
    /// Greedy, and the expired are dropped: Triton with a time-out of one target.
    Expiry,
    /// The earliest deadlines first, as many as the first of them survives; those who survive not even alone are dropped.
    Deadline,
    /// Nexus' early drop: heads are dropped until the rest of the largest batch survives its run.
    Window,
    /// Scans batch sizes for the most rows a second that survive; the hopeless are dropped.
    Scan,
    /// Clipper's: the batch's bound grows by one with every run within the target, shrinks by a tenth with every other.
    Additive,
}

impl Rule {
    /// For tables.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Greedy => String::from("greedy (Triton, no delay)"),
            Self::Delay(share) => format!("fixed delay S/{:.0}", 1.0 / share),
            Self::Timeout => String::from("greedy + tuned time-out"),
            Self::Expiry => String::from("greedy + time-out S"),
            Self::Deadline => String::from("naive EDF"),
            Self::Window => String::from("Nexus early drop"),
            Self::Scan => String::from("Cork-like scan"),
            Self::Additive => String::from("AIMD (Clipper)"),
        }
    }
}

/// Which of several queues goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// That of the oldest request.
    Oldest,
    /// That of the earliest deadline.
    Deadline,
    /// Each in turn.
    Turns,
}

impl Pick {
    fn name(self) -> &'static str {
        match self {
            Self::Oldest => "oldest first",
            Self::Deadline => "EDF across models",
            Self::Turns => "round robin",
        }
    }
}

/// One of the simple policies, on one queue a model or on one for each range of lengths.
#[derive(Debug)]
pub struct Comparator {
    rule: Rule,
    pick: Pick,
    queues: Vec<Queue>,
    /// Longest length of each queue but the last; empty: one queue a model.
    edges: Vec<u32>,
    /// Whose turn it is.
    turn: usize,
    /// Queue and start of each lane's run.
    running: Vec<(usize, u64)>,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<usize>,
    line: Fluid,
    /// Rows of a batch: the model's, what a hand or what experience made of it.
    rows_max: f64,
}

/// What a queue has to offer.
enum Form {
    /// These places, this many from here on.
    Batch {
        start: usize,
        rows: usize,
    },
    Wait(u64),
    Nothing,
}

impl Comparator {
    /// The rule on one queue a model, the oldest first.
    #[must_use]
    pub fn new(rule: Rule, scenario: &Scenario) -> Self {
        let queues = scenario.models.iter().map(|model| Queue::new(rule, Fluid::of(model, scenario.lanes))).collect();
        let running = vec![(0, 0); scenario.lanes as usize];
        Self { rule, pick: Pick::Oldest, queues, edges: Vec::new(), turn: 0, running }
    }

    /// The same with another order of the queues.
    #[must_use]
    pub fn picking(self, pick: Pick) -> Self {
        Self { pick, ..self }
    }

    /// One queue for each range of lengths of the first model, up to these edges, each told the line of rows as long as
    /// its edge.
    #[must_use]
    pub fn by_length(rule: Rule, scenario: &Scenario, edges: &[u32]) -> Self {
        let line = Fluid::of(&scenario.models[0], scenario.lanes);
        let of_edge = |&edge: &u32| Queue::new(rule, Fluid { row_s: line.row_s * f64::from(edge), ..line });
        let queues = edges.iter().map(of_edge).collect();
        Self { queues, edges: edges.to_vec(), ..Self::new(rule, scenario) }
    }

    fn queue_of(&self, request: &crate::Request) -> usize {
        if self.edges.is_empty() {
            return usize::from(request.model);
        }
        self.edges.partition_point(|&edge| edge < request.length).min(self.edges.len() - 1)
    }

    /// Places of queues that hold anything, in the order in which they are asked.
    fn order(&self, world: &World<'_>) -> Vec<usize> {
        let head = |place: &usize| self.queues[*place].waiting.front().map(|&index| world.scenario.requests[index]);
        let mut order: Vec<usize> = (0..self.queues.len()).filter(|place| head(place).is_some()).collect();
        match self.pick {
            Pick::Oldest => order.sort_by_key(|place| head(place).map(|request| request.at_ns)),
            Pick::Deadline => order.sort_by_key(|place| head(place).map(|request| request.deadline_ns)),
            Pick::Turns => order.sort_by_key(|&place| (place + self.queues.len() - self.turn) % self.queues.len()),
        }
        order
    }
}

impl Policy for Comparator {
    fn name(&self) -> String {
        match (self.queues.len(), self.edges.is_empty()) {
            (1, _) => self.rule.name(),
            (_, true) => format!("{}, {}", self.rule.name(), self.pick.name()),
            (_, false) => format!("{}, by length", self.rule.name()),
        }
    }

    fn arrive(&mut self, index: usize, _now_ns: u64, world: &mut World<'_>) {
        let place = self.queue_of(&world.scenario.requests[index]);
        self.queues[place].waiting.push_back(index);
    }

    fn dispatch(&mut self, lane: usize, now_ns: u64, world: &mut World<'_>) -> Step {
        let mut wait_ns = None;
        let order = if self.queues.len() == 1 { vec![0] } else { self.order(world) };
        for place in order {
            match self.queues[place].form(self.rule, now_ns, world) {
                Form::Nothing => {}
                Form::Wait(until_ns) => wait_ns = Some(wait_ns.map_or(until_ns, |least: u64| least.min(until_ns))),
                Form::Batch { start, rows } => {
                    let waiting = &mut self.queues[place].waiting;
                    let requests = &world.scenario.requests;
                    let model = requests[waiting[start]].model;
                    let lengths = waiting.range(start..start + rows).map(|&index| requests[index].length);
                    let until_ns = world.run(model, lengths, now_ns);
                    waiting.drain(start..start + rows).for_each(|index| world.answer(index, until_ns));
                    self.turn = (place + 1) % self.queues.len();
                    self.running[lane] = (place, now_ns);
                    return Step::Runs { until_ns };
                }
            }
        }
        wait_ns.map_or(Step::Idle, |until_ns| Step::Waits { until_ns })
    }

    fn complete(&mut self, lane: usize, now_ns: u64, _world: &mut World<'_>) {
        let (place, started_ns) = self.running[lane];
        let queue = &mut self.queues[place];
        if self.rule == Rule::Additive {
            let is_within = now_ns - started_ns <= in_ns(queue.line.target_s);
            let rows = if is_within { queue.rows_max + 1.0 } else { queue.rows_max * 0.9 };
            queue.rows_max = rows.clamp(1.0, f64::from(queue.line.rows_max));
        }
    }
}

impl Queue {
    fn new(rule: Rule, line: Fluid) -> Self {
        let rows_max = match rule {
            Rule::Greedy | Rule::Delay(_) | Rule::Expiry | Rule::Deadline | Rule::Scan => f64::from(line.rows_max),
            Rule::Timeout | Rule::Window => f64::from(line.rows_best()),
            Rule::Additive => 1.0,
        };
        Self { waiting: VecDeque::new(), line, rows_max }
    }

    fn form(&mut self, rule: Rule, now_ns: u64, world: &mut World<'_>) -> Form {
        let rows_max = self.rows_max as usize;
        let requests = &world.scenario.requests;
        let slack_ns = |index: usize| requests[index].deadline_ns.saturating_sub(now_ns);
        match rule {
            Rule::Greedy | Rule::Additive => {}
            Rule::Delay(share) => {
                let Some(&head) = self.waiting.front() else { return Form::Nothing };
                let due_ns = requests[head].at_ns + in_ns(share * self.line.target_s);
                if self.waiting.len() < rows_max && due_ns > now_ns {
                    return Form::Wait(due_ns);
                }
            }
            Rule::Expiry => self.drop_while(now_ns, world, |slack_ns| slack_ns == 0),
            Rule::Deadline => {
                let least_ns = in_ns(self.line.run_s(1));
                self.drop_while(now_ns, world, |slack_ns| slack_ns < least_ns);
                let Some(&head) = self.waiting.front() else { return Form::Nothing };
                let surviving = self.line.rows_within(slack_ns(head) as f64 / 1e9).max(1) as usize;
                return Form::Batch { start: 0, rows: self.waiting.len().min(surviving) };
            }
            Rule::Timeout => {
                let least_ns = in_ns(self.line.run_s(self.line.rows_best()));
                self.drop_while(now_ns, world, |slack_ns| slack_ns < least_ns);
            }
            Rule::Window => {
                while let Some(&head) = self.waiting.front() {
                    let rows = self.waiting.len().min(rows_max) as u32;
                    if slack_ns(head) >= in_ns(self.line.run_s(rows)) {
                        break;
                    }
                    self.waiting.pop_front();
                    world.refuse(head, now_ns);
                }
            }
            Rule::Scan => {
                let least_ns = in_ns(self.line.run_s(1));
                self.drop_while(now_ns, world, |slack_ns| slack_ns < least_ns);
                return self.scan(now_ns, world);
            }
        }
        match self.waiting.len().min(rows_max) {
            0 => Form::Nothing,
            rows => Form::Batch { start: 0, rows },
        }
    }

    /// Drops heads whose time until their deadline is hopeless.
    fn drop_while(&mut self, now_ns: u64, world: &mut World<'_>, is_hopeless: impl Fn(u64) -> bool) {
        while let Some(&head) = self.waiting.front() {
            if !is_hopeless(world.scenario.requests[head].deadline_ns.saturating_sub(now_ns)) {
                break;
            }
            self.waiting.pop_front();
            world.refuse(head, now_ns);
        }
    }

    /// The size with the most rows a second, of the oldest who survive a run of that size. More rows are always better,
    /// so the first size that works, from the largest down, is it. Who is passed over stays until hopeless.
    fn scan(&self, now_ns: u64, world: &World<'_>) -> Form {
        let most = self.waiting.len().min(self.rows_max as usize);
        for rows in (1..=most).rev() {
            let run_ns = in_ns(self.line.run_s(rows as u32));
            let is_dead = |&index: &usize| world.scenario.requests[index].deadline_ns < now_ns + run_ns;
            let start = self.waiting.partition_point(is_dead);
            if self.waiting.len() - start >= rows {
                return Form::Batch { start, rows };
            }
        }
        Form::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Kind, Size};
    use crate::{Model, simulate};

    const SIZE: Size = Size { requests_min: 6_000, targets_min: 60.0 };

    fn goodput(rule: Rule, load: f64) -> f64 {
        let scenario = Scenario::single(&Model::accelerator(), 1, (Kind::Poisson, load), SIZE, 7);
        let figures = simulate(&scenario, &mut Comparator::new(rule, &scenario)).figures(&scenario);
        assert_eq!(figures.forgotten, 0);
        figures.goodput
    }

    #[test]
    fn at_low_load_every_simple_policy_serves_all() {
        for rule in [Rule::Greedy, Rule::Timeout, Rule::Deadline, Rule::Window, Rule::Scan, Rule::Additive] {
            assert!(goodput(rule, 0.3) > 0.999, "{rule:?}");
        }
    }

    #[test]
    fn beyond_capacity_only_those_that_drop_in_time_serve_anybody() {
        for rule in [Rule::Greedy, Rule::Delay(0.1), Rule::Expiry, Rule::Deadline, Rule::Additive] {
            assert!(goodput(rule, 1.5) < 0.12, "{rule:?}");
        }
        for rule in [Rule::Timeout, Rule::Window, Rule::Scan] {
            assert!((0.6..0.7).contains(&goodput(rule, 1.5)), "{rule:?}");
        }
    }

    #[test]
    fn greed_settles_where_the_fluid_model_says() {
        let model = Model::accelerator().quiet();
        let scenario = Scenario::single(&model, 1, (Kind::Poisson, 0.6), SIZE, 7);
        let fluid = Fluid::of(&model, 1);
        let expected = fluid.rows_of_greed(0.6 * fluid.capacity()).expect("it settles");
        let found = simulate(&scenario, &mut Comparator::new(Rule::Greedy, &scenario)).rows_mean();
        assert!((found / expected - 1.0).abs() < 0.05, "{found} rows, {expected} expected");
    }
}
