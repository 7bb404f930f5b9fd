//! A program around an op, compared with a fixture by twins and by kernels.

use crate::common::Fixture;
use ganymede::error::Result;
use ganymede::gpu::testing;
use ganymede::graph::lower::Caps;
use ganymede::graph::shape::Shape;
use ganymede::graph::tensor::Tensor;
use ganymede::graph::{Graph, NodeId};
use ganymede::plan::{Executor, Program, compile};
use std::collections::HashMap;

/// Twins compute in f64, but an op's constants (slopes, 1/n, eps) are the f32 values that its kernel uses.
const TWIN: f64 = 2e-7;
/// f32 sums of a few thousand terms.
const KERNEL: f64 = 2e-5;

/// A fixture's tensor under the name that the op gives it, with the shape that the op uses (a bias is a row, a scalar loss (1, 1)).
pub struct Expected<'a> {
    name: &'a str,
    node: NodeId,
}

/// Builds a program around an op and compares its outputs and gradients with the fixture.
pub struct Golden<'a> {
    pub fixture: &'a Fixture,
    pub program: Program,
    pub values: HashMap<String, Tensor>,
    expected: Vec<Expected<'a>>,
}

impl<'a> Golden<'a> {
    pub fn new(fixture: &'a Fixture) -> Self {
        Golden { fixture, program: Program::new("golden"), values: HashMap::new(), expected: Vec::new() }
    }

    pub fn graph(&mut self) -> &mut Graph {
        &mut self.program.graph
    }

    /// A leaf with the fixture's value.
    pub fn input(&mut self, name: &str) -> Result<NodeId> {
        self.input_as(name, self.fixture.get(name).shape.clone())
    }

    /// The same values under another shape.
    pub fn input_as(&mut self, name: &str, shape: Shape) -> Result<NodeId> {
        let tensor = Tensor::new(shape.clone(), self.fixture.get(name).data.clone());
        self.values.insert(name.to_string(), tensor);
        let place = self.program.tensor_buffer(name, &shape);
        self.program.leaf(name, &shape, place)
    }

    pub fn expect(&mut self, name: &'a str, node: NodeId) {
        self.expected.push(Expected { name, node });
    }

    /// Expects `y`, and for each (input, fixture name) the gradient of sum(y * dy).
    pub fn expect_with_gradients(&mut self, y: NodeId, gradients: &[(NodeId, &'a str)]) -> Result<()> {
        self.expect("y", y);
        let shape = self.graph().shape(y).clone();
        let dy = self.input_as("dy", shape)?;
        let wrt: Vec<NodeId> = gradients.iter().map(|(node, _)| *node).collect();
        let nodes = self.graph().gradients(&[(y, dy)], &wrt)?;
        for ((_, name), node) in gradients.iter().zip(nodes) {
            let node = node.unwrap_or_else(|| panic!("{}: no gradient {name}", self.fixture.name));
            self.expect(name, node);
        }
        Ok(())
    }

    pub fn check(mut self) {
        let nodes: Vec<NodeId> = self.expected.iter().map(|e| e.node).collect();
        let twins = self.program.graph.evaluate(&self.values, &nodes).expect("twins evaluate");
        for (expected, got) in self.expected.iter().zip(&twins) {
            self.compare("twin", expected.name, &got.data, TWIN);
        }
        let Some(gpu) = testing::gpu() else { return };
        let mut places = Vec::new();
        for (index, expected) in self.expected.iter().enumerate() {
            let shape = self.program.graph.shape(expected.node).clone();
            let place = self.program.tensor_buffer(format!("out.{index}"), &shape);
            self.program.compute(expected.node, place);
            places.push((place, shape));
        }
        for caps in [gpu.caps(), Caps { max_binding: gpu.caps().max_binding, ..Caps::minimal() }] {
            let plan = compile(&mut self.program, &caps).unwrap_or_else(|e| panic!("{}: {e}", self.fixture.name));
            let executor = Executor::new(gpu, &self.fixture.name, &plan, &HashMap::new(), None).expect("the plan binds");
            for (index, decl) in self.program.buffers().iter().enumerate() {
                if let Some(value) = self.values.get(&decl.name) {
                    let buffer = executor.buffer(ganymede::graph::lower::BufferId(index));
                    gpu.write(buffer, 0, bytemuck::cast_slice(&value.pack())).expect("inputs upload");
                }
            }
            executor.submit(gpu, 0..1).expect("the plan runs");
            for (expected, (place, shape)) in self.expected.iter().zip(&places) {
                let physical = executor.read(gpu, *place).expect("outputs read back");
                let padding = physical.len() - shape.len();
                assert!(
                    physical.iter().filter(|v| **v == 0.0).count() >= padding,
                    "{} {}: padding lanes are not zero",
                    self.fixture.name,
                    expected.name
                );
                self.compare(
                    if caps.fixed_subgroup { "kernel" } else { "plain kernel" },
                    expected.name,
                    &Tensor::unpack(shape, &physical).data,
                    KERNEL,
                );
            }
        }
    }

    pub fn compare(&self, what: &str, name: &str, got: &[f64], tolerance: f64) {
        let expected = &self.fixture.get(name).data;
        assert_eq!(got.len(), expected.len(), "{} {name}: {what} has another size", self.fixture.name);
        let scale = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for (i, (g, e)) in got.iter().zip(expected).enumerate() {
            assert!(
                (g - e).abs() <= tolerance * (scale + e.abs()),
                "{} {name}: {what} gives {g} at element {i}, PyTorch {e} (largest {scale})",
                self.fixture.name
            );
        }
    }
}

/// Fixtures whose name starts with `prefix`; at least `least`, so that a renamed file cannot empty a test.
pub fn fixtures(prefix: &str, least: usize) -> Vec<Fixture> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("tests/fixtures exists")
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".safetensors")?.to_string()))
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    assert!(names.len() >= least, "{} fixtures named {prefix}*, expected at least {least}", names.len());
    names.iter().map(|name| Fixture::load(name)).collect()
}

pub fn pair(f: &Fixture, key: &str) -> [usize; 2] {
    let value = |i: usize| f.parameters[key][i].as_u64().unwrap_or_else(|| panic!("{} has no {key}", f.name)) as usize;
    [value(0), value(1)]
}

pub fn number(f: &Fixture, key: &str) -> f64 {
    f.parameters[key].as_f64().unwrap_or_else(|| panic!("{} has no {key}", f.name))
}

pub fn list(f: &Fixture, key: &str) -> Vec<usize> {
    f.parameters[key]
        .as_array()
        .unwrap_or_else(|| panic!("{} has no {key}", f.name))
        .iter()
        .map(|v| v.as_u64().expect("a number") as usize)
        .collect()
}

pub fn run(prefix: &str, least: usize, build: impl for<'a> Fn(&mut Golden<'a>) -> Result<()>) {
    for fixture in fixtures(prefix, least) {
        let mut golden = Golden::new(&fixture);
        build(&mut golden).unwrap_or_else(|e| panic!("{}: {e}", fixture.name));
        golden.check();
    }
}
