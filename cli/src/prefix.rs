//! Options of commands that keep beginnings of conversations.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use ossicle_host::prefix_cache::PrefixCache;

use crate::open::Opened;

/// Where beginnings of conversations are kept, and how many.
#[derive(Args)]
pub struct PrefixOptions {
    /// Keeps what was computed of beginnings of conversations in this folder, for all that begin alike, also after a restart.
    #[arg(long, value_name = "FOLDER")]
    prefix_cache: Option<PathBuf>,
    /// Most megabytes of that, or, where no folder is named, of the same in memory; what was unused for longest goes first, and
    /// with 0 nothing is kept or removed [default: 4096 in a folder; in memory 512 with `chat` and `serve`, and otherwise 0].
    #[arg(long, value_name = "MEGABYTES")]
    prefix_cache_size: Option<u64>,
}

const FOLDER_SIZE: u64 = 4096;

/// Megabytes of memory where a conversation goes on, or many do.
pub const MEMORY_SIZE: u64 = 512;

impl PrefixOptions {
    /// The cache, if there is one: in the folder, or else in so many megabytes of memory.
    pub fn open(&self, opened: &Opened<'_>, memory_size: u64) -> Result<Option<PrefixCache>> {
        let default = if self.prefix_cache.is_some() { FOLDER_SIZE } else { memory_size };
        let size = self.prefix_cache_size.unwrap_or(default).saturating_mul(1 << 20);
        Ok(match &self.prefix_cache {
            _ if size == 0 => None,
            Some(path) => {
                let cache = PrefixCache::in_folder(path, size, opened.stamp()?);
                Some(cache.with_context(|| path.display().to_string())?)
            }
            None => Some(PrefixCache::in_memory(size)),
        })
    }
}
