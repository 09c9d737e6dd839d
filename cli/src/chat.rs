//! `ossicle chat`: a conversation.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::atomic::Ordering;

use anyhow::Result;
use clap::Args;
use ossicle_core::generation::StopReason;
use ossicle_host::tools::MOST_CALLS;

use crate::open::with_model_or_toy;
use crate::prefix::MEMORY_SIZE;
use crate::shown::printer;
use crate::talk::{Call, End, INTERRUPTED, Said, TalkOptions, with_talk};

/// Arguments of `ossicle chat`.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    talk: TalkOptions,
}

/// Runs `ossicle chat`: each line of standard input is said to the model, until it ends. Ctrl-C ends a turn; between turns
/// it ends the program. Where a tool is called, the next line is its answer. What fails is told, and the conversation goes on.
pub fn run(arguments: &Arguments) -> Result<()> {
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })?;
    with_model_or_toy(arguments.talk.model.as_deref(), &arguments.talk.compute, |opened| {
        with_talk(&arguments.talk, &opened, MEMORY_SIZE, |talk| {
            let interactive = io::stdin().is_terminal();
            let mut waiting: Option<Call> = None;
            loop {
                // Between turns a first Ctrl-C is enough.
                INTERRUPTED.store(true, Ordering::Relaxed);
                if interactive {
                    match &waiting {
                        Some(call) => eprint!("{} answers> ", call.tool),
                        None => eprint!("> "),
                    }
                    io::stderr().flush()?;
                }
                let mut line = Vec::new();
                if io::stdin().lock().read_until(b'\n', &mut line)? == 0 {
                    return Ok(());
                }
                let Ok(line) = str::from_utf8(&line) else {
                    eprintln!("[error: expected text in UTF-8]");
                    continue;
                };
                let line = line.trim_end_matches(['\n', '\r']);
                let called = waiting.take();
                let said = match &called {
                    Some(call) => Said::ByTool(call, line),
                    None if line.trim().is_empty() => continue,
                    None => Said::ByUser(line),
                };
                let mut answer = talk.answer(said, printer(arguments.talk.show_reasoning));
                match &answer.end {
                    End::Turn(StopReason::ToolCall) if answer.calls.len() > MOST_CALLS => {
                        eprintln!("[{MOST_CALLS} calls were carried out, and no more are in one answer]");
                    }
                    End::Turn(StopReason::ToolCall) => waiting = answer.calls.pop(),
                    End::Turn(StopReason::Finished) => {}
                    end => eprintln!("[{end}]"),
                }
                if !answer.heard {
                    waiting = called;
                }
            }
        })
    })
}
