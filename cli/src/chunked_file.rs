//! Writes a large file in chunks, on all threads, with little memory.

use std::fs::OpenOptions;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};
use ossicle_host::Threads;

/// Writes into the file at `path`, which is there, so that it has `size` bytes: `header` first; then `make` is asked, on any thread, for
/// each of `count` chunks, fills the buffer and says where in the file it goes, if it does not stand there already. Of a file that
/// was empty, what no chunk covers is zero. `done` is told which chunk now stands in the file, and how many bytes do in all.
///
/// # Errors
/// Those of `make`, of `done` and of writing; the file is then not complete.
pub fn write(
    path: &Path,
    size: u64,
    header: &[u8],
    count: usize,
    make: impl Fn(usize, &mut Vec<u8>) -> io::Result<Option<u64>> + Sync,
    mut done: impl FnMut(usize, u64) -> io::Result<()> + Send,
) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(header)?;

    let next = AtomicUsize::new(0);
    let mut written = header.len() as u64;
    let report = Mutex::new(|number: usize, size: u64| {
        written += size;
        done(number, written)
    });
    let work = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        let mut buffer = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            if let Some(offset) = make(number, &mut buffer)? {
                file.seek(SeekFrom::Start(offset))?;
                file.write_all(&buffer)?;
            }
            report.lock().unwrap_or_else(PoisonError::into_inner)(number, buffer.len() as u64)?;
        }
    };
    // Where one thread fails, the others find nothing more to do.
    let work = || work().inspect_err(|_| next.store(count, Ordering::Relaxed));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..Threads::available()).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("making numbers does not panic"))
    })?;
    file.set_len(size)
}

/// A bar for so many bytes, with a word for what is done with them.
pub fn progress_bar(size: u64, doing: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:40} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left")
        .expect("the template is right");
    ProgressBar::new(size).with_style(style).with_message(doing)
}
