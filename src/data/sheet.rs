//! Contact sheets: many images of a set on one picture.

use image::{DynamicImage, GrayImage, RgbImage};

use super::{DataSet, letters};
use crate::error::{Error, Result};

/// Which image goes where on a contact sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SheetOrder {
    /// Row by row, in the order of the data set.
    AsStored,
    /// Column c shows class c (modulo the number of classes), so that each column can be read down. As stored where there are no labels.
    ByClass,
}

/// Pixels between two images, so that neighbours with the same background stay apart.
const GAP: usize = 2;
/// Grey of the gaps: neither the black of padding nor the white of paper.
const GAP_VALUE: u8 = 64;
/// Grey of text.
const INK: u8 = 240;
/// Most letters of a class's name on a sheet.
const MAX_LETTERS: usize = 24;
/// Largest height or width of a labelled sheet, which other programs can still open.
const MAX_SHEET_SIDE: usize = 1 << 15;

impl DataSet {
    /// A picture of `rows` x `cols` images with a 2 pixel gap between them: 8-bit grey for one channel, RGB for three. Places that the set has
    /// no image for stay blank. Write it with [`DynamicImage::save`].
    ///
    /// # Panics
    /// If `rows` or `cols` is zero, the picture has more than 2^32 pixels on a side, or the set holds vectors ([`DataSet::require_images`]).
    pub fn contact_sheet(&self, rows: usize, cols: usize, order: SheetOrder) -> DynamicImage {
        assert!(rows > 0 && cols > 0, "a contact sheet has at least one image");
        self.paste(cols, &self.sheet_indices(rows, cols, order), self.height, 0).into_image()
    }

    /// A picture with one row per class, the class's name to its left and its first images to the right of it: at most `rows` classes and
    /// `columns` images of each. Without labels, the first `rows` x `columns` images, each row after the number of its first one.
    ///
    /// # Errors
    /// [`Error::Input`] if `rows` or `columns` is zero, or the picture would have more than 32768 pixels on a side.
    pub fn labelled_sheet(&self, rows: usize, columns: usize) -> Result<DynamicImage> {
        if rows == 0 || columns == 0 {
            return Err(Error::input("a contact sheet has at least one row and one column"));
        }
        let names: Vec<String> = match &self.labels {
            Some(_) => self.class_names.iter().take(rows).map(|name| letters::shortened(name, MAX_LETTERS)).collect(),
            None => (0..rows.min(self.count.div_ceil(columns))).map(|row| (row * columns).to_string()).collect(),
        };
        // Letters grow with the images, so that a sheet can be read when it is shrunk to the screen.
        let scale = (self.height / 24).clamp(1, 4);
        let letter = letters::SIDE * scale;
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let (margin, row_height) = ((longest + 1) * letter, self.height.max(letter));
        let width = columns.checked_mul(self.width + GAP).and_then(|width| width.checked_add(margin));
        let height = names.len().checked_mul(row_height + GAP);
        let fits = |side: Option<usize>| side.is_some_and(|side| side <= MAX_SHEET_SIDE);
        if !fits(width) || !fits(height) {
            return Err(Error::input(format!(
                "a sheet of {} rows and {columns} columns of {} x {} pixels is more than {MAX_SHEET_SIDE} pixels on a side: give fewer --rows or \
                 --columns, or a smaller --size with --resize",
                names.len(),
                self.height,
                self.width
            )));
        }
        let mut sheet = self.paste(columns, &self.row_indices(names.len(), columns), row_height, margin);
        for (row, name) in names.iter().enumerate() {
            let top = row * (row_height + GAP) + (row_height - letter) / 2;
            letters::draw(name, scale, |x, y| {
                // Half a letter of space before the name and after it.
                let start = ((top + y) * sheet.width + letter / 2 + x) * self.channels;
                sheet.pixels[start..start + self.channels].fill(INK);
            });
        }
        Ok(sheet.into_image())
    }

    /// The image for each place of a labelled sheet, row by row: a class a row, or as stored without labels.
    fn row_indices(&self, rows: usize, columns: usize) -> Vec<Option<usize>> {
        let Some(labels) = &self.labels else {
            return (0..rows * columns).map(|index| (index < self.count).then_some(index)).collect();
        };
        let mut by_class = vec![Vec::new(); self.classes()];
        for (index, &label) in labels.iter().enumerate() {
            by_class[label as usize].push(index);
        }
        by_class.iter().take(rows).flat_map(|class| (0..columns).map(|column| class.get(column).copied())).collect()
    }

    /// Images in rows of `cols`, each row `row_height` high, right of a margin.
    fn paste(&self, cols: usize, places: &[Option<usize>], row_height: usize, margin: usize) -> Sheet {
        let rows = places.len() / cols;
        let (height, width) = (rows * (row_height + GAP) - GAP, margin + cols * (self.width + GAP) - GAP);
        let mut pixels = vec![GAP_VALUE; height * width * self.channels];
        let row_len = self.width * self.channels;
        for (place, index) in places.iter().enumerate() {
            let Some(index) = *index else { continue };
            let (top, left) = (place / cols * (row_height + GAP), margin + place % cols * (self.width + GAP));
            for (y, row) in self.image(index).chunks_exact(row_len).enumerate() {
                let start = ((top + y) * width + left) * self.channels;
                pixels[start..start + row_len].copy_from_slice(row);
            }
        }
        Sheet { height, width, channels: self.channels, pixels }
    }

    /// The image for each place of a contact sheet, row by row.
    fn sheet_indices(&self, rows: usize, cols: usize, order: SheetOrder) -> Vec<Option<usize>> {
        let labels = match (&self.labels, order) {
            (Some(labels), SheetOrder::ByClass) => labels,
            _ => return (0..rows * cols).map(|index| (index < self.count).then_some(index)).collect(),
        };
        let mut by_class = vec![Vec::new(); self.classes()];
        for (index, &label) in labels.iter().enumerate() {
            by_class[label as usize].push(index);
        }
        // With more columns than classes, the second column of a class goes on where the first one ended.
        (0..rows * cols)
            .map(|place| {
                let (row, col) = (place / cols, place % cols);
                by_class[col % self.classes()].get(col / self.classes() * rows + row).copied()
            })
            .collect()
    }
}

/// A picture in the making.
struct Sheet {
    height: usize,
    width: usize,
    channels: usize,
    pixels: Vec<u8>,
}

impl Sheet {
    fn into_image(self) -> DynamicImage {
        let (width, height) = (self.width as u32, self.height as u32);
        // The buffer was made from the same numbers, so its size fits.
        match self.channels {
            1 => GrayImage::from_raw(width, height, self.pixels).map(DynamicImage::from),
            _ => RgbImage::from_raw(width, height, self.pixels).map(DynamicImage::from),
        }
        .expect("the pixel buffer has the sheet's size")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(channels: usize) -> DataSet {
        let images = (0..5u8).flat_map(|i| std::iter::repeat_n(100 + i, 2 * channels)).collect();
        DataSet::new("x", (5, 1, 2, channels), images, Some(vec![0, 1, 0, 1, 1]), vec!["a".into(), "b".into()]).unwrap()
    }

    #[test]
    fn sheets_place_images_in_order_and_leave_the_rest_blank() {
        let sheet = set(1).contact_sheet(2, 3, SheetOrder::AsStored).into_luma8();
        assert_eq!(sheet.dimensions(), (10, 4));
        assert_eq!(sheet.as_raw()[..10], [100, 100, 64, 64, 101, 101, 64, 64, 102, 102]);
        assert_eq!(sheet.as_raw()[30..], [103, 103, 64, 64, 104, 104, 64, 64, 64, 64]);
    }

    #[test]
    fn columns_are_classes_and_go_on_in_later_columns() {
        let places = set(3).sheet_indices(2, 4, SheetOrder::ByClass);
        assert_eq!(places, [Some(0), Some(1), None, Some(4), Some(2), Some(3), None, None]);
        let sheet = set(3).contact_sheet(2, 2, SheetOrder::ByClass).into_rgb8();
        assert_eq!(sheet.dimensions(), (6, 4));
        assert_eq!((sheet.get_pixel(1, 3).0, sheet.get_pixel(5, 3).0), ([102; 3], [103; 3]));
        let unlabelled = DataSet { labels: None, class_names: Vec::new(), ..set(1) };
        assert_eq!(unlabelled.sheet_indices(1, 3, SheetOrder::ByClass), [Some(0), Some(1), Some(2)]);
    }
    #[test]
    fn labelled_sheets_have_a_row_per_class_with_its_name() {
        let sheet = set(1).labelled_sheet(9, 2).unwrap().into_luma8();
        // Letters are taller than the images: rows of 8 pixels. A margin of two letters, then two images of 2 pixels with a gap.
        assert_eq!(sheet.dimensions(), (16 + 2 + 2 + 2, 8 + 2 + 8));
        let at = |x, y| sheet.get_pixel(x, y)[0];
        assert_eq!([at(16, 0), at(17, 0), at(18, 0), at(20, 0), at(16, 10), at(20, 10)], [100, 100, 64, 102, 101, 103]);
        let inked = |rows: std::ops::Range<u32>| rows.flat_map(|y| (0..16).map(move |x| (x, y))).filter(|&(x, y)| at(x, y) == INK).count();
        let strokes = |text| {
            let mut count = 0;
            letters::draw(text, 1, |_, _| count += 1);
            count
        };
        assert_eq!((inked(0..8), inked(8..10), inked(10..18)), (strokes("a"), 0, strokes("b")));
        assert_eq!(set(3).labelled_sheet(1, 2).unwrap().into_rgb8().dimensions(), (22, 8));
        // Without labels: as stored, and no rows beyond the last image.
        let unlabelled = DataSet { labels: None, class_names: Vec::new(), ..set(1) };
        let sheet = unlabelled.labelled_sheet(9, 2).unwrap().into_luma8();
        assert_eq!((sheet.height(), sheet.get_pixel(16, 20)[0], sheet.get_pixel(20, 20)[0]), (28, 104, 64));
    }

    #[test]
    fn sheets_that_no_program_opens_are_refused() {
        for (rows, columns) in [(0, 1), (1, 0), (1, 20_000), (1, usize::MAX)] {
            assert_eq!(set(1).labelled_sheet(rows, columns).unwrap_err().exit_code(), 2);
        }
        assert_eq!(set(1).labelled_sheet(usize::MAX, 1).unwrap().height(), 18);
    }
}
