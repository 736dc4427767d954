//! Lanes, classes, models and lengths that share a queue or an executor.

use super::{Order, Table, late, percent, side_by_side};
use crate::contest::Contender;
use crate::scenario::{Kind, Scenario};
use crate::{Figures, Fluid, Model, Pick, Rule, Service, Setting, Shape};
use servekit_core::Mode;

/// Four lanes on one queue.
pub(super) fn lanes(order: &Order) -> Vec<Table> {
    const LANES: u32 = 4;
    const LOADS: [f64; 5] = [0.2, 0.5, 0.8, 0.95, 1.3];
    let contenders = [
        Contender::Simple(Rule::Timeout),
        Contender::Simple(Rule::Delay(0.1)),
        Contender::Simple(Rule::Window),
        late(),
        Contender::Slackline(Setting::of(Mode::Auto)),
    ];
    let table_of = |model: &Model| {
        let title = format!("Model {} on {LANES} lanes: goodput % / p50 ÷ S / p99 ÷ S / lanes busy", model.name);
        let mut table = Table::new(title, LOADS.map(|load| format!("P {load}")).into());
        let scenarios =
            LOADS.map(|load| Scenario::single(model, LANES, (Kind::Poisson, load), order.size(), order.seed));
        side_by_side(&mut table, &contenders, &scenarios, |scenario, trial| {
            let Figures { goodput, p50, p99, .. } = trial.figures(scenario);
            format!("{} / {p50:.2} / {p99:.2} / {:.2}", percent(goodput), trial.busy(scenario))
        });
        table
    };
    [Model::accelerator(), Model::cpu_small()].iter().map(table_of).collect()
}

/// Three in ten go before the others.
pub(super) fn priorities(order: &Order) -> Vec<Table> {
    const URGENT_SHARE: f64 = 0.3;
    const LOADS: [f64; 3] = [0.9, 1.3, 2.0];
    let contenders = [
        Contender::Simple(Rule::Greedy),
        Contender::Simple(Rule::Window),
        late(),
        Contender::Slackline(Setting::of(Mode::Auto)),
    ];
    let columns = LOADS.map(|load| format!("P {load}")).into();
    let mut table = Table::new("Model A, 30 % urgent: goodput % of the urgent / of the others", columns);
    let scenarios = LOADS.map(|load| {
        let column = (Kind::Poisson, load);
        Scenario::single(&Model::cpu_small(), 1, column, order.size(), order.seed).with_urgent(URGENT_SHARE)
    });
    side_by_side(&mut table, &contenders, &scenarios, |scenario, trial| {
        let goodput = |class| trial.figures_of(scenario, |request| request.priority == class).goodput;
        format!("{} / {}", percent(goodput(0)), percent(goodput(1)))
    });
    vec![table]
}

/// Two models on one lane.
pub(super) fn models(order: &Order) -> Vec<Table> {
    const LOADS: [(f64, f64); 4] = [(0.5, 0.25), (1.5, 0.25), (3.0, 0.4), (1.5, 1.5)];
    let [first, second] =
        [(80e-6, 13e-6, 2e-3, "X"), (300e-6, 40e-6, 10e-3, "Y")].map(|(base_s, row_s, target_s, name)| Model {
            name: String::from(name),
            service: Service::line(base_s, row_s),
            target_s,
            rows_max: 64,
        });
    let contenders = [
        Contender::Picking(Rule::Timeout, Pick::Oldest),
        Contender::Picking(Rule::Timeout, Pick::Deadline),
        Contender::Picking(Rule::Timeout, Pick::Turns),
        late(),
        Contender::Slackline(Setting::of(Mode::Auto)),
    ];
    let columns = LOADS.map(|(one, other)| format!("X {one}, Y {other}")).into();
    let title = "Two models on one lane, at these multiples of what each alone could have: goodput % of X / of Y";
    let mut table = Table::new(title, columns);
    let capacity = |model: &Model| Fluid::of(model, 1).capacity();
    let scenarios = LOADS.map(|(one, other)| {
        let rates = [one * capacity(&first), other * capacity(&second)];
        let length_s = f64::from(order.requests_min) / rates[0].min(rates[1]);
        Scenario::shared(&[(first.clone(), rates[0]), (second.clone(), rates[1])], 1, length_s, order.seed)
    });
    side_by_side(&mut table, &contenders, &scenarios, |scenario, trial| {
        let goodput = |model| trial.figures_of(scenario, |request| request.model == model).goodput;
        format!("{} / {}", percent(goodput(0)), percent(goodput(1)))
    });
    vec![table]
}

/// Rows of many lengths, which cost as much as the longest beside them.
pub(super) fn lengths(order: &Order) -> Vec<Table> {
    let model = |name: &str, base_s, row_s, target_s| Model {
        name: String::from(name),
        service: Service::line(base_s, row_s).shaped(Shape::Padded),
        target_s,
        rows_max: 64,
    };
    let cases = [
        (model("CPU 80 µs + 0.2 µs a step, S 10 ms", 80e-6, 0.2e-6, 10e-3), [18e3, 54e3, 90e3]),
        (model("GPU 2 ms + 1.5 µs a step, S 40 ms", 2e-3, 1.5e-6, 40e-3), [2.7e3, 5.4e3, 8.1e3]),
    ];
    let contenders = [
        Contender::Simple(Rule::Greedy),
        Contender::ByLength(Rule::Greedy),
        Contender::ByLength(Rule::Window),
        late(),
        Contender::Slackline(Setting::of(Mode::Auto)),
    ];
    let table_of = |(model, rates): &(Model, [f64; 3])| {
        let title = format!("{}; lengths lognormal, median 48, at most 512: goodput % / p99 ÷ S / padding", model.name);
        let mut table = Table::new(title, rates.map(|rate| format!("{rate}/s")).into());
        let scenarios = rates.map(|rate| {
            let length_s = f64::from(order.requests_min) / rate;
            Scenario::shared(&[(model.clone(), rate)], 1, length_s, order.seed).with_lengths()
        });
        side_by_side(&mut table, &contenders, &scenarios, |scenario, trial| {
            let Figures { goodput, p99, .. } = trial.figures(scenario);
            format!("{} / {p99:.2} / {:.2}", percent(goodput), trial.padding())
        });
        table
    };
    cases.iter().map(table_of).collect()
}
