//! From logits to a token.

mod log_probability;
mod sampler;
mod token_mask;

pub use log_probability::{LogProbability, log_sum_exp, top_log_probabilities};
pub use sampler::{Sampler, SamplerConfig};
pub use token_mask::TokenMask;
