//! CIFAR-10's binary version (A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009): records of one label byte and 32 x 32
//! pixels, first all red, then all green, then all blue values, each row by row.
//!
//! The distribution holds `data_batch_1.bin` to `data_batch_5.bin` for training, `test_batch.bin`, and the names of the classes in
//! `batches.meta.txt`, one a line. It is read as a folder, as one `.bin` file, or as the `.tar.gz` that it comes in (or a plain `.tar`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::archive::{FREE_BYTES, MAX_RATIO, unsafe_name};
use super::{DataSet, Split};
use crate::error::{Error, Result};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const RECORD: usize = 1 + 3 * PLANE;
const CLASSES: usize = 10;
const NAMES_FILE: &str = "batches.meta.txt";
/// What the distribution's archive unpacks to.
const SUBFOLDER: &str = "cifar-10-batches-bin";
/// Most bytes of one file of records (a million of them).
const MAX_FILE_BYTES: u64 = RECORD as u64 * 1_000_000;
/// Most files of the distribution that are kept.
const MAX_FILES: usize = 64;
/// Most entries of an archive; the distribution has 9.
const MAX_ENTRIES: usize = 1000;

/// Whether a file of this name holds records of the split.
fn is_batch(name: &str, split: Split) -> bool {
    match split {
        Split::Train => name.starts_with("data_batch_") && name.ends_with(".bin"),
        Split::Test => name == "test_batch.bin",
    }
}

/// Whether a file of this name holds records.
pub fn is_named_like_a_batch(name: &str) -> bool {
    is_batch(name, Split::Train) || is_batch(name, Split::Test)
}

/// The folder that holds the batches, which is `folder` or the distribution's own folder in it, if either does.
pub fn find_folder(folder: &Path) -> Option<PathBuf> {
    [folder.to_path_buf(), folder.join(SUBFOLDER)].into_iter().find(|folder| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| is_named_like_a_batch(&entry.file_name().to_string_lossy()))
    })
}

/// The batches of a folder, in the order of their names.
///
/// # Errors
/// [`Error::Input`] naming the file at fault.
pub fn load_folder(folder: &Path, name: &str, split: Split) -> Result<DataSet> {
    let shown = folder.display().to_string();
    let unreadable = |path: &Path, error: io::Error| Error::input(format!("cannot read '{}': {error}", path.display()));
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_batch(&name, split) || name == NAMES_FILE {
            if !fs::metadata(&path).map_err(|error| unreadable(&path, error))?.is_file() {
                return Err(Error::input(format!("'{}' is not a regular file", path.display())));
            }
            let file = File::open(&path).map_err(|error| unreadable(&path, error))?;
            keep(&mut files, &shown, name, file)?;
        }
    }
    assemble(&shown, name, &files, split)
}

/// One file of records, or an archive of the distribution, told apart by the first bytes.
///
/// # Errors
/// [`Error::Input`] naming the file, and the entry of an archive.
pub fn load_file(path: &Path, name: &str, split: Split) -> Result<DataSet> {
    let shown = path.display().to_string();
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let (len, file) = opened.map_err(|error| Error::input(format!("cannot read '{shown}': {error}")))?;
    load(&shown, name, BufReader::new(file), len, split)
}

/// The bytes of one file of records, or of an archive of the distribution; `name` is what errors and the set are called.
///
/// # Errors
/// [`Error::Input`] saying what is wrong.
pub fn from_bytes(bytes: &[u8], name: &str, split: Split) -> Result<DataSet> {
    load(name, name, bytes, bytes.len() as u64, split)
}

/// Whether the start of a file, unpacked if it was packed, is that of a tar archive.
pub fn is_tar(start: &[u8]) -> bool {
    start.get(257..262) == Some(b"ustar")
}

fn load(shown: &str, name: &str, mut stream: impl Read, len: u64, split: Split) -> Result<DataSet> {
    let unreadable = |error: io::Error| Error::input(format!("cannot read '{shown}': {error}"));
    let mut start = Vec::new();
    stream.by_ref().take(512).read_to_end(&mut start).map_err(unreadable)?;
    let gzipped = start.starts_with(&[0x1f, 0x8b]);
    let tar = is_tar(&start);
    let whole = io::Cursor::new(start).chain(stream);
    let files = if gzipped {
        // Gzip can reach 1000 times its size; the distribution is packed to almost its own.
        read_tar(shown, MultiGzDecoder::new(BufReader::new(whole)), FREE_BYTES.max(len.saturating_mul(MAX_RATIO)), split)?
    } else if tar {
        read_tar(shown, whole, len, split)?
    } else if split == Split::Test {
        return Err(Error::input(format!("'{shown}' is one file and has no test split: give the folder that holds test_batch.bin")));
    } else {
        let mut files = BTreeMap::new();
        keep(&mut files, shown, String::new(), whole)?;
        files
    };
    assemble(shown, name, &files, split)
}

/// Keeps a file's bytes, which grow with what really comes.
fn keep(files: &mut BTreeMap<String, Vec<u8>>, shown: &str, name: String, stream: impl Read) -> Result<()> {
    let label = label(shown, &name);
    let mut bytes = Vec::new();
    stream.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| Error::input(format!("cannot read {label}: {error}")))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::input(format!("{label} holds more than {MAX_FILE_BYTES} bytes, the limit for a file of CIFAR-10 records")));
    }
    if files.len() >= MAX_FILES || files.insert(name, bytes).is_some() {
        return Err(Error::input(format!(
            "{label}: there are several files of that name, or more than {MAX_FILES} files; keep one distribution"
        )));
    }
    Ok(())
}

/// What errors call a file.
fn label(shown: &str, name: &str) -> String {
    if name.is_empty() { format!("'{shown}'") } else { format!("'{shown}': '{name}'") }
}

/// The files of the distribution in a tar archive. Nothing but its file names and bytes is looked at, and nothing written to disk.
fn read_tar(shown: &str, stream: impl Read, limit: u64, split: Split) -> Result<BTreeMap<String, Vec<u8>>> {
    let damaged = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::input(format!("'{shown}' is truncated: the download was cut short, fetch it again")),
        _ => Error::input(format!("'{shown}' is a damaged archive ({error}): fetch it again, or check it with tar -tzf")),
    };
    let mut stream = Limited { stream, left: limit };
    let mut archive = tar::Archive::new(stream.by_ref());
    let mut files = BTreeMap::new();
    // Raw: long names and other extensions, which no file of the distribution needs, would be read into memory whole.
    for (index, entry) in archive.entries().map_err(damaged)?.raw(true).enumerate() {
        let mut entry = entry.map_err(damaged)?;
        if index >= MAX_ENTRIES {
            return Err(Error::input(format!("'{shown}' has more than {MAX_ENTRIES} entries: it is not CIFAR-10's archive")));
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if let Some(fault) = unsafe_name(&path) {
            return Err(Error::input(format!(
                "'{shown}': entry '{}' {fault}: refused; fetch the archive from its maker",
                path.escape_debug()
            )));
        }
        let name = path.rsplit('/').next().unwrap_or_default().to_string();
        if entry.header().entry_type().is_file() && (is_batch(&name, split) || name == NAMES_FILE) {
            let promised = entry.size();
            keep(&mut files, shown, name.clone(), &mut entry)?;
            if files[&name].len() as u64 != promised {
                return Err(damaged(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
    // To the end of the stream, where gzip keeps its checksum.
    io::copy(&mut stream, &mut io::sink()).map_err(damaged)?;
    Ok(files)
}

/// A stream that fails beyond so many bytes, so that a bomb is not unpacked.
struct Limited<R> {
    stream: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::other(format!("it unpacks to over {MAX_RATIO} times its own size")))?;
        Ok(read)
    }
}

fn assemble(shown: &str, name: &str, files: &BTreeMap<String, Vec<u8>>, split: Split) -> Result<DataSet> {
    let class_names = match files.get(NAMES_FILE) {
        None => (0..CLASSES).map(|class| class.to_string()).collect(),
        Some(text) => {
            let label = label(shown, NAMES_FILE);
            let text = std::str::from_utf8(text).map_err(|_| Error::input(format!("{label} is not text")))?;
            let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string).collect();
            if names.len() != CLASSES {
                return Err(Error::input(format!(
                    "{label} names {} classes; CIFAR-10 has {CLASSES}: fetch it again, or remove it",
                    names.len()
                )));
            }
            names
        }
    };
    let batches: Vec<(&String, &Vec<u8>)> = files.iter().filter(|(name, _)| *name != NAMES_FILE).collect();
    if batches.is_empty() {
        let (wanted, what) = match split {
            Split::Train => ("data_batch_1.bin", "training"),
            Split::Test => ("test_batch.bin", "testing"),
        };
        return Err(Error::input(format!("'{shown}' holds no CIFAR-10 batches for {what}: expected {wanted}")));
    }
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for (name, bytes) in batches {
        let label = label(shown, name);
        if bytes.is_empty() || bytes.len() % RECORD != 0 {
            return Err(Error::input(format!(
                "{label} holds {} bytes, no whole number of CIFAR-10 records of {RECORD}: it is truncated, or CIFAR-100; fetch it again",
                bytes.len()
            )));
        }
        for (index, record) in bytes.chunks_exact(RECORD).enumerate() {
            if usize::from(record[0]) >= CLASSES {
                return Err(Error::input(format!(
                    "{label}: the label of record {index} is {}; CIFAR-10 has 0 to 9: the file is damaged, or something else",
                    record[0]
                )));
            }
            labels.push(u32::from(record[0]));
            let planes = &record[1..];
            pixels.extend((0..PLANE).flat_map(|pixel| [planes[pixel], planes[PLANE + pixel], planes[2 * PLANE + pixel]]));
        }
    }
    let split = match split {
        Split::Train => "train",
        Split::Test => "test",
    };
    DataSet::new(format!("{name} ({split})"), (labels.len(), SIDE, SIDE, 3), pixels, Some(labels), class_names)
}
