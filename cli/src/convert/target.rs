//! The files to write: which tensors, where in them, and the writing.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use super::journal::Journal;
use super::rows::{Format, Rows};
use crate::chunked_file::{self, progress_bar};

/// A tensor to write.
pub struct Tensor<'w> {
    /// Its name in the file.
    pub name: String,
    /// How its numbers are written.
    pub format: Format,
    /// Outermost first.
    pub shape: Vec<u64>,
    /// Its rows: those of each part in turn.
    pub parts: Vec<Rows<'w>>,
}

impl Tensor<'_> {
    /// Bytes that it takes.
    pub fn size(&self) -> u64 {
        (self.row_count() * self.row_size()) as u64
    }

    fn row_count(&self) -> usize {
        self.parts.iter().map(Rows::count).sum()
    }

    fn row_size(&self) -> usize {
        let (block_len, block_size) = self.format.block();
        self.parts[0].columns() / block_len * block_size
    }

    fn make(&self, rows: Range<usize>, bytes: &mut Vec<u8>) -> io::Result<()> {
        let made = match &*self.parts {
            [part] => part.encode(rows, self.format, bytes),
            parts => rows.into_iter().try_for_each(|row| {
                let within = row / parts.len();
                parts[row % parts.len()].encode(within..within + 1, self.format, bytes)
            }),
        };
        made.ok_or_else(|| io::Error::other(format!("{}: expected finite numbers", self.name)))
    }
}

/// A file to write.
pub struct Target<'w> {
    /// Where.
    pub path: PathBuf,
    /// What stands before the data of the tensors.
    pub header: Vec<u8>,
    /// The tensors, and where in the file each begins.
    pub tensors: Vec<(Tensor<'w>, u64)>,
    /// Bytes of the file.
    pub size: u64,
}

/// Some rows of a tensor: what one thread makes at a time.
struct Chunk<'t> {
    tensor: &'t Tensor<'t>,
    rows: Range<usize>,
    offset: u64,
    /// Of its bytes, once they are made.
    hash: OnceLock<u64>,
}

impl Chunk<'_> {
    /// Reads what stands in its place.
    fn read(&self, file: &mut File, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.resize(self.rows.len() * self.tensor.row_size(), 0);
        file.seek(SeekFrom::Start(self.offset))?;
        file.read_exact(bytes)
    }
}

/// Values in a chunk, unless a row has more.
const CHUNK_VALUES: usize = 1 << 20;

impl Target<'_> {
    /// Writes what lacks of the file, which the journal knows as `number`, and reads it again: what stands there must be what was made.
    ///
    /// # Errors
    /// Where a number cannot be written in its format, with the tensor; those of writing; and where other bytes are read.
    pub fn write(&self, number: usize, journal: &Journal) -> Result<()> {
        let path = self.path.display();
        let chunks = self.chunks();
        let bar = progress_bar(self.size, "writing");
        let make = |at: usize, bytes: &mut Vec<u8>| {
            let chunk: &Chunk<'_> = &chunks[at];
            if let Some(before) = journal.hash(number, at) {
                let stands = File::open(&self.path).and_then(|mut file| chunk.read(&mut file, bytes));
                if stands.is_ok() && hash(bytes) == before {
                    let _ = chunk.hash.set(before);
                    return Ok(None);
                }
            }
            bytes.clear();
            chunk.tensor.make(chunk.rows.clone(), bytes)?;
            let _ = chunk.hash.set(hash(bytes));
            Ok(Some(chunk.offset))
        };
        let done = |at: usize, written| {
            bar.set_position(written);
            match chunks[at].hash.get() {
                Some(hash) if journal.hash(number, at) != Some(*hash) => journal.note(number, at, *hash),
                _ => Ok(()),
            }
        };
        File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .and_then(|_| chunked_file::write(&self.path, self.size, &self.header, chunks.len(), make, done))
            .with_context(|| path.to_string())?;
        bar.finish_and_clear();
        self.read_back(&chunks).with_context(|| path.to_string())
    }

    fn chunks(&self) -> Vec<Chunk<'_>> {
        let mut chunks = Vec::new();
        for (tensor, offset) in &self.tensors {
            let step = (CHUNK_VALUES / tensor.parts[0].columns()).max(1);
            for first in (0..tensor.row_count()).step_by(step) {
                let rows = first..(first + step).min(tensor.row_count());
                let offset = offset + (first * tensor.row_size()) as u64;
                chunks.push(Chunk { tensor, rows, offset, hash: OnceLock::new() });
            }
        }
        chunks
    }

    fn read_back(&self, chunks: &[Chunk<'_>]) -> Result<()> {
        let mut file = File::open(&self.path)?;
        file.sync_all()?;
        let bar = progress_bar(self.size, "reading again");
        let mut bytes = vec![0; self.header.len()];
        file.read_exact(&mut bytes)?;
        ensure!(bytes == self.header, "the header reads otherwise than it was written");
        for chunk in chunks {
            chunk.read(&mut file, &mut bytes)?;
            let same = chunk.hash.get() == Some(&hash(&bytes));
            ensure!(same, "{}: reads otherwise than it was written", chunk.tensor.name);
            bar.set_position(chunk.offset + bytes.len() as u64);
        }
        bar.finish_and_clear();
        Ok(())
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// What a file is called until it is complete.
pub fn part_of(path: &Path) -> PathBuf {
    path.with_added_extension("part")
}
