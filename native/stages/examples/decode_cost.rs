//! What a JPEG costs on its way to a tensor: the stages, beside the crates that do their work called by hand, in turns.
//!
//! `cargo run --release -p servekit-stages --example decode_cost -- PICTURE.jpg [SIDE [ROUNDS]]`
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use serde_json::{Value, json};
use servekit_core::{Datatype, Shape};
use servekit_stages::{Buffers, Stage, StageLimits, View, build};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

const LIMITS: StageLimits = StageLimits { image_pixels_max: 50_000_000, text_bytes_max: 65_536 };

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The two crates called by hand, with memory that is used again.
struct ByHand {
    pixels: Vec<u8>,
    resized: Vec<u8>,
    resizer: Resizer,
    side: u32,
}

impl ByHand {
    fn run(&mut self, jpeg: &[u8]) -> Outcome<()> {
        let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(jpeg), options);
        decoder.decode_headers()?;
        let (width, height) = decoder.dimensions().ok_or("no size")?;
        self.pixels.resize(width * height * 3, 0);
        decoder.decode_into(&mut self.pixels)?;
        let source = ImageRef::new(width as u32, height as u32, &self.pixels, PixelType::U8x3)?;
        let mut target = Image::from_slice_u8(self.side, self.side, &mut self.resized, PixelType::U8x3)?;
        let views = source.typed_image::<U8x3>().zip(target.typed_image_mut::<U8x3>());
        let (source, mut target) = views.ok_or("no colours")?;
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
        Ok(self.resizer.resize_typed(&source, &mut target, &options)?)
    }
}

/// The two stages, as a lane runs them.
struct Lane<'a> {
    decode: &'a dyn Stage,
    resize: &'a dyn Stage,
    decoded: Buffers,
    resized: Buffers,
}

impl Lane<'_> {
    fn run(&mut self, element: &[u8]) -> Outcome<()> {
        let row = View { dtype: Datatype::Bytes, shape: &[], data: element };
        self.decode.run_into(&[row], &mut self.decoded)?;
        let image = self.decoded.outputs().first().ok_or("no image")?;
        Ok(self.resize.run_into(&[image.view()], &mut self.resized)?)
    }
}

fn timed(work: impl FnOnce() -> Outcome<()>) -> Outcome<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

/// The tenth part that was fastest, at its slowest: neighbours on the machine only ever add to a time.
fn low(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 10]
}

/// Rows that so many lanes finish in a second, each on a thread of its own.
fn rows_per_second(lanes: usize, rounds: usize, element: &[u8], stages: [&dyn Stage; 2]) -> Outcome<f64> {
    let barrier = Barrier::new(lanes + 1);
    thread::scope(|scope| {
        let work = || -> Outcome<()> {
            let [decode, resize] = stages;
            let mut lane = Lane { decode, resize, decoded: Buffers::default(), resized: Buffers::default() };
            let first = lane.run(element);
            barrier.wait();
            first?;
            (0..rounds).try_for_each(|_| lane.run(element))
        };
        let threads: Vec<_> = (0..lanes).map(|_| scope.spawn(work)).collect();
        barrier.wait();
        let start = Instant::now();
        for thread in threads {
            thread.join().map_err(|_| "a lane panicked")??;
        }
        Ok((lanes * rounds) as f64 / start.elapsed().as_secs_f64())
    })
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let jpeg = std::fs::read(arguments.next().ok_or("name a JPEG file")?)?;
    let side: u32 = arguments.next().as_deref().unwrap_or("224").parse()?;
    let rounds: usize = arguments.next().as_deref().unwrap_or("300").parse()?;
    let stage = |kind: &str, options: Value| build(kind, &options, Path::new("."), LIMITS);
    let decode = stage("decode_image", json!({}))?;
    let resize = stage("resize", json!({"width": side, "height": side}))?;
    let element = [&(jpeg.len() as u32).to_le_bytes()[..], &jpeg].concat();

    let mut lane =
        Lane { decode: &*decode, resize: &*resize, decoded: Buffers::default(), resized: Buffers::default() };
    let resized = vec![0; (side * side * 3) as usize];
    let mut by_hand = ByHand { pixels: Vec::new(), resized, resizer: Resizer::new(), side };
    let (mut ours, mut theirs) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    for _ in 0..rounds.max(1) {
        theirs.push(timed(|| by_hand.run(&jpeg))?);
        ours.push(timed(|| lane.run(&element))?);
    }
    let image = &lane.decoded.outputs()[0];
    let is_same = lane.resized.outputs()[0].data == by_hand.resized;
    println!("image {:?}, results are the same: {is_same}", Shape::as_slice(&image.shape));
    let (ours, theirs) = (low(ours), low(theirs));
    println!("by hand {theirs:?}, stages {ours:?}: {:.3} times", ours.as_secs_f64() / theirs.as_secs_f64());
    let [one, two] = [1, 2].map(|lanes| rows_per_second(lanes, rounds, &element, [&*decode, &*resize]));
    let (one, two) = (one?, two?);
    println!("one lane {one:.0} rows/s, two lanes {two:.0} rows/s: {:.2} times", two / one);
    Ok(())
}
