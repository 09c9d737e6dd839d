//! `ossicle bench --profile`: where the time of a step goes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ossicle_core::model::{Model, Projection};
use ossicle_core::parallel::{Parallel, Stage};
use ossicle_core::transformer::CacheFormat;
use ossicle_host::Threads;
use serde_json::{Value, json};

/// Threads that look at the clock as the stages of steps begin.
pub struct Profiler<'a> {
    threads: &'a Threads,
    state: Mutex<State>,
    /// Nanoseconds that the threads have spent in jobs since the last stage began.
    busy: AtomicU64,
}

#[derive(Default)]
struct State {
    /// The present stage, and when it began.
    present: Option<(Stage, Instant)>,
    stages: Vec<(Stage, Times)>,
}

#[derive(Clone, Copy, Default)]
struct Times {
    wall: Duration,
    /// Of all threads, in jobs.
    busy: Duration,
    /// Of the session's thread, while jobs ran.
    parallel: Duration,
}

impl<'a> Profiler<'a> {
    /// Nothing measured yet.
    pub fn new(threads: &'a Threads) -> Self {
        Self { threads, state: Mutex::default(), busy: AtomicU64::new(0) }
    }

    /// Does `work`, which steps a session with these threads, and counts its last stage up to the end.
    pub fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        let result = work();
        self.turn(None);
        result
    }

    /// Closes the present stage and begins the next.
    fn turn(&self, next: Option<Stage>) {
        let now = Instant::now();
        let mut state = self.state.lock().expect("no job panics here");
        if let Some((stage, began)) = state.present {
            let busy = Duration::from_nanos(self.busy.swap(0, Ordering::Relaxed));
            let times = state.times(stage);
            times.wall += now - began;
            times.busy += busy;
        }
        state.present = next.map(|stage| (stage, now));
    }

    /// One entry for each stage, divided by `steps`: each of `tokens` tokens that saw `depth` positions on average.
    pub fn stages(&self, model: &Model<'_, '_>, format: CacheFormat, [steps, tokens, depth]: [usize; 3]) -> Vec<Value> {
        let state = self.state.lock().expect("no job panics here");
        let threads = (self.threads.workers() + 1) as f64;
        let entries = state.stages.iter().map(|(stage, times)| {
            let cost = Cost::of(*stage, model, format, tokens, depth);
            let seconds = |time: Duration| time.as_secs_f64() / steps.max(1) as f64;
            let (wall, busy, parallel) = (seconds(times.wall), seconds(times.busy), seconds(times.parallel));
            json!({
                "stage": format!("{stage:?}"),
                "milliseconds": wall * 1e3,
                "waiting_milliseconds": (parallel - busy / threads).max(0.0) * 1e3,
                "single_thread_milliseconds": (wall - parallel) * 1e3,
                "bytes": cost.bytes,
                "bytes_per_second": cost.bytes as f64 / wall,
                "operations_per_second": cost.operations as f64 / wall,
            })
        });
        entries.collect()
    }
}

impl State {
    fn times(&mut self, stage: Stage) -> &mut Times {
        let at = self.stages.iter().position(|(known, _)| *known == stage).unwrap_or_else(|| {
            self.stages.push((stage, Times::default()));
            self.stages.len() - 1
        });
        &mut self.stages[at].1
    }
}

impl Parallel for Profiler<'_> {
    fn workers(&self) -> usize {
        self.threads.workers()
    }

    fn run(&self, job: &(dyn Fn() + Sync)) {
        let start = Instant::now();
        self.threads.run(&|| {
            let start = Instant::now();
            job();
            self.busy.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        });
        let mut state = self.state.lock().expect("no job panics here");
        if let Some((stage, _)) = state.present {
            state.times(stage).parallel += start.elapsed();
        }
    }

    fn begin(&self, stage: Stage) {
        self.turn(Some(stage));
    }
}

/// What a stage has to read, and to compute, in all layers together.
#[derive(Default)]
struct Cost {
    /// Of weights, and of the cache.
    bytes: u64,
    /// Multiplications and additions with weights, and in attention.
    operations: u64,
}

impl Cost {
    fn of(stage: Stage, model: &Model<'_, '_>, format: CacheFormat, tokens: usize, depth: usize) -> Self {
        let config = model.config();
        let mut cost = Self::default();
        for number in 0..config.layers {
            let layer = model.layer(number);
            match stage {
                Stage::QueryKeyValue => cost.add_dense(&layer.query_key_value, tokens),
                Stage::AttentionOutput => cost.add_dense(&layer.attention_output, tokens),
                Stage::Router => cost.add_dense(&layer.router, tokens),
                Stage::GateUp | Stage::Down => {
                    let projection = if stage == Stage::Down { &layer.down } else { &layer.gate_up };
                    let (chosen, experts) = (config.experts_per_token as f64, config.experts as f64);
                    // As many experts as different ones are chosen if all are equally likely.
                    let read = experts * (1.0 - (1.0 - chosen / experts).powf(tokens as f64));
                    for part in projection.parts() {
                        cost.add([part.rows(), part.columns(), part.size()], read, chosen * tokens as f64);
                    }
                }
                Stage::Attention => {
                    let seen = if config.is_windowed(number) { depth.min(config.window) } else { depth };
                    cost.bytes += (tokens * seen * 2 * config.kv_heads * format.row_size(config.head_dim)) as u64;
                    cost.operations += (tokens * seen * 4 * config.heads * config.head_dim) as u64;
                }
                _ => {}
            }
        }
        if stage == Stage::Unembedding {
            let matrix = model.unembedding();
            cost.add([matrix.rows(), matrix.columns(), matrix.rows() * matrix.row_size()], 1.0, 1.0);
        }
        cost
    }

    /// A projection that is the same for each of the tokens.
    fn add_dense(&mut self, projection: &Projection<'_>, tokens: usize) {
        for matrix in projection.parts().map(|part| &part.weights) {
            self.add([matrix.rows(), matrix.columns(), matrix.rows() * matrix.row_size()], 1.0, tokens as f64);
        }
    }

    /// So many matrices with these numbers of rows, columns and bytes are read, and all of them together used so often.
    fn add(&mut self, [rows, columns, size]: [usize; 3], matrices: f64, uses: f64) {
        self.bytes += (size as f64 * matrices) as u64;
        self.operations += (2.0 * (rows * columns) as f64 * uses) as u64;
    }
}

/// A table of what [`Profiler::stages`] gives.
pub fn print(title: &str, stages: &[Value], bandwidth: f64) {
    let number = |stage: &Value, name: &str| stage[name].as_f64().unwrap_or(0.0);
    let all: f64 = stages.iter().map(|stage| number(stage, "milliseconds")).sum();
    println!("\n{title}: {all:.2} ms");
    println!("  stage                  ms  share  one thread  waiting       MB  GB/s  of bandwidth  GOP/s");
    for stage in stages {
        println!(
            "  {:15} {:9.3}  {:4.1}%  {:10.3}  {:7.3}  {:7.1}  {:4.1}  {:11.0}%  {:5.0}",
            stage["stage"].as_str().unwrap_or(""),
            number(stage, "milliseconds"),
            100.0 * number(stage, "milliseconds") / all,
            number(stage, "single_thread_milliseconds"),
            number(stage, "waiting_milliseconds"),
            number(stage, "bytes") / 1e6,
            number(stage, "bytes_per_second") / 1e9,
            100.0 * number(stage, "bytes_per_second") / bandwidth,
            number(stage, "operations_per_second") / 1e9,
        );
    }
}
