//! A decoded picture, and what a policy does to it.

use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageBuffer, Pixel, RgbImage};

use super::policy::{Background, Colour, Resize};
use crate::error::{Error, Result};

/// An opaque picture of 8 bits a channel, `[height][width][channels]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    pub pixels: Vec<u8>,
}

impl Picture {
    /// `image` on `background`. Grey stays grey unless the background shows through and is not.
    pub fn on_background(image: DynamicImage, background: Background) -> Picture {
        let (width, height) = (image.width(), image.height());
        let [red, green, blue] = background.0;
        let grey_background = red == green && green == blue;
        let (channels, pixels) = match image {
            DynamicImage::ImageLuma8(image) => (1, image.into_raw()),
            DynamicImage::ImageRgb8(image) => (3, image.into_raw()),
            DynamicImage::ImageLuma16(_) => (1, image.into_luma8().into_raw()),
            DynamicImage::ImageLumaA8(_) | DynamicImage::ImageLumaA16(_) => {
                let image = image.into_luma_alpha8().into_raw();
                if grey_background || image.chunks_exact(2).all(|p| p[1] == 255) {
                    (1, image.chunks_exact(2).map(|p| over(p[0], p[1], red)).collect())
                } else {
                    (3, image.chunks_exact(2).flat_map(|p| background.0.map(|b| over(p[0], p[1], b))).collect())
                }
            }
            other if other.color().has_alpha() => {
                let image = other.into_rgba8().into_raw();
                let blend = |p: &[u8]| [over(p[0], p[3], red), over(p[1], p[3], green), over(p[2], p[3], blue)];
                (3, image.chunks_exact(4).flat_map(blend).collect())
            }
            other => (3, other.into_rgb8().into_raw()),
        };
        Picture { width, height, channels, pixels }
    }

    /// Every pixel has equal red, green and blue.
    pub fn is_grey(&self) -> bool {
        self.channels == 1 || self.pixels.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2])
    }

    /// The picture with the channels that `colour` wants; with [`Colour::Auto`], one if that loses nothing.
    pub fn with_colour(mut self, colour: Colour) -> Picture {
        let channels = match colour {
            Colour::Auto if self.is_grey() => 1,
            Colour::Grey => 1,
            Colour::Auto | Colour::Rgb => 3,
        };
        match (self.channels, channels) {
            (1, 3) => self.pixels = grey_to_rgb(&self.pixels),
            (3, 1) => self.pixels = rgb_to_grey(&self.pixels),
            _ => {}
        }
        Picture { channels, ..self }
    }

    /// The picture as `size` x `size` pixels. What has that size already comes back as it was.
    ///
    /// # Errors
    /// [`Error::Internal`] if the pixels do not fit the dimensions.
    pub fn resized(self, how: Resize, size: u32, background: Background) -> Result<Picture> {
        if (self.width, self.height) == (size, size) {
            return Ok(self);
        }
        let colour = if self.channels == 3 || { background.0[0] == background.0[1] && background.0[1] == background.0[2] } {
            self.channels
        } else {
            // The border is in colour, so that the picture must be.
            3
        };
        let coloured = if how == Resize::Fit && colour == 3 { self.with_colour(Colour::Rgb) } else { self };
        let Picture { width, height, channels, pixels } = coloured;
        let broken = || Error::internal("a picture's pixels do not fit its size");
        let pixels = if channels == 1 {
            let image = GrayImage::from_raw(width, height, pixels).ok_or_else(broken)?;
            resize(&image, how, size, image::Luma([background.0[0]])).into_raw()
        } else {
            let image = RgbImage::from_raw(width, height, pixels).ok_or_else(broken)?;
            resize(&image, how, size, image::Rgb(background.0)).into_raw()
        };
        Ok(Picture { width: size, height: size, channels, pixels })
    }
}

/// `colour` at `alpha` over `background`, rounded to nearest.
fn over(colour: u8, alpha: u8, background: u8) -> u8 {
    let (colour, alpha, background) = (u32::from(colour), u32::from(alpha), u32::from(background));
    ((colour * alpha + background * (255 - alpha) + 127) / 255) as u8
}

/// Each grey value three times.
pub fn grey_to_rgb(pixels: &[u8]) -> Vec<u8> {
    pixels.iter().flat_map(|&value| [value; 3]).collect()
}

/// The luma of Rec. 709, rounded to nearest; a grey pixel keeps its value.
pub fn rgb_to_grey(pixels: &[u8]) -> Vec<u8> {
    let luma = |p: &[u8]| ((2126 * u32::from(p[0]) + 7152 * u32::from(p[1]) + 722 * u32::from(p[2]) + 5000) / 10_000) as u8;
    pixels.chunks_exact(3).map(luma).collect()
}

fn resize<P: Pixel<Subpixel = u8> + 'static>(
    image: &ImageBuffer<P, Vec<u8>>,
    how: Resize,
    size: u32,
    background: P,
) -> ImageBuffer<P, Vec<u8>> {
    let (width, height) = image.dimensions();
    match how {
        Resize::Stretch => sampled(image, size, size),
        Resize::Crop => {
            let side = width.min(height);
            let square = imageops::crop_imm(image, (width - side) / 2, (height - side) / 2, side, side).to_image();
            if side == size { square } else { sampled(&square, size, size) }
        }
        Resize::Fit => {
            let longest = u64::from(width.max(height));
            // To the nearest pixel, and at least one.
            let scaled = |side: u32| ((u64::from(side) * u64::from(size) + longest / 2) / longest).max(1) as u32;
            let (fitted_width, fitted_height) = (scaled(width), scaled(height));
            let (left, top) = ((size - fitted_width) / 2, (size - fitted_height) / 2);
            let mut framed = ImageBuffer::from_pixel(size, size, background);
            if (fitted_width, fitted_height) == (width, height) {
                imageops::replace(&mut framed, image, left.into(), top.into());
            } else {
                imageops::replace(&mut framed, &sampled(image, fitted_width, fitted_height), left.into(), top.into());
            }
            framed
        }
    }
}

fn sampled<P: Pixel<Subpixel = u8> + 'static>(image: &ImageBuffer<P, Vec<u8>>, width: u32, height: u32) -> ImageBuffer<P, Vec<u8>> {
    imageops::resize(image, width, height, FilterType::CatmullRom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayAlphaImage, RgbaImage};

    const WHITE: Background = Background([255; 3]);

    fn grey(width: u32, height: u32, pixels: &[u8]) -> Picture {
        Picture { width, height, channels: 1, pixels: pixels.to_vec() }
    }

    #[test]
    fn transparent_pixels_show_the_background() {
        let image = RgbaImage::from_raw(3, 1, vec![10, 20, 30, 0, 10, 20, 30, 255, 0, 0, 0, 128]).unwrap();
        let picture = Picture::on_background(image.clone().into(), WHITE);
        assert_eq!(picture.pixels, [255, 255, 255, 10, 20, 30, 127, 127, 127]);
        let picture = Picture::on_background(image.into(), Background([0, 100, 200]));
        assert_eq!(picture.pixels, [0, 100, 200, 10, 20, 30, 0, 50, 100]);
        let image = GrayAlphaImage::from_raw(2, 1, vec![7, 0, 9, 255]).unwrap();
        assert_eq!(Picture::on_background(image.clone().into(), WHITE), grey(2, 1, &[255, 9]));
        let shown = Picture::on_background(image.into(), Background([1, 2, 3]));
        assert_eq!((shown.channels, &shown.pixels[..]), (3, &[1, 2, 3, 9, 9, 9][..]));
        let opaque = GrayAlphaImage::from_raw(1, 1, vec![7, 255]).unwrap();
        assert_eq!(Picture::on_background(opaque.into(), Background([1, 2, 3])), grey(1, 1, &[7]));
    }

    #[test]
    fn sixteen_bits_become_the_nearest_eight() {
        let image = ImageBuffer::<image::Luma<u16>, _>::from_raw(4, 1, vec![0u16, 65535, 257 * 100, 257 * 100 + 129]).unwrap();
        assert_eq!(Picture::on_background(image.into(), WHITE).pixels, [0, 255, 100, 101]);
    }

    #[test]
    fn colour_is_converted_as_told() {
        let rgb = |pixels: &[u8]| Picture { width: 1, height: 1, channels: 3, pixels: pixels.to_vec() };
        for value in [0, 1, 77, 254, 255] {
            assert_eq!(rgb(&[value; 3]).with_colour(Colour::Auto), grey(1, 1, &[value]));
        }
        assert_eq!(rgb(&[255, 0, 0]).with_colour(Colour::Auto), rgb(&[255, 0, 0]));
        // 0.2126, 0.7152 and 0.0722 of 255.
        for (pixel, luma) in [([255, 0, 0], 54), ([0, 255, 0], 182), ([0, 0, 255], 18)] {
            assert_eq!(rgb(&pixel).with_colour(Colour::Grey), grey(1, 1, &[luma]));
        }
        assert_eq!(grey(1, 1, &[9]).with_colour(Colour::Rgb), rgb(&[9; 3]));
    }

    #[test]
    fn crops_take_the_middle_and_fits_add_a_border() {
        // Columns 0..4 of a 4 x 2 picture.
        let wide = grey(4, 2, &[0, 10, 20, 30, 0, 10, 20, 30]);
        assert_eq!(wide.clone().resized(Resize::Crop, 2, WHITE).unwrap(), grey(2, 2, &[10, 20, 10, 20]));
        let fitted = wide.clone().resized(Resize::Fit, 4, WHITE).unwrap();
        assert_eq!(fitted.pixels, [[255; 4], [0, 10, 20, 30], [0, 10, 20, 30], [255; 4]].concat());
        let coloured = wide.clone().resized(Resize::Fit, 4, Background([1, 2, 3])).unwrap();
        assert_eq!((coloured.channels, &coloured.pixels[..3], &coloured.pixels[12..18]), (3, &[1, 2, 3][..], &[0, 0, 0, 10, 10, 10][..]));
        // The mean of the whole picture survives a shrink to one pixel, which only a filter as wide as the picture gives.
        let one = grey(4, 4, &[0, 0, 255, 255].repeat(4)).resized(Resize::Stretch, 1, WHITE).unwrap();
        assert!((126..=129).contains(&one.pixels[0]), "{:?}", one.pixels);
        // A very flat picture keeps at least a line.
        let line = grey(100, 1, &[0; 100]).resized(Resize::Fit, 10, WHITE).unwrap();
        assert_eq!(line.pixels.iter().filter(|&&value| value == 0).count(), 10);
    }

    #[test]
    fn what_fits_is_not_touched_and_flat_colour_stays_flat() {
        let noise = grey(3, 3, &[3, 200, 7, 91, 4, 250, 0, 255, 17]);
        for how in [Resize::Fit, Resize::Crop, Resize::Stretch] {
            assert_eq!(noise.clone().resized(how, 3, WHITE).unwrap(), noise);
            for size in [1, 2, 5, 16] {
                let flat = grey(7, 7, &[93; 49]).resized(how, size, WHITE).unwrap();
                assert_eq!(flat, grey(size, size, &vec![93; (size * size) as usize]), "{how:?} {size}");
            }
        }
    }
}
