use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use proptest::prelude::*;

use super::file::{SCHEMA, parse, seal};
use super::key::first_processor;
use super::*;

fn surface(base_ns: f64, row_ns: f64) -> Surface {
    Surface { base_ns, row_ns, spread: 0.1, corrections: vec![1.0, 0.9, 1.1], samples: 300 }
}

fn known(shape: &str, surface: Surface) -> ClassSurface {
    ClassSurface { shape: shape.to_owned(), length: None, surface }
}

fn is_within(surface: &Surface) -> bool {
    let times = [surface.base_ns, surface.row_ns].iter().all(|time| (NS_MIN..=NS_MAX).contains(time));
    let corrections = surface.corrections.len() <= CORRECTIONS_MAX
        && surface.corrections.iter().all(|found| (1.0 / CORRECTION_MAX..=CORRECTION_MAX).contains(found));
    times && corrections && (0.0..=1.0).contains(&surface.spread)
}

/// A folder of its own for one test, and a file in it.
fn file(name: &str) -> (PathBuf, ProfileFile) {
    let folder = std::env::temp_dir().join(format!("servekit-profile-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    let file = ProfileFile::new(&folder, Key::default().with("test", name).text(), "model", 1024);
    (folder, file)
}

fn only_name(folder: &PathBuf) -> PathBuf {
    let mut paths: Vec<_> = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("one").path()).collect();
    assert_eq!(paths.len(), 1, "{paths:?}");
    paths.remove(0)
}

fn write(file: &ProfileFile, surfaces: &[ClassSurface]) -> std::io::Result<()> {
    file.write(Profile::of(surfaces.iter().cloned(), None).expect("some"))
}

fn kept(file: &ProfileFile) -> Vec<ClassSurface> {
    file.read().expect("readable").expect("kept").surfaces
}

/// What is read of a payload whose checksum is right.
fn sealed(payload: &str) -> Option<Profile> {
    parse(seal(payload).ok()?.as_bytes(), "key").ok()
}

#[test]
fn what_is_kept_is_what_is_read() {
    let (folder, file) = file("round-trip");
    assert_eq!(file.read(), Ok(None));
    let surfaces = [known("", surface(1e4 / 3.0, 70.1)), known("[?, 4]", surface(5e4, 0.0))];
    write(&file, &surfaces).expect("written");
    let found = kept(&file);
    assert_eq!(found[0], surfaces[0]);
    assert_eq!((found[1].shape.as_str(), found[1].surface.row_ns), ("[?, 4]", NS_MIN));
    write(&file, &surfaces[1..]).expect("written again");
    assert_eq!(kept(&file).len(), 1);
    let mode = fs::metadata(only_name(&folder)).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_damaged_or_alien_file_says_why_it_is_ignored() {
    let (folder, file) = file("damaged");
    write(&file, &[known("", surface(1.0, 1.0))]).expect("written");
    let path = only_name(&folder);
    let whole = fs::read(&path).expect("its bytes");
    let text = String::from_utf8(whole.clone()).expect("a text");
    let problem = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("written");
        file.read().expect_err("ignored")
    };
    assert!(problem(text.replace("300", "301").as_bytes()).contains("damaged"));
    assert!(problem(text.replace("\"schema\":1", "\"schema\":2").as_bytes()).contains("of version 2"));
    assert!(problem(&whole[..whole.len() / 2]).contains("no profile"));
    assert!(problem(b"").contains("no profile"));
    assert!(problem(&vec![b' '; (1 << 20) + 1]).contains("more than 1048576 bytes"));
    assert!(parse(&whole, "other").expect_err("alien").contains("another machine"));
    assert_eq!(SCHEMA, 1);
    fs::write(&path, &whole).expect("written");
    assert_eq!(kept(&file).len(), 1);
}

#[test]
fn a_file_holds_what_fits_into_it() {
    let (folder, file) = file("large");
    let long = Surface { corrections: vec![0.123_456_79; CORRECTIONS_MAX + 1], ..surface(1.0, 1.0) };
    let surfaces: Vec<_> = (0..100).map(|number| known(&format!("[?, {number}]"), long.clone())).collect();
    write(&file, &surfaces).expect("written");
    assert!(fs::metadata(only_name(&folder)).expect("a file").len() <= 1 << 20);
    let found = kept(&file);
    assert!(found.len() > 8 && found[0].shape == "[?, 0]", "{}", found.len());
}

#[test]
fn links_pipes_and_folders_are_not_read() {
    let (folder, file) = file("odd");
    write(&file, &[known("", surface(1.0, 1.0))]).expect("written");
    let path = only_name(&folder);
    let elsewhere = folder.join("elsewhere");
    fs::rename(&path, &elsewhere).expect("moved");
    symlink(&elsewhere, &path).expect("a link");
    assert!(file.read().expect_err("ignored").contains("cannot be read"));
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("a folder");
    assert!(file.read().expect_err("ignored").contains("no plain file"));
    assert!(write(&file, &[known("", surface(1.0, 1.0))]).is_err());
    let names = fs::read_dir(&folder).expect("a folder").count();
    assert_eq!(names, 2, "nothing half-written is left");
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_and_no_more() {
    let (folder, _) = file("blocked");
    fs::write(&folder, "in the way").expect("a file");
    let file = ProfileFile::new(&folder, "key".to_owned(), "model", 0);
    assert!(write(&file, &[known("", surface(1.0, 1.0))]).is_err());
    assert!(file.read().is_err());
    fs::remove_file(&folder).expect("removed");
}

#[test]
fn the_oldest_go_when_there_are_too_many() {
    let (folder, file) = file("many");
    fs::create_dir_all(&folder).expect("a folder");
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    for number in 0..600 {
        let old = fs::File::create(folder.join(format!("{number:064x}.json"))).expect("a file");
        old.set_modified(long_ago + Duration::from_secs(number)).expect("a time");
    }
    fs::write(folder.join("notes.json"), "").expect("a file of somebody else");
    write(&file, &[known("", surface(1.0, 1.0))]).expect("written");
    assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 513);
    assert!(folder.join("notes.json").exists() && !folder.join(format!("{:064x}.json", 0)).exists());
    assert_eq!(kept(&file).len(), 1);
}

#[test]
fn a_profile_holds_while_runs_take_about_as_long() {
    let profile = Profile::of([known("", surface(1_000.0, 100.0))], None).expect("one");
    let medians = |factor: f64| {
        [1, 16, 64].map(|rows: u32| {
            let latency = Latency::of(&profile.surfaces[0].surface, 64);
            (rows, latency.expected(rows).mul_f64(factor))
        })
    };
    for factor in [0.7, 1.0, 1.4] {
        let (fitted, ratio) = profile.clone().fitted(("", None), &medians(factor)).expect("it holds");
        assert!((ratio / factor - 1.0).abs() < 0.01, "{ratio} for {factor}");
        assert!((fitted.surfaces[0].surface.base_ns / (1_000.0 * factor) - 1.0).abs() < 0.01);
    }
    for factor in [0.6, 1.6, 50.0] {
        let why = profile.clone().fitted(("", None), &medians(factor)).expect_err("it does not hold");
        assert!(why.contains("times what was kept"), "{why}");
    }
    // One run that was disturbed does not decide.
    let mut disturbed = medians(1.0);
    disturbed[2].1 *= 9;
    assert!(profile.clone().fitted(("", None), &disturbed).is_ok());
    assert!(profile.fitted(("", None), &[]).is_err());
}

#[test]
fn a_class_is_compared_with_its_own_surface() {
    let of_length = |length, base_ns| ClassSurface { length, ..known("[?, n]", surface(base_ns, 1.0)) };
    let surfaces = [known("", surface(1.0, 1.0)), of_length(Some(64), 64.0), of_length(Some(16), 16.0)];
    let profile = Profile::of(surfaces, None).expect("some");
    let base_ns = |shape, length| profile.surface(shape, length).base_ns;
    assert_eq!(base_ns("[?, n]", Some(16)), 16.0);
    assert_eq!(base_ns("[?, n]", Some(17)), 64.0);
    assert_eq!(base_ns("[?, n]", Some(65)), 1.0);
    assert_eq!((base_ns("", None), base_ns("[?, 3]", None)), (1.0, 1.0));
}

#[test]
fn a_key_tells_parts_apart() {
    let key =
        |parts: &[(&str, &str)]| parts.iter().fold(Key::default(), |key, (name, value)| key.with(name, value)).text();
    let keys = [
        key(&[("a", "bc")]),
        key(&[("ab", "c")]),
        key(&[("a", "b"), ("c", "")]),
        key(&[("a", "b\nc 0\n")]),
        key(&[("a", "b"), ("c", "d")]),
    ];
    let mut distinct = keys.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), keys.len());
    assert_eq!(key(&[("a", "bc")]), keys[0]);
}

#[test]
fn a_processor_is_known_by_its_kind_and_not_by_its_clock() {
    let text =
        "processor\t: 0\nmodel name\t: A\ncpu MHz\t\t: 2000.1\nflags\t\t: sse avx\n\nprocessor\t: 1\nmodel name\t: B\n";
    assert_eq!(first_processor(text), "model name\t: A\nflags\t\t: sse avx");
    assert_eq!(first_processor(""), "");
}

/// What a model starts from whose runs take so long now.
fn model_start(file: &ProfileFile, base_ns: f64) -> Start {
    let surfaces = vec![known("[?, 4]", surface(base_ns, base_ns / 10.0))];
    Start::of_model(surfaces, ProfileUse::None, Some(file.clone()))
}

#[test]
fn what_was_learned_of_runs_with_steps_holds_while_the_model_takes_about_as_long() {
    let (folder, file) = file("steps");
    let first = model_start(&file, 1e6).with_steps("shop", "digest", true);
    assert_eq!((first.profile(), first.surfaces().len()), (&ProfileUse::None, 1));
    // Until something is learned, as long as the model.
    assert_eq!((first.surfaces()[0].shape.as_str(), first.surfaces()[0].surface.base_ns), ("", 1e6));
    first.keep(&[known("", surface(5e6, 5e5)), known("[?, 9]", surface(7e6, 5e5))]).expect("kept");
    assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 1, "what is kept of the model is left alone");
    let slower = model_start(&file, 1.2e6).with_steps("shop", "digest", true);
    assert_eq!(
        slower.profile().to_string(),
        "used: 300 runs were kept, and runs of the model alone take 1.20 times as long now"
    );
    let times: Vec<f64> = slower.surfaces().iter().map(|known| (known.surface.base_ns / 1e3).round()).collect();
    assert_eq!(times, [6e3, 8.4e3]);
    let elsewhere = model_start(&file, 9e6).with_steps("shop", "digest", true);
    assert!(elsewhere.profile().to_string().starts_with("discarded: runs take 9.00 times"));
    assert_eq!(elsewhere.surfaces()[0].surface.base_ns, 9e6);
    for (name, digest) in [("shop", "another"), ("shop/classifier", "digest")] {
        let other = model_start(&file, 1e6).with_steps(name, digest, true);
        assert_eq!(*other.profile(), ProfileUse::None, "{name} {digest}");
    }
}

#[test]
fn steps_without_a_model_are_kept_beside_one_and_compared_by_nothing() {
    let (_, file) = file("steps-alone");
    let first = model_start(&file, 1e6).with_steps("shop", "digest", false);
    assert!(first.surfaces().is_empty());
    first.keep(&[known("", surface(5e6, 5e5))]).expect("kept");
    let second = model_start(&file, 9e6).with_steps("shop", "digest", false);
    assert_eq!(second.profile().to_string(), "used: 300 runs were kept");
    assert_eq!(second.surfaces()[0].surface.base_ns, 5e6);
    let with_model = model_start(&file, 1e6).with_steps("shop", "digest", true);
    assert!(with_model.profile().to_string().starts_with("discarded: no run was made"), "{}", with_model.profile());
}

#[test]
fn steps_around_a_model_that_never_ran_or_is_not_kept_start_from_nothing() {
    let (_, file) = file("steps-unknown");
    let known_before = model_start(&file, 1e6).with_steps("shop", "digest", true);
    known_before.keep(&[known("", surface(5e6, 5e5))]).expect("kept");
    let never_run = Start::of_model(Vec::new(), ProfileUse::None, Some(file)).with_steps("shop", "digest", true);
    assert!(never_run.profile().to_string().starts_with("discarded: no run was made"));
    let off = Start::of_model(vec![known("", surface(1.0, 1.0))], ProfileUse::Off, None).with_steps("shop", "", true);
    assert_eq!((off.profile(), off.surfaces().len(), off.is_kept()), (&ProfileUse::Off, 1, false));
    off.keep(&[known("", surface(1.0, 1.0))]).expect("nothing is done");
}

proptest! {
    #[test]
    fn any_bytes_are_a_profile_within_bounds_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(profile) = parse(&bytes, "key") {
            prop_assert!(profile.surfaces.iter().all(|known| is_within(&known.surface)));
        }
    }

    #[test]
    fn any_text_in_a_sealed_envelope_is_within_bounds(payload in "[\\[\\]{}\":,a-z0-9.e+-]{0,200}") {
        if let Some(profile) = sealed(&payload) {
            prop_assert!(profile.surfaces.iter().all(|known| is_within(&known.surface)));
        }
    }

    #[test]
    fn any_numbers_are_clamped(
        (base_ns, row_ns, spread) in (any::<f64>(), any::<f64>(), any::<f64>()),
        corrections in proptest::collection::vec(any::<f32>(), 0..20),
        samples in any::<u64>(),
        times in proptest::collection::vec(any::<u64>(), 0..4),
    ) {
        let surface = Surface { base_ns, row_ns, spread, corrections, samples };
        let profile = Profile::of([known(&"é".repeat(SHAPE_BYTES_MAX), surface)], None).expect("one");
        prop_assert!(is_within(&profile.surfaces[0].surface));
        prop_assert!(profile.surfaces[0].shape.len() <= SHAPE_BYTES_MAX);
        let medians: Vec<_> = times.into_iter().zip(1..).map(|(ns, rows)| (rows, Duration::from_nanos(ns))).collect();
        if let Ok((fitted, ratio)) = profile.fitted(("", None), &medians) {
            prop_assert!(ratio.is_finite());
            prop_assert!(is_within(&fitted.surfaces[0].surface));
        }
    }

    #[test]
    fn numbers_in_a_file_are_clamped(
        base in "-?[0-9]{1,3}(e-?[0-9]{1,3})?",
        correction in "-?[0-9]{1,3}(e-?[0-9]{1,2})?",
    ) {
        let payload = format!(
            "{{\"key\":\"key\",\"model\":\"m\",\"written_at_s\":1,\"samples\":1,\"peak_bytes\":1,\"surfaces\":[{{\"shape\":\"\",\"length\":null,\"surface\":{{\"base_ns\":{base},\"row_ns\":1,\"spread\":2.5,\"corrections\":[{correction}],\"samples\":1}}}}]}}"
        );
        if let Some(profile) = sealed(&payload) {
            prop_assert!(is_within(&profile.surfaces[0].surface));
        }
    }
}
