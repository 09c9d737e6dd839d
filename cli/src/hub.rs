//! `ossicle pull`, `ossicle list` and `ossicle rm`: models from Hugging Face's hub, in the cache that all programs share.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use ossicle_host::hub::{Hub, Repository, choose};

/// Arguments of `ossicle pull`.
#[derive(Args)]
pub struct PullArguments {
    /// As "openai/gpt-oss-20b" or "ggml-org/gpt-oss-20b-GGUF", with "@REVISION" behind it for a branch, tag or commit.
    repository: String,
    /// The file to fetch, where there are several models.
    #[arg(long, value_name = "NAME")]
    file: Option<String>,
}

/// Arguments of `ossicle rm`.
#[derive(Args)]
pub struct RemoveArguments {
    /// As "openai/gpt-oss-20b".
    repository: String,
}

/// Runs `ossicle pull`. Standard output gets the path for `--model`.
pub fn pull(arguments: &PullArguments) -> Result<()> {
    let hub = Hub::from_env()?;
    let repository = Repository::parse(&arguments.repository)?;
    let listing = hub.files(&repository)?;
    let mut paths = Vec::new();
    for name in choose(&listing.names, arguments.file.as_deref())? {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")?;
        let bar = ProgressBar::new(0).with_style(style).with_message(name.clone());
        let path = hub.fetch(&repository, &listing, &name, &mut |size, have| {
            bar.set_length(size);
            bar.set_position(have);
        })?;
        bar.finish_and_clear();
        paths.push(path);
    }
    hub.finish(&repository, &listing)?;
    let Some(first) = paths.first() else { bail!("{}: expected at least one file", arguments.repository) };
    let is_one = arguments.file.is_some() || first.extension().is_some_and(|extension| extension == "gguf");
    println!("{}", if is_one { first } else { first.parent().unwrap_or(first) }.display());
    Ok(())
}

/// Runs `ossicle list`.
pub fn list() -> Result<()> {
    for cached in Hub::from_env()?.cached() {
        let folder =
            cached.folder.map_or_else(|| "(fetched in part)".to_owned(), |folder| folder.display().to_string());
        println!("{:40} {:>12}  {folder}", cached.id, HumanBytes(cached.size).to_string());
    }
    Ok(())
}

/// Runs `ossicle rm`.
pub fn remove(arguments: &RemoveArguments) -> Result<()> {
    let size = Hub::from_env()?.remove(&arguments.repository)?;
    eprintln!("{}: {} removed from the cache", arguments.repository, HumanBytes(size));
    Ok(())
}

/// The path itself, if it is there; or, where it is the name of a repository in the cache, the folder of that, or the file that is named
/// behind it.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    let name = path.to_str().unwrap_or_default();
    let end = name.match_indices('/').nth(1).map_or(name.len(), |(at, _)| at);
    let (repository, file) = name.split_at(end);
    let Some(repository) = Repository::parse(repository).ok().filter(|_| !path.exists()) else {
        return Ok(path.to_owned());
    };
    let found = Hub::from_env()?.folder(&repository).map(|folder| folder.join(file.trim_start_matches('/')));
    match found.filter(|found| found.exists()) {
        Some(found) => Ok(found),
        None => {
            bail!("{name}: expected a file or folder, or a model that `ossicle pull {}` has fetched", repository.id)
        }
    }
}
