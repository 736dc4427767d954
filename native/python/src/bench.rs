//! The load generator, for `servekit bench`.

use servekit_loadgen::{Error as Told, Plan};

use crate::errors::Error;
use crate::{parse, print};

/// Carries out one run; blocks until it is done.
///
/// # Errors
/// `Config` for a plan that makes no sense, `Bind` for a server that cannot be reached.
pub fn run(plan_json: &str, bodies: Vec<Vec<u8>>) -> Result<String, Error> {
    let plan: Plan = parse(plan_json)?;
    let outcome = servekit_loadgen::run(&plan, bodies).map_err(|told| match told {
        Told::Plan(text) => Error::Config(text),
        Told::Server(text) => Error::Bind(text),
    })?;
    print(&outcome)
}
