//! Merging short pieces, several side by side.
//!
//! Each merge waits for memory: for the filter of pairs, then for their table. So the pieces take turns, and while one waits
//! the others go on. What is merged is as in [`super::merge`].

use super::lookup::{NO_ID, Pairs};
use super::tables::Tables;
use super::vocabulary::IDS_MAX;

/// How many pieces are merged side by side.
pub const LANES: usize = 8;

/// Places for parts. The last stands for what is before the first part and behind the last.
const PLACES: usize = 32;
const OUTSIDE: usize = PLACES - 1;

/// No candidate: above all others.
const NONE: u32 = u32::MAX;

/// A piece that is being merged.
#[derive(Clone, Copy)]
pub struct Lane {
    /// For each part: the id that merging it with the next would give, times [`PLACES`], plus its place.
    candidates: [u32; PLACES],
    ids: [u32; PLACES],
    next: [u8; PLACES],
    before: [u8; PLACES],
    /// How many places are in use.
    len: usize,
    /// The parts that have a new part behind them, each with the key of that pair, if it may be one that merges.
    changed: [(usize, Option<u64>); 2],
}

impl Lane {
    /// A lane without a piece.
    pub const EMPTY: Self = Self {
        candidates: [NONE; PLACES],
        ids: [IDS_MAX; PLACES],
        next: [OUTSIDE as u8; PLACES],
        before: [OUTSIDE as u8; PLACES],
        len: 0,
        changed: [(OUTSIDE, None); 2],
    };

    /// Takes a piece in UTF-8, if it has few enough parts to begin with.
    pub fn start(&mut self, tables: &Tables<'_>, text: &[u8]) -> bool {
        let pairs = tables.pairs;
        let (mut at, mut len, mut last_byte) = (0, 0, None);
        while at < text.len() {
            if len == OUTSIDE {
                return false;
            }
            let byte = text[at];
            let known = if byte < 0x80 { None } else { tables.character(text, at) };
            let (id, size) = known.unwrap_or_else(|| (pairs.byte_id(byte), 1));
            let this_byte = (size == 1).then_some(byte);
            self.ids[len] = id;
            self.next[len] = len as u8 + 1;
            self.before[len] = (len as u8).wrapping_sub(1) % PLACES as u8;
            self.candidates[len] = NONE;
            if len > 0 {
                let merged = match (last_byte, this_byte) {
                    (Some(left), Some(right)) => pairs.of_bytes(left, right),
                    _ => pairs.get(self.ids[len - 1], id),
                };
                self.candidates[len - 1] = candidate(merged, len - 1);
            }
            last_byte = this_byte;
            len += 1;
            at += size;
        }
        self.next[len - 1] = OUTSIDE as u8;
        let blocks = len.next_multiple_of(16);
        self.candidates[len..blocks].fill(NONE);
        self.len = blocks;
        true
    }

    /// Makes the next merge, as far as that goes without a look at what merges further. Returns whether there was one.
    #[inline]
    fn merge(&mut self) -> Option<[u64; 2]> {
        let candidates = &self.candidates;
        let least = |block: usize| candidates[16 * block..][..16].iter().fold(NONE, |least, other| least.min(*other));
        let best = if self.len <= 16 { least(0) } else { least(0).min(least(1)) };
        if best == NONE {
            return None;
        }
        let (part, id) = (best as usize % PLACES, best / PLACES as u32);
        let right = usize::from(self.next[part]) % PLACES;
        let (left, behind) = (usize::from(self.before[part]) % PLACES, usize::from(self.next[right]) % PLACES);
        self.ids[part] = id;
        self.next[part] = behind as u8;
        self.before[behind] = part as u8;
        self.candidates[right] = NONE;
        self.changed = [(left, None), (part, None)];
        Some([Pairs::key(self.ids[left], id), Pairs::key(id, self.ids[behind])])
    }

    /// The ids of the parts.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        let mut at = 0;
        core::iter::from_fn(move || {
            (at != OUTSIDE).then(|| {
                let id = self.ids[at];
                at = usize::from(self.next[at]) % PLACES;
                id
            })
        })
    }
}

/// Merges the pieces of all lanes as far as it goes.
pub fn merge(lanes: &mut [Lane], pairs: Pairs<'_>) {
    let mut active: [usize; LANES] = core::array::from_fn(|lane| lane);
    let mut len = lanes.len().min(LANES);
    while len > 0 {
        let mut left = 0;
        for turn in 0..len {
            let lane = &mut lanes[active[turn]];
            if let Some(keys) = lane.merge() {
                for ((_, key), new) in lane.changed.iter_mut().zip(keys) {
                    *key = pairs.may_merge(new).then_some(new);
                }
                active[left] = active[turn];
                left += 1;
            }
        }
        len = left;
        for lane in &active[..len] {
            let lane = &mut lanes[*lane];
            for (part, key) in lane.changed {
                lane.candidates[part] = candidate(key.map_or(NO_ID, |key| pairs.find(key)), part);
            }
        }
    }
}

/// The candidate of a part that merges with the next to `id`, if that is one.
fn candidate(id: u32, part: usize) -> u32 {
    if id < IDS_MAX { id * PLACES as u32 + part as u32 } else { NONE }
}
