"""Runs cells as a notebook does, inside the box. A request is a length of four bytes and source code; a reply is a length and text."""

import ast
import linecache
import os
import resource
import sys
import traceback

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
        written = os.fstat(file.fileno()).st_size
        text = os.pread(file.fileno(), output, 0)
        if written > output:
            text += b"\n[output cut: %d of %d bytes]\n" % (output, written)
    replies.write(len(text).to_bytes(4, "big") + text)
    replies.flush()
