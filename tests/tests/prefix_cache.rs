//! Beginnings of conversations are kept, found again by whoever has the same tokens and model, and never believed when they are
//! not exactly what was written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use ossicle_core::generation::{Generation, GenerationConfig, Turn, TurnConfig};
use ossicle_core::harmony::conversation::{Content, DeveloperContent, Message, Role, SystemContent};
use ossicle_core::harmony::history::History;
use ossicle_core::model::Adapter;
use ossicle_core::parallel::Alone;
use ossicle_core::transformer::{CacheFormat, Precision, Progress, Session, SessionConfig};
use ossicle_host::prefix_cache::{Due, PrefixCache};
use ossicle_host::{AdapterFiles, Checkpoint, Memory};
use ossicle_tests::engine::{fastest, with_gguf};
use ossicle_tests::fixtures::{Fixture, data};
use ossicle_tests::numbers::Numbers;
use ossicle_tests::turns::{self, SESSION, Told, turn};

/// A folder that ends with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("ossicle-prefix-{}-{name}", std::process::id())))
    }

    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).into_iter().flatten();
        let paths = entries.map(|entry| entry.expect("a readable folder").path());
        let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
        paths.sort();
        paths
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const LARGE: u64 = 1 << 30;

fn in_folder(path: &Path, size: u64, stamp: u64) -> PrefixCache {
    PrefixCache::in_folder(path, size, stamp).expect("a folder")
}

fn with_generation<T>(work: impl FnOnce(&mut Generation<'_, '_>) -> T) -> T {
    turns::with_generation((fastest(), &SESSION), History::Documented, work)
}

/// The conversation is a question after instructions that differ in a number.
fn ask(generation: &mut Generation<'_, '_>, number: usize, question: &str) {
    let system = SystemContent { identity: Some("I"), knowledge_cutoff: None, ..SystemContent::default() };
    let instructions = format!("{number}! ").repeat(40);
    let developer = DeveloperContent { instructions: Some(&instructions), ..DeveloperContent::default() };
    let (system, developer) = ([Content::System(system)], [Content::Developer(developer)]);
    let question = [Content::Text(question)];
    let messages = [
        Message::new(Role::System, &system),
        Message::new(Role::Developer, &developer),
        Message::new(Role::User, &question),
    ];
    generation.replace(&messages, &mut [0; 4096]).expect("room");
}

/// Where the instructions end.
fn end_of_instructions(generation: &Generation<'_, '_>) -> usize {
    generation.boundaries().nth(2).expect("three messages")
}

fn answer(generation: &mut Generation<'_, '_>, max_tokens: usize) -> Told {
    turn(generation, TurnConfig { max_tokens, ..TurnConfig::default() })
}

/// Keeps the instructions with this number.
fn keep(cache: &mut PrefixCache, generation: &mut Generation<'_, '_>, number: usize) {
    ask(generation, number, "What?");
    answer(generation, 10);
    cache.keep(generation, end_of_instructions(generation));
}

/// How many tokens of a question after these instructions are not computed again by a session that is new.
fn found(cache: &mut PrefixCache, number: usize) -> usize {
    with_generation(|generation| {
        ask(generation, number, "And now?");
        cache.resume(generation)
    })
}

#[test]
fn what_is_kept_spares_other_sessions_its_tokens_and_changes_nothing_else() {
    let folder = Folder::new("spares");
    with_generation(|generation| {
        ask(generation, 1, "What?");
        let expected_end = end_of_instructions(generation);
        for mut cache in [PrefixCache::in_memory(LARGE), in_folder(&folder.0, LARGE, 0)] {
            assert_eq!(found(&mut cache, 1), 0);
            keep(&mut cache, generation, 1);
            if cache.outlasts_process() {
                drop(cache);
                cache = in_folder(&folder.0, LARGE, 0);
            }
            assert_eq!(found(&mut cache, 2), 0, "other instructions");
            with_generation(|fresh| {
                ask(fresh, 1, "And now?");
                assert_eq!(cache.longest(fresh.session(), fresh.tokens()), expected_end);
                assert_eq!(cache.resume(fresh), expected_end);
                assert_eq!(cache.resume(fresh), 0, "nothing is longer than what it holds");
                let told = answer(fresh, 40);
                assert_eq!(told.usage().cached_tokens, expected_end);
                with_generation(|alone| {
                    ask(alone, 1, "And now?");
                    let computed = answer(alone, 40);
                    assert!(told.messages == computed.messages && fresh.tokens() == alone.tokens());
                });
            });
        }
    });
}

#[test]
fn other_models_precisions_formats_and_weights_find_nothing() {
    let folder = Folder::new("others");
    with_generation(|generation| {
        keep(&mut in_folder(&folder.0, LARGE, 0), generation, 1);
        assert_eq!(found(&mut in_folder(&folder.0, LARGE, 1), 1), 0, "the weights have changed");
        assert_ne!(found(&mut in_folder(&folder.0, LARGE, 0), 1), 0);
    });
    let precise = SessionConfig { precision: Precision::Precise, ..SESSION };
    let bytes = SessionConfig { cache: Some(CacheFormat::Int8), ..SESSION };
    for (name, session) in [("tiny-a", &precise), ("tiny-a", &bytes), ("tiny-b", &SESSION)] {
        let path = Fixture::load(name).gguf;
        turns::with_generation_of(&path, (fastest(), session), History::Documented, |generation| {
            ask(generation, 1, "And now?");
            assert_eq!(in_folder(&folder.0, LARGE, 0).resume(generation), 0, "{name}");
        });
    }
    assert_eq!(folder.files("prefix").len(), 1, "nobody takes it for damaged");
}

#[test]
fn other_adapters_find_nothing_and_leave_what_others_kept() {
    let folder = Folder::new("adapters");
    with_gguf(&Fixture::load("tiny-a").gguf, |model, tokenizer| {
        let adapter_files = AdapterFiles::open(&data().join("adapters/attention")).expect("files");
        let adapter_file = adapter_files.file().expect("an adapter");
        let mut memory =
            Memory::new(Adapter::layout(&adapter_file, model.config()).expect("a layout")).expect("memory");
        let adapter = Adapter::new(memory.region(), &adapter_file, model).expect("an adapter for this model");
        let session = SessionConfig { adapter_rank: adapter.rank(), ..SESSION };
        let mut memory = Memory::new(Session::layout(model, &session).expect("a layout")).expect("memory");
        let session = Session::new(memory.region(), model, fastest(), &session).expect("a session");
        let config = GenerationConfig { messages: 64, history: History::Documented };
        let layout = Generation::layout(&tokenizer, SESSION.context_tokens, &config).expect("a layout");
        let mut memory = Memory::new(layout).expect("memory");
        let mut generation = Generation::new(memory.region(), session, tokenizer, &config).expect("a generation");
        let mut in_memory = PrefixCache::in_memory(LARGE);
        for adapters in [&[][..], &[(adapter, 1.0)], &[(adapter, 0.5)]] {
            generation.adapt(adapters).expect("an adapter of this model");
            for cache in [&mut in_memory, &mut in_folder(&folder.0, LARGE, 0)] {
                generation.rewind(0).expect("the start is always there");
                ask(&mut generation, 1, "And now?");
                assert_eq!(cache.resume(&mut generation), 0);
                keep(cache, &mut generation, 1);
            }
        }
        for adapters in [&[(adapter, 1.0)][..], &[]] {
            generation.adapt(adapters).expect("an adapter of this model");
            for cache in [&mut in_memory, &mut in_folder(&folder.0, LARGE, 0)] {
                generation.rewind(0).expect("the start is always there");
                ask(&mut generation, 1, "And now?");
                assert_eq!(cache.resume(&mut generation), end_of_instructions(&generation));
            }
        }
        assert_eq!(folder.files("prefix").len(), 3);
    });
}

#[test]
fn a_stamp_is_of_the_files_that_were_opened() {
    let folder = Folder::new("stamp");
    fs::create_dir(&folder.0).expect("a folder");
    let source = data().join("adapters/attention");
    for file in fs::read_dir(source).expect("a folder") {
        let file = file.expect("a file");
        fs::copy(file.path(), folder.0.join(file.file_name())).expect("a copy");
    }
    let (weights, config) = (folder.0.join("adapter_model.safetensors"), folder.0.join("adapter_config.json"));
    let stamp = |opened: &AdapterFiles| opened.stamp().expect("times");
    let checkpoint_stamp = |opened: &Checkpoint| opened.stamp().expect("times");
    let before = AdapterFiles::open(&folder.0).expect("files");
    let first = stamp(&before);
    assert_eq!(stamp(&AdapterFiles::open(&folder.0).expect("files")), first);
    let text = fs::read_to_string(&config).expect("text");
    fs::write(&config, text + "\n").expect("a file");
    assert_ne!(stamp(&AdapterFiles::open(&folder.0).expect("files")), first, "the configuration counts");
    // What is mapped stays as it is when another file gets its name.
    let model = folder.0.join("model.gguf");
    let new = folder.0.join("new");
    fs::copy(&Fixture::load("tiny-a").gguf, &model).expect("a copy");
    let opened = Checkpoint::open(&model).expect("the file");
    let expected = checkpoint_stamp(&opened);
    for path in [&weights, &model] {
        fs::write(&new, "Something else").expect("a file");
        fs::rename(&new, path).expect("a file");
    }
    assert_eq!((stamp(&before), checkpoint_stamp(&opened)), (first, expected));
    assert_ne!(checkpoint_stamp(&Checkpoint::open(&model).expect("a file")), expected);
}

#[test]
fn the_instructions_are_kept_at_once_and_the_prompt_when_the_session_is_about_to_lose_it() {
    let session = SessionConfig { rewind_tokens: 20, ..SESSION };
    turns::with_generation((fastest(), &session), History::Documented, |generation| {
        let question = "Why? ".repeat(40);
        let step_through = |generation: &mut Generation<'_, '_>, cache: &mut PrefixCache, max_tokens| {
            generation.rewind(0).expect("the start is always there");
            ask(generation, 1, &question);
            let mut due = Due::of(generation, 2);
            let prompt = due.prompt().expect("messages");
            let config = TurnConfig { max_tokens, ..TurnConfig::default() };
            let mut turn = Turn::new(generation, config).expect("a turn");
            let mut first = None;
            while turn.step(generation, &Alone, &mut |_| {}) == Ok(Progress::More) {
                cache.keep_due(generation, &mut due);
                let position = generation.session().position();
                first = first
                    .or_else(|| (cache.longest(generation.session(), generation.tokens()) > 0).then_some(position));
            }
            let end = end_of_instructions(generation);
            assert!((end..end + session.batch_tokens).contains(&first.expect("the instructions were kept")));
            (prompt, end, due)
        };
        // A short answer: the session still has the prompt.
        let mut cache = PrefixCache::in_memory(LARGE);
        let (prompt, end, mut due) = step_through(generation, &mut cache, 5);
        assert_eq!(cache.longest(generation.session(), generation.tokens()), end);
        cache.keep_last(generation, &mut due);
        assert_eq!(cache.longest(generation.session(), generation.tokens()), prompt);
        // A long one.
        let mut cache = PrefixCache::in_memory(LARGE);
        let (prompt, ..) = step_through(generation, &mut cache, 200);
        assert_eq!(cache.longest(generation.session(), generation.tokens()), prompt);
        assert!(generation.tokens().len() > prompt + 100, "it was too long to go back");
    });
}

#[test]
fn the_size_is_bounded_and_what_was_unused_for_longest_goes_first() {
    let folder = Folder::new("bounded");
    with_generation(|generation| {
        let size_of_one = {
            keep(&mut in_folder(&folder.0, LARGE, 9), generation, 1);
            let file = folder.files("prefix").pop().expect("it was kept");
            let size = fs::metadata(&file).expect("a file").len();
            fs::remove_file(file).expect("a file");
            size
        };
        let room = 3 * size_of_one + size_of_one / 2;
        let mut memory = PrefixCache::in_memory(room);
        for number in 1..=3 {
            keep(&mut memory, generation, number);
            keep(&mut in_folder(&folder.0, room, 0), generation, number);
        }
        assert_ne!(found(&mut memory, 1), 0);
        assert_ne!(found(&mut in_folder(&folder.0, room, 0), 1), 0);
        keep(&mut memory, generation, 4);
        keep(&mut in_folder(&folder.0, room, 0), generation, 4);
        for cache in [&mut memory, &mut in_folder(&folder.0, room, 0)] {
            let are_there: Vec<_> = (1..=4).map(|number| found(cache, number) > 0).collect();
            assert_eq!(are_there, [true, false, true, true]);
        }
        // What would have been kept again is used too.
        let mut memory = PrefixCache::in_memory(room);
        for number in [1, 2, 3, 1, 4] {
            keep(&mut memory, generation, number);
        }
        assert_eq!([1, 2].map(|number| found(&mut memory, number) > 0), [true, false]);
        // A smaller limit holds from the start; what is larger than all may be is not kept.
        for (room, count) in [(size_of_one, 1), (size_of_one - 1, 0)] {
            let mut cache = in_folder(&folder.0, room, 0);
            assert_eq!(folder.files("prefix").len(), count);
            keep(&mut cache, generation, 5);
            drop(cache);
            assert_eq!(folder.files("prefix").len(), count);
            let mut memory = PrefixCache::in_memory(room);
            keep(&mut memory, generation, 5);
            assert_eq!(usize::from(found(&mut memory, 5) > 0), count);
        }
        assert_eq!(folder.files("part").len(), 0);
    });
}

#[test]
fn earlier_prompts_of_a_conversation_go_first() {
    let folder = Folder::new("earlier");
    let long = [Content::Text(&"More? ".repeat(40))];
    with_generation(|generation| {
        // Another conversation's prompt, unused for longest; then the instructions of one and its two prompts.
        let mut keep_all = |cache: &mut PrefixCache| {
            keep(cache, generation, 2);
            cache.wait();
            ask(generation, 1, &"Why? ".repeat(40));
            let mut due = Due::of(generation, 2);
            let first = due.prompt().expect("messages");
            answer(generation, 10);
            cache.keep(generation, end_of_instructions(generation));
            cache.wait();
            cache.keep_last(generation, &mut due);
            cache.wait();
            generation.append(&[turns::user(&long)], &mut [0; 4096]).expect("room");
            let mut due = Due::of(generation, 2);
            let second = due.prompt().expect("messages");
            answer(generation, 10);
            cache.keep_last(generation, &mut due);
            cache.wait();
            let tokens = generation.tokens();
            let longest = |end: usize| cache.longest(generation.session(), &tokens[..end]);
            let found = [longest(first), longest(second)];
            (found, [first, second], end_of_instructions(generation))
        };
        let mut cache = in_folder(&folder.0, LARGE, 0);
        let (all, [first, second], _) = keep_all(&mut cache);
        assert_eq!(all, [first, second]);
        let sizes = folder.files("prefix").into_iter().map(|file| fs::metadata(file).expect("a file").len());
        let room = sizes.sum::<u64>() - 1;
        // The conversation with the other instructions is there in both.
        let mut memory = PrefixCache::in_memory(room);
        let (left, [_, second], instructions) = keep_all(&mut memory);
        assert_eq!(left, [instructions, second]);
        assert_ne!(found(&mut memory, 2), 0);
        let mut cache = in_folder(&folder.0, room, 0);
        assert_eq!(folder.files("prefix").len(), 3);
        assert_ne!(found(&mut cache, 2), 0);
        assert_eq!(cache.longest(generation.session(), &generation.tokens()[..first]), instructions);
    });
}

#[test]
fn damaged_and_foreign_files_are_not_believed() {
    let folder = Folder::new("damaged");
    with_generation(|generation| {
        keep(&mut in_folder(&folder.0, LARGE, 0), generation, 1);
        keep(&mut in_folder(&folder.0, LARGE, 0), generation, 2);
        let files = folder.files("prefix");
        let [first, second] = [&files[0], &files[1]].map(|file| fs::read(file).expect("a file"));
        let mut cache = in_folder(&folder.0, LARGE, 0);
        let whole = found(&mut cache, 1);
        assert!(whole > 0);
        let mut numbers = Numbers::seeded(1);
        let changed = (0..100).map(|_| {
            let mut changed = first.clone();
            let at = numbers.below(changed.len());
            changed[at] ^= 1 << numbers.below(8);
            changed
        });
        let cut: Vec<_> = [0, 1, 8, 100, first.len() / 2, first.len() - 1].map(|end| first[..end].to_vec()).into();
        for bytes in changed.chain(cut).chain([b"Something else".to_vec(), vec![0; 1 << 20]]) {
            for file in &files {
                fs::write(file, &bytes).expect("a file");
            }
            assert_eq!([1, 2].map(|number| found(&mut cache, number)), [0, 0]);
            assert_eq!(folder.files("prefix").len(), 0, "they are removed");
        }
        // Whole, but under each other's name.
        fs::write(&files[0], &second).expect("a file");
        fs::write(&files[1], &first).expect("a file");
        assert_eq!([1, 2].map(|number| found(&mut cache, number)), [0, 0]);
        // Whole, but under a name that is not written as its own is.
        fs::remove_file(&files[1]).expect("a file");
        fs::write(&files[0], &first).expect("a file");
        let name = files[0].file_name().and_then(|name| name.to_str()).expect("a name");
        fs::rename(&files[0], folder.0.join(name.trim_start_matches('0'))).expect("a file");
        (1..=2).for_each(|number| keep(&mut cache, generation, number));
        cache.wait();
        assert!(files.iter().all(|file| file.exists()), "the other is no entry");
        // Files with other names are none of its business.
        fs::create_dir(folder.0.join("00000100-0123456789abcdef.prefix")).expect("a folder");
        for name in ["notes.txt", "x.prefix", "1-2-3.prefix", "99999999999999999999-0.prefix"] {
            fs::write(folder.0.join(name), "?").expect("a file");
        }
        fs::write(&files[0], &first).expect("a file");
        fs::write(&files[1], &second).expect("a file");
        assert_eq!([1, 2].map(|number| found(&mut cache, number)), [whole, whole]);
    });
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_what_is_kept_and_nobody_else_may_write() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let folder = Folder::new("owner");
    with_generation(|generation| {
        keep(&mut in_folder(&folder.0, LARGE, 0), generation, 1);
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode(&folder.0), 0o700);
        assert_eq!(folder.files("prefix").iter().map(|file| mode(file)).collect::<Vec<_>>(), [0o600]);
        for others in [0o720, 0o702] {
            fs::set_permissions(&folder.0, fs::Permissions::from_mode(others)).expect("its own folder");
            let refused = PrefixCache::in_folder(&folder.0, LARGE, 0);
            assert_eq!(refused.err().map(|error| error.kind()), Some(std::io::ErrorKind::PermissionDenied));
        }
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o700)).expect("its own folder");
        let file = folder.files("prefix").pop().expect("it was kept");
        let own = fs::metadata(&file).expect("a file").uid();
        // Only root can give away what is its own; whoever is not root has a folder that root owns.
        let can_give = chown(&file, Some(own + 1), None).is_ok();
        if can_give {
            assert_eq!(found(&mut in_folder(&folder.0, LARGE, 0), 1), 0, "another user's file");
            chown(&folder.0, Some(own + 1), None).expect("as before");
        }
        let other = if can_give { &folder.0 } else { Path::new("/") };
        let refused = PrefixCache::in_folder(other, LARGE, 0);
        assert_eq!(refused.err().map(|error| error.kind()), Some(std::io::ErrorKind::PermissionDenied));
    });
}

const FOLDER: &str = "OSSICLE_PREFIX_CACHE_FOLDER";
const FIRST: &str = "OSSICLE_PREFIX_CACHE_FIRST";
/// So much that entries are evicted too.
const ROOM: u64 = 1 << 22;

#[test]
#[ignore = "writes until it is killed by the test below"]
fn writes_until_it_is_killed() {
    let folder = Folder(std::env::var_os(FOLDER).expect("the test below says where").into());
    let first: u64 = std::env::var(FIRST).expect("the test below says where").parse().expect("a number");
    with_generation(|generation| {
        ask(generation, 1, "What?");
        answer(generation, 10);
        for stamp in first.. {
            in_folder(&folder.0, ROOM, stamp).keep(generation, end_of_instructions(generation));
            assert_ne!(folder.files("prefix").len(), 0);
        }
    });
}

#[test]
fn a_process_that_is_killed_leaves_only_whole_entries_behind() {
    let folder = Folder::new("killed");
    let mut numbers = Numbers::seeded(2);
    let (mut abandoned, mut whole) = (0, 0);
    with_generation(|generation| {
        for round in 0..60 {
            let before = folder.files("prefix");
            let mut child = Command::new(std::env::current_exe().expect("this program"))
                .args(["--ignored", "--exact", "writes_until_it_is_killed"])
                .env(FOLDER, &folder.0)
                .env(FIRST, (round * 1_000_000).to_string())
                .stdout(Stdio::null())
                .spawn()
                .expect("this program");
            while folder.files("prefix") == before {
                thread::sleep(Duration::from_millis(1));
                assert_eq!(child.try_wait().expect("a process"), None, "it ended by itself");
            }
            thread::sleep(Duration::from_micros(numbers.below(20_000) as u64));
            child.kill().expect("a process");
            child.wait().expect("a process");
            abandoned += folder.files("part").len();
            drop(in_folder(&folder.0, ROOM, 0));
            assert_eq!(folder.files("part").len(), 0, "what was not finished is gone");
            for file in folder.files("prefix") {
                generation.rewind(0).expect("the start is always there");
                ask(generation, 1, "And now?");
                let bytes = fs::read(file).expect("a file");
                assert_eq!(generation.restore_prefix(&bytes), Ok(true));
                whole += 1;
            }
        }
    });
    println!("{abandoned} unfinished files and {whole} whole ones were found");
    assert!(abandoned > 0 && whole >= 60);
}
