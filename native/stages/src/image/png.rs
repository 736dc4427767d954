//! PNG: every colour type and depth, interlaced or not; of an animation the default picture.

use std::io::Cursor;

use png::{Decoder, Reader, Transformations};
use servekit_core::Refusal;

use super::{Header, Orientation, check_size, damaged};

pub(super) struct PngImage<'a> {
    reader: Reader<Cursor<&'a [u8]>>,
}

impl<'a> PngImage<'a> {
    pub(super) fn open(bytes: &'a [u8], pixels_max: u64) -> Result<(Header, Self), Refusal> {
        let mut decoder = Decoder::new(Cursor::new(bytes));
        // Both are compressed, and nobody reads them here.
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
        let (width, height) = decoder.read_header_info().map_err(|error| damaged("PNG", &error))?.size();
        check_size(width.into(), height.into(), pixels_max)?;
        let reader = decoder.read_info().map_err(|error| damaged("PNG", &error))?;
        let header = Header {
            width,
            height,
            channels: reader.output_color_type().0.samples(),
            orientation: exif(bytes).map_or_else(Orientation::default, Orientation::of_exif),
        };
        Ok((header, Self { reader }))
    }

    pub(super) fn read(mut self, pixels: &mut [u8]) -> Result<(), Refusal> {
        self.reader.next_frame(pixels).map(|_| ()).map_err(|error| damaged("PNG", &error))
    }
}

/// EXIF data may stand behind the pixels, where the reader would come too late.
fn exif(bytes: &[u8]) -> Option<&[u8]> {
    const MAGIC_BYTES: usize = 8;
    const CHECKSUM_BYTES: usize = 4;
    let mut rest = bytes.get(MAGIC_BYTES..)?;
    loop {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let (kind, behind) = behind.split_first_chunk::<4>()?;
        let (data, behind) = behind.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        if kind == b"eXIf" {
            return Some(data);
        }
        rest = behind.get(CHECKSUM_BYTES..)?;
    }
}
