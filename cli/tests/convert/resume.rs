//! Conversions that are stopped go on, and end as if they had not been.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::files::{Scratch, convert, data, ossicle};

/// A conversion that ends where it writes beyond so many blocks of 512 bytes of a file: the system stops it there.
fn stopped(blocks: usize, arguments: &[&str]) {
    let script = "ulimit -c 0; ulimit -f \"$0\"; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, &blocks.to_string(), env!("CARGO_BIN_EXE_ossicle"), "convert"]).args(arguments);
    assert!(!command.output().expect("a shell").status.success(), "{arguments:?}");
    assert!(!Path::new(arguments[1]).exists(), "what is not complete has not its name");
}

/// The lines of a journal for whole chunks, without their hashes.
fn noted(journal: &str) -> Vec<String> {
    let text = fs::read_to_string(journal).expect("the journal");
    let lines = text.lines().skip(1).filter(|line| line.split(' ').count() == 3);
    lines.map(|line| line.rsplit_once(' ').expect("a hash").0.to_owned()).collect()
}

#[test]
fn a_stopped_conversion_goes_on_and_ends_with_the_same_bytes() {
    let scratch = Scratch::new("stopped");
    let (input, whole, out) = (data("tiny-a/hf"), scratch.path("whole.gguf"), scratch.path("out.gguf"));
    let (part, journal) = (format!("{out}.part"), format!("{out}.part.journal"));
    convert(&[&input, &whole]);
    let expected = fs::read(&whole).expect("the file");
    let blocks = expected.len() / 512;
    let mut before = Vec::new();
    for part in 1..8 {
        stopped(blocks * part / 8, &[&input, &out]);
        let mut after = noted(&journal);
        assert!(after.starts_with(&before), "what was written stays");
        before.clone_from(&after);
        after.sort();
        after.dedup();
        assert_eq!(after.len(), before.len(), "nothing is written twice");
    }
    assert!(!before.is_empty());
    let states: Vec<_> = [&part, &journal].map(|path| fs::read(path).expect("what was written")).into();

    // Whatever is lost of what was written, or of what is known of it, is written again.
    let again = |number: usize, part: &[u8], journal: &[u8]| {
        let out = scratch.path(&format!("{number}.gguf"));
        fs::write(format!("{out}.part"), part).expect("room");
        fs::write(format!("{out}.part.journal"), journal).expect("room");
        convert(&[&input, &out]);
        assert!(fs::read(&out).expect("the file") == expected, "{number}");
    };
    let (length, journal_length) = (states[0].len(), states[1].len());
    for (number, size) in [0, 1, 4096, length / 3, length / 2 + 1, length - 1].into_iter().enumerate() {
        again(number, &states[0][..size], &states[1]);
    }
    for (number, size) in [0, 8, 17, 30, journal_length / 2, journal_length - 3].into_iter().enumerate() {
        again(10 + number, &states[0], &states[1][..size]);
    }
    let mut damaged = states[0].clone();
    damaged.iter_mut().step_by(70_000).for_each(|byte| *byte ^= 1);
    again(20, &damaged, &states[1]);
    again(21, &states[0], b"\xff\xfe not a journal");

    let output = ossicle(&["convert", &input, &out]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("goes on where it was stopped"));
    assert!(fs::read(&out).expect("the file") == expected);
    assert!(!Path::new(&part).exists() && !Path::new(&journal).exists());
}

#[test]
fn other_options_or_another_source_begin_anew() {
    let scratch = Scratch::new("others");
    let input = scratch.path("input");
    fs::create_dir(&input).expect("room");
    for entry in fs::read_dir(data("tiny-a/hf")).expect("the fixture").flatten() {
        fs::copy(entry.path(), Path::new(&input).join(entry.file_name())).expect("room");
    }
    let attention = data("adapters/attention");
    let half = format!("{attention}:0.5");
    let expected = |options: &[&str], name: &str| {
        let whole = scratch.path(name);
        convert(&[&[&*input, &whole], options].concat());
        fs::read(whole).expect("the file")
    };
    let given: [&[&str]; 4] = [&[], &["--dense", "q8_0"], &["--adapter", &attention], &["--adapter", &half]];
    for (number, options) in given.iter().enumerate() {
        let out = scratch.path(&format!("{number}.gguf"));
        let before = given[(number + 3) % 4];
        stopped(900, &[&[&*input, &out], before].concat());
        convert(&[&[&*input, &out], *options].concat());
        assert!(fs::read(&out).expect("the file") == expected(options, &format!("whole-{number}.gguf")), "{options:?}");
    }
    let out = scratch.path("changed.gguf");
    stopped(900, &[&input, &out]);
    let weights = Path::new(&input).join("model.safetensors");
    let mut bytes = fs::read(&weights).expect("the weights");
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).expect("room");
    convert(&[&input, &out]);
    assert!(fs::read(&out).expect("the file") == expected(&[], "whole-changed.gguf"));
}

#[test]
fn folders_go_on_too_and_are_written_by_one_process_at_a_time() {
    let scratch = Scratch::new("folder");
    let (input, whole, out) = (data("tiny-a/gguf/tiny-a.gguf"), scratch.path("whole"), scratch.path("out"));
    let options = ["--shard-size", "200000"];
    convert(&[&[&*input, &whole], &options[..]].concat());
    for blocks in [20, 100, 250] {
        stopped(blocks, &[&[&*input, &out], &options[..]].concat());
    }
    let lock = File::open(format!("{out}.part.journal")).expect("the journal");
    lock.lock().expect("nobody has it");
    let output = ossicle(&[&["convert", &input, &out], &options[..]].concat());
    assert!(String::from_utf8_lossy(&output.stderr).contains("another process is writing this"));
    drop(lock);
    convert(&[&[&*input, &out], &options[..]].concat());
    let files = |folder: &str| {
        let entries = fs::read_dir(folder).expect("the folder").flatten();
        let mut files: Vec<_> =
            entries.map(|entry| (entry.file_name(), fs::read(entry.path()).expect("a file"))).collect();
        files.sort();
        files
    };
    assert!(files(&out) == files(&whole));
    assert!(!Path::new(&format!("{out}.part.journal")).exists());
}
