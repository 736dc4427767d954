//! Looks through an ONNX file before ONNX Runtime sees it: counts what is bounded, finds what it refers to, and refuses
//! operators that nobody has vouched for. It allocates by what it finds, never by what a file claims.

use std::collections::{BTreeMap, HashMap, HashSet};

use servekit_core::{Limits, Reason, Refusal, quoted};

use crate::protobuf::{Content, Malformed, Span};

mod clues;

pub(crate) use clues::Clues;

/// Operator domains that ONNX Runtime itself implements.
const DOMAINS: [&[u8]; 6] =
    [b"", b"ai.onnx", b"ai.onnx.ml", b"ai.onnx.training", b"ai.onnx.preview.training", b"com.microsoft"];
/// Operators of those domains that run code or open files from outside the model.
const REFUSED: [&[u8]; 3] = [b"EPContext", b"PyOp", b"PyCustomOp"];

/// What a file holds.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Scan {
    /// An operator that repeats others, so that no probe can bound a run.
    pub(crate) repeats: Option<&'static str>,
    /// Column labels of the outputs of ZipMap nodes, by output.
    pub(crate) labels: HashMap<String, Labels>,
    /// Files with weights, and the bytes each must have at least.
    pub(crate) external: BTreeMap<String, u64>,
    /// Bytes of all weights, as far as the file tells.
    pub(crate) weights_bytes: u64,
    /// Hints for those who make rows up.
    pub(crate) clues: Clues,
}

/// Labels of a classifier, in the order of its columns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Labels {
    Texts(Vec<String>),
    Numbers(Vec<i64>),
}

/// Why a scan ended early.
enum Stop {
    Malformed(Malformed),
    Refused(String),
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// Scans the file of the model of this name.
///
/// # Errors
/// `ModelFile`, naming what was found.
pub(crate) fn scan(file: &[u8], model: &str, limits: &Limits) -> Result<Scan, Refusal> {
    let mut scanner = Scanner { limits, functions: HashSet::new(), nodes: 0, scan: Scan::default() };
    scanner.model(Span::file(file)).map_err(|stop| {
        let text = match stop {
            Stop::Malformed(Malformed { offset }) => {
                format!("model '{model}' is no ONNX file: byte {offset} of {} is wrong; export it again", file.len())
            }
            Stop::Refused(text) => format!("model '{model}' {text}"),
        };
        Refusal::new(Reason::ModelFile, text)
    })?;
    Ok(scanner.scan)
}

struct Scanner<'a> {
    limits: &'a Limits,
    /// Domain and name of the functions that the file defines itself.
    functions: HashSet<(&'a [u8], &'a [u8])>,
    nodes: u64,
    scan: Scan,
}

impl<'a> Scanner<'a> {
    fn model(&mut self, file: Span<'a>) -> Result<(), Stop> {
        const GRAPH: u64 = 7;
        const TRAINING: u64 = 20;
        const FUNCTION: u64 = 25;
        for field in file.fields() {
            if let (FUNCTION, Content::Span(function)) = field? {
                self.name_function(function)?;
            }
        }
        let mut has_graph = false;
        for field in file.fields() {
            match field? {
                (GRAPH, Content::Span(graph)) => {
                    has_graph = true;
                    self.check_ends(graph)?;
                    self.graph(graph, 0)?;
                    self.scan.clues = clues::read(graph)?;
                }
                (TRAINING, Content::Span(training)) => {
                    for graph in training.fields() {
                        if let (1 | 2, Content::Span(graph)) = graph? {
                            self.graph(graph, 1)?;
                        }
                    }
                }
                (FUNCTION, Content::Span(function)) => self.function(function)?,
                _ => {}
            }
        }
        if has_graph { Ok(()) } else { Err(Stop::Refused("holds no graph, one is needed; export it again".to_owned())) }
    }

    fn name_function(&mut self, function: Span<'a>) -> Result<(), Stop> {
        let (mut name, mut domain): (&[u8], &[u8]) = (b"", b"");
        for field in function.fields() {
            match field? {
                (1, Content::Span(span)) => name = span.bytes,
                (10, Content::Span(span)) => domain = span.bytes,
                _ => {}
            }
        }
        self.functions.insert((domain, name));
        Ok(())
    }

    fn function(&mut self, function: Span<'a>) -> Result<(), Stop> {
        for field in function.fields() {
            match field? {
                (7, Content::Span(node)) => self.node(node, 1)?,
                (11, Content::Span(attribute)) => self.attribute(attribute, 1)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Bounds the inputs that are no weights, and the outputs.
    fn check_ends(&self, graph: Span<'a>) -> Result<(), Stop> {
        let (mut initializers, mut inputs, mut outputs) = (0_u64, 0_u64, 0_u64);
        for field in graph.fields() {
            match field?.0 {
                5 | 15 => initializers += 1,
                11 => inputs += 1,
                12 => outputs += 1,
                _ => {}
            }
        }
        // Old files list their weights among the inputs.
        self.check_count("inputs", inputs.saturating_sub(initializers), self.limits.model_tensors_max)?;
        self.check_count("outputs", outputs, self.limits.model_tensors_max)
    }

    fn check_count(&self, what: &str, found: u64, allowed: u64) -> Result<(), Stop> {
        if found <= allowed {
            return Ok(());
        }
        Err(Stop::Refused(format!("has {found} {what}, at most {allowed} are allowed; make it smaller")))
    }

    fn graph(&mut self, graph: Span<'a>, depth: u64) -> Result<(), Stop> {
        self.check_count("graphs inside each other", depth, self.limits.model_graph_depth_max)?;
        for field in graph.fields() {
            match field? {
                (1, Content::Span(node)) => self.node(node, depth)?,
                (5, Content::Span(tensor)) => self.tensor(tensor)?,
                (15, Content::Span(tensor)) => self.sparse_tensor(tensor)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn node(&mut self, node: Span<'a>, depth: u64) -> Result<(), Stop> {
        self.nodes += 1;
        self.check_count("nodes", self.nodes, self.limits.model_nodes_max)?;
        let (mut operator, mut domain, mut output): (&[u8], &[u8], Option<Span<'a>>) = (b"", b"", None);
        for field in node.fields() {
            match field? {
                (2, Content::Span(span)) if output.is_none() => output = Some(span),
                (4, Content::Span(span)) => operator = span.bytes,
                (7, Content::Span(span)) => domain = span.bytes,
                _ => {}
            }
        }
        self.check_operator(domain, operator)?;
        for (name, repeating) in [(&b"Loop"[..], "Loop"), (b"Scan", "Scan")] {
            if operator == name {
                self.scan.repeats = Some(repeating);
            }
        }
        let mut labels = None;
        for field in node.fields() {
            if let (5, Content::Span(attribute)) = field? {
                self.attribute(attribute, depth)?;
                if operator == b"ZipMap" {
                    labels = labels.or(labels_of(attribute)?);
                }
            }
        }
        if let (Some(labels), Some(output), 0) = (labels, output, depth) {
            self.scan.labels.insert(output.text(), labels);
        }
        Ok(())
    }

    fn check_operator(&self, domain: &'a [u8], operator: &'a [u8]) -> Result<(), Stop> {
        let is_known = DOMAINS.contains(&domain) && !REFUSED.contains(&operator);
        if is_known || self.functions.contains(&(domain, operator)) {
            return Ok(());
        }
        let dot = if domain.is_empty() { "" } else { "." };
        Err(Stop::Refused(format!(
            "uses operator {}{dot}{}, those of ai.onnx, ai.onnx.ml and com.microsoft that stay inside the model are \
             allowed; export it with them",
            quoted(domain),
            quoted(operator)
        )))
    }

    fn attribute(&mut self, attribute: Span<'a>, depth: u64) -> Result<(), Stop> {
        for field in attribute.fields() {
            match field? {
                (5 | 10, Content::Span(tensor)) => self.tensor(tensor)?,
                (6 | 11, Content::Span(graph)) => self.graph(graph, depth + 1)?,
                (22 | 23, Content::Span(tensor)) => self.sparse_tensor(tensor)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn sparse_tensor(&mut self, tensor: Span<'a>) -> Result<(), Stop> {
        for field in tensor.fields() {
            if let (1 | 2, Content::Span(part)) = field? {
                self.tensor(part)?;
            }
        }
        Ok(())
    }

    /// Notes where a tensor's data lie, and checks that they can hold what its shape claims.
    fn tensor(&mut self, tensor: Span<'a>) -> Result<(), Stop> {
        const EXTERNAL: u64 = 1;
        let (mut elements, mut name, mut location) = (1_u64, Span { bytes: b"", offset: 0 }, 0);
        let mut external = External::default();
        for field in tensor.fields() {
            match field? {
                (1, Content::Varint(size)) => elements = elements.saturating_mul(size),
                (1, Content::Span(sizes)) => {
                    for size in sizes.varints() {
                        elements = elements.saturating_mul(size?);
                    }
                }
                (8, Content::Span(span)) => name = span,
                (13, Content::Span(entry)) => external.read(entry)?,
                (14, Content::Varint(number)) => location = number,
                _ => {}
            }
        }
        let is_external = location == EXTERNAL || external.location.is_some();
        let bytes = if is_external { self.external(&external, name)? } else { tensor.bytes.len() as u64 };
        self.scan.weights_bytes = self.scan.weights_bytes.saturating_add(bytes);
        /// The smallest elements have 2 bits; this leaves room for smaller ones to come.
        const ELEMENTS_PER_BYTE_MAX: u64 = 8;
        let is_length_known = !is_external || external.length.is_some();
        if is_length_known && elements > bytes.saturating_mul(ELEMENTS_PER_BYTE_MAX) {
            return Err(Stop::Refused(format!(
                "has a tensor '{}' that claims {elements} elements, its {bytes} bytes cannot hold them; export it again",
                quoted(name.bytes)
            )));
        }
        Ok(())
    }

    /// The bytes of a tensor in another file, as far as its entry tells.
    fn external(&mut self, external: &External, name: Span<'a>) -> Result<u64, Stop> {
        let Some(location) = &external.location else {
            return Err(Stop::Refused(format!(
                "has a tensor '{}' with data outside the file but no location; export it again",
                quoted(name.bytes)
            )));
        };
        let length = external.length.unwrap_or(0);
        let needed = self.scan.external.entry(location.clone()).or_default();
        *needed = (*needed).max(external.offset.saturating_add(length));
        Ok(length)
    }
}

/// The entries that say where a tensor's data lie.
#[derive(Default)]
struct External {
    location: Option<String>,
    offset: u64,
    length: Option<u64>,
}

impl External {
    fn read(&mut self, entry: Span<'_>) -> Result<(), Stop> {
        let (mut key, mut value): (&[u8], String) = (b"", String::new());
        for field in entry.fields() {
            match field? {
                (1, Content::Span(span)) => key = span.bytes,
                (2, Content::Span(span)) => value = span.text(),
                _ => {}
            }
        }
        let number = |value: &str| {
            value.parse().map_err(|_| {
                let found = quoted(value.as_bytes());
                Stop::Refused(format!("places external data at '{found}', a number is allowed; export it again"))
            })
        };
        match key {
            b"location" => self.location = Some(value),
            b"offset" => self.offset = number(&value)?,
            b"length" => self.length = Some(number(&value)?),
            _ => {}
        }
        Ok(())
    }
}

/// The labels of a ZipMap node, if this attribute has them.
fn labels_of(attribute: Span<'_>) -> Result<Option<Labels>, Stop> {
    let (mut name, mut texts, mut numbers): (&[u8], _, _) = (b"", Vec::new(), Vec::new());
    for field in attribute.fields() {
        match field? {
            (1, Content::Span(span)) => name = span.bytes,
            (9, Content::Span(text)) => texts.push(text.text()),
            (8, Content::Varint(number)) => numbers.push(number.cast_signed()),
            (8, Content::Span(packed)) => {
                for number in packed.varints() {
                    numbers.push(number?.cast_signed());
                }
            }
            _ => {}
        }
    }
    Ok(match name {
        b"classlabels_strings" if !texts.is_empty() => Some(Labels::Texts(texts)),
        b"classlabels_int64s" if !numbers.is_empty() => Some(Labels::Numbers(numbers)),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
