//! Where everything goes in the file, and writing it.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use ossicle_core::file::TensorType;

use super::geometry::{Geometry, describe, for_each_tensor};
use super::vocabulary::Vocabulary;
use super::weights::{Distribution, Random, fill};
use crate::chunked_file;
use crate::gguf_writer::Header;

/// One tensor of the file.
pub struct Tensor {
    /// Number format.
    pub dtype: TensorType,
    distribution: Distribution,
    /// Where its data begin in the file.
    offset: u64,
    /// Bytes of its data.
    pub size: u64,
}

/// What will be where in the file.
pub struct Plan {
    /// All before the data of the tensors.
    pub header: Vec<u8>,
    /// In the order of the file.
    pub tensors: Vec<Tensor>,
    /// Bytes of the file.
    pub size: u64,
}

/// A part of a tensor: what one thread makes and writes at a time.
pub struct Chunk<'p> {
    tensor: &'p Tensor,
    /// The numbers of the tensor, and of the chunk in it.
    place: [u64; 2],
    /// Where it begins in the file.
    pub offset: u64,
    size: u64,
}

/// Values in all but the last chunk of a tensor. The bytes of the file depend on it.
const CHUNK_VALUES: u64 = 1 << 20;

impl Plan {
    /// The plan for a model whose attention, embedding and output matrices have the type `dense`.
    pub fn new(geometry: &Geometry, dense: TensorType) -> Self {
        let mut header = Header::default();
        describe(geometry, &mut header);
        Vocabulary::new(geometry.ordinary as u32, geometry.vocabulary as u32).describe(&mut header);
        let mut tensors = Vec::new();
        for_each_tensor(geometry, dense, |id, dtype, shape, distribution| {
            let offset = header.tensor(&id.to_string(), dtype, shape);
            let size = dtype.size(shape).expect("rows of whole blocks");
            tensors.push(Tensor { dtype, distribution, offset, size });
        });
        let data_size = header.data_size();
        let header = header.finish();
        let data_start = header.len() as u64;
        for tensor in &mut tensors {
            tensor.offset += data_start;
        }
        Self { header, tensors, size: data_start + data_size }
    }

    /// All tensors in parts, in the order of the file.
    pub fn chunks(&self) -> Vec<Chunk<'_>> {
        let mut chunks = Vec::new();
        for (number, tensor) in (0..).zip(&self.tensors) {
            let (block_len, block_size) = tensor.dtype.block().expect("a type of weights");
            let size_max = CHUNK_VALUES / block_len * block_size;
            for part in 0..tensor.size.div_ceil(size_max) {
                let start = part * size_max;
                let size = size_max.min(tensor.size - start);
                chunks.push(Chunk { tensor, place: [number, part], offset: tensor.offset + start, size });
            }
        }
        chunks
    }

    /// Writes the file. `progress` is told how many bytes are written, on any thread.
    ///
    /// The file appears under its name when it is complete; until then it has ".part" behind it.
    ///
    /// # Errors
    /// Those of writing; nothing is left of the file then.
    pub fn write(&self, path: &Path, seed: u64, mut progress: impl FnMut(u64) + Send) -> io::Result<()> {
        let part = path.with_added_extension("part");
        let chunks = self.chunks();
        let make = |number: usize, buffer: &mut Vec<u8>| {
            chunks[number].make(seed, buffer);
            Ok(Some(chunks[number].offset))
        };
        let done = |_, written| {
            progress(written);
            Ok(())
        };
        let written = File::create(&part)
            .and_then(|_| chunked_file::write(&part, self.size, &self.header, chunks.len(), make, done))
            .and_then(|()| fs::rename(&part, path));
        if written.is_err() {
            // What went wrong first is what the caller learns.
            let _ = fs::remove_file(&part);
        }
        written
    }
}

impl Chunk<'_> {
    /// Fills `buffer` with the bytes of the chunk.
    pub fn make(&self, seed: u64, buffer: &mut Vec<u8>) {
        buffer.resize(self.size as usize, 0);
        fill(&mut Random::new(seed, self.place), self.tensor.dtype, self.tensor.distribution, buffer);
    }
}
