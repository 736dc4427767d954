//! The C API of ONNX Runtime: one way to call it, one way to free what it gave.

use std::ffi::{CStr, c_char};
use std::marker::PhantomData;
use std::ptr::NonNull;

use ort::sys;
use servekit_core::Datatype;

use crate::fault::Fault;

/// The table of functions. Only to be called once the library is open; everything that calls it holds something made
/// by an [`Environment`](crate::Environment).
pub(crate) fn api() -> &'static sys::OrtApi {
    ort::api()
}

/// Turns a status into a result and frees it.
#[inline]
pub(crate) fn check(status: sys::OrtStatusPtr) -> Result<(), Fault> {
    match NonNull::new(status.0) {
        None => Ok(()),
        Some(status) => Err(take_fault(status)),
    }
}

#[cold]
fn take_fault(status: NonNull<sys::OrtStatus>) -> Fault {
    type CodeGetter = unsafe extern "system" fn(*const sys::OrtStatus) -> i32;
    // SAFETY: only the return type differs, an enum of representation i32; as a plain i32 a code that a newer library
    // adds is a number and not an invalid enum.
    let code_getter = unsafe { std::mem::transmute::<*const (), CodeGetter>(api().GetErrorCode as *const ()) };
    // SAFETY: the status is alive until it is released below, and its text is copied before that.
    unsafe {
        let code = code_getter(status.as_ptr());
        let text = text_of((api().GetErrorMessage)(status.as_ptr()));
        (api().ReleaseStatus)(status.as_ptr());
        Fault { code, text }
    }
}

/// A copy of a C string; empty for null.
///
/// # Safety
/// `text` is null or points to a string that ends with a NUL byte.
pub(crate) unsafe fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and the caller vouches for its end.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// A kind of object that the library makes and that must be released.
pub(crate) trait Foreign: Sized {
    /// Its release function.
    fn release() -> unsafe extern "system" fn(*mut Self);
}

macro_rules! foreign {
    ($($kind:ident => $release:ident),* $(,)?) => {
        $(impl Foreign for sys::$kind {
            fn release() -> unsafe extern "system" fn(*mut Self) { api().$release }
        })*
    };
}

foreign! {
    OrtArenaCfg => ReleaseArenaCfg,
    OrtAllocator => ReleaseAllocator,
    OrtCUDAProviderOptionsV2 => ReleaseCUDAProviderOptions,
    OrtEnv => ReleaseEnv,
    OrtKeyValuePairs => ReleaseKeyValuePairs,
    OrtMemoryInfo => ReleaseMemoryInfo,
    OrtRunOptions => ReleaseRunOptions,
    OrtSession => ReleaseSession,
    OrtSessionOptions => ReleaseSessionOptions,
    OrtTypeInfo => ReleaseTypeInfo,
    OrtValue => ReleaseValue,
}

/// Owns one object of the library and releases it when dropped. Never null, so `Option<Handle<T>>` has the layout of
/// a `*mut T`: a list of them can be filled by the library.
#[repr(transparent)]
pub(crate) struct Handle<T: Foreign>(NonNull<T>, PhantomData<T>);

// SAFETY: the library ties no object to the thread that made it (values were released on other threads, and after
// their session, without harm), and a handle is the only owner.
unsafe impl<T: Foreign> Send for Handle<T> {}
// SAFETY: a shared handle gives out only its pointer; what may be called with it from several threads at once is
// argued where it is called.
unsafe impl<T: Foreign> Sync for Handle<T> {}

impl<T: Foreign> Handle<T> {
    /// Takes over what a function of the library puts out.
    pub(crate) fn create(fill: impl FnOnce(*mut *mut T) -> sys::OrtStatusPtr) -> Result<Self, Fault> {
        let mut pointer = std::ptr::null_mut();
        check(fill(&raw mut pointer))?;
        let pointer = NonNull::new(pointer).ok_or_else(|| Fault::ours("the library gave nothing"))?;
        Ok(Self(pointer, PhantomData))
    }

    /// For calls.
    #[inline]
    pub(crate) fn pointer(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T: Foreign> Drop for Handle<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the library, nobody else owns it, and it is not used again.
        unsafe { T::release()(self.0.as_ptr()) };
    }
}

/// An owned tensor, sequence or map.
pub(crate) type Value = Handle<sys::OrtValue>;

/// Describes CPU memory, by arena or not.
pub(crate) fn cpu_memory(allocator: sys::OrtAllocatorType) -> Result<Handle<sys::OrtMemoryInfo>, Fault> {
    // SAFETY: `out` is valid for one pointer.
    Handle::create(|out| unsafe { (api().CreateCpuMemoryInfo)(allocator, sys::OrtMemType::OrtMemTypeDefault, out) })
}

/// The library's own CPU allocator, which lives as long as the process.
pub(crate) fn default_allocator() -> Result<*mut sys::OrtAllocator, Fault> {
    let mut allocator = std::ptr::null_mut();
    // SAFETY: `allocator` is valid for one pointer.
    check(unsafe { (api().GetAllocatorWithDefaultOptions)(&raw mut allocator) })?;
    Ok(allocator)
}

/// An element type as the library numbers it. A plain number, because a newer library may know more of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ElementType(pub(crate) i32);

/// Names of all element types, by number.
const ELEMENT_NAMES: [&str; 27] = [
    "undefined",
    "float",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "string",
    "bool",
    "float16",
    "double",
    "uint32",
    "uint64",
    "complex64",
    "complex128",
    "bfloat16",
    "float8e4m3fn",
    "float8e4m3fnuz",
    "float8e5m2",
    "float8e5m2fnuz",
    "uint4",
    "int4",
    "float4e2m1",
    "uint2",
    "int2",
    "float8e8m0",
];

impl ElementType {
    pub(crate) const FLOAT: Self = Self(1);
    pub(crate) const INT64: Self = Self(7);
    pub(crate) const STRING: Self = Self(8);

    /// As ONNX calls it.
    pub(crate) fn name(self) -> &'static str {
        usize::try_from(self.0).ok().and_then(|number| ELEMENT_NAMES.get(number)).copied().unwrap_or("unknown")
    }

    /// As the protocol calls it; `None` where it has no name for it.
    pub(crate) fn datatype(self) -> Option<Datatype> {
        Datatype::ALL.into_iter().find(|&datatype| Self::from(datatype) == self)
    }

    /// For calls.
    pub(crate) fn number(self) -> sys::ONNXTensorElementDataType {
        use sys::ONNXTensorElementDataType as Number;
        match self.0 {
            1 => Number::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
            2 => Number::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
            3 => Number::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
            4 => Number::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16,
            5 => Number::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,
            6 => Number::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
            7 => Number::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
            8 => Number::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
            9 => Number::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
            10 => Number::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
            11 => Number::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
            12 => Number::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32,
            13 => Number::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64,
            16 => Number::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
            _ => Number::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED,
        }
    }
}

impl From<Datatype> for ElementType {
    fn from(datatype: Datatype) -> Self {
        Self(match datatype {
            Datatype::Fp32 => 1,
            Datatype::Uint8 => 2,
            Datatype::Int8 => 3,
            Datatype::Uint16 => 4,
            Datatype::Int16 => 5,
            Datatype::Int32 => 6,
            Datatype::Int64 => 7,
            Datatype::Bytes => 8,
            Datatype::Bool => 9,
            Datatype::Fp16 => 10,
            Datatype::Fp64 => 11,
            Datatype::Uint32 => 12,
            Datatype::Uint64 => 13,
            Datatype::Bf16 => 16,
        })
    }
}
