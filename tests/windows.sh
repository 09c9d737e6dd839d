#!/usr/bin/env bash
# Windows on x86-64, under Wine: the freestanding library as a program in C links it. All kernel sets that this processor has
# give the same logits and keep to the calling convention, and an example says what `ossicle run` says. On Debian 12, as root:
#
#     apt-get install --no-install-recommends rustc-web cargo-web rust-web-src gcc-mingw-w64-x86-64 wine64
#     rustup toolchain link debian /usr
#
# Where `rustup target add x86_64-pc-windows-gnu` works, TOOLCHAIN=stable needs only the last two packages.
set -euo pipefail
cd "$(dirname "$0")/.."

toolchain=${TOOLCHAIN:-debian}
target=x86_64-pc-windows-gnu
out=$PWD/target/windows
export WINEPREFIX=$out/wine WINEDEBUG=-all
# Debian has a command for it only beside the 32-bit one.
wine=$(command -v wine64 || echo /usr/lib/wine/wine64)

standard=()
if [ "$toolchain" = debian ]; then
    standard=(-Z build-std=core)
    export RUSTC_BOOTSTRAP=1
fi
cargo "+$toolchain" rustc "${standard[@]}" --target $target --target-dir "$out" -p ossicle-ffi --no-default-features \
    --profile freestanding --crate-type staticlib

build_and_run() { # a program, and its arguments
    local program=$out/${1##*/}.exe
    x86_64-w64-mingw32-gcc -std=c11 -O1 -Wall -Wextra -Werror -Iinclude "$1" "$out/$target/freestanding/libossicle.a" \
        -o "$program"
    "$wine" "$program" "${@:2}"
}

sets=$(build_and_run tests/c/win64.c tests/data/tiny-a/gguf/tiny-a.gguf)
echo "the same logits, and saved registers: ${sets//$'\r\n'/, }"

question='Who are you?' said=$out/static_arena.txt
build_and_run examples/c/static_arena.c cli/data/toy.gguf "$question" >"$said"
# With the numbers that stand in it.
${OSSICLE:-cargo run -q --release -p ossicle --} run --model cli/data/toy.gguf --effort low --max-tokens 60 \
    --reasoning-tokens 20 --seed 0 "$question" | diff <(cat "$said" && echo) -
echo "static_arena says what the command says"
