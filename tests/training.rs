//! The trainer through the library: what a step does to every tensor, in which order data are seen, what the statistics mean, and that a short training
//! brings samples measurably nearer to real images.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use ganymede::data::{self, LoadOptions, Split};
use ganymede::eval::swd::{DEFAULT_PROJECTIONS, gap_closed, sliced_wasserstein};
use ganymede::gan::config::GanConfig;
use ganymede::gan::range::ValueRange;
use ganymede::gan::schedule::{self, Position, Schedule};
use ganymede::gan::step::{Inputs, Z_STREAM};
use ganymede::gan::trainer::Trainer;
use ganymede::gpu::step::StepRow;
use ganymede::gpu::{Gpu, GpuOptions, testing};
use ganymede::graph::lower::Operand;
use ganymede::graph::shape::Shape;
use ganymede::graph::tensor::Tensor;
use ganymede::nn::layer::Layer;
use ganymede::nn::network::{InitScheme, Network};
use ganymede::nn::state::{HostData, HostTensor};
use ganymede::ops::augment::{AugmentConfig, Fill, Rotate, Scale, Translate};
use ganymede::ops::gather::{self, Latent, Resident, Storage};
use ganymede::ops::noise::{Distribution, Source, noise_twin};
use ganymede::ops::optimiser::{Clip, Optimiser};
use ganymede::ops::stats::Stat;
use ganymede::plan::{Executor, Program, compile};

/// A GPU for a test, one test at a time: on two cores they only slow each other down. `None` where tests do not use one.
fn gpu() -> Option<(Arc<Gpu>, MutexGuard<'static, ()>)> {
    static ONE: Mutex<()> = Mutex::new(());
    testing::gpu()?;
    // A test that failed while it held the lock leaves nothing behind that another could trip over.
    let guard = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let adapter = std::env::var("GANYMEDE_TEST_ADAPTER").ok();
    let options = GpuOptions { adapter, pipeline_cache: false, ..GpuOptions::default() };
    Some((Arc::new(Gpu::open(&options).expect("the test GPU opens twice")), guard))
}

const IMAGES: usize = 21;

/// 16x16 grey images, each a disc of another place and brightness.
fn images() -> Vec<u8> {
    let pixel = |image: usize, y: usize, x: usize| {
        let (cy, cx) = (4 + image * 5 % 9, 4 + image * 7 % 8);
        let inside = (y as i64 - cy as i64).pow(2) + (x as i64 - cx as i64).pow(2) <= 9;
        if inside { 120 + 6 * image as u8 } else { 10 }
    };
    (0..IMAGES).flat_map(|i| (0..256).map(move |p| pixel(i, p / 16, p % 16))).collect()
}

fn conv(channels: usize, kernel: usize, stride: usize, padding: usize) -> Layer {
    Layer::conv2d(channels, kernel, stride, padding).without_bias()
}

fn conv_t(channels: usize, kernel: usize, stride: usize, padding: usize) -> Layer {
    Layer::conv_transpose2d(channels, kernel, stride, padding).without_bias()
}

/// A small DCGAN for 16x16 images, with every kind of layer and no width that is a multiple of four.
fn config() -> GanConfig {
    let (norm, leaky) = (Layer::batch_norm, || Layer::leaky_relu(0.2));
    let g = vec![conv_t(7, 4, 1, 0), norm(), Layer::relu(), conv_t(5, 4, 2, 1), norm(), Layer::relu(), conv_t(1, 4, 2, 1), Layer::tanh()];
    let d = vec![conv(5, 4, 2, 1), leaky(), conv(6, 4, 2, 1), norm(), leaky(), conv(1, 4, 1, 0)];
    let network = |name: &str, input: &[usize], layers| Network {
        name: name.into(),
        input: input.to_vec(),
        layers,
        data: Vec::new(),
        init: InitScheme::Dcgan,
        classes: None,
    };
    GanConfig {
        ema_half_life_kimg: 0.01,
        ema_ramp: 1.0,
        seed: 5,
        ..GanConfig::new(network("G", &[6], g), network("D", &[1, 16, 16], d), 4)
    }
}

fn trainer(gpu: &Arc<Gpu>, config: GanConfig) -> Trainer {
    let trainer = Trainer::new(gpu.clone(), config, &Inputs::Device { images: IMAGES }).expect("the trainer starts");
    trainer.upload_data(&images()).expect("the images fit");
    trainer
}

type Tensors = BTreeMap<String, HostTensor>;

fn tensors(trainer: &Trainer) -> Tensors {
    trainer.tensors().expect("the state reads")
}

fn floats<'a>(tensors: &'a Tensors, name: &str) -> &'a [f32] {
    tensors[name].as_f32().unwrap_or_else(|| panic!("{name} holds floats"))
}

/// Bits of every tensor whose name starts with one of `prefixes`.
fn bits(tensors: &Tensors, prefixes: &[&str]) -> BTreeMap<String, Vec<u32>> {
    let chosen: BTreeMap<_, _> = tensors
        .iter()
        .filter(|(name, _)| prefixes.iter().any(|prefix| name.starts_with(prefix)))
        .map(|(name, tensor)| {
            let words = match &tensor.data {
                HostData::F32(values) => values.iter().map(|v| v.to_bits()).collect(),
                HostData::U32(values) => values.clone(),
            };
            (name.clone(), words)
        })
        .collect();
    assert!(!chosen.is_empty(), "no tensor is named {prefixes:?}");
    chosen
}

/// Rows of the step table for the steps from `position`.
fn rows(config: &GanConfig, position: Position, steps: u64) -> Vec<StepRow> {
    (0..steps).map(|i| schedule::row(config, IMAGES, position.after(i, config.batch))).collect()
}

#[test]
fn several_discriminator_updates_are_as_many_steps_with_a_frozen_generator() {
    let Some((gpu, _guard)) = gpu() else { return };
    let mut results = BTreeSet::new();
    for d_steps in 1..=3 {
        let several = GanConfig { d_steps, ..config() };
        let mut together = trainer(&gpu, several.clone());
        together.run_steps(1).expect("a step");
        assert_eq!((together.position().step, together.position().images_seen), (1, 4), "images are counted once a step");

        let one = config();
        let mut apart = trainer(&gpu, one.clone());
        let whole = schedule::row(&several, IMAGES, Position::default());
        for update in 0..d_steps {
            let mut row = schedule::row(&one, IMAGES, apart.position());
            row.slots[StepRow::optimiser(0) as usize] = whole.slots[StepRow::optimiser(update) as usize];
            row.slots[StepRow::draw(0) as usize] = whole.slots[StepRow::draw(update) as usize];
            row.slots[StepRow::optimiser(1) as usize] = whole.slots[StepRow::optimiser(d_steps) as usize];
            row.slots[StepRow::STEP as usize] = whole.slots[StepRow::STEP as usize];
            if update + 1 < d_steps {
                row.slots[StepRow::optimiser(1) as usize][0] = 0;
            }
            apart.run_rows(&[row]).expect("a step");
            if update + 1 < d_steps {
                // The frozen generator's moments have moved: put them back.
                let mut state = tensors(&apart);
                for (name, tensor) in state.iter_mut().filter(|(name, _)| name.starts_with("adam.G.")) {
                    let HostData::F32(values) = &mut tensor.data else { panic!("{name} holds floats") };
                    assert!(values.iter().any(|v| *v != 0.0), "{name}");
                    values.fill(0.0);
                }
                let position = apart.position();
                apart.load_tensors(position, &state).expect("its own state");
            }
        }
        // All but D's running statistics, which also follow the pass of the generator's update, in which `apart` has more of.
        let same = ["G.", "G_ema.", "adam.", "D.0.weight", "D.2.weight", "D.3.weight", "D.3.bias", "D.5.weight"];
        let (together, apart) = (tensors(&together), tensors(&apart));
        assert_eq!(bits(&together, &same), bits(&apart, &same), "d_steps {d_steps}");
        results.insert(bits(&together, &["G.0.weight", "D.0.weight"]));
    }
    assert_eq!(results.len(), 3, "each number of updates gives other weights");
}

#[test]
fn the_average_is_the_recurrence() {
    let Some((gpu, _guard)) = gpu() else { return };
    let config = config();
    let mut trainer = trainer(&gpu, config.clone());
    let names: Vec<String> = tensors(&trainer).into_keys().filter(|name| name.starts_with("G_ema.")).collect();
    assert_eq!(names.len(), 11, "three weights, two norms with scale, shift, and two running statistics each");
    let before = tensors(&trainer);
    for name in &names {
        assert_eq!(before[name], before[&name.replace("G_ema.", "G.")], "the average begins as a copy");
    }
    let mut last = before;
    let mut decays = Vec::new();
    for _ in 0..4 {
        let row = rows(&config, trainer.position(), 1).remove(0);
        let decay = f64::from(f32::from_bits(row.slots[StepRow::STEP as usize][2]));
        decays.push(decay);
        trainer.run_steps(1).expect("a step");
        let now = tensors(&trainer);
        for name in &names {
            let own = floats(&now, &name.replace("G_ema.", "G."));
            assert_ne!(own, floats(&last, &name.replace("G_ema.", "G.")), "{name} does not train");
            for ((&average, &old), &value) in floats(&now, name).iter().zip(floats(&last, name)).zip(own) {
                let expected = decay * f64::from(old) + (1.0 - decay) * f64::from(value);
                let scale = f64::from(old.abs().max(value.abs()));
                assert!((f64::from(average) - expected).abs() <= 2.5e-7 * scale, "{name}: {average}, by the recurrence {expected}");
            }
        }
        last = now;
    }
    // A copy first, then averages that take something of both, with the ramp and then at the full half-life of 10 images.
    assert_eq!(decays[0], 0.0);
    let expected = [4.0, 8.0, 10.0].map(|half_life: f64| 0.5f64.powf(4.0 / half_life));
    for (decay, expected) in decays[1..].iter().zip(expected) {
        assert!((decay - expected).abs() < 1e-7, "{decays:?}");
    }
}

#[test]
fn adams_first_step_moves_weights_by_the_learning_rate_and_its_later_ones_by_the_formula() {
    let Some((gpu, _guard)) = gpu() else { return };
    let (lr_g, lr_d) = (2e-4, 3e-4);
    let (b1, b2, eps) = (0.5, 0.999, 1e-8);
    let adam = Optimiser::Adam { beta1: b1, beta2: b2, eps, weight_decay: 0.0 };
    let config = GanConfig { lr_g: lr_g.into(), lr_d: lr_d.into(), optimiser_g: adam, optimiser_d: adam, ..config() };
    let mut trainer = trainer(&gpu, config);
    let start = tensors(&trainer);
    trainer.run_steps(1).expect("a step");
    let first = tensors(&trainer);
    let mut last = (start, first.clone());
    for t in 1..=3 {
        for (network, lr) in [("G", lr_g), ("D", lr_d)] {
            let prefix = format!("adam.{network}.m.");
            let parameters: Vec<&str> = first.keys().filter_map(|name| name.strip_prefix(&prefix)).collect();
            assert_eq!(parameters.len(), if network == "G" { 7 } else { 5 });
            for name in parameters {
                let of = |tensors: &'_ Tensors, kind: &str| {
                    floats(tensors, &format!("{kind}.{name}")).iter().map(|&v| f64::from(v)).collect::<Vec<_>>()
                };
                let (old, new) = (of(&last.0, network), of(&last.1, network));
                let (m, v) = (of(&last.1, &format!("adam.{network}.m")), of(&last.1, &format!("adam.{network}.v")));
                let mut alive = 0;
                for i in 0..old.len() {
                    let moved = new[i] - old[i];
                    // Rounding of the weight itself, a few units in the last place.
                    let rounding = 2e-7 * new[i].abs().max(old[i].abs()) + 1e-4 * lr;
                    let expected = -lr * (m[i] / (1.0 - b1.powi(t))) / ((v[i] / (1.0 - b2.powi(t))).sqrt() + eps);
                    assert!(
                        (moved - expected).abs() <= rounding,
                        "{network}.{name}[{i}] in step {t}: moved by {moved}, by Adam's formula {expected}"
                    );
                    if t == 1 {
                        assert!(moved.abs() <= lr * (1.0 + 1e-3) + rounding, "{network}.{name}[{i}]: {moved}");
                        // One gradient: its mean and its mean square say the same of it.
                        let (g, square) = (m[i] / (1.0 - b1), v[i] / (1.0 - b2));
                        assert!((g * g - square).abs() <= 1e-5 * square + 1e-37, "{network}.{name}[{i}]: gradient {g}, square {square}");
                        if g.abs() > 1e-5 {
                            alive += 1;
                            assert!(
                                (moved.abs() - lr).abs() <= 2e-3 * lr + rounding && moved * g < 0.0,
                                "{network}.{name}[{i}]: {moved} along {g}"
                            );
                        }
                    }
                }
                assert!(t > 1 || alive * 2 >= old.len(), "{network}.{name}: only {alive} of {} weights have a gradient", old.len());
            }
        }
        trainer.run_steps(1).expect("a step");
        last = (last.1, tensors(&trainer));
    }
}

/// A dense GAN for 16x16 images, without batch norm.
fn dense() -> GanConfig {
    let network = |name: &str, input: &[usize], layers| Network {
        name: name.into(),
        input: input.to_vec(),
        layers,
        data: Vec::new(),
        init: InitScheme::PyTorch,
        classes: None,
    };
    let linear = |features: usize| Layer::linear(features);
    let (leaky, image) = (|| Layer::leaky_relu(0.2), Layer::unflatten([1, 16, 16]));
    GanConfig {
        generator: network("G", &[6], vec![linear(24), leaky(), linear(256), Layer::tanh(), image]),
        discriminator: network("D", &[1, 16, 16], vec![Layer::flatten(), linear(24), leaky(), linear(1)]),
        batch: 64,
        micro_batch: 64,
        d_steps: 2,
        ..config()
    }
}

/// How far the parameters and moments of two runs are apart, as a share of the way from `start`: the worst tensor.
fn apart(start: &Tensors, a: &Tensors, b: &Tensors) -> f64 {
    let distance = |name: &str, a: &Tensors, b: &Tensors| {
        floats(a, name).iter().zip(floats(b, name)).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>().sqrt()
    };
    let names = start.keys().filter(|name| *name != "tick.stats");
    names.map(|name| distance(name, a, b) / distance(name, start, a)).fold(0.0, f64::max)
}

#[test]
fn micro_batches_add_up_to_the_batch_where_no_batch_norm_is() {
    let Some((gpu, _guard)) = gpu() else { return };
    let run = |micro_batch, seed| {
        let mut trainer = trainer(&gpu, GanConfig { micro_batch, seed, ..dense() });
        let start = tensors(&trainer);
        trainer.run_steps(5).expect("five steps");
        let end = tensors(&trainer);
        let stats: BTreeMap<Stat, f64> = trainer.tick_stats().expect("statistics").into_iter().map(|(stat, s)| (stat, s.mean)).collect();
        (start, end, stats)
    };
    let (start, whole, stats) = run(64, 5);
    for micro_batch in [16, 1] {
        let (same_start, split, split_stats) = run(micro_batch, 5);
        assert_eq!(bits(&start, &[""]), bits(&same_start, &[""]));
        let off = apart(&start, &whole, &split);
        assert!(off < 1e-3, "micro-batches of {micro_batch} are {off} of the way off");
        assert_eq!(stats.keys().collect::<Vec<_>>(), split_stats.keys().collect::<Vec<_>>());
        for (stat, mean) in &stats {
            assert!((mean - split_stats[stat]).abs() < 1e-4 * mean.abs().max(1.0), "{}: {mean} and {}", stat.name(), split_stats[stat]);
        }
    }
    // The measure tells other noise and other batches apart.
    let (_, other, _) = run(16, 6);
    assert!(apart(&start, &whole, &other) > 0.1);
}

#[test]
fn runs_of_micro_batches_repeat_and_resume_to_the_bit() {
    let Some((gpu, _guard)) = gpu() else { return };
    for config in [GanConfig { micro_batch: 16, ..dense() }, GanConfig { micro_batch: 2, ..config() }] {
        let start = |steps_per_submit| {
            let mut trainer = trainer(&gpu, config.clone());
            trainer.set_steps_per_submit(Some(steps_per_submit));
            trainer
        };
        let mut whole = start(3);
        whole.run_steps(6).expect("six steps");
        let expected = bits(&tensors(&whole), &[""]);

        let mut first = start(1);
        first.run_steps(2).expect("two steps");
        let mut second = start(4);
        second.load_tensors(first.position(), &tensors(&first)).expect("the state loads");
        second.run_steps(4).expect("four steps");
        assert_eq!(bits(&tensors(&second), &[""]), expected);

        // The timed step is a step like the others.
        let mut timed = start(1);
        timed.run_steps(5).expect("five steps");
        let run = timed.time_step().expect("a timed step");
        let labels: Vec<&str> = run.spans.iter().map(|span| span.label.as_str()).collect();
        assert_eq!(labels, timed.plan().dispatches.iter().map(|(label, _)| label.as_str()).collect::<Vec<_>>());
        assert_eq!(bits(&tensors(&timed), &[""]), expected);
    }
}

#[test]
fn batch_norm_sees_each_micro_batch_alone() {
    let Some((gpu, _guard)) = gpu() else { return };
    let run = |micro_batch| {
        let mut trainer = trainer(&gpu, GanConfig { micro_batch, ..config() });
        trainer.run_steps(2).expect("two steps");
        assert_eq!(trainer.position().images_seen, 8);
        tensors(&trainer)
    };
    let (whole, split) = (run(4), run(2));
    let far = |name: &str| floats(&whole, name).iter().zip(floats(&split, name)).any(|(a, b)| (a - b).abs() > 1e-4);
    for name in ["G.1.running_mean", "D.3.running_var", "adam.D.m.2.weight"] {
        assert!(far(name), "{name} is the same for a batch of 4 and two of 2");
    }
}

#[test]
fn an_epoch_shows_every_image_once() {
    let Some((gpu, _guard)) = gpu() else { return };
    // 37 images of one byte that is their number, seen by batches of 8, two a step: epochs end inside of batches.
    let (count, batch, d_steps) = (37, 8, 2);
    let config = GanConfig { batch, micro_batch: batch, d_steps, ..config() };
    let mut program = Program::new("test");
    let data = program.buffer("data", count);
    let image = Shape::new(&[batch, 1, 2, 2]).expect("a shape");
    let real: Vec<_> = (0..d_steps).map(|u| program.tensor_buffer(format!("real.{u}"), &image)).collect();
    for (update, &real) in real.iter().enumerate() {
        let (shape, seed) = (image.clone(), config.seed);
        let segments = vec![Operand::Place(ganymede::graph::lower::Place { buffer: data, offset: 0, len: count })];
        let resident = Resident {
            segments,
            images: count,
            per_segment: count,
            image: [1, 2, 2],
            storage: Storage::U8,
            scale: 1.0,
            shift: 0.0,
            streamed: false,
        };
        program.effect("real", move |l| {
            let z = Latent { output: l.scratch(4 * batch), shape: Shape::new(&[batch, 1])?, source: Source { seed, stream: 1 } };
            gather::lower_draw_batch(l, &z, &resident, seed, StepRow::draw(update), (Operand::Place(real), &shape))
        });
    }
    let plan = compile(&mut program, &gpu.caps()).expect("the program compiles");
    let table = gpu.uniform("rows", StepRow::BYTES as u64).expect("a buffer");
    let executor = Executor::new(&gpu, "epochs", &plan, &Default::default(), Some(&table)).expect("the program binds");
    let bytes: Vec<u8> = (0..count).flat_map(|i| [i as u8, 100, 200, 100 + i as u8]).collect();
    gpu.write(executor.buffer(data), 0, &bytes).expect("written");

    let mut seen = Vec::new();
    let mut position = Position::default();
    while seen.len() < 5 * count {
        gpu.write(&table, 0, bytemuck::bytes_of(&schedule::row(&config, count, position))).expect("written");
        executor.submit(&gpu, 0..1).expect("submitted");
        for &place in &real {
            let values = Tensor::unpack(&image, &executor.read(&gpu, place).expect("read"));
            for pixels in values.data.chunks(4) {
                assert_eq!(pixels[1..], [100.0, 200.0, 100.0 + pixels[0]], "pixels of one image stay together");
                seen.push(pixels[0] as usize);
            }
        }
        position = position.after(1, batch);
    }
    let epochs: Vec<&[usize]> = seen.chunks_exact(count).collect();
    for (epoch, order) in epochs.iter().enumerate() {
        assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), (0..count).collect(), "epoch {epoch}");
        let twin: Vec<usize> =
            (0..count as u32).map(|p| gather::batch_index(config.seed, epoch as u32, count as u32, p) as usize).collect();
        assert_eq!(**order, twin, "epoch {epoch}");
    }
    assert_eq!(epochs.iter().collect::<BTreeSet<_>>().len(), epochs.len(), "each epoch has an order of its own");
}

#[test]
fn losses_and_statistics_agree() {
    let Some((gpu, _guard)) = gpu() else { return };
    for d_steps in [1, 2] {
        let mut trainer = trainer(&gpu, GanConfig { d_steps, ..config() });
        for steps in [3, 2] {
            let mut sums = [0.0; 3];
            let mut last = [0.0; 3];
            for _ in 0..steps {
                trainer.run_steps(1).expect("a step");
                last = trainer.losses().expect("losses").map(f64::from);
                sums.iter_mut().zip(last).for_each(|(sum, loss)| *sum += loss);
            }
            let stats: BTreeMap<Stat, _> = trainer.tick_stats().expect("statistics").into_iter().collect();
            for (i, stat) in [Stat::LossDReal, Stat::LossDFake, Stat::LossG].into_iter().enumerate() {
                let summary = &stats[&stat];
                let updates = if stat == Stat::LossG { 1 } else { d_steps as u64 };
                assert_eq!(summary.count, steps * updates, "{}", stat.name());
                assert!((summary.latest - last[i]).abs() <= 1e-6 * last[i], "{}: {} and {}", stat.name(), summary.latest, last[i]);
                if updates == 1 {
                    let mean = sums[i] / steps as f64;
                    assert!((summary.mean - mean).abs() <= 2e-6 * mean, "{}: {} and {mean}", stat.name(), summary.mean);
                }
            }
            // A loss of -log(p) averaged is at least -log of the averaged p (Jensen), and near it while D is unsure.
            let [d_x, d_g_z1, d_g_z2] = [Stat::DX, Stat::DGZ1, Stat::DGZ2].map(|stat| stats[&stat].mean);
            for (loss, p) in [(Stat::LossDReal, d_x), (Stat::LossDFake, 1.0 - d_g_z1), (Stat::LossG, d_g_z2)] {
                let excess = stats[&loss].mean + p.ln();
                assert!((-1e-6..0.2).contains(&excess), "{}: {} for a mean probability of {p}", loss.name(), stats[&loss].mean);
            }
            assert!(stats[&Stat::GradNormD].mean > 0.0 && stats[&Stat::GradNormG].mean > 0.0);
        }
        assert!(trainer.tick_stats().expect("statistics").is_empty(), "a tick of no steps has no statistics");
    }
}

#[test]
fn a_state_carries_over_to_another_trainer() {
    let Some((gpu, _guard)) = gpu() else { return };
    // What a step depends on besides the state must come from the position: rates that fall, several draws a step.
    let config = GanConfig { d_steps: 2, lr_g: Schedule::linear(2e-4, 0.0, 0.05), lr_d: Schedule::linear(2e-4, 0.0, 0.05), ..config() };
    let z: Vec<f32> =
        (0..5u64).flat_map(|seed| noise_twin(Source { seed, stream: Z_STREAM }, Distribution::Normal, 0, 6)).map(|v| v as f32).collect();
    let mut whole = trainer(&gpu, config.clone());
    whole.set_steps_per_submit(Some(8));
    whole.run_steps(9).expect("steps");
    let mut first = trainer(&gpu, config.clone());
    first.set_steps_per_submit(Some(1));
    first.run_steps(4).expect("steps");
    let state = tensors(&first);
    let mut second = trainer(&gpu, GanConfig { seed: config.seed, ..config.clone() });
    second.run_steps(2).expect("steps that are forgotten");
    second.load_tensors(first.position(), &state).expect("a state of the same configuration");
    assert_eq!(tensors(&second), state);
    assert_eq!(second.sample(&z).expect("images"), first.sample(&z).expect("images"));
    for steps in [3, 2] {
        second.run_steps(steps).expect("steps");
    }
    assert_eq!(second.position(), whole.position());
    assert_eq!(bits(&tensors(&second), &["G", "D", "adam", "tick"]), bits(&tensors(&whole), &["G", "D", "adam", "tick"]));
    assert_eq!(second.sample(&z).expect("images"), whole.sample(&z).expect("images"));
    assert_ne!(second.sample(&z).expect("images"), first.sample(&z).expect("images"));

    // A state that does not fit changes nothing.
    let before = tensors(&second);
    let position = second.position();
    let mut refused = |change: &dyn Fn(&mut Tensors), needle: &str| {
        let mut state = state.clone();
        change(&mut state);
        let error = second.load_tensors(Position::default(), &state).expect_err(needle);
        assert!(error.exit_code() == 2 && error.to_string().contains(needle), "{error}");
    };
    refused(&|state| drop(state.remove("adam.D.v.0.weight")), "tensor adam.D.v.0.weight is missing");
    refused(&|state| drop(state.insert("G.9.weight".into(), HostTensor::f32([1], vec![0.0]))), "tensor G.9.weight belongs to no part");
    refused(&|state| drop(state.insert("D.3.bias".into(), HostTensor::f32([5], vec![0.0; 5]))), "tensor D.3.bias has shape [5]");
    refused(
        &|state| drop(state.insert("D.3.bias".into(), HostTensor::u32([6], vec![0; 6]))),
        "tensor D.3.bias should hold 6 32-bit floats",
    );
    refused(&|state| drop(state.remove("tick.stats")), "tensor tick.stats is missing");
    assert_eq!((tensors(&second), second.position()), (before, position));
}

#[test]
fn a_number_that_is_not_finite_is_named() {
    let Some((gpu, _guard)) = gpu() else { return };
    for (planted, culprits) in [("G.3.weight", &["the discriminator's output"][..]), ("D.2.weight", &["the discriminator's output"])] {
        let mut trainer = trainer(&gpu, config());
        trainer.run_steps(2).expect("steps");
        trainer.check_finite().expect("all is well so far");
        let mut state = tensors(&trainer);
        let HostData::F32(values) = &mut state.get_mut(planted).expect("a tensor").data else { panic!("{planted} holds floats") };
        values[1] = f32::NAN;
        let position = trainer.position();
        trainer.load_tensors(position, &state).expect("its own state");
        trainer.run_steps(3).expect("steps");
        for error in [trainer.check_finite().expect_err("a NaN"), trainer.tick_stats().expect_err("a NaN")] {
            let text = error.to_string();
            assert_eq!(error.exit_code(), 4, "{text}");
            assert!(culprits.iter().any(|c| text.starts_with(c)) && text.ends_with("is not finite in step 2"), "{planted}: {text}");
        }
        // A good state makes it a good trainer again.
        let mut good = self::trainer(&gpu, config());
        good.run_steps(1).expect("a step");
        trainer.load_tensors(good.position(), &tensors(&good)).expect("a state of the same configuration");
        trainer.run_steps(1).expect("a step");
        trainer.check_finite().expect("the bad event is forgotten");
    }
}

/// Share of the gap between the first fakes and real images that samples have closed after 150 steps on built-in digits.
fn gap_closed_by_training(gpu: &Arc<Gpu>, seed: u64) -> f64 {
    let n = 500;
    let load = |split| data::load("builtin:digits?n=2000", &LoadOptions { seed, split, pad_to: None }).expect("built-in digits");
    let (train, test) = (load(Split::Train), load(Split::Test));
    let (norm, leaky) = (Layer::batch_norm, || Layer::leaky_relu(0.2));
    let g = vec![conv_t(24, 7, 1, 0), norm(), Layer::relu(), conv_t(12, 4, 2, 1), norm(), Layer::relu(), conv_t(1, 4, 2, 1), Layer::tanh()];
    let d = vec![conv(12, 4, 2, 1), leaky(), conv(24, 4, 2, 1), norm(), leaky(), conv(1, 7, 1, 0)];
    let network = |name: &str, input: &[usize], layers| Network {
        name: name.into(),
        input: input.to_vec(),
        layers,
        data: Vec::new(),
        init: InitScheme::Dcgan,
        classes: None,
    };
    let config = GanConfig {
        generator: network("G", &[16], g),
        discriminator: network("D", &[1, 28, 28], d),
        z_dim: 16,
        batch: 16,
        micro_batch: 16,
        lr_g: 1e-3.into(),
        lr_d: 1e-3.into(),
        ema_half_life_kimg: 1.0,
        ema_ramp: 0.05,
        seed,
        ..config()
    };
    let mut trainer = Trainer::new(gpu.clone(), config, &Inputs::Device { images: train.count }).expect("the trainer starts");
    trainer.upload_data(&train.images).expect("the images fit");
    let z: Vec<f32> = (0..n as u64)
        .flat_map(|seed| noise_twin(Source { seed, stream: Z_STREAM }, Distribution::Normal, 0, 16))
        .map(|v| v as f32)
        .collect();
    let held_out = test.gather_f32(0..n);
    let distance = |other: &[f32]| sliced_wasserstein(&held_out, other, 784, DEFAULT_PROJECTIONS, 0).expect("equal sets");
    let initial = distance(&trainer.sample(&z).expect("images").data);
    let floor = distance(&train.gather_f32(0..n));
    for _ in 0..3 {
        trainer.run_steps(50).expect("steps");
        trainer.check_finite().expect("finite");
    }
    let last = distance(&trainer.sample(&z).expect("images").data);
    let closed = gap_closed(initial, last, floor).expect("a gap");
    println!("seed {seed}: initial {initial:.4}, floor {floor:.4}, final {last:.4}, {:.1} % closed", 100.0 * closed);
    closed
}

#[test]
fn training_brings_samples_nearer_to_real_images() {
    let Some((gpu, _guard)) = gpu() else { return };
    // Measured on lavapipe: 58, 65 and 65 %. With a discriminator that does not learn 13 % (in 200 steps), with a generator that climbs instead of
    // descending -21 %. Half of the worst leaves room for other adapters' rounding.
    for seed in 0..3 {
        let closed = gap_closed_by_training(&gpu, seed);
        assert!(closed >= 0.3, "seed {seed}: {:.1} % of the gap closed", 100.0 * closed);
    }
}

/// Optimisers with each amount of state, and clipping.
fn with_other_optimisers() -> [GanConfig; 3] {
    let sgd = |momentum| Optimiser::Sgd { momentum, nesterov: false, weight_decay: 1e-3 };
    let rmsprop = |momentum| Optimiser::RmsProp { alpha: 0.99, eps: 1e-8, momentum, weight_decay: 0.0 };
    let adamw = Optimiser::AdamW { beta1: 0.5, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 };
    [
        GanConfig { optimiser_g: sgd(0.0), optimiser_d: sgd(0.9), clip_d: Some(Clip::Norm(0.5)), ..config() },
        GanConfig { optimiser_g: rmsprop(0.0), optimiser_d: rmsprop(0.5), weight_clip: Some(0.05), ..config() },
        GanConfig { optimiser_g: adamw, clip_g: Some(Clip::Norm(1e-2)), clip_d: Some(Clip::Value(1e-2)), ..config() },
    ]
}

#[test]
fn checkpoints_hold_the_state_that_each_optimiser_keeps() {
    let Some((gpu, _guard)) = gpu() else { return };
    let expected: [&[&str]; 3] =
        [&["sgd.D.m"], &["rmsprop.G.v", "rmsprop.D.m", "rmsprop.D.v"], &["adam.G.m", "adam.G.v", "adam.D.m", "adam.D.v"]];
    for (config, expected) in with_other_optimisers().into_iter().zip(expected) {
        let mut whole = trainer(&gpu, config.clone());
        let kept = |state: &Tensors| -> BTreeSet<String> {
            let moments = state.keys().filter(|name| ["sgd.", "rmsprop.", "adam."].iter().any(|kind| name.starts_with(kind)));
            moments.map(|name| name.splitn(4, '.').take(3).collect::<Vec<_>>().join(".")).collect()
        };
        assert_eq!(kept(&tensors(&whole)), expected.iter().map(ToString::to_string).collect::<BTreeSet<_>>());
        whole.run_steps(4).expect("steps");
        whole.check_finite().expect("finite");
        let mut first = trainer(&gpu, config.clone());
        first.run_steps(2).expect("steps");
        let mut second = trainer(&gpu, config.clone());
        second.load_tensors(first.position(), &tensors(&first)).expect("a state of the same configuration");
        second.run_steps(2).expect("steps");
        let names = ["G", "D", "adam", "sgd", "rmsprop", "tick"];
        assert_eq!(bits(&tensors(&second), &names), bits(&tensors(&whole), &names));
        if let Some(bound) = config.weight_clip {
            let largest = tensors(&whole)
                .iter()
                .filter(|(name, _)| name.starts_with("D.") && !name.contains("running"))
                .fold(0.0f32, |m, (_, t)| t.as_f32().expect("floats").iter().fold(m, |m, v| m.max(v.abs())));
            assert_eq!(largest, bound as f32, "weights reach the bound and stay within it");
        }
    }
    let mut other = trainer(&gpu, config());
    let error =
        other.load_tensors(Position::default(), &tensors(&trainer(&gpu, with_other_optimisers()[0].clone()))).expect_err("no moments");
    assert!(error.exit_code() == 2 && error.to_string().contains("tensor adam.G.m.0.weight is missing"), "{error}");
}

/// Plain descent at rate 1 shows the gradient, so that clipping shows as what it did to it.
#[test]
fn clipping_scales_the_whole_gradient_of_a_network() {
    let Some((gpu, _guard)) = gpu() else { return };
    let sgd = Optimiser::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    for micro_batch in [4, 2] {
        let base = GanConfig { lr_g: 1.0.into(), lr_d: 1.0.into(), optimiser_g: sgd, optimiser_d: sgd, micro_batch, ..config() };
        let gradient = |config: GanConfig| -> (Vec<f64>, f64) {
            let mut trainer = trainer(&gpu, config);
            let start = tensors(&trainer);
            trainer.run_steps(1).expect("a step");
            let end = tensors(&trainer);
            let names = start.keys().filter(|name| name.starts_with("D.") && !name.contains("running"));
            let apart =
                |name: &String| floats(&start, name).iter().zip(floats(&end, name)).map(|(a, b)| f64::from(a - b)).collect::<Vec<_>>();
            let stats: BTreeMap<Stat, f64> = trainer.tick_stats().expect("statistics").into_iter().map(|(s, v)| (s, v.latest)).collect();
            (names.flat_map(apart).collect(), stats[&Stat::GradNormD])
        };
        let (free, logged) = gradient(base.clone());
        let norm = free.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert!((norm - logged).abs() <= 1e-4 * norm, "the gradient moved weights by {norm}, its norm is logged as {logged}");
        let check = |clip: Clip, expected: &dyn Fn(f64) -> f64| {
            let (clipped, still) = gradient(GanConfig { clip_d: Some(clip), ..base.clone() });
            assert_eq!(still, logged, "{clip}: what is logged is the norm before clipping");
            for (i, (got, g)) in clipped.iter().zip(&free).enumerate() {
                // Weights are below 0.1 here, and lose digits when a step of 1 is read off them.
                assert!((got - expected(*g)).abs() <= 1e-6 + 1e-5 * g.abs(), "{clip}: element {i} is {got}, expected {}", expected(*g));
            }
        };
        check(Clip::Norm(norm / 3.0), &|g| g * (norm / 3.0) / (norm + 1e-6));
        check(Clip::Norm(2.0 * norm), &|g| g);
        let limit = free.iter().fold(0.0f64, |m, g| m.max(g.abs())) / 4.0;
        check(Clip::Value(limit), &|g| g.clamp(-limit, limit));
    }
}

/// Every transform, each often.
fn augmented() -> AugmentConfig {
    AugmentConfig {
        mirror: 0.5,
        flip: 0.25,
        rotate: Some(Rotate { p: 0.5, degrees: 40.0 }),
        scale: Some(Scale { p: 0.5, range: [0.7, 1.4] }),
        translate: Some(Translate { p: 0.5, range: 0.2 }),
        ..AugmentConfig::default()
    }
}

/// Only the reals are augmented, all of them, and exactly: mirroring each of them is training on a mirrored data set, to the bit.
#[test]
fn mirroring_every_image_is_training_on_mirrored_data() {
    let Some((gpu, _guard)) = gpu() else { return };
    let upside_down_and_mirrored: Vec<u8> = images().chunks(256).flat_map(|image| image.iter().rev().copied()).collect();
    for config in [GanConfig { d_steps: 2, ..config() }, dense(), GanConfig { micro_batch: 16, ..dense() }] {
        let run = |augment, images: &[u8]| {
            let trainer = Trainer::new(gpu.clone(), GanConfig { augment, ..config.clone() }, &Inputs::Device { images: IMAGES });
            let mut trainer = trainer.expect("the trainer starts");
            trainer.upload_data(images).expect("the images fit");
            trainer.run_steps(3).expect("three steps");
            bits(&tensors(&trainer), &[""])
        };
        let both = AugmentConfig { mirror: 1.0, flip: 1.0, ..AugmentConfig::default() };
        let expected = run(AugmentConfig::default(), &upside_down_and_mirrored);
        assert_eq!(run(both, &images()), expected);
        assert_ne!(run(AugmentConfig::default(), &images()), expected);
        // What never happens is nothing.
        let never = AugmentConfig { rotate: Some(Rotate { p: 0.0, degrees: 90.0 }), ..AugmentConfig::default() };
        assert_eq!(run(never, &upside_down_and_mirrored), expected);
    }
}

#[test]
fn micro_batches_are_augmented_as_the_whole_batch_is() {
    let Some((gpu, _guard)) = gpu() else { return };
    let run = |micro_batch, augment| {
        let mut trainer = trainer(&gpu, GanConfig { micro_batch, augment, ..dense() });
        let start = tensors(&trainer);
        trainer.run_steps(3).expect("three steps");
        (start, tensors(&trainer))
    };
    let (start, whole) = run(64, augmented());
    for micro_batch in [16, 1] {
        let (_, split) = run(micro_batch, augmented());
        let off = apart(&start, &whole, &split);
        assert!(off < 1e-3, "micro-batches of {micro_batch} are {off} of the way off");
    }
    // The measure tells other images apart.
    assert!(apart(&start, &whole, &run(64, AugmentConfig { mirror: 1.0, ..augmented() }).1) > 0.01);
}

#[test]
fn augmented_runs_repeat_and_resume_to_the_bit() {
    let Some((gpu, _guard)) = gpu() else { return };
    for config in [config(), GanConfig { micro_batch: 2, ..config() }] {
        let start = || trainer(&gpu, GanConfig { augment: augmented(), ..config.clone() });
        let mut whole = start();
        whole.run_steps(6).expect("six steps");
        let expected = bits(&tensors(&whole), &[""]);
        let mut first = start();
        first.run_steps(2).expect("two steps");
        let mut second = start();
        second.load_tensors(first.position(), &tensors(&first)).expect("the state loads");
        second.run_steps(4).expect("four steps");
        assert_eq!(bits(&tensors(&second), &[""]), expected);
        let mut plain = trainer(&gpu, config.clone());
        plain.run_steps(6).expect("six steps");
        assert_ne!(bits(&tensors(&plain), &[""]), expected);
    }
}

/// Black beyond the edge of black images changes nothing, whatever number black is for the networks.
#[test]
fn the_fill_is_a_shade_in_every_range() {
    let Some((gpu, _guard)) = gpu() else { return };
    let translate = Some(Translate { p: 1.0, range: 1.0 });
    for (range, byte, shade) in [(ValueRange::Unit, 0, -1.0), (ValueRange::Unit, 255, 1.0), (ValueRange::Signed, 255, 1.0)] {
        let run = |augment| {
            let config = GanConfig { augment, range, ..config() };
            let mut trainer = Trainer::new(gpu.clone(), config, &Inputs::Device { images: IMAGES }).expect("the trainer starts");
            trainer.upload_data(&vec![byte; IMAGES * 256]).expect("the images fit");
            trainer.run_steps(1).expect("a step");
            trainer.losses().expect("losses")[0]
        };
        let plain = run(AugmentConfig::default());
        let filled = |shade| run(AugmentConfig { translate, fill: Fill::Constant(shade), ..AugmentConfig::default() });
        assert!((filled(shade) - plain).abs() < 1e-4 * plain, "{range:?} {byte}: {} for {plain}", filled(shade));
        assert!((filled(-shade) - plain).abs() > 1e-3 * plain, "{range:?} {byte}: the fill does not matter");
    }
}
