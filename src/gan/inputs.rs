//! Where z and the batches of a step come from.

use super::config::GanConfig;
use crate::error::{Error, Result};
use crate::graph::lower::Place;
use crate::plan::Program;

/// Most steps in one submit.
pub const MAX_STEPS_PER_SUBMIT: usize = 8;
/// The ring of a streamed data set holds as many steps of a submit as fit this many bytes, and one at least.
const RING_BYTES: usize = 64 << 20;

/// Where the inputs of a step come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inputs {
    /// z is drawn and batches are gathered on the device, from a resident data set of this many images or vectors.
    Device {
        /// Number of images.
        images: usize,
    },
    /// As [`Inputs::Device`], but the data set stays on the host, and only the batches of the next few steps are on the device. Trains to the same
    /// bits.
    Stream {
        /// Number of images.
        images: usize,
    },
    /// Both are uploaded before each step (tests).
    Given,
}

impl Inputs {
    /// Number of images or vectors of the data set that batches are drawn from; `None` if they are given.
    pub fn images(&self) -> Option<usize> {
        match *self {
            Inputs::Device { images } | Inputs::Stream { images } => Some(images),
            Inputs::Given => None,
        }
    }
}

/// Where the batches of a streamed data set lie on the device: those of the steps of one submit.
#[derive(Debug, Clone)]
pub struct Ring {
    /// A buffer for each discriminator update.
    pub places: Vec<Place>,
    /// Steps that there is room for.
    pub steps: usize,
    /// Images from the batch of one step to that of the next, so many that each begins at a whole word.
    pub stride: usize,
}

impl Ring {
    /// Declares the buffers, for images of `bytes` bytes.
    pub(super) fn declare(program: &mut Program, config: &GanConfig, bytes: usize, max_bytes: u64) -> Result<Self> {
        let stride = config.batch.next_multiple_of(4);
        let batch = stride.checked_mul(bytes).filter(|&batch| batch as u64 <= max_bytes).ok_or_else(|| {
            Error::input(format!(
                "a batch of {} images of {bytes} bytes does not fit a buffer of {max_bytes} bytes, the most that the adapter binds; give a \
                 smaller --batch",
                config.batch
            ))
        })?;
        let steps = (RING_BYTES / (batch * config.d_steps)).clamp(1, MAX_STEPS_PER_SUBMIT).min((max_bytes / batch as u64) as usize);
        let words = steps * batch / 4;
        let places = (0..config.d_steps).map(|update| Place::whole(program.buffer(format!("ring.{update}"), words), words)).collect();
        Ok(Ring { places, steps, stride })
    }
}
