//! Objects: the declared properties in their order, then other keys.

use core::cell::RefCell;

use crate::file::json::{Kind, Str, Value};
use crate::schema::dfa::NONE;
use crate::schema::program::{Node, Objects, Property, Strings};
use crate::schema::table::Table;

use super::outline::Outline;
use super::{ANY_KEY, Compiled, Compiler, DECLARED, KeyPattern, Keywords, Member, Name, fail, hash_of, write_quoted};

impl<'j> Compiler<'_, '_, 'j> {
    pub(super) fn add_object(&mut self, object: Objects) -> Compiled<Node> {
        let index = self.objects.len() as u32;
        let fits = self.objects.push(object);
        self.room(fits)?;
        Ok(Node::Object(index))
    }

    pub(super) fn property(&mut self, key: Str<'_>, node: u32, required: bool) -> Compiled<()> {
        let first = self.bytes.len() as u32;
        let fits = write_quoted(key.chars(), &mut |byte| self.bytes.push(byte)) && self.bytes.push(b':');
        self.room(fits)?;
        let size = self.bytes.len() as u32 - first;
        let property = Property { first, size, node, required, required_behind: 0 };
        let fits = self.properties.push(property);
        self.room(fits)
    }

    pub(super) fn object(&mut self, all: &Keywords<'j>) -> Compiled<Node> {
        // Where keywords about objects stand.
        let offset = all.in_objects.unwrap_or(self.root.offset());
        let patterns = self.key_patterns()?;
        self.declare()?;
        let fits = self.spend((self.names.len() * self.flat.len() * (1 + patterns.len())) as u64);
        self.room(fits)?;
        // What of the patterns each name matches.
        let matches = if patterns.is_empty() { NONE } else { self.match_patterns(&patterns, offset)? };
        let first = self.properties.len();
        for index in 0..self.names.len() {
            let name = self.names[index];
            if name.first as usize != index {
                continue;
            }
            let labels = match matches {
                NONE => 0,
                start => self.drafts.run(start, name.key.chars()).map_or(0, |state| self.drafts.label(state)),
            };
            let set = self.begin_set();
            // In the order of the schemas, in which the names are too.
            let mut same = index as u32;
            for member in 0..self.flat.len() {
                let mut own = false;
                while let Some(other) = self.names.get(same as usize).copied()
                    && other.member == member as u32
                {
                    own = true;
                    self.push_member(Member::new(other.value, 0))?;
                    same = other.next;
                }
                self.push_others(member, labels, &patterns, own)?;
            }
            let node = self.end_set(set)?;
            self.property(name.key, node, name.required)?;
        }
        let (first, count) = (first as u32, (self.properties.len() - first) as u32);
        let (min, max) = all.properties;
        let (keys, extras, extra_count) = self.extras(&patterns, offset)?;
        let required = self.properties[first as usize..].iter().filter(|property| property.required).count() as u32;
        if keys != NONE && min > required.max(1) {
            // The same key may be written twice.
            self.warn(offset, "minProperties", "at most as many as are required, or 1, where other keys may come")?;
        }
        if required.max(min) > max || keys == NONE && min > count {
            return Ok(Node::AnyOf(0, 0));
        }
        self.add_object(Objects { first, count, keys, extras, extra_count, min, max })
    }

    /// The patterns of all `patternProperties`: the schema that each belongs to, its text, and what it demands.
    pub(super) fn key_patterns(&mut self) -> Compiled<heapless::Vec<KeyPattern<'j>, 30>> {
        let mut patterns = heapless::Vec::new();
        for member in 0..self.flat.len() {
            let Some(value) = self.keyword_of(member, "patternProperties") else { continue };
            let Some(object) = value.as_object() else {
                return fail(value.offset(), "patternProperties", "an object");
            };
            for pattern in object.iter() {
                if patterns.push((member, pattern)).is_err() {
                    return fail(pattern.offset, "patternProperties", "at most 30 patterns");
                }
            }
        }
        Ok(patterns)
    }

    fn keyword_of(&self, member: usize, keyword: &str) -> Option<Value<'j>> {
        self.outline.get(self.flat[member].value, keyword)
    }

    /// Puts the declared names into `names`, and behind them those that are required.
    pub(super) fn declare(&mut self) -> Compiled<()> {
        self.names.truncate(0);
        for member in 0..self.flat.len() {
            let Some(properties) = self.keyword_of(member, "properties") else { continue };
            let Some(object) = properties.as_object() else {
                return fail(properties.offset(), "properties", "an object");
            };
            for property in object.iter() {
                self.name(property.key, property.value, member as u32)?;
            }
        }
        for member in 0..self.flat.len() {
            let Some(required) = self.keyword_of(member, "required") else { continue };
            // Draft 3 had a truth value here.
            let Some(list) = required.as_array() else {
                return fail(required.offset(), "required", "a list of names");
            };
            for value in list.iter() {
                let Some(key) = value.as_str() else { return fail(value.offset(), "required", "a name") };
                self.name(key, value, NONE)?;
            }
        }
        let slots = (2 * self.names.len()).min(self.name_slots.len());
        let mut table = Table::new(&mut self.name_slots[..slots]);
        for index in 0..self.names.len() {
            let name = self.names[index];
            let names = &*self.names;
            let is_it = |other: u32| names[other as usize].key.chars().eq(name.key.chars());
            // The table is large enough.
            let (first, _) = table.get_or_put(name.hash, index as u32, is_it);
            let last = core::mem::replace(&mut self.names[first as usize].last, index as u32);
            if last != NONE {
                self.names[last as usize].next = index as u32;
            }
            self.names[index].first = first;
            self.names[first as usize].required |= name.required;
        }
        Ok(())
    }

    fn name(&mut self, key: Str<'j>, value: Value<'j>, member: u32) -> Compiled<()> {
        let hash = hash_of(key.chars());
        let required = member == NONE;
        let name = Name { hash, key, value, member, first: NONE, next: NONE, last: NONE, required };
        let fits = self.names.push(name);
        self.room(fits)
    }

    /// What the schema `member` demands of a key that matches these patterns, besides by its own name.
    pub(super) fn push_others(
        &mut self,
        member: usize,
        labels: u32,
        patterns: &[KeyPattern<'j>],
        mut known: bool,
    ) -> Compiled<()> {
        for (index, (owner, pattern)) in patterns.iter().enumerate() {
            if *owner == member && labels >> index & 1 == 1 {
                known = true;
                self.push_member(Member::new(pattern.value, 0))?;
            }
        }
        if !known && let Some(value) = self.keyword_of(member, "additionalProperties") {
            self.push_member(Member::new(value, 0))?;
        }
        Ok(())
    }

    /// An automaton whose labels say which patterns a key matches.
    pub(super) fn match_patterns(&mut self, patterns: &[KeyPattern<'j>], offset: usize) -> Compiled<u32> {
        self.begin_keys(patterns, offset)?;
        let made = self.workshop.determinize(&self.starts, &mut self.drafts, &|labels| labels & !(1 << ANY_KEY));
        made.or_else(|expected| fail(offset, "patternProperties", expected))
    }

    pub(super) fn begin_keys(&mut self, patterns: &[KeyPattern<'j>], offset: usize) -> Compiled<()> {
        self.workshop.nfa.clear();
        self.starts.truncate(0);
        for (label, (_, pattern)) in patterns.iter().enumerate() {
            let start = self.workshop.nfa.pattern(pattern.key.chars(), label as u32);
            self.start(start, pattern.offset, "patternProperties")?;
        }
        let start = self.workshop.nfa.anything(ANY_KEY);
        self.start(start, offset, "properties")
    }

    /// Keys that are not declared, and their values: by label in `lists`, and how many.
    pub(super) fn extras(&mut self, patterns: &[KeyPattern<'j>], offset: usize) -> Compiled<(u32, u32, u32)> {
        let forbids = |outline: &Outline<'_, 'j>, flat: &[Member<'j>], labels: u32| {
            flat.iter().enumerate().any(|(member, schema)| {
                let mut matched = false;
                for (index, (owner, pattern)) in patterns.iter().enumerate() {
                    if *owner == member && labels >> index & 1 == 1 {
                        matched = true;
                        if matches!(pattern.value.kind(), Kind::Bool(false)) {
                            return true;
                        }
                    }
                }
                let additional = outline.get(schema.value, "additionalProperties").filter(|_| !matched);
                additional.is_some_and(|value| matches!(value.kind(), Kind::Bool(false)))
            })
        };
        // What keys may match, by their label.
        let kinds = RefCell::new(heapless::Vec::<u32, 64>::new());
        let keys = if patterns.is_empty() && self.names.is_empty() {
            if forbids(&self.outline, &self.flat, 0) {
                return Ok((NONE, 0, 0));
            }
            let _ = kinds.borrow_mut().push(0);
            let plain = self.plain_string()?;
            self.node(plain)?
        } else {
            if patterns.is_empty() && forbids(&self.outline, &self.flat, 0) {
                return Ok((NONE, 0, 0));
            }
            self.begin_keys(patterns, offset)?;
            for index in 0..self.names.len() {
                if self.names[index].first as usize != index {
                    continue;
                }
                let start = self.workshop.nfa.literal(self.names[index].key.chars(), DECLARED);
                self.start(start, offset, "properties")?;
            }
            let (outline, flat, work) = (&self.outline, &*self.flat, &self.work);
            let label_of = |labels: u32| {
                let labels = labels & !(1 << ANY_KEY);
                if labels >> DECLARED & 1 == 1 {
                    return NONE;
                }
                let mut kinds = kinds.borrow_mut();
                if let Some(label) = kinds.iter().position(|kind| *kind == labels) {
                    return label as u32;
                }
                let left = work.get().saturating_sub((flat.len() * (1 + patterns.len())) as u64);
                work.set(left);
                match left > 0 && !forbids(outline, flat, labels) && kinds.push(labels).is_ok() {
                    true => kinds.len() as u32 - 1,
                    false => NONE,
                }
            };
            let made = self.workshop.determinize(&self.starts, &mut self.drafts, &label_of);
            let automaton = made.or_else(|expected| fail(offset, "properties", expected))?;
            self.room(self.work.get() > 0)?;
            if automaton == NONE {
                return Ok((NONE, 0, 0));
            }
            let keys = self.strings(Strings::matching(automaton))?;
            self.node(keys)?
        };
        let mut values = heapless::Vec::<u32, 64>::new();
        for labels in kinds.into_inner() {
            let set = self.begin_set();
            for member in 0..self.flat.len() {
                self.push_others(member, labels, patterns, false)?;
            }
            let fits = values.push(self.end_set(set)?).is_ok();
            self.room(fits)?;
        }
        let (first, count) = (self.lists.len() as u32, values.len() as u32);
        for value in values {
            self.list(value)?;
        }
        Ok((keys, first, count))
    }
}
