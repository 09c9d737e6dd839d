//! Every kernel in every set that runs here, on one thread: its best rate, and that as a share of what this thread could do
//! at most just after. The table comes after criterion's lines.
//!
//! Without `--bench` (`cargo test`), only the answers are compared.

use std::cell::Cell;
use std::fmt::Write;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ossicle_bench::kernels::{Case, Size, Work, cases};
use ossicle_bench::{is_timed, peak};
use ossicle_core::kernels::Kernels;
use ossicle_host::kernels::{available, sets};

fn kernels(criterion: &mut Criterion) {
    let names: Vec<&str> = available().map(|set| set.name()).collect();
    let absent: Vec<&str> = sets().map(|set| set.name).filter(|name| !names.contains(name)).collect();
    println!("kernel sets: {}; skipped, not on this processor: {}", names.join(", "), absent.join(", "));
    let mut table = String::new();
    for kernels in available() {
        // The portable kernels define the results; nobody waits for them.
        let size = if is_timed() && kernels.name() != "portable" { Size::Full } else { Size::Small };
        for case in cases(size) {
            case.check(kernels);
            if is_timed() {
                measure(criterion, kernels, &case, &mut table);
            }
        }
    }
    print!("{table}");
}

/// Adds a line to the table.
fn measure(criterion: &mut Criterion, kernels: Kernels, case: &Case, table: &mut String) {
    let set = kernels.name();
    let (amount, unit, throughput): (_, _, fn(u64) -> Throughput) = match case.work {
        Work::Bytes(bytes) => (bytes, "GB/s", Throughput::BytesDecimal),
        Work::Integers(multiply_adds) | Work::Floats(multiply_adds) => (multiply_adds, "GMAC/s", Throughput::Elements),
    };
    let mut group = criterion.benchmark_group(format!("kernels/{set}"));
    group.throughput(throughput(amount as u64));
    group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(800));
    let best = Cell::new(0.0f64);
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
    group.finish();
    // Criterion leaves out what the command line does not name.
    if best.get() > 0.0 {
        let peak = match case.work {
            Work::Bytes(_) => Some(peak::bandwidth()),
            Work::Integers(_) => peak::integers(kernels),
            Work::Floats(_) => peak::floats(kernels),
        };
        let share = peak.map(|peak| format!("{:3.0} % of {:.1}", 100.0 * best.get() / peak, peak / 1e9));
        let (name, rate, share) = (&case.name, best.get() / 1e9, share.unwrap_or_default());
        writeln!(table, "{set:14} {name:34} {rate:6.1} {unit:6} {share}").expect("memory");
    }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
