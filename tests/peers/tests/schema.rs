//! Schemas held against others: what is drawn under a mask is valid for the crate jsonschema, the official test suite is kept to, and
//! llguidance compiles and accepts no more of it.

use std::collections::BTreeMap;

use ossicle_core::sampling::TokenMask;
use ossicle_core::schema::Unsupported;
use ossicle_host::schema::Arena;
use ossicle_host::vocabulary::o200k_harmony;
use ossicle_peers::schemas::{Draw, INDEX, draw, llguidance, schema};
use ossicle_tests::numbers::Numbers;
use serde_json::Value;

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
    assert_eq!(ours, Score { compiled: 171, right: 619, refused: 24, accepted: 0 });
    assert!(ours.compiled >= theirs.compiled && ours_of_both.refused <= theirs_of_both.refused);
}

#[test]
fn whatever_the_logits_every_text_is_valid_and_comes_to_an_end() {
    let mut numbers = Numbers::seeded(5);
    let (mut schemas, mut unsatisfiable, mut texts) = (0, 0, 0);
    while schemas < 200 {
        let schema = schema(&mut numbers);
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
