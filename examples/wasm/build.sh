#!/usr/bin/env bash
# Makes examples/wasm/out: the module, and what chat.html loads. On Debian 12, as root:
#
#     apt-get install --no-install-recommends rustc-web cargo-web rust-web-src clang
#     rustup toolchain link debian /usr
#
# Where `rustup target add wasm32-unknown-unknown` works, TOOLCHAIN=stable needs only clang.
set -euo pipefail
cd "$(dirname "$0")/../.."

toolchain=${TOOLCHAIN:-debian}
target=wasm32-unknown-unknown
out=examples/wasm/out
export CARGO_TARGET_DIR=$PWD/target/wasm CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="-C target-feature=+simd128"

standard=()
if [ "$toolchain" = debian ]; then
    # There is no library for this target among the packages: it is built from its source.
    standard=(-Z build-std=core)
    export RUSTC_BOOTSTRAP=1
fi
cargo "+$toolchain" rustc "${standard[@]}" --target $target -p ossicle-ffi --no-default-features --profile freestanding \
    --crate-type staticlib

mkdir -p "$out"
clang --target=wasm32 -O2 -std=c99 -Wall -Wextra -Werror -Iinclude -c examples/wasm/chat.c -o "$out/chat.o"
# rustup's own linker; Debian's rustc has none.
lld=$(find "$(rustc +stable --print sysroot)" -name rust-lld -print -quit)
"$lld" -flavor wasm --no-entry --gc-sections --stack-first -z stack-size=262144 --strip-all \
    "$out/chat.o" "$CARGO_TARGET_DIR/$target/freestanding/libossicle.a" -o "$out/chat.wasm"

# Pages that are opened from a file may load scripts, and nothing else.
printf 'const FILES = { module: "%s", model: "%s" };\n' \
    "$(base64 -w 0 "$out/chat.wasm")" "$(base64 -w 0 cli/data/toy.gguf)" >"$out/files.js"
ls -l "$out"
