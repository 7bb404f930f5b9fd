//! What is in a data set, and what would stop training on it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::budget::Budget;
use super::collection::{Collection, Entry, Reader};
use super::decode::{Opened, format_name};
use super::open::{Opened as Source, open};
use super::policy::Colour;
use super::{DataSet, ImagePolicy, LoadOptions, MAX_BYTES, Progress, checked_bytes, images, labels};
use crate::error::{Error, Result};

/// Pictures that are looked at before the progress is told.
const CHUNK: usize = 256;

/// What [`check`] found. Its [`Display`](fmt::Display) lists all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What was looked at.
    pub name: String,
    /// Pictures in it.
    pub total: usize,
    /// How many there are of each: formats, sizes as (width, height), modes of pixels.
    pub formats: BTreeMap<&'static str, usize>,
    /// By width and height, as shown.
    pub sizes: BTreeMap<(u32, u32), usize>,
    /// What a pixel is in the file.
    pub modes: BTreeMap<&'static str, usize>,
    /// Files that are no pictures, by extension.
    pub others: BTreeMap<String, usize>,
    /// Pictures that a camera's note turned upright.
    pub turned: usize,
    /// Name and pictures of each class, if there are labels.
    pub classes: Option<Vec<(String, usize)>>,
    /// What is wrong with the whole: labels, total size.
    pub faults: Vec<String>,
    /// For each file that cannot be read or decoded, what is wrong with it.
    pub broken: Vec<String>,
    /// Files of another size than the one that is wanted, or that most have.
    pub odd_sized: Vec<(String, (u32, u32))>,
    /// Files of another mode than most have.
    pub odd_mode: Vec<(String, &'static str)>,
    /// Groups of files with the same pixels.
    pub duplicates: Vec<Vec<String>>,
    /// Other sizes are resized, so that they stop nothing.
    pub resizes: bool,
}

/// What one file is.
struct Seen {
    format: &'static str,
    size: (u32, u32),
    mode: &'static str,
    turned: bool,
    pixels: [u8; 32],
}

/// Reads and decodes everything that `spec` names, and reports what is there, what is odd, and what would stop training under `policy`.
///
/// # Errors
/// [`Error::Input`] if nothing can be looked at: the path, the archive or the array is wrong, or the policy.
pub fn check(spec: &str, options: &LoadOptions, policy: &ImagePolicy, progress: Progress) -> Result<Report> {
    policy.check()?;
    match open(spec, options)? {
        Source::Arrays(set) => of_arrays(set, policy),
        Source::Pictures(pictures) => Ok(of_pictures(&pictures, policy, progress)),
    }
}

fn of_arrays(set: DataSet, policy: &ImagePolicy) -> Result<Report> {
    let own = (set.width as u32, set.height as u32);
    let mode = if set.channels == 1 { "grey" } else { "RGB" };
    let prints: Vec<[u8; 32]> = (0..set.count).into_par_iter().map(|index| Sha256::digest(set.image(index)).into()).collect();
    let wanted = policy.size.map_or(own, |size| (size, size));
    let resizes = policy.resize.is_some();
    let mut faults = Vec::new();
    if !resizes && (own.0 > wanted.0 || own.1 > wanted.1) {
        faults.push(format!(
            "images are {} x {}, larger than {} x {}: choose how to shrink them with --resize fit, crop or stretch",
            own.0, own.1, wanted.0, wanted.1
        ));
    }
    let mut report = Report {
        name: set.name.clone(),
        total: set.count,
        sizes: BTreeMap::from([(own, set.count)]),
        modes: BTreeMap::from([(mode, set.count)]),
        faults,
        duplicates: same(prints.iter().enumerate().map(|(index, &print)| (format!("image {index}"), print))),
        resizes,
        ..Report::default()
    };
    let set = images::apply(set, policy)?;
    report.classes = set.labels.map(|labels| counts(&labels, &set.class_names));
    Ok(report)
}

fn of_pictures(pictures: &Collection, policy: &ImagePolicy, progress: Progress) -> Report {
    let mut report = Report {
        name: pictures.name.clone(),
        total: pictures.entries.len(),
        others: pictures.others.clone(),
        resizes: policy.resize.is_some(),
        ..Report::default()
    };
    let budget = Budget::new();
    let mut seen: Vec<(&str, Seen)> = Vec::new();
    for chunk in pictures.entries.chunks(CHUNK) {
        let looked: Vec<Result<Seen>> =
            chunk.par_iter().map_init(|| pictures.reader(), |reader, entry| look(pictures, reader, entry, &budget)).collect();
        for (entry, looked) in chunk.iter().zip(looked) {
            match looked {
                Ok(picture) => seen.push((&entry.name, picture)),
                Err(error) => report.broken.push(error.to_string()),
            }
        }
        progress(seen.len() + report.broken.len(), report.total);
    }
    for (_, picture) in &seen {
        *report.formats.entry(picture.format).or_default() += 1;
        *report.sizes.entry(picture.size).or_default() += 1;
        *report.modes.entry(picture.mode).or_default() += 1;
        report.turned += usize::from(picture.turned);
    }
    let wanted = policy.size.map(|size| (size, size)).or_else(|| most(&report.sizes));
    let usual_mode = most(&report.modes);
    for (name, picture) in &seen {
        if Some(picture.size) != wanted {
            report.odd_sized.push((name.to_string(), picture.size));
        }
        if Some(picture.mode) != usual_mode {
            report.odd_mode.push((name.to_string(), picture.mode));
        }
    }
    report.duplicates = same(seen.iter().map(|(name, picture)| (name.to_string(), picture.pixels)));
    match labels::of(pictures, policy.labels) {
        Ok(found) => report.classes = found.map(|(labels, names)| counts(&labels, &names)),
        Err(error) => report.faults.push(error.to_string()),
    }
    if let Some((width, height)) = wanted {
        let channels = if policy.colour == Colour::Rgb { 3 } else { 1 };
        if checked_bytes(&[report.total, height as usize, width as usize, channels]).is_none() {
            report.faults.push(format!(
                "{} pictures of {width} x {height} would take more than {} GiB: choose a smaller size with --resize and --size",
                report.total,
                MAX_BYTES >> 30
            ));
        }
    }
    report
}

fn look(pictures: &Collection, reader: &mut Reader, entry: &Entry, budget: &Budget) -> Result<Seen> {
    let fault = |fault: String| Error::input(format!("{} {fault}", pictures.entry_shown(entry)));
    let bytes = reader.read(entry)?;
    let opened = Opened::new(&bytes).map_err(fault)?;
    let (format, size, mode, turned) = (format_name(opened.format), (opened.width, opened.height), opened.mode, opened.is_turned());
    // Decoded, and once more with four channels of 8 bits.
    let _share = budget.take(2 * opened.cost());
    let image = opened.decode().map_err(fault)?.into_rgba8();
    let mut hasher = Sha256::new();
    hasher.update(size.0.to_le_bytes());
    hasher.update(image.as_raw());
    Ok(Seen { format, size, mode, turned, pixels: hasher.finalize().into() })
}

/// The commonest; of several, the first.
fn most<K: Copy + Ord>(counts: &BTreeMap<K, usize>) -> Option<K> {
    counts.iter().rev().max_by_key(|(_, count)| **count).map(|(key, _)| *key)
}

/// Pictures per class.
fn counts(labels: &[u32], names: &[String]) -> Vec<(String, usize)> {
    let mut counts: Vec<(String, usize)> = names.iter().map(|name| (name.clone(), 0)).collect();
    for &label in labels {
        counts[label as usize].1 += 1;
    }
    counts
}

/// Names with the same pixels, in groups, in the order of their first ones.
fn same(prints: impl Iterator<Item = (String, [u8; 32])>) -> Vec<Vec<String>> {
    let mut place: HashMap<[u8; 32], usize> = HashMap::new();
    let mut groups: Vec<Vec<String>> = Vec::new();
    for (name, print) in prints {
        let next = groups.len();
        let group = *place.entry(print).or_insert(next);
        if group == next {
            groups.push(Vec::new());
        }
        groups[group].push(name);
    }
    groups.retain(|group| group.len() > 1);
    groups
}

impl Report {
    /// What would stop training, in a few words each; empty if nothing does.
    pub fn stops(&self) -> Vec<String> {
        let mut stops = Vec::new();
        if !self.broken.is_empty() {
            stops.push(format!("{} broken", self.broken.len()));
        }
        if !self.resizes && !self.odd_sized.is_empty() {
            stops.push(format!("{} of another size, which --resize fit, crop or stretch with --size N mends", self.odd_sized.len()));
        }
        stops.extend(self.faults.iter().cloned());
        stops
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<K>(counts: &BTreeMap<K, usize>, name: impl Fn(&K) -> String) -> String {
            let mut counts: Vec<_> = counts.iter().collect();
            // The commonest first; the map's order decides between equals.
            counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            counts.iter().map(|(key, count)| format!("{} ({count})", name(key))).collect::<Vec<_>>().join(", ")
        }
        let size = |&(width, height): &(u32, u32)| format!("{width} x {height}");
        writeln!(f, "{}: {} images", self.name, self.total)?;
        if !self.formats.is_empty() {
            writeln!(f, "  formats: {}", list(&self.formats, |name| name.to_string()))?;
        }
        writeln!(f, "  sizes, width x height: {}", list(&self.sizes, size))?;
        writeln!(f, "  modes: {}", list(&self.modes, |name| name.to_string()))?;
        if self.turned > 0 {
            writeln!(f, "  turned upright by the camera's note: {}", self.turned)?;
        }
        match &self.classes {
            None => writeln!(f, "  labels: none")?,
            Some(classes) => {
                let least = classes.iter().map(|(_, count)| count).min().unwrap_or(&0);
                let most = classes.iter().map(|(_, count)| count).max().unwrap_or(&0);
                writeln!(f, "  labels: {} classes of {least} to {most} images", classes.len())?;
            }
        }
        if !self.others.is_empty() {
            writeln!(f, "  other files, ignored: {}", list(&self.others, Clone::clone))?;
        }
        writeln!(f, "broken: {}", self.broken.len())?;
        for text in &self.broken {
            writeln!(f, "  {text}")?;
        }
        let resized = if self.resizes && !self.odd_sized.is_empty() { " (to be resized)" } else { "" };
        writeln!(f, "odd-sized: {}{resized}", self.odd_sized.len())?;
        for (name, dimensions) in &self.odd_sized {
            writeln!(f, "  {name}: {}", size(dimensions))?;
        }
        let converted = if self.odd_mode.is_empty() { "" } else { " (to be converted)" };
        writeln!(f, "odd-mode: {}{converted}", self.odd_mode.len())?;
        for (name, mode) in &self.odd_mode {
            writeln!(f, "  {name}: {mode}")?;
        }
        let surplus: usize = self.duplicates.iter().map(|group| group.len() - 1).sum();
        writeln!(f, "duplicates: {surplus}")?;
        for group in &self.duplicates {
            writeln!(f, "  {}", group.join(" = "))?;
        }
        for fault in &self.faults {
            writeln!(f, "fault: {fault}")?;
        }
        Ok(())
    }
}
