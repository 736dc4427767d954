//! What a load runs before a model is ready, and what it keeps for the next.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use servekit_core::{ClassSurface, Latency, Model, Surface};
use servekit_engine::{Execution, LoadedModel, ModelSpec, Placement, ProfileUse, Settings};

use crate::rig::{SETTINGS, environment, limits, model, spec};

/// A folder for one test's profiles, not there yet.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("servekit-starts-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    folder
}

fn start(name: &str, settings: &Settings) -> LoadedModel {
    environment().load(&spec(name), &limits(), settings).expect("loaded")
}

/// What would have been learned, had runs taken so many times as long as they do.
fn learned(model: &LoadedModel, factor: f64) -> Vec<ClassSurface> {
    let surface = model.start().surfaces().first().expect("it was run").surface.clone();
    let slower =
        Surface { base_ns: surface.base_ns * factor, row_ns: surface.row_ns * factor, samples: 1_000, ..surface };
    vec![ClassSurface { shape: String::new(), length: None, surface: slower }]
}

#[test]
fn a_model_is_run_at_all_sizes_before_it_is_ready() {
    let model = model("two");
    let description = model.description();
    let surface = &model.start().surfaces().first().expect("it was run").surface;
    // 1, 2, 4 ... 64 rows three times each, or less often on a slow machine.
    assert!((7..=21).contains(&surface.samples), "{surface:?}");
    let latency = Latency::of(surface, 64);
    assert!(latency.expected(64) >= latency.expected(1) && latency.expected(64) < Duration::from_millis(100));
    let shown = model.start().shown();
    assert_eq!(shown.len(), 1);
    assert_eq!((shown[0].class.as_str(), &shown[0].surface), ("[?, 2], [?]", surface));
    assert!(description.warm_up.contains(" runs in "), "{}", description.warm_up);
    assert_eq!(*model.start().profile(), ProfileUse::Off);
    assert!(!model.start().is_kept());
}

#[test]
fn each_length_is_run_by_itself() {
    let model = model("wide");
    let longest = model.contract().ragged.as_ref().expect("lengths are mixed").length_max;
    let shown = model.start().shown();
    let classes: Vec<&str> = shown.iter().map(|known| known.class.as_str()).collect();
    let class = |length: u64| format!("[?, n], n up to {length}");
    assert_eq!(classes, [class(longest / 4), class(longest), class(longest / 16)]);
}

#[test]
fn a_model_whose_rows_share_nothing_is_run_by_single_requests() {
    let model = model("fixed");
    assert_eq!(model.description().batch_rows_max, 1);
    if let Some(ClassSurface { surface, .. }) = model.start().surfaces().first() {
        assert_eq!(surface.corrections.len(), 1);
    }
}

#[test]
fn no_time_means_no_runs() {
    let settings = Settings { warm_up_seconds_max: 0.0, ..SETTINGS };
    let model = start("two", &settings);
    assert!(model.start().surfaces().is_empty() && model.start().shown().is_empty());
    assert_eq!(model.description().warm_up, "no runs");
}

#[test]
fn a_model_that_no_made_up_row_runs_is_served_without_a_start() {
    let model = model("picky");
    assert!(model.start().surfaces().is_empty());
    assert_eq!(model.description().intra_op, 1);
}

#[test]
fn what_was_learned_is_where_the_next_start_begins() {
    let folder = folder("kept");
    let settings = Settings { profiles: Some(folder.clone()), ..SETTINGS };
    let first = start("two", &settings);
    assert_eq!(*first.start().profile(), ProfileUse::None);
    assert!(!folder.exists(), "a load writes nothing");
    first.start().keep(&learned(&first, 1.0)).expect("written");
    let second = start("two", &settings);
    let used = second.start().profile().to_string();
    assert!(used.starts_with("used: 1000 runs were kept") || used.starts_with("discarded: runs take"), "{used}");
    if used.starts_with("used") {
        assert_eq!(second.start().surfaces()[0].surface.samples, 1_000);
    }
}

#[test]
fn times_of_another_machine_are_discarded() {
    let folder = folder("slower");
    let settings = Settings { profiles: Some(folder.clone()), ..SETTINGS };
    let first = start("two", &settings);
    first.start().keep(&learned(&first, 1_000.0)).expect("written");
    let second = start("two", &settings);
    let said = second.start().profile().to_string();
    assert!(said.starts_with("discarded: runs take 0.00 times what was kept"), "{said}");
    assert!(second.start().surfaces()[0].surface.base_ns < 1e8);
    // Other threads are another profile.
    let spec = ModelSpec { intra_op: Some(2), ..spec("two") };
    let wider = environment().load(&spec, &limits(), &settings).expect("loaded");
    assert_eq!(*wider.start().profile(), ProfileUse::None);
}

#[test]
fn a_damaged_profile_is_ignored_and_written_anew() {
    let folder = folder("damaged");
    let settings = Settings { profiles: Some(folder.clone()), ..SETTINGS };
    let first = start("two", &settings);
    first.start().keep(&learned(&first, 1.0)).expect("written");
    let path = fs::read_dir(&folder).expect("a folder").next().expect("a file").expect("one").path();
    fs::write(&path, b"{\"schema\":1,").expect("damaged");
    let second = start("two", &settings);
    assert!(matches!(second.start().profile(), ProfileUse::Ignored(why) if why.contains("no profile")));
    assert!(!second.start().surfaces().is_empty());
    second.start().keep(&learned(&second, 1.0)).expect("written");
    assert!(!matches!(start("two", &settings).start().profile(), ProfileUse::Ignored(_)));
}

#[test]
fn threads_are_chosen_by_the_target_and_fixed_by_the_operator() {
    let settings = Settings { inline_run_us_max: 0, ..SETTINGS };
    let chosen = |intra_op, latency_target_ms| {
        let spec = ModelSpec { intra_op, latency_target_ms, execution: Execution::Auto, ..spec("wide") };
        let model = environment().load(&spec, &limits(), &settings).expect("loaded");
        let decisions = model.description().decisions.clone();
        let (_, why) = decisions.into_iter().find(|(topic, _)| topic == "intra_op").expect("a decision");
        assert_eq!(model.description().execution, Placement::Pool);
        (model.description().intra_op, model.description().lanes, why)
    };
    let (threads, lanes, why) = chosen(None, None);
    assert_eq!((threads, lanes), (1, 2), "{why}");
    assert!(why.starts_with("1: one row is answered within "), "{why}");
    assert_eq!(chosen(None, Some(0)), (1, 2, "1: no latency target asks for more".to_owned()));
    assert_eq!(chosen(Some(2), Some(0)), (2, 1, "2: as configured".to_owned()));
    assert_eq!(model("wide").description().intra_op, 1, "an inline model has one thread");
}
