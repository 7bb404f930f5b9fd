//! Parameter stores: a network's tensors in flat buffers, cut into segments that an adapter can bind.

use super::init::Init;
use crate::error::{Error, Result};
use crate::graph::lower::{BufferId, Place};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::plan::Program;

/// Every tensor of a store starts at a multiple of this many words (256 bytes, the largest storage offset alignment that wgpu asks for).
pub const ALIGNMENT: usize = 64;

/// What a tensor of a network is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Updated by the optimiser.
    Parameter,
    /// Updated by forward passes in training mode (batch norm's running statistics).
    Running,
}

/// A tensor that a network needs, with PyTorch's name and shape.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorSpec {
    /// PyTorch's state-dict key: `"3.weight"`.
    pub name: String,
    /// Logical shape, PyTorch's axis order.
    pub shape: Shape,
    /// What it is for.
    pub role: Role,
    /// Its first value.
    pub init: Init,
}

/// Where a tensor lies in a store.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The tensor.
    pub spec: TensorSpec,
    /// Index of the segment.
    pub segment: usize,
    /// First word in the segment.
    pub offset: usize,
}

/// The layout shared by a network's stores (values, gradients, moments, EMA).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layout {
    /// Tensors in network order.
    pub tensors: Vec<Stored>,
    /// Words of each segment, multiples of [`ALIGNMENT`].
    pub segments: Vec<usize>,
}

impl Layout {
    /// Lays tensors out one after the other, opening a new segment where one would pass `max_bytes`.
    ///
    /// # Errors
    /// If one tensor alone is larger than `max_bytes`.
    pub fn new(specs: impl IntoIterator<Item = TensorSpec>, max_bytes: u64) -> Result<Self> {
        let max_words = (max_bytes / 4) as usize / ALIGNMENT * ALIGNMENT;
        let mut layout = Layout::default();
        for spec in specs {
            let words = spec.shape.physical_len().next_multiple_of(ALIGNMENT);
            if words > max_words {
                return Err(Error::input(format!(
                    "parameter {} of shape {} needs {} MiB, and this adapter binds at most {} MiB; make the layer smaller",
                    spec.name,
                    spec.shape,
                    (words * 4) >> 20,
                    max_bytes >> 20
                )));
            }
            if layout.segments.last().is_none_or(|used| used + words > max_words) {
                layout.segments.push(0);
            }
            let segment = layout.segments.len() - 1;
            layout.tensors.push(Stored { spec, segment, offset: layout.segments[segment] });
            layout.segments[segment] += words;
        }
        Ok(layout)
    }

    /// Logical element count of all tensors.
    pub fn elements(&self) -> usize {
        self.tensors.iter().map(|t| t.spec.shape.len()).sum()
    }
}

/// One flat store of a network in a program: a buffer for each segment.
#[derive(Debug, Clone, Default)]
pub struct Store {
    /// Segments in order.
    pub segments: Vec<BufferId>,
}

impl Store {
    /// Declares the buffers of a store, named `name.0`, `name.1`, ….
    pub fn declare(program: &mut Program, name: &str, layout: &Layout) -> Self {
        let segments = layout.segments.iter().enumerate().map(|(i, &words)| program.buffer(format!("{name}.{i}"), words)).collect();
        Store { segments }
    }

    /// Where a tensor lies.
    pub fn place(&self, stored: &Stored) -> Place {
        Place { buffer: self.segments[stored.segment], offset: stored.offset, len: stored.spec.shape.physical_len() }
    }

    /// A whole segment.
    pub fn segment(&self, layout: &Layout, index: usize) -> Place {
        Place { buffer: self.segments[index], offset: 0, len: layout.segments[index] }
    }
}

/// The physical image of one segment, from logical tensors in layout order.
pub fn pack_segment(layout: &Layout, segment: usize, tensors: &[Tensor]) -> Vec<f32> {
    let mut image = vec![0.0; layout.segments[segment]];
    for (stored, tensor) in layout.tensors.iter().zip(tensors).filter(|(s, _)| s.segment == segment) {
        let packed = tensor.pack();
        image[stored.offset..stored.offset + packed.len()].copy_from_slice(&packed);
    }
    image
}
