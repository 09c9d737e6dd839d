//! A string's states that most characters lead back to: while they come, a walk need not step.

use super::dfa::Edge;
use super::machine::{Phase, Thread};
use super::program::{COUNT_MAX, Program, Strings};
use crate::tokenizer::vocabulary::TOKEN_BYTES_MAX;

/// Where a text is that only such characters have made: at a border of characters; one more for each byte that the last lacks.
pub const BORDER: u8 = 1;

/// The first threads of a walk that many characters lead back to.
pub struct SelfLoops<'p> {
    program: &'p Program<'p>,
    strings: &'p Strings,
    loops: heapless::Vec<SelfLoop, LOOPS>,
}

/// As many as are told from one another.
const LOOPS: usize = 4;

impl<'p> SelfLoops<'p> {
    /// Of a thread in the body of a string that has an automaton.
    pub fn of(program: &'p Program<'p>, strings: &'p Strings, thread: Thread) -> Self {
        let mut loops = heapless::Vec::new();
        let _ = loops.push(SelfLoop::of(program, strings, thread));
        Self { program, strings, loops }
    }

    pub fn get(&self, index: usize) -> &SelfLoop {
        &self.loops[index]
    }

    /// Which of them a set is, if it is one.
    pub fn find(&mut self, set: &[Thread]) -> Option<usize> {
        /// Characters of ASCII that make it worth while.
        const MANY: u32 = 32;
        let [thread] = *set else { return None };
        if let Some(known) = self.loops.iter().position(|known| known.thread == thread) {
            return Some(known);
        }
        // Where characters are counted, no other is come to twice.
        let Thread { place, .. } = thread;
        if self.loops.is_full() || thread.phase != Phase::Body || thread != (Thread { place, ..self.loops[0].thread }) {
            return None;
        }
        let automata = self.program.automata();
        // Some states have edges by the thousand.
        let ascii = automata.edges_of(place).iter().take_while(|edge| edge.low <= 0x7F);
        let back = ascii.filter(|edge| edge.target == place);
        if back.map(|edge| (edge.high.min(0x7F) + 1).saturating_sub(edge.low)).sum::<u32>() < MANY {
            return None;
        }
        let _ = self.loops.push(SelfLoop::of(self.program, self.strings, thread));
        Some(self.loops.len() - 1)
    }
}

/// What leads from a thread back to itself.
pub struct SelfLoop {
    thread: Thread,
    /// Where each byte leads at a border; 0 if it may lead elsewhere.
    first: [u8; 256],
    /// As many bytes as may follow.
    bytes_max: usize,
    /// How far characters are counted.
    count_max: u32,
}

impl SelfLoop {
    fn of(program: &Program<'_>, strings: &Strings, thread: Thread) -> Self {
        let Thread { place, count, .. } = thread;
        let mut first = [0; 256];
        for Edge { low, high, .. } in program.automata().edges_of(place).iter().filter(|edge| edge.target == place) {
            for byte in (*low).max(0x20)..=(*high).min(0x7F) {
                first[byte as usize] = if matches!(byte as u8, b'"' | b'\\') { 0 } else { BORDER };
            }
            // Those whose next byte may be any: all of their characters have to lead back.
            for byte in (0xC2..=0xDF).chain(0xE1..=0xEC).chain(0xEE..=0xEF).chain(0xF1..=0xF3_u8) {
                let behind = u8::from(byte >= 0xE0) + u8::from(byte >= 0xF0) + 1;
                let begin = (u32::from(byte) & (0x3F >> behind)) << (6 * behind);
                if *low <= begin && begin + (1 << (6 * behind)) - 1 <= *high {
                    first[usize::from(byte)] = BORDER + behind;
                }
            }
        }
        let count_max = if strings.max == COUNT_MAX { strings.min } else { COUNT_MAX };
        let leads_on = |more: &usize| program.can_complete(strings, place, count + *more as u32);
        let bytes_max = (1..=TOKEN_BYTES_MAX).take_while(leads_on).count();
        Self { thread, first, bytes_max, count_max }
    }

    /// Where a byte leads behind so many others. `None` if that is elsewhere, or nowhere.
    pub fn step(&self, at: u8, byte: u8, before: usize) -> Option<u8> {
        match (at, byte) {
            (BORDER, _) => Some(self.first[usize::from(byte)]).filter(|next| *next != 0 && before < self.bytes_max),
            (2.., 0x80..=0xBF) => Some(at - 1),
            _ => None,
        }
    }

    /// The thread behind a text of such characters.
    pub fn thread(&self, text: &[u8]) -> Thread {
        let characters = text.iter().filter(|byte| !matches!(byte, 0x80..=0xBF)).count() as u32;
        let count = self.thread.count + characters;
        Thread { count: count.min(self.count_max), ..self.thread }
    }
}
