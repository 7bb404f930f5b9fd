//! The core for operands A whose m is contiguous: parameters and dispatch of the `gemm_cols_*` kernels.

use super::rows::Pixels;
use super::{Size, choose, kernels};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Dispatch, Kernel, grid};
use crate::graph::lower::{Caps, Lowering, Operand};
use bytemuck::{Pod, Zeroable};

/// A product `C[m, n] = sum over pixels p of A(p, m) B(p, n)`; `shaders/gemm_cols.wgsl` explains the terms.
#[derive(Debug, Clone)]
pub struct Cols {
    pub images: usize,
    /// Rows of C in each group: channels of A.
    pub rows: usize,
    pub groups: usize,
    /// Kernel height and width: taps.
    pub kernel: [usize; 2],
    /// Columns of a tap, padding included.
    pub tap_columns: usize,
    /// How many of them are not padding. Only `gemm_cols_scalar` asks: elsewhere the padding of B makes that of C.
    pub channels: usize,
    pub a: Pixels,
    pub b: Pixels,
    /// Channels of B in a group.
    pub b_channels: usize,
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
    pub size: Size,
}

/// `GemmColsParams` of `shaders/gemm_cols.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct GemmColsParams {
    pixels: u32,
    rows: u32,
    columns: u32,
    tap_columns: u32,
    channels: u32,
    a_pixel: u32,
    b_pixel: u32,
    b_channel: u32,
    grid_height: u32,
    grid_width: u32,
    b_height: u32,
    b_width: u32,
    stride_y: u32,
    stride_x: u32,
    padding_y: u32,
    padding_x: u32,
    dilation_y: u32,
    dilation_x: u32,
    kernel_width: u32,
    step_image: u32,
    step_y: u32,
    step_x: u32,
    reserved0: u32,
    reserved1: u32,
}

impl Cols {
    /// The product of a transposed matrix `[k][a_stride]`, of which `m` columns exist, and a matrix `[k][b_stride]`, of which `n` columns exist.
    pub fn matrix(k: usize, [m, a_stride]: [usize; 2], [n, b_stride]: [usize; 2]) -> Self {
        Cols {
            images: k,
            rows: m,
            groups: 1,
            kernel: [1, 1],
            tap_columns: b_stride,
            channels: n,
            a: Pixels { height: 1, width: 1, floats: a_stride },
            b: Pixels { height: 1, width: 1, floats: b_stride },
            b_channels: b_stride,
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            size: Size::default(),
        }
    }

    fn columns(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.tap_columns
    }

    /// Whether every address of A and B at which four channels start is a multiple of four.
    fn is_aligned(&self) -> bool {
        let fits = |n: usize| n.is_multiple_of(4);
        let are_groups_aligned = self.groups == 1 || fits(self.rows) && fits(self.b_channels);
        fits(self.a.floats) && fits(self.b.floats) && fits(self.tap_columns) && are_groups_aligned
    }

    /// The kernels that can run this product on an adapter, best first. The order depends on the adapter and the shape alone.
    pub fn candidates(&self, caps: &Caps) -> Vec<&'static Kernel> {
        if !self.is_aligned() {
            return vec![&kernels::COLS_SCALAR];
        }
        let mut found: Vec<&'static Kernel> = Vec::new();
        if caps.fixed_subgroup && caps.int64 {
            found.extend(kernels::COLS_BROADCAST.fitting(self.size.largest));
        }
        // As for the rows: a GPU wants many small invocations.
        let at = if caps.software { found.len() } else { 0 };
        found.insert(at, &kernels::COLS_PLAIN);
        found
    }

    /// Appends the dispatch, with the forced kernel or the best candidate.
    pub fn lower(&self, lowering: &mut Lowering, [a, b, out]: [Operand; 3], forced: Option<&Kernel>) -> Result<()> {
        let kernel = choose(&self.candidates(&lowering.caps), forced)?;
        if self.groups > 65_535 {
            return Err(Error::input(format!("a convolution with {} groups; at most 65535 are supported: use fewer groups", self.groups)));
        }
        let (rows, columns) = (self.rows, self.columns());
        let (items, per_group) = match kernel.name {
            "gemm_cols_broadcast" => (rows.div_ceil(32) * columns.div_ceil(32), 1),
            "gemm_cols_plain" => (rows.div_ceil(4) * columns.div_ceil(8), 64),
            _ => (rows * columns, 64),
        };
        let [x, y, _] = grid(items, per_group);
        lowering.push(Dispatch {
            kernel,
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&self.params()).to_vec(),
            operands: vec![a, b, out],
            workgroups: [x, y, self.groups as u32],
            cost: self.size.cost,
        });
        Ok(())
    }

    fn params(&self) -> GemmColsParams {
        let grid = self.a.height * self.a.width;
        GemmColsParams {
            pixels: (self.images * grid) as u32,
            rows: self.rows as u32,
            columns: self.columns() as u32,
            tap_columns: self.tap_columns as u32,
            channels: self.channels as u32,
            a_pixel: self.a.floats as u32,
            b_pixel: self.b.floats as u32,
            b_channel: self.b_channels as u32,
            grid_height: self.a.height as u32,
            grid_width: self.a.width as u32,
            b_height: self.b.height as u32,
            b_width: self.b.width as u32,
            stride_y: self.stride[0] as u32,
            stride_x: self.stride[1] as u32,
            padding_y: self.padding[0] as u32,
            padding_x: self.padding[1] as u32,
            dilation_y: self.dilation[0] as u32,
            dilation_x: self.dilation[1] as u32,
            kernel_width: self.kernel[1] as u32,
            step_image: (4 / grid) as u32,
            step_y: (4 % grid / self.a.width) as u32,
            step_x: (4 % self.a.width) as u32,
            reserved0: 0,
            reserved1: 0,
        }
    }
}
