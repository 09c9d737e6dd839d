//! `ossicle tokenize`: text to token ids and back.

use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use ossicle_core::tokenizer::vocabulary::{Harmony, RankFile};
use ossicle_core::tokenizer::{Specials, Tokenizer};
use ossicle_host::vocabulary::{TokenizerJson, o200k_harmony};
use serde_json::{Value, json};

use crate::open::{with_files, with_source, with_tokenizer};

/// Arguments of `ossicle tokenize`. Without a file, the vocabulary is that of gpt-oss, o200k_harmony.
#[derive(Args)]
pub struct Arguments {
    /// A model whose vocabulary to use.
    #[arg(long, conflicts_with = "vocab")]
    model: Option<PathBuf>,
    /// A vocabulary: a tokenizer.json, or a file of ranks such as o200k_base.tiktoken.
    #[arg(long)]
    vocab: Option<PathBuf>,
    /// Reads ids and gives text.
    #[arg(long)]
    decode: bool,
    /// Each line is a request: {"text"} or {"bytes_hex"}, and perhaps "allowed" special tokens ("all" or a list of names),
    /// gives {"ids"}; with --decode, {"ids"} gives {"bytes_hex", "text"}.
    #[arg(long)]
    jsonl: bool,
}

/// Runs `ossicle tokenize`, from standard input to standard output.
pub fn run(arguments: &Arguments) -> Result<()> {
    if let Some(path) = &arguments.model {
        return with_files(path, |opened| with_tokenizer(&opened, |tokenizer| answer(arguments, &tokenizer)));
    }
    let Some(path) = &arguments.vocab else { return answer(arguments, &o200k_harmony()) };
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    let answer = |tokenizer: Tokenizer<'_>| answer(arguments, &tokenizer);
    let answered = if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        with_source(&TokenizerJson::parse(&text)?, answer)
    } else {
        with_source(&Harmony(RankFile(&text)), answer)
    };
    answered.with_context(|| path.display().to_string())
}

fn answer(arguments: &Arguments, tokenizer: &Tokenizer<'_>) -> Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::BufWriter::new(io::stdout().lock()));
    if arguments.jsonl {
        for line in input.split(b'\n') {
            let answer = request(arguments.decode, tokenizer, &line?);
            writeln!(output, "{}", answer.unwrap_or_else(|error| json!({ "error": error })))?;
        }
        return Ok(output.flush()?);
    }
    let mut text = Vec::new();
    input.read_to_end(&mut text)?;
    if arguments.decode {
        let text = String::from_utf8_lossy(&text);
        let separated = |c: char| c.is_whitespace() || "[],".contains(c);
        for id in text.split(separated).filter(|id| !id.is_empty()) {
            let id: u32 = id.parse().with_context(|| format!("expected a token id, found {id}"))?;
            output.write_all(tokenizer.token_bytes(id).with_context(|| format!("expected a token, found {id}"))?)?;
        }
    } else {
        let mut ids = Vec::new();
        tokenizer.encode(&text, Specials::None, |id| ids.push(id));
        writeln!(output, "{}", json!(ids))?;
    }
    Ok(output.flush()?)
}

fn request(decode: bool, tokenizer: &Tokenizer<'_>, line: &[u8]) -> Result<Value, String> {
    let request: Value = serde_json::from_slice(line).map_err(|error| format!("not JSON: {error}"))?;
    if decode {
        let mut bytes = Vec::new();
        for id in request.get("ids").and_then(Value::as_array).ok_or("expected \"ids\", a list")? {
            let id = id.as_u64().and_then(|id| id.try_into().ok()).ok_or("expected ids that are numbers")?;
            bytes.extend_from_slice(tokenizer.token_bytes(id).ok_or_else(|| format!("no token has the id {id}"))?);
        }
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        return Ok(json!({ "bytes_hex": hex, "text": String::from_utf8_lossy(&bytes) }));
    }
    let bytes = match (request.get("text"), request.get("bytes_hex")) {
        (Some(Value::String(text)), None) => text.as_bytes().to_vec(),
        (None, Some(Value::String(hex))) => from_hex(hex).ok_or("expected \"bytes_hex\" in hexadecimal")?,
        _ => return Err("expected \"text\" or \"bytes_hex\", a string".into()),
    };
    let names = match request.get("allowed") {
        None => Vec::new(),
        Some(Value::Array(names)) => names.clone(),
        Some(Value::String(all)) if all == "all" => return Ok(ids(tokenizer, &bytes, Specials::All)),
        Some(_) => return Err("expected \"allowed\": \"all\", or a list of names".into()),
    };
    let allowed: Option<Vec<u32>> =
        names.iter().map(|name| name.as_str().and_then(|name| tokenizer.special(name))).collect();
    let allowed = allowed.ok_or("expected names of special tokens in \"allowed\"")?;
    Ok(ids(tokenizer, &bytes, Specials::Only(&allowed)))
}

fn ids(tokenizer: &Tokenizer<'_>, bytes: &[u8], specials: Specials<'_>) -> Value {
    let mut ids = Vec::new();
    tokenizer.encode(bytes, specials, |id| ids.push(id));
    json!({ "ids": ids })
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = hex.chars().map(|digit| Some(digit.to_digit(16)? as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
