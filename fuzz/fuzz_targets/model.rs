//! A GGUF file is refused as a model, or a session of it computes finite logits or says that it cannot.
#![no_main]

use std::mem::MaybeUninit;

use libfuzzer_sys::fuzz_target;
use ossicle_core::error::Error;
use ossicle_core::kernels::Kernels;
use ossicle_core::model::{Files, Model};
use ossicle_core::parallel::Alone;
use ossicle_core::region::Layout;
use ossicle_core::transformer::{CacheFormat, Logits, Precision, Session, SessionConfig};

/// No layout beyond this is given memory, so that one that is large by right is not mistaken for a leak.
const SIZE_MAX: usize = 64 << 20;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    #[expect(dead_code, reason = "read through the region that the lines are")]
    bytes: [MaybeUninit<u8>; 64],
}

fn lines(layout: Layout) -> Vec<Line> {
    vec![Line { bytes: [MaybeUninit::uninit(); 64] }; layout.size.div_ceil(64)]
}

fn region(lines: &mut [Line]) -> &mut [MaybeUninit<u8>] {
    let len = 64 * lines.len();
    // SAFETY: `Line` is 64 bytes and nothing else.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), len) }
}

fuzz_target!(|bytes: &[u8]| {
    let parts = [bytes];
    let Ok(files) = Files::gguf(&parts) else { return };
    let layout = Model::layout(&files).expect("files that were opened");
    if layout.size > SIZE_MAX {
        return;
    }
    let mut memory = lines(layout);
    let Ok(model) = Model::new(region(&mut memory), &files) else { return };
    let _ = model.check_values();
    for (precision, cache) in
        [(Precision::Standard, None), (Precision::Precise, None), (Precision::Standard, Some(CacheFormat::Int8))]
    {
        let config = SessionConfig {
            context_tokens: model.config().context_tokens.min(8),
            batch_tokens: model.config().context_tokens.min(3),
            logits_rows: 1,
            rewind_tokens: 0,
            precision,
            cache,
            adapter_rank: 0,
        };
        let layout = Session::layout(&model, &config).expect("settings within the model's context");
        if layout.size > SIZE_MAX {
            return;
        }
        let mut memory = lines(layout);
        let mut session =
            Session::new(region(&mut memory), &model, Kernels::portable(), &config).expect("as much as it asked for");
        for tokens in [&[0, 1, 2][..], &[3]] {
            if tokens.len() > config.batch_tokens || session.start(tokens, Logits::Last).is_err() {
                return;
            }
            let before = session.position();
            match session.run(&Alone) {
                Ok(()) => assert!(session.logits().iter().all(|logit| logit.is_finite())),
                Err(Error::NotFinite { layer }) => {
                    assert!(layer <= model.config().layers && session.position() == before);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
});
