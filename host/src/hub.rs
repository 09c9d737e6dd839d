//! Models from Hugging Face's hub, in the cache that all programs share.
//!
//! The variables that others know count here too: `HF_HOME` or `HF_HUB_CACHE` for the place of the cache, `HF_TOKEN` for repositories that
//! need one, `HF_ENDPOINT` for a mirror, and `HF_HUB_OFFLINE`, with which nothing is fetched.
//! Layout: <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>.

use std::env;
use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use sha2::{Digest, Sha256};

/// How often a connection that broke off is taken up again.
const RETRIES: usize = 5;

/// Why a model cannot be fetched or found.
#[derive(Debug)]
pub enum HubError {
    /// A name that no repository has, or a place in it that none can.
    Name(String),
    /// It is not in the cache, and nothing is to be fetched.
    Offline(String),
    /// The hub has refused it, or cannot be reached.
    Api(Box<ApiError>),
    /// The operating system has refused a file.
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What was fetched has another checksum than the hub says; it is gone again.
    Checksum {
        /// The file.
        name: String,
        /// SHA-256, as the hub says.
        expected: String,
        /// SHA-256.
        found: String,
    },
    /// There are several models, or none.
    Choice(String),
}

impl std::fmt::Display for HubError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}: expected OWNER/NAME, with letters, digits, '-', '_' and '.'"),
            Self::Offline(name) => write!(f, "{name} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it"),
            Self::Api(error) => error.fmt(f),
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Checksum { name, expected, found } => {
                write!(f, "{name}: expected the SHA-256 {expected}, found {found}; it has been removed")
            }
            Self::Choice(expected) => f.write_str(expected),
        }
    }
}

impl std::error::Error for HubError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Api(error) => Some(error),
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<ApiError> for HubError {
    fn from(error: ApiError) -> Self {
        Self::Api(Box::new(error))
    }
}

/// A repository, by its owner and name, and a revision of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// As `openai/gpt-oss-20b`.
    pub id: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl Repository {
    /// From `OWNER/NAME`, or `OWNER/NAME@REVISION`.
    ///
    /// # Errors
    /// [`HubError::Name`].
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let is_plain = id.split_once('/').is_some_and(|(owner, name)| is_name(owner) && is_name(name))
            && revision.split('/').all(is_name);
        if !is_plain {
            return Err(HubError::Name(text.to_owned()));
        }
        Ok(Self { id: id.to_owned(), revision: revision.to_owned() })
    }

    fn repo(&self) -> Repo {
        Repo::with_revision(self.id.clone(), RepoType::Model, self.revision.clone())
    }
}

/// A part of a path that leads nowhere else.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// A repository of which something is in the cache.
pub struct Cached {
    /// As `openai/gpt-oss-20b`.
    pub id: String,
    /// Bytes that all its files take.
    pub size: u64,
    /// The folder of its main revision, or of another one; none if nothing was fetched whole.
    pub folder: Option<PathBuf>,
}

/// The hub and the cache.
pub struct Hub {
    cache: Cache,
    /// None if nothing is to be fetched.
    api: Option<Api>,
}

impl Hub {
    /// The hub as the environment says.
    ///
    /// # Errors
    /// [`HubError::Api`].
    pub fn from_env() -> Result<Self, HubError> {
        let text = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let cache = match text("HF_HUB_CACHE") {
            Some(path) => Cache::new(path.into()),
            None => Cache::from_env(),
        };
        let is_offline = text("HF_HUB_OFFLINE")
            .is_some_and(|value| ["1", "on", "yes", "true"].iter().any(|on| value.eq_ignore_ascii_case(on)));
        if is_offline {
            return Ok(Self { cache, api: None });
        }
        let mut builder = ApiBuilder::from_cache(cache.clone())
            .with_user_agent("ossicle", env!("CARGO_PKG_VERSION"))
            .with_retries(RETRIES);
        if let Some(token) = text("HF_TOKEN") {
            builder = builder.with_token(Some(token));
        }
        if let Some(endpoint) = text("HF_ENDPOINT") {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        Ok(Self { cache, api: Some(builder.build()?) })
    }

    /// The files at the top of a repository: as the hub says, or, without it, those in the cache.
    ///
    /// # Errors
    /// [`HubError::Api`]; [`HubError::Offline`].
    pub fn files(&self, repository: &Repository) -> Result<Vec<String>, HubError> {
        let mut names: Vec<String> = match &self.api {
            Some(api) => api.repo(repository.repo()).info()?.siblings.into_iter().map(|file| file.rfilename).collect(),
            None => {
                let folder = self.folder(repository).ok_or_else(|| HubError::Offline(repository.id.clone()))?;
                names_in(&folder).collect()
            }
        };
        names.retain(|name| is_name(name));
        names.sort();
        Ok(names)
    }

    /// A file, which is fetched unless it is in the cache. What was fetched in part is gone on with.
    ///
    /// # Errors
    /// [`HubError::Api`], [`HubError::Checksum`], [`HubError::Offline`], [`HubError::Io`], [`HubError::Name`].
    pub fn fetch(&self, repository: &Repository, name: &str, progress: impl Progress) -> Result<PathBuf, HubError> {
        if !is_name(name) {
            return Err(HubError::Name(name.to_owned()));
        }
        if let Some(path) = self.cache.repo(repository.repo()).get(name) {
            return Ok(path);
        }
        let api = self.api.as_ref().ok_or_else(|| HubError::Offline(format!("{}/{name}", repository.id)))?;
        let repo = api.repo(repository.repo());
        // They become names of files.
        let about = api.metadata(&repo.url(name))?;
        for part in [about.etag(), about.commit_hash()] {
            if !is_name(part) {
                return Err(HubError::Name(part.to_owned()));
            }
        }
        let path = repo.download_with_progress(name, progress)?;
        verify(&path, name)?;
        Ok(path)
    }

    /// The folder with what there is of a repository in the cache.
    pub fn folder(&self, repository: &Repository) -> Option<PathBuf> {
        let repo = self.cache.repo(repository.repo());
        let of_commit = |commit: &str| Some(repo.pointer_path(commit)).filter(|path| is_name(commit) && path.is_dir());
        let reference = self.place(&repository.id).join("refs").join(&repository.revision);
        let commit = fs::read_to_string(reference).ok();
        commit.and_then(|commit| of_commit(commit.trim())).or_else(|| of_commit(&repository.revision))
    }

    /// Where the cache keeps a repository.
    fn place(&self, id: &str) -> PathBuf {
        self.cache.path().join(Repo::model(id.to_owned()).folder_name())
    }

    /// What is in the cache and looks like a model of this family, or an adapter.
    pub fn cached(&self) -> Vec<Cached> {
        let mut found: Vec<_> = names_in(self.cache.path())
            .filter_map(|folder| {
                let id = folder.strip_prefix("models--")?.replacen("--", "/", 1);
                let repository = Repository::parse(&id).ok()?;
                let place = self.place(&id);
                let other =
                    || names_in(&place.join("snapshots")).next().map(|commit| place.join("snapshots").join(commit));
                let folder = self.folder(&repository).or_else(other);
                let is_known = folder.as_deref().is_none_or(is_known);
                is_known.then(|| Cached { id, size: size_of_blobs(&place), folder })
            })
            .collect();
        found.sort_by(|left, right| left.id.cmp(&right.id));
        found
    }

    /// Removes a repository from the cache, all revisions. Returns how many bytes it took.
    ///
    /// # Errors
    /// [`HubError::Offline`] if it is not there; [`HubError::Io`].
    pub fn remove(&self, id: &str) -> Result<u64, HubError> {
        let place = self.place(&Repository::parse(id)?.id);
        if !place.is_dir() {
            return Err(HubError::Choice(format!("{id} is not in the cache: {} is not there", place.display())));
        }
        let size = size_of_blobs(&place);
        fs::remove_dir_all(&place).map_err(|error| HubError::Io { path: place, error })?;
        Ok(size)
    }
}

fn names_in(folder: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok())
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

/// A large file is called by its SHA-256 in the cache.
fn verify(path: &Path, name: &str) -> Result<(), HubError> {
    let refused = |error| HubError::Io { path: path.into(), error };
    let blob = fs::canonicalize(path).map_err(refused)?;
    let expected = blob.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if expected.len() != 64 || !expected.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    let mut sum = Sha256::new();
    io::copy(&mut File::open(&blob).map_err(refused)?, &mut sum).map_err(refused)?;
    let mut found = String::new();
    sum.finalize().iter().for_each(|byte| write!(found, "{byte:02x}").expect("memory"));
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let expected = expected.to_owned();
    for path in [path, &blob] {
        fs::remove_file(path).map_err(|error| HubError::Io { path: path.into(), error })?;
    }
    Err(HubError::Checksum { name: name.to_owned(), expected, found })
}

/// What a model is made of, among the files of a repository: a GGUF file with all its parts, or else safetensors with their
/// configuration and vocabulary. `wanted` names the file, where there are several.
///
/// # Errors
/// [`HubError::Choice`] if there are several GGUF files, or nothing that could be a model.
pub fn choose(names: &[String], wanted: Option<&str>) -> Result<Vec<String>, HubError> {
    let stem = |name: &str| {
        name.rsplit_once("-of-")
            .map_or(name, |(stem, _)| stem.trim_end_matches(|c: char| c.is_ascii_digit()))
            .to_owned()
    };
    let has_end = |end: &'static str| move |name: &&String| name.ends_with(end);
    if let Some(wanted) = wanted {
        if !names.iter().any(|name| name == wanted) {
            return Err(HubError::Choice(format!("{wanted}: expected one of {}", names.join(", "))));
        }
        if wanted.ends_with(".gguf") {
            return Ok(names.iter().filter(|name| stem(name) == stem(wanted)).cloned().collect());
        }
        return Ok(vec![wanted.to_owned()]);
    }
    let gguf: Vec<_> = names.iter().filter(has_end(".gguf")).cloned().collect();
    if let Some(first) = gguf.first() {
        return match gguf.iter().all(|name| stem(name) == stem(first)) {
            true => Ok(gguf),
            false => Err(HubError::Choice(format!("several models; --file names one of {}", gguf.join(", ")))),
        };
    }
    if !names.iter().any(|name| name.ends_with(".safetensors")) {
        return Err(HubError::Choice("expected .gguf or .safetensors files, found none".to_owned()));
    }
    const BESIDE: [&str; 4] = ["config.json", "tokenizer.json", "adapter_config.json", "model.safetensors.index.json"];
    Ok(names.iter().filter(|name| name.ends_with(".safetensors") || BESIDE.contains(&name.as_str())).cloned().collect())
}
