//! A piece of work for each kernel, the same for every set.

use half::{bf16, f16};
use ossicle_core::file::TensorType;
use ossicle_core::format::{Matrix, Values, mxfp4};
use ossicle_core::kernels::{Cached, Inputs, Kernels, QUANTIZED_BLOCK, Visible};
use ossicle_core::parallel::Tile;
use ossicle_core::transformer::CacheFormat;
use ossicle_tests::numbers::{Kind, Numbers};

/// Bytes of a matrix that meets one token: more than caches hold, but for a small part.
pub const MATRIX_SIZE: usize = 64 << 20;

/// What bounds a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// Reading so many bytes.
    Bytes(usize),
    /// So many multiply-adds of 16-bit integers.
    Integers(usize),
    /// So many multiply-adds of f32.
    Floats(usize),
}

/// Where a kernel writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    floats: Vec<f32>,
    integers: Vec<i16>,
}

type Run = Box<dyn Fn(Kernels, &mut Output)>;

/// One kernel at work.
pub struct Case {
    /// The kernel, and what it works on.
    pub name: String,
    /// How much that is.
    pub work: Work,
    floats: usize,
    integers: usize,
    run: Run,
}

impl Case {
    /// Room for what it writes.
    pub fn output(&self) -> Output {
        Output { floats: vec![0.0; self.floats], integers: vec![0; self.integers] }
    }

    /// Does the work once.
    pub fn run(&self, kernels: Kernels, output: &mut Output) {
        (self.run)(kernels, output);
    }

    /// Asserts that this set writes what the portable one does.
    pub fn check(&self, kernels: Kernels) {
        let [mut expected, mut found] = [self.output(), self.output()];
        self.run(Kernels::portable(), &mut expected);
        self.run(kernels, &mut found);
        assert!(found == expected, "{}, {}: not what the portable kernel writes", kernels.name(), self.name);
    }
}

/// How much work a case is.
#[derive(Clone, Copy, PartialEq)]
pub enum Size {
    /// For a look at the answers, and for counting instructions.
    Small,
    /// Larger than caches where memory is the bound, as in the model where arithmetic is.
    Full,
}

/// Random weights of this type, of a size such as models have; they repeat after some thousands.
pub fn weights(numbers: &mut Numbers, dtype: TensorType, len: usize) -> Vec<u8> {
    let (block_len, block_size) = dtype.block().expect("a type of weights");
    let period = len.min(1 << 16).next_multiple_of(block_len as usize);
    let mut data: Vec<u8> = match dtype {
        TensorType::Q8_0 | TensorType::Mxfp4 => numbers.bytes(period / block_len as usize * block_size as usize),
        _ => {
            let floats = numbers.floats(Kind::Normal, period).into_iter().map(|value| value / 16.0);
            match dtype {
                TensorType::F32 => floats.flat_map(f32::to_le_bytes).collect(),
                TensorType::F16 => floats.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
                TensorType::Bf16 => floats.flat_map(|value| value.to_le_bytes().into_iter().skip(2)).collect(),
                _ => panic!("no weights of {dtype}"),
            }
        }
    };
    for block in data.chunks_mut(block_size as usize) {
        match dtype {
            TensorType::Q8_0 => block[..2].copy_from_slice(&f16::from_f32(1.0 / 2048.0).to_le_bytes()),
            TensorType::Mxfp4 => block[0] = 120 + block[1] % 3,
            _ => {}
        }
    }
    let size = len / block_len as usize * block_size as usize;
    data.into_iter().cycle().take(size).collect()
}

/// All of them.
pub fn cases(size: Size) -> Vec<Case> {
    let mut numbers = Numbers::seeded(0);
    let mut cases = Vec::new();
    let types = [TensorType::F32, TensorType::F16, TensorType::Bf16, TensorType::Q8_0, TensorType::Mxfp4];
    let quantized = [TensorType::Q8_0, TensorType::Mxfp4];
    for (dtype, quantized) in quantized.map(|dtype| (dtype, true)).into_iter().chain(types.map(|dtype| (dtype, false)))
    {
        for tokens in [1, 2, 4, 64] {
            cases.push(matmul(&mut numbers, dtype, quantized, tokens, size));
        }
    }
    for positions in if size == Size::Full { &[128, 4096, 65_536][..] } else { &[8, 256] } {
        for tokens in [1, 8] {
            for format in [CacheFormat::F16, CacheFormat::F32, CacheFormat::Bf16, CacheFormat::Int8] {
                cases.push(attend(&mut numbers, tokens, *positions, format));
            }
        }
    }
    cases.push(quantize(&mut numbers, size));
    cases.push(swiglu(&mut numbers, size));
    cases
}

/// A matrix as wide as those of the models; with one token, larger than any cache.
fn matmul(numbers: &mut Numbers, dtype: TensorType, quantized: bool, tokens: usize, size: Size) -> Case {
    let columns = if size == Size::Full { 2880 } else { 576 };
    let row_size = dtype.size(&[columns as u64]).expect("whole blocks") as usize;
    let rows = match size {
        Size::Small => 32,
        Size::Full if tokens == 1 => MATRIX_SIZE / row_size,
        Size::Full => 720,
    };
    let data = weights(numbers, dtype, rows * columns);
    let values = numbers.floats(Kind::Normal, tokens * columns);
    let (mut integers, mut scales) = (Vec::new(), Vec::new());
    if quantized {
        (integers, scales) = (vec![0; values.len()], vec![0.0; values.len() / QUANTIZED_BLOCK]);
        Kernels::portable().quantize(&values, &mut integers, &mut scales);
    }
    let run = move |kernels: Kernels, output: &mut Output| {
        let values_of = match dtype {
            TensorType::F32 => Values::F32(&data),
            TensorType::F16 => Values::F16(&data),
            TensorType::Bf16 => Values::Bf16(&data),
            TensorType::Q8_0 => Values::Q8_0(&data),
            _ => Values::Mxfp4(mxfp4::Blocks::interleaved(&data, rows * columns / 32).expect("whole blocks")),
        };
        let matrix = Matrix::new(rows, columns, values_of).expect("the bytes of its rows");
        let inputs = Inputs { values: &values, quantized: &integers, scales: &scales, columns };
        kernels.matmul(&matrix, &inputs, None, &mut Tile::new(&mut output.floats, tokens, rows));
    };
    let multiply_adds = rows * columns * tokens;
    Case {
        name: format!(
            "matmul {dtype}{}, {tokens} token{}",
            if quantized { " quantized" } else { "" },
            if tokens == 1 { "" } else { "s" }
        ),
        work: match tokens {
            1 => Work::Bytes(rows * row_size),
            _ if quantized => Work::Integers(multiply_adds),
            _ => Work::Floats(multiply_adds),
        },
        floats: tokens * rows,
        integers: 0,
        run: Box::new(run),
    }
}

/// The eight query heads of a key-value head, for tokens of which the last sees so many positions.
fn attend(numbers: &mut Numbers, tokens: usize, positions: usize, format: CacheFormat) -> Case {
    let (heads, head_dim) = (8, 64);
    let capacity = positions.next_multiple_of(64);
    let row = heads * head_dim;
    let queries = numbers.floats(Kind::Normal, tokens * row);
    let sinks = numbers.floats(Kind::Normal, heads);
    let [keys, values] = [0, 1].map(|_| numbers.floats(Kind::Normal, capacity * head_dim));
    let words = |floats: &[f32]| -> Vec<u16> {
        let word = |value: f32| match format {
            CacheFormat::Bf16 => bf16::from_f32(value).to_bits(),
            _ => f16::from_f32(value).to_bits(),
        };
        floats.iter().copied().map(word).collect()
    };
    let bytes = |floats: &[f32]| -> Vec<i8> { floats.iter().map(|value| (16.0 * value) as i8).collect() };
    let (key_words, value_words) = (words(&keys), words(&values));
    let (key_bytes, value_bytes, scales) = (bytes(&keys), bytes(&values), vec![1.0 / 16.0; 2 * capacity]);
    let run = move |kernels: Kernels, output: &mut Output| {
        let cached = match format {
            CacheFormat::F32 => Cached::F32 { keys: &keys, values: &values },
            CacheFormat::F16 => Cached::F16 { keys: &key_words, values: &value_words },
            CacheFormat::Bf16 => Cached::Bf16 { keys: &key_words, values: &value_words },
            CacheFormat::Int8 => Cached::Int8 { keys: &key_bytes, values: &value_bytes, scales: &scales },
        };
        let visible = Visible { end: positions + 1 - tokens, window: usize::MAX, capacity };
        let mut out = Tile::new(&mut output.floats, tokens, row);
        kernels.attend((&queries, row), cached, visible, &sinks, &mut out);
    };
    let format = match format {
        CacheFormat::F32 => "F32",
        CacheFormat::F16 => "F16",
        CacheFormat::Bf16 => "BF16",
        CacheFormat::Int8 => "INT8",
    };
    Case {
        name: format!("attend {format}, {tokens} token{}, {positions} positions", if tokens == 1 { "" } else { "s" }),
        work: Work::Floats(2 * tokens * row * positions),
        floats: tokens * row,
        integers: 0,
        run: Box::new(run),
    }
}

fn quantize(numbers: &mut Numbers, size: Size) -> Case {
    let len = if size == Size::Full { 128 * 2880 } else { 2880 };
    let values = numbers.floats(Kind::Normal, len);
    Case {
        name: "quantize".to_owned(),
        work: Work::Bytes(4 * len),
        floats: len / QUANTIZED_BLOCK,
        integers: len,
        run: Box::new(move |kernels, output| kernels.quantize(&values, &mut output.integers, &mut output.floats)),
    }
}

fn swiglu(numbers: &mut Numbers, size: Size) -> Case {
    let len = if size == Size::Full { 128 * 2880 } else { 2880 };
    let hidden = numbers.floats(Kind::Normal, 2 * len);
    Case {
        name: "swiglu".to_owned(),
        work: Work::Bytes(8 * len),
        floats: len,
        integers: 0,
        run: Box::new(move |kernels, output| kernels.swiglu(&hidden, false, 7.0, &mut output.floats)),
    }
}
