#!/usr/bin/env bash
# Runs real clients against `ossicle serve` with a scripted model. Needs Python 3.11 and PyPI.
# Usage: server/clients/run.sh [FOLDER FOR THE VIRTUAL ENVIRONMENT]
set -euo pipefail
cd "$(dirname "$0")/../.."
environment=${1:-$(mktemp -d)}
if [ ! -x "$environment/bin/python" ]; then
    python3 -m venv "$environment"
fi
"$environment/bin/pip" --quiet install openai==3.57.0 openai-agents==0.24.0 openresponses-types==2.4.0
cargo build -p ossicle
"$environment/bin/python" server/clients/clients.py target/debug/ossicle tests/data/tiny-a/gguf/tiny-a.gguf
