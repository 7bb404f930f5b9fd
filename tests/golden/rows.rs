//! Activations, softmax and losses, with second derivatives; and dropout in a plan, which has no counterpart in PyTorch bit by bit.

use crate::harness::{Golden, number, run};
use ganymede::error::Result;
use ganymede::gpu::step::StepRow;
use ganymede::gpu::testing;
use ganymede::graph::NodeId;
use ganymede::graph::lower::BufferId;
use ganymede::graph::shape::Shape;
use ganymede::graph::tensor::Tensor;
use ganymede::ops::dropout::{Dropout, dropout_mask};
use ganymede::ops::loss::{self, Target};
use ganymede::ops::noise::{Draw, Source};
use ganymede::ops::{curves, softmax};
use ganymede::plan::{Executor, Program, compile};
use std::collections::HashMap;

/// Expects `y`; for each (input, its name) the gradient dx of sum(y * dy); and the gradients of sum(dx * h) by that input and by dy.
fn expect_twice(t: &mut Golden<'_>, y: NodeId, inputs: &[(NodeId, &str)]) -> Result<()> {
    let fixture = t.fixture;
    let name = |key: String| fixture.tensors.get_key_value(&key).unwrap_or_else(|| panic!("{} has no {key}", fixture.name)).0.as_str();
    t.expect("y", y);
    let shape = t.graph().shape(y).clone();
    let dy = t.input_as("dy", shape)?;
    let wrt: Vec<NodeId> = inputs.iter().map(|(node, _)| *node).collect();
    let first = t.graph().gradients(&[(y, dy)], &wrt)?;
    for ((x, key), dx) in inputs.iter().zip(first) {
        let dx = dx.unwrap_or_else(|| panic!("{}: no gradient of {key}", fixture.name));
        t.expect(name(format!("d{key}")), dx);
        let h = t.input(name(format!("h_{key}")))?;
        let second = t.graph().gradients(&[(dx, h)], &[*x, dy])?;
        for (node, name) in second.into_iter().zip([name(format!("d2{key}")), name(format!("d2dy_{key}"))]) {
            match node {
                Some(node) => t.expect(name, node),
                None => assert!(fixture.get(name).data.iter().all(|v| *v == 0.0), "{}: no {name}", fixture.name),
            }
        }
    }
    Ok(())
}

#[test]
fn activations() {
    for (prefix, least) in [("rows_elu_", 3), ("rows_silu_", 3), ("rows_gelu_", 3), ("rows_abs_", 3), ("rows_clamp_", 3)] {
        run(prefix, least, |t| {
            let x = t.input("x")?;
            let value = |key: &str| number(t.fixture, key) as f32;
            let y = match prefix {
                "rows_elu_" => curves::elu(&mut t.program.graph, x, value("alpha"))?,
                "rows_silu_" => curves::silu(t.graph(), x)?,
                "rows_gelu_" => curves::gelu(t.graph(), x)?,
                "rows_abs_" => curves::abs(t.graph(), x)?,
                _ => curves::clamp(&mut t.program.graph, x, value("min"), value("max"))?,
            };
            expect_twice(t, y, &[(x, "x")])
        });
    }
}

#[test]
fn shares_of_rows() {
    run("rows_softmax_", 4, |t| {
        let x = t.input("x")?;
        let y = softmax::softmax(t.graph(), x)?;
        expect_twice(t, y, &[(x, "x")])
    });
    run("rows_log_softmax_", 4, |t| {
        let x = t.input("x")?;
        let y = softmax::log_softmax(t.graph(), x)?;
        expect_twice(t, y, &[(x, "x")])
    });
}

#[test]
fn cross_entropies() {
    run("rows_cross_entropy_mean_", 4, |t| {
        let x = t.input("x")?;
        let class = number(t.fixture, "class") as usize;
        let smoothing = number(t.fixture, "label_smoothing") as f32;
        let y = loss::cross_entropy_mean(t.graph(), x, class, smoothing)?;
        expect_twice(t, y, &[(x, "x")])
    });
    run("rows_cross_entropy_labels_", 4, |t| {
        let (x, one_hot) = (t.input("x")?, t.input("one_hot")?);
        let smoothing = number(t.fixture, "label_smoothing") as f32;
        let y = loss::cross_entropy_labels(t.graph(), x, one_hot, smoothing)?;
        expect_twice(t, y, &[(x, "x")])
    });
}

fn against_a_target(t: &mut Golden<'_>, x: NodeId) -> Result<NodeId> {
    let target = number(t.fixture, "target") as f32;
    let label = if target == 1.0 { Target::Real } else { Target::Fake };
    match t.fixture.parameters["op"].as_str() {
        Some("bce") => loss::bce_mean(t.graph(), x, target),
        Some("bce_with_logits") => loss::bce_with_logits_target_mean(t.graph(), x, target),
        Some("mse") => loss::mse_mean(t.graph(), x, target),
        Some("hinge") => loss::hinge_mean(t.graph(), x, label),
        Some("saturating") => loss::saturating_mean(t.graph(), x),
        other => panic!("no loss {other:?}"),
    }
}

#[test]
fn losses_against_a_target() {
    run("rows_loss_", 24, |t| {
        let x = t.input("x")?;
        let y = against_a_target(t, x)?;
        expect_twice(t, y, &[(x, "x")])
    });
    run("rows_certain_", 3, |t| {
        let x = t.input("x")?;
        let y = against_a_target(t, x)?;
        t.expect_with_gradients(y, &[(x, "dx")])
    });
}

#[test]
fn losses_between_tensors() {
    run("rows_between_", 4, |t| {
        let (a, b) = (t.input("a")?, t.input("b")?);
        let y = match t.fixture.parameters["op"].as_str() {
            Some("mse") => loss::mse_between(t.graph(), a, b)?,
            _ => loss::l1_between(t.graph(), a, b)?,
        };
        expect_twice(t, y, &[(a, "a"), (b, "b")])
    });
}

/// Forward and gradient of one run share a mask, runs have masks of their own, and a micro-batch has its part of the whole batch's.
#[test]
fn dropout_in_a_plan() -> Result<()> {
    let Some(gpu) = testing::gpu() else { return Ok(()) };
    let shape = Shape::new(&[4, 5, 3, 2])?;
    let op = Dropout { p: 0.5, source: Source { seed: 3, stream: 9 }, draw: Draw::Step(StepRow::draw(1)), groups: 2 };
    let mut program = Program::new("dropout");
    let mut leaf = |name: &str| {
        let place = program.tensor_buffer(name, &shape);
        program.leaf(name, &shape, place)
    };
    let (x, dy) = (leaf("x")?, leaf("dy")?);
    let y = program.graph.apply(op, &[x])?;
    let dx = program.graph.gradients(&[(y, dy)], &[x])?[0].expect("x matters");
    let places = [("y", y), ("dx", dx)].map(|(name, node)| {
        let place = program.tensor_buffer(name, &shape);
        program.compute(node, place);
        place
    });
    let plan = compile(&mut program, &gpu.caps())?;

    let mut row: StepRow = bytemuck::Zeroable::zeroed();
    let mut rows = Vec::new();
    for counter in [6, 7] {
        row.slots[StepRow::draw(1) as usize][2] = counter;
        rows.extend([row.micro_batch(0, 0), row.micro_batch(1, 2)]);
    }
    let table = gpu.uniform("step rows", (rows.len() * StepRow::BYTES) as u64)?;
    gpu.write(&table, 0, bytemuck::cast_slice(&rows))?;
    let executor = Executor::new(gpu, "dropout", &plan, &HashMap::new(), Some(&table))?;
    let ones = Tensor::from_fn(shape.clone(), |_| 1.0).pack();
    for (index, decl) in program.buffers().iter().enumerate() {
        if ["x", "dy"].contains(&decl.name.as_str()) {
            gpu.write(executor.buffer(BufferId(index)), 0, bytemuck::cast_slice(&ones))?;
        }
    }
    let whole = Shape::new(&[8, 5, 3, 2])?;
    let mut masks = Vec::new();
    for run in 0..4u32 {
        executor.submit(gpu, run..run + 1)?;
        let got = places.map(|place| Tensor::unpack(&shape, &executor.read(gpu, place).expect("outputs read back")).data);
        assert_eq!(got[0], got[1], "run {run}: the gradient has another mask");
        let all = dropout_mask(&op, &whole, 6 + run / 2, 0).data;
        let first = run as usize % 2 * 2;
        let image = 30;
        let part = [&all[first * image..][..2 * image], &all[(4 + first) * image..][..2 * image]].concat();
        assert_eq!(got[0], part, "run {run}: not its part of the batch's mask");
        assert!(!masks.contains(&part), "run {run} repeats a mask");
        masks.push(part);
    }
    Ok(())
}
