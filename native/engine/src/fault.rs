//! What ONNX Runtime says when it fails, and what of it may be told.

use servekit_core::{Reason, Refusal, RunFailure};

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// ONNX Runtime's error code, or [`Fault::OURS`].
    pub(crate) code: i32,
    /// As the library wrote it: may hold paths and addresses.
    pub(crate) text: String,
}

/// Codes that say the device or the provider broke, not that an input is wrong.
const BROKEN: [i32; 3] = [5, 11, 15]; // ENGINE_ERROR, EP_FAIL, DEVICE_RESET

impl Fault {
    const OURS: i32 = -1;

    /// A fault that the library did not report.
    pub(crate) fn ours(text: &str) -> Self {
        Self { code: Self::OURS, text: text.to_owned() }
    }

    /// Whether memory ran out.
    pub(crate) fn is_memory(&self) -> bool {
        const SIGNS: [&str; 6] = [
            "Failed to allocate memory",
            "Available memory of",
            "bad_alloc",
            "BFCArena",
            "out of memory",
            "CUBLAS_STATUS_ALLOC_FAILED",
        ];
        SIGNS.iter().any(|sign| self.text.contains(sign))
    }

    /// Whether the run was told to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.text.contains("terminate flag")
    }

    /// As the outcome of a run on a lane that may take `allowed` bytes.
    #[cold]
    pub(crate) fn into_run_failure(self, allowed: u64) -> RunFailure {
        if self.is_stopped() {
            return RunFailure::Lost("the run took too long and was stopped".to_owned());
        }
        if self.is_memory() {
            return RunFailure::Memory { asked: asked_bytes(&self.text), allowed };
        }
        let is_broken = self.code == Self::OURS || BROKEN.contains(&self.code) || self.text.contains("CUDA failure");
        let text = told(&self.text);
        if is_broken { RunFailure::Lost(text) } else { RunFailure::Rejected(text) }
    }

    /// As the outcome of a load.
    pub(crate) fn into_refusal(self, model: &str) -> Refusal {
        if self.is_memory() {
            let text = format!(
                "model '{model}' does not fit into memory while loading: {}; unload a model or give more memory",
                told(&self.text)
            );
            return Refusal::new(Reason::LoadRefused, text);
        }
        let text = format!("model '{model}' cannot be loaded: {}; export it again", told(&self.text));
        Refusal::new(Reason::ModelFile, text)
    }
}

/// The bytes that a failed allocation asked for.
fn asked_bytes(text: &str) -> Option<u64> {
    ["buffer of size ", "requested bytes of "].iter().find_map(|sign| {
        let (_, number) = text.rsplit_once(sign)?;
        let digits = number.split(|character: char| !character.is_ascii_digit()).next()?;
        digits.parse().ok()
    })
}

/// The part of a text that is about the model: without source paths, function names and addresses, in lower case, on
/// one line, of bounded length.
pub(crate) fn told(text: &str) -> String {
    const TOLD_BYTES_MAX: usize = 256;
    let (operator, message) = innermost(text);
    let words: Vec<&str> = without_signature(message)
        .split_whitespace()
        .filter(|word| !word.contains(['/', '\\']) && !word.contains("0x"))
        .collect();
    let mut message = words.join(" ");
    message.retain(|character| !character.is_control());
    let message = lowered(message.trim_end_matches(['.', ' ', ',']));
    let mut told = if operator.is_empty() { message } else { format!("{operator}: {message}") };
    if told.len() > TOLD_BYTES_MAX {
        let end = (0..=TOLD_BYTES_MAX).rev().find(|&end| told.is_char_boundary(end)).unwrap_or(0);
        told.truncate(end);
        told.push('…');
    }
    if told.is_empty() { "no reason was given".to_owned() } else { told }
}

/// Operator and message of the node that failed first; nodes with subgraphs repeat what failed inside.
fn innermost(text: &str) -> (&str, &str) {
    let Some((_, failure)) = text.rsplit_once("status code returned while running ") else { return ("", text) };
    let Some((operator, rest)) = failure.split_once(" node.") else { return ("", text) };
    let message = rest.split_once("Status Message:").map_or(rest, |(_, message)| message);
    let is_name = operator.len() <= 64 && operator.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (if is_name { operator } else { "" }, message)
}

/// Cuts the C++ function that the library puts in front of some messages.
fn without_signature(message: &str) -> &str {
    let Some(at) = message.rfind("onnxruntime::") else { return message };
    let mut depth = 0_usize;
    for (index, byte) in message.bytes().enumerate().skip(at) {
        match byte {
            b'(' => depth += 1,
            b')' if depth <= 1 => {
                let rest = message[index + 1..].trim_start();
                return rest.strip_prefix("const ").unwrap_or(rest);
            }
            b')' => depth -= 1,
            _ => {}
        }
    }
    message
}

/// With a small first letter, unless the first word is an abbreviation or a name like `ConstantOfShape`.
fn lowered(text: &str) -> String {
    let mut characters = text.chars();
    match (characters.next(), text.split_whitespace().next()) {
        (Some(first), Some(word)) if !word.chars().skip(1).any(char::is_uppercase) => {
            first.to_lowercase().chain(characters).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_told_text_names_the_operator_and_no_path() {
        let text = "Non-zero status code returned while running Gather node. Name:'/layer/Gather' Status Message: \
                    /onnxruntime_src/core/gather.h:101 indices element out of data bounds, idx=99 must be within the \
                    inclusive range [-4,3]";
        assert_eq!(
            told(text),
            "Gather: indices element out of data bounds, idx=99 must be within the inclusive range [-4,3]"
        );
    }

    #[test]
    fn a_told_text_holds_no_function_and_no_address() {
        let text = "/onnxruntime_src/core/tensor_shape.cc:56 int64_t \
                    onnxruntime::TensorShape::SizeToDimension(size_t, (int)) const Dimension of 0x7f00 is 2.";
        assert_eq!(told(text), "dimension of is 2");
    }

    #[test]
    fn what_failed_inside_a_loop_is_told_first() {
        let text = "Non-zero status code returned while running Loop node. Name:'l' Status Message: Non-zero status \
                    code returned while running Add node. Name:'a' Status Message: Shapes differ.";
        assert_eq!(told(text), "Add: shapes differ");
    }

    #[test]
    fn a_failed_allocation_says_how_much() {
        let text = "Failed to allocate memory for requested buffer of size 40000000000";
        let failure = Fault { code: 6, text: text.to_owned() }.into_run_failure(7);
        assert_eq!(failure, RunFailure::Memory { asked: Some(40_000_000_000), allowed: 7 });
    }

    #[test]
    fn a_told_text_is_bounded_and_never_empty() {
        assert!(told(&"é".repeat(1000)).len() <= 260);
        assert_eq!(told("/a/b"), "no reason was given");
    }
}
