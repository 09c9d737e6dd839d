"""Runs cells as a notebook does, inside the box. A request is a length of four bytes and source code; a reply is a length, a byte
that says whether threads go on, and text."""

import ast
import linecache
import os
import resource
import signal
import sys
import traceback

# What the program around the library has open would be a way out of the box. The first process of the box has closed it already.
os.closerange(3, 1 + max(map(int, os.listdir("/proc/self/fd"))))
memory, output, processes, file_size = map(int, sys.argv[1:])
for what, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_NPROC, processes), (resource.RLIMIT_FSIZE, file_size),
                   (resource.RLIMIT_CORE, 0)):
    resource.setrlimit(what, (most, most))

requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
# In the order of what other processes and libraries write.
sys.stdout.reconfigure(line_buffering=True)
scope = {"__name__": "__main__"}
number = 0
driver = os.getpid()


def run(code, name):
    """The value of a last expression is shown, as a notebook shows it."""
    linecache.cache[name] = (len(code), None, code.splitlines(True), name)
    body = ast.parse(code, name).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), name, "exec"), scope)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), name, "eval"), scope)
        if value is not None:
            print(repr(value))


def end_others():
    """Ends whatever else runs in the box, besides its first process."""
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


while len(size := requests.read(4)) == 4:
    code = requests.read(int.from_bytes(size, "big")).decode()
    number += 1
    # Not among the files of the box, which may be full.
    with os.fdopen(os.memfd_create("output"), "w+b") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            run(code, f"<cell {number}>")
        except BaseException:
            kind, error, trace = sys.exc_info()
            # Not the frames of this file.
            while trace and not trace.tb_frame.f_code.co_filename.startswith("<cell"):
                trace = trace.tb_next
            print("".join(traceback.format_exception(kind, error, trace)), end="", file=sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                pass
        if os.getpid() != driver:
            os._exit(0)
        end_others()
        written = os.fstat(file.fileno()).st_size
        text = os.pread(file.fileno(), output, 0)
        if written > output:
            text += b"\n[output cut: %d of %d bytes]\n" % (output, written)
    is_busy = len(sys._current_frames()) > 1
    replies.write(len(text).to_bytes(4, "big") + bytes([is_busy]) + text)
    replies.flush()
