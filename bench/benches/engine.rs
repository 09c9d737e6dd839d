//! What else a token takes: the sampler, the chat format, and all of it in a model of two layers.
//!
//! Without `--bench` (`cargo test`), only the answers are compared.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ossicle_bench::conversation::{many_tools, parse, render, renderer};
use ossicle_bench::is_timed;
use ossicle_bench::model::{Geometry, open, session};
use ossicle_core::harmony::SpecialTokens;
use ossicle_core::parallel::Parallel;
use ossicle_core::sampling::{Sampler, SamplerConfig};
use ossicle_core::transformer::{Logits, Session};
use ossicle_host::Threads;
use ossicle_host::kernels::available;
use ossicle_host::vocabulary::o200k_harmony;
use ossicle_tests::numbers::{Kind, Numbers};

fn sampler(criterion: &mut Criterion) {
    let logits = Numbers::seeded(0).floats(Kind::Normal, 201_088);
    let default = SamplerConfig::default();
    let likeliest =
        (0..).zip(&logits).fold(0, |best, (token, logit)| if *logit > logits[best as usize] { token } else { best });
    let mut group = criterion.benchmark_group("sampler");
    group.throughput(Throughput::Elements(logits.len() as u64)).measurement_time(Duration::from_secs(2));
    for (name, config) in [
        ("greedy", SamplerConfig { temperature: 0.0, ..default }),
        ("all", default),
        ("top-k 1", SamplerConfig { top_k: 1, ..default }),
        ("top-p 0.95", SamplerConfig { top_p: 0.95, ..default }),
    ] {
        let mut sampler = Sampler::new(config).expect("settings in range");
        let token = sampler.sample(&logits, |_| true).expect("a token");
        assert!(token == likeliest || !matches!(name, "greedy" | "top-k 1"));
        group.bench_function(name, |bencher| bencher.iter(|| sampler.sample(black_box(&logits), |_| true)));
    }
    group.finish();
}

fn harmony(criterion: &mut Criterion) {
    let tokenizer = o200k_harmony();
    let (messages, expected) = many_tools();
    let renderer = renderer(&tokenizer);
    let mut scratch = vec![0; renderer.scratch_size(messages).expect("a size")];
    let mut ids = Vec::new();
    render(&renderer, messages, &mut scratch, &mut ids);
    assert_eq!(ids, expected);
    let parsed = ossicle_host::harmony::parse(&ids, None, &tokenizer, SpecialTokens::O200K_HARMONY);
    let contents = parsed["messages"].as_array().expect("messages").iter().map(|message| message["content"].as_str());
    assert_eq!(parse(&tokenizer, &ids), contents.map(|content| content.expect("a text").len()).sum::<usize>());
    let mut group = criterion.benchmark_group("harmony");
    group.throughput(Throughput::Elements(ids.len() as u64)).measurement_time(Duration::from_secs(2));
    group.bench_function("render", |bencher| bencher.iter(|| render(&renderer, messages, &mut scratch, &mut ids)));
    group.bench_function("parse", |bencher| bencher.iter(|| parse(&tokenizer, black_box(&expected))));
    group.finish();
}

/// Takes in tokens; the logits after them.
fn logits(session: &mut Session<'_, '_>, tokens: &[u32], parallel: &dyn Parallel) -> Vec<f32> {
    session.run_all(tokens, parallel).expect("finite numbers");
    session.logits().to_vec()
}

fn tokens(criterion: &mut Criterion) {
    let model = open(if is_timed() { &Geometry::TWO_LAYERS } else { &Geometry::TINY });
    let threads = Threads::new(Threads::available());
    let mut numbers = Numbers::seeded(0);
    let prompt: Vec<u32> = (0..128).map(|_| numbers.below(model.config().vocabulary) as u32).collect();
    let mut expected = None;
    for kernels in available() {
        let mut session = session(model, kernels);
        let answers = [&prompt[..4], &prompt[4..5]].map(|tokens| logits(&mut session, tokens, &threads));
        assert!(expected.get_or_insert(answers.clone()) == &answers, "{}: other logits", kernels.name());
        if is_timed() && kernels.name() == "portable" {
            continue;
        }
        let mut group = criterion.benchmark_group(format!("two layers/{}", kernels.name()));
        group.sample_size(10).measurement_time(Duration::from_secs(2));
        group.throughput(Throughput::Elements(1)).bench_function("decode", |bencher| {
            bencher.iter(|| {
                session.rewind(4).expect("a position it has reached");
                session.start(&prompt[4..5], Logits::Last).expect("room for it");
                session.run(&threads).expect("finite numbers");
            });
        });
        group.throughput(Throughput::Elements(128)).bench_function("prompt of 128", |bencher| {
            bencher.iter(|| {
                session.rewind(0).expect("a position it has reached");
                session.run_all(&prompt, &threads).expect("finite numbers");
            });
        });
        group.finish();
    }
}

criterion_group!(benches, sampler, harmony, tokens);
criterion_main!(benches);
