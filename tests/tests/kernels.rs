//! Every kernel set equals the portable one bit for bit, and that one is as exact as it says.
//!
//! Normalization, rotation and routing are no kernels; `layers.rs` holds them, with all the rest, against traces.

use ossicle_core::format::mxfp4::NibbleOrder;
use ossicle_core::format::{Matrix, Values, mxfp4, q8_0};
use ossicle_core::kernels::{self, Inputs, Kernels, QUANTIZED_BLOCK};
use ossicle_core::parallel::Tile;
use ossicle_host::kernels::{available, named, sets};
use ossicle_tests::fixtures::data;
use ossicle_tests::guarded::{Guarded, Output};
use ossicle_tests::matrices::{Format, GuardedMatrix};
use ossicle_tests::numbers::{Kind, Numbers};
use ossicle_tests::reference;
use ossicle_tests::safetensors::Safetensors;

/// Half a unit in the last place of 1: what rounding to f32 changes, relatively.
const ROUNDING: f64 = 1.0 / (1 << 24) as f64;

/// The smallest f32 above zero.
const SMALLEST: f64 = f32::from_bits(1) as f64;

/// The bits, where all that is not a number is one and the same: which of several such bit patterns an addition gives is
/// not defined, and nothing depends on it.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }).collect()
}

#[test]
fn every_kernel_set_that_is_required_is_there() {
    let names: Vec<&str> = available().map(|set| set.name()).collect();
    let absent: Vec<&str> = sets().map(|set| set.name).filter(|name| !names.contains(name)).collect();
    println!("kernel sets tested: {}; not on this processor: {}", names.join(", "), absent.join(", "));
    assert_eq!(names.last(), Some(&"portable"));
    let required = std::env::var("OSSICLE_REQUIRE_KERNELS").unwrap_or_default();
    for name in required.split(',').filter(|name| !name.is_empty()) {
        assert!(names.contains(&name), "this machine or build lacks the kernel set {name}: there are {names:?}");
        assert_eq!(named(name).map(|set| set.name()), Some(name));
    }
}

// Matrix products.

/// Rows of activations, each array ending where accessible memory ends.
struct Activations {
    values: Guarded<f32>,
    quantized: Guarded<i16>,
    scales: Guarded<f32>,
    columns: usize,
}

impl Activations {
    fn new(values: &[f32], columns: usize, quantized: bool) -> Self {
        let (mut integers, mut scales) = (Vec::new(), Vec::new());
        if quantized {
            integers = vec![0; values.len()];
            scales = vec![0.0; values.len() / QUANTIZED_BLOCK];
            Kernels::portable().quantize(values, &mut integers, &mut scales);
        }
        Self {
            values: Guarded::copy_of(values),
            quantized: Guarded::copy_of(&integers),
            scales: Guarded::copy_of(&scales),
            columns,
        }
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs { values: &self.values, quantized: &self.quantized, scales: &self.scales, columns: self.columns }
    }
}

/// The products as `[tokens][rows]`, after a look at what surrounds them: the tile leaves three columns on its left and two
/// on its right.
fn matmul(set: Kernels, matrix: &Matrix<'_>, inputs: &Inputs<'_>, index: Option<&[u32]>, tokens: usize) -> Vec<f32> {
    let (rows, stride) = (matrix.rows(), matrix.rows() + 5);
    let mut output = Output::<f32>::of(tokens * stride);
    let canary = Output::<f32>::of(1).written()[0].to_bits();
    set.matmul(matrix, inputs, index, &mut Tile::new(output.room(), tokens, stride).columns_mut(3..3 + rows));
    let mut products = Vec::new();
    for token in output.written().chunks(stride) {
        let outside = token[..3].iter().chain(&token[3 + rows..]);
        assert!(outside.into_iter().all(|element| element.to_bits() == canary), "written outside of the tile");
        products.extend_from_slice(&token[3..3 + rows]);
    }
    products
}

/// Asserts that the products of one row of a matrix and one row of activations are as close to `expected` as rounding
/// allows. `weights` and `values` are the factors; `quantized` tells whether the latter were rounded to 16 bits first.
fn assert_close(what: &str, product: f32, weights: &[f64], values: &[f32], quantized: bool) {
    let terms = weights.iter().zip(values).map(|(weight, value)| weight * f64::from(*value));
    let (expected, magnitude) = terms.fold((0.0, 0.0), |(sum, sum_abs), term| (sum + term, sum_abs + term.abs()));
    let (bound, magnitude) = if quantized {
        let block = |(weights, values): (&[f64], &[f32])| {
            let largest = f64::from(values.iter().fold(0f32, |largest, value| largest.max(value.abs())));
            let weights_sum: f64 = weights.iter().map(|weight| weight.abs()).sum();
            // Half a step, and a little for the rounding of the quotient. What is below 2^-100 becomes zero.
            weights_sum * if largest < 2f64.powi(-100) { largest } else { 0.51 / 32639.0 * largest }
        };
        let quantization: f64 = weights.chunks(32).zip(values.chunks(32)).map(block).sum();
        // Where a scale is subnormal, half its last place counts as often as the integers are large.
        let subnormal = (weights.len() / 32) as f64 * SMALLEST * 2f64.powi(27);
        (quantization + subnormal, magnitude + quantization)
    } else {
        (0.0, magnitude)
    };
    if magnitude > 1e38 {
        return; // May have overflowed on the way.
    }
    let roundings = (weights.len().div_ceil(16) + 8) as f64;
    let bound = bound + roundings * (ROUNDING * magnitude + SMALLEST);
    let error = (f64::from(product) - expected).abs();
    assert!(error <= bound, "{what}: {product}, expected {expected} within {bound}");
}

fn test_matmul(format: Format, quantized: bool) {
    let mut numbers = Numbers::seeded(format as u64);
    let mut shapes = vec![(1, 32), (17, 64), (5, 96), (3, 512), (2, 544), (33, 32), (2, 2880)];
    if !format.is_quantized() {
        shapes.extend([(3, 1), (2, 15), (4, 33), (1, 300)]);
    }
    for kind in Kind::ALL {
        for (rows, columns) in &shapes {
            let (rows, columns) = (*rows, *columns);
            let tokens = 1 + numbers.below(9);
            let weights = GuardedMatrix::of(&mut numbers, kind, format, rows, columns);
            let other_kind = Kind::ALL[numbers.below(Kind::ALL.len())];
            let input_kind = if numbers.below(2) == 0 { kind } else { other_kind };
            let values = numbers.floats(input_kind, tokens * columns);
            let activations = Activations::new(&values, columns, quantized);
            let (matrix, inputs) = (weights.matrix(), activations.inputs());
            let what = format!("{format:?} {kind:?} {rows} x {columns}, {tokens} tokens");

            let expected = matmul(Kernels::portable(), &matrix, &inputs, None, tokens);
            let exact = weights.numbers();
            for (products, values) in expected.chunks(rows).zip(values.chunks(columns)) {
                for (product, weights) in products.iter().zip(exact.chunks(columns)) {
                    assert_close(&what, *product, weights, values, quantized);
                }
            }

            let index: Vec<u32> = (0..1 + numbers.below(9)).map(|_| numbers.below(tokens) as u32).collect();
            let guarded_index = Guarded::copy_of(&index);
            let indexed: Vec<f32> =
                index.iter().flat_map(|token| &expected[*token as usize * rows..][..rows]).copied().collect();
            for set in available() {
                let name = set.name();
                let all = matmul(set, &matrix, &inputs, None, tokens);
                assert_eq!(bits(&all), bits(&expected), "{name}: {what}");
                let chosen = matmul(set, &matrix, &inputs, Some(&guarded_index), index.len());
                assert_eq!(bits(&chosen), bits(&indexed), "{name}: {what}, index {index:?}");
                let (row, token) = (numbers.below(rows), numbers.below(tokens));
                let one = matmul(set, &matrix.slice_rows(row, 1), &inputs, Some(&[token as u32]), 1);
                assert_eq!(bits(&one), bits(&expected[token * rows + row..][..1]), "{name}: {what}, one alone");
                let some = matmul(set, &matrix.slice_rows(row, rows - row), &inputs, None, 1);
                assert_eq!(bits(&some), bits(&expected[row..rows]), "{name}: {what}, rows from {row} on");
            }
        }
    }
}

#[test]
fn matmul_f32() {
    test_matmul(Format::F32, false);
}

#[test]
fn matmul_f16() {
    test_matmul(Format::F16, false);
}

#[test]
fn matmul_bf16() {
    test_matmul(Format::Bf16, false);
}

#[test]
fn matmul_q8_0() {
    test_matmul(Format::Q8_0, false);
}

#[test]
fn matmul_mxfp4() {
    test_matmul(Format::Mxfp4Interleaved, false);
    test_matmul(Format::Mxfp4Separate, false);
}

#[test]
fn matmul_q8_0_quantized() {
    test_matmul(Format::Q8_0, true);
}

#[test]
fn matmul_mxfp4_quantized() {
    test_matmul(Format::Mxfp4Interleaved, true);
    test_matmul(Format::Mxfp4Separate, true);
}

#[test]
fn every_number_of_tokens_rows_and_blocks_gives_the_same_products() {
    let mut numbers = Numbers::seeded(7);
    // Sixteen rows, eight blocks for each of sixteen lanes, 8192 columns and 64 tokens are where kernels begin anew; activations
    // of few tokens with 8192 columns do not meet weights all together.
    let shapes = [
        (18, 96, 40),
        (16, 64, 64),
        (15, 64, 67),
        (3, 4128, 3),
        (2, 4096, 5),
        (5, 8224, 2),
        (1, 8192, 1),
        (9, 8192, 2),
        (9, 8192, 3),
        (9, 8160, 4),
    ];
    let all_tokens = (1..=16).map(|tokens| (5, 544, tokens));
    for (rows, columns, tokens) in shapes.into_iter().chain(all_tokens) {
        for format in Format::ALL {
            let weights = GuardedMatrix::of(&mut numbers, Kind::Normal, format, rows, columns);
            let values = numbers.floats(Kind::Normal, tokens * columns);
            for quantized in [false, true] {
                let activations = Activations::new(&values, columns, quantized);
                let products = |set| bits(&matmul(set, &weights.matrix(), &activations.inputs(), None, tokens));
                let expected = products(Kernels::portable());
                for set in available() {
                    let what = format!("{}: {format:?} {rows} x {columns}, {tokens} tokens", set.name());
                    assert_eq!(products(set), expected, "{what}");
                }
            }
        }
    }
}

#[test]
fn mxfp4_may_lie_in_memory_as_no_file_has_it() {
    let mut numbers = Numbers::seeded(8);
    let (codes, scales) = (numbers.bytes(3 * 18 * 40), [120; 3 * 18 * 5]);
    let values = numbers.floats(Kind::Normal, 4 * 18 * 32);
    for order in [NibbleOrder::Adjacent, NibbleOrder::Halves] {
        for (code_stride, scale_stride) in [(16, 1), (17, 17), (40, 5)] {
            let (codes, scales) = (&codes[..53 * code_stride + 16], &scales.repeat(4)[..53 * scale_stride + 1]);
            let (codes, scales) = (Guarded::copy_of(codes), Guarded::copy_of(scales));
            let blocks = mxfp4::Blocks { codes: &codes, code_stride, scales: &scales, scale_stride, order };
            let matrix = Matrix::new(3, 18 * 32, Values::Mxfp4(blocks)).expect("whole blocks");
            for (quantized, tokens) in [(false, 1), (false, 4), (true, 1), (true, 4)] {
                let activations = Activations::new(&values, 18 * 32, quantized);
                let products = |set| bits(&matmul(set, &matrix, &activations.inputs(), None, tokens));
                for set in available() {
                    assert_eq!(products(set), products(Kernels::portable()), "{}: {order:?}", set.name());
                }
            }
        }
    }
}

#[test]
fn a_scale_or_weight_that_is_not_finite_gives_no_finite_product() {
    let values = Numbers::seeded(1).floats(Kind::Normal, 64);
    let mut q8_0 = [1u8; 2 * q8_0::BLOCK_SIZE];
    q8_0[q8_0::BLOCK_SIZE..][..2].copy_from_slice(&[0, 0x7c]);
    let mut interleaved = [0x11u8; 2 * 17];
    interleaved[17] = 255;
    let f32s: Vec<u8> = (0..64).flat_map(|i| if i == 7 { f32::NAN } else { 1f32 }.to_le_bytes()).collect();
    let damaged = [
        GuardedMatrix::with_bytes(Format::Q8_0, 1, 64, &q8_0, &[]),
        GuardedMatrix::with_bytes(Format::Mxfp4Interleaved, 1, 64, &interleaved, &[]),
        GuardedMatrix::with_bytes(Format::Mxfp4Separate, 1, 64, &[0x11; 32], &[120, 255]),
        GuardedMatrix::with_bytes(Format::F32, 1, 64, &f32s, &[]),
    ];
    for set in available() {
        for (matrix, quantized) in damaged.iter().flat_map(|matrix| [(matrix, false), (matrix, true)]) {
            let activations = Activations::new(&values, 64, quantized);
            let product = matmul(set, &matrix.matrix(), &activations.inputs(), None, 1)[0];
            assert!(!product.is_finite(), "{}: {:?}: {product}", set.name(), matrix.format);
        }
    }
}

/// The vectors of `tests/data/ops`: published shapes, expected values by another program.
fn operation(name: &str) -> Safetensors {
    Safetensors::open(&data().join("ops").join(name))
}

fn test_matvec(file: &Safetensors, weights: &GuardedMatrix) {
    let [values, expected, magnitudes] = ["x", "expected", "abs_sum"].map(|name| file.f32s(name));
    for set in available() {
        for quantized in [false, true] {
            let activations = Activations::new(&values, 2880, quantized);
            let products = matmul(set, &weights.matrix(), &activations.inputs(), None, 1);
            // Relative to the sum of magnitudes. Sixteen lanes make rounding smaller than the last place of an f32. Half a
            // step of 16 bits is 1.5e-5 of a block's largest magnitude, and the errors of a row partly cancel.
            let epsilon = if quantized && weights.format.is_quantized() { 1e-5 } else { 1e-7 };
            let error = |((product, expected), magnitude): ((&f32, &f32), &f32)| (product - expected).abs() / magnitude;
            let worst = products.iter().zip(&expected).zip(&magnitudes).map(error).fold(0.0, f32::max);
            println!("{}, {:?}, quantized {quantized}: {worst:.1e}", set.name(), weights.format);
            assert!(worst < epsilon);
        }
    }
}

#[test]
fn products_agree_with_those_of_another_program() {
    let file = operation("mxfp4_matvec.safetensors");
    let separate = GuardedMatrix::with_bytes(Format::Mxfp4Separate, 96, 2880, file.u8s("blocks"), file.u8s("scales"));
    test_matvec(&file, &separate);
    let file = operation("bf16_matvec.safetensors");
    let bytes: Vec<u8> = file.f64s("w").iter().flat_map(|w| (*w as f32).to_le_bytes()[2..].to_vec()).collect();
    test_matvec(&file, &GuardedMatrix::with_bytes(Format::Bf16, 24, 2880, &bytes, &[]));
}

#[test]
fn mxfp4_is_read_exactly_in_both_layouts() {
    let file = operation("mxfp4_dequant.safetensors");
    let expected = file.f32s("expected");
    assert!(expected.iter().any(|value| value.is_infinite()) && expected.iter().any(|value| value.is_subnormal()));
    let rows = expected.len() / 32;
    for (format, bytes, scales) in [
        (Format::Mxfp4Separate, file.u8s("blocks"), file.u8s("scales")),
        (Format::Mxfp4Interleaved, file.u8s("gguf_blocks"), &[][..]),
    ] {
        let weights = GuardedMatrix::with_bytes(format, rows, 32, bytes, scales);
        let mut row = [0.0; 32];
        for (r, expected) in expected.chunks(32).enumerate() {
            weights.matrix().read(r, 0, &mut row);
            assert_eq!(row, expected, "{format:?}, block {r}");
        }
    }
    assert_eq!(mxfp4::scale(0), 2f32.powi(-127));
    assert_eq!(mxfp4::scale(254), 2f32.powi(127));
    assert!(!mxfp4::scale(255).is_finite());
}

#[test]
fn q8_0_is_read_exactly() {
    let file = operation("q8_0_dequant.safetensors");
    let matrix = Matrix::new(8, 96, Values::Q8_0(file.u8s("blocks"))).expect("whole blocks");
    for (r, expected) in file.f32s("expected").chunks(96).enumerate() {
        for (first, len) in [(0, 96), (32, 64), (64, 32)] {
            let mut values = vec![0.0; len];
            matrix.read(r, first, &mut values);
            assert_eq!(values, expected[first..][..len]);
        }
    }
}

// Activations.

#[test]
fn exp_is_within_two_units_in_the_last_place() {
    let mut worst = 0f64;
    for bits in (0..88f32.to_bits()).step_by(1009) {
        for x in [f32::from_bits(bits), -f32::from_bits(bits)].into_iter().filter(|x| *x >= -87.0) {
            let (actual, expected) = (kernels::exp(x), f64::from(x).exp());
            let place = f64::from((expected as f32).next_up()) - f64::from(expected as f32);
            worst = worst.max((f64::from(actual) - expected).abs() / place);
        }
    }
    println!("exp: {worst:.3} units in the last place");
    assert!(worst < 2.0, "{worst}");
    assert_eq!(kernels::exp(0.0), 1.0);
    assert_eq!(kernels::exp(f32::NEG_INFINITY), kernels::exp(-87.0));
    assert_eq!(kernels::exp(f32::INFINITY), kernels::exp(88.0));
    assert!(kernels::exp(f32::NAN).is_nan());
}

fn quantize(set: Kernels, values: &[f32]) -> (Vec<i16>, Vec<f32>) {
    let (mut quantized, mut scales) = (Output::of(values.len()), Output::of(values.len() / QUANTIZED_BLOCK));
    set.quantize(&Guarded::copy_of(values), quantized.room(), scales.room());
    (quantized.written().to_vec(), scales.written().to_vec())
}

#[test]
fn quantized_activations_are_within_half_a_step() {
    let mut numbers = Numbers::seeded(3);
    for kind in Kind::ALL {
        for blocks in [1, 2, 3, 17] {
            let values = numbers.floats(kind, QUANTIZED_BLOCK * blocks);
            let (quantized, scales) = quantize(Kernels::portable(), &values);
            for ((values, quantized), scale) in values.chunks(32).zip(quantized.chunks(32)).zip(&scales) {
                let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                let is_zero = largest < 2f32.powi(-100);
                assert!(if is_zero { *scale == 0.0 } else { (scale / largest * 32639.0 - 1.0).abs() < 1e-6 });
                for (value, integer) in values.iter().zip(quantized) {
                    let error = (f64::from(*integer) * f64::from(*scale) - f64::from(*value)).abs();
                    assert!(is_zero || error <= 0.505 * f64::from(*scale), "{kind:?}: {value} as {integer} {scale}");
                    assert!(*integer != i16::MIN && (!is_zero || *integer == 0));
                }
            }
            for set in available() {
                let (found, found_scales) = quantize(set, &values);
                assert_eq!((found, bits(&found_scales)), (quantized.clone(), bits(&scales)), "{}", set.name());
            }
        }
    }
}

#[test]
fn a_block_with_a_value_that_is_not_finite_has_no_finite_scale() {
    for set in available() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..QUANTIZED_BLOCK {
                let mut values = vec![1.0; 3 * QUANTIZED_BLOCK];
                values[QUANTIZED_BLOCK + at] = bad;
                let (quantized, scales) = quantize(set, &values);
                assert!(scales[1].is_nan(), "{}: {bad} at {at}", set.name());
                assert!(quantized[32..64].iter().all(|integer| *integer == 0));
                assert_eq!((scales[0], scales[2], quantized[0]), (1.0 / 32639.0, 1.0 / 32639.0, 32639));
            }
        }
    }
}

fn swiglu(set: Kernels, hidden: &[f32], interleaved: bool) -> Vec<f32> {
    let mut output = Output::of(hidden.len() / 2);
    set.swiglu(&Guarded::copy_of(hidden), interleaved, 7.0, output.room());
    output.written().to_vec()
}

/// Gates and linear parts, alternating, as all gates and then all linear parts.
fn halves(interleaved: &[f32]) -> Vec<f32> {
    interleaved.iter().step_by(2).chain(interleaved.iter().skip(1).step_by(2)).copied().collect()
}

#[test]
fn swiglu_is_as_exact_as_its_exponential() {
    let mut numbers = Numbers::seeded(4);
    for kind in Kind::ALL {
        for len in [1, 2, 3, 15, 16, 17, 32, 100] {
            let hidden = numbers.floats(kind, 2 * len);
            let expected = swiglu(Kernels::portable(), &hidden, true);
            let wide: Vec<f64> = hidden.iter().copied().map(f64::from).collect();
            for ((found, exact), pair) in expected.iter().zip(reference::swiglu(&wide, 7.0)).zip(wide.chunks(2)) {
                let exponent = (1.702 * pair[0]).abs().min(90.0);
                // Beyond the range of `exp` the factor is 1e-38 instead of zero.
                let bound = (2.0 * exponent + 16.0) * ROUNDING * exact.abs() + 1e-37 * pair[0].abs() + SMALLEST;
                assert!((f64::from(*found) - exact).abs() <= bound, "{kind:?}: {pair:?}: {found}, expected {exact}");
            }
            for set in available() {
                assert_eq!(bits(&swiglu(set, &hidden, true)), bits(&expected), "{}: {kind:?}", set.name());
                assert_eq!(bits(&swiglu(set, &halves(&hidden), false)), bits(&expected), "{}: {kind:?}", set.name());
            }
        }
    }
}

#[test]
fn swiglu_agrees_with_another_program_and_lets_no_nan_through_as_a_number() {
    let file = operation("swiglu.safetensors");
    for set in available() {
        for (found, expected) in swiglu(set, &file.f32s("x"), true).iter().zip(file.f32s("expected")) {
            assert!((found - expected).abs() <= 1e-5 * expected.abs().max(1e-3), "{found}, expected {expected}");
        }
        for at in 0..40 {
            let mut hidden = vec![0.5; 40];
            hidden[at] = f32::NAN;
            let found = swiglu(set, &hidden, true);
            assert!(found.iter().enumerate().all(|(i, value)| value.is_nan() == (i == at / 2)), "{}", set.name());
        }
    }
}
