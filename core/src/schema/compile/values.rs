//! Values that are not objects: numbers, strings, arrays, and those that are listed.

use crate::file::json::{Kind, Str, Value};
use crate::schema::characters::touched;
use crate::schema::dfa::NONE;
use crate::schema::number::{Decimal, Numbers};
use crate::schema::program::{Arrays, COUNT_MAX, Node, Objects, Strings};
use crate::schema::regex::Parsed;

use super::{
    ARRAY, BOOLEAN, CONSTANT, Compiled, Compiler, FRACTION, INTEGER, Keywords, Member, NULL, OBJECT, Place, STRING,
    Text, equal, fail, items_of,
};

impl<'j> Compiler<'_, '_, 'j> {
    /// One node, or an alternative for each type.
    pub(super) fn types(&mut self, node: u32, all: &Keywords<'j>) -> Compiled<()> {
        let mut kinds = heapless::Vec::<Node, 8>::new();
        let mut push = |kind: Node| {
            // Seven is the most.
            let _ = kinds.push(kind);
        };
        if all.types & NULL != 0 {
            push(self.literal(b"null")?);
        }
        if all.types & BOOLEAN != 0 {
            push(self.literal(b"true")?);
            push(self.literal(b"false")?);
        }
        match all.types & (INTEGER | FRACTION) {
            0 => {}
            FRACTION => return fail(self.root.offset(), "type", "numbers that may be whole"),
            types => push(self.numbers(all, types == INTEGER)?),
        }
        if all.types & STRING != 0 {
            push(self.text(all)?);
        }
        if all.types & ARRAY != 0 {
            push(self.array(all)?);
        }
        if all.types & OBJECT != 0 {
            push(self.object(all)?);
        }
        self.alternatives(node, &kinds)
    }

    pub(super) fn alternatives(&mut self, node: u32, kinds: &[Node]) -> Compiled<()> {
        if let [kind] = kinds {
            self.nodes[node as usize] = *kind;
            return Ok(());
        }
        let mut ids = heapless::Vec::<u32, 8>::new();
        for kind in kinds {
            let fits = ids.push(self.node(*kind)?).is_ok();
            self.room(fits)?;
        }
        let first = self.lists.len() as u32;
        for id in ids {
            self.list(id)?;
        }
        self.nodes[node as usize] = Node::AnyOf(first, kinds.len() as u32);
        Ok(())
    }

    pub(super) fn numbers(&mut self, all: &Keywords<'j>, integer: bool) -> Compiled<Node> {
        let mut numbers = Numbers { integer, ..all.numbers };
        let is_plain = numbers.least.is_none() && numbers.most.is_none() && numbers.multiple.is_none();
        let shared = if integer { self.integer } else { self.number };
        if is_plain && shared != NONE {
            return Ok(Node::Number(shared));
        }
        let mut made = numbers.automaton(&mut self.workshop, &mut self.drafts);
        if made.is_err()
            && let Some(offset) = all.multiple
        {
            self.warn(offset, "multipleOf", "a smaller number, or bounds with fewer digits")?;
            numbers.multiple = None;
            made = numbers.automaton(&mut self.workshop, &mut self.drafts);
        }
        let Ok(automaton) = made else { return self.too_large() };
        if automaton == NONE {
            if let Some((offset, keyword)) = all.bound.filter(|_| !numbers.has_short_bounds()) {
                self.warn(offset, keyword, "bounds of at most 64 digits before the point, and 32 behind it")?;
            }
            return Ok(Node::AnyOf(0, 0));
        }
        if is_plain && integer {
            self.integer = automaton;
        } else if is_plain {
            self.number = automaton;
        }
        Ok(Node::Number(automaton))
    }

    /// Strings of any text.
    pub(super) fn plain_string(&mut self) -> Compiled<Node> {
        if self.any_string == NONE {
            self.any_string = self.strings.len() as u32;
            return self.strings(Strings::matching(NONE));
        }
        Ok(Node::String(self.any_string))
    }

    /// Strings of any text, or of the automaton that was made last.
    pub(super) fn strings(&mut self, strings: Strings) -> Compiled<Node> {
        let alphabet = match self.drafts.states.get(strings.automaton as usize) {
            Some(start) => self.drafts.edges[start.first as usize..].iter().fold(0, |set, edge| set | touched(edge)),
            None => 0,
        };
        let index = self.strings.len() as u32;
        let fits = self.strings.push(Strings { alphabet, ..strings });
        self.room(fits)?;
        Ok(Node::String(index))
    }

    pub(super) fn text(&mut self, all: &Keywords<'j>) -> Compiled<Node> {
        let (min, max) = all.length;
        if min > max || min >= COUNT_MAX {
            return Ok(Node::AnyOf(0, 0));
        }
        if all.patterns.is_empty() && all.length == (0, COUNT_MAX) {
            return self.plain_string();
        }
        let base = self.drafts.states.len() as u32;
        let automaton = if all.patterns.is_empty() { NONE } else { self.patterns(&all.patterns)? };
        if automaton == NONE && !all.patterns.is_empty() {
            return Ok(Node::AnyOf(0, 0));
        }
        let mut strings = Strings { min, max, base, ..Strings::matching(automaton) };
        if automaton != NONE && all.length != (0, COUNT_MAX) && !self.measure(&mut strings, all.in_lengths)? {
            return Ok(Node::AnyOf(0, 0));
        }
        self.strings(strings)
    }

    /// The automaton of the texts that all patterns match.
    pub(super) fn patterns(&mut self, patterns: &[(Place, Text<'j>)]) -> Compiled<u32> {
        self.workshop.nfa.clear();
        self.starts.truncate(0);
        let (mut offset, mut keyword) = (0, "pattern");
        let mut all = 0;
        for (label, (place, text)) in patterns.iter().enumerate() {
            (offset, keyword) = *place;
            all |= 1 << label;
            let nfa = &mut self.workshop.nfa;
            let start = match text {
                Text::Own(text) => nfa.pattern(text.chars(), label as u32),
                Text::Given(text) => nfa.pattern(text.chars(), label as u32),
            };
            self.start(start, offset, keyword)?;
        }
        let accept = |labels: u32| if labels == all { 0 } else { NONE };
        let made = self.workshop.determinize(&self.starts, &mut self.drafts, &accept);
        made.or_else(|expected| fail(offset, keyword, expected))
    }

    pub(super) fn start(&mut self, start: Parsed<u32>, offset: usize, keyword: &'static str) -> Compiled<()> {
        match start {
            Ok(start) => {
                let fits = self.starts.push(start);
                self.room(fits)
            }
            Err(expected) => fail(offset, keyword, expected),
        }
    }

    /// Finds which lengths lead on from each state of an automaton. False if no text has a length in range.
    pub(super) fn measure(&mut self, strings: &mut Strings, place: Option<Place>) -> Compiled<bool> {
        let states = self.drafts.states.len() as u32 - strings.base;
        // Where there is a longer text, there is one longer by fewer characters than there are states.
        let longest = if strings.max == COUNT_MAX { strings.min.saturating_add(states) } else { strings.max };
        let words = longest / 32 + 1;
        strings.words = words;
        strings.lengths = self.lengths.len() as u32;
        let room = (self.lengths.capacity() - self.lengths.len()) as u64;
        let edges: u64 =
            (strings.base..strings.base + states).map(|state| self.drafts.edges_of(state).len() as u64).sum();
        if u64::from(words) * u64::from(states) > room || !self.spend(u64::from(longest) * edges) {
            let (offset, keyword) = place.unwrap_or((self.root.offset(), "maxLength"));
            return fail(offset, keyword, "a smaller bound beside a pattern or format");
        }
        let place = |state: u32, length: u32| {
            let word = strings.lengths + (state - strings.base) * words + length / 32;
            (word as usize, 1_u32 << (length % 32))
        };
        for _ in 0..words * states {
            let fits = self.lengths.push(0);
            self.room(fits)?;
        }
        for length in 0..=longest {
            for state in strings.base..strings.base + states {
                let leads = if length == 0 {
                    self.drafts.label(state) != NONE
                } else {
                    self.drafts.edges_of(state).iter().any(|edge| {
                        let (word, bit) = place(edge.target, length - 1);
                        self.lengths[word] & bit != 0
                    })
                };
                if leads {
                    let (word, bit) = place(state, length);
                    self.lengths[word] |= bit;
                }
            }
        }
        Ok((strings.min..=longest).any(|length| {
            let (word, bit) = place(strings.automaton, length);
            self.lengths[word] & bit != 0
        }))
    }

    /// The schemas of the items with this index, or of those behind all that have one.
    pub(super) fn item_set(&mut self, index: Option<usize>) -> Compiled<Option<u32>> {
        let set = self.begin_set();
        for member in 0..self.flat.len() {
            let (first, rest) = items_of(&self.outline, &self.flat[member]);
            let listed = index.and_then(|index| first.and_then(|first| first.iter().nth(index)));
            match listed.or(rest) {
                Some(value) if matches!(value.kind(), Kind::Bool(false)) => {
                    self.members.truncate(set);
                    return Ok(None);
                }
                Some(value) => self.push_member(Member::new(value, 0))?,
                None => {}
            }
        }
        self.end_set(set).map(Some)
    }

    pub(super) fn array(&mut self, all: &Keywords<'j>) -> Compiled<Node> {
        let (min, mut max) = all.items;
        if let Some(offset) = all.unique.filter(|_| max > 1) {
            self.warn(offset, "uniqueItems", "at most one item where items must differ")?;
        }
        let listed = (0..self.flat.len())
            .filter_map(|index| items_of(&self.outline, &self.flat[index]).0)
            .map(|first| first.iter().count())
            .max()
            .unwrap_or(0);
        // Each is looked for from the start of the lists.
        let size: usize = self.flat.iter().map(|schema| schema.value.raw().len()).sum();
        let fits = self.spend((listed.min(max as usize) * size) as u64 / 8);
        self.room(fits)?;
        let mut ids = heapless::Vec::<u32, 256>::new();
        for index in 0..listed.min(max as usize) {
            match self.item_set(Some(index))? {
                Some(id) => {
                    let fits = ids.push(id).is_ok();
                    self.room(fits)?;
                }
                None => {
                    max = max.min(index as u32);
                    break;
                }
            }
        }
        let rest = if max as usize > ids.len() { self.item_set(None)?.unwrap_or(NONE) } else { NONE };
        let (first, count) = (self.lists.len() as u32, ids.len() as u32);
        for id in ids {
            self.list(id)?;
        }
        if rest == NONE {
            max = max.min(count);
        }
        self.add_array(Arrays { first, count, rest, min, max })
    }

    pub(super) fn add_array(&mut self, array: Arrays) -> Compiled<Node> {
        if array.min > array.max {
            return Ok(Node::AnyOf(0, 0));
        }
        let index = self.arrays.len() as u32;
        let fits = self.arrays.push(array);
        self.room(fits)?;
        Ok(Node::Array(index))
    }

    /// Exactly this value.
    pub(super) fn constant(&mut self, node: u32, value: Value<'j>) -> Compiled<()> {
        let constant = match value.kind() {
            Kind::Null => self.literal(b"null")?,
            Kind::Bool(true) => self.literal(b"true")?,
            Kind::Bool(false) => self.literal(b"false")?,
            Kind::Number(number) => {
                let first = self.bytes.len() as u32;
                let decimal = Decimal::parse(number.raw());
                let mut fits = true;
                if !decimal.write(&mut |byte| fits &= self.bytes.push(byte)) {
                    return fail(value.offset(), "const", "a number of at most 64 digits");
                }
                self.room(fits)?;
                Node::Literal(first, self.bytes.len() as u32 - first)
            }
            Kind::String(text) => self.string_constant(text, value.offset())?,
            Kind::Array(array) => {
                let count = array.iter().count() as u32;
                let first = self.lists.len();
                for _ in 0..count {
                    self.list(NONE)?;
                }
                for (index, value) in array.iter().enumerate() {
                    let set = self.begin_set();
                    self.push_member(Member::new(value, CONSTANT))?;
                    self.lists[first + index] = self.end_set(set)?;
                }
                self.add_array(Arrays { first: first as u32, count, rest: NONE, min: count, max: count })?
            }
            Kind::Object(object) => {
                let first = self.properties.len() as u32;
                for member in object.iter() {
                    let set = self.begin_set();
                    self.push_member(Member::new(member.value, CONSTANT))?;
                    let node = self.end_set(set)?;
                    self.property(member.key, node, true)?;
                }
                let count = self.properties.len() as u32 - first;
                self.add_object(Objects {
                    first,
                    count,
                    keys: NONE,
                    extras: 0,
                    extra_count: 0,
                    min: 0,
                    max: COUNT_MAX,
                })?
            }
        };
        self.nodes[node as usize] = constant;
        Ok(())
    }

    /// Exactly this string.
    pub(super) fn string_constant(&mut self, text: Str<'j>, offset: usize) -> Compiled<Node> {
        self.workshop.nfa.clear();
        self.starts.truncate(0);
        let start = self.workshop.nfa.literal(text.chars(), 0);
        self.start(start, offset, "const")?;
        self.listed_strings(offset, "const")
    }

    /// The strings that `starts` lead to.
    fn listed_strings(&mut self, offset: usize, keyword: &'static str) -> Compiled<Node> {
        let accept = |labels: u32| if labels == 0 { NONE } else { 0 };
        let made = self.workshop.determinize(&self.starts, &mut self.drafts, &accept);
        let automaton = made.or_else(|expected| fail(offset, keyword, expected))?;
        self.strings(Strings::matching(automaton))
    }

    /// The values of `enum` and `const` that meet all else.
    pub(super) fn choices(&mut self, node: u32, all: &Keywords<'j>) -> Compiled<()> {
        // What strings are held against.
        let automaton = if all.patterns.is_empty() { NONE } else { self.patterns(&all.patterns)? };
        let first = all.choices[0];
        let values = || {
            let list = first.as_array().filter(|_| !all.has_constant[0]);
            list.map(|list| list.iter()).into_iter().flatten().chain(list.is_none().then_some(first))
        };
        let mut kept = heapless::Vec::<u32, 1024>::new();
        let mut strings = 0;
        let is_kept = |compiler: &Self, value: Value<'j>| -> Compiled<bool> {
            let others = all.choices.iter().zip(&all.has_constant).skip(1);
            let size: usize = all.choices.iter().skip(1).map(|choices| choices.raw().len()).sum();
            compiler.room(compiler.spend(size as u64))?;
            let in_all = others.into_iter().all(|(choices, constant)| match choices.as_array() {
                Some(list) if !constant => list.iter().any(|other| equal(&value, &other)),
                _ => equal(&value, choices),
            });
            Ok(in_all
                && match value.kind() {
                    Kind::Null => all.types & NULL != 0,
                    Kind::Bool(_) => all.types & BOOLEAN != 0,
                    Kind::Number(number) => {
                        let decimal = Decimal::parse(number.raw());
                        let is_type = all.types & FRACTION != 0 || all.types & INTEGER != 0 && decimal.is_integer();
                        is_type && all.numbers.has(&decimal)
                    }
                    Kind::String(text) => {
                        let length = text.chars().count() as u32;
                        let matches = all.patterns.is_empty()
                            || automaton != NONE
                                && compiler
                                    .drafts
                                    .run(automaton, text.chars())
                                    .is_some_and(|state| compiler.drafts.label(state) != NONE);
                        all.types & STRING != 0 && (all.length.0..=all.length.1).contains(&length) && matches
                    }
                    Kind::Array(_) => match all.in_arrays {
                        Some(offset) if all.types & ARRAY != 0 => {
                            return fail(offset, "enum", "no other keywords about lists beside listed lists");
                        }
                        _ => all.types & ARRAY != 0,
                    },
                    Kind::Object(_) => match all.in_objects {
                        Some(offset) if all.types & OBJECT != 0 => {
                            return fail(offset, "enum", "no other keywords about objects beside listed objects");
                        }
                        _ => all.types & OBJECT != 0,
                    },
                })
        };
        self.workshop.nfa.clear();
        self.starts.truncate(0);
        for value in values() {
            if !is_kept(self, value)? {
                continue;
            }
            if let Kind::String(text) = value.kind() {
                let start = self.workshop.nfa.literal(text.chars(), 0);
                self.start(start, value.offset(), "enum")?;
                strings += 1;
                continue;
            }
            let set = self.begin_set();
            self.push_member(Member::new(value, CONSTANT))?;
            let id = self.end_set(set)?;
            if !kept.contains(&id) && kept.push(id).is_err() {
                return fail(value.offset(), "enum", "at most 1024 values that are no strings");
            }
        }
        if strings > 0 {
            let listed = self.listed_strings(first.offset(), "enum")?;
            if kept.is_empty() {
                self.nodes[node as usize] = listed;
                return Ok(());
            }
            let id = self.node(listed)?;
            let fits = kept.push(id).is_ok();
            self.room(fits)?;
        }
        let first = self.lists.len() as u32;
        let count = kept.len() as u32;
        for id in kept {
            self.list(id)?;
        }
        self.nodes[node as usize] = Node::AnyOf(first, count);
        Ok(())
    }
}
