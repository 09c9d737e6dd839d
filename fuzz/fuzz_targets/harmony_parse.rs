//! Any tokens become messages; those that the header grammar allows do so without a diagnostic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ossicle_core::harmony::conversation::Role;
use ossicle_core::harmony::grammar::{Allowed, HeaderGrammar, Rules};
use ossicle_core::harmony::parse::{Event, Parser};
use ossicle_fuzz::{Bytes, SPECIAL};

/// Any byte is a token, but the highest are special ones and one id that is no token.
fn token(byte: u8) -> u32 {
    let special = SPECIAL.names().map(|(token, _)| token);
    match special.get(usize::from(u8::MAX - byte)) {
        Some(&token) => token,
        None if byte == 247 => u32::MAX,
        None => byte.into(),
    }
}

fn parse(bytes: &[u8], role: Option<Role>) {
    let mut parser = Parser::new(SPECIAL, role);
    let mut begun = None;
    let mut watch = |event: Event| match event {
        Event::Header(header) => assert!(begun.replace(header.first_token).is_none()),
        Event::Content(text) => assert!(begun.is_some() && !text.is_empty()),
        Event::End(end) => assert!(begun.take().is_some_and(|first| first <= end.end_token)),
        Event::Diagnostic(_) => {}
    };
    for &byte in bytes {
        parser.push(token(byte), &Bytes, &mut watch);
    }
    parser.finish(&mut watch);
    assert_eq!(begun, None);
}

/// The first byte of each pair says whether content ends, the second which token comes.
fn follow(bytes: &[u8], recipients: &[&str]) {
    let mut grammar = HeaderGrammar::new(Rules::new(SPECIAL, recipients));
    let mut parser = Parser::new(SPECIAL, Some(Role::Assistant));
    for pair in bytes.chunks_exact(2) {
        let mut listed = Vec::new();
        let allowed = grammar.allowed(&Bytes, &mut |token| listed.push(token));
        let token = match allowed {
            Allowed::ListedAndOrdinary if pair[0] < 200 => pair[1].into(),
            _ => listed[usize::from(pair[1]) % listed.len()],
        };
        assert!(grammar.push(token, &Bytes));
        parser.push(token, &Bytes, &mut |event| assert!(!matches!(event, Event::Diagnostic(_)), "{event:?}"));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let role = [None, Some(Role::Assistant), Some(Role::Tool)][usize::from(first % 3)];
    parse(rest, role);
    let names = rest.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let recipients: Vec<&str> = names.split(',').take(8).collect();
    follow(rest, &recipients);
});
