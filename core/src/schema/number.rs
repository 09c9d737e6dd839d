//! Numbers within bounds, as automata over their digits. Exact: nothing is rounded.

use super::dfa::{Drafts, Workshop};
use super::regex::Parsed;

/// The most digits before the point. So every number is finite as an f64, and the model cannot write digits for ever.
const WHOLE_MAX: u32 = 64;
/// The most digits after the point.
const FRACTION_MAX: u32 = 32;
/// The most digits of an exponent, where there can be one.
const EXPONENT_MAX: u32 = 2;

/// A number as JSON writes it.
#[derive(Clone, Copy, Debug)]
pub struct Decimal<'j> {
    pub negative: bool,
    whole: &'j [u8],
    fraction: &'j [u8],
    exponent: i32,
}

impl<'j> Decimal<'j> {
    pub fn parse(raw: &'j str) -> Self {
        let (negative, raw) = raw.strip_prefix('-').map_or((false, raw), |rest| (true, rest));
        let (digits, exponent) = raw.split_once(['e', 'E']).unwrap_or((raw, "0"));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let far = if exponent.starts_with('-') { -20_000 } else { 20_000 };
        let exponent = exponent.parse().unwrap_or(far).clamp(-20_000, 20_000);
        Self { negative, whole: whole.as_bytes(), fraction: fraction.as_bytes(), exponent }
    }

    /// The digit that counts 10 to the power of `weight`.
    fn digit(&self, weight: i32) -> u8 {
        let index = self.whole.len() as i32 - 1 - (weight - self.exponent);
        let Ok(index) = usize::try_from(index) else { return 0 };
        let digit = self.whole.get(index).or_else(|| self.fraction.get(index - self.whole.len().min(index)));
        digit.map_or(0, |digit| digit - b'0')
    }

    /// The weights of its digits, from the highest.
    fn weights(&self) -> impl DoubleEndedIterator<Item = i32> + use<> {
        let top = self.whole.len() as i32 + self.exponent;
        (top - (self.whole.len() + self.fraction.len()) as i32..top).rev()
    }

    fn highest(&self) -> Option<i32> {
        self.weights().find(|weight| self.digit(*weight) != 0)
    }

    fn lowest(&self) -> Option<i32> {
        self.weights().rev().find(|weight| self.digit(*weight) != 0)
    }

    pub fn is_zero(&self) -> bool {
        self.highest().is_none()
    }

    /// Whether it is a whole number.
    pub fn is_integer(&self) -> bool {
        self.lowest().is_none_or(|lowest| lowest >= 0)
    }

    /// The number of digits before the point.
    fn whole_len(&self) -> i32 {
        self.highest().map_or(1, |highest| highest.max(0) + 1)
    }

    /// Whether all digits below a weight are 0.
    fn ends_before(&self, weight: i32) -> bool {
        self.lowest().is_none_or(|lowest| lowest >= weight)
    }

    /// Whether this number is less than another, both without their signs.
    fn is_below(&self, other: &Self) -> bool {
        let top = self.highest().unwrap_or(0).max(other.highest().unwrap_or(0));
        let bottom = self.lowest().unwrap_or(0).min(other.lowest().unwrap_or(0));
        let differs = (bottom..=top).rev().find(|weight| self.digit(*weight) != other.digit(*weight));
        differs.is_some_and(|weight| self.digit(weight) < other.digit(weight))
    }

    /// Whether this number is less than another.
    pub fn is_less(&self, other: &Self) -> bool {
        let (left, right) = (self.negative && !self.is_zero(), other.negative && !other.is_zero());
        match (left, right) {
            (true, false) => true,
            (false, true) => false,
            (false, false) => self.is_below(other),
            (true, true) => other.is_below(self),
        }
    }

    /// Writes the digits without exponent and needless zeros; false if they are too many.
    pub fn write(&self, emit: &mut dyn FnMut(u8)) -> bool {
        let (len, lowest) = (self.whole_len(), self.lowest().unwrap_or(0).min(0));
        if len > WHOLE_MAX as i32 || -lowest > 2 * FRACTION_MAX as i32 {
            return false;
        }
        if self.negative && !self.is_zero() {
            emit(b'-');
        }
        for weight in (lowest..len).rev() {
            if weight == -1 {
                emit(b'.');
            }
            emit(b'0' + self.digit(weight));
        }
        true
    }
}

/// A bound, and whether the number itself is outside.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'j> {
    pub value: Decimal<'j>,
    pub exclusive: bool,
}

/// What a number must be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers<'j> {
    pub integer: bool,
    pub least: Option<Bound<'j>>,
    pub most: Option<Bound<'j>>,
    /// A multiple of the first times 10 to the power of less the second.
    pub multiple: Option<(u32, u32)>,
}

/// Reads what a number is to be a multiple of.
pub fn multiple(value: Decimal<'_>) -> Option<(u32, u32)> {
    let (highest, lowest) = (value.highest()?, value.lowest()?.min(0));
    if value.negative || highest > 8 || lowest < -9 {
        return None;
    }
    let number = (lowest..=highest).rev().fold(0_u64, |number, weight| number * 10 + u64::from(value.digit(weight)));
    (number <= 5000).then_some((number as u32, -lowest as u32))
}

/// What is a multiple of both.
pub fn common_multiple((left, left_digits): (u32, u32), (right, right_digits): (u32, u32)) -> Option<(u32, u32)> {
    let digits = left_digits.max(right_digits);
    let scale = |number: u32, own: u32| u64::from(number) * 10_u64.pow(digits - own);
    let (left, right) = (scale(left, left_digits), scale(right, right_digits));
    let (mut a, mut b) = (left, right);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    let common = left / a * right;
    (common <= 5000).then_some((common as u32, digits))
}

/// Where in a number: its digits so far against those of a bound.
const LESS: u64 = 0;
const EQUAL: u64 = 1;
const GREATER: u64 = 2;

#[derive(Clone, Copy, PartialEq)]
struct Place {
    phase: Phase,
    negative: bool,
    /// Digits of this phase.
    count: u32,
    least: u64,
    most: u64,
    remainder: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Begin,
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    Signed,
    Digits,
}

const PHASES: [Phase; 9] = [
    Phase::Begin,
    Phase::Minus,
    Phase::Zero,
    Phase::Whole,
    Phase::Point,
    Phase::Fraction,
    Phase::Exponent,
    Phase::Signed,
    Phase::Digits,
];

impl Place {
    fn key(self) -> u64 {
        let Self { phase, negative, count, least, most, remainder } = self;
        let key = u64::from(remainder) << 8 | u64::from(count);
        ((key << 2 | least) << 2 | most) << 5 | u64::from(negative) << 4 | phase as u64
    }

    fn of(key: u64) -> Self {
        Self {
            phase: PHASES[(key & 15) as usize % PHASES.len()],
            negative: key >> 4 & 1 == 1,
            most: key >> 5 & 3,
            least: key >> 7 & 3,
            count: (key >> 9 & 255) as u32,
            remainder: (key >> 17) as u32,
        }
    }
}

/// What the digits of one sign are held against.
struct Range<'j> {
    least: Option<Bound<'j>>,
    most: Option<Bound<'j>>,
}

const START: Place = Place { phase: Phase::Begin, negative: false, count: 0, least: EQUAL, most: EQUAL, remainder: 0 };

impl<'j> Numbers<'j> {
    /// The automaton of these numbers.
    pub fn automaton(&self, workshop: &mut Workshop<'_>, drafts: &mut Drafts<'_>) -> Parsed<u32> {
        let whole_max = self.whole_max();
        workshop.explore(
            START.key(),
            b"+-.0123456789Ee",
            drafts,
            &|key, character| self.next(Place::of(key), character, whole_max).map(Place::key),
            &|key| self.is_end(Place::of(key)),
        )
    }

    /// Whether a number is one of these. One with too many digits to be written is taken for one.
    pub fn has(&self, number: &Decimal<'_>) -> bool {
        let mut place = Some(START);
        let is_written = number.write(&mut |byte| place = place.and_then(|place| self.next(place, byte, WHOLE_MAX)));
        !is_written || place.is_some_and(|place| self.is_end(place))
    }

    /// Whether there can be numbers with as many digits as the bounds have.
    pub fn has_short_bounds(&self) -> bool {
        let mut bounds = self.least.iter().chain(&self.most);
        bounds.all(|Bound { value, .. }| {
            value.whole_len() <= WHOLE_MAX as i32 && value.ends_before(-(FRACTION_MAX as i32))
        })
    }

    /// The range of the digits behind the sign. `None` if there is no such number.
    fn range(&self, negative: bool) -> Option<Range<'j>> {
        let is_negative = |bound: &Bound<'j>| bound.value.negative && !bound.value.is_zero();
        if negative {
            let zero = Bound { value: Decimal::parse("0"), exclusive: true };
            if self.least.is_some_and(|least| !is_negative(&least)) {
                return None;
            }
            let least = self.most.filter(is_negative).unwrap_or(zero);
            return Some(Range { least: Some(least), most: self.least });
        }
        if self.most.as_ref().is_some_and(is_negative) {
            return None;
        }
        Some(Range { least: self.least.filter(|least| !is_negative(least)), most: self.most })
    }

    /// Remainders multiply the states, so there are fewer digits with them; but one more than numbers need to be within bounds.
    fn whole_max(&self) -> u32 {
        let Some((number, _)) = self.multiple.filter(|(number, _)| *number > 1) else { return WHOLE_MAX };
        let len = |bound: Option<Bound<'_>>, negative: bool| {
            bound.filter(|bound| bound.value.negative == negative).map_or(0, |bound| bound.value.whole_len() as u32)
        };
        let needed = len(self.least, false).max(len(self.most, true)) + 1;
        (600 / number).clamp(6, 24).max(needed).min(WHOLE_MAX)
    }

    fn is_bounded(&self) -> bool {
        self.least.is_some() || self.most.is_some() || self.multiple.is_some()
    }

    fn next(&self, place: Place, character: u8, whole_max: u32) -> Option<Place> {
        let begin = |phase| Some(Place { phase, count: 0, ..place });
        let digit = character.wrapping_sub(b'0');
        match (place.phase, character) {
            (Phase::Begin, b'-') => Some(Place { phase: Phase::Minus, negative: true, ..place }),
            (Phase::Begin | Phase::Minus, b'0'..=b'9') => {
                let phase = if digit == 0 { Phase::Zero } else { Phase::Whole };
                self.whole_digit(Place { phase, ..place }, digit)
            }
            (Phase::Whole, b'0'..=b'9') if place.count < whole_max => self.whole_digit(place, digit),
            (Phase::Zero | Phase::Whole, b'.') if !self.integer => {
                let place = self.end_whole(place)?;
                Some(Place { phase: Phase::Point, count: 0, ..place })
            }
            (Phase::Point | Phase::Fraction, b'0'..=b'9') if place.count < FRACTION_MAX => {
                self.fraction_digit(place, digit)
            }
            (Phase::Zero | Phase::Whole | Phase::Fraction, b'e' | b'E') if !self.integer && !self.is_bounded() => {
                begin(Phase::Exponent)
            }
            (Phase::Exponent, b'+' | b'-') => begin(Phase::Signed),
            (Phase::Exponent | Phase::Signed | Phase::Digits, b'0'..=b'9') if place.count < EXPONENT_MAX => {
                Some(Place { phase: Phase::Digits, count: place.count + 1, ..place })
            }
            _ => None,
        }
    }

    fn whole_digit(&self, place: Place, digit: u8) -> Option<Place> {
        let range = self.range(place.negative)?;
        let count = place.count as i32;
        let compare = |so_far: u64, bound: Option<Bound<'j>>| {
            let Some(bound) = bound else { return EQUAL };
            let len = bound.value.whole_len();
            match so_far {
                _ if count >= len => GREATER,
                EQUAL => order(digit, bound.value.digit(len - 1 - count)),
                decided => decided,
            }
        };
        let (least, most) = (compare(place.least, range.least), compare(place.most, range.most));
        // Without bounds the sign makes no difference but for 0.
        let negative = place.negative && (place.phase == Phase::Zero || self.least.is_some() || self.most.is_some());
        let remainder = self.remainder(place.remainder, digit);
        Some(Place { negative, count: place.count + 1, least, most, remainder, ..place })
    }

    fn remainder(&self, so_far: u32, digit: u8) -> u32 {
        self.multiple.map_or(0, |(number, _)| (so_far * 10 + u32::from(digit)) % number)
    }

    /// The whole part is complete: how it compares follows from its length too.
    fn end_whole(&self, place: Place) -> Option<Place> {
        let range = self.range(place.negative)?;
        let settle = |so_far: u64, bound: Option<Bound<'j>>| match bound {
            Some(bound) if (place.count as i32) < bound.value.whole_len() => LESS,
            _ => so_far,
        };
        let settled = Place { least: settle(place.least, range.least), most: settle(place.most, range.most), ..place };
        let below = range.least.is_some() && settled.least == LESS;
        let above = range.most.is_some() && settled.most == GREATER;
        (!below && !above).then_some(settled)
    }

    fn fraction_digit(&self, place: Place, digit: u8) -> Option<Place> {
        let range = self.range(place.negative)?;
        let weight = -(place.count as i32) - 1;
        if self.multiple.is_some_and(|(_, digits)| place.count >= digits) {
            return None;
        }
        let compare = |so_far: u64, bound: Option<Bound<'j>>| match (so_far, bound) {
            (EQUAL, Some(bound)) => order(digit, bound.value.digit(weight)),
            _ => so_far,
        };
        let (least, most) = (compare(place.least, range.least), compare(place.most, range.most));
        if range.least.is_some() && least == LESS || range.most.is_some() && most == GREATER {
            return None;
        }
        let remainder = self.remainder(place.remainder, digit);
        Some(Place { phase: Phase::Fraction, count: place.count + 1, least, most, remainder, ..place })
    }

    fn is_end(&self, place: Place) -> bool {
        let (place, digits) = match place.phase {
            Phase::Zero | Phase::Whole => match self.end_whole(place) {
                Some(place) => (place, 0),
                None => return false,
            },
            Phase::Fraction => (place, place.count),
            Phase::Digits => return true,
            _ => return false,
        };
        if let Some((number, all)) = self.multiple {
            let scale = 10_u64.pow(all.saturating_sub(digits));
            if u64::from(place.remainder) * scale % u64::from(number) != 0 {
                return false;
            }
        }
        let Some(range) = self.range(place.negative) else { return false };
        let weight = -(digits as i32);
        let fits_least = range.least.is_none_or(|bound| match place.least {
            EQUAL => bound.value.ends_before(weight) && !bound.exclusive,
            so_far => so_far == GREATER,
        });
        fits_least
            && range.most.is_none_or(|bound| match place.most {
                EQUAL => !bound.value.ends_before(weight) || !bound.exclusive,
                so_far => so_far == LESS,
            })
    }
}

fn order(digit: u8, bound: u8) -> u64 {
    match digit.cmp(&bound) {
        core::cmp::Ordering::Less => LESS,
        core::cmp::Ordering::Equal => EQUAL,
        core::cmp::Ordering::Greater => GREATER,
    }
}

impl<'j> Numbers<'j> {
    /// At least this.
    pub fn raise(&mut self, bound: Bound<'j>) {
        let replaces = self.least.is_none_or(|least| {
            least.value.is_less(&bound.value) || bound.exclusive && !bound.value.is_less(&least.value)
        });
        if replaces {
            self.least = Some(bound);
        }
    }

    /// At most this.
    pub fn lower(&mut self, bound: Bound<'j>) {
        let replaces = self.most.is_none_or(|most| {
            bound.value.is_less(&most.value) || bound.exclusive && !most.value.is_less(&bound.value)
        });
        if replaces {
            self.most = Some(bound);
        }
    }
}
