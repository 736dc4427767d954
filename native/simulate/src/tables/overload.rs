//! One model at loads up to twice what it can serve.

use super::{Order, Table, everyone, goodput_and_p99, heading, ours, percent, side_by_side};
use crate::contest::{Contender, each};
use crate::scenario::{Kind, Scenario, Size};
use crate::{Figures, Model, Rule};

/// Goodput and p99 of every policy, Poisson and bursts.
pub(super) fn loads(order: &Order) -> Vec<Table> {
    const COLUMNS: [(Kind, f64); 8] = [
        (Kind::Poisson, 0.3),
        (Kind::Poisson, 0.6),
        (Kind::Poisson, 0.9),
        (Kind::Poisson, 1.1),
        (Kind::Poisson, 1.5),
        (Kind::Poisson, 2.0),
        (Kind::Bursts, 0.4),
        (Kind::Bursts, 0.8),
    ];
    let table_of = |model: &Model| {
        let title = format!("{}. Goodput % / p99 ÷ S; P Poisson, M bursts, × capacity", heading(model, order.lanes));
        let mut table = Table::new(title, COLUMNS.map(column).into());
        let scenarios = COLUMNS.map(|column| Scenario::single(model, order.lanes, column, order.size(), order.seed));
        side_by_side(&mut table, &everyone(), &scenarios, goodput_and_p99);
        table.row("fluid bound", scenarios.iter().map(|scenario| percent(scenario.bound())));
        table
    };
    order.models.iter().map(table_of).collect()
}

/// How many are refused, and how soon.
pub(super) fn modes(order: &Order) -> Vec<Table> {
    const COLUMNS: [(Kind, f64); 5] =
        [(Kind::Poisson, 0.9), (Kind::Poisson, 1.1), (Kind::Poisson, 1.5), (Kind::Poisson, 2.0), (Kind::Bursts, 0.8)];
    let table_of = |model: &Model| {
        let title = format!("Model {}: goodput % / refused % / median time to a refusal ÷ S", model.name);
        let mut table = Table::new(title, COLUMNS.map(column).into());
        let scenarios = COLUMNS.map(|column| Scenario::single(model, order.lanes, column, order.size(), order.seed));
        let contenders = [&[Contender::Simple(Rule::Timeout)], &ours()[..]].concat();
        side_by_side(&mut table, &contenders, &scenarios, |scenario, trial| {
            let Figures { goodput, refused, refusal_p50, .. } = trial.figures(scenario);
            format!("{} / {} / {refusal_p50:.2}", percent(goodput), percent(refused))
        });
        table
    };
    order.models.iter().map(table_of).collect()
}

/// The highest load at which 99 % are answered in time.
pub(super) fn knee(order: &Order) -> Vec<Table> {
    let columns = ["rows/s", "× capacity", "rows a batch"].map(String::from).into();
    let mut table = Table::new("Highest Poisson load with goodput of at least 99 %", columns);
    for model in &order.models {
        let contenders = [&[Contender::Simple(Rule::Timeout)], &ours()[..]].concat();
        let knees = each(&contenders, |contender| knee_of(*contender, model, order));
        for (contender, (load, rows)) in contenders.iter().zip(knees) {
            let scenario = Scenario::of_arrivals(model, order.lanes, &[0.0], order.seed);
            let capacity = crate::Fluid::of(model, order.lanes).capacity();
            let cells = [format!("{:.0}", load * capacity), format!("{load:.3}"), format!("{rows:.1}")];
            table.row(format!("{}, {}", model.name, contender.policy(&scenario).name()), cells);
        }
    }
    vec![table]
}

/// The load, as a multiple of the capacity, to a five-hundredth, and the rows of its mean batch.
fn knee_of(contender: Contender, model: &Model, order: &Order) -> (f64, f64) {
    const GOODPUT_MIN: f64 = 0.99;
    const STEPS: u32 = 10;
    let (mut low, mut high, mut rows_mean) = (0.0, 2.0, 0.0);
    // Bursts have no part in this, so that a few targets are enough.
    let size = Size { targets_min: 30.0, ..order.size() };
    for _ in 0..STEPS {
        let load = (low + high) / 2.0;
        let scenario = Scenario::single(model, order.lanes, (Kind::Poisson, load), size, order.seed);
        let trial = contender.trial(&scenario);
        if trial.figures(&scenario).goodput >= GOODPUT_MIN {
            (low, rows_mean) = (load, trial.rows_mean());
        } else {
            high = load;
        }
    }
    (low, rows_mean)
}

/// `P 0.9`, `M 0.4`.
pub(super) fn column((kind, load): (Kind, f64)) -> String {
    let letter = match kind {
        Kind::Poisson => "P",
        Kind::Bursts => "M",
        Kind::OnOff => "on-off",
        Kind::Stall => "stall",
        Kind::Drift => "drift",
    };
    format!("{letter} {load}")
}
