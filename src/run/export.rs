//! Many images into a folder, a ZIP archive or a NumPy file: encoded on all cores while the device makes the next ones.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use rayon::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::disk;
use super::grid::{self, Images};
use crate::data::{LABELS_FILE, LabelsFile};
use crate::error::{Error, Result};

/// Batches that may wait for the encoder.
const AHEAD: usize = 2;

/// Images as they come from the device, with their z, one row each.
pub struct Batch {
    /// `images.n` rows.
    pub z: Vec<f32>,
    /// The images.
    pub images: Images,
}

/// The classes of the images.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// Of each image.
    pub classes: &'a [u32],
    /// Their names, by number.
    pub names: &'a [String],
}

/// What is written: a file for each image, or arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A PNG file each in this folder.
    Folder(&'a Path),
    /// A PNG file each in this archive.
    Zip(&'a Path),
    /// This `.npz` file: `images` as u8 in the order (image, row, column, channel), and `z` as f32 in the order (image, number).
    Npz(&'a Path),
}

/// Writes `count` images. `name` gives the file name of an image by its number, which may lie in a sub-folder; `next` makes the next images, at
/// least one. Labels, if there are any, are the array `labels` (i64) of `.npz` files, and StyleGAN's `dataset.json` elsewhere.
///
/// The bytes depend on the images alone: entries stand in the order of the images and have no dates. An archive is complete or not there at all.
///
/// # Errors
/// [`Error::Environment`] if a file cannot be written, and what `next` gives.
pub fn write(
    target: Target<'_>,
    count: usize,
    name: &(dyn Fn(usize) -> String + Sync),
    labels: Option<Labelled<'_>>,
    next: &mut dyn FnMut(usize) -> Result<Batch>,
) -> Result<()> {
    match target {
        Target::Folder(folder) => {
            let inner = (0..count).filter_map(|i| Some(name(i).rsplit_once('/')?.0.to_string()));
            for folder in inner.collect::<BTreeSet<String>>().iter().map(|inner| folder.join(inner)).chain([folder.to_path_buf()]) {
                fs::create_dir_all(&folder).map_err(|error| disk::cannot_write(&folder, &error))?;
            }
            piped(count, next, |first, batch| {
                (0..batch.images.n).into_par_iter().try_for_each(|i| {
                    let path = folder.join(name(first + i));
                    let png = encode(&batch.images, i)?;
                    // Not fsynced one by one: there may be many thousands, and another call makes them again.
                    fs::write(&path, png).map_err(|error| disk::cannot_write(&path, &error))
                })
            })?;
            labels.map_or(Ok(()), |labels| disk::replace(&folder.join(LABELS_FILE), &labels.json(name)?))
        }
        Target::Zip(path) => archive(path, |zip| {
            piped(count, next, |first, batch| {
                let pngs: Result<Vec<Vec<u8>>> = (0..batch.images.n).into_par_iter().map(|i| encode(&batch.images, i)).collect();
                for (i, png) in pngs?.iter().enumerate() {
                    entry(zip, &name(first + i)).and_then(|()| zip.write_all(png)).map_err(|error| disk::cannot_write(path, &error))?;
                }
                Ok(())
            })?;
            let Some(labels) = labels else { return Ok(()) };
            let json = labels.json(name)?;
            entry(zip, LABELS_FILE).and_then(|()| zip.write_all(&json)).map_err(|error| disk::cannot_write(path, &error))
        }),
        Target::Npz(path) => archive(path, |zip| {
            let mut z = Vec::new();
            piped(count, next, |first, batch| {
                let Images { c, h, w, .. } = batch.images;
                let head =
                    if first == 0 { entry(zip, "images.npy").map(|()| npy_header("|u1", &[count, h, w, c])) } else { Ok(Vec::new()) };
                z.extend(batch.z.iter().flat_map(|value| value.to_le_bytes()));
                head.and_then(|head| zip.write_all(&head))
                    .and_then(|()| zip.write_all(&interleaved(&batch.images)))
                    .map_err(|error| disk::cannot_write(path, &error))
            })?;
            let header = npy_header("<f4", &[count, z.len() / 4 / count.max(1)]);
            let written = entry(zip, "z.npy").and_then(|()| zip.write_all(&header)).and_then(|()| zip.write_all(&z));
            written.map_err(|error| disk::cannot_write(path, &error))?;
            let Some(Labelled { classes, .. }) = labels else { return Ok(()) };
            let values: Vec<u8> = classes.iter().flat_map(|&class| i64::from(class).to_le_bytes()).collect();
            let header = npy_header("<i8", &[count]);
            let written = entry(zip, "labels.npy").and_then(|()| zip.write_all(&header)).and_then(|()| zip.write_all(&values));
            written.map_err(|error| disk::cannot_write(path, &error))
        }),
    }
}

impl Labelled<'_> {
    /// The text of `dataset.json`.
    fn json(&self, name: &dyn Fn(usize) -> String) -> Result<Vec<u8>> {
        let labels = self.classes.iter().enumerate().map(|(i, &class)| (name(i), class)).collect();
        let file = LabelsFile { labels: Some(labels), class_names: Some(self.names.to_vec()) };
        serde_json::to_vec(&file).map_err(|error| Error::internal(format!("labels cannot be written: {error}")))
    }
}

/// Calls `next` here and `take` on another thread until `count` images are through, or either fails.
fn piped(
    count: usize,
    next: &mut dyn FnMut(usize) -> Result<Batch>,
    mut take: impl FnMut(usize, &Batch) -> Result<()> + Send,
) -> Result<()> {
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel::<(usize, Batch)>(AHEAD);
        let taker = scope.spawn(move || {
            for (first, batch) in receiver {
                take(first, &batch)?;
            }
            Ok(())
        });
        let mut made = Ok(());
        let mut first = 0;
        while first < count && made.is_ok() {
            made = next(first).and_then(|batch| {
                let n = batch.images.n;
                if n == 0 || n > count - first {
                    return Err(Error::internal(format!("{n} images where 1 to {} were to be made", count - first)));
                }
                // The other end is gone only if it failed; its error is told below.
                let sent = sender.send((first, batch)).is_ok();
                first = if sent { first + n } else { count };
                Ok(())
            });
        }
        drop(sender);
        let taken = taker.join().unwrap_or_else(|_| Err(Error::internal("the thread that encodes images has ended")));
        made.and(taken)
    })
}

/// Writes an archive through a temporary file.
fn archive(path: &Path, fill: impl FnOnce(&mut ZipWriter<BufWriter<&mut File>>) -> Result<()>) -> Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(|error| disk::cannot_write(parent, &error))?;
    }
    // What went wrong in there may have nothing to do with the disk.
    let mut failure = None;
    let written = disk::replace_with(path, |file| {
        let mut zip = ZipWriter::new(BufWriter::new(file));
        if let Err(error) = fill(&mut zip) {
            failure = Some(error);
            return Err(io::Error::other("the archive is incomplete"));
        }
        zip.finish()?.flush()
    });
    failure.map_or(written, Err)
}

/// Begins an entry that is stored as it is: PNG files are compressed already, and arrays are read faster so.
fn entry<W: Write + Seek>(zip: &mut ZipWriter<W>, name: &str) -> io::Result<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default())
        .large_file(name.ends_with(".npy"));
    zip.start_file(name, options).map_err(io::Error::from)
}

/// Image `i` as a PNG file.
fn encode(images: &Images, i: usize) -> Result<Vec<u8>> {
    grid::compose(&images.image(i), 1, 1)?.png()
}

/// Bytes of all images in the order [image][row][column][channel].
fn interleaved(images: &Images) -> Vec<u8> {
    let Images { c, h, w, ref data, .. } = *images;
    let of_image = |image: &[f32]| -> Vec<u8> { (0..h * w * c).map(|i| Images::byte(image[i % c * h * w + i / c])).collect() };
    data.par_chunks(c * h * w).flat_map_iter(of_image).collect()
}

/// The header of a `.npy` file, version 1.0: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>
fn npy_header(dtype: &str, shape: &[usize]) -> Vec<u8> {
    let shape: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let mut dictionary = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({}), }}", shape.trim_end());
    // The array begins at a multiple of 64 bytes, after the magic number, the length and a line feed.
    let padding = (64 - (10 + dictionary.len() + 1) % 64) % 64;
    dictionary.push_str(&" ".repeat(padding));
    dictionary.push('\n');
    [b"\x93NUMPY\x01\x00".as_slice(), &(dictionary.len() as u16).to_le_bytes(), dictionary.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Seven RGB images of 2x3 in batches of three, whose values tell their place.
    fn batches(first: usize) -> Result<Batch> {
        let n = 3.min(7 - first);
        let value = |i: usize| (i as f32) / 127.5 - 1.0;
        let data = (first * 18..(first + n) * 18).map(value).collect();
        let z = (first * 2..(first + n) * 2).map(|i| i as f32 / 4.0).collect();
        Ok(Batch { z, images: Images { n, c: 3, h: 2, w: 3, data } })
    }

    fn name(i: usize) -> String {
        format!("{i:06}.png")
    }

    fn rgb(i: usize) -> Vec<u8> {
        (0..18).map(|p| (i * 18 + p % 3 * 6 + p / 3) as u8).collect()
    }

    #[test]
    fn folders_and_archives_hold_the_same_files() {
        let folder = tempfile::tempdir().unwrap();
        let (files, path) = (folder.path().join("a/b"), folder.path().join("c/d.zip"));
        write(Target::Folder(&files), 7, &name, None, &mut batches).unwrap();
        write(Target::Zip(&path), 7, &name, None, &mut batches).unwrap();
        let mut zip = zip::ZipArchive::new(File::open(&path).unwrap()).unwrap();
        assert_eq!((zip.len(), fs::read_dir(&files).unwrap().count()), (7, 7));
        for i in 0..7 {
            let (mut entry, mut bytes) = (zip.by_index(i).unwrap(), Vec::new());
            assert_eq!(entry.name().unwrap(), name(i));
            entry.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, fs::read(files.join(name(i))).unwrap());
            assert_eq!(image::load_from_memory(&bytes).unwrap().to_rgb8().into_raw(), rgb(i));
        }
        let again = folder.path().join("again.zip");
        write(Target::Zip(&again), 7, &name, None, &mut batches).unwrap();
        assert_eq!(fs::read(again).unwrap(), fs::read(path).unwrap());
    }

    #[test]
    fn arrays_begin_where_numpy_looks_for_them() {
        let header = npy_header("|u1", &[7, 2, 3, 3]);
        assert_eq!(header.len() % 64, 0);
        assert!(header.starts_with(b"\x93NUMPY\x01\x00\x76\x00{'descr': '|u1', 'fortran_order': False, 'shape': (7, 2, 3, 3,), }  "));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        write(Target::Npz(&path), 7, &name, None, &mut batches).unwrap();
        let mut zip = zip::ZipArchive::new(File::open(&path).unwrap()).unwrap();
        let mut read = |name: &str| {
            let mut bytes = Vec::new();
            zip.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(read("images.npy")[header.len()..], (0..7).flat_map(rgb).collect::<Vec<_>>());
        let z = read("z.npy");
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(&z[z.len() - 56..]);
        assert_eq!(values, (0..14).map(|i| i as f32 / 4.0).collect::<Vec<_>>());
    }

    #[test]
    fn a_failure_on_either_side_ends_it_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        let mut lost = |first| if first == 3 { Err(Error::environment("the device was lost")) } else { batches(first) };
        for target in [Target::Zip(&path), Target::Npz(&path)] {
            assert_eq!(write(target, 7, &name, None, &mut lost).unwrap_err().to_string(), "the device was lost");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // A name that no folder can take.
        fs::create_dir(folder.path().join(name(4))).unwrap();
        let error = write(Target::Folder(folder.path()), 7, &name, None, &mut batches).unwrap_err();
        assert!(error.exit_code() == 3 && error.to_string().contains("000004.png"), "{error}");
    }
}
