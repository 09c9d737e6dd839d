//! The two tiny checkpoints under `tests/data` and what independent implementations compute from them.
//!
//! `tests/data/README.md` tells how they were made and how close an implementation can be expected to come.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::npy;

/// A tiny checkpoint in all its forms, with expected outputs.
pub struct Fixture {
    /// `tiny-a` or `tiny-b`.
    pub name: String,
    /// The folder of everything else.
    pub folder: PathBuf,
    /// The Hugging Face layout: `hf` in one file, or `hf-sharded` in several.
    pub hf: PathBuf,
    /// The layout in which OpenAI publishes.
    pub original: PathBuf,
    /// The same weights as a GGUF file.
    pub gguf: PathBuf,
    /// With attention, embedding and unembedding rounded to Q8_0. Only `tiny-a` has one.
    pub gguf_q8_0: Option<PathBuf>,
    /// How many logits a row has.
    pub vocabulary: usize,
    /// The sequences s1, s7, s64, s300 and s5003.
    pub sequences: Vec<Sequence>,
    /// Sequences s7 and s64 as `gguf_q8_0` must answer them; empty without that file.
    pub sequences_q8_0: Vec<Sequence>,
    /// What follows some prompts when the best token is always taken.
    pub greedy: Vec<Greedy>,
    /// The same for `gguf_q8_0`.
    pub greedy_q8_0: Vec<Greedy>,
}

/// A sequence of tokens and the logits after them.
pub struct Sequence {
    /// `s` and the number of tokens.
    pub name: String,
    /// The tokens, from position 0.
    pub tokens: Vec<u32>,
    /// The positions whose logits are known, ascending. All of them except in s5003.
    pub positions: Vec<usize>,
    /// `[positions, vocabulary]`, by transformers in 32-bit floats.
    pub logits: Vec<f32>,
    /// How far llama.cpp is from them, with its defaults on a CPU, at the same positions.
    pub llama_cpp: KlBar,
}

/// KL(reference || other) over the positions of a sequence, in nats. An engine that rounds activations has to stay below it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KlBar {
    /// Mean over the positions.
    pub mean: f64,
    /// Median over the positions.
    pub median: f64,
}

/// A greedy continuation.
pub struct Greedy {
    /// The tokens given.
    pub prompt: Vec<u32>,
    /// The tokens that follow.
    pub continuation: Vec<u32>,
    /// By how much the best logit exceeds the second at each step. Compare tokens only up to the first step whose gap is
    /// below twice the logit error of what is tested.
    pub gaps: Vec<f64>,
}

impl Fixture {
    /// Reads `tiny-a` or `tiny-b`.
    pub fn load(name: &str) -> Self {
        let folder = data().join(name);
        let reference = folder.join("ref");
        let manifest = json(&reference.join("manifest.json"));
        let existing = |path: PathBuf| path.exists().then_some(path);

        let vocabulary = manifest["spec"]["vocab"].as_u64().expect("the size of the vocabulary") as usize;
        let all = manifest["sequences"].as_object().expect("an object of sequences");
        let mut sequences: Vec<Sequence> =
            all.iter().map(|(name, entry)| sequence(&reference, name, entry, vocabulary)).collect();
        sequences.sort_by_key(|sequence| sequence.tokens.len());

        let rounded = |original: &Sequence| {
            let file = manifest["q8_0"][&original.name]["logits_file"].as_str()?;
            let distances = &manifest["sequences"][&original.name]["against_hf_f32"];
            Some(Sequence {
                name: original.name.clone(),
                tokens: original.tokens.clone(),
                positions: original.positions.clone(),
                logits: npy::read_f32(&reference.join(file)).values,
                llama_cpp: bar(&distances["llama_cpp_q8_0_file_against_hf_f32_on_q8_0_weights"]),
            })
        };
        let sequences_q8_0 = sequences.iter().filter_map(rounded).collect();

        Fixture {
            hf: existing(folder.join("hf")).unwrap_or(folder.join("hf-sharded")),
            original: folder.join("original"),
            gguf: folder.join(format!("gguf/{name}.gguf")),
            gguf_q8_0: existing(folder.join(format!("gguf/{name}-q8_0.gguf"))),
            vocabulary,
            sequences,
            sequences_q8_0,
            greedy: manifest["greedy"].as_array().expect("a list of continuations").iter().map(greedy).collect(),
            greedy_q8_0: manifest["q8_0"].get("greedy").map(greedy).into_iter().collect(),
            name: name.to_owned(),
            folder,
        }
    }

    /// Both checkpoints.
    pub fn all() -> [Self; 2] {
        [Self::load("tiny-a"), Self::load("tiny-b")]
    }

    /// The sequence of this name. Panics if there is none.
    pub fn sequence(&self, name: &str) -> &Sequence {
        let found = self.sequences.iter().find(|sequence| sequence.name == name);
        found.unwrap_or_else(|| panic!("{} has no sequence {name}", self.name))
    }

    /// The file of intermediates of sequence s7 or s64.
    pub fn trace(&self, sequence: &str) -> PathBuf {
        self.folder.join(format!("ref/trace-{sequence}.safetensors"))
    }
}

/// The folder of all fixtures.
pub fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}

/// A JSON file. Panics with its name if it is missing or malformed.
pub fn json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sequence(folder: &Path, name: &str, entry: &Value, vocabulary: usize) -> Sequence {
    let file = |key: &str| entry[key].as_str().map(|file| folder.join(file));
    let tokens: Vec<u32> = match file("tokens_file") {
        Some(file) => npy::read_i32(&file).values.into_iter().map(|token| token as u32).collect(),
        None => ids(&entry["tokens"]),
    };
    let positions: Vec<usize> = match file("positions_file") {
        Some(file) => npy::read_i32(&file).values.into_iter().map(|position| position as usize).collect(),
        None => (0..tokens.len()).collect(),
    };
    let logits = npy::read_f32(&file("logits_file").expect("the name of a file of logits"));
    assert_eq!(logits.shape, [positions.len(), vocabulary], "shape of the logits of {name}");
    let distances = &entry["against_hf_f32"];
    let at_the_same_positions = distances.get("llama_cpp_default_prefill_as_scored");
    let llama_cpp = bar(at_the_same_positions.unwrap_or(&distances["llama_cpp_default_prefill"]));
    Sequence { name: name.to_owned(), tokens, positions, logits: logits.values, llama_cpp }
}

fn bar(distance: &Value) -> KlBar {
    let number = |key: &str| distance[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {distance}"));
    KlBar { mean: number("kl_mean"), median: number("kl_median") }
}

fn greedy(entry: &Value) -> Greedy {
    let gaps = entry["top1_minus_top2"].as_array().expect("a list of gaps").iter();
    Greedy {
        prompt: ids(&entry["prompt"]),
        continuation: ids(&entry["continuation"]),
        gaps: gaps.map(|gap| gap.as_f64().expect("a gap")).collect(),
    }
}

fn ids(list: &Value) -> Vec<u32> {
    let list = list.as_array().expect("a list of tokens");
    list.iter().map(|token| token.as_u64().expect("a token") as u32).collect()
}
