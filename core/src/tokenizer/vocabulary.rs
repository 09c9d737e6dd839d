//! Where token bytes and ids come from.

use crate::error::{Error, FileError, Result};
use crate::file::gguf::{Array, Value};

/// No token may be longer, in bytes. (The longest of o200k has 128.)
pub const TOKEN_BYTES_MAX: usize = 256;

/// No id may reach this: tables pack three of them into 64 bits, and leave the highest number free.
pub const IDS_MAX: u32 = (1 << 21) - 1;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text is encoded to it.
    Ordinary,
    /// A control token: text is encoded to it only where the caller allows that.
    Special,
    /// An id without a token, such as padding of the embedding matrix.
    Unused,
}

/// One token of a vocabulary.
#[derive(Clone, Copy, Debug)]
pub struct Token<'t> {
    /// Its id. The ids of ordinary tokens are their ranks: the lower, the earlier it is merged.
    pub id: u32,
    /// What it stands for.
    pub bytes: &'t [u8],
    /// What it is for.
    pub kind: Kind,
}

/// A vocabulary, in whatever form. It is walked several times and must tell the same each time.
///
/// Tokens may come in any order. An id may come more than once if it is special: the later names are recognized in text,
/// and decoding gives the first.
pub trait Source {
    /// Visits every token; an error ends the walk.
    ///
    /// # Errors
    /// What `visit` returns, or what is wrong with the vocabulary's form.
    fn walk(&self, visit: &mut dyn FnMut(Token<'_>) -> Result<()>) -> Result<()>;
}

/// A tiktoken rank file: one token a line, its bytes in base64, a space, its rank in decimal. All are ordinary.
#[derive(Clone, Copy, Debug)]
pub struct RankFile<'f>(pub &'f [u8]);

impl Source for RankFile<'_> {
    fn walk(&self, visit: &mut dyn FnMut(Token<'_>) -> Result<()>) -> Result<()> {
        let mut offset = 0;
        for line in self.0.split(|byte| *byte == b'\n') {
            let wrong = |expected| FileError { file: 0, offset: offset as u64, expected, found: 0 };
            if !line.is_empty() {
                let space = line.iter().position(|byte| *byte == b' ').ok_or(wrong("a token and its rank"))?;
                let mut bytes = [0; TOKEN_BYTES_MAX];
                let size = base64(&line[..space], &mut bytes).ok_or(wrong("base64 of at most 256 bytes"))?;
                let id = core::str::from_utf8(&line[space + 1..])
                    .ok()
                    .and_then(|rank| rank.trim_ascii_end().parse().ok())
                    .ok_or(wrong("a rank in decimal"))?;
                visit(Token { id, bytes: &bytes[..size], kind: Kind::Ordinary })?;
            }
            offset += line.len() + 1;
        }
        Ok(())
    }
}

/// Decodes base64 (RFC 4648, section 4) and returns how many bytes came out.
fn base64(text: &[u8], bytes: &mut [u8]) -> Option<usize> {
    let digits = text.trim_ascii_end();
    let digits = digits.strip_suffix(b"==").or(digits.strip_suffix(b"=")).unwrap_or(digits);
    let (mut bits, mut held, mut size) = (0u32, 0, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            *bytes.get_mut(size)? = (bits >> held) as u8;
            size += 1;
        }
    }
    Some(size)
}

/// The tokens of a GGUF file: `tokens` gives a new iterator over the pairs of `tokenizer.ggml.tokens` and
/// `tokenizer.ggml.token_type`, in the order of the ids.
#[derive(Clone, Copy, Debug)]
pub struct Gguf<F>(pub F);

impl<'f, F, I> Source for Gguf<F>
where
    F: Fn() -> I,
    I: Iterator<Item = (&'f [u8], i32)>,
{
    fn walk(&self, visit: &mut dyn FnMut(Token<'_>) -> Result<()>) -> Result<()> {
        for (id, (text, token_type)) in (0..).zip((self.0)()) {
            match token_type {
                NORMAL => {
                    let mut bytes = [0; TOKEN_BYTES_MAX];
                    let size = from_byte_alphabet(text, &mut bytes).ok_or(Error::Vocabulary {
                        id,
                        expected: "at most 256 characters of the byte alphabet",
                        found: text.len() as u64,
                    })?;
                    visit(Token { id, bytes: &bytes[..size], kind: Kind::Ordinary })?;
                }
                // Added tokens are stored as they are.
                CONTROL | USER_DEFINED => visit(Token { id, bytes: text, kind: Kind::Special })?,
                _ => visit(Token { id, bytes: &[], kind: Kind::Unused })?,
            }
        }
        Ok(())
    }
}

/// The vocabulary of a GGUF file, from its arrays of tokens and of their types.
pub fn gguf<'f>(tokens: Array<'f>, types: Array<'f>) -> impl Source {
    Gguf(move || {
        let texts = tokens.iter().map(|token| token.as_bytes().unwrap_or_default());
        let types = types.iter().map(|kind| match kind {
            Value::Signed(kind) => kind as i32,
            kind => kind.as_u64().unwrap_or_default() as i32,
        });
        texts.zip(types)
    })
}

// `llama_token_type` of llama.cpp; 2 is unknown, 5 unused, 6 a byte of vocabularies that fall back to bytes.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// Decodes the alphabet in which GPT-2's files, and those after them, spell bytes: the printable bytes of Latin-1 are their
/// own characters, and the other 68, in order, are U+0100 to U+0143. Returns how many bytes came out; nothing if `text`
/// holds any other character or more of them than `bytes` has room for.
pub fn from_byte_alphabet(text: &[u8], bytes: &mut [u8]) -> Option<usize> {
    let mut size = 0;
    for character in core::str::from_utf8(text).ok()?.chars() {
        *bytes.get_mut(size)? = match u32::from(character) {
            code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => code as u8,
            code @ 0x100..=0x120 => (code - 0x100) as u8,
            code @ 0x121..=0x142 => (code - 0x121 + 0x7F) as u8,
            0x143 => 0xAD,
            _ => return None,
        };
        size += 1;
    }
    Some(size)
}

/// Ordinary tokens with the special tokens of o200k_harmony, the encoding of gpt-oss, behind them.
#[derive(Clone, Copy, Debug)]
pub struct Harmony<S>(pub S);

/// The special tokens of o200k_harmony that have a name of their own.
const HARMONY_NAMES: [(u32, &str); 10] = [
    (199_998, "<|startoftext|>"),
    (199_999, "<|endoftext|>"),
    (200_002, "<|return|>"),
    (200_003, "<|constrain|>"),
    (200_005, "<|channel|>"),
    (200_006, "<|start|>"),
    (200_007, "<|end|>"),
    (200_008, "<|message|>"),
    (200_012, "<|call|>"),
    (200_018, "<|endofprompt|>"),
];

/// One past the last id of o200k_harmony.
const HARMONY_END: u32 = 201_088;

impl<S: Source> Source for Harmony<S> {
    fn walk(&self, visit: &mut dyn FnMut(Token<'_>) -> Result<()>) -> Result<()> {
        self.0.walk(visit)?;
        for (id, name) in HARMONY_NAMES {
            visit(Token { id, bytes: name.as_bytes(), kind: Kind::Special })?;
        }
        for id in 200_000..HARMONY_END {
            // 200018 has both names.
            if id == 200_018 || HARMONY_NAMES.iter().all(|(named, _)| *named != id) {
                let mut name = *b"<|reserved_000000|>";
                let mut rest = id;
                for digit in name[11..17].iter_mut().rev() {
                    *digit += (rest % 10) as u8;
                    rest /= 10;
                }
                visit(Token { id, bytes: &name, kind: Kind::Special })?;
            }
        }
        Ok(())
    }
}
