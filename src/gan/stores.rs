//! What the device keeps of each network: parameters, gradients, moments, running statistics, averages.

use super::config::GanConfig;
use crate::error::Result;
use crate::graph::lower::{BufferId, Place};
use crate::nn::store::{ALIGNMENT, Layout, Role, Store};
use crate::ops::optimiser::{BLOCK, Clip, FACTOR_WORDS};
use crate::plan::Program;

/// One of the two networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The generator.
    Generator = 0,
    /// The discriminator.
    Discriminator = 1,
}

/// Buffers of one network.
#[derive(Debug, Clone)]
pub struct NetworkStores {
    /// `"G"` or `"D"`.
    pub name: String,
    /// Layout of the parameter stores.
    pub parameters: Layout,
    /// Layout of the running statistics.
    pub running: Layout,
    /// Parameter values.
    pub values: Store,
    /// Gradients of the last update.
    pub grads: Store,
    /// Gradients of its last micro-batch, where a batch has several.
    pub micro_grads: Option<Store>,
    /// First moments, if the optimiser keeps them ([`crate::ops::optimiser::Moments`]).
    pub m: Option<Store>,
    /// Second moments, if the optimiser keeps them.
    pub v: Option<Store>,
    /// Name of the moments in checkpoints: `"adam"`.
    pub optimiser: &'static str,
    /// Sums of the gradients' squares, segments one after the other.
    pub squares: BufferId,
    /// The factor that clips the gradients by norm, if they are.
    pub factor: Option<BufferId>,
    /// Running statistics.
    pub stats: Store,
    /// Moving average of parameters and running statistics (generator only).
    pub ema: Option<(Store, Store)>,
    /// Its number in the tick statistics.
    pub id: u32,
}

impl NetworkStores {
    pub(super) fn declare(program: &mut Program, config: &GanConfig, which: Which, max_bytes: u64) -> Result<Self> {
        let network = match which {
            Which::Generator => &config.generator,
            Which::Discriminator => &config.discriminator,
        };
        let update = config.update(which);
        let tensors = network.tensors()?;
        let of = |role| tensors.iter().filter(move |t| t.role == role).cloned();
        let parameters = Layout::new(of(Role::Parameter), max_bytes)?;
        let running = Layout::new(of(Role::Running), max_bytes)?;
        let name = &network.name;
        let micro_grads = (config.micro_batches() > 1).then(|| Store::declare(program, &format!("{name}.micro_grads"), &parameters));
        let ema = (which == Which::Generator).then(|| {
            (Store::declare(program, &format!("{name}.ema"), &parameters), Store::declare(program, &format!("{name}.ema_stats"), &running))
        });
        let moments = update.optimiser.moments();
        Ok(NetworkStores {
            name: name.clone(),
            values: Store::declare(program, &format!("{name}.values"), &parameters),
            grads: Store::declare(program, &format!("{name}.grads"), &parameters),
            m: moments.m.then(|| Store::declare(program, &format!("{name}.m"), &parameters)),
            v: moments.v.then(|| Store::declare(program, &format!("{name}.v"), &parameters)),
            optimiser: update.optimiser.kernel(),
            factor: matches!(update.clip, Some(Clip::Norm(_))).then(|| program.buffer(format!("{name}.clip"), FACTOR_WORDS)),
            stats: Store::declare(program, &format!("{name}.stats"), &running),
            squares: program.buffer(format!("{name}.squares"), parameters.segments.iter().map(|&words| square_words(words)).sum()),
            micro_grads,
            ema,
            parameters,
            running,
            id: which as u32,
        })
    }

    /// Where the squares of each segment of a network's gradient go.
    pub fn square_places(&self) -> Vec<Place> {
        let mut offset = 0;
        let place = |&words: &usize| {
            let len = square_words(words);
            offset += len;
            Place { buffer: self.squares, offset: offset - len, len }
        };
        self.parameters.segments.iter().map(place).collect()
    }

    /// The squares of a network's whole gradient; zeros are between segments.
    pub fn all_squares(&self) -> Place {
        Place::whole(self.squares, self.square_places().iter().map(|place| place.len).sum())
    }
}

/// Words that the squares of a segment of so many words take: one for each block, and starting where a binding may start.
fn square_words(words: usize) -> usize {
    words.div_ceil(BLOCK).next_multiple_of(ALIGNMENT)
}
