//! The command line.

use std::fmt::Write;
use std::fs;

use crate::picture::picture;
use crate::scenario::Scenario;
use crate::service::{Model, Service};
use crate::tables::{CHAPTERS, Order, of_arrivals};

const USAGE: &str = "\
usage: servekit-simulate [options]

Runs the Batcher that serves, and simple policies beside it, on a virtual clock and prints how they compare.

  --only NAME[,NAME]   print these tables only; see below
  --seed N             another course of chance (1)
  --requests N         at least this many requests in every cell (12000)
  --model A|B|C|LINE   this model instead of all three; LINE is base_us=80,row_us=13,target_ms=2,rows_max=64
  --lanes N            lanes of those models (1)
  --trace FILE         arrivals of the model from a file: one time in seconds a line, ascending
  --svg FILE           draw goodput over load of the first model into this file, and print no tables unless --only names any
";

/// What the arguments ask for.
#[derive(Debug, PartialEq)]
struct Invocation {
    order: Order,
    only: Option<Vec<String>>,
    svg: Option<String>,
    trace: Option<String>,
    is_help: bool,
}

/// Does what the arguments (without the program's name) ask for and gives what is to be printed.
///
/// # Errors
/// A text for people where an argument is not understood or a file cannot be read or written.
pub fn main_with(arguments: &[String]) -> Result<String, String> {
    let invocation = Invocation::parse(arguments)?;
    if invocation.is_help {
        return Ok(usage());
    }
    let mut output = String::new();
    if let Some(path) = &invocation.svg {
        fs::write(path, picture(&invocation.order)).map_err(|error| format!("cannot write '{path}': {error}"))?;
    }
    if let Some(path) = &invocation.trace {
        let scenario = invocation.scenario_of(path)?;
        let _infallible = writeln!(output, "{}", of_arrivals(&scenario));
    }
    let is_wanted = |name: &str| match &invocation.only {
        Some(only) => only.iter().any(|wanted| wanted == name),
        None => invocation.svg.is_none() && invocation.trace.is_none(),
    };
    for chapter in CHAPTERS.iter().filter(|chapter| is_wanted(chapter.name)) {
        let _infallible = writeln!(output, "## {}: {}\n", chapter.name, chapter.about);
        for table in (chapter.write)(&invocation.order) {
            let _infallible = writeln!(output, "{table}");
        }
    }
    Ok(output)
}

fn usage() -> String {
    let tables: String = CHAPTERS.iter().map(|chapter| format!("  {:<12} {}\n", chapter.name, chapter.about)).collect();
    format!("{USAGE}\ntables:\n{tables}")
}

impl Invocation {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let models = vec![Model::cpu_small(), Model::tiny(), Model::accelerator()];
        let order = Order { seed: 1, requests_min: 12_000, models, lanes: 1 };
        let mut invocation = Self { order, only: None, svg: None, trace: None, is_help: false };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            if matches!(argument.as_str(), "--help" | "-h") {
                invocation.is_help = true;
                continue;
            }
            let (name, value) =
                argument.split_once('=').map_or((&**argument, None), |(name, value)| (name, Some(value)));
            if !FLAGS.contains(&name) {
                return Err(format!("unknown argument '{argument}'; --help lists all"));
            }
            let value = value.or_else(|| arguments.next().map(String::as_str));
            let value = value.ok_or_else(|| format!("{name} needs a value; --help tells which"))?;
            invocation.set(name, value)?;
        }
        Ok(invocation)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--seed" => self.order.seed = number(name, value, 0, u32::MAX)?.into(),
            "--requests" => self.order.requests_min = number(name, value, 100, 10_000_000)?,
            "--lanes" => self.order.lanes = number(name, value, 1, 64)?,
            "--model" => self.order.models = vec![model(value)?],
            "--svg" => self.svg = Some(String::from(value)),
            "--trace" => self.trace = Some(String::from(value)),
            _ => {
                let names: Vec<String> = value.split(',').map(String::from).collect();
                if let Some(unknown) = names.iter().find(|name| CHAPTERS.iter().all(|chapter| chapter.name != **name)) {
                    return Err(format!("unknown table '{unknown}'; --help lists all"));
                }
                self.only = Some(names);
            }
        }
        Ok(())
    }

    fn scenario_of(&self, path: &str) -> Result<Scenario, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("cannot read '{path}': {error}"))?;
        let mut arrivals_s = Vec::new();
        for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
            let at_s: f64 =
                text.trim().parse().map_err(|_| format!("line {line} of '{path}' is no number of seconds"))?;
            let least_s = arrivals_s.last().copied().unwrap_or(0.0);
            if !(least_s..=TRACE_SECONDS_MAX).contains(&at_s) {
                return Err(format!(
                    "line {line} of '{path}' says {at_s} s, from {least_s} to {TRACE_SECONDS_MAX} s are allowed; sort it"
                ));
            }
            arrivals_s.push(at_s);
        }
        Ok(Scenario::of_arrivals(&self.order.models[0], self.order.lanes, &arrivals_s, self.order.seed))
    }
}

const FLAGS: [&str; 7] = ["--only", "--seed", "--requests", "--lanes", "--model", "--svg", "--trace"];

/// Ten days.
const TRACE_SECONDS_MAX: f64 = 864_000.0;

fn number(name: &str, value: &str, least: u32, most: u32) -> Result<u32, String> {
    let found = value.parse().ok().filter(|number| (least..=most).contains(number));
    found.ok_or_else(|| format!("{name} is '{value}', whole numbers from {least} to {most} are allowed"))
}

/// One of the three, or a line of its own.
fn model(value: &str) -> Result<Model, String> {
    match value {
        "A" => return Ok(Model::cpu_small()),
        "B" => return Ok(Model::tiny()),
        "C" => return Ok(Model::accelerator()),
        _ => {}
    }
    let mut model = Model { name: String::from("given"), ..Model::cpu_small() };
    for part in value.split(',') {
        let (name, text) = part.split_once('=').ok_or_else(|| format!("'{part}' of the model is no NAME=VALUE"))?;
        let found: f64 = text.parse().map_err(|_| format!("{name} of the model is '{text}', which is no number"))?;
        if !(1e-3..=1e9).contains(&found) {
            return Err(format!("{name} of the model is {found}, from 0.001 to 1000000000 is allowed"));
        }
        match name {
            "base_us" => model.service = Service { base_s: found * 1e-6, ..model.service },
            "row_us" => model.service = Service { row_s: found * 1e-6, ..model.service },
            "target_ms" => model.target_s = found * 1e-3,
            "rows_max" => model.rows_max = number("rows_max", text, 1, 65_536)?,
            _ => return Err(format!("the model has no '{name}'; base_us, row_us, target_ms and rows_max are known")),
        }
    }
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Invocation, String> {
        let arguments: Vec<String> = line.split_whitespace().map(String::from).collect();
        Invocation::parse(&arguments)
    }

    #[test]
    fn flags_are_understood_with_and_without_an_equals_sign() {
        let invocation =
            parsed("--seed 7 --requests=500 --only loads,knee --lanes 4 --svg a.svg").expect("well formed");
        assert_eq!((invocation.order.seed, invocation.order.requests_min, invocation.order.lanes), (7, 500, 4));
        assert_eq!(invocation.only, Some(vec![String::from("loads"), String::from("knee")]));
        assert_eq!(invocation.svg.as_deref(), Some("a.svg"));
        assert_eq!(invocation.order.models.len(), 3);
    }

    #[test]
    fn a_model_may_be_given_by_its_line() {
        for line in [
            "--model base_us=100,row_us=2,target_ms=5,rows_max=32",
            "--model=base_us=100,row_us=2,target_ms=5,rows_max=32",
        ] {
            let [model] = <[Model; 1]>::try_from(parsed(line).expect("well formed").order.models).expect("one");
            assert_eq!((model.rows_max, model.target_s), (32, 5e-3));
            assert!((model.service.base_s - 1e-4).abs() < 1e-12 && (model.service.row_s - 2e-6).abs() < 1e-12);
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (line, text) in [
            ("--quick", "unknown argument '--quick'; --help lists all"),
            ("--seed", "--seed needs a value; --help tells which"),
            ("--requests 5", "--requests is '5', whole numbers from 100 to 10000000 are allowed"),
            ("--only everything", "unknown table 'everything'; --help lists all"),
            ("--model base_us=0", "base_us of the model is 0, from 0.001 to 1000000000 is allowed"),
            ("--model speed=3", "the model has no 'speed'; base_us, row_us, target_ms and rows_max are known"),
        ] {
            assert_eq!(parsed(line).expect_err("refused"), text);
        }
    }

    #[test]
    fn help_names_every_table_and_flag() {
        let text = main_with(&[String::from("--help")]).expect("help");
        assert!(CHAPTERS.iter().all(|chapter| text.contains(chapter.name)));
        assert!(FLAGS.iter().all(|flag| text.contains(flag)));
    }

    #[test]
    fn a_table_is_printed_under_its_heading() {
        let arguments = ["--only", "priorities", "--requests", "300"].map(String::from);
        let text = main_with(&arguments).expect("a table");
        assert!(text.starts_with("## priorities: three in ten go before the others\n\n**Model A, 30 % urgent"));
    }
}
