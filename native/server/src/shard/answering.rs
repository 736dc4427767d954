//! From outcomes to what the wire says.

use std::time::{Duration, Instant};

use servekit_core::{Answer, Limits, Reason, Refusal, Reply, Verdict};
use servekit_wire::{self as wire, Connection, GrpcStatus, Payload};
use smallvec::SmallVec;

use super::desk::{Desk, Request, Stage, Waiting};
use super::link::Link;
use super::slab::Slab;
use super::transport::Transport;
use crate::dialect::rest::{self, RestKind};
use crate::dialect::{Named, grpc, with_id};
use crate::intent::JSON_LENGTH;
use crate::log::AccessLine;
use crate::refusals::{self, Asker, Means};
use crate::routes::{Route, Rpc};
use crate::timing::{SERVER_TIMING, TimingText};

/// A larger buffer for answers is given back after use.
const PAYLOAD_BYTES_KEPT_MAX: usize = 1 << 20;

/// Nothing is waited for longer than this past its deadline.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_millis(25);

impl Desk {
    /// Gives an answer to whoever waits for it; nobody does where its ticket was retired.
    pub(crate) fn answer<T: Transport>(&mut self, links: &mut Slab<Link<T>>, answer: &Answer) {
        let Answer { ticket, outcome } = answer;
        let Some(request) = self.requests.get(ticket.slot) else { return };
        let is_awaited = matches!(&request.stage, Stage::Waiting(waiting) if waiting.ticket == *ticket);
        if is_awaited && let Some(link) = links.get_mut(request.link) {
            self.finish(link, ticket.slot, outcome.as_ref());
        }
    }

    /// Answers an open request and closes its books.
    pub(crate) fn finish<T: Transport>(&mut self, link: &mut Link<T>, slot: u32, outcome: Result<&Reply, &Refusal>) {
        // The request stays where it is until it is done with: moving it costs more than looking at it.
        let Some(request) = self.requests.get_mut(slot) else { return };
        let scope = request.scope.take();
        let means = Means { jitter: &mut self.jitter, payload: &mut self.payload, now: self.now };
        let verdict = match (outcome, &request.stage) {
            (Ok(reply), Stage::Waiting(waiting)) => {
                let is_timed = self.told.tells(request.intent.wants_timing);
                let said = Said { request, waiting, reply, is_timed };
                match said.write(&mut link.wire, means.payload, &self.shared.limits, self.now) {
                    Ok(()) => Verdict::Answered(reply.timing),
                    Err(refusal) => deny(means, &mut link.wire, request, &refusal),
                }
            }
            (Ok(_), _) => deny(means, &mut link.wire, request, &Refusal::abandoned()),
            (Err(refusal), Stage::Waiting(waiting)) => {
                let refusal = with_id(refusal.clone(), waiting.asked.id.as_deref());
                deny(means, &mut link.wire, request, &refusal)
            }
            (Err(refusal), _) => deny(means, &mut link.wire, request, refusal),
        };
        if verdict == Verdict::Refused(Reason::RowRejected) {
            link.row_failed(self.shared.limits.row_failures_max, self.now);
        }
        if self.shared.log.logs_requests() {
            let line = line_of(request, verdict, self.now);
            self.sampler.log(&self.shared.log, &mut self.jitter, &line, self.now);
        }
        match (scope, verdict) {
            (Some(scope), verdict) => scope.close(verdict, self.now),
            (None, Verdict::Refused(reason)) => self.counters.refused(reason),
            (None, Verdict::Answered(_)) => {}
        }
        self.remove(link, slot);
        self.touch(link);
        // HTTP/1 may hold the next request already; HTTP/2 goes on only where it was stopped.
        let holds_more = !link.multiplexed && (link.wire.goes_on() || !link.unread.is_empty());
        if holds_more || link.paused || link.readable {
            self.resume(link);
        }
    }

    /// Tells every request whose time is up, whether it still waits or runs already.
    pub(crate) fn sweep<T: Transport>(&mut self, links: &mut Slab<Link<T>>) {
        let mut late = Vec::new();
        let mut earliest: Option<Instant> = None;
        for (slot, request) in self.requests.iter() {
            if let Stage::Waiting(waiting) = &request.stage {
                if waiting.deadline <= self.now {
                    let waited = self.now.saturating_duration_since(waiting.arrived_at);
                    let allowed = waiting.deadline.saturating_duration_since(request.began_at);
                    late.push((slot, waited, allowed));
                } else {
                    earliest = Some(earliest.map_or(waiting.deadline, |earliest| earliest.min(waiting.deadline)));
                }
            }
        }
        self.deadline_min = earliest;
        for (slot, waited, allowed) in late {
            self.give_up(links, slot, &Refusal::deadline(waited, allowed));
        }
    }

    /// Refuses everyone who still waits; says how many they were.
    pub(crate) fn give_all_up<T: Transport>(&mut self, links: &mut Slab<Link<T>>) -> u64 {
        let open: Vec<u32> = self.requests.iter().map(|(slot, _)| slot).collect();
        let mut owed = 0;
        for slot in open {
            let stage = self.requests.get(slot).map(|request| &request.stage);
            owed += u64::from(matches!(stage, Some(Stage::Waiting(_))));
            self.give_up(links, slot, &refusals::draining());
        }
        owed
    }

    /// Refuses a request that may still be queued.
    fn give_up<T: Transport>(&mut self, links: &mut Slab<Link<T>>, slot: u32, refusal: &Refusal) {
        let Some(request) = self.requests.get(slot) else { return };
        let Some(link) = links.get_mut(request.link) else { return };
        let queued = request.queued();
        if matches!(&request.intent.route, Route::Rpc(Rpc::HealthWatch)) {
            return self.end_watch(link, slot, refusal);
        }
        self.finish(link, slot, Err(refusal));
        if let Some(queued) = queued {
            self.forget(queued);
        }
    }
}

/// A result on its way to whoever asked.
struct Said<'a> {
    request: &'a Request,
    waiting: &'a Waiting,
    reply: &'a Reply,
    /// It tells where its time went.
    is_timed: bool,
}

impl Said<'_> {
    /// Writes it into the connection's output.
    fn write(
        &self,
        wire: &mut Connection,
        payload: &mut Payload,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), Refusal> {
        let Self { request, waiting, reply, .. } = self;
        let served = &waiting.version.served;
        let named = Named { contract: served.model.contract(), letterhead: &waiting.version.letterhead };
        payload.clear();
        if request.intent.head.grpc {
            grpc::encode(reply, &waiting.asked, &named, limits, payload)?;
            let timing = self.timing(now);
            let field = timing.as_ref().map(|timing| (SERVER_TIMING, timing.as_bytes()));
            let status = GrpcStatus { fields: field.as_slice(), ..GrpcStatus::OK };
            wire.reply_grpc(request.stream, Some(payload), &status, now);
        } else {
            let kind = rest::encode(reply, &waiting.asked, &named, limits, payload)?;
            let (timing, mut digits) = (self.timing(now), itoa::Buffer::new());
            let mut fields: SmallVec<[(&str, &[u8]); 2]> = SmallVec::new();
            let mut content_type = "application/json";
            if let RestKind::Binary { json_bytes } = kind {
                content_type = "application/octet-stream";
                fields.push((JSON_LENGTH, digits.format(json_bytes).as_bytes()));
            }
            if let Some(timing) = &timing {
                fields.push((SERVER_TIMING, timing.as_bytes()));
            }
            let reply = wire::Reply { status: 200, content_type, fields: &fields, body: payload, close: false };
            wire.reply(request.stream, &reply, now);
        }
        // It must not keep the outputs' memory until the next answer.
        payload.clear();
        if payload.buffer().capacity() > PAYLOAD_BYTES_KEPT_MAX {
            *payload = Payload::default();
        }
        Ok(())
    }

    /// Where its time went, if it is to tell that.
    #[inline]
    fn timing(&self, now: Instant) -> Option<TimingText> {
        let total = || now.saturating_duration_since(self.request.began_at);
        self.is_timed.then(|| {
            let names = self.waiting.version.steps.iter().map(|step| &*step.name);
            let steps = names.zip(self.reply.steps.iter().flatten().copied());
            TimingText::new(&self.reply.timing, steps, total())
        })
    }
}

/// Writes a refusal into the connection's output.
fn deny(means: Means<'_>, wire: &mut Connection, request: &Request, refusal: &Refusal) -> Verdict {
    means.answer(wire, request.stream, refusal, Asker { grpc: request.intent.head.grpc, ..Asker::default() });
    Verdict::Refused(refusal.reason)
}

/// What the log tells of a request.
fn line_of(request: &Request, verdict: Verdict, now: Instant) -> AccessLine<'_> {
    let (id, model, rows) = match &request.stage {
        Stage::Waiting(waiting) => (waiting.asked.id.as_deref(), Some(&*waiting.version.served.name), waiting.rows),
        _ => (None, None, 0),
    };
    AccessLine {
        id,
        model,
        path: request.intent.head.path(),
        transport: if request.intent.head.grpc { "grpc" } else { "http" },
        outcome: match verdict {
            Verdict::Answered(_) => "ok",
            Verdict::Refused(reason) => reason.entry().label,
        },
        duration: now.saturating_duration_since(request.began_at),
        rows,
    }
}
