//! Any text is a schema, or is refused. Under the mask of one no text meets a dead end, and where one may end it is JSON.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ossicle_core::error::Result;
use ossicle_core::file::json;
use ossicle_core::sampling::TokenMask;
use ossicle_core::schema::{TokenIndex, Unsupported};
use ossicle_core::tokenizer::{Kind, Source, Token, Tokenizer};
use ossicle_host::Memory;
use ossicle_host::schema::Arena;

/// All bytes, and some of what JSON is made of.
struct Tokens;

const LONGER: [&[u8]; 16] = [
    b"{\"",
    b"\":",
    b"\",",
    b"\"}",
    b"}}",
    b"]]",
    b"],",
    b"[[",
    b"null",
    b"true",
    b"12",
    b"\\u00",
    b"ab",
    b"  ",
    b"\xE6\x97\xA5",
    b"a\"",
];

impl Source for Tokens {
    fn walk(&self, visit: &mut dyn FnMut(Token<'_>) -> Result<()>) -> Result<()> {
        for byte in 0..=u8::MAX {
            visit(Token { id: byte.into(), bytes: &[byte], kind: Kind::Ordinary })?;
        }
        for (id, bytes) in (256..).zip(LONGER) {
            visit(Token { id, bytes, kind: Kind::Ordinary })?;
        }
        Ok(())
    }
}

const TOKENS: usize = 256 + LONGER.len();

static TOKENIZER: LazyLock<Tokenizer<'static>> = LazyLock::new(|| {
    let memory = Box::leak(Box::new(Memory::new(Tokenizer::layout(&Tokens).unwrap()).unwrap()));
    Tokenizer::new(&Tokens, memory.region()).unwrap()
});

static INDEX: LazyLock<TokenIndex<'static>> =
    LazyLock::new(|| Box::leak(Box::new(Arena::new())).index(*TOKENIZER).unwrap());

fuzz_target!(|text: &str| {
    // What is drawn follows from the text.
    let mut random = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut below = |most: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 33) as usize % most
    };
    let arena = Arena::new();
    let Ok(schema) = arena.schema(text, [Unsupported::Refuse, Unsupported::Ignore][below(2)]) else { return };
    let mask = arena.mask(&schema, *INDEX).unwrap();
    let mut words = [0; TOKENS.div_ceil(32)];
    for _ in 0..4 {
        mask.begin();
        let mut written = Vec::new();
        for _ in 0..100 {
            let may_end = mask.allowed(&mut words).unwrap();
            assert_eq!(may_end, mask.can_end());
            if may_end {
                assert!(json::parse(&written).is_ok(), "{}", String::from_utf8_lossy(&written));
            }
            let allowed: Vec<u32> =
                (0..TOKENS as u32).filter(|id| words[*id as usize / 32] >> (id % 32) & 1 == 1).collect();
            assert!(may_end || !allowed.is_empty(), "a dead end: {}", String::from_utf8_lossy(&written));
            if allowed.is_empty() {
                break;
            }
            let token = allowed[below(allowed.len())];
            assert!(mask.accept(token));
            written.extend_from_slice(TOKENIZER.token_bytes(token).unwrap());
        }
    }
});
