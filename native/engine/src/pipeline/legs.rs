//! A plan cut into legs: each runs one model at most, and has a queue and batches of its own.

use super::plan::{BatchCall, Each, Named, Place, Plan, Value};

/// One leg, and what passes between it and the others.
#[derive(Debug)]
pub(super) struct Cut {
    /// What it does, with the numbers that values have in the whole plan.
    pub(super) plan: Plan,
    /// Values that it takes from legs before, in ascending order; of the first leg none.
    pub(super) taken: Vec<usize>,
    /// Values that it makes for legs behind or for clients, in ascending order. Of a leg alone none: clients get what it
    /// gives as it is.
    pub(super) given: Vec<usize>,
    /// What it counts as rows, if not those of the request.
    pub(super) each: Option<Each>,
}

/// All legs of a plan.
#[derive(Debug)]
pub(super) struct Cuts {
    /// In order.
    pub(super) legs: Vec<Cut>,
    /// Values that exist before the batch forms, and that legs behind the first or clients read; of a leg alone none.
    pub(super) carried: Vec<usize>,
}

/// Cuts a plan: before each model but the first, and where rows are counted in another way.
///
/// # Errors
/// What cannot be cut so.
pub(super) fn cut(plan: Plan) -> Result<Cuts, String> {
    if plan.inputs.is_empty() || plan.outputs.is_empty() || plan.batch.is_empty() {
        return Err("inputs, batch and outputs: one of each at least is needed; write the plan again".to_owned());
    }
    if !plan.batch.iter().any(|call| call.each().is_some())
        && plan.batch.iter().filter(|call| is_model(call)).count() < 2
    {
        let leg = Cut { plan, taken: Vec::new(), given: Vec::new(), each: None };
        return Ok(Cuts { legs: vec![leg], carried: Vec::new() });
    }
    check_numbers(&plan)?;
    let Plan { _version, name, _raw, values, slots, inputs, stages, batch, outputs } = plan;
    let groups = grouped(batch);
    let is_wanted = |number: usize, later: &[Group]| {
        outputs.iter().any(|output| output.value == number) || later.iter().any(|group| group.needs(number))
    };
    let is_brought = |number: &usize| values[*number].place == Place::Row;
    let carried = (0..values.len()).filter(|number| is_brought(number) && is_wanted(*number, &groups[1..])).collect();
    let passed: Vec<Vec<usize>> = groups
        .iter()
        .enumerate()
        .map(|(place, group)| sorted(group.made().filter(|&number| is_wanted(number, &groups[place + 1..]))))
        .collect();
    let named = |numbers: &[usize]| -> Vec<Named> {
        numbers.iter().map(|&value| Named { name: values[value].name.clone(), value }).collect()
    };
    let mut sent = Some((inputs, stages));
    let mut legs = Vec::with_capacity(groups.len());
    for (group, given) in groups.into_iter().zip(passed) {
        let (own, taken, inputs, stages) = match sent.take() {
            Some((inputs, stages)) => (values.clone(), Vec::new(), inputs, stages),
            None => {
                let taken = group.taken();
                let inputs = named(&taken);
                (group.values(&values, &taken)?, taken, inputs, Vec::new())
            }
        };
        let (name, Group { calls: batch, each }, outputs) = (name.clone(), group, named(&given));
        let plan = Plan { _version, name, _raw, values: own, slots, inputs, stages, batch, outputs };
        legs.push(Cut { plan, taken, given, each });
    }
    Ok(Cuts { legs, carried })
}

/// Calls that run together.
#[derive(Debug, Default)]
struct Group {
    calls: Vec<BatchCall>,
    each: Option<Each>,
}

impl Group {
    fn made(&self) -> impl Iterator<Item = usize> + '_ {
        self.calls.iter().flat_map(BatchCall::given)
    }

    /// Values that it takes from before.
    fn taken(&self) -> Vec<usize> {
        let taken = self.calls.iter().flat_map(BatchCall::taken);
        sorted(taken.filter(|number| self.made().all(|made| made != *number)))
    }

    /// Whether it, or the way to it, reads this value.
    fn needs(&self, number: usize) -> bool {
        self.each.as_ref().and_then(|each| each.count) == Some(number) || self.taken().contains(&number)
    }

    /// Values as it sees them: what it takes is there before its batch forms, and entries are rows.
    fn values(&self, values: &[Value], taken: &[usize]) -> Result<Vec<Value>, String> {
        let mut own = values.to_vec();
        taken.iter().for_each(|&number| own[number].place = Place::Row);
        let Some(each) = &self.each else { return Ok(own) };
        for number in taken.iter().copied().chain(self.made()) {
            let Value { name, shape, .. } = &mut own[number];
            if shape.first() != Some(&each.axis) {
                return Err(format!(
                    "value {number} ('{name}'): {shape:?} a row where each entry is to be a row, {:?} in front is \
                     allowed; write the plan again",
                    each.axis
                ));
            }
            shape.remove(0);
        }
        Ok(own)
    }
}

fn grouped(batch: Vec<BatchCall>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for call in batch {
        let joins = |group: &Group| {
            group.each.as_ref() == call.each() && !(is_model(&call) && group.calls.iter().any(is_model))
        };
        if groups.is_empty() && call.each().is_some() {
            // Where requests are queued and prepared as they came; entries are told apart behind it.
            groups.push(Group::default());
        }
        match groups.last_mut().filter(|group| joins(group)) {
            Some(group) => group.calls.push(call),
            None => groups.push(Group { each: call.each().cloned(), calls: vec![call] }),
        }
    }
    groups
}

fn is_model(call: &BatchCall) -> bool {
    matches!(call, BatchCall::Model(_))
}

fn sorted(numbers: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut numbers: Vec<usize> = numbers.collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Makes sure that every number is that of a value.
fn check_numbers(plan: &Plan) -> Result<(), String> {
    let count = plan.values.len();
    let counts = plan.batch.iter().filter_map(|call| call.each()?.count);
    let calls = plan.batch.iter().flat_map(|call| call.taken().chain(call.given()));
    let shown = plan.inputs.iter().chain(&plan.outputs).map(|named| named.value);
    match calls.chain(counts).chain(shown).find(|number| *number >= count) {
        Some(number) => Err(format!("value {number} of {count} does not exist; write the plan again")),
        None => Ok(()),
    }
}
