//! What one thread of this machine can do at most: each figure the best of many short runs, to be compared with what is
//! measured right before it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ossicle_core::kernels::Kernels;

use crate::kernels::MATRIX_SIZE;

fn best_of(runs: usize, run: impl Fn()) -> Duration {
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..runs).map(time).min().unwrap_or_default().max(Duration::from_nanos(1))
}

/// Bytes per second that one thread reads from memory, in four streams: fewer or more are slower.
pub fn bandwidth() -> f64 {
    let data = vec![1_u64; MATRIX_SIZE / 8];
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
    MATRIX_SIZE as f64 / best_of(40, pass).as_secs_f64()
}

/// Multiply-adds of 16-bit integers per second, with the widest instruction that this set may use; `None` where nobody has
/// written the loop.
pub fn integers(kernels: Kernels) -> Option<f64> {
    chains::peak(kernels, chains::INTEGERS)
}

/// Multiply-adds of f32 per second, likewise.
pub fn floats(kernels: Kernels) -> Option<f64> {
    chains::peak(kernels, chains::FLOATS)
}

#[cfg(not(target_arch = "x86_64"))]
mod chains {
    pub const INTEGERS: () = ();
    pub const FLOATS: () = ();

    pub fn peak(_kernels: super::Kernels, _loops: ()) -> Option<f64> {
        None
    }
}

#[cfg(target_arch = "x86_64")]
mod chains {
    //! Chains of multiply-adds that do not wait for each other, as many as it takes to keep two units busy.

    use std::arch::x86_64::*;
    use std::hint::black_box;

    use ossicle_core::kernels::Kernels;

    const CHAINS: usize = 12;
    const ROUNDS: usize = 50_000;

    /// The name of a kernel set, a loop of its instructions, and the multiply-adds in each of these.
    type Loop = (&'static str, unsafe fn(), usize);

    pub const INTEGERS: &[Loop] = &[
        ("avx512", avx512_integers, 32),
        ("avx512-no-vnni", avx512_words, 32),
        ("avx-vnni", avx_integers, 16),
        ("avx2", avx2_words, 16),
    ];
    pub const FLOATS: &[Loop] = &[
        ("avx512", avx512_floats, 16),
        ("avx512-no-vnni", avx512_floats, 16),
        ("avx-vnni", avx2_floats, 8),
        ("avx2", avx2_floats, 8),
    ];

    pub fn peak(kernels: Kernels, loops: &[Loop]) -> Option<f64> {
        let (_, run, lanes) = loops.iter().find(|(name, ..)| *name == kernels.name())?;
        // SAFETY: there is a handle on the set, so the processor has its instructions.
        let time = super::best_of(50, || unsafe { run() });
        Some((ROUNDS * CHAINS * lanes) as f64 / time.as_secs_f64())
    }

    macro_rules! chains {
        ($name:ident, $features:literal, $vector:ty, $start:expr, $step:expr) => {
            #[target_feature(enable = $features)]
            fn $name() {
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
    // The product depends on the sum, so that it stays in the loop.
    chains!(avx512_words, "avx512f,avx512bw", __m512i, _mm512_set1_epi16(1), |sum, factor| {
        _mm512_add_epi32(_mm512_madd_epi16(sum, factor), factor)
    });
    chains!(avx512_floats, "avx512f", __m512, _mm512_set1_ps(0.5), |sum, factor| {
        _mm512_fmadd_ps(sum, factor, factor)
    });
    chains!(avx_integers, "avx2,avxvnni", __m256i, _mm256_set1_epi16(1), |sum, factor| {
        _mm256_dpwssd_avx_epi32(sum, factor, factor)
    });
    chains!(avx2_words, "avx2", __m256i, _mm256_set1_epi16(1), |sum, factor| {
        _mm256_add_epi32(_mm256_madd_epi16(sum, factor), factor)
    });
    chains!(avx2_floats, "avx2,fma", __m256, _mm256_set1_ps(0.5), |sum, factor| {
        _mm256_fmadd_ps(sum, factor, factor)
    });
}
