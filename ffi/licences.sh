#!/bin/sh
# Prints what is linked into the C library with the texts of its licences: ffi/licences.sh yes|no, with `host` or without.
set -eu

cd "$(dirname "$0")/.."
features=$([ "$1" = yes ] || echo --no-default-features)
# shellcheck disable=SC2086
packages=$(cargo tree --locked -p ossicle-ffi -e normal,no-proc-macro $features --prefix none -f '{p}|{l}' |
    grep -v "(/" | sed "s, (\*),," | sort -u)
sources=${CARGO_HOME:-$HOME/.cargo}/registry/src

echo "Ossicle is under the Apache License 2.0; see LICENSE. Linked into it are the Rust standard library (MIT OR Apache-2.0) and:"
echo
echo "$packages" | sed 's/|/: /; s/ v/ /'
echo "$packages" | while IFS='|' read -r package licence; do
    folder=$(echo "$package" | sed 's/ v/-/')
    printf '\n---- %s: %s\n' "$package" "$licence"
    for text in "$sources"/*/"$folder"/[Ll][Ii][Cc][Ee][Nn][SsCc][Ee]* "$sources"/*/"$folder"/COPYING*; do
        [ ! -f "$text" ] || { echo && cat "$text"; }
    done
done
