//! What schemas allow, byte by byte; what is refused, and where; and turns that keep to one.

use std::sync::LazyLock;

use ossicle_core::error::Error;
use ossicle_core::generation::{Constrained, Constraint, Event, MessageKind, StopReason, Turn, TurnConfig};
use ossicle_core::harmony::history::History;
use ossicle_core::parallel::Alone;
use ossicle_core::sampling::{SamplerConfig, TokenMask};
use ossicle_core::schema::{JsonPath, Schema, SchemaMask, TokenIndex, Unsupported};
use ossicle_core::tokenizer::Specials;
use ossicle_core::transformer::Progress;
use ossicle_host::kernels::available;
use ossicle_host::schema::{Arena, explain};
use ossicle_host::vocabulary::o200k_harmony;
use ossicle_tests::engine::fastest;
use ossicle_tests::numbers::Numbers;
use ossicle_tests::turns::{SESSION, Told, begin, with_generation};

static INDEX: LazyLock<TokenIndex<'static>> =
    LazyLock::new(|| Box::leak(Box::new(Arena::new())).index(o200k_harmony()).unwrap());

/// Texts that a schema allows, and those that it does not.
fn check(schema: &str, allowed: &[&str], forbidden: &[&str]) {
    let arena = Arena::new();
    let compiled = arena.schema(schema, Unsupported::Refuse);
    let compiled = compiled.unwrap_or_else(|error| panic!("{schema}: {}", explain(&error, schema)));
    let mask = arena.mask(&compiled, *INDEX).unwrap();
    for (texts, expected) in [(allowed, true), (forbidden, false)] {
        for text in texts {
            mask.begin();
            let found = mask.accept_bytes(text.as_bytes()) && mask.can_end();
            assert_eq!(found, expected, "{schema}: {text}");
        }
    }
}

#[test]
fn types_are_kept() {
    check(
        "{}",
        &["null", "true", "-1.5e3", r#""x""#, "[]", r#"{"a":[{}, 1]}"#],
        &["", "nul", "01", "[1,]", " 1", "1 "],
    );
    check(r#"{"type":"integer"}"#, &["0", "-12"], &["1.0", "1e2", r#""1""#, "-0"]);
    check(r#"{"type":["string","null"]}"#, &["null", r#""""#, r#""\u00e9é\"""#], &["1", r#""\ud800""#, "\"\n\""]);
    check(r#"{"type":"string","nullable":true}"#, &["null", r#""a""#], &["1"]);
    check(r#"{"not":{"type":"string"}}"#, &["null", "[]"], &[r#""a""#]);
}

#[test]
fn objects_have_their_properties_in_order() {
    let schema = r#"{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"null"}},"required":["b"]}"#;
    check(
        schema,
        &[r#"{"a":1,"b":null}"#, r#"{"b":null,"c":[]}"#, "{\n  \"a\": 1,\n  \"b\": null\n}", r#"{"b":null,"aa":1}"#],
        &["{}", r#"{"a":1}"#, r#"{"b":null,"a":1}"#, r#"{"a":"x","b":null}"#, r#"{"b":null,"\u0061":1}"#],
    );
    let schema = r#"{"type":"object","properties":{"a":{}},"additionalProperties":false,"maxProperties":1}"#;
    check(schema, &["{}", r#"{"a":[1]}"#], &[r#"{"b":1}"#, r#"{"a":1,}"#, r#"{"a" :1}"#]);
    let schema =
        r#"{"type":"object","patternProperties":{"^x":{"type":"integer"}},"additionalProperties":{"type":"null"}}"#;
    check(schema, &[r#"{"x1":2,"y":null}"#], &[r#"{"x1":null}"#, r#"{"y":2}"#]);
    // A key that two patterns match, and that no value can be of.
    let schema =
        r#"{"type":"object","patternProperties":{"^x":{"type":"integer"},"y$":{"type":"null"}},"minProperties":1}"#;
    check(schema, &[r#"{"x1":2,"y":null}"#, r#"{"xyz":2}"#], &["{}", r#"{"xy":2}"#, r#"{"xy":null}"#]);
    let schema = r#"{"patternProperties":{"^x":{"type":"integer"},"x":{"type":"null"}},"additionalProperties":false}"#;
    check(schema, &["{}", r#"{"ax":null}"#, "1"], &[r#"{"x":1}"#, r#"{"b":1}"#]);
    // A key that leads back to an object that needs one.
    let schema = r##"{"type":"object","minProperties":1,"additionalProperties":false,
        "patternProperties":{"^v":{"type":"integer"},"^c":{"$ref":"#"}}}"##;
    check(schema, &[r#"{"v":1}"#, r#"{"v":1,"v2":2}"#], &["{}", r#"{"c":{}}"#, r#"{"c":1}"#]);
}

#[test]
fn what_other_schemas_bring_stands_where_the_text_has_it() {
    let base = r#""$defs":{"base":{"properties":{"a":{"type":"integer"}}}}"#;
    let own = r#""properties":{"b":{"type":"null"}}"#;
    let (first, last) = (&[r#"{"a":1,"b":null}"#], &[r#"{"b":null,"a":1}"#]);
    for keyword in [
        r##""$ref":"#/$defs/base""##,
        r##""allOf":[{"$ref":"#/$defs/base"}]"##,
        r##""anyOf":[{"$ref":"#/$defs/base"}]"##,
        r##""oneOf":[{"$ref":"#/$defs/base"}]"##,
    ] {
        check(&format!("{{{base},{keyword},{own}}}"), first, last);
        check(&format!("{{{base},{own},{keyword}}}"), last, first);
        // It says which properties there are besides.
        check(&format!(r#"{{{base},"additionalProperties":{{}},{keyword},{own}}}"#), last, first);
    }
    // Branches are chosen in another order than they are written in, and lead to more.
    let schema = r#"{"allOf":[{"oneOf":[{"properties":{"t":{"const":1},"x":{}},"required":["t"]},
            {"properties":{"t":{"const":2}},"allOf":[{"properties":{"y":{}}}],"required":["t"]}]},{"properties":{"z":{}}}],
        "type":"object","properties":{"own":{}},"anyOf":[{"properties":{"v":{}}},{"required":["w"]}]}"#;
    check(
        schema,
        &[r#"{"t":1,"x":0,"z":0,"own":0,"v":0}"#, r#"{"t":2,"y":0,"z":0,"own":0,"w":0}"#, r#"{"t":1,"y":0}"#],
        &[r#"{"own":0,"t":1}"#, r#"{"z":0,"t":1}"#, r#"{"y":0,"t":2}"#, r#"{"own":0}"#, r#"{"t":3}"#],
    );
    // What has branches may stand in another branch again.
    let twice = r##""$defs":{"a":{"anyOf":[{"type":"object"},{"type":"null"}]}}"##;
    for schema in [
        r##""$ref":"#/$defs/a","anyOf":[{"$ref":"#/$defs/a"},{"required":["z"]}]"##,
        r##""allOf":[{"$ref":"#/$defs/a"},{"anyOf":[{"$ref":"#/$defs/a"},{"required":["z"]}]}]"##,
    ] {
        check(&format!("{{{twice},{schema}}}"), &[r#"{"z":1}"#, "{}", "null"], &["1"]);
    }
    // What leads back to itself is there once.
    let schema = r##"{"allOf":[{"$ref":"#"},{"$ref":"#/$defs/base"},{"$ref":"#/$defs/base"}],"properties":{"b":{"$ref":"#"}},
        "$defs":{"base":{"$ref":"#","properties":{"a":{}},"type":"object"}}}"##;
    check(schema, &[r#"{"a":0,"b":{"a":0,"b":{}}}"#], &[r#"{"b":{},"a":0}"#, r#"{"b":0}"#]);
}

#[test]
fn arrays_have_their_items_and_lengths() {
    check(
        r#"{"type":"array","items":{"type":"boolean"},"minItems":1,"maxItems":2}"#,
        &["[true]", "[true, false]"],
        &["[]", "[true,true,true]", "[1]"],
    );
    check(
        r#"{"type":"array","prefixItems":[{"const":1},{"const":"x"}],"items":false}"#,
        &["[]", r#"[1,"x"]"#],
        &["[2]", r#"[1,"x",1]"#],
    );
}

#[test]
fn numbers_are_within_bounds_to_the_digit() {
    check(
        r#"{"type":"integer","minimum":-12,"maximum":107}"#,
        &["-12", "-1", "0", "99", "107"],
        &["-13", "108", "1000"],
    );
    check(
        r#"{"type":"number","minimum":-1.5,"exclusiveMaximum":2.25}"#,
        &["-1.5", "-1.50", "2.2499", "2", "0"],
        &["-1.51", "2.25", "2.250", "2.3", "-2"],
    );
    check(r#"{"type":"number","exclusiveMinimum":0,"maximum":1e-2}"#, &["0.01", "0.00001"], &["0", "0.0", "0.011"]);
    check(r#"{"type":"integer","multipleOf":7,"minimum":1}"#, &["7", "49", "7000"], &["0", "8", "-7"]);
    check(r#"{"type":"number","multipleOf":0.25}"#, &["0.25", "1.5", "-3"], &["0.2", "0.375"]);
    check(r#"{"type":"integer","multipleOf":1000}"#, &["0", "-5000", "123000"], &["500", "-0"]);
    check(r#"{"type":"integer","multipleOf":100,"minimum":1000000}"#, &["1000000", "1234500"], &["999900", "1000010"]);
    check(r#"{"enum":[5000000,5000100],"multipleOf":1000}"#, &["5000000"], &["5000100"]);
}

#[test]
fn strings_are_measured_in_characters_and_match_patterns() {
    check(
        r#"{"type":"string","minLength":2,"maxLength":3}"#,
        &[r#""aé""#, r#""\u00e9\n日""#],
        &[r#""a""#, r#""aaaa""#],
    );
    check(r#"{"type":"string","pattern":"^a[^b]{1,2}$"}"#, &[r#""axé""#, r#""a\n""#], &[r#""ab""#, r#""axxx""#]);
    check(r#"{"type":"string","pattern":"[0-9]{3}"}"#, &[r#""x123y""#], &[r#""x12y3""#]);
    check(r#"{"type":"string","pattern":"^[a\\ud7ff-\\ue000]$"}"#, &[r#""a""#, "\"\u{e000}\""], &[r#""\ud800""#]);
    check(
        r#"{"type":"string","pattern":"^(a|bc)*$","minLength":3,"maxLength":3}"#,
        &[r#""abc""#, r#""aaa""#],
        &[r#""bcbc""#, r#""bc""#],
    );
    check(r#"{"type":"string","format":"date"}"#, &[r#""2024-02-29""#], &[r#""2023-02-29""#, r#""2024-13-01""#]);
    check(
        r#"{"type":"string","format":"uri"}"#,
        &[r#""file:///C:/a.txt""#, r#""http://a.bc:80/d?e#f""#, r#""urn:a:b""#],
        &[r#""a/b""#, r#""http:///a b""#],
    );
    check(
        r#"{"type":"string","pattern":"^a","format":"uuid"}"#,
        &[r#""a23e4567-e89b-12d3-a456-426614174000""#],
        &[r#""123e4567-e89b-12d3-a456-426614174000""#],
    );
}

#[test]
fn choices_and_combinations_merge() {
    check(
        r#"{"enum":["a",1.0,null,{"k":[1]}]}"#,
        &[r#""a""#, "1", "null", r#"{"k": [1]}"#],
        &[r#""b""#, r#"{"k":[]}"#],
    );
    check(r#"{"const":"a\u0000b"}"#, &[r#""a\u0000b""#], &[r#""a\u0001b""#, r#""\u0061\u0000b""#]);
    check(r#"{"enum":["a","bb","ccc"],"maxLength":2}"#, &[r#""bb""#], &[r#""ccc""#]);
    check(r#"{"type":"string","maxL\u0065ngth":2}"#, &[r#""bb""#], &[r#""ccc""#]);
    check(
        r##"{"$id":"http://e","properties":{"v":{"$id":"#v","$ref":"#"},"w":{"$id":"w"}}}"##,
        &[r#"{"v":{"w":1}}"#],
        &[],
    );
    check(r#"{"allOf":[{"minimum":2},{"type":"integer","maximum":3}]}"#, &["2", "3"], &["1", "4", "2.5"]);
    check(r##"{"anyOf":[{"type":"string"},{"type":"array","items":{"$ref":"#"}}]}"##, &[r#"[["x"],[]]"#], &["[1]"]);
    let shapes = r#"{"oneOf":[{"properties":{"t":{"const":"a"},"x":{"type":"null"}},"required":["t","x"],"type":"object"},
        {"properties":{"t":{"const":"b"}},"required":["t"],"type":"object","additionalProperties":false}]}"#;
    check(shapes, &[r#"{"t":"a","x":null}"#, r#"{"t":"b"}"#], &[r#"{"t":"a"}"#, r#"{"t":"b","x":null}"#]);
    let list = r##"{"$defs":{"n":{"type":"object","properties":{"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},
        "required":["next"],"additionalProperties":false}},"$ref":"#/$defs/n"}"##;
    check(list, &[r#"{"next":{"next":null}}"#], &["{}", "null"]);
}

#[test]
fn many_names_formats_and_alternatives_find_room() {
    let names: Vec<String> = (0..100).map(|number| format!("property_{number:03}")).collect();
    let properties: Vec<String> = names.iter().map(|name| format!(r#""{name}":{{"type":"string"}}"#)).collect();
    let branches: Vec<String> = names[..8].iter().map(|name| format!(r#"{{"required":["{name}"]}}"#)).collect();
    let schema =
        format!(r#"{{"type":"object","properties":{{{}}},"anyOf":[{}]}}"#, properties.join(","), branches.join(","));
    check(&schema, &[r#"{"property_007":"","property_099":""}"#], &["{}", r#"{"property_099":""}"#]);

    let fields: Vec<String> =
        (0..20).map(|number| format!(r#""e{number}":{{"type":"string","format":"email"}}"#)).collect();
    let schema = format!(r#"{{"type":"object","properties":{{{}}}}}"#, fields.join(","));
    check(&schema, &[r#"{"e3":"a@b.cd"}"#], &[r#"{"e19":"a"}"#]);

    let letters = || b'a'..=b'm';
    let words = letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| [a, b, c])));
    let words: Vec<String> = words.map(|word| String::from_utf8_lossy(&word).into_owned()).collect();
    let schema = format!(r#"{{"type":"string","pattern":"^({})$"}}"#, words.join("|"));
    assert!(schema.len() > 8_000);
    check(&schema, &[r#""aaa""#, r#""mlk""#], &[r#""aa""#, r#""aan""#]);
}

#[test]
fn what_cannot_be_enforced_is_refused_with_keyword_and_path() {
    for (schema, keyword, path) in [
        (r#"{"properties":{"a/b":{"not":{"minimum":1}}}}"#, "not", "#/properties/a~1b/not"),
        (r#"{"items":{"pattern":"(?=a)"}}"#, "pattern", "#/items/pattern"),
        (r#"{"items":{"pattern":"(a{4000}){4000}"}}"#, "pattern", "#/items/pattern"),
        (r#"{"format":"telephone"}"#, "format", "#/format"),
        (r##"{"$ref":"#/$defs/none"}"##, "$ref", "#/$ref"),
        (r#"{"$ref":"http://example.com"}"#, "$ref", "#/$ref"),
        (r#"{"type":"strin"}"#, "type", "#/type"),
        (r#"{"oneOf":[{"type":"number"},{"type":"integer"}]}"#, "oneOf", "#/oneOf"),
        (
            r#"{"oneOf":[{"type":"object","required":["p"],"properties":{"p":{"type":"integer"}},"additionalProperties":false},
                {"type":"object","patternProperties":{"^x":{"not":{}}}}]}"#,
            "oneOf",
            "#/oneOf",
        ),
        (
            r##"{"$defs":{"x":{"type":"string"},"a":{"$id":"http://e/a","$defs":{"x":{"type":"integer"}},
                "properties":{"v":{"$ref":"#/$defs/x"}}}},"$ref":"#/$defs/a"}"##,
            "$id",
            "#/$defs/a/$id",
        ),
        (
            r##"{"$defs":{"x":{},"a":{"$id":"http://e/a","$defs":{"y":{"$ref":"#/$defs/x"}}}},"$ref":"#/$defs/a/$defs/y"}"##,
            "$ref",
            "#/$ref",
        ),
        (r#"{"items":{"pattern":"^\\u{d800}$"}}"#, "pattern", "#/items/pattern"),
        (r#"{"type":"string","pattern":"^[^\\u0000-\\ud7ff\\ue000-\\u{10ffff}]$"}"#, "schema", "#"),
        (r#"{"items":{"multipleOf":4999}}"#, "multipleOf", "#/items/multipleOf"),
        (r#"{"items":{"multipleOf":500,"minimum":1e30}}"#, "multipleOf", "#/items/multipleOf"),
        (r#"{"items":{"minimum":1e70}}"#, "minimum", "#/items/minimum"),
        (r#"{"items":{"pattern":"^a*b?c*d*$","maxLength":1000000}}"#, "maxLength", "#/items/maxLength"),
        (r#"{"type":"string","minLength":3,"maxLength":2}"#, "schema", "#"),
        (
            r#"{"type":"object","properties":{"a":{},"b":{}},"additionalProperties":false,"minProperties":2,"maxProperties":1}"#,
            "schema",
            "#",
        ),
        (r##"{"anyOf":[{"$ref":"#"}]}"##, "$ref", "#/anyOf/0/$ref"),
        (r##"{"anyOf":[{"type":"null"},{"$ref":"#"}]}"##, "$ref", "#/anyOf/1/$ref"),
        (r#"{"type":"array","uniqueItems":true}"#, "uniqueItems", "#/uniqueItems"),
        ("[1", "json", "#"),
        (&" ".repeat(300_000), "schema", "#"),
    ] {
        let arena = Arena::new();
        match arena.schema(schema, Unsupported::Refuse).map(|_| ()) {
            Err(Error::Schema(error)) => {
                let found = JsonPath { text: schema, offset: error.offset }.to_string();
                assert_eq!((error.keyword, found.as_str()), (keyword, path), "{schema}: {error}");
            }
            other => panic!("{schema}: {other:?}"),
        }
    }
    let schema = r#"{"type":"array","items":{"type":"integer"},"uniqueItems":true}"#;
    let arena = Arena::new();
    let compiled: Schema<'_> = arena.schema(schema, Unsupported::Ignore).unwrap();
    assert_eq!(compiled.warnings().iter().map(|warning| warning.keyword).collect::<Vec<_>>(), ["uniqueItems"]);
    let compiled = arena.schema(r#"{"type":"integer","multipleOf":4999}"#, Unsupported::Ignore).unwrap();
    assert_eq!(compiled.warnings().iter().map(|warning| warning.keyword).collect::<Vec<_>>(), ["multipleOf"]);
}

fn ones(mask: &[u32]) -> impl Iterator<Item = u32> {
    (0..mask.len() as u32 * 32).filter(|id| mask[*id as usize / 32] >> (id % 32) & 1 == 1)
}

/// The bytes that must follow a text.
fn sure_text(mask: &mut SchemaMask<'_>, text: &str) -> Vec<u8> {
    let mut sure = Vec::new();
    loop {
        let mut follows = |byte: Option<u8>| {
            mask.begin();
            mask.accept_bytes(text.as_bytes())
                && mask.accept_bytes(&sure)
                && match byte {
                    Some(byte) => mask.accept_bytes(&[byte]),
                    None => mask.can_end(),
                }
        };
        let bytes: Vec<u8> = (0..=255).filter(|byte| follows(Some(*byte))).collect();
        if follows(None) || bytes.len() != 1 {
            return sure;
        }
        sure.push(bytes[0]);
    }
}

/// Tokens drawn at random among those that are allowed, to the end of the text.
fn random_text(mask: &mut SchemaMask<'_>, numbers: &mut Numbers, mut each: impl FnMut(&[u32], &[u32])) -> Vec<u32> {
    let tokenizer = o200k_harmony();
    let mut words = vec![0; tokenizer.vocabulary_len().div_ceil(32)];
    let mut tokens = Vec::new();
    mask.begin();
    loop {
        let may_end = mask.allowed(&mut words).unwrap();
        each(&tokens, &words);
        let allowed: Vec<u32> = ones(&words).collect();
        if allowed.is_empty() || may_end && (tokens.len() > 60 || numbers.below(3) == 0) {
            assert!(may_end, "a dead end");
            return tokens;
        }
        // The shortest ones end sooner.
        let size = |token: &u32| tokenizer.token_bytes(*token).unwrap().len();
        let drawn = (0..if tokens.len() > 60 { 20 } else { 1 }).map(|_| allowed[numbers.below(allowed.len())]);
        let token = drawn.min_by_key(size).unwrap();
        assert!(mask.accept(token));
        tokens.push(token);
    }
}

#[test]
fn text_that_is_sure_comes_as_the_tokenizer_has_it() {
    let schema = r#"{"type":"object","properties":{"identification number":{"type":"integer","minimum":0,"maximum":99},
        "naïve café's":{"enum":["first choice of all","first choice of none","日本語ABC"]},"状態ABC":{"const":"don't ask"},
        "k":{"type":"boolean"},"n":{"const":1234567}},
        "required":["identification number","naïve café's","状態ABC","k","n"],"additionalProperties":false}"#;
    let arena = Arena::new();
    let compiled = arena.schema(schema, Unsupported::Refuse).unwrap();
    let mask = arena.mask(&compiled, *INDEX).unwrap();
    let probe = arena.mask(&compiled, *INDEX).unwrap();
    let tokenizer = o200k_harmony();
    let encode = |text: &[u8]| {
        let mut tokens = Vec::new();
        tokenizer.encode(text, Specials::None, |token| tokens.push(token));
        tokens
    };
    let decode = |tokens: &[u32]| -> Vec<u8> {
        tokens.iter().flat_map(|id| tokenizer.token_bytes(*id).unwrap()).copied().collect()
    };
    let mut numbers = Numbers::seeded(3);
    let (mut sure, mut all) = (0, 0);
    for _ in 0..12 {
        let mut only = Vec::new();
        let tokens = random_text(mask, &mut numbers, |before, words| {
            if ones(words).count() == 1 {
                only.push(before.len());
            }
        });
        let text = decode(&tokens);
        for at in &only {
            let before = decode(&tokens[..*at]);
            let Ok(before) = std::str::from_utf8(&before) else { continue };
            let bytes = sure_text(probe, before);
            let token = tokens[*at];
            assert!(bytes.starts_with(tokenizer.token_bytes(token).unwrap()), "{before}");
            if bytes.len() == tokenizer.token_bytes(token).unwrap().len() {
                // Nothing is known of what comes behind; there is just no other token.
                continue;
            }
            // Whatever comes behind it.
            assert_eq!(encode(&text[before.len()..])[0], token, "{before}");
            for behind in ["", "s", "S", "日", "\u{301}", "1", " ", "\n", "  \n", "'ll", "/", "\"", "\":", "ABCd"] {
                let text = [&bytes, behind.as_bytes()].concat();
                assert_eq!(encode(&text)[0], token, "{before} {behind:?}");
            }
        }
        (sure, all) = (sure + only.len(), all + tokens.len());
    }
    println!("{sure} of {all} tokens are sure");
    assert!(sure * 3 > all, "besides white space, most of this text is sure: {sure} of {all}");
}

#[test]
fn a_mask_holds_exactly_the_tokens_whose_bytes_are_allowed() {
    let schema = r#"{"type":"object","properties":{"s":{"type":"string","minLength":3,"maxLength":9},
        "p":{"type":"string","pattern":"^[a-f]+-"},"q":{"type":"string","pattern":"o{2}"},
        "r":{"type":"string","pattern":"^.{0,30}$"},"t":{"type":"string","pattern":"^.{1,5}$"},
        "u":{"type":"string","pattern":"^[^<>]*$"},"v":{"type":"string","pattern":"^\\S+@\\S+$"},"e":{"enum":["red","green"]},"n":{"type":"number"}},
        "required":["s","p"]}"#;
    let arena = Arena::new();
    let compiled = arena.schema(schema, Unsupported::Refuse).unwrap();
    let mask = arena.mask(&compiled, *INDEX).unwrap();
    let probe = arena.mask(&compiled, *INDEX).unwrap();
    let tokenizer = o200k_harmony();
    let mut words = vec![0; tokenizer.vocabulary_len().div_ceil(32)];
    let text = r#"{"s":"ab\n日本","p":"cafe-\"x","q":"foo","r":"x日z","t":"ab","u":"a b","v":"c@d","e":"red","n":-1.5,"zz":[1]}"#;
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        mask.begin();
        assert!(mask.accept_bytes(&text.as_bytes()[..end]));
        mask.allowed(&mut words).unwrap();
        let is_sure = ones(&words).count() == 1 && sure_text(probe, &text[..end]).len() > 1;
        for id in 0..tokenizer.vocabulary_len() as u32 {
            // All of them at one place in eight, one in sixteen at the others.
            if !end.is_multiple_of(8) && !id.is_multiple_of(16) {
                continue;
            }
            let expected = !tokenizer.is_special(id)
                && tokenizer.token_bytes(id).is_some_and(|bytes| {
                    probe.begin();
                    probe.accept_bytes(&text.as_bytes()[..end]) && probe.accept_bytes(bytes)
                });
            let found = words[id as usize / 32] >> (id % 32) & 1 == 1;
            // Where the text is sure, it is one of those tokens.
            assert!(found == expected || is_sure && !found, "{:?} after {}", tokenizer.token_bytes(id), &text[..end]);
        }
    }
}

#[test]
fn a_turn_keeps_to_its_schemas_and_reasons_freely() {
    let schema = r#"{"type":"object","properties":{"ok":{"type":"boolean"},"n":{"type":"integer","minimum":0,"maximum":9}},
        "required":["ok","n"],"additionalProperties":false}"#;
    let call =
        r#"{"type":"object","properties":{"q":{"enum":["x","y"]}},"required":["q"],"additionalProperties":false}"#;
    let (mut answers, mut calls) = (0, 0);
    for seed in 0..30 {
        with_generation((fastest(), &SESSION), History::Documented, |generation| {
            begin(generation);
            let arena = Arena::new();
            let index = arena.index(*generation.tokenizer()).unwrap();
            let (answer, call) = (arena.schema(schema, Unsupported::Refuse), arena.schema(call, Unsupported::Refuse));
            let mut constraints = [
                Constraint { on: Constrained::Answer, mask: arena.mask(&answer.unwrap(), index).unwrap() },
                Constraint {
                    on: Constrained::Call("functions.look"),
                    mask: arena.mask(&call.unwrap(), index).unwrap(),
                },
            ];
            let config = TurnConfig {
                sampler: SamplerConfig { seed, ..SamplerConfig::default() },
                recipients: if seed % 2 == 0 { &["functions.look"] } else { &[] },
                reasoning_tokens: Some(8),
                max_tokens: 200,
                ..TurnConfig::default()
            };
            let mut told = Told::default();
            let mut turn = Turn::new(generation, config).unwrap().with_constraints(&mut constraints).unwrap();
            turn.run(generation, &Alone, &mut |event| told.take(event)).unwrap();
            let last = told.messages.last().unwrap();
            match told.reason() {
                StopReason::Finished => {
                    assert_eq!(last.0, MessageKind::Answer, "{told:?}");
                    let value: serde_json::Value = serde_json::from_str(&last.2).unwrap();
                    assert!(value["ok"].is_boolean() && value["n"].as_u64().unwrap() < 10);
                    answers += 1;
                }
                StopReason::ToolCall => {
                    let value: serde_json::Value = serde_json::from_str(&last.2).unwrap_or_else(|_| panic!("{told:?}"));
                    assert!(value["q"] == "x" || value["q"] == "y");
                    calls += 1;
                }
                // Reasoning or preambles took all there was.
                reason => assert_eq!(reason, StopReason::MaxTokens),
            }
        });
    }
    assert!(answers > 0 && calls > 0, "{answers} answers, {calls} calls");
}

#[test]
fn with_every_kernel_set_a_turn_does_not_depend_on_what_is_not_computed() {
    let schema = r#"{"type":"object","properties":{"ok":{"type":"boolean"},"number":{"type":"integer","minimum":0,"maximum":999},
        "kind":{"enum":["some of them","all of them"]},"note":{"type":"string","maxLength":9}},
        "required":["ok","number","kind","note"],"additionalProperties":false}"#;
    for kernels in available() {
        let (mut steps, mut finished) = ([0; 2], 0);
        for seed in 0..12 {
            // Where probabilities are told, all logits are computed, and each token is drawn from them.
            let runs = [None, Some(0)].map(|log_probabilities| {
                with_generation((kernels, &SESSION), History::Documented, |generation| {
                    begin(generation);
                    let arena = Arena::new();
                    let index = arena.index(*generation.tokenizer()).unwrap();
                    let answer = arena.constraint(Constrained::Answer, schema, Unsupported::Refuse, index);
                    let call =
                        arena.constraint(Constrained::Call("functions.look"), schema, Unsupported::Refuse, index);
                    let mut constraints = [answer.unwrap(), call.unwrap()];
                    let config = TurnConfig {
                        sampler: SamplerConfig {
                            seed,
                            temperature: [0.0, 1.0][seed as usize % 2],
                            ..SamplerConfig::default()
                        },
                        recipients: if seed % 4 == 3 { &["functions.look"] } else { &[] },
                        reasoning_tokens: Some(seed as usize % 8),
                        max_tokens: if seed == 0 { 9 } else { 150 },
                        draft_tokens: if seed % 3 == 0 { 8 } else { 0 },
                        log_probabilities,
                        ..TurnConfig::default()
                    };
                    let (mut told, mut steps) = (Told::default(), 1);
                    let mut turn = Turn::new(generation, config).unwrap().with_constraints(&mut constraints).unwrap();
                    let mut emit = |event: Event<'_>| told.take(event);
                    while turn.step(generation, &Alone, &mut emit).unwrap() == Progress::More {
                        steps += 1;
                    }
                    told.tokens = 0;
                    (told, generation.tokens().to_vec(), steps)
                })
            });
            assert_eq!(runs[0].0, runs[1].0, "{} {seed}", kernels.name());
            assert_eq!(runs[0].1, runs[1].1, "{} {seed}", kernels.name());
            (steps[0], steps[1]) = (steps[0] + runs[0].2, steps[1] + runs[1].2);
            finished += usize::from(matches!(runs[0].0.reason(), StopReason::Finished | StopReason::ToolCall));
        }
        println!("{}: {steps:?} steps without and with probabilities; {finished} of 12 turns finished", kernels.name());
        assert!(finished > 3 && steps[0] * 10 < steps[1] * 8);
    }
}

#[test]
fn a_banned_token_is_not_written_even_where_the_text_is_sure() {
    let schema = r#"{"type":"object","properties":{"identification":{"type":"boolean"}},"required":["identification"],
        "additionalProperties":false}"#;
    let run = |logit_bias: &[(u32, f32)], log_probabilities: Option<usize>| {
        with_generation((fastest(), &SESSION), History::Documented, |generation| {
            begin(generation);
            let arena = Arena::new();
            let index = arena.index(*generation.tokenizer()).unwrap();
            let mut constraints = [arena.constraint(Constrained::Answer, schema, Unsupported::Refuse, index).unwrap()];
            let config = TurnConfig {
                sampler: SamplerConfig { temperature: 0.0, logit_bias, ..SamplerConfig::default() },
                reasoning_tokens: Some(0),
                max_tokens: 100,
                log_probabilities,
                ..TurnConfig::default()
            };
            let mut told = Told::default();
            let mut turn = Turn::new(generation, config).unwrap().with_constraints(&mut constraints).unwrap();
            turn.run(generation, &Alone, &mut |event| told.take(event)).unwrap();
            assert_eq!(told.reason(), StopReason::Finished);
            let (_, _, text, tokens) = told.messages.last().unwrap().clone();
            assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["identification"].is_boolean());
            let tokens = &generation.tokens()[tokens.unwrap()];
            let header = tokens.iter().position(|token| *token == generation.special().message).unwrap();
            let tokens = tokens[header + 1..].to_vec();
            let size = |token: &&u32| generation.tokenizer().token_bytes(**token).unwrap_or_default().len();
            let longest = *tokens.iter().max_by_key(size).unwrap();
            (tokens, longest)
        })
    };
    let (_, longest) = run(&[], None);
    let banned = [(longest, f32::NEG_INFINITY)];
    let (tokens, _) = run(&banned, None);
    assert!(!tokens.contains(&longest));
    assert_eq!(tokens, run(&banned, Some(0)).0);
}
