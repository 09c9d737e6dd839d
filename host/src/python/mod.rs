//! Python for the model: source code in, what it printed out.
//!
//! [`Interpreter`] is the interface; any function from text to text is one. [`Sandbox`] is CPython in a box that bubblewrap makes.

use std::io::{self, Read, Write};
#[cfg(unix)]
use std::os::{fd::OwnedFd, unix::net::UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Runs what the model writes to `python`. What one call defines, the next one finds.
pub trait Interpreter {
    /// What the code printed, or how it failed, as text for the model. Once `is_cancelled`, nobody waits for it any more: it is
    /// asked while the code runs, and then the code should end.
    fn run(&mut self, code: &str, is_cancelled: &dyn Fn() -> bool) -> String;

    /// Whether something goes on although no code is run: what an earlier call began.
    fn is_busy(&self) -> bool {
        false
    }
}

impl<F: FnMut(&str) -> String> Interpreter for F {
    fn run(&mut self, code: &str, _is_cancelled: &dyn Fn() -> bool) -> String {
        self(code)
    }
}

/// What code may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time of a call. What takes longer is ended, and its definitions are lost.
    pub time: Duration,
    /// Memory of a process, in bytes.
    pub memory: u64,
    /// What a call may print, in bytes; the rest is cut off.
    pub output: u32,
    /// Processes and threads.
    pub processes: u32,
    /// All files together, in bytes; and as much again in shared memory.
    pub files: u64,
}

impl Default for Limits {
    /// Two minutes, as the model is told; 1 GiB, 16 KiB of output, 32 processes, 64 MiB of files.
    fn default() -> Self {
        Self { time: Duration::from_secs(120), memory: 1 << 30, output: 16 << 10, processes: 32, files: 64 << 20 }
    }
}

/// CPython without network, with no files but the system's programs and an empty folder, `/mnt/data`, in memory. It begins with the
/// first call, and anew after one that was ended. Other processes that a call began end with it.
pub struct Sandbox {
    limits: Limits,
    running: Option<Running>,
}

/// A Python that waits for code.
struct Running {
    bubblewrap: Child,
    requests: Sender<Vec<u8>>,
    replies: Receiver<Reply>,
    /// Whether threads of the code go on.
    is_busy: bool,
}

/// What became of a call.
struct Reply {
    text: Vec<u8>,
    is_busy: bool,
}

const BUBBLEWRAP: &str = "bwrap";
const PYTHON: &str = "/usr/bin/python3";
const DRIVER: &str = include_str!("driver.py");

/// No privileges, no namespaces but these, and nothing of the outside but programs and libraries, to be read.
const BOX: &str = "--unshare-all --unshare-user --disable-userns --uid 65534 --gid 65534 --cap-drop ALL --die-with-parent \
    --new-session --hostname python --ro-bind /usr /usr --ro-bind-try /bin /bin --ro-bind-try /lib /lib \
    --ro-bind-try /lib64 /lib64 --ro-bind-try /etc/alternatives /etc/alternatives \
    --ro-bind-try /etc/ld.so.cache /etc/ld.so.cache --proc /proc --dev /dev --clearenv --setenv PATH /usr/bin:/bin \
    --setenv HOME /mnt/data --setenv TMPDIR /mnt/data --setenv LANG C.UTF-8";

/// How soon it is noticed that nobody waits any more.
const NOTICE: Duration = Duration::from_millis(50);

/// What the model is told of code that printed nothing.
const NO_OUTPUT: &str = "[no output: print() shows values]\n";

impl Sandbox {
    /// A box for code of one conversation.
    pub fn new(limits: Limits) -> Self {
        Self { limits, running: None }
    }

    /// Whether a box can be made here. Makes one, and computes a sum in it.
    ///
    /// # Errors
    /// What is missing.
    pub fn check() -> io::Result<()> {
        let limits = Limits { time: Duration::from_secs(20), ..Limits::default() };
        match Self::new(limits).call("1 + 1", &|| false) {
            Ok(text) if text == "2\n" => Ok(()),
            Ok(text) => Err(io::Error::other(format!("1 + 1 gave {text:?}"))),
            Err(error) => {
                let why = format!("no box for Python (Linux, {BUBBLEWRAP} with user namespaces, {PYTHON}): {error}");
                Err(io::Error::new(error.kind(), why))
            }
        }
    }

    fn begin(&self) -> io::Result<Running> {
        let Limits { memory, output, processes, files, .. } = self.limits;
        let files = files.to_string();
        let (stdin, mut input) = input()?;
        let mut command = Command::new(BUBBLEWRAP);
        command
            .args(BOX.split_whitespace())
            .args(["--size", &files, "--tmpfs", "/dev/shm", "--remount-ro", "/dev"])
            .args(["--size", &files, "--tmpfs", "/mnt/data", "--chdir", "/mnt/data", "--remount-ro", "/"])
            .args(["--", PYTHON, "-I", "-c", DRIVER])
            .args([memory.to_string(), output.to_string(), processes.to_string(), files])
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        #[cfg(target_os = "linux")]
        {
            use std::os::unix::fs::MetadataExt;
            use std::os::unix::process::CommandExt;
            // A user who owns nothing. The administrator's processes are not counted against any limit.
            const NOBODY: u32 = 65534;
            if std::fs::metadata("/proc/self")?.uid() == 0 {
                command.uid(NOBODY).gid(NOBODY);
            }
        }
        let most = output as usize + 100;
        let (hand, handed) = channel();
        let (sender, replies) = channel();
        // The process ends with the thread that began it, so that is one which lives as long.
        thread::spawn(move || {
            let mut begun = command.spawn();
            // Its end of the input is in there too.
            drop(command);
            let stdout = begun.as_mut().ok().and_then(|child| child.stdout.take());
            if hand.send(begun).is_err() {
                return;
            }
            let Some(mut stdout) = stdout else { return };
            while let Ok(reply) = read_reply(&mut stdout, most) {
                if sender.send(reply).is_err() {
                    return;
                }
            }
        });
        let begun = handed.recv().map_err(io::Error::other)?;
        let bubblewrap = begun
            .map_err(|error| io::Error::new(error.kind(), format!("{BUBBLEWRAP} (package bubblewrap): {error}")))?;
        let (requests, received) = channel::<Vec<u8>>();
        // Nobody else may wait for this: code can keep the process from reading.
        thread::spawn(move || received.iter().try_for_each(|request| input.write_all(&request)));
        Ok(Running { bubblewrap, requests, replies, is_busy: false })
    }

    /// As [`Interpreter::run`], with errors of the box itself.
    fn call(&mut self, code: &str, is_cancelled: &dyn Fn() -> bool) -> io::Result<String> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.begin()?,
        };
        let ended = || io::Error::other("the interpreter ended");
        let size = u32::try_from(code.len()).map_err(|_| io::Error::other("more than 4 GiB of code"))?;
        // What code has written here since the last reply is no reply to this call.
        while running.replies.try_recv().is_ok() {}
        running.requests.send([&size.to_be_bytes(), code.as_bytes()].concat()).map_err(|_| ended())?;
        let deadline = Instant::now() + self.limits.time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match running.replies.recv_timeout(left.min(NOTICE)) {
                Ok(Reply { text, is_busy }) => {
                    running.is_busy = is_busy;
                    self.running = Some(running);
                    let text = String::from_utf8_lossy(&text).into_owned();
                    return Ok(if text.is_empty() { NO_OUTPUT.into() } else { text });
                }
                Err(RecvTimeoutError::Disconnected) => return Err(ended()),
                Err(RecvTimeoutError::Timeout) if is_cancelled() => return Err(io::Error::other("cancelled")),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => {
                    let seconds = self.limits.time.as_secs_f32();
                    return Err(io::Error::other(format!("no result after {seconds} seconds")));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// What a process reads, and its other end. To write to a pipe whose reader has ended is a signal that ends programs which do not
/// expect it, and programs in C do not; to such a socket it is an error.
#[cfg(unix)]
fn input() -> io::Result<(Stdio, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((OwnedFd::from(theirs).into(), ours))
}

#[cfg(not(unix))]
fn input() -> io::Result<(Stdio, io::Sink)> {
    Err(io::ErrorKind::Unsupported.into())
}

/// What code printed. Code can write here too, so the length is not believed beyond `most`.
fn read_reply(from: &mut impl Read, most: usize) -> io::Result<Reply> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [size @ .., is_busy] = head;
    let size = u32::from_be_bytes(size) as usize;
    if size > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; size];
    from.read_exact(&mut text)?;
    Ok(Reply { text, is_busy: is_busy != 0 })
}

impl Interpreter for Sandbox {
    fn run(&mut self, code: &str, is_cancelled: &dyn Fn() -> bool) -> String {
        let result = self.call(code, is_cancelled);
        result.unwrap_or_else(|error| format!("[ERROR] {error}; what was defined before is lost\n"))
    }

    fn is_busy(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.is_busy)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // With it ends the first process of the box, and with that all others.
        let _ = self.bubblewrap.kill();
        let _ = self.bubblewrap.wait();
    }
}
