//! What the fuzz targets share.

use ossicle_core::harmony::{SpecialTokens, Vocabulary};

/// A vocabulary whose tokens are the bytes.
pub struct Bytes;

/// Its special tokens.
pub const SPECIAL: SpecialTokens = SpecialTokens {
    start: 256,
    channel: 257,
    constrain: 258,
    message: 259,
    end: 260,
    call: 261,
    return_: 262,
    end_of_text: 263,
};

static BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        bytes[byte] = byte as u8;
        byte += 1;
    }
    bytes
};

impl Vocabulary for Bytes {
    fn encode_ordinary(&self, text: &str, emit: &mut dyn FnMut(u32)) {
        text.bytes().for_each(|byte| emit(byte.into()));
    }

    fn token_bytes(&self, token: u32) -> Option<&[u8]> {
        BYTES.get(token as usize..)?.get(..1)
    }

    fn token_of(&self, bytes: &[u8]) -> Option<u32> {
        match bytes {
            [byte] => Some((*byte).into()),
            _ => None,
        }
    }
}
