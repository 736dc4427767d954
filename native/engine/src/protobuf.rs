//! Reads the protobuf wire format field by field, without copying and without trust.

/// Bytes that are no protobuf message, found at this offset of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) offset: usize,
}

/// A run of bytes and where it stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) offset: usize,
}

impl<'a> Span<'a> {
    /// The whole file.
    pub(crate) fn file(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Its fields, read as a message.
    pub(crate) fn fields(self) -> Fields<'a> {
        Fields { span: self, position: 0 }
    }

    /// Its numbers, read as a packed list.
    pub(crate) fn varints(self) -> impl Iterator<Item = Result<u64, Malformed>> {
        let mut fields = self.fields();
        std::iter::from_fn(move || fields.has_more().then(|| fields.varint()))
    }

    /// Its text, with replacements where it is not UTF-8.
    pub(crate) fn text(self) -> String {
        String::from_utf8_lossy(self.bytes).into_owned()
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    Varint(u64),
    Span(Span<'a>),
    /// 4 or 8 bytes, whose value nobody here needs.
    Fixed,
}

/// The fields of one message: numbers and contents, in file order.
pub(crate) struct Fields<'a> {
    span: Span<'a>,
    position: usize,
}

impl<'a> Fields<'a> {
    fn has_more(&self) -> bool {
        self.position < self.span.bytes.len()
    }

    fn malformed(&self) -> Malformed {
        Malformed { offset: self.span.offset + self.position.min(self.span.bytes.len()) }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0_u64;
        for shift in (0..70).step_by(7) {
            let Some(&byte) = self.span.bytes.get(self.position) else { return Err(self.malformed()) };
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(self.malformed());
            }
            number |= part << shift;
            self.position += 1;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.malformed())
    }

    fn take(&mut self, length: u64) -> Result<Span<'a>, Malformed> {
        let rest = &self.span.bytes[self.position..];
        let bytes =
            usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or_else(|| self.malformed())?;
        let span = Span { bytes, offset: self.span.offset + self.position };
        self.position += bytes.len();
        Ok(span)
    }

    fn field(&mut self) -> Result<(u64, Content<'a>), Malformed> {
        let key = self.varint()?;
        let content = match key & 7 {
            0 => Content::Varint(self.varint()?),
            1 => self.take(8).map(|_| Content::Fixed)?,
            2 => {
                let length = self.varint()?;
                Content::Span(self.take(length)?)
            }
            5 => self.take(4).map(|_| Content::Fixed)?,
            _ => return Err(self.malformed()),
        };
        if key >> 3 == 0 { Err(self.malformed()) } else { Ok((key >> 3, content)) }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Content<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.has_more() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.position = self.span.bytes.len();
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u64, Content<'_>)>, Malformed> {
        Span::file(bytes).fields().collect()
    }

    #[test]
    fn fields_come_in_file_order() {
        let span = Span { bytes: b"ab", offset: 5 };
        let expected = vec![(1, Content::Varint(150)), (2, Content::Span(span)), (3, Content::Fixed)];
        assert_eq!(read(b"\x08\x96\x01\x12\x02ab\x1d1234"), Ok(expected));
    }

    #[test]
    fn what_is_cut_grouped_or_numbered_zero_is_malformed() {
        for bytes in
            [&b"\x08"[..], b"\x12\x05ab", b"\x0b", b"\x00\x01", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"]
        {
            let malformed = read(bytes).expect_err("malformed");
            assert!(malformed.offset <= bytes.len());
        }
        assert_eq!(read(b""), Ok(vec![]));
    }
}
