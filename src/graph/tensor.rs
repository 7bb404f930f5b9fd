//! f64 tensors in logical order: what CPU twins compute with.

use super::shape::Shape;

/// A tensor of f64 in logical row-major order (NCHW, OIHW).
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Logical shape.
    pub shape: Shape,
    /// `shape.len()` values.
    pub data: Vec<f64>,
}

impl Tensor {
    /// A tensor of the given values.
    ///
    /// # Panics
    /// If `data` is not as long as `shape` says.
    pub fn new(shape: Shape, data: Vec<f64>) -> Self {
        assert_eq!(shape.len(), data.len(), "tensor data does not fill shape {shape}");
        Tensor { shape, data }
    }

    /// A tensor whose element at each logical index is `f(index)`.
    pub fn from_fn(shape: Shape, f: impl FnMut(usize) -> f64) -> Self {
        let data = (0..shape.len()).map(f).collect();
        Tensor { shape, data }
    }

    /// All zeros.
    pub fn zeros(shape: Shape) -> Self {
        Self::from_fn(shape, |_| 0.0)
    }

    /// The physical f32 image of this tensor: NHWC, channels padded with zeros.
    pub fn pack(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.shape.physical_len()];
        for (i, &v) in self.shape.physical_indices().zip(&self.data) {
            out[i] = v as f32;
        }
        out
    }

    /// Reads a physical image back; padding lanes are ignored.
    ///
    /// # Panics
    /// If `physical` is shorter than the shape's physical length.
    pub fn unpack(shape: &Shape, physical: &[f32]) -> Self {
        let data = shape.physical_indices().map(|i| physical[i] as f64).collect();
        Tensor { shape: shape.clone(), data }
    }

    /// The physical image in f64, for comparison with what a kernel wrote (padding included).
    pub fn pack_f64(&self) -> Vec<f64> {
        let mut out = vec![0.0; self.shape.physical_len()];
        for (i, &v) in self.shape.physical_indices().zip(&self.data) {
            out[i] = v;
        }
        out
    }
}
