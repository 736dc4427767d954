use super::*;

/// EXIF data with one entry: the orientation.
fn exif(is_little: bool, number: u16) -> Vec<u8> {
    let short = |value: u16| if is_little { value.to_le_bytes() } else { value.to_be_bytes() };
    let long = |value: u32| if is_little { value.to_le_bytes() } else { value.to_be_bytes() };
    let start = if is_little { *b"II*\0" } else { *b"MM\0*" };
    let entry = [&short(0x0112)[..], &short(3), &long(1), &short(number), &[0, 0]].concat();
    [&start[..], &long(8), &short(1), &entry].concat()
}

#[test]
fn both_orders_of_bytes_are_read_with_and_without_the_name_in_front() {
    for number in 1..=8 {
        for is_little in [true, false] {
            let exif = exif(is_little, number);
            assert_eq!(Orientation::of_exif(&exif), Orientation(number as u8));
            assert_eq!(Orientation::of_exif(&[b"Exif\0\0", &exif[..]].concat()), Orientation(number as u8));
        }
    }
}

#[test]
fn what_makes_no_sense_is_upright() {
    for number in [0, 9, 256, u16::MAX] {
        assert!(Orientation::of_exif(&exif(true, number)).is_upright());
    }
    let whole = exif(true, 6);
    for length in 0..whole.len() - 2 {
        assert!(Orientation::of_exif(&whole[..length]).is_upright(), "{length}");
    }
    let mut far = whole;
    far[4..8].fill(0xff);
    assert!(Orientation::of_exif(&far).is_upright());
}

#[test]
fn a_walk_meets_every_pixel_once() {
    let (width, height) = (5_u32, 3_u32);
    for number in 1..=8 {
        let orientation = Orientation(number);
        let walk = orientation.walk(width as usize, height as usize);
        let (shown_width, shown_height) = orientation.size(width, height);
        let at = |x: u32, y: u32| walk.start as isize + x as isize * walk.right + y as isize * walk.down;
        let mut met: Vec<isize> =
            (0..shown_height).flat_map(|y| (0..shown_width).map(move |x| (x, y))).map(|(x, y)| at(x, y)).collect();
        met.sort_unstable();
        assert!(met.into_iter().eq(0..15), "{number}");
    }
}
