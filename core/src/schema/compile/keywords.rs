//! Keyword by keyword: what a set of schemas says together.

use crate::file::json::{self, Kind, Value};
use crate::schema::number::{Bound, Decimal, common_multiple, multiple};
use crate::schema::program::COUNT_MAX;

use super::{ALL, Compiled, Compiler, Keywords, Member, NULL, Text, fail, only_type, type_of};

/// Keywords that say nothing about a value, or are read beside others.
const PASSIVE: [&str; 24] = [
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

impl<'j> Compiler<'_, '_, 'j> {
    /// Reads the keywords of the schemas in `flat`.
    pub(super) fn merge(&mut self) -> Compiled<Keywords<'j>> {
        let unbounded = (0, COUNT_MAX);
        let mut all =
            Keywords { types: ALL, length: unbounded, items: unbounded, properties: unbounded, ..Keywords::default() };
        for index in 0..self.flat.len() {
            let member = self.flat[index];
            for place in 0..self.outline.members(member.value).len() {
                let keyword = self.outline.members(member.value)[place];
                self.keyword(&mut all, &member, keyword)?;
            }
        }
        Ok(all)
    }

    fn is_true(&self, schema: &Member<'j>, keyword: &str) -> bool {
        self.outline.get(schema.value, keyword).and_then(|value| value.as_bool()) == Some(true)
    }

    pub(super) fn keyword(
        &mut self,
        all: &mut Keywords<'j>,
        schema: &Member<'j>,
        keyword: json::Member<'j>,
    ) -> Compiled<()> {
        let (value, offset) = (keyword.value, keyword.offset);
        // No keyword is longer.
        let mut decoded = heapless::String::<32>::new();
        if !keyword.key.chars().all(|character| decoded.push(character).is_ok()) {
            return Ok(());
        }
        let name = decoded.as_str();
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
                all.types &= types | if self.is_true(schema, "nullable") { NULL } else { 0 };
            }
            "minimum" => {
                let exclusive = self.is_true(schema, "exclusiveMinimum");
                all.numbers.raise(Bound { value: number("minimum")?, exclusive });
                all.bound = Some((offset, "minimum"));
            }
            "maximum" => {
                let exclusive = self.is_true(schema, "exclusiveMaximum");
                all.numbers.lower(Bound { value: number("maximum")?, exclusive });
                all.bound = Some((offset, "maximum"));
            }
            // As draft 4 has it, read beside the bound.
            "exclusiveMinimum" | "exclusiveMaximum" if value.as_bool().is_some() => {}
            "exclusiveMinimum" => {
                all.numbers.raise(Bound { value: number("exclusiveMinimum")?, exclusive: true });
                all.bound = Some((offset, "exclusiveMinimum"));
            }
            "exclusiveMaximum" => {
                all.numbers.lower(Bound { value: number("exclusiveMaximum")?, exclusive: true });
                all.bound = Some((offset, "exclusiveMaximum"));
            }
            "multipleOf" => {
                let both = multiple(number("multipleOf")?).and_then(|new| match all.numbers.multiple {
                    Some(old) => common_multiple(old, new),
                    None => Some(new),
                });
                match both {
                    Some(both) => {
                        all.numbers.multiple = Some(both);
                        all.multiple = Some(offset);
                    }
                    None => self.warn(offset, "multipleOf", "a positive number of few digits, at most 5000")?,
                }
            }
            "minLength" => {
                all.length.0 = all.length.0.max(count("minLength")?);
                all.in_lengths = Some((offset, "minLength"));
            }
            "maxLength" => {
                all.length.1 = all.length.1.min(count("maxLength")?);
                all.in_lengths = Some((offset, "maxLength"));
            }
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
                let fits = all.patterns.push(((value.offset(), "pattern"), Text::Given(text))).is_ok();
                self.room(fits)?;
            }
            "format" => {
                let Some(name) = value.as_str() else { return fail(offset, "format", "a string") };
                // These say something about numbers, or nothing.
                const NUMBERS: [&str; 5] = ["int32", "int64", "float", "double", "password"];
                match crate::schema::format::pattern(&name) {
                    Some(pattern) => {
                        let fits = all.patterns.push(((value.offset(), "format"), Text::Own(pattern))).is_ok();
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
            "$id" => {
                if self.names_references(schema.value) {
                    self.warn(offset, "$id", "a name at the root, or of a schema without references")?;
                }
            }
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
}
