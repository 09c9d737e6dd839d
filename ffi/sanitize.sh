#!/bin/sh
# Runs the programs of examples/ and tests/c under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer, which see
# into the library too: ffi/sanitize.sh
#
# The library is built for it by a nightly Rust. ThreadSanitizer takes the freestanding one with threads in C: the standard
# library comes without its marks, and would be accused of races that it does not have.
set -eu

cd "$(dirname "$0")/.."
if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "skipped: there is no nightly Rust to build the library for sanitizers"
    exit 0
fi
machine=x86_64-unknown-linux-gnu
folder=${CARGO_TARGET_DIR:-target}/sanitize
c=gcc cpp=g++
if command -v clang >/dev/null; then c=clang cpp=clang++; fi
# Programs that ask for too much memory are to be refused, not ended.
export ASAN_OPTIONS=allocator_may_return_null=1
tiny=tests/data/tiny-a/gguf/tiny-a.gguf

# -------- memory

RUSTFLAGS=-Zsanitizer=address cargo +nightly build -q -p ossicle-ffi --target $machine --target-dir "$folder"
checks='-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -Iinclude'

# A model for so few tokens that a program which answers until the context is full ends soon.
short=$folder/short.gguf
cp $tiny "$short"
place=$(grep -obUaF gpt-oss.context_length "$short" | cut -d: -f1)
printf '\364\001\000\000' | dd of="$short" bs=1 seek=$((place + 26)) conv=notrunc status=none

# run SOURCE [ARGUMENT...]: builds a program, and runs it.
run() {
    source=$1
    shift
    echo "$source $*"
    compiler="$c -std=c99" others=
    case $source in
    *.cpp) compiler="$cpp -std=c++17" ;;
    *gptoss.c) others=compat/gptoss_compat.c ;;
    esac
    # shellcheck disable=SC2086
    $compiler $checks "$source" $others "$folder/$machine/debug/libossicle.a" -lm -lpthread -ldl -o "$folder/program"
    "$folder/program" "$@" >"$folder/output" 2>&1 || { cat "$folder/output" && exit 1; }
}

question='Who are you?'
run examples/c/hello.c "$short" "$question"
run examples/c/frame_budget.c "$short" "$question"
run examples/c/static_arena.c "$short" "$question"
run examples/c/own_threads.c "$short" "$question"
run examples/c/pak_file.c --pack "$short" "$folder/pak"
run examples/c/pak_file.c "$folder/pak" "$question"
run tests/c/tools_led.c $tiny
echo "$question" | run examples/cpp/chat.cpp $tiny
run tests/c/misuse.c $tiny
run tests/c/nulls.c $tiny
run tests/c/faults.c $tiny
run tests/c/offload.c $tiny
adapters=tests/data/adapters
run tests/c/adapters.c $tiny $adapters/everything.gguf $adapters/everything/adapter_model.safetensors \
    $adapters/everything/adapter_config.json
run tests/c/adapters.cpp $tiny $adapters/everything.gguf
run tests/c/neighbours.c $tiny tests/data/tiny-b/gguf/tiny-b.gguf
run tests/c/system.c $tiny tests/data/tiny-a/hf
run tests/c/gptoss.c $tiny
run tests/c/turn.c $tiny threads
run tests/c/turn.c $tiny pak
run tests/c/turn.cpp $tiny
run examples/c/structured.c cli/data/toy.gguf
run examples/c/policy.c cli/data/toy.gguf
run tests/c/chat_host.c cli/data/toy.gguf
if command -v bwrap >/dev/null; then
    run examples/c/python.c cli/data/toy.gguf
    run tests/c/chat_tools.c $tiny python
else
    echo "skipped: there is no bubblewrap for Python"
fi
run tests/c/structured.c $tiny tests/data/tiny-b/gguf/tiny-b.gguf
run tests/c/structured.cpp $tiny

# -------- threads

RUSTFLAGS='-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer' cargo +nightly rustc -q -p ossicle-ffi \
    --no-default-features --profile freestanding --crate-type staticlib --target $machine --target-dir "$folder"
# The runtime is Rust's: that of an older compiler lacks what the library calls.
runtime=$(rustc +nightly --print sysroot)/lib/rustlib/$machine/lib/librustc-nightly_rt.tsan.a

run_threads() {
    source=$1
    shift
    echo "$source $* (threads)"
    $c -std=c99 -g -O1 -fsanitize=thread -Iinclude -c "$source" -o "$folder/program.o"
    $c -Iinclude "$folder/program.o" tests/c/panic.c "$folder/$machine/freestanding/libossicle.a" \
        -Wl,--whole-archive "$runtime" -Wl,--no-whole-archive -Wl,--export-dynamic -lm -lpthread -ldl -o "$folder/program"
    "$folder/program" "$@" >"$folder/output" 2>&1 || { cat "$folder/output" && exit 1; }
}

run_threads tests/c/faults.c $tiny
run_threads tests/c/offload.c $tiny
run_threads tests/c/neighbours.c $tiny tests/data/tiny-b/gguf/tiny-b.gguf
run_threads tests/c/turn.c $tiny threads
