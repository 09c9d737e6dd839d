//! QEMU's board `virt` with a 64-bit Arm processor, which begins at exception level 1.

use core::arch::{asm, global_asm};

// Memory is uncached, and must not be read across its words, until there is a page table: of the first two gigabytes the
// lower one is devices, the upper one memory (Arm Architecture Reference Manual, D8.3).
global_asm!(
    ".pushsection .boot, \"ax\"",
    ".globl begin",
    "begin:",
    "adrp x0, stack_end",
    "add x0, x0, :lo12:stack_end",
    "mov sp, x0",
    // Vector registers.
    "mov x0, #(3 << 20)",
    "msr cpacr_el1, x0",
    // Attribute 0 is a device, 1 is memory with caches.
    "mov x0, #0xff00",
    "msr mair_el1, x0",
    // 39 bits of address, tables in cached memory.
    "ldr x0, =0x80803519",
    "msr tcr_el1, x0",
    "adrp x0, table",
    "msr ttbr0_el1, x0",
    "isb",
    "mrs x0, sctlr_el1",
    "ldr x1, =0x1005",
    "orr x0, x0, x1",
    "msr sctlr_el1, x0",
    "isb",
    "adrp x0, bss_start",
    "add x0, x0, :lo12:bss_start",
    "adrp x1, bss_end",
    "add x1, x1, :lo12:bss_end",
    "2:",
    "cmp x0, x1",
    "b.hs run",
    "str xzr, [x0], #8",
    "b 2b",
    ".balign 4096",
    "table:",
    ".quad 0x0060000000000401, 0x0000000040000705",
    ".skip 4096 - 16",
    ".popsection",
);

/// Prints a byte.
pub fn print(byte: u8) {
    const SERIAL: *mut u32 = 0x0900_0000 as *mut u32;
    const FLAGS: *const u32 = 0x0900_0018 as *const u32;
    const FULL: u32 = 1 << 5;
    // SAFETY: the board's serial port, a PL011.
    unsafe {
        while FLAGS.read_volatile() & FULL != 0 {}
        SERIAL.write_volatile(u32::from(byte));
    }
}

/// Ends the emulator with 0, or 1 if something went wrong: the operation SYS_EXIT of Arm's semihosting.
pub fn end(is_well: bool) -> ! {
    let block: [u64; 2] = [0x20026, u64::from(!is_well)];
    // SAFETY: the emulator reads the block, and does not come back.
    unsafe { asm!("hlt #0xf000", in("x0") 0x18, in("x1") block.as_ptr(), options(noreturn)) }
}
