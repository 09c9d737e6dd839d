//! Merging: from the bytes of a piece to its tokens.
//!
//! The rule: start from single bytes; of all adjacent parts whose concatenation is a token, merge those with the lowest id,
//! leftmost on ties; until there are none.
//!
//! # Pieces of any length, in memory of fixed size
//!
//! A piece may be a megabyte of one letter. What stands at its end can in principle decide how its start is merged, but not
//! over any distance, and the distance can be computed from the vocabulary. Think of the same merging on a text and on
//! the text cut short at byte *w*, one id after the other (merging makes ever higher ids, see [`super::tables`]). At any time let
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
//!
//! # Starting from characters
//!
//! Most characters of other scripts are tokens of two or three bytes. Where it is sure that these bytes become one part before
//! any of them merges with a neighbour, merging starts from the character. Only a token that goes across the border of the
//! character and ends or starts within it could come before, and only with a lower id. For each two bytes with a border
//! between them [`Tables`] knows the lowest id of such a token; if the character's own id is lower on both sides, it is sure.
//!
//! # Cutting between characters
//!
//! From then on, a token that goes across the border of two such characters holds both. Where no token of the vocabulary holds
//! the two next to each other ([`Pairs::together`]), nothing ever merges across the border, and the text can be cut there. Most
//! of Chinese and Japanese falls into segments of one or two characters that way.

use super::lookup::{NO_ID, Pairs};
use super::tables::Tables;
use super::vocabulary::IDS_MAX;

/// How many bytes are merged at once.
pub const WINDOW: usize = 1024;

/// Bytes, and so merge candidates, that share one minimum.
const BLOCK: usize = 16;

/// Parts that are merged without a window.
pub const SHORT: usize = BLOCK;

/// No candidate: above all others.
const NONE: i32 = i32::MAX;

/// Working memory to merge one window. A part is known by its first byte.
#[derive(Clone, Copy)]
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
    /// What a piece that is cut into segments is made of.
    parts: [Part; PARTS],
    /// How many bytes were merged so far, those of overlapping windows each time.
    pub merged_bytes: u64,
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
            parts: [Part::NONE; PARTS],
            merged_bytes: 0,
        }
    }
}

/// Parts of a piece that is cut into segments.
const PARTS: usize = 128;

/// What a piece is made of to begin with.
#[derive(Clone, Copy)]
struct Part {
    id: u32,
    /// Its first byte within the piece.
    start: u16,
    /// What it is.
    kind: PartKind,
    /// Whether it may merge with the part before it.
    joined: bool,
}

impl Part {
    const NONE: Self = Self { id: 0, start: 0, kind: PartKind::Fragment, joined: false };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PartKind {
    /// A character of one byte.
    Ascii,
    /// Another character.
    Character,
    /// A byte of a character that is not sure to become a token.
    Fragment,
}

/// Up to [`SHORT`] parts next to each other.
#[derive(Clone, Copy)]
pub struct Segment {
    /// For each part: the id that merging it with the next would give, times [`SHORT`], plus the part.
    candidates: [i32; SHORT],
    /// The id of each part.
    ids: [u32; SHORT],
    /// The part behind each part.
    behind: [u8; SHORT],
    /// The part before each part.
    before: [u8; SHORT],
    /// How many parts there were.
    len: usize,
}

impl Segment {
    /// So many parts, without ids.
    #[inline]
    fn new(len: usize) -> Self {
        const NEXT: [u8; SHORT] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        const LAST: [u8; SHORT] = [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
        Self { candidates: [NONE; SHORT], ids: [0; SHORT], behind: NEXT, before: LAST, len: len.min(SHORT) }
    }

    /// Notes to what the parts at `left` and `right`, which is behind it, merge. Then asks for the pairs that come of it: they
    /// may be looked up next.
    #[inline]
    fn consider(&mut self, pairs: Pairs<'_>, left: usize, right: usize, merged: u32) {
        self.candidates[left] = candidate::<SHORT>(merged, left);
        if merged < IDS_MAX {
            if left > 0 {
                pairs.ask(self.ids[usize::from(self.before[left]) % SHORT], merged);
            }
            let next = usize::from(self.behind[right]);
            if next < self.len {
                pairs.ask(merged, self.ids[next % SHORT]);
            }
        }
    }

    /// A piece of at most [`SHORT`] bytes, all in ASCII.
    #[inline]
    fn ascii(pairs: Pairs<'_>, text: &[u8]) -> Self {
        let mut segment = Self::new(text.len());
        for (id, byte) in segment.ids.iter_mut().zip(text) {
            *id = pairs.byte_id(*byte);
        }
        for (left, two) in text.windows(2).take(SHORT - 1).enumerate() {
            segment.consider(pairs, left, left + 1, pairs.of_bytes(two[0], two[1]));
        }
        segment
    }

    /// At most [`SHORT`] parts of `text`.
    #[inline]
    fn parts(pairs: Pairs<'_>, parts: &[Part], text: &[u8]) -> Self {
        let mut segment = Self::new(parts.len());
        for (id, part) in segment.ids.iter_mut().zip(parts) {
            *id = part.id;
        }
        for (left, two) in parts.windows(2).take(SHORT - 1).enumerate() {
            let merged = match (two[0].kind, two[1].kind) {
                (PartKind::Ascii, PartKind::Ascii) => {
                    pairs.of_bytes(text[usize::from(two[0].start)], text[usize::from(two[1].start)])
                }
                _ => pairs.get(two[0].id, two[1].id),
            };
            segment.consider(pairs, left, left + 1, merged);
        }
        segment
    }

    /// Merges two parts. Returns whether there were any to merge.
    #[inline]
    fn step(&mut self, pairs: Pairs<'_>) -> bool {
        let half: &[i32; SHORT / 2] = self.candidates.first_chunk().expect("half of them");
        let best = if self.len <= SHORT / 2 { least(half) } else { least(&self.candidates) };
        if best == NONE {
            return false;
        }
        // The remainders change nothing, but show that all is within bounds.
        let part = best as usize % SHORT;
        let id = best as u32 / SHORT as u32;
        let right = usize::from(self.behind[part]) % SHORT;
        let next = usize::from(self.behind[right]);
        self.ids[part] = id;
        self.behind[part] = next as u8;
        self.candidates[right] = NONE;
        self.candidates[part] = NONE;
        if next < self.len {
            self.before[next % SHORT] = part as u8;
            self.consider(pairs, part, next % SHORT, pairs.get(id, self.ids[next % SHORT]));
            // What the neighbours may become before this part merges with them.
            let ahead = self.candidates[next % SHORT];
            if ahead != NONE {
                pairs.ask(id, ahead as u32 / SHORT as u32);
            }
        }
        if part > 0 {
            let left = usize::from(self.before[part]) % SHORT;
            self.consider(pairs, left, part, pairs.get(self.ids[left], id));
            let back = self.candidates[usize::from(self.before[left]) % SHORT];
            if left > 0 && back != NONE {
                pairs.ask(back as u32 / SHORT as u32, id);
            }
        }
        true
    }

    /// Merges the parts and hands out what is left.
    fn merge(mut self, pairs: Pairs<'_>, emit: &mut impl FnMut(u32)) {
        while self.step(pairs) {}
        self.ids().for_each(emit);
    }

    /// The parts that are left.
    #[inline]
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        let mut at = 0;
        core::iter::from_fn(move || {
            let part = at;
            (part < self.len).then(|| {
                at = usize::from(self.behind[part % SHORT]);
                self.ids[part % SHORT]
            })
        })
    }
}

/// Segments that are merged together.
pub const GROUP: usize = 8;

/// Segments that take turns: while one waits for the tables, the others go on.
pub struct Group {
    segments: [Segment; GROUP],
    len: usize,
}

impl Default for Group {
    fn default() -> Self {
        Self { segments: [Segment::new(0); GROUP], len: 0 }
    }
}

impl Group {
    /// Whether there is no room for more.
    pub fn is_full(&self) -> bool {
        self.len == GROUP
    }

    /// Leaves none.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds one, unless there are [`GROUP`] already.
    pub fn push(&mut self, segment: Segment) {
        if let Some(place) = self.segments.get_mut(self.len) {
            *place = segment;
            self.len += 1;
        }
    }

    /// Merges all as far as it goes.
    pub fn merge(&mut self, pairs: Pairs<'_>) {
        let mut unfinished = (1u32 << self.len) - 1;
        while unfinished != 0 {
            let mut left = unfinished;
            while left != 0 {
                let at = left.trailing_zeros() as usize % GROUP;
                left &= left - 1;
                if !self.segments[at].step(pairs) {
                    unfinished &= !(1 << at);
                }
            }
        }
    }

    /// The segments, in the order in which they were added.
    pub fn segments(&self) -> &[Segment] {
        &self.segments[..self.len]
    }
}

impl Merger {
    /// Encodes a piece in UTF-8 of at most [`WINDOW`] bytes.
    pub fn piece(&mut self, tables: &Tables<'_>, text: &[u8], emit: &mut impl FnMut(u32)) {
        if text.len() <= SHORT && text.is_ascii() {
            self.merged_bytes += text.len() as u64;
            return Segment::ascii(tables.pairs, text).merge(tables.pairs, emit);
        }
        let Some(len) = self.part(tables, text) else {
            self.window(tables, text, true, emit);
            return;
        };
        let pairs = tables.pairs;
        let mut first = 0;
        for end in 1..=len {
            if self.parts[..len].get(end).is_some_and(|next| next.joined) {
                continue;
            }
            match &self.parts[first..end] {
                [alone] => emit(alone.id),
                [left, right] if left.kind != PartKind::Ascii || right.kind != PartKind::Ascii => {
                    let merged = pairs.get(left.id, right.id);
                    if merged < IDS_MAX {
                        emit(merged);
                    } else {
                        emit(left.id);
                        emit(right.id);
                    }
                }
                several if several.len() <= SHORT => Segment::parts(pairs, several, text).merge(pairs, emit),
                several => {
                    let start = usize::from(several[0].start);
                    let end = self.parts[..len].get(end).map_or(text.len(), |next| usize::from(next.start));
                    self.window(tables, &text[start..end], true, emit);
                }
            }
            first = end;
        }
        self.merged_bytes += text.len() as u64;
    }

    /// A piece in UTF-8 as one segment, if it is one.
    #[inline]
    pub fn segment(&mut self, tables: &Tables<'_>, text: &[u8]) -> Option<Segment> {
        if text.is_ascii() {
            return (text.len() <= SHORT).then(|| Segment::ascii(tables.pairs, text));
        }
        let len = self.part(tables, text)?;
        let parts = &self.parts[..len];
        (len <= SHORT && parts[1..].iter().all(|part| part.joined)).then(|| Segment::parts(tables.pairs, parts, text))
    }

    /// Finds what a piece is made of, and which parts may merge. Returns of how many parts, unless these are too many.
    fn part(&mut self, tables: &Tables<'_>, text: &[u8]) -> Option<usize> {
        let mut len = 0;
        // What may go across the last border that was looked at, and where that is.
        let mut across = (NO_ID, 0);
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            let mut part =
                Part { id: tables.pairs.byte_id(byte), start: at as u16, kind: PartKind::Ascii, joined: false };
            let mut size = 1;
            if byte >= 0x80 {
                part.kind = PartKind::Fragment;
                let (mut lowest, border) = across;
                if border != at {
                    lowest = tables.across(text, at);
                }
                if let Some(character) = tables.character(text, at, lowest) {
                    part.kind = PartKind::Character;
                    (part.id, size) = (character.0, character.1);
                    across = (character.2, at + size);
                }
            }
            *self.parts.get_mut(len)? = part;
            len += 1;
            at += size;
        }
        let pairs = tables.pairs;
        // This asks for what is looked at next, without branches on what is found.
        let mut before = Part::NONE;
        for part in &mut self.parts[..len] {
            if before.kind == PartKind::Ascii && part.kind == PartKind::Ascii {
                part.joined = true;
            } else {
                pairs.ask(before.id, part.id);
                let fragment = before.kind == PartKind::Fragment || part.kind == PartKind::Fragment;
                part.joined = fragment | pairs.together(before.id, part.id);
            }
            before = *part;
        }
        Some(len)
    }

    /// Merges `text`, at most [`WINDOW`] bytes, from its bytes on.
    pub fn merge_bytes(&mut self, pairs: Pairs<'_>, text: &[u8]) {
        self.start(text, pairs, |_, _| None);
        self.run(pairs);
    }

    /// Merges `text`, at most [`WINDOW`] bytes of UTF-8, which may end within a character. Starts from characters where these
    /// are sure to become tokens first.
    pub fn merge(&mut self, tables: &Tables<'_>, text: &[u8]) {
        self.start(text, tables.pairs, |text, at| {
            tables.character(text, at, tables.across(text, at)).map(|(id, size, _)| (id, size))
        });
        self.run(tables.pairs);
    }

    /// Sets the first parts: what `character` gives, with ids and sizes, or else single bytes.
    #[inline]
    fn start(&mut self, text: &[u8], pairs: Pairs<'_>, character: impl Fn(&[u8], usize) -> Option<(u32, usize)>) {
        let text = &text[..text.len().min(WINDOW)];
        self.len = text.len();
        self.merged_bytes += text.len() as u64;
        self.candidates[..text.len().div_ceil(BLOCK)].fill([NONE; BLOCK]);
        let mut before = 0;
        // The part before, if that is a byte.
        let mut byte_before = None;
        let mut at = 0;
        while at < text.len() {
            let byte = text[at];
            let known = if byte < 0x80 { None } else { character(text, at) };
            let (id, size) = known.unwrap_or_else(|| (pairs.byte_id(byte), 1));
            self.ids[at] = id;
            self.sizes[at] = size as u16;
            self.before[at] = before as u16;
            let this_byte = (size == 1).then_some(byte);
            if at > 0 {
                let merged = match (byte_before, this_byte) {
                    (Some(left), Some(right)) => pairs.of_bytes(left, right),
                    _ => pairs.get(self.ids[before], id),
                };
                self.candidates[before / BLOCK][before % BLOCK] = candidate::<WINDOW>(merged, before);
            }
            before = at;
            byte_before = this_byte;
            at += size;
        }
    }

    /// Merges as far as it goes.
    fn run(&mut self, pairs: Pairs<'_>) {
        let blocks = self.len.div_ceil(BLOCK);
        if blocks <= 1 {
            loop {
                let best = least(&self.candidates[0]);
                if best == NONE {
                    return;
                }
                self.apply(pairs, best);
            }
        }
        for block in 0..blocks {
            self.least[block] = least(&self.candidates[block]);
        }
        loop {
            let best = self.least[..blocks].iter().fold(NONE, |best, other| best.min(*other));
            if best == NONE {
                return;
            }
            for part in self.apply(pairs, best) {
                self.least[part / BLOCK] = least(&self.candidates[part / BLOCK]);
            }
        }
    }

    /// Merges the candidate `best` with the part behind it. Returns the parts whose candidates have changed.
    #[inline]
    fn apply(&mut self, pairs: Pairs<'_>, best: i32) -> [usize; 3] {
        // The remainders change nothing, but show that all is within bounds.
        let part = best as usize % WINDOW;
        let id = best as u32 / WINDOW as u32;
        let right = (part + usize::from(self.sizes[part])) % WINDOW;
        let next = right + usize::from(self.sizes[right]);
        self.ids[part] = id;
        self.sizes[part] = (next - part) as u16;
        self.candidates[right / BLOCK][right % BLOCK] = NONE;
        self.candidates[part / BLOCK][part % BLOCK] = if next < self.len.min(WINDOW) {
            self.before[next] = part as u16;
            candidate::<WINDOW>(pairs.get(id, self.ids[next]), part)
        } else {
            NONE
        };
        let left = usize::from(self.before[part]) % WINDOW;
        if part > 0 {
            self.candidates[left / BLOCK][left % BLOCK] = candidate::<WINDOW>(pairs.get(self.ids[left], id), left);
        }
        [left, part, right]
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
        self.merge(tables, text);
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

    /// Encodes a piece of any length.
    pub fn long(&mut self, tables: &Tables<'_>, piece: &[u8], emit: &mut impl FnMut(u32)) {
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

/// The candidate of a part, one of so many, that merges with the next to `id`, if that is one.
#[inline]
fn candidate<const PARTS: usize>(id: u32, part: usize) -> i32 {
    if id < IDS_MAX { (id * PARTS as u32) as i32 + part as i32 } else { NONE }
}

fn least<const LEN: usize>(candidates: &[i32; LEN]) -> i32 {
    candidates.iter().fold(NONE, |least, other| least.min(*other))
}
