#!/usr/bin/env bash
# The same tests of the kernels on two older x86-64 processors that QEMU emulates: one with AVX2 and nothing later, one without.
# Each has to take the sets that it can run, and no others. Needs qemu-user; skips without it.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v qemu-x86_64 >/dev/null || { echo "skipped: there is no qemu-x86_64"; exit 0; }

test_on() {
    echo "== $1, which has to run $2"
    export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="qemu-x86_64 -cpu $1"
    local tests=(cargo test -q --workspace --test kernels --test attention --) found
    found=$("${tests[@]}" --nocapture every_kernel_set_that_is_required_is_there | sed -n 's/.*kernel sets tested: \([^;]*\);.*/\1/p')
    [ "$found" = "$2" ] || { echo "it runs $found"; exit 1; }
    "${tests[@]}"
}
test_on Haswell 'avx2, portable'
test_on Nehalem 'portable'
