//! Adapters change what the matrices of a model give as merging them would, and leave the model itself as it is.

use std::path::PathBuf;

use ossicle_core::error::{Error, FileError};
use ossicle_core::generation::{Generation, GenerationConfig, Turn, TurnConfig};
use ossicle_core::harmony::conversation::Content;
use ossicle_core::harmony::history::History;
use ossicle_core::kernels::Kernels;
use ossicle_core::model::{Adapter, AdapterFile, Model};
use ossicle_core::parallel::{Alone, Parallel};
use ossicle_core::sampling::SamplerConfig;
use ossicle_core::tokenizer::Tokenizer;
use ossicle_core::transformer::{ADAPTERS_MAX, Logits, Precision, Session, SessionConfig};
use ossicle_host::{AdapterFiles, Checkpoint, Memory, Threads, kernels, vocabulary};
use ossicle_tests::engine::{all_logits, config, fastest, with_checkpoint, with_model};
use ossicle_tests::fixtures::{Fixture, data};
use ossicle_tests::npy;
use ossicle_tests::turns::{SESSION, Told, begin, turn, user};

/// The rank of each adapter is at most this.
const RANK: usize = 8;

fn folder() -> PathBuf {
    data().join("adapters")
}

/// Opens adapters for a model and lends them to `work`.
fn with_adapters<T>(model: &Model<'_, '_>, names: &[&str], work: impl FnOnce(&[Adapter<'_>]) -> T) -> T {
    let opened: Vec<_> = names.iter().map(|name| AdapterFiles::open(&folder().join(name)).expect(name)).collect();
    let files: Vec<_> = opened.iter().map(|opened| opened.file().expect("an adapter")).collect();
    let mut memory: Vec<_> = files
        .iter()
        .map(|file| {
            Memory::new(Adapter::layout(file, model.config()).expect("an adapter for this model")).expect("memory")
        })
        .collect();
    let adapters: Vec<_> = memory
        .iter_mut()
        .zip(&files)
        .map(|(memory, file)| Adapter::new(memory.region(), file, model).expect("an adapter for this model"))
        .collect();
    work(&adapters)
}

fn memory(model: &Model<'_, '_>, config: &SessionConfig) -> Memory {
    Memory::new(Session::layout(model, config).expect("a layout")).expect("memory")
}

fn sizes(tokens: usize, batch: usize, precision: Precision) -> SessionConfig {
    SessionConfig { adapter_rank: RANK, ..config(tokens, batch, precision) }
}

/// Logits after each token, with these adapters.
fn logits(
    model: &Model<'_, '_>,
    adapters: &[(Adapter<'_>, f32)],
    tokens: &[u32],
    (kernels, batch, precision): (Kernels, usize, Precision),
    parallel: &dyn Parallel,
) -> Vec<f32> {
    let config = sizes(tokens.len(), batch, precision);
    let mut memory = memory(model, &config);
    let mut session = Session::new(memory.region(), model, kernels, &config).expect("a session");
    session.adapt(adapters).expect("adapters of this model");
    all_logits(&mut session, tokens, parallel)
}

fn tokens() -> Vec<u32> {
    Fixture::load("tiny-a").sequence("s64").tokens[..32].to_vec()
}

fn farthest(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max)
}

#[test]
fn logits_are_those_of_peft_whoever_wrote_model_and_adapter() {
    let (fixture, tokens) = (Fixture::load("tiny-a"), tokens());
    let given = [
        ("attention.npy", vec![("attention", 1.0)], 2e-4),
        ("everything.npy", vec![("everything", 1.0)], 2e-4),
        ("everything.npy", vec![("everything.gguf", 1.0)], 2e-3),
        ("one-layer.npy", vec![("one-layer", 1.0)], 2e-4),
        ("both.npy", vec![("attention", 1.0), ("everything", 0.5)], 2e-4),
    ];
    for path in [&fixture.gguf, &fixture.hf, &fixture.original] {
        with_model(path, |model| {
            for (expected, names, most) in &given {
                let expected = npy::read_f32(&folder().join(expected)).values;
                let (names, weights): (Vec<_>, Vec<_>) = names.iter().copied().unzip();
                let found = with_adapters(model, &names, |adapters| {
                    let adapters: Vec<_> = adapters.iter().copied().zip(weights).collect();
                    logits(model, &adapters, &tokens, (fastest(), 5, Precision::Precise), &Alone)
                });
                let error = farthest(&found, &expected);
                assert!(error < *most, "{} {names:?}: a logit differs by {error}", path.display());
            }
        });
    }
}

#[test]
fn kernels_threads_and_batches_do_not_matter() {
    let (fixture, tokens) = (Fixture::load("tiny-a"), tokens());
    for path in [&fixture.gguf, &fixture.hf] {
        with_model(path, |model| {
            with_adapters(model, &["attention", "everything"], |adapters| {
                let adapters = [(adapters[1], 1.0), (adapters[0], -0.3)];
                for precision in [Precision::Standard, Precision::Precise] {
                    let portable = (Kernels::portable(), 32, precision);
                    let expected = logits(model, &adapters, &tokens, portable, &Alone);
                    for kernels in kernels::available() {
                        for batch in [1, 3, 32] {
                            let found =
                                logits(model, &adapters, &tokens, (kernels, batch, precision), &Threads::new(3));
                            assert!(found == expected, "{} {precision:?}, batches of {batch}", kernels.name());
                        }
                    }
                }
            });
        });
    }
}

#[test]
fn adapters_of_experts_that_are_read_as_they_are_chosen_give_the_same_bits() {
    let (fixture, tokens) = (Fixture::load("tiny-a"), tokens());
    let found = |model: &Model<'_, '_>| {
        with_adapters(model, &["everything"], |adapters| {
            let with = (fastest(), 7, Precision::Standard);
            [&[][..], &[(adapters[0], 0.7)]].map(|adapters| logits(model, adapters, &tokens, with, &Threads::new(2)))
        })
    };
    let expected = with_model(&fixture.gguf, found);
    assert_ne!(expected[0], expected[1]);
    for experts_size in [1 << 16, usize::MAX] {
        let checkpoint = Checkpoint::open_offloaded(&fixture.gguf, experts_size).expect("a fixture");
        with_checkpoint(&checkpoint, |model| {
            let cache = model.expert_cache().expect("a cache");
            let is_whole = cache.experts_per_layer() == model.config().experts;
            assert_eq!(is_whole, experts_size == usize::MAX, "{}", cache.experts_per_layer());
            assert_eq!(found(model), expected);
        });
    }
}

#[test]
fn a_session_changes_its_adapters_and_the_model_stays_as_it_is() {
    let (fixture, tokens) = (Fixture::load("tiny-a"), tokens());
    with_model(&fixture.gguf, |model| {
        with_adapters(model, &["attention", "everything"], |adapters| {
            let how = (fastest(), 8, Precision::Standard);
            let plain = logits(model, &[], &tokens, how, &Alone);
            let expected: Vec<_> =
                adapters.iter().map(|adapter| logits(model, &[(*adapter, 1.0)], &tokens, how, &Alone)).collect();
            let config = sizes(32, 8, Precision::Standard);
            let mut room = memory(model, &config);
            let mut session = Session::new(room.region(), model, fastest(), &config).expect("a session");
            for (adapter, expected) in adapters.iter().zip(&expected) {
                session.adapt(&[(*adapter, 1.0)]).expect("an adapter of this model");
                assert_eq!(session.position(), 0, "what it held depends on other adapters");
                assert!(all_logits(&mut session, &tokens, &Alone) == *expected);
                session.adapt(&[(*adapter, 1.0)]).expect("an adapter of this model");
                assert_eq!(session.position(), 32, "the same adapters change nothing");
            }
            session.adapt(&[]).expect("none");
            assert!(all_logits(&mut session, &tokens, &Alone) == plain);
            let config = SessionConfig { adapter_rank: 0, ..config };
            let mut room = memory(model, &config);
            let mut session = Session::new(room.region(), model, fastest(), &config).expect("a session");
            assert!(all_logits(&mut session, &tokens, &Alone) == plain, "room for adapters changes nothing");
            let nothing = logits(model, &[(adapters[0], 0.0)], &tokens, how, &Alone);
            assert!(nothing == plain, "nor does one that counts nothing");
        });
    });
}

/// What a new conversation is answered when it is given some adapters, then others, and each time goes back to the same question.
/// In the end it goes on, with the last of them: the logits are those of a session that had them from the beginning.
fn answers(model: &Model<'_, '_>, tokenizer: Tokenizer<'_>, given: &[&[(Adapter<'_>, f32)]]) -> Vec<Told> {
    let config = SessionConfig { adapter_rank: RANK, ..SESSION };
    let how = GenerationConfig { messages: 64, history: History::KeepAll };
    let layout = Generation::layout(&tokenizer, config.context_tokens, &how).expect("a layout");
    let (mut room, mut more_room) = (memory(model, &config), Memory::new(layout).expect("memory"));
    let session = Session::new(room.region(), model, fastest(), &config).expect("a session");
    let mut generation = Generation::new(more_room.region(), session, tokenizer, &how).expect("a conversation");
    begin(&mut generation);
    let greedy = || TurnConfig {
        sampler: SamplerConfig { temperature: 0.0, ..SamplerConfig::default() },
        max_tokens: 40,
        log_probabilities: Some(0),
        ..TurnConfig::default()
    };
    let told = given
        .iter()
        .map(|adapters| {
            generation.rewind(2).expect("two messages");
            generation.adapt(adapters).expect("adapters of this model");
            turn(&mut generation, greedy())
        })
        .collect();

    generation.append(&[user(&[Content::Text("And then?")])], &mut [0; 256]).expect("room");
    generation.adapt(given[0]).expect("adapters of this model");
    let mut turn = Turn::new(&mut generation, greedy()).expect("a turn");
    while turn.usage().output_tokens == 0 {
        turn.step(&mut generation, &Alone, &mut |_| {}).expect("finite numbers");
    }
    let tokens = &generation.tokens()[..turn.usage().input_tokens];
    let fresh = logits(model, given[0], tokens, (fastest(), 32, Precision::Standard), &Alone);
    assert!(generation.logits() == &fresh[fresh.len() - model.config().vocabulary..]);
    told
}

#[test]
fn a_conversation_changes_its_adapters_and_is_answered_by_the_new_ones_alone() {
    let fixture = Fixture::load("tiny-a");
    let checkpoint = Checkpoint::open(&fixture.gguf).expect("the fixture");
    let bytes = checkpoint.bytes();
    let files = checkpoint.files(&bytes).expect("the fixture");
    let (tokens, types) = files.vocabulary().expect("a vocabulary");
    let source = vocabulary::gguf(tokens, types.expect("types"));
    let mut room = Memory::new(Tokenizer::layout(&source).expect("a layout")).expect("memory");
    let tokenizer = Tokenizer::new(&source, room.region()).expect("a tokenizer");
    with_model(&fixture.gguf, |model| {
        with_adapters(model, &["attention", "everything"], |adapters| {
            let [first, second] = [adapters[0], adapters[1]];
            let (none, one, both): (&[_], &[_], &[_]) = (&[], &[(first, 1.0)], &[(second, 0.5), (first, -0.5)]);
            let told = answers(model, tokenizer, &[none, one, one, both, none]);
            assert_eq!(told[4].messages, told[0].messages, "nothing is left of adapters");
            assert_eq!(told[2].messages, told[1].messages);
            assert!(told[2].usage().cached_tokens > 0, "the same adapters keep what was computed");
            for (told, adapters) in told.iter().zip([none, one, one, both]) {
                assert_eq!(told.messages, answers(model, tokenizer, &[adapters])[0].messages);
            }
            let texts = [0, 1, 3].map(|turn| &told[turn].messages);
            assert!(texts[0] != texts[1] && texts[1] != texts[2] && texts[2] != texts[0], "{texts:?}");
            assert!([1, 3, 4].iter().all(|turn| told[*turn].usage().cached_tokens == 0), "others do not");
        });
    });
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let (fixture, tokens) = (Fixture::load("tiny-a"), tokens());
    with_model(&fixture.gguf, |model| {
        with_adapters(model, &["attention"], |adapters| {
            let adapter = adapters[0];
            let config = sizes(64, 8, Precision::Standard);
            {
                let mut room = memory(model, &config);
                let mut session = Session::new(room.region(), model, fastest(), &config).expect("a session");
                session.adapt(&[(adapter, 1.0)]).expect("an adapter of this model");
                all_logits(&mut session, &tokens, &Alone);
                let mut refused = |adapters: &[_], expected: Error| {
                    assert_eq!(session.adapt(adapters), Err(expected));
                    assert_eq!(session.position(), 32);
                };
                let (need, have) = (ADAPTERS_MAX + 1, ADAPTERS_MAX);
                refused(&[(adapter, 1.0); ADAPTERS_MAX + 1], Error::Capacity { what: "adapters", need, have });
                let expected = "finite numbers that adapters count with";
                refused(&[(adapter, f32::NAN)], Error::Setting { name: "adapters", expected });
                session.start(&tokens[..1], Logits::None).expect("room");
                assert!(matches!(session.adapt(&[]), Err(Error::State(_))));
            }
            let small = SessionConfig { adapter_rank: 7, ..config };
            let mut room = memory(model, &small);
            let mut session = Session::new(room.region(), model, fastest(), &small).expect("a session");
            let expected = Error::Capacity { what: "rank of adapters", need: 8, have: 7 };
            assert_eq!(session.adapt(&[(adapter, 1.0)]), Err(expected));
            with_model(&fixture.hf, |model| {
                // Its gates and linear parts alternate.
                let mut room = memory(model, &config);
                let mut session = Session::new(room.region(), model, fastest(), &config).expect("a session");
                let expected = "adapters that were opened for this model";
                assert_eq!(session.adapt(&[(adapter, 1.0)]), Err(Error::Setting { name: "adapters", expected }));
            });
        });
    });
    with_model(&Fixture::load("tiny-b").gguf, |model| {
        let opened = AdapterFiles::open(&folder().join("attention")).expect("files");
        let file = opened.file().expect("an adapter");
        let mut memory = Memory::new(Adapter::layout(&file, model.config()).expect("a layout")).expect("memory");
        assert!(matches!(Adapter::new(memory.region(), &file, model), Err(Error::File(_))), "it is for another shape");
    });
}

#[test]
fn a_snapshot_belongs_to_the_adapters_that_it_was_made_with() {
    let (fixture, tokens) = (Fixture::load("tiny-a"), tokens());
    let saved = |session: &Session<'_, '_>| {
        let mut bytes = Vec::new();
        session.save(&mut |part| bytes.extend_from_slice(part));
        bytes
    };
    with_model(&fixture.gguf, |model| {
        with_adapters(model, &["attention"], |adapters| {
            let config = sizes(64, 32, Precision::Standard);
            let mut room = memory(model, &config);
            let mut session = Session::new(room.region(), model, fastest(), &config).expect("a session");
            session.adapt(&[(adapters[0], 1.0)]).expect("an adapter of this model");
            all_logits(&mut session, &tokens, &Alone);
            let bytes = saved(&session);
            for others in [&[][..], &[(adapters[0], 0.5)], &[(adapters[0], 1.0); 2]] {
                session.adapt(others).expect("adapters of this model");
                assert!(matches!(session.restore(&bytes), Err(Error::File(_))));
            }
            session.adapt(&[(adapters[0], 1.0)]).expect("an adapter of this model");
            session.restore(&bytes).expect("the same adapters");
            assert_eq!(session.position(), 32);
        });
    });
}

/// Opens an adapter from bytes, as far as it goes.
fn open(model: &Model<'_, '_>, file: Result<AdapterFile<'_>, Error>) -> Result<(), Error> {
    let file = file?;
    let mut memory = Memory::new(Adapter::layout(&file, model.config())?).expect("memory");
    Adapter::new(memory.region(), &file, model).map(|_| ())
}

#[test]
fn a_snapshot_goes_to_another_layout_of_the_model_with_the_same_adapters() {
    let (fixture, tokens) = (Fixture::load("tiny-a"), tokens());
    let mut bytes = Vec::new();
    with_model(&fixture.gguf, |model| {
        with_adapters(model, &["everything"], |adapters| {
            let config = sizes(64, 32, Precision::Standard);
            let mut room = memory(model, &config);
            let mut session = Session::new(room.region(), model, fastest(), &config).expect("a session");
            session.adapt(&[(adapters[0], 1.0)]).expect("an adapter of this model");
            all_logits(&mut session, &tokens, &Alone);
            session.save(&mut |part| bytes.extend_from_slice(part));
        });
    });
    with_model(&fixture.hf, |model| {
        with_adapters(model, &["everything"], |adapters| {
            let config = sizes(64, 32, Precision::Standard);
            let mut room = memory(model, &config);
            let mut session = Session::new(room.region(), model, fastest(), &config).expect("a session");
            session.adapt(&[(adapters[0], 1.0)]).expect("an adapter of this model");
            session.restore(&bytes).expect("the same model and adapter");
        });
    });
}

#[test]
fn other_files_are_refused_with_a_place() {
    let weights = std::fs::read(folder().join("everything/adapter_model.safetensors")).expect("the adapter");
    let config = std::fs::read_to_string(folder().join("everything/adapter_config.json")).expect("its configuration");
    with_model(&Fixture::load("tiny-a").gguf, |model| {
        let refused = |weights: &[u8], config: &str| match open(model, AdapterFile::peft(weights, config.as_bytes())) {
            Err(Error::File(error)) => error,
            other => panic!("expected a refusal: {other:?}"),
        };
        assert_eq!(open(model, AdapterFile::peft(&weights, config.as_bytes())), Ok(()));
        for (from, to, expected) in [
            ("\"use_dora\": false", "\"use_dora\": true", "an adapter without DoRA"),
            ("\"alpha_pattern\": {}", "\"alpha_pattern\": {\"q_proj\": 3}", "one alpha for all matrices"),
            ("\"peft_type\": \"LORA\"", "\"peft_type\": \"IA3\"", "LORA as peft_type"),
            ("\"lora_alpha\": 6", "\"lora_alpha\": \"6\"", "a number as lora_alpha"),
            (
                "\"alora_invocation_tokens\": null",
                "\"alora_invocation_tokens\": [3]",
                "an adapter that counts from the first token on",
            ),
            ("\"layer_replication\": null", "\"layer_replication\": [[0, 2]]", "the layers of the model"),
            (
                "\"init_lora_weights\": true",
                "\"init_lora_weights\": \"pissa\"",
                "an adapter of the model as it was, converted from PiSSA, OLoRA and such",
            ),
        ] {
            assert!(config.contains(from));
            let error = refused(&weights, &config.replace(from, to));
            assert_eq!((error.file, error.expected), (FileError::CONFIGURATION, expected));
        }
        // As long as before, so that all else stays in place.
        let renamed = |from: &str, to: &str| {
            assert_eq!(from.len(), to.len());
            let at = weights.windows(from.len()).position(|bytes| bytes == from.as_bytes()).expect("such a name");
            let mut weights = weights.clone();
            weights[at..][..to.len()].copy_from_slice(to.as_bytes());
            (refused(&weights, &config), at)
        };
        let (error, at) = renamed("layers.1.self_attn.q_proj.lora_A", "layers.1.self_attn.x_proj.lora_A");
        assert_eq!(error.expected, "a tensor of a LoRA adapter, for a matrix in a layer of gpt-oss");
        assert!(error.offset < at as u64 && at as u64 - error.offset < 40, "{error}");
        let (error, _) = renamed("layers.1.self_attn.q_proj.lora_A", "layers.7.self_attn.q_proj.lora_A");
        assert_eq!((error.expected, error.found), ("the tensor of a layer that the model has", 7));
        let (error, _) = renamed("layers.1.self_attn.q_proj.lora_A", "layers.1.self_attn.q_proj.lora_B");
        assert_eq!(error.expected, "each half of a change once");
        let (error, _) = renamed("layers.1.self_attn.q_proj.lora_A", "layers.1.self_attn.o_proj.lora_A");
        assert_eq!(error.expected, "each half of a change once");
    });
}

#[test]
fn no_damage_does_more_than_a_refusal() {
    let gguf = std::fs::read(folder().join("everything.gguf")).expect("the adapter");
    let weights = std::fs::read(folder().join("everything/adapter_model.safetensors")).expect("the adapter");
    let config = std::fs::read(folder().join("everything/adapter_config.json")).expect("its configuration");
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    with_model(&Fixture::load("tiny-a").gguf, |model| {
        for _ in 0..3000 {
            let (mut gguf, mut weights, mut config) = (gguf.clone(), weights.clone(), config.clone());
            // Their headers.
            gguf[random(6000)] = random(256) as u8;
            weights[random(9000)] = random(256) as u8;
            let at = random(config.len());
            config[at] = random(128) as u8;
            let _ = open(model, AdapterFile::gguf(&gguf));
            let _ = open(model, AdapterFile::peft(&weights, &config));
        }
        for size in (0..6000).step_by(97) {
            assert!(open(model, AdapterFile::gguf(&gguf[..size])).is_err());
            assert!(open(model, AdapterFile::peft(&weights[..size], &config)).is_err());
        }
    });
}
