//! What is asked of the hub.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::http::Response;
use url::Url;

use super::{HubError, Listing, Repository, is_name, refused};

/// How often a connection that broke off is taken up again.
const RETRIES: u32 = 5;

const REDIRECTIONS: usize = 10;

/// Bytes copied at a time.
const PIECE: usize = 1 << 16;

type Answer = Response<ureq::Body>;

/// The hub, and by which right it is asked.
pub struct Connection {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

/// What the hub says of a file.
pub struct About {
    url: String,
    /// SHA-256 of a large file, Git's SHA-1 of a small one, as hexadecimal digits; the cache calls it so.
    pub checksum: String,
    /// Bytes.
    pub size: u64,
}

fn wrong(url: impl ToString, problem: impl ToString) -> HubError {
    HubError::Hub { url: url.to_string(), problem: problem.to_string() }
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

impl Connection {
    pub fn new(endpoint: &str, token: Option<String>) -> Self {
        let agent = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .user_agent(concat!("ossicle/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: agent.new_agent(), endpoint: endpoint.to_owned(), token }
    }

    /// The files of a repository.
    pub fn list(&self, repository: &Repository) -> Result<Listing, HubError> {
        let url = format!(
            "{}/api/models/{}/revision/{}",
            self.endpoint,
            repository.id,
            repository.revision.replace('/', "%2F")
        );
        let mut answer = self.ask(&url, false, None, true)?;
        let text = answer.body_mut().read_to_string().map_err(|error| wrong(&url, error))?;
        let info: serde_json::Value = serde_json::from_str(&text).map_err(|error| wrong(&url, error))?;
        let commit = info["sha"].as_str().filter(|commit| is_name(commit));
        let commit = commit.ok_or_else(|| wrong(&url, "expected a commit in \"sha\""))?.to_owned();
        let files = info["siblings"].as_array().into_iter().flatten();
        let names = files.filter_map(|file| Some(file["rfilename"].as_str()?.to_owned())).collect();
        Ok(Listing { commit, names })
    }

    /// What the hub says of a file of a commit. The place itself is elsewhere for large ones, which is not asked yet.
    pub fn about(&self, repository: &Repository, commit: &str, name: &str) -> Result<About, HubError> {
        let url = format!("{}/{}/resolve/{commit}/{name}", self.endpoint, repository.id);
        let answer = self.ask(&url, true, None, false)?;
        let other = header(&answer, "x-repo-commit").filter(|found| *found != commit);
        if let Some(found) = other {
            return Err(wrong(&url, format!("expected a file of the commit {commit}, found one of {found:?}")));
        }
        let tag = header(&answer, "x-linked-etag").or_else(|| header(&answer, "etag")).unwrap_or_default();
        let checksum = tag.trim_start_matches("W/").trim_matches('"').to_owned();
        let size = header(&answer, "x-linked-size").or_else(|| header(&answer, "content-length"));
        match size.and_then(|size| size.parse().ok()) {
            Some(size) if is_name(&checksum) => Ok(About { url, checksum, size }),
            _ => Err(wrong(&url, format!("expected a size and a checksum, found {size:?} and {tag:?}"))),
        }
    }

    /// Fetches a file to `blob`, once it is whole and has its checksum.
    pub fn download(
        &self,
        about: &About,
        name: &str,
        blob: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), HubError> {
        let part = blob.with_file_name(format!("{}.part", about.checksum));
        fs::create_dir_all(blob.parent().unwrap_or(Path::new(""))).map_err(refused(blob))?;
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(&part).map_err(refused(&part))?;
        if file.try_lock().is_err() {
            return Err(HubError::Choice(format!("{}: another program is fetching it", part.display())));
        }
        let mut attempt = 0;
        while let Err(error) = self.go_on(about, &mut file, &part, progress) {
            attempt += 1;
            if attempt > RETRIES || matches!(error, HubError::Io { .. }) {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(100 << attempt));
        }
        let found = checksum_like(&about.checksum, &part).map_err(refused(&part))?;
        if let Some(found) = found.filter(|found| !found.eq_ignore_ascii_case(&about.checksum)) {
            fs::remove_file(&part).map_err(refused(&part))?;
            return Err(HubError::Checksum { name: name.to_owned(), expected: about.checksum.clone(), found });
        }
        file.sync_all().map_err(refused(&part))?;
        fs::rename(&part, blob).map_err(refused(blob))
    }

    /// Fetches what a file has not yet.
    fn go_on(
        &self,
        about: &About,
        file: &mut File,
        part: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), HubError> {
        let mut have = file.metadata().map_err(refused(part))?.len();
        if have > about.size {
            file.set_len(0).map_err(refused(part))?;
            have = 0;
        }
        progress(about.size, have);
        if have == about.size {
            return Ok(());
        }
        let answer = self.ask(&about.url, false, (have > 0).then_some(have), true)?;
        let begins = format!("bytes {have}-");
        let goes_on =
            answer.status() == 206 && header(&answer, "content-range").is_some_and(|range| range.starts_with(&begins));
        if have > 0 && !goes_on {
            // It sends all again.
            file.set_len(0).map_err(refused(part))?;
            have = 0;
        }
        let mut body = answer.into_body().into_reader().take(about.size - have);
        let mut piece = vec![0; PIECE];
        while have < about.size {
            let len = match body.read(&mut piece) {
                Ok(0) => return Err(wrong(&about.url, format!("expected {} bytes, found {have}", about.size))),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(wrong(&about.url, error)),
            };
            file.write_all(&piece[..len]).map_err(refused(part))?;
            have += len as u64;
            progress(about.size, have);
        }
        Ok(())
    }

    /// Asks for an address and follows redirections, all of them or only those within the hub. The token goes to the hub alone.
    fn ask(&self, url: &str, head_only: bool, from: Option<u64>, follow: bool) -> Result<Answer, HubError> {
        let mut at = Url::parse(url).map_err(|error| wrong(url, error))?;
        let hub = at.origin();
        let is_open = at.scheme() == "http";
        for _ in 0..=REDIRECTIONS {
            let mut request = if head_only { self.agent.head(at.as_str()) } else { self.agent.get(at.as_str()) };
            // Checksums are of the bytes as they are.
            request = request.header("accept-encoding", "identity");
            if let Some(from) = from {
                request = request.header("range", format!("bytes={from}-"));
            }
            if let Some(token) = self.token.as_ref().filter(|_| at.origin() == hub) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let answer = request.call().map_err(|error| wrong(&at, error))?;
            let status = answer.status();
            if status.is_success() {
                return Ok(answer);
            }
            let next = header(&answer, "location").filter(|_| status.is_redirection()).map(|place| at.join(place));
            let Some(Ok(next)) = next else { return Err(wrong(&at, format!("the hub answers {status}"))) };
            if next.origin() != hub && !follow {
                // What it says here is about the file that is there.
                return Ok(answer);
            }
            if !(next.scheme() == "https" || next.scheme() == "http" && is_open) {
                return Err(wrong(&at, format!("a redirection to {}", next.scheme())));
            }
            at = next;
        }
        Err(wrong(url, format!("more than {REDIRECTIONS} redirections")))
    }
}

/// The checksum of a file that can be compared with this one; none if it is of another kind.
fn checksum_like(expected: &str, path: &Path) -> io::Result<Option<String>> {
    if !expected.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let mut file = File::open(path)?;
    match expected.len() {
        64 => digest(Sha256::new(), &mut file).map(Some),
        40 => {
            // Git's name of a file: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects.
            let head = format!("blob {}\0", file.metadata()?.len());
            digest(Sha1::new_with_prefix(head), &mut file).map(Some)
        }
        _ => Ok(None),
    }
}

fn digest<D: Digest + Write>(mut sum: D, file: &mut File) -> io::Result<String> {
    io::copy(file, &mut sum)?;
    let mut text = String::new();
    for byte in sum.finalize() {
        write!(text, "{byte:02x}").map_err(io::Error::other)?;
    }
    Ok(text)
}
