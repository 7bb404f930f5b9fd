//! Pictures in memory: 8 bits a channel, grey or RGB, and what sheets and films are put together with.

use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageReader, Limits};

use super::caption;
use super::disk::plain;
use crate::error::{Error, Result};

/// Grey of the space between the parts of a sheet.
const PAPER: u8 = 32;
/// Grey of captions.
const INK: u8 = 235;

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// `height * width * channels` bytes, row by row.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// A picture of one grey.
    pub fn filled(width: usize, height: usize, channels: usize, grey: u8) -> Self {
        Picture { width, height, channels, pixels: vec![grey; width * height * channels] }
    }

    /// Reads a PNG file; transparency is dropped, 16 bits become 8.
    ///
    /// # Errors
    /// [`Error::Input`] naming the file.
    pub fn read_png(path: &Path) -> Result<Self> {
        let unreadable = |why: &dyn std::fmt::Display| Error::input(format!("cannot read the picture {}: {why}", path.display()));
        let mut reader = ImageReader::open(path).map_err(|error| unreadable(&plain(&error)))?;
        reader.set_format(image::ImageFormat::Png);
        let mut limits = Limits::default();
        limits.max_alloc = Some(1 << 30);
        reader.limits(limits);
        let read = reader.decode().map_err(|error| unreadable(&error))?;
        let (width, height) = (read.width() as usize, read.height() as usize);
        Ok(match read.color().has_color() {
            true => Picture { width, height, channels: 3, pixels: read.into_rgb8().into_raw() },
            false => Picture { width, height, channels: 1, pixels: read.into_luma8().into_raw() },
        })
    }

    /// As a PNG file.
    ///
    /// # Errors
    /// [`Error::Internal`] if it is too large for one.
    pub fn png(&self) -> Result<Vec<u8>> {
        let mut png = Vec::new();
        PngEncoder::new(&mut png)
            .write_image(&self.pixels, self.width as u32, self.height as u32, self.color())
            .map_err(|error| Error::internal(format!("cannot encode a {}x{} picture: {error}", self.width, self.height)))?;
        Ok(png)
    }

    /// What the pixels are.
    pub(crate) fn color(&self) -> ExtendedColorType {
        if self.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 }
    }

    /// Each pixel as a square of `factor` pixels.
    pub fn scaled(&self, factor: usize) -> Self {
        let Picture { width, height, channels, pixels } = self;
        let mut scaled = Vec::with_capacity(pixels.len() * factor * factor);
        for row in pixels.chunks_exact((width * channels).max(1)) {
            let wide: Vec<u8> = row.chunks_exact(*channels).flat_map(|pixel| pixel.repeat(factor)).collect();
            for _ in 0..factor {
                scaled.extend_from_slice(&wide);
            }
        }
        Picture { width: width * factor, height: height * factor, channels: *channels, pixels: scaled }
    }

    /// The picture under a strip with a line of text, which is cut where the picture is too narrow for it.
    pub fn captioned(&self, text: &str) -> Self {
        let strip = caption::HEIGHT + 6;
        let mut sheet = Picture::filled(self.width, self.height + strip, self.channels, PAPER);
        for (x, y) in caption::dots(text) {
            if x + 4 < self.width {
                sheet.pixels[((y + 3) * sheet.width + x + 4) * self.channels..][..self.channels].fill(INK);
            }
        }
        sheet.paste(self, 0, strip);
        sheet
    }

    /// The picture to the right of a strip with a line of text for each of its equal rows, at the row's middle.
    pub fn with_row_names(&self, names: &[String]) -> Self {
        let letters = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let strip = letters * caption::ADVANCE + 6;
        let mut sheet = Picture::filled(strip + self.width, self.height, self.channels, PAPER);
        let pitch = self.height / names.len().max(1);
        for (row, name) in names.iter().enumerate() {
            let top = row * pitch + pitch.saturating_sub(caption::HEIGHT) / 2;
            for (x, y) in caption::dots(name).filter(|(_, y)| top + y < self.height) {
                sheet.pixels[((top + y) * sheet.width + x + 4) * self.channels..][..self.channels].fill(INK);
            }
        }
        sheet.paste(self, strip, 0);
        sheet
    }

    /// The picture, and to its right another.
    pub fn beside(&self, right: &Picture, gap: usize) -> Self {
        let channels = self.channels.max(right.channels);
        let mut sheet = Picture::filled(self.width + gap + right.width, self.height.max(right.height), channels, PAPER);
        sheet.paste(self, 0, 0);
        sheet.paste(right, self.width + gap, 0);
        sheet
    }

    /// Copies `part` to a place that has room for it.
    fn paste(&mut self, part: &Picture, left: usize, top: usize) {
        for (i, pixel) in part.pixels.chunks_exact(part.channels).enumerate() {
            let (x, y) = (left + i % part.width, top + i / part.width);
            let place = &mut self.pixels[(y * self.width + x) * self.channels..][..self.channels];
            if pixel.len() == place.len() { place.copy_from_slice(pixel) } else { place.fill(pixel[0]) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize, channels: usize, from: u8) -> Picture {
        Picture { width, height, channels, pixels: (from..).take(width * height * channels).collect() }
    }

    #[test]
    fn scaling_repeats_pixels_both_ways() {
        let scaled = picture(2, 1, 3, 1).scaled(2);
        assert_eq!((scaled.width, scaled.height), (4, 2));
        assert_eq!(scaled.pixels, [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6].repeat(2));
    }

    #[test]
    fn grey_beside_colour_is_colour() {
        let sheet = picture(1, 2, 1, 100).beside(&picture(1, 1, 3, 1), 1);
        assert_eq!((sheet.width, sheet.height, sheet.channels), (3, 2, 3));
        assert_eq!(sheet.pixels, [100, 100, 100, PAPER, PAPER, PAPER, 1, 2, 3, 101, 101, 101, PAPER, PAPER, PAPER, PAPER, PAPER, PAPER]);
    }

    #[test]
    fn captions_stand_above_and_are_cut_at_the_edge() {
        let plain = Picture::filled(20, 4, 1, 7);
        let marked = plain.captioned("LLLLLLLLLLLLLL");
        assert_eq!((marked.width, marked.height), (20, 4 + 13));
        assert_eq!(marked.pixels[13 * 20..], plain.pixels);
        let ink = marked.pixels.iter().filter(|p| **p == INK).count();
        // An L is 7 + 4 dots; two whole ones and four columns of a third fit into 16 pixels.
        assert_eq!(ink, 11 + 11 + 10);
        assert_ne!(plain.captioned("a"), plain.captioned("b"));
    }

    #[test]
    fn png_files_come_back() {
        let folder = tempfile::tempdir().unwrap();
        for channels in [1, 3] {
            let path = folder.path().join("a.png");
            let whole = picture(5, 3, channels, 9);
            std::fs::write(&path, whole.png().unwrap()).unwrap();
            assert_eq!(Picture::read_png(&path).unwrap(), whole);
        }
        let torn = folder.path().join("torn.png");
        std::fs::write(&torn, &picture(5, 3, 1, 9).png().unwrap()[..40]).unwrap();
        for path in [torn, folder.path().join("none.png")] {
            let error = Picture::read_png(&path).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
    }
}
