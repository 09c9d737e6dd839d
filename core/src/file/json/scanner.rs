//! The grammar of JSON.

use super::{Error, MAX_DEPTH, Value};

/// A position in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanner<'j> {
    text: &'j str,
    at: usize,
}

impl<'j> Scanner<'j> {
    /// At the start of `text`.
    pub fn new(text: &'j str) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte.
    pub fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Goes on if `byte` is next.
    pub fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    pub fn refuse(&self, expected: &'static str) -> Error {
        Error { offset: self.at, expected, found: self.peek() }
    }

    pub fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Goes past one value, which must be well-formed, and white space before it.
    pub fn value(&mut self) -> Result<Value<'j>, Error> {
        // One bit for each array (0) or object (1) that is open, the innermost lowest.
        let mut open = 0_u128;
        let mut depth = 0;
        self.skip_space();
        let start = self.at;
        loop {
            self.skip_space();
            match self.peek() {
                Some(bracket @ (b'[' | b'{')) => {
                    if depth == MAX_DEPTH {
                        return Err(self.refuse("at most 128 levels of arrays and objects"));
                    }
                    self.at += 1;
                    depth += 1;
                    open = open << 1 | u128::from(bracket == b'{');
                    self.skip_space();
                    match (bracket, self.peek()) {
                        (b'[', Some(b']')) | (b'{', Some(b'}')) => {} // Closed below.
                        (b'{', _) => {
                            self.key()?;
                            continue;
                        }
                        _ => continue,
                    }
                }
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                _ => return Err(self.refuse("a value")),
            }
            // After a value: close what ends here, up to the comma before the next value.
            loop {
                if depth == 0 {
                    let raw = self.text.get(start..self.at).unwrap_or("");
                    return Ok(Value { raw, offset: start });
                }
                self.skip_space();
                let in_object = open & 1 == 1;
                match (self.peek(), in_object) {
                    (Some(b']'), false) | (Some(b'}'), true) => {
                        self.at += 1;
                        depth -= 1;
                        open >>= 1;
                    }
                    (Some(b','), _) => {
                        self.at += 1;
                        if in_object {
                            self.key()?;
                        }
                        break;
                    }
                    (_, false) => return Err(self.refuse("',' or ']'")),
                    (_, true) => return Err(self.refuse("',' or '}'")),
                }
            }
        }
    }

    /// A string and a colon.
    fn key(&mut self) -> Result<(), Error> {
        self.skip_space();
        if self.peek() != Some(b'"') {
            return Err(self.refuse("a key in quotes"));
        }
        self.string()?;
        self.skip_space();
        if self.eat(b':') { Ok(()) } else { Err(self.refuse("':'")) }
    }

    fn word(&mut self, word: &'static str) -> Result<(), Error> {
        for &byte in word.as_bytes() {
            if !self.eat(byte) {
                return Err(self.refuse(word));
            }
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), Error> {
        self.at += 1; // The quote, which the caller has seen.
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0x20..) => self.at += 1,
                Some(_) => return Err(self.refuse("an escape in place of a control character")),
                None => return Err(self.refuse("'\"'")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Error> {
        let start = *self;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                let is_pair = match self.hex4()? {
                    0xd800..0xdc00 => self.eat(b'\\') && self.eat(b'u') && matches!(self.hex4()?, 0xdc00..0xe000),
                    0xdc00..0xe000 => false,
                    _ => return Ok(()),
                };
                if is_pair { Ok(()) } else { Err(start.refuse("both halves of a surrogate pair")) }
            }
            _ => Err(self.refuse("one of \" \\ / b f n r t u after a backslash")),
        }
    }

    /// Four hexadecimal digits.
    fn hex4(&mut self) -> Result<u32, Error> {
        let mut number = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            number = number << 4 | digit.ok_or_else(|| self.refuse("four hexadecimal digits"))?;
            self.at += 1;
        }
        Ok(number)
    }

    fn number(&mut self) -> Result<(), Error> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        Ok(())
    }

    /// One or more decimal digits.
    fn digits(&mut self) -> Result<(), Error> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.refuse("a digit"));
        }
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        Ok(())
    }
}
