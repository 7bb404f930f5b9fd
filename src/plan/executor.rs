//! Replays a plan on a GPU.

use super::compile::{Plan, Slot};
use crate::error::Result;
use crate::gpu::kernel::Dispatch;
use crate::gpu::{Buffer, BufferRange, Gpu, Sequence, TimedRun, Work};
use crate::graph::lower::{BufferId, Place};
use std::collections::HashMap;
use std::ops::Range;
use std::time::Instant;

/// A plan bound to buffers.
pub struct Executor {
    /// Each part of the plan, and how often it runs.
    parts: Vec<(Sequence, u32)>,
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
        let bind = |(label, dispatch): &(String, Dispatch<Slot>)| {
            let dispatch = dispatch.clone().map(|slot| BufferRange {
                buffer: buffers[slot.buffer].clone(),
                offset: slot.offset as u64 * 4,
                len: slot.len as u64 * 4,
            });
            (label.clone(), dispatch)
        };
        let sequences = gpu.sequences(label, plan.by_part().map(|dispatches| dispatches.iter().map(bind).collect()), step_rows)?;
        let parts: Vec<(Sequence, u32)> = sequences.into_iter().zip(plan.parts.iter().map(|part| part.times)).collect();
        own_bytes += parts.iter().map(|(sequence, _)| sequence.texture_bytes()).sum::<u64>();
        Ok(Executor { parts, buffers, own_bytes })
    }

    /// Rows of the step table that one run of the plan takes: as many as its most frequent part runs.
    pub fn rows_per_run(&self) -> u32 {
        self.parts.iter().map(|(_, times)| *times).max().unwrap_or(1)
    }

    /// Submits the given runs of the plan. Run r has the rows from r [`Executor::rows_per_run`] on: each time that a part runs it takes the next
    /// one of them.
    pub fn submit(&self, gpu: &Gpu, runs: Range<u32>) -> Result<()> {
        if let [(sequence, 1)] = &self.parts[..] {
            return gpu.submit(sequence, runs);
        }
        // A submit for each time that a part runs: long parts must not add up to what a driver takes for a hang.
        let first_rows = runs.map(|run| run * self.rows_per_run());
        for (first, (sequence, times)) in first_rows.flat_map(|first| self.parts.iter().map(move |part| (first, part))) {
            for row in first..first + times {
                gpu.submit(sequence, row..row + 1)?;
            }
        }
        Ok(())
    }

    /// As [`Executor::submit`] for the first run, but waits, and returns what every dispatch took by the finest clock of the adapter; of parts that
    /// run several times, the first time.
    pub fn submit_timed(&self, gpu: &Gpu) -> Result<TimedRun> {
        let mut run = gpu.begin_timed(gpu.clock());
        for (sequence, times) in &self.parts {
            gpu.add_timed(sequence, 0, &mut run)?;
            if *times > 1 {
                let begin = Instant::now();
                (1..*times).try_for_each(|row| gpu.submit(sequence, row..row + 1))?;
                // What is left of them must not count as time of the next part.
                gpu.wait()?;
                run.work.push(Work { name: "repeat", begin, end: Instant::now() });
            }
        }
        Ok(run)
    }

    /// A declared buffer.
    pub fn buffer(&self, id: BufferId) -> &Buffer {
        &self.buffers[id.0]
    }

    /// A buffer by its index in [`Plan::buffers`].
    pub fn plan_buffer(&self, index: usize) -> &Buffer {
        &self.buffers[index]
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
        self.own_bytes
    }
}
