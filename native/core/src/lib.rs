//! What is served and what serves it, without sockets, threads or clocks: tensors as (datatype, shape, bytes),
//! contracts, requests and replies, limits, refusals, the Batcher and the counters. Time is an argument everywhere.
#![forbid(unsafe_code)]

mod batch;
mod batcher;
mod budget;
mod caller;
mod contract;
mod counters;
mod datatype;
mod execute;
mod limits;
mod model;
mod refusal;
mod request;
mod scheduler;
mod tensor;

pub use batch::{Batch, Item};
pub use batcher::{Batcher, Next, Policy};
pub use budget::{Budget, Lease};
pub use caller::{Answer, Caller, Mailbox, Ticket};
pub use contract::{Axis, Batching, Contract, TensorSpec, list};
pub use counters::{Bounds, Histogram, ModelCounters, RequestScope, ShardCounters, Transport};
pub use datatype::Datatype;
pub use execute::{Answers, Report, execute};
pub use limits::Limits;
pub use model::{Executor, Model, RunFailure, RunOutputs};
pub use refusal::{Entry, GrpcCode, Reason, Refusal, quoted};
pub use request::{Inputs, Outputs, Pending, Reply, Timing};
pub use scheduler::{ModelKey, Scheduler};
pub use tensor::{Shape, Tensor, element_count};
