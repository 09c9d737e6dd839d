#!/usr/bin/env bash
# The tests on two AArch64 processors that QEMU emulates: one with every instruction that kernels use, one with NEON alone.
# On Debian 12, as root:
#
#     dpkg --add-architecture arm64 && apt-get update
#     apt-get install --no-install-recommends rustc-web cargo-web gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
#     rustup toolchain link debian /usr
#
# Where `rustup target add aarch64-unknown-linux-gnu` works, TOOLCHAIN=stable needs only the last three packages. Arguments
# go to `cargo test`: without any, those run that the architecture could make fail. (All of them would take more than an hour, to
# judge the same bits.)
set -euo pipefail
cd "$(dirname "$0")/.."

toolchain=${TOOLCHAIN:-debian}
target=aarch64-unknown-linux-gnu
flags="-C target-feature=+crt-static"
export CARGO_TARGET_DIR=$PWD/target/aarch64

if [ "$toolchain" = debian ]; then
    # The standard library alone, beside those of this machine's own architecture.
    std=$CARGO_TARGET_DIR/std
    if [ ! -d "$std/lib" ]; then
        mkdir -p "$std"
        (cd "$std" && apt-get download libstd-rust-web-dev:arm64 && dpkg-deb -x libstd-rust-web-dev_*.deb . && mv usr/lib lib)
    fi
    flags="$flags --sysroot $std"
fi

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS=$flags

test_on() {
    echo "== $1, which has to have $2"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $1" OSSICLE_REQUIRE_KERNELS=$2
    shift 2
    if [ $# = 0 ]; then
        cargo "+$toolchain" test --target $target -p ossicle-kernels-asm -p ossicle-tests --lib --test kernels --test attention --test layers
        set -- -p ossicle-tests --test invariance -- kernel_sets_do_not_matter the_architecture_does_not_matter
    fi
    cargo "+$toolchain" test --target $target "$@"
}
test_on max neon,neon-dotprod,neon-i8mm "$@"
test_on cortex-a53 neon "$@"
