//! A conversation turned into events: complete, separate, and never computed twice.

use ossicle_core::error::Error;
use ossicle_core::generation::{Constrained, Constraint, Generation, MessageKind, StopReason, Turn, TurnConfig};
use ossicle_core::harmony::SpecialTokens;
use ossicle_core::harmony::conversation::{Content, Message, OwnTokens, Role, SystemContent};
use ossicle_core::harmony::history::History;
use ossicle_core::harmony::parse::{self, Parser};
use ossicle_core::parallel::Alone;
use ossicle_core::sampling::{SamplerConfig, TokenMask};
use ossicle_core::transformer::{CacheFormat, Precision, SessionConfig};
use ossicle_host::vocabulary;
use ossicle_tests::engine::{all_logits, config, fastest, with_session};
use ossicle_tests::turns::{self, SESSION, Told, begin, turn, user};

/// A conversation on tiny-a, with this much past that can be gone back to.
fn with_generation<T>(history: History, work: impl FnOnce(&mut Generation<'_, '_>) -> T) -> T {
    turns::with_generation((fastest(), &SESSION), history, work)
}

fn seeded(seed: u64, max_tokens: usize) -> TurnConfig<'static> {
    TurnConfig { sampler: SamplerConfig { seed, ..SamplerConfig::default() }, max_tokens, ..TurnConfig::default() }
}

#[test]
fn headers_are_well_formed_and_every_message_is_told_whole() {
    for seed in 0..40 {
        with_generation(History::Documented, |generation| {
            begin(generation);
            let config = TurnConfig { recipients: &["functions.look", "python"], ..seeded(seed, 120) };
            let told = turn(generation, config);
            assert_eq!(told.diagnostics, 0, "{told:?}");
            assert!(told.messages.iter().all(|message| message.3.is_some()), "{told:?}");
            for (kind, recipient, text, tokens) in &told.messages {
                // What was told is what stands in the conversation.
                let range = tokens.clone().expect("an end");
                let tokens = &generation.tokens()[range];
                let mut bytes = Vec::new();
                let at = tokens.iter().position(|token| *token == generation.special().message).expect("a header");
                generation.tokenizer().decode(&tokens[at + 1..], |part| bytes.extend_from_slice(part));
                assert_eq!(String::from_utf8_lossy(&bytes), *text);
                assert_eq!(*kind == MessageKind::ToolCall, recipient.is_some());
            }
            let usage = told.usage();
            assert!(usage.reasoning_tokens <= usage.output_tokens && usage.output_tokens <= 120, "{usage:?}");
            assert_eq!(usage.cached_tokens, 0);
        });
    }
}

#[test]
fn without_the_grammar_nothing_fails_and_no_text_is_lost() {
    for seed in 0..40 {
        with_generation(History::Documented, |generation| {
            begin(generation);
            let told = turn(generation, TurnConfig { constrain_headers: false, ..seeded(seed, 100) });
            // What the parser finds in all that was written, read at once.
            let mut parser = Parser::new(*generation.special(), Some(Role::Assistant));
            let mut texts: Vec<String> = Vec::new();
            let mut take = |event: parse::Event<'_>| match event {
                parse::Event::Header(_) => texts.push(String::new()),
                parse::Event::Content(text) => texts.last_mut().expect("a header").push_str(text),
                parse::Event::End(_) | parse::Event::Diagnostic(_) => {}
            };
            for token in &generation.tokens()[told.usage().input_tokens..] {
                parser.push(*token, generation.tokenizer(), &mut take);
            }
            parser.finish(&mut take);
            // Of a header without text, in which the turn ended, nothing is told.
            texts.retain(|text| !text.is_empty());
            let told = told.messages.into_iter().map(|message| message.2).filter(|text| !text.is_empty());
            assert_eq!(told.collect::<Vec<_>>(), texts);
            begin(generation);
            turn(generation, seeded(seed, 10));
        });
    }
}

/// The session, after whatever happened, holds what a fresh one would of the same tokens.
fn assert_session_is_true(generation: &mut Generation<'_, '_>) {
    // With probabilities, so that all logits are computed, and none is passed over.
    let told = TurnConfig { log_probabilities: Some(0), ..seeded(0, 1) };
    let mut turn = Turn::new(generation, told).expect("a turn");
    while turn.usage().output_tokens == 0 {
        turn.step(generation, &Alone, &mut |_| {}).expect("finite numbers");
    }
    // The logits from which the first token was drawn are still there.
    let tokens = generation.tokens()[..turn.usage().input_tokens].to_vec();
    let model = generation.session().model();
    let cache = generation.session().config().cache;
    let config = SessionConfig { cache, ..config(SESSION.context_tokens, 100, Precision::Standard) };
    let fresh = with_session(model, fastest(), &config, |session| all_logits(session, &tokens, &Alone));
    let vocabulary = model.config().vocabulary;
    assert_eq!(generation.logits(), &fresh[fresh.len() - vocabulary..]);
    turn.cancel(generation, &mut |_| {});
}

#[test]
fn later_turns_compute_only_what_is_new() {
    with_generation(History::KeepAll, |generation| {
        begin(generation);
        let mut held = 0;
        for seed in 0..5 {
            let told = turn(generation, seeded(seed, 60));
            let usage = told.usage();
            assert!(usage.cached_tokens >= held, "{usage:?}");
            // All but the token drawn last, which was never taken in.
            held = usage.input_tokens + usage.output_tokens - 1;
            generation.append(&[user(&[Content::Text("And then?")])], &mut [0; 256]).expect("room");
        }
        assert!(generation.session().position() > 0);
        assert_session_is_true(generation);
    });
}

#[test]
fn old_reasoning_is_dropped_and_the_rest_stays_as_the_model_wrote_it() {
    let mut dropped = 0;
    for seed in 0..30 {
        with_generation(History::Documented, |generation| {
            begin(generation);
            let special = *generation.special();
            let told = turn(generation, TurnConfig { reasoning_tokens: Some(12), ..seeded(seed, 400) });
            let own: Vec<_> = told
                .messages
                .iter()
                .map(|message| (message.0, generation.tokens()[message.3.clone().expect("an end")].to_vec()))
                .collect();
            generation.append(&[user(&[Content::Text("More")])], &mut [0; 256]).expect("room");
            let holds = |tokens: &[u32]| generation.tokens().windows(tokens.len()).any(|window| window == tokens);
            let answer = own.iter().rposition(|(kind, _)| *kind == MessageKind::Answer);
            for (index, (kind, tokens)) in own.iter().enumerate() {
                let goes = *kind == MessageKind::Reasoning && answer.is_some_and(|answer| index < answer);
                assert_eq!(holds(tokens), !goes, "{kind:?} {told:?}");
                dropped += usize::from(goes);
            }
            assert!(!generation.tokens().contains(&special.return_), "history ends messages with <|end|>");
            assert_session_is_true(generation);
        });
    }
    assert!(dropped > 5, "the test must have dropped some");
}

#[test]
fn however_long_an_answer_was_its_prompt_is_not_computed_again() {
    let formats = [CacheFormat::F32, CacheFormat::F16, CacheFormat::Bf16, CacheFormat::Int8];
    let mut far = 0;
    for (seed, thoughts, has_called) in (0..24).flat_map(|seed| [(seed, 0, false), (seed, 2, false), (seed, 0, true)]) {
        let cache = Some(formats[seed as usize % formats.len()]);
        let session = SessionConfig { rewind_tokens: 1, cache, ..SESSION };
        turns::with_generation((fastest(), &session), History::Documented, |generation| {
            begin(generation);
            if has_called {
                // A call of a tool that is at hand stands where reasoning does, and stays.
                let by_model = |recipient, channel, content| {
                    let mut message = Message::new(Role::Assistant, content);
                    (message.recipient, message.channel) = (recipient, Some(channel));
                    message
                };
                let call = by_model(Some("python"), "analysis", &[Content::Text("1")]);
                let answer = by_model(None, "final", &[Content::Text("One")]);
                generation.append(&[call, answer, user(&[Content::Text("And?")])], &mut [0; 512]).expect("room");
                turn(generation, seeded(seed, 1));
                generation.append(&[user(&[Content::Text("Hello?")])], &mut [0; 256]).expect("room");
            }
            let prompt = generation.tokens().len();
            // Reasoning without an answer stays, until there is one.
            for number in 0..thoughts {
                turn(generation, seeded(seed + number, 30));
                generation.append(&[user(&[Content::Text("Go on")])], &mut [0; 256]).expect("room");
            }
            turn(generation, TurnConfig { reasoning_tokens: Some(12), ..seeded(seed, 400) });
            let written = generation.tokens().len() - prompt;
            generation.append(&[user(&[Content::Text("More")])], &mut [0; 256]).expect("room");
            let told = turn(generation, seeded(seed, 1));
            assert!(told.usage().cached_tokens >= prompt, "{seed} {thoughts}: {:?} of {prompt}", told.usage());
            let window = generation.session().model().config().window;
            far += usize::from(written > 2 * (window + SESSION.batch_tokens));
            assert_session_is_true(generation);
        });
    }
    assert!(far > 10, "answers must have been longer than what windows hold: {far}");
}

#[test]
fn a_spent_budget_leads_to_the_answer() {
    for budget in [0, 1, 7] {
        with_generation(History::Documented, |generation| {
            begin(generation);
            for seed in 0..8 {
                let told = turn(generation, TurnConfig { reasoning_tokens: Some(budget), ..seeded(seed, 60) });
                assert_eq!(told.diagnostics, 0);
                // The tokens that close the reasoning are its last.
                let reasoning = told.messages.iter().filter(|message| message.0 == MessageKind::Reasoning).count();
                assert!(told.usage().reasoning_tokens <= budget + reasoning, "{told:?}");
                if budget == 0 {
                    assert_eq!(told.messages[0].0, MessageKind::Answer, "{told:?}");
                    assert_eq!(reasoning, 0);
                }
            }
        });
    }
}

#[test]
fn a_tool_is_called_answered_and_the_model_goes_on() {
    let mut called = 0;
    for seed in 0..30 {
        with_generation(History::Documented, |generation| {
            begin(generation);
            let config = TurnConfig { recipients: &["functions.look"], ..seeded(seed, 200) };
            let told = turn(generation, config);
            if told.reason() != StopReason::ToolCall {
                return;
            }
            let Some((kind, recipient, ..)) = told.messages.last().cloned() else { return };
            if kind != MessageKind::ToolCall {
                return;
            }
            called += 1;
            assert_eq!(recipient.as_deref(), Some("functions.look"));
            assert_eq!(generation.tokens().last(), Some(&generation.special().call));
            let mut answer = Message::new(Role::Tool, &[Content::Text("found")]);
            (answer.name, answer.recipient, answer.channel) =
                (Some("functions.look"), Some("assistant"), Some("commentary"));
            let before = generation.tokens().len();
            generation.append(&[answer], &mut [0; 256]).expect("room");
            let told = turn(generation, config);
            assert!(told.usage().cached_tokens + 1 >= before, "{told:?}");
        });
    }
    assert!(called > 2, "the test must have seen some calls");
}

#[test]
fn stop_strings_end_the_answer_and_are_no_part_of_it() {
    let free = with_generation(History::Documented, |generation| {
        begin(generation);
        turn(generation, TurnConfig { reasoning_tokens: Some(0), ..seeded(5, 100) })
    });
    let text = free.messages[0].2.clone();
    let characters: Vec<(usize, char)> = text.char_indices().collect();
    for (from, len) in [(3, 1), (5, 2), (9, 4), (20, 3)] {
        let stop = &text[characters[from].0..characters[from + len].0];
        let expected = &text[..text.find(stop).expect("a part of it")];
        with_generation(History::Documented, |generation| {
            begin(generation);
            let stops = ["never to be found", stop];
            let config = TurnConfig { reasoning_tokens: Some(0), stop: &stops, ..seeded(5, 100) };
            let told = turn(generation, config);
            assert_eq!(told.reason(), StopReason::StopString);
            assert_eq!(told.messages[0].2, expected, "{stop:?}");
            begin(generation);
            assert_session_is_true(generation);
        });
    }
    with_generation(History::Documented, |generation| {
        begin(generation);
        let config = TurnConfig { reasoning_tokens: Some(0), stop: &["never to be found"], ..seeded(5, 100) };
        assert_eq!(turn(generation, config).messages, free.messages, "what was held back comes in the end");
    });
}

#[test]
fn a_turn_that_is_cancelled_anywhere_leaves_a_conversation_that_goes_on() {
    for steps in (0..120).step_by(7) {
        with_generation(History::Documented, |generation| {
            begin(generation);
            let mut told = Told::default();
            let mut first = Turn::new(generation, seeded(3, 50)).expect("a turn");
            for _ in 0..steps {
                first.step(generation, &Alone, &mut |event| told.take(event)).expect("finite numbers");
            }
            first.cancel(generation, &mut |event| told.take(event));
            if told.reason() == StopReason::Cancelled {
                assert!(told.messages.iter().all(|message| message.3.is_some()));
            }
            generation.append(&[user(&[Content::Text("Go on")])], &mut [0; 256]).expect("room");
            assert_session_is_true(generation);
            turn(generation, seeded(4, 5));
        });
    }
}

#[test]
fn the_same_seed_gives_the_same_turn_and_probabilities_are_told_for_each_token() {
    let run = |log_probabilities| {
        with_generation(History::Documented, |generation| {
            begin(generation);
            turn(generation, TurnConfig { log_probabilities, ..seeded(9, 40) })
        })
    };
    let (plain, told) = (run(None), run(Some(5)));
    assert_eq!(plain.messages, told.messages);
    assert_eq!(plain.tokens, 0);
    assert!(told.tokens > 0 && told.tokens <= 40);
}

#[test]
fn replacing_the_conversation_keeps_what_the_session_holds_of_it() {
    with_generation(History::Documented, |generation| {
        begin(generation);
        turn(generation, seeded(1, 20));
        let system = SystemContent { identity: Some("I"), knowledge_cutoff: None, ..SystemContent::default() };
        let (system, hello) = ([Content::System(system)], [Content::Text("Hello, you")]);
        let messages = [Message::new(Role::System, &system), user(&hello)];
        generation.replace(&messages, &mut [0; 4096]).expect("room");
        let held = generation.session().position();
        assert!(held > 30, "the system message is still held: {held}");
        assert_session_is_true(generation);
        // The whole conversation as it is, once more: nothing of it is computed.
        generation.replace(&messages, &mut [0; 4096]).expect("room");
        let whole = generation.tokens().len();
        let told = turn(generation, seeded(1, 1));
        assert_eq!(told.usage().cached_tokens, whole);
    });
}

#[test]
fn a_full_context_and_a_full_list_are_told_and_nothing_is_lost() {
    with_generation(History::KeepAll, |generation| {
        begin(generation);
        let told = turn(generation, TurnConfig { reasoning_tokens: None, ..seeded(2, 0) });
        assert!(matches!(told.reason(), StopReason::ContextFull | StopReason::Finished | StopReason::ToolCall));
        let before = generation.tokens().to_vec();
        let long = "x ".repeat(SESSION.context_tokens);
        let refused = generation.append(&[user(&[Content::Text(&long)])], &mut [0; 8192]);
        assert!(matches!(refused, Err(Error::Capacity { .. })), "{refused:?}");
        assert_eq!(&generation.tokens()[..before.len()], before);
    });
    with_generation(History::KeepAll, |generation| {
        let content = [Content::Text("a")];
        let message = user(&content);
        let refused = (0..100).find_map(|_| generation.append(&[message], &mut [0; 64]).err());
        assert!(matches!(refused, Some(Error::Capacity { what: "messages in the conversation", .. })), "{refused:?}");
    });
}

#[test]
fn own_tokens_that_the_model_does_not_have_are_refused() {
    with_generation(History::KeepAll, |generation| {
        begin(generation);
        let before = generation.tokens().to_vec();
        let vocabulary = generation.session().model().config().vocabulary;
        let own = [5, vocabulary as u32];
        let own_tokens = Some(OwnTokens { tokens: &own, after_role: true });
        let message = Message { own_tokens, ..Message::new(Role::Assistant, &[]) };
        let refused = generation.append(&[message], &mut [0; 64]);
        assert_eq!(refused, Err(Error::Token { index: 1, token: vocabulary as u32, vocabulary }));
        assert_eq!(generation.tokens(), before);
        turn(generation, seeded(1, 5));
    });
}

#[test]
fn a_configuration_is_refused_before_the_conversation_changes() {
    with_generation(History::KeepAll, |generation| {
        begin(generation);
        let before = generation.tokens().to_vec();
        for config in [
            TurnConfig { stop: &[""], ..TurnConfig::default() },
            TurnConfig { log_probabilities: Some(21), ..TurnConfig::default() },
            TurnConfig { must_call: true, ..TurnConfig::default() },
        ] {
            assert!(matches!(Turn::new(generation, config), Err(Error::Setting { .. })));
            assert_eq!(generation.tokens(), before);
        }
        let free = TurnConfig { constrain_headers: false, ..TurnConfig::default() };
        assert_eq!(free.check(false), Ok(()));
        assert!(matches!(free.check(true), Err(Error::Setting { name: "constrain_headers", .. })));
    });
}

/// Allows nothing when it is first asked, and then all.
struct Hesitant(usize);

impl TokenMask for Hesitant {
    fn begin(&mut self) {}

    fn allowed(&mut self, mask: &mut [u32]) -> Result<bool, Error> {
        mask.fill(if self.0 == 0 { 0 } else { u32::MAX });
        self.0 += 1;
        Ok(false)
    }

    fn accept(&mut self, _: u32) -> bool {
        true
    }
}

#[test]
fn a_mask_that_allows_nothing_is_asked_again() {
    with_generation(History::KeepAll, |generation| {
        begin(generation);
        let mut mask = Hesitant(0);
        let mut constraints = [Constraint { on: Constrained::Answer, mask: &mut mask }];
        let config = TurnConfig { reasoning_tokens: Some(0), ..seeded(3, 20) };
        let mut turn = Turn::new(generation, config).unwrap().with_constraints(&mut constraints).unwrap();
        let mut run = || turn.run(generation, &Alone, &mut |_| {});
        assert!(matches!(run(), Err(Error::State(_))));
        assert_eq!(run(), Ok(()));
        assert!(mask.0 > 1);
    });
}

#[test]
fn the_published_tokens_of_the_format_are_found_by_name() {
    let tokenizer = vocabulary::o200k_harmony();
    assert_eq!(SpecialTokens::of(&tokenizer), Ok(SpecialTokens::O200K_HARMONY));
}

#[test]
fn a_turn_that_ends_in_a_header_tells_no_message_of_it() {
    for max_tokens in 1..12 {
        with_generation(History::Documented, |generation| {
            begin(generation);
            let config = TurnConfig { recipients: &["functions.look"], ..seeded(max_tokens as u64, max_tokens) };
            let told = turn(generation, TurnConfig { reasoning_tokens: (max_tokens % 2 == 1).then_some(2), ..config });
            assert!(told.usage().output_tokens <= max_tokens, "{told:?}");
            for (kind, recipient, ..) in &told.messages {
                assert_eq!(*kind == MessageKind::ToolCall, recipient.as_deref() == Some("functions.look"), "{told:?}");
            }
            let markers = generation.tokens().iter().filter(|token| **token == generation.special().message).count();
            assert_eq!(
                told.messages.len(),
                markers - 2,
                "as many as there are complete headers after the prompt's two"
            );
            generation.append(&[user(&[Content::Text("Go on")])], &mut [0; 256]).expect("room");
            assert_session_is_true(generation);
        });
    }
}

#[test]
fn a_turn_is_over_when_the_conversation_is_changed() {
    with_generation(History::Documented, |generation| {
        begin(generation);
        let mut first = Turn::new(generation, seeded(1, 100)).expect("a turn");
        for _ in 0..40 {
            first.step(generation, &Alone, &mut |_| {}).expect("finite numbers");
        }
        generation.append(&[user(&[Content::Text("Wait")])], &mut [0; 256]).expect("room");
        let tokens = generation.tokens().to_vec();
        assert!(matches!(first.step(generation, &Alone, &mut |_| {}), Err(Error::State(_))));
        first.cancel(generation, &mut |event| panic!("{event:?}"));
        assert_eq!(generation.tokens(), tokens);
        turn(generation, seeded(2, 5));
    });
}

#[test]
fn growing_and_replacing_a_conversation_leave_the_same_past() {
    let [question, thought, answer, other] = ["Q", "hm", "A", "And?"].map(Content::Text);
    let by_model = |content: &'static [Content<'static>], channel| {
        let mut message = Message::new(Role::Assistant, content);
        message.channel = channel;
        message
    };
    let content: [&'static [Content<'static>]; 4] =
        [question, thought, answer, other].map(|content| &*Vec::leak(vec![content]));
    for history in [History::Documented, History::Library, History::KeepAll] {
        for channel in [Some("final"), Some("commentary"), None] {
            let messages = [
                user(content[0]),
                by_model(content[1], Some("analysis")),
                by_model(content[2], channel),
                user(content[3]),
                by_model(content[1], Some("analysis")),
            ];
            // The library takes back what it left out, once the assistant goes on without an answer.
            let messages = if history == History::Library { &messages[..4] } else { &messages[..] };
            let grown = with_generation(history, |generation| {
                for message in messages {
                    generation.append(&[*message], &mut [0; 256]).expect("room");
                }
                generation.tokens().to_vec()
            });
            let replaced = with_generation(history, |generation| {
                generation.replace(messages, &mut [0; 256]).expect("room");
                generation.tokens().to_vec()
            });
            assert_eq!(grown, replaced, "{history:?} {channel:?}");
        }
    }
}

#[test]
fn a_turn_that_must_call_ends_with_a_call_or_in_the_middle() {
    let mut calls = 0;
    for (seed, budget) in (0..30).flat_map(|seed| [(seed, None), (seed, Some(0)), (seed, Some(9))]) {
        with_generation(History::Documented, |generation| {
            begin(generation);
            let config = TurnConfig {
                recipients: &["functions.look"],
                must_call: true,
                reasoning_tokens: budget,
                ..seeded(seed, 300)
            };
            let told = turn(generation, config);
            assert_eq!(told.diagnostics, 0);
            assert!([StopReason::ToolCall, StopReason::MaxTokens].contains(&told.reason()), "{told:?}");
            let is_call_or_reasoning = |kind| matches!(kind, MessageKind::ToolCall | MessageKind::Reasoning);
            assert!(told.messages.iter().all(|message| is_call_or_reasoning(message.0)), "{told:?}");
            calls += usize::from(told.reason() == StopReason::ToolCall);
        });
    }
    assert!(calls > 20, "{calls}");
    with_generation(History::Documented, |generation| {
        begin(generation);
        for config in [
            TurnConfig { must_call: true, ..seeded(0, 9) },
            TurnConfig { must_call: true, recipients: &["python"], constrain_headers: false, ..seeded(0, 9) },
        ] {
            assert!(matches!(Turn::new(generation, config), Err(Error::Setting { name: "must_call", .. })));
        }
    });
}

#[test]
fn a_turn_can_begin_with_given_tokens_and_goes_on_by_itself() {
    with_generation(History::Documented, |generation| {
        begin(generation);
        let whole = turn(generation, TurnConfig { recipients: &["functions.look"], ..seeded(3, 80) });
        let begin = whole.usage().input_tokens;
        let written = generation.tokens()[begin..].to_vec();
        for (kept, seed) in [(written.len() - 1, 4), (20, 3)] {
            turns::begin(generation);
            let beginning = &written[..kept];
            let config = TurnConfig { recipients: &["functions.look"], beginning, ..seeded(seed, 80) };
            let told = turn(generation, config);
            assert_eq!(&generation.tokens()[told.usage().input_tokens..][..kept], beginning);
        }
        turns::begin(generation);
        for wrong in [generation.special().message, u32::MAX] {
            let beginning = [wrong];
            let config = TurnConfig { beginning: &beginning, ..seeded(0, 9) };
            let mut turn = Turn::new(generation, config).expect("a turn");
            assert!(matches!(turn.run(generation, &Alone, &mut |_| {}), Err(Error::State(_))));
        }
    });
}

#[test]
fn at_the_limit_of_tokens_no_pass_is_made_that_nobody_reads() {
    with_generation(History::Documented, |generation| {
        begin(generation);
        let told = turn(generation, seeded(3, 7));
        assert_eq!((told.reason(), told.usage().output_tokens), (StopReason::MaxTokens, 7));
        assert!(generation.session().position() < generation.tokens().len());
        assert_session_is_true(generation);
    });
}
