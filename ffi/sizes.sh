#!/bin/sh
# Prints how large the library is, stripped, for a program that uses a part of it: ffi/sizes.sh
set -eu

cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
cargo rustc -q -p ossicle-ffi --profile freestanding --no-default-features --crate-type staticlib
cargo build -q -p ossicle-ffi --release --no-default-features --features host
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT

# The functions of the header from one chapter to another.
functions() {
    awk -v first="$1" -v last="$2" '
        /^\/\/ Chapter [0-9]+:/ { split($3, number, ":"); chapter = number[1] }
        chapter >= first && chapter <= last && /^[a-z].*ossicle_[a-z_]*\(/ && !/^extern|^typedef/ {
            match($0, /ossicle_[a-z_]*\(/); print substr($0, RSTART, RLENGTH - 1)
        }' include/ossicle.h
}

row() {
    what=$1 archive=$2
    shift 2
    ffi/prelink.sh "$archive" "$folder/part.o" "$@"
    cc -shared -nostdlib -Wl,--gc-sections -o "$folder/part.so" "$folder/part.o"
    strip "$folder/part.so"
    echo "| $what | $(($(stat -c %s "$folder/part.so") / 1024)) KiB |"
}

echo "| $(rustc -vV | sed -n 's/^host: //p'), stripped | size |"
echo "|---|---|"
# shellcheck disable=SC2046
row "model, tokenizer, session, sampler (chapters 1 to 9)" "$target/freestanding/libossicle.a" $(functions 1 9)
row "with harmony and conversations (chapters 1 to 12)" "$target/freestanding/libossicle.a"
# shellcheck disable=SC2046
row "the same, with an operating system's library" "$target/release/libossicle.a" $(functions 1 12)
row "with files, threads, JSON and the vocabulary (all chapters, without the feature browser)" "$target/release/libossicle.a"
cargo build -q -p ossicle-ffi --release
row "all of it" "$target/release/libossicle.a"
