//! The trainer: a step program on a GPU, with its state.

use super::config::GanConfig;
use super::sampler::{Images, Sampler};
use super::schedule;
pub use super::schedule::Position;
use super::step::{self, Inputs, MAX_STEPS_PER_SUBMIT, Step};
use crate::data::stream::{Order, Prefetcher, Source};
use crate::error::{Error, Result};
use crate::gpu::step::StepRow;
use crate::gpu::{Buffer, Gpu, PendingRead, TimedRun};
use crate::graph::lower::{Caps, Place};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::nn::state::{HostData, HostTensor};
use crate::nn::store::{Layout, Store, pack_segment};
use crate::ops::gather::Storage;
use crate::ops::stats::{BadEvent, Culprit, Stat, StatsLayout, Summary};
use crate::plan::{Executor, Plan, ProductSite, compile_with, products};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A submit should not take longer than this: some systems reset a device that seems to hang (2 s on Windows), and Ctrl-C waits for it.
const SUBMIT_TIME: Duration = Duration::from_millis(250);
/// Submits whose batches a streamed data set's thread keeps ready.
const SUBMITS_AHEAD: usize = 2;
/// Images that the sampler makes at once.
const SAMPLE_BATCH: usize = 64;

/// Name of the tick accumulators in checkpoints: bit patterns, so that resuming goes on with the same ones.
const TICK: &str = "tick.stats";

/// Statistics of a tick that are on their way from the device.
#[derive(Debug)]
#[must_use = "the statistics are cleared on the device, and lost if nobody takes them"]
pub struct PendingStats {
    events: PendingRead,
    stats: PendingRead,
}

/// Trains a GAN on one GPU.
pub struct Trainer {
    gpu: Arc<Gpu>,
    config: GanConfig,
    step: Step,
    plan: Plan,
    executor: Executor,
    rows: Buffer,
    images: usize,
    position: Position,
    steps_per_submit: Option<u32>,
    measured: Option<u32>,
    sampler: Sampler,
    stream: Option<Prefetcher>,
    /// Whether the networks take classes and the data set's have not come yet.
    awaits_labels: bool,
}

/// Compiles the training step without touching a GPU, for `ganymede plan` and dry runs.
pub fn plan(config: &GanConfig, inputs: &Inputs, caps: &Caps) -> Result<Plan> {
    let mut step = step::build(config, inputs, caps.max_binding)?;
    compile_with(&mut step.program, caps, &config.variants)
}

/// The products of the training step with all kernels that could compute them, for `ganymede tune`.
pub fn step_products(config: &GanConfig, inputs: &Inputs, caps: &crate::graph::lower::Caps) -> Result<Vec<ProductSite>> {
    let mut step = step::build(config, inputs, caps.max_binding)?;
    products(&mut step.program, caps)
}

/// Bytes of device memory that the sampler of a trainer will take on top of [`plan`].
pub fn sampler_bytes(config: &GanConfig, caps: &Caps) -> Result<u64> {
    Sampler::planned_bytes(&config.generator, SAMPLE_BATCH, caps)
}

impl Trainer {
    /// Compiles the step, allocates its buffers and sets every parameter to its first value.
    ///
    /// With [`Inputs::Device`], [`Trainer::upload_data`] brings the images; with [`Inputs::Stream`], [`Trainer::stream_data`]. Either way,
    /// [`Trainer::upload_labels`] brings the classes that conditional networks take.
    pub fn new(gpu: Arc<Gpu>, config: GanConfig, inputs: &Inputs) -> Result<Self> {
        let step = step::build(&config, inputs, gpu.caps().max_binding)?;
        Self::from_step(gpu, config, step, inputs.images().unwrap_or(0))
    }

    /// A trainer for a step that was put together by hand.
    pub fn from_step(gpu: Arc<Gpu>, config: GanConfig, mut step: Step, images: usize) -> Result<Self> {
        let plan = compile_with(&mut step.program, &gpu.caps(), &config.variants)?;
        let rows = gpu.uniform("step rows", (MAX_STEPS_PER_SUBMIT * config.micro_batches() * StepRow::BYTES) as u64)?;
        let executor = Executor::new(&gpu, "step", &plan, &HashMap::new(), Some(&rows))?;
        let mut shared = HashMap::new();
        if let Some((ema, ema_stats)) = &step.generator.ema {
            for id in ema.segments.iter().chain(&ema_stats.segments) {
                shared.insert(step.program.buffers()[id.0].name.clone(), executor.buffer(*id).clone());
            }
        }
        let sampler = Sampler::new(&gpu, &config.generator, SAMPLE_BATCH, &shared)?;
        let awaits_labels = step.data_labels.is_some();
        let mut trainer = Trainer {
            awaits_labels,
            gpu,
            config,
            step,
            plan,
            executor,
            rows,
            images,
            position: Position::default(),
            steps_per_submit: None,
            measured: None,
            sampler,
            stream: None,
        };
        trainer.initialise()?;
        Ok(trainer)
    }

    /// Fixes the number of steps in a submit, which is otherwise chosen by the time a step takes. It changes no result.
    pub fn set_steps_per_submit(&mut self, steps: Option<u32>) {
        self.steps_per_submit = steps.map(|n| n.clamp(1, MAX_STEPS_PER_SUBMIT as u32));
    }

    /// The configuration.
    pub fn config(&self) -> &GanConfig {
        &self.config
    }

    /// The compiled step.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The GPU.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Steps done or submitted, and images seen.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Device memory of the trainer's buffers and textures in bytes, sampler included: as planned by [`plan`] and [`sampler_bytes`].
    pub fn memory(&self) -> u64 {
        self.executor.own_bytes() + self.sampler.own_bytes()
    }

    fn initialise(&mut self) -> Result<()> {
        let seed = self.config.seed;
        let mut writes = Vec::new();
        for stores in [&self.step.generator, &self.step.discriminator] {
            for (layout, store, ema) in [
                (&stores.parameters, &stores.values, stores.ema.as_ref().map(|(e, _)| e)),
                (&stores.running, &stores.stats, stores.ema.as_ref().map(|(_, e)| e)),
            ] {
                let tensors: Vec<Tensor> = layout
                    .tensors
                    .iter()
                    .map(|t| t.spec.init.draw(&t.spec.shape, seed, &format!("{}.{}", stores.name, t.spec.name)))
                    .collect::<Result<_>>()?;
                for index in 0..layout.segments.len() {
                    let image = pack_segment(layout, index, &tensors);
                    writes.extend(ema.map(|ema| (ema.segment(layout, index), image.clone())));
                    writes.push((store.segment(layout, index), image));
                }
            }
        }
        for (place, image) in writes {
            self.executor.write(&self.gpu, place, &image)?;
        }
        Ok(())
    }

    /// Uploads the resident data set: images in (index, H, W, C) order, a byte a value.
    ///
    /// # Errors
    /// [`Error::Input`] if the discriminator takes vectors. [`Error::Internal`] if there are not as many bytes as the step was built for.
    pub fn upload_data(&self, images: &[u8]) -> Result<()> {
        self.upload(Storage::U8, images)
    }

    /// Uploads the resident data set of a discriminator that takes vectors: (index, F), used as they are.
    ///
    /// # Errors
    /// [`Error::Input`] if the discriminator takes images. [`Error::Internal`] if there are not as many numbers as the step was built for.
    pub fn upload_vectors(&self, values: &[f32]) -> Result<()> {
        self.upload(Storage::F32, bytemuck::cast_slice(values))
    }

    fn upload(&self, storage: Storage, data: &[u8]) -> Result<()> {
        if self.step.ring.is_some() {
            return Err(Error::internal("a whole data set for a step that streams it"));
        }
        let bytes = self.check_data(storage, data.len())?;
        for (place, segment) in self.step.data.iter().zip(data.chunks(self.step.images_per_segment * bytes)) {
            let mut words = segment.to_vec();
            words.resize(place.len * 4, 0);
            self.gpu.write(self.executor.buffer(place.buffer), 0, &words)?;
        }
        Ok(())
    }

    /// Checks a data set of `len` bytes against the step. Returns the bytes of an image or a vector.
    fn check_data(&self, storage: Storage, len: usize) -> Result<usize> {
        if storage != self.config.storage() {
            let name = |storage| if storage == Storage::U8 { "images" } else { "vectors" };
            let (have, want) = (name(storage), name(self.config.storage()));
            return Err(Error::input(format!(
                "the data set holds {have}, and the discriminator takes {want}: choose other data or networks"
            )));
        }
        let bytes = self.config.image()?.iter().product::<usize>() * storage.bytes();
        if len != self.images * bytes {
            return Err(Error::internal(format!("a data set of {len} bytes for {} items of {bytes}", self.images)));
        }
        Ok(bytes)
    }

    /// Streams the data set from `source` ([`Inputs::Stream`]). A thread reads ahead of the steps from now on; it ends with the trainer.
    ///
    /// # Errors
    /// As [`Trainer::upload_data`] and [`Trainer::upload_vectors`]; [`Error::Environment`] if there can be no thread.
    pub fn stream_data(&mut self, source: Arc<dyn Source>) -> Result<()> {
        let Some(ring) = &self.step.ring else {
            return Err(Error::internal("a data set to stream for a step that does not"));
        };
        let storage = source.storage();
        self.check_data(storage, source.count().saturating_mul(source.item_len() * storage.bytes()))?;
        let order = Order { seed: self.config.seed, batch: self.config.batch };
        self.stream = Some(Prefetcher::new(source, order, SUBMITS_AHEAD * ring.steps * self.config.d_steps));
        self.seek_stream()
    }

    /// Lets a streamed data set be read ahead from the batch that comes next.
    fn seek_stream(&mut self) -> Result<()> {
        let next = batch_at(&schedule::row(&self.config, self.images, self.position), 0);
        self.stream.as_mut().map_or(Ok(()), |stream| stream.seek(next))
    }

    /// How long steps have waited for batches of a streamed data set since this was last asked; `None` if it is not streamed.
    pub fn take_data_wait(&mut self) -> Option<Duration> {
        self.stream.as_mut().map(Prefetcher::take_waited)
    }

    /// Uploads the class of each image of the data set. Does nothing if no network takes classes.
    ///
    /// # Errors
    /// [`Error::Input`] if a label is not below the number of classes. [`Error::Internal`] if there are not as many labels as images.
    pub fn upload_labels(&mut self, labels: &[u32]) -> Result<()> {
        let Some(place) = self.step.data_labels else { return Ok(()) };
        if labels.len() != self.images {
            return Err(Error::internal(format!("{} labels for a data set of {} items", labels.len(), self.images)));
        }
        self.check_labels(labels)?;
        self.write(place, bytemuck::cast_slice(labels))?;
        self.awaits_labels = false;
        Ok(())
    }

    /// A class beyond the last would join nothing to its sample.
    fn check_labels(&self, labels: &[u32]) -> Result<()> {
        let networks = [&self.config.generator, &self.config.discriminator].into_iter().filter(|network| network.is_conditional());
        let classes = networks.filter_map(|network| network.classes).min().unwrap_or(0);
        match labels.iter().position(|&label| label as usize >= classes) {
            Some(index) => {
                Err(Error::input(format!("the label of item {index} is {}, and the networks know {classes} classes", labels[index])))
            }
            None => Ok(()),
        }
    }

    /// Uploads the class of each sample of a batch (N) for discriminator update `update` of the next step ([`Inputs::Given`]).
    ///
    /// # Errors
    /// [`Error::Input`] if a label is not below the number of classes. [`Error::Internal`] if no network takes classes, or there are not N.
    pub fn upload_batch_labels(&self, update: usize, labels: &[u32]) -> Result<()> {
        let place = self.step.labels.get(update).filter(|place| place.len == 8 * labels.len());
        let place = place.ok_or_else(|| Error::internal(format!("{} labels for a batch of {}", labels.len(), self.config.micro_batch)))?;
        self.check_labels(labels)?;
        let rows: Vec<[f32; 4]> = labels.iter().chain(labels).map(|&label| [label as f32, 0.0, 0.0, 0.0]).collect();
        self.executor.write(&self.gpu, *place, bytemuck::cast_slice(&rows))
    }

    /// Uploads z (N, z_dim) and a real batch (N, C, H, W) for discriminator update `update` of the next step ([`Inputs::Given`]).
    pub fn upload_batch(&self, update: usize, z: &Tensor, real: &Tensor) -> Result<()> {
        self.executor.write(&self.gpu, self.step.z[update], &z.pack())?;
        let real = Tensor::new(self.step.real_shape.clone(), real.data.clone());
        self.executor.write(&self.gpu, self.step.real[update], &real.pack())
    }

    /// Runs `steps` steps; returns when they are submitted.
    pub fn run_steps(&mut self, steps: u32) -> Result<()> {
        let mut left = steps;
        while left > 0 {
            let chosen = self.steps_per_submit.or(self.measured).unwrap_or(1).min(self.most_steps()).min(left);
            let rows: Vec<StepRow> =
                (0..chosen as u64).map(|i| schedule::row(&self.config, self.images, self.position.after(i, self.config.batch))).collect();
            self.run_rows(&rows)?;
            left -= chosen;
        }
        Ok(())
    }

    /// Most steps in a submit.
    fn most_steps(&self) -> u32 {
        self.step.ring.as_ref().map_or(MAX_STEPS_PER_SUBMIT, |ring| ring.steps) as u32
    }

    /// Uploads what the next submit needs: its rows and, if the data set is streamed, its batches.
    fn write_rows(&mut self, rows: &[StepRow]) -> Result<()> {
        if self.awaits_labels {
            return Err(Error::internal(
                "the networks take classes, and the data set's labels have not been uploaded (Trainer::upload_labels)",
            ));
        }
        let mut rows = rows.to_vec();
        self.write_batches(&mut rows)?;
        let split: Vec<StepRow> = rows.iter().flat_map(|row| schedule::micro_batch_rows(&self.config, row)).collect();
        self.gpu.write(&self.rows, 0, bytemuck::cast_slice(&split))
    }

    /// Uploads the batches that the rows name, and tells the rows where they are. Writes come after the submits before, and before the next one.
    fn write_batches(&mut self, rows: &mut [StepRow]) -> Result<()> {
        let Some(ring) = &self.step.ring else { return Ok(()) };
        if rows.len() > ring.steps {
            return Err(Error::internal(format!("a submit of {} steps for a ring of {}", rows.len(), ring.steps)));
        }
        let stream = self.stream.as_mut().ok_or_else(|| Error::internal("a step that streams its data, and no data to stream"))?;
        for (i, row) in rows.iter_mut().enumerate() {
            row.slots[StepRow::RING as usize][0] = (i * ring.stride) as u32;
            for (update, place) in ring.places.iter().enumerate() {
                let batch = stream.take(batch_at(row, update))?;
                let step_bytes = place.len as u64 * 4 / ring.steps as u64;
                self.gpu.write(self.executor.buffer(place.buffer), i as u64 * step_bytes, &batch.bytes)?;
                stream.recycle(batch);
            }
        }
        Ok(())
    }

    /// Runs one step for each of the given rows of per-step scalars.
    pub fn run_rows(&mut self, rows: &[StepRow]) -> Result<()> {
        self.write_rows(rows)?;
        // The first step compiles pipelines; the second is timed, to choose how many go into one submit.
        let timed = self.steps_per_submit.is_none() && self.measured.is_none() && self.position.step > 0;
        if timed {
            self.gpu.wait()?;
        }
        let start = Instant::now();
        self.executor.submit(&self.gpu, 0..rows.len() as u32)?;
        self.position = self.position.after(rows.len() as u64, self.config.batch);
        if timed {
            self.gpu.wait()?;
            let step = start.elapsed() / rows.len() as u32;
            let fitting = SUBMIT_TIME.as_nanos() / step.as_nanos().max(1);
            self.measured = Some((fitting as u32).clamp(1, MAX_STEPS_PER_SUBMIT as u32));
        }
        Ok(())
    }

    /// Runs one more step by itself and times each dispatch by the finest clock that the adapter has; of parts that run several times, the first
    /// time.
    pub fn time_step(&mut self) -> Result<TimedRun> {
        let row = schedule::row(&self.config, self.images, self.position);
        self.write_rows(&[row])?;
        self.position = self.position.after(1, self.config.batch);
        self.executor.submit_timed(&self.gpu)
    }

    /// Losses of the last step: D on reals, D on fakes, G; where its batch had several micro-batches, of the last one. Waits for the device.
    pub fn losses(&self) -> Result<[f32; 3]> {
        let mut losses = [0.0; 3];
        for (loss, place) in losses.iter_mut().zip(self.step.losses) {
            *loss = self.executor.read(&self.gpu, place)?[0];
        }
        Ok(losses)
    }

    /// Waits for the device and looks for non-finite numbers met since the beginning.
    ///
    /// # Errors
    /// [`Error::Diverged`] naming the first tensor and step.
    pub fn check_finite(&self) -> Result<()> {
        self.check_events(&self.read(self.step.events)?)
    }

    fn check_events(&self, bytes: &[u8]) -> Result<()> {
        let events: Vec<u32> = bytemuck::pod_collect_to_vec(bytes);
        let events: [u32; BadEvent::WORDS] = events.try_into().map_err(|_| Error::internal("an events buffer of another length"))?;
        if let Some(bad) = BadEvent::read(events) {
            let stores = [&self.step.generator, &self.step.discriminator].into_iter().find(|s| s.id == bad.store);
            let stores = stores.ok_or_else(|| Error::internal("a bad event of no network"))?;
            let name = match bad.culprit {
                Culprit::Gradient(tensor) => match stores.parameters.tensors.get(tensor as usize) {
                    Some(t) => format!("the gradient of {}.{}", stores.name, t.spec.name),
                    None => format!("a gradient of {}", stores.name),
                },
                Culprit::Logits => "the discriminator's output".to_string(),
                Culprit::Scalar(stat) => stat.name().to_string(),
            };
            return Err(Error::Diverged(format!("{name} is not finite in step {}", bad.step)));
        }
        Ok(())
    }

    /// Orders that the statistics of the steps so far are read and cleared, and returns at once.
    ///
    /// # Errors
    /// [`Error::Environment`] if the device is lost or out of memory.
    pub fn end_tick(&mut self) -> Result<PendingStats> {
        let [events, stats] = [self.step.events, self.step.stats]
            .map(|place| self.gpu.read_later(self.executor.buffer(place.buffer), place.offset as u64 * 4, place.len as u64 * 4));
        let pending = PendingStats { events: events?, stats: stats? };
        self.write(self.step.stats, &vec![0; self.step.stats.len * 4])?;
        Ok(pending)
    }

    /// Whether [`Trainer::finish_tick`] would return at once.
    ///
    /// # Errors
    /// As [`Trainer::end_tick`].
    pub fn is_tick_ready(&self, pending: &mut PendingStats) -> Result<bool> {
        Ok(pending.events.is_ready(&self.gpu)? && pending.stats.is_ready(&self.gpu)?)
    }

    /// The statistics of a tick, when the device is done with it.
    ///
    /// # Errors
    /// [`Error::Diverged`] if a non-finite number had turned up by the end of the tick, naming the first tensor and step.
    pub fn finish_tick(&self, pending: PendingStats) -> Result<Vec<(Stat, Summary)>> {
        self.check_events(&pending.events.wait(&self.gpu)?)?;
        StatsLayout::read(&bytemuck::pod_collect_to_vec::<u8, f32>(&pending.stats.wait(&self.gpu)?))
    }

    /// Statistics of the steps since the last call, which are then cleared. Waits for the device.
    ///
    /// # Errors
    /// As [`Trainer::finish_tick`].
    pub fn tick_stats(&mut self) -> Result<Vec<(Stat, Summary)>> {
        let pending = self.end_tick()?;
        self.finish_tick(pending)
    }

    fn read(&self, place: Place) -> Result<Vec<u8>> {
        self.gpu.read(self.executor.buffer(place.buffer), place.offset as u64 * 4, place.len as u64 * 4)
    }

    fn write(&self, place: Place, bytes: &[u8]) -> Result<()> {
        self.gpu.write(self.executor.buffer(place.buffer), place.offset as u64 * 4, bytes)
    }

    /// Images of the averaged generator for rows of z; the classes of a conditional one take turns.
    pub fn sample(&self, z: &[f32]) -> Result<Images> {
        self.signed(self.sampler.run(&self.gpu, z)?)
    }

    /// Images of the averaged generator for rows of z, each of its class, as [`Sampler::run_classes`].
    pub fn sample_classes(&self, z: &[f32], classes: &[u32]) -> Result<Images> {
        self.signed(self.sampler.run_classes(&self.gpu, z, classes)?)
    }

    fn signed(&self, mut images: Images) -> Result<Images> {
        self.config.image_range().to_signed(&mut images.data);
        Ok(images)
    }

    /// Every tensor of the training state by checkpoint name, in PyTorch's layout. Waits for the device.
    pub fn tensors(&self) -> Result<BTreeMap<String, HostTensor>> {
        let mut tensors = BTreeMap::new();
        for (prefix, layout, store) in self.stores() {
            let segments: Vec<Vec<f32>> =
                (0..layout.segments.len()).map(|i| self.executor.read(&self.gpu, store.segment(layout, i))).collect::<Result<_>>()?;
            for stored in &layout.tensors {
                let shape = &stored.spec.shape;
                let tensor = Tensor::unpack(shape, &segments[stored.segment][stored.offset..]);
                let data = HostData::F32(tensor.data.iter().map(|&v| v as f32).collect());
                tensors.insert(format!("{prefix}.{}", stored.spec.name), HostTensor { shape: shape.dims().to_vec(), data });
            }
        }
        let data = HostData::U32(bytemuck::pod_collect_to_vec(&self.read(self.step.stats)?));
        tensors.insert(TICK.to_string(), HostTensor { shape: vec![self.step.stats.len], data });
        Ok(tensors)
    }

    /// Sets the whole training state from what [`Trainer::tensors`] gave at `position`.
    ///
    /// # Errors
    /// [`Error::Input`] if a tensor is missing, left over, or has another shape or type; nothing is changed then.
    pub fn load_tensors(&mut self, position: Position, tensors: &BTreeMap<String, HostTensor>) -> Result<()> {
        let mut known = Vec::new();
        let mut writes: Vec<(Place, Vec<u8>)> = Vec::new();
        for (prefix, layout, store) in self.stores() {
            let mut values = Vec::new();
            for stored in &layout.tensors {
                let name = format!("{prefix}.{}", stored.spec.name);
                values.push(Tensor::new(stored.spec.shape.clone(), floats(tensors, &name, &stored.spec.shape)?));
                known.push(name);
            }
            for index in 0..layout.segments.len() {
                let image = pack_segment(layout, index, &values);
                writes.push((store.segment(layout, index), bytemuck::cast_slice(&image).to_vec()));
            }
        }
        let words = self.step.stats.len;
        match &tensors.get(TICK).ok_or_else(|| missing(TICK))?.data {
            HostData::U32(data) if data.len() == words => writes.push((self.step.stats, bytemuck::cast_slice(data).to_vec())),
            _ => return Err(Error::input(format!("tensor {TICK} should hold {words} 32-bit words"))),
        }
        known.push(TICK.to_string());
        if let Some(extra) = tensors.keys().find(|name| !known.contains(name)) {
            return Err(Error::input(format!("tensor {extra} belongs to no part of this configuration; was it made by another preset?")));
        }
        for (place, bytes) in writes {
            self.write(place, &bytes)?;
        }
        self.write(self.step.events, &[0; BadEvent::WORDS * 4])?;
        self.position = position;
        self.seek_stream()
    }

    /// Sets a network's parameters and running statistics (not the moments) by PyTorch key: `"G"` or `"D"`, then the state dict.
    pub fn load_network(&mut self, name: &str, state: &HashMap<String, Tensor>) -> Result<()> {
        let stores = if name == "G" { &self.step.generator } else { &self.step.discriminator };
        for (layout, store) in [(&stores.parameters, &stores.values), (&stores.running, &stores.stats)] {
            for stored in &layout.tensors {
                let Some(tensor) = state.get(&stored.spec.name) else {
                    return Err(missing(&format!("{name}.{}", stored.spec.name)));
                };
                if tensor.shape != stored.spec.shape {
                    return Err(Error::input(format!(
                        "tensor {name}.{} has shape {}, expected {}",
                        stored.spec.name, tensor.shape, stored.spec.shape
                    )));
                }
                self.executor.write(&self.gpu, store.place(stored), &tensor.pack())?;
            }
        }
        Ok(())
    }

    /// Checkpoint prefix, layout and buffers of everything that is state.
    fn stores(&self) -> Vec<(String, &Layout, &Store)> {
        let mut all = Vec::new();
        for stores in [&self.step.generator, &self.step.discriminator] {
            let name = &stores.name;
            all.push((name.clone(), &stores.parameters, &stores.values));
            all.push((name.clone(), &stores.running, &stores.stats));
            for (moment, store) in [("m", &stores.m), ("v", &stores.v)] {
                all.extend(store.iter().map(|store| (format!("{}.{name}.{moment}", stores.optimiser), &stores.parameters, store)));
            }
            if let Some((ema, ema_stats)) = &stores.ema {
                all.push((format!("{name}_ema"), &stores.parameters, ema));
                all.push((format!("{name}_ema"), &stores.running, ema_stats));
            }
        }
        all
    }
}

/// Epoch and position in it of the batch of a discriminator update.
fn batch_at(row: &StepRow, update: usize) -> [u32; 2] {
    let [epoch, start, ..] = row.slots[StepRow::draw(update) as usize];
    [epoch, start]
}

fn floats(tensors: &BTreeMap<String, HostTensor>, name: &str, shape: &Shape) -> Result<Vec<f64>> {
    let tensor = tensors.get(name).ok_or_else(|| missing(name))?;
    if tensor.shape != shape.dims() {
        return Err(Error::input(format!("tensor {name} has shape {:?}, this configuration needs {shape}", tensor.shape)));
    }
    match &tensor.data {
        HostData::F32(values) if values.len() == shape.len() => Ok(values.iter().map(|&v| v as f64).collect()),
        _ => Err(Error::input(format!("tensor {name} should hold {} 32-bit floats", shape.len()))),
    }
}

fn missing(name: &str) -> Error {
    Error::input(format!("tensor {name} is missing; was the file made by another preset?"))
}
