//! The containers.

use ossicle_core::file::{gguf::Gguf, safetensors::Safetensors};
#[test]
fn smoke() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/data/");
    for f in ["tiny-a/gguf/tiny-a.gguf", "tiny-a/gguf/tiny-a-q8_0.gguf", "tiny-b/gguf/tiny-b.gguf"] {
        let b = std::fs::read(format!("{data}{f}")).unwrap();
        let g = Gguf::open(&b, 0, |m| {
            println!("{} {:?}", m.key, m.value.as_array().map(|a| a.len()).ok_or(m.value));
            Ok(())
        })
        .unwrap();
        for t in g.tensors() {
            println!("{} {} {:?} {} {}", t.name, t.dtype, t.shape(), t.offset, t.data.len());
        }
    }
    for f in [
        "tiny-a/hf/model.safetensors",
        "tiny-a/original/model.safetensors",
        "tiny-a/ref/trace-s7.safetensors",
        "tiny-b/hf-sharded/model-00000-of-00004.safetensors",
    ] {
        let b = std::fs::read(format!("{data}{f}")).unwrap();
        let g = Safetensors::open(&b, 0).unwrap();
        for t in g.tensors() {
            println!("{} {} {:?} {} {}", t.name, t.dtype, t.shape(), t.offset, t.data.len());
        }
    }
}
