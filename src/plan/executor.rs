//! Replays a plan on a GPU.

use super::compile::Plan;
use crate::error::Result;
use crate::gpu::{Buffer, BufferRange, Gpu, Sequence};
use crate::graph::lower::{BufferId, Place};
use std::collections::HashMap;
use std::ops::Range;

/// A plan bound to buffers.
pub struct Executor {
    sequence: Sequence,
    buffers: Vec<Buffer>,
    own_bytes: u64,
}

impl Executor {
    /// Allocates the plan's buffers and builds pipelines and bind groups.
    ///
    /// `shared` names declared buffers that exist already (another executor's stores); they must be as long as declared. `step_rows` holds the rows of
    /// [`crate::gpu::step::StepRow`] that [`Executor::submit`] refers to.
    pub fn new(gpu: &Gpu, label: &str, plan: &Plan, shared: &HashMap<String, Buffer>, step_rows: Option<&Buffer>) -> Result<Self> {
        let mut own_bytes = 0;
        let mut buffers: Vec<Option<Buffer>> = vec![None; plan.buffers.len()];
        // The largest first: the driver's blocks of memory are then filled with the least left over.
        let mut order: Vec<usize> = (0..plan.buffers.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(plan.buffers[i].words));
        for i in order {
            let decl = &plan.buffers[i];
            if let Some(buffer) = shared.get(&decl.name).filter(|_| decl.declared) {
                buffers[i] = Some(buffer.clone());
                continue;
            }
            let bytes = decl.words as u64 * 4;
            let buffer = gpu.buffer(&decl.name, bytes)?;
            own_bytes += bytes;
            if let Some(content) = &decl.constant {
                gpu.write(&buffer, 0, content)?;
            }
            buffers[i] = Some(buffer);
        }
        let buffers: Vec<Buffer> = buffers.into_iter().flatten().collect();
        let dispatches = plan
            .dispatches
            .iter()
            .map(|(label, dispatch)| {
                let dispatch = dispatch.clone().map(|slot| BufferRange {
                    buffer: buffers[slot.buffer].clone(),
                    offset: slot.offset as u64 * 4,
                    len: slot.len as u64 * 4,
                });
                (label.clone(), dispatch)
            })
            .collect();
        let sequence = gpu.sequence(label, dispatches, step_rows)?;
        Ok(Executor { sequence, buffers, own_bytes })
    }

    /// Submits one run of the plan for each row of the step table.
    pub fn submit(&self, gpu: &Gpu, rows: Range<u32>) -> Result<()> {
        gpu.submit(&self.sequence, rows)
    }

    /// The bound sequence, for timing.
    pub fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    /// A declared buffer.
    pub fn buffer(&self, id: BufferId) -> &Buffer {
        &self.buffers[id.0]
    }

    /// Reads a range of a declared buffer as f32.
    pub fn read(&self, gpu: &Gpu, place: Place) -> Result<Vec<f32>> {
        let bytes = gpu.read(self.buffer(place.buffer), place.offset as u64 * 4, place.len as u64 * 4)?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    /// Writes a range of a declared buffer.
    pub fn write(&self, gpu: &Gpu, place: Place, values: &[f32]) -> Result<()> {
        gpu.write(self.buffer(place.buffer), place.offset as u64 * 4, bytemuck::cast_slice(values))
    }

    /// Bytes of buffers and textures that this executor allocated itself (shared buffers are not counted).
    pub fn own_bytes(&self) -> u64 {
        self.own_bytes + self.sequence.texture_bytes()
    }
}
