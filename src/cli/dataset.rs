//! The data set of a run: opened, checked against the networks, and shown.

use std::collections::HashMap;
use std::sync::Arc;

use super::data::with_progress;
use crate::data::stream::Source as _;
use crate::data::{self, DataSet, LoadOptions, Loaded, MAX_BYTES, Pictures, Split};
use crate::error::{Error, Result};
use crate::gan::config::GanConfig;
use crate::gan::sampler::Images;
use crate::run::config::{DataOn, TrainConfig};
use crate::run::state::DataId;
use crate::run::view::View;

/// A data set as a run sees it: padded to the size of its preset.
pub struct Data {
    pub(super) set: Set,
    name: String,
    id: DataId,
    padded_from: Option<(usize, usize)>,
}

/// Where it is. Shared with the thread that streams it, if it is streamed.
pub(super) enum Set {
    Held(Arc<DataSet>),
    OnDisk(Arc<Pictures>),
}

impl Data {
    /// What identifies it in a checkpoint.
    pub fn id(&self) -> DataId {
        self.id.clone()
    }

    /// Shape of a sample: `[C, H, W]` of images, `[F]` of vectors.
    pub(super) fn sample(&self) -> Vec<usize> {
        self.id.sample()
    }

    /// Short name for the run folder: `digits`, `fashion-mnist`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        match &self.set {
            Set::Held(set) => set.count,
            Set::OnDisk(pictures) => pictures.count(),
        }
    }

    /// A few lines for the start of a run: number of images, their shape, labels, what was converted.
    pub fn describe(&self) -> String {
        let padding = match self.padded_from {
            Some((h, w)) => {
                format!("\nImages of {h}x{w} are padded to {}x{} with black, which this preset needs", self.id.height, self.id.width)
            }
            None => String::new(),
        };
        let set = match &self.set {
            Set::Held(set) => set.describe(),
            Set::OnDisk(pictures) => pictures.describe(),
        };
        format!("Data: {set}{padding}")
    }

    /// The class of each image, if they have labels.
    pub(super) fn labels(&self) -> Option<&[u32]> {
        match &self.set {
            Set::Held(set) => set.labels.as_deref(),
            Set::OnDisk(pictures) => pictures.labels.as_deref(),
        }
    }

    /// Number of classes, if the networks take them.
    pub(super) fn classes(&self) -> Option<usize> {
        self.id.classes()
    }

    /// What the networks are trained with on it.
    pub(super) fn gan_config(&self, config: &TrainConfig) -> GanConfig {
        config.recipe().gan_config(&self.sample(), self.classes())
    }

    /// How samples of a generator are shown beside it.
    pub fn view(&self, config: &TrainConfig) -> View {
        let conditional = config.recipe().is_generator_conditional();
        let view = match &self.set {
            Set::Held(set) => View::of(set),
            Set::OnDisk(_) => View::Grids,
        };
        view.with_classes(if conditional { &self.id.class_names } else { &[] })
    }

    /// Up to `n` real images, as the view shows them.
    ///
    /// # Errors
    /// As [`Data::reals_of`].
    pub fn shown(&self, view: &View, n: usize) -> Result<Images> {
        match view {
            View::Classes(sheet) => self.reals_of(&sheet.cells().classes),
            View::Grids | View::Plots(_) => self.reals(n),
        }
    }

    /// A real image of each class in the list: the first of its class where that comes for the first time, then the next. Black where a class has no
    /// more.
    ///
    /// # Errors
    /// [`Error::Internal`] if the data has no labels.
    pub fn reals_of(&self, classes: &[u32]) -> Result<Images> {
        let labels = self.labels().ok_or_else(|| Error::internal("images by class of data without labels"))?;
        let mut next: HashMap<u32, Box<dyn Iterator<Item = usize> + '_>> = HashMap::new();
        let mut images = Images { n: classes.len(), data: Vec::new(), ..self.reals(1)? };
        for &class in classes {
            let of_class = || -> Box<dyn Iterator<Item = usize> + '_> {
                Box::new(labels.iter().enumerate().filter(move |(_, label)| **label == class).map(|(index, _)| index))
            };
            match next.entry(class).or_insert_with(of_class).next() {
                Some(index) => images.data.extend(self.real(index)?),
                None => images.data.extend(vec![-1.0; images.c * images.h * images.w]),
            }
        }
        Ok(images)
    }

    /// Image `index`, channel by channel.
    fn real(&self, index: usize) -> Result<Vec<f32>> {
        match &self.set {
            Set::Held(set) => Ok(planar(set, index)),
            Set::OnDisk(pictures) => pictures.pick(index..index + 1).map(|set| planar(&set, 0)),
        }
    }

    /// The first `n` images, or all if there are fewer.
    pub fn reals(&self, n: usize) -> Result<Images> {
        let set = match &self.set {
            Set::Held(set) => set.clone(),
            Set::OnDisk(pictures) => Arc::new(pictures.pick(0..n.min(pictures.count()))?),
        };
        let (n, c, h, w) = (n.min(set.count), set.channels, set.height, set.width);
        Ok(Images { n, c, h, w, data: (0..n).flat_map(|index| planar(&set, index)).collect() })
    }
}

/// Image `index`, channel by channel; data sets are stored pixel by pixel.
fn planar(set: &DataSet, index: usize) -> Vec<f32> {
    let (c, pixels) = (set.channels, set.height * set.width);
    let data = set.to_f32(index);
    (0..c * pixels).map(|i| data[i % pixels * c + i / pixels]).collect()
}

/// Opens the data set of `config` as its preset needs it (size, channels), with the seed for built-in sets.
///
/// # Errors
/// [`Error::Input`] naming the file at fault.
pub fn open_data(config: &TrainConfig) -> Result<Data> {
    let source = &config.data.source;
    let options = LoadOptions { seed: config.training.seed, split: Split::Train, pad_to: None };
    let most = match config.run.data_on {
        DataOn::Auto => MAX_BYTES,
        DataOn::Device | DataOn::Host => u64::MAX,
        DataOn::Disk => 0,
    };
    let set = match with_progress(|progress| data::load_or_leave(source, &options, &config.data.policy(), most, progress))? {
        Loaded::OnDisk(pictures) => return open_pictures(config, pictures),
        Loaded::Held(_) if config.run.data_on == DataOn::Disk => {
            return Err(Error::input(format!(
                "--data {source}: only folders and ZIPs of pictures can be read while training (--data-on disk, run.data_on), and this is neither; \
                 give --data-on host"
            )));
        }
        Loaded::Held(set) => set,
    };
    if set.vectors.is_some() {
        return open_vectors(config, set);
    }
    let size = (set.height, set.width);
    let side = config.data.size.map_or(size.0.max(size.1), |size| size as usize);
    if size.0 > side || size.1 > side {
        return Err(Error::input(format!(
            "--data {source}: images are {}x{}, and preset {} takes at most {side}x{side} (data.size); choose a larger preset (see `ganymede presets`)",
            size.0, size.1, config.preset
        )));
    }
    let (set, padded_from) = if size == (side, side) { (set, None) } else { (set.pad_to(side, side)?, Some(size)) };
    let id = DataId {
        source: id_source(source),
        fingerprint: set.fingerprint(),
        channels: set.channels as u32,
        height: set.height as u32,
        width: set.width as u32,
        class_names: class_names(config, set.labels.as_deref(), &set.class_names)?,
    };
    Ok(Data { name: short_name(source), set: Set::Held(Arc::new(set)), id, padded_from })
}

/// Pictures that stay on disk come as the networks take them: nothing pads them.
fn open_pictures(config: &TrainConfig, pictures: Pictures) -> Result<Data> {
    let source = &config.data.source;
    let (height, width) = pictures.size;
    if height != width {
        return Err(Error::input(format!(
            "--data {source}: pictures of {height}x{width} that stay on disk are not padded to squares; give data.size and data.resize, as in \
             --set data.size=64 --set data.resize=crop, or keep them in memory with --data-on host"
        )));
    }
    let id = DataId {
        source: id_source(source),
        fingerprint: pictures.fingerprint().to_string(),
        channels: pictures.channels as u32,
        height: height as u32,
        width: width as u32,
        class_names: class_names(config, pictures.labels.as_deref(), &pictures.class_names)?,
    };
    Ok(Data { name: short_name(source), set: Set::OnDisk(Arc::new(pictures)), id, padded_from: None })
}

/// The names of the classes, if the networks take them.
///
/// # Errors
/// [`Error::Input`] if they do and the data has no labels.
fn class_names(config: &TrainConfig, labels: Option<&[u32]>, names: &[String]) -> Result<Vec<String>> {
    match config.class_layer() {
        None => Ok(Vec::new()),
        Some(_) if labels.is_some() => Ok(names.to_vec()),
        Some(layer) => Err(Error::input(format!(
            "--data {}: it has no labels (data.labels is {}), and {layer} takes the class of each sample; for pictures in a folder a class give --set \
             data.labels=folders, or choose data that carries its labels, or networks without class_concat",
            config.data.source,
            config.data.labels.name()
        ))),
    }
}

/// Vectors have no size in pixels, so `data.size` is not for them; but the networks must be.
fn open_vectors(config: &TrainConfig, set: DataSet) -> Result<Data> {
    let source = &config.data.source;
    if config.augment.is_on() {
        return Err(Error::input(format!(
            "--data {source}: these are points of {} numbers, and only images can be augmented; leave [augment] and --mirror out, or choose a \
             data set of images",
            set.channels
        )));
    }
    let class_names = class_names(config, set.labels.as_deref(), &set.class_names)?;
    let classes = Some(class_names.len()).filter(|&classes| classes > 0);
    let (generator, discriminator) = config.recipe().networks(&[set.channels], classes);
    generator.tensors().and(discriminator.tensors()).map_err(|error| {
        Error::input(format!(
            "--data {source}: these are points of {} numbers, which the networks cannot take ({error}); choose a data set of images, or give \
             networks for points in a --config file",
            set.channels
        ))
    })?;
    let id = DataId {
        source: id_source(source),
        fingerprint: set.fingerprint(),
        channels: set.channels as u32,
        height: 0,
        width: 0,
        class_names,
    };
    Ok(Data { name: short_name(source), set: Set::Held(Arc::new(set)), id, padded_from: None })
}

/// How a checkpoint calls the data set: files may be moved.
fn id_source(source: &str) -> String {
    if source.starts_with("builtin:") { source.to_string() } else { "files".to_string() }
}

/// What a data set is called in a run folder's name: a built-in set without its settings, else the folder or file's own name.
fn short_name(source: &str) -> String {
    if let Some(builtin) = source.strip_prefix("builtin:") {
        return builtin.split('?').next().unwrap_or(builtin).to_string();
    }
    // `.` and `..` have no name of their own.
    let path = std::fs::canonicalize(source).unwrap_or_else(|_| source.into());
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_of_data_sets() {
        for (source, name) in [
            ("builtin:digits", "digits"),
            ("builtin:digits?n=500&seed=7", "digits"),
            ("builtin:shapes-64", "shapes-64"),
            ("/no/such/fashion-mnist", "fashion-mnist"),
            ("/no/such/folder/", "folder"),
        ] {
            assert_eq!(short_name(source), name, "{source}");
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("mnist/below")).unwrap();
        assert_eq!(short_name(&dir.path().join("mnist/below/..").display().to_string()), "mnist");
    }
}
