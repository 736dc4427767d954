//! How far two runs of the same row may lie apart and still be the same answer. The only place where that is decided.
//!
//! A batch of another size may use other kernels, and these add up in another order. Each addition rounds by at most
//! half of the type's `epsilon`; the errors of k additions are independent, so they grow like a random walk, to about
//! `sqrt(k) * epsilon` of the largest value, and two orders of the same sum differ by as much. The longest sums of real
//! models have some 65,536 terms (a flattened image into a dense layer): 256 epsilon. Layers follow one another and pass
//! errors on: a factor of 4, as of 16 layers, again as a random walk. So FP32 and FP64 may differ by 1,024 epsilon.
//!
//! FP16 and BF16 are summed up in FP32 and rounded once a layer: only the layers count, and with 64 of them that is
//! 8 epsilon. A model that keeps weights of such a type rounds like it, whatever its outputs are declared as.
//!
//! Differences are measured against the largest value of the output, not against each element: an element near zero
//! comes from terms as large as its neighbours'. Integers, booleans and strings have no rounding: they are the same or
//! not. NaN equals NaN, and infinities equal themselves.
//!
//! A model may magnify rounding, say by a softmax over huge scores. That is judged by experiment (see `proof`), with
//! the tolerance as the size of the experiment: a run that rounds otherwise is a run of slightly other inputs. Whole
//! numbers cannot be changed slightly; there [`MAGNIFIED_MAX`] takes the experiment's place.

use servekit_core::{Datatype, Tensor};

/// Share of the largest value by which an answer may depend on the size of its batch where no neighbour matters, bit for
/// bit, and the inputs cannot be changed slightly. Found with a published model of text files: 0.007. What a model
/// really makes of a size, say by dividing by it, is far larger: a half between one row and two.
pub(crate) const MAGNIFIED_MAX: f64 = 1.0 / 32.0;

/// Share of the largest value by which two runs may differ; zero for types that do not round. `coarsest` is the least
/// exact floating type that the model computes with.
pub(crate) fn relative(output: Datatype, coarsest: Option<Datatype>) -> f64 {
    let of_type = of(output);
    if of_type == 0.0 { 0.0 } else { coarsest.map_or(of_type, |coarsest| of(coarsest).max(of_type)) }
}

fn of(datatype: Datatype) -> f64 {
    const SUMS: f64 = 1024.0;
    const LAYERS: f64 = 8.0;
    match datatype {
        Datatype::Fp64 => SUMS * f64::EPSILON,
        Datatype::Fp32 => SUMS * f64::from(f32::EPSILON),
        Datatype::Fp16 => LAYERS / 1024.0,
        Datatype::Bf16 => LAYERS / 128.0,
        _ => 0.0,
    }
}

/// Largest difference between elements of two tensors: zero where all are equal, infinite where they differ in more
/// than the size of numbers.
pub(crate) fn difference(expected: &Tensor, found: &Tensor) -> f64 {
    if expected.shape != found.shape || expected.datatype != found.datatype {
        return f64::INFINITY;
    }
    if expected.data == found.data {
        return 0.0;
    }
    let (Some(left), Some(right)) = (numbers(expected), numbers(found)) else { return f64::INFINITY };
    let apart = |(left, right): (f64, f64)| match (left - right).abs() {
        _ if left == right || left.is_nan() && right.is_nan() => 0.0,
        apart if apart.is_nan() => f64::INFINITY,
        apart => apart,
    };
    left.zip(right).map(apart).fold(0.0, f64::max)
}

/// Largest finite value; zero where there is none, or the type does not round.
pub(crate) fn magnitude(tensor: &Tensor) -> f64 {
    let Some(numbers) = numbers(tensor) else { return 0.0 };
    numbers.map(f64::abs).filter(|number| number.is_finite()).fold(0.0, f64::max)
}

/// A difference as a share of a magnitude.
pub(crate) fn share(difference: f64, magnitude: f64) -> f64 {
    if difference == 0.0 { 0.0 } else { difference / magnitude }
}

/// The elements of a tensor of a type that rounds.
fn numbers(tensor: &Tensor) -> Option<Box<dyn Iterator<Item = f64> + '_>> {
    let data = &tensor.data;
    Some(match tensor.datatype {
        Datatype::Fp64 => Box::new(data.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes))),
        Datatype::Fp32 => Box::new(data.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)))),
        Datatype::Fp16 => Box::new(data.as_chunks().0.iter().map(|bytes| from_fp16(u16::from_le_bytes(*bytes)))),
        Datatype::Bf16 => Box::new(data.as_chunks().0.iter().map(|bytes| from_bf16(u16::from_le_bytes(*bytes)))),
        _ => return None,
    })
}

/// The value of a binary16.
fn from_fp16(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2_f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
    }
}

fn from_bf16(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

#[cfg(test)]
mod tests {
    use servekit_testing::{byte_strings, fp32, tensor};

    use super::*;

    #[test]
    fn equal_values_differ_by_nothing() {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0];
        let other = [-f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0];
        assert_eq!(difference(&fp32(&[4], &odd), &fp32(&[4], &other)), 0.0);
        assert_eq!(magnitude(&fp32(&[4], &odd)), 0.0);
        assert_eq!(share(0.0, 0.0), 0.0);
    }

    #[test]
    fn what_differs_in_kind_is_infinitely_apart() {
        let one = fp32(&[1], &[1.0]);
        for other in [fp32(&[1], &[f32::NAN]), fp32(&[1], &[f32::INFINITY]), fp32(&[1, 1], &[1.0])] {
            assert_eq!(difference(&one, &other), f64::INFINITY);
        }
        assert_eq!(difference(&byte_strings(&[1], &[b"a"]), &byte_strings(&[1], &[b"b"])), f64::INFINITY);
        let numbers = [1_u8, 2].map(|number| tensor(Datatype::Uint8, &[1], vec![number]));
        assert_eq!(difference(&numbers[0], &numbers[1]), f64::INFINITY);
        assert_eq!(share(1e-30, 0.0), f64::INFINITY);
    }

    #[test]
    fn differences_are_of_the_values_in_every_type_that_rounds() {
        let halves = |bits: [u16; 2]| bits.into_iter().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        // 1.0 and 1.5 against 1.0 and -2.0; the smallest binary16.
        let left = tensor(Datatype::Fp16, &[2], halves([0x3c00, 0x3e00]));
        let right = tensor(Datatype::Fp16, &[2], halves([0x3c00, 0xc000]));
        assert_eq!((difference(&left, &right), magnitude(&right)), (3.5, 2.0));
        let left = tensor(Datatype::Bf16, &[2], halves([0x3f80, 0x3fc0]));
        let right = tensor(Datatype::Bf16, &[2], halves([0x3f80, 0xc000]));
        assert_eq!((difference(&left, &right), magnitude(&right)), (3.5, 2.0));
        assert_eq!(from_fp16(1), 2_f64.powi(-24));
        assert_eq!((from_fp16(0xfc00), from_fp16(0x7e00).is_nan()), (f64::NEG_INFINITY, true));
        assert_eq!(difference(&fp32(&[2], &[3.0, 1.0]), &fp32(&[2], &[2.0, 1.5])), 1.0);
    }

    #[test]
    fn coarser_types_may_differ_more_and_exact_ones_not_at_all() {
        let mut last = 0.0;
        for datatype in [Datatype::Int64, Datatype::Fp64, Datatype::Fp32, Datatype::Fp16, Datatype::Bf16] {
            let found = relative(datatype, None);
            assert!(found > last || datatype == Datatype::Int64, "{datatype}");
            last = found;
        }
        assert_eq!(relative(Datatype::Fp32, Some(Datatype::Fp16)), relative(Datatype::Fp16, None));
        assert_eq!(relative(Datatype::Int64, Some(Datatype::Fp16)), 0.0);
        assert_eq!(relative(Datatype::Bytes, None), 0.0);
    }
}
