//! A grammar's mask holds the tokens that lead on to a text of the grammar, and no others.
#![cfg(feature = "grammar")]

use ossicle_core::sampling::TokenMask;
use ossicle_core::tokenizer::Specials;
use ossicle_host::grammar::{GrammarMask, Grammars, Syntax};
use ossicle_host::vocabulary::o200k_harmony;

/// The tokens that may come next, and whether the text may end.
fn allowed(mask: &mut GrammarMask) -> (Vec<u32>, bool) {
    let tokenizer = o200k_harmony();
    let mut words = vec![u32::MAX; tokenizer.vocabulary_len().div_ceil(32)];
    let may_end = mask.allowed(&mut words).expect("a grammar that is small");
    let is_set = |token: &u32| words[*token as usize / 32] >> (token % 32) & 1 == 1;
    let tokens = 0..tokenizer.vocabulary_len() as u32;
    (tokens.filter(|token| is_set(token) && !tokenizer.is_special(*token)).collect(), may_end)
}

#[test]
fn exactly_the_tokens_that_begin_what_is_left_are_allowed() {
    let tokenizer = o200k_harmony();
    let grammars = Grammars::new(&tokenizer).expect("a vocabulary");
    let choices = ["yes, certainly", "yet, no"];
    let begins = |said: &str| -> Vec<u32> {
        let tokens = 0..tokenizer.vocabulary_len() as u32;
        let fits = |bytes: &[u8]| {
            let text = [said.as_bytes(), bytes].concat();
            !bytes.is_empty() && choices.iter().any(|choice| choice.as_bytes().starts_with(&text))
        };
        tokens
            .filter(|token| !tokenizer.is_special(*token) && tokenizer.token_bytes(*token).is_some_and(fits))
            .collect()
    };
    for (syntax, text) in [
        (Syntax::Lark, "start: \"yes\" REST | \"yet, no\"\nREST: \", certainly\""),
        (Syntax::Regex, "yes, certainly|yet, no"),
    ] {
        let mut mask = grammars.mask(syntax, text).expect("a grammar");
        // The second time, what came before is forgotten.
        for choice in [choices[0], choices[1], choices[0]] {
            mask.begin();
            let mut said = String::new();
            let mut tokens = Vec::new();
            tokenizer.encode(choice, Specials::None, &mut |token| tokens.push(token));
            for token in tokens {
                assert_eq!(allowed(&mut mask), (begins(&said), false), "{syntax:?} after {said:?}");
                assert!(mask.accept(token));
                said += std::str::from_utf8(tokenizer.token_bytes(token).expect("a token")).expect("text");
            }
            assert_eq!(allowed(&mut mask), (Vec::new(), true));
        }
        mask.begin();
        let mut first = None;
        tokenizer.encode("no", Specials::None, &mut |token| first = Some(token));
        assert!(!mask.accept(first.expect("a token")));
        assert!(mask.allowed(&mut [0; 8]).is_err());
    }
}

#[test]
fn what_is_wrong_with_a_grammar_is_told() {
    let grammars = Grammars::new(&o200k_harmony()).expect("a vocabulary");
    for (syntax, text, expected) in [
        (Syntax::Lark, "start: other", "other"),
        (Syntax::Lark, "other: \"a\"", "start"),
        (Syntax::Regex, "[a", "unclosed"),
        (Syntax::Regex, r"(a)\1", "backreference"),
    ] {
        let error = grammars.mask(syntax, text).err().expect("a refusal").to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
