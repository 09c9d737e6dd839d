//! What one thread of this machine can do at most: each figure the best of many short runs, to be compared with what is
//! measured next to it.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Bytes per second that one thread reads from memory, in four streams.
pub fn bandwidth() -> f64 {
    let data = vec![1_u64; 128 << 17];
    let streams: Vec<&[u64]> = data.chunks(data.len() / 4).collect();
    let pass = || {
        let mut sums = [0_u64; 8];
        for at in (0..streams[0].len()).step_by(8) {
            for stream in &streams {
                for (sum, word) in sums.iter_mut().zip(&stream[at..at + 8]) {
                    *sum = sum.wrapping_add(*word);
                }
            }
        }
        black_box(sums);
    };
    8.0 * data.len() as f64 / best_of(20, pass).as_secs_f64()
}

fn best_of(runs: usize, run: impl Fn()) -> Duration {
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..runs).map(time).min().unwrap_or_default().max(Duration::from_nanos(1))
}

/// Multiply-adds of 16-bit integers per second, with the widest instruction that the kernel set of this name may use.
pub fn integers(set: &str) -> Option<f64> {
    peak(set, true)
}

/// Multiply-adds of f32 per second, likewise.
pub fn floats(set: &str) -> Option<f64> {
    peak(set, false)
}

#[cfg(not(target_arch = "x86_64"))]
fn peak(_set: &str, _integers: bool) -> Option<f64> {
    None
}

#[cfg(target_arch = "x86_64")]
fn peak(set: &str, integers: bool) -> Option<f64> {
    let (loops, lanes): (unsafe fn(), usize) = match (set, integers) {
        ("avx512-no-vnni", true) if is_x86_feature_detected!("avx512bw") => (x86_64::avx512_words, 32),
        (set, true) if set.starts_with("avx512") && is_x86_feature_detected!("avx512vnni") => {
            (x86_64::avx512_integers, 32)
        }
        (set, false) if set.starts_with("avx512") && is_x86_feature_detected!("avx512f") => (x86_64::avx512_floats, 16),
        (set, true) if set.starts_with("avx2") && is_x86_feature_detected!("avx2") => (x86_64::avx2_integers, 16),
        (set, false) if set.starts_with("avx2") && is_x86_feature_detected!("fma") => (x86_64::avx2_floats, 8),
        _ => return None,
    };
    // SAFETY: the processor has the instructions, as was just detected.
    let time = best_of(50, || unsafe { loops() });
    Some((x86_64::ROUNDS * x86_64::CHAINS * lanes) as f64 / time.as_secs_f64())
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    //! Chains of multiply-adds that do not wait for each other, as many as it takes to keep two units busy.

    use std::arch::x86_64::*;
    use std::hint::black_box;

    pub const CHAINS: usize = 12;
    pub const ROUNDS: usize = 50_000;

    macro_rules! chains {
        ($name:ident, $features:literal, $vector:ty, $start:expr, $step:expr) => {
            #[target_feature(enable = $features)]
            pub fn $name() {
                let mut chains: [$vector; CHAINS] = [$start; CHAINS];
                let factor: $vector = black_box($start);
                for _ in 0..ROUNDS {
                    for chain in &mut chains {
                        *chain = $step(*chain, factor);
                    }
                }
                black_box(chains);
            }
        };
    }

    chains!(avx512_integers, "avx512f,avx512vnni", __m512i, _mm512_set1_epi16(1), |sum, factor| {
        _mm512_dpwssd_epi32(sum, factor, factor)
    });
    chains!(avx512_floats, "avx512f", __m512, _mm512_set1_ps(0.5), |sum, factor| {
        _mm512_fmadd_ps(sum, factor, factor)
    });
    // The product depends on the sum, so that it stays in the loop.
    chains!(avx512_words, "avx512f,avx512bw", __m512i, _mm512_set1_epi16(1), |sum, factor| {
        _mm512_add_epi32(_mm512_madd_epi16(sum, factor), factor)
    });
    chains!(avx2_integers, "avx2", __m256i, _mm256_set1_epi16(1), |sum, factor| {
        _mm256_add_epi32(_mm256_madd_epi16(sum, factor), factor)
    });
    chains!(avx2_floats, "avx2,fma", __m256, _mm256_set1_ps(0.5), |sum, factor| {
        _mm256_fmadd_ps(sum, factor, factor)
    });
}
