//! The gRPC of this server as tonic sees it: another implementation's client is the judge.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use servekit_core::Policy;
use servekit_server::{AccessLog, Config, DataPorts, LogFormat, Placement, Served, Server, ServerTiming};
use servekit_testing::{FakeModel, contract_of_rows, limits};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

const WIDTH: i64 = 3;
const PATIENCE: Duration = Duration::from_secs(20);
const MESSAGE_BYTES_MAX: usize = 64 << 20;

#[derive(Clone, PartialEq, Message)]
struct InferRequest {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(message, repeated, tag = "5")]
    inputs: Vec<TensorHead>,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    raw_input_contents: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct InferResponse {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<TensorHead>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    raw_output_contents: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorHead {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct ServiceName {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct ServingStatus {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Messages as bytes, so that this test depends on no generated code.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

fn server() -> Server {
    server_that(ServerTiming::Off)
}

fn server_that(server_timing: ServerTiming) -> Server {
    let limits = limits();
    let contract = contract_of_rows(WIDTH);
    let server = Server::bind(Config {
        data: DataPorts { host: "127.0.0.1".into(), http_port: Some(0), grpc_port: Some(0), uds: None },
        shards: 1,
        runners: 1,
        limits: limits.clone(),
        access: AccessLog { sample: 0.0, format: LogFormat::Text, lines_per_second_max: 10, field_bytes_max: 64 },
        log: Box::new(|_, _| {}),
        server_timing,
        give_back_memory: Box::new(|| {}),
    })
    .expect("free ports");
    let served = Served {
        name: contract.model.clone(),
        version: "1".into(),
        model: Arc::new(FakeModel::new(contract.clone())),
        placement: Placement::Inline,
        inline_bytes_max: u64::MAX,
        policy: Policy::of(&contract, &limits),
        targets: [Duration::ZERO].into(),
        priority_default: 1,
        required: true,
        platform: "onnxruntime_onnx".into(),
        properties: Vec::new(),
        description: serde_json::Map::new(),
        legs: Vec::new(),
    };
    server.publish(served).expect("a fake model has lanes");
    server.listen().expect("listens");
    server
}

async fn client(server: &Server) -> Grpc<Channel> {
    let address = server.addresses().grpc.expect("bound");
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address").timeout(PATIENCE);
    let channel = endpoint.connect().await.expect("listens");
    Grpc::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

async fn call(client: &mut Grpc<Channel>, path: &'static str, message: Bytes) -> Result<Bytes, Status> {
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let answer = client.unary(Request::new(message), PathAndQuery::from_static(path), Raw).await?;
    Ok(answer.into_inner())
}

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const LIVE: &str = "/inference.GRPCInferenceService/ServerLive";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

fn rows(model: &str, id: &str, values: &[f32]) -> Bytes {
    let contract = contract_of_rows(WIDTH);
    let head = TensorHead {
        name: contract.inputs[0].name.to_string(),
        datatype: "FP32".into(),
        shape: vec![values.len() as i64 / WIDTH, WIDTH],
    };
    let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let request =
        InferRequest { model_name: model.into(), id: id.into(), inputs: vec![head], raw_input_contents: vec![raw] };
    request.encode_to_vec().into()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}

#[test]
fn tonic_gets_the_answer_that_belongs_to_its_request() {
    let server = server();
    run(async {
        let mut client = client(&server).await;
        let model = contract_of_rows(WIDTH).model;
        for (id, rows_sent) in [("a", 1_usize), ("b", 64), ("c", 1_000), ("d", 100_000)] {
            let values: Vec<f32> = (0..rows_sent * WIDTH as usize).map(|index| index as f32).collect();
            let limit = limits().request_rows_max as usize;
            let answer = call(&mut client, INFER, rows(&model, id, &values)).await;
            if rows_sent > limit {
                assert_eq!(answer.expect_err("too many rows").code(), Code::InvalidArgument);
                continue;
            }
            let answer = InferResponse::decode(answer.expect("an answer")).expect("a message");
            assert_eq!((answer.id.as_str(), answer.outputs[0].shape[0]), (id, rows_sent as i64));
            let expected: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(answer.raw_output_contents[0], expected);
        }
    });
}

#[test]
fn tonic_shares_one_connection_between_many_calls() {
    let server = server();
    run(async {
        let client = client(&server).await;
        let model = contract_of_rows(WIDTH).model;
        let calls = (0..200).map(|number: u16| {
            let (mut client, message) = (client.clone(), rows(&model, "", &[f32::from(number); WIDTH as usize]));
            tokio::spawn(async move { (number, call(&mut client, INFER, message).await) })
        });
        for started in calls.collect::<Vec<_>>() {
            let (number, answer) = started.await.expect("a task");
            let answer = InferResponse::decode(answer.expect("an answer")).expect("a message");
            assert_eq!(answer.raw_output_contents[0][..4], f32::from(number).to_le_bytes());
        }
    });
}

#[test]
fn tonic_reads_status_and_metadata_of_a_refusal() {
    let server = server();
    run(async {
        let mut client = client(&server).await;
        let status = call(&mut client, INFER, rows("nope", "7", &[0.0; 3])).await.expect_err("no such model");
        assert_eq!(status.code(), Code::NotFound);
        assert!(status.message().contains("unknown model: 'nope' is not found"), "{status:?}");
        assert_eq!(status.metadata().get("servekit-refusal").expect("a label"), "model");
        let status = call(&mut client, "/a.B/C", Bytes::new()).await.expect_err("no such method");
        assert_eq!(status.code(), Code::Unimplemented);
        assert_eq!(call(&mut client, LIVE, Bytes::new()).await.expect("still open")[..], [8, 1]);
    });
}

#[test]
fn tonic_reads_where_the_time_went_behind_the_answer() {
    let server = server_that(ServerTiming::Always);
    run(async {
        let mut client = client(&server).await;
        client.ready().await.expect("open");
        let message = rows(&contract_of_rows(WIDTH).model, "", &[0.0; WIDTH as usize]);
        let answer = client.unary(Request::new(message), PathAndQuery::from_static(INFER), Raw).await;
        let answer = answer.expect("an answer");
        let told = answer.metadata().get("server-timing").expect("trailing metadata").to_str().expect("text");
        assert!(told.starts_with("queue;dur=") && told.contains("batch;desc=\"rows=1 reason=idle\""), "{told}");
    });
}

#[test]
fn tonic_sends_its_priority_as_metadata() {
    let server = server();
    run(async {
        let mut client = client(&server).await;
        for (level, expected) in [("8", None), ("9", Some(Code::InvalidArgument))] {
            client.ready().await.expect("open");
            let mut request = Request::new(rows(&contract_of_rows(WIDTH).model, "", &[0.0; WIDTH as usize]));
            request.metadata_mut().insert("x-request-priority", level.parse().expect("text"));
            let answer = client.unary(request, PathAndQuery::from_static(INFER), Raw).await;
            assert_eq!(answer.err().map(|status| status.code()), expected, "{level}");
        }
    });
}

#[test]
fn tonic_watches_the_server_end() {
    let server = server();
    run(async {
        let mut client = client(&server).await;
        let asked: Bytes = ServiceName::default().encode_to_vec().into();
        let status = call(&mut client, CHECK, asked.clone()).await.expect("an answer");
        assert_eq!(ServingStatus::decode(status).expect("a message").status, 1);
        client.ready().await.expect("open");
        let path = PathAndQuery::from_static(WATCH);
        let watched = client.server_streaming(Request::new(asked), path, Raw).await.expect("a stream");
        let mut watched = watched.into_inner();
        for expected in [1, 2] {
            let message = watched.message().await.expect("open").expect("a status");
            assert_eq!(ServingStatus::decode(message).expect("a message").status, expected);
            server.begin_drain(PATIENCE);
        }
    });
}
