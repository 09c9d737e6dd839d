use std::sync::Arc;

use ossicle_core::generation::{MessageKind, Usage};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{AnswerEvent, ChatAnswer, End, Presentation, ResponseAnswer, TokenText};
use crate::error::ApiError;
use crate::request::chat::ChatRequest;
use crate::request::{Context, Request};
use crate::seal::Seal;
use crate::stream_rules::check;

fn request(include: &[&str]) -> Request {
    let body = json!({
        "input": "Hi", "include": include,
        "tools": [
            { "type": "function", "name": "look", "strict": false },
            { "type": "custom", "name": "patch" },
            { "type": "namespace", "name": "far", "tools": [{ "type": "function", "name": "away" }] },
            { "type": "code_interpreter", "container": { "type": "auto" } },
        ],
    });
    Request::read(&body, &Context::alone(&Seal::random())).expect("a request")
}

fn presentation(seal: &Arc<Seal>) -> Presentation {
    Presentation {
        seal: Arc::clone(seal),
        owner: "".into(),
        encrypts_reasoning: false,
        withholds_reasoning: false,
        clock: || 7,
    }
}

fn events(request: &Request, presentation: Presentation, told: Vec<AnswerEvent>) -> Vec<Value> {
    let mut events = Vec::new();
    let mut answer = ResponseAnswer::new(request, "m", "resp_1".into(), presentation);
    let mut emit = |(name, event): (&str, Value)| {
        assert_eq!(event["type"], name);
        events.push(event);
    };
    answer.begin(false, &mut emit);
    told.into_iter().for_each(|event| answer.take(event, &mut emit));
    let last = answer.response();
    assert_eq!(events.last().map(|event| &event["response"]), Some(&last), "the last event tells the whole response");
    events
}

fn begin(kind: MessageKind, recipient: Option<&str>) -> AnswerEvent {
    AnswerEvent::MessageBegin { kind, recipient: recipient.map(str::to_owned) }
}

fn delta(text: &str) -> AnswerEvent {
    AnswerEvent::Delta(text.into())
}

fn stop(end: End) -> AnswerEvent {
    let usage = Usage { input_tokens: 9, cached_tokens: 4, output_tokens: 5, reasoning_tokens: 2 };
    AnswerEvent::Stop { end, usage }
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap_or_default().trim_start_matches("response.")).collect()
}

#[test]
fn reasoning_and_an_answer_are_told_in_the_order_that_clients_expect() {
    let seal = Arc::new(Seal::random());
    let told = vec![
        AnswerEvent::Begin,
        begin(MessageKind::Reasoning, None),
        delta("H"),
        delta("m."),
        AnswerEvent::MessageEnd,
        begin(MessageKind::Answer, None),
        delta("Hello"),
        AnswerEvent::MessageEnd,
        stop(End::Completed),
        delta("never"),
    ];
    let events = events(&request(&[]), presentation(&seal), told);
    check(&events);
    assert_eq!(
        names(&events),
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "reasoning_text.delta",
            "reasoning_text.delta",
            "reasoning_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
    );
    let response = &events.last().expect("events")["response"];
    assert_eq!(response["output"][0]["content"], json!([{ "type": "reasoning_text", "text": "Hm." }]));
    assert_eq!(response["output"][1]["content"][0]["text"], "Hello");
    assert_eq!(response["output"][1]["phase"], "final_answer");
    assert_eq!((&response["status"], &response["completed_at"]), (&json!("completed"), &json!(7)));
    assert_eq!(
        response["usage"],
        json!({
            "input_tokens": 9, "input_tokens_details": { "cached_tokens": 4, "cache_write_tokens": 0 },
            "output_tokens": 5, "output_tokens_details": { "reasoning_tokens": 2 }, "total_tokens": 14,
        })
    );
}

#[test]
fn calls_come_with_deltas_under_the_names_that_the_client_gave() {
    let seal = Arc::new(Seal::random());
    for (recipient, kind, name, namespace) in [
        ("functions.look", "function_call", "look", Value::Null),
        ("functions.patch", "custom_tool_call", "patch", Value::Null),
        ("far.away", "function_call", "away", json!("far")),
        ("functions.unknown", "function_call", "unknown", Value::Null),
    ] {
        let told = vec![
            begin(MessageKind::Preamble, None),
            delta("I look."),
            AnswerEvent::MessageEnd,
            begin(MessageKind::ToolCall, Some(recipient)),
            delta("{\"a\""),
            delta(":1}"),
            AnswerEvent::MessageEnd,
            stop(End::Completed),
        ];
        let events = events(&request(&[]), presentation(&seal), told);
        check(&events);
        let output = &events.last().expect("events")["response"]["output"];
        assert_eq!(output[0]["phase"], "commentary");
        let argument = if kind == "function_call" { "arguments" } else { "input" };
        let call = &output[1];
        assert_eq!((&call["type"], &call["name"], &call["namespace"]), (&kind.into(), &name.into(), &namespace));
        assert_eq!((&call[argument], &call["status"]), (&json!("{\"a\":1}"), &json!("completed")));
    }
}

#[test]
fn what_is_cut_off_is_incomplete() {
    let seal = Arc::new(Seal::random());
    for (end, event, status, reason) in [
        (End::Length, "response.incomplete", "incomplete", json!("max_output_tokens")),
        (End::Filtered("no".into()), "response.incomplete", "incomplete", json!("content_filter")),
        (End::Cancelled, "response.incomplete", "cancelled", Value::Null),
        (End::Failed(ApiError::server("broken")), "response.failed", "failed", Value::Null),
    ] {
        let told = vec![begin(MessageKind::Answer, None), delta("Hel"), AnswerEvent::MessageEnd, stop(end)];
        let events = events(&request(&[]), presentation(&seal), told);
        check(&events);
        let last = events.last().expect("events");
        assert_eq!((&last["type"], &last["response"]["status"]), (&event.into(), &status.into()));
        assert_eq!(last["response"]["incomplete_details"]["reason"], reason);
        assert_eq!(last["response"]["output"][0]["status"], "incomplete");
        assert_eq!(
            last["response"]["error"]["message"],
            if status == "failed" { json!("broken") } else { Value::Null }
        );
    }
}

#[test]
fn only_code_that_is_run_is_told_to_run() {
    let seal = Arc::new(Seal::random());
    let code = || vec![begin(MessageKind::ToolCall, Some("python")), delta("1"), delta("+1"), AnswerEvent::MessageEnd];
    let told = |more: Vec<AnswerEvent>| {
        let events = events(&request(&[]), presentation(&seal), [code(), more].concat());
        check(&events);
        let of_code = names(&events)
            .iter()
            .filter_map(|name| name.strip_prefix("code_interpreter_call"))
            .collect::<Vec<_>>()
            .join(" ");
        (of_code, events.last().expect("events")["response"]["output"][0].clone())
    };
    let begun = ".in_progress _code.delta _code.delta _code.done";
    let result = AnswerEvent::ToolResult { text: "2".into(), sources: Vec::new() };
    let (names, item) = told(vec![AnswerEvent::ToolBegin, result, stop(End::Completed)]);
    assert_eq!(names, format!("{begun} .interpreting .completed"));
    assert_eq!((&item["status"], &item["outputs"][0]["logs"]), (&json!("completed"), &json!("2")));
    let (names, item) = told(vec![AnswerEvent::ToolBegin, stop(End::Cancelled)]);
    assert_eq!(names, format!("{begun} .interpreting"));
    assert_eq!((&item["status"], &item["outputs"]), (&json!("incomplete"), &Value::Null));
    assert_eq!(told(vec![stop(End::Length)]).0, begun);
}

#[test]
fn withheld_reasoning_travels_encrypted_only() {
    let seal = Arc::new(Seal::random());
    let told = vec![
        begin(MessageKind::Reasoning, None),
        delta("Secret"),
        AnswerEvent::MessageEnd,
        begin(MessageKind::Answer, None),
        delta("Hi"),
        AnswerEvent::MessageEnd,
        stop(End::Completed),
    ];
    let presentation = Presentation { withholds_reasoning: true, ..presentation(&seal) };
    let events = events(&request(&[]), presentation, told);
    check(&events);
    assert!(events.iter().all(|event| !event.to_string().contains("Secret")));
    let item = &events.last().expect("events")["response"]["output"][0];
    let encrypted = item["encrypted_content"].as_str().expect("encrypted");
    assert_eq!(seal.open("", encrypted).as_deref(), Some("Secret"));
}

#[test]
fn probabilities_stand_with_the_text_of_their_tokens() {
    let seal = Arc::new(Seal::random());
    let token = |text: &str| TokenText { bytes: text.into(), log_probability: -0.5 };
    let drawn = |text: &str| AnswerEvent::Token { drawn: token(text), top: vec![token("x")] };
    let told = vec![
        drawn("final"),
        begin(MessageKind::Answer, None),
        drawn("H"),
        drawn("i"),
        delta("Hi"),
        AnswerEvent::MessageEnd,
        stop(End::Completed),
    ];
    let events = events(&request(&["message.output_text.logprobs"]), presentation(&seal), told.clone());
    let part = &events.last().expect("events")["response"]["output"][0]["content"][0];
    assert_eq!(part["logprobs"].as_array().map(Vec::len), Some(2));
    assert_eq!(part["logprobs"][1]["token"], "i");
    assert_eq!(part["logprobs"][1]["top_logprobs"][0]["token"], "x");

    let body = json!({ "messages": [], "logprobs": true, "top_logprobs": 1 });
    let mut answer = ChatAnswer::new(&ChatRequest::read(&body).expect("a request"), "m", 7, false);
    told.into_iter().for_each(|event| answer.take(event, &mut |_| {}));
    assert_eq!(answer.completion()["choices"][0]["logprobs"]["content"][0]["token"], "H");
}

#[test]
fn chunks_add_up_to_the_completion() {
    let body = json!({
        "messages": [], "stream_options": { "include_usage": true },
        "tools": [{ "type": "function", "function": { "name": "look" } }],
    });
    let request = ChatRequest::read(&body).expect("a request");
    let mut answer = ChatAnswer::new(&request, "m", 7, false);
    let mut chunks = Vec::new();
    answer.begin(&mut |chunk| chunks.push(chunk));
    for event in [
        begin(MessageKind::Reasoning, None),
        delta("H"),
        delta("m."),
        AnswerEvent::MessageEnd,
        begin(MessageKind::Preamble, None),
        delta("I look."),
        AnswerEvent::MessageEnd,
        begin(MessageKind::ToolCall, Some("functions.look")),
        delta("{"),
        delta("}"),
        AnswerEvent::MessageEnd,
        stop(End::Completed),
    ] {
        answer.take(event, &mut |chunk| chunks.push(chunk));
    }
    let whole = answer.completion();
    let message = &whole["choices"][0]["message"];
    let added = |path: &str| -> String {
        chunks.iter().filter_map(|chunk| chunk.pointer(&format!("/choices/0/delta{path}"))?.as_str()).collect()
    };
    assert_eq!(message["content"], added("/content"));
    assert_eq!(message["reasoning"], added("/reasoning"));
    assert_eq!(message["reasoning"], message["reasoning_content"]);
    let call = &message["tool_calls"][0];
    assert_eq!(call["function"]["arguments"], added("/tool_calls/0/function/arguments"));
    assert_eq!((&call["function"]["name"], &call["id"]), (&json!("look"), &json!(added("/tool_calls/0/id"))));
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(chunks.last().expect("chunks")["usage"]["total_tokens"], 14);
    assert_eq!(whole["usage"]["prompt_tokens_details"]["cached_tokens"], 4);
}

fn any_event() -> impl Strategy<Value = AnswerEvent> {
    let kind = prop_oneof![
        Just(MessageKind::Reasoning),
        Just(MessageKind::Preamble),
        Just(MessageKind::Answer),
        Just(MessageKind::ToolCall)
    ];
    let recipient =
        prop_oneof![Just(None), Just(Some("functions.look")), Just(Some("functions.patch")), Just(Some(""))];
    prop_oneof![
        3 => (kind, recipient).prop_map(|(kind, recipient)| begin(kind, recipient)),
        4 => "[a-z]{1,3}".prop_map(AnswerEvent::Delta),
        3 => Just(AnswerEvent::MessageEnd),
        1 => Just(AnswerEvent::Begin),
    ]
}

proptest! {
    #[test]
    fn whatever_the_model_does_the_stream_keeps_its_rules(
        mut told in prop::collection::vec(any_event(), 0..12),
        end in prop_oneof![Just(End::Completed), Just(End::Length), Just(End::Cancelled)],
        withholds_reasoning: bool,
    ) {
        told.push(stop(end));
        let seal = Arc::new(Seal::new(&[0; 32]));
        let presentation = Presentation { withholds_reasoning, ..presentation(&seal) };
        check(&events(&request(&[]), presentation, told));
    }
}
