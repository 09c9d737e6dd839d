//! Masks of schemas: bit for bit those of a walk over all tokens, byte by byte; and the index that they are made with.

use ossicle_core::error::{Error, Result};
use ossicle_core::sampling::TokenMask;
use ossicle_core::schema::{Schema, SchemaMask, TokenIndex, Unsupported};
use ossicle_core::tokenizer::{Kind, Source, Token, Tokenizer};
use ossicle_host::Memory;
use ossicle_host::schema::Arena;
use ossicle_host::vocabulary::{o200k_harmony, o200k_token_index};
use ossicle_tests::numbers::Numbers;

/// In a string, 91 characters on.
const FAR: &str = "\"abcdefg0123456789abcdefg0123456789abcdefg0123456789abcdefg0123456789abcdefg0123456789abcdef";

/// Schemas whose states allow tokens in different ways, and texts that come to such states.
const CASES: [(&str, &[&str]); 36] = [
    (r#"{"type":"string"}"#, &["", "\"", "\"é", "\"\\", "\"\\u00"]),
    (
        r#"{"type":"array","items":{"type":"string","minLength":2,"maxLength":7}}"#,
        &["[", "[\"", "[\"a", "[\"abcde", "[\"abcdefg"],
    ),
    (r#"{"type":"string","pattern":"^[a-z]{2,5}$"}"#, &["\"", "\"a", "\"ab", "\"abcde"]),
    (r#"{"type":"string","pattern":"^[a-z]{2,40}$"}"#, &["\"", "\"abc"]),
    (r#"{"type":"string","pattern":"^[^<>]*$"}"#, &["\"", "\"a b"]),
    (r#"{"type":"string","pattern":"^[^ ]+( [^ ]+){0,2}$"}"#, &["\"", "\"a", "\"a b", "\"a b ", "\"a b c"]),
    (r#"{"type":"string","pattern":"^\\S+@\\S+$"}"#, &["\"", "\"a", "\"a@", "\"a@b"]),
    (r#"{"type":"string","pattern":"^[^aeiou]*$","maxLength":9}"#, &["\"", "\"xyz", "\"xyzxyzxy"]),
    (r#"{"type":"string","pattern":"^[^z]*$"}"#, &["\"ab"]),
    (r#"{"type":"string","pattern":"^[^zQ]*$","minLength":4,"maxLength":99}"#, &["\"", "\"abcd", "\"0123456789", FAR]),
    (r#"{"type":"string","pattern":"^[^z]*$","minLength":40}"#, &["\"", FAR]),
    (r#"{"type":"string","pattern":"^[^\\u0416日]*$"}"#, &["\"", "\"é"]),
    (r#"{"type":"string","pattern":"^[^e\\u0700-\\uffff]*$"}"#, &["\"", "\"é"]),
    (
        r#"{"type":"string","pattern":"^(KONG_\\w+=\\S+)*(\\sKONG_\\w+=\\S+)*$"}"#,
        &["\"", "\"K", "\"KONG_A", "\"KONG_A=", "\"KONG_A=b", "\"KONG_A=bKONG_C", "\"KONG_A=b K", "\"KONG_A=b KONG_C"],
    ),
    (
        r#"{"anyOf":[{"pattern":"^([^abc]|a[^b]|ab[^c])*$"},{"pattern":"^[^xyz]*$"},{"pattern":"^(ab|[^af])*$"}],"type":"string"}"#,
        &["\"", "\"q", "\"qa"],
    ),
    (r#"{"properties":{"az":{},"b":{}},"patternProperties":{"[zG]":false}}"#, &["{\"", "{\"a", "{\"q"]),
    (r#"{"type":"string","pattern":"^(?:\\S+\\s+){0,99}\\S+$"}"#, &["\"", "\"ab "]),
    (r#"{"patternProperties":{"f.*":true,"b.*":false}}"#, &["{\"", "{\"f"]),
    (r#"{"type":"string","pattern":"^[A-Z][A-Za-z ]*[.!?]$"}"#, &["\"", "\"A", "\"Ab c", "\"A."]),
    (r#"{"type":"string","pattern":"^(foo|bar)+$"}"#, &["\"", "\"f", "\"foo"]),
    (r#"{"type":"string","pattern":"^.{0,20}$"}"#, &["\"", "\"a", "\"aaaaaaaaaaaaaaaaaa"]),
    (r#"{"type":"string","pattern":"[A-Z]"}"#, &["\"", "\"a", "\"A"]),
    (
        r#"{"type":"string","pattern":"^/","minLength":3,"maxLength":30}"#,
        &["\"", "\"/", "\"/aaaaaaaaaaaaaaaaaaaaaaaaaaa"],
    ),
    (
        r#"{"type":"string","pattern":"^([a-z]+[.])*[a-z]+$","maxLength":12}"#,
        &["\"", "\"a", "\"a.", "\"abcdefghij", "\"abcdefghijk"],
    ),
    (r#"{"type":"string","pattern":"^[a-f\\u00e0-\\uffff]+[\\u2003]?$"}"#, &["\"", "\"a", "\"日"]),
    (r#"{"type":"string","format":"email"}"#, &["\"", "\"ab", "\"ab.c", "\"a@", "\"a@b.cd"]),
    (r#"{"type":"string","format":"uri"}"#, &["\"", "\"http", "\"http:", "\"http://a/b%"]),
    (r#"{"type":"string","format":"uuid"}"#, &["\"", "\"0a", "\"01234567", "\"01234567-89a"]),
    (r#"{"type":"string","format":"date-time"}"#, &["\"", "\"2024-0", "\"2024-01-01T10"]),
    (r#"{"type":"array","items":{"type":"integer"}}"#, &["[", "[1", "[-", "[12,", "[12, "]),
    (r#"{"type":"number","minimum":-5,"maximum":1234}"#, &["", "-", "1", "12", "123", "1.", "0"]),
    (
        r#"{"anyOf":[{"type":"string","maxLength":3},{"type":"string","pattern":"^x[0-9]+$"},{"type":"integer","minimum":7}]}"#,
        &["", "\"", "\"x", "\"x1"],
    ),
    (
        r#"{"type":"object","properties":{"name":{"enum":["red","green","blue sky"]},"n":{}},"additionalProperties":{"type":"null"}}"#,
        &[
            "",
            "{",
            "{\"",
            "{\"n",
            "{\"name\":",
            "{\"name\":\"",
            "{\"name\":\"b",
            "{\"name\":\"red\"",
            "{\"n\":",
            "{\"x",
        ],
    ),
    // A token may end a string, and begin the next, which is as if nothing had been.
    (
        r#"{"type":"array","items":{"type":"string","pattern":"^[^z]*$","minLength":2}}"#,
        &["[\"", "[\"a", "[\"foo\",\"", "[\"foo\",\"b"],
    ),
    (
        r#"{"type":"array","items":{"type":"string","pattern":"^[^z]*$","maxLength":8}}"#,
        &["[\"", "[\"fo", "[\"foo\",\""],
    ),
    (r#"{"const":"a\u0001\"\u2028"}"#, &["\"", "\"a", "\"a\\", "\"a\\u", "\"a\\u0001"]),
];

/// The tokens that `probe` takes after a text, each tried by itself; only those for whose first byte there is a chance at all.
fn walked(probe: &mut SchemaMask<'_>, text: &[u8], tokenizer: &Tokenizer<'_>) -> Vec<u32> {
    let mut takes = |bytes: &[u8]| {
        probe.begin();
        probe.accept_bytes(text) && probe.accept_bytes(bytes)
    };
    let first: Vec<bool> = (0..=u8::MAX).map(|byte| takes(&[byte])).collect();
    let mut words = vec![0; tokenizer.vocabulary_len().div_ceil(32)];
    for id in (0..tokenizer.vocabulary_len() as u32).filter(|id| !tokenizer.is_special(*id)) {
        if let Some(bytes) = tokenizer.token_bytes(id)
            && first[usize::from(bytes[0])]
            && takes(bytes)
        {
            words[id as usize / 32] |= 1 << (id % 32);
        }
    }
    words
}

fn assert_are_walked(index: TokenIndex<'_>, schema: &Schema<'_>, texts: &[&[u8]], shown: &str) {
    let tokenizer = index.tokenizer();
    let arena = Arena::new();
    let [mask, probe] = [(); 2].map(|()| arena.mask(schema, index).unwrap());
    let mut words = vec![0; tokenizer.vocabulary_len().div_ceil(32)];
    for text in texts {
        mask.begin();
        assert!(mask.accept_bytes(text), "{shown}: {}", text.escape_ascii());
        let may_end = mask.all_allowed(&mut words).unwrap();
        assert_eq!(may_end, mask.can_end());
        for (at, (found, expected)) in words.iter().zip(walked(probe, text, tokenizer)).enumerate() {
            if *found != expected {
                let id = at as u32 * 32 + (found ^ expected).trailing_zeros();
                let token = tokenizer.token_bytes(id).unwrap_or_default().escape_ascii();
                panic!("{shown}: {} after {}", token, text.escape_ascii());
            }
        }
    }
}

#[test]
fn masks_are_those_of_a_walk_over_all_tokens() {
    let arena = Arena::new();
    let index = arena.index(o200k_harmony()).unwrap();
    for (text, texts) in CASES {
        let schema = arena.schema(text, Unsupported::Refuse).unwrap();
        let texts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        assert_are_walked(index, &schema, &texts, text);
    }
}

/// All bytes, and longer tokens of whatever may make a difference, one behind the other.
struct Random {
    tokens: Vec<Vec<u8>>,
}

impl Random {
    fn new(numbers: &mut Numbers) -> Self {
        const PARTS: [&str; 43] = [
            "a",
            "f",
            "g",
            "x",
            "foo",
            "bar",
            "Z",
            "F",
            "7",
            "12",
            "0",
            " ",
            "  ",
            "\"",
            "\\",
            "\\n",
            "\\u",
            "00",
            "\\ud83d",
            "\\ude00",
            "\\uDC00",
            ",",
            ":",
            "{",
            "}",
            "[",
            "]",
            "-",
            ".",
            "@",
            "/",
            "<",
            "é",
            "日",
            "\u{2003}",
            "\u{2028}",
            "\u{1F600}",
            "\u{a0}",
            "\n",
            "\u{7f}",
            "abcdefghijklmnopq",
            "null",
            "\",\"",
        ];
        let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        for _ in 0..4000 {
            let mut token: Vec<u8> =
                (0..1 + numbers.below(4)).flat_map(|_| PARTS[numbers.below(PARTS.len())].bytes()).collect();
            // Some begin or end within a character.
            if numbers.below(8) == 0 {
                token.pop();
            }
            if numbers.below(16) == 0 && !token.is_empty() {
                token.remove(0);
            }
            if token.len() > 1 && !tokens.contains(&token) {
                tokens.push(token);
            }
        }
        Self { tokens }
    }
}

impl Source for Random {
    fn walk(&self, visit: &mut dyn FnMut(Token<'_>) -> Result<()>) -> Result<()> {
        (0..).zip(&self.tokens).try_for_each(|(id, bytes)| visit(Token { id, bytes, kind: Kind::Ordinary }))
    }
}

#[test]
fn masks_of_any_vocabulary_are_those_of_a_walk_over_all_tokens() {
    let mut numbers = Numbers::seeded(11);
    for _ in 0..3 {
        let source = Random::new(&mut numbers);
        let mut memory = Memory::new(Tokenizer::layout(&source).unwrap()).unwrap();
        let tokenizer = Tokenizer::new(&source, memory.region()).unwrap();
        let arena = Arena::new();
        let index = arena.index(tokenizer).unwrap();
        for (text, texts) in CASES {
            let schema = arena.schema(text, Unsupported::Refuse).unwrap();
            let mut texts: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
            // And one that is drawn, which may end anywhere.
            let mask = arena.mask(&schema, index).unwrap();
            let mut words = vec![0; tokenizer.vocabulary_len().div_ceil(32)];
            let mut drawn = Vec::new();
            mask.begin();
            for _ in 0..8 {
                mask.all_allowed(&mut words).unwrap();
                let allowed: Vec<u32> = (0..tokenizer.vocabulary_len() as u32)
                    .filter(|id| words[*id as usize / 32] >> (id % 32) & 1 == 1)
                    .collect();
                let Some(id) = (!allowed.is_empty()).then(|| allowed[numbers.below(allowed.len())]) else { break };
                assert!(mask.accept(id));
                drawn.extend_from_slice(tokenizer.token_bytes(id).unwrap());
                texts.push(drawn.clone());
            }
            let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
            assert_are_walked(index, &schema, &texts, text);
        }
    }
}

/// A copy that starts on a cache line.
fn aligned(memory: &mut Vec<u8>, bytes: &[u8]) -> usize {
    memory.resize(bytes.len() + 64, 0);
    let start = memory.as_ptr().align_offset(64);
    memory[start..start + bytes.len()].copy_from_slice(bytes);
    start
}

#[test]
fn an_index_that_was_saved_is_the_one_that_was_built() {
    let tokenizer = o200k_harmony();
    let mut memory = Memory::new(TokenIndex::layout(&tokenizer).unwrap()).unwrap();
    let built = TokenIndex::new(memory.region(), tokenizer).unwrap();
    let mut saved = Vec::new();
    built.save(&mut |part| saved.extend_from_slice(part));
    assert!(saved == o200k_token_index());

    let mut source = Random::new(&mut Numbers::seeded(1));
    source.tokens.swap(300, 301);
    let mut memory = Memory::new(Tokenizer::layout(&source).unwrap()).unwrap();
    let other = Tokenizer::new(&source, memory.region()).unwrap();
    assert!(matches!(TokenIndex::open(o200k_token_index(), other), Err(Error::File(_))));
}

#[test]
fn a_changed_index_gives_wrong_masks_at_most() {
    let mut numbers = Numbers::seeded(7);
    let source = Random::new(&mut numbers);
    let mut memory = Memory::new(Tokenizer::layout(&source).unwrap()).unwrap();
    let tokenizer = Tokenizer::new(&source, memory.region()).unwrap();
    let mut memory = Memory::new(TokenIndex::layout(&tokenizer).unwrap()).unwrap();
    let mut saved = Vec::new();
    TokenIndex::new(memory.region(), tokenizer).unwrap().save(&mut |part| saved.extend_from_slice(part));
    let mut words = vec![0; tokenizer.vocabulary_len().div_ceil(32)];
    let (mut opened, mut copy) = (0, Vec::new());
    for round in 0..60 {
        let mut changed = saved.clone();
        // One in three of the changes is in the header, behind what says which form and vocabulary it is of.
        for _ in 0..1 + numbers.below(200) {
            let at = if round % 3 == 0 { 16 + numbers.below(36) } else { 64 + numbers.below(changed.len() - 64) };
            changed[at] = [0, 1, 0x7F, 0xFF][numbers.below(4)];
        }
        changed.truncate(changed.len() - if round % 5 == 0 { numbers.below(5000) } else { 0 });
        let start = aligned(&mut copy, &changed);
        let Ok(index) = TokenIndex::open(&copy[start..start + changed.len()], tokenizer) else { continue };
        opened += 1;
        let arena = Arena::new();
        for (text, texts) in CASES {
            let schema = arena.schema(text, Unsupported::Refuse).unwrap();
            let mask = arena.mask(&schema, index).unwrap();
            for text in texts {
                mask.begin();
                assert!(mask.accept_bytes(text.as_bytes()));
                mask.all_allowed(&mut words).unwrap();
            }
        }
    }
    assert!(opened > 20, "{opened}");
}
