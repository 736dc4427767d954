//! Lanes run at once, can be stopped, and come back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use servekit_core::{Datatype, Reason, RunFailure};
use servekit_engine::{ModelSpec, Placement, Settings};
use servekit_testing::{fp32, fp32_values, tensor};

use crate::rig::{SETTINGS, answer, environment, inputs, lane, limits, model, run, spec};

fn turns(count: i64) -> servekit_core::Inputs {
    inputs([tensor(Datatype::Int64, &[1], count.to_le_bytes().to_vec())])
}

#[test]
fn four_threads_on_one_model_are_all_right() {
    let model = model("wide");
    let start = Barrier::new(4);
    std::thread::scope(|scope| {
        for thread in 0..4_u16 {
            let (model, start) = (&model, &start);
            scope.spawn(move || {
                let mut lane = model.lane().expect("a lane");
                start.wait();
                for round in 0..500_u16 {
                    let value = f32::from(thread) * 1000.0 + f32::from(round);
                    let width = i64::from(round % 7 * 300 + 1);
                    let given = fp32(&[1, width], &vec![value; width as usize]);
                    assert!(fp32_values(&answer(&mut lane, [given])).iter().all(|&found| found == 2.0 * value));
                }
            });
        }
    });
}

#[test]
fn a_run_that_is_stopped_is_lost_and_the_lane_goes_on() {
    let mut lane = lane("spin");
    let terminator = lane.terminator();
    assert!(!terminator.stop(), "no run is under way");
    let (outcome, lane) = std::thread::scope(|scope| {
        let running = scope.spawn(move || (run(&mut lane, &turns(i64::MAX)), lane));
        while !terminator.stop() {
            std::thread::yield_now();
        }
        running.join().expect("no panic")
    });
    assert_eq!(outcome.unwrap_err(), RunFailure::Lost("the run took too long and was stopped".to_owned()));
    let mut lane = lane;
    let outputs = run(&mut lane, &turns(5)).expect("answered").outputs;
    assert_eq!(outputs[0].data[..], 5_i64.to_le_bytes());
}

#[test]
fn only_runs_that_are_overdue_are_stopped() {
    let model = model("spin");
    let mut lane = model.lane().expect("a lane");
    std::thread::scope(|scope| {
        let running = scope.spawn(move || run(&mut lane, &turns(i64::MAX)));
        let later = Instant::now() + Duration::from_secs(60);
        assert_eq!(model.stop_overdue(Instant::now(), Duration::from_secs(50)), 0);
        while model.stop_overdue(later, Duration::from_secs(50)) == 0 {
            std::thread::yield_now();
        }
        assert!(matches!(running.join().expect("no panic"), Err(RunFailure::Lost(_))));
    });
}

#[test]
fn a_model_with_a_thread_pool_has_a_session_for_each_lane() {
    let settings = Settings { cores: 4.0, ..SETTINGS };
    let spec = ModelSpec { intra_op: Some(2), ..spec("wide") };
    let model = environment().load(&spec, &limits(), &settings).expect("loaded");
    assert_eq!((model.description().lanes, model.description().intra_op), (2, 2));
    let mut lanes = [model.lane().expect("the first"), model.lane().expect("the second")];
    for lane in &mut lanes {
        assert_eq!(fp32_values(&answer(lane, [fp32(&[1, 1], &[4.0])])), [8.0]);
    }
    assert_eq!(model.lane().unwrap_err().reason, Reason::LoadRefused);
    model.probe_golden().expect("the golden row waits its turn on a lane's session");
    drop(lanes);
    assert!(model.lane().is_ok());
}

/// The niceness of a thread, as `/proc` has it at this path.
fn niceness(task: &Path) -> i64 {
    let stat = fs::read_to_string(task.join("stat")).expect("a thread");
    // The name in brackets may hold blanks; the niceness is the 17th field behind it.
    let fields = stat.rsplit_once(')').expect("a name").1;
    fields.split_whitespace().nth(16).expect("a niceness").parse().expect("a number")
}

#[test]
fn threads_of_runs_have_the_priority_of_the_process_whoever_loads() {
    let _opened_before = environment();
    let load = || {
        let spec = ModelSpec { intra_op: Some(2), ..spec("wide") };
        // SAFETY: a plain call about this thread alone.
        let lowered = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
        assert_eq!(lowered, 0);
        environment().load(&spec, &limits(), &SETTINGS).expect("loaded")
    };
    let model = std::thread::scope(|scope| scope.spawn(load).join().expect("no panic"));
    let tasks = fs::read_dir("/proc/self/task").expect("threads").map(|task| task.expect("a thread").path());
    let is_worker =
        |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "servekit-worker\n");
    let workers: Vec<i64> = tasks.filter(is_worker).map(|task| niceness(&task)).collect();
    assert!(!workers.is_empty());
    assert!(workers.iter().all(|found| *found == niceness(Path::new("/proc/self"))), "{workers:?}");
    drop(model);
}

#[test]
fn the_golden_row_comes_from_the_probe_or_the_first_success() {
    let probed = model("wide");
    assert_eq!(probed.probe_golden(), Ok(()));
    let unprobed = model("picky");
    assert_eq!(unprobed.description().execution, Placement::Pool);
    let mut lane = unprobed.lane().expect("a lane");
    assert_eq!(unprobed.probe_golden(), Ok(()), "there is none yet");
    let given = tensor(Datatype::Int64, &[1], (-1_i64).to_le_bytes().to_vec());
    assert_eq!(fp32_values(&answer(&mut lane, [given])), [6.0, 7.0]);
    assert_eq!(unprobed.probe_golden(), Ok(()));
}
