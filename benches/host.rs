//! The host's hot paths: building a plan, submitting steps, decoding data.
//!
//! ```text
//! cargo bench --bench host
//! ```
//!
//! `ganymede bench` measures what runs on the device.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use flate2::Compression;
use flate2::write::GzEncoder;
use ganymede::data::{self, LoadOptions};
use ganymede::gan::config::GanConfig;
use ganymede::gan::step::Inputs;
use ganymede::gan::trainer::{self, Trainer};
use ganymede::gpu::testing;
use ganymede::gpu::{Gpu, GpuOptions};
use ganymede::graph::lower::Caps;
use ganymede::run::presets::preset;
use std::fs;
use std::io::Write;
use std::sync::Arc;

fn main() {
    divan::main();
}

fn config(name: &str, batch: usize) -> GanConfig {
    let preset = preset(name).expect("a preset of that name");
    preset.gan_config(1, batch)
}

/// From networks to a list of dispatches: building, differentiating, fusing, lowering, assigning buffers.
#[divan::bench(args = ["mlp", "dcgan-28-small", "dcgan-64"])]
fn plan(bencher: Bencher, name: &str) {
    let config = config(name, 64);
    let caps = Caps { fixed_subgroup: true, int64: true, software: true, ..Caps::minimal() };
    bencher.bench(|| trainer::plan(&config, &Inputs::Device { images: 10_000 }, &caps).expect("presets compile"));
}

/// Encoding and submitting a step without waiting for it, for each of its dispatches. Images are few and small so that the device keeps up.
#[divan::bench(args = ["mlp", "dcgan-28-small"], sample_size = 1, sample_count = 30)]
fn submit(bencher: Bencher, name: &str) {
    if testing::gpu().is_none() {
        return;
    }
    let adapter = std::env::var("GANYMEDE_TEST_ADAPTER").ok();
    let gpu = Gpu::open(&GpuOptions { adapter, ..GpuOptions::default() }).expect("the adapter opened before");
    let gpu = Arc::new(gpu);
    let mut trainer = Trainer::new(gpu.clone(), config(name, 2), &Inputs::Device { images: 10 }).expect("presets fit every adapter");
    trainer.set_steps_per_submit(Some(1));
    trainer.run_steps(2).expect("a step runs");
    let dispatches = trainer.plan().dispatches.len();
    bencher
        .counter(ItemsCount::new(dispatches))
        .with_inputs(|| gpu.wait().expect("steps end"))
        .bench_local_values(|()| trainer.run_steps(1).expect("a step runs"));
}

/// Images of the IDX files.
const IMAGES: u32 = 10_000;

/// An IDX file of digits, as it is or gzipped.
#[divan::bench(args = [false, true])]
fn decode_idx(bencher: Bencher, gzipped: bool) {
    let digits = data::load(&format!("builtin:digits?n={IMAGES}"), &LoadOptions::default()).expect("a built-in set");
    let mut file = [0x0803, IMAGES, 28, 28].map(u32::to_be_bytes).concat();
    file.extend_from_slice(&digits.images);
    let bytes = file.len();
    let folder = tempfile::tempdir().expect("a temporary folder");
    if gzipped {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        file = encoder.write_all(&file).and_then(|()| encoder.finish()).expect("memory takes bytes");
    }
    let name = if gzipped { "train-images-idx3-ubyte.gz" } else { "train-images-idx3-ubyte" };
    fs::write(folder.path().join(name), file).expect("a temporary file");
    let path = folder.path().to_str().expect("temporary folders have plain names").to_string();
    bencher.counter(BytesCount::new(bytes)).bench(|| data::load(&path, &LoadOptions::default()).expect("the file is right"));
}

/// Drawing built-in images.
#[divan::bench(args = ["digits", "shapes-64"])]
fn draw_builtin(bencher: Bencher, name: &str) {
    const COUNT: usize = 1000;
    let spec = format!("builtin:{name}?n={COUNT}");
    bencher.counter(ItemsCount::new(COUNT)).bench(|| data::load(&spec, &LoadOptions::default()).expect("a built-in set"));
}
