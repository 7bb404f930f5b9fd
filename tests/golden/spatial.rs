//! Pooling, upsampling, pixel shuffle and one-dimensional convolution.

use crate::harness::{Golden, number, pair, run};
use ganymede::error::Result;
use ganymede::graph::shape::Shape;
use ganymede::graph::{Graph, NodeId};
use ganymede::ops::conv2d::{Conv2d, conv_transpose2d, conv2d};
use ganymede::ops::pixel_shuffle::{pixel_shuffle, pixel_unshuffle};
use ganymede::ops::pool::{Pool, avg_pool2d, global_avg_pool, global_sum_pool, max_pool2d};
use ganymede::ops::upsample::{upsample_bilinear, upsample_nearest};
use ganymede::ops::{constant, elementwise, reduce, reshape};

/// y and the gradient of x of an op of one input.
fn map(t: &mut Golden<'_>, op: impl Fn(&mut Graph, NodeId) -> Result<NodeId>) -> Result<()> {
    let x = t.input("x")?;
    let y = op(t.graph(), x)?;
    t.expect_with_gradients(y, &[(x, "dx")])
}

#[test]
fn pooling() {
    type Build = fn(&mut Graph, NodeId, Pool) -> Result<NodeId>;
    for (prefix, least, op) in [("max_pool2d_", 10, max_pool2d as Build), ("avg_pool2d_", 8, avg_pool2d)] {
        run(prefix, least, |t| {
            let f = t.fixture;
            let pool = Pool { kernel: pair(f, "kernel"), stride: pair(f, "stride"), padding: pair(f, "padding") };
            map(t, |g, x| op(g, x, pool))
        });
    }
}

#[test]
fn global_pooling() {
    run("global_avg_pool_", 3, |t| map(t, global_avg_pool));
    run("global_sum_pool_", 3, |t| map(t, global_sum_pool));
}

#[test]
fn upsampling() {
    type Build = fn(&mut Graph, NodeId, [usize; 2]) -> Result<NodeId>;
    for (prefix, op) in [("upsample_nearest_", upsample_nearest as Build), ("upsample_bilinear_", upsample_bilinear)] {
        run(prefix, 5, |t| {
            let scale = pair(t.fixture, "scale");
            map(t, |g, x| op(g, x, scale))
        });
    }
}

#[test]
fn shuffling_pixels() {
    type Build = fn(&mut Graph, NodeId, usize) -> Result<NodeId>;
    for (prefix, op) in [("pixel_shuffle_", pixel_shuffle as Build), ("pixel_unshuffle_", pixel_unshuffle)] {
        run(prefix, 4, |t| {
            let factor = number(t.fixture, "factor") as usize;
            map(t, |g, x| op(g, x, factor))
        });
    }
}

/// Lines of pixels as maps of height 1.
fn line(t: &mut Golden<'_>, transposed: bool) -> Result<()> {
    let f = t.fixture;
    let conv = Conv2d {
        stride: pair(f, "stride"),
        padding: pair(f, "padding"),
        dilation: pair(f, "dilation"),
        groups: number(f, "groups") as usize,
    };
    let (x, w) = (t.input("x")?, t.input("w")?);
    let mut y =
        if transposed { conv_transpose2d(t.graph(), x, w, conv, pair(f, "output_padding"))? } else { conv2d(t.graph(), x, w, conv)? };
    let mut gradients = vec![(x, "dx"), (w, "dw")];
    if f.tensors.contains_key("bias") {
        let bias = t.input("bias")?;
        let g = t.graph();
        let row = Shape::new(&[1, g.shape(bias).len()])?;
        let (row, shape) = (reshape::reshape(g, bias, &row)?, g.shape(y).clone());
        let row = reduce::group_broadcast(g, row, &shape)?;
        y = elementwise::add(g, y, row)?;
        gradients.push((bias, "dbias"));
    }
    t.expect_with_gradients(y, &gradients)
}

#[test]
fn convolution_in_one_dimension() {
    run("conv1d_", 6, |t| line(t, false));
    run("conv_transpose1d_", 5, |t| line(t, true));
}

/// Differentiation used twice, through every op of these families.
#[test]
fn gradient_penalty() {
    run("spatial_penalty", 1, |t| {
        let (x, first, last) = (t.input("x")?, t.input("first")?, t.input("last")?);
        let g = t.graph();
        let h = conv2d(g, x, first, Conv2d::square(1, 1))?;
        let h = elementwise::tanh(g, h)?;
        let h = max_pool2d(g, h, Pool::square(3, 2, 1))?;
        let h = upsample_bilinear(g, h, [2, 2])?;
        let h = pixel_unshuffle(g, h, 2)?;
        let h = avg_pool2d(g, h, Pool::square(3, 2, 1))?;
        let h = pixel_shuffle(g, h, 2)?;
        let h = upsample_nearest(g, h, [1, 2])?;
        let h = conv2d(g, h, last, Conv2d::default())?;
        let h = elementwise::tanh(g, h)?;
        let y = global_avg_pool(g, h)?;
        let total = reduce::sum(g, y)?;
        let one = constant::ones_like(g, total)?;
        let grad = g.gradients(&[(total, one)], &[x])?[0].expect("x matters");
        let square = elementwise::mul(g, grad, grad)?;
        let norms = reduce::sum_axes(g, square, &[1, 2, 3])?;
        let penalty = reduce::mean(g, norms)?;
        let one = constant::ones_like(g, penalty)?;
        let gradients = g.gradients(&[(penalty, one)], &[first, last])?;
        t.expect("y", y);
        t.expect("grad", grad);
        t.expect("penalty", penalty);
        t.expect("d.first", gradients[0].expect("the first weight matters"));
        t.expect("d.last", gradients[1].expect("the last weight matters"));
        Ok(())
    });
}
