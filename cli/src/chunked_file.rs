//! Writes a large file in chunks, on all threads, with little memory.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};
use ossicle_host::Threads;

/// Writes a file of `size` bytes at `path`: `header` first; then `make` is asked, on any thread, for each of `count` chunks, fills
/// the buffer and says where in the file it goes. What no chunk covers is zero. `progress` is told how many bytes are written.
///
/// # Errors
/// Those of `make` and of writing; the file is then not complete.
pub fn write(
    path: &Path,
    size: u64,
    header: &[u8],
    count: usize,
    make: impl Fn(usize, &mut Vec<u8>) -> io::Result<u64> + Sync,
    mut progress: impl FnMut(u64) + Send,
) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.set_len(size)?;
    file.write_all(header)?;

    let next = AtomicUsize::new(0);
    let mut written = header.len() as u64;
    let report = Mutex::new(|size: u64| {
        written += size;
        progress(written);
    });
    let work = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        let mut buffer = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            let offset = make(number, &mut buffer)?;
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(&buffer)?;
            report.lock().unwrap_or_else(PoisonError::into_inner)(buffer.len() as u64);
        }
    };
    // Where one thread fails, the others find nothing more to do.
    let work = || work().inspect_err(|_| next.store(count, Ordering::Relaxed));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..Threads::available()).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("making numbers does not panic"))
    })
}

/// A bar for so many bytes, with a word for what is done with them.
pub fn progress_bar(size: u64, doing: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:40} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left")
        .expect("the template is right");
    ProgressBar::new(size).with_style(style).with_message(doing)
}
