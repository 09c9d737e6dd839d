//! Low-rank adapters (E. Hu et al., LoRA, 2021): what fine-tuning changed in the matrices of a model, kept beside it.
//!
//! What comes to the outputs of a matrix for inputs x is scale * up (down x). `down` has as many rows as `up` has columns, the
//! rank: a few, so that a character or a task takes megabytes where a model takes gigabytes.
//!
//! Files come from PEFT (safetensors and an `adapter_config.json`) and from llama.cpp's converter (GGUF). `down` is borrowed from
//! them. `up` is transposed, once, into the region: a row has few numbers there, and many outputs side by side are added at once.

use core::mem::MaybeUninit;

use super::config::Config;
use super::files::Files;
use super::names::Naming;
use super::weights::Model;
use crate::error::{Error, FileError, Result};
use crate::file::gguf::Gguf;
use crate::file::json::{self, Kind};
use crate::file::safetensors::Safetensors;
use crate::file::snapshot::Checksum;
use crate::file::{TensorEntry, TensorType};
use crate::format::{Matrix, Values};
use crate::region::{Carver, Layout};

/// The file of an adapter: its header has been read, and nothing else.
#[derive(Clone, Copy)]
pub struct AdapterFile<'w> {
    container: Container<'w>,
    /// None if changes count as they are.
    alpha: Option<f32>,
    /// Whether alpha is divided by the root of the rank, not by the rank.
    by_root: bool,
}

#[derive(Clone, Copy)]
enum Container<'w> {
    Gguf(Gguf<'w>),
    Safetensors(Safetensors<'w>),
}

fn refuse(file: u16, offset: u64, expected: &'static str, found: u64) -> Error {
    FileError { file, offset, expected, found }.into()
}

impl<'w> AdapterFile<'w> {
    /// Opens a GGUF file as llama.cpp's converter for adapters writes it.
    ///
    /// # Errors
    /// [`Error::File`] where it is not GGUF, or not a LoRA adapter for gpt-oss.
    pub fn gguf(bytes: &'w [u8]) -> Result<Self> {
        let (mut architecture, mut kind, mut alpha) = (false, false, None);
        let file = Gguf::open(bytes, 0, |metadata| {
            let value = metadata.value.as_bytes();
            match metadata.key {
                "general.architecture" => architecture = matches!(value, Some(b"gpt-oss" | b"gptoss")),
                "adapter.type" => kind = value == Some(b"lora"),
                "adapter.lora.alpha" => alpha = metadata.value.as_f64(),
                "adapter.alora.invocation_tokens" => {
                    return Err(refuse(0, metadata.offset, "an adapter that counts from the first token on", 0));
                }
                _ => {}
            }
            Ok(())
        })?;
        if !architecture {
            return Err(refuse(0, 0, "gpt-oss or gptoss in general.architecture", 0));
        }
        if !kind {
            return Err(refuse(0, 0, "lora in adapter.type", 0));
        }
        // llama.cpp takes 0 for no alpha.
        let alpha = finite(alpha).filter(|alpha| *alpha != 0.0);
        Ok(Self { container: Container::Gguf(file), alpha, by_root: false })
    }

    /// Opens what PEFT saves: `adapter_model.safetensors` and its `adapter_config.json`.
    ///
    /// # Errors
    /// [`Error::File`] where the one is not safetensors, or the other not the configuration of a LoRA adapter, or of a kind whose
    /// arithmetic is another (DoRA, an alpha for each matrix); offsets of the latter are in the configuration.
    pub fn peft(bytes: &'w [u8], config: &[u8]) -> Result<Self> {
        let refuse = |offset: usize, expected| Err(refuse(FileError::CONFIGURATION, offset as u64, expected, 0));
        let file = Safetensors::open(bytes, 0)?;
        let config = json::parse(config).map_err(|error| error.in_file(FileError::CONFIGURATION, 0))?;
        let Some(members) = config.as_object() else { return refuse(0, "an object") };
        let (mut kind, mut alpha, mut by_root) = (false, None, false);
        for member in members.iter() {
            let value = member.value;
            let is_off = matches!(value.kind(), Kind::Null) || value.as_bool() == Some(false);
            match member.key.plain() {
                Some("peft_type") => kind = value.as_str().and_then(|kind| kind.plain()) == Some("LORA"),
                Some("lora_alpha") => alpha = finite(value.as_f64()),
                Some("use_rslora") => by_root = value.as_bool() == Some(true),
                Some("use_dora") if !is_off => return refuse(value.offset(), "an adapter without DoRA"),
                Some("alora_invocation_tokens") if !is_off => {
                    return refuse(value.offset(), "an adapter that counts from the first token on");
                }
                Some("layer_replication") if !is_off => return refuse(value.offset(), "the layers of the model"),
                // Others change the model too, and PEFT says so until it has converted them.
                Some("init_lora_weights")
                    if value
                        .as_str()
                        .is_some_and(|way| !matches!(way.plain(), Some("gaussian" | "eva" | "orthogonal"))) =>
                {
                    return refuse(
                        value.offset(),
                        "an adapter of the model as it was, converted from PiSSA, OLoRA and such",
                    );
                }
                Some("alpha_pattern") if value.as_object().is_some_and(|alphas| alphas.iter().next().is_some()) => {
                    return refuse(value.offset(), "one alpha for all matrices");
                }
                _ => {}
            }
        }
        if !kind {
            return refuse(config.offset(), "LORA as peft_type");
        }
        let Some(alpha) = alpha else { return refuse(config.offset(), "a number as lora_alpha") };
        Ok(Self { container: Container::Safetensors(file), alpha: Some(alpha), by_root })
    }

    fn for_each_tensor(&self, mut visit: impl FnMut(TensorEntry<'w>) -> Result<()>) -> Result<()> {
        match self.container {
            Container::Gguf(file) => file.tensors().try_for_each(&mut visit),
            Container::Safetensors(file) => file.tensors().try_for_each(&mut visit),
        }
    }

    fn scale(&self, rank: usize) -> f32 {
        let rank = rank as f32;
        self.alpha.map_or(1.0, |alpha| alpha / if self.by_root { libm::sqrtf(rank) } else { rank })
    }
}

fn finite(number: Option<f64>) -> Option<f32> {
    number.map(|number| number as f32).filter(|number| number.is_finite())
}

/// A matrix that an adapter can change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Query,
    Key,
    Value,
    AttentionOutput,
    Router,
    Gate,
    Up,
    Down,
    /// PEFT names both matrices of the experts by the order in which it wrapped them; their shapes tell which is which.
    ExpertsOuter,
    ExpertsInner,
}

/// Targets by which an adapter is kept.
const TARGETS: usize = Target::Down as usize + 1;

/// Of the first halves, so many words are looked at to tell adapters apart.
const FIRST_WORDS: usize = 64;

/// Targets by which files name them.
const NAMED: usize = Target::ExpertsInner as usize + 1;

/// The projections of a layer, in the order in which it comes to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Queries, keys and values.
    QueryKeyValue,
    /// The projection after attention.
    AttentionOutput,
    /// The router.
    Router,
    /// Gates and linear parts of the experts.
    GateUp,
    /// What the experts give.
    Down,
}

impl Place {
    /// Whose changes these are.
    fn targets(self) -> core::ops::Range<usize> {
        let (first, last) = match self {
            Self::QueryKeyValue => (Target::Query, Target::Value),
            Self::AttentionOutput => (Target::AttentionOutput, Target::AttentionOutput),
            Self::Router => (Target::Router, Target::Router),
            Self::GateUp => (Target::Gate, Target::Up),
            Self::Down => (Target::Down, Target::Down),
        };
        first as usize..last as usize + 1
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Down,
    Up,
}

/// Layer, matrix and half that a tensor is for.
struct Name {
    layer: usize,
    target: Target,
    half: Half,
}

impl Name {
    fn gguf(name: &str) -> Option<Self> {
        let (layer, name) = name.strip_prefix("blk.")?.split_once('.')?;
        let (target, half) = name.split_once(".weight.lora_")?;
        Some(Self {
            layer: layer.parse().ok()?,
            target: match target {
                "attn_q" => Target::Query,
                "attn_k" => Target::Key,
                "attn_v" => Target::Value,
                "attn_output" => Target::AttentionOutput,
                "ffn_gate_inp" => Target::Router,
                "ffn_gate_exps" => Target::Gate,
                "ffn_up_exps" => Target::Up,
                "ffn_down_exps" => Target::Down,
                _ => return None,
            },
            half: match half {
                "a" => Half::Down,
                "b" => Half::Up,
                _ => return None,
            },
        })
    }

    fn peft(name: &str) -> Option<Self> {
        let (_, name) = name.split_once("model.layers.")?;
        let (layer, name) = name.split_once('.')?;
        let (target, half) = name.split_once(".lora_")?;
        Some(Self {
            layer: layer.parse().ok()?,
            target: match target {
                "self_attn.q_proj" => Target::Query,
                "self_attn.k_proj" => Target::Key,
                "self_attn.v_proj" => Target::Value,
                "self_attn.o_proj" => Target::AttentionOutput,
                "mlp.router" => Target::Router,
                "mlp.experts" => Target::ExpertsOuter,
                "mlp.experts.base_layer" => Target::ExpertsInner,
                _ => return None,
            },
            half: match half {
                "A.weight" | "A.default.weight" => Half::Down,
                "B.weight" | "B.default.weight" => Half::Up,
                _ => return None,
            },
        })
    }
}

/// What comes to the outputs of a matrix, or of that of each expert.
#[derive(Clone, Copy, Debug)]
pub struct Change<'r> {
    /// [experts * rank, inputs].
    down: Matrix<'r>,
    /// [experts * rank, outputs]: transposed.
    up: Matrix<'r>,
    rank: usize,
    scale: f32,
    /// Where among the outputs of the projection its own begin.
    first: usize,
    /// Every so many are its own.
    step: usize,
}

impl<'r> Change<'r> {
    /// Numbers between the two halves.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// What the outputs of the second half count.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// [rank, inputs], for one expert.
    pub fn down(&self, expert: usize) -> Matrix<'r> {
        self.down.slice_rows(expert * self.rank, self.rank)
    }

    /// [rank, outputs], for one expert.
    pub fn up(&self, expert: usize) -> Matrix<'r> {
        self.up.slice_rows(expert * self.rank, self.rank)
    }

    /// Those of its outputs that come to outputs `first..end` of the projection; and where among these the first one does, and how
    /// far from each to the next.
    pub fn outputs_within(&self, first: usize, end: usize) -> (core::ops::Range<usize>, usize, usize) {
        let before = |at: usize| at.saturating_sub(self.first).div_ceil(self.step).min(self.up.columns());
        let range = before(first)..before(end);
        (range.clone(), (self.first + range.start * self.step).saturating_sub(first), self.step)
    }
}

/// What fine-tuning changed. Shared freely between sessions of the model that it was opened for.
#[derive(Clone, Copy)]
pub struct Adapter<'r> {
    /// [layers][TARGETS].
    changes: &'r [Option<Change<'r>>],
    rank: usize,
    fingerprint: u64,
    /// Of the model that it was opened for, if it was for one.
    model: Option<u64>,
    /// Whether gates and linear parts alternate in the model's files.
    interleaved: bool,
}

impl<'r> Adapter<'r> {
    /// What [`Adapter::new`] and [`Adapter::for_files`] take, for a model with these numbers.
    ///
    /// # Errors
    /// [`Error::File`] where a tensor is by its name not one of an adapter for this model, or holds no numbers.
    pub fn layout<'w>(file: &AdapterFile<'w>, config: &Config) -> Result<Layout> {
        let mut carver = Carver::measuring();
        Adapter::<'w>::carve(&mut carver, file, config, None, false)?;
        Ok(carver.layout())
    }

    /// Finds every change, and transposes their second halves.
    ///
    /// # Errors
    /// As [`Adapter::layout`], and [`Error::File`] where a shape does not belong there, or half of a change lacks or comes twice;
    /// [`Error::RegionTooSmall`] and [`Error::RegionAlign`].
    pub fn new<'w: 'r>(
        region: &'r mut [MaybeUninit<u8>],
        file: &AdapterFile<'w>,
        model: &Model<'_, '_>,
    ) -> Result<Self> {
        let fingerprint = Some(model.fingerprint());
        Self::carve(&mut Carver::placing(region)?, file, model.config(), fingerprint, is_interleaved(model))
    }

    /// As [`Adapter::new`], for who merges what it changes into the weights of these files, in any type: no session takes it.
    ///
    /// # Errors
    /// As [`Adapter::new`].
    pub fn for_files<'w: 'r>(
        region: &'r mut [MaybeUninit<u8>],
        file: &AdapterFile<'w>,
        files: &Files<'_>,
    ) -> Result<Self> {
        let interleaved = files.naming() != Naming::Gguf;
        Self::carve(&mut Carver::placing(region)?, file, files.config(), None, interleaved)
    }

    /// The largest rank of a change; 0 if there is none.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// A number that another adapter hardly has, whatever the layout of its model: a sum over the second halves of its changes, and
    /// the beginnings of the first.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Whether it was opened for this model.
    pub fn fits(&self, model: &Model<'_, '_>) -> bool {
        self.model == Some(model.fingerprint()) && self.interleaved == is_interleaved(model)
    }

    /// What comes to the outputs of a projection.
    ///
    /// # Panics
    /// If the model has no such layer.
    pub fn changes(&self, layer: usize, place: Place) -> impl Iterator<Item = &'r Change<'r>> {
        self.changes[layer * TARGETS..][place.targets()].iter().flatten()
    }

    fn carve<'w: 'r>(
        carver: &mut Carver<'r>,
        file: &AdapterFile<'w>,
        config: &Config,
        model: Option<u64>,
        interleaved: bool,
    ) -> Result<Self> {
        let changes = carver.filled([config.layers, TARGETS], None)?;
        let found = carver.try_from_fn([config.layers, NAMED], |_| Ok(Found::default()))?;
        let mut sum = Checksum::EMPTY;
        sum.add(file.scale(1).to_bits().into());
        sum.add(file.by_root.into());
        file.for_each_tensor(|entry| {
            let name = match file.container {
                Container::Gguf(_) => Name::gguf(entry.name),
                Container::Safetensors(_) => Name::peft(entry.name),
            };
            let expected = "a tensor of a LoRA adapter, for a matrix in a layer of gpt-oss";
            let name = name.ok_or(refuse(0, entry.name_offset, expected, 0))?;
            if name.layer >= config.layers {
                let expected = "the tensor of a layer that the model has";
                return Err(refuse(0, entry.name_offset, expected, name.layer as u64));
            }
            if !matches!(entry.dtype, TensorType::F32 | TensorType::F16 | TensorType::Bf16) {
                return Err(no_numbers(&entry));
            }
            let transposed = carver.filled(if name.half == Half::Up { entry.data.len() } else { 0 }, 0)?;
            let Some(found) = found.get_mut(name.layer * NAMED + name.target as usize) else { return Ok(()) };
            // As the file has it, whatever the layout of the model.
            [name.layer as u64, name.target as u64, name.half as u64].into_iter().for_each(|word| sum.add(word));
            entry.dims.iter().for_each(|dim| sum.add(*dim));
            let (words, rest) = entry.data.as_chunks::<8>();
            let all = if name.half == Half::Up { words } else { &words[..words.len().min(FIRST_WORDS)] };
            all.iter().for_each(|word| sum.add(u64::from_le_bytes(*word)));
            rest.iter().for_each(|byte| sum.add((*byte).into()));
            let before = match name.half {
                Half::Down => found.down.replace(entry),
                Half::Up => {
                    found.transposed = transposed;
                    found.up.replace(entry)
                }
            };
            if before.is_some() { Err(refuse(0, entry.name_offset, "each half of a change once", 2)) } else { Ok(()) }
        })?;
        let mut rank = 0;
        for (found, changes) in found.chunks_mut(NAMED).zip(changes.chunks_mut(TARGETS)) {
            resolve(file, config, interleaved, found, changes)?;
            rank = changes.iter().flatten().map(Change::rank).fold(rank, usize::max);
        }
        Ok(Self { changes, rank, fingerprint: sum.value(), model, interleaved })
    }
}

fn is_interleaved(model: &Model<'_, '_>) -> bool {
    model.layer(0).interleaved
}

/// What a file has for one matrix of one layer.
#[derive(Default)]
struct Found<'r> {
    down: Option<TensorEntry<'r>>,
    up: Option<TensorEntry<'r>>,
    /// Room for the latter.
    transposed: &'r mut [u8],
}

/// Makes of what was found for a layer what comes to its matrices.
fn resolve<'r>(
    file: &AdapterFile<'_>,
    config: &Config,
    interleaved: bool,
    found: &mut [Found<'r>],
    changes: &mut [Option<Change<'r>>],
) -> Result<()> {
    let Config { hidden, intermediate, experts, heads, kv_heads, head_dim, .. } = *config;
    let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
    // Gates and linear parts are apart or alternate as in the model, whichever the adapter has.
    let (up_first, step) = if interleaved { (1, 2) } else { (intermediate, 1) };
    // Outputs and inputs; how many experts; where its outputs stand.
    let shapes = [
        (queries, hidden, 1, 0, 1),
        (keys, hidden, 1, queries, 1),
        (keys, hidden, 1, queries + keys, 1),
        (hidden, queries, 1, 0, 1),
        (experts, hidden, 1, 0, 1),
        (intermediate, hidden, experts, 0, step),
        (intermediate, hidden, experts, up_first, step),
        (hidden, intermediate, experts, 0, 1),
    ];
    let (plain, unordered) = found.split_at_mut(TARGETS);
    for ((change, found), (outputs, inputs, experts, first, step)) in changes.iter_mut().zip(plain).zip(shapes) {
        let Some((down, up)) = found.halves()? else { continue };
        let grouped = experts > 1 || down.rank == 3;
        let rank = down.dims[usize::from(grouped)];
        let by_expert = |rows: usize, columns: usize| {
            let (experts, rows, columns) = (experts as u64, rows as u64, columns as u64);
            if grouped { [experts, rows, columns, 1] } else { [rows, columns, 1, 1] }
        };
        demand_shape(&down, by_expert(rank as usize, inputs))?;
        demand_shape(&up, by_expert(outputs, rank as usize))?;
        let rank = rank as usize;
        let down = matrix(&down, down.data, experts * rank, inputs)?;
        let at = |expert: usize, rank_at: usize, output: usize| (expert * outputs + output) * rank + rank_at;
        let up = transposed(&up, &mut found.transposed, [experts, rank, outputs], at)?;
        *change = Some(Change { down, up, rank, scale: file.scale(rank), first, step });
    }
    for found in unordered {
        let Some((down, up)) = found.halves()? else { continue };
        let rank = down.dims[0] as usize / experts;
        let ranks = (experts * rank) as u64;
        let gives = |outputs: usize, inputs: usize| {
            rank > 0 && down.dims == [ranks, inputs as u64, 1, 1] && up.dims == [outputs as u64, ranks, 1, 1]
        };
        // Where the outputs of a matrix begin, and which.
        let parts: &[(Target, usize)] = if gives(2 * intermediate, hidden) {
            if interleaved { &[(Target::Gate, 0)] } else { &[(Target::Gate, 0), (Target::Up, intermediate)] }
        } else if gives(hidden, intermediate) {
            &[(Target::Down, 0)]
        } else {
            let expected =
                "the shapes that PEFT gives the halves of a change of all experts, for one of their matrices";
            return Err(refuse(0, up.name_offset, expected, up.dims[0]));
        };
        let outputs = up.dims[0] as usize / parts.len();
        let down = matrix(&down, down.data, experts * rank, down.dims[1] as usize)?;
        for (part, (target, first)) in parts.iter().enumerate() {
            // An expert's numbers are in every so many-th column; gates and linear parts alternate.
            let at = |expert: usize, rank_at: usize, output: usize| {
                ((output * parts.len() + part) * rank + rank_at) * experts + expert
            };
            let half = transposed(&up, &mut found.transposed, [experts, rank, outputs], at)?;
            let change = Change { down, up: half, rank, scale: file.scale(rank), first: *first, step: 1 };
            if changes[*target as usize].replace(change).is_some() {
                return Err(refuse(0, up.name_offset, "one change of each matrix", 2));
            }
        }
    }
    Ok(())
}

/// The second half of a change, [experts * rank, outputs], in the first bytes of `room`, which is cut by them. `at` tells where in the
/// file an element is.
fn transposed<'r>(
    entry: &TensorEntry<'_>,
    room: &mut &'r mut [u8],
    [experts, rank, outputs]: [usize; 3],
    at: impl Fn(usize, usize, usize) -> usize,
) -> Result<Matrix<'r>> {
    let Some((1, size)) = entry.dtype.block() else { return Err(no_numbers(entry)) };
    let size = size as usize;
    let (to, rest) = core::mem::take(room).split_at_mut(experts * rank * outputs * size);
    *room = rest;
    for (row, to) in to.chunks_exact_mut(outputs * size).enumerate() {
        for (output, to) in to.chunks_exact_mut(size).enumerate() {
            let at = at(row / rank, row % rank, output);
            to.copy_from_slice(&entry.data[at * size..][..size]);
        }
    }
    matrix(entry, to, experts * rank, outputs)
}

impl<'r> Found<'r> {
    fn halves(&self) -> Result<Option<(TensorEntry<'r>, TensorEntry<'r>)>> {
        match (self.down, self.up) {
            (Some(down), Some(up)) => Ok(Some((down, up))),
            (None, None) => Ok(None),
            (Some(alone), None) | (None, Some(alone)) => {
                Err(refuse(0, alone.name_offset, "the other half of this change, too", 1))
            }
        }
    }
}

fn demand_shape(entry: &TensorEntry<'_>, expected: [u64; 4]) -> Result<()> {
    let wrong = entry.dims.iter().zip(expected).find(|(found, expected)| **found != *expected || *expected == 0);
    match wrong {
        Some((found, _)) => Err(refuse(0, entry.name_offset, "the shape of a half of a change of this matrix", *found)),
        None => Ok(()),
    }
}

fn matrix<'r>(entry: &TensorEntry<'_>, data: &'r [u8], rows: usize, columns: usize) -> Result<Matrix<'r>> {
    let values = match entry.dtype {
        TensorType::F32 => Some(Values::F32(data)),
        TensorType::F16 => Some(Values::F16(data)),
        TensorType::Bf16 => Some(Values::Bf16(data)),
        _ => None,
    };
    values.and_then(|values| Matrix::new(rows, columns, values)).ok_or(no_numbers(entry))
}

fn no_numbers(entry: &TensorEntry<'_>) -> Error {
    refuse(0, entry.name_offset, "numbers in F32, F16 or BF16", 0)
}
