//! Encoding: special tokens, pieces, whole tokens, merging.

use super::Specials;
use super::cache::Cache;
use super::lookup::{Key, NO_ID};
use super::merge::{Merger, WINDOW};
use super::split::{Piece, Pieces};
use super::tables::Tables;
use super::utf8::{self, character};

/// Pieces that are looked up together.
const BATCH: usize = 64;

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
        let mut batch = [Piece::default(); BATCH];
        let mut ids = [NO_ID; BATCH];
        loop {
            let mut len = 0;
            for (place, piece) in batch.iter_mut().zip(&mut pieces) {
                *place = piece;
                len += 1;
            }
            // Most pieces are short tokens. Nothing here depends on which, so the CPU waits for many of them at once.
            for (id, piece) in ids.iter_mut().zip(&batch[..len]) {
                *id = self.tables.at_once(text, piece.start, piece.end);
            }
            for (id, piece) in ids.iter().zip(&batch[..len]) {
                if *id != NO_ID && piece.valid {
                    emit(*id);
                } else {
                    self.other(text, piece, emit);
                }
            }
            if len < BATCH {
                return;
            }
        }
    }

    /// Encodes a piece that was not found at once.
    #[inline(never)]
    fn other(&mut self, text: &[u8], piece: &Piece, emit: &mut impl FnMut(u32)) {
        if !piece.valid {
            return self.ill_formed(&text[piece.start..piece.end], emit);
        }
        let key = Key::of(text, piece.start, piece.end);
        match self.cache.get(&key) {
            Some(entry) => entry.ids().iter().for_each(|id| emit(*id)),
            None => self.new_piece(text, &key, emit),
        }
    }

    /// Encodes a piece that the cache does not know.
    #[inline(never)]
    fn new_piece(&mut self, text: &[u8], key: &Key, emit: &mut impl FnMut(u32)) {
        if let Some(id) = self.tables.whole(text, key) {
            self.cache.keep(key, core::iter::once(id));
            return emit(id);
        }
        let piece = &text[key.start..key.end];
        if piece.len() > WINDOW {
            return self.merger.long(self.tables, piece, emit);
        }
        self.merger.merge(self.tables, piece);
        self.merger.parts().for_each(|(id, _)| emit(id));
        self.cache.keep(key, self.merger.parts().map(|(id, _)| id));
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
                    self.new_piece(&window, &Key::of(&window, 0, len), emit);
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
