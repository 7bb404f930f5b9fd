//! Numbers from an integer hash: the same in every peer (`hashed` in ../pytorch/networks.py), so that losses can be compared.

use burn::tensor::{Device, Tensor, TensorData};

/// `count` numbers in [-1, 1), from a hash of index and stream, times `scale`.
pub fn values(count: usize, stream: u64, scale: f32) -> Vec<f32> {
    const MASK: u64 = 0xFFFF_FFFF;
    (0..count as u64)
        .map(|i| {
            let h = (i * 747_796_405 + (stream + 1) * 2_891_336_453) & MASK;
            let h = ((h ^ (h >> 16)) * 0x45D9_F3B) & MASK;
            let h = h ^ (h >> 16);
            (h as f64 / f64::from(1u32 << 31) - 1.0) as f32 * scale
        })
        .collect()
}

/// A tensor of such numbers.
pub fn tensor<const D: usize>(shape: [usize; D], stream: u64, scale: f32, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values(shape.iter().product(), stream, scale), shape), device)
}
