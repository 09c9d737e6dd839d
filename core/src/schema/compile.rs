//! A schema to a program.
//!
//! A node stands for the values that meet a set of schemas. `$ref` and `allOf` add to the set; `anyOf` and `oneOf` divide the
//! node into one for each branch; what is left is merged keyword by keyword. Equal sets are the same node, which makes
//! recursion end. Nodes wait in a queue, so nothing here recurses as deep as the schema does.

use core::cell::RefCell;

use super::dfa::{Drafts, NONE, Workshop};
use super::number::{Bound, Decimal, Numbers, common_multiple, multiple};
use super::program::{Arrays, COUNT_MAX, NO_VALUE, Node, Objects, Program, Property, Strings};
use super::regex::Parsed;
use super::table::{Table, mix};
use super::{SchemaError, Unsupported};
use crate::error::Result;
use crate::file::json::{self, Array, Kind, Object, Str, Value};
use crate::region::{Carver, List};

const NULL: u8 = 1;
const BOOLEAN: u8 = 2;
const INTEGER: u8 = 4;
const FRACTION: u8 = 8;
const STRING: u8 = 16;
const ARRAY: u8 = 32;
const OBJECT: u8 = 64;
const ALL: u8 = 127;

/// One schema of a set.
#[derive(Clone, Copy)]
struct Member<'j> {
    value: Value<'j>,
    /// What of it has been dealt with; or that the value itself is meant.
    flags: u8,
}

const ANY_OF: u8 = 1;
const ONE_OF: u8 = 2;
const CONSTANT: u8 = 4;
/// What it refers to is in the set too.
const FOLLOWED: u8 = 8;

/// A set of schemas: the first of its members and how many, its hash and its node.
#[derive(Clone, Copy)]
struct Set {
    first: u32,
    count: u32,
    hash: u64,
    node: u32,
}

/// A name that a schema of the set declares.
#[derive(Clone, Copy)]
struct Name<'j> {
    hash: u64,
    key: Str<'j>,
    value: Value<'j>,
    /// Which schema.
    member: usize,
}

/// Branches that may not overlap: in `lists`, how many, and where the keyword stands.
#[derive(Clone, Copy)]
struct Apart {
    first: u32,
    count: u32,
    offset: usize,
}

type Compiled<T> = core::result::Result<T, SchemaError>;

fn fail<T>(offset: usize, keyword: &'static str, expected: &'static str) -> Compiled<T> {
    Err(SchemaError { offset, keyword, expected })
}

pub struct Compiler<'r, 'j> {
    root: Value<'j>,
    unsupported: Unsupported,
    workshop: Workshop<'r>,
    drafts: Drafts<'r>,
    nodes: List<'r, Node>,
    heights: List<'r, u32>,
    lists: List<'r, u32>,
    strings: List<'r, Strings>,
    arrays: List<'r, Arrays>,
    objects: List<'r, Objects>,
    properties: List<'r, Property>,
    bytes: List<'r, u8>,
    lengths: List<'r, u32>,
    members: List<'r, Member<'j>>,
    sets: List<'r, Set>,
    table: Table<'r>,
    flat: List<'r, Member<'j>>,
    names: List<'r, Name<'j>>,
    starts: List<'r, u32>,
    apart: List<'r, Apart>,
    warnings: List<'r, SchemaError>,
    /// Nodes that many schemas share.
    any_string: u32,
    integer: u32,
    number: u32,
}

/// The keywords of a set of schemas together.
#[derive(Default)]
struct Keywords<'j> {
    types: u8,
    numbers: Numbers<'j>,
    /// Characters, items, properties: the least, and the most.
    length: (u32, u32),
    items: (u32, u32),
    properties: (u32, u32),
    unique: Option<usize>,
    /// Where patterns and formats stand, and the text.
    patterns: heapless::Vec<(usize, &'static str, Text<'j>), 16>,
    /// `enum` and `const`.
    choices: heapless::Vec<Value<'j>, 8>,
    has_constant: heapless::Vec<bool, 8>,
    /// Whether arrays and objects are constrained, and by what.
    in_arrays: Option<usize>,
    in_objects: Option<usize>,
}

#[derive(Clone, Copy)]
enum Text<'j> {
    Own(&'static str),
    Given(Str<'j>),
}

/// Keywords that say nothing about a value, or are read beside others.
const PASSIVE: [&str; 25] = [
    "title",
    "description",
    "default",
    "examples",
    "example",
    "$comment",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$schema",
    "$id",
    "id",
    "$anchor",
    "$defs",
    "definitions",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "$vocabulary",
    "then",
    "else",
    "minContains",
    "maxContains",
    "nullable",
    "discriminator",
];

/// Keywords that are not enforced.
const UNSUPPORTED: [&str; 14] = [
    "not",
    "if",
    "contains",
    "propertyNames",
    "unevaluatedProperties",
    "unevaluatedItems",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "$dynamicRef",
    "$recursiveRef",
    "$dynamicAnchor",
    "$recursiveAnchor",
    "extends",
];

impl<'r, 'j> Compiler<'r, 'j>
where
    'j: 'r,
{
    pub fn carve(carver: &mut Carver<'r>, root: Value<'j>, unsupported: Unsupported) -> Result<Self> {
        let size = root.raw().len();
        Ok(Self {
            root,
            unsupported,
            workshop: Workshop::carve(carver, size)?,
            drafts: Drafts { states: carver.list(8192 + 2 * size)?, edges: carver.list(16_384 + 4 * size)? },
            nodes: carver.list(1024 + size)?,
            heights: carver.list(1024 + size)?,
            lists: carver.list(4096 + 2 * size)?,
            strings: carver.list(512 + size / 4)?,
            arrays: carver.list(512 + size / 8)?,
            objects: carver.list(512 + size / 8)?,
            properties: carver.list(2048 + size)?,
            bytes: carver.list(4096 + 4 * size)?,
            lengths: carver.list(65_536)?,
            members: carver.list(4096 + 2 * size)?,
            sets: carver.list(1024 + size)?,
            table: Table::new(carver.filled(2048 + 2 * size, 0)?),
            flat: carver.list(1024 + size / 4)?,
            names: carver.list(1024 + size / 4)?,
            starts: carver.list(1024 + size / 2)?,
            apart: carver.list(256 + size / 16)?,
            warnings: carver.list(256)?,
            any_string: NONE,
            integer: NONE,
            number: NONE,
        })
    }

    /// Compiles the schema. Returns the program and what was ignored.
    pub fn compile(mut self) -> Compiled<(Program<'r>, &'r [SchemaError])> {
        let root = self.begin_set();
        self.push_member(Member { value: self.root, flags: 0 })?;
        let root = self.end_set(root)?;
        let mut next = 0;
        while next < self.nodes.len() {
            if let Node::Pending(set) = self.nodes[next] {
                self.expand(next as u32, set)?;
            }
            next += 1;
        }
        self.settle()?;
        if self.heights[root as usize] >= NO_VALUE {
            return fail(self.root.offset(), "schema", "a schema that some value meets");
        }
        self.check_apart()?;
        let program = Program {
            nodes: self.nodes.freeze(),
            heights: self.heights.freeze(),
            lists: self.lists.freeze(),
            strings: self.strings.freeze(),
            arrays: self.arrays.freeze(),
            objects: self.objects.freeze(),
            properties: self.properties.freeze(),
            bytes: self.bytes.freeze(),
            lengths: self.lengths.freeze(),
            states: self.drafts.states.freeze(),
            edges: self.drafts.edges.freeze(),
            root,
        };
        Ok((program, self.warnings.freeze()))
    }

    fn too_large<T>(&self) -> Compiled<T> {
        fail(self.root.offset(), "schema", "a schema that takes less memory: too many branches, names or states")
    }

    fn room(&self, fits: bool) -> Compiled<()> {
        if fits { Ok(()) } else { self.too_large() }
    }

    fn begin_set(&self) -> usize {
        self.members.len()
    }

    fn push_member(&mut self, member: Member<'j>) -> Compiled<()> {
        let fits = self.members.push(member);
        self.room(fits)
    }

    /// The node of the set whose members are from `first` on, new or not.
    fn end_set(&mut self, first: usize) -> Compiled<u32> {
        // What says nothing makes no difference.
        let mut len = first;
        for index in first..self.members.len() {
            let member = self.members[index];
            if !matches!(member.value.kind(), Kind::Bool(true)) || member.flags & CONSTANT != 0 {
                self.members[len] = member;
                len += 1;
            }
        }
        self.members.truncate(len);
        let key = |member: &Member<'_>| (member.value.offset() as u64) << 8 | u64::from(member.flags);
        let hash = self.members[first..].iter().fold(7, |hash, member| mix(hash, key(member)));
        let new = self.sets.len() as u32;
        let (sets, members) = (&*self.sets, &*self.members);
        let is_it = |set: u32| {
            let set = sets[set as usize];
            let old = &members[set.first as usize..(set.first + set.count) as usize];
            set.hash == hash && old.iter().map(key).eq(members[first..].iter().map(key))
        };
        let (set, fits) = self.table.get_or_put(hash, new, is_it);
        self.room(fits)?;
        if set != new {
            self.members.truncate(first);
            return Ok(self.sets[set as usize].node);
        }
        let node = self.node(Node::Pending(new))?;
        let set = Set { first: first as u32, count: (self.members.len() - first) as u32, hash, node };
        let fits = self.sets.push(set);
        self.room(fits)?;
        Ok(node)
    }

    fn node(&mut self, node: Node) -> Compiled<u32> {
        let index = self.nodes.len() as u32;
        let fits = self.nodes.push(node);
        self.room(fits)?;
        Ok(index)
    }

    fn list(&mut self, node: u32) -> Compiled<()> {
        let fits = self.lists.push(node);
        self.room(fits)
    }

    fn literal(&mut self, text: &[u8]) -> Compiled<Node> {
        let first = self.bytes.len() as u32;
        for byte in text {
            let fits = self.bytes.push(*byte);
            self.room(fits)?;
        }
        Ok(Node::Literal(first, text.len() as u32))
    }

    fn warn(&mut self, offset: usize, keyword: &'static str, expected: &'static str) -> Compiled<()> {
        if self.unsupported == Unsupported::Refuse {
            return fail(offset, keyword, expected);
        }
        let warning = SchemaError { offset, keyword, expected };
        if !self.warnings.contains(&warning) {
            // More than there is room for tell nothing new.
            let _ = self.warnings.push(warning);
        }
        Ok(())
    }

    fn expand(&mut self, node: u32, set: u32) -> Compiled<()> {
        let Set { first, count, .. } = self.sets[set as usize];
        if count == 1 && self.members[first as usize].flags & CONSTANT != 0 {
            return self.constant(node, self.members[first as usize].value);
        }
        if !self.flatten(first as usize, count as usize)? {
            self.nodes[node as usize] = Node::AnyOf(0, 0);
            return Ok(());
        }
        for (keyword, flag) in [("anyOf", ANY_OF), ("oneOf", ONE_OF)] {
            for index in 0..self.flat.len() {
                let member = self.flat[index];
                let branches = member.value.as_object().filter(|_| member.flags & flag == 0);
                if let Some(branches) = branches.and_then(|object| object.get(keyword)) {
                    return self.divide(node, index, flag, branches, keyword);
                }
            }
        }
        let keywords = self.merge()?;
        if keywords.choices.is_empty() { self.types(node, &keywords) } else { self.choices(node, &keywords) }
    }

    /// Puts the schemas of a set and all that they refer to into `flat`. False if one of them allows nothing.
    fn flatten(&mut self, first: usize, count: usize) -> Compiled<bool> {
        self.flat.truncate(0);
        for index in first..first + count {
            let member = self.members[index];
            if !self.add_flat(member)? {
                return Ok(false);
            }
        }
        let mut index = 0;
        while index < self.flat.len() {
            let member = self.flat[index];
            index += 1;
            let Some(object) = member.value.as_object().filter(|_| member.flags & FOLLOWED == 0) else { continue };
            for keyword in object.iter() {
                if keyword.key == "$ref" {
                    let target = self.resolve(keyword.value)?;
                    let divided = |member: &Member<'_>| member.flags & (ANY_OF | ONE_OF) != 0;
                    let mut divided = self.flat.iter().filter(|member| divided(member));
                    if divided.any(|member| member.value.offset() == target.offset()) {
                        return fail(keyword.offset, "$ref", "branches that do not lead back to where they branch");
                    }
                    if !self.add_flat(Member { value: target, flags: 0 })? {
                        return Ok(false);
                    }
                } else if keyword.key == "allOf" {
                    let Some(all) = keyword.value.as_array() else {
                        return fail(keyword.offset, "allOf", "a list of schemas");
                    };
                    for value in all.iter() {
                        if !self.add_flat(Member { value, flags: 0 })? {
                            return Ok(false);
                        }
                    }
                }
            }
        }
        Ok(true)
    }

    fn add_flat(&mut self, member: Member<'j>) -> Compiled<bool> {
        match member.value.kind() {
            Kind::Bool(allows) => return Ok(allows),
            Kind::Object(_) => {}
            _ => return fail(member.value.offset(), "schema", "an object, true or false"),
        }
        let offset = member.value.offset();
        if let Some(same) = self.flat.iter_mut().find(|other| other.value.offset() == offset) {
            same.flags |= member.flags;
            return Ok(true);
        }
        let fits = self.flat.push(member);
        self.room(fits)?;
        Ok(true)
    }

    /// The schema that a `$ref` names.
    fn resolve(&self, reference: Value<'j>) -> Compiled<Value<'j>> {
        let refuse = || fail(reference.offset(), "$ref", "a reference within the schema, such as #/$defs/name");
        let Some(text) = reference.as_str() else { return refuse() };
        let mut characters = text.chars();
        match characters.next() {
            Some('#') => {}
            _ => return refuse(),
        }
        let mut at = self.root;
        let mut segment = heapless::String::<256>::new();
        match characters.next() {
            None => return Ok(at),
            Some('/') => {}
            Some(_) => return refuse(),
        }
        loop {
            segment.clear();
            let mut next = characters.next();
            while let Some(character) = next.filter(|character| *character != '/') {
                let decoded = match character {
                    '~' => match characters.next() {
                        Some('0') => '~',
                        Some('1') => '/',
                        _ => return refuse(),
                    },
                    '%' => {
                        let mut digit = || characters.next().and_then(|digit| digit.to_digit(16));
                        let (Some(high), Some(low)) = (digit(), digit()) else { return refuse() };
                        match high << 4 | low {
                            code @ 0..0x80 => char::from(code as u8),
                            _ => return refuse(),
                        }
                    }
                    itself => itself,
                };
                if segment.push(decoded).is_err() {
                    return refuse();
                }
                next = characters.next();
            }
            let found = match at.kind() {
                Kind::Object(object) => object.get(&segment),
                Kind::Array(array) => segment.parse().ok().and_then(|index| array.iter().nth(index)),
                _ => None,
            };
            match found {
                Some(value) => at = value,
                None => return fail(reference.offset(), "$ref", "the name of a schema that is there"),
            }
            // Inside a schema with a name of its own, references mean something else.
            if next.is_none() {
                return Ok(at);
            }
        }
    }

    /// A node for each branch of `anyOf` or `oneOf`.
    fn divide(
        &mut self,
        node: u32,
        index: usize,
        flag: u8,
        branches: Value<'j>,
        keyword: &'static str,
    ) -> Compiled<()> {
        let Some(array) = branches.as_array() else {
            return fail(branches.offset(), keyword, "a list of schemas");
        };
        self.flat[index].flags |= flag;
        let count = array.iter().count();
        let first = self.lists.len();
        for _ in 0..count {
            self.list(NONE)?;
        }
        for (branch, value) in array.iter().enumerate() {
            let set = self.begin_set();
            for index in 0..self.flat.len() {
                let member = self.flat[index];
                self.push_member(Member { flags: member.flags | FOLLOWED, ..member })?;
            }
            self.push_member(Member { value, flags: 0 })?;
            self.lists[first + branch] = self.end_set(set)?;
        }
        self.nodes[node as usize] = Node::AnyOf(first as u32, count as u32);
        if flag == ONE_OF && count > 1 {
            let fits = self.apart.push(Apart { first: first as u32, count: count as u32, offset: branches.offset() });
            self.room(fits)?;
        }
        Ok(())
    }

    /// Reads the keywords of the schemas in `flat`.
    fn merge(&mut self) -> Compiled<Keywords<'j>> {
        let unbounded = (0, COUNT_MAX);
        let mut all =
            Keywords { types: ALL, length: unbounded, items: unbounded, properties: unbounded, ..Keywords::default() };
        for index in 0..self.flat.len() {
            let member = self.flat[index];
            if let Some(object) = member.value.as_object() {
                let nullable = object.get("nullable").and_then(|value| value.as_bool()) == Some(true);
                for keyword in object.iter() {
                    self.keyword(&mut all, &object, keyword, nullable)?;
                }
            }
        }
        Ok(all)
    }

    fn keyword(
        &mut self,
        all: &mut Keywords<'j>,
        schema: &Object<'j>,
        keyword: json::Member<'j>,
        nullable: bool,
    ) -> Compiled<()> {
        let (value, offset) = (keyword.value, keyword.offset);
        let Some(name) = keyword.key.plain() else { return Ok(()) };
        let count = |name: &'static str| match value.kind() {
            Kind::Number(number) => {
                let decimal = Decimal::parse(number.raw());
                let whole = (!decimal.negative || decimal.is_zero()) && decimal.is_integer();
                match number.as_f64().filter(|_| whole) {
                    Some(count) => Ok(count.min(f64::from(COUNT_MAX)) as u32),
                    None => fail(offset, name, "a whole number, not negative"),
                }
            }
            _ => fail(offset, name, "a number"),
        };
        let number = |name: &'static str| match value.kind() {
            Kind::Number(number) => Ok(Decimal::parse(number.raw())),
            _ => fail(offset, name, "a number"),
        };
        match name {
            "type" => {
                let mut types = 0;
                let mut add = |value: Value<'j>| match value.as_str().and_then(|name| type_of(&name)) {
                    Some(one) => {
                        types |= one;
                        Ok(())
                    }
                    None => fail(value.offset(), "type", "the name of a type of JSON"),
                };
                match value.kind() {
                    Kind::Array(names) => names.iter().try_for_each(add)?,
                    _ => add(value)?,
                }
                all.types &= types | if nullable { NULL } else { 0 };
            }
            "minimum" => {
                let exclusive = schema.get("exclusiveMinimum").and_then(|value| value.as_bool()) == Some(true);
                all.numbers.raise(Bound { value: number("minimum")?, exclusive });
            }
            "maximum" => {
                let exclusive = schema.get("exclusiveMaximum").and_then(|value| value.as_bool()) == Some(true);
                all.numbers.lower(Bound { value: number("maximum")?, exclusive });
            }
            // As draft 4 has it, read beside the bound.
            "exclusiveMinimum" | "exclusiveMaximum" if value.as_bool().is_some() => {}
            "exclusiveMinimum" => all.numbers.raise(Bound { value: number("exclusiveMinimum")?, exclusive: true }),
            "exclusiveMaximum" => all.numbers.lower(Bound { value: number("exclusiveMaximum")?, exclusive: true }),
            "multipleOf" => {
                let both = multiple(number("multipleOf")?).and_then(|new| match all.numbers.multiple {
                    Some(old) => common_multiple(old, new),
                    None => Some(new),
                });
                match both {
                    Some(both) => all.numbers.multiple = Some(both),
                    None => self.warn(offset, "multipleOf", "a positive number of few digits, at most 5000")?,
                }
            }
            "minLength" => all.length.0 = all.length.0.max(count("minLength")?),
            "maxLength" => all.length.1 = all.length.1.min(count("maxLength")?),
            "minItems" => {
                all.items.0 = all.items.0.max(count("minItems")?);
                all.in_arrays = Some(offset);
            }
            "maxItems" => {
                all.items.1 = all.items.1.min(count("maxItems")?);
                all.in_arrays = Some(offset);
            }
            "minProperties" => {
                all.properties.0 = all.properties.0.max(count("minProperties")?);
                all.in_objects = Some(offset);
            }
            "maxProperties" => {
                all.properties.1 = all.properties.1.min(count("maxProperties")?);
                all.in_objects = Some(offset);
            }
            "pattern" => {
                let Some(text) = value.as_str() else { return fail(offset, "pattern", "a string") };
                let fits = all.patterns.push((value.offset(), "pattern", Text::Given(text))).is_ok();
                self.room(fits)?;
            }
            "format" => {
                let Some(name) = value.as_str() else { return fail(offset, "format", "a string") };
                // These say something about numbers, or nothing.
                const NUMBERS: [&str; 5] = ["int32", "int64", "float", "double", "password"];
                match super::format::pattern(&name) {
                    Some(pattern) => {
                        let fits = all.patterns.push((value.offset(), "format", Text::Own(pattern))).is_ok();
                        self.room(fits)?;
                    }
                    None if NUMBERS.iter().any(|known| name == *known) => {}
                    None => self.warn(value.offset(), "format", "a format that is known")?,
                }
            }
            "enum" | "const" => {
                let is_constant = name == "const";
                if !is_constant && value.as_array().is_none() {
                    return fail(offset, "enum", "a list of values");
                }
                let fits = all.choices.push(value).is_ok() && all.has_constant.push(is_constant).is_ok();
                self.room(fits)?;
            }
            "uniqueItems" => {
                if value.as_bool() == Some(true) {
                    all.unique = Some(offset);
                    all.in_arrays = Some(offset);
                }
            }
            "items" | "prefixItems" | "additionalItems" => all.in_arrays = Some(offset),
            "properties" | "patternProperties" | "additionalProperties" | "required" => {
                if !matches!(value.kind(), Kind::Bool(true)) {
                    all.in_objects = Some(offset);
                }
            }
            "$ref" | "allOf" | "anyOf" | "oneOf" => {}
            "not" if value.as_object().and_then(|schema| only_type(&schema)).is_some() => {
                let types = value.as_object().and_then(|schema| only_type(&schema)).unwrap_or(0);
                all.types &= !types;
            }
            name if PASSIVE.contains(&name) => {}
            name => {
                if let Some(keyword) = UNSUPPORTED.iter().find(|known| **known == name) {
                    self.warn(offset, keyword, "a keyword that can be enforced")?;
                }
            }
        }
        Ok(())
    }

    /// One node, or an alternative for each type.
    fn types(&mut self, node: u32, all: &Keywords<'j>) -> Compiled<()> {
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
            types => push(self.numbers(Numbers { integer: types == INTEGER, ..all.numbers })?),
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

    fn alternatives(&mut self, node: u32, kinds: &[Node]) -> Compiled<()> {
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

    fn numbers(&mut self, numbers: Numbers<'j>) -> Compiled<Node> {
        let is_plain = numbers.least.is_none() && numbers.most.is_none() && numbers.multiple.is_none();
        let shared = if numbers.integer { self.integer } else { self.number };
        if is_plain && shared != NONE {
            return Ok(Node::Number(shared));
        }
        let made = numbers.automaton(&mut self.workshop, &mut self.drafts);
        let automaton = made.or_else(|expected| fail(self.root.offset(), "multipleOf", expected))?;
        if automaton == NONE {
            return Ok(Node::AnyOf(0, 0));
        }
        if is_plain && numbers.integer {
            self.integer = automaton;
        } else if is_plain {
            self.number = automaton;
        }
        Ok(Node::Number(automaton))
    }

    /// Strings of any text.
    fn plain_string(&mut self) -> Compiled<Node> {
        if self.any_string == NONE {
            self.any_string = self.strings.len() as u32;
            let any = Strings { automaton: NONE, min: 0, max: COUNT_MAX, lengths: 0, base: 0, words: 0 };
            let fits = self.strings.push(any);
            self.room(fits)?;
        }
        Ok(Node::String(self.any_string))
    }

    fn text(&mut self, all: &Keywords<'j>) -> Compiled<Node> {
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
        let mut strings = Strings { automaton, min, max, lengths: 0, base, words: 0 };
        if automaton != NONE && all.length != (0, COUNT_MAX) && !self.measure(&mut strings)? {
            return Ok(Node::AnyOf(0, 0));
        }
        let index = self.strings.len() as u32;
        let fits = self.strings.push(strings);
        self.room(fits)?;
        Ok(Node::String(index))
    }

    /// The automaton of the texts that all patterns match.
    fn patterns(&mut self, patterns: &[(usize, &'static str, Text<'j>)]) -> Compiled<u32> {
        self.workshop.nfa.clear();
        self.starts.truncate(0);
        let (mut offset, mut keyword) = (0, "pattern");
        let mut all = 0;
        for (label, (at, name, text)) in patterns.iter().enumerate() {
            (offset, keyword) = (*at, name);
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

    fn start(&mut self, start: Parsed<u32>, offset: usize, keyword: &'static str) -> Compiled<()> {
        match start {
            Ok(start) => {
                let fits = self.starts.push(start);
                self.room(fits)
            }
            Err(expected) => fail(offset, keyword, expected),
        }
    }

    /// Finds which lengths lead on from each state of an automaton. False if no text has a length in range.
    fn measure(&mut self, strings: &mut Strings) -> Compiled<bool> {
        let states = self.drafts.states.len() as u32 - strings.base;
        // Where there is a longer text, there is one longer by fewer characters than there are states.
        let longest = if strings.max == COUNT_MAX { strings.min.saturating_add(states) } else { strings.max };
        let words = longest / 32 + 1;
        strings.words = words;
        strings.lengths = self.lengths.len() as u32;
        if u64::from(words) * u64::from(states) > (self.lengths.capacity() - self.lengths.len()) as u64 {
            return fail(self.root.offset(), "maxLength", "a smaller bound beside a pattern or format");
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
    fn item_set(&mut self, index: Option<usize>) -> Compiled<Option<u32>> {
        let set = self.begin_set();
        for member in 0..self.flat.len() {
            let Some(schema) = self.flat[member].value.as_object() else { continue };
            let (first, rest) = items_of(&schema);
            let listed = index.and_then(|index| first.and_then(|first| first.iter().nth(index)));
            match listed.or(rest) {
                Some(value) if matches!(value.kind(), Kind::Bool(false)) => {
                    self.members.truncate(set);
                    return Ok(None);
                }
                Some(value) => self.push_member(Member { value, flags: 0 })?,
                None => {}
            }
        }
        self.end_set(set).map(Some)
    }

    fn array(&mut self, all: &Keywords<'j>) -> Compiled<Node> {
        let (min, mut max) = all.items;
        if let Some(offset) = all.unique.filter(|_| max > 1) {
            self.warn(offset, "uniqueItems", "at most one item where items must differ")?;
        }
        let listed = (0..self.flat.len())
            .filter_map(|index| items_of(&self.flat[index].value.as_object()?).0)
            .map(|first| first.iter().count())
            .max()
            .unwrap_or(0);
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

    fn add_array(&mut self, array: Arrays) -> Compiled<Node> {
        if array.min > array.max {
            return Ok(Node::AnyOf(0, 0));
        }
        let index = self.arrays.len() as u32;
        let fits = self.arrays.push(array);
        self.room(fits)?;
        Ok(Node::Array(index))
    }

    fn add_object(&mut self, object: Objects) -> Compiled<Node> {
        let index = self.objects.len() as u32;
        let fits = self.objects.push(object);
        self.room(fits)?;
        Ok(Node::Object(index))
    }

    fn property(&mut self, key: Str<'_>, node: u32, required: bool) -> Compiled<()> {
        let first = self.bytes.len() as u32;
        let fits = write_quoted(key.chars(), &mut |byte| self.bytes.push(byte)) && self.bytes.push(b':');
        self.room(fits)?;
        let size = self.bytes.len() as u32 - first;
        let property = Property { first, size, node, required, required_behind: 0, possible_behind: 0 };
        let fits = self.properties.push(property);
        self.room(fits)
    }

    fn object(&mut self, all: &Keywords<'j>) -> Compiled<Node> {
        let patterns = self.key_patterns()?;
        self.declare()?;
        // What of the patterns each name matches.
        let matches = if patterns.is_empty() { NONE } else { self.match_patterns(&patterns)? };
        let first = self.properties.len();
        for index in 0..self.names.len() {
            let name = self.names[index];
            let is_same = |other: &Name<'j>| other.hash == name.hash && other.key.chars().eq(name.key.chars());
            if self.names[..index].iter().any(is_same) {
                continue;
            }
            let labels = match matches {
                NONE => 0,
                start => self.drafts.run(start, name.key.chars()).map_or(0, |state| self.drafts.label(state)),
            };
            let set = self.begin_set();
            for member in 0..self.flat.len() {
                let mut own = false;
                for other in index..self.names.len() {
                    let other = self.names[other];
                    if other.member == member && other.hash == name.hash && other.key.chars().eq(name.key.chars()) {
                        own = true;
                        self.push_member(Member { value: other.value, flags: 0 })?;
                    }
                }
                self.push_others(member, labels, &patterns, own)?;
            }
            let node = self.end_set(set)?;
            let required = self.is_required(&name.key);
            self.property(name.key, node, required)?;
        }
        let (first, count) = (first as u32, (self.properties.len() - first) as u32);
        let (min, max) = all.properties;
        let (keys, extras, extra_count) = self.extras(&patterns)?;
        let required = self.properties[first as usize..].iter().filter(|property| property.required).count() as u32;
        if keys != NONE && min > required.max(1) {
            // The same key may be written twice.
            let offset = all.in_objects.unwrap_or(self.root.offset());
            self.warn(offset, "minProperties", "at most as many as are required, or 1, where other keys may come")?;
        }
        if required > max || keys == NONE && min > count {
            return Ok(Node::AnyOf(0, 0));
        }
        self.add_object(Objects { first, count, keys, extras, extra_count, min, max })
    }

    /// The patterns of all `patternProperties`: the schema that each belongs to, its text, and what it demands.
    fn key_patterns(&mut self) -> Compiled<heapless::Vec<KeyPattern<'j>, 30>> {
        let mut patterns = heapless::Vec::new();
        for member in 0..self.flat.len() {
            let Some(schema) = self.flat[member].value.as_object() else { continue };
            let Some(value) = schema.get("patternProperties") else { continue };
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

    /// Puts the declared names into `names`; those that are only required come last, and allow anything.
    fn declare(&mut self) -> Compiled<()> {
        self.names.truncate(0);
        for member in 0..self.flat.len() {
            let Some(schema) = self.flat[member].value.as_object() else { continue };
            let Some(properties) = schema.get("properties") else { continue };
            let Some(object) = properties.as_object() else {
                return fail(properties.offset(), "properties", "an object");
            };
            for property in object.iter() {
                let name = Name { hash: hash_of(&property.key), key: property.key, value: property.value, member };
                let fits = self.names.push(name);
                self.room(fits)?;
            }
        }
        for member in 0..self.flat.len() {
            let Some(schema) = self.flat[member].value.as_object() else { continue };
            let Some(required) = schema.get("required") else { continue };
            // Draft 3 had a truth value here.
            let Some(list) = required.as_array() else {
                return fail(required.offset(), "required", "a list of names");
            };
            for value in list.iter() {
                let Some(key) = value.as_str() else { return fail(value.offset(), "required", "a name") };
                let hash = hash_of(&key);
                if !self.names.iter().any(|name| name.hash == hash && name.key.chars().eq(key.chars())) {
                    let fits = self.names.push(Name { hash, key, value, member: usize::MAX });
                    self.room(fits)?;
                }
            }
        }
        Ok(())
    }

    fn is_required(&self, key: &Str<'j>) -> bool {
        self.flat.iter().any(|member| {
            let required = member.value.as_object().and_then(|schema| schema.get("required"));
            let list = required.and_then(|required| required.as_array());
            list.is_some_and(|list| {
                list.iter().filter_map(|name| name.as_str()).any(|name| name.chars().eq(key.chars()))
            })
        })
    }

    /// What the schema `member` demands of a key that matches these patterns, besides by its own name.
    fn push_others(
        &mut self,
        member: usize,
        labels: u32,
        patterns: &[KeyPattern<'j>],
        mut known: bool,
    ) -> Compiled<()> {
        for (index, (owner, pattern)) in patterns.iter().enumerate() {
            if *owner == member && labels >> index & 1 == 1 {
                known = true;
                self.push_member(Member { value: pattern.value, flags: 0 })?;
            }
        }
        if !known && let Some(value) = additional(&self.flat[member]) {
            self.push_member(Member { value, flags: 0 })?;
        }
        Ok(())
    }

    /// An automaton whose labels say which patterns a key matches.
    fn match_patterns(&mut self, patterns: &[KeyPattern<'j>]) -> Compiled<u32> {
        self.begin_keys(patterns)?;
        let made = self.workshop.determinize(&self.starts, &mut self.drafts, &|labels| labels & !(1 << ANY_KEY));
        made.or_else(|expected| fail(self.root.offset(), "patternProperties", expected))
    }

    fn begin_keys(&mut self, patterns: &[KeyPattern<'j>]) -> Compiled<()> {
        self.workshop.nfa.clear();
        self.starts.truncate(0);
        for (label, (_, pattern)) in patterns.iter().enumerate() {
            let start = self.workshop.nfa.pattern(pattern.key.chars(), label as u32);
            self.start(start, pattern.offset, "patternProperties")?;
        }
        let start = self.workshop.nfa.anything(ANY_KEY);
        self.start(start, self.root.offset(), "properties")
    }

    /// Keys that are not declared, and their values: by label in `lists`, and how many.
    fn extras(&mut self, patterns: &[KeyPattern<'j>]) -> Compiled<(u32, u32, u32)> {
        let forbids = |flat: &[Member<'j>], labels: u32| {
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
                !matched && additional(schema).is_some_and(|value| matches!(value.kind(), Kind::Bool(false)))
            })
        };
        // What keys may match, by their label.
        let kinds = RefCell::new(heapless::Vec::<u32, 64>::new());
        let keys = if patterns.is_empty() && self.names.is_empty() {
            if forbids(&self.flat, 0) {
                return Ok((NONE, 0, 0));
            }
            let _ = kinds.borrow_mut().push(0);
            let plain = self.plain_string()?;
            self.node(plain)?
        } else {
            if patterns.is_empty() && forbids(&self.flat, 0) {
                return Ok((NONE, 0, 0));
            }
            self.begin_keys(patterns)?;
            for index in 0..self.names.len() {
                let start = self.workshop.nfa.literal(self.names[index].key.chars(), DECLARED);
                self.start(start, self.root.offset(), "properties")?;
            }
            let flat = &*self.flat;
            let label_of = |labels: u32| {
                let labels = labels & !(1 << ANY_KEY);
                if labels >> DECLARED & 1 == 1 || forbids(flat, labels) {
                    return NONE;
                }
                let mut kinds = kinds.borrow_mut();
                match kinds.iter().position(|kind| *kind == labels) {
                    Some(label) => label as u32,
                    None if kinds.push(labels).is_ok() => kinds.len() as u32 - 1,
                    None => NONE,
                }
            };
            let made = self.workshop.determinize(&self.starts, &mut self.drafts, &label_of);
            let automaton = made.or_else(|expected| fail(self.root.offset(), "properties", expected))?;
            if automaton == NONE {
                return Ok((NONE, 0, 0));
            }
            let index = self.strings.len() as u32;
            let strings = Strings { automaton, min: 0, max: COUNT_MAX, lengths: 0, base: 0, words: 0 };
            let fits = self.strings.push(strings);
            self.room(fits)?;
            self.node(Node::String(index))?
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

    /// Exactly this value.
    fn constant(&mut self, node: u32, value: Value<'j>) -> Compiled<()> {
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
            Kind::String(text) => self.string_choices(core::iter::once(text))?,
            Kind::Array(array) => {
                let count = array.iter().count() as u32;
                let first = self.lists.len();
                for _ in 0..count {
                    self.list(NONE)?;
                }
                for (index, value) in array.iter().enumerate() {
                    let set = self.begin_set();
                    self.push_member(Member { value, flags: CONSTANT })?;
                    self.lists[first + index] = self.end_set(set)?;
                }
                self.add_array(Arrays { first: first as u32, count, rest: NONE, min: count, max: count })?
            }
            Kind::Object(object) => {
                let first = self.properties.len() as u32;
                for member in object.iter() {
                    let set = self.begin_set();
                    self.push_member(Member { value: member.value, flags: CONSTANT })?;
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

    /// A string that is one of these.
    fn string_choices(&mut self, texts: impl Iterator<Item = Str<'j>>) -> Compiled<Node> {
        self.workshop.nfa.clear();
        self.starts.truncate(0);
        for text in texts {
            let start = self.workshop.nfa.literal(text.chars(), 0);
            self.start(start, self.root.offset(), "enum")?;
        }
        let accept = |labels: u32| if labels == 0 { NONE } else { 0 };
        let made = self.workshop.determinize(&self.starts, &mut self.drafts, &accept);
        let automaton = made.or_else(|expected| fail(self.root.offset(), "enum", expected))?;
        if automaton == NONE {
            return Ok(Node::AnyOf(0, 0));
        }
        let index = self.strings.len() as u32;
        let fits = self.strings.push(Strings { automaton, min: 0, max: COUNT_MAX, lengths: 0, base: 0, words: 0 });
        self.room(fits)?;
        Ok(Node::String(index))
    }

    /// The values of `enum` and `const` that meet all else.
    fn choices(&mut self, node: u32, all: &Keywords<'j>) -> Compiled<()> {
        // What numbers and strings are held against.
        let has_bounds = all.numbers.least.is_some() || all.numbers.most.is_some() || all.numbers.multiple.is_some();
        let numbers = if has_bounds { Some(self.numbers(all.numbers)?) } else { None };
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
                        is_type
                            && match numbers {
                                None => true,
                                Some(Node::Number(start)) => {
                                    let mut state = Some(start);
                                    let written = decimal.write(&mut |byte| {
                                        state = state.and_then(|state| compiler.drafts.next(state, byte.into()));
                                    });
                                    written && state.is_some_and(|state| compiler.drafts.label(state) != NONE)
                                }
                                Some(_) => false,
                            }
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
            self.push_member(Member { value, flags: CONSTANT })?;
            let id = self.end_set(set)?;
            if !kept.contains(&id) && kept.push(id).is_err() {
                return fail(value.offset(), "enum", "at most 1024 values that are no strings");
            }
        }
        if strings > 0 {
            let accept = |labels: u32| if labels == 0 { NONE } else { 0 };
            let made = self.workshop.determinize(&self.starts, &mut self.drafts, &accept);
            let automaton = made.or_else(|expected| fail(first.offset(), "enum", expected))?;
            let index = self.strings.len() as u32;
            let fits = self.strings.push(Strings { automaton, min: 0, max: COUNT_MAX, lengths: 0, base: 0, words: 0 });
            self.room(fits)?;
            if kept.is_empty() {
                self.nodes[node as usize] = Node::String(index);
                return Ok(());
            }
            let id = self.node(Node::String(index))?;
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

    /// Finds the heights, and takes out what has no value.
    fn settle(&mut self) -> Compiled<()> {
        for _ in 0..self.nodes.len() {
            let fits = self.heights.push(NO_VALUE);
            self.room(fits)?;
        }
        loop {
            self.heights.iter_mut().for_each(|height| *height = NO_VALUE);
            while self.raise_heights() {}
            if !self.drop_keys() {
                break;
            }
        }
        for object in 0..self.objects.len() {
            let Objects { first, count, .. } = self.objects[object];
            let (mut required, mut possible) = (0, 0);
            for index in (first as usize..(first + count) as usize).rev() {
                let property = &mut self.properties[index];
                property.required_behind = required;
                property.possible_behind = possible;
                required += u32::from(property.required);
                possible += u32::from(self.heights[property.node as usize] < NO_VALUE);
            }
        }
        self.check_nesting()
    }

    /// One round; whether anything changed. Heights only fall.
    fn raise_heights(&mut self) -> bool {
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
                Node::Object(object) => self.object_height(&self.objects[object as usize]),
            };
            let height = height.min(NO_VALUE);
            changed |= height < self.heights[index];
            self.heights[index] = height.min(self.heights[index]);
        }
        changed
    }

    fn object_height(&self, object: &Objects) -> u32 {
        let properties = &self.properties[object.first as usize..(object.first + object.count) as usize];
        let height = |property: &Property| self.heights[property.node as usize];
        let required = properties.iter().filter(|property| property.required);
        let needed = required.clone().map(height).max().unwrap_or(0);
        if required.count() as u32 >= object.min {
            return 1 + needed;
        }
        // More than the required ones: any of those that can have a value.
        let possible = properties.iter().map(height).filter(|height| *height < NO_VALUE);
        let extras = &self.lists[object.extras as usize..(object.extras + object.extra_count) as usize];
        let extras = if object.keys == NONE { &[][..] } else { extras };
        let extra = extras.iter().map(|node| self.heights[*node as usize]).max();
        if possible.clone().count() as u32 + if extra.is_some() { COUNT_MAX } else { 0 } < object.min {
            return NO_VALUE;
        }
        1 + possible.chain(extra).max().unwrap_or(0).max(needed)
    }

    /// Takes the keys from objects some of whose other properties can have no value. Whether there were such.
    fn drop_keys(&mut self) -> bool {
        let mut changed = false;
        for object in self.objects.iter_mut() {
            let extras = &self.lists[object.extras as usize..(object.extras + object.extra_count) as usize];
            if object.keys != NONE && extras.iter().any(|node| self.heights[*node as usize] >= NO_VALUE) {
                object.keys = NONE;
                changed = true;
            }
        }
        changed
    }

    /// Refuses alternatives that lead to themselves, or are nested so deep that entering them takes much stack.
    fn check_nesting(&mut self) -> Compiled<()> {
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
                    return fail(self.root.offset(), "anyOf", expected);
                }
                changed |= depth > depths[index][0];
                depths[index][0] = depth;
            }
        }
        Ok(())
    }

    /// Checks that at most one branch of each `oneOf` can be met.
    fn check_apart(&mut self) -> Compiled<()> {
        for index in 0..self.apart.len() {
            let Apart { first, count, offset } = self.apart[index];
            for left in first..first + count {
                for right in left + 1..first + count {
                    let (left, right) = (self.lists[left as usize], self.lists[right as usize]);
                    if !self.are_apart(left, right, 0) {
                        let expected = "branches that can be told apart: of different types, or with a required \
                                        property whose values differ";
                        return self.warn(offset, "oneOf", expected);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether no value is among both nodes. False also if that is not easily seen.
    fn are_apart(&self, left: u32, right: u32, depth: u32) -> bool {
        let has_value = |node: u32| self.heights[node as usize] < NO_VALUE;
        if !has_value(left) || !has_value(right) {
            return true;
        }
        if depth > 12 {
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
    fn is_told_by(&self, object: &Objects, other: &Objects, depth: u32) -> bool {
        let of = |object: &Objects| &self.properties[object.first as usize..(object.first + object.count) as usize];
        let name =
            |property: &Property| &self.bytes[property.first as usize..(property.first + property.size) as usize];
        of(object).iter().filter(|property| property.required).any(|property| {
            match of(other).iter().find(|same| name(same) == name(property)) {
                Some(same) => self.are_apart(property.node, same.node, depth + 1),
                None => other.keys == NONE,
            }
        })
    }

    /// Whether no text is of both automata. False also if there are too many pairs of states to see.
    fn have_no_common(&self, left: u32, right: u32) -> bool {
        let mut pairs = heapless::Vec::<(u32, u32), 512>::new();
        let _ = pairs.push((left, right));
        let mut at = 0;
        while let Some(&(left, right)) = pairs.get(at) {
            at += 1;
            if self.drafts.label(left) != NONE && self.drafts.label(right) != NONE {
                return false;
            }
            for one in self.drafts.edges_of(left) {
                for other in self.drafts.edges_of(right) {
                    if one.low.max(other.low) > one.high.min(other.high) {
                        continue;
                    }
                    let pair = (one.target, other.target);
                    if !pairs.contains(&pair) && pairs.push(pair).is_err() {
                        return false;
                    }
                }
            }
        }
        true
    }
}

type KeyPattern<'j> = (usize, json::Member<'j>);

/// Labels of keys: that it is declared, and that it is one at all.
const DECLARED: u32 = 30;
const ANY_KEY: u32 = 31;

fn empty_list<'r, T: Copy>() -> List<'r, T> {
    // A list without room takes no memory.
    Carver::measuring().list(0).expect("no memory is enough")
}

fn additional<'j>(member: &Member<'j>) -> Option<Value<'j>> {
    member.value.as_object()?.get("additionalProperties")
}

/// The schemas of the first items, and of those behind them.
fn items_of<'j>(schema: &Object<'j>) -> (Option<Array<'j>>, Option<Value<'j>>) {
    if let Some(first) = schema.get("prefixItems").and_then(|value| value.as_array()) {
        return (Some(first), schema.get("items"));
    }
    let items = schema.get("items");
    match items.and_then(|items| items.as_array()) {
        Some(first) => (Some(first), schema.get("additionalItems")),
        None => (None, items),
    }
}

fn type_of(name: &Str<'_>) -> Option<u8> {
    const NAMES: [(&str, u8); 7] = [
        ("null", NULL),
        ("boolean", BOOLEAN),
        ("integer", INTEGER),
        ("number", INTEGER | FRACTION),
        ("string", STRING),
        ("array", ARRAY),
        ("object", OBJECT),
    ];
    NAMES.iter().find(|(known, _)| name == known).map(|(_, bits)| *bits)
}

/// The types of a schema that says nothing else. None that a whole number is among while other numbers are not.
fn only_type(schema: &Object<'_>) -> Option<u8> {
    let mut members = schema.iter();
    let only = members.next();
    if members.next().is_some() {
        return None;
    }
    let Some(only) = only else { return Some(ALL) };
    if only.key != "type" {
        return None;
    }
    let types = match only.value.kind() {
        Kind::Array(names) => names.iter().try_fold(0, |types, name| Some(types | type_of(&name.as_str()?)?))?,
        _ => type_of(&only.value.as_str()?)?,
    };
    (types & (INTEGER | FRACTION) != INTEGER).then_some(types)
}

fn hash_of(key: &Str<'_>) -> u64 {
    key.chars().fold(3, |hash, character| mix(hash, u64::from(u32::from(character))))
}

/// Whether two values are the same.
fn equal(left: &Value<'_>, right: &Value<'_>) -> bool {
    match (left.kind(), right.kind()) {
        (Kind::Null, Kind::Null) => true,
        (Kind::Bool(left), Kind::Bool(right)) => left == right,
        (Kind::Number(left), Kind::Number(right)) => {
            let (left, right) = (Decimal::parse(left.raw()), Decimal::parse(right.raw()));
            !left.is_less(&right) && !right.is_less(&left)
        }
        (Kind::String(left), Kind::String(right)) => left.chars().eq(right.chars()),
        (Kind::Array(left), Kind::Array(right)) => {
            left.iter().count() == right.iter().count()
                && left.iter().zip(right.iter()).all(|(left, right)| equal(&left, &right))
        }
        (Kind::Object(left), Kind::Object(right)) => {
            left.iter().count() == right.iter().count()
                && left.iter().all(|member| {
                    let mut others = right.iter();
                    let same = others.find(|other| other.key.chars().eq(member.key.chars()));
                    same.is_some_and(|other| equal(&member.value, &other.value))
                })
        }
        _ => false,
    }
}

/// Writes a string as JSON has it, with as few escapes as can be. False if `push` was.
fn write_quoted(text: impl Iterator<Item = char>, push: &mut dyn FnMut(u8) -> bool) -> bool {
    let mut fits = push(b'"');
    for character in text {
        let short = match character {
            '"' | '\\' => Some(character as u8),
            '\n' => Some(b'n'),
            '\r' => Some(b'r'),
            '\t' => Some(b't'),
            '\u{8}' => Some(b'b'),
            '\u{c}' => Some(b'f'),
            _ => None,
        };
        if let Some(letter) = short {
            fits &= push(b'\\') && push(letter);
        } else if u32::from(character) < 0x20 {
            let digits = b"0123456789abcdef";
            for byte in [b'\\', b'u', b'0', b'0', digits[character as usize >> 4], digits[character as usize & 15]] {
                fits &= push(byte);
            }
        } else {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                fits &= push(byte);
            }
        }
    }
    fits && push(b'"')
}
