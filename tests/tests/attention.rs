//! Attention over a cache in each format: every kernel set equals the portable one bit for bit, and that one is as exact as it says.

use std::ops::Range;

use ossicle_core::kernels::{Cached, Kernels, Visible};
use ossicle_core::parallel::Tile;
use ossicle_host::kernels::available;
use ossicle_tests::fixtures::data;
use ossicle_tests::guarded::{Guarded, Output};
use ossicle_tests::numbers::{Kind, Numbers};
use ossicle_tests::reference;
use ossicle_tests::safetensors::Safetensors;

/// Half a unit in the last place of 1: what rounding to f32 changes, relatively.
const ROUNDING: f64 = 1.0 / (1 << 24) as f64;

/// The smallest f32 above zero.
const SMALLEST: f64 = f32::from_bits(1) as f64;

/// The bits, where all that is not a number is one and the same: which of several such bit patterns an addition gives is
/// not defined, and nothing depends on it.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }).collect()
}

/// One key-value head's cache as the engine lays it out, with NaN wherever nothing visible lies.
enum Cache {
    F32 { keys: Guarded<f32>, values: Guarded<f32> },
    F16 { keys: Guarded<u16>, values: Guarded<u16> },
    Bf16 { keys: Guarded<u16>, values: Guarded<u16> },
    Int8 { keys: Guarded<i8>, values: Guarded<i8>, scales: Guarded<f32> },
}

/// Where the keys of the first `positions` lie, and their values.
struct Places {
    first: usize,
    positions: usize,
    capacity: usize,
    head_dim: usize,
}

impl Places {
    /// Of the positions visible to the first token and `count - 1` behind.
    fn of(visible: Visible, count: usize, head_dim: usize) -> Self {
        let first = seen(visible).start;
        Self { first, positions: (first + count).min(visible.capacity), capacity: visible.capacity, head_dim }
    }

    /// [positions][head_dim] as [slots / 16][head_dim][16].
    fn keys<T: Copy>(&self, keys: &[T], nothing: T) -> Vec<T> {
        let mut cached = vec![nothing; self.positions.next_multiple_of(16) * self.head_dim];
        for (position, key) in (self.first..).zip(keys.chunks(self.head_dim)) {
            let slot = position % self.capacity;
            for d in 0..self.head_dim {
                cached[(slot / 16 * self.head_dim + d) * 16 + slot % 16] = key[d];
            }
        }
        cached
    }

    /// [positions][head_dim] as [slots][head_dim].
    fn values<T: Copy>(&self, values: &[T], nothing: T) -> Vec<T> {
        let mut cached = vec![nothing; self.positions * self.head_dim];
        for (position, value) in (self.first..).zip(values.chunks(self.head_dim)) {
            cached[position % self.capacity * self.head_dim..][..self.head_dim].copy_from_slice(value);
        }
        cached
    }
}

impl Cache {
    /// `keys` and `values` are those of the positions that are visible to the first token and behind, [positions][head_dim].
    fn new(keys: &[f32], values: &[f32], head_dim: usize, visible: Visible) -> Self {
        let places = Places::of(visible, keys.len() / head_dim, head_dim);
        Self::F32 {
            keys: Guarded::copy_of(&places.keys(keys, f32::NAN)),
            values: Guarded::copy_of(&places.values(values, f32::NAN)),
        }
    }

    /// The same in f16, which rounds.
    fn f16(keys: &[f32], values: &[f32], head_dim: usize, visible: Visible) -> Self {
        let places = Places::of(visible, keys.len() / head_dim, head_dim);
        let half = |values: Vec<f32>| -> Guarded<u16> {
            Guarded::copy_of(&values.iter().map(|value| half::f16::from_f32(*value).to_bits()).collect::<Vec<_>>())
        };
        Self::F16 { keys: half(places.keys(keys, f32::NAN)), values: half(places.values(values, f32::NAN)) }
    }

    /// The same in bf16, which rounds.
    fn bf16(keys: &[f32], values: &[f32], head_dim: usize, visible: Visible) -> Self {
        let places = Places::of(visible, keys.len() / head_dim, head_dim);
        let half = |values: Vec<f32>| -> Guarded<u16> {
            Guarded::copy_of(&values.iter().map(|value| half::bf16::from_f32(*value).to_bits()).collect::<Vec<_>>())
        };
        Self::Bf16 { keys: half(places.keys(keys, f32::NAN)), values: half(places.values(values, f32::NAN)) }
    }

    /// Of bytes with sign, and the scales of each position's key and value.
    fn int8([keys, values]: [&[i8]; 2], [key_scales, value_scales]: [&[f32]; 2], visible: Visible) -> Self {
        let head_dim = keys.len() / key_scales.len();
        let places = Places::of(visible, key_scales.len(), head_dim);
        let mut scales = vec![f32::NAN; 2 * places.positions.next_multiple_of(16)];
        for (position, (key, value)) in (places.first..).zip(key_scales.iter().zip(value_scales)) {
            let slot = position % places.capacity;
            let at = slot / 16 * 32 + slot % 16;
            (scales[at], scales[at + 16]) = (*key, *value);
        }
        Self::Int8 {
            keys: Guarded::copy_of(&places.keys(keys, 1)),
            values: Guarded::copy_of(&places.values(values, 1)),
            scales: Guarded::copy_of(&scales),
        }
    }

    fn view(&self) -> Cached<'_> {
        match self {
            Self::F32 { keys, values } => Cached::F32 { keys, values },
            Self::F16 { keys, values } => Cached::F16 { keys, values },
            Self::Bf16 { keys, values } => Cached::Bf16 { keys, values },
            Self::Int8 { keys, values, scales } => Cached::Int8 { keys, values, scales },
        }
    }
}

fn attend(set: Kernels, queries: &[f32], cached: Cached<'_>, visible: Visible, sinks: &[f32]) -> Vec<f32> {
    attend_all(set, queries, 1, cached, visible, sinks)
}

/// The same for some tokens: [tokens][heads * head_dim].
fn attend_all(
    set: Kernels,
    queries: &[f32],
    tokens: usize,
    cached: Cached<'_>,
    visible: Visible,
    sinks: &[f32],
) -> Vec<f32> {
    let (row, mut output) = (queries.len() / tokens, Output::of(queries.len()));
    let mut out = Tile::new(output.room(), tokens, row);
    set.attend((&Guarded::copy_of(queries), row), cached, visible, &Guarded::copy_of(sinks), &mut out);
    output.written().to_vec()
}

/// The positions from `first` to `end`.
fn visible(first: usize, end: usize, capacity: usize) -> Visible {
    Visible { end, window: end - first, capacity }
}

/// What the first token sees.
fn seen(visible: Visible) -> Range<usize> {
    visible.end.saturating_sub(visible.window)..visible.end
}

/// Numbers that an f16 holds exactly, so that caches of f16 and f32 hold the same.
fn halved(values: Vec<f32>) -> Vec<f32> {
    values.into_iter().map(|value| half::f16::from_f32(value.clamp(-65504.0, 65504.0)).to_f32()).collect()
}

/// The same for bf16.
fn cut(values: Vec<f32>) -> Vec<f32> {
    values.into_iter().map(|value| half::bf16::from_f32(value).to_f32()).collect()
}

/// What a token can see, in caches of several sizes.
fn views() -> [Visible; 10] {
    [
        visible(0, 1, 64),
        visible(0, 15, 64),
        visible(0, 17, 64),
        visible(0, 64, 64),
        visible(0, 65, 128),
        visible(0, 300, 320),
        visible(57, 65, 128),
        visible(120, 130, 128),
        visible(200, 328, 192),
        visible(1000, 1001, 64),
    ]
}

/// Query heads, and numbers in each.
const HEADS: [(usize, usize); 6] = [(1, 64), (8, 64), (2, 2), (3, 6), (2, 96), (1, 32)];

#[test]
fn attention_is_a_function_of_what_is_visible() {
    let mut numbers = Numbers::seeded(5);
    for (heads, head_dim) in HEADS {
        for kind in Kind::ALL {
            for view in views() {
                let seen = view.window;
                let queries = numbers.floats(kind, heads * head_dim);
                let keys = halved(numbers.floats(kind, seen * head_dim));
                let values = halved(numbers.floats(kind, seen * head_dim));
                let sinks = numbers.floats(Kind::Normal, heads);
                let cache = Cache::new(&keys, &values, head_dim, view);
                let what = format!("{heads} heads of {head_dim}, {kind:?}, {view:?}");

                let expected = attend(Kernels::portable(), &queries, cache.view(), view, &sinks);
                assert_attention_close(&what, &expected, &queries, &keys, &values, &sinks);
                let half = Cache::f16(&keys, &values, head_dim, view);
                for set in available() {
                    let name = set.name();
                    for cached in [cache.view(), half.view()] {
                        let found = attend(set, &queries, cached, view, &sinks);
                        assert_eq!(bits(&found), bits(&expected), "{name}: {what}");
                    }
                    let alone = attend(set, &queries[..head_dim], cache.view(), view, &sinks[..1]);
                    assert_eq!(bits(&alone), bits(&expected[..head_dim]), "{name}: {what}: one head alone");
                }
            }
        }
    }
}

#[test]
fn attention_over_bf16_is_that_over_the_same_numbers_in_f32() {
    let mut numbers = Numbers::seeded(8);
    for (heads, head_dim) in HEADS {
        for kind in Kind::ALL {
            for view in views() {
                let queries = numbers.floats(kind, heads * head_dim);
                let [keys, values] = [0, 1].map(|_| cut(numbers.floats(kind, view.window * head_dim)));
                let sinks = numbers.floats(Kind::Normal, heads);
                let [whole, cache] = [Cache::new, Cache::bf16].map(|of| of(&keys, &values, head_dim, view));
                let expected = attend(Kernels::portable(), &queries, whole.view(), view, &sinks);
                for set in available() {
                    let found = attend(set, &queries, cache.view(), view, &sinks);
                    let what = format!("{}: {heads} heads of {head_dim}, {kind:?}, {view:?}", set.name());
                    assert_eq!(bits(&found), bits(&expected), "{what}");
                }
            }
        }
    }
}

#[test]
fn attention_over_bytes_with_scales_is_that_over_their_products() {
    let mut numbers = Numbers::seeded(9);
    for (heads, head_dim) in HEADS {
        for kind in Kind::ALL {
            for view in views() {
                let queries = numbers.floats(kind, heads * head_dim);
                let [keys, values] = [0, 1].map(|_| -> Vec<i8> {
                    numbers.bytes(view.window * head_dim).into_iter().map(|byte| byte as i8).collect()
                });
                // Dimensions sum up bytes, so scales are smaller than the numbers.
                let [key_scales, value_scales] = [0, 1].map(|_| -> Vec<f32> {
                    numbers.floats(kind, view.window).into_iter().map(|scale| scale / 128.0).collect()
                });
                let sinks = numbers.floats(Kind::Normal, heads);
                let cache = Cache::int8([&keys, &values], [&key_scales, &value_scales], view);
                let what = format!("{heads} heads of {head_dim}, {kind:?}, {view:?}");

                let expected = attend(Kernels::portable(), &queries, cache.view(), view, &sinks);
                let products = |bytes: &[i8], scales: &[f32]| -> Vec<f32> {
                    let rows = bytes.chunks(head_dim).zip(scales);
                    rows.flat_map(|(row, scale)| row.iter().map(move |byte| f32::from(*byte) * scale)).collect()
                };
                let (keys, values) = (products(&keys, &key_scales), products(&values, &value_scales));
                assert_attention_close(&what, &expected, &queries, &keys, &values, &sinks);
                for set in available() {
                    let found = attend(set, &queries, cache.view(), view, &sinks);
                    assert_eq!(bits(&found), bits(&expected), "{}: {what}", set.name());
                    let alone = attend(set, &queries[..head_dim], cache.view(), view, &sinks[..1]);
                    assert_eq!(bits(&alone), bits(&expected[..head_dim]), "{}: {what}: one head alone", set.name());
                }
            }
        }
    }
}

#[test]
fn tokens_that_go_over_the_cache_together_see_what_each_sees_alone() {
    let mut numbers = Numbers::seeded(7);
    let (heads, head_dim) = (5, 32);
    let row = heads * head_dim;
    for (end, window, capacity) in
        [(1, usize::MAX, 192), (100, usize::MAX, 192), (60, 128, 192), (300, 128, 192), (64, 1, 128)]
    {
        for tokens in [2, 8, 19] {
            let view = Visible { end, window, capacity };
            let positions = seen(view).len() + tokens - 1;
            let queries = numbers.floats(Kind::Normal, tokens * row);
            let [keys, values] = [0, 1].map(|_| halved(numbers.floats(Kind::Normal, positions * head_dim)));
            let sinks = numbers.floats(Kind::Normal, heads);
            let bytes = [0, 1].map(|_| -> Vec<i8> {
                numbers.bytes(positions * head_dim).into_iter().map(|byte| byte as i8).collect()
            });
            let scales = [0, 1].map(|_| numbers.floats(Kind::Normal, positions));
            let caches = [
                Cache::new(&keys, &values, head_dim, view),
                Cache::f16(&keys, &values, head_dim, view),
                Cache::bf16(&keys, &values, head_dim, view),
                Cache::int8(
                    bytes.each_ref().map(|bytes| &bytes[..]),
                    scales.each_ref().map(|scales| &scales[..]),
                    view,
                ),
            ];
            for cache in &caches {
                let alone = |token: usize| {
                    let view = Visible { end: end + token, window, capacity };
                    attend(Kernels::portable(), &queries[token * row..][..row], cache.view(), view, &sinks)
                };
                let expected: Vec<f32> = (0..tokens).flat_map(alone).collect();
                for set in available() {
                    let found = attend_all(set, &queries, tokens, cache.view(), view, &sinks);
                    assert_eq!(bits(&found), bits(&expected), "{}: {tokens} tokens, {view:?}", set.name());
                }
            }
        }
    }
}

/// Compares with an evaluation in 64 bits, as far as the size of the scores lets it be exact.
fn assert_attention_close(what: &str, found: &[f32], queries: &[f32], keys: &[f32], values: &[f32], sinks: &[f32]) {
    let wide = |values: &[f32]| -> Vec<f64> { values.iter().copied().map(f64::from).collect() };
    let head_dim = queries.len() / sinks.len();
    let (queries, keys, values, sinks) = (wide(queries), wide(keys), wide(values), wide(sinks));
    let rows = |values: &[f64]| -> Vec<Vec<f64>> { values.chunks(head_dim).map(<[f64]>::to_vec).collect() };
    let (keys, values) = (rows(&keys), rows(&values));
    let expected = reference::attention(&queries, &keys, &values, &sinks, head_dim);
    let largest = |values: &[f64]| values.iter().fold(0f64, |largest, value| largest.max(value.abs()));
    let largest_key = keys.iter().map(|key| largest(key)).fold(0.0, f64::max);
    let largest_value = values.iter().map(|value| largest(value)).fold(0.0, f64::max);
    let score = (head_dim as f64).sqrt() * largest(&queries) * largest_key + largest(&sinks);
    // Each score is a sum of head_dim rounded terms; its error is one of the weight's logarithm.
    let logarithm = 2.0 * (head_dim as f64 + 4.0) * ROUNDING * score;
    let relative = logarithm.exp_m1() + 4.0 * (keys.len() as f64 + 50.0) * ROUNDING;
    if logarithm < 1.0 {
        for (found, expected) in found.iter().zip(expected) {
            // A byte of a value multiplies what was rounded before.
            let bound = relative * largest_value + 128.0 * SMALLEST * (keys.len() as f64);
            assert!((f64::from(*found) - expected).abs() <= bound, "{what}: {found}, expected {expected} +- {bound}");
        }
    }
}

#[test]
fn attention_agrees_with_another_program() {
    let file = Safetensors::open(&data().join("ops/attention_sink.safetensors"));
    let [q, k, v, sinks] = ["q", "k", "v", "sink"].map(|name| file.f32s(name));
    for (window, name) in [(usize::MAX, "expected_window_0"), (8, "expected_window_8")] {
        for (token, expected) in file.f32s(name).chunks(8 * 64).enumerate() {
            let view = Visible { end: token + 1, window, capacity: 64 };
            for kv_head in 0..2 {
                let visible = |rows: &[f32]| -> Vec<f32> {
                    let row = |position| rows[(2 * position + kv_head) * 64..][..64].to_vec();
                    seen(view).flat_map(row).collect()
                };
                let cache = Cache::new(&visible(&k), &visible(&v), 64, view);
                let heads = 4 * kv_head..4 * kv_head + 4;
                let queries = &q[(8 * token + heads.start) * 64..][..4 * 64];
                for set in available() {
                    let found = attend(set, queries, cache.view(), view, &sinks[heads.clone()]);
                    for (found, expected) in found.iter().zip(&expected[heads.start * 64..]) {
                        assert!((found - expected).abs() < 2e-6, "{}: {found}, expected {expected}", set.name());
                    }
                }
            }
        }
    }
}

#[test]
fn a_visible_key_value_or_sink_that_is_not_a_number_is_not_hidden() {
    let view = visible(3, 70, 128);
    let mut numbers = Numbers::seeded(6);
    let queries = numbers.floats(Kind::Normal, 64);
    let [keys, values] = [0, 1].map(|_| numbers.floats(Kind::Normal, view.window * 64));
    for set in available() {
        for at in [0, 64 * 20 + 3, keys.len() - 1] {
            let mut bad = keys.clone();
            bad[at] = f32::NAN;
            let cache = Cache::new(&bad, &values, 64, view);
            assert!(attend(set, &queries, cache.view(), view, &[0.0]).iter().all(|value| value.is_nan()));
            let mut bad = values.clone();
            bad[at] = f32::NAN;
            for cache in [Cache::f16, Cache::bf16].map(|of| of(&keys, &bad, 64, view)) {
                assert!(attend(set, &queries, cache.view(), view, &[0.0])[at % 64].is_nan());
            }
            let bytes = vec![3; keys.len()];
            let (good, mut bad) = (vec![0.01; view.window], vec![0.01; view.window]);
            bad[at / 64] = f32::NAN;
            for scales in [[&bad[..], &good], [&good, &bad]] {
                let cache = Cache::int8([&bytes, &bytes], scales, view);
                assert!(attend(set, &queries, cache.view(), view, &[0.0]).iter().all(|value| value.is_nan()));
            }
        }
        let cache = Cache::new(&keys, &values, 64, view);
        assert!(attend(set, &queries, cache.view(), view, &[f32::NAN]).iter().all(|value| value.is_nan()));
    }
}
