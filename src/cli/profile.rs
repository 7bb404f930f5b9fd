//! `ganymede profile`.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::args::ProfileArgs;
use super::{dataset, wiring};
use crate::error::{Error, Result};
use crate::profile::Recorder;

/// Times the dispatches of a training step with the given settings and prints where the time goes, or captures one step.
pub fn run(args: &ProfileArgs) -> Result<()> {
    let mut recorder = Recorder::default();
    let config = args.layers()?.resolve(None)?;
    // Opened first: a file that cannot be written should not cost a profile.
    let trace =
        args.trace.as_deref().map(|path| File::create(path).map(|file| (path, file)).map_err(|e| cannot_write(path, &e))).transpose()?;
    let data = recorder.time("data", || dataset::open_data(&config))?.0;
    config.check_data(data.len())?;
    if let Some(step) = args.capture_step {
        return super::print(&wiring::capture(&config, &data, step)?);
    }
    let profile = wiring::profile(&config, &data, args.steps, recorder)?;
    super::print(&profile.table(args.by.into()))?;
    if let Some((path, mut file)) = trace {
        file.write_all(profile.trace().as_bytes()).map_err(|e| cannot_write(path, &e))?;
        super::print(&format!("\nTrace: {}; open it at https://ui.perfetto.dev, which reads it in the browser", path.display()))?;
    }
    Ok(())
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Error {
    Error::environment(format!("--trace: cannot write {}: {error}", path.display()))
}
