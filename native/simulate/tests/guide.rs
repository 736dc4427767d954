//! The tables in the guide are what its commands print.
#![forbid(unsafe_code)]

use std::fs;

use servekit_simulate::main_with;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../servekit/guide/batching.md");
const COMMAND: &str = "servekit-simulate ";
/// Only the simulator's tables leave the first head empty.
const HEADS: &str = "| | ";

/// Rows of the simulator's tables in this text, each behind the heads of its table.
fn rows(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut heads = None;
    for line in text.lines() {
        if line.starts_with(HEADS) {
            heads = Some(line);
        } else if !line.starts_with('|') {
            heads = None;
        } else if let Some(heads) = heads
            && !line.starts_with("| --- |")
        {
            found.push((heads, line));
        }
    }
    found
}

#[test]
fn every_table_of_the_guide_is_what_its_command_prints() {
    let page = fs::read_to_string(PAGE).expect("the page is beside the crate");
    let printed: Vec<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix(COMMAND))
        .map(|arguments| {
            let arguments: Vec<String> = arguments.split_whitespace().map(String::from).collect();
            // The page names the product, not what decides in it.
            main_with(&arguments).expect("a command of the page").replace("**Slackline** ", "servekit, ")
        })
        .collect();
    let told = rows(&page);
    for text in &printed {
        let known = rows(text);
        assert!(known.iter().any(|row| told.contains(row)), "the page shows nothing of this:\n{text}");
    }
    let known: Vec<_> = printed.iter().flat_map(|text| rows(text)).collect();
    let stale: Vec<&str> = told.iter().filter(|row| !known.contains(row)).map(|row| row.1).collect();
    assert!(
        stale.is_empty(),
        "no command of the page prints\n{}\nthey print\n{}",
        stale.join("\n"),
        printed.join("\n")
    );
}
