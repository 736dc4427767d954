//! The threads of sessions whose runs have several. A thread starts with the priority of the one that makes it; loads
//! yield to requests, and what serves requests may not, so a thread with the process's own priority makes them all.

use std::ffi::c_void;
use std::panic::catch_unwind;
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use ort::sys;

use crate::capi::{api, check};
use crate::fault::Fault;

/// Where threads are asked for. Lives as long as the process, as the library does.
static MAKER: OnceLock<SyncSender<Order>> = OnceLock::new();

/// A thread that the library asks for.
struct Order {
    work: Work,
    made: SyncSender<Option<JoinHandle<()>>>,
}

/// The library's work loop, which ends when the session goes.
struct Work {
    run: sys::OrtThreadWorkerFn,
    parameter: *mut c_void,
}

// SAFETY: the library hands both over to be used on another thread.
unsafe impl Send for Work {}

impl Work {
    fn run(self) {
        // SAFETY: called once, with the parameter that the library gave for it.
        unsafe { (self.run)(self.parameter) }
    }
}

/// Starts the thread that makes others; only the first call does, and its priority is theirs. Without it sessions make
/// their threads themselves.
pub(crate) fn start_maker() {
    if MAKER.get().is_some() {
        return;
    }
    // Whoever asks waits for the answer, so nothing piles up.
    let (sender, orders) = sync_channel::<Order>(1);
    let make = move || {
        for Order { work, made } in orders {
            let thread = Builder::new().name("servekit-worker".to_owned()).spawn(move || work.run());
            // The library waits for it.
            let _ = made.send(thread.ok());
        }
    };
    if Builder::new().name("servekit-maker".to_owned()).spawn(make).is_ok() {
        let _ = MAKER.set(sender);
    }
}

/// Has a session of these options ask for its threads here.
pub(crate) fn arrange(options: *mut sys::OrtSessionOptions) -> Result<(), Fault> {
    if MAKER.get().is_none() {
        return Ok(());
    }
    // SAFETY: the options are alive, and both functions live as long as the process.
    unsafe {
        check((api().SessionOptionsSetCustomCreateThreadFn)(options, Some(create)))?;
        check((api().SessionOptionsSetCustomJoinThreadFn)(options, Some(join)))
    }
}

/// Called by the library for each thread it wants; null makes the session fail.
unsafe extern "C" fn create(
    _options: *mut c_void,
    run: sys::OrtThreadWorkerFn,
    parameter: *mut c_void,
) -> sys::OrtCustomThreadHandle {
    let work = Work { run, parameter };
    // A panic must not cross into the library.
    let made = catch_unwind(move || {
        let (made, waiting) = sync_channel(1);
        MAKER.get()?.send(Order { work, made }).ok()?;
        waiting.recv().ok()?
    });
    match made {
        Ok(Some(thread)) => Box::into_raw(Box::new(thread)).cast_const().cast(),
        _ => std::ptr::null(),
    }
}

/// Called by the library once for each thread, when its session goes.
unsafe extern "C" fn join(handle: sys::OrtCustomThreadHandle) {
    // SAFETY: it is what `create` gave, and given back once.
    let thread = unsafe { Box::from_raw(handle.cast_mut().cast::<JoinHandle<()>>()) };
    // The work loop is the library's and does not panic; joining must not either.
    let _ = thread.join();
}
