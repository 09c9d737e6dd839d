//! How fast the threads read a model's weights when they do nothing else: what decode can hope for.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ossicle_core::model::{Model, Role};
use ossicle_core::parallel::{Parallel, for_each};

/// Bytes that a thread claims at a time.
const PIECE: usize = 4 << 20;
/// Places of a piece that are read in turn: with fewer, processors fetch ahead less.
const STREAMS: usize = 4;

/// Passes over the attention and output matrices where they lie, which are those that every token reads. Other programs and
/// other guests of a machine halve the rate from one minute to the next, so passes are made between tokens.
pub struct Bandwidth<'w> {
    pieces: Vec<&'w [u8]>,
    passes: Vec<Duration>,
}

impl<'w> Bandwidth<'w> {
    /// No passes yet.
    pub fn new(model: &'w Model<'_, 'w>) -> Self {
        let read_always = |role| {
            use Role::*;
            matches!(
                role,
                QueryKeyValueWeight | QueryWeight | KeyWeight | ValueWeight | AttentionOutputWeight | Unembedding
            )
        };
        let matrices = model.tensors().filter(|tensor| read_always(tensor.id.role));
        Self { pieces: matrices.flat_map(|tensor| tensor.data.chunks(PIECE)).collect(), passes: Vec::new() }
    }

    /// Reads all of it once, on all threads.
    pub fn pass(&mut self, parallel: &dyn Parallel) {
        let start = Instant::now();
        for_each(parallel, self.pieces.len(), |index| {
            black_box(read(self.pieces[index]));
        });
        self.passes.push(start.elapsed());
    }

    /// Bytes per second of the median pass; 0 without passes.
    pub fn median(&self) -> f64 {
        let mut passes = self.passes.clone();
        passes.sort();
        let size: usize = self.pieces.iter().map(|piece| piece.len()).sum();
        passes.get(passes.len() / 2).map_or(0.0, |pass| size as f64 / pass.as_secs_f64().max(1e-9))
    }
}

/// The sum of the piece's words, so that all of it has to be read.
fn read(piece: &[u8]) -> u64 {
    let lines = piece.as_chunks::<64>().0;
    let len = lines.len() / STREAMS;
    let streams: [_; STREAMS] = std::array::from_fn(|stream| &lines[stream * len..][..len]);
    let mut sums = [0_u64; 8];
    for at in 0..len {
        for stream in streams {
            for (sum, word) in sums.iter_mut().zip(stream[at].as_chunks().0) {
                *sum = sum.wrapping_add(u64::from_le_bytes(*word));
            }
        }
    }
    sums.iter().fold(0, |total, sum| total.wrapping_add(*sum))
}
