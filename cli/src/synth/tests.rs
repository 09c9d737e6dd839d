use std::collections::HashSet;
use std::fs;

use ossicle_core::file::TensorType::{self, Bf16, F32, Mxfp4, Q8_0};
use ossicle_core::kernels::Kernels;
use ossicle_core::model::{Files, Model};
use ossicle_core::tokenizer::vocabulary::from_byte_alphabet;
use ossicle_core::tokenizer::{Specials, Tokenizer};
use ossicle_core::transformer::{Logits, Session, SessionConfig};
use ossicle_host::vocabulary::{gguf, o200k_harmony};
use ossicle_host::{Memory, Threads};

use super::vocabulary::Vocabulary;
use super::*;

/// A place for a file, which is gone when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("ossicle-synth-{}-{name}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The file that is written.
fn written(name: &str, geometry: Geometry, dense: TensorType, seed: u64) -> Vec<u8> {
    let scratch = Scratch::new(name);
    let plan = Plan::new(&geometry, dense);
    let mut reported = 0;
    plan.write(&scratch.0, seed, |written| reported = written).expect("room for a small file");
    let bytes = fs::read(&scratch.0).expect("the file");
    assert_eq!(bytes.len() as u64, plan.size);
    // Only padding between tensors is not reported.
    assert!((plan.size - 1000..=plan.size).contains(&reported), "{reported} of {}", plan.size);
    bytes
}

/// The tiny model with the whole vocabulary: its large matrices have several chunks.
const WIDE: Geometry = Geometry {
    layers: 1,
    vocabulary: Geometry::SMALL.vocabulary,
    ordinary: Geometry::SMALL.ordinary,
    ..Geometry::TINY
};

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_gives_others() {
    for (name, dense) in [("q8_0", Q8_0), ("bf16", Bf16)] {
        let first = written(name, Geometry::TINY, dense, 7);
        assert!(first == written(name, Geometry::TINY, dense, 7));
        assert!(first != written(name, Geometry::TINY, dense, 8));
    }
}

#[test]
fn the_bytes_are_those_that_one_thread_makes_in_any_order() {
    for (name, dense) in [("wide-q8_0", Q8_0), ("wide-bf16", Bf16)] {
        let plan = Plan::new(&WIDE, dense);
        let mut expected = plan.header.clone();
        expected.resize(plan.size as usize, 0);
        let mut buffer = Vec::new();
        for chunk in plan.chunks().iter().rev() {
            chunk.make(3, &mut buffer);
            expected[chunk.offset as usize..][..buffer.len()].copy_from_slice(&buffer);
        }
        assert!(expected == written(name, WIDE, dense, 3));
    }
}

#[test]
fn no_part_is_left_of_a_file_that_could_not_be_written() {
    let scratch = Scratch::new("directory");
    fs::create_dir(&scratch.0).expect("a new directory");
    let failed = Plan::new(&Geometry::TINY, Q8_0).write(&scratch.0, 0, |_| ());
    fs::remove_dir(&scratch.0).expect("it is empty");
    assert!(failed.is_err(), "a file does not replace a directory");
    assert!(!scratch.0.with_added_extension("part").exists());
}

#[test]
fn tensors_are_as_many_and_as_large_as_in_the_published_files() {
    let [f32s, dense, experts] = [F32, Q8_0, Mxfp4].map(|dtype| {
        move |plan: &Plan| {
            let tensors = plan.tensors.iter().filter(|tensor| tensor.dtype == dtype);
            tensors.fold((0, 0), |(count, size), tensor| (count + 1, size + tensor.size))
        }
    });
    let plan = Plan::new(&Geometry::SMALL, Q8_0);
    assert_eq!((f32s(&plan).0, dense(&plan).0, experts(&plan)), (289, 98, (72, 10_152_345_600)));
    assert_eq!(plan.size - plan.header.len() as u64, 12_096_558_336);

    let plan = Plan::new(&Geometry::LARGE, Q8_0);
    assert_eq!((f32s(&plan).0, dense(&plan).0, experts(&plan)), (433, 146, (108, 60_914_073_600)));
}

#[test]
fn the_vocabulary_is_o200k_harmony_as_the_published_files_have_it() {
    let plan = Plan::new(&WIDE, Q8_0);
    let mut file = plan.header;
    file.resize(plan.size as usize, 0);
    let files = [&file[..]];
    let files = Files::gguf(&files).expect("a model");
    let (tokens, types) = files.vocabulary().expect("a vocabulary");
    let types: Vec<_> = types.expect("types").iter().map(|value| value.as_u64()).collect();
    assert!(types[..199_998].iter().all(|kind| *kind == Some(1)));
    assert!(types[199_998..200_019].iter().all(|kind| *kind == Some(3)));
    assert!(types[200_019..].iter().all(|kind| *kind == Some(5)));
    assert_eq!(types.len(), 201_088);

    let tokenizer = o200k_harmony();
    for (id, token) in (0..).zip(tokens.iter()) {
        let token = token.as_bytes().expect("a string");
        let expected = tokenizer.token_bytes(id).expect("a token");
        let mut bytes = [0; 256];
        match id {
            0..199_998 => {
                let size = from_byte_alphabet(token, &mut bytes).expect("the byte alphabet");
                assert_eq!(&bytes[..size], expected, "token {id}");
            }
            199_998..200_019 => assert_eq!(token, expected, "token {id}"),
            _ => assert_eq!(token, format!("[PAD{id}]").as_bytes()),
        }
    }
}

#[test]
fn merges_are_all_splits_of_all_tokens() {
    // The number of merges in the published tokenizer.json.
    assert_eq!(Vocabulary::new(199_998, 201_088).merges().len(), 446_189);
}

#[test]
fn the_tiny_model_is_small_and_reads_text() {
    let file = written("reads", Geometry::TINY, Q8_0, 0);
    assert!(file.len() < 1_000_000, "{} bytes", file.len());
    let files = [&file[..]];
    let files = Files::gguf(&files).expect("a model");
    let (tokens, types) = files.vocabulary().expect("a vocabulary");
    let source = gguf(tokens, types.expect("types"));
    let mut memory = Memory::new(Tokenizer::layout(&source).expect("a layout")).expect("memory");
    let tokenizer = Tokenizer::new(&source, memory.region()).expect("a vocabulary of bytes and merges");

    let text = "<|start|>user<|message|>Was ist 2 + 2? नमस्ते 日本<|end|>";
    let mut ids = Vec::new();
    tokenizer.encode(text, Specials::All, |id| ids.push(id));
    let mut decoded = Vec::new();
    tokenizer.decode(&ids, |bytes| decoded.extend_from_slice(bytes));
    assert_eq!(String::from_utf8(decoded).unwrap(), text);
    assert_eq!(ids[0], 2016 + 8, "<|start|> is one token");
    assert!(ids.len() < text.len() / 2, "{ids:?}");
}

#[test]
fn models_think_in_numbers_like_those_of_a_trained_one() {
    // A layer of full size is enough to notice a matrix of wrong scale.
    let cut = Geometry { name: "cut", layers: 1, experts: 4, vocabulary: 2048, ordinary: 2016, ..Geometry::SMALL };
    for (geometry, dense, steps) in [(Geometry::TINY, Q8_0, 48), (Geometry::TINY, Bf16, 48), (cut, Q8_0, 12)] {
        let file = written(&format!("thinks-{}", geometry.name), geometry, dense, 1);
        let files = [&file[..]];
        let files = Files::gguf(&files).expect("a model");
        let mut memory = Memory::new(Model::layout(&files).expect("a layout")).expect("memory");
        let model = Model::new(memory.region(), &files).expect("all tensors");
        let config = SessionConfig { context_tokens: 64, batch_tokens: 8, ..SessionConfig::default() };
        let mut memory = Memory::new(Session::layout(&model, &config).expect("a layout")).expect("memory");
        let mut session = Session::new(memory.region(), &model, Kernels::portable(), &config).expect("a session");

        let threads = Threads::new(2);
        let mut token = 100;
        let mut greedy = HashSet::new();
        for _ in 0..steps {
            session.start(&[token], Logits::Last).expect("room");
            session.run(&threads).expect("finite numbers");
            let logits = session.logits();
            let square = logits.iter().map(|logit| logit * logit).sum::<f32>() / logits.len() as f32;
            assert!((1.5..4.0).contains(&square.sqrt()), "{}: logits of deviation {}", geometry.name, square.sqrt());
            token = (0..).zip(logits).max_by(|a, b| a.1.total_cmp(b.1)).expect("logits").0;
            greedy.insert(token);
        }
        assert!(greedy.len() > steps / 2, "{}: only {} different tokens of {steps}", geometry.name, greedy.len());
    }
}
