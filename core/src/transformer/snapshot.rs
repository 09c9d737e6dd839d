//! A session's keys and values as bytes.
//!
//! Behind the header of every [snapshot](crate::file::snapshot): the model's fingerprint, the precision, the format of the cache, the
//! position, and the lowest position of windowed layers; then in each layer, of each key-value head, its keys and its values,
//! [positions][head_dim] in that format, each with its scale behind it if it has one. Kernel set, threads and sizes of the session that
//! wrote it leave no trace, so any other that is large enough can go on from it.

use core::ops::Range;

use crate::error::{Error, Result};
use crate::file::snapshot::{Reader, Writer};

use super::kv_cache::{CacheFormat, Place};
use super::session::{Precision, Session, SessionConfig};

const KIND: [u8; 8] = *b"session\0";

impl Session<'_, '_> {
    /// Writes all that the session holds, in pieces. A batch under way is no part of it.
    pub fn save(&self, write: &mut dyn FnMut(&[u8])) {
        let mut writer = Writer::new(KIND, write);
        self.save_at(self.position(), &mut writer);
        writer.finish();
    }

    /// Holds what another session held when it was saved: of the same model, precision, format of the cache and adapters, in any layout of
    /// its files and of any size that fits in here. Afterwards [`Session::rewind`] reaches as far back as it did there, or as this
    /// session's size allows.
    ///
    /// # Errors
    /// [`Error::State`] if a batch is under way; [`Error::File`] if `bytes` are not such a snapshot, or not as they were
    /// written; [`Error::Capacity`] if the context is too small. The session is as before.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        self.restore_from(&mut Reader::new(KIND, bytes)?, self.model().config().context_tokens)
    }

    /// Holds what another session of the same model, precision, format of the cache and adapters holds, as far as that fits into this one's
    /// size; a batch under way there is no part of it. Neither notices what the other does from then on.
    ///
    /// # Errors
    /// [`Error::State`] if a batch is under way here, or if the model, the precision, the format of the cache or the adapters are
    /// others; [`Error::Capacity`] if the context is too small. The session is as before.
    pub fn fork_from(&mut self, origin: &Session<'_, '_>) -> Result<()> {
        self.fork_at(origin, origin.position())
    }

    /// The same of what the other held at a position that it could go back to.
    pub(crate) fn fork_at(&mut self, origin: &Session<'_, '_>, position: usize) -> Result<()> {
        self.demand_rest()?;
        let address = |session: &Session<'_, '_>| core::ptr::from_ref(session.model()).addr();
        if address(self) != address(origin)
            || self.fingerprint() != origin.fingerprint()
            || words_of(self.config()) != words_of(origin.config())
        {
            return Err(Error::State("a session of the same model, precision, format of the cache and adapters"));
        }
        self.demand_context(position)?;
        let first = origin.cache().first_windowed();
        self.go_to(0);
        for layer in self.places() {
            self.cache_mut().copy(layer, held(layer, first, position), origin.cache());
        }
        self.hold(first, position);
        Ok(())
    }

    /// Writes what it held at a position that it could go back to.
    pub(crate) fn save_at(&self, position: usize, writer: &mut Writer<'_>) {
        self.save_from(self.cache().first_windowed(), position, writer);
    }

    /// The same, but of windowed layers only what is seen from there on: whoever restores it cannot go back.
    pub(crate) fn save_prefix(&self, position: usize, writer: &mut Writer<'_>) {
        self.save_from(self.cache().first_needed(position), position, writer);
    }

    /// Bytes that [`Session::save_prefix`] writes; `None` if they are too many for a number.
    pub(crate) fn prefix_size(&self, position: usize) -> Option<usize> {
        self.rows_size(self.cache().first_needed(position), position)?.checked_add(5 * size_of::<u64>())
    }

    /// Bytes of all keys and values up to a position, in whole words.
    fn rows_size(&self, first: usize, position: usize) -> Option<usize> {
        let row = self.cache().row_size() * 2 * self.model().config().kv_heads;
        let rows = self.places().map(|layer| held(layer, first, position).len()).try_fold(0, usize::checked_add);
        rows?.checked_mul(row)?.checked_next_multiple_of(size_of::<u64>())
    }

    fn save_from(&self, first: usize, position: usize, writer: &mut Writer<'_>) {
        let cache = self.cache();
        let (precision, format) = words_of(self.config());
        writer.words([self.fingerprint(), precision, format, position as u64, first as u64]);
        for layer in self.places() {
            cache.save(layer, held(layer, first, position), writer);
        }
        writer.align();
    }

    /// Takes the rest of a snapshot, if its position is not beyond this one.
    pub(crate) fn restore_from(&mut self, reader: &mut Reader<'_>, farthest: usize) -> Result<()> {
        self.demand_rest()?;
        let (precision, format) = words_of(self.config());
        reader.expect(self.fingerprint(), "a snapshot of this model, with these adapters")?;
        reader.expect(precision, "a session of the same precision: 0 standard, 1 precise")?;
        reader.expect(format, "a session with the same format of the cache: 1 f32, 2 f16, 3 bf16, 4 int8")?;
        let position = reader.within(0, farthest, "a position within the context and the tokens")?;
        let needed = self.cache().first_needed(position);
        let first = reader.within(0, needed, "the first position of the window, or one before it")?;
        let row = self.cache().row_size() * 2 * self.model().config().kv_heads;
        reader.expect_left(self.rows_size(first, position))?;
        self.demand_context(position)?;
        self.go_to(0);
        for layer in self.places() {
            let positions = held(layer, first, position);
            let bytes = reader.take(positions.len(), row)?;
            self.cache_mut().restore(layer, positions, bytes);
        }
        self.hold(first, position);
        Ok(())
    }

    fn demand_context(&self, need: usize) -> Result<()> {
        let have = self.config().context_tokens;
        if need <= have { Ok(()) } else { Err(Error::Capacity { what: "tokens in the context", need, have }) }
    }

    /// All positions up to this one are there, in windowed layers those from `first` on.
    fn hold(&mut self, first: usize, position: usize) {
        // Of positions that share a place in a shorter ring, the later one was written last.
        self.cache_mut().restored(first, position);
        self.go_to(position);
    }
}

/// The precision and the format of the cache.
fn words_of(config: &SessionConfig) -> (u64, u64) {
    let precision = match config.precision {
        Precision::Standard => 0,
        Precision::Precise => 1,
    };
    let format = match config.cache_format() {
        CacheFormat::F32 => 1,
        CacheFormat::F16 => 2,
        CacheFormat::Bf16 => 3,
        CacheFormat::Int8 => 4,
    };
    (precision, format)
}

/// The positions whose keys and values a layer has.
fn held(layer: Place, first: usize, position: usize) -> Range<usize> {
    if layer.windowed { first..position } else { 0..position }
}
