#!/bin/sh
# Makes one object of a Rust archive: what the named functions of the header reach, and no other global names.
# ffi/prelink.sh ARCHIVE OBJECT [FUNCTION...], without functions for all of the header that the archive has.
set -eu

archive=$1 object=$2
shift 2
if [ $# -eq 0 ]; then
    # shellcheck disable=SC2046
    set -- $(readelf -sW "$archive" | awk '$5 == "GLOBAL" && $7 != "UND" && $8 ~ /^ossicle_/ { print $8 }')
fi
for function; do
    set -- "$@" "--undefined=$function"
    shift
done
# Groups are dissolved: they would be told from those of other Rust libraries by name, and names are what is hidden here.
ld -r --gc-sections --entry=0 --force-group-allocation "$@" "$archive" -o "$object"
# The standard library's bitcode is of no use any more, and tools with an older LLVM stumble over it.
objcopy --wildcard --keep-global-symbol='ossicle_*' --strip-debug -R .llvmbc -R .llvmcmd "$object"
