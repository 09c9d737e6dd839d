//! The JSON reader agrees with serde_json on what is JSON and on what it says.

use std::fs;
use std::path::Path;

use ossicle_core::file::json::{self, Kind, MAX_DEPTH};

/// What the reader makes of a value, as serde_json would have it. Of keys that come twice the last one counts.
fn read(value: json::Value<'_>) -> serde_json::Value {
    let string = |text: json::Str<'_>| text.chars().collect::<String>();
    match value.kind() {
        Kind::Null => serde_json::Value::Null,
        Kind::Bool(value) => value.into(),
        Kind::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(value), _, _) => value.into(),
            // serde_json has "-0" as a float, to keep the sign.
            (_, Some(value @ ..0), _) => value.into(),
            (_, _, value) => value.expect("a finite number").into(),
        },
        Kind::String(text) => string(text).into(),
        Kind::Array(array) => array.iter().map(read).collect(),
        Kind::Object(object) => object.iter().map(|member| (string(member.key), read(member.value))).collect(),
    }
}

/// Holds the reader against serde_json. Whether the text is JSON.
fn compare(text: &[u8]) -> bool {
    let shown = String::from_utf8_lossy(text);
    match (json::parse(text), serde_json::from_slice::<serde_json::Value>(text)) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(read(ours), theirs, "{shown}");
            true
        }
        (Err(error), Err(_)) => {
            assert!(error.offset <= text.len(), "{shown}: {error}");
            false
        }
        (Err(error), Ok(_)) => panic!("refused: {shown}: {error}"),
        // serde_json refuses what overflows an f64, which the grammar allows.
        (Ok(_), Err(error)) => {
            assert!(error.to_string().contains("number out of range"), "accepted: {shown}: {error}");
            false
        }
    }
}

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn space(&mut self, text: &mut String) {
        text.push_str(self.pick(&["", "", "", " ", "\n", "\t ", "\r\n"]));
    }

    fn string(&mut self, text: &mut String) {
        text.push('"');
        for _ in 0..self.below(6) {
            text.push_str(self.pick(&[
                "a",
                "key",
                "é",
                "語",
                "🦴",
                "\u{7f}",
                "/",
                r"\n",
                r"\/",
                r"\\",
                r#"\""#,
                r"\b\f\r\t",
                r"\u0000",
                r"\u00e9",
                r"\uD83E\uddb4",
                r"\uFFFF",
            ]));
        }
        text.push('"');
    }

    fn value(&mut self, text: &mut String, depth: usize) {
        self.space(text);
        match self.below(if depth == 0 { 4 } else { 7 }) {
            0 => text.push_str(self.pick(&["null", "true", "false"])),
            1 => self.string(text),
            2 => {
                text.push_str(self.pick(&["", "-"]));
                text.push_str(self.pick(&[
                    "0",
                    "7",
                    "150000",
                    "18446744073709551615",
                    "9223372036854775808",
                    "123456789012345678901234567890",
                ]));
                text.push_str(self.pick(&["", "", ".0", ".1", ".000000000000000000001", ".30000000000000004"]));
                text.push_str(self.pick(&["", "", "e3", "E+07", "e-12", "e0", "e-320"]));
            }
            3 => text.push_str(self.pick(&["[]", "{}", "[ ]", "{\n}", "\"\""])),
            shape => {
                let (open, close) = if shape == 4 { ('[', ']') } else { ('{', '}') };
                text.push(open);
                for index in 0..self.below(5) {
                    if index > 0 {
                        text.push(',');
                    }
                    if open == '{' {
                        self.space(text);
                        self.string(text);
                        self.space(text);
                        text.push(':');
                    }
                    self.value(text, depth - 1);
                }
                text.push(close);
            }
        }
        self.space(text);
    }
}

#[test]
fn generated_documents_are_read_as_serde_json_reads_them() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..20_000 {
        let mut text = String::new();
        random.value(&mut text, 6);
        assert!(compare(text.as_bytes()), "{text}");
    }
}

#[test]
fn mutated_documents_are_accepted_exactly_if_serde_json_accepts_them() {
    const BYTES: &[u8] = b"[]{}\",:\\/ue0123456789+-.Eabfnrtl \t\n\r\0\x1f\x7f\x80\xc3\xa9\xed\xff";
    let mut random = Random(0xd1b5_4a32_d192_ed03);
    let mut accepted = 0;
    for _ in 0..100_000 {
        let mut text = String::new();
        random.value(&mut text, 4);
        let mut text = text.into_bytes();
        for _ in 0..1 + random.below(3) {
            let at = random.below(text.len() + 1);
            let byte = BYTES[random.below(BYTES.len())];
            match random.below(4) {
                0 => text.insert(at, byte),
                1 => text.truncate(at),
                _ if at == text.len() => text.push(byte),
                2 => text[at] = byte,
                _ => _ = text.remove(at),
            }
        }
        accepted += usize::from(compare(&text));
    }
    assert!((10_000..90_000).contains(&accepted), "{accepted} documents survived, which makes a poor comparison");
}

#[test]
fn the_files_of_a_checkpoint_are_read_as_serde_json_reads_them() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    for name in [
        "tiny-a/hf/config.json",
        "tiny-a/hf/tokenizer.json",
        "tiny-b/hf-sharded/model.safetensors.index.json",
        "ops/index.json",
    ] {
        assert!(compare(&fs::read(data.join(name)).unwrap()), "{name}");
    }
}

#[test]
fn a_refusal_tells_where_and_what_was_expected() {
    for (text, offset, expected, found) in [
        ("", 0, "a value", None),
        (" ", 1, "a value", None),
        ("[1,]", 3, "a value", Some(b']')),
        ("[1 2]", 3, "',' or ']'", Some(b'2')),
        ("[1", 2, "',' or ']'", None),
        (r#"{"a":1]"#, 6, "',' or '}'", Some(b']')),
        (r#"{"a" 1}"#, 5, "':'", Some(b'1')),
        (r#"{"a":1,}"#, 7, "a key in quotes", Some(b'}')),
        ("{a:1}", 1, "a key in quotes", Some(b'a')),
        ("[true, nul]", 10, "null", Some(b']')),
        ("01", 1, "the end of the text", Some(b'1')),
        ("1.", 2, "a digit", None),
        ("-", 1, "a digit", None),
        ("1e+x", 3, "a digit", Some(b'x')),
        ("NaN", 0, "a value", Some(b'N')),
        ("\"ab", 3, "'\"'", None),
        ("\"a\nb\"", 2, "an escape in place of a control character", Some(b'\n')),
        (r#""\x""#, 2, r#"one of " \ / b f n r t u after a backslash"#, Some(b'x')),
        (r#""\u12g4""#, 5, "four hexadecimal digits", Some(b'g')),
        (r#""a\ud83e""#, 2, "both halves of a surrogate pair", Some(b'\\')),
        (r#""a\uddb4""#, 2, "both halves of a surrogate pair", Some(b'\\')),
        (r#""\ud83e\ud83e""#, 1, "both halves of a surrogate pair", Some(b'\\')),
        ("\u{feff}1", 0, "a value", Some(0xef)),
        ("[] []", 3, "the end of the text", Some(b'[')),
    ] {
        let error = json::parse(text.as_bytes()).expect_err(text);
        assert_eq!((error.offset, error.expected, error.found), (offset, expected, found), "{text}");
        let error = error.in_file(3, 1000);
        assert_eq!((error.file, error.offset, error.found), (3, 1000 + offset as u64, found.map_or(0, u64::from)));
    }
    let error = json::parse(b"[\"a\", \"\xc3\"]").unwrap_err();
    assert_eq!((error.offset, error.expected, error.found), (7, "UTF-8", Some(0xc3)));
    assert_eq!(json::parse(b"[1,]").unwrap_err().to_string(), "byte 3: expected a value, found ']'");
}

#[test]
fn nesting_is_bounded_and_never_recursive() {
    let nested = |depth: usize| "[{\"a\":".repeat(depth / 2) + "0" + &"}]".repeat(depth / 2);
    let deepest = nested(MAX_DEPTH as usize);
    let mut value = json::parse(deepest.as_bytes()).unwrap();
    for _ in 0..MAX_DEPTH / 2 {
        value = value.as_array().unwrap().iter().next().unwrap().as_object().unwrap().get("a").unwrap();
    }
    assert_eq!(value.as_u64(), Some(0));
    let error = json::parse(nested(MAX_DEPTH as usize + 2).as_bytes()).unwrap_err();
    assert_eq!((error.offset, error.expected), (64 * 6, "at most 128 levels of arrays and objects"));
    assert!(json::parse("[".repeat(10_000_000).as_bytes()).is_err());
}

#[test]
fn values_know_their_text_and_their_place() {
    let text = r#" { "a" : [ 1 , {"b\n": "\u0041b"} ], "a": -1.50e2, "c": 1e400 } "#;
    let object = json::parse(text.as_bytes()).unwrap().as_object().unwrap();
    let members: Vec<_> = object.iter().collect();
    assert_eq!(members.len(), 3, "a key that comes twice is given twice");
    assert!(members.iter().all(|member| text[member.offset..].starts_with(&format!("\"{}\"", member.key.raw()))));
    let elements: Vec<_> = object.get("a").unwrap().as_array().unwrap().iter().collect();
    assert_eq!(elements[1].raw(), r#"{"b\n": "\u0041b"}"#);
    assert_eq!(elements[1].offset(), text.find(r#"{"b"#).unwrap());
    let inner = elements[1].as_object().unwrap().get("b\n").unwrap();
    assert_eq!(inner.offset(), text.find(r#""\u0041"#).unwrap());
    let string = inner.as_str().unwrap();
    assert!(string == "Ab" && string != "A" && string != "Abc");
    assert_eq!((string.plain(), string.raw()), (None, r"\u0041b"));
    assert_eq!((members[1].value.as_f64(), members[1].value.as_u64()), (Some(-150.0), None));
    assert_eq!(members[2].value.as_f64(), None, "an f64 does not reach this far");
    assert!(object.get("b\n").is_none());
}
