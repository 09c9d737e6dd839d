//! From the automaton of a schema to the tokens that may come next.

use core::mem::MaybeUninit;

use super::Schema;
use super::dfa::{NONE, OPEN_MAX, State};
use super::index::{LENGTHS, Sorted, TokenIndex};
use super::machine::{Machine, Phase, Thread, hash};
use super::program::{COUNT_MAX, Node, Program, Strings};
use super::table::mix;
use crate::error::Result;
use crate::region::{Carver, Layout};
use crate::sampling::TokenMask;
use crate::tokenizer::vocabulary::TOKEN_BYTES_MAX;

/// Masks that are kept, by the state that they belong to.
const CACHED: usize = 16;
/// How far is looked ahead for text that is sure to come.
const SURE_MAX: usize = 64;

/// Follows one text that meets a schema. It is a [`TokenMask`], so a turn can be made to keep to it.
///
/// Whatever tokens it allows, the text can be completed; where it may end, it is a value that meets the schema. Where the text
/// can go on in one way only, such as within the only name that a property can have, the one token is allowed that the
/// tokenizer takes for it, as soon as it is certain which that is.
pub struct SchemaMask<'r> {
    program: Program<'r>,
    index: TokenIndex<'r>,
    machine: Machine<'r>,
    /// The current threads are the first of the machine's.
    current: usize,
    /// Keys of the masks; 0 for none.
    keys: &'r mut [[u64; 2]],
    masks: &'r mut [u32],
    oldest: usize,
}

/// Takes a token, the bytes before the text that was found, and the mask.
type Found<'f> = dyn FnMut(u32, &[u8], &mut [u32]) + 'f;

/// The automaton, the keys of masks, and the masks.
type Parts<'r> = (Machine<'r>, &'r mut [[u64; 2]], &'r mut [u32]);

impl<'r> SchemaMask<'r> {
    /// The memory that [`SchemaMask::new`] needs: some 750 KB with the vocabulary of gpt-oss.
    ///
    /// # Errors
    /// [`crate::error::Error::RegionTooSmall`] if it is more than an address space.
    pub fn layout(index: &TokenIndex<'_>) -> Result<Layout> {
        let mut carver = Carver::measuring();
        Self::carve(&mut carver, index)?;
        Ok(carver.layout())
    }

    fn carve(carver: &mut Carver<'r>, index: &TokenIndex<'_>) -> Result<Parts<'r>> {
        let words = index.tokenizer.vocabulary_len().div_ceil(32);
        Ok((Machine::carve(carver)?, carver.filled(CACHED, [0; 2])?, carver.filled([CACHED, words], 0)?))
    }

    /// At the beginning of a text.
    ///
    /// # Errors
    /// [`crate::error::Error::RegionTooSmall`], [`crate::error::Error::RegionAlign`].
    pub fn new(region: &'r mut [MaybeUninit<u8>], schema: &Schema<'r>, index: TokenIndex<'r>) -> Result<Self> {
        let (machine, keys, masks) = Self::carve(&mut Carver::placing(region)?, &index)?;
        let mut mask = Self { program: schema.program, index, machine, current: 0, keys, masks, oldest: 0 };
        mask.begin();
        Ok(mask)
    }

    /// Takes bytes of the text. False if they were not allowed; then nothing is allowed any more.
    pub fn accept_bytes(&mut self, bytes: &[u8]) -> bool {
        self.make_room();
        let mut set = 0..self.current;
        for byte in bytes {
            set = self.machine.step_to(&self.program, 0, set, *byte);
        }
        self.current = set.len();
        self.current > 0
    }

    /// Whether the text may end here.
    pub fn can_end(&self) -> bool {
        self.machine.can_end(&self.program, 0..self.current)
    }

    fn make_room(&mut self) {
        if !self.machine.is_full() {
            return;
        }
        self.machine.compact(0..self.current);
        // Any thread can be completed, and one alone has few frames.
        while self.machine.is_full() {
            self.current = self.current.div_ceil(2);
            self.machine.threads.truncate(self.current);
            self.machine.compact(0..self.current);
        }
        // Keys are made of the numbers of frames.
        self.keys.fill([0; 2]);
    }

    /// Where the text can go on in one way only: the token that it is encoded to then, if what comes behind cannot change it.
    fn sure(&mut self) -> Option<u32> {
        let threads = self.current;
        let mut text = heapless::Vec::<u8, SURE_MAX>::new();
        let mut set = 0..threads;
        while !self.machine.can_end(&self.program, set.clone())
            && let Some(byte) = self.machine.only_byte(&self.program, set.clone())
            && text.push(byte).is_ok()
        {
            set = self.machine.step_to(&self.program, threads, set, byte);
        }
        self.machine.threads.truncate(threads);
        let text = text.utf8_chunks().next()?.valid();
        self.index.tokenizer.first_settled(text)
    }

    /// What the mask depends on.
    fn key(&self) -> [u64; 2] {
        let mut key = [1_u64, 1];
        for thread in &self.machine.threads[..self.current] {
            let mut thread = *thread;
            if let Some(Node::String(index)) = self.program.nodes.get(thread.node as usize) {
                let strings = &self.program.strings[*index as usize];
                let is_far = strings.max.saturating_sub(thread.count) as usize > TOKEN_BYTES_MAX;
                if strings.words == 0 && strings.max < COUNT_MAX && thread.count >= strings.min && is_far {
                    // No token reaches the end, so it makes no difference how far it is.
                    thread.count = u32::MAX;
                }
            }
            let hash = hash(&thread);
            key[0] = key[0].wrapping_add(mix(11, hash));
            key[1] = key[1].wrapping_add(mix(0x5EED, hash.rotate_left(17)));
        }
        key
    }

    /// Fills `mask`.
    fn compute(&mut self, mask: &mut [u32]) {
        mask.fill(0);
        // Strings where any text may follow are dealt with one by one; all other threads together, behind them.
        let threads = self.current;
        let is_plain = |thread: &Thread, program: &Program<'_>| match program.nodes.get(thread.node as usize) {
            Some(Node::String(index)) if thread.phase == Phase::Body => match program.strings[*index as usize] {
                Strings { automaton: NONE, .. } => true,
                Strings { words, .. } => {
                    let state = program.states[thread.place as usize];
                    words == 0 && (is_open(&state) || state.words)
                }
            },
            _ => false,
        };
        for index in 0..threads {
            let thread = self.machine.threads[index];
            if is_plain(&thread, &self.program) {
                self.add_string(thread, mask);
            }
        }
        let begin = self.machine.threads.len();
        for index in 0..threads {
            let thread = self.machine.threads[index];
            if !is_plain(&thread, &self.program) {
                let _ = self.machine.threads.push(thread);
            }
        }
        self.walk(self.index.all, begin, &mut |id, _, mask| allow(mask, id), mask);
        self.machine.threads.truncate(threads);
    }

    /// The tokens that may follow within a string where any text may, and those that close it.
    fn add_string(&mut self, thread: Thread, mask: &mut [u32]) {
        let Some(Node::String(index)) = self.program.nodes.get(thread.node as usize) else { return };
        let strings = self.program.strings[*index as usize];
        let behind = self.machine.threads.len();
        if strings.automaton != NONE {
            let state = self.program.states[thread.place as usize];
            let open = state.open;
            if !is_open(&state) {
                return self.add_words(thread, mask);
            }
            let longer = self.index.add_plain(if open == OPEN_MAX { COUNT_MAX } else { open.into() }, mask);
            let longer = if state.most == open && open < OPEN_MAX { &[] } else { longer };
            let one_by_one = longer.iter().map(|(_, id)| id).chain(self.index.closing.ids).chain(self.index.separating);
            for id in one_by_one {
                let _ = self.machine.threads.push(thread);
                self.try_token(*id, behind, mask);
            }
        } else {
            let left = if strings.max == COUNT_MAX { COUNT_MAX } else { strings.max - thread.count };
            self.index.add_plain(left, mask);
            for id in self.index.separating {
                let _ = self.machine.threads.push(thread);
                self.try_token(*id, behind, mask);
            }
            let resumed = self.machine.resumed(thread.parent, 0);
            let _ = self.machine.threads.push(resumed);
            let mut close = |id: u32, quoted: &[u8], mask: &mut [u32]| {
                // The quote is none of the characters.
                let characters = quoted.iter().filter(|byte| !matches!(byte, 0x80..0xC0)).count() - 1;
                if (strings.min..=strings.max).contains(&(thread.count + characters as u32)) {
                    allow(mask, id);
                }
            };
            self.walk(self.index.closing, behind, &mut close, mask);
            self.machine.threads.truncate(behind);
        }
        let _ = self.machine.threads.push(thread);
        self.walk(self.index.escaping, behind, &mut |id, _, mask| allow(mask, id), mask);
        self.machine.threads.truncate(behind);
    }

    /// The tokens that may follow within a string where any words may, and those that close it.
    fn add_words(&mut self, thread: Thread, mask: &mut [u32]) {
        let add =
            |mask: &mut [u32], tokens: &[u32]| mask.iter_mut().zip(tokens).for_each(|(word, tokens)| *word |= tokens);
        let begin = self.machine.threads.len();
        let _ = self.machine.threads.push(thread);
        add(mask, self.index.words);
        self.walk(self.index.others, begin, &mut |id, _, mask| allow(mask, id), mask);
        self.machine.threads.truncate(begin + 1);
        let behind = self.machine.step(&self.program, begin..begin + 1, b' ');
        let behind =
            self.machine.threads[behind].first().map(|thread| self.program.states[thread.place as usize].words);
        self.machine.threads.truncate(begin + 1);
        match behind {
            Some(true) => add(mask, self.index.spaced),
            Some(false) => {
                let spaced = self.index.all.beginning_with(b' ', &self.index.tokenizer);
                self.walk(spaced, begin, &mut |id, _, mask| allow(mask, id), mask);
            }
            None => {}
        }
        self.machine.threads.truncate(begin);
    }

    /// Adds a token if the threads from `begin` on can take it, and forgets them.
    fn try_token(&mut self, id: u32, begin: usize, mask: &mut [u32]) {
        let bytes = self.index.tokenizer.token_bytes(id).unwrap_or_default();
        let mut set = begin..self.machine.threads.len();
        for byte in bytes {
            set = self.machine.step_to(&self.program, begin, set, *byte);
        }
        if !set.is_empty() {
            allow(mask, id);
        }
        self.machine.threads.truncate(begin);
    }

    /// Finds the texts that the threads from `begin` on can take: the token, and its bytes before the text.
    fn walk(&mut self, sorted: Sorted<'_>, begin: usize, found: &mut Found<'_>, mask: &mut [u32]) {
        // Behind each byte of the text: where its threads end, and those of the next byte begin.
        let mut ends = [0; TOKEN_BYTES_MAX + 2];
        ends[0] = begin;
        ends[1] = self.machine.threads.len();
        let mut at = 0;
        if ends[1] == begin {
            return;
        }
        'texts: while at < sorted.ids.len() {
            let shared = usize::from(sorted.shared[at]);
            self.machine.threads.truncate(ends[shared + 1]);
            let (before, text) = sorted.text(&self.index.tokenizer, at);
            for (depth, byte) in text.iter().enumerate().skip(shared) {
                let next = self.machine.step(&self.program, ends[depth]..ends[depth + 1], *byte);
                if next.is_empty() {
                    // No text that goes on like this can be taken.
                    let behind = &sorted.shared[at + 1..];
                    let others = behind.iter().position(|shared| usize::from(*shared) <= depth);
                    at += 1 + others.unwrap_or(behind.len());
                    continue 'texts;
                }
                ends[depth + 2] = next.end;
            }
            found(sorted.ids[at], before, mask);
            at += 1;
        }
    }
}

/// Whether which tokens may follow here depends on little more than their lengths.
fn is_open(state: &State) -> bool {
    usize::from(state.open) > LENGTHS || state.open > 0 && state.open == state.most
}

fn allow(mask: &mut [u32], token: u32) {
    if let Some(word) = mask.get_mut(token as usize / 32) {
        *word |= 1 << (token % 32);
    }
}

impl TokenMask for SchemaMask<'_> {
    fn begin(&mut self) {
        self.keys.fill([0; 2]);
        self.current = self.machine.begin(&self.program).len();
    }

    fn allowed(&mut self, mask: &mut [u32]) -> Result<bool> {
        self.make_room();
        match self.sure() {
            Some(token) => {
                mask.fill(0);
                allow(mask, token);
                Ok(false)
            }
            None => self.all_allowed(mask),
        }
    }

    fn all_allowed(&mut self, mask: &mut [u32]) -> Result<bool> {
        self.make_room();
        let key = self.key();
        let words = self.masks.len() / CACHED;
        let slot = match self.keys.iter().position(|kept| *kept == key) {
            Some(slot) => slot,
            None => {
                let slot = self.oldest;
                self.oldest = (self.oldest + 1) % CACHED;
                let masks = core::mem::take(&mut self.masks);
                self.compute(&mut masks[slot * words..(slot + 1) * words]);
                self.masks = masks;
                self.keys[slot] = key;
                slot
            }
        };
        let kept = &self.masks[slot * words..(slot + 1) * words];
        mask.fill(0);
        mask.iter_mut().zip(kept).for_each(|(word, kept)| *word = *kept);
        Ok(self.can_end())
    }

    fn accept(&mut self, token: u32) -> bool {
        let tokenizer = self.index.tokenizer;
        match tokenizer.token_bytes(token).filter(|_| !tokenizer.is_special(token)) {
            Some(bytes) => self.accept_bytes(bytes),
            None => {
                self.current = 0;
                self.machine.threads.truncate(0);
                false
            }
        }
    }
}
