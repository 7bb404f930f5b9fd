//! One training step as a program.
//!
//! [`build`] is the algorithm; [`StepBuilder`] holds its parts, so that tests can put them together wrongly and see the suite notice.

use super::config::GanConfig;
pub use super::inputs::{Inputs, MAX_STEPS_PER_SUBMIT, Ring};
use super::loss::Score;
pub use super::stores::{NetworkStores, Which};
use crate::error::{Error, Result};
use crate::gpu::step::StepRow;
use crate::graph::lower::{Lowering, Operand, Place};
use crate::graph::shape::Shape;
use crate::graph::{Kind, NodeId};
use crate::nn::build::NORM_MOMENTUM;
use crate::nn::layer::Layer;
use crate::nn::network::{Forward, Input, Mode, Network, Noise, Params};
use crate::nn::store::{ALIGNMENT, Store};
use crate::ops::augment::lower_augment;
use crate::ops::batch::{ConcatBatch, slice_batch};
use crate::ops::batch_norm_whole::Running;
use crate::ops::bce::bce_parts;
use crate::ops::elementwise::add;
use crate::ops::gather::{self, Latent, Resident};
use crate::ops::labels::{self, ResidentLabels};
use crate::ops::loss::Target;
use crate::ops::noise::{self, Distribution, Draw, Source};
use crate::ops::optimiser::{self, BLOCK, Clip, FACTOR_WORDS, UpdateStores};
use crate::ops::reshape::reshape;
use crate::ops::stats::{self, BadEvent, Job, ScoreTargets, Stat, StatsLayout, TickBuffers};
use crate::plan::Program;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

/// The random stream of z; `ganymede sample` draws from it too.
pub const Z_STREAM: u32 = 1;
/// The random stream of augmentations.
pub const AUGMENT_STREAM: u32 = 2;
/// The first random streams of the dropouts of G and of D.
const DROPOUT_STREAMS: [u32; 2] = [0x1000, 0x2000];

/// A step program and the places that the trainer talks to.
#[derive(Debug)]
pub struct Step {
    /// The program.
    pub program: Program,
    /// The generator's buffers.
    pub generator: NetworkStores,
    /// The discriminator's buffers.
    pub discriminator: NetworkStores,
    /// z of each discriminator update (of a micro-batch of it, as all inputs).
    pub z: Vec<Place>,
    /// Real batch of each discriminator update.
    pub real: Vec<Place>,
    /// Shape of a real batch in memory: flat where the discriminator flattens images first.
    pub real_shape: Shape,
    /// Statistics of the tick ([`StatsLayout`]).
    pub stats: Place,
    /// The first bad event of the run ([`BadEvent`]).
    pub events: Place,
    /// Losses of this step: D on real, D on fake (last D update), G; of the last micro-batch.
    pub losses: [Place; 3],
    /// The resident data set's segments: bytes of images, four to a word, or the f32 of vectors.
    pub data: Vec<Place>,
    /// Images in a segment of the data set but the last.
    pub images_per_segment: usize,
    /// Where a streamed data set's batches go; `None` for others.
    pub ring: Option<Ring>,
    /// Classes of each discriminator update's batch, (2N, 1): those of the reals, and once more for the fakes. None if no network takes classes.
    pub labels: Vec<Place>,
    /// The data set's labels, one u32 an image, on the device also if the set is streamed; if a network takes classes.
    pub data_labels: Option<Place>,
}

/// Builds the training step: the discriminator's `d_steps` updates, then the generator's. Where a batch is done in several micro-batches, an
/// update runs over them one by one, and its optimiser once they are through.
pub fn build(config: &GanConfig, inputs: &Inputs, max_bytes: u64) -> Result<Step> {
    let mut step = StepBuilder::new(config, inputs, max_bytes)?;
    let generator = step.parameters(Which::Generator)?;
    let mut fake = None;
    for update in 0..config.d_steps {
        step.each_micro_batch();
        // D learns to tell a batch of reals from a batch of fakes; nothing flows back into G here.
        let (z, real) = step.draw(update)?;
        let generated = step.generate(&generator, z)?;
        let discriminator = step.parameters(Which::Discriminator)?;
        let logits = step.discriminate_pair(&discriminator, real, generated)?;
        let loss = step.discriminator_loss(logits)?;
        step.update(Which::Discriminator, &discriminator, loss, update)?;
        fake = Some(generated);
    }
    step.each_micro_batch();
    let (generator, fake) = step.fake_for_generator(generator, fake)?;
    // G learns to pass the updated D, which is only looked through: its parameters get no gradient.
    let discriminator = step.parameters(Which::Discriminator)?;
    let logits = step.discriminate(&discriminator, fake)?;
    let loss = step.generator_loss(logits)?;
    step.update(Which::Generator, &generator, loss, config.d_steps)?;
    step.average()?;
    Ok(step.finish())
}

/// The parts of a step.
pub struct StepBuilder<'a> {
    config: &'a GanConfig,
    inputs: &'a Inputs,
    step: Step,
    image: Shape,
    versions: usize,
    /// Discriminator updates whose pair is in its place.
    paired: BTreeSet<usize>,
    /// What the next dispatch of statistics adds to the tick.
    jobs: Vec<Job>,
    /// Where the dropouts of the next pass draw from.
    slot: u32,
    /// The leaves of D's parameters in its latest pass.
    latest_discriminator: Params,
    /// The reals of the latest draw.
    latest_real: Option<NodeId>,
    /// The classes of the latest draw: of its N images, and of reals and fakes as one batch.
    latest_labels: Option<[NodeId; 2]>,
    /// The fakes that the generator learns from, and the values of D's taps on them.
    judged: Option<(NodeId, HashMap<String, NodeId>)>,
    /// An update of the optimiser that waits to hear whether its result is averaged.
    pending: Option<(Which, usize)>,
}

impl<'a> StepBuilder<'a> {
    /// Declares the buffers of a step.
    pub fn new(config: &'a GanConfig, inputs: &'a Inputs, max_bytes: u64) -> Result<Self> {
        config.validate()?;
        let mut program = Program::new("step");
        program.precision = config.precision;
        if config.micro_batches() > 1 && *inputs == Inputs::Given {
            return Err(Error::internal("micro-batches take their inputs on the device"));
        }
        if config.augment.is_on() && *inputs == Inputs::Given {
            return Err(Error::internal("augmentation takes its inputs on the device"));
        }
        let generator = NetworkStores::declare(&mut program, config, Which::Generator, max_bytes)?;
        let discriminator = NetworkStores::declare(&mut program, config, Which::Discriminator, max_bytes)?;
        let image = entry_shape(&config.discriminator, config.micro_batch)?;
        let z_shape = Shape::new(&[config.micro_batch, config.z_dim])?;
        let mut z = Vec::new();
        let mut real = Vec::new();
        for update in 0..config.d_steps {
            z.push(program.tensor_buffer(format!("z.{update}"), &z_shape));
            // Fakes are made behind the reals, so that D sees both as one batch.
            let len = image.physical_len();
            real.push(Place { buffer: program.buffer(format!("pair.{update}"), 2 * len), offset: 0, len });
        }
        let scalar = Shape::new(&[1, 1])?;
        let losses = ["D.real", "D.fake", "G"].map(|name| program.tensor_buffer(format!("loss.{name}"), &scalar));
        let stats = Place::whole(program.buffer("tick.stats", StatsLayout::WORDS), StatsLayout::WORDS);
        let events = Place::whole(program.buffer("tick.events", BadEvent::WORDS), BadEvent::WORDS);
        let mut data = Vec::new();
        let mut images_per_segment = 0;
        let mut ring = None;
        let bytes = || Ok::<_, Error>(config.image()?.iter().product::<usize>() * config.storage().bytes());
        if let Inputs::Stream { .. } = *inputs {
            ring = Some(Ring::declare(&mut program, config, bytes()?, max_bytes)?);
        }
        if let Inputs::Device { images } = *inputs {
            let bytes = bytes()?;
            images_per_segment = gather::per_segment(images, bytes, max_bytes)?;
            for first in (0..images).step_by(images_per_segment.max(1)) {
                let words = (images_per_segment.min(images - first) * bytes).div_ceil(4);
                data.push(Place::whole(program.buffer(format!("data.{}", data.len()), words), words));
            }
        }
        let (mut labels, mut data_labels) = (Vec::new(), None);
        if config.is_conditional() {
            let both = Shape::new(&[2 * config.micro_batch, 1])?;
            labels = (0..config.d_steps).map(|update| program.tensor_buffer(format!("labels.{update}"), &both)).collect();
            if let Some(images) = inputs.images() {
                data_labels = Some(Place::whole(program.buffer("labels.data", images), images));
            }
        }
        let step = Step {
            program,
            generator,
            discriminator,
            z,
            real,
            real_shape: image.clone(),
            stats,
            events,
            losses,
            data,
            images_per_segment,
            labels,
            data_labels,
            ring,
        };
        Ok(StepBuilder {
            config,
            inputs,
            step,
            image,
            versions: 0,
            paired: BTreeSet::new(),
            jobs: Vec::new(),
            slot: StepRow::draw(0),
            latest_discriminator: Params::new(),
            latest_real: None,
            latest_labels: None,
            judged: None,
            pending: None,
        })
    }

    /// Leaves for a network's parameters as they are at this point of the step.
    pub fn parameters(&mut self, which: Which) -> Result<Params> {
        self.optimise();
        let stores = self.stores(which).clone();
        self.versions += 1;
        let mut params = Params::new();
        for stored in &stores.parameters.tensors {
            let name = format!("{}.{}@{}", stores.name, stored.spec.name, self.versions);
            let leaf = self.step.program.leaf(&name, &stored.spec.shape, stores.values.place(stored))?;
            params.insert(stored.spec.name.clone(), leaf);
        }
        Ok(params)
    }

    /// From here on to the next update, everything runs once for each micro-batch.
    pub fn each_micro_batch(&mut self) {
        self.optimise();
        if self.config.micro_batches() > 1 {
            self.step.program.part(self.config.micro_batches() as u32);
        }
    }

    fn z_source(&self) -> Source {
        Source { seed: self.config.seed, stream: Z_STREAM }
    }

    /// Draws z and a batch of reals for a discriminator update; the reals are augmented, if they are to be.
    pub fn draw(&mut self, update: usize) -> Result<(NodeId, NodeId)> {
        self.draw_as(update, &update.to_string())
    }

    /// [`StepBuilder::draw`], for leaves of that version.
    fn draw_as(&mut self, update: usize, version: &str) -> Result<(NodeId, NodeId)> {
        self.slot = StepRow::draw(update);
        let (z, real) = (self.step.z[update], self.step.real[update]);
        let z_shape = Shape::new(&[self.config.micro_batch, self.config.z_dim])?;
        if let Some(images) = self.inputs.images() {
            let latent = Latent { output: Operand::Place(z), shape: z_shape.clone(), source: self.z_source() };
            let (shape, seed, slot) = (self.image.clone(), self.config.seed, StepRow::draw(update));
            let storage = self.config.storage();
            let (scale, shift) = self.config.normalisation();
            let (segments, per_segment) = match &self.step.ring {
                Some(ring) => (vec![Operand::Place(ring.places[update])], ring.steps * ring.stride),
                None => (self.step.data.iter().map(|&place| Operand::Place(place)).collect(), self.step.images_per_segment),
            };
            let resident = Resident {
                segments,
                images,
                per_segment,
                image: self.config.image()?,
                storage,
                scale,
                shift,
                streamed: self.step.ring.is_some(),
            };
            let augment = self.config.augmentation();
            let [c, h, w] = resident.image;
            let image = Shape::new(&[self.config.micro_batch, c, h, w])?;
            let draw = move |l: &mut Lowering| {
                let real = (Operand::Place(real), &shape);
                if !augment.is_on() {
                    return gather::lower_draw_batch(l, &latent, &resident, seed, slot, real);
                }
                let plain = (l.scratch(image.physical_len()), &image);
                gather::lower_draw_batch(l, &latent, &resident, seed, slot, plain)?;
                lower_augment(l, &augment, (Source { seed, stream: AUGMENT_STREAM }, Draw::Step(slot)), plain, real)
            };
            self.step.program.effect("data/draw", draw);
        }
        let z = self.step.program.leaf(&format!("z@{version}"), &z_shape, z)?;
        let real = self.step.program.leaf(&format!("real@{version}"), &self.image.clone(), real)?;
        self.latest_real = Some(real);
        self.draw_labels(update, version)?;
        Ok((z, real))
    }

    /// Gathers the classes of the batch that a discriminator update draws, where a network takes them: those of its reals are those of its fakes.
    fn draw_labels(&mut self, update: usize, version: &str) -> Result<()> {
        let Some(&place) = self.step.labels.get(update) else { return Ok(()) };
        let n = self.config.micro_batch;
        if let (Some(images), Some(data)) = (self.inputs.images(), self.step.data_labels) {
            let (seed, slot) = (self.config.seed, StepRow::draw(update));
            let data = ResidentLabels { labels: Operand::Place(data), images };
            let draw = move |l: &mut Lowering| labels::lower_draw_labels(l, data, seed, slot, (n, 2), Operand::Place(place));
            self.step.program.effect("data/labels", draw);
        }
        let first = Place { len: place.len / 2, ..place };
        let one = self.step.program.leaf(&format!("labels@{version}"), &Shape::new(&[n, 1])?, first)?;
        let both = self.step.program.leaf(&format!("labels.pair@{version}"), &Shape::new(&[2 * n, 1])?, place)?;
        self.latest_labels = Some([one, both]);
        Ok(())
    }

    /// Draws the z of a discriminator update once more, and its classes.
    fn draw_z_again(&mut self, update: usize) -> Result<NodeId> {
        let z = self.step.z[update];
        let shape = Shape::new(&[self.config.micro_batch, self.config.z_dim])?;
        if self.inputs.images().is_some() {
            let (shape, source, draw) = (shape.clone(), self.z_source(), Draw::Step(StepRow::draw(update)));
            let noise = move |l: &mut Lowering| noise::lower_noise(l, Operand::Place(z), &shape, source, Distribution::Normal, draw);
            self.step.program.effect("data/z", noise);
        }
        self.draw_labels(update, "G")?;
        self.step.program.leaf("z@G", &shape, z)
    }

    /// G(z) in training mode; its running statistics move.
    pub fn generate(&mut self, params: &Params, z: NodeId) -> Result<NodeId> {
        let forward = self.generator_forward(params, z)?;
        self.track(Which::Generator, &forward)?;
        Ok(forward.output)
    }

    /// The fake that G learns from, and the leaves that it is made with: those of the last discriminator update. Of micro-batches only the last
    /// one's would still be there, so each fake is made once more, with the same z and parameters.
    pub fn fake_for_generator(&mut self, params: Params, fake: Option<NodeId>) -> Result<(Params, NodeId)> {
        let fake = fake.ok_or_else(|| Error::internal("a step without discriminator updates"))?;
        if self.config.micro_batches() == 1 {
            return Ok((params, fake));
        }
        let params = self.parameters(Which::Generator)?;
        let last = self.config.d_steps - 1;
        let z = if self.config.loss.needs_reals() { self.draw_as(last, "G")?.0 } else { self.draw_z_again(last)? };
        let forward = self.generator_forward(&params, z)?;
        Ok((params, forward.output))
    }

    fn training(&self, which: Which, groups: usize) -> Mode {
        let stream = DROPOUT_STREAMS[which as usize];
        Mode::Train { groups, noise: Some(Noise { seed: self.config.seed, stream, draw: Draw::Step(self.slot) }) }
    }

    fn generator_forward(&mut self, params: &Params, z: NodeId) -> Result<Forward> {
        let (network, mode) = (&self.config.generator, self.training(Which::Generator, 1));
        let input = Input { x: z, labels: self.latest_labels.map(|[one, _]| one) };
        let mut forward = network.forward(&mut self.step.program, params, input, mode, "G/fake")?;
        let taken = self.config.discriminator.input_shape(self.config.micro_batch)?;
        let graph = &mut self.step.program.graph;
        if graph.shape(forward.output) != &taken {
            return Err(Error::input(format!("the generator makes {}, the discriminator takes {taken}", graph.shape(forward.output))));
        }
        forward.output = graph.scope("G/fake/out", |g| reshape(g, forward.output, &self.image))?;
        Ok(forward)
    }

    /// D on a batch of reals and a batch of fakes in one pass, with separate batch statistics; real first. Returns logits (2N, 1).
    pub fn discriminate_pair(&mut self, params: &Params, real: NodeId, fake: NodeId) -> Result<NodeId> {
        let both = self.pair(real, fake)?;
        let forward = self.discriminator_forward(params, both, 2, "D/pair")?;
        self.track(Which::Discriminator, &forward)?;
        self.logits(&forward)
    }

    /// A batch of reals and a batch of fakes as one, real first: where they lie side by side that is the same memory.
    fn pair(&mut self, real: NodeId, fake: NodeId) -> Result<NodeId> {
        let program = &mut self.step.program;
        let update = match &program.graph.node(real).kind {
            Kind::Leaf { place: Some(place), .. } => self.step.real.iter().position(|p| p == place),
            _ => None,
        };
        // The fakes start where a binding may start, and each pair is made once.
        if let Some(update) = update
            && self.step.real[update].len.is_multiple_of(ALIGNMENT)
            && self.paired.insert(update)
        {
            let Place { buffer, len, .. } = self.step.real[update];
            program.compute(fake, Place { buffer, offset: len, len });
            let [n, c, h, w] = self.image.nchw();
            let shape = Shape::new(&[2 * n, c, h, w][..self.image.rank()])?;
            return program.leaf(&format!("pair@{update}"), &shape, Place::whole(buffer, 2 * len));
        }
        program.graph.scope("D/pair/concat", |g| g.apply(ConcatBatch, &[real, fake]))
    }

    /// D on one batch. Returns its outputs, (N, 1) or what the loss takes.
    pub fn discriminate(&mut self, params: &Params, images: NodeId) -> Result<NodeId> {
        // The last draw of a step is the generator's.
        self.slot = StepRow::draw(self.config.d_steps);
        let forward = self.discriminator_forward(params, images, 1, "G/D")?;
        self.track(Which::Discriminator, &forward)?;
        self.judged = Some((images, forward.taps.clone()));
        self.logits(&forward)
    }

    /// A training pass of D, with batch statistics for each of `groups` equal parts; its running statistics stay.
    pub fn discriminator_forward(&mut self, params: &Params, images: NodeId, groups: usize, scope: &str) -> Result<Forward> {
        self.latest_discriminator.clone_from(params);
        let mode = self.training(Which::Discriminator, groups);
        let is_pair = self.step.program.graph.shape(images).dims()[0] > self.config.micro_batch;
        let input = Input { x: images, labels: self.latest_labels.map(|[one, both]| if is_pair { both } else { one }) };
        self.config.discriminator.forward(&mut self.step.program, params, input, mode, scope)
    }

    /// The outputs of a pass of D, as the loss takes them: (N, 1), or (N, 2) for a softmax.
    pub fn logits(&mut self, forward: &Forward) -> Result<NodeId> {
        let loss = &self.config.loss;
        self.step.program.graph.scope("D/outputs", |g| loss.outputs_of(g, forward.output))
    }

    /// The program so far.
    pub fn program(&mut self) -> &mut Program {
        &mut self.step.program
    }

    /// Moves a network's running statistics by the batch statistics of a forward pass.
    pub fn track(&mut self, which: Which, forward: &Forward) -> Result<()> {
        let stores = self.stores(which).clone();
        for (prefix, site) in &forward.norms {
            let scope = self.step.program.graph.node(site.norm.y).scope.clone();
            let place = |key: &str| -> Result<Operand> {
                let name = format!("{prefix}{key}");
                let stored = stores.running.tensors.iter().find(|t| t.spec.name == name);
                let stored = stored.ok_or_else(|| Error::internal(format!("{} keeps no {name}", stores.name)))?;
                Ok(Operand::Place(stores.stats.place(stored)))
            };
            let running = Running { mean: place("running_mean")?, var: place("running_var")?, momentum: NORM_MOMENTUM };
            self.step.program.track(scope, *site, running);
        }
        Ok(())
    }

    /// The discriminator's loss on outputs of [`StepBuilder::discriminate_pair`]: on reals, plus on fakes.
    pub fn discriminator_loss(&mut self, logits: NodeId) -> Result<NodeId> {
        if !self.config.loss.is_plain() {
            return self.general_discriminator_loss(logits);
        }
        let n = self.config.micro_batch;
        let [at_real, at_fake, _] = self.step.losses;
        let runs = [(n, Target::Real), (n, Target::Fake)];
        let bce = self.step.program.graph.scope("D/loss", |g| bce_parts(g, logits, &runs))?;
        self.step.program.compute(bce.parts[0].loss, at_real);
        self.step.program.compute(bce.parts[1].loss, at_fake);
        let loss = bce.total;
        self.step.program.note_loss(bce);
        let targets = |loss, score, signs| ScoreTargets { loss: Some(loss), score: Some(score), signs };
        self.score(logits, 0..n, true, targets(Stat::LossDReal, Stat::DX, Some(Stat::SignsReal)));
        self.score(logits, n..2 * n, false, targets(Stat::LossDFake, Stat::DGZ1, Some(Stat::SignsFake)));
        Ok(loss)
    }

    fn general_discriminator_loss(&mut self, outputs: NodeId) -> Result<NodeId> {
        let (n, config) = (self.config.micro_batch, &self.config.loss);
        let [at_real, at_fake, _] = self.step.losses;
        let [real, fake, loss] = self.step.program.graph.scope("D/loss", |g| {
            let (reals, fakes) = (slice_batch(g, outputs, 0, n)?, slice_batch(g, outputs, n, n)?);
            let (real, fake) = (config.on_reals(g, reals)?, config.on_fakes(g, fakes)?);
            Ok([real, fake, add(g, real, fake)?])
        })?;
        self.scalar(real, at_real, Stat::LossDReal);
        self.scalar(fake, at_fake, Stat::LossDFake);
        self.general_score(outputs, 0..n, true, Stat::DX, Some(Stat::SignsReal))?;
        self.general_score(outputs, n..2 * n, false, Stat::DGZ1, Some(Stat::SignsFake))?;
        Ok(loss)
    }

    /// The generator's loss on outputs of [`StepBuilder::discriminate`]: as configured, by default the non-saturating one, BCE of fakes against
    /// 1 (Goodfellow et al. 2014, section 3).
    pub fn generator_loss(&mut self, logits: NodeId) -> Result<NodeId> {
        if !self.config.loss.is_plain() {
            return self.general_generator_loss(logits);
        }
        let n = self.config.micro_batch;
        let runs = [(n, Target::Real)];
        let bce = self.step.program.graph.scope("G/loss", |g| bce_parts(g, logits, &runs))?;
        let [_, _, at] = self.step.losses;
        let loss = bce.total;
        self.step.program.compute(loss, at);
        self.step.program.note_loss(bce);
        let targets = ScoreTargets { loss: Some(Stat::LossG), score: Some(Stat::DGZ2), signs: None };
        self.score(logits, 0..n, true, targets);
        Ok(loss)
    }

    fn general_generator_loss(&mut self, outputs: NodeId) -> Result<NodeId> {
        let config = &self.config.loss;
        let mut loss = self.step.program.graph.scope("G/loss", |g| config.of_generator(g, outputs))?;
        if config.needs_reals() {
            let (Some(real), Some((fake, taps))) = (self.latest_real, self.judged.clone()) else {
                return Err(Error::internal("a generator's loss before the pass that it is of"));
            };
            if let Some(matching) = &config.feature_matching {
                let unknown = || {
                    let mut names: Vec<&str> = taps.keys().map(String::as_str).collect();
                    names.sort_unstable();
                    Error::input(format!(
                        "loss.feature_matching.tap: the discriminator has no tap {:?}; its taps are {names:?}",
                        matching.tap
                    ))
                };
                let fakes = *taps.get(&matching.tap).ok_or_else(unknown)?;
                let discriminator = self.latest_discriminator.clone();
                let reals = self.discriminator_forward(&discriminator, real, 1, "G/D_real")?;
                let reals = *reals.taps.get(&matching.tap).ok_or_else(unknown)?;
                loss = self.step.program.graph.scope("G/feature_matching", |g| {
                    let term = matching.term(g, reals, fakes)?;
                    add(g, loss, term)
                })?;
            }
            if let Some(reconstruction) = &config.reconstruction {
                loss = self.step.program.graph.scope("G/reconstruction", |g| {
                    let term = reconstruction.term(g, real, fake)?;
                    add(g, loss, term)
                })?;
            }
        }
        let [_, _, at] = self.step.losses;
        self.scalar(loss, at, Stat::LossG);
        self.general_score(outputs, 0..self.config.micro_batch, true, Stat::DGZ2, None)?;
        Ok(loss)
    }

    /// Leaves a scalar of the step in its place, and adds it to the tick.
    fn scalar(&mut self, value: NodeId, at: Place, stat: Stat) {
        self.step.program.compute(value, at);
        self.tally(value, stat);
    }

    fn tally(&mut self, value: NodeId, stat: Stat) {
        let tick = TickBuffers { stats: Operand::Place(self.step.stats), events: Operand::Place(self.step.events) };
        let store = self.step.discriminator.id;
        self.step
            .program
            .effect(format!("stats/{}", stat.name()), move |l| stats::lower_scalar_stats(l, Operand::Node(value), stat, tick, store));
    }

    fn general_score(&mut self, outputs: NodeId, rows: Range<usize>, real: bool, score: Stat, signs: Option<Stat>) -> Result<()> {
        let config = &self.config.loss;
        match self.step.program.graph.scope("stats/score", |g| config.score(g, outputs, rows.clone()))? {
            Score::Logits(logits) => self.score(logits, rows, real, ScoreTargets { loss: None, score: Some(score), signs }),
            Score::Mean(mean) => self.tally(mean, score),
        }
        Ok(())
    }

    fn score(&mut self, logits: NodeId, rows: Range<usize>, real: bool, targets: ScoreTargets) {
        let store = self.step.discriminator.id;
        self.jobs.push(Job::Score { logits: Operand::Node(logits), rows, real, targets, store });
        // Of micro-batches, only the last one's logits would still be there later.
        if self.config.micro_batches() > 1 {
            self.count();
        }
    }

    /// Adds what is known of the step so far to the tick.
    fn count(&mut self) {
        let jobs = std::mem::take(&mut self.jobs);
        let tick = TickBuffers { stats: Operand::Place(self.step.stats), events: Operand::Place(self.step.events) };
        if !jobs.is_empty() {
            self.step.program.effect("stats/tick", move |l| stats::lower_step_stats(l, &jobs, tick));
        }
    }

    /// Differentiates `loss` with respect to a network's parameters and lets its optimiser make update number `update` of the step.
    pub fn update(&mut self, which: Which, params: &Params, loss: NodeId, update: usize) -> Result<()> {
        self.optimise();
        let stores = self.stores(which).clone();
        let program = &mut self.step.program;
        let one = program.graph.scope(&format!("{}/loss", stores.name), |g| crate::ops::constant::ones_like(g, loss))?;
        let wrt: Vec<NodeId> = stores.parameters.tensors.iter().map(|t| params[&t.spec.name]).collect();
        let gradients = program.graph.gradients(&[(loss, one)], &wrt)?;
        for (stored, gradient) in stores.parameters.tensors.iter().zip(gradients) {
            let gradient = gradient
                .ok_or_else(|| Error::input(format!("{}.{} does not influence the loss; remove it", stores.name, stored.spec.name)))?;
            program.compute(gradient, stores.micro_grads.as_ref().unwrap_or(&stores.grads).place(stored));
        }
        if let Some(micro_grads) = stores.micro_grads.clone() {
            let (layout, grads, scale) = (stores.parameters.clone(), stores.grads.clone(), 1.0 / self.config.micro_batches() as f64);
            program.effect(format!("{}/accumulate", stores.name), move |l| {
                for (index, &words) in layout.segments.iter().enumerate() {
                    let [micro_grads, grads] = [&micro_grads, &grads].map(|s| Operand::Place(s.segment(&layout, index)));
                    optimiser::lower_accumulate(l, micro_grads, grads, words, scale)?;
                }
                Ok(())
            });
            program.part(1);
        }
        // One dispatch counts at most one update of D and one of G.
        if which == Which::Discriminator && self.jobs.iter().any(|job| matches!(job, Job::Norm { .. })) {
            self.count();
        }
        let squares = stores.square_places();
        let mut tensors = Vec::new();
        for stored in &stores.parameters.tensors {
            tensors.push(squares[stored.segment].offset + stored.offset / BLOCK);
        }
        let stat = if which == Which::Generator { Stat::GradNormG } else { Stat::GradNormD };
        let all = stores.all_squares();
        self.jobs.push(Job::Norm { squares: Operand::Place(all), blocks: all.len, tensors, stat, store: stores.id });
        self.pending = Some((which, update));
        Ok(())
    }

    /// Lets a pending update happen.
    fn optimise(&mut self) {
        if let Some((which, update)) = self.pending.take() {
            self.move_parameters(which, update, None);
        }
    }

    /// One dispatch per segment: the optimiser, and the average of what it makes. Where gradients are clipped by norm, that is found first.
    fn move_parameters(&mut self, which: Which, update: usize, averages: Option<Store>) {
        let (stores, rules) = (self.stores(which).clone(), self.config.update(which));
        let factor = stores.factor.map(|buffer| Operand::Place(Place::whole(buffer, FACTOR_WORDS)));
        if let (Some(Clip::Norm(max)), Some(factor)) = (rules.clip, factor) {
            self.clip(&stores, max, factor);
        }
        self.step.program.effect(format!("{}/{}", stores.name, rules.optimiser.kernel()), move |l| {
            let squares = stores.square_places();
            for (index, &words) in stores.parameters.segments.iter().enumerate() {
                let of = |store: &Store| Operand::Place(store.segment(&stores.parameters, index));
                let [grads, values] = [&stores.grads, &stores.values].map(of);
                let [m, v, averages] = [&stores.m, &stores.v, &averages].map(|store| store.as_ref().map(of));
                let updated = UpdateStores { grads, values, m, v, averages, squares: Operand::Place(squares[index]), factor };
                rules.lower(l, updated, words, StepRow::optimiser(update))?;
            }
            Ok(())
        });
    }

    /// Makes the factor that brings a network's gradient down to the norm `max`.
    fn clip(&mut self, stores: &NetworkStores, max: f64, factor: Operand) {
        let (layout, grads) = (stores.parameters.clone(), stores.grads.clone());
        let (squares, all) = (stores.square_places(), stores.all_squares());
        self.step.program.effect(format!("{}/clip", stores.name), move |l| {
            for (index, &words) in layout.segments.iter().enumerate() {
                let grads = Operand::Place(grads.segment(&layout, index));
                optimiser::lower_grad_squares(l, grads, Operand::Place(squares[index]), words)?;
            }
            optimiser::lower_clip_factor(l, Operand::Place(all), all.len, max, factor)
        });
    }

    /// Moves the generator's average of parameters and running statistics.
    pub fn average(&mut self) -> Result<()> {
        let stores = self.step.generator.clone();
        let (ema, ema_stats) = stores.ema.clone().ok_or_else(|| Error::internal("the generator has no average"))?;
        let mut pairs = vec![(stores.running.clone(), stores.stats.clone(), ema_stats)];
        match self.pending.take() {
            Some((Which::Generator, update)) => self.move_parameters(Which::Generator, update, Some(ema)),
            other => {
                self.pending = other;
                pairs.push((stores.parameters.clone(), stores.values.clone(), ema));
            }
        }
        self.step.program.effect("G/ema", move |l| {
            for (layout, from, to) in &pairs {
                for (index, &words) in layout.segments.iter().enumerate() {
                    let [from, to] = [from, to].map(|s| Operand::Place(s.segment(layout, index)));
                    optimiser::lower_ema(l, from, to, words)?;
                }
            }
            Ok(())
        });
        Ok(())
    }

    fn stores(&self, which: Which) -> &NetworkStores {
        match which {
            Which::Generator => &self.step.generator,
            Which::Discriminator => &self.step.discriminator,
        }
    }

    /// The finished step.
    pub fn finish(mut self) -> Step {
        self.optimise();
        self.count();
        self.step
    }
}

/// A batch as the discriminator's first layer with weights takes it: images that it flattens first are flat from the beginning.
fn entry_shape(discriminator: &Network, batch: usize) -> Result<Shape> {
    let image = discriminator.input_shape(batch)?;
    match discriminator.layers.first() {
        Some(Layer::Flatten {}) => Shape::new(&[batch, image.len() / batch]),
        _ => Ok(image),
    }
}
