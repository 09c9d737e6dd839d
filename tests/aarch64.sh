#!/usr/bin/env bash
# Tests, or examples, on two AArch64 processors that QEMU emulates: one with every instruction that kernels use, one with NEON
# alone. On Debian 12, as root:
#
#     dpkg --add-architecture arm64 && apt-get update
#     apt-get install --no-install-recommends rustc-web cargo-web gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
#     rustup toolchain link debian /usr
#
# Where `rustup target add aarch64-unknown-linux-gnu` works, TOOLCHAIN=stable needs no Rust of Debian's. Arguments go to
# `cargo test`: without any, the tests of core and assembly run, and those of the engine that the architecture could make fail.
# (All of them would take more than an hour, to judge the same bits.) `tests/aarch64.sh examples` builds the examples in C, which have
# to say there what they say here.
# `tests/aarch64.sh instructions` counts the instructions of the kernels instead (bench/README.md).
set -euo pipefail
cd "$(dirname "$0")/.."

toolchain=${TOOLCHAIN:-debian}
target=aarch64-unknown-linux-gnu
flags="-C target-feature=+crt-static"
here=${CARGO_TARGET_DIR:-$PWD/target}
there=$PWD/target/aarch64

if [ "$toolchain" = debian ]; then
    # The standard library alone, beside those of this machine's own architecture.
    std=$there/std
    if [ ! -d "$std/lib" ]; then
        mkdir -p "$std"
        (cd "$std" && apt-get download libstd-rust-web-dev:arm64 && dpkg-deb -x libstd-rust-web-dev_*.deb . && mv usr/lib lib)
    fi
    flags="$flags --sysroot $std"
fi

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS=$flags
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu max"

cargo_there() {
    cargo "+$toolchain" "$1" --target $target --target-dir "$there" "${@:2}"
}

if [ "${1:-}" = instructions ]; then
    cargo_there bench -p ossicle-bench --bench instructions -- "${@:2}"
    exit
fi

test_on() {
    local processor=$1
    echo "== $1, which has to have $2"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $1" OSSICLE_REQUIRE_KERNELS=$2
    shift 2
    if [ $# = 0 ]; then
        cargo_there test -p ossicle-core -p ossicle-kernels-asm -p ossicle-tests --lib --test kernels --test attention --test layers
        set -- -p ossicle-tests --test invariance -- the_architecture_does_not_matter
        # The sets of the other processor are among those of this one.
        [ "$processor" != max ] || set -- "$@" kernel_sets_do_not_matter
    fi
    cargo_there test "$@"
}
if [ "${1:-}" != examples ]; then
    test_on max neon,neon-dotprod,neon-i8mm "$@"
    test_on cortex-a53 neon "$@"
    exit
fi

compile_examples() { # the folder for them, the library, a compiler and its options
    local folder=$1 library=$2 source program
    mkdir -p "$folder"
    for source in examples/c/*.c; do
        program=${source##*/}
        "${@:3}" -std=c99 -O1 -Wall -Wextra -Werror -Iinclude "$source" "$library" -lm -lpthread -ldl -o "$folder/${program%.c}"
    done
}

model=cli/data/toy.gguf question='Who are you?'
ask_question() { # the folder with the examples, and what runs a program
    local folder=$1 program
    shift
    for program in hello frame_budget own_threads static_arena; do
        "$@" "$folder/$program" $model "$question"
    done
}

run_all() { # the same
    local folder=$1 program
    ask_question "$@"
    shift
    for program in tools policy structured; do
        "$@" "$folder/$program" $model
    done
    rm -f "$folder/game"
    "$@" "$folder/save_game" $model "$folder/game" "$question"
    "$@" "$folder/save_game" $model "$folder/game" "What is 58 + 27?"
    "$@" "$folder/pak_file" --pack $model "$folder/pak"
    "$@" "$folder/pak_file" "$folder/pak" "$question"
}

# What the tests were built with comes along, or the library would be built with less of a dependency once more. No example has a
# browser, which takes as long to build as all else.
cargo_there build -p ossicle-ffi -p ossicle-tests --no-default-features --features ossicle-ffi/host
cargo build -p ossicle-ffi --no-default-features --features host --target-dir "$here"
# The linker warns of names of hosts, which a static program cannot look up: no example does.
compile_examples "$there/examples" "$there/$target/debug/libossicle.a" aarch64-linux-gnu-gcc -static
compile_examples "$there/examples-here" "$here/debug/libossicle.a" gcc
trap 'cat "$there/examples.log" >&2' ERR
# All take a minute and a half on the smaller one, and differ by nothing that it changes.
for run in "run_all max" "ask_question cortex-a53"; do
    examples=${run% *} processor=${run#* }
    $examples "$there/examples-here" env >"$there/expected.txt" 2>"$there/examples.log"
    $examples "$there/examples" qemu-aarch64 -cpu "$processor" 2>"$there/examples.log" | diff - "$there/expected.txt"
    echo "$processor: the examples say what they say here"
done
