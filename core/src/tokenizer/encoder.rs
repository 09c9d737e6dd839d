//! Encoding: special tokens, pieces, whole tokens, merging.

use core::hint::black_box;

use super::Specials;
use super::cache::{Cache, Ids};
use super::lookup::Key;
use super::merge::{Merger, WINDOW};
use super::split::Pieces;
use super::tables::Tables;
use super::utf8::{self, character};

/// How many pieces are looked up together.
const BATCH: usize = 32;

/// One encoding: the tables, and the memory to work in.
pub struct Encoding<'e, 'r> {
    /// The vocabulary.
    pub tables: &'e Tables<'r>,
    /// For pieces that are no token.
    pub merger: &'e mut Merger,
    /// For pieces that were merged before.
    pub cache: Cache<'e>,
}

impl Encoding<'_, '_> {
    /// Encodes `text` and hands the ids to `emit`, in order.
    pub fn encode(&mut self, text: &[u8], specials: Specials<'_>, emit: &mut impl FnMut(u32)) {
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
                    self.ordinary(&text[start..at], emit);
                    emit(id);
                    start = at + size;
                    at = start;
                } else {
                    at += 1;
                }
            }
        }
        self.ordinary(&text[start..], emit);
    }

    fn ordinary(&mut self, text: &[u8], emit: &mut impl FnMut(u32)) {
        let mut pieces = Pieces::new(text);
        let mut batch = [(Key::default(), Ids::default(), true); BATCH];
        // Those of the batch that the cache does not know.
        let mut new = [0; BATCH];
        loop {
            let (mut len, mut new_len) = (0, 0);
            for (place, piece) in batch.iter_mut().zip(&mut pieces) {
                let key = Key::of(text, piece.start, piece.end);
                let ids = self.cache.get(&key);
                new[new_len] = len;
                new_len += usize::from(ids.known().is_empty());
                *place = (key, ids, piece.valid);
                len += 1;
            }
            if len == 0 {
                return;
            }
            // Before the searches a look at where each begins, so that the memory of all is fetched at once.
            let mut touched = 0;
            for place in &new[..new_len] {
                touched ^= self.tables.touch(&batch[*place].0);
            }
            black_box(touched);
            for place in &new[..new_len] {
                let (key, ids, _) = &mut batch[*place];
                if let Some(id) = self.tables.whole(text, key) {
                    *ids = Ids::one(id);
                    self.cache.keep(key, core::iter::once(id));
                }
            }
            for (key, ids, valid) in &batch[..len] {
                if !valid {
                    self.ill_formed(&text[key.start..key.end], emit);
                } else if ids.known().is_empty() {
                    self.parts(&text[key.start..key.end], key, emit);
                } else {
                    ids.known().iter().for_each(|id| emit(*id));
                }
            }
        }
    }

    /// Encodes a piece that is no token.
    fn parts(&mut self, piece: &[u8], key: &Key, emit: &mut impl FnMut(u32)) {
        if piece.len() > WINDOW {
            return self.merger.long(self.tables, piece, emit);
        }
        let ids = self.cache.get(key);
        if ids.known().is_empty() {
            self.merger.merge(self.tables, piece);
            self.merger.parts().for_each(|(id, _)| emit(id));
            self.cache.keep(key, self.merger.parts().map(|(id, _)| id));
        } else {
            ids.known().iter().for_each(|id| emit(*id));
        }
    }

    /// Encodes a piece whose ill-formed parts are yet to be replaced.
    fn ill_formed(&mut self, piece: &[u8], emit: &mut impl FnMut(u32)) {
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
                    let key = Key::of(&window, 0, len);
                    match self.tables.whole(&window, &key) {
                        Some(id) => emit(id),
                        None => self.parts(&window[..len], &key, emit),
                    }
                } else {
                    self.merger.window(self.tables, &window[..len], true, emit);
                };
            }
            first = false;
            let certain = self.merger.window(self.tables, &window[..len], false, emit);
            window.copy_within(certain..len, 0);
            len -= certain;
        }
    }
}
