use super::{LANES, Lanes};
use crate::kernels::exponential::{LN_2_HIGH, LN_2_LOW, POLYNOMIAL, RANGE, ROUND};
use crate::kernels::portable::{self, LARGEST, SMALLEST, SWIGLU_ALPHA};
use crate::kernels::{QUANTIZED_BLOCK, arguments};

/// [`crate::kernels::exp`], operation by operation.
#[inline(always)]
pub fn exp<L: Lanes>(l: L, x: L::Floats) -> L::Floats {
    let x = l.smaller(l.splat(RANGE.1), l.larger(l.splat(RANGE.0), x));
    let shifted = l.add(l.mul(x, l.splat(core::f32::consts::LOG2_E)), l.splat(ROUND));
    let n = l.sub(shifted, l.splat(ROUND));
    let r = l.sub(l.sub(x, l.mul(n, l.splat(LN_2_HIGH))), l.mul(n, l.splat(LN_2_LOW)));
    let mut p = l.splat(POLYNOMIAL[0]);
    for coefficient in &POLYNOMIAL[1..] {
        p = l.add(l.mul(p, r), l.splat(*coefficient));
    }
    let exponent = l.add_integers(l.bits(shifted), l.splat_integer(127_i32.wrapping_sub(ROUND.to_bits() as i32)));
    let power = l.floats_of_bits(l.shift_left_23(exponent));
    l.mul(l.add(l.add(l.mul(p, l.mul(r, r)), r), l.splat(1.0)), power)
}

/// # Safety
/// The contract of [`arguments::Swiglu`].
#[inline(always)]
pub unsafe fn swiglu<L: Lanes>(l: L, swiglu: &arguments::Swiglu) {
    let limit = l.splat(swiglu.limit);
    let whole = swiglu.len / LANES * LANES;
    for i in (0..whole).step_by(LANES) {
        // SAFETY: gates and linear parts hold `len` elements, `stride` apart; if that is 2, they are interleaved.
        let [gate, linear] = unsafe {
            if swiglu.stride == 2 {
                l.load_pairs(swiglu.gates.add(2 * i))
            } else {
                [l.load(swiglu.gates.add(i)), l.load(swiglu.linears.add(i))]
            }
        };
        let gate = l.smaller(limit, gate);
        let linear = l.smaller(limit, l.larger(l.splat(-swiglu.limit), linear));
        // The negation of the product is the product with the negative.
        let sigmoid_gate = l.div(gate, l.add(l.splat(1.0), exp(l, l.mul(l.splat(-SWIGLU_ALPHA), gate))));
        // SAFETY: the outputs hold `len` elements.
        unsafe { l.store(swiglu.outputs.add(i), l.mul(sigmoid_gate, l.add(linear, l.splat(1.0)))) };
    }
    // SAFETY: what is left of all three.
    unsafe {
        portable::swiglu(&arguments::Swiglu {
            gates: swiglu.gates.add(whole * swiglu.stride),
            linears: swiglu.linears.add(whole * swiglu.stride),
            outputs: swiglu.outputs.add(whole),
            len: swiglu.len - whole,
            ..*swiglu
        });
    }
}

/// # Safety
/// The contract of [`arguments::Quantize`].
#[inline(always)]
pub unsafe fn quantize<L: Lanes>(l: L, quantize: &arguments::Quantize) {
    for block in 0..quantize.len / QUANTIZED_BLOCK {
        // SAFETY: the values and integers of a block, and its scale.
        unsafe {
            let values = quantize.values.add(block * QUANTIZED_BLOCK);
            let values = [l.load(values), l.load(values.add(LANES))];
            let without_sign = l.splat_integer(0x7fff_ffff);
            let [a, b] = [l.and(l.bits(values[0]), without_sign), l.and(l.bits(values[1]), without_sign)];
            let mut magnitudes = [0; LANES];
            l.store_integers(magnitudes.as_mut_ptr(), l.larger_integer(a, b));
            let largest = f32::from_bits(magnitudes.iter().fold(0, |most, bits| *bits.max(&most)) as u32);
            let (scale, inverse) = if (SMALLEST..f32::INFINITY).contains(&largest) {
                (largest / LARGEST, LARGEST / largest)
            } else {
                (if largest < SMALLEST { 0.0 } else { f32::NAN }, f32::NAN)
            };
            *quantize.scales.add(block) = scale;
            for (half, values) in values.into_iter().enumerate() {
                let rounded = if inverse.is_nan() {
                    l.splat(0.0)
                } else {
                    l.sub(l.add(l.mul(values, l.splat(inverse)), l.splat(ROUND)), l.splat(ROUND))
                };
                l.store_i16(quantize.quantized.add(block * QUANTIZED_BLOCK + half * LANES), rounded);
            }
        }
    }
}
