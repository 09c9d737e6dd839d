//! What a model is: its numbers, and where in its files each weight lies.

mod adapter;
mod config;
mod experts;
mod files;
mod names;
mod weights;

pub use adapter::{Adapter, AdapterFile, Change, Place};
pub use config::{Config, Rope};
pub(crate) use experts::LayerExperts;
pub use experts::{ExpertCache, ExpertPart, ExpertProjection};
pub use files::{Files, Offload};
pub use names::{Naming, Role, TensorId};
pub use weights::{Layer, Model, Part, Projection, Tensor};
