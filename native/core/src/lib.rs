//! What is served and what serves it, without sockets, threads or clocks: tensors as (datatype, shape, bytes),
//! contracts, requests and replies, limits, refusals, the Batcher and the counters. Time is an argument everywhere.
#![forbid(unsafe_code)]

mod answers;
mod arrivals;
mod batch;
mod batcher;
mod budget;
mod caller;
mod contract;
mod counters;
mod datatype;
mod execute;
mod health;
mod latency;
mod limits;
mod model;
mod outlook;
mod policy;
mod refusal;
mod report;
mod request;
mod scheduler;
mod shape_class;
mod split;
mod targets;
mod tensor;
mod way;

pub use answers::Answers;
pub use arrivals::Arrivals;
pub use batch::{Batch, Dispatch, Item, RunId};
pub use batcher::{Batcher, ClassSurface, Estimate, Next, Padding, Patience, Queued, Refused, Shed, ShedCounts};
pub use budget::{Budget, Hold, Lease, Quota, Share};
pub use caller::{Answer, Caller, Mailbox, Ticket};
pub use contract::{Axis, Batching, Contract, Mask, Ragged, TensorSpec, check_row_bytes, list};
pub use counters::{
    AnatomySnapshot, Bounds, Distribution, Ending, Histogram, ModelCounters, ModelSnapshot, PaddingSnapshot,
    RequestScope, RequestsSnapshot, RowDistribution, ShardCounters, ShardSnapshot, StepSnapshot, Sum, Transport,
    Verdict,
};
pub use datatype::Datatype;
pub use execute::execute;
pub use health::{Health, Verdict as HealthVerdict};
pub use latency::{Latency, Surface};
pub use limits::Limits;
pub use model::{Executor, Model, Preparer, RowFault, RunFailure, RunOutputs, Step, StepPlace};
pub use outlook::Outlook;
pub use policy::{Mode, Policy, Rules};
pub use refusal::{Entry, GrpcCode, Reason, Refusal, quoted};
pub use report::{Fault, Outcome, Report, Run};
pub use request::{Inputs, Outputs, Pending, Prepared, Reply, Timing};
pub use scheduler::{ModelKey, Scheduler, Turn};
pub use targets::latency_targets;
pub use tensor::{Shape, Tensor, element_count};
pub use way::{Entries, Passage, Passed, Route, Way};
