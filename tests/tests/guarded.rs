//! The memory and the numbers that kernel tests rely on do what they say: a guard that never barks proves nothing.

use std::hint::black_box;
use std::process::Command;

use ossicle_tests::guarded::{Guarded, Output};
use ossicle_tests::numbers::{Kind, Numbers};

#[test]
fn guarded_values_are_those_given() {
    for len in [0, 1, 3, 1024, 1025, 5000] {
        let values = Numbers::seeded(len as u64).floats(Kind::Normal, len);
        let mut guarded = Guarded::copy_of(&values);
        assert_eq!(*guarded, values[..]);
        guarded.fill(1.0);
        assert!(guarded.iter().all(|&value| value == 1.0));
    }
    assert_eq!(*Guarded::copy_of(&[7u8; 17]), [7; 17]);
}

/// Set in the child process that reads out of bounds.
const VICTIM: &str = "OSSICLE_TEST_READS_OUT_OF_BOUNDS";

#[test]
fn a_read_past_guarded_values_ends_the_process() {
    const NAME: &str = "a_read_past_guarded_values_ends_the_process";
    if std::env::var_os(VICTIM).is_some() {
        let guarded = Guarded::copy_of(&[1u8, 2, 3]);
        // SAFETY: none. This reads one byte that is not ours, to show that the process does not survive it.
        let stolen = unsafe { guarded.as_ptr().add(guarded.len()).read_volatile() };
        black_box(stolen);
        std::process::exit(0);
    }
    let this_program = std::env::current_exe().expect("the path of this test");
    let victim = Command::new(this_program).args(["--exact", NAME]).env(VICTIM, "1").output().expect("a child process");
    assert!(!victim.status.success(), "the read was not noticed");
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt;
        assert!(victim.status.signal().is_some(), "ended by a signal, not by a failed test: {}", victim.status);
    }
}

#[test]
fn an_output_gives_back_what_was_written() {
    let mut output = Output::of(5);
    output.room().copy_from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(output.written(), [1.0, 2.0, 3.0, 4.0, 5.0]);
}

/// Writes an element of the canary, at a distance from the start of an output of five.
fn written_at(distance: isize) {
    let mut output = Output::of(5);
    let start: *mut u32 = output.room().as_mut_ptr();
    // SAFETY: the element lies in the vector of which the output is the middle, and there is no other reference to it.
    // The pointer was made from a part of that vector, so this is out of bounds of its slice: as a faulty kernel's would be.
    unsafe { start.offset(distance).write(0) };
    output.written();
}

#[test]
#[should_panic(expected = "an element was written 1 before the output")]
fn a_write_before_an_output_is_noticed() {
    written_at(-1);
}

#[test]
#[should_panic(expected = "an element was written 1 after the output's last")]
fn a_write_after_an_output_is_noticed() {
    written_at(5);
}

#[test]
fn numbers_depend_on_the_seed_alone() {
    // The first outputs of the published SplitMix64 for seed 1234567.
    let mut numbers = Numbers::seeded(1_234_567);
    assert_eq!([numbers.bits(), numbers.bits()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    for kind in Kind::ALL {
        let floats = |seed| Numbers::seeded(seed).floats(kind, 100).into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(floats(1), floats(1), "{kind:?}");
    }
}

#[test]
fn every_kind_of_number_is_what_it_says() {
    for seed in 0..20 {
        let floats = |kind| Numbers::seeded(seed).floats(kind, 1000);
        let every = |kind, claim: fn(&f32) -> bool| assert!(floats(kind).iter().all(claim), "{kind:?}, seed {seed}");
        let normal = floats(Kind::Normal);
        let mean = normal.iter().sum::<f32>() / 1000.0;
        let variance = normal.iter().map(|value| value * value).sum::<f32>() / 1000.0;
        assert!(mean.abs() < 0.15 && (variance - 1.0).abs() < 0.2, "mean {mean}, variance {variance}");
        every(Kind::MixedMagnitudes, |value| value.is_finite());
        every(Kind::Large, |value| (1e6 * value * value).is_finite());
        every(Kind::Small, |value| value.abs() < 1e-14);
        every(Kind::Subnormal, |value| value.is_subnormal() || *value == 0.0);
        every(Kind::Zeros, |value| *value == 0.0);
        assert!(floats(Kind::Zeros).iter().any(|zero| zero.is_sign_negative()));
        assert!(floats(Kind::Sparse).iter().filter(|value| **value == 0.0).count() > 800);
        assert_eq!(floats(Kind::Outlier).iter().filter(|value| **value == 1000.0).count(), 1);
        assert_eq!(floats(Kind::Pattern)[12..15], [13.0, 1.0, 2.0]);
    }
}
