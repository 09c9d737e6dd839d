// Eight rows of weights times four tokens with sdot; x0 points to a ManyTokens (many_tokens.rs).
//
//   x1         the next block of the panel
//   x2         blocks left
//   x3 - x6    the next block of each token's activations
//   x7 - x10   its scale
//   x11        sums
//   v0 - v3    weights and scratch
//   v4 - v11   upper or lower bytes of activations, two registers for a token
//   v12 - v15  scratch
//   v16 - v23  products of a block: rows 0 to 3 and 4 to 7 of each token
//   v24 - v31  sums in the same order

.arch_extension dotprod

// v\first and v\second: upper bytes of the activations at x\token.
.macro upper token, first, second
    ldp     q12, q13, [x\token]
    ldp     q14, q15, [x\token, #32]
    uzp2    v\first\().16b, v12.16b, v13.16b
    uzp2    v\second\().16b, v14.16b, v15.16b
.endm

// The lower bytes, 128 less, which gives them a sign; on to the token's next block.
.macro lower token, first, second
    ldp     q12, q13, [x\token]
    ldp     q14, q15, [x\token, #32]
    add     x\token, x\token, #1024
    uzp1    v\first\().16b, v12.16b, v13.16b
    uzp1    v\second\().16b, v14.16b, v15.16b
    eor     v\first\().16b, v\first\().16b, v0.16b
    eor     v\second\().16b, v\second\().16b, v0.16b
.endm

// Four columns of all rows times those of all tokens: in element \i of the registers.
.macro columns at, i, t0, t1, t2, t3
    ldp     q0, q1, [x1, #\at]
    sdot    v16.4s, v0.16b, v\t0\().4b[\i]
    sdot    v17.4s, v1.16b, v\t0\().4b[\i]
    sdot    v18.4s, v0.16b, v\t1\().4b[\i]
    sdot    v19.4s, v1.16b, v\t1\().4b[\i]
    sdot    v20.4s, v0.16b, v\t2\().4b[\i]
    sdot    v21.4s, v1.16b, v\t2\().4b[\i]
    sdot    v22.4s, v0.16b, v\t3\().4b[\i]
    sdot    v23.4s, v1.16b, v\t3\().4b[\i]
.endm

.macro products
    columns 0, 0, 4, 6, 8, 10
    columns 32, 1, 4, 6, 8, 10
    columns 64, 2, 4, 6, 8, 10
    columns 96, 3, 4, 6, 8, 10
    columns 128, 0, 5, 7, 9, 11
    columns 160, 1, 5, 7, 9, 11
    columns 192, 2, 5, 7, 9, 11
    columns 224, 3, 5, 7, 9, 11
.endm

// Adds the products of a token to its sums. v0, v1: corrections; v2, v3: factors.
.macro accumulate scale, low, high, low_sum, high_sum
    ldr     s12, [x\scale]
    add     x\scale, x\scale, #64
    add     v\low\().4s, v\low\().4s, v0.4s
    add     v\high\().4s, v\high\().4s, v1.4s
    fmul    v13.4s, v2.4s, v12.s[0]
    fmul    v14.4s, v3.4s, v12.s[0]
    scvtf   v\low\().4s, v\low\().4s
    scvtf   v\high\().4s, v\high\().4s
    fmla    v\low_sum\().4s, v\low\().4s, v13.4s
    fmla    v\high_sum\().4s, v\high\().4s, v14.4s
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
    upper   3, 4, 5
    upper   4, 6, 7
    upper   5, 8, 9
    upper   6, 10, 11
.irp product, 16, 17, 18, 19, 20, 21, 22, 23
    movi    v\product\().4s, #0
.endr
    products
.irp product, 16, 17, 18, 19, 20, 21, 22, 23
    shl     v\product\().4s, v\product\().4s, #8
.endr
    movi    v0.16b, #128
    lower   3, 4, 5
    lower   4, 6, 7
    lower   5, 8, 9
    lower   6, 10, 11
    products
    ldp     q0, q1, [x1, #256]
    ldp     q2, q3, [x1, #288]
    add     x1, x1, #320
    accumulate 7, 16, 17, 24, 25
    accumulate 8, 18, 19, 26, 27
    accumulate 9, 20, 21, 28, 29
    accumulate 10, 22, 23, 30, 31
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
.purgem accumulate
