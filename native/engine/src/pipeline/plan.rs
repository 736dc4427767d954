//! A plan as Python writes it: what is in it, before anybody has looked whether it makes sense.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value as Options;

/// The plans that are understood.
const VERSION: u64 = 2;

/// One pipeline.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    #[serde(rename = "version")]
    pub(super) _version: u64,
    /// Of the model that clients ask for.
    pub(super) name: String,
    /// Whether the model is also served without it; not decided here.
    #[serde(rename = "raw")]
    pub(super) _raw: bool,
    /// By number.
    pub(super) values: Vec<Value>,
    /// Buffers of a lane.
    pub(super) slots: usize,
    pub(super) inputs: Vec<Named>,
    pub(super) stages: Vec<StageCall>,
    pub(super) batch: Vec<BatchCall>,
    pub(super) outputs: Vec<Named>,
}

/// What a client sends or a step gives.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Value {
    pub(super) name: String,
    pub(super) dtype: String,
    /// Of one row.
    pub(super) shape: Vec<Size>,
    pub(super) place: Place,
    /// The buffer of the lane that it lies in.
    pub(super) slot: Option<usize>,
}

/// When a value exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Place {
    /// Before the batch forms.
    Row,
    /// Once it has.
    Batch,
}

/// An axis.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Size {
    Fixed(i64),
    /// A name, or arithmetic on names.
    Text(String),
}

/// A name and the number of what it means.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) value: usize,
}

/// A native stage, run row by row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StageCall {
    pub(super) step: String,
    pub(super) kind: String,
    pub(super) options: Options,
    pub(super) inputs: Vec<usize>,
    pub(super) outputs: Vec<usize>,
}

/// What a lane does with the batch.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum BatchCall {
    Kernel(KernelCall),
    Model(ModelCall),
}

impl BatchCall {
    /// Whether it takes the entries of rows as rows.
    pub(super) fn each(&self) -> Option<&Each> {
        match self {
            Self::Kernel(call) => call.each.as_ref(),
            Self::Model(call) => call.each.as_ref(),
        }
    }

    /// Values that it takes.
    pub(super) fn taken(&self) -> impl Iterator<Item = usize> + '_ {
        let (numbers, named): (&[usize], &[Named]) = match self {
            Self::Kernel(call) => (&call.inputs, &[]),
            Self::Model(call) => (&[], &call.inputs),
        };
        numbers.iter().copied().chain(named.iter().map(|named| named.value))
    }

    /// Values that it gives.
    pub(super) fn given(&self) -> impl Iterator<Item = usize> + '_ {
        let (numbers, named): (&[usize], &[Named]) = match self {
            Self::Kernel(call) => (&call.outputs, &[]),
            Self::Model(call) => (&[], &call.outputs),
        };
        numbers.iter().copied().chain(named.iter().map(|named| named.value))
    }
}

/// A call that takes entries of rows as rows: the first axis of a row of all that it takes and gives counts them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Each {
    /// That axis.
    pub(super) axis: Size,
    /// The value that says how many of them mean something; `None` where all do.
    pub(super) count: Option<usize>,
}

/// A compiled kernel.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KernelCall {
    pub(super) step: String,
    pub(super) kernel: Kernel,
    pub(super) inputs: Vec<usize>,
    pub(super) outputs: Vec<usize>,
    pub(super) each: Option<Each>,
}

/// What a kernel is declared with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kernel {
    pub(super) name: String,
    pub(super) address: usize,
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
    /// For people: they are compiled in.
    #[serde(rename = "options")]
    _options: IgnoredAny,
    pub(super) scratch: Vec<Port>,
    pub(super) messages: Vec<String>,
    /// For people: it is called alike.
    #[serde(rename = "per")]
    _per: IgnoredAny,
}

/// One tensor of a kernel, rows in front but for scratch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) dtype: String,
    pub(super) shape: Vec<Size>,
}

/// A run of a model.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelCall {
    pub(super) step: String,
    pub(super) model: String,
    pub(super) inputs: Vec<Named>,
    pub(super) outputs: Vec<Named>,
    pub(super) each: Option<Each>,
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// What it should be and is not.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        /// Looked at first: of another version nothing else may be told.
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        let unreadable = |error: serde_json::Error| format!("its plan cannot be read: {error}; write it again");
        let Version { version } = serde_json::from_str(text).map_err(unreadable)?;
        if version != VERSION {
            return Err(format!(
                "its plan is of version {version}, {VERSION} is allowed; install servekit again, so that all parts of \
                 it are of one release"
            ));
        }
        serde_json::from_str(text).map_err(unreadable)
    }
}
