//! Recorded times of requests.
//!
//! A line holds when a request came, counted from the beginning of the recording: a number in milliseconds, a number
//! with its unit (`12.5ms`, `0.0125s`), or a JSON object with `offset_ms`, whose other members are not looked at.
//! Empty lines and lines that begin with `#` are passed over. Times may come in any order.

use std::path::Path;

use serde::Deserialize;

use crate::Error;

const MS_PER_S: f64 = 1e3;
/// A recording of a day and more is cut by whoever wants to replay it.
const OFFSET_MS_MAX: f64 = 1e9;

#[derive(Deserialize)]
struct Line {
    offset_ms: f64,
}

/// Seconds from the beginning, in order.
pub(crate) fn read(path: &Path) -> Result<Vec<f64>, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::Plan(format!("trace {} cannot be read: {error}", path.display())))?;
    parse(&text).map_err(|told| Error::Plan(format!("trace {}: {told}", path.display())))
}

fn parse(text: &str) -> Result<Vec<f64>, String> {
    let mut offsets_s = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let offset_ms = offset_ms(line).filter(|offset_ms| (0.0..=OFFSET_MS_MAX).contains(offset_ms));
        let offset_ms = offset_ms.ok_or_else(|| {
            format!(
                "line {} is '{line}', a number of milliseconds from 0 to {OFFSET_MS_MAX}, one with the unit ms or s, or \
                 a JSON object with offset_ms is allowed",
                at + 1
            )
        })?;
        offsets_s.push(offset_ms / MS_PER_S);
    }
    if offsets_s.is_empty() {
        return Err("no line holds a time".into());
    }
    offsets_s.sort_by(f64::total_cmp);
    Ok(offsets_s)
}

fn offset_ms(line: &str) -> Option<f64> {
    if line.starts_with('{') {
        return serde_json::from_str::<Line>(line).ok().map(|line| line.offset_ms);
    }
    if let Some(number) = line.strip_suffix("ms") {
        return number.trim_end().parse().ok();
    }
    match line.strip_suffix('s') {
        Some(number) => number.trim_end().parse::<f64>().ok().map(|offset_s| offset_s * MS_PER_S),
        None => line.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_time_is_read() {
        let text = "# recorded on a Monday\n\n250\n0\n 1.5s \n12.5 ms\n{\"offset_ms\": 30, \"model\": \"mlp\"}\n";
        assert_eq!(parse(text), Ok(vec![0.0, 0.0125, 0.03, 0.25, 1.5]));
    }

    #[test]
    fn a_line_that_is_no_time_is_told_by_its_number() {
        for wrong in ["soon", "-1", "nan", "inf", "1e12", "{\"offset\": 1}", "{", "5 min", "1 2"] {
            let told = parse(&format!("0\n{wrong}\n")).expect_err(wrong);
            assert!(told.starts_with(&format!("line 2 is '{wrong}', ")), "{told}");
        }
        assert_eq!(parse("# nothing\n"), Err("no line holds a time".into()));
    }
}
