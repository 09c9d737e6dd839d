//! Schemas that were made to cost time, to fill what has an end, or to lead a text where it cannot go on.

use std::fmt::Write;
use std::sync::LazyLock;

use ossicle_core::error::{Error, Result};
use ossicle_core::sampling::TokenMask;
use ossicle_core::schema::{SchemaError, SchemaMask, TokenIndex, Unsupported};
use ossicle_host::schema::{Arena, explain};
use ossicle_host::vocabulary::o200k_harmony;

static INDEX: LazyLock<TokenIndex<'static>> =
    LazyLock::new(|| Box::leak(Box::new(Arena::new())).index(o200k_harmony()).unwrap());

/// `text`, so many times, with commas between.
fn times(text: &str, count: usize) -> String {
    vec![text; count].join(",")
}

/// A list of what is made of the first numbers.
fn listed(count: usize, of: impl Fn(usize) -> String) -> String {
    (0..count).map(of).collect::<Vec<_>>().join(",")
}

fn with_mask(schema: &str, work: impl FnOnce(&mut SchemaMask<'_>)) {
    let arena = Arena::new();
    let compiled =
        arena.schema(schema, Unsupported::Refuse).unwrap_or_else(|error| panic!("{}", explain(&error, schema)));
    work(arena.mask(&compiled, *INDEX).unwrap());
}

fn refusal(schema: &str) -> Option<SchemaError> {
    match Arena::new().schema(schema, Unsupported::Refuse).map(|_| ()) {
        Ok(()) => None,
        Err(Error::Schema(error)) => Some(error),
        Err(other) => panic!("{other}"),
    }
}

fn allowed(mask: &mut SchemaMask<'_>) -> Result<Vec<u32>> {
    let mut words = vec![0; o200k_harmony().vocabulary_len().div_ceil(32)];
    mask.allowed(&mut words)?;
    Ok((0..words.len() as u32 * 32).filter(|id| words[*id as usize / 32] >> (id % 32) & 1 == 1).collect())
}

fn token(text: &str) -> u32 {
    let tokenizer = o200k_harmony();
    let mut ids = 0..tokenizer.vocabulary_len() as u32;
    ids.find(|id| tokenizer.token_bytes(*id) == Some(text.as_bytes())).unwrap()
}

#[test]
fn branches_that_say_nothing_are_one() {
    let branches = times(r#"{"anyOf":[true,true]}"#, 60);
    with_mask(&format!(r#"{{"allOf":[{branches}]}}"#), |mask| {
        assert!(mask.accept_bytes(b"[1]") && mask.can_end());
    });
    let branches = times(&format!(r#"{{"anyOf":[{}]}}"#, times("true", 100)), 12);
    let error = refusal(&format!(r#"{{"oneOf":[{{"allOf":[{branches}]}},{{"allOf":[{branches}]}}]}}"#));
    assert_eq!(error.map(|error| error.keyword), Some("oneOf"));
    assert_eq!(refusal(r#"{"oneOf":[true,true]}"#).map(|error| error.keyword), Some("oneOf"));
}

#[test]
fn objects_alike_are_compared_in_bounds() {
    let mut schemas = String::new();
    for side in ["a", "b"] {
        write!(schemas, r#""{side}0":{{"type":"integer"}},"#).unwrap();
        for depth in 1..13 {
            let name = |index: usize| format!(r##""p{index}":{{"$ref":"#/$defs/{side}{}"}}"##, depth - 1);
            let required = listed(16, |index| format!(r#""p{index}""#));
            let properties = listed(16, name);
            write!(
                schemas,
                r#""{side}{depth}":{{"type":"object","properties":{{{properties}}},"required":[{required}]}},"#
            )
            .unwrap();
        }
    }
    let schema =
        format!(r##"{{"$defs":{{{schemas}"z":{{}}}},"oneOf":[{{"$ref":"#/$defs/a12"}},{{"$ref":"#/$defs/b12"}}]}}"##);
    assert_eq!(refusal(&schema).map(|error| error.keyword), Some("oneOf"));
}

#[test]
fn a_token_of_many_bytes_goes_on_in_many_branches() {
    let branch =
        |index| format!(r#"{{"type":"object","properties":{{"description":{{"type":"string"}},"p{index}":{{}}}}}}"#);
    with_mask(&format!(r#"{{"anyOf":[{}]}}"#, listed(100, branch)), |mask| {
        assert!(mask.accept_bytes(br#"{"description":""#));
        let dashes = token(&"-".repeat(96));
        assert!(allowed(mask).unwrap().contains(&dashes));
        assert!(mask.accept(dashes));
        assert!(mask.accept_bytes(br#"","p99":1}"#) && mask.can_end());
    });
}

#[test]
fn arrays_as_many_as_there_are_frames_go_on() {
    let array = |text: String| format!(r#"{{"type":"array","minItems":1,"items":{text}}}"#);
    let branch = |index| array(array(array(array(array(format!(r#"{{"const":{index}}}"#))))));
    with_mask(&format!(r#"{{"anyOf":[{}]}}"#, listed(1100, branch)), |mask| {
        assert!(mask.accept_bytes(b"[[[[["));
        assert!(!allowed(mask).unwrap().is_empty());
        assert!(mask.accept_bytes(b"7]]]]]") && mask.can_end());
    });
}

#[test]
fn an_object_that_needs_more_properties_closes_at_any_depth() {
    let object = r##"{"type":"object","minProperties":1,"additionalProperties":false,
        "properties":{"a":{"$ref":"#"},"b":{"type":"array","items":{"type":"array"},"minItems":1},"c":{"type":"null"}}}"##;
    with_mask(object, |mask| {
        for text in [r#"{"a":"#.repeat(99), r#"{"a":"#.repeat(98)] {
            mask.begin();
            assert!(mask.accept_bytes(text.as_bytes()));
            assert!(!allowed(mask).unwrap().is_empty(), "{}", text.len());
        }
    });
}

#[test]
fn of_two_strings_the_shorter_does_not_limit_the_other() {
    for order in [[r#""maxLength":20"#, r#""minLength":0"#], [r#""minLength":0"#, r#""maxLength":20"#]] {
        let [left, right] = order;
        with_mask(&format!(r#"{{"anyOf":[{{"type":"string",{left}}},{{"type":"string",{right}}}]}}"#), |mask| {
            assert!(mask.accept_bytes(b"\""));
            assert!(allowed(mask).unwrap().contains(&token(&"-".repeat(96))), "{order:?}");
        });
    }
}

#[test]
fn compiling_has_an_end() {
    let empty = times("{}", 57_000);
    let properties = listed(3_900, |index| format!(r##""{index}":{{"$ref":"#/x"}}"##));
    let many_references = format!(r#"{{"x":{{"type":"null","allOf":[{empty}]}},"properties":{{{properties}}}}}"#);
    let characters: String = (0..40_000).filter_map(|index| char::from_u32(0x1_0000 + 2 * index)).collect();
    let long_class = format!(r#"{{"type":"string","pattern":"^[{characters}]$","maxLength":1000000}}"#);
    let letters: String = (0..60_000).filter_map(|index| char::from_u32(0x4E00 + index % 20_000)).collect();
    let alternatives = letters.chars().map(String::from).collect::<Vec<_>>().join("|");
    let many_states = format!(r#"{{"type":"string","pattern":"^({alternatives})*$"}}"#);
    let numbers = listed(20_000, |index| format!("{index}"));
    let many_values = format!(r#"{{"allOf":[{{"enum":[{numbers}]}},{{"enum":[{numbers}]}}]}}"#);
    for schema in [many_references, long_class, many_states, many_values] {
        let start = std::time::Instant::now();
        let refused = refusal(&schema);
        println!("{:?} {refused:?}", start.elapsed());
    }
}
