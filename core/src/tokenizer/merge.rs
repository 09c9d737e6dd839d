//! Merging: from the bytes of a piece to its tokens.
//!
//! The rule: start from single bytes; of all adjacent parts whose concatenation is a token, merge those with the lowest id,
//! leftmost on ties; until there are none.
//!
//! # Pieces of any length, in memory of fixed size
//!
//! A piece may be a megabyte of one letter. What stands at its end can in principle decide how its start is merged, but not
//! over any distance, and the distance can be computed from the vocabulary. Think of the same merging on a text and on
//! the text cut short at byte *w*, one id after the other (merging makes ever higher ids, see `Tables`). At any time let
//! *b* be the place up to which both consist of the same parts, *b* = *w* at first. Now the pair (*l*, *r*) is
//! merged to *t*, left to right. Left of *b* both do the same, so *b* moves only if an *l* ends there and an *r* starts
//! there in one of the two (not in both: then *b* would lie further right). Then one has *t*, the other *l*, where that *l*
//! began, and this is the new *b*. So let *reach*\[*x*\] be the greatest distance *w* - *b* at which a part *x* can start
//! at *b*, at first 0 for every token. In the order of the ids *t* = (*l*, *r*):
//!
//! ```text
//! distance = reach[r] + size[l]
//! reach[t] = max(reach[t], reach[l], distance)    (the l at b may also have been merged to the right)
//! reach[l] = max(reach[l], distance)
//! ```
//!
//! The greatest entry is the vocabulary's *lookahead*: 292 bytes for o200k. Tokens of a cut text that end at least so far
//! before the cut are those of the whole text. And a text that starts where a token starts has the tokens that follow
//! there. So a long piece is merged in windows, each giving up what lies beyond the lookahead to the next: exact, and linear
//! in time whatever the text.

use super::tables::{Pairs, Tables};

/// How many bytes are merged at once.
pub const WINDOW: usize = 1024;

/// Bytes, and so merge candidates, that share one minimum.
const BLOCK: usize = 16;

/// No candidate: above all others.
const NONE: i32 = i32::MAX;

/// Working memory to merge one window. A part is known by its first byte.
pub struct Merger {
    /// For each part: the id that merging it with the next would give, times [`WINDOW`], plus the part. The least of them is
    /// the leftmost merge of lowest rank.
    candidates: [[i32; BLOCK]; WINDOW / BLOCK],
    /// The least candidate of each block.
    least: [i32; WINDOW / BLOCK],
    /// The id of each part.
    ids: [u32; WINDOW],
    /// The size of each part in bytes.
    sizes: [u16; WINDOW],
    /// The part before each part.
    before: [u16; WINDOW],
    /// How many bytes the window holds.
    len: usize,
}

impl Default for Merger {
    fn default() -> Self {
        Self {
            candidates: [[NONE; BLOCK]; WINDOW / BLOCK],
            least: [NONE; WINDOW / BLOCK],
            ids: [0; WINDOW],
            sizes: [0; WINDOW],
            before: [0; WINDOW],
            len: 0,
        }
    }
}

impl Merger {
    /// Merges `text`, at most [`WINDOW`] bytes, as far as it goes.
    pub fn merge(&mut self, byte_ids: &[u32; 256], pairs: Pairs<'_>, text: &[u8]) {
        let len = text.len().min(WINDOW);
        self.len = len;
        for (at, byte) in text[..len].iter().enumerate() {
            self.ids[at] = byte_ids[*byte as usize];
            self.sizes[at] = 1;
            self.before[at] = at.saturating_sub(1) as u16;
        }
        let blocks = len.div_ceil(BLOCK);
        for block in 0..blocks {
            for slot in 0..BLOCK {
                let at = block * BLOCK + slot;
                self.candidates[block][slot] =
                    if at + 1 < len { candidate(pairs, self.ids[at], self.ids[at + 1], at) } else { NONE };
            }
            self.least[block] = least(&self.candidates[block]);
        }
        loop {
            let best = self.least[..blocks].iter().fold(NONE, |best, other| best.min(*other));
            if best == NONE {
                return;
            }
            let part = best as usize % WINDOW;
            let id = best as u32 / WINDOW as u32;
            let right = part + self.sizes[part] as usize;
            let next = right + self.sizes[right] as usize;
            self.ids[part] = id;
            self.sizes[part] = (next - part) as u16;
            self.candidates[right / BLOCK][right % BLOCK] = NONE;
            self.candidates[part / BLOCK][part % BLOCK] = if next < len {
                self.before[next] = part as u16;
                candidate(pairs, id, self.ids[next], part)
            } else {
                NONE
            };
            if part > 0 {
                let left = self.before[part] as usize;
                self.candidates[left / BLOCK][left % BLOCK] = candidate(pairs, self.ids[left], id, left);
                self.least[left / BLOCK] = least(&self.candidates[left / BLOCK]);
            }
            self.least[part / BLOCK] = least(&self.candidates[part / BLOCK]);
            self.least[right / BLOCK] = least(&self.candidates[right / BLOCK]);
        }
    }

    /// The parts of the window, in order: id and the byte behind.
    pub fn parts(&self) -> impl Iterator<Item = (u32, usize)> {
        let mut at = 0;
        core::iter::from_fn(move || {
            let part = at;
            (part < self.len).then(|| {
                at += self.sizes[part] as usize;
                (self.ids[part], at)
            })
        })
    }

    /// Encodes a piece that fits into a window, or the first window of one that does not. Returns how many bytes of it the
    /// ids stand for; if `whole`, all.
    pub fn window(&mut self, tables: &Tables<'_>, text: &[u8], whole: bool, emit: &mut impl FnMut(u32)) -> usize {
        self.merge(tables.byte_ids, tables.pairs(), text);
        let certain = if whole { self.len } else { self.len.saturating_sub(tables.lookahead) };
        self.emit(certain, emit)
    }

    fn emit(&self, certain: usize, emit: &mut impl FnMut(u32)) -> usize {
        let mut at = 0;
        for (id, end) in self.parts() {
            if end > certain {
                break;
            }
            emit(id);
            at = end;
        }
        at
    }

    /// Encodes a piece that may be longer than a window.
    pub fn piece(&mut self, tables: &Tables<'_>, piece: &[u8], emit: &mut impl FnMut(u32)) {
        let mut rest = piece;
        while rest.len() > WINDOW {
            let window = &rest[..WINDOW];
            let certain = self.window(tables, window, false, emit);
            rest = &rest[certain..];
            // A run of one letter, or of a few, looks the same from window to window, and so do its tokens.
            while certain > 0 && rest.len() > WINDOW && rest[..WINDOW] == *window {
                self.emit(certain, emit);
                rest = &rest[certain..];
            }
            if certain == 0 {
                break;
            }
        }
        self.window(tables, rest, true, emit);
    }
}

fn candidate(pairs: Pairs<'_>, left: u32, right: u32, part: usize) -> i32 {
    pairs.get(left, right).map_or(NONE, |id| id as i32 * WINDOW as i32 + part as i32)
}

fn least(candidates: &[i32; BLOCK]) -> i32 {
    candidates.iter().fold(NONE, |least, other| least.min(*other))
}
