//! The core for operands A whose k is contiguous: geometry, parameters and dispatch of the `gemm_rows_*` kernels.

use super::choice::{self, Extents, Suits};
use super::split::Slabs;
use super::{Epilogue, Size, choose, drop_those_that_loop_too_long, kernels, prefer};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Dispatch, Kernel, grid};
use crate::graph::lower::{Caps, Lowering, Operand};
use bytemuck::{Pod, Zeroable};

/// How B is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `[k][n]`.
    N,
    /// `[n][k]`.
    T,
}

/// A run of k: where it starts in A, in pixels from a grid point's, and in B, in floats.
#[derive(Debug, Clone)]
pub struct Segment {
    pub y: i64,
    pub x: i64,
    pub b_base: usize,
}

/// Rows of C that share their segments.
#[derive(Debug, Clone)]
pub struct Phase {
    /// Rows: images · grid height · grid width.
    pub rows: usize,
    /// Grid height and width.
    pub grid: [usize; 2],
    /// Pixel of C of grid point (0, 0).
    pub out: [usize; 2],
    /// First channel of A and of C.
    pub a_channel: usize,
    pub out_channel: usize,
    /// Columns of C that the phase stores, padding included.
    pub columns: usize,
    pub segments: Vec<Segment>,
}

/// Pixels of a tensor and the floats of one.
#[derive(Debug, Clone, Copy)]
pub struct Pixels {
    pub height: usize,
    pub width: usize,
    pub floats: usize,
}

/// A product `C[m, n] = sum over segments s and k of A(m, s, k) B(s, k, n)`; `shaders/gemm_rows.wgsl` explains the terms.
#[derive(Debug, Clone)]
pub struct Rows {
    pub form: Form,
    pub phases: Vec<Phase>,
    /// Columns after which channels start anew, and how many of them are not padding.
    pub period: usize,
    pub channels: usize,
    /// k of a segment, as stored in A.
    pub depth: usize,
    /// Rows of B that exist: k of a segment in form N, n in form T.
    pub b_extent: usize,
    pub b_stride: usize,
    pub a: Pixels,
    pub a_step: [usize; 2],
    pub out: Pixels,
    pub out_step: [usize; 2],
    /// A is stored `[k][m]` with this many floats between two k: the product of two transposed matrices.
    pub a_k_stride: Option<usize>,
    pub size: Size,
}

/// `GemmRowsParams` of `shaders/gemm_rows.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct GemmRowsParams {
    columns: u32,
    period: u32,
    channels: u32,
    depth: u32,
    b_extent: u32,
    b_stride: u32,
    a_height: u32,
    a_width: u32,
    a_pixel: u32,
    a_step_y: u32,
    a_step_x: u32,
    out_height: u32,
    out_width: u32,
    out_pixel: u32,
    out_step_y: u32,
    out_step_x: u32,
    bias: u32,
    activation: u32,
    slope: f32,
    mask: u32,
    mask_slope: f32,
    a_k_stride: u32,
    b_k_stride: u32,
    b_n_stride: u32,
}

impl Rows {
    /// A plain matrix product: A is `[m][a_stride]`, C is `[m][out_stride]`. Columns beyond `columns` are padding.
    pub fn matrix(form: Form, m: usize, [depth, a_stride]: [usize; 2], [columns, out_stride]: [usize; 2], b: [usize; 2]) -> Self {
        let [b_extent, b_stride] = b;
        let segment = Segment { y: 0, x: 0, b_base: 0 };
        let phase =
            Phase { rows: m, grid: [1, 1], out: [0, 0], a_channel: 0, out_channel: 0, columns: out_stride, segments: vec![segment] };
        Rows {
            form,
            phases: vec![phase],
            period: out_stride,
            channels: columns,
            depth,
            b_extent,
            b_stride,
            a: Pixels { height: 1, width: 1, floats: a_stride },
            a_step: [1, 1],
            out: Pixels { height: 1, width: 1, floats: out_stride },
            out_step: [1, 1],
            a_k_stride: None,
            size: Size::default(),
        }
    }

    fn columns(&self) -> usize {
        self.phases.iter().map(|c| c.columns).max().unwrap_or(0)
    }

    /// Whether every address of A at which four k start is a multiple of four.
    fn is_a_aligned(&self) -> bool {
        let fits = |n: usize| n.is_multiple_of(4);
        self.a_k_stride.is_none() && fits(self.a.floats) && fits(self.depth) && self.phases.iter().all(|p| fits(p.a_channel))
    }

    /// The same for four k or n of B.
    fn is_b_aligned(&self) -> bool {
        let fits = |n: usize| n.is_multiple_of(4);
        let is_run_aligned = match self.form {
            Form::N => self.phases.iter().all(|p| fits(p.columns)),
            Form::T => fits(self.depth),
        };
        is_run_aligned && fits(self.b_stride) && self.phases.iter().flat_map(|p| &p.segments).all(|s| fits(s.b_base))
    }

    /// The same for four columns of C, in phases that all have as many.
    fn is_out_aligned(&self) -> bool {
        let columns = self.columns();
        columns.is_multiple_of(4) && self.phases.iter().all(|p| p.columns == columns && p.out_channel.is_multiple_of(4))
    }

    /// The kernels that can run this product on an adapter, best first. The order depends on the adapter and the shape alone.
    pub fn candidates(&self, caps: &Caps) -> Vec<&'static Kernel> {
        let columns = self.columns();
        if !(self.is_a_aligned() && self.is_b_aligned() && self.is_out_aligned()) {
            return vec![&kernels::ROWS_SCALAR];
        }
        let (broadcast, narrow, plain, tiles) = match self.form {
            Form::N => (&kernels::ROWS_BROADCAST_N, &kernels::ROWS_NARROW_N, &kernels::ROWS_PLAIN_N, &kernels::ROWS_TILES_N),
            Form::T => (&kernels::ROWS_BROADCAST_T, &kernels::ROWS_NARROW_T, &kernels::ROWS_PLAIN_T, &kernels::ROWS_TILES_T),
        };
        let quad = match self.form {
            Form::N => &kernels::ROWS_QUAD_N,
            Form::T => &kernels::ROWS_QUAD_T,
        };
        let mut found: Vec<&'static Kernel> = Vec::new();
        if caps.fixed_subgroup {
            if caps.int64 {
                found.extend(broadcast.fitting(self.size.largest));
            }
            // With few columns the lanes of a broadcast tile would idle.
            let at = if columns <= 8 { 0 } else { found.len() };
            found.splice(at..at, narrow.fitting(self.size.largest));
        }
        // Shared memory is a loss on software adapters, which have none: there, the kernels with tiles come last.
        found.push(plain);
        if caps.quads {
            found.insert(found.len() - usize::from(columns > 8), quad);
        }
        found.extend([&tiles.large, &tiles.small]);
        found.extend((self.splits(&tiles.small_split) > 1).then_some(&tiles.small_split));
        if columns <= choice::FEW {
            found.push(&tiles.reduce);
            found.extend((self.splits(&tiles.reduce_split) > 1).then_some(&tiles.reduce_split));
        }
        if !caps.software {
            let extents = self.extents(choice::TILE_STEP);
            prefer(
                &mut found,
                match extents.suits() {
                    Suits::Large => [&tiles.large, &tiles.small],
                    Suits::Small => [&tiles.small, plain],
                    Suits::SmallSplit => [&tiles.small_split, &tiles.small],
                    Suits::Reduce if extents.is_worth_splitting(choice::REDUCE) => [&tiles.reduce_split, &tiles.reduce],
                    Suits::Reduce => [&tiles.reduce, plain],
                    Suits::Plain => [plain, &tiles.small],
                },
            );
        }
        drop_those_that_loop_too_long(&mut found, caps, |kernel| self.iterations(kernel));
        found
    }

    /// The product as the choice sees it, in steps of so many k.
    fn extents(&self, step: usize) -> Extents {
        let segments = self.phases.iter().map(|p| p.segments.len()).max().unwrap_or(0);
        let rows = self.phases.iter().map(|p| p.rows).collect();
        Extents { rows, columns: self.columns(), steps: segments * self.depth.div_ceil(step) }
    }

    /// Into how many parts a kernel splits the sums: 1 for those that do not.
    fn splits(&self, kernel: &Kernel) -> usize {
        let geometry = Geometry::of(kernel);
        // Groups share the pixels of C, where phases have their own: slabs are only as large as C for the latter.
        let is_grouped = self.phases.iter().any(|p| p.out_channel != 0);
        match geometry.step {
            Some(step) if kernels::is_split(kernel) && !is_grouped => {
                let splits = self.extents(step).splits(geometry.tile);
                if self.phases.len() * splits <= 65_535 { splits } else { 1 }
            }
            _ => 1,
        }
    }

    /// Iterations of an invocation, over all its loops.
    fn iterations(&self, kernel: &Kernel) -> usize {
        if let Some(step) = Geometry::of(kernel).step {
            // Tiles have a loop of four in each step.
            return 5 * self.extents(step).steps.div_ceil(self.splits(kernel));
        }
        let run = match kernel.name {
            "gemm_rows_narrow" => 8,
            "gemm_rows_scalar" => 1,
            _ => 4,
        };
        let segments = self.phases.iter().map(|p| p.segments.len()).max().unwrap_or(0);
        segments * (1 + self.depth.div_ceil(run))
    }

    /// Appends the dispatch, with the forced kernel or the best candidate; two for a split product.
    pub fn lower(&self, lowering: &mut Lowering, [a, b, out]: [Operand; 3], epilogue: &Epilogue, forced: Option<&Kernel>) -> Result<()> {
        let kernel = choose(&self.candidates(&lowering.caps), forced)?;
        if self.phases.len() > 65_535 {
            return Err(Error::input(format!(
                "a convolution with {} groups and output phases; at most 65535 are supported: use fewer groups or a smaller stride",
                self.phases.len()
            )));
        }
        lowering.check_loops(kernel, self.iterations(kernel))?;
        let splits = self.splits(kernel);
        if splits == 1 {
            self.push(lowering, kernel, [a, b, out], epilogue, splits);
            return Ok(());
        }
        let slabs = Slabs {
            partials: lowering.scratch(splits * self.out_len()),
            splits,
            floats: self.out_len(),
            pixel: self.out.floats,
            period: self.period,
            channels: self.channels,
        };
        self.push(lowering, kernel, [a, b, slabs.partials], &Epilogue::default(), splits);
        slabs.finish(lowering, epilogue, out);
        Ok(())
    }

    /// Floats of C, if there is one group.
    fn out_len(&self) -> usize {
        self.phases.iter().map(|p| p.rows).sum::<usize>() * self.out.floats
    }

    fn push(&self, lowering: &mut Lowering, kernel: &'static Kernel, [a, b, out]: [Operand; 3], epilogue: &Epilogue, splits: usize) {
        let Geometry { tile: [tile_rows, tile_columns], per_group, step } = Geometry::of(kernel);
        let tiles = |p: &Phase| p.rows.div_ceil(tile_rows) * self.columns().div_ceil(tile_columns);
        let [x, y, _] = grid(self.phases.iter().map(tiles).max().unwrap_or(0), per_group);
        let walk = lowering.constant(self.walk(step, splits));
        // A binding that is not read still needs a buffer, or a texture: whatever is bound anyway serves.
        let bias = epilogue.bias.unwrap_or(walk);
        let unread = if kernel.bindings.contains(&Bind::Texture) { a } else { walk };
        let saved = epilogue.mask.map_or(unread, |(saved, _)| saved);
        lowering.push(Dispatch {
            kernel,
            overrides: epilogue.overrides(),
            params: bytemuck::bytes_of(&self.params(epilogue)).to_vec(),
            operands: vec![a, b, walk, bias, saved, out],
            workgroups: [x, y, (self.phases.len() * splits) as u32],
            cost: self.size.cost,
        });
    }

    fn params(&self, epilogue: &Epilogue) -> GemmRowsParams {
        let mask = epilogue.mask.map(|(_, activation)| activation);
        let (b_k_stride, b_n_stride) = match self.form {
            Form::N => (self.b_stride, 1),
            Form::T => (1, self.b_stride),
        };
        GemmRowsParams {
            columns: self.columns() as u32,
            period: self.period as u32,
            channels: self.channels as u32,
            depth: self.depth as u32,
            b_extent: self.b_extent as u32,
            b_stride: self.b_stride as u32,
            a_height: self.a.height as u32,
            a_width: self.a.width as u32,
            a_pixel: self.a.floats as u32,
            a_step_y: self.a_step[0] as u32,
            a_step_x: self.a_step[1] as u32,
            out_height: self.out.height as u32,
            out_width: self.out.width as u32,
            out_pixel: self.out.floats as u32,
            out_step_y: self.out_step[0] as u32,
            out_step_x: self.out_step[1] as u32,
            bias: u32::from(epilogue.bias.is_some()),
            activation: epilogue.activation.code(),
            slope: epilogue.activation.slope(),
            mask: mask.map_or(0, |m| m.code()),
            mask_slope: mask.map_or(0.0, |m| m.slope()),
            a_k_stride: self.a_k_stride.unwrap_or(1) as u32,
            b_k_stride: b_k_stride as u32,
            b_n_stride: b_n_stride as u32,
        }
    }

    /// The table `walk` of `shaders/gemm_rows.wgsl`, for a kernel that goes by steps of so many k, if it does. A split product has each phase
    /// once for each part of the steps, and every part writes to a slab of its own.
    fn walk(&self, step: Option<usize>, splits: usize) -> Vec<u8> {
        let mut table: Vec<[i32; 4]> = Vec::new();
        let segment_steps = step.map_or(0, |k| self.depth.div_ceil(k));
        let part = step.map_or(0, |k| self.extents(k).steps.div_ceil(splits));
        for split in 0..splits {
            let mut first_segment = 3 * self.phases.len() * splits;
            let slab = if splits > 1 { split * self.out_len() } else { 0 };
            for c in &self.phases {
                let steps = c.segments.len() * segment_steps;
                let first_step = (split * part).min(steps);
                let entries = [
                    [c.rows, c.grid[0], c.grid[1], first_segment],
                    [c.segments.len(), c.out[0], c.out[1], c.a_channel],
                    [c.out_channel + slab, c.columns, first_step, part.min(steps - first_step)],
                ];
                table.extend(entries.map(|entry| entry.map(|v| v as i32)));
                first_segment += c.segments.len();
            }
        }
        for s in self.phases.iter().flat_map(|c| &c.segments) {
            table.push([s.y as i32, s.x as i32, s.b_base as i32, 0]);
        }
        bytemuck::cast_slice(&table).to_vec()
    }
}

/// How a kernel of this core cuts a product.
struct Geometry {
    /// Rows and columns of a tile.
    tile: [usize; 2],
    /// Tiles of a workgroup.
    per_group: u32,
    /// k of a step, if the walk says which steps are summed.
    step: Option<usize>,
}

impl Geometry {
    fn of(kernel: &Kernel) -> Self {
        let (tile, per_group, step) = match kernel.name {
            "gemm_rows_narrow" => ([32, 4], 1, None),
            "gemm_rows_broadcast" | "gemm_rows_quad" => ([32, 32], 1, None),
            "gemm_rows_tile_large" => (choice::LARGE, 1, Some(choice::TILE_STEP)),
            "gemm_rows_tile_small" | "gemm_rows_matrix" => (choice::SMALL, 1, Some(choice::TILE_STEP)),
            "gemm_rows_reduce" => (choice::REDUCE, 1, Some(choice::REDUCE_STEP)),
            "gemm_rows_plain" => ([4, 8], 64, None),
            _ => ([1, 1], 64, None),
        };
        Geometry { tile, per_group, step }
    }
}
