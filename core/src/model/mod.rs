//! What a model is: its numbers, and where in its files each weight lies.

mod adapter;
mod config;
mod files;
mod names;
mod weights;

pub use adapter::{Adapter, AdapterFile, Change, Place};
pub use config::{Config, Rope};
pub use files::Files;
pub use names::{Naming, Role, TensorId};
pub use weights::{Layer, Model, Part, Projection, Tensor};
