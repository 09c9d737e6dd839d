//! An image that needs no operating system: it holds a model, asks it a question and prints on the serial line what it
//! thinks and answers, then what that took, in a line that begins with a `#`.
//!
//! What differs between processors is in a file for each: how to begin, print a byte, and end.
#![no_std]
#![no_main]

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "riscv64.rs")]
#[cfg_attr(target_arch = "arm", path = "arm.rs")]
mod machine;
mod memory;

use core::fmt::Write;
use core::panic::PanicInfo;

use memory::{Arena, Stack};
use ossicle_core::error::Result;
use ossicle_core::generation::{Event, Generation, GenerationConfig, MessageKind, Turn, TurnConfig};
use ossicle_core::harmony::conversation::{Content, Message, Role, SystemContent};
use ossicle_core::kernels::{CpuFeatures, Kernels};
use ossicle_core::model::{Files, Model};
use ossicle_core::parallel::Alone;
use ossicle_core::sampling::SamplerConfig;
use ossicle_core::tokenizer::{Tokenizer, vocabulary};
use ossicle_core::transformer::{Session, SessionConfig};

const QUESTION: &str = "Who are you?";

static MODEL: &[u8] = include_bytes!("../../../cli/data/toy.gguf");

/// The serial line.
struct Serial;

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.bytes().for_each(machine::print);
        Ok(())
    }
}

/// Where each machine's first instructions end.
#[unsafe(no_mangle)]
extern "C" fn run() -> ! {
    let stack = Stack::painted();
    let mut arena = Arena::all();
    let talked = talk(&mut arena);
    let (used, deep) = (arena.used(), stack.deepest());
    let _ = match &talked {
        Ok(kernels) => writeln!(Serial, "# kernels {kernels:?}; arena {used} bytes, stack {deep} bytes"),
        Err(error) => writeln!(Serial, "# {error}"),
    };
    machine::end(talked.is_ok())
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Serial, "# {info}");
    machine::end(false)
}

fn talk(arena: &mut Arena) -> Result<Kernels> {
    let features = CpuFeatures::detect();
    // SAFETY: the processor says so itself, and the sets are Ossicle's.
    let mut sets = ossicle_kernels_asm::sets().filter_map(|set| unsafe { Kernels::with(set, features) });
    let kernels = sets.next().unwrap_or(Kernels::portable());

    let parts = [MODEL];
    let files = Files::gguf(&parts)?;
    let model = Model::new(arena.take(Model::layout(&files)?), &files)?;
    let (tokens, types) = files.vocabulary().expect("the model has a vocabulary");
    let source = vocabulary::gguf(tokens, types.expect("its tokens have types"));
    let tokenizer = Tokenizer::new(&source, arena.take(Tokenizer::layout(&source)?))?;
    // Small: what there is room for decides. Neither the batch nor the context changes the answer.
    let sizes = SessionConfig {
        context_tokens: 512,
        batch_tokens: 16,
        logits_rows: 1,
        rewind_tokens: 256,
        ..SessionConfig::default()
    };
    let session = Session::new(arena.take(Session::layout(&model, &sizes)?), &model, kernels, &sizes)?;
    let config = GenerationConfig { messages: 16, ..GenerationConfig::default() };
    let region = arena.take(Generation::layout(&tokenizer, sizes.context_tokens, &config)?);
    let mut generation = Generation::new(region, session, tokenizer, &config)?;

    let mut scratch = [0; 4096];
    let system = [Content::System(SystemContent::default())];
    let question = [Content::Text(QUESTION)];
    let messages = [Message::new(Role::System, &system), Message::new(Role::User, &question)];
    generation.append(&messages, &mut scratch)?;
    let sampler = SamplerConfig { temperature: 0.0, ..SamplerConfig::default() };
    let mut turn = Turn::new(&mut generation, TurnConfig { sampler, ..TurnConfig::default() })?;
    turn.run(&mut generation, &Alone, &mut |event| {
        let _ = match event {
            Event::Delta { kind: MessageKind::Reasoning | MessageKind::Answer, text } => write!(Serial, "{text}"),
            Event::MessageEnd { .. } => writeln!(Serial),
            _ => Ok(()),
        };
    })?;
    Ok(kernels)
}
