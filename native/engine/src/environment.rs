//! The one ONNX Runtime of the process.

use std::ffi::{CStr, c_char, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use ort::sys;

use crate::capi::{Handle, api, check, text_of};
use crate::fault::{Fault, told};
use crate::workers;

/// How grave a line of ONNX Runtime's log is; lower ones are not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Something odd, and it goes on.
    Warning,
    /// Something failed.
    Error,
}

/// Takes the lines of ONNX Runtime's log, free of source paths. May be called on any thread, and must not block.
pub type LogHook = Box<dyn Fn(LogLevel, &str) + Send + Sync>;

/// Why ONNX Runtime cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvironmentError {
    /// The path of the library must be absolute.
    RelativePath(PathBuf),
    /// The library cannot be opened, or is too old.
    Library(String),
    /// The library is there and refuses to start.
    Start(String),
    /// Another library was opened before; a process has one.
    Other(PathBuf),
}

impl fmt::Display for EnvironmentError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RelativePath(path) => {
                write!(
                    formatter,
                    "ONNX Runtime's library is given as '{}', an absolute path is allowed",
                    path.display()
                )
            }
            Self::Library(cause) => write!(
                formatter,
                "ONNX Runtime's library cannot be opened: {cause}; install onnxruntime 1.24 or newer with pip"
            ),
            Self::Start(cause) => write!(formatter, "ONNX Runtime does not start: {cause}"),
            Self::Other(path) => write!(
                formatter,
                "this process has opened '{}' before, one ONNX Runtime is allowed; start another process",
                path.display()
            ),
        }
    }
}

impl std::error::Error for EnvironmentError {}

/// The open library. Cheap to copy; never closed, because sessions and outputs may live until the process ends.
#[derive(Clone, Copy)]
pub struct Environment(&'static Opened);

struct Opened {
    handle: Handle<sys::OrtEnv>,
    library: PathBuf,
    version: String,
    /// Held from the registration of an arena to the end of the session's making, which takes the arena registered
    /// last. A plain lock: loads are rare and long.
    making_session: Mutex<()>,
}

static OPENED: OnceLock<Opened> = OnceLock::new();
/// Lets one thread open at a time; a failed try may be repeated with another path.
static OPENING: Mutex<()> = Mutex::new(());
/// Set before the environment exists, so that its callback finds it.
static LOG_HOOK: OnceLock<LogHook> = OnceLock::new();

impl Environment {
    /// Opens the library at this absolute path; every later call gives the same environment and keeps its log hook.
    ///
    /// # Errors
    /// See [`EnvironmentError`].
    pub fn open(library: &Path, log: LogHook) -> Result<Self, EnvironmentError> {
        if !library.is_absolute() {
            return Err(EnvironmentError::RelativePath(library.to_owned()));
        }
        let _opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = OPENED.get() {
            let is_same = opened.library == library;
            return if is_same { Ok(Self(opened)) } else { Err(EnvironmentError::Other(opened.library.clone())) };
        }
        // The builder is dropped: it would ask for every line of the verbose log and format it.
        ort::init_from(library).map_err(|error| EnvironmentError::Library(error.to_string()))?;
        let version = library_version(library)?;
        let _ = LOG_HOOK.set(log);
        let start = |fault: Fault| EnvironmentError::Start(told(&fault.text));
        let handle = create_environment().map_err(start)?;
        workers::start_maker();
        // SAFETY: the environment was just made.
        check(unsafe { (api().DisableTelemetryEvents)(handle.pointer()) }).map_err(start)?;
        let opened = Opened { handle, library: library.to_owned(), version, making_session: Mutex::new(()) };
        Ok(Self(OPENED.get_or_init(|| opened)))
    }

    /// ONNX Runtime's version, like `1.32.0`.
    #[must_use]
    pub fn version(&self) -> &'static str {
        &self.0.version
    }

    /// Where the library lies.
    #[must_use]
    pub fn library(&self) -> &'static Path {
        &self.0.library
    }

    /// For calls.
    pub(crate) fn pointer(&self) -> *mut sys::OrtEnv {
        self.0.handle.pointer()
    }

    /// Keeps other sessions from being made until the guard goes.
    pub(crate) fn lock_session_making(&self) -> MutexGuard<'static, ()> {
        self.0.making_session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Environment").field(&self.0.version).finish()
    }
}

fn create_environment() -> Result<Handle<sys::OrtEnv>, Fault> {
    // SAFETY: the name is a C string and copied; the callback lives as long as the process and needs no parameter.
    Handle::create(|out| unsafe {
        (api().CreateEnvWithCustomLogger)(
            log_line,
            std::ptr::null_mut(),
            sys::OrtLoggingLevel::ORT_LOGGING_LEVEL_WARNING,
            c"servekit".as_ptr(),
            out,
        )
    })
}

/// Asks the open library for its version.
fn library_version(library: &Path) -> Result<String, EnvironmentError> {
    let path = std::ffi::CString::new(library.as_os_str().as_bytes())
        .map_err(|_| EnvironmentError::Library("its path holds a NUL byte".to_owned()))?;
    // SAFETY: RTLD_NOLOAD only finds what `ort` has opened and never closes; the symbol's type is the one that ONNX
    // Runtime's header gives it, and the version is a static string.
    let version = unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY);
        let symbol =
            if handle.is_null() { std::ptr::null_mut() } else { libc::dlsym(handle, c"OrtGetApiBase".as_ptr()) };
        if symbol.is_null() {
            String::new()
        } else {
            let base =
                std::mem::transmute::<*mut c_void, unsafe extern "system" fn() -> *const sys::OrtApiBase>(symbol)();
            text_of(((*base).GetVersionString)())
        }
    };
    if version.is_empty() {
        return Err(EnvironmentError::Library("it does not tell its version".to_owned()));
    }
    Ok(version)
}

/// Said in every run of a model that declares the shape of an output wrongly. What it gives is found by probing; the
/// log is not for callers to fill.
const SHAPE_WARNING: &str = "Expected shape from model of";

/// Called by the library for each line of its log, on any thread.
unsafe extern "system" fn log_line(
    _parameter: *mut c_void,
    severity: sys::OrtLoggingLevel,
    _category: *const c_char,
    _id: *const c_char,
    _location: *const c_char,
    message: *const c_char,
) {
    let Some(hook) = LOG_HOOK.get() else { return };
    if message.is_null() {
        return;
    }
    let level = match severity {
        sys::OrtLoggingLevel::ORT_LOGGING_LEVEL_ERROR | sys::OrtLoggingLevel::ORT_LOGGING_LEVEL_FATAL => {
            LogLevel::Error
        }
        _ => LogLevel::Warning,
    };
    // A panic must not cross into the library; the line is lost then, which harms nobody.
    let _ = std::panic::catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: not null, and the library ends its texts with a NUL byte.
        let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
        if !text.starts_with(SHAPE_WARNING) {
            hook(level, &told(&text));
        }
    }));
}
