//! From outcomes to what the wire says.

use std::time::{Duration, Instant};

use servekit_core::{Answer, Reason, Refusal, Reply, Transport as Counted, Verdict};
use servekit_wire::{GrpcStatus, Payload, Reply as Said};

use super::desk::{Desk, Request, Stage, Waiting};
use super::link::Link;
use super::slab::Slab;
use super::transport::Transport;
use crate::dialect::rest::{self, RestKind};
use crate::dialect::{Named, grpc, with_id};
use crate::log::AccessLine;
use crate::refusals::{self, Asker, Means};
use crate::routes::{Route, Rpc};

/// A larger buffer for answers is given back after use.
const PAYLOAD_BYTES_KEPT_MAX: usize = 1 << 20;

impl Desk {
    /// Gives an answer to whoever waits for it; nobody does where its ticket was retired.
    pub(crate) fn answer<T: Transport>(&mut self, links: &mut Slab<Link<T>>, answer: Answer) {
        let Answer { ticket, outcome } = answer;
        let Some(request) = self.requests.get(ticket.slot) else { return };
        let is_awaited = matches!(&request.stage, Stage::Waiting(waiting) if waiting.ticket == ticket);
        if is_awaited && let Some(link) = links.get_mut(request.link) {
            self.finish(link, ticket.slot, outcome);
        }
    }

    /// Answers an open request and closes its books.
    pub(crate) fn finish<T: Transport>(&mut self, link: &mut Link<T>, slot: u32, outcome: Result<Reply, Refusal>) {
        let Some(mut request) = self.take(link, slot) else { return };
        let verdict = match (outcome, &request.stage) {
            (Ok(reply), Stage::Waiting(waiting)) => match self.say(link, &request, waiting, &reply) {
                Ok(transport) => {
                    if let Some(scope) = &mut request.scope {
                        scope.set_transport(transport);
                    }
                    Verdict::Answered(reply.timing)
                }
                Err(refusal) => self.deny(link, &request, &refusal),
            },
            (Ok(_), _) => self.deny(link, &request, &Refusal::abandoned()),
            (Err(refusal), Stage::Waiting(waiting)) => {
                let refusal = with_id(refusal, waiting.asked.id.as_deref());
                self.deny(link, &request, &refusal)
            }
            (Err(refusal), _) => self.deny(link, &request, &refusal),
        };
        if verdict == Verdict::Refused(Reason::RowRejected) {
            link.row_failed(self.shared.limits.row_failures_max, self.now);
        }
        self.log(&request, verdict);
        match (request.scope.take(), verdict) {
            (Some(scope), verdict) => scope.close(verdict, self.now),
            (None, Verdict::Refused(reason)) => self.counters.refused(reason),
            (None, Verdict::Answered(_)) => {}
        }
        self.touch(link);
        // HTTP/1 may hold the next request already; HTTP/2 goes on only where it was stopped.
        if !link.multiplexed || link.paused || link.readable {
            self.resume(link);
        }
    }

    /// Writes a result into the connection's output.
    fn say<T>(
        &mut self,
        link: &mut Link<T>,
        request: &Request,
        waiting: &Waiting,
        reply: &Reply,
    ) -> Result<Counted, Refusal> {
        let served = &waiting.version.served;
        let named = Named { contract: served.model.contract(), version: &served.version };
        let limits = &self.shared.limits;
        let payload = &mut self.payload;
        payload.clear();
        let transport = if request.intent.head.grpc {
            grpc::encode(reply, &waiting.asked, &named, limits, payload)?;
            link.wire.reply_grpc(request.stream, Some(payload), &GrpcStatus::OK, self.now);
            Counted::Grpc
        } else {
            let kind = rest::encode(reply, &waiting.asked, &named, limits, payload)?;
            let mut digits = itoa::Buffer::new();
            let field;
            let (content_type, fields, transport) = match kind {
                RestKind::Json if request.intent.head.field("inference-header-content-length").is_none() => {
                    ("application/json", &[][..], Counted::HttpJson)
                }
                RestKind::Json => ("application/json", &[][..], Counted::HttpBinary),
                RestKind::Binary { json_bytes } => {
                    field = [("inference-header-content-length", digits.format(json_bytes).as_bytes())];
                    ("application/octet-stream", &field[..], Counted::HttpBinary)
                }
            };
            let said = Said { status: 200, content_type, fields, body: payload, close: false };
            link.wire.reply(request.stream, &said, self.now);
            transport
        };
        // It must not keep the outputs' memory until the next answer.
        payload.clear();
        if payload.buffer().capacity() > PAYLOAD_BYTES_KEPT_MAX {
            *payload = Payload::default();
        }
        Ok(transport)
    }

    /// Writes a refusal into the connection's output.
    fn deny<T>(&mut self, link: &mut Link<T>, request: &Request, refusal: &Refusal) -> Verdict {
        let asker = Asker { grpc: request.intent.head.grpc, ..Asker::default() };
        let means = Means { jitter: &mut self.jitter, payload: &mut self.payload, now: self.now };
        means.answer(&mut link.wire, request.stream, refusal, asker);
        Verdict::Refused(refusal.reason)
    }

    fn log(&mut self, request: &Request, verdict: Verdict) {
        if !self.shared.log.logs_requests() {
            return;
        }
        let (id, model, rows) = match &request.stage {
            Stage::Waiting(waiting) => (waiting.asked.id.as_deref(), Some(&*waiting.version.served.name), waiting.rows),
            _ => (None, None, 0),
        };
        let line = AccessLine {
            id,
            model,
            path: request.intent.head.path(),
            transport: if request.intent.head.grpc { "grpc" } else { "http" },
            outcome: match verdict {
                Verdict::Answered(_) => "ok",
                Verdict::Refused(reason) => reason.entry().label,
            },
            duration: self.now.saturating_duration_since(request.began_at),
            rows,
        };
        self.sampler.log(&self.shared.log, &mut self.jitter, &line, self.now);
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
        let queued = match &request.stage {
            Stage::Waiting(waiting) => {
                Some((waiting.version.served.placement, waiting.version.key, waiting.input_bytes as usize))
            }
            _ => None,
        };
        if matches!(&request.intent.route, Route::Rpc(Rpc::HealthWatch)) {
            return self.end_watch(link, slot, refusal);
        }
        self.finish(link, slot, Err(refusal.clone()));
        if let Some((placement, key, bytes)) = queued {
            self.forget(placement, key, bytes);
        }
    }
}

/// Nothing is waited for longer than this past its deadline.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_millis(25);
