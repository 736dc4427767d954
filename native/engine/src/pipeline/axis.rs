//! Sizes of axes: a number, a name that stands for one, or arithmetic on both.

use std::fmt;

use servekit_core::Shape;

/// Longest arithmetic of one axis; what people and programs write is far shorter.
const TEXT_BYTES_MAX: usize = 1024;
/// Intermediate results at once, and brackets within brackets.
const DEPTH_MAX: usize = 32;

/// Names of sizes; each has a place in [`Sizes`].
#[derive(Debug, Default)]
pub(super) struct Names(Vec<Box<str>>);

impl Names {
    /// The place of this name; a new one where it is new.
    pub(super) fn place(&mut self, name: &str) -> usize {
        self.0.iter().position(|known| known.as_ref() == name).unwrap_or_else(|| {
            self.0.push(name.into());
            self.0.len() - 1
        })
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// What names stand for in one batch. Used again for the next.
#[derive(Debug, Default)]
pub(super) struct Sizes(Vec<Option<i64>>);

impl Sizes {
    /// So many names, none of which stands for anything.
    pub(super) fn reset(&mut self, count: usize) {
        self.0.clear();
        self.0.resize(count, None);
    }

    pub(super) fn get(&self, place: usize) -> Option<i64> {
        self.0.get(place).copied().flatten()
    }

    /// True if the name stands for this size, from now on where it stood for none.
    pub(super) fn agree(&mut self, place: usize, size: i64) -> bool {
        match self.0.get_mut(place) {
            Some(known) => *known.get_or_insert(size) == size,
            None => false,
        }
    }
}

/// Why an axis has no size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unsized {
    /// A name stands for nothing yet.
    Unknown,
    /// What is wrong with the arithmetic, for these sizes.
    Wrong(String),
}

/// One axis.
#[derive(Debug)]
pub(super) enum Axis {
    /// Always this many.
    Fixed(i64),
    /// What this name stands for.
    Symbol(usize, Box<str>),
    /// See [`Arithmetic`].
    Computed(Arithmetic),
}

impl Axis {
    /// An axis as a plan writes it, if it is no plain number.
    ///
    /// # Errors
    /// What cannot be read in it.
    pub(super) fn parse(text: &str, names: &mut Names) -> Result<Self, String> {
        let arithmetic = Arithmetic::parse(text, names)?;
        Ok(match *arithmetic.steps {
            [Step::Number(size)] => Self::Fixed(size.max(0)),
            [Step::Name(place)] => Self::Symbol(place, text.trim().into()),
            _ => Self::Computed(arithmetic),
        })
    }

    /// Whether its size depends on this name.
    pub(super) fn mentions(&self, place: usize) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Symbol(own, _) => *own == place,
            Self::Computed(arithmetic) => arithmetic.steps.contains(&Step::Name(place)),
        }
    }

    /// How large it is; less than nothing is nothing.
    pub(super) fn size(&self, sizes: &Sizes) -> Result<i64, Unsized> {
        match self {
            Self::Fixed(size) => Ok(*size),
            Self::Symbol(place, _) => sizes.get(*place).ok_or(Unsized::Unknown),
            Self::Computed(arithmetic) => arithmetic.value(sizes).map(|size| size.max(0)),
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(formatter, "{size}"),
            Self::Symbol(_, name) => formatter.write_str(name),
            Self::Computed(arithmetic) => formatter.write_str(&arithmetic.text),
        }
    }
}

/// All axes of a tensor.
#[derive(Debug)]
pub(super) struct Axes(pub(super) Box<[Axis]>);

impl Axes {
    /// Whether a tensor of this shape is meant; names that stood for nothing stand for its sizes from now on. An axis
    /// that is arithmetic on names without a size may have any.
    #[inline]
    pub(super) fn fit(&self, shape: &[i64], sizes: &mut Sizes) -> bool {
        if shape.len() != self.0.len() {
            return false;
        }
        // Names first: arithmetic may stand before the axis that gives its name a size.
        let mut is_computed = false;
        for (axis, &found) in self.0.iter().zip(shape) {
            let fits = match axis {
                Axis::Fixed(size) => *size == found,
                Axis::Symbol(place, _) => sizes.agree(*place, found),
                Axis::Computed(_) => {
                    is_computed = true;
                    true
                }
            };
            if !fits {
                return false;
            }
        }
        !is_computed || self.fit_computed(shape, sizes)
    }

    /// Few tensors have such axes: the others need not pay for it in each call.
    #[inline(never)]
    fn fit_computed(&self, shape: &[i64], sizes: &Sizes) -> bool {
        self.0.iter().zip(shape).all(|(axis, &found)| match axis {
            Axis::Computed(arithmetic) => match arithmetic.value(sizes) {
                Ok(size) => size.max(0) == found,
                Err(Unsized::Unknown) => true,
                Err(Unsized::Wrong(_)) => false,
            },
            Axis::Fixed(_) | Axis::Symbol(..) => true,
        })
    }

    /// Adds the sizes of these axes to a shape.
    ///
    /// # Errors
    /// Which axis has no size, and why.
    pub(super) fn extend(&self, shape: &mut Shape, sizes: &Sizes) -> Result<(), String> {
        for axis in &self.0 {
            shape.push(axis.size(sizes).map_err(|problem| match problem {
                Unsized::Unknown => format!("axis '{axis}' has a name that no input gives a size"),
                Unsized::Wrong(why) => format!("axis '{axis}' {why}"),
            })?);
        }
        Ok(())
    }
}

impl fmt::Display for Axes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[")?;
        for (index, axis) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(formatter, "{comma}{axis}")?;
        }
        formatter.write_str("]")
    }
}

/// Arithmetic on sizes, read once and computed for every batch: each step takes its operands from a stack and puts its
/// result there.
#[derive(Debug)]
pub(super) struct Arithmetic {
    /// As it was written.
    text: Box<str>,
    steps: Box<[Step]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Number(i64),
    Name(usize),
    Negate,
    Add,
    Subtract,
    Multiply,
    /// Rounds down, as in Python.
    Divide,
}

impl Arithmetic {
    fn parse(text: &str, names: &mut Names) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("has {} bytes, at most {TEXT_BYTES_MAX} are allowed; write it shorter", text.len()));
        }
        let mut parser = Parser { rest: text, names, steps: Vec::new(), stack: 0 };
        parser.sum(0)?;
        if !parser.rest.trim_start().is_empty() {
            return Err(parser.unexpected());
        }
        Ok(Self { text: text.trim().into(), steps: parser.steps.into() })
    }

    fn value(&self, sizes: &Sizes) -> Result<i64, Unsized> {
        let mut stack = [0_i64; DEPTH_MAX];
        // Behind the topmost; the parser has made sure that it stays within the stack, and that operands are there.
        let mut top = 0;
        for &step in &self.steps {
            match step {
                Step::Number(number) => {
                    stack[top] = number;
                    top += 1;
                }
                Step::Name(place) => {
                    stack[top] = sizes.get(place).ok_or(Unsized::Unknown)?;
                    top += 1;
                }
                Step::Negate => stack[top - 1] = stack[top - 1].checked_neg().ok_or_else(overflow)?,
                step => {
                    top -= 1;
                    stack[top - 1] = combined(step, stack[top - 1], stack[top])?;
                }
            }
        }
        Ok(stack[0])
    }
}

fn combined(step: Step, left: i64, right: i64) -> Result<i64, Unsized> {
    let result = match step {
        Step::Add => left.checked_add(right),
        Step::Subtract => left.checked_sub(right),
        Step::Multiply => left.checked_mul(right),
        _ if right == 0 => {
            return Err(Unsized::Wrong("divides by 0 for these sizes; send others".to_owned()));
        }
        _ => left.checked_div(right).map(|quotient| {
            let rounds_up = left % right != 0 && (left < 0) != (right < 0);
            quotient - i64::from(rounds_up)
        }),
    };
    result.ok_or_else(overflow)
}

#[cold]
fn overflow() -> Unsized {
    Unsized::Wrong("does not fit 64 bits for these sizes; send smaller ones".to_owned())
}

/// Reads arithmetic from the left; `*` and `//` bind before `+` and `-`.
struct Parser<'a> {
    rest: &'a str,
    names: &'a mut Names,
    steps: Vec<Step>,
    /// Values on the stack after the steps so far.
    stack: usize,
}

impl Parser<'_> {
    fn sum(&mut self, depth: usize) -> Result<(), String> {
        self.product(depth)?;
        loop {
            let step = if self.takes("+") {
                Step::Add
            } else if self.takes("-") {
                Step::Subtract
            } else {
                return Ok(());
            };
            self.product(depth)?;
            self.push(step)?;
        }
    }

    fn product(&mut self, depth: usize) -> Result<(), String> {
        self.factor(depth)?;
        loop {
            let step = if self.takes("//") {
                Step::Divide
            } else if self.takes("*") {
                Step::Multiply
            } else {
                return Ok(());
            };
            self.factor(depth)?;
            self.push(step)?;
        }
    }

    fn factor(&mut self, depth: usize) -> Result<(), String> {
        if depth >= DEPTH_MAX {
            return Err(format!("has more than {DEPTH_MAX} brackets within brackets; write it with fewer"));
        }
        if self.takes("-") {
            self.factor(depth + 1)?;
            return self.push(Step::Negate);
        }
        if self.takes("(") {
            self.sum(depth + 1)?;
            return if self.takes(")") { Ok(()) } else { Err(self.unexpected()) };
        }
        self.rest = self.rest.trim_start();
        let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
        let end = self.rest.find(|letter| !is_part(letter)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let Some(first) = word.chars().next() else { return Err(self.unexpected()) };
        let step = if first.is_ascii_digit() {
            Step::Number(word.parse().map_err(|_| self.unexpected())?)
        } else {
            Step::Name(self.names.place(word))
        };
        self.rest = rest;
        self.push(step)
    }

    fn push(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Number(_) | Step::Name(_) => self.stack += 1,
            Step::Negate => {}
            Step::Add | Step::Subtract | Step::Multiply | Step::Divide => self.stack -= 1,
        }
        if self.stack > DEPTH_MAX {
            return Err(format!("needs more than {DEPTH_MAX} intermediate results; write it with fewer brackets"));
        }
        self.steps.push(step);
        Ok(())
    }

    fn takes(&mut self, sign: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn unexpected(&self) -> String {
        let found = servekit_core::quoted(self.rest.trim_start().as_bytes());
        format!("is wrong at '{found}', names, whole numbers, + - * // and brackets are allowed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, known: &[(&str, i64)]) -> Result<i64, Unsized> {
        let mut names = Names::default();
        let axis = Axis::parse(text, &mut names).expect("parsed");
        let mut sizes = Sizes::default();
        for (name, _) in known {
            names.place(name);
        }
        sizes.reset(names.len());
        for (name, size) in known {
            assert!(sizes.agree(names.place(name), *size));
        }
        axis.size(&sizes)
    }

    #[test]
    fn arithmetic_is_that_of_python() {
        let known = [("height", 7), ("n_2", 3), ("größe", 5)];
        let table = [
            ("224", 224),
            ("height", 7),
            (" größe * 2 ", 10),
            ("(height - 3) // 2 + 1", 3),
            ("height - 3 - 2", 2),
            ("height - (3 - 2)", 6),
            ("2 + n_2 * 4", 14),
            ("height // n_2 // 2", 1),
            ("-height // -2", 3),
            ("10 + -height // 2", 6),
            ("10 + height // -2", 6),
            ("n_2 - height", 0),
            ("-(n_2 - height)", 4),
        ];
        for (text, expected) in table {
            assert_eq!(value(text, &known), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_has_no_size_says_why() {
        assert_eq!(value("h * 2", &[]), Err(Unsized::Unknown));
        for (text, word) in [("4 // (h - 2)", "divides by 0"), ("h * 9223372036854775807", "64 bits")] {
            let Err(Unsized::Wrong(why)) = value(text, &[("h", 2)]) else { panic!("{text} has a size") };
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn what_is_no_arithmetic_is_refused() {
        let deep = format!("{}h{}", "(".repeat(40), ")".repeat(40));
        let right = "h - (".repeat(31) + "h - (h * (2 - h" + &")".repeat(33);
        let long = "h + ".repeat(300) + "h";
        let minus = "-".repeat(500) + "1";
        let texts =
            ["", " ", "h +", "* 2", "h / 2", "h ** 2", "(h", "h)", "1e3", "2h", "99999999999999999999", "h.w", "h, w"];
        for text in texts.into_iter().chain([deep.as_str(), &right, &long, &minus]) {
            assert!(Axis::parse(text, &mut Names::default()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_stands_for_one_size() {
        let mut names = Names::default();
        let axes = ["n // 2", "n", "3"].map(|text| Axis::parse(text, &mut names).expect("parsed"));
        let axes = Axes(axes.into());
        assert_eq!(axes.to_string(), "[n // 2, n, 3]");
        let mut sizes = Sizes::default();
        for (shape, fits) in [([2, 5, 3], true), ([2, 6, 3], false), ([2, 5, 4], false), ([3, 5, 3], false)] {
            sizes.reset(names.len());
            assert_eq!(axes.fit(&shape, &mut sizes), fits, "{shape:?}");
        }
        sizes.reset(names.len());
        assert!(!axes.fit(&[2, 5], &mut sizes));
        assert!(axes.fit(&[2, 5, 3], &mut sizes) && !axes.fit(&[3, 6, 3], &mut sizes));
        let mut shape = Shape::new();
        assert_eq!(axes.extend(&mut shape, &sizes), Ok(()));
        assert_eq!(shape.as_slice(), [2, 5, 3]);
    }
}
