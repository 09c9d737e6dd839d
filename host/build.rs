//! Turns the packed vocabulary into the indices that the tokenizer and the masks of schemas use as they are: tables of constants, ready
//! at once.

use std::mem::MaybeUninit;
use std::path::Path;

use ossicle_core::error::Result;
use ossicle_core::schema::TokenIndex;
use ossicle_core::tokenizer::{Harmony, Kind, Source, Token, Tokenizer};

/// The tokens in the order of their ids: for each one byte for its size, then its bytes.
struct Packed(Vec<u8>);

impl Source for Packed {
    fn walk(&self, visit: &mut dyn FnMut(Token<'_>) -> Result<()>) -> Result<()> {
        let mut rest = &self.0[..];
        let mut id = 0;
        while let Some((&size, behind)) = rest.split_first() {
            let (bytes, behind) = behind.split_at(size as usize);
            visit(Token { id, bytes, kind: Kind::Ordinary })?;
            id += 1;
            rest = behind;
        }
        Ok(())
    }
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=data/o200k.deflate");
    let packed = std::fs::read("data/o200k.deflate").expect("the packed vocabulary");
    let tokens = miniz_oxide::inflate::decompress_to_vec(&packed).expect("deflated data");
    let source = Harmony(Packed(tokens));

    let layout = Tokenizer::layout(&source).expect("a valid vocabulary");
    let mut memory = vec![MaybeUninit::uninit(); layout.size + layout.align];
    let start = memory.as_ptr().align_offset(layout.align);
    let tokenizer = Tokenizer::new(&source, &mut memory[start..]).expect("a valid vocabulary");
    write("o200k.index", |part| tokenizer.save(part));

    let layout = TokenIndex::layout(&tokenizer).expect("a size");
    let mut memory = vec![MaybeUninit::uninit(); layout.size + layout.align];
    let start = memory.as_ptr().align_offset(layout.align);
    let tokens = TokenIndex::new(&mut memory[start..], tokenizer).expect("a region as large as its layout says");
    write("o200k.tokens", |part| tokens.save(part));
}

fn write(name: &str, save: impl FnOnce(&mut dyn FnMut(&[u8]))) {
    let mut index = Vec::new();
    save(&mut |part| index.extend_from_slice(part));
    let directory = std::env::var_os("OUT_DIR").expect("set by cargo");
    std::fs::write(Path::new(&directory).join(name), index).expect("a writable build directory");
}
