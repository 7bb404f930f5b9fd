//! Pictures of every format and mode, policies, labels, order.

use std::sync::Mutex;

use ganymede::data::policy::{Background, Colour, ImagePolicy, Labels, Resize};
use ganymede::data::{self, LoadOptions, Split};
use image::codecs::gif::GifEncoder;
use image::codecs::png::PngEncoder;
use image::{
    DynamicImage, ExtendedColorType, Frame, GrayAlphaImage, GrayImage, ImageBuffer, ImageEncoder, ImageFormat, Luma, LumaA, Rgb, RgbImage,
    Rgba, RgbaImage,
};

use super::files::{encoded, exif, flat, palette_png, png, zipped};
use super::{folder, load, refused};

const DEFAULT: ImagePolicy =
    ImagePolicy { resize: None, size: None, background: Background([255; 3]), colour: Colour::Auto, labels: Labels::Auto };

/// Red, green, blue, white: the upper left, the upper right, the lower left and the lower right pixel of 2 x 2.
const COLOURS: [u8; 12] = [255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255];

fn colours() -> RgbImage {
    RgbImage::from_raw(2, 2, COLOURS.to_vec()).unwrap()
}

#[test]
fn colour_pictures_of_every_format_and_mode_give_the_same_pixels() {
    let rgba = RgbaImage::from_fn(2, 2, |x, y| {
        let Rgb([r, g, b]) = *colours().get_pixel(x, y);
        // White is what shows through.
        if (x, y) == (1, 1) { Rgba([9, 8, 7, 0]) } else { Rgba([r, g, b, 255]) }
    });
    let deep = |image: DynamicImage| png(image);
    let folder = folder(&[
        ("rgb.png", &png(colours())),
        ("rgba.png", &png(rgba.clone())),
        ("rgb16.png", &deep(DynamicImage::from(colours()).into_rgb16().into())),
        ("rgba16.png", &deep(DynamicImage::from(rgba.clone()).into_rgba16().into())),
        ("palette.PNG", &palette_png(2, 2, &[0, 1, 2, 3])),
        ("picture.bmp", &encoded(colours(), ImageFormat::Bmp)),
        ("picture.gif", &encoded(rgba.clone(), ImageFormat::Gif)),
        ("picture.webp", &encoded(rgba, ImageFormat::WebP)),
        // What a file is, is told by its bytes.
        ("really-a-bmp.jpg", &encoded(colours(), ImageFormat::Bmp)),
    ]);
    let set = load(folder.path(), &DEFAULT).unwrap();
    assert_eq!((set.count, set.height, set.width, set.channels), (9, 2, 2, 3));
    for index in 0..set.count {
        assert_eq!(set.image(index), COLOURS, "picture {index}");
    }
    // JPEG is not exact; on flat colour it is nearly so.
    let jpeg = self::folder(&[("photo.JPEG", &encoded(RgbImage::from_pixel(16, 16, Rgb([200, 100, 50])), ImageFormat::Jpeg))]);
    let set = load(jpeg.path(), &DEFAULT).unwrap();
    assert!(set.images.chunks(3).all(|p| p[0].abs_diff(200) <= 3 && p[1].abs_diff(100) <= 3 && p[2].abs_diff(50) <= 3));
}

#[test]
fn grey_pictures_of_every_mode_give_one_channel() {
    let grey = GrayImage::from_raw(2, 1, vec![10, 255]).unwrap();
    let alpha = GrayAlphaImage::from_raw(2, 1, vec![10, 255, 77, 0]).unwrap();
    let alpha16 = ImageBuffer::<LumaA<u16>, _>::from_raw(2, 1, vec![2570u16, 65535, 5, 0]).unwrap();
    let folder = folder(&[
        ("1.png", &png(grey.clone())),
        ("2.png", &png(alpha)),
        ("3.png", &png(alpha16)),
        ("4.png", &png(ImageBuffer::<Luma<u16>, _>::from_raw(2, 1, vec![2570u16, 65535]).unwrap())),
        ("5.bmp", &encoded(grey.clone(), ImageFormat::Bmp)),
        // Grey by its pixels, though it is stored in colour.
        ("6.png", &png(DynamicImage::from(grey).into_rgb8())),
    ]);
    let set = load(folder.path(), &DEFAULT).unwrap();
    assert_eq!((set.count, set.channels), (6, 1));
    assert_eq!(set.images, [10, 255].repeat(6));
    let rgb = load(folder.path(), &ImagePolicy { colour: Colour::Rgb, ..DEFAULT }).unwrap();
    assert_eq!((rgb.channels, rgb.images), (3, [10, 10, 10, 255, 255, 255].repeat(6)));
    // One coloured pixel behind a transparent one makes all of them RGB, the earlier ones too.
    let tinted = load(folder.path(), &ImagePolicy { background: Background([255, 0, 0]), ..DEFAULT }).unwrap();
    assert_eq!((tinted.channels, tinted.image(0), tinted.image(1)), (3, &[10, 10, 10, 255, 255, 255][..], &[10, 10, 10, 255, 0, 0][..]));
    let grey_again = load(folder.path(), &ImagePolicy { background: Background([255, 0, 0]), colour: Colour::Grey, ..DEFAULT }).unwrap();
    assert_eq!((grey_again.channels, grey_again.image(1)), (1, &[10, 54][..]));
}

#[test]
fn of_an_animation_the_first_frame_is_taken() {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    for value in [[255, 0, 0, 255], [0, 255, 0, 255]] {
        encoder.encode_frame(Frame::new(RgbaImage::from_pixel(3, 2, Rgba(value)))).unwrap();
    }
    drop(encoder);
    let folder = folder(&[("moving.gif", &bytes)]);
    assert_eq!(load(folder.path(), &DEFAULT).unwrap().images, [255, 0, 0].repeat(6));
}

#[test]
fn pictures_are_turned_as_the_camera_was() {
    let turned = |orientation: u8| {
        let mut bytes = Vec::new();
        let mut encoder = PngEncoder::new(&mut bytes);
        encoder.set_exif_metadata(exif(orientation)).unwrap();
        encoder.write_image(&[1, 2, 3, 4, 5, 6], 3, 2, ExtendedColorType::L8).unwrap();
        let set = load(folder(&[("a.png", &bytes)]).path(), &DEFAULT).unwrap();
        (set.height, set.width, set.images)
    };
    // 1 2 3 over 4 5 6, by the table of the Exif standard.
    assert_eq!(turned(1), (2, 3, vec![1, 2, 3, 4, 5, 6]));
    assert_eq!(turned(3), (2, 3, vec![6, 5, 4, 3, 2, 1]));
    assert_eq!(turned(6), (3, 2, vec![4, 1, 5, 2, 6, 3]));
    assert_eq!(turned(8), (3, 2, vec![3, 6, 2, 5, 1, 4]));
    assert_eq!(turned(2), (2, 3, vec![3, 2, 1, 6, 5, 4]));
}

#[test]
fn folders_are_read_in_order_without_hidden_files() {
    let folder = folder(&[
        ("b/2.png", &flat(2, 2, 12)),
        ("b/1.png", &flat(2, 2, 11)),
        ("a/x/deep.png", &flat(2, 2, 10)),
        ("z.png", &flat(2, 2, 13)),
        (".hidden.png", b"not a picture"),
        (".cache/1.png", b"not a picture"),
        ("__MACOSX/1.png", b"not a picture"),
        ("notes.txt", b"not a picture"),
    ]);
    let set = load(folder.path(), &DEFAULT).unwrap();
    assert_eq!(set.images, [[10; 4], [11; 4], [12; 4], [13; 4]].concat());
    assert_eq!((set.labels.as_ref(), set.class_names.len()), (None, 0));
    assert_eq!(set.name, folder.path().file_name().unwrap().to_string_lossy());
    let test = LoadOptions { split: Split::Test, ..LoadOptions::default() };
    super::says(data::load(folder.path().to_str().unwrap(), &test), &["holds pictures and no test split", "hold part of them out"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles() {
    let folder = folder(&[("a/1.png", &flat(1, 1, 1)), ("elsewhere.txt", b"")]);
    std::os::unix::fs::symlink(folder.path(), folder.path().join("a/up")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("a/1.png"), folder.path().join("2.png")).unwrap();
    assert_eq!(load(folder.path(), &DEFAULT).unwrap().count, 2);
    std::os::unix::fs::symlink("/nowhere/at-all.png", folder.path().join("3.png")).unwrap();
    refused(folder.path(), &DEFAULT, &["3.png"]);
}

#[test]
fn sub_folders_are_labels_where_asked_for() {
    let with = |labels| ImagePolicy { labels, ..DEFAULT };
    let image = flat(1, 1, 7);
    let classes = |names: &[&str]| {
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, &image[..])).collect();
        let folder = folder(&files);
        let from_folder = load(folder.path(), &with(Labels::Folders)).unwrap();
        let from_zip = data::pictures_from_zip_bytes(&zipped(&files), "x.zip", &with(Labels::Folders)).unwrap();
        assert_eq!((&from_folder.labels, &from_folder.class_names), (&from_zip.labels, &from_zip.class_names));
        assert_eq!(load(folder.path(), &with(Labels::Auto)).unwrap().labels, None);
        (from_folder.labels.unwrap(), from_folder.class_names)
    };
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(classes(&["cat/1.png", "cat/2.png", "dog/1.png", "ant/x/y.png"]), (vec![0, 1, 1, 2], names(&["ant", "cat", "dog"])));
    // What all pictures share is no class, unless they lie directly in it.
    assert_eq!(classes(&["set/train/cat/1.png", "set/train/dog/1.png"]), (vec![0, 1], names(&["cat", "dog"])));
    assert_eq!(classes(&["set/cat/1.png", "set/cat/2.png"]), (vec![0, 0], names(&["cat"])));
    let mixed = folder(&[("cat/1.png", &image), ("stray.png", &image)]);
    refused(mixed.path(), &with(Labels::Folders), &["stray.png' lies in no sub-folder", "--labels none"]);
}

#[test]
fn stylegan_labels_are_read_from_archives_and_folders() {
    let image = flat(1, 1, 7);
    let labelled = |json: &str, labels: Labels| {
        let files: [(&str, &[u8]); 3] = [("00000/a.png", &image), ("00000/b.png", &image), ("dataset.json", json.as_bytes())];
        let policy = ImagePolicy { labels, ..DEFAULT };
        let zip = data::pictures_from_zip_bytes(&zipped(&files), "x.zip", &policy);
        let folder = folder(&files);
        match (&zip, load(folder.path(), &policy)) {
            (Ok(zip), Ok(folder)) => assert_eq!((&zip.labels, &zip.class_names), (&folder.labels, &folder.class_names)),
            (Err(_), Err(_)) => {}
            other => panic!("{other:?}"),
        }
        zip
    };
    let good = r#"{"labels": [["00000/b.png", 2], ["00000/a.png", 0], ["gone.png", 9]]}"#;
    for labels in [Labels::Auto, Labels::Json] {
        let set = labelled(good, labels).unwrap();
        assert_eq!((set.labels, set.class_names), (Some(vec![0, 2]), vec!["0".into(), "1".into(), "2".into()]));
    }
    assert_eq!(labelled(good, Labels::None).unwrap().labels, None);
    let named = r#"{"labels": [["00000/b.png", 1], ["00000\\a.png", 0]], "class_names": ["cat", "dog"]}"#;
    assert_eq!(labelled(named, Labels::Auto).unwrap().class_names, ["cat", "dog"]);
    assert_eq!(labelled(r#"{"labels": null}"#, Labels::Auto).unwrap().labels, None);
    let bad = |json: &str, parts: &[&str]| super::says(labelled(json, Labels::Json), parts);
    bad(r#"{"labels": null}"#, &["has no labels in a dataset.json", "--labels folders or none"]);
    bad(r#"{"labels": [["00000/a.png", 1]]}"#, &["x.zip': entry 'dataset.json' has no label for 1 of 2 pictures", "'00000/b.png'"]);
    bad(r#"{"labels": [["00000/a.png", 1], ["00000/a.png", 2]]}"#, &["gives '00000/a.png' two labels"]);
    bad(r#"{"labels": [["00000/a.png", 70000]]}"#, &["is 70000; labels go from 0 to 65535"]);
    bad(r#"{"labels": [["00000/a.png", -1]]}"#, &["dataset.json' is wrong", "expected {\"labels\""]);
    bad(r#"{"labels": [["00000/a.png", 1.5]]}"#, &["is wrong"]);
    bad(r#"{"labels": [["00000/a.png""#, &["is wrong: EOF"]);
    bad(r#"{"labels": [["00000/a.png", 0], ["00000/b.png", 1]], "class_names": ["one"]}"#, &["names 1 classes, but its labels go up to 1"]);
    bad(&"[".repeat(100_000), &["is wrong"]);
}

#[test]
fn one_picture_is_a_set_of_one() {
    let one = |policy: &ImagePolicy| data::picture_from_bytes(&flat(4, 2, 9), "a.png", policy);
    let set = one(&DEFAULT).unwrap();
    assert_eq!((set.count, set.height, set.width, set.channels, &set.images[..]), (1, 2, 4, 1, &[9; 8][..]));
    super::says(one(&ImagePolicy { size: Some(4), ..DEFAULT }), &["'a.png' is 4 x 2 pixels, but 4 x 4 is needed"]);
    let set = one(&ImagePolicy { size: Some(2), resize: Some(Resize::Crop), colour: Colour::Rgb, ..DEFAULT }).unwrap();
    assert_eq!((set.height, set.width, set.channels, &set.images[..]), (2, 2, 3, &[9; 12][..]));
    super::says(data::picture_from_bytes(b"", "a.png", &DEFAULT), &["'a.png' is empty"]);
}

#[test]
fn other_sizes_are_refused_or_resized_as_told() {
    let folder = folder(&[("a.png", &flat(4, 4, 1)), ("b.png", &flat(8, 4, 2))]);
    refused(
        folder.path(),
        &DEFAULT,
        &["b.png' is 8 x 4 pixels (width x height), but 'a.png' is 4 x 4", "--resize fit, crop or stretch", "ganymede data check"],
    );
    refused(folder.path(), &ImagePolicy { size: Some(8), ..DEFAULT }, &["a.png' is 4 x 4 pixels", "but 8 x 8 is needed"]);
    refused(folder.path(), &ImagePolicy { resize: Some(Resize::Fit), ..DEFAULT }, &["--size"]);
    for how in [Resize::Crop, Resize::Stretch] {
        let set = load(folder.path(), &ImagePolicy { resize: Some(how), size: Some(4), ..DEFAULT }).unwrap();
        assert_eq!((set.height, set.width, set.images), (4, 4, [[1; 16], [2; 16]].concat()));
    }
    let policy = ImagePolicy { resize: Some(Resize::Fit), size: Some(4), background: Background([9; 3]), ..DEFAULT };
    assert_eq!(load(folder.path(), &policy).unwrap().image(1), [[9; 4], [2; 4], [2; 4], [9; 4]].concat());
    // Arrays of one size are resized too, or stay as they are.
    let resized = |policy: &ImagePolicy| data::load_with("builtin:shapes?n=3", &LoadOptions::default(), policy, &|_, _| {});
    assert_eq!(resized(&DEFAULT).unwrap(), data::load("builtin:shapes?n=3", &LoadOptions::default()).unwrap());
    let small =
        resized(&ImagePolicy { resize: Some(Resize::Stretch), size: Some(16), colour: Colour::Grey, labels: Labels::None, ..DEFAULT })
            .unwrap();
    assert_eq!((small.height, small.width, small.channels, small.labels), (16, 16, 1, None));
    super::says(resized(&ImagePolicy { labels: Labels::Folders, ..DEFAULT }), &["is no collection of pictures", "--labels"]);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let names: Vec<String> = (0..300).map(|i| format!("{i:03}.png")).collect();
    let pictures: Vec<Vec<u8>> =
        (0..300u32).map(|i| png(RgbImage::from_fn(5 + i % 7, 6, |x, y| Rgb([i as u8, x as u8, y as u8])))).collect();
    let mut files: Vec<(&str, &[u8])> = names.iter().zip(&pictures).map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    let policy = ImagePolicy { resize: Some(Resize::Fit), size: Some(8), ..DEFAULT };
    let whole = folder(&files);
    files[201].1 = b"bad";
    files[207].1 = b"worse";
    let broken = folder(&files);
    let told = Mutex::new(Vec::new());
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let tell = |done, total| told.lock().unwrap().push((done, total));
        let set = pool.install(|| data::load_with(whole.path().to_str().unwrap(), &LoadOptions::default(), &policy, &tell)).unwrap();
        let error = pool.install(|| load(broken.path(), &policy)).unwrap_err().to_string();
        assert!(error.contains("201.png"), "{error}");
        set
    };
    assert_eq!(with(1), with(5));
    assert_eq!(told.into_inner().unwrap(), [(256, 300), (300, 300), (256, 300), (300, 300)]);
}

/// The sample sets, where GANYMEDE_DATA names the folder that holds them. The sums were computed from the same files with Pillow.
#[test]
fn sample_sets_load_whole() {
    let Some(root) = std::env::var_os("GANYMEDE_DATA").map(std::path::PathBuf::from) else {
        println!("SKIPPED: sample_sets_load_whole needs GANYMEDE_DATA, a folder that holds sign-digits/, noto-emoji/ and openmoji-pairs/");
        return;
    };
    let folders = ImagePolicy { labels: Labels::Folders, ..DEFAULT };
    let digits = load(&root.join("sign-digits/sign-digits-100.zip"), &folders).unwrap();
    assert_eq!((digits.count, digits.height, digits.width, digits.channels, digits.classes()), (2062, 100, 100, 3, 10));
    assert_eq!(digits.class_names, (0..10).map(|digit| digit.to_string()).collect::<Vec<_>>());
    let labels = digits.labels.as_ref().unwrap();
    assert!((0..10).all(|class| (204..=208).contains(&labels.iter().filter(|&&label| label == class).count())));
    let emoji = load(&root.join("noto-emoji/noto-emoji-64.zip"), &DEFAULT).unwrap();
    assert_eq!((emoji.count, emoji.height, emoji.channels), (3583, 64, 3));
    let pairs = load(&root.join("openmoji-pairs/openmoji-line2color-72.zip"), &folders).unwrap();
    assert_eq!((pairs.count, pairs.height, pairs.channels), (3760, 72, 3));
    assert_eq!(pairs.class_names, ["test", "train"]);
    let sum = |set: &data::DataSet| set.images.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    assert_eq!((sum(&emoji), sum(&pairs)), (8_592_817_064, 12_779_962_294));
    // Decoders of JPEG differ in how they enlarge the planes of colour.
    let mean = sum(&digits) as f64 / digits.images.len() as f64;
    assert!((mean - 164.620_772).abs() < 0.2, "{mean}");
}
