use crate::error::Result;
use crate::region::Carver;

/// Tokens that must have stood together before, for what followed them to count.
const GRAM: usize = 3;
/// How many of the places where they stood are compared.
const PLACES: usize = 16;
/// How many tokens before a place are compared.
const REACH: usize = 64;

/// Where the last tokens of a text stood in it before. Each position is listed under the tokens just before it, so that
/// neither listing it nor finding a place depends on how long the text is; after a cut all is listed anew.
pub(super) struct Lookup<'r> {
    /// The last position listed under each hash, or 0: [a power of two].
    last: &'r mut [u32],
    /// For each position, the one listed before it under the same hash, or 0: [context_tokens + 1].
    before: &'r mut [u32],
    /// Positions up to this one are listed.
    listed: usize,
}

/// A place where the last tokens stood before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The position after them.
    pub position: usize,
    /// How many of the last 64 tokens stood there, up to the second that did not.
    pub len: usize,
}

impl<'r> Lookup<'r> {
    pub fn carve(carver: &mut Carver<'r>, context_tokens: usize) -> Result<Self> {
        // Beyond an address space, that is what the carver says.
        let hashes = context_tokens.checked_next_power_of_two().unwrap_or(context_tokens);
        Ok(Self {
            last: carver.filled(hashes, 0)?,
            before: carver.filled(context_tokens.saturating_add(1), 0)?,
            listed: 0,
        })
    }

    /// The text differs from this length on from what was listed, or ends there.
    pub fn cut(&mut self, len: usize) {
        if len < self.listed {
            self.last.fill(0);
            self.listed = 0;
        }
    }

    /// The place where most of the last tokens stood; among equals `hint`, which need not be such a place, then the latest.
    pub fn find(&mut self, tokens: &[u32], hint: Option<usize>) -> Option<Place> {
        self.cut(tokens.len());
        self.list(tokens);
        let end = tokens.len();
        let mut best: Option<Place> = None;
        let mut compare = |position: usize| {
            let pairs = tokens[..position].iter().rev().zip(tokens.iter().rev()).take(REACH);
            let (mut len, mut is_replaced) = (0, false);
            for (there, here) in pairs {
                if there == here {
                    len += 1;
                } else if len < GRAM || is_replaced {
                    break;
                } else {
                    // A copy goes on behind what was changed in it.
                    is_replaced = true;
                }
            }
            if len >= GRAM && best.is_none_or(|best| len > best.len) {
                best = Some(Place { position, len });
            }
        };
        hint.filter(|hint| *hint < end).into_iter().for_each(&mut compare);
        let newest = self.before.get(end).map_or(0, |position| *position as usize);
        let next = |position: &usize| Some(self.before[*position] as usize);
        core::iter::successors(Some(newest), next).take_while(|position| *position > 0).take(PLACES).for_each(compare);
        best
    }

    fn list(&mut self, tokens: &[u32]) {
        for position in self.listed + 1..=tokens.len() {
            if let Some(gram) = tokens[..position].last_chunk::<GRAM>() {
                let last = &mut self.last[hash(gram) & (self.last.len() - 1)];
                self.before[position] = core::mem::replace(last, position as u32);
            }
        }
        self.listed = tokens.len();
    }
}

/// As FNV-1a does it, a token at a time.
fn hash(gram: &[u32; GRAM]) -> usize {
    let mixed = gram.iter().fold(0x811c_9dc5_u32, |hash, token| (hash ^ token).wrapping_mul(0x0100_0193));
    (mixed ^ mixed >> 15) as usize
}
