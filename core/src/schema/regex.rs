//! Regular expressions, as ECMA-262 writes them, to a nondeterministic automaton over code points.
//!
//! A repeated part is read again for each copy, so there is no tree in between. Look-around, back references and word
//! borders are refused.

use core::iter::Peekable;

use crate::region::List;

/// The highest code point.
pub const LAST: u32 = 0x10_FFFF;
/// How deep groups may be nested.
const GROUPS_MAX: u32 = 32;
/// No step.
const OPEN: u32 = u32::MAX;

/// One step of the automaton.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Goes on without a character.
    Empty(u32),
    /// Goes on in both places.
    Split(u32, u32),
    /// Takes a character within some of the ranges: the first, how many, where to go on.
    Take(u32, u32, u32),
    /// Goes on at the start of the text only.
    Start(u32),
    /// Goes on at the end of the text only.
    End(u32),
    /// The text matches, under this label.
    Accept(u32),
}

/// The automaton, being built.
pub struct Nfa<'r> {
    pub steps: List<'r, Step>,
    pub ranges: List<'r, [u32; 2]>,
}

/// What is wrong with a pattern.
pub type Parsed<T> = Result<T, &'static str>;

const TOO_LARGE: &str = "patterns of a smaller size";

/// A part of the automaton: where it begins, and its open end.
#[derive(Clone, Copy)]
struct Part {
    begin: u32,
    end: u32,
}

impl Nfa<'_> {
    pub fn clear(&mut self) {
        self.steps.truncate(0);
        self.ranges.truncate(0);
    }

    pub fn step(&mut self, step: Step) -> Parsed<u32> {
        let at = self.steps.len() as u32;
        if self.steps.push(step) { Ok(at) } else { Err(TOO_LARGE) }
    }

    fn empty(&mut self) -> Parsed<Part> {
        let at = self.step(Step::Empty(OPEN))?;
        Ok(Part { begin: at, end: at })
    }

    fn join(&mut self, end: u32, next: u32) {
        if let Some(step) = self.steps.get_mut(end as usize) {
            *step = Step::Empty(next);
        }
    }

    fn take(&mut self, first: u32) -> Parsed<Part> {
        let count = self.ranges.len() as u32 - first;
        let end = self.step(Step::Empty(OPEN))?;
        let begin = self.step(Step::Take(first, count, end))?;
        Ok(Part { begin, end })
    }

    fn range(&mut self, low: u32, high: u32) -> Parsed<()> {
        if self.ranges.push([low, high]) { Ok(()) } else { Err(TOO_LARGE) }
    }

    /// A step that takes any text and then goes on at `next`.
    fn any_text(&mut self, next: u32) -> Parsed<u32> {
        let first = self.ranges.len() as u32;
        self.range(0, LAST)?;
        let split = self.step(Step::Split(OPEN, next))?;
        let take = self.step(Step::Take(first, 1, split))?;
        if let Some(step) = self.steps.get_mut(split as usize) {
            *step = Step::Split(take, next);
        }
        Ok(split)
    }

    /// Any text, under this label. Returns where it begins.
    pub fn anything(&mut self, label: u32) -> Parsed<u32> {
        let accept = self.step(Step::Accept(label))?;
        self.any_text(accept)
    }

    /// Exactly these characters.
    pub fn literal(&mut self, text: impl Iterator<Item = char>, label: u32) -> Parsed<u32> {
        let begin = self.steps.len() as u32;
        for (at, character) in (begin + 1..).zip(text) {
            let first = self.ranges.len() as u32;
            self.range(character.into(), character.into())?;
            self.step(Step::Take(first, 1, at))?;
        }
        self.step(Step::Accept(label))?;
        Ok(begin)
    }

    /// Texts that hold a match of the pattern.
    pub fn pattern<I: Iterator<Item = char> + Clone>(&mut self, pattern: I, label: u32) -> Parsed<u32> {
        let mut reader = Reader { nfa: self, rest: pattern.peekable(), groups: 0 };
        let part = reader.alternatives()?;
        if reader.rest.next().is_some() {
            return Err("a pattern whose parentheses match");
        }
        let anything = self.anything(label)?;
        self.join(part.end, anything);
        self.any_text(part.begin)
    }
}

struct Reader<'n, 'r, I: Iterator<Item = char>> {
    nfa: &'n mut Nfa<'r>,
    rest: Peekable<I>,
    groups: u32,
}

impl<I: Iterator<Item = char> + Clone> Reader<'_, '_, I> {
    fn eat(&mut self, character: char) -> bool {
        self.rest.next_if_eq(&character).is_some()
    }

    fn alternatives(&mut self) -> Parsed<Part> {
        let mut all = self.sequence()?;
        while self.eat('|') {
            let next = self.sequence()?;
            let begin = self.nfa.step(Step::Split(all.begin, next.begin))?;
            let end = self.nfa.step(Step::Empty(OPEN))?;
            self.nfa.join(all.end, end);
            self.nfa.join(next.end, end);
            all = Part { begin, end };
        }
        Ok(all)
    }

    fn sequence(&mut self) -> Parsed<Part> {
        let mut all = self.nfa.empty()?;
        while let Some(&next) = self.rest.peek() {
            if next == '|' || next == ')' {
                break;
            }
            let part = self.repeated()?;
            self.nfa.join(all.end, part.begin);
            all.end = part.end;
        }
        Ok(all)
    }

    fn repeated(&mut self) -> Parsed<Part> {
        let before = self.rest.clone();
        let first = self.atom()?;
        let (least, most) = match self.rest.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => match self.counts()? {
                Some(counts) => counts,
                None => return Ok(first),
            },
            _ => return Ok(first),
        };
        if self.rest.peek() != Some(&'}') && !matches!(self.rest.peek(), Some('*' | '+' | '?')) {
            return Err("a quantifier");
        }
        self.rest.next();
        self.eat('?');
        if matches!(self.rest.peek(), Some('*' | '+' | '?')) {
            return Err("one quantifier for each part of a pattern");
        }
        let after = self.rest.clone();
        let mut all = self.nfa.empty()?;
        let mut copy = Some(first);
        let copies = most.unwrap_or(least.max(1));
        for index in 0..copies {
            let part = match copy.take() {
                Some(part) => part,
                None => {
                    self.rest = before.clone();
                    self.atom()?
                }
            };
            let end = self.nfa.step(Step::Empty(OPEN))?;
            let is_loop = most.is_none() && index + 1 == copies;
            if index >= least {
                // May be left out, and with it all that follow.
                let begin = self.nfa.step(Step::Split(part.begin, end))?;
                self.nfa.join(all.end, begin);
                let again = if is_loop { begin } else { end };
                self.nfa.join(part.end, again);
            } else {
                self.nfa.join(all.end, part.begin);
                let again = if is_loop { self.nfa.step(Step::Split(part.begin, end))? } else { end };
                self.nfa.join(part.end, again);
            }
            all.end = end;
        }
        self.rest = after;
        Ok(all)
    }

    /// What stands between braces, up to the closing one. `None`, if these are no counts: then the brace is itself.
    fn counts(&mut self) -> Parsed<Option<(u32, Option<u32>)>> {
        let mut ahead = self.rest.clone();
        ahead.next();
        let number = |ahead: &mut Peekable<I>| {
            let mut found = None;
            while let Some(digit) = ahead.peek().and_then(|character| character.to_digit(10)) {
                found = Some(found.unwrap_or(0_u32).saturating_mul(10).saturating_add(digit));
                ahead.next();
            }
            found
        };
        let Some(least) = number(&mut ahead) else { return Ok(None) };
        let most = if ahead.next_if_eq(&',').is_some() { number(&mut ahead) } else { Some(least) };
        if ahead.peek() != Some(&'}') {
            return Ok(None);
        }
        if most.is_some_and(|most| most < least) || least > 4096 || most.is_some_and(|most| most > 4096) {
            return Err("counts in order, of at most 4096");
        }
        self.rest = ahead;
        Ok(Some((least, most)))
    }

    fn atom(&mut self) -> Parsed<Part> {
        let first = self.nfa.ranges.len() as u32;
        match self.rest.next() {
            Some('(') => self.group(),
            Some('^') => self.assertion(Step::Start),
            Some('$') => self.assertion(Step::End),
            Some('.') => {
                for [low, high] in [[0, 9], [11, 12], [14, 0x2027], [0x202A, LAST]] {
                    self.nfa.range(low, high)?;
                }
                self.nfa.take(first)
            }
            Some('[') => {
                self.class(first)?;
                self.nfa.take(first)
            }
            Some('\\') => {
                match self.escape()? {
                    Escape::Character(character) => self.nfa.range(character, character)?,
                    Escape::Class(class, inverted) => self.add_class(class, inverted)?,
                }
                self.nfa.take(first)
            }
            Some('*' | '+' | '?') => Err("something before a quantifier"),
            Some(character) => {
                self.nfa.range(character.into(), character.into())?;
                self.nfa.take(first)
            }
            None => Err("a pattern that goes on"),
        }
    }

    fn assertion(&mut self, kind: fn(u32) -> Step) -> Parsed<Part> {
        let end = self.nfa.step(Step::Empty(OPEN))?;
        let begin = self.nfa.step(kind(end))?;
        Ok(Part { begin, end })
    }

    fn group(&mut self) -> Parsed<Part> {
        if self.eat('?') {
            match self.rest.next() {
                Some(':') => {}
                Some('<') if !matches!(self.rest.peek(), Some('=' | '!')) => {
                    if !self.rest.any(|character| character == '>') {
                        return Err("a group's name that ends");
                    }
                }
                _ => return Err("a pattern without look-around and flags"),
            }
        }
        if self.groups == GROUPS_MAX {
            return Err("groups nested at most 32 deep");
        }
        self.groups += 1;
        let part = self.alternatives()?;
        self.groups -= 1;
        if self.eat(')') { Ok(part) } else { Err("a pattern whose parentheses match") }
    }

    /// The ranges between brackets, from `first` on.
    fn class(&mut self, first: u32) -> Parsed<()> {
        let inverted = self.eat('^');
        while !self.eat(']') {
            let Some(low) = self.class_atom()? else { continue };
            let mut ahead = self.rest.clone();
            if ahead.next() == Some('-') && ahead.peek().is_some_and(|next| *next != ']') {
                self.rest = ahead;
                match self.class_atom()? {
                    Some(high) if high < low => return Err("ranges in order"),
                    Some(high) => self.nfa.range(low, high)?,
                    None => {
                        self.nfa.range(low, low)?;
                        self.nfa.range('-'.into(), '-'.into())?;
                    }
                }
            } else {
                self.nfa.range(low, low)?;
            }
        }
        self.normalize(first);
        if inverted { self.invert(first) } else { Ok(()) }
    }

    /// A character; or nothing, if it was a class, which is added.
    fn class_atom(&mut self) -> Parsed<Option<u32>> {
        match self.rest.next() {
            Some('\\') if self.eat('b') => Ok(Some(8)),
            Some('\\') if self.eat('-') => Ok(Some('-'.into())),
            Some('\\') => match self.escape()? {
                Escape::Character(character) => Ok(Some(character)),
                Escape::Class(class, inverted) => {
                    self.add_class(class, inverted)?;
                    Ok(None)
                }
            },
            Some(character) => Ok(Some(character.into())),
            None => Err("a pattern whose brackets match"),
        }
    }

    fn add_class(&mut self, class: &[[u32; 2]], inverted: bool) -> Parsed<()> {
        let mut next = 0;
        for &[low, high] in class {
            match inverted {
                true if low > next => self.nfa.range(next, low - 1)?,
                true => {}
                false => self.nfa.range(low, high)?,
            }
            next = high + 1;
        }
        if inverted { self.nfa.range(next, LAST) } else { Ok(()) }
    }

    /// Sorts and merges the ranges from `first` on.
    fn normalize(&mut self, first: u32) {
        let ranges = &mut self.nfa.ranges[first as usize..];
        ranges.sort_unstable();
        let mut len = 0;
        for index in 0..ranges.len() {
            let [low, high] = ranges[index];
            if len > 0 && low <= ranges[len - 1][1].saturating_add(1) {
                ranges[len - 1][1] = ranges[len - 1][1].max(high);
            } else {
                ranges[len] = [low, high];
                len += 1;
            }
        }
        self.nfa.ranges.truncate(first as usize + len);
    }

    fn invert(&mut self, first: u32) -> Parsed<()> {
        let count = self.nfa.ranges.len();
        let mut next = 0;
        for index in first as usize..count {
            let [low, high] = self.nfa.ranges[index];
            if low > next {
                self.nfa.range(next, low - 1)?;
            }
            next = high + 1;
        }
        if next <= LAST {
            self.nfa.range(next, LAST)?;
        }
        let inverted = self.nfa.ranges.len() - count;
        self.nfa.ranges.copy_within(count.., first as usize);
        self.nfa.ranges.truncate(first as usize + inverted);
        Ok(())
    }

    fn escape(&mut self) -> Parsed<Escape> {
        let character = match self.rest.next() {
            Some('d') => return Ok(Escape::Class(&DIGITS, false)),
            Some('D') => return Ok(Escape::Class(&DIGITS, true)),
            Some('w') => return Ok(Escape::Class(&WORD, false)),
            Some('W') => return Ok(Escape::Class(&WORD, true)),
            Some('s') => return Ok(Escape::Class(&SPACE, false)),
            Some('S') => return Ok(Escape::Class(&SPACE, true)),
            Some('t') => 9,
            Some('n') => 10,
            Some('v') => 11,
            Some('f') => 12,
            Some('r') => 13,
            Some('0') if !self.rest.peek().is_some_and(char::is_ascii_digit) => 0,
            Some('x') => self.hex(2)?,
            Some('u') if self.eat('{') => {
                let mut code = 0_u32;
                while !self.eat('}') {
                    code = code << 4 | self.hex(1)?;
                    if code > LAST {
                        return Err("code points up to 10ffff");
                    }
                }
                code
            }
            Some('u') => self.hex(4)?,
            Some(itself) if !itself.is_alphanumeric() => itself.into(),
            _ => return Err("a pattern without back references, word borders and named classes"),
        };
        if (0xD800..0xE000).contains(&character) {
            return Err("characters outside the surrogates");
        }
        Ok(Escape::Character(character))
    }

    fn hex(&mut self, digits: u32) -> Parsed<u32> {
        (0..digits).try_fold(0, |code, _| {
            let digit = self.rest.next().and_then(|character| character.to_digit(16));
            digit.map(|digit| code << 4 | digit).ok_or("hexadecimal digits")
        })
    }
}

enum Escape {
    Character(u32),
    Class(&'static [[u32; 2]], bool),
}

const DIGITS: [[u32; 2]; 1] = [[0x30, 0x39]];
const WORD: [[u32; 2]; 4] = [[0x30, 0x39], [0x41, 0x5A], [0x5F, 0x5F], [0x61, 0x7A]];
/// White space and line ends of ECMA-262.
const SPACE: [[u32; 2]; 10] = [
    [9, 13],
    [0x20, 0x20],
    [0xA0, 0xA0],
    [0x1680, 0x1680],
    [0x2000, 0x200A],
    [0x2028, 0x2029],
    [0x202F, 0x202F],
    [0x205F, 0x205F],
    [0x3000, 0x3000],
    [0xFEFF, 0xFEFF],
];
