//! Writing a file so that a kill, a crash or a full disk leaves either the old one or the new one, never half of one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Replaces `path` by `bytes`: written to a temporary file in the same folder, fsynced, renamed, and the folder fsynced.
///
/// # Errors
/// [`Error::Environment`] naming the path; what stood at `path` before is then untouched and the temporary file is gone.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_with(path, |file| file.write_all(bytes))
}

/// [`replace`] with the writing left to the caller, so that a failing disk can be played.
pub(crate) fn replace_with(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    let temporary = temporary_name(path);
    let written = File::create(&temporary).and_then(|mut file| {
        fill(&mut file)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&temporary, path)).and_then(|()| sync_folder(path));
    renamed.map_err(|error| {
        // Best effort: it may never have come to exist, and a full or read-only disk is reported below either way.
        let _ = fs::remove_file(&temporary);
        cannot_write(path, &error)
    })
}

/// The error for a file or folder that cannot be written, with what to do about it.
pub fn cannot_write(path: &Path, error: &io::Error) -> Error {
    use io::ErrorKind as Kind;
    let hint = match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => "free some space there, or write elsewhere with --outdir",
        Kind::FileTooLarge => "the file size limit is too small (see `ulimit -f`); raise it, or write elsewhere with --outdir",
        Kind::ReadOnlyFilesystem | Kind::PermissionDenied => "choose a folder that you may write to with --outdir",
        Kind::NotADirectory => "a part of that path is a file, not a folder; choose another with --outdir",
        _ => "check that the folder exists and may be written to, or choose another with --outdir",
    };
    Error::environment(format!("cannot write {}: {}; {hint}", path.display(), plain(error)))
}

/// The system's words for an error, without Rust's "(os error 28)".
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_string(),
        None => text,
    }
}

/// Removes temporary files that a killed process left in `folder`. Call it only while holding the folder's lock.
pub(crate) fn remove_temporaries(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with('.') && name.ends_with(".tmp")) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Makes a rename in the folder of `path` durable.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Windows journals renames by itself and has no fsync for folders.
#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        replace(&path, b"old").unwrap();
        let error = replace_with(&path, |file| {
            file.write_all(b"half of the n")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert_eq!(error.exit_code(), 3);
        let text = error.to_string();
        assert!(text.contains("a.txt") && text.contains("free some space"), "{text}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the temporary file must be gone");
    }

    #[test]
    fn temporaries_of_a_killed_process_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".checkpoint-000000000064.safetensors.tmp"), b"torn").unwrap();
        fs::write(folder.path().join(".lock"), b"").unwrap();
        fs::write(folder.path().join("keep.tmp"), b"").unwrap();
        remove_temporaries(folder.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".lock", "keep.tmp"]);
    }
}
