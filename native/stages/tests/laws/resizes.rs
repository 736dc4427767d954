//! Images in other sizes, against Pillow and by hand.

use serde_json::{Value, json};
use servekit_core::{Reason, Tensor};

use crate::rows::{blamed, difference, element, file, image, stage};

fn resized(options: &Value, row: Tensor) -> (Tensor, [f32; 4]) {
    let mut outputs = stage("resize", options).run(&[row]).unwrap();
    let placement = outputs.pop().unwrap();
    let (numbers, _) = placement.data.as_chunks();
    let numbers: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    (outputs.pop().unwrap(), numbers.try_into().unwrap())
}

/// An image whose pixel in row y and column x is (x, y, 7).
fn grid(width: u8, height: u8) -> Tensor {
    let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x, y, 7]));
    image(height.into(), width.into(), 3, pixels.collect())
}

#[test]
fn filters_give_the_pixels_that_pillow_gives() {
    let source = stage("decode_image", &json!({})).run(&[element(&file("colours.png"))]).unwrap().remove(0);
    for filter in ["nearest", "bilinear", "bicubic", "lanczos"] {
        for (width, height) in [(20, 13), (60, 44)] {
            let options = json!({"width": width, "height": height, "filter": filter});
            let (image, placement) = resized(&options, source.clone());
            assert_eq!(image.shape.as_slice(), [height, width, 3]);
            assert_eq!(placement, [0.0, 0.0, width as f32 / 48.0, height as f32 / 32.0]);
            let (mean, most) = difference(&image.data, &file(&format!("{filter}-{width}x{height}.rgb")));
            // Where a point lies exactly between two pixels, either is the nearest.
            let is_same = if filter == "nearest" { mean < 1.0 } else { most <= 2 && mean < 0.5 };
            assert!(is_same, "{filter} to {width} x {height}: {mean} on average, {most} at most");
        }
    }
}

#[test]
fn without_antialias_a_smaller_image_is_sampled_at_its_points() {
    // A board of single black and white pixels: averaged it is grey, sampled at a pixel's middle it is not.
    let board = (0..27 * 27).map(|index| if index % 2 == 0 { 255 } else { 0 }).collect();
    let board = image(27, 27, 1, board);
    let (smooth, _) = resized(&json!({"width": 3, "height": 3}), board.clone());
    assert!(smooth.data.iter().all(|level| (110..=145).contains(level)), "{:?}", smooth.data);
    let (sampled, _) = resized(&json!({"width": 3, "height": 3, "antialias": false}), board);
    assert!(sampled.data.iter().all(|level| *level < 10 || *level > 245), "{:?}", sampled.data);
}

#[test]
fn the_same_size_is_the_same_image() {
    for fit in ["exact", "crop", "letterbox"] {
        let (image, placement) = resized(&json!({"width": 9, "height": 5, "fit": fit}), grid(9, 5));
        assert_eq!((image, placement), (grid(9, 5), [0.0, 0.0, 1.0, 1.0]), "{fit}");
    }
}

#[test]
fn a_crop_is_the_middle_of_the_picture() {
    let options = json!({"width": 4, "height": 4, "fit": "crop", "filter": "nearest"});
    let (wide, placement) = resized(&options, grid(10, 4));
    assert_eq!(wide.shape.as_slice(), [4, 4, 3]);
    assert_eq!(placement, [-3.0, 0.0, 1.0, 1.0]);
    assert_eq!((&wide.data[..3], &wide.data[45..]), (&[3, 0, 7][..], &[6, 3, 7][..]));
    let (tall, placement) = resized(&options, grid(4, 10));
    assert_eq!((&tall.data[..3], placement), (&[0, 3, 7][..], [0.0, -3.0, 1.0, 1.0]));
}

#[test]
fn a_crop_scales_the_shorter_side_first_where_asked() {
    let options = json!({"width": 4, "height": 4, "fit": "crop", "shortest": 8, "filter": "nearest"});
    let (image, placement) = resized(&options, grid(10, 4));
    // 10 x 4 becomes 20 x 8, of which columns 8 to 11 and rows 2 to 5 are left.
    assert_eq!(placement, [-8.0, -2.0, 2.0, 2.0]);
    assert_eq!(&image.data[..6], [4, 1, 7, 4, 1, 7]);
}

#[test]
fn a_letterbox_shows_all_of_the_picture_amid_the_fill() {
    let options = json!({"width": 8, "height": 8, "fit": "letterbox", "fill": 114, "filter": "nearest"});
    let (wide, placement) = resized(&options, grid(8, 3));
    assert_eq!(placement, [0.0, 2.0, 1.0, 1.0]);
    let rows: Vec<&[u8]> = wide.data.chunks_exact(24).collect();
    for row in [0, 1, 5, 6, 7] {
        assert_eq!(rows[row], [114; 24], "{row}");
    }
    assert_eq!(rows[2..5].concat(), grid(8, 3).data);
    let options = json!({"width": 8, "height": 8, "fit": "letterbox", "fill": [1, 2, 3], "filter": "nearest"});
    let (tall, placement) = resized(&options, grid(2, 4));
    assert_eq!(placement, [2.0, 0.0, 2.0, 2.0]);
    assert_eq!((&tall.data[..6], &tall.data[6..9]), (&[1, 2, 3, 1, 2, 3][..], &[0, 0, 7][..]));
}

#[test]
fn grey_images_and_those_with_a_fourth_channel_are_resized_as_they_are() {
    for channels in [1, 4] {
        let row = image(6, 6, channels, vec![200; 36 * channels as usize]);
        let (image, _) = resized(&json!({"width": 3, "height": 2}), row);
        assert_eq!(
            (image.shape.as_slice(), image.data.to_vec()),
            (&[2, 3, channels][..], vec![200; 6 * channels as usize])
        );
    }
}

#[test]
fn an_image_that_would_grow_out_of_bounds_on_its_way_is_refused() {
    let strip = image(30_000, 1, 1, vec![0; 30_000]);
    for options in [
        json!({"width": 8, "height": 8, "fit": "crop"}),
        json!({"width": 64, "height": 8}),
        json!({"width": 8, "height": 8, "fit": "crop", "shortest": 16_000}),
    ] {
        let refusal = stage("resize", &options).run(std::slice::from_ref(&strip)).unwrap_err();
        assert!(blamed(&refusal).contains("1 x 30000"), "{refusal}");
    }
}

#[test]
fn what_is_no_image_is_refused() {
    let stage = stage("resize", &json!({"width": 2, "height": 2}));
    for row in [
        image(2, 2, 3, vec![0; 11]),
        image(2, 2, 2, vec![0; 8]),
        image(0, 2, 3, vec![]),
        image(-2, -2, 1, vec![0; 4]),
        image(i64::MAX, i64::MAX, 3, vec![]),
        Tensor { shape: [4, 3].into_iter().collect(), ..image(2, 2, 3, vec![0; 12]) },
    ] {
        assert_eq!(stage.run(&[row]).unwrap_err().reason, Reason::ShapeMismatch);
    }
    assert_eq!(stage.run(&[element(b"x")]).unwrap_err().reason, Reason::DatatypeMismatch);
    assert_eq!(stage.run(&[]).unwrap_err().reason, Reason::ShapeMismatch);
}
