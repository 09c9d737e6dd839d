//! What a conversion has written so far, kept beside it, so that one that was stopped goes on.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A file with a line that tells conversions apart, then one for each chunk that was written: which target, which of its chunks, the
/// hash of its bytes. It is believed only where these still stand: after a loss of power a line may have come through and a chunk not.
pub struct Journal {
    path: PathBuf,
    file: File,
    conversion: u64,
    hashes: HashMap<(usize, usize), u64>,
    goes_on: bool,
}

impl Journal {
    /// Opens the journal at `path`. Unless it is that of `conversion`, it has to begin anew.
    ///
    /// # Errors
    /// Those of the operating system, and where another process has it.
    pub fn open(path: PathBuf, conversion: u64) -> Result<Self> {
        Self::try_open(&path, conversion).with_context(|| path.display().to_string())
    }

    fn try_open(path: &Path, conversion: u64) -> Result<Self> {
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        // Some file systems know no locks.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            bail!("another process is writing this");
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.lines();
        let goes_on = lines.next() == Some(format!("{conversion:016x}").as_str());
        let mut hashes = HashMap::new();
        if goes_on {
            hashes.extend(lines.filter_map(parse));
            // The last line may have been cut.
            writeln!(file)?;
        }
        Ok(Self { path: path.into(), file, conversion, hashes, goes_on })
    }

    /// Begins it anew, once nothing is left of what it told of.
    ///
    /// # Errors
    /// Those of writing.
    pub fn begin(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        writeln!(self.file, "{:016x}", self.conversion)
    }

    /// Whether it was there.
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// The hash of the bytes that an earlier run wrote as a chunk.
    pub fn hash(&self, target: usize, chunk: usize) -> Option<u64> {
        self.hashes.get(&(target, chunk)).copied()
    }

    /// Notes that a chunk was written.
    ///
    /// # Errors
    /// Those of writing.
    pub fn note(&self, target: usize, chunk: usize, hash: u64) -> io::Result<()> {
        // In one piece, so that lines stay whole.
        (&self.file).write_all(format!("{target} {chunk} {hash:016x}\n").as_bytes())
    }

    /// Ends it: there is nothing to go on with.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn remove(self) -> io::Result<()> {
        // While the lock is held: nobody else may have it before it is gone.
        fs::remove_file(self.path)
    }
}

fn parse(line: &str) -> Option<((usize, usize), u64)> {
    let mut words = line.split(' ');
    let (target, chunk) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(((target, chunk), u64::from_str_radix(words.next()?, 16).ok()?))
}
