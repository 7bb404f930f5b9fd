//! `ganymede train`.

use std::path::{Path, PathBuf};

use super::args::TrainArgs;
use super::dataset::{self, Data};
use super::wiring;
use crate::error::{Error, Result};
use crate::run::checkpoint;
use crate::run::config::TrainConfig;
use crate::run::folder::{self, RunFolder};
use crate::run::layers::Layers;
use crate::run::log::Log;
use crate::run::progress::{format_bytes, format_kimg};
use crate::run::signal::Stop;
use crate::run::state::TrainState;
use crate::run::train::{self, CHECKPOINT_EVERY, Origin, Session};

/// What is to be done, as far as flags and files tell.
struct Job {
    config: TrainConfig,
    origin: Origin,
    /// The run folder, for a resume; a new run has none yet.
    folder: Option<RunFolder>,
}

/// Trains a new run, or goes on with one.
pub fn run(args: &TrainArgs) -> Result<()> {
    let layers = args.layers()?;
    let Job { config, origin, folder } = match (&args.resume, &args.fork) {
        (Some(what), _) => resume(&layers, what, args.dry_run)?,
        (None, Some(what)) => fork(&layers, what)?,
        (None, None) => Job { config: layers.resolve(None)?, origin: Origin::Fresh, folder: None },
    };
    let (step, images_seen) = origin.position();
    if step >= config.last_step(step, images_seen) {
        return already_done(&layers, &config, &origin);
    }
    if let Some(captured) = args.capture_step.filter(|captured| !(step + 1..=config.last_step(step, images_seen)).contains(captured)) {
        return Err(Error::input(format!(
            "--capture-step {captured}: this run does steps {} to {}; give one of them",
            step + 1,
            config.last_step(step, images_seen)
        )));
    }
    let outdir = Path::new(&config.run.outdir);
    if folder.is_none() && !args.dry_run {
        folder::prepare_outdir(outdir)?;
    }

    let data = dataset::open_data(&config)?;
    config.check_data(data.len())?;
    if let Some((path, state)) = origin.checkpoint() {
        check_data(&config, &data, state, path)?;
    }

    let mut log = Log::stdout();
    log.set_step(step);
    let name = match (&folder, origin.checkpoint()) {
        (Some(folder), _) => folder.path().to_path_buf(),
        // A dry run opens no folder.
        (None, Some((path, _))) => path.parent().unwrap_or(Path::new(".")).to_path_buf(),
        (None, None) => folder::next_path(outdir, data.name(), &config.preset, config.training.batch, &config.run.desc)?,
    };
    log.line(&introduction(&config, &origin, &name, &data)?)?;
    log.line(&wiring::networks(&config, &data)?)?;
    if let Some(note) = wiring::micro_batches(&config, &data)? {
        log.line(&note)?;
    }
    if args.dry_run {
        return log.line("Dry run: nothing was trained or written");
    }

    let stop = Stop::install()?;
    let mut built = wiring::build(&config, &data, args.capture_step)?;
    log.line(&format!("Adapter: {}; {} of device memory", built.adapter, format_bytes(built.engine.memory())))?;
    built.variants.iter().chain(&built.precision).chain(&built.streaming).try_for_each(|line| log.line(line))?;
    let folder = match folder {
        Some(folder) => folder,
        None => {
            let folder = RunFolder::create(outdir, data.name(), &config.preset, config.training.batch, &config.run.desc)?;
            if folder.path() != name {
                log.line(&format!("Run folder: {} (another run took the number meanwhile)", folder.path().display()))?;
            }
            folder
        }
    };
    if !folder.is_locked() {
        log.line("The file system has no locks: take care that no second process uses this run folder")?;
    }
    let view = data.view(&config);
    let session = Session {
        folder: &folder,
        config: &config,
        data: &data.id(),
        origin,
        view: view.clone(),
        reals: &mut |n| data.shown(&view, n),
        log: &mut log,
        stop: &stop,
        stop_after: args.stop_after,
        checkpoint_every: CHECKPOINT_EVERY,
    };
    train::train(built.engine.as_mut(), session).map(drop)
}

/// What is printed before anything is built.
fn introduction(config: &TrainConfig, origin: &Origin, folder: &Path, data: &Data) -> Result<String> {
    let (step, images_seen) = origin.position();
    let start = match origin {
        Origin::Fresh => String::new(),
        Origin::Resume(Some((path, _))) => format!("Resuming from {} (step {step}, {} kimg)\n", path.display(), format_kimg(images_seen)),
        Origin::Resume(None) => "The run has no checkpoint yet: starting it again from its first step\n".to_string(),
        Origin::Fork(path, _) => format!("Forking from {} (step {step}, {} kimg)\n", path.display(), format_kimg(images_seen)),
    };
    let settings = config.to_toml()?;
    let settings: Vec<&str> = settings.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    Ok(format!("{}\n\n{start}Run folder: {}\n{}", settings.join("\n"), folder.display(), data.describe().trim_end()))
}

/// Goes on in a run's own folder.
fn resume(layers: &Layers, what: &str, dry_run: bool) -> Result<Job> {
    let found = folder::find(&outdir(layers), what)?;
    let no_config = || {
        Error::input(format!(
            "{} is not a run folder (it has no config.toml), so there is no run to resume there; `--fork FILE` \
             starts a new run from a lone checkpoint",
            found.folder.display()
        ))
    };
    if !folder::config_path(&found.folder).exists() {
        return Err(no_config());
    }
    // Locked before anything is read, so that what is read is what is resumed.
    let folder = if dry_run { None } else { Some(RunFolder::open(&found.folder)?) };
    let stored = folder::read_config(&found.folder)?.ok_or_else(no_config)?;
    let checkpoint = found.checkpoint.map(|path| checkpoint::read(&path).map(|state| (path, state)));
    let checkpoint = checkpoint.transpose().map_err(|error| name_older(error, &found.folder))?;
    if let Some((path, state)) = &checkpoint {
        let edited =
            Layers::default().check_unchanged(&stored.clone().with_recipe(state.recipe.clone()), &stored, &found.folder, None).is_err();
        if edited {
            return Err(Error::input(format!(
                "{} differs from what {} was trained with; undo the change, or start a new run with `--fork {}` and flags",
                folder::config_path(&found.folder).display(),
                path.display(),
                path.display()
            )));
        }
    }
    let mut config = layers.resolve(Some(&stored))?;
    layers.check_unchanged(&config, &stored, &found.folder, checkpoint.as_ref().map(|(path, _)| path.as_path()))?;
    // A run stays where it is and keeps its name; --outdir only says where to look for it.
    (config.run.outdir, config.run.desc) = (stored.run.outdir, stored.run.desc);
    Ok(Job { config, origin: Origin::Resume(checkpoint), folder })
}

/// Begins a new run with the state of another's checkpoint.
fn fork(layers: &Layers, what: &str) -> Result<Job> {
    let found = folder::find(&outdir(layers), what)?;
    let Some(path) = found.checkpoint else {
        return Err(Error::input(format!("--fork: {} has no checkpoint yet", found.folder.display())));
    };
    let state = checkpoint::read(&path)?;
    // The other run's settings are the base; beside a lone checkpoint there are none, and [run] has its defaults.
    let base = match folder::read_config(&found.folder)? {
        Some(stored) => stored,
        None => {
            if layers.value("data.source").is_none() && !state.data.source.starts_with("builtin:") {
                return Err(Error::input(format!("{} does not say where its data set is; give it with --data", path.display())));
            }
            let mut base = Layers::default().resolve(None)?;
            if state.data.source.starts_with("builtin:") {
                base.data.source.clone_from(&state.data.source);
            }
            base
        }
    };
    let mut config = layers.resolve(Some(&base.with_recipe(state.recipe.clone())))?;
    if layers.value("run.desc").is_none() {
        config.run.desc.clear();
    }
    Ok(Job { config, origin: Origin::Fork(path, state), folder: None })
}

/// Where runs are looked up by name.
fn outdir(layers: &Layers) -> PathBuf {
    PathBuf::from(layers.text_of("run.outdir").unwrap_or_else(|| "runs".to_string()))
}

/// Adds to the error of an unreadable checkpoint which older one there is.
fn name_older(error: Error, folder: &Path) -> Error {
    let Error::Input(text) = error else { return error };
    let older = checkpoint::list(folder).unwrap_or_default().into_iter().rev().map(|checkpoint| checkpoint.path.display().to_string());
    match older.into_iter().find(|path| !text.starts_with(path.as_str())) {
        Some(path) => Error::Input(format!("{text}. The run also has {path}, which `--resume {path}` would go on from")),
        None => Error::Input(text),
    }
}

/// The data must be those of the checkpoint.
fn check_data(config: &TrainConfig, data: &Data, state: &TrainState, path: &Path) -> Result<()> {
    let (have, want) = (data.id(), &state.data);
    if have == *want {
        return Ok(());
    }
    Err(Error::input(format!(
        "--data: {} is not the data set that {} was trained on (fingerprint {}, {}; expected {}, {}); \
         give its place with --data, or start a new run from the checkpoint with `--fork {}`",
        config.data.source,
        path.display(),
        have.fingerprint,
        have.describe(),
        want.fingerprint,
        want.describe(),
        path.display()
    )))
}

/// A run that has its full length already.
fn already_done(layers: &Layers, config: &TrainConfig, origin: &Origin) -> Result<()> {
    let (step, images_seen) = origin.position();
    let length = match config.run.steps {
        Some(steps) => format!("{steps} steps ({})", layers.label("run.steps")),
        None => format!("{} kimg ({})", config.run.kimg.unwrap_or(0.0), layers.label("run.kimg")),
    };
    let here = format!("the checkpoint is at step {step}, {} kimg", format_kimg(images_seen));
    match origin {
        Origin::Fork(..) => {
            Err(Error::input(format!("nothing to train: {here}, and the run's length is {length}; give a larger --kimg or --steps")))
        }
        _ => {
            super::print(&format!("Nothing to do: {here}, and the run's length is {length}. To train on, give a larger --kimg or --steps"))
        }
    }
}
