//! From pixels as a file has them to pixels as a model wants them.

use super::{Header, Orientation};

/// Channels that a model wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Rgb,
    Bgr,
    Gray,
}

impl Mode {
    pub(super) fn channels(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Gray => 1,
        }
    }
}

/// Everything that happens to decoded pixels, in one pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrangement {
    pub(super) mode: Mode,
    pub(super) orientation: Orientation,
    /// What shines through where a picture is transparent; `None`: transparency is ignored.
    pub(super) background: Option<[u8; 3]>,
}

impl Arrangement {
    /// Whether there is nothing to do for pixels of so many channels.
    pub(super) fn is_as_decoded(&self, channels: usize) -> bool {
        let is_same = matches!((self.mode, channels), (Mode::Rgb, 3) | (Mode::Gray, 1));
        is_same && self.orientation.is_upright()
    }

    /// Fills `target` from `source`; both have exactly the bytes that their channels need.
    pub(super) fn apply(&self, header: &Header, source: &[u8], target: &mut [u8]) {
        let background = self.background;
        let colour = move |[red, green, blue, alpha]: [u8; 4]| match background {
            None => [red, green, blue],
            Some([below_red, below_green, below_blue]) => {
                [over(red, below_red, alpha), over(green, below_green, alpha), over(blue, below_blue, alpha)]
            }
        };
        let grey = move |[level, alpha]: [u8; 2]| match background {
            None => level,
            Some(below) => over(level, luma(below), alpha),
        };
        let reversed = |[red, green, blue]: [u8; 3]| [blue, green, red];
        match (header.channels, self.mode) {
            (1, Mode::Gray) => self.each(header, source, target, |level: [u8; 1]| level),
            (1, _) => self.each(header, source, target, |[level]| [level; 3]),
            (2, Mode::Gray) => self.each(header, source, target, |pixel| [grey(pixel)]),
            (2, _) => self.each(header, source, target, |[level, alpha]| colour([level, level, level, alpha])),
            (3, Mode::Gray) => self.each(header, source, target, |pixel| [luma(pixel)]),
            (3, Mode::Rgb) => self.each(header, source, target, |pixel: [u8; 3]| pixel),
            (3, Mode::Bgr) => self.each(header, source, target, reversed),
            (_, Mode::Gray) => self.each(header, source, target, |pixel| [luma(colour(pixel))]),
            (_, Mode::Rgb) => self.each(header, source, target, colour),
            (_, Mode::Bgr) => self.each(header, source, target, |pixel| reversed(colour(pixel))),
        }
    }

    fn each<const FROM: usize, const TO: usize>(
        &self,
        header: &Header,
        source: &[u8],
        target: &mut [u8],
        convert: impl Fn([u8; FROM]) -> [u8; TO],
    ) {
        let (pixels, _) = source.as_chunks::<FROM>();
        let (targets, _) = target.as_chunks_mut::<TO>();
        if self.orientation.is_upright() {
            targets.iter_mut().zip(pixels).for_each(|(target, pixel)| *target = convert(*pixel));
            return;
        }
        let walk = self.orientation.walk(header.width as usize, header.height as usize);
        let (width, _) = self.orientation.size(header.width, header.height);
        let mut first = walk.start;
        for row in targets.chunks_exact_mut(width as usize) {
            let mut at = first;
            for target in row {
                *target = convert(pixels[at]);
                at = at.wrapping_add_signed(walk.right);
            }
            first = first.wrapping_add_signed(walk.down);
        }
    }
}

/// One level laid over another, rounded.
fn over(level: u8, below: u8, alpha: u8) -> u8 {
    let (level, below, alpha) = (u32::from(level), u32::from(below), u32::from(alpha));
    ((level * alpha + below * (255 - alpha) + 127) / 255) as u8
}

/// The grey of a colour, as television has weighed it since BT.601, in 16 bits behind the point.
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    ((u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471 + 0x8000) >> 16) as u8
}
