//! `ossicle pull`, `ossicle list` and `ossicle rm`: models from Hugging Face's hub, in the cache that all programs share.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{HumanBytes, ProgressBar};
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
    let names = choose(&hub.files(&repository)?, arguments.file.as_deref())?;
    let mut paths = Vec::new();
    for name in &names {
        paths.push(hub.fetch(&repository, name, ProgressBar::new(0))?);
    }
    let path = match &paths[..] {
        [path, ..] if path.extension().is_some_and(|extension| extension == "gguf") => path.clone(),
        [path, ..] => path.parent().unwrap_or(Path::new("")).to_owned(),
        [] => bail!("{}: expected at least one file", arguments.repository),
    };
    println!("{}", path.display());
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

/// The path itself, if it is there; or, where it is the name of a repository in the cache, the folder of that.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    let name = path.to_str().unwrap_or_default();
    let Some(repository) = Repository::parse(name).ok().filter(|_| !path.exists()) else { return Ok(path.to_owned()) };
    match Hub::from_env()?.folder(&repository) {
        Some(folder) => Ok(folder),
        None => bail!("{name}: expected a file or folder, or a model that `ossicle pull {name}` has fetched"),
    }
}
