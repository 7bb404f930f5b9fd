//! The run loop: drives an [`Engine`] from tick to tick, and keeps the promises of the run folder.
//!
//! Ticks, snapshots and the end fall on steps that the settings alone decide, so that equal runs write equal checkpoints and a resumed
//! run equals one that never stopped. Three things may come at any step, because they change no number: the checkpoint that is due by the
//! clock, the one that Ctrl-C or `--stop-after` asks for, and the split of steps into submits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::config::TrainConfig;
use super::folder::RunFolder;
use super::grid::Images;
use super::log::{Log, Stats};
use super::outputs::Outputs;
use super::picture::Picture;
use super::progress::{Tick, format_kimg, format_seconds};
use super::report::Status;
use super::signal::Stop;
use super::state::{DataId, Tensors, TrainState};
use super::view::View;
use super::{checkpoint, disk};
use crate::error::{Error, Result};

/// A checkpoint is written this long after the last one at the latest, so that with the time of a submit and of writing it is at least
/// one every 15 minutes.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(14 * 60);

/// How long one submit should keep the device busy, where its length is not fixed by the settings: short enough for watchdogs and for
/// Ctrl-C.
const SUBMIT_TARGET: Duration = Duration::from_millis(250);

/// Most steps in one submit, where the settings do not fix it.
const SUBMIT_MOST: u32 = 64;

/// What the run loop needs of a trainer. Given the same settings and data, everything but time must come out the same, however the steps
/// are split into calls.
pub trait Engine {
    /// Does `n` more training steps in one submit. May return before the device is done, but with at most one submit still under way.
    ///
    /// # Errors
    /// [`Error::Environment`] if the device is lost or out of memory.
    fn run_steps(&mut self, n: u32) -> Result<()>;

    /// Steps done or submitted.
    fn step(&self) -> u64;

    /// Waits for the device, then looks for non-finite values met since the beginning.
    ///
    /// # Errors
    /// [`Error::Diverged`] naming the tensor.
    fn check_finite(&mut self) -> Result<()>;

    /// Orders that the statistics accumulated so far are read and cleared, without waiting. Those of the tick before have been taken.
    ///
    /// # Errors
    /// [`Error::Environment`] if the device is lost or out of memory.
    fn end_tick(&mut self) -> Result<()>;

    /// How long steps have waited for batches of a streamed data set since this was last asked; `None` if it is on the device.
    fn take_data_wait(&mut self) -> Option<Duration> {
        None
    }

    /// Takes the statistics of the tick that [`Engine::end_tick`] ended; `None` if they have been taken or, unless `wait` asks to wait for
    /// them, are not there yet.
    ///
    /// # Errors
    /// [`Error::Diverged`] as for [`Engine::check_finite`], of the time when the tick ended.
    fn tick_stats(&mut self, wait: bool) -> Result<Option<TickStats>>;

    /// Waits for the device, then reads back everything that the next step depends on, and the accumulated statistics.
    ///
    /// # Errors
    /// [`Error::Environment`] if the device is lost.
    fn state(&mut self) -> Result<Tensors>;

    /// Goes to a state whose tensors have the names, types and shapes of [`Engine::state`] (the caller has checked that), to its step and
    /// to the data position after its images seen.
    ///
    /// # Errors
    /// [`Error::Input`] if a value cannot be, [`Error::Environment`] if the device is lost.
    fn load(&mut self, state: &TrainState) -> Result<()>;

    /// One image per seed: noise drawn from the seed alone, through the averaged generator in evaluation mode. `classes` holds as many classes where
    /// the generator takes them, and is empty elsewhere. Changes no state.
    ///
    /// # Errors
    /// [`Error::Environment`] if the device is lost.
    fn sample(&mut self, seeds: &[u64], classes: &[u32]) -> Result<Images>;

    /// Bytes of device memory that training takes.
    fn memory(&self) -> u64;

    /// Adapter and driver, for people.
    fn device(&self) -> String {
        String::new()
    }

    /// Something that the user should read, once: where a capture went.
    fn notice(&mut self) -> Option<String> {
        None
    }

    /// What else a checkpoint should record ([`TrainState::extra`]).
    fn extra(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
}

/// Means over the steps of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TickStats {
    /// Steps that the means are over.
    pub steps: u64,
    /// Loss of the discriminator, both parts.
    pub loss_d: f64,
    /// Its part on real images.
    pub loss_d_real: f64,
    /// Its part on fakes.
    pub loss_d_fake: f64,
    /// Loss of the generator.
    pub loss_g: f64,
    /// D(x): the discriminator's probability that a real image is real.
    pub d_x: f64,
    /// D(G(z)) before the discriminator's update.
    pub d_g_z1: f64,
    /// D(G(z)) after it.
    pub d_g_z2: f64,
    /// L2 norm of the discriminator's gradient.
    pub grad_norm_d: f64,
    /// L2 norm of the generator's gradient.
    pub grad_norm_g: f64,
}

/// Where a run begins.
#[derive(Debug)]
pub enum Origin {
    /// With initial weights.
    Fresh,
    /// In its own folder: from a checkpoint, or from the first step if it was killed before it had written one.
    Resume(Option<(PathBuf, TrainState)>),
    /// In a new folder, from a checkpoint of another run.
    Fork(PathBuf, TrainState),
}

impl Origin {
    /// The checkpoint that the run begins with.
    pub fn checkpoint(&self) -> Option<&(PathBuf, TrainState)> {
        match self {
            Origin::Resume(checkpoint) => checkpoint.as_ref(),
            Origin::Fresh | Origin::Fork(..) => None,
        }
    }

    /// The state that the run begins with, and the file that it is from.
    fn state(&self) -> Option<(&Path, &TrainState)> {
        match self {
            Origin::Resume(Some((path, state))) | Origin::Fork(path, state) => Some((path, state)),
            Origin::Fresh | Origin::Resume(None) => None,
        }
    }

    /// Step and images seen at the beginning.
    pub fn position(&self) -> (u64, u64) {
        self.state().map_or((0, 0), |(_, state)| (state.step, state.images_seen))
    }
}

/// Everything about a run but its engine.
pub struct Session<'a> {
    /// The run folder, open.
    pub folder: &'a RunFolder,
    /// Its settings.
    pub config: &'a TrainConfig,
    /// Its data set.
    pub data: &'a DataId,
    /// Where it begins.
    pub origin: Origin,
    /// How samples are shown. Those of seeds from 0, as `ganymede sample` makes them.
    pub view: View,
    /// Gives up to that many real images, for `reals.png` where that is a grid; for [`View::Classes`], those of its cells.
    pub reals: &'a mut dyn FnMut(usize) -> Result<Images>,
    /// Log, on which the start-up lines may already stand.
    pub log: &'a mut Log,
    /// Ctrl-C.
    pub stop: &'a Stop,
    /// Stop after that many steps of this process, as if by Ctrl-C but as planned.
    pub stop_after: Option<u64>,
    /// See [`CHECKPOINT_EVERY`].
    pub checkpoint_every: Duration,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// At its full length.
    Finished,
    /// By `--stop-after`; it can be resumed.
    Stopped,
}

/// Trains to the end of the run, or until it is stopped. The folder's files are complete whenever this returns.
///
/// # Errors
/// [`Error::Interrupted`] after Ctrl-C, with the checkpoint written. [`Error::Diverged`] for non-finite values, [`Error::Environment`]
/// for a lost device or a full disk; the message then names the last good checkpoint. [`Error::Input`] for a checkpoint that does not fit
/// the networks.
pub fn train<'a>(engine: &'a mut (dyn Engine + 'a), session: Session<'a>) -> Result<Outcome> {
    let folder = session.folder;
    let mut run = Run::begin(engine, session)?;
    let outcome = run.steps();
    run.log.progress.end();
    let outcome = outcome.map_err(|error| with_last_checkpoint(error, folder, run.config));
    match &outcome {
        Ok(outcome) => run.report(if *outcome == Outcome::Finished { Status::Finished } else { Status::Stopped })?,
        Err(error) => {
            let status = if matches!(error, Error::Interrupted(_)) { Status::Stopped } else { Status::Failed(error.to_string()) };
            // The error itself matters more than a log and a report that cannot be written.
            let _ = run.log.record(&error.to_string());
            let _ = run.report(status);
        }
    }
    outcome
}

/// What is known of a tick before its statistics are.
struct EndedTick {
    step: u64,
    tick: u64,
    partial: bool,
    seconds: f64,
    seconds_per_kimg: f64,
    data_wait: Option<Duration>,
}

/// A run under way.
struct Run<'a> {
    engine: &'a mut (dyn Engine + 'a),
    folder: &'a RunFolder,
    config: &'a TrainConfig,
    data: &'a DataId,
    view: View,
    log: &'a mut Log,
    stop: &'a Stop,
    checkpoint_every: Duration,
    stats: Stats,
    outputs: Outputs,
    /// Step and images seen at the beginning of this process.
    start: (u64, u64),
    stop_at: Option<u64>,
    /// Seconds of training before this process.
    seconds_before: f64,
    begun: Instant,
    /// When, and at which step, the current tick began in this process, and the time in it that was not training.
    tick_begun: (Instant, u64),
    tick_pause: Duration,
    /// A tick that has ended, and whose statistics are still on the device: the steps after it do not wait for them.
    ended: Option<EndedTick>,
    /// When, and for which step, the last checkpoint was written.
    saved: (Instant, Option<u64>),
    submit: Submit,
}

impl<'a> Run<'a> {
    /// Brings engine and folder to the point where the first step can be done.
    fn begin(engine: &'a mut (dyn Engine + 'a), session: Session<'a>) -> Result<Self> {
        let Session { folder, config, data, origin, view, reals, log, stop, stop_after, checkpoint_every } = session;
        if let Some((path, state)) = origin.state() {
            state.check_tensors(&engine.state()?, &path.display())?;
            engine.load(state)?;
        }
        let start = origin.position();
        log.set_step(start.0);

        let moved = folder.rewind(start.1)?;
        log.open(&folder.path().join("log.txt"), start.0)?;
        let stats = Stats::open(&folder.path().join("stats.jsonl"), start.0)?;
        for path in moved {
            log.line(&format!("Set aside: {}, which is newer than the checkpoint that the run goes on from", path.display()))?;
        }
        // What older files say of steps beyond the checkpoint, and without one of any step, is not so.
        let purge = match &origin {
            Origin::Resume(Some(_)) => Some(start.1 + 1),
            Origin::Resume(None) => Some(0),
            Origin::Fresh | Origin::Fork(..) => None,
        };
        let outputs = Outputs::begin(folder, config, engine.device(), purge)?;
        let now = Instant::now();
        let mut run = Run {
            engine,
            folder,
            config,
            data,
            view,
            log,
            stop,
            checkpoint_every,
            seconds_before: stats.seconds,
            stats,
            outputs,
            start,
            stop_at: stop_after.map(|steps| start.0.saturating_add(steps)),
            begun: now,
            tick_begun: (now, start.0),
            tick_pause: Duration::ZERO,
            ended: None,
            saved: (now, None),
            submit: Submit::new(config.run.steps_per_submit),
        };
        match &origin {
            Origin::Resume(Some(_)) => run.saved.1 = Some(start.0),
            // Before config.toml: a folder that has one but no checkpoint begins with initial weights, and a fork must not.
            Origin::Fork(..) => run.save()?,
            Origin::Fresh | Origin::Resume(None) => {}
        }
        folder.write_config(config)?;
        if !matches!(origin, Origin::Resume(Some(_))) {
            let picture = run.view.data(reals)?;
            run.write_picture(&folder.path().join("reals.png"), "reals", &picture)?;
            run.write_fakes(&folder.path().join("fakes_init.png"))?;
        }
        Ok(run)
    }

    /// The loop.
    fn steps(&mut self) -> Result<Outcome> {
        let tick_steps = self.config.tick_steps();
        let snap_steps = tick_steps.saturating_mul(u64::from(self.config.run.snap_ticks));
        let last = self.config.last_step(self.start.0, self.start.1);
        self.log.line(&format!("Training to {} kimg (step {last})", format_kimg(self.images_seen_at(last))))?;
        self.log.progress.start(self.start.0, last);
        self.begun = Instant::now();
        (self.tick_begun.0, self.saved.0) = (self.begun, self.begun);

        while self.engine.step() < last {
            let step = self.engine.step();
            if self.stop_at.is_some_and(|stop| step >= stop) {
                self.save()?;
                self.log.progress.end();
                self.log.line(&format!("Stopped at step {step} as --stop-after asks; {}", self.how_to_resume()))?;
                return Ok(Outcome::Stopped);
            }
            if self.stop.requested() {
                self.log.progress.say("stopping");
                self.save()?;
                return Err(Error::Interrupted(format!("stopped at step {step}; {}", self.how_to_resume())));
            }
            if self.saved.0.elapsed() >= self.checkpoint_every {
                self.save()?;
            }

            let next_tick = (step / tick_steps + 1) * tick_steps;
            let pause = next_tick.min(last).min(self.stop_at.unwrap_or(u64::MAX));
            self.submit.run(self.engine, pause - step)?;
            let step = self.engine.step();
            self.log.set_step(step);
            self.log.progress.at(step);
            if let Some(notice) = self.engine.notice() {
                self.log.line(&notice)?;
            }
            self.report_tick(false)?;
            if step == next_tick {
                self.end_tick(step / tick_steps, false)?;
                if step.is_multiple_of(snap_steps) && step < last {
                    self.snapshot()?;
                }
            }
        }

        self.snapshot()?;
        // After the checkpoint, because it clears sums that a longer run would still add to.
        if !last.is_multiple_of(tick_steps) && last > self.start.0 {
            self.end_tick(last / tick_steps + 1, true)?;
        }
        self.report_tick(true)?;
        let time = format_seconds(self.seconds_before + self.begun.elapsed().as_secs_f64());
        self.log.progress.end();
        self.log.line(&format!(
            "Finished: {} kimg in {time}. Pictures: {}",
            format_kimg(self.images_seen_at(last)),
            self.folder.fakes_path(self.images_seen_at(last)).display()
        ))?;
        Ok(Outcome::Finished)
    }

    /// Ends a tick. Its statistics are reported when they have come from the device.
    fn end_tick(&mut self, tick: u64, partial: bool) -> Result<()> {
        self.report_tick(true)?;
        self.engine.end_tick()?;
        let step = self.engine.step();
        let images = self.images_seen_at(step) - self.images_seen_at(self.tick_begun.1);
        let trained = self.tick_begun.0.elapsed().saturating_sub(self.tick_pause);
        self.ended = Some(EndedTick {
            step,
            tick,
            partial,
            seconds: self.seconds_before + self.begun.elapsed().as_secs_f64(),
            seconds_per_kimg: trained.as_secs_f64() * 1000.0 / images.max(1) as f64,
            data_wait: self.engine.take_data_wait(),
        });
        self.tick_begun = (Instant::now(), step);
        self.tick_pause = Duration::ZERO;
        Ok(())
    }

    /// Statistics of the tick that has ended, if any, to the screen, the log and `stats.jsonl`; without `wait` only if they are there.
    fn report_tick(&mut self, wait: bool) -> Result<()> {
        if self.ended.is_none() {
            return Ok(());
        }
        let Some(stats) = self.engine.tick_stats(wait)? else { return Ok(()) };
        let Some(EndedTick { step, tick, partial, seconds, seconds_per_kimg, data_wait }) = self.ended.take() else { return Ok(()) };
        let images_seen = self.images_seen_at(step);
        let tick = Tick {
            step,
            images_seen,
            tick,
            partial,
            kimg: images_seen as f64 / 1000.0,
            seconds,
            seconds_per_kimg,
            data_wait_seconds: data_wait.map(|wait| wait.as_secs_f64()),
            memory_bytes: self.engine.memory(),
            stats,
        };
        self.stats.append(&tick)?;
        self.outputs.tick(&tick)?;
        self.log.set_step(step);
        self.log.line(&tick.line())?;
        self.log.set_step(self.engine.step());
        Ok(())
    }

    /// Pictures, then the checkpoint: a kill between the two costs neither, because the run is then resumed from before both.
    fn snapshot(&mut self) -> Result<()> {
        self.report_tick(true)?;
        let begun = Instant::now();
        self.engine.check_finite()?;
        let path = self.folder.fakes_path(self.images_seen_at(self.engine.step()));
        self.write_fakes(&path)?;
        self.tick_pause += begun.elapsed();
        self.save()?;
        let begun = Instant::now();
        self.report(Status::Running)?;
        self.tick_pause += begun.elapsed();
        Ok(())
    }

    /// Writes `report.html`.
    fn report(&self, status: Status) -> Result<()> {
        let step = self.engine.step();
        self.outputs.report(self.config, (step, self.images_seen_at(step)), status)
    }

    /// Writes a checkpoint, unless the last one was for this very step.
    fn save(&mut self) -> Result<()> {
        // A resumed run keeps the lines up to its checkpoint, so all of them must be there first.
        self.report_tick(true)?;
        let step = self.engine.step();
        if self.saved.1 == Some(step) {
            return Ok(());
        }
        let begun = Instant::now();
        self.engine.check_finite()?;
        let state = TrainState {
            tensors: self.engine.state()?,
            step,
            images_seen: self.images_seen_at(step),
            recipe: self.config.recipe(),
            data: self.data.clone(),
            extra: self.engine.extra(),
        };
        checkpoint::write(self.folder.path(), &state, self.config.run.keep as usize)?;
        self.saved = (Instant::now(), Some(step));
        self.tick_pause += begun.elapsed();
        Ok(())
    }

    fn write_fakes(&mut self, path: &Path) -> Result<()> {
        let cells = self.view.cells();
        let samples = self.engine.sample(&cells.seeds, &cells.classes)?;
        let picture = self.view.picture(&samples)?;
        self.write_picture(path, "fakes", &picture)?;
        match self.view.describe(&samples)? {
            Some(line) => self.log.line(&line),
            None => Ok(()),
        }
    }

    /// Writes a picture as a file, and for TensorBoard under `tag`.
    fn write_picture(&mut self, path: &Path, tag: &str, picture: &Picture) -> Result<()> {
        disk::replace(path, &picture.png()?)?;
        self.outputs.picture(self.images_seen_at(self.engine.step()), tag, picture)
    }

    fn how_to_resume(&self) -> String {
        format!("go on with `ganymede train --resume {}`", quoted(self.folder.path()))
    }

    fn images_seen_at(&self, step: u64) -> u64 {
        self.start.1 + (step - self.start.0) * u64::from(self.config.training.batch)
    }
}

/// How many steps to hand to the engine at a time.
struct Submit {
    /// 0: decided by time.
    fixed: u32,
    next: u32,
}

impl Submit {
    fn new(fixed: u32) -> Self {
        Submit { fixed, next: fixed.max(1) }
    }

    /// Runs one submit of at most `most` steps.
    fn run(&mut self, engine: &mut dyn Engine, most: u64) -> Result<()> {
        let n = u64::from(self.next).min(most) as u32;
        let begun = Instant::now();
        engine.run_steps(n)?;
        if self.fixed == 0 {
            let per_step = begun.elapsed().as_secs_f64() / f64::from(n);
            // Saturates for steps that take no time; at most doubled, because a call may return before its work is done.
            let fits = (SUBMIT_TARGET.as_secs_f64() / per_step) as u32;
            self.next = fits.clamp(1, SUBMIT_MOST).min(self.next.saturating_mul(2));
        }
        Ok(())
    }
}

/// Adds to an error what is left of the run and what to do.
fn with_last_checkpoint(error: Error, folder: &RunFolder, config: &TrainConfig) -> Error {
    let last = folder.checkpoints().ok().and_then(|mut all| all.pop()).map(|checkpoint| checkpoint.path);
    match (error, last) {
        (Error::Diverged(what), Some(path)) => Error::Diverged(format!(
            "training diverged: {what}; the last good checkpoint is {}; to go on from it would end the same way, so \
             start a new run from it with a lower learning rate: `ganymede train --fork {} --lr {}`",
            path.display(),
            quoted(&path),
            config.generator.optimizer.lr.start.max(config.discriminator.optimizer.lr.start) / 2.0,
        )),
        (Error::Diverged(what), None) => Error::Diverged(format!(
            "training diverged: {what}; no checkpoint was written yet; start again with a lower learning rate: --lr {}",
            config.generator.optimizer.lr.start.max(config.discriminator.optimizer.lr.start) / 2.0,
        )),
        (Error::Environment(what), Some(path)) => Error::Environment(format!(
            "{what}; the last checkpoint is {}; go on from it with `ganymede train --resume {}`",
            path.display(),
            quoted(folder.path()),
        )),
        // Settings and data have been checked by now: a file of the data set cannot be read any more.
        (Error::Input(what), Some(path)) => Error::Input(format!(
            "{what}; the last checkpoint is {}; once this is mended, go on from it with `ganymede train --resume {}`",
            path.display(),
            quoted(folder.path()),
        )),
        (error, _) => error,
    }
}

/// A path as it is typed in a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    if text.contains(char::is_whitespace) { format!("\"{text}\"") } else { text }
}
