//! What is in the cache.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Hub, HubError, Listing, Repository, is_name, is_path, refused};
use crate::checkpoint::split_name;

/// A repository of which something is in the cache.
pub struct Cached {
    /// As `openai/gpt-oss-20b`.
    pub id: String,
    /// Bytes that all its files take.
    pub size: u64,
    /// The folder of its main revision, or of another one; none if nothing was fetched whole.
    pub folder: Option<PathBuf>,
}

impl Hub {
    /// The folder with what there is of a repository in the cache.
    pub fn folder(&self, repository: &Repository) -> Option<PathBuf> {
        Some(self.snapshot(&repository.id, &self.commit(repository)?))
    }

    fn commit(&self, repository: &Repository) -> Option<String> {
        let reference = self.place(&repository.id).join("refs").join(&repository.revision);
        let commit = fs::read_to_string(reference).ok().map(|commit| commit.trim().to_owned());
        [commit, Some(repository.revision.clone())]
            .into_iter()
            .flatten()
            .find(|commit| is_name(commit) && self.snapshot(&repository.id, commit).is_dir())
    }

    pub(super) fn listing(&self, repository: &Repository) -> Option<Listing> {
        let commit = self.commit(repository)?;
        let folder = self.snapshot(&repository.id, &commit);
        let mut names: Vec<_> = names_in(&folder).collect();
        for inner in names.clone() {
            names.extend(names_in(&folder.join(&inner)).map(|name| format!("{inner}/{name}")));
        }
        names.retain(|name| folder.join(name).is_file());
        Some(Listing { commit, names })
    }

    /// Notes that all of a revision that is wanted is there.
    ///
    /// # Errors
    /// [`HubError::Io`].
    pub fn finish(&self, repository: &Repository, listing: &Listing) -> Result<(), HubError> {
        if repository.revision == listing.commit {
            return Ok(());
        }
        let reference = self.place(&repository.id).join("refs").join(&repository.revision);
        let new = reference.with_extension("new");
        fs::create_dir_all(reference.parent().unwrap_or(Path::new(""))).map_err(refused(&reference))?;
        fs::write(&new, &listing.commit).map_err(refused(&new))?;
        fs::rename(&new, &reference).map_err(refused(&reference))
    }

    pub(super) fn snapshot(&self, id: &str, commit: &str) -> PathBuf {
        self.place(id).join("snapshots").join(commit)
    }

    /// Where the cache keeps a repository.
    pub(super) fn place(&self, id: &str) -> PathBuf {
        self.cache.join(format!("models--{}", id.replace('/', "--")))
    }

    /// What is in the cache and looks like a model of this family, or an adapter.
    pub fn cached(&self) -> Vec<Cached> {
        let mut found: Vec<_> = names_in(&self.cache)
            .filter_map(|folder| {
                let repository = Repository::parse(&folder.strip_prefix("models--")?.replacen("--", "/", 1)).ok()?;
                let place = self.place(&repository.id);
                let other =
                    || names_in(&place.join("snapshots")).next().map(|commit| self.snapshot(&repository.id, &commit));
                let folder = self.folder(&repository).or_else(other);
                let is_known = folder.as_deref().is_none_or(is_known);
                is_known.then(|| Cached { size: size_of_blobs(&place), id: repository.id, folder })
            })
            .collect();
        found.sort_by(|left, right| left.id.cmp(&right.id));
        found
    }

    /// Removes a repository from the cache, all revisions. Returns how many bytes it took.
    ///
    /// # Errors
    /// [`HubError::Name`]; [`HubError::Choice`] if it is not there, or if a revision is named; [`HubError::Io`].
    pub fn remove(&self, id: &str) -> Result<u64, HubError> {
        if id.contains('@') {
            return Err(HubError::Choice(format!("{id}: expected no revision, since all are removed")));
        }
        let place = self.place(&Repository::parse(id)?.id);
        if !place.is_dir() {
            return Err(HubError::Choice(format!("{id} is not in the cache: {} is not there", place.display())));
        }
        let size = size_of_blobs(&place);
        fs::remove_dir_all(&place).map_err(refused(&place))?;
        Ok(size)
    }
}

/// Makes `path`, that of `name` in the folder of a commit, lead to a blob.
pub(super) fn link(blob: &Path, path: &Path, name: &str) -> Result<(), HubError> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(""))).map_err(refused(path))?;
    // One that leads to nothing is in the way.
    let _ = fs::remove_file(path);
    #[cfg(unix)]
    let linked = {
        let up = "../".repeat(2 + name.matches('/').count());
        std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(blob.file_name().unwrap_or_default()), path)
    };
    #[cfg(not(unix))]
    let linked = {
        let _ = name;
        fs::hard_link(blob, path)
    };
    linked.map_err(refused(path))
}

fn names_in(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_name(name))
}

fn size_of_blobs(place: &Path) -> u64 {
    let blobs = fs::read_dir(place.join("blobs")).into_iter().flatten().flatten();
    blobs.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Whether a folder holds weights that may be of this family.
fn is_known(folder: &Path) -> bool {
    if names_in(folder).any(|name| name.ends_with(".gguf") || name == "adapter_config.json") {
        return true;
    }
    let config = fs::read(folder.join("config.json")).unwrap_or_default();
    serde_json::from_slice::<serde_json::Value>(&config).is_ok_and(|config| config["model_type"] == "gpt_oss")
}

/// What a model is made of, among the files of a repository: a GGUF file with all its parts, or else safetensors with their
/// configuration and vocabulary. `wanted` names the file, where there are several.
///
/// # Errors
/// [`HubError::Choice`] if there are several GGUF files, or nothing that could be a model.
pub fn choose(names: &[String], wanted: Option<&str>) -> Result<Vec<String>, HubError> {
    /// Parts of one file have the same, and their number.
    fn whole(name: &str) -> (&str, u16) {
        split_name(name).unwrap_or((name, 0))
    }
    if let Some(wanted) = wanted {
        let parts: Vec<_> =
            names.iter().filter(|name| is_path(name) && whole(name) == whole(wanted)).cloned().collect();
        return match parts.is_empty() {
            true => Err(HubError::Choice(format!("{wanted}: expected one of {}", names.join(", ")))),
            false => Ok(parts),
        };
    }
    let top = || names.iter().filter(|name| !name.contains('/'));
    let gguf: Vec<_> = top().filter(|name| name.ends_with(".gguf")).cloned().collect();
    if let Some(first) = gguf.first() {
        return match gguf.iter().all(|name| whole(name) == whole(first)) {
            true => Ok(gguf),
            false => Err(HubError::Choice(format!("several models; --file names one of {}", gguf.join(", ")))),
        };
    }
    if !top().any(|name| name.ends_with(".safetensors")) {
        let inner: Vec<_> = names.iter().filter(|name| name.ends_with(".gguf")).cloned().collect();
        return Err(HubError::Choice(match inner.is_empty() {
            true => "expected .gguf or .safetensors files, found none".to_owned(),
            false => format!("several models; --file names one of {}", inner.join(", ")),
        }));
    }
    const BESIDE: [&str; 4] = ["config.json", "tokenizer.json", "adapter_config.json", "model.safetensors.index.json"];
    Ok(top().filter(|name| name.ends_with(".safetensors") || BESIDE.contains(&name.as_str())).cloned().collect())
}
