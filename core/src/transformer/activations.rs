use core::ops::Range;

use crate::error::Result;
use crate::format::Vector;
use crate::kernels::{Inputs, Kernels, QUANTIZED_BLOCK};
use crate::parallel::{Parallel, for_each_row};
use crate::region::Carver;

use super::session::Precision;

/// Rows of numbers that matrices are about to be multiplied with: as f32 and, unless all is to be precise, quantized.
pub(super) struct Activations<'r> {
    columns: usize,
    /// [rows][columns].
    values: &'r mut [f32],
    /// [rows][columns], or empty.
    quantized: &'r mut [i16],
    /// [rows][columns / 32], or empty.
    scales: &'r mut [f32],
}

impl<'r> Activations<'r> {
    pub fn carve(carver: &mut Carver<'r>, rows: usize, columns: usize, precision: Precision) -> Result<Self> {
        let quantized_rows = if precision == Precision::Precise { 0 } else { rows };
        Ok(Self {
            columns,
            values: carver.filled([rows, columns], 0.0)?,
            quantized: carver.filled([quantized_rows, columns], 0)?,
            scales: carver.filled([quantized_rows, columns / QUANTIZED_BLOCK], 0.0)?,
        })
    }

    /// Computes these rows and quantizes them. `compute(row, values)` finds in `values` what is there already.
    pub fn fill(
        &mut self,
        parallel: &dyn Parallel,
        kernels: Kernels,
        rows: Range<usize>,
        compute: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let of = |columns: usize| rows.start * columns..rows.end * columns;
        let quantized = if self.quantized.is_empty() { 0 } else { self.columns };
        let matrices = (
            &mut self.values[of(self.columns)],
            &mut self.quantized[of(quantized)],
            &mut self.scales[of(quantized / QUANTIZED_BLOCK)],
        );
        for_each_row(parallel, rows.len(), matrices, |row, values, quantized, scales| {
            compute(rows.start + row, values);
            if !quantized.is_empty() {
                kernels.quantize(values, quantized, scales);
            }
        });
    }

    /// The values, to be written before they are quantized.
    pub fn values_mut(&mut self) -> &mut [f32] {
        self.values
    }

    /// The rows from `first` on.
    pub fn inputs(&self, first: usize) -> Inputs<'_> {
        let quantized_first = if self.quantized.is_empty() { 0 } else { first };
        Inputs {
            values: &self.values[first * self.columns..],
            quantized: &self.quantized[quantized_first * self.columns..],
            scales: &self.scales[quantized_first * self.columns / QUANTIZED_BLOCK..],
            columns: self.columns,
        }
    }
}

/// Root mean square normalization: out = x / sqrt(mean(x^2) + epsilon) * gain. The sum of squares has sixteen lanes,
/// folded like those of the kernels; no operation is fused.
pub(super) fn rms_norm(x: &[f32], gain: &Vector<'_>, epsilon: f32, out: &mut [f32]) {
    const LANES: usize = 16;
    let mut lanes = [0.0; LANES];
    for x in x.chunks(LANES) {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane += x * x;
        }
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    if !lanes[0].is_finite() {
        // Its root would make all zero.
        return out.fill(f32::NAN);
    }
    let factor = 1.0 / libm::sqrtf(lanes[0] / x.len() as f32 + epsilon);
    gain.read(0, out);
    for (out, x) in out.iter_mut().zip(x) {
        *out *= x * factor;
    }
}

/// Whether no number is infinite or NaN. Clamps, comparisons and softmax can hide an infinity, so whatever goes into one is
/// looked at before, and made NaN, which nothing hides.
pub(super) fn all_finite(numbers: &[f32]) -> bool {
    numbers.iter().fold(true, |finite, number| finite & number.is_finite())
}
