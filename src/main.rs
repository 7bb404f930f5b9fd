//! The command; see [`ganymede::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(ganymede::cli::main(std::env::args_os()))
}
