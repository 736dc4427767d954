//! Queued requests whose rows may share a run.

use std::fmt::Write;
use std::ops::Range;
use std::time::Instant;

use smallvec::SmallVec;

use crate::batcher::Queue;
use crate::{Inputs, Item, Latency, Policy, Ragged};

/// Which inputs are given, and the sizes of their axes behind the first: requests with equal keys fit together.
pub(crate) type ClassKey = SmallVec<[i64; 8]>;

/// Stands for an input that was left out; no axis has this size, no rank this value.
const ABSENT: i64 = -1;
/// Stands for an axis in which members may differ.
const MIXED: i64 = -2;

/// What stands in a key for each axis behind the first of the input at this place.
fn sizes<'a>(place: usize, shape: &'a [i64], ragged: Option<&Ragged>) -> impl Iterator<Item = i64> + 'a {
    let mixed = ragged.and_then(|ragged| *ragged.inputs.get(place)?);
    shape.iter().enumerate().skip(1).map(move |(axis, &size)| if mixed == Some(axis) { MIXED } else { size })
}

/// Writes the key of these inputs into `key`, whose memory is used again. With `ragged`, lengths are left out.
pub(crate) fn write_key(inputs: &Inputs, ragged: Option<&Ragged>, key: &mut ClassKey) {
    key.clear();
    for (place, input) in inputs.iter().enumerate() {
        match input {
            None => key.push(ABSENT),
            Some(tensor) => {
                key.push(tensor.shape.len() as i64);
                key.extend(sizes(place, &tensor.shape, ragged));
            }
        }
    }
}

/// Whether these inputs have this key; cheaper than writing theirs and comparing it.
pub(crate) fn has_key(inputs: &Inputs, ragged: Option<&Ragged>, key: &[i64]) -> bool {
    let mut rest = key.iter().copied();
    inputs.iter().enumerate().all(|(place, input)| match input {
        None => rest.next() == Some(ABSENT),
        Some(tensor) => {
            rest.next() == Some(tensor.shape.len() as i64)
                && sizes(place, &tensor.shape, ragged).all(|size| rest.next() == Some(size))
        }
    }) && rest.next().is_none()
}

/// Requests of one length, or of nearly one.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// No member is longer. 0 where lengths are not told apart.
    pub(crate) edge: u64,
    /// By class of priority.
    pub(crate) tiers: [Queue; Policy::PRIORITIES_MAX],
    /// How long its runs take; `None` where the model's own surface says it.
    pub(crate) latency: Option<Box<Latency>>,
    /// How large a row is, in units of the model's: its length, or its bytes.
    pub(crate) extent: f64,
}

impl Bucket {
    pub(crate) fn new(edge: u64, extent: f64) -> Self {
        Self { edge, tiers: Default::default(), latency: None, extent }
    }
}

/// What to expect of rows so many times as large, until they have run: the first run scales all of it.
pub(crate) fn scaled(latency: &Latency, ratio: f64, rows_max: u32) -> Latency {
    let mut surface = latency.surface();
    if surface.samples > 0 {
        surface.row_ns *= ratio.clamp(1.0 / 16.0, 16.0);
    }
    surface.samples = 0;
    Latency::of(&surface, rows_max).under(latency.rules())
}

/// Requests whose shapes fit together: one queue for each length and priority.
#[derive(Debug)]
pub(crate) struct ShapeClass {
    pub(crate) key: ClassKey,
    /// Which shape its slot stands for, counted over all slots.
    pub(crate) generation: u32,
    /// By length, ascending; never empty.
    pub(crate) buckets: Vec<Bucket>,
    /// Requests in its queues, by priority.
    requests: [u32; Policy::PRIORITIES_MAX],
    /// One bit for each priority of which requests wait.
    waiting: u8,
    /// Its place in the list of those in which requests wait.
    pub(crate) active: Option<usize>,
    /// It is in the list of those that ran empty, though it may have filled again.
    pub(crate) is_listed: bool,
}

impl ShapeClass {
    pub(crate) fn new(key: ClassKey, generation: u32) -> Self {
        Self {
            key,
            generation,
            buckets: Vec::with_capacity(1),
            requests: [0; Policy::PRIORITIES_MAX],
            waiting: 0,
            active: None,
            is_listed: false,
        }
    }

    /// Counts a request that was put into one of its queues.
    pub(crate) fn added(&mut self, tier: usize) {
        self.requests[tier] += 1;
        self.waiting |= 1 << tier;
    }

    /// Counts a request that has left one of its queues.
    pub(crate) fn removed(&mut self, tier: usize) {
        self.requests[tier] -= 1;
        if self.requests[tier] == 0 {
            self.waiting &= !(1 << tier);
        }
    }

    /// One bit for each priority of which requests wait.
    pub(crate) fn waiting(&self) -> u8 {
        self.waiting
    }

    /// The most urgent request of this tier: when it is due, and the place of its bucket.
    pub(crate) fn head(&self, tier: usize) -> Option<(Instant, usize)> {
        match self.buckets.as_slice() {
            [only] => Some((only.tiers[tier].front()?.due, 0)),
            several => self.head_of(tier, 0..several.len()),
        }
    }

    /// The most urgent request of this tier among buckets.
    pub(crate) fn head_of(&self, tier: usize, buckets: Range<usize>) -> Option<(Instant, usize)> {
        let due = |place: usize| Some((self.buckets[place].tiers[tier].front()?.due, place));
        if buckets.len() == 1 { due(buckets.start) } else { buckets.filter_map(due).min() }
    }

    /// Buckets that have a surface of their own.
    pub(crate) fn surfaces(&self) -> usize {
        self.buckets.iter().filter(|bucket| bucket.latency.is_some()).count()
    }

    /// Place of the bucket with this edge.
    pub(crate) fn bucket(&self, edge: u64) -> Option<usize> {
        self.buckets.binary_search_by_key(&edge, |bucket| bucket.edge).ok()
    }

    /// Lets the neighbours of a bucket that has just run expect its pace, as long as they have none of their own and no
    /// other is nearer.
    pub(crate) fn teach(&mut self, edge: u64, rows_max: u32) {
        let Some(place) = self.bucket(edge) else { return };
        let (shorter, others) = self.buckets.split_at_mut(place);
        let Some((Bucket { latency: Some(latency), extent, .. }, longer)) = others.split_first_mut() else { return };
        let is_new = |bucket: &&mut Bucket| bucket.latency.as_ref().is_some_and(|latency| latency.samples() == 0);
        let neighbours = shorter.iter_mut().rev().take_while(is_new).chain(longer.iter_mut().take_while(is_new));
        for bucket in neighbours {
            bucket.latency = Some(Box::new(scaled(latency, bucket.extent / *extent, rows_max)));
        }
    }

    /// Takes everything out.
    pub(crate) fn empty(&mut self, mut give: impl FnMut(usize, Item)) {
        for bucket in &mut self.buckets {
            for (tier, queue) in bucket.tiers.iter_mut().enumerate() {
                queue.drain().for_each(|item| give(tier, item));
            }
        }
        self.requests = [0; Policy::PRIORITIES_MAX];
        self.waiting = 0;
    }

    /// Takes out those for which this is not so.
    pub(crate) fn retain(&mut self, mut keeps: impl FnMut(usize, &Item) -> bool) {
        self.requests = [0; Policy::PRIORITIES_MAX];
        self.waiting = 0;
        for bucket in &mut self.buckets {
            for (tier, queue) in bucket.tiers.iter_mut().enumerate() {
                queue.retain(|item| keeps(tier, item));
                self.requests[tier] += queue.len() as u32;
                self.waiting |= u8::from(!queue.is_empty()) << tier;
            }
        }
    }

    /// How many of the first item's rows fit into this many rows and bytes: all of them, some, or none.
    pub(crate) fn rows_fitting(item: &Item, rows_room: u32, bytes_room: usize) -> u32 {
        let rows = item.row_count();
        let bytes = item.bytes();
        if rows <= rows_room && bytes <= bytes_room {
            return rows;
        }
        // Rounded up, so that rows of uneven size (BYTES) rather leave room than exceed it.
        let row_bytes = bytes.div_ceil(rows.max(1) as usize).max(1);
        rows_room.min(u32::try_from(bytes_room / row_bytes).unwrap_or(u32::MAX)).min(rows)
    }

    /// Its shape for people, input by input: `[?, 16], [?, n]`, where `?` counts rows, `n` is a length that may differ and
    /// `-` an input that was left out. Empty where requests are not told apart.
    pub(crate) fn shape(&self) -> String {
        let mut text = String::new();
        let mut rest = self.key.iter();
        while let Some(&rank) = rest.next() {
            text.push_str(if text.is_empty() { "" } else { ", " });
            if rank == ABSENT {
                text.push('-');
                continue;
            }
            text.push_str(if rank == 0 { "[" } else { "[?" });
            for size in rest.by_ref().take((rank.max(1) - 1) as usize) {
                // Writing to a text cannot fail.
                let _written = if *size == MIXED { text.write_str(", n") } else { write!(text, ", {size}") };
            }
            text.push(']');
        }
        text
    }
}
