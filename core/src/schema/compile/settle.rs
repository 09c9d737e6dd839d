//! What can be said once all nodes are there: how deep the shortest value is, which keys can never come, and whether branches of
//! `oneOf` overlap.

use crate::schema::dfa::NONE;
use crate::schema::program::{Arrays, NO_VALUE, Node, Objects, Property};
use crate::schema::table::{Table, mix};

use super::{APART, Apart, Compiled, Compiler, empty_list, fail};

/// What of the values of other keys has to be, where an object needs such a key.
#[derive(Clone, Copy)]
enum Extras {
    Any,
    /// Which key comes is not known before it is written.
    All,
}

impl<'j> Compiler<'_, '_, 'j> {
    /// Finds the heights.
    pub(super) fn settle(&mut self) -> Compiled<()> {
        for _ in 0..self.nodes.len() {
            let fits = self.heights.push(NO_VALUE);
            self.room(fits)?;
        }
        // First what can be at all, then how deep it is.
        while self.raise_heights(Extras::Any) {}
        self.retire_keys();
        // A key whose value is only there if it does not come itself is no key to rely on.
        loop {
            self.heights.fill(NO_VALUE);
            while self.raise_heights(Extras::All) {}
            if !self.retire_keys() {
                break;
            }
        }
        for object in 0..self.objects.len() {
            let Objects { first, count, .. } = self.objects[object];
            let mut required = 0;
            for index in (first as usize..(first + count) as usize).rev() {
                let property = &mut self.properties[index];
                property.required_behind = required;
                required += u32::from(property.required);
            }
        }
        self.check_nesting()
    }

    /// Lets no key come that demands a value which cannot be; whether there was one.
    fn retire_keys(&mut self) -> bool {
        let mut changed = false;
        for object in 0..self.objects.len() {
            let Objects { keys, extras, extra_count, .. } = self.objects[object];
            let Some(Node::String(strings)) = self.nodes.get(keys as usize) else { continue };
            let automaton = self.strings[*strings as usize].automaton;
            let mut dead = 0_u64;
            for label in 0..extra_count {
                let value = &mut self.lists[(extras + label) as usize];
                if *value != NONE && self.heights[*value as usize] >= NO_VALUE {
                    dead |= 1 << label;
                    *value = NONE;
                }
            }
            changed |= dead != 0;
            if dead != 0 && (automaton == NONE || !self.drafts.retire(automaton, dead)) {
                self.objects[object].keys = NONE;
            }
        }
        changed
    }

    /// One round; whether anything changed. Heights only fall.
    fn raise_heights(&mut self, extras: Extras) -> bool {
        let mut changed = false;
        for index in (0..self.nodes.len()).rev() {
            let height = match self.nodes[index] {
                Node::Pending(_) => NO_VALUE,
                Node::Literal(..) | Node::Number(_) | Node::String(_) => 0,
                Node::AnyOf(first, count) => self.lists[first as usize..(first + count) as usize]
                    .iter()
                    .map(|node| self.heights[*node as usize])
                    .min()
                    .unwrap_or(NO_VALUE),
                Node::Array(array) => {
                    let Arrays { first, count, rest, min, .. } = self.arrays[array as usize];
                    let listed = &self.lists[first as usize..(first + min.min(count)) as usize];
                    let rest = (min > count).then_some(rest);
                    let items = listed.iter().copied().chain(rest);
                    let height = |node: u32| self.heights.get(node as usize).copied().unwrap_or(NO_VALUE);
                    1 + items.map(height).max().unwrap_or(0)
                }
                Node::Object(object) => self.object_height(&self.objects[object as usize], extras),
            };
            let height = height.min(NO_VALUE);
            changed |= height < self.heights[index];
            self.heights[index] = height.min(self.heights[index]);
        }
        changed
    }

    fn object_height(&self, object: &Objects, of: Extras) -> u32 {
        let properties = &self.properties[object.first as usize..(object.first + object.count) as usize];
        let height = |property: &Property| self.heights[property.node as usize];
        let required = properties.iter().filter(|property| property.required);
        let needed = required.clone().map(height).max().unwrap_or(0);
        if required.count() as u32 >= object.min {
            return 1 + needed;
        }
        // Beside the required ones it has the flattest of the others.
        let extras = &self.lists[object.extras as usize..(object.extras + object.extra_count) as usize];
        let heights = extras.iter().filter(|node| **node != NONE).map(|node| self.heights[*node as usize]);
        let extra = match of {
            Extras::Any => heights.min(),
            Extras::All => heights.max(),
        };
        let extra = extra.filter(|_| object.keys != NONE);
        let has_enough = |most: u32| {
            extra.is_some_and(|extra| extra <= most)
                || properties.iter().filter(|property| height(property) <= most).count() as u32 >= object.min
        };
        (needed..NO_VALUE).find(|most| has_enough(*most)).map_or(NO_VALUE, |most| 1 + most)
    }

    /// Refuses alternatives that lead to themselves, or are nested so deep that entering them takes much stack.
    pub(super) fn check_nesting(&mut self) -> Compiled<()> {
        const NESTING_MAX: u32 = 64;
        // The list of starts is free by now; it is as long as there may be nodes.
        let mut depths = core::mem::replace(&mut self.workshop.nfa.ranges, empty_list());
        depths.truncate(0);
        for _ in 0..self.nodes.len() {
            let fits = depths.push([0, 0]);
            self.room(fits)?;
        }
        let mut changed = true;
        while core::mem::take(&mut changed) {
            for index in (0..self.nodes.len()).rev() {
                let Node::AnyOf(first, count) = self.nodes[index] else { continue };
                let nodes = &self.lists[first as usize..(first + count) as usize];
                let depth = 1 + nodes.iter().map(|node| depths[*node as usize][0]).max().unwrap_or(0);
                if depth > NESTING_MAX {
                    let expected = "alternatives that do not lead to themselves, nested at most 64 deep";
                    let set = self.sets.iter().find(|set| set.node as usize == index && set.count > 0);
                    let last = set.map(|set| self.members[(set.first + set.count - 1) as usize].value);
                    return fail(last.unwrap_or(self.root).offset(), "anyOf", expected);
                }
                changed |= depth > depths[index][0];
                depths[index][0] = depth;
            }
        }
        Ok(())
    }

    /// Checks that at most one branch of each `oneOf` can be met. Where that is not seen, and may be ignored, it means `anyOf`.
    pub(super) fn check_apart(&mut self) -> Compiled<()> {
        for index in 0..self.apart.len() {
            let Apart { first, count, offset } = self.apart[index];
            let are_named = self.have_names(first, count);
            let branches = &self.lists[first as usize..(first + count) as usize];
            let are_apart =
                |place: usize| branches[place + 1..].iter().all(|other| self.are_apart(branches[place], *other, 0));
            if !are_named && !(0..branches.len()).all(are_apart) {
                self.warn(offset, "oneOf", APART)?;
            }
        }
        Ok(())
    }

    /// Whether the branches are objects that all require the same property, each with one text as its value, and no text comes
    /// twice. This is what most have, and is seen without comparing each with each.
    fn have_names(&mut self, first: u32, count: u32) -> bool {
        let slots = core::mem::take(&mut self.name_slots);
        let object = |branch: u32| match self.nodes[self.lists[(first + branch) as usize] as usize] {
            Node::Object(object) => Some(&self.objects[object as usize]),
            _ => None,
        };
        let of = |object: &Objects| &self.properties[object.first as usize..(object.first + object.count) as usize];
        let text =
            |property: &Property| &self.bytes[property.first as usize..(property.first + property.size) as usize];
        let have = object(0).is_some_and(|named| {
            of(named).iter().filter(|property| property.required).any(|name| {
                let hash_in = |branch: u32| {
                    let properties = of(object(branch)?).iter().filter(|property| property.required);
                    let mut named = properties.filter(|property| text(property) == text(name));
                    self.hash_of_text(named.next()?.node)
                };
                let len = slots.len().min(2 * count as usize);
                let mut table = Table::new(&mut slots[..len]);
                (0..count).all(|branch| {
                    // Texts with different hashes are different.
                    let new =
                        |hash| table.get_or_put(hash, branch, |other| hash_in(other) == Some(hash)) == (branch, true);
                    hash_in(branch).is_some_and(new)
                })
            })
        });
        self.name_slots = slots;
        have
    }

    /// A hash of the text that a node stands for, if it is a string that can be only one.
    fn hash_of_text(&self, node: u32) -> Option<u64> {
        let Node::String(index) = self.nodes[node as usize] else { return None };
        let mut state = Some(self.strings[index as usize].automaton).filter(|automaton| *automaton != NONE)?;
        let mut hash = 5;
        loop {
            match (self.drafts.label(state) != NONE, self.drafts.edges_of(state)) {
                (true, []) => return Some(hash),
                (false, [edge]) if edge.low == edge.high => {
                    hash = mix(hash, edge.low.into());
                    state = edge.target;
                }
                _ => return None,
            }
        }
    }

    /// Whether no value is among both nodes. False also if that is not easily seen.
    pub(super) fn are_apart(&self, left: u32, right: u32, depth: u32) -> bool {
        let has_value = |node: u32| self.heights[node as usize] < NO_VALUE;
        if !has_value(left) || !has_value(right) {
            return true;
        }
        if depth > 12 || !self.spend(1) {
            return false;
        }
        match (self.nodes[left as usize], self.nodes[right as usize]) {
            (Node::AnyOf(first, count), _) => {
                let nodes = &self.lists[first as usize..(first + count) as usize];
                nodes.iter().all(|node| self.are_apart(*node, right, depth + 1))
            }
            (_, Node::AnyOf(..)) => self.are_apart(right, left, depth + 1),
            (Node::Literal(left, left_size), Node::Literal(right, right_size)) => {
                let text = |first: u32, size: u32| &self.bytes[first as usize..(first + size) as usize];
                text(left, left_size) != text(right, right_size)
            }
            (Node::Literal(first, size), Node::Number(start)) | (Node::Number(start), Node::Literal(first, size)) => {
                let text = &self.bytes[first as usize..(first + size) as usize];
                let end = self.drafts.run(start, text.iter().map(|byte| char::from(*byte)));
                end.is_none_or(|state| self.drafts.label(state) == NONE)
            }
            (Node::Number(left), Node::Number(right)) => self.have_no_common(left, right),
            (Node::String(left), Node::String(right)) => {
                let (left, right) = (self.strings[left as usize], self.strings[right as usize]);
                left.max < right.min
                    || right.max < left.min
                    || left.automaton != NONE
                        && right.automaton != NONE
                        && self.have_no_common(left.automaton, right.automaton)
            }
            (Node::Array(left), Node::Array(right)) => {
                let (left, right) = (self.arrays[left as usize], self.arrays[right as usize]);
                let item = |array: &Arrays, index: u32| match index < array.count {
                    true => self.lists[(array.first + index) as usize],
                    false => array.rest,
                };
                left.max < right.min
                    || right.max < left.min
                    || (0..left.min.min(right.min).min(8)).any(|index| {
                        let (left, right) = (item(&left, index), item(&right, index));
                        left != NONE && right != NONE && self.are_apart(left, right, depth + 1)
                    })
            }
            (Node::Object(left), Node::Object(right)) => {
                let (left, right) = (self.objects[left as usize], self.objects[right as usize]);
                self.is_told_by(&left, &right, depth) || self.is_told_by(&right, &left, depth)
            }
            // Of different types.
            (left, right) => core::mem::discriminant(&left) != core::mem::discriminant(&right),
        }
    }

    /// Whether a required property of one object is never one of the other's.
    pub(super) fn is_told_by(&self, object: &Objects, other: &Objects, depth: u32) -> bool {
        let of = |object: &Objects| &self.properties[object.first as usize..(object.first + object.count) as usize];
        let name =
            |property: &Property| &self.bytes[property.first as usize..(property.first + property.size) as usize];
        of(object).iter().filter(|property| property.required && self.spend(other.count.into())).any(|property| {
            match of(other).iter().find(|same| name(same) == name(property)) {
                Some(same) => self.are_apart(property.node, same.node, depth + 1),
                None => other.keys == NONE,
            }
        })
    }

    /// Whether no text is of both automata. False also if there are too many pairs of states to see.
    pub(super) fn have_no_common(&self, left: u32, right: u32) -> bool {
        let mut pairs = heapless::Vec::<(u32, u32), 512>::new();
        let _ = pairs.push((left, right));
        let mut at = 0;
        while let Some(&(left, right)) = pairs.get(at) {
            at += 1;
            if self.drafts.label(left) != NONE && self.drafts.label(right) != NONE {
                return false;
            }
            let (mut ones, mut others) = (self.drafts.edges_of(left), self.drafts.edges_of(right));
            while let ([one, behind_one @ ..], [other, behind_other @ ..]) = (ones, others) {
                if one.low.max(other.low) <= one.high.min(other.high) {
                    let pair = (one.target, other.target);
                    if !self.spend(pairs.len() as u64) || !pairs.contains(&pair) && pairs.push(pair).is_err() {
                        return false;
                    }
                }
                if one.high <= other.high { ones = behind_one } else { others = behind_other }
            }
        }
        true
    }
}
