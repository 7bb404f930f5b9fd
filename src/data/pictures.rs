//! A collection of pictures that stays on disk: each is read and decoded again whenever a batch needs it, on all cores.
//!
//! It is gone through once when it is opened, so that a file that is no good stops training before it has begun, and so that it has the same
//! fingerprint as if it were held in memory.

use std::ops::Range;

use rayon::prelude::*;

use super::collection::Collection;
use super::fingerprint::Fingerprint;
use super::images::Workshop;
use super::open::{Opened, open};
use super::picture::{Picture, grey_to_rgb};
use super::policy::Colour;
use super::stream::Source;
use super::{DataSet, ImagePolicy, LoadOptions, Progress, images, labels, load_with};
use crate::error::{Error, Result};
use crate::ops::gather::Storage;

/// A data set, wherever it is kept.
pub enum Loaded {
    /// In memory.
    Held(DataSet),
    /// On disk.
    OnDisk(Pictures),
}

/// [`load_with`], but a collection of pictures that would take more than `most` bytes of memory stays on disk. Whether pictures are grey is only
/// known once all are seen, so they count as coloured unless the policy makes them grey.
///
/// # Errors
/// As [`load_with`].
pub fn load_or_leave(spec: &str, options: &LoadOptions, policy: &ImagePolicy, most: u64, progress: Progress) -> Result<Loaded> {
    if most < u64::MAX
        && options.pad_to.is_none()
        && let Opened::Pictures(collection) = open(spec, options)?
    {
        let (width, height) = Workshop::new(&collection, *policy)?.size;
        let channels = if policy.colour == Colour::Grey { 1 } else { 3 };
        let bytes =
            [u64::from(height), channels].iter().fold(collection.entries.len() as u64 * u64::from(width), |b, n| b.saturating_mul(*n));
        return if bytes > most {
            Pictures::new(collection, *policy, progress).map(Loaded::OnDisk)
        } else {
            images::load(&collection, policy, progress).map(Loaded::Held)
        };
    }
    load_with(spec, options, policy, progress).map(Loaded::Held)
}

/// Pictures on disk, as a data set.
pub struct Pictures {
    collection: Collection,
    policy: ImagePolicy,
    /// Height and width of every image.
    pub size: (usize, usize),
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// One class index per picture, if there are labels.
    pub labels: Option<Vec<u32>>,
    /// A name per class; empty where there are no labels.
    pub class_names: Vec<String>,
    fingerprint: String,
}

impl Pictures {
    /// Goes through all pictures.
    fn new(collection: Collection, policy: ImagePolicy, progress: Progress) -> Result<Self> {
        let (labels, class_names) = labels::of(&collection, policy.labels)?.map_or((None, Vec::new()), |(l, names)| (Some(l), names));
        let workshop = Workshop::new(&collection, policy)?;
        let (width, height) = (workshop.size.0 as usize, workshop.size.1 as usize);
        let total = collection.entries.len();
        let begin = |channels| Fingerprint::of_images([total, height, width, channels, class_names.len()]);
        // Both, because the last picture may be the first in colour.
        let (mut grey, mut rgb) = ((policy.colour != Colour::Rgb).then(|| begin(1)), begin(3));
        let mut done = 0;
        for chunk in collection.entries.chunks(workshop.chunk()) {
            let finished: Vec<Result<Picture>> = chunk
                .par_iter()
                .map_init(|| collection.reader(), |reader, entry| workshop.finish(reader, entry, false).map(|finished| finished.picture))
                .collect();
            for picture in finished {
                let Picture { channels, pixels, .. } = picture?;
                if channels == 3 {
                    grey = None;
                    rgb.update(&pixels);
                } else {
                    grey.iter_mut().for_each(|grey| grey.update(&pixels));
                    rgb.update(&grey_to_rgb(&pixels));
                }
            }
            done += chunk.len();
            progress(done, total);
        }
        let channels = if grey.is_some() { 1 } else { 3 };
        let fingerprint = grey.unwrap_or(rgb).finish(labels.as_deref());
        Ok(Self { collection, policy, size: (height, width), channels, labels, class_names, fingerprint })
    }

    /// As [`DataSet::fingerprint`] of the pictures in memory.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// As [`DataSet::describe`].
    pub fn describe(&self) -> String {
        let colour = if self.channels == 1 { "grey" } else { "RGB" };
        let classes = if self.labels.is_some() { format!("{} classes", self.class_names.len()) } else { "no labels".into() };
        let ((height, width), name) = (self.size, &self.collection.name);
        format!("{name}: {} images, {height} x {width} {colour}, {classes}, read from disk", self.count())
    }

    /// The pictures of a range, without labels.
    ///
    /// # Errors
    /// As [`Source::read`]; [`Error::Input`] if the range is empty.
    ///
    /// # Panics
    /// If it ends beyond the last picture.
    pub fn pick(&self, range: Range<usize>) -> Result<DataSet> {
        let n = range.len();
        let mut pixels = vec![0; n * self.item_len()];
        self.read(&range.map(|index| index as u32).collect::<Vec<_>>(), &mut pixels)?;
        DataSet::new(self.collection.name.clone(), (n, self.size.0, self.size.1, self.channels), pixels, None, Vec::new())
    }
}

impl Source for Pictures {
    fn count(&self) -> usize {
        self.collection.entries.len()
    }

    fn storage(&self) -> Storage {
        Storage::U8
    }

    fn item_len(&self) -> usize {
        self.size.0 * self.size.1 * self.channels
    }

    fn read(&self, indices: &[u32], out: &mut [u8]) -> Result<()> {
        let workshop = Workshop::of_size(&self.collection, self.policy, (self.size.1 as u32, self.size.0 as u32));
        let read: Vec<Result<()>> = indices
            .par_iter()
            .zip(out.par_chunks_exact_mut(self.item_len()))
            .map_init(
                || self.collection.reader(),
                |reader, (&index, item)| {
                    let entry = &self.collection.entries[index as usize];
                    let Picture { channels, mut pixels, .. } = workshop.finish(reader, entry, false)?.picture;
                    if channels == 1 && self.channels == 3 {
                        pixels = grey_to_rgb(&pixels);
                    }
                    if pixels.len() != item.len() {
                        let shown = self.collection.entry_shown(entry);
                        return Err(Error::input(format!(
                            "{shown} has changed since training began: it is in colour now, and no picture was"
                        )));
                    }
                    item.copy_from_slice(&pixels);
                    Ok(())
                },
            )
            .collect();
        // Of several faults, the first in the order of the batch.
        read.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use image::{GrayImage, RgbImage};

    use super::*;
    use crate::data::policy::{Labels, Resize};
    use crate::data::stream::{Order, Prefetcher};

    /// Eleven pictures in two folders; `coloured` of them, the last ones, are in colour.
    fn folder(coloured: usize, side: impl Fn(u32) -> u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..11u32 {
            let path = dir.path().join(if i % 2 == 0 { "even" } else { "odd" });
            fs::create_dir_all(&path).unwrap();
            let path = path.join(format!("{i:02}.png"));
            let shade = move |x: u32, y: u32| (i * 23 + x * 7 + y * 3) as u8;
            if (i as usize) < 11 - coloured {
                GrayImage::from_fn(side(i), side(i), |x, y| image::Luma([shade(x, y)])).save(path).unwrap();
            } else {
                RgbImage::from_fn(side(i), side(i), |x, y| image::Rgb([shade(x, y), 9, 200])).save(path).unwrap();
            }
        }
        dir
    }

    fn open_both(path: &Path, policy: &ImagePolicy) -> (DataSet, Pictures) {
        let (spec, options) = (path.to_str().unwrap(), LoadOptions::default());
        let Loaded::Held(held) = load_or_leave(spec, &options, policy, u64::MAX, &|_, _| {}).unwrap() else { panic!("it is not held") };
        let Loaded::OnDisk(left) = load_or_leave(spec, &options, policy, 0, &|_, _| {}).unwrap() else { panic!("it is held") };
        (held, left)
    }

    #[test]
    fn they_are_what_would_be_held() {
        let resize = ImagePolicy { size: Some(5), resize: Some(Resize::Crop), labels: Labels::Folders, ..ImagePolicy::default() };
        let plain = ImagePolicy::default();
        for (coloured, policy) in [
            (0, plain),
            (1, plain),
            (11, plain),
            (4, resize),
            (4, ImagePolicy { colour: Colour::Grey, ..resize }),
            (0, ImagePolicy { colour: Colour::Rgb, ..resize }),
        ] {
            let dir = folder(coloured, |i| if policy.resize.is_some() { 6 + i } else { 6 });
            let (held, left) = open_both(dir.path(), &policy);
            assert_eq!(left.fingerprint(), held.fingerprint(), "{coloured} in colour, {policy:?}");
            assert_eq!((left.count(), left.size, left.channels), (held.count, (held.height, held.width), held.channels));
            assert_eq!((&left.labels, &left.class_names), (&held.labels, &held.class_names));
            assert_eq!(left.describe(), format!("{}, read from disk", held.describe()));
            assert_eq!(left.pick(0..11).unwrap().images, held.images);
            assert_eq!(left.pick(3..5).unwrap().images, [held.image(3), held.image(4)].concat());
            let order = Order { seed: 3, batch: 4 };
            let sources: [Arc<dyn Source>; 2] = [Arc::new(held), Arc::new(left)];
            let [mut a, mut b] = sources.map(|source| Prefetcher::new(source, order, 3));
            for position in [[0, 0], [0, 4], [0, 8], [1, 1]] {
                assert_eq!(a.take(position).unwrap().bytes, b.take(position).unwrap().bytes, "{position:?}");
            }
        }
    }

    #[test]
    fn only_what_is_too_large_is_left() {
        let dir = folder(0, |_| 6);
        let on_disk = |most, colour| {
            let policy = ImagePolicy { colour, ..ImagePolicy::default() };
            matches!(load_or_leave(dir.path().to_str().unwrap(), &LoadOptions::default(), &policy, most, &|_, _| {}), Ok(Loaded::OnDisk(_)))
        };
        let grey = 11 * 36;
        assert_eq!([3 * grey - 1, 3 * grey].map(|most| on_disk(most, Colour::Auto)), [true, false]);
        assert_eq!([grey - 1, grey].map(|most| on_disk(most, Colour::Grey)), [true, false]);
        // Arrays are held whatever they take.
        assert!(matches!(
            load_or_leave("builtin:digits?n=9", &LoadOptions::default(), &ImagePolicy::default(), 0, &|_, _| {}),
            Ok(Loaded::Held(_))
        ));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_before_and_while_training() {
        let dir = folder(0, |_| 6);
        let (_, left) = open_both(dir.path(), &ImagePolicy::default());
        let file = dir.path().join("odd/03.png");
        let good = fs::read(&file).unwrap();
        let read = || left.pick(0..11).map(drop).unwrap_err();
        fs::write(&file, &good[..good.len() / 2]).unwrap();
        let error = read();
        assert!(error.exit_code() == 2 && error.to_string().contains("03.png"), "{error}");
        let opened = load_or_leave(dir.path().to_str().unwrap(), &LoadOptions::default(), &ImagePolicy::default(), 0, &|_, _| {});
        assert_eq!(opened.err().map(|error| error.to_string()), Some(error.to_string()));
        RgbImage::from_pixel(6, 6, image::Rgb([1, 2, 3])).save(&file).unwrap();
        assert!(read().to_string().contains("03.png' has changed since training began"), "{}", read());
        GrayImage::new(7, 6).save(&file).unwrap();
        assert!(read().to_string().contains("03.png' is 7 x 6 pixels"), "{}", read());
        fs::remove_file(&file).unwrap();
        assert!(read().to_string().contains("cannot read") && read().to_string().contains("03.png"), "{}", read());
    }
}
