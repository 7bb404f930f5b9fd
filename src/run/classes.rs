//! Classes of a labelled data set: what people call them, folders of their own, and sheets with a row for each.

use std::collections::HashSet;

use super::config::slug;
use super::grid::{self, Images};
use super::picture::Picture;
use crate::error::{Error, Result};
use crate::suggest::nearest;

/// Most rows of a sheet that shows what there is.
pub const MOST_ROWS: usize = 32;
/// Images that a run's sheet has about, and fewest in a row.
const SHEET_IMAGES: usize = 64;
const FEWEST_COLUMNS: usize = 4;
/// Most letters of a name before a row.
const MOST_LETTERS: usize = 16;

/// Samples to make: a seed each, and a class where the generator takes one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cells {
    /// Seeds.
    pub seeds: Vec<u64>,
    /// As many classes, or none at all.
    pub classes: Vec<u32>,
}

/// A sheet of images with a row for each of some classes, and the same seeds in each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassSheet {
    /// A class for each row.
    pub classes: Vec<u32>,
    /// What stands before each row.
    pub names: Vec<String>,
    /// A seed for each column.
    pub seeds: Vec<u64>,
}

impl ClassSheet {
    /// A sheet of the classes `classes`, whose names are in `names` by number.
    pub fn new(names: &[String], classes: Vec<u32>, seeds: Vec<u64>) -> Self {
        let name = |class: &u32| names.get(*class as usize).map_or_else(|| class.to_string(), String::clone);
        ClassSheet { names: classes.iter().map(name).collect(), classes, seeds }
    }

    /// The sheet that a run draws: the first [`MOST_ROWS`] classes, about 64 images.
    pub fn of_run(names: &[String]) -> Self {
        let rows = names.len().clamp(1, MOST_ROWS);
        let columns = (SHEET_IMAGES / rows).clamp(FEWEST_COLUMNS, 16);
        ClassSheet::new(names, (0..rows as u32).collect(), (0..columns as u64).collect())
    }

    /// Its images, row by row.
    pub fn cells(&self) -> Cells {
        Cells {
            seeds: self.seeds.repeat(self.classes.len()),
            classes: self.classes.iter().flat_map(|&class| self.seeds.iter().map(move |_| class)).collect(),
        }
    }

    /// The picture of the images of [`ClassSheet::cells`], with the classes' names to the left.
    ///
    /// # Errors
    /// As [`grid::compose`].
    pub fn picture(&self, images: &Images) -> Result<Picture> {
        let sheet = grid::compose(images, self.classes.len(), self.seeds.len())?;
        let names: Vec<String> = self.names.iter().map(|name| name.chars().take(MOST_LETTERS).collect()).collect();
        Ok(sheet.with_row_names(&names))
    }
}

/// The class that a text names: by its name, else by its number.
///
/// # Errors
/// [`Error::Input`] saying which classes there are, and the nearest name.
pub fn find(names: &[String], text: &str) -> Result<u32> {
    let by_name = names.iter().position(|name| name == text);
    let by_number = || text.parse::<usize>().ok().filter(|&number| number < names.len());
    by_name.or_else(by_number).map(|class| class as u32).ok_or_else(|| {
        let hint = nearest(text, names.iter().map(String::as_str)).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        let shown = names.iter().take(20).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if names.len() > 20 { ", ..." } else { "" };
        Error::input(format!("there is no class {text:?}; the {} classes, 0 to {}, are {shown}{more}{hint}", names.len(), names.len() - 1))
    })
}

/// A folder name for each class: its name where every system takes that as a folder's, and no other class has it but for upper and lower case; else
/// its number.
pub fn folders(names: &[String]) -> Vec<String> {
    let digits = names.len().saturating_sub(1).to_string().len();
    // Names of devices on Windows.
    let reserved = |name: &str| {
        let stem = name.to_ascii_lowercase();
        let numbered = stem.len() == 4 && (stem.starts_with("com") || stem.starts_with("lpt"));
        numbered || matches!(stem.as_str(), "con" | "prn" | "aux" | "nul")
    };
    let plain = |name: &String| !name.is_empty() && slug(name) == *name && !reserved(name);
    let mut taken: HashSet<String> = HashSet::new();
    let distinct = names.iter().all(|name| plain(name) && taken.insert(name.to_lowercase()));
    // All by number if any has to be: a number could be another class's name.
    if distinct { names.to_vec() } else { (0..names.len()).map(|class| format!("{class:0digits$}")).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn sheets_have_a_row_a_class_and_a_column_a_seed() {
        let ten: Vec<String> = (0..10).map(|class| class.to_string()).collect();
        let sheet = ClassSheet::of_run(&ten);
        assert_eq!((sheet.classes.len(), sheet.seeds.len()), (10, 6));
        let cells = sheet.cells();
        assert_eq!((&cells.seeds[5..8], &cells.classes[5..8]), (&[5, 0, 1][..], &[0, 1, 1][..]));
        let many: Vec<String> = (0..1000).map(|class| class.to_string()).collect();
        let sheet = ClassSheet::of_run(&many);
        assert_eq!((sheet.classes.len(), sheet.seeds.len()), (MOST_ROWS, FEWEST_COLUMNS));
        let one = ClassSheet::of_run(&names(&["only"]));
        assert_eq!((one.classes.len(), one.seeds.len()), (1, 16));

        let sheet = ClassSheet::new(&names(&["cat", "dog"]), vec![1, 0], vec![0, 1, 2]);
        assert_eq!(sheet.names, ["dog", "cat"]);
        let images = Images { n: 6, c: 1, h: 9, w: 9, data: vec![1.0; 6 * 81] };
        let (picture, plain) = (sheet.picture(&images).unwrap(), grid::compose(&images, 2, 3).unwrap());
        assert_eq!(picture.height, plain.height);
        assert!(picture.width >= plain.width + 3 * 6, "the names take room");
        let other = ClassSheet::new(&names(&["cat", "cow"]), vec![1, 0], vec![0, 1, 2]).picture(&images).unwrap();
        assert_ne!(picture, other, "the names are written");
    }

    #[test]
    fn classes_are_found_by_name_and_number() {
        let animals = names(&["cat", "dog", "0"]);
        assert_eq!([find(&animals, "dog").unwrap(), find(&animals, "1").unwrap(), find(&animals, "0").unwrap()], [1, 1, 2]);
        let error = find(&animals, "dgo").unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().ends_with("are cat, dog, 0; did you mean dog?"), "{error}");
        assert!(find(&animals, "3").unwrap_err().to_string().contains("the 3 classes, 0 to 2,"));
    }

    #[test]
    fn folders_are_safe_and_distinct() {
        assert_eq!(folders(&names(&["cat", "dog_2"])), ["cat", "dog_2"]);
        for bad in ["..", "a/b", "", "NUL", "Com1", "cat", "CAT", "a b", ".hidden", "C:"] {
            assert_eq!(folders(&names(&["cat", bad])), ["0", "1"], "{bad}");
        }
        let eleven: Vec<String> = (0..11).map(|i| format!("({i}, 0)")).collect();
        assert_eq!(folders(&eleven)[9..], ["09", "10"]);
        assert_eq!(folders(&names(&["0", "1", "10"])), ["0", "1", "10"]);
    }
}
