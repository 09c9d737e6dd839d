use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use super::{Key, Save};

/// Entries in files, whose names are their keys, and whose times of change say when they were last used.
///
/// A file gets its name once it is on the disk as a whole; until then it has another, and a lock, so that what a process
/// that ended too early has left behind can be told from what is still being written. Files are never changed.
pub struct Folder {
    path: PathBuf,
    /// Most bytes of all files.
    size: u64,
    /// Waits for the disk, which would keep the model waiting.
    finisher: Option<(SyncSender<Written>, JoinHandle<()>)>,
}

/// A file that is written but may not be on the disk.
struct Written {
    file: File,
    part: PathBuf,
    whole: PathBuf,
}

/// How the names of files end.
const WHOLE: &str = "prefix";
const PART: &str = "part";

impl Folder {
    pub fn open(path: &Path, size: u64) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(path)?;
        demand_own(&fs::metadata(path)?)?;
        for (file, _) in files(path, PART) {
            let is_abandoned = File::open(&file).is_ok_and(|open| open.try_lock().is_ok());
            if is_abandoned {
                let _ = fs::remove_file(file);
            }
        }
        evict(path, size);
        let (sender, receiver) = sync_channel::<Written>(1);
        let own = path.to_owned();
        let finisher = thread::Builder::new().name("ossicle-prefix".to_owned()).spawn(move || {
            for written in receiver {
                written.finish(&own);
                evict(&own, size);
            }
        })?;
        Ok(Self { path: path.to_owned(), size, finisher: Some((sender, finisher)) })
    }

    pub fn keys(&self) -> Vec<Key> {
        files(&self.path, WHOLE).filter_map(|(path, _)| key_of(&path)).collect()
    }

    /// An entry, which now counts as used.
    pub fn read(&self, key: Key) -> Option<Vec<u8>> {
        let file = File::open(self.whole(key)).ok()?;
        let mut bytes = Vec::new();
        // Not mapped: whoever cuts a mapped file ends the process.
        (&file).take(self.size).read_to_end(&mut bytes).ok()?;
        // A file that may only be read cannot be told that it was used.
        let _ = file.set_modified(SystemTime::now());
        Some(bytes)
    }

    /// Adds an entry, unless it is larger than all may be, or more are on their way to the disk than it keeps up with.
    pub fn write(&self, key: Key, save: Save<'_>) {
        let Some((finisher, _)) = &self.finisher else { return };
        let part = self.path.join(format!("{}.{}.{PART}", name(key), std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let Ok(file) = options.open(&part) else { return };
        let _ = file.try_lock();
        let is_filled = self.fill(&file, save).is_ok();
        let written = Written { file, part: part.clone(), whole: self.whole(key) };
        if !is_filled || finisher.try_send(written).is_err() {
            let _ = fs::remove_file(part);
        }
    }

    pub fn remove(&self, key: Key) {
        let _ = fs::remove_file(self.whole(key));
    }

    fn fill(&self, file: &File, save: Save<'_>) -> io::Result<()> {
        let mut writer = BufWriter::with_capacity(1 << 20, file);
        let (mut size, mut result) = (0, Ok(()));
        let saved = save(&mut |part| {
            size += part.len() as u64;
            if result.is_ok() && size <= self.size {
                result = writer.write_all(part);
            }
        });
        if saved.is_err() || size > self.size {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        result.and_then(|()| writer.flush())
    }

    fn whole(&self, key: Key) -> PathBuf {
        self.path.join(name(key)).with_extension(WHOLE)
    }
}

impl Drop for Folder {
    /// What is written is finished.
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.finisher.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}

impl Written {
    fn finish(self, folder: &Path) {
        let finished = self.file.sync_all().and_then(|()| fs::rename(&self.part, &self.whole));
        if finished.is_err() {
            let _ = fs::remove_file(&self.part);
        }
        // The name too. Where folders cannot be synchronized, it is there when it is there.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
}

/// Refuses a folder that others can write to.
fn demand_own(folder: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&folder.permissions()) & 0o022 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others may write to the folder"));
    }
    let _ = folder;
    Ok(())
}

/// Removes the files unused for longest until all together have at most this size.
fn evict(path: &Path, size: u64) {
    let mut files: Vec<_> = files(path, WHOLE).collect();
    files.sort_by_key(|(_, metadata)| metadata.modified().ok());
    let mut total: u64 = files.iter().map(|(_, metadata)| metadata.len()).sum();
    for (path, metadata) in files {
        if total <= size {
            break;
        }
        if fs::remove_file(path).is_ok() {
            total -= metadata.len();
        }
    }
}

fn files(folder: &Path, extension: &'static str) -> impl Iterator<Item = (PathBuf, Metadata)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| (entry.path(), entry.metadata()));
    let files = files.filter_map(|(path, metadata)| Some((path, metadata.ok()?)));
    files.filter(move |(path, metadata)| metadata.is_file() && path.extension().is_some_and(|found| found == extension))
}

fn name(Key { tokens, sum }: Key) -> String {
    format!("{tokens:08}-{sum:016x}")
}

fn key_of(path: &Path) -> Option<Key> {
    let (tokens, sum) = path.file_stem()?.to_str()?.split_once('-')?;
    Some(Key { tokens: tokens.parse().ok()?, sum: u64::from_str_radix(sum, 16).ok()? })
}
