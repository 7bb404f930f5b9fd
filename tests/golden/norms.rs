//! Norms, channel ops, minibatch standard deviation and embedding, with gradients of gradients.

use crate::harness::{Golden, number, run};
use ganymede::error::Result;
use ganymede::graph::NodeId;
use ganymede::graph::lower::Caps;
use ganymede::graph::shape::Shape;
use ganymede::ops::channels::{concat_channels, slice_channels};
use ganymede::ops::embedding::{embedding, one_hot};
use ganymede::ops::minibatch_stddev::minibatch_stddev;
use ganymede::ops::norms::{group_norm, instance_norm, layer_norm, pixel_norm};
use ganymede::plan::{NormSite, Program, compile};

fn count(t: &Golden<'_>, key: &str) -> usize {
    number(t.fixture, key) as usize
}

/// x, and weight and bias where the fixture has them.
fn leaves(t: &mut Golden<'_>) -> Result<(NodeId, Option<NodeId>, Option<NodeId>)> {
    let x = t.input("x")?;
    if !t.fixture.tensors.contains_key("weight") {
        return Ok((x, None, None));
    }
    Ok((x, Some(t.input("weight")?), Some(t.input("bias")?)))
}

/// Expects y, its gradients, and those of sum(dx * v).
fn expect_twice(t: &mut Golden<'_>, y: NodeId, (x, weight, bias): (NodeId, Option<NodeId>, Option<NodeId>)) -> Result<()> {
    let (dy, v) = (t.input("dy")?, t.input("v")?);
    t.expect("y", y);
    let present: Vec<(NodeId, &str, &str)> = [(Some(x), "dx", "ddx"), (weight, "dweight", "ddweight"), (bias, "dbias", "")]
        .into_iter()
        .filter_map(|(n, a, b)| Some((n?, a, b)))
        .collect();
    let wrt: Vec<NodeId> = present.iter().map(|(node, ..)| *node).collect();
    let first = t.graph().gradients(&[(y, dy)], &wrt)?;
    for ((_, name, _), node) in present.iter().zip(&first) {
        t.expect(name, node.unwrap_or_else(|| panic!("no gradient {name}")));
    }
    // The bias moves no gradient.
    let again: Vec<(NodeId, &str)> =
        present.iter().filter(|(.., name)| !name.is_empty()).map(|(node, _, name)| (*node, *name)).chain([(dy, "dddy")]).collect();
    let wrt: Vec<NodeId> = again.iter().map(|(node, _)| *node).collect();
    let dx = first[0].expect("x matters");
    let second = t.graph().gradients(&[(dx, v)], &wrt)?;
    for ((_, name), node) in again.iter().zip(second) {
        t.expect(name, node.unwrap_or_else(|| panic!("no gradient {name}")));
    }
    Ok(())
}

/// By the primitives' kernels, and by batch norm's fused ones.
#[test]
fn instance_norms() {
    for is_noted in [false, true] {
        run("instance_norm_", 4, |t| {
            let (x, weight, bias) = leaves(t)?;
            let eps = number(t.fixture, "eps") as f32;
            let n = instance_norm(t.graph(), x, weight, bias, eps)?;
            if is_noted {
                t.program.note_norm(NormSite { norm: n.norm, x, weight: n.weight, bias: n.bias, eps, groups: n.groups });
            }
            expect_twice(t, n.norm.y, (x, weight, bias))
        });
    }
}

/// Noted, nothing of it is left to the primitives' kernels: in one dispatch each way, or in pieces where there are many images.
#[test]
fn instance_norms_are_fused() {
    let pieces = ["moments_partial", "moments_finish", "apply", "backward_sums_partial", "backward_sums_finish", "backward_apply"];
    for (images, expected) in [(2, &["forward", "backward"][..]), (16, &pieces)] {
        let mut program = Program::new("norm");
        let shape = Shape::new(&[images, 6, 3, 4]).expect("a shape");
        let leaf = |program: &mut Program, name: &str| {
            let place = program.tensor_buffer(name, &shape);
            program.leaf(name, &shape, place).expect("a new name")
        };
        let (x, dy) = (leaf(&mut program, "x"), leaf(&mut program, "dy"));
        let n = instance_norm(&mut program.graph, x, None, None, 1e-5).expect("images of twelve pixels");
        program.note_norm(NormSite { norm: n.norm, x, weight: n.weight, bias: n.bias, eps: 1e-5, groups: n.groups });
        let dx = program.graph.gradients(&[(n.norm.y, dy)], &[x]).expect("a rule")[0].expect("x matters");
        for (name, node) in [("y", n.norm.y), ("dx", dx)] {
            let place = program.tensor_buffer(name, &shape);
            program.compute(node, place);
        }
        let plan = compile(&mut program, &Caps::minimal()).expect("a plan");
        let kernels: Vec<&str> = plan.dispatches.iter().map(|(_, d)| d.kernel.name).collect();
        let expected: Vec<String> = expected.iter().map(|name| format!("batch_norm_{name}")).collect();
        assert_eq!(kernels, expected, "{images} images");
    }
}

#[test]
fn layer_norms() {
    run("layer_norm_", 5, |t| {
        let (x, weight, bias) = leaves(t)?;
        let eps = number(t.fixture, "eps") as f32;
        let y = layer_norm(t.graph(), x, weight, bias, eps)?;
        expect_twice(t, y, (x, weight, bias))
    });
}

#[test]
fn group_norms() {
    run("group_norm_", 7, |t| {
        let (x, weight, bias) = leaves(t)?;
        let (groups, eps) = (count(t, "groups"), number(t.fixture, "eps") as f32);
        let y = group_norm(t.graph(), x, groups, weight, bias, eps)?;
        expect_twice(t, y, (x, weight, bias))
    });
}

#[test]
fn pixel_norms() {
    run("pixel_norm_", 3, |t| {
        let x = t.input("x")?;
        let eps = number(t.fixture, "eps") as f32;
        let y = pixel_norm(t.graph(), x, eps)?;
        expect_twice(t, y, (x, None, None))
    });
}

#[test]
fn minibatch_stddevs() {
    run("minibatch_stddev_", 5, |t| {
        let x = t.input("x")?;
        let (group, parts) = (count(t, "group"), count(t, "parts"));
        let y = minibatch_stddev(t.graph(), x, group, parts)?;
        expect_twice(t, y, (x, None, None))
    });
}

#[test]
fn channels() {
    const NAMES: [(&str, &str); 3] = [("x0", "dx0"), ("x1", "dx1"), ("x2", "dx2")];
    run("concat_channels_", 5, |t| {
        let names = &NAMES[..count(t, "count")];
        let xs: Vec<NodeId> = names.iter().map(|(x, _)| t.input(x)).collect::<Result<_>>()?;
        let y = concat_channels(t.graph(), &xs)?;
        let gradients: Vec<(NodeId, &str)> = xs.into_iter().zip(names.iter().map(|(_, dx)| *dx)).collect();
        t.expect_with_gradients(y, &gradients)
    });
    run("slice_channels_", 5, |t| {
        let x = t.input("x")?;
        let (first, count) = (count(t, "first"), count(t, "count"));
        let y = slice_channels(t.graph(), x, first, count)?;
        t.expect_with_gradients(y, &[(x, "dx")])
    });
}

#[test]
fn embeddings() {
    run("embedding_", 4, |t| {
        let (weight, indices) = (t.input("weight")?, t.input("indices")?);
        let classes = count(t, "classes");
        let hot = one_hot(t.graph(), indices, classes)?;
        t.expect("one_hot", hot);
        let y = embedding(t.graph(), weight, indices)?;
        t.expect_with_gradients(y, &[(weight, "dweight")])
    });
}
