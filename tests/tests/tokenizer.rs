//! The tokenizer against the reference's vectors, against tiktoken, and against what it says about itself.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use ossicle_core::error::{Error, Result};
use ossicle_core::tokenizer::merge::WINDOW;
use ossicle_core::tokenizer::split::{BATCH, Pieces};
use ossicle_core::tokenizer::{
    Encoder, Gguf, Harmony, Kind, RankFile, Source, Specials, Token, Tokenizer, Utf8Stream, vocabulary,
};
use ossicle_host::vocabulary::{TokenizerJson, o200k_harmony};
use proptest::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(path)
}

fn lines(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(data("tokenizer").join(file)).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!lines.is_empty());
    lines
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    let hex = value.as_str().unwrap().as_bytes();
    hex.chunks(2).map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()).collect()
}

fn encode(tokenizer: &Tokenizer<'_>, text: impl AsRef<[u8]>, specials: Specials<'_>) -> Vec<u32> {
    let mut ids = Vec::new();
    tokenizer.encode(text, specials, |id| ids.push(id));
    ids
}

fn decode(tokenizer: &Tokenizer<'_>, ids: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokenizer.decode(ids, |token| bytes.extend_from_slice(token));
    bytes
}

/// Memory for a tokenizer, and one cache line more.
fn region(source: &impl Source) -> Vec<MaybeUninit<u8>> {
    let layout = Tokenizer::layout(source).unwrap();
    vec![MaybeUninit::uninit(); layout.size + layout.align]
}

fn aligned(memory: &mut [MaybeUninit<u8>]) -> &mut [MaybeUninit<u8>] {
    let start = memory.as_ptr().align_offset(64);
    let end = memory.len() - 64 + start;
    &mut memory[start..end]
}

/// A vocabulary that is given in words.
struct Words(Vec<(u32, Vec<u8>, Kind)>);

impl Words {
    /// All bytes, and behind them these.
    fn over_bytes<'w>(words: impl IntoIterator<Item = &'w [u8]>) -> Self {
        let bytes = (0..=255u8).map(|byte| vec![byte]);
        let tokens = bytes.chain(words.into_iter().map(<[u8]>::to_vec));
        Self((0..).zip(tokens).map(|(id, bytes)| (id, bytes, Kind::Ordinary)).collect())
    }
}

impl Source for Words {
    fn walk(&self, visit: &mut dyn FnMut(Token<'_>) -> Result<()>) -> Result<()> {
        self.0.iter().try_for_each(|(id, bytes, kind)| visit(Token { id: *id, bytes, kind: *kind }))
    }
}

#[test]
fn every_text_is_encoded_as_the_reference_does() {
    let tokenizer = o200k_harmony();
    for file in [
        "encode_basic.jsonl",
        "encode_unicode.jsonl",
        "encode_random.jsonl",
        "encode_files.jsonl",
        "encode_longword.jsonl",
    ] {
        for line in lines(file) {
            let text = line["text"].as_str().unwrap();
            let expected = ids(&line["ids"]);
            assert_eq!(encode(&tokenizer, text, Specials::None), expected, "{file}: {text:?}");
            assert_eq!(decode(&tokenizer, &expected), text.as_bytes(), "{file}: {text:?}");
        }
    }
}

#[test]
fn long_inputs_are_encoded_as_the_reference_does() {
    let tokenizer = o200k_harmony();
    for line in lines("encode_long.jsonl") {
        let part = |part: &Value| part[0].as_str().unwrap().repeat(part[1].as_u64().unwrap() as usize);
        let text: String = line["parts"].as_array().unwrap().iter().map(part).collect();
        let ids = encode(&tokenizer, &text, Specials::None);
        let mut hash = Sha256::new();
        ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
        let hex = hash.finalize().iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        assert_eq!(ids.len() as u64, line["n_ids"].as_u64().unwrap(), "{}", line["name"]);
        assert_eq!(hex, line["sha256_le_u32"].as_str().unwrap(), "{}", line["name"]);
        assert_eq!(decode(&tokenizer, &ids), text.as_bytes(), "{}", line["name"]);
    }
}

#[test]
fn special_tokens_are_recognized_where_allowed_and_nowhere_else() {
    let tokenizer = o200k_harmony();
    for line in lines("special.jsonl") {
        let text = line["text"].as_str().unwrap();
        let allowed: Option<Vec<u32>> = line["allowed"]
            .as_array()
            .map(|names| names.iter().filter_map(|name| tokenizer.special(name.as_str()?)).collect());
        let specials = allowed.as_ref().map_or(Specials::All, |ids| Specials::Only(ids));
        assert_eq!(encode(&tokenizer, text, specials), ids(&line["ids"]), "{text:?}, {}", line["allowed"]);
        if allowed.is_some_and(|ids| ids.is_empty()) {
            assert_eq!(encode(&tokenizer, text, Specials::None), ids(&line["ids"]), "{text:?}");
        }
    }
}

#[test]
fn ill_formed_text_is_encoded_with_replacements() {
    let tokenizer = o200k_harmony();
    for line in lines("bytes.jsonl") {
        let text = bytes(&line["bytes_hex"]);
        assert_eq!(encode(&tokenizer, &text, Specials::None), ids(&line["ids_lossy"]), "{text:x?}");
    }
}

#[test]
fn ids_are_decoded_to_the_exact_bytes_and_as_a_stream_to_the_same_text() {
    let tokenizer = o200k_harmony();
    for line in lines("decode.jsonl") {
        let ids = ids(&line["ids"]);
        assert_eq!(decode(&tokenizer, &ids), bytes(&line["bytes_hex"]), "{ids:?}");
        let mut text = String::new();
        let mut stream = Utf8Stream::new();
        tokenizer.decode(&ids, |token| stream.push(token, &mut |part| text.push_str(part)));
        stream.finish(&mut |part| text.push_str(part));
        assert_eq!(text, line["lossy"].as_str().unwrap(), "{ids:?}");
    }
}

#[test]
fn the_special_tokens_are_those_of_the_reference() {
    let tokenizer = o200k_harmony();
    let file: Value = serde_json::from_slice(&std::fs::read(data("tokenizer/special_tokens.json")).unwrap()).unwrap();
    assert_eq!(tokenizer.vocabulary_len() as u64, file["n_vocab"].as_u64().unwrap());
    for (name, id) in file["named_special_tokens"].as_object().unwrap() {
        let id = id.as_u64().unwrap() as u32;
        assert_eq!(tokenizer.special(name), Some(id));
        assert_eq!(tokenizer.token_bytes(id), Some(name.as_bytes()));
    }
    let reserved = [200_000, 200_001, 200_004, 200_009, 200_010, 200_011].into_iter().chain(200_013..=201_087);
    for id in reserved {
        assert_eq!(tokenizer.special(&format!("<|reserved_{id}|>")), Some(id));
    }
    for id in 0..201_088 {
        assert_eq!(tokenizer.is_special(id), id >= 199_998);
        let bytes = tokenizer.token_bytes(id).unwrap();
        assert_eq!(tokenizer.token_of(bytes), (id < 199_998).then_some(id));
    }
    assert_eq!(tokenizer.token_bytes(201_088), None);
    assert_eq!(tokenizer.token_of(b""), None);
    assert_eq!(tokenizer.special("<|reserved_201088|>"), None);
    assert_eq!(tokenizer.special("<|star"), None);
    assert_eq!(tokenizer.stop_ids().collect::<Vec<_>>(), [200_002, 200_012, 199_999]);
}

#[test]
fn the_bundled_vocabulary_is_the_published_rank_file() {
    let tokenizer = o200k_harmony();
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut file = String::new();
    for id in 0..199_998 {
        for chunk in tokenizer.token_bytes(id).unwrap().chunks(3) {
            let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for digit in 0..4 {
                let letter = alphabet[(bits >> (18 - 6 * digit)) as usize % 64];
                file.push(if digit > chunk.len() { '=' } else { letter as char });
            }
        }
        writeln!(file, " {id}").unwrap();
    }
    let expected = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d";
    let hex: String = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, expected);

    // And reading that file gives the same tables.
    let source = Harmony(RankFile(file.as_bytes()));
    let mut memory = region(&source);
    let read = Tokenizer::new(&source, aligned(&mut memory)).unwrap();
    assert!(saved(&read) == saved(&tokenizer));
}

fn saved(tokenizer: &Tokenizer<'_>) -> Vec<u8> {
    let mut index = Vec::new();
    tokenizer.save(&mut |part| index.extend_from_slice(part));
    index
}

/// An index at a multiple of 64 in memory, to be damaged.
fn placed<'m>(index: &[u8], memory: &'m mut Vec<u8>) -> &'m mut [u8] {
    memory.resize(index.len() + 64, 0);
    let start = memory.as_ptr().align_offset(64);
    let place = &mut memory[start..start + index.len()];
    place.copy_from_slice(index);
    place
}

#[test]
fn an_index_with_any_byte_changed_is_refused_or_at_worst_gives_other_ids() {
    let mut words = Words::over_bytes([b"ab" as &[u8], b"abc", b"abcabcabcabc"]);
    for (id, name) in (words.0.len() as u32..).zip(["<|a", "<|a|>", "<|b|>"]) {
        words.0.push((id, name.into(), Kind::Special));
    }
    let mut memory = region(&words);
    let saved = saved(&Tokenizer::new(&words, aligned(&mut memory)).unwrap());
    let mut memory = Vec::new();
    let index = placed(&saved, &mut memory);
    let text = "abcabcabcabcab xyz <|a <|a|><|b|> <";
    let mut opened = 0;
    // Between these lie only tables with a number for each character or each two bytes.
    for at in (0..4096).chain(saved.len() - 16384..saved.len()) {
        for value in (0..8).map(|bit| saved[at] ^ 1 << bit).chain([0, 1, 0x7F, 0xFF]) {
            index[at] = value;
            let Ok(tokenizer) = Tokenizer::open(index) else { continue };
            opened += 1;
            let sizes = (0..tokenizer.vocabulary_len() as u32).filter_map(|id| Some(tokenizer.token_bytes(id)?.len()));
            assert!(sizes.max() <= Some(vocabulary::TOKEN_BYTES_MAX), "byte {at}: {value}");
            let mut ids = Vec::new();
            tokenizer.encode(text, Specials::All, |id| {
                assert!(ids.len() < text.len(), "byte {at}: {value}");
                ids.push(id);
            });
            decode(&tokenizer, &ids);
        }
        index[at] = saved[at];
    }
    assert!(opened > 1000);
}

#[test]
fn a_damaged_index_that_merges_to_ever_longer_tokens_comes_to_an_end() {
    let words = Words::over_bytes([b"!!" as &[u8], b"!!!!"]);
    let mut memory = region(&words);
    let saved = saved(&Tokenizer::new(&words, aligned(&mut memory)).unwrap());
    let mut memory = Vec::new();
    let index = placed(&saved, &mut memory);
    // Two of the first now merge to the first, not to the second.
    let pair = |id: u64| ((256 << 21 | 256) << 21 | id).to_ne_bytes();
    let at = saved.windows(8).position(|entry| entry == pair(257)).unwrap();
    index[at..at + 8].copy_from_slice(&pair(256));
    let tokenizer = Tokenizer::open(index).unwrap();
    let text = [b"!".repeat(3 * WINDOW), b"\xFF".to_vec()].concat();
    assert!(encode(&tokenizer, &text, Specials::None).len() < WINDOW);
}

#[test]
fn the_index_takes_less_than_12_megabytes() {
    assert!(saved(&o200k_harmony()).len() < 12_000_000);
}

/// The rule itself: of all adjacent parts that form a token merge those with the lowest id, leftmost on ties.
fn merged_by_definition(tokenizer: &Tokenizer<'_>, piece: &[u8]) -> Vec<u32> {
    let ids: HashMap<&[u8], u32> = (0..tokenizer.vocabulary_len() as u32)
        .filter(|id| !tokenizer.is_special(*id))
        .filter_map(|id| Some((tokenizer.token_bytes(id)?, id)))
        .collect();
    let mut parts: Vec<&[u8]> = piece.chunks(1).collect();
    let mut ends: Vec<usize> = (1..=piece.len()).collect();
    loop {
        let joined = |at: usize| &piece[ends[at] - parts[at].len()..ends[at + 1]];
        let best = (0..parts.len().saturating_sub(1)).filter_map(|at| Some((*ids.get(joined(at))?, at))).min();
        let Some((_, at)) = best else { return parts.iter().map(|part| ids[part]).collect() };
        parts[at] = joined(at);
        ends[at] = ends[at + 1];
        parts.remove(at + 1);
        ends.remove(at + 1);
    }
}

fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut found = Pieces::new(text.as_bytes());
    let mut borders = [0; BATCH + 1];
    while let (len @ 1.., valid) = found.fill(&mut borders) {
        assert!(valid);
        pieces.extend(borders[..=len].windows(2).map(|piece| &text[piece[0]..piece[1]]));
        borders[0] = borders[len];
    }
    assert_eq!(borders[0], text.len());
    pieces
}

/// Chains of letters in which each merge prevents the one before it: what lies at the end decides about the start.
fn chain() -> (Words, Vec<u8>) {
    let letters: Vec<u8> = (b'a'..=b'z').collect();
    let pairs: Vec<&[u8]> = letters.windows(2).rev().collect();
    (Words::over_bytes(pairs), letters)
}

#[test]
fn merging_follows_the_definition() {
    let (words, letters) = chain();
    let mut memory = region(&words);
    let tokenizer = Tokenizer::new(&words, aligned(&mut memory)).unwrap();
    for text in [&letters[..], &letters[..25], b"abcabcab", b"zyx", b"aabbccddaabc", b"abcdefabcdefghabc"] {
        assert_eq!(encode(&tokenizer, text, Specials::None), merged_by_definition(&tokenizer, text), "{text:?}");
    }
}

#[test]
fn long_pieces_are_merged_as_if_the_window_had_no_end() {
    // A chain of dependence as long as the alphabet, repeated: windows end at each place within one.
    let (words, letters) = chain();
    let mut memory = region(&words);
    let tokenizer = Tokenizer::new(&words, aligned(&mut memory)).unwrap();
    for shift in 0..26 {
        let mut text = vec![b'z'; shift];
        text.extend(letters.repeat(2 * WINDOW / 26));
        assert_eq!(encode(&tokenizer, &text, Specials::None), merged_by_definition(&tokenizer, &text), "{shift}");
    }
}

#[test]
fn the_index_can_be_saved_and_opened() {
    let index = saved(&o200k_harmony());
    assert!(Tokenizer::open(&index[..index.len() - 64]).is_err());
    assert!(Tokenizer::open(&[0; 64]).is_err());
    assert!(Tokenizer::open(&[]).is_err());
}

fn hugging_face(file: &str) -> TokenizerJson {
    TokenizerJson::parse(&std::fs::read(data(file)).unwrap()).unwrap()
}

/// The merges of a `tokenizer.json`, taken literally: lowest first, leftmost on ties.
fn merged_by_list(file: &Value, piece: &str) -> Vec<u32> {
    let spelled = |byte: u8| -> String {
        (0..=0x143)
            .filter_map(char::from_u32)
            .find(|character| {
                let mut decoded = [0];
                vocabulary::from_byte_alphabet(character.to_string().as_bytes(), &mut decoded) == Some(1)
                    && decoded[0] == byte
            })
            .unwrap()
            .to_string()
    };
    let merges: Vec<[&str; 2]> = file["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|merge| [merge[0].as_str().unwrap(), merge[1].as_str().unwrap()])
        .collect();
    let mut parts: Vec<String> = piece.bytes().map(spelled).collect();
    for [left, right] in merges {
        let mut at = 0;
        while at + 1 < parts.len() {
            if parts[at] == left && parts[at + 1] == right {
                let right = parts.remove(at + 1);
                parts[at].push_str(&right);
            }
            at += 1;
        }
    }
    parts.iter().map(|part| file["model"]["vocab"][part].as_u64().unwrap() as u32).collect()
}

#[test]
fn a_small_vocabulary_gives_the_ids_of_its_own_merges() {
    for (json, manifest) in [
        ("tiny-a/hf/tokenizer.json", "tiny-a/ref/manifest.json"),
        ("tiny-b/hf-sharded/tokenizer.json", "tiny-b/ref/manifest.json"),
    ] {
        let source = hugging_face(json);
        let mut memory = region(&source);
        let tokenizer = Tokenizer::new(&source, aligned(&mut memory)).unwrap();
        let manifest: Value = serde_json::from_slice(&std::fs::read(data(manifest)).unwrap()).unwrap();
        for example in manifest["tokenizer_examples"].as_array().unwrap() {
            let text = example["text"].as_str().unwrap();
            assert_eq!(encode(&tokenizer, text, Specials::All), ids(&example["ids"]), "{json}: {text:?}");
        }
        let file: Value = serde_json::from_slice(&std::fs::read(data(json)).unwrap()).unwrap();
        for line in lines("encode_basic.jsonl") {
            let text = line["text"].as_str().unwrap();
            // Only letters: one piece.
            if !text.is_empty() && text.chars().all(|character| character.is_ascii_lowercase()) {
                assert_eq!(encode(&tokenizer, text, Specials::None), merged_by_list(&file, text), "{json}: {text:?}");
            }
        }
        assert!(tokenizer.special("<|start|>").is_some_and(|id| tokenizer.is_special(id)));
    }
}

#[test]
fn gguf_and_hugging_face_forms_give_the_same_tables() {
    let json: Value = serde_json::from_slice(&std::fs::read(data("tiny-a/hf/tokenizer.json")).unwrap()).unwrap();
    let mut tokens = vec![(String::new(), 5); 512];
    for (text, id) in json["model"]["vocab"].as_object().unwrap() {
        tokens[id.as_u64().unwrap() as usize] = (text.clone(), 1);
    }
    for token in json["added_tokens"].as_array().unwrap() {
        tokens[token["id"].as_u64().unwrap() as usize] = (token["content"].as_str().unwrap().to_owned(), 3);
    }
    let gguf = Gguf(|| tokens.iter().map(|(text, kind)| (text.as_bytes(), *kind)));
    let mut memory = region(&gguf);
    let from_gguf = Tokenizer::new(&gguf, aligned(&mut memory)).unwrap();
    let source = hugging_face("tiny-a/hf/tokenizer.json");
    let mut memory = region(&source);
    let from_json = Tokenizer::new(&source, aligned(&mut memory)).unwrap();
    assert!(saved(&from_gguf) == saved(&from_json));
}

#[test]
fn an_unused_id_is_no_token() {
    let mut words = Words::over_bytes([]);
    words.0.push((300, Vec::new(), Kind::Unused));
    let mut memory = region(&words);
    let tokenizer = Tokenizer::new(&words, aligned(&mut memory)).unwrap();
    assert_eq!(tokenizer.vocabulary_len(), 301);
    assert_eq!(tokenizer.token_bytes(300), None);
    assert_eq!(tokenizer.token_bytes(280), None);
    assert_eq!(decode(&tokenizer, &[97, 300, 98, u32::MAX]), b"ab");
}

#[test]
fn vocabularies_that_cannot_work_are_refused_by_name() {
    let refused = |words: &Words, what: &str| {
        let layout = Tokenizer::layout(words);
        let error = match layout {
            Err(error) => error,
            Ok(layout) => {
                let mut memory = vec![MaybeUninit::uninit(); layout.size + 64];
                Tokenizer::new(words, aligned(&mut memory)).err().expect(what)
            }
        };
        assert!(matches!(error, Error::Vocabulary { expected, .. } if expected.contains(what)), "{error}");
    };
    let with = |id, bytes: &[u8], kind| {
        let mut words = Words::over_bytes([]);
        words.0.push((id, bytes.to_vec(), kind));
        words
    };
    refused(&with(7, b"xy", Kind::Ordinary), "each id once");
    refused(&with(7, b"xy", Kind::Special), "each id once");
    refused(&with(256, b"", Kind::Ordinary), "1 to 256 bytes");
    refused(&with(256, b"", Kind::Special), "1 to 256 bytes");
    refused(&with(256, &[b'x'; 257], Kind::Ordinary), "1 to 256 bytes");
    refused(&with(256, b"xy", Kind::Unused), "no bytes");
    refused(&with(u32::MAX, b"xy", Kind::Ordinary), "an id below");
    refused(&with(vocabulary::IDS_MAX, b"xy", Kind::Ordinary), "an id below");
    let mut words = Words::over_bytes([]);
    words.0.remove(200);
    refused(&words, "every single byte");
    // 200 parts of three bytes, each of which can wait for the next: 600 bytes.
    let parts = (0..=200u8).flat_map(|part| [vec![part, 254], vec![part, 254, 255]]);
    let chain = (0..200u8).rev().map(|part| vec![part, 254, 255, part + 1, 254, 255]);
    let words: Vec<Vec<u8>> = parts.chain(chain).collect();
    refused(&Words::over_bytes(words.iter().map(Vec::as_slice)), "merges that depend");
}

#[test]
fn a_region_of_the_size_of_the_layout_suffices_and_one_line_less_does_not() {
    let words = Words::over_bytes([b"ab" as &[u8], b"abc", b"abcabcabcabc"]);
    let mut memory = region(&words);
    let memory = aligned(&mut memory);
    let size = memory.len();
    assert!(Tokenizer::new(&words, memory).is_ok());
    assert!(matches!(Tokenizer::new(&words, &mut memory[..size - 64]), Err(Error::RegionTooSmall { .. })));
}

#[test]
fn a_token_that_merging_never_gives_is_decoded_but_not_encoded_to() {
    let words = Words::over_bytes([b"abc" as &[u8], b"ab", b"ab"]);
    let mut memory = region(&words);
    let tokenizer = Tokenizer::new(&words, aligned(&mut memory)).unwrap();
    assert_eq!(encode(&tokenizer, "abc", Specials::None), [257, 99]);
    assert_eq!(decode(&tokenizer, &[256, 258]), b"abcab");
}

#[test]
fn the_longest_special_token_wins_and_names_may_nest() {
    let mut words = Words::over_bytes([]);
    for (id, name) in [(256, "<"), (257, "<|a"), (258, "<|ab|>"), (259, "<|abc"), (260, "x")] {
        words.0.push((id, name.as_bytes().to_vec(), Kind::Special));
    }
    let mut memory = region(&words);
    let tokenizer = Tokenizer::new(&words, aligned(&mut memory)).unwrap();
    assert_eq!(encode(&tokenizer, "<|ab|><|abd<|y", Specials::All), [258, 257, 98, 100, 256, 124, 121]);
    assert_eq!(encode(&tokenizer, "<|ab|>x", Specials::Only(&[256, 257])), [257, 98, 124, 62, 120]);
}

#[test]
fn buffers_that_are_too_small_tell_what_it_takes() {
    let tokenizer = o200k_harmony();
    let mut ids = [0; 2];
    let need = tokenizer.encode_into("Hello, world!", Specials::None, &mut ids);
    assert_eq!(need, Err(Error::BufferTooSmall { need: 4, have: 2 }));
    assert_eq!(ids, [13225, 11]);
    let mut ids = [0; 13];
    assert_eq!(tokenizer.encode_into("Hello, world!", Specials::None, &mut ids), Ok(4));
    let mut text = [0; 12];
    assert_eq!(tokenizer.decode_into(&ids[..4], &mut text), Err(Error::BufferTooSmall { need: 13, have: 12 }));
    let mut text = [0; 13];
    assert_eq!(tokenizer.decode_into(&ids[..4], &mut text), Ok(13));
    assert_eq!(&text, b"Hello, world!");
}

#[test]
fn text_is_held_back_only_while_a_character_is_incomplete() {
    let mut stream = Utf8Stream::new();
    let mut push = |bytes: &[u8]| {
        let mut text = String::new();
        stream.push(bytes, &mut |part| text.push_str(part));
        text
    };
    assert_eq!(push(b"a\xF0"), "a");
    assert_eq!(push(b"\x9F\x98"), "");
    assert_eq!(push(b"\x80b"), "\u{1F600}b");
    assert_eq!(push(b"\xE2\x82"), "");
    assert_eq!(push(b"z"), "\u{FFFD}z");
    assert_eq!(push(b"\xED"), "");
    assert_eq!(push(b"\xA0\x80"), "\u{FFFD}\u{FFFD}\u{FFFD}");
    assert_eq!(push(b"\xF4\x8F\xBF"), "");
    let mut text = String::new();
    stream.finish(&mut |part| text.push_str(part));
    stream.finish(&mut |part| text.push_str(part));
    assert_eq!(text, "\u{FFFD}");
}

fn encoder_region(pieces: usize) -> Vec<MaybeUninit<u8>> {
    let layout = Encoder::layout(pieces).unwrap();
    vec![MaybeUninit::uninit(); layout.size + layout.align]
}

#[test]
fn an_encoder_gives_the_same_ids_whatever_it_remembers() {
    let tokenizer = o200k_harmony();
    for pieces in [0, 1, 7, 4096] {
        let mut memory = encoder_region(pieces);
        let mut encoder = Encoder::new(tokenizer, pieces, aligned(&mut memory)).unwrap();
        for line in lines("encode_files.jsonl").iter().chain(&lines("encode_random.jsonl")) {
            let expected = ids(&line["ids"]);
            let mut ids = vec![0; expected.len()];
            assert_eq!(
                encoder.encode_into(line["text"].as_str().unwrap(), Specials::None, &mut ids),
                Ok(expected.len())
            );
            assert_eq!(ids, expected, "{}", line["text"]);
        }
    }
}

#[test]
fn work_grows_with_the_text_and_not_faster() {
    let tokenizer = o200k_harmony();
    let mut memory = encoder_region(0);
    let mut encoder = Encoder::new(tokenizer, 0, aligned(&mut memory)).unwrap();
    let mut work = |text: &str| {
        let before = encoder.merged_bytes();
        encoder.encode(text, Specials::None, |_| ());
        encoder.merged_bytes() - before
    };
    let mut state = 1u32;
    let letters: String = (0..100_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'a' + (state >> 24) as u8 % 26)
        })
        .collect();
    for unit in ["a", " ", "\u{301}", "ab", "\n", "/", "A", "\u{65E5}", "\u{65E5}a\u{301}", &letters] {
        let (once, eight_times) = (unit.repeat(100_000 / unit.len()), unit.repeat(800_000 / unit.len()));
        // Each window is merged as a whole and gives up at most its lookahead and one token.
        assert!(work(&once) <= 2 * 100_000, "{unit:?}");
        assert!(work(&eight_times) <= 2 * 800_000, "{unit:?}");
    }
}

/// A vocabulary as training makes it: again and again some pair of adjacent tokens of a text becomes one.
fn trained(text: &str, picks: &[usize]) -> Words {
    let mut parts: Vec<Vec<u8>> = text.bytes().map(|byte| vec![byte]).collect();
    let mut words = Vec::new();
    for pick in picks {
        let pairs: BTreeSet<(&[u8], &[u8])> = parts.windows(2).map(|pair| (&pair[0][..], &pair[1][..])).collect();
        let Some((left, right)) = pairs.iter().nth(pick % pairs.len().max(1)) else { break };
        let (left, word) = (left.to_vec(), [*left, *right].concat());
        let mut at = 0;
        while at + 1 < parts.len() {
            if parts[at] == left && parts[at + 1] == word[left.len()..] {
                parts[at] = word.clone();
                parts.remove(at + 1);
            }
            at += 1;
        }
        words.push(word);
    }
    let mut seen = BTreeSet::new();
    words.retain(|word| word.len() <= 256 && seen.insert(word.clone()));
    Words::over_bytes(words.iter().map(Vec::as_slice))
}

/// Text of few characters, of all sizes in UTF-8, so that tokens often end within one.
fn text_of_few(len: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = String> {
    let characters = ['a', 'b', '\u{E9}', '\u{E8}', '\u{436}', '\u{65E5}', '\u{672C}', '\u{301}', '\u{1F600}', ' '];
    prop::collection::vec(prop::sample::select(characters.to_vec()), len).prop_map(|text| text.into_iter().collect())
}

fn any_text() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        4 => any::<char>(),
        4 => proptest::char::range(' ', '~'),
        2 => prop::sample::select("  \t\r\n\n'/sStTrReEvVmMlLdD\u{17F}\u{2019}09\u{A0}\u{3000}\u{85}".chars().collect::<Vec<_>>()),
        2 => proptest::char::range('\u{300}', '\u{5FF}'),
        1 => proptest::char::range('\u{900}', '\u{DFF}'),
        1 => proptest::char::range('\u{1C80}', '\u{218F}'),
        1 => proptest::char::range('\u{3040}', '\u{9FFF}'),
        1 => proptest::char::range('\u{10400}', '\u{105FF}'),
    ];
    let run = (character, 1..4usize).prop_map(|(character, count)| character.to_string().repeat(count));
    prop::collection::vec(run, 0..40).prop_map(|runs| runs.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_encoded_as_tiktoken_does(text in any_text()) {
        let tokenizer = o200k_harmony();
        let reference = tiktoken_rs::o200k_harmony_singleton();
        prop_assert_eq!(encode(&tokenizer, &text, Specials::None), reference.encode_ordinary(&text));
        prop_assert_eq!(encode(&tokenizer, &text, Specials::All), reference.encode_with_special_tokens(&text));
    }

    #[test]
    fn an_encoder_gives_the_same_ids_for_any_texts(texts in prop::collection::vec(any_text(), 1..6), pieces in 0..9usize) {
        let tokenizer = o200k_harmony();
        let mut memory = encoder_region(pieces);
        let mut encoder = Encoder::new(tokenizer, pieces, aligned(&mut memory)).unwrap();
        for text in texts.iter().chain(&texts) {
            let expected = encode(&tokenizer, text, Specials::None);
            let mut ids = Vec::new();
            encoder.encode(text, Specials::None, |id| ids.push(id));
            prop_assert_eq!(&ids, &expected);
            let mut ids = vec![0; expected.len()];
            prop_assert_eq!(encoder.encode_into(text, Specials::None, &mut ids), Ok(expected.len()));
            prop_assert_eq!(&ids, &expected);
        }
    }

    #[test]
    fn any_ascii_is_cut_as_tiktoken_does(
        text in prop::collection::vec(prop::sample::select(b"aabSstTRreELlv'' 0\t\n\r/..".to_vec()), 60..200),
        odd in "[a\u{17F}\u{301}\u{E9}\u{C9}\u{3000}\u{65E5}]",
        at in 0..60usize,
    ) {
        let mut text = String::from_utf8(text).unwrap();
        text.insert_str(at, &odd);
        let expected = tiktoken_rs::o200k_harmony_singleton().encode_ordinary(&text);
        prop_assert_eq!(encode(&o200k_harmony(), &text, Specials::None), expected);
    }

    #[test]
    fn any_vocabulary_merges_by_definition(
        corpus in text_of_few(10..80),
        picks in prop::collection::vec(any::<usize>(), 0..60),
        text in text_of_few(0..60),
        repeat in prop_oneof![9 => Just(1usize), 1 => Just(24)],
    ) {
        let words = trained(&corpus, &picks);
        let mut memory = region(&words);
        let tokenizer = Tokenizer::new(&words, aligned(&mut memory)).unwrap();
        let text = text.repeat(repeat);
        let mut expected = Vec::new();
        for piece in pieces(&text) {
            expected.extend(merged_by_definition(&tokenizer, piece.as_bytes()));
        }
        prop_assert_eq!(encode(&tokenizer, &text, Specials::None), expected);
    }

    #[test]
    fn any_bytes_are_encoded_as_their_replaced_text(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let tokenizer = o200k_harmony();
        let text = String::from_utf8_lossy(&bytes);
        let ids = encode(&tokenizer, &bytes, Specials::None);
        prop_assert_eq!(&ids, &encode(&tokenizer, text.as_bytes(), Specials::None));
        prop_assert_eq!(decode(&tokenizer, &ids), text.as_bytes());
    }

    #[test]
    fn a_stream_gives_the_same_text_however_it_is_cut(bytes in prop::collection::vec(any::<u8>(), 0..60), cut in 1..5usize) {
        let mut text = String::new();
        let mut stream = Utf8Stream::new();
        for part in bytes.chunks(cut) {
            stream.push(part, &mut |part| text.push_str(part));
        }
        stream.finish(&mut |part| text.push_str(part));
        prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
    }
}
