//! The JSON reader and serde_json agree on what is JSON, and on strings and the number of values in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ossicle_core::file::json::{self, Kind};

/// Holds a value against what serde_json made of it. Of keys that come twice, serde_json keeps the last.
fn compare(ours: json::Value<'_>, theirs: &serde_json::Value) {
    match ours.kind() {
        Kind::Null => assert!(theirs.is_null()),
        Kind::Bool(value) => assert_eq!(theirs.as_bool(), Some(value)),
        Kind::Number(number) => assert_eq!(theirs.as_u64(), number.as_u64()),
        Kind::String(string) => assert!(string == theirs.as_str().unwrap()),
        Kind::Array(array) => {
            let theirs = theirs.as_array().unwrap();
            assert_eq!(array.iter().count(), theirs.len());
            array.iter().zip(theirs).for_each(|(ours, theirs)| compare(ours, theirs));
        }
        Kind::Object(object) => {
            let theirs = theirs.as_object().unwrap();
            assert!(object.iter().count() >= theirs.len());
            for (key, theirs) in theirs {
                let last = object.iter().filter(|member| member.key == key.as_str()).last();
                compare(last.expect("a key that serde_json has").value, theirs);
            }
        }
    }
}

fuzz_target!(|text: &[u8]| {
    match (json::parse(text), serde_json::from_slice::<serde_json::Value>(text)) {
        (Ok(ours), Ok(theirs)) => compare(ours, &theirs),
        (Err(error), Err(_)) => assert!(error.offset <= text.len()),
        (Err(error), Ok(_)) => panic!("refused: {error}"),
        (Ok(_), Err(error)) => {
            // Its depth is bounded one level before ours, and it refuses what overflows an f64.
            let error = error.to_string();
            assert!(error.contains("recursion limit") || error.contains("out of range"), "accepted: {error}");
        }
    }
});
