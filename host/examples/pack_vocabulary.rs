//! Packs a tiktoken rank file into the form of `data/o200k.deflate`: see `data/README.md`.

use std::io::Write;

use flate2::{Compression, write::DeflateEncoder};
use ossicle_core::tokenizer::{RankFile, Source};

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(from), Some(to)) = (arguments.next(), arguments.next()) else {
        panic!("usage: pack_vocabulary RANK_FILE PACKED_FILE");
    };
    let file = std::fs::read(from).expect("a rank file");
    let mut tokens = Vec::new();
    RankFile(&file)
        .walk(&mut |token| {
            tokens.push((token.id, token.bytes.to_vec()));
            Ok(())
        })
        .expect("a rank file");
    tokens.sort();
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    for (at, (id, bytes)) in tokens.iter().enumerate() {
        assert_eq!(at, *id as usize, "ids without a gap");
        encoder.write_all(&[u8::try_from(bytes.len()).expect("at most 255 bytes a token")]).expect("memory");
        encoder.write_all(bytes).expect("memory");
    }
    std::fs::write(to, encoder.finish().expect("memory")).expect("a place for the packed file");
}
