//! Libraries that read what strangers send are kept from harming anybody but the sender.

use std::panic::{AssertUnwindSafe, catch_unwind};

use servekit_core::Refusal;

use crate::stage::unusable;

/// Runs a library's code on what a client sent. A panic in there is a defect of the library on exactly this input, so
/// it is that row's refusal. Values that the code was changing are in no known state then: it must own or overwrite
/// them.
pub(crate) fn contained<T>(what: &str, work: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(unusable(format!("the {what} made its reader give up, an undamaged one is allowed; write it anew")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use servekit_core::Reason;

    #[test]
    fn a_panic_is_the_rows_own_refusal() {
        let refusal = contained::<()>("image", || std::panic::resume_unwind(Box::new("index out of bounds")));
        assert_eq!(refusal.unwrap_err().reason, Reason::ValueOutOfRange);
    }
}
