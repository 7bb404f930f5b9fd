//! Thousands of damaged files per reader, made by damaging good ones: each must load or give one error of exit code 2, without a panic and
//! without much memory. The same damage in every run, so that a failure can be looked at.
//!
//! The good files are also the seeds of the fuzz targets; GANYMEDE_SEEDS names a folder to write them into (`fuzz/seeds`).

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

use ganymede::data::policy::Resize;
use ganymede::data::{self, DataSet, ImagePolicy, Split, cifar, idx, npy};
use ganymede::error::Result;
use ganymede::nn::state::{HostData, HostTensor};
use ganymede::nn::summary;
use ganymede::run::checkpoint;
use ganymede::run::layers::Layers;
use ganymede::run::state::{DataId, TrainState};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, GrayAlphaImage, ImageEncoder, ImageFormat, LumaA, Rgb, RgbImage};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use zip::CompressionMethod;

use super::files;

/// Damaged files per good one.
const MUTATIONS: usize = 2000;

type Reader = fn(&[u8]) -> Result<()>;

fn bounded(set: DataSet) {
    assert!(set.count >= 1 && set.images.len() <= 1 << 26, "{}", set.describe());
}

fn read_zip(bytes: &[u8]) -> Result<()> {
    data::pictures_from_zip_bytes(bytes, "x.zip", &ImagePolicy::default()).map(bounded)
}

/// A picture alone, for an archive's checksum would hide the damage.
fn read_picture(bytes: &[u8]) -> Result<()> {
    let policy = ImagePolicy { resize: Some(Resize::Fit), size: Some(8), ..ImagePolicy::default() };
    data::picture_from_bytes(bytes, "x.png", &policy).map(bounded)
}

/// Settings, and the networks that they describe.
fn read_config(bytes: &[u8]) -> Result<()> {
    let mut layers = Layers::default();
    layers.text(Path::new("x.toml"), String::from_utf8_lossy(bytes).into_owned())?;
    let config = layers.resolve(None)?;
    let (generator, discriminator) = config.recipe().networks(&[1, 28, 28], Some(10));
    summary::rows(&generator)?;
    summary::rows(&discriminator).map(drop)
}

fn read_checkpoint(bytes: &[u8]) -> Result<()> {
    checkpoint::decode(bytes, Path::new("x.safetensors")).map(drop)
}

/// A checkpoint with a few tensors of each type.
fn saved() -> Vec<u8> {
    let config = Layers::default().resolve(None).expect("the default settings");
    let data = DataId {
        source: "builtin:digits".into(),
        fingerprint: "0123abcd".into(),
        channels: 1,
        height: 28,
        width: 28,
        class_names: vec!["a".into(), "b".into()],
    };
    let tensors = BTreeMap::from([
        ("G.0.weight".to_string(), HostTensor::f32([2, 3], vec![1.0, -2.5, 0.0, 3.0, 1e-30, -0.0])),
        ("tick.stats".to_string(), HostTensor { shape: vec![2], data: HostData::U32(vec![7, u32::MAX]) }),
    ]);
    let state = TrainState { tensors, step: 3, images_seen: 96, recipe: config.recipe(), data, extra: BTreeMap::new() };
    checkpoint::encode(&state).expect("finite tensors")
}

/// A config file that has something of everything.
const CONFIG: &str = r#"
preset = "mlp"
[data]
range = "unit"
resize = "crop"
size = 16
[generator]
z = 8
layers = [
  { type = "class_concat", features = 3 },
  { type = "linear", features = 64 },
  { type = "reshape", shape = [4, 4, 4] },
  { type = "residual", layers = [{ type = "conv2d", channels = 4, kernel = 3, padding = 1 }, { type = "leaky_relu", slope = 0.1 }] },
  { type = "upsample", scale = 7, mode = "bilinear" },
  { type = "conv2d", channels = "data", kernel = 3, padding = 1 },
  { type = "sigmoid" },
]
optimizer = { kind = "sgd", lr = { start = 1e-2, end = 1e-4, over_kimg = 2, shape = "cosine" }, momentum = 0.9 }
[discriminator]
layers = [
  { type = "class_concat" },
  { type = "conv2d", channels = 4, kernel = 4, stride = 2, padding = 1 },
  { type = "leaky_relu" },
  { type = "tap", name = "features" },
  { type = "linear", features = 1 },
]
optimizer = { lr = 1e-3, clip = { norm = 1 } }
[loss]
kind = "mse"
feature_matching = { tap = "features", weight = 0.5 }
[augment]
mirror = 0.5
rotate = { p = 0.5, degrees = 10 }
[training]
batch = 12
micro_batch = 4
[run]
steps = 9
"#;

/// Name, reader and good files.
fn readers() -> Vec<(&'static str, Reader, Vec<Vec<u8>>)> {
    let picture = RgbImage::from_fn(9, 7, |x, y| Rgb([(x * 37 + y * 11) as u8, (x * y) as u8, (x ^ (y * 5)) as u8]));
    let in_format = |format| files::encoded(picture.clone(), format);
    let mut turned = Vec::new();
    let mut encoder = PngEncoder::new(Cursor::new(&mut turned));
    encoder.set_exif_metadata(files::exif(6)).unwrap();
    encoder.write_image(&[1, 2, 3, 4, 5, 6], 3, 2, ExtendedColorType::L8).unwrap();
    let images = files::npy("|u1", &[3, 2, 2], &[7; 12]);
    let floats: Vec<u8> = [0.0f32, 1.0, 0.5, 0.2].iter().flat_map(|value| value.to_le_bytes()).collect();
    let labels = files::npy("<i8", &[3], &[0; 24]);
    let records = files::cifar(&[(3, [1, 2, 3])]);
    let json = br#"{"labels": [["a/1.png", 0], ["b/2.png", 1]], "class_names": ["cat", "dog"]}"#;
    let flat = files::flat(2, 2, 9);
    let pictures: [(&str, &[u8]); 3] = [("a/1.png", &flat), ("b/2.png", &flat), ("dataset.json", json)];
    let idx_file = files::idx([3, 2, 2], &[7; 12]);
    vec![
        ("idx", |bytes| idx::from_bytes(bytes, "x").map(bounded), vec![idx_file.clone(), files::gzip(&idx_file)]),
        ("zip", read_zip, vec![files::zipped(&pictures), files::packed(&pictures, CompressionMethod::Stored)]),
        ("npy", |bytes| npy::from_bytes(bytes, "x").map(bounded), vec![images.clone(), files::npy("<f4", &[1, 1, 2, 2], &floats)]),
        (
            "npz",
            |bytes| npy::from_npz_bytes(bytes, "x", Split::Train).map(bounded),
            vec![files::zipped(&[("x.npy", &images), ("y.npy", &labels)]), files::packed(&[("x.npy", &images)], CompressionMethod::Stored)],
        ),
        (
            "cifar",
            |bytes| cifar::from_bytes(bytes, "x", Split::Train).map(bounded),
            vec![
                files::gzip(&files::tar(&[("c/data_batch_1.bin", &records)])),
                files::tar(&[("c/data_batch_1.bin", &records), ("c/batches.meta.txt", b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n")]),
                records,
            ],
        ),
        (
            "picture",
            read_picture,
            vec![
                in_format(ImageFormat::Png),
                in_format(ImageFormat::Jpeg),
                in_format(ImageFormat::Gif),
                in_format(ImageFormat::WebP),
                in_format(ImageFormat::Bmp),
                files::palette_png(3, 2, &[0, 1, 2, 3, 0, 1]),
                files::png(GrayAlphaImage::from_pixel(3, 2, LumaA([9, 100]))),
                turned,
            ],
        ),
        ("config", read_config, vec![CONFIG.as_bytes().to_vec()]),
        ("checkpoint", read_checkpoint, vec![saved()]),
    ]
}

/// One to four damages: a bit flipped, bytes set to extremes, cut out, doubled, or the end cut off.
fn damage(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    for _ in 0..1 + rng.next_u32() % 4 {
        if bytes.is_empty() {
            return;
        }
        // Headers stand in front, and directories of archives at the end.
        let len = bytes.len();
        let near = (rng.next_u32() as usize) % len.min(128);
        let at = match rng.next_u32() % 3 {
            0 => near,
            1 => len - 1 - near,
            _ => rng.next_u32() as usize % len,
        };
        let end = (at + 1 + rng.next_u32() as usize % 8).min(len);
        match rng.next_u32() % 6 {
            0 => bytes[at] ^= 1 << (rng.next_u32() % 8),
            1 => bytes[at..end].fill(0xff),
            2 => bytes[at..end].fill(0),
            3 => bytes[at] = rng.next_u32() as u8,
            4 => drop(bytes.drain(at..end)),
            _ if rng.next_u32().is_multiple_of(4) => bytes.truncate(at),
            _ => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
        }
    }
}

#[test]
fn damaged_files_give_an_error_or_load() {
    let seeds = std::env::var_os("GANYMEDE_SEEDS").map(std::path::PathBuf::from);
    for (name, read, good) in readers() {
        let (mut loaded, mut refused) = (0, 0);
        for (index, file) in good.iter().enumerate() {
            read(file).unwrap_or_else(|error| panic!("{name} {index}: {error}"));
            if let Some(seeds) = &seeds {
                std::fs::create_dir_all(seeds.join(name)).unwrap();
                std::fs::write(seeds.join(name).join(format!("{index}")), file).unwrap();
            }
            for number in 0..MUTATIONS {
                let mut rng = ChaCha8Rng::seed_from_u64((index * MUTATIONS + number) as u64);
                let mut bytes = file.clone();
                damage(&mut rng, &mut bytes);
                match read(&bytes) {
                    Ok(()) => loaded += 1,
                    Err(error) => {
                        assert_eq!(error.exit_code(), 2, "{name} {index} {number}: {error:?}");
                        refused += 1;
                    }
                }
            }
        }
        // Damage that never shows, or always does, is not what is meant.
        println!("{name}: {loaded} loaded, {refused} refused");
        assert!(refused > loaded / 10 && loaded > 0, "{name}: {loaded} loaded, {refused} refused");
    }
    let largest = super::watched::largest();
    assert!(largest <= 1 << 28, "an allocation of {largest} bytes");
}
