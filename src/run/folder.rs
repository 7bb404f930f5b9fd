//! Run folders: `runs/00000-<data>-<preset>-b<batch>[-desc]/`, numbered, created exclusively, locked while open.
//!
//! | file | holds |
//! |---|---|
//! | `config.toml` | every setting, resolved |
//! | `log.txt` | what was printed, each line with its step |
//! | `stats.jsonl` | one JSON object a tick |
//! | `events.out.tfevents.*` | the same for TensorBoard, with pictures; one file each time that the run starts or goes on |
//! | `report.html` | the run on one page |
//! | `reals.png`, `fakes_init.png`, `fakes-<images seen>.png` | real images; fixed noise through the averaged generator; plots where the data are points |
//! | `checkpoint-<images seen>.safetensors` | the whole state |
//! | `superseded/` | checkpoints that a resume from an older one set aside |
//! | `.lock` | number of the process that has the folder open |

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::checkpoint::{self, CheckpointFile};
use super::config::{TrainConfig, slug};
use super::disk;
use super::layers::Layers;
use crate::error::{Error, Result};

/// An open run folder; it stays locked until this is dropped.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Holds the lock; `None` on file systems without locks.
    lock: Option<File>,
}

/// What [`find`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The run folder, or the folder that a lone checkpoint lies in.
    pub folder: PathBuf,
    /// The checkpoint: the one that was named, else the run's newest; `None` for a run that has none yet.
    pub checkpoint: Option<PathBuf>,
}

impl RunFolder {
    /// Creates `outdir` if need be, and in it a new run folder, numbered one above the largest there is.
    ///
    /// # Errors
    /// [`Error::Environment`] naming the folder that cannot be made.
    pub fn create(outdir: &Path, data: &str, preset: &str, batch: u32, desc: &str) -> Result<Self> {
        prepare_outdir(outdir)?;
        // Two runs with different names would not collide in `create_dir`, and would take the same number; this lock makes numbering one
        // step. It is released when dropped.
        let _numbering = lock(&outdir.join(".lock"), Wait::Yes)?;
        loop {
            let path = next_path(outdir, data, preset, batch, desc)?;
            match fs::create_dir(&path) {
                Ok(()) => {
                    let lock = lock(&path.join(".lock"), Wait::No)?.flatten();
                    return Ok(RunFolder { path, lock });
                }
                // Another process on a file system without locks was faster.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(disk::cannot_write(&path, &error)),
            }
        }
    }

    /// Opens an existing run folder to go on with it.
    ///
    /// # Errors
    /// [`Error::Input`] if it is not a folder or another process has it open, [`Error::Environment`] if it cannot be written to.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(Error::input(format!("{} is not a run folder", path.display())));
        }
        let lock_path = path.join(".lock");
        let Some(lock) = lock(&lock_path, Wait::No)? else {
            let owner = fs::read_to_string(&lock_path).unwrap_or_default();
            let owner = owner.trim();
            let owner =
                if owner.is_empty() { "another ganymede process".to_string() } else { format!("another ganymede (process {owner})") };
            return Err(Error::input(format!("{} is in use by {owner}; wait for it to end, or stop it with Ctrl-C there", path.display())));
        };
        disk::remove_temporaries(path).map_err(|error| disk::cannot_write(path, &error))?;
        Ok(RunFolder { path: path.to_path_buf(), lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file system can lock, so that a second process is kept out.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Writes `config.toml`.
    ///
    /// # Errors
    /// [`Error::Environment`].
    pub fn write_config(&self, config: &TrainConfig) -> Result<()> {
        disk::replace(&config_path(&self.path), config.to_toml()?.as_bytes())
    }

    /// Its checkpoints, oldest first.
    ///
    /// # Errors
    /// [`Error::Input`] if the folder cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<CheckpointFile>> {
        checkpoint::list(&self.path)
    }

    /// Removes what lies beyond `images_seen`: pictures are deleted, for the run makes them again; checkpoints are moved to
    /// `superseded/`. Returns the moved ones.
    ///
    /// # Errors
    /// [`Error::Environment`].
    pub fn rewind(&self, images_seen: u64) -> Result<Vec<PathBuf>> {
        let mut moved = Vec::new();
        for newer in self.checkpoints()?.into_iter().filter(|checkpoint| checkpoint.images_seen > images_seen) {
            let shelf = self.path.join("superseded");
            let target = shelf.join(checkpoint::file_name(newer.images_seen));
            fs::create_dir_all(&shelf)
                .and_then(|()| fs::rename(&newer.path, &target))
                .map_err(|error| disk::cannot_write(&target, &error))?;
            moved.push(target);
        }
        for entry in fs::read_dir(&self.path).map_err(|error| disk::cannot_write(&self.path, &error))? {
            let path = entry.map_err(|error| disk::cannot_write(&self.path, &error))?.path();
            if path.file_name().and_then(|name| name.to_str()).and_then(fakes_number).is_some_and(|number| number > images_seen) {
                fs::remove_file(&path).map_err(|error| disk::cannot_write(&path, &error))?;
            }
        }
        Ok(moved)
    }

    /// Path of the picture of fakes after `images_seen` images.
    pub fn fakes_path(&self, images_seen: u64) -> PathBuf {
        self.path.join(format!("fakes-{images_seen:012}.png"))
    }
}

/// Images seen, from the name of a picture of fakes.
fn fakes_number(name: &str) -> Option<u64> {
    name.strip_prefix("fakes-")?.strip_suffix(".png")?.parse().ok()
}

/// The pictures of fakes in a run folder by images seen, those of before training first.
///
/// # Errors
/// [`Error::Environment`] if the folder cannot be read.
pub fn pictures(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let unreadable =
        |error: std::io::Error| Error::environment(format!("cannot read the folder {}: {}", folder.display(), disk::plain(&error)));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let images_seen = path.file_name().and_then(|name| name.to_str()).and_then(|name| match name {
            "fakes_init.png" => Some(0),
            name => fakes_number(name),
        });
        found.extend(images_seen.map(|images_seen| (images_seen, path)));
    }
    found.sort();
    Ok(found)
}

/// Path of a run folder's `config.toml`.
pub fn config_path(folder: &Path) -> PathBuf {
    folder.join("config.toml")
}

/// The settings in a run folder, if it has any.
///
/// # Errors
/// [`Error::Input`] if `config.toml` is there and cannot be used.
pub fn read_config(folder: &Path) -> Result<Option<TrainConfig>> {
    let path = config_path(folder);
    if !path.exists() {
        return Ok(None);
    }
    Layers::of_file(&path)?.resolve(None).map(Some)
}

/// Makes `outdir` and checks that it can be written to, so that a bad one is found before anything slow happens.
///
/// # Errors
/// [`Error::Environment`] naming it.
pub fn prepare_outdir(outdir: &Path) -> Result<()> {
    fs::create_dir_all(outdir).map_err(|error| disk::cannot_write(outdir, &error))?;
    let probe = outdir.join(".lock");
    OpenOptions::new().create(true).append(true).open(&probe).map(drop).map_err(|error| disk::cannot_write(outdir, &error))
}

/// The path that the next run folder in `outdir` gets.
///
/// # Errors
/// [`Error::Environment`] if the folder cannot be read.
pub fn next_path(outdir: &Path, data: &str, preset: &str, batch: u32, desc: &str) -> Result<PathBuf> {
    let number = runs(outdir)?.last().map_or(0, |(number, _)| number + 1);
    let mut name = format!("{number:05}-{}-{}-b{batch}", slug(data), slug(preset));
    if !slug(desc).is_empty() {
        name = format!("{name}-{}", slug(desc));
    }
    Ok(outdir.join(name))
}

/// The numbered folders in `outdir` by number; none if it does not exist.
fn runs(outdir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let unreadable =
        |error: std::io::Error| Error::environment(format!("cannot read the folder {}: {}", outdir.display(), disk::plain(&error)));
    let entries = match fs::read_dir(outdir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if let Some(number) = path.file_name().and_then(|name| name.to_str()).and_then(run_number)
            && path.is_dir()
        {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

fn run_number(name: &str) -> Option<u64> {
    let (digits, _) = name.split_once('-')?;
    (digits.len() >= 5 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Finds what `--resume`, `--fork` and `--model` name: `latest` (the highest number in `outdir`), the path of a checkpoint file, the path
/// of a run folder, or the name or number of a run in `outdir`.
///
/// # Errors
/// [`Error::Input`] if there is no such thing, listing what there is.
pub fn find(outdir: &Path, what: &str) -> Result<Found> {
    // A folder without settings belongs to a process that was killed before it had begun.
    let begun = |(_, path): &(u64, PathBuf)| config_path(path).exists();
    if what == "latest" {
        let run = runs(outdir)?.into_iter().rfind(begun);
        let (_, folder) =
            run.ok_or_else(|| Error::input(format!("there is no run in {} yet; start one with `ganymede train`", outdir.display())))?;
        return in_run(folder);
    }
    let path = Path::new(what);
    if path.is_file() {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        return Ok(Found { folder, checkpoint: Some(path.to_path_buf()) });
    }
    if path.is_dir() {
        return in_run(path.to_path_buf());
    }
    let runs = runs(outdir)?;
    let number = what.parse::<u64>().ok();
    let matches = |(n, path): &(u64, PathBuf)| Some(*n) == number || path.file_name().is_some_and(|name| name == what);
    match runs.iter().find(|run| matches(run)) {
        Some((_, folder)) => in_run(folder.clone()),
        None => {
            let there: Vec<String> =
                runs.iter().rev().take(5).filter_map(|(_, path)| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
            let there = if there.is_empty() { "no runs".to_string() } else { there.join(", ") };
            Err(Error::input(format!(
                "{what} is neither a run folder, nor a checkpoint file, nor the name or number of a run in {} (which holds {there})",
                outdir.display()
            )))
        }
    }
}

fn in_run(folder: PathBuf) -> Result<Found> {
    let checkpoint = checkpoint::list(&folder)?.pop().map(|checkpoint| checkpoint.path);
    if checkpoint.is_none() && !config_path(&folder).exists() {
        return Err(Error::input(format!("{} is not a run folder: it has neither a config.toml nor a checkpoint", folder.display())));
    }
    Ok(Found { folder, checkpoint })
}

#[derive(Clone, Copy, PartialEq)]
enum Wait {
    Yes,
    No,
}

/// Locks a file: `Some(Some(file))` if this process has the lock now, `Some(None)` where the file system cannot lock, `None` if another
/// process has it.
fn lock(path: &Path, wait: Wait) -> Result<Option<Option<File>>> {
    let failed = |error: &std::io::Error| disk::cannot_write(path, error);
    // Not truncated: until the lock is held, the process number in it is another's.
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(|error| failed(&error))?;
    let locked = match wait {
        Wait::Yes => file.lock().map_err(TryLockError::Error),
        Wait::No => file.try_lock(),
    };
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => return Ok(Some(None)),
        Err(TryLockError::Error(error)) => return Err(failed(&error)),
    }
    let noted = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    noted.map_err(|error| failed(&error))?;
    Ok(Some(Some(file)))
}

/// Reads a file that may not exist.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::environment(format!("cannot read {}: {}", path.display(), disk::plain(&error)))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::run::layers::Layers;

    fn create(outdir: &Path, desc: &str) -> RunFolder {
        RunFolder::create(outdir, "digits", "mlp", 64, desc).unwrap()
    }

    fn begun(outdir: &Path, desc: &str) -> PathBuf {
        let folder = create(outdir, desc);
        folder.write_config(&Layers::default().resolve(None).unwrap()).unwrap();
        folder.path().to_path_buf()
    }

    #[test]
    fn names_and_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let outdir = dir.path().join("a/b");
        assert_eq!(create(&outdir, "").path(), outdir.join("00000-digits-mlp-b64"));
        assert_eq!(create(&outdir, "my  test/1").path(), outdir.join("00001-digits-mlp-b64-my-test-1"));
        fs::create_dir(outdir.join("00041-someone-elses")).unwrap();
        fs::write(outdir.join("00099-a-file"), b"").unwrap();
        fs::create_dir(outdir.join("77-too-short")).unwrap();
        assert_eq!(create(&outdir, "").path(), outdir.join("00042-digits-mlp-b64"));
        fs::create_dir(outdir.join("99999-x")).unwrap();
        assert_eq!(create(&outdir, "").path(), outdir.join("100000-digits-mlp-b64"));
        assert_eq!(create(&outdir, "").path(), outdir.join("100001-digits-mlp-b64"));
    }

    #[test]
    fn racing_creators_get_different_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let barrier = Barrier::new(8);
        let numbers: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|i| {
                    let (outdir, barrier) = (dir.path(), &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        let names: Vec<_> = (0..10).map(|_| create(outdir, &format!("t{i}")).path().to_path_buf()).collect();
                        names.iter().map(|p| run_number(p.file_name().unwrap().to_str().unwrap()).unwrap()).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
        });
        let mut sorted = numbers;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..80).collect::<Vec<_>>());
    }

    #[test]
    fn a_second_opener_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = create(dir.path(), "");
        let error = RunFolder::open(first.path()).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.contains("00000-digits-mlp-b64 is in use by another ganymede"), "{text}");
        #[cfg(unix)]
        assert!(text.contains(&std::process::id().to_string()), "{text}");
        let path = first.path().to_path_buf();
        drop(first);
        drop(RunFolder::open(&path).unwrap());
        RunFolder::open(&path).unwrap();
    }

    #[test]
    fn finding_a_run() {
        let dir = tempfile::tempdir().unwrap();
        let outdir = dir.path();
        let refused = |what: &str| {
            let error = find(outdir, what).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        };
        assert!(refused("latest").contains("there is no run in"), "{}", refused("latest"));
        let a = begun(outdir, "a");
        let b = begun(outdir, "b");
        let empty = create(outdir, "killed").path().to_path_buf();
        let file = b.join(checkpoint::file_name(640));
        fs::write(b.join(checkpoint::file_name(64)), b"").unwrap();
        fs::write(&file, b"").unwrap();

        let newest_b = Found { folder: b.clone(), checkpoint: Some(file.clone()) };
        for what in ["latest", "1", "00001", "00001-digits-mlp-b64-b", b.to_str().unwrap(), file.to_str().unwrap()] {
            assert_eq!(find(outdir, what).unwrap(), newest_b, "{what}");
        }
        assert_eq!(find(outdir, "0").unwrap(), Found { folder: a, checkpoint: None });
        assert!(refused(empty.to_str().unwrap()).contains("neither a config.toml nor a checkpoint"));
        let text = refused("7");
        assert!(text.contains("7 is neither a run folder") && text.contains("00001-digits-mlp-b64-b"), "{text}");
    }

    #[test]
    fn rewinding_sets_newer_checkpoints_aside_and_removes_newer_pictures() {
        let dir = tempfile::tempdir().unwrap();
        let folder = create(dir.path(), "");
        for images in [64, 128, 192] {
            fs::write(folder.path().join(checkpoint::file_name(images)), images.to_string()).unwrap();
            fs::write(folder.fakes_path(images), b"").unwrap();
        }
        fs::write(folder.path().join("fakes_init.png"), b"").unwrap();
        let moved = folder.rewind(64).unwrap();
        assert_eq!(moved.len(), 2);
        assert_eq!(fs::read(&moved[1]).unwrap(), b"192");
        assert_eq!(folder.checkpoints().unwrap().iter().map(|c| c.images_seen).collect::<Vec<_>>(), [64]);
        assert!(folder.fakes_path(64).exists() && folder.path().join("fakes_init.png").exists());
        assert!(!folder.fakes_path(128).exists() && !folder.fakes_path(192).exists());
        assert!(folder.rewind(64).unwrap().is_empty());
    }

    #[test]
    fn an_outdir_that_cannot_be_written_is_an_environment_error_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let mut places = vec![file.join("below")];
        if cfg!(target_os = "linux") {
            places.push("/proc/ganymede-runs".into());
        }
        for place in places {
            for error in [prepare_outdir(&place).unwrap_err(), RunFolder::create(&place, "digits", "mlp", 64, "").unwrap_err()] {
                assert_eq!(error.exit_code(), 3, "{error}");
                let text = error.to_string();
                assert!(text.contains(place.to_str().unwrap()) && text.contains("--outdir"), "{text}");
            }
        }
    }
}
