//! `resize`: an image in the size that a model takes.

mod placement;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::pixels::{U8, U8x3, U8x4};
use fast_image_resize::{FilterType, PixelTrait, PixelType, ResizeAlg, ResizeOptions, Resizer};
use serde_json::Value;
use servekit_core::{Datatype, Reason, Refusal, list};

use self::placement::{Fit, Placement};
use crate::options::Options;
use crate::stage::{inputs, unusable};
use crate::{Buffers, Dim, Port, Stage, StageLimits, View};

/// The longest side of a result.
const SIDE_MAX: u32 = 16_384;

/// Options: `width` and `height` are those of the result. `fit` says how the picture gets there: `exact` (the default)
/// stretches it; `crop` scales it until its shorter side is `shortest` long, or without that until it just covers the
/// result, and cuts out the middle; `letterbox` scales it until it just fits, and fills what is left with the colour
/// `fill` (0). `filter` is `nearest`, `bilinear` (the default), `bicubic` or `lanczos`; `antialias` (true by default)
/// widens it when the picture shrinks, as Pillow does, so that no pixel is skipped.
///
/// Beside the image comes its `placement`: left, top, scale of x, scale of y. A point of the original is at
/// `original * scale + left` (or top) in the result.
pub(crate) struct Resize {
    width: u32,
    height: u32,
    fit: Fit,
    fill: [u8; 3],
    scaling: ResizeOptions,
    pixels_max: u64,
    inputs: [Port; 1],
    outputs: [Port; 2],
}

/// An image as it came.
struct Source<'a> {
    image: ImageRef<'a>,
    channels: usize,
}

impl Resize {
    pub(crate) fn new(options: &Value, limits: StageLimits) -> Result<Self, String> {
        let keys = ["width", "height", "fit", "shortest", "fill", "filter", "antialias"];
        let options = Options::read("resize", &keys, options)?;
        let side = |key: &str| {
            let missing = || options.wrong(&format!("option '{key}' is missing, 1 to {SIDE_MAX} is allowed; add it"));
            options.number(key, 1..=SIDE_MAX)?.ok_or_else(missing)
        };
        let (width, height) = (side("width")?, side("height")?);
        let (pixels, pixels_max) = (u64::from(width) * u64::from(height), limits.image_pixels_max);
        if pixels > pixels_max {
            let text =
                format!("{width} x {height} is asked for, at most {pixels_max} pixels are allowed; ask for less");
            return Err(options.wrong(&text));
        }
        let fit = fit(&options, width.max(height))?;
        let fill = options.colour("fill")?;
        if fill.is_some() && fit != Fit::Letterbox {
            return Err(options.wrong("option 'fill' is given, fit 'letterbox' alone takes it; change one of them"));
        }
        let shape = |height: Dim, width: Dim| vec![height, width, "channels".into()];
        Ok(Self {
            width,
            height,
            fit,
            fill: fill.unwrap_or_default(),
            // What a fourth channel means is not known here, so it is scaled as the others are.
            scaling: ResizeOptions::new().resize_alg(algorithm(&options)?).use_alpha(false),
            pixels_max,
            inputs: [Port::new("image", Datatype::Uint8, shape("height".into(), "width".into()))],
            outputs: [
                Port::new("image", Datatype::Uint8, shape(u64::from(height).into(), u64::from(width).into())),
                Port::new("placement", Datatype::Fp32, vec![4.into()]),
            ],
        })
    }

    /// Where the picture goes; refused where it would take more memory than an image may on its way there.
    fn place(&self, source: &Source<'_>) -> Result<Placement, Refusal> {
        let (width, height) = (source.image.width(), source.image.height());
        let placement = Placement::new(self.fit, (width, height), (self.width, self.height));
        // Rows are scaled first, and kept until columns are.
        let pixels = placement.width.saturating_mul(placement.height.max(height.into()));
        if pixels <= self.pixels_max {
            return Ok(placement);
        }
        let pixels_max = self.pixels_max;
        Err(unusable(format!(
            "the image is {width} x {height} and takes {pixels} pixels to resize, {pixels_max} are allowed; crop it first"
        )))
    }

    /// Into a target of the placement's size. Only the types that an image may have are named: the resizer's own choice
    /// among all of them is compiled for each, which takes most of a minute.
    fn scale(
        &self,
        source: &Source<'_>,
        resizer: &mut Resizer,
        target: &mut [u8],
        placement: &Placement,
    ) -> Result<(), Refusal> {
        let side = |side: u64| u32::try_from(side).map_err(internal);
        let (width, height) = (side(placement.width)?, side(placement.height)?);
        let image = &source.image;
        let mut target = Image::from_slice_u8(width, height, target, image.pixel_type()).map_err(internal)?;
        match source.channels {
            1 => self.scale_typed::<U8>(image, resizer, &mut target),
            3 => self.scale_typed::<U8x3>(image, resizer, &mut target),
            _ => self.scale_typed::<U8x4>(image, resizer, &mut target),
        }
    }

    fn scale_typed<Pixel: PixelTrait>(
        &self,
        source: &ImageRef<'_>,
        resizer: &mut Resizer,
        target: &mut Image<'_>,
    ) -> Result<(), Refusal> {
        let views = source.typed_image::<Pixel>().zip(target.typed_image_mut::<Pixel>());
        let (source, mut target) = views.ok_or_else(|| internal("of another type"))?;
        resizer.resize_typed(&source, &mut target, &self.scaling).map_err(internal)
    }

    /// The middle of a scaled picture, or a scaled picture amid the fill.
    fn compose(&self, scaled: &[u8], channels: usize, placement: &Placement, target: &mut [u8]) {
        if self.fit == Fit::Letterbox {
            let [first, second, third] = self.fill;
            let pixel = [first, second, third, u8::MAX];
            target.chunks_exact_mut(channels).for_each(|target| target.copy_from_slice(&pixel[..channels]));
        }
        let (from_left, to_left) = (placement.left.min(0).unsigned_abs(), placement.left.max(0).unsigned_abs());
        let (from_top, to_top) = (placement.top.min(0).unsigned_abs(), placement.top.max(0).unsigned_abs());
        let (scaled_row, target_row) = (placement.width as usize * channels, self.width as usize * channels);
        let count = scaled_row.min(target_row);
        let (from_left, to_left) = (from_left as usize * channels, to_left as usize * channels);
        let from = scaled.chunks_exact(scaled_row).skip(from_top as usize);
        let to = target.chunks_exact_mut(target_row).skip(to_top as usize);
        for (from, to) in from.zip(to) {
            to[to_left..to_left + count].copy_from_slice(&from[from_left..from_left + count]);
        }
    }
}

impl Stage for Resize {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run_into(&self, row: &[View<'_>], buffers: &mut Buffers) -> Result<(), Refusal> {
        let [tensor] = inputs::<1>("resize", row)?;
        let source = source(tensor)?;
        let channels = source.channels;
        let placement = self.place(&source)?;
        let ([image, numbers], scratch) = buffers.parts::<2>();
        let shape = [i64::from(self.height), i64::from(self.width), channels as i64];
        let target = image.shaped(Datatype::Uint8, &shape, self.width as usize * self.height as usize * channels);
        if (placement.width, placement.height) == (self.width.into(), self.height.into()) {
            self.scale(&source, &mut scratch.resizer, target, &placement)?;
        } else {
            scratch.pixels.resize((placement.width * placement.height) as usize * channels, 0);
            self.scale(&source, &mut scratch.resizer, &mut scratch.pixels, &placement)?;
            self.compose(&scratch.pixels, channels, &placement, target);
        }
        let described = placement.numbers((source.image.width(), source.image.height()));
        let target = numbers.shaped(Datatype::Fp32, &[4], size_of_val(&described));
        let (target, _) = target.as_chunks_mut();
        target.iter_mut().zip(described).for_each(|(target, number)| *target = number.to_le_bytes());
        Ok(())
    }
}

fn fit(options: &Options<'_>, longest: u32) -> Result<Fit, String> {
    let fits = [("exact", Fit::Exact), ("crop", Fit::Crop { shortest: None }), ("letterbox", Fit::Letterbox)];
    let fit = options.choice("fit", &fits)?.unwrap_or(Fit::Exact);
    let Some(shortest) = options.number("shortest", 1..=SIDE_MAX)? else { return Ok(fit) };
    if !matches!(fit, Fit::Crop { .. }) {
        return Err(options.wrong("option 'shortest' is given, fit 'crop' alone takes it; change one of them"));
    }
    if shortest < longest {
        let text = format!(
            "option 'shortest' is {shortest}, at least {longest} is allowed, or nothing is left to crop; raise it"
        );
        return Err(options.wrong(&text));
    }
    Ok(Fit::Crop { shortest: Some(shortest) })
}

fn algorithm(options: &Options<'_>) -> Result<ResizeAlg, String> {
    let filters = [
        ("nearest", None),
        ("bilinear", Some(FilterType::Bilinear)),
        ("bicubic", Some(FilterType::CatmullRom)),
        ("lanczos", Some(FilterType::Lanczos3)),
    ];
    let filter = options.choice("filter", &filters)?.unwrap_or(Some(FilterType::Bilinear));
    let antialias = options.flag("antialias")?.unwrap_or(true);
    Ok(match filter {
        None => ResizeAlg::Nearest,
        Some(filter) if antialias => ResizeAlg::Convolution(filter),
        Some(filter) => ResizeAlg::Interpolation(filter),
    })
}

/// The image in a tensor of height, width and channels.
fn source<'a>(tensor: &View<'a>) -> Result<Source<'a>, Refusal> {
    if tensor.dtype != Datatype::Uint8 {
        let text = format!("input 'image' is {}, {} is allowed; decode it first", tensor.dtype, Datatype::Uint8);
        return Err(Refusal::new(Reason::DatatypeMismatch, text));
    }
    let wrong = || {
        let text = format!(
            "input 'image' has shape {} and {} bytes, height, width and 1, 3 or 4 channels of 1 byte are allowed; send these",
            list(tensor.shape),
            tensor.data.len()
        );
        Refusal::new(Reason::ShapeMismatch, text)
    };
    let &[height, width, channels] = tensor.shape else { return Err(wrong()) };
    let (pixel_type, channels) = match channels {
        1 => (PixelType::U8, 1),
        3 => (PixelType::U8x3, 3),
        4 => (PixelType::U8x4, 4),
        _ => return Err(wrong()),
    };
    let (Ok(width), Ok(height)) = (u32::try_from(width), u32::try_from(height)) else { return Err(wrong()) };
    let bytes = (u64::from(width) * u64::from(height)).saturating_mul(channels as u64);
    if bytes == 0 || bytes != tensor.data.len() as u64 {
        return Err(wrong());
    }
    let image = ImageRef::new(width, height, tensor.data, pixel_type).map_err(internal)?;
    Ok(Source { image, channels })
}

/// The resizer objects to sizes that have been checked here: ours, not the sender's fault.
fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Reason::Internal, format!("the image could not be resized ({error}), please report this"))
}
