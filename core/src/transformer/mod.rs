//! The forward pass, in the order of the mathematics: a token's embedding, then in each layer [attention](attention) and
//! the [experts](moe), then the logits. A [`Session`] is one timeline of tokens through it.

mod activations;
mod adaptation;
mod attention;
mod kv_cache;
mod linear;
mod moe;
mod rope;
mod session;
mod snapshot;

pub use adaptation::ADAPTERS_MAX;
pub use kv_cache::CacheFormat;
pub use session::{DRAFT_TOKENS, FEW_LOGITS, Logits, Precision, Progress, Session, SessionConfig};
