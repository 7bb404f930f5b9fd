//! The command `ganymede`: verbs and flags, and errors as exit codes.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | a self-test found a wrong result, a benchmark is worse than its baseline, or a defect in Ganymede |
//! | 2 | the input is at fault: a flag, a file, a field |
//! | 3 | the machine is at fault: no adapter, out of memory, device lost, disk full |
//! | 4 | training produced a non-finite number |
//! | 130 | stopped by Ctrl-C or SIGTERM, with a checkpoint |
//!
//! Each verb is one file; what they need of the engine goes through `wiring`, so that this module knows flags and texts only.

mod animate;
mod args;
mod augment;
mod bench;
mod check;
mod classes;
mod data;
mod dataset;
mod devices;
mod plan;
mod presets;
mod profile;
mod sample;
mod sampler;
mod summary;
mod train;
mod tune;
mod wiring;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Parser;

use crate::error::{Error, Result};
use args::{Command, Ganymede};

/// Runs the command with the given arguments (the first is the program's name), prints errors, and returns the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let parsed = match Ganymede::try_parse_from(args) {
        Ok(parsed) => parsed,
        Err(error) => return usage(&error),
    };
    let done = match parsed.command {
        Command::Train(args) => train::run(&args),
        Command::Sample(args) => sample::run(&args),
        Command::Devices => devices::run(),
        Command::Check(args) => check::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Presets(args) => presets::run(&args),
        Command::Summary(args) => summary::run(&args),
        Command::Data(args) => data::run(&args),
        Command::Augment(args) => augment::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            report(&error);
            error.exit_code() as u8
        }
    }
}

/// Prints what clap has to say: help and version to standard output, mistakes to standard error.
fn usage(error: &clap::Error) -> u8 {
    if error.use_stderr() {
        // clap's text begins with "error: ".
        let _ = write!(io::stderr(), "ganymede: ");
    }
    // A closed pipe is nobody's mistake.
    let _ = error.print();
    u8::try_from(error.exit_code()).unwrap_or(2)
}

/// Prints an error, once, to standard error. A stop that the user asked for is no error.
fn report(error: &Error) {
    let word = if matches!(error, Error::Interrupted(_)) { "" } else { "error: " };
    // If standard error is closed there is no one left to tell.
    let _ = writeln!(io::stderr(), "ganymede: {word}{error}");
}

/// Prints text to standard output. A reader that has gone away ends the command quietly, as in `ganymede presets | head -1`.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(|error| Error::environment(format!("cannot write to standard output: {error}"))),
    }
}
