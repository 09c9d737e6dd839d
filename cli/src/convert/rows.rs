//! Rows of numbers, wherever a checkpoint keeps them, and how they are written to another.

use std::ops::Range;

use half::bf16;
use ossicle_core::format::mxfp4::{self, NibbleOrder};
use ossicle_core::format::{Matrix, Values, q8_0};

use super::merge::Merge;

/// How numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Single precision.
    F32,
    /// The upper half of single precision, rounded to the nearest.
    Bf16,
    /// As GGUF keeps dense matrices.
    Q8_0,
    /// As GGUF keeps experts: scale and codes of a block together.
    Mxfp4,
    /// The codes alone, as safetensors files keep them.
    Mxfp4Codes,
    /// The scales alone, as safetensors files keep them.
    Mxfp4Scales,
}

impl Format {
    /// Values in a block, and the bytes that it takes.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::Bf16 => (1, 2),
            Self::Q8_0 => (q8_0::BLOCK_LEN, q8_0::BLOCK_SIZE),
            Self::Mxfp4 => (mxfp4::BLOCK_LEN, 1 + mxfp4::BLOCK_SIZE),
            Self::Mxfp4Codes => (mxfp4::BLOCK_LEN, mxfp4::BLOCK_SIZE),
            Self::Mxfp4Scales => (mxfp4::BLOCK_LEN, 1),
        }
    }
}

/// Some rows of a matrix.
#[derive(Clone)]
pub struct Rows<'w> {
    matrix: Matrix<'w>,
    first: usize,
    step: usize,
    count: usize,
    /// Where the matrices of experts are transposed, [inputs, outputs]: the inputs. Their outputs, one expert after another, are
    /// the rows then.
    transposed_inputs: Option<usize>,
    merge: Merge<'w>,
}

impl<'w> Rows<'w> {
    /// The rows of a matrix.
    pub fn new(matrix: Matrix<'w>) -> Self {
        Self { matrix, first: 0, step: 1, count: matrix.rows(), transposed_inputs: None, merge: Merge::default() }
    }

    /// The columns of the matrices of experts, each of which has `inputs` rows. Not for values in blocks.
    pub fn transposed(matrix: Matrix<'w>, inputs: usize) -> Self {
        let count = matrix.rows() / inputs * matrix.columns();
        Self { matrix, first: 0, step: 1, count, transposed_inputs: Some(inputs), merge: Merge::default() }
    }

    /// All rows of a matrix, with what adapters change.
    pub fn merged(self, merge: Merge<'w>) -> Self {
        Self { merge, ..self }
    }

    /// `count` of the rows of a whole matrix: `first`, and each `step`-th after it.
    pub fn pick(self, first: usize, step: usize, count: usize) -> Self {
        assert!(self.step == 1 && (count == 0 || first + step * (count - 1) < self.count));
        Self { first, step, count, ..self }
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Values in a row.
    pub fn columns(&self) -> usize {
        self.transposed_inputs.unwrap_or(self.matrix.columns())
    }

    /// Whether the file has them as Q8_0.
    pub fn is_q8_0(&self) -> bool {
        matches!(self.matrix.values(), Values::Q8_0(_))
    }

    /// Appends rows. What the file has in that format already, and no adapter changes, stays as it is, bit for bit. `None` if a value cannot be written so,
    /// because it is not finite.
    pub fn encode(&self, rows: Range<usize>, format: Format, bytes: &mut Vec<u8>) -> Option<()> {
        let in_row = self.columns() / mxfp4::BLOCK_LEN;
        match (format, self.matrix.values()) {
            (Format::Mxfp4 | Format::Mxfp4Codes | Format::Mxfp4Scales, Values::Mxfp4(blocks))
                if self.merge.is_empty() =>
            {
                for row in rows.map(|row| self.first + self.step * row) {
                    for block in row * in_row..(row + 1) * in_row {
                        let (codes, scale) = blocks.codes(block);
                        put_mxfp4(&codes, scale, format, bytes);
                    }
                }
            }
            (Format::Q8_0, Values::Q8_0(data)) if self.merge.is_empty() => {
                let size = self.matrix.row_size();
                for row in rows {
                    bytes.extend(&data[(self.first + self.step * row) * size..][..size]);
                }
            }
            _ => {
                let mut values = vec![0.0; rows.len() * self.columns()];
                self.read(rows.clone(), &mut values);
                self.merge.add(rows.map(|row| self.first + self.step * row), self.columns(), &mut values);
                quantize(&values, format, bytes)?;
            }
        }
        Some(())
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) {
        let Some(inputs) = self.transposed_inputs else {
            for (row, out) in rows.zip(out.chunks_exact_mut(self.matrix.columns())) {
                self.matrix.read(self.first + self.step * row, 0, out);
            }
            return;
        };
        let outputs = self.matrix.columns();
        let (mut rows, mut out) = (rows, out);
        let mut stretch = Vec::new();
        // All rows of one expert are in the same lines of its matrix.
        while !rows.is_empty() {
            let place = self.first + self.step * rows.start;
            let (expert, column) = (place / outputs, place % outputs);
            let count = rows.len().min((outputs - column).div_ceil(self.step));
            let (here, rest) = out.split_at_mut(count * inputs);
            stretch.resize((count - 1) * self.step + 1, 0.0);
            for input in 0..inputs {
                self.matrix.read(expert * inputs + input, column, &mut stretch);
                for (row, value) in here.chunks_exact_mut(inputs).zip(stretch.iter().step_by(self.step)) {
                    row[input] = *value;
                }
            }
            (rows.start, out) = (rows.start + count, rest);
        }
    }
}

fn quantize(values: &[f32], format: Format, bytes: &mut Vec<u8>) -> Option<()> {
    match format {
        Format::F32 => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        Format::Bf16 => bytes.extend(values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes())),
        Format::Q8_0 => {
            for block in values.as_chunks().0 {
                bytes.extend(q8_0::quantize(block)?);
            }
        }
        Format::Mxfp4 | Format::Mxfp4Codes | Format::Mxfp4Scales => {
            for block in values.as_chunks().0 {
                let (codes, scale) = mxfp4::quantize(block)?;
                put_mxfp4(&codes, scale, format, bytes);
            }
        }
    }
    Some(())
}

fn put_mxfp4(codes: &[u8; mxfp4::BLOCK_LEN], scale: u8, format: Format, bytes: &mut Vec<u8>) {
    if format != Format::Mxfp4Codes {
        bytes.push(scale);
    }
    match format {
        Format::Mxfp4 => bytes.extend(mxfp4::pack(codes, NibbleOrder::Halves)),
        Format::Mxfp4Codes => bytes.extend(mxfp4::pack(codes, NibbleOrder::Adjacent)),
        _ => {}
    }
}
