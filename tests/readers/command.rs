//! `ganymede data check`, `convert` and `sheet`.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use ganymede::data::{self, ImagePolicy, LoadOptions};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, GrayAlphaImage, ImageEncoder, ImageFormat, LumaA, Rgb, RgbImage};

use super::files::{encoded, exif, flat, palette_png, png, zipped};
use super::{folder, load};

fn ganymede(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ganymede"));
    command.arg("data").args(args).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

/// Runs a command that must end with `code`; returns what it printed and its error.
#[track_caller]
fn ends(folder: &Path, args: &[&str], code: i32) -> (String, String) {
    let output = ganymede(folder, args);
    let (out, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(code), "{args:?}: {out}{error}");
    assert_eq!(error.matches("error:").count(), usize::from(code != 0), "{args:?}: {error}");
    assert!(!error.contains("panicked") && !error.contains('\x1b'), "{args:?}: {error}");
    (out, error)
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no '{part}' in: {text}");
    }
}

#[test]
fn check_lists_everything_and_says_what_stops_training() {
    let same = png(RgbImage::from_pixel(4, 4, Rgb([9; 3])));
    let jpeg = encoded(RgbImage::from_pixel(4, 4, Rgb([200, 0, 0])), ImageFormat::Jpeg);
    let mut turned = Vec::new();
    let mut encoder = PngEncoder::new(&mut turned);
    encoder.set_exif_metadata(exif(6)).unwrap();
    encoder.write_image(&[7; 4 * 4 * 3], 4, 4, ExtendedColorType::Rgb8).unwrap();
    let good: Vec<(&str, &[u8])> = vec![("set/a/1.png", &same), ("set/b/3.png", &turned), ("set/notes.txt", b"x"), ("set/README", b"x")];
    let dir = folder(&good);
    let (out, _) = ends(dir.path(), &["check", "set"], 0);
    says(&out, &["set: 2 images", "formats: PNG (2)", "sizes, width x height: 4 x 4 (2)", "modes: RGB (2)", "labels: none"]);
    says(&out, &["turned upright by the camera's note: 1", "other files, ignored: .txt (1), no extension (1)", "duplicates: 0\n"]);
    says(&out, &["broken: 0\n", "odd-sized: 0\n", "odd-mode: 0\n", "Nothing here would stop training"]);
    says(&ends(dir.path(), &["check", "set", "--labels", "folders"], 0).0, &["labels: 2 classes of 1 to 1 images"]);

    let grey = flat(4, 4, 9);
    let wide = png(RgbImage::from_pixel(6, 4, Rgb([1, 2, 3])));
    let palette = palette_png(2, 2, &[0, 1, 2, 3]);
    let alpha = png(GrayAlphaImage::from_pixel(4, 4, LumaA([3, 3])));
    let bad = [
        &good[..],
        &[("set/a/2.png", &same), ("set/c/grey.png", &grey), ("set/c/wide.png", &wide), ("set/c/palette.png", &palette)],
        &[("set/c/cut.jpg", &jpeg[..jpeg.len() - 2]), ("set/c/text.png", b"some text"), ("set/c/alpha.png", &alpha)],
    ]
    .concat();
    let dir = folder(&bad);
    let (out, error) = ends(dir.path(), &["check", "set"], 2);
    let cut = Path::new("set/c/cut.jpg").display().to_string();
    says(&out, &["set: 9 images", "broken: 2\n", &format!("'{cut}' is truncated"), "text.png' is no PNG, JPEG"]);
    says(&out, &["odd-sized: 2\n  c/palette.png: 2 x 2\n  c/wide.png: 6 x 4\n"]);
    says(&out, &["odd-mode: 3 (to be converted)\n  c/alpha.png: grey + alpha\n  c/grey.png: grey\n  c/palette.png: palette\n"]);
    says(&out, &["duplicates: 2\n  a/1.png = a/2.png = c/grey.png\n"]);
    says(&error, &["this would stop training on set: 2 broken; 2 of another size, which --resize fit, crop or stretch"]);
    let (out, error) = ends(dir.path(), &["check", "set", "--resize", "fit", "--size", "8"], 2);
    says(&out, &["odd-sized: 7 (to be resized)"]);
    assert!(error.trim_end().ends_with("on set: 2 broken"), "{error}");
    let (out, error) = ends(dir.path(), &["check", "set", "--labels", "json"], 2);
    says(&(out + &error), &["fault: 'set' has no labels in a dataset.json"]);

    says(
        &ends(dir.path(), &["check", "builtin:digits?n=30"], 0).0,
        &["30 images", "28 x 28 (30)", "10 classes of 3 to 3 images", "duplicates: 0"],
    );
    says(&ends(dir.path(), &["check", "builtin:digits?n=30", "--size", "20"], 2).1, &["larger than 20 x 20"]);
    says(&ends(dir.path(), &["check", "nowhere"], 2).1, &["'nowhere' does not exist"]);
    says(&ends(dir.path(), &["check", "set", "--resize", "fit"], 2).1, &["--size"]);
}

#[test]
fn a_converted_set_is_the_same_set_and_copies_what_needs_no_change() {
    let photo = encoded(RgbImage::from_fn(8, 8, |x, y| Rgb([(x * 30) as u8, (y * 30) as u8, 99])), ImageFormat::Jpeg);
    let plain = png(RgbImage::from_pixel(8, 8, Rgb([1, 2, 3])));
    let deep = png(image::DynamicImage::from(RgbImage::from_pixel(8, 8, Rgb([4, 5, 6]))).into_rgb16());
    let clear = png(image::RgbaImage::from_pixel(8, 8, image::Rgba([4, 5, 6, 100])));
    let files: [(&str, &[u8]); 4] = [("cat/1.jpg", &photo), ("cat/2.png", &plain), ("dog/3.png", &deep), ("dog/4.png", &clear)];
    let dir = folder(&[("set.zip", &zipped(&files))]);
    let (out, _) = ends(dir.path(), &["convert", "set.zip", "--out", "new.zip", "--labels", "folders"], 0);
    says(&out, &["4 images of 8x8 (2 copied as they were), 2 classes, are in new.zip"]);
    let folders = ImagePolicy { labels: data::policy::Labels::Folders, ..ImagePolicy::default() };
    let before = load(&dir.path().join("set.zip"), &folders).unwrap();
    let after = load(&dir.path().join("new.zip"), &ImagePolicy::default()).unwrap();
    assert_eq!((before.fingerprint(), &before.class_names), (after.fingerprint(), &after.class_names));
    // The photo's own bytes, and all of it stored: the files stand in the archive as they are.
    let archive = std::fs::read(dir.path().join("new.zip")).unwrap();
    for bytes in [&photo, &plain] {
        assert!(archive.windows(bytes.len()).any(|window| window == &bytes[..]));
    }
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(&archive)).unwrap();
    let names: Vec<String> = (0..zip.len()).map(|index| zip.by_index(index).unwrap().name().unwrap().into_owned()).collect();
    assert_eq!(
        names,
        ["00000/img00000000.jpeg", "00000/img00000001.png", "00000/img00000002.png", "00000/img00000003.png", "dataset.json"]
    );
    let json: serde_json::Value = serde_json::from_reader(zip.by_name("dataset.json").unwrap()).unwrap();
    assert_eq!(json["labels"][3], serde_json::json!(["00000/img00000003.png", 1]));
    // The same input gives the same archive, over the old one.
    ends(dir.path(), &["convert", "set.zip", "--out", "new.zip", "--labels", "folders"], 0);
    assert_eq!(std::fs::read(dir.path().join("new.zip")).unwrap(), archive);

    // With a policy, and from arrays.
    let resize = ["--resize", "fit", "--size", "5", "--background", "00ff00", "--colour", "grey"];
    says(
        &ends(dir.path(), &[&["convert", "set.zip", "--out", "small.zip"][..], &resize].concat(), 0).0,
        &["4 images of 5x5 (0 copied", "no labels"],
    );
    let small = load(&dir.path().join("small.zip"), &ImagePolicy::default()).unwrap();
    assert_eq!((small.height, small.width, small.channels, small.labels), (5, 5, 1, None));
    ends(dir.path(), &["convert", "builtin:shapes?n=20", "--out", "shapes.zip"], 0);
    let shapes = data::load("builtin:shapes?n=20", &LoadOptions::default()).unwrap();
    let after = load(&dir.path().join("shapes.zip"), &ImagePolicy::default()).unwrap();
    assert_eq!((shapes.fingerprint(), &shapes.class_names), (after.fingerprint(), &after.class_names));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4, "no temporary files");
}

#[test]
fn a_conversion_that_fails_leaves_the_old_file() {
    let dir = folder(&[("set/1.png", &flat(2, 2, 1)), ("set/2.png", b"bad"), ("old.zip", b"old")]);
    says(&ends(dir.path(), &["convert", "set", "--out", "old.zip"], 2).1, &["2.png' is no PNG"]);
    assert_eq!(std::fs::read(dir.path().join("old.zip")).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    says(&ends(dir.path(), &["convert", "set", "--out", "new.tar"], 2).1, &["--out new.tar: expected a file name that ends in .zip"]);
    says(&ends(dir.path(), &["convert", "builtin:digits?n=2", "--out", "no/where.zip"], 3).1, &["where.zip"]);
}

#[test]
fn sheets_are_drawn_of_anything() {
    let dir = folder(&[("set/cat/1.png", &flat(30, 30, 1)), ("set/dog/2.png", &flat(30, 30, 2)), ("set/dog/3.png", &flat(30, 30, 3))]);
    let (out, _) = ends(dir.path(), &["sheet", "set", "--out", "sheet.png", "--labels", "folders", "--columns", "4"], 0);
    says(&out, &["set: 3 images, 30 x 30 grey, 2 classes", "Its sheet is in sheet.png"]);
    let sheet = image::open(dir.path().join("sheet.png")).unwrap().into_luma8();
    // Three letters and a space, then four places.
    assert_eq!(sheet.dimensions(), (4 * 8 + 4 * 32 - 2, 2 * 32 - 2));
    assert_eq!([sheet.get_pixel(32, 0)[0], sheet.get_pixel(32, 32)[0], sheet.get_pixel(64, 32)[0]], [1, 2, 3]);
    says(&ends(dir.path(), &["sheet", "set", "--out", "sheet.jpg"], 2).1, &["--out sheet.jpg: expected a file name that ends in .png"]);
    says(&ends(dir.path(), &["sheet", "set", "--out", "sheet.png", "--columns", "9999"], 2).1, &["fewer --rows or --columns"]);
    says(&ends(dir.path(), &["sheet", "set", "--out", "sheet.png", "--rows", "0"], 2).1, &["--rows"]);
}
