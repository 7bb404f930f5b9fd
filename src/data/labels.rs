//! Labels of pictures: from their folders, or from StyleGAN's `dataset.json`.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::collection::{Collection, LABELS_FILE};
use super::policy::Labels;
use crate::error::{Error, Result};

/// Most classes of a data set.
pub const MAX_CLASSES: u32 = 1 << 16;

/// `dataset.json` as StyleGAN's tools write it, and the names of the classes, which they do not know of and ignore.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LabelsFile {
    /// Path of a picture below the root, and its class.
    pub labels: Option<Vec<(String, u32)>>,
    /// A name per class; the numbers themselves where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_names: Option<Vec<String>>,
}

/// A class per entry, and a name per class.
pub type Classes = (Vec<u32>, Vec<String>);

/// The labels that `how` asks for, one per entry, if any.
///
/// # Errors
/// [`Error::Input`] if they are asked for and not there, a picture has none, or the file is wrong.
pub fn of(collection: &Collection, how: Labels) -> Result<Option<Classes>> {
    match how {
        Labels::None => Ok(None),
        Labels::Folders => from_folders(collection).map(Some),
        Labels::Auto => from_json(collection),
        Labels::Json => from_json(collection)?.map(Some).ok_or_else(|| {
            Error::input(format!(
                "'{}' has no labels in a {LABELS_FILE} at its root: add them, or choose --labels folders or none",
                collection.shown
            ))
        }),
    }
}

fn from_folders(collection: &Collection) -> Result<Classes> {
    let paths: Vec<Vec<&str>> = collection.entries.iter().map(|entry| entry.name.split('/').collect()).collect();
    // A folder that holds everything is no class, unless the pictures lie directly in it.
    let first = &paths[0];
    let mut depth = 0;
    while paths.iter().all(|path| path.len() > depth + 2 && path[depth] == first[depth]) {
        depth += 1;
    }
    if let Some(index) = paths.iter().position(|path| path.len() < depth + 2) {
        return Err(Error::input(format!(
            "{} lies in no sub-folder, so that --labels folders gives it no class: move it, or choose --labels none",
            collection.entry_shown(&collection.entries[index])
        )));
    }
    let names: BTreeSet<&str> = paths.iter().map(|path| path[depth]).collect();
    if names.len() > MAX_CLASSES as usize {
        return Err(Error::input(format!(
            "'{}' has {} sub-folders, and labels allow {MAX_CLASSES} classes: choose --labels none",
            collection.shown,
            names.len()
        )));
    }
    let names: Vec<&str> = names.into_iter().collect();
    let number: HashMap<&str, u32> = names.iter().enumerate().map(|(class, &name)| (name, class as u32)).collect();
    Ok((paths.iter().map(|path| number[path[depth]]).collect(), names.into_iter().map(str::to_string).collect()))
}

fn from_json(collection: &Collection) -> Result<Option<Classes>> {
    let Some((shown, bytes)) = collection.labels()? else { return Ok(None) };
    let file: LabelsFile = serde_json::from_slice(&bytes).map_err(|error| {
        Error::input(format!("{shown} is wrong: {error}; expected {{\"labels\": [[\"path.png\", 3], ...]}} or {{\"labels\": null}}"))
    })?;
    let Some(labels) = file.labels else { return Ok(None) };
    let mut by_name = HashMap::new();
    for (name, label) in &labels {
        if *label >= MAX_CLASSES {
            return Err(Error::input(format!("{shown}: the label of '{name}' is {label}; labels go from 0 to {}", MAX_CLASSES - 1)));
        }
        if by_name.insert(name.replace('\\', "/"), *label).is_some_and(|before| before != *label) {
            return Err(Error::input(format!("{shown} gives '{name}' two labels: remove one of them")));
        }
    }
    let missing: Vec<&str> =
        collection.entries.iter().map(|entry| entry.name.as_str()).filter(|&name| !by_name.contains_key(name)).collect();
    if let Some(first) = missing.first() {
        return Err(Error::input(format!(
            "{shown} has no label for {} of {} pictures, the first of them '{first}': add them, or choose --labels none",
            missing.len(),
            collection.entries.len()
        )));
    }
    let labels: Vec<u32> = collection.entries.iter().map(|entry| by_name[&entry.name]).collect();
    let classes = labels.iter().max().map_or(0, |&label| label + 1);
    let names = match file.class_names {
        None => (0..classes).map(|class| class.to_string()).collect(),
        Some(names) if names.len() as u64 >= u64::from(classes) && names.len() <= MAX_CLASSES as usize => names,
        Some(names) => {
            return Err(Error::input(format!("{shown} names {} classes, but its labels go up to {}", names.len(), classes - 1)));
        }
    };
    Ok(Some((labels, names)))
}
