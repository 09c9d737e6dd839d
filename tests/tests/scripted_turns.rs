//! Turns whose tokens are given: what becomes of them is known to the letter.

use ossicle_core::error::Error;
use ossicle_core::generation::{Generation, MessageKind, StopReason, Turn, TurnConfig};
use ossicle_core::harmony::conversation::{Content, ContentType, Message, Role};
use ossicle_core::harmony::history::History;
use ossicle_core::harmony::render::RenderError;
use ossicle_core::parallel::Alone;
use ossicle_core::tokenizer::Specials;
use ossicle_core::transformer::SessionConfig;
use ossicle_tests::engine::fastest;
use ossicle_tests::turns::{self, SESSION, Told, begin, turn, user};

fn with_generation<T>(context_tokens: usize, work: impl FnOnce(&mut Generation<'_, '_>) -> T) -> T {
    let session = SessionConfig { context_tokens, ..SESSION };
    turns::with_generation((fastest(), &session), History::Documented, work)
}

/// What the model is made to write; the names of special tokens in it are these.
fn script(generation: &Generation<'_, '_>, text: &str) -> Vec<u32> {
    let mut tokens = Vec::new();
    generation.tokenizer().encode(text, Specials::All, |token| tokens.push(token));
    tokens
}

/// A turn in which the model writes this and no more.
fn write(generation: &mut Generation<'_, '_>, text: &str, config: TurnConfig<'_>) -> Told {
    let tokens = script(generation, text);
    turn(generation, TurnConfig { beginning: &tokens, max_tokens: tokens.len(), ..config })
}

fn free() -> TurnConfig<'static> {
    TurnConfig { constrain_headers: false, ..TurnConfig::default() }
}

fn text_of(generation: &Generation<'_, '_>, tokens: &[u32]) -> String {
    let mut bytes = Vec::new();
    generation.tokenizer().decode(tokens, |part| bytes.extend_from_slice(part));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn where_room_is_short_the_reasoning_that_goes_anyway_goes_first() {
    with_generation(500, |generation| {
        begin(generation);
        let thought = "hm ".repeat(60);
        let answer = "<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>";
        let told =
            write(generation, &format!("<|channel|>analysis<|message|>{thought}{answer}"), TurnConfig::default());
        assert_eq!(told.reason(), StopReason::Finished);
        let room = 500 - generation.tokens().len();
        let mut question = String::new();
        while script(generation, &question).len() < room {
            question.push('a');
        }
        generation.append(&[user(&[Content::Text(&question)])], &mut [0; 256]).expect("room");
        let text = text_of(generation, generation.tokens());
        assert!(text.contains(&question) && text.contains("Yes.") && !text.contains("hm hm"), "{text}");
        let before = generation.tokens().to_vec();
        let refused = generation.append(&[user(&[Content::Text(&question)])], &mut [0; 256]);
        assert!(matches!(refused, Err(Error::Capacity { .. })), "{refused:?}");
        assert_eq!(generation.tokens(), before);
    });
    with_generation(1500, |generation| {
        begin(generation);
        let thoughts = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant".repeat(40);
        write(
            generation,
            &format!("{thoughts}<|channel|>final<|message|>Yes.<|return|>"),
            TurnConfig { constrain_headers: false, ..TurnConfig::default() },
        );
        let messages = [user(&[Content::Text("a")]); 30];
        generation.append(&messages, &mut [0; 64]).expect("room in the list");
        assert_eq!(generation.boundaries().len(), 1 + 2 + 1 + 30);
    });
}

#[test]
fn a_beginning_is_taken_as_it_is_whatever_it_reasons() {
    for budget in [0, 1, 5, 100] {
        with_generation(1500, |generation| {
            begin(generation);
            let text = "<|channel|>analysis<|message|>one two three four five<|end|><|start|>assistant\
                        <|channel|>analysis<|message|>six<|end|><|start|>assistant<|channel|>final<|message|>Yes";
            let tokens = script(generation, text);
            let config = TurnConfig {
                beginning: &tokens,
                max_tokens: tokens.len(),
                reasoning_tokens: Some(budget),
                constrain_headers: budget > 0,
                ..TurnConfig::default()
            };
            let told = turn(generation, config);
            assert_eq!(&generation.tokens()[told.usage().input_tokens..], tokens);
            let texts: Vec<_> = told.messages.iter().map(|message| (message.0, &*message.2)).collect();
            let (reasoning, answer) = (MessageKind::Reasoning, MessageKind::Answer);
            assert_eq!(texts, [(reasoning, "one two three four five"), (reasoning, "six"), (answer, "Yes")]);
        });
    }
    with_generation(1500, |generation| {
        begin(generation);
        let tokens = script(generation, "<|channel|>analysis<|message|>one two three");
        let config = TurnConfig {
            beginning: &tokens,
            max_tokens: tokens.len() + 30,
            reasoning_tokens: Some(1),
            ..TurnConfig::default()
        };
        let told = turn(generation, config);
        assert_eq!((told.messages[0].2.as_str(), told.messages[1].0), ("one two three", MessageKind::Answer));
    });
}

#[test]
fn a_turn_that_ends_in_a_free_header_tells_what_stands_there() {
    for text in ["Hello there", "Hello", "<|channel|>final<|message|>Well.<|end|><|start|>assistant Hello there"] {
        with_generation(1500, |generation| {
            begin(generation);
            let told = write(generation, text, free());
            assert_eq!(told.reason(), StopReason::MaxTokens);
            let message = told.messages.last().expect("a message");
            assert_eq!(
                (message.0, message.2.trim()),
                (MessageKind::Answer, text.rsplit("assistant").next().unwrap().trim())
            );
            let range = message.3.clone().expect("an end");
            let said = generation.tokens()[range.clone()].to_vec();
            assert!(text_of(generation, &said).ends_with(&message.2));
            generation.append(&[user(&[Content::Text("Go on")])], &mut [0; 256]).expect("room");
            assert_eq!(generation.tokens()[range], said, "the conversation keeps it");
        });
    }
    with_generation(1500, |generation| {
        begin(generation);
        let tokens = script(generation, "Hello there");
        let mut told = Told::default();
        let config = TurnConfig { beginning: &tokens, ..free() };
        let mut turn = Turn::new(generation, config).expect("a turn");
        while turn.usage().output_tokens < tokens.len() {
            turn.step(generation, &Alone, &mut |event| told.take(event)).expect("finite numbers");
        }
        turn.cancel(generation, &mut |event| told.take(event));
        assert_eq!((told.reason(), &*told.messages[0].2), (StopReason::Cancelled, "Hello there"));
    });
}

#[test]
fn what_the_model_invents_for_others_is_not_told_as_its_answer() {
    with_generation(1500, |generation| {
        begin(generation);
        let text = "<|channel|>final<|message|>Yes.<|end|><|start|>user<|message|>And?<|end|>\
                    <|start|>functions.f to=assistant<|channel|>commentary<|message|>3<|end|>\
                    <|start|>system to=functions.g<|message|>4<|end|>";
        let told = write(generation, text, free());
        let kinds: Vec<_> = told.messages.iter().map(|message| (message.0, &*message.2)).collect();
        let other = MessageKind::Reasoning;
        assert_eq!(kinds, [(MessageKind::Answer, "Yes."), (other, "And?"), (other, "3"), (other, "4")]);
    });
}

#[test]
fn a_message_without_its_start_is_told_from_its_first_token_on() {
    with_generation(1500, |generation| {
        begin(generation);
        let message = "<|channel|>final<|message|>Yes.";
        let told = write(generation, &format!("{message}<|end|>{message}<|end|>{message}{message}"), free());
        assert_eq!(told.messages.len(), 4);
        let own: Vec<_> = told
            .messages
            .iter()
            .map(|message| generation.tokens()[message.3.clone().expect("an end")].to_vec())
            .collect();
        let expected = script(generation, message);
        assert_eq!(own[0][own[0].len() - expected.len()..], expected, "after the role");
        assert_eq!(own[1..], [&*expected, &*expected, &*expected]);
    });
}

#[test]
fn of_stop_strings_that_end_together_the_longest_counts() {
    for stop in [["lo", "hello"], ["hello", "lo"]] {
        with_generation(1500, |generation| {
            begin(generation);
            let config = TurnConfig { stop: &stop, ..TurnConfig::default() };
            let told = write(generation, "<|channel|>final<|message|>I say hello to you", config);
            assert_eq!((told.reason(), &*told.messages[0].2), (StopReason::StopString, "I say "), "{stop:?}");
        });
    }
}

#[test]
fn where_something_must_be_called_a_name_that_a_header_can_hold_is_demanded() {
    with_generation(1500, |generation| {
        begin(generation);
        let (longest, too_long) = ("f".repeat(256), "f".repeat(257));
        let check =
            |recipients: &[&str]| TurnConfig { must_call: true, recipients, ..TurnConfig::default() }.check(false);
        for unusable in ["", "a b", "a{", "}", &too_long] {
            assert!(matches!(check(&[unusable]), Err(Error::Setting { name: "must_call", .. })), "{unusable:?}");
            assert_eq!(check(&[unusable, "python"]), Ok(()));
        }
        let recipients = ["a b", &too_long, &longest];
        let config = TurnConfig {
            must_call: true,
            reasoning_tokens: Some(0),
            recipients: &recipients,
            max_tokens: 600,
            ..TurnConfig::default()
        };
        let told = turn(generation, config);
        assert_eq!((told.diagnostics, told.messages[0].1.as_deref()), (0, Some(&*longest)));
    });
}

#[test]
fn a_turn_that_cannot_begin_ends_the_one_before() {
    with_generation(300, |generation| {
        begin(generation);
        let room = 300 - generation.tokens().len();
        let mut last = None;
        for left in 2..9 {
            let tokens = script(generation, &format!("<|channel|>final<|message|>{}", "a b".repeat(room)));
            let config = TurnConfig { beginning: &tokens[..room - left], ..TurnConfig::default() };
            let mut first = Turn::new(generation, config).expect("a turn");
            while generation.tokens().len() < 300 - left {
                first.step(generation, &Alone, &mut |_| {}).expect("finite numbers");
            }
            let second = Turn::new(generation, TurnConfig::default());
            if second.is_err() {
                let stepped = first.step(generation, &Alone, &mut |_| {});
                assert!(matches!(stepped, Err(Error::State(_))), "{left} left: {stepped:?}");
                last = Some(left);
            }
            generation.rewind(2).expect("two messages");
        }
        assert_ne!(last, None, "one of them cannot begin");
    });
}

#[test]
fn what_cannot_be_rendered_is_named_by_its_number() {
    with_generation(1500, |generation| {
        let content = [Content::Text("a")];
        let messages = [user(&content), user(&content), Message::new(Role::Tool, &content)];
        let expected = Err(Error::Render(RenderError::ToolWithoutName { message: 2 }));
        assert_eq!(generation.append(&messages, &mut [0; 64]), expected);
        assert_eq!(generation.replace(&messages, &mut [0; 64]), expected);
    });
}

#[test]
fn the_scratch_memory_that_is_told_is_enough_for_messages_that_history_leaves_out() {
    with_generation(1500, |generation| {
        let by_model = |channel, content_type| Message {
            channel: Some(channel),
            content_type,
            ..Message::new(Role::Assistant, &[Content::Text("a")])
        };
        let long = "x".repeat(100);
        let messages = [by_model("analysis", Some(ContentType::Plain(&long))), by_model("final", None)];
        let size = generation.scratch_size(&messages).expect("messages that can be rendered");
        generation.append(&messages, &mut vec![0; size]).expect("enough memory");
        generation.replace(&messages, &mut vec![0; size]).expect("enough memory");
        assert_eq!(generation.boundaries().len(), 2);
    });
}
