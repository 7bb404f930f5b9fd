//! Activation functions, as the epilogues of the gemm kernels and the activation ops know them.

/// A pointwise activation whose derivative can be told from its output, so that training need not keep its input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// f(x) = x.
    None,
    /// f(x) = x for x > 0, else slope · x; a slope of 0 is ReLU. The slope must not be negative: the output's sign tells the derivative.
    LeakyRelu(f32),
    /// f(x) = tanh x.
    Tanh,
    /// f(x) = 1 / (1 + e^-x).
    Sigmoid,
}

impl Activation {
    /// f(x), the f64 twin.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Activation::None => x,
            Activation::LeakyRelu(slope) => {
                if x > 0.0 {
                    x
                } else {
                    f64::from(slope) * x
                }
            }
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        }
    }

    /// f'(x) given y = f(x), the f64 twin: 1; y > 0 ? 1 : slope; 1 - y²; y (1 - y).
    pub fn derivative_from_output(self, y: f64) -> f64 {
        match self {
            Activation::None => 1.0,
            Activation::LeakyRelu(slope) => {
                if y > 0.0 {
                    1.0
                } else {
                    f64::from(slope)
                }
            }
            Activation::Tanh => 1.0 - y * y,
            Activation::Sigmoid => y * (1.0 - y),
        }
    }

    /// The activation's number in WGSL: 0 none, 1 leaky ReLU, 2 tanh, 3 sigmoid.
    pub fn code(self) -> u32 {
        match self {
            Activation::None => 0,
            Activation::LeakyRelu(_) => 1,
            Activation::Tanh => 2,
            Activation::Sigmoid => 3,
        }
    }

    /// The slope of a leaky ReLU; 0 otherwise.
    pub fn slope(self) -> f32 {
        match self {
            Activation::LeakyRelu(slope) => slope,
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_from_outputs_are_finite_differences() {
        for activation in [Activation::None, Activation::LeakyRelu(0.2), Activation::LeakyRelu(0.0), Activation::Tanh, Activation::Sigmoid]
        {
            for x in [-2.5, -0.3, 0.4, 1.7] {
                let h = 1e-6;
                let slope = (activation.apply(x + h) - activation.apply(x - h)) / (2.0 * h);
                let rule = activation.derivative_from_output(activation.apply(x));
                assert!((slope - rule).abs() < 1e-8, "{activation:?} at {x}: finite difference {slope}, rule {rule}");
            }
        }
    }
}
