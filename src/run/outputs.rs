//! What a run writes for people to look at, beside its log and pictures: TensorBoard's event file and `report.html`.

use std::path::PathBuf;

use super::config::TrainConfig;
use super::events::Events;
use super::folder::RunFolder;
use super::metrics;
use super::picture::Picture;
use super::progress::Tick;
use super::report::{self, Facts, Status};
use crate::error::{Error, Result};

/// The open files of a run.
#[derive(Debug)]
pub struct Outputs {
    folder: PathBuf,
    device: String,
    /// `None` where the settings want none.
    events: Option<Events>,
}

impl Outputs {
    /// Opens what the settings ask for. `purge` is as for [`Events::begin`].
    ///
    /// # Errors
    /// [`Error::Environment`].
    pub fn begin(folder: &RunFolder, config: &TrainConfig, device: String, purge: Option<u64>) -> Result<Self> {
        let events = config.run.tensorboard.then(|| Events::begin(folder.path(), purge)).transpose()?;
        Ok(Outputs { folder: folder.path().to_path_buf(), device, events })
    }

    /// Statistics of a tick.
    ///
    /// # Errors
    /// [`Error::Environment`].
    pub fn tick(&mut self, tick: &Tick) -> Result<()> {
        let Some(events) = &mut self.events else { return Ok(()) };
        let line = serde_json::to_value(tick).map_err(|error| Error::internal(format!("statistics have no JSON form: {error}")))?;
        let scalars = line.as_object().map(metrics::scalars).unwrap_or_default();
        events.scalars(tick.images_seen, &scalars)
    }

    /// A picture that has been written to the folder.
    ///
    /// # Errors
    /// [`Error::Environment`].
    pub fn picture(&mut self, images_seen: u64, tag: &str, picture: &Picture) -> Result<()> {
        self.events.as_mut().map_or(Ok(()), |events| events.image(images_seen, tag, picture))
    }

    /// Writes `report.html` anew.
    ///
    /// # Errors
    /// [`Error::Environment`].
    pub fn report(&self, config: &TrainConfig, position: (u64, u64), status: Status) -> Result<()> {
        report::write(&self.folder, &Facts { config, device: &self.device, status, position })
    }
}
