//! `ossicle schema`: what of a JSON schema can be enforced.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use ossicle_core::error::Error;
use ossicle_core::schema::Unsupported;
use ossicle_host::schema::{Arena, explain};

/// Arguments of `ossicle schema`.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compiles a schema, or says what is in the way and where.
    Check {
        /// The schema, as JSON.
        file: PathBuf,
        /// Leaves out what cannot be enforced, and says what.
        #[arg(long)]
        ignore: bool,
    },
}

/// Runs `ossicle schema`.
pub fn run(arguments: &Arguments) -> Result<()> {
    let Command::Check { file, ignore } = &arguments.command;
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let unsupported = if *ignore { Unsupported::Ignore } else { Unsupported::Refuse };
    let arena = Arena::new();
    match arena.schema(&text, unsupported) {
        Ok(schema) => {
            for warning in schema.warnings() {
                println!("ignored: {}", explain(&Error::Schema(*warning), &text));
            }
            println!("{}: can be enforced", file.display());
            Ok(())
        }
        Err(error) => bail!("{}: {}", file.display(), explain(&error, &text)),
    }
}
