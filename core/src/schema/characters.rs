//! Sets of characters, so coarse that tokens can be sorted by those that they hold: what a pattern says of a character it mostly says
//! of all like it.

use super::dfa::{Automata, Edge, State, cover};
use super::regex::LAST;

/// A bit for each ASCII character from the blank on; the lowest bits are [`WIDE`], [`WIDE_SPACE`] and [`CUT`].
pub type Characters = u128;

/// Characters beyond ASCII, besides white space and line separators.
pub const WIDE: Characters = 1;
/// White space beyond ASCII, besides line separators.
pub const WIDE_SPACE: Characters = 2;
/// Some character beyond ASCII, of which only the first bytes are there.
pub const CUT: Characters = 4;

/// Printable ASCII, and DEL.
const ASCII: Characters = !0 << 0x20;

const fn between(low: u32, high: u32) -> Characters {
    (!0 << low) & (!0 >> (127 - high))
}

/// Those that are only told apart as a whole: digits, and letters, of which some are hexadecimal digits.
const ALIKE: [Characters; 5] =
    [between(0x30, 0x39), between(0x61, 0x66), between(0x67, 0x7A), between(0x41, 0x46), between(0x47, 0x5A)];

pub const DIGITS: Characters = ALIKE[0];

/// What most tokens are made of: a bitmap is kept of the tokens that hold each of these.
pub const GROUPS: [Characters; 7] = [ALIKE[0], ALIKE[1], ALIKE[2], ALIKE[3], ALIKE[4], WIDE | CUT, WIDE_SPACE];

/// All of these.
pub const COMMON: Characters = {
    let (mut all, mut group) = (0, 0);
    while group < GROUPS.len() {
        all |= GROUPS[group];
        group += 1;
    }
    all
};

const WIDE_RANGES: [[u32; 2]; 10] = [
    [0x80, 0x9F],
    [0xA1, 0x167F],
    [0x1681, 0x1FFF],
    [0x200B, 0x2027],
    [0x202A, 0x202E],
    [0x2030, 0x205E],
    [0x2060, 0x2FFF],
    [0x3001, 0xD7FF],
    [0xE000, 0xFEFE],
    [0xFF00, LAST],
];
const WIDE_SPACE_RANGES: [[u32; 2]; 7] = [
    [0xA0, 0xA0],
    [0x1680, 0x1680],
    [0x2000, 0x200A],
    [0x202F, 0x202F],
    [0x205F, 0x205F],
    [0x3000, 0x3000],
    [0xFEFF, 0xFEFF],
];

/// A set with all that are like some of it.
fn whole_groups(set: Characters) -> Characters {
    ALIKE.iter().filter(|group| set & **group != 0).fold(set, |set, group| set | group)
}

/// The set that holds the characters of a token within a string: with each, all that are like it. None may be a control character or
/// line separator.
pub fn of_text(text: &str, is_cut: bool) -> Characters {
    let bit = |character: char| match u32::from(character) {
        ascii @ ..0x80 => 1 << ascii,
        wide if WIDE_SPACE_RANGES.iter().any(|[low, high]| (*low..=*high).contains(&wide)) => WIDE_SPACE,
        _ => WIDE,
    };
    whole_groups(text.chars().map(bit).fold(if is_cut { CUT } else { 0 }, |set, bit| set | bit))
}

/// The characters of an edge, with all that are like them.
pub fn touched(edge: &Edge) -> Characters {
    let meets = |ranges: &[[u32; 2]]| ranges.iter().any(|[low, high]| edge.low <= *high && edge.high >= *low);
    let mut set = ascii(edge);
    if edge.high >= 0x80 {
        set |= CUT | if meets(&WIDE_RANGES) { WIDE } else { 0 };
        set |= if meets(&WIDE_SPACE_RANGES) { WIDE_SPACE } else { 0 };
    }
    whole_groups(set)
}

fn ascii(edge: &Edge) -> Characters {
    if edge.low > 0x7F { 0 } else { between(edge.low, edge.high.min(0x7F)) & ASCII }
}

/// The characters that there is an edge for; of those that are alike only where there is one for each.
pub fn covered<'e>(edges: impl Iterator<Item = &'e Edge> + Clone) -> Characters {
    let set = edges.clone().fold(0, |set, edge| set | ascii(edge));
    let set = ALIKE.iter().filter(|group| set & **group != **group).fold(set, |set, group| set & !group);
    let wide = edges.skip_while(|edge| edge.high < 0x80);
    if wide.clone().next().is_none() {
        return set;
    }
    // Whatever bytes a character is cut behind, some of those that begin like it are no white space.
    set | if cover(wide.clone(), &WIDE_RANGES) { WIDE | CUT } else { 0 }
        | if cover(wide, &WIDE_SPACE_RANGES) { WIDE_SPACE } else { 0 }
}

/// Characters of which any may follow at a place, whichever they are.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    pub set: Characters,
    /// How many at most.
    pub count: u32,
    /// Whether no more of them can follow.
    pub is_end: bool,
}

/// How many characters of a set can follow from a state of an automaton, up to a limit. `takes` says whether a state can be come to after
/// so many. Where that does not depend on the number, it is `steady`.
pub fn reach(
    automata: &Automata<&[State], &[Edge]>,
    start: u32,
    set: Characters,
    limit: u32,
    steady: bool,
    takes: impl Fn(u32, u32) -> bool,
) -> Reach {
    /// States that are followed.
    const STATES: usize = 16;
    type Few = heapless::Vec<u32, STATES>;
    let (mut level, mut seen) = (Few::new(), Few::new());
    let _ = level.push(start);
    let mut count = 0;
    while count < limit {
        let mut next = Few::new();
        let (mut covers, mut is_end) = (true, true);
        for state in &level {
            let alive = automata.edges_of(*state).iter().filter(|edge| takes(edge.target, count + 1));
            for edge in alive.clone().filter(|edge| touched(edge) & set != 0) {
                is_end = false;
                covers &= next.contains(&edge.target) || next.push(edge.target).is_ok();
            }
            covers &= set & !covered(alive) == 0;
        }
        if !covers {
            return Reach { set, count, is_end };
        }
        count += 1;
        if steady {
            if next.iter().all(|state| seen.contains(state) || level.contains(state)) {
                return Reach { set, count: limit, is_end: true };
            }
            // Where these are too many, it is not seen that no others are come to.
            let _ = level.iter().all(|state| seen.contains(state) || seen.push(*state).is_ok());
        } else if next == level {
            while count < limit && next.iter().all(|state| takes(*state, count + 1)) {
                count += 1;
            }
        }
        level = next;
    }
    Reach { set, count: limit, is_end: true }
}
