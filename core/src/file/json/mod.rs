//! JSON as RFC 8259 has it, read in place.
//!
//! [`parse`] proves a whole text well-formed, in one pass and without recursion. The [`Value`]s it gives are spans of that
//! text: asking one for its members reads the span again, which cannot fail. So walk a large object once, instead of
//! looking up one key after another.
//!
//! Stricter than the RFC in one point: a `\u` escape of half a surrogate pair is refused, since it stands for no text.

mod scanner;

use core::fmt;
use core::str::Chars;

use crate::error::FileError;
use scanner::Scanner;

/// How deep arrays and objects may be nested.
pub const MAX_DEPTH: u32 = u128::BITS;

/// Where a text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// Byte offset in the text.
    pub offset: usize,
    /// What should be there.
    pub expected: &'static str,
    /// The byte that is there instead; `None` at the end of the text.
    pub found: Option<u8>,
}

impl Error {
    /// The same, for a text that begins `start` bytes into the file that errors call `file`.
    pub fn in_file(self, file: u16, start: u64) -> FileError {
        FileError {
            file,
            offset: start.saturating_add(self.offset as u64),
            expected: self.expected,
            found: self.found.unwrap_or(0).into(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: expected {}, found ", self.offset, self.expected)?;
        match self.found {
            Some(byte) => write!(f, "'{}'", byte.escape_ascii()),
            None => f.write_str("the end"),
        }
    }
}

impl core::error::Error for Error {}

/// The one value that `text` consists of, besides white space.
///
/// # Errors
/// If the text is not UTF-8, not JSON, or nested deeper than [`MAX_DEPTH`].
pub fn parse(text: &[u8]) -> Result<Value<'_>, Error> {
    let text = core::str::from_utf8(text).map_err(|error| {
        let offset = error.valid_up_to();
        Error { offset, expected: "UTF-8", found: text.get(offset).copied() }
    })?;
    let mut scanner = Scanner::new(text);
    let value = scanner.value()?;
    scanner.skip_space();
    match scanner.peek() {
        None => Ok(value),
        Some(_) => Err(scanner.refuse("the end of the text")),
    }
}

/// One value: a span of a text that [`parse`] has found to be well-formed.
#[derive(Clone, Copy, Debug)]
pub struct Value<'j> {
    raw: &'j str,
    offset: usize,
}

/// What a [`Value`] is.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'j> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number<'j>),
    /// A string.
    String(Str<'j>),
    /// Values in a row.
    Array(Array<'j>),
    /// Keys with values.
    Object(Object<'j>),
}

impl<'j> Value<'j> {
    /// The value as it stands in the text.
    pub fn raw(&self) -> &'j str {
        self.raw
    }

    /// Where it stands in the text, in bytes.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// What it is.
    pub fn kind(&self) -> Kind<'j> {
        // The scanner has checked the rest of the value; its first byte tells the kind.
        match self.raw.as_bytes().first() {
            Some(b'{') => Kind::Object(Object { members: self.inside() }),
            Some(b'[') => Kind::Array(Array { elements: self.inside() }),
            Some(b'"') => Kind::String(Str { raw: self.inside().text }),
            Some(b't') => Kind::Bool(true),
            Some(b'f') => Kind::Bool(false),
            Some(b'n') | None => Kind::Null,
            Some(_) => Kind::Number(Number { raw: self.raw }),
        }
    }

    /// What stands between the brackets or quotes.
    fn inside(&self) -> Inside<'j> {
        let text = self.raw.get(1..self.raw.len().saturating_sub(1)).unwrap_or("");
        Inside { text, offset: self.offset + 1 }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self.kind() {
            Kind::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// A number that [`Number::as_u64`] gives.
    pub fn as_u64(&self) -> Option<u64> {
        match self.kind() {
            Kind::Number(value) => value.as_u64(),
            _ => None,
        }
    }

    /// A number that [`Number::as_f64`] gives.
    pub fn as_f64(&self) -> Option<f64> {
        match self.kind() {
            Kind::Number(value) => value.as_f64(),
            _ => None,
        }
    }

    /// A string.
    pub fn as_str(&self) -> Option<Str<'j>> {
        match self.kind() {
            Kind::String(value) => Some(value),
            _ => None,
        }
    }

    /// An array.
    pub fn as_array(&self) -> Option<Array<'j>> {
        match self.kind() {
            Kind::Array(value) => Some(value),
            _ => None,
        }
    }

    /// An object.
    pub fn as_object(&self) -> Option<Object<'j>> {
        match self.kind() {
            Kind::Object(value) => Some(value),
            _ => None,
        }
    }
}

/// A number, as it is written.
#[derive(Clone, Copy, Debug)]
pub struct Number<'j> {
    raw: &'j str,
}

impl<'j> Number<'j> {
    /// As it stands in the text.
    pub fn raw(&self) -> &'j str {
        self.raw
    }

    /// A number written without sign, fraction and exponent that fits.
    pub fn as_u64(&self) -> Option<u64> {
        self.raw.parse().ok()
    }

    /// A number written without fraction and exponent that fits.
    pub fn as_i64(&self) -> Option<i64> {
        self.raw.parse().ok()
    }

    /// The nearest f64; `None` if that is infinite.
    pub fn as_f64(&self) -> Option<f64> {
        self.raw.parse().ok().filter(|value: &f64| value.is_finite())
    }
}

/// A string, as it is written between its quotes. Equal to a `str` if it stands for the same text.
#[derive(Clone, Copy, Debug)]
pub struct Str<'j> {
    raw: &'j str,
}

impl<'j> Str<'j> {
    /// As it stands in the text, escapes and all.
    pub fn raw(&self) -> &'j str {
        self.raw
    }

    /// The string itself, if it is written without escapes.
    pub fn plain(&self) -> Option<&'j str> {
        (!self.raw.as_bytes().contains(&b'\\')).then_some(self.raw)
    }

    /// The characters that it stands for.
    pub fn chars(&self) -> StrChars<'j> {
        StrChars { raw: self.raw.chars() }
    }
}

impl PartialEq<str> for Str<'_> {
    fn eq(&self, other: &str) -> bool {
        match self.plain() {
            Some(plain) => plain == other,
            None => self.chars().eq(other.chars()),
        }
    }
}

impl PartialEq<&str> for Str<'_> {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

/// The characters that a [`Str`] stands for.
#[derive(Clone, Debug)]
pub struct StrChars<'j> {
    raw: Chars<'j>,
}

impl StrChars<'_> {
    /// The next four characters, as one hexadecimal number.
    fn hex4(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |number, _| Some(number << 4 | self.raw.next()?.to_digit(16)?))
    }
}

impl Iterator for StrChars<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let first = self.raw.next()?;
        if first != '\\' {
            return Some(first);
        }
        Some(match self.raw.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => match self.hex4()? {
                high @ 0xd800..0xdc00 => {
                    // `\u` of the other half.
                    self.raw.nth(1)?;
                    let low = self.hex4()?;
                    char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low & 0x3ff))?
                }
                code => char::from_u32(code)?,
            },
            itself => itself,
        })
    }
}

/// Text between brackets or quotes, and where it stands.
#[derive(Clone, Copy, Debug)]
struct Inside<'j> {
    text: &'j str,
    offset: usize,
}

/// Reads the elements or members of an [`Inside`], which is well-formed.
#[derive(Clone, Debug)]
struct Items<'j> {
    scanner: Scanner<'j>,
    /// Of the scanner's text.
    offset: usize,
}

impl<'j> Items<'j> {
    fn new(inside: Inside<'j>) -> Self {
        Self { scanner: Scanner::new(inside.text), offset: inside.offset }
    }

    /// The next value, after whatever separates it from the one before.
    fn next(&mut self) -> Option<Value<'j>> {
        self.scanner.skip_space();
        let _separated = self.scanner.eat(b',') || self.scanner.eat(b':');
        let value = self.scanner.value().ok()?;
        Some(Value { raw: value.raw, offset: value.offset + self.offset })
    }
}

/// Values in a row.
#[derive(Clone, Copy, Debug)]
pub struct Array<'j> {
    elements: Inside<'j>,
}

impl<'j> Array<'j> {
    /// The elements, in order.
    pub fn iter(&self) -> Elements<'j> {
        Elements { items: Items::new(self.elements) }
    }
}

/// The elements of an [`Array`].
#[derive(Clone, Debug)]
pub struct Elements<'j> {
    items: Items<'j>,
}

impl<'j> Iterator for Elements<'j> {
    type Item = Value<'j>;

    fn next(&mut self) -> Option<Value<'j>> {
        self.items.next()
    }
}

/// Keys with values.
#[derive(Clone, Copy, Debug)]
pub struct Object<'j> {
    members: Inside<'j>,
}

impl<'j> Object<'j> {
    /// The members in the order of the text. A key that comes twice is given twice.
    pub fn iter(&self) -> Members<'j> {
        Members { items: Items::new(self.members) }
    }

    /// The value of the first member with this key. Reads up to that member.
    pub fn get(&self, key: &str) -> Option<Value<'j>> {
        self.iter().find(|member| member.key == key).map(|member| member.value)
    }
}

/// The members of an [`Object`].
#[derive(Clone, Debug)]
pub struct Members<'j> {
    items: Items<'j>,
}

impl<'j> Iterator for Members<'j> {
    type Item = Member<'j>;

    fn next(&mut self) -> Option<Member<'j>> {
        let key = self.items.next()?;
        Some(Member { key: key.as_str()?, offset: key.offset, value: self.items.next()? })
    }
}

/// A key and its value.
#[derive(Clone, Copy, Debug)]
pub struct Member<'j> {
    /// The key.
    pub key: Str<'j>,
    /// Where the opening quote of the key stands in the text, in bytes.
    pub offset: usize,
    /// The value.
    pub value: Value<'j>,
}
