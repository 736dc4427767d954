//! What parts of the rules are worth, as far as they can be switched off from outside. The window rule, the hold rule,
//! the change point and the clamping of outliers cannot: they have no switch, so that nobody can set it wrong.

use super::overload::column;
use super::{Order, Table, goodput_and_p99, late, late_believing, side_by_side};
use crate::contest::Contender;
use crate::scenario::{Kind, Scenario};
use crate::{Model, Prior, Setting};
use servekit_core::Mode;

/// Model C without targets, learning, a good prior, or told of arrivals late.
pub(super) fn choices(order: &Order) -> Vec<Table> {
    const COLUMNS: [(Kind, f64); 5] =
        [(Kind::Poisson, 0.3), (Kind::Poisson, 0.9), (Kind::Poisson, 1.5), (Kind::Bursts, 0.8), (Kind::Drift, 0.9)];
    const TICKS_NS: [u64; 2] = [100_000, 1_000_000];
    let setting = Setting::of(Mode::Late);
    let contenders = [
        late(),
        Contender::Slackline(Setting::of(Mode::FailFast)),
        Contender::Slackline(Setting { is_blind: true, ..setting }),
        Contender::Slackline(Setting { is_frozen: true, ..setting.with_prior(Prior::Scaled(1.0)) }),
        late_believing(Prior::Scaled(1.0)),
        late_believing(Prior::Scaled(3.0)),
        late_believing(Prior::Scaled(1.0 / 3.0)),
    ];
    let mut table = Table::new("Model C: goodput % / p99 ÷ S", COLUMNS.map(column).into());
    let scenarios = COLUMNS.map(|column| Scenario::single(&Model::accelerator(), 1, column, order.size(), order.seed));
    side_by_side(&mut table, &contenders, &scenarios, goodput_and_p99);
    for tick_ns in TICKS_NS {
        let ticking = scenarios.clone().map(|scenario| scenario.with_tick(tick_ns));
        let mut rows = Table::default();
        side_by_side(&mut rows, &[late()], &ticking, goodput_and_p99);
        for mut row in rows.rows {
            row[0] = format!("{}, ticks of {} µs", row[0], tick_ns / 1_000);
            table.rows.push(row);
        }
    }
    vec![table]
}
