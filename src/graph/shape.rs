//! Logical shapes and the one physical layout.

use crate::error::{Error, Result};
use std::fmt;

/// The logical shape of a tensor: rank 0, 1, 2 or 4, in PyTorch's order — `[]`, `[C]`, `[N, C]`, `[N, C, H, W]` (activations) or
/// `[O, I, KH, KW]` (weights).
///
/// # Physical layout
/// There is one rule for all tensors. The *channel axis* is axis 1 (axis 0 of a rank-1 tensor); every other axis counts rows, in logical
/// order. Memory holds rows of channels, and channels are padded with zeros to a multiple of four: `[C4]`, `[N][C4]`, `[N][H][W][C4]`,
/// `[O][KH][KW][I4]`. A scalar occupies lane 0 of one group of four.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// Checks rank (0, 1, 2, 4), that no extent is zero, and that the padded element count fits u32.
    pub fn new(dims: &[usize]) -> Result<Self> {
        if !matches!(dims.len(), 0 | 1 | 2 | 4) {
            return Err(Error::input(format!("shape {dims:?} has rank {}; supported ranks are 0, 1, 2 and 4", dims.len())));
        }
        if dims.contains(&0) {
            return Err(Error::input(format!("shape {dims:?} has an empty axis; every extent must be at least 1")));
        }
        let shape = Shape(dims.to_vec());
        let padded = shape.0.iter().enumerate().try_fold(1usize, |n, (axis, &d)| {
            let d = if axis == shape.channel_axis() { d.checked_next_multiple_of(4)? } else { d };
            n.checked_mul(d)
        });
        match padded {
            Some(n) if n <= u32::MAX as usize => Ok(shape),
            _ => Err(Error::input(format!("shape {dims:?} has more than 2^32 - 1 elements; make the batch or the layer smaller"))),
        }
    }

    /// Extents in logical order.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Logical element count.
    pub fn len(&self) -> usize {
        self.0.iter().product()
    }

    /// Never true: shapes have no empty axis.
    pub fn is_empty(&self) -> bool {
        false
    }

    fn channel_axis(&self) -> usize {
        if self.0.len() < 2 { 0 } else { 1 }
    }

    /// Extent of the channel axis (1 for a scalar).
    pub fn channels(&self) -> usize {
        self.0.get(self.channel_axis()).copied().unwrap_or(1)
    }

    /// Channels padded to a multiple of four: the physical row stride in floats.
    pub fn padded(&self) -> usize {
        self.channels().next_multiple_of(4)
    }

    /// Number of physical rows: every axis but the channel axis.
    pub fn rows(&self) -> usize {
        self.len() / self.channels()
    }

    /// Physical length in floats: `rows() * padded()`.
    pub fn physical_len(&self) -> usize {
        self.rows() * self.padded()
    }

    /// `(N, C, H, W)` with missing axes as 1: a rank-2 tensor is `(N, C, 1, 1)`, a rank-1 tensor `(1, C, 1, 1)`.
    pub fn nchw(&self) -> [usize; 4] {
        match self.0[..] {
            [] => [1, 1, 1, 1],
            [c] => [1, c, 1, 1],
            [n, c] => [n, c, 1, 1],
            [n, c, h, w] => [n, c, h, w],
            _ => unreachable!("ranks are checked by Shape::new"),
        }
    }

    /// Physical index of each logical element, in logical (row-major) order.
    pub fn physical_indices(&self) -> impl Iterator<Item = usize> {
        let [n, c, h, w] = self.nchw();
        let p = self.padded();
        (0..n).flat_map(move |ni| {
            (0..c).flat_map(move |ci| (0..h).flat_map(move |hi| (0..w).map(move |wi| ((ni * h + hi) * w + wi) * p + ci)))
        })
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (i, d) in self.0.iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
