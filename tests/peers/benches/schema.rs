//! Times and counts of schemas beside llguidance's: of random ones, and of the JSON files in and below the folder `OSSICLE_SCHEMAS`, such
//! as a checkout of JSONSchemaBench; of every `OSSICLE_EVERY`th of them.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ossicle_core::schema::{Schema, SchemaMask, TokenIndex, Unsupported};
use ossicle_host::schema::Arena;
use ossicle_host::vocabulary::o200k_harmony;
use ossicle_peers::schemas::{Draw, FACTORY, INDEX, draw, llguidance, schema};
use ossicle_tests::numbers::Numbers;
use serde_json::Value;

fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    format!("p50 {:?}, p90 {:?}, p99 {:?}, max {:?} of {}", at(0.5), at(0.9), at(0.99), at(1.0), times.len())
}

fn main() {
    let begin = Instant::now();
    LazyLock::force(&INDEX);
    println!("index: {:?}; of llguidance: {:?}", begin.elapsed(), {
        let begin = Instant::now();
        LazyLock::force(&FACTORY);
        begin.elapsed()
    });
    let index = TokenIndex::layout(&o200k_harmony()).unwrap().size;
    println!("memory: index {index} bytes, mask {} bytes", SchemaMask::layout(&INDEX).unwrap().size);
    let mut numbers = Numbers::seeded(5);
    let schemas: Vec<Value> = (0..200).map(|_| schema(&mut numbers)).collect();
    report("random schemas", &schemas, 2);
    let Some(folder) = std::env::var_os("OSSICLE_SCHEMAS") else { return };
    let mut folders: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    for folder in folders.into_iter().filter(|path| path.is_dir()) {
        let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let every: usize = std::env::var("OSSICLE_EVERY").map_or(1, |every| every.parse().unwrap());
        let read = |path: &std::path::PathBuf| serde_json::from_str(&std::fs::read_to_string(path).unwrap()).ok();
        let schemas: Vec<Value> = paths.iter().step_by(every).filter_map(read).collect();
        report(&folder.file_name().unwrap().to_string_lossy(), &schemas, 1);
    }
}

fn report(name: &str, schemas: &[Value], texts: usize) {
    let mut numbers = Numbers::seeded(6);
    let (mut compile, mut masks, mut regions) = ([vec![], vec![]], [vec![], vec![]], vec![]);
    let mut reasons = BTreeMap::<String, usize>::new();
    let (mut invalid, mut both) = (0, 0);
    for schema in schemas {
        let text = schema.to_string();
        let arena = Arena::new();
        let begin = Instant::now();
        let compiled = arena.schema(&text, Unsupported::Refuse);
        let time = begin.elapsed();
        if let Err(error) = &compiled {
            let explained = ossicle_host::schema::explain(error, "");
            *reasons.entry(explained.split(" (byte").next().unwrap().to_owned()).or_default() += 1;
        }
        let begin = Instant::now();
        let mut matcher = llguidance(schema);
        if matcher.is_some() {
            compile[1].push(begin.elapsed());
        }
        let Ok(compiled) = compiled else { continue };
        compile[0].push(time);
        regions.push(Schema::layout(&text).unwrap().size);
        both += usize::from(matcher.is_some());
        // Drafts before 6 take no integers that are read as f64.
        let mut newest = schema.clone();
        newest.as_object_mut().and_then(|schema| schema.remove("$schema"));
        let validator = jsonschema::options().should_validate_formats(true).build(&newest).ok();
        let mask = arena.mask(&compiled, *INDEX).unwrap();
        for _ in 0..texts {
            let Some(drawn) = draw(mask, Draw::Peaked, &mut numbers, &mut masks[0]) else { continue };
            let value: Value = serde_json::from_slice(&drawn).unwrap();
            if validator.as_ref().is_some_and(|validator| !validator.is_valid(&value)) {
                invalid += 1;
                println!("invalid: {} {}", &text[..text.len().min(3000)], String::from_utf8_lossy(&drawn));
            }
            // The same text, as far as it goes there.
            let Some(matcher) = &mut matcher else { continue };
            let mut tokens = Vec::new();
            o200k_harmony().encode(&drawn, ossicle_core::tokenizer::Specials::None, |token| tokens.push(token));
            if matcher.reset().is_err() {
                continue;
            }
            for token in tokens {
                let begin = Instant::now();
                let allowed = matcher.compute_mask();
                masks[1].push(begin.elapsed());
                if !allowed.is_ok_and(|allowed| allowed.is_allowed(token)) || matcher.consume_token(token).is_err() {
                    break;
                }
            }
        }
    }
    println!(
        "{name}: {} schemas; compiled {} here, {} by llguidance, {both} by both; {invalid} texts invalid",
        schemas.len(),
        compile[0].len(),
        compile[1].len()
    );
    for (who, compile, masks) in [("here", &compile[0], &masks[0]), ("llguidance", &compile[1], &masks[1])] {
        if !compile.is_empty() && !masks.is_empty() {
            println!("  {who}: compiling {}", quantiles(compile.clone()));
            println!("  {who}: masks {}", quantiles(masks.clone()));
        }
    }
    regions.sort_unstable();
    if let (Some(least), Some(most)) = (regions.first(), regions.last()) {
        println!("  regions of {least} to {most} bytes, half of them below {}", regions[regions.len() / 2]);
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    println!("  refused: {:?}", &reasons[..reasons.len().min(15)]);
}
