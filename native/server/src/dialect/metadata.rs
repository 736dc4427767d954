//! What the server tells about itself and its models, for both protocols.

use servekit_core::{Contract, TensorSpec};

use crate::dialect::rest::labels_text;
use crate::json::print_string;
use crate::messages::{
    HealthCheckResponse, ModelMetadataResponse, ServerMetadataResponse, ServingStatus, TensorMetadata,
};

/// The server, for `GET v2` and `ServerMetadata`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerFacts<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    /// Protocol extensions that are implemented.
    pub(crate) extensions: &'a [&'a str],
}

impl ServerFacts<'_> {
    /// As JSON.
    pub(crate) fn print(&self, into: &mut Vec<u8>) {
        let mut object = Object::open(into);
        object.text("name", self.name);
        object.text("version", self.version);
        object.texts("extensions", self.extensions.iter().copied());
        object.close();
    }

    /// As protobuf.
    pub(crate) fn message(&self) -> ServerMetadataResponse {
        ServerMetadataResponse {
            name: self.name.to_owned(),
            version: self.version.to_owned(),
            extensions: self.extensions.iter().map(|&extension| extension.to_owned()).collect(),
        }
    }
}

/// A model, for `GET v2/models/m` and `ModelMetadata`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModelFacts<'a> {
    /// Has the name and the tensors.
    pub(crate) contract: &'a Contract,
    /// All that are served.
    pub(crate) versions: &'a [&'a str],
    /// Such as `onnxruntime_onnx`.
    pub(crate) platform: &'a str,
    /// Further facts, besides the labels of outputs.
    pub(crate) properties: &'a [(&'a str, &'a str)],
}

impl ModelFacts<'_> {
    /// As JSON.
    pub(crate) fn print(&self, into: &mut Vec<u8>) {
        let mut object = Object::open(into);
        object.text("name", &self.contract.model);
        object.texts("versions", self.versions.iter().copied());
        object.text("platform", self.platform);
        print_tensors("inputs", &self.contract.inputs, &mut object);
        print_tensors("outputs", &self.contract.outputs, &mut object);
        let properties = self.properties();
        if !properties.is_empty() {
            object.key("properties");
            let mut inner = Object::open(object.into);
            properties.iter().for_each(|(key, value)| inner.text(key, value));
            inner.close();
        }
        object.close();
    }

    /// As protobuf.
    pub(crate) fn message(&self) -> ModelMetadataResponse {
        ModelMetadataResponse {
            name: self.contract.model.to_string(),
            versions: self.versions.iter().map(|&version| version.to_owned()).collect(),
            platform: self.platform.to_owned(),
            inputs: self.contract.inputs.iter().map(tensor_message).collect(),
            outputs: self.contract.outputs.iter().map(tensor_message).collect(),
            properties: self.properties().into_iter().collect(),
        }
    }

    /// Those given, and the labels of each output that has them: `labels`, or `labels.<output>` where several do.
    fn properties(&self) -> Vec<(String, String)> {
        let labelled: Vec<_> =
            self.contract.outputs.iter().filter_map(|spec| Some((spec, spec.labels.as_ref()?))).collect();
        let labels = labelled.iter().map(|(spec, labels)| {
            let key = if labelled.len() == 1 { "labels".to_owned() } else { format!("labels.{}", spec.name) };
            (key, labels_text(labels))
        });
        let given = self.properties.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
        given.chain(labels).collect()
    }
}

fn tensor_message(spec: &TensorSpec) -> TensorMetadata {
    TensorMetadata {
        name: spec.name.to_string(),
        datatype: spec.datatype.name().to_owned(),
        shape: spec.metadata_shape(),
    }
}

fn print_tensors(key: &str, specs: &[TensorSpec], object: &mut Object<'_>) {
    object.key(key);
    object.into.push(b'[');
    for (index, spec) in specs.iter().enumerate() {
        if index > 0 {
            object.into.push(b',');
        }
        let mut tensor = Object::open(object.into);
        tensor.text("name", &spec.name);
        tensor.text("datatype", spec.datatype.name());
        tensor.key("shape");
        tensor.into.extend_from_slice(servekit_core::list(&spec.metadata_shape()).as_bytes());
        tensor.close();
    }
    object.into.push(b']');
}

/// `GET v2/models`.
pub(crate) fn print_models<'m>(models: impl Iterator<Item = &'m str>, into: &mut Vec<u8>) {
    let mut object = Object::open(into);
    object.texts("models", models);
    object.close();
}

/// `GET v2/health/live`.
pub(crate) fn print_live(live: bool, into: &mut Vec<u8>) {
    let mut object = Object::open(into);
    object.flag("live", live);
    object.close();
}

/// `GET v2/health/ready`.
pub(crate) fn print_ready(ready: bool, into: &mut Vec<u8>) {
    let mut object = Object::open(into);
    object.flag("ready", ready);
    object.close();
}

/// `GET v2/models/m/ready`.
pub(crate) fn print_model_ready(model: &str, ready: bool, into: &mut Vec<u8>) {
    let mut object = Object::open(into);
    object.text("name", model);
    object.flag("ready", ready);
    object.close();
}

/// The body of every refusal.
pub(crate) fn print_error(text: &str, into: &mut Vec<u8>) {
    let mut object = Object::open(into);
    object.text("error", text);
    object.close();
}

/// gRPC's health of a service; `None` for one that nobody knows, which only Watch may say.
pub(crate) fn health_message(serving: Option<bool>) -> HealthCheckResponse {
    let status = match serving {
        Some(true) => ServingStatus::Serving,
        Some(false) => ServingStatus::NotServing,
        None => ServingStatus::ServiceUnknown,
    };
    HealthCheckResponse { status: status.into() }
}

/// An object while it is printed.
struct Object<'o> {
    into: &'o mut Vec<u8>,
    started: bool,
}

impl<'o> Object<'o> {
    fn open(into: &'o mut Vec<u8>) -> Self {
        into.push(b'{');
        Self { into, started: false }
    }

    fn key(&mut self, key: &str) {
        if self.started {
            self.into.push(b',');
        }
        self.started = true;
        print_string(key.as_bytes(), self.into);
        self.into.push(b':');
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        print_string(value.as_bytes(), self.into);
    }

    fn texts<'t>(&mut self, key: &str, values: impl Iterator<Item = &'t str>) {
        self.key(key);
        self.into.push(b'[');
        for (index, value) in values.enumerate() {
            if index > 0 {
                self.into.push(b',');
            }
            print_string(value.as_bytes(), self.into);
        }
        self.into.push(b']');
    }

    fn flag(&mut self, key: &str, value: bool) {
        self.key(key);
        self.into.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn close(self) {
        self.into.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::json;

    use super::*;
    use crate::dialect::fixtures::{contract, labelled};

    fn parsed(print: impl FnOnce(&mut Vec<u8>)) -> serde_json::Value {
        let mut text = Vec::new();
        print(&mut text);
        serde_json::from_slice(&text).expect("valid JSON")
    }

    #[test]
    fn the_server_tells_its_name_and_extensions() {
        let facts = ServerFacts { name: "servekit", version: "0.1.0", extensions: &["binary_tensor_data"] };
        let expected = json!({"name": "servekit", "version": "0.1.0", "extensions": ["binary_tensor_data"]});
        assert_eq!(parsed(|into| facts.print(into)), expected);
        let message = ServerMetadataResponse::decode(&facts.message().encode_to_vec()[..]).expect("own message");
        assert_eq!(message.extensions, ["binary_tensor_data"]);
    }

    #[test]
    fn a_model_tells_its_tensors_and_labels() {
        let contract = labelled(contract("m", &[("x", "FP32", &[-1, 4])], &[("p", "FP32", &[-1, 2])]), &["a\"b", "ü"]);
        let facts = ModelFacts { contract: &contract, versions: &["1"], platform: "onnxruntime_onnx", properties: &[] };
        let expected = json!({
            "name": "m", "versions": ["1"], "platform": "onnxruntime_onnx",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "p", "datatype": "FP32", "shape": [-1, 2]}],
            "properties": {"labels": "[\"a\\\"b\",\"ü\"]"},
        });
        assert_eq!(parsed(|into| facts.print(into)), expected);
        let message = facts.message();
        assert_eq!(message.outputs[0].shape, [-1, 2]);
        assert_eq!(message.properties["labels"], "[\"a\\\"b\",\"ü\"]");
    }

    #[test]
    fn small_answers_are_what_clients_look_for() {
        assert_eq!(parsed(|into| print_models(["a", "b"].into_iter(), into)), json!({"models": ["a", "b"]}));
        assert_eq!(parsed(|into| print_live(true, into)), json!({"live": true}));
        assert_eq!(parsed(|into| print_ready(false, into)), json!({"ready": false}));
        assert_eq!(parsed(|into| print_model_ready("m", true, into)), json!({"name": "m", "ready": true}));
        assert_eq!(parsed(|into| print_error("a\n\"b\"", into)), json!({"error": "a\n\"b\""}));
        assert_eq!(health_message(Some(true)).status, 1);
        assert_eq!(health_message(Some(false)).status, 2);
        assert_eq!(health_message(None).status, 3);
    }
}
