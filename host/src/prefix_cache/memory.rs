use super::{Key, Place, Save};

/// Entries in memory.
pub struct InMemory {
    /// The ones that go first first.
    entries: Vec<(Key, Vec<u8>)>,
    /// Most bytes of all.
    size: u64,
}

impl InMemory {
    pub fn new(size: u64) -> Self {
        Self { entries: Vec::new(), size }
    }

    pub fn keys(&self) -> Vec<Key> {
        self.entries.iter().map(|(key, _)| *key).collect()
    }

    /// An entry, which now counts as used.
    pub fn read(&mut self, key: Key) -> Option<&[u8]> {
        self.place(key, Place::Last);
        self.entries.last().filter(|(found, _)| *found == key).map(|(_, bytes)| &bytes[..])
    }

    pub fn place(&mut self, key: Key, place: Place) {
        let Some(index) = self.entries.iter().position(|(found, _)| *found == key) else { return };
        match place {
            Place::First => self.entries[..=index].rotate_right(1),
            Place::Last => self.entries[index..].rotate_left(1),
        }
    }

    /// Adds an entry of this size, unless it is larger than all may be. At no time are all larger than they may be.
    pub fn write(&mut self, key: Key, size: u64, save: Save<'_>) {
        let Some(room) = self.size.checked_sub(size) else { return };
        let mut total: u64 = self.entries.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        while total > room {
            total -= self.entries.remove(0).1.len() as u64;
        }
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(size as usize).is_ok() && save(&mut |part| bytes.extend_from_slice(part)).is_ok() {
            self.entries.push((key, bytes));
        }
    }

    pub fn remove(&mut self, key: Key) {
        self.entries.retain(|(found, _)| *found != key);
    }
}
