//! What each instruction set repeats: the operations as methods, the kernels as functions.

/// The operations of [`super::Lanes`] from expressions of intrinsics.
macro_rules! operations {
    () => {};
    (fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty = $body:expr; $($rest:tt)*) => {
        #[inline(always)]
        #[allow(unused_unsafe, reason = "a target may have the instructions anyway")]
        fn $name(self, $($argument: $type),*) -> $result {
            // SAFETY: `self` exists only where the processor has these instructions.
            unsafe { $body }
        }
        operations! { $($rest)* }
    };
    (unsafe fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty = $body:expr; $($rest:tt)*) => {
        #[inline(always)]
        #[allow(unused_unsafe, reason = "a target may have the instructions anyway")]
        unsafe fn $name(self, $($argument: $type),*) -> $result {
            // SAFETY: `self` exists only where the processor has these instructions; the caller vouches for the pointers.
            unsafe { $body }
        }
        operations! { $($rest)* }
    };
}

/// A kernel set: the kernels of [`super`], inlined where the instructions are enabled.
macro_rules! entry_points {
    (
        $lanes:expr, $name:literal, $requires:expr, $features:literal,
        float tokens $tokens:literal, integer tokens $integer_tokens:literal, few tokens $few_tokens:literal, heads $heads:literal
    ) => {
        /// The kernels with these instructions.
        pub const SET: KernelSet = KernelSet {
            name: $name,
            requires: $requires,
            matmul_f32: entry_points!(@ $lanes, $features Matmul matmul::<_, lanes::F32, $tokens>),
            matmul_f16: entry_points!(@ $lanes, $features Matmul matmul::<_, lanes::F16, $tokens>),
            matmul_bf16: entry_points!(@ $lanes, $features Matmul matmul::<_, lanes::Bf16, $tokens>),
            matmul_q8_0: entry_points!(@ $lanes, $features Matmul matmul::<_, lanes::Q8_0, $tokens>),
            matmul_mxfp4: entry_points!(@ $lanes, $features Matmul matmul::<_, lanes::Mxfp4, $tokens>),
            matmul_q8_0_quantized:
                entry_points!(@ $lanes, $features Matmul matmul_q8_0_quantized::<_, $integer_tokens>),
            matmul_mxfp4_quantized:
                entry_points!(@ $lanes, $features Matmul matmul_mxfp4_quantized::<_, $integer_tokens>),
            few_tokens: $few_tokens,
            matmul_q8_0_few: entry_points!(@ $lanes, $features Matmul matmul_q8_0_few::<_>),
            matmul_mxfp4_few: entry_points!(@ $lanes, $features Matmul matmul_mxfp4_few::<_>),
            quantize: entry_points!(@ $lanes, $features Quantize quantize::<_>),
            swiglu: entry_points!(@ $lanes, $features Swiglu swiglu::<_>),
            attend_f32: entry_points!(@ $lanes, $features Attend attend::<_, f32, $heads>),
            attend_f16: entry_points!(@ $lanes, $features Attend attend::<_, half::f16, $heads>),
            attend_bf16: entry_points!(@ $lanes, $features Attend attend::<_, half::bf16, $heads>),
            attend_int8: entry_points!(@ $lanes, $features Attend attend::<_, i8, $heads>),
        };
    };
    (@ $lanes:expr, $features:literal $arguments:ident $($kernel:tt)*) => {{
        /// # Safety
        /// The contract of the argument block; the processor has the instructions.
        #[target_feature(enable = $features)]
        unsafe fn kernel(arguments: &arguments::$arguments) {
            // SAFETY: our own contract.
            unsafe { lanes::$($kernel)*($lanes, arguments) }
        }
        kernel
    }};
}
