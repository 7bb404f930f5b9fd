//! Any data set as a ZIP of pictures that loads fast: stored, of one size, with labels in StyleGAN's `dataset.json`.

use std::io::{Cursor, Seek, Write};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use rayon::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::collection::{Collection, LABELS_FILE};
use super::decode::format_name;
use super::images::{Workshop, apply};
use super::labels::{self, LabelsFile};
use super::open::{Opened, open};
use super::{DataSet, ImagePolicy, LoadOptions, Progress};
use crate::error::{Error, Result};

/// Images of an array that are packed at once.
const CHUNK: usize = 256;

/// What [`convert`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Converted {
    /// Pictures in the archive.
    pub images: usize,
    /// Of those, files that were copied as they were: their pixels needed no change.
    pub untouched: usize,
    /// Height and width of each.
    pub size: (u32, u32),
    /// Classes; 0 without labels.
    pub classes: usize,
}

/// Writes what `spec` names as a ZIP archive: `00000/img00000000.png` and so on, in the order of loading, and `dataset.json`. Loading the archive
/// gives the same images and labels, bit for bit. The same input gives the same archive.
///
/// A picture whose pixels need no change is copied, whatever its format; others are packed as PNG, lightly, for what is read a thousand times.
///
/// # Errors
/// [`Error::Input`] as [`super::load_with`]; [`Error::Environment`] if `out` cannot be written.
pub fn convert(spec: &str, options: &LoadOptions, policy: &ImagePolicy, out: impl Write + Seek, progress: Progress) -> Result<Converted> {
    match open(spec, options)? {
        Opened::Arrays(set) => of_arrays(&apply(set, policy)?, out, progress),
        Opened::Pictures(pictures) => of_pictures(&pictures, policy, out, progress),
    }
}

fn of_pictures(pictures: &Collection, policy: &ImagePolicy, out: impl Write + Seek, progress: Progress) -> Result<Converted> {
    let labels = labels::of(pictures, policy.labels)?;
    let workshop = Workshop::new(pictures, *policy)?;
    let mut archive = Writer::new(out);
    let mut untouched = 0;
    for chunk in pictures.entries.chunks(workshop.chunk()) {
        let packed: Vec<Result<(Vec<u8>, bool)>> = chunk
            .par_iter()
            .map_init(
                || pictures.reader(),
                |reader, entry| {
                    let finished = workshop.finish(reader, entry, true)?;
                    let picture = finished.picture;
                    match finished.untouched {
                        Some(bytes) => Ok((bytes, true)),
                        None => Ok((png(&picture.pixels, (picture.width, picture.height), picture.channels)?, false)),
                    }
                },
            )
            .collect();
        for packed in packed {
            let (bytes, as_it_was) = packed?;
            untouched += usize::from(as_it_was);
            archive.add(&bytes)?;
        }
        progress(archive.names.len(), pictures.entries.len());
    }
    let classes = labels.as_ref().map_or(0, |(_, names)| names.len());
    Ok(Converted { images: archive.finish(labels)?, untouched, size: (workshop.size.1, workshop.size.0), classes })
}

fn of_arrays(set: &DataSet, out: impl Write + Seek, progress: Progress) -> Result<Converted> {
    let mut archive = Writer::new(out);
    let size = (set.width as u32, set.height as u32);
    for start in (0..set.count).step_by(CHUNK) {
        let chunk = start..(start + CHUNK).min(set.count);
        let packed: Vec<Result<Vec<u8>>> = chunk.into_par_iter().map(|index| png(set.image(index), size, set.channels)).collect();
        for bytes in packed {
            archive.add(&bytes?)?;
        }
        progress(archive.names.len(), set.count);
    }
    let labels = set.labels.clone().map(|labels| (labels, set.class_names.clone()));
    Ok(Converted { images: archive.finish(labels)?, untouched: 0, size: (size.1, size.0), classes: set.classes() })
}

fn png(pixels: &[u8], (width, height): (u32, u32), channels: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let colour = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let encoder = PngEncoder::new_with_quality(Cursor::new(&mut bytes), CompressionType::Fast, FilterType::Adaptive);
    encoder
        .write_image(pixels, width, height, colour)
        .map_err(|error| Error::internal(format!("a picture of {width} x {height} cannot be packed: {error}")))?;
    Ok(bytes)
}

/// An archive in the making.
struct Writer<W: Write + Seek> {
    zip: ZipWriter<W>,
    names: Vec<String>,
}

impl<W: Write + Seek> Writer<W> {
    fn new(out: W) -> Self {
        Self { zip: ZipWriter::new(out), names: Vec::new() }
    }

    /// Adds the next picture; its extension follows from its first bytes.
    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        let extension = image::guess_format(bytes).map_or("png".into(), |format| format_name(format).to_lowercase());
        let index = self.names.len();
        let name = format!("{:05}/img{index:08}.{extension}", index / 1000);
        self.write(&name, bytes)?;
        self.names.push(name);
        Ok(())
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        // Pictures are packed already. No time is written, so that the same input gives the same archive.
        let stored =
            SimpleFileOptions::default().compression_method(CompressionMethod::Stored).last_modified_time(zip::DateTime::default());
        self.zip.start_file(name, stored).map_err(|error| unwritable(&error.into()))?;
        self.zip.write_all(bytes).map_err(|error| unwritable(&error))
    }

    /// Adds the labels and the directory; returns the number of pictures.
    fn finish(mut self, labels: Option<labels::Classes>) -> Result<usize> {
        let images = self.names.len();
        let file = match labels {
            None => LabelsFile::default(),
            Some((labels, class_names)) => LabelsFile {
                labels: Some(std::mem::take(&mut self.names).into_iter().zip(labels).collect()),
                class_names: Some(class_names),
            },
        };
        let json = serde_json::to_vec(&file).map_err(|error| Error::internal(format!("labels cannot be written: {error}")))?;
        self.write(LABELS_FILE, &json)?;
        self.zip.finish().map_err(|error| unwritable(&error.into()))?;
        Ok(images)
    }
}

fn unwritable(error: &std::io::Error) -> Error {
    Error::environment(format!("cannot write the archive: {error}; free some space there, or write elsewhere with --out"))
}
