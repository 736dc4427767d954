//! What is loaded is described; what is not says why.

use std::fs;
use std::path::PathBuf;

use servekit_core::{Axis, Datatype, Limits, Model, Reason};
use servekit_engine::{DeviceChoice, Environment, EnvironmentError, Execution, ModelSpec, Placement, Settings};
use servekit_testing::{fp32, fp32_values};

use crate::rig::{SETTINGS, answer, environment, limits, load, model, path, spec, spec_of};

fn refusal(name: &str) -> (Reason, String) {
    let refusal = load(&spec(name)).map(|_| ()).expect_err(name);
    assert!(!refusal.text.contains(env!("CARGO_MANIFEST_DIR")) && !refusal.text.contains("0x"), "{refusal}");
    (refusal.reason, refusal.text.into_owned())
}

/// A folder of its own for one test.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("servekit-engine-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

#[test]
fn a_model_describes_itself() {
    let model = model("two");
    let contract = model.contract();
    let shown = |specs: &[servekit_core::TensorSpec]| -> Vec<(String, Datatype, Vec<i64>)> {
        specs.iter().map(|spec| (spec.name.to_string(), spec.datatype, spec.metadata_shape())).collect()
    };
    let (a, b) = (("a".to_owned(), Datatype::Fp32, vec![-1, 2]), ("b".to_owned(), Datatype::Int64, vec![-1]));
    assert_eq!(shown(&contract.inputs), [a.clone(), b.clone()]);
    assert_eq!(shown(&contract.outputs), [("c".to_owned(), a.1, a.2), ("d".to_owned(), b.1, b.2)]);
    assert_eq!(contract.inputs[0].axes[0], Axis::Symbol("N".into()));
    let description = model.description();
    let file = fs::read(path("two.onnx")).expect("the file");
    assert_eq!(description.file_bytes, file.len() as u64);
    assert_eq!((description.digest.len(), description.device.as_str()), (64, "cpu"));
    assert_eq!((description.batch_rows_max, description.lanes), (64, 2));
    assert_eq!(description.ort, environment().version());
    assert_eq!(description.execution, Placement::Inline);
    let topics: Vec<&str> = description.decisions.iter().map(|(topic, _)| topic.as_str()).collect();
    assert_eq!(topics, ["device", "arena", "batching", "intra_op", "execution"]);
}

#[test]
fn placement_follows_the_probe_and_the_operator() {
    let placed = |name: &str, execution, inline_run_us_max| {
        let settings = Settings { inline_run_us_max, ..SETTINGS };
        let spec = ModelSpec { execution, ..spec(name) };
        let model = environment().load(&spec, &limits(), &settings).expect("loaded");
        model.description().execution
    };
    assert_eq!(placed("wide", Execution::Auto, 1_000_000), Placement::Inline);
    assert_eq!(placed("wide", Execution::Auto, 0), Placement::Pool);
    assert_eq!(placed("wide", Execution::Pool, 1_000_000), Placement::Pool);
    assert_eq!(placed("wide", Execution::Inline, 0), Placement::Inline);
    // Nothing bounds how often a loop turns.
    assert_eq!(placed("spin", Execution::Inline, 1_000_000), Placement::Pool);
}

#[test]
fn what_cannot_be_served_says_which_value_and_type() {
    let (reason, text) = refusal("float8");
    assert_eq!(reason, Reason::ModelFile);
    assert!(
        text.starts_with("model 'float8' cannot be served: output 'y' is a tensor of float8e4m3fn, tensors of"),
        "{text}"
    );
    let (_, text) = refusal("sequence");
    assert!(text.contains("output 'y' is a sequence, each element a tensor of float"), "{text}");
    let (_, text) = refusal("unknown_domain");
    assert!(text.contains("uses operator evil.ops.Run, those of ai.onnx"), "{text}");
    let (reason, text) = refusal("unknown_operator");
    assert_eq!(reason, Reason::ModelFile);
    assert!(text.contains("Nonsense"), "{text}");
}

#[test]
fn files_that_are_no_models_are_refused() {
    let folder = folder("garbage");
    let whole = fs::read(path("two.onnx")).expect("the file");
    let cases: [(&str, &[u8]); 5] = [
        ("empty", b""),
        ("cut", &whole[..whole.len() / 2]),
        ("text", b"once upon a time"),
        ("zip", b"PK\x03\x04\x14\0\0\0\x08\0"),
        ("elf", b"\x7fELF\x02\x01\x01\0"),
    ];
    for (name, bytes) in cases {
        let file = folder.join(format!("{name}.onnx"));
        fs::write(&file, bytes).expect("written");
        let refusal = load(&spec_of(&file)).map(|_| ()).expect_err(name);
        assert_eq!(refusal.reason, Reason::ModelFile, "{refusal}");
    }
    let missing = load(&spec_of(&folder.join("missing.onnx"))).map(|_| ()).expect_err("missing");
    assert!(missing.reason == Reason::ModelFile && missing.text.contains("cannot be read"), "{missing}");
    let small = Limits { model_file_bytes_max: whole.len() as u64 - 1, ..limits() };
    let refusal = environment().load(&spec("two"), &small, &SETTINGS).map(|_| ()).expect_err("too large");
    assert!(refusal.text.contains(&format!("has {} bytes, at most {}", whole.len(), whole.len() - 1)), "{refusal}");
    fs::remove_dir_all(folder).expect("removed");
}

#[test]
fn a_flipped_bit_never_ends_the_process() {
    let folder = folder("mutants");
    let file = folder.join("mutant.onnx");
    let whole = fs::read(path("optional.onnx")).expect("the file");
    for bit in (0..whole.len() * 8).step_by(7) {
        let mut mutant = whole.clone();
        mutant[bit / 8] ^= 1 << (bit % 8);
        fs::write(&file, &mutant).expect("written");
        if let Err(refusal) = load(&spec_of(&file)) {
            assert!(matches!(refusal.reason, Reason::ModelFile | Reason::ModelPath), "bit {bit}: {refusal}");
        }
    }
    fs::remove_dir_all(folder).expect("removed");
}

#[test]
fn external_data_is_read_from_the_models_folder() {
    let model = model("external");
    assert_eq!(model.description().weights_bytes, 16);
    let mut lane = model.lane().expect("a lane");
    assert_eq!(fp32_values(&answer(&mut lane, [fp32(&[1, 4], &[1.0; 4])])), [2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn external_data_that_leaves_the_folder_is_refused() {
    let names = [
        "external_parent",
        "external_inside_parent",
        "external_absolute",
        "external_device",
        "external_missing",
        "external_memory",
    ];
    for name in names {
        let (reason, text) = refusal(name);
        assert_eq!(reason, Reason::ModelPath, "{text}");
    }
}

#[test]
fn links_are_followed_only_where_the_operator_allows_them() {
    let folder = folder("links");
    let data = folder.join("data.bin");
    fs::copy(path("external.bin"), &data).expect("copied");
    let named = folder.join("external_link.onnx");
    fs::copy(path("external_link.onnx"), &named).expect("copied");
    let linked = folder.join("linked.onnx");
    std::os::unix::fs::symlink(&named, &linked).expect("linked");
    let refused = |file: &PathBuf| load(&spec_of(file)).map(|_| ()).expect_err("refused");
    let allowed = |file: &PathBuf| load(&ModelSpec { links: true, ..spec_of(file) });
    std::os::unix::fs::symlink(&data, folder.join("link.bin")).expect("linked");
    assert!(refused(&named).text.contains("'link.bin' is a link"));
    assert_eq!(refused(&linked).reason, Reason::ModelPath);
    allowed(&linked).expect("loaded");
    fs::remove_file(folder.join("link.bin")).expect("removed");
    fs::hard_link(&data, folder.join("link.bin")).expect("linked");
    assert!(refused(&named).text.contains("'link.bin' is a hard link"));
    allowed(&named).expect("loaded");
    fs::write(folder.join("short.bin"), [0; 15]).expect("written");
    fs::remove_file(folder.join("link.bin")).expect("removed");
    fs::rename(folder.join("short.bin"), folder.join("link.bin")).expect("renamed");
    assert!(refused(&named).text.contains("needs 16 bytes"));
    fs::remove_dir_all(folder).expect("removed");
}

#[test]
fn an_arena_that_a_full_batch_outgrows_lowers_the_batch() {
    let narrow = ModelSpec { arena_bytes_max: Some(128 << 10), ..spec("wide") };
    let model = load(&narrow).expect("loaded");
    let decided = model.description();
    assert_eq!(decided.arena_bytes_max, 128 << 10);
    let wide = ModelSpec { batch_rows_max: Some(4096), ..narrow };
    let model = load(&wide).expect("loaded");
    assert!(model.description().batch_rows_max < 4096, "{:?}", model.description());
    assert!(model.contract().is_batched());
}

#[test]
fn an_arena_grows_to_what_a_full_batch_takes() {
    let large = ModelSpec { batch_rows_max: Some(65_536), ..spec("wide") };
    let model = load(&large).expect("loaded");
    let description = model.description();
    // 65,536 rows of 64 floats.
    assert!(description.arena_bytes_max >= 4 * (16 << 20), "{description:?}");
    assert_eq!(description.batch_rows_max, 65_536);
}

#[test]
fn cuda_that_is_not_there_says_what_to_install() {
    let settings = Settings { device: DeviceChoice::Cuda, ..SETTINGS };
    match environment().load(&spec("wide"), &limits(), &settings) {
        Ok(model) => assert_eq!(model.description().device, "cuda:0"),
        Err(refusal) => {
            assert_eq!(refusal.reason, Reason::LoadRefused);
            let is_told = refusal.text.contains("pip uninstall onnxruntime; pip install onnxruntime-gpu")
                || refusal.text.contains("does not work here");
            assert!(is_told, "{refusal}");
        }
    }
    let settings = Settings { device: DeviceChoice::Auto, ..SETTINGS };
    let model = environment().load(&spec("wide"), &limits(), &settings).expect("loaded on what there is");
    assert!(model.description().decisions.iter().any(|(topic, _)| topic == "device"));
}

#[test]
fn a_process_has_one_library() {
    let first = environment();
    let other = Environment::open(&first.library().with_file_name("other.so"), Box::new(|_, _| {}));
    assert_eq!(other.unwrap_err(), EnvironmentError::Other(first.library().to_owned()));
    let relative = Environment::open("libonnxruntime.so".as_ref(), Box::new(|_, _| {}));
    assert!(matches!(relative, Err(EnvironmentError::RelativePath(_))));
}
