//! What a spec names: a built-in set, a folder or a file, and what is in it.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::archive::Archive;
use super::collection::Collection;
use super::{BUILTIN_NAMES, DataSet, ImagePolicy, LoadOptions, Split, cifar, idx, images, load_builtin, npy};
use crate::error::{Error, Result};

/// What a spec names, as far as it can be loaded without a policy.
pub enum Opened {
    /// Images of one size, loaded.
    Arrays(DataSet),
    /// Pictures, to be decoded.
    Pictures(Collection),
}

/// Finds out what `spec` names, and loads what is no collection of pictures.
///
/// # Errors
/// [`Error::Input`] naming what is missing or wrong.
pub fn open(spec: &str, options: &LoadOptions) -> Result<Opened> {
    if let Some(builtin) = spec.strip_prefix("builtin:") {
        return load_builtin(spec, builtin, options).map(Opened::Arrays);
    }
    let path = Path::new(spec);
    let metadata = fs::metadata(path).map_err(|error| missing(spec, path, &error))?;
    if metadata.is_dir() { open_folder(path, options.split) } else { open_file(path, metadata.is_file(), options.split) }
}

/// The pictures of a ZIP archive in memory; `name` is what errors and the set are called.
///
/// # Errors
/// [`Error::Input`] saying what is wrong, and the entry that it is wrong with.
pub fn pictures_from_zip_bytes(bytes: &[u8], name: &str, policy: &ImagePolicy) -> Result<DataSet> {
    let pictures = Collection::of_archive(Archive::from_bytes(bytes, name)?, name, name.to_string()).ok_or_else(|| no_pictures(name))?;
    images::load(&pictures, policy, &|_, _| {})
}

/// A folder or file's own name.
pub fn short_name(path: &Path) -> String {
    // `.` and `..` have no name of their own.
    let resolved = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    resolved.file_name().unwrap_or(resolved.as_os_str()).to_string_lossy().into_owned()
}

fn missing(spec: &str, path: &Path, error: &std::io::Error) -> Error {
    if error.kind() != std::io::ErrorKind::NotFound {
        return Error::input(format!("cannot open the data path '{spec}': {error}"));
    }
    // `--data digits` most likely means the built-in set; the command has made a path of it by now.
    let wanted = format!("builtin:{}", path.file_name().unwrap_or_default().to_string_lossy());
    let known = BUILTIN_NAMES.contains(&wanted.split('?').next().unwrap_or_default());
    let hint = if known { format!("; did you mean {wanted}?") } else { String::new() };
    Error::input(format!(
        "the data path '{spec}' does not exist: give a folder of pictures or of IDX files, a .zip, .npy, .npz or IDX file, CIFAR-10's .tar.gz, or a \
         built-in set ({}){hint}",
        BUILTIN_NAMES.join(", ")
    ))
}

fn open_folder(path: &Path, split: Split) -> Result<Opened> {
    if idx::is_in(path) {
        return idx::load_folder(path, split).map(Opened::Arrays);
    }
    if let Some(folder) = cifar::find_folder(path) {
        return cifar::load_folder(&folder, &short_name(path), split).map(Opened::Arrays);
    }
    match Collection::of_folder(path)? {
        Some(pictures) => one_split(pictures, split),
        None => Err(idx::nothing_found(path, split)),
    }
}

fn open_file(path: &Path, is_regular: bool, split: Split) -> Result<Opened> {
    let (name, shown) = (short_name(path), path.display().to_string());
    // What is no regular file is not opened: a pipe would wait for a writer, and a device may never end. The IDX reader has the words for it.
    let start = if is_regular { first_bytes(path)? } else { Vec::new() };
    if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        let archive = Archive::open(path)?;
        if archive.members().iter().any(|member| member.name.ends_with(".npy")) {
            return npy::load_archive(archive, &name, split).map(Opened::Arrays);
        }
        return one_split(Collection::of_archive(archive, &shown, name).ok_or_else(|| no_pictures(&shown))?, split);
    }
    if start.starts_with(npy::MAGIC) {
        return npy::load_file(path, &name, split).map(Opened::Arrays);
    }
    let mut unpacked = Vec::new();
    if start.starts_with(&[0x1f, 0x8b]) {
        // A stream that is cut short within its first bytes is named as such by whoever reads it.
        let _ = MultiGzDecoder::new(&start[..]).take(512).read_to_end(&mut unpacked);
    }
    if cifar::is_named_like_a_batch(&name) || cifar::is_tar(&start) || cifar::is_tar(&unpacked) {
        return cifar::load_file(path, &name, split).map(Opened::Arrays);
    }
    idx::load_file(path, split).map(Opened::Arrays)
}

/// Enough of a file to tell what it is, packed or not.
fn first_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(1 << 16).read_to_end(&mut start));
    read.map_err(|error| Error::input(format!("cannot read '{}': {error}", path.display())))?;
    Ok(start)
}

/// Pictures come without a test split.
fn one_split(pictures: Collection, split: Split) -> Result<Opened> {
    match split {
        Split::Train => Ok(Opened::Pictures(pictures)),
        Split::Test => Err(Error::input(format!("'{}' holds pictures and no test split: hold part of them out instead", pictures.shown))),
    }
}

fn no_pictures(shown: &str) -> Error {
    Error::input(format!("'{shown}' holds nothing to load: expected pictures (PNG, JPEG, WebP, BMP or GIF), or NumPy arrays"))
}
