//! The bytes of a JPEG, as its decoder reads them: four at a time for each few coefficients, so what a read costs is
//! most of what could be saved.

use zune_core::bytestream::{ZByteIoError, ZByteReaderTrait, ZSeekFrom};

/// Bytes that are all there, and the place of the next. Past the end there is nothing, or zeros where no error is told.
pub(super) struct Source<'a> {
    bytes: &'a [u8],
    /// May be past the end.
    at: usize,
}

impl<'a> Source<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }
}

// Inlined, the size of what is to be read is known: then it is one load, and no call that copies.
impl ZByteReaderTrait for Source<'_> {
    #[inline(always)]
    fn read_byte_no_error(&mut self) -> u8 {
        let Some(byte) = self.bytes.get(self.at) else { return 0 };
        self.at += 1;
        *byte
    }

    #[inline(always)]
    fn read_exact_bytes(&mut self, buffer: &mut [u8]) -> Result<(), ZByteIoError> {
        self.peek_exact_bytes(buffer)?;
        self.at += buffer.len();
        Ok(())
    }

    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, ZByteIoError> {
        let count = self.peek_bytes(buffer)?;
        self.at += count;
        Ok(count)
    }

    fn peek_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, ZByteIoError> {
        let rest = self.rest();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    #[inline(always)]
    fn peek_exact_bytes(&mut self, buffer: &mut [u8]) -> Result<(), ZByteIoError> {
        let found = self.at.checked_add(buffer.len()).and_then(|end| self.bytes.get(self.at..end));
        let Some(found) = found else {
            return Err(ZByteIoError::NotEnoughBytes(self.rest().len(), buffer.len()));
        };
        buffer.copy_from_slice(found);
        Ok(())
    }

    #[inline(always)]
    fn z_seek(&mut self, from: ZSeekFrom) -> Result<u64, ZByteIoError> {
        let place = match from {
            ZSeekFrom::Start(place) => usize::try_from(place).ok(),
            ZSeekFrom::End(distance) => self.bytes.len().checked_add_signed(distance as isize),
            ZSeekFrom::Current(distance) => self.at.checked_add_signed(distance as isize),
        };
        self.at = place.ok_or(ZByteIoError::SeekError("a place before the first byte"))?;
        Ok(self.at as u64)
    }

    #[inline(always)]
    fn is_eof(&mut self) -> Result<bool, ZByteIoError> {
        Ok(self.at >= self.bytes.len())
    }

    fn z_position(&mut self) -> Result<u64, ZByteIoError> {
        Ok(self.at as u64)
    }

    fn read_remaining(&mut self, sink: &mut Vec<u8>) -> Result<usize, ZByteIoError> {
        let rest = self.rest();
        sink.extend_from_slice(rest);
        self.at += rest.len();
        Ok(rest.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zune_core::bytestream::ZCursor;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Byte,
        Exact(usize),
        Read(usize),
        Peek(usize),
        PeekExact(usize),
        Start(u64),
        End(i64),
        Current(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Byte),
            (1..6usize).prop_map(Step::Exact),
            (1..6usize).prop_map(Step::Read),
            (1..6usize).prop_map(Step::Peek),
            (1..6usize).prop_map(Step::PeekExact),
            (0..40u64).prop_map(Step::Start),
            (-40..10i64).prop_map(Step::End),
            (-40..10i64).prop_map(Step::Current),
        ]
    }

    /// What one step gives: whether it worked, what it wrote, how much, and the place behind it.
    fn taken(reader: &mut impl ZByteReaderTrait, step: &Step) -> (Option<u64>, [u8; 6], Option<u64>, Option<bool>) {
        let mut buffer = [0; 6];
        let outcome = match *step {
            Step::Byte => Ok(u64::from(reader.read_byte_no_error())),
            Step::Exact(count) => reader.read_exact_bytes(&mut buffer[..count]).map(|()| 0),
            Step::Read(count) => reader.read_bytes(&mut buffer[..count]).map(|found| found as u64),
            Step::Peek(count) => reader.peek_bytes(&mut buffer[..count]).map(|found| found as u64),
            Step::PeekExact(count) => reader.peek_exact_bytes(&mut buffer[..count]).map(|()| 0),
            Step::Start(place) => reader.z_seek(ZSeekFrom::Start(place)),
            Step::End(distance) => reader.z_seek(ZSeekFrom::End(distance)),
            Step::Current(distance) => reader.z_seek(ZSeekFrom::Current(distance)),
        };
        if outcome.is_err() {
            // What is in the buffer after an error means nothing.
            buffer = [0; 6];
        }
        (outcome.ok(), buffer, reader.z_position().ok(), reader.is_eof().ok())
    }

    proptest! {
        #[test]
        fn bytes_are_read_as_the_decoders_own_cursor_reads_them(
            bytes in proptest::collection::vec(any::<u8>(), 0..24),
            steps in proptest::collection::vec(step(), 0..24),
        ) {
            let (mut own, mut theirs) = (Source::new(&bytes), ZCursor::new(&bytes));
            for step in &steps {
                prop_assert_eq!(taken(&mut own, step), taken(&mut theirs, step), "{:?}", step);
            }
        }
    }

    #[test]
    fn the_rest_is_what_was_not_read() {
        let mut source = Source::new(b"abc");
        assert_eq!(source.read_byte_no_error(), b'a');
        let mut rest = Vec::new();
        assert!(matches!(source.read_remaining(&mut rest), Ok(2)));
        assert_eq!((rest.as_slice(), source.is_eof().ok()), (&b"bc"[..], Some(true)));
        assert!(matches!(source.read_remaining(&mut rest), Ok(0)));
    }
}
