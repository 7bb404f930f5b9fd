//! One picture file's bytes to pixels, within limits, with an error in words for everything that can be wrong.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

/// Largest height or width of a picture that is decoded.
pub const MAX_SIDE: u32 = 1 << 15;
/// Most pixels of a picture that is decoded: 64 million.
pub const MAX_PIXELS: u64 = 1 << 26;
/// Most bytes of one picture's file (256 MiB).
pub const MAX_FILE_BYTES: u64 = 1 << 28;
/// What a picture may unpack to whatever the size of its file (64 MiB), and how many times its file's size beyond that. No format but WebP, and
/// that only for a single colour, can pack tighter; a decoder reserves what the header claims.
const FREE_BYTES: u64 = 1 << 26;
const MAX_RATIO: u64 = 4096;
/// Bytes that a decoder may use beside the pixels themselves: tables, metadata, one row.
const DECODER_BYTES: u64 = 1 << 26;

/// File name extensions of pictures, in lower case.
pub const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "bmp", "gif"];

/// A picture whose header is read and within the limits, and whose pixels are not decoded yet.
pub struct Opened<'a> {
    decoder: Box<dyn ImageDecoder + 'a>,
    orientation: Orientation,
    bytes: &'a [u8],
    /// Format, told by the first bytes.
    pub format: ImageFormat,
    /// Width in pixels as shown, which is after turning.
    pub width: u32,
    /// Height in pixels as shown.
    pub height: u32,
    /// What a pixel is in the file: `RGB`, `palette`, `grey, 16 bits` ...
    pub mode: &'static str,
}

impl<'a> Opened<'a> {
    /// Reads the header. Nothing is reserved for the pixels yet.
    ///
    /// # Errors
    /// What is wrong with the file, to go after its name.
    pub fn new(bytes: &'a [u8]) -> Result<Self, String> {
        let format = format(bytes)?;
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(MAX_PIXELS * 8 + DECODER_BYTES);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(|error| undecodable(format, &error))?;
        let (width, height) = decoder.dimensions();
        if width == 0 || height == 0 {
            return Err(format!("has no pixels: its header says {width} x {height}"));
        }
        if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(format!(
                "claims {width} x {height} pixels, beyond the limits of {MAX_SIDE} a side and {} million in all; shrink it, or remove it if its \
                 header is damaged",
                MAX_PIXELS >> 20
            ));
        }
        if decoder.total_bytes() > FREE_BYTES && decoder.total_bytes() / MAX_RATIO > bytes.len() as u64 {
            return Err(format!(
                "claims {width} x {height} pixels in {} bytes, more than can be packed into them; remove it: its header is damaged, or it is a bomb",
                bytes.len()
            ));
        }
        let orientation = decoder.orientation().map_err(|error| undecodable(format, &error))?;
        let mode = mode(format, bytes, decoder.color_type());
        let sideways = matches!(
            orientation,
            Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
        );
        let (width, height) = if sideways { (height, width) } else { (width, height) };
        Ok(Self { decoder: Box::new(decoder), orientation, bytes, format, width, height, mode })
    }

    /// Bytes of memory that decoding takes at most, roughly: the pixels as the file has them, and a copy of 8 bits.
    pub fn cost(&self) -> u64 {
        self.decoder.total_bytes() + u64::from(self.width) * u64::from(self.height) * 4
    }

    /// The camera was turned, and says so.
    pub fn is_turned(&self) -> bool {
        self.orientation != Orientation::NoTransforms
    }

    /// Opaque pixels of 8 bits: what a data set holds, so that the file could stay as it is.
    pub fn is_plain(&self) -> bool {
        matches!(self.decoder.color_type(), ColorType::L8 | ColorType::Rgb8) && !self.is_turned()
    }

    /// Channels of the file, without alpha.
    pub fn channels(&self) -> usize {
        if self.decoder.color_type().has_color() { 3 } else { 1 }
    }

    /// The pixels, turned upright. Of an animation, the first frame.
    ///
    /// # Errors
    /// What is wrong with the file, to go after its name.
    pub fn decode(self) -> Result<DynamicImage, String> {
        // The JPEG decoder fills what is missing with grey and reports nothing.
        if self.format == ImageFormat::Jpeg && !jpeg_has_an_end(self.bytes) {
            return Err("is truncated: the JPEG stream has no end marker; fetch it again, or remove it".into());
        }
        let mut image = DynamicImage::from_decoder(self.decoder).map_err(|error| undecodable(self.format, &error))?;
        image.apply_orientation(self.orientation);
        Ok(image)
    }
}

/// `PNG`, `JPEG`, ...
pub fn format_name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Gif => "GIF",
        _ => "another format",
    }
}

fn format(bytes: &[u8]) -> Result<ImageFormat, String> {
    if bytes.is_empty() {
        return Err("is empty; fetch it again, or remove it".into());
    }
    match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP | ImageFormat::Bmp | ImageFormat::Gif)) => Ok(format),
        _ => {
            let start: String = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            Err(format!(
                "is no PNG, JPEG, WebP, BMP or GIF picture, whatever its name says: it starts with 0x{start}; convert or remove it"
            ))
        }
    }
}

fn undecodable(format: ImageFormat, error: &ImageError) -> String {
    let cause = match error {
        ImageError::Decoding(error) => std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string),
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => "it ends early".into(),
        other => other.to_string(),
    };
    format!("cannot be decoded as {}: {cause}; replace or remove it", format_name(format))
}

fn mode(format: ImageFormat, bytes: &[u8], colour: ColorType) -> &'static str {
    // The decoder expands palettes without a word. Byte 25 of a PNG is the colour type of its IHDR; a GIF has nothing but palettes.
    if format == ImageFormat::Gif || (format == ImageFormat::Png && bytes.get(25) == Some(&3)) {
        return "palette";
    }
    match colour {
        ColorType::L8 => "grey",
        ColorType::La8 => "grey + alpha",
        ColorType::Rgb8 => "RGB",
        ColorType::Rgba8 => "RGBA",
        ColorType::L16 => "grey, 16 bits",
        ColorType::La16 => "grey + alpha, 16 bits",
        ColorType::Rgb16 => "RGB, 16 bits",
        ColorType::Rgba16 => "RGBA, 16 bits",
        _ => "floating point",
    }
}

/// Whether the segments and scans of a JPEG stream lead to its end marker (ITU T.81, annex B). What follows the end marker is of no interest:
/// cameras append previews. A stream that breaks the rules before is left to the decoder to judge.
fn jpeg_has_an_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        // To the next marker: in a scan, FF 00 is a byte of the entropy code and FF D0 to FF D7 restart it; FF FF is padding.
        let Some(skipped) = bytes.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0xff)) else { return false };
        at += skipped + 1;
        match bytes.get(at) {
            None => return false,
            Some(0xd9) => return true,
            Some(0xff) => {}
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 1,
            Some(_) => {
                let Some(&[high, low]) = bytes.get(at + 1..at + 3).and_then(|length| length.first_chunk::<2>()) else { return false };
                at += 1 + usize::from(u16::from_be_bytes([high, low])).max(2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_jpeg_stream_is_found_and_missed() {
        let mut bytes = Vec::new();
        let noise = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([(x * y) as u8, (x * 7) as u8, (y * 11) as u8]));
        noise.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Jpeg).unwrap();
        assert!(jpeg_has_an_end(&bytes));
        assert!(jpeg_has_an_end(&[&bytes[..], b"trailing preview"].concat()));
        for len in [2, 3, 20, bytes.len() / 2, bytes.len() - 2, bytes.len() - 1] {
            assert!(!jpeg_has_an_end(&bytes[..len]), "{len} of {}", bytes.len());
        }
        // An end marker inside a segment (a thumbnail's) does not count.
        let hidden = [0xff, 0xd8, 0xff, 0xe1, 0x00, 0x06, 0xff, 0xd9, 0x00, 0x00, 0xff, 0xda, 0x00, 0x02, 1, 2, 0xff, 0x00];
        assert!(!jpeg_has_an_end(&hidden));
    }
}
