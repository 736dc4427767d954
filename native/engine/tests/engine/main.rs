//! The engine on a real ONNX Runtime: that of `SERVEKIT_ORT_LIBRARY`, or of the `onnxruntime` that `python3` finds.

mod batches;
mod graphs;
mod kernels;
mod lanes;
mod lengths;
mod loads;
mod pipelines;
mod proofs;
mod ragged;
mod rig;
mod starts;
mod values;
