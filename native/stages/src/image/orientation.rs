//! How a camera was held.

/// One of the eight ways to turn and mirror a picture, by its number in EXIF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orientation(u8);

impl Default for Orientation {
    fn default() -> Self {
        Self(1)
    }
}

/// Which pixel of the stored picture comes first in the shown one, and how far it is to the next one in the stored
/// picture when one goes right or down in the shown one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walk {
    pub(super) start: usize,
    pub(super) right: isize,
    pub(super) down: isize,
}

impl Orientation {
    /// What EXIF data says; upright where it says nothing that makes sense.
    pub(super) fn of_exif(exif: &[u8]) -> Self {
        Self::read(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif)).unwrap_or_default()
    }

    fn read(tiff: &[u8]) -> Option<Self> {
        const TAG: u16 = 0x0112;
        const SHORT: u16 = 3;
        const ENTRY_BYTES: usize = 12;
        let is_little = match tiff.get(..4)? {
            b"II*\0" => true,
            b"MM\0*" => false,
            _ => return None,
        };
        let short = |bytes: &[u8], at: usize| -> Option<u16> {
            let bytes = *bytes.get(at..)?.first_chunk()?;
            Some(if is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
        };
        let offset = *tiff.get(4..)?.first_chunk()?;
        let offset = if is_little { u32::from_le_bytes(offset) } else { u32::from_be_bytes(offset) };
        let directory = tiff.get(usize::try_from(offset).ok()?..)?;
        let count = short(directory, 0)?;
        let mut entries = directory.get(2..)?.chunks_exact(ENTRY_BYTES).take(count.into());
        let entry = entries.find(|entry| short(entry, 0) == Some(TAG) && short(entry, 2) == Some(SHORT))?;
        let number = u8::try_from(short(entry, 8)?).ok()?;
        (1..=8).contains(&number).then_some(Self(number))
    }

    pub(super) fn is_upright(self) -> bool {
        self.0 == 1
    }

    /// Width and height as shown.
    pub(super) fn size(self, width: u32, height: u32) -> (u32, u32) {
        if self.0 >= 5 { (height, width) } else { (width, height) }
    }

    /// Both sides are at least 1, and their product fits.
    pub(super) fn walk(self, width: usize, height: usize) -> Walk {
        let (last, row) = (width - 1, width as isize);
        let bottom = (height - 1) * width;
        let (start, right, down) = match self.0 {
            2 => (last, -1, row),
            3 => (bottom + last, -1, -row),
            4 => (bottom, 1, -row),
            5 => (0, row, 1),
            6 => (bottom, -row, 1),
            7 => (bottom + last, -row, -1),
            8 => (last, row, -1),
            _ => (0, 1, row),
        };
        Walk { start, right, down }
    }
}

#[cfg(test)]
mod tests;
