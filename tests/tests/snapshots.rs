//! A snapshot is the whole state: what goes on from it is bit for bit what would have gone on without it, and whatever is not
//! exactly a snapshot for this place is refused and changes nothing.

use ossicle_core::error::{Error, FileError};
use ossicle_core::generation::{Generation, Turn, TurnConfig};
use ossicle_core::harmony::conversation::Content;
use ossicle_core::harmony::history::History;
use ossicle_core::kernels::Kernels;
use ossicle_core::parallel::Alone;
use ossicle_core::sampling::SamplerConfig;
use ossicle_core::transformer::{CacheFormat, Precision, Session, SessionConfig};
use ossicle_host::Threads;
use ossicle_tests::engine::{Exactness, all_logits, config, fastest, with_model, with_session};
use ossicle_tests::fixtures::{Fixture, data};
use ossicle_tests::numbers::Numbers;
use ossicle_tests::turns::{self, SESSION, Told, begin, turn, user};

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
        for exactness in Exactness::ALL {
            for position in [0, 1, 7, 16, 130, 260] {
                let next = &tokens[position..position + 30];
                let (bytes, expected) = with_model(&fixture.gguf, |model| {
                    let config = config(300, 40, exactness);
                    with_session(model, fastest(), &config, |session| {
                        all_logits(session, &tokens[..position], &Alone);
                        (saved(session), all_logits(session, next, &Alone))
                    })
                });
                // Read from another layout, in another size of session, with other kernels and threads.
                with_model(&fixture.original, |model| {
                    let config = SessionConfig { rewind_tokens: 0, ..config(310, 7, exactness) };
                    with_session(model, Kernels::portable(), &config, |session| {
                        all_logits(session, &tokens[100..150], &Alone);
                        session.restore(&bytes).expect("a snapshot of this model");
                        assert_eq!((session.position(), session.logits()), (position, &[][..]));
                        assert!(saved(session).len() <= bytes.len(), "a smaller ring holds no more");
                        let found = all_logits(session, next, &Threads::new(2));
                        assert!(found == expected, "{} {exactness:?} at {position}", fixture.name);
                    });
                });
            }
        }
    }
}

#[test]
fn a_session_whose_windows_are_longer_goes_on_too() {
    let fixture = Fixture::load("tiny-a");
    let tokens = &fixture.sequence("s300").tokens;
    with_model(&fixture.gguf, |model| {
        let shorter = SessionConfig { rewind_tokens: 0, ..config(300, 7, Precision::Standard) };
        with_session(model, fastest(), &shorter, |first| {
            let expected = all_logits(first, tokens, &Alone);
            for position in [100, 200, 270] {
                first.rewind(0).expect("the start is always there");
                all_logits(first, &tokens[..position], &Alone);
                let bytes = saved(first);
                for rewind_tokens in [60, 120] {
                    let longer = SessionConfig { rewind_tokens, ..config(300, 7, Precision::Standard) };
                    let go_on = |begin: &dyn Fn(&mut Session<'_, '_>) -> Result<(), Error>| {
                        with_session(model, fastest(), &longer, |second| {
                            begin(second).expect("the same model");
                            let found = all_logits(second, &tokens[position..], &Alone);
                            assert!(found == expected[position * model.config().vocabulary..]);
                        });
                    };
                    go_on(&|second| second.restore(&bytes));
                    go_on(&|second| second.fork_from(first));
                }
            }
        });
    });
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
    let of = |fixture: &Fixture, exactness: Exactness| {
        with_model(&fixture.gguf, |model| {
            with_session(model, fastest(), &config(64, 64, exactness), |session| {
                all_logits(session, &fixture.sequence("s64").tokens[..20], &Alone);
                saved(session)
            })
        })
    };
    let bytes = of(&a, Precision::Standard.into());
    with_model(&a.gguf, |model| {
        with_session(model, fastest(), &config(64, 64, Precision::Standard), |session| {
            all_logits(session, &tokens[..9], &Alone);
            let before = saved(session);
            let mut refuse = |bytes: &[u8], expected: &str| {
                let error = refused(session.restore(bytes));
                assert!(error.expected.contains(expected), "{error}");
                assert!(saved(session) == before, "{error}");
            };
            refuse(&of(&b, Precision::Standard.into()), "of this model");
            refuse(&of(&a, Precision::Precise.into()), "precision");
            for format in [CacheFormat::F32, CacheFormat::Bf16, CacheFormat::Int8] {
                refuse(&of(&a, format.into()), "the same format of the cache");
            }
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

#[test]
fn a_fork_goes_on_as_its_origin_would_and_neither_notices_the_other() {
    let fixture = Fixture::load("tiny-a");
    let tokens = &fixture.sequence("s300").tokens;
    for exactness in Exactness::ALL {
        for position in [0, 1, 130, 260] {
            with_model(&fixture.gguf, |model| {
                with_session(model, fastest(), &config(300, 40, exactness), |origin| {
                    all_logits(origin, &tokens[..position], &Alone);
                    let before = saved(origin);
                    let smaller = SessionConfig { rewind_tokens: 0, ..config(310, 7, exactness) };
                    with_session(model, Kernels::portable(), &smaller, |fork| {
                        all_logits(fork, &tokens[200..250], &Alone);
                        fork.fork_from(origin).expect("the same model");
                        assert_eq!((fork.position(), fork.logits()), (position, &[][..]));
                        let found = all_logits(fork, &tokens[position..position + 30], &Alone);
                        assert!(saved(origin) == before, "the origin is as it was");
                        all_logits(origin, &tokens[..30], &Alone);
                        fork.rewind(0).expect("the start is always there");
                        let expected = all_logits(fork, &tokens[..position + 30], &Alone);
                        assert!(found == expected[position * model.config().vocabulary..]);
                    });
                });
            });
        }
    }
}

#[test]
fn a_fork_is_of_the_same_model_precision_and_format_and_fits() {
    let fixture = Fixture::load("tiny-a");
    let tokens = &fixture.sequence("s64").tokens;
    with_model(&fixture.gguf, |model| {
        with_session(model, fastest(), &config(64, 64, Precision::Standard), |session| {
            all_logits(session, &tokens[..9], &Alone);
            let before = saved(session);
            let mut refuse = |origin: &Session<'_, '_>, error: Error| {
                assert_eq!(session.fork_from(origin), Err(error));
                assert!(saved(session) == before);
            };
            let state = Error::State("a session of the same model, precision, format of the cache and adapters");
            with_session(model, fastest(), &config(64, 64, Precision::Precise), |origin| refuse(origin, state));
            with_session(model, fastest(), &config(64, 64, CacheFormat::Bf16), |origin| refuse(origin, state));
            with_model(&fixture.gguf, |twin| {
                with_session(twin, fastest(), &config(64, 64, Precision::Standard), |origin| refuse(origin, state));
            });
            with_session(model, fastest(), &config(300, 64, Precision::Standard), |origin| {
                all_logits(origin, &fixture.sequence("s300").tokens[..65], &Alone);
                refuse(origin, Error::Capacity { what: "tokens in the context", need: 65, have: 64 });
            });
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

#[test]
fn a_conversation_forks_even_within_a_turn() {
    let config = |seed, max_tokens| TurnConfig {
        sampler: SamplerConfig { seed, ..SamplerConfig::default() },
        max_tokens,
        ..TurnConfig::default()
    };
    let go_on = |generation: &mut Generation<'_, '_>| {
        generation.append(&[user(&[Content::Text("And then?")])], &mut [0; 4096]).expect("room");
        (turn(generation, config(9, 40)), generation.tokens().to_vec())
    };
    for steps in [0, 40, 160, 1000] {
        with_generation(|origin| {
            begin(origin);
            let mut under_way = Turn::new(origin, config(4, 60)).expect("a turn");
            let mut told = Told::default();
            for _ in 0..steps {
                under_way.step(origin, &Alone, &mut |event| told.take(event)).expect("finite numbers");
            }
            let bytes = saved_conversation(origin);
            let parts = (origin.session().model(), *origin.tokenizer());
            turns::with_generation_on(parts, (fastest(), &SESSION), History::Documented, |fork| {
                begin(fork);
                fork.fork_from(origin).expect("the same model");
                assert!(saved_conversation(fork) == bytes);
                let forked = go_on(fork);
                assert!(saved_conversation(origin) == bytes, "the origin is as it was");
                under_way.run(origin, &Alone, &mut |event| told.take(event)).expect("it goes on");
                origin.restore(&bytes).expect("its own snapshot");
                assert!(go_on(origin) == forked);
            });
        });
    }
}

#[test]
fn a_conversation_goes_back_to_any_of_its_messages() {
    let config = TurnConfig { max_tokens: 40, ..TurnConfig::default() };
    with_generation(|generation| {
        begin(generation);
        for _ in 0..3 {
            turn(generation, config);
            generation.append(&[user(&[Content::Text("And then?")])], &mut [0; 4096]).expect("room");
        }
        let (tokens, boundaries) = (generation.tokens().to_vec(), generation.boundaries().collect::<Vec<_>>());
        assert_eq!(boundaries.last(), Some(&tokens.len()));
        let state = Error::State("as many messages as are finished");
        assert_eq!(generation.rewind(boundaries.len()), Err(state));
        let bytes = saved_conversation(generation);
        for (messages, end) in boundaries.iter().enumerate() {
            generation.restore(&bytes).expect("its own snapshot");
            // Not only from the end, but also out of the next turn.
            turn(generation, TurnConfig { max_tokens: 7, ..config });
            generation.rewind(messages).expect("so many messages");
            assert_eq!(generation.tokens(), &tokens[..*end]);
            assert_eq!(generation.boundaries().collect::<Vec<_>>(), boundaries[..=messages]);
            let mut told = turn(generation, config);
            told.stop = None;
            let found = (told, generation.tokens().to_vec());
            // The same in a session that can hardly go back, and so computes again.
            let session = SessionConfig { rewind_tokens: 0, ..SESSION };
            let expected = turns::with_generation((fastest(), &session), History::Documented, |other| {
                other.restore(&bytes).expect("a snapshot of this conversation");
                other.rewind(messages).expect("so many messages");
                assert!(other.session().position() == 0 || messages > 1);
                let mut told = turn(other, config);
                told.stop = None;
                (told, other.tokens().to_vec())
            });
            assert!(found == expected, "{messages}");
        }
    });
}

#[test]
fn a_prefix_spares_what_was_computed_and_changes_nothing_else() {
    let config = TurnConfig { max_tokens: 40, ..TurnConfig::default() };
    with_generation(|generation| {
        begin(generation);
        let ends: Vec<_> = generation.boundaries().skip(1).collect();
        let (mut expected, mut prefixes) = (turn(generation, config), Vec::new());
        for end in &ends {
            let mut bytes = Vec::new();
            generation.save_prefix(*end, &mut |part| bytes.extend_from_slice(part)).expect("it was taken in");
            assert!(bytes.len() < saved_conversation(generation).len());
            assert_eq!(generation.prefix_size(*end), Some(bytes.len()));
            prefixes.push(bytes);
        }
        let far = generation.save_prefix(generation.tokens().len() + 1, &mut |_| unreachable!("nothing is written"));
        assert!(matches!(far, Err(Error::State(_))), "{far:?}");
        assert_eq!(generation.prefix_size(generation.tokens().len() + 1), None);
        let expected_tokens = generation.tokens().to_vec();
        for (bytes, end) in prefixes.iter().zip(&ends) {
            with_generation(|fresh| {
                assert_eq!(fresh.restore_prefix(bytes), Ok(false), "it has no such tokens");
                begin(fresh);
                assert_eq!(fresh.restore_prefix(bytes), Ok(true));
                assert_eq!(fresh.restore_prefix(bytes), Ok(false), "it holds them already");
                let found = turn(fresh, config);
                assert_eq!(found.usage().cached_tokens, *end);
                expected.stop = found.stop;
                assert!(found == expected && fresh.tokens() == expected_tokens);
            });
        }
        // Damaged ones change nothing.
        with_generation(|fresh| {
            begin(fresh);
            let before = saved_conversation(fresh);
            let mut numbers = Numbers::seeded(7);
            for _ in 0..500 {
                let mut changed = prefixes[0].clone();
                let at = numbers.below(changed.len());
                changed[at] ^= 1 << numbers.below(8);
                refused(fresh.restore_prefix(&changed).map(|_| ()));
                refused(fresh.restore_prefix(&changed[..at]).map(|_| ()));
                refused(fresh.restore_prefix(&before).map(|_| ()));
            }
            assert!(saved_conversation(fresh) == before);
        });
    });
}
