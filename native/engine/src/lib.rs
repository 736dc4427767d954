//! Runs ONNX models with ONNX Runtime: finds the cores, opens the library, loads a model and describes it, gathers
//! requests into a batch, runs it and takes the outputs apart without a copy.
//!
//! This is the only crate with `unsafe`: the C API is called directly, because a session runs on several threads at
//! once, and because values of any type must be refused by name instead of ending the process.

#[cfg(target_endian = "big")]
compile_error!("tensors are little-endian on the wire and in memory; big-endian machines are not served");

mod aligned;
mod axes;
mod capi;
mod control;
mod cores;
mod cuda;
mod environment;
mod fault;
mod file;
mod gather;
mod intra;
mod lane;
mod loader;
mod memory;
mod model;
mod pipeline;
mod probe;
mod profile;
mod proof;
mod protobuf;
mod ragged;
mod samples;
mod scan;
mod scatter;
mod session;
mod signature;
mod tolerance;
mod trial;
mod values;
mod warm_up;
mod workers;
mod zipmap;

pub use control::Terminator;
pub use cores::{CorePlan, Shares, core_plan};
pub use environment::{Environment, EnvironmentError, LogHook, LogLevel};
pub use lane::{Lane, Part};
pub use memory::{Allocator, give_back_freed_memory};
pub use model::{
    Description, DeviceChoice, Execution, LoadedModel, ModelSpec, Placement, ProofSummary, Sample, Settings, Verdict,
};
pub use pipeline::{Leg, Pipeline, PipelineLane};
pub use profile::{KnownSurface, ProfileUse, Start};
