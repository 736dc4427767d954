//! What comes out of image files, against what Pillow makes of them.

use serde_json::json;
use servekit_core::Tensor;
use servekit_stages::{Buffers, View};

use crate::rows::{LIMITS, difference, element, file, stage};

fn decoded(name: &str, options: &serde_json::Value) -> Tensor {
    stage("decode_image", options).run(&[element(&file(name))]).unwrap().remove(0)
}

#[test]
fn lossless_files_give_the_very_pixels_that_pillow_gives() {
    for name in [
        "colours.png",
        "palette.png",
        "transparent.png",
        "sixteen.png",
        "lossless.webp",
        "transparent.webp",
        "animated.webp",
    ] {
        let image = decoded(name, &json!({}));
        assert_eq!(image.shape.as_slice(), [32, 48, 3], "{name}");
        assert_eq!(difference(&image.data, &file(&format!("{name}.rgb"))), (0.0, 0), "{name}");
    }
    for name in ["grey.png", "bits.png"] {
        let image = decoded(name, &json!({"mode": "gray"}));
        assert_eq!(image.shape.as_slice(), [32, 48, 1], "{name}");
        assert_eq!(difference(&image.data, &file(&format!("{name}.gray"))), (0.0, 0), "{name}");
    }
}

#[test]
fn lossy_files_give_the_pixels_that_pillow_gives_within_its_rounding() {
    // Mean and farthest difference of a level out of 255. Decoders may round as they like, and smooth colours of half
    // the resolution as they like.
    for (name, mean_max, farthest) in [
        ("baseline.jpg", 0.5, 3),
        ("progressive.jpg", 0.5, 3),
        ("subsampled.jpg", 1.0, 12),
        ("cmyk.jpg", 0.5, 3),
        ("turned.jpg", 0.5, 3),
        ("lossy.webp", 0.5, 4),
    ] {
        let image = decoded(name, &json!({}));
        let (mean, most) = difference(&image.data, &file(&format!("{name}.rgb")));
        assert!(mean <= mean_max && most <= farthest, "{name}: {mean} on average, {most} at most");
    }
    let (_, most) = difference(&decoded("grey.jpg", &json!({"mode": "gray"})).data, &file("grey.jpg.gray"));
    assert!(most <= 2, "{most}");
}

#[test]
fn a_picture_is_turned_as_its_camera_was_held() {
    for number in 2..=8 {
        let name = format!("turned{number}.png");
        let image = decoded(&name, &json!({}));
        let expected = if number >= 5 { [20, 12, 3] } else { [12, 20, 3] };
        assert_eq!(image.shape.as_slice(), expected, "{name}");
        assert_eq!(difference(&image.data, &file(&format!("{name}.rgb"))), (0.0, 0), "{name}");
    }
    assert_eq!(decoded("turned6.png", &json!({"orientation": false})).shape.as_slice(), [12, 20, 3]);
}

#[test]
fn exif_data_behind_the_pixels_counts_too() {
    let whole = file("turned6.png");
    let at = |kind: &[u8]| whole.windows(4).position(|window| window == kind).unwrap() - 4;
    let (exif, pixels, end) = (at(b"eXIf"), at(b"IDAT"), at(b"IEND"));
    let moved = [&whole[..exif], &whole[pixels..end], &whole[exif..pixels], &whole[end..]].concat();
    let image = stage("decode_image", &json!({})).run(&[element(&moved)]).unwrap().remove(0);
    assert_eq!(image, decoded("turned6.png", &json!({})));
}

#[test]
fn channels_come_in_the_order_asked_for() {
    let rgb = decoded("baseline.jpg", &json!({}));
    let bgr = decoded("baseline.jpg", &json!({"mode": "bgr"}));
    for (rgb, bgr) in rgb.data.chunks_exact(3).zip(bgr.data.chunks_exact(3)) {
        assert_eq!([rgb[0], rgb[1], rgb[2]], [bgr[2], bgr[1], bgr[0]]);
    }
}

#[test]
fn grey_is_the_weighted_sum_of_the_colours_whatever_the_file() {
    for name in ["baseline.jpg", "cmyk.jpg", "colours.png", "lossless.webp", "transparent.png"] {
        let rgb = decoded(name, &json!({}));
        let gray = decoded(name, &json!({"mode": "gray"}));
        let weighted = |pixel: &[u8]| {
            (0.299 * f64::from(pixel[0]) + 0.587 * f64::from(pixel[1]) + 0.114 * f64::from(pixel[2])).round() as u8
        };
        let expected: Vec<u8> = rgb.data.chunks_exact(3).map(weighted).collect();
        // A JPEG holds its own grey, from before its colours were rounded to levels and cut off at 0 and 255.
        let (mean, most) = difference(&gray.data, &expected);
        assert!(mean < 0.5 && most <= 4, "{name}: {mean} on average, {most} at most");
    }
}

#[test]
fn a_grey_file_gives_three_equal_channels_where_colours_are_asked_for() {
    for name in ["grey.jpg", "grey.png"] {
        let image = decoded(name, &json!({}));
        assert_eq!(image.shape.as_slice(), [32, 48, 3]);
        assert!(image.data.chunks_exact(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]), "{name}");
    }
}

#[test]
fn a_background_shows_where_the_picture_does_not() {
    for name in ["transparent.png", "transparent.webp"] {
        let plain = decoded(name, &json!({}));
        let laid = decoded(name, &json!({"background": [255, 0, 100]}));
        // The pictures are transparent at their left edge and opaque at their right one.
        for (plain, laid) in plain.data.chunks_exact(48 * 3).zip(laid.data.chunks_exact(48 * 3)) {
            assert_eq!(laid[..3], [255, 0, 100], "{name}");
            assert_eq!(laid[47 * 3..], plain[47 * 3..], "{name}");
        }
    }
}

#[test]
fn memory_is_used_again_and_the_row_before_does_not_show() {
    let stage = stage("decode_image", &json!({}));
    let mut buffers = Buffers::default();
    let files = ["colours.png", "turned6.png", "transparent.png", "baseline.jpg"].map(|name| element(&file(name)));
    let alone: Vec<Tensor> = files.iter().map(|row| stage.run(std::slice::from_ref(row)).unwrap().remove(0)).collect();
    for round in 0..3 {
        for (row, alone) in files.iter().zip(&alone) {
            stage.run_into(&[View::from(row)], &mut buffers).unwrap();
            let [output] = buffers.outputs() else { panic!("one output") };
            assert!((&output.shape, &output.data[..]) == (&alone.shape, &alone.data[..]), "{round}");
        }
    }
    let kept = buffers.outputs()[0].data.as_ptr();
    stage.run_into(&[View::from(&files[0])], &mut buffers).unwrap();
    assert_eq!(buffers.outputs()[0].data.as_ptr(), kept);
    buffers.trim(usize::MAX);
    assert_eq!(buffers.outputs().len(), 1);
    buffers.trim(LIMITS.text_bytes_max as usize);
    assert!(buffers.outputs().is_empty());
}
