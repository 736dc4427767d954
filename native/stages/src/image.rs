//! `decode_image`: pixels out of the bytes of a JPEG, PNG or WebP file.

mod arrangement;
mod jpeg;
mod orientation;
mod png;
mod source;
mod webp;

use serde_json::Value;
use servekit_core::{Datatype, Refusal, quoted};

use self::arrangement::{Arrangement, Mode};
use self::jpeg::JpegImage;
use self::orientation::Orientation;
use self::png::PngImage;
use self::webp::WebPImage;
use crate::buffers::Scratch;
use crate::containment::contained;
use crate::options::Options;
use crate::stage::{element, inputs, unusable};
use crate::{Buffer, Buffers, Port, Stage, StageLimits, View};

/// What a file says about its pixels before they are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    width: u32,
    height: u32,
    /// As decoded: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha. All have 8 bits.
    channels: usize,
    /// How the picture is to be turned before it is shown.
    orientation: Orientation,
}

/// A file whose header has been read, and found to be within the limit.
enum ImageFile<'a> {
    Jpeg(Box<JpegImage<'a>>),
    Png(Box<PngImage<'a>>),
    WebP(Box<WebPImage<'a>>),
}

impl<'a> ImageFile<'a> {
    /// Reads the header. The first bytes tell the format; what the sender calls it does not count.
    fn open(bytes: &'a [u8], mode: Mode, pixels_max: u64) -> Result<(Header, Self), Refusal> {
        const PNG_MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";
        if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            let (header, file) = JpegImage::open(bytes, mode, pixels_max)?;
            return Ok((header, Self::Jpeg(Box::new(file))));
        }
        if bytes.starts_with(PNG_MAGIC) {
            let (header, file) = PngImage::open(bytes, pixels_max)?;
            return Ok((header, Self::Png(Box::new(file))));
        }
        if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            let (header, file) = WebPImage::open(bytes, pixels_max)?;
            return Ok((header, Self::WebP(Box::new(file))));
        }
        Err(unknown_format(bytes))
    }

    /// Decodes into exactly the bytes that the header asks for.
    fn read(self, pixels: &mut [u8]) -> Result<(), Refusal> {
        match self {
            Self::Jpeg(file) => file.read(pixels),
            Self::Png(file) => file.read(pixels),
            Self::WebP(file) => file.read(pixels),
        }
    }
}

/// Options: `mode` is `rgb` (the default), `bgr` or `gray`, which have 3, 3 and 1 channels. `orientation` (true by
/// default) turns the picture as its EXIF data says. Transparency is dropped, and the colours under it shown as they
/// are, unless `background` names the colour (in the order R, G, B) over which the picture is laid. 16 bits become the
/// upper 8, palettes become colours, CMYK becomes RGB without a colour profile, and of an animation the first picture
/// is taken.
pub(crate) struct DecodeImage {
    mode: Mode,
    orientation: bool,
    background: Option<[u8; 3]>,
    pixels_max: u64,
    inputs: [Port; 1],
    outputs: [Port; 1],
}

impl DecodeImage {
    pub(crate) fn new(options: &Value, limits: StageLimits) -> Result<Self, String> {
        let options = Options::read("decode_image", &["mode", "orientation", "background"], options)?;
        let modes = [("rgb", Mode::Rgb), ("bgr", Mode::Bgr), ("gray", Mode::Gray)];
        let mode = options.choice("mode", &modes)?.unwrap_or(Mode::Rgb);
        let shape = vec!["height".into(), "width".into(), (mode.channels() as u64).into()];
        Ok(Self {
            mode,
            orientation: options.flag("orientation")?.unwrap_or(true),
            background: options.colour("background")?,
            pixels_max: limits.image_pixels_max,
            inputs: [Port::new("bytes", Datatype::Bytes, vec![])],
            outputs: [Port::new("image", Datatype::Uint8, shape)],
        })
    }

    fn decode(&self, bytes: &[u8], output: &mut Buffer, scratch: &mut Scratch) -> Result<(), Refusal> {
        let (header, file) = ImageFile::open(bytes, self.mode, self.pixels_max)?;
        let orientation = if self.orientation { header.orientation } else { Orientation::default() };
        let (width, height) = orientation.size(header.width, header.height);
        let shape = [i64::from(height), i64::from(width), self.mode.channels() as i64];
        let pixels = header.width as usize * header.height as usize;
        let target = output.shaped(Datatype::Uint8, &shape, pixels * self.mode.channels());
        let arrangement = Arrangement { mode: self.mode, orientation, background: self.background };
        if arrangement.is_as_decoded(header.channels) {
            return file.read(target);
        }
        scratch.pixels.resize(pixels * header.channels, 0);
        file.read(&mut scratch.pixels)?;
        arrangement.apply(&header, &scratch.pixels, target);
        Ok(())
    }
}

impl Stage for DecodeImage {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run_into(&self, row: &[View<'_>], buffers: &mut Buffers) -> Result<(), Refusal> {
        let [tensor] = inputs::<1>("decode_image", row)?;
        let bytes = element(&self.inputs[0], tensor)?;
        let ([output], scratch) = buffers.parts::<1>();
        contained("image", || self.decode(bytes, output, scratch))
    }
}

/// Refuses an image whose header promises more pixels than allowed, or none.
fn check_size(width: u64, height: u64, pixels_max: u64) -> Result<(), Refusal> {
    let pixels = width.saturating_mul(height);
    if pixels == 0 {
        return Err(unusable(format!(
            "the image is {width} x {height}, at least 1 x 1 is allowed; send one with pixels"
        )));
    }
    if pixels > pixels_max {
        return Err(unusable(format!(
            "the image is {width} x {height}, at most {pixels_max} pixels are allowed; scale it down first"
        )));
    }
    Ok(())
}

/// The refusal of a file that its own format's reader cannot read.
fn damaged(format: &str, error: &dyn std::fmt::Display) -> Refusal {
    let found = quoted(error.to_string().as_bytes());
    unusable(format!(
        "the {format} image cannot be decoded ({found}), a whole and undamaged one is allowed; send it again"
    ))
}

fn unknown_format(bytes: &[u8]) -> Refusal {
    if bytes.is_empty() {
        return unusable("the image has 0 bytes, a JPEG, PNG or WebP file is allowed; send one".to_owned());
    }
    const SHOWN_BYTES_MAX: usize = 8;
    let start = quoted(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)]);
    unusable(format!("the image starts with '{start}', a JPEG, PNG or WebP file is allowed; convert it first"))
}
