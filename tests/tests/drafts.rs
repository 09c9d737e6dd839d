//! What is drafted and verified in one pass is what would have been drawn token by token, and all that is told of it too.

use ossicle_core::generation::{Drafter, Generation, StopReason, Turn, TurnConfig};
use ossicle_core::harmony::conversation::Content;
use ossicle_core::harmony::history::History;
use ossicle_core::kernels::Kernels;
use ossicle_core::parallel::Alone;
use ossicle_core::region::ALIGN;
use ossicle_core::sampling::SamplerConfig;
use ossicle_core::transformer::{Logits, Precision, Progress, SessionConfig};
use ossicle_host::Memory;
use ossicle_host::kernels::available;
use ossicle_tests::engine::{all_logits, config, fastest, with_model, with_session};
use ossicle_tests::fixtures::Fixture;
use ossicle_tests::numbers::Numbers;
use ossicle_tests::turns::{SESSION, Told, begin, turn, user, with_generation};

/// A turn, and in how many steps; none in a full context.
fn stepped(generation: &mut Generation<'_, '_>, config: TurnConfig<'_>) -> Option<(Told, usize)> {
    let (mut told, mut steps) = (Told::default(), 1);
    let mut turn = Turn::new(generation, config).ok()?;
    while turn.step(generation, &Alone, &mut |event| told.take(event)).expect("finite numbers") == Progress::More {
        steps += 1;
    }
    Some((told, steps))
}

/// Three turns of a conversation: what is told, the tokens after each, and all steps.
fn conversation(
    (kernels, session): (Kernels, &SessionConfig),
    config: TurnConfig<'_>,
) -> (Vec<(Told, Vec<u32>)>, usize) {
    with_generation((kernels, session), History::Documented, |generation| {
        begin(generation);
        let mut all_steps = 0;
        let turns = (0..3).map_while(|number| {
            let sampler = SamplerConfig { seed: config.sampler.seed + number, ..config.sampler };
            let (told, steps) = stepped(generation, TurnConfig { sampler, ..config })?;
            all_steps += steps;
            let told = (told, generation.tokens().to_vec());
            // In a full context there is no room for it.
            let _ = generation.append(&[user(&[Content::Text("Once more, the same")])], &mut [0; 256]);
            Some(told)
        });
        (turns.collect(), all_steps)
    })
}

/// A model with random weights repeats itself where it has few words.
const FEW_WORDS: [(u32, f32); 6] = [(64, 20.0), (65, 20.0), (66, 20.0), (67, 20.0), (68, 20.0), (69, 20.0)];

/// All that a turn can be told, by number.
fn varied(number: u64) -> TurnConfig<'static> {
    let at = number as usize;
    TurnConfig {
        sampler: SamplerConfig {
            seed: number,
            temperature: [0.0, 0.1, 0.3, 1.0][at / 2 % 4],
            top_p: [1.0, 0.9][at / 8 % 2],
            logit_bias: [&[][..], &FEW_WORDS][at % 2],
            ..SamplerConfig::default()
        },
        max_tokens: 90,
        reasoning_tokens: [None, Some(0), Some(20)][at / 3 % 3],
        stop: [&[][..], &["e"], &["\n\n", "zq"]][at / 2 % 3],
        recipients: if at % 5 < 3 { &["functions.look"] } else { &[] },
        must_call: false,
        beginning: &[],
        constrain_headers: at % 7 != 6,
        log_probabilities: (at % 4 == 3).then_some(2),
        draft_tokens: 0,
    }
}

#[test]
fn with_and_without_drafts_turns_are_the_same() {
    let mut all_steps = [0; 2];
    let mut stops = Vec::new();
    for number in 0..48 {
        let config = varied(number);
        let (plain, plain_steps) = conversation((fastest(), &SESSION), config);
        let (drafted, steps) = conversation((fastest(), &SESSION), TurnConfig { draft_tokens: 8, ..config });
        assert_eq!(plain, drafted, "{config:?}");
        all_steps[0] += plain_steps;
        all_steps[1] += steps;
        stops.extend(plain.iter().map(|(told, _)| told.reason()));
    }
    println!("{all_steps:?} steps without and with drafts");
    assert!(all_steps[1] * 10 < all_steps[0] * 9, "drafts must have come true: {all_steps:?}");
    for reason in [StopReason::MaxTokens, StopReason::StopString, StopReason::ToolCall, StopReason::Finished] {
        assert!(stops.contains(&reason), "{reason:?} must have occurred");
    }
}

#[test]
fn with_every_kernel_set_drafts_change_nothing() {
    for kernels in available() {
        let config = TurnConfig { max_tokens: 60, ..varied(1) };
        let (plain, plain_steps) = conversation((kernels, &SESSION), config);
        let (drafted, steps) = conversation((kernels, &SESSION), TurnConfig { draft_tokens: 8, ..config });
        assert_eq!(plain, drafted, "{}", kernels.name());
        println!("{}: {plain_steps} steps without drafts, {steps} with", kernels.name());
        // The portable kernels would only lose by it.
        assert_eq!(steps < plain_steps, kernels.name() != Kernels::portable().name(), "{}", kernels.name());
    }
}

#[test]
fn however_large_drafts_batches_windows_and_contexts_are_turns_are_the_same() {
    let mut random = Numbers::seeded(7);
    let (mut full, mut recomputed, mut kept) = (0, 0, 0);
    for number in 0..90 {
        let mut below = |most: usize| random.below(most);
        let context_tokens = 150 + below(600);
        // As large as the context too, where a ring has no room besides.
        let is_whole = below(4) == 0;
        let session = SessionConfig {
            context_tokens,
            batch_tokens: if is_whole { context_tokens } else { 1 + below(20) },
            logits_rows: if is_whole { context_tokens } else { 1 + below(18) },
            rewind_tokens: below(40),
            ..SESSION
        };
        let config = TurnConfig {
            max_tokens: [0, 1, 2, 50, 120][below(5)],
            // Taken out of the conversation after the turn.
            reasoning_tokens: Some(below(40)),
            ..varied(number)
        };
        let draft_tokens = [1 + below(20), usize::MAX][below(2)];
        let (plain, _) = conversation((fastest(), &session), config);
        let (drafted, _) = conversation((fastest(), &session), TurnConfig { draft_tokens, ..config });
        assert_eq!(plain, drafted, "{session:?} {config:?} {draft_tokens}");
        full += plain.iter().filter(|(told, _)| told.reason() == StopReason::ContextFull).count();
        for (told, _) in plain.iter().skip(1) {
            let is_recomputed = told.usage().cached_tokens == 0;
            (recomputed, kept) = (recomputed + usize::from(is_recomputed), kept + usize::from(!is_recomputed));
        }
    }
    println!("{full} contexts full; {recomputed} turns computed anew, {kept} not");
    assert!(full > 3 && recomputed > 3 && kept > 3, "contexts must have become full, and windows have moved on");
}

#[test]
fn where_a_ring_is_as_long_as_the_context_nothing_is_computed_again() {
    let context_tokens = 320;
    let session =
        SessionConfig { context_tokens, batch_tokens: context_tokens, logits_rows: context_tokens, ..SESSION };
    let mut nearly_full = 0;
    for (number, draft_tokens) in (0..12).flat_map(|number| [(number, 0), (number, usize::MAX)]) {
        // The reasoning is taken out after each turn, so that the session has to go back.
        let config = TurnConfig { max_tokens: 80, reasoning_tokens: Some(30), draft_tokens, ..varied(number) };
        let (turns, _) = conversation((fastest(), &session), config);
        for (before, after) in turns.iter().zip(turns.iter().skip(1)) {
            assert!(after.0.usage().cached_tokens > 0, "{number} {draft_tokens}: {:?}", after.0.usage());
            nearly_full += usize::from(before.1.len() + 100 > context_tokens);
        }
    }
    assert!(nearly_full > 3, "drafts as long as all that is left must have been possible: {nearly_full}");
}

/// What came of a turn, after so many others, that was left as soon as it had written enough: how many tokens that was, whether
/// it was over by itself, what had been told, what the next turn tells, and all tokens then.
type Left = (usize, bool, Told, Told, Vec<u32>);

fn leave(before: usize, config: TurnConfig<'_>, cancels: bool, is_enough: &mut dyn FnMut(usize) -> bool) -> Left {
    with_generation((fastest(), &SESSION), History::KeepAll, |generation| {
        begin(generation);
        for _ in 0..before {
            turn(generation, config);
        }
        let mut told = Told::default();
        let mut first = Turn::new(generation, config).expect("a turn");
        while !is_enough(first.usage().output_tokens) {
            first.step(generation, &Alone, &mut |event| told.take(event)).expect("finite numbers");
        }
        let (written, is_over) = (first.usage().output_tokens, told.stop.is_some());
        if cancels {
            first.cancel(generation, &mut |event| told.take(event));
        }
        generation.append(&[user(&[Content::Text("Go on")])], &mut [0; 256]).expect("room");
        (written, is_over, told, turn(generation, config), generation.tokens().to_vec())
    })
}

#[test]
fn a_turn_that_is_left_amid_drafts_leaves_what_one_without_leaves() {
    let plain = TurnConfig { max_tokens: 60, log_probabilities: None, ..varied(4) };
    let led = leave(0, plain, true, &mut |written| written > 0).0;
    let mut compared = 0;
    for steps in (0..400).step_by(5) {
        for cancels in [true, false] {
            let mut taken = 0;
            let drafted = leave(0, TurnConfig { draft_tokens: 8, ..plain }, cancels, &mut |_| {
                taken += 1;
                taken > steps
            });
            // What the answer was led to comes before the prompt is taken in, of which then there may be a part.
            if drafted.0 > led && !drafted.1 {
                assert_eq!(leave(0, plain, cancels, &mut |written| written == drafted.0), drafted, "{steps} {cancels}");
                compared += 1;
            }
        }
    }
    assert!(compared > 20, "{compared}");
}

#[test]
fn a_turn_that_is_left_where_it_was_led_to_its_answer_leaves_what_one_without_drafts_leaves() {
    let mut led = 0;
    for (number, budget) in (0..16).flat_map(|number| [(number, 9), (number, 14)]) {
        let plain = TurnConfig {
            // Any channel comes first, and then one word alone: what has led to the answer before is drafted as its copy.
            sampler: SamplerConfig { seed: number, logit_bias: &[(64, 60.0)], ..SamplerConfig::default() },
            max_tokens: 60,
            reasoning_tokens: Some(budget),
            draft_tokens: 0,
            ..TurnConfig::default()
        };
        // The tokens that lead to the answer come in one step; some steps later the session is taking them in.
        let (mut before, mut led_at, mut steps) = (0, None, 0);
        let expected = leave(2, plain, true, &mut |written| {
            if written > before + 1 {
                led_at = led_at.or(Some(written));
            }
            before = written;
            steps += usize::from(led_at.is_some());
            steps > 2 || written >= 60
        });
        let Some(led_at) = led_at else { continue };
        let mut steps = 0;
        let drafted = leave(2, TurnConfig { draft_tokens: 8, ..plain }, true, &mut |written| {
            steps += usize::from(written >= led_at);
            steps > 2
        });
        assert_eq!(drafted, expected, "{number} {budget}");
        led += 1;
    }
    assert!(led > 5, "{led}");
}

#[test]
fn what_is_drafted_has_stood_behind_the_same_tokens() {
    let fixture = Fixture::load("tiny-a");
    with_model(&fixture.gguf, |model| {
        with_session(model, fastest(), &config(16, 4, Precision::Standard), |session| {
            let mut random = Numbers::seeded(3);
            for round in 0..60 {
                const CONTEXT: usize = 400;
                let layout = Drafter::layout(CONTEXT).expect("a layout");
                assert!((8 * CONTEXT..=12 * CONTEXT + 2 * ALIGN).contains(&layout.size));
                let mut memory = Memory::new(layout).expect("memory");
                assert!(Drafter::new(&mut memory.region()[..layout.size - 1], CONTEXT, session).is_err());
                let mut drafter = Drafter::new(memory.region(), CONTEXT, session).expect("a drafter");
                let (mut tokens, mut drafted, mut came) = (vec![0; CONTEXT], 0, 0);
                let mut len = 0;
                let alphabet = 1 + round % 5;
                while len < CONTEXT {
                    if random.below(50) == 0 {
                        // The conversation is another from here on.
                        len = random.below(len + 1);
                        drafter.cut(len);
                    }
                    // Now and then a passage from before, else anything.
                    let source = random.below(len.max(1));
                    for index in 0..1 + random.below(30).min(CONTEXT - len - 1) {
                        let next = if len > 0 { tokens[(source + index).min(len - 1)] } else { 0 };
                        let next = if random.below(8) == 0 { random.below(alphabet) as u32 } else { next };
                        let most = random.below(14);
                        let before = tokens[..len].to_vec();
                        let count = drafter.draft(&mut tokens, len, most);
                        assert!(count <= most && len + count <= CONTEXT && tokens[..len] == before);
                        let text = &tokens[..len + count];
                        let stood = (3..len)
                            .any(|at| text[at - 3..at] == text[len - 3..len] && text[at..at + count] == text[len..]);
                        assert!(count == 0 || stood, "{text:?} {len}");
                        drafted += usize::from(count > 0);
                        came += usize::from(count > 0 && tokens[len] == next);
                        tokens[len] = next;
                        len += 1;
                        drafter.observe(&tokens[..len]);
                    }
                }
                assert!(came * 2 >= drafted, "{came} of {drafted}");
            }
        });
    });
}

#[test]
fn nothing_is_drafted_where_nothing_is_repeated_or_the_arithmetic_takes_the_time() {
    let fixture = Fixture::load("tiny-a");
    with_model(&fixture.gguf, |model| {
        for (kernels, repeats, expected) in
            [(fastest(), false, false), (fastest(), true, true), (Kernels::portable(), true, false)]
        {
            if kernels.name() == Kernels::portable().name() && expected {
                println!("skipped: this machine has only the portable kernels");
                continue;
            }
            with_session(model, kernels, &config(16, 4, Precision::Standard), |session| {
                let mut memory = Memory::new(Drafter::layout(300).expect("a layout")).expect("memory");
                let mut drafter = Drafter::new(memory.region(), 300, session).expect("a drafter");
                let mut tokens: Vec<u32> = (0..300).map(|at| if repeats { at % 70 } else { at }).collect();
                let drafted = (0..280).any(|len| {
                    let after = tokens.clone();
                    let count = drafter.draft(&mut tokens, len, 12);
                    tokens = after;
                    drafter.observe(&tokens[..len + 1]);
                    count > 0
                });
                assert_eq!(drafted, expected, "{} {repeats}", kernels.name());
            });
        }
    });
}

#[test]
fn logits_of_any_number_of_tokens_at_the_end_are_those_of_all() {
    let fixture = Fixture::load("tiny-a");
    with_model(&fixture.gguf, |model| {
        let tokens: Vec<u32> = (0..12).map(|at| at * 37 % 300).collect();
        with_session(model, fastest(), &config(12, 12, Precision::Standard), |session| {
            let expected = all_logits(session, &tokens, &Alone);
            let vocabulary = model.config().vocabulary;
            for rows in [0, 1, 5, 12, 13, usize::MAX] {
                session.rewind(0).expect("the start is always there");
                session.start(&tokens, Logits::Tail(rows)).expect("room");
                session.run(&Alone).expect("finite numbers");
                assert_eq!(session.logits(), &expected[(12 - rows.min(12)) * vocabulary..], "{rows}");
            }
        });
    });
}
