#!/usr/bin/env bash
# Two game engines, without a display: a scene in Godot 3 whose character opens a gate, and a character in LÖVE. On Debian 12, as
# root:
#
#     apt-get install --no-install-recommends godot3-server love gcc
#
# The headers of GDNative come from the Rust package gdnative-sys 0.9.3, which has those of Godot 3.2. A picture of the frames'
# times is drawn where Python has matplotlib. PROFILE is a profile of cargo's, `release` unless it is set, and PYTHON a Python.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${PROFILE:-release} python=${PYTHON:-python3}
cargo build -p ossicle-ffi --profile "$profile"
library=$PWD/target/${profile/#dev/debug}
out=$PWD/target/engines
mkdir -p "$out"

test_godot() {
    local sources=$out/gdnative
    mkdir -p "$sources/src"
    touch "$sources/src/lib.rs"
    printf '%s\n' '[package]' 'name = "gdnative"' 'edition = "2021"' '[dependencies]' 'gdnative-sys = "=0.9.3"' '[workspace]' \
        >"$sources/Cargo.toml"
    local headers
    headers=$(cargo metadata -q --format-version 1 --manifest-path "$sources/Cargo.toml" |
        grep -o '"manifest_path":"[^"]*gdnative-sys[^"]*"' | cut -d '"' -f 4)
    headers=$(dirname "$headers")/godot_headers

    # Godot writes into its project's folder.
    rm -rf "$out/godot"
    cp -r examples/godot "$out/godot"
    gcc -std=c99 -O2 -Wall -Wextra -Werror -shared -fPIC -I"$headers" -Iinclude examples/godot/npc.c "$library/libossicle.a" \
        -lm -lpthread -ldl -o "$out/godot/libnpc.so"
    HOME=$out/godot godot3-server --path "$out/godot" "$PWD/cli/data/toy.gguf" "$out/frames.csv" 2>"$out/godot.txt" |
        tee -a "$out/godot.txt" | tail -n 2
    if "$python" -c "import matplotlib" 2>/dev/null; then
        "$python" examples/godot/frames.py "$out/frames.csv" "$out/frames.png"
        echo "$out/frames.png"
    else
        echo "skipped: a picture of the frames, there is no matplotlib"
    fi
}

test_love() {
    love examples/love "$PWD/include/ossicle.h" "$library/libossicle.so" "$PWD/cli/data/toy.gguf" "Who are you?"
}

for engine in godot3-server:test_godot love:test_love; do
    if command -v "${engine%:*}" >/dev/null; then
        ${engine#*:}
    else
        echo "skipped: there is no ${engine%:*}"
    fi
done
