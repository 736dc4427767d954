//! What a profile is kept under: everything that decides how long runs take.

use std::fs::File;
use std::io::Read;

use sha2::{Digest, Sha256};

/// More of it tells nothing new: the first processor is at the start, and asking for all of many takes long.
const PROCESSOR_BYTES_MAX: u64 = 16 * 1024;
/// What tells one kind of processor from another, on x86 and on Arm. Not its clock, which changes from read to read.
const PROCESSOR_FIELDS: [&str; 12] = [
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "flags",
    "CPU implementer",
    "CPU architecture",
    "CPU variant",
    "CPU part",
    "CPU revision",
    "Features",
];

/// A SHA-256 over named parts, which cannot run into each other.
#[derive(Default)]
pub(crate) struct Key(Sha256);

impl Key {
    /// Adds one more part.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.0.update(format!("{name} {}\n{value}\n", value.len()));
        self
    }

    /// In hexadecimal.
    pub(crate) fn text(self) -> String {
        hexadecimal(&self.0.finalize())
    }
}

/// Two digits a byte.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The kind of processor and what it can do; empty where the system does not tell.
pub(crate) fn processor() -> String {
    let mut text = Vec::new();
    let Ok(file) = File::open("/proc/cpuinfo") else { return String::new() };
    // What was read until an error is as good as nothing: another key is the worst that comes of it.
    let _ = file.take(PROCESSOR_BYTES_MAX).read_to_end(&mut text);
    first_processor(&String::from_utf8_lossy(&text))
}

/// Of the first processor, the fields that tell its kind.
pub(super) fn first_processor(text: &str) -> String {
    let lines = text.lines().skip_while(|line| line.trim().is_empty()).take_while(|line| !line.trim().is_empty());
    let tells = |line: &&str| line.split_once(':').is_some_and(|(name, _)| PROCESSOR_FIELDS.contains(&name.trim()));
    lines.filter(tells).collect::<Vec<_>>().join("\n")
}
