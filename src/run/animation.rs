//! Animations as GIF and WebP files: frames are compressed on all cores as they come, and loop for ever.
//!
//! GIF has 256 colours a frame (grey is exact, RGB is reduced by the `gif` crate) and counts in hundredths of a second. WebP is lossless: still frames
//! of `image`'s encoder in the container of the [WebP specification](https://developers.google.com/speed/webp/docs/riff_container), which that
//! encoder does not write.

use std::borrow::Cow;
use std::path::Path;

use gif::Repeat;
use image::codecs::webp::WebPEncoder;
use rayon::prelude::*;

use super::picture::Picture;
use crate::error::{Error, Result};

/// Which file an animation becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.gif`
    Gif,
    /// `.webp`
    WebP,
}

impl Format {
    /// By the ending of a file's name, whatever its case.
    pub fn of(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "gif" => Some(Format::Gif),
            "webp" => Some(Format::WebP),
            _ => None,
        }
    }

    /// Most pixels on a side of a frame.
    fn most(self) -> usize {
        match self {
            Format::Gif => 65_535,
            // Of a lossless frame; the canvas itself might be larger.
            Format::WebP => 16_384,
        }
    }

    /// The time that a frame really gets, in milliseconds: GIF counts in hundredths of a second, and viewers slow down what is below two of them.
    pub fn delay(self, milliseconds: u32) -> u32 {
        match self {
            Format::Gif => ((milliseconds + 5) / 10).clamp(2, 65_535) * 10,
            Format::WebP => milliseconds.clamp(1, (1 << 24) - 1),
        }
    }
}

/// An animation in the making.
pub struct Animation {
    format: Format,
    /// Width, height and channels of every frame; known from the first on.
    size: Option<(usize, usize, usize)>,
    frames: usize,
    /// The GIF file, or the chunks of a WebP file, so far.
    body: Body,
}

enum Body {
    Gif(Option<gif::Encoder<Vec<u8>>>),
    WebP(Vec<u8>),
}

impl Animation {
    /// One without frames.
    pub fn new(format: Format) -> Self {
        let body = match format {
            Format::Gif => Body::Gif(None),
            Format::WebP => Body::WebP(Vec::new()),
        };
        Animation { format, size: None, frames: 0, body }
    }

    /// Frames so far.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Adds frames that are shown for `milliseconds` each, as near as the format can ([`Format::delay`]).
    ///
    /// # Errors
    /// [`Error::Input`] if a frame is larger than the format allows, [`Error::Internal`] if it has another size than the ones before.
    pub fn push(&mut self, frames: &[Picture], milliseconds: u32) -> Result<()> {
        let Some(first) = frames.first() else { return Ok(()) };
        let size = *self.size.get_or_insert((first.width, first.height, first.channels));
        let most = self.format.most();
        if size.0 > most || size.1 > most {
            return Err(Error::input(format!(
                "a frame would be {}x{} pixels, and {:?} files have at most {most} on a side; show fewer images, or a smaller --scale",
                size.0, size.1, self.format
            )));
        }
        if let Some(odd) = frames.iter().find(|frame| (frame.width, frame.height, frame.channels) != size) {
            return Err(Error::internal(format!("a frame of {}x{}x{} among such of {size:?}", odd.width, odd.height, odd.channels)));
        }
        let delay = self.format.delay(milliseconds);
        match &mut self.body {
            Body::Gif(encoder) => {
                let encoder = match encoder {
                    Some(encoder) => encoder,
                    None => encoder.insert(gif_encoder(size)?),
                };
                let ready: Vec<gif::Frame> = frames.par_iter().map(|frame| gif_frame(frame, delay)).collect();
                for frame in &ready {
                    encoder.write_lzw_pre_encoded_frame(frame).map_err(|error| unencodable(&error))?;
                }
            }
            Body::WebP(chunks) => {
                let ready: Result<Vec<Vec<u8>>> = frames.par_iter().map(|frame| webp_frame(frame, delay)).collect();
                chunks.extend(ready?.concat());
            }
        }
        self.frames += frames.len();
        Ok(())
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// [`Error::Internal`] if there are no frames, or the file would be larger than the format's counters.
    pub fn finish(self) -> Result<Vec<u8>> {
        match (self.body, self.size) {
            (Body::Gif(Some(encoder)), _) => encoder.into_inner().map_err(|error| Error::internal(format!("GIF: {error}"))),
            (Body::WebP(chunks), Some((width, height, _))) => webp_file(width, height, &chunks),
            _ => Err(Error::internal("an animation without frames")),
        }
    }
}

fn unencodable(error: &dyn std::fmt::Display) -> Error {
    Error::internal(format!("cannot encode a frame: {error}"))
}

/// An encoder whose frames of one channel share a palette of all greys.
fn gif_encoder((width, height, channels): (usize, usize, usize)) -> Result<gif::Encoder<Vec<u8>>> {
    let greys: Vec<u8> = if channels == 1 { (0..=255).flat_map(|grey| [grey; 3]).collect() } else { Vec::new() };
    let encoder = gif::Encoder::new(Vec::new(), width as u16, height as u16, &greys);
    let mut encoder = encoder.map_err(|error| unencodable(&error))?;
    encoder.set_repeat(Repeat::Infinite).map_err(|error| unencodable(&error))?;
    Ok(encoder)
}

/// A compressed frame.
fn gif_frame(picture: &Picture, delay: u32) -> gif::Frame<'static> {
    let (width, height) = (picture.width as u16, picture.height as u16);
    let mut frame = match picture.channels {
        1 => gif::Frame { width, height, buffer: Cow::Owned(picture.pixels.clone()), ..gif::Frame::default() },
        // 1 is the best palette and slowest; 10 is the crate's own advice.
        _ => gif::Frame::from_rgb_speed(width, height, &picture.pixels, 10),
    };
    frame.delay = (delay / 10) as u16;
    frame.make_lzw_pre_encoded();
    frame
}

/// A number of `bytes` bytes, lowest first.
fn little(value: usize, bytes: usize) -> Vec<u8> {
    value.to_le_bytes()[..bytes].to_vec()
}

/// A RIFF chunk, padded to an even length.
fn chunk(name: &[u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut chunk = [name.as_slice(), &little(payload.len(), 4), payload].concat();
    if payload.len() % 2 == 1 {
        chunk.push(0);
    }
    chunk
}

/// An `ANMF` chunk: the picture's own `VP8L` chunk, with where and how long it is shown.
fn webp_frame(picture: &Picture, delay: u32) -> Result<Vec<u8>> {
    let mut still = Vec::new();
    WebPEncoder::new_lossless(&mut still)
        .encode(&picture.pixels, picture.width as u32, picture.height as u32, picture.color())
        .map_err(|error| unencodable(&error))?;
    // "RIFF", length, "WEBP", then the one chunk of a lossless still picture.
    let image = still.get(12..).filter(|image| image.starts_with(b"VP8L"));
    let image = image.ok_or_else(|| Error::internal("a lossless WebP picture without its VP8L chunk"))?;
    // Replaces what was there before, alpha or not.
    let no_blending = 0b10;
    let header = [
        little(0, 3),
        little(0, 3),
        little(picture.width - 1, 3),
        little(picture.height - 1, 3),
        little(delay as usize, 3),
        vec![no_blending],
    ];
    Ok(chunk(b"ANMF", &[&header.concat(), image].concat()))
}

/// The whole file around its `ANMF` chunks.
fn webp_file(width: usize, height: usize, frames: &[u8]) -> Result<Vec<u8>> {
    let animated = 0b10;
    let canvas = [little(animated, 4), little(width - 1, 3), little(height - 1, 3)].concat();
    // A background that no frame leaves bare, and no end of loops.
    let animation = [little(0, 4), little(0, 2)].concat();
    let body = [b"WEBP".to_vec(), chunk(b"VP8X", &canvas), chunk(b"ANIM", &animation)].concat();
    let length = body.len() + frames.len();
    if u32::try_from(length).is_err() {
        return Err(Error::input("the animation would be larger than 4 GiB, which WebP does not allow; give fewer --frames"));
    }
    Ok([b"RIFF".to_vec(), little(length, 4), body, frames.to_vec()].concat())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::AnimationDecoder;
    use image::codecs::webp::WebPDecoder;

    use super::*;

    /// Ramps that differ from frame to frame, of odd sizes.
    fn frames(n: usize, channels: usize) -> Vec<Picture> {
        let (width, height) = (13, 7);
        let pixel = |frame: usize, i: usize| ((i * 2 + frame * 31) % 256) as u8;
        let picture = |frame| (0..width * height * channels).map(|i| pixel(frame, i)).collect();
        (0..n).map(|frame| Picture { width, height, channels, pixels: picture(frame) }).collect()
    }

    fn encoded(format: Format, frames: &[Picture], delay: u32) -> Vec<u8> {
        let mut animation = Animation::new(format);
        // In two parts, as they come from a device.
        animation.push(&frames[..1], delay).unwrap();
        animation.push(&frames[1..], delay).unwrap();
        assert_eq!(animation.frames(), frames.len());
        animation.finish().unwrap()
    }

    #[test]
    fn every_frame_of_a_webp_comes_back_exactly() {
        for channels in [1, 3] {
            let frames = frames(5, channels);
            let bytes = encoded(Format::WebP, &frames, 42);
            let decoder = WebPDecoder::new(Cursor::new(&bytes)).unwrap();
            assert!(decoder.has_animation());
            let read = decoder.into_frames().collect_frames().unwrap();
            assert_eq!(read.len(), 5);
            for (read, frame) in read.iter().zip(&frames) {
                assert_eq!(read.delay().numer_denom_ms(), (42, 1));
                let rgb = image::DynamicImage::from(read.buffer().clone()).into_rgb8().into_raw();
                let want: Vec<u8> =
                    frame.pixels.chunks(channels).flat_map(|p| if channels == 1 { [p[0]; 3].to_vec() } else { p.to_vec() }).collect();
                assert_eq!(rgb, want);
            }
        }
    }

    #[test]
    fn every_frame_of_a_gif_comes_back() {
        for channels in [1, 3] {
            let frames = frames(5, channels);
            let bytes = encoded(Format::Gif, &frames, 42);
            let mut options = gif::DecodeOptions::new();
            options.set_color_output(gif::ColorOutput::RGBA);
            let mut decoder = options.read_info(bytes.as_slice()).unwrap();
            assert_eq!(decoder.repeat(), Repeat::Infinite);
            for frame in &frames {
                let read = decoder.read_next_frame().unwrap().unwrap();
                assert_eq!((read.width, read.height, read.delay), (13, 7, 4));
                for (read, want) in read.buffer.chunks(4).zip(frame.pixels.chunks(channels)) {
                    // Fewer than 256 colours in a frame are kept as they are.
                    assert_eq!(&read[..3], if channels == 1 { vec![want[0]; 3] } else { want.to_vec() });
                }
            }
            assert!(decoder.read_next_frame().unwrap().is_none());
        }
    }

    #[test]
    fn times_that_the_formats_know() {
        assert_eq!([1, 20, 42, 45, 1000].map(|ms| Format::Gif.delay(ms)), [20, 20, 40, 50, 1000]);
        assert_eq!([0, 42, u32::MAX].map(|ms| Format::WebP.delay(ms)), [1, 42, (1 << 24) - 1]);
        assert_eq!(
            ["a.gif", "b.GIF", "c.webp", "d.png", "gif"].map(|name| Format::of(Path::new(name))),
            [Some(Format::Gif), Some(Format::Gif), Some(Format::WebP), None, None]
        );
    }

    #[test]
    fn frames_that_do_not_fit_are_refused() {
        let mut animation = Animation::new(Format::WebP);
        let error = animation.push(&[Picture::filled(20_000, 1, 1, 0)], 40).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("20000x1") && error.to_string().contains("16384"), "{error}");
        let mut animation = Animation::new(Format::Gif);
        animation.push(&[Picture::filled(2, 2, 1, 0)], 40).unwrap();
        assert!(animation.push(&[Picture::filled(2, 3, 1, 0)], 40).is_err());
        assert!(Animation::new(Format::Gif).finish().is_err() && Animation::new(Format::WebP).finish().is_err());
    }
}
