// Eight rows of weights times four tokens with smmla; x0 points to a ManyTokens (many_tokens.rs).
//
//   x1         the next block of the panel
//   x2         blocks left
//   x3 - x6    the next block of each token's activations
//   x7 - x10   its scale
//   x11        sums
//   v0 - v3    weights: two rows in a register
//   v4 - v11   upper or lower bytes of activations: eight columns of two tokens in a register
//   v12 - v15  scratch
//   v16 - v23  products of a block: of two rows and two tokens, row by row; tokens 0 and 1, tokens 2 and 3, then the next
//              two rows
//   v24 - v31  sums in the same order

.arch_extension i8mm

// v\to: upper bytes of eight activations of two tokens.
.macro upper to, one, other, at
    ldr     q12, [x\one, #\at]
    ldr     q13, [x\other, #\at]
    uzp2    v\to\().16b, v12.16b, v13.16b
.endm

// The lower bytes, 128 less, which gives them a sign.
.macro lower to, one, other, at
    ldr     q12, [x\one, #\at]
    ldr     q13, [x\other, #\at]
    uzp1    v\to\().16b, v12.16b, v13.16b
    eor     v\to\().16b, v\to\().16b, v0.16b
.endm

// Eight columns of all rows times those of tokens 0 and 1, and of tokens 2 and 3.
.macro columns at, first, second
    ldp     q0, q1, [x1, #\at]
    ldp     q2, q3, [x1, #\at + 32]
    smmla   v16.4s, v0.16b, v\first\().16b
    smmla   v17.4s, v0.16b, v\second\().16b
    smmla   v18.4s, v1.16b, v\first\().16b
    smmla   v19.4s, v1.16b, v\second\().16b
    smmla   v20.4s, v2.16b, v\first\().16b
    smmla   v21.4s, v2.16b, v\second\().16b
    smmla   v22.4s, v3.16b, v\first\().16b
    smmla   v23.4s, v3.16b, v\second\().16b
.endm

.macro products
    columns 0, 4, 8
    columns 64, 5, 9
    columns 128, 6, 10
    columns 192, 7, 11
.endm

// v\to: the scales of two tokens, twice; on to the next.
.macro scales to, one, other
    ldr     s\to, [x\one]
    ldr     s12, [x\other]
    add     x\one, x\one, #64
    add     x\other, x\other, #64
    zip1    v\to\().4s, v\to\().4s, v12.4s
    dup     v\to\().2d, v\to\().d[0]
.endm

// Adds the products of two rows to their sums. v0, v1: corrections; v2, v3: factors; v14, v15: scales.
.macro accumulate zip, corrections, factors, first, second, first_sum, second_sum
    \zip    v4.4s, v\corrections\().4s, v\corrections\().4s
    \zip    v5.4s, v\factors\().4s, v\factors\().4s
    add     v\first\().4s, v\first\().4s, v4.4s
    add     v\second\().4s, v\second\().4s, v4.4s
    fmul    v6.4s, v5.4s, v14.4s
    fmul    v7.4s, v5.4s, v15.4s
    scvtf   v\first\().4s, v\first\().4s
    scvtf   v\second\().4s, v\second\().4s
    fmla    v\first_sum\().4s, v\first\().4s, v6.4s
    fmla    v\second_sum\().4s, v\second\().4s, v7.4s
.endm

    stp     d8, d9, [sp, #-64]!
    stp     d10, d11, [sp, #16]
    stp     d12, d13, [sp, #32]
    stp     d14, d15, [sp, #48]
    ldp     x1, x2, [x0]
    ldp     x3, x4, [x0, #16]
    ldp     x5, x6, [x0, #32]
    ldp     x7, x8, [x0, #48]
    ldp     x9, x10, [x0, #64]
    ldr     x11, [x0, #80]
    ldp     q24, q25, [x11]
    ldp     q26, q27, [x11, #32]
    ldp     q28, q29, [x11, #64]
    ldp     q30, q31, [x11, #96]
0:
    upper   4, 3, 4, 0
    upper   5, 3, 4, 16
    upper   6, 3, 4, 32
    upper   7, 3, 4, 48
    upper   8, 5, 6, 0
    upper   9, 5, 6, 16
    upper   10, 5, 6, 32
    upper   11, 5, 6, 48
.irp product, 16, 17, 18, 19, 20, 21, 22, 23
    movi    v\product\().4s, #0
.endr
    products
.irp product, 16, 17, 18, 19, 20, 21, 22, 23
    shl     v\product\().4s, v\product\().4s, #8
.endr
    movi    v0.16b, #128
    lower   4, 3, 4, 0
    lower   5, 3, 4, 16
    lower   6, 3, 4, 32
    lower   7, 3, 4, 48
    lower   8, 5, 6, 0
    lower   9, 5, 6, 16
    lower   10, 5, 6, 32
    lower   11, 5, 6, 48
.irp token, 3, 4, 5, 6
    add     x\token, x\token, #1024
.endr
    products
    ldp     q0, q1, [x1, #256]
    ldp     q2, q3, [x1, #288]
    add     x1, x1, #320
    scales  14, 7, 8
    scales  15, 9, 10
    accumulate zip1, 0, 2, 16, 17, 24, 25
    accumulate zip2, 0, 2, 18, 19, 26, 27
    accumulate zip1, 1, 3, 20, 21, 28, 29
    accumulate zip2, 1, 3, 22, 23, 30, 31
    subs    x2, x2, #1
    b.ne    0b
    stp     q24, q25, [x11]
    stp     q26, q27, [x11, #32]
    stp     q28, q29, [x11, #64]
    stp     q30, q31, [x11, #96]
    ldp     d14, d15, [sp, #48]
    ldp     d12, d13, [sp, #32]
    ldp     d10, d11, [sp, #16]
    ldp     d8, d9, [sp], #64
    ret

.purgem upper
.purgem lower
.purgem columns
.purgem products
.purgem scales
.purgem accumulate
