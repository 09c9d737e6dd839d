//! `ossicle bench --drafts`: what drafting saves where an answer repeats what was said, and what it costs elsewhere.
//!
//! The tokens are those of a given text, whatever the model would have drawn, so that weights which have learnt nothing
//! serve as well: what is measured is the drafting and the passes, and not how often a model repeats itself.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use ossicle_core::generation::Drafter;
use ossicle_core::parallel::Parallel;
use ossicle_core::sampling::{Sampler, SamplerConfig};
use ossicle_core::tokenizer::Specials;
use ossicle_core::transformer::{DRAFT_TOKENS, Logits, Session, SessionConfig};
use ossicle_host::{Memory, Threads};
use serde_json::{Value, json};

use crate::open::{ComputeOptions, Opened, explain, with_tokenizer};

/// What to draft.
#[derive(Args)]
pub struct Options {
    /// Measures drafting instead: the tokens of --answer after those of --before, with and without.
    #[arg(long)]
    pub drafts: bool,
    /// A text that stands before the answer [default: random tokens].
    #[arg(long, value_name = "FILE", requires = "drafts")]
    before: Option<PathBuf>,
    /// The answer [default: random tokens].
    #[arg(long, value_name = "FILE", requires = "drafts")]
    answer: Option<PathBuf>,
    /// Most tokens to draft.
    #[arg(long, default_value_t = DRAFT_TOKENS, value_name = "TOKENS", requires = "drafts")]
    draft_tokens: usize,
}

/// Tokens after which plain and drafted passes take turns, so that both meet the same machine.
const STRETCH: usize = 24;
/// Tokens in the passes that are timed by themselves.
const SIZES: [usize; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];
/// How many of each.
const PASSES: usize = 3;

/// Measures with at most so many tokens before the answer, of which the last count, and in the answer.
pub fn measure(options: &Options, compute: &ComputeOptions, most: [usize; 2], opened: &Opened<'_>) -> Result<Value> {
    let (mut before, mut answer) = with_tokenizer(opened, |tokenizer| {
        let mut sampler = Sampler::new(SamplerConfig::default())?;
        let uniform = vec![0.0; tokenizer.vocabulary_len()];
        let mut tokens = |path: &Option<PathBuf>, most: usize| -> Result<Vec<u32>> {
            let Some(path) = path else { return (0..most).map(|_| Ok(sampler.sample(&uniform, |_| true)?)).collect() };
            let mut tokens = Vec::new();
            tokenizer.encode(&read(path)?, Specials::None, |token| tokens.push(token));
            Ok(tokens)
        };
        Ok((tokens(&options.before, most[0])?, tokens(&options.answer, most[1])?))
    })?;
    before.drain(..before.len().saturating_sub(most[0]));
    answer.truncate(most[1]);
    if before.is_empty() || answer.is_empty() {
        bail!("--before, --answer: expected at least one token in each");
    }

    let threads = Threads::new(compute.threads());
    let default = SessionConfig::within(opened.model.config());
    let config = SessionConfig {
        context_tokens: before.len() + answer.len() + options.draft_tokens + 1,
        logits_rows: options.draft_tokens + 1,
        rewind_tokens: STRETCH + options.draft_tokens,
        precision: compute.precision(),
        cache: compute.cache_format(),
        adapter_rank: opened.adapter_rank(),
        ..default
    };
    let mut memory = Memory::new(Session::layout(opened.model, &config)?)?;
    let mut session = Session::new(memory.region(), opened.model, compute.kernels()?, &config)?;
    session.adapt(opened.adapters)?;
    let mut memory = Memory::new(Drafter::layout(config.context_tokens)?)?;
    let mut drafter = Drafter::new(memory.region(), config.context_tokens, &session)?;

    let known = before.len();
    let mut tokens = before;
    session.run_all(&tokens[..known - 1], &threads).map_err(|error| explain(error, opened))?;
    tokens.extend_from_slice(&answer);
    let mut bench = Bench { session, threads: &threads, sampler: Sampler::new(SamplerConfig::default())? };
    let mut passes = serde_json::Map::new();
    for count in SIZES.into_iter().filter(|count| *count <= (options.draft_tokens + 1).min(tokens.len() - known)) {
        let mut times = Vec::new();
        for _ in 0..PASSES {
            times.push(bench.pass(&tokens[known - 1..][..count])?);
            bench.session.rewind(known - 1)?;
        }
        times.sort();
        passes.insert(count.to_string(), json!(times[PASSES / 2].as_secs_f64() * 1e3));
    }

    // What is drafted is written behind what is known.
    let mut text = vec![0; config.context_tokens];
    let (mut at, mut plain, mut with_drafts) = (known, Duration::ZERO, Duration::ZERO);
    let (mut count, mut drafted, mut accepted) = (0, 0, 0);
    let mut plain_first = false;
    while at < tokens.len() {
        let (begin, end) = (at, (at + STRETCH).min(tokens.len()));
        // Whichever comes first finds the caches colder.
        let mut plain_end = begin;
        if plain_first {
            plain += bench.plain(&tokens[begin - 1..end - 1])?;
            plain_end = end;
            bench.session.rewind(begin - 1)?;
        }
        let start = Instant::now();
        while at < end {
            text[..at].copy_from_slice(&tokens[..at]);
            let draft = drafter.draft(&mut text, at, options.draft_tokens.min(tokens.len() - at - 1));
            bench.pass(&text[at - 1..at + draft])?;
            let came = text[at..at + draft].iter().zip(&tokens[at..]).take_while(|(drafted, token)| drafted == token);
            let came = came.count();
            for _ in 0..=came {
                bench.draw(draft + 1 - came)?;
                at += 1;
                drafter.observe(&tokens[..at]);
            }
            bench.session.rewind(at - 1)?;
            (count, drafted, accepted) = (count + 1, drafted + draft, accepted + came);
        }
        with_drafts += start.elapsed();
        bench.session.rewind(plain_end - 1)?;
        plain += bench.plain(&tokens[plain_end - 1..at - 1])?;
        plain_first = !plain_first;
    }
    let len = tokens.len() - known;
    let per_second = |time: Duration| len as f64 / time.as_secs_f64().max(1e-9);
    Ok(json!({
        "kernels": bench.session.kernels().name(),
        "threads": threads.workers() + 1,
        "before_tokens": known,
        "answer_tokens": len,
        "pass_milliseconds": passes,
        "passes": count,
        "drafted_tokens": drafted,
        "accepted_tokens": accepted,
        "plain_tokens_per_second": per_second(plain),
        "drafted_tokens_per_second": per_second(with_drafts),
        "ratio": plain.as_secs_f64() / with_drafts.as_secs_f64().max(1e-9),
    }))
}

struct Bench<'a, 'r, 'w> {
    session: Session<'r, 'w>,
    threads: &'a Threads,
    sampler: Sampler<'a>,
}

impl Bench<'_, '_, '_> {
    /// Takes in tokens, with logits after each.
    fn pass(&mut self, tokens: &[u32]) -> Result<Duration> {
        let start = Instant::now();
        self.session.start(tokens, Logits::All)?;
        self.session.run(self.threads)?;
        Ok(start.elapsed())
    }

    /// Takes in tokens one by one, and draws after each.
    fn plain(&mut self, tokens: &[u32]) -> Result<Duration> {
        let start = Instant::now();
        for token in tokens {
            self.pass(&[*token])?;
            self.draw(1)?;
        }
        Ok(start.elapsed())
    }

    /// Draws after the last token but so many less one, to take the time that it takes.
    fn draw(&mut self, from_end: usize) -> Result<u32> {
        let vocabulary = self.session.model().config().vocabulary;
        let logits = self.session.logits();
        let row = &logits[logits.len() - from_end * vocabulary..][..vocabulary];
        Ok(self.sampler.sample(row, |_| true)?)
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}
