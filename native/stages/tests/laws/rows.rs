//! Stages and rows that the laws are about.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use servekit_core::{Datatype, Reason, Refusal, Tensor};
use servekit_stages::{Stage, StageLimits, build};

pub const LIMITS: StageLimits = StageLimits { image_pixels_max: 1_000_000, text_bytes_max: 1_024 };

/// A stage whose options are right.
pub fn stage(kind: &str, options: &Value) -> Box<dyn Stage> {
    build(kind, options, &data(""), LIMITS).unwrap()
}

/// What is said about options that are wrong.
pub fn complaint(kind: &str, options: &Value) -> String {
    build(kind, options, &data(""), LIMITS).err().expect("these options are wrong")
}

pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

pub fn file(name: &str) -> Vec<u8> {
    fs::read(data(name)).unwrap()
}

/// A row of one BYTES element.
pub fn element(bytes: &[u8]) -> Tensor {
    let mut data = (bytes.len() as u32).to_le_bytes().to_vec();
    data.extend_from_slice(bytes);
    Tensor { datatype: Datatype::Bytes, shape: [].into_iter().collect(), data: data.into() }
}

pub fn image(height: i64, width: i64, channels: i64, data: Vec<u8>) -> Tensor {
    Tensor { datatype: Datatype::Uint8, shape: [height, width, channels].into_iter().collect(), data: data.into() }
}

/// The text of a refusal that blames what the row holds.
pub fn blamed(refusal: &Refusal) -> &str {
    assert_eq!(refusal.reason, Reason::ValueOutOfRange, "{refusal}");
    assert!(
        !refusal.text.ends_with('.') && refusal.text.starts_with(|letter: char| !letter.is_uppercase()),
        "{refusal}"
    );
    assert!(refusal.text.contains("allowed") && refusal.text.contains(';'), "{refusal}");
    &refusal.text
}

/// How far two images are apart: the mean over all bytes, and the farthest.
pub fn difference(found: &[u8], expected: &[u8]) -> (f64, u8) {
    assert_eq!(found.len(), expected.len());
    let differences = || found.iter().zip(expected).map(|(found, expected)| found.abs_diff(*expected));
    (differences().map(f64::from).sum::<f64>() / found.len() as f64, differences().max().unwrap_or(0))
}
