//! Loads a model: reads, scans, builds, probes, decides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use servekit_core::{Axis, Batching, Contract, Limits, Ragged, Reason, Refusal, TensorSpec};

use crate::Environment;
use crate::axes;
use crate::cuda;
use crate::fault::{Fault, told};
use crate::file::{self, ModelFile};
use crate::lane::Graph;
use crate::memory::give_back_freed_memory;
use crate::model::{
    Description, DeviceChoice, Execution, LoadedModel, ModelSpec, Placement, ProofSummary, Settings, Verdict,
};
use crate::probe::{self, Findings, Subject};
use crate::profile::Start;
use crate::proof;
use crate::ragged;
use crate::samples;
use crate::scan::{self, Scan};
use crate::session::{Device, Session, SessionSource};
use crate::signature::{self, Signature};

mod readiness;
mod threads;

/// Even a tiny model may have this much for its runs.
const ARENA_BYTES_MIN: u64 = 64 << 20;
/// Room over what made-up rows took: real rows are longer.
const ARENA_PEAK_FACTOR: u64 = 4;
/// A batch on the GPU and one on its way; more sessions would only hold more copies of the weights.
const CUDA_LANES_MAX: u32 = 2;

impl Environment {
    /// Loads a model, tries it, and describes it. Takes as long as it takes: call it where nobody waits.
    ///
    /// # Errors
    /// `ModelPath` and `ModelFile` for a model that cannot be served, saying why; `LoadRefused` where memory or a
    /// device is missing.
    pub fn load(&self, spec: &ModelSpec, limits: &Limits, settings: &Settings) -> Result<LoadedModel, Refusal> {
        let started_at = Instant::now();
        let (file, scan, external_bytes) = looked_through(spec, limits)?;
        let loader = Loader { environment: *self, spec, limits, settings, file, scan };
        let mut loaded = loader.load()?;
        loaded.description.weights_bytes = loader.scan.weights_bytes.max(external_bytes);
        loaded.description.load_s = started_at.elapsed().as_secs_f64();
        drop(loader);
        give_back_freed_memory();
        Ok(LoadedModel::new(loaded.contract, loaded.description, loaded.graph, loaded.sessions, loaded.start))
    }

    /// Inputs and outputs of a model's file, without trying it: whether rows may share runs is not found out, and an
    /// output of which the file does not even say how many axes it has has none here.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn contract_of(&self, spec: &ModelSpec, limits: &Limits) -> Result<Contract, Refusal> {
        let (file, scan, _) = looked_through(spec, limits)?;
        let source = SessionSource {
            environment: *self,
            model: &file.bytes,
            folder: &file.folder,
            device: Device::Cpu,
            gpu_bytes_max: None,
            intra_op: 1,
            is_read_only: true,
        };
        let session = Session::build(&source, ARENA_BYTES_MIN).map_err(|fault| fault.into_refusal(&spec.name))?;
        let signature = signature::read(&session, &scan, &spec.name)?;
        let specs = |ports: &[signature::Port]| ports.iter().map(|port| port.spec.clone()).collect();
        Ok(Contract {
            model: spec.name.as_str().into(),
            inputs: specs(&signature.inputs),
            outputs: specs(&signature.outputs),
            batching: Batching::Alone("it has not been tried".into()),
            ragged: None,
        })
    }
}

/// A model's file, what is in it, and the bytes of the files that it names.
fn looked_through(spec: &ModelSpec, limits: &Limits) -> Result<(ModelFile, Scan, u64), Refusal> {
    let file = file::read(spec, limits)?;
    let scan = scan::scan(&file.bytes, &spec.name, limits)?;
    let external_bytes = file::check_external(&file.folder, &scan, spec)?;
    Ok((file, scan, external_bytes))
}

/// What a load works with.
struct Loader<'a> {
    environment: Environment,
    spec: &'a ModelSpec,
    limits: &'a Limits,
    settings: &'a Settings,
    file: ModelFile,
    scan: Scan,
}

/// What it makes.
struct Loaded {
    contract: Contract,
    description: Description,
    graph: Arc<Graph>,
    sessions: Vec<Arc<Session>>,
    start: Start,
}

/// A session that was tried, and the memory it needs.
struct Tried {
    device: Device,
    /// Threads of one run of the session.
    intra_op: u32,
    session: Arc<Session>,
    graph: Arc<Graph>,
    findings: Findings,
    /// Bytes that each lane may take.
    arena_bytes_max: u64,
    decisions: Decisions,
}

/// Topic, and decision with its reason.
type Decisions = Vec<(String, String)>;

impl Loader<'_> {
    fn load(&self) -> Result<Loaded, Refusal> {
        let mut tried = self.try_out()?;
        let until = Instant::now() + self.proof_time_max();
        let proof = self.prove(&mut tried)?;
        let ragged = self.prove_lengths(&mut tried, until)?;
        let until = Instant::now() + seconds(self.settings.warm_up_seconds_max);
        self.choose_threads(&mut tried, until)?;
        let sessions = self.sessions(&tried)?;
        let (warmed, profile_file) = self.warm_up(&tried, ragged.as_deref(), until)?;
        let findings = &tried.findings;
        let batching = match &findings.batching {
            Ok(()) => Batching::Rows,
            Err(why) => Batching::Alone(why.as_str().into()),
        };
        let placement = self.decide(&mut tried.decisions, findings, (tried.device, tried.intra_op));
        let contract = Contract {
            model: self.spec.name.as_str().into(),
            inputs: tried.graph.signature.inputs.iter().map(|port| port.spec.clone()).collect(),
            outputs: output_specs(&tried.graph.signature, findings),
            batching,
            ragged,
        };
        let description = Description {
            execution: placement,
            device: tried.device.name(),
            ort: self.environment.version().to_owned(),
            digest: self.file.digest.clone(),
            file_bytes: self.file.bytes.len() as u64,
            weights_bytes: 0,
            load_s: 0.0,
            batch_rows_max: if contract.is_batched() { findings.batch_rows_max } else { 1 },
            batch_bytes_max: self.batch_bytes_max(),
            arena_bytes_max: tried.arena_bytes_max,
            inline_bytes_max: findings.batch.as_ref().map_or(0, |batch| batch.input_bytes),
            predicted_run_us: findings.predicted_run_us(),
            mixed_length_max: contract.ragged.as_ref().map(|ragged| ragged.length_max),
            one_row_us: findings.one_row.map(|time| time.as_micros() as u64),
            proof,
            lanes: if tried.session.is_shared() { self.lanes(tried.device, 1) } else { sessions.len() as u32 },
            intra_op: tried.intra_op,
            warm_up: warmed.text,
            decisions: tried.decisions,
        };
        let start = Start::of_model(warmed.surfaces, warmed.profile, profile_file);
        Ok(Loaded { contract, description, graph: tried.graph, sessions, start })
    }

    fn batch_rows_max(&self) -> u64 {
        self.spec.batch_rows_max.unwrap_or(self.limits.batch_rows_max)
    }

    fn batch_bytes_max(&self) -> u64 {
        self.spec.batch_bytes_max.unwrap_or(self.limits.batch_bytes_max)
    }

    /// Batches that may run at once: as many as there are cores for.
    fn lanes(&self, device: Device, intra_op: u32) -> u32 {
        let lanes = self.settings.lanes.max(1);
        match (device, intra_op) {
            (Device::Cpu, ..=1) => lanes,
            (Device::Cpu, threads) => (self.cores() / threads).clamp(1, lanes),
            _ => lanes.min(CUDA_LANES_MAX),
        }
    }

    fn refused(&self, fault: Fault) -> Refusal {
        fault.into_refusal(&self.spec.name)
    }

    /// Builds a session for the device that works, tries the model, and builds again where its arena must be larger.
    fn try_out(&self) -> Result<Tried, Refusal> {
        let configured = self.spec.arena_bytes_max.or(self.limits.arena_bytes_max);
        let mut arena_bytes_max = configured.unwrap_or(ARENA_BYTES_MIN);
        let mut decisions = Decisions::new();
        let (device, mut session) = self.first_session(arena_bytes_max, &mut decisions)?;
        let intra_op = self.threads_first();
        let signature = signature::read(&session, &self.scan, &self.spec.name)?;
        let graph = Arc::new(Graph::new(signature));
        let subject = self.subject(&graph)?;
        let probe = |session: &Arc<Session>| probe::probe(&subject, session).map_err(|fault| self.refused(fault));
        let mut findings = probe(&session)?;
        if configured.is_none() {
            let ceiling = self.limits.memory_bytes_max.max(ARENA_BYTES_MIN);
            let was_too_small = findings.ran_out_of_memory;
            if was_too_small {
                session = self.session(device, ceiling, intra_op)?;
                findings = probe(&session)?;
            }
            let needed = findings.peak_bytes.saturating_mul(ARENA_PEAK_FACTOR).clamp(ARENA_BYTES_MIN, ceiling);
            if was_too_small || needed > arena_bytes_max {
                arena_bytes_max = needed;
                session = self.session(device, arena_bytes_max, intra_op)?;
                probe::warm_up(&graph, &session, &findings);
            }
        }
        let why = match configured {
            Some(_) => "as configured".to_owned(),
            None => format!(
                "{ARENA_PEAK_FACTOR} times the {} bytes that the largest made-up batch takes, at least {ARENA_BYTES_MIN}",
                findings.peak_bytes
            ),
        };
        decisions.push(("arena".to_owned(), format!("{arena_bytes_max} bytes for each lane: {why}")));
        drop(subject);
        Ok(Tried { device, intra_op, session, graph, findings, arena_bytes_max, decisions })
    }

    /// What probe and proof try.
    fn subject<'a>(&'a self, graph: &'a Arc<Graph>) -> Result<Subject<'a>, Refusal> {
        Ok(Subject {
            graph,
            clues: &self.scan.clues,
            samples: samples::rows(self.spec, &graph.signature, self.limits)?,
            batch_rows_max: u32::try_from(self.batch_rows_max()).unwrap_or(u32::MAX).max(1),
            batch_bytes_max: self.batch_bytes_max(),
            inline_run_us_max: self.settings.inline_run_us_max,
        })
    }

    /// Finds out whether rows may share runs, where shapes allow it.
    fn judge(&self, tried: &Tried) -> Result<ProofSummary, Refusal> {
        let said = |verdict: Verdict, why: &str| {
            let why = why.to_owned();
            ProofSummary { verdict, difference: None, tolerance: None, rows_proved: 0, why }
        };
        let findings = &tried.findings;
        let subject = self.subject(&tried.graph)?;
        let time_max = self.proof_time_max();
        let mut proof = match &findings.batching {
            Err(why) => said(Verdict::NotBatchable, why),
            Ok(()) if self.spec.trust_batching => {
                said(Verdict::Trusted, "as configured, without a proof; only shapes were looked at")
            }
            Ok(()) if findings.accepted.is_none() => {
                said(Verdict::Unproved, "no made-up input ran, so sharing could not be tried")
            }
            Ok(()) => {
                // The rest is for lengths.
                let share = if ragged::is_conceivable(&tried.graph.signature) { 2 } else { 1 };
                let deadline = Instant::now() + time_max / share;
                proof::prove(&subject, &tried.session, findings, deadline).map_err(|fault| self.refused(fault))?
            }
        };
        // A few runs of a few rows, as far as they take no longer than the proof itself may.
        let is_quick = findings.one_row.is_some_and(|time| time * 8 < time_max);
        if proof.verdict == Verdict::NotBatchable && is_quick {
            proof.why += &axes::rows_elsewhere(&subject, &tried.session, time_max);
        }
        Ok(proof)
    }

    /// Finds out whether rows may share runs, notes it, and takes back what the findings promise beyond.
    fn prove(&self, tried: &mut Tried) -> Result<ProofSummary, Refusal> {
        let proof = self.judge(tried)?;
        let findings = &mut tried.findings;
        let decisions = &mut tried.decisions;
        let mut limit = |rows: u32, why: &str| decisions.push(("batch_rows_max".to_owned(), format!("{rows}: {why}")));
        match proof.verdict {
            Verdict::Exact | Verdict::WithinTolerance if proof.rows_proved < findings.batch_rows_max => {
                findings.batch_rows_max = proof.rows_proved;
                limit(proof.rows_proved, "larger batches were not proved");
            }
            Verdict::Exact | Verdict::WithinTolerance | Verdict::Trusted => {
                if u64::from(findings.batch_rows_max) < self.batch_rows_max() {
                    limit(findings.batch_rows_max, "more made-up rows do not fit into the arena");
                }
            }
            Verdict::NotBatchable | Verdict::Unproved => findings.batching = Err(proof.why.clone()),
        }
        let how = if findings.batching.is_ok() { "rows" } else { "one request a run" };
        decisions.push(("batching".to_owned(), format!("{how}: {}", proof.why)));
        Ok(proof)
    }

    /// Finds out whether rows of several lengths may share runs, where rows may at all.
    fn prove_lengths(&self, tried: &mut Tried, until: Instant) -> Result<Option<Arc<Ragged>>, Refusal> {
        if tried.findings.batching.is_err() {
            return Ok(None);
        }
        let verdict = ragged::prove(&self.subject(&tried.graph)?, &tried.session, until);
        if let Some(why) = verdict.why {
            tried.decisions.push(("lengths".to_owned(), why));
        }
        Ok(verdict.ragged)
    }

    fn proof_time_max(&self) -> Duration {
        seconds(self.settings.proof_seconds_max)
    }

    /// A session on the device that was asked for, or on the one that works.
    fn first_session(
        &self,
        arena_bytes_max: u64,
        decisions: &mut Decisions,
    ) -> Result<(Device, Arc<Session>), Refusal> {
        let mut decide = |text: String| decisions.push(("device".to_owned(), text));
        let intra_op = self.threads_first();
        let on_cpu = || Ok((Device::Cpu, self.session(Device::Cpu, arena_bytes_max, intra_op)?));
        let choice = self.settings.device;
        if choice == DeviceChoice::Cpu {
            decide("cpu: as configured".to_owned());
            return on_cpu();
        }
        if !cuda::is_built_in().map_err(|fault| self.refused(fault))? {
            if choice == DeviceChoice::Cuda {
                let text = format!(
                    "model '{}' is to run on cuda, the installed onnxruntime runs on cpu only; run: {}",
                    self.spec.name,
                    cuda::INSTALL
                );
                return Err(Refusal::new(Reason::LoadRefused, text));
            }
            decide("cpu: the installed onnxruntime has no cuda".to_owned());
            return on_cpu();
        }
        cuda::preload(self.environment.library());
        let device = Device::Cuda(0);
        match self.build(device, arena_bytes_max, intra_op) {
            Ok(session) => {
                decide(format!("{}: it is there and works", device.name()));
                Ok((device, session))
            }
            Err(fault) if choice == DeviceChoice::Auto => {
                decide(format!("cpu: cuda does not work here: {}", told(&fault.text)));
                on_cpu()
            }
            Err(fault) => {
                let text = format!(
                    "model '{}' is to run on cuda, which does not work here: {}; check the driver, or choose cpu",
                    self.spec.name,
                    told(&fault.text)
                );
                Err(Refusal::new(Reason::LoadRefused, text))
            }
        }
    }

    fn session(&self, device: Device, arena_bytes_max: u64, intra_op: u32) -> Result<Arc<Session>, Refusal> {
        self.build(device, arena_bytes_max, intra_op).map_err(|fault| self.refused(fault))
    }

    fn build(&self, device: Device, arena_bytes_max: u64, intra_op: u32) -> Result<Arc<Session>, Fault> {
        let source = SessionSource {
            environment: self.environment,
            model: &self.file.bytes,
            folder: &self.file.folder,
            device,
            gpu_bytes_max: self.spec.arena_bytes_max.or(self.limits.arena_bytes_max),
            intra_op,
            is_read_only: false,
        };
        // A session that lanes share has one arena for all of them.
        let shared_by = if source.is_shared() { u64::from(self.lanes(device, 1)) } else { 1 };
        Ok(Arc::new(Session::build(&source, arena_bytes_max.saturating_mul(shared_by))?))
    }

    /// All sessions: the one that was tried, and one for each further lane where lanes may not share it.
    fn sessions(&self, tried: &Tried) -> Result<Vec<Arc<Session>>, Refusal> {
        let mut sessions = vec![Arc::clone(&tried.session)];
        if !tried.session.is_shared() {
            for _ in 1..self.lanes(tried.device, tried.intra_op) {
                let session = self.session(tried.device, tried.arena_bytes_max, tried.intra_op)?;
                probe::warm_up(&tried.graph, &session, &tried.findings);
                sessions.push(session);
            }
        }
        Ok(sessions)
    }

    /// Where batches run; notes this.
    fn decide(&self, decisions: &mut Decisions, findings: &Findings, runs_on: (Device, u32)) -> Placement {
        let (placement, why) = self.placement(findings, runs_on);
        let name = if placement == Placement::Inline { "inline" } else { "pool" };
        decisions.push(("execution".to_owned(), format!("{name}: {why}")));
        placement
    }

    /// The device is that of the sessions, with the threads of their runs.
    fn placement(&self, findings: &Findings, (device, intra_op): (Device, u32)) -> (Placement, String) {
        let pool = |why: String| (Placement::Pool, why);
        if self.spec.execution == Execution::Pool {
            return pool("as configured".to_owned());
        }
        if let Some(operator) = self.scan.repeats {
            return pool(format!("the model has a {operator}, and no probe bounds how long it runs"));
        }
        if device != Device::Cpu {
            return pool(format!("a run on {} would keep its shard waiting", device.name()));
        }
        if self.spec.execution == Execution::Inline {
            return (Placement::Inline, "as configured".to_owned());
        }
        if intra_op > 1 {
            return pool(format!("runs have {intra_op} threads each"));
        }
        let Some(batch) = &findings.batch else {
            let why = findings.failure.as_deref().unwrap_or("it could not be repeated");
            return pool(format!("no made-up input could be timed: {why}"));
        };
        let (found, allowed) = (batch.run.as_micros(), u128::from(self.settings.inline_run_us_max));
        let rows = batch.rows;
        if found < allowed {
            (Placement::Inline, format!("{found} us for {rows} rows, less than {allowed} us"))
        } else {
            pool(format!("{found} us for {rows} rows, less than {allowed} us would run inline"))
        }
    }
}

/// The outputs as the contract shows them: those without a shape as the probe saw them, and with rows where they were
/// found to have rows.
fn output_specs(signature: &Signature, findings: &Findings) -> Box<[TensorSpec]> {
    let spec = |(index, port): (usize, &signature::Port)| {
        let mut spec = port.spec.clone();
        if let (false, Some(shape)) = (port.has_shape, findings.shapes.as_ref().and_then(|shapes| shapes.get(index))) {
            spec.axes = shape.iter().map(|_| Axis::Symbol("".into())).collect();
        }
        if let (true, Some(first @ Axis::Fixed(_))) = (findings.batching.is_ok(), spec.axes.first_mut()) {
            *first = Axis::Symbol("".into());
        }
        spec
    };
    signature.outputs.iter().enumerate().map(spec).collect()
}

/// A time that an operator allows, never out of range.
fn seconds(count: f64) -> Duration {
    const LONGEST: Duration = Duration::from_secs(3600);
    Duration::try_from_secs_f64(count).map_or(Duration::ZERO, |time| time.min(LONGEST))
}
