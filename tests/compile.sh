#!/usr/bin/env bash
# Compiles core and assembly for a system on which nothing can be run here: that is all it shows. On Debian 12, as root:
#
#     apt-get install --no-install-recommends rustc-web cargo-web rust-web-src
#     rustup toolchain link debian /usr
#
# Arguments are targets, instead of the one below.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- aarch64-apple-darwin
# Without optimization, which takes minutes for each.
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$PWD/target/compile CARGO_PROFILE_DEV_OPT_LEVEL=0
for target; do
    cargo +debian build -q -Z build-std=core --target "$target" -p ossicle-kernels-asm
    echo "$target: compiled"
done
