//! Made-up rows of any length, apt to show what padding changes: signs that agree, masks with holes, ends that repeat.

use servekit_core::{Datatype, Inputs, Tensor};

use super::Roles;
use crate::signature::Port;
use crate::values::{Kind, Values};

/// A way of making a row up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shade {
    /// Usual values, all positions shown.
    Usual,
    /// Nothing above zero: a zero behind it would be the greatest. Holes in the mask.
    Below,
    /// Nothing below zero: a zero behind it would be the least.
    Above,
    /// Small values; only the last position is shown.
    Small,
    /// Large values.
    Large,
    /// Only ones; the first half is shown, as if the caller had padded.
    Ones,
    /// Only zeros; only the first position is shown.
    Zeros,
}

impl Shade {
    pub(super) const ALL: [Self; 7] =
        [Self::Usual, Self::Below, Self::Large, Self::Zeros, Self::Above, Self::Small, Self::Ones];

    fn kind(self) -> Kind {
        match self {
            Self::Usual | Self::Below | Self::Above => Kind::Usual,
            Self::Small => Kind::Small,
            Self::Large => Kind::Large,
            Self::Ones => Kind::Ones,
            Self::Zeros => Kind::Zeros,
        }
    }

    /// Whether a mask shows this position of so many; it shows at least one.
    fn shows(self, position: usize, length: usize) -> bool {
        match self {
            Self::Usual | Self::Above | Self::Large => true,
            Self::Below => position % 3 != 1,
            Self::Small => position + 1 == length,
            Self::Ones => position < length.div_ceil(2),
            Self::Zeros => position == 0,
        }
    }
}

/// Makes rows up for one model.
pub(super) struct Rows<'a> {
    pub(super) values: &'a Values<'a>,
    pub(super) ports: &'a [Port],
    /// Of each input its axis of the length.
    pub(super) axes: &'a [Option<usize>],
    /// Of each input whether the model takes whole numbers below zero.
    pub(super) takes_negatives: Vec<bool>,
    /// Rows larger than this are not made.
    pub(super) bytes_max: u64,
}

impl Rows<'_> {
    /// One row; `None` where it is larger than allowed.
    pub(super) fn row(&self, length: usize, shade: Shade, roles: &Roles) -> Option<Inputs> {
        self.made(length, shade, roles, &|position| shade.shows(position, length))
    }

    /// A row whose masks hide all of it.
    pub(super) fn hidden(&self, length: usize, shade: Shade, roles: &Roles) -> Option<Inputs> {
        self.made(length, shade, roles, &|_| false)
    }

    fn made(&self, length: usize, shade: Shade, roles: &Roles, shows: &dyn Fn(usize) -> bool) -> Option<Inputs> {
        let shapes = self.values.shapes(i64::try_from(length).ok()?, self.bytes_max)?;
        let mut row = self.values.row(&shapes, shade.kind(), length as u64 * 2);
        for (index, (tensor, port)) in row.iter_mut().zip(self.ports).enumerate() {
            let Some(tensor) = tensor else { continue };
            match (roles.hides(index), self.axes[index]) {
                (Some(hides), Some(axis)) => *tensor = masked(tensor, axis, hides, shows),
                _ if !matches!(shade, Shade::Below | Shade::Above) => {}
                _ if is_float(port.spec.datatype) => *tensor = signed(tensor, shade == Shade::Below),
                _ if shade == Shade::Below && self.takes_negatives[index] => *tensor = negative(tensor),
                _ => {}
            }
        }
        Some(row)
    }
}

pub(super) fn is_float(datatype: Datatype) -> bool {
    matches!(datatype, Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64)
}

/// Whole numbers with a sign.
pub(super) fn is_signed(datatype: Datatype) -> bool {
    matches!(datatype, Datatype::Int8 | Datatype::Int16 | Datatype::Int32 | Datatype::Int64)
}

/// Zero or one of this type, in as many of the bytes as it has.
pub(super) fn element(datatype: Datatype, is_one: bool) -> [u8; 8] {
    let mut bytes = [0; 8];
    let one: &[u8] = match datatype {
        Datatype::Fp16 => &[0x00, 0x3c],
        Datatype::Bf16 => &[0x80, 0x3f],
        Datatype::Fp32 => &[0, 0, 0x80, 0x3f],
        Datatype::Fp64 => &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f],
        _ => &[1],
    };
    if is_one {
        bytes[..one.len()].copy_from_slice(one);
    }
    bytes
}

/// A mask of the same shape that hides by ones or by zeros.
fn masked(tensor: &Tensor, axis: usize, hides_by_one: bool, shows: &dyn Fn(usize) -> bool) -> Tensor {
    let size = tensor.datatype.element_bytes().unwrap_or(1);
    let length = tensor.shape.get(axis).map_or(1, |&length| length.max(1) as usize);
    let inner = tensor.shape[axis + 1..].iter().product::<i64>().max(1) as usize;
    let elements = [element(tensor.datatype, hides_by_one), element(tensor.datatype, !hides_by_one)];
    let one = |number: usize| &elements[usize::from(shows(number / inner % length))][..size];
    let data: Vec<u8> = (0..tensor.data.len() / size).flat_map(one).copied().collect();
    Tensor { data: data.into(), ..tensor.clone() }
}

/// All floats at or below zero, or all at or above: their sign is the highest bit.
fn signed(tensor: &Tensor, is_below: bool) -> Tensor {
    let mut data = tensor.data.to_vec();
    for number in data.chunks_exact_mut(tensor.datatype.element_bytes().unwrap_or(1)) {
        if let Some(last) = number.last_mut() {
            *last = if is_below { *last | 0x80 } else { *last & 0x7f };
        }
    }
    Tensor { data: data.into(), ..tensor.clone() }
}

/// Each whole number turned into the one as far below -1 as it is above 0: all its bits turned.
pub(super) fn negative(tensor: &Tensor) -> Tensor {
    let data: Vec<u8> = tensor.data.iter().map(|byte| !byte).collect();
    Tensor { data: data.into(), ..tensor.clone() }
}
