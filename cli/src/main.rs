//! The `ossicle` command.
//!
//! Exit codes: 0 the work is done; 1 it is not, and standard error says why; 2 the command line is wrong.

mod bandwidth;
mod bench;
mod chat;
mod chunked_file;
mod convert;
mod drafts;
mod gguf_writer;
#[cfg(feature = "grammar")]
mod grammar;
mod harmony;
mod hub;
mod info;
mod logits;
mod open;
mod policy;
mod prefix;
mod profile;
mod run;
mod schema;
mod serve;
mod shown;
mod synth;
mod talk;
mod tokenize;
mod toy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs OpenAI's gpt-oss models, and everything with their architecture, on this machine.
#[derive(Parser)]
#[command(name = "ossicle", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed (standard error says why), 2 wrong command line.";

#[derive(Subcommand)]
enum Command {
    /// Gives one answer.
    Run(run::Arguments),
    /// Holds a conversation.
    Chat(chat::Arguments),
    /// Serves a model over OpenAI's Responses API, and over Chat Completions.
    Serve(serve::Arguments),
    /// Shows what a model is: its numbers, its tensors, and the memory that it takes.
    Info(info::Arguments),
    /// Writes the logits after each token of a list.
    Logits(logits::Arguments),
    /// Turns text into token ids, and back.
    Tokenize(tokenize::Arguments),
    /// Renders conversations in the chat format of gpt-oss, and parses what models write.
    Harmony(harmony::Arguments),
    /// Says whether a JSON schema can be enforced, and if not, why.
    Schema(schema::Arguments),
    /// Fetches a model from Hugging Face's hub into the cache that all programs share, and prints where it is.
    ///
    /// Goes on where it was interrupted, and verifies what it fetches. Honours HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT and
    /// HF_HUB_OFFLINE. The name then serves as a path: `ossicle chat --model openai/gpt-oss-20b`.
    Pull(hub::PullArguments),
    /// Lists the models and adapters in that cache.
    List,
    /// Removes a model from that cache.
    Rm(hub::RemoveArguments),
    /// Converts a checkpoint: from Hugging Face's layout or OpenAI's to GGUF, and back to Hugging Face's.
    Convert(convert::Arguments),
    /// Writes a model of random weights, to measure speed and memory without a download.
    Synth(synth::Arguments),
    /// Measures how fast a model runs here.
    ///
    /// The memory bandwidth beside it is the rate at which the same threads read the attention and output matrices, where
    /// they lie, and do nothing else: the median of passes between the generated tokens.
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    // A reader that has seen enough, such as `head`, ends the program quietly.
    sigpipe::reset();
    let result = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Chat(arguments) => chat::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Info(arguments) => info::run(&arguments),
        Command::Logits(arguments) => logits::run(&arguments),
        Command::Tokenize(arguments) => tokenize::run(&arguments),
        Command::Harmony(arguments) => harmony::run(&arguments).map_err(Into::into),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Pull(arguments) => hub::pull(&arguments),
        Command::List => hub::list(),
        Command::Rm(arguments) => hub::remove(&arguments),
        Command::Convert(arguments) => convert::run(&arguments),
        Command::Synth(arguments) => synth::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ossicle: {error:#}");
            ExitCode::FAILURE
        }
    }
}
