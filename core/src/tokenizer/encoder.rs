//! Encoding: special tokens, pieces, whole tokens, merging.

use super::Specials;
use super::cache::{Cache, FEW, Few, MANY};
use super::lookup::{Key, NO_ID, WORD};
use super::merge::{GROUP, Group, Merger, SHORT, WINDOW};
use super::split::{BATCH, Pieces};
use super::tables::Tables;
use super::utf8::{self, character};

/// Takes ids, in order.
pub trait Sink {
    /// Takes one.
    fn id(&mut self, id: u32);

    /// Takes the first ids of `few`.
    #[inline]
    fn few(&mut self, few: &Few) {
        few[..(few[FEW] as usize).min(FEW)].iter().for_each(|id| self.id(*id));
    }
}

impl<F: FnMut(u32)> Sink for F {
    #[inline]
    fn id(&mut self, id: u32) {
        self(id);
    }
}

/// Room for ids.
pub struct Buffer<'i> {
    /// The room.
    pub ids: &'i mut [u32],
    /// How many ids there are; may be more than there is room for.
    pub len: usize,
}

impl Sink for Buffer<'_> {
    #[inline]
    fn id(&mut self, id: u32) {
        if let Some(place) = self.ids.get_mut(self.len) {
            *place = id;
        }
        self.len += 1;
    }

    #[inline]
    fn few(&mut self, few: &Few) {
        let len = (few[FEW] as usize).min(FEW);
        // All four words, where there is room: how many of them are ids cannot be predicted.
        if let Some(place) = self.ids.get_mut(self.len..).and_then(<[u32]>::first_chunk_mut) {
            *place = *few;
            self.len += len;
        } else {
            few[..len].iter().for_each(|id| self.id(*id));
        }
    }
}

/// Pieces that are worked on together.
struct Batch {
    /// Where they are: each from one border to the next.
    borders: [usize; BATCH + 1],
    len: usize,
    /// Whether the last of them is in UTF-8; the others are.
    valid: bool,
    /// The numbers of those that the cache does not know.
    missed: [u8; BATCH],
    misses: usize,
    /// What [`Tables::ask_long`] says about the longer ones among those.
    asked: [usize; BATCH],
    long: usize,
}

impl Batch {
    const fn new() -> Self {
        Self { borders: [0; BATCH + 1], len: 0, valid: true, missed: [0; BATCH], misses: 0, asked: [0; BATCH], long: 0 }
    }

    fn pieces(&self) -> impl Iterator<Item = &[usize; 2]> {
        self.borders[..=self.len].array_windows()
    }

    /// Start and end of the piece with this number.
    #[inline]
    fn piece(&self, at: u8) -> [usize; 2] {
        let at = usize::from(at) % BATCH;
        [self.borders[at], self.borders[at + 1]]
    }
}

/// The first three of these ids, as [`Sink::few`] takes them.
#[inline]
fn few(ids: &[u32]) -> Few {
    let mut few = [0; FEW + 1];
    few[..ids.len()].copy_from_slice(ids);
    few[FEW] = ids.len() as u32;
    few
}

/// One encoding: the tables, and the memory to work in.
pub struct Encoding<'e, 'r> {
    /// The vocabulary.
    pub tables: &'e Tables<'r>,
    /// For pieces that are no token.
    pub merger: &'e mut Merger,
    /// For pieces that were seen before.
    pub cache: Cache<'e>,
}

impl Encoding<'_, '_> {
    /// Encodes `text` and hands the ids to `sink`, in order.
    pub fn encode(&mut self, text: &[u8], specials: Specials<'_>, sink: &mut impl Sink) {
        let allowed = |id| match specials {
            Specials::None => false,
            Specials::Only(ids) => ids.contains(&id),
            Specials::All => true,
        };
        let mut start = 0;
        if specials != Specials::None {
            let mut at = 0;
            while let Some(ahead) = text[at..].iter().position(|byte| self.tables.leads_special(*byte)) {
                at += ahead;
                if let Some((size, id)) = self.tables.special_at(&text[at..], allowed) {
                    self.ordinary(&text[start..at], sink);
                    sink.id(id);
                    start = at + size;
                    at = start;
                } else {
                    at += 1;
                }
            }
        }
        self.ordinary(&text[start..], sink);
    }

    /// Encodes text without special tokens, some hundred pieces at a time. While the tables that the pieces of one batch are
    /// looked up in are on their way, those of the next are cut.
    fn ordinary(&mut self, text: &[u8], sink: &mut impl Sink) {
        let mut pieces = Pieces::new(text);
        let mut batches = [Batch::new(), Batch::new()];
        let [batch, next] = &mut batches;
        let (mut batch, mut next) = (batch, next);
        let mut keys = [(0, 0); BATCH];
        let mut found = [[0; FEW + 1]; BATCH];
        loop {
            next.borders[0] = batch.borders[batch.len];
            (next.len, next.valid) = pieces.fill(&mut next.borders);
            batch.asked.iter_mut().take(batch.long).for_each(|asked| *asked = self.tables.ask_offset(*asked));
            if self.cache.short.is_empty() {
                next.pieces().for_each(|[start, end]| self.tables.ask_short(text, *start, *end));
            } else {
                for ([start, end], key) in next.pieces().zip(&mut keys) {
                    *key = self.cache.ask_short(text, *start, *end);
                }
            }
            batch.asked.iter().take(batch.long).for_each(|asked| self.tables.ask_bytes(*asked));
            self.resolve(text, batch, &mut found);
            for (at, ([start, end], found)) in batch.pieces().zip(&found).enumerate() {
                if found[FEW] > 0 {
                    sink.few(found);
                } else if batch.valid || at < batch.len - 1 {
                    self.other(text, *start, *end, sink);
                } else {
                    self.ill_formed(&text[*start..*end], sink);
                }
            }
            if next.len == 0 {
                return;
            }
            self.look_up(text, next, &keys, &mut found);
            core::mem::swap(&mut batch, &mut next);
        }
    }

    /// Looks for the pieces of a batch in the cache, or among the tokens if there is none, and asks for what [`Encoding::resolve`] and [`Encoding::other`] look at for
    /// those that are not there. Nothing here depends on what is found, so the processor waits for many pieces at once.
    #[inline]
    fn look_up(&self, text: &[u8], batch: &mut Batch, keys: &[(u128, usize); BATCH], found: &mut [Few; BATCH]) {
        let known = batch.len - usize::from(!batch.valid);
        if self.cache.short.is_empty() {
            for ([start, end], found) in batch.pieces().zip(&mut found[..known]) {
                let id = self.tables.at_once(text, *start, *end);
                *found = [id, 0, 0, u32::from(id != NO_ID)];
            }
        } else {
            for (found, key) in found[..known].iter_mut().zip(keys) {
                *found = self.cache.short(*key);
            }
        }
        if !batch.valid {
            found[known % BATCH] = [0; FEW + 1];
        }
        batch.misses = 0;
        for (at, found) in found[..known].iter().enumerate() {
            batch.missed[batch.misses % BATCH] = at as u8;
            batch.misses += usize::from(found[FEW] == 0);
        }
        batch.long = 0;
        for at in &batch.missed[..batch.misses] {
            let [start, end] = batch.piece(*at);
            if end - start <= 8 {
                self.tables.ask_short(text, start, end);
            } else if end - start <= 2 * WORD {
                let key = Key::of(text, start, end);
                self.cache.ask_long(&key);
                batch.asked[batch.long % BATCH] = self.tables.ask_long(text, &key);
                batch.long += 1;
            }
        }
    }

    /// Finds the tokens of short pieces that the cache does not know, where they are few. Those that have to be merged are merged
    /// together.
    #[inline(never)]
    fn resolve(&mut self, text: &[u8], batch: &Batch, found: &mut [Few; BATCH]) {
        let mut group = Group::default();
        let mut members = [0; GROUP];
        for at in &batch.missed[..batch.misses] {
            let [start, end] = batch.piece(*at);
            // Most that starts with a character of three bytes falls into more segments than one.
            if end - start > 2 * WORD || text[start] >= 0xE0 {
                continue;
            }
            let mut known = self.tables.short(text, start, end);
            if known.is_none() {
                let key = Key::of(text, start, end);
                if let Some(entry) = self.cache.long(&key) {
                    if entry.ids().len() <= FEW {
                        found[usize::from(*at) % BATCH] = few(entry.ids());
                        self.cache.keep_short(text, start, end, entry.ids());
                    }
                    continue;
                }
                if end - start >= 8 {
                    known = self.tables.whole(text, &key);
                }
            }
            if let Some(id) = known {
                found[usize::from(*at) % BATCH] = few(&[id]);
                self.cache.keep(text, &Key::of(text, start, end), &[id]);
            } else if let Some(segment) = self.merger.segment(self.tables, &text[start..end]) {
                members[group.segments().len() % GROUP] = *at;
                group.push(segment);
                if group.is_full() {
                    self.merge(text, batch, &mut group, &members, found);
                }
            }
        }
        self.merge(text, batch, &mut group, &members, found);
    }

    /// Merges the pieces of a group, the members of a batch with these numbers, and empties it.
    fn merge(
        &mut self,
        text: &[u8],
        batch: &Batch,
        group: &mut Group,
        members: &[u8; GROUP],
        found: &mut [Few; BATCH],
    ) {
        group.merge(self.tables.pairs);
        for (member, segment) in members.iter().zip(group.segments()) {
            let [start, end] = batch.piece(*member);
            let mut ids = [0; SHORT];
            let mut len = 0;
            segment.ids().for_each(|id| {
                ids[len % SHORT] = id;
                len += 1;
            });
            self.merger.merged_bytes += (end - start) as u64;
            self.cache.keep(text, &Key::of(text, start, end), &ids[..len]);
            if len <= FEW {
                found[usize::from(*member) % BATCH] = few(&ids[..len]);
            }
        }
        group.clear();
    }

    /// Encodes a piece that was not found before.
    #[inline(never)]
    fn other(&mut self, text: &[u8], start: usize, end: usize, sink: &mut impl Sink) {
        let key = Key::of(text, start, end);
        match self.cache.long(&key) {
            Some(entry) => {
                entry.ids().iter().for_each(|id| sink.id(*id));
                self.cache.keep_short(text, start, end, entry.ids());
            }
            None => self.new_piece(text, &key, sink),
        }
    }

    /// Encodes a piece that the cache does not know.
    #[inline(never)]
    fn new_piece(&mut self, text: &[u8], key: &Key, sink: &mut impl Sink) {
        // Without spaces between words hardly any long piece is a token, and merging gives the same.
        let unlikely = key.size() > 2 * WORD && !text[key.start].is_ascii();
        if !unlikely && let Some(id) = self.tables.whole(text, key) {
            self.cache.keep(text, key, &[id]);
            return sink.id(id);
        }
        let piece = &text[key.start..key.end];
        if piece.len() > WINDOW {
            return self.merger.long(self.tables, piece, &mut |id| sink.id(id));
        }
        let mut ids = [0; MANY];
        let mut len = 0;
        self.merger.piece(self.tables, piece, &mut |id| {
            if let Some(place) = ids.get_mut(len) {
                *place = id;
            }
            len += 1;
            sink.id(id);
        });
        if let Some(ids) = ids.get(..len) {
            self.cache.keep(text, key, ids);
        }
    }

    /// Encodes a piece whose ill-formed parts are yet to be replaced.
    #[inline(never)]
    fn ill_formed(&mut self, piece: &[u8], sink: &mut impl Sink) {
        const REPLACEMENT: &[u8] = utf8::REPLACEMENT.as_bytes();
        let mut window = [0; WINDOW];
        let mut len = 0;
        let mut at = 0;
        let mut first = true;
        loop {
            while at < piece.len() && len + 4 <= WINDOW {
                let character = character(piece, at);
                let bytes = if character.valid { &piece[at..at + character.size] } else { REPLACEMENT };
                window[len..len + bytes.len()].copy_from_slice(bytes);
                len += bytes.len();
                at += character.size;
            }
            if at == piece.len() {
                return if first {
                    self.new_piece(&window, &Key::of(&window, 0, len), sink);
                } else {
                    self.merger.window(self.tables, &window[..len], true, &mut |id| sink.id(id));
                };
            }
            first = false;
            let mut certain = self.merger.window(self.tables, &window[..len], false, &mut |id| sink.id(id));
            if certain == 0 {
                // No token is so long but those of a damaged index.
                certain = self.merger.window(self.tables, &window[..len], true, &mut |id| sink.id(id));
            }
            window.copy_within(certain..len, 0);
            len -= certain;
        }
    }
}
