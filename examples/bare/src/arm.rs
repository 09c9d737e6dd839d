//! Arm's board MPS2 with a Cortex-M7 (application note 500).

use core::arch::{asm, global_asm};

// The processor takes its stack and its first address from the start of memory.
global_asm!(
    ".pushsection .vectors, \"a\"",
    ".word stack_end, begin",
    ".popsection",
    ".pushsection .text.begin, \"ax\"",
    ".globl begin",
    ".thumb_func",
    "begin:",
    // The floating-point unit.
    "ldr r0, =0xe000ed88",
    "ldr r1, [r0]",
    "orr r1, r1, #(15 << 20)",
    "str r1, [r0]",
    "dsb",
    "isb",
    "ldr r0, =bss_start",
    "ldr r1, =bss_end",
    "movs r2, #0",
    "2:",
    "cmp r0, r1",
    "bhs 3f",
    "str r2, [r0], #4",
    "b 2b",
    "3:",
    "bl run",
    ".popsection",
);

const SERIAL: *mut u32 = 0x4000_4000 as *mut u32;
const STATUS: *const u32 = 0x4000_4004 as *const u32;
const CONTROL: *mut u32 = 0x4000_4008 as *mut u32;
const FULL: u32 = 1;
const TRANSMIT: u32 = 1;

/// Prints a byte.
pub fn print(byte: u8) {
    // SAFETY: the board's first serial port, as of Arm's Cortex-M System Design Kit.
    unsafe {
        CONTROL.write_volatile(TRANSMIT);
        while STATUS.read_volatile() & FULL != 0 {}
        SERIAL.write_volatile(u32::from(byte));
    }
}

/// Ends the emulator with 0, or 1 if something went wrong: the operation SYS_EXIT_EXTENDED of Arm's semihosting.
pub fn end(is_well: bool) -> ! {
    let block: [u32; 2] = [0x20026, u32::from(!is_well)];
    // SAFETY: the emulator reads the block, and does not come back.
    unsafe { asm!("bkpt #0xab", in("r0") 0x20, in("r1") block.as_ptr(), options(noreturn)) }
}
