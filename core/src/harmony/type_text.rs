//! A JSON schema as the type notation that the model was trained on, close to TypeScript.
//!
//! The layout is the official library's, comments and odd indents included, because the model has learned it. The library
//! writes `any` for what it does not know; [`Form::Trained`] says more there: `$ref`, `anyOf`, `allOf` of one, `const`,
//! `enum` without a type, and `null`. As in the library, unions have no parentheses around them.

use core::fmt::Write;

use super::render::Form;
use super::text::Text;
use crate::file::json::{Kind, Number, Object, Str, Value};

/// Types nested deeper than this are written as `any`. The deepest schema takes less than 128 KiB of stack.
pub const MAX_DEPTH: usize = 32;
/// So are references after this many in one schema, because one inside another they multiply.
pub const MAX_REFERENCES: usize = 256;
/// And those nested deeper than this, or to a type that they stand in.
pub const MAX_REFERENCE_DEPTH: usize = 16;

/// Appends the type that `schema` describes.
pub(super) fn write(out: &mut Text, schema: Value, form: Form) {
    Writer { out, root: schema, form, references: 0, open: heapless::Vec::new() }.write_type(schema, 0, 0);
}

/// The keywords that are read. Of a keyword that comes twice, the last counts.
#[derive(Default)]
struct Schema<'j> {
    kind: Option<Value<'j>>,
    title: Option<Str<'j>>,
    description: Option<Str<'j>>,
    examples: Option<Value<'j>>,
    default: Option<Value<'j>>,
    nullable: bool,
    one_of: Option<Value<'j>>,
    any_of: Option<Value<'j>>,
    all_of: Option<Value<'j>>,
    reference: Option<Str<'j>>,
    constant: Option<Value<'j>>,
    enumeration: Option<Value<'j>>,
    properties: Option<Object<'j>>,
    required: Option<Value<'j>>,
    items: Option<Value<'j>>,
}

impl<'j> Schema<'j> {
    fn of(value: Value<'j>) -> Self {
        let mut schema = Self::default();
        let Some(object) = value.as_object() else { return schema };
        for member in object.iter() {
            let value = member.value;
            // No keyword is written with escapes, other than on purpose.
            match member.key.plain().unwrap_or("") {
                "type" => schema.kind = Some(value),
                "title" => schema.title = value.as_str(),
                "description" => schema.description = value.as_str(),
                "examples" => schema.examples = Some(value),
                "default" => schema.default = Some(value),
                "nullable" => schema.nullable = value.as_bool() == Some(true),
                "oneOf" => schema.one_of = Some(value),
                "anyOf" => schema.any_of = Some(value),
                "allOf" => schema.all_of = Some(value),
                "$ref" => schema.reference = value.as_str(),
                "const" => schema.constant = Some(value),
                "enum" => schema.enumeration = Some(value),
                "properties" => schema.properties = value.as_object(),
                "required" => schema.required = Some(value),
                "items" => schema.items = Some(value),
                _ => {}
            }
        }
        schema
    }

    fn is_enum(&self) -> bool {
        elements(self.enumeration).next().is_some()
    }

    fn requires(&self, key: Str) -> bool {
        elements(self.required).filter_map(|name| name.as_str()).any(|name| same(name, key))
    }
}

/// How a string is written as a default.
#[derive(Clone, Copy, PartialEq)]
enum EnumDefault {
    /// Without quotes if there is an enum.
    Bare,
    /// As JSON if there is an enum.
    Json,
}

struct Writer<'t, 's, 'j> {
    out: &'t mut Text<'s>,
    root: Value<'j>,
    form: Form,
    /// How many references have been followed.
    references: usize,
    /// Where those stand that are being written now.
    open: heapless::Vec<usize, MAX_REFERENCE_DEPTH>,
}

impl<'j> Writer<'_, '_, 'j> {
    fn write_type(&mut self, value: Value<'j>, indent: usize, depth: usize) {
        let schema = Schema::of(value);
        if depth == MAX_DEPTH {
            self.out.push("any");
        } else if schema.one_of.is_some_and(|one_of| one_of.as_array().is_some()) {
            for variant in elements(schema.one_of) {
                self.out.push("\n");
                self.variant(variant, None, true, EnumDefault::Json, indent, depth);
            }
        } else if elements(schema.kind).any(|name| name.as_str().is_some()) {
            let names = elements(schema.kind).filter_map(|name| name.as_str());
            self.join(
                names,
                |writer, name| {
                    if name == "integer" { writer.out.push("number") } else { writer.text(name) }
                },
            );
        } else if let Some(name) = schema.kind.and_then(|kind| kind.as_str()) {
            match name.plain().unwrap_or("") {
                "object" => self.object(&schema, indent, depth),
                "string" => {
                    let members = elements(schema.enumeration).filter_map(|member| member.as_str());
                    if members.clone().next().is_none() {
                        return self.out.push("string");
                    }
                    self.join(members, |writer, member| writer.quoted(member));
                }
                "number" | "integer" => self.out.push("number"),
                "boolean" => self.out.push("boolean"),
                "array" => match schema.items {
                    None => self.out.push("Array<any>"),
                    Some(items) => {
                        self.write_type(items, indent, depth + 1);
                        self.out.push("[]");
                    }
                },
                "null" if self.form == Form::Trained => self.out.push("null"),
                _ => self.out.push("any"),
            }
        } else if self.form == Form::Trained {
            self.untyped(&schema, indent, depth);
        } else {
            self.out.push("any");
        }
    }

    /// What the library writes as `any`.
    fn untyped(&mut self, schema: &Schema<'j>, indent: usize, depth: usize) {
        let mut all_of = elements(schema.all_of);
        if let Some(pointer) = schema.reference {
            match self.resolve(pointer) {
                Some(target) => {
                    self.write_type(target, indent, depth + 1);
                    self.open.pop();
                }
                None => self.out.push("any"),
            }
        } else if elements(schema.any_of).next().is_some() {
            self.join(elements(schema.any_of), |writer, variant| {
                let nulls = writer.out.nulls();
                writer.write_type(variant, indent, depth + 1);
                writer.nullable(&Schema::of(variant), nulls);
            });
        } else if let (Some(only), None) = (all_of.next(), all_of.next()) {
            self.write_type(only, indent, depth + 1);
        } else if let Some(constant) = schema.constant {
            self.json(constant);
        } else if schema.is_enum() {
            self.join(elements(schema.enumeration), |writer, member| writer.json(member));
        } else {
            self.out.push("any");
        }
    }

    /// What a reference within the schema points to; it is open then.
    fn resolve(&mut self, pointer: Str<'j>) -> Option<Value<'j>> {
        self.references += 1;
        if self.references > MAX_REFERENCES {
            return None;
        }
        let mut value = self.root;
        // RFC 6901, in the fragment of a URI. Names with percent signs are not looked up.
        let path = pointer.plain()?.strip_prefix('#')?;
        for step in path.split('/').skip(1) {
            value = match value.kind() {
                Kind::Object(object) => {
                    let unescaped = Unescaped { rest: step.chars() };
                    object.iter().find(|member| member.key.chars().eq(unescaped.clone()))?.value
                }
                Kind::Array(array) => array.iter().nth(step.parse().ok()?)?,
                _ => return None,
            };
        }
        let is_around = value.offset() == self.root.offset() || self.open.contains(&value.offset());
        (!is_around && self.open.push(value.offset()).is_ok()).then_some(value)
    }

    fn object(&mut self, schema: &Schema<'j>, indent: usize, depth: usize) {
        if let Some(description) = schema.description {
            self.comment(description, indent);
        }
        self.out.push("{\n");
        for member in schema.properties.iter().flat_map(Object::iter) {
            self.property(member.key, member.value, schema.requires(member.key), indent, depth);
        }
        self.indent(indent);
        self.out.push("}");
    }

    fn property(&mut self, key: Str<'j>, value: Value<'j>, is_required: bool, indent: usize, depth: usize) {
        let schema = Schema::of(value);
        if let Some(title) = schema.title {
            self.comment(title, indent);
            self.indent(indent);
            self.out.push("//\n");
        }
        if let (Some(description), None) = (schema.description, schema.one_of) {
            self.comment(description, indent);
        }
        if elements(schema.examples).next().is_some() {
            self.indent(indent);
            self.out.push("// Examples:\n");
            for example in elements(schema.examples).filter_map(|example| example.as_str()) {
                self.indent(indent);
                self.out.push("// - ");
                self.quoted(example);
                self.out.push("\n");
            }
        }
        let optional = if is_required { "" } else { "?" };
        if schema.one_of.is_some_and(|one_of| one_of.as_array().is_some()) {
            return self.union(key, optional, &schema, indent, depth);
        }
        self.indent(indent);
        self.text(key);
        self.out.push(optional);
        self.out.push(": ");
        let nulls = self.out.nulls();
        self.write_type(value, indent + 4, depth + 1);
        self.nullable(&schema, nulls);
        self.out.push(",");
        if schema.one_of.is_none() && schema.default.is_some() {
            self.out.push(" // ");
            self.default(&schema, EnumDefault::Bare);
        }
        self.out.push("\n");
    }

    /// A property that is `oneOf` several: each on a line of its own.
    fn union(&mut self, key: Str<'j>, optional: &str, schema: &Schema<'j>, indent: usize, depth: usize) {
        let first = elements(schema.one_of).next().and_then(|first| Schema::of(first).description);
        let above = schema.description.filter(|&text| !first.is_some_and(|first| same(first, text)));
        if let Some(description) = above {
            self.comment(description, indent);
        }
        if schema.default.is_some() {
            self.indent(indent);
            self.out.push("// ");
            self.default(schema, EnumDefault::Bare);
            self.out.push("\n");
        }
        self.indent(indent);
        self.text(key);
        self.out.push(optional);
        self.out.push(":\n");
        for (place, variant) in elements(schema.one_of).enumerate() {
            let described = place > 0 || above.is_none();
            self.variant(variant, schema.description, described, EnumDefault::Bare, indent, depth);
            self.out.push("\n");
        }
        self.indent(indent);
        self.out.push(",\n");
    }

    /// One of several types, with what is said about it behind. Its description is left out if it is `said` already, or
    /// not to be `described`.
    fn variant(
        &mut self,
        value: Value<'j>,
        said: Option<Str<'j>>,
        described: bool,
        enum_default: EnumDefault,
        indent: usize,
        depth: usize,
    ) {
        let schema = Schema::of(value);
        self.indent(indent);
        self.out.push(" | ");
        let nulls = self.out.nulls();
        self.write_type(value, indent + 3, depth + 1);
        self.nullable(&schema, nulls);
        let description = schema.description.filter(|&text| described && !said.is_some_and(|said| same(said, text)));
        if let Some(description) = description {
            self.out.push(" // ");
            self.text(description);
        }
        if schema.default.is_some() {
            self.out.push(if description.is_some() { " " } else { " // " });
            self.default(&schema, enum_default);
        }
    }

    /// Appends `| null` if the schema says so and the type does not: `nulls` were in the text before it.
    fn nullable(&mut self, schema: &Schema<'j>, nulls: usize) {
        if schema.nullable && self.out.nulls() == nulls {
            self.out.push(" | null");
        }
    }

    fn default(&mut self, schema: &Schema<'j>, enum_default: EnumDefault) {
        self.out.push("default: ");
        let Some(default) = schema.default else { return };
        match (default.as_str(), schema.is_enum()) {
            (Some(text), false) => self.quoted(text),
            (Some(text), true) if enum_default == EnumDefault::Bare => self.text(text),
            _ => self.json(default),
        }
    }

    fn comment(&mut self, text: Str<'j>, indent: usize) {
        self.indent(indent);
        self.out.push("// ");
        self.text(text);
        self.out.push("\n");
    }

    fn indent(&mut self, indent: usize) {
        for _ in 0..indent {
            self.out.push(" ");
        }
    }

    fn text(&mut self, text: Str<'j>) {
        match text.plain() {
            Some(plain) => self.out.push(plain),
            None => text.chars().for_each(|character| self.out.push(character.encode_utf8(&mut [0; 4]))),
        }
    }

    /// In quotes, but without escapes.
    fn quoted(&mut self, text: Str<'j>) {
        self.out.push("\"");
        self.text(text);
        self.out.push("\"");
    }

    fn json(&mut self, value: Value<'j>) {
        write_json(self.out, value);
    }

    fn join<T>(&mut self, items: impl Iterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        for (place, item) in items.enumerate() {
            self.out.push(if place > 0 { " | " } else { "" });
            write(self, item);
        }
    }
}

/// A step of a JSON pointer: `~1` stands for `/`, `~0` for `~`.
#[derive(Clone)]
struct Unescaped<'j> {
    rest: core::str::Chars<'j>,
}

impl Iterator for Unescaped<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        match self.rest.next()? {
            '~' => match self.rest.next()? {
                '1' => Some('/'),
                _ => Some('~'),
            },
            character => Some(character),
        }
    }
}

/// The elements, if it is an array.
fn elements<'j>(value: Option<Value<'j>>) -> impl Iterator<Item = Value<'j>> + Clone {
    value.and_then(|value| value.as_array()).into_iter().flat_map(|array| array.iter())
}

fn same(one: Str, other: Str) -> bool {
    one.chars().eq(other.chars())
}

/// Appends the value as JSON without white space, numbers and escapes written as serde_json writes them.
pub(super) fn write_json(out: &mut Text, value: Value) {
    match value.kind() {
        Kind::Null | Kind::Bool(_) => out.push(value.raw()),
        Kind::Number(number) => write_number(out, number),
        Kind::String(text) => write_string(out, text),
        Kind::Array(array) => {
            out.push("[");
            for (place, element) in array.iter().enumerate() {
                out.push(if place > 0 { "," } else { "" });
                write_json(out, element);
            }
            out.push("]");
        }
        Kind::Object(object) => {
            out.push("{");
            for (place, member) in object.iter().enumerate() {
                out.push(if place > 0 { "," } else { "" });
                write_string(out, member.key);
                out.push(":");
                write_json(out, member.value);
            }
            out.push("}");
        }
    }
}

/// 64-bit integers as they are, all else as the shortest text of the nearest f64.
fn write_number(out: &mut Text, number: Number) {
    let is_integer = number.as_u64().is_some() || number.as_i64().is_some_and(|value| value != 0);
    let result = match number.as_f64() {
        // The standard library switches to exponents below 1e-4, serde_json below 1e-5.
        Some(value) if !is_integer && (1e-5..1e-4).contains(&value.abs()) => write!(out, "{value}"),
        Some(value) if !is_integer => write!(out, "{value:?}"),
        _ => out.write_str(number.raw()),
    };
    debug_assert!(result.is_ok(), "text can always be appended");
}

fn write_string(out: &mut Text, text: Str) {
    out.push("\"");
    for character in text.chars() {
        match character {
            '"' => out.push("\\\""),
            '\\' => out.push("\\\\"),
            '\u{8}' => out.push("\\b"),
            '\u{c}' => out.push("\\f"),
            '\n' => out.push("\\n"),
            '\r' => out.push("\\r"),
            '\t' => out.push("\\t"),
            '\0'..'\u{20}' => {
                let result = write!(out, "\\u{:04x}", u32::from(character));
                debug_assert!(result.is_ok(), "text can always be appended");
            }
            _ => out.push(character.encode_utf8(&mut [0; 4])),
        }
    }
    out.push("\"");
}
