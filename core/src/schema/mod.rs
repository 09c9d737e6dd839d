//! Answers and arguments that meet a JSON schema.
//!
//! A [`Schema`] is compiled from its text into memory that the caller lends. A [`SchemaMask`] follows one text, and says
//! before each token which ones keep the text on its way to a value that meets the schema, with a [`TokenIndex`] of the
//! vocabulary. Every text that it lets end is such a value, and there is always a way to an end.
//!
//! Properties come in the order of the text of the schema, others after them. What of JSON Schema is enforced is in
//! `docs/structured.md`; what cannot be is refused, or ignored if the caller asks for that.

mod characters;
mod compile;
mod dfa;
mod format;
mod index;
mod machine;
mod mask;
mod number;
mod program;
mod regex;
mod self_loop;
mod sorted;
mod table;
mod tokens;

use core::fmt;
use core::mem::MaybeUninit;

pub use index::TokenIndex;
pub use mask::SchemaMask;

use crate::error::Result;
use crate::file::json::{self, Kind};
use crate::region::{Carver, Layout};
use compile::Compiler;
use program::Program;

/// What happens to keywords that cannot be enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unsupported {
    /// The schema is refused.
    #[default]
    Refuse,
    /// They are ignored, and [`Schema::warnings`] tells which.
    Ignore,
}

/// What of a schema cannot be enforced, or is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaError {
    /// Byte offset in the schema. [`JsonPath`] tells the path.
    pub offset: usize,
    /// The keyword; `schema` for the schema as a whole, `json` if it is not JSON.
    pub keyword: &'static str,
    /// What should be there.
    pub expected: &'static str,
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, keyword, expected } = self;
        write!(f, "schema, byte {offset}: {keyword}: expected {expected}")
    }
}

/// A compiled schema. It does not change, and is shared freely between threads.
#[derive(Clone, Copy)]
pub struct Schema<'r> {
    program: Program<'r>,
    warnings: &'r [SchemaError],
}

impl<'r> Schema<'r> {
    /// The memory that the schema takes.
    ///
    /// # Errors
    /// [`crate::error::Error::Schema`] if the text is not JSON.
    pub fn layout(text: &str) -> Result<Layout> {
        Ok(Self::layouts(text)?[0])
    }

    /// The memory that [`Schema::new`] takes for its own time. Most of it is never touched.
    ///
    /// # Errors
    /// [`crate::error::Error::Schema`] if the text is not JSON.
    pub fn scratch_layout(text: &str) -> Result<Layout> {
        Ok(Self::layouts(text)?[1])
    }

    fn layouts(text: &str) -> Result<[Layout; 2]> {
        let [mut kept, mut scratch] = [Carver::measuring(), Carver::measuring()];
        Compiler::carve(&mut kept, &mut scratch, parse(text)?, Unsupported::Refuse)?;
        Ok([kept.layout(), scratch.layout()])
    }

    /// Compiles a schema. `scratch` is free again afterwards, such as for its mask.
    ///
    /// # Errors
    /// [`crate::error::Error::Schema`] if the text is not JSON, no schema, takes too much memory, or demands what cannot be
    /// enforced; [`crate::error::Error::RegionTooSmall`], [`crate::error::Error::RegionAlign`] of either memory.
    pub fn new(
        region: &'r mut [MaybeUninit<u8>],
        scratch: &mut [MaybeUninit<u8>],
        text: &str,
        unsupported: Unsupported,
    ) -> Result<Self> {
        let (mut kept, mut scratch) = (Carver::placing(region)?, Carver::placing(scratch)?);
        let compiler = Compiler::carve(&mut kept, &mut scratch, parse(text)?, unsupported)?;
        let (program, warnings) = compiler.compile()?;
        Ok(Self { program, warnings })
    }

    /// What was ignored, if that was asked for.
    pub fn warnings(&self) -> &'r [SchemaError] {
        self.warnings
    }
}

/// Most bytes of a schema: where branches have to be compared one by one, the time grows with the square.
const SIZE_MAX: usize = 256 << 10;

fn parse(text: &str) -> core::result::Result<json::Value<'_>, SchemaError> {
    if text.len() > SIZE_MAX {
        return Err(SchemaError { offset: SIZE_MAX, keyword: "schema", expected: "at most 262144 bytes" });
    }
    json::parse(text.as_bytes()).map_err(|error| SchemaError {
        offset: error.offset,
        keyword: "json",
        expected: error.expected,
    })
}

/// Prints the path of the value at an offset of a JSON text, as RFC 6901 has it, with `#` before it.
#[derive(Clone, Copy, Debug)]
pub struct JsonPath<'j> {
    /// The text.
    pub text: &'j str,
    /// Bytes.
    pub offset: usize,
}

impl fmt::Display for JsonPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("#")?;
        let Ok(mut value) = json::parse(self.text.as_bytes()) else { return Ok(()) };
        let holds = |value: &json::Value<'_>| value.offset() + value.raw().len() > self.offset;
        loop {
            match value.kind() {
                Kind::Object(object) if value.offset() < self.offset => {
                    let Some(member) = object.iter().find(|member| holds(&member.value)) else { return Ok(()) };
                    if member.offset > self.offset {
                        return Ok(());
                    }
                    f.write_str("/")?;
                    for character in member.key.chars() {
                        match character {
                            '~' => f.write_str("~0")?,
                            '/' => f.write_str("~1")?,
                            other => write!(f, "{other}")?,
                        }
                    }
                    value = member.value;
                }
                Kind::Array(array) if value.offset() < self.offset => {
                    let Some((index, element)) = array.iter().enumerate().find(|(_, element)| holds(element)) else {
                        return Ok(());
                    };
                    write!(f, "/{index}")?;
                    value = element;
                }
                _ => return Ok(()),
            }
        }
    }
}
