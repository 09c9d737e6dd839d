//! Models from Hugging Face's hub, in the cache that all programs share.
//!
//! The variables that others know count here too: `HF_HOME` or `HF_HUB_CACHE` for the place of the cache, `HF_TOKEN` for repositories that
//! need one, `HF_ENDPOINT` for a mirror, and `HF_HUB_OFFLINE`, with which nothing is fetched.
//! Layout: <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>.
//!
//! A file comes into the cache under the name of its checksum once it has that checksum, is linked from the folder of its commit then, and a
//! revision refers to that commit once all files are there. What the hub says becomes a part of a path only if it leads nowhere else.

mod cache;
mod download;

use std::env;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use cache::{Cached, choose};
use download::Connection;

/// Why a model cannot be fetched or found.
#[derive(Debug)]
pub enum HubError {
    /// A name that no repository has, or a place in it that none can.
    Name(String),
    /// It is not in the cache, and nothing is to be fetched.
    Offline(String),
    /// The hub cannot be reached, or what it answers is not what its interface says.
    Hub {
        /// The address.
        url: String,
        /// What was expected, and what came.
        problem: String,
    },
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
        /// What the hub says.
        expected: String,
        /// What it is.
        found: String,
    },
    /// There are several models, or none.
    Choice(String),
}

impl fmt::Display for HubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}: expected OWNER/NAME, with letters, digits, '-', '_' and '.'"),
            Self::Offline(name) => write!(f, "{name} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it"),
            Self::Hub { url, problem } => write!(f, "{url}: {problem}"),
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Checksum { name, expected, found } => {
                write!(f, "{name}: expected the checksum {expected}, found {found}; it has been removed")
            }
            Self::Choice(expected) => f.write_str(expected),
        }
    }
}

impl std::error::Error for HubError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

fn refused(path: &Path) -> impl FnOnce(io::Error) -> HubError {
    let path = path.to_owned();
    |error| HubError::Io { path, error }
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
        // The cache writes "--" for the slash.
        let is_plain = id.split_once('/').is_some_and(|(owner, name)| is_name(owner) && is_name(name))
            && !id.contains("--")
            && is_path(revision);
        if !is_plain {
            return Err(HubError::Name(text.to_owned()));
        }
        Ok(Self { id: id.to_owned(), revision: revision.to_owned() })
    }
}

/// A part of a path that leads nowhere else.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_path(path: &str) -> bool {
    path.split('/').all(is_name)
}

/// What a repository has at one commit.
pub struct Listing {
    commit: String,
    /// Paths of the files, in order.
    pub names: Vec<String>,
}

/// The hub and the cache.
pub struct Hub {
    /// The folder of all repositories.
    cache: PathBuf,
    /// None if nothing is to be fetched.
    connection: Option<Connection>,
}

impl Hub {
    /// The hub as the environment says.
    ///
    /// # Errors
    /// [`HubError::Choice`] if it does not say where the cache is.
    pub fn from_env() -> Result<Self, HubError> {
        let text = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let home = text("HF_HOME").map(PathBuf::from);
        let home = home.or_else(|| text("XDG_CACHE_HOME").map(|path| Path::new(&path).join("huggingface")));
        let home = home.or_else(|| env::home_dir().map(|path| path.join(".cache/huggingface")));
        let home = home.ok_or_else(|| HubError::Choice("expected HF_HOME or a home folder".to_owned()))?;
        let is_offline = text("HF_HUB_OFFLINE")
            .is_some_and(|value| ["1", "on", "yes", "true"].iter().any(|on| value.eq_ignore_ascii_case(on)));
        let cache = text("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from);
        let connection = (!is_offline).then(|| {
            let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
            let saved = || std::fs::read_to_string(home.join("token")).ok();
            let token = text("HF_TOKEN").or_else(saved).map(|token| token.trim().to_owned());
            Connection::new(endpoint.trim_end_matches('/'), token.filter(|token| !token.is_empty()))
        });
        Ok(Self { cache, connection })
    }

    /// The files of a repository: as the hub says, or, without it, those in the cache.
    ///
    /// # Errors
    /// [`HubError::Hub`]; [`HubError::Offline`].
    pub fn files(&self, repository: &Repository) -> Result<Listing, HubError> {
        let mut listing = match &self.connection {
            Some(connection) => connection.list(repository)?,
            None => self.listing(repository).ok_or_else(|| HubError::Offline(repository.id.clone()))?,
        };
        listing.names.retain(|name| is_path(name));
        listing.names.sort();
        Ok(listing)
    }

    /// A file, which is fetched unless it is in the cache. What was fetched in part is gone on with. `progress` is told how many bytes
    /// there are, and how many it has in all.
    ///
    /// # Errors
    /// [`HubError::Hub`], [`HubError::Checksum`], [`HubError::Offline`], [`HubError::Io`], [`HubError::Name`].
    pub fn fetch(
        &self,
        repository: &Repository,
        listing: &Listing,
        name: &str,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<PathBuf, HubError> {
        if !is_path(name) {
            return Err(HubError::Name(name.to_owned()));
        }
        let path = self.snapshot(&repository.id, &listing.commit).join(name);
        if path.exists() {
            return Ok(path);
        }
        let connection = self.connection.as_ref();
        let connection = connection.ok_or_else(|| HubError::Offline(format!("{}/{name}", repository.id)))?;
        let about = connection.about(repository, &listing.commit, name)?;
        let blob = self.place(&repository.id).join("blobs").join(&about.checksum);
        if std::fs::metadata(&blob).map_or(0, |metadata| metadata.len()) != about.size {
            connection.download(&about, name, &blob, progress)?;
        }
        cache::link(&blob, &path, name)?;
        Ok(path)
    }
}
