//! A schema to a program.
//!
//! A node stands for the values that meet a set of schemas. `$ref` and `allOf` add to the set; `anyOf` and `oneOf` divide the
//! node into one for each branch; what is left is merged keyword by keyword. Equal sets are the same node, which makes
//! recursion end. Nodes wait in a queue, so nothing here recurses as deep as the schema does.

mod keywords;
mod objects;
mod outline;
mod settle;
mod values;

use core::cell::Cell;
use core::ops::Range;

use super::dfa::{Drafts, NONE, Workshop};
use super::number::{Decimal, Numbers};
use super::program::{Arrays, NO_VALUE, Node, Objects, Program, Property, Strings};
use super::table::{Table, mix};
use super::{SchemaError, Unsupported};
use crate::error::Result;
use crate::file::json::{self, Array, Kind, Object, Str, Value};
use crate::region::{Carver, List};
use outline::Outline;

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
    /// What of it has been dealt with; or what of it is meant.
    flags: u8,
    /// How far it is from the schemas that the set was made of. Two sets that differ in no more than this are the same.
    depth: u8,
}

impl<'j> Member<'j> {
    fn new(value: Value<'j>, flags: u8) -> Self {
        Self { value, flags, depth: 0 }
    }
}

/// One of its branches, which is still to be chosen.
const ANY_OF: u8 = 1;
const ONE_OF: u8 = 2;
/// The value itself.
const CONSTANT: u8 = 4;
/// What it refers to is in the set too, and its branches are.
const FOLLOWED: u8 = 8;
/// One of its branches has been chosen.
const DIVIDED: u8 = 16;

/// A set of schemas: the first of its members and how many, its hash and its node.
#[derive(Clone, Copy)]
struct Set {
    first: u32,
    count: u32,
    hash: u64,
    node: u32,
}

/// A name that a schema of the set declares or requires.
#[derive(Clone, Copy)]
struct Name<'j> {
    hash: u64,
    key: Str<'j>,
    value: Value<'j>,
    /// Which schema declares it; [`NONE`] if it is only required.
    member: u32,
    /// The first with the same key.
    first: u32,
    /// The next with the same key; [`NONE`] behind the last. Of the first of them: the last.
    next: u32,
    last: u32,
    /// Of the first: whether the key is required.
    required: bool,
}

/// Branches that may not overlap: in `lists`, how many, and where the keyword stands.
#[derive(Clone, Copy)]
struct Apart {
    first: u32,
    count: u32,
    offset: usize,
}

/// Where a keyword stands, and which it is.
type Place = (usize, &'static str);

type Compiled<T> = core::result::Result<T, SchemaError>;

fn fail<T>(offset: usize, keyword: &'static str, expected: &'static str) -> Compiled<T> {
    Err(SchemaError { offset, keyword, expected })
}

/// What is made is in memory that stays, `'r`; all else in memory for the time of compiling, `'s`.
pub struct Compiler<'r, 's, 'j> {
    root: Value<'j>,
    unsupported: Unsupported,
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
    warnings: List<'r, SchemaError>,
    workshop: Workshop<'s>,
    members: List<'s, Member<'j>>,
    sets: List<'s, Set>,
    table: Table<'s>,
    outline: Outline<'s, 'j>,
    flat: List<'s, Member<'j>>,
    /// How many sets have been put into `flat`.
    round: u32,
    names: List<'s, Name<'j>>,
    /// For a table of the names.
    name_slots: &'s mut [u32],
    starts: List<'s, u32>,
    apart: List<'s, Apart>,
    /// How much may still be looked at more than once: what schemas share is looked at as often as they do.
    work: Cell<u64>,
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
    patterns: heapless::Vec<(Place, Text<'j>), 16>,
    /// `enum` and `const`.
    choices: heapless::Vec<Value<'j>, 8>,
    has_constant: heapless::Vec<bool, 8>,
    /// Whether arrays and objects are constrained, and by what.
    in_arrays: Option<usize>,
    in_objects: Option<usize>,
    /// Where numbers and the lengths of strings are constrained last, and by what.
    bound: Option<Place>,
    multiple: Option<usize>,
    in_lengths: Option<Place>,
}

#[derive(Clone, Copy)]
enum Text<'j> {
    Own(&'static str),
    Given(Str<'j>),
}

impl<'r, 's, 'j> Compiler<'r, 's, 'j>
where
    'j: 's,
{
    pub fn carve(
        kept: &mut Carver<'r>,
        scratch: &mut Carver<'s>,
        root: Value<'j>,
        unsupported: Unsupported,
    ) -> Result<Self> {
        let size = root.raw().len();
        Ok(Self {
            root,
            unsupported,
            drafts: Drafts { states: kept.list(8192 + size)?, edges: kept.list(32_768 + 3 * size)? },
            nodes: kept.list(1024 + size / 2)?,
            heights: kept.list(1024 + size / 2)?,
            lists: kept.list(2048 + size)?,
            strings: kept.list(256 + size / 8)?,
            arrays: kept.list(256 + size / 8)?,
            objects: kept.list(256 + size / 8)?,
            properties: kept.list(1024 + size / 2)?,
            bytes: kept.list(4096 + 4 * size)?,
            lengths: kept.list(65_536)?,
            warnings: kept.list(256)?,
            workshop: Workshop::carve(scratch, size)?,
            members: scratch.list(6144 + size / 2)?,
            sets: scratch.list(512 + size / 4)?,
            table: Table::new(scratch.filled(1024 + size / 2, 0)?),
            outline: Outline::carve(scratch, size)?,
            flat: scratch.list(512 + size / 8)?,
            round: 0,
            names: scratch.list(512 + size / 4)?,
            name_slots: scratch.filled(2 * (512 + size / 4), 0)?,
            starts: scratch.list(1024 + size / 2)?,
            apart: scratch.list(256 + size / 16)?,
            work: Cell::new(1 << 26),
            any_string: NONE,
            integer: NONE,
            number: NONE,
        })
    }

    /// Compiles the schema. Returns the program and what was ignored.
    pub fn compile(mut self) -> Compiled<(Program<'r>, &'r [SchemaError])> {
        let root = self.begin_set();
        self.push_member(Member::new(self.root, 0))?;
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
        fail(
            self.root.offset(),
            "schema",
            "a schema that takes less memory and time: too many branches, names or states",
        )
    }

    fn room(&self, fits: bool) -> Compiled<()> {
        if fits { Ok(()) } else { self.too_large() }
    }

    /// Whether there is so much work left. Units take some nanoseconds.
    fn spend(&self, work: u64) -> bool {
        let left = self.work.get().checked_sub(work);
        self.work.set(left.unwrap_or(0));
        left.is_some()
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
            // The outermost first: what has branches may stand in one of them again.
            let undecided = self.flat.iter().enumerate().filter(|(_, member)| member.flags & flag != 0);
            let index = undecided.min_by_key(|(_, member)| member.depth).map(|(index, _)| index);
            let branches = index.and_then(|index| self.outline.get(self.flat[index].value, keyword));
            if let (Some(index), Some(branches)) = (index, branches) {
                return self.divide(node, index, flag, branches, keyword);
            }
        }
        let keywords = self.merge()?;
        if keywords.choices.is_empty() { self.types(node, &keywords) } else { self.choices(node, &keywords) }
    }

    /// Puts the schemas of a set and all that they refer to into `flat`, in the order in which their properties stand in the text: what
    /// a keyword before `properties` brings comes first. Where branches stand, they are to be chosen. False if a schema allows nothing.
    fn flatten(&mut self, first: usize, count: usize) -> Compiled<bool> {
        self.flat.truncate(0);
        self.round += 1;
        // What is left to do is behind all sets, the next at the end.
        let end = self.members.len();
        for index in (first..first + count).rev() {
            let member = self.members[index];
            if member.flags & FOLLOWED != 0 {
                self.outline.enters(member.value, self.round);
            }
            self.push_member(member)?;
        }
        while self.members.len() > end {
            let last = self.members.len() - 1;
            let member = self.members[last];
            self.members.truncate(last);
            if !self.add_flat(member, first..first + count)? {
                self.members.truncate(end);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts a schema of `set` into `flat`; or, if what it refers to is not there yet, itself and all of that behind the sets.
    fn add_flat(&mut self, member: Member<'j>, set: Range<usize>) -> Compiled<bool> {
        let value = member.value;
        let fits = self.spend(FLAT_WORK);
        self.room(fits)?;
        if member.flags & (FOLLOWED | ANY_OF | ONE_OF) != 0 {
            let fits = self.flat.push(member);
            self.room(fits)?;
            return Ok(true);
        }
        match value.kind() {
            Kind::Bool(allows) => return Ok(allows),
            Kind::Object(_) => {}
            _ => return fail(value.offset(), "schema", "an object, true or false"),
        }
        let fits = self.outline.read(value);
        self.room(fits)?;
        if !self.outline.enters(value, self.round) {
            return Ok(true);
        }
        let (itself, begin) = (Member { flags: FOLLOWED, ..member }, self.members.len());
        let brought = |value: Value<'j>| Member { value, flags: 0, depth: member.depth.saturating_add(1) };
        let mut is_placed = false;
        for place in 0..self.outline.members(value).len() {
            let keyword = self.outline.members(value)[place];
            if keyword.key == "$ref" {
                let target = self.resolve(keyword.value)?;
                let is_divided =
                    |member: &Member<'_>| member.flags & DIVIDED != 0 && member.value.offset() == target.offset();
                if self.members[set.clone()].iter().any(is_divided) {
                    return fail(keyword.offset, "$ref", "branches that do not lead back to where they branch");
                }
                self.push_member(brought(target))?;
            } else if keyword.key == "allOf" {
                let Some(all) = keyword.value.as_array() else {
                    return fail(keyword.offset, "allOf", "a list of schemas");
                };
                for value in all.iter() {
                    self.push_member(brought(value))?;
                }
            } else if keyword.key == "anyOf" {
                self.push_member(Member { flags: ANY_OF, ..member })?;
            } else if keyword.key == "oneOf" {
                self.push_member(Member { flags: ONE_OF, ..member })?;
            } else if !is_placed && PLACES.iter().any(|name| keyword.key == *name) {
                self.push_member(itself)?;
                is_placed = true;
            }
        }
        if !is_placed {
            self.push_member(itself)?;
        }
        self.members[begin..].reverse();
        Ok(true)
    }

    /// The schema that a `$ref` names.
    fn resolve(&mut self, reference: Value<'j>) -> Compiled<Value<'j>> {
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
                Kind::Object(_) => {
                    let fits = self.outline.read(at);
                    self.room(fits)?;
                    if self.names_references(at) {
                        self.warn(reference.offset(), "$ref", "a reference into no schema with a name of its own")?;
                    }
                    self.outline.get(at, &segment)
                }
                Kind::Array(array) => {
                    let fits = self.spend(at.raw().len() as u64 / 8);
                    self.room(fits)?;
                    segment.parse().ok().and_then(|index| array.iter().nth(index))
                }
                _ => None,
            };
            match found {
                Some(value) => at = value,
                None => return fail(reference.offset(), "$ref", "the name of a schema that is there"),
            }
            if next.is_none() {
                return Ok(at);
            }
        }
    }

    /// Whether a schema that has been read has a name of its own, and may have references in it, which begin there.
    fn names_references(&self, schema: Value<'j>) -> bool {
        let name = self.outline.get(schema, "$id").and_then(|name| name.as_str());
        name.is_some_and(|name| !matches!(name.chars().next(), None | Some('#')))
            && schema.offset() != self.root.offset()
            && ["$ref", "\\u"].iter().any(|reference| schema.raw().contains(reference))
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
        let divided = self.flat[index].value.offset();
        let depth = self.flat.iter().map(|member| member.depth.saturating_add(1)).max().unwrap_or(0);
        let first = self.lists.len() as u32;
        let mut has_true = false;
        for value in array.iter() {
            // Only branches that say nothing are the same node: all others have places of their own.
            if matches!(value.kind(), Kind::Bool(true)) && core::mem::replace(&mut has_true, true) {
                if flag == ONE_OF {
                    self.warn(branches.offset(), "oneOf", APART)?;
                }
                continue;
            }
            let set = self.begin_set();
            for place in 0..self.flat.len() {
                let member = self.flat[place];
                self.push_member(match member.flags {
                    _ if place == index => Member { value, flags: 0, depth },
                    FOLLOWED if member.value.offset() == divided => Member { flags: FOLLOWED | DIVIDED, ..member },
                    _ => member,
                })?;
            }
            let id = self.end_set(set)?;
            self.list(id)?;
        }
        let count = self.lists.len() as u32 - first;
        self.nodes[node as usize] = Node::AnyOf(first, count);
        if flag == ONE_OF && count > 1 {
            let fits = self.apart.push(Apart { first, count, offset: branches.offset() });
            self.room(fits)?;
        }
        Ok(())
    }
}

/// The first of these is where the properties of a schema have their place.
const PLACES: [&str; 3] = ["properties", "additionalProperties", "items"];

/// What it takes to look at one schema of a set.
const FLAT_WORK: u64 = 16;

/// What branches of `oneOf` have to be.
const APART: &str =
    "branches that can be told apart: of different types, or with a required property whose values differ";

type KeyPattern<'j> = (usize, json::Member<'j>);

/// Labels of keys: that it is declared, and that it is one at all.
const DECLARED: u32 = 30;
const ANY_KEY: u32 = 31;

fn empty_list<'r, T: Copy>() -> List<'r, T> {
    // A list without room takes no memory.
    Carver::measuring().list(0).expect("no memory is enough")
}

/// The schemas of the first items, and of those behind them.
fn items_of<'j>(outline: &Outline<'_, 'j>, schema: &Member<'j>) -> (Option<Array<'j>>, Option<Value<'j>>) {
    let get = |keyword| outline.get(schema.value, keyword);
    if let Some(first) = get("prefixItems").and_then(|value| value.as_array()) {
        return (Some(first), get("items"));
    }
    let items = get("items");
    match items.and_then(|items| items.as_array()) {
        Some(first) => (Some(first), get("additionalItems")),
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

fn hash_of(key: impl Iterator<Item = char>) -> u64 {
    key.fold(3, |hash, character| mix(hash, u64::from(u32::from(character))))
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
