use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ossicle_core::error::Error;
use ossicle_core::file::{ReadFailed, Storage, read_head};

use crate::OpenError;

/// The files of a checkpoint, open, of which only the headers are in memory.
pub(crate) struct ReadFiles {
    files: Vec<ReadFile>,
    /// Why a read failed last.
    failure: Mutex<Option<io::Error>>,
}

pub(crate) struct ReadFile {
    file: File,
    pub metadata: Metadata,
    /// The beginning of the file, with its header.
    pub head: Vec<u8>,
    /// Held while the position in the file matters.
    #[cfg(not(unix))]
    seeking: Mutex<()>,
}

/// No header is larger, in bytes.
const HEAD_MAX: u64 = 128 << 20;

impl ReadFiles {
    /// Opens the files, and reads their headers.
    pub fn open(paths: &[PathBuf]) -> Result<Self, OpenError> {
        let files = paths.iter().map(|path| ReadFile::open(path)).collect::<Result<_, _>>()?;
        let mut files = Self { files, failure: Mutex::new(None) };
        for (number, path) in paths.iter().enumerate() {
            let mut head = vec![0; files.files[number].metadata.len().min(HEAD_MAX) as usize];
            let size = read_head(&files, number as u16, &mut head).map_err(|error| files.error(path, error))?;
            head.truncate(size);
            head.shrink_to_fit();
            files.files[number].head = head;
        }
        Ok(files)
    }

    pub fn files(&self) -> &[ReadFile] {
        &self.files
    }

    /// An error of the core, about this file: with the reason, if a read failed.
    pub fn error(&self, path: &Path, error: Error) -> OpenError {
        if let Error::Read { .. } = error
            && let Some(failure) = self.failure.lock().expect("no panic while it is held").take()
        {
            return OpenError::Io { path: path.into(), error: failure };
        }
        OpenError::Core { path: path.into(), error }
    }
}

impl ReadFile {
    fn open(path: &Path) -> Result<Self, OpenError> {
        let refused = |error| OpenError::Io { path: path.into(), error };
        let file = File::open(path).map_err(refused)?;
        let metadata = file.metadata().map_err(refused)?;
        Ok(Self {
            file,
            metadata,
            head: Vec::new(),
            #[cfg(not(unix))]
            seeking: Mutex::new(()),
        })
    }

    #[cfg(unix)]
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, offset)
    }

    #[cfg(not(unix))]
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let _alone = self.seeking.lock().expect("no panic while it is held");
        (&self.file).seek(SeekFrom::Start(offset))?;
        (&self.file).read_exact(buffer)
    }
}

impl Storage for ReadFiles {
    fn size(&self, file: u16) -> u64 {
        self.files[usize::from(file)].metadata.len()
    }

    fn read(&self, file: u16, offset: u64, buffer: &mut [u8]) -> Result<(), ReadFailed> {
        self.files[usize::from(file)].read(offset, buffer).map_err(|error| {
            *self.failure.lock().expect("no panic while it is held") = Some(error);
            ReadFailed
        })
    }

    #[cfg(target_os = "linux")]
    fn will_need(&self, file: u16, offset: u64, size: usize) {
        use rustix::fs::{Advice, fadvise};
        // A hint: where it is not taken, nothing is lost.
        let _ = fadvise(&self.files[usize::from(file)].file, offset, (size as u64).try_into().ok(), Advice::WillNeed);
    }
}
