//! When the service is not the line that planners suppose.

use super::overload::column;
use super::{Order, Table, goodput, late, late_believing, percent, side_by_side};
use crate::contest::{Contender, each};
use crate::scenario::{Kind, Scenario, Trouble, in_ns};
use crate::{Model, Prior, Rule, Setting, Shape};
use servekit_core::Mode;

/// Stepped, bent and drifting services of model C.
pub(super) fn shapes(order: &Order) -> Vec<Table> {
    const LOADS: [(Kind, f64); 4] =
        [(Kind::Poisson, 0.6), (Kind::Poisson, 0.9), (Kind::Poisson, 1.2), (Kind::Bursts, 0.6)];
    let contenders = [
        Contender::Simple(Rule::Timeout),
        Contender::Simple(Rule::Scan),
        Contender::Simple(Rule::Window),
        late(),
        Contender::Slackline(Setting::of(Mode::Auto)),
    ];
    let model = Model::accelerator();
    let single = |model: &Model, column| Scenario::single(model, 1, column, order.size(), order.seed);
    let slow = |column| {
        let mut scenario = single(&model, column);
        let third_ns = scenario.stretches.last().map_or(0, |stretch| in_ns(stretch.until_s / 3.0));
        scenario.trouble = Trouble::Slow { from_ns: third_ns, until_ns: 2 * third_ns, factor: 2.0 };
        scenario
    };
    let kinds = [
        ("cost of ceil(n/8)·8", LOADS.map(|load| single(&model.clone().shaped(Shape::Stairs), load))),
        ("slope doubles past 32 rows", LOADS.map(|load| single(&model.clone().shaped(Shape::Bend), load))),
        ("twice as slow in the middle third", LOADS.map(slow)),
    ];
    let table_of = |(name, scenarios): &(&str, [Scenario; 4])| {
        let mut table = Table::new(format!("Model C, {name}: goodput %"), LOADS.map(column).into());
        side_by_side(&mut table, &contenders, scenarios, goodput);
        table
    };
    kinds.iter().map(table_of).collect()
}

/// Goodput after a stall, window by window.
pub(super) fn stall(order: &Order) -> Vec<Table> {
    const WINDOW_TARGETS: u32 = 5;
    const WINDOWS: u32 = 5;
    let contenders = [
        Contender::Simple(Rule::Greedy),
        Contender::Simple(Rule::Timeout),
        Contender::Simple(Rule::Deadline),
        Contender::Simple(Rule::Window),
        late_believing(Prior::Scaled(3.0)),
        late(),
        Contender::Slackline(Setting::of(Mode::Auto)),
    ];
    let model = Model::accelerator();
    let columns = (0..WINDOWS).map(|window| {
        let from = window * WINDOW_TARGETS;
        format!("{from}–{}·S", from + WINDOW_TARGETS)
    });
    let columns: Vec<String> = columns.chain([String::from("recovered after")]).collect();
    let table_of = |&load: &f64| {
        let scenario = Scenario::single(&model, 1, (Kind::Stall, load), order.size(), order.seed);
        let mut table = Table::new(format!("Model C at {load}: goodput % after a stall of 20·S"), columns.clone());
        let rows = each(&contenders, |contender| {
            let trial = contender.trial(&scenario);
            let Trouble::Stall { until_ns, .. } = scenario.trouble else { return Vec::new() };
            let edge_ns = |window: u32| until_ns + in_ns(f64::from(window * WINDOW_TARGETS) * model.target_s);
            let windows = (0..WINDOWS)
                .map(|window| percent(trial.goodput_between(&scenario, edge_ns(window), edge_ns(window + 1))));
            let recovery = trial.recovery(&scenario, 0.9);
            let recovery = recovery.map_or_else(|| String::from("never here"), |targets| format!("{targets}·S"));
            windows.chain([recovery]).collect()
        });
        contenders.iter().zip(rows).for_each(|(contender, row)| table.row(contender.policy(&scenario).name(), row));
        table
    };
    [0.7, 0.9].iter().map(table_of).collect()
}
