//! Broken pictures and hostile archives: each gives one clear error, and takes little memory.

use ganymede::data::policy::Labels;
use ganymede::data::{self, DataSet, ImagePolicy};
use ganymede::error::Result;
use image::{ImageFormat, Rgb, RgbImage};
use zip::CompressionMethod;

use super::files::{encoded, flat, packed, png, zipped};
use super::{folder, load, refused, says};

fn read(zip: &[u8]) -> Result<DataSet> {
    data::pictures_from_zip_bytes(zip, "x.zip", &ImagePolicy::default())
}

/// Replaces `from`, wherever it stands, by `to` of the same length.
fn patched(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let mut found = 0;
    for at in 0..=bytes.len() - from.len() {
        if &bytes[at..at + from.len()] == from {
            bytes[at..at + from.len()].copy_from_slice(to);
            found += 1;
        }
    }
    assert!(found > 0, "nothing to patch");
    bytes
}

fn noise() -> RgbImage {
    RgbImage::from_fn(33, 21, |x, y| Rgb([(x * 37 + y * 11) as u8, (x * y) as u8, (x ^ (y * 5)) as u8]))
}

#[test]
fn a_broken_picture_is_named_with_what_is_wrong() {
    let good = png(noise());
    let bad = |name: &str, bytes: &[u8], parts: &[&str]| {
        let folder = folder(&[("a.png", &good), (name, bytes)]);
        let path = folder.path().join(name);
        refused(folder.path(), &ImagePolicy::default(), parts);
        refused(folder.path(), &ImagePolicy::default(), &[&format!("'{}'", path.display()), "ganymede data check"]);
        says(read(&zipped(&[("a.png", &good), (name, bytes)])), parts);
        says(read(&zipped(&[("a.png", &good), (name, bytes)])), &[&format!("'x.zip': entry '{name}'")]);
    };
    bad("b.png", b"", &["is empty; fetch it again"]);
    bad("b.jpg", b"<!DOCTYPE html>", &["is no PNG, JPEG, WebP, BMP or GIF picture", "it starts with 0x3c21444f"]);
    bad("b.png", &good[..good.len() / 2], &["cannot be decoded as PNG", "replace or remove it"]);
    let jpeg = encoded(noise(), ImageFormat::Jpeg);
    bad("b.jpg", &jpeg[..jpeg.len() - 20], &["is truncated: the JPEG stream has no end marker"]);
    for (name, format) in [("b.gif", ImageFormat::Gif), ("b.webp", ImageFormat::WebP), ("b.bmp", ImageFormat::Bmp)] {
        let whole = encoded(noise(), format);
        bad(name, &whole[..whole.len() / 2], &["cannot be decoded as"]);
    }
    // A wrong checksum.
    bad("b.png", &patched(&good, b"IDAT", b"IDBT"), &["cannot be decoded as PNG"]);
}

#[test]
fn headers_that_claim_too_much_are_not_believed() {
    let good = flat(16, 16, 3);
    // Dimensions stand at byte 16 of a PNG, the kind of colour at byte 25, their checksum at byte 29.
    let claiming = |width: u32, height: u32, colour: u8| {
        let mut bytes = good.clone();
        bytes[25] = colour;
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.sum().to_be_bytes());
        zipped(&[("a.png", &bytes)])
    };
    assert!(read(&claiming(16, 16, 0)).is_ok());
    says(read(&claiming(40_000, 10, 0)), &["entry 'a.png' claims 40000 x 10 pixels, beyond the limits of 32768 a side and 64 million"]);
    says(read(&claiming(30_000, 30_000, 0)), &["beyond the limits"]);
    says(read(&claiming(8000, 8000, 2)), &["claims 8000 x 8000 pixels in", "more than can be packed"]);
    says(read(&claiming(0, 5, 0)), &["entry 'a.png'"]);
}

#[test]
fn names_that_lead_out_of_an_archive_are_refused() {
    let image = flat(1, 1, 1);
    let harmless = zipped(&[("aa/bb/cc.png", &image)]);
    for (name, fault) in [
        (b"../bb/cc.png", "leads out of the archive"),
        (b"aa/../cc.png", "leads out of the archive"),
        (b"aa\\..\\cc.png", "leads out of the archive"),
        (b"/a/bb/cc.png", "is an absolute path"),
        (b"\\a/bb/cc.png", "is an absolute path"),
        (b"C:/bb/cc.png", "names a drive"),
        (b"aa/bb/cc\0png", "has a NUL"),
    ] {
        let text = String::from_utf8_lossy(name).replace('\0', "\u{fffd}");
        says(read(&patched(&harmless, b"aa/bb/cc.png", name)), &["'x.zip': entry '", &text, fault, "refused"]);
    }
    let error = read(&patched(&harmless, b"aa/bb/cc.png", b"../b\x1b[2J.png")).unwrap_err().to_string();
    assert!(!error.contains('\x1b'), "{error:?}");
}

#[test]
fn bombs_and_liars_are_refused() {
    // 100 MB of nothing in 100 KB, by the directory's own account.
    let bomb = zipped(&[("a.bmp", &vec![0; 100 << 20])]);
    says(read(&bomb), &["'x.zip' would unpack to", "times its own size, beyond the limit of 200"]);
    // The same, with a directory that says 1 MB: no more than that is unpacked.
    let lying = patched(&bomb, &(100u32 << 20).to_le_bytes(), &(1u32 << 20).to_le_bytes());
    says(read(&lying), &["entry 'a.bmp' is damaged"]);
    let image = flat(3, 3, 1);
    let size = (image.len() as u32).to_le_bytes();
    let stored = packed(&[("a.png", &image)], CompressionMethod::Stored);
    assert_eq!(read(&stored).unwrap().images, [1; 9]);
    says(read(&patched(&stored, &size, &0x7000_0000u32.to_le_bytes())), &["'x.zip'"]);
    says(read(&patched(&stored, &size, &1u32.to_le_bytes())), &["'x.zip'"]);
    // A flipped bit of a pixel: the checksum tells.
    let at = stored.windows(4).position(|bytes| bytes == b"IDAT").unwrap() + 8;
    let mut flipped = stored.clone();
    flipped[at] ^= 1;
    says(read(&flipped), &["entry 'a.png' is damaged", "unzip -t"]);
    // Method 12 is bzip2; bit 0 of the flags is encryption.
    let (local, central) =
        (stored.windows(4).position(|b| b == b"PK\x03\x04").unwrap(), stored.windows(4).position(|b| b == b"PK\x01\x02").unwrap());
    let mut bzip2 = stored.clone();
    (bzip2[local + 8], bzip2[central + 10]) = (12, 12);
    says(read(&bzip2), &["entry 'a.png' is packed by a method other than deflate"]);
    let mut secret = stored.clone();
    (secret[local + 6], secret[central + 8]) = (secret[local + 6] | 1, secret[central + 8] | 1);
    says(read(&secret), &["entry 'a.png' is encrypted"]);
    let twice = patched(&zipped(&[("a.png", &image), ("b.png", &image)]), b"b.png", b"a.png");
    says(read(&twice), &["several entries of the same name"]);
    says(read(&zipped(&[("a.txt", b"text")])), &["'x.zip' holds nothing to load"]);
    says(read(&zipped(&[])), &["'x.zip' holds nothing to load"]);
    says(read(&zipped(&[("a.png", &image), ("dataset.json", b"{}}")])), &["entry 'dataset.json' is wrong"]);
    let json = ImagePolicy { labels: Labels::Json, ..ImagePolicy::default() };
    says(data::pictures_from_zip_bytes(&zipped(&[("a.png", &image)]), "x.zip", &json), &["has no labels in a dataset.json"]);
    let largest = super::watched::largest();
    assert!(largest <= 1 << 28, "an allocation of {largest} bytes");
}

/// Two entries of the directory that stand for the same bytes, many times over: the trick of bombs that need no ratio.
#[test]
fn overlapping_entries_are_refused() {
    let image = png(noise());
    let names: Vec<String> = (0..50).map(|i| format!("{i:02}.png")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &image[..])).collect();
    let whole = packed(&files, CompressionMethod::Stored);
    let central = whole.windows(4).position(|b| b == b"PK\x01\x02").unwrap();
    let first_end = whole[4..].windows(4).position(|b| b == b"PK\x03\x04").unwrap() + 4;
    // One local entry, and the directory of fifty.
    let mut overlapping = whole[..first_end].to_vec();
    let mut directory = whole[central..].to_vec();
    let mut at = 0;
    while directory[at..].starts_with(b"PK\x01\x02") {
        directory[at + 42..at + 46].copy_from_slice(&0u32.to_le_bytes());
        at += 46 + "00.png".len();
    }
    directory[at + 16..at + 20].copy_from_slice(&(first_end as u32).to_le_bytes());
    overlapping.extend(directory);
    says(read(&overlapping), &["they overlap"]);
}

#[test]
fn archives_cut_anywhere_are_refused() {
    let whole = zipped(&[("a/1.png", &png(noise())), ("dataset.json", br#"{"labels": [["a/1.png", 0]]}"#)]);
    assert_eq!(read(&whole).unwrap().count, 1);
    for len in 0..whole.len() {
        assert_eq!(read(&whole[..len]).expect_err("cut short").exit_code(), 2, "{len}");
    }
    let file = folder(&[("cut.zip", &whole[..whole.len() - 5])]);
    refused(&file.path().join("cut.zip"), &ImagePolicy::default(), &["cut.zip' is no ZIP archive, or a damaged one", "fetch it again"]);
    let file = folder(&[("good.zip", &whole)]);
    assert_eq!(load(&file.path().join("good.zip"), &ImagePolicy::default()).unwrap().labels, Some(vec![0]));
}
