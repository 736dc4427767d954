//! What the tests of every crate share: a paused clock, a model that does what it is told, builders of tensors and
//! requests, and the receiving end of a mailbox. A dev-dependency only.
#![forbid(unsafe_code)]

mod bounds;
mod chain;
mod clock;
mod dice;
mod gate;
mod inbox;
mod model;
mod preparer;
mod tensors;

pub use bounds::limits;
pub use chain::Chain;
pub use clock::Clock;
pub use dice::Dice;
pub use inbox::Inbox;
pub use model::{FakeModel, Recorded};
pub use preparer::Preparing;
pub use tensors::{byte_strings, contract_alone, contract_of_rows, fp32, fp32_values, tensor};
