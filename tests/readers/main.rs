//! Readers of people's data: pictures in folders and archives, NumPy's arrays, CIFAR-10; the policy for pictures; `ganymede data`.

mod arrays;
mod command;
mod files;
mod hostile;
mod mutations;
mod pictures;
#[path = "../common/watched.rs"]
mod watched;

use std::path::Path;

use ganymede::data::{self, DataSet, ImagePolicy, LoadOptions};
use ganymede::error::Result;

/// A folder with files in it, in sub-folders as their names say.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    folder
}

fn load(path: &Path, policy: &ImagePolicy) -> Result<DataSet> {
    data::load_with(path.to_str().unwrap(), &LoadOptions::default(), policy, &|_, _| {})
}

/// Loads what must not load: exit code 2, and the message holds every one of `parts`.
#[track_caller]
fn refused(path: &Path, policy: &ImagePolicy, parts: &[&str]) {
    says(load(path, policy), parts);
}

#[track_caller]
fn says<T: std::fmt::Debug>(result: Result<T>, parts: &[&str]) {
    let error = result.expect_err("this must not load");
    assert_eq!(error.exit_code(), 2, "{error:?}");
    for part in parts {
        assert!(error.to_string().contains(part), "the message does not say '{part}': {error}");
    }
}
