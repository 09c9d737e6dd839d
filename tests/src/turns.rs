//! Conversations with a fixture, and what is told of their turns.

use std::ops::Range;
use std::path::Path;

use ossicle_core::generation::{Event, Generation, GenerationConfig, MessageKind, StopReason, Turn, TurnConfig, Usage};
use ossicle_core::harmony::conversation::{Content, Message, Role, SystemContent};
use ossicle_core::harmony::history::History;
use ossicle_core::kernels::Kernels;
use ossicle_core::model::Model;
use ossicle_core::parallel::Alone;
use ossicle_core::tokenizer::Tokenizer;
use ossicle_core::transformer::{Precision, Progress, Session, SessionConfig};
use ossicle_host::Memory;

use crate::engine::with_gguf;
use crate::fixtures::Fixture;

/// Its kind, the tool that it calls, its text, and where its tokens are once it has ended.
pub type Heard = (MessageKind, Option<String>, String, Option<Range<usize>>);

/// What came of a turn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// In order.
    pub messages: Vec<Heard>,
    /// How many.
    pub diagnostics: usize,
    /// Once it is over.
    pub stop: Option<(StopReason, Usage)>,
    /// How many were told by themselves.
    pub tokens: usize,
}

impl Told {
    /// Takes an event.
    pub fn take(&mut self, event: Event<'_>) {
        assert!(self.stop.is_none(), "nothing comes after the end: {event:?}");
        match event {
            Event::MessageBegin { kind, header } => {
                self.messages.push((kind, header.recipient.map(str::to_owned), String::new(), None));
            }
            Event::Delta { kind, text } => {
                assert!(!text.is_empty());
                let message = self.messages.last_mut().expect("a message has begun");
                assert_eq!(message.0, kind);
                message.2.push_str(text);
            }
            Event::MessageEnd { kind, tokens } => {
                let message = self.messages.last_mut().expect("a message has begun");
                assert!(message.0 == kind && message.3.is_none());
                message.3 = Some(tokens);
            }
            Event::Diagnostic(_) => self.diagnostics += 1,
            Event::Stop { reason, usage } => self.stop = Some((reason, usage)),
            Event::Token { .. } => self.tokens += 1,
        }
    }

    /// Why the turn is over.
    pub fn reason(&self) -> StopReason {
        self.stop.expect("the turn is over").0
    }

    /// What it took.
    pub fn usage(&self) -> Usage {
        self.stop.expect("the turn is over").1
    }
}

/// A session with room for some turns, that drafts.
pub const SESSION: SessionConfig = SessionConfig {
    context_tokens: 1500,
    batch_tokens: 32,
    logits_rows: 9,
    rewind_tokens: 300,
    precision: Precision::Standard,
    cache: None,
    adapter_rank: 0,
};

/// A conversation on tiny-a.
pub fn with_generation<T>(
    session: (Kernels, &SessionConfig),
    history: History,
    work: impl FnOnce(&mut Generation<'_, '_>) -> T,
) -> T {
    with_generation_of(&Fixture::load("tiny-a").gguf, session, history, work)
}

/// A conversation on the model in a GGUF file.
pub fn with_generation_of<T>(
    path: &Path,
    (kernels, config): (Kernels, &SessionConfig),
    history: History,
    work: impl FnOnce(&mut Generation<'_, '_>) -> T,
) -> T {
    with_gguf(path, |model, tokenizer| with_generation_on((model, tokenizer), (kernels, config), history, work))
}

/// A conversation on a model that is open already.
pub fn with_generation_on<'a, T>(
    (model, tokenizer): (&'a Model<'a, '_>, Tokenizer<'a>),
    (kernels, config): (Kernels, &SessionConfig),
    history: History,
    work: impl FnOnce(&mut Generation<'_, '_>) -> T,
) -> T {
    let mut session_memory = Memory::new(Session::layout(model, config).expect("a layout")).expect("memory");
    let session = Session::new(session_memory.region(), model, kernels, config).expect("a session");
    let context_tokens = config.context_tokens;
    let config = GenerationConfig { messages: 64, history };
    let mut memory =
        Memory::new(Generation::layout(&tokenizer, context_tokens, &config).expect("a layout")).expect("memory");
    let mut generation = Generation::new(memory.region(), session, tokenizer, &config).expect("a generation");
    work(&mut generation)
}

/// A system message without the default's long text, which takes hundreds of tokens of the small vocabulary.
pub fn begin(generation: &mut Generation<'_, '_>) {
    let system = SystemContent { identity: Some("I"), knowledge_cutoff: None, ..SystemContent::default() };
    let (system, hello) = ([Content::System(system)], [Content::Text("Hello")]);
    let messages = [Message::new(Role::System, &system), user(&hello)];
    generation.append(&messages, &mut [0; 4096]).expect("room");
}

/// What the user says.
pub fn user<'a>(content: &'a [Content<'a>]) -> Message<'a> {
    Message::new(Role::User, content)
}

/// A turn from its beginning to its end.
pub fn turn(generation: &mut Generation<'_, '_>, config: TurnConfig<'_>) -> Told {
    let mut told = Told::default();
    let mut turn = Turn::new(generation, config).expect("a turn");
    turn.run(generation, &Alone, &mut |event| told.take(event)).expect("finite numbers");
    assert_eq!(turn.step(generation, &Alone, &mut |event| told.take(event)), Ok(Progress::Done));
    told
}
