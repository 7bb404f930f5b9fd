//! Initial values of parameters: PyTorch's initialisers, drawn on the host.
//!
//! A tensor's values depend on the run's seed and the parameter's name alone, so that adding a layer does not change the others. They are drawn
//! in logical order in f64 and rounded to f32.

use crate::error::{Error, Result};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rand_distr::StandardNormal;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

/// Which of a weight's fans keeps the variance in the Kaiming initialisers (PyTorch's `mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fan {
    /// Inputs of a unit: keeps the variance of the forward pass.
    In,
    /// Outputs of a unit: keeps the variance of the backward pass.
    Out,
}

/// How a parameter starts (`torch.nn.init`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// All this value.
    Constant(f32),
    /// Normal: `normal_`.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation, not negative.
        std: f64,
    },
    /// Uniform on [low, high): `uniform_`.
    Uniform {
        /// Lower bound.
        low: f64,
        /// Upper bound, not below the lower one.
        high: f64,
    },
    /// Uniform with standard deviation gain sqrt(2 / (fan_in + fan_out)): `xavier_uniform_` (Glorot and Bengio, 2010).
    XavierUniform {
        /// Factor.
        gain: f64,
    },
    /// Normal with the same standard deviation: `xavier_normal_`.
    XavierNormal {
        /// Factor.
        gain: f64,
    },
    /// Uniform with standard deviation sqrt(2 / (1 + a^2) / fan): `kaiming_uniform_(a, mode, nonlinearity="leaky_relu")` (He et al., 2015).
    KaimingUniform {
        /// Negative slope of the activation that follows; 0 for ReLU.
        a: f64,
        /// PyTorch's `mode`.
        fan: Fan,
    },
    /// Normal with the same standard deviation: `kaiming_normal_`.
    KaimingNormal {
        /// Negative slope of the activation that follows; 0 for ReLU.
        a: f64,
        /// PyTorch's `mode`.
        fan: Fan,
    },
    /// Random orthonormal rows (or columns, if there are more rows than columns) of the weight as a (dim 0, rest) matrix, times gain:
    /// `orthogonal_` (Saxe et al., 2014).
    Orthogonal {
        /// Factor.
        gain: f64,
    },
}

impl Init {
    /// What `torch.nn.Linear` and `torch.nn.Conv2d` start their weights with: uniform within ±1 / sqrt(fan_in).
    pub fn pytorch_weight() -> Init {
        Init::KaimingUniform { a: 5f64.sqrt(), fan: Fan::In }
    }

    /// What those layers start their biases with: uniform within ±1 / sqrt(fan_in) of the layer's weight.
    ///
    /// # Errors
    /// As [`fans`].
    pub fn pytorch_bias(weight: &Shape) -> Result<Init> {
        let (fan_in, _) = fans(weight)?;
        let bound = 1.0 / (fan_in as f64).sqrt();
        Ok(Init::Uniform { low: -bound, high: bound })
    }

    /// The initial value of the parameter `name` of shape `shape` in a run with seed `seed`. Every element is an f32 value.
    ///
    /// # Errors
    /// [`Error::Input`] if the initialiser is not defined for this shape (fans of a vector) or its constants are out of range.
    pub fn draw(&self, shape: &Shape, seed: u64, name: &str) -> Result<Tensor> {
        let mut key = Sha256::new();
        key.update(seed.to_le_bytes());
        key.update(name.as_bytes());
        let mut rng = ChaCha12Rng::from_seed(key.finalize().into());
        let context = |e: Error| Error::input(format!("initial value of {name}: {e}"));

        let tensor = match *self {
            Init::Zeros => Tensor::zeros(shape.clone()),
            Init::Ones => Tensor::from_fn(shape.clone(), |_| 1.0),
            Init::Constant(value) => Tensor::from_fn(shape.clone(), |_| f64::from(value)),
            Init::Normal { mean, std } => normal(&mut rng, shape, mean, std).map_err(context)?,
            Init::Uniform { low, high } => uniform(&mut rng, shape, low, high).map_err(context)?,
            Init::XavierUniform { gain } => {
                let bound = 3f64.sqrt() * xavier_std(shape, gain).map_err(context)?;
                uniform(&mut rng, shape, -bound, bound).map_err(context)?
            }
            Init::XavierNormal { gain } => {
                let std = xavier_std(shape, gain).map_err(context)?;
                normal(&mut rng, shape, 0.0, std).map_err(context)?
            }
            Init::KaimingUniform { a, fan } => {
                let bound = 3f64.sqrt() * kaiming_std(shape, a, fan).map_err(context)?;
                uniform(&mut rng, shape, -bound, bound).map_err(context)?
            }
            Init::KaimingNormal { a, fan } => {
                let std = kaiming_std(shape, a, fan).map_err(context)?;
                normal(&mut rng, shape, 0.0, std).map_err(context)?
            }
            Init::Orthogonal { gain } => {
                fans(shape).map_err(context)?;
                orthogonal(&mut rng, shape, gain)
            }
        };
        Ok(Tensor::new(tensor.shape, tensor.data.into_iter().map(|v| f64::from(v as f32)).collect()))
    }
}

/// PyTorch's (fan_in, fan_out) of a weight: axis 1 and axis 0 times the kernel's area. Weights are (out, in) and (O, I, KH, KW); those of a
/// transposed convolution are (in, out, KH, KW), and PyTorch counts their fans from the same axes all the same.
///
/// # Errors
/// [`Error::Input`] if `shape` has fewer than two axes.
pub fn fans(shape: &Shape) -> Result<(usize, usize)> {
    match shape.dims() {
        [rows, columns, kernel @ ..] => {
            let area: usize = kernel.iter().product();
            Ok((columns * area, rows * area))
        }
        _ => Err(Error::input(format!(
            "shape {shape} has no fans; expected a weight of rank 2 or 4, use a plain normal or uniform initialiser"
        ))),
    }
}

fn xavier_std(shape: &Shape, gain: f64) -> Result<f64> {
    let (fan_in, fan_out) = fans(shape)?;
    Ok(gain * (2.0 / (fan_in + fan_out) as f64).sqrt())
}

fn kaiming_std(shape: &Shape, a: f64, fan: Fan) -> Result<f64> {
    let (fan_in, fan_out) = fans(shape)?;
    let fan = match fan {
        Fan::In => fan_in,
        Fan::Out => fan_out,
    };
    Ok((2.0 / (1.0 + a * a) / fan as f64).sqrt())
}

fn normal(rng: &mut ChaCha12Rng, shape: &Shape, mean: f64, std: f64) -> Result<Tensor> {
    if !(mean.is_finite() && std.is_finite() && std >= 0.0) {
        return Err(Error::input(format!("normal with mean {mean} and std {std}; expected finite numbers, std not negative")));
    }
    Ok(Tensor::from_fn(shape.clone(), |_| mean + std * rng.sample::<f64, _>(StandardNormal)))
}

fn uniform(rng: &mut ChaCha12Rng, shape: &Shape, low: f64, high: f64) -> Result<Tensor> {
    if !(low.is_finite() && high.is_finite() && low <= high) {
        return Err(Error::input(format!("uniform from {low} to {high}; expected finite bounds in order")));
    }
    Ok(Tensor::from_fn(shape.clone(), |_| low + (high - low) * rng.random::<f64>()))
}

/// The orthonormal factor of a normal matrix, by modified Gram-Schmidt: the QR factorisation with a positive diagonal of R, which PyTorch
/// gets by flipping signs. The loss of orthogonality is the matrix's condition number times f64's precision, far below f32's.
fn orthogonal(rng: &mut ChaCha12Rng, shape: &Shape, gain: f64) -> Tensor {
    let rows = shape.dims()[0];
    let columns = shape.len() / rows;
    let mut matrix = Tensor::from_fn(shape.clone(), |_| rng.sample(StandardNormal));
    let wide = rows < columns;
    let (count, len) = if wide { (rows, columns) } else { (columns, rows) };
    let at = |vector: usize, i: usize| if wide { vector * columns + i } else { i * columns + vector };
    let mut vectors: Vec<Vec<f64>> = (0..count).map(|k| (0..len).map(|i| matrix.data[at(k, i)]).collect()).collect();
    for k in 0..count {
        let (done, rest) = vectors.split_at_mut(k + 1);
        let vector = &mut done[k];
        let norm = dot(vector, vector).sqrt();
        vector.iter_mut().for_each(|v| *v /= norm);
        // Each of the rest is the work of one thread, so the result does not depend on their number.
        rest.par_iter_mut().for_each(|other| {
            let along = dot(vector, other);
            other.iter_mut().zip(vector.iter()).for_each(|(o, v)| *o -= along * v);
        });
    }
    for (k, vector) in vectors.iter().enumerate() {
        for (i, v) in vector.iter().enumerate() {
            matrix.data[at(k, i)] = gain * v;
        }
    }
    matrix
}

/// Inner product in eight interleaved sums, which the compiler keeps in vector registers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[usize]) -> Shape {
        Shape::new(dims).unwrap()
    }

    fn draw(init: Init, dims: &[usize]) -> Vec<f64> {
        init.draw(&shape(dims), 17, "G.0.weight").unwrap().data
    }

    /// Standard deviation about zero, and largest magnitude.
    fn spread(values: &[f64]) -> (f64, f64) {
        let std = (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt();
        (std, values.iter().fold(0.0, |m: f64, v| m.max(v.abs())))
    }

    /// A normal with this standard deviation, by its second and fourth moments and its tails.
    fn assert_normal(values: &[f64], std: f64) {
        let n = values.len() as f64;
        let (got, most) = spread(values);
        assert!((got / std - 1.0).abs() < 4.0 / (2.0 * n).sqrt(), "std {got}, expected {std}");
        let kurtosis = values.iter().map(|v| (v / got).powi(4)).sum::<f64>() / n;
        assert!((kurtosis - 3.0).abs() < 5.0 * (24.0 / n).sqrt(), "kurtosis {kurtosis}");
        assert!(most > 3.0 * std, "no tail: {most}");
        assert!((values.iter().sum::<f64>() / n).abs() < 5.0 * std / n.sqrt());
    }

    /// A uniform on ±bound, by its extremes and second moment.
    fn assert_uniform(values: &[f64], bound: f64) {
        let (std, most) = spread(values);
        // Values are rounded to f32, the bound is not.
        assert!(most <= bound * (1.0 + 1e-7) && most > 0.999 * bound, "largest {most}, expected just below {bound}");
        assert!((std / (bound / 3f64.sqrt()) - 1.0).abs() < 0.02, "std {std}");
        assert!((values.iter().sum::<f64>() / values.len() as f64).abs() < 5.0 * std / (values.len() as f64).sqrt());
    }

    #[test]
    fn constants() {
        assert_eq!(draw(Init::Zeros, &[5]), [0.0; 5]);
        assert_eq!(draw(Init::Ones, &[5]), [1.0; 5]);
        assert_eq!(draw(Init::Constant(0.1), &[2]), [f64::from(0.1f32); 2]);
    }

    #[test]
    fn fans_are_pytorchs() {
        assert_eq!(fans(&shape(&[10, 3])).unwrap(), (3, 10));
        assert_eq!(fans(&shape(&[64, 3, 4, 5])).unwrap(), (60, 1280));
        assert!(matches!(fans(&shape(&[7])), Err(Error::Input(_))));
    }

    #[test]
    fn normals_have_their_moments() {
        let values = draw(Init::Normal { mean: 1.0, std: 0.02 }, &[200, 100]);
        let centred: Vec<f64> = values.iter().map(|v| v - 1.0).collect();
        assert_normal(&centred, 0.02);
        // torch.nn.init on (64, 32, 4, 4): fan_in 512, fan_out 1024.
        let dims = [64, 32, 4, 4];
        assert_normal(&draw(Init::XavierNormal { gain: 3.0 }, &dims), 3.0 * (2.0f64 / 1536.0).sqrt());
        assert_normal(&draw(Init::KaimingNormal { a: 0.2, fan: Fan::In }, &dims), (2.0f64 / 1.04 / 512.0).sqrt());
        assert_normal(&draw(Init::KaimingNormal { a: 0.0, fan: Fan::Out }, &dims), (2.0f64 / 1024.0).sqrt());
    }

    #[test]
    fn uniforms_have_their_bounds() {
        let values = draw(Init::Uniform { low: -0.1, high: 0.3 }, &[200, 100]);
        assert_uniform(&values.iter().map(|v| v - 0.1).collect::<Vec<_>>(), 0.2);
        let dims = [64, 32, 4, 4];
        assert_uniform(&draw(Init::XavierUniform { gain: 2.0 }, &dims), 2.0 * (6.0f64 / 1536.0).sqrt());
        assert_uniform(&draw(Init::KaimingUniform { a: 0.0, fan: Fan::Out }, &dims), (6.0f64 / 1024.0).sqrt());
        assert_uniform(&draw(Init::pytorch_weight(), &dims), 1.0 / 512f64.sqrt());
        assert_uniform(&draw(Init::pytorch_weight(), &[100, 300]), 1.0 / 300f64.sqrt());
        let bias = Init::pytorch_bias(&shape(&[20_000, 100])).unwrap();
        assert_uniform(&draw(bias, &[20_000]), 0.1);
    }

    #[test]
    fn orthogonal_weights_are() {
        for dims in [&[5, 5][..], &[7, 40], &[40, 7], &[1, 9], &[9, 1], &[6, 5, 3, 2], &[64, 3, 4, 4]] {
            let w = draw(Init::Orthogonal { gain: 1.5 }, dims);
            let rows = dims[0];
            let columns = w.len() / rows;
            let (count, len) = (rows.min(columns), rows.max(columns));
            let element = |k: usize, i: usize| if rows < columns { w[k * columns + i] } else { w[i * columns + k] };
            for a in 0..count {
                for b in 0..=a {
                    let product: f64 = (0..len).map(|i| element(a, i) * element(b, i)).sum();
                    let expected = if a == b { 2.25 } else { 0.0 };
                    assert!((product - expected).abs() < 1e-6, "{dims:?}: {a} . {b} = {product}");
                }
            }
        }
        // Uniform over the orthogonal group: the signs of a diagonal are as often positive as negative.
        let positive = (0..400).filter(|seed| {
            let w = Init::Orthogonal { gain: 1.0 }.draw(&shape(&[3, 3]), *seed, "w").unwrap();
            w.data[8] > 0.0
        });
        assert!((140..260).contains(&positive.count()));
    }

    #[test]
    fn seed_and_name_decide() {
        let init = Init::Normal { mean: 0.0, std: 1.0 };
        let values = |seed, name| init.draw(&shape(&[4, 4]), seed, name).unwrap().data;
        assert_eq!(values(1, "G.0.weight"), values(1, "G.0.weight"));
        assert_ne!(values(1, "G.0.weight"), values(2, "G.0.weight"));
        assert_ne!(values(1, "G.0.weight"), values(1, "D.0.weight"));
        assert!(values(1, "a").iter().all(|v| f64::from(*v as f32) == *v));
    }

    /// Pins the stream: a change of generator would silently change every run.
    #[test]
    fn the_stream_is_pinned() {
        let values = Init::Uniform { low: 0.0, high: 1.0 }.draw(&shape(&[3]), 0, "pin").unwrap().data;
        let normals = Init::Normal { mean: 0.0, std: 1.0 }.draw(&shape(&[3]), 0, "pin").unwrap().data;
        let expected: [[f32; 3]; 2] = [[0.444_412_08, 0.627_144_1, 0.454_734_54], [-0.283_411_8, 0.508_101_6, -0.119_557_92]];
        assert_eq!([values, normals], expected.map(|row| row.map(f64::from).to_vec()));
    }

    #[test]
    fn wrong_requests_name_the_parameter() {
        let error = Init::XavierUniform { gain: 1.0 }.draw(&shape(&[8]), 0, "G.0.bias").unwrap_err();
        assert!(matches!(error, Error::Input(_)) && error.to_string().contains("G.0.bias"), "{error}");
        assert!(Init::Orthogonal { gain: 1.0 }.draw(&shape(&[8]), 0, "x").is_err());
        assert!(Init::Normal { mean: 0.0, std: -1.0 }.draw(&shape(&[8]), 0, "x").is_err());
        assert!(Init::Uniform { low: 1.0, high: 0.0 }.draw(&shape(&[8]), 0, "x").is_err());
        assert!(Init::Uniform { low: 0.0, high: f64::NAN }.draw(&shape(&[8]), 0, "x").is_err());
    }
}
