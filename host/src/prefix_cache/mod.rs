//! Beginnings of conversations that were computed before, so that no session computes them again: in memory, or in a folder, where they
//! outlast the process and others may read them.
//!
//! An entry is what [`Generation::save_prefix`] writes. It is found by a sum over its tokens, and believed only if the core finds it
//! whole and its tokens those of the conversation; so whatever happens to a file costs time, and nothing else.
//!
//! Of a conversation two places are kept, both between messages, see [`Due`].

mod folder;
mod memory;

use std::io;
use std::path::Path;

use ossicle_core::error::{Error, Result};
use ossicle_core::file::snapshot::Checksum;
use ossicle_core::generation::Generation;
use ossicle_core::model::Model;
use ossicle_core::transformer::Precision;

use folder::Folder;
use memory::InMemory;

/// An entry has so many tokens at least beyond the longest one that the same conversation begins with.
pub const LEAST_TOKENS: usize = 64;

/// Beginnings of conversations, of bounded size in bytes: the ones unused for longest go first.
pub struct PrefixCache {
    seed: Checksum,
    store: Store,
}

enum Store {
    Memory(InMemory),
    Folder(Folder),
}

/// How an entry is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    /// How many tokens it has.
    tokens: usize,
    /// The sum over them, and over what else the numbers depend on.
    sum: u64,
}

/// What writes an entry, in pieces.
type Save<'a> = &'a dyn Fn(&mut dyn FnMut(&[u8])) -> Result<()>;

impl PrefixCache {
    /// One that ends with the process, for sessions with this model and precision.
    pub fn in_memory(model: &Model<'_, '_>, precision: Precision, size: u64) -> Self {
        Self { seed: seed(model, precision, 0), store: Store::Memory(InMemory::new(size)) }
    }

    /// One in a folder that several processes and models may share. Files are readable for their owner only. `stamp` is a number that
    /// changes with the weights: [`crate::Checkpoint::stamp`].
    ///
    /// # Errors
    /// If the folder cannot be made or read; [`io::ErrorKind::PermissionDenied`] if others may write to it, since what they
    /// write would be believed.
    pub fn in_folder(
        model: &Model<'_, '_>,
        precision: Precision,
        path: &Path,
        size: u64,
        stamp: u64,
    ) -> io::Result<Self> {
        Ok(Self { seed: seed(model, precision, stamp), store: Store::Folder(Folder::open(path, size)?) })
    }

    /// Whether entries are there for the next process too.
    pub fn outlasts_process(&self) -> bool {
        matches!(self.store, Store::Folder(_))
    }

    /// Tokens of the longest entry that these tokens begin with; 0 if there is none.
    pub fn longest(&self, tokens: &[u32]) -> usize {
        self.matching(tokens).last().map_or(0, |key| key.tokens)
    }

    /// Lets the session of a conversation, between turns, have the longest entry that it begins with, if the session holds
    /// less. Returns how many tokens were spared.
    pub fn resume(&mut self, generation: &mut Generation<'_, '_>) -> usize {
        let held = generation.session().position();
        let mut keys = self.matching(generation.tokens());
        while let Some(key) = keys.pop().filter(|key| key.tokens > held) {
            let restored = match &mut self.store {
                Store::Memory(memory) => memory.read(key).map(|bytes| generation.restore_prefix(bytes)),
                Store::Folder(folder) => folder.read(key).map(|bytes| generation.restore_prefix(&bytes)),
            };
            match restored {
                Some(Ok(true)) => return key.tokens - held,
                // It is damaged.
                Some(Err(Error::File(_))) => self.remove(key),
                // It is gone meanwhile, or its tokens have the same sum.
                _ => {}
            }
        }
        0
    }

    /// Keeps the first `position` tokens of a conversation, if the session could go back there, and unless an entry is nearly as
    /// long.
    pub fn keep(&mut self, generation: &Generation<'_, '_>, position: usize) {
        let Some(tokens) = generation.tokens().get(..position) else { return };
        if position < self.longest(tokens) + LEAST_TOKENS {
            return;
        }
        let key = Key { tokens: position, sum: self.sums(tokens).last().unwrap_or_default() };
        let save: Save<'_> = &|write| generation.save_prefix(position, write);
        match &mut self.store {
            Store::Memory(memory) => memory.write(key, save),
            Store::Folder(folder) => folder.write(key, save),
        }
    }

    /// After each step of a turn: keeps what is due.
    pub fn keep_due(&mut self, generation: &Generation<'_, '_>, due: &mut Due) {
        let position = generation.session().position();
        if let Some(end) = due.leading.take_if(|end| position >= *end) {
            self.keep(generation, end);
        }
        let reach = generation.session().config().rewind_tokens;
        if let Some(end) = due.prompt.take_if(|end| position >= *end + reach) {
            self.keep(generation, end);
        }
    }

    /// Before the session is given to another conversation: keeps the latest prompt.
    pub fn keep_last(&mut self, generation: &Generation<'_, '_>, due: &mut Due) {
        if let Some(end) = due.prompt.take() {
            self.keep(generation, end);
        }
    }

    /// The entries that these tokens begin with, the shortest first.
    fn matching(&self, tokens: &[u32]) -> Vec<Key> {
        let mut keys = match &self.store {
            Store::Memory(memory) => memory.keys(),
            Store::Folder(folder) => folder.keys(),
        };
        let sums: Vec<u64> = self.sums(tokens).collect();
        keys.retain(|key| key.tokens.checked_sub(1).and_then(|last| sums.get(last)) == Some(&key.sum));
        keys.sort_unstable_by_key(|key| key.tokens);
        keys
    }

    /// The sums over the first token, the first two, and so on.
    fn sums(&self, tokens: &[u32]) -> impl Iterator<Item = u64> {
        tokens.iter().scan(self.seed, |sum, token| {
            sum.add((*token).into());
            Some(sum.value())
        })
    }

    fn remove(&mut self, key: Key) {
        match &mut self.store {
            Store::Memory(memory) => memory.remove(key),
            Store::Folder(folder) => folder.remove(key),
        }
    }
}

/// What the numbers of an entry depend on besides its tokens. Another version of the program may compute other bits.
fn seed(model: &Model<'_, '_>, precision: Precision, stamp: u64) -> Checksum {
    let mut sum = Checksum::EMPTY;
    env!("CARGO_PKG_VERSION").bytes().for_each(|byte| sum.add(byte.into()));
    [model.fingerprint(), precision as u64, stamp].into_iter().for_each(|word| sum.add(word));
    sum
}

/// What of a conversation is still to be kept: the end of its leading messages, from the system and developers, as soon as they are taken in,
/// since other conversations begin with them too; and the end of its latest prompt, once the session is about to lose it,
/// because it is given to another conversation or the answer is longer than the session can go back. An answer that is gone on from
/// is a part of the next prompt; its reasoning is not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Due {
    leading: Option<usize>,
    prompt: Option<usize>,
}

impl Due {
    /// Of a conversation, between turns, that has so many leading messages.
    pub fn of(generation: &Generation<'_, '_>, leading_messages: usize) -> Self {
        let mut boundaries = generation.boundaries();
        Self { prompt: generation.boundaries().last(), leading: boundaries.nth(leading_messages) }
    }

    /// Where the latest prompt ends, as long as it is to be kept.
    pub fn prompt(&self) -> Option<usize> {
        self.prompt
    }
}
