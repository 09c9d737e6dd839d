use crate::format::{Matrix, Vector};
use crate::kernels::{Inputs, Kernels};
use crate::model::Projection;
use crate::parallel::{Groups, Parallel, Tile, for_each_tile};

/// Work is cut into about this many pieces for each thread, so that none waits long for the last.
const PIECES_PER_THREAD: usize = 8;

/// Columns of outputs for one piece of work: a multiple of 16.
pub(super) fn piece(parallel: &dyn Parallel, outputs: usize) -> usize {
    outputs.div_ceil(parallel.workers().saturating_add(1).saturating_mul(PIECES_PER_THREAD)).next_multiple_of(16)
}

/// out[t] = projection(inputs[t]), all outputs, on all threads.
pub(super) fn project(
    parallel: &dyn Parallel,
    kernels: Kernels,
    projection: &Projection<'_>,
    inputs: &Inputs<'_>,
    out: Tile<'_>,
) {
    let width = piece(parallel, out.columns());
    for_each_tile(parallel, out, Groups::Whole, width, |_, first, mut tile| {
        project_tile(kernels, projection, inputs, None, first, &mut tile);
    });
}

/// out[t] = matrix * inputs[t], on all threads.
pub(super) fn project_matrix(
    parallel: &dyn Parallel,
    kernels: Kernels,
    matrix: &Matrix<'_>,
    inputs: &Inputs<'_>,
    out: Tile<'_>,
) {
    let width = piece(parallel, out.columns());
    for_each_tile(parallel, out, Groups::Whole, width, |_, first, mut tile| {
        kernels.matmul(&matrix.slice_rows(first, tile.columns()), inputs, None, &mut tile);
    });
}

/// out[t][i] = row `rows[i]` of the matrix * inputs[t], on all threads.
pub(super) fn project_rows(
    parallel: &dyn Parallel,
    kernels: Kernels,
    matrix: &Matrix<'_>,
    rows: &[u32],
    inputs: &Inputs<'_>,
    out: Tile<'_>,
) {
    let width = piece(parallel, out.columns());
    for_each_tile(parallel, out, Groups::Whole, width, |_, first, mut tile| {
        for column in 0..tile.columns() {
            let row = matrix.slice_rows(rows[first + column] as usize, 1);
            kernels.matmul(&row, inputs, None, &mut tile.columns_mut(column..column + 1));
        }
    });
}

/// The outputs from `first` on, as many as the tile has columns: out[t] = projection(inputs[index[t]]).
pub(super) fn project_tile(
    kernels: Kernels,
    projection: &Projection<'_>,
    inputs: &Inputs<'_>,
    index: Option<&[u32]>,
    first: usize,
    tile: &mut Tile<'_>,
) {
    let end = first + tile.columns();
    let mut part_first = 0;
    for part in projection.parts() {
        let part_end = part_first + part.weights.rows();
        let (begin, stop) = (first.max(part_first), end.min(part_end));
        if begin < stop {
            let row = begin - part_first;
            let mut out = tile.columns_mut(begin - first..stop - first);
            kernels.matmul(&part.weights.slice_rows(row, stop - begin), inputs, index, &mut out);
            add_bias(&part.bias.slice(row, stop - begin), &mut out);
        }
        part_first = part_end;
    }
}

fn add_bias(bias: &Vector<'_>, out: &mut Tile<'_>) {
    let mut piece = [0.0; 64];
    for first in (0..bias.len()).step_by(piece.len()) {
        let piece = &mut piece[..(bias.len() - first).min(64)];
        bias.read(first, piece);
        for row in 0..out.rows() {
            for (out, bias) in out.row(row)[first..].iter_mut().zip(&*piece) {
                *out += bias;
            }
        }
    }
}
