//! The networks of two presets, as src/nn/presets.rs of the main crate has them.

use crate::hashed;
use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::activation::Activation;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, LeakyReluConfig, Linear, LinearConfig, PaddingConfig2d, Relu, Tanh};
use burn::tensor::{Device, Tensor, TensorData};

/// Length of z.
pub const Z_DIM: usize = 100;

/// The layer of a block that has weights.
#[derive(Module, Debug)]
enum Product {
    Conv(Conv2d),
    Transposed(ConvTranspose2d),
    Linear(Linear),
}

/// A product, then a norm and an activation where there are any.
#[derive(Module, Debug)]
struct Block {
    product: Product,
    norm: Option<BatchNorm>,
    activation: Option<Activation>,
}

/// Blocks in order, for images `(channels, height, width)` in and out.
#[derive(Module, Debug)]
pub struct Network {
    blocks: Vec<Block>,
    output: [usize; 3],
}

impl Network {
    /// Runs a batch (N, C, H, W); z is (N, 100, 1, 1), scores are (N, 1, 1, 1).
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let batch = input.dims()[0];
        let x = self.blocks.iter().fold(input, |x, block| block.forward(x));
        let [channels, height, width] = self.output;
        x.reshape([batch, channels, height, width])
    }

    /// Number of parameters that are trained.
    pub fn parameters(&self) -> usize {
        let mut count = Count(0);
        self.visit(&mut count);
        count.0
    }
}

impl Block {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = match &self.product {
            Product::Conv(conv) => conv.forward(x),
            Product::Transposed(conv) => conv.forward(x),
            Product::Linear(linear) => {
                let rows: Tensor<2> = linear.forward(x.flatten::<2>(1, 3));
                let [batch, features] = rows.dims();
                rows.reshape([batch, features, 1, 1])
            }
        };
        let x = match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        match &self.activation {
            Some(activation) => activation.forward(x),
            None => x,
        }
    }
}

struct Count(usize);

impl ModuleVisitor for Count {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            self.0 += param.shape().num_elements();
        }
    }
}

/// Generator, discriminator and side of the images of a preset; `None` for a name that is not known.
pub fn preset(name: &str, device: &Device) -> Option<(Network, Network, usize)> {
    // The streams of ../pytorch/networks.py.
    let (mut g, mut d) = (Builder::new(0, device), Builder::new(100, device));
    let lrelu = || Some(Activation::LeakyRelu(LeakyReluConfig::new().with_negative_slope(0.2).init()));
    let tanh = || Some(Activation::Tanh(Tanh::new()));
    let relu = || Some(Activation::Relu(Relu::new()));
    let side = match name {
        "dcgan-32" => {
            g.transposed([Z_DIM, 256], 1, 0, true, relu());
            g.transposed([256, 128], 2, 1, true, relu());
            g.transposed([128, 64], 2, 1, true, relu());
            g.transposed([64, 1], 2, 1, false, tanh());
            d.conv([1, 64], 2, 1, false, lrelu());
            d.conv([64, 128], 2, 1, true, lrelu());
            d.conv([128, 256], 2, 1, true, lrelu());
            d.conv([256, 1], 1, 0, false, None);
            32
        }
        "mlp" => {
            for sizes in [[Z_DIM, 256], [256, 512], [512, 1024]] {
                g.linear(sizes, lrelu());
            }
            g.linear([1024, 784], tanh());
            for sizes in [[784, 512], [512, 256]] {
                d.linear(sizes, lrelu());
            }
            d.linear([256, 1], None);
            28
        }
        _ => return None,
    };
    Some((g.finish([1, side, side]), d.finish([1, 1, 1]), side))
}

/// Puts blocks together, with the hashed initial values that all peers share.
struct Builder<'a> {
    blocks: Vec<Block>,
    stream: u64,
    device: &'a Device,
}

impl<'a> Builder<'a> {
    const KERNEL: usize = 4;
    /// Bound of uniform numbers with the standard deviation 0.02.
    const CONV_BOUND: f32 = 0.034_641_016;

    fn new(stream: u64, device: &'a Device) -> Self {
        Builder { blocks: Vec::new(), stream, device }
    }

    fn next_stream(&mut self) -> u64 {
        self.stream += 1;
        self.stream - 1
    }

    fn push(&mut self, product: Product, norm: Option<usize>, activation: Option<Activation>) {
        let norm = norm.map(|features| BatchNormConfig::new(features).init(self.device));
        self.blocks.push(Block { product, norm, activation });
    }

    fn conv(&mut self, [inputs, outputs]: [usize; 2], stride: usize, padding: usize, norm: bool, activation: Option<Activation>) {
        let k = Self::KERNEL;
        let config = Conv2dConfig::new([inputs, outputs], [k, k]).with_stride([stride; 2]);
        let config = config.with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding)).with_bias(false);
        let mut conv = config.init(self.device);
        conv.weight = Param::from_tensor(hashed::tensor([outputs, inputs, k, k], self.next_stream(), Self::CONV_BOUND, self.device));
        self.push(Product::Conv(conv), norm.then_some(outputs), activation);
    }

    fn transposed(&mut self, [inputs, outputs]: [usize; 2], stride: usize, padding: usize, norm: bool, activation: Option<Activation>) {
        let k = Self::KERNEL;
        let config = ConvTranspose2dConfig::new([inputs, outputs], [k, k]).with_stride([stride; 2]);
        let mut conv = config.with_padding([padding; 2]).with_bias(false).init(self.device);
        conv.weight = Param::from_tensor(hashed::tensor([inputs, outputs, k, k], self.next_stream(), Self::CONV_BOUND, self.device));
        self.push(Product::Transposed(conv), norm.then_some(outputs), activation);
    }

    fn linear(&mut self, [inputs, outputs]: [usize; 2], activation: Option<Activation>) {
        let bound = 1.0 / (inputs as f32).sqrt();
        let mut linear = LinearConfig::new(inputs, outputs).init(self.device);
        // The shared values are laid out (outputs, inputs); burn's weights are (inputs, outputs).
        let shared = hashed::values(inputs * outputs, self.next_stream(), bound);
        let weight: Vec<f32> = (0..inputs * outputs).map(|i| shared[i % outputs * inputs + i / outputs]).collect();
        linear.weight = Param::from_tensor(Tensor::from_data(TensorData::new(weight, [inputs, outputs]), self.device));
        linear.bias = Some(Param::from_tensor(hashed::tensor([outputs], self.next_stream(), bound, self.device)));
        self.push(Product::Linear(linear), None, activation);
    }

    fn finish(self, output: [usize; 3]) -> Network {
        Network { blocks: self.blocks, output }
    }
}
