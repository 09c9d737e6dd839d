//! Logits are a function of the weights and the tokens, and of nothing else. Everything here is compared bit for bit.

use std::mem::MaybeUninit;
use std::path::Path;
use std::thread;

use ossicle_core::error::Error;
use ossicle_core::kernels::Kernels;
use ossicle_core::model::Model;
use ossicle_core::parallel::{Alone, Parallel};
use ossicle_core::transformer::{Logits, Precision, Progress, Session, SessionConfig};
use ossicle_host::{Checkpoint, Memory, Threads, kernels};
use ossicle_tests::engine::{Exactness, all_logits, config, fastest, with_model, with_session};
use ossicle_tests::fixtures::Fixture;
use ossicle_tests::numbers::Numbers;
use sha2::{Digest, Sha256};

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

/// Panics with the first place where two sets of logits differ.
#[track_caller]
fn assert_same(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    if let Some(at) = bits(found).iter().zip(bits(expected)).position(|(found, expected)| *found != expected) {
        panic!("{what}: logit {at} is {}, expected {}", found[at], expected[at]);
    }
}

/// All logits, with the tokens in one batch, on one thread.
fn whole(model: &Model<'_, '_>, tokens: &[u32], exactness: Exactness) -> Vec<f32> {
    let config = config(tokens.len(), tokens.len(), exactness);
    with_session(model, fastest(), &config, |session| all_logits(session, tokens, &Alone))
}

/// The logits after the batch that these tokens are.
fn batch(session: &mut Session<'_, '_>, tokens: &[u32]) -> Vec<f32> {
    session.start(tokens, Logits::All).expect("room for the batch");
    session.run(&Alone).expect("finite numbers");
    session.logits().to_vec()
}

/// Each fixture's model as GGUF, a sequence longer than its window, and each exactness.
fn each(mut test: impl FnMut(&Model<'_, '_>, &[u32], Exactness)) {
    for fixture in Fixture::all() {
        with_model(&fixture.gguf, |model| {
            for exactness in Exactness::ALL {
                test(model, &fixture.sequence("s300").tokens[..model.config().window + 70], exactness);
            }
        });
    }
}

// How a prompt is cut.

#[test]
fn cuts_do_not_matter() {
    each(|model, tokens, exactness| {
        let expected = whole(model, tokens, exactness);
        for size in (1..=9).chain([17, 64]) {
            // As small as can be: a ring that holds the window and a batch.
            let config = SessionConfig { rewind_tokens: 0, ..config(tokens.len(), size, exactness) };
            let found = with_session(model, fastest(), &config, |session| all_logits(session, tokens, &Alone));
            assert_same(&format!("in batches of {size}"), &found, &expected);
        }
        let mut numbers = Numbers::seeded(1);
        for _ in 0..2 {
            let config = SessionConfig { rewind_tokens: 0, ..config(tokens.len(), 40, exactness) };
            let (mut found, mut cuts, mut rest) = (Vec::new(), Vec::new(), tokens);
            with_session(model, fastest(), &config, |session| {
                while !rest.is_empty() {
                    let (next, after) = rest.split_at(numbers.below(41).min(rest.len()));
                    found.extend(batch(session, next));
                    cuts.push(next.len());
                    rest = after;
                }
            });
            assert_same(&format!("cut into {cuts:?}"), &found, &expected);
        }
    });
}

#[test]
fn the_size_of_the_session_does_not_matter() {
    each(|model, tokens, exactness| {
        let expected = whole(model, tokens, exactness);
        for (context_tokens, batch_tokens, rewind_tokens) in
            [(tokens.len(), 10, 0), (tokens.len() + 1, 10, 1), (1000, 17, 300), (100_000, 128, 5000)]
        {
            let config = SessionConfig { rewind_tokens, ..config(context_tokens, batch_tokens, exactness) };
            let found = with_session(model, fastest(), &config, |session| all_logits(session, tokens, &Alone));
            assert_same(&format!("{config:?}"), &found, &expected);
        }
    });
}

#[test]
fn the_logits_asked_for_do_not_matter() {
    each(|model, tokens, exactness| {
        let expected = whole(model, tokens, exactness);
        let vocabulary = model.config().vocabulary;
        with_session(model, fastest(), &config(tokens.len(), 30, exactness), |session| {
            for (number, tokens) in tokens.chunks(30).enumerate() {
                let wanted = [Logits::None, Logits::Last, Logits::All][number % 3];
                session.start(tokens, wanted).expect("room for the batch");
                assert!(session.logits().is_empty());
                session.run(&Alone).expect("finite numbers");
                let end = session.position() * vocabulary;
                let rows = [0, 1, tokens.len()][number % 3];
                assert_same(&format!("{wanted:?}"), session.logits(), &expected[end - rows * vocabulary..end]);
            }
        });
        let config = SessionConfig { logits_rows: 1, ..config(tokens.len(), 30, exactness) };
        with_session(model, fastest(), &config, |session| {
            session.run_all(tokens, &Alone).expect("room for the tokens");
            assert_same("run_all", session.logits(), &expected[expected.len() - vocabulary..]);
        });
    });
}

#[test]
fn the_logits_of_few_tokens_are_those_among_all() {
    for kernels in kernels::available() {
        each(|model, tokens, exactness| {
            let tokens = &tokens[..40];
            let expected = whole(model, tokens, exactness);
            let vocabulary = model.config().vocabulary;
            let threads = Threads::new(2);
            let mut numbers = Numbers::seeded(4);
            with_session(model, kernels, &config(tokens.len(), 8, exactness), |session| {
                for batch in tokens.chunks(8) {
                    let sparse = [2, 10, vocabulary][numbers.below(3)];
                    let few: Vec<u32> = (0..vocabulary as u32).filter(|_| numbers.below(sparse) == 0).collect();
                    let few = if few.is_empty() { vec![vocabulary as u32 - 1] } else { few };
                    session.start_few(batch, few.iter().copied()).expect("room for the batch");
                    session.run(&threads).expect("finite numbers");
                    let mut among_all = vec![f32::NEG_INFINITY; vocabulary];
                    let all = &expected[(session.position() - 1) * vocabulary..][..vocabulary];
                    few.iter().for_each(|token| among_all[*token as usize] = all[*token as usize]);
                    assert_same(&format!("{} of {}", few.len(), kernels.name()), session.logits(), &among_all);
                }
            });
        });
    }
    with_model(&Fixture::load("tiny-a").gguf, |model| {
        let vocabulary = model.config().vocabulary;
        with_session(model, fastest(), &config(8, 8, Precision::Standard), |session| {
            let refused = session.start_few(&[1], [vocabulary as u32].into_iter());
            assert_eq!(refused, Err(Error::Token { index: 0, token: vocabulary as u32, vocabulary }));
            let refused = session.start_few(&[1], (0..vocabulary as u32).cycle());
            assert!(matches!(refused, Err(Error::Capacity { what: "tokens with logits", .. })), "{refused:?}");
            // Neither has begun a batch.
            assert_eq!(batch(session, &[1, 2]).len(), 2 * vocabulary);
        });
    });
}

// Who does the work.

/// Calls the job on five threads at once, three times on each.
struct Eager;

impl Parallel for Eager {
    fn workers(&self) -> usize {
        4
    }

    fn run(&self, job: &(dyn Fn() + Sync)) {
        thread::scope(|scope| {
            (0..5).for_each(|_| drop(scope.spawn(|| (0..3).for_each(|_| job()))));
        });
    }
}

/// Says that it has this many threads, and never calls.
struct Absent(usize);

impl Parallel for Absent {
    fn workers(&self) -> usize {
        self.0
    }

    fn run(&self, _job: &(dyn Fn() + Sync)) {}
}

/// Calls the job twice, on the caller's own thread.
struct Twice;

impl Parallel for Twice {
    fn workers(&self) -> usize {
        1
    }

    fn run(&self, job: &(dyn Fn() + Sync)) {
        job();
        job();
    }
}

#[test]
fn threads_do_not_matter() {
    let pools: [(&str, &dyn Parallel); 8] = [
        ("1 thread", &Threads::new(1)),
        ("2 threads", &Threads::new(2)),
        ("7 threads", &Threads::new(7)),
        ("many calls on many threads", &Eager),
        ("two calls", &Twice),
        ("no calls", &Absent(3)),
        ("no calls, a thousand promised", &Absent(1000)),
        ("no calls, as many promised as can be", &Absent(usize::MAX)),
    ];
    each(|model, tokens, exactness| {
        let tokens = &tokens[..24];
        let expected = whole(model, tokens, exactness);
        for (name, pool) in pools {
            for size in [24, 5, 1] {
                let found = with_session(model, fastest(), &config(24, size, exactness), |session| {
                    all_logits(session, tokens, pool)
                });
                assert_same(&format!("{name}, batches of {size}"), &found, &expected);
            }
        }
    });
}

#[test]
fn kernel_sets_do_not_matter() {
    each(|model, tokens, exactness| {
        let config = |size| config(tokens.len(), size, exactness);
        let logits =
            |kernels, size| with_session(model, kernels, &config(size), |session| all_logits(session, tokens, &Alone));
        let expected = logits(Kernels::portable(), tokens.len());
        for kernels in kernels::available() {
            for size in [tokens.len(), 13, 1] {
                assert_same(&format!("{}, batches of {size}", kernels.name()), &logits(kernels, size), &expected);
            }
        }
    });
}

#[test]
fn the_architecture_does_not_matter() {
    // SHA-256 of the bits, little-endian: what an x86-64 processor computed.
    let expected = [
        "6dca40942579d63d994cfb537f353298daa14f740723e6b2486be9f09154bce5",
        "10c68b9a506f031907a2f939bb9590113aca1d4e52d8768a7f9393e293c02cc2",
        "e0c3e6ff8c7ad5f81ceb386dc00eb8b09aa41c00093eec3b815ab4e5e8743159",
        "aab69256872924ad858f7c5c41ea4ff0697a2eba003976dda547851be598564d",
        "f191995101f808b22b850bad82df93b5ce3cbff7176debecfcc66535787048e3",
        "6a9707b8b79d24395404d8709c232262f868f00fecab32a813d0911ff7248b7a",
        "6aaf39ebd01dab1f0f882766565e46c816848553a7ad2fc4c603d2f60a0949cf",
        "cb2df2c5372a37f4595b92c7b669a7a84254298ee16ba19b78c43b30cc61d31a",
    ];
    let mut found = Vec::new();
    each(|model, tokens, exactness| {
        let bytes: Vec<u8> = whole(model, tokens, exactness).iter().flat_map(|logit| logit.to_le_bytes()).collect();
        found.push(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    });
    assert_eq!(found, expected);
}

#[test]
fn sessions_do_not_notice_each_other() {
    each(|model, tokens, exactness| {
        let reversed: Vec<u32> = tokens.iter().rev().copied().collect();
        let expected = [whole(model, tokens, exactness), whole(model, &reversed, exactness)];
        let mut found = [Vec::new(), Vec::new()];
        let config = config(tokens.len(), 20, exactness);
        with_session(model, fastest(), &config, |one| {
            with_session(model, fastest(), &config, |other| {
                for (tokens, reversed) in tokens.chunks(20).zip(reversed.chunks(20)) {
                    one.start(tokens, Logits::All).expect("room for the batch");
                    other.start(reversed, Logits::All).expect("room for the batch");
                    // One step each, in turn.
                    while one.step(&Alone).expect("finite numbers") == Progress::More {
                        other.step(&Alone).expect("finite numbers");
                    }
                    other.run(&Alone).expect("finite numbers");
                    found[0].extend_from_slice(one.logits());
                    found[1].extend_from_slice(other.logits());
                }
            });
        });
        assert_same("the one", &found[0], &expected[0]);
        assert_same("the other", &found[1], &expected[1]);
    });
}

// What came before.

#[test]
fn going_back_and_on_again_does_not_matter() {
    each(|model, tokens, exactness| {
        let expected = whole(model, tokens, exactness);
        let vocabulary = model.config().vocabulary;
        let config = SessionConfig { rewind_tokens: 9, ..config(tokens.len(), 7, exactness) };
        with_session(model, fastest(), &config, |session| {
            all_logits(session, tokens, &Alone);
            assert_eq!(session.rewind(tokens.len() + 1), Err(Error::State("a position that the session has reached")));
            let Err(Error::Rewind { earliest }) = session.rewind(1) else { panic!("the ring is shorter than that") };
            assert!(earliest <= tokens.len() - config.rewind_tokens, "{earliest}");
            for position in (1..=tokens.len()).rev() {
                let logits = session.logits().to_vec();
                let result = session.rewind(position);
                if position < earliest {
                    assert_eq!(result, Err(Error::Rewind { earliest }));
                    assert_eq!((session.position(), session.logits()), (tokens.len(), &logits[..]));
                    continue;
                }
                result.expect("a position from the earliest on");
                assert_eq!((session.position(), session.logits()), (position, &[][..]));
                let found = all_logits(session, &tokens[position..], &Alone);
                assert_same(&format!("from {position}"), &found, &expected[position * vocabulary..]);
            }
            session.rewind(0).expect("the start is always there");
            assert_same("from 0", &all_logits(session, tokens, &Alone), &expected);
        });
    });
}

#[test]
fn what_was_tried_before_does_not_matter() {
    each(|model, tokens, exactness| {
        let mut numbers = Numbers::seeded(7);
        let vocabulary = model.config().vocabulary;
        let config = SessionConfig { rewind_tokens: 30, ..config(tokens.len() + 100, 25, exactness) };
        with_session(model, fastest(), &config, |session| {
            let mut held = tokens.to_vec();
            all_logits(session, tokens, &Alone);
            let mut refused = 0;
            for trial in 0..40 {
                // Back to a place near the end, or anywhere.
                let back = if numbers.below(3) > 0 { numbers.below(20) } else { numbers.below(held.len() + 1) };
                let position = held.len().saturating_sub(back);
                match session.rewind(position) {
                    Ok(()) => held.truncate(position),
                    Err(Error::Rewind { earliest }) => {
                        refused += 1;
                        assert!(position > 0 && position < earliest);
                    }
                    Err(error) => panic!("{error}"),
                }
                assert_eq!(session.position(), held.len());
                // On with other tokens: some batches are given up half way.
                let room = config.context_tokens - held.len();
                let next: Vec<u32> =
                    (0..numbers.below(26).min(room)).map(|_| numbers.below(vocabulary) as u32).collect();
                if numbers.below(3) == 0 {
                    session.start(&next, Logits::All).expect("room for the batch");
                    for _ in 0..numbers.below(5) {
                        session.step(&Alone).expect("finite numbers");
                    }
                    session.cancel();
                    assert_eq!((session.position(), session.logits()), (held.len(), &[][..]));
                } else {
                    let found = batch(session, &next);
                    held.extend_from_slice(&next);
                    if trial % 8 == 0 {
                        let expected = whole(model, &held, exactness);
                        assert_same("after trials", &found, &expected[(held.len() - next.len()) * vocabulary..]);
                    }
                }
            }
            println!("{refused} rewinds refused");
        });
    });
}

#[test]
fn a_batch_given_up_at_any_step_leaves_no_trace() {
    each(|model, tokens, exactness| {
        let expected = whole(model, tokens, exactness);
        let vocabulary = model.config().vocabulary;
        let other: Vec<u32> = tokens.iter().map(|token| (token + 1) % vocabulary as u32).collect();
        let config = SessionConfig { rewind_tokens: 0, ..config(tokens.len(), 20, exactness) };
        with_session(model, fastest(), &config, |session| {
            let mut found = Vec::new();
            for (number, next) in tokens.chunks(20).enumerate() {
                // A batch has as many steps as there are layers, and one more for the logits.
                for steps in 0..=model.config().layers {
                    session.start(&other[20 * number..][..next.len()], Logits::All).expect("room for the batch");
                    for _ in 0..steps {
                        assert_eq!(session.step(&Alone), Ok(Progress::More));
                    }
                    session.cancel();
                    assert_eq!(session.position(), 20 * number);
                }
                found.extend(batch(session, next));
            }
            assert_same("after batches given up", &found, &expected);
        });
    });
}

#[test]
fn refused_calls_leave_the_session_as_it_was() {
    each(|model, tokens, exactness| {
        let vocabulary = model.config().vocabulary;
        let expected = whole(model, &tokens[..20], exactness);
        let config = SessionConfig { logits_rows: 4, ..config(22, 10, exactness) };
        with_session(model, fastest(), &config, |session| {
            session.start(&tokens[..10], Logits::Last).expect("room for the batch");
            let busy = Error::State("no batch under way: step it to its end, or cancel it");
            assert_eq!(session.start(&tokens[..1], Logits::None), Err(busy));
            assert_eq!(session.rewind(0), Err(busy));
            session.run(&Alone).expect("finite numbers");
            let logits = session.logits().to_vec();
            assert_same("after refusals", &logits, &expected[9 * vocabulary..10 * vocabulary]);

            let unknown = [tokens[0], vocabulary as u32, u32::MAX];
            assert_eq!(
                session.start(&unknown, Logits::None),
                Err(Error::Token { index: 1, token: vocabulary as u32, vocabulary })
            );
            let capacity = |what, need, have| Err(Error::Capacity { what, need, have });
            assert_eq!(session.start(&tokens[..11], Logits::None), capacity("tokens in a batch", 11, 10));
            assert_eq!(session.start(&tokens[..5], Logits::All), capacity("rows of logits", 5, 4));
            assert_eq!((session.position(), session.logits()), (10, &logits[..]));
            assert_eq!(session.step(&Alone), Ok(Progress::Done));
            assert_eq!((session.position(), session.logits()), (10, &logits[..]));

            session.start(&tokens[10..20], Logits::Last).expect("room for the batch");
            session.run(&Alone).expect("finite numbers");
            assert_same("at the end", session.logits(), &expected[19 * vocabulary..]);
            assert_eq!(session.start(&tokens[..3], Logits::None), capacity("tokens in the context", 23, 22));
        });
    });
}

// Where the weights come from.

#[test]
fn the_layout_of_the_files_does_not_matter() {
    for fixture in Fixture::all() {
        let tokens = &fixture.sequence("s64").tokens;
        for exactness in Exactness::ALL {
            let logits = |path: &Path| with_model(path, |model| whole(model, tokens, exactness));
            let expected = logits(&fixture.gguf);
            assert_same("Hugging Face's layout", &logits(&fixture.hf), &expected);
            assert_same("OpenAI's layout", &logits(&fixture.original), &expected);
        }
    }
}

// Memory.

#[test]
fn a_region_is_large_enough_or_refused() {
    let checkpoint = Checkpoint::open(&Fixture::load("tiny-a").gguf).expect("a checkpoint");
    let bytes = checkpoint.bytes();
    let files = checkpoint.files(&bytes).expect("files");
    let layout = Model::layout(&files).expect("a layout");
    let mut memory = Memory::new(layout).expect("memory");
    let too_small = |error| matches!(error, Some(Error::RegionTooSmall { have, need }) if need > have);
    for missing in [1, layout.size / 2, layout.size] {
        assert!(too_small(Model::new(&mut memory.region()[..layout.size - missing], &files).err()));
    }
    let misaligned = Some(Error::RegionAlign { need: 64 });
    assert_eq!(Model::new(&mut memory.region()[1..], &files).err(), misaligned);
    let model = Model::new(memory.region(), &files).expect("a model in exactly as much as it asked for");

    for exactness in Exactness::ALL {
        let config = config(100, 10, exactness);
        let layout = Session::layout(&model, &config).expect("a layout");
        let mut memory = Memory::new(layout).expect("memory");
        let new = |region: &mut [MaybeUninit<u8>]| Session::new(region, &model, fastest(), &config).err();
        for missing in [1, 64, layout.size / 2, layout.size] {
            assert!(too_small(new(&mut memory.region()[..layout.size - missing])));
        }
        assert_eq!(new(&mut memory.region()[1..]), misaligned);
        assert_eq!(new(memory.region()), None);
    }
}

#[test]
fn what_is_in_the_memory_before_does_not_matter() {
    each(|model, tokens, exactness| {
        let config = config(tokens.len(), 30, exactness);
        let mut memory = Memory::new(Session::layout(model, &config).expect("a layout")).expect("memory");
        memory.region().fill(MaybeUninit::new(0xff));
        let mut session = Session::new(memory.region(), model, fastest(), &config).expect("a session");
        let found = all_logits(&mut session, tokens, &Alone);
        assert_same("in memory full of ones", &found, &whole(model, tokens, exactness));
    });
}

#[test]
fn settings_out_of_range_are_refused() {
    with_model(&Fixture::load("tiny-a").gguf, |model| {
        let good = config(100, 10, Precision::Standard);
        let most = model.config().context_tokens;
        let expected = "a number of tokens within the model's context";
        for (config, name) in [
            (SessionConfig { context_tokens: 0, ..good }, "context_tokens"),
            (SessionConfig { context_tokens: most + 1, ..good }, "context_tokens"),
            (SessionConfig { batch_tokens: 0, ..good }, "batch_tokens"),
            (SessionConfig { batch_tokens: usize::MAX, ..good }, "batch_tokens"),
            (SessionConfig { logits_rows: usize::MAX, ..good }, "logits_rows"),
            (SessionConfig { rewind_tokens: usize::MAX, ..good }, "rewind_tokens"),
        ] {
            assert_eq!(Session::layout(model, &config).err(), Some(Error::Setting { name, expected }));
        }
        let largest =
            SessionConfig { context_tokens: most, batch_tokens: most, logits_rows: most, rewind_tokens: most, ..good };
        assert!(Session::layout(model, &largest).is_ok());
        assert!(Session::layout(model, &SessionConfig { logits_rows: 0, rewind_tokens: 0, ..good }).is_ok());
    });
}
