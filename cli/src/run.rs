//! `ossicle run`: one answer.

use std::io::{self, Read};

use anyhow::Result;
use clap::Args;
use ossicle_core::generation::StopReason;
use serde_json::json;

use crate::open::with_model_or_toy;
use crate::talk::{TalkOptions, reason_name, with_talk};

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
    with_model_or_toy(arguments.talk.model.as_deref(), &arguments.talk.compute.adapters, |opened| {
        with_talk(&arguments.talk, &opened, |talk| {
            talk.say(&prompt)?;
            if !arguments.json {
                let printer = talk.printer();
                let answer = talk.answer(printer)?;
                if let Some((reason, _)) = answer.stop.filter(|(reason, _)| *reason != StopReason::Finished) {
                    eprintln!("[{}]", reason_name(reason));
                }
                return Ok(());
            }
            let answer = talk.answer(|_| {})?;
            let calls = answer.calls.iter().map(|call| {
                let mut shown = json!({ "tool": call.tool, "argument": call.argument });
                if let Some(result) = &call.result {
                    shown["result"] = json!(result);
                }
                shown
            });
            let calls: Vec<_> = calls.collect();
            let (reason, usage) = answer.stop.unzip();
            let usage = usage.unwrap_or_default();
            let result = json!({
                "answer": answer.text,
                "reasoning": answer.reasoning,
                "calls": calls,
                "stop": reason.map(reason_name),
                "usage": {
                    "input_tokens": usage.input_tokens,
                    "cached_tokens": usage.cached_tokens,
                    "output_tokens": usage.output_tokens,
                    "reasoning_tokens": usage.reasoning_tokens,
                },
            });
            println!("{}", serde_json::to_string_pretty(&result)?);
            Ok(())
        })
    })
}
