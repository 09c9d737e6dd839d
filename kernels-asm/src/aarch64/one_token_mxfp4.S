// MXFP4 for one_token.S.

// v4, v5: the doubled values of the codes at x\row, those of lower halves of bytes first.
.macro integers row
    ldr     q4, [x\row]
    ushr    v5.16b, v4.16b, #4
    and     v4.16b, v4.16b, v13.16b
    tbl     v5.16b, {v12.16b}, v5.16b
    tbl     v4.16b, {v12.16b}, v4.16b
.endm

// v15: the factors of the blocks at x5 to x8, and on to the next: 2^(e - 128), half for the doubled codes. 2^-127 has bits
// of its own. Scratch: v4, v5.
.macro factors
    ld1     {v4.b}[0], [x5], x10
    ld1     {v4.b}[1], [x6], x10
    ld1     {v4.b}[2], [x7], x10
    ld1     {v4.b}[3], [x8], x10
    movi    v5.4s, #0x40, lsl #16
    ushll   v4.8h, v4.8b, #0
    ushll   v4.4s, v4.4h, #0
    shl     v4.4s, v4.4s, #23
    smax    v4.4s, v4.4s, v5.4s
    fmov    v5.4s, #0.5
    fmul    v15.4s, v4.4s, v5.4s
.endm
