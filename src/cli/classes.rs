//! What `ganymede sample` makes of which class, and how a picture shows it.

use std::path::Path;

use super::args::{Grid, SampleArgs, Seeds};
use super::sample::layout;
use crate::error::{Error, Result};
use crate::run::classes::{Cells, ClassSheet, MOST_ROWS, find};
use crate::run::grid::{self, Images};
use crate::run::picture::Picture;

/// Seeds of a row, where none are given.
const SEEDS_OF_A_ROW: u64 = 8;

/// Most images of one call.
const MOST_IMAGES: u64 = 100_000_000;

/// The classes to make images of.
#[derive(Debug, Clone)]
pub struct Classes<'a> {
    /// Of all classes; none if the model takes none.
    names: &'a [String],
    /// Those of `--class`, or all.
    chosen: Vec<u32>,
    are_given: bool,
}

/// Images to make, and how a picture shows them.
#[derive(Debug)]
pub struct Sheet {
    /// The images.
    pub cells: Cells,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Grid(Grid),
    Rows(ClassSheet),
}

impl<'a> Classes<'a> {
    /// Those that the flags choose of a model whose classes have these names.
    ///
    /// # Errors
    /// [`Error::Input`] if there is no such class, or the model takes none.
    pub fn of(args: &SampleArgs, names: &'a [String], model: &Path) -> Result<Self> {
        let flag = [("--class", !args.class.is_empty()), ("--per-class", args.per_class.is_some())].into_iter().find(|(_, given)| *given);
        if let (Some((flag, _)), true) = (flag, names.is_empty()) {
            return Err(Error::input(format!(
                "{flag}: the generator of {} takes no classes; leave it out, or train a conditional one, as with `ganymede train --preset cgan-28`",
                model.display()
            )));
        }
        let named = |text: &String| find(names, text).map_err(|error| Error::input(format!("--class: {error}")));
        let given = args.class.iter().map(named).collect::<Result<Vec<u32>>>()?;
        let are_given = !given.is_empty();
        Ok(Classes { names, chosen: if are_given { given } else { (0..names.len() as u32).collect() }, are_given })
    }

    /// Whether the model takes classes.
    pub fn is_any(&self) -> bool {
        !self.names.is_empty()
    }

    /// The class of the image number `turn`; none if the model takes none.
    pub fn of_turn(&self, turn: u64) -> Option<u32> {
        let count = self.chosen.len() as u64;
        (count > 0).then(|| self.chosen[(turn % count) as usize])
    }

    /// Images of seeds, whose classes take turns: that of a seed does not depend on the others.
    pub fn cells(&self, seeds: Vec<u64>) -> Cells {
        Cells { classes: seeds.iter().filter_map(|&seed| self.of_turn(seed)).collect(), seeds }
    }

    /// The images that the flags ask for. `is_picture` says that they are shown as one, which then has a row for each class unless there is a
    /// `--grid`; `say` is told what is left out there.
    ///
    /// # Errors
    /// [`Error::Input`] if seeds and grid do not fit each other, or there would be too many images.
    pub fn sheet(&self, args: &SampleArgs, is_picture: bool, say: &mut dyn FnMut(&str) -> Result<()>) -> Result<Sheet> {
        if let Some(n) = args.per_class {
            if n.saturating_mul(self.chosen.len() as u64) > MOST_IMAGES {
                return Err(Error::input(format!(
                    "--per-class: {n} images of {} classes are more than {MOST_IMAGES}; give fewer",
                    self.chosen.len()
                )));
            }
            return Ok(self.rows(self.chosen.clone(), (0..n).collect()));
        }
        if let Some(count) = args.count {
            return Ok(Sheet { cells: self.cells((0..count).collect()), shown: Shown::Grid(Grid { rows: 1, columns: 1 }) });
        }
        if self.is_any() && is_picture && args.grid.is_none() {
            let mut classes = self.chosen.clone();
            if !self.are_given && classes.len() > MOST_ROWS {
                say(&format!("The sheet shows the first {MOST_ROWS} of {} classes; choose others with --class", classes.len()))?;
                classes.truncate(MOST_ROWS);
            }
            let seeds = args.seeds.clone().map_or_else(|| (0..SEEDS_OF_A_ROW).collect(), |Seeds(seeds)| seeds);
            return Ok(self.rows(classes, seeds));
        }
        let (seeds, grid) = layout(args.seeds.clone(), args.grid)?;
        Ok(Sheet { cells: self.cells(seeds), shown: Shown::Grid(grid) })
    }

    fn rows(&self, classes: Vec<u32>, seeds: Vec<u64>) -> Sheet {
        let rows = ClassSheet::new(self.names, classes, seeds);
        Sheet { cells: rows.cells(), shown: Shown::Rows(rows) }
    }
}

impl Sheet {
    /// The picture of the images.
    ///
    /// # Errors
    /// As [`grid::compose`].
    pub fn picture(&self, images: &Images) -> Result<Picture> {
        match &self.shown {
            Shown::Grid(grid) => grid::compose(images, grid.rows, grid.columns),
            Shown::Rows(rows) => rows.picture(images),
        }
    }

    /// Places of the picture, of which the last may stay empty.
    pub fn places(&self) -> usize {
        match &self.shown {
            Shown::Grid(grid) => grid.rows * grid.columns,
            Shown::Rows(_) => self.cells.seeds.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Command, Ganymede};
    use clap::Parser;

    fn args(line: &str) -> SampleArgs {
        let words = ["ganymede", "sample", "--model", "0"].into_iter().chain(line.split_whitespace());
        let Command::Sample(args) = Ganymede::try_parse_from(words).unwrap().command else { panic!("{line}") };
        *args
    }

    fn cells(line: &str, names: &[&str], is_picture: bool) -> Result<(Vec<u64>, Vec<u32>)> {
        let (names, args) = (names.iter().map(|name| name.to_string()).collect::<Vec<_>>(), args(line));
        let Cells { seeds, classes } = Classes::of(&args, &names, Path::new("m"))?.sheet(&args, is_picture, &mut |_| Ok(()))?.cells;
        Ok((seeds, classes))
    }

    #[test]
    fn classes_take_turns_or_have_a_row_each() {
        let animals = ["cat", "dog", "owl"];
        assert_eq!(cells("--seeds 3-6", &animals, false).unwrap(), (vec![3, 4, 5, 6], vec![0, 1, 2, 0]));
        assert_eq!(cells("--seeds 3-6 --class owl --class 0", &animals, false).unwrap().1, [0, 2, 0, 2]);
        assert_eq!(cells("--seeds 7 --class dog", &animals, false).unwrap(), (vec![7], vec![1]));
        assert_eq!(cells("--seeds 3,5", &animals, true).unwrap(), (vec![3, 5, 3, 5, 3, 5], vec![0, 0, 1, 1, 2, 2]));
        assert_eq!(cells("--grid 2x2", &animals, true).unwrap(), (vec![0, 1, 2, 3], vec![0, 1, 2, 0]));
        assert_eq!(cells("", &animals, true).unwrap().0.len(), 24);
        assert_eq!(cells("--per-class 2 --class dog --class cat", &animals, false).unwrap(), (vec![0, 1, 0, 1], vec![1, 1, 0, 0]));
        assert_eq!(cells("--count 4 --out a.zip", &animals, false).unwrap().1, [0, 1, 2, 0]);
        assert_eq!(cells("--seeds 3-4", &[], true).unwrap(), (vec![3, 4], vec![]));
    }

    #[test]
    fn classes_that_are_not_there_are_refused() {
        for (line, names, needle) in [
            ("--class cat", &[][..], "--class: the generator of m takes no classes; leave it out"),
            ("--per-class 5", &[], "--per-class: the generator of m takes no classes"),
            ("--class cow", &["cat", "owl"], "--class: there is no class \"cow\"; the 2 classes, 0 to 1, are cat, owl"),
            ("--per-class 60000000", &["cat", "owl"], "more than 100000000; give fewer"),
        ] {
            let error = cells(line, names, false).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(needle), "{error}");
        }
    }

    #[test]
    fn sheets_of_many_classes_say_what_they_leave_out() {
        let names: Vec<String> = (0..100).map(|class| class.to_string()).collect();
        let mut said = Vec::new();
        let args = args("--seeds 0-1");
        let sheet = Classes::of(&args, &names, Path::new("m")).unwrap().sheet(&args, true, &mut |text| {
            said.push(text.to_string());
            Ok(())
        });
        assert_eq!((sheet.unwrap().places(), said.len()), (2 * MOST_ROWS, 1));
        assert!(said[0].contains("the first 32 of 100 classes"), "{said:?}");
    }
}
