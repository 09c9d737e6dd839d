//! Sums of products of bytes, `sdot` and `udot`, and products of matrices of bytes, `smmla`.
//!
//! Activations have sixteen bits: x = 256 h + l, with h a byte with sign, and l one without. Where only bytes with sign
//! can be multiplied, weights or l are moved by 128, and the sum is corrected by a multiple of the sum of the other
//! factors, which is known before.

mod many_tokens;
mod one_token;
#[cfg(test)]
mod saved_registers;
mod weights;

use many_tokens::{Dotprod, I8mm, Meet};
use ossicle_core::kernels::arguments::Matmul;
use ossicle_core::kernels::{CpuFeatures, KernelSet, NEON};
use weights::Weights;

/// The kernels of the core, and those that `sdot` makes faster.
pub const DOTPROD: KernelSet = KernelSet {
    name: "neon-dotprod",
    requires: CpuFeatures::DOTPROD,
    matmul_q8_0_quantized: matmul_q8_0::<Dotprod>,
    matmul_mxfp4_quantized: matmul_mxfp4::<Dotprod>,
    // Those two choose by themselves.
    few_tokens: 0,
    ..NEON
};

/// The same with `smmla` where many tokens are multiplied.
pub const I8MM: KernelSet = KernelSet {
    name: "neon-i8mm",
    requires: CpuFeatures::I8MM,
    matmul_q8_0_quantized: matmul_q8_0::<I8mm>,
    matmul_mxfp4_quantized: matmul_mxfp4::<I8mm>,
    // Those two choose by themselves.
    few_tokens: 0,
    ..NEON
};

/// # Safety
/// The contract of [`Matmul`], for Q8_0 and quantized activations; the processor has the instructions of `M`, and `sdot`.
unsafe fn matmul_q8_0<M: Meet>(arguments: &Matmul) {
    // SAFETY: our own contract.
    unsafe { matmul::<M>(arguments, &Weights::q8_0(arguments)) }
}

/// # Safety
/// The contract of [`Matmul`], for MXFP4 and quantized activations; the processor has the instructions of `M`, and `sdot`.
unsafe fn matmul_mxfp4<M: Meet>(arguments: &Matmul) {
    // SAFETY: our own contract.
    unsafe { matmul::<M>(arguments, &Weights::mxfp4(arguments)) }
}

/// # Safety
/// The contract of [`Matmul`], for quantized activations; the weights are its weights; the processor has the instructions
/// of `M`, and `sdot`.
unsafe fn matmul<M: Meet>(matmul: &Matmul, weights: &Weights) {
    /// From so many tokens on it pays to rearrange weights.
    const FEW_TOKENS: usize = 4;
    // SAFETY: our own contract.
    unsafe {
        if matmul.tokens < FEW_TOKENS && matmul.columns <= one_token::MOST_COLUMNS {
            for token in 0..matmul.tokens {
                one_token::one_token(matmul, weights, token);
            }
        } else {
            many_tokens::many_tokens::<M>(matmul, weights);
        }
    }
}

/// The row of activations that a token uses.
///
/// # Safety
/// The contract of [`Matmul`]; there is such a token.
unsafe fn input_row(matmul: &Matmul, token: usize) -> usize {
    // SAFETY: the index holds one entry for each token.
    if matmul.index.is_null() { token } else { unsafe { *matmul.index.add(token) as usize } }
}
