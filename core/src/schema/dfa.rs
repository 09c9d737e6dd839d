//! Deterministic automata over code points: made from nondeterministic ones, or from a rule.

use super::regex::{LAST, Nfa, Parsed, Step};
use super::table::{Table, mix};
use crate::region::{Carver, List};
use crate::tokenizer::vocabulary::TOKEN_BYTES_MAX;

/// No state, no label.
pub const NONE: u32 = u32::MAX;

/// A state.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// Where its edges begin.
    pub first: u32,
    /// How many there are, by ascending characters.
    pub count: u32,
    /// What a text that ends here is; [`NONE`] if none may.
    pub label: u32,
    /// Whether every text may follow, and leads back here.
    pub is_free: bool,
    /// After how many characters a text can be completed whatever they are, besides control characters and line separators;
    /// [`OPEN_MAX`] for that many or more.
    pub open: u16,
    /// How many characters can follow at most; [`OPEN_MAX`] for that many or more.
    pub most: u16,
}

/// As many characters as a token may have.
pub const OPEN_MAX: u16 = TOKEN_BYTES_MAX as u16;

/// Characters that lead to another state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    pub low: u32,
    pub high: u32,
    pub target: u32,
}

/// All characters besides control characters, line separators and surrogates.
const ORDINARY: [[u32; 2]; 3] = [[0x20, 0x2027], [0x202A, 0xD7FF], [0xE000, LAST]];

/// Whether there is an edge for each character of these ranges.
pub fn cover<'e>(edges: impl Iterator<Item = &'e Edge> + Clone, ranges: &[[u32; 2]]) -> bool {
    let mut edges = edges.peekable();
    ranges.iter().all(|[low, high]| {
        let mut next = *low;
        while let Some(edge) = edges.peek()
            && edge.low <= next
        {
            if edge.high >= *high {
                return true;
            }
            next = next.max(edge.high + 1);
            edges.next();
        }
        false
    })
}

/// Many automata side by side. From every state a text that ends can be completed.
pub struct Automata<S, E> {
    pub states: S,
    pub edges: E,
}

impl<S: core::ops::Deref<Target = [State]>, E: core::ops::Deref<Target = [Edge]>> Automata<S, E> {
    pub fn edges_of(&self, state: u32) -> &[Edge] {
        let State { first, count, .. } = self.states[state as usize];
        &self.edges[first as usize..(first + count) as usize]
    }

    /// Where a character leads.
    pub fn next(&self, state: u32, character: u32) -> Option<u32> {
        /// Of so few edges, to look at one after the other is quicker than to search.
        const FEW: usize = 8;
        let edges = self.edges_of(state);
        let edge = match edges.len() {
            ..=FEW => edges.iter().find(|edge| edge.high >= character)?,
            _ => edges.get(edges.partition_point(|edge| edge.high < character))?,
        };
        (edge.low <= character).then_some(edge.target)
    }

    /// Where a text leads.
    pub fn run(&self, state: u32, text: impl Iterator<Item = char>) -> Option<u32> {
        text.into_iter().try_fold(state, |state, character| self.next(state, character.into()))
    }

    /// What a text that ends here is.
    pub fn label(&self, state: u32) -> u32 {
        self.states[state as usize].label
    }
}

/// The automata of a schema, being built.
pub type Drafts<'r> = Automata<List<'r, State>, List<'r, Edge>>;

impl Drafts<'_> {
    /// Finds what can follow from the states of an automaton, of which these are the first and the one behind the last.
    fn look_ahead(&mut self, base: u32, end: u32) {
        for state in base..end {
            let own = self.edges_of(state);
            let State { label, .. } = self.states[state as usize];
            let is_free = label != NONE && matches!(own, [Edge { low: 0, high: LAST, target }] if *target == state);
            let open = if cover(own.iter(), &ORDINARY) { OPEN_MAX } else { 0 };
            let most = if own.iter().any(|edge| edge.target == state) { OPEN_MAX } else { 0 };
            self.states[state as usize] = State { is_free, open, most, ..self.states[state as usize] };
        }
        let mut changed = true;
        while core::mem::take(&mut changed) {
            for state in (base..end).rev() {
                let edges = self.edges_of(state);
                let target = |edge: &Edge| self.states[edge.target as usize];
                let old = self.states[state as usize];
                let open = edges.iter().map(|edge| target(edge).open).min().map_or(0, |open| open + 1).min(old.open);
                let most = edges.iter().map(|edge| target(edge).most + 1).max().unwrap_or(0).min(OPEN_MAX);
                changed |= open != old.open || most > old.most;
                self.states[state as usize] = State { open, most: most.max(old.most), ..old };
            }
        }
    }

    /// Lets no text end under these labels any more, of an automaton. False if then none can.
    pub fn retire(&mut self, start: u32, labels: u64) -> bool {
        // States come in the order in which they are found from the first on. For now `open` says whether a text can end.
        let (mut state, mut end) = (start, start + 1);
        while state < end {
            end = self.edges_of(state).iter().fold(end, |end, edge| end.max(edge.target + 1));
            let place = &mut self.states[state as usize];
            if place.label < u64::BITS && labels >> place.label & 1 == 1 {
                place.label = NONE;
            }
            place.open = u16::from(place.label != NONE);
            state += 1;
        }
        let mut changed = true;
        while core::mem::take(&mut changed) {
            for state in (start..end).rev() {
                let leads_on = self.edges_of(state).iter().any(|edge| self.states[edge.target as usize].open != 0);
                if leads_on && core::mem::replace(&mut self.states[state as usize].open, 1) == 0 {
                    changed = true;
                }
            }
        }
        if self.states[start as usize].open == 0 {
            return false;
        }
        for state in start..end {
            let State { first, count, .. } = self.states[state as usize];
            let mut kept = first;
            for edge in first..first + count {
                let edge = self.edges[edge as usize];
                if self.states[edge.target as usize].open != 0 {
                    self.edges[kept as usize] = edge;
                    kept += 1;
                }
            }
            self.states[state as usize].count = kept - first;
        }
        self.look_ahead(start, end);
        true
    }
}

/// Memory to build one automaton in.
pub struct Workshop<'r> {
    pub nfa: Nfa<'r>,
    /// The states found so far: of the elements of its subset the first and how many, and its hash; or its key.
    found: List<'r, (u32, u32, u64)>,
    members: List<'r, u32>,
    table: Table<'r>,
    /// Of each of these states: what a text that ends there is, and whether it can end at all.
    labels: List<'r, (u32, bool)>,
    /// Behind the last of its edges.
    ends: List<'r, u32>,
    pending: List<'r, u32>,
    bounds: List<'r, u32>,
    /// When each step of the nondeterministic automaton was last visited.
    visited: List<'r, u32>,
    visit: u32,
    /// How many steps may still be looked at: those of a subset are, for each character that makes a difference.
    work: u64,
}

const TOO_MANY: &str = "patterns that take fewer states";

impl<'r> Workshop<'r> {
    /// For patterns and names of at most so many bytes in all.
    pub fn carve(carver: &mut Carver<'r>, size: usize) -> crate::error::Result<Self> {
        // A list of short alternatives takes more than two for each byte.
        let steps = (8192 + size).max(5 * size / 2);
        let states = size.max(4096);
        let mut visited = carver.list(steps)?;
        while visited.push(0) {}
        Ok(Self {
            nfa: Nfa { steps: carver.list(steps)?, ranges: carver.list(steps)? },
            found: carver.list(states)?,
            members: carver.list(49_152 + 4 * size)?,
            table: Table::new(carver.filled(2 * states, 0)?),
            labels: carver.list(states)?,
            ends: carver.list(states)?,
            pending: carver.list(steps)?,
            bounds: carver.list(steps)?,
            visited,
            visit: 0,
            work: 1 << 28,
        })
    }

    /// Returns where the edges of the next automaton begin.
    fn begin(&mut self, drafts: &mut Drafts<'_>) -> usize {
        self.found.truncate(0);
        self.members.truncate(0);
        self.table.clear();
        self.labels.truncate(0);
        self.ends.truncate(0);
        // One that was given up may have left some.
        let first_edge = drafts.states.last().map_or(0, |state| (state.first + state.count) as usize);
        drafts.edges.truncate(first_edge);
        first_edge
    }

    fn spend(&mut self, work: usize) -> Parsed<()> {
        self.work = self.work.checked_sub(work as u64).ok_or(TOO_MANY)?;
        Ok(())
    }

    /// Adds a step and all that it leads to without a character to the members of a subset.
    fn close(&mut self, step: u32, at_start: bool, at_end: bool) -> Parsed<()> {
        self.pending.truncate(0);
        let push = |pending: &mut List<'_, u32>, step: u32| pending.push(step).then_some(()).ok_or(TOO_MANY);
        push(&mut self.pending, step)?;
        while let Some(&step) = self.pending.last() {
            let len = self.pending.len();
            self.pending.truncate(len - 1);
            self.spend(1)?;
            if core::mem::replace(&mut self.visited[step as usize], self.visit) == self.visit {
                continue;
            }
            match self.nfa.steps[step as usize] {
                Step::Empty(next) => push(&mut self.pending, next)?,
                Step::Split(left, right) => {
                    push(&mut self.pending, right)?;
                    push(&mut self.pending, left)?;
                }
                Step::Start(next) if at_start => push(&mut self.pending, next)?,
                Step::Start(_) => {}
                Step::End(next) => {
                    if at_end {
                        push(&mut self.pending, next)?;
                    }
                    push(&mut self.members, step)?;
                }
                Step::Take(..) | Step::Accept(_) => push(&mut self.members, step)?,
            }
        }
        Ok(())
    }

    /// The number of the state whose subset is at the end of the members, new or not.
    fn state(&mut self, first: usize) -> Parsed<u32> {
        self.members[first..].sort_unstable();
        let hash = self.members[first..].iter().fold(1, |hash, step| mix(hash, (*step).into()));
        let new = self.found.len() as u32;
        let (found, members) = (&*self.found, &*self.members);
        let subset = |state: u32| {
            let (first, count, _) = found[state as usize];
            &members[first as usize..(first + count) as usize]
        };
        let is_it = |state: u32| found[state as usize].2 == hash && *subset(state) == members[first..];
        let (state, fits) = self.table.get_or_put(hash, new, is_it);
        if !fits {
            return Err(TOO_MANY);
        }
        if state != new {
            self.members.truncate(first);
        } else if !self.found.push((first as u32, (self.members.len() - first) as u32, hash)) {
            return Err(TOO_MANY);
        }
        Ok(state)
    }

    /// The automaton for the texts that `starts` lead to: what a text is follows from the labels that it is accepted
    /// under, one bit each.
    pub fn determinize(
        &mut self,
        starts: &[u32],
        drafts: &mut Drafts<'_>,
        label_of: &dyn Fn(u32) -> u32,
    ) -> Parsed<u32> {
        let first_edge = self.begin(drafts);
        self.visit += 1;
        for start in starts {
            self.close(*start, true, false)?;
        }
        self.state(0)?;
        let mut at = 0;
        while at < self.found.len() {
            let (first, count, _) = self.found[at];
            let subset = first as usize..(first + count) as usize;
            // Labels, at the end of the text.
            self.visit += 1;
            let before = self.members.len();
            for index in subset.clone() {
                let step = self.members[index];
                self.close(step, false, true)?;
            }
            let accepted = self.members[before..].iter().fold(0, |labels, step| match self.nfa.steps[*step as usize] {
                Step::Accept(label) => labels | 1 << label,
                _ => labels,
            });
            self.members.truncate(before);
            let label = label_of(accepted);
            if !self.labels.push((label, label != NONE)) {
                return Err(TOO_MANY);
            }
            // The characters that make a difference.
            self.bounds.truncate(0);
            for index in subset.clone() {
                if let Step::Take(first, count, _) = self.nfa.steps[self.members[index] as usize] {
                    for range in first..first + count {
                        let [low, high] = self.nfa.ranges[range as usize];
                        if !self.bounds.push(low) || !self.bounds.push(high + 1) {
                            return Err(TOO_MANY);
                        }
                    }
                }
            }
            self.bounds.sort_unstable();
            let mut last: Option<Edge> = None;
            for bound in 0..self.bounds.len().saturating_sub(1) {
                let (low, end) = (self.bounds[bound], self.bounds[bound + 1]);
                if low == end {
                    continue;
                }
                self.visit += 1;
                self.spend(subset.len())?;
                let before = self.members.len();
                for index in subset.clone() {
                    let Step::Take(first, count, next) = self.nfa.steps[self.members[index] as usize] else { continue };
                    // By ascending characters.
                    let ranges = &self.nfa.ranges[first as usize..(first + count) as usize];
                    let range = ranges.partition_point(|[_, to]| *to < low);
                    if ranges.get(range).is_some_and(|[from, _]| *from <= low) {
                        self.close(next, false, false)?;
                    }
                }
                if self.members.len() == before {
                    continue;
                }
                let target = self.state(before)?;
                match &mut last {
                    Some(edge) if edge.target == target && edge.high + 1 == low => edge.high = end - 1,
                    _ => {
                        keep_edge(drafts, last.take())?;
                        last = Some(Edge { low, high: end - 1, target });
                    }
                }
            }
            keep_edge(drafts, last)?;
            self.end_state(drafts)?;
            at += 1;
        }
        self.finish(first_edge, drafts)
    }

    fn end_state(&mut self, drafts: &Drafts<'_>) -> Parsed<()> {
        if self.ends.push(drafts.edges.len() as u32) { Ok(()) } else { Err(TOO_MANY) }
    }

    /// The automaton whose states are keys, by a rule: where a character leads, and what a text that ends there is.
    pub fn explore(
        &mut self,
        start: u64,
        characters: &[u8],
        drafts: &mut Drafts<'_>,
        next: &dyn Fn(u64, u8) -> Option<u64>,
        is_end: &dyn Fn(u64) -> bool,
    ) -> Parsed<u32> {
        let first_edge = self.begin(drafts);
        self.state_of(start)?;
        let mut at = 0;
        while at < self.found.len() {
            let key = self.found[at].2;
            let label = if is_end(key) { 0 } else { NONE };
            if !self.labels.push((label, label != NONE)) {
                return Err(TOO_MANY);
            }
            let mut last: Option<Edge> = None;
            for &character in characters {
                let Some(key) = next(key, character) else { continue };
                let target = self.state_of(key)?;
                let character = u32::from(character);
                match &mut last {
                    Some(edge) if edge.target == target && edge.high + 1 == character => edge.high = character,
                    _ => {
                        keep_edge(drafts, last.take())?;
                        last = Some(Edge { low: character, high: character, target });
                    }
                }
            }
            keep_edge(drafts, last)?;
            self.end_state(drafts)?;
            at += 1;
        }
        self.finish(first_edge, drafts)
    }

    fn state_of(&mut self, key: u64) -> Parsed<u32> {
        let new = self.found.len() as u32;
        let found = &*self.found;
        let (state, fits) = self.table.get_or_put(mix(1, key), new, |state| found[state as usize].2 == key);
        if !fits || state == new && !self.found.push((0, 0, key)) {
            return Err(TOO_MANY);
        }
        Ok(state)
    }

    /// Keeps the states from which a text can be completed, of those whose edges are from `first_edge` on. Returns the first; [`NONE`] if no
    /// text can.
    fn finish(&mut self, first_edge: usize, drafts: &mut Drafts<'_>) -> Parsed<u32> {
        let mut changed = true;
        while core::mem::take(&mut changed) {
            let mut end = drafts.edges.len();
            for state in (0..self.labels.len()).rev() {
                let begin = if state == 0 { first_edge } else { self.ends[state - 1] as usize };
                let leads_on = |edge: &Edge| self.labels[edge.target as usize].1;
                if !self.labels[state].1 && drafts.edges[begin..end].iter().any(leads_on) {
                    self.labels[state].1 = true;
                    changed = true;
                }
                end = begin;
            }
        }
        // Their places among all.
        let base = drafts.states.len() as u32;
        self.pending.truncate(0);
        let mut live = base;
        for (_, lives) in self.labels.iter() {
            if !self.pending.push(if *lives { live } else { NONE }) {
                return Err(TOO_MANY);
            }
            live += u32::from(*lives);
        }
        // Edges only move towards the first.
        let (mut at, mut kept) = (first_edge, first_edge);
        for (state, &(label, lives)) in self.labels.iter().enumerate() {
            let first = kept;
            for edge in at..self.ends[state] as usize {
                let edge = drafts.edges[edge];
                let target = self.pending[edge.target as usize];
                if lives && target != NONE {
                    drafts.edges[kept] = Edge { target, ..edge };
                    kept += 1;
                }
            }
            at = self.ends[state] as usize;
            if !lives {
                continue;
            }
            let count = (kept - first) as u32;
            let state = State { first: first as u32, count, label, is_free: false, open: 0, most: 0 };
            if !drafts.states.push(state) {
                return Err(TOO_MANY);
            }
        }
        drafts.edges.truncate(kept);
        drafts.look_ahead(base, live);
        Ok(self.pending.first().copied().unwrap_or(NONE))
    }
}

fn keep_edge(drafts: &mut Drafts<'_>, edge: Option<Edge>) -> Parsed<()> {
    // Surrogates are no characters.
    let edge = edge.filter(|edge| edge.low < 0xD800 || edge.high > 0xDFFF);
    match edge {
        Some(edge) if !drafts.edges.push(edge) => Err(TOO_MANY),
        _ => Ok(()),
    }
}
