//! JSON, read in one pass over the bytes and printed straight into the answer: no tree, no intermediate numbers.

mod coded;
mod element;
mod narrow;
mod number;
mod print;
mod scanner;
mod string;
mod values;

#[cfg(test)]
mod tests;

pub(crate) use number::integer;
pub(crate) use print::{print_string, print_values};
pub(crate) use scanner::{Key, Members, Scanner, known_keys};
pub(crate) use values::{Target, read_values};

use servekit_core::{Reason, Refusal};

/// A refusal on its way out of a decoder; boxed, so that the results of hot functions stay small.
pub(crate) type Fault = Box<Refusal>;

/// Builds a fault; out of line, because it is the rare case everywhere.
#[cold]
#[inline(never)]
pub(crate) fn fault(reason: Reason, text: String) -> Fault {
    Box::new(Refusal::new(reason, text))
}

/// The byte at `at`; 0, which begins nothing in JSON, behind the end.
#[inline(always)]
fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// Where the white space that begins at `at` ends.
#[inline(always)]
fn blank(bytes: &[u8], mut at: usize) -> usize {
    while byte(bytes, at) <= b' ' && matches!(byte(bytes, at), b' ' | b'\n' | b'\r' | b'\t') {
        at += 1;
    }
    at
}
