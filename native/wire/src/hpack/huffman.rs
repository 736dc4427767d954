//! The static Huffman code (RFC 7541, section 5.2 and appendix B), decoded four bits at a time.
//!
//! The code is canonical: the lengths alone say it all. The code's tree becomes a machine whose states are the inner
//! nodes; each step takes half a byte and completes at most one symbol, because no code is shorter than five bits.

use super::Undecodable;

/// Bits of each symbol's code; the last one ends a string and may never be seen whole.
const CODE_BITS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];

const CODE_BITS_MAX: u8 = 30;
const END: usize = 256;

/// Each symbol's code, in the lowest bits: by length, then by symbol.
pub(super) const CODES: [u32; 257] = {
    let mut codes = [0; 257];
    let (mut code, mut bits) = (0_u32, 1_u8);
    while bits <= CODE_BITS_MAX {
        let mut symbol = 0;
        while symbol < codes.len() {
            if CODE_BITS[symbol] == bits {
                codes[symbol] = code;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        bits += 1;
    }
    codes
};

/// What half a byte does to a state.
#[derive(Clone, Copy)]
struct Step {
    state: u8,
    symbol: u8,
    flags: u8,
}

const EMITS: u8 = 1;
const FAILS: u8 = 2;

/// 256 inner nodes, since there are 257 leaves; the root is 0.
const STATES: usize = 256;

const MACHINE: &Machine = &machine();

struct Machine {
    steps: [[Step; 16]; STATES],
    /// The bits since the last symbol are a beginning of the end symbol, and fewer than eight: valid padding.
    may_end: [bool; STATES],
}

/// A child in the tree: an inner node below `LEAF`, else a leaf.
const LEAF: u16 = 1 << 12;

const fn tree() -> [[u16; 2]; STATES] {
    let mut children = [[0_u16; 2]; STATES];
    let (mut symbol, mut nodes) = (0, 1);
    while symbol < CODES.len() {
        let (mut node, mut bit) = (0, CODE_BITS[symbol]);
        while bit > 1 {
            bit -= 1;
            let side = (CODES[symbol] >> bit & 1) as usize;
            if children[node][side] == 0 {
                children[node][side] = nodes;
                nodes += 1;
            }
            node = children[node][side] as usize;
        }
        children[node][(CODES[symbol] & 1) as usize] = LEAF + symbol as u16;
        symbol += 1;
    }
    children
}

const fn machine() -> Machine {
    let children = tree();
    let mut machine =
        Machine { steps: [[Step { state: 0, symbol: 0, flags: 0 }; 16]; STATES], may_end: [false; STATES] };
    let mut state = 0;
    while state < STATES {
        let mut half = 0;
        while half < 16 {
            machine.steps[state][half] = step(&children, state as u16, half);
            half += 1;
        }
        state += 1;
    }
    let (mut padding_bits, mut node) = (0, 0);
    while padding_bits < 8 {
        machine.may_end[node] = true;
        node = children[node][1] as usize;
        padding_bits += 1;
    }
    machine
}

const fn step(children: &[[u16; 2]; STATES], mut node: u16, half: usize) -> Step {
    let mut step = Step { state: 0, symbol: 0, flags: 0 };
    let mut bit = 4;
    while bit > 0 {
        bit -= 1;
        node = children[node as usize][half >> bit & 1];
        if node == LEAF + END as u16 {
            step.flags = FAILS;
            return step;
        }
        if node >= LEAF {
            step.symbol = (node - LEAF) as u8;
            step.flags = EMITS;
            node = 0;
        }
    }
    step.state = node as u8;
    step
}

/// Appends the decoded string.
pub(super) fn decode(coded: &[u8], text: &mut Vec<u8>) -> Result<(), Undecodable> {
    // No code is shorter than five bits.
    text.reserve(coded.len() * 8 / 5);
    let (mut state, mut failed) = (0, 0);
    for &byte in coded {
        for half in [byte >> 4, byte & 0x0f] {
            let step = MACHINE.steps[usize::from(state)][usize::from(half)];
            if step.flags & EMITS != 0 {
                text.push(step.symbol);
            }
            failed |= step.flags & FAILS;
            state = step.state;
        }
    }
    if failed != 0 {
        return Err(Undecodable("huffman string holds the end symbol"));
    }
    if !MACHINE.may_end[usize::from(state)] {
        return Err(Undecodable("huffman string ends in more or other padding than up to seven one bits"));
    }
    Ok(())
}

/// The slow, obvious twin, for tests.
#[cfg(test)]
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let bits: Vec<u32> = text
        .iter()
        .flat_map(|&symbol| {
            let symbol = usize::from(symbol);
            (0..CODE_BITS[symbol]).rev().map(move |bit| CODES[symbol] >> bit & 1)
        })
        .collect();
    bits.chunks(8).map(|chunk| (0..8).fold(0, |byte, at| byte << 1 | *chunk.get(at).unwrap_or(&1) as u8)).collect()
}
