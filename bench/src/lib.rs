//! Measurements of Ossicle beside its peers: the work that `benches` time and count.

pub mod conversation;
pub mod kernels;
pub mod model;
pub mod peak;

/// Whether time is measured: under `cargo bench`, but not with its `--test`.
pub fn is_timed() -> bool {
    let has = |flag| std::env::args().any(|argument| argument == flag);
    has("--bench") && !has("--test")
}
