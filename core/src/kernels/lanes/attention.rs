use core::array;

use super::activation::exp;
use super::{LANES, Lanes};
use crate::kernels::{ATTENTION_BLOCK, KEY_TILE, arguments, exponential, portable};

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

impl Element for u16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(l: L, from: *const Self) -> L::Floats {
        // SAFETY: our own contract.
        unsafe { l.load_f16(from) }
    }
}

/// [`portable::attend`], with `HEADS` query heads at a time, which share what is read from the cache.
///
/// # Safety
/// The contract of [`arguments::Attend`].
#[inline(always)]
pub unsafe fn attend<L: Lanes, E: Element, const HEADS: usize>(l: L, attend: &arguments::Attend) {
    // SAFETY: our own contract; all heads are below their number.
    unsafe {
        if !attend.head_dim.is_multiple_of(LANES) {
            return portable::attend::<E>(attend);
        }
        let whole = attend.heads / HEADS * HEADS;
        for head in (0..whole).step_by(HEADS) {
            some_heads::<L, E, HEADS>(l, attend, head);
        }
        for head in whole..attend.heads {
            some_heads::<L, E, 1>(l, attend, head);
        }
    }
}

/// # Safety
/// The contract of [`arguments::Attend`]; there are so many heads from `head` on, of a multiple of sixteen elements.
#[inline(always)]
unsafe fn some_heads<L: Lanes, E: Element, const HEADS: usize>(l: L, attend: &arguments::Attend, head: usize) {
    let (head_dim, capacity) = (attend.head_dim, attend.capacity);
    let (keys, values) = (attend.keys.cast::<E>(), attend.values.cast::<E>());
    // What the next block will read is asked for.
    let ahead = ATTENTION_BLOCK * head_dim;
    // SAFETY: queries, outputs and sinks hold those heads.
    let (queries, outputs, mut maximums): ([*const f32; HEADS], [*mut f32; HEADS], [f32; HEADS]) = unsafe {
        (
            array::from_fn(|h| attend.queries.add((head + h) * head_dim)),
            array::from_fn(|h| attend.outputs.add((head + h) * head_dim)),
            array::from_fn(|h| *attend.sinks.add(head + h)),
        )
    };
    let mut weight_sums = [l.first(1, l.splat(1.0), l.splat(0.0)); HEADS];
    for output in outputs {
        for d in (0..head_dim).step_by(LANES) {
            // SAFETY: the output holds `head_dim` elements.
            unsafe { l.store(output.add(d), l.splat(0.0)) };
        }
    }
    for block in attend.first / ATTENTION_BLOCK..attend.end.div_ceil(ATTENTION_BLOCK) {
        let begin = block * ATTENTION_BLOCK;
        let seen = attend.first.max(begin) - begin..(attend.end - begin).min(ATTENTION_BLOCK);
        let tiles = seen.start / KEY_TILE * KEY_TILE..seen.end.next_multiple_of(KEY_TILE);
        // The capacity is a multiple of the block, so a block lies in one piece.
        let slot = begin % capacity;
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
                    for h in 0..HEADS {
                        sums[h] = l.fma(l.splat(*queries[h].add(d)), keys, sums[h]);
                    }
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
                    unsafe { l.store(outputs[h].add(d), l.mul(l.load(outputs[h].add(d)), shrink)) };
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
        }

        for d in (0..head_dim).step_by(LANES) {
            // SAFETY: outputs hold `head_dim` elements, and every visible position is in the cache.
            unsafe {
                let mut sums = [l.splat(0.0); HEADS];
                for h in 0..HEADS {
                    sums[h] = l.load(outputs[h].add(d));
                }
                for position in seen.clone() {
                    let values = values.add((slot + position) * head_dim + d);
                    l.prefetch_far(values.wrapping_add(ahead).cast());
                    let values = E::load(l, values);
                    for h in 0..HEADS {
                        sums[h] = l.fma(l.splat(scores[h][position]), values, sums[h]);
                    }
                }
                for h in 0..HEADS {
                    l.store(outputs[h].add(d), sums[h]);
                }
            }
        }
    }
    for h in 0..HEADS {
        let inverse = l.splat(1.0 / l.sum(weight_sums[h]));
        for d in (0..head_dim).step_by(LANES) {
            // SAFETY: the output holds `head_dim` elements.
            unsafe { l.store(outputs[h].add(d), l.mul(l.load(outputs[h].add(d)), inverse)) };
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
