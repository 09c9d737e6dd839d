//! Every body leaves the registers of its caller as they were: x19 to x29, and d8 to d15. Without its stack
//! pointer the test would not come back.

use core::arch::naked_asm;
use core::ffi::c_void;
use core::ptr;
use std::arch::is_aarch64_feature_detected;
use std::println;

use super::many_tokens::{self, ManyTokens, PanelBlock};
use super::one_token::{self, Activations, OneToken};

/// Calls a body with patterns in the registers that it has to save; how many of them it changed.
///
/// # Safety
/// The body may be called with that argument block.
#[unsafe(naked)]
unsafe extern "C" fn changed_registers(body: unsafe extern "C" fn(*const c_void), arguments: *const c_void) -> usize {
    naked_asm!(include_str!("saved_registers.S"), options(raw))
}

/// A body that forgets to save two registers.
#[unsafe(naked)]
unsafe extern "C" fn careless(_: *const c_void) {
    naked_asm!("movi d9, #0", "mov x27, #0", "ret")
}

#[test]
fn a_body_that_changes_saved_registers_is_noticed() {
    // SAFETY: the body takes anything.
    assert_eq!(unsafe { changed_registers(careless, ptr::null()) }, 2);
}

#[test]
fn one_token_saves_registers() {
    if !is_aarch64_feature_detected!("dotprod") {
        return println!("not tested: this processor has no sdot");
    }
    for body in [one_token::q8_0, one_token::mxfp4] {
        let inputs = [Activations { high: [1; 32], low: [2; 32], correction: 3, scale: 4.0 }; 20];
        let bytes = [5u8; 20 * 34];
        let mut arguments = OneToken {
            integers: [bytes[2..].as_ptr(); 4],
            scales: [bytes.as_ptr(); 4],
            integers_stride: 34,
            scales_stride: 34,
            inputs: inputs.as_ptr(),
            blocks: 20,
            doubled: [0; 16].as_ptr(),
            outputs: [0.0; 4],
        };
        // SAFETY: a pointer is passed like a reference; the blocks are there.
        let changed = unsafe {
            let body =
                core::mem::transmute::<unsafe extern "C" fn(&mut OneToken), unsafe extern "C" fn(*const c_void)>(body);
            changed_registers(body, (&raw mut arguments).cast())
        };
        assert_eq!(changed, 0);
    }
}

#[test]
fn many_tokens_saves_registers() {
    let bodies: [(_, unsafe extern "C" fn(&ManyTokens)); 2] = [
        (is_aarch64_feature_detected!("dotprod"), many_tokens::dotprod),
        (is_aarch64_feature_detected!("i8mm"), many_tokens::i8mm),
    ];
    for (supported, body) in bodies {
        if !supported {
            println!("not tested: this processor has no sdot or no smmla");
            continue;
        }
        let panel = [PanelBlock::EMPTY; 2];
        let (inputs, scales) = ([1i16; 32 * 17], [1f32; 17]);
        let mut sums = [0.0; 32];
        let arguments = ManyTokens {
            panel: panel.as_ptr(),
            blocks: 2,
            inputs: [inputs.as_ptr(); 4],
            input_scales: [scales.as_ptr(); 4],
            sums: &mut sums,
        };
        // SAFETY: a pointer is passed like a reference; panel, activations and sums are there.
        let changed = unsafe {
            let body =
                core::mem::transmute::<unsafe extern "C" fn(&ManyTokens), unsafe extern "C" fn(*const c_void)>(body);
            changed_registers(body, (&raw const arguments).cast())
        };
        assert_eq!(changed, 0);
    }
}
