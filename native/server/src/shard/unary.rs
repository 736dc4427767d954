//! Everything that is asked besides inference: health, readiness and metadata, in both protocols.

use std::rc::Rc;

use bytes::Bytes;
use prost::Message;
use servekit_core::{Reason, Refusal, quoted};
use servekit_wire::{GrpcStatus, Reply, StreamId};

use super::desk::{Desk, Stage};
use super::link::Link;
use super::slab::Slab;
use super::transport::Transport;
use crate::dialect::metadata::{
    ModelFacts, ServerFacts, health_message, print_live, print_model_ready, print_models, print_ready,
};
use crate::intent::Intent;
use crate::listing::{Listing, Served};
use crate::messages::{Empty, HealthCheckRequest, ModelRequest, ReadyResponse, ServerLiveResponse};
use crate::model_config::model_config;
use crate::refusals::Asker;
use crate::routes::{self, ModelAction, Route, Rpc};
use crate::shared::Shared;
use crate::why::why;

/// What `GET v2` and `ServerMetadata` say.
const SERVER: ServerFacts<'static> = ServerFacts {
    name: "servekit",
    version: env!("CARGO_PKG_VERSION"),
    extensions: &["schedule_policy", "binary_tensor_data"],
};

const OK: u16 = 200;
const NOT_READY: u16 = 503;

impl Desk {
    /// Answers an HTTP request that has no body to wait for.
    pub(super) fn tell<T: Transport>(&mut self, link: &mut Link<T>, stream: StreamId, intent: &Rc<Intent>) {
        self.payload.clear();
        match print(&self.shared, &self.listing, &intent.route, self.payload.buffer()) {
            Ok(status) => {
                let content_type = "application/json";
                let reply = Reply { status, content_type, fields: &[], body: &self.payload, close: false };
                link.wire.reply(stream, &reply, self.now);
                self.touch(link);
            }
            Err(refusal) => {
                self.counters.refused(refusal.reason);
                self.refuse(link, stream, &refusal, Asker::default());
            }
        }
    }

    /// Answers a unary rpc, or begins to answer the one that streams.
    pub(super) fn call<T: Transport>(&mut self, link: &mut Link<T>, slot: u32, body: &Bytes) -> Result<(), Refusal> {
        let Some(request) = self.requests.get(slot) else { return Ok(()) };
        let Route::Rpc(rpc) = request.intent.route else { return Ok(()) };
        if rpc == Rpc::HealthWatch {
            return self.watch(link, slot, body);
        }
        self.payload.clear();
        let into = self.payload.buffer();
        let listing = &self.listing;
        match rpc {
            Rpc::ServerLive => {
                read::<Empty>(body)?;
                write(&ServerLiveResponse { live: true }, into);
            }
            Rpc::ServerReady => {
                read::<Empty>(body)?;
                write(&ReadyResponse { ready: listing.is_ready() }, into);
            }
            Rpc::ServerMetadata => {
                read::<Empty>(body)?;
                write(&SERVER.message(), into);
            }
            Rpc::ModelReady => {
                let ModelRequest { name, version } = read(body)?;
                routes::check_version(&version)?;
                write(&ReadyResponse { ready: listing.find(&name, &version).is_ok() }, into);
            }
            Rpc::ModelMetadata => {
                let ModelRequest { name, version } = read(body)?;
                routes::check_version(&version)?;
                let version = listing.find(&name, &version)?;
                let versions = listing.served_versions(&name);
                with_facts(&version.served, &versions, |facts| write(&facts.message(), into));
            }
            Rpc::HealthCheck => {
                let HealthCheckRequest { service } = read(body)?;
                let health = listing.health(&service).ok_or_else(|| unknown_service(&service))?;
                write(&health_message(Some(health)), into);
            }
            Rpc::ModelInfer | Rpc::HealthWatch => {}
        }
        link.wire.reply_grpc(request.stream, Some(&self.payload), &GrpcStatus::OK, self.now);
        self.remove(link, slot);
        self.touch(link);
        Ok(())
    }

    /// Begins to tell of every change of a service's health.
    fn watch<T: Transport>(&mut self, link: &mut Link<T>, slot: u32, body: &Bytes) -> Result<(), Refusal> {
        let HealthCheckRequest { service } = read(body)?;
        let told = self.listing.health(&service);
        let Some(request) = self.requests.get_mut(slot) else { return Ok(()) };
        link.granted -= request.bytes;
        self.lease.release_bytes(request.bytes);
        request.bytes = 0;
        request.stage = Stage::Watching { service: service.into(), told };
        self.watches.push(slot);
        link.wire.open_grpc(request.stream, self.now);
        self.payload.clear();
        write(&health_message(told), self.payload.buffer());
        link.wire.send_grpc(request.stream, &self.payload, self.now);
        self.touch(link);
        Ok(())
    }

    /// Tells all who watch what has changed for them.
    pub(super) fn tell_watches<T: Transport>(&mut self, links: &mut Slab<Link<T>>) {
        for index in 0..self.watches.len() {
            let Some(request) = self.requests.get_mut(self.watches[index]) else { continue };
            let Stage::Watching { service, told } = &mut request.stage else { continue };
            let health = self.listing.health(service);
            if health == *told {
                continue;
            }
            *told = health;
            let (stream, number) = (request.stream, request.link);
            self.payload.clear();
            write(&health_message(health), self.payload.buffer());
            if let Some(link) = links.get_mut(number) {
                link.wire.send_grpc(stream, &self.payload, self.now);
                self.touch(link);
            }
        }
    }

    /// Ends the answer of one who watches.
    pub(super) fn end_watch<T: Transport>(&mut self, link: &mut Link<T>, slot: u32, refusal: &Refusal) {
        let Some(stream) = self.requests.get(slot).map(|request| request.stream) else { return };
        self.remove(link, slot);
        let entry = refusal.reason.entry();
        let code = entry.grpc.map_or(0, |code| code as u8);
        let fields = [("servekit-refusal", entry.label.as_bytes())];
        link.wire.finish_grpc(stream, &GrpcStatus { code, message: &refusal.text, fields: &fields }, self.now);
        self.touch(link);
    }
}

/// Prints the answer of a route without a body; says its status.
fn print(shared: &Shared, listing: &Listing, route: &Route, into: &mut Vec<u8>) -> Result<u16, Refusal> {
    match route {
        Route::Live => print_live(true, into),
        Route::Ready => {
            let ready = listing.is_ready();
            print_ready(ready, into);
            return Ok(if ready { OK } else { NOT_READY });
        }
        Route::ServerMetadata => SERVER.print(into),
        Route::ModelList => {
            let mut names: Vec<&str> = listing.served().map(|version| &*version.served.name).collect();
            names.dedup();
            print_models(names.into_iter(), into);
        }
        Route::Model { name, version, action: ModelAction::Ready } => {
            let found = listing.find(name, version);
            if let Err(refusal) = &found
                && refusal.reason == Reason::UnknownModel
            {
                return Err(refusal.clone());
            }
            print_model_ready(name, found.is_ok(), into);
            return Ok(if found.is_ok() { OK } else { NOT_READY });
        }
        Route::Model { name, version, action } => {
            let version = listing.find(name, version)?;
            let versions = listing.served_versions(name);
            match action {
                ModelAction::Config => print_value(&model_config(&version.served, &versions), into),
                ModelAction::Why => print_value(&why(shared, version), into),
                _ => with_facts(&version.served, &versions, |facts| facts.print(into)),
            }
        }
        Route::Rpc(_) => {}
    }
    Ok(OK)
}

fn print_value(value: &serde_json::Value, into: &mut Vec<u8>) {
    // A growing buffer takes every value.
    serde_json::to_writer(into, value).unwrap_or_default();
}

/// Puts together what metadata says of a model.
pub(crate) fn with_facts<R>(served: &Served, versions: &[&str], say: impl FnOnce(&ModelFacts<'_>) -> R) -> R {
    let properties: Vec<(&str, &str)> = served.properties.iter().map(|(key, value)| (&**key, &**value)).collect();
    let contract = served.model.contract();
    say(&ModelFacts { contract, versions, platform: &served.platform, properties: &properties })
}

fn read<M: Message + Default>(body: &Bytes) -> Result<M, Refusal> {
    M::decode(body.clone()).map_err(|error| {
        let text = format!("{error} in {} bytes; build the message from the published proto", body.len());
        Refusal::new(Reason::BadProtobuf, text)
    })
}

fn write(message: &impl Message, into: &mut Vec<u8>) {
    into.reserve(message.encoded_len());
    // A growing buffer takes every message.
    message.encode(into).unwrap_or_default();
}

fn unknown_service(service: &str) -> Refusal {
    let text = format!(
        "service '{}' is not found; ask for the empty name, inference.GRPCInferenceService or a model",
        quoted(service.as_bytes())
    );
    Refusal::new(Reason::UnknownModel, text)
}
