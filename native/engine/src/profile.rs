//! What was learned about a model's runs, kept from one start to the next. A profile comes from outside: it is bounded
//! when it is read, its values are clamped, and runs of this start say whether it still holds. It is never a reason to
//! refuse a load.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use servekit_core::{ClassSurface, Latency, Surface};

mod file;
mod key;

#[cfg(test)]
mod tests;

pub use file::ProfileFile;
pub(crate) use key::{Key, processor};

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
}

impl Profile {
    /// Takes surfaces in; `None` where there are none.
    fn of(surfaces: impl IntoIterator<Item = ClassSurface>) -> Option<Self> {
        let surfaces: Vec<ClassSurface> = surfaces.into_iter().take(SURFACES_MAX).map(clamped).collect();
        (!surfaces.is_empty()).then_some(Self { surfaces })
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
        let rows_max = medians.iter().map(|(rows, _)| *rows).max().unwrap_or(1);
        let latency = Latency::of(self.surface(shape, length), rows_max);
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
        for known in &mut self.surfaces {
            let surface = &mut known.surface;
            surface.base_ns = (surface.base_ns * ratio).clamp(NS_MIN, NS_MAX);
            surface.row_ns = (surface.row_ns * ratio).clamp(NS_MIN, NS_MAX);
        }
        Ok((self, ratio))
    }
}

/// The same within the bounds that hold for anything that comes from outside.
fn clamped(mut known: ClassSurface) -> ClassSurface {
    let within = |value: f64, most: f64| if value.is_nan() { most } else { value.clamp(NS_MIN, most) };
    let surface = &mut known.surface;
    surface.base_ns = within(surface.base_ns, NS_MAX);
    surface.row_ns = within(surface.row_ns, NS_MAX);
    surface.spread = if surface.spread.is_nan() { 1.0 } else { surface.spread.clamp(0.0, 1.0) };
    surface.corrections.truncate(CORRECTIONS_MAX);
    for correction in &mut surface.corrections {
        let is_number = correction.is_finite();
        *correction = if is_number { correction.clamp(1.0 / CORRECTION_MAX, CORRECTION_MAX) } else { 1.0 };
    }
    let shape = &mut known.shape;
    if shape.len() > SHAPE_BYTES_MAX {
        let end = (0..=SHAPE_BYTES_MAX).rev().find(|&end| shape.is_char_boundary(end)).unwrap_or(0);
        shape.truncate(end);
    }
    known
}
