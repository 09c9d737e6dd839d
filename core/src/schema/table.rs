//! A hash table of indexes into something else.

/// An empty slot.
const EMPTY: u32 = u32::MAX;

/// Open addressing with linear probing. It takes entries up to three quarters of its slots.
pub struct Table<'r> {
    slots: &'r mut [u32],
    len: usize,
}

impl<'r> Table<'r> {
    /// Over slots that are to be empty.
    pub fn new(slots: &'r mut [u32]) -> Self {
        slots.fill(EMPTY);
        Self { slots, len: 0 }
    }

    pub fn clear(&mut self) {
        self.slots.fill(EMPTY);
        self.len = 0;
    }

    /// The entry with this hash that `is_it`.
    pub fn get(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let slots = self.slots.len();
        let first = ((hash >> 32) * slots as u64) >> 32;
        let probed = self.slots.iter().cycle().skip(first as usize).take(slots);
        probed.copied().take_while(|entry| *entry != EMPTY).find(|entry| is_it(*entry))
    }

    /// The entry with this hash that `is_it`; or `new`, which is put in. False beside it, if there is no room.
    pub fn get_or_put(&mut self, hash: u64, new: u32, is_it: impl Fn(u32) -> bool) -> (u32, bool) {
        let slots = self.slots.len();
        if slots == 0 {
            return (new, false);
        }
        let mut slot = (((hash >> 32) * slots as u64) >> 32) as usize;
        loop {
            match self.slots[slot] {
                EMPTY if self.len * 4 >= slots * 3 => return (new, false),
                EMPTY => {
                    self.slots[slot] = new;
                    self.len += 1;
                    return (new, true);
                }
                entry if is_it(entry) => return (entry, true),
                _ => slot = if slot + 1 == slots { 0 } else { slot + 1 },
            }
        }
    }
}

/// Adds a number to a hash.
pub fn mix(hash: u64, number: u64) -> u64 {
    let mixed = (hash ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ mixed >> 29
}
