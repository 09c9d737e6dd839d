//! `ossicle tokenize`: text to token ids and back.

use std::io::{self, BufRead, Write};

use ossicle_core::tokenizer::{Specials, Tokenizer};
use serde_json::{Value, json};

/// What `ossicle tokenize` is asked to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Task {
    /// Ids to text, instead of text to ids.
    pub decode: bool,
    /// Every input line is a request in JSON, answered by one line; instead of all input being one text, or ids in decimal.
    pub lines: bool,
}

/// Runs `ossicle tokenize`.
///
/// Requests are `{"text": ...}` or `{"bytes_hex": ...}`, with the special tokens to recognize as `"allowed": "all"` or a list
/// of names (none if it is left out), and answered by `{"ids": [...]}`; when decoding, `{"ids": [...]}` by
/// `{"bytes_hex": ..., "text": ...}`. What cannot be answered gives `{"error": ...}`.
///
/// # Errors
/// If reading or writing fails, or if ids that are not in JSON are no numbers.
pub fn run(tokenizer: &Tokenizer<'_>, task: Task, mut input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    if task.lines {
        for line in input.lines() {
            let line = line?;
            let request = serde_json::from_str(&line).map_err(|error| format!("not JSON: {error}"));
            let answer = request.and_then(|request: Value| match task.decode {
                true => decode_request(tokenizer, &request),
                false => encode_request(tokenizer, &request),
            });
            writeln!(output, "{}", answer.unwrap_or_else(|error| json!({ "error": error })))?;
        }
        return Ok(());
    }
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    if task.decode {
        let text = String::from_utf8_lossy(&bytes);
        let ids: Result<Vec<u32>, _> = text.split_ascii_whitespace().map(str::parse).collect();
        let ids = ids.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("a token id: {error}")))?;
        return output.write_all(&decode(tokenizer, &ids));
    }
    let ids: Vec<String> = encode(tokenizer, &bytes, Specials::None).iter().map(u32::to_string).collect();
    writeln!(output, "{}", ids.join(" "))
}

fn encode(tokenizer: &Tokenizer<'_>, text: &[u8], specials: Specials<'_>) -> Vec<u32> {
    let mut ids = Vec::new();
    tokenizer.encode(text, specials, |id| ids.push(id));
    ids
}

fn decode(tokenizer: &Tokenizer<'_>, ids: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokenizer.decode(ids, |token| bytes.extend_from_slice(token));
    bytes
}

fn encode_request(tokenizer: &Tokenizer<'_>, request: &Value) -> Result<Value, String> {
    let text = match (request.get("text"), request.get("bytes_hex")) {
        (Some(Value::String(text)), None) => text.clone().into_bytes(),
        (None, Some(Value::String(hex))) => from_hex(hex).ok_or("bytes_hex: expected pairs of hexadecimal digits")?,
        _ => return Err("expected either a text or bytes_hex".into()),
    };
    let mut allowed = Vec::new();
    let specials = match request.get("allowed") {
        None | Some(Value::Null) => Specials::None,
        Some(Value::String(all)) if all == "all" => Specials::All,
        Some(Value::Array(names)) => {
            for name in names {
                let id = name.as_str().and_then(|name| tokenizer.special(name));
                allowed.push(id.ok_or_else(|| format!("allowed: {name} is no special token"))?);
            }
            Specials::Only(&allowed)
        }
        Some(_) => return Err("allowed: expected \"all\" or a list of names".into()),
    };
    Ok(json!({ "ids": encode(tokenizer, &text, specials) }))
}

fn decode_request(tokenizer: &Tokenizer<'_>, request: &Value) -> Result<Value, String> {
    let ids = request.get("ids").and_then(Value::as_array).ok_or("expected ids")?;
    let mut tokens = Vec::new();
    for id in ids {
        let token = id.as_u64().and_then(|id| u32::try_from(id).ok());
        let token = token.filter(|token| tokenizer.token_bytes(*token).is_some());
        tokens.push(token.ok_or_else(|| format!("ids: {id} is no token"))?);
    }
    let bytes = decode(tokenizer, &tokens);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(json!({ "bytes_hex": hex, "text": String::from_utf8_lossy(&bytes) }))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    rest.is_empty().then_some(())?;
    pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}
