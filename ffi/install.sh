#!/bin/sh
# Installs the C library below PREFIX, which may be moved afterwards: ffi/install.sh [--freestanding] [--profile NAME] PREFIX
#
#   include/                 ossicle.h, ossicle.hpp, gptoss_compat.h
#   lib/libossicle.a         one object, whose only global symbols are those of the header
#   lib/libossicle.so.0.1    the same object as a shared library; while the major version is 0, a minor one is another library
#   lib/pkgconfig/           ossicle.pc for the shared library, ossicle-static.pc for the static one
#   lib/cmake/ossicle/       find_package(ossicle CONFIG): ossicle::shared, ossicle::static
#   share/ossicle/           gptoss_compat.c, to be compiled with programs for OpenAI's C API
#   share/doc/ossicle/       licences, ours and those of what is linked in
#
# With --freestanding only the static library, without std: chapters 1 to 12 of the header.
set -eu

host=yes profile=release
while [ $# -gt 1 ]; do
    case $1 in
    --freestanding) host=no profile=freestanding ;;
    --profile) profile=$2 && shift ;;
    *) break ;;
    esac
    shift
done
[ $# -eq 1 ] || { sed -n '2s/.*: //p' "$0" >&2 && exit 2; }
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."

if [ $host = yes ]; then
    cargo build -p ossicle-ffi --profile "$profile"
else
    cargo rustc -p ossicle-ffi --profile "$profile" --no-default-features --crate-type staticlib
fi
built=${CARGO_TARGET_DIR:-target}/$(echo "$profile" | sed 's/^dev$/debug/')/libossicle.a
version=$(sed -n 's/^#define OSSICLE_VERSION_STRING "\(.*\)"/\1/p' include/ossicle.h)
soname=libossicle.so.$(echo "$version" | sed 's/^\(0\.[0-9]*\)\..*/\1/; t; s/\..*//')
lib=$prefix/lib
mkdir -p "$prefix/include" "$lib/pkgconfig" "$lib/cmake/ossicle" "$prefix/share/ossicle" "$prefix/share/doc/ossicle"

# A Rust archive is many objects with many names, two of which in one program collide. Here it becomes one object, of what our
# functions reach, that keeps its other names to itself.
ffi/prelink.sh "$built" "$lib/ossicle.o"
rm -f "$lib/libossicle.a"
ar crs "$lib/libossicle.a" "$lib/ossicle.o"
cp include/ossicle.h include/ossicle.hpp include/gptoss_compat.h "$prefix/include/"
cp compat/gptoss_compat.c "$prefix/share/ossicle/"

system='' # what the static library needs of the system
if [ $host = yes ]; then
    system='-lpthread -ldl -lm'
    echo "OSSICLE_${soname#libossicle.so.} { global: ossicle_*; local: *; };" >"$lib/ossicle.map"
    # shellcheck disable=SC2086
    cc -shared -o "$lib/$soname" "$lib/ossicle.o" -Wl,-soname,"$soname" -Wl,--version-script,"$lib/ossicle.map" \
        -Wl,--no-undefined -Wl,-z,relro,-z,now -Wl,--gc-sections $system -lgcc_s
    strip --strip-unneeded "$lib/$soname"
    ln -sf "$soname" "$lib/libossicle.so"
    rm "$lib/ossicle.map"
fi
rm "$lib/ossicle.o"

pkg_config() {
    cat <<END
prefix=\${pcfiledir}/../..

Name: ossicle
Description: gpt-oss as a library function
Version: $version
Cflags: -I\${prefix}/include
Libs: $1
END
}
pkg_config "\${prefix}/lib/libossicle.a $system" >"$lib/pkgconfig/ossicle-static.pc"
[ $host = no ] || pkg_config "-L\${prefix}/lib -lossicle" >"$lib/pkgconfig/ossicle.pc"

cat >"$lib/cmake/ossicle/ossicle-config.cmake" <<END
get_filename_component(_ossicle "\${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT TARGET ossicle::static)
  add_library(ossicle::static STATIC IMPORTED)
  set_target_properties(ossicle::static PROPERTIES
    IMPORTED_LOCATION "\${_ossicle}/lib/libossicle.a"
    INTERFACE_INCLUDE_DIRECTORIES "\${_ossicle}/include"
    INTERFACE_LINK_LIBRARIES "$(echo "$system" | sed 's/-l//g; s/ /;/g')")
endif()
END
[ $host = no ] || cat >>"$lib/cmake/ossicle/ossicle-config.cmake" <<END
if(NOT TARGET ossicle::shared)
  add_library(ossicle::shared SHARED IMPORTED)
  set_target_properties(ossicle::shared PROPERTIES
    IMPORTED_LOCATION "\${_ossicle}/lib/$soname"
    IMPORTED_SONAME "$soname"
    INTERFACE_INCLUDE_DIRECTORIES "\${_ossicle}/include")
endif()
END
# The same major and minor version, and at least the patch that is asked for.
cat >"$lib/cmake/ossicle/ossicle-config-version.cmake" <<END
set(PACKAGE_VERSION "$version")
if("\${PACKAGE_FIND_VERSION_MAJOR}.\${PACKAGE_FIND_VERSION_MINOR}" VERSION_EQUAL "$(echo "$version" | sed 's/\.[0-9]*$//')"
   AND NOT PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
END

cp LICENSE "$prefix/share/doc/ossicle/"
[ $host = no ] || cp host/data/LICENSE-tiktoken "$prefix/share/doc/ossicle/"
ffi/licences.sh $host >"$prefix/share/doc/ossicle/DEPENDENCIES"
