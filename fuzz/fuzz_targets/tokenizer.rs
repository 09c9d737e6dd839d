//! Any vocabulary is refused or works: text comes back from its tokens, however it is encoded.
#![no_main]

use std::mem::MaybeUninit;

use libfuzzer_sys::fuzz_target;
use ossicle_core::error::Result;
use ossicle_core::tokenizer::{Encoder, Kind, Source, Specials, Token, Tokenizer, Utf8Stream};

/// All single bytes, then tokens that are two earlier ones each, then a special token.
struct Vocabulary(Vec<Vec<u8>>);

impl Vocabulary {
    fn new(pairs: &[u8]) -> Self {
        let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        for pair in pairs.chunks_exact(2) {
            // High numbers are the latest tokens, others the bytes that text is made of.
            let pick = |number: u8| match usize::from(number) {
                number @ 128.. => &tokens[tokens.len() - 1 - (number - 128)],
                number => &tokens[number],
            };
            let token = [&pick(pair[0])[..], pick(pair[1])].concat();
            if token.len() <= 256 {
                tokens.push(token);
            }
        }
        tokens.push(b"<|s|>".to_vec());
        Self(tokens)
    }
}

impl Source for Vocabulary {
    fn walk(&self, visit: &mut dyn FnMut(Token<'_>) -> Result<()>) -> Result<()> {
        for (id, bytes) in self.0.iter().enumerate() {
            let kind = if id + 1 < self.0.len() { Kind::Ordinary } else { Kind::Special };
            visit(Token { id: id as u32, bytes, kind })?;
        }
        Ok(())
    }
}

fn memory(size: usize) -> Vec<MaybeUninit<u8>> {
    vec![MaybeUninit::uninit(); size + 64]
}

fn aligned(memory: &mut [MaybeUninit<u8>]) -> &mut [MaybeUninit<u8>] {
    let start = memory.as_ptr().align_offset(64);
    &mut memory[start..]
}

fuzz_target!(|input: (Vec<u8>, Vec<u8>, u8)| {
    let (pairs, text, repeat) = input;
    let source = Vocabulary::new(&pairs);
    let mut region = memory(Tokenizer::layout(&source).unwrap().size);
    // Merges may depend on text too far behind them.
    let Ok(tokenizer) = Tokenizer::new(&source, aligned(&mut region)) else { return };
    // Long pieces are where windows meet.
    let text = text.repeat(usize::from(repeat) + 1);
    let lossy = String::from_utf8_lossy(&text);

    let mut region = memory(Encoder::layout(8).unwrap().size);
    let mut encoder = Encoder::new(tokenizer, 8, aligned(&mut region)).unwrap();
    for specials in [Specials::None, Specials::All] {
        let mut ids = vec![0; 3 * text.len()];
        let len = tokenizer.encode_into(&text, specials, &mut ids).unwrap();
        ids.truncate(len);
        let mut again = Vec::new();
        encoder.encode(&*lossy, specials, |id| again.push(id));
        assert_eq!(ids, again);

        let mut decoded = vec![0; lossy.len()];
        assert_eq!(tokenizer.decode_into(&ids, &mut decoded), Ok(lossy.len()));
        assert_eq!(decoded, lossy.as_bytes());
        let mut streamed = String::new();
        let mut stream = Utf8Stream::new();
        tokenizer.decode(&ids, |bytes| stream.push(bytes, &mut |part| streamed.push_str(part)));
        stream.finish(&mut |part| streamed.push_str(part));
        assert_eq!(streamed, lossy);
    }
});
