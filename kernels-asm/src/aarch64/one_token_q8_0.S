// Q8_0 for one_token.S.

// v4, v5: the integers of the block at x\row.
.macro integers row
    ldr     q4, [x\row]
    ldr     q5, [x\row, #16]
.endm

// v15: the factors of the blocks at x5 to x8, and on to the next. Scratch: v4.
.macro factors
    ld1     {v4.h}[0], [x5], x10
    ld1     {v4.h}[1], [x6], x10
    ld1     {v4.h}[2], [x7], x10
    ld1     {v4.h}[3], [x8], x10
    fcvtl   v15.4s, v4.4h
.endm
