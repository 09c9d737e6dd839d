//! Arrays in NumPy's file format, version 1.0: a magic, a Python dictionary as text, then the elements.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>. Only what the fixtures use is read:
//! little-endian 32-bit floats and integers in C order. The files are our own, so anything else is a panic.

use std::path::Path;

/// An array in C order: the last dimension varies fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct Array<T> {
    /// Extent of every dimension, slowest first.
    pub shape: Vec<usize>,
    /// All elements; as many as the product of `shape`.
    pub values: Vec<T>,
}

/// The 32-bit floats of a `.npy` file. Panics if the file holds something else.
pub fn read_f32(path: &Path) -> Array<f32> {
    read(path, "<f4", f32::from_le_bytes)
}

/// The 32-bit integers of a `.npy` file. Panics if the file holds something else.
pub fn read_i32(path: &Path) -> Array<i32> {
    read(path, "<i4", i32::from_le_bytes)
}

fn read<T>(path: &Path, element_type: &str, decode: fn([u8; 4]) -> T) -> Array<T> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00", "{}: magic and version", path.display());
    let header_size = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    let (header, data) = bytes[10..].split_at(header_size);
    let header = std::str::from_utf8(header).expect("the header is text");

    let field = |key: &str| {
        let start = header.find(key).unwrap_or_else(|| panic!("{}: no {key} in {header}", path.display()));
        header[start + key.len()..].trim_start_matches([':', ' '])
    };
    assert!(field("'descr'").starts_with(&format!("'{element_type}'")), "{}: {header}", path.display());
    assert!(field("'fortran_order'").starts_with("False"), "{}: {header}", path.display());
    let shape = field("'shape'").trim_start_matches('(').split(')').next().expect("split gives at least one part");
    let shape: Vec<usize> = shape
        .split(',')
        .map(str::trim)
        .filter(|extent| !extent.is_empty())
        .map(|extent| extent.parse().expect("an extent is a number"))
        .collect();

    assert_eq!(data.len(), 4 * shape.iter().product::<usize>(), "{}: bytes of data", path.display());
    let values = data.chunks_exact(4).map(|four| decode(four.try_into().expect("chunks of four"))).collect();
    Array { shape, values }
}
