//! Networks as lists of layers, in PyTorch's terms: layer `i` of `nn.Sequential` owns the keys `i.weight`, `i.bias`, ….

use super::init::Init;
use super::store::{Role, TensorSpec};
use crate::error::{Error, Result};
use crate::graph::NodeId;
use crate::graph::shape::Shape;
use crate::ops::batch_norm;
use crate::ops::conv2d::{Conv2d, conv_transpose2d, conv2d};
use crate::ops::elementwise::{Add, LeakyRelu, Sigmoid, Tanh};
use crate::ops::matmul::Matmul;
use crate::ops::reduce::GroupBroadcast;
use crate::ops::reshape::{Reshape, reshape};
use crate::plan::{NormSite, Program};
use std::collections::HashMap;
use std::fmt;

/// Momentum of batch norm's running statistics: PyTorch's default.
pub const NORM_MOMENTUM: f64 = 0.1;
/// Batch norm's eps: PyTorch's default.
pub const NORM_EPS: f32 = 1e-5;

/// A layer. Kernels are square; `features` and channel counts are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Layer {
    /// `nn.Linear(inputs, outputs, bias)`.
    Linear { inputs: usize, outputs: usize, bias: bool },
    /// `nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=bias)`.
    Conv2d { inputs: usize, outputs: usize, kernel: usize, stride: usize, padding: usize, bias: bool },
    /// `nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding, output_padding, bias=bias)`.
    ConvTranspose2d { inputs: usize, outputs: usize, kernel: usize, stride: usize, padding: usize, output_padding: usize, bias: bool },
    /// `nn.BatchNorm1d(features)` or `nn.BatchNorm2d(features)`, with PyTorch's eps and momentum.
    BatchNorm { features: usize },
    /// `nn.ReLU()`.
    Relu,
    /// `nn.LeakyReLU(slope)`.
    LeakyRelu(f32),
    /// `nn.Tanh()`.
    Tanh,
    /// `nn.Sigmoid()`.
    Sigmoid,
    /// `nn.Flatten()`: (N, C, H, W) to (N, C·H·W).
    Flatten,
    /// `nn.Unflatten(1, (channels, height, width))`.
    Unflatten { channels: usize, height: usize, width: usize },
}

/// How the parameters of a network start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitScheme {
    /// DCGAN: weights N(0, 0.02), batch-norm weights N(1, 0.02), biases 0 (Radford et al. 2016; PyTorch's example).
    Dcgan,
    /// What `torch.nn` does when nothing is said: Kaiming-uniform with a = √5, biases ±1/√fan_in, norms 1 and 0.
    PyTorch,
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
    /// The layers.
    pub layers: Vec<Layer>,
    /// How its parameters start.
    pub init: InitScheme,
}

/// Training or evaluation; always said at the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, taken separately for each of `groups` equal parts of the batch (real and fake, say).
    Train { groups: usize },
    /// Running statistics.
    Eval,
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
    /// Batch norms of a training pass with their layer index, for the running statistics.
    pub norms: Vec<(usize, NormSite)>,
}

impl Network {
    /// The tensors that the network needs, in layer order.
    pub fn tensors(&self) -> Result<Vec<TensorSpec>> {
        let mut specs = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let mut push = |key: &str, dims: &[usize], role, init| -> Result<()> {
                specs.push(TensorSpec { name: format!("{index}.{key}"), shape: Shape::new(dims)?, role, init });
                Ok(())
            };
            match *layer {
                Layer::Linear { inputs, outputs, bias } => {
                    let weight = [outputs, inputs];
                    push("weight", &weight, Role::Parameter, self.weight_init())?;
                    if bias {
                        push("bias", &[outputs], Role::Parameter, self.bias_init(&weight)?)?;
                    }
                }
                Layer::Conv2d { inputs, outputs, kernel, bias, .. } => {
                    let weight = [outputs, inputs, kernel, kernel];
                    push("weight", &weight, Role::Parameter, self.weight_init())?;
                    if bias {
                        push("bias", &[outputs], Role::Parameter, self.bias_init(&weight)?)?;
                    }
                }
                Layer::ConvTranspose2d { inputs, outputs, kernel, bias, .. } => {
                    let weight = [inputs, outputs, kernel, kernel];
                    push("weight", &weight, Role::Parameter, self.weight_init())?;
                    if bias {
                        push("bias", &[outputs], Role::Parameter, self.bias_init(&weight)?)?;
                    }
                }
                Layer::BatchNorm { features } => {
                    let weight = match self.init {
                        InitScheme::Dcgan => Init::Normal { mean: 1.0, std: 0.02 },
                        InitScheme::PyTorch | InitScheme::Keras => Init::Ones,
                    };
                    push("weight", &[features], Role::Parameter, weight)?;
                    push("bias", &[features], Role::Parameter, Init::Zeros)?;
                    push("running_mean", &[features], Role::Running, Init::Zeros)?;
                    push("running_var", &[features], Role::Running, Init::Ones)?;
                }
                Layer::Relu | Layer::LeakyRelu(_) | Layer::Tanh | Layer::Sigmoid | Layer::Flatten | Layer::Unflatten { .. } => {}
            }
        }
        Ok(specs)
    }

    fn weight_init(&self) -> Init {
        match self.init {
            InitScheme::Dcgan => Init::Normal { mean: 0.0, std: 0.02 },
            InitScheme::PyTorch => Init::pytorch_weight(),
            InitScheme::Keras => Init::XavierUniform { gain: 1.0 },
        }
    }

    fn bias_init(&self, weight: &[usize]) -> Result<Init> {
        match self.init {
            InitScheme::PyTorch => Init::pytorch_bias(&Shape::new(weight)?),
            InitScheme::Dcgan | InitScheme::Keras => Ok(Init::Zeros),
        }
    }

    /// True if any layer is a batch norm.
    pub fn has_norm(&self) -> bool {
        self.layers.iter().any(|l| matches!(l, Layer::BatchNorm { .. }))
    }

    /// Shape of a batch of `n` inputs.
    pub fn input_shape(&self, n: usize) -> Result<Shape> {
        let mut dims = vec![n];
        dims.extend(&self.input);
        Shape::new(&dims)
    }

    /// Builds the forward pass of `x` (N, …) under the label `scope`; layer 2 is called `conv2` there, so that it is found in the state dict.
    ///
    /// # Errors
    /// If `x` or a parameter does not fit a layer; the message names network and layer.
    pub fn forward(&self, program: &mut Program, params: &Params, x: NodeId, mode: Mode, scope: &str) -> Result<Forward> {
        let mut forward = Forward { output: x, layers: Vec::new(), norms: Vec::new() };
        for (index, layer) in self.layers.iter().enumerate() {
            let label = format!("{scope}/{}{index}", layer.kind());
            let mut norm = None;
            let x = forward.output;
            forward.output = program
                .graph
                .scope(&label, |g| {
                    let param = |key: &str| {
                        let name = format!("{index}.{key}");
                        params.get(&name).copied().ok_or_else(|| Error::internal(format!("{} has no tensor {name}", self.name)))
                    };
                    let with_bias = |g: &mut crate::graph::Graph, y: NodeId, bias: bool| -> Result<NodeId> {
                        if !bias {
                            return Ok(y);
                        }
                        let b = param("bias")?;
                        let row = Shape::new(&[1, g.shape(b).len()])?;
                        let b = g.apply(Reshape { shape: row }, &[b])?;
                        let shape = g.shape(y).clone();
                        let b = g.apply(GroupBroadcast { shape }, &[b])?;
                        g.apply(Add, &[y, b])
                    };
                    match *layer {
                        Layer::Linear { bias, .. } => {
                            let y = g.apply(Matmul { transpose_a: false, transpose_b: true }, &[x, param("weight")?])?;
                            with_bias(g, y, bias)
                        }
                        Layer::Conv2d { stride, padding, bias, .. } => {
                            let y = conv2d(g, x, param("weight")?, Conv2d::square(stride, padding))?;
                            with_bias(g, y, bias)
                        }
                        Layer::ConvTranspose2d { stride, padding, output_padding, bias, .. } => {
                            let x = self.as_image(g, x)?;
                            let conv = Conv2d::square(stride, padding);
                            let y = conv_transpose2d(g, x, param("weight")?, conv, [output_padding; 2])?;
                            with_bias(g, y, bias)
                        }
                        Layer::BatchNorm { .. } => match mode {
                            Mode::Train { groups } => {
                                let (weight, bias) = (param("weight")?, param("bias")?);
                                let nodes = batch_norm::batch_norm(g, x, weight, bias, NORM_EPS, groups)?;
                                norm = Some(NormSite { norm: nodes, x, weight, bias, eps: NORM_EPS, groups });
                                Ok(nodes.y)
                            }
                            Mode::Eval => batch_norm::batch_norm_eval(
                                g,
                                x,
                                param("weight")?,
                                param("bias")?,
                                param("running_mean")?,
                                param("running_var")?,
                                NORM_EPS,
                            ),
                        },
                        Layer::Relu => g.apply(LeakyRelu { slope: 0.0 }, &[x]),
                        Layer::LeakyRelu(slope) => g.apply(LeakyRelu { slope }, &[x]),
                        Layer::Tanh => g.apply(Tanh, &[x]),
                        Layer::Sigmoid => g.apply(Sigmoid, &[x]),
                        Layer::Flatten => {
                            let n = g.shape(x).dims()[0];
                            let shape = Shape::new(&[n, g.shape(x).len() / n])?;
                            reshape(g, x, &shape)
                        }
                        Layer::Unflatten { channels, height, width } => {
                            let shape = Shape::new(&[g.shape(x).dims()[0], channels, height, width])?;
                            reshape(g, x, &shape)
                        }
                    }
                })
                .map_err(|e| at_layer(e, &self.name, index, layer))?;
            forward.layers.push(forward.output);
            if let Some(norm) = norm {
                program.note_norm(norm);
                forward.norms.push((index, norm));
            }
        }
        Ok(forward)
    }

    /// Output shape of each layer for a batch of two.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn output_shapes(&self) -> Result<Vec<Shape>> {
        let mut program = Program::new("shapes");
        let mut params = Params::new();
        for spec in self.tensors()? {
            let node = program.graph.leaf(&spec.name, spec.shape.clone(), None)?;
            params.insert(spec.name, node);
        }
        let x = program.graph.leaf("x", self.input_shape(2)?, None)?;
        let outputs = self.forward(&mut program, &params, x, Mode::Eval, "")?.layers;
        Ok(outputs.into_iter().map(|node| program.graph.shape(node).clone()).collect())
    }

    /// z of shape (N, F) enters a transposed convolution as (N, F, 1, 1).
    fn as_image(&self, g: &mut crate::graph::Graph, x: NodeId) -> Result<NodeId> {
        let [n, f] = *g.shape(x).dims() else { return Ok(x) };
        g.apply(Reshape { shape: Shape::new(&[n, f, 1, 1])? }, &[x])
    }
}

fn at_layer(error: Error, network: &str, index: usize, layer: &Layer) -> Error {
    match error {
        Error::Input(message) => Error::Input(format!("{network} layer {index} ({layer}): {message}")),
        other => other,
    }
}

impl Layer {
    /// What a layer of its kind is called in labels.
    fn kind(&self) -> &'static str {
        match self {
            Layer::Linear { .. } => "linear",
            Layer::Conv2d { .. } => "conv",
            Layer::ConvTranspose2d { .. } => "conv_transpose",
            Layer::BatchNorm { .. } => "batch_norm",
            Layer::Relu => "relu",
            Layer::LeakyRelu(_) => "leaky_relu",
            Layer::Tanh => "tanh",
            Layer::Sigmoid => "sigmoid",
            Layer::Flatten => "flatten",
            Layer::Unflatten { .. } => "unflatten",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Layer::Linear { inputs, outputs, .. } => write!(f, "Linear {inputs} -> {outputs}"),
            Layer::Conv2d { inputs, outputs, kernel, stride, padding, .. } => {
                write!(f, "Conv2d {inputs} -> {outputs} k{kernel} s{stride} p{padding}")
            }
            Layer::ConvTranspose2d { inputs, outputs, kernel, stride, padding, output_padding, .. } => {
                write!(f, "ConvTranspose2d {inputs} -> {outputs} k{kernel} s{stride} p{padding}")?;
                if output_padding > 0 { write!(f, " op{output_padding}") } else { Ok(()) }
            }
            Layer::BatchNorm { features } => write!(f, "BatchNorm {features}"),
            Layer::Relu => f.write_str("ReLU"),
            Layer::LeakyRelu(slope) => write!(f, "LeakyReLU {slope}"),
            Layer::Tanh => f.write_str("Tanh"),
            Layer::Sigmoid => f.write_str("Sigmoid"),
            Layer::Flatten => f.write_str("Flatten"),
            Layer::Unflatten { channels, height, width } => write!(f, "Unflatten {channels}x{height}x{width}"),
        }
    }
}
