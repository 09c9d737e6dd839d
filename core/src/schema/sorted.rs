//! Texts in the order of their bytes, and how to walk through them.

use core::ops::Range;

use crate::error::Result;
use crate::region::{Carver, List};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::tables::Cutter;

/// Texts in order.
#[derive(Clone, Copy)]
pub struct Sorted<'r> {
    pub ids: &'r [u32],
    /// Bytes that each shares with the one before it, of at most 254.
    pub shared: &'r [u8],
    /// How far behind each comes one that shares less with the one before it, or one at least that none before shares less.
    pub ahead: &'r [u16],
    /// Where the text of a token begins.
    pub start: fn(&[u8]) -> usize,
}

impl<'r> Sorted<'r> {
    /// Takes what [`Sorted::sections`] gave.
    pub fn open(cutter: &mut Cutter<'r>, len: u32, start: fn(&[u8]) -> usize) -> Result<Self> {
        let len = len as usize;
        let (ids, shared, ahead) = (cutter.cut(len)?, cutter.cut(len)?, cutter.cut(len)?);
        Ok(Self { ids, shared, ahead, start })
    }

    /// What is saved.
    pub fn sections(&self) -> [&'r [u8]; 3] {
        [bytemuck::cast_slice(self.ids), self.shared, bytemuck::cast_slice(self.ahead)]
    }

    /// Those of a range; none if there is no such range.
    pub fn part(&self, range: Range<usize>) -> Self {
        let Self { ids, shared, ahead, start } = *self;
        let (ids, shared) = (ids.get(range.clone()), shared.get(range.clone()));
        let ahead = ahead.get(range).unwrap_or_default();
        Self { ids: ids.unwrap_or_default(), shared: shared.unwrap_or_default(), ahead, start }
    }

    /// The bytes of a token before its text, and the text.
    pub fn text<'t>(&self, tokenizer: &Tokenizer<'t>, index: usize) -> (&'t [u8], &'t [u8]) {
        let bytes = tokenizer.token_bytes(self.ids[index]).unwrap_or_default();
        bytes.split_at((self.start)(bytes))
    }

    /// Asks for the bytes of tokens soon to come.
    pub fn ask(&self, tokenizer: &Tokenizer<'_>, index: usize) {
        let id = |ahead: usize| self.ids.get(index + ahead).copied().unwrap_or_default();
        tokenizer.ask_token(id(16), id(8));
    }

    /// The next behind one that shares at most `depth` bytes with it.
    pub fn next(&self, index: usize, depth: usize) -> usize {
        let mut next = index + 1;
        while let Some(shared) = self.shared.get(next)
            && usize::from(*shared) > depth
        {
            next += usize::from(self.ahead[next]).max(1);
        }
        next
    }
}

/// Texts to be sorted.
pub struct Unsorted<'r> {
    pub ids: List<'r, u32>,
    pub shared: &'r mut [u8],
    ahead: &'r mut [u16],
}

/// A text whose border to the one before it has not been found.
const UNKNOWN: u8 = u8::MAX;
/// Of longer texts it is enough to know that they share so much.
const SHARED_MAX: usize = 254;
/// So many texts are sorted by comparing them.
const FEW: usize = 24;

impl<'r> Unsorted<'r> {
    pub fn carve(carver: &mut Carver<'r>, len: usize) -> Result<Self> {
        Ok(Self { ids: carver.list(len)?, shared: carver.filled(len, UNKNOWN)?, ahead: carver.filled(len, 0)? })
    }

    pub fn sort(mut self, tokenizer: &Tokenizer<'_>, start: fn(&[u8]) -> usize) -> Sorted<'r> {
        let shared = &mut self.shared[..self.ids.len()];
        sort(&mut self.ids, shared, tokenizer, start);
        self.look_ahead(start)
    }

    /// Finds how far what shares more can be passed over.
    pub fn look_ahead(self, start: fn(&[u8]) -> usize) -> Sorted<'r> {
        let Self { ids, shared, ahead } = self;
        let len = ids.len();
        for index in (0..len).rev() {
            let mut next = index + 1;
            while next < len && shared[next] >= shared[index] {
                next += usize::from(ahead[next]);
            }
            ahead[index] = (next - index).min(u16::MAX.into()) as u16;
        }
        Sorted { ids: ids.freeze(), shared: &shared[..len], ahead: &ahead[..len], start }
    }
}

/// Sorts texts by their first byte, then those with the same first byte by their second, and so on. The time grows with the bytes, and
/// where two texts part says what they share.
pub fn sort(ids: &mut [u32], shared: &mut [u8], tokenizer: &Tokenizer<'_>, start: fn(&[u8]) -> usize) {
    // 0 is the end of a text.
    let key = |id: u32, depth: usize| {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        bytes.get(start(bytes) + depth).map_or(0, |byte| usize::from(*byte) + 1)
    };
    if let Some(first) = shared.first_mut() {
        *first = 0;
    }
    let (mut at, mut depth) = (0, 0);
    while at < ids.len() {
        let behind = &shared[at + 1..];
        let end = at + 1 + behind.iter().position(|shared| *shared != UNKNOWN).unwrap_or(behind.len());
        if end - at <= FEW {
            sort_few(&mut ids[at..end], &mut shared[at..end], tokenizer, start);
            at = end;
            depth = shared.get(at).map_or(0, |shared| usize::from(*shared) + 1);
        } else {
            split(&mut ids[at..end], &mut shared[at..end], depth, |id| key(id, depth));
            depth += 1;
        }
    }
}

fn sort_few(ids: &mut [u32], shared: &mut [u8], tokenizer: &Tokenizer<'_>, start: fn(&[u8]) -> usize) {
    let text = |id: u32| {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        &bytes[start(bytes)..]
    };
    ids.sort_unstable_by(|left, right| text(*left).cmp(text(*right)));
    for index in 1..ids.len() {
        let pairs = text(ids[index - 1]).iter().zip(text(ids[index]));
        let same = pairs.take_while(|(left, right)| left == right).count();
        shared[index] = same.min(SHARED_MAX) as u8;
    }
}

/// Sorts texts that share `depth` bytes by the next byte, in place, and marks where it changes and where texts end.
fn split(ids: &mut [u32], shared: &mut [u8], depth: usize, key: impl Fn(u32) -> usize) {
    let mut ends = [0; 257];
    ids.iter().for_each(|id| ends[key(*id)] += 1);
    let ended = ends[0];
    let mut end = 0;
    let mut next = ends.each_mut().map(|count| {
        let begin = end;
        end += *count;
        *count = end;
        begin
    });
    for bucket in 0..ends.len() {
        while next[bucket] < ends[bucket] {
            let place = next[bucket];
            let of = key(ids[place]);
            ids.swap(place, next[of]);
            next[of] += 1;
        }
    }
    let mark = depth.min(SHARED_MAX) as u8;
    let begins = ends.into_iter().filter(|begin| *begin < ids.len()).chain(0..ended);
    begins.filter(|begin| *begin > 0).for_each(|begin| shared[begin] = mark);
}
