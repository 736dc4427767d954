//! What a runner does with requests that have run in one leg of their way, and go on.

use std::time::Instant;

use servekit_core::{Answers, ModelKey, Passage, Passed, Pending};

use super::preparing::hold;
use crate::listing::{Journey, Version};

/// Leads each request on that has run in this leg: to its caller, or towards the leg whose key it is given with. It counts
/// as the thread of this number.
pub(super) fn pass(version: &Version, thread: usize, answers: &mut Answers) -> Vec<(ModelKey, Box<Pending>)> {
    let passed = answers.take_passed();
    let is_behind = version.journey.as_ref().is_some_and(|journey| journey.keys[0] != version.key);
    for Passed { reply, .. } in passed.iter().filter(|_| is_behind) {
        version.counters[thread].waited(reply.timing.queue);
    }
    let now = Instant::now();
    passed.into_iter().filter_map(|passed| lead(version, passed, now, answers)).collect()
}

fn lead(version: &Version, passed: Passed, now: Instant, answers: &mut Answers) -> Option<(ModelKey, Box<Pending>)> {
    let Passed { mut pending, reply } = passed;
    let (Journey { route, keys }, way) = (version.journey.as_ref()?, pending.way.as_mut()?);
    way.note(reply.timing, reply.steps);
    let outcome = match route.pass(way, reply.outputs) {
        Ok(Passage::Arrived(outputs)) => Ok(way.reply(outputs)),
        Ok(Passage::On { inputs, rows }) => {
            way.since = now;
            // What was held for the leg that is over is given back before more is taken.
            (way.hold, pending.prepared) = (None, None);
            (pending.inputs, pending.rows) = (inputs, rows);
            let bytes =
                way.carried_bytes() + pending.inputs.iter().flatten().map(|input| input.data.len()).sum::<usize>();
            match hold(version, bytes) {
                Ok(held) => {
                    way.hold = held;
                    return keys.get(way.leg).map(|key| (*key, pending));
                }
                Err(refusal) => Err(refusal),
            }
        }
        Err(refusal) => Err(refusal),
    };
    answers.push(pending.caller, outcome);
    None
}
