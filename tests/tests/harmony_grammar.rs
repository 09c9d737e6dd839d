//! The header grammar lets the model write every well-formed header and no other.

use std::collections::HashSet;
use std::fs;

use ossicle_core::harmony::conversation::{CHANNELS, Role};
use ossicle_core::harmony::grammar::{Allowed, HeaderGrammar, Rules};
use ossicle_core::harmony::parse::{Event, Parser};
use ossicle_core::harmony::render::Form;
use ossicle_core::harmony::{SpecialTokens, Vocabulary};
use ossicle_host::harmony::render_request;
use ossicle_tests::harmony::{O200K_HARMONY, ORDINARY_TOKENS};
use serde_json::{Value, json};

const SPECIAL: SpecialTokens = SpecialTokens::O200K_HARMONY;
const RECIPIENTS: [&str; 7] = [
    "functions.get_weather",
    "functions.get_weather_forecast",
    "functions.f",
    "functions.日本",
    "python",
    "browser.search",
    "browser.open",
];

/// Nobody's name: with it a header could be longer than the parser keeps.
const TOO_LONG: &str = match str::from_utf8(&[b'x'; 257]) {
    Ok(name) => name,
    Err(_) => "",
};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// Samples `steps` tokens. In content, every `stop_every`th token on average ends the message, if that is given; else all
/// tokens are as likely.
fn sample(steps: usize, stop_every: Option<usize>, channel_required: bool, seed: u64) -> (Vec<u32>, usize) {
    let rules = Rules { channel_required, ..Rules::new(SPECIAL, &RECIPIENTS) };
    let mut random = Random(seed);
    let mut grammar = HeaderGrammar::new(rules);
    let mut parser = Parser::new(SPECIAL, Some(Role::Assistant));
    let mut tokens = Vec::new();
    let mut headers = 0;
    let mut listed = Vec::new();
    let mut watch = |event: Event| match event {
        Event::Diagnostic(diagnostic) => panic!("{diagnostic:?}"),
        Event::Header(header) => {
            assert_eq!(header.role, Role::Assistant);
            assert_eq!(header.name, None);
            assert!(header.channel.is_some() || !channel_required);
            assert!(header.channel.is_none_or(|name| CHANNELS.contains(&name)));
            assert!(header.recipient.is_none_or(|name| RECIPIENTS.contains(&name)), "{header:?}");
            headers += 1;
        }
        _ => {}
    };
    for _ in 0..steps {
        listed.clear();
        let allowed = grammar.allowed(&*O200K_HARMONY, &mut |token| listed.push(token));
        listed.sort_unstable();
        listed.dedup();
        let stops = stop_every.map_or(0, |every| usize::from(random.below(every) == 0));
        let token = match (allowed, stop_every) {
            (Allowed::ListedAndOrdinary, None) => {
                let choice = random.below(listed.len() + ORDINARY_TOKENS as usize);
                listed.get(choice).copied().unwrap_or_else(|| (choice - listed.len()) as u32)
            }
            (Allowed::ListedAndOrdinary, Some(_)) if stops == 0 => random.below(ORDINARY_TOKENS as usize) as u32,
            _ => listed[random.below(listed.len())],
        };
        assert!(grammar.push(token, &*O200K_HARMONY), "token {token} was allowed");
        parser.push(token, &*O200K_HARMONY, &mut watch);
        tokens.push(token);
    }
    (tokens, headers)
}

#[test]
fn a_million_steps_of_uniformly_random_logits_give_no_diagnostic() {
    let (_, headers) = sample(1_000_000, None, true, 1);
    assert!(headers > 2, "{headers} headers");
}

#[test]
fn a_million_steps_with_short_contents_give_no_diagnostic() {
    let (tokens, headers) = sample(1_000_000, Some(4), true, 2);
    assert!(headers > 20_000, "{headers} headers");
    // Every recipient has come up, in several splits into tokens.
    let seen: HashSet<u32> = tokens.into_iter().collect();
    assert!(seen.contains(&SPECIAL.call) && seen.contains(&SPECIAL.return_) && seen.contains(&SPECIAL.constrain));
    let (_, headers) = sample(200_000, Some(4), false, 3);
    assert!(headers > 4_000, "{headers} headers");
}

/// Whether the grammar takes all of the tokens; what it does not take is told.
fn follow(rules: Rules, tokens: &[u32]) -> Result<(), String> {
    let mut grammar = HeaderGrammar::new(rules);
    for (position, &token) in tokens.iter().enumerate() {
        let mut is_listed = false;
        let allowed = grammar.allowed(&*O200K_HARMONY, &mut |listed| is_listed |= listed == token);
        let is_ordinary = O200K_HARMONY.token_bytes(token).is_some();
        let is_allowed = is_listed || allowed == Allowed::ListedAndOrdinary && is_ordinary;
        let is_taken = grammar.push(token, &*O200K_HARMONY);
        assert_eq!(is_allowed, is_taken, "position {position} of {tokens:?}");
        if !is_taken {
            return Err(format!("token {token} at {position} of {tokens:?}"));
        }
    }
    Ok(())
}

#[test]
fn nothing_is_forbidden_that_a_renderer_writes_for_the_assistant() {
    let types = [None, Some("json"), Some("code"), Some("<|constrain|>json"), Some("<|constrain|> json")];
    for form in [Form::Library, Form::Trained] {
        for channel in [None, Some("analysis"), Some("commentary"), Some("final")] {
            for recipient in RECIPIENTS.into_iter().map(Some).chain([None]) {
                for content_type in types {
                    let message = json!({"role": "assistant", "channel": channel, "recipient": recipient,
                        "content_type": content_type, "content": "{\"日本\": 1} <|end|>"});
                    let request = json!({"conversation": {"messages": [message]}});
                    let tokens = render_request(&request, form, &*O200K_HARMONY, SPECIAL).expect("a message");
                    let rules = Rules { channel_required: channel.is_some(), ..Rules::new(SPECIAL, &RECIPIENTS) };
                    assert_eq!(follow(rules, &tokens[2..]), Ok(()));
                }
            }
        }
    }
}

#[test]
fn nothing_is_forbidden_that_the_model_should_write() {
    let path = format!("{}/data/harmony/parse.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).expect(&path);
    let recipients = ["functions.get_weather", "functions.f", "functions.a_b-c", "python", "browser.search"];
    let mut followed = 0;
    for line in text.lines() {
        let vector: Value = serde_json::from_str(line).expect(line);
        if vector["class"] != "ok" || vector["role"] != "assistant" {
            continue;
        }
        let ids: Vec<u32> = serde_json::from_value(vector["ids"].clone()).expect("ids");
        let rules = Rules { channel_required: false, ..Rules::new(SPECIAL, &recipients) };
        assert_eq!(follow(rules, &ids), Ok(()), "{}", vector["text"]);
        followed += 1;
    }
    assert_eq!(followed, 83);
}

#[test]
fn headers_that_are_not_well_formed_are_forbidden() {
    let encode = |text: &str| O200K_HARMONY.encode(text);
    let channel = |text: &str| [vec![SPECIAL.channel], encode(text)].concat();
    let recipients = [&RECIPIENTS[..], &[TOO_LONG]].concat();
    let rules = Rules::new(SPECIAL, &recipients);
    for tokens in [
        vec![SPECIAL.message],
        vec![SPECIAL.start],
        vec![SPECIAL.end],
        vec![SPECIAL.constrain],
        vec![SPECIAL.channel, SPECIAL.channel],
        vec![SPECIAL.channel, SPECIAL.message],
        encode("final"),
        encode(" to=functions.x"),
        channel(" final"),
        channel("Final"),
        channel("thoughts"),
        channel("commentary to=functions.x"),
        channel("commentary to=functions.f to=functions.f"),
        channel("commentary hello"),
        channel("commentary json json"),
        channel(&format!("commentary to={TOO_LONG}")),
        [channel("final"), vec![SPECIAL.constrain], encode("  json")].concat(),
        [channel("final"), vec![SPECIAL.channel]].concat(),
        [channel("comment"), vec![SPECIAL.message]].concat(),
        [channel("final"), vec![SPECIAL.message, SPECIAL.channel]].concat(),
        [channel("final"), vec![SPECIAL.message, SPECIAL.end_of_text]].concat(),
        [channel("final"), vec![SPECIAL.message, 200_500]].concat(),
        [channel("final"), vec![SPECIAL.message, u32::MAX]].concat(),
        [channel("analysis"), vec![SPECIAL.message, SPECIAL.return_]].concat(),
        [channel("commentary to=functions.f"), vec![SPECIAL.message, SPECIAL.end]].concat(),
        [channel("final"), vec![SPECIAL.message, SPECIAL.end], encode("x")].concat(),
        [channel("final"), vec![SPECIAL.message, SPECIAL.end, SPECIAL.start], encode("user")].concat(),
    ] {
        assert!(follow(rules, &tokens).is_err(), "{tokens:?}");
    }
}
