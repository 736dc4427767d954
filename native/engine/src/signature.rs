//! What a session takes and gives, asked from the library.

use std::ffi::{CStr, CString, c_char};

use ort::sys;
use servekit_core::{Axis, Datatype, Reason, Refusal, TensorSpec};

use crate::capi::{ElementType, Handle, api, check, default_allocator, text_of};
use crate::fault::Fault;
use crate::scan::Scan;
use crate::session::Session;
use crate::zipmap::ZipMap;

/// One input or output.
pub(crate) struct Port {
    /// For calls; equals the spec's name.
    pub(crate) name: CString,
    /// As the contract shows it.
    pub(crate) spec: TensorSpec,
    pub(crate) element: ElementType,
    /// Output: a sequence of maps, told as a matrix.
    pub(crate) zip_map: Option<ZipMap>,
    /// False for an output of which the model does not even say the rank.
    pub(crate) has_shape: bool,
}

/// All inputs, the optional ones last, and all outputs.
pub(crate) struct Signature {
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
}

/// What the library answers about an end of a graph.
type Count = unsafe extern "system" fn(*const sys::OrtSession, *mut usize) -> sys::OrtStatusPtr;
type Name = unsafe extern "system" fn(
    *const sys::OrtSession,
    usize,
    *mut sys::OrtAllocator,
    *mut *mut c_char,
) -> sys::OrtStatusPtr;
type Kind = unsafe extern "system" fn(*const sys::OrtSession, usize, *mut *mut sys::OrtTypeInfo) -> sys::OrtStatusPtr;

/// One kind of end, and how to ask for it.
struct End {
    word: &'static str,
    count: Count,
    name: Name,
    kind: Kind,
}

/// Reads both ends of a session.
///
/// # Errors
/// `ModelFile`, naming the first value that cannot be served and its type.
pub(crate) fn read(session: &Session, scan: &Scan, model: &str) -> Result<Signature, Refusal> {
    let functions = api();
    let inputs = End {
        word: "input",
        count: functions.SessionGetInputCount,
        name: functions.SessionGetInputName,
        kind: functions.SessionGetInputTypeInfo,
    };
    let defaults = End {
        word: "input",
        count: functions.SessionGetOverridableInitializerCount,
        name: functions.SessionGetOverridableInitializerName,
        kind: functions.SessionGetOverridableInitializerTypeInfo,
    };
    let outputs = End {
        word: "output",
        count: functions.SessionGetOutputCount,
        name: functions.SessionGetOutputName,
        kind: functions.SessionGetOutputTypeInfo,
    };
    let read = |end: &End| ports(session, end, scan).map_err(|problem| problem.into_refusal(model));
    let mut all_inputs = read(&inputs)?;
    let mut optional = read(&defaults)?;
    optional.iter_mut().for_each(|port| port.spec.optional = true);
    all_inputs.extend(optional);
    Ok(Signature { inputs: all_inputs, outputs: read(&outputs)? })
}

/// Why an end cannot be read.
enum Problem {
    Library(Fault),
    /// A value that cannot be served, and what it is.
    Unserved(String),
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::Library(fault)
    }
}

impl Problem {
    fn into_refusal(self, model: &str) -> Refusal {
        match self {
            Self::Library(fault) => fault.into_refusal(model),
            Self::Unserved(text) => {
                Refusal::new(Reason::ModelFile, format!("model '{model}' cannot be served: {text}"))
            }
        }
    }
}

fn ports(session: &Session, end: &End, scan: &Scan) -> Result<Vec<Port>, Problem> {
    let mut count = 0;
    // SAFETY: the session is alive, and `count` valid for one number.
    check(unsafe { (end.count)(session.pointer(), &raw mut count) })?;
    (0..count).map(|index| port(session, end, index, scan)).collect()
}

fn port(session: &Session, end: &End, index: usize, scan: &Scan) -> Result<Port, Problem> {
    let name = port_name(session, end, index)?;
    // SAFETY: the session is alive, `index` is below the count it gave, `out` is valid for one pointer.
    let kind = Handle::create(|out| unsafe { (end.kind)(session.pointer(), index, out) })?;
    let name_text = name.to_string_lossy().into_owned();
    if end.word == "output"
        && let Some(keys) = map_keys(kind.pointer())?
        && let Some(zip_map) = scan.labels.get(&name_text).and_then(|labels| ZipMap::new(labels, keys))
    {
        return Ok(zip_map_port(name, name_text, zip_map));
    }
    let unserved = |found: &str| {
        let served: Vec<&str> = Datatype::ALL.into_iter().map(|datatype| ElementType::from(datatype).name()).collect();
        Problem::Unserved(format!(
            "{} '{name_text}' is {found}, tensors of {} are served; convert it in the model",
            end.word,
            served.join(", ")
        ))
    };
    let Some(info) = tensor_info(kind.pointer())? else { return Err(unserved(&described(kind.pointer())?)) };
    let element = element_type(info)?;
    let datatype = element.datatype().ok_or_else(|| unserved(&format!("a tensor of {}", element.name())))?;
    // SAFETY: `info` belongs to `kind`, which is alive.
    let has_shape = unsafe { (api().TensorTypeAndShape_HasShape)(info) };
    if !has_shape && end.word == "input" {
        return Err(Problem::Unserved(format!("input '{name_text}' has no shape, one is needed; export it with one")));
    }
    let axes = axes(info)?;
    let spec = TensorSpec { name: name_text.into(), datatype, axes, optional: false, labels: None, base64: false };
    Ok(Port { name, spec, element, zip_map: None, has_shape })
}

fn zip_map_port(name: CString, text: String, zip_map: ZipMap) -> Port {
    let columns = i64::try_from(zip_map.labels.len()).unwrap_or(i64::MAX);
    let spec = TensorSpec {
        name: text.into(),
        datatype: Datatype::Fp32,
        axes: [Axis::Symbol("".into()), Axis::Fixed(columns)].into(),
        optional: false,
        labels: Some(zip_map.labels.clone()),
        base64: false,
    };
    Port { name, spec, element: ElementType::FLOAT, zip_map: Some(zip_map), has_shape: true }
}

fn port_name(session: &Session, end: &End, index: usize) -> Result<CString, Fault> {
    let allocator = default_allocator()?;
    let mut name = std::ptr::null_mut();
    // SAFETY: the session is alive and `index` in bounds; the name is a C string that is copied before it is freed by
    // the allocator that made it.
    unsafe {
        check((end.name)(session.pointer(), index, allocator, &raw mut name))?;
        let text = CStr::from_ptr(name).to_owned();
        check((api().AllocatorFree)(allocator, name.cast()))?;
        Ok(text)
    }
}

/// A type as the library numbers it: tensor, sequence, map, opaque, sparse tensor or optional.
fn onnx_type(info: *const sys::OrtTypeInfo) -> Result<i32, Fault> {
    let mut number = 0_i32;
    // SAFETY: `info` is alive; the enum has the representation of the i32 that is written.
    check(unsafe { (api().GetOnnxTypeFromTypeInfo)(info, (&raw mut number).cast()) })?;
    Ok(number)
}

const TENSOR: i32 = 1;
const SEQUENCE: i32 = 2;
const MAP: i32 = 3;

/// The tensor part of a type that is one; it lives as long as the type.
fn tensor_info(info: *const sys::OrtTypeInfo) -> Result<Option<*const sys::OrtTensorTypeAndShapeInfo>, Fault> {
    if onnx_type(info)? != TENSOR {
        return Ok(None);
    }
    let mut tensor = std::ptr::null();
    // SAFETY: `info` is alive, and `tensor` valid for one pointer.
    check(unsafe { (api().CastTypeInfoToTensorInfo)(info, &raw mut tensor) })?;
    Ok((!tensor.is_null()).then_some(tensor))
}

fn element_type(info: *const sys::OrtTensorTypeAndShapeInfo) -> Result<ElementType, Fault> {
    let mut element = ElementType(0);
    // SAFETY: `info` is alive; the enum has the representation of the i32 that is written.
    check(unsafe { (api().GetTensorElementType)(info, (&raw mut element.0).cast()) })?;
    Ok(element)
}

fn axes(info: *const sys::OrtTensorTypeAndShapeInfo) -> Result<Box<[Axis]>, Fault> {
    let mut rank = 0;
    // SAFETY: `info` is alive, and `rank` valid for one number.
    check(unsafe { (api().GetDimensionsCount)(info, &raw mut rank) })?;
    let mut sizes = vec![0_i64; rank];
    let mut symbols = vec![std::ptr::null::<c_char>(); rank];
    // SAFETY: both arrays have room for `rank` entries; the symbols are C strings that live as long as `info`.
    let names: Vec<String> = unsafe {
        check((api().GetDimensions)(info, sizes.as_mut_ptr(), rank))?;
        check((api().GetSymbolicDimensions)(info, symbols.as_mut_ptr(), rank))?;
        symbols.into_iter().map(|symbol| text_of(symbol)).collect()
    };
    let axis = |(size, name): (i64, String)| if size < 0 { Axis::Symbol(name.into()) } else { Axis::Fixed(size) };
    Ok(sizes.into_iter().zip(names).map(axis).collect())
}

/// The type of one element of a sequence.
fn sequence_element(info: *const sys::OrtTypeInfo) -> Result<Handle<sys::OrtTypeInfo>, Fault> {
    let mut sequence = std::ptr::null();
    // SAFETY: `info` is alive and a sequence; what it is cast to lives as long.
    check(unsafe { (api().CastTypeInfoToSequenceTypeInfo)(info, &raw mut sequence) })?;
    // SAFETY: as above; `out` is valid for one pointer.
    Handle::create(|out| unsafe { (api().GetSequenceElementType)(sequence, out) })
}

/// Key and value types of a map.
fn map_parts(info: *const sys::OrtTypeInfo) -> Result<(ElementType, Handle<sys::OrtTypeInfo>), Fault> {
    let (mut map, mut key) = (std::ptr::null(), ElementType(0));
    // SAFETY: `info` is alive and a map; what it is cast to lives as long, and the enum has the i32's representation.
    unsafe {
        check((api().CastTypeInfoToMapTypeInfo)(info, &raw mut map))?;
        check((api().GetMapKeyType)(map, (&raw mut key.0).cast()))?;
    }
    // SAFETY: as above; `out` is valid for one pointer.
    let value = Handle::create(|out| unsafe { (api().GetMapValueType)(map, out) })?;
    Ok((key, value))
}

/// The key type, if this is a sequence of maps to floats, as ZipMap gives it.
fn map_keys(info: *const sys::OrtTypeInfo) -> Result<Option<ElementType>, Fault> {
    if onnx_type(info)? != SEQUENCE {
        return Ok(None);
    }
    let element = sequence_element(info)?;
    if onnx_type(element.pointer())? != MAP {
        return Ok(None);
    }
    let (key, value) = map_parts(element.pointer())?;
    let is_float = match tensor_info(value.pointer())? {
        Some(tensor) => element_type(tensor)? == ElementType::FLOAT,
        None => false,
    };
    Ok(is_float.then_some(key))
}

/// A type in words.
fn described(info: *const sys::OrtTypeInfo) -> Result<String, Fault> {
    Ok(match onnx_type(info)? {
        TENSOR => match tensor_info(info)? {
            Some(tensor) => format!("a tensor of {}", element_type(tensor)?.name()),
            None => "a tensor".to_owned(),
        },
        SEQUENCE => format!("a sequence, each element {}", described(sequence_element(info)?.pointer())?),
        MAP => {
            let (key, value) = map_parts(info)?;
            format!("a map from {} to {}", key.name(), described(value.pointer())?)
        }
        4 => "an opaque value".to_owned(),
        5 => "a sparse tensor".to_owned(),
        6 => "an optional value".to_owned(),
        _ => "of a type without a name".to_owned(),
    })
}
