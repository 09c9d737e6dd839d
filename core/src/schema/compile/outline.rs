//! The members of the objects of a schema, each read once: to ask JSON text for a key takes as long as all that stands before it.

use core::ops::Range;

use crate::error::Result;
use crate::file::json::{self, Value};
use crate::region::{Carver, List};
use crate::schema::table::{Table, mix};

use super::hash_of;

pub struct Outline<'r, 'j> {
    members: List<'r, json::Member<'j>>,
    /// The objects that have been read.
    objects: List<'r, Outlined>,
    by_offset: Table<'r>,
    /// Members, by the offset of their object and their key.
    by_key: Table<'r>,
}

/// Where an object stands, the first of its members, and how many there are.
#[derive(Clone, Copy)]
struct Outlined {
    offset: usize,
    first: u32,
    count: u32,
    /// The round in which it entered a set last.
    round: u32,
}

impl<'r, 'j> Outline<'r, 'j>
where
    'j: 'r,
{
    /// For a text of so many bytes.
    pub fn carve(carver: &mut Carver<'r>, size: usize) -> Result<Self> {
        // A member takes at least five bytes, and an object with what separates it three.
        Ok(Self {
            members: carver.list(64 + size / 4)?,
            objects: carver.list(64 + size / 3)?,
            by_offset: Table::new(carver.filled(128 + size / 2, 0)?),
            by_key: Table::new(carver.filled(128 + size / 2, 0)?),
        })
    }

    /// Reads an object, if it has not been. False if there is no room.
    pub fn read(&mut self, value: Value<'j>) -> bool {
        let Some(object) = value.as_object() else { return true };
        let offset = value.offset();
        let objects = &*self.objects;
        let new = self.objects.len() as u32;
        let is_it = |object: u32| objects[object as usize].offset == offset;
        let (index, fits) = self.by_offset.get_or_put(mix(0, offset as u64), new, is_it);
        if !fits || index != new {
            return fits;
        }
        let first = self.members.len() as u32;
        for member in object.iter() {
            let new = self.members.len() as u32;
            let members = &*self.members;
            let is_it = |other: u32| other >= first && members[other as usize].key.chars().eq(member.key.chars());
            // Of those with the same key the first counts.
            let (_, fits) = self.by_key.get_or_put(hash(offset, hash_of(member.key.chars())), new, is_it);
            if !fits || !self.members.push(member) {
                return false;
            }
        }
        let count = self.members.len() as u32 - first;
        self.objects.push(Outlined { offset, first, count, round: 0 })
    }

    /// Whether an object that has been read enters a set: once in a round, which are counted from 1.
    pub fn enters(&mut self, value: Value<'j>, round: u32) -> bool {
        let object = self.object(value).and_then(|object| self.objects.get_mut(object as usize));
        object.is_some_and(|object| core::mem::replace(&mut object.round, round) != round)
    }

    fn object(&self, value: Value<'j>) -> Option<u32> {
        let is_it = |object: u32| self.objects[object as usize].offset == value.offset();
        self.by_offset.get(mix(0, value.offset() as u64), is_it)
    }

    /// The members of an object that has been read, in their order.
    pub fn members(&self, value: Value<'j>) -> &[json::Member<'j>] {
        &self.members[self.range(value)]
    }

    fn range(&self, value: Value<'j>) -> Range<usize> {
        self.object(value).map_or(0..0, |object| {
            let Outlined { first, count, .. } = self.objects[object as usize];
            first as usize..(first + count) as usize
        })
    }

    /// The value of a key in an object that has been read.
    pub fn get(&self, value: Value<'j>, key: &str) -> Option<Value<'j>> {
        let range = self.range(value);
        let is_it = |member: u32| range.contains(&(member as usize)) && self.members[member as usize].key == key;
        let member = self.by_key.get(hash(value.offset(), hash_of(key.chars())), is_it)?;
        Some(self.members[member as usize].value)
    }
}

fn hash(offset: usize, key: u64) -> u64 {
    mix(key, offset as u64)
}
