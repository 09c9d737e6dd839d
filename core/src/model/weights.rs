//! The weights of a model: every tensor found, its type and shape proven, given its place in the arithmetic.

use super::config::Config;
use super::experts::{ExpertCache, ExpertPart, ExpertProjection, LayerExperts, Piece, Slot};
use super::files::Files;
use super::names::{EXPERT_MATRICES, Naming, Role, TensorId};
use crate::error::{Error, FileError, Result, TensorError, TensorProblem};
use crate::file::{MAX_RANK, Storage, TensorEntry, TensorType, read};
use crate::format::{Matrix, Values, Vector, mxfp4, q8_0};
use crate::region::{Carver, Layout};

use core::convert::Infallible;
use core::mem::MaybeUninit;

/// One tensor of a file.
#[derive(Clone, Copy)]
pub struct Tensor<'w> {
    /// Which tensor it is.
    pub id: TensorId,
    /// Number format.
    pub dtype: TensorType,
    /// Outermost first; unused ones are 1.
    pub dims: [u64; MAX_RANK],
    /// The file it is in.
    pub file: u16,
    /// Where its data begins in that file, in bytes.
    pub offset: u64,
    /// Bytes of data.
    pub size: u64,
    /// Its data; empty if it is read as it is needed.
    pub data: &'w [u8],
}

/// A matrix and what is added to its outputs.
#[derive(Clone, Copy, Debug)]
pub struct Part<'w> {
    /// [outputs, inputs].
    pub weights: Matrix<'w>,
    /// [outputs].
    pub bias: Vector<'w>,
}

/// A linear map, whether its file keeps the rows in one matrix or in several: queries, keys and values; gates and linear
/// parts.
#[derive(Clone, Copy, Debug)]
pub struct Projection<'w> {
    parts: [Option<Part<'w>>; 3],
}

impl<'w> Projection<'w> {
    pub(super) fn new<const N: usize>(parts: [Option<Part<'w>>; N]) -> Self {
        Self { parts: core::array::from_fn(|i| parts.get(i).copied().flatten()) }
    }

    /// The matrices whose outputs, one after another, are the outputs of the map.
    pub fn parts(&self) -> impl Iterator<Item = &Part<'w>> {
        self.parts.iter().flatten()
    }

    /// Outputs of the map.
    pub fn outputs(&self) -> usize {
        self.parts().map(|part| part.weights.rows()).sum()
    }
}

/// The weights of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'w> {
    /// Gain before attention, [hidden].
    pub attention_norm: Vector<'w>,
    /// Outputs: all query heads, then key heads, then value heads.
    pub query_key_value: Projection<'w>,
    /// One logit for each query head that has no value.
    pub sinks: Vector<'w>,
    /// Inputs: all query heads.
    pub attention_output: Projection<'w>,
    /// Gain before the experts, [hidden].
    pub mlp_norm: Vector<'w>,
    /// Outputs: one logit for each expert.
    pub router: Projection<'w>,
    /// Outputs of each expert: gates and linear parts.
    pub gate_up: ExpertProjection<'w>,
    /// Whether gates and linear parts alternate.
    pub interleaved: bool,
    /// What each expert gives.
    pub down: ExpertProjection<'w>,
}

/// A model: its numbers, and views of its weights in the bytes of its files. Where these are not in memory, the weights that all
/// tokens need have been read into the region, and experts come into a cache there as they are needed: then one session at a time
/// can be stepped.
#[derive(Clone, Copy)]
pub struct Model<'r, 'w> {
    config: Config,
    tensors: &'r [Option<Tensor<'w>>],
    layers: &'r [Layer<'w>],
    embedding: Matrix<'w>,
    output_norm: Vector<'w>,
    unembedding: Matrix<'w>,
    /// Of a model that is read as it is needed.
    offloaded: Option<(&'w dyn Storage, &'r ExpertCache<'r>)>,
    /// Known from the beginning where it would take reading.
    fingerprint: Option<u64>,
}

impl<'r, 'w> Model<'r, 'w> {
    /// What [`Model::new`] takes: some hundred kilobytes, and what is read into memory of files that are not there.
    ///
    /// # Errors
    /// None that [`Files`] has not already refused. Of files that are not in memory, [`Error::File`] where a tensor is not one of
    /// this architecture, and [`Error::Capacity`] if there is no room for an expert of each layer.
    pub fn layout(files: &Files<'w>) -> Result<Layout>
    where
        'r: 'w,
    {
        let mut carver = Carver::measuring();
        let (_, slot) = carve_tensors(&mut carver, files)?;
        carver.try_from_fn::<Layer<'_>>(files.config().layers, |_| unreachable!("a measuring carver makes nothing"))?;
        carve_cache(&mut carver, files, &slot)?;
        Ok(carver.layout())
    }

    /// Finds every weight. Only headers are read, not the weights; of files that are not in memory, all that is not an expert's.
    ///
    /// # Errors
    /// [`Error::Tensor`] where a tensor is missing, comes twice, overlaps another, or has a type or shape that does not
    /// belong there; [`Error::File`] where a tensor is not one of this architecture; [`Error::Capacity`] as [`Model::layout`];
    /// [`Error::Read`].
    pub fn new(region: &'r mut [MaybeUninit<u8>], files: &Files<'w>) -> Result<Self>
    where
        'r: 'w,
    {
        let mut carver = Carver::placing(region)?;
        let mut config = *files.config();
        let (tensors, slot) = carve_tensors(&mut carver, files)?;
        let tensors = Tensors { slots: tensors, naming: files.naming(), slot };
        tensors.refuse_overlaps()?;
        if config.vocabulary == 0 {
            let embedding = tensors.get(Role::Embedding, 0)?;
            let [rows, hidden, ..] = embedding.dims;
            if !(1..=Config::VOCABULARY_MAX).contains(&rows) {
                let expected = [Config::VOCABULARY_MAX, hidden, 1, 1];
                return Err(embedding.refuse(TensorProblem::Shape { expected, found: embedding.dims }));
            }
            config.vocabulary = rows as usize;
        }
        let layers = carver.try_from_fn(config.layers, |layer| tensors.layer(&config, layer))?;
        let cache = carve_cache(&mut carver, files, &slot)?.first();
        let Config { vocabulary, hidden, .. } = config;
        let mut model = Self {
            embedding: tensors.matrix(Role::Embedding, 0, vocabulary, hidden)?,
            output_norm: tensors.vector(Role::OutputNorm, 0, hidden)?,
            unembedding: tensors.matrix(Role::Unembedding, 0, vocabulary, hidden)?,
            config,
            tensors: tensors.slots,
            layers,
            offloaded: files.offload().map(|offload| offload.storage).zip(cache),
            fingerprint: None,
        };
        if let Some((storage, _)) = model.offloaded {
            let read = |piece: &Piece<'_>, block: &mut [u8]| read(storage, piece.file, piece.offset, block);
            model.fingerprint = Some(model.sum_of_first_values(read)?);
        }
        Ok(model)
    }

    /// The numbers of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The weights of one layer.
    ///
    /// # Panics
    /// If the model has no such layer.
    pub fn layer(&self, layer: usize) -> &'r Layer<'w> {
        &self.layers[layer]
    }

    /// [vocabulary, hidden]: what each token puts into the residual stream.
    pub fn embedding(&self) -> &Matrix<'w> {
        &self.embedding
    }

    /// Gain before the unembedding, [hidden].
    pub fn output_norm(&self) -> &Vector<'w> {
        &self.output_norm
    }

    /// [vocabulary, hidden]: residual stream to logits.
    pub fn unembedding(&self) -> &Matrix<'w> {
        &self.unembedding
    }

    /// All tensors, the common ones first, then layer by layer.
    pub fn tensors(&self) -> impl Iterator<Item = &'r Tensor<'w>> {
        self.tensors.iter().flatten()
    }

    /// The experts in memory, of a model that is read as it is needed.
    pub fn expert_cache(&self) -> Option<&'r ExpertCache<'r>> {
        self.offloaded.map(|(_, cache)| cache)
    }

    /// The experts of one layer, for the time of a step.
    pub(crate) fn layer_experts(&self, layer: usize) -> Result<LayerExperts<'_>> {
        match self.offloaded {
            None => Ok(LayerExperts::of(&self.layers[layer])),
            Some((storage, cache)) => LayerExperts::cached((layer, &self.layers[layer]), storage, cache),
        }
    }

    /// Reads every weight and refuses the first that is not a finite number. A session notices such weights too, once it
    /// meets them, but cannot say where they are.
    ///
    /// # Errors
    /// [`Error::Tensor`] with the place; [`Error::Read`].
    pub fn check_values(&self) -> Result<()> {
        let storage = self.offloaded.map(|(storage, _)| storage);
        self.tensors().try_for_each(|tensor| tensor.check_values(storage))
    }
}

impl Model<'_, '_> {
    /// A number that another model hardly has, whichever layout this one is read from: a sum over the numbers of the model and
    /// the first values of its matrices, sinks and gains. Weights that differ elsewhere only are not told apart.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint.unwrap_or_else(|| {
            let Ok(sum) = self.sum_of_first_values(|piece, block| {
                block.copy_from_slice(&piece.data[..block.len()]);
                Ok::<_, Infallible>(())
            });
            sum
        })
    }

    /// `read` fills a buffer with the beginning of a piece of the experts.
    fn sum_of_first_values<E>(
        &self,
        mut read: impl FnMut(&Piece<'_>, &mut [u8]) -> core::result::Result<(), E>,
    ) -> core::result::Result<u64, E> {
        let mut sum = self.config.fingerprint();
        let mut values = [0.0; FIRST_VALUES];
        let mut add = |values: &[f32]| values.iter().for_each(|value| sum.add(value.to_bits().into()));
        let layers = self.layers.iter();
        let vectors = layers.flat_map(|layer| [&layer.attention_norm, &layer.sinks, &layer.mlp_norm]);
        for vector in vectors.chain([&self.output_norm]) {
            let values = &mut values[..vector.len().min(FIRST_VALUES)];
            vector.read(0, values);
            add(values);
        }
        let mut first_values_of = |matrix: &Matrix<'_>| {
            let len = matrix.columns().min(FIRST_VALUES);
            matrix.read(0, 0, &mut values[..len]);
            (values, len)
        };
        for layer in self.layers {
            for projection in [&layer.query_key_value, &layer.attention_output, &layer.router] {
                for part in projection.parts().take(1) {
                    let (values, len) = first_values_of(&part.weights);
                    add(&values[..len]);
                }
            }
            for projection in [&layer.gate_up, &layer.down] {
                for part in projection.parts().take(1) {
                    add(&part.first_values(&mut read)?);
                }
            }
        }
        for matrix in [&self.embedding, &self.unembedding] {
            let (values, len) = first_values_of(matrix);
            add(&values[..len]);
        }
        Ok(sum.value())
    }
}

/// So many are in a block of any number format.
const FIRST_VALUES: usize = 32;

impl Tensor<'_> {
    fn refuse(&self, problem: TensorProblem) -> Error {
        Error::Tensor(TensorError { tensor: self.id, file: self.file, offset: self.offset, problem })
    }

    fn check_values(&self, storage: Option<&dyn Storage>) -> Result<()> {
        let (Some(storage), true) = (storage, self.data.is_empty()) else { return self.check(0, self.data) };
        let mut piece = [0; CHECKED];
        let mut first = 0;
        while first < self.size {
            let piece = &mut piece[..(self.size - first).min(CHECKED as u64) as usize];
            read(storage, self.file, self.offset + first, piece)?;
            self.check(first, piece)?;
            first += piece.len() as u64;
        }
        Ok(())
    }

    /// `data` is what it has from its byte `first` on: whole blocks.
    fn check(&self, first: u64, data: &[u8]) -> Result<()> {
        // Position and length of the first number that is not finite.
        let at = match (self.dtype, self.id.role) {
            (TensorType::F32, _) => {
                data.chunks(4).position(|bytes| bytes[3] & 0x7f == 0x7f && bytes[2] >> 7 == 1).map(|i| 4 * i)
            }
            (TensorType::Bf16, _) => {
                data.chunks(2).position(|bytes| bytes[1] & 0x7f == 0x7f && bytes[0] >> 7 == 1).map(|i| 2 * i)
            }
            (TensorType::F16, _) => data.chunks(2).position(|bytes| bytes[1] & 0x7c == 0x7c).map(|i| 2 * i),
            (TensorType::Q8_0, _) => {
                let mut blocks = data.chunks(q8_0::BLOCK_SIZE);
                blocks.position(|block| block[1] & 0x7c == 0x7c).map(|i| q8_0::BLOCK_SIZE * i)
            }
            (TensorType::Mxfp4, _) => data.chunks(17).position(|block| block[0] == 255).map(|i| 17 * i),
            (TensorType::U8, Role::GateUpScales | Role::DownScales) => data.iter().position(|scale| *scale == 255),
            (TensorType::U8 | TensorType::Other { .. }, _) => None,
        };
        match at {
            None => Ok(()),
            Some(at) => Err(Error::Tensor(TensorError {
                tensor: self.id,
                file: self.file,
                offset: self.offset + first + at as u64,
                problem: TensorProblem::NotFinite,
            })),
        }
    }
}

/// Bytes that are checked at a time where they have to be read: whole blocks of any format.
const CHECKED: usize = 4 * 17 * q8_0::BLOCK_SIZE;

fn slots(layers: usize) -> usize {
    Role::PER_MODEL + layers * Role::PER_LAYER
}

/// Finds all tensors. Of files that are not in memory, reads what all tokens need, and finds how large a slot for experts is.
fn carve_tensors<'r: 'w, 'w>(
    carver: &mut Carver<'r>,
    files: &Files<'w>,
) -> Result<(&'r mut [Option<Tensor<'w>>], Slot)> {
    let config = files.config();
    let tensors = carver.filled(slots(config.layers), None)?;
    let mut slot = Slot::default();
    if carver.is_measuring() && files.offload().is_none() {
        return Ok((tensors, slot));
    }
    files.for_each_tensor(|file, entry| {
        let refuse = |expected| FileError { file, offset: entry.name_offset, expected, found: 0 };
        let id = TensorId::parse(entry.name, files.naming()).ok_or(refuse("the name of a gpt-oss tensor"))?;
        if usize::from(id.layer) >= config.layers {
            return Err(refuse("the tensor of a layer that the model has").into());
        }
        let TensorEntry { dtype, dims, offset, size, mut data, .. } = entry;
        if let Some(offload) = files.offload() {
            let in_memory = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
            data = match EXPERT_MATRICES.iter().position(|role| *role == id.role) {
                Some(matrix) => {
                    slot.add(matrix, in_memory(size / config.experts as u64));
                    &[]
                }
                None => {
                    let copy = carver.filled(in_memory(size), 0)?;
                    if !copy.is_empty() {
                        read(offload.storage, file, offset, copy)?;
                    }
                    copy
                }
            };
        }
        let tensor = Tensor { id, dtype, dims, file, offset, size, data };
        match tensors.get_mut(id.slot()).and_then(|place| place.replace(tensor)) {
            None => Ok(()),
            Some(_) => Err(tensor.refuse(TensorProblem::Repeated)),
        }
    })?;
    Ok((tensors, slot))
}

/// One cache for experts, of a model that is read as it is needed.
fn carve_cache<'r>(carver: &mut Carver<'r>, files: &Files<'_>, slot: &Slot) -> Result<&'r [ExpertCache<'r>]> {
    let Some(offload) = files.offload() else { return Ok(&[]) };
    let cache = |carver: &mut Carver<'r>, _| ExpertCache::carve(carver, files.config(), slot, offload.experts_size);
    Ok(carver.carve_each(1, cache)?)
}

/// The tensors found, by slot.
struct Tensors<'r, 'w> {
    slots: &'r [Option<Tensor<'w>>],
    naming: Naming,
    /// Of the cache for experts.
    slot: Slot,
}

impl<'r, 'w> Tensors<'r, 'w> {
    fn id(&self, role: Role, layer: usize) -> TensorId {
        TensorId { role, layer: layer as u16, naming: self.naming }
    }

    fn has(&self, role: Role, layer: usize) -> bool {
        self.slots[self.id(role, layer).slot()].is_some()
    }

    fn get(&self, role: Role, layer: usize) -> Result<&'r Tensor<'w>> {
        let tensor = self.id(role, layer);
        let missing = TensorError { tensor, file: 0, offset: 0, problem: TensorProblem::Missing };
        self.slots[tensor.slot()].as_ref().ok_or(Error::Tensor(missing))
    }

    /// No two tensors may share bytes: then one of them is not what its name says.
    fn refuse_overlaps(&self) -> Result<()> {
        let tensors = || self.slots.iter().flatten();
        for (number, tensor) in tensors().enumerate() {
            let end = |tensor: &Tensor<'_>| tensor.offset + tensor.size;
            let overlaps = |other: &&Tensor<'_>| {
                tensor.file == other.file && tensor.offset < end(other) && other.offset < end(tensor)
            };
            if let Some(other) = tensors().skip(number + 1).find(overlaps) {
                return Err(tensor.refuse(TensorProblem::Overlaps(other.id)));
            }
        }
        Ok(())
    }

    /// A tensor of exactly this shape.
    fn shaped<const RANK: usize>(&self, role: Role, layer: usize, shape: [usize; RANK]) -> Result<&'r Tensor<'w>> {
        let tensor = self.get(role, layer)?;
        let expected = core::array::from_fn(|i| shape.get(i).map_or(1, |dim| *dim as u64));
        if tensor.dims != expected {
            return Err(tensor.refuse(TensorProblem::Shape { expected, found: tensor.dims }));
        }
        Ok(tensor)
    }

    fn values(tensor: &Tensor<'w>, expected: &'static str) -> Result<Values<'w>> {
        Ok(match tensor.dtype {
            TensorType::F32 => Values::F32(tensor.data),
            TensorType::F16 => Values::F16(tensor.data),
            TensorType::Bf16 => Values::Bf16(tensor.data),
            TensorType::Q8_0 => Values::Q8_0(tensor.data),
            found => return Err(tensor.refuse(TensorProblem::Type { expected, found })),
        })
    }

    fn vector(&self, role: Role, layer: usize, len: usize) -> Result<Vector<'w>> {
        self.vector_of(self.shaped(role, layer, [len])?, len)
    }

    fn vector_of(&self, tensor: &Tensor<'w>, len: usize) -> Result<Vector<'w>> {
        const EXPECTED: &str = "F32, F16 or BF16";
        let wrong = tensor.refuse(TensorProblem::Type { expected: EXPECTED, found: tensor.dtype });
        Vector::new(len, Self::values(tensor, EXPECTED)?).ok_or(wrong)
    }

    fn matrix(&self, role: Role, layer: usize, rows: usize, columns: usize) -> Result<Matrix<'w>> {
        const EXPECTED: &str = "F32, F16, BF16 or Q8_0";
        let tensor = self.shaped(role, layer, [rows, columns])?;
        let wrong = tensor.refuse(TensorProblem::Type { expected: EXPECTED, found: tensor.dtype });
        Matrix::new(rows, columns, Self::values(tensor, EXPECTED)?).ok_or(wrong)
    }

    fn part(&self, weight: Role, bias: Role, layer: usize, rows: usize, columns: usize) -> Result<Part<'w>> {
        Ok(Part { weights: self.matrix(weight, layer, rows, columns)?, bias: self.vector(bias, layer, rows)? })
    }

    /// A tensor of which each expert has a part.
    fn piece(&self, tensor: &Tensor<'w>, experts: usize) -> Piece<'w> {
        let matrix = EXPERT_MATRICES.iter().position(|role| *role == tensor.id.role).unwrap_or_default();
        let size = usize::try_from(tensor.size / experts as u64).unwrap_or(usize::MAX);
        Piece { file: tensor.file, offset: tensor.offset, size, data: tensor.data, at: self.slot.at(matrix) }
    }

    /// The same matrix of all experts, one after another.
    fn experts(
        &self,
        [weight, scales, bias]: [Role; 3],
        layer: usize,
        [experts, rows, columns]: [usize; 3],
    ) -> Result<ExpertPart<'w>> {
        let (tensor, pieces) = if self.naming == Naming::Gguf {
            let tensor = self.shaped(weight, layer, [experts, rows, columns])?;
            if tensor.dtype != TensorType::Mxfp4 {
                Self::values(tensor, "MXFP4, F32, F16, BF16 or Q8_0")?;
            }
            (tensor, [self.piece(tensor, experts), Piece::NONE])
        } else {
            let in_row = columns / mxfp4::BLOCK_LEN;
            let tensor = self.shaped(weight, layer, [experts, rows, in_row, mxfp4::BLOCK_SIZE])?;
            let scales = self.shaped(scales, layer, [experts, rows, in_row])?;
            for tensor in [tensor, scales] {
                if tensor.dtype != TensorType::U8 {
                    return Err(tensor.refuse(TensorProblem::Type { expected: "U8", found: tensor.dtype }));
                }
            }
            (tensor, [tensor, scales].map(|tensor| self.piece(tensor, experts)))
        };
        let wrong = tensor.refuse(TensorProblem::Type { expected: "as many bytes as the shape", found: tensor.dtype });
        let bias = self.vector_of(self.shaped(bias, layer, [experts, rows])?, experts * rows)?;
        ExpertPart::new(tensor.dtype, [rows, columns], pieces, bias).ok_or(wrong)
    }

    fn layer(&self, config: &Config, layer: usize) -> Result<Layer<'w>> {
        let Config { hidden, intermediate, experts, head_dim, .. } = *config;
        let (queries, keys) = (config.heads * head_dim, config.kv_heads * head_dim);
        let query_key_value = if self.has(Role::QueryKeyValueWeight, layer) || self.naming == Naming::Original {
            let rows = queries + 2 * keys;
            [Some(self.part(Role::QueryKeyValueWeight, Role::QueryKeyValueBias, layer, rows, hidden)?), None, None]
        } else {
            [
                Some(self.part(Role::QueryWeight, Role::QueryBias, layer, queries, hidden)?),
                Some(self.part(Role::KeyWeight, Role::KeyBias, layer, keys, hidden)?),
                Some(self.part(Role::ValueWeight, Role::ValueBias, layer, keys, hidden)?),
            ]
        };
        let interleaved = self.naming != Naming::Gguf;
        let gate_up = if interleaved {
            let roles = [Role::GateUpWeight, Role::GateUpScales, Role::GateUpBias];
            ExpertProjection::new([self.experts(roles, layer, [experts, 2 * intermediate, hidden])?])
        } else {
            let shape = [experts, intermediate, hidden];
            ExpertProjection::new([
                self.experts([Role::GateWeight, Role::GateUpScales, Role::GateBias], layer, shape)?,
                self.experts([Role::UpWeight, Role::GateUpScales, Role::UpBias], layer, shape)?,
            ])
        };
        let down = [Role::DownWeight, Role::DownScales, Role::DownBias];
        Ok(Layer {
            attention_norm: self.vector(Role::AttentionNorm, layer, hidden)?,
            query_key_value: Projection::new(query_key_value),
            sinks: self.vector(Role::Sinks, layer, config.heads)?,
            attention_output: Projection::new([Some(self.part(
                Role::AttentionOutputWeight,
                Role::AttentionOutputBias,
                layer,
                hidden,
                queries,
            )?)]),
            mlp_norm: self.vector(Role::MlpNorm, layer, hidden)?,
            router: Projection::new([Some(self.part(Role::RouterWeight, Role::RouterBias, layer, experts, hidden)?)]),
            gate_up,
            interleaved,
            down: ExpertProjection::new([self.experts(down, layer, [experts, hidden, intermediate])?]),
        })
    }
}
