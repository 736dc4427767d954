//! JPEG: baseline and progressive, grey, YCbCr, RGB, CMYK and YCCK.

use memchr::{memchr, memmem};
use servekit_core::Refusal;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::source::Source;
use super::{Header, Mode, Orientation, check_size, damaged};

/// Passes over a progressive picture. Each may cost a few bytes to send and all pixels to run; writers make about ten.
const SCANS_MAX: usize = 64;
/// The most that a header can say.
const SIDE_MAX: usize = u16::MAX as usize;

pub(super) struct JpegImage<'a> {
    decoder: JpegDecoder<Source<'a>>,
}

impl<'a> JpegImage<'a> {
    pub(super) fn open(bytes: &'a [u8], mode: Mode, pixels_max: u64) -> Result<(Header, Self), Refusal> {
        // Strict: a damaged picture is an error here, not a picture with a grey rest.
        let options = DecoderOptions::default()
            .set_strict_mode(true)
            .set_max_width(SIDE_MAX)
            .set_max_height(SIDE_MAX)
            .jpeg_set_max_scans(SCANS_MAX)
            .jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(Source::new(bytes), options);
        decoder.decode_headers().map_err(|error| damaged("JPEG", &error))?;
        let info = decoder.info().unwrap_or_default();
        check_size(info.width.into(), info.height.into(), pixels_max)?;
        if !is_whole(bytes) {
            return Err(damaged("JPEG", &"its end is missing"));
        }
        // The grey of a JPEG is stored in it. Others than these two have to go by way of RGB.
        let stores_grey = matches!(decoder.input_colorspace(), Some(ColorSpace::Luma | ColorSpace::YCbCr));
        let is_grey = stores_grey && (mode == Mode::Gray || info.components == 1);
        if is_grey {
            decoder.set_options(options.jpeg_set_out_colorspace(ColorSpace::Luma));
        }
        let header = Header {
            width: info.width.into(),
            height: info.height.into(),
            channels: if is_grey { 1 } else { 3 },
            orientation: decoder.exif().map_or_else(Orientation::default, |exif| Orientation::of_exif(exif)),
        };
        Ok((header, Self { decoder }))
    }

    pub(super) fn read(mut self, pixels: &mut [u8]) -> Result<(), Refusal> {
        self.decoder.decode_into(pixels).map_err(|error| damaged("JPEG", &error))
    }
}

/// Whether the picture has its end marker. Without it the last rows are missing, which the decoder only notices of all
/// rows but those.
fn is_whole(bytes: &[u8]) -> bool {
    const END: &[u8] = &[0xff, 0xd9];
    // Segments in front of the picture may hold another, smaller one, with an end of its own.
    scans(bytes).is_some_and(|scans| memmem::find(scans, END).is_some())
}

/// What comes after the header of the first scan's marker. No segment in front of it is looked into.
fn scans(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    loop {
        rest = &rest[memchr(0xff, rest)? + 1..];
        match *rest.first()? {
            0xda => return Some(rest),
            // Fill, a stuffed byte, and markers that stand alone.
            0xff => {}
            0x00 | 0x01 | 0xd0..=0xd9 => rest = &rest[1..],
            _ => {
                let length = usize::from(u16::from_be_bytes(*rest.get(1..)?.first_chunk()?));
                rest = rest.get(1 + length..)?;
            }
        }
    }
}
