//! Schemas held against others: what is drawn under a mask is valid for the crate jsonschema, the official test suite is kept to, and
//! llguidance compiles and accepts no more of it.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use ossicle_core::sampling::TokenMask;
use ossicle_core::schema::{Schema, SchemaMask, TokenIndex, Unsupported};
use ossicle_host::schema::Arena;
use ossicle_host::vocabulary::o200k_harmony;
use ossicle_tests::numbers::Numbers;
use serde_json::{Value, json};

static INDEX: LazyLock<TokenIndex<'static>> =
    LazyLock::new(|| Box::leak(Box::new(Arena::new())).index(o200k_harmony()).unwrap());

fn bytes_of(token: u32) -> &'static [u8] {
    static TOKENIZER: LazyLock<ossicle_core::tokenizer::Tokenizer<'static>> = LazyLock::new(o200k_harmony);
    TOKENIZER.token_bytes(token).filter(|_| !TOKENIZER.is_special(token)).unwrap_or_default()
}

static FACTORY: LazyLock<ParserFactory> = LazyLock::new(|| {
    let words: Vec<Vec<u8>> = (0..o200k_harmony().vocabulary_len() as u32).map(|id| bytes_of(id).to_vec()).collect();
    let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, 199_999), &words);
    let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let mut factory = ParserFactory::new_simple(&environment).unwrap();
    factory.quiet();
    factory
});

fn llguidance(schema: &Value) -> Option<Matcher> {
    let parser = FACTORY.create_parser(TopLevelGrammar::from_json_schema(schema.clone()));
    let matcher = Matcher::new(parser);
    (!matcher.is_error()).then_some(matcher)
}

fn ones(mask: &[u32]) -> impl Iterator<Item = u32> {
    (0..)
        .zip(mask)
        .flat_map(|(word, bits)| (0..32).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 32 + bit))
}

// The official test suite.

/// Groups that compile; in those, instances that are told right, valid ones that are refused, and invalid ones that are accepted.
#[derive(Debug, Default, PartialEq)]
struct Score {
    compiled: usize,
    right: usize,
    refused: usize,
    accepted: usize,
}

impl Score {
    fn take(&mut self, valid: bool, accepted: bool) {
        match (valid, accepted) {
            (true, false) => self.refused += 1,
            (false, true) => self.accepted += 1,
            _ => self.right += 1,
        }
    }
}

#[test]
fn of_the_official_suite_no_invalid_instance_is_accepted() {
    let groups: Vec<Value> = serde_json::from_str(include_str!("../../data/json-schema/draft2020-12.json")).unwrap();
    // Of all groups, and of those that both compile.
    let (mut ours, mut theirs) = (Score::default(), Score::default());
    let (mut ours_of_both, mut theirs_of_both) = (Score::default(), Score::default());
    let mut keywords = BTreeMap::<&str, [usize; 3]>::new();
    let verbose = std::env::var_os("OSSICLE_VERBOSE").is_some();
    for group in &groups {
        let schema = &group["schema"];
        let text = schema.to_string();
        let name = || format!("{}: {}", group["keyword"], group["description"]);
        let tests: Vec<(String, bool)> = group["tests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|test| (test[0].to_string(), test[1].as_bool().unwrap()))
            .collect();
        let arena = Arena::new();
        let compiled = arena.schema(&text, Unsupported::Refuse);
        let counts = keywords.entry(group["keyword"].as_str().unwrap()).or_default();
        counts[0] += 1;
        if let Err(error) = &compiled
            && verbose
        {
            println!("refused {}: {}", name(), ossicle_host::schema::explain(error, &text));
        }
        let matcher = llguidance(schema);
        let both = compiled.is_ok() && matcher.is_some();
        if let Ok(compiled) = compiled {
            ours.compiled += 1;
            ours_of_both.compiled += usize::from(both);
            counts[1] += 1;
            let mask = arena.mask(&compiled, *INDEX).unwrap();
            for (instance, valid) in &tests {
                mask.begin();
                let accepted = mask.accept_bytes(instance.as_bytes()) && mask.can_end();
                ours.take(*valid, accepted);
                if both {
                    ours_of_both.take(*valid, accepted);
                }
                if *valid && !accepted && verbose {
                    println!("valid but not accepted: {}: {instance}", name());
                }
                assert!(*valid || !accepted, "{}: {instance}", name());
            }
        }
        if let Some(mut matcher) = matcher {
            theirs.compiled += 1;
            theirs_of_both.compiled += usize::from(both);
            counts[2] += 1;
            for (instance, valid) in &tests {
                matcher.reset().unwrap();
                let mut tokens = Vec::new();
                o200k_harmony().encode(instance, ossicle_core::tokenizer::Specials::None, |token| tokens.push(token));
                let taken = matcher.try_consume_tokens(&tokens).unwrap_or(0);
                let accepted = taken == tokens.len() && matcher.is_accepting().unwrap_or(false);
                theirs.take(*valid, accepted);
                if both {
                    theirs_of_both.take(*valid, accepted);
                }
                if *valid && !accepted && verbose {
                    println!("valid but not accepted by llguidance: {}: {instance}", name());
                }
                if matcher.is_error() {
                    matcher = llguidance(schema).unwrap();
                }
            }
        }
    }
    println!("groups, and how many of them Ossicle and llguidance compile: {keywords:?}");
    println!("Ossicle: {ours:?}; of those that both compile {ours_of_both:?}");
    println!("llguidance: {theirs:?}; of those that both compile {theirs_of_both:?}");
    assert_eq!(ours, Score { compiled: 171, right: 617, refused: 26, accepted: 0 });
    assert!(ours.compiled >= theirs.compiled && ours_of_both.refused <= theirs_of_both.refused);
}

// Random texts.

/// How a token is drawn among those that are allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Draw {
    /// Each with the same probability.
    Uniform,
    /// Some tokens are always liked best.
    Peaked,
    /// The longest, and what opens more.
    Adversarial,
}

/// Draws a text to its end, if it comes to one.
fn draw(mask: &mut SchemaMask<'_>, draw: Draw, numbers: &mut Numbers, clocked: &mut Vec<Duration>) -> Option<Vec<u8>> {
    const LONG: usize = 150;
    let mut words = vec![0; o200k_harmony().vocabulary_len().div_ceil(32)];
    let (mut text, mut len) = (Vec::new(), 0);
    mask.begin();
    loop {
        let begin = Instant::now();
        let may_end = mask.allowed(&mut words).unwrap();
        clocked.push(begin.elapsed());
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
        let ends: Vec<u32> = [b"}", b"]", b"@", b"A"].into_iter().filter_map(|bytes| closing(bytes)).collect();
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

#[test]
fn whatever_the_logits_every_text_is_valid_and_comes_to_an_end() {
    let mut numbers = Numbers::seeded(5);
    let (mut schemas, mut unsatisfiable, mut texts) = (0, 0, 0);
    while schemas < 200 {
        let mut schema = random_schema(&mut numbers, 3);
        schema["$defs"] = json!({"list": serde_json::from_str::<Value>(LIST).unwrap()});
        let arena = Arena::new();
        let text = schema.to_string();
        let compiled = match arena.schema(&text, Unsupported::Refuse) {
            Ok(compiled) => compiled,
            Err(error) => {
                unsatisfiable += 1;
                println!("{}: {text}", ossicle_host::schema::explain(&error, &text));
                continue;
            }
        };
        schemas += 1;
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        let mask = arena.mask(&compiled, *INDEX).unwrap();
        for kind in [Draw::Uniform, Draw::Peaked, Draw::Adversarial] {
            for _ in 0..2 {
                let drawn = draw(mask, kind, &mut numbers, &mut Vec::new()).expect(&text);
                let drawn = String::from_utf8(drawn).unwrap_or_else(|error| panic!("{text}: {error}"));
                let value = serde_json::from_str(&drawn).unwrap_or_else(|error| panic!("{text}\n{drawn}\n{error}"));
                let result = validator.validate(&value);
                assert!(result.is_ok(), "{kind:?}\n{text}\n{drawn}\n{:?}", result.err().map(|error| error.to_string()));
                texts += 1;
            }
        }
    }
    println!("{texts} texts of {schemas} schemas; {unsatisfiable} were refused");
    assert!(unsatisfiable < 20, "{unsatisfiable}");
}

// Figures.

fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    format!("p50 {:?}, p90 {:?}, p99 {:?}, max {:?} of {}", at(0.5), at(0.9), at(0.99), at(1.0), times.len())
}

/// Times and counts beside llguidance's, of random schemas, and of the JSON files in and below the folder `OSSICLE_SCHEMAS`, such as a
/// checkout of JSONSchemaBench. Run it with `--release --ignored --nocapture`.
#[test]
#[ignore = "measures, and asserts nothing"]
fn figures() {
    let begin = Instant::now();
    LazyLock::force(&INDEX);
    println!("index: {:?}; of llguidance: {:?}", begin.elapsed(), {
        let begin = Instant::now();
        LazyLock::force(&FACTORY);
        begin.elapsed()
    });
    let index = TokenIndex::layout(&o200k_harmony()).unwrap().size;
    println!("memory: index {index} bytes, mask {} bytes", SchemaMask::layout(&INDEX).unwrap().size);
    let mut numbers = Numbers::seeded(5);
    let mut schemas: Vec<Value> = (0..200)
        .map(|_| {
            let mut schema = random_schema(&mut numbers, 3);
            schema["$defs"] = json!({"list": serde_json::from_str::<Value>(LIST).unwrap()});
            schema
        })
        .collect();
    report("random schemas", &schemas, 2);
    schemas.clear();
    let Some(folder) = std::env::var_os("OSSICLE_SCHEMAS") else { return };
    let mut folders: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    for folder in folders.into_iter().filter(|path| path.is_dir()) {
        let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let every: usize = std::env::var("OSSICLE_EVERY").map_or(1, |every| every.parse().unwrap());
        let read = |path: &std::path::PathBuf| serde_json::from_str(&std::fs::read_to_string(path).unwrap()).ok();
        let schemas: Vec<Value> = paths.iter().step_by(every).filter_map(read).collect();
        report(&folder.file_name().unwrap().to_string_lossy(), &schemas, 1);
    }
}

fn report(name: &str, schemas: &[Value], texts: usize) {
    let mut numbers = Numbers::seeded(6);
    let (mut compile, mut masks, mut regions) = ([vec![], vec![]], [vec![], vec![]], vec![]);
    let mut reasons = BTreeMap::<String, usize>::new();
    let (mut invalid, mut both) = (0, 0);
    for schema in schemas {
        let text = schema.to_string();
        let arena = Arena::new();
        let begin = Instant::now();
        let compiled = arena.schema(&text, Unsupported::Refuse);
        let time = begin.elapsed();
        if let Err(error) = &compiled {
            let explained = ossicle_host::schema::explain(error, "");
            *reasons.entry(explained.split(" (byte").next().unwrap().to_owned()).or_default() += 1;
        }
        let begin = Instant::now();
        let mut matcher = llguidance(schema);
        if matcher.is_some() {
            compile[1].push(begin.elapsed());
        }
        let Ok(compiled) = compiled else { continue };
        compile[0].push(time);
        regions.push(Schema::layout(&text).unwrap().size);
        both += usize::from(matcher.is_some());
        // Drafts before 6 take no integers that are read as f64.
        let mut newest = schema.clone();
        newest.as_object_mut().and_then(|schema| schema.remove("$schema"));
        let validator = jsonschema::options().should_validate_formats(true).build(&newest).ok();
        let mask = arena.mask(&compiled, *INDEX).unwrap();
        for _ in 0..texts {
            let Some(drawn) = draw(mask, Draw::Peaked, &mut numbers, &mut masks[0]) else { continue };
            let value: Value = serde_json::from_slice(&drawn).unwrap();
            if validator.as_ref().is_some_and(|validator| !validator.is_valid(&value)) {
                invalid += 1;
                println!("invalid: {} {}", &text[..text.len().min(3000)], String::from_utf8_lossy(&drawn));
            }
            // The same text, as far as it goes there.
            let Some(matcher) = &mut matcher else { continue };
            let mut tokens = Vec::new();
            o200k_harmony().encode(&drawn, ossicle_core::tokenizer::Specials::None, |token| tokens.push(token));
            if matcher.reset().is_err() {
                continue;
            }
            for token in tokens {
                let begin = Instant::now();
                let allowed = matcher.compute_mask();
                masks[1].push(begin.elapsed());
                if !allowed.is_ok_and(|allowed| allowed.is_allowed(token)) || matcher.consume_token(token).is_err() {
                    break;
                }
            }
        }
    }
    println!(
        "{name}: {} schemas; compiled {} here, {} by llguidance, {both} by both; {invalid} texts invalid",
        schemas.len(),
        compile[0].len(),
        compile[1].len()
    );
    for (who, compile, masks) in [("here", &compile[0], &masks[0]), ("llguidance", &compile[1], &masks[1])] {
        if !compile.is_empty() && !masks.is_empty() {
            println!("  {who}: compiling {}", quantiles(compile.clone()));
            println!("  {who}: masks {}", quantiles(masks.clone()));
        }
    }
    regions.sort_unstable();
    if let (Some(least), Some(most)) = (regions.first(), regions.last()) {
        println!("  regions of {least} to {most} bytes, half of them below {}", regions[regions.len() / 2]);
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    println!("  refused: {:?}", &reasons[..reasons.len().min(15)]);
}
