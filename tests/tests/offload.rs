//! A model whose files are not in memory: the same logits whatever stays of its experts, and wherever its files are.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ossicle_core::error::{Error, FileError};
use ossicle_core::file::{ReadFailed, Storage, read_head};
use ossicle_core::model::{Files, Model, Offload};
use ossicle_core::parallel::{Alone, Parallel};
use ossicle_core::region::{ALIGN, Layout};
use ossicle_core::transformer::{Logits, Precision, Session};
use ossicle_host::{Checkpoint, Memory, Threads, kernels};
use ossicle_tests::engine::{all_logits, config, fastest, with_files, with_model, with_session};
use ossicle_tests::fixtures::Fixture;

/// Files in an encrypted store: a byte is mixed with a key that depends on where it is.
struct Encrypted {
    files: Vec<Vec<u8>>,
    /// How often it was asked for bytes.
    reads: AtomicUsize,
    /// The reads of these numbers fail.
    failing: Range<usize>,
    /// What was said to be needed: file, bytes, and how many of them have not been read since.
    announced: Mutex<Vec<(u16, Range<u64>, usize)>>,
    /// Reads of something else.
    unannounced: AtomicUsize,
}

fn key(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

impl Encrypted {
    fn of(paths: &[PathBuf]) -> Self {
        let encrypt = |path: &PathBuf| {
            let bytes = std::fs::read(path).expect("a fixture");
            bytes.iter().enumerate().map(|(offset, byte)| byte ^ key(offset as u64)).collect()
        };
        Self::holding(paths.iter().map(encrypt).collect())
    }

    fn holding(files: Vec<Vec<u8>>) -> Self {
        Self {
            files,
            reads: AtomicUsize::new(0),
            failing: 0..0,
            announced: Mutex::default(),
            unannounced: AtomicUsize::new(0),
        }
    }

    fn heads(&self) -> Result<Vec<Vec<u8>>, Error> {
        let head = |file: usize| {
            let mut head = vec![0; self.files[file].len()];
            let size = read_head(self, file as u16, &mut head)?;
            head.truncate(size);
            Ok(head)
        };
        (0..self.files.len()).map(head).collect()
    }
}

impl Storage for Encrypted {
    fn size(&self, file: u16) -> u64 {
        self.files[usize::from(file)].len() as u64
    }

    fn read(&self, file: u16, offset: u64, buffer: &mut [u8]) -> Result<(), ReadFailed> {
        assert!(!buffer.is_empty(), "nothing is asked for in vain");
        if self.failing.contains(&self.reads.fetch_add(1, Ordering::Relaxed)) {
            buffer.fill(0xff);
            return Err(ReadFailed);
        }
        let bytes = offset..offset + buffer.len() as u64;
        let mut announced = self.announced.lock().expect("no panic while it is held");
        let within = |said: &&mut (u16, Range<u64>, usize)| {
            said.0 == file && said.1.start <= bytes.start && bytes.end <= said.1.end && buffer.len() <= said.2
        };
        match announced.iter_mut().find(within) {
            Some((.., unread)) => *unread -= buffer.len(),
            None => _ = self.unannounced.fetch_add(1, Ordering::Relaxed),
        }
        drop(announced);
        let end = usize::try_from(offset).ok().and_then(|begin| begin.checked_add(buffer.len())).ok_or(ReadFailed)?;
        let bytes = self.files[usize::from(file)].get(offset as usize..end).ok_or(ReadFailed)?;
        for (at, (byte, encrypted)) in buffer.iter_mut().zip(bytes).enumerate() {
            *byte = encrypted ^ key(offset + at as u64);
        }
        Ok(())
    }

    fn will_need(&self, file: u16, offset: u64, size: usize) {
        assert!(offset + size as u64 <= self.size(file));
        self.announced.lock().expect("no panic while it is held").push((file, offset..offset + size as u64, size));
    }
}

/// A fixture in one of its three layouts, with config.json where there is one.
struct Opened {
    paths: Vec<PathBuf>,
    config: Option<Vec<u8>>,
}

fn layout(path: &Path) -> Opened {
    let checkpoint = Checkpoint::open(path).expect("a fixture");
    Opened { paths: checkpoint.paths().to_vec(), config: checkpoint.config_json().map(<[u8]>::to_vec) }
}

impl Opened {
    /// Lends the model, of which so many experts of each layer stay in memory.
    fn with_model<T>(
        &self,
        storage: &Encrypted,
        experts_size: usize,
        work: impl FnOnce(&Model<'_, '_>) -> T,
    ) -> Result<T, Error> {
        let heads = storage.heads()?;
        let heads: Vec<_> = heads.iter().map(Vec::as_slice).collect();
        with_files(self.files(&heads, Offload { storage, experts_size }), work)
    }

    fn files<'a>(&'a self, heads: &'a [&'a [u8]], offload: Offload<'a>) -> Result<Files<'a>, Error> {
        match &self.config {
            None => Files::gguf_offloaded(heads, offload),
            Some(config) => Files::safetensors_offloaded(heads, config, offload),
        }
    }

    fn storage(&self) -> Encrypted {
        Encrypted::of(&self.paths)
    }

    /// Bytes for one expert of each layer.
    fn least(&self) -> usize {
        match self.with_model(&self.storage(), 0, |_| ()) {
            Err(Error::Capacity { what: "bytes for experts", need, have: 0 }) => need,
            other => panic!("expected to be told how much it takes, found {other:?}"),
        }
    }
}

/// Each fixture with its files in all layouts.
fn layouts() -> Vec<(Fixture, [PathBuf; 3])> {
    let with_paths = |fixture: Fixture| {
        let paths = [fixture.gguf.clone(), fixture.hf.clone(), fixture.original.clone()];
        (fixture, paths)
    };
    Fixture::all().into_iter().map(with_paths).collect()
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

/// The logits after each token, a batch at a time.
fn logits(model: &Model<'_, '_>, tokens: &[u32], batch: usize, parallel: &dyn Parallel) -> Vec<u32> {
    let config = config(tokens.len(), batch, Precision::Standard);
    with_session(model, fastest(), &config, |session| bits(&all_logits(session, tokens, parallel)))
}

#[test]
fn logits_are_the_same_for_any_number_of_experts_in_memory_and_any_layout() {
    let threads = Threads::new(2);
    for (fixture, paths) in layouts() {
        let tokens = &fixture.sequence("s300").tokens[..40];
        let expected = with_model(&fixture.gguf, |model| logits(model, tokens, 20, &Alone));
        for path in paths {
            let layout = layout(&path);
            let (storage, least) = (layout.storage(), layout.least());
            let experts = with_model(&fixture.gguf, |model| model.config().experts);
            for (slots, batch) in (1..=experts).flat_map(|slots| [(slots, 1), (slots, 7), (slots, 20)]) {
                let found = layout.with_model(&storage, slots * least, |model| {
                    let cache = model.expert_cache().expect("a cache");
                    assert_eq!(cache.experts_per_layer(), slots);
                    let found = logits(model, tokens, batch, if slots == 2 { &threads } else { &Alone });
                    let (hits, misses) = cache.hits_and_misses();
                    assert!(misses >= 1 && (slots == 1 || hits > 0), "{hits} hits, {misses} misses");
                    if slots == experts {
                        assert!(misses <= experts * model.config().layers, "each is read once: {misses}");
                    }
                    found
                });
                assert_eq!(found.expect("a model"), expected, "{}, {slots}, {batch}", path.display());
            }
        }
    }
}

#[test]
fn logits_are_the_same_with_every_kernel_set() {
    let fixture = &Fixture::all()[0];
    let tokens = &fixture.sequence("s300").tokens[..30];
    let layout = layout(&fixture.gguf);
    let storage = layout.storage();
    for kernels in kernels::available() {
        for precision in [Precision::Standard, Precision::Precise] {
            let logits = |model: &Model<'_, '_>| {
                with_session(model, kernels, &config(30, 8, precision), |session| {
                    bits(&all_logits(session, tokens, &Alone))
                })
            };
            let expected = with_model(&fixture.gguf, logits);
            let found = layout.with_model(&storage, 2 * layout.least(), logits).expect("a model");
            assert_eq!(found, expected, "{}, {precision:?}", kernels.name());
        }
    }
}

#[test]
fn a_model_has_the_same_fingerprint_and_finite_values_wherever_it_is() {
    for (_, paths) in layouts() {
        for path in paths {
            let expected =
                with_model(&path, |model| (model.fingerprint(), model.tensors().count(), model.check_values()));
            let layout = layout(&path);
            let found = layout.with_model(&layout.storage(), layout.least(), |model| {
                (model.fingerprint(), model.tensors().count(), model.check_values())
            });
            assert_eq!(found.expect("a model"), expected, "{}", path.display());
        }
    }
}

#[test]
fn what_is_read_for_experts_was_announced_once_before() {
    let fixture = &Fixture::all()[0];
    let layout = layout(&fixture.gguf);
    let storage = layout.storage();
    layout
        .with_model(&storage, 2 * layout.least(), |model| {
            let announced = || storage.announced.lock().expect("no panic while it is held").clone();
            let unannounced = || storage.unannounced.load(Ordering::Relaxed);
            assert_eq!(announced(), [], "what is read at once need not be announced");
            let before = unannounced();
            logits(model, &fixture.sequence("s300").tokens[..20], 20, &Alone);
            let (_, misses) = model.expert_cache().expect("a cache").hits_and_misses();
            assert_eq!(announced().len(), misses * 3, "gate, up and down of each expert");
            assert_eq!(unannounced(), before, "all that was read was announced");
            assert!(announced().iter().all(|(.., unread)| *unread == 0), "and all that was announced, read");
        })
        .expect("a model");
}

#[test]
fn a_read_that_fails_is_an_error_of_the_step_and_leaves_the_session_where_it_was() {
    let fixture = &Fixture::all()[0];
    let tokens = &fixture.sequence("s300").tokens[..24];
    for path in [&fixture.gguf, &fixture.hf] {
        let layout = layout(path);
        let mut storage = layout.storage();
        let least = layout.least();
        let run = |model: &Model<'_, '_>, storage: &Encrypted| {
            let mut found = Vec::new();
            let mut failures = 0;
            with_session(model, fastest(), &config(24, 8, Precision::Standard), |session| {
                for batch in tokens.chunks(8) {
                    loop {
                        let position = session.position();
                        session.start(batch, Logits::All).expect("room");
                        match session.run(&Alone) {
                            Ok(()) => break found.extend(bits(session.logits())),
                            Err(Error::Read { file, offset, size }) => {
                                assert!(offset + size as u64 <= storage.size(file));
                                assert_eq!(session.position(), position);
                                assert!(session.logits().is_empty());
                                failures += 1;
                            }
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            });
            (found, failures)
        };
        let (expected, opening, all) = layout
            .with_model(&storage, 2 * least, |model| {
                let opening = storage.reads.load(Ordering::Relaxed);
                (run(model, &storage).0, opening, storage.reads.load(Ordering::Relaxed))
            })
            .expect("a model");
        // Any one of the first reads, and some of the others.
        for first in (0..opening).chain((opening..all).step_by(17)) {
            storage.reads = AtomicUsize::new(0);
            storage.failing = first..first + 1 + first % 3;
            let found = layout.with_model(&storage, 2 * least, |model| run(model, &storage));
            match found {
                Ok((found, failures)) => {
                    assert!(first + 3 > opening && failures > 0, "read {first} of {opening}");
                    assert_eq!(found, expected, "read {first}");
                }
                Err(Error::Read { .. }) => assert!(first < opening, "read {first} of {opening}"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn sessions_share_the_experts_and_are_stepped_one_at_a_time() {
    /// Steps the other session in the middle of a step of the first.
    struct Intruder<'a, 'r, 'w>(Mutex<&'a mut Session<'r, 'w>>, AtomicUsize);

    impl Parallel for Intruder<'_, '_, '_> {
        fn workers(&self) -> usize {
            1
        }

        fn run(&self, job: &(dyn Fn() + Sync)) {
            let refused = self.0.lock().expect("no panic").step(&Alone);
            assert!(matches!(refused, Err(Error::State(_))), "{refused:?}");
            self.1.fetch_add(1, Ordering::Relaxed);
            job();
        }
    }

    let fixture = &Fixture::all()[0];
    let tokens = &fixture.sequence("s300").tokens[..16];
    let layout = layout(&fixture.gguf);
    let storage = layout.storage();
    layout
        .with_model(&storage, 3 * layout.least(), |model| {
            let expected = logits(model, tokens, 16, &Alone);
            let config = config(16, 16, Precision::Standard);
            with_session(model, fastest(), &config, |first| {
                with_session(model, fastest(), &config, |second| {
                    first.start(tokens, Logits::All).expect("room");
                    second.start(tokens, Logits::All).expect("room");
                    // The last step reads no experts.
                    let intruder = Intruder(Mutex::new(second), AtomicUsize::new(0));
                    for _ in 0..model.config().layers {
                        first.step(&intruder).expect("a layer");
                    }
                    assert!(intruder.1.into_inner() > 0);
                    // Refused steps have done no harm.
                    second.run(&Alone).expect("finite numbers");
                    assert_eq!(bits(second.logits()), expected);
                    first.run(&Alone).expect("finite numbers");
                    assert_eq!(bits(first.logits()), expected);
                });
            });
        })
        .expect("a model");
}

#[test]
fn heads_are_read_whatever_the_size_of_the_buffer_or_refused() {
    for (_, paths) in layouts() {
        for path in paths {
            let layout = layout(&path);
            let storage = layout.storage();
            let whole = storage.files[0].len();
            let least = match read_head(&storage, 0, &mut []) {
                Err(Error::BufferTooSmall { need, .. }) => need,
                other => panic!("{other:?}"),
            };
            // Asking with as much as was needed at least comes to an end.
            let mut size = least;
            let head = loop {
                let mut buffer = vec![0; size];
                match read_head(&storage, 0, &mut buffer) {
                    Ok(head) => break head,
                    Err(Error::BufferTooSmall { need, have }) => {
                        assert!(have == size && need > have && need <= whole, "{need}, {have}, {whole}");
                        size = need;
                    }
                    Err(error) => panic!("{error}"),
                }
            };
            assert!(head <= size && head < whole, "{}: {head} of {whole}", path.display());
            // No byte less will do.
            let mut buffer = vec![0; head - 1];
            assert!(
                matches!(read_head(&storage, 0, &mut buffer), Err(Error::BufferTooSmall { need, .. }) if need >= head)
            );
        }
    }
}

#[test]
fn files_cut_short_are_refused_at_any_byte() {
    let fixture = &Fixture::all()[0];
    for path in [&fixture.gguf, &fixture.hf] {
        let layout = layout(path);
        let whole = layout.storage();
        let size = whole.files[0].len();
        for cut in (0..size).step_by(size / 97) {
            let mut files = whole.files.clone();
            files[0].truncate(cut);
            let found = layout.with_model(&Encrypted::holding(files), 1 << 20, |_| ());
            assert!(matches!(found, Err(Error::File(FileError { .. }))), "cut at {cut}: {found:?}");
        }
    }
}

#[test]
fn a_model_takes_exactly_the_memory_that_it_asked_for_within_its_budget() {
    let layout = layout(&Fixture::all()[0].gguf);
    let storage = layout.storage();
    let heads = storage.heads().expect("heads");
    let heads: Vec<_> = heads.iter().map(Vec::as_slice).collect();
    let least = layout.least();
    let size = |experts_size| {
        let files = layout.files(&heads, Offload { storage: &storage, experts_size }).expect("files");
        let size = Model::layout(&files).expect("a layout").size;
        let mut memory = Memory::new(Layout { size, align: ALIGN }).expect("memory");
        assert!(Model::new(memory.region(), &files).is_ok());
        let refused = Model::new(&mut memory.region()[..size - 1], &files).err();
        assert_eq!(refused, Some(Error::RegionTooSmall { need: size, have: size - 1 }));
        size
    };
    assert_eq!(size(2 * least) - size(least), least);
    assert_eq!(size(3 * least - 1), size(2 * least), "half an expert is none");
    let experts = with_model(&Fixture::all()[0].gguf, |model| model.config().experts);
    assert_eq!(size(usize::MAX), size(experts * least), "no more than there are");
}
