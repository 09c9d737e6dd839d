//! Encoding: special tokens, pieces, whole tokens, merging.

use super::Specials;
use super::cache::{Cache, FEW, Few, MANY};
use super::lookup::{Key, NO_ID, WORD};
use super::merge::{Merger, WINDOW};
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

    fn ordinary(&mut self, text: &[u8], sink: &mut impl Sink) {
        let mut pieces = Pieces::new(text);
        let mut borders = [0; BATCH + 1];
        let mut found = [[0; FEW + 1]; BATCH];
        let mut keys = [(0, 0); BATCH];
        let mut missed = [0; BATCH];
        loop {
            let (len, valid) = pieces.fill(&mut borders);
            if len == 0 {
                return;
            }
            let batch = borders[..=len].array_windows();
            // Nothing here depends on what is found, so the CPU waits for many pieces at once.
            if self.cache.short.is_empty() {
                for ([start, end], found) in batch.clone().zip(&mut found) {
                    let id = self.tables.at_once(text, *start, *end);
                    *found = [id, 0, 0, u32::from(id != NO_ID)];
                }
            } else {
                for ([start, end], key) in batch.clone().zip(&mut keys) {
                    *key = self.cache.ask_short(text, *start, *end);
                }
                for (found, key) in found[..len].iter_mut().zip(&keys) {
                    *found = self.cache.short(*key);
                }
            }
            let mut misses = 0;
            for (at, found) in found[..len].iter().enumerate() {
                missed[misses] = at as u8;
                misses += usize::from(found[FEW] == 0);
            }
            if !valid {
                found[len - 1][FEW] = 0;
            }
            self.ask(text, &borders, &missed[..misses]);
            for (at, ([start, end], found)) in batch.zip(&found).enumerate() {
                if found[FEW] > 0 {
                    sink.few(found);
                } else if valid || at < len - 1 {
                    self.other(text, *start, *end, sink);
                } else {
                    self.ill_formed(&text[*start..*end], sink);
                }
            }
            borders[0] = borders[len];
        }
    }

    /// Asks for what [`Encoding::other`] looks at, for the pieces with these numbers.
    #[inline]
    fn ask(&self, text: &[u8], borders: &[usize; BATCH + 1], missed: &[u8]) {
        let mut asked = [0; BATCH];
        let mut len = 0;
        for at in missed {
            let at = usize::from(*at) % BATCH;
            let (start, end) = (borders[at], borders[at + 1]);
            if end - start <= 8 {
                self.tables.ask_short(text, start, end);
            } else if end - start <= 2 * WORD {
                let key = Key::of(text, start, end);
                self.cache.ask_long(&key);
                asked[len] = self.tables.ask_long(text, &key);
                len += 1;
            }
        }
        let asked = &mut asked[..len];
        asked.iter_mut().for_each(|asked| *asked = self.tables.ask_offset(*asked));
        asked.iter().for_each(|asked| self.tables.ask_bytes(*asked));
    }

    /// Encodes a piece that was not found at once.
    #[inline(never)]
    fn other(&mut self, text: &[u8], start: usize, end: usize, sink: &mut impl Sink) {
        if let Some(id) = self.tables.short(text, start, end) {
            self.cache.keep_short(text, start, end, &[id]);
            return sink.id(id);
        }
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
