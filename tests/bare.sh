#!/usr/bin/env bash
# examples/bare without an operating system, on emulated machines: what it prints on the serial line has to be what `ossicle chat`
# says. Prints a table of what that took. `tests/bare.sh [x86_64] [aarch64] [riscv64] [arm]`; without arguments all of them. On
# Debian 12, as root:
#
#     apt-get install --no-install-recommends qemu-system-x86 binutils gcc
#     apt-get install --no-install-recommends qemu-system-arm qemu-system-misc rustc-web cargo-web rust-web-src
#     rustup toolchain link debian /usr
#
# The second line is for all but x86_64. Where `rustup target add TARGET` works, TOOLCHAIN=stable needs no Rust of Debian's.
set -euo pipefail
cd "$(dirname "$0")/.."

toolchain=${TOOLCHAIN:-debian}
export CARGO_TARGET_DIR=$PWD/target/bare
out=$CARGO_TARGET_DIR/out
mkdir -p "$out"
lld=$(find "$(rustc +stable --print sysroot)" -name rust-lld -print -quit)
export CARGO_TARGET_AARCH64_UNKNOWN_NONE_LINKER=$lld CARGO_TARGET_RISCV64GC_UNKNOWN_NONE_ELF_LINKER=$lld \
    CARGO_TARGET_THUMBV7EM_NONE_EABIHF_LINKER=$lld

semihosting=(-semihosting-config 'enable=on,target=native')
machine_of() { # its target, the exit code of success, the emulator's command
    case $1 in
    x86_64) echo x86_64-unknown-linux-gnu 33 qemu-system-x86_64 -M q35 -cpu max -device isa-debug-exit,iobase=0xf4,iosize=4 ;;
    aarch64) echo aarch64-unknown-none 0 qemu-system-aarch64 -M virt -cpu max "${semihosting[@]}" ;;
    riscv64) echo riscv64gc-unknown-none-elf 0 qemu-system-riscv64 -M virt -bios none ;;
    arm) echo thumbv7em-none-eabihf 0 qemu-system-arm -M mps2-an500 "${semihosting[@]}" ;;
    *) echo "$1: expected x86_64, aarch64, riscv64 or arm" >&2 && return 2 ;;
    esac
}

# Bytes of code and constants, without the model.
image_size() {
    local size section
    size=-$(stat -c %s cli/data/toy.gguf)
    for section in $(readelf -SW "$1" | sed 's/^ *\[ *[0-9]*\] *//' |
        awk '$2 == "PROGBITS" && $1 ~ /^\.(boot|vectors|text|rodata|data)$/ { print $5 }'); do
        size=$((size + 16#$section))
    done
    echo "$size"
}

echo "Who are you?" | ${OSSICLE:-cargo run -q --release -p ossicle --} \
    chat --model cli/data/toy.gguf --temperature 0 --show-reasoning >"$out/expected.txt" 2>&1
[ $# -gt 0 ] || set -- x86_64 aarch64 riscv64 arm
rows=()
for machine; do
    read -r target success emulator <<<"$(machine_of "$machine")"
    if ! command -v "${emulator%% *}" >/dev/null; then
        echo "skipped: $machine, there is no ${emulator%% *}"
        continue
    fi
    if [ "$machine" = x86_64 ]; then
        # This machine's own toolchain will do.
        (cd examples/bare && cargo build --release --target "$target")
    elif [ "$toolchain" = debian ]; then
        (cd examples/bare && RUSTC_BOOTSTRAP=1 cargo +debian build -Z build-std=core --release --target "$target")
    else
        (cd examples/bare && cargo "+$toolchain" build --release --target "$target")
    fi
    image=$CARGO_TARGET_DIR/$target/release/bare serial=$out/$machine.txt code=0
    # shellcheck disable=SC2086
    timeout 1200 $emulator -m "$([ "$machine" = arm ] && echo 16 || echo 64)" -display none -monitor none -serial stdio -no-reboot \
        -kernel "$image" >"$serial" </dev/null || code=$?
    grep '^#' "$serial" || true
    [ $code = "$success" ] || { echo "$machine: ended with $code"; exit 1; }
    grep -v '^#' "$serial" | diff - "$out/expected.txt"
    echo "$machine says what the command says"
    took=$(sed -n 's/^# kernels \([^;]*\); arena \([0-9]*\) bytes, stack \([0-9]*\) bytes\r*$/\1 \2 \3/p' "$serial")
    rows+=("$machine $(image_size "$image") $took")
done
echo "| machine | kernels | code and constants | objects | stack |"
echo "|---|---|---|---|---|"
for row in "${rows[@]}"; do
    read -r machine size kernels arena stack <<<"$row"
    echo "| $machine | \`$kernels\` | $((size / 1024)) KiB | $((arena / 1024)) KiB | $((stack / 1024)) KiB |"
done
