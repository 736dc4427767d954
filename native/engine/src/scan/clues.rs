//! What a graph tells about the values its inputs may have, and about rows that may not be independent. Only hints: a
//! model is judged by its runs.

use std::collections::HashMap;

use servekit_core::Datatype;

use crate::protobuf::{Content, Malformed, Span};

/// Hints found in a graph.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Clues {
    /// Rows of the smallest table that an input picks from, by input.
    pub(crate) tables: HashMap<String, i64>,
    /// Operators that look across rows if their first axis counts rows, in graph order.
    pub(crate) suspects: Vec<String>,
    /// The least exact floating type among the weights, where it is less exact than FP32.
    pub(crate) coarsest: Option<Datatype>,
}

/// More suspects would not help.
const SUSPECTS_MAX: usize = 3;
/// Operators whose output holds the first input's elements, whole numbers unchanged.
const PASSING: [&[u8]; 11] = [
    b"Cast",
    b"Identity",
    b"Reshape",
    b"Squeeze",
    b"Unsqueeze",
    b"Flatten",
    b"Transpose",
    b"Slice",
    b"Clip",
    b"Expand",
    b"Split",
];
/// Operators whose output has the rows of their first input.
const TABLE_PASSING: [&[u8]; 3] = [b"Cast", b"Identity", b"DequantizeLinear"];

/// Reads the hints of the main graph.
pub(super) fn read(graph: Span<'_>) -> Result<Clues, Malformed> {
    let mut reader = Reader::default();
    for field in graph.fields() {
        match field? {
            (5, Content::Span(tensor)) => {
                let constant = Constant::read(tensor)?;
                reader.constants.insert(constant.name, constant);
            }
            (11, Content::Span(input)) => {
                if let Some(name) = first_span(input, 1)? {
                    reader.origins.insert(name, name);
                }
            }
            _ => {}
        }
    }
    // Old files list their weights among the inputs.
    reader.origins.retain(|name, _| !reader.constants.contains_key(name));
    for field in graph.fields() {
        if let (1, Content::Span(node)) = field? {
            reader.node(&Node::read(node)?);
        }
    }
    Ok(reader.clues)
}

/// What is known so far; names are those of values.
#[derive(Default)]
struct Reader<'a> {
    constants: HashMap<&'a [u8], Constant<'a>>,
    /// Values that hold an input's elements, and that input.
    origins: HashMap<&'a [u8], &'a [u8]>,
    clues: Clues,
}

/// A weight, or a constant.
#[derive(Clone, Default)]
struct Constant<'a> {
    name: &'a [u8],
    /// Size of the first axis.
    rows: Option<i64>,
    /// Its elements, where they are a few whole numbers.
    numbers: Vec<i64>,
    kind: u64,
}

impl<'a> Constant<'a> {
    fn read(tensor: Span<'a>) -> Result<Self, Malformed> {
        const INT64: u64 = 7;
        const NUMBERS_MAX: usize = 16;
        let mut constant = Self::default();
        let (mut raw, mut numbers): (&[u8], _) = (b"", Vec::new());
        for field in tensor.fields() {
            match field? {
                (1, Content::Varint(size)) => _ = constant.rows.get_or_insert(size.cast_signed()),
                (1, Content::Span(sizes)) => {
                    for size in sizes.varints().take(1) {
                        constant.rows.get_or_insert(size?.cast_signed());
                    }
                }
                (2, Content::Varint(kind)) => constant.kind = kind,
                (5 | 7, Content::Varint(number)) => numbers.push(number.cast_signed()),
                (5 | 7, Content::Span(packed)) => {
                    for number in packed.varints().take(NUMBERS_MAX + 1) {
                        numbers.push(number?.cast_signed());
                    }
                }
                (8, Content::Span(name)) => constant.name = name.bytes,
                (9, Content::Span(span)) => raw = span.bytes,
                _ => {}
            }
        }
        if constant.kind == INT64 && raw.len() <= NUMBERS_MAX * 8 {
            numbers.extend(raw.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)));
        }
        if numbers.len() <= NUMBERS_MAX {
            constant.numbers = numbers;
        }
        Ok(constant)
    }
}

/// One node, as far as hints need it.
#[derive(Default)]
struct Node<'a> {
    operator: &'a [u8],
    inputs: Vec<&'a [u8]>,
    outputs: Vec<&'a [u8]>,
    /// Attributes that are whole numbers, or lists of them.
    numbers: HashMap<&'a [u8], Vec<i64>>,
    /// The tensor of a Constant.
    tensor: Option<Constant<'a>>,
}

impl<'a> Node<'a> {
    fn read(node: Span<'a>) -> Result<Self, Malformed> {
        let mut read = Self::default();
        for field in node.fields() {
            match field? {
                (1, Content::Span(input)) => read.inputs.push(input.bytes),
                (2, Content::Span(output)) => read.outputs.push(output.bytes),
                (4, Content::Span(operator)) => read.operator = operator.bytes,
                (5, Content::Span(attribute)) => read.attribute(attribute)?,
                _ => {}
            }
        }
        Ok(read)
    }

    fn attribute(&mut self, attribute: Span<'a>) -> Result<(), Malformed> {
        let (mut name, mut numbers): (&[u8], Vec<i64>) = (b"", Vec::new());
        for field in attribute.fields() {
            match field? {
                (1, Content::Span(span)) => name = span.bytes,
                (3 | 8, Content::Varint(number)) => numbers.push(number.cast_signed()),
                (8, Content::Span(packed)) => {
                    for number in packed.varints() {
                        numbers.push(number?.cast_signed());
                    }
                }
                (5, Content::Span(tensor)) if self.operator == b"Constant" || self.operator.is_empty() => {
                    self.tensor = Some(Constant::read(tensor)?);
                }
                _ => {}
            }
        }
        if !numbers.is_empty() {
            self.numbers.insert(name, numbers);
        }
        Ok(())
    }

    fn number(&self, name: &[u8], default: i64) -> i64 {
        self.numbers.get(name).and_then(|numbers| numbers.first().copied()).unwrap_or(default)
    }
}

impl<'a> Reader<'a> {
    fn node(&mut self, node: &Node<'a>) {
        let first = node.inputs.first().copied().unwrap_or_default();
        if let (b"Constant", Some(tensor), Some(output)) = (node.operator, &node.tensor, node.outputs.first()) {
            self.constants.insert(output, tensor.clone());
        }
        if let (true, Some(&origin)) = (PASSING.contains(&node.operator), self.origins.get(first)) {
            self.origins.extend(node.outputs.iter().map(|output| (*output, origin)));
        }
        if let (true, Some(constant)) = (TABLE_PASSING.contains(&node.operator), self.constants.get(first).cloned()) {
            self.constants.extend(node.outputs.iter().map(|output| (*output, constant.clone())));
        }
        for constant in node.inputs.iter().filter_map(|input| self.constants.get(input)) {
            self.clues.coarsest = match constant.kind {
                10 if self.clues.coarsest.is_none() => Some(Datatype::Fp16),
                16 => Some(Datatype::Bf16),
                _ => self.clues.coarsest,
            };
        }
        self.tables(node);
        if self.clues.suspects.len() < SUSPECTS_MAX
            && let Some(suspect) = self.suspect(node)
            && !self.clues.suspects.contains(&suspect)
        {
            self.clues.suspects.push(suspect);
        }
    }

    /// Notes which input picks from a table of how many rows.
    fn tables(&mut self, node: &Node<'a>) {
        let pairs: &[(usize, usize)] = match node.operator {
            b"Gather" | b"GatherBlockQuantized" if node.number(b"axis", 0) == 0 => &[(0, 1)],
            b"EmbedLayerNormalization" => &[(2, 0), (4, 1)],
            _ => &[],
        };
        for &(table, index) in pairs {
            let rows = node.inputs.get(table).and_then(|name| self.constants.get(name)?.rows).filter(|&rows| rows > 0);
            let origin = node.inputs.get(index).and_then(|name| self.origins.get(name));
            if let (Some(rows), Some(origin)) = (rows, origin) {
                let least = self.clues.tables.entry(String::from_utf8_lossy(origin).into_owned()).or_insert(rows);
                *least = rows.min(*least);
            }
        }
    }

    /// In words, where a node looks across rows if its first axis counts rows.
    fn suspect(&self, node: &Node<'a>) -> Option<String> {
        let name = String::from_utf8_lossy(node.operator);
        let over_first = || Some(format!("{name} over axis 0"));
        let constant = |index: usize| node.inputs.get(index).and_then(|name| self.constants.get(name));
        match node.operator {
            b"Softmax" | b"LogSoftmax" | b"Hardmax" | b"TopK" | b"LpNormalization" | b"Compress"
                if node.number(b"axis", -1) == 0 =>
            {
                over_first()
            }
            b"ArgMax" | b"ArgMin" | b"Unique" if node.number(b"axis", 0) == 0 => over_first(),
            b"CumSum" if constant(1)?.numbers == [0] => over_first(),
            b"BatchNormalization" if node.number(b"training_mode", 0) == 1 => {
                Some(format!("{name} in training mode, over axis 0"))
            }
            b"DynamicQuantizeLinear" => Some(format!("{name}, one scale for all rows")),
            b"RandomNormal" | b"RandomUniform" | b"RandomNormalLike" | b"RandomUniformLike" | b"Multinomial"
            | b"Bernoulli" => Some(format!("{name}, which draws numbers")),
            b"Reshape" => {
                let size = *constant(1)?.numbers.first()?;
                (size > 0).then(|| format!("{name} to a first axis of {size}"))
            }
            operator if operator.starts_with(b"Reduce") => {
                let axes = node.numbers.get(&b"axes"[..]).or_else(|| constant(1).map(|constant| &constant.numbers));
                match axes {
                    Some(axes) => axes.contains(&0).then(over_first)?,
                    None if node.number(b"noop_with_empty_axes", 0) == 0 && node.inputs.len() < 2 => {
                        Some(format!("{name} over all axes"))
                    }
                    None => None,
                }
            }
            _ => None,
        }
    }
}

/// The first field of this number.
fn first_span(message: Span<'_>, number: u64) -> Result<Option<&[u8]>, Malformed> {
    for field in message.fields() {
        match field? {
            (found, Content::Span(span)) if found == number => return Ok(Some(span.bytes)),
            _ => {}
        }
    }
    Ok(None)
}
