//! The automaton of a schema, byte by byte.
//!
//! A thread is a place in one node, and what it returns to. Where a schema leaves a choice that the bytes so far do not
//! decide, there are several threads. Each of them can be completed: a byte after which none could is not taken. So there is
//! never a dead end, and a thread that finds no room may be dropped.
//!
//! White space: after `{ [ ,` and before `} ]` a blank, or a line end and indentation; after `:` a blank.

use core::ops::Range;

use super::dfa::NONE;
use super::program::{Arrays, COUNT_MAX, DEPTH, Node, Objects, Program, Property, Strings};
use super::table::{Table, mix};
use crate::region::{Carver, List};

/// A place in a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// The node; [`NONE`] once the value is complete.
    pub node: u32,
    /// The frame that it returns to; [`NONE`] for none.
    pub parent: u32,
    pub phase: Phase,
    /// In a literal, the byte; in a number or string, the state; in an object, the property.
    pub place: u32,
    /// Characters, items or properties so far.
    pub count: u32,
    /// What of white space, of a name or of a character has been read; or the label of a key.
    pub held: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has been read.
    Begin,
    /// In a string, at a border of characters.
    Body,
    /// Within a character of several bytes.
    Character,
    /// After a backslash.
    Escape,
    /// In the digits of `\u`.
    Hex,
    /// After the first half of a surrogate pair: before the backslash, before the `u`, and in its digits.
    LowBackslash,
    LowU,
    LowHex,
    /// After the opening bracket.
    Open,
    /// After a comma.
    Comma,
    /// In a declared name.
    Name,
    /// In any other key, which is a node of its own.
    Key,
    /// After such a key.
    Colon,
    /// After the colon, before the value of a declared property, and of another.
    Value,
    ExtraValue,
    /// After an item or property.
    After,
}

/// What a thread returns to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    thread: Thread,
    /// How many frames there are, with this one.
    depth: u32,
}

/// A blank has been read; or a line end and so many blanks, from 2.
const BLANK: u32 = 1;
const INDENT_MAX: u32 = 2 + 64;

/// White space after some: how much there is then.
fn space(held: u32, byte: u8) -> Option<u32> {
    match (held, byte) {
        (0, b' ') => Some(BLANK),
        (0, b'\n') => Some(2),
        (2.., b' ' | b'\t') if held < INDENT_MAX => Some(held + 1),
        _ => None,
    }
}

/// The threads and frames of one text.
pub struct Machine<'r> {
    frames: List<'r, Frame>,
    table: Table<'r>,
    /// Sets of threads, one behind the other.
    pub threads: List<'r, Thread>,
}

/// Frames and threads that there is room for.
const FRAMES: usize = 4096;
const THREADS: usize = 8192;
/// Threads at a time; more are dropped.
const SET_MAX: usize = 1024;

impl<'r> Machine<'r> {
    pub fn carve(carver: &mut Carver<'r>) -> crate::error::Result<Self> {
        Ok(Self {
            frames: carver.list(FRAMES)?,
            table: Table::new(carver.filled(2 * FRAMES, 0)?),
            threads: carver.list(THREADS)?,
        })
    }

    /// Begins a text: the threads are the first set.
    pub fn begin(&mut self, program: &Program<'_>) -> Range<usize> {
        self.frames.truncate(0);
        self.table.clear();
        self.threads.truncate(0);
        self.enter(program, program.root, NONE, None, 0);
        0..self.threads.len()
    }

    /// Whether the frames leave little room.
    pub fn is_full(&self) -> bool {
        self.frames.len() * 2 > FRAMES
    }

    /// Forgets the frames that no thread returns to; the first set keeps its threads. All frames have new numbers.
    pub fn compact(&mut self, set: Range<usize>) {
        // Frames come after those that they return to, so one pass from the end marks them all.
        let mut live = [0_u32; FRAMES / 32];
        let mark = |live: &mut [u32], frame: u32| {
            if let Some(word) = live.get_mut(frame as usize / 32) {
                *word |= 1 << (frame % 32);
            }
        };
        let is_live = |live: &[u32], frame: usize| live[frame / 32] >> (frame % 32) & 1 == 1;
        self.threads[set.clone()].iter().for_each(|thread| mark(&mut live, thread.parent));
        for index in (0..self.frames.len()).rev() {
            if is_live(&live, index) {
                mark(&mut live, self.frames[index].thread.parent);
            }
        }
        let before = |live: &[u32], frame: u32| {
            let (word, bit) = (frame as usize / 32, frame % 32);
            let whole: u32 = live[..word].iter().map(|word| word.count_ones()).sum();
            whole + (live[word] & ((1 << bit) - 1)).count_ones()
        };
        let renumber = |parent: u32| if parent == NONE { NONE } else { before(&live, parent) };
        let mut kept = 0;
        self.table.clear();
        for index in 0..self.frames.len() {
            if is_live(&live, index) {
                let mut frame = self.frames[index];
                frame.thread.parent = renumber(frame.thread.parent);
                self.frames[kept] = frame;
                self.table.get_or_put(hash(&frame.thread), kept as u32, |_| false);
                kept += 1;
            }
        }
        self.frames.truncate(kept);
        for thread in &mut self.threads[set] {
            thread.parent = renumber(thread.parent);
        }
    }

    /// The number of a frame, new or not. `None` if there is no room.
    fn frame(&mut self, thread: Thread) -> Option<u32> {
        let frame = Frame { thread, depth: self.depth(thread.parent) + 1 };
        let new = self.frames.len() as u32;
        let frames = &*self.frames;
        let is_it = |index: u32| frames[index as usize] == frame;
        if self.frames.len() == FRAMES {
            return self.table.get(hash(&thread), is_it);
        }
        let (index, fits) = self.table.get_or_put(hash(&thread), new, is_it);
        (fits && (index != new || self.frames.push(frame))).then_some(index)
    }

    fn depth(&self, parent: u32) -> u32 {
        self.frames.get(parent as usize).map_or(0, |frame| frame.depth)
    }

    /// Adds a thread to the set from `first` on.
    fn add(&mut self, first: usize, thread: Thread) {
        let set = &self.threads[first..];
        if set.len() < SET_MAX && !set.contains(&thread) {
            let _ = self.threads.push(thread);
        }
    }

    /// A node begins; with the byte that it begins with, if that is known.
    fn enter(&mut self, program: &Program<'_>, node: u32, parent: u32, byte: Option<u8>, first: usize) {
        if program.heights[node as usize] + self.depth(parent) > DEPTH {
            return;
        }
        let place = match program.nodes[node as usize] {
            Node::AnyOf(list, count) => {
                for node in program.list(list, count) {
                    self.enter(program, *node, parent, byte, first);
                }
                return;
            }
            Node::Number(automaton) => automaton,
            Node::String(index) => program.strings[index as usize].automaton,
            _ => 0,
        };
        let thread = Thread { node, parent, phase: Phase::Begin, place, count: 0, held: 0 };
        match byte {
            Some(byte) => self.advance(program, thread, byte, first),
            None => self.add(first, thread),
        }
    }

    /// What comes after a node that returns to `parent`; `label` is that of a key.
    pub fn resumed(&self, parent: u32, label: u32) -> Thread {
        match self.frames.get(parent as usize) {
            Some(Frame { thread, .. }) if thread.phase == Phase::Key => {
                Thread { phase: Phase::Colon, held: label, ..*thread }
            }
            Some(Frame { thread, .. }) => *thread,
            None => Thread { node: NONE, parent: NONE, phase: Phase::Begin, place: 0, count: 0, held: 0 },
        }
    }

    /// The set that a byte leads to, behind all others. It is empty if the byte is not allowed.
    pub fn step(&mut self, program: &Program<'_>, set: Range<usize>, byte: u8) -> Range<usize> {
        let first = self.threads.len();
        // Most bytes are those of strings.
        if let [thread] = self.threads[set.clone()]
            && thread.phase == Phase::Body
            && matches!(byte, 0x20..=0x7F if byte != b'"' && byte != b'\\')
            && let Some(Node::String(index)) = program.nodes.get(thread.node as usize)
        {
            if let Some(next) = taken(program, &program.strings[*index as usize], thread, byte.into()) {
                let _ = self.threads.push(next);
            }
            return first..self.threads.len();
        }
        for index in set {
            let thread = self.threads[index];
            self.advance(program, thread, byte, first);
        }
        first..self.threads.len()
    }

    /// As [`Machine::step`], but the set comes to begin at `at`, in the place of all that is there.
    pub fn step_to(&mut self, program: &Program<'_>, at: usize, set: Range<usize>, byte: u8) -> Range<usize> {
        let next = self.step(program, set, byte);
        let end = at + next.len();
        self.threads.copy_within(next, at);
        self.threads.truncate(end);
        at..end
    }

    /// Whether a byte is among those that can come at the places of a set, at the most: to step over the others takes longer.
    pub fn can_begin(&self, program: &Program<'_>, set: Range<usize>, byte: u8) -> bool {
        // Between strings: white space, brackets, the beginnings of values, and what numbers are made of.
        let is_between = matches!(byte, b'\t' | b'\n' | b' ' | b'"' | b'+'..=b'.' | b'0'..=b':' | b'[' | b']' | b'{' | b'}')
            || matches!(byte, b'E' | b'e' | b'f' | b'n' | b't');
        self.threads[set].iter().any(|thread| match (program.nodes.get(thread.node as usize), thread.phase) {
            (Some(Node::String(_)), Phase::Begin) => byte == b'"',
            (Some(Node::String(_)), _) => byte >= 0x20,
            (Some(Node::Literal(..)), _) | (Some(Node::Object(_)), Phase::Name) => {
                self.only_of(program, thread) == Some(byte)
            }
            (Some(_), _) => is_between,
            (None, _) => false,
        })
    }

    /// The byte that follows within a text that is given.
    fn only_of(&self, program: &Program<'_>, thread: &Thread) -> Option<u8> {
        match (program.nodes.get(thread.node as usize), thread.phase) {
            (Some(Node::Literal(first, size)), _) => program.text(*first, *size).get(thread.place as usize).copied(),
            (Some(Node::Object(index)), Phase::Name) => {
                let property = &program.properties_of(&program.objects[*index as usize])[thread.place as usize];
                program.text(property.first, property.size).get(thread.held as usize).copied()
            }
            _ => None,
        }
    }

    /// The byte that follows, if it can be only one. `None` also where too many would have to be tried.
    pub fn only_byte(&mut self, program: &Program<'_>, set: Range<usize>) -> Option<u8> {
        const TRIED_MAX: usize = 16;
        let threads = &self.threads[set.clone()];
        let first = threads.first().and_then(|thread| self.only_of(program, thread));
        if first.is_some() && threads.iter().all(|thread| self.only_of(program, thread) == first) {
            return first;
        }
        if threads.len() > TRIED_MAX {
            return None;
        }
        let len = self.threads.len();
        let mut only = None;
        for byte in (0x20..=0xF4).chain([b'\n', b'\t']) {
            let leads_on =
                self.can_begin(program, set.clone(), byte) && !self.step(program, set.clone(), byte).is_empty();
            self.threads.truncate(len);
            if leads_on && only.replace(byte).is_some() {
                return None;
            }
        }
        only
    }

    /// Whether the text can end here.
    pub fn can_end(&self, program: &Program<'_>, set: Range<usize>) -> bool {
        self.threads[set].iter().any(|thread| match program.nodes.get(thread.node as usize) {
            None => true,
            Some(Node::Number(_)) => thread.parent == NONE && program.automata().label(thread.place) != NONE,
            Some(_) => false,
        })
    }

    fn advance(&mut self, program: &Program<'_>, thread: Thread, byte: u8, first: usize) {
        let Some(node) = program.nodes.get(thread.node as usize) else { return };
        match *node {
            Node::Literal(text, size) => {
                let text = program.text(text, size);
                if text.get(thread.place as usize) != Some(&byte) {
                } else if thread.place + 1 == size {
                    self.add(first, self.resumed(thread.parent, 0));
                } else {
                    self.add(first, Thread { place: thread.place + 1, ..thread });
                }
            }
            Node::Number(_) => {
                let automata = program.automata();
                if let Some(place) = automata.next(thread.place, byte.into()) {
                    self.add(first, Thread { place, ..thread });
                }
                if automata.label(thread.place) != NONE {
                    self.advance(program, self.resumed(thread.parent, 0), byte, first);
                }
            }
            Node::String(index) => self.string(program, &program.strings[index as usize], thread, byte, first),
            Node::Array(index) => self.array(program, &program.arrays[index as usize], thread, byte, first),
            Node::Object(index) => self.object(program, &program.objects[index as usize], thread, byte, first),
            Node::AnyOf(..) | Node::Pending(_) => {}
        }
    }

    fn string(&mut self, program: &Program<'_>, strings: &Strings, thread: Thread, byte: u8, first: usize) {
        let is_free = is_free(program, strings, thread.place);
        let body = |place: u32, count: u32| body(strings, thread, place, count);
        let taken = |character: u32| taken(program, strings, thread, character);
        let any_within = |low: u32, high: u32| {
            if strings.automaton == NONE {
                return thread.count < strings.max;
            }
            let automata = program.automata();
            let edges = automata.edges_of(thread.place);
            let from = edges.partition_point(|edge| edge.high < low);
            edges[from..]
                .iter()
                .take_while(|edge| edge.low <= high)
                // Surrogates are no characters.
                .any(|edge| {
                    let within = (edge.low.max(low), edge.high.min(high));
                    !(within.0 >= 0xD800 && within.1 <= 0xDFFF)
                        && program.can_complete(strings, edge.target, thread.count + 1)
                })
        };
        let digit = char::from(byte).to_digit(16);
        let next = match (thread.phase, byte) {
            (Phase::Begin, b'"') => Some(body(thread.place, 0)),
            (Phase::Body, b'"') => {
                let label = if thread.place == NONE { 0 } else { program.automata().label(thread.place) };
                let fits = (strings.min..=strings.max).contains(&thread.count);
                (fits && label != NONE).then(|| self.resumed(thread.parent, label))
            }
            (Phase::Body, b'\\') => {
                let leads_on = ESCAPES.iter().any(|(_, character)| taken(*character).is_some()) || any_within(0, 0x1F);
                leads_on.then_some(Thread { phase: Phase::Escape, ..thread })
            }
            (Phase::Body, 0x20..=0x7F) => taken(byte.into()),
            (Phase::Body, 0xC2..=0xF4) => {
                let behind = u32::from(byte >= 0xE0) + u32::from(byte >= 0xF0) + 1;
                let held = u32::from(byte) & (0x3F >> behind);
                character_range(held, behind, behind)
                    .is_some_and(|(low, high)| any_within(low, high))
                    .then_some(Thread { phase: Phase::Character, held: held | behind << 24 | behind << 28, ..thread })
            }
            (Phase::Character, 0x80..=0xBF) => {
                let (size, left) = (thread.held >> 28, (thread.held >> 24 & 15) - 1);
                let held = (thread.held & 0xFF_FFFF) << 6 | u32::from(byte & 0x3F);
                match (character_range(held, left, size), left) {
                    (None, _) => None,
                    (Some(_), 0) => taken(held),
                    (Some((low, high)), _) => {
                        any_within(low, high).then_some(Thread { held: held | left << 24 | size << 28, ..thread })
                    }
                }
            }
            (Phase::Escape, b'u') if is_free || any_within(0, 0x1F) => {
                Some(Thread { phase: Phase::Hex, held: 0, ..thread })
            }
            (Phase::Escape, _) => {
                ESCAPES.iter().find(|(letter, _)| *letter == byte).and_then(|(_, character)| taken(*character))
            }
            (Phase::Hex, _) => digit.and_then(|digit| {
                let (digits, value) = ((thread.held >> 16) + 1, (thread.held & 0xFFFF) << 4 | digit);
                match digits {
                    // Where not every character may come, only those that cannot be written otherwise.
                    1 | 2 if !is_free && value > 0 => None,
                    3 if !is_free && (value > 1 || !any_within(value << 4, value << 4 | 15)) => None,
                    4 if !is_free => taken(value),
                    // The second half of a pair cannot come first.
                    2 if (0xDC..=0xDF).contains(&value) => None,
                    4 if (0xD800..0xDC00).contains(&value) => {
                        Some(Thread { phase: Phase::LowBackslash, held: 0, ..thread })
                    }
                    4 => Some(body(thread.place, thread.count + 1)),
                    _ => Some(Thread { held: digits << 16 | value, ..thread }),
                }
            }),
            (Phase::LowBackslash, b'\\') => Some(Thread { phase: Phase::LowU, ..thread }),
            (Phase::LowU, b'u') => Some(Thread { phase: Phase::LowHex, held: 0, ..thread }),
            (Phase::LowHex, _) => digit.and_then(|digit| match (thread.held, digit) {
                (0, 13) | (1, 12..) | (2, _) => Some(Thread { held: thread.held + 1, ..thread }),
                (3, _) => Some(body(thread.place, thread.count + 1)),
                _ => None,
            }),
            _ => None,
        };
        if let Some(next) = next {
            self.add(first, next);
        }
    }

    fn array(&mut self, program: &Program<'_>, array: &Arrays, thread: Thread, byte: u8, first: usize) {
        let depth = self.depth(thread.parent) + 1;
        let item = program
            .item(array, thread.count)
            .filter(|node| thread.count < array.max && program.heights[*node as usize] + depth <= DEPTH);
        let can_close = thread.count >= array.min;
        match (thread.phase, byte) {
            (Phase::Begin, b'[') => self.add(first, Thread { phase: Phase::Open, ..thread }),
            (Phase::Open | Phase::After, b']') if can_close => {
                self.add(first, self.resumed(thread.parent, 0));
            }
            (Phase::After, b',') if thread.held == 0 && item.is_some() => {
                self.add(first, Thread { phase: Phase::Comma, ..thread });
            }
            (Phase::After, _) if !can_close => {}
            (Phase::Open | Phase::Comma | Phase::After, b' ' | b'\n' | b'\t') => {
                if let Some(held) = space(thread.held, byte) {
                    self.add(first, Thread { held, ..thread });
                }
            }
            (Phase::Open | Phase::Comma, _) => {
                let Some(node) = item else { return };
                let most = if array.max == COUNT_MAX { array.min.max(array.count) } else { COUNT_MAX };
                let after = Thread { phase: Phase::After, count: (thread.count + 1).min(most), held: 0, ..thread };
                if let Some(frame) = self.frame(after) {
                    self.enter(program, node, frame, Some(byte), first);
                }
            }
            _ => {}
        }
    }

    fn object(&mut self, program: &Program<'_>, object: &Objects, thread: Thread, byte: u8, first: usize) {
        let properties = program.properties_of(object);
        let required_from = |place: u32| {
            let property = properties.get(place as usize);
            property.map_or(0, |property| property.required_behind + u32::from(property.required))
        };
        let can_close = required_from(thread.place) == 0 && thread.count >= object.min;
        match (thread.phase, byte) {
            (Phase::Begin, b'{') => self.add(first, Thread { phase: Phase::Open, ..thread }),
            (Phase::Open | Phase::After, b'}') if can_close => {
                self.add(first, self.resumed(thread.parent, 0));
            }
            (Phase::After, b',') if thread.held == 0 => {
                let comma = Thread { phase: Phase::Comma, ..thread };
                if self.has_key(program, object, comma) {
                    self.add(first, comma);
                }
            }
            (Phase::After, _) if !can_close => {}
            (Phase::Open | Phase::Comma | Phase::After, b' ' | b'\n' | b'\t') => {
                if let Some(held) = space(thread.held, byte) {
                    self.add(first, Thread { held, ..thread });
                }
            }
            (Phase::Open | Phase::Comma, b'"') => {
                for place in thread.place..object.count {
                    if self.can_take(program, object, thread, place) {
                        self.add(first, Thread { phase: Phase::Name, place, held: 1, ..thread });
                    }
                    if properties[place as usize].required {
                        return;
                    }
                }
                if self.can_take_extra(program, object, thread) {
                    let key = Thread { phase: Phase::Key, place: object.count, held: 0, ..thread };
                    if let Some(frame) = self.frame(key) {
                        self.enter(program, object.keys, frame, Some(byte), first);
                    }
                }
            }
            (Phase::Name, _) => {
                let property = &properties[thread.place as usize];
                let text = program.text(property.first, property.size);
                if text.get(thread.held as usize) != Some(&byte) {
                } else if thread.held + 1 == property.size {
                    self.add(first, Thread { phase: Phase::Value, held: 0, ..thread });
                } else {
                    self.add(first, Thread { held: thread.held + 1, ..thread });
                }
            }
            (Phase::Colon, b':') => {
                let held = thread.held << 1;
                self.add(first, Thread { phase: Phase::ExtraValue, held, ..thread });
            }
            (Phase::Value | Phase::ExtraValue, b' ') if thread.held & 1 == 0 => {
                self.add(first, Thread { held: thread.held | 1, ..thread });
            }
            (Phase::Value | Phase::ExtraValue, _) => {
                let (node, place) = if thread.phase == Phase::Value {
                    (properties[thread.place as usize].node, thread.place + 1)
                } else {
                    (program.lists[(object.extras + (thread.held >> 1)) as usize], object.count)
                };
                // Beyond the least number, more of them make no difference where there is no greatest.
                let most = if object.max == COUNT_MAX { object.min } else { COUNT_MAX };
                let count = (thread.count + 1).min(most);
                if let Some(frame) = self.frame(Thread { phase: Phase::After, place, count, held: 0, ..thread }) {
                    self.enter(program, node, frame, Some(byte), first);
                }
            }
            _ => {}
        }
    }

    /// Whether a declared property can come next.
    fn can_take(&self, program: &Program<'_>, object: &Objects, thread: Thread, place: u32) -> bool {
        let properties = program.properties_of(object);
        let depth = self.depth(thread.parent) + 1;
        let fits = |property: &&Property| program.heights[property.node as usize] + depth <= DEPTH;
        let count = thread.count + 1;
        let missing = object.min.saturating_sub(count) as usize;
        let (property, behind) = (&properties[place as usize], &properties[place as usize + 1..]);
        fits(&property)
            && count + property.required_behind <= object.max
            && (behind.iter().filter(fits).take(missing).count() == missing
                || self.can_take_extra(program, object, Thread { count: 0, ..thread }))
    }

    /// Whether a property that is not declared can come next, once no declared one has to.
    fn can_take_extra(&self, program: &Program<'_>, object: &Objects, thread: Thread) -> bool {
        let depth = self.depth(thread.parent) + 1;
        let values = program.list(object.extras, object.extra_count);
        object.keys != NONE
            && thread.count < object.max
            // Those that cannot be have no key.
            && values.iter().filter(|node| **node != NONE).all(|node| {
                let height = program.heights[*node as usize];
                height + depth <= DEPTH
            })
    }

    fn has_key(&self, program: &Program<'_>, object: &Objects, thread: Thread) -> bool {
        for place in thread.place..object.count {
            if self.can_take(program, object, thread, place) {
                return true;
            }
            if program.properties_of(object)[place as usize].required {
                return false;
            }
        }
        self.can_take_extra(program, object, thread)
    }
}

/// At a border of characters of a string.
fn body(strings: &Strings, thread: Thread, place: u32, count: u32) -> Thread {
    // Beyond the least number, more of them make no difference where there is no greatest.
    let count = if strings.max == COUNT_MAX { count.min(strings.min) } else { count };
    Thread { phase: Phase::Body, place, count, held: 0, ..thread }
}

/// Where a character of a string leads.
fn taken(program: &Program<'_>, strings: &Strings, thread: Thread, character: u32) -> Option<Thread> {
    let place = match strings.automaton {
        NONE => NONE,
        _ => program.automata().next(thread.place, character)?,
    };
    let count = thread.count + 1;
    program.can_complete(strings, place, count).then(|| body(strings, thread, place, count))
}

/// Whether any text may follow in a string at this state, whatever its length.
pub fn is_free(program: &Program<'_>, strings: &Strings, state: u32) -> bool {
    strings.automaton == NONE || strings.words == 0 && program.states[state as usize].is_free
}

/// The characters that begin with these bits, of which so many bytes are left: the first and the last. `None` if there are
/// none (The Unicode Standard, table 3-7).
fn character_range(held: u32, left: u32, size: u32) -> Option<(u32, u32)> {
    let (low, high) = (held << (6 * left), ((held + 1) << (6 * left)) - 1);
    let (least, most) = [(0x80, 0x7FF), (0x800, 0xFFFF), (0x1_0000, 0x10_FFFF)][size as usize - 1];
    let (low, high) = (low.max(least), high.min(most));
    let is_surrogate = low >= 0xD800 && high <= 0xDFFF;
    (low <= high && !is_surrogate).then_some((low, high))
}

/// What may follow a backslash, besides `u`, and what it stands for.
pub const ESCAPES: [(u8, u32); 8] =
    [(b'"', 0x22), (b'\\', 0x5C), (b'/', 0x2F), (b'b', 8), (b'f', 12), (b'n', 10), (b'r', 13), (b't', 9)];

/// A hash of a thread.
pub fn hash(thread: &Thread) -> u64 {
    let Thread { node, parent, phase, place, count, held } = *thread;
    let pair = |left: u32, right: u32| u64::from(left) << 32 | u64::from(right);
    // Each number is spread before the next comes to it: masks are told apart by nothing else.
    mix(mix(mix(mix(1, phase as u64), pair(node, parent)), pair(place, count)), held.into())
}
