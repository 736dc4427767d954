//! Protobuf messages of the small rpcs, field by field as in the published `protos/`; a test holds both together.
//! `ModelInfer` is read and written by hand, in the dialect.

use std::collections::BTreeMap;

/// Says nothing.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Empty {}

/// Answer of `ServerLive`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct ServerLiveResponse {
    #[prost(bool, tag = "1")]
    pub(crate) live: bool,
}

/// Answer of `ServerReady` and of `ModelReady`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct ReadyResponse {
    #[prost(bool, tag = "1")]
    pub(crate) ready: bool,
}

/// Names a model, for `ModelReady` and `ModelMetadata`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct ModelRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// Empty: the one that is served when none is asked for.
    #[prost(string, tag = "2")]
    pub(crate) version: String,
}

/// Answer of `ServerMetadata`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct ServerMetadataResponse {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
    #[prost(string, repeated, tag = "3")]
    pub(crate) extensions: Vec<String>,
}

/// Answer of `ModelMetadata`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct ModelMetadataResponse {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) versions: Vec<String>,
    #[prost(string, tag = "3")]
    pub(crate) platform: String,
    #[prost(message, repeated, tag = "4")]
    pub(crate) inputs: Vec<TensorMetadata>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) outputs: Vec<TensorMetadata>,
    #[prost(btree_map = "string, string", tag = "6")]
    pub(crate) properties: BTreeMap<String, String>,
}

/// One input or output of a model.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct TensorMetadata {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) datatype: String,
    #[prost(int64, repeated, tag = "3")]
    pub(crate) shape: Vec<i64>,
}

/// Names a service, for `Check` and `Watch`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
}

/// Answer of `Check` and `Watch`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    pub(crate) status: i32,
}

/// gRPC's words for health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    /// Only Watch answers this; Check answers with the status NOT_FOUND.
    ServiceUnknown = 3,
}

#[cfg(test)]
pub(crate) mod infer;
#[cfg(test)]
mod tests;
