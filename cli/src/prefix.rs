//! Options of commands that keep beginnings of conversations.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use ossicle_core::transformer::Precision;
use ossicle_host::prefix_cache::PrefixCache;

use crate::open::Opened;

/// Where beginnings of conversations are kept, and how many.
#[derive(Args)]
pub struct PrefixOptions {
    /// Keeps what was computed of beginnings of conversations in this folder, for all that begin alike, also after a restart.
    #[arg(long, value_name = "FOLDER")]
    prefix_cache: Option<PathBuf>,
    /// Most megabytes of that, or, where no folder is named, of the same in memory; what was unused for longest goes first
    /// [default: 4096 in a folder; in memory 512 with `serve`, and otherwise 0].
    #[arg(long, value_name = "MEGABYTES")]
    prefix_cache_size: Option<u64>,
}

const FOLDER_SIZE: u64 = 4096;

impl PrefixOptions {
    /// The cache, if there is one: in the folder, or else in so many megabytes of memory.
    pub fn open(&self, opened: &Opened<'_>, precision: Precision, memory_size: u64) -> Result<Option<PrefixCache>> {
        let size = |default| self.prefix_cache_size.unwrap_or(default).saturating_mul(1 << 20);
        match &self.prefix_cache {
            Some(path) => {
                let (size, stamp) = (size(FOLDER_SIZE), opened.stamp()?);
                let cache = PrefixCache::in_folder(opened.model, precision, path, size, stamp);
                Ok(Some(cache.with_context(|| path.display().to_string())?))
            }
            None => {
                let size = size(memory_size);
                Ok((size > 0).then(|| PrefixCache::in_memory(opened.model, precision, size)))
            }
        }
    }
}
