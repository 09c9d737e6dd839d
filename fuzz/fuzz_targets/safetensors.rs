//! A safetensors file is refused, or all that it hands out is as it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ossicle_core::file::TensorType;
use ossicle_core::file::safetensors::Safetensors;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = Safetensors::open(bytes, 0) else { return };
    let mut total = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap());
    for tensor in file.tensors() {
        let size = tensor.data.len() as u64;
        if !matches!(tensor.dtype, TensorType::Other { .. }) {
            assert_eq!(tensor.dtype.size(tensor.shape()), Some(size));
        }
        assert_eq!(tensor.data, &bytes[tensor.offset as usize..][..tensor.data.len()]);
        assert!(bytes[tensor.name_offset as usize..].starts_with(tensor.name.as_bytes()));
        total += size;
    }
    assert_eq!(total, bytes.len() as u64);
});
