//! What a header says.
//!
//! A header is text with two kinds of markers in it. Well-formed, it reads
//! `role [to=recipient] <|channel|>channel [to=recipient] [<|constrain|>]type`. Models also write it in other orders, leave
//! markers out, repeat parts and put in words that mean nothing; so each word is judged by what it looks like.

use super::conversation::{CHANNELS, ContentType, PLAIN_TYPES, Role};
use super::parse::Problem;

/// The longest header that is kept, in bytes. What comes after is content.
pub const MAX_HEADER: usize = 512;

/// `<|channel|>` or `<|constrain|>` in a header, as a byte that UTF-8 does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Marker {
    Channel = 0xff,
    Constrain = 0xfe,
}

/// The header so far.
#[derive(Clone, Debug, Default)]
pub(super) struct HeaderText {
    bytes: heapless::Vec<u8, MAX_HEADER>,
}

/// What has been made out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'h> {
    pub(super) role: Role,
    pub(super) name: Option<&'h str>,
    pub(super) recipient: Option<&'h str>,
    pub(super) channel: Option<&'h str>,
    pub(super) content_type: Option<ContentType<'h>>,
    /// Whether the header itself names the role.
    pub(super) has_role: bool,
    /// Where the text of the header begins that is content in truth; its end if there is none.
    pub(super) content: usize,
}

/// A piece between white space and markers.
#[derive(Clone, Copy, Debug)]
struct Word<'h> {
    text: &'h str,
    start: usize,
    after: Option<Marker>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Meaning<'h> {
    /// The role, once more.
    Role,
    /// One of the known channels, after its marker.
    Channel(&'static str),
    /// The same without the marker.
    BareChannel(&'static str),
    Recipient(&'h str),
    /// `to=` and nothing.
    NoRecipient,
    Type(ContentType<'h>),
    /// A marker and nothing.
    NoName(Marker),
    Unknown,
}

impl HeaderText {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether there was room for the text; if not, nothing is kept of it.
    pub(super) fn push(&mut self, text: &str) -> bool {
        self.bytes.extend_from_slice(text.as_bytes()).is_ok()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.is_full()
    }

    /// Appends, if there is room.
    pub(super) fn mark(&mut self, marker: Marker) {
        let result = self.bytes.push(marker as u8);
        debug_assert!(result.is_ok(), "a marker in a full header");
    }

    /// The text from `start` on, without markers.
    pub(super) fn text(&self, start: usize) -> impl Iterator<Item = &str> {
        let pieces = self.bytes.get(start..).unwrap_or(&[]).split(|&byte| is_marker(byte));
        pieces.filter_map(|piece| core::str::from_utf8(piece).ok()).filter(|text| !text.is_empty())
    }

    /// Reads a header that `<|message|>` has closed. `explicit` says whether `<|start|>` opened it; if not, the role is
    /// `given` or the assistant. What is out of order goes to `problem`, words without a meaning to `unknown`.
    pub(super) fn read<'h>(
        &'h self,
        given: Option<Role>,
        explicit: bool,
        problem: &mut dyn FnMut(Problem),
        unknown: &mut dyn FnMut(&'h str),
    ) -> Parts<'h> {
        let mut parts = self.role(given, explicit, true);
        let start = parts.content;
        parts.content = self.bytes.len();

        // Of what is said several times, the last counts. What has its marker goes before what has none.
        let mut bare_channel = None;
        let mut odd_channel = None;
        let mut bare_recipient = None;
        let mut odd_type = None;
        let mut unknowns = 0;
        self.words(start, parts.role, |word, meaning| {
            odd_type = None;
            match meaning {
                Meaning::Role => {
                    parts.has_role |= parts.channel.is_none();
                    problem(Problem::RepeatedRole);
                }
                Meaning::Channel(name) => {
                    if parts.channel.replace(name).is_some() {
                        problem(Problem::RepeatedChannel);
                    }
                }
                Meaning::BareChannel(name) => {
                    problem(Problem::MissingChannelMarker);
                    bare_channel.get_or_insert(name);
                }
                Meaning::Recipient(name) => {
                    if parts.recipient.replace(name).is_some() {
                        problem(Problem::RepeatedRecipient);
                    }
                }
                Meaning::Type(new) => {
                    let old = parts.content_type;
                    if old.is_some() {
                        problem(Problem::RepeatedContentType);
                    }
                    if !matches!((old, new), (Some(ContentType::Constrained(_)), ContentType::Plain(_))) {
                        parts.content_type = Some(new);
                    }
                }
                Meaning::NoRecipient => problem(Problem::MissingRecipient),
                Meaning::NoName(Marker::Channel) => problem(Problem::MissingChannel),
                Meaning::NoName(Marker::Constrain) => problem(Problem::MissingContentType),
                Meaning::Unknown => {
                    unknowns += 1;
                    let has_recipient = parts.recipient.is_some() || bare_recipient.is_some();
                    match word.after {
                        _ if !word.text.chars().all(is_name) => {}
                        Some(Marker::Channel) => odd_channel = Some(word.text),
                        _ if is_tool(word.text) => bare_recipient = Some(word.text),
                        _ if has_recipient => odd_type = Some(word.text),
                        _ => {}
                    }
                }
            }
        });
        if parts.recipient.is_none() && bare_recipient.is_some() {
            problem(Problem::MissingRecipientMarker);
            parts.recipient = bare_recipient;
            unknowns -= 1;
        }
        parts.channel = parts.channel.or(bare_channel);
        if parts.channel.is_none() && unknowns == 1 && odd_channel.is_some() {
            problem(Problem::UnknownChannel);
            parts.channel = odd_channel;
        } else if parts.content_type.is_none() && unknowns == 1 && odd_type.is_some() {
            problem(Problem::UnknownContentType);
            parts.content_type = odd_type.map(ContentType::Plain);
        }

        let type_name = parts.content_type.map(ContentType::name);
        self.words(start, parts.role, |word, meaning| {
            let is_said = match meaning {
                Meaning::Recipient(name) => parts.recipient == Some(name),
                Meaning::Type(new) => type_name == Some(new.name()),
                Meaning::Unknown => [parts.channel, parts.recipient, type_name].contains(&Some(word.text)),
                _ => true,
            };
            if !is_said {
                unknown(word.text);
            }
        });
        parts
    }

    /// Reads a header that ended without `<|message|>`: from the first word that is no part of one, it is content.
    pub(super) fn read_open(&self, given: Option<Role>, explicit: bool, problem: &mut dyn FnMut(Problem)) -> Parts<'_> {
        let mut parts = self.role(given, explicit, false);
        let start = parts.content;
        parts.content = self.bytes.len();
        let mut is_first = true;
        let mut after_recipient = false;
        let mut is_over = false;
        self.words(start, parts.role, |word, meaning| {
            if is_over {
                return;
            }
            let mut is_part = true;
            match meaning {
                Meaning::Role if is_first => parts.has_role = true,
                Meaning::Channel(name) => {
                    if parts.channel.replace(name).is_some() {
                        problem(Problem::RepeatedChannel);
                    }
                }
                Meaning::Recipient(name) if parts.recipient.is_none_or(|old| old == name) => {
                    parts.recipient = Some(name);
                }
                Meaning::Type(ContentType::Plain(name)) if after_recipient && parts.content_type.is_none() => {
                    parts.content_type = Some(ContentType::Plain(name));
                }
                Meaning::Type(new @ ContentType::Constrained(_)) if parts.content_type.is_none_or(|old| old == new) => {
                    parts.content_type = Some(new);
                }
                Meaning::NoRecipient => problem(Problem::MissingRecipient),
                Meaning::NoName(Marker::Channel) => problem(Problem::MissingChannel),
                Meaning::NoName(Marker::Constrain) => problem(Problem::MissingContentType),
                _ => is_part = false,
            }
            if !is_part {
                is_over = true;
                parts.content = word.start;
            }
            is_first = false;
            after_recipient = matches!(meaning, Meaning::Recipient(_));
        });
        parts
    }

    /// The role at the beginning; the rest begins at `content`.
    fn role(&self, given: Option<Role>, explicit: bool, is_closed: bool) -> Parts<'_> {
        let mut parts = Parts {
            role: given.unwrap_or(Role::Assistant),
            name: None,
            recipient: None,
            channel: None,
            content_type: None,
            has_role: false,
            content: 0,
        };
        if !explicit {
            return parts;
        }
        let end = self.bytes.iter().position(|&byte| is_marker(byte)).unwrap_or(self.bytes.len());
        let has_marker = end < self.bytes.len();
        let text = self.slice(0, end);
        let start = text.len() - text.trim_start().len();
        let text = &text[start..];
        let word = text.split_whitespace().next().unwrap_or("");
        let before_recipient = text.find(" to=").unwrap_or(text.len());

        let mut found = |role, name, len| {
            (parts.role, parts.name, parts.content, parts.has_role) = (role, name, start + len, true);
        };
        if let Some(role) = Role::from_name(word) {
            found(role, (role == Role::Tool).then_some(word), word.len());
        } else if let Some((role, _)) = word.split_once(':')
            && let Some(known) = Role::from_name(role)
        {
            let name = text[role.len() + 1..before_recipient].trim();
            found(known, (!name.is_empty()).then_some(name), before_recipient);
        } else if let Some(role) = glued_role(word) {
            found(role, None, role.name().len());
        } else if word.starts_with("to=") && given.is_some() || word.is_empty() {
            // No role; what follows is read as if it had been there.
        } else if is_closed || has_marker || before_recipient < text.len() {
            found(Role::Tool, Some(word), word.len());
        }
        parts
    }

    /// Gives each word from `start` on and what it means.
    fn words<'h>(&'h self, start: usize, role: Role, mut found: impl FnMut(Word<'h>, Meaning<'h>)) {
        let mut at = start;
        let mut has_empty_recipient = false;
        while let Some((word, end)) = self.word(at) {
            at = end;
            let mut meaning = word.meaning(role);
            if has_empty_recipient
                && word.after.is_none()
                && meaning == Meaning::Unknown
                && word.text.chars().all(is_name)
            {
                meaning = Meaning::Recipient(word.text);
            }
            has_empty_recipient = meaning == Meaning::NoRecipient;
            found(word, meaning);
        }
    }

    /// The next word and where it ends. A marker without a name is an empty word.
    fn word(&self, mut at: usize) -> Option<(Word<'_>, usize)> {
        let mut after = None;
        let start = loop {
            match self.bytes.get(at) {
                None if after.is_none() => return None,
                None => break at,
                Some(&byte) if is_marker(byte) => {
                    if after.is_some() {
                        break at;
                    }
                    after = Some(if byte == Marker::Channel as u8 { Marker::Channel } else { Marker::Constrain });
                    at += 1;
                }
                Some(_) => {
                    let end = self.run_end(at);
                    let run = self.slice(at, end);
                    let space = run.len() - run.trim_start().len();
                    at += space;
                    if space < run.len() {
                        break at;
                    }
                }
            }
        };
        let run = self.slice(start, self.run_end(start));
        let word = run.split_whitespace().next().unwrap_or("");
        let len = match after {
            Some(Marker::Channel) => known_channel_at_start(word).map_or(word.len(), str::len),
            Some(Marker::Constrain) => match word.find(|character| !is_name(character)) {
                // Nothing that could be a type: an ordinary word.
                Some(0) => {
                    after = None;
                    word.len()
                }
                Some(len) => len,
                None => word.len(),
            },
            // The arguments of a call may follow its name directly.
            None if word.starts_with("to=") => word.find('{').unwrap_or(word.len()),
            None => word.len(),
        };
        Some((Word { text: &word[..len], start, after }, start + len))
    }

    /// Where the text ends that begins at `start`: at a marker or the end.
    fn run_end(&self, start: usize) -> usize {
        let run = self.bytes.get(start..).unwrap_or(&[]);
        start + run.iter().position(|&byte| is_marker(byte)).unwrap_or(run.len())
    }

    fn slice(&self, start: usize, end: usize) -> &str {
        self.bytes.get(start..end).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or("")
    }
}

impl<'h> Word<'h> {
    fn meaning(&self, role: Role) -> Meaning<'h> {
        let channel = CHANNELS.into_iter().find(|name| name.eq_ignore_ascii_case(self.text));
        match (self.after, channel) {
            (Some(marker), _) if self.text.is_empty() => Meaning::NoName(marker),
            (Some(Marker::Channel), Some(name)) => Meaning::Channel(name),
            (Some(Marker::Constrain), _) => Meaning::Type(ContentType::Constrained(self.text)),
            (None, Some(name)) => Meaning::BareChannel(name),
            (_, None) => match self.text.strip_prefix("to=") {
                Some("") => Meaning::NoRecipient,
                Some(name) => Meaning::Recipient(name),
                None if self.text == role.name() => Meaning::Role,
                None if PLAIN_TYPES.contains(&self.text) => Meaning::Type(ContentType::Plain(self.text)),
                None => Meaning::Unknown,
            },
        }
    }
}

fn is_marker(byte: u8) -> bool {
    byte == Marker::Channel as u8 || byte == Marker::Constrain as u8
}

/// What names of channels, tools and types consist of.
fn is_name(character: char) -> bool {
    character.is_alphanumeric() || "_-./+:;=".contains(character)
}

/// A word that names a tool, even without `to=`: one in a namespace, or the one that has no functions.
fn is_tool(word: &str) -> bool {
    let in_namespace = word.split_once('.').is_some_and(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
    in_namespace && !word.ends_with('.') || word == "python"
}

/// The known channel that a word begins with: `analysis` in `analysisto=python`.
fn known_channel_at_start(word: &str) -> Option<&'static str> {
    CHANNELS
        .into_iter()
        .find(|name| word.as_bytes().get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes())))
}

/// The role in a word such as `assistantanalysis`.
fn glued_role(word: &str) -> Option<Role> {
    Role::ALL.into_iter().find(|role| word.strip_prefix(role.name()).is_some_and(|rest| CHANNELS.contains(&rest)))
}
