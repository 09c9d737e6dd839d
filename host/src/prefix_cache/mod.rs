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
use ossicle_core::transformer::Session;

use folder::Folder;
use memory::InMemory;

/// An entry has so many tokens at least beyond the longest one that the same conversation begins with.
pub const LEAST_TOKENS: usize = 64;

/// Beginnings of conversations, of bounded size in bytes: the ones unused for longest go first.
pub struct PrefixCache {
    /// Of the version of the program, which may compute other bits than another, and the stamp.
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

/// Where an entry is to stand among those that go one after the other.
#[derive(Clone, Copy)]
enum Place {
    First,
    Last,
}

/// What writes an entry, in pieces.
type Save<'a> = &'a dyn Fn(&mut dyn FnMut(&[u8])) -> Result<()>;

impl PrefixCache {
    /// One that ends with the process.
    pub fn in_memory(size: u64) -> Self {
        Self { seed: seed(0), store: Store::Memory(InMemory::new(size)) }
    }

    /// One in a folder that several processes and models may share. Files are readable for their owner only. `stamp` is a number that
    /// changes with the weights: [`crate::Checkpoint::stamp`].
    ///
    /// # Errors
    /// If the folder cannot be made or read; [`io::ErrorKind::PermissionDenied`] if it belongs to another user or others may
    /// write to it, since what they write would be believed. Only Unix tells.
    pub fn in_folder(path: &Path, size: u64, stamp: u64) -> io::Result<Self> {
        Ok(Self { seed: seed(stamp), store: Store::Folder(Folder::open(path, size)?) })
    }

    /// Whether entries are there for the next process too.
    pub fn outlasts_process(&self) -> bool {
        matches!(self.store, Store::Folder(_))
    }

    /// Tokens of the longest entry for this session that these tokens begin with; 0 if there is none.
    pub fn longest(&self, session: &Session<'_, '_>, tokens: &[u32]) -> usize {
        self.matching(session, tokens).last().map_or(0, |key| key.tokens)
    }

    /// Lets the session of a conversation, between turns, have the longest entry that it begins with, if the session holds
    /// less. Returns how many tokens were spared.
    pub fn resume(&mut self, generation: &mut Generation<'_, '_>) -> usize {
        let held = generation.session().position();
        let mut keys = self.matching(generation.session(), generation.tokens());
        while let Some(key) = keys.pop().filter(|key| key.tokens > held) {
            let restored = match &mut self.store {
                Store::Memory(memory) => memory.read(key).map(|bytes| generation.restore_prefix(bytes)),
                Store::Folder(folder) => {
                    let size = generation.prefix_size(key.tokens);
                    size.and_then(|size| folder.read(key, size)).map(|bytes| generation.restore_prefix(&bytes))
                }
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

    /// Keeps the first `position` tokens of a conversation, if the session could go back there. An entry that is nearly as long
    /// does as well, and counts as used.
    pub fn keep(&mut self, generation: &Generation<'_, '_>, position: usize) {
        let Some(tokens) = generation.tokens().get(..position) else { return };
        let session = generation.session();
        let longest = self.matching(session, tokens).pop();
        if position < longest.map_or(0, |key| key.tokens) + LEAST_TOKENS {
            if let Some(key) = longest {
                self.place(key, Place::Last);
            }
            return;
        }
        let key = Key { tokens: position, sum: self.sums(session, tokens).last().unwrap_or_default() };
        let Some(size) = generation.prefix_size(position) else { return };
        let save: Save<'_> = &|write| generation.save_prefix(position, write);
        match &mut self.store {
            Store::Memory(memory) => memory.write(key, size as u64, save),
            Store::Folder(folder) => folder.write(key, size as u64, save),
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
            self.keep_prompt(generation, end, due.leading_end);
        }
    }

    /// Before the session is given to another conversation: keeps the latest prompt.
    pub fn keep_last(&mut self, generation: &Generation<'_, '_>, due: &mut Due) {
        if let Some(end) = due.prompt.take() {
            self.keep_prompt(generation, end, due.leading_end);
        }
    }

    /// Keeps the latest prompt, before which earlier ones of the conversation go.
    fn keep_prompt(&mut self, generation: &Generation<'_, '_>, position: usize, leading_end: usize) {
        let Some(tokens) = generation.tokens().get(..position) else { return };
        for key in self.matching(generation.session(), tokens) {
            if key.tokens > leading_end && key.tokens + LEAST_TOKENS <= position {
                self.place(key, Place::First);
            }
        }
        self.keep(generation, position);
    }

    /// Waits until all that was kept is on the disk: until then, what else is to be kept in a folder may not be.
    pub fn wait(&mut self) {
        if let Store::Folder(folder) = &mut self.store {
            folder.wait();
        }
    }

    /// The entries for this session that these tokens begin with, the shortest first.
    fn matching(&self, session: &Session<'_, '_>, tokens: &[u32]) -> Vec<Key> {
        let mut keys = match &self.store {
            Store::Memory(memory) => memory.keys(),
            Store::Folder(folder) => folder.keys(),
        };
        let sums: Vec<u64> = self.sums(session, tokens).collect();
        keys.retain(|key| key.tokens.checked_sub(1).and_then(|last| sums.get(last)) == Some(&key.sum));
        keys.sort_unstable_by_key(|key| key.tokens);
        keys
    }

    /// The sums over what the session computes with and the first token, the first two, and so on.
    fn sums(&self, session: &Session<'_, '_>, tokens: &[u32]) -> impl Iterator<Item = u64> {
        let mut seed = self.seed;
        let (precision, format) = (session.config().precision as u64, session.config().cache_format() as u64);
        [session.fingerprint(), precision, format].into_iter().for_each(|word| seed.add(word));
        tokens.iter().scan(seed, |sum, token| {
            sum.add((*token).into());
            Some(sum.value())
        })
    }

    /// Has an entry go first or last.
    fn place(&mut self, key: Key, place: Place) {
        match &mut self.store {
            Store::Memory(memory) => memory.place(key, place),
            Store::Folder(folder) => folder.place(key, place),
        }
    }

    fn remove(&mut self, key: Key) {
        match &mut self.store {
            Store::Memory(memory) => memory.remove(key),
            Store::Folder(folder) => folder.remove(key),
        }
    }
}

fn seed(stamp: u64) -> Checksum {
    let mut sum = Checksum::EMPTY;
    env!("CARGO_PKG_VERSION").bytes().for_each(|byte| sum.add(byte.into()));
    sum.add(stamp);
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
    /// Where the leading messages end, also once they are kept.
    leading_end: usize,
}

impl Due {
    /// Of a conversation, between turns, that has so many leading messages.
    pub fn of(generation: &Generation<'_, '_>, leading_messages: usize) -> Self {
        let mut boundaries = generation.boundaries();
        let leading = boundaries.nth(leading_messages);
        Self { prompt: generation.boundaries().last(), leading, leading_end: leading.unwrap_or_default() }
    }

    /// Of a conversation that does not go on: its leading messages only.
    pub fn leading_only(self) -> Self {
        Self { prompt: None, ..self }
    }

    /// Where the latest prompt ends, as long as it is to be kept.
    pub fn prompt(&self) -> Option<usize> {
        self.prompt
    }
}
