use std::fs::{self, DirBuilder, DirEntry, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use super::{Key, Place, Save};

/// Entries in files, whose names are their keys, and whose times of change say in which order they go: when they were last used.
///
/// A file gets its name once it is on the disk as a whole; until then it has another, and a lock, so that what a process
/// that ended too early has left behind can be told from what is still being written. Files are never changed.
pub struct Folder {
    path: PathBuf,
    /// Most bytes of all files.
    size: u64,
    /// Waits for the disk, which would keep the model waiting.
    finisher: Option<(Sender<Written>, JoinHandle<()>)>,
    /// How many files it has been given but, as far as is known, not finished; and, for each that it has since, a word.
    unfinished: usize,
    finished: Receiver<()>,
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

/// Most files on their way to the disk. What is to be kept meanwhile is not: it would pile up.
const UNFINISHED: usize = 2;

/// Where files cannot be locked, one that was not written to for so long is abandoned.
const ABANDONED: Duration = Duration::from_secs(3600);

impl Folder {
    pub fn open(path: &Path, size: u64) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(path)?;
        demand_own(&fs::metadata(path)?)?;
        for file in files(path, PART) {
            if is_abandoned(&file).unwrap_or(false) {
                let _ = fs::remove_file(file.path());
            }
        }
        evict(path, size);
        let (sender, receiver) = channel::<Written>();
        let (finish, finished) = channel();
        let own = path.to_owned();
        let finisher = thread::Builder::new().name("ossicle-prefix".to_owned()).spawn(move || {
            for written in receiver {
                written.finish(&own);
                evict(&own, size);
                let _ = finish.send(());
            }
        })?;
        Ok(Self { path: path.to_owned(), size, finisher: Some((sender, finisher)), unfinished: 0, finished })
    }

    pub fn keys(&self) -> Vec<Key> {
        files(&self.path, WHOLE).filter_map(|file| key_of(&file.path())).collect()
    }

    /// An entry of this size, which now counts as used. One of another size, or that another user may have written, is removed.
    pub fn read(&self, key: Key, size: usize) -> Option<Vec<u8>> {
        let file = File::open(self.whole(key)).ok()?;
        let metadata = file.metadata().ok()?;
        if demand_own(&metadata).is_err() || metadata.len() != size as u64 {
            self.remove(key);
            return None;
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).ok()?;
        // Not mapped: whoever cuts a mapped file ends the process.
        (&file).take(size as u64).read_to_end(&mut bytes).ok()?;
        // A file that may only be read cannot be told that it was used.
        let _ = file.set_modified(SystemTime::now());
        Some(bytes)
    }

    /// Adds an entry of this size, unless it is larger than all may be, or as many as may be are on their way to the disk. All are
    /// no larger together than they may be, this one included.
    pub fn write(&mut self, key: Key, size: u64, save: Save<'_>) {
        self.unfinished -= self.finished.try_iter().count();
        let Some((finisher, _)) = &self.finisher else { return };
        if size > self.size || self.unfinished == UNFINISHED {
            return;
        }
        evict(&self.path, self.size - size);
        let part = self.path.join(format!("{}.{}.{PART}", name(key), std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let Ok(file) = options.open(&part) else { return };
        let _ = file.try_lock();
        let is_filled = fill(&file, save).is_ok();
        let written = Written { file, part: part.clone(), whole: self.whole(key) };
        if is_filled && finisher.send(written).is_ok() {
            self.unfinished += 1;
        } else {
            let _ = fs::remove_file(part);
        }
    }

    /// Waits until nothing is on its way to the disk.
    pub fn wait(&mut self) {
        while self.unfinished > 0 && self.finished.recv().is_ok() {
            self.unfinished -= 1;
        }
    }

    pub fn place(&self, key: Key, place: Place) {
        let time = match place {
            Place::First => SystemTime::UNIX_EPOCH,
            Place::Last => SystemTime::now(),
        };
        let _ = File::open(self.whole(key)).and_then(|file| file.set_modified(time));
    }

    pub fn remove(&self, key: Key) {
        let _ = fs::remove_file(self.whole(key));
    }

    fn whole(&self, key: Key) -> PathBuf {
        self.path.join(name(key)).with_extension(WHOLE)
    }
}

fn fill(file: &File, save: Save<'_>) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    let mut result = Ok(());
    let saved = save(&mut |part| {
        if result.is_ok() {
            result = writer.write_all(part);
        }
    });
    saved.map_err(io::Error::other)?;
    result.and_then(|()| writer.flush())
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

/// Refuses what another user owns or can write to. Only Unix tells.
fn demand_own(found: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let is_own = found.uid() == rustix::process::geteuid().as_raw();
        if !is_own || found.mode() & 0o022 != 0 {
            let why = if is_own { "others may write to it" } else { "it belongs to another user" };
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
    }
    let _ = found;
    Ok(())
}

/// Whether the process that wrote a file to be has ended.
fn is_abandoned(part: &DirEntry) -> io::Result<bool> {
    Ok(match File::open(part.path())?.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => part.metadata()?.modified()?.elapsed().is_ok_and(|idle| idle > ABANDONED),
    })
}

/// Removes the files unused for longest until all together, those under way included, have at most this size.
fn evict(path: &Path, size: u64) {
    let with_metadata = |file: DirEntry| Some((file.path(), file.metadata().ok()?));
    let mut whole: Vec<_> = files(path, WHOLE).filter_map(with_metadata).collect();
    let parts: Vec<_> = files(path, PART).filter_map(with_metadata).collect();
    let sizes = whole.iter().chain(&parts).map(|(_, metadata)| metadata.len());
    let mut total = sizes.fold(0, u64::saturating_add);
    whole.sort_by_key(|(_, metadata)| metadata.modified().ok());
    for (path, metadata) in whole {
        if total <= size {
            break;
        }
        // Another process may have removed it meanwhile.
        if fs::remove_file(path).map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |()| true) {
            total = total.saturating_sub(metadata.len());
        }
    }
}

fn files(folder: &Path, extension: &'static str) -> impl Iterator<Item = DirEntry> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    files.filter(move |entry| entry.path().extension().is_some_and(|found| found == extension))
}

fn name(Key { tokens, sum }: Key) -> String {
    format!("{tokens:08}-{sum:016x}")
}

/// The key that a file's name is, if it is written as here.
fn key_of(path: &Path) -> Option<Key> {
    let stem = path.file_stem()?.to_str()?;
    let (tokens, sum) = stem.split_once('-')?;
    let key = Key { tokens: tokens.parse().ok()?, sum: u64::from_str_radix(sum, 16).ok()? };
    (name(key) == stem).then_some(key)
}
