//! What ops lower to: dispatches over virtual operands.

use super::NodeId;
use super::variants::{Choice, Variants};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Dispatch, Kernel};
use std::sync::Arc;

/// Iterations of all its loops together that an invocation is given on a software adapter. llvmpipe ends loops after 65,535 of them without a word
/// (Mesa 22.3 does, 25.0 no longer), so that sums lose their rest; the difference is for loops whose lengths do not depend on shapes.
const SOFTWARE_ITERATIONS: usize = 65_000;

/// What the adapter offers, as far as the choice of kernels depends on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Caps {
    /// Subgroups have exactly [`crate::gpu::kernel::Kernel::LANES`] lanes, in invocation order (proven by the start-up lane test).
    pub fixed_subgroup: bool,
    /// A workgroup of [`crate::gpu::kernel::Kernel::QUAD`] is one quad, with its lanes in invocation order (proven by a start-up lane test).
    pub quads: bool,
    /// 64-bit integers in shaders.
    pub int64: bool,
    /// Conversion between f32 and f16 in shaders.
    pub float16: bool,
    /// Matrix units as [`crate::gpu::kernel::Feature::Matrix`] asks for, on a device that was opened with them.
    pub matrix: bool,
    /// Largest storage binding in bytes.
    pub max_binding: u64,
    /// The adapter is a software rasteriser (lavapipe, SwiftShader, WARP).
    pub software: bool,
}

impl Caps {
    /// An adapter with no optional feature and WebGPU's default limits.
    pub fn minimal() -> Self {
        Caps { fixed_subgroup: false, quads: false, int64: false, float16: false, matrix: false, max_binding: 128 << 20, software: false }
    }

    /// Whether an invocation may run so many iterations, over all its loops.
    pub fn can_loop(&self, iterations: usize) -> bool {
        !self.software || iterations <= SOFTWARE_ITERATIONS
    }
}

/// A declared buffer of a program (parameter stores, inputs, state).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub usize);

/// A range of a declared buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The buffer.
    pub buffer: BufferId,
    /// Offset in 32-bit words; a multiple of 64 (256 bytes, the largest storage offset alignment).
    pub offset: usize,
    /// Length in 32-bit words.
    pub len: usize,
}

impl Place {
    /// All of a buffer of so many words.
    pub fn whole(buffer: BufferId, words: usize) -> Self {
        Place { buffer, offset: 0, len: words }
    }
}

/// A storage operand of a dispatch while a plan is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operand {
    /// The value of a node.
    Node(NodeId),
    /// A scratch buffer of [`Lowering::scratch`].
    Scratch(usize),
    /// A constant table of [`Lowering::constant`].
    Constant(usize),
    /// A range of a declared buffer.
    Place(Place),
}

/// Collects dispatches, scratch buffers and constant tables.
#[derive(Debug)]
pub struct Lowering {
    /// What the adapter offers.
    pub caps: Caps,
    /// Dispatches in order, each with the label it will carry.
    pub dispatches: Vec<(String, Dispatch<Operand>)>,
    /// Lengths of scratch buffers in 32-bit words.
    pub scratch: Vec<usize>,
    /// Constant tables.
    pub constants: Vec<Vec<u8>>,
    /// Prefix of the labels of what is being lowered: `"step/D/pair/conv2.forward"`.
    pub label: String,
    /// Kernels that are to be used in place of the ops' own choice.
    pub variants: Arc<Variants>,
    /// The products lowered so far, and how they were decided.
    pub choices: Vec<Choice>,
}

impl Lowering {
    /// An empty collection.
    pub fn new(caps: Caps) -> Self {
        Self::with_variants(caps, Arc::default())
    }

    /// An empty collection that prefers the kernels of a table.
    pub fn with_variants(caps: Caps, variants: Arc<Variants>) -> Self {
        Lowering {
            caps,
            dispatches: Vec::new(),
            scratch: Vec::new(),
            constants: Vec::new(),
            label: String::new(),
            variants,
            choices: Vec::new(),
        }
    }

    /// Decides which of the candidates, best first, is to run a product.
    ///
    /// # Errors
    /// As [`Variants::choose`].
    pub fn choose(&mut self, product: String, candidates: Vec<&'static Kernel>) -> Result<&'static Kernel> {
        let choice = self.variants.choose(product, candidates)?;
        let kernel = choice.kernel;
        self.choices.push(choice);
        Ok(kernel)
    }

    /// A scratch buffer of `words` 32-bit words, whose life is the dispatches that name it.
    pub fn scratch(&mut self, words: usize) -> Operand {
        self.scratch.push(words);
        Operand::Scratch(self.scratch.len() - 1)
    }

    /// A read-only table, shared with equal ones.
    pub fn constant(&mut self, bytes: Vec<u8>) -> Operand {
        let index = self.constants.iter().position(|c| *c == bytes).unwrap_or_else(|| {
            self.constants.push(bytes);
            self.constants.len() - 1
        });
        Operand::Constant(index)
    }

    /// Refuses a kernel whose invocations would run more iterations, over all its loops, than the adapter lets them.
    ///
    /// # Errors
    /// [`Error::Input`] with the ways out.
    pub fn check_loops(&self, kernel: &Kernel, iterations: usize) -> Result<()> {
        if self.caps.can_loop(iterations) {
            return Ok(());
        }
        Err(Error::input(format!(
            "{}: {} would run {iterations} iterations of its loops for each number, and on software adapters at most {SOFTWARE_ITERATIONS} are \
             safe, because some drivers end loops without a word: make the batch or the images smaller, or use a GPU",
            self.label,
            kernel.label()
        )))
    }

    /// Appends a dispatch, labelled `prefix.kernel`, or just with the prefix where that ends with the kernel's name (`step/D/adam`).
    pub fn push(&mut self, dispatch: Dispatch<Operand>) {
        let (prefix, kernel) = (&self.label, dispatch.kernel.name);
        let named = prefix.strip_suffix(kernel).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
        let label = if named { prefix.clone() } else { format!("{prefix}.{kernel}") };
        self.dispatches.push((label, dispatch));
    }
}
