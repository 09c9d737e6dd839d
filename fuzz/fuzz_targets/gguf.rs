//! A GGUF file is refused, or all that it hands out is as it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ossicle_core::file::gguf::Gguf;

fuzz_target!(|bytes: &[u8]| {
    let opened = Gguf::open(bytes, 0, |metadata| {
        if let Some(array) = metadata.value.as_array() {
            assert_eq!(array.iter().count(), array.len());
        }
        Ok(())
    });
    let Ok(gguf) = opened else { return };
    let count = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
    assert_eq!(gguf.tensors().count() as u64, count);
    let mut end = 0;
    for tensor in gguf.tensors() {
        let size = tensor.data.len() as u64;
        assert_eq!(tensor.dtype.size(tensor.shape()).unwrap_or(0), size);
        assert_eq!(tensor.data, &bytes[tensor.offset as usize..][..tensor.data.len()]);
        assert!(tensor.offset >= end);
        end = tensor.offset + size;
    }
});
