//! Keys and values of past tokens.

use core::mem::size_of;
use core::ops::Range;

use bytemuck::Zeroable;
use half::f16;

use crate::error::Result;
use crate::file::snapshot::Writer;
use crate::kernels::{ATTENTION_BLOCK, Cached, KEY_TILE, Visible};
use crate::model::Config;
use crate::region::{Carver, Growing};

use super::session::{Precision, SessionConfig};

/// The caches of all layers. A windowed layer's is a ring.
pub(super) struct KvCache<'r> {
    /// [layers][kv_heads].
    heads: &'r mut [HeadCache<'r>],
    kv_heads: usize,
    head_dim: usize,
    window: usize,
    /// Positions that a full layer holds.
    capacity: usize,
    /// Positions that a windowed layer holds.
    ring: usize,
    /// One past the highest position ever written.
    written: usize,
    /// The lowest position that was written in windowed layers.
    first: usize,
}

/// The cache of one key-value head in one layer. Keys lie as [positions / 16][head_dim][16], so that the scores of sixteen
/// positions are computed side by side; values as [positions][head_dim].
enum HeadCache<'r> {
    F16 { keys: Growing<'r, u16>, values: Growing<'r, u16> },
    F32 { keys: Growing<'r, f32>, values: Growing<'r, f32> },
}

impl<'r> KvCache<'r> {
    pub fn carve(carver: &mut Carver<'r>, model: &Config, config: &SessionConfig) -> Result<Self> {
        let capacity = config.context_tokens.next_multiple_of(ATTENTION_BLOCK);
        // A batch is written as a whole before its first token looks back over the window.
        let ring = (model.window - 1 + config.batch_tokens + config.rewind_tokens)
            .next_multiple_of(ATTENTION_BLOCK)
            .min(capacity);
        let heads = carver.carve_each(model.layers * model.kv_heads, |carver, index| {
            let slots = if model.is_windowed(index / model.kv_heads) { ring } else { capacity };
            let shape = [slots, model.head_dim];
            Ok(match config.precision {
                Precision::Standard => HeadCache::F16 { keys: carver.growing(shape)?, values: carver.growing(shape)? },
                Precision::Precise => HeadCache::F32 { keys: carver.growing(shape)?, values: carver.growing(shape)? },
            })
        })?;
        Ok(Self {
            heads,
            kv_heads: model.kv_heads,
            head_dim: model.head_dim,
            window: model.window,
            capacity,
            ring,
            written: 0,
            first: 0,
        })
    }

    /// Writes the keys and values of one token, [kv_heads][head_dim] each, and forgets none that a later token may see as
    /// long as positions go up by at most a batch.
    pub fn write(&mut self, layer: Place, position: usize, keys: &[f32], values: &[f32]) {
        let slot = position % self.slots(layer);
        let heads = &mut self.heads[layer.number * self.kv_heads..][..self.kv_heads];
        let rows = keys.chunks(self.head_dim).zip(values.chunks(self.head_dim));
        for (head, (key, value)) in heads.iter_mut().zip(rows) {
            let (key, value) = (key.iter().copied(), value.iter().copied());
            match head {
                HeadCache::F16 { keys, values } => {
                    write((keys, values), slot, self.head_dim, key.map(to_f16), value.map(to_f16));
                }
                HeadCache::F32 { keys, values } => write((keys, values), slot, self.head_dim, key, value),
            }
        }
        self.written = self.written.max(position + 1);
    }

    /// The cache of one head.
    pub fn head(&self, layer: Place, head: usize) -> Cached<'_> {
        match &self.heads[layer.number * self.kv_heads + head] {
            HeadCache::F16 { keys, values } => Cached::F16 { keys: keys.live(), values: values.live() },
            HeadCache::F32 { keys, values } => Cached::F32 { keys: keys.live(), values: values.live() },
        }
    }

    /// What the token at `position` and those after it see.
    pub fn visible(&self, layer: Place, position: usize) -> Visible {
        let window = if layer.windowed { self.window } else { usize::MAX };
        Visible { end: position + 1, window, capacity: self.slots(layer) }
    }

    /// The lowest position besides 0 from which the session can go on: all that its window sees is still there.
    pub fn earliest(&self) -> usize {
        self.earliest_from(self.written)
    }

    /// The same, if so many positions had been written.
    pub fn earliest_from(&self, written: usize) -> usize {
        match written.saturating_sub(self.ring).max(self.first) {
            0 => 0,
            kept => kept + self.window - 1,
        }
    }

    /// Starts over: whatever was written before no longer counts.
    pub fn clear(&mut self) {
        (self.written, self.first) = (0, 0);
    }

    /// The lowest position that windowed layers hold.
    pub fn first_windowed(&self) -> usize {
        self.written.saturating_sub(self.ring).max(self.first)
    }

    /// The lowest position whose window a session at `position` needs.
    pub fn first_needed(&self, position: usize) -> usize {
        (position + 1).saturating_sub(self.window)
    }

    /// Bytes of a key or a value of one head.
    pub fn row_size(&self) -> usize {
        let number = match self.heads.first() {
            Some(HeadCache::F32 { .. }) => size_of::<f32>(),
            _ => size_of::<u16>(),
        };
        number * self.head_dim
    }

    /// Writes the bits of the keys and values at these positions: of each head its keys, then its values, [positions][head_dim].
    pub fn save(&self, layer: Place, positions: Range<usize>, writer: &mut Writer<'_>) {
        let slots = self.slots(layer);
        for head in &self.heads[layer.number * self.kv_heads..][..self.kv_heads] {
            let positions = positions.clone().map(|position| position % slots);
            match head {
                HeadCache::F16 { keys, values } => {
                    save(keys.live(), values.live(), positions, self.head_dim, |x| x.to_le_bytes(), writer);
                }
                HeadCache::F32 { keys, values } => {
                    save(keys.live(), values.live(), positions, self.head_dim, |x| x.to_le_bytes(), writer);
                }
            }
        }
    }

    /// Takes back what [`KvCache::save`] wrote.
    ///
    /// # Panics
    /// If there are not enough bytes.
    pub fn restore(&mut self, layer: Place, positions: Range<usize>, mut bytes: &[u8]) {
        let (slots, head_dim) = (self.slots(layer), self.head_dim);
        let size = positions.len() * self.row_size();
        for head in &mut self.heads[layer.number * self.kv_heads..][..self.kv_heads] {
            let (saved_keys, rest) = bytes.split_at(size);
            let (saved_values, rest) = rest.split_at(size);
            bytes = rest;
            for (index, position) in positions.clone().enumerate() {
                let (slot, at) = (position % slots, index * head_dim);
                match head {
                    HeadCache::F16 { keys, values } => {
                        let [key, value] =
                            [saved_keys, saved_values].map(|saved| numbers(saved, at, u16::from_le_bytes));
                        write((keys, values), slot, head_dim, key, value);
                    }
                    HeadCache::F32 { keys, values } => {
                        let [key, value] =
                            [saved_keys, saved_values].map(|saved| numbers(saved, at, f32::from_le_bytes));
                        write((keys, values), slot, head_dim, key, value);
                    }
                }
            }
        }
    }

    /// Takes over the keys and values that another cache of the same model and precision has at these positions.
    pub fn copy(&mut self, layer: Place, positions: Range<usize>, origin: &KvCache<'_>) {
        let (slots, head_dim) = (self.slots(layer), self.head_dim);
        let heads = layer.number * self.kv_heads..(layer.number + 1) * self.kv_heads;
        for (head, from) in self.heads[heads.clone()].iter_mut().zip(&origin.heads[heads]) {
            for position in positions.clone() {
                let (slot, there) = (position % slots, position % origin.slots(layer));
                match (&mut *head, from) {
                    (HeadCache::F16 { keys, values }, HeadCache::F16 { keys: from_keys, values: from_values }) => {
                        let (key, value) =
                            (key_at(from_keys.live(), there, head_dim), value_at(from_values.live(), there, head_dim));
                        write((keys, values), slot, head_dim, key, value);
                    }
                    (HeadCache::F32 { keys, values }, HeadCache::F32 { keys: from_keys, values: from_values }) => {
                        let (key, value) =
                            (key_at(from_keys.live(), there, head_dim), value_at(from_values.live(), there, head_dim));
                        write((keys, values), slot, head_dim, key, value);
                    }
                    _ => unreachable!("the precisions are the same"),
                }
            }
        }
    }

    /// All that a session at `position` has is there, in windowed layers from `first` on.
    pub fn restored(&mut self, first: usize, position: usize) {
        (self.first, self.written) = (first, position);
    }

    fn slots(&self, layer: Place) -> usize {
        if layer.windowed { self.ring } else { self.capacity }
    }
}

/// A layer, as its cache sees it.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// From 0.
    pub number: usize,
    /// Whether it sees only the window.
    pub windowed: bool,
}

/// The bits of the nearest f16. What is too large becomes NaN, since the softmax would hide an infinity.
fn to_f16(x: f32) -> u16 {
    let half = f16::from_f32(x);
    if half.is_infinite() { f16::NAN.to_bits() } else { half.to_bits() }
}

fn write<T: Zeroable + Copy>(
    (keys, values): (&mut Growing<'_, T>, &mut Growing<'_, T>),
    slot: usize,
    head_dim: usize,
    key: impl Iterator<Item = T>,
    value: impl Iterator<Item = T>,
) {
    let keys = keys.grow((slot / KEY_TILE + 1) * KEY_TILE * head_dim);
    for (d, number) in key.take(head_dim).enumerate() {
        keys[key_index(slot, d, head_dim)] = number;
    }
    let values = values.grow((slot + 1) * head_dim);
    for (out, number) in values[slot * head_dim..][..head_dim].iter_mut().zip(value) {
        *out = number;
    }
}

/// Where dimension `d` of a key is.
fn key_index(slot: usize, d: usize, head_dim: usize) -> usize {
    (slot / KEY_TILE * head_dim + d) * KEY_TILE + slot % KEY_TILE
}

fn key_at<T: Copy>(keys: &[T], slot: usize, head_dim: usize) -> impl Iterator<Item = T> {
    (0..head_dim).map(move |d| keys[key_index(slot, d, head_dim)])
}

fn value_at<T: Copy>(values: &[T], slot: usize, head_dim: usize) -> impl Iterator<Item = T> {
    values[slot * head_dim..][..head_dim].iter().copied()
}

/// Numbers of saved bytes, from the one with this index on.
fn numbers<T, const N: usize>(saved: &[u8], from: usize, number: impl Fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    saved.as_chunks().0[from..].iter().map(move |bytes| number(*bytes))
}

fn save<T: Copy, const N: usize>(
    keys: &[T],
    values: &[T],
    slots: impl Iterator<Item = usize> + Clone,
    head_dim: usize,
    bytes: impl Fn(T) -> [u8; N],
    writer: &mut Writer<'_>,
) {
    for slot in slots.clone() {
        writer.bytes(key_at(keys, slot, head_dim).map(&bytes));
    }
    for slot in slots {
        writer.bytes(value_at(values, slot, head_dim).map(&bytes));
    }
}
