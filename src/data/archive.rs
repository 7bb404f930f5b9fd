//! ZIP archives, read with suspicion: names, sizes and ratios are checked before anything is unpacked, and nothing is ever written to disk.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use crate::error::{Error, Result};

/// Most entries of an archive.
pub const MAX_ENTRIES: usize = 1 << 22;
/// How many times its own size an archive may unpack to, once that is more than [`FREE_BYTES`]. Deflate can reach 1032.
pub const MAX_RATIO: u64 = 200;
/// What may be unpacked whatever the ratio (64 MiB).
pub const FREE_BYTES: u64 = 1 << 26;

/// An archive whose directory is read and checked. Clones share the directory and the file, so that each thread can have its own.
#[derive(Clone)]
pub struct Archive {
    zip: ZipArchive<Source>,
    shown: String,
}

/// A file of an archive.
pub struct Member {
    /// Path inside the archive, with `/`.
    pub name: String,
    /// For [`Archive::stream`].
    pub index: usize,
    /// Bytes unpacked, as the directory has it.
    pub size: u64,
    method: CompressionMethod,
    encrypted: bool,
}

impl Archive {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::Input`] as [`Archive::of`].
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let file = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (len, file) = file.map_err(|error| Error::input(format!("cannot read '{shown}': {error}")))?;
        Self::of(Source::File(SharedFile { file: Arc::new(Mutex::new(file)), position: 0, len }), shown)
    }

    /// Opens bytes in memory; `shown` is what errors call them.
    ///
    /// # Errors
    /// [`Error::Input`] as [`Archive::of`].
    pub fn from_bytes(bytes: &[u8], shown: &str) -> Result<Self> {
        Self::of(Source::Bytes(Cursor::new(Arc::from(bytes))), shown.to_string())
    }

    /// # Errors
    /// [`Error::Input`] if there is no directory, or it names paths outside the archive, or promises more than the archive can hold in earnest.
    fn of(source: Source, shown: String) -> Result<Self> {
        let len = source.len();
        let zip = ZipArchive::new(source).map_err(|error| damaged(&shown, &error))?;
        if zip.len() > MAX_ENTRIES {
            return Err(Error::input(format!("'{shown}' has {} entries, beyond the limit of {MAX_ENTRIES}: split it", zip.len())));
        }
        if zip.has_duplicate_names() {
            return Err(Error::input(format!("'{shown}' has several entries of the same name: unpack it and pack the folder anew")));
        }
        let (mut packed, mut unpacked) = (0u64, 0u64);
        let directory = zip.metadata();
        for index in 0..directory.len() {
            let entry = directory.entry(index).map_err(|error| damaged(&shown, &error))?;
            let name = entry.name().map_err(|error| damaged(&shown, &error))?;
            if let Some(fault) = unsafe_name(&name) {
                return Err(Error::input(format!(
                    "'{shown}': entry '{}' {fault}: refused; unpack it with care, and pack it anew",
                    printable(&name)
                )));
            }
            packed = packed.saturating_add(entry.compressed_size());
            unpacked = unpacked.saturating_add(entry.size());
        }
        if packed > len {
            return Err(Error::input(format!(
                "'{shown}' holds {len} bytes, but its entries claim {packed} packed bytes: they overlap, or the archive is cut short; fetch it again"
            )));
        }
        if unpacked > FREE_BYTES && unpacked / MAX_RATIO > len {
            return Err(Error::input(format!(
                "'{shown}' would unpack to {} times its own size, beyond the limit of {MAX_RATIO}: it looks like a ZIP bomb; if it is not, unpack it \
                 and give the folder",
                unpacked / len.max(1)
            )));
        }
        Ok(Self { zip, shown })
    }

    /// The files, in the order of the directory: no folders, no links, nothing hidden.
    pub fn members(&self) -> Vec<Member> {
        let directory = self.zip.metadata();
        (0..directory.len())
            .filter_map(|index| {
                let entry = directory.entry(index).ok()?;
                // Some Windows programs write their own separator.
                let name = entry.name().ok()?.replace('\\', "/");
                let hidden = name.split('/').any(|part| part.starts_with('.') || part == "__MACOSX");
                let is_file = !entry.is_dir() && !entry.is_symlink() && !name.ends_with('/');
                (is_file && !hidden).then(|| Member {
                    name,
                    index,
                    size: entry.size(),
                    method: entry.compression(),
                    encrypted: entry.encrypted(),
                })
            })
            .collect()
    }

    /// What errors call a member.
    pub fn shown(&self, name: &str) -> String {
        format!("'{}': entry '{}'", self.shown, printable(name))
    }

    /// A stream of a member's bytes, which ends with an error if the checksum is wrong.
    ///
    /// # Errors
    /// [`Error::Input`] if it is encrypted, or packed by something other than deflate.
    pub fn stream(&mut self, member: &Member) -> Result<impl Read + '_> {
        let shown = self.shown(&member.name);
        if member.encrypted {
            return Err(Error::input(format!("{shown} is encrypted: unpack the archive and pack it anew without a password")));
        }
        if !matches!(member.method, CompressionMethod::Stored | CompressionMethod::Deflated) {
            return Err(Error::input(format!(
                "{shown} is packed by a method other than deflate: unpack the archive and pack it anew with `zip -r`"
            )));
        }
        self.zip.by_index(member.index).map_err(|error| Error::input(format!("{shown} cannot be read: {error}; fetch the archive again")))
    }

    /// A member's bytes, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Input`] as [`Self::stream`], and if there are other than the directory says, more than `limit`, or the checksum is wrong.
    pub fn read(&mut self, member: &Member, limit: u64) -> Result<Vec<u8>> {
        let shown = self.shown(&member.name);
        if member.size > limit {
            return Err(Error::input(format!("{shown} claims {} bytes, beyond the limit of {limit}", member.size)));
        }
        // The vector grows with what really comes. One byte more than promised shows a surplus, and makes the reader check the sum.
        let mut bytes = Vec::new();
        let read = self.stream(member)?.take(member.size + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::input(format!("{shown} is damaged ({error}): fetch the archive again, or check it with unzip -t")))?;
        if bytes.len() as u64 != member.size {
            return Err(Error::input(format!(
                "{shown} is damaged: the directory promises {} bytes, it unpacks to {}; fetch the archive again",
                member.size,
                if bytes.len() as u64 > member.size { "more".to_string() } else { bytes.len().to_string() }
            )));
        }
        Ok(bytes)
    }
}

fn damaged(shown: &str, error: &ZipError) -> Error {
    Error::input(format!("'{shown}' is no ZIP archive, or a damaged one ({error}): fetch it again, or check it with unzip -t"))
}

/// A name without control characters, so that an archive cannot write to the terminal.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// What makes a path leave the folder that it would be unpacked into, if anything.
pub fn unsafe_name(name: &str) -> Option<&'static str> {
    let separators = ['/', '\\'];
    if name.is_empty() {
        return Some("has no name");
    }
    if name.contains('\0') {
        return Some("has a NUL in its name");
    }
    if name.starts_with(separators) {
        return Some("is an absolute path");
    }
    if name.as_bytes().get(1) == Some(&b':') && name.as_bytes()[0].is_ascii_alphabetic() {
        return Some("names a drive");
    }
    name.split(separators).any(|part| part == "..").then_some("leads out of the archive with '..'")
}

/// Where an archive's bytes are.
#[derive(Clone)]
enum Source {
    Bytes(Cursor<Arc<[u8]>>),
    File(SharedFile),
}

/// One open file for several readers, each with its own place in it.
#[derive(Clone)]
struct SharedFile {
    file: Arc<Mutex<File>>,
    position: u64,
    len: u64,
}

impl Source {
    fn len(&self) -> u64 {
        match self {
            Source::Bytes(bytes) => bytes.get_ref().len() as u64,
            Source::File(file) => file.len,
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::Bytes(bytes) => bytes.read(buffer),
            Source::File(shared) => {
                let mut file = shared.file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(shared.position))?;
                let read = file.read(buffer)?;
                shared.position += read as u64;
                Ok(read)
            }
        }
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Source::Bytes(bytes) => bytes.seek(to),
            Source::File(shared) => {
                let place = match to {
                    SeekFrom::Start(place) => Some(place),
                    SeekFrom::End(offset) => shared.len.checked_add_signed(offset),
                    SeekFrom::Current(offset) => shared.position.checked_add_signed(offset),
                };
                shared.position =
                    place.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a place before the start of the file"))?;
                Ok(shared.position)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_outside_are_known() {
        for name in ["a.png", "a/b.png", "a..b/c...png", "..a/b", "a/..b", "ab:c", "x"] {
            assert_eq!(unsafe_name(name), None, "{name}");
        }
        for name in ["", "/a", "\\a", "../a", "a/../b", "a\\..\\b", "a/..", "..", "C:\\a", "c:a", "a:b.png", "a\0b"] {
            assert!(unsafe_name(name).is_some(), "{name:?}");
        }
    }
}
