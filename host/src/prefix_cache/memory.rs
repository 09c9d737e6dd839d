use super::{Key, Save};

/// Entries in memory.
pub struct InMemory {
    /// The ones unused for longest first.
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
        let index = self.entries.iter().position(|(found, _)| *found == key)?;
        self.entries[index..].rotate_left(1);
        self.entries.last().map(|(_, bytes)| &bytes[..])
    }

    /// Adds an entry, unless it is larger than all may be.
    pub fn write(&mut self, key: Key, save: Save<'_>) {
        let (mut bytes, mut fits) = (Vec::new(), true);
        let saved = save(&mut |part| {
            fits &= (bytes.len() + part.len()) as u64 <= self.size;
            if fits {
                bytes.extend_from_slice(part);
            }
        });
        if saved.is_err() || !fits {
            return;
        }
        bytes.shrink_to_fit();
        self.entries.push((key, bytes));
        let mut total: u64 = self.entries.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        while total > self.size {
            total -= self.entries.remove(0).1.len() as u64;
        }
    }

    pub fn remove(&mut self, key: Key) {
        self.entries.retain(|(found, _)| *found != key);
    }
}
