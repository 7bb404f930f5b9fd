//! Contact sheets: many images of a set on one picture.

use image::{DynamicImage, GrayImage, RgbImage};

use super::DataSet;

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

impl DataSet {
    /// A picture of `rows` x `cols` images with a 2 pixel gap between them: 8-bit grey for one channel, RGB for three. Places that the set has
    /// no image for stay blank. Write it with [`DynamicImage::save`].
    ///
    /// # Panics
    /// If `rows` or `cols` is zero, the picture has more than 2^32 pixels on a side, or the set holds vectors ([`DataSet::require_images`]).
    pub fn contact_sheet(&self, rows: usize, cols: usize, order: SheetOrder) -> DynamicImage {
        assert!(rows > 0 && cols > 0, "a contact sheet has at least one image");
        let (sheet_height, sheet_width) = (rows * (self.height + GAP) - GAP, cols * (self.width + GAP) - GAP);
        let mut pixels = vec![GAP_VALUE; sheet_height * sheet_width * self.channels];
        let row_len = self.width * self.channels;
        for (place, index) in self.sheet_indices(rows, cols, order).into_iter().enumerate() {
            let Some(index) = index else { continue };
            let (top, left) = (place / cols * (self.height + GAP), place % cols * (self.width + GAP));
            for (y, row) in self.image(index).chunks_exact(row_len).enumerate() {
                let start = ((top + y) * sheet_width + left) * self.channels;
                pixels[start..start + row_len].copy_from_slice(row);
            }
        }
        let (width, height) = (sheet_width as u32, sheet_height as u32);
        // The buffer was made from the same numbers, so its size fits.
        match self.channels {
            1 => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
            _ => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
        }
        .expect("the pixel buffer has the sheet's size")
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
}
