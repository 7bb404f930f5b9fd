//! NumPy's arrays: `.npy` files (NumPy Enhancement Proposal 1), and `.npz` archives of them.
//!
//! An array of images has 3 or 4 dimensions: (N, H, W) is grey; of four, the last one is the channels if it is 1 or 3, (N, H, W, C), else the
//! second one, (N, C, H, W). Bytes are taken as they are. Of floats, what they are is told by all of them together:
//!
//! | smallest | largest | taken as |
//! |---|---|---|
//! | at least 0 | at most 1 | 0 dark, 1 bright |
//! | at least -1, below 0 | at most 1 | -1 dark, 1 bright |
//! | at least 0 | 2 to 255 | 0 dark, 255 bright |
//!
//! Anything else is refused rather than guessed at. A thousandth beyond a bound is rounding, and is clamped. The name of the data set says what
//! was taken for what.
//!
//! An archive holds one array of images, or several of which one has `train` (or, for the test split, `test`) in its name; labels are the array
//! of whole numbers, (N) or (N, 1), whose name says the same.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::archive::{Archive, Member};
use super::labels::MAX_CLASSES;
use super::{DataSet, MAX_BYTES, Split, checked_bytes};
use crate::error::{Error, Result};

/// First bytes of a `.npy` file.
pub const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest header that is read: a real one has about a hundred bytes.
const MAX_HEADER: u64 = 1 << 14;
/// Largest height or width that is believed.
const MAX_SIDE: u64 = 4096;
/// How far a float may lie beyond its range.
const SLACK: f64 = 1e-3;

/// What an array is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    Unsigned(usize),
    Signed(usize),
    Float(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Header {
    element: Element,
    big_endian: bool,
    shape: Vec<u64>,
}

/// Where an array's bytes are. Floats are read twice, so that it must be possible to start anew.
enum Place<'a> {
    File(&'a Path),
    Bytes(&'a [u8]),
    Member(&'a mut Archive, &'a Member),
}

impl Place<'_> {
    fn shown(&self, name: &str) -> String {
        match self {
            Place::File(path) => format!("'{}'", path.display()),
            Place::Bytes(_) => format!("'{name}'"),
            Place::Member(archive, member) => archive.shown(&member.name),
        }
    }

    fn open(&mut self) -> Result<Box<dyn Read + '_>> {
        match self {
            Place::File(path) => {
                let file = File::open(&**path).map_err(|error| Error::input(format!("cannot read '{}': {error}", path.display())))?;
                Ok(Box::new(BufReader::new(file)))
            }
            Place::Bytes(bytes) => Ok(Box::new(*bytes)),
            Place::Member(archive, member) => Ok(Box::new(archive.stream(member)?)),
        }
    }
}

/// An array file.
///
/// # Errors
/// [`Error::Input`] naming the file, also if the test split is asked for: one array has only one.
pub fn load_file(path: &Path, name: &str, split: Split) -> Result<DataSet> {
    if split == Split::Test {
        return Err(Error::input(format!("'{}' holds one array and no test split: hold part of it out instead", path.display())));
    }
    read_images(name, Place::File(path))?.into_set(name, None)
}

/// The bytes of an array file; `name` is what errors and the set are called.
///
/// # Errors
/// [`Error::Input`] saying what is wrong.
pub fn from_bytes(bytes: &[u8], name: &str) -> Result<DataSet> {
    read_images(name, Place::Bytes(bytes))?.into_set(name, None)
}

/// The bytes of an archive of arrays; `name` is what errors and the set are called.
///
/// # Errors
/// [`Error::Input`] saying what is wrong, and the array that it is wrong with.
pub fn from_npz_bytes(bytes: &[u8], name: &str, split: Split) -> Result<DataSet> {
    load_archive(Archive::from_bytes(bytes, name)?, name, split)
}

/// An archive's images, and their labels if there are any.
///
/// # Errors
/// [`Error::Input`] naming the archive and the array at fault.
pub fn load_archive(mut archive: Archive, name: &str, split: Split) -> Result<DataSet> {
    let members: Vec<Member> = archive.members().into_iter().filter(|member| member.name.ends_with(".npy")).collect();
    let mut arrays = Vec::new();
    for member in &members {
        let shown = archive.shown(&member.name);
        // Arrays of texts and objects may lie beside; only what is chosen below must be right.
        if let Ok(header) = read_header(&shown, &mut archive.stream(member)?) {
            arrays.push((member, header));
        }
    }
    let listed = || {
        let describe = |(member, header): &(&Member, Header)| format!("{} {:?}", key(member), header.shape);
        arrays.iter().map(describe).collect::<Vec<_>>().join(", ")
    };
    let candidates: Vec<_> = arrays.iter().filter(|(_, header)| matches!(header.shape.len(), 3 | 4)).collect();
    let images = match (&candidates[..], split) {
        ([only], Split::Train) if !is_of(only.0, Split::Test) => only,
        _ => {
            let of_split: Vec<_> = candidates.iter().filter(|(member, _)| is_of(member, split)).collect();
            match of_split[..] {
                [only] => *only,
                _ => {
                    let word = word(split);
                    return Err(Error::input(format!(
                        "'{name}' must hold one array of images (3 or 4 dimensions), or one with '{word}' in its name; it holds {}",
                        if arrays.is_empty() { "no arrays of numbers".to_string() } else { listed() }
                    )));
                }
            }
        }
    };
    let (member, header) = images;
    let count = header.shape[0];
    let may_be_labels = |header: &Header| {
        let whole = !matches!(header.element, Element::Float(_));
        whole && (header.shape == [count] || header.shape == [count, 1])
    };
    let is_labels = |candidate: &&(&Member, Header)| may_be_labels(&candidate.1) && side(candidate.0) == side(member);
    let found: Vec<_> = arrays.iter().filter(is_labels).collect();
    let labels = match found[..] {
        [] => None,
        [(labels, header)] => {
            let shown = archive.shown(&labels.name);
            Some(read_labels(&shown, header, &mut archive.stream(labels)?)?)
        }
        _ => {
            return Err(Error::input(format!(
                "'{name}' holds several arrays that could be the labels of {}: {}; keep one of them",
                key(member),
                found.iter().map(|(member, _)| key(member)).collect::<Vec<_>>().join(", ")
            )));
        }
    };
    read_images(name, Place::Member(&mut archive, member))?.into_set(name, labels)
}

/// Name of an array, as its maker knows it.
fn key(member: &Member) -> &str {
    member.name.strip_suffix(".npy").unwrap_or(&member.name)
}

fn word(split: Split) -> &'static str {
    match split {
        Split::Train => "train",
        Split::Test => "test",
    }
}

fn is_of(member: &Member, split: Split) -> bool {
    key(member).to_lowercase().contains(word(split))
}

/// Which split an array's name says it is of, if any.
fn side(member: &Member) -> Option<&'static str> {
    let key = key(member).to_lowercase();
    ["train", "test", "val"].into_iter().find(|&word| key.contains(word))
}

/// Images of an array, as bytes.
struct Images {
    layout: Layout,
    pixels: Vec<u8>,
    /// What was read and what it was taken for.
    taken: String,
}

impl Images {
    fn into_set(self, name: &str, labels: Option<Vec<u32>>) -> Result<DataSet> {
        let classes = labels.iter().flatten().max().map_or(0, |&label| label + 1);
        let names = (0..classes).map(|class| class.to_string()).collect();
        let Layout { count, height, width, channels, .. } = self.layout;
        let shape = (count, height, width, channels);
        DataSet::new(format!("{name} ({})", self.taken), shape, self.pixels, labels, names)
    }
}

fn read_images(name: &str, mut place: Place) -> Result<Images> {
    let shown = place.shown(name);
    let mut stream = place.open()?;
    let header = read_header(&shown, &mut stream)?;
    let layout = Layout::of(&shown, &header.shape)?;
    let (convert, words): Conversion = match header.element {
        Element::Unsigned(1) => (|value| value as u8, "bytes"),
        Element::Float(_) => {
            let range = float_range(&shown, &header, &layout, &mut stream)?;
            drop(stream);
            stream = place.open()?;
            if read_header(&shown, &mut stream)? != header {
                return Err(Error::input(format!("{shown} changed while it was read: try again")));
            }
            range
        }
        Element::Unsigned(_) | Element::Signed(_) => {
            return Err(Error::input(format!(
                "{shown} holds whole numbers with a sign or of more than 8 bits; expected bytes or floats: save it with .astype('uint8')"
            )));
        }
    };
    let mut pixels = Vec::new();
    let (plane, channels) = (layout.height * layout.width, layout.channels);
    each_image(&shown, &header, &layout, &mut stream, |_, image| {
        let value = |index: usize| convert(header.value(image, index));
        if layout.planar {
            pixels.extend((0..plane * channels).map(|i| value(i % channels * plane + i / channels)));
        } else {
            pixels.extend((0..plane * channels).map(value));
        }
    })?;
    pixels.shrink_to_fit();
    Ok(Images { pixels, taken: format!("{words} {}", layout.word), layout })
}

/// What makes a byte of an element, and words for what the elements stand for.
type Conversion = (fn(f64) -> u8, &'static str);

/// What the floats of an array stand for, told by the smallest and the largest: the conversion, and words for it.
fn float_range(shown: &str, header: &Header, layout: &Layout, stream: &mut dyn Read) -> Result<Conversion> {
    let (mut low, mut high, mut strange) = (f64::INFINITY, f64::NEG_INFINITY, None);
    let elements = layout.height * layout.width * layout.channels;
    each_image(shown, header, layout, stream, |index, image| {
        for i in 0..elements {
            let value = header.value(image, i);
            if !value.is_finite() {
                strange.get_or_insert((index, value));
            }
            (low, high) = (low.min(value), high.max(value));
        }
    })?;
    if let Some((index, value)) = strange {
        return Err(Error::input(format!("{shown}: image {index} holds the value {value}: all must be finite (see numpy.nan_to_num)")));
    }
    if low >= -SLACK && high <= 1.0 + SLACK {
        Ok((|value| (255.0 * value).round() as u8, "floats in [0, 1]"))
    } else if low >= -1.0 - SLACK && high <= 1.0 + SLACK {
        Ok((|value| (127.5 * (value + 1.0)).round() as u8, "floats in [-1, 1]"))
    } else if low >= -SLACK && (2.0..=255.0 + SLACK).contains(&high) {
        Ok((|value| value.round() as u8, "floats in [0, 255]"))
    } else {
        Err(Error::input(format!(
            "{shown} holds floats from {low} to {high}, which is none of 0 to 1, -1 to 1 and 0 to 255: scale them, or save bytes with \
             .astype('uint8')"
        )))
    }
}

/// How images lie in an array.
struct Layout {
    count: usize,
    height: usize,
    width: usize,
    channels: usize,
    /// Channels come before rows.
    planar: bool,
    word: &'static str,
}

impl Layout {
    fn of(shown: &str, shape: &[u64]) -> Result<Self> {
        let small = |channels: u64| channels == 1 || channels == 3;
        let ([count, height, width, channels], planar, word) = match *shape {
            [n, h, w] => ([n, h, w, 1], false, "(N, H, W)"),
            [n, h, w, c] if small(c) => ([n, h, w, c], false, "(N, H, W, C)"),
            [n, c, h, w] if small(c) => ([n, h, w, c], true, "(N, C, H, W)"),
            _ => {
                return Err(Error::input(format!(
                    "{shown} has the shape {shape:?}; expected (N, H, W), or (N, H, W, C) or (N, C, H, W) with 1 or 3 channels"
                )));
            }
        };
        if [count, height, width].contains(&0) {
            return Err(Error::input(format!("{shown} is empty: its shape is {shape:?}")));
        }
        let sizes = [count, height, width, channels].map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        if height > MAX_SIDE || width > MAX_SIDE || checked_bytes(&sizes).is_none() {
            return Err(Error::input(format!(
                "{shown} claims the shape {shape:?}, beyond the limits of {MAX_SIDE} pixels a side and {} GiB in all",
                MAX_BYTES >> 30
            )));
        }
        let [count, height, width, channels] = sizes;
        Ok(Self { count, height, width, channels, planar, word })
    }
}

/// Gives each image's number and bytes, and checks that there are as many as the header says.
fn each_image(shown: &str, header: &Header, layout: &Layout, stream: &mut dyn Read, mut give: impl FnMut(usize, &[u8])) -> Result<()> {
    let len = (layout.height * layout.width * layout.channels * header.element.size()) as u64;
    let mut image = Vec::new();
    for index in 0..layout.count {
        // The vector grows with what really comes, so that a lying header costs no memory.
        image.clear();
        stream.take(len).read_to_end(&mut image).map_err(|error| unreadable(shown, &error))?;
        if image.len() as u64 != len {
            return Err(Error::input(format!(
                "{shown} is truncated: its header promises {} images of {len} bytes, it ends in image {index}; save it again",
                layout.count
            )));
        }
        give(index, &image);
    }
    // Reading to the end also makes an archive check its sum.
    if stream.read(&mut [0]).map_err(|error| unreadable(shown, &error))? != 0 {
        return Err(Error::input(format!(
            "{shown} goes on after its {} images: the header or the file is damaged; save it again",
            layout.count
        )));
    }
    Ok(())
}

fn read_labels(shown: &str, header: &Header, stream: &mut dyn Read) -> Result<Vec<u32>> {
    let count = header.shape[0];
    let mut bytes = Vec::new();
    let len = count.saturating_mul(header.element.size() as u64);
    read_header(shown, stream)?;
    stream.take(len.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| unreadable(shown, &error))?;
    if bytes.len() as u64 != len {
        return Err(Error::input(format!(
            "{shown} must hold {count} labels of {} bytes, and holds {}",
            header.element.size(),
            bytes.len()
        )));
    }
    (0..count as usize)
        .map(|index| {
            let value = header.value(&bytes, index);
            (value >= 0.0 && value < f64::from(MAX_CLASSES)).then_some(value as u32).ok_or_else(|| {
                Error::input(format!("{shown}: label {index} is {value}; labels are whole numbers from 0 to {}", MAX_CLASSES - 1))
            })
        })
        .collect()
}

fn unreadable(shown: &str, error: &std::io::Error) -> Error {
    Error::input(format!("{shown} cannot be read to its end ({error}): save or fetch it again"))
}

impl Element {
    /// Bytes.
    fn size(self) -> usize {
        match self {
            Element::Unsigned(size) | Element::Signed(size) | Element::Float(size) => size,
        }
    }
}

impl Header {
    /// Element `index` of `bytes`. Whole numbers beyond 2^53 lose their last digits, which no label has.
    fn value(&self, bytes: &[u8], index: usize) -> f64 {
        let size = self.element.size();
        let mut little = [0; 8];
        little[..size].copy_from_slice(&bytes[index * size..(index + 1) * size]);
        if self.big_endian {
            little[..size].reverse();
        }
        let unsigned = u64::from_le_bytes(little);
        match self.element {
            Element::Unsigned(_) => unsigned as f64,
            Element::Signed(_) => {
                // The sign bit moves to the top, and back down with its copies.
                let shift = 64 - 8 * size as u32;
                ((unsigned << shift).cast_signed() >> shift) as f64
            }
            Element::Float(4) => f64::from(f32::from_bits(unsigned as u32)),
            Element::Float(_) => f64::from_bits(unsigned),
        }
    }
}

/// Reads the header, up to the first element.
fn read_header(shown: &str, stream: &mut dyn Read) -> Result<Header> {
    let damaged = |what: &str| Error::input(format!("{shown} is no NumPy array, or a damaged one: {what}; save it again with numpy.save"));
    let mut take = |len: u64| {
        let mut bytes = Vec::new();
        (&mut *stream).take(len).read_to_end(&mut bytes).map_err(|error| unreadable(shown, &error))?;
        if bytes.len() as u64 == len { Ok(bytes) } else { Err(damaged("it ends in its header")) }
    };
    let start = take(8)?;
    if !start.starts_with(MAGIC) {
        return Err(damaged("it does not start with \\x93NUMPY"));
    }
    let len = match start[6] {
        1 => take(2)?.iter().rev().fold(0, |len, &byte| len << 8 | u64::from(byte)),
        2 | 3 => take(4)?.iter().rev().fold(0, |len, &byte| len << 8 | u64::from(byte)),
        version => return Err(damaged(&format!("it has format version {version}, and 1 to 3 are known"))),
    };
    if len > MAX_HEADER {
        return Err(damaged(&format!("its header claims {len} bytes, beyond the limit of {MAX_HEADER}")));
    }
    let text = String::from_utf8(take(len)?).map_err(|_| damaged("its header is no text"))?;
    let fields = parse_header(&text).ok_or_else(|| damaged("its header is not the usual dictionary of descr, fortran_order and shape"))?;
    if fields.fortran_order {
        return Err(Error::input(format!("{shown} is stored in Fortran's order: save it with numpy.ascontiguousarray")));
    }
    let (element, big_endian) = element(&fields.descr).ok_or_else(|| {
        Error::input(format!(
            "{shown} holds elements of type '{}'; expected bytes (u1) or floats (f4, f8), and whole numbers for labels: convert it with .astype",
            fields.descr.escape_debug()
        ))
    })?;
    Ok(Header { element, big_endian, shape: fields.shape })
}

fn element(descr: &str) -> Option<(Element, bool)> {
    let (order, kind) = descr.split_at_checked(1)?;
    // A byte has no order.
    let big_endian = match order {
        "<" | "|" => false,
        ">" => true,
        _ => return None,
    };
    let element = match kind {
        "u1" => Element::Unsigned(1),
        "u2" => Element::Unsigned(2),
        "u4" => Element::Unsigned(4),
        "u8" => Element::Unsigned(8),
        "i1" => Element::Signed(1),
        "i2" => Element::Signed(2),
        "i4" => Element::Signed(4),
        "i8" => Element::Signed(8),
        "f4" => Element::Float(4),
        "f8" => Element::Float(8),
        _ => return None,
    };
    Some((element, big_endian))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Fields {
    descr: String,
    fortran_order: bool,
    shape: Vec<u64>,
}

/// The dictionary of a header: a Python literal with exactly the keys descr (a text), fortran_order (a truth value) and shape (a tuple).
fn parse_header(text: &str) -> Option<Fields> {
    let mut rest = Rest(text.trim_end_matches([' ', '\n', '\0']));
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    rest.expect('{')?;
    while rest.expect('}').is_none() {
        let key = rest.text()?;
        rest.expect(':')?;
        match key {
            "descr" if descr.is_none() => descr = Some(rest.text()?.to_string()),
            "fortran_order" if fortran_order.is_none() => fortran_order = Some(rest.truth()?),
            "shape" if shape.is_none() => shape = Some(rest.tuple()?),
            _ => return None,
        }
        if rest.expect(',').is_none() {
            rest.expect('}')?;
            break;
        }
    }
    let all = rest.0.trim_start().is_empty();
    all.then_some(Fields { descr: descr?, fortran_order: fortran_order?, shape: shape? })
}

/// What is left of a Python literal.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn expect(&mut self, wanted: char) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(wanted)?;
        Some(())
    }

    /// A text without escapes, in either quotes.
    fn text(&mut self) -> Option<&'a str> {
        let rest = self.0.trim_start();
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (text, rest) = rest[1..].split_once(quote)?;
        self.0 = rest;
        (!text.contains('\\')).then_some(text)
    }

    fn truth(&mut self) -> Option<bool> {
        let rest = self.0.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = rest.strip_prefix(word) {
                self.0 = rest;
                return Some(value);
            }
        }
        None
    }

    /// Whole numbers, at most as many as an array has dimensions in NumPy.
    fn tuple(&mut self) -> Option<Vec<u64>> {
        let mut numbers = Vec::new();
        self.expect('(')?;
        while self.expect(')').is_none() {
            let rest = self.0.trim_start();
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            numbers.push(rest[..end].parse().ok().filter(|_| numbers.len() < 64)?);
            self.0 = &rest[end..];
            if self.expect(',').is_none() {
                self.expect(')')?;
                break;
            }
        }
        Some(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_parsed_strictly() {
        let fields = |descr: &str, fortran_order, shape: &[u64]| Some(Fields { descr: descr.into(), fortran_order, shape: shape.to_vec() });
        assert_eq!(
            parse_header("{'descr': '|u1', 'fortran_order': False, 'shape': (10, 28, 28), }   \n"),
            fields("|u1", false, &[10, 28, 28])
        );
        assert_eq!(parse_header("{\"shape\":(7,),'descr':'<f4','fortran_order':True}"), fields("<f4", true, &[7]));
        assert_eq!(parse_header("{'shape': (), 'descr': '<i8', 'fortran_order': False}"), fields("<i8", false, &[]));
        for bad in [
            "",
            "{}",
            "{'descr': '|u1', 'fortran_order': False}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2), 'more': 1}",
            "{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (1, 2)}",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 2)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (1, -2)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (1 2)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999,)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2)} and more",
            "{'descr': '|u1', 'fortran_order': 0, 'shape': (1, 2)}",
            "{'descr': '|u1, 'fortran_order': False, 'shape': (1, 2)",
        ] {
            assert_eq!(parse_header(bad), None, "{bad}");
        }
    }

    #[test]
    fn elements_of_every_type_and_order() {
        let value = |descr: &str, bytes: &[u8]| {
            let (element, big_endian) = element(descr).unwrap();
            Header { element, big_endian, shape: Vec::new() }.value(bytes, 0)
        };
        assert_eq!(value("|u1", &[200]), 200.0);
        assert_eq!(value("|i1", &[200]), -56.0);
        assert_eq!(value("<i2", &(-300i16).to_le_bytes()), -300.0);
        assert_eq!(value(">u2", &300u16.to_be_bytes()), 300.0);
        assert_eq!(value(">i4", &(-70_000i32).to_be_bytes()), -70_000.0);
        assert_eq!(value("<i8", &(-5i64).to_le_bytes()), -5.0);
        assert_eq!(value("<f4", &0.25f32.to_le_bytes()), 0.25);
        assert_eq!(value(">f8", &(-0.1f64).to_be_bytes()), -0.1);
        for bad in ["", "u1", "=f4", "<f2", "|O", "<U3", "|b1", "\u{e9}f4"] {
            assert_eq!(element(bad), None, "{bad}");
        }
    }
}
