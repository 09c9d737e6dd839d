//! Encoding: special tokens, pieces, whole tokens, merging.

use core::hint::black_box;

use super::Specials;
use super::cache::{Cache, Ids};
use super::lanes::{self, LANES, Lane};
use super::lookup::{Key, WORD};
use super::merge::{Merger, WINDOW};
use super::split::Pieces;
use super::tables::Tables;
use super::utf8::{self, character};

/// How many pieces are looked up together.
const BATCH: usize = 128;

/// Pieces that are looked up together.
#[derive(Clone, Copy)]
pub struct Batch {
    /// With whether they are in UTF-8.
    pieces: [(Key, bool); BATCH],
    ids: [Ids; BATCH],
    /// The places of those that the cache does not know; then, that are no token.
    new: [u8; BATCH],
    lanes: [Lane; LANES],
    /// Ids of the pieces that have many.
    more: [u32; 512],
}

impl Batch {
    /// A batch without pieces.
    pub const EMPTY: Self = Self {
        pieces: [(Key::EMPTY, true); BATCH],
        ids: [Ids::NONE; BATCH],
        new: [0; BATCH],
        lanes: [Lane::EMPTY; LANES],
        more: [0; 512],
    };
}

/// One encoding: the tables, and the memory to work in.
pub struct Encoding<'e, 'r> {
    /// The vocabulary.
    pub tables: &'e Tables<'r>,
    /// For pieces that are no token.
    pub merger: &'e mut Merger,
    /// Where pieces are collected.
    pub batch: &'e mut Batch,
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
        let batch = &mut *self.batch;
        loop {
            let mut len = 0;
            for (place, piece) in batch.pieces.iter_mut().zip(&mut pieces) {
                *place = (Key::of(text, piece.start, piece.end), piece.valid);
                len += 1;
            }
            let pieces = &batch.pieces[..len];
            if pieces.is_empty() {
                return;
            }
            // Before each round of searches a look at where each begins, so that the memory of all is fetched at once.
            let mut touched = 0;
            for (key, _) in pieces {
                touched ^= self.cache.touch(key);
            }
            black_box(touched);
            let mut new_len = 0;
            for (place, ((key, _), ids)) in pieces.iter().zip(&mut batch.ids).enumerate() {
                *ids = self.cache.get(key);
                batch.new[new_len] = place as u8;
                new_len += usize::from(ids.known().is_empty());
            }
            let mut touched = 0;
            for place in &batch.new[..new_len] {
                touched ^= self.tables.touch(&pieces[usize::from(*place)].0);
            }
            black_box(touched);
            let mut unseen_len = 0;
            for turn in 0..new_len {
                let place = usize::from(batch.new[turn]);
                let (key, valid) = &pieces[place];
                if let Some(id) = self.tables.whole(text, key) {
                    batch.ids[place] = Ids::of(core::iter::once(id)).unwrap_or_default();
                    self.cache.keep(key, batch.ids[place]);
                } else if *valid && key.size() <= 3 * WORD {
                    batch.new[unseen_len] = place as u8;
                    unseen_len += 1;
                }
            }
            let mut more_len = 0;
            for group in batch.new[..unseen_len].chunks(LANES) {
                let mut places = [0; LANES];
                let mut lanes_len = 0;
                for place in group {
                    let place = usize::from(*place);
                    let (key, _) = &pieces[place];
                    batch.ids[place] = self.cache.get(key);
                    if batch.ids[place].known().is_empty()
                        && batch.lanes[lanes_len].start(self.tables, &text[key.start..key.end])
                    {
                        places[lanes_len] = place;
                        lanes_len += 1;
                    }
                }
                lanes::merge(&mut batch.lanes[..lanes_len], self.tables.pairs);
                for (lane, place) in batch.lanes[..lanes_len].iter().zip(places) {
                    if let Some(ids) = Ids::of(lane.ids()) {
                        batch.ids[place] = ids;
                        self.cache.keep(&pieces[place].0, ids);
                    } else if let Some(more) = batch.more.get_mut(more_len..more_len + 32) {
                        let mut count = 0;
                        for (place, id) in more.iter_mut().zip(lane.ids()) {
                            *place = id;
                            count += 1;
                        }
                        batch.ids[place] = Ids::more(more_len, count);
                        more_len += count;
                    }
                }
            }
            for ((key, valid), ids) in pieces.iter().zip(&batch.ids) {
                let piece = &text[key.start..key.end];
                if !valid {
                    ill_formed(self.tables, self.merger, piece, emit);
                } else if let Some((start, count)) = ids.spilled() {
                    batch.more[start..start + count].iter().for_each(|id| emit(*id));
                } else if ids.known().is_empty() {
                    self.merger.piece(self.tables, piece, emit);
                } else {
                    ids.known().iter().for_each(|id| emit(*id));
                }
            }
        }
    }
}

/// Encodes a piece whose ill-formed parts are yet to be replaced.
fn ill_formed(tables: &Tables<'_>, merger: &mut Merger, piece: &[u8], emit: &mut impl FnMut(u32)) {
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
                    match tables.whole(&window, &key) {
                        Some(id) => emit(id),
                        None => merger.piece(tables, &window[..len], emit),
                    }
                } else {
                    merger.window(tables, &window[..len], true, emit);
                };
            }
            first = false;
            let certain = merger.window(tables, &window[..len], false, emit);
            window.copy_within(certain..len, 0);
            len -= certain;
        }
    }