//! The data plane: listeners, shards, connections and dialects. Turns what the wire tells into requests, has models
//! answer them, and turns replies into what the wire says.
//!
//! [`Server`] is the whole surface. Models come as [`Served`], behind the traits of `servekit-core`; nothing here
//! knows which engine runs them.
#![forbid(unsafe_code)]

mod config;
mod dialect;
mod encoding;
mod estimates;
mod intent;
mod jitter;
mod json;
mod listeners;
mod listing;
mod log;
mod messages;
mod model_config;
mod pool;
mod refusals;
mod routes;
mod server;
mod shard;
mod shared;
mod snapshot;
mod timeouts;
mod timing;
mod why;

pub use servekit_core as core;

pub use config::{AccessLog, Config, DataPorts, LogFormat, LogKind, LogSink, ServerTiming};
pub use listeners::{Addresses, BindError};
pub use listing::{Absence, Placement, Served};
pub use server::{DrainReport, Server, StartError};
pub use snapshot::{MemorySnapshot, ServerSnapshot, Snapshot, describe};
