//! f64 twins of the kernels.

use super::{Clip, Optimiser, Update};

/// Parameters and moments of an update, one element after the other; moments that the optimiser does not keep are empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// Parameters.
    pub values: Vec<f64>,
    /// First moments.
    pub m: Vec<f64>,
    /// Second moments.
    pub v: Vec<f64>,
}

impl State {
    /// The state before the first update.
    pub fn new(optimiser: &Optimiser, values: Vec<f64>) -> Self {
        let zeros = |there: bool| if there { vec![0.0; values.len()] } else { Vec::new() };
        let moments = optimiser.moments();
        State { m: zeros(moments.m), v: zeros(moments.v), values }
    }
}

/// One update at a learning rate and with the reciprocals of Adam's bias corrections, 1 / (1 - beta^t). `factor` is [`clip_factor`]'s.
pub fn update(update: &Update, grads: &[f64], state: &mut State, factor: f64, scalars: [f64; 3]) {
    let [lr, ..] = scalars;
    let (mut no_m, mut no_v) = (0.0, 0.0);
    for (i, &g) in grads.iter().enumerate() {
        let g = match update.clip {
            None => g,
            Some(Clip::Norm(_)) => factor * g,
            Some(Clip::Value(limit)) => g.clamp(-limit, limit),
        };
        let p = state.values[i];
        let (m, v) = (state.m.get_mut(i).unwrap_or(&mut no_m), state.v.get_mut(i).unwrap_or(&mut no_v));
        let moved = match update.optimiser {
            Optimiser::Sgd { momentum, nesterov, weight_decay } => p - lr * sgd(g + weight_decay * p, m, momentum, nesterov),
            Optimiser::Adam { beta1, beta2, eps, weight_decay } => p - adam(g + weight_decay * p, [m, v], [beta1, beta2, eps], scalars),
            Optimiser::AdamW { beta1, beta2, eps, weight_decay } => {
                p * (1.0 - lr * weight_decay) - adam(g, [m, v], [beta1, beta2, eps], scalars)
            }
            Optimiser::RmsProp { alpha, eps, momentum, weight_decay } => {
                p - lr * rmsprop(g + weight_decay * p, [m, v], [alpha, eps, momentum])
            }
        };
        state.values[i] = update.weight_clip.map_or(moved, |bound| moved.clamp(-bound, bound));
    }
}

/// What Adam takes off a parameter.
pub fn adam(g: f64, [m, v]: [&mut f64; 2], [beta1, beta2, eps]: [f64; 3], [lr, inverse_bias1, inverse_bias2]: [f64; 3]) -> f64 {
    *m = beta1 * *m + (1.0 - beta1) * g;
    *v = beta2 * *v + (1.0 - beta2) * g * g;
    lr * (*m * inverse_bias1) / ((*v * inverse_bias2).sqrt() + eps)
}

/// What gradient descent takes off a parameter, by learning rate; `buf` stays as it is without momentum.
pub fn sgd(g: f64, buf: &mut f64, momentum: f64, nesterov: bool) -> f64 {
    if momentum == 0.0 {
        return g;
    }
    *buf = momentum * *buf + g;
    if nesterov { g + momentum * *buf } else { *buf }
}

/// What RMSprop takes off a parameter, by learning rate; `buf` stays as it is without momentum.
pub fn rmsprop(g: f64, [buf, v]: [&mut f64; 2], [alpha, eps, momentum]: [f64; 3]) -> f64 {
    *v = alpha * *v + (1.0 - alpha) * g * g;
    let scaled = g / (v.sqrt() + eps);
    if momentum == 0.0 {
        return scaled;
    }
    *buf = momentum * *buf + scaled;
    *buf
}

/// Sum of squares of each block of 64.
pub fn squares(grads: &[f64]) -> Vec<f64> {
    grads.chunks(64).map(|block| block.iter().map(|g| g * g).sum()).collect()
}

/// Clipping factor and norm of a gradient, from the sums of its squares.
pub fn clip_factor(squares: &[f64], max_norm: f64) -> [f64; 2] {
    let norm = squares.iter().sum::<f64>().sqrt();
    let ratio = max_norm / (norm + 1e-6);
    [if ratio > 1.0 { 1.0 } else { ratio }, norm]
}

/// Gradients of a batch from those of its micro-batches.
pub fn accumulate(micro_batches: &[Vec<f64>], scale: f64) -> Vec<f64> {
    (0..micro_batches[0].len()).map(|i| micro_batches.iter().map(|g| scale * g[i]).sum()).collect()
}

/// Exponential moving average.
pub fn ema(values: &[f64], averages: &mut [f64], decay: f64) {
    for (average, value) in averages.iter_mut().zip(values) {
        *average += (1.0 - decay) * (value - *average);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values by torch.optim.Adam(lr=0.1, betas=(0.5, 0.999), eps=1e-8) worked by hand: with a constant gradient m_hat = g and v_hat = g^2.
    #[test]
    fn adam_moves_by_lr_under_a_constant_gradient() {
        let rule = Update::new(Optimiser::adam(0.5));
        let mut state = State::new(&rule.optimiser, vec![1.0]);
        for t in 1..=5 {
            update(&rule, &[-3.0], &mut state, 1.0, [0.1, 1.0 / (1.0 - 0.5f64.powi(t)), 1.0 / (1.0 - 0.999f64.powi(t))]);
            assert!((state.values[0] - (1.0 + 0.1 * f64::from(t))).abs() < 1e-8, "step {t}: {state:?}");
        }
    }

    /// torch.optim.SGD(lr=0.1, momentum=0.5) from p = 1 with gradients 1, 2: buf 1, 2.5; Nesterov subtracts 0.1 (1.5, 3.25).
    #[test]
    fn sgd_is_torchs() {
        for (nesterov, expected) in [(false, 1.0 - 0.1 - 0.25), (true, 1.0 - 0.15 - 0.325)] {
            let rule = Update::new(Optimiser::Sgd { momentum: 0.5, nesterov, weight_decay: 0.0 });
            let mut state = State::new(&rule.optimiser, vec![1.0]);
            for g in [1.0, 2.0] {
                update(&rule, &[g], &mut state, 1.0, [0.1, 1.0, 1.0]);
            }
            assert!((state.values[0] - expected).abs() < 1e-12, "{state:?}");
            assert_eq!((state.m, state.v), (vec![2.5], vec![]));
        }
    }

    #[test]
    fn a_norm_that_is_no_number_is_no_factor() {
        assert_eq!(clip_factor(&[9.0, 16.0], 50.0), [1.0, 5.0]);
        assert!(clip_factor(&[f64::NAN], 1.0)[0].is_nan());
        assert_eq!(clip_factor(&[f64::INFINITY], 1.0)[0], 0.0);
    }
}
