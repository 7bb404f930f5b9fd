//! Grids of images as PNG files.

use std::path::Path;

use super::disk;
use super::picture::Picture;
use crate::error::{Error, Result};
pub use crate::gan::sampler::Images;

/// Pixels between two images of a grid, and around it.
const GAP: usize = 2;

/// Most bytes of pixels in one picture.
const MOST_BYTES: usize = 1 << 30;

/// The most square grid for `n` images: rows, columns.
pub fn near_square(n: usize) -> (usize, usize) {
    let columns = (1..).find(|c| c * c >= n).unwrap_or(1);
    (n.div_ceil(columns).max(1), columns)
}

/// Writes the images as a PNG grid, row by row; cells without an image stay dark. A 1x1 grid is the image itself, without a border.
///
/// # Errors
/// [`Error::Environment`] if the file cannot be written. [`Error::Input`] if the picture would be larger than 1 GiB. [`Error::Internal`] if the
/// images do not fit the grid or are neither grey nor RGB.
pub fn write(path: &Path, images: &Images, rows: usize, columns: usize) -> Result<()> {
    disk::replace(path, &compose(images, rows, columns)?.png()?)
}

/// The picture that [`write()`] writes.
///
/// # Errors
/// [`Error::Internal`] as for [`write()`].
pub fn compose(images: &Images, rows: usize, columns: usize) -> Result<Picture> {
    let Images { n, c, h, w, ref data } = *images;
    if !matches!(c, 1 | 3) || data.len() != n * c * h * w || n > rows * columns {
        return Err(Error::internal(format!("{} values are not {n} pictures of {c}x{h}x{w} for a {rows}x{columns} grid", data.len())));
    }
    let gap = if rows * columns == 1 { 0 } else { GAP };
    let (width, height) = (columns * (w + gap) + gap, rows * (h + gap) + gap);
    let bytes = [height, c].iter().try_fold(width, |bytes, size| bytes.checked_mul(*size));
    if bytes.is_none_or(|bytes| bytes > MOST_BYTES) {
        return Err(Error::input(format!("a {rows}x{columns} grid of images of {h}x{w} is too large for one picture; make it smaller")));
    }
    let mut picture = Picture::filled(width, height, c, 0);
    for i in 0..n {
        let (top, left) = (gap + i / columns * (h + gap), gap + i % columns * (w + gap));
        for channel in 0..c {
            for y in 0..h {
                for x in 0..w {
                    let value = data[((i * c + channel) * h + y) * w + x];
                    picture.pixels[((top + y) * width + left + x) * c + channel] = Images::byte(value);
                }
            }
        }
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes() {
        let all = [(-1.0, 0), (1.0, 255), (0.0, 128), (-2.0, 0), (2.0, 255), (f32::NAN, 0), (f32::INFINITY, 255), (-0.5, 64)];
        for (value, byte) in all {
            assert_eq!(Images::byte(value), byte, "{value}");
        }
    }

    #[test]
    fn squares() {
        assert_eq!(
            [near_square(1), near_square(2), near_square(5), near_square(64), near_square(65)],
            [(1, 1), (1, 2), (2, 3), (8, 8), (8, 9)]
        );
    }

    #[test]
    fn every_pixel_lands_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grid.png");
        for c in [1, 3] {
            let (n, h, w) = (5, 3, 4);
            let value = |i: usize, ch: usize, y: usize, x: usize| (((i * c + ch) * h + y) * w + x) as f32 / 127.5 - 1.0;
            let mut data = Vec::new();
            for i in 0..n {
                for ch in 0..c {
                    for y in 0..h {
                        data.extend((0..w).map(|x| value(i, ch, y, x)));
                    }
                }
            }
            write(&path, &Images { n, c, h, w, data }, 2, 3).unwrap();
            let read = image::open(&path).unwrap();
            assert_eq!(read.color().channel_count() as usize, c);
            assert_eq!((read.width(), read.height()), (3 * 6 + 2, 2 * 5 + 2));
            let read = read.to_rgb8();
            for i in 0..n {
                for y in 0..h {
                    for x in 0..w {
                        let pixel = read.get_pixel((2 + i % 3 * 6 + x) as u32, (2 + i / 3 * 5 + y) as u32);
                        for ch in 0..3 {
                            assert_eq!(pixel[ch], Images::byte(value(i, ch.min(c - 1), y, x)), "c {c} image {i} at {y} {x}");
                        }
                    }
                }
            }
            assert_eq!(read.get_pixel(0, 0).0, [0; 3]);
            assert_eq!(read.get_pixel(19, 11).0, [0; 3], "the sixth cell is empty");
        }
    }

    #[test]
    fn images_that_do_not_fit_are_refused() {
        let images = Images { n: 5, c: 1, h: 1, w: 1, data: vec![0.0; 5] };
        assert!(compose(&images, 2, 2).is_err());
        assert!(compose(&Images { data: vec![0.0; 4], ..images.clone() }, 3, 3).is_err());
        assert!(compose(&Images { n: 1, c: 2, h: 1, w: 1, data: vec![0.0; 2] }, 1, 1).is_err());
    }
}
