//! WebP: lossy and lossless; of an animation the first picture.

use std::io::Cursor;

use image_webp::WebPDecoder;
use memchr::memmem;
use servekit_core::Refusal;

use super::{Header, Orientation, check_size, damaged};

pub(super) struct WebPImage<'a> {
    decoder: WebPDecoder<Cursor<&'a [u8]>>,
}

impl<'a> WebPImage<'a> {
    pub(super) fn open(bytes: &'a [u8], pixels_max: u64) -> Result<(Header, Self), Refusal> {
        check_frames(bytes, pixels_max)?;
        let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|error| damaged("WebP", &error))?;
        let (width, height) = decoder.dimensions();
        check_size(width.into(), height.into(), pixels_max)?;
        // As much as the file has: its own lengths are not to be trusted.
        decoder.set_memory_limit(bytes.len());
        let exif = decoder.exif_metadata().ok().flatten();
        let header = Header {
            width,
            height,
            channels: if decoder.has_alpha() { 4 } else { 3 },
            orientation: exif.map_or_else(Orientation::default, |exif| Orientation::of_exif(&exif)),
        };
        Ok((header, Self { decoder }))
    }

    pub(super) fn read(mut self, pixels: &mut [u8]) -> Result<(), Refusal> {
        self.decoder.read_image(pixels).map_err(|error| damaged("WebP", &error))
    }
}

/// Checks the size that each lossy frame claims for itself. The decoder allocates by it before it compares it with
/// the size of the whole picture, so a picture of one pixel could ask for a gigabyte.
fn check_frames(bytes: &[u8], pixels_max: u64) -> Result<(), Refusal> {
    const TAG: &[u8] = b"VP8 ";
    // From the tag: its length in 4 bytes, 3 bytes of flags, 3 of a signature, then both sides of 14 bits.
    const SIDES_AT: usize = 14;
    for start in memmem::find_iter(bytes, TAG) {
        let Some(&[width_low, width_high, height_low, height_high]) =
            bytes.get(start + SIDES_AT..).and_then(|rest| rest.first_chunk())
        else {
            continue;
        };
        if bytes[start + SIDES_AT - 3..start + SIDES_AT] == [0x9d, 0x01, 0x2a] {
            let side = |low, high| u64::from(u16::from_le_bytes([low, high]) & 0x3fff);
            check_size(side(width_low, width_high), side(height_low, height_high), pixels_max)?;
        }
    }
    Ok(())
}
