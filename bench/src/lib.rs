//! Measurements of Ossicle beside its peers: see `benches`.
