//! Textures that mirror operands.
//!
//! A software adapter reads storage buffers lane by lane and component by component, and textures by whole vectors: up to eighteen times
//! faster. A kernel asks for an operand as a texture by [`Bind::Texture`], and the sequence copies the operand there when it has changed. A copy
//! is a memcpy on such an adapter and costs less than one pass of a kernel over the buffer.

use super::device::{BufferRange, Gpu};
use super::kernel::{Bind, Dispatch, Kernel};
use crate::error::{Error, Result};

/// Bytes of a vec4 of f32.
const TEXEL: u64 = 16;
/// Bytes of an operand in a row of texels.
const ROW: u64 = Kernel::TEXTURE_WIDTH as u64 * TEXEL;
/// Texels of a row: four more than are used, one cache line. In rows of 16 KiB the rows of a matrix whose width is a power of two would all meet in the
/// same few lines of a first-level cache. Copies never reach them, so that they stay zero, as all memory of WebGPU begins: kernels read them for what
/// does not exist.
const PITCH: u32 = Kernel::TEXTURE_WIDTH + 4;

/// A range of a buffer, bound or still planned, as far as mirrors depend on it.
pub trait Region: Clone + PartialEq {
    /// Its length in bytes.
    fn bytes(&self) -> u64;

    /// Whether writing to `other` changes it.
    fn overlaps(&self, other: &Self) -> bool;
}

impl Region for BufferRange {
    fn bytes(&self) -> u64 {
        self.len
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.buffer == other.buffer && self.offset < other.offset + other.len && other.offset < self.offset + self.len
    }
}

/// A state of an operand that kernels read from a texture: copied before one dispatch, and valid until its last use.
#[derive(Debug)]
struct Mirror<R> {
    range: R,
    first: usize,
    last: usize,
}

/// A texture that mirrors take turns in.
#[derive(Debug)]
struct Place {
    rows: u64,
    /// The first dispatch that may use it anew.
    free_from: usize,
}

/// Textures that sequences which never run at once take turns in.
#[derive(Debug, Default)]
pub(super) struct Pool {
    places: Vec<Place>,
    textures: Vec<wgpu::Texture>,
}

/// A copy from a buffer to a texture.
#[derive(Debug)]
pub(super) struct Copy {
    source: BufferRange,
    texture: wgpu::Texture,
}

/// What one dispatch needs: copies before it, and a view for each of its texture bindings in order.
#[derive(Debug, Default)]
pub(super) struct Textures {
    pub copies: Vec<Copy>,
    pub views: Vec<wgpu::TextureView>,
}

/// The mirrors that a list of dispatches needs, and for each dispatch the mirrors of its texture bindings, in order.
///
/// A mirror serves later dispatches until one writes to its range. What was written before the list starts is unknown, so that every range is copied before
/// its first use.
fn plan<R: Region>(dispatches: &[(String, Dispatch<R>)]) -> (Vec<Mirror<R>>, Vec<Vec<usize>>) {
    let mut mirrors: Vec<Mirror<R>> = Vec::new();
    let mut valid: Vec<usize> = Vec::new();
    let mut uses = Vec::with_capacity(dispatches.len());
    for (index, (_, dispatch)) in dispatches.iter().enumerate() {
        let binds = dispatch.kernel.bindings.iter().filter(|b| !matches!(b, Bind::Params | Bind::Step));
        let operands: Vec<(&Bind, &R)> = binds.zip(&dispatch.operands).collect();
        let mut used = Vec::new();
        for (_, range) in operands.iter().filter(|(bind, _)| **bind == Bind::Texture) {
            let found = valid.iter().copied().find(|&m| mirrors[m].range == **range);
            let mirror = found.unwrap_or_else(|| {
                mirrors.push(Mirror { range: (*range).clone(), first: index, last: index });
                valid.push(mirrors.len() - 1);
                mirrors.len() - 1
            });
            mirrors[mirror].last = index;
            used.push(mirror);
        }
        for (_, written) in operands.iter().filter(|(bind, _)| matches!(bind, Bind::Out | Bind::InOut)) {
            valid.retain(|&m| !mirrors[m].range.overlaps(written));
        }
        uses.push(used);
    }
    (mirrors, uses)
}

/// Gives each mirror a texture that no other mirror needs at the time: the smallest that is large enough, else a new one.
fn share<R: Region>(mirrors: &[Mirror<R>], places: &mut Vec<Place>) -> Vec<usize> {
    places.iter_mut().for_each(|place| place.free_from = 0);
    mirrors
        .iter()
        .map(|mirror| {
            let rows = mirror.range.bytes().div_ceil(ROW);
            let fitting = places.iter().enumerate().filter(|(_, p)| p.rows >= rows && p.free_from <= mirror.first);
            let place = fitting.min_by_key(|(_, p)| p.rows).map(|(i, _)| i).unwrap_or_else(|| {
                places.push(Place { rows, free_from: 0 });
                places.len() - 1
            });
            places[place].free_from = mirror.last + 1;
            place
        })
        .collect()
}

fn total_bytes(places: &[Place]) -> u64 {
    places.iter().map(|place| place.rows * u64::from(PITCH) * TEXEL).sum()
}

/// Bytes of the textures that [`Gpu::sequences`] will allocate for these parts.
pub fn texture_bytes<'a, R: Region + 'a>(parts: impl IntoIterator<Item = &'a [(String, Dispatch<R>)]>) -> u64 {
    let mut places = Vec::new();
    for dispatches in parts {
        share(&plan(dispatches).0, &mut places);
    }
    total_bytes(&places)
}

impl Gpu {
    /// Finds textures for a list of dispatches in the pool, which grows where it must. Returns what each dispatch needs, and the bytes of
    /// new textures.
    pub(super) fn textures(
        &self,
        label: &str,
        dispatches: &[(String, Dispatch<BufferRange>)],
        pool: &mut Pool,
    ) -> Result<(Vec<Textures>, u64)> {
        let (mirrors, uses) = plan(dispatches);
        for mirror in &mirrors {
            let BufferRange { buffer, offset, len } = &mirror.range;
            if !len.is_multiple_of(TEXEL) || !offset.is_multiple_of(TEXEL) || *len > Kernel::TEXTURE_BYTES {
                return Err(Error::internal(format!(
                    "dispatch '{}' reads {len} bytes at offset {offset} of buffer '{}' as a texture, which takes whole vec4s and at most {} bytes",
                    dispatches[mirror.first].0,
                    buffer.label(),
                    Kernel::TEXTURE_BYTES
                )));
            }
        }
        let Pool { places, textures } = pool;
        let chosen = share(&mirrors, places);
        let first_new = textures.len();
        for (index, place) in places.iter().enumerate().skip(first_new) {
            // Named by the first of the operands that take turns in it.
            let first = mirrors.iter().zip(&chosen).find(|(_, place)| **place == index);
            let operand = first.map_or(label, |(mirror, _)| mirror.range.buffer.label());
            let label = format!("texture of {operand}");
            textures.push(self.scoped(&label, || {
                self.device.create_texture(&wgpu::TextureDescriptor {
                    label: Some(&label),
                    size: extent(PITCH.into(), place.rows),
                    mip_level_count: 1,
                    sample_count: 1,
                    dimension: wgpu::TextureDimension::D2,
                    format: wgpu::TextureFormat::Rgba32Float,
                    usage: wgpu::TextureUsages::STORAGE_BINDING | wgpu::TextureUsages::COPY_DST,
                    view_formats: &[],
                })
            })?);
        }
        let needs = uses
            .into_iter()
            .enumerate()
            .map(|(index, used)| {
                let mut fresh: Vec<usize> = used.iter().copied().filter(|&m| mirrors[m].first == index).collect();
                fresh.sort_unstable();
                fresh.dedup();
                Textures {
                    copies: fresh
                        .into_iter()
                        .map(|m| Copy { source: mirrors[m].range.clone(), texture: textures[chosen[m]].clone() })
                        .collect(),
                    views: used.iter().map(|&m| textures[chosen[m]].create_view(&Default::default())).collect(),
                }
            })
            .collect();
        Ok((needs, total_bytes(&places[first_new..])))
    }
}

fn extent(width: u64, height: u64) -> wgpu::Extent3d {
    wgpu::Extent3d { width: width as u32, height: height as u32, depth_or_array_layers: 1 }
}

impl Copy {
    /// Records the copy: the whole rows of texels, then what is left.
    pub(super) fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        let rows = self.source.len / ROW;
        let rest = self.source.len % ROW / TEXEL;
        for (first, size) in [(0, extent(Kernel::TEXTURE_WIDTH.into(), rows)), (rows, extent(rest, 1))] {
            if size.width == 0 || size.height == 0 {
                continue;
            }
            let source = wgpu::TexelCopyBufferInfo {
                buffer: &self.source.buffer.raw,
                layout: wgpu::TexelCopyBufferLayout {
                    offset: self.source.offset + first * ROW,
                    bytes_per_row: Some(ROW as u32),
                    rows_per_image: None,
                },
            };
            let target = wgpu::TexelCopyTextureInfo {
                texture: &self.texture,
                mip_level: 0,
                origin: wgpu::Origin3d { x: 0, y: first as u32, z: 0 },
                aspect: wgpu::TextureAspect::All,
            };
            encoder.copy_buffer_to_texture(source, target, size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::kernel::Cost;
    use crate::gpu::testing;

    /// y[i] = x[i] + y[i], x from a texture.
    const TEXT: &str = "
        struct P { n: u32, reserved0: u32, reserved1: u32, reserved2: u32 }
        @group(0) @binding(0) var<uniform> params: P;
        @group(0) @binding(1) var x: texture_storage_2d<rgba32float, read>;
        @group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
        @compute @workgroup_size(64)
        fn add_texture(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < params.n { y[id.x] += textureLoad(x, vec2<u32>(id.x % 1024u, id.x / 1024u)); }
        }";

    static ADD_TEXTURE: Kernel = Kernel {
        name: "add_texture",
        variant: "",
        parts: &[("add_texture", TEXT)],
        bindings: &[Bind::Params, Bind::Texture, Bind::InOut],
        workgroup: [64, 1, 1],
        features: &[],
    };

    fn add(x: &BufferRange, y: &BufferRange) -> (String, Dispatch<BufferRange>) {
        let n = (x.len / TEXEL) as u32;
        let dispatch = Dispatch {
            kernel: &ADD_TEXTURE,
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&[n, 0, 0, 0]).to_vec(),
            operands: vec![x.clone(), y.clone()],
            workgroups: [n.div_ceil(64), 1, 1],
            cost: Cost::default(),
        };
        ("add".to_string(), dispatch)
    }

    /// Three whole rows and a part of one, behind an offset; fewer than a row; exactly one row.
    #[test]
    fn operands_are_copied_when_they_have_changed() {
        let Some(gpu) = testing::gpu() else { return };
        for (floats, offset) in [(4 * (3 * 1024 + 5), 256), (12, 0), (4096, 512)] {
            let range = |name: &str, value: f32| {
                let buffer = gpu.buffer(name, offset + floats * 4).unwrap();
                let values: Vec<f32> = (0..floats).map(|i| value * i as f32).collect();
                gpu.write(&buffer, offset, bytemuck::cast_slice(&values)).unwrap();
                BufferRange { buffer, offset, len: floats * 4 }
            };
            let (x, y, z) = (range("x", 1.0), range("y", 10.0), range("z", 100.0));
            // y = 11, z = 101, z = 112, y = 12, z = 124: x is copied once, y twice, because it changes.
            let list = vec![add(&x, &y), add(&x, &z), add(&y, &z), add(&x, &y), add(&y, &z)];
            let (mirrors, uses) = plan(&list);
            assert_eq!(uses, [[0], [0], [1], [0], [2]]);
            assert_eq!(mirrors.len(), 3);
            let sequence = gpu.sequence("mirrors", list, None).unwrap();
            assert_eq!(
                sequence.texture_bytes(),
                2 * (floats * 4).div_ceil(ROW) * u64::from(PITCH) * TEXEL,
                "the two states of y share a texture"
            );
            gpu.submit(&sequence, 0..1).unwrap();
            let got: Vec<f32> = bytemuck::pod_collect_to_vec(&gpu.read(&z.buffer, offset, floats * 4).unwrap());
            assert!(got.iter().enumerate().all(|(i, v)| *v == 124.0 * i as f32), "{floats} floats");
            // The second run starts from what the first has left: y = 12 + 1 + 1, z = 124 + 1 + 13 + 14.
            gpu.submit(&sequence, 0..1).unwrap();
            let got: Vec<f32> = bytemuck::pod_collect_to_vec(&gpu.read(&z.buffer, offset, floats * 4).unwrap());
            assert!(got.iter().enumerate().all(|(i, v)| *v == 152.0 * i as f32), "{floats} floats, again");
            // Timing runs the same copies: y = 14 + 1 + 1, z = 152 + 1 + 15 + 16.
            assert_eq!(gpu.submit_timed(&sequence, 0, gpu.clock()).unwrap().spans.len(), 5);
            let got: Vec<f32> = bytemuck::pod_collect_to_vec(&gpu.read(&z.buffer, offset, floats * 4).unwrap());
            assert!(got.iter().enumerate().all(|(i, v)| *v == 184.0 * i as f32), "{floats} floats, timed");
        }
    }

    #[test]
    fn ranges_that_are_no_texels_are_refused() {
        let Some(gpu) = testing::gpu() else { return };
        let x = BufferRange { len: 24, ..gpu.buffer("x", 64).unwrap().whole() };
        let y = gpu.buffer("y", 64).unwrap().whole();
        let error = gpu.sequence("bad", vec![add(&x, &y)], None).unwrap_err().to_string();
        assert!(error.contains("reads 24 bytes at offset 0 of buffer 'x' as a texture"), "{error}");
    }
}
