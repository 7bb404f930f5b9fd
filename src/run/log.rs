//! `log.txt` and `stats.jsonl`: every line knows its step, so that a resume can cut what lies beyond its checkpoint.
//!
//! A line of `log.txt` is `<step> | <text>`; a line of `stats.jsonl` is a JSON object with a `step`. Cutting keeps the lines up to the
//! first whose step is beyond the checkpoint's, and drops a torn last line. The line of an unfinished last tick (`"partial":true`) is cut
//! as well: the checkpoint holds that tick's sums, and the resumed run finishes the tick.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk;
use super::folder::read_if_there;
use super::progress::Progress;
use crate::error::Result;

/// Prints lines, and copies them to `log.txt` once that is open.
#[derive(Debug)]
pub struct Log {
    /// Whether standard output still has a reader; a run outlives a closed pipe.
    printing: bool,
    step: u64,
    file: Option<(PathBuf, File)>,
    /// Lines from before the file was open.
    pending: String,
    /// The bar that lines must not tear.
    pub(crate) progress: Progress,
}

impl Log {
    /// A log that prints to standard output.
    pub fn stdout() -> Self {
        Log { printing: true, step: 0, file: None, pending: String::new(), progress: Progress::default() }
    }

    /// A log that prints nothing.
    pub fn quiet() -> Self {
        Log { printing: false, ..Log::stdout() }
    }

    /// Sets the step that following lines belong to.
    pub fn set_step(&mut self, step: u64) {
        self.step = step;
    }

    /// Prints and records text, which may have several lines.
    ///
    /// # Errors
    /// [`crate::error::Error::Environment`] if `log.txt` cannot be written.
    pub fn line(&mut self, text: &str) -> Result<()> {
        if self.printing {
            self.printing = self.progress.aside(|| {
                let mut out = io::stdout().lock();
                writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
            });
        }
        self.record(text)
    }

    /// Records text without printing it.
    ///
    /// # Errors
    /// [`crate::error::Error::Environment`] if `log.txt` cannot be written.
    pub fn record(&mut self, text: &str) -> Result<()> {
        let mut lines = String::new();
        for line in text.lines() {
            lines.push_str(format!("{:>8} | {line}", self.step).trim_end());
            lines.push('\n');
        }
        match &mut self.file {
            None => self.pending.push_str(&lines),
            Some((path, file)) => file.write_all(lines.as_bytes()).map_err(|error| disk::cannot_write(path, &error))?,
        }
        Ok(())
    }

    /// Opens `path`, cuts what lies beyond `step`, and appends what was printed so far.
    ///
    /// # Errors
    /// [`crate::error::Error::Environment`].
    pub fn open(&mut self, path: &Path, step: u64) -> Result<()> {
        let (mut file, _) = open_cut(path, |line| log_step(line).is_none_or(|s| s <= step))?;
        let pending = std::mem::take(&mut self.pending);
        file.write_all(pending.as_bytes()).map_err(|error| disk::cannot_write(path, &error))?;
        self.file = Some((path.to_path_buf(), file));
        Ok(())
    }
}

/// The step of a line of `log.txt`.
fn log_step(line: &str) -> Option<u64> {
    line.split_once('|')?.0.trim().parse().ok()
}

/// `stats.jsonl`, one JSON object a tick.
#[derive(Debug)]
pub struct Stats {
    path: PathBuf,
    file: File,
    /// Seconds of training that the lines kept tell of.
    pub seconds: f64,
}

/// What a resume needs to know of a line of `stats.jsonl`.
#[derive(Deserialize)]
struct Stamp {
    step: u64,
    seconds: f64,
    #[serde(default)]
    partial: bool,
}

impl Stats {
    /// Opens `path` and cuts what lies beyond `step`.
    ///
    /// # Errors
    /// [`crate::error::Error::Environment`].
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let stamp = |line: &str| serde_json::from_str::<Stamp>(line).ok();
        let (file, last) = open_cut(path, |line| stamp(line).is_some_and(|stamp| stamp.step <= step && !stamp.partial))?;
        let seconds = last.and_then(|line| stamp(&line)).map_or(0.0, |stamp| stamp.seconds);
        Ok(Stats { path: path.to_path_buf(), file, seconds })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// [`crate::error::Error::Environment`].
    pub fn append(&mut self, line: &impl Serialize) -> Result<()> {
        let written = serde_json::to_string(line).map_err(io::Error::from).and_then(|mut line| {
            line.push('\n');
            self.file.write_all(line.as_bytes())
        });
        written.map_err(|error| disk::cannot_write(&self.path, &error))
    }
}

/// Opens a file of lines for appending, cut at the first line that is not to be kept or is torn. Returns the last line kept.
fn open_cut(path: &Path, keep: impl Fn(&str) -> bool) -> Result<(File, Option<String>)> {
    let bytes = read_if_there(path)?.unwrap_or_default();
    let (mut length, mut last) = (0, None);
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        match line.strip_suffix(b"\n").map(String::from_utf8_lossy) {
            Some(text) if keep(&text) => (length, last) = (length + line.len(), Some(text.into_owned())),
            _ => break,
        }
    }
    let opened = OpenOptions::new().create(true).append(true).open(path);
    let cut = opened.and_then(|file| {
        if length < bytes.len() {
            file.set_len(length as u64)?;
        }
        Ok(file)
    });
    cut.map(|file| (file, last)).map_err(|error| disk::cannot_write(path, &error))
}

/// Whether standard error is a terminal, so that a bar can be drawn.
pub(crate) fn on_terminal() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_log_is_cut_after_the_checkpoints_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.txt");
        let mut log = Log::quiet();
        log.line("starting\n  two lines").unwrap();
        log.open(&path, 0).unwrap();
        for step in [50, 100, 150] {
            log.set_step(step);
            log.line(&format!("tick a | b {step}")).unwrap();
        }
        drop(log);
        let whole = fs::read_to_string(&path).unwrap();
        assert!(whole.starts_with("       0 | starting\n       0 |   two lines\n      50 | tick a | b 50\n"), "{whole}");
        fs::write(&path, format!("{whole}     100 | torn by a ki")).unwrap();
        let mut log = Log::quiet();
        log.set_step(100);
        log.open(&path, 100).unwrap();
        log.line("resumed").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("     100 | tick a | b 100\n     100 | resumed\n"), "{text}");
        assert!(!text.contains("150") && !text.contains("torn"), "{text}");
    }

    #[test]
    fn statistics_lose_later_partial_and_torn_lines_and_keep_their_clock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stats.jsonl");
        let good = "{\"step\":50,\"seconds\":1.5}\n{\"step\":100,\"seconds\":3.25}\n";
        for tail in [
            "",
            "{\"step\":150,\"seconds\":9}\n",
            "{\"step\":100,\"partial\":true,\"seconds\":9}\n",
            "{\"step\":99,\"sec",
            "\0\0\0\0\n",
            "{\"step\":60}",
        ] {
            fs::write(&path, format!("{good}{tail}")).unwrap();
            let mut stats = Stats::open(&path, 100).unwrap();
            assert_eq!(stats.seconds, 3.25);
            stats.append(&serde_json::json!({"step": 101})).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{good}{{\"step\":101}}\n"), "{tail:?}");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(Stats::open(&path, 100).unwrap().seconds, 0.0);
    }
}
