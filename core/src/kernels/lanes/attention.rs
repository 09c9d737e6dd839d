use core::array;
use core::ops::Range;

use half::{bf16, f16};

use super::activation::exp;
use super::{LANES, Lanes};
use crate::kernels::{ATTENTION_BLOCK, ATTENTION_TOKENS, KEY_TILE, arguments, exponential, portable};

/// An element of the cache.
pub trait Element: portable::Element {
    /// Sixteen of them, at any alignment.
    ///
    /// # Safety
    /// They are there.
    unsafe fn load<L: Lanes>(l: L, from: *const Self) -> L::Floats;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(l: L, from: *const Self) -> L::Floats {
        // SAFETY: our own contract.
        unsafe { l.load(from) }
    }
}

impl Element for f16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(l: L, from: *const Self) -> L::Floats {
        // SAFETY: our own contract; the type is its bits.
        unsafe { l.load_f16(from.cast()) }
    }
}

impl Element for bf16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(l: L, from: *const Self) -> L::Floats {
        // SAFETY: our own contract; the type is its bits.
        unsafe { l.load_bf16(from.cast()) }
    }
}

impl Element for i8 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(l: L, from: *const Self) -> L::Floats {
        // SAFETY: our own contract.
        unsafe { l.load_i8(from.cast()) }
    }
}

/// [`portable::attend`], with `HEADS` query heads and [`ATTENTION_TOKENS`] tokens at a time, which share what is read from the
/// cache: a block of it stays near for all of them.
///
/// # Safety
/// The contract of [`arguments::Attend`].
#[inline(always)]
pub unsafe fn attend<L: Lanes, E: Element, const HEADS: usize>(l: L, attend: &arguments::Attend) {
    // SAFETY: our own contract; all tokens and heads are below their numbers.
    unsafe {
        if !attend.head_dim.is_multiple_of(LANES) {
            return portable::attend::<E>(attend);
        }
        let whole = attend.heads / HEADS * HEADS;
        for token in (0..attend.tokens).step_by(ATTENTION_TOKENS) {
            let tokens = token..attend.tokens.min(token + ATTENTION_TOKENS);
            for head in (0..whole).step_by(HEADS) {
                some_heads::<L, E, HEADS>(l, attend, tokens.clone(), head);
            }
            for head in whole..attend.heads {
                some_heads::<L, E, 1>(l, attend, tokens.clone(), head);
            }
        }
    }
}

/// What the heads of a token have come to.
#[derive(Clone, Copy)]
struct Running<L: Lanes, const HEADS: usize> {
    maximums: [f32; HEADS],
    weight_sums: [L::Floats; HEADS],
}

/// # Safety
/// The contract of [`arguments::Attend`]; there are those tokens, at most [`ATTENTION_TOKENS`], and so many heads from `head`
/// on, of a multiple of sixteen elements.
#[inline(always)]
unsafe fn some_heads<L: Lanes, E: Element, const HEADS: usize>(
    l: L,
    attend: &arguments::Attend,
    tokens: Range<usize>,
    head: usize,
) {
    let (head_dim, count) = (attend.head_dim, tokens.len());
    // SAFETY: queries, outputs and sinks hold those tokens and heads.
    let (queries, outputs, sinks) = unsafe {
        (
            attend.queries.add(tokens.start * attend.queries_stride + head * head_dim),
            attend.outputs.add(tokens.start * attend.outputs_stride + head * head_dim),
            array::from_fn(|h| *attend.sinks.add(head + h)),
        )
    };
    // The sinks are the first to be counted: a weight is exp(0), and there is no value.
    let weight_sums = [l.first(1, l.splat(1.0), l.splat(0.0)); HEADS];
    let mut running = [Running::<L, HEADS> { maximums: sinks, weight_sums }; ATTENTION_TOKENS];
    for token in 0..count {
        for d in (0..HEADS * head_dim).step_by(LANES) {
            // SAFETY: the outputs of a token hold those heads.
            unsafe { l.store(outputs.add(token * attend.outputs_stride + d), l.splat(0.0)) };
        }
    }
    let blocks =
        attend.seen(tokens.start).start / ATTENTION_BLOCK..attend.seen(tokens.end - 1).end.div_ceil(ATTENTION_BLOCK);
    for block in blocks {
        let begin = block * ATTENTION_BLOCK;
        let mut is_near = false;
        for (token, running) in running[..count].iter_mut().enumerate() {
            let visible = attend.seen(tokens.start + token);
            let seen = visible.start.max(begin)..visible.end.min(begin + ATTENTION_BLOCK);
            if !seen.is_empty() {
                let seen = seen.start - begin..seen.end - begin;
                // SAFETY: our own contract; the token sees those positions.
                unsafe {
                    let (queries, outputs) =
                        (queries.add(token * attend.queries_stride), outputs.add(token * attend.outputs_stride));
                    some_positions::<L, E, HEADS>(l, attend, (queries, outputs), (begin, seen, is_near), running);
                }
                is_near = true;
            }
        }
    }
    for (token, Running { weight_sums, .. }) in running[..count].iter().enumerate() {
        for (h, sums) in weight_sums.iter().enumerate() {
            let inverse = l.splat(1.0 / l.sum(*sums));
            for d in (0..head_dim).step_by(LANES) {
                // SAFETY: the outputs of a token hold those heads.
                unsafe {
                    let output = outputs.add(token * attend.outputs_stride + h * head_dim + d);
                    l.store(output, l.mul(l.load(output), inverse));
                }
            }
        }
    }
}

/// Adds to the outputs of some heads of a token the positions `seen` of the block that begins at `begin`. Unless this block
/// is near already, what the next one holds is asked for.
///
/// # Safety
/// The contract of [`arguments::Attend`]; the pointers are to the queries and outputs of these heads, and the token sees the
/// positions.
#[inline(always)]
unsafe fn some_positions<L: Lanes, E: Element, const HEADS: usize>(
    l: L,
    attend: &arguments::Attend,
    (queries, outputs): (*const f32, *mut f32),
    (begin, seen, is_near): (usize, Range<usize>, bool),
    Running { maximums, weight_sums }: &mut Running<L, HEADS>,
) {
    let head_dim = attend.head_dim;
    let (keys, values) = (attend.keys.cast::<E>(), attend.values.cast::<E>());
    // Asking for what is there already costs less than a branch.
    let ahead = if is_near { 0 } else { ATTENTION_BLOCK * head_dim };
    let scales_ahead = if is_near { 0 } else { 2 * ATTENTION_BLOCK };
    let tiles = seen.start / KEY_TILE * KEY_TILE..seen.end.next_multiple_of(KEY_TILE);
    // The capacity is a multiple of the block, so a block lies in one piece.
    let slot = begin % attend.capacity;
    let scales = attend.scales.wrapping_add(2 * slot);
    let mut scores = [[0.0; ATTENTION_BLOCK]; HEADS];

    for tile in tiles.clone().step_by(KEY_TILE) {
        let mut sums = [l.splat(0.0); HEADS];
        for d in 0..head_dim {
            // SAFETY: the cache is there up to the tile of the last visible position; a query holds `head_dim`
            // elements.
            unsafe {
                let keys = keys.add((slot + tile) * head_dim + d * KEY_TILE);
                l.prefetch_far(keys.wrapping_add(ahead).cast());
                let keys = E::load(l, keys);
                for (h, sum) in sums.iter_mut().enumerate() {
                    *sum = l.fma(l.splat(*queries.add(h * head_dim + d)), keys, *sum);
                }
            }
        }
        if E::SCALED {
            // SAFETY: there are scales for each tile of the cache.
            let scales = unsafe {
                let scales = scales.add(2 * tile);
                l.prefetch_far(scales.wrapping_add(scales_ahead).cast());
                l.prefetch_far(scales.wrapping_add(scales_ahead + KEY_TILE).cast());
                l.load(scales)
            };
            for sum in &mut sums {
                *sum = l.mul(*sum, scales);
            }
        }
        for h in 0..HEADS {
            let tile = &mut scores[h][tile..][..KEY_TILE];
            // SAFETY: sixteen elements.
            unsafe { l.store(tile.as_mut_ptr(), l.mul(sums[h], l.splat(attend.scale))) };
        }
    }

    for h in 0..HEADS {
        let scores = &mut scores[h];
        scores[tiles.start..seen.start].fill(f32::NEG_INFINITY);
        scores[seen.end..tiles.end].fill(f32::NEG_INFINITY);
        let maximum = largest(l, &scores[tiles.clone()], maximums[h]);
        if maximum > maximums[h] {
            let shrink = l.splat(exponential::exp(maximums[h] - maximum));
            maximums[h] = maximum;
            weight_sums[h] = l.mul(weight_sums[h], shrink);
            for d in (0..head_dim).step_by(LANES) {
                // SAFETY: the output holds `head_dim` elements.
                unsafe {
                    let output = outputs.add(h * head_dim + d);
                    l.store(output, l.mul(l.load(output), shrink));
                }
            }
        }
        for tile in scores[tiles.clone()].as_chunks_mut::<LANES>().0 {
            // SAFETY: sixteen elements.
            unsafe {
                let weights = exp(l, l.sub(l.load(tile.as_ptr()), l.splat(maximums[h])));
                l.store(tile.as_mut_ptr(), weights);
            }
        }
        // What is not visible adds zero, which changes no sum of positive numbers.
        scores[tiles.start..seen.start].fill(0.0);
        scores[seen.end..tiles.end].fill(0.0);
        for tile in scores[tiles.clone()].as_chunks::<LANES>().0 {
            // SAFETY: sixteen elements.
            weight_sums[h] = l.add(weight_sums[h], unsafe { l.load(tile.as_ptr()) });
        }
        if E::SCALED {
            for tile in tiles.clone().step_by(KEY_TILE) {
                let weights = scores[tile..][..KEY_TILE].as_mut_ptr();
                // SAFETY: sixteen elements; the scales of a tile's values are behind those of its keys.
                unsafe { l.store(weights, l.mul(l.load(weights), l.load(scales.add(2 * tile + KEY_TILE)))) };
            }
        }
    }

    for d in (0..head_dim).step_by(LANES) {
        // SAFETY: outputs hold `head_dim` elements, and every visible position is in the cache.
        unsafe {
            let mut sums = [l.splat(0.0); HEADS];
            for (h, sum) in sums.iter_mut().enumerate() {
                *sum = l.load(outputs.add(h * head_dim + d));
            }
            for position in seen.clone() {
                let values = values.add((slot + position) * head_dim + d);
                l.prefetch_far(values.wrapping_add(ahead).cast());
                let values = E::load(l, values);
                for h in 0..HEADS {
                    sums[h] = l.fma(l.splat(scores[h][position]), values, sums[h]);
                }
            }
            for (h, sum) in sums.into_iter().enumerate() {
                l.store(outputs.add(h * head_dim + d), sum);
            }
        }
    }
}

/// The largest of some whole tiles of scores and a number before them.
#[inline(always)]
fn largest<L: Lanes>(l: L, scores: &[f32], before: f32) -> f32 {
    let mut most = l.splat(before);
    for tile in scores.as_chunks::<LANES>().0 {
        // SAFETY: sixteen elements.
        most = l.larger(unsafe { l.load(tile.as_ptr()) }, most);
    }
    let mut lanes = [0.0; LANES];
    // SAFETY: sixteen elements.
    unsafe { l.store(lanes.as_mut_ptr(), most) };
    lanes.iter().fold(before, |most, lane| if *lane > most { *lane } else { most })
}
