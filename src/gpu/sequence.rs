//! A recorded list of dispatches, replayed once a step.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use super::device::{Buffer, BufferRange, Gpu};
use super::kernel::{Bind, Dispatch};
use super::mirror::{Copy, Pool, Textures};
use super::pipeline::Pipeline;
use super::step::StepRow;
use crate::error::{Error, Result};
use rayon::prelude::*;

/// Offset alignment of uniform and storage bindings that every adapter accepts.
const ALIGN: u64 = 256;

/// Dispatches with their pipelines and bind groups, ready to be submitted again and again.
#[derive(Debug)]
pub struct Sequence {
    label: String,
    pub(super) dispatches: Vec<Recorded>,
    step_rows: Option<u32>,
    texture_bytes: u64,
}

/// A dispatch, ready to be encoded.
#[derive(Debug)]
pub(super) struct Recorded {
    pub label: String,
    /// Label of the pass that begins with it.
    pass_label: String,
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    /// Operands that must be copied to textures first.
    pub copies: Vec<Copy>,
    workgroups: [u32; 3],
    uses_step: bool,
}

impl Sequence {
    /// Number of dispatches.
    pub fn len(&self) -> usize {
        self.dispatches.len()
    }

    /// Bytes of the textures that mirror operands, without those that [`Gpu::sequences`] had for an earlier part.
    pub fn texture_bytes(&self) -> u64 {
        self.texture_bytes
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.dispatches.is_empty()
    }
}

impl Gpu {
    /// Compiles and binds labelled dispatches. `step_rows` is a uniform buffer of [`StepRow`]s, needed if a kernel has [`Bind::Step`].
    ///
    /// # Errors
    /// [`Error::Internal`], naming the dispatch, if its operands do not fit its kernel: number, alignment (offsets in multiples of 256
    /// bytes), size, a range outside its buffer, a parameter block of another size than the shader's struct, a buffer that is read and
    /// written by one dispatch, too many workgroups. What [`Gpu::pipeline`] and [`Gpu::buffer`] return otherwise.
    pub fn sequence(&self, label: &str, dispatches: Vec<(String, Dispatch<BufferRange>)>, step_rows: Option<&Buffer>) -> Result<Sequence> {
        self.sequence_in(&mut Pool::default(), label, dispatches, step_rows)
    }

    /// [`Gpu::sequence`] for each of several lists of dispatches, which share the textures that mirror operands.
    ///
    /// # Errors
    /// As [`Gpu::sequence`].
    pub fn sequences(
        &self,
        label: &str,
        parts: impl IntoIterator<Item = Vec<(String, Dispatch<BufferRange>)>>,
        step_rows: Option<&Buffer>,
    ) -> Result<Vec<Sequence>> {
        let mut pool = Pool::default();
        parts.into_iter().map(|dispatches| self.sequence_in(&mut pool, label, dispatches, step_rows)).collect()
    }

    fn sequence_in(
        &self,
        pool: &mut Pool,
        label: &str,
        dispatches: Vec<(String, Dispatch<BufferRange>)>,
        step_rows: Option<&Buffer>,
    ) -> Result<Sequence> {
        self.compile(&dispatches)?;
        let mut params = Vec::new();
        let mut blocks = Vec::with_capacity(dispatches.len());
        for (_, dispatch) in &dispatches {
            params.resize(params.len().next_multiple_of(ALIGN as usize), 0);
            blocks.push(params.len() as u64);
            params.extend_from_slice(&dispatch.params);
        }
        params.resize(params.len().next_multiple_of(16).max(16), 0);
        let uniform = self.uniform(&format!("{label}: params"), params.len() as u64)?;
        self.write(&uniform, 0, &params)?;
        let (textures, texture_bytes) = self.textures(label, &dispatches, pool)?;
        let recorded = dispatches
            .into_iter()
            .zip(blocks)
            .zip(textures)
            .map(|(((name, dispatch), offset), textures)| {
                let params = BufferRange { buffer: uniform.clone(), offset, len: dispatch.params.len() as u64 };
                self.record(name, &dispatch, &params, step_rows, textures)
            })
            .collect::<Result<_>>()?;
        let rows = step_rows.map(|buffer| (buffer.size() / StepRow::BYTES as u64).min(u64::from(u32::MAX)) as u32);
        Ok(Sequence { label: label.to_string(), dispatches: recorded, step_rows: rows, texture_bytes })
    }

    /// Builds the pipelines on all cores: drivers of GPUs compile here. lavapipe compiles at the first dispatch, one by one, and
    /// keeps the result in Mesa's own cache.
    fn compile(&self, dispatches: &[(String, Dispatch<BufferRange>)]) -> Result<()> {
        let mut seen = HashSet::new();
        let wanted: Vec<_> = dispatches
            .iter()
            .map(|(_, d)| (d.kernel, d.overrides.as_slice()))
            .filter(|(kernel, overrides)| {
                seen.insert((kernel.label(), overrides.iter().map(|(name, value)| (*name, value.to_bits())).collect::<Vec<_>>()))
            })
            .collect();
        wanted.par_iter().try_for_each(|(kernel, overrides)| self.pipeline(kernel, overrides).map(drop))
    }

    fn record(
        &self,
        label: String,
        dispatch: &Dispatch<BufferRange>,
        params: &BufferRange,
        step_rows: Option<&Buffer>,
        textures: Textures,
    ) -> Result<Recorded> {
        let kernel = dispatch.kernel;
        let wrong = |why: String| Error::internal(format!("dispatch '{label}' of kernel '{}': {why}", kernel.label()));
        let pipeline = self.pipeline(kernel, &dispatch.overrides)?;
        let most = self.limits.max_compute_workgroups_per_dimension;
        if dispatch.workgroups.iter().any(|n| *n == 0 || *n > most) {
            return Err(wrong(format!("{:?} workgroups; every dimension must be in 1..={most}", dispatch.workgroups)));
        }

        let mut operands = dispatch.operands.iter();
        let mut bound: Vec<(Bind, &BufferRange)> = Vec::new();
        let mut views = textures.views.iter();
        let mut entries = Vec::new();
        for (i, (bind, least)) in kernel.bindings.iter().zip(pipeline.module.sizes()).enumerate() {
            let (buffer, offset, size) = match bind {
                Bind::Params => {
                    if params.len != *least {
                        return Err(wrong(format!("{} bytes of parameters; the shader's struct has {least}", params.len)));
                    }
                    (&params.buffer, params.offset, params.len)
                }
                Bind::Step => {
                    let rows = step_rows.ok_or_else(|| wrong("reads the step row, but the sequence has none".to_string()))?;
                    (rows, 0, StepRow::BYTES as u64)
                }
                Bind::In | Bind::Texture | Bind::Out | Bind::InOut => {
                    let range = operands.next().ok_or_else(|| wrong(format!("no operand for binding {i}")))?;
                    self.check_operand(range, *least)
                        .map_err(|why| wrong(format!("binding {i} (buffer '{}'): {why}", range.buffer.label())))?;
                    if *bind == Bind::Texture {
                        let view = views.next().ok_or_else(|| wrong(format!("no texture for binding {i}")))?;
                        entries.push(wgpu::BindGroupEntry { binding: i as u32, resource: wgpu::BindingResource::TextureView(view) });
                        continue;
                    }
                    for (other, earlier) in &bound {
                        if let Some(why) = conflict(*bind, range, *other, earlier) {
                            return Err(wrong(format!("binding {i}: buffer '{}' {why}", range.buffer.label())));
                        }
                    }
                    bound.push((*bind, range));
                    (&range.buffer, range.offset, range.len)
                }
            };
            entries.push(wgpu::BindGroupEntry {
                binding: i as u32,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &buffer.raw,
                    offset,
                    size: std::num::NonZeroU64::new(size),
                }),
            });
        }
        if operands.next().is_some() {
            return Err(wrong(format!("{} operands; it takes {}", dispatch.operands.len(), bound.len() + textures.views.len())));
        }
        let bind_group = self.scoped(&kernel.label(), || {
            self.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(&label),
                layout: pipeline.module.bind_group_layout(),
                entries: &entries,
            })
        })?;
        let uses_step = kernel.bindings.contains(&Bind::Step);
        let pass_label = format!("pass from {label}");
        Ok(Recorded { label, pass_label, pipeline, bind_group, copies: textures.copies, workgroups: dispatch.workgroups, uses_step })
    }

    fn check_operand(&self, range: &BufferRange, least: u64) -> Result<(), String> {
        let BufferRange { buffer, offset, len } = range;
        if !offset.is_multiple_of(ALIGN) {
            return Err(format!("offset {offset} is not a multiple of {ALIGN}"));
        }
        if offset.checked_add(*len).is_none_or(|end| end > buffer.size()) {
            return Err(format!("{len} bytes at offset {offset} reach beyond its {} bytes", buffer.size()));
        }
        if *len < least || !len.is_multiple_of(4) {
            return Err(format!("{len} bytes; the shader needs at least {least}, in whole words"));
        }
        if *len > self.caps().max_binding {
            return Err(format!("{len} bytes; the adapter binds at most {}", self.caps().max_binding));
        }
        Ok(())
    }

    /// Runs the sequence once for each step row, in order, and returns without waiting; it waits for the submit before the last.
    ///
    /// # Errors
    /// [`Error::Internal`] if a row is not in the sequence's row buffer or the API rejects a command; [`Error::Environment`] if the device
    /// is lost or out of memory.
    pub fn submit(&self, sequence: &Sequence, rows: Range<u32>) -> Result<()> {
        self.faults.check()?;
        sequence.check_rows(&rows)?;
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(&sequence.label) });
        self.encode_rows(&mut encoder, sequence, rows);
        let commands = encoder.finish();
        self.throttle(|| self.queue.submit([commands]))
    }

    /// Encodes the sequence once for each step row.
    pub(super) fn encode_rows(&self, encoder: &mut wgpu::CommandEncoder, sequence: &Sequence, rows: Range<u32>) {
        for row in rows {
            // Copies need the encoder, so the dispatches between two of them share a pass.
            let mut rest = sequence.dispatches.as_slice();
            while let [first, others @ ..] = rest {
                first.copies.iter().for_each(|copy| copy.encode(encoder));
                let next = others.iter().position(|d| !d.copies.is_empty()).unwrap_or(others.len());
                let mut pass = encoder.begin_compute_pass(&pass_descriptor(&first.pass_label));
                rest[..=next].iter().for_each(|dispatch| self.encode(&mut pass, dispatch, row));
                rest = &others[next..];
            }
        }
    }

    pub(super) fn encode(&self, pass: &mut wgpu::ComputePass<'_>, dispatch: &Recorded, row: u32) {
        if self.options.debug {
            pass.push_debug_group(&dispatch.label);
        }
        pass.set_pipeline(&dispatch.pipeline.raw);
        if dispatch.uses_step {
            pass.set_bind_group(0, &dispatch.bind_group, &[row * StepRow::BYTES as u32]);
        } else {
            pass.set_bind_group(0, &dispatch.bind_group, &[]);
        }
        let [x, y, z] = dispatch.workgroups;
        pass.dispatch_workgroups(x, y, z);
        if self.options.debug {
            pass.pop_debug_group();
        }
    }
}

impl Sequence {
    pub(super) fn check_rows(&self, rows: &Range<u32>) -> Result<()> {
        let uses_step = self.dispatches.iter().any(|d| d.uses_step);
        match self.step_rows {
            Some(there) if uses_step && rows.end > there => {
                Err(Error::internal(format!("sequence '{}': rows {rows:?} of a buffer with {there}", self.label)))
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn pass_descriptor(label: &str) -> wgpu::ComputePassDescriptor<'_> {
    wgpu::ComputePassDescriptor { label: Some(label), timestamp_writes: None }
}

/// Why two operands of one dispatch must not meet, if so. Usage is tracked by buffer, so reading and writing one buffer is an error even
/// for ranges apart; writing two ranges of it is fine if they do not overlap.
fn conflict(a: Bind, left: &BufferRange, b: Bind, right: &BufferRange) -> Option<&'static str> {
    if left.buffer != right.buffer {
        return None;
    }
    match (a == Bind::In, b == Bind::In) {
        (true, true) => None,
        (false, false) => {
            let apart = left.offset + left.len <= right.offset || right.offset + right.len <= left.offset;
            if apart { None } else { Some("is written by two bindings whose ranges overlap") }
        }
        _ => Some("is both read and written by the dispatch"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing;

    #[test]
    fn overlap_is_found_by_range() {
        let Some(gpu) = testing::gpu() else { return };
        let buffer = gpu.buffer("y", 1024).unwrap();
        let part = |offset, len| BufferRange { buffer: buffer.clone(), offset, len };
        let (o, i) = (Bind::InOut, Bind::In);
        assert_eq!(conflict(o, &part(0, 256), Bind::Out, &part(256, 256)), None);
        assert!(conflict(o, &part(0, 260), Bind::Out, &part(256, 256)).is_some());
        assert!(conflict(o, &part(256, 256), Bind::Out, &part(0, 512)).is_some());
        assert!(conflict(i, &part(0, 256), o, &part(256, 256)).is_some());
        assert_eq!(conflict(i, &part(0, 256), i, &part(0, 256)), None);
        assert_eq!(conflict(o, &part(0, 256), o, &gpu.buffer("z", 256).unwrap().whole()), None);
    }
}
