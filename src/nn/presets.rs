//! The presets, exactly defined.
//!
//! Every preset is a pair of networks for images of one size; grey or RGB follows the data, and smaller images are padded to the size. BN is batch norm
//! with PyTorch's eps 1e-5 and momentum 0.1, LR is LeakyReLU; `Ck` and `Tk` are convolutions and transposed convolutions with their kernel, stride and padding.
//!
//! | preset | image | z | generator | discriminator | init | Adam |
//! |---|---|---|---|---|---|---|
//! | `mlp` | 28 | 100 | Linear 256, 512, 1024, each LR 0.2; Linear 784·C tanh | Linear 512, 256, each LR 0.2; Linear 1 | PyTorch's default | 2e-4, β 0.5, 0.999 |
//! | `dcgan-28-small` | 28 | 100 | T64 k7 BN ReLU; T32 k4s2p1 BN ReLU; TC k4s2p1 tanh | C32 k4s2p1 LR 0.2; C64 k4s2p1 LR 0.2; C1 k7 | N(0, 0.02) | 2e-4, β 0.5, 0.999 |
//! | `dcgan-28` | 28 | 100 | Linear 12544 BN LR 0.3; 256x7x7; T128 k5s1p2 BN LR 0.3; T64 k5s2p2 BN LR 0.3; TC k5s2p2 tanh | C64 k5s2p2 LR 0.3; C128 k5s2p2 LR 0.3; Linear 1 | Xavier-uniform | 1e-4, β 0.9, 0.999 |
//! | `dcgan-32` | 32 | 100 | T256 k4 BN ReLU; T128, T64 k4s2p1 BN ReLU; TC k4s2p1 tanh | C64 k4s2p1 LR 0.2; C128, C256 k4s2p1 BN LR 0.2; C1 k4 | N(0, 0.02) | 2e-4, β 0.5, 0.999 |
//! | `dcgan-64` | 64 | 100 | T512 k4 BN ReLU; T256, T128, T64 k4s2p1 BN ReLU; TC k4s2p1 tanh | C64 k4s2p1 LR 0.2; C128, C256, C512 k4s2p1 BN LR 0.2; C1 k4 | N(0, 0.02) | 2e-4, β 0.5, 0.999 |
//!
//! `dcgan-28` has the widths of TensorFlow's DCGAN tutorial (its dropout is left out), `dcgan-64` is PyTorch's DCGAN example.

use super::network::{InitScheme, Layer, Network};
use crate::error::{Error, Result};
use crate::suggest::nearest;

/// A generator, a discriminator and the defaults of their recipe.
#[derive(Debug, Clone)]
pub struct Preset {
    /// Name on the command line.
    pub name: &'static str,
    /// One line for `ganymede presets`.
    pub summary: &'static str,
    /// Data set that it trains on when none is named.
    pub data: &'static str,
    /// Height and width of its images.
    pub image: usize,
    /// Length of z.
    pub z_dim: usize,
    /// Default batch size.
    pub batch: usize,
    /// Default learning rate of both networks.
    pub lr: f64,
    /// Adam's beta1.
    pub beta1: f64,
    /// Default run length in thousands of images.
    pub kimg: f64,
    networks: fn(channels: usize) -> (Vec<Layer>, Vec<Layer>),
    init: InitScheme,
}

/// The presets in order of cost.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "mlp",
        summary: "28x28; dense networks 100-256-512-1024-784 and 784-512-256-1",
        data: "builtin:digits",
        image: 28,
        z_dim: 100,
        batch: 64,
        lr: 2e-4,
        beta1: 0.5,
        kimg: 1000.0,
        networks: mlp,
        init: InitScheme::PyTorch,
    },
    Preset {
        name: "dcgan-28-small",
        summary: "28x28; the default: a small DCGAN that learns digits in minutes on two CPU cores",
        data: "builtin:digits",
        image: 28,
        z_dim: 100,
        batch: 32,
        lr: 2e-4,
        beta1: 0.5,
        kimg: 38.4,
        networks: dcgan_28_small,
        init: InitScheme::Dcgan,
    },
    Preset {
        name: "dcgan-28",
        summary: "28x28; widths of TensorFlow's DCGAN tutorial, 5x5 kernels",
        data: "builtin:digits",
        image: 28,
        z_dim: 100,
        batch: 256,
        lr: 1e-4,
        beta1: 0.9,
        kimg: 3000.0,
        networks: dcgan_28,
        init: InitScheme::Keras,
    },
    Preset {
        name: "dcgan-32",
        summary: "32x32; DCGAN 256-128-64 and 64-128-256, the benchmark network",
        data: "builtin:digits",
        image: 32,
        z_dim: 100,
        batch: 64,
        lr: 2e-4,
        beta1: 0.5,
        kimg: 1500.0,
        networks: dcgan_32,
        init: InitScheme::Dcgan,
    },
    Preset {
        name: "dcgan-64",
        summary: "64x64; PyTorch's DCGAN example",
        data: "builtin:shapes-64",
        image: 64,
        z_dim: 100,
        batch: 64,
        lr: 2e-4,
        beta1: 0.5,
        kimg: 5000.0,
        networks: dcgan_64,
        init: InitScheme::Dcgan,
    },
];

/// The preset that `train` runs when none is named.
pub const DEFAULT_PRESET: &str = "dcgan-28-small";

/// The preset of that name.
///
/// # Errors
/// [`Error::Input`] if there is none, with the nearest name and the list.
pub fn preset(name: &str) -> Result<&'static Preset> {
    PRESETS.iter().find(|p| p.name == name).ok_or_else(|| {
        let names: Vec<&str> = PRESETS.iter().map(|p| p.name).collect();
        let hint = nearest(name, names.iter().copied()).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
        Error::input(format!("there is no preset {name:?}; {hint}presets are {}", names.join(", ")))
    })
}

impl Preset {
    /// Generator and discriminator for images of `channels` channels.
    pub fn networks(&self, channels: usize) -> (Network, Network) {
        let (g, d) = (self.networks)(channels);
        let generator = Network { name: "G".into(), input: vec![self.z_dim], layers: g, init: self.init };
        let discriminator = Network { name: "D".into(), input: vec![channels, self.image, self.image], layers: d, init: self.init };
        (generator, discriminator)
    }
}

fn linear(inputs: usize, outputs: usize) -> Layer {
    Layer::Linear { inputs, outputs, bias: true }
}

fn conv(inputs: usize, outputs: usize, kernel: usize, stride: usize, padding: usize) -> Layer {
    Layer::Conv2d { inputs, outputs, kernel, stride, padding, bias: false }
}

fn conv_t(inputs: usize, outputs: usize, kernel: usize, stride: usize, padding: usize) -> Layer {
    Layer::ConvTranspose2d { inputs, outputs, kernel, stride, padding, output_padding: 0, bias: false }
}

fn norm(features: usize) -> Layer {
    Layer::BatchNorm { features }
}

fn mlp(channels: usize) -> (Vec<Layer>, Vec<Layer>) {
    let pixels = 28 * 28 * channels;
    let lr = Layer::LeakyRelu(0.2);
    let g = vec![
        linear(100, 256),
        lr,
        linear(256, 512),
        lr,
        linear(512, 1024),
        lr,
        linear(1024, pixels),
        Layer::Tanh,
        Layer::Unflatten { channels, height: 28, width: 28 },
    ];
    let d = vec![Layer::Flatten, linear(pixels, 512), lr, linear(512, 256), lr, linear(256, 1)];
    (g, d)
}

fn dcgan_28_small(channels: usize) -> (Vec<Layer>, Vec<Layer>) {
    let lr = Layer::LeakyRelu(0.2);
    let g = vec![
        conv_t(100, 64, 7, 1, 0),
        norm(64),
        Layer::Relu,
        conv_t(64, 32, 4, 2, 1),
        norm(32),
        Layer::Relu,
        Layer::ConvTranspose2d { inputs: 32, outputs: channels, kernel: 4, stride: 2, padding: 1, output_padding: 0, bias: true },
        Layer::Tanh,
    ];
    // No norm in D: with one, a generator that makes the same image for every z is stuck there, because the norm maps any constant batch to its bias.
    let conv = |inputs, outputs, kernel, stride, padding| Layer::Conv2d { inputs, outputs, kernel, stride, padding, bias: true };
    let d = vec![conv(channels, 32, 4, 2, 1), lr, conv(32, 64, 4, 2, 1), lr, conv(64, 1, 7, 1, 0)];
    (g, d)
}

fn dcgan_28(channels: usize) -> (Vec<Layer>, Vec<Layer>) {
    let lr = Layer::LeakyRelu(0.3);
    let up = |inputs, outputs| Layer::ConvTranspose2d { inputs, outputs, kernel: 5, stride: 2, padding: 2, output_padding: 1, bias: false };
    let down = |inputs, outputs| Layer::Conv2d { inputs, outputs, kernel: 5, stride: 2, padding: 2, bias: true };
    let g = vec![
        Layer::Linear { inputs: 100, outputs: 12_544, bias: false },
        norm(12_544),
        lr,
        Layer::Unflatten { channels: 256, height: 7, width: 7 },
        conv_t(256, 128, 5, 1, 2),
        norm(128),
        lr,
        up(128, 64),
        norm(64),
        lr,
        up(64, channels),
        Layer::Tanh,
    ];
    let d = vec![down(channels, 64), lr, down(64, 128), lr, Layer::Flatten, linear(6272, 1)];
    (g, d)
}

fn dcgan_32(channels: usize) -> (Vec<Layer>, Vec<Layer>) {
    dcgan(channels, &[256, 128, 64])
}

fn dcgan_64(channels: usize) -> (Vec<Layer>, Vec<Layer>) {
    dcgan(channels, &[512, 256, 128, 64])
}

/// The DCGAN pattern: the generator's widths from the 4x4 map outwards; the discriminator mirrors them, without a norm in its first layer.
fn dcgan(channels: usize, widths: &[usize]) -> (Vec<Layer>, Vec<Layer>) {
    let lr = Layer::LeakyRelu(0.2);
    let mut g = vec![conv_t(100, widths[0], 4, 1, 0), norm(widths[0]), Layer::Relu];
    for pair in widths.windows(2) {
        g.extend([conv_t(pair[0], pair[1], 4, 2, 1), norm(pair[1]), Layer::Relu]);
    }
    let last = widths[widths.len() - 1];
    g.extend([conv_t(last, channels, 4, 2, 1), Layer::Tanh]);
    let mut d = vec![conv(channels, last, 4, 2, 1), lr];
    for pair in widths.windows(2).rev() {
        d.extend([conv(pair[1], pair[0], 4, 2, 1), norm(pair[0]), lr]);
    }
    d.push(conv(widths[0], 1, 4, 1, 0));
    (g, d)
}
