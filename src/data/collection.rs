//! Pictures in a folder or a ZIP archive: their names in order, and their bytes.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::archive::{Archive, MAX_ENTRIES, Member};
use super::decode::{EXTENSIONS, MAX_FILE_BYTES};
use super::open::short_name;
use crate::error::{Error, Result};

/// StyleGAN's file of labels, at the root of a folder or an archive.
pub const LABELS_FILE: &str = "dataset.json";
/// Most bytes of it (256 MiB, some millions of labels).
const MAX_LABELS_BYTES: u64 = 1 << 28;
/// Deepest folder that is looked into.
const MAX_DEPTH: usize = 32;

/// The pictures of a folder or an archive, sorted by name, byte by byte.
pub struct Collection {
    /// What errors call the whole.
    pub shown: String,
    /// Short name for people.
    pub name: String,
    /// At least one.
    pub entries: Vec<Entry>,
    /// Files that are no pictures by their extension: how many of each (`.txt`), hidden ones and the labels left out.
    pub others: BTreeMap<String, usize>,
    labels: Option<Entry>,
    archive: Option<Archive>,
}

/// One picture.
pub struct Entry {
    /// Path below the root, with `/`.
    pub name: String,
    place: Place,
}

enum Place {
    File(PathBuf),
    Member(Member),
}

/// Reads entries; one per thread.
pub struct Reader(Option<Archive>);

impl Collection {
    /// The pictures below `folder`, or `None` if there are none. Hidden files and folders are left out; links are followed, but never twice
    /// to the same folder.
    ///
    /// # Errors
    /// [`Error::Input`] if a folder cannot be read, or folders are nested too deep.
    pub fn of_folder(folder: &Path) -> Result<Option<Self>> {
        let mut files = Vec::new();
        walk(folder, "", 0, &mut HashSet::new(), &mut files)?;
        let files = files.into_iter().map(|(name, path)| Entry { name, place: Place::File(path) }).collect();
        Ok(Self::sorted(folder.display().to_string(), short_name(folder), files, None))
    }

    /// The pictures in an archive, or `None` if there are none.
    pub fn of_archive(archive: Archive, shown: &str, name: String) -> Option<Self> {
        let members =
            archive.members().into_iter().map(|member| Entry { name: member.name.clone(), place: Place::Member(member) }).collect();
        Self::sorted(shown.to_string(), name, members, Some(archive))
    }

    fn sorted(shown: String, name: String, files: Vec<Entry>, archive: Option<Archive>) -> Option<Self> {
        let (mut entries, mut others, mut labels) = (Vec::new(), BTreeMap::new(), None);
        for entry in files {
            let extension = Path::new(&entry.name).extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
            if EXTENSIONS.contains(&extension.as_str()) {
                entries.push(entry);
            } else if entry.name == LABELS_FILE {
                labels = Some(entry);
            } else {
                let key = if extension.is_empty() { "no extension".to_string() } else { format!(".{extension}") };
                *others.entry(key).or_default() += 1;
            }
        }
        entries.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        (!entries.is_empty()).then_some(Self { shown, name, entries, others, labels, archive })
    }

    /// A reader for one thread.
    pub fn reader(&self) -> Reader {
        Reader(self.archive.clone())
    }

    /// What errors call an entry.
    pub fn entry_shown(&self, entry: &Entry) -> String {
        match (&entry.place, &self.archive) {
            (Place::Member(member), Some(archive)) => archive.shown(&member.name),
            (Place::File(path), _) => format!("'{}'", path.display()),
            _ => format!("'{}'", entry.name),
        }
    }

    /// The bytes of `dataset.json`, if there is one.
    ///
    /// # Errors
    /// [`Error::Input`] if it cannot be read.
    pub fn labels(&self) -> Result<Option<(String, Vec<u8>)>> {
        let read = |entry: &Entry| Ok((self.entry_shown(entry), self.reader().read_limited(entry, MAX_LABELS_BYTES)?));
        self.labels.as_ref().map(read).transpose()
    }
}

impl Reader {
    /// A picture's file.
    ///
    /// # Errors
    /// [`Error::Input`] naming the file (and archive entry) if it cannot be read whole or is too large.
    pub fn read(&mut self, entry: &Entry) -> Result<Vec<u8>> {
        self.read_limited(entry, MAX_FILE_BYTES)
    }

    fn read_limited(&mut self, entry: &Entry, limit: u64) -> Result<Vec<u8>> {
        match (&entry.place, &mut self.0) {
            (Place::Member(member), Some(archive)) => archive.read(member, limit),
            (Place::File(path), _) => {
                let unreadable = |error| Error::input(format!("cannot read '{}': {error}", path.display()));
                // Metadata first: opening a pipe would wait for a writer, and a device may never end.
                if !fs::metadata(path).map_err(unreadable)?.is_file() {
                    return Err(Error::input(format!("'{}' is not a regular file; remove it from the folder", path.display())));
                }
                let mut bytes = Vec::new();
                File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
                if bytes.len() as u64 > limit {
                    return Err(Error::input(format!("'{}' holds more than {limit} bytes, the limit for one file", path.display())));
                }
                Ok(bytes)
            }
            (Place::Member(_), None) => Err(Error::internal("an archive's entry without its archive")),
        }
    }
}

fn walk(folder: &Path, prefix: &str, depth: usize, seen: &mut HashSet<PathBuf>, files: &mut Vec<(String, PathBuf)>) -> Result<()> {
    let unreadable = |error| Error::input(format!("cannot read the folder '{}': {error}", folder.display()));
    if depth > MAX_DEPTH {
        return Err(Error::input(format!(
            "'{}' lies more than {MAX_DEPTH} folders deep: give a folder nearer to the pictures",
            folder.display()
        )));
    }
    // A link may lead back up.
    if !seen.insert(folder.canonicalize().map_err(unreadable)?) {
        return Ok(());
    }
    let mut entries = fs::read_dir(folder).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    // Which of two links to one folder counts must not depend on the file system.
    entries.sort_unstable_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let file_name = entry.file_name();
        let file_name = file_name.to_string_lossy();
        if file_name.starts_with('.') || file_name == "__MACOSX" {
            continue;
        }
        let name = format!("{prefix}{file_name}");
        let path = entry.path();
        // A link to nothing is listed, so that reading it names it.
        if path.is_dir() {
            walk(&path, &format!("{name}/"), depth + 1, seen, files)?;
        } else {
            files.push((name, path));
        }
        if files.len() > MAX_ENTRIES {
            return Err(Error::input(format!("'{}' holds more than {MAX_ENTRIES} files: split it", folder.display())));
        }
    }
    Ok(())
}
