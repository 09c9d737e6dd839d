//! The experts of a model: where they lie in its files, and those that a cache has in memory.
//!
//! A model whose files are not in memory keeps a cache of experts, the same number of each layer. Once a router has spoken, those
//! of its choices that the cache lacks are read, in the place of those that were chosen least of late. Layers do not compete for
//! places: a prompt chooses nearly all experts of each layer in turn, and would leave only those of the last.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::config::Config;
use super::names::EXPERT_MATRICES;
use super::weights::{Layer, Part, Projection};
use crate::error::{Error, Result};
use crate::file::{Storage, TensorType, read};
use crate::format::{Matrix, Values, Vector, mxfp4};
use crate::parallel::{Lent, Loan, Parallel, Stage, for_each_block};
use crate::region::Carver;

/// The same matrix of each expert, one after another in a file.
#[derive(Clone, Copy, Debug)]
pub struct ExpertPart<'w> {
    dtype: TensorType,
    /// Of one expert.
    rows: usize,
    columns: usize,
    /// The numbers, and their scales where the file keeps these apart.
    pieces: [Piece<'w>; 2],
    /// Of all experts.
    bias: Vector<'w>,
}

/// A tensor of which each expert has a part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'w> {
    pub file: u16,
    /// Where the part of the first expert begins.
    pub offset: u64,
    /// Bytes of one expert.
    pub size: usize,
    /// Of all experts, if it is in memory.
    pub data: &'w [u8],
    /// Where it comes in a slot of the cache.
    pub at: usize,
}

impl Piece<'_> {
    /// No scales apart.
    pub const NONE: Self = Self { file: 0, offset: 0, size: 0, data: &[], at: 0 };

    fn offset_of(&self, expert: u32) -> u64 {
        self.offset + u64::from(expert) * self.size as u64
    }
}

impl<'w> ExpertPart<'w> {
    /// `None` if the pieces are not as long as `rows` times `columns` numbers of this type.
    pub(super) fn new(
        dtype: TensorType,
        [rows, columns]: [usize; 2],
        pieces: [Piece<'w>; 2],
        bias: Vector<'w>,
    ) -> Option<Self> {
        let count = rows.checked_mul(columns)?;
        let sizes = match dtype {
            TensorType::F32 => [count.checked_mul(4)?, 0],
            TensorType::F16 | TensorType::Bf16 => [count.checked_mul(2)?, 0],
            TensorType::U8 => [count / 2, count / mxfp4::BLOCK_LEN],
            TensorType::Q8_0 | TensorType::Mxfp4 => {
                [usize::try_from(dtype.size(&[rows as u64, columns as u64])?).ok()?, 0]
            }
            TensorType::Other { .. } => return None,
        };
        let fits = columns.is_multiple_of(mxfp4::BLOCK_LEN) && sizes == pieces.map(|piece| piece.size);
        fits.then_some(Self { dtype, rows, columns, pieces, bias })
    }

    /// Outputs of one expert.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of one expert, biases aside.
    pub fn size(&self) -> usize {
        self.pieces.iter().map(|piece| piece.size).sum()
    }

    /// That of one expert, in memory as a whole or in a slot.
    fn part<'a>(&self, expert: u32, slot: Option<&'a [u8]>) -> Part<'a>
    where
        'w: 'a,
    {
        let bytes = self.pieces.map(|piece| match slot {
            Some(slot) => &slot[piece.at..][..piece.size],
            None => &piece.data[expert as usize * piece.size..][..piece.size],
        });
        let bias = self.bias.slice(expert as usize * self.rows, self.rows);
        Part { weights: self.matrix(self.rows, self.columns, bytes), bias }
    }

    /// So many rows and columns in the format of the file.
    fn matrix<'a>(&self, rows: usize, columns: usize, [numbers, scales]: [&'a [u8]; 2]) -> Matrix<'a> {
        let blocks = rows * (columns / mxfp4::BLOCK_LEN);
        let values = match self.dtype {
            TensorType::F32 => Some(Values::F32(numbers)),
            TensorType::F16 => Some(Values::F16(numbers)),
            TensorType::Bf16 => Some(Values::Bf16(numbers)),
            TensorType::Q8_0 => Some(Values::Q8_0(numbers)),
            TensorType::Mxfp4 => mxfp4::Blocks::interleaved(numbers, blocks).map(Values::Mxfp4),
            TensorType::U8 => mxfp4::Blocks::separate(numbers, scales, blocks).map(Values::Mxfp4),
            TensorType::Other { .. } => None,
        };
        values.and_then(|values| Matrix::new(rows, columns, values)).expect("`new` has proven type and sizes")
    }

    /// The first numbers of the first expert: one block of them. `read` fills a buffer with the beginning of a piece.
    pub(super) fn first_values<E>(
        &self,
        read: &mut impl FnMut(&Piece<'w>, &mut [u8]) -> core::result::Result<(), E>,
    ) -> core::result::Result<[f32; mxfp4::BLOCK_LEN], E> {
        let mut buffers = [[0; size_of::<f32>() * mxfp4::BLOCK_LEN]; 2];
        let mut bytes: [&[u8]; 2] = [&[]; 2];
        let blocks = self.rows * (self.columns / mxfp4::BLOCK_LEN);
        for ((bytes, buffer), piece) in bytes.iter_mut().zip(&mut buffers).zip(&self.pieces) {
            let block = &mut buffer[..piece.size / blocks];
            if !block.is_empty() {
                read(piece, block)?;
            }
            *bytes = block;
        }
        let mut values = [0.0; mxfp4::BLOCK_LEN];
        self.matrix(1, values.len(), bytes).read(0, 0, &mut values);
        Ok(values)
    }
}

/// A linear map of each expert.
#[derive(Clone, Copy, Debug)]
pub struct ExpertProjection<'w> {
    parts: [Option<ExpertPart<'w>>; 2],
}

impl<'w> ExpertProjection<'w> {
    pub(super) fn new<const N: usize>(parts: [ExpertPart<'w>; N]) -> Self {
        Self { parts: core::array::from_fn(|i| parts.get(i).copied()) }
    }

    /// The matrices whose outputs, one after another, are the outputs of the map.
    pub fn parts(&self) -> impl Iterator<Item = &ExpertPart<'w>> {
        self.parts.iter().flatten()
    }

    fn expert<'a>(&self, expert: u32, slot: Option<&'a [u8]>) -> Projection<'a>
    where
        'w: 'a,
    {
        Projection::new(self.parts.map(|part| part.map(|part| part.part(expert, slot))))
    }
}

/// Where the matrices of an expert come in a slot of the cache: in the same place for all layers.
#[derive(Clone, Copy, Default)]
pub(super) struct Slot {
    /// Of each of [`EXPERT_MATRICES`]: bytes of one expert, in the layer that has most.
    sizes: [usize; EXPERT_MATRICES.len()],
}

/// Slots are read in so many blocks, on all threads.
const BLOCKS: usize = 8;

/// Blocks, and the matrices in a slot, begin at multiples of so many bytes.
const ALIGN: usize = 64;

impl Slot {
    /// Makes room for a tensor of all experts of a layer.
    pub fn add(&mut self, matrix: usize, size: usize) {
        self.sizes[matrix] = self.sizes[matrix].max(size);
    }

    /// Where one of [`EXPERT_MATRICES`] begins.
    pub fn at(&self, matrix: usize) -> usize {
        self.sizes[..matrix]
            .iter()
            .fold(0, |at, size| at.saturating_add(size.saturating_add(ALIGN - 1) / ALIGN * ALIGN))
    }

    fn size(&self) -> usize {
        self.at(self.sizes.len()).saturating_add(BLOCKS * ALIGN - 1) / (BLOCKS * ALIGN) * (BLOCKS * ALIGN)
    }
}

/// What is known of an expert.
#[derive(Clone, Copy, Default)]
struct Entry {
    /// Its place among those of its layer.
    slot: Option<u16>,
    /// Whether it is there: what could not be read is not.
    is_there: bool,
    /// How often it was chosen, older choices counting less.
    uses: u32,
}

/// What a choice counts.
const USE: u32 = 1 << 16;

/// After each step choices count less by this part, as a shift: half after 44 steps.
const FADE: u32 = 6;

/// Experts in memory, of a model that is read as it is needed. One session at a time uses it, in a step.
pub struct ExpertCache<'r> {
    experts: usize,
    /// Of each layer.
    slots: usize,
    /// Bytes of one.
    slot_size: usize,
    /// [layers][experts].
    entries: Lent<'r, Entry>,
    /// [layers][slots][slot_size].
    bytes: Lent<'r, u8>,
    hits: AtomicUsize,
    misses: AtomicUsize,
}

impl<'r> ExpertCache<'r> {
    pub(super) fn carve(carver: &mut Carver<'r>, config: &Config, slot: &Slot, bytes: usize) -> Result<Self> {
        let slot_size = slot.size();
        let least = config.layers.saturating_mul(slot_size).max(1);
        let slots = (bytes / least).min(config.experts).min(usize::from(u16::MAX));
        if slots == 0 {
            return Err(Error::Capacity { what: "bytes for experts", need: least, have: bytes });
        }
        Ok(Self {
            experts: config.experts,
            slots,
            slot_size,
            entries: Lent::new(carver.filled([config.layers, config.experts], Entry::default())?),
            bytes: Lent::new(carver.filled([config.layers, slots, slot_size], 0)?),
            hits: AtomicUsize::new(0),
            misses: AtomicUsize::new(0),
        })
    }

    /// How many experts of each layer it has room for.
    pub fn experts_per_layer(&self) -> usize {
        self.slots
    }

    /// Bytes that an expert has in the cache: somewhat more than it is read in.
    pub fn expert_size(&self) -> usize {
        self.slot_size
    }

    /// How often an expert was there that a batch needed in a layer, and how often one had to be read; counted from the beginning,
    /// and from 0 again after `usize::MAX`.
    pub fn hits_and_misses(&self) -> (usize, usize) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }
}

/// The experts of a layer, for the time of a step.
pub(crate) struct LayerExperts<'a> {
    layer: &'a Layer<'a>,
    cached: Option<Cached<'a>>,
}

/// Of a model that is read as it is needed.
struct Cached<'a> {
    storage: &'a dyn Storage,
    cache: &'a ExpertCache<'a>,
    /// The layer.
    number: usize,
    /// Of all layers.
    entries: Loan<'a, Entry>,
    bytes: Loan<'a, u8>,
    /// Whether the storage knows what will be read next.
    is_told: bool,
}

impl<'a> LayerExperts<'a> {
    pub(super) fn of(layer: &'a Layer<'a>) -> Self {
        Self { layer, cached: None }
    }

    pub(super) fn cached(
        (number, layer): (usize, &'a Layer<'a>),
        storage: &'a dyn Storage,
        cache: &'a ExpertCache<'a>,
    ) -> Result<Self> {
        let expected = "no step under way with this model by another session: it reads experts for one at a time";
        let (Some(entries), Some(bytes)) = (cache.entries.lend(), cache.bytes.lend()) else {
            return Err(Error::State(expected));
        };
        let mut cached = Cached { storage, cache, number, entries, bytes, is_told: false };
        cached.entries_mut().iter_mut().for_each(|entry| entry.uses -= entry.uses >> FADE);
        Ok(Self { layer, cached: Some(cached) })
    }

    /// Whether it is in memory.
    pub fn is_there(&self, expert: u32) -> bool {
        self.cached.as_ref().is_none_or(|cached| cached.entries()[expert as usize].is_there)
    }

    /// Brings some of these experts into memory, from the first on, and says how many: those of them that are there already, else
    /// as many as there is room for. The others follow with further calls, once these have done their work.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn fetch(&mut self, parallel: &dyn Parallel, wanted: &[u32]) -> Result<usize> {
        let Some(cached) = &mut self.cached else { return Ok(wanted.len()) };
        let cache = cached.cache;
        let there = wanted.iter().take_while(|expert| cached.entries()[**expert as usize].is_there).count();
        let count = if there > 0 { there } else { wanted.len().min(cache.slots) };
        let (group, rest) = wanted.split_at(count);
        for expert in group {
            cached.entries_mut()[*expert as usize].uses += USE;
        }
        if there > 0 {
            cache.hits.fetch_add(count, Ordering::Relaxed);
        } else {
            cache.misses.fetch_add(count, Ordering::Relaxed);
            parallel.begin(Stage::ReadExperts);
            if !cached.is_told {
                cached.tell(self.layer, group);
            }
            cached.read(parallel, self.layer, group)?;
        }
        cached.tell(self.layer, &rest[..rest.len().min(cache.slots)]);
        cached.is_told = true;
        Ok(count)
    }

    /// Gates and linear parts of an expert that is in memory.
    pub fn gate_up(&self, expert: u32) -> Projection<'_> {
        self.layer.gate_up.expert(expert, self.slot(expert))
    }

    /// What an expert gives that is in memory.
    pub fn down(&self, expert: u32) -> Projection<'_> {
        self.layer.down.expert(expert, self.slot(expert))
    }

    fn slot(&self, expert: u32) -> Option<&[u8]> {
        let cached = self.cached.as_ref()?;
        let slot = usize::from(cached.entries()[expert as usize].slot?);
        let size = cached.cache.slot_size;
        Some(&cached.bytes[(cached.number * cached.cache.slots + slot) * size..][..size])
    }
}

/// The tensors of the experts of a layer.
fn pieces<'a>(layer: &'a Layer<'a>) -> impl Iterator<Item = &'a Piece<'a>> {
    layer.gate_up.parts().chain(layer.down.parts()).flat_map(|part| &part.pieces).filter(|piece| piece.size > 0)
}

impl Cached<'_> {
    fn entries(&self) -> &[Entry] {
        &self.entries[self.number * self.cache.experts..][..self.cache.experts]
    }

    fn entries_mut(&mut self) -> &mut [Entry] {
        &mut self.entries[self.number * self.cache.experts..][..self.cache.experts]
    }

    fn tell(&self, layer: &Layer<'_>, experts: &[u32]) {
        for expert in experts {
            pieces(layer).for_each(|piece| self.storage.will_need(piece.file, piece.offset_of(*expert), piece.size));
        }
    }

    /// Reads experts of which none is there, and for which there is room.
    fn read(&mut self, parallel: &dyn Parallel, layer: &Layer<'_>, group: &[u32]) -> Result<()> {
        let (storage, slots, slot_size) = (self.storage, self.cache.slots, self.cache.slot_size);
        for expert in group {
            let entries = self.entries_mut();
            if entries[*expert as usize].slot.is_none() {
                let slot = free(entries, slots).or_else(|| give_up(entries, group));
                entries[*expert as usize].slot = slot;
            }
        }
        let block_size = slot_size / BLOCKS;
        let (first, experts) = (self.number * self.cache.experts, self.cache.experts);
        let entries = &self.entries[first..][..experts];
        let memory = &mut self.bytes[self.number * slots * slot_size..][..slots * slot_size];
        // What a block of a slot is read from: the tensor, where in its file, and what of the block.
        let sources = |expert: u32, block: usize| {
            let (begin, end) = (block * block_size, (block + 1) * block_size);
            pieces(layer).filter_map(move |piece| {
                let (first, last) = (piece.at.max(begin), (piece.at + piece.size).min(end));
                let offset = piece.offset_of(expert) + first.saturating_sub(piece.at) as u64;
                (first < last).then(|| (piece.file, offset, first - begin..last - begin))
            })
        };
        let owner = |slot: usize| {
            let is_in = |expert: &&u32| entries[**expert as usize].slot.map(usize::from) == Some(slot);
            group.iter().find(is_in).copied()
        };
        let failed = AtomicUsize::new(usize::MAX);
        for_each_block(parallel, memory, block_size, |index, bytes| {
            let Some(expert) = owner(index / BLOCKS) else { return };
            for (number, (file, offset, range)) in sources(expert, index % BLOCKS).enumerate() {
                if read(storage, file, offset, &mut bytes[range]).is_err() {
                    failed.fetch_min(index * EXPERT_MATRICES.len() + number, Ordering::Relaxed);
                }
            }
        });
        let failed = failed.into_inner();
        let (index, number) = (failed / EXPERT_MATRICES.len(), failed % EXPERT_MATRICES.len());
        // No slot has the index that stands for no failure.
        let at_fault = owner(index / BLOCKS).and_then(|expert| sources(expert, index % BLOCKS).nth(number));
        if let Some((file, offset, range)) = at_fault {
            return Err(Error::Read { file, offset, size: range.len() });
        }
        for expert in group {
            self.entries_mut()[*expert as usize].is_there = true;
        }
        Ok(())
    }
}

/// A slot that no expert has.
fn free(entries: &[Entry], slots: usize) -> Option<u16> {
    if entries.iter().filter(|entry| entry.slot.is_some()).count() == slots {
        return None;
    }
    (0..slots as u16).find(|slot| entries.iter().all(|entry| entry.slot != Some(*slot)))
}

/// The slot of the expert that was chosen least, which has it no longer; but not one of `group`.
fn give_up(entries: &mut [Entry], group: &[u32]) -> Option<u16> {
    let others = entries.iter_mut().enumerate().filter(|(expert, _)| !group.contains(&(*expert as u32)));
    let least = others.map(|(_, entry)| entry).filter(|entry| entry.slot.is_some()).min_by_key(|entry| entry.uses)?;
    least.is_there = false;
    least.slot.take()
}
