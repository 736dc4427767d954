//! The tables of the guide, in Markdown.

mod ablations;
mod overload;
mod sharing;
mod troubles;

use std::fmt::{self, Display, Formatter};

use servekit_core::Mode;

use crate::contest::{Contender, each};
use crate::scenario::{Scenario, Size};
use crate::trial::{Figures, Trial};
use crate::{Fluid, Model, Prior, Rule, Setting};

/// What the tables are about.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Determines everything that chance decides.
    pub seed: u64,
    /// Requests of each cell, at least.
    pub requests_min: u32,
    /// Models of the table of loads.
    pub models: Vec<Model>,
    /// Lanes of those models.
    pub lanes: u32,
}

impl Order {
    fn size(&self) -> Size {
        // Long enough for bursts of 30 targets to even out somewhat.
        const TARGETS_MIN: f64 = 100.0;
        // The tiny model has thousands of requests in a target.
        Size { requests_min: self.requests_min, targets_min: TARGETS_MIN }
    }
}

/// One table, or several that belong together.
#[derive(Clone, Copy, Debug)]
pub struct Chapter {
    /// What `--only` calls it.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Makes it.
    pub write: fn(&Order) -> Vec<Table>,
}

/// All of them, in the order in which they are printed.
pub const CHAPTERS: [Chapter; 10] = [
    Chapter { name: "loads", about: "policies over loads, of each model", write: overload::loads },
    Chapter { name: "modes", about: "who is refused, and when they are told", write: overload::modes },
    Chapter { name: "knee", about: "the highest load at which 99 % are answered in time", write: overload::knee },
    Chapter { name: "shapes", about: "services that are no line, or change", write: troubles::shapes },
    Chapter { name: "lanes", about: "four lanes on one queue", write: sharing::lanes },
    Chapter { name: "stall", about: "after all lanes stood still for 20 targets", write: troubles::stall },
    Chapter { name: "priorities", about: "three in ten go before the others", write: sharing::priorities },
    Chapter { name: "models", about: "two models on one lane", write: sharing::models },
    Chapter { name: "lengths", about: "rows of many lengths", write: sharing::lengths },
    Chapter { name: "ablations", about: "what each rule is worth", write: ablations::ablations },
];

/// A heading and columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(title: impl Into<String>, columns: Vec<String>) -> Self {
        Self { title: title.into(), columns, rows: Vec::new() }
    }

    fn row(&mut self, name: impl Into<String>, cells: impl IntoIterator<Item = String>) {
        self.rows.push(std::iter::once(name.into()).chain(cells).collect());
    }
}

impl Display for Table {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "**{}**\n", self.title)?;
        writeln!(formatter, "| | {} |", self.columns.join(" | "))?;
        writeln!(formatter, "| --- |{}", " --- |".repeat(self.columns.len()))?;
        self.rows.iter().try_for_each(|row| writeln!(formatter, "| {} |", row.join(" | ")))
    }
}

/// One row for each contender, one column for each scenario, each cell made by `show`.
fn side_by_side(
    table: &mut Table,
    contenders: &[Contender],
    scenarios: &[Scenario],
    show: impl Fn(&Scenario, &Trial) -> String + Sync,
) {
    let pairs: Vec<_> =
        contenders.iter().flat_map(|contender| scenarios.iter().map(move |scenario| (*contender, scenario))).collect();
    let cells = each(&pairs, |(contender, scenario)| show(scenario, &contender.trial(scenario)));
    for (contender, cells) in contenders.iter().zip(cells.chunks(scenarios.len().max(1))) {
        let Some(first) = scenarios.first() else { return };
        table.row(contender.policy(first).name(), cells.iter().cloned());
    }
}

/// Every policy on arrivals that were recorded.
#[must_use]
pub fn of_arrivals(scenario: &Scenario) -> Table {
    let title =
        format!("{}; {} recorded arrivals", heading(&scenario.models[0], scenario.lanes), scenario.requests.len());
    let mut table = Table::new(title, vec![String::from("goodput % / p99 ÷ S")]);
    side_by_side(&mut table, &everyone(), std::slice::from_ref(scenario), goodput_and_p99);
    table
}

/// `97.5 / 0.91`: goodput in percent, p99 of the answered in targets.
fn goodput_and_p99(scenario: &Scenario, trial: &Trial) -> String {
    let Figures { goodput, p99, .. } = trial.figures(scenario);
    format!("{} / {p99:.2}", percent(goodput))
}

fn goodput(scenario: &Scenario, trial: &Trial) -> String {
    percent(trial.figures(scenario).goodput)
}

fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

/// A model's name and numbers, as a heading.
fn heading(model: &Model, lanes: u32) -> String {
    let fluid = Fluid::of(model, lanes);
    let service = &model.service;
    format!(
        "Model {}: {:.4} ms + {:.5} ms a row, target {} ms, batches up to {}, {lanes} lane{}; b* {}, capacity {:.0} rows/s",
        model.name,
        1e3 * service.base_s,
        1e3 * service.row_s,
        1e3 * model.target_s,
        model.rows_max,
        if lanes == 1 { "" } else { "s" },
        fluid.rows_best(),
        fluid.capacity(),
    )
}

/// The simple policies of the main table and both of ours.
fn everyone() -> Vec<Contender> {
    let simple = [
        Rule::Delay(0.1),
        Rule::Delay(1.0 / 3.0),
        Rule::Additive,
        Rule::Scan,
        Rule::Greedy,
        Rule::Expiry,
        Rule::Timeout,
        Rule::Deadline,
        Rule::Window,
    ];
    simple.map(Contender::Simple).into_iter().chain(ours()).collect()
}

fn ours() -> [Contender; 3] {
    [Mode::Auto, Mode::FailFast, Mode::Late].map(|mode| Contender::Slackline(Setting::of(mode)))
}

fn late() -> Contender {
    Contender::Slackline(Setting::of(Mode::Late))
}

fn late_believing(prior: Prior) -> Contender {
    Contender::Slackline(Setting::of(Mode::Late).with_prior(prior))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new("loads", vec![String::from("P 0.3"), String::from("P 0.6")]);
        table.row("greedy", [String::from("1"), String::from("2")]);
        let expected = "**loads**\n\n| | P 0.3 | P 0.6 |\n| --- | --- | --- |\n| greedy | 1 | 2 |\n";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn every_chapter_can_be_written() {
        let order = Order { seed: 1, requests_min: 300, models: vec![Model::accelerator()], lanes: 1 };
        for chapter in CHAPTERS {
            let tables = (chapter.write)(&order);
            assert!(!tables.is_empty(), "{}", chapter.name);
            for table in tables {
                assert!(!table.rows.is_empty(), "{}", chapter.name);
                assert!(table.rows.iter().all(|row| row.len() == table.columns.len() + 1), "{table}");
            }
        }
    }
}
