//! Files that are damaged, or lie. Whatever they hold, only their own row is refused.

use serde_json::json;
use servekit_core::{Reason, Refusal, Tensor};
use servekit_stages::{Buffers, Stage, View};

use crate::rows::{LIMITS, blamed, data, element, file, stage};

/// Every image that the other laws decode.
fn images() -> Vec<String> {
    let names = data("").read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .filter(|name| [".jpg", ".png", ".webp"].iter().any(|ending| name.ends_with(ending)))
        .filter(|name| {
            !["turned3", "turned4", "turned5", "turned6", "turned7"].iter().any(|other| name.starts_with(other))
        })
        .collect();
    names.sort();
    assert!(names.len() >= 16, "{names:?}");
    names
}

fn decoder() -> Box<dyn Stage> {
    stage("decode_image", &json!({}))
}

fn refused(bytes: &[u8]) -> Refusal {
    decoder().run(&[element(bytes)]).expect_err("this is no image")
}

/// Bytes that a refusal may allocate: a reader's tables, but no pixels.
const REFUSAL_BYTES_MAX: u64 = 200_000;

/// A refusal that comes before anything of the promised size is allocated.
fn refused_cheaply(bytes: &[u8]) -> Refusal {
    let (stage, row) = (decoder(), [element(bytes)]);
    let mut refusal = None;
    let counted = allocation_counter::measure(|| refusal = stage.run(&row).err());
    assert!(counted.bytes_max < REFUSAL_BYTES_MAX, "{} bytes were allocated", counted.bytes_max);
    refusal.expect("this is no image")
}

#[test]
fn a_file_that_is_cut_off_is_refused_or_still_whole() {
    let stage = decoder();
    let mut buffers = Buffers::default();
    for name in images() {
        let whole = file(&name);
        let image = stage.run(&[element(&whole)]).unwrap().remove(0);
        // Both ends by the byte, where headers and checksums are; in between a sample.
        let is_tried = |length: &usize| *length < 128 || whole.len() - length < 128 || length.is_multiple_of(7);
        for length in (0..whole.len()).filter(is_tried) {
            match stage.run_into(&[View::from(&element(&whole[..length]))], &mut buffers) {
                Ok(()) => {
                    // What ends a file says nothing about its pixels, and other pictures than the first do not either.
                    let is_end = whole.len() - length <= 64 || name == "animated.webp";
                    assert!(is_end && buffers.outputs()[0].data == image.data, "{name} cut to {length}");
                }
                Err(refusal) => assert_eq!(refusal.reason, Reason::ValueOutOfRange, "{name} cut to {length}"),
            }
        }
    }
}

#[test]
fn no_flipped_bit_does_more_than_change_or_refuse_the_picture() {
    const FLIPS: usize = 400;
    let stage = decoder();
    let mut buffers = Buffers::default();
    let mut state = 1_u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for name in images() {
        let whole = file(&name);
        for flip in 0..FLIPS {
            let mut damaged = whole.clone();
            // Headers decide more than pixels do: half of the flips are there.
            let most = if flip % 2 == 0 { whole.len() } else { whole.len().min(64) };
            damaged[draw(most)] ^= 1 << draw(8);
            match stage.run_into(&[View::from(&element(&damaged))], &mut buffers) {
                Ok(()) => {
                    let output = &buffers.outputs()[0];
                    let [height, width, 3] = output.shape[..] else { panic!("{name}: {:?}", output.shape) };
                    assert_eq!(output.data.len() as i64, height * width * 3, "{name}");
                }
                Err(refusal) => assert_eq!(refusal.reason, Reason::ValueOutOfRange, "{name}: {refusal}"),
            }
        }
    }
}

#[test]
fn what_is_no_image_is_refused_by_its_first_bytes() {
    assert!(blamed(&refused(b"")).contains("0 bytes"));
    for (bytes, said) in [
        (&b"GIF89a\x01\x00\x01\x00"[..], "starts with 'GIF89a"),
        (b"BM", "starts with 'BM'"),
        (b"%PDF-1.7", "starts with '%PDF-1.7'"),
        (b"RIFF\x04\0\0\0WAVE", "starts with 'RIFF"),
        (b"\0\0\0\0\0\0\0\0\0\0", "starts with '"),
        (b"\xff\xd8", "starts with '"),
    ] {
        let refusal = refused(bytes);
        assert!(blamed(&refusal).contains(said), "{refusal}");
        assert!(blamed(&refusal).contains("a JPEG, PNG or WebP file is allowed"), "{refusal}");
    }
    for bytes in [&b"\xff\xd8\xff"[..], b"\x89PNG\r\n\x1a\n", b"RIFF\x04\0\0\0WEBP"] {
        blamed(&refused(bytes));
    }
}

#[test]
fn a_header_that_promises_too_many_pixels_is_refused_before_they_are_allocated() {
    let mut jpeg = file("baseline.jpg");
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xff);
    assert!(blamed(&refused_cheaply(&jpeg)).contains("65535 x 65535, at most 1000000 pixels are allowed"));

    let refusal = refused_cheaply(&png(2_000_000_000, 2_000_000_000));
    assert!(blamed(&refusal).contains("2000000000 x 2000000000"), "{refusal}");

    let mut lossy = file("lossy.webp");
    lossy[26..30].fill(0xff);
    assert!(blamed(&refused_cheaply(&lossy)).contains("16383 x 16383"));

    let mut canvas = file("animated.webp");
    assert_eq!(&canvas[12..16], b"VP8X");
    canvas[24..30].fill(0xff);
    blamed(&refused_cheaply(&canvas));
}

#[test]
fn a_small_picture_with_a_large_frame_in_it_is_refused_before_that_is_allocated() {
    let lossy = file("lossy.webp");
    let mut frame = lossy[12..].to_vec();
    frame[14..18].fill(0xff);
    // Flags, 3 reserved bytes, and 47 x 31: one less than the sides.
    let mut bytes = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x2f\0\0\x1f\0\0".to_vec();
    bytes.extend_from_slice(&frame);
    let length = (bytes.len() - 8) as u32;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    assert!(blamed(&refused_cheaply(&bytes)).contains("16383 x 16383"));
}

#[test]
fn one_pixel_more_than_allowed_is_refused_and_exactly_as_many_are_not() {
    let limit = LIMITS.image_pixels_max as u32;
    assert!(blamed(&refused(&png(limit + 1, 1))).contains("1000001 x 1, at most 1000000 pixels"));
    // There is not a byte of pixels in it, which is found only after the size was.
    assert!(!blamed(&refused(&png(limit, 1))).contains("pixels"));
    blamed(&refused(&png(0, 1)));
}

#[test]
fn a_progressive_picture_with_endless_passes_is_refused() {
    let whole = file("progressive.jpg");
    let last = whole.windows(2).rposition(|marker| marker == [0xff, 0xda]).unwrap();
    let (start, scan) = (&whole[..last], &whole[last..whole.len() - 2]);
    let bytes = [start, &scan.repeat(10_000), &[0xff, 0xd9]].concat();
    blamed(&refused(&bytes));
}

#[test]
fn a_refusal_quotes_little_of_what_was_sent() {
    let mut bytes = b"<script>".repeat(1_000);
    assert!(refused(&bytes).text.len() < 200);
    bytes.splice(0..3, [0xff, 0xd8, 0xff]);
    assert!(refused(&bytes).text.len() < 300);
}

#[test]
fn the_row_after_a_damaged_one_is_answered_as_ever() {
    let stage = decoder();
    let mut buffers = Buffers::default();
    let whole: Tensor = element(&file("turned.jpg"));
    let expected = stage.run(std::slice::from_ref(&whole)).unwrap().remove(0);
    for cut in [10, 300, 900] {
        let damaged = element(&file("turned.jpg")[..cut]);
        assert!(stage.run_into(&[View::from(&damaged)], &mut buffers).is_err());
        stage.run_into(&[View::from(&whole)], &mut buffers).unwrap();
        assert!(buffers.outputs()[0].data == expected.data);
    }
}

/// A PNG with a header and no pixels.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend_from_slice(&width.to_be_bytes());
    chunk.extend_from_slice(&height.to_be_bytes());
    chunk.extend_from_slice(&[8, 2, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    bytes.extend_from_slice(&chunk);
    bytes.extend_from_slice(&checksum(&chunk).to_be_bytes());
    bytes.extend_from_slice(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    bytes
}

/// CRC-32, bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}
