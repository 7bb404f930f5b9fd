//! What benchmarks ask of a GPU beyond running sequences: who it is, how long a submit took on the device, and the driver's own copy.

use std::ops::Range;
use std::time::Instant;

use wgpu::{AdapterInfo, BufferUsages, CommandEncoder, Features, QuerySet};

use super::device::{Buffer, Gpu};
use super::sequence::Sequence;
use crate::error::{Error, Result};

impl Gpu {
    /// Name, API and driver of the adapter.
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// Runs the sequence once for each step row, waits, and returns the seconds that it took: on the device, by timestamps in front of and
    /// behind everything, where the adapter has them, else from submit to the end of the wait.
    ///
    /// # Errors
    /// As [`Gpu::submit`].
    pub fn seconds_of(&self, sequence: &Sequence, rows: Range<u32>) -> Result<f64> {
        sequence.check_rows(&rows)?;
        self.timed(|encoder| self.encode_rows(encoder, sequence, rows))
    }

    /// Copies `from` to `to` as a whole, `times` times, by the API's own command; waits, and returns the seconds as [`Gpu::seconds_of`] does.
    ///
    /// # Errors
    /// [`Error::Internal`] if the buffers differ in size; else as [`Gpu::submit`].
    pub fn seconds_of_copies(&self, from: &Buffer, to: &Buffer, times: u32) -> Result<f64> {
        if from.size() != to.size() {
            return Err(Error::internal(format!("a copy of {} bytes to {}", from.size(), to.size())));
        }
        self.timed(|encoder| (0..times).for_each(|_| encoder.copy_buffer_to_buffer(&from.raw, 0, &to.raw, 0, from.size())))
    }

    fn timed(&self, encode: impl FnOnce(&mut CommandEncoder)) -> Result<f64> {
        self.wait()?;
        let stamps = self.features.contains(Features::TIMESTAMP_QUERY);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("benchmark") });
        if !stamps {
            encode(&mut encoder);
            let commands = encoder.finish();
            let start = Instant::now();
            self.throttle(|| self.queue.submit([commands]))?;
            self.wait()?;
            return Ok(start.elapsed().as_secs_f64());
        }
        let queries =
            self.device.create_query_set(&wgpu::QuerySetDescriptor { label: Some("benchmark"), ty: wgpu::QueryType::Timestamp, count: 2 });
        let resolved = self.allocate("benchmark", 16, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC)?;
        // Timestamps outside passes need another feature, so that two empty passes carry them.
        stamp(&mut encoder, &queries, 0);
        encode(&mut encoder);
        stamp(&mut encoder, &queries, 1);
        encoder.resolve_query_set(&queries, 0..2, &resolved.raw, 0);
        let commands = encoder.finish();
        let start = Instant::now();
        self.throttle(|| self.queue.submit([commands]))?;
        self.wait()?;
        let wall = start.elapsed().as_secs_f64();
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&self.read(&resolved, 0, 16)?);
        let seconds = ticks[1].saturating_sub(ticks[0]) as f64 * f64::from(self.queue.get_timestamp_period()) * 1e-9;
        // Counters wrap, and some drivers write nothing: what is not in the time that the host has seen is no measurement.
        Ok(if seconds > 0.0 && seconds <= wall { seconds } else { wall })
    }
}

fn stamp(encoder: &mut CommandEncoder, queries: &QuerySet, index: u32) {
    drop(encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
        label: Some("timestamp"),
        timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
            query_set: queries,
            beginning_of_pass_write_index: (index == 0).then_some(0),
            end_of_pass_write_index: (index == 1).then_some(1),
        }),
    }));
}
