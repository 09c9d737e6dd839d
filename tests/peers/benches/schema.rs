//! Times and counts of schemas beside llguidance's: of random ones, and of those in the folder `OSSICLE_SCHEMAS`, of every
//! `OSSICLE_EVERY`th of its JSON files. A file is a schema, or one of MaskBench, with instances that are valid or not.
//!
//! Times are what the processor spent on the thread, so that other work on the machine makes them little longer. Reading that clock takes
//! part of a microsecond itself.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use llguidance::Matcher;
use ossicle_core::sampling::TokenMask;
use ossicle_core::schema::{Schema, SchemaMask, TokenIndex, Unsupported};
use ossicle_core::tokenizer::Specials;
use ossicle_host::schema::{Arena, explain};
use ossicle_host::vocabulary::o200k_harmony;
use ossicle_peers::schemas::{Draw, FACTORY, INDEX, clock, draw, llguidance, schema};
use ossicle_tests::numbers::Numbers;
use serde_json::Value;

/// A schema, and instances: whether they are valid.
struct Case {
    name: String,
    schema: Value,
    instances: Vec<(String, bool)>,
}

impl Case {
    fn read(path: &std::path::Path) -> Option<Self> {
        let name = path.file_stem()?.to_string_lossy().into_owned();
        let mut file: Value = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
        let Some(tests) = file.get("tests").and_then(Value::as_array) else {
            return Some(Self { name, schema: file, instances: Vec::new() });
        };
        let instance = |test: &Value| Some((test["data"].to_string(), test["valid"].as_bool()?));
        let instances = tests.iter().filter_map(instance).collect();
        Some(Self { name, instances, schema: file["schema"].take() })
    }
}

/// How it went with one of the two.
#[derive(Default)]
struct Side {
    compiling: Vec<Duration>,
    masks: Vec<Duration>,
    /// Masks that took longest, by what they are of.
    slow: BTreeMap<String, Duration>,
    /// Of the instances that are invalid, and that are valid: those refused, and those accepted.
    instances: [[usize; 2]; 2],
}

impl Side {
    /// The result, if it is one, and the time that it took.
    fn compiled<T>(&mut self, compile: impl FnOnce() -> Option<T>) -> Option<T> {
        let begin = clock();
        let compiled = compile()?;
        self.compiling.push(clock() - begin);
        Some(compiled)
    }

    fn took(&mut self, name: &str, mask: Duration) {
        self.masks.push(mask);
        if mask > Duration::from_millis(1) {
            let slowest = self.slow.entry(name.to_owned()).or_default();
            *slowest = mask.max(*slowest);
        }
    }

    fn print(&mut self, who: &str) {
        let [[rejected, accepted], [refused, taken]] = self.instances;
        println!(
            "  {who}: {} compiled; {taken} valid instances accepted, {refused} refused; {rejected} invalid ones refused, \
            {accepted} accepted",
            self.compiling.len()
        );
        for (what, times) in [("compiling", &mut self.compiling), ("masks", &mut self.masks)] {
            times.sort_unstable();
            let Some(most) = times.last() else { continue };
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
            println!(
                "    {what} p50 {:?}, p90 {:?}, p99 {:?}, max {most:?} of {}",
                at(0.5),
                at(0.9),
                at(0.99),
                times.len()
            );
        }
        let mut slow: Vec<_> = self.slow.iter().collect();
        slow.sort_by_key(|(_, time)| Reverse(*time));
        let over = self.masks.iter().filter(|time| **time > Duration::from_millis(5)).count();
        println!("    {over} over 5 ms; over 1 ms in {}: {:?}", slow.len(), &slow[..slow.len().min(8)]);
    }
}

fn main() {
    let begin = clock();
    LazyLock::force(&INDEX);
    println!("index: {:?}; of llguidance: {:?}", clock() - begin, {
        let begin = clock();
        LazyLock::force(&FACTORY);
        clock() - begin
    });
    let index = TokenIndex::layout(&o200k_harmony()).unwrap().size;
    println!("memory: index {index} bytes, mask {} bytes", SchemaMask::layout(&INDEX).unwrap().size);
    let mut numbers = Numbers::seeded(5);
    let random = |number| Case { name: format!("{number}"), schema: schema(&mut numbers), instances: Vec::new() };
    report("random schemas", &(0..200).map(random).collect::<Vec<_>>(), 2);
    let Some(folder) = std::env::var_os("OSSICLE_SCHEMAS") else { return };
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let every: usize = std::env::var("OSSICLE_EVERY").map_or(1, |every| every.parse().unwrap());
    let cases: Vec<Case> = paths.iter().step_by(every).filter_map(|path| Case::read(path)).collect();
    report("files", &cases, 1);
}

/// Draws texts of schemas without instances, and reads the others' instances.
fn report(name: &str, cases: &[Case], texts: usize) {
    let mut numbers = Numbers::seeded(6);
    let (mut here, mut there) = (Side::default(), Side::default());
    let (mut regions, mut reasons) = (vec![], BTreeMap::<String, usize>::new());
    let (mut invalid, mut both) = (0, 0);
    for Case { name, schema, instances } in cases {
        let text = schema.to_string();
        let arena = Arena::new();
        let mut refusal = String::new();
        let explained = |error| refusal = explain(&error, "").split(" (byte").next().unwrap_or_default().to_owned();
        let compiled = here.compiled(|| arena.schema(&text, Unsupported::Refuse).map_err(explained).ok());
        let mut matcher = there.compiled(|| llguidance(schema));
        if compiled.is_none() {
            *reasons.entry(refusal).or_default() += 1;
        }
        both += usize::from(compiled.is_some() && matcher.is_some());
        let mut mask = compiled.map(|compiled| {
            regions.push(Schema::layout(&text).unwrap().size + Schema::scratch_layout(&text).unwrap().size);
            arena.mask(&compiled, *INDEX).unwrap()
        });
        for (instance, valid) in instances {
            if let Some(mask) = &mut mask {
                here.instances[usize::from(*valid)][usize::from(read_here(mask, instance, name, &mut here))] += 1;
            }
            if let Some(matcher) = &mut matcher {
                there.instances[usize::from(*valid)][usize::from(read_there(matcher, instance, name, &mut there))] += 1;
                if matcher.is_error() {
                    *matcher = llguidance(schema).unwrap();
                }
            }
        }
        let Some(mask) = mask.filter(|_| instances.is_empty()) else { continue };
        // Drafts before 6 take no integers that are read as f64.
        let mut newest = schema.clone();
        newest.as_object_mut().and_then(|schema| schema.remove("$schema"));
        let validator = jsonschema::options().should_validate_formats(true).build(&newest).ok();
        for _ in 0..texts {
            let mut clocked = Vec::new();
            let Some(drawn) = draw(mask, Draw::Peaked, &mut numbers, &mut clocked) else { continue };
            clocked.into_iter().for_each(|time| here.took(name, time));
            let drawn = String::from_utf8(drawn).unwrap();
            let value: Value = serde_json::from_str(&drawn).unwrap();
            if validator.as_ref().is_some_and(|validator| !validator.is_valid(&value)) {
                invalid += 1;
                println!("invalid: {} {drawn}", &text[..text.len().min(3000)]);
            }
            // The same text, as far as it goes there.
            if let Some(matcher) = &mut matcher {
                read_there(matcher, &drawn, name, &mut there);
            }
        }
    }
    println!("{name}: {} schemas, {both} compiled by both; {invalid} texts invalid", cases.len());
    here.print("here");
    there.print("llguidance");
    regions.sort_unstable();
    let below = [0.0, 0.5, 0.9, 0.99, 1.0].map(|share| regions.get((regions.len().saturating_sub(1) as f64 * share) as usize));
    println!("  bytes of schema and scratch, least, p50, p90, p99, most: {below:?}");
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| Reverse(*count));
    println!("  refused: {:?}", &reasons[..reasons.len().min(15)]);
}

fn tokens_of(text: &str) -> Vec<u32> {
    let mut tokens = Vec::new();
    o200k_harmony().encode(text, Specials::None, |token| tokens.push(token));
    tokens
}

/// Whether a text is accepted, token by token.
fn read_here(mask: &mut SchemaMask<'_>, text: &str, name: &str, side: &mut Side) -> bool {
    let mut words = vec![0; o200k_harmony().vocabulary_len().div_ceil(32)];
    mask.begin();
    for token in tokens_of(text) {
        let begin = clock();
        mask.allowed(&mut words).unwrap();
        side.took(name, clock() - begin);
        let allowed = words[token as usize / 32] >> (token % 32) & 1 == 1;
        // Where the text is sure, another token for it may be the one that is allowed.
        let accepted = mask.accept(token);
        assert!(accepted || !allowed, "{name}: a token that is allowed is not accepted in {text}");
        if !accepted {
            return false;
        }
    }
    mask.can_end()
}

/// Whether llguidance accepts a text.
fn read_there(matcher: &mut Matcher, text: &str, name: &str, side: &mut Side) -> bool {
    if matcher.reset().is_err() {
        return false;
    }
    for token in tokens_of(text) {
        let begin = clock();
        let allowed = matcher.compute_mask();
        side.took(name, clock() - begin);
        if !allowed.is_ok_and(|allowed| allowed.is_allowed(token)) || matcher.consume_token(token).is_err() {
            return false;
        }
    }
    matcher.is_accepting().unwrap_or(false)
}
