//! The CUDA execution provider, where the GPU wheel of ONNX Runtime is installed.

use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};
use std::sync::Once;

use ort::sys;

use crate::capi::{Handle, api, check, text_of};
use crate::fault::Fault;

/// What to do where it is missing.
pub(crate) const INSTALL: &str = "pip uninstall onnxruntime; pip install onnxruntime-gpu";

/// Whether this build of the library has the provider; a device may still be missing.
pub(crate) fn is_built_in() -> Result<bool, Fault> {
    let (mut names, mut count) = (std::ptr::null_mut(), 0_i32);
    // SAFETY: the library gives an array of `count` C strings, which is read before it is released.
    unsafe {
        check((api().GetAvailableProviders)(&raw mut names, &raw mut count))?;
        let is_there =
            (0..usize::try_from(count).unwrap_or(0)).any(|index| text_of(*names.add(index)) == "CUDAExecutionProvider");
        check((api().ReleaseAvailableProviders)(names, count))?;
        Ok(is_there)
    }
}

/// Loads the CUDA libraries that pip has installed beside ONNX Runtime, so that its provider finds them, in the order
/// they need each other. Those that are not there are left to the system's own search.
pub(crate) fn preload(library: &Path) {
    static PRELOADED: Once = Once::new();
    PRELOADED.call_once(|| {
        let Some(packages) = library.ancestors().nth(3) else { return }; // …/site-packages/onnxruntime/capi/lib….so
        let files = wheel_libraries(packages);
        for name in ort::ep::cuda::CUDA_DYLIBS.iter().chain(ort::ep::cuda::CUDNN_DYLIBS) {
            // Any version: the provider asks for the one it was built with, and finds it if it is among these.
            let stem = name.split_inclusive(".so").next().unwrap_or(name);
            for path in files.iter().filter(|path| is_version_of(path, stem)) {
                // One that cannot be loaded shows when the provider is made, with the library's own words.
                let _ = ort::util::preload_dylib(path);
            }
        }
    });
}

fn is_version_of(path: &Path, stem: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(stem))
}

/// The files in `nvidia/*/lib` under the packages' folder.
fn wheel_libraries(packages: &Path) -> Vec<PathBuf> {
    let files = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    files(&packages.join("nvidia")).iter().flat_map(|wheel| files(&wheel.join("lib"))).collect()
}

/// Adds the provider to a session's options.
pub(crate) fn append(
    options: &Handle<sys::OrtSessionOptions>,
    index: u32,
    gpu_bytes_max: Option<u64>,
) -> Result<(), Fault> {
    // SAFETY: `out` is valid for one pointer.
    let provider: Handle<sys::OrtCUDAProviderOptionsV2> =
        Handle::create(|out| unsafe { (api().CreateCUDAProviderOptions)(out) })?;
    let entries = [
        ("device_id", index.to_string()),
        ("gpu_mem_limit", gpu_bytes_max.unwrap_or(usize::MAX as u64).to_string()),
        ("arena_extend_strategy", "kSameAsRequested".to_owned()),
        // The default tries every algorithm for each new shape, which takes seconds.
        ("cudnn_conv_algo_search", "HEURISTIC".to_owned()),
        ("do_copy_in_default_stream", "1".to_owned()),
    ]
    .map(|(key, value)| (CString::new(key).unwrap_or_default(), CString::new(value).unwrap_or_default()));
    let keys: Vec<*const c_char> = entries.iter().map(|(key, _)| key.as_ptr()).collect();
    let values: Vec<*const c_char> = entries.iter().map(|(_, value)| value.as_ptr()).collect();
    // SAFETY: both arrays hold `keys.len()` C strings, which are copied; both options are alive.
    unsafe {
        check((api().UpdateCUDAProviderOptions)(provider.pointer(), keys.as_ptr(), values.as_ptr(), keys.len()))?;
        check((api().SessionOptionsAppendExecutionProvider_CUDA_V2)(options.pointer(), provider.pointer()))
    }
}
