//! Data sets: reading them, making them, checking them.
//!
//! A [`DataSet`] is a block of 8-bit images of one size, or of vectors of one length, with or without class labels. [`load`] makes one from a *spec*, the text that a user
//! writes after `--data`:
//!
//! | spec | what it loads |
//! |---|---|
//! | `builtin:digits` | 28 x 28 grey handwritten digits, drawn by our own pen model ([`digits`]); 10 classes |
//! | `builtin:shapes` | 32 x 32 RGB shapes in saturated colours ([`shapes`]); 8 classes |
//! | `builtin:shapes-64` | the same at 64 x 64 |
//! | `builtin:ring` | points of 8 Gaussians on a circle ([`points`]); labels name the Gaussian |
//! | `builtin:grid` | points of 25 Gaussians on a square grid ([`points`]); labels name the Gaussian |
//! | `builtin:gaussian` | vectors of a correlated Gaussian in 5 dimensions ([`points`]) |
//! | a folder | IDX files as MNIST and Fashion-MNIST ship them ([`idx`]), CIFAR-10's binary batches ([`cifar`]), or pictures (PNG, JPEG, WebP, BMP, GIF), also in sub-folders |
//! | a `.zip` | pictures, with StyleGAN's `dataset.json` for labels |
//! | a `.npy` or `.npz` | NumPy's arrays ([`npy`]) |
//! | a `.tar.gz` or `.bin` | CIFAR-10 as it is distributed, or one batch of it |
//! | another file | one IDX images file; a labels file beside it is used if its name matches |
//!
//! What a file is, is told by its first bytes; only a CIFAR-10 batch, which has none of its own, by its name. Pictures of several sizes, modes and
//! colours become one data set by an [`ImagePolicy`].
//!
//! A built-in set takes its size and seed after a question mark: `builtin:digits?n=20000`, `builtin:digits?20000`, `builtin:shapes?n=500&seed=7`.
//! It has 10,000 images or points unless told otherwise ([`BUILTIN_COUNT`]), costs no download, and is the same, byte for byte, on every machine: the
//! generators use counter-based random numbers and no function whose rounding a platform may choose (only + - * / and sqrt).
//!
//! ```
//! use ganymede::data::{self, LoadOptions, SheetOrder, Split};
//!
//! let train = data::load("builtin:digits?n=1000", &LoadOptions::default())?;
//! assert_eq!((train.count, train.height, train.width, train.channels), (1000, 28, 28, 1));
//!
//! // Reals that training never sees, for the evaluation.
//! let held_out = data::load("builtin:digits?n=1000", &LoadOptions { split: Split::Test, ..LoadOptions::default() })?;
//! assert_ne!(train.fingerprint(), held_out.fingerprint());
//!
//! // A network for 32 x 32 images wants a border; ten rows with one column per class make a sheet to look at.
//! let padded = train.pad_to(32, 32)?;
//! let sheet = padded.contact_sheet(10, 10, SheetOrder::ByClass);
//! assert_eq!(padded.to_f32(0).len(), 32 * 32);
//! # let _ = sheet;
//! # Ok::<(), ganymede::error::Error>(())
//! ```
//!
//! # Conventions
//! - Images are stored as `[index][height][width][channel]` without padding, 0 dark and 255 bright; [`DataSet::to_f32`] maps them to [-1, 1].
//! - Vectors are f32, stored as `[index][feature]`, and taken as they are.
//! - [`Split::Train`] is what training sees. [`Split::Test`] is for measuring: the test files of a folder, or a separate stream of a generator.
//! - Everything that can be wrong with a file is an [`Error::Input`] that names the file, says what was expected and what was found, and what to
//!   do about it. Memory is never reserved on the word of a file's header alone.
//! - [`DataSet::fingerprint`] identifies the content. Checkpoints store it, so that a resumed run notices other data, or a generator that changed.

mod archive;
mod budget;
mod check;
mod collection;
mod convert;
mod decode;
mod draw;
mod fingerprint;
mod images;
mod labels;
mod letters;
mod open;
mod picture;
mod pictures;

pub mod cifar;
pub mod digits;
pub mod idx;
mod normal;
pub mod npy;
pub mod points;
pub mod policy;
pub mod shapes;
mod sheet;
pub mod stream;
mod vectors;

pub use check::{Report, check};
pub use collection::LABELS_FILE;
pub use convert::{Converted, convert};
pub use images::picture_from_bytes;
pub use labels::LabelsFile;
pub use open::pictures_from_zip_bytes;
pub use pictures::{Loaded, Pictures, load_or_leave};
pub use policy::ImagePolicy;
pub use sheet::SheetOrder;
pub use vectors::{Modes, Vectors};

use crate::error::{Error, Result};
use draw::Draw;
use fingerprint::Fingerprint;
use points::Points;

/// Images in a built-in set when the spec does not say: enough for ten epochs of a short run to differ, small enough to be made in a blink.
pub const BUILTIN_COUNT: usize = 10_000;

/// Most bytes of pixels that one data set may hold in memory (8 GiB).
pub const MAX_BYTES: u64 = 1 << 33;

/// The built-in sets, as a spec names them.
pub const BUILTIN_NAMES: [&str; 6] =
    ["builtin:digits", "builtin:shapes", "builtin:shapes-64", "builtin:ring", "builtin:grid", "builtin:gaussian"];

/// Which part of a data set to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Split {
    /// What training sees: `train-*` files, or the first stream of a generator.
    #[default]
    Train,
    /// Held-out images for evaluation: `t10k-*` or `test-*` files, or the second stream of a generator.
    Test,
}

/// How [`load`] loads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Seed of the built-in generators, unless the spec names one. Files ignore it.
    pub seed: u64,
    /// Train (the default) or test images.
    pub split: Split,
    /// Pads the images to this (height, width) after loading; see [`DataSet::pad_to`].
    pub pad_to: Option<(usize, usize)>,
}

/// Told how many of how many pictures are done, now and then, from the thread that loads.
pub type Progress<'a> = &'a dyn Fn(usize, usize);

/// Images of one size, or vectors of one length, in memory, with their labels if they have any.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSet {
    /// For people: the folder's or file's name, or the built-in set with its generator version, size and seed.
    pub name: String,
    /// Pixels, `[count][height][width][channels]`, no padding; empty where the set holds vectors.
    pub images: Vec<u8>,
    /// The values of a set of vectors, in place of pixels; `None` for images.
    pub vectors: Option<Vectors>,
    /// One class index per image, each below `class_names.len()`; `None` where the data has no labels.
    pub labels: Option<Vec<u32>>,
    /// Number of images or vectors, at least 1.
    pub count: usize,
    /// Height in pixels; 1 for vectors.
    pub height: usize,
    /// Width in pixels; 1 for vectors.
    pub width: usize,
    /// 1 (grey) or 3 (RGB); the length of vectors.
    pub channels: usize,
    /// A name per class; empty where there are no labels.
    pub class_names: Vec<String>,
}

impl DataSet {
    /// A set of images from parts, checked. Of vectors: [`DataSet::of_vectors`].
    ///
    /// `shape` is (count, height, width, channels).
    ///
    /// # Errors
    /// [`Error::Input`] if a dimension is zero, channels are neither 1 nor 3, a length does not fit the shape, or a label has no class name.
    pub fn new(
        name: impl Into<String>,
        shape: (usize, usize, usize, usize),
        images: Vec<u8>,
        labels: Option<Vec<u32>>,
        class_names: Vec<String>,
    ) -> Result<Self> {
        let name = name.into();
        let (count, height, width, channels) = shape;
        if count == 0 || height == 0 || width == 0 {
            return Err(Error::input(format!("data set '{name}' is empty: {count} images of {height} x {width} pixels")));
        }
        if channels != 1 && channels != 3 {
            return Err(Error::input(format!("data set '{name}' has {channels} channels; expected 1 (grey) or 3 (RGB)")));
        }
        let expected = checked_bytes(&[count, height, width, channels]);
        if expected != Some(images.len() as u64) {
            return Err(Error::input(format!(
                "data set '{name}' holds {} bytes, which is not {count} x {height} x {width} x {channels}",
                images.len()
            )));
        }
        check_labels(&name, "images", count, labels.as_deref(), class_names.len())?;
        Ok(Self { name, images, vectors: None, labels, count, height, width, channels, class_names })
    }

    /// Values per image, a byte each, or per vector.
    pub fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Pixels of image `index`, `[height][width][channels]`.
    ///
    /// # Panics
    /// If `index` is not below `count`, or the set holds vectors.
    pub fn image(&self, index: usize) -> &[u8] {
        let len = self.image_len();
        &self.images[index * len..(index + 1) * len]
    }

    /// Number of classes; 0 where there are no labels.
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// Image `index` as f32 in [-1, 1] (`u8 / 127.5 - 1`, the range of a tanh generator), `[height][width][channels]`; or vector `index` as it is.
    ///
    /// # Panics
    /// If `index` is not below `count`.
    pub fn to_f32(&self, index: usize) -> Vec<f32> {
        self.gather_f32([index])
    }

    /// The images or vectors `indices` one after another, each as [`to_f32`](Self::to_f32) gives it: rows for [`crate::eval::swd::sliced_wasserstein`].
    ///
    /// # Panics
    /// If an index is not below `count`.
    pub fn gather_f32(&self, indices: impl IntoIterator<Item = usize>) -> Vec<f32> {
        let len = self.image_len();
        match &self.vectors {
            Some(Vectors { values, .. }) => {
                indices.into_iter().flat_map(|index| &values[index * len..(index + 1) * len]).copied().collect()
            }
            None => indices.into_iter().flat_map(|index| self.image(index)).map(|&byte| normalised(byte)).collect(),
        }
    }

    /// Takes `held_out` images out of the set: (what is left, the ones taken out). The choice is by `seed` alone; both parts keep the order.
    ///
    /// For data that comes without a test split. Built-in sets have one of their own: load them with [`Split::Test`].
    ///
    /// # Errors
    /// [`Error::Input`] unless at least one image stays on each side.
    pub fn split_held_out(self, held_out: usize, seed: u64) -> Result<(DataSet, DataSet)> {
        if held_out == 0 || held_out >= self.count {
            return Err(Error::input(format!(
                "cannot hold {held_out} images out of '{}', which has {}: hold out at least 1 and leave at least 1",
                self.name, self.count
            )));
        }
        // A partial Fisher-Yates shuffle: the first `held_out` places are a uniform choice without repetition.
        let mut draw = Draw::new(b"held-out", seed, 0, 0);
        let mut order: Vec<usize> = (0..self.count).collect();
        for place in 0..held_out {
            let other = place + draw.below(self.count - place);
            order.swap(place, other);
        }
        let mut taken = vec![false; self.count];
        for &index in &order[..held_out] {
            taken[index] = true;
        }
        let pick = |wanted: bool| (0..self.count).filter(|&index| taken[index] == wanted).collect::<Vec<_>>();
        let (kept, out) = (pick(false), pick(true));
        Ok((
            self.subset(&kept, format!("{}, {} held out", self.name, held_out)),
            self.subset(&out, format!("{}, the held-out {}", self.name, held_out)),
        ))
    }

    /// The images `indices`, in that order, under a new name.
    ///
    /// # Panics
    /// If an index is not below `count` or there are none.
    pub fn subset(&self, indices: &[usize], name: impl Into<String>) -> DataSet {
        assert!(!indices.is_empty(), "a data set has at least one image");
        let (mut images, mut vectors) = (Vec::new(), None);
        match &self.vectors {
            Some(Vectors { modes, .. }) => {
                vectors = Some(Vectors { values: self.gather_f32(indices.iter().copied()), modes: modes.clone() });
            }
            None => {
                images.reserve_exact(indices.len() * self.image_len());
                indices.iter().for_each(|&index| images.extend_from_slice(self.image(index)));
            }
        }
        DataSet {
            name: name.into(),
            images,
            vectors,
            labels: self.labels.as_ref().map(|labels| indices.iter().map(|&index| labels[index]).collect()),
            count: indices.len(),
            class_names: self.class_names.clone(),
            ..*self
        }
    }

    /// The same images centred in a larger frame. The extra row or column of an odd difference goes to the bottom or right.
    ///
    /// The border is 0, the darkest value (-1 to the networks). MNIST-like data is bright ink on 0, so there the border continues the
    /// background and no edge appears; and a constant at the end of tanh's range is something every generator learns in its first steps, so it
    /// hides nothing from the discriminator for long. On photographs it frames the image in black: resize those instead.
    ///
    /// # Errors
    /// [`Error::Input`] if the frame is smaller than the images (padding never crops), or the set holds vectors.
    pub fn pad_to(&self, height: usize, width: usize) -> Result<DataSet> {
        self.require_images("padding")?;
        if height < self.height || width < self.width {
            return Err(Error::input(format!(
                "cannot pad the {} x {} images of '{}' to {height} x {width}: choose at least their own size",
                self.height, self.width, self.name
            )));
        }
        if checked_bytes(&[self.count, height, width, self.channels]).is_none() {
            return Err(Error::input(format!(
                "padding the {} images of '{}' to {height} x {width} would take more than {} GiB: choose a smaller frame",
                self.count,
                self.name,
                MAX_BYTES >> 30
            )));
        }
        let (top, left) = ((height - self.height) / 2, (width - self.width) / 2);
        let row_len = self.width * self.channels;
        let mut images = vec![0; self.count * height * width * self.channels];
        for (image, padded) in self.images.chunks_exact(self.image_len()).zip(images.chunks_exact_mut(height * width * self.channels)) {
            for (y, row) in image.chunks_exact(row_len).enumerate() {
                let start = ((top + y) * width + left) * self.channels;
                padded[start..start + row_len].copy_from_slice(row);
            }
        }
        Ok(DataSet {
            name: self.name.clone(),
            images,
            vectors: None,
            labels: self.labels.clone(),
            class_names: self.class_names.clone(),
            height,
            width,
            ..*self
        })
    }

    /// SHA-256, in hexadecimal, of shape, pixels (or the bits of the vectors) and labels. The name does not enter, so that a folder may move.
    pub fn fingerprint(&self) -> String {
        let shape = [self.count, self.height, self.width, self.channels, self.classes()];
        let mut print = if self.vectors.is_some() { Fingerprint::of_vectors(shape) } else { Fingerprint::of_images(shape) };
        print.update(&self.images);
        for value in self.vectors.iter().flat_map(|vectors| &vectors.values) {
            print.update(&value.to_bits().to_le_bytes());
        }
        print.finish(self.labels.as_deref())
    }

    /// One line for people: `fashion-mnist (train): 60000 images, 28 x 28 grey, 10 classes`, or `…: 10000 points of 2 numbers, 8 classes`.
    pub fn describe(&self) -> String {
        let colour = if self.channels == 1 { "grey" } else { "RGB" };
        let classes = if self.labels.is_some() { format!("{} classes", self.classes()) } else { "no labels".into() };
        match self.vectors {
            Some(_) => format!("{}: {} points of {} numbers, {classes}", self.name, self.count, self.channels),
            None => format!("{}: {} images, {} x {} {colour}, {classes}", self.name, self.count, self.height, self.width),
        }
    }
}

/// Loads the data set that `spec` names, with the default [`ImagePolicy`]; the module's documentation lists the forms.
///
/// # Errors
/// [`Error::Input`] for everything that can be wrong with the spec or the files. The message names the file and says what to do.
pub fn load(spec: &str, options: &LoadOptions) -> Result<DataSet> {
    load_with(spec, options, &ImagePolicy::default(), &|_, _| {})
}

/// [`load`] with a policy for pictures. Pictures must have the policy's size or be resized to it; arrays (IDX, CIFAR-10, NumPy, built-in sets) are
/// resized if it says so, and else keep their size, to be padded if need be.
///
/// # Errors
/// As [`load`]; and [`Error::Input`] for a policy that is wrong or that the data cannot follow.
pub fn load_with(spec: &str, options: &LoadOptions, policy: &ImagePolicy, progress: Progress) -> Result<DataSet> {
    let set = match open::open(spec, options)? {
        open::Opened::Arrays(set) => images::apply(set, policy)?,
        open::Opened::Pictures(pictures) => images::load(&pictures, policy, progress)?,
    };
    match options.pad_to {
        Some((height, width)) => set.pad_to(height, width),
        None => Ok(set),
    }
}

fn load_builtin(spec: &str, builtin: &str, options: &LoadOptions) -> Result<DataSet> {
    let (name, query) = builtin.split_once('?').map_or((builtin, None), |(name, query)| (name, Some(query)));
    let too_large = |size: &str| Error::input(format!("data '{spec}': {size} would take more than {} GiB: ask for fewer", MAX_BYTES >> 30));
    if let Some(points) = Points::named(name) {
        let (count, seed) = builtin_query(spec, query, options.seed)?;
        checked_bytes(&[count, points.features(), 4]).ok_or_else(|| too_large(&format!("{count} points")))?;
        return points::generate(points, count, seed, options.split);
    }
    let side = match name {
        "digits" => digits::SIDE,
        "shapes" => 32,
        "shapes-64" => 64,
        _ => {
            let wanted = format!("builtin:{name}");
            let nearest =
                BUILTIN_NAMES.iter().min_by_key(|known| edit_distance(known, &wanted)).filter(|known| edit_distance(known, &wanted) <= 4);
            let hint = nearest.map(|known| format!("; did you mean {known}?")).unwrap_or_default();
            return Err(Error::input(format!("there is no built-in data set '{wanted}': there are {}{hint}", BUILTIN_NAMES.join(", "))));
        }
    };
    let (count, seed) = builtin_query(spec, query, options.seed)?;
    let bytes = [count, side, side, if name == "digits" { 1 } else { 3 }];
    checked_bytes(&bytes).ok_or_else(|| too_large(&format!("{count} images")))?;
    match name {
        "digits" => digits::generate(count, seed, options.split),
        _ => shapes::generate(count, side, seed, options.split),
    }
}

/// `n=500&seed=7`, or just `500`: (count, seed).
fn builtin_query(spec: &str, query: Option<&str>, default_seed: u64) -> Result<(usize, u64)> {
    let (mut count, mut seed) = (BUILTIN_COUNT, default_seed);
    for part in query.into_iter().flat_map(|query| query.split('&')) {
        let (key, value) = part.split_once('=').unwrap_or(("n", part));
        let bad = |expected: &str| {
            Error::input(format!("data '{spec}': '{part}' is not {expected}; write for example builtin:digits?n=20000&seed=7"))
        };
        match key {
            "n" => count = value.parse().ok().filter(|&n| n > 0).ok_or_else(|| bad("a number of images or points, at least 1"))?,
            "seed" => seed = value.parse().map_err(|_| bad("a seed, a whole number from 0"))?,
            _ => return Err(bad("a setting of a built-in set (n, seed)")),
        }
    }
    Ok((count, seed))
}

fn normalised(byte: u8) -> f32 {
    f32::from(byte) / 127.5 - 1.0
}

/// Labels must be one for each of the `count` `things` (images, points), and each the index of a class.
fn check_labels(name: &str, things: &str, count: usize, labels: Option<&[u32]>, classes: usize) -> Result<()> {
    let Some(labels) = labels else { return Ok(()) };
    if labels.len() != count {
        return Err(Error::input(format!("data set '{name}' has {count} {things} but {} labels", labels.len())));
    }
    match labels.iter().position(|&label| label as usize >= classes) {
        Some(index) => Err(Error::input(format!(
            "data set '{name}': the label of {} {index} is {}, but there are {classes} classes",
            things.trim_end_matches('s'),
            labels[index]
        ))),
        None => Ok(()),
    }
}

/// The product of `dimensions`, or `None` if it overflows or exceeds [`MAX_BYTES`].
fn checked_bytes(dimensions: &[usize]) -> Option<u64> {
    dimensions.iter().try_fold(1u64, |product, &dimension| product.checked_mul(dimension as u64)).filter(|&bytes| bytes <= MAX_BYTES)
}

/// Levenshtein's distance: insertions, deletions and replacements of bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> DataSet {
        let images = (0..4 * 2 * 3).map(|i| i as u8).collect();
        DataSet::new("tiny", (4, 2, 3, 1), images, Some(vec![0, 1, 1, 0]), vec!["a".into(), "b".into()]).unwrap()
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let names = vec!["a".to_string()];
        let refused =
            |shape, bytes: usize, labels| DataSet::new("x", shape, vec![0; bytes], labels, names.clone()).unwrap_err().to_string();
        assert!(refused((0, 2, 2, 1), 0, None).contains("is empty"));
        assert!(refused((1, 2, 2, 2), 8, None).contains("2 channels"));
        assert!(refused((2, 2, 2, 1), 7, None).contains("holds 7 bytes"));
        assert!(refused((2, 2, 2, 1), 8, Some(vec![0])).contains("2 images but 1 labels"));
        assert!(refused((2, 2, 2, 1), 8, Some(vec![0, 1])).contains("label of image 1 is 1"));
        assert!(refused((usize::MAX, usize::MAX, 2, 1), 8, None).contains("holds 8 bytes"));
    }

    #[test]
    fn pixels_are_normalised_to_minus_one_to_one() {
        let set = DataSet::new("x", (1, 1, 3, 1), vec![0, 255, 51], None, Vec::new()).unwrap();
        assert_eq!(set.to_f32(0), [-1.0, 1.0, 51.0 / 127.5 - 1.0]);
        let set = tiny();
        assert_eq!(set.gather_f32([2, 0]), [set.to_f32(2), set.to_f32(0)].concat());
    }

    #[test]
    fn padding_centres_with_the_odd_row_at_the_bottom() {
        let padded = tiny().pad_to(5, 4).unwrap();
        assert_eq!((padded.height, padded.width), (5, 4));
        #[rustfmt::skip]
        assert_eq!(padded.image(1), [
            0, 0, 0, 0,
            6, 7, 8, 0,
            9, 10, 11, 0,
            0, 0, 0, 0,
            0, 0, 0, 0,
        ]);
        let colour = DataSet::new("c", (1, 1, 1, 3), vec![1, 2, 3], None, Vec::new()).unwrap().pad_to(1, 3).unwrap();
        assert_eq!(colour.images, [0, 0, 0, 1, 2, 3, 0, 0, 0]);
        assert!(tiny().pad_to(1, 9).unwrap_err().to_string().contains("choose at least their own size"));
        assert!(tiny().pad_to(1 << 20, 1 << 20).unwrap_err().to_string().contains("more than 8 GiB"));
    }

    #[test]
    fn the_fingerprint_sees_shape_pixels_and_labels_but_not_the_name() {
        let set = tiny();
        let print = set.fingerprint();
        assert_eq!(print.len(), 64);
        assert_eq!(DataSet { name: "other".into(), ..set.clone() }.fingerprint(), print);
        assert_ne!(DataSet { height: 3, width: 2, ..set.clone() }.fingerprint(), print);
        assert_ne!(DataSet { labels: None, class_names: Vec::new(), ..set.clone() }.fingerprint(), print);
        let mut changed = set.clone();
        changed.images[23] ^= 1;
        assert_ne!(changed.fingerprint(), print);
        let mut changed = set;
        changed.labels = Some(vec![0, 1, 1, 1]);
        assert_ne!(changed.fingerprint(), print);
    }

    #[test]
    fn holding_out_partitions_the_images() {
        let set = load("builtin:digits?n=50", &LoadOptions::default()).unwrap();
        let (kept, out) = set.clone().split_held_out(20, 3).unwrap();
        assert_eq!((kept.count, out.count), (30, 20));
        let mut all: Vec<&[u8]> = (0..30).map(|i| kept.image(i)).chain((0..20).map(|i| out.image(i))).collect();
        let mut original: Vec<&[u8]> = (0..50).map(|i| set.image(i)).collect();
        all.sort_unstable();
        original.sort_unstable();
        assert_eq!(all, original);
        // Labels travel with their images.
        for i in 0..20 {
            let at = (0..50).find(|&j| set.image(j) == out.image(i)).unwrap();
            assert_eq!(set.labels.as_ref().unwrap()[at], out.labels.as_ref().unwrap()[i]);
        }
        assert_eq!(set.clone().split_held_out(20, 3).unwrap().1, out);
        assert_ne!(set.clone().split_held_out(20, 4).unwrap().1.images, out.images);
        for bad in [0, 50, 51] {
            assert!(set.clone().split_held_out(bad, 0).unwrap_err().to_string().contains("leave at least 1"));
        }
    }

    #[test]
    fn a_built_in_set_says_version_size_and_seed_in_its_name() {
        let set = load("builtin:digits?n=20&seed=5", &LoadOptions::default()).unwrap();
        assert_eq!(set.name, format!("builtin:digits?n=20&seed=5 (generator {}, train)", digits::GENERATOR_VERSION));
        assert_eq!(load("builtin:digits?20", &LoadOptions { seed: 5, ..LoadOptions::default() }).unwrap(), set);
        let shapes = load("builtin:shapes-64?n=8", &LoadOptions { split: Split::Test, ..LoadOptions::default() }).unwrap();
        assert_eq!(shapes.name, format!("builtin:shapes-64?n=8&seed=0 (generator {}, test)", shapes::GENERATOR_VERSION));
        assert_eq!(shapes.describe(), format!("{}: 8 images, 64 x 64 RGB, 8 classes", shapes.name));
        assert_eq!(load("builtin:digits?n=1", &LoadOptions { pad_to: Some((32, 32)), ..LoadOptions::default() }).unwrap().height, 32);
    }

    #[test]
    fn edit_distances() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }
}
