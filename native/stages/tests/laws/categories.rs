//! Categories into their numbers.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use servekit_core::{Datatype, Reason};
use servekit_stages::{Stage, build};

use crate::rows::{LIMITS, blamed, complaint, element, stage};

fn number(stage: &dyn Stage, text: &str) -> i64 {
    let output = stage.run(&[element(text.as_bytes())]).unwrap().remove(0);
    assert_eq!((output.datatype, output.shape.as_slice()), (Datatype::Int64, &[1][..]));
    i64::from_le_bytes(output.data[..].try_into().unwrap())
}

/// What a row is refused with.
fn refused(stage: &dyn Stage, text: &[u8]) -> String {
    let refusal = stage.run(&[element(text)]).unwrap_err();
    assert_eq!(refusal.reason, Reason::ValueOutOfRange);
    refusal.text.into_owned()
}

/// An empty folder.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("categories_{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn listed(folder: &Path, content: impl AsRef<[u8]>) -> Result<Box<dyn Stage>, String> {
    fs::write(folder.join("cities.txt"), content).unwrap();
    build("lookup", &json!({"file": "cities.txt"}), folder, LIMITS)
}

fn cities(more: &Value) -> Box<dyn Stage> {
    let mut options = json!({"categories": ["berlin", "lima", "oslo", "", "Ŝ"]});
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    stage("lookup", &options)
}

#[test]
fn a_category_becomes_its_place() {
    let stage = cities(&json!({}));
    assert_eq!(["lima", "berlin", "Ŝ", "", "oslo"].map(|text| number(&*stage, text)), [1, 0, 4, 3, 2]);
}

#[test]
fn a_category_that_is_unknown_is_refused_with_the_nearest_one() {
    let stage = cities(&json!({}));
    for (text, nearest) in [("osla", "oslo"), ("Lima", "lima"), ("berlin ", "berlin")] {
        let said = refused(&*stage, text.as_bytes());
        assert_eq!(said, format!("'text' is '{text}', one of 5 categories is allowed; did you mean '{nearest}'?"));
    }
}

#[test]
fn a_category_that_is_unknown_has_the_number_that_was_given_for_it() {
    for unknown in [-1, 0, 5, i64::from(i32::MIN), i64::from(i32::MAX)] {
        let stage = cities(&json!({"unknown": unknown}));
        assert_eq!(["paris", "lima", "LIMA"].map(|text| number(&*stage, text)), [unknown, 1, unknown]);
        blamed(&stage.run(&[element(b"lim\xff")]).unwrap_err());
        blamed(&stage.run(&[element(&[b'a'; 1025])]).unwrap_err());
    }
}

#[test]
fn a_refusal_shows_little_of_what_was_sent_and_of_what_was_meant() {
    let stage = stage("lookup", &json!({"categories": ["<b>\n".repeat(5_000)]}));
    let said = refused(&*stage, "<i>\u{7f}\n".repeat(200).as_bytes());
    assert!(said.len() < 250 && said.contains("<i>\\u{7f}\\n") && said.contains("<b>\\n"), "{said}");
    assert!(!said.contains(['\n', '\u{7f}']) && said.contains("…'"), "{said}");
}

#[test]
fn among_very_many_categories_those_that_begin_alike_are_suggested() {
    let many: Vec<String> = (0..200_000).map(|number| format!("city-{number:06}")).collect();
    let stage = stage("lookup", &json!({"categories": many}));
    assert_eq!(number(&*stage, "city-123456"), 123_456);
    assert!(
        refused(&*stage, b"city-123456x").ends_with("one of 200000 categories is allowed; did you mean 'city-123456'?")
    );
    for text in [&b""[..], b"a", b"zebra", &[b'c'; 1024]] {
        assert!(refused(&*stage, text).contains("did you mean 'city-"), "neighbours at both ends");
    }
}

#[test]
fn a_file_lists_a_category_a_line() {
    let folder = folder("lines");
    for content in ["berlin\nlima\noslo\n", "berlin\r\nlima\r\noslo", "\u{feff}berlin\nlima\noslo"] {
        let stage = listed(&folder, content).unwrap();
        assert_eq!(["berlin", "lima", "oslo"].map(|text| number(&*stage, text)), [0, 1, 2]);
        assert!(refused(&*stage, b"oslo\r").contains("one of 3 categories"));
    }
}

#[test]
fn a_file_that_lists_no_categories_is_told_at_load() {
    let folder = folder("wrong");
    let long = format!("{}\n", "a".repeat(1 << 20)).repeat(17);
    for (content, said) in [
        (&b""[..], "0 categories found, 1 to 1048576 are allowed"),
        (b"a\n\nb\n", "line 2 of the file is empty"),
        (b"a\nb\na\n", "category 2 is 'a' as category 0 is"),
        (b"a\n\xff\n", "cannot be read"),
        (long.as_bytes(), "has 17825809 bytes, at most 16777216 are allowed"),
        ("1\n".repeat((1 << 20) + 2).as_bytes(), "1048577 categories found"),
    ] {
        let complaint = listed(&folder, content).err().unwrap();
        assert!(complaint.starts_with("stage lookup: ") && complaint.contains(said), "{complaint}");
        assert!(complaint.len() < 300 && !complaint.contains(folder.to_str().unwrap()), "{complaint}");
    }
}

#[test]
fn a_file_outside_the_models_folder_is_never_read() {
    let folder = folder("outside");
    fs::write(folder.join("secret.txt"), "secret\n").unwrap();
    let inside = folder.join("model");
    fs::create_dir_all(inside.join("lists")).unwrap();
    fs::write(inside.join("lists/cities.txt"), "oslo\n").unwrap();
    let complaint = |name: &str| build("lookup", &json!({"file": name}), &inside, LIMITS).err();
    assert_eq!(complaint("lists/cities.txt"), None);
    for name in ["../secret.txt", "/etc/hostname", "lists/../../secret.txt", "", ".", "./lists/cities.txt"] {
        assert!(complaint(name).unwrap().contains("a file in the model's folder is allowed"), "{name}");
    }
    assert!(complaint("lists").unwrap().contains("is no file"));
    assert!(complaint("none.txt").unwrap().contains("cannot be read"));
    #[cfg(unix)]
    for (link, target, name) in [
        ("cities.txt", "../secret.txt", "cities.txt"),
        ("near.txt", "lists/cities.txt", "near.txt"),
        ("away", "..", "away/secret.txt"),
    ] {
        std::os::unix::fs::symlink(target, inside.join(link)).unwrap();
        assert!(complaint(name).unwrap().contains("link"), "{name}");
    }
}

#[test]
fn options_that_list_no_categories_are_told_at_load() {
    for (options, said) in [
        (json!({}), "neither found, one of the two is needed"),
        (json!({"categories": ["a"], "file": "b"}), "both found, one of the two is needed"),
        (json!({"categories": []}), "0 categories found"),
        (json!({"categories": ["a", "b", "a"]}), "category 2 is 'a' as category 0 is"),
        (json!({"categories": ["a", 1]}), "a list of texts is allowed"),
        (json!({"categories": "a"}), "a list of texts is allowed"),
        (json!({"categories": ["a".repeat((1 << 24) + 1)]}), "16777217 bytes together, at most 16777216 are allowed"),
        (json!({"categories": ["a"], "unknown": "refuse"}), "a whole number from -2147483648 to 2147483647"),
        (json!({"categories": ["a"], "unknown": 2_147_483_648_i64}), "option 'unknown' is 2147483648"),
        (json!({"category": ["a"]}), "did you mean 'categories'?"),
    ] {
        let complaint = complaint("lookup", &options);
        assert!(complaint.starts_with("stage lookup: ") && complaint.contains(said), "{complaint}");
    }
}
