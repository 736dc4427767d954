//! Where a picture lies in a result of another size.

/// How a picture gets its new size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Stretched.
    Exact,
    /// Scaled until it covers the result, whose middle it then shows.
    Crop {
        /// Length of its shorter side then; `None`: as small as covers the result.
        shortest: Option<u32>,
    },
    /// Scaled until it fits into the result.
    Letterbox,
}

/// A scaled picture in the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placement {
    /// Of the scaled picture. It may be far larger than the result, so it is not yet known to be reasonable.
    pub(super) width: u64,
    /// Of the scaled picture.
    pub(super) height: u64,
    /// Of its left edge, seen from the result's; negative where it is cut off.
    pub(super) left: i64,
    /// Of its upper edge.
    pub(super) top: i64,
}

impl Placement {
    /// Both sides of both sizes are at least 1.
    pub(super) fn new(fit: Fit, source: (u32, u32), target: (u32, u32)) -> Self {
        let (width, height) = (u64::from(source.0), u64::from(source.1));
        let (target_width, target_height) = (u64::from(target.0), u64::from(target.1));
        let is_wider = width * target_height >= target_width * height;
        let by_width = (target_width, rounded(height * target_width, width).max(1));
        let by_height = (rounded(width * target_height, height).max(1), target_height);
        let (scaled_width, scaled_height) = match fit {
            Fit::Exact => (target_width, target_height),
            Fit::Letterbox if is_wider => by_width,
            Fit::Letterbox => by_height,
            Fit::Crop { shortest: None } if is_wider => by_height,
            Fit::Crop { shortest: None } => by_width,
            // The longer side is cut down to a whole number, as torchvision does.
            Fit::Crop { shortest: Some(shortest) } if width <= height => {
                (shortest.into(), height * u64::from(shortest) / width)
            }
            Fit::Crop { shortest: Some(shortest) } => (width * u64::from(shortest) / height, shortest.into()),
        };
        let (left, top) = (offset(scaled_width, target_width), offset(scaled_height, target_height));
        Self { width: scaled_width, height: scaled_height, left, top }
    }

    /// Left, top, scale of x, scale of y, for a picture of this size.
    pub(super) fn numbers(&self, source: (u32, u32)) -> [f32; 4] {
        let scale = |scaled: u64, side: u32| (scaled as f64 / f64::from(side)) as f32;
        [self.left as f32, self.top as f32, scale(self.width, source.0), scale(self.height, source.1)]
    }
}

/// A quotient to the nearest whole number, halves up.
fn rounded(dividend: u64, divisor: u64) -> u64 {
    (dividend + divisor / 2) / divisor
}

/// What puts the middle of the one over the middle of the other. Where that falls between two pixels: cutting off
/// rounds half to even, as torchvision's centre crop; a border has the odd pixel at its right and bottom.
fn offset(scaled: u64, target: u64) -> i64 {
    if scaled <= target {
        return ((target - scaled) / 2) as i64;
    }
    let excess = scaled - target;
    let half = excess / 2;
    -((half + (excess & half & 1)) as i64)
}

#[cfg(test)]
mod tests;
