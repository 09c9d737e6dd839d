//! `ossicle harmony`: conversations to tokens and back, as JSON.

use std::io::{self, BufRead, Write};

use clap::{Args, Subcommand};

use ossicle_core::harmony::render::Form;
use ossicle_core::harmony::{SpecialTokens, Vocabulary};
use ossicle_host::harmony::{parse_request, render_request, text};
use ossicle_host::vocabulary::o200k_harmony;
use serde_json::{Value, json};

/// Arguments of `ossicle harmony`.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    direction: Direction,
}

#[derive(Subcommand)]
enum Direction {
    /// Conversations to tokens: {"conversation", "auto_drop_analysis", "next_role"} gives {"ids", "text"} or {"error"}.
    Render {
        /// Equals OpenAI's library in everything, its slips included.
        #[arg(long)]
        compat: bool,
        /// Each line is a request of its own.
        #[arg(long)]
        jsonl: bool,
    },
    /// Tokens to messages: {"ids", "role"} gives {"messages", "diagnostics"}.
    Parse {
        /// Each line is a request of its own.
        #[arg(long)]
        jsonl: bool,
    },
}

/// Runs `ossicle harmony`, from standard input to standard output, with the vocabulary of gpt-oss.
///
/// # Errors
/// If reading or writing fails.
pub fn run(arguments: &Arguments) -> io::Result<()> {
    let (input, output) = (io::stdin().lock(), io::BufWriter::new(io::stdout().lock()));
    let (vocabulary, special) = (o200k_harmony(), SpecialTokens::O200K_HARMONY);
    match arguments.direction {
        Direction::Render { compat, jsonl } => {
            let form = if compat { Form::Library } else { Form::Trained };
            render(input, output, jsonl, form, &vocabulary, special)
        }
        Direction::Parse { jsonl } => parse(input, output, jsonl, &vocabulary, special),
    }
}

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
    let mut answer_text = |text: &[u8]| {
        let request = serde_json::from_slice(text).map_err(|error| format!("not JSON: {error}"));
        let answer = request.and_then(|request: Value| answer(&request));
        writeln!(output, "{}", answer.unwrap_or_else(|error| json!({ "error": error })))
    };
    if lines {
        for line in input.split(b'\n') {
            answer_text(&line?)?;
        }
    } else {
        let mut text = Vec::new();
        input.read_to_end(&mut text)?;
        answer_text(&text)?;
    }
    output.flush()
}
