//! A loaded graph, ready to run.

use std::ffi::{CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;

use ort::sys;

use crate::Environment;
use crate::capi::{Handle, api, check, cpu_memory, text_of};
use crate::cuda;
use crate::fault::Fault;
use crate::workers;

/// What runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    Cpu,
    /// The CUDA device of this number.
    Cuda(u32),
}

impl Device {
    /// As descriptions show it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Cpu => "cpu".to_owned(),
            Self::Cuda(index) => format!("cuda:{index}"),
        }
    }
}

/// What a session is made from.
pub(crate) struct SessionSource<'a> {
    pub(crate) environment: Environment,
    /// The whole model file.
    pub(crate) model: &'a [u8],
    /// Where its external data lie.
    pub(crate) folder: &'a Path,
    pub(crate) device: Device,
    /// Bytes that a session may take on a GPU; `None` where only the device bounds it.
    pub(crate) gpu_bytes_max: Option<u64>,
    pub(crate) intra_op: u32,
    /// Made to be asked for its signature and never run, which is quicker.
    pub(crate) is_read_only: bool,
}

impl SessionSource<'_> {
    /// Whether all lanes may share one session: on the CPU, without a thread pool that concurrent runs would fight for.
    pub(crate) fn is_shared(&self) -> bool {
        self.device == Device::Cpu && self.intra_op <= 1
    }
}

/// A session with an arena of its own.
pub(crate) struct Session {
    handle: Handle<sys::OrtSession>,
    /// Bytes that its runs may take together.
    pub(crate) arena_bytes_max: u64,
    /// Held during a run where the session may not run twice at once (CUDA, or a thread pool of its own), so that the
    /// golden row can use a lane's session; otherwise unused.
    pub(crate) turn: Option<Mutex<()>>,
}

impl Session {
    /// Makes a session whose arena is bounded; several at once wait for each other.
    pub(crate) fn build(source: &SessionSource<'_>, arena_bytes_max: u64) -> Result<Self, Fault> {
        let options = session_options(source)?;
        let _making = source.environment.lock_session_making();
        let memory = cpu_memory(sys::OrtAllocatorType::OrtArenaAllocator)?;
        let arena = arena_options(arena_bytes_max)?;
        // SAFETY: environment, memory and arena are alive; the library copies what it keeps. It replaces the arena
        // registered last, which lives on in the sessions that took it.
        check(unsafe {
            (api().CreateAndRegisterAllocator)(source.environment.pointer(), memory.pointer(), arena.pointer())
        })?;
        // SAFETY: the model's bytes are valid for their length and not needed after the call, which copies weights.
        let handle = Handle::create(|out| unsafe {
            (api().CreateSessionFromArray)(
                source.environment.pointer(),
                source.model.as_ptr().cast(),
                source.model.len(),
                options.pointer(),
                out,
            )
        });
        // SAFETY: as above. The session has taken its arena; the environment must not keep it alive after the session.
        // Failing would only mean that the memory goes when the next session is made.
        let _ = check(unsafe { (api().UnregisterAllocator)(source.environment.pointer(), memory.pointer()) });
        Ok(Self { handle: handle?, arena_bytes_max, turn: (!source.is_shared()).then(Mutex::default) })
    }

    /// Whether several runs at once are right on it.
    pub(crate) fn is_shared(&self) -> bool {
        self.turn.is_none()
    }

    /// For calls.
    #[inline]
    pub(crate) fn pointer(&self) -> *mut sys::OrtSession {
        self.handle.pointer()
    }

    /// Most bytes that its CPU arena has held at once; `None` where the library does not tell.
    pub(crate) fn arena_bytes_peak(&self) -> Option<u64> {
        let memory = cpu_memory(sys::OrtAllocatorType::OrtArenaAllocator).ok()?;
        // SAFETY: session and memory are alive; the allocator is released before the session.
        let allocator: Handle<sys::OrtAllocator> =
            Handle::create(|out| unsafe { (api().CreateAllocator)(self.pointer(), memory.pointer(), out) }).ok()?;
        // SAFETY: the allocator is alive, and `out` valid for one pointer.
        let statistics: Handle<sys::OrtKeyValuePairs> =
            Handle::create(|out| unsafe { (api().AllocatorGetStats)(allocator.pointer(), out) }).ok()?;
        let (mut keys, mut values, mut count) = (std::ptr::null(), std::ptr::null(), 0_usize);
        // SAFETY: the pairs are alive; the library gives two arrays of `count` C strings that live as long.
        let pairs: Vec<(String, String)> = unsafe {
            (api().GetKeyValuePairs)(statistics.pointer(), &raw mut keys, &raw mut values, &raw mut count);
            (0..count).map(|index| (text_of(*keys.add(index)), text_of(*values.add(index)))).collect()
        };
        pairs.iter().find(|(key, _)| key == "MaxInUse").and_then(|(_, value)| value.parse().ok())
    }
}

/// Every setting of a session, each with its reason.
fn session_options(source: &SessionSource<'_>) -> Result<Handle<sys::OrtSessionOptions>, Fault> {
    // SAFETY: `out` is valid for one pointer.
    let options: Handle<sys::OrtSessionOptions> = Handle::create(|out| unsafe { (api().CreateSessionOptions)(out) })?;
    let intra_op = i32::try_from(source.intra_op.max(1)).unwrap_or(i32::MAX);
    let optimisation = if source.is_read_only {
        sys::GraphOptimizationLevel::ORT_DISABLE_ALL
    } else {
        sys::GraphOptimizationLevel::ORT_ENABLE_ALL
    };
    // SAFETY: the options are alive.
    unsafe {
        check((api().SetSessionGraphOptimizationLevel)(options.pointer(), optimisation))?;
        check((api().SetIntraOpNumThreads)(options.pointer(), intra_op))?;
        check((api().SetInterOpNumThreads)(options.pointer(), 1))?;
        // Patterns are kept for each shape ever seen, without end.
        check((api().DisableMemPattern)(options.pointer()))?;
    }
    if intra_op > 1 {
        workers::arrange(options.pointer())?;
    }
    let folder = CString::new(source.folder.as_os_str().as_bytes())
        .map_err(|_| Fault::ours("the model's folder holds a NUL byte"))?;
    let entries = [
        // The arena registered last, bounded and this session's own.
        (c"session.use_env_allocators", c"1"),
        // Weights lie outside the arena, so that its bound is about runs alone.
        (c"session.use_device_allocator_for_initializers", c"1"),
        // Waiting threads sleep: a spinning one takes a core from its neighbours.
        (c"session.intra_op.allow_spinning", c"0"),
        (c"session.inter_op.allow_spinning", c"0"),
        (c"session.model_external_initializers_file_folder_path", folder.as_c_str()),
        (c"session.disable_prepacking", if source.is_read_only { c"1" } else { c"0" }),
    ];
    for (key, value) in entries {
        // SAFETY: the options are alive, and both strings are copied.
        check(unsafe { (api().AddSessionConfigEntry)(options.pointer(), key.as_ptr(), value.as_ptr()) })?;
    }
    if let Device::Cuda(index) = source.device {
        cuda::append(&options, index, source.gpu_bytes_max)?;
    }
    Ok(options)
}

fn arena_options(arena_bytes_max: u64) -> Result<Handle<sys::OrtArenaCfg>, Fault> {
    /// Regions of the size asked for: doubling would reserve up to twice the need.
    const SAME_AS_REQUESTED: usize = 1;
    let keys: [*const c_char; 2] = [c"max_mem".as_ptr(), c"arena_extend_strategy".as_ptr()];
    let values = [usize::try_from(arena_bytes_max).unwrap_or(usize::MAX), SAME_AS_REQUESTED];
    // SAFETY: both arrays hold `keys.len()` entries, and the keys are C strings.
    Handle::create(|out| unsafe { (api().CreateArenaCfgV2)(keys.as_ptr(), values.as_ptr(), keys.len(), out) })
}
