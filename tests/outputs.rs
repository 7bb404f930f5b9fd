//! What people and other programs read: TensorBoard's events, the report, and everything that `ganymede sample` writes; each read back by other code than
//! wrote it.
//!
//! Where there is no adapter, or `GANYMEDE_TEST_GPU=off`, what needs one is skipped, which is said on standard error.

use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ganymede::gpu::testing;
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, DynamicImage, GrayImage, RgbImage};
use serde_json::Value;

/// A folder in which commands run.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Bench(tempfile::tempdir().expect("a temporary folder"))
    }

    /// `None` where tests do not use a GPU.
    fn with_gpu() -> Option<Self> {
        testing::gpu().map(|_| Bench::new())
    }

    fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(relative)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ganymede"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        for name in ["XDG_RUNTIME_DIR", "WAYLAND_DISPLAY", "DISPLAY"] {
            command.env_remove(name);
        }
        if let Ok(adapter) = std::env::var("GANYMEDE_TEST_ADAPTER") {
            command.args(["--adapter", &adapter]);
        }
        command.output().expect("the command starts")
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && err.is_empty(), "{args:?}: {}\n{err}\n{out}", output.status);
        out.into_owned()
    }

    /// Runs a command that must be refused with one error in which all of `needles` stand.
    #[track_caller]
    fn refused(&self, args: &[&str], needles: &[&str]) {
        let output = self.run(args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert_eq!(text.matches("error:").count(), 1, "{args:?}: {text}");
        for needle in needles {
            assert!(text.contains(needle), "{args:?}: no {needle:?} in {text}");
        }
    }

    /// Trains a small `mlp` for 12 steps of 4 images, with a tick and a snapshot every 5; returns its folder, relative.
    fn train(&self, more: &[&str]) -> String {
        let settings =
            ["--preset", "mlp", "--data", "builtin:digits?n=70", "--batch", "4", "--steps", "12", "--tick", "0.02", "--snap", "1"];
        self.ok(&[&["train"][..], &settings, &["--keep", "9"], more].concat());
        "runs/00000-digits-mlp-b4".to_string()
    }

    fn read(&self, relative: &str) -> Vec<u8> {
        fs::read(self.path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
    }

    fn names(&self, relative: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(relative)).expect("a folder");
        let mut names: Vec<String> = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn grey(&self, relative: &str) -> GrayImage {
        image::load_from_memory(&self.read(relative)).expect("a picture").to_luma8()
    }
}

/// A field of a protobuf message.
#[derive(Debug, Clone)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// A protobuf message by field numbers, in order.
fn message(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (byte, rest) = bytes.split_first().expect("a varint ends");
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let (length, number) = match key & 7 {
            0 => (0, Some(varint(&mut bytes))),
            1 => (8, None),
            2 => (varint(&mut bytes) as usize, None),
            5 => (4, None),
            wire => panic!("wire type {wire}"),
        };
        let (payload, rest) = bytes.split_at(length);
        bytes = rest;
        fields.push((key >> 3, number.map_or(Field::Bytes(payload.to_vec()), Field::Number)));
    }
    fields
}

fn bytes_of(fields: &[(u64, Field)], wanted: u64) -> Option<Vec<u8>> {
    fields.iter().find_map(|(number, field)| match field {
        Field::Bytes(bytes) if *number == wanted => Some(bytes.clone()),
        _ => None,
    })
}

fn number_of(fields: &[(u64, Field)], wanted: u64) -> Option<u64> {
    fields.iter().find_map(|(number, field)| match field {
        Field::Number(value) if *number == wanted => Some(*value),
        _ => None,
    })
}

/// The checksum of a record, bit by bit.
fn checksum(data: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    let crc = !crc;
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The messages of an event file.
fn records(mut bytes: &[u8]) -> Vec<Vec<(u64, Field)>> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let word = |from: usize| u32::from_le_bytes(bytes[from..from + 4].try_into().expect("four bytes"));
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        assert_eq!(word(8), checksum(&bytes[..8]));
        let data = &bytes[12..12 + length];
        assert_eq!(word(12 + length), checksum(data));
        events.push(message(data));
        bytes = &bytes[16 + length..];
    }
    events
}

/// What the event files of a run hold: (step, tag, value) and (step, tag, height, width, channels, PNG), and where starts purge.
#[derive(Default)]
struct Events {
    scalars: Vec<(u64, String, f32)>,
    images: Vec<(u64, String, [u64; 3], Vec<u8>)>,
    starts: Vec<u64>,
}

impl Events {
    fn of(bench: &Bench, run: &str) -> Vec<Self> {
        let files = bench.names(run).into_iter().filter(|name| name.starts_with("events.out.tfevents."));
        files.map(|name| Events::parse(&bench.read(&format!("{run}/{name}")))).collect()
    }

    fn parse(bytes: &[u8]) -> Self {
        let records = records(bytes);
        assert_eq!(bytes_of(&records[0], 3).as_deref(), Some(b"brain.Event:2".as_slice()));
        let mut events = Events::default();
        for record in &records {
            let time = f64::from_le_bytes(bytes_of(record, 1).expect("a time").try_into().expect("eight bytes"));
            assert!(time > 1.7e9 && time < 1e11, "{time} are no seconds since 1970");
            let step = number_of(record, 2).expect("a step");
            if let Some(session) = bytes_of(record, 7) {
                assert_eq!(number_of(&message(&session), 1), Some(1), "START");
                events.starts.push(step);
            }
            for (_, value) in message(&bytes_of(record, 5).unwrap_or_default()) {
                let Field::Bytes(value) = value else { panic!("a summary has values only") };
                let value = message(&value);
                let tag = String::from_utf8(bytes_of(&value, 1).expect("a tag")).expect("UTF-8");
                if let Some(number) = bytes_of(&value, 2) {
                    events.scalars.push((step, tag, f32::from_le_bytes(number.try_into().expect("four bytes"))));
                } else {
                    let image = message(&bytes_of(&value, 4).expect("a number or a picture"));
                    let size = [1, 2, 3].map(|field| number_of(&image, field).expect("a size"));
                    events.images.push((step, tag, size, bytes_of(&image, 4).expect("a PNG")));
                }
            }
        }
        events
    }

    fn scalar(&self, step: u64, tag: &str) -> Option<f32> {
        self.scalars.iter().find(|(s, t, _)| *s == step && t == tag).map(|(_, _, value)| *value)
    }
}

/// The lines of `stats.jsonl`.
fn statistics(bench: &Bench, run: &str) -> Vec<Value> {
    let text = String::from_utf8(bench.read(&format!("{run}/stats.jsonl"))).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn tensorboard_and_the_report_tell_what_the_run_folder_holds() {
    let Some(bench) = Bench::with_gpu() else { return };
    let run = bench.train(&["--stop-after", "7"]);
    let stopped = String::from_utf8(bench.read(&format!("{run}/report.html"))).expect("UTF-8");
    assert!(stopped.contains("<b>Stopped</b> <span>0.028 kimg, step 7"), "{stopped}");
    bench.ok(&["train", "--resume", "latest"]);

    let files = Events::of(&bench, &run);
    assert_eq!(files.len(), 2, "a file each time that the run starts or goes on");
    assert_eq!(
        (files[0].starts.as_slice(), files[1].starts.as_slice()),
        (&[][..], &[29][..]),
        "what is beyond 28 images is not to be believed"
    );
    let statistics = statistics(&bench, &run);
    let fields = [
        ("loss_d", "loss/D"),
        ("loss_d_real", "loss/D_real"),
        ("loss_g", "loss/G"),
        ("d_x", "score/D_x"),
        ("d_g_z2", "score/D_G_z_after"),
        ("grad_norm_g", "grad_norm/G"),
        ("seconds_per_kimg", "time/seconds_per_kimg"),
        ("memory_bytes", "device/memory_bytes"),
    ];
    assert_eq!(statistics.iter().map(|line| line["images_seen"].as_u64()).collect::<Vec<_>>(), [Some(20), Some(40), Some(48)]);
    for (line, file) in statistics.iter().zip([0, 1, 1]) {
        let step = line["images_seen"].as_u64().expect("a number");
        for (field, tag) in fields {
            let want = line[field].as_f64().expect("a number") as f32;
            assert_eq!(files[file].scalar(step, tag), Some(want), "{tag} at {step}");
        }
        let speed = files[file].scalar(step, "time/images_per_second").expect("a speed");
        assert!((f64::from(speed) * line["seconds_per_kimg"].as_f64().expect("a number") / 1000.0 - 1.0).abs() < 1e-5);
    }
    let pictures: [(usize, u64, &str, &str); 5] = [
        (0, 0, "reals", "reals.png"),
        (0, 0, "fakes", "fakes_init.png"),
        (0, 20, "fakes", "fakes-000000000020.png"),
        (1, 40, "fakes", "fakes-000000000040.png"),
        (1, 48, "fakes", "fakes-000000000048.png"),
    ];
    assert_eq!(files[0].images.len() + files[1].images.len(), pictures.len());
    for (file, step, tag, name) in pictures {
        let image = files[file].images.iter().find(|(s, t, ..)| (*s, t.as_str()) == (step, tag)).expect(name);
        assert!(image.3 == bench.read(&format!("{run}/{name}")), "{name}");
        assert_eq!(image.2, [242, 242, 1]);
    }

    let report = String::from_utf8(bench.read(&format!("{run}/report.html"))).expect("UTF-8");
    assert!(report.contains("<b>Finished</b> <span>0.048 kimg, step 12"), "{report}");
    for text in ["<script", "http:", "https:", "src=\"f", "href"] {
        assert!(!report.contains(text), "the page needs {text}");
    }
    for text in [
        "preset = &quot;mlp&quot;",
        "Losses",
        "Gradient norms",
        "prefers-color-scheme: dark",
        "0.04 kimg",
        "before training",
        "Images seen",
    ] {
        assert!(report.contains(text), "no {text} in the report");
    }
    let adapter = String::from_utf8(bench.read(&format!("{run}/log.txt"))).expect("UTF-8");
    let adapter = adapter.lines().find_map(|line| line.split_once("| Adapter: ")?.1.split_once(',')).expect("an adapter").0.to_string();
    assert!(report.contains(&adapter.replace('\'', "&#39;")), "no {adapter} in the report");
    // Reals and newest, then four moments.
    assert_eq!(report.matches("src=\"data:image/png;base64,").count(), 2 + 4);
    assert_eq!(report.matches("<svg").count(), 4);

    // Not wanted.
    fs::write(bench.path("quiet.toml"), "[run]\ntensorboard = false\n").expect("written");
    bench.ok(&[
        "train",
        "--preset",
        "mlp",
        "--data",
        "builtin:digits?n=8",
        "--batch",
        "4",
        "--steps",
        "1",
        "--outdir",
        "quiet",
        "--config",
        "quiet.toml",
    ]);
    assert!(Events::of(&bench, "quiet/00000-digits-mlp-b4").is_empty());
}

/// The array `name` of an `.npz` file: its header's dictionary, and its bytes.
fn array(path: &Path, name: &str) -> (String, Vec<u8>) {
    let mut zip = zip::ZipArchive::new(File::open(path).expect("a file")).expect("an archive");
    let mut bytes = Vec::new();
    zip.by_name(&format!("{name}.npy")).expect("an array").read_to_end(&mut bytes).expect("readable");
    assert_eq!(bytes[..8], *b"\x93NUMPY\x01\x00");
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert!(end.is_multiple_of(64) && bytes[end - 1] == b'\n');
    (String::from_utf8(bytes[10..end].to_vec()).expect("text"), bytes[end..].to_vec())
}

#[test]
fn many_images_in_folders_archives_and_arrays() {
    let Some(bench) = Bench::with_gpu() else { return };
    bench.train(&[]);
    let sample = |more: &[&str]| bench.ok(&[&["sample", "--model", "latest"], more].concat());
    // More than a batch of the device, and no whole number of them.
    let text = sample(&["--count", "70", "--out", "many"]);
    assert!(text.starts_with("70 images of ") && text.contains(" are in many"), "{text}");
    sample(&["--count", "70", "--out", "a/many.zip"]);
    sample(&["--count", "70", "--out", "many.npz"]);
    sample(&["--seeds", "0-69", "--out", "many.safetensors"]);

    let names: Vec<String> = (0..70).map(|i| format!("{i:06}.png")).collect();
    assert_eq!(bench.names("many"), names);
    let mut zip = zip::ZipArchive::new(Cursor::new(bench.read("a/many.zip"))).expect("an archive");
    let (images_header, images) = array(&bench.path("many.npz"), "images");
    let (z_header, z) = array(&bench.path("many.npz"), "z");
    assert!(images_header.starts_with("{'descr': '|u1', 'fortran_order': False, 'shape': (70, 28, 28, 1,), }"), "{images_header}");
    assert!(z_header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (70, 100,), }"), "{z_header}");
    let tensors = bench.read("many.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&tensors).expect("tensors");
    assert!(tensors.tensor("z").expect("z").data() == z);
    let exact = tensors
        .tensor("images")
        .expect("images")
        .data()
        .chunks(4)
        .map(|v| f32::from_le_bytes([v[0], v[1], v[2], v[3]]))
        .collect::<Vec<_>>();
    assert_eq!(images.len(), exact.len());
    for (byte, value) in images.iter().zip(&exact) {
        assert!((f32::from(*byte) / 127.5 - 1.0 - value).abs() <= 0.51 / 127.5, "{byte} for {value}");
    }
    for (i, name) in names.iter().enumerate() {
        let (mut entry, mut bytes) = (zip.by_index(i).expect("an entry"), Vec::new());
        assert_eq!(entry.name().expect("UTF-8"), name.as_str());
        entry.read_to_end(&mut bytes).expect("readable");
        let file = bench.read(&format!("many/{name}"));
        assert!(bytes == file, "{name}");
        assert!(image::load_from_memory(&file).expect("a PNG").to_luma8().as_raw()[..] == images[i * 784..(i + 1) * 784], "{name}");
    }
    // Seeds: the same images under their own names.
    sample(&["--seeds", "3,69", "--out", "two.zip"]);
    let mut two = zip::ZipArchive::new(Cursor::new(bench.read("two.zip"))).expect("an archive");
    let mut bytes = Vec::new();
    two.by_name("seed-000069.png").expect("an entry").read_to_end(&mut bytes).expect("readable");
    assert!(bytes == bench.read("many/000069.png") && two.len() == 2);

    // The same bits again, over the old ones; but never beside others, which a tool would measure too.
    let before = (bench.read("a/many.zip"), bench.read("many.npz"));
    sample(&["--count", "70", "--out", "a/many.zip"]);
    sample(&["--count", "70", "--out", "many.npz"]);
    sample(&["--count", "70", "--out", "many"]);
    assert!((bench.read("a/many.zip"), bench.read("many.npz")) == before);
    bench.refused(
        &["sample", "--model", "latest", "--count", "69", "--out", "many"],
        &["--out many holds 000069.png already", "empty folder"],
    );
}

/// The frames of a GIF or WebP file in grey, and how long each is shown, in milliseconds.
fn frames(bytes: &[u8]) -> Vec<(GrayImage, u32)> {
    if bytes.starts_with(b"GIF89a") {
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(bytes).expect("a GIF");
        assert_eq!(decoder.repeat(), gif::Repeat::Infinite);
        let mut frames = Vec::new();
        while let Some(frame) = decoder.read_next_frame().expect("a frame") {
            let pixels = frame.buffer.chunks(4).map(|p| p[0]).collect();
            let picture = GrayImage::from_raw(frame.width.into(), frame.height.into(), pixels).expect("a frame's pixels");
            frames.push((picture, u32::from(frame.delay) * 10));
        }
        return frames;
    }
    let decoder = WebPDecoder::new(Cursor::new(bytes)).expect("a WebP");
    assert!(decoder.has_animation() && matches!(decoder.loop_count(), image::metadata::LoopCount::Infinite));
    let frames = decoder.into_frames().collect_frames().expect("frames");
    frames.into_iter().map(|frame| (DynamicImage::from(frame.buffer().clone()).to_luma8(), frame.delay().numer_denom_ms().0)).collect()
}

#[test]
fn walks_between_seeds_pass_through_them() {
    let Some(bench) = Bench::with_gpu() else { return };
    bench.train(&[]);
    let sample = |more: &[&str]| bench.ok(&[&["sample", "--model", "latest"], more].concat());
    let walk = ["--interpolate", "--seeds", "1,5,9", "--frames", "4", "--out"];
    for out in ["walk.gif", "walk.webp"] {
        let text = sample(&[&walk[..], &[out]].concat());
        assert!(text.contains("12 frames of ") && text.contains(&format!("are in {out}, 40 ms each")), "{text}");
        let frames = frames(&bench.read(out));
        assert_eq!(frames.len(), 12);
        for (i, seed) in ["1", "5", "9"].iter().enumerate() {
            sample(&["--seeds", seed, "--out", "one.png"]);
            assert!(frames[4 * i].0 == bench.grey("one.png"), "{out}: frame {} is not seed {seed}", 4 * i);
        }
        assert!(frames.iter().all(|(_, time)| *time == 40));
        // Steps, and no jumps: a step changes a picture less than the whole way does.
        let differ = |a: usize, b: usize| -> u64 {
            frames[a].0.as_raw().iter().zip(frames[b % 12].0.as_raw()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum()
        };
        for i in 0..12 {
            assert!(differ(i, i + 1) > 0 && differ(i, i + 1) < differ(i / 4 * 4, i / 4 * 4 + 4), "{out}: frame {i}");
        }
    }
    assert!(frames(&bench.read("walk.gif")) == frames(&bench.read("walk.webp")), "grey is exact in both");
    let before = bench.read("walk.webp");
    sample(&[&walk[..], &["walk.webp"]].concat());
    assert!(bench.read("walk.webp") == before, "the same command writes the same bytes");
    sample(&["--interpolate", "lerp", "--seeds", "1,5,9", "--frames", "4", "--out", "straight.webp"]);
    assert!(frames(&bench.read("straight.webp"))[4] == frames(&before)[4] && bench.read("straight.webp") != before);

    // A grid of walks, with larger pixels and its own speed: each cell is the walk alone.
    sample(&[
        "--interpolate",
        "--seeds",
        "1,5,9,2,6,8",
        "--grid",
        "1x2",
        "--frames",
        "4",
        "--fps",
        "10",
        "--scale",
        "2",
        "--out",
        "two.webp",
    ]);
    let two = frames(&bench.read("two.webp"));
    assert_eq!((two.len(), two[0].1, two[0].0.dimensions()), (12, 100, (2 * 62, 2 * 32)));
    let cell = image::imageops::crop_imm(&two[5].0, 4, 4, 56, 56).to_image();
    let alone = image::imageops::resize(&frames(&before)[5].0, 56, 56, image::imageops::FilterType::Nearest);
    assert!(cell == alone);
}

#[test]
fn films_show_the_runs_pictures_or_its_checkpoints() {
    let Some(bench) = Bench::with_gpu() else { return };
    let run = bench.train(&[]);
    let sample = |more: &[&str]| bench.ok(&[&["sample", "--model", "latest"], more].concat());
    let text = sample(&["--film", "--out", "film.webp"]);
    assert!(text.contains(&format!("4 frames of {run} are in film.webp, 200 ms each")), "{text}");
    let film = frames(&bench.read("film.webp"));
    let pictures = ["fakes_init.png", "fakes-000000000020.png", "fakes-000000000040.png", "fakes-000000000048.png"];
    assert_eq!(film.iter().map(|(_, time)| *time).collect::<Vec<_>>(), [200, 200, 200, 2000], "the last one stays");
    let below = |frame: &GrayImage| image::imageops::crop_imm(frame, 0, frame.height() - 242, 242, 242).to_image();
    for ((frame, _), name) in film.iter().zip(pictures) {
        assert_eq!(frame.dimensions(), (242, 242 + 13));
        assert!(below(frame) == bench.grey(&format!("{run}/{name}")), "{name}");
    }
    let title = |i: usize| image::imageops::crop_imm(&film[i].0, 0, 0, 242, 13).to_image();
    assert!(title(1) != title(2) && title(0) != title(1), "each frame has its own caption");

    sample(&["--film", "checkpoints", "--out", "checkpoints.gif"]);
    let kept = frames(&bench.read("checkpoints.gif"));
    assert_eq!(kept.len(), 3);
    for ((frame, _), name) in kept.iter().zip(&pictures[1..]) {
        assert!(below(frame) == bench.grey(&format!("{run}/{name}")), "{name}");
    }
    sample(&["--film", "checkpoints", "--seeds", "7", "--scale", "3", "--out", "one.gif"]);
    assert_eq!(frames(&bench.read("one.gif"))[0].0.dimensions(), (3 * 28, 3 * (28 + 13)));
}

#[test]
fn comparison_sheets_have_reals_on_the_left() {
    let Some(bench) = Bench::with_gpu() else { return };
    let run = bench.train(&[]);
    bench.ok(&["sample", "--model", "latest", "--compare", "--out", "both.png"]);
    let sheet = bench.grey("both.png");
    assert_eq!(sheet.dimensions(), (2 * 242 + 8, 242 + 13));
    let half = |left| image::imageops::crop_imm(&sheet, left, 13, 242, 242).to_image();
    assert!(half(0) == bench.grey(&format!("{run}/reals.png")));
    assert!(half(250) == bench.grey(&format!("{run}/fakes-000000000048.png")));
    let ink = |left| image::imageops::crop_imm(&sheet, left, 0, 242, 13).to_image().iter().filter(|p| **p > 200).count();
    assert!(ink(0) > 20 && ink(250) > ink(0), "both halves are labelled");

    // From a lone checkpoint of built-in data too; not with other data.
    fs::create_dir(bench.path("lone")).expect("made");
    fs::copy(bench.path(format!("{run}/checkpoint-000000000048.safetensors")), bench.path("lone/model.safetensors")).expect("copied");
    bench.ok(&["sample", "--model", "lone/model.safetensors", "--compare", "--out", "lone.png"]);
    assert!(bench.read("lone.png") == bench.read("both.png"));
    let config = String::from_utf8(bench.read(&format!("{run}/config.toml"))).expect("UTF-8");
    fs::write(bench.path(format!("{run}/config.toml")), config.replace("n=70", "n=71")).expect("written");
    bench.refused(&["sample", "--model", "latest", "--compare"], &["--compare: builtin:digits?n=71", "is not the data set that"]);
}

#[test]
fn flags_that_make_no_sense_are_refused_before_anything_is_read() {
    let bench = Bench::new();
    for (flags, needles) in [
        (&["--count", "0", "--out", "x"][..], &["invalid value '0' for '--count <N>'"][..]),
        (&["--count", "many", "--out", "x"], &["invalid value 'many' for '--count <N>'"]),
        (&["--count", "5"], &["--out"]),
        (&["--count", "5", "--out", "x.png"], &["--out x.png: --count, expected a folder, a .zip or a .npz file"]),
        (&["--count", "5", "--out", "x.gif"], &["--out x.gif: --count, expected a folder"]),
        (&["--count", "5", "--seeds", "1", "--out", "x"], &["'--count <N>' cannot be used with '--seeds <LIST>'"]),
        (&["--count", "5", "--grid", "2x2", "--out", "x"], &["cannot be used with"]),
        (&["--count", "5", "--scale", "2", "--out", "x"], &["cannot be used with"]),
        (&["--count", "5", "--film", "--out", "x"], &["cannot be used with"]),
        (&["--out", "x.jpg"], &["--out x.jpg: .jpg files are not written; expected .png, .npz"]),
        (&["--out", "x.gif"], &["--out x.gif: without --interpolate or --film, expected a .png"]),
        (&["--interpolate", "cubic"], &["invalid value 'cubic'", "slerp, lerp"]),
        (&["--interpolate", "--out", "x.png"], &["--out x.png: --interpolate, expected a .gif or .webp file"]),
        (&["--interpolate", "--seeds", "1"], &["--seeds: a walk needs at least 2 seeds, and there is 1"]),
        (
            &["--interpolate", "--seeds", "1-5", "--grid", "2x1"],
            &["5 seeds are no equal shares of at least 2 for the 2 walks", "give 4 seeds"],
        ),
        (
            &["--interpolate", "--seeds", "0-999", "--frames", "11"],
            &["--frames: 1000 seeds in a walk with 11 frames each are 11000 frames"],
        ),
        (&["--interpolate", "--frames", "0"], &["invalid value '0' for '--frames <N>'"]),
        (&["--interpolate", "--film"], &["cannot be used with"]),
        (&["--frames", "5"], &["--interpolate"]),
        (&["--interpolate", "--fps", "51"], &["invalid value '51' for '--fps <N>'"]),
        (&["--fps", "5"], &["--fps is for animations"]),
        (&["--film", "movies"], &["invalid value 'movies'", "pictures, checkpoints"]),
        (&["--film", "--seeds", "1"], &["--seeds, --grid and --class do not apply to --film of a run's own pictures", "--film checkpoints"]),
        (&["--film", "--class", "1"], &["--class do not apply to --film"]),
        (&["--per-class", "0"], &["invalid value '0' for '--per-class <N>'"]),
        (&["--per-class", "5", "--seeds", "1"], &["'--per-class <N>' cannot be used with '--seeds <LIST>'"]),
        (&["--per-class", "5", "--out", "x.gif"], &["--out x.gif: without --interpolate or --film, expected a .png"]),
        (&["--film", "--out", "x"], &["--out x: --film, expected a .gif or .webp file"]),
        (&["--compare", "--out", "x.npz"], &["--out x.npz: --compare, expected a .png file"]),
        (&["--scale", "65"], &["invalid value '65' for '--scale <N>'"]),
        (&["--scale", "2", "--out", "x"], &["--scale is for grids and animations, and --out x is neither"]),
        (&["--seeds", "1", "--grid", "2x2", "--out", "x.npz"], &["--grid is for grids and animations"]),
    ] {
        bench.refused(&[&["sample", "--model", "latest"], flags].concat(), needles);
    }
    assert!(bench.names(".").is_empty(), "nothing of this writes anything");
    bench.refused(&["sample", "--model", "latest", "--film"], &["there is no run in runs yet"]);

    // A film of pictures needs no adapter, but pictures of one size.
    let run = bench.path("run");
    fs::create_dir(&run).expect("made");
    fs::write(run.join("config.toml"), "").expect("written");
    bench.refused(&["sample", "--model", "run", "--film"], &["run has no pictures"]);
    bench.refused(&["sample", "--model", "run", "--film", "checkpoints"], &["run has no checkpoint yet"]);
    RgbImage::from_pixel(20, 9, image::Rgb([10, 20, 30])).save(run.join("fakes_init.png")).expect("written");
    RgbImage::from_pixel(20, 9, image::Rgb([99, 20, 30])).save(run.join("fakes-000000000004.png")).expect("written");
    bench.ok(&["sample", "--model", "run", "--film"]);
    assert_eq!(frames(&bench.read("samples.gif")).len(), 2);
    RgbImage::from_pixel(21, 9, image::Rgb([10, 20, 30])).save(run.join("fakes-000000000008.png")).expect("written");
    bench.refused(&["sample", "--model", "run", "--film"], &["has another size or other colours"]);
    fs::write(run.join("fakes-000000000008.png"), b"torn").expect("written");
    bench.refused(&["sample", "--model", "run", "--film"], &["cannot read the picture ", "fakes-000000000008.png"]);
}
