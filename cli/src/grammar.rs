//! Grammars in files.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use ossicle_core::tokenizer::Tokenizer;
use ossicle_host::grammar::{GrammarMask, Grammars, Syntax};

/// The mask of the grammar in a file, whose name says what it is written in.
pub fn read(path: &Path, tokenizer: &Tokenizer<'_>) -> Result<GrammarMask> {
    let syntax = match path.extension().and_then(OsStr::to_str) {
        Some("lark") => Syntax::Lark,
        Some("regex") => Syntax::Regex,
        _ => bail!("{}: expected a file that ends in .lark or .regex", path.display()),
    };
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    // The line feed at the end of a file is no part of an expression, and rules do not need it.
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Grammars::new(tokenizer)?.mask(syntax, text).with_context(|| path.display().to_string())
}
