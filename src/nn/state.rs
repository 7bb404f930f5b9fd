//! Tensors on the host as checkpoints hold them: PyTorch's axis order, no padding.

/// A tensor's elements.
#[derive(Debug, Clone, PartialEq)]
pub enum HostData {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 32-bit words: counters and flags.
    U32(Vec<u32>),
}

/// A tensor on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Extents in PyTorch's axis order.
    pub shape: Vec<usize>,
    /// Row-major elements.
    pub data: HostData,
}
