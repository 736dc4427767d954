//! Which shape class a request belongs to.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ClassSurface;
use super::lanes::Running;
use super::ragged;
use crate::shape_class::{Bucket, ClassKey, ShapeClass, has_key, scaled, write_key};
use crate::{Item, Latency, Pending, Ragged};

/// Classes that are remembered while they are empty, with what was learned about them.
const KEPT_MAX: usize = 64;
/// Surfaces of their own that the buckets of a model may have; all others go by the model's.
const SURFACES_MAX: usize = 64;

/// Where a request belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) class: usize,
    pub(crate) bucket: usize,
}

/// What decides the class of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sorting<'a> {
    /// Otherwise all are of one class: they share nothing but the queue.
    pub(crate) is_batched: bool,
    pub(crate) ragged: Option<&'a Ragged>,
}

/// A class in which requests wait, and the most urgent of its highest priority.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Active {
    pub(crate) class: usize,
    pub(crate) tier: usize,
    pub(crate) due: Instant,
}

/// The shape classes of a model. Many shapes may come and leave little behind; few keep what was learned about them.
#[derive(Debug)]
pub(crate) struct Classes {
    slots: Vec<ShapeClass>,
    /// Slot of each class that is known.
    by_key: HashMap<ClassKey, usize>,
    /// Those in which requests wait. Dense, because every decision may read all of it.
    active: Vec<Active>,
    /// Slots in the order in which they ran empty; some may have filled again since.
    idle: VecDeque<usize>,
    /// The slot that was asked for last: nearly always the right one, and compared without hashing.
    recent: usize,
    generation: u32,
    /// Where the key of a request is written, so that looking it up allocates nothing.
    key: ClassKey,
    /// How long runs of the model take, whatever their shape.
    whole: Latency,
    /// How large a row is, on average over the runs that `whole` was learned from.
    extent: f64,
    /// Buckets that have a surface of their own.
    surfaces: usize,
    /// What was learned of classes when the model was served before.
    known: Arc<[ClassSurface]>,
    rows_max: u32,
}

impl Classes {
    pub(crate) fn new(whole: Latency, known: Arc<[ClassSurface]>, rows_max: u32) -> Self {
        Self {
            slots: Vec::new(),
            by_key: HashMap::new(),
            active: Vec::new(),
            idle: VecDeque::new(),
            recent: 0,
            generation: 0,
            key: ClassKey::new(),
            whole,
            extent: 0.0,
            surfaces: 0,
            known,
            rows_max,
        }
    }

    pub(crate) fn slots(&self) -> &[ShapeClass] {
        &self.slots
    }

    pub(crate) fn slot_mut(&mut self, class: usize) -> &mut ShapeClass {
        &mut self.slots[class]
    }

    /// How many classes have requests that wait.
    pub(crate) fn active_count(&self) -> usize {
        self.active.len()
    }

    /// Slot of one of them.
    pub(crate) fn active(&self, index: usize) -> usize {
        self.active[index].class
    }

    /// How long runs of the model take, whatever their shape.
    pub(crate) fn whole(&self) -> &Latency {
        &self.whole
    }

    /// How long runs of a bucket take.
    pub(crate) fn latency(&self, place: Place) -> &Latency {
        self.slots[place.class].buckets[place.bucket].latency.as_deref().unwrap_or(&self.whole)
    }

    /// The class with the most urgent request of this priority, the highest that waits or one that is owed its share.
    pub(crate) fn first(&self, tier: usize) -> Option<Active> {
        if let [only] = self.active.as_slice()
            && only.tier == tier
        {
            return Some(*only);
        }
        let shown = self.active.iter().filter(|active| active.tier == tier).min_by_key(|active| active.due);
        let behind = |class: usize| Some(Active { class, tier, due: self.slots[class].head(tier)?.0 });
        shown
            .copied()
            .or_else(|| self.active.iter().filter_map(|active| behind(active.class)).min_by_key(|active| active.due))
    }

    /// Where this request belongs; a place is made where there is none.
    pub(crate) fn place(&mut self, pending: &Pending, sorting: Sorting<'_>) -> Place {
        let inputs = &pending.inputs;
        let ragged = sorting.ragged.filter(|ragged| sorting.is_batched && ragged.mixes(inputs));
        let class = self.class(pending, sorting.is_batched, ragged);
        let edge = ragged.map_or(0, |ragged| ragged::edge(ragged.length(inputs)));
        Place { class, bucket: self.bucket(class, edge, pending) }
    }

    /// Learns how long a run of a batch took.
    pub(crate) fn learn(&mut self, running: Option<&Running>, rows: u32, time: Duration) {
        self.whole.observe(rows, time);
        let Some(running) = running else { return };
        let known = self.slots.get_mut(running.class).filter(|class| class.generation == running.generation);
        let Some(class) = known else { return };
        let Some(bucket) = class.bucket(running.edge).map(|place| &mut class.buckets[place]) else { return };
        let weight = 1.0 / self.whole.samples().min(64) as f64;
        self.extent += weight * (bucket.extent - self.extent);
        if let Some(latency) = &mut bucket.latency {
            latency.observe(rows, time);
            if latency.samples().is_power_of_two() {
                class.teach(running.edge, self.rows_max);
            }
        }
    }

    /// Puts a request into the queue that it belongs to.
    pub(crate) fn insert(&mut self, place: Place, tier: usize, due: Instant, item: Item) {
        let class = &mut self.slots[place.class];
        class.buckets[place.bucket].tiers[tier].insert(due, item);
        class.added(tier);
        match class.active.map(|index| &mut self.active[index]) {
            None => {
                class.active = Some(self.active.len());
                self.active.push(Active { class: place.class, tier, due });
            }
            Some(active) if (tier, due) < (active.tier, active.due) => (active.tier, active.due) = (tier, due),
            Some(_) => {}
        }
    }

    /// Finds the most urgent request of a class again after some have left it.
    pub(crate) fn settle(&mut self, slot: usize) {
        let class = &mut self.slots[slot];
        let Some(index) = class.active else { return };
        let tier = class.waiting().trailing_zeros() as usize;
        if class.waiting() != 0
            && let Some((due, _)) = class.head(tier)
        {
            self.active[index] = Active { class: slot, tier, due };
            return;
        }
        class.active = None;
        if !class.is_listed {
            class.is_listed = true;
            self.idle.push_back(slot);
        }
        self.active.swap_remove(index);
        if let Some(moved) = self.active.get(index) {
            self.slots[moved.class].active = Some(index);
        }
        if self.active.is_empty() && self.slots.len() > KEPT_MAX {
            self.shrink();
        }
    }

    /// Every class in which requests wait, for whoever empties or sweeps the queue.
    pub(crate) fn each_mut(&mut self, mut visit: impl FnMut(&mut ShapeClass)) {
        for index in (0..self.active.len()).rev() {
            let class = self.active[index].class;
            visit(&mut self.slots[class]);
            self.settle(class);
        }
    }

    /// Gives back what a flood of shapes left.
    fn shrink(&mut self) {
        for class in self.slots.drain(KEPT_MAX..) {
            self.surfaces -= class.surfaces();
            self.by_key.remove(&class.key);
        }
        self.slots.shrink_to_fit();
        self.by_key.shrink_to_fit();
        self.idle.retain(|&class| class < KEPT_MAX);
        self.recent = 0;
    }

    fn class(&mut self, pending: &Pending, is_batched: bool, ragged: Option<&Ragged>) -> usize {
        let inputs = &pending.inputs;
        if let Some(class) = self.slots.get(self.recent) {
            let is_it = if is_batched { has_key(inputs, ragged, &class.key) } else { class.key.is_empty() };
            if is_it {
                return self.recent;
            }
        }
        self.key.clear();
        if is_batched {
            write_key(inputs, ragged, &mut self.key);
        }
        self.recent = match self.by_key.get(&self.key) {
            Some(&class) => class,
            None => self.admit(),
        };
        self.recent
    }

    /// Gives the class of the key that was written a slot.
    fn admit(&mut self) -> usize {
        self.generation += 1;
        let class = ShapeClass::new(self.key.clone(), self.generation);
        let vacant = if self.slots.len() >= KEPT_MAX { self.vacant() } else { None };
        let slot = vacant.unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(class);
        } else {
            let former = std::mem::replace(&mut self.slots[slot], class);
            self.surfaces -= former.surfaces();
            self.by_key.remove(&former.key);
        }
        self.by_key.insert(self.key.clone(), slot);
        slot
    }

    /// The slot of the class that has been empty for longest.
    fn vacant(&mut self) -> Option<usize> {
        while let Some(slot) = self.idle.pop_front() {
            self.slots[slot].is_listed = false;
            if self.slots[slot].waiting() == 0 {
                return Some(slot);
            }
        }
        None
    }

    /// The place of the bucket for this edge within a class.
    fn bucket(&mut self, class: usize, edge: u64, pending: &Pending) -> usize {
        let buckets = &mut self.slots[class].buckets;
        if let [only] = buckets.as_slice()
            && only.edge == edge
        {
            return 0;
        }
        let place = match buckets.binary_search_by_key(&edge, |bucket| bucket.edge) {
            Ok(place) => return place,
            Err(place) => place,
        };
        if buckets.len() >= ragged::BUCKETS_MAX {
            return ragged::widen(buckets, place, edge);
        }
        let bytes = pending.bytes() as f64 / f64::from(pending.rows.max(1));
        let mut bucket = Bucket::new(edge, if edge == 0 { bytes } else { edge as f64 });
        bucket.latency = self.seed(class, &bucket);
        self.slots[class].buckets.insert(place, bucket);
        place
    }

    /// A surface for a new bucket: what was remembered of it, or the model's, with rows as much longer as they are
    /// larger. The model's own serves the first, unless that is remembered.
    fn seed(&mut self, class: usize, bucket: &Bucket) -> Option<Box<Latency>> {
        let remembered = self.remembered(class, bucket.edge);
        match self.slots.iter_mut().flat_map(|class| &mut class.buckets).next() {
            Some(first) if first.latency.is_none() && self.surfaces == 0 => {
                first.latency = Some(Box::new(self.whole.clone()));
                self.surfaces = 1;
            }
            None if remembered.is_none() => return None,
            _ => {}
        }
        if self.surfaces >= SURFACES_MAX {
            return None;
        }
        self.surfaces += 1;
        let ratio = if self.extent > 0.0 { bucket.extent / self.extent } else { 1.0 };
        Some(Box::new(remembered.unwrap_or_else(|| scaled(&self.whole, ratio, self.rows_max))))
    }

    fn remembered(&self, class: usize, edge: u64) -> Option<Latency> {
        if self.known.is_empty() {
            return None;
        }
        let shape = self.slots[class].shape();
        let is_it = |known: &&ClassSurface| known.shape == shape && known.length.map_or(0, ragged::edge) == edge;
        let known = self.known.iter().find(is_it)?;
        Some(Latency::of(&known.surface, self.rows_max).under(self.whole.rules()))
    }
}
