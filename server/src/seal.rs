//! Encryption of reasoning that a client keeps for the server.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

/// What a sealed text begins with: the version of its form.
const PREFIX: &str = "oss1.";
const NONCE: usize = 24;

/// A secret key, and what is done with it. Whoever has not the key can neither read nor change a sealed text; and one that
/// was made for one client does not open for another.
pub struct Seal {
    cipher: XChaCha20Poly1305,
}

impl Seal {
    /// With a key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self { cipher: XChaCha20Poly1305::new(key.into()) }
    }

    /// With a key that nobody knows, and that ends with the process.
    pub fn random() -> Self {
        Self::new(&random())
    }

    /// Encrypts.
    pub fn close(&self, owner: &str, text: &str) -> String {
        let nonce: [u8; NONCE] = random();
        let payload = Payload { msg: text.as_bytes(), aad: owner.as_bytes() };
        // It fails only beyond 256 GiB.
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload).unwrap_or_default();
        format!("{PREFIX}{}", hex(&[&nonce[..], &sealed].concat()))
    }

    /// Decrypts what [`Seal::close`] made with the same key for the same owner.
    pub fn open(&self, owner: &str, text: &str) -> Option<String> {
        let bytes = unhex(text.strip_prefix(PREFIX)?)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>()?;
        let payload = Payload { msg: sealed, aad: owner.as_bytes() };
        String::from_utf8(self.cipher.decrypt(&XNonce::from(*nonce), payload).ok()?).ok()
    }
}

/// Bytes that nobody can guess.
///
/// # Panics
/// If the operating system has no random numbers; there is nothing safe to do then.
pub(crate) fn random<const SIZE: usize>() -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    getrandom::fill(&mut bytes).expect("the operating system's random numbers");
    bytes
}

/// A name that nobody can guess.
pub(crate) fn new_id(prefix: &str) -> String {
    format!("{prefix}_{}", hex(&random::<16>()))
}

/// Bytes as digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

#[cfg(test)]
mod tests {
    use super::Seal;

    #[test]
    fn only_the_owner_opens_what_was_sealed_and_nobody_what_was_changed() {
        let seal = Seal::random();
        let sealed = seal.close("a", "Thought.");
        assert!(!sealed.contains("Thought") && sealed != seal.close("a", "Thought."));
        assert_eq!(seal.open("a", &sealed).as_deref(), Some("Thought."));
        assert_eq!(seal.open("b", &sealed), None);
        assert_eq!(Seal::random().open("a", &sealed), None);
        for at in [0, 6, sealed.len() - 1] {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] ^= 1;
            assert_eq!(seal.open("a", &String::from_utf8(bytes).expect("ASCII")), None);
        }
        assert_eq!(seal.open("a", ""), None);
        assert_eq!(seal.open("a", "oss1.ff"), None);
    }
}
