//! The whole training step against PyTorch: the same initial weights, batches and noise through ten steps, and proof that planted faults are noticed.

mod common;

use common::Fixture;
use ganymede::error::Result;
use ganymede::gan::config::GanConfig;
use ganymede::gan::schedule::{self, Position, Schedule};
use ganymede::gan::step::{Inputs, Step, StepBuilder, Which, build};
use ganymede::gan::trainer::Trainer;
use ganymede::gpu::step::StepRow;
use ganymede::gpu::{Gpu, GpuOptions, testing};
use ganymede::graph::tensor::Tensor;
use ganymede::nn::layer::Layer;
use ganymede::nn::network::{InitScheme, Network};
use ganymede::nn::state::HostData;
use ganymede::ops::batch::ConcatBatch;
use ganymede::ops::elementwise::Add;
use ganymede::ops::optimiser::Optimiser;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;

const STEPS: usize = 10;

/// A trajectory fixture and its networks.
struct Trajectory {
    start: Fixture,
    real: Fixture,
    end: Fixture,
    config: GanConfig,
}

impl Trajectory {
    fn load(name: &str, generator: Vec<Layer>, discriminator: Vec<Layer>) -> Self {
        let start = Fixture::load(name);
        let number = |key: &str| start.parameters[key].as_f64().unwrap_or_else(|| panic!("{name} has no parameter {key}"));
        let network = |name: &str, input: &[usize], layers| Network {
            name: name.to_string(),
            input: input.to_vec(),
            layers,
            data: Vec::new(),
            init: InitScheme::PyTorch,
            classes: None,
        };
        let real = Fixture::load(&format!("{name}_real"));
        let z_dim = start.get("z.0").shape.dims()[1];
        let generator = network("G", &[z_dim], generator);
        let discriminator = network("D", &real.get("real.0").shape.dims()[1..], discriminator);
        let adam = Optimiser::Adam { beta1: number("beta1"), beta2: number("beta2"), eps: number("adam_eps"), weight_decay: 0.0 };
        let config = GanConfig {
            lr_g: number("lr").into(),
            lr_d: number("lr").into(),
            optimiser_g: adam,
            optimiser_d: adam,
            ema_half_life_kimg: 1.0,
            ..GanConfig::new(generator, discriminator, number("batch") as usize)
        };
        Trajectory { end: Fixture::load(&format!("{name}_final")), real, start, config }
    }

    fn dcgan() -> Self {
        let conv_t = |channels: usize, stride, padding| Layer::conv_transpose2d(channels, 4, stride, padding);
        let conv = |channels: usize, stride, padding| Layer::conv2d(channels, 4, stride, padding);
        let norm = Layer::batch_norm;
        let generator = vec![
            conv_t(6, 1, 0).without_bias(),
            norm(),
            Layer::relu(),
            conv_t(5, 2, 1).without_bias(),
            norm(),
            Layer::relu(),
            conv_t(1, 2, 1),
            Layer::tanh(),
        ];
        let leaky = || Layer::leaky_relu(0.2);
        let discriminator = vec![conv(5, 2, 1), leaky(), conv(6, 2, 1).without_bias(), norm(), leaky(), conv(1, 1, 0).without_bias()];
        Self::load("trajectory_dcgan", generator, discriminator)
    }

    fn mlp() -> Self {
        let linear = |features: usize| Layer::linear(features);
        let leaky = || Layer::leaky_relu(0.2);
        let generator = vec![linear(16), leaky(), linear(25), Layer::tanh()];
        let discriminator = vec![linear(16), leaky(), linear(1)];
        Self::load("trajectory_mlp", generator, discriminator)
    }

    /// Runs the ten steps and returns every disagreement with PyTorch.
    fn disagreements(
        &self,
        gpu: &Arc<Gpu>,
        step: Step,
        config: &GanConfig,
        fault: impl Fn(&mut StepRow, &mut Tensor),
    ) -> Result<Vec<String>> {
        let mut trainer = Trainer::from_step(gpu.clone(), config.clone(), step, 0)?;
        for name in ["G", "D"] {
            trainer.load_network(name, &under(&self.start, &format!("{name}.init.")))?;
        }
        let mut wrong = Vec::new();
        for i in 0..STEPS {
            let mut z = self.start.get(&format!("z.{i}")).clone();
            let mut row = schedule::row(config, 0, Position::default().after(i as u64, config.batch));
            fault(&mut row, &mut z);
            trainer.upload_batch(0, &z, self.real.get(&format!("real.{i}")))?;
            trainer.run_rows(&[row])?;
            let expected = ["loss_d_real", "loss_d_fake", "loss_g"].map(|n| self.start.get(&format!("{n}.{i}")).data[0]);
            for (got, expected) in trainer.losses()?.into_iter().zip(expected) {
                let worst = (got as f64 - expected).abs();
                if worst.is_nan() || worst > 1e-4 {
                    wrong.push(format!("loss of step {i}: {got}, PyTorch {expected}"));
                }
            }
        }
        let tensors = trainer.tensors()?;
        for (name, expected) in self.end.tensors.iter().filter(|(name, _)| name.contains(".final.")) {
            let start = self.start.get(&name.replace(".final.", ".init."));
            let HostData::F32(got) = &tensors[&name.replace(".final.", ".")].data else { panic!("{name} is not f32") };
            let moved = norm(start.data.iter().zip(&expected.data).map(|(a, b)| b - a));
            let apart = norm(got.iter().zip(&expected.data).map(|(a, b)| *a as f64 - b));
            if apart.is_nan() || apart > 1e-2 * moved {
                wrong.push(format!("{name}: {apart:.3e} from PyTorch after a movement of {moved:.3e}"));
            }
        }
        Ok(wrong)
    }

    fn step(&self) -> Step {
        build(&self.config, &Inputs::Given, 128 << 20).expect("the step builds")
    }
}

/// Tensors whose name starts with `prefix`, without it.
fn under(fixture: &Fixture, prefix: &str) -> HashMap<String, Tensor> {
    fixture.tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_string(), t.clone()))).collect()
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

/// A GPU of its own for each test, because trainers own theirs; none where the shared test GPU is off.
fn gpu() -> Option<Arc<Gpu>> {
    testing::gpu()?;
    Some(Arc::new(Gpu::open(&GpuOptions { pipeline_cache: false, ..GpuOptions::default() }).expect("the test GPU opens twice")))
}

fn keep(_: &mut StepRow, _: &mut Tensor) {}

#[test]
fn ten_steps_agree_with_pytorch() {
    let Some(gpu) = gpu() else { return };
    for trajectory in [Trajectory::dcgan(), Trajectory::mlp()] {
        let wrong = trajectory.disagreements(&gpu, trajectory.step(), &trajectory.config, keep).expect("the trajectory runs");
        assert!(wrong.is_empty(), "{}:\n{}", trajectory.start.name, wrong.join("\n"));
    }
}

/// The MLP's trajectory with other optimisers, clipping and schedules for each network.
struct Variation {
    name: String,
    trajectory: Trajectory,
    /// What PyTorch made of it: losses and the end.
    outcome: Fixture,
}

impl Variation {
    fn load(index: usize) -> Self {
        let outcome = Fixture::load(&format!("optimisers_trajectory_{index}"));
        let mut trajectory = Trajectory::mlp();
        fn setting<T: DeserializeOwned>(outcome: &Fixture, key: &str) -> T {
            serde_json::from_value(outcome.parameters[key].clone()).unwrap_or_else(|e| panic!("{} {key}: {e}", outcome.name))
        }
        trajectory.config = GanConfig {
            lr_g: setting(&outcome, "lr_g"),
            lr_d: setting(&outcome, "lr_d"),
            optimiser_g: setting(&outcome, "optimiser_g"),
            optimiser_d: setting(&outcome, "optimiser_d"),
            clip_g: setting(&outcome, "clip_g"),
            clip_d: setting(&outcome, "clip_d"),
            weight_clip: setting(&outcome, "weight_clip"),
            ..trajectory.config
        };
        // Losses stand beside the start, parameters beside the end.
        for (name, tensor) in &outcome.tensors {
            let fixture = if name.starts_with("loss") { &mut trajectory.start } else { &mut trajectory.end };
            assert!(fixture.tensors.insert(name.clone(), tensor.clone()).is_some(), "{} has no {name}", fixture.name);
        }
        Variation { name: outcome.name.clone(), trajectory, outcome }
    }

    fn disagreements(&self, gpu: &Arc<Gpu>, config: &GanConfig) -> Vec<String> {
        let step = build(config, &Inputs::Given, 128 << 20).expect("the step builds");
        self.trajectory.disagreements(gpu, step, config, keep).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }
}

#[test]
fn other_optimisers_agree_with_pytorch_and_every_setting_matters() {
    let Some(gpu) = gpu() else { return };
    for variation in [0, 1, 2].map(Variation::load) {
        let config = &variation.trajectory.config;
        assert_eq!(variation.outcome.tensors.keys().filter(|name| name.starts_with("loss")).count(), 3 * STEPS);
        let wrong = variation.disagreements(&gpu, config);
        assert!(wrong.is_empty(), "{}:\n{}", variation.name, wrong.join("\n"));

        let without_decay = |mut optimiser: Optimiser| {
            match &mut optimiser {
                Optimiser::Sgd { weight_decay, .. }
                | Optimiser::Adam { weight_decay, .. }
                | Optimiser::AdamW { weight_decay, .. }
                | Optimiser::RmsProp { weight_decay, .. } => *weight_decay = 0.0,
            }
            optimiser
        };
        let others = [
            ("no clipping of G", GanConfig { clip_g: None, ..config.clone() }),
            ("no clipping of D", GanConfig { clip_d: None, ..config.clone() }),
            ("no clipping of weights", GanConfig { weight_clip: None, ..config.clone() }),
            ("no weight decay of G", GanConfig { optimiser_g: without_decay(config.optimiser_g), ..config.clone() }),
            ("no weight decay of D", GanConfig { optimiser_d: without_decay(config.optimiser_d), ..config.clone() }),
            ("a constant rate of G", GanConfig { lr_g: Schedule::constant(config.lr_g.start), ..config.clone() }),
            ("a constant rate of D", GanConfig { lr_d: Schedule::constant(config.lr_d.start), ..config.clone() }),
            ("the optimisers swapped", GanConfig { optimiser_g: config.optimiser_d, optimiser_d: config.optimiser_g, ..config.clone() }),
        ];
        for (what, other) in others.into_iter().filter(|(_, other)| other != config) {
            assert!(!variation.disagreements(&gpu, &other).is_empty(), "{}: {what} goes unnoticed", variation.name);
        }
    }
}

/// The parts of a step, put together by the test with one mistake.
#[derive(Clone, Copy, PartialEq)]
enum Mistake {
    None,
    /// G's step looks through the discriminator of before the update.
    StaleDiscriminator,
    /// D's loss also moves G, as if the fake were not detached.
    UndetachedFake,
    /// D's running statistics move twice for one pass.
    StatisticsTwice,
    /// Real and fake share batch statistics.
    SharedStatistics,
}

fn mistaken(config: &GanConfig, mistake: Mistake) -> Result<Step> {
    let mut step = StepBuilder::new(config, &Inputs::Given, 128 << 20)?;
    let generator = step.parameters(Which::Generator)?;
    let (z, real) = step.draw(0)?;
    let fake = step.generate(&generator, z)?;
    let d = step.parameters(Which::Discriminator)?;
    let groups = if mistake == Mistake::SharedStatistics { 1 } else { 2 };
    let both = step.program().graph.apply(ConcatBatch, &[real, fake])?;
    let forward = step.discriminator_forward(&d, both, groups, "D/pair")?;
    step.track(Which::Discriminator, &forward)?;
    if mistake == Mistake::StatisticsTwice {
        step.track(Which::Discriminator, &forward)?;
    }
    let logits = step.logits(&forward)?;
    let loss_d = step.discriminator_loss(logits)?;
    let stale = if mistake == Mistake::StaleDiscriminator { Some(step.discriminate(&d, fake)?) } else { None };
    let stale_loss = stale.map(|logits| step.generator_loss(logits)).transpose()?;
    if mistake == Mistake::StaleDiscriminator {
        // Evaluated before the update, as a stale network would be.
        step.update(Which::Generator, &generator, stale_loss.expect("made above"), 1)?;
        step.update(Which::Discriminator, &d, loss_d, 0)?;
        step.average()?;
        return Ok(step.finish());
    }
    step.update(Which::Discriminator, &d, loss_d, 0)?;
    let d = step.parameters(Which::Discriminator)?;
    let logits = step.discriminate(&d, fake)?;
    let mut loss = step.generator_loss(logits)?;
    if mistake == Mistake::UndetachedFake {
        loss = step.program().graph.apply(Add, &[loss, loss_d])?;
    }
    step.update(Which::Generator, &generator, loss, 1)?;
    step.average()?;
    Ok(step.finish())
}

#[test]
fn planted_faults_are_noticed() {
    let Some(gpu) = gpu() else { return };
    let trajectory = Trajectory::dcgan();
    let config = &trajectory.config;
    let run = |name: &str, step: Step, config: &GanConfig, fault: &dyn Fn(&mut StepRow, &mut Tensor)| {
        let wrong = trajectory.disagreements(&gpu, step, config, fault).unwrap_or_else(|e| panic!("{name}: {e}"));
        (name.to_string(), wrong)
    };
    let by_hand = run("no mistake", mistaken(config, Mistake::None).expect("builds"), config, &keep);
    assert!(by_hand.1.is_empty(), "the step put together by the test is wrong by itself:\n{}", by_hand.1.join("\n"));

    let mut outcomes = vec![
        run("old D in the G step", mistaken(config, Mistake::StaleDiscriminator).expect("builds"), config, &keep),
        run("running statistics updated twice", mistaken(config, Mistake::StatisticsTwice).expect("builds"), config, &keep),
        run("shared batch statistics", mistaken(config, Mistake::SharedStatistics).expect("builds"), config, &keep),
    ];
    let mut swapped = config.clone();
    for optimiser in [&mut swapped.optimiser_g, &mut swapped.optimiser_d] {
        if let Optimiser::Adam { beta1, beta2, .. } = optimiser {
            std::mem::swap(beta1, beta2);
        }
    }
    outcomes.push(run("swapped betas", build(&swapped, &Inputs::Given, 128 << 20).expect("builds"), &swapped, &keep));
    outcomes.push(run("no bias correction", trajectory.step(), config, &|row, _| {
        for update in 0..2 {
            let slot = &mut row.slots[StepRow::optimiser(update) as usize];
            slot[1] = 1f32.to_bits();
            slot[2] = 1f32.to_bits();
        }
    }));
    outcomes.push(run("a NaN in z", trajectory.step(), config, &|_, z| z.data[3] = f64::NAN));
    outcomes.push(run("one row of z not written", trajectory.step(), config, &|_, z| z.data[..10].fill(0.0)));
    let unnoticed: Vec<&String> = outcomes.iter().filter(|(_, wrong)| wrong.is_empty()).map(|(name, _)| name).collect();
    assert!(unnoticed.is_empty(), "faults that the trajectory did not notice: {unnoticed:?}");

    // An undetached fake gives G a gradient through parameters that D's update has overwritten: the plan itself refuses it.
    let error = mistaken(config, Mistake::UndetachedFake)
        .and_then(|step| trajectory.disagreements(&gpu, step, config, keep).map(|_| ()))
        .expect_err("an undetached fake must not compile");
    assert!(error.to_string().contains("read after its buffer was overwritten"), "{error}");
}

#[test]
fn rotated_kernel_is_noticed() {
    let Some(gpu) = gpu() else { return };
    let trajectory = Trajectory::dcgan();
    let mut trainer = Trainer::from_step(gpu, trajectory.config.clone(), trajectory.step(), 0).expect("the trainer starts");
    for name in ["G", "D"] {
        let mut state = under(&trajectory.start, &format!("{name}.init."));
        if name == "D" {
            // A kernel rotated by 180 degrees is what a true convolution in place of a cross-correlation would compute with.
            let weight = state.get_mut("2.weight").expect("D has a second convolution");
            let [o, i, kh, kw] = weight.shape.nchw();
            let original = weight.data.clone();
            for outer in 0..o * i {
                let at = outer * kh * kw;
                weight.data[at..at + kh * kw].iter_mut().zip(original[at..at + kh * kw].iter().rev()).for_each(|(to, from)| *to = *from);
            }
        }
        trainer.load_network(name, &state).expect("the weights fit");
    }
    trainer.upload_batch(0, trajectory.start.get("z.0"), trajectory.real.get("real.0")).expect("the batch fits");
    trainer.run_rows(&[schedule::row(&trajectory.config, 0, Position::default())]).expect("the step runs");
    let expected = ["loss_d_real", "loss_d_fake", "loss_g"].map(|n| trajectory.start.get(&format!("{n}.0")).data[0]);
    let apart = trainer.losses().expect("losses").into_iter().zip(expected).map(|(a, b)| (a as f64 - b).abs()).fold(0.0, f64::max);
    assert!(apart > 1e-3, "rotating a kernel changed the losses by only {apart:e}");
}
