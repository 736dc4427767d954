//! Header blocks to fields.

use super::table::{DynamicTable, STATIC};
use super::{Undecodable, huffman, integer};

/// Decodes the header blocks of one direction of one connection, in their order.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: DynamicTable,
    /// What we announced (or did not: then the protocol's default holds).
    table_bytes_max: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    pub(crate) fn new(table_bytes_max: usize) -> Self {
        Self { table: DynamicTable::new(table_bytes_max), table_bytes_max, name: Vec::new(), value: Vec::new() }
    }

    /// Equal before and after means: the same block decodes to the same fields.
    pub(crate) fn generation(&self) -> u64 {
        self.table.generation()
    }

    /// Bytes that the dynamic table holds, as the RFC counts them.
    #[cfg(test)]
    pub(crate) fn table_bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Hands name and value of each field to `each`, in order. The whole block is decoded whatever `each` thinks of
    /// it, since later blocks rely on the table.
    pub(crate) fn decode(&mut self, mut block: &[u8], mut each: impl FnMut(&[u8], &[u8])) -> Result<(), Undecodable> {
        let mut fields_begun = false;
        while let Some(&first) = block.first() {
            if first & 0xe0 == 0x20 {
                self.resize(integer::take(&mut block, 5)?, fields_begun)?;
                continue;
            }
            fields_begun = true;
            if first & 0x80 != 0 {
                let (name, value) = entry(&self.table, integer::take(&mut block, 7)?)?;
                each(name, value);
                continue;
            }
            let kept = first & 0x40 != 0;
            let index = integer::take(&mut block, if kept { 6 } else { 4 })?;
            self.name.clear();
            if index == 0 {
                string(&mut block, &mut self.name)?;
            } else {
                self.name.extend_from_slice(entry(&self.table, index)?.0);
            }
            self.value.clear();
            string(&mut block, &mut self.value)?;
            if kept {
                self.table.insert(&self.name, &self.value);
            }
            each(&self.name, &self.value);
        }
        Ok(())
    }

    fn resize(&mut self, bytes_max: usize, fields_begun: bool) -> Result<(), Undecodable> {
        if fields_begun {
            return Err(Undecodable("table size changes after the first field of a header block"));
        }
        if bytes_max > self.table_bytes_max {
            return Err(Undecodable("table size changes to more than was allowed"));
        }
        self.table.resize(bytes_max);
        Ok(())
    }
}

fn entry(table: &DynamicTable, index: usize) -> Result<(&[u8], &[u8]), Undecodable> {
    let found = match index.checked_sub(1) {
        None => None,
        Some(at) if at < STATIC.len() => Some((STATIC[at].0.as_bytes(), STATIC[at].1.as_bytes())),
        Some(at) => table.get(at - STATIC.len()),
    };
    found.ok_or(Undecodable("index of a header block is in neither table"))
}

fn string(block: &mut &[u8], text: &mut Vec<u8>) -> Result<(), Undecodable> {
    let coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let bytes = integer::take(block, 7)?;
    let (string, rest) = block.split_at_checked(bytes).ok_or(Undecodable("header block ends inside a string"))?;
    *block = rest;
    if coded {
        return huffman::decode(string, text);
    }
    text.extend_from_slice(string);
    Ok(())
}
