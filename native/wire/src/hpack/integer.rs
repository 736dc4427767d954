//! Integers with a prefix of some bits (RFC 7541, section 5.1).

use super::Undecodable;

/// Bytes after the prefix: five hold any value of 32 bits, and more could only pad.
const MORE_BYTES_MAX: usize = 5;

/// Takes an integer off the front of `block`, whose first byte holds its lowest `prefix_bits` bits.
pub(super) fn take(block: &mut &[u8], prefix_bits: u32) -> Result<usize, Undecodable> {
    let full = (1_u64 << prefix_bits) - 1;
    let (&first, mut rest) = block.split_first().ok_or(CUT_SHORT)?;
    let mut value = u64::from(first) & full;
    if value == full {
        let mut shift = 0;
        loop {
            let (&next, after) = rest.split_first().ok_or(CUT_SHORT)?;
            rest = after;
            value += u64::from(next & 0x7f) << shift;
            if next & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift >= 7 * MORE_BYTES_MAX as u32 {
                return Err(TOO_LARGE);
            }
        }
    }
    *block = rest;
    u32::try_from(value).map(|value| value as usize).map_err(|_| TOO_LARGE)
}

/// Appends an integer; `first` holds the bits of the first byte above the prefix.
pub(super) fn put(buffer: &mut Vec<u8>, first: u8, prefix_bits: u32, value: usize) {
    let full = (1_usize << prefix_bits) - 1;
    if value < full {
        buffer.push(first | value as u8);
        return;
    }
    buffer.push(first | full as u8);
    let mut rest = value - full;
    while rest >= 0x80 {
        buffer.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    buffer.push(rest as u8);
}

const CUT_SHORT: Undecodable = Undecodable("header block ends inside a field");
const TOO_LARGE: Undecodable = Undecodable("integer of a header block does not fit into 32 bits");
