//! QEMU's board `virt` with a 64-bit RISC-V processor, in machine mode.

use core::arch::global_asm;

global_asm!(
    ".pushsection .boot, \"ax\"",
    ".globl begin",
    "begin:",
    "la sp, stack_end",
    // The floating-point unit.
    "li t0, 0x2000",
    "csrs mstatus, t0",
    "la t0, bss_start",
    "la t1, bss_end",
    "2:",
    "bgeu t0, t1, 3f",
    "sd zero, 0(t0)",
    "addi t0, t0, 8",
    "j 2b",
    "3:",
    "call run",
    ".popsection",
);

/// Prints a byte.
pub fn print(byte: u8) {
    const SERIAL: *mut u8 = 0x1000_0000 as *mut u8;
    const STATUS: *const u8 = 0x1000_0005 as *const u8;
    const READY: u8 = 1 << 5;
    // SAFETY: the board's serial port, a 16550.
    unsafe {
        while STATUS.read_volatile() & READY == 0 {}
        SERIAL.write_volatile(byte);
    }
}

/// Ends the emulator with 0, or 1 if something went wrong.
pub fn end(is_well: bool) -> ! {
    const TEST: *mut u32 = 0x10_0000 as *mut u32;
    // SAFETY: the board's test device.
    unsafe { TEST.write_volatile(if is_well { 0x5555 } else { 0x1_3333 }) };
    loop {
        core::hint::spin_loop();
    }
}
