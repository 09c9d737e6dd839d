// Calls x0 with the argument x1, with a number of its own in each of the registers that a function has to save: x19 to x29
// and d8 to d15. Returns how many of these changed.

.macro general instruction
.irp n, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29
    \instruction \n
.endr
.endm

.macro vectors instruction
.irp n, 8, 9, 10, 11, 12, 13, 14, 15
    \instruction \n
.endr
.endm

.macro fill_general n
    mov     x\n, #\n
.endm

.macro fill_vector n
    mov     x9, #\n
    fmov    d\n, x9
.endm

.macro compare_general n
    cmp     x\n, #\n
    cinc    x0, x0, ne
.endm

.macro compare_vector n
    fmov    x9, d\n
    cmp     x9, #\n
    cinc    x0, x0, ne
.endm

    stp     x29, x30, [sp, #-160]!
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    stp     d8, d9, [sp, #96]
    stp     d10, d11, [sp, #112]
    stp     d12, d13, [sp, #128]
    stp     d14, d15, [sp, #144]
    vectors fill_vector
    general fill_general
    mov     x10, x0
    mov     x0, x1
    blr     x10
    mov     x0, #0
    general compare_general
    vectors compare_vector
    ldp     d14, d15, [sp, #144]
    ldp     d12, d13, [sp, #128]
    ldp     d10, d11, [sp, #112]
    ldp     d8, d9, [sp, #96]
    ldp     x27, x28, [sp, #80]
    ldp     x25, x26, [sp, #64]
    ldp     x23, x24, [sp, #48]
    ldp     x21, x22, [sp, #32]
    ldp     x19, x20, [sp, #16]
    ldp     x29, x30, [sp], #160
    ret

.purgem general
.purgem vectors
.purgem fill_general
.purgem fill_vector
.purgem compare_general
.purgem compare_vector
