//! Losses out of primitives. Each is a (1, 1) node, and a mean over all elements, or over the rows of class logits.

use super::bce_probabilities;
use super::constant::Row;
use super::curves::abs;
use super::elementwise::{affine, mul, relu, softplus, sub};
use super::reduce;
use super::reshape::reshape;
use super::softmax::log_softmax;
use crate::error::{Error, Result};
use crate::graph::shape::Shape;
use crate::graph::{Graph, NodeId};

/// What logits are held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Label 1.
    Real,
    /// Label 0.
    Fake,
}

/// Mean binary cross-entropy of logits against one label, a (1, 1) node.
///
/// -log sigmoid(l) = softplus(-l) for [`Target::Real`], -log(1 - sigmoid(l)) = softplus(l) for [`Target::Fake`]: exact for logits of any
/// size. With [`Target::Real`] on the logits of fakes it is the generator's non-saturating loss (Goodfellow et al. 2014).
///
/// # Shapes
/// `logits` (N, 1).
pub fn bce_with_logits_mean(g: &mut Graph, logits: NodeId, target: Target) -> Result<NodeId> {
    let shape = g.shape(logits);
    if shape.rank() != 2 || shape.dims()[1] != 1 {
        return Err(Error::internal(format!("bce_with_logits_mean: the logits have shape {shape}, expected (N, 1)")));
    }
    let l = match target {
        Target::Real => affine(g, logits, -1.0, 0.0)?,
        Target::Fake => logits,
    };
    let each = softplus(g, l)?;
    reduce::mean(g, each)
}

/// Mean binary cross-entropy of logits of any shape against one label from 0 to 1, a (1, 1) node: softplus(l) - target l, exact for
/// logits of any size. Labels short of 1 are one-sided label smoothing where only reals have them (Salimans et al. 2016).
///
/// # Errors
/// If the target is not from 0 to 1.
pub fn bce_with_logits_target_mean(g: &mut Graph, logits: NodeId, target: f32) -> Result<NodeId> {
    check_share("bce_with_logits_target_mean", "target", target)?;
    let plus = softplus(g, logits)?;
    let pull = affine(g, logits, target, 0.0)?;
    let each = sub(g, plus, pull)?;
    mean(g, each)
}

/// Mean binary cross-entropy of probabilities of any shape against one label from 0 to 1, a (1, 1) node: each logarithm is at least -100,
/// and the gradient is (p - target) / max(p (1 - p), 1e-12), as in torch.nn.functional.binary_cross_entropy.
///
/// # Errors
/// If the target is not from 0 to 1.
pub fn bce_mean(g: &mut Graph, probabilities: NodeId, target: f32) -> Result<NodeId> {
    let each = bce_probabilities::bce(g, probabilities, target)?;
    mean(g, each)
}

/// The generator's saturating loss, mean log(1 - sigmoid(l)) of the logits of fakes, a (1, 1) node: what it minimises in the two-player
/// game (Goodfellow et al. 2014, equation 1). Its gradient vanishes where the discriminator is sure.
pub fn saturating_mean(g: &mut Graph, logits: NodeId) -> Result<NodeId> {
    let each = softplus(g, logits)?;
    let sum = mean(g, each)?;
    affine(g, sum, -1.0, 0.0)
}

/// The discriminator's hinge loss, a (1, 1) node: mean relu(1 - x) for [`Target::Real`], mean relu(1 + x) for [`Target::Fake`] (Lim, Ye
/// 2017).
pub fn hinge_mean(g: &mut Graph, scores: NodeId, target: Target) -> Result<NodeId> {
    let sign = match target {
        Target::Real => -1.0,
        Target::Fake => 1.0,
    };
    let margin = affine(g, scores, sign, 1.0)?;
    let each = relu(g, margin)?;
    mean(g, each)
}

/// Mean of (x - target)^2, a (1, 1) node: the loss of LSGAN (Mao et al. 2017), without its factor 1/2.
pub fn mse_mean(g: &mut Graph, x: NodeId, target: f32) -> Result<NodeId> {
    let off = affine(g, x, 1.0, -f64::from(target))?;
    let each = mul(g, off, off)?;
    mean(g, each)
}

/// Mean of (a - b)^2 for tensors of one shape, a (1, 1) node.
///
/// # Errors
/// If the shapes differ.
pub fn mse_between(g: &mut Graph, a: NodeId, b: NodeId) -> Result<NodeId> {
    check_equal(g, "mse_between", a, b)?;
    let off = sub(g, a, b)?;
    let each = mul(g, off, off)?;
    mean(g, each)
}

/// Mean of |a - b| for tensors of one shape, a (1, 1) node; the gradient is 0 where they are equal.
///
/// # Errors
/// If the shapes differ.
pub fn l1_between(g: &mut Graph, a: NodeId, b: NodeId) -> Result<NodeId> {
    check_equal(g, "l1_between", a, b)?;
    let off = sub(g, a, b)?;
    let each = abs(g, off)?;
    mean(g, each)
}

/// Mean softmax cross-entropy of logits (N, K) against one class for all rows, a (1, 1) node. `label_smoothing` spreads that much of the
/// target over all K classes, as in torch.nn.functional.cross_entropy.
///
/// # Errors
/// If the class is not below K, or the smoothing is not from 0 to 1.
pub fn cross_entropy_mean(g: &mut Graph, logits: NodeId, class: usize, label_smoothing: f32) -> Result<NodeId> {
    let name = "cross_entropy_mean";
    let [_, classes] = class_logits(g, name, logits)?;
    check_share(name, "label_smoothing", label_smoothing)?;
    if class >= classes {
        return Err(Error::input(format!("{name}: class {class} of logits for {classes} classes, expected 0 to {}", classes - 1)));
    }
    let smoothing = f64::from(label_smoothing);
    let share = |k: usize| f64::from(k == class) * (1.0 - smoothing) + smoothing / classes as f64;
    let target = g.apply(Row { values: (0..classes).map(|k| share(k) as f32).collect() }, &[])?;
    cross_entropy(g, logits, target)
}

/// Mean softmax cross-entropy of logits (N, K) against a label for each row, given as `one_hot` (N, K), a (1, 1) node. `label_smoothing`
/// as in [`cross_entropy_mean`]. Rows of `one_hot` may be any distributions over the classes.
///
/// # Errors
/// If the shapes differ, or the smoothing is not from 0 to 1.
pub fn cross_entropy_labels(g: &mut Graph, logits: NodeId, one_hot: NodeId, label_smoothing: f32) -> Result<NodeId> {
    let name = "cross_entropy_labels";
    let [_, classes] = class_logits(g, name, logits)?;
    check_equal(g, name, logits, one_hot)?;
    check_share(name, "label_smoothing", label_smoothing)?;
    let smoothing = f64::from(label_smoothing);
    let target = affine(g, one_hot, 1.0 - smoothing, smoothing / classes as f64)?;
    cross_entropy(g, logits, target)
}

/// - sum_k target_k log softmax(logits)_k, averaged over the rows.
fn cross_entropy(g: &mut Graph, logits: NodeId, target: NodeId) -> Result<NodeId> {
    let rows = g.shape(logits).dims()[0];
    let log_shares = log_softmax(g, logits)?;
    let each = mul(g, log_shares, target)?;
    let sum = reduce::sum(g, each)?;
    affine(g, sum, -1.0 / rows as f64, 0.0)
}

/// Mean over all elements as (1, 1).
fn mean(g: &mut Graph, each: NodeId) -> Result<NodeId> {
    let mean = reduce::mean(g, each)?;
    reshape(g, mean, &Shape::new(&[1, 1])?)
}

fn class_logits(g: &Graph, name: &str, logits: NodeId) -> Result<[usize; 2]> {
    let shape = g.shape(logits);
    let dims: Option<[usize; 2]> = shape.dims().try_into().ok();
    dims.ok_or_else(|| Error::input(format!("{name}: the logits have shape {shape}, expected (N, K), one column a class")))
}

fn check_share(name: &str, what: &str, value: f32) -> Result<()> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(Error::input(format!("{name}: {what} is {value}, expected a number from 0 to 1")))
}

fn check_equal(g: &Graph, name: &str, a: NodeId, b: NodeId) -> Result<()> {
    let (a, b) = (g.shape(a), g.shape(b));
    if a == b {
        return Ok(());
    }
    Err(Error::input(format!("{name}: the inputs have shapes {a} and {b}, expected equal shapes")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tensor::Tensor;
    use crate::ops::gradient_check::check;
    use crate::ops::{new_graph, random, shape};

    #[test]
    fn it_is_minus_the_log_of_the_probability() {
        let logits = [-3.0, -0.5, 0.25, 2.0];
        let mut g = new_graph();
        let l = g.leaf("l", shape(&[4, 1]), None).unwrap();
        let nodes = [Target::Real, Target::Fake].map(|t| bce_with_logits_mean(&mut g, l, t).unwrap());
        let values = [("l".to_string(), Tensor::new(shape(&[4, 1]), logits.to_vec()))].into();
        let results = g.evaluate(&values, &nodes).unwrap();
        let p = logits.map(|l: f64| 1.0 / (1.0 + (-l).exp()));
        let real = -p.iter().map(|p| p.ln()).sum::<f64>() / 4.0;
        let fake = -p.iter().map(|p| (1.0 - p).ln()).sum::<f64>() / 4.0;
        assert_eq!(results[0].shape, shape(&[1, 1]));
        assert!((results[0].data[0] - real).abs() < 1e-12, "{} {real}", results[0].data[0]);
        assert!((results[1].data[0] - fake).abs() < 1e-12, "{} {fake}", results[1].data[0]);
    }

    #[test]
    fn it_stays_finite() {
        let mut g = new_graph();
        let l = g.leaf("l", shape(&[2, 1]), None).unwrap();
        let node = bce_with_logits_mean(&mut g, l, Target::Real).unwrap();
        let values = [("l".to_string(), Tensor::new(shape(&[2, 1]), vec![-1e4, 1e4]))].into();
        assert_eq!(g.evaluate(&values, &[node]).unwrap()[0].data, [5e3]);
    }

    #[test]
    fn rules_are_derivatives() {
        let logits = [random(&shape(&[4, 1]), 1, -2.0, 2.0)];
        for target in [Target::Real, Target::Fake] {
            check("bce_with_logits_mean", &logits, |g, x| bce_with_logits_mean(g, x[0], target));
        }
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[4, 2]), None).unwrap();
        assert!(bce_with_logits_mean(&mut g, x, Target::Real).unwrap_err().to_string().contains("expected (N, 1)"));
    }

    #[test]
    fn rules_of_other_losses_are_derivatives() {
        let x = [random(&shape(&[4, 3]), 1, -2.0, 2.0)];
        let p = [random(&shape(&[4, 1]), 2, 0.1, 0.9)];
        let pair = [x[0].clone(), random(&shape(&[4, 3]), 3, -2.0, 2.0)];
        let image = [random(&shape(&[2, 1, 2, 3]), 4, -2.0, 2.0)];
        check("bce_with_logits_target_mean", &image, |g, x| bce_with_logits_target_mean(g, x[0], 0.9));
        check("bce_mean", &p, |g, x| bce_mean(g, x[0], 0.9));
        check("saturating_mean", &image, |g, x| saturating_mean(g, x[0]));
        for target in [Target::Real, Target::Fake] {
            check("hinge_mean", &x, |g, x| hinge_mean(g, x[0], target));
        }
        check("mse_mean", &image, |g, x| mse_mean(g, x[0], 0.9));
        check("mse_between", &pair, |g, x| mse_between(g, x[0], x[1]));
        check("l1_between", &pair, |g, x| l1_between(g, x[0], x[1]));
        for smoothing in [0.0, 0.1] {
            check("cross_entropy_mean", &x, |g, x| cross_entropy_mean(g, x[0], 1, smoothing));
            check("cross_entropy_labels", &pair, |g, x| cross_entropy_labels(g, x[0], x[1], smoothing));
        }
    }

    #[test]
    fn all_losses_have_one_shape() {
        let mut g = new_graph();
        let g = &mut g;
        let x = g.leaf("x", shape(&[2, 3, 4, 4]), None).unwrap();
        let l = g.leaf("l", shape(&[2, 3]), None).unwrap();
        let losses = [
            bce_with_logits_target_mean(g, x, 0.9).unwrap(),
            bce_mean(g, x, 1.0).unwrap(),
            saturating_mean(g, x).unwrap(),
            hinge_mean(g, x, Target::Fake).unwrap(),
            mse_mean(g, x, 1.0).unwrap(),
            mse_between(g, x, x).unwrap(),
            l1_between(g, x, x).unwrap(),
            cross_entropy_mean(g, l, 0, 0.0).unwrap(),
            cross_entropy_labels(g, l, l, 0.0).unwrap(),
        ];
        for loss in losses {
            assert_eq!(g.shape(loss), &shape(&[1, 1]));
        }
    }

    #[test]
    fn impossible_inputs_of_losses_are_named() {
        let mut g = new_graph();
        let g = &mut g;
        let x = g.leaf("x", shape(&[4, 3]), None).unwrap();
        let y = g.leaf("y", shape(&[4, 1]), None).unwrap();
        let image = g.leaf("image", shape(&[4, 3, 1, 1]), None).unwrap();
        let cases = [
            (cross_entropy_mean(g, x, 3, 0.0), "cross_entropy_mean: class 3 of logits for 3 classes, expected 0 to 2"),
            (cross_entropy_mean(g, x, 0, 1.5), "cross_entropy_mean: label_smoothing is 1.5, expected a number from 0 to 1"),
            (cross_entropy_mean(g, image, 0, 0.0), "cross_entropy_mean: the logits have shape (4, 3, 1, 1), expected (N, K)"),
            (cross_entropy_labels(g, x, y, 0.0), "cross_entropy_labels: the inputs have shapes (4, 3) and (4, 1), expected equal shapes"),
            (mse_between(g, x, y), "mse_between: the inputs have shapes (4, 3) and (4, 1), expected equal shapes"),
            (l1_between(g, x, y), "l1_between: the inputs have shapes (4, 3) and (4, 1), expected equal shapes"),
            (bce_mean(g, y, -0.5), "bce: the target is -0.5, expected a number from 0 to 1"),
            (bce_with_logits_target_mean(g, y, f32::NAN), "bce_with_logits_target_mean: target is NaN, expected a number from 0 to 1"),
        ];
        for (result, expected) in cases {
            let text = result.unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
    }
}
