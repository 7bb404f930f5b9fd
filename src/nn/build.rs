//! What layers compute: the forward pass of a network as graph.

use super::init::Init;
use super::layer::{Conv, Layer, SampleShape, Size, UpsampleMode, Window};
use super::network::{Forward, InitScheme, Input, Mode, Network, Noise, Params};
use super::store::{Role, TensorSpec};
use crate::error::{Error, Result};
use crate::graph::shape::Shape;
use crate::graph::{Graph, NodeId};
use crate::ops::channels::concat_channels;
use crate::ops::conv2d::{Conv2d, conv_transpose2d, conv2d};
use crate::ops::dropout::dropout_groups;
use crate::ops::elementwise::{self, LeakyRelu, Sigmoid, Tanh};
use crate::ops::embedding::{embedding, one_hot};
use crate::ops::matmul::Matmul;
use crate::ops::minibatch_stddev::minibatch_stddev;
use crate::ops::noise::Source;
use crate::ops::pool::{self, Pool};
use crate::ops::reduce::{GroupBroadcast, broadcast_axes};
use crate::ops::reshape::{Reshape, flatten, reshape};
use crate::ops::{batch_norm, curves, norms, pixel_shuffle, softmax, upsample};
use crate::plan::{NormSite, Program};
use std::collections::HashMap;

/// Momentum of batch norm's running statistics: PyTorch's default.
pub const NORM_MOMENTUM: f64 = 0.1;
/// Batch norm's eps: PyTorch's default.
pub const NORM_EPS: f32 = 1e-5;
/// Pixel norm's eps (Karras et al. 2018).
pub const PIXEL_NORM_EPS: f32 = 1e-8;

/// Where the tensors of a pass come from.
pub(super) enum Tensors<'a> {
    /// They are there.
    Given(&'a Params),
    /// They are asked for, to know which there must be; the pass is for its shapes alone.
    Wanted(Vec<TensorSpec>),
}

impl Tensors<'_> {
    fn get(&mut self, g: &mut Graph, name: String, dims: &[usize], role: Role, init: Init) -> Result<NodeId> {
        match self {
            Tensors::Given(params) => params.get(&name).copied().ok_or_else(|| Error::internal(format!("there is no tensor {name}"))),
            Tensors::Wanted(specs) => {
                let shape = Shape::new(dims)?;
                let node = g.leaf(&name, shape.clone(), None)?;
                specs.push(TensorSpec { name, shape, role, init });
                Ok(node)
            }
        }
    }
}

/// A forward pass under construction.
pub(super) struct Build<'a, 'p> {
    network: &'a Network,
    program: &'a mut Program,
    tensors: &'a mut Tensors<'p>,
    mode: Mode,
    scope: &'a str,
    labels: Option<NodeId>,
    taps: HashMap<String, NodeId>,
    norms: Vec<(String, NormSite)>,
    /// Norms without running statistics.
    passing: Vec<NormSite>,
    dropouts: u32,
}

impl<'a, 'p> Build<'a, 'p> {
    pub fn new(network: &'a Network, program: &'a mut Program, tensors: &'a mut Tensors<'p>, mode: Mode, scope: &'a str) -> Self {
        Build {
            network,
            program,
            tensors,
            mode,
            scope,
            labels: None,
            taps: HashMap::new(),
            norms: Vec::new(),
            passing: Vec::new(),
            dropouts: 0,
        }
    }

    /// The whole network on a batch.
    pub fn run(mut self, input: Input) -> Result<Forward> {
        let mut output = input.x;
        self.labels = input.labels;
        let mut layers = Vec::new();
        for (index, layer) in self.network.layers.iter().enumerate() {
            output = self.layer("", index, layer, output)?;
            layers.push(output);
        }
        for norm in self.norms.iter().map(|(_, norm)| norm).chain(&self.passing) {
            self.program.note_norm(*norm);
        }
        Ok(Forward { output, layers, taps: self.taps, norms: self.norms })
    }

    /// Layer `index` of the list whose keys begin with `prefix`.
    fn layer(&mut self, prefix: &str, index: usize, layer: &Layer, x: NodeId) -> Result<NodeId> {
        let at = |error: Error| match error {
            Error::Input(message) => Error::Input(format!("{} layer {prefix}{index} ({layer}): {message}", self.network.name)),
            other => other,
        };
        match layer {
            Layer::Tap { name } => {
                if self.taps.insert(name.clone(), x).is_some() {
                    return Err(at(Error::input(format!("a tap before it is called {name} too; give it another name"))));
                }
                Ok(x)
            }
            Layer::Residual { layers, shortcut } => {
                let mut branches = [x, x];
                for ((value, layers), part) in branches.iter_mut().zip([layers, shortcut]).zip(["layers", "shortcut"]) {
                    let inner = format!("{prefix}{index}.{part}.");
                    for (j, layer) in layers.iter().enumerate() {
                        *value = self.layer(&inner, j, layer, *value)?;
                    }
                }
                let label = self.label(prefix, index, layer);
                self.program.graph.scope(&label, |g| elementwise::add(g, branches[1], branches[0])).map_err(at)
            }
            _ => {
                let label = self.label(prefix, index, layer);
                let mut cx = LayerContext {
                    network: self.network,
                    tensors: self.tensors,
                    mode: self.mode,
                    prefix: format!("{prefix}{index}."),
                    labels: self.labels,
                    taps: &self.taps,
                    norm: None,
                    dropouts: self.dropouts,
                };
                let output = self.program.graph.scope(&label, |g| cx.apply(g, layer, x)).map_err(at)?;
                match (cx.norm, layer) {
                    (Some(norm), Layer::BatchNorm {}) => self.norms.push((cx.prefix, norm)),
                    (Some(norm), _) => self.passing.push(norm),
                    (None, _) => {}
                }
                self.dropouts += u32::from(matches!(layer, Layer::Dropout { .. }));
                Ok(output)
            }
        }
    }

    /// `D/pair/residual3/conv0` for key `3.layers.0`.
    fn label(&self, prefix: &str, index: usize, layer: &Layer) -> String {
        let outer = prefix.split('.').filter_map(|part| part.parse::<usize>().ok()).map(|i| format!("/residual{i}")).collect::<String>();
        let way = if prefix.ends_with("shortcut.") { "/shortcut" } else { "" };
        format!("{}{outer}{way}/{}{index}", self.scope, layer.kind())
    }
}

/// One layer that holds no others.
struct LayerContext<'a, 'p> {
    network: &'a Network,
    tensors: &'a mut Tensors<'p>,
    mode: Mode,
    /// Of its keys: `"3."`.
    prefix: String,
    /// The class of each sample, (N, 1).
    labels: Option<NodeId>,
    taps: &'a HashMap<String, NodeId>,
    /// The norm that it made, of those that have fused kernels.
    norm: Option<NormSite>,
    /// Dropouts before it.
    dropouts: u32,
}

impl LayerContext<'_, '_> {
    fn parameter(&mut self, g: &mut Graph, key: &str, dims: &[usize], init: Init) -> Result<NodeId> {
        self.tensors.get(g, format!("{}{key}", self.prefix), dims, Role::Parameter, init)
    }

    fn running(&mut self, g: &mut Graph, key: &str, dims: &[usize], init: Init) -> Result<NodeId> {
        self.tensors.get(g, format!("{}{key}", self.prefix), dims, Role::Running, init)
    }

    fn weight(&mut self, g: &mut Graph, dims: &[usize]) -> Result<NodeId> {
        let init = match self.network.init {
            InitScheme::Dcgan => Init::Normal { mean: 0.0, std: 0.02 },
            InitScheme::PyTorch => Init::pytorch_weight(),
            InitScheme::Keras => Init::XavierUniform { gain: 1.0 },
        };
        self.parameter(g, "weight", dims, init)
    }

    /// Adds a learned number to each of the channels of `y`, if `wanted`. `weight` is the shape of the layer's weight.
    fn biased(&mut self, g: &mut Graph, y: NodeId, wanted: bool, weight: &[usize]) -> Result<NodeId> {
        if !wanted {
            return Ok(y);
        }
        let channels = g.shape(y).channels();
        let init = match self.network.init {
            InitScheme::PyTorch => Init::pytorch_bias(&Shape::new(weight)?)?,
            InitScheme::Dcgan | InitScheme::Keras => Init::Zeros,
        };
        let b = self.parameter(g, "bias", &[channels], init)?;
        let b = g.apply(Reshape { shape: Shape::new(&[1, channels])? }, &[b])?;
        let shape = g.shape(y).clone();
        let b = g.apply(GroupBroadcast { shape }, &[b])?;
        elementwise::add(g, y, b)
    }

    fn channels(&self, size: Size) -> usize {
        match size {
            Size::Of(n) => n,
            Size::Data => self.network.data.first().copied().unwrap_or(1),
        }
    }

    /// The taps of that name.
    fn tap(&self, name: &str) -> Result<NodeId> {
        self.taps.get(name).copied().ok_or_else(|| {
            let mut names: Vec<&str> = self.taps.keys().map(String::as_str).collect();
            names.sort_unstable();
            let known =
                if names.is_empty() { "there is no tap before it".to_string() } else { format!("taps before it are {}", names.join(", ")) };
            Error::input(format!("there is no tap {name}; {known}"))
        })
    }

    fn apply(&mut self, g: &mut Graph, layer: &Layer, x: NodeId) -> Result<NodeId> {
        let (n, dims) = (g.shape(x).dims()[0], g.shape(x).dims().to_vec());
        match layer {
            Layer::Linear { features, bias } => {
                let x = if dims.len() > 2 { flatten(g, x)? } else { x };
                let features = match features {
                    Size::Of(n) => *n,
                    Size::Data => self.network.data.iter().product(),
                };
                let weight = [features, g.shape(x).channels()];
                let w = self.weight(g, &weight)?;
                let y = g.apply(Matmul { transpose_a: false, transpose_b: true }, &[x, w])?;
                self.biased(g, y, *bias, &weight)
            }
            Layer::Conv2d(conv) => self.conv(g, conv, x),
            Layer::Conv1d(conv) => self.conv(g, &conv.flat(), x),
            Layer::ConvTranspose2d(conv) => self.conv_transpose(g, conv, x),
            Layer::ConvTranspose1d(conv) => self.conv_transpose(g, &conv.flat(), x),
            Layer::BatchNorm {} => self.batch_norm(g, x),
            Layer::Relu {} => g.apply(LeakyRelu { slope: 0.0 }, &[x]),
            Layer::LeakyRelu { slope } => g.apply(LeakyRelu { slope: *slope as f32 }, &[x]),
            Layer::Tanh {} => g.apply(Tanh, &[x]),
            Layer::Sigmoid {} => g.apply(Sigmoid, &[x]),
            Layer::Flatten {} => flatten(g, x),
            Layer::Unflatten { shape } => {
                let shape = match shape {
                    SampleShape::Of(shape) => shape.to_vec(),
                    SampleShape::Data => self.network.data.clone(),
                };
                reshape(g, x, &Shape::new(&[vec![n], shape].concat())?)
            }
            Layer::Add { from } => {
                let mut sum = x;
                for name in &from.0 {
                    let tap = self.tap(name)?;
                    sum = elementwise::add(g, sum, tap)?;
                }
                Ok(sum)
            }
            Layer::Concat { from } => {
                let taps = from.0.iter().map(|name| self.tap(name)).collect::<Result<Vec<_>>>()?;
                concat_channels(g, &[vec![x], taps].concat())
            }
            Layer::ClassConcat { features } => self.class_concat(g, *features, x),
            Layer::Quadratic {} => quadratic(g, x),
            Layer::MaxPool2d(window) => {
                self.image(g, x)?;
                pool::max_pool2d(g, x, pool(window))
            }
            Layer::AvgPool2d(window) => {
                self.image(g, x)?;
                pool::avg_pool2d(g, x, pool(window))
            }
            Layer::GlobalAvgPool {} => pool::global_avg_pool(g, x),
            Layer::GlobalSumPool {} => pool::global_sum_pool(g, x),
            Layer::Upsample { scale, mode } => {
                self.image(g, x)?;
                match mode {
                    UpsampleMode::Nearest => upsample::upsample_nearest(g, x, scale.0),
                    UpsampleMode::Bilinear => upsample::upsample_bilinear(g, x, scale.0),
                }
            }
            Layer::PixelShuffle { factor } => {
                self.image(g, x)?;
                pixel_shuffle::pixel_shuffle(g, x, *factor)
            }
            Layer::PixelUnshuffle { factor } => {
                self.image(g, x)?;
                pixel_shuffle::pixel_unshuffle(g, x, *factor)
            }
            Layer::Dropout { p } => self.dropout(g, *p, x),
            Layer::InstanceNorm { affine } => self.instance_norm(g, *affine, x),
            Layer::LayerNorm {} => {
                let shape = norms::layer_norm_parameter(g.shape(x))?;
                let weight = self.norm_weight(g, shape.dims())?;
                let bias = self.parameter(g, "bias", shape.dims(), Init::Zeros)?;
                norms::layer_norm(g, x, Some(weight), Some(bias), NORM_EPS)
            }
            Layer::GroupNorm { groups } => {
                let features = [g.shape(x).channels()];
                let weight = self.norm_weight(g, &features)?;
                let bias = self.parameter(g, "bias", &features, Init::Zeros)?;
                norms::group_norm(g, x, *groups, Some(weight), Some(bias), NORM_EPS)
            }
            Layer::PixelNorm {} => norms::pixel_norm(g, x, PIXEL_NORM_EPS),
            Layer::MinibatchStddev { group } => {
                let parts = if let Mode::Train { groups, .. } = self.mode { groups } else { 1 };
                minibatch_stddev(g, x, *group, parts)
            }
            Layer::Elu { alpha } => curves::elu(g, x, *alpha as f32),
            Layer::Silu {} => curves::silu(g, x),
            Layer::Gelu {} => curves::gelu(g, x),
            Layer::Softmax {} => softmax::softmax(g, x),
            Layer::LogSoftmax {} => softmax::log_softmax(g, x),
            Layer::Tap { .. } | Layer::Residual { .. } => Err(Error::internal("a layer that Build::layer does itself")),
        }
    }

    fn conv(&mut self, g: &mut Graph, conv: &Conv, x: NodeId) -> Result<NodeId> {
        if conv.output_padding.0 != [0, 0] {
            return Err(Error::input("output_padding is for transposed convolutions; leave it out"));
        }
        let inputs = self.image(g, x)?;
        let geometry = geometry(conv, inputs)?;
        let outputs = self.channels(conv.channels);
        let [kh, kw] = conv.kernel.0;
        let weight = [outputs, inputs / conv.groups, kh, kw];
        let w = self.weight(g, &weight)?;
        let y = conv2d(g, x, w, geometry)?;
        self.biased(g, y, conv.bias, &weight)
    }

    fn conv_transpose(&mut self, g: &mut Graph, conv: &Conv, x: NodeId) -> Result<NodeId> {
        // z of shape (N, F) enters as (N, F, 1, 1).
        let x = match *g.shape(x).dims() {
            [n, f] => g.apply(Reshape { shape: Shape::new(&[n, f, 1, 1])? }, &[x])?,
            _ => x,
        };
        let inputs = self.image(g, x)?;
        let geometry = geometry(conv, inputs)?;
        let outputs = self.channels(conv.channels);
        let [kh, kw] = conv.kernel.0;
        let weight = [inputs, outputs / conv.groups, kh, kw];
        let w = self.weight(g, &weight)?;
        let y = conv_transpose2d(g, x, w, geometry, conv.output_padding.0)?;
        self.biased(g, y, conv.bias, &weight)
    }

    /// Channels of an image.
    fn image(&self, g: &Graph, x: NodeId) -> Result<usize> {
        match *g.shape(x).dims() {
            [_, c, _, _] => Ok(c),
            _ => Err(Error::input(format!("it takes images, but its input has shape {}; put an unflatten before it", sample(g.shape(x))))),
        }
    }

    /// x with the class of each sample behind its channels: (N, F) to (N, F + K), (N, C, H, W) to (N, C + K, H, W).
    fn class_concat(&mut self, g: &mut Graph, features: Option<usize>, x: NodeId) -> Result<NodeId> {
        let Some(classes) = self.network.classes else {
            return Err(Error::input(
                "it takes the class of each sample, and the data set has no labels; give one that has them, or remove the layer",
            ));
        };
        let labels = self.labels.ok_or_else(|| Error::internal("a layer that takes classes in a pass that was given none"))?;
        let code = match features {
            Some(0) => return Err(Error::input("features is 0; expected at least 1, or no features for a one-hot row")),
            Some(features) => {
                let init = match self.network.init {
                    // What nn.Embedding does, which DCGAN's rule for convolutions and norms leaves as it is.
                    InitScheme::PyTorch | InitScheme::Dcgan => Init::Normal { mean: 0.0, std: 1.0 },
                    InitScheme::Keras => Init::Uniform { low: -0.05, high: 0.05 },
                };
                let weight = self.parameter(g, "weight", &[classes, features], init)?;
                embedding(g, weight, labels)?
            }
            None => one_hot(g, labels, classes)?,
        };
        let code = match *g.shape(x).dims() {
            [n, _, h, w] => {
                let width = g.shape(code).channels();
                let pixel = reshape(g, code, &Shape::new(&[n, width, 1, 1])?)?;
                broadcast_axes(g, pixel, &Shape::new(&[n, width, h, w])?)?
            }
            _ => code,
        };
        concat_channels(g, &[x, code])
    }

    /// The scale of a norm.
    fn norm_weight(&mut self, g: &mut Graph, dims: &[usize]) -> Result<NodeId> {
        let init = match self.network.init {
            InitScheme::Dcgan => Init::Normal { mean: 1.0, std: 0.02 },
            InitScheme::PyTorch | InitScheme::Keras => Init::Ones,
        };
        self.parameter(g, "weight", dims, init)
    }

    fn instance_norm(&mut self, g: &mut Graph, affine: bool, x: NodeId) -> Result<NodeId> {
        let channels = [self.image(g, x)?];
        let (weight, bias) = if affine {
            (Some(self.norm_weight(g, &channels)?), Some(self.parameter(g, "bias", &channels, Init::Zeros)?))
        } else {
            (None, None)
        };
        let n = norms::instance_norm(g, x, weight, bias, NORM_EPS)?;
        self.norm = Some(NormSite { norm: n.norm, x, weight: n.weight, bias: n.bias, eps: NORM_EPS, groups: n.groups });
        Ok(n.norm.y)
    }

    fn dropout(&mut self, g: &mut Graph, p: f64, x: NodeId) -> Result<NodeId> {
        if !(0.0..1.0).contains(&p) {
            return Err(Error::input(format!("p is {p}; expected at least 0 and below 1")));
        }
        match self.mode {
            Mode::Eval => Ok(x),
            Mode::Train { groups, noise: Some(Noise { seed, stream, draw }) } => {
                dropout_groups(g, x, p, Source { seed, stream: stream + self.dropouts }, draw, groups)
            }
            Mode::Train { noise: None, .. } => Err(Error::internal("a dropout in a pass that was given no noise")),
        }
    }

    fn batch_norm(&mut self, g: &mut Graph, x: NodeId) -> Result<NodeId> {
        let features = [g.shape(x).channels()];
        let weight = self.norm_weight(g, &features)?;
        let bias = self.parameter(g, "bias", &features, Init::Zeros)?;
        match self.mode {
            Mode::Train { groups, .. } => {
                let norm = batch_norm::batch_norm(g, x, weight, bias, NORM_EPS, groups)?;
                self.norm = Some(NormSite { norm, x, weight, bias, eps: NORM_EPS, groups });
                Ok(norm.y)
            }
            Mode::Eval => {
                let mean = self.running(g, "running_mean", &features, Init::Zeros)?;
                let var = self.running(g, "running_var", &features, Init::Ones)?;
                batch_norm::batch_norm_eval(g, x, weight, bias, mean, var, NORM_EPS)
            }
        }
    }
}

fn pool(window: &Window) -> Pool {
    Pool { kernel: window.kernel.0, stride: window.stride().0, padding: window.padding.0 }
}

fn geometry(conv: &Conv, inputs: usize) -> Result<Conv2d> {
    let Conv { kernel, stride, dilation, groups, .. } = *conv;
    for (what, pair) in [("kernel", kernel), ("stride", stride), ("dilation", dilation)] {
        if pair.0.contains(&0) {
            return Err(Error::input(format!("{what} is {pair}; expected at least 1")));
        }
    }
    if groups == 0 || !inputs.is_multiple_of(groups) || matches!(conv.channels, Size::Of(n) if !n.is_multiple_of(groups)) {
        return Err(Error::input(format!(
            "groups is {groups}, which must divide its {inputs} input channels and {} channels",
            conv.channels
        )));
    }
    Ok(Conv2d { stride: stride.0, padding: conv.padding.0, dilation: dilation.0, groups })
}

/// (N, F) to (N, F + F·F).
fn quadratic(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    let [n, f] = *g.shape(x).dims() else {
        return Err(Error::input(format!("it takes vectors, but its input has shape {}; put a flatten before it", sample(g.shape(x)))));
    };
    let shape = Shape::new(&[n, f, 1, f])?;
    let column = reshape(g, x, &Shape::new(&[n, f, 1, 1])?)?;
    let row = reshape(g, x, &Shape::new(&[n, 1, 1, f])?)?;
    let [column, row] = [column, row].map(|v| broadcast_axes(g, v, &shape));
    let products = elementwise::mul(g, column?, row?)?;
    let products = flatten(g, products)?;
    concat_channels(g, &[x, products])
}

/// The shape without the batch axis.
fn sample(shape: &Shape) -> String {
    shape.dims()[1..].iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}
