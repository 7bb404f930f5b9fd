//! IDX files, the format of MNIST and Fashion-MNIST (described on the MNIST page of Y. LeCun, C. Cortes and C. Burges).
//!
//! | bytes | images | labels |
//! |---|---|---|
//! | 0..4 | magic 0x00000803: unsigned bytes, 3 dimensions | magic 0x00000801: unsigned bytes, 1 dimension |
//! | 4.. | count, height, width: u32, big-endian | count: u32, big-endian |
//! | then | pixels, row by row, images one after another | one byte per label |
//!
//! Files may be gzipped; that is told by their first bytes, not by their name. A folder holds `train-images-idx3-ubyte` and, for labels,
//! `train-labels-idx1-ubyte`; `train-images.idx3-ubyte` is understood too, and each with `.gz` (an unpacked file wins over a gzipped one). The
//! test split begins with `t10k-` or `test-` instead of `train-`.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::{DataSet, MAX_BYTES, Split, checked_bytes};
use crate::error::{Error, Result};

const IMAGES_MAGIC: u32 = 0x0000_0803;
const LABELS_MAGIC: u32 = 0x0000_0801;
/// Largest height or width that is believed.
const MAX_SIDE: u32 = 4096;

/// Loads the IDX files of a folder. Labels are used if there is a labels file.
///
/// # Errors
/// [`Error::Input`] if the folder has no images file of that split, or a file is wrong.
pub fn load_folder(folder: &Path, split: Split) -> Result<DataSet> {
    let Some(images) = find(folder, split, Kind::Images) else {
        return Err(nothing_found(folder, split));
    };
    let labels = find(folder, split, Kind::Labels);
    let split_name = match split {
        Split::Train => "train",
        Split::Test => "test",
    };
    // `.` and `..` have no name of their own.
    let resolved = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    let name = resolved.file_name().unwrap_or(resolved.as_os_str()).to_string_lossy();
    assemble(format!("{name} ({split_name})"), &images, labels.as_deref())
}

/// The bytes of one IDX images file, gzipped or not; `name` is what errors and the set are called.
///
/// # Errors
/// [`Error::Input`] saying what is wrong.
pub fn from_bytes(bytes: &[u8], name: &str) -> Result<DataSet> {
    let path = Path::new(name);
    let (dimensions, images) = if bytes.starts_with(&[0x1f, 0x8b]) {
        read_stream(path, Kind::Images, MultiGzDecoder::new(bytes), true)?
    } else {
        read_stream(path, Kind::Images, bytes, false)?
    };
    let [count, height, width] = dimensions[..] else {
        return Err(Error::internal("an IDX images header has three dimensions"));
    };
    DataSet::new(name, (count, height, width, 1), images, None, Vec::new())
}

/// Whether a folder holds an IDX images file, of either split.
pub(super) fn is_in(folder: &Path) -> bool {
    find(folder, Split::Train, Kind::Images).is_some() || find(folder, Split::Test, Kind::Images).is_some()
}

/// Loads one IDX images file, with the labels file beside it if there is one of the matching name (`images` → `labels`, `idx3` → `idx1`).
///
/// # Errors
/// [`Error::Input`] if the file is wrong, or the test split is asked for: one file has only one.
pub fn load_file(path: &Path, split: Split) -> Result<DataSet> {
    if split == Split::Test {
        return Err(Error::input(format!(
            "'{}' is one file and has no test split: give the folder that holds train and t10k files, or hold part of the file out",
            path.display()
        )));
    }
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let labels = path.with_file_name(name.replace("images", "labels").replace("idx3", "idx1"));
    let labels = (labels != path && labels.is_file()).then_some(labels);
    assemble(name, path, labels.as_deref())
}

fn assemble(name: String, images_path: &Path, labels_path: Option<&Path>) -> Result<DataSet> {
    let (dimensions, images) = read(images_path, Kind::Images)?;
    let [count, height, width] = dimensions[..] else {
        return Err(Error::internal("an IDX images header has three dimensions"));
    };
    let Some(labels_path) = labels_path else {
        return DataSet::new(name, (count, height, width, 1), images, None, Vec::new());
    };
    let (label_dimensions, labels) = read(labels_path, Kind::Labels)?;
    if label_dimensions[0] != count {
        return Err(Error::input(format!(
            "'{}' holds {count} images but '{}' holds {} labels: they do not belong together; take both from the same download",
            images_path.display(),
            labels_path.display(),
            label_dimensions[0]
        )));
    }
    let classes = labels.iter().max().map_or(0, |&label| usize::from(label) + 1);
    let class_names = (0..classes).map(|class| class.to_string()).collect();
    let labels = labels.into_iter().map(u32::from).collect();
    DataSet::new(name, (count, height, width, 1), images, Some(labels), class_names)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Images,
    Labels,
}

impl Kind {
    fn magic(self) -> u32 {
        match self {
            Kind::Images => IMAGES_MAGIC,
            Kind::Labels => LABELS_MAGIC,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Kind::Images => "images",
            Kind::Labels => "labels",
        }
    }

    fn dimensions(self) -> usize {
        match self {
            Kind::Images => 3,
            Kind::Labels => 1,
        }
    }
}

/// File names to look for, best first.
fn candidates(split: Split, kind: Kind) -> impl Iterator<Item = String> {
    let prefixes: &[&str] = match split {
        Split::Train => &["train"],
        Split::Test => &["t10k", "test"],
    };
    let (word, dimensions) = (kind.word(), kind.dimensions());
    prefixes.iter().flat_map(move |prefix| {
        ["", ".gz"].into_iter().flat_map(move |suffix| {
            ["-", "."].into_iter().map(move |separator| format!("{prefix}-{word}{separator}idx{dimensions}-ubyte{suffix}"))
        })
    })
}

fn find(folder: &Path, split: Split, kind: Kind) -> Option<PathBuf> {
    candidates(split, kind).map(|name| folder.join(name)).find(|path| path.is_file())
}

/// Why a folder has nothing to load, with what it does have.
pub(super) fn nothing_found(folder: &Path, split: Split) -> Error {
    let shown = folder.display();
    let wanted = candidates(split, Kind::Images).next().unwrap_or_default();
    let expected = format!(
        "expected pictures (PNG, JPEG, WebP, BMP or GIF), CIFAR-10's data_batch_1.bin, or an IDX images file such as {wanted} or {wanted}.gz"
    );
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return Error::input(format!("cannot read the data folder '{shown}': {error}")),
    };
    let mut names: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    if names.is_empty() {
        return Error::input(format!("the data folder '{shown}' is empty: {expected}"));
    }
    let other = match split {
        Split::Train => Split::Test,
        Split::Test => Split::Train,
    };
    let hint = if split == Split::Test && find(folder, other, Kind::Images).is_some() {
        "; it does hold train images: hold part of those out instead".to_string()
    } else if find(folder, other, Kind::Images).is_some() {
        "; it does hold test images, but training needs train-*".to_string()
    } else {
        // torchvision unpacks to MNIST/raw.
        let below = ["raw", "MNIST/raw", "FashionMNIST/raw"].iter().find(|name| find(&folder.join(name), split, Kind::Images).is_some());
        below.map(|name| format!("; did you mean '{}'?", folder.join(name).display())).unwrap_or_default()
    };
    let mut found = names[..names.len().min(4)].join(", ");
    if names.len() > 4 {
        found += &format!(" and {} more", names.len() - 4);
    }
    Error::input(format!("the data folder '{shown}' has nothing to load: {expected}, found {found}{hint}"))
}

/// Reads one IDX file: its dimensions, and its bytes.
fn read(path: &Path, kind: Kind) -> Result<(Vec<usize>, Vec<u8>)> {
    let shown = path.display();
    let broken = |error: std::io::Error| Error::input(format!("cannot read '{shown}': {error}"));
    // Metadata first: opening a pipe would wait for a writer, and a device may never end.
    let metadata = std::fs::metadata(path).map_err(broken)?;
    if !metadata.is_file() {
        return Err(Error::input(format!("'{shown}' is not a regular file; expected an IDX {} file", kind.word())));
    }
    let mut file = File::open(path).map_err(broken)?;
    let mut start = [0; 2];
    let gzipped = metadata.len() >= 2 && file.read_exact(&mut start).map(|()| start == [0x1f, 0x8b]).map_err(broken)?;
    file.rewind().map_err(broken)?;
    if !gzipped {
        return read_stream(path, kind, BufReader::new(file), false);
    }
    read_stream(path, kind, MultiGzDecoder::new(BufReader::new(file)), true)
}

fn read_stream(path: &Path, kind: Kind, mut stream: impl Read, gzipped: bool) -> Result<(Vec<usize>, Vec<u8>)> {
    let shown = path.display();
    let word = kind.word();
    let broken = |error: std::io::Error| match error.kind() {
        ErrorKind::UnexpectedEof if gzipped => {
            Error::input(format!("'{shown}' is truncated: its gzip stream ends early; the download was cut short, fetch it again"))
        }
        ErrorKind::InvalidInput | ErrorKind::InvalidData if gzipped => {
            Error::input(format!("'{shown}' is a corrupt gzip file ({error}): fetch it again, or check it with gzip -t"))
        }
        _ => Error::input(format!("cannot read '{shown}': {error}")),
    };

    let header_len = 4 + 4 * kind.dimensions();
    let mut header = Vec::with_capacity(header_len);
    stream.by_ref().take(header_len as u64).read_to_end(&mut header).map_err(broken)?;
    let field =
        |index: usize| header.get(4 * index..4 * index + 4).map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let expected = format!("an IDX {word} file, which starts with 0x{:08x}", kind.magic());
    match field(0) {
        Some(magic) if magic == kind.magic() => {}
        Some(magic) => {
            return Err(Error::input(format!("'{shown}' {}; expected {expected}", what_it_is(magic, &header))));
        }
        None => {
            return Err(Error::input(format!("'{shown}' holds only {} bytes; expected {expected}", header.len())));
        }
    }
    if header.len() < header_len {
        return Err(Error::input(format!(
            "'{shown}' is truncated: an IDX {word} header has {header_len} bytes, the file ends after {}; fetch it again",
            header.len()
        )));
    }
    let dimensions: Vec<u32> = (1..=kind.dimensions()).filter_map(field).collect();
    let product = dimensions.iter().map(u32::to_string).collect::<Vec<_>>().join(" x ");
    if dimensions[0] == 0 {
        return Err(Error::input(format!("'{shown}' holds no {word}: its header says {product}; at least one is needed")));
    }
    if dimensions[1..].contains(&0) {
        return Err(Error::input(format!("'{shown}' holds images without pixels: its header says {product}")));
    }
    let sizes: Vec<usize> = dimensions.iter().map(|&dimension| dimension as usize).collect();
    let promised = checked_bytes(&sizes).filter(|_| dimensions[1..].iter().all(|&side| side <= MAX_SIDE)).ok_or_else(|| {
        Error::input(format!(
            "'{shown}' claims {product}, beyond the limits of {MAX_SIDE} pixels a side and {} GiB in all: the header is damaged, or this is not an IDX {word} file",
            MAX_BYTES >> 30
        ))
    })?;

    // The vector grows with the bytes that are really there, so a lying header costs no memory; one byte more than promised shows a surplus,
    // and reading to the end makes the decoder check the gzip checksum.
    let mut bytes = Vec::new();
    stream.take(promised + 1).read_to_end(&mut bytes).map_err(broken)?;
    let got = bytes.len() as u64;
    if got < promised {
        return Err(Error::input(format!(
            "'{shown}' is truncated: its header promises {product} = {promised} bytes of {word}, the file holds {got}; fetch it again"
        )));
    }
    if got > promised {
        return Err(Error::input(format!(
            "'{shown}' goes on after its {word}: its header promises {product} = {promised} bytes, the file holds more; the header or the file is damaged"
        )));
    }
    bytes.shrink_to_fit();
    Ok((sizes, bytes))
}

/// What a file with the wrong magic number seems to be.
fn what_it_is(magic: u32, header: &[u8]) -> String {
    let signatures: [(&[u8], &str); 8] = [
        (b"\x89PNG", "is a PNG image"),
        (b"\xff\xd8\xff", "is a JPEG image"),
        (b"GIF8", "is a GIF image"),
        (b"PK\x03\x04", "is a ZIP archive"),
        (b"\x93NUM", "is a NumPy array"),
        (b"\x1f\x8b", "is gzipped twice"),
        (b"<!DO", "is a web page"),
        (b"<htm", "is a web page"),
    ];
    if let Some((_, what)) = signatures.iter().find(|(start, _)| header.starts_with(start)) {
        return (*what).to_string();
    }
    match magic {
        IMAGES_MAGIC => "holds IDX images".into(),
        LABELS_MAGIC => "holds IDX labels".into(),
        // Two zero bytes, the element type, the number of dimensions.
        0x0000_0800..=0x0000_08ff => format!("is an IDX file of {} dimensions", magic & 0xff),
        0x0000_0900..=0x0000_0eff => "is an IDX file of numbers other than unsigned bytes".into(),
        _ => format!("is no IDX file: it starts with 0x{magic:08x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidate_names_cover_both_spellings_packed_and_not() {
        let names: Vec<String> = candidates(Split::Train, Kind::Images).collect();
        assert_eq!(
            names,
            ["train-images-idx3-ubyte", "train-images.idx3-ubyte", "train-images-idx3-ubyte.gz", "train-images.idx3-ubyte.gz"]
        );
        let names: Vec<String> = candidates(Split::Test, Kind::Labels).collect();
        assert_eq!(names.len(), 8);
        assert!(names.contains(&"t10k-labels.idx1-ubyte.gz".to_string()) && names.contains(&"test-labels-idx1-ubyte".to_string()));
    }

    #[test]
    fn other_files_are_recognised_by_their_first_bytes() {
        let of = |bytes: [u8; 4]| what_it_is(u32::from_be_bytes(bytes), &bytes);
        assert_eq!(of(*b"\x89PNG"), "is a PNG image");
        assert_eq!(of([0, 0, 8, 1]), "holds IDX labels");
        assert_eq!(of([0, 0, 8, 4]), "is an IDX file of 4 dimensions");
        assert_eq!(of([0, 0, 0x0d, 3]), "is an IDX file of numbers other than unsigned bytes");
        assert_eq!(of(*b"abcd"), "is no IDX file: it starts with 0x61626364");
    }
}
