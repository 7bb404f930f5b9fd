//! Instance, layer, group and pixel norm out of primitives, which is all that differentiation sees. [`super::batch_norm`] has batch norm.

use super::batch_norm::{BatchNorm, batch_norm};
use super::channel_groups::{channel_group_broadcast, channel_group_sum};
use super::constant::Constant;
use super::elementwise::{add, affine, mul, rsqrt, sub};
use super::reduce::sum_axes;
use super::reshape::reshape;
use crate::error::{Error, Result};
use crate::graph::shape::Shape;
use crate::graph::{Graph, NodeId};

/// The nodes of an instance norm: a batch norm in which every image is a group of its own.
///
/// Noted as one, it is computed by batch norm's fused kernels: a layer that calls [`instance_norm`] passes
/// [`NormSite`](crate::plan::NormSite)` { norm: n.norm, x, weight: n.weight, bias: n.bias, eps, groups: n.groups }` to
/// [`Program::note_norm`](crate::plan::Program::note_norm). It has no running statistics to track, and no other behaviour in evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceNorm {
    /// Output and statistics; `norm.y` has the shape of x.
    pub norm: BatchNorm,
    /// Scale (C): the layer's, or ones.
    pub weight: NodeId,
    /// Shift (C): the layer's, or zeros.
    pub bias: NodeId,
    /// Batch groups: the batch size.
    pub groups: usize,
}

/// Instance norm (Ulyanov et al. 2016), as `nn.InstanceNorm2d` without running statistics: each channel of each image has mean 0 and variance 1,
/// then is scaled and shifted.
///
/// # Shapes
/// x (N, C, H, W); weight and bias (C), either of which may be missing.
///
/// # Errors
/// If the shapes disagree, or an image has one pixel.
pub fn instance_norm(g: &mut Graph, x: NodeId, weight: Option<NodeId>, bias: Option<NodeId>, eps: f32) -> Result<InstanceNorm> {
    let [n, c, h, w] = g.shape(x).nchw();
    if g.shape(x).rank() != 4 || h * w < 2 {
        return Err(Error::input(format!(
            "instance_norm: x of shape {} has one value per image and channel, and would become zero; use images of more than one pixel",
            g.shape(x)
        )));
    }
    let mut or_constant = |node: Option<NodeId>, value: f32| match node {
        Some(node) => Ok(node),
        None => g.apply(Constant { shape: Shape::new(&[c])?, value }, &[]),
    };
    let (weight, bias) = (or_constant(weight, 1.0)?, or_constant(bias, 0.0)?);
    Ok(InstanceNorm { norm: batch_norm(g, x, weight, bias, eps, n)?, weight, bias, groups: n })
}

/// The shape of [`layer_norm`]'s weight and bias for x: (C) for (N, C); (1, C, H, W) for images, since tensors of rank 3 do not exist here:
/// `nn.LayerNorm([C, H, W])` has the same elements in the same order.
///
/// # Errors
/// If x is no batch.
pub fn layer_norm_parameter(x: &Shape) -> Result<Shape> {
    match *x.dims() {
        [_, c] => Shape::new(&[c]),
        [_, c, h, w] => Shape::new(&[1, c, h, w]),
        _ => Err(Error::internal(format!("layer_norm: x has shape {x}, expected a batch (N, C) or (N, C, H, W)"))),
    }
}

/// Layer norm (Ba et al. 2016), as `nn.LayerNorm([C, H, W])` or `nn.LayerNorm(C)`: all values of each sample together have mean 0 and variance 1, then each is
/// scaled and shifted by parameters of its own.
///
/// # Shapes
/// x (N, C[, H, W]); weight and bias as [`layer_norm_parameter`] says, either of which may be missing. Returns the shape of x.
///
/// # Errors
/// If the shapes disagree, or a sample has one value.
pub fn layer_norm(g: &mut Graph, x: NodeId, weight: Option<NodeId>, bias: Option<NodeId>, eps: f32) -> Result<NodeId> {
    let shape = g.shape(x).clone();
    let expected = layer_norm_parameter(&shape)?;
    let mut row = shape.dims().to_vec();
    row[0] = 1;
    let row = Shape::new(&row)?;
    let axes: Vec<usize> = (1..shape.rank()).collect();
    let scale = 1.0 / several("layer_norm", &shape, row.len())?;

    let sum = sum_axes(g, x, &axes)?;
    let mean = affine(g, sum, scale, 0.0)?;
    let xc = sub(g, x, mean)?;
    let square = mul(g, xc, xc)?;
    let sum = sum_axes(g, square, &axes)?;
    let shifted = affine(g, sum, scale, eps)?;
    let rstd = rsqrt(g, shifted)?;
    let mut y = mul(g, xc, rstd)?;
    if let Some(weight) = weight {
        let weight = parameter(g, "layer_norm: weight", weight, &expected, &row)?;
        y = mul(g, y, weight)?;
    }
    if let Some(bias) = bias {
        let bias = parameter(g, "layer_norm: bias", bias, &expected, &row)?;
        y = add(g, y, bias)?;
    }
    Ok(y)
}

/// Group norm (Wu & He 2018), as `nn.GroupNorm(groups, C)`: the values of each of `groups` equal runs of a sample's channels have mean 0 and
/// variance 1, then each channel is scaled and shifted.
///
/// # Shapes
/// x (N, C[, H, W]); weight and bias (C), either of which may be missing. Returns the shape of x.
///
/// # Errors
/// If the groups do not divide the channels, the shapes disagree, or a group has one value.
pub fn group_norm(g: &mut Graph, x: NodeId, groups: usize, weight: Option<NodeId>, bias: Option<NodeId>, eps: f32) -> Result<NodeId> {
    let shape = g.shape(x).clone();
    let c = shape.channels();
    if shape.rank() < 2 || groups == 0 || !c.is_multiple_of(groups) {
        return Err(Error::input(format!(
            "group_norm: {groups} groups do not divide the channels of x of shape {shape}; name a divisor of {c}"
        )));
    }
    let expected = Shape::new(&[c])?;
    let row = Shape::new(&[&[1, c][..], &vec![1; shape.rank() - 2]].concat())?;
    let scale = 1.0 / several("group_norm", &shape, shape.len() / shape.dims()[0] / groups)?;
    // Sums over pixels first: all that follows is as small as (N, C).
    let pixels: Vec<usize> = (2..shape.rank()).collect();
    let group_sum = |g: &mut Graph, x: NodeId| -> Result<NodeId> {
        let sum = sum_axes(g, x, &pixels)?;
        channel_group_sum(g, sum, groups)
    };

    let sum = group_sum(g, x)?;
    let mean = affine(g, sum, scale, 0.0)?;
    let mean = channel_group_broadcast(g, mean, c)?;
    let xc = sub(g, x, mean)?;
    let square = mul(g, xc, xc)?;
    let sum = group_sum(g, square)?;
    let shifted = affine(g, sum, scale, eps)?;
    let rstd = rsqrt(g, shifted)?;
    let mut factor = channel_group_broadcast(g, rstd, c)?;
    if let Some(weight) = weight {
        let weight = parameter(g, "group_norm: weight", weight, &expected, &row)?;
        factor = mul(g, factor, weight)?;
    }
    let mut y = mul(g, xc, factor)?;
    if let Some(bias) = bias {
        let bias = parameter(g, "group_norm: bias", bias, &expected, &row)?;
        y = add(g, y, bias)?;
    }
    Ok(y)
}

/// Pixel norm (Karras et al. 2018, section 4.2): `x / sqrt(mean over channels of x^2 + eps)` at each pixel. The paper's eps is 1e-8.
///
/// # Shapes
/// x (N, C[, H, W]); returns the same.
///
/// # Errors
/// If x is no batch.
pub fn pixel_norm(g: &mut Graph, x: NodeId, eps: f32) -> Result<NodeId> {
    let shape = g.shape(x);
    if shape.rank() < 2 {
        return Err(Error::internal(format!("pixel_norm: x has shape {shape}, expected a batch (N, C) or (N, C, H, W)")));
    }
    let scale = 1.0 / shape.channels() as f64;
    let square = mul(g, x, x)?;
    let sum = sum_axes(g, square, &[1])?;
    let shifted = affine(g, sum, scale, eps)?;
    let rms = rsqrt(g, shifted)?;
    mul(g, x, rms)
}

/// The number of values that share statistics, of which there must be several.
fn several(name: &str, x: &Shape, count: usize) -> Result<f64> {
    if count < 2 {
        return Err(Error::input(format!(
            "{name}: x of shape {x} has one value to take a mean of, and would become zero; use more channels or fewer groups"
        )));
    }
    Ok(count as f64)
}

/// A parameter as a row that broadcasts over a batch.
fn parameter(g: &mut Graph, what: &str, parameter: NodeId, expected: &Shape, row: &Shape) -> Result<NodeId> {
    let shape = g.shape(parameter);
    if shape != expected {
        return Err(Error::internal(format!("{what} has shape {shape}, expected {expected}")));
    }
    reshape(g, parameter, row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tensor::Tensor;
    use crate::ops::gradient_check::check;
    use crate::ops::{new_graph, random, shape};
    use std::collections::HashMap;

    #[test]
    fn rules_are_derivatives() {
        let x = random(&shape(&[2, 4, 1, 3]), 1, -1.0, 1.0);
        let channels = [x.clone(), random(&shape(&[4]), 2, 0.5, 1.5), random(&shape(&[4]), 3, -1.0, 1.0)];
        let whole = [x.clone(), random(&shape(&[1, 4, 1, 3]), 4, 0.5, 1.5), random(&shape(&[1, 4, 1, 3]), 5, -1.0, 1.0)];
        let flat = [random(&shape(&[3, 6]), 6, -1.0, 1.0), random(&shape(&[6]), 7, 0.5, 1.5), random(&shape(&[6]), 8, -1.0, 1.0)];
        check("instance_norm", &channels, |g, x| Ok(instance_norm(g, x[0], Some(x[1]), Some(x[2]), 1e-2)?.norm.y));
        check("instance_norm plain", &channels[..1], |g, x| Ok(instance_norm(g, x[0], None, None, 1e-2)?.norm.y));
        check("layer_norm", &whole, |g, x| layer_norm(g, x[0], Some(x[1]), Some(x[2]), 1e-2));
        check("layer_norm flat", &flat, |g, x| layer_norm(g, x[0], Some(x[1]), Some(x[2]), 1e-2));
        check("layer_norm plain", &whole[..1], |g, x| layer_norm(g, x[0], None, None, 1e-2));
        for groups in [1, 2, 4] {
            check("group_norm", &channels, |g, x| group_norm(g, x[0], groups, Some(x[1]), Some(x[2]), 1e-2));
        }
        check("group_norm flat", &flat, |g, x| group_norm(g, x[0], 2, Some(x[1]), Some(x[2]), 1e-2));
        check("pixel_norm", &channels[..1], |g, x| pixel_norm(g, x[0], 1e-2));
        check("pixel_norm flat", &flat[..1], |g, x| pixel_norm(g, x[0], 1e-2));
    }

    /// The norms are one formula over different sets of values.
    #[test]
    fn extremes_of_group_norm_are_the_others() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[3, 6, 2, 2]), None).unwrap();
        let values: HashMap<String, Tensor> = [("x".to_string(), random(&shape(&[3, 6, 2, 2]), 1, -1.0, 3.0))].into();
        let one = group_norm(&mut g, x, 1, None, None, 1e-3).unwrap();
        let all = group_norm(&mut g, x, 6, None, None, 1e-3).unwrap();
        let layer = layer_norm(&mut g, x, None, None, 1e-3).unwrap();
        let instance = instance_norm(&mut g, x, None, None, 1e-3).unwrap();
        assert_eq!(instance.groups, 3);
        let results = g.evaluate(&values, &[one, layer, all, instance.norm.y]).unwrap();
        for pair in results.chunks(2) {
            for (a, b) in pair[0].data.iter().zip(&pair[1].data) {
                assert!((a - b).abs() < 1e-12, "{a} {b}");
            }
        }
        assert_ne!(results[0].data, results[2].data);
    }

    #[test]
    fn pixels_have_unit_length() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[2, 2]), None).unwrap();
        let y = pixel_norm(&mut g, x, 0.0).unwrap();
        let values = [("x".to_string(), Tensor::new(shape(&[2, 2]), vec![3.0, 4.0, -1.0, 1.0]))].into();
        let result = g.evaluate(&values, &[y]).unwrap().remove(0);
        // The mean of the squares is 12.5, and 1.
        for (got, expected) in result.data.iter().zip([3.0 / 12.5f64.sqrt(), 4.0 / 12.5f64.sqrt(), -1.0, 1.0]) {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
    }

    #[test]
    fn impossible_inputs_are_named() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[2, 6, 2, 2]), None).unwrap();
        let flat = g.leaf("flat", shape(&[2, 6]), None).unwrap();
        let pixel = g.leaf("pixel", shape(&[2, 6, 1, 1]), None).unwrap();
        let single = g.leaf("single", shape(&[4, 1]), None).unwrap();
        let w = g.leaf("w", shape(&[6]), None).unwrap();
        let text = group_norm(&mut g, x, 4, None, None, 1e-5).unwrap_err().to_string();
        assert!(text.contains("group_norm: 4 groups do not divide the channels of x of shape (2, 6, 2, 2); name a divisor of 6"), "{text}");
        assert!(group_norm(&mut g, x, 0, None, None, 1e-5).is_err());
        assert!(group_norm(&mut g, flat, 6, None, None, 1e-5).unwrap_err().to_string().contains("one value to take a mean of"));
        let text = group_norm(&mut g, x, 2, Some(flat), None, 1e-5).unwrap_err().to_string();
        assert!(text.contains("group_norm: weight has shape (2, 6), expected (6)"), "{text}");
        let text = layer_norm(&mut g, x, None, Some(w), 1e-5).unwrap_err().to_string();
        assert!(text.contains("layer_norm: bias has shape (6), expected (1, 6, 2, 2)"), "{text}");
        assert!(layer_norm(&mut g, single, None, None, 1e-5).is_err());
        assert!(layer_norm(&mut g, w, None, None, 1e-5).is_err());
        for x in [flat, pixel] {
            assert!(instance_norm(&mut g, x, None, None, 1e-5).unwrap_err().to_string().contains("more than one pixel"));
        }
        assert!(instance_norm(&mut g, x, Some(single), None, 1e-5).is_err());
        assert!(pixel_norm(&mut g, w, 1e-8).is_err());
    }
}
