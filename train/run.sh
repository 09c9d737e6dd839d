#!/usr/bin/env bash
# Makes the toy model from nothing: an environment, the training (an hour and a half of two cores of a Zen 4), the exports, the scores.
set -euo pipefail
cd "$(dirname "$0")"
if [ ! -d out/environment ]; then
    python3 -m venv out/environment
    out/environment/bin/pip install --quiet -r requirements.txt
fi
cargo build --release -p ossicle-host --example answer
# Memory that was freed is kept: to get it back from the kernel costs as much as the arithmetic.
export MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=200000000
exec out/environment/bin/python -m toy out/run "$@"
