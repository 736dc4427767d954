//! Made-up values: plausible ones, by what an input is called, its datatype and the table it picks from. The same at
//! every load, so that what is found once is found again.

use servekit_core::{Axis, Datatype, Inputs, Shape, Tensor, element_count};

use crate::scan::Clues;
use crate::signature::{Port, Signature};

/// A way of making a row up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Numbers around one, all of a table, short words.
    Usual,
    /// A thousandth of that, or the least whole numbers.
    Small,
    /// A thousand times that. Rows of odd seeds have the signs of even ones turned.
    Large,
    /// Nothing but ones: every value is a repeated one.
    Ones,
    /// Nothing but zeros.
    Zeros,
}

impl Kind {
    /// For texts.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Usual => "usual values",
            Self::Small => "small values",
            Self::Large => "large values",
            Self::Ones => "ones",
            Self::Zeros => "zeros",
        }
    }

    /// What floats are multiplied with.
    fn scale(self) -> f64 {
        match self {
            Self::Usual | Self::Ones => 1.0,
            Self::Small => 1e-3,
            Self::Large => 1e3,
            Self::Zeros => 0.0,
        }
    }
}

/// What an input is taken to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Any numbers, truth values or words.
    Numbers,
    /// Rows of a table of this many, if that is known.
    Indices(Option<i64>),
    /// One where a position counts, zero behind.
    Mask,
    /// How many positions count.
    Lengths,
    /// 0, 1, 2 ... along the last axis, below the table's rows.
    Positions(Option<i64>),
    /// Zero or one.
    Segments,
}

impl Role {
    fn of(port: &Port, clues: &Clues) -> Self {
        let name = port.spec.name.to_lowercase();
        let words: Vec<&str> = name.split(|letter: char| !letter.is_ascii_alphanumeric()).collect();
        let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(word));
        let table = clues.tables.get(port.spec.name.as_ref()).copied();
        let datatype = port.spec.datatype;
        if has(&["mask", "masks"]) && datatype != Datatype::Bytes {
            return Self::Mask;
        }
        if !is_whole(datatype) {
            return Self::Numbers;
        }
        if has(&["position", "positions", "pos"]) {
            return Self::Positions(table);
        }
        if has(&["type", "segment", "segments"]) {
            return Self::Segments;
        }
        if has(&["length", "lengths", "len", "lens"]) && table.is_none() {
            return Self::Lengths;
        }
        let is_index = has(&["id", "ids", "token", "tokens", "index", "indices", "idx"]);
        if is_index || table.is_some() { Self::Indices(table) } else { Self::Numbers }
    }
}

/// Makes rows up for one model.
pub(crate) struct Values<'a> {
    signature: &'a Signature,
    /// Of each input.
    roles: Vec<Role>,
    /// Whether the first axis counts rows; else one row is a whole request.
    counts_rows: bool,
}

impl<'a> Values<'a> {
    pub(crate) fn new(signature: &'a Signature, clues: &Clues, counts_rows: bool) -> Self {
        let roles = signature.inputs.iter().map(|port| Role::of(port, clues)).collect();
        Self { signature, roles, counts_rows }
    }

    /// The shapes of one row whose free axes have this size; `None` where it is larger than a batch may be.
    pub(crate) fn shapes(&self, size: i64, bytes_max: u64) -> Option<Vec<Shape>> {
        let size_of = |(index, axis): (usize, &Axis)| match axis {
            Axis::Fixed(size) => *size,
            Axis::Symbol(_) if index == 0 && self.counts_rows => 1,
            Axis::Symbol(_) => size,
        };
        let shape = |port: &Port| port.spec.axes.iter().enumerate().map(size_of).collect::<Shape>();
        let shapes: Vec<Shape> = self.signature.inputs.iter().map(shape).collect();
        let mut bytes_left = bytes_max;
        for (port, shape) in self.signature.inputs.iter().zip(&shapes).filter(|(port, _)| !port.spec.optional) {
            // A word takes about as much as a number, its length included.
            let element_bytes = port.spec.datatype.element_bytes().unwrap_or(8) as u64;
            bytes_left = bytes_left.checked_sub(element_count(shape)?.checked_mul(element_bytes)?)?;
        }
        Some(shapes)
    }

    /// One row of these shapes; inputs with a default are left out.
    pub(crate) fn row(&self, shapes: &[Shape], kind: Kind, seed: u64) -> Inputs {
        let length = self.length(shapes);
        let inputs = self.signature.inputs.iter().zip(&self.roles).zip(shapes).enumerate();
        let tensor = |(index, ((port, role), shape)): (usize, ((&Port, &Role), &Shape))| {
            // Large rows come in pairs that differ in their signs alone.
            let drawn = if kind == Kind::Large { seed / 2 } else { seed };
            let draw = Draw { kind, seed, length, random: drawn << 8 ^ (index as u64) << 40 ^ (kind as u64) << 56 };
            (!port.spec.optional).then(|| draw.tensor(*role, port.spec.datatype, shape))
        };
        inputs.map(tensor).collect()
    }

    /// Positions of a row: the shortest second axis.
    fn length(&self, shapes: &[Shape]) -> i64 {
        let inputs = self.roles.iter().zip(shapes).filter(|(role, _)| **role != Role::Lengths);
        inputs.filter_map(|(_, shape)| shape.get(1).copied()).min().unwrap_or(1)
    }
}

/// Whole numbers, booleans not among them.
fn is_whole(datatype: Datatype) -> bool {
    let others = [Datatype::Bool, Datatype::Fp16, Datatype::Bf16, Datatype::Fp32, Datatype::Fp64, Datatype::Bytes];
    !others.contains(&datatype)
}

/// Draws the elements of one input of one row.
struct Draw {
    kind: Kind,
    seed: u64,
    length: i64,
    /// State of the generator.
    random: u64,
}

impl Draw {
    fn tensor(mut self, role: Role, datatype: Datatype, shape: &Shape) -> Tensor {
        let count = element_count(shape).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        let width = shape.last().map_or(1, |&width| width.max(1) as usize);
        let mut data = Vec::with_capacity(count * datatype.element_bytes().unwrap_or(8));
        for index in 0..count {
            match (role, datatype) {
                (_, Datatype::Bytes) => self.word(&mut data),
                (Role::Numbers, Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64) => {
                    let number = self.float();
                    push_float(&mut data, datatype, number);
                }
                (Role::Numbers, Datatype::Bool) => data.push(u8::from(self.truth())),
                (role, _) => {
                    let number = self.whole(role, datatype, (index % width) as i64);
                    push_whole(&mut data, datatype, number);
                }
            }
        }
        Tensor { datatype, shape: shape.clone(), data: data.into() }
    }

    /// The next number of SplitMix64.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Away from zero, so that a scale is a scale.
    fn float(&mut self) -> f64 {
        if self.kind == Kind::Ones {
            return 1.0;
        }
        let size = 0.25 + 0.75 * (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        let is_turned = self.kind == Kind::Large && self.seed % 2 == 1;
        let sign = if (self.next() & 1 == 1) == is_turned { 1.0 } else { -1.0 };
        sign * size * self.kind.scale()
    }

    fn truth(&mut self) -> bool {
        match self.kind {
            Kind::Usual => self.next() & 1 == 1,
            Kind::Large | Kind::Ones => true,
            Kind::Small | Kind::Zeros => false,
        }
    }

    fn whole(&mut self, role: Role, datatype: Datatype, position: i64) -> i64 {
        let drawn = self.next() >> 1;
        let below = |bound: i64| (drawn % bound.max(1).unsigned_abs()).cast_signed();
        let length = self.length;
        match (role, self.kind) {
            (Role::Mask, kind) => i64::from(position < positions(kind, length, self.seed)),
            (Role::Lengths, kind) => positions(kind, length, self.seed),
            (Role::Positions(rows), _) => position.min(rows.unwrap_or(i64::MAX) - 1),
            (_, Kind::Zeros) => 0,
            (Role::Indices(Some(rows)), Kind::Ones) => 1.min(rows - 1),
            (_, Kind::Ones) => 1,
            (Role::Segments, Kind::Large) => 1,
            (Role::Segments, _) | (Role::Indices(None) | Role::Numbers, Kind::Small) => below(2),
            (Role::Indices(Some(rows)), Kind::Usual) => below(rows),
            (Role::Indices(Some(rows)), Kind::Small) => below(rows.min(2)),
            (Role::Indices(Some(rows)), Kind::Large) => rows - 1 - below(rows.min(4)),
            // Pictures use all of a byte.
            (Role::Numbers, Kind::Usual) if datatype == Datatype::Uint8 => below(256),
            (Role::Indices(None) | Role::Numbers, Kind::Usual) => below(10),
            (Role::Indices(None) | Role::Numbers, Kind::Large) => match datatype {
                Datatype::Int8 => 100 + below(28),
                Datatype::Uint8 => 200 + below(56),
                _ => 500 + below(500),
            },
        }
    }

    fn word(&mut self, data: &mut Vec<u8>) {
        const WORDS: [&str; 8] = ["red", "7", "", "blue", "42", "a", "Paris", "yes"];
        let drawn = self.next() as usize;
        let word = match self.kind {
            Kind::Usual => WORDS[drawn % WORDS.len()].to_owned(),
            Kind::Small => (drawn % 10).to_string(),
            Kind::Large => "a longer text ".repeat(20),
            Kind::Ones => "1".to_owned(),
            Kind::Zeros => String::new(),
        };
        data.extend_from_slice(&(word.len() as u32).to_le_bytes());
        data.extend_from_slice(word.as_bytes());
    }
}

/// How many positions of a row count.
fn positions(kind: Kind, length: i64, seed: u64) -> i64 {
    match kind {
        Kind::Usual if seed > 0 => (length * 3 / 4).max(1),
        Kind::Small => 1.min(length),
        Kind::Zeros => 0,
        _ => length,
    }
}

fn push_float(data: &mut Vec<u8>, datatype: Datatype, number: f64) {
    match datatype {
        Datatype::Fp64 => data.extend(number.to_le_bytes()),
        Datatype::Fp16 => data.extend(to_fp16(number).to_le_bytes()),
        Datatype::Bf16 => data.extend(&(number as f32).to_le_bytes()[2..]),
        _ => data.extend((number as f32).to_le_bytes()),
    }
}

fn push_whole(data: &mut Vec<u8>, datatype: Datatype, number: i64) {
    match datatype {
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => push_float(data, datatype, number as f64),
        _ => data.extend(&number.to_le_bytes()[..datatype.element_bytes().unwrap_or(1)]),
    }
}

/// The binary16 next to a number toward zero; numbers too small for a normal one become zero.
fn to_fp16(number: f64) -> u16 {
    let bits = (number as f32).to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let exponent = (bits >> 23 & 0xff) as i32 - 127 + 15;
    match exponent {
        ..=0 => sign,
        0x1f.. => sign | 0x7c00,
        _ => sign | (exponent as u16) << 10 | (bits >> 13 & 0x3ff) as u16,
    }
}

/// A row whose floats are each changed by a share of themselves, up or down; `None` where it has no floats.
pub(crate) fn nudged(row: &Inputs, share: f64, seed: u64) -> Option<Inputs> {
    let mut has_floats = false;
    let mut draw = Draw { kind: Kind::Usual, seed, length: 0, random: seed };
    let mut nudge = || if draw.next() & 1 == 1 { 1.0 + share } else { 1.0 - share };
    let mut of_tensor = |tensor: &Tensor| {
        let mut data = Vec::with_capacity(tensor.data.len());
        match tensor.datatype {
            Datatype::Fp32 => {
                for bytes in tensor.data.as_chunks().0 {
                    data.extend(((f64::from(f32::from_le_bytes(*bytes)) * nudge()) as f32).to_le_bytes());
                }
            }
            Datatype::Fp64 => {
                for bytes in tensor.data.as_chunks().0 {
                    data.extend((f64::from_le_bytes(*bytes) * nudge()).to_le_bytes());
                }
            }
            // The next number, up or down: no share is smaller.
            Datatype::Fp16 | Datatype::Bf16 => {
                for bytes in tensor.data.as_chunks().0 {
                    let up = nudge() > 1.0;
                    let bits = u16::from_le_bytes(*bytes);
                    let is_least = bits & 0x7fff == 0;
                    let next = if is_least { bits } else { bits.wrapping_add_signed(if up { 1 } else { -1 }) };
                    data.extend(next.to_le_bytes());
                }
            }
            _ => return tensor.clone(),
        }
        has_floats = true;
        Tensor { data: data.into(), ..tensor.clone() }
    };
    let row = row.iter().map(|tensor| tensor.as_ref().map(&mut of_tensor)).collect();
    has_floats.then_some(row)
}

#[cfg(test)]
mod tests;
