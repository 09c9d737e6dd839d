//! A PC: QEMU and GRUB start it by the Multiboot specification 0.6.96, in 32-bit mode.

use core::arch::{asm, global_asm};

// Long mode, with the first gigabyte where it is, and the registers of AVX: Intel 64 and IA-32 Architectures Software
// Developer's Manual, volume 3, section 11.8.5, and volume 1, section 14.3.
global_asm!(
    ".pushsection .boot, \"awx\"",
    ".code32",
    ".balign 4",
    "header:",
    ".long 0x1badb002, 0x10000, -(0x1badb002 + 0x10000)",
    ".long header, image_start, image_end, zeroed_end, begin",
    "begin:",
    "mov esp, offset stack_end",
    // Page tables: one of each level, and 512 pages of 2 MiB.
    "mov eax, offset tables + 0x1000 + 3",
    "mov [tables], eax",
    "add eax, 0x1000",
    "mov [tables + 0x1000], eax",
    "mov eax, 0x83",
    "mov edi, offset tables + 0x2000",
    "2:",
    "mov [edi], eax",
    "add eax, 0x200000",
    "add edi, 8",
    "cmp edi, offset tables + 0x3000",
    "jne 2b",
    "mov eax, offset tables",
    "mov cr3, eax",
    // Physical addresses of more than 32 bits, SSE, XSAVE.
    "mov eax, cr4",
    "or eax, 0x40620",
    "mov cr4, eax",
    // Long mode enabled.
    "mov ecx, 0xc0000080",
    "rdmsr",
    "or eax, 0x100",
    "wrmsr",
    // Paging, and a coprocessor that is not emulated.
    "mov eax, cr0",
    "and eax, 0xfffffffb",
    "or eax, 0x80000003",
    "mov cr0, eax",
    "lgdt [descriptors_pointer]",
    // A far jump to 8:longer.
    ".byte 0xea",
    ".long longer",
    ".word 8",
    ".code64",
    "longer:",
    "mov ax, 16",
    "mov ds, ax",
    "mov es, ax",
    "mov ss, ax",
    // The registers that the processor has, of those of x87, SSE, AVX and AVX-512.
    "mov eax, 13",
    "xor ecx, ecx",
    "cpuid",
    "and eax, 0xe7",
    "xor edx, edx",
    "xor ecx, ecx",
    "xsetbv",
    "xor ebp, ebp",
    "call run",
    ".balign 8",
    "descriptors:",
    ".quad 0, 0x00209a0000000000, 0x0000920000000000",
    "descriptors_pointer:",
    ".word 23",
    ".long descriptors",
    ".popsection",
    ".pushsection .bss.tables, \"aw\", @nobits",
    ".balign 4096",
    "tables:",
    ".skip 0x3000",
    ".popsection",
);

// What the compiler takes from a C library.
global_asm!(
    ".globl memcpy, memmove, memset, memcmp, bcmp",
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    "memmove:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "sub rax, rsi",
    "cmp rax, rdx",
    "mov rax, rdi",
    "jb 2f",
    "rep movsb",
    "ret",
    // The destination begins within the source: from the end.
    "2:",
    "lea rdi, [rdi + rdx - 1]",
    "lea rsi, [rsi + rdx - 1]",
    "std",
    "rep movsb",
    "cld",
    "ret",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    "memcmp:",
    "bcmp:",
    // The comparison subtracts what the destination points to; no bytes at all are equal, which the `xor` says.
    "xchg rdi, rsi",
    "mov rcx, rdx",
    "xor eax, eax",
    "repe cmpsb",
    "je 2f",
    "sbb eax, eax",
    "or eax, 1",
    "2:",
    "ret",
);

/// # Safety
/// The port's device takes it.
unsafe fn write_port(port: u16, byte: u8) {
    // SAFETY: no memory is touched.
    unsafe { asm!("out dx, al", in("dx") port, in("al") byte, options(nomem, nostack, preserves_flags)) };
}

/// Prints a byte.
pub fn print(byte: u8) {
    const SERIAL: u16 = 0x3f8;
    const STATUS: u16 = SERIAL + 5;
    const READY: u8 = 1 << 5;
    // SAFETY: the first serial port of a PC.
    unsafe {
        let mut status = 0u8;
        while status & READY == 0 {
            asm!("in al, dx", in("dx") STATUS, out("al") status, options(nomem, nostack, preserves_flags));
        }
        write_port(SERIAL, byte);
    }
}

/// Ends the emulator with 33, or 35 if something went wrong.
pub fn end(is_well: bool) -> ! {
    // SAFETY: QEMU's isa-debug-exit, which nothing else uses.
    unsafe { write_port(0xf4, if is_well { 16 } else { 17 }) };
    loop {
        core::hint::spin_loop();
    }
}
