//! Minibatch standard deviation: how much the samples of a batch differ, as a channel that a discriminator sees.

use super::channels::concat_channels;
use super::elementwise::{affine, mul, sqrt, sub};
use super::reduce::{broadcast_axes, mean_axes, sum_axes};
use super::regroup::regroup_rows;
use crate::error::{Error, Result};
use crate::graph::shape::Shape;
use crate::graph::{Graph, NodeId};

/// Added to variances: StyleGAN2's constant.
const EPS: f64 = 1e-8;

/// The group size that [`minibatch_stddev`] uses: the largest divisor of `run` that is at most `group`. With 1, nothing is compared and the
/// added channel is constant, so that a layer should say so.
pub fn group_size(run: usize, group: usize) -> usize {
    (1..=group.min(run)).rev().find(|size| run.is_multiple_of(*size)).unwrap_or(1)
}

/// x with one more channel: the standard deviation over the samples of a group, averaged over channels and pixels (Karras et al. 2018,
/// section 3; in groups as StyleGAN2's `MinibatchStdLayer` with one channel).
///
/// The batch is `parts` equal runs that do not mix (2 for reals followed by fakes, 1 for either alone). Each run of n samples falls into n / size
/// groups, of which group m has the samples m, m + n / size, m + 2 n / size, … of the run; size is [`group_size`]`(n, group)`: where `group` does
/// not divide the run, it is reduced to the largest number that does.
///
/// # Shapes
/// x (N, C[, H, W]) to (N, C + 1[, H, W]).
///
/// # Errors
/// If the parts do not divide the batch, or `group` is 0.
pub fn minibatch_stddev(g: &mut Graph, x: NodeId, group: usize, parts: usize) -> Result<NodeId> {
    let shape = g.shape(x).clone();
    let [n, c, h, w] = shape.nchw();
    if shape.rank() < 2 || parts == 0 || !n.is_multiple_of(parts) {
        return Err(Error::internal(format!("minibatch_stddev: x of shape {shape} is no batch of {parts} equal parts")));
    }
    if group == 0 {
        return Err(Error::input("minibatch_stddev: the group size is 0, expected at least 1 (4 in the papers)"));
    }
    let size = group_size(n / parts, group);
    let groups = n / parts / size;
    // Members of a group as rows, all else of the groups as columns: the same memory.
    let rows = |channels: usize, members: usize| Shape::new(&[parts, channels, members, groups * h * w]);

    let members = regroup_rows(g, x, &rows(c, size)?)?;
    let mean = mean_axes(g, members, &[2])?;
    let off = sub(g, members, mean)?;
    let square = mul(g, off, off)?;
    let sum = sum_axes(g, square, &[2])?;
    let var = affine(g, sum, 1.0 / size as f64, EPS)?;
    let std = sqrt(g, var)?;
    let images = regroup_rows(g, std, &Shape::new(&[parts * groups, c, h, w])?)?;
    let mean = mean_axes(g, images, &[1, 2, 3])?;
    let pixels = broadcast_axes(g, mean, &Shape::new(&[parts * groups, 1, h, w])?)?;
    let row = regroup_rows(g, pixels, &rows(1, 1)?)?;
    let everywhere = broadcast_axes(g, row, &rows(1, size)?)?;
    let mut channel = shape.dims().to_vec();
    channel[1] = 1;
    let channel = regroup_rows(g, everywhere, &Shape::new(&channel)?)?;
    concat_channels(g, &[x, channel])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tensor::Tensor;
    use crate::ops::gradient_check::check;
    use crate::ops::{new_graph, random, shape};

    fn evaluate(x: &Tensor, group: usize, parts: usize) -> Tensor {
        let mut g = new_graph();
        let leaf = g.leaf("x", x.shape.clone(), None).unwrap();
        let y = minibatch_stddev(&mut g, leaf, group, parts).unwrap();
        g.evaluate(&[("x".to_string(), x.clone())].into(), &[y]).unwrap().remove(0)
    }

    #[test]
    fn rules_are_derivatives() {
        let x = [random(&shape(&[4, 2, 1, 2]), 1, -1.0, 1.0)];
        for (group, parts) in [(4, 1), (2, 1), (2, 2)] {
            check("minibatch_stddev", &x, |g, x| minibatch_stddev(g, x[0], group, parts));
        }
        check("minibatch_stddev flat", &[random(&shape(&[3, 2]), 2, -1.0, 1.0)], |g, x| minibatch_stddev(g, x[0], 3, 1));
    }

    #[test]
    fn a_group_is_described_to_its_members() {
        // Two groups, of samples 0, 2 and of 1, 3; deviations 1 and 3, and 2 and 0.
        let x = Tensor::new(shape(&[4, 2]), vec![0.0, 0.0, 0.0, 5.0, 2.0, 6.0, 4.0, 5.0]);
        let y = evaluate(&x, 2, 1);
        for (row, expected) in y.data.chunks(3).zip([2.0, 1.0, 2.0, 1.0]) {
            assert!((row[2] - expected).abs() < 1e-3, "{row:?}");
        }
        assert_eq!(y.data.chunks(3).flat_map(|row| row[..2].to_vec()).collect::<Vec<_>>(), x.data);
    }

    /// What one part holds is nothing to the other, bit for bit.
    #[test]
    fn parts_do_not_mix() {
        let whole = random(&shape(&[8, 3, 2, 2]), 1, -1.0, 1.0);
        let half = |i: usize| Tensor::new(shape(&[4, 3, 2, 2]), whole.data[48 * i..48 * (i + 1)].to_vec());
        for group in [1, 2, 4] {
            let apart: Vec<f64> = (0..2).flat_map(|i| evaluate(&half(i), group, 1).data).collect();
            assert_eq!(evaluate(&whole, group, 2).data, apart);
        }
        assert_ne!(evaluate(&whole, 4, 1).data, evaluate(&whole, 4, 2).data);
    }

    #[test]
    fn group_sizes_divide_the_run() {
        for (run, group, expected) in [(8, 4, 4), (6, 4, 3), (7, 4, 1), (2, 4, 2), (64, 64, 64), (9, 4, 3), (1, 1, 1)] {
            assert_eq!(group_size(run, group), expected, "{run} {group}");
        }
        let x = random(&shape(&[6, 1]), 1, -1.0, 1.0);
        assert_eq!(evaluate(&x, 4, 1), evaluate(&x, 3, 1));
        assert_eq!(evaluate(&x, 4, 2), evaluate(&x, 3, 2));
    }

    #[test]
    fn impossible_inputs_are_named() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[6, 2, 1, 1]), None).unwrap();
        let v = g.leaf("v", shape(&[6]), None).unwrap();
        for parts in [0, 4] {
            let text = minibatch_stddev(&mut g, x, 2, parts).unwrap_err().to_string();
            assert!(text.contains(&format!("x of shape (6, 2, 1, 1) is no batch of {parts} equal parts")), "{text}");
        }
        assert!(minibatch_stddev(&mut g, x, 0, 1).unwrap_err().to_string().contains("the group size is 0"));
        assert!(minibatch_stddev(&mut g, v, 1, 1).is_err());
    }
}
