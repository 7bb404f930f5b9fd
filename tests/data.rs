//! Data sets from files, and what is said when a file is wrong.

#[path = "common/watched.rs"]
mod watched;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};
use ganymede::data::{self, DataSet, LoadOptions, SheetOrder, Split};

const TRAIN: LoadOptions = LoadOptions { seed: 0, split: Split::Train, pad_to: None };
const TEST: LoadOptions = LoadOptions { seed: 0, split: Split::Test, pad_to: None };

/// An IDX file: magic, dimensions, bytes.
fn idx(magic: u32, dimensions: &[u32], bytes: &[u8]) -> Vec<u8> {
    let header = [magic].iter().chain(dimensions).flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    [&header, bytes].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Three images of 2 x 2, counting up from 0.
fn small_images() -> Vec<u8> {
    idx(0x803, &[3, 2, 2], &(0..12).collect::<Vec<u8>>())
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn load(path: &Path, options: &LoadOptions) -> ganymede::error::Result<DataSet> {
    data::load(path.to_str().unwrap(), options)
}

/// Loads what must not load: exit code 2, and the message names `path` and holds every one of `parts`.
fn refused(path: &Path, options: &LoadOptions, parts: &[&str]) {
    let error = load(path, options).expect_err("this must not load");
    assert_eq!(error.exit_code(), 2, "{error:?}");
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "the message does not say '{part}': {message}");
    }
}

/// [`refused`] for the bytes of one images file, which the message must name.
fn refused_file(bytes: &[u8], parts: &[&str]) {
    let folder = folder(&[("images-idx3", bytes)]);
    let path = folder.path().join("images-idx3");
    refused(&path, &TRAIN, parts);
    refused(&path, &TRAIN, &[&format!("'{}'", path.display())]);
}

#[test]
fn folders_load_in_every_spelling_packed_or_not() {
    let images = small_images();
    let labels = idx(0x801, &[3], &[2, 0, 1]);
    let expected_labels = Some(vec![2, 0, 1]);
    for (image_name, label_name) in [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
        ("train-images-idx3-ubyte", "train-labels.idx1-ubyte"),
    ] {
        for packed in [false, true] {
            let suffix = if packed { ".gz" } else { "" };
            let pack = |bytes: &[u8]| if packed { gzip(bytes) } else { bytes.to_vec() };
            let folder = folder(&[(&format!("{image_name}{suffix}"), &pack(&images)), (&format!("{label_name}{suffix}"), &pack(&labels))]);
            let set = load(folder.path(), &TRAIN).unwrap();
            assert_eq!((set.count, set.height, set.width, set.channels), (3, 2, 2, 1));
            assert_eq!(set.image(1), [4, 5, 6, 7]);
            assert_eq!(set.labels, expected_labels);
            assert_eq!(set.class_names, ["0", "1", "2"]);
            assert_eq!(set.name, format!("{} (train)", folder.path().file_name().unwrap().to_string_lossy()));
        }
    }
}

#[test]
fn the_test_split_is_its_own_files() {
    for prefix in ["t10k", "test"] {
        let test = idx(0x803, &[1, 2, 2], &[9, 9, 9, 9]);
        let folder = folder(&[("train-images-idx3-ubyte", &small_images()), (&format!("{prefix}-images-idx3-ubyte.gz"), &gzip(&test))]);
        let set = load(folder.path(), &TEST).unwrap();
        assert_eq!((set.count, set.image(0)), (1, &[9; 4][..]));
        assert_eq!((set.labels.as_ref(), set.classes()), (None, 0));
        assert!(set.name.ends_with("(test)"));
        assert_eq!(load(folder.path(), &TRAIN).unwrap().count, 3);
    }
}

#[test]
fn one_file_loads_with_the_labels_beside_it() {
    let labels = idx(0x801, &[3], &[0, 0, 1]);
    // Gzip is told by content: a packed file may have any name.
    let folder = folder(&[("my-images-idx3-ubyte", &gzip(&small_images())), ("my-labels-idx1-ubyte", &labels), ("alone", &small_images())]);
    let set = load(&folder.path().join("my-images-idx3-ubyte"), &TRAIN).unwrap();
    assert_eq!(set.labels, Some(vec![0, 0, 1]));
    assert_eq!(set.name, "my-images-idx3-ubyte");
    let alone = load(&folder.path().join("alone"), &TRAIN).unwrap();
    assert_eq!((&alone.images, &alone.labels), (&set.images, &None));
    refused(&folder.path().join("alone"), &TEST, &["alone' is one file and has no test split", "t10k"]);
    let padded = load(&folder.path().join("alone"), &LoadOptions { pad_to: Some((4, 4)), ..TRAIN }).unwrap();
    assert_eq!((padded.height, padded.image(0)[5]), (4, 0));
    assert_eq!(padded.image(0)[6], 1);
}

#[test]
fn a_missing_path_says_what_may_be_given() {
    refused(
        Path::new("/nowhere/at-all"),
        &TRAIN,
        &[
            "the data path '/nowhere/at-all' does not exist",
            "a folder of pictures or of IDX files",
            "builtin:digits, builtin:shapes, builtin:shapes-64",
        ],
    );
    refused(Path::new("digits"), &TRAIN, &["'digits' does not exist", "did you mean builtin:digits?"]);
}

#[test]
fn a_folder_with_nothing_to_load_says_what_it_holds() {
    let empty = folder(&[]);
    refused(
        empty.path(),
        &TRAIN,
        &[&format!("the data folder '{}' is empty", empty.path().display()), "an IDX images file such as train-images-idx3-ubyte"],
    );

    let texts: Vec<String> = (0..6).map(|i| format!("{i}.txt")).collect();
    let files: Vec<(&str, &[u8])> = texts.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    refused(folder(&files).path(), &TRAIN, &["has nothing to load", "found 0.txt, 1.txt, 2.txt, 3.txt and 2 more"]);

    let only_test = folder(&[("t10k-images-idx3-ubyte", &small_images())]);
    refused(only_test.path(), &TRAIN, &["it does hold test images, but training needs train-*"]);
    let only_train = folder(&[("train-images-idx3-ubyte", &small_images())]);
    refused(only_train.path(), &TEST, &["such as t10k-images-idx3-ubyte", "hold part of those out instead"]);

    let nested = folder(&[]);
    std::fs::create_dir(nested.path().join("raw")).unwrap();
    std::fs::write(nested.path().join("raw/train-images-idx3-ubyte"), small_images()).unwrap();
    refused(nested.path(), &TRAIN, &[&format!("did you mean '{}'?", nested.path().join("raw").display())]);
}

#[test]
fn another_kind_of_file_is_named() {
    refused_file(&idx(0x801, &[3], &[0, 0, 1]), &["holds IDX labels; expected an IDX images file, which starts with 0x00000803"]);
    refused_file(b"\x89PNG\r\n\x1a\n and so on", &["is a PNG image; expected an IDX images file"]);
    refused_file(b"PK\x03\x04 and so on, for a while", &["is no ZIP archive, or a damaged one", "unzip -t"]);
    refused_file(b"\x93NUMPY and so on, for a while", &["is no NumPy array, or a damaged one"]);
    refused_file(&gzip(&gzip(&small_images())), &["is gzipped twice"]);
    refused_file(b"some text that is long enough", &["is no IDX file: it starts with 0x736f6d65"]);
    refused_file(&idx(0xd03, &[3, 2, 2], &[0; 48]), &["is an IDX file of numbers other than unsigned bytes"]);
    refused_file(&idx(0x804, &[3, 2, 2, 3], &[0; 36]), &["is an IDX file of 4 dimensions"]);
    refused_file(b"", &["holds only 0 bytes"]);
    refused_file(b"\0\0\x08", &["holds only 3 bytes"]);

    let images_as_labels = folder(&[("train-images-idx3-ubyte", &small_images()), ("train-labels-idx1-ubyte", &small_images())]);
    refused(
        images_as_labels.path(),
        &TRAIN,
        &["train-labels-idx1-ubyte' holds IDX images; expected an IDX labels file, which starts with 0x00000801"],
    );
}

#[test]
fn truncated_and_overlong_files_are_told_apart() {
    let whole = small_images();
    refused_file(&whole[..10], &["is truncated: an IDX images header has 16 bytes, the file ends after 10"]);
    refused_file(&whole[..whole.len() - 1], &["is truncated: its header promises 3 x 2 x 2 = 12 bytes of images, the file holds 11"]);
    refused_file(&gzip(&whole[..20]), &["is truncated: its header promises 3 x 2 x 2 = 12 bytes of images, the file holds 4"]);
    refused_file(
        &[&whole[..], &[7]].concat(),
        &["goes on after its images: its header promises 3 x 2 x 2 = 12 bytes, the file holds more"],
    );
    // A stream that would unpack to much more is left at the first surplus byte.
    refused_file(&gzip(&[&whole[..], &vec![0; 1 << 26]].concat()), &["goes on after its images"]);

    let labels = folder(&[("train-images-idx3-ubyte", &whole), ("train-labels-idx1-ubyte", &idx(0x801, &[3], &[1]))]);
    refused(labels.path(), &TRAIN, &["train-labels-idx1-ubyte' is truncated: its header promises 3 = 3 bytes of labels, the file holds 1"]);
}

#[test]
fn damaged_gzip_files_are_refused() {
    let pixels: Vec<u8> = (0..2000u32).map(|i| (i * i % 251) as u8).collect();
    let packed = gzip(&idx(0x803, &[20, 10, 10], &pixels));
    refused_file(&packed[..packed.len() / 2], &["is truncated: its gzip stream ends early", "fetch it again"]);
    // A flipped bit in the checksum: every pixel arrives, but not as it was packed.
    let mut flipped = packed.clone();
    let at = flipped.len() - 6;
    flipped[at] ^= 1;
    refused_file(&flipped, &["is a corrupt gzip file", "gzip -t"]);
    // A reserved kind of block.
    let mut garbage = packed;
    garbage[10] |= 0b110;
    refused_file(&garbage, &["is a corrupt gzip file"]);
}

#[test]
fn counts_and_dimensions_are_checked() {
    let mismatch = folder(&[("train-images-idx3-ubyte", &small_images()), ("train-labels-idx1-ubyte", &idx(0x801, &[2], &[0, 1]))]);
    refused(
        mismatch.path(),
        &TRAIN,
        &["train-images-idx3-ubyte' holds 3 images but '", "train-labels-idx1-ubyte' holds 2 labels", "same download"],
    );
    refused_file(&idx(0x803, &[0, 28, 28], &[]), &["holds no images: its header says 0 x 28 x 28"]);
    refused_file(&idx(0x803, &[5, 0, 28], &[]), &["holds images without pixels: its header says 5 x 0 x 28"]);
    refused_file(&idx(0x803, &[1, 5000, 1], &[0; 5000]), &["claims 1 x 5000 x 1, beyond the limits of 4096 pixels a side"]);
    refused_file(&idx(0x803, &[u32::MAX, 4096, 4096], &[0; 50]), &["claims 4294967295 x 4096 x 4096, beyond the limits", "8 GiB in all"]);
    refused_file(&idx(0x803, &[u32::MAX; 3], &[0; 50]), &["beyond the limits"]);
}

#[test]
fn a_lying_header_reserves_no_memory() {
    // 6 GB promised, within the limits; 50 bytes kept.
    let liar = idx(0x803, &[8_000_000, 28, 28], &[0; 50]);
    let promise = "its header promises 8000000 x 28 x 28 = 6272000000 bytes of images, the file holds 50";
    refused_file(&liar, &[promise]);
    refused_file(&gzip(&liar), &[promise]);
    let largest = watched::largest();
    assert!(largest < 1 << 30, "an allocation of {largest} bytes");
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_refused_without_opening_it() {
    refused(Path::new("/dev/zero"), &TRAIN, &["'/dev/zero' is not a regular file; expected an IDX images file"]);
}

#[test]
fn built_in_specs_are_checked() {
    let message = |spec: &str| {
        let error = data::load(spec, &TRAIN).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    };
    assert_eq!(
        message("builtin:digit"),
        "there is no built-in data set 'builtin:digit': there are builtin:digits, builtin:shapes, builtin:shapes-64, builtin:ring, builtin:grid, \
         builtin:gaussian; did you mean builtin:digits?"
    );
    assert!(message("builtin:shapes-46").ends_with("did you mean builtin:shapes-64?"));
    assert!(message("builtin:photographs").ends_with("builtin:gaussian"));
    assert!(message("builtin:rings").ends_with("did you mean builtin:ring?"));
    assert!(message("builtin:").contains("no built-in data set 'builtin:'"));
    for bad in ["builtin:digits?n=0", "builtin:digits?n=-1", "builtin:digits?many", "builtin:digits?", "builtin:digits?n=5&n=x"] {
        assert!(
            message(bad).contains("is not a number of images or points, at least 1; write for example builtin:digits?n=20000&seed=7"),
            "{bad}"
        );
    }
    assert!(message("builtin:shapes?seed=x").contains("'seed=x' is not a seed"));
    assert!(message("builtin:shapes?size=3").contains("'size=3' is not a setting of a built-in set (n, seed)"));
    for huge in ["builtin:shapes?n=18446744073709551615", "builtin:shapes-64?n=1000000"] {
        assert!(message(huge).contains("images would take more than 8 GiB: ask for fewer"), "{huge}");
    }
    for huge in ["builtin:ring?n=18446744073709551615", "builtin:gaussian?n=430000000"] {
        assert!(message(huge).contains("points would take more than 8 GiB: ask for fewer"), "{huge}");
    }
    for bad in ["builtin:ring?n=0", "builtin:grid?seed=-1", "builtin:gaussian?modes=3"] {
        assert!(message(bad).contains("write for example"), "{bad}");
    }
}

#[test]
fn built_in_sets_have_their_default_size_and_balanced_labels() {
    for (spec, side, channels, classes) in [("builtin:digits", 28, 1, 10), ("builtin:shapes", 32, 3, 8), ("builtin:shapes-64", 64, 3, 8)] {
        let set = data::load(spec, &TRAIN).unwrap();
        assert_eq!((set.count, set.height, set.width, set.channels, set.classes()), (data::BUILTIN_COUNT, side, side, channels, classes));
        let labels = set.labels.as_ref().unwrap();
        for class in 0..classes as u32 {
            assert_eq!(labels.iter().filter(|&&label| label == class).count(), data::BUILTIN_COUNT / classes);
        }
    }
}

/// Their bits, which are to be the same on every machine.
#[test]
fn built_in_points_have_these_bits() {
    let expected = [
        (
            "builtin:ring?n=1000",
            TRAIN,
            [1_065_416_964u32, 3_138_804_527],
            "d39213f7e4bba514795339dc80c32a591340b1f44fe2fae141cb59702869654b",
        ),
        ("builtin:ring?n=1000", TEST, [3_208_008_623, 3_207_612_913], "f5523581f36cc030db79a15846dd6989f390c3662d261d2112a9417be2837f91"),
        (
            "builtin:grid?n=1000&seed=7",
            TRAIN,
            [1_082_155_820, 1_032_602_712],
            "e3b664b18c5f76af3f9e25c9538aee960d1ac5bc8317d34d0dbd6565244cd6b0",
        ),
        (
            "builtin:gaussian?n=1000",
            TRAIN,
            [3_198_833_773, 3_220_125_119],
            "0104f87af41661d1e63ae639938259fa07629e815f0fd5e92cb873e5e1a43e78",
        ),
    ];
    let got = expected.each_ref().map(|(spec, options, ..)| {
        let set = data::load(spec, options).unwrap();
        let values = &set.vectors.as_ref().unwrap().values;
        ([values[0].to_bits(), values[1].to_bits()], set.fingerprint())
    });
    assert_eq!(got, expected.map(|(_, _, first, fingerprint)| (first, fingerprint.to_string())));
    let ring = data::load("builtin:ring?n=10000&seed=2", &TRAIN).unwrap();
    assert_eq!(ring.describe(), "builtin:ring?n=10000&seed=2 (generator 1, train): 10000 points of 2 numbers, 8 classes");
    assert_eq!(data::load("builtin:ring", &LoadOptions { seed: 2, ..TRAIN }).unwrap(), ring);
    let padded = data::load("builtin:ring", &LoadOptions { pad_to: Some((32, 32)), ..TRAIN }).unwrap_err();
    assert!(padded.to_string().starts_with("padding needs images, and 'builtin:ring?n=10000"), "{padded}");
}

/// Writes the sheets to look at into the folder that GANYMEDE_SHEETS names, or else into a temporary one.
#[test]
fn contact_sheets_are_written_as_png() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("GANYMEDE_SHEETS").map_or_else(|| temporary.path().to_path_buf(), PathBuf::from);
    for (spec, side) in [("builtin:digits", 28), ("builtin:shapes", 32), ("builtin:shapes-64", 64)] {
        let set = data::load(spec, &TRAIN).unwrap();
        let sheet = set.contact_sheet(10, 2 * set.classes(), SheetOrder::ByClass);
        let path = folder.join(format!("{}.png", spec.replace(':', "-")));
        sheet.save(&path).unwrap();
        let read = image::open(&path).unwrap();
        assert_eq!(read, sheet);
        assert_eq!(read.height(), 10 * (side + 2) - 2);
    }
}

/// The whole of Fashion-MNIST, where GANYMEDE_DATA names a folder with `fashion-mnist/` in it. The expected numbers were computed from the
/// original files by a separate decoder.
#[test]
fn fashion_mnist_loads_whole() {
    let Some(folder) = std::env::var_os("GANYMEDE_DATA").map(|root| PathBuf::from(root).join("fashion-mnist")) else {
        println!("SKIPPED: fashion_mnist_loads_whole needs GANYMEDE_DATA, a folder that holds fashion-mnist/ with the four IDX files");
        return;
    };
    let check = |options: &LoadOptions, count: usize, sums: [u32; 4], labels: [u32; 10], fingerprint: &str| {
        let set = load(&folder, options).unwrap();
        assert_eq!((set.count, set.height, set.width, set.channels, set.classes()), (count, 28, 28, 1, 10));
        let sum = |index: usize| set.image(index).iter().map(|&byte| u32::from(byte)).sum::<u32>();
        assert_eq!([0, 1, count / 2, count - 1].map(sum), sums);
        assert_eq!(set.labels.as_ref().unwrap()[..10], labels);
        assert_eq!(set.fingerprint(), fingerprint);
    };
    check(
        &TRAIN,
        60_000,
        [76247, 84598, 59127, 16684],
        [9, 0, 0, 3, 0, 2, 7, 2, 5, 5],
        "0021e6b9dca89a8b843ca749ac93bd5ed5efca170fde462f7197af9576ddff3f",
    );
    check(
        &TEST,
        10_000,
        [33456, 100_994, 86069, 24390],
        [9, 2, 1, 1, 6, 1, 4, 6, 5, 7],
        "c1140d8f578acff1d32ffdbc77065a8dbb8818124887640178458e30a55b76b2",
    );
}
