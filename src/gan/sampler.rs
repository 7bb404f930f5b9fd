//! Images from a generator: evaluation mode, averaged weights.

use crate::error::{Error, Result};
use crate::gpu::{Buffer, Gpu};
use crate::graph::lower::{Caps, Place};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::nn::network::{Input, Mode, Network, Params};
use crate::nn::store::{Layout, Role, Store};
use crate::plan::{Executor, Plan, Program, compile};
use std::collections::HashMap;

/// A batch of images in [-1, 1], in NCHW order. Vectors are images of one pixel, with as many channels as they are long.
#[derive(Debug, Clone, PartialEq)]
pub struct Images {
    /// Number of images.
    pub n: usize,
    /// Channels: 1 for grey, 3 for RGB; the length of vectors.
    pub c: usize,
    /// Height in pixels.
    pub h: usize,
    /// Width in pixels.
    pub w: usize,
    /// `n * c * h * w` values.
    pub data: Vec<f32>,
}

impl Images {
    /// The byte that a value is shown as: -1 is black, 1 is white, values beyond are clamped, NaN is black.
    pub fn byte(value: f32) -> u8 {
        // `as` saturates, and turns NaN into 0.
        ((value + 1.0) * 127.5).round() as u8
    }

    /// Image `i` alone.
    ///
    /// # Panics
    /// If there are not that many.
    pub fn image(&self, i: usize) -> Images {
        let size = self.c * self.h * self.w;
        Images { n: 1, data: self.data[i * size..(i + 1) * size].to_vec(), ..*self }
    }
}

/// A compiled generator in evaluation mode.
pub struct Sampler {
    executor: Executor,
    z_dim: usize,
    batch: usize,
    z: Place,
    conditions: Option<Conditions>,
    out: Place,
    image: Shape,
    parameters: (Layout, Store),
    running: (Layout, Store),
}

/// Where a conditional generator takes the class of each row from.
#[derive(Debug, Clone, Copy)]
struct Conditions {
    labels: Place,
    classes: usize,
}

/// A generator's plan in evaluation mode, and its places.
struct Compiled {
    plan: Plan,
    z_dim: usize,
    z: Place,
    conditions: Option<Conditions>,
    out: Place,
    image: Shape,
    parameters: (Layout, Store),
    running: (Layout, Store),
}

impl Compiled {
    fn new(generator: &Network, batch: usize, caps: &Caps) -> Result<Self> {
        let tensors = generator.tensors()?;
        let of = |role| tensors.iter().filter(move |t| t.role == role).cloned();
        let parameters = Layout::new(of(Role::Parameter), caps.max_binding)?;
        let running = Layout::new(of(Role::Running), caps.max_binding)?;
        let mut program = Program::new("sample");
        let values = Store::declare(&mut program, &format!("{}.ema", generator.name), &parameters);
        let stats = Store::declare(&mut program, &format!("{}.ema_stats", generator.name), &running);
        let z_shape = generator.input_shape(batch)?;
        let z = program.tensor_buffer("sample.z", &z_shape);
        let mut params = Params::new();
        for (layout, store) in [(&parameters, &values), (&running, &stats)] {
            for stored in &layout.tensors {
                let leaf = program.leaf(&stored.spec.name, &stored.spec.shape, store.place(stored))?;
                params.insert(stored.spec.name.clone(), leaf);
            }
        }
        let mut input = Input::from(program.leaf("z", &z_shape, z)?);
        let mut conditions = None;
        if let (true, Some(classes)) = (generator.is_conditional(), generator.classes) {
            let shape = Shape::new(&[batch, 1])?;
            let labels = program.tensor_buffer("sample.labels", &shape);
            input.labels = Some(program.leaf("labels", &shape, labels)?);
            conditions = Some(Conditions { labels, classes });
        }
        let output = generator.forward(&mut program, &params, input, Mode::Eval, "G")?.output;
        let image = program.graph.shape(output).clone();
        let out = program.tensor_buffer("sample.out", &image);
        program.compute(output, out);
        let plan = compile(&mut program, caps)?;
        Ok(Compiled {
            plan,
            z_dim: z_shape.channels(),
            z,
            conditions,
            out,
            image,
            parameters: (parameters, values),
            running: (running, stats),
        })
    }

    /// Device memory without the weights, which a trainer shares.
    fn own_bytes(&self) -> u64 {
        let weights: u64 =
            [&self.parameters, &self.running].iter().flat_map(|(layout, _)| &layout.segments).map(|&words| words as u64 * 4).sum();
        self.plan.memory().total() - weights
    }
}

impl Sampler {
    /// Compiles `generator` for batches of `batch`.
    ///
    /// `shared` may hold the buffers `G.ema.*` and `G.ema_stats.*` of a trainer; otherwise the weights come from [`Sampler::load`].
    pub fn new(gpu: &Gpu, generator: &Network, batch: usize, shared: &HashMap<String, Buffer>) -> Result<Self> {
        let Compiled { plan, z_dim, z, conditions, out, image, parameters, running } = Compiled::new(generator, batch, &gpu.caps())?;
        let executor = Executor::new(gpu, "sample", &plan, shared, None)?;
        Ok(Sampler { executor, z_dim, batch, z, conditions, out, image, parameters, running })
    }

    /// Bytes of device memory that a sampler with shared weights will allocate.
    ///
    /// # Errors
    /// As for [`Sampler::new`], without those of the GPU.
    pub fn planned_bytes(generator: &Network, batch: usize, caps: &Caps) -> Result<u64> {
        Ok(Compiled::new(generator, batch, caps)?.own_bytes())
    }

    /// Bytes that the sampler allocated itself.
    pub fn own_bytes(&self) -> u64 {
        self.executor.own_bytes()
    }

    /// Length of the vectors that the generator makes; `None` if it makes images.
    pub fn features(&self) -> Option<usize> {
        (self.image.rank() == 2).then(|| self.image.channels())
    }

    /// Names and shapes of the tensors that [`Sampler::load`] expects.
    pub fn tensors(&self) -> Vec<(String, Shape)> {
        let all = self.parameters.0.tensors.iter().chain(&self.running.0.tensors);
        all.map(|t| (t.spec.name.clone(), t.spec.shape.clone())).collect()
    }

    /// Uploads weights and running statistics by PyTorch key.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape; the message names it.
    pub fn load(&self, gpu: &Gpu, tensors: &HashMap<String, Tensor>) -> Result<()> {
        for (layout, store) in [&self.parameters, &self.running] {
            for stored in &layout.tensors {
                let (name, shape) = (&stored.spec.name, &stored.spec.shape);
                let tensor = tensors.get(name).ok_or_else(|| Error::input(format!("the generator has no tensor {name}")))?;
                if tensor.shape != *shape {
                    return Err(Error::input(format!("generator tensor {name} has shape {}, expected {shape}", tensor.shape)));
                }
                self.executor.write(gpu, store.place(stored), &tensor.pack())?;
            }
        }
        Ok(())
    }

    /// Classes of a conditional generator; `None` if it takes none.
    pub fn classes(&self) -> Option<usize> {
        self.conditions.map(|conditions| conditions.classes)
    }

    /// Generates an image for each row of `z` (rows of `z_dim` values); for a conditional generator, the classes take turns from row to row.
    ///
    /// # Errors
    /// If `z` is not a whole number of rows.
    pub fn run(&self, gpu: &Gpu, z: &[f32]) -> Result<Images> {
        let turns = self.classes().map_or(Vec::new(), |classes| (0..z.len() / self.z_dim).map(|i| (i % classes) as u32).collect());
        self.run_classes(gpu, z, &turns)
    }

    /// Generates an image for each row of `z`, of the class that `classes` has for it; none for a generator that takes no classes.
    ///
    /// # Errors
    /// [`Error::Input`] if `z` is not a whole number of rows, or there are not as many classes, or one is not below [`Sampler::classes`].
    pub fn run_classes(&self, gpu: &Gpu, z: &[f32], classes: &[u32]) -> Result<Images> {
        if z.is_empty() || !z.len().is_multiple_of(self.z_dim) {
            return Err(Error::input(format!("z has {} values; expected a positive multiple of {}", z.len(), self.z_dim)));
        }
        let [_, c, h, w] = self.image.nchw();
        let n = z.len() / self.z_dim;
        let known = self.classes().unwrap_or(0);
        if classes.len() != if known > 0 { n } else { 0 } {
            return Err(Error::input(format!("{} classes for {n} rows of z of a generator of {known} classes", classes.len())));
        }
        if let Some(class) = classes.iter().find(|class| **class as usize >= known) {
            return Err(Error::input(format!("class {class}: the generator has the classes 0 to {}", known - 1)));
        }
        let mut data = Vec::with_capacity(n * c * h * w);
        let z_shape = Shape::new(&[self.batch, self.z_dim])?;
        for (index, rows) in z.chunks(self.batch * self.z_dim).enumerate() {
            let mut padded: Vec<f64> = rows.iter().map(|&v| v as f64).collect();
            padded.resize(self.batch * self.z_dim, 0.0);
            self.executor.write(gpu, self.z, &Tensor::new(z_shape.clone(), padded).pack())?;
            if let Some(Conditions { labels, .. }) = self.conditions {
                let mut rows = vec![[0f32; 4]; self.batch];
                for (row, class) in rows.iter_mut().zip(&classes[index * self.batch..]) {
                    row[0] = *class as f32;
                }
                self.executor.write(gpu, labels, bytemuck::cast_slice(&rows))?;
            }
            self.executor.submit(gpu, 0..1)?;
            let physical = self.executor.read(gpu, self.out)?;
            let images = Tensor::unpack(&self.image, &physical);
            data.extend(images.data[..rows.len() / self.z_dim * c * h * w].iter().map(|&v| v as f32));
        }
        Ok(Images { n, c, h, w, data })
    }
}
