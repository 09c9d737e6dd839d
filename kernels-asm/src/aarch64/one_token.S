// Four rows of weights times one token; x0 points to a OneToken (one_token.rs). The macros `integers` and `factors` come
// with the format.
//
//   x1 - x4    integers of the next block of each row
//   x5 - x8    its scales
//   x9, x10    bytes from one block to the next: integers, scales
//   x11        the next block of activations
//   x12        blocks left
//   v0, v1     upper bytes of activations
//   v2, v3     lower bytes, without sign
//   v4 - v7    scratch
//   v8 - v11   products of the four rows
//   v12        doubled values of codes
//   v13, v14   15 and 128 in all bytes
//   v15        factors of the four rows
//   v16 - v31  the sixteen lanes of the sums, with a row in each element

.arch_extension dotprod

// The products of a row in v\sum, in four parts.
.macro products row, sum
    integers \row
    add     x\row, x\row, x9
    movi    v\sum\().4s, #0
    sdot    v\sum\().4s, v4.16b, v0.16b
    sdot    v\sum\().4s, v5.16b, v1.16b
    eor     v4.16b, v4.16b, v14.16b
    eor     v5.16b, v5.16b, v14.16b
    shl     v\sum\().4s, v\sum\().4s, #8
    udot    v\sum\().4s, v4.16b, v2.16b
    udot    v\sum\().4s, v5.16b, v3.16b
.endm

// The block that lane v\lane adds.
.macro block lane
    ldp     q0, q1, [x11]
    ldp     q2, q3, [x11, #32]
    products 1, 8
    products 2, 9
    products 3, 10
    products 4, 11
    factors
    ldr     d6, [x11, #64]
    add     x11, x11, #72
    dup     v7.4s, v6.s[0]
    addp    v8.4s, v8.4s, v9.4s
    addp    v10.4s, v10.4s, v11.4s
    addp    v8.4s, v8.4s, v10.4s
    add     v8.4s, v8.4s, v7.4s
    fmul    v15.4s, v15.4s, v6.s[1]
    scvtf   v8.4s, v8.4s
    fmla    v\lane\().4s, v8.4s, v15.4s
.endm

.macro fold onto, from
    fadd    v\onto\().4s, v\onto\().4s, v\from\().4s
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
    ldp     x11, x12, [x0, #80]
    ldr     x13, [x0, #96]
    ldr     q12, [x13]
    movi    v13.16b, #15
    movi    v14.16b, #128
.irp lane, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    movi    v\lane\().4s, #0
.endr
0:
.irp lane, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    block   \lane
    subs    x12, x12, #1
    b.eq    1f
.endr
    b       0b
1:
    fold    16, 24
    fold    17, 25
    fold    18, 26
    fold    19, 27
    fold    20, 28
    fold    21, 29
    fold    22, 30
    fold    23, 31
    fold    16, 20
    fold    17, 21
    fold    18, 22
    fold    19, 23
    fold    16, 18
    fold    17, 19
    fold    16, 17
    add     x0, x0, #104
    str     q16, [x0]
    ldp     d14, d15, [sp, #48]
    ldp     d12, d13, [sp, #32]
    ldp     d10, d11, [sp, #16]
    ldp     d8, d9, [sp], #64
    ret

.purgem integers
.purgem factors
.purgem products
.purgem block
.purgem fold
