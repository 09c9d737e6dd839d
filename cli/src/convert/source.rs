//! The tensors of a checkpoint, in whichever layout, as rows with one meaning.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use ossicle_core::file::{TensorEntry, TensorType};
use ossicle_core::format::mxfp4::{BLOCK_LEN, BLOCK_SIZE, Blocks};
use ossicle_core::format::{Matrix, Values};
use ossicle_core::model::{Adapter, Config, Files, Naming, Role, TensorId};

use super::merge::Merge;
use super::rows::Rows;

/// The tensors of a checkpoint.
pub struct Source<'w> {
    config: Config,
    naming: Naming,
    tensors: HashMap<&'w str, TensorEntry<'w>>,
    used: HashSet<String>,
    /// With what each counts.
    adapters: Vec<(Adapter<'w>, f32)>,
}

/// No embedding may have more rows.
const VOCABULARY_MAX: u64 = 1 << 24;

impl<'w> Source<'w> {
    /// Reads where the tensors are. The adapters, each with what it counts, are merged into them.
    ///
    /// # Errors
    /// Where a name comes twice, and where the embedding is not there or not as large as the configuration says.
    pub fn new(files: &Files<'w>, adapters: &[(Adapter<'w>, f32)]) -> Result<Self> {
        let mut tensors = HashMap::new();
        let mut repeated = None;
        files.for_each_tensor(|_, tensor| {
            if tensors.insert(tensor.name, tensor).is_some() {
                repeated = Some(tensor.name);
            }
            Ok(())
        })?;
        if let Some(name) = repeated {
            bail!("{name}: expected it once");
        }
        let mut config = *files.config();
        let embedding = TensorId { role: Role::Embedding, layer: 0, naming: files.naming() }.to_string();
        if let (0, Some(embedding)) = (config.vocabulary, tensors.get(&*embedding)) {
            let fits = (1..=VOCABULARY_MAX).contains(&embedding.dims[0]);
            ensure!(fits, "{}: expected from 1 to {VOCABULARY_MAX} rows", embedding.name);
            config.vocabulary = embedding.dims[0] as usize;
        }
        let (naming, adapters) = (files.naming(), adapters.to_vec());
        let mut source = Self { config, naming, tensors, used: HashSet::new(), adapters };
        // A vocabulary is no larger than the file has rows for.
        source.rows(Role::Embedding, 0)?;
        Ok(source)
    }

    /// The numbers of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The rows of one tensor, as GGUF divides them: queries, keys and values each for itself, and so gates and linear parts. Of a
    /// vector each value is a row.
    ///
    /// # Errors
    /// Where the tensor is not there, or has a type or shape that does not belong there.
    pub fn rows(&mut self, role: Role, layer: usize) -> Result<Rows<'w>> {
        let Config { heads, kv_heads, head_dim, intermediate, experts, .. } = self.config;
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        let fused = self.tensors.contains_key(&*self.id(Role::QueryKeyValueWeight, layer).to_string());
        let (whole, first, step, count) = match role {
            Role::QueryWeight if fused => (Role::QueryKeyValueWeight, 0, 1, queries),
            Role::QueryBias if fused => (Role::QueryKeyValueBias, 0, 1, queries),
            Role::KeyWeight if fused => (Role::QueryKeyValueWeight, queries, 1, keys),
            Role::KeyBias if fused => (Role::QueryKeyValueBias, queries, 1, keys),
            Role::ValueWeight if fused => (Role::QueryKeyValueWeight, queries + keys, 1, keys),
            Role::ValueBias if fused => (Role::QueryKeyValueBias, queries + keys, 1, keys),
            Role::GateWeight if self.is_interleaved() => (Role::GateUpWeight, 0, 2, experts * intermediate),
            Role::GateBias if self.is_interleaved() => (Role::GateUpBias, 0, 2, experts * intermediate),
            Role::UpWeight if self.is_interleaved() => (Role::GateUpWeight, 1, 2, experts * intermediate),
            Role::UpBias if self.is_interleaved() => (Role::GateUpBias, 1, 2, experts * intermediate),
            _ => return self.stored(role, layer),
        };
        Ok(self.stored(whole, layer)?.pick(first, step, count))
    }

    /// Whether gates and linear parts alternate in the files; [`Source::rows`] has [`Role::GateUpWeight`] and
    /// [`Role::GateUpBias`] then.
    pub fn is_interleaved(&self) -> bool {
        self.naming != Naming::Gguf
    }

    /// Refuses a checkpoint that holds more than was asked for.
    ///
    /// # Errors
    /// The name of a tensor that was not.
    pub fn demand_all_used(&self) -> Result<()> {
        match self.tensors.keys().filter(|name| !self.used.contains(**name)).min() {
            Some(name) => bail!("{name}: expected only the tensors of a gpt-oss model"),
            None => Ok(()),
        }
    }

    fn id(&self, role: Role, layer: usize) -> TensorId {
        TensorId { role, layer: layer as u16, naming: self.naming }
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorEntry<'w>> {
        let tensor = *self.tensors.get(name).with_context(|| format!("{name}: expected this tensor"))?;
        let dims = std::array::from_fn(|i| shape.get(i).map_or(1, |dim| *dim as u64));
        ensure!(tensor.dims == dims, "{name}: expected the shape {shape:?}, found {:?}", tensor.shape());
        self.used.insert(name.into());
        Ok(tensor)
    }

    fn stored(&mut self, role: Role, layer: usize) -> Result<Rows<'w>> {
        let shape = shape(&self.config, role);
        let rows = self.unchanged(role, layer, &shape)?;
        let rows_per_expert = if shape.len() < 3 { shape[0] } else { shape[1] };
        Ok(rows.merged(Merge::new(&self.adapters, &self.config, (role, layer), rows_per_expert)))
    }

    /// The rows as the file has them.
    fn unchanged(&mut self, role: Role, layer: usize, shape: &[usize]) -> Result<Rows<'w>> {
        let name = self.id(role, layer).to_string();
        let matrix = matches!(shape.len(), 2 | 3) && !is_bias(role);
        let columns = if matrix { shape[shape.len() - 1] } else { 1 };
        let count = shape.iter().product::<usize>() / columns;
        if shape.len() < 3 || self.naming == Naming::Gguf {
            let tensor = self.tensor(&name, shape)?;
            return Ok(Rows::new(plain(&tensor, count, columns)?));
        }
        let dense = name.strip_suffix("_blocks").filter(|dense| self.tensors.contains_key(dense));
        if let Some(dense) = dense {
            let [experts, outputs, inputs] = [shape[0], shape[1], shape[2]];
            let tensor = self.tensor(dense, &[experts, inputs, outputs])?;
            return Ok(Rows::transposed(plain(&tensor, experts * inputs, outputs)?, columns));
        }
        let scales = if role == Role::GateUpWeight { Role::GateUpScales } else { Role::DownScales };
        let in_row = columns / BLOCK_LEN;
        let codes = self.tensor(&name, &[shape[0], shape[1], in_row, BLOCK_SIZE])?;
        let scales = self.tensor(&self.id(scales, layer).to_string(), &[shape[0], shape[1], in_row])?;
        for tensor in [codes, scales] {
            ensure!(tensor.dtype == TensorType::U8, "{}: expected U8, found {}", tensor.name, tensor.dtype);
        }
        let blocks = Blocks::separate(codes.data, scales.data, count * in_row);
        let matrix = blocks.and_then(|blocks| Matrix::new(count, columns, Values::Mxfp4(blocks)));
        Ok(Rows::new(matrix.with_context(|| format!("{name}: expected whole blocks"))?))
    }
}

/// A tensor whose numbers are in one place.
fn plain<'w>(tensor: &TensorEntry<'w>, rows: usize, columns: usize) -> Result<Matrix<'w>> {
    let values = match tensor.dtype {
        TensorType::F32 => Some(Values::F32(tensor.data)),
        TensorType::F16 => Some(Values::F16(tensor.data)),
        TensorType::Bf16 => Some(Values::Bf16(tensor.data)),
        TensorType::Q8_0 => Some(Values::Q8_0(tensor.data)),
        TensorType::Mxfp4 => Blocks::interleaved(tensor.data, rows * (columns / BLOCK_LEN)).map(Values::Mxfp4),
        TensorType::U8 | TensorType::Other { .. } => None,
    };
    let matrix = values.and_then(|values| Matrix::new(rows, columns, values));
    matrix.with_context(|| {
        format!("{}: expected F32, F16, BF16, and for matrices Q8_0 or MXFP4, found {}", tensor.name, tensor.dtype)
    })
}

fn is_bias(role: Role) -> bool {
    matches!(role, Role::GateUpBias | Role::GateBias | Role::UpBias | Role::DownBias)
}

/// The dimensions of a tensor, outermost first; matrices are [outputs, inputs], those of experts [experts, outputs, inputs].
pub fn shape(config: &Config, role: Role) -> Vec<usize> {
    let Config { hidden, intermediate, experts, heads, kv_heads, head_dim, vocabulary, .. } = *config;
    let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
    match role {
        Role::Embedding | Role::Unembedding => vec![vocabulary, hidden],
        Role::OutputNorm | Role::AttentionNorm | Role::MlpNorm | Role::AttentionOutputBias => vec![hidden],
        Role::QueryKeyValueWeight => vec![queries + 2 * keys, hidden],
        Role::QueryKeyValueBias => vec![queries + 2 * keys],
        Role::QueryWeight => vec![queries, hidden],
        Role::QueryBias => vec![queries],
        Role::KeyWeight | Role::ValueWeight => vec![keys, hidden],
        Role::KeyBias | Role::ValueBias => vec![keys],
        Role::Sinks => vec![heads],
        Role::AttentionOutputWeight => vec![hidden, queries],
        Role::RouterWeight => vec![experts, hidden],
        Role::RouterBias => vec![experts],
        Role::GateUpWeight => vec![experts, 2 * intermediate, hidden],
        Role::GateUpScales => vec![experts, 2 * intermediate, hidden / BLOCK_LEN],
        Role::GateUpBias => vec![experts, 2 * intermediate],
        Role::GateWeight | Role::UpWeight => vec![experts, intermediate, hidden],
        Role::GateBias | Role::UpBias => vec![experts, intermediate],
        Role::DownWeight => vec![experts, hidden, intermediate],
        Role::DownScales => vec![experts, hidden, intermediate / BLOCK_LEN],
        Role::DownBias => vec![experts, hidden],
    }
}

/// The roles of a layer's tensors, as [`Source::rows`] divides them, up to the experts.
pub const LAYER_ROLES: [Role; 13] = [
    Role::AttentionNorm,
    Role::QueryWeight,
    Role::QueryBias,
    Role::KeyWeight,
    Role::KeyBias,
    Role::ValueWeight,
    Role::ValueBias,
    Role::AttentionOutputWeight,
    Role::AttentionOutputBias,
    Role::Sinks,
    Role::MlpNorm,
    Role::RouterWeight,
    Role::RouterBias,
];
