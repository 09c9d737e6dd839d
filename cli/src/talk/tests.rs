use std::path::PathBuf;

use clap::Parser;
use ossicle_core::generation::{MessageKind, Usage};
use ossicle_core::harmony::builtin::PYTHON;
use ossicle_core::harmony::conversation::{Content, Message, Role, SystemContent};
use ossicle_host::browser::{Citations, Pages};
use ossicle_host::tools::{MOST_CALLS, TOO_LONG};

use super::{Answer, Call, End, Said, Talk, TalkOptions, Telling, turn_config, with_talk};
use crate::open::with_model_or_toy;
use crate::prefix::MEMORY_SIZE;
use crate::shown::Shown;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    talk: TalkOptions,
}

fn options(arguments: &[&str]) -> TalkOptions {
    Options::parse_from([&["talk"], arguments].concat()).talk
}

/// A conversation on tiny-a.
fn with<T>(arguments: &[&str], work: impl FnOnce(&mut Talk<'_, '_, '_>) -> T) -> T {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tiny-a/gguf/tiny-a.gguf");
    let options = options(arguments);
    let done = with_model_or_toy(Some(&path), &options.compute, |opened| {
        with_talk(&options, &opened, MEMORY_SIZE, |talk| Ok(work(talk)))
    });
    done.expect("a conversation")
}

fn text(talk: &Talk<'_, '_, '_>) -> String {
    let mut bytes = Vec::new();
    let generation = &talk.generation;
    generation.tokenizer().decode(generation.tokens(), |part| bytes.extend_from_slice(part));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn the_system_and_developer_messages_say_what_the_options_do() {
    let arguments = ["--system", "I am a lamp.", "--developer", "Be brief.", "--date", "2026-11-29", "--effort", "low"];
    let text = with(&arguments, |talk| text(talk));
    let expected = "<|start|>system<|message|>I am a lamp.\nKnowledge cutoff: 2024-06\nCurrent date: 2026-11-29\n\n\
                    Reasoning: low\n\n";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.ends_with("<|end|><|start|>developer<|message|># Instructions\n\nBe brief.<|end|>"), "{text}");
    assert!(!with(&[], |talk| self::text(talk)).contains("developer"));
}

#[test]
fn after_an_answer_longer_than_the_session_goes_back_only_what_is_new_is_computed() {
    let limits = ["--temperature", "0", "--reasoning-tokens", "1000", "--max-tokens", "2500"];
    with(&[&limits[..], &["--system", "I"]].concat(), |talk| {
        // An entry of the cache has at least 64 tokens more than the one before it.
        let first = talk.answer(Said::ByUser(&"Think. ".repeat(40)), |_| {}).usage;
        assert!(first.output_tokens > 2300, "{first:?}");
        let second = talk.answer(Said::ByUser("And?"), |_| {}).usage;
        let kept = first.input_tokens + first.output_tokens - first.reasoning_tokens;
        assert!(first.reasoning_tokens > 900 && second.input_tokens < kept + 50, "it is gone: {first:?} {second:?}");
        // All but the beginning of the answer's header.
        assert!(second.cached_tokens + 10 > first.input_tokens, "{first:?} {second:?}");
    });
}

#[test]
fn a_result_that_does_not_fit_is_answered_with_an_error_and_what_is_said_is_refused() {
    with(&["--system", "I", "--context", "500"], |talk| {
        let long = "x ".repeat(1000);
        let before = text(talk);
        let answer = talk.answer(Said::ByUser(&long), |_| {});
        assert!(matches!(answer.end, End::Error(_)) && !answer.heard, "{answer:?}");
        assert_eq!(text(talk), before);
        let (tool, channel) = ("python".to_owned(), "analysis".to_owned());
        let call = Call { tool, channel, argument: String::new(), result: None };
        let heard = talk.hear_result(&call, &long).expect("room for the error");
        assert_eq!(heard, Ok(TOO_LONG.to_owned()));
        assert!(text(talk).ends_with(&format!("{TOO_LONG}<|end|>")));
    });
}

#[test]
fn an_answer_carries_out_so_many_calls_and_no_more() {
    let (tool, channel) = ("python".to_owned(), "analysis".to_owned());
    let done = Call { tool, channel, argument: String::new(), result: Some(String::new()) };
    for (before, end, result) in [(MOST_CALLS - 1, "finished", Some("7006652\n")), (MOST_CALLS, "tool_call", None)] {
        let options = options(&["--temperature", "0"]);
        let talked = with_model_or_toy(None, &options.compute, |opened| {
            with_talk(&options, &opened, MEMORY_SIZE, |talk| {
                // As --python has it, but that no box is needed.
                let system = [Content::System(SystemContent { tools: &[PYTHON], ..SystemContent::default() })];
                talk.generation.replace(&[Message::new(Role::System, &system)], &mut [0; 4096])?;
                talk.recipients.push("python");
                talk.at_hand.python = Some(Box::new(|_: &str| "7006652\n".to_owned()));
                let mut answer = Answer { calls: vec![done.clone(); before], ..Answer::default() };
                talk.hear(Said::ByUser("Please use Python. What is 1234 * 5678?"))?.expect("no policy");
                let reason = talk.rounds(&mut answer, &mut |_| {})?;
                assert_eq!((reason.name(), answer.calls[before].result.as_deref()), (end, result), "{answer:?}");
                Ok(())
            })
        });
        talked.expect("an answer");
    }
}

#[test]
fn the_budget_of_reasoning_is_for_all_rounds_of_an_answer_together() {
    let options = options(&["--reasoning-tokens", "20"]);
    let budget = |reasoning_tokens| {
        turn_config(&options, &[], 0, Usage { reasoning_tokens, ..Usage::default() }).reasoning_tokens
    };
    assert_eq!([budget(0), budget(15), budget(21)], [Some(20), Some(5), Some(0)]);
}

#[test]
fn what_is_cited_is_told_as_links_but_in_reasoning() {
    let mut pages = Pages::default();
    pages.add("[0] Harbour (http://harbour.example/)");
    let mut answer = Answer::default();
    let mut shown = Vec::new();
    let mut print = |event: &Shown| shown.push(event.clone());
    let citations = Citations::default();
    let mut telling = Telling { answer: &mut answer, print: &mut print, pages: Some(&pages), citations };
    for (kind, parts) in
        [(MessageKind::Reasoning, ["Said【0†L1】", "."]), (MessageKind::Answer, ["At noon【0†", "L1】, not【"])]
    {
        telling.tell(Shown::Begin { kind, tool: None, channel: None });
        for text in parts {
            telling.tell(Shown::Text { kind, text: text.into() });
        }
        telling.tell(Shown::End(kind));
    }
    assert_eq!(answer.reasoning, "Said【0†L1】.");
    assert_eq!(answer.text, "At noon ([harbour.example](http://harbour.example/)) , not【");
    assert_eq!(shown.last(), Some(&Shown::End(MessageKind::Answer)));
    let text = |event: &Shown| match event {
        Shown::Text { kind: MessageKind::Answer, text } => text.clone(),
        _ => String::new(),
    };
    assert_eq!(shown.iter().map(text).collect::<String>(), answer.text, "all of it is shown");
}
