//! What was learned about a model's runs, kept from one start to the next. A profile comes from outside: it is bounded
//! when it is read, its values are clamped, and runs of this start say whether it still holds. It is never a reason to
//! refuse a load.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use servekit_core::{ClassSurface, Latency, Surface};

mod file;
mod key;
mod start;

#[cfg(test)]
mod tests;

pub(crate) use file::ProfileFile;
pub(crate) use key::{Key, processor};
pub use start::Start;

/// Surfaces of classes that are kept, the model's own first; more are left out.
const SURFACES_MAX: usize = 65;
/// Rows whose corrections are kept.
const CORRECTIONS_MAX: usize = 4096;
/// Bytes of a shape in words.
const SHAPE_BYTES_MAX: usize = 1024;
/// No run is supposed to take longer, of one row or besides its rows: a minute.
const NS_MAX: f64 = 6e10;
/// The least that a run or a row is supposed to take.
const NS_MIN: f64 = 1.0;
/// A correction says how many times the line a run takes; more is no correction.
const CORRECTION_MAX: f32 = 16.0;
/// Runs that take longer, or shorter, by more than this were not made on the machine as it is now.
const RATIO_MAX: f64 = 1.5;

/// How long runs of one class take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KnownSurface {
    /// In words: all shapes, or one such as `[?, 16]`, where `?` counts rows.
    pub class: String,
    /// What was measured or learned.
    #[serde(flatten)]
    pub surface: Surface,
}

impl From<&ClassSurface> for KnownSurface {
    fn from(known: &ClassSurface) -> Self {
        let ClassSurface { shape, length, surface } = known;
        let class = match (shape.as_str(), length) {
            ("", _) => "all shapes".to_owned(),
            (shape, None) => shape.to_owned(),
            (shape, Some(length)) => format!("{shape}, n up to {length}"),
        };
        Self { class, surface: surface.clone() }
    }
}

/// What has become of a model's profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileUse {
    /// None is kept, as configured.
    Off,
    /// Nothing was kept yet for this model on this machine.
    None,
    /// It is what batching starts from; how, in words.
    Used(String),
    /// It was read and does not hold any more; why, in words.
    Discarded(String),
    /// It could not be read; why, in words. For the operator to know.
    Ignored(String),
}

impl fmt::Display for ProfileUse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => formatter.write_str("off"),
            Self::None => formatter.write_str("none"),
            Self::Used(how) => write!(formatter, "used: {how}"),
            Self::Discarded(why) => write!(formatter, "discarded: {why}"),
            Self::Ignored(why) => write!(formatter, "ignored: {why}"),
        }
    }
}

impl Serialize for ProfileUse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a file holds, within bounds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Profile {
    /// The model's own first; never empty.
    pub(crate) surfaces: Vec<ClassSurface>,
    /// How long runs of the model took without steps around it, where there were such.
    alone: Option<Surface>,
}

impl Profile {
    /// Takes surfaces in; `None` where there are none.
    fn of(surfaces: impl IntoIterator<Item = ClassSurface>, alone: Option<&Surface>) -> Option<Self> {
        let within = |mut known: ClassSurface| {
            clamp_name(&mut known.shape);
            clamp(&mut known.surface);
            known
        };
        let surfaces: Vec<ClassSurface> = surfaces.into_iter().take(SURFACES_MAX).map(within).collect();
        let mut alone = alone.cloned();
        alone.iter_mut().for_each(clamp);
        (!surfaces.is_empty()).then_some(Self { surfaces, alone })
    }

    /// The surface of a class, of the nearest length that is no shorter; else the model's own.
    fn surface(&self, shape: &str, length: Option<u64>) -> &Surface {
        let of_class = self.surfaces.iter().filter(|known| !shape.is_empty() && known.shape == shape);
        let nearest = of_class.filter(|known| known.length >= length).min_by_key(|known| known.length);
        nearest.map_or(&self.surfaces[0].surface, |known| &known.surface)
    }

    /// Rescales all surfaces by what runs of one class took in this start, as medians by rows; else says why the profile
    /// does not hold.
    pub(crate) fn fitted(
        mut self,
        (shape, length): (&str, Option<u64>),
        medians: &[(u32, Duration)],
    ) -> Result<(Self, f64), String> {
        let ratio = ratio(self.surface(shape, length), medians)?;
        self.rescale(ratio);
        Ok((self, ratio))
    }

    /// Rescales all surfaces by what runs of the model alone take now, beside what they took when these were learned, and
    /// says so; else says why the profile does not hold. Steps without a model have nothing to be compared by.
    fn compared(mut self, alone: Option<&Surface>) -> Result<(Self, String), String> {
        let samples = self.surfaces[0].surface.samples;
        let told = match (&self.alone, alone) {
            (None, None) => format!("{samples} runs were kept"),
            (Some(then), Some(now)) => {
                let rows_max = now.corrections.len().clamp(1, CORRECTIONS_MAX) as u32;
                let latency = Latency::of(now, rows_max);
                let sizes = std::iter::successors(Some(1), |rows| Some(rows * 2)).take_while(|rows| *rows < rows_max);
                let sizes = sizes.chain([rows_max]).map(|rows| (rows, latency.expected(rows)));
                let ratio = ratio(then, &sizes.collect::<Vec<_>>())?;
                self.rescale(ratio);
                format!("{samples} runs were kept, and runs of the model alone take {ratio:.2} times as long now")
            }
            _ => return Err("no run was made that it could be compared with".to_owned()),
        };
        Ok((self, told))
    }

    fn rescale(&mut self, ratio: f64) {
        for known in &mut self.surfaces {
            let surface = &mut known.surface;
            surface.base_ns = (surface.base_ns * ratio).clamp(NS_MIN, NS_MAX);
            surface.row_ns = (surface.row_ns * ratio).clamp(NS_MIN, NS_MAX);
        }
    }
}

/// How many times what a surface says runs take now, whose medians these are by rows; where it is too many or too few,
/// the reason why what was kept does not hold.
fn ratio(surface: &Surface, medians: &[(u32, Duration)]) -> Result<f64, String> {
    let rows_max = medians.iter().map(|(rows, _)| *rows).max().unwrap_or(1);
    let latency = Latency::of(surface, rows_max);
    let mut ratios: Vec<f64> =
        medians.iter().map(|(rows, time)| time.as_secs_f64() / latency.expected(*rows).as_secs_f64()).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let Some(&ratio) = ratios.get(ratios.len() / 2) else {
        return Err("there was no time to compare it".to_owned());
    };
    if !(1.0 / RATIO_MAX..=RATIO_MAX).contains(&ratio) {
        let least = 1.0 / RATIO_MAX;
        return Err(format!(
            "runs take {ratio:.2} times what was kept, {least:.2} to {RATIO_MAX:.2} times are taken for the same machine"
        ));
    }
    Ok(ratio)
}

/// Puts a surface within the bounds that hold for anything that comes from outside.
fn clamp(surface: &mut Surface) {
    let within = |value: f64, most: f64| if value.is_nan() { most } else { value.clamp(NS_MIN, most) };
    surface.base_ns = within(surface.base_ns, NS_MAX);
    surface.row_ns = within(surface.row_ns, NS_MAX);
    surface.spread = if surface.spread.is_nan() { 1.0 } else { surface.spread.clamp(0.0, 1.0) };
    surface.corrections.truncate(CORRECTIONS_MAX);
    for correction in &mut surface.corrections {
        let is_number = correction.is_finite();
        *correction = if is_number { correction.clamp(1.0 / CORRECTION_MAX, CORRECTION_MAX) } else { 1.0 };
    }
}

/// Does the same to what a class is called.
fn clamp_name(shape: &mut String) {
    if shape.len() > SHAPE_BYTES_MAX {
        let end = (0..=SHAPE_BYTES_MAX).rev().find(|&end| shape.is_char_boundary(end)).unwrap_or(0);
        shape.truncate(end);
    }
}
