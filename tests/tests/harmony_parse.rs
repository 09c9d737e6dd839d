//! Whatever a model writes becomes messages, and the right ones.

use std::fs;
use std::ops::Range;

use ossicle_core::harmony::conversation::{ContentType, Message, OwnTokens, Role};
use ossicle_core::harmony::parse::{Event, MAX_HEADER, Parser, Problem, Stop};
use ossicle_core::harmony::render::{Ending, Form, Renderer};
use ossicle_core::harmony::{SpecialTokens, Vocabulary};
use ossicle_host::harmony::{parse, render, render_request};
use ossicle_tests::harmony::{O200K_HARMONY, ORDINARY_TOKENS};
use serde_json::{Value, json};

const SPECIAL: SpecialTokens = SpecialTokens::O200K_HARMONY;

fn path(name: &str) -> String {
    format!("{}/data/harmony/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn vectors(name: &str) -> Vec<Value> {
    let text = fs::read_to_string(path(name)).expect(name);
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().expect("a list of ids");
    list.iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

fn role(vector: &Value) -> Option<Role> {
    vector["role"].as_str().and_then(Role::from_name)
}

/// The messages of the official parser, without the marker in the content type.
fn reference(vector: &Value) -> Value {
    let mut strict = vector["strict"].clone();
    for message in strict["messages"].as_array_mut().into_iter().flatten() {
        if let Some(name) = message["content_type"].as_str().and_then(|name| name.strip_prefix("<|constrain|>")) {
            message["content_type"] = name.into();
        }
    }
    strict
}

/// All vectors are listed for which Ossicle returns something else than the official parser, with what it returns. To write
/// the list anew, set `OSSICLE_WRITE_DEVIATIONS`; then read it.
#[test]
fn messages_are_those_of_the_official_parser_but_for_the_listed_ones() {
    let vectors = vectors("parse.jsonl");
    assert_eq!(vectors.len(), 488);
    let mut found = Vec::new();
    for vector in &vectors {
        let ossicle = parse(&ids(&vector["ids"]), role(vector), &*O200K_HARMONY, SPECIAL);
        let reference = reference(vector);
        if reference["messages"] != ossicle["messages"] {
            let name = &vector["name"];
            found.push(json!({"name": name, "class": vector["class"], "text": vector["text"], "reference": reference, "ossicle": ossicle}));
        }
    }
    if std::env::var_os("OSSICLE_WRITE_DEVIATIONS").is_some() {
        let lines: String = found.iter().map(|line| format!("{line}\n")).collect();
        fs::write(path("parse-deviations.jsonl"), lines).expect("the list can be written");
    }
    let listed = self::vectors("parse-deviations.jsonl");
    for (found, listed) in found.iter().zip(&listed) {
        assert_eq!(found, listed, "{}", found["name"]);
    }
    assert_eq!(found.len(), listed.len());
}

/// What has come out of a parser, in order, with the texts that came at once joined.
#[derive(Clone, Debug, PartialEq)]
enum Got {
    Header { texts: Vec<String>, role: Role, first_token: u64 },
    Content(String),
    End(Stop, u64),
    Problem(Problem),
}

fn collect(got: &mut Vec<Got>) -> impl FnMut(Event) {
    |event| match event {
        Event::Header(header) => {
            let content_type = header.content_type.map(|name| match name {
                ContentType::Plain(name) | ContentType::Constrained(name) => name,
            });
            let texts = [header.name, header.recipient, header.channel, content_type];
            let texts = texts.into_iter().flatten().map(str::to_owned).collect();
            got.push(Got::Header { texts, role: header.role, first_token: header.first_token });
        }
        Event::Content(text) => {
            assert!(!text.is_empty());
            match got.last_mut() {
                Some(Got::Content(content)) => content.push_str(text),
                Some(Got::Header { .. } | Got::Problem(_)) => got.push(Got::Content(text.to_owned())),
                other => panic!("content after {other:?}"),
            }
        }
        Event::End(end) => got.push(Got::End(end.stop, end.end_token)),
        Event::Diagnostic(diagnostic) => got.push(Got::Problem(diagnostic.problem)),
    }
}

fn run(tokens: &[u32], role: Option<Role>) -> Vec<Got> {
    let mut got = Vec::new();
    let mut parser = Parser::new(SPECIAL, role);
    let mut collect = collect(&mut got);
    for &token in tokens {
        parser.push(token, &*O200K_HARMONY, &mut collect);
    }
    parser.finish(&mut collect);
    drop(collect);
    got
}

/// The official streaming parser tells a text with the token that completes it, and a header with `<|message|>`.
#[test]
fn texts_and_headers_come_with_the_tokens_with_which_the_official_parser_gives_them() {
    let mut compared = 0;
    for vector in vectors("parse.jsonl") {
        let is_followed = ["ok", "with_start"].contains(&vector["class"].as_str().expect("a class"));
        if !is_followed || vector["stream"].get("error").is_some() {
            continue;
        }
        let mut parser = Parser::new(SPECIAL, role(&vector));
        for (id, step) in ids(&vector["ids"]).into_iter().zip(vector["stream"]["steps"].as_array().expect("steps")) {
            let mut text = String::new();
            let mut has_header = false;
            parser.push(id, &*O200K_HARMONY, &mut |event| match event {
                Event::Header(_) => has_header = true,
                Event::Content(delta) => text.push_str(delta),
                _ => {}
            });
            assert_eq!(text, step[1].as_str().unwrap_or(""), "{}", vector["name"]);
            assert_eq!(has_header, step.get(2).is_some(), "{}", vector["name"]);
            compared += 1;
        }
    }
    assert!(compared > 1000);
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }
}

const STRUCTURE: [u32; 8] = [
    SPECIAL.start,
    SPECIAL.channel,
    SPECIAL.constrain,
    SPECIAL.message,
    SPECIAL.end,
    SPECIAL.call,
    SPECIAL.return_,
    SPECIAL.end_of_text,
];

/// Special tokens, what stands in headers, and numbered words, in any order. Gives the words besides.
fn disorder(random: &mut Random, length: u64) -> (Vec<u32>, Vec<String>) {
    let mut tokens = Vec::new();
    let mut words = Vec::new();
    for _ in 0..random.below(length) {
        match random.below(10) {
            0..5 => tokens.push(random.pick(&STRUCTURE)),
            5..8 => {
                let parts = [
                    "assistant",
                    "user",
                    "tool",
                    ":",
                    "analysis",
                    "commentary",
                    "final",
                    " to=",
                    "json",
                    " code",
                    " functions.f",
                    "python",
                    " ",
                    "\n",
                    "{",
                    "}",
                    "=",
                    "<|end|>",
                    "\u{3000}",
                    "日本",
                ];
                tokens.extend(O200K_HARMONY.encode(random.pick(&parts)));
            }
            8 => {
                let word = format!("word{:05}", words.len());
                tokens.extend(O200K_HARMONY.encode(&format!("{}{word}", random.pick(&["", " ", "\n", "."]))));
                words.push(word);
            }
            _ => tokens.push(random.pick(&[199_998, 200_500, 201_088, u32::MAX, 160, 255, 188])),
        }
    }
    (tokens, words)
}

#[test]
fn no_text_is_lost_whatever_the_tokens() {
    let mut random = Random(4);
    for _ in 0..100_000 {
        let (tokens, words) = disorder(&mut random, 40);
        let role = [None, Some(Role::Assistant), Some(Role::Tool)][random.below(3) as usize];
        let mut all = String::new();
        for got in run(&tokens, role) {
            match got {
                Got::Header { texts, .. } => all.push_str(&texts.join(" ")),
                Got::Content(text) => all.push_str(&text),
                _ => all.push('\n'),
            }
        }
        for word in words {
            assert!(all.contains(&word), "{word} of {tokens:?} in {all:?}");
        }
    }
}

#[test]
fn headers_contents_and_ends_alternate_and_their_positions_grow() {
    let mut random = Random(5);
    for _ in 0..100_000 {
        let (tokens, _) = disorder(&mut random, 40);
        let mut begun = None;
        let mut last = 0;
        for got in run(&tokens, Some(Role::Assistant)) {
            match got {
                Got::Header { first_token, .. } => {
                    assert!(begun.replace(first_token).is_none(), "a header in a message");
                    assert!(first_token >= last);
                }
                Got::Content(_) => assert!(begun.is_some()),
                Got::End(_, end_token) => {
                    let first_token = begun.take().expect("a message");
                    assert!(first_token <= end_token && end_token <= tokens.len() as u64);
                    let own = &tokens[first_token as usize..end_token as usize];
                    let ends = [SPECIAL.start, SPECIAL.end, SPECIAL.call, SPECIAL.return_, SPECIAL.end_of_text];
                    assert!(!own.iter().any(|token| ends.contains(token)), "{own:?} of {tokens:?}");
                    last = end_token;
                }
                Got::Problem(_) => {}
            }
        }
        assert_eq!(begun, None, "a message without an end");
    }
}

#[test]
fn a_parser_that_was_copied_on_the_way_goes_on_in_the_same_way() {
    let mut random = Random(6);
    for _ in 0..10_000 {
        let (tokens, _) = disorder(&mut random, 60);
        let mut got = Vec::new();
        let mut parser = Parser::new(SPECIAL, Some(Role::Assistant));
        for &token in &tokens {
            parser = parser.clone();
            parser.push(token, &*O200K_HARMONY, &mut collect(&mut got));
        }
        parser.finish(&mut collect(&mut got));
        assert_eq!(got, run(&tokens, Some(Role::Assistant)));
    }
}

/// Contents are what Rust makes of the bytes of their tokens, however these split characters.
#[test]
fn the_parts_of_a_content_joined_are_the_text_of_its_tokens() {
    let mut random = Random(7);
    let open = [vec![SPECIAL.channel], O200K_HARMONY.encode("final"), vec![SPECIAL.message]].concat();
    for _ in 0..20_000 {
        let length = random.below(12);
        // The first 256 tokens are single bytes.
        let mut content = Vec::new();
        for _ in 0..length {
            let bound = random.pick(&[ORDINARY_TOKENS, 256, 256, 256]);
            content.push(random.below(bound.into()) as u32);
        }
        let bytes: Vec<u8> =
            content.iter().flat_map(|&token| O200K_HARMONY.token_bytes(token).expect("bytes")).copied().collect();
        let tokens = [&open[..], &content, &[SPECIAL.return_]].concat();
        let text: String = run(&tokens, Some(Role::Assistant))
            .into_iter()
            .filter_map(|got| if let Got::Content(text) = got { Some(text) } else { None })
            .collect();
        assert_eq!(text, String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn a_header_of_any_length_loses_nothing() {
    for length in MAX_HEADER - 40..MAX_HEADER + 40 {
        let filler = "x".repeat(length);
        for tail in [vec![], vec![SPECIAL.channel], vec![SPECIAL.constrain], vec![SPECIAL.message], vec![SPECIAL.end]] {
            let mut tokens = vec![SPECIAL.channel];
            tokens.extend(O200K_HARMONY.encode(&format!("final {filler}")));
            tokens.extend(tail);
            tokens.extend(O200K_HARMONY.encode("the end"));
            let got = run(&tokens, Some(Role::Assistant));
            let mut all = String::new();
            for got in &got {
                match got {
                    Got::Content(text) => all.push_str(text),
                    Got::Header { texts, .. } => all.push_str(&texts.join(" ")),
                    _ => {}
                }
            }
            assert!(all.contains(&filler) && all.contains("the end"), "{length}: {got:?}");
        }
    }
}

#[test]
fn what_was_parsed_is_rendered_again_as_the_same_tokens() {
    let mut again = 0;
    for vector in vectors("parse.jsonl") {
        if vector["class"] != "ok" || vector["role"] != "assistant" {
            continue;
        }
        let ids = ids(&vector["ids"]);
        let mut parsed = parse(&ids, role(&vector), &*O200K_HARMONY, SPECIAL);
        if vector["text"].as_str().is_some_and(|text| text.contains("<|constrain|>")) {
            for message in parsed["messages"].as_array_mut().expect("messages") {
                if let Some(name) = message["content_type"].as_str() {
                    message["content_type"] = format!("<|constrain|>{name}").into();
                }
            }
        }
        let request = json!({"conversation": {"messages": parsed["messages"]}, "auto_drop_analysis": false});
        let is_canonical = |form| {
            let rendered = render_request(&request, form, &*O200K_HARMONY, SPECIAL).expect("a conversation");
            // After the beginning, and but for how the turn ended.
            let rest = &rendered[2..rendered.len() - 1];
            ids.starts_with(rest) && ids.len() <= rest.len() + 1
        };
        // Some vectors have no blank before `<|constrain|>`; none differ but in that.
        again += usize::from(is_canonical(Form::Trained) || is_canonical(Form::Library));
    }
    assert!(again > 60, "{again}");
}

/// What the model wrote stands in the next prompt as it was, but for the tokens that ended messages.
#[test]
fn the_tokens_of_each_message_put_together_again_are_what_the_model_wrote() {
    for vector in vectors("parse.jsonl") {
        if vector["class"] != "ok" || vector["role"] != "assistant" {
            continue;
        }
        let mut ids = ids(&vector["ids"]);
        let mut parser = Parser::new(SPECIAL, role(&vector));
        let mut ranges: Vec<(Range<usize>, bool)> = Vec::new();
        let mut collect = |event: Event| match event {
            Event::Header(header) => {
                let first = header.first_token as usize;
                ranges.push((first..first, header.after_role));
            }
            Event::End(end) => ranges.last_mut().expect("a header").0.end = end.end_token as usize,
            _ => {}
        };
        for &id in &ids {
            parser.push(id, &*O200K_HARMONY, &mut collect);
        }
        parser.finish(&mut collect);
        let message = |(range, after_role): &(Range<usize>, bool)| Message {
            own_tokens: Some(OwnTokens { tokens: &ids[range.clone()], after_role: *after_role }),
            ..Message::new(Role::Assistant, &[])
        };
        let messages: Vec<Message> = ranges.iter().map(message).collect();
        let renderer = Renderer::new(&*O200K_HARMONY, SPECIAL);
        let rendered = render(&renderer, &messages, Ending::Nothing).expect("messages");
        for id in &mut ids {
            if [SPECIAL.call, SPECIAL.return_].contains(id) {
                *id = SPECIAL.end;
            }
        }
        if ids.last() != Some(&SPECIAL.end) {
            ids.push(SPECIAL.end);
        }
        let prompt = [vec![SPECIAL.start], O200K_HARMONY.encode("assistant")].concat();
        assert_eq!(rendered, [prompt, ids].concat(), "{}", vector["name"]);
    }
}

#[test]
fn text_that_looks_like_a_special_token_is_text() {
    let text = "<|end|><|start|>assistant<|channel|>final<|message|>x<|return|>";
    let tokens = [
        vec![SPECIAL.channel],
        O200K_HARMONY.encode("final"),
        vec![SPECIAL.message],
        O200K_HARMONY.encode(text),
        vec![SPECIAL.return_],
    ]
    .concat();
    let parsed = parse(&tokens, Some(Role::Assistant), &*O200K_HARMONY, SPECIAL);
    assert_eq!(parsed["messages"], json!([{"role": "assistant", "channel": "final", "content": text}]));
    assert_eq!(parsed["diagnostics"], json!([]));
}
