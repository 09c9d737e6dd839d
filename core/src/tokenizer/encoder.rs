//! Encoding: special tokens, pieces, whole tokens, merging.

use core::hint::black_box;

use super::Specials;
use super::cache::Cache;
use super::lookup::{Key, SHORT};
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
        let mut batch = [(Key::default(), true); BATCH];
        let mut found = [None; BATCH];
        loop {
            let mut len = 0;
            for (place, piece) in batch.iter_mut().zip(&mut pieces) {
                *place = (Key::of(text, piece.start, piece.end), piece.valid);
                len += 1;
            }
            let batch = &batch[..len];
            if batch.is_empty() {
                return;
            }
            // Before each round of searches a look at where each begins, so that the memory of all is fetched at once.
            let mut touched = 0;
            for (key, _) in batch {
                touched ^= self.tables.touch(key);
                if key.size() > SHORT {
                    touched ^= u64::from(self.cache.touch(key.hash));
                }
            }
            black_box(touched);
            let mut touched = 0;
            for ((key, _), id) in batch.iter().zip(&mut found) {
                *id = self.whole(text, key);
                if id.is_none() {
                    touched ^= self.cache.touch(key.hash);
                }
            }
            black_box(touched);
            for ((key, valid), id) in batch.iter().zip(&found) {
                match id {
                    Some(id) if *valid => emit(*id),
                    _ if *valid => self.parts(&text[key.start..key.end], key.hash, emit),
                    _ => self.ill_formed(&text[key.start..key.end], emit),
                }
            }
        }
    }

    /// The token that is the piece with this key. To find a long one takes three looks into large tables, to find it in the
    /// cache only one.
    #[inline]
    fn whole(&mut self, text: &[u8], key: &Key) -> Option<u32> {
        if key.size() <= SHORT {
            return self.tables.whole(text, key);
        }
        let piece = &text[key.start..key.end];
        match self.cache.get(key.hash, piece) {
            Some([id]) => return Some(*id),
            Some(_) => return None,
            None => {}
        }
        let id = self.tables.whole(text, key)?;
        self.cache.keep(key.hash, piece, core::iter::once(id));
        Some(id)
    }

    /// Encodes a piece that is no token.
    fn parts(&mut self, piece: &[u8], hash: u64, emit: &mut impl FnMut(u32)) {
        if piece.len() > WINDOW {
            self.merger.long(self.tables, piece, emit);
        } else if let Some(ids) = self.cache.get(hash, piece) {
            ids.iter().for_each(|id| emit(*id));
        } else {
            self.merger.merge(self.tables, piece);
            self.merger.parts().for_each(|(id, _)| emit(id));
            self.cache.keep(hash, piece, self.merger.parts().map(|(id, _)| id));
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
                        None => self.parts(&window[..len], key.hash, emit),
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
