//! Golden fixtures for integration tests: what PyTorch computed (see tests/fixtures/README.md).

use ganymede::graph::shape::Shape;
use ganymede::graph::tensor::Tensor;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// A fixture file: parameters and tensors.
pub struct Fixture {
    /// File stem.
    pub name: String,
    /// The op's parameters.
    pub parameters: Value,
    /// Tensors by name.
    pub tensors: HashMap<String, Tensor>,
}

impl Fixture {
    /// Reads `tests/fixtures/<name>.safetensors`.
    pub fn load(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.safetensors"));
        let hint = "regenerate it with tests/fixtures/generate.py";
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; {hint}", path.display()));
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap_or_else(|e| panic!("{}: {e}; {hint}", path.display()));
        let text = metadata.metadata().as_ref().and_then(|m| m.get("fixture")).expect("fixtures carry their parameters");
        let parameters: Value = serde_json::from_str(text).expect("fixture parameters are JSON");
        assert_eq!(parameters["format"], 1, "{name}: another fixture format; {hint}");
        let file = SafeTensors::deserialize(&bytes).expect("the header was read");
        let tensors = file.iter().map(|(name, view)| (name.to_string(), tensor(view.dtype(), view.shape(), view.data()))).collect();
        Fixture { name: name.to_string(), parameters, tensors }
    }

    /// A tensor by name.
    pub fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{} has no tensor {name}", self.name))
    }
}

fn tensor(dtype: Dtype, dims: &[usize], bytes: &[u8]) -> Tensor {
    let data = match dtype {
        Dtype::F64 => bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("chunks of 8"))).collect(),
        Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("chunks of 4")) as f64).collect(),
        other => panic!("fixtures hold F32 and F64, not {other:?}"),
    };
    Tensor::new(Shape::new(dims).expect("fixture shapes are supported"), data)
}
