//! What a request says before the values of its first input: the same in most requests of a client.

use servekit_core::{Contract, Shape};

use super::input::Draft;
use crate::dialect::memory::TEXT_BYTES_MAX;
use crate::json::Scanner;

/// JSON from its start to where the values of the first input begin, and what it was found to mean. Only leads that say
/// nothing but the head of that input are remembered.
#[derive(Debug, Default)]
pub(in crate::dialect) struct Lead {
    text: Vec<u8>,
    /// Keys of the input up to here, and that of its values.
    pub(super) keys: u32,
    index: usize,
    shape: Shape,
}

impl Lead {
    /// Brackets that are open where it ends: those of the request, its inputs, and the first of them.
    const DEPTH: u64 = 3;

    /// Puts what was read of the first input so far in place of what was remembered; its head was checked.
    #[cold]
    pub(super) fn remember(&mut self, text: &[u8], keys: u32, draft: &Draft<'_>) {
        let (Some(index), Some(shape), true) = (draft.index, &draft.shape, text.len() <= TEXT_BYTES_MAX) else {
            return;
        };
        self.text.clear();
        self.text.extend_from_slice(text);
        self.keys = keys;
        self.index = index;
        self.shape = Shape::from_slice(shape);
    }

    /// Passes the lead if the request begins with it, and says what it means.
    #[inline]
    pub(super) fn recall<'c>(&self, scanner: &mut Scanner<'_>, contract: &'c Contract) -> Option<Draft<'c>> {
        let spec = contract.inputs.get(self.index)?;
        if self.text.is_empty() || !scanner.text().starts_with(&self.text) {
            return None;
        }
        scanner.enter(self.text.len(), Self::DEPTH);
        Some(Draft::with_head(spec, self.index, Shape::from_slice(&self.shape)))
    }
}
