use half::{bf16, f16};

use super::{mxfp4, q8_0};

/// Where the numbers of a matrix are and in which format. Row-major, little-endian, at any alignment.
#[derive(Clone, Copy, Debug)]
pub enum Values<'w> {
    /// IEEE single precision.
    F32(&'w [u8]),
    /// IEEE half precision.
    F16(&'w [u8]),
    /// The upper half of single precision.
    Bf16(&'w [u8]),
    /// Blocks of 32 along a row, see [`q8_0`].
    Q8_0(&'w [u8]),
    /// Blocks of 32 along a row, see [`mxfp4`].
    Mxfp4(mxfp4::Blocks<'w>),
}

/// Rows of weights, borrowed from a file's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'w> {
    rows: usize,
    columns: usize,
    values: Values<'w>,
}

impl<'w> Matrix<'w> {
    /// `None` if the bytes are not `rows` times `columns` values, or a row is not a whole number of blocks.
    pub fn new(rows: usize, columns: usize, values: Values<'w>) -> Option<Self> {
        let len = rows.checked_mul(columns)?;
        let fits = match values {
            Values::F32(data) => len.checked_mul(4)? == data.len(),
            Values::F16(data) | Values::Bf16(data) => len.checked_mul(2)? == data.len(),
            Values::Q8_0(data) => {
                columns.is_multiple_of(q8_0::BLOCK_LEN)
                    && (len / q8_0::BLOCK_LEN).checked_mul(q8_0::BLOCK_SIZE)? == data.len()
            }
            Values::Mxfp4(blocks) => {
                let count = len / mxfp4::BLOCK_LEN;
                columns.is_multiple_of(mxfp4::BLOCK_LEN)
                    && (count == 0
                        || ((count - 1).checked_mul(blocks.code_stride)?.checked_add(mxfp4::BLOCK_SIZE)?
                            <= blocks.codes.len()
                            && (count - 1).checked_mul(blocks.scale_stride)? < blocks.scales.len()))
            }
        };
        fits.then_some(Self { rows, columns, values })
    }

    /// Number of rows: outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns: inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The numbers.
    pub fn values(&self) -> Values<'w> {
        self.values
    }

    /// Bytes that one row takes in its file.
    pub fn row_size(&self) -> usize {
        match self.values {
            Values::F32(_) => 4 * self.columns,
            Values::F16(_) | Values::Bf16(_) => 2 * self.columns,
            Values::Q8_0(_) => self.columns / q8_0::BLOCK_LEN * q8_0::BLOCK_SIZE,
            Values::Mxfp4(_) => self.columns / mxfp4::BLOCK_LEN * (mxfp4::BLOCK_SIZE + 1),
        }
    }

    /// `len` rows from `first` on.
    ///
    /// # Panics
    /// If the matrix has fewer.
    pub fn slice_rows(&self, first: usize, len: usize) -> Self {
        assert!(first <= self.rows && len <= self.rows - first);
        let size = self.row_size();
        let cut = |data: &'w [u8]| &data[first * size..][..len * size];
        let values = match self.values {
            Values::F32(data) => Values::F32(cut(data)),
            Values::F16(data) => Values::F16(cut(data)),
            Values::Bf16(data) => Values::Bf16(cut(data)),
            Values::Q8_0(data) => Values::Q8_0(cut(data)),
            Values::Mxfp4(blocks) if len == 0 => Values::Mxfp4(blocks),
            Values::Mxfp4(blocks) => Values::Mxfp4(blocks.skip(first * (self.columns / mxfp4::BLOCK_LEN))),
        };
        Self { rows: len, columns: self.columns, values }
    }

    /// Writes `out.len()` values of one row from column `first` on, exactly. Where values come in blocks, `first` and the
    /// length are multiples of 32.
    ///
    /// # Panics
    /// If there is no such row, or it ends before.
    pub fn read(&self, row: usize, first: usize, out: &mut [f32]) {
        assert!(first <= self.columns && out.len() <= self.columns - first);
        let row = self.slice_rows(row, 1);
        match row.values {
            Values::F32(data) => read_f32(&data[4 * first..], out),
            Values::F16(data) => read_f16(&data[2 * first..], out),
            Values::Bf16(data) => read_bf16(&data[2 * first..], out),
            Values::Q8_0(data) => {
                let data = &data[first / q8_0::BLOCK_LEN * q8_0::BLOCK_SIZE..];
                for (block, out) in data.chunks_exact(q8_0::BLOCK_SIZE).zip(out.chunks_exact_mut(q8_0::BLOCK_LEN)) {
                    let (scale, quantized) = q8_0::get(block);
                    for (out, value) in out.iter_mut().zip(quantized) {
                        *out = scale * f32::from(*value as i8);
                    }
                }
            }
            Values::Mxfp4(blocks) => {
                for (block, out) in out.chunks_exact_mut(mxfp4::BLOCK_LEN).enumerate() {
                    let (doubled, scale) = blocks.get(first / mxfp4::BLOCK_LEN + block);
                    let scale = mxfp4::scale(scale);
                    for (out, code) in out.iter_mut().zip(doubled) {
                        *out = 0.5 * f32::from(code) * scale;
                    }
                }
            }
        }
    }
}

fn read_f32(data: &[u8], out: &mut [f32]) {
    for (out, bytes) in out.iter_mut().zip(data.as_chunks::<4>().0) {
        *out = f32::from_le_bytes(*bytes);
    }
}

fn read_f16(data: &[u8], out: &mut [f32]) {
    for (out, bytes) in out.iter_mut().zip(data.as_chunks::<2>().0) {
        *out = f16::from_le_bytes(*bytes).to_f32();
    }
}

fn read_bf16(data: &[u8], out: &mut [f32]) {
    for (out, bytes) in out.iter_mut().zip(data.as_chunks::<2>().0) {
        *out = bf16::from_le_bytes(*bytes).to_f32();
    }
}

/// A row of weights in F32, F16 or BF16: a bias, a gain, the sinks.
#[derive(Clone, Copy, Debug)]
pub struct Vector<'w>(Matrix<'w>);

impl<'w> Vector<'w> {
    /// `None` if the bytes are not exactly `len` values, or if these are quantized in blocks.
    pub fn new(len: usize, values: Values<'w>) -> Option<Self> {
        let plain = matches!(values, Values::F32(_) | Values::F16(_) | Values::Bf16(_));
        Matrix::new(1, len, values).filter(|_| plain).map(Self)
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.0.columns
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` values from `first` on.
    ///
    /// # Panics
    /// If the vector has fewer.
    pub fn slice(&self, first: usize, len: usize) -> Self {
        assert!(first <= self.len() && len <= self.len() - first);
        let values = match self.0.values {
            Values::F32(data) => Values::F32(&data[4 * first..][..4 * len]),
            Values::F16(data) => Values::F16(&data[2 * first..][..2 * len]),
            Values::Bf16(data) => Values::Bf16(&data[2 * first..][..2 * len]),
            Values::Q8_0(_) | Values::Mxfp4(_) => unreachable!("`new` refuses them"),
        };
        Self(Matrix { rows: 1, columns: len, values })
    }

    /// Writes `out.len()` values from `first` on, exactly.
    ///
    /// # Panics
    /// If the vector has fewer.
    pub fn read(&self, first: usize, out: &mut [f32]) {
        self.0.read(0, first, out);
    }
}
