//! NumPy's arrays and CIFAR-10.

use ganymede::data::{self, DataSet, ImagePolicy, LoadOptions, Split, cifar, npy};
use ganymede::error::Result;

use super::files::{cifar, gzip, npy as array, npy_with_header, tar, zipped};
use super::{folder, load, refused, says};

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Four values as an array of one 2 x 2 image.
fn image_of(values: [f32; 4]) -> Result<DataSet> {
    npy::from_bytes(&array("<f4", &[1, 2, 2], &floats(&values)), "a.npy")
}

#[test]
fn arrays_of_every_layout_load() {
    let bytes: Vec<u8> = (0..12).collect();
    let set = npy::from_bytes(&array("|u1", &[3, 2, 2], &bytes), "a.npy").unwrap();
    assert_eq!((set.count, set.height, set.width, set.channels, &set.images), (3, 2, 2, 1, &bytes));
    assert_eq!(set.name, "a.npy (bytes (N, H, W))");
    let set = npy::from_bytes(&array("|u1", &[1, 2, 2, 3], &bytes), "a.npy").unwrap();
    assert_eq!((set.count, set.height, set.width, set.channels, &set.images), (1, 2, 2, 3, &bytes));
    let set = npy::from_bytes(&array("|u1", &[1, 3, 2, 2], &bytes), "a.npy").unwrap();
    assert_eq!((set.channels, &set.images[..]), (3, &[0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11][..]));
    assert_eq!(set.name, "a.npy (bytes (N, C, H, W))");
    // Both would do: the last one wins.
    let set = npy::from_bytes(&array("|u1", &[1, 3, 4, 1], &bytes), "a.npy").unwrap();
    assert_eq!((set.height, set.width, set.channels), (3, 4, 1));
    let set = npy::from_bytes(&array("|u1", &[6, 1, 2, 1], &bytes), "a.npy").unwrap();
    assert_eq!((set.count, set.height, set.width, set.channels), (6, 1, 2, 1));
    // Format 2 has a longer length.
    let mut second = array("|u1", &[3, 2, 2], &bytes);
    second[6] = 2;
    second.splice(10..10, [0, 0]);
    assert_eq!(npy::from_bytes(&second, "a.npy").unwrap().images, bytes);
}

#[test]
fn floats_are_told_by_their_range() {
    let pixels = |values| image_of(values).map(|set| (set.images, set.name));
    let taken = |words: &str| format!("a.npy (floats in {words} (N, H, W))");
    assert_eq!(pixels([0.0, 1.0, 0.5, 0.2]).unwrap(), (vec![0, 255, 128, 51], taken("[0, 1]")));
    assert_eq!(pixels([-1.0, 1.0, 0.0, -0.2]).unwrap(), (vec![0, 255, 128, 102], taken("[-1, 1]")));
    assert_eq!(pixels([0.0, 255.0, 127.4, 3.0]).unwrap(), (vec![0, 255, 127, 3], taken("[0, 255]")));
    // A rounding error beyond a bound is no other range.
    assert_eq!(pixels([-1e-6, 1.000_001, 0.0, 0.0]).unwrap(), (vec![0, 255, 0, 0], taken("[0, 1]")));
    for (values, low_high) in
        [([0.0, 1.5, 0.0, 0.0], "from 0 to 1.5"), ([-2.0, 2.0, 0.0, 0.0], "from -2 to 2"), ([0.0, 300.0, 1.0, 1.0], "to 300")]
    {
        says(pixels(values), &["'a.npy' holds floats", low_high, "none of 0 to 1, -1 to 1 and 0 to 255"]);
    }
    says(pixels([0.0, f32::NAN, 0.0, 0.0]), &["image 0 holds the value NaN"]);
    says(pixels([0.0, f32::INFINITY, 0.0, 0.0]), &["image 0 holds the value inf"]);
    let doubles: Vec<u8> = [0.0f64, 1.0, 0.5, 0.2].iter().flat_map(|value| value.to_be_bytes()).collect();
    assert_eq!(npy::from_bytes(&array(">f8", &[1, 2, 2], &doubles), "a.npy").unwrap().images, [0, 255, 128, 51]);
}

#[test]
fn arrays_that_are_no_images_are_refused() {
    let bad = |bytes: &[u8], parts: &[&str]| says(npy::from_bytes(bytes, "a.npy"), parts);
    let good = array("|u1", &[3, 2, 2], &[7; 12]);
    bad(b"", &["'a.npy' is no NumPy array, or a damaged one: it ends in its header"]);
    bad(b"\x89PNG\r\n\x1a\nand", &["it does not start with"]);
    bad(&good[..40], &["it ends in its header"]);
    bad(&good[..good.len() - 1], &["is truncated: its header promises 3 images of 4 bytes, it ends in image 2"]);
    bad(&[&good[..], &[0]].concat(), &["goes on after its 3 images"]);
    bad(&array("<i8", &[3, 2, 2], &[0; 96]), &["whole numbers with a sign or of more than 8 bits", ".astype('uint8')"]);
    bad(&array("|O", &[3, 2, 2], &[0; 96]), &["elements of type '|O'"]);
    bad(&array("<U4", &[3, 2, 2], &[0; 96]), &["elements of type '<U4'", "convert it with .astype"]);
    bad(&array("|u1", &[12], &[0; 12]), &["has the shape [12]; expected (N, H, W)"]);
    bad(&array("|u1", &[1, 2, 2, 4], &[0; 16]), &["has the shape [1, 2, 2, 4]", "1 or 3 channels"]);
    bad(&array("|u1", &[0, 2, 2], &[]), &["is empty: its shape is [0, 2, 2]"]);
    bad(&array("|u1", &[1, 5000, 2], &[0; 10_000]), &["beyond the limits of 4096 pixels a side"]);
    bad(&array("|u1", &[usize::MAX, 4096, 4096], &[0; 4]), &["beyond the limits"]);
    // 6 GB promised, within the limits.
    bad(
        &array("|u1", &[8_000_000, 28, 28], &[0; 50]),
        &["is truncated: its header promises 8000000 images of 784 bytes, it ends in image 0"],
    );
    bad(
        &npy_with_header("{'descr': '|u1', 'fortran_order': True, 'shape': (1, 2, 2), }", &[0; 4]),
        &["Fortran's order", "ascontiguousarray"],
    );
    bad(&npy_with_header("import os", &[]), &["not the usual dictionary"]);
    let mut future = good.clone();
    future[6] = 9;
    bad(&future, &["format version 9"]);
    let mut long = good;
    long[9] = 0xff;
    bad(&long, &["its header claims 65", "beyond the limit of 16384"]);
}

#[test]
fn archives_of_arrays_give_images_labels_and_splits() {
    let images = array("|u1", &[3, 2, 2], &(0..12).collect::<Vec<_>>());
    let labels = array("<i8", &[3], &[2i64, 0, 1].iter().flat_map(|l| l.to_le_bytes()).collect::<Vec<_>>());
    let test_images = array("|u1", &[1, 2, 2], &[9; 4]);
    let test_labels = array("|u1", &[1, 1], &[1]);
    let read = |files: &[(&str, &[u8])], split| npy::from_npz_bytes(&zipped(files), "a.npz", split);

    let set = read(&[("arr_0.npy", &images)], Split::Train).unwrap();
    assert_eq!((set.count, set.labels), (3, None));
    let set = read(&[("images.npy", &images), ("labels.npy", &labels)], Split::Train).unwrap();
    assert_eq!((set.labels, set.class_names.len()), (Some(vec![2, 0, 1]), 3));
    // As Keras ships MNIST, and as MedMNIST is shipped.
    for names in [["x_train", "y_train", "x_test", "y_test"], ["train_images", "train_labels", "test_images", "test_labels"]] {
        let names = names.map(|name| format!("{name}.npy"));
        let files: [(&str, &[u8]); 4] = [(&names[0], &images), (&names[1], &labels), (&names[2], &test_images), (&names[3], &test_labels)];
        let train = read(&files, Split::Train).unwrap();
        assert_eq!((train.count, train.labels), (3, Some(vec![2, 0, 1])));
        let test = read(&files, Split::Test).unwrap();
        assert_eq!((test.count, test.images, test.labels), (1, vec![9; 4], Some(vec![1])));
    }
    let bad = |files: &[(&str, &[u8])], split, parts: &[&str]| says(read(files, split), parts);
    bad(&[("a.npy", &images), ("b.npy", &images)], Split::Train, &["'a.npz' must hold one array of images", "a [3, 2, 2], b [3, 2, 2]"]);
    bad(&[("a.npy", &images)], Split::Test, &["or one with 'test' in its name"]);
    bad(&[("labels.npy", &labels)], Split::Train, &["it holds labels [3]"]);
    bad(&[("a.npy", b"nothing")], Split::Train, &["it holds no arrays of numbers"]);
    bad(
        &[("x.npy", &images), ("y.npy", &labels), ("z.npy", &labels)],
        Split::Train,
        &["several arrays that could be the labels of x: y, z"],
    );
    let negative = array("|i1", &[3], &[0, 1, 0xff]);
    bad(&[("x.npy", &images), ("y.npy", &negative)], Split::Train, &["'a.npz': entry 'y.npy': label 2 is -1"]);
    bad(&[("x.npy", &images[..images.len() - 2])], Split::Train, &["entry 'x.npy' is truncated"]);
}

#[test]
fn array_files_are_told_by_their_first_bytes() {
    let images = array("|u1", &[3, 2, 2], &[5; 12]);
    let values = array("<f4", &[1, 1, 2], &floats(&[0.0, 1.0]));
    let folder =
        folder(&[("a.npy", &images), ("b.whatever", &zipped(&[("images.npy", &images)])), ("c", &values), ("no.npy", &images[..30])]);
    let policy = ImagePolicy::default();
    assert_eq!(load(&folder.path().join("a.npy"), &policy).unwrap().images, [5; 12]);
    assert_eq!(load(&folder.path().join("b.whatever"), &policy).unwrap().images, [5; 12]);
    assert_eq!(load(&folder.path().join("c"), &policy).unwrap().images, [0, 255]);
    refused(&folder.path().join("no.npy"), &policy, &[&format!("'{}' is no NumPy array", folder.path().join("no.npy").display())]);
}

const NAMES: &str = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";

#[test]
fn cifar_loads_from_folders_files_and_its_own_archive() {
    let (one, two) = (cifar(&[(3, [1, 2, 3]), (9, [4, 5, 6])]), cifar(&[(0, [7, 8, 9])]));
    let test = cifar(&[(5, [10, 11, 12])]);
    let files: [(&str, &[u8]); 4] = [
        ("cifar-10-batches-bin/data_batch_2.bin", &two),
        ("cifar-10-batches-bin/data_batch_1.bin", &one),
        ("cifar-10-batches-bin/test_batch.bin", &test),
        ("cifar-10-batches-bin/batches.meta.txt", NAMES.as_bytes()),
    ];
    let unpacked = folder(&files);
    let archive = folder(&[("cifar-10-binary.tar.gz", &gzip(&tar(&files))), ("plain.tar", &tar(&files))]);
    let at =
        |path: std::path::PathBuf, split| data::load(path.to_str().unwrap(), &LoadOptions { split, ..LoadOptions::default() }).unwrap();
    for path in [
        unpacked.path().to_path_buf(),
        unpacked.path().join("cifar-10-batches-bin"),
        archive.path().join("cifar-10-binary.tar.gz"),
        archive.path().join("plain.tar"),
    ] {
        let set = at(path.clone(), Split::Train);
        assert_eq!((set.count, set.height, set.width, set.channels), (3, 32, 32, 3));
        assert_eq!((&set.labels, &set.class_names[3]), (&Some(vec![3, 9, 0]), &"cat".to_string()));
        assert_eq!((set.image(1), set.image(2)), (&[4, 5, 6].repeat(1024)[..], &[7, 8, 9].repeat(1024)[..]));
        let set = at(path, Split::Test);
        assert_eq!((set.labels.as_ref(), set.image(0)), (Some(&vec![5]), &[10, 11, 12].repeat(1024)[..]));
    }
    let set = at(unpacked.path().join("cifar-10-batches-bin/data_batch_2.bin"), Split::Train);
    assert_eq!((set.count, &set.class_names[9]), (1, &"9".to_string()));
}

#[test]
fn cifar_that_is_wrong_is_refused() {
    let good = cifar(&[(3, [1, 2, 3]), (9, [4, 5, 6])]);
    let bad = |bytes: &[u8], parts: &[&str]| says(cifar::from_bytes(bytes, "data_batch_1.bin", Split::Train), parts);
    bad(b"", &["holds 0 bytes, no whole number of CIFAR-10 records of 3073"]);
    bad(&good[..good.len() - 1], &["holds 6145 bytes", "truncated, or CIFAR-100"]);
    bad(&cifar(&[(3, [0; 3]), (10, [0; 3])]), &["the label of record 1 is 10"]);
    says(cifar::from_bytes(&good, "data_batch_1.bin", Split::Test), &["is one file and has no test split", "test_batch.bin"]);

    let bad = |files: &[(&str, &[u8])], parts: &[&str]| says(cifar::from_bytes(&gzip(&tar(files)), "c.tar.gz", Split::Train), parts);
    bad(&[("a/readme.html", b"x")], &["'c.tar.gz' holds no CIFAR-10 batches for training: expected data_batch_1.bin"]);
    bad(&[("../data_batch_1.bin", &good)], &["entry '../data_batch_1.bin' leads out of the archive", "refused"]);
    bad(&[("/data_batch_1.bin", &good)], &["is an absolute path"]);
    bad(&[("data_batch_1.bin", &good), ("b/data_batch_1.bin", &good)], &["several files of that name"]);
    bad(&[("data_batch_1.bin", &good), ("batches.meta.txt", b"cat\ndog\n")], &["'batches.meta.txt' names 2 classes; CIFAR-10 has 10"]);
    bad(&[("data_batch_1.bin", &good), ("batches.meta.txt", &[0xff; 9])], &["'batches.meta.txt' is not text"]);
    let many: Vec<(&str, &[u8])> = std::iter::repeat_n(("x", &b""[..]), 1001).collect();
    bad(&many, &["more than 1000 entries"]);

    let whole = gzip(&tar(&[("data_batch_1.bin", &good)]));
    for len in [0, 1, 2, 10, 40, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
        let cut = cifar::from_bytes(&whole[..len], "c.tar.gz", Split::Train).map(|set| set.count);
        assert_eq!(cut.expect_err("cut short").exit_code(), 2, "{len}");
    }
    // A bomb: 100 MB of nothing in 100 KB.
    says(cifar::from_bytes(&gzip(&tar(&[("x", &vec![0; 100 << 20])])), "c.tar.gz", Split::Train), &["over 200 times its own size"]);
    let folder = folder(&[("data_batch_1.bin", &good[..5]), ("test_batch.bin", b"")]);
    refused(folder.path(), &ImagePolicy::default(), &["'data_batch_1.bin' holds 5 bytes"]);
}
