use core::mem::MaybeUninit;

use crate::error::{Error, Result};
use crate::file::snapshot::Checksum;
use crate::kernels::Kernels;
use crate::model::{Adapter, Config, Model};
use crate::parallel::{Parallel, Stage, Tile};
use crate::region::{Carver, Layout, List};

use super::activations::{Activations, all_finite, rms_norm};
use super::adaptation::{ADAPTERS_MAX, Adaptation};
use super::attention::Attention;
use super::kv_cache::{CacheFormat, KvCache, Place};
use super::linear::{project_matrix, project_rows};
use super::moe::Experts;
use super::rope::Rotations;

/// How exact the arithmetic is. See `docs/numerics.md` for the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Precision {
    /// Activations in 16 bits where they meet quantized weights, keys and values in f16 unless said otherwise.
    #[default]
    Standard,
    /// All activations in f32, keys and values too unless said otherwise. Takes twice the cache, and several times the time.
    Precise,
}

/// How large a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Positions that the session can hold.
    pub context_tokens: usize,
    /// Most tokens that one [`Session::start`] takes.
    pub batch_tokens: usize,
    /// Most positions of a batch whose logits can be asked for.
    pub logits_rows: usize,
    /// How far [`Session::rewind`] can surely go back from the farthest position reached, without going back to position 0. Besides,
    /// if it is no less than what is drafted, a [`Generation`](crate::generation::Generation) can go back to where the first
    /// reasoning begins that its next answer takes out, from any distance.
    pub rewind_tokens: usize,
    /// How exact the arithmetic is.
    pub precision: Precision,
    /// What keys and values are kept in; without it, what goes with the precision.
    pub cache: Option<CacheFormat>,
    /// The largest rank of an adapter that it can be given; 0 if it gets none.
    pub adapter_rank: usize,
}

/// Of how many tokens at most [`Session::start_few`] computes the logits. Above that, the time is not worth sparing.
pub const FEW_LOGITS: usize = 4096;

/// As many tokens are drafted at most, unless a turn or a session says otherwise.
pub const DRAFT_TOKENS: usize = 23;

impl Default for SessionConfig {
    /// 8,192 tokens, 128 at a time, logits of one position and of those drafted, and 256 tokens to go back.
    fn default() -> Self {
        Self {
            context_tokens: 8192,
            batch_tokens: 128,
            logits_rows: 1 + DRAFT_TOKENS,
            rewind_tokens: 256,
            precision: Precision::Standard,
            cache: None,
            adapter_rank: 0,
        }
    }
}

impl SessionConfig {
    /// The default, or as much of it as a model's context has.
    pub fn within(model: &Config) -> Self {
        let Self { context_tokens, batch_tokens, logits_rows, rewind_tokens, .. } = Self::default();
        Self {
            context_tokens: context_tokens.min(model.context_tokens),
            batch_tokens: batch_tokens.min(model.context_tokens),
            logits_rows: logits_rows.min(model.context_tokens),
            rewind_tokens: rewind_tokens.min(model.context_tokens),
            ..Self::default()
        }
    }

    /// What keys and values are kept in.
    pub fn cache_format(&self) -> CacheFormat {
        self.cache.unwrap_or(match self.precision {
            Precision::Standard => CacheFormat::F16,
            Precision::Precise => CacheFormat::F32,
        })
    }
}

/// Whose logits a batch computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// Nobody's.
    None,
    /// Those after the last token.
    Last,
    /// Those after each of so many tokens at the end, or of all if there are fewer.
    Tail(usize),
    /// Those after each token.
    All,
}

/// Whether a batch is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to do.
    More,
    /// It is done.
    Done,
}

/// One timeline of tokens through a model.
///
/// A batch of tokens is begun with [`Session::start`] and carried out by [`Session::step`], a layer at a time; between
/// steps nothing is owed, and stopping is not calling. The logits are a function of the weights and the tokens alone: not
/// of how the tokens were cut into batches, the kernel set, or the number of threads.
pub struct Session<'r, 'w> {
    model: &'r Model<'r, 'w>,
    kernels: Kernels,
    config: SessionConfig,
    /// Tokens whose keys and values are in the cache.
    position: usize,
    batch: Option<Batch>,
    /// [batch_tokens].
    tokens: &'r mut [u32],
    /// [batch_tokens][hidden].
    residual: &'r mut [f32],
    attention: Attention<'r>,
    experts: Experts<'r>,
    adaptation: Adaptation<'r>,
    /// [logits_rows][hidden].
    normalized: Activations<'r>,
    /// [logits_rows][vocabulary].
    logits: &'r mut [f32],
    /// The tokens whose logits the batch under way computes; none for all.
    few: List<'r, u32>,
    /// Their logits: [FEW_LOGITS].
    few_logits: &'r mut [f32],
    /// How many rows of logits there are.
    rows: usize,
}

/// Tokens on their way through the layers.
#[derive(Clone, Copy)]
struct Batch {
    tokens: usize,
    /// The last so many get logits.
    rows: usize,
    /// The next layer.
    layer: usize,
}

impl<'r, 'w> Session<'r, 'w> {
    /// What [`Session::new`] takes.
    ///
    /// # Errors
    /// [`Error::Setting`] if a number of the configuration is 0 or beyond the model's context.
    pub fn layout(model: &Model<'_, '_>, config: &SessionConfig) -> Result<Layout> {
        let mut carver = Carver::measuring();
        carve(&mut carver, model, Kernels::portable(), config)?;
        Ok(carver.layout())
    }

    /// An empty session. After this no call fails for want of memory.
    ///
    /// # Errors
    /// [`Error::Setting`] as for [`Session::layout`]; [`Error::RegionTooSmall`] and [`Error::RegionAlign`].
    pub fn new(
        region: &'r mut [MaybeUninit<u8>],
        model: &'r Model<'r, 'w>,
        kernels: Kernels,
        config: &SessionConfig,
    ) -> Result<Self> {
        carve(&mut Carver::placing(region)?, model, kernels, config)
    }

    /// The next position: how many tokens the session holds.
    pub fn position(&self) -> usize {
        self.position
    }

    /// How large the session is.
    pub fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// The kernels that it runs with.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// The model that the session runs.
    pub fn model(&self) -> &'r Model<'r, 'w> {
        self.model
    }

    /// Goes on with these adapters, each counting as much as is said: those given before are put away. The session is empty
    /// afterwards, unless they are the same as before: what it holds depends on them.
    ///
    /// # Errors
    /// [`Error::State`] if a batch is under way; [`Error::Capacity`] if there are more than [`ADAPTERS_MAX`], or the rank of one is
    /// above that of the configuration; [`Error::Setting`] if one was opened for another model, or counts with what is not a
    /// finite number. The session is as before.
    pub fn adapt(&mut self, adapters: &[(Adapter<'r>, f32)]) -> Result<()> {
        self.demand_rest()?;
        self.demand_fit(adapters)?;
        let before = self.fingerprint();
        self.adaptation.adapters = core::array::from_fn(|index| adapters.get(index).copied());
        if self.fingerprint() != before {
            self.go_to(0);
        }
        Ok(())
    }

    /// Refuses adapters that it cannot be given.
    pub(crate) fn demand_fit(&self, adapters: &[(Adapter<'_>, f32)]) -> Result<()> {
        if adapters.len() > ADAPTERS_MAX {
            return Err(Error::Capacity { what: "adapters", need: adapters.len(), have: ADAPTERS_MAX });
        }
        for (adapter, weight) in adapters {
            let setting = |expected| Err(Error::Setting { name: "adapters", expected });
            if adapter.rank() > self.config.adapter_rank {
                let (need, have) = (adapter.rank(), self.config.adapter_rank);
                return Err(Error::Capacity { what: "rank of adapters", need, have });
            }
            if !adapter.fits(self.model) {
                return setting("adapters that were opened for this model");
            }
            if !weight.is_finite() {
                return setting("finite numbers that adapters count with");
            }
        }
        Ok(())
    }

    /// A number that another model, or the same with other adapters, hardly has.
    pub fn fingerprint(&self) -> u64 {
        let adapters = self.adaptation.adapters.iter().flatten();
        adapters.fold(self.model.fingerprint(), |fingerprint, (adapter, weight)| {
            let mut sum = Checksum::EMPTY;
            [fingerprint, adapter.fingerprint(), weight.to_bits().into()].into_iter().for_each(|word| sum.add(word));
            sum.value()
        })
    }

    /// Begins a batch: `tokens` follow those that the session holds.
    ///
    /// # Errors
    /// [`Error::State`] if a batch is under way; [`Error::Capacity`] if there are more tokens than a batch or the context
    /// holds, or more logits than there is room for; [`Error::Token`] if a token is not in the vocabulary. The session is
    /// as before.
    pub fn start(&mut self, tokens: &[u32], logits: Logits) -> Result<()> {
        self.demand_rest()?;
        let capacity = |what, need: usize, have: usize| {
            if need <= have { Ok(()) } else { Err(Error::Capacity { what, need, have }) }
        };
        capacity("tokens in a batch", tokens.len(), self.config.batch_tokens)?;
        capacity("tokens in the context", self.position.saturating_add(tokens.len()), self.config.context_tokens)?;
        let rows = match logits {
            Logits::None => 0,
            Logits::Last => tokens.len().min(1),
            Logits::Tail(rows) => tokens.len().min(rows),
            Logits::All => tokens.len(),
        };
        capacity("rows of logits", rows, self.config.logits_rows)?;
        let vocabulary = self.model.config().vocabulary;
        if let Some(index) = tokens.iter().position(|token| *token as usize >= vocabulary) {
            return Err(Error::Token { index, token: tokens[index], vocabulary });
        }
        self.rows = 0;
        self.few.truncate(0);
        if tokens.is_empty() {
            return Ok(());
        }
        self.tokens[..tokens.len()].copy_from_slice(tokens);
        let hidden = self.model.config().hidden;
        for (token, residual) in tokens.iter().zip(self.residual.chunks_mut(hidden)) {
            self.model.embedding().read(*token as usize, 0, residual);
        }
        self.attention.rotations.prepare(self.position..self.position + tokens.len());
        self.batch = Some(Batch { tokens: tokens.len(), rows, layer: 0 });
        Ok(())
    }

    /// Begins a batch of which only some logits after the last token are computed, bit for bit those that
    /// [`Session::start`] leads to. The logits of all other tokens are negative infinity; where there are none of `few`, all are
    /// computed.
    ///
    /// # Errors
    /// As [`Session::start`]; [`Error::Capacity`] also if there are more than [`FEW_LOGITS`] of `few`, and [`Error::Token`] if
    /// one of them is not in the vocabulary.
    pub fn start_few(&mut self, tokens: &[u32], few: impl Iterator<Item = u32>) -> Result<()> {
        self.start(tokens, Logits::Last)?;
        let vocabulary = self.model.config().vocabulary;
        for (index, token) in few.enumerate() {
            if token as usize >= vocabulary {
                self.cancel();
                return Err(Error::Token { index, token, vocabulary });
            }
            if !self.few.push(token) {
                self.cancel();
                return Err(Error::Capacity { what: "tokens with logits", need: index + 1, have: FEW_LOGITS });
            }
        }
        Ok(())
    }

    /// One layer of the batch, or its logits after the last layer.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a number is infinite or not a number, and [`Error::Read`] if an expert cannot be read; the batch is
    /// given up, and the session is where it was before it. [`Error::State`] if another session's step is reading experts of the
    /// same model: the batch is as it was, and the step can be repeated.
    pub fn step(&mut self, parallel: &dyn Parallel) -> Result<Progress> {
        let Some(mut batch) = self.batch else { return Ok(Progress::Done) };
        let config = self.model.config();
        let residual = &mut self.residual[..batch.tokens * config.hidden];
        if batch.layer < config.layers {
            let layer = self.model.layer(batch.layer);
            let place = Place { number: batch.layer, windowed: config.is_windowed(batch.layer) };
            let tools = (parallel, self.kernels);
            // Before anything is computed, so that the step can be repeated if they are in use.
            let mut weights = self.model.layer_experts(batch.layer)?;
            self.attention.forward(tools, config, (place, layer), &mut self.adaptation, self.position, residual);
            let experts = (batch.layer, layer, &mut weights);
            self.experts
                .forward(tools, config, experts, &mut self.adaptation, residual)
                .inspect_err(|_| self.batch = None)?;
            self.demand_finite(batch, batch.tokens * config.hidden)?;
            batch.layer += 1;
            self.batch = Some(batch);
            return Ok(Progress::More);
        }
        parallel.begin(Stage::Unembedding);
        let first = batch.tokens - batch.rows;
        self.normalized.fill(parallel, self.kernels, 0..batch.rows, |row, out| {
            let residual = &residual[(first + row) * config.hidden..][..config.hidden];
            rms_norm(residual, self.model.output_norm(), config.norm_epsilon, out);
        });
        let (unembedding, inputs) = (self.model.unembedding(), self.normalized.inputs(0));
        let logits = &mut self.logits[..batch.rows * config.vocabulary];
        let finite = if self.few.is_empty() {
            project_matrix(
                parallel,
                self.kernels,
                unembedding,
                &inputs,
                Tile::new(logits, batch.rows, config.vocabulary),
            );
            all_finite(logits)
        } else {
            let few = &mut self.few_logits[..self.few.len()];
            let out = Tile::new(few, 1, self.few.len());
            project_rows(parallel, self.kernels, unembedding, &self.few, &inputs, out);
            logits.fill(f32::NEG_INFINITY);
            self.few.iter().zip(&*few).for_each(|(token, logit)| logits[*token as usize] = *logit);
            all_finite(few)
        };
        if !finite {
            self.batch = None;
            return Err(Error::NotFinite { layer: config.layers });
        }
        self.batch = None;
        self.rows = batch.rows;
        self.position += batch.tokens;
        Ok(Progress::Done)
    }

    fn demand_finite(&mut self, batch: Batch, len: usize) -> Result<()> {
        if all_finite(&self.residual[..len]) {
            return Ok(());
        }
        self.batch = None;
        Err(Error::NotFinite { layer: batch.layer })
    }

    /// Steps the batch to its end.
    ///
    /// # Errors
    /// As [`Session::step`].
    pub fn run(&mut self, parallel: &dyn Parallel) -> Result<()> {
        while self.step(parallel)? == Progress::More {}
        Ok(())
    }

    /// Takes in any number of tokens, a batch at a time; logits of the last, if any are asked for, are there at the end.
    ///
    /// # Errors
    /// As [`Session::start`] and [`Session::step`]; batches before the failing one stay.
    pub fn run_all(&mut self, tokens: &[u32], parallel: &dyn Parallel) -> Result<()> {
        let mut batches = tokens.chunks(self.config.batch_tokens).peekable();
        while let Some(batch) = batches.next() {
            self.start(batch, if batches.peek().is_some() { Logits::None } else { Logits::Last })?;
            self.run(parallel)?;
        }
        Ok(())
    }

    /// Gives up a batch under way, if there is one. The session is where it was before it.
    pub fn cancel(&mut self) {
        self.batch = None;
    }

    /// The logits of the last batch: as many rows as were asked for, [vocabulary] each. Empty while a batch is under way.
    /// Behind [`Session::start_few`], negative infinity for the tokens that were not among the few.
    pub fn logits(&self) -> &[f32] {
        &self.logits[..self.rows * self.model.config().vocabulary]
    }

    /// For inspection: the residual stream of the batch under way after the layers done so far, [tokens][hidden]; before the
    /// first layer, the embeddings. Empty while no batch is under way.
    pub fn residual(&self) -> &[f32] {
        let tokens = self.batch.map_or(0, |batch| batch.tokens);
        &self.residual[..tokens * self.model.config().hidden]
    }

    /// Goes back: the session holds the first `position` tokens again.
    ///
    /// # Errors
    /// [`Error::State`] if a batch is under way, or the session has not been that far; [`Error::Rewind`] if the windowed
    /// layers no longer hold what is visible from there. The session is as before.
    pub fn rewind(&mut self, position: usize) -> Result<()> {
        self.demand_rest()?;
        self.demand_reach(position)?;
        self.go_to(position);
        Ok(())
    }

    /// The session could go back to this position, were no batch under way.
    pub(crate) fn demand_reach(&self, position: usize) -> Result<()> {
        if position > self.position {
            return Err(Error::State("a position that the session has reached"));
        }
        let earliest = self.attention.cache.earliest();
        if (1..earliest).contains(&position) {
            return Err(Error::Rewind { earliest });
        }
        Ok(())
    }

    /// Remembers what is visible from a position that the session could go back to, in place of what was marked before, so that
    /// it can be returned to from any distance.
    pub(crate) fn mark(&mut self, position: usize) {
        let places = self.places();
        self.attention.cache.mark(places, position);
    }

    /// The position that is marked.
    pub(crate) fn marked(&self) -> Option<usize> {
        self.attention.cache.marked()
    }

    /// Goes back to the marked position, if it is not beyond this one, otherwise to the beginning. A batch under way is given up.
    pub(crate) fn return_before(&mut self, position: usize) {
        self.cancel();
        let marked = self.marked().filter(|marked| *marked <= position.min(self.position));
        if marked.is_some() {
            let places = self.places();
            self.attention.cache.return_to_mark(places);
        }
        self.go_to(marked.unwrap_or(0));
    }

    /// The cache holds what a session at this position needs.
    pub(super) fn go_to(&mut self, position: usize) {
        if position == 0 {
            self.attention.cache.clear();
        }
        self.attention.cache.forget_mark_beyond(position);
        self.rows = 0;
        self.position = position;
    }

    pub(super) fn demand_rest(&self) -> Result<()> {
        if self.batch.is_none() {
            return Ok(());
        }
        Err(Error::State("no batch under way: step it to its end, or cancel it"))
    }

    pub(super) fn cache(&self) -> &KvCache<'r> {
        &self.attention.cache
    }

    pub(super) fn cache_mut(&mut self) -> &mut KvCache<'r> {
        &mut self.attention.cache
    }

    /// The layers, as the cache sees them.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + use<'r> {
        let config = self.model.config();
        (0..config.layers).map(|number| Place { number, windowed: config.is_windowed(number) })
    }

    /// The earliest position besides 0 that can be gone back to if the session was never beyond `farthest`.
    pub(crate) fn earliest_from(&self, farthest: usize) -> usize {
        self.attention.cache.earliest_from(farthest)
    }
}

fn carve<'r, 'w>(
    carver: &mut Carver<'r>,
    model: &'r Model<'r, 'w>,
    kernels: Kernels,
    config: &SessionConfig,
) -> Result<Session<'r, 'w>> {
    let numbers = model.config();
    let SessionConfig { context_tokens, batch_tokens, logits_rows, rewind_tokens, precision, adapter_rank, .. } =
        *config;
    let setting = |name, value: usize, least: usize| {
        if (least..=numbers.context_tokens).contains(&value) {
            Ok(())
        } else {
            Err(Error::Setting { name, expected: "a number of tokens within the model's context" })
        }
    };
    setting("context_tokens", context_tokens, 1)?;
    setting("batch_tokens", batch_tokens, 1)?;
    setting("logits_rows", logits_rows, 0)?;
    setting("rewind_tokens", rewind_tokens, 0)?;
    let row = (numbers.heads + 2 * numbers.kv_heads) * numbers.head_dim;
    let heads = numbers.heads * numbers.head_dim;
    Ok(Session {
        model,
        kernels,
        config: *config,
        position: 0,
        batch: None,
        tokens: carver.filled(batch_tokens, 0)?,
        residual: carver.filled([batch_tokens, numbers.hidden], 0.0)?,
        attention: Attention {
            normalized: Activations::carve(carver, batch_tokens, numbers.hidden, precision)?,
            query_key_value: carver.filled([batch_tokens, row], 0.0)?,
            context: Activations::carve(carver, batch_tokens, heads, precision)?,
            output: carver.filled([batch_tokens, numbers.hidden], 0.0)?,
            sinks: carver.filled(numbers.heads, 0.0)?,
            rotations: Rotations::carve(carver, numbers, batch_tokens)?,
            cache: KvCache::carve(carver, numbers, config)?,
        },
        experts: Experts::carve(carver, numbers, batch_tokens, precision)?,
        adaptation: Adaptation::carve(carver, numbers, batch_tokens, adapter_rank)?,
        normalized: Activations::carve(carver, logits_rows, numbers.hidden, precision)?,
        logits: carver.filled([logits_rows, numbers.vocabulary], 0.0)?,
        few: carver.list(FEW_LOGITS)?,
        few_logits: carver.filled(FEW_LOGITS, 0.0)?,
        rows: 0,
    })
}
