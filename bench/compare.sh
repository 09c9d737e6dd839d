#!/bin/sh
# Runs Ossicle and llama.cpp in turn on one file and prints medians and ratios:
#
#     bench/compare.sh [MODEL.gguf]
#
# Without a model it writes a synthetic one of 12 GB (models/synthetic-20b.gguf). llama.cpp is built from the source package
# of llama-cpp-python on PyPI, with its defaults but for -march=native, in bench/peers, which git ignores. It needs a C++
# compiler, Python with venv and pip, and 23 GB of memory: it copies the experts. ROUNDS (3) and THREADS (all) may be set.
set -eu
cd "$(dirname "$0")/.."
version=0.3.36
peers=bench/peers
model=${1:-models/synthetic-20b.gguf}

cargo build --release -p ossicle
if [ ! -e "$model" ]; then
    mkdir -p "$(dirname "$model")"
    target/release/ossicle synth --geometry 20b --seed 20 --out "$model.part"
    mv "$model.part" "$model"
fi

llama=$peers/llama-cpp-python-$version
if [ ! -x "$llama/build/bin/llama-bench" ]; then
    python3 -m venv "$peers/venv"
    "$peers/venv/bin/pip" install --quiet cmake ninja
    "$peers/venv/bin/pip" download --quiet --no-deps --no-binary llama-cpp-python --dest "$peers" "llama-cpp-python==$version"
    mkdir -p "$llama"
    tar -xzf "$peers/llama_cpp_python-$version.tar.gz" -C "$llama" --strip-components=1
    PATH=$PWD/$peers/venv/bin:$PATH
    cmake -G Ninja -S "$llama/vendor/llama.cpp" -B "$llama/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
        -DBUILD_SHARED_LIBS=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_BUILD_APP=OFF \
        -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF
    ninja -C "$llama/build" llama-bench
fi

exec python3 bench/compare.py target/release/ossicle "$llama/build/bin/llama-bench" "$model" \
    "${THREADS:-$(nproc)}" "${ROUNDS:-3}"
