//! A discrete-event simulator of batching: the Scheduler and the Batchers that serve, run by a virtual clock beside
//! simple policies that meet the same requests and the same luck. Its tests are the gate that the rules must pass, its
//! tables and its picture the guide's.
#![forbid(unsafe_code)]

mod arrivals;
mod command;
mod comparator;
mod contest;
mod fluid;
mod picture;
mod random;
mod scenario;
mod service;
mod slackline;
mod tables;
mod trial;
mod world;

pub use arrivals::{Pattern, Stretch, Traffic};
pub use command::main_with;
pub use comparator::{Comparator, Pick, Rule};
pub use contest::{Contender, each};
pub use fluid::Fluid;
pub use random::Random;
pub use scenario::{Kind, Request, Scenario, Size, Trouble, in_ns};
pub use service::{Model, Noise, Service, Shape};
pub use slackline::{Prior, Setting, Slackline};
pub use trial::{Figures, Trial};
pub use world::{Fate, Policy, Step, Work, World, simulate};
