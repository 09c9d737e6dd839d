//! Chapter 1: the version.

use core::ffi::{CStr, c_char};

/// Major version of this header: of the library's interface.
pub const OSSICLE_VERSION_MAJOR: u32 = 0;
/// Minor version of this header.
pub const OSSICLE_VERSION_MINOR: u32 = 1;
/// Patch version of this header.
pub const OSSICLE_VERSION_PATCH: u32 = 0;
/// Version of this header as one number: major * 1000000 + minor * 1000 + patch.
pub const OSSICLE_VERSION_NUMBER: u32 = 1000;
/// `cbindgen.toml` has the macro for it.
const STRING: &CStr = c"0.1.0";

const _: () = assert!(
    OSSICLE_VERSION_NUMBER == OSSICLE_VERSION_MAJOR * 1_000_000 + OSSICLE_VERSION_MINOR * 1_000 + OSSICLE_VERSION_PATCH
);

/// Chapter 1: version.
///
/// The version of the library that is linked, as OSSICLE_VERSION_NUMBER has that of the header. While the major version is
/// 0, header and library must agree in the minor version.
///
/// Errors: none.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ossicle_version_number() -> u32 {
    OSSICLE_VERSION_NUMBER
}

/// The version of the library that is linked, as text that ends in a zero byte.
///
/// Memory: the text is constant.
/// Errors: none.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ossicle_version_string() -> *const c_char {
    STRING.as_ptr()
}
