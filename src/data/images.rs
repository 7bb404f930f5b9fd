//! A collection of pictures to a data set, on all cores.

use rayon::prelude::*;

use super::budget::Budget;
use super::collection::{Collection, Entry, Reader};
use super::decode::Opened;
use super::picture::{Picture, grey_to_rgb, rgb_to_grey};
use super::policy::{Colour, ImagePolicy, Labels};
use super::{DataSet, MAX_BYTES, Progress, checked_bytes, labels};
use crate::error::{Error, Result};

/// Most pictures that are in work at once.
const CHUNK: usize = 256;
/// Bytes of finished pictures that may wait for their turn (256 MiB).
const CHUNK_BYTES: u64 = 1 << 28;

/// What turns entries of a collection into images of one size.
pub struct Workshop<'a> {
    collection: &'a Collection,
    policy: ImagePolicy,
    /// Width and height that images must have, and the entry that decided it, if not the policy.
    pub size: (u32, u32),
    decided_by: Option<&'a Entry>,
    budget: Budget,
}

/// A finished image.
pub struct Finished {
    /// Of the size and the channels that the policy wants.
    pub picture: Picture,
    /// The file as it is, if its pixels needed no change.
    pub untouched: Option<Vec<u8>>,
}

impl<'a> Workshop<'a> {
    /// A workshop for `collection`. Where the policy has no size, the first picture decides.
    ///
    /// # Errors
    /// [`Error::Input`] if the policy is wrong, or the first picture is and has to decide.
    pub fn new(collection: &'a Collection, policy: ImagePolicy) -> Result<Self> {
        policy.check()?;
        let mut workshop = Self::of_size(collection, policy, (0, 0));
        if let Some(size) = policy.size {
            workshop.size = (size, size);
        } else {
            let first = &collection.entries[0];
            let bytes = collection.reader().read(first)?;
            let opened = Opened::new(&bytes).map_err(|fault| workshop.fault(first, &fault))?;
            (workshop.size, workshop.decided_by) = ((opened.width, opened.height), Some(first));
        }
        Ok(workshop)
    }

    /// A workshop whose size is known already, as (width, height).
    pub fn of_size(collection: &'a Collection, policy: ImagePolicy, size: (u32, u32)) -> Self {
        Self { collection, policy, size, decided_by: None, budget: Budget::new() }
    }

    /// Pictures that are made at once: as many as keep what waits for its turn small.
    pub fn chunk(&self) -> usize {
        let bytes = u64::from(self.size.0) * u64::from(self.size.1) * 3;
        (CHUNK_BYTES / bytes.max(1)).clamp(1, CHUNK as u64) as usize
    }

    /// Reads, decodes and fits one entry. `keep` asks for the file as it is where that will do.
    ///
    /// # Errors
    /// [`Error::Input`] naming the file.
    pub fn finish(&self, reader: &mut Reader, entry: &Entry, keep: bool) -> Result<Finished> {
        let bytes = reader.read(entry)?;
        let opened = Opened::new(&bytes).map_err(|fault| self.fault(entry, &fault))?;
        let fits = (opened.width, opened.height) == self.size;
        if !fits && self.policy.resize.is_none() {
            return Err(self.wrong_size(entry, opened.width, opened.height));
        }
        let (plain, channels) = (opened.is_plain(), opened.channels());
        let _share = self.budget.take(opened.cost());
        let picture = shape(opened, &self.policy, |fault| self.fault(entry, &fault))?;
        let coloured = match self.policy.colour {
            Colour::Auto => true,
            Colour::Grey => channels == 1,
            Colour::Rgb => channels == 3,
        };
        Ok(Finished { picture, untouched: (keep && fits && plain && coloured).then_some(bytes) })
    }

    /// An entry of another size than all must have.
    fn wrong_size(&self, entry: &Entry, width: u32, height: u32) -> Error {
        let (wanted_width, wanted_height) = self.size;
        let because = match self.decided_by {
            Some(first) => format!("'{}' is {wanted_width} x {wanted_height}, and all must have one size", first.name),
            None => format!("{wanted_width} x {wanted_height} is needed"),
        };
        Error::input(format!(
            "{} is {width} x {height} pixels (width x height), but {because}: choose how to resize with --resize fit, crop or stretch and --size N \
             (`ganymede data check` lists every such file)",
            self.collection.entry_shown(entry)
        ))
    }

    /// An entry that is no good.
    fn fault(&self, entry: &Entry, fault: &str) -> Error {
        Error::input(format!("{} {fault} (`ganymede data check` lists every such file)", self.collection.entry_shown(entry)))
    }
}

/// A picture as the policy wants it, if it has the right size or may be resized.
fn shape(opened: Opened, policy: &ImagePolicy, fault: impl Fn(String) -> Error) -> Result<Picture> {
    let mut picture = Picture::on_background(opened.decode().map_err(fault)?, policy.background);
    if let (Some(how), Some(size)) = (policy.resize, policy.size) {
        picture = picture.resized(how, size, policy.background)?;
    }
    Ok(picture.with_colour(policy.colour))
}

/// The bytes of one picture's file as a data set of one image; `name` is what errors and the set are called.
///
/// # Errors
/// [`Error::Input`] saying what is wrong with the picture, its size included, or with the policy.
pub fn picture_from_bytes(bytes: &[u8], name: &str, policy: &ImagePolicy) -> Result<DataSet> {
    policy.check()?;
    let fault = |fault: String| Error::input(format!("'{name}' {fault}"));
    let opened = Opened::new(bytes).map_err(fault)?;
    let size = (opened.width, opened.height);
    if let (Some(side), None) = (policy.size, policy.resize)
        && size != (side, side)
    {
        return Err(fault(format!("is {} x {} pixels, but {side} x {side} is needed: choose how to resize it", size.0, size.1)));
    }
    let picture = shape(opened, policy, fault)?;
    DataSet::new(name, (1, picture.height as usize, picture.width as usize, picture.channels), picture.pixels, None, Vec::new())
}

/// The whole collection as a data set. The result does not depend on the number of threads; of several faults, the first in the order of the
/// names is reported.
///
/// # Errors
/// [`Error::Input`] naming the file at fault, and if the images would take more than [`MAX_BYTES`].
pub fn load(collection: &Collection, policy: &ImagePolicy, progress: Progress) -> Result<DataSet> {
    let labels = labels::of(collection, policy.labels)?;
    let workshop = Workshop::new(collection, *policy)?;
    let (width, height) = (workshop.size.0 as usize, workshop.size.1 as usize);
    let total = collection.entries.len();
    let too_much = |channels: usize| {
        Error::input(format!(
            "the {total} pictures of '{}' would take more than {} GiB at {width} x {height} x {channels}: choose a smaller --size, or train with \
             --data-on disk, which reads them as they are needed",
            collection.shown,
            MAX_BYTES >> 30
        ))
    };
    let mut channels = if policy.colour == Colour::Rgb { 3 } else { 1 };
    checked_bytes(&[total, height, width, channels]).ok_or_else(|| too_much(channels))?;
    let mut pixels = Vec::new();
    let mut done = 0;
    for chunk in collection.entries.chunks(workshop.chunk()) {
        let finished: Vec<Result<Finished>> =
            chunk.par_iter().map_init(|| collection.reader(), |reader, entry| workshop.finish(reader, entry, false)).collect();
        for finished in finished {
            let picture = finished?.picture;
            if channels == 1 && picture.channels == 3 {
                // The first picture in colour: those before it were grey.
                channels = 3;
                checked_bytes(&[total, height, width, 3]).ok_or_else(|| too_much(3))?;
                pixels = grey_to_rgb(&pixels);
            }
            if channels == 3 && picture.channels == 1 {
                pixels.extend(grey_to_rgb(&picture.pixels));
            } else {
                pixels.extend(picture.pixels);
            }
        }
        done += chunk.len();
        progress(done, total);
    }
    pixels.shrink_to_fit();
    let (labels, names) = labels.map_or((None, Vec::new()), |(labels, names)| (Some(labels), names));
    DataSet::new(collection.name.clone(), (total, height, width, channels), pixels, labels, names)
}

/// A data set that did not come from pictures, as the policy wants it. Without a policy for resizing, the size stays: small images may be padded
/// later ([`DataSet::pad_to`]).
///
/// # Errors
/// [`Error::Input`] if the policy is wrong, or wants labels from where there are none.
pub fn apply(set: DataSet, policy: &ImagePolicy) -> Result<DataSet> {
    policy.check()?;
    if set.vectors.is_some() && (policy.colour, policy.resize) != (Colour::Auto, None) {
        return Err(Error::input(format!("'{}' holds points, which have no colour and no size: leave colour and resize out", set.name)));
    }
    let set = match policy.labels {
        Labels::Auto => set,
        Labels::None => DataSet { labels: None, class_names: Vec::new(), ..set },
        Labels::Folders | Labels::Json => {
            return Err(Error::input(format!(
                "'{}' is no collection of pictures, so that labels come neither from folders nor from a dataset.json: leave --labels out, or \
                 choose none",
                set.name
            )));
        }
    };
    let set = match (policy.colour, set.channels) {
        (Colour::Grey, 3) => DataSet { images: rgb_to_grey(&set.images), channels: 1, ..set },
        (Colour::Rgb, 1) => {
            if checked_bytes(&[set.images.len(), 3]).is_none() {
                return Err(Error::input(format!("'{}' in RGB would take more than {} GiB", set.name, MAX_BYTES >> 30)));
            }
            DataSet { images: grey_to_rgb(&set.images), channels: 3, ..set }
        }
        _ => set,
    };
    let (Some(how), Some(size)) = (policy.resize, policy.size) else { return Ok(set) };
    let side = size as usize;
    if (set.width, set.height) == (side, side) {
        return Ok(set);
    }
    if checked_bytes(&[set.count, side, side, 3]).is_none() {
        return Err(Error::input(format!(
            "the {} images of '{}' would take more than {} GiB at {side} x {side}: choose a smaller --size",
            set.count,
            set.name,
            MAX_BYTES >> 30
        )));
    }
    let resized: Vec<Result<Picture>> = (0..set.count)
        .into_par_iter()
        .map(|index| {
            let pixels = set.image(index).to_vec();
            let picture = Picture { width: set.width as u32, height: set.height as u32, channels: set.channels, pixels };
            let picture = picture.resized(how, size, policy.background)?;
            // A border in colour does not make grey images coloured that were asked to be grey.
            Ok(if policy.colour == Colour::Grey { picture.with_colour(Colour::Grey) } else { picture })
        })
        .collect();
    let (mut images, mut channels) = (Vec::new(), set.channels);
    for picture in resized {
        // A coloured border makes all images coloured, for all have the same size.
        let picture = picture?;
        channels = picture.channels;
        images.extend(picture.pixels);
    }
    DataSet::new(set.name, (set.count, side, side, channels), images, set.labels, set.class_names)
}
