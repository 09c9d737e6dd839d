//! What may come next, so that it can be computed together with what does.
//!
//! Several tokens in one pass cost less than a pass for each, and logits do not depend on how tokens are cut into batches.
//! So a guess that turns out right has saved a pass, and one that turns out wrong has cost a part of one; it can change
//! nothing else. The guess is what followed where the last tokens stood before. Whether it pays is known without trying:
//! what was expected is compared with what came, drafted or not.

use core::mem::MaybeUninit;

use crate::error::Result;
use crate::kernels::Kernels;
use crate::model::Role;
use crate::region::{Carver, Layout};
use crate::transformer::Session;

use super::lookup::{Lookup, Place};

/// Drafts the continuation of a text by looking up in it where its last tokens stood before.
pub struct Drafter<'r> {
    lookup: Lookup<'r>,
    cost: PassCost,
    /// How often what was expected came, by how many tokens stood there before: fewer than 4, 8, 16, 32, 64, or more.
    rates: [Rate; RATES.len()],
    /// Where the text went on as it now should, and how long the text is.
    expected: Option<(Place, usize)>,
}

/// A draft must be expected to bring so many times the tokens of its cost in passes.
const WORTH: f32 = 1.1;
/// What is assumed of the rates until they are known: most of what is copied goes on.
const RATES: [f32; 6] = [0.4, 0.6, 0.8, 0.9, 0.95, 0.98];
/// As how many observations that counts.
const ASSUMED: f32 = 8.0;
/// Observations after which older ones count half.
const MEMORY: f32 = 128.0;

#[derive(Clone, Copy)]
struct Rate {
    came: f32,
    of: f32,
}

/// What a pass over several tokens costs, where one over a single token costs 1.
#[derive(Clone, Copy)]
struct PassCost {
    /// Bytes of experts among those that one token reads, as a share.
    experts: f32,
    /// Experts of a layer that one token reads, as a share.
    chosen: f32,
    /// What the arithmetic of each further token costs, besides the bytes of further experts.
    further_token: f32,
}

/// As measured with AVX-512 (`bench/records/2026-11-26.md`), where memory is as fast as two threads can use; with more
/// threads a token costs less.
const FURTHER_TOKEN: f32 = 0.47;
/// The portable kernels gain nothing from several tokens.
const FURTHER_TOKEN_PORTABLE: f32 = 1.0;

impl<'r> Drafter<'r> {
    /// What [`Drafter::new`] takes, for a text of so many tokens: 8 to 12 bytes for each.
    ///
    /// # Errors
    /// [`crate::error::Error::RegionTooSmall`] if it is more than an address space.
    pub fn layout(context_tokens: usize) -> Result<Layout> {
        let mut carver = Carver::measuring();
        Lookup::carve(&mut carver, context_tokens)?;
        Ok(carver.layout())
    }

    /// A drafter for texts of at most so many tokens.
    ///
    /// # Errors
    /// [`crate::error::Error::RegionTooSmall`] and [`crate::error::Error::RegionAlign`].
    pub fn new(region: &'r mut [MaybeUninit<u8>], context_tokens: usize, session: &Session<'_, '_>) -> Result<Self> {
        Ok(Self::with(Lookup::carve(&mut Carver::placing(region)?, context_tokens)?, session))
    }

    pub(super) fn with(lookup: Lookup<'r>, session: &Session<'_, '_>) -> Self {
        let rates = RATES.map(|rate| Rate { came: rate * ASSUMED, of: ASSUMED });
        Self { lookup, cost: PassCost::of(session), rates, expected: None }
    }

    /// The text is cut to this length, or differs from here on from what it was.
    pub fn cut(&mut self, len: usize) {
        self.lookup.cut(len);
    }

    /// Takes notice of the last token, which the model wrote.
    pub fn observe(&mut self, tokens: &[u32]) {
        let Some((place, len)) = self.expected.filter(|(_, len)| len + 1 == tokens.len()) else { return };
        let came = tokens[place.position] == tokens[len];
        self.rates[class(place.len)].observe(came);
        if came {
            self.expected = Some((Place { position: place.position + 1, len: place.len + 1 }, len + 1));
        }
    }

    /// Writes behind the first `len` tokens what is likely to follow them: at most `most` tokens, as many as promise the most
    /// for their cost, and none if none is likely enough. Returns how many.
    ///
    /// # Panics
    /// If there are fewer than `len` tokens, or more than the context that the drafter is for.
    pub fn draft(&mut self, tokens: &mut [u32], len: usize, most: usize) -> usize {
        // What was copied may go on even after other tokens came than were expected.
        let hint = self.expected.and_then(|(place, before)| Some(place.position + len.checked_sub(before)?));
        let Some(place) = self.lookup.find(&tokens[..len], hint) else { return 0 };
        self.expected = Some((place, len));
        let count = self.worth(place.len, most.min(tokens.len() - len));
        for index in 0..count {
            // A text that repeats itself goes on with what is being written here.
            tokens[len + index] = tokens[place.position + index];
        }
        count
    }

    /// How many tokens to draft where so many stood before.
    fn worth(&self, len: usize, most: usize) -> usize {
        let (mut count, mut best) = (0, WORTH);
        let (mut all_come, mut tokens) = (1.0, 1.0);
        for (drafted, cost) in (1..=most).zip(self.cost.after_first()) {
            all_come *= self.rates[class(len + drafted - 1)].value();
            tokens += all_come;
            if tokens / cost > best {
                (count, best) = (drafted, tokens / cost);
            }
        }
        count
    }
}

/// Of tokens that stood before, at least 2.
fn class(len: usize) -> usize {
    (len.ilog2() as usize).saturating_sub(1).min(RATES.len() - 1)
}

impl Rate {
    fn observe(&mut self, came: bool) {
        self.came += f32::from(u8::from(came));
        self.of += 1.0;
        if self.of >= MEMORY {
            (self.came, self.of) = (self.came / 2.0, self.of / 2.0);
        }
    }

    fn value(self) -> f32 {
        self.came / self.of
    }
}

impl PassCost {
    fn of(session: &Session<'_, '_>) -> Self {
        let model = session.model();
        let numbers = model.config();
        let chosen = numbers.experts_per_token as f32 / numbers.experts as f32;
        let (mut dense, mut experts) = (0.0, 0.0);
        for tensor in model.tensors() {
            let size = tensor.size as f32;
            match tensor.id.role {
                // Only rows of it are read.
                Role::Embedding => {}
                role if role.is_expert() => experts += size * chosen,
                _ => dense += size,
            }
        }
        let is_portable = session.kernels().name() == Kernels::portable().name();
        let further_token = if is_portable { FURTHER_TOKEN_PORTABLE } else { FURTHER_TOKEN };
        Self { experts: experts / (experts + dense), chosen, further_token }
    }

    /// Of 2 tokens, 3, and so on. The experts of different tokens are taken to be as different as chance has it.
    fn after_first(self) -> impl Iterator<Item = f32> {
        let mut unread = 1.0 - self.chosen;
        (1..=u16::MAX).map(move |further| {
            unread *= 1.0 - self.chosen;
            let bytes = 1.0 - self.experts + self.experts * (1.0 - unread) / self.chosen;
            bytes + self.further_token * f32::from(further)
        })
    }
}
