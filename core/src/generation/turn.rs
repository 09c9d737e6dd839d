use core::ops::Range;

use crate::error::{Error, Result};
use crate::harmony::conversation::{ANALYSIS, CHANNELS, COMMENTARY, FINAL, PLAIN_TYPES, Role};
use crate::harmony::grammar::{Allowed, HeaderGrammar, Rules, fits_header};
use crate::harmony::history::Facts;
use crate::harmony::parse::{self, Diagnostic, Header, Parser, Stop};
use crate::parallel::Parallel;
use crate::sampling::{LogProbability, Sampler, SamplerConfig, log_sum_exp, top_log_probabilities};
use crate::tokenizer::Specials;
use crate::transformer::{DRAFT_TOKENS, FEW_LOGITS, Progress};

use super::constraint::{Constrained, Constraint};
use super::conversation::{Generation, Open, ones};
use super::stop_strings::StopStrings;

/// How one answer is to be written.
#[derive(Clone, Copy, Debug)]
pub struct TurnConfig<'t> {
    /// How tokens are drawn.
    pub sampler: SamplerConfig<'t>,
    /// Most tokens to write; 0 for as many as the context holds.
    pub max_tokens: usize,
    /// Tokens of reasoning after which the model is led on to its answer; 0 for no reasoning at all.
    pub reasoning_tokens: Option<usize>,
    /// Texts that end the turn, in an answer or what is told before calls. They are not told, but stay in the conversation as the
    /// model wrote them.
    pub stop: &'t [&'t str],
    /// The tools that may be called, by their full names: `functions.f`, `python`.
    pub recipients: &'t [&'t str],
    /// Whether the turn can end only with a call. Takes tools that may be called, and constrained headers.
    pub must_call: bool,
    /// The first tokens that the model writes, taken as they are instead of being drawn: how an answer is to begin, or all of
    /// one that was recorded.
    pub beginning: &'t [u32],
    /// Whether the model can write only headers that are well-formed, with known channels and tools. Costs nothing.
    pub constrain_headers: bool,
    /// Whether each token is told with its logarithmic probability, and with those of so many of the likeliest tokens. All logits
    /// are then computed for each token, even where few can come, or only one.
    pub log_probabilities: Option<usize>,
    /// Most tokens to draft, so that they are computed together with the one before them: what followed where the last
    /// tokens stood in the conversation before. The turn is the same, and takes fewer passes over the weights where the model
    /// repeats what was said. Bounded by the session's rows of logits and batch, less one; 0 drafts nothing.
    pub draft_tokens: usize,
}

impl Default for TurnConfig<'_> {
    fn default() -> Self {
        Self {
            sampler: SamplerConfig::default(),
            max_tokens: 0,
            reasoning_tokens: None,
            stop: &[],
            recipients: &[],
            must_call: false,
            beginning: &[],
            constrain_headers: true,
            log_probabilities: None,
            draft_tokens: DRAFT_TOKENS,
        }
    }
}

impl TurnConfig<'_> {
    /// Refuses what no turn can have, whatever the conversation.
    ///
    /// # Errors
    /// [`Error::Setting`] if a number is outside its range, if no tool can be called where one must be, or if there are
    /// constraints and free headers, which could go around them.
    pub fn check(&self, has_constraints: bool) -> Result<()> {
        let demand = |holds: bool, name, expected| if holds { Ok(()) } else { Err(Error::Setting { name, expected }) };
        Sampler::new(self.sampler)?;
        StopStrings::new(self.stop)?;
        let can_tell = self.log_probabilities.is_none_or(|count| count <= TOP_MAX);
        demand(can_tell, "log_probabilities", "a number from 0 to 20")?;
        let can_call = self.recipients.iter().any(|name| fits_header(name)) && self.constrain_headers;
        let expected = "tools to call, by names that a header can hold, and constrained headers";
        demand(!self.must_call || can_call, "must_call", expected)?;
        demand(!has_constraints || self.constrain_headers, "constrain_headers", "true where there are constraints")
    }
}

/// What a message is, to those who read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// The model thinking, or inventing what others say. Not for end users: it was never trained to be safe to show.
    Reasoning,
    /// Told to the user before tools are called.
    Preamble,
    /// The answer.
    Answer,
    /// A call; its text is the argument.
    ToolCall,
}

impl MessageKind {
    /// Of a message that the model wrote.
    fn of(header: &Header<'_>) -> Self {
        match (header.recipient, header.channel) {
            // What it invents for others is nothing that it says or calls.
            _ if header.role != Role::Assistant => Self::Reasoning,
            (Some(recipient), _) if !["all", "user", "assistant"].contains(&recipient) => Self::ToolCall,
            (_, Some(COMMENTARY)) => Self::Preamble,
            (_, Some(FINAL) | None) => Self::Answer,
            // A channel that nobody knows is not shown to users either.
            (_, Some(_)) => Self::Reasoning,
        }
    }
}

/// What happens while the model writes. Texts are lent for the moment.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'e> {
    /// A token was drawn. Only if [`TurnConfig::log_probabilities`] asks for it.
    Token {
        /// It, and the logarithm of its probability.
        drawn: LogProbability,
        /// The likeliest tokens, the best first.
        top: &'e [LogProbability],
    },
    /// A message begins.
    MessageBegin {
        /// What it is.
        kind: MessageKind,
        /// Its header, which names the tool that is called.
        header: Header<'e>,
    },
    /// The next part of its text.
    Delta {
        /// What the message is.
        kind: MessageKind,
        /// Not empty.
        text: &'e str,
    },
    /// The message is over.
    MessageEnd {
        /// What it was.
        kind: MessageKind,
        /// Where it lies among [`Generation::tokens`], without `<|start|>` and the token that ended it.
        tokens: Range<usize>,
    },
    /// The model wrote something out of order.
    Diagnostic(Diagnostic),
    /// The turn is over.
    Stop {
        /// Why.
        reason: StopReason,
        /// What it took.
        usage: Usage,
    },
}

/// Why a turn is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model has said all.
    Finished,
    /// A tool is called: append what it answers, and begin the next turn.
    ToolCall,
    /// A stop string.
    StopString,
    /// [`TurnConfig::max_tokens`].
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// [`Turn::cancel`].
    Cancelled,
}

/// Tokens that a turn took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In the prompt.
    pub input_tokens: usize,
    /// Of these, how many the session held already.
    pub cached_tokens: usize,
    /// Written.
    pub output_tokens: usize,
    /// Of these, how many were reasoning.
    pub reasoning_tokens: usize,
}

impl core::ops::Add for Usage {
    type Output = Self;

    /// What several turns took.
    fn add(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens + other.input_tokens,
            cached_tokens: self.cached_tokens + other.cached_tokens,
            output_tokens: self.output_tokens + other.output_tokens,
            reasoning_tokens: self.reasoning_tokens + other.reasoning_tokens,
        }
    }
}

/// One answer of the model.
pub struct Turn<'t> {
    config: TurnConfig<'t>,
    sampler: Sampler<'t>,
    parser: Parser,
    grammar: Option<HeaderGrammar<'t>>,
    rules: Rules<'t>,
    output: Output<'t>,
    constraints: &'t mut [Constraint<'t>],
    /// Which of them the message being written keeps to.
    constrained: Option<usize>,
    /// How many tokens the generation's mask allows, once it is that of the next token.
    allowed: Option<usize>,
    usage: Usage,
    /// Whether the turn is over.
    over: bool,
    /// The version of the conversation that it belongs to.
    version: u64,
}

/// What becomes of the parser's events.
struct Output<'t> {
    stop: StopStrings<'t>,
    /// The message being written.
    kind: Option<MessageKind>,
    /// What decides whether that stays in the conversation.
    facts: Facts,
    /// Where it begins, for the parser.
    first_token: u64,
    /// A message has ended in this token: what it was.
    ended: Option<MessageKind>,
    stopped: bool,
}

/// The channels of a turn: without reasoning once all of it is spent, without answers where a tool must be called.
fn channels(may_reason: bool, must_call: bool) -> &'static [&'static str] {
    match (may_reason, must_call) {
        (true, false) => &CHANNELS,
        (true, true) => &[ANALYSIS, COMMENTARY],
        (false, false) => &[COMMENTARY, FINAL],
        (false, true) => &[COMMENTARY],
    }
}

impl<'t> Turn<'t> {
    /// Begins an answer: the prompt is the conversation, and the beginning of a message of the assistant.
    ///
    /// # Errors
    /// [`Error::Setting`] if a number is outside its range, or no tool can be called where one must be; [`Error::Capacity`] if
    /// the context is full. The conversation is as before, besides an unfinished message that is ended.
    pub fn new(generation: &mut Generation<'_, '_>, config: TurnConfig<'t>) -> Result<Self> {
        config.check(false)?;
        let sampler = Sampler::new(config.sampler)?;
        let stop = StopStrings::new(config.stop)?;
        generation.close()?;
        generation.version += 1;
        let begin = generation.tokens().len();
        generation.open = Some(Open { begin, facts: None });
        let mut fits = generation.push(generation.special.start);
        let tokenizer = generation.tokenizer;
        tokenizer.encode(Role::Assistant.name(), Specials::None, |token| {
            if fits.is_ok() {
                fits = generation.push(token);
            }
        });
        if fits.is_err() {
            generation.close()?;
        }
        fits?;
        let input_tokens = generation.tokens().len();
        if generation.session.position() >= input_tokens {
            // The logits after the last token are needed, so that one is computed again.
            generation.rewind_to(input_tokens - 1);
        }
        generation.will_return();
        let usage = Usage { input_tokens, cached_tokens: generation.session.position(), ..Usage::default() };
        let rules = Rules {
            special: generation.special,
            channels: channels(config.reasoning_tokens != Some(0), config.must_call),
            channel_required: true,
            call_required: config.must_call,
            recipients: config.recipients,
            content_types: &PLAIN_TYPES,
        };
        Ok(Self {
            sampler,
            parser: Parser::new(generation.special, Some(Role::Assistant)),
            grammar: config.constrain_headers.then(|| HeaderGrammar::new(rules)),
            rules,
            output: Output { stop, kind: None, facts: Facts::default(), first_token: 0, ended: None, stopped: false },
            constraints: &mut [],
            constrained: None,
            allowed: None,
            usage,
            over: false,
            version: generation.version,
            config,
        })
    }

    /// The same turn, whose messages keep to `constraints`: of several for a message, to the first. They are armed by the
    /// `<|message|>` of its header; the message can then end only where its mask says so. With one for the answer the turn
    /// ends with one answer. If it ends for another reason than [`StopReason::Finished`] or [`StopReason::ToolCall`], the
    /// message is not complete.
    ///
    /// # Errors
    /// [`Error::Setting`] without [`TurnConfig::constrain_headers`]. The turn has begun by then: [`TurnConfig::check`] tells
    /// before.
    pub fn with_constraints(mut self, constraints: &'t mut [Constraint<'t>]) -> Result<Self> {
        self.config.check(!constraints.is_empty())?;
        self.constraints = constraints;
        Ok(self)
    }

    /// What the turn has taken so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// A bounded piece of work: one layer of a batch, or drawing one token. Once the turn is over, [`Progress::Done`].
    ///
    /// # Errors
    /// [`Error::NotFinite`] and [`Error::Read`] as [`crate::transformer::Session::step`], and [`Error::State`] of it: the turn can be
    /// stepped again, or cancelled. [`Error::State`] also if no token is allowed, or not that of [`TurnConfig::beginning`], or if the conversation has changed
    /// since the turn began. [`Error::Mask`] of a mask. A mask that allows nothing or fails is asked again by the next step.
    pub fn step(
        &mut self,
        generation: &mut Generation<'_, '_>,
        parallel: &dyn Parallel,
        emit: &mut dyn FnMut(Event<'_>),
    ) -> Result<Progress> {
        if self.over {
            return Ok(Progress::Done);
        }
        if self.version != generation.version {
            return Err(Error::State("the turn that the conversation was left with"));
        }
        if self.allowed.is_none() {
            if let Some(reason) = self.stop_reason(generation) {
                return Ok(self.end(generation, reason, emit));
            }
            if self.must_answer() {
                self.lead_to_answer(generation, emit)?;
                return Ok(Progress::More);
            }
            self.find_allowed(generation)?;
            // What can only be one token takes no pass of its own.
            if let Some(token) = self.only_allowed(generation) {
                self.sampler.pass_over();
                return self.accept(generation, token, emit);
            }
        }
        match generation.session.step(parallel) {
            Ok(Progress::More) => return Ok(Progress::More),
            Ok(Progress::Done) => {}
            // The tokens of the conversation by themselves may have finite numbers.
            Err(error) if !matches!(error, Error::State(_)) && generation.drop_draft()? => return Ok(Progress::More),
            Err(error) => return Err(error),
        }
        if !generation.take_in() {
            let left = self.tokens_left();
            // Probabilities are told among all tokens.
            let are_few = self.allowed.is_some_and(|count| (1..=FEW_LOGITS).contains(&count))
                && self.config.log_probabilities.is_none();
            // As many as are drawn before the last.
            generation.start_batch(self.config.draft_tokens.min(left.saturating_sub(1)), are_few)?;
            return Ok(Progress::More);
        }
        let token = self.draw(generation, emit)?;
        self.accept(generation, token, emit)
    }

    /// Steps the turn to its end.
    ///
    /// # Errors
    /// As [`Turn::step`].
    pub fn run(
        &mut self,
        generation: &mut Generation<'_, '_>,
        parallel: &dyn Parallel,
        emit: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        while self.step(generation, parallel, emit)? == Progress::More {}
        Ok(())
    }

    /// Ends the turn where it is. What was written stays in the conversation.
    pub fn cancel(&mut self, generation: &mut Generation<'_, '_>, emit: &mut dyn FnMut(Event<'_>)) {
        if !self.over && self.version == generation.version {
            self.end(generation, StopReason::Cancelled, emit);
        }
    }

    /// Why no further token can be written, if so.
    fn stop_reason(&self, generation: &Generation<'_, '_>) -> Option<StopReason> {
        // A token and the one that ends its message; and that message.
        if generation.room() < 2 || generation.messages_room() < 2 {
            return Some(StopReason::ContextFull);
        }
        (self.tokens_left() == 0).then_some(StopReason::MaxTokens)
    }

    /// How many tokens may still be written.
    fn tokens_left(&self) -> usize {
        match self.config.max_tokens {
            0 => usize::MAX,
            most => most.saturating_sub(self.usage.output_tokens),
        }
    }

    /// Makes the generation's mask that of the next token, which can be known before its logits are.
    fn find_allowed(&mut self, generation: &mut Generation<'_, '_>) -> Result<()> {
        let Generation { mask, ordinary, tokenizer, special, .. } = generation;
        let list = |mask: &mut [u32], token: u32| {
            if let Some(word) = mask.get_mut(token as usize / 32) {
                *word |= 1 << (token % 32);
            }
        };
        mask.fill(0);
        let has_answer = self.constraints.iter().any(|constraint| constraint.on == Constrained::Answer);
        let mut may_end = true;
        // What is taken as it is can be a token that is banned from being drawn.
        let biases = if self.is_given() { &[] } else { self.config.sampler.logit_bias };
        let drop_banned = |mask: &mut [u32]| {
            for (token, _) in biases.iter().filter(|(_, bias)| *bias == f32::NEG_INFINITY) {
                if let Some(word) = mask.get_mut(*token as usize / 32) {
                    *word &= !(1 << (token % 32));
                }
            }
        };
        if let Some(constraint) = self.constrained.and_then(|index| self.constraints.get_mut(index)) {
            let keep_ordinary = |mask: &mut [u32]| {
                mask.iter_mut().zip(&**ordinary).for_each(|(word, ordinary)| *word &= ordinary);
            };
            let is_empty = |mask: &[u32]| mask.iter().all(|word| *word == 0);
            may_end = constraint.mask.allowed(mask)?;
            keep_ordinary(mask);
            let allows_none = is_empty(mask);
            drop_banned(mask);
            if !may_end && !allows_none && is_empty(mask) {
                may_end = constraint.mask.all_allowed(mask)?;
                keep_ordinary(mask);
            }
        }
        let is_answer = self.output.kind == Some(MessageKind::Answer);
        // The turn goes on until it has an answer, and not beyond.
        let may_end_with = |token: u32| match self.constrained {
            _ if !has_answer => may_end,
            Some(_) if is_answer => may_end && token == special.return_,
            Some(_) => may_end,
            None => token != special.return_ || self.output.kind == Some(MessageKind::ToolCall),
        };
        let list = |mask: &mut [u32], token: u32| {
            if may_end_with(token) {
                list(mask, token);
            }
        };
        let allowed = match &self.grammar {
            Some(grammar) => grammar.allowed(&*tokenizer, &mut |token| list(mask, token)),
            None => {
                special.names().iter().for_each(|(token, _)| list(mask, *token));
                Allowed::ListedAndOrdinary
            }
        };
        if allowed == Allowed::ListedAndOrdinary && self.constrained.is_none() {
            mask.iter_mut().zip(&**ordinary).for_each(|(word, ordinary)| *word |= ordinary);
        }
        drop_banned(mask);
        match mask.iter().map(|word| word.count_ones() as usize).sum::<usize>() {
            0 => Err(Error::State("at least one allowed token")),
            count => {
                self.allowed = Some(count);
                Ok(())
            }
        }
    }

    /// Whether the next token is one of the beginning's.
    fn is_given(&self) -> bool {
        self.usage.output_tokens < self.config.beginning.len()
    }

    /// The next token, if it is the only one that is allowed, and nobody wants to know more than that.
    fn only_allowed(&self, generation: &Generation<'_, '_>) -> Option<u32> {
        let is_told = self.config.log_probabilities.is_some() || self.is_given();
        ones(generation.mask).next().filter(|_| self.allowed == Some(1) && !is_told)
    }

    fn draw(&mut self, generation: &mut Generation<'_, '_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<u32> {
        let (mask, logits) = (&*generation.mask, generation.logits());
        let is_allowed = |token: u32| mask.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1);
        let token = match self.config.beginning.get(self.usage.output_tokens) {
            Some(&token) if is_allowed(token) => token,
            Some(_) => return Err(Error::State("a beginning of tokens that can come where they stand")),
            None => self.sampler.sample(logits, is_allowed)?,
        };
        if let Some(count) = self.config.log_probabilities {
            let mut top = [LogProbability::default(); TOP_MAX];
            let found = top_log_probabilities(logits, &mut top[..count]);
            let drawn = LogProbability { token, value: logits[token as usize] - log_sum_exp(logits) };
            emit(Event::Token { drawn, top: &top[..found] });
        }
        Ok(token)
    }

    /// Takes a token into the conversation.
    fn accept(
        &mut self,
        generation: &mut Generation<'_, '_>,
        token: u32,
        emit: &mut dyn FnMut(Event<'_>),
    ) -> Result<Progress> {
        let tokenizer = generation.tokenizer;
        let special = generation.special;
        if let Some(grammar) = &mut self.grammar {
            grammar.push(token, &tokenizer);
        }
        self.usage.output_tokens += 1;
        self.allowed = None;
        let in_content = self.output.kind;
        let open = generation.open.unwrap_or(Open { begin: generation.tokens().len(), facts: None });
        let written = generation.written(open);
        let (output, constraints, constrained) = (&mut self.output, &mut *self.constraints, &mut self.constrained);
        if let Some(constraint) = constrained.and_then(|index| constraints.get_mut(index))
            && !tokenizer.is_special(token)
        {
            constraint.mask.accept(token);
        }
        self.parser.push(token, &tokenizer, &mut |event| {
            match &event {
                parse::Event::Header(header) => {
                    *constrained = constraints.iter().position(|one| one.is_on(header.recipient, header.channel));
                    if let Some(constraint) = constrained.and_then(|index| constraints.get_mut(index)) {
                        constraint.mask.begin();
                    }
                }
                parse::Event::End(_) => *constrained = None,
                parse::Event::Content(_) | parse::Event::Diagnostic(_) => {}
            }
            output.take(event, written.clone(), emit);
        });
        if in_content == Some(MessageKind::Reasoning) && output.kind == in_content {
            self.usage.reasoning_tokens += 1;
        }

        let stops = [special.end, special.call, special.return_, special.end_of_text].contains(&token);
        let ended = self.output.ended.take();
        let calls = stops && ended == Some(MessageKind::ToolCall);
        if stops {
            // In the conversation a message that no tool has to answer ends with <|end|>, however the model ended it.
            generation.push(if calls { special.call } else { special.end })?;
        }
        let mut begin = open.begin;
        if stops || ended.is_some() {
            // What ended before it was a message is kept as it is.
            let facts = if ended.is_some() { self.output.facts } else { Facts::default() };
            generation.finish(begin, facts)?;
            begin = generation.tokens().len();
        }
        if !stops {
            generation.push(token)?;
        }
        generation.open = (!stops).then(|| Open { begin, facts: self.output.kind.map(|_| self.output.facts) });
        if self.output.stopped {
            return Ok(self.end(generation, StopReason::StopString, emit));
        }
        if calls {
            return Ok(self.end(generation, StopReason::ToolCall, emit));
        }
        let calls_nothing = token == special.call && ended != Some(MessageKind::Answer);
        if stops && token != special.end && !calls_nothing {
            return Ok(self.end(generation, StopReason::Finished, emit));
        }
        if stops
            && !self.is_given()
            && let Some(grammar) = &mut self.grammar
        {
            // Only the beginning of another message can follow.
            *grammar = HeaderGrammar::new(self.rules);
            self.accept_header(generation, &[special.start], Role::Assistant.name(), &[], emit)?;
        }
        Ok(Progress::More)
    }

    /// Takes a part of a header that is not drawn: special tokens, a text, and special tokens.
    fn accept_header(
        &mut self,
        generation: &mut Generation<'_, '_>,
        before: &[u32],
        text: &str,
        after: &[u32],
        emit: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let mut tokens = heapless::Vec::<u32, 32>::new();
        // A role and the name of a channel are a few tokens in any vocabulary.
        let mut put = |token| {
            let _ = tokens.push(token);
        };
        before.iter().copied().for_each(&mut put);
        generation.tokenizer.encode(text, Specials::None, &mut put);
        after.iter().copied().for_each(&mut put);
        for token in tokens {
            // One place is kept for the end of the message. Where there is no room for more, the turn ends before the next token.
            if generation.room() < 2 || self.tokens_left() == 0 {
                break;
            }
            self.accept(generation, token, emit)?;
        }
        Ok(())
    }

    /// Whether all reasoning that is granted has been spent.
    fn must_answer(&self) -> bool {
        let Some(budget) = self.config.reasoning_tokens.filter(|_| !self.is_given()) else { return false };
        let reasons = self.output.kind == Some(MessageKind::Reasoning);
        // Where tools can be called instead, the header grammar leaves the choice.
        let is_free = self.grammar.is_some() && !self.config.recipients.is_empty();
        let at_beginning = self.usage.output_tokens == 0 && !is_free;
        self.usage.reasoning_tokens >= budget && (reasons || budget == 0 && at_beginning)
    }

    /// Ends the reasoning, if there is some, and begins the answer, unless it must be a call. No more reasoning can come.
    fn lead_to_answer(&mut self, generation: &mut Generation<'_, '_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let special = generation.special;
        self.rules.channels = channels(false, self.config.must_call);
        if self.output.kind.is_some() {
            self.accept(generation, special.end, emit)?;
            if self.grammar.is_none() {
                self.accept_header(generation, &[special.start], Role::Assistant.name(), &[], emit)?;
            }
        }
        if self.config.must_call {
            // The header grammar leads on to a call.
            return Ok(());
        }
        self.accept_header(generation, &[special.channel], FINAL, &[special.message], emit)
    }

    fn end(
        &mut self,
        generation: &mut Generation<'_, '_>,
        reason: StopReason,
        emit: &mut dyn FnMut(Event<'_>),
    ) -> Progress {
        self.over = true;
        generation.forget_drafts();
        if let Some(open) = generation.open {
            let written = generation.written(open);
            let output = &mut self.output;
            // A header that was not completed is no message, neither here nor in the conversation, unless it is free and has text.
            let mut is_message = output.kind.is_some();
            if self.grammar.is_none() {
                self.parser.clone().finish(&mut |event| is_message |= matches!(event, parse::Event::Content(_)));
            }
            if is_message {
                self.parser.finish(&mut |event| output.take(event, written.clone(), emit));
                generation.open = Some(Open { facts: Some(output.facts), ..open });
            }
        }
        emit(Event::Stop { reason, usage: self.usage });
        Progress::Done
    }
}

/// Most of the likeliest tokens that can be told.
const TOP_MAX: usize = 20;

impl Output<'_> {
    /// `tokens` is the message that the event is about.
    fn take(&mut self, event: parse::Event<'_>, tokens: Range<usize>, emit: &mut dyn FnMut(Event<'_>)) {
        match event {
            parse::Event::Header(header) => {
                let kind = MessageKind::of(&header);
                self.kind = Some(kind);
                self.facts = Facts::of(header.role, header.recipient, header.channel);
                self.first_token = header.first_token;
                emit(Event::MessageBegin { kind, header });
            }
            parse::Event::Content(text) => {
                let Some(kind) = self.kind else { return };
                let mut delta = |text: &str| emit(Event::Delta { kind, text });
                match kind {
                    _ if self.stopped => {}
                    MessageKind::Answer | MessageKind::Preamble => self.stopped = self.stop.push(text, &mut delta),
                    MessageKind::Reasoning | MessageKind::ToolCall => delta(text),
                }
            }
            parse::Event::End(end) => {
                let Some(kind) = self.kind.take() else { return };
                self.stop.finish(&mut |text| emit(Event::Delta { kind, text }));
                // Words split off a header have no tokens of their own.
                if end.stop != Stop::EndOfInput && end.end_token != self.first_token {
                    self.ended = Some(kind);
                }
                emit(Event::MessageEnd { kind, tokens });
            }
            parse::Event::Diagnostic(diagnostic) => emit(Event::Diagnostic(diagnostic)),
        }
    }
}
