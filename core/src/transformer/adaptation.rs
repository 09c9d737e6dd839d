use crate::error::Result;
use crate::kernels::{Inputs, Kernels};
use crate::model::{Adapter, Change, Config, Place};
use crate::parallel::{Groups, Parallel, Tile, for_each_tile};
use crate::region::Carver;

use super::linear::piece;

/// Most adapters that a session has at once.
pub const ADAPTERS_MAX: usize = 8;

/// The adapters of a session, and what they need for a batch of tokens.
pub(super) struct Adaptation<'r> {
    /// With what each counts.
    pub adapters: [Option<(Adapter<'r>, f32)>; ADAPTERS_MAX],
    /// Inputs brought down to the rank of a change: [jobs][rank].
    reduced: &'r mut [f32],
}

/// Outputs that are added to together.
const COLUMNS: usize = 64;

impl<'r> Adaptation<'r> {
    pub fn carve(carver: &mut Carver<'r>, config: &Config, tokens: usize, rank: usize) -> Result<Self> {
        let jobs = tokens * config.experts_per_token;
        Ok(Self { adapters: [None; ADAPTERS_MAX], reduced: carver.filled([jobs, rank], 0.0)? })
    }

    /// Adds to the outputs of a projection, [rows][columns], what the adapters of this layer change. The rows from `bounds[g]` to
    /// `bounds[g + 1]` are those of the expert `experts[g]`, and `inputs(g)` tells their inputs: one for each row, or as the index
    /// says.
    pub fn add<'i>(
        &mut self,
        (parallel, kernels): (&dyn Parallel, Kernels),
        (layer, place): (usize, Place),
        (experts, bounds): (&[u32], &[usize]),
        inputs: impl Fn(usize) -> (Inputs<'i>, Option<&'i [u32]>) + Sync,
        (out, columns): (&mut [f32], usize),
    ) {
        let rows = bounds.last().copied().unwrap_or(0);
        for (adapter, weight) in self.adapters.iter().flatten() {
            for change in adapter.changes(layer, place) {
                let rank = change.rank();
                let reduced = Tile::new(self.reduced, rows, rank);
                for_each_tile(
                    parallel,
                    reduced,
                    Groups::Bounds(bounds),
                    piece(parallel, rank),
                    |group, first, mut tile| {
                        let (inputs, index) = inputs(group);
                        let down = change.down(experts[group] as usize).slice_rows(first, tile.columns());
                        kernels.matmul(&down, &inputs, index, &mut tile);
                    },
                );
                let (reduced, weight) = (&*self.reduced, weight * change.scale());
                let out = Tile::new(out, rows, columns);
                for_each_tile(
                    parallel,
                    out,
                    Groups::Bounds(bounds),
                    piece(parallel, columns),
                    |group, first, mut tile| {
                        let reduced = &reduced[bounds[group] * rank..][..tile.rows() * rank];
                        add_outputs((change, experts[group] as usize), reduced, weight, first, &mut tile);
                    },
                );
            }
        }
    }
}

/// tile[row] += weight * up(reduced[row]), for the columns from `first` on of the outputs of a projection. The numbers between the
/// halves come one after the other, whatever the kernels.
fn add_outputs(
    (change, expert): (&Change<'_>, usize),
    reduced: &[f32],
    weight: f32,
    first: usize,
    tile: &mut Tile<'_>,
) {
    let (outputs, at, step) = change.outputs_within(first, first + tile.columns());
    let (up, rank) = (change.up(expert), change.rank());
    let mut piece = [0.0; COLUMNS];
    for begin in outputs.clone().step_by(COLUMNS) {
        let piece = &mut piece[..COLUMNS.min(outputs.end - begin)];
        let at = at + (begin - outputs.start) * step;
        for number in 0..rank {
            up.read(number, begin, piece);
            for (row, reduced) in reduced.chunks(rank).enumerate() {
                let factor = weight * reduced[number];
                let out = &mut tile.row(row)[at..];
                if step == 1 {
                    out.iter_mut().zip(&*piece).for_each(|(out, up)| *out += factor * up);
                } else {
                    out.iter_mut().step_by(step).zip(&*piece).for_each(|(out, up)| *out += factor * up);
                }
            }
        }
    }
}
