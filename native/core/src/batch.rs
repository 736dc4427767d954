//! Rows that run together.

use std::time::{Duration, Instant};

use crate::split::{Part, Split};
use crate::{Answers, Inputs, ModelKey, Patience, Pending, Refusal, Reply, Way};

/// What one request contributes to a batch: all of it, or some rows of an oversize one.
///
/// Dropping it unanswered answers its caller `abandoned`.
#[derive(Debug)]
pub struct Item {
    content: Content,
    rows: u32,
    /// Of the inputs. Counted once: queue and batch both sum them up.
    bytes: usize,
}

#[derive(Debug)]
enum Content {
    Whole(Box<Pending>),
    Part(Box<Part>),
}

impl Item {
    /// A whole request.
    #[must_use]
    #[inline]
    pub fn whole(pending: Box<Pending>) -> Self {
        Self { rows: pending.rows, bytes: pending.bytes(), content: Content::Whole(pending) }
    }

    /// Inputs of exactly these rows, in the contract's order; of a part only the part's.
    #[must_use]
    pub fn inputs(&self) -> &Inputs {
        match &self.content {
            Content::Whole(pending) => &pending.inputs,
            Content::Part(part) => &part.inputs,
        }
    }

    /// How many rows; 0 where a request has an empty first axis.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows as usize
    }

    /// Whether it is all of its request.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self.content, Content::Whole(_))
    }

    /// When its request became complete.
    #[must_use]
    pub fn arrived_at(&self) -> Instant {
        match &self.content {
            Content::Whole(pending) => pending.arrived_at,
            Content::Part(part) => part.split.arrived_at,
        }
    }

    /// When its request came into this queue.
    pub(crate) fn queued_at(&self) -> Instant {
        match &self.content {
            Content::Whole(pending) => pending.way.as_ref().map_or(pending.arrived_at, |way| way.since),
            Content::Part(part) => part.split.queued_at,
        }
    }

    /// From this moment on it is not run.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        match &self.content {
            Content::Whole(pending) => pending.deadline,
            Content::Part(part) => part.split.deadline,
        }
    }

    /// The class of its request.
    #[must_use]
    pub fn priority(&self) -> u8 {
        match &self.content {
            Content::Whole(pending) => pending.priority,
            Content::Part(part) => part.split.priority,
        }
    }

    /// Whether its caller still waits; not so for a part of a request that has failed already.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        match &self.content {
            Content::Whole(pending) => pending.caller.is_waiting(),
            Content::Part(part) => part.split.is_waiting(),
        }
    }

    /// Bytes of its inputs.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Answers the caller, or for a part adds to the answer: the first refusal and the last result go out.
    #[inline]
    pub fn answer(self, outcome: Result<Reply, Refusal>, answers: &mut Answers) {
        match self.content {
            Content::Whole(pending) => answers.ran(pending, outcome),
            Content::Part(part) => part.answer(outcome, answers),
        }
    }

    /// Answers that its deadline has passed.
    pub(crate) fn expire(self, now: Instant, answers: &mut Answers) {
        let time = Patience { since: self.arrived_at(), deadline: self.deadline() };
        self.answer(Err(time.refusal(now)), answers);
    }

    pub(crate) fn row_count(&self) -> u32 {
        self.rows
    }

    /// How long the steps of its preparation took; of a part nothing, as its request adds it once.
    pub(crate) fn prepared_steps(&self) -> &[Duration] {
        match &self.content {
            Content::Whole(pending) => pending.prepared.as_ref().map_or(&[], |prepared| &prepared.steps),
            Content::Part(_) => &[],
        }
    }

    /// The request, if this is all of it.
    pub(crate) fn into_whole(self) -> Option<Box<Pending>> {
        match self.content {
            Content::Whole(pending) => Some(pending),
            Content::Part(_) => None,
        }
    }

    /// The place of its first row in its request.
    pub(crate) fn first_row(&self) -> u32 {
        match &self.content {
            Content::Whole(_) => 0,
            Content::Part(part) => part.start,
        }
    }

    /// What callers know a row of its request by; `None` where there is only one.
    pub(crate) fn named_row(&self, row: u32) -> Option<u32> {
        let named = |way: Option<&Way>| way.map_or((row, self.request_rows()), |way| (way.origin(row), way.rows));
        let (row, rows) = match &self.content {
            Content::Whole(pending) => named(pending.way.as_deref()),
            Content::Part(part) => part.split.with_way(named),
        };
        (rows > 1).then_some(row)
    }

    /// Rows of its whole request.
    pub(crate) fn request_rows(&self) -> u32 {
        match &self.content {
            Content::Whole(pending) => pending.rows,
            Content::Part(part) => part.split.rows,
        }
    }

    /// Whether it may not share a run.
    pub(crate) fn is_alone(&self) -> bool {
        match &self.content {
            Content::Whole(pending) => pending.alone,
            Content::Part(part) => part.split.alone,
        }
    }

    /// Cuts the first rows off; what is left stays. Both are parts from then on.
    pub(crate) fn take_front(self, rows: u32, answer_bytes_max: u64) -> (Self, Self) {
        let mut rest = match self.content {
            Content::Whole(pending) => Split::of(*pending, answer_bytes_max),
            Content::Part(part) => *part,
        };
        let front = rest.take_front(rows);
        (Self::part(front), Self::part(rest))
    }

    fn part(part: Part) -> Self {
        let bytes = part.inputs.iter().flatten().map(|tensor| tensor.data.len()).sum();
        Self { rows: part.rows, bytes, content: Content::Part(Box::new(part)) }
    }
}

/// Why a batch left the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dispatch {
    /// A lane was free, and this is what there was.
    #[default]
    Idle,
    /// No further row fits.
    Full,
    /// More rows would have made the most urgent one late.
    Window,
    /// It was held for rows that were expected, and they came or time was up.
    Held,
    /// It may share its run with nobody.
    Alone,
}

impl Dispatch {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Idle, Self::Full, Self::Window, Self::Held, Self::Alone];

    /// Value of the metric's label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Full => "full",
            Self::Window => "window",
            Self::Held => "held",
            Self::Alone => "alone",
        }
    }
}

/// Names a batch between its dispatch and its report, within its Batcher. Used again after the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RunId(pub u32);

/// What one run takes. Whoever runs batches owns one and has it filled again and again.
#[derive(Debug, Default)]
pub struct Batch {
    /// Whose requests.
    pub key: ModelKey,
    /// In order of arrival; none is empty-handed, none has expired when the batch was formed.
    pub items: Vec<Item>,
    /// Rows of all items together.
    pub rows: u32,
    /// Bytes of all inputs together.
    pub bytes: usize,
    /// Why it was formed.
    pub dispatch: Dispatch,
    /// Tells its Batcher, by the report, what has run.
    pub run: RunId,
}

impl Batch {
    /// Empties it and keeps its memory. What is still in it is answered `abandoned`.
    pub fn clear(&mut self) {
        self.items.clear();
        self.rows = 0;
        self.bytes = 0;
        self.dispatch = Dispatch::Idle;
    }

    #[inline]
    pub(crate) fn push(&mut self, item: Item) {
        self.rows += item.row_count();
        self.bytes += item.bytes();
        self.items.push(item);
    }
}
