//! `ossicle run`: one answer.

use std::io::{self, Read};

use anyhow::{Result, bail};
use clap::Args;
use ossicle_core::generation::StopReason;
use serde_json::json;

use crate::open::with_model_or_toy;
use crate::shown::printer;
use crate::talk::{End, Said, TalkOptions, with_talk};

/// Arguments of `ossicle run`.
#[derive(Args)]
pub struct Arguments {
    /// What to say to the model; standard input, if it is not given.
    prompt: Option<String>,
    #[command(flatten)]
    talk: TalkOptions,
    /// Prints JSON, at the end: the answer, the reasoning, the calls of tools, why it stopped, and tokens used.
    #[arg(long)]
    json: bool,
}

/// Runs `ossicle run`.
pub fn run(arguments: &Arguments) -> Result<()> {
    let prompt = match &arguments.prompt {
        Some(prompt) => prompt.clone(),
        None => {
            let mut prompt = String::new();
            io::stdin().read_to_string(&mut prompt)?;
            prompt
        }
    };
    with_model_or_toy(arguments.talk.model.as_deref(), &arguments.talk.compute, |opened| {
        with_talk(&arguments.talk, &opened, 0, |talk| {
            let said = Said::ByUser(&prompt);
            if !arguments.json {
                let answer = talk.answer(said, printer(arguments.talk.show_reasoning));
                match &answer.end {
                    End::Turn(StopReason::Finished) => {}
                    End::Error(reason) => bail!("{reason}"),
                    end => eprintln!("[{end}]"),
                }
                return Ok(());
            }
            let answer = talk.answer(said, |_| {});
            let calls = answer.calls.iter().map(|call| {
                let mut shown = json!({ "tool": call.tool, "argument": call.argument });
                if let Some(result) = &call.result {
                    shown["result"] = json!(result);
                }
                shown
            });
            let calls: Vec<_> = calls.collect();
            let usage = answer.usage;
            let mut result = json!({
                "answer": answer.text,
                "reasoning": answer.reasoning,
                "calls": calls,
                "stop": answer.end.name(),
                "usage": {
                    "input_tokens": usage.input_tokens,
                    "cached_tokens": usage.cached_tokens,
                    "output_tokens": usage.output_tokens,
                    "reasoning_tokens": usage.reasoning_tokens,
                },
            });
            match &answer.end {
                End::Turn(_) => {}
                End::Policy(reason) => result["policy"] = json!(reason),
                End::Error(reason) => result["error"] = json!(reason),
            }
            println!("{}", serde_json::to_string_pretty(&result)?);
            match answer.end {
                End::Error(reason) => bail!("{reason}"),
                _ => Ok(()),
            }
        })
    })
}
