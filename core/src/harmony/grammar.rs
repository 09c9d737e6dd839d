//! Which tokens the model may write next, so that every header is well-formed.
//!
//! The grammar follows the tokens that are sampled, and needs neither logits nor tables: what may follow in a header are a
//! few texts, so the tokens are looked up by their bytes. In content everything goes but special tokens other than those
//! that end the message.
//!
//! ```text
//! message = header <|message|> content end
//! header  = <|channel|> channel [" to=" recipient] [type]     as the model was trained
//!         | " to=" recipient <|channel|> channel [type]       as the official library renders
//! type    = " " name | [" "] <|constrain|> [" "] name
//! end     = <|call|> | <|return|> | <|end|>
//! next    = <|start|> "assistant" message
//! ```
//!
//! A call does not end with `<|end|>`, which would go on without the tool's answer, and reasoning not with `<|return|>`, which
//! would leave the user without one. What else ends a message is left to the model: the official library writes `<|call|>`
//! even where nothing is called.

use super::conversation::{ANALYSIS, CHANNELS, FINAL, PLAIN_TYPES, Role};
use super::{SpecialTokens, Vocabulary};

/// What headers may say.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'g> {
    /// The tokens of the format.
    pub special: SpecialTokens,
    /// The channels, as the system message names them.
    pub channels: &'g [&'g str],
    /// Whether every message must have one.
    pub channel_required: bool,
    /// Whether the turn can end only with a call: what is not reasoning must have a recipient.
    pub call_required: bool,
    /// The tools that may be called, by their full names: `functions.f`, `python`. Those that [`fits_header`] refuses cannot be.
    pub recipients: &'g [&'g str],
    /// The content types that may follow `<|constrain|>`. Those among [`PLAIN_TYPES`] may also stand without it.
    pub content_types: &'g [&'g str],
}

impl<'g> Rules<'g> {
    /// The default channels and content types.
    pub fn new(special: SpecialTokens, recipients: &'g [&'g str]) -> Self {
        Self {
            special,
            channels: &CHANNELS,
            channel_required: true,
            call_required: false,
            recipients,
            content_types: &PLAIN_TYPES,
        }
    }
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// The tokens listed.
    Listed,
    /// The tokens listed and all ordinary tokens.
    ListedAndOrdinary,
}

/// Follows the tokens of one generation.
#[derive(Clone, Copy, Debug)]
pub struct HeaderGrammar<'g> {
    rules: Rules<'g>,
    place: Place,
    /// In a text: which of those possible here, up to `offset` bytes. All that begin with the same bytes are still possible.
    candidate: usize,
    offset: usize,
    has_recipient: bool,
    is_reasoning: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// After `<|start|>`: the role.
    Role,
    /// Before the channel, or where it is missing: a recipient or a type.
    BeforeChannel,
    /// After `<|channel|>`: its name.
    Channel,
    /// After the channel: a recipient or a type.
    AfterChannel,
    /// After the blank before `<|constrain|>`.
    Blank,
    /// After `<|constrain|>`: the type.
    Constrained,
    /// After the type.
    Typed,
    Content,
    Between,
}

/// A text that may stand at a place: a prefix and a name.
type Candidate<'g> = (&'static str, &'g str);

impl<'g> HeaderGrammar<'g> {
    /// Where the prompt ends with `<|start|>assistant`.
    pub fn new(rules: Rules<'g>) -> Self {
        let place = Place::BeforeChannel;
        Self { rules, place, candidate: 0, offset: 0, has_recipient: false, is_reasoning: false }
    }

    /// Whether the model is writing content.
    pub fn is_in_content(&self) -> bool {
        self.place == Place::Content
    }

    /// Lists the tokens that may come next; a token may be listed twice.
    pub fn allowed(&self, vocabulary: &impl Vocabulary, emit: &mut dyn FnMut(u32)) -> Allowed {
        self.special_tokens(emit);
        if self.place == Place::Content {
            return Allowed::ListedAndOrdinary;
        }
        for candidate in (0..self.candidates()).filter(|&candidate| self.is_possible(candidate)) {
            // What of the text is left, piece by piece: the rest of the prefix with ever more of the name.
            let mut text = heapless::Vec::<u8, MAX_TEXT>::new();
            for byte in self.bytes(candidate).skip(self.offset) {
                if text.push(byte).is_err() {
                    break;
                }
                if let Some(token) = vocabulary.token_of(&text) {
                    emit(token);
                }
            }
        }
        if let Some(next) = self.next_place() {
            return next.allowed(vocabulary, emit);
        }
        Allowed::Listed
    }

    /// Takes the token that was sampled. False, and nothing changes, if it was not allowed.
    pub fn push(&mut self, token: u32, vocabulary: &impl Vocabulary) -> bool {
        let special = self.rules.special;
        let mut is_listed = false;
        self.special_tokens(&mut |listed| is_listed |= listed == token);
        if is_listed {
            let place = match token {
                _ if token == special.start => Place::Role,
                _ if token == special.channel => Place::Channel,
                _ if token == special.constrain => Place::Constrained,
                _ if token == special.message => Place::Content,
                _ => Place::Between,
            };
            if place == Place::Role {
                *self = Self::new(self.rules);
            }
            self.enter(place);
            return true;
        }
        let Some(bytes) = vocabulary.token_bytes(token).filter(|bytes| !bytes.is_empty()) else {
            return self.next_place().is_some_and(|next| self.push_to(next, token, vocabulary));
        };
        if self.place == Place::Content {
            return true;
        }
        let fits = |&candidate: &usize| {
            let mut rest = self.bytes(candidate).skip(self.offset);
            self.is_possible(candidate) && bytes.iter().all(|&byte| rest.next() == Some(byte))
        };
        match (0..self.candidates()).find(fits) {
            Some(candidate) => {
                self.candidate = candidate;
                self.offset += bytes.len();
                true
            }
            None => self.next_place().is_some_and(|next| self.push_to(next, token, vocabulary)),
        }
    }

    fn push_to(&mut self, mut next: Self, token: u32, vocabulary: &impl Vocabulary) -> bool {
        let is_allowed = next.push(token, vocabulary);
        if is_allowed {
            *self = next;
        }
        is_allowed
    }

    fn enter(&mut self, place: Place) {
        (self.place, self.candidate, self.offset) = (place, 0, 0);
    }

    /// The special tokens that may come before any more text of this place.
    fn special_tokens(&self, emit: &mut dyn FnMut(u32)) {
        let special = &self.rules.special;
        if self.offset > 0 {
            return;
        }
        match self.place {
            Place::Role | Place::Channel | Place::Constrained => {}
            Place::BeforeChannel => {
                emit(special.channel);
                if !self.rules.channel_required && !self.needs_recipient() {
                    emit(special.constrain);
                    emit(special.message);
                }
            }
            Place::AfterChannel if self.needs_recipient() => {}
            Place::AfterChannel => {
                emit(special.constrain);
                emit(special.message);
            }
            Place::Blank => emit(special.constrain),
            Place::Typed => emit(special.message),
            Place::Content => {
                emit(special.call);
                if !self.has_recipient {
                    emit(special.end);
                }
                if self.has_recipient || !self.is_reasoning {
                    emit(special.return_);
                }
            }
            Place::Between => emit(special.start),
        }
    }

    /// What comes after the text of this place, if the text is complete.
    fn next_place(&self) -> Option<Self> {
        let is_complete =
            |&candidate: &usize| self.is_possible(candidate) && self.bytes(candidate).nth(self.offset).is_none();
        let complete = (self.offset > 0).then(|| (0..self.candidates()).find(is_complete)).flatten()?;
        let (prefix, name) = self.text(complete)?;
        let mut next = *self;
        let place = match self.place {
            Place::Role => Place::BeforeChannel,
            Place::Channel => {
                let has_more = self.rules.call_required || self.rules.channels.contains(&FINAL);
                next.is_reasoning = name == ANALYSIS && has_more;
                Place::AfterChannel
            }
            place if prefix == TO => {
                next.has_recipient = true;
                place
            }
            Place::Constrained => Place::Typed,
            _ if name.is_empty() => Place::Blank,
            _ => Place::Typed,
        };
        next.enter(place);
        Some(next)
    }

    /// How many texts may stand here. Some of them may be unusable.
    fn candidates(&self) -> usize {
        match self.place {
            Place::Role => 1,
            Place::Channel => self.rules.channels.len(),
            // Each with a blank before it and without.
            Place::Constrained => 2 * self.rules.content_types.len(),
            Place::BeforeChannel | Place::AfterChannel => {
                self.rules.recipients.len() + self.rules.content_types.len() + 1
            }
            Place::Blank | Place::Typed | Place::Content | Place::Between => 0,
        }
    }

    /// The text with this number.
    fn text(&self, candidate: usize) -> Option<Candidate<'g>> {
        let Rules { channels, recipients, content_types, channel_required, .. } = self.rules;
        let has_type = (self.place == Place::AfterChannel || !channel_required) && !self.needs_recipient();
        let text = match self.place {
            Place::Role => Some(("", Role::Assistant.name())),
            Place::Channel => channels.get(candidate).map(|&name| ("", name)),
            Place::Constrained => {
                content_types.get(candidate / 2).map(|&name| (if candidate.is_multiple_of(2) { "" } else { " " }, name))
            }
            _ => match (recipients.get(candidate), candidate.checked_sub(recipients.len())) {
                (Some(&name), _) => (!self.has_recipient).then_some((TO, name)),
                (None, Some(candidate)) if has_type => match content_types.get(candidate) {
                    Some(&name) => PLAIN_TYPES.contains(&name).then_some((" ", name)),
                    None => return Some((" ", "")),
                },
                _ => None,
            },
        };
        text.filter(|(_, name)| fits_header(name))
    }

    /// Whether a recipient has to come before the content.
    fn needs_recipient(&self) -> bool {
        self.rules.call_required && !self.has_recipient && !self.is_reasoning
    }

    fn bytes(&self, candidate: usize) -> impl Iterator<Item = u8> + use<'g> {
        let (prefix, name) = self.text(candidate).unwrap_or(("", ""));
        prefix.bytes().chain(name.bytes())
    }

    /// Whether the text begins as what has been written.
    fn is_possible(&self, candidate: usize) -> bool {
        self.text(candidate).is_some()
            && self.bytes(candidate).take(self.offset).eq(self.bytes(self.candidate).take(self.offset))
    }
}

/// Whether a header can hold this name: it has neither white space nor braces, and 1 to 256 bytes, so that with the
/// default channels and content types the parser keeps every header.
pub fn fits_header(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.contains(|c: char| c.is_whitespace() || "{}".contains(c))
}

/// The longest name in a header, in bytes.
const MAX_NAME: usize = 256;
/// Before a recipient.
const TO: &str = " to=";
/// The longest piece of a header that is looked up as one token, in bytes: no token of the published vocabulary is longer.
const MAX_TEXT: usize = 128;
