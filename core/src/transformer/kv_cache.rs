//! Keys and values of past tokens.

use core::ops::Range;

use bytemuck::Zeroable;
use half::{bf16, f16};

use crate::error::Result;
use crate::file::snapshot::Writer;
use crate::kernels::{ATTENTION_BLOCK, Cached, KEY_TILE, Visible};
use crate::model::Config;
use crate::region::{Carver, Growing};

use super::session::SessionConfig;

/// What keys and values are kept in. See `docs/numerics.md` for sizes and errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheFormat {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// The upper half of single precision: as large as f16, with an eighth of its exactness, and the range of f32.
    Bf16,
    /// Signed bytes, with an f32 scale for each key and each value of a head: little more than half of f16.
    Int8,
}

impl CacheFormat {
    /// Bytes of a key or a value of one head.
    pub fn row_size(self, head_dim: usize) -> usize {
        match self {
            Self::F32 => size_of::<f32>() * head_dim,
            Self::F16 | Self::Bf16 => size_of::<u16>() * head_dim,
            Self::Int8 => head_dim + size_of::<f32>(),
        }
    }
}

/// The caches of all layers. A windowed layer's is a ring.
pub(super) struct KvCache<'r> {
    /// [layers][kv_heads].
    heads: &'r mut [HeadCache<'r>],
    kv_heads: usize,
    head_dim: usize,
    format: CacheFormat,
    window: usize,
    /// Positions that a full layer holds.
    capacity: usize,
    /// Positions that a windowed layer holds.
    ring: usize,
    /// One past the highest position ever written.
    written: usize,
    /// The lowest position that was written in windowed layers.
    first: usize,
    /// What windowed layers had of the window before the marked position: [layers][kv_heads], of other layers nothing.
    marked_heads: &'r mut [HeadCache<'r>],
    /// Positions of a head in there; 0 if the ring forgets nothing.
    marked_slots: usize,
    marked: Option<usize>,
}

/// The cache of one key-value head in one layer.
enum HeadCache<'r> {
    F32(Rows<'r, f32>),
    F16(Rows<'r, u16>),
    Bf16(Rows<'r, u16>),
    Int8(Rows<'r, i8>),
}

/// Keys and values as numbers of one type.
struct Rows<'r, T> {
    /// [positions / 16][head_dim][16], so that the scores of sixteen positions are computed side by side.
    keys: Growing<'r, T>,
    /// [positions][head_dim].
    values: Growing<'r, T>,
    /// [positions / 16][2][16], of keys and of values; empty where numbers have no scale.
    scales: Growing<'r, f32>,
    head_dim: usize,
}

impl<'r> KvCache<'r> {
    pub fn carve(carver: &mut Carver<'r>, model: &Config, config: &SessionConfig) -> Result<Self> {
        let capacity = config.context_tokens.next_multiple_of(ATTENTION_BLOCK);
        // A batch is written as a whole before its first token looks back over the window.
        let ring = (model.window - 1 + config.batch_tokens + config.rewind_tokens)
            .next_multiple_of(ATTENTION_BLOCK)
            .min(capacity);
        let can_mark = config.rewind_tokens > 0 && ring < capacity;
        let marked_slots = if can_mark { model.window.next_multiple_of(KEY_TILE) } else { 0 };
        let format = config.cache_format();
        let mut heads = |windowed, full| {
            carver.carve_each(model.layers * model.kv_heads, |carver, index| {
                let slots = if model.is_windowed(index / model.kv_heads) { windowed } else { full };
                HeadCache::carve(carver, format, [slots, model.head_dim])
            })
        };
        let (heads, marked_heads) = (heads(ring, capacity)?, heads(marked_slots, 0)?);
        Ok(Self {
            heads,
            kv_heads: model.kv_heads,
            head_dim: model.head_dim,
            format,
            window: model.window,
            capacity,
            ring,
            written: 0,
            first: 0,
            marked_heads,
            marked_slots,
            marked: None,
        })
    }

    /// Writes the keys and values of one token, [kv_heads][head_dim] each, and forgets none that a later token may see as
    /// long as positions go up by at most a batch.
    pub fn write(&mut self, layer: Place, position: usize, keys: &[f32], values: &[f32]) {
        let slot = position % self.slots(layer);
        let heads = self.heads_of(layer);
        let heads = &mut self.heads[heads];
        let rows = keys.chunks(self.head_dim).zip(values.chunks(self.head_dim));
        for (head, (key, value)) in heads.iter_mut().zip(rows) {
            match head {
                HeadCache::F32(rows) => rows.write(slot, (key.iter().copied(), None), (value.iter().copied(), None)),
                HeadCache::F16(rows) => {
                    rows.write(slot, (key.iter().map(to_f16), None), (value.iter().map(to_f16), None))
                }
                HeadCache::Bf16(rows) => {
                    rows.write(slot, (key.iter().map(to_bf16), None), (value.iter().map(to_bf16), None));
                }
                HeadCache::Int8(rows) => rows.write(slot, to_int8(key), to_int8(value)),
            }
        }
        self.written = self.written.max(position + 1);
    }

    /// The cache of one head.
    pub fn head(&self, layer: Place, head: usize) -> Cached<'_> {
        match &self.heads[layer.number * self.kv_heads + head] {
            HeadCache::F32(rows) => Cached::F32 { keys: rows.keys.live(), values: rows.values.live() },
            HeadCache::F16(rows) => Cached::F16 { keys: rows.keys.live(), values: rows.values.live() },
            HeadCache::Bf16(rows) => Cached::Bf16 { keys: rows.keys.live(), values: rows.values.live() },
            HeadCache::Int8(rows) => {
                Cached::Int8 { keys: rows.keys.live(), values: rows.values.live(), scales: rows.scales.live() }
            }
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
        (self.written, self.first, self.marked) = (0, 0, None);
    }

    /// Remembers what a session at this position sees, in place of what was marked before, so that it can come back however far it
    /// goes. Nothing happens where the ring no longer has it, or never forgets.
    pub fn mark(&mut self, layers: impl Iterator<Item = Place>, position: usize) {
        if self.marked_slots == 0 || position < self.earliest() || position > self.written {
            return;
        }
        let positions = self.first_needed(position)..position;
        for layer in layers.filter(|layer| layer.windowed) {
            let heads = self.heads_of(layer);
            let (from, to) = (&self.heads[heads.clone()], &mut self.marked_heads[heads]);
            copy_rows((to, self.marked_slots), (from, self.ring), positions.clone());
        }
        self.marked = Some(position);
    }

    /// The position that is marked.
    pub fn marked(&self) -> Option<usize> {
        self.marked
    }

    /// What is marked beyond this position is forgotten: what follows it may be something else.
    pub fn forget_mark_beyond(&mut self, position: usize) {
        self.marked.take_if(|marked| *marked > position);
    }

    /// Holds what it held at the marked position, and no more.
    pub fn return_to_mark(&mut self, layers: impl Iterator<Item = Place>) {
        let Some(position) = self.marked else { return };
        let positions = self.first_needed(position)..position;
        for layer in layers.filter(|layer| layer.windowed) {
            let heads = self.heads_of(layer);
            let (from, to) = (&self.marked_heads[heads.clone()], &mut self.heads[heads]);
            copy_rows((to, self.ring), (from, self.marked_slots), positions.clone());
        }
        (self.first, self.written) = (positions.start, position);
    }

    fn heads_of(&self, layer: Place) -> Range<usize> {
        layer.number * self.kv_heads..(layer.number + 1) * self.kv_heads
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
        self.format.row_size(self.head_dim)
    }

    /// Writes the bits of the keys and values at these positions: of each head its keys, then its values, [positions][head_dim],
    /// each with its scale behind it, if it has one.
    pub fn save(&self, layer: Place, positions: Range<usize>, writer: &mut Writer<'_>) {
        let slots = self.slots(layer);
        for head in &self.heads[layer.number * self.kv_heads..][..self.kv_heads] {
            let positions = positions.clone().map(|position| position % slots);
            match head {
                HeadCache::F32(rows) => rows.save(positions, f32::to_le_bytes, writer),
                HeadCache::F16(rows) | HeadCache::Bf16(rows) => rows.save(positions, u16::to_le_bytes, writer),
                HeadCache::Int8(rows) => rows.save(positions, i8::to_le_bytes, writer),
            }
        }
    }

    /// Takes back what [`KvCache::save`] wrote.
    ///
    /// # Panics
    /// If there are not enough bytes.
    pub fn restore(&mut self, layer: Place, positions: Range<usize>, mut bytes: &[u8]) {
        let (slots, row_size) = (self.slots(layer), self.row_size());
        for head in &mut self.heads[layer.number * self.kv_heads..][..self.kv_heads] {
            head.reach(positions.end, slots);
            let (keys, rest) = bytes.split_at(positions.len() * row_size);
            let (values, rest) = rest.split_at(positions.len() * row_size);
            bytes = rest;
            for (index, position) in positions.clone().enumerate() {
                let (slot, row) =
                    (position % slots, [keys, values].map(|saved| &saved[index * row_size..][..row_size]));
                match head {
                    HeadCache::F32(rows) => rows.restore(slot, row, f32::from_le_bytes),
                    HeadCache::F16(rows) | HeadCache::Bf16(rows) => rows.restore(slot, row, u16::from_le_bytes),
                    HeadCache::Int8(rows) => rows.restore(slot, row, i8::from_le_bytes),
                }
            }
        }
    }

    /// Takes over the keys and values that another cache of the same model and format has at these positions.
    pub fn copy(&mut self, layer: Place, positions: Range<usize>, origin: &KvCache<'_>) {
        let (heads, slots) = (self.heads_of(layer), self.slots(layer));
        copy_rows((&mut self.heads[heads.clone()], slots), (&origin.heads[heads], origin.slots(layer)), positions);
    }

    /// All that a session at `position` has is there, in windowed layers from `first` on.
    pub fn restored(&mut self, first: usize, position: usize) {
        (self.first, self.written, self.marked) = (first, position, None);
    }

    fn slots(&self, layer: Place) -> usize {
        if layer.windowed { self.ring } else { self.capacity }
    }
}

/// Copies what heads, with so many slots each, have at these positions to heads of the same format.
fn copy_rows(
    (heads, slots): (&mut [HeadCache<'_>], usize),
    (origin, origin_slots): (&[HeadCache<'_>], usize),
    positions: Range<usize>,
) {
    for (head, from) in heads.iter_mut().zip(origin) {
        head.reach(positions.end, slots);
        for position in positions.clone() {
            let (slot, there) = (position % slots, position % origin_slots);
            match (&mut *head, from) {
                (HeadCache::F32(rows), HeadCache::F32(from)) => rows.copy(slot, from, there),
                (HeadCache::F16(rows), HeadCache::F16(from)) | (HeadCache::Bf16(rows), HeadCache::Bf16(from)) => {
                    rows.copy(slot, from, there);
                }
                (HeadCache::Int8(rows), HeadCache::Int8(from)) => rows.copy(slot, from, there),
                _ => unreachable!("the formats are the same"),
            }
        }
    }
}

impl<'r> HeadCache<'r> {
    /// Of the shape [slots][head_dim].
    fn carve(carver: &mut Carver<'r>, format: CacheFormat, shape: [usize; 2]) -> Result<Self> {
        Ok(match format {
            CacheFormat::F32 => Self::F32(Rows::carve(carver, shape, 0)?),
            CacheFormat::F16 => Self::F16(Rows::carve(carver, shape, 0)?),
            CacheFormat::Bf16 => Self::Bf16(Rows::carve(carver, shape, 0)?),
            CacheFormat::Int8 => Self::Int8(Rows::carve(carver, shape, 2)?),
        })
    }

    /// All places are there that would be if each position before this one had been written, also where only the last of them are.
    fn reach(&mut self, end: usize, slots: usize) {
        let positions = end.min(slots);
        match self {
            HeadCache::F32(rows) => rows.grow(positions),
            HeadCache::F16(rows) | HeadCache::Bf16(rows) => rows.grow(positions),
            HeadCache::Int8(rows) => rows.grow(positions),
        }
    }
}

impl<'r, T: Zeroable + Copy> Rows<'r, T> {
    /// A row has so many scales: of its key and of its value, or none.
    fn carve(carver: &mut Carver<'r>, [slots, head_dim]: [usize; 2], scales: usize) -> Result<Self> {
        Ok(Self {
            keys: carver.growing([slots, head_dim])?,
            values: carver.growing([slots, head_dim])?,
            scales: carver.growing([slots, scales])?,
            head_dim,
        })
    }

    /// Room for so many positions is there.
    fn grow(&mut self, positions: usize) {
        let whole = positions.next_multiple_of(KEY_TILE);
        self.keys.grow(whole * self.head_dim);
        self.values.grow(positions * self.head_dim);
        self.scales.grow((2 * whole).min(self.scales.capacity()));
    }

    /// A key and a value, each with its scale, if it has one.
    fn write(
        &mut self,
        slot: usize,
        (key, key_scale): (impl Iterator<Item = T>, Option<f32>),
        (value, value_scale): (impl Iterator<Item = T>, Option<f32>),
    ) {
        self.grow(slot + 1);
        let keys = self.keys.live_mut();
        for (d, number) in key.take(self.head_dim).enumerate() {
            keys[key_index(slot, d, self.head_dim)] = number;
        }
        let values = &mut self.values.live_mut()[slot * self.head_dim..][..self.head_dim];
        values.iter_mut().zip(value).for_each(|(out, number)| *out = number);
        for (part, scale) in [key_scale, value_scale].into_iter().enumerate() {
            if let Some(scale) = scale {
                self.scales.live_mut()[scale_index(slot, part)] = scale;
            }
        }
    }

    fn key(&self, slot: usize) -> (impl Iterator<Item = T>, Option<f32>) {
        let keys = self.keys.live();
        ((0..self.head_dim).map(move |d| keys[key_index(slot, d, self.head_dim)]), self.scale(slot, 0))
    }

    fn value(&self, slot: usize) -> (impl Iterator<Item = T>, Option<f32>) {
        (self.values.live()[slot * self.head_dim..][..self.head_dim].iter().copied(), self.scale(slot, 1))
    }

    /// Of the key, 0, or of the value, 1.
    fn scale(&self, slot: usize, part: usize) -> Option<f32> {
        self.scales.live().get(scale_index(slot, part)).copied()
    }

    fn save<const N: usize>(
        &self,
        slots: impl Iterator<Item = usize> + Clone,
        bytes: impl Fn(T) -> [u8; N],
        writer: &mut Writer<'_>,
    ) {
        for slot in slots.clone() {
            let (numbers, scale) = self.key(slot);
            writer.bytes(numbers.map(&bytes));
            writer.bytes(scale.map(f32::to_le_bytes));
        }
        for slot in slots {
            let (numbers, scale) = self.value(slot);
            writer.bytes(numbers.map(&bytes));
            writer.bytes(scale.map(f32::to_le_bytes));
        }
    }

    /// A key and a value of saved bytes.
    fn restore<const N: usize>(&mut self, slot: usize, row: [&[u8]; 2], number: impl Fn([u8; N]) -> T) {
        let [key, value] = row.map(|saved| {
            let (numbers, scale) = saved.split_at(N * self.head_dim);
            let numbers = numbers.as_chunks().0.iter().map(|bytes| number(*bytes));
            (numbers, scale.first_chunk().map(|bytes| f32::from_le_bytes(*bytes)))
        });
        self.write(slot, key, value);
    }

    fn copy(&mut self, slot: usize, from: &Rows<'_, T>, there: usize) {
        self.write(slot, from.key(there), from.value(there));
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
fn to_f16(x: &f32) -> u16 {
    let half = f16::from_f32(*x);
    if half.is_infinite() { f16::NAN.to_bits() } else { half.to_bits() }
}

/// The same in bf16.
fn to_bf16(x: &f32) -> u16 {
    let half = bf16::from_f32(*x);
    if half.is_infinite() { bf16::NAN.to_bits() } else { half.to_bits() }
}

/// Signed bytes, of which the largest is 127, and their scale, which is NaN if a number is not finite.
fn to_int8(row: &[f32]) -> (impl Iterator<Item = i8>, Option<f32>) {
    /// What is smaller throughout becomes zeros: the reciprocal would overflow.
    const SMALLEST: f32 = f32::from_bits((127 - 100) << 23);
    // As integers, the bits of magnitudes are ordered like the magnitudes, with infinity and NaN above all.
    let largest = f32::from_bits(row.iter().map(|x| x.to_bits() & 0x7fff_ffff).max().unwrap_or(0));
    let (inverse, scale) = match largest {
        _ if largest < SMALLEST => (0.0, 0.0),
        _ if largest < f32::INFINITY => (127.0 / largest, largest / 127.0),
        _ => (0.0, f32::NAN),
    };
    (row.iter().map(move |x| libm::rintf(x * inverse) as i8), Some(scale))
}

/// Where dimension `d` of a key is.
fn key_index(slot: usize, d: usize, head_dim: usize) -> usize {
    (slot / KEY_TILE * head_dim + d) * KEY_TILE + slot % KEY_TILE
}

/// Where the scale of a key, 0, or of a value, 1, is.
fn scale_index(slot: usize, part: usize) -> usize {
    (2 * (slot / KEY_TILE) + part) * KEY_TILE + slot % KEY_TILE
}
