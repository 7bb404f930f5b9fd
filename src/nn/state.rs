//! Tensors on the host as checkpoints hold them: PyTorch's axis order, no padding.

use std::fmt;

/// A tensor in host memory, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Sizes; empty for a scalar.
    pub shape: Vec<usize>,
    /// As many values as the shape says.
    pub data: HostData,
}

/// The values of a [`HostTensor`].
#[derive(Debug, Clone, PartialEq)]
pub enum HostData {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 32-bit unsigned integers.
    U32(Vec<u32>),
}

impl HostTensor {
    /// A tensor of floats.
    ///
    /// # Panics
    /// If `data` does not fill `shape`.
    pub fn f32(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Self {
        Self::new(shape.into(), HostData::F32(data))
    }

    /// A tensor of unsigned integers.
    ///
    /// # Panics
    /// If `data` does not fill `shape`.
    pub fn u32(shape: impl Into<Vec<usize>>, data: Vec<u32>) -> Self {
        Self::new(shape.into(), HostData::U32(data))
    }

    fn new(shape: Vec<usize>, data: HostData) -> Self {
        let tensor = HostTensor { shape, data };
        let expected: usize = tensor.shape.iter().product();
        assert_eq!(tensor.data.len(), expected, "tensor data does not fill shape {:?}", tensor.shape);
        tensor
    }

    /// The values as floats, if that is what they are.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            HostData::F32(values) => Some(values),
            HostData::U32(_) => None,
        }
    }

    /// The values as unsigned integers, if that is what they are.
    pub fn as_u32(&self) -> Option<&[u32]> {
        match &self.data {
            HostData::F32(_) => None,
            HostData::U32(values) => Some(values),
        }
    }

    /// Index and value of the first infinite or NaN element.
    pub fn first_non_finite(&self) -> Option<(usize, f32)> {
        self.as_f32()?.iter().copied().enumerate().find(|(_, value)| !value.is_finite())
    }

    /// Type and shape, as `F32 (64, 1, 4, 4)`.
    pub fn describe(&self) -> String {
        format!("{} {}", self.data.dtype(), Sizes(&self.shape))
    }
}

impl HostData {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            HostData::F32(values) => values.len(),
            HostData::U32(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name that safetensors files give the type.
    pub fn dtype(&self) -> &'static str {
        match self {
            HostData::F32(_) => "F32",
            HostData::U32(_) => "U32",
        }
    }
}

/// Prints sizes as `(64, 1, 4, 4)`.
struct Sizes<'a>(&'a [usize]);

impl fmt::Display for Sizes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<String> = self.0.iter().map(usize::to_string).collect();
        write!(f, "({})", sizes.join(", "))
    }
}
