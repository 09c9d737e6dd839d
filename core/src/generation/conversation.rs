use core::mem::MaybeUninit;
use core::ops::Range;

use crate::error::{Error, Result};
use crate::harmony::SpecialTokens;
use crate::harmony::conversation::Message;
use crate::harmony::history::{Facts, Filter, History};
use crate::harmony::render::{Renderer, has_function_tools};
use crate::model::Adapter;
use crate::region::{Carver, Layout};
use crate::tokenizer::Tokenizer;
use crate::transformer::{Logits, Session, SessionConfig};

use super::draft::Drafter;
use super::lookup::Lookup;

/// How large a conversation is, and what happens to its past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationConfig {
    /// Most messages that the conversation can have.
    pub messages: usize,
    /// What happens to past reasoning.
    pub history: History,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        Self { messages: 1024, history: History::Documented }
    }
}

/// A conversation as tokens, and the session that has taken in the first of them.
pub struct Generation<'r, 'w> {
    pub(super) session: Session<'r, 'w>,
    pub(super) tokenizer: Tokenizer<'r>,
    pub(super) special: SpecialTokens,
    config: GenerationConfig,
    /// The conversation, and behind it what was drafted; the session holds as many of these as its position says.
    tokens: &'r mut [u32],
    len: usize,
    drafter: Drafter<'r>,
    /// Tokens of the batch under way that were drafted.
    drafted: usize,
    /// How many of the conversation's tokens the session would hold if none had ever been drafted.
    taken_in: usize,
    /// The most tokens that it would have begun to take in since it was empty.
    reached: usize,
    /// A place that is to be marked in the session once it is taken in.
    returns_to: Option<usize>,
    /// The finished messages, in order.
    messages: &'r mut [Finished],
    messages_len: usize,
    /// Changes whenever a turn begins or the conversation is changed by others than the model.
    pub(super) version: u64,
    /// The message that the model is writing.
    pub(super) open: Option<Open>,
    /// One bit for each token that stands for text.
    pub(super) ordinary: &'r [u32],
    /// One bit for each token that may come next.
    pub(super) mask: &'r mut [u32],
}

/// A finished message. It ends where the next begins.
#[derive(Clone, Copy, Default)]
pub(super) struct Finished {
    /// Where its `<|start|>` is, or its first token if that is missing.
    pub begin: usize,
    /// What decides whether it stays.
    pub facts: Facts,
}

/// A message that is not finished.
#[derive(Clone, Copy)]
pub(super) struct Open {
    /// Where its `<|start|>` is, or its first token if that is missing.
    pub begin: usize,
    /// What decides whether it stays, once its header is complete.
    pub facts: Option<Facts>,
}

impl<'r, 'w> Generation<'r, 'w> {
    /// What [`Generation::new`] takes, for a session of so many tokens.
    ///
    /// # Errors
    /// [`Error::RegionTooSmall`] if it is more than an address space.
    pub fn layout(tokenizer: &Tokenizer<'_>, context_tokens: usize, config: &GenerationConfig) -> Result<Layout> {
        let mut carver = Carver::measuring();
        Buffers::carve(&mut carver, tokenizer, context_tokens, config)?;
        Ok(carver.layout())
    }

    /// An empty conversation in an empty session.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] if the vocabulary has not the tokens of the format, or more tokens than the model;
    /// [`Error::State`] if the session holds tokens already; [`Error::RegionTooSmall`] and [`Error::RegionAlign`].
    pub fn new(
        region: &'r mut [MaybeUninit<u8>],
        session: Session<'r, 'w>,
        tokenizer: Tokenizer<'r>,
        config: &GenerationConfig,
    ) -> Result<Self> {
        let (ids, rows) = (tokenizer.vocabulary_len(), session.model().config().vocabulary);
        if ids > rows {
            let expected = "no more tokens than the model has rows";
            return Err(Error::Vocabulary { id: rows as u32, expected, found: ids as u64 });
        }
        if session.position() != 0 {
            return Err(Error::State("an empty session"));
        }
        let mut carver = Carver::placing(region)?;
        let buffers = Buffers::carve(&mut carver, &tokenizer, session.config().context_tokens, config)?;
        for id in (0..ids).filter(|id| {
            let id = *id as u32;
            !tokenizer.is_special(id) && tokenizer.token_bytes(id).is_some_and(|bytes| !bytes.is_empty())
        }) {
            buffers.ordinary[id / 32] |= 1 << (id % 32);
        }
        Ok(Self {
            special: SpecialTokens::of(&tokenizer)?,
            drafter: Drafter::with(buffers.lookup, &session),
            drafted: 0,
            taken_in: 0,
            reached: 0,
            returns_to: None,
            session,
            tokenizer,
            config: *config,
            tokens: buffers.tokens,
            len: 0,
            messages: buffers.messages,
            messages_len: 0,
            version: 0,
            open: None,
            ordinary: buffers.ordinary,
            mask: buffers.mask,
        })
    }

    /// The tokens of the conversation.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens[..self.len]
    }

    /// The logits after the last token, while a turn is about to draw the next. Where few tokens can come, and no logarithmic
    /// probabilities are told, those of all others are negative infinity.
    pub fn logits(&self) -> &[f32] {
        let vocabulary = self.session.model().config().vocabulary;
        let logits = self.session.logits();
        let ahead = self.session.position().saturating_sub(self.len);
        let end = logits.len().saturating_sub(ahead * vocabulary);
        &logits[end.saturating_sub(vocabulary)..end]
    }

    /// The session. It may be some drafted tokens ahead of the conversation.
    pub fn session(&self) -> &Session<'r, 'w> {
        &self.session
    }

    /// Goes on with these adapters, as [`Session::adapt`] says; the conversation stays, and is computed anew in the next turn,
    /// unless they are the same as before. A turn under way is over.
    ///
    /// # Errors
    /// As [`Session::adapt`]; [`Error::Capacity`] if what the model was saying cannot be ended for want of room.
    pub fn adapt(&mut self, adapters: &[(Adapter<'r>, f32)]) -> Result<()> {
        self.session.demand_fit(adapters)?;
        self.close()?;
        self.version += 1;
        self.session.adapt(adapters)?;
        if self.session.position() == 0 {
            (self.taken_in, self.reached) = (0, 0);
        }
        Ok(())
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer<'r> {
        &self.tokenizer
    }

    /// The tokens that give the format its structure.
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// Adds messages at the end: at first the system's and developer's, together, since the system message mentions
    /// function tools; later what the user says and tools answer. What the model wrote is there already. A turn under way
    /// is over. `scratch` is memory to put texts together in, see [`Generation::scratch_size`].
    ///
    /// # Errors
    /// [`Error::Render`] if a message cannot be rendered or `scratch` is too small; [`Error::Token`] if one of a message's own
    /// tokens is none of the model's; [`Error::Capacity`] if the context or the list of messages is full. The conversation is
    /// as before, but where room is short without the reasoning that the history has no place for.
    pub fn append(&mut self, messages: &[Message<'_>], scratch: &mut [u8]) -> Result<()> {
        self.close()?;
        let mut added = self.add(messages, scratch);
        if matches!(added, Err(Error::Capacity { .. })) {
            let count = self.messages_len;
            self.drop_reasoning();
            if self.messages_len < count {
                added = self.add(messages, scratch);
            }
        }
        added?;
        self.drop_reasoning();
        Ok(())
    }

    /// Writes all of the messages at the end, or none.
    fn add(&mut self, messages: &[Message<'_>], scratch: &mut [u8]) -> Result<()> {
        let before = (self.len, self.messages_len);
        let written = self.write(messages, scratch, |_, _| true);
        if written.is_err() {
            (self.len, self.messages_len) = before;
        }
        written
    }

    /// Bytes of memory to put texts together in that [`Generation::append`] and [`Generation::replace`] take for these messages.
    ///
    /// # Errors
    /// [`Error::Render`] if a message cannot be rendered.
    pub fn scratch_size(&self, messages: &[Message<'_>]) -> Result<usize> {
        let mut renderer = Renderer::new(&self.tokenizer, self.special);
        // What is appended is written before it is known what stays.
        renderer.history = History::KeepAll;
        renderer.scratch_size(messages)
    }

    /// Makes `messages` the whole conversation. A turn under way is over. What the session holds of it already is not computed again.
    ///
    /// # Errors
    /// As [`Generation::append`]; the conversation is then empty.
    pub fn replace(&mut self, messages: &[Message<'_>], scratch: &mut [u8]) -> Result<()> {
        self.forget_drafts();
        self.open = None;
        (self.len, self.messages_len) = (0, 0);
        let filter = Filter::over(self.config.history, messages.iter().map(Facts::of_message));
        let written = self.write(messages, scratch, |index, facts| filter.keeps(index, facts));
        if written.is_err() {
            (self.len, self.messages_len) = (0, 0);
        }
        // Tokens that the session holds beyond the new end are gone from it too.
        self.rewind_to(self.len);
        written
    }

    /// Where each finished message begins among the tokens, in order, and at last where the latest ends.
    pub fn boundaries(&self) -> impl ExactSizeIterator<Item = usize> {
        let end = self.open.map_or(self.len, |open| open.begin);
        (0..self.messages_len + 1).map(move |index| self.finished().get(index).map_or(end, |message| message.begin))
    }

    /// Goes back to where the conversation had only its first `messages` messages. A turn under way is over. If the windowed layers
    /// no longer hold what is visible from there, the next turn computes it again.
    ///
    /// # Errors
    /// [`Error::State`] if it has not so many. All is as before.
    pub fn rewind(&mut self, messages: usize) -> Result<()> {
        let end = self.boundaries().nth(messages).ok_or(Error::State("as many messages as are finished"))?;
        self.forget_drafts();
        self.version += 1;
        self.open = None;
        (self.len, self.messages_len) = (end, messages);
        self.rewind_to(end);
        self.drafter.cut(end);
        Ok(())
    }

    fn write(
        &mut self,
        messages: &[Message<'_>],
        scratch: &mut [u8],
        keeps: impl Fn(usize, Facts) -> bool,
    ) -> Result<()> {
        self.version += 1;
        let tokenizer = self.tokenizer;
        let mut renderer = Renderer::new(&tokenizer, self.special);
        renderer.history = self.config.history;
        let function_tools = has_function_tools(messages);
        let vocabulary = self.session.model().config().vocabulary;
        for (index, message) in messages.iter().enumerate() {
            let facts = Facts::of_message(message);
            if !keeps(index, facts) {
                continue;
            }
            let mut own = message.own_tokens.iter().flat_map(|own| own.tokens).enumerate();
            if let Some((index, &token)) = own.find(|(_, token)| **token as usize >= vocabulary) {
                return Err(Error::Token { index, token, vocabulary });
            }
            let begin = self.len;
            let mut overflow = 0;
            renderer.render_message(index, message, function_tools, scratch, &mut |token| {
                overflow += usize::from(!self.put(token));
            })?;
            if overflow > 0 {
                let have = self.tokens.len();
                return Err(Error::Capacity { what: "tokens in the context", need: self.len + overflow, have });
            }
            self.finish(begin, facts)?;
        }
        Ok(())
    }

    /// Adds a token, and forgets what the session held in its place, unless that was the same. False if there is no room.
    fn put(&mut self, token: u32) -> bool {
        if self.len == self.tokens.len() {
            return false;
        }
        if self.tokens[self.len] != token {
            self.rewind_to(self.len);
            self.drafter.cut(self.len);
        }
        self.tokens[self.len] = token;
        self.len += 1;
        true
    }

    /// Adds a token that the model wrote or would have written.
    pub(super) fn push(&mut self, token: u32) -> Result<()> {
        if self.put(token) {
            self.drafter.observe(&self.tokens[..self.len]);
            return Ok(());
        }
        Err(Error::Capacity { what: "tokens in the context", need: self.len + 1, have: self.tokens.len() })
    }

    /// The session has done what it was to do. Returns whether the logits after the last token are there.
    pub(super) fn take_in(&mut self) -> bool {
        if self.session.position() < self.len && core::mem::take(&mut self.drafted) > 0 {
            // More was written than came true, so it is taken in from where it would be without drafts.
            self.rewind_to(self.taken_in);
        }
        self.taken_in = self.session.position().min(self.len);
        self.reached = self.reached.max(self.taken_in);
        self.mark_return();
        self.taken_in == self.len
    }

    /// Lets the session begin with the tokens that it has not taken in, as many as a batch holds; if these are all, with up
    /// to `draft_tokens` that may follow. Where none is drafted, the logits may be only those of the tokens in the mask, if these
    /// `are_few`.
    pub(super) fn start_batch(&mut self, draft_tokens: usize, are_few: bool) -> Result<()> {
        self.drafted = 0;
        let begin = self.session.position();
        let end = self.len.min(begin + self.session.config().batch_tokens);
        self.reached = self.reached.max(end);
        if end < self.len {
            return self.session.start(&self.tokens[begin..end], Logits::None);
        }
        let most = draft_tokens
            .min(self.most_drafted())
            .min(begin + self.session.config().batch_tokens - end)
            // Where the turn draws its last token.
            .min(self.room().saturating_sub(2));
        if most > 0 {
            self.drafted = self.drafter.draft(self.tokens, self.len, most);
        }
        let tokens = &self.tokens[begin..end + self.drafted];
        if are_few && self.drafted == 0 {
            return self.session.start_few(tokens, ones(self.mask));
        }
        self.session.start(tokens, Logits::Tail(1 + self.drafted))
    }

    /// A batch has the token before the drafted ones too, and each of them its logits.
    fn most_drafted(&self) -> usize {
        let SessionConfig { batch_tokens, logits_rows, .. } = *self.session.config();
        batch_tokens.min(logits_rows).saturating_sub(1)
    }

    /// Begins the batch again without what was drafted. False if there was nothing.
    pub(super) fn drop_draft(&mut self) -> Result<bool> {
        let had_draft = core::mem::take(&mut self.drafted) > 0;
        if had_draft {
            self.start_batch(0, false)?;
        }
        Ok(had_draft)
    }

    /// Where a message under way lies so far, without its `<|start|>`, which may be missing.
    pub(super) fn written(&self, open: Open) -> Range<usize> {
        let has_start = self.tokens().get(open.begin) == Some(&self.special.start);
        open.begin + usize::from(has_start)..self.len
    }

    /// How many more tokens there is room for.
    pub(super) fn room(&self) -> usize {
        self.tokens.len() - self.len
    }

    /// How many more messages there is room for.
    pub(super) fn messages_room(&self) -> usize {
        self.messages.len() - self.messages_len
    }

    /// The finished messages, in order.
    pub(super) fn finished(&self) -> &[Finished] {
        &self.messages[..self.messages_len]
    }

    /// How many messages the conversation can have.
    pub(super) fn messages_capacity(&self) -> usize {
        self.messages.len()
    }

    /// How many of the conversation's tokens the session would hold if none had ever been drafted.
    pub(super) fn taken_in(&self) -> usize {
        self.taken_in
    }

    /// The conversation is these tokens, and the session has taken in as many of them as its position says. No message has begun.
    ///
    /// # Panics
    /// If there is no room for so many.
    pub(super) fn begin_anew(&mut self, tokens: impl ExactSizeIterator<Item = u32>) {
        self.drafter.cut(0);
        self.open = None;
        (self.len, self.messages_len) = (tokens.len(), 0);
        self.tokens[..self.len].iter_mut().zip(tokens).for_each(|(place, token)| *place = token);
        self.taken_in_anew();
    }

    /// The session was given what it holds, and no turn that was under way goes on.
    pub(super) fn taken_in_anew(&mut self) {
        self.version += 1;
        self.taken_in = self.session.position();
        self.reached = self.taken_in;
    }

    /// The message that began at `begin` is finished.
    pub(super) fn finish(&mut self, begin: usize, facts: Facts) -> Result<()> {
        let have = self.messages.len();
        let place = self.messages.get_mut(self.messages_len).ok_or(Error::Capacity {
            what: "messages in the conversation",
            need: have + 1,
            have,
        })?;
        *place = Finished { begin, facts };
        self.messages_len += 1;
        Ok(())
    }

    /// Ends a message that the model left unfinished, or takes it back if not even its header was complete.
    pub(super) fn close(&mut self) -> Result<()> {
        self.forget_drafts();
        match self.open {
            Some(Open { begin, facts: Some(facts) }) => {
                // Where the list is full, nothing is done.
                if self.messages_room() > 0 {
                    self.push(self.special.end)?;
                }
                self.finish(begin, facts)?;
            }
            Some(Open { begin, facts: None }) => {
                self.len = begin;
                self.rewind_to(begin);
            }
            None => {}
        }
        self.open = None;
        Ok(())
    }

    /// Takes out the reasoning that the history has no place for.
    fn drop_reasoning(&mut self) {
        let facts = self.messages[..self.messages_len].iter().map(|message| message.facts);
        let filter = Filter::over(self.config.history, facts);
        let (mut kept, mut len) = (0, 0);
        for index in 0..self.messages_len {
            let message = self.messages[index];
            let end = self.messages[..self.messages_len].get(index + 1).map_or(self.len, |next| next.begin);
            if !filter.keeps(index, message.facts) {
                if kept == index {
                    self.rewind_to(message.begin);
                    self.drafter.cut(message.begin);
                }
                continue;
            }
            self.tokens.copy_within(message.begin..end, len);
            self.messages[kept] = Finished { begin: len, ..message };
            kept += 1;
            len += end - message.begin;
        }
        self.messages_len = kept;
        self.len = len;
    }

    /// The session goes back to a position if it is beyond it, or to a place before it if its windows no longer reach so far, or
    /// would not if all that can be drafted had been: what is computed again does not depend on it. A batch under way there
    /// is given up.
    pub(super) fn rewind_to(&mut self, position: usize) {
        if position >= self.session.position() {
            return;
        }
        self.session.cancel();
        // Only what was drafted lies beyond what was taken in, and there is always a way back from it.
        let is_lost = position < self.taken_in && position < self.earliest();
        if is_lost || self.session.rewind(position).is_err() {
            self.session.return_before(position);
            self.reached = self.session.position();
        }
        if self.session.position() == 0 {
            self.reached = 0;
        }
        self.taken_in = self.taken_in.min(self.session.position());
    }

    /// The lowest position besides 0 that the session could go back to if all that can be drafted had been.
    fn earliest(&self) -> usize {
        let farthest = (self.reached + self.most_drafted()).min(self.tokens.len());
        self.session.earliest_from(farthest)
    }

    /// Where an answer that begins now leads back to, once it is given and the reasoning before it is taken out: where the first
    /// begins that is still there, or the answer.
    pub(super) fn will_return(&mut self) {
        let answer = Facts { by_assistant: true, is_final: true, ..Facts::default() };
        let facts = self.finished().iter().map(|message| message.facts);
        let filter = Filter::over(self.config.history, facts.chain([answer]));
        let mut finished = self.finished().iter().enumerate();
        let reasoning = finished.find(|(index, message)| !filter.keeps(*index, message.facts));
        let end = self.open.map_or(self.len, |open| open.begin);
        let place = reasoning.map_or(end, |(_, message)| message.begin);
        self.returns_to = Some(place).filter(|place| self.session.marked() != Some(*place));
        self.mark_return();
    }

    /// Marks the place as soon as the session has passed it.
    fn mark_return(&mut self) {
        if let Some(place) = self.returns_to.take_if(|place| *place <= self.taken_in)
            && place >= self.earliest()
        {
            self.session.mark(place);
        }
    }

    /// What was drafted counts no longer, though it may have come true: what the next turn finds in the session does not
    /// depend on it.
    pub(super) fn forget_drafts(&mut self) {
        self.session.cancel();
        self.rewind_to(self.taken_in);
    }
}

/// The tokens of a mask, in ascending order.
pub(super) fn ones(mask: &[u32]) -> impl Iterator<Item = u32> {
    (0..).step_by(32).zip(mask).flat_map(|(first, word)| {
        let mut word = *word;
        core::iter::from_fn(move || {
            let bit = (word != 0).then(|| word.trailing_zeros())?;
            word &= word - 1;
            Some(first + bit)
        })
    })
}

struct Buffers<'r> {
    tokens: &'r mut [u32],
    lookup: Lookup<'r>,
    messages: &'r mut [Finished],
    ordinary: &'r mut [u32],
    mask: &'r mut [u32],
}

impl<'r> Buffers<'r> {
    fn carve(
        carver: &mut Carver<'r>,
        tokenizer: &Tokenizer<'_>,
        context_tokens: usize,
        config: &GenerationConfig,
    ) -> Result<Self> {
        let words = tokenizer.vocabulary_len().div_ceil(32);
        Ok(Self {
            tokens: carver.filled(context_tokens, 0)?,
            lookup: Lookup::carve(carver, context_tokens)?,
            messages: carver.filled(config.messages, Finished::default())?,
            ordinary: carver.filled(words, 0)?,
            mask: carver.filled(words, 0)?,
        })
    }
}
