//! Every kernel in every set that runs here, on one thread, as a rate and a share of what this thread can do at most.
//!
//! The peaks are measured before each set. Without `--bench` (`cargo test`), only the answers are compared.

use std::cell::Cell;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ossicle_bench::kernels::{Size, Work, cases};
use ossicle_bench::{is_timed, peak};
use ossicle_core::kernels::Kernels;

fn kernels(criterion: &mut Criterion) {
    for kernels in Kernels::available() {
        let set = kernels.name();
        // The portable kernels define the results; nobody waits for them.
        let size = if is_timed() && set != "portable" { Size::Full } else { Size::Small };
        let peaks =
            if is_timed() { (peak::bandwidth(), peak::integers(set), peak::floats(set)) } else { (0.0, None, None) };
        let mut group = criterion.benchmark_group(format!("kernels/{set}"));
        group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(800));
        for case in cases(size) {
            case.check(kernels);
            let (amount, unit, peak) = match case.work {
                Work::Bytes(bytes) => (bytes, "GB/s", Some(peaks.0)),
                Work::Integers(multiply_adds) => (multiply_adds, "GMAC/s", peaks.1),
                Work::Floats(multiply_adds) => (multiply_adds, "GMAC/s", peaks.2),
            };
            group.throughput(match case.work {
                Work::Bytes(bytes) => Throughput::Bytes(bytes as u64),
                Work::Integers(multiply_adds) | Work::Floats(multiply_adds) => {
                    Throughput::Elements(multiply_adds as u64)
                }
            });
            let best = Cell::new(0f64);
            let mut output = case.output();
            group.bench_function(&case.name, |bencher| {
                bencher.iter_custom(|times| {
                    let start = Instant::now();
                    (0..times).for_each(|_| case.run(kernels, &mut output));
                    let time = start.elapsed();
                    best.set(best.get().max(times as f64 * amount as f64 / time.as_secs_f64()));
                    time
                });
            });
            let share =
                peak.map_or(String::new(), |peak| format!(", {:.0} % of {:.0}", 100.0 * best.get() / peak, peak / 1e9));
            if is_timed() {
                println!("{set} {}: {:.1} {unit}{share}", case.name, best.get() / 1e9);
            }
        }
        group.finish();
    }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
