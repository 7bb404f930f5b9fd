//! Networks as lists of layers, in PyTorch's terms: layer `i` of `nn.Sequential` owns the keys `i.weight`, `i.bias`, …. Inside a residual
//! block `i`, layer `j` of its branch owns `i.layers.j.weight`, …, and of its shortcut `i.shortcut.j.weight`, ….

use super::build::{Build, Tensors};
use super::layer::Layer;
use super::store::TensorSpec;
use crate::error::Result;
use crate::graph::NodeId;
use crate::graph::shape::Shape;
use crate::ops::noise::Draw;
use crate::plan::{NormSite, Program};
use std::collections::HashMap;

/// How the parameters of a network start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InitScheme {
    /// What `torch.nn` does when nothing is said: Kaiming-uniform with a = √5, biases ±1/√fan_in, norms 1 and 0.
    #[default]
    PyTorch,
    /// DCGAN: weights N(0, 0.02), batch-norm weights N(1, 0.02), biases 0 (Radford et al. 2016; PyTorch's example).
    Dcgan,
    /// What Keras does when nothing is said: Xavier-uniform weights, biases 0, norms 1 and 0.
    Keras,
}

/// A network: a list of layers and the shape of one input sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// `"G"` or `"D"`: prefix of its tensors in checkpoints and of its labels.
    pub name: String,
    /// Shape of one sample without the batch axis: `[100]` or `[C, H, W]`.
    pub input: Vec<usize>,
    /// Shape of a sample of the data, without the batch axis: what layers with sizes of `"data"` follow.
    pub data: Vec<usize>,
    /// The layers.
    pub layers: Vec<Layer>,
    /// How its parameters start.
    pub init: InitScheme,
    /// Classes of the data, which `class_concat` layers need; `None` where it has no labels.
    pub classes: Option<usize>,
}

/// What a network is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// The batch, (N, …).
    pub x: NodeId,
    /// The class of each sample, (N, 1): whole numbers below [`Network::classes`]. Conditional networks need it, others ignore it.
    pub labels: Option<NodeId>,
}

impl From<NodeId> for Input {
    fn from(x: NodeId) -> Self {
        Input { x, labels: None }
    }
}

/// Training or evaluation; always said at the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, taken separately for each of `groups` equal parts of the batch (real and fake, say).
    Train {
        /// Parts with statistics of their own.
        groups: usize,
        /// What dropouts draw from; needed where there are any.
        noise: Option<Noise>,
    },
    /// Running statistics.
    Eval,
}

/// What the dropouts of a pass draw from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noise {
    /// Seed of the run.
    pub seed: u64,
    /// Stream of the first dropout; the others follow.
    pub stream: u32,
    /// Which draw: one for each update of a step.
    pub draw: Draw,
}

/// The nodes of a network's tensors, by PyTorch key.
pub type Params = HashMap<String, NodeId>;

/// The result of a forward pass.
#[derive(Debug, Clone)]
pub struct Forward {
    /// The output.
    pub output: NodeId,
    /// The output of each layer.
    pub layers: Vec<NodeId>,
    /// Values of the taps, by name.
    pub taps: HashMap<String, NodeId>,
    /// Batch norms of a training pass with the prefix of their keys (`"3."`), for the running statistics.
    pub norms: Vec<(String, NormSite)>,
}

impl Network {
    /// The tensors that the network needs, in layer order.
    ///
    /// # Errors
    /// If the layers do not fit each other; the message names network and layer.
    pub fn tensors(&self) -> Result<Vec<TensorSpec>> {
        let mut program = Program::new("tensors");
        let mut wanted = Tensors::Wanted(Vec::new());
        let input = self.placeholder(&mut program, 2)?;
        Build::new(self, &mut program, &mut wanted, Mode::Eval, "").run(input)?;
        let Tensors::Wanted(specs) = wanted else { return Ok(Vec::new()) };
        Ok(specs)
    }

    /// All layers, those inside others included.
    pub fn all_layers(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().flat_map(Layer::all)
    }

    /// True if any layer is a batch norm.
    pub fn has_norm(&self) -> bool {
        self.all_layers().any(|l| matches!(l, Layer::BatchNorm {}))
    }

    /// True if any layer takes the class of each sample.
    pub fn is_conditional(&self) -> bool {
        self.all_layers().any(Layer::takes_classes)
    }

    /// Leaves for a batch of `n`, where only shapes matter.
    pub(super) fn placeholder(&self, program: &mut Program, n: usize) -> Result<Input> {
        let x = program.graph.leaf("x", self.input_shape(n)?, None)?;
        let labels = if self.is_conditional() { Some(program.graph.leaf("labels", Shape::new(&[n, 1])?, None)?) } else { None };
        Ok(Input { x, labels })
    }

    /// Shape of a batch of `n` inputs.
    pub fn input_shape(&self, n: usize) -> Result<Shape> {
        let mut dims = vec![n];
        dims.extend(&self.input);
        Shape::new(&dims)
    }

    /// Builds the forward pass of a batch under the label `scope`; layer 2 is called `conv2` there, so that it is found in the state dict.
    ///
    /// # Errors
    /// If the batch or a parameter does not fit a layer, or a layer takes classes and there are none; the message names network and layer.
    pub fn forward(&self, program: &mut Program, params: &Params, input: impl Into<Input>, mode: Mode, scope: &str) -> Result<Forward> {
        Build::new(self, program, &mut Tensors::Given(params), mode, scope).run(input.into())
    }

    /// Output shape of each layer for a batch of two.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn output_shapes(&self) -> Result<Vec<Shape>> {
        let mut program = Program::new("shapes");
        let input = self.placeholder(&mut program, 2)?;
        let outputs = Build::new(self, &mut program, &mut Tensors::Wanted(Vec::new()), Mode::Eval, "").run(input)?.layers;
        Ok(outputs.into_iter().map(|node| program.graph.shape(node).clone()).collect())
    }
}
