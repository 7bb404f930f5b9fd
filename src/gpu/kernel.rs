//! What a kernel is: hand-written WGSL text, its bindings and its needs. No tensor has a meaning here.

/// One binding of a kernel, in binding order from 0, all in group 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// `var<uniform>`: the kernel's parameter struct, fixed when the plan is built.
    Params,
    /// `var<uniform>` with a dynamic offset: the row of per-step scalars ([`crate::gpu::step::StepRow`]).
    Step,
    /// `var<storage, read>`.
    In,
    /// `texture_storage_2d<rgba32float, read>`: a copy of the operand, which the sequence makes when the operand has changed. Its vec4 `i`
    /// is texel `(i % TEXTURE_WIDTH, i / TEXTURE_WIDTH)`, see [`Kernel::TEXTURE_WIDTH`].
    Texture,
    /// `var<storage, read_write>`, fully overwritten by one dispatch.
    Out,
    /// `var<storage, read_write>`, state updated in place (Adam, EMA, running statistics).
    InOut,
}

/// An optional device feature that a kernel cannot run without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Subgroup operations, with a fixed subgroup size of [`Kernel::LANES`] proven by the start-up lane test.
    Subgroup,
    /// Quad operations in a workgroup of [`Kernel::QUAD`], whose lanes are one quad in invocation order, proven by a start-up test.
    Quad,
    /// 64-bit integers in shaders (eight floats a load).
    Int64,
    /// Conversion between f32 and f16 in storage (`pack2x16float`, `unpack2x16float`); arithmetic in f16 is not asked for.
    Float16,
    /// Cooperative matrices: the fragments of [`super::matrix::Fragments::KERNELS`], f16 in shared memory, and `subgroup_id`. An experimental feature
    /// of wgpu, which a device has only if it was asked for.
    Matrix,
}

/// A compute kernel: one entry point, named as the kernel, in the last of its parts.
///
/// `parts` are WGSL texts that are joined in the order given; most kernels have one. Where variants share a loader or an epilogue, the
/// list names the shared parts first.
#[derive(Debug)]
pub struct Kernel {
    /// Entry point, file stem of the last part, twin, and label in profilers.
    pub name: &'static str,
    /// Which variant of the kernel this is (`"vec4"`, `"u64"`, …); empty for kernels with only one.
    pub variant: &'static str,
    /// WGSL parts as (file stem, text), in the order in which they are joined.
    pub parts: &'static [(&'static str, &'static str)],
    /// Bindings in order.
    pub bindings: &'static [Bind],
    /// Workgroup size, as the WGSL text states it (checked by the shader contract test).
    pub workgroup: [u32; 3],
    /// Features that the kernel cannot run without.
    pub features: &'static [Feature],
}

impl Kernel {
    /// Lanes of a subgroup that the broadcast kernels are written for.
    pub const LANES: u32 = 8;

    /// Lanes of a quad, and of the subgroups of adapters with the narrowest ones.
    pub const QUAD: u32 = 4;

    /// Texels in a row of an operand that is bound as a texture.
    pub const TEXTURE_WIDTH: u32 = 1024;

    /// Most bytes of an operand that is bound as a texture: 8,192 rows, the most that WebGPU guarantees.
    pub const TEXTURE_BYTES: u64 = Self::TEXTURE_WIDTH as u64 * 8192 * 16;

    /// The joined WGSL text, with the directives that its features need in front.
    pub fn wgsl(&self) -> String {
        self.directives().to_string() + &self.parts.iter().map(|(_, text)| *text).collect::<Vec<_>>().join("\n")
    }

    /// The `enable` directives of the features, which no part has itself: a text may have them only in front of everything else.
    pub fn directives(&self) -> &'static str {
        if self.features.contains(&Feature::Matrix) { "enable f16;\nenable wgpu_cooperative_matrix;\n" } else { "" }
    }

    /// Name and variant: `"gemm_rows_broadcast/u64"`.
    pub fn label(&self) -> String {
        if self.variant.is_empty() { self.name.to_string() } else { format!("{}/{}", self.name, self.variant) }
    }
}

/// Includes a shader as a kernel part: `part!("adam")` is `("adam", text of shaders/adam.wgsl)`.
#[macro_export]
macro_rules! part {
    ($stem:literal) => {
        ($stem, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $stem, ".wgsl")))
    };
}

/// One dispatch of a kernel over operands of type `B` (virtual while a plan is built, buffer slices once it is bound).
#[derive(Debug, Clone)]
pub struct Dispatch<B> {
    /// The kernel that runs.
    pub kernel: &'static Kernel,
    /// Pipeline overrides by WGSL name, in name order.
    pub overrides: Vec<(&'static str, f64)>,
    /// Bytes of the kernel's parameter struct; empty if it has none.
    pub params: Vec<u8>,
    /// Storage operands in binding order ([`Bind::Params`] and [`Bind::Step`] take none).
    pub operands: Vec<B>,
    /// Number of workgroups.
    pub workgroups: [u32; 3],
    /// Arithmetic and traffic, for the printed plan and the profiler.
    pub cost: Cost,
}

impl<B> Dispatch<B> {
    /// The same dispatch over other operands.
    pub fn map<C>(self, f: impl FnMut(B) -> C) -> Dispatch<C> {
        Dispatch {
            kernel: self.kernel,
            overrides: self.overrides,
            params: self.params,
            operands: self.operands.into_iter().map(f).collect(),
            workgroups: self.workgroups,
            cost: self.cost,
        }
    }
}

/// Useful floating-point operations and compulsory traffic of a dispatch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations that the mathematics asks for (a multiply-add counts two); padding is not counted.
    pub flops: u64,
    /// Bytes read plus bytes written if every operand moves once.
    pub bytes: u64,
}

/// Workgroups for `items` invocations in groups of `per_group`, folded into y where x would pass 65,535.
///
/// A kernel recovers the flat index as `(wid.y * num_workgroups.x + wid.x) * WG_SIZE + lid`, and must guard it.
pub fn grid(items: usize, per_group: u32) -> [u32; 3] {
    let groups = items.div_ceil(per_group as usize).max(1);
    let y = groups.div_ceil(65_535);
    let x = groups.div_ceil(y);
    [x as u32, y as u32, 1]
}
