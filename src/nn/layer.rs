//! Layers as data, in PyTorch's terms. Sizes of inputs are not written: they follow from what comes before.

use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// A layer. In a config file it is a table whose `type` is the layer's name in snake case: `{ type = "conv2d", channels = 64, kernel = 4 }`.
///
/// `*1d` layers work on images of height 1, (N, C, 1, L).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Layer {
    /// `nn.Linear`: (N, F) to (N, features). An image is flattened first.
    #[serde(alias = "dense")]
    Linear {
        /// Numbers that it gives for each sample; `"data"` for as many as a sample of the data has.
        features: Size,
        /// Whether a learned row is added.
        #[serde(default = "yes", skip_serializing_if = "is_yes")]
        bias: bool,
    },
    /// `nn.Conv2d`.
    #[serde(rename = "conv2d", alias = "conv")]
    Conv2d(Conv),
    /// `nn.ConvTranspose2d`. A vector (N, F) enters as (N, F, 1, 1).
    #[serde(rename = "conv_transpose2d", alias = "conv_transpose")]
    ConvTranspose2d(Conv),
    /// `nn.Conv1d`: a convolution of height 1.
    #[serde(rename = "conv1d")]
    Conv1d(Conv1d),
    /// `nn.ConvTranspose1d`.
    #[serde(rename = "conv_transpose1d")]
    ConvTranspose1d(Conv1d),
    /// `nn.MaxPool2d`.
    #[serde(rename = "max_pool2d", alias = "max_pool")]
    MaxPool2d(Window),
    /// `nn.AvgPool2d`, zeros of the padding counted.
    #[serde(rename = "avg_pool2d", alias = "avg_pool")]
    AvgPool2d(Window),
    /// Means of the channels: (N, C, H, W) to (N, C).
    GlobalAvgPool {},
    /// Sums of the channels: (N, C, H, W) to (N, C).
    GlobalSumPool {},
    /// `nn.Upsample`.
    Upsample {
        /// Factor of height and width.
        #[serde(default = "Pair::two")]
        scale: Pair,
        /// How pixels are made.
        #[serde(default)]
        mode: UpsampleMode,
    },
    /// `nn.PixelShuffle`: (N, C·r², H, W) to (N, C, H·r, W·r).
    PixelShuffle {
        /// r.
        factor: usize,
    },
    /// `nn.PixelUnshuffle`.
    PixelUnshuffle {
        /// r.
        factor: usize,
    },
    /// `nn.Dropout`: in training, numbers become 0 at random and the others grow by 1/(1-p).
    Dropout {
        /// Share of numbers that become 0.
        #[serde(default = "half")]
        p: f64,
    },
    /// `nn.BatchNorm1d` or `nn.BatchNorm2d`, with PyTorch's eps and momentum.
    BatchNorm {},
    /// `nn.InstanceNorm2d` (Ulyanov et al. 2016), without running statistics.
    InstanceNorm {
        /// Whether a scale and a shift are learned for each channel.
        #[serde(default, skip_serializing_if = "is_no")]
        affine: bool,
    },
    /// `nn.LayerNorm` over all numbers of a sample. Its weight and bias are kept as (1, C, H, W) for images.
    LayerNorm {},
    /// `nn.GroupNorm` (Wu and He 2018).
    GroupNorm {
        /// Groups of channels; a divisor of their number.
        groups: usize,
    },
    /// x / sqrt(mean over the channels of x² + 1e-8) (Karras et al. 2018).
    PixelNorm {},
    /// One more channel: the standard deviation over groups of the batch, averaged over all else (Karras et al. 2018).
    MinibatchStddev {
        /// Samples in a group; the largest divisor of the batch that is no larger.
        #[serde(default = "four")]
        group: usize,
    },
    /// `nn.ELU`.
    Elu {
        /// Limit for large negative values, negated.
        #[serde(default = "unit")]
        alpha: f64,
    },
    /// `nn.SiLU`.
    Silu {},
    /// `nn.GELU`.
    Gelu {},
    /// `nn.Softmax(1)`: over the channels.
    Softmax {},
    /// `nn.LogSoftmax(1)`: over the channels.
    LogSoftmax {},
    /// `nn.ReLU`.
    Relu {},
    /// `nn.LeakyReLU`.
    LeakyRelu {
        /// Factor of negative values.
        #[serde(default = "leaky_slope")]
        slope: f64,
    },
    /// `nn.Tanh`.
    Tanh {},
    /// `nn.Sigmoid`.
    Sigmoid {},
    /// `nn.Flatten`: (N, C, H, W) to (N, C·H·W).
    Flatten {},
    /// `nn.Unflatten`: (N, C·H·W), or an image of as many numbers, to (N, C, H, W).
    #[serde(alias = "reshape")]
    Unflatten {
        /// (C, H, W); `"data"` for the shape of a sample of the data.
        shape: SampleShape,
    },
    /// Remembers its input under a name, for `concat`, `add` and feature matching; changes nothing.
    Tap {
        /// The name; unique in its network.
        name: String,
    },
    /// Adds the value of a tap, or the values of several.
    Add {
        /// Names of taps.
        from: Names,
    },
    /// The channels of the value of a tap, or of several, behind those of its input.
    Concat {
        /// Names of taps.
        from: Names,
    },
    /// The class of each sample behind its input's channels (Mirza and Osindero 2014): a learned row of numbers of `nn.Embedding`, or its one-hot
    /// row; on images, each number fills a channel.
    ClassConcat {
        /// Numbers that are learned for each class; absent for a one-hot row.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        features: Option<usize>,
    },
    /// x + layers(x), or shortcut(x) + layers(x) (He et al. 2016).
    Residual {
        /// The residual branch.
        layers: Vec<Layer>,
        /// What x goes through on its way around; nothing if empty.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        shortcut: Vec<Layer>,
    },
    /// (N, F) to (N, F + F·F): x beside the products of all pairs of its numbers, so that a linear discriminator sees second moments.
    Quadratic {},
}

/// Geometry of a convolution or transposed convolution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// Channels that it gives; `"data"` for those of the data.
    pub channels: Size,
    /// Height and width of the kernel: one number, or both.
    pub kernel: Pair,
    /// Pixels from one application to the next.
    #[serde(default = "Pair::one", skip_serializing_if = "Pair::is_one")]
    pub stride: Pair,
    /// Rows and columns of zeros around the input.
    #[serde(default, skip_serializing_if = "Pair::is_zero")]
    pub padding: Pair,
    /// Transposed convolutions: rows and columns that are added at the bottom and the right.
    #[serde(default, skip_serializing_if = "Pair::is_zero")]
    pub output_padding: Pair,
    /// Pixels from one kernel tap to the next.
    #[serde(default = "Pair::one", skip_serializing_if = "Pair::is_one")]
    pub dilation: Pair,
    /// Groups of channels that see only each other.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: usize,
    /// Whether a learned number is added to each channel.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
}

/// Windows of a pooling layer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Height and width of a window.
    #[serde(default = "Pair::two")]
    pub kernel: Pair,
    /// Pixels from one window to the next; the kernel's if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<Pair>,
    /// Rows and columns around the input, at most half the kernel.
    #[serde(default, skip_serializing_if = "Pair::is_zero")]
    pub padding: Pair,
}

/// How an upsampling layer makes pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpsampleMode {
    /// Copies of the nearest pixel.
    #[default]
    Nearest,
    /// Between the four nearest pixels, as PyTorch with `align_corners=False`.
    Bilinear,
}

/// Geometry of a one-dimensional convolution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conv1d {
    /// Channels that it gives; `"data"` for those of the data.
    pub channels: Size,
    /// Length of the kernel.
    pub kernel: usize,
    /// Samples from one application to the next.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub stride: usize,
    /// Zeros on each side of the input.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub padding: usize,
    /// Transposed convolutions: samples that are added at the end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub output_padding: usize,
    /// Samples from one kernel tap to the next.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub dilation: usize,
    /// Whether a learned number is added to each channel.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
}

impl Conv1d {
    /// The same over images of height 1.
    pub fn flat(self) -> Conv {
        Conv {
            channels: self.channels,
            kernel: Pair([1, self.kernel]),
            stride: Pair([1, self.stride]),
            padding: Pair([0, self.padding]),
            output_padding: Pair([0, self.output_padding]),
            dilation: Pair([1, self.dilation]),
            groups: 1,
            bias: self.bias,
        }
    }
}

/// A number of channels or features: written, or that of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// This many.
    Of(usize),
    /// As many as the data has.
    Data,
}

/// The shape of a sample: written, or that of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleShape {
    /// (C, H, W).
    Of([usize; 3]),
    /// That of the data.
    Data,
}

/// Height and width.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pair(pub [usize; 2]);

/// One name or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

/// What sizes, shapes, pairs and names look like in a file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(usize),
    Text(String),
    Numbers(Vec<usize>),
    Texts(Vec<String>),
}

/// Serde and JSON schema of a type that is written in one of several forms.
macro_rules! written {
    ($type:ident, $expected:literal, $schema:tt, { $($pattern:pat $(if $guard:expr)? => $value:expr,)* }, $this:ident => $write:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let wrong = |_| serde::de::Error::custom(concat!("expected ", $expected));
                match Written::deserialize(d).map_err(wrong)? {
                    $($pattern $(if $guard)? => Ok($value),)*
                    _ => Err(serde::de::Error::custom(concat!("expected ", $expected))),
                }
            }
        }

        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                let $this = self;
                $write.serialize(s)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

written!(Size, "a whole number of at least 1, or \"data\"",
    { "anyOf": [{ "type": "integer", "minimum": 1 }, { "const": "data" }] },
    {
        Written::Number(n) if n > 0 => Size::Of(n),
        Written::Text(text) if text == "data" => Size::Data,
    },
    this => match this { Size::Of(n) => Written::Number(*n), Size::Data => Written::Text("data".into()) });

written!(SampleShape, "[channels, height, width], or \"data\"",
    { "anyOf": [{ "type": "array", "items": { "type": "integer", "minimum": 1 }, "minItems": 3, "maxItems": 3 }, { "const": "data" }] },
    {
        Written::Numbers(n) if n.len() == 3 && !n.contains(&0) => SampleShape::Of([n[0], n[1], n[2]]),
        Written::Text(text) if text == "data" => SampleShape::Data,
    },
    this => match this { SampleShape::Of(n) => Written::Numbers(n.to_vec()), SampleShape::Data => Written::Text("data".into()) });

written!(Pair, "a whole number, or [height, width]",
    { "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "array", "items": { "type": "integer", "minimum": 0 }, "minItems": 2, "maxItems": 2 }] },
    {
        Written::Number(n) => Pair([n; 2]),
        Written::Numbers(n) if n.len() == 2 => Pair([n[0], n[1]]),
    },
    this => if this.0[0] == this.0[1] { Written::Number(this.0[0]) } else { Written::Numbers(this.0.to_vec()) });

written!(Names, "a name, or a list of names",
    { "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }] },
    {
        Written::Text(text) => Names(vec![text]),
        Written::Texts(texts) if !texts.is_empty() => Names(texts),
    },
    this => if this.0.len() == 1 { Written::Text(this.0[0].clone()) } else { Written::Texts(this.0.clone()) });

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn four() -> usize {
    4
}

fn half() -> f64 {
    0.5
}

fn unit() -> f64 {
    1.0
}

fn is_no(flag: &bool) -> bool {
    !flag
}

/// Radford et al. 2016.
fn leaky_slope() -> f64 {
    0.2
}

fn is_yes(flag: &bool) -> bool {
    *flag
}

fn is_one(n: &usize) -> bool {
    *n == 1
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Pair {
    fn one() -> Self {
        Pair([1; 2])
    }

    fn two() -> Self {
        Pair([2; 2])
    }

    fn is_one(&self) -> bool {
        self.0 == [1; 2]
    }

    fn is_zero(&self) -> bool {
        self.0 == [0; 2]
    }
}

impl Conv {
    /// A square kernel, stride and padding, with a bias.
    pub fn square(channels: impl Into<Size>, kernel: usize, stride: usize, padding: usize) -> Self {
        Conv {
            channels: channels.into(),
            kernel: Pair([kernel; 2]),
            stride: Pair([stride; 2]),
            padding: Pair([padding; 2]),
            output_padding: Pair([0; 2]),
            dilation: Pair([1; 2]),
            groups: 1,
            bias: true,
        }
    }
}

impl From<usize> for Size {
    fn from(n: usize) -> Self {
        Size::Of(n)
    }
}

impl Layer {
    /// True for layers that change no number, only its place.
    pub fn keeps_values(&self) -> bool {
        matches!(self, Layer::Flatten {} | Layer::Unflatten { .. } | Layer::Tap { .. })
    }

    /// `nn.Linear(_, features)`.
    pub fn linear(features: impl Into<Size>) -> Self {
        Layer::Linear { features: features.into(), bias: true }
    }

    /// `nn.Conv2d(_, channels, kernel, stride, padding)`.
    pub fn conv2d(channels: impl Into<Size>, kernel: usize, stride: usize, padding: usize) -> Self {
        Layer::Conv2d(Conv::square(channels, kernel, stride, padding))
    }

    /// `nn.ConvTranspose2d(_, channels, kernel, stride, padding)`.
    pub fn conv_transpose2d(channels: impl Into<Size>, kernel: usize, stride: usize, padding: usize) -> Self {
        Layer::ConvTranspose2d(Conv::square(channels, kernel, stride, padding))
    }

    /// The same layer without a bias.
    pub fn without_bias(mut self) -> Self {
        match &mut self {
            Layer::Linear { bias, .. } => *bias = false,
            Layer::Conv2d(conv) | Layer::ConvTranspose2d(conv) => conv.bias = false,
            Layer::Conv1d(conv) | Layer::ConvTranspose1d(conv) => conv.bias = false,
            _ => {}
        }
        self
    }

    /// `nn.BatchNorm1d` or `nn.BatchNorm2d`.
    pub fn batch_norm() -> Self {
        Layer::BatchNorm {}
    }

    /// `nn.ReLU()`.
    pub fn relu() -> Self {
        Layer::Relu {}
    }

    /// `nn.LeakyReLU(slope)`.
    pub fn leaky_relu(slope: f64) -> Self {
        Layer::LeakyRelu { slope }
    }

    /// `nn.Tanh()`.
    pub fn tanh() -> Self {
        Layer::Tanh {}
    }

    /// `nn.Flatten()`.
    pub fn flatten() -> Self {
        Layer::Flatten {}
    }

    /// `nn.Unflatten(1, (channels, height, width))`.
    pub fn unflatten(shape: [usize; 3]) -> Self {
        Layer::Unflatten { shape: SampleShape::Of(shape) }
    }

    /// Joins the class of each sample: `features` learned numbers, or a one-hot row.
    pub fn class_concat(features: Option<usize>) -> Self {
        Layer::ClassConcat { features }
    }

    /// What a layer of its kind is called in files and labels.
    pub fn kind(&self) -> &'static str {
        match self {
            Layer::Linear { .. } => "linear",
            Layer::Conv2d(_) => "conv",
            Layer::ConvTranspose2d(_) => "conv_transpose",
            Layer::Conv1d(_) => "conv1d",
            Layer::ConvTranspose1d(_) => "conv_transpose1d",
            Layer::MaxPool2d(_) => "max_pool",
            Layer::AvgPool2d(_) => "avg_pool",
            Layer::GlobalAvgPool {} => "global_avg_pool",
            Layer::GlobalSumPool {} => "global_sum_pool",
            Layer::Upsample { .. } => "upsample",
            Layer::PixelShuffle { .. } => "pixel_shuffle",
            Layer::PixelUnshuffle { .. } => "pixel_unshuffle",
            Layer::Dropout { .. } => "dropout",
            Layer::BatchNorm {} => "batch_norm",
            Layer::InstanceNorm { .. } => "instance_norm",
            Layer::LayerNorm {} => "layer_norm",
            Layer::GroupNorm { .. } => "group_norm",
            Layer::PixelNorm {} => "pixel_norm",
            Layer::MinibatchStddev { .. } => "minibatch_stddev",
            Layer::Elu { .. } => "elu",
            Layer::Silu {} => "silu",
            Layer::Gelu {} => "gelu",
            Layer::Softmax {} => "softmax",
            Layer::LogSoftmax {} => "log_softmax",
            Layer::Relu {} => "relu",
            Layer::LeakyRelu { .. } => "leaky_relu",
            Layer::Tanh {} => "tanh",
            Layer::Sigmoid {} => "sigmoid",
            Layer::Flatten {} => "flatten",
            Layer::Unflatten { .. } => "unflatten",
            Layer::Tap { .. } => "tap",
            Layer::Add { .. } => "add",
            Layer::Concat { .. } => "concat",
            Layer::ClassConcat { .. } => "class_concat",
            Layer::Residual { .. } => "residual",
            Layer::Quadratic {} => "quadratic",
        }
    }

    /// Whether it takes the class of each sample itself; layers inside it do not count.
    pub fn takes_classes(&self) -> bool {
        matches!(self, Layer::ClassConcat { .. })
    }

    /// This layer and those inside it.
    pub fn all(&self) -> Vec<&Layer> {
        let inner = match self {
            Layer::Residual { layers, shortcut } => layers.iter().chain(shortcut).flat_map(Layer::all).collect(),
            _ => Vec::new(),
        };
        [vec![self], inner].concat()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Of(n) => write!(f, "{n}"),
            Size::Data => f.write_str("data"),
        }
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [h, w] = self.0;
        if h == w { write!(f, "{h}") } else { write!(f, "{h}x{w}") }
    }
}

impl Window {
    /// Pixels from one window to the next.
    pub fn stride(&self) -> Pair {
        self.stride.unwrap_or(self.kernel)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "k{} s{}", self.kernel, self.stride())?;
        if self.padding.is_zero() { Ok(()) } else { write!(f, " p{}", self.padding) }
    }
}

impl fmt::Display for Conv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} k{} s{} p{}", self.channels, self.kernel, self.stride, self.padding)?;
        if !self.output_padding.is_zero() {
            write!(f, " op{}", self.output_padding)?;
        }
        if !self.dilation.is_one() {
            write!(f, " d{}", self.dilation)?;
        }
        if self.groups > 1 {
            write!(f, " g{}", self.groups)?;
        }
        Ok(())
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layer::Linear { features, .. } => write!(f, "Linear {features}"),
            Layer::Conv2d(conv) => write!(f, "Conv2d {conv}"),
            Layer::ConvTranspose2d(conv) => write!(f, "ConvTranspose2d {conv}"),
            Layer::Conv1d(Conv1d { channels, kernel, stride, padding, .. }) => {
                write!(f, "Conv1d {channels} k{kernel} s{stride} p{padding}")
            }
            Layer::ConvTranspose1d(Conv1d { channels, kernel, stride, padding, .. }) => {
                write!(f, "ConvTranspose1d {channels} k{kernel} s{stride} p{padding}")
            }
            Layer::MaxPool2d(window) => write!(f, "MaxPool2d {window}"),
            Layer::AvgPool2d(window) => write!(f, "AvgPool2d {window}"),
            Layer::GlobalAvgPool {} => f.write_str("GlobalAvgPool"),
            Layer::GlobalSumPool {} => f.write_str("GlobalSumPool"),
            Layer::Upsample { scale, mode: UpsampleMode::Nearest } => write!(f, "Upsample {scale} nearest"),
            Layer::Upsample { scale, mode: UpsampleMode::Bilinear } => write!(f, "Upsample {scale} bilinear"),
            Layer::PixelShuffle { factor } => write!(f, "PixelShuffle {factor}"),
            Layer::PixelUnshuffle { factor } => write!(f, "PixelUnshuffle {factor}"),
            Layer::Dropout { p } => write!(f, "Dropout {p}"),
            Layer::BatchNorm {} => f.write_str("BatchNorm"),
            Layer::InstanceNorm { .. } => f.write_str("InstanceNorm"),
            Layer::LayerNorm {} => f.write_str("LayerNorm"),
            Layer::GroupNorm { groups } => write!(f, "GroupNorm {groups}"),
            Layer::PixelNorm {} => f.write_str("PixelNorm"),
            Layer::MinibatchStddev { group } => write!(f, "MinibatchStddev {group}"),
            Layer::Elu { alpha } => write!(f, "ELU {alpha}"),
            Layer::Silu {} => f.write_str("SiLU"),
            Layer::Gelu {} => f.write_str("GELU"),
            Layer::Softmax {} => f.write_str("Softmax"),
            Layer::LogSoftmax {} => f.write_str("LogSoftmax"),
            Layer::Relu {} => f.write_str("ReLU"),
            Layer::LeakyRelu { slope } => write!(f, "LeakyReLU {slope}"),
            Layer::Tanh {} => f.write_str("Tanh"),
            Layer::Sigmoid {} => f.write_str("Sigmoid"),
            Layer::Flatten {} => f.write_str("Flatten"),
            Layer::Unflatten { shape: SampleShape::Of([c, h, w]) } => write!(f, "Unflatten {c}x{h}x{w}"),
            Layer::Unflatten { shape: SampleShape::Data } => f.write_str("Unflatten data"),
            Layer::Tap { name } => write!(f, "Tap {name}"),
            Layer::Add { from } => write!(f, "Add {}", from.0.join(", ")),
            Layer::Concat { from } => write!(f, "Concat {}", from.0.join(", ")),
            Layer::ClassConcat { features: Some(features) } => write!(f, "ClassConcat {features}"),
            Layer::ClassConcat { features: None } => f.write_str("ClassConcat one-hot"),
            Layer::Residual { layers, .. } => write!(f, "Residual of {} layers", layers.len()),
            Layer::Quadratic {} => f.write_str("Quadratic"),
        }
    }
}
