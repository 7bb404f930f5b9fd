//! Products, convolutions, arithmetic, sums, batch norm, losses, penalties and optimisers.

use crate::common::Fixture;
use crate::harness::{Golden, fixtures, list, number, pair, run};
use ganymede::error::Result;
use ganymede::graph::shape::Shape;
use ganymede::graph::{Graph, NodeId};
use ganymede::ops::conv2d::{Conv2d, conv_transpose2d, conv2d};
use ganymede::ops::loss::{Target, bce_with_logits_mean};
use ganymede::ops::matmul::Matmul;
use ganymede::ops::{batch_norm, elementwise, reduce, reshape, running_stats};
use ganymede::plan::NormSite;

fn add_bias(g: &mut Graph, y: NodeId, bias: NodeId) -> Result<NodeId> {
    let row = Shape::new(&[1, g.shape(bias).len()])?;
    let bias = reshape::reshape(g, bias, &row)?;
    let shape = g.shape(y).clone();
    let bias = reduce::group_broadcast(g, bias, &shape)?;
    elementwise::add(g, y, bias)
}

#[test]
fn matmul() {
    run("matmul_", 5, |t| {
        let (a, b) = (t.input("a")?, t.input("b")?);
        let flag = |key: &str| t.fixture.parameters[key].as_bool().expect("a flag");
        let op = Matmul { transpose_a: flag("transpose_a"), transpose_b: flag("transpose_b") };
        let y = t.graph().apply(op, &[a, b])?;
        t.expect_with_gradients(y, &[(a, "da"), (b, "db")])
    });
    run("linear", 1, |t| {
        let (x, w, bias) = (t.input("x")?, t.input("w")?, t.input("bias")?);
        let y = t.graph().apply(Matmul { transpose_a: false, transpose_b: true }, &[x, w])?;
        let y = add_bias(t.graph(), y, bias)?;
        t.expect_with_gradients(y, &[(x, "dx"), (w, "dw"), (bias, "dbias")])
    });
}

fn convolution(t: &mut Golden<'_>, transposed: bool) -> Result<()> {
    let f = t.fixture;
    let conv = Conv2d {
        stride: pair(f, "stride"),
        padding: pair(f, "padding"),
        dilation: pair(f, "dilation"),
        groups: f.parameters["groups"].as_u64().expect("groups") as usize,
    };
    let (x, w) = (t.input("x")?, t.input("w")?);
    let mut y =
        if transposed { conv_transpose2d(t.graph(), x, w, conv, pair(f, "output_padding"))? } else { conv2d(t.graph(), x, w, conv)? };
    let mut gradients = vec![(x, "dx"), (w, "dw")];
    if f.tensors.contains_key("bias") {
        let bias = t.input("bias")?;
        y = add_bias(t.graph(), y, bias)?;
        gradients.push((bias, "dbias"));
    }
    t.expect_with_gradients(y, &gradients)
}

#[test]
fn conv2d_family() {
    run("conv2d_", 16, |t| convolution(t, false));
    run("conv_transpose2d_", 16, |t| convolution(t, true));
}

#[test]
fn bias_and_activations() {
    run("bias_", 18, |t| {
        let (x, bias) = (t.input("x")?, t.input("bias")?);
        let sum = add_bias(t.graph(), x, bias)?;
        let parameters = &t.fixture.parameters;
        let name = parameters["activation"].as_str().expect("an activation").to_string();
        let slope = parameters["negative_slope"].as_f64().unwrap_or(0.0) as f32;
        let g = t.graph();
        let y = match name.as_str() {
            "identity" => sum,
            "relu" => elementwise::relu(g, sum)?,
            "leaky_relu" => elementwise::leaky_relu(g, sum, slope)?,
            "tanh" => elementwise::tanh(g, sum)?,
            "sigmoid" => elementwise::sigmoid(g, sum)?,
            "softplus" => elementwise::softplus(g, sum)?,
            other => panic!("no activation {other}"),
        };
        t.expect_with_gradients(y, &[(x, "dx"), (bias, "dbias")])
    });
}

#[test]
fn broadcasting_arithmetic() {
    type Build = fn(&mut Graph, NodeId, NodeId) -> Result<NodeId>;
    for (prefix, least, op) in [("add_", 11, elementwise::add as Build), ("sub_", 4, elementwise::sub), ("mul_", 11, elementwise::mul)] {
        run(prefix, least, |t| {
            let (x, w) = (t.input("x")?, t.input("w")?);
            let y = op(t.graph(), x, w)?;
            t.expect_with_gradients(y, &[(x, "dx"), (w, "dw")])
        });
    }
    run("affine_", 3, |t| {
        let x = t.input("x")?;
        let (scale, shift) = (number(t.fixture, "scale"), number(t.fixture, "shift"));
        let y = elementwise::affine(t.graph(), x, scale as f32, shift as f32)?;
        t.expect_with_gradients(y, &[(x, "dx")])
    });
}

#[test]
fn sums_and_means() {
    run("sum_", 12, |t| {
        let x = t.input("x")?;
        let axes = list(t.fixture, "axes");
        let y = reduce::sum_axes(t.graph(), x, &axes)?;
        t.expect_with_gradients(y, &[(x, "dx")])
    });
    run("mean_", 12, |t| {
        let x = t.input("x")?;
        let axes = list(t.fixture, "axes");
        let y = reduce::mean_axes(t.graph(), x, &axes)?;
        t.expect_with_gradients(y, &[(x, "dx")])
    });
}

#[test]
fn reshapes() {
    run("reshape_", 5, |t| {
        let x = t.input("x")?;
        let shape = Shape::new(&list(t.fixture, "shape"))?;
        let y = reshape::reshape(t.graph(), x, &shape)?;
        t.expect_with_gradients(y, &[(x, "dx")])
    });
}

#[test]
fn batch_norm_training() {
    run("batch_norm_train", 4, |t| {
        let (x, weight, bias) = (t.input("x")?, t.input("weight")?, t.input("bias")?);
        let eps = number(t.fixture, "eps") as f32;
        let norm = batch_norm::batch_norm(t.graph(), x, weight, bias, eps, 1)?;
        t.program.note_norm(NormSite { norm, x, weight, bias, eps, groups: 1 });
        t.expect_with_gradients(norm.y, &[(x, "dx"), (weight, "dweight"), (bias, "dbias")])
    });
}

#[test]
fn batch_norm_evaluation() {
    run("batch_norm_eval", 2, |t| {
        let (x, weight, bias) = (t.input("x")?, t.input("weight")?, t.input("bias")?);
        let (mean, var) = (t.input("running_mean_init")?, t.input("running_var_init")?);
        let eps = number(t.fixture, "eps") as f32;
        let y = batch_norm::batch_norm_eval(t.graph(), x, weight, bias, mean, var, eps)?;
        t.expect_with_gradients(y, &[(x, "dx"), (weight, "dweight"), (bias, "dbias")])
    });
}

#[test]
fn bce_with_logits() {
    for (prefix, target) in [("bce_with_logits_ones", Target::Real), ("bce_with_logits_zeros", Target::Fake)] {
        run(prefix, 2, |t| {
            let x = t.input("x")?;
            let n = t.fixture.get("x").shape.len();
            let logits = reshape::reshape(t.graph(), x, &Shape::new(&[n, 1])?)?;
            let y = bce_with_logits_mean(t.graph(), logits, target)?;
            t.expect_with_gradients(y, &[(x, "dx")])
        });
    }
}

/// Differentiation used twice: the gradient of a function of the gradient (WGAN-GP and R1 penalties).
#[test]
fn gradient_penalties() {
    run("penalty_", 4, |t| {
        let x = t.input("x")?;
        let names = ["0.weight", "0.bias", "2.weight", "2.bias", "5.weight", "5.bias"];
        let p: Vec<NodeId> = names.iter().map(|name| t.input(name)).collect::<Result<_>>()?;
        let layers: Vec<String> =
            t.fixture.parameters["network"].as_array().expect("layers").iter().map(|l| l.as_str().expect("text").to_string()).collect();
        let gamma = t.fixture.parameters.get("gamma").and_then(|v| v.as_f64());
        let lambda = t.fixture.parameters.get("lambda").and_then(|v| v.as_f64());
        let activate = |g: &mut Graph, y: NodeId, layer: &str| match layer.split('(').next() {
            Some("LeakyReLU") => elementwise::leaky_relu(g, y, 0.2),
            Some("Tanh") => elementwise::tanh(g, y),
            Some("Softplus") => elementwise::softplus(g, y),
            other => panic!("no activation {other:?}"),
        };
        let g = t.graph();
        let h = conv2d(g, x, p[0], Conv2d::square(2, 1))?;
        let h = add_bias(g, h, p[1])?;
        let h = activate(g, h, &layers[1])?;
        let h = conv2d(g, h, p[2], Conv2d::square(1, 0))?;
        let h = add_bias(g, h, p[3])?;
        let h = activate(g, h, &layers[3])?;
        let h = reshape::flatten(g, h)?;
        let h = g.apply(Matmul { transpose_a: false, transpose_b: true }, &[h, p[4]])?;
        let y = add_bias(g, h, p[5])?;
        let total = reduce::sum(g, y)?;
        let one = ganymede::ops::constant::ones_like(g, total)?;
        let grad = g.gradients(&[(total, one)], &[x])?[0].expect("x matters");
        let square = elementwise::mul(g, grad, grad)?;
        let squared_norm = reduce::sum_axes(g, square, &[1, 2, 3])?;
        let penalty = match (gamma, lambda) {
            (Some(gamma), None) => {
                let mean = reduce::mean(g, squared_norm)?;
                elementwise::affine(g, mean, gamma as f32 / 2.0, 0.0)?
            }
            (None, Some(lambda)) => {
                let norm = elementwise::sqrt(g, squared_norm)?;
                let off = elementwise::affine(g, norm, 1.0, -1.0)?;
                let square = elementwise::mul(g, off, off)?;
                let mean = reduce::mean(g, square)?;
                elementwise::affine(g, mean, lambda as f32, 0.0)?
            }
            _ => panic!("a penalty has gamma or lambda"),
        };
        let one = ganymede::ops::constant::ones_like(g, penalty)?;
        let gradients = g.gradients(&[(penalty, one)], &p)?;
        t.expect("y", y);
        t.expect("grad", grad);
        t.expect("squared_norm", squared_norm);
        t.expect("penalty", penalty);
        for (name, gradient) in ["d.0.weight", "d.0.bias", "d.2.weight", "d.2.bias", "d.5.weight", "d.5.bias"].into_iter().zip(gradients) {
            // The bias of the last layer moves no gradient; neither does a bias in front of a piecewise linear activation.
            match gradient {
                Some(node) => t.expect(name, node),
                None => assert!(t.fixture.get(name).data.iter().all(|v| *v == 0.0), "{}: no {name}", t.fixture.name),
            }
        }
        Ok(())
    });
}

fn close(fixture: &Fixture, name: &str, got: &[f64], tolerance: f64) {
    let expected = &fixture.get(name).data;
    assert_eq!(got.len(), expected.len(), "{} {name}: another size", fixture.name);
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= tolerance * (1.0 + e.abs()), "{} {name}: twin gives {g} at element {i}, PyTorch {e}", fixture.name);
    }
}

/// Running statistics after two batches, with the batch statistics of the fused twin.
#[test]
fn running_statistics() {
    for f in fixtures("batch_norm_train", 4) {
        let (mut mean, mut var) = (f.get("running_mean_init").data.clone(), f.get("running_var_init").data.clone());
        for (batch, suffix) in [("x", 1), ("x2", 2)] {
            let x = f.get(batch);
            let [batch_mean, batch_var, _] = batch_norm::cpu::batch_norm_moments(x, 1, number(&f, "eps") as f32);
            let momentum = number(&f, "momentum");
            running_stats::twin::running_stats(&batch_mean.data, &batch_var.data, &mut mean, &mut var, x.shape.rows(), momentum);
            close(&f, &format!("running_mean_after{suffix}"), &mean, 1e-9);
            close(&f, &format!("running_var_after{suffix}"), &var, 1e-9);
        }
    }
}
