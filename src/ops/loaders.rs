//! Memory-bound kernels with their loaders.
//!
//! A GPU moves a vec4 as fast as anything, so one form serves all GPUs. A software adapter walks storage buffers lane by lane and word by word, so that the
//! loads and stores are what such a kernel costs there: eight floats as four 64-bit words go twice as fast as two vec4s, and textures, which are read by
//! whole vectors, three to five times as fast again as those. All forms do the same arithmetic in the same order and give equal bits.

use crate::gpu::kernel::Kernel;
use crate::graph::lower::Caps;

/// Copying an operand to a texture costs a software adapter about 35 us and a memcpy. Measured on lavapipe 22.3, a copy kernel takes equally long from a
/// texture and from a buffer at twice as many bytes, and two thirds of the time at eight times as many; the last stage of a sum, where few invocations read
/// it all, takes half the time already here.
const WORTH_A_COPY: u64 = 32 << 10;

/// How a kernel moves its operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loading {
    /// Items of eight floats; large inputs come from textures.
    Texture,
    /// Items of eight floats from and to buffers, as 64-bit words.
    U64,
    /// Items of four floats from and to buffers.
    Vec4,
}

impl Loading {
    /// For a walk over operands of at most `floats` floats, in runs of `unit` that whole items must make up (a row, or all of it).
    pub fn new(caps: &Caps, unit: usize, floats: usize) -> Self {
        if !(caps.int64 && caps.software && unit.is_multiple_of(8)) {
            Loading::Vec4
        } else if worth_a_texture(floats) {
            Loading::Texture
        } else {
            Loading::U64
        }
    }

    /// vec4s of an item.
    pub fn width(self) -> usize {
        if self == Loading::Vec4 { 1 } else { 2 }
    }
}

/// Whether an operand is large enough for a copy to pay, and fits a texture.
fn worth_a_texture(floats: usize) -> bool {
    (WORTH_A_COPY..=Kernel::TEXTURE_BYTES).contains(&(4 * floats as u64))
}

/// A kernel over items of four or eight floats.
#[derive(Debug)]
pub struct Loaders {
    /// Eight floats an item, from textures.
    pub texture: Kernel,
    /// Eight floats an item, from buffers.
    pub u64: Kernel,
    /// Four floats an item, from buffers.
    pub vec4: Kernel,
}

impl Loaders {
    /// The form that loads so.
    pub(super) fn kernel(&'static self, loading: Loading) -> &'static Kernel {
        match loading {
            Loading::Texture => &self.texture,
            Loading::U64 => &self.u64,
            Loading::Vec4 => &self.vec4,
        }
    }
}

/// A kernel whose items are always four floats, with its table entry from buffers and from textures.
#[derive(Debug)]
pub struct NarrowLoaders {
    /// From textures.
    pub texture: Kernel,
    /// From buffers.
    pub vec4: Kernel,
}

impl NarrowLoaders {
    /// The form for operands of at most `floats` floats.
    pub(super) fn kernel(&'static self, caps: &Caps, floats: usize) -> &'static Kernel {
        if caps.software && worth_a_texture(floats) { &self.texture } else { &self.vec4 }
    }
}

/// The forms of a kernel: its name; the parts that read its inputs from textures, and from buffers; the parts between those and its own;
/// and the bindings with textures, and without.
macro_rules! loaders {
    ($name:literal, [$($texture:literal),*], [$($buffer:literal),*], [$($part:literal),*], $textures:expr, $buffers:expr) => {
        $crate::ops::loaders::Loaders {
            texture: $crate::gpu::kernel::Kernel {
                name: $name,
                variant: "texture",
                parts: &[
                    $crate::part!("item_u64"),
                    $crate::part!("texel"),
                    $($crate::part!($texture),)*
                    $($crate::part!($part),)*
                    $crate::part!($name),
                ],
                bindings: $textures,
                workgroup: [64, 1, 1],
                features: &[$crate::gpu::kernel::Feature::Int64],
            },
            u64: $crate::gpu::kernel::Kernel {
                name: $name,
                variant: "u64",
                parts: &[$crate::part!("item_u64"), $($crate::part!($buffer),)* $($crate::part!($part),)* $crate::part!($name)],
                bindings: $buffers,
                workgroup: [64, 1, 1],
                features: &[$crate::gpu::kernel::Feature::Int64],
            },
            vec4: $crate::gpu::kernel::Kernel {
                name: $name,
                variant: "vec4",
                parts: &[$crate::part!("item_vec4"), $($crate::part!($buffer),)* $($crate::part!($part),)* $crate::part!($name)],
                bindings: $buffers,
                workgroup: [64, 1, 1],
                features: &[],
            },
        }
    };
}
pub(super) use loaders;

/// As [`loaders`], for a kernel whose items are always four floats.
macro_rules! narrow_loaders {
    ($name:literal, [$($texture:literal),*], [$($buffer:literal),*], $textures:expr, $buffers:expr) => {
        $crate::ops::loaders::NarrowLoaders {
            texture: $crate::gpu::kernel::Kernel {
                name: $name,
                variant: "texture",
                parts: &[$crate::part!("item_vec4"), $crate::part!("texel"), $($crate::part!($texture),)* $crate::part!($name)],
                bindings: $textures,
                workgroup: [64, 1, 1],
                features: &[],
            },
            vec4: $crate::gpu::kernel::Kernel {
                name: $name,
                variant: "vec4",
                parts: &[$crate::part!("item_vec4"), $($crate::part!($buffer),)* $crate::part!($name)],
                bindings: $buffers,
                workgroup: [64, 1, 1],
                features: &[],
            },
        }
    };
}
pub(super) use narrow_loaders;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_items_and_textures_are_for_software_adapters() {
        let software = Caps { int64: true, software: true, ..Caps::minimal() };
        let (large, largest) = (8 << 10, (Kernel::TEXTURE_BYTES / 4) as usize);
        assert_eq!(Loading::new(&software, 64, 64), Loading::U64);
        assert_eq!(Loading::new(&software, 8, large), Loading::Texture);
        assert_eq!(Loading::new(&software, 8, largest), Loading::Texture);
        assert_eq!(Loading::new(&software, 8, largest + 8), Loading::U64);
        assert_eq!(Loading::new(&software, 4, large), Loading::Vec4);
        for other in [Caps { software: false, ..software.clone() }, Caps { int64: false, ..software }] {
            assert_eq!(Loading::new(&other, 8, large), Loading::Vec4);
        }
    }
}
