//! Padding against its naive twin.

use servekit_core::{Datatype, Inputs, Shape, Tensor, element_count};

use super::*;
use crate::lane::Part;

/// A tensor of 2-byte elements that are told apart by their number; none is zero.
fn tensor(shape: &[i64], from: u16) -> Tensor {
    let count = element_count(shape).expect("small") as u16;
    let data: Vec<u8> = (1..=count).flat_map(|number| (from + number).to_le_bytes()).collect();
    Tensor { datatype: Datatype::Uint16, shape: shape.into(), data: data.into() }
}

/// What each place of the padded batch holds, element by element.
fn expected(tensors: &[Tensor], axis: usize, length: i64, pad: u16) -> Vec<u8> {
    let mut padded = Vec::new();
    for tensor in tensors {
        let mut shape = tensor.shape.clone();
        shape[axis] = length;
        for number in 0..element_count(&shape).expect("small") as i64 {
            let (mut rest, mut place, mut stride, mut is_own) = (number, 0, 1, true);
            for at in (0..shape.len()).rev() {
                let position = rest % shape[at];
                rest /= shape[at];
                is_own &= position < tensor.shape[at];
                place += position * stride;
                stride *= tensor.shape[at];
            }
            let own = place as usize * 2;
            match is_own {
                true => padded.extend_from_slice(&tensor.data[own..own + 2]),
                false => padded.extend_from_slice(&pad.to_le_bytes()),
            }
        }
    }
    padded
}

#[test]
fn any_axis_of_any_rank_is_padded_as_element_by_element() {
    let table: [(&[i64], usize); 7] = [
        (&[2, 0], 1),
        (&[1, 0, 3], 1),
        (&[2, 3, 0], 2),
        (&[3, 2, 0, 2], 2),
        (&[1, 1, 2, 1, 2, 1, 2, 0], 7),
        (&[2, 0, 1, 2, 1, 2, 1, 2], 1),
        (&[2, 0, 0], 1),
    ];
    for (shape, axis) in table {
        for pad in [0_u16, 1, 0x0101, 0xfffe] {
            let sized = |(number, length): (usize, i64)| {
                let mut shape = Shape::from_slice(shape);
                shape[axis] = length;
                tensor(&shape, number as u16 * 100)
            };
            let tensors: Vec<Tensor> = [2, 5, 0, 1, 5].into_iter().enumerate().map(sized).collect();
            let inputs: Vec<Inputs> = tensors.iter().map(|it| [Some(it.clone())].into_iter().collect()).collect();
            let part = |inputs| Part { inputs, rows: shape[0] as usize, is_whole: true };
            let parts: Vec<Part<'_>> = inputs.iter().map(part).collect();
            let mut element = [0; 8];
            element[..2].copy_from_slice(&pad.to_le_bytes());
            let padding = Pad { axis, element };
            assert_eq!(padding.longest(&parts, 0), Some(5));
            assert_eq!(padding.longest(&parts[..1], 0), None);
            let mut whole = tensors[1].shape.clone();
            whole[0] *= tensors.len() as i64;
            let expected = expected(&tensors, axis, 5, pad);
            let mut target = vec![0xaa; expected.len()];
            padding.gather(&parts, 0, &whole, &mut target).expect("they fit");
            assert_eq!(target, expected, "{shape:?} {axis} {pad:x}");
        }
    }
}

#[test]
fn portions_that_lie_touch_no_memory() {
    let inputs = |shape: &[i64]| -> Inputs { [Some(tensor(shape, 0))].into_iter().collect() };
    let (short, long, wide) = (inputs(&[1, 2, 3]), inputs(&[1, 4, 3]), inputs(&[1, 4, 4]));
    let gather = |portions: &[(&Inputs, usize)]| {
        let part = |&(inputs, rows): &(_, usize)| Part { inputs, rows, is_whole: true };
        let parts: Vec<Part<'_>> = portions.iter().map(part).collect();
        Pad { axis: 1, element: [0; 8] }.gather(&parts, 0, &[2, 4, 3], &mut [0; 48])
    };
    assert!(gather(&[(&short, 1), (&long, 1)]).is_ok());
    assert!(gather(&[(&short, 1), (&wide, 1)]).is_err(), "another size behind the axis");
    assert!(gather(&[(&short, 2), (&long, 1)]).is_err(), "fewer bytes than rows");
    assert!(gather(&[(&short, 0), (&long, 1)]).is_err(), "more bytes than rows");
    assert!(gather(&[(&short, 1)]).is_err(), "fewer rows than told");
    assert!(gather(&[(&short, 1), (&long, 1), (&long, 1)]).is_err(), "more rows than told");
}
