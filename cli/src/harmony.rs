//! `ossicle harmony`: conversations to tokens and back, as JSON.

use std::io::{self, BufRead, Write};

use ossicle_core::harmony::render::Form;
use ossicle_core::harmony::{SpecialTokens, Vocabulary};
use ossicle_host::harmony::{parse_request, render_request, text};
use serde_json::{Value, json};

/// Reads `{"conversation": ..., "auto_drop_analysis": ..., "next_role": ...}` and writes `{"ids": [...], "text": ...}` or
/// `{"error": ...}`. With `lines`, every line is a request of its own; without, the whole input is one.
///
/// # Errors
/// If reading or writing fails. A request that cannot be answered is no error.
pub fn render(
    input: impl BufRead,
    output: impl Write,
    lines: bool,
    form: Form,
    vocabulary: &impl Vocabulary,
    special: SpecialTokens,
) -> io::Result<()> {
    answer(input, output, lines, |request| {
        let ids = render_request(request, form, vocabulary, special)?;
        let text = text(&ids, vocabulary, special);
        Ok(json!({"ids": ids, "text": text}))
    })
}

/// Reads `{"ids": [...], "role": ...}` and writes `{"messages": [...], "diagnostics": [...]}`, or `{"error": ...}` if the input
/// is of another form. With `lines`, every line is a request of its own; without, the whole input is one.
///
/// # Errors
/// If reading or writing fails.
pub fn parse(
    input: impl BufRead,
    output: impl Write,
    lines: bool,
    vocabulary: &impl Vocabulary,
    special: SpecialTokens,
) -> io::Result<()> {
    answer(input, output, lines, |request| parse_request(request, vocabulary, special))
}

fn answer(
    mut input: impl BufRead,
    mut output: impl Write,
    lines: bool,
    answer: impl Fn(&Value) -> Result<Value, String>,
) -> io::Result<()> {
    let mut answer_text = |text: &str| {
        let request = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"));
        let answer = request.and_then(|request: Value| answer(&request));
        writeln!(output, "{}", answer.unwrap_or_else(|error| json!({ "error": error })))
    };
    if lines {
        for line in input.lines() {
            answer_text(&line?)?;
        }
        return Ok(());
    }
    let mut text = String::new();
    input.read_to_string(&mut text)?;
    answer_text(&text)
}
