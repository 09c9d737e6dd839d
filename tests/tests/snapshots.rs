//! A snapshot is the whole state: what goes on from it is bit for bit what would have gone on without it, and whatever is not
//! exactly a snapshot for this place is refused and changes nothing.

use ossicle_core::error::{Error, FileError};
use ossicle_core::generation::{Generation, TurnConfig};
use ossicle_core::harmony::conversation::Content;
use ossicle_core::harmony::history::History;
use ossicle_core::kernels::Kernels;
use ossicle_core::parallel::Alone;
use ossicle_core::sampling::SamplerConfig;
use ossicle_core::transformer::{Precision, Session, SessionConfig};
use ossicle_host::Threads;
use ossicle_tests::engine::{all_logits, config, fastest, with_model, with_session};
use ossicle_tests::fixtures::{Fixture, data};
use ossicle_tests::numbers::Numbers;
use ossicle_tests::turns::{self, SESSION, begin, turn, user};

fn saved(session: &Session<'_, '_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    session.save(&mut |part| bytes.extend_from_slice(part));
    bytes
}

fn refused(result: Result<(), Error>) -> FileError {
    match result {
        Err(Error::File(error)) => error,
        other => panic!("expected a refusal: {other:?}"),
    }
}

#[test]
fn another_session_goes_on_as_the_first_would_have() {
    for fixture in Fixture::all() {
        let tokens = &fixture.sequence("s300").tokens;
        for precision in [Precision::Standard, Precision::Precise] {
            for position in [0, 1, 7, 16, 130, 260] {
                let next = &tokens[position..position + 30];
                let (bytes, expected) = with_model(&fixture.gguf, |model| {
                    let config = config(300, 40, precision);
                    with_session(model, fastest(), &config, |session| {
                        all_logits(session, &tokens[..position], &Alone);
                        (saved(session), all_logits(session, next, &Alone))
                    })
                });
                // Read from another layout, in another size of session, with other kernels and threads.
                with_model(&fixture.original, |model| {
                    let config = SessionConfig { rewind_tokens: 0, ..config(310, 7, precision) };
                    with_session(model, Kernels::portable(), &config, |session| {
                        all_logits(session, &tokens[100..150], &Alone);
                        session.restore(&bytes).expect("a snapshot of this model");
                        assert_eq!((session.position(), session.logits()), (position, &[][..]));
                        assert!(saved(session).len() <= bytes.len(), "a smaller ring holds no more");
                        let found = all_logits(session, next, &Threads::new(2));
                        assert!(found == expected, "{} {precision:?} at {position}", fixture.name);
                    });
                });
            }
        }
    }
}

#[test]
fn it_goes_back_as_far_as_the_first_could() {
    let fixture = Fixture::load("tiny-a");
    let tokens = &fixture.sequence("s300").tokens;
    with_model(&fixture.gguf, |model| {
        let config = SessionConfig { rewind_tokens: 50, ..config(1000, 30, Precision::Standard) };
        with_session(model, fastest(), &config, |first| {
            let expected = all_logits(first, tokens, &Alone);
            let bytes = saved(first);
            let Err(Error::Rewind { earliest }) = first.rewind(1) else { panic!("the ring is shorter than that") };
            with_session(model, fastest(), &config, |second| {
                second.restore(&bytes).expect("a snapshot of this model");
                assert_eq!(second.rewind(earliest - 1), Err(Error::Rewind { earliest }));
                second.rewind(earliest).expect("as far as the first");
                let found = all_logits(second, &tokens[earliest..], &Alone);
                assert!(found == expected[earliest * model.config().vocabulary..]);
                // A fork and its origin know nothing of each other.
                assert!(saved(second) == bytes);
                second.rewind(0).expect("the start is always there");
                assert!(all_logits(second, tokens, &Alone) == expected);
            });
        });
    });
}

#[test]
fn a_batch_under_way_is_no_part_of_it() {
    let fixture = Fixture::load("tiny-b");
    let tokens = &fixture.sequence("s300").tokens;
    with_model(&fixture.gguf, |model| {
        let config = SessionConfig { rewind_tokens: 0, ..config(300, 30, Precision::Standard) };
        with_session(model, fastest(), &config, |session| {
            all_logits(session, &tokens[..200], &Alone);
            session.start(&tokens[200..230], ossicle_core::transformer::Logits::Last).expect("room");
            session.step(&Alone).expect("finite numbers");
            let bytes = saved(session);
            assert!(matches!(session.restore(&bytes), Err(Error::State(_))));
            session.cancel();
            session.restore(&bytes).expect("its own snapshot");
            let found = all_logits(session, &tokens[200..230], &Alone);
            session.rewind(0).expect("the start is always there");
            let expected = all_logits(session, &tokens[..230], &Alone);
            assert!(found == expected[200 * model.config().vocabulary..]);
        });
    });
}

#[test]
fn what_is_not_this_sessions_snapshot_is_refused_and_changes_nothing() {
    let [a, b] = ["tiny-a", "tiny-b"].map(Fixture::load);
    let tokens = &a.sequence("s64").tokens;
    let of = |fixture: &Fixture, precision| {
        with_model(&fixture.gguf, |model| {
            with_session(model, fastest(), &config(64, 64, precision), |session| {
                all_logits(session, &fixture.sequence("s64").tokens[..20], &Alone);
                saved(session)
            })
        })
    };
    let bytes = of(&a, Precision::Standard);
    with_model(&a.gguf, |model| {
        with_session(model, fastest(), &config(64, 64, Precision::Standard), |session| {
            all_logits(session, &tokens[..9], &Alone);
            let before = saved(session);
            let mut refuse = |bytes: &[u8], expected: &str| {
                let error = refused(session.restore(bytes));
                assert!(error.expected.contains(expected), "{error}");
                assert!(saved(session) == before, "{error}");
            };
            refuse(&of(&b, Precision::Standard), "of this model");
            refuse(&of(&a, Precision::Precise), "precision");
            refuse(&[], "a snapshot");
            refuse(&fixture_bytes(), "a snapshot");
            for end in (0..bytes.len()).step_by(7).chain(bytes.len() - 9..bytes.len()) {
                refuse(&bytes[..end], "");
            }
            let mut numbers = Numbers::seeded(5);
            for _ in 0..2000 {
                let mut changed = bytes.clone();
                let at = numbers.below(changed.len());
                changed[at] ^= 1 << numbers.below(8);
                refuse(&changed, "");
            }
        });
        with_session(model, fastest(), &config(19, 19, Precision::Standard), |session| {
            let error = session.restore(&bytes);
            assert_eq!(error, Err(Error::Capacity { what: "tokens in the context", need: 20, have: 19 }));
        });
    });
}

fn fixture_bytes() -> Vec<u8> {
    std::fs::read(data().join("tiny-a/gguf/tiny-a.gguf")).expect("the fixture")
}

// Conversations.

fn saved_conversation(generation: &Generation<'_, '_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    generation.save(&mut |part| bytes.extend_from_slice(part));
    bytes
}

fn with_generation<T>(work: impl FnOnce(&mut Generation<'_, '_>) -> T) -> T {
    turns::with_generation((fastest(), &SESSION), History::Documented, work)
}

#[test]
fn a_conversation_goes_on_as_if_it_had_never_been_away() {
    for seed in 0..20 {
        let config = |seed, max_tokens| TurnConfig {
            sampler: SamplerConfig { seed, temperature: 0.7, ..SamplerConfig::default() },
            max_tokens,
            draft_tokens: 8,
            ..TurnConfig::default()
        };
        let go_on = |generation: &mut Generation<'_, '_>| {
            let again = [Content::Text("Again, please. Again, please.")];
            generation.append(&[user(&again)], &mut [0; 4096]).expect("room");
            let mut told = turn(generation, config(seed + 100, 60));
            // How much was computed again may differ: nothing of the first session is here.
            told.stop = None;
            (told, generation.tokens().to_vec())
        };
        let (bytes, taken_in, expected) = with_generation(|generation| {
            begin(generation);
            // Some turns end by themselves, others in the middle of a message or of its header.
            turn(generation, config(seed, 3 * seed as usize + 1));
            (saved_conversation(generation), generation.session().position(), go_on(generation))
        });
        with_generation(|generation| {
            begin(generation);
            turn(generation, config(seed + 50, 10));
            generation.restore(&bytes).expect("a snapshot of this conversation");
            assert!(saved_conversation(generation) == bytes, "saved again, it is the same");
            assert_eq!(generation.session().position(), taken_in, "nothing is computed again");
            assert!(go_on(generation) == expected);
        });
    }
}

#[test]
fn a_message_that_there_is_no_room_to_end_stays_under_way() {
    let (bytes, len) = with_generation(|generation| {
        begin(generation);
        turn(generation, TurnConfig { max_tokens: 30, ..TurnConfig::default() });
        assert_ne!(generation.tokens().last(), Some(&generation.special().end));
        (saved_conversation(generation), generation.tokens().len())
    });
    let session = SessionConfig { context_tokens: len, ..SESSION };
    turns::with_generation((fastest(), &session), History::Documented, |generation| {
        generation.restore(&bytes).expect("just as much room");
        for _ in 0..2 {
            let refused = generation.append(&[user(&[Content::Text("And?")])], &mut [0; 64]);
            assert!(matches!(refused, Err(Error::Capacity { .. })), "{refused:?}");
            assert!(saved_conversation(generation) == bytes);
        }
    });
}

#[test]
fn a_damaged_conversation_is_refused_and_changes_nothing() {
    with_generation(|generation| {
        begin(generation);
        turn(generation, TurnConfig { max_tokens: 30, ..TurnConfig::default() });
        let bytes = saved_conversation(generation);
        let of_session = saved(generation.session());
        let mut numbers = Numbers::seeded(6);
        let mut refuse = |changed: &[u8]| {
            refused(generation.restore(changed));
            assert!(saved_conversation(generation) == bytes);
        };
        refuse(&of_session);
        for _ in 0..500 {
            let mut changed = bytes.clone();
            let at = numbers.below(changed.len());
            changed[at] ^= 1 << numbers.below(8);
            refuse(&changed);
            refuse(&bytes[..at]);
        }
    });
}
