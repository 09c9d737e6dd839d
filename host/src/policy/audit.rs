//! The log of what was decided.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ossicle_core::generation::Usage;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Subject, Verdict};

/// The answer that an entry is about.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Its id.
    pub request: &'a str,
    /// Whose it is, where there are several clients.
    pub client: Option<&'a str>,
}

/// A file of what was decided, a JSON object a line, that is only ever added to. Texts are not in it, but their digests are; a
/// reason is, as the policy gave it.
pub struct AuditLog(Mutex<File>);

impl AuditLog {
    /// Opens the file, which only its owner may read from then on, or makes it.
    ///
    /// # Errors
    /// If the operating system refuses it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        // It may have been there, for others to read. What is no file, such as a terminal, has a mode that others need.
        #[cfg(unix)]
        if file.metadata()?.is_file() {
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        }
        Ok(Self(Mutex::new(file)))
    }

    /// Adds what was judged, and how.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn judged(&self, origin: Origin<'_>, subject: &Subject<'_>, verdict: &Verdict) -> io::Result<()> {
        let digest = |text: &str| format!("{:x}", Sha256::digest(text));
        let text = subject.text();
        let mut entry = json!({
            "what": "judged", "subject": subject.name(), "tool": subject.tool(), "bytes": text.len(),
            "sha256": digest(text), "verdict": verdict.name(),
        });
        match verdict {
            Verdict::Allow => {}
            Verdict::Replace(text) => entry["replacement_sha256"] = digest(text).into(),
            Verdict::Stop(reason) => entry["reason"] = (&**reason).into(),
        }
        self.write(origin, entry)
    }

    /// Adds how an answer ended, in a word, and what it took.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn ended(&self, origin: Origin<'_>, end: &str, usage: Usage) -> io::Result<()> {
        let Usage { input_tokens, output_tokens, .. } = usage;
        let entry =
            json!({ "what": "ended", "end": end, "input_tokens": input_tokens, "output_tokens": output_tokens });
        self.write(origin, entry)
    }

    fn write(&self, Origin { request, client }: Origin<'_>, entry: Value) -> io::Result<()> {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut all = json!({ "time": time, "request": request, "client": client });
        if let (Some(all), Value::Object(entry)) = (all.as_object_mut(), entry) {
            all.extend(entry);
        }
        // In one piece, so that processes can share the file.
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(format!("{all}\n").as_bytes())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::AuditLog;

    #[test]
    fn only_its_owner_reads_a_log_that_was_there_already() {
        let path = std::env::temp_dir().join(format!("ossicle-audit-mode-{}", std::process::id()));
        fs::write(&path, "").expect("room");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("permissions");
        let log = AuditLog::open(&path);
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        fs::remove_file(&path).expect("the file");
        assert!(log.is_ok());
        assert_eq!(mode & 0o777, 0o600);
    }
}
