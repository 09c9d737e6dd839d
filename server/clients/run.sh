#!/usr/bin/env bash
# Runs real clients against `ossicle serve`, with a scripted model and with the toy model. Needs Python 3.11 and PyPI; and npm for
# those in JavaScript and Codex CLI.
# Usage: server/clients/run.sh [FOLDER FOR WHAT IS INSTALLED]
#        server/clients/run.sh --fast
# The second is for continuous integration, after `cargo test --workspace`, whose program it takes: the clients in Python, kept in
# target/clients. Where PyPI cannot be reached it says that it is skipped.
set -euo pipefail
cd "$(dirname "$0")/../.."
packages="openai==3.57.0 openai-agents==0.24.0 openresponses-types==2.4.0"
others="schemathesis==4.32.5"
fast=
if [ "${1:-}" = --fast ]; then
    fast=yes others=
    set -- target/clients
fi
environment=${1:-$(mktemp -d)}
if [ ! -x "$environment/bin/python" ]; then
    python3 -m venv "$environment"
fi
pip=("$environment/bin/pip" --quiet --disable-pip-version-check --timeout 10 --retries 1)
# shellcheck disable=SC2086
if ! "${pip[@]}" install $packages $others; then
    if [ -n "$fast" ] && ! "${pip[@]}" download --no-deps --dest "$environment/download" openai; then
        echo "skipped clients in Python: PyPI cannot be reached"
        exit 0
    fi
    exit 1
fi
if [ -z "$fast" ] || [ ! -x target/debug/ossicle ]; then
    cargo build -p ossicle
fi
javascript=
if [ -z "$fast" ] && command -v npm > /dev/null; then
    javascript=$environment/javascript
    npm install --silent --no-audit --no-fund --prefix "$javascript" \
        openai@7 @openai/agents@0.20 ai@7 @ai-sdk/openai@4 @ai-sdk/open-responses@2 zod@4 @openai/codex@0.171
    cp server/clients/clients.mjs "$javascript"
fi
"$environment/bin/python" server/clients/clients.py target/debug/ossicle $javascript
if [ -n "$fast" ]; then
    exit 0
fi

# Requests that the published document allows, and such as it does not, to the toy model.
port=${PORT:-8765}
target/debug/ossicle serve --port "$port" --answer-seconds 20 &
trap 'kill $!' EXIT
"$environment/bin/schemathesis" run "http://127.0.0.1:$port/openapi.json" --wait-for-schema 30 --max-examples 40 --checks \
    not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,negative_data_rejection
