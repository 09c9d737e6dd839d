#!/usr/bin/env bash
# WebAssembly: the tests of the kernels in Node, then a conversation with the toy model through the C ABI, in Node and in a
# page, which both have to say what `ossicle chat` says. On Debian 12, as root:
#
#     apt-get install --no-install-recommends rustc-web cargo-web rust-web-src clang wasi-libc nodejs chromium
#     rustup toolchain link debian /usr
#
# Node has to be version 20 or later. Without chromium the page is not tested, and without wasi-libc the kernels are not.
# `tests/wasm.sh talk` leaves the kernels out, whose tests take seven minutes of a processor to build.
set -euo pipefail
cd "$(dirname "$0")/.."

test_kernels() {
    local library=/usr/lib/wasm32-wasi variable=CARGO_TARGET_WASM32_WASIP1
    if [ ! -e $library/crt1-command.o ]; then
        echo "skipped: the tests of the kernels, there is no $library"
        return
    fi
    # Debian's WASI library is older than the standard library, which names functions for threads that it does not have. No
    # test calls them: they trap.
    (
        export RUSTC_BOOTSTRAP=1 OSSICLE_REQUIRE_KERNELS=simd128 CARGO_TARGET_DIR=$PWD/target/wasm
        export ${variable}_LINKER="$(find "$(rustc +stable --print sysroot)" -name rust-lld -print -quit)"
        export ${variable}_RUNNER="node --no-warnings $PWD/tests/wasi.mjs"
        export ${variable}_RUSTFLAGS="-C target-feature=+simd128 -C link-self-contained=no -L $library \
            -C link-arg=$library/crt1-command.o -C link-arg=--unresolved-symbols=ignore-all"
        cargo +debian test -Z build-std=std,panic_abort,test --target wasm32-wasip1 -p ossicle-tests --test kernels --test attention
    )
}

test_talk() {
    local questions=('Who are you?' 'What is 58 + 27?') out=examples/wasm/out
    examples/wasm/build.sh
    # As it comes: reasoning is on standard error.
    printf '%s\n' "${questions[@]}" | ${OSSICLE:-cargo run -q --release -p ossicle --} \
        chat --model cli/data/toy.gguf --temperature 0 --show-reasoning >$out/expected.txt 2>&1
    node examples/wasm/chat.mjs "${questions[@]}" | diff - $out/expected.txt
    echo "Node says what the command says"
    if command -v chromium >/dev/null; then
        # The page asks what stands behind its #. Waiting costs no time there, so it is done when the time is up.
        local page=file://$PWD/examples/wasm/chat.html# question profile
        for question in "${questions[@]}"; do page=$page$(node -p 'encodeURIComponent(process.argv[1])' "$question")%0A; done
        profile=$(mktemp -d)
        # shellcheck disable=SC2064
        trap "rm -r '$profile'" EXIT
        local browse=(chromium --headless --no-sandbox --disable-gpu --user-data-dir="$profile" --virtual-time-budget=600000)
        "${browse[@]}" --window-size=800,600 --screenshot=$out/page.png "$page" 2>/dev/null
        "${browse[@]}" --dump-dom "$page" 2>/dev/null | sed -n '/<main/,/<\/main>/p' |
            sed 's/<p class="question">[^<]*<\/p>//g; s/<[^>]*>//g; $d' | diff - $out/expected.txt
        echo "the page says what the command says: $out/page.png"
    else
        echo "skipped: the page, there is no chromium"
    fi
}

[ "${1:-}" = talk ] || test_kernels
test_talk
