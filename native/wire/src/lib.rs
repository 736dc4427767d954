//! HTTP/1.1, HTTP/2 and gRPC framing as sans-I/O state machines: bytes in, events out; answers in, bytes out.
//!
//! [`Connection`] is the server's whole surface. It knows limits as numbers and nothing of models, sockets or clocks: time
//! is an argument. The first bytes choose the protocol (the HTTP/2 preface, or else HTTP/1). [`client`] is the other side,
//! as far as a load generator needs it.
#![forbid(unsafe_code)]

pub mod client;
mod connection;
mod decimal;
mod event;
mod grpc;
mod head;
mod hpack;
mod http1;
mod http2;
mod limits;
mod linger;
mod output;
mod payload;
mod reply;

pub use connection::Connection;
pub use event::{CloseReason, Event, StreamId, Violation};
pub use head::{Head, HeadBuilder, Method, Version, is_token};
pub use limits::Limits;
pub use output::Output;
pub use payload::{Payload, Piece};
pub use reply::{GrpcStatus, Reply};
