//! The model that is part of the program, for when none is named.

use ossicle_host::Checkpoint;

/// What is said once when it is used.
pub const NOTICE: &str = "\
No model was named: this is Ossicle's own toy model of a few megabytes, which knows little more than sums and small talk.
For gpt-oss: `ossicle pull ggml-org/gpt-oss-20b-GGUF` (12 GB), and add --model ggml-org/gpt-oss-20b-GGUF.
";

/// Aligned as weights in files are.
#[repr(C, align(4096))]
struct Aligned<T: ?Sized>(T);

static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!("../data/toy.gguf"));

/// The model. It is made by `train/`.
pub fn checkpoint() -> Checkpoint {
    Checkpoint::embedded("toy.gguf", &FILE.0)
}
