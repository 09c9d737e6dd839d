//! What the tests and the benchmark of schemas share: the vocabulary for Ossicle and for llguidance, random schemas, and drawing under masks.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use ossicle_core::sampling::TokenMask;
use ossicle_core::schema::{SchemaMask, TokenIndex};
use ossicle_host::schema::Arena;
use ossicle_host::vocabulary::o200k_harmony;
use ossicle_tests::numbers::Numbers;
use serde_json::{Value, json};

/// The index of the vocabulary.
pub static INDEX: LazyLock<TokenIndex<'static>> =
    LazyLock::new(|| Box::leak(Box::new(Arena::new())).index(o200k_harmony()).unwrap());

/// Of special tokens none.
fn bytes_of(token: u32) -> &'static [u8] {
    static TOKENIZER: LazyLock<ossicle_core::tokenizer::Tokenizer<'static>> = LazyLock::new(o200k_harmony);
    TOKENIZER.token_bytes(token).filter(|_| !TOKENIZER.is_special(token)).unwrap_or_default()
}

/// What llguidance makes of the vocabulary.
pub static FACTORY: LazyLock<ParserFactory> = LazyLock::new(|| {
    let words: Vec<Vec<u8>> = (0..o200k_harmony().vocabulary_len() as u32).map(|id| bytes_of(id).to_vec()).collect();
    let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, 199_999), &words);
    let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let mut factory = ParserFactory::new_simple(&environment).unwrap();
    factory.quiet();
    factory
});

/// The schema as llguidance compiles it, if it does.
pub fn llguidance(schema: &Value) -> Option<Matcher> {
    let parser = FACTORY.create_parser(TopLevelGrammar::from_json_schema(schema.clone()));
    let matcher = Matcher::new(parser);
    (!matcher.is_error()).then_some(matcher)
}

/// The time that the processor has spent on this thread.
pub fn clock() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The tokens of a mask.
pub fn ones(mask: &[u32]) -> impl Iterator<Item = u32> {
    (0..)
        .zip(mask)
        .flat_map(|(word, bits)| (0..32).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 32 + bit))
}

/// How a token is drawn among those that are allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Draw {
    /// Each with the same probability.
    Uniform,
    /// Some tokens are always liked best.
    Peaked,
    /// The longest, and what opens more.
    Adversarial,
}

/// Draws a text to its end, if it comes to one.
pub fn draw(
    mask: &mut SchemaMask<'_>,
    draw: Draw,
    numbers: &mut Numbers,
    clocked: &mut Vec<Duration>,
) -> Option<Vec<u8>> {
    const LONG: usize = 150;
    let mut words = vec![0; o200k_harmony().vocabulary_len().div_ceil(32)];
    let (mut text, mut len) = (Vec::new(), 0);
    mask.begin();
    loop {
        let begin = clock();
        let may_end = mask.allowed(&mut words).unwrap();
        clocked.push(clock() - begin);
        let allowed: Vec<u32> = ones(&words).collect();
        assert!(may_end || !allowed.is_empty(), "a dead end: {}", String::from_utf8_lossy(&text));
        if allowed.is_empty() || may_end && (len > LONG || numbers.below(4) == 0) {
            return Some(text);
        }
        let liked = |token: &u32| {
            let bytes = bytes_of(*token);
            match draw {
                // What is short, so that it comes to an end.
                _ if len > LONG => 300 - bytes.len(),
                Draw::Uniform => 0,
                Draw::Peaked => (*token as usize).wrapping_mul(0x9E37_79B9) & 0xFFFF,
                Draw::Adversarial => bytes.len() + 20 * bytes.iter().filter(|byte| b"[{\\,".contains(byte)).count(),
            }
        };
        let closing = |closing: &[u8]| allowed.iter().copied().find(|token| bytes_of(*token) == closing);
        // What ends a value, or what patterns wait for.
        let ends: Vec<u32> = [b"}", b"]", b"@", b":", b"A"].into_iter().filter_map(|bytes| closing(bytes)).collect();
        let any_end = (!ends.is_empty()).then(|| ends[numbers.below(ends.len().max(1))]);
        let closing = closing(b"\"").or(any_end).filter(|_| len > LONG);
        let tried = if draw == Draw::Uniform && len <= LONG { 1 } else { 1 + numbers.below(50) };
        let token = closing
            .filter(|_| numbers.below(20) > 0)
            .unwrap_or_else(|| (0..tried).map(|_| allowed[numbers.below(allowed.len())]).max_by_key(liked).unwrap());
        let shown = || (String::from_utf8_lossy(&text).into_owned(), String::from_utf8_lossy(bytes_of(token)));
        assert!(mask.accept(token), "{:?} of {}", shown(), allowed.len());
        text.extend_from_slice(bytes_of(token));
        len += 1;
        if len == 5000 {
            return None;
        }
    }
}

/// A schema with a little of everything.
fn random_schema(numbers: &mut Numbers, depth: usize) -> Value {
    let pick = |numbers: &mut Numbers, most: usize| numbers.below(most);
    let kinds = if depth == 0 { 9 } else { 15 };
    match pick(numbers, kinds) {
        0 => json!({"type": ["boolean", "null"]}),
        1 => {
            let least = pick(numbers, 2000) as i64 - 1000;
            json!({"type": "integer", "minimum": least, "maximum": least + pick(numbers, 3000) as i64})
        }
        2 => json!({"type": "number", "exclusiveMinimum": -2.5, "maximum": pick(numbers, 90) as f64 / 4.0}),
        3 => {
            // The validator reads numbers as f64.
            json!({"type": "integer", "multipleOf": pick(numbers, 30) + 1, "minimum": -1_000_000, "maximum": 1_000_000})
        }
        4 => {
            let least = pick(numbers, 6);
            json!({"type": "string", "minLength": least, "maxLength": least + pick(numbers, 20)})
        }
        5 => {
            let patterns = [
                "^[a-z]{2,5}$",
                "^\\d{3}-\\d{4}$",
                "^(foo|bar)+$",
                "^[^<>]*$",
                "^\\S+@\\S+$",
                "^.{1,12}$",
                "[A-Z]",
                "^(a|b)*c?$",
            ];
            json!({"type": "string", "pattern": patterns[pick(numbers, patterns.len())]})
        }
        6 => {
            let formats = [
                "date",
                "time",
                "date-time",
                "duration",
                "email",
                "hostname",
                "ipv4",
                "ipv6",
                "uuid",
                "uri",
                "json-pointer",
            ];
            json!({"type": "string", "format": formats[pick(numbers, formats.len())]})
        }
        7 => {
            let values = json!(["red", "green \"and\" blue", 7, 1.5, null, {"a": [1, "é"]}, []]);
            json!({"enum": values.as_array().unwrap()[..=pick(numbers, 7)]})
        }
        8 => {
            let texts = ["only\nthis", "naïve", "x"];
            json!({"const": texts[pick(numbers, texts.len())]})
        }
        9 | 10 => {
            let least = pick(numbers, 3);
            json!({"type": "array", "items": random_schema(numbers, depth - 1), "minItems": least, "maxItems": least + pick(numbers, 4)})
        }
        11 => {
            json!({"type": "array", "prefixItems": [random_schema(numbers, depth - 1), random_schema(numbers, depth - 1)], "items": false})
        }
        12 => json!({"anyOf": [random_schema(numbers, depth - 1), random_schema(numbers, depth - 1)]}),
        13 => json!({"$ref": "#/$defs/list"}),
        _ => {
            let names = ["a", "name", "a longer name", "été", "q\"", "n1", "n2"];
            let count = pick(numbers, names.len());
            let properties: serde_json::Map<String, Value> =
                names[..count].iter().map(|name| (name.to_string(), random_schema(numbers, depth - 1))).collect();
            let required: Vec<&str> = names[..count].iter().copied().filter(|_| numbers.below(2) == 0).collect();
            let mut object = json!({"type": "object", "properties": properties, "required": required});
            match pick(numbers, 4) {
                0 | 1 => object["additionalProperties"] = json!(false),
                2 => object["additionalProperties"] = json!({"type": "integer"}),
                _ => object["patternProperties"] = json!({"^n": {"type": ["integer", "string", "null"]}}),
            }
            object
        }
    }
}

const LIST: &str = r##"{"type":"object","properties":{"value":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/list"},{"type":"null"}]}},
    "required":["value","next"],"additionalProperties":false}"##;

/// A random schema, which may recur.
pub fn schema(numbers: &mut Numbers) -> Value {
    let mut schema = random_schema(numbers, 3);
    schema["$defs"] = json!({"list": serde_json::from_str::<Value>(LIST).unwrap()});
    schema
}
