//! What a schema is compiled to.

use super::characters::Characters;
use super::dfa::{Automata, Edge, NONE, State};

/// How deep arrays and objects may be nested in what is written.
pub const DEPTH: u32 = 100;
/// A height that nothing reaches: no value exists.
pub const NO_VALUE: u32 = DEPTH + 1;
/// Where the count of a string or list ends. None is longer, whatever its schema says.
pub const COUNT_MAX: u32 = 1 << 24;

/// The values that one place may have.
#[derive(Clone, Copy, Debug)]
pub enum Node {
    /// Not known yet: the values that meet the schemas of this set.
    Pending(u32),
    /// Those of any of these nodes: the first in `lists`, and how many.
    AnyOf(u32, u32),
    /// One text: its first byte, and how many.
    Literal(u32, u32),
    /// The texts of an automaton.
    Number(u32),
    /// One of `strings`.
    String(u32),
    /// One of `arrays`.
    Array(u32),
    /// One of `objects`.
    Object(u32),
}

/// Strings.
#[derive(Clone, Copy, Debug)]
pub struct Strings {
    /// The automaton of the decoded text; [`NONE`] for any.
    pub automaton: u32,
    /// All characters of its edges.
    pub alphabet: Characters,
    /// Characters.
    pub min: u32,
    /// Characters; [`COUNT_MAX`] for any number.
    pub max: u32,
    /// Whether only some lengths lead on from a state: the bits in `lengths` of `base`, behind them those of the next state.
    pub lengths: u32,
    /// The first state that has such bits.
    pub base: u32,
    /// Words for each state.
    pub words: u32,
}

impl Strings {
    /// Those of an automaton, of any length.
    pub const fn matching(automaton: u32) -> Self {
        Self { automaton, alphabet: 0, min: 0, max: COUNT_MAX, lengths: 0, base: 0, words: 0 }
    }
}

/// Arrays.
#[derive(Clone, Copy, Debug)]
pub struct Arrays {
    /// The first items, each with its node: in `lists`, and how many.
    pub first: u32,
    pub count: u32,
    /// All others; [`NONE`] if there can be none.
    pub rest: u32,
    pub min: u32,
    pub max: u32,
}

/// Objects.
#[derive(Clone, Copy, Debug)]
pub struct Objects {
    /// The declared properties in their order, in `properties`, and how many.
    pub first: u32,
    pub count: u32,
    /// The keys of all others: a string; [`NONE`] if there can be none.
    pub keys: u32,
    /// By the label of such a key, the values: in `lists`, and how many.
    pub extras: u32,
    pub extra_count: u32,
    pub min: u32,
    pub max: u32,
}

/// A declared property.
#[derive(Clone, Copy, Debug)]
pub struct Property {
    /// The quoted key and the colon, in `bytes`, and how many.
    pub first: u32,
    pub size: u32,
    pub node: u32,
    pub required: bool,
    /// How many required ones come after it.
    pub required_behind: u32,
}

/// A compiled schema.
#[derive(Clone, Copy)]
pub struct Program<'r> {
    pub nodes: &'r [Node],
    /// For each node: how many levels of arrays and objects its flattest value has.
    pub heights: &'r [u32],
    pub lists: &'r [u32],
    pub strings: &'r [Strings],
    pub arrays: &'r [Arrays],
    pub objects: &'r [Objects],
    pub properties: &'r [Property],
    pub bytes: &'r [u8],
    pub lengths: &'r [u32],
    pub states: &'r [State],
    pub edges: &'r [Edge],
    pub root: u32,
}

impl<'r> Program<'r> {
    pub fn automata(&self) -> Automata<&'r [State], &'r [Edge]> {
        Automata { states: self.states, edges: self.edges }
    }

    pub fn list(&self, first: u32, count: u32) -> &'r [u32] {
        &self.lists[first as usize..(first + count) as usize]
    }

    pub fn properties_of(&self, object: &Objects) -> &'r [Property] {
        &self.properties[object.first as usize..(object.first + object.count) as usize]
    }

    pub fn text(&self, first: u32, size: u32) -> &'r [u8] {
        &self.bytes[first as usize..(first + size) as usize]
    }

    /// The node of an item.
    pub fn item(&self, array: &Arrays, index: u32) -> Option<u32> {
        if index < array.count {
            return Some(self.lists[(array.first + index) as usize]);
        }
        (array.rest != NONE).then_some(array.rest)
    }

    /// Whether a string of so many characters that has led to a state can be completed.
    pub fn can_complete(&self, strings: &Strings, state: u32, count: u32) -> bool {
        if count > strings.max {
            return false;
        }
        if strings.words == 0 {
            return true;
        }
        let first = (strings.lengths + (state - strings.base) * strings.words) as usize;
        let words = &self.lengths[first..first + strings.words as usize];
        let (low, high) = (strings.min.saturating_sub(count), strings.max - count);
        let last = high.min(strings.words * 32 - 1);
        (low / 32..=last / 32).any(|word| {
            let Some(mut bits) = words.get(word as usize).copied() else { return false };
            if word == low / 32 {
                bits &= u32::MAX << (low % 32);
            }
            if word == last / 32 {
                bits &= u32::MAX >> (31 - last % 32);
            }
            bits != 0
        })
    }
}
