//! Python in its box.

use std::io::Write;
use std::time::{Duration, Instant};

use ossicle_host::python::{Interpreter, Limits, Sandbox};

const NOTHING: &str = "[no output: print() shows values]\n";

/// A call that is waited for.
trait Cell {
    fn cell(&mut self, code: &str) -> String;
}

impl Cell for Sandbox {
    fn cell(&mut self, code: &str) -> String {
        self.run(code, &|| false)
    }
}

/// A box, where one can be made. If not, that is said even in a run that passes.
fn sandbox(limits: Limits) -> Option<Sandbox> {
    match Sandbox::check() {
        Ok(()) => Some(Sandbox::new(limits)),
        Err(error) if std::env::var_os("OSSICLE_REQUIRE_SANDBOX").is_some() => panic!("no box: {error}"),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "skipped: {error}");
            None
        }
    }
}

#[test]
fn cells_follow_one_another_as_in_a_notebook() {
    let Some(mut python) = sandbox(Limits::default()) else { return };
    assert_eq!(python.cell("x = 6\ndef f(y):\n    return x * y"), NOTHING);
    assert_eq!(python.cell("print('seven')\nf(7)"), "seven\n42\n");
    assert_eq!(python.cell("import subprocess; _ = subprocess.run(['echo', 'from outside'])"), "from outside\n");
    assert_eq!(python.cell("None"), NOTHING);
    let failed = python.cell("x = 1\nf(y=x / 0)");
    assert!(failed.starts_with("Traceback"), "{failed}");
    assert!(failed.contains("line 2, in <module>\n    f(y=x / 0)"), "{failed}");
    assert!(failed.ends_with("ZeroDivisionError: division by zero\n"), "{failed}");
    assert!(python.cell("def :").ends_with("SyntaxError: invalid syntax\n"));
    assert_eq!(python.cell("x"), "1\n");
    assert_eq!(python.cell("input('?')").lines().last(), Some("EOFError: EOF when reading a line"));
    assert_eq!(python.cell("raise SystemExit(3)").lines().last(), Some("SystemExit: 3"));
    assert_eq!(
        python.cell("print('\\udcff'.encode('utf8', 'surrogateescape')); import os; os.write(1, b'\\xff')"),
        "b'\\xff'\n\u{fffd}1\n"
    );
    assert_eq!(
        python.cell("open('kept', 'w').write('here'); print(open('/mnt/data/kept').read(), os.getcwd())"),
        "here /mnt/data\n"
    );
}

#[test]
fn nothing_of_the_outside_is_reached() {
    let Some(mut python) = sandbox(Limits::default()) else { return };
    let network = python.cell("import socket\nsocket.create_connection(('127.0.0.1', 1), 2)");
    // Its own loopback has no listeners; the outside has no route.
    assert!(network.contains("Error"), "{network}");
    assert!(python.cell("socket.create_connection(('192.0.2.1', 80), 2)").contains("Network is unreachable"));
    assert_eq!(
        python.cell("import os, glob; sorted(set(os.listdir('/')) - {'bin', 'lib', 'lib64'})"),
        "['dev', 'etc', 'mnt', 'proc', 'usr']\n"
    );
    assert_eq!(python.cell("sorted(set(os.listdir('/etc')) - {'alternatives', 'ld.so.cache'})"), "[]\n");
    for path in ["/usr/mine", "/etc/mine", "/mine", "/dev/mine"] {
        assert!(python.cell(&format!("open('{path}', 'w')")).contains("Error"), "{path}");
    }
    assert_eq!(
        python.cell("os.getuid(), sorted(os.environ)").trim_end(),
        "(65534, ['HOME', 'LANG', 'PATH', 'PWD', 'TMPDIR'])"
    );
    // Its own processes are all that it sees.
    assert_eq!(python.cell("len([name for name in os.listdir('/proc') if name.isdigit()]) < 4"), "True\n");
    assert!(python.cell("subprocess = __import__('subprocess'); print(subprocess.run(['unshare', '-Ur', 'true'], capture_output=True).returncode)") != "0\n");
}

#[test]
fn files_that_the_program_has_open_stay_outside() {
    let secret = std::env::temp_dir().join(format!("ossicle-secret-{}", std::process::id()));
    std::fs::write(&secret, "secret").expect("a file");
    let file = std::fs::File::open(&secret).expect("a file");
    // A descriptor as programs in C have them: other programs inherit it.
    let inherited = rustix::io::dup(&file).expect("a descriptor");
    let Some(mut python) = sandbox(Limits::default()) else { return };
    let found = python.cell(
        "import glob, os\nopened = glob.glob('/proc/[0-9]*/fd/*')\n\
         print([os.readlink(path) for path in opened if os.path.lexists(path)])\nlen(os.listdir('/proc/1/fd'))",
    );
    assert!(found.contains("memfd:output") && !found.contains("ossicle-secret"), "{found}");
    assert!(!found.contains("Error"), "{found}");
    drop(inherited);
    std::fs::remove_file(&secret).expect("a file");
}

#[test]
fn limits_hold_and_the_next_call_finds_a_new_box() {
    let limits = Limits { time: Duration::from_secs(3), output: 1000, processes: 8, ..Limits::default() };
    let Some(mut python) = sandbox(limits) else { return };
    assert!(python.cell("bytearray(2 << 30)").ends_with("MemoryError\n"));
    let printed = python.cell("print('x' * 10_000_000)");
    assert_eq!(printed, format!("{}\n[output cut: 1000 of 10000001 bytes]\n", "x".repeat(1000)));
    for path in ["large", "/dev/shm/large"] {
        let filled = python.cell(&format!(
            "for part in range(2):\n    with open(f'{path}{{part}}', 'wb') as file:\n        for _ in range(40):\n            file.write(bytes(1 << 20))"
        ));
        assert!(filled.contains("No space left"), "{filled}");
    }
    let forked = python.cell("import os, time\nfor _ in range(20):\n    if os.fork() == 0:\n        time.sleep(100)");
    assert!(forked.contains("BlockingIOError"), "{forked}");
    python.cell("kept = 1");
    let begun = Instant::now();
    assert_eq!(python.cell("while True: pass"), "[ERROR] no result after 3 seconds; what was defined before is lost\n");
    assert!(begun.elapsed() < Duration::from_secs(100));
    assert!(python.cell("kept").ends_with("NameError: name 'kept' is not defined\n"));
    assert_eq!(
        python.cell("os = __import__('os'); os._exit(0)"),
        "[ERROR] the interpreter ended; what was defined before is lost\n"
    );
    // What stands where replies go is no reply that could be believed.
    let forged = "import os\nfor fd in range(3, 10):\n    try: os.write(fd, b'\\xff' * 8)\n    except OSError: pass";
    assert!(python.cell(forged).starts_with("[ERROR]"));
    assert_eq!(python.cell("1"), "1\n");
    // More code than a pipe holds, while nobody reads.
    python.cell("import os, threading\nthreading.Thread(target=lambda: os.read(3, 1), daemon=True).start()");
    let late = python.cell(&format!("x = '{}'", "x".repeat(1 << 20)));
    assert!(late.starts_with("[ERROR]") || late.starts_with("[no output"), "{late}");
}

#[test]
fn nothing_goes_on_after_a_call_but_threads_and_those_are_told() {
    let Some(mut python) = sandbox(Limits::default()) else { return };
    assert_eq!(python.cell("import os, subprocess\nbox = subprocess.Popen(['sleep', '100'])\nbox.poll()"), NOTHING);
    let others = "[name for name in os.listdir('/proc') if name.isdigit() and int(name) not in (1, os.getpid())]";
    assert_eq!(python.cell(others), "[]\n");
    // The child is no second interpreter.
    assert!(python.cell("x = 1\nif os.fork() == 0:\n    x = 2\nprint(x)").contains('1'));
    assert_eq!(python.cell("x"), "1\n");
    assert!(!python.is_busy());
    python.cell("import threading, time\nended = threading.Event()\nthread = threading.Thread(target=ended.wait)\nthread.start()");
    assert!(python.is_busy());
    python.cell("ended.set()\nthread.join()");
    assert!(!python.is_busy());
}

#[test]
fn code_ends_when_nobody_waits_for_it() {
    let Some(mut python) = sandbox(Limits::default()) else { return };
    python.cell("kept = 1");
    let begun = Instant::now();
    let ended = python.run("while True: pass", &|| begun.elapsed() > Duration::from_millis(300));
    assert_eq!(ended, "[ERROR] cancelled; what was defined before is lost\n");
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(python.cell("kept").contains("NameError"));
}

#[test]
fn definitions_outlive_the_thread_that_called() {
    let Some(mut python) = sandbox(Limits::default()) else { return };
    let first = std::thread::spawn(move || {
        python.cell("x = 1");
        python
    });
    let mut python = first.join().expect("the first call");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(python.cell("x"), "1\n");
}

#[test]
fn a_function_is_an_interpreter() {
    let mut calls = 0;
    let mut count = |code: &str| {
        calls += 1;
        format!("{} bytes", code.len())
    };
    let interpreter: &mut dyn Interpreter = &mut count;
    assert_eq!(interpreter.run("1 + 1", &|| false), "5 bytes");
    assert_eq!(calls, 1);
}
