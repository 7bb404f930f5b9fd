//! The core for operands A whose m is contiguous: parameters and dispatch of the `gemm_cols_*` kernels.

use super::choice::{self, Extents, Suits};
use super::rows::Pixels;
use super::split::Slabs;
use super::{Epilogue, Size, choose, drop_those_that_loop_too_long, kernels, prefer};
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
    splits: u32,
    split_pixels: u32,
}

/// Pixels that a kernel sums in one iteration of its loop.
fn pixels_of_a_step(kernel: &Kernel) -> usize {
    match kernel.name {
        "gemm_cols_broadcast" | "gemm_cols_quad" => 4,
        "gemm_cols_tile_large" | "gemm_cols_tile_small" => choice::TILE_STEP,
        _ => 1,
    }
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
        let is_split = |kernel: &Kernel| self.splits(kernel) > 1;
        if !self.is_aligned() {
            let mut found: Vec<&'static Kernel> = vec![&kernels::COLS_SCALAR];
            found.extend(is_split(&kernels::COLS_SCALAR_SPLIT).then_some(&kernels::COLS_SCALAR_SPLIT));
            drop_those_that_loop_too_long(&mut found, caps, |kernel| self.iterations(kernel));
            return found;
        }
        let mut found: Vec<&'static Kernel> = Vec::new();
        let splits = is_split(&kernels::COLS_QUAD_SPLIT);
        if caps.fixed_subgroup && caps.int64 {
            found.extend(splits.then(|| kernels::COLS_BROADCAST_SPLIT.fitting(self.size.largest)).into_iter().flatten());
            found.extend(kernels::COLS_BROADCAST.fitting(self.size.largest));
        }
        if caps.quads {
            found.extend(splits.then_some(&kernels::COLS_QUAD_SPLIT));
            found.push(&kernels::COLS_QUAD);
        }
        found.extend([&kernels::COLS_PLAIN, &kernels::COLS_TILES.large, &kernels::COLS_TILES.small]);
        found.extend((self.splits(&kernels::COLS_TILES.small_split) > 1).then_some(&kernels::COLS_TILES.small_split));
        if !caps.software {
            prefer(
                &mut found,
                match self.extents().suits() {
                    Suits::Large => [&kernels::COLS_TILES.large, &kernels::COLS_TILES.small],
                    Suits::Small => [&kernels::COLS_TILES.small, &kernels::COLS_PLAIN],
                    Suits::SmallSplit => [&kernels::COLS_TILES.small_split, &kernels::COLS_TILES.small],
                    Suits::Reduce | Suits::Plain => [&kernels::COLS_PLAIN, &kernels::COLS_TILES.small],
                },
            );
        }
        drop_those_that_loop_too_long(&mut found, caps, |kernel| self.iterations(kernel));
        found
    }

    fn pixels(&self) -> usize {
        self.images * self.a.height * self.a.width
    }

    /// The product as the choice sees it.
    fn extents(&self) -> Extents {
        Extents { rows: vec![self.rows; self.groups], columns: self.columns(), steps: self.pixels().div_ceil(choice::TILE_STEP) }
    }

    /// Into how many parts a kernel splits the pixels: 1 for those that do not.
    fn splits(&self, kernel: &Kernel) -> usize {
        let splits = match kernel.name {
            _ if !kernels::is_split(kernel) => 1,
            "gemm_cols_broadcast" | "gemm_cols_quad" | "gemm_cols_scalar" => self.extents().software_splits(pixels_of_a_step(kernel)),
            _ => self.extents().splits(choice::SMALL),
        };
        if self.groups * splits <= 65_535 { splits } else { 1 }
    }

    /// Iterations of an invocation, over all its loops.
    fn iterations(&self, kernel: &Kernel) -> usize {
        let step = pixels_of_a_step(kernel);
        let steps = self.pixels().div_ceil(self.splits(kernel)).div_ceil(step);
        // A step of the tiles has a loop of four.
        if step == choice::TILE_STEP { 5 * steps } else { steps }
    }

    /// Appends the dispatch, with the forced kernel or the best candidate; two for a split product.
    pub fn lower(&self, lowering: &mut Lowering, [a, b, out]: [Operand; 3], forced: Option<&Kernel>) -> Result<()> {
        let kernel = choose(&self.candidates(&lowering.caps), forced)?;
        if self.groups > 65_535 {
            return Err(Error::input(format!("a convolution with {} groups; at most 65535 are supported: use fewer groups", self.groups)));
        }
        lowering.check_loops(kernel, self.iterations(kernel))?;
        let splits = self.splits(kernel);
        if splits == 1 {
            self.push(lowering, kernel, [a, b, out], splits);
            return Ok(());
        }
        let (columns, floats) = (self.columns(), self.groups * self.rows * self.columns());
        // The padding of B made that of the slabs zero, and no epilogue changes it.
        let slabs =
            Slabs { partials: lowering.scratch(splits * floats), splits, floats, pixel: columns, period: columns, channels: columns };
        self.push(lowering, kernel, [a, b, slabs.partials], splits);
        slabs.finish(lowering, &Epilogue::default(), out);
        Ok(())
    }

    fn push(&self, lowering: &mut Lowering, kernel: &'static Kernel, operands: [Operand; 3], splits: usize) {
        // Rows and columns of an item, items of a workgroup, and by how many pixels an invocation goes on.
        let ([rows, columns], per_group, advance) = match kernel.name {
            "gemm_cols_broadcast" | "gemm_cols_quad" => (choice::SOFTWARE, 1, 4),
            "gemm_cols_tile_large" => (choice::LARGE, 1, 8),
            "gemm_cols_tile_small" => (choice::SMALL, 1, 8),
            "gemm_cols_plain" => ([4, 8], 64, 1),
            _ => ([1, 1], 64, 1),
        };
        let [x, y, _] = grid(self.rows.div_ceil(rows) * self.columns().div_ceil(columns), per_group);
        lowering.push(Dispatch {
            kernel,
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&self.params(splits, advance)).to_vec(),
            operands: operands.to_vec(),
            workgroups: [x, y, (self.groups * splits) as u32],
            cost: self.size.cost,
        });
    }

    fn params(&self, splits: usize, advance: usize) -> GemmColsParams {
        let grid = self.a.height * self.a.width;
        GemmColsParams {
            pixels: self.pixels() as u32,
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
            step_image: (advance / grid) as u32,
            step_y: (advance % grid / self.a.width) as u32,
            step_x: (advance % self.a.width) as u32,
            splits: splits as u32,
            split_pixels: (self.pixels().div_ceil(choice::TILE_STEP).div_ceil(splits) * choice::TILE_STEP) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A weight gradient of one-pixel kernels over so many pixels.
    fn over(pixels: usize, groups: usize) -> Cols {
        let size = Pixels { height: 1, width: pixels, floats: 4 * groups };
        Cols { images: 1, groups, a: size, b: size, ..Cols::matrix(1, [3, 4], [3, 4]) }
    }

    fn software() -> Caps {
        Caps { software: true, fixed_subgroup: true, int64: true, ..Caps::minimal() }
    }

    #[test]
    fn no_loop_is_longer_than_software_adapters_allow() {
        for caps in [software(), Caps { quads: true, ..software() }, Caps { software: true, ..Caps::minimal() }] {
            for pixels in [1000, 16_384, 70_000, 300_000, 5_000_000] {
                let product = over(pixels, 1);
                let candidates = product.candidates(&caps);
                assert!(!candidates.is_empty());
                for kernel in candidates {
                    assert!(caps.can_loop(product.iterations(kernel)), "{pixels} pixels with {}", kernel.label());
                }
            }
        }
        let labels = |caps: &Caps| over(300_000, 1).candidates(caps).iter().map(|k| k.label()).collect::<Vec<_>>();
        assert_eq!(labels(&software())[0], "gemm_cols_broadcast/texture_split");
        assert!(!labels(&software()).contains(&"gemm_cols_broadcast/texture".to_string()));
        // GPUs run any loop to its end.
        assert!(labels(&Caps::minimal()).contains(&"gemm_cols_plain".to_string()));
    }

    #[test]
    fn groups_that_only_the_kernel_of_single_numbers_can_address_are_split_where_they_must_be() {
        let labels = |pixels, caps: &Caps| over(pixels, 2).candidates(caps).iter().map(|k| k.label()).collect::<Vec<_>>();
        assert_eq!(labels(1000, &software()), ["gemm_cols_scalar"]);
        assert_eq!(labels(60_000, &software()), ["gemm_cols_scalar", "gemm_cols_scalar/split"]);
        assert_eq!(labels(70_000, &software()), ["gemm_cols_scalar/split"]);
        assert_eq!(labels(70_000, &Caps::minimal()), ["gemm_cols_scalar", "gemm_cols_scalar/split"]);
        for pixels in [70_000, 1_000_000] {
            let product = over(pixels, 2);
            assert!(software().can_loop(product.iterations(&kernels::COLS_SCALAR_SPLIT)), "{pixels}");
        }
    }
}
