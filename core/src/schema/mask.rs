//! From the automaton of a schema to the tokens that may come next.

use core::mem::MaybeUninit;

use super::Schema;
use super::characters::{COMMON, Characters, DIGITS, Reach, covered, reach};
use super::dfa::{NONE, OPEN_MAX, State};
use super::index::{LENGTHS, TokenIndex};
use super::machine::{Machine, Phase, Thread, hash};
use super::program::{COUNT_MAX, Node, Program, Strings};
use super::self_loop::{BORDER, SelfLoops};
use super::sorted::Sorted;
use super::table::mix;
use crate::error::Result;
use crate::region::{Carver, Layout};
use crate::sampling::TokenMask;
use crate::tokenizer::vocabulary::TOKEN_BYTES_MAX;

/// Masks that are kept, by the state that they belong to.
const CACHED: usize = 8;
/// So many tokens are tried one by one.
const OTHERS_MAX: usize = 1500;
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
    /// The memory that [`SchemaMask::new`] needs: some 550 KB with the vocabulary of gpt-oss.
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
        // Threads whose tokens are known are dealt with one by one; all others together, behind them.
        let threads = self.current;
        let begin = self.machine.threads.len();
        for index in 0..threads {
            let thread = self.machine.threads[index];
            match self.program.nodes.get(thread.node as usize) {
                Some(Node::String(index)) if thread.phase == Phase::Body => {
                    let strings = self.program.strings[*index as usize];
                    match strings.automaton {
                        NONE => self.add_free(&strings, thread, mask),
                        _ => self.add_matching(&strings, thread, mask),
                    }
                }
                _ => {
                    let _ = self.machine.threads.push(thread);
                }
            }
        }
        let found = &mut |id: u32, _: &[u8], mask: &mut [u32]| allow(mask, id);
        self.add_numerals(begin, mask);
        for byte in 0..=u8::MAX {
            if self.machine.can_begin(&self.program, begin..self.machine.threads.len(), byte) {
                self.walk(self.index.beginning_with(byte), begin, found, mask);
            }
        }
        self.machine.threads.truncate(threads);
    }

    /// The tokens that may follow within a string of any text.
    fn add_free(&mut self, strings: &Strings, thread: Thread, mask: &mut [u32]) {
        let begin = self.machine.threads.len();
        self.index.add_inside(if strings.max == COUNT_MAX { COUNT_MAX } else { strings.max - thread.count }, mask);
        let resumed = self.machine.resumed(thread.parent, 0);
        let _ = self.machine.threads.push(resumed);
        let mut close = |id: u32, quoted: &[u8], mask: &mut [u32]| {
            // The quote is none of the characters.
            let characters = quoted.iter().filter(|byte| !matches!(byte, 0x80..0xC0)).count().saturating_sub(1);
            if (strings.min..=strings.max).contains(&(thread.count + characters as u32)) {
                allow(mask, id);
            }
        };
        self.walk(self.index.closing, begin, &mut close, mask);
        self.machine.threads.truncate(begin);
        let _ = self.machine.threads.push(thread);
        self.walk(self.index.escaped, begin, &mut |id, _, mask| allow(mask, id), mask);
        self.machine.threads.truncate(begin);
    }

    /// The tokens that may follow within a string that is to match. Those that are known by their characters are added together, and the
    /// others are tried; if they are many, by walking through all.
    fn add_matching(&mut self, strings: &Strings, thread: Thread, mask: &mut [u32]) {
        let begin = self.machine.threads.len();
        let _ = self.machine.threads.push(thread);
        let state = self.program.states[thread.place as usize];
        let found = &mut |id: u32, _: &[u8], mask: &mut [u32]| allow(mask, id);
        if strings.words == 0 && is_open(&state) {
            let open = if state.open == OPEN_MAX { COUNT_MAX } else { state.open.into() };
            let longer = self.index.add_plain(open, mask);
            if state.most > state.open {
                for id in longer {
                    self.try_token(id, begin, mask);
                }
            }
            self.walk(self.index.special, begin, found, mask);
        } else {
            let reached = self.reached(strings, thread);
            let spaced = self.machine.step(&self.program, begin..begin + 1, b' ');
            let spaced = self.machine.threads[spaced].first().copied();
            self.machine.threads.truncate(begin + 1);
            let behind = spaced.map(|spaced| self.reached(strings, spaced));
            for reach in &reached {
                self.add_reached(reach, mask);
            }
            for reach in behind.iter().flatten() {
                self.index.add_spaced(reach.count, reach.set, mask);
            }
            let is_few = |reach: &&Reach| reach.is_end && self.others(reach, strings).nth(OTHERS_MAX).is_none();
            let Some(known) = reached.iter().find(is_few) else {
                let program = self.program;
                let mut loops = SelfLoops::of(&program, strings, thread);
                self.walk_around(Some(&mut loops), self.index.all, begin, found, mask);
                self.walk_around(Some(&mut loops), self.index.numerals, begin, found, mask);
                self.machine.threads.truncate(begin);
                return;
            };
            let is_all = |reach: &Reach| reach.is_end && self.others(reach, strings).next().is_none();
            let are_spaced_left = behind.is_some_and(|behind| !behind.iter().any(is_all));
            for id in self.others(known, strings) {
                self.try_token(id, begin, mask);
            }
            for (all, tokens, _) in self.index.mixed() {
                if (all & !known.set != 0 || all == 0) && all & !strings.alphabet == 0 {
                    self.walk(tokens, begin, found, mask);
                }
            }
            if are_spaced_left {
                self.walk(self.index.beginning_with(b' '), begin, found, mask);
            }
            self.walk(self.index.special, begin, found, mask);
        }
        self.machine.threads.truncate(begin);
    }

    /// Adds the tokens that are not begun by a blank, of characters any of which may follow.
    fn add_reached(&self, reach: &Reach, mask: &mut [u32]) {
        self.index.add_common(reach.count, reach.set, mask);
        for (all, tokens, counts) in self.index.mixed() {
            if all & !reach.set == 0 && all != 0 {
                let tokens = tokens.ids.iter().zip(counts);
                let short = tokens.filter(|(_, count)| u32::from(**count) <= reach.count);
                short.for_each(|(id, _)| allow(mask, *id));
            }
        }
    }

    /// The common tokens with characters of the pattern's that are not in the set.
    fn others(&self, reach: &Reach, strings: &Strings) -> impl Iterator<Item = u32> + use<'r> {
        self.index.holding_others(reach.set, strings.alphabet)
    }

    /// What may follow at a place in a string, whichever characters these are: of all that may come; and of only those that lead where
    /// most do.
    fn reached(&self, strings: &Strings, thread: Thread) -> heapless::Vec<Reach, 2> {
        let automata = self.program.automata();
        let takes = |state: u32, count: u32| self.program.can_complete(strings, state, thread.count + count);
        let alive = automata.edges_of(thread.place).iter().filter(|edge| takes(edge.target, 1));
        let is_steady = strings.words == 0 || strings.max == COUNT_MAX && thread.count >= strings.min;
        let Some(heaviest) = alive.clone().max_by_key(|edge| edge.high - edge.low) else { return heapless::Vec::new() };
        let [all, most] = [covered(alive.clone()), covered(alive.filter(|edge| edge.target == heaviest.target))];
        let sets = [all, if most == all { 0 } else { most }];
        let follow = |set: Characters| reach(&automata, thread.place, set, self.index.longest(), is_steady, takes);
        sets.into_iter().filter(|set| set & COMMON != 0).map(follow).collect()
    }

    /// The tokens of digits only.
    fn add_numerals(&mut self, begin: usize, mask: &mut [u32]) {
        let end = self.machine.threads.len();
        let numerals = self.index.numerals;
        let mut first = 0;
        while let Some(digit) = numerals.ids.get(first).and_then(|id| self.index.tokenizer.token_bytes(*id)?.first()) {
            let next = numerals.next(first, 0);
            let same = numerals.part(first..next);
            let behind = if self.machine.can_begin(&self.program, begin..end, *digit) {
                self.machine.step(&self.program, begin..end, *digit)
            } else {
                end..end
            };
            // Mostly any digits may follow, as many as a token has.
            let most = self.index.numeral_max.saturating_sub(1);
            let is_open = |thread: &Thread| {
                matches!(self.program.nodes.get(thread.node as usize), Some(Node::Number(_)))
                    && reach(&self.program.automata(), thread.place, DIGITS, most, true, |_, _| true).count >= most
            };
            let (any, are_open) = (!behind.is_empty(), self.machine.threads[behind].iter().any(is_open));
            self.machine.threads.truncate(end);
            if are_open {
                same.ids.iter().for_each(|id| allow(mask, *id));
            } else if any {
                self.walk(same, begin, &mut |id, _, mask| allow(mask, id), mask);
            }
            first = next;
        }
    }

    /// Adds a token if the threads from `begin` on can take it.
    fn try_token(&mut self, id: u32, begin: usize, mask: &mut [u32]) {
        let bytes = self.index.tokenizer.token_bytes(id).unwrap_or_default();
        let end = self.machine.threads.len();
        let mut set = begin..end;
        for byte in bytes {
            set = self.machine.step_to(&self.program, end, set, *byte);
        }
        if !set.is_empty() {
            allow(mask, id);
        }
        self.machine.threads.truncate(end);
    }

    /// Finds the texts that the threads from `begin` on can take, but of tokens that are allowed already: the token, and its bytes before
    /// the text.
    fn walk(&mut self, sorted: Sorted<'_>, begin: usize, found: &mut Found<'_>, mask: &mut [u32]) {
        self.walk_around(None, sorted, begin, found, mask);
    }

    /// As [`SchemaMask::walk`], from the thread of the first of these loops. While characters lead around one, nothing is stepped.
    fn walk_around(
        &mut self,
        mut loops: Option<&mut SelfLoops<'_>>,
        sorted: Sorted<'_>,
        begin: usize,
        found: &mut Found<'_>,
        mask: &mut [u32],
    ) {
        // Behind each byte of the text: where its threads end, and those of the next byte begin.
        let mut ends = [0; TOKEN_BYTES_MAX + 2];
        ends[0] = begin;
        ends[1] = self.machine.threads.len();
        if ends[1] == begin {
            return;
        }
        // And where it is on which loop; 0 if on none. There threads are made only to step.
        let mut places = [(0, 0); TOKEN_BYTES_MAX + 1];
        places[0] = (if loops.is_some() { BORDER } else { 0 }, 0);
        // And where the text began to be there, with the thread as it is.
        let mut froms = [0; TOKEN_BYTES_MAX + 1];
        // So many bytes of the last text have led on.
        let (mut at, mut known) = (0, 0);
        while at < sorted.ids.len() {
            let shared = usize::from(sorted.shared[at]).min(known);
            known = shared;
            if is_allowed(mask, sorted.ids[at]) {
                at += 1;
                continue;
            }
            self.machine.threads.truncate(ends[shared + 1]);
            sorted.ask(&self.index.tokenizer, at);
            let (before, text) = sorted.text(&self.index.tokenizer, at);
            for byte in &text[shared.min(text.len())..] {
                let (place, on) = places[known];
                if let Some(around) = loops.as_ref().filter(|_| place != 0).map(|loops| loops.get(on)) {
                    let from = froms[known];
                    if let Some(place) = around.step(place, *byte, known - from) {
                        known += 1;
                        (places[known], froms[known], ends[known + 1]) = ((place, on), from, ends[known]);
                        continue;
                    }
                    if place == BORDER && ends[known] == ends[known + 1] {
                        let _ = self.machine.threads.push(around.thread(&text[from..known]));
                        ends[known + 1] = self.machine.threads.len();
                    }
                }
                let next = self.machine.step(&self.program, ends[known]..ends[known + 1], *byte);
                if next.is_empty() {
                    break;
                }
                let begins = loops.as_mut().and_then(|loops| loops.find(&self.machine.threads[next.clone()]));
                known += 1;
                (places[known], froms[known]) = begins.map_or(((0, 0), 0), |on| ((BORDER, on), known));
                ends[known + 1] = next.end;
            }
            if known == text.len() {
                found(sorted.ids[at], before, mask);
                at += 1;
            } else {
                // No text that goes on like this can be taken.
                at = sorted.next(at, known);
            }
        }
        self.machine.threads.truncate(ends[1]);
    }
}

/// Whether which tokens may follow here depends on little more than their lengths.
fn is_open(state: &State) -> bool {
    usize::from(state.open) > LENGTHS || state.open > 0 && state.open == state.most
}

fn is_allowed(mask: &[u32], token: u32) -> bool {
    mask.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
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
