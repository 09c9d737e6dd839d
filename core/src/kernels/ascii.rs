//! Which of 64 bytes are which characters of ASCII.

/// How many bytes are looked at.
pub const BLOCK: usize = 64;

/// A bit for each byte of the text, the first lowest, eight times: letters; capitals; digits; white space; line ends and `/`; other
/// characters; the space and the apostrophe; what is no ASCII.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[inline]
pub fn planes(text: &[u8; BLOCK]) -> [u64; 8] {
    // SAFETY: the program is built for processors that have SSE2.
    unsafe { compared(text) }
}

#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
pub use self::transposed as planes;

/// The planes, by comparing sixteen bytes at a time.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[target_feature(enable = "sse2")]
#[inline]
fn compared(text: &[u8; BLOCK]) -> [u64; 8] {
    use core::arch::x86_64::*;
    let all = |byte: u8| _mm_set1_epi8(byte as i8);
    let bits = |bytes: __m128i| u64::from(_mm_movemask_epi8(bytes) as u16);
    let mut planes = [0; 8];
    for (sixteen, bytes) in text.as_chunks::<16>().0.iter().enumerate() {
        let bytes: __m128i = bytemuck::cast(*bytes);
        let is = |byte| _mm_cmpeq_epi8(bytes, all(byte));
        let within = |bytes, first: u8, last: u8| {
            let from_first = _mm_sub_epi8(bytes, all(first));
            _mm_cmpeq_epi8(_mm_min_epu8(from_first, all(last - first)), from_first)
        };
        let letter = within(_mm_or_si128(bytes, all(0x20)), b'a', b'z');
        let capital = _mm_and_si128(letter, _mm_cmpeq_epi8(_mm_and_si128(bytes, all(0x20)), all(0)));
        let digit = within(bytes, b'0', b'9');
        let space = is(b' ');
        let white = _mm_or_si128(space, within(bytes, b'\t', b'\r'));
        let tail = _mm_or_si128(is(b'/'), _mm_or_si128(is(b'\n'), is(b'\r')));
        let mark = _mm_or_si128(space, is(b'\''));
        let other = !(bits(_mm_or_si128(_mm_or_si128(letter, digit), _mm_or_si128(white, bytes)))) & 0xFFFF;
        let found = [bits(letter), bits(capital), bits(digit), bits(white), bits(tail), other, bits(mark), bits(bytes)];
        for (plane, found) in planes.iter_mut().zip(found) {
            *plane |= found << (16 * sixteen);
        }
    }
    planes
}

/// The planes, by a table of eight bits for each byte, transposed.
#[cfg(any(test, not(all(target_arch = "x86_64", target_feature = "sse2"))))]
#[inline]
pub fn transposed(text: &[u8; BLOCK]) -> [u64; 8] {
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(text.as_chunks::<8>().0) {
        *word = bytes.iter().rev().fold(0, |word, byte| word << 1 | PLANES[usize::from(*byte)]);
    }
    // Byte `b` of word `w` goes to byte `w` of word `b`: blocks of four bytes first, then of two, then single ones.
    for (distance, low) in [(4, 0x0000_0000_FFFF_FFFF), (2, 0x0000_FFFF_0000_FFFF), (1, 0x00FF_00FF_00FF_00FF)] {
        for word in (0..8).filter(|word| word & distance == 0) {
            let (left, right) = (words[word], words[word + distance]);
            let shift = 8 * distance;
            words[word] = left & low | (right & low) << shift;
            words[word + distance] = left >> shift & low | right & !low;
        }
    }
    words
}

/// For each byte a 1 in the lowest bit of each plane that it belongs to, the first plane in the lowest byte.
#[cfg(any(test, not(all(target_arch = "x86_64", target_feature = "sse2"))))]
static PLANES: [u64; 256] = {
    let mut planes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let bits = match byte as u8 {
            b'a'..=b'z' => 0b0000_0001,
            b'A'..=b'Z' => 0b0000_0011,
            b'0'..=b'9' => 0b0000_0100,
            b' ' => 0b0100_1000,
            b'\r' | b'\n' => 0b0001_1000,
            b'\t' | 0x0B | 0x0C => 0b0000_1000,
            b'/' => 0b0011_0000,
            b'\'' => 0b0110_0000,
            0x80.. => 0b1000_0000,
            _ => 0b0010_0000,
        };
        let mut plane = 0;
        while plane < 8 {
            planes[byte] |= (bits >> plane & 1) << (8 * plane);
            plane += 1;
        }
        byte += 1;
    }
    planes
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_in_the_same_planes_with_vectors_and_without() {
        for first in 0..=255u8 {
            let text: [u8; BLOCK] = core::array::from_fn(|at| first.wrapping_add((37 * at) as u8));
            assert_eq!(planes(&text), transposed(&text), "{text:x?}");
        }
    }
}
