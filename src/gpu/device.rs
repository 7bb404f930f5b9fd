//! The open device: buffers, transfers, waiting.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wgpu::{AdapterInfo, BufferUsages, ErrorFilter, Features, PollType, SubmissionIndex};

use super::adapter::{self, GpuOptions};
use super::cache::Cache;
use super::fault::{Faults, out_of_memory};
use super::kernel::{Bind, Cost, Dispatch, Feature, Kernel};
use super::matrix;
use super::pipeline::{Module, Pipeline, PipelineKey};
use crate::error::{Error, Result};
use crate::graph::lower::Caps;

/// Most submits that the GPU may be behind; more would only delay errors and Ctrl-C.
const IN_FLIGHT: usize = 2;
/// Transfers are cut into pieces of this size, which bounds the host-visible memory that they need.
const PIECE: usize = 64 << 20;
/// Smallest and largest block of memory that small buffers share; a larger buffer has one of its own. Measured on the presets at several
/// batches: what is left unused in blocks is 1 to 11 % of plans above 64 MB, against 4 to 26 % with wgpu's hint for low memory usage.
const MEMORY_BLOCKS: std::ops::Range<u64> = 4 << 20..16 << 20;

/// An open GPU: adapter, device, queue and the pipelines built so far. Safe to share between threads.
#[derive(Debug)]
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) info: AdapterInfo,
    pub(super) features: Features,
    pub(super) limits: wgpu::Limits,
    pub(super) options: GpuOptions,
    pub(super) faults: Arc<Faults>,
    pub(super) modules: Mutex<HashMap<String, Arc<Module>>>,
    pub(super) pipelines: Mutex<HashMap<PipelineKey, Arc<Pipeline>>>,
    pub(super) cache: Option<Cache>,
    caps: Caps,
    matrix_fault: Option<String>,
    memory_available: Option<u64>,
    in_flight: Mutex<VecDeque<SubmissionIndex>>,
}

/// A storage or uniform buffer; clones share the memory.
#[derive(Debug, Clone)]
pub struct Buffer {
    pub(super) raw: wgpu::Buffer,
    label: Arc<str>,
}

impl Buffer {
    /// Size in bytes, a multiple of 4.
    pub fn size(&self) -> u64 {
        self.raw.size()
    }

    /// The name it was allocated under.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// All of it.
    pub fn whole(&self) -> BufferRange {
        BufferRange { buffer: self.clone(), offset: 0, len: self.size() }
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

/// A part of a buffer, in bytes. As an operand of a dispatch, the offset is a multiple of 256.
#[derive(Debug, Clone, PartialEq)]
pub struct BufferRange {
    /// The buffer.
    pub buffer: Buffer,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

/// A read that was ordered and will be there once the work before it is done.
#[derive(Debug)]
#[must_use = "the data is lost if nobody waits for it"]
pub struct PendingRead {
    staging: wgpu::Buffer,
    submission: SubmissionIndex,
    mapped: Receiver<Result<(), wgpu::BufferAsyncError>>,
    state: Option<Result<(), wgpu::BufferAsyncError>>,
}

/// A poisoned lock only means that another thread panicked; the maps and queues here are whole after every statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    /// Opens the adapter that the options ask for.
    ///
    /// # Errors
    /// [`Error::Environment`] if there is no adapter or it cannot be opened; [`Error::Input`] if the named adapter is not there or the name
    /// is ambiguous.
    pub fn open(options: &GpuOptions) -> Result<Gpu> {
        let adapters = adapter::enumerate(options.backend, options.debug);
        let infos: Vec<AdapterInfo> = adapters.iter().map(wgpu::Adapter::get_info).collect();
        let index = adapter::choose(&infos, options)?;
        adapter::usable(&adapters[index])?;
        let (adapter, info) = (&adapters[index], infos[index].clone());

        // Every feature here has a path without it.
        let wanted = Features::SUBGROUP
            | Features::SHADER_INT64
            | Features::TIMESTAMP_QUERY
            | Features::TIMESTAMP_QUERY_INSIDE_PASSES
            | Features::PIPELINE_CACHE;
        let matrix_fault = match options.matrix {
            None => Some("it was not asked for matrix units".to_string()),
            Some(fragments) => fragments.fault(&info, adapter.features(), &adapter.cooperative_matrix_properties()),
        };
        let (matrix, experimental) = match matrix_fault {
            Some(_) => (Features::empty(), wgpu::ExperimentalFeatures::disabled()),
            // SAFETY: a run has asked for it. Its kernels keep to the rules of cooperative matrices (uniform control flow, aligned addresses inside of
            // workgroup memory), which tests check, and are compared with their twins before they train anything.
            None => (matrix::FEATURES, unsafe { wgpu::ExperimentalFeatures::enabled() }),
        };
        let features = adapter.features() & (wanted | matrix);
        let best = adapter.limits();
        // Limits of textures and the like may be below WebGPU's defaults on small GPUs, and do not matter here.
        let limits = wgpu::Limits {
            max_buffer_size: best.max_buffer_size,
            max_storage_buffer_binding_size: best.max_storage_buffer_binding_size,
            ..wgpu::Limits::default().or_worse_values_from(&best)
        };
        let request = wgpu::DeviceDescriptor {
            label: Some("ganymede"),
            required_features: features,
            required_limits: limits.clone(),
            experimental_features: experimental,
            memory_hints: wgpu::MemoryHints::Manual { suballocated_device_memory_block_size: MEMORY_BLOCKS },
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&request))
            .map_err(|e| Error::environment(format!("cannot open {}: {e}", adapter::one_line(&info))))?;

        let faults = Arc::new(Faults::default());
        let kept = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error| kept.uncaptured(&error)));
        let kept = faults.clone();
        device.set_device_lost_callback(move |_, message| kept.lost(&message));

        let caps = Caps {
            fixed_subgroup: false,
            quads: false,
            int64: features.contains(Features::SHADER_INT64),
            float16: adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::SHADER_F16_IN_F32),
            matrix: matrix_fault.is_none(),
            max_binding: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            software: adapter::is_software(&info),
        };
        let cache = if options.pipeline_cache && features.contains(Features::PIPELINE_CACHE) {
            Cache::open(&device, &info, options.cache_dir.as_deref())
        } else {
            None
        };
        let mut gpu = Gpu {
            device,
            queue,
            features,
            limits,
            options: GpuOptions { debug: adapter::names_are_kept(options), ..options.clone() },
            faults,
            modules: Mutex::default(),
            pipelines: Mutex::default(),
            cache,
            caps,
            matrix_fault,
            memory_available: super::memory::available(adapter, &info),
            info,
            in_flight: Mutex::default(),
        };
        gpu.caps.fixed_subgroup = gpu.lane_test()?;
        // The lane test proves the quads of eight lanes too.
        gpu.caps.quads = gpu.caps.fixed_subgroup || gpu.quad_test()?;
        Ok(gpu)
    }

    /// What the choice of kernels may depend on.
    pub fn caps(&self) -> Caps {
        self.caps.clone()
    }

    /// The same device, with the kernels that an adapter with other capabilities would run: so that a software adapter can prove the plans of
    /// GPUs, and the other way round.
    ///
    /// # Errors
    /// [`Error::Input`] if `caps` promise what this adapter does not have.
    pub fn choosing_for(mut self, caps: Caps) -> Result<Gpu> {
        let own = &self.caps;
        let lacking = [
            (caps.fixed_subgroup, own.fixed_subgroup),
            (caps.quads, own.quads),
            (caps.int64, own.int64),
            (caps.float16, own.float16),
            (caps.matrix, own.matrix),
        ];
        if lacking.iter().any(|(promised, there)| *promised && !there) || caps.max_binding > own.max_binding {
            return Err(Error::input(format!("{} has {own:?}, so it cannot run the kernels chosen for {caps:?}", self.info.name)));
        }
        if own.matrix && !caps.matrix {
            self.matrix_fault = Some("kernels are chosen for an adapter without matrix units".to_string());
        }
        self.caps = caps;
        Ok(self)
    }

    /// Why there are no matrix units, which the options may ask for: a part of a sentence about the adapter, whose name goes before it. `None` if there
    /// are.
    pub fn matrix_fault(&self) -> Option<&str> {
        self.matrix_fault.as_deref()
    }

    /// Whether the kernel's features are all there.
    pub fn supports(&self, kernel: &Kernel) -> bool {
        kernel.features.iter().all(|feature| match feature {
            Feature::Subgroup => self.caps.fixed_subgroup,
            Feature::Quad => self.caps.quads,
            Feature::Int64 => self.caps.int64,
            Feature::Float16 => self.caps.float16,
            Feature::Matrix => self.caps.matrix,
        })
    }

    /// Name of the adapter, as its driver gives it.
    pub fn adapter_name(&self) -> &str {
        &self.info.name
    }

    /// Name and version of the adapter's driver, as far as it tells.
    pub fn driver(&self) -> String {
        adapter::driver(&self.info)
    }

    /// Name, type, API and driver of the adapter, in one line.
    pub fn adapter_summary(&self) -> String {
        adapter::one_line(&self.info)
    }

    /// Bytes of device memory that could be allocated when the adapter was opened, where that can be known (Vulkan, software adapters on Linux).
    pub fn memory_available(&self) -> Option<u64> {
        self.memory_available
    }

    /// Bytes of device memory in use, where the API's allocator reports it (Vulkan, DX12).
    pub fn memory_allocated(&self) -> Option<u64> {
        self.device.generate_allocator_report().map(|report| report.total_allocated_bytes)
    }

    /// Bytes of the blocks of device memory that the allocator holds, what is free in them included, where it reports them.
    pub fn memory_reserved(&self) -> Option<u64> {
        self.device.generate_allocator_report().map(|report| report.total_reserved_bytes)
    }

    /// Writes newly compiled pipelines to the cache file. Call it once a plan is built; what goes wrong is said and otherwise ignored.
    pub fn save_pipeline_cache(&self) {
        if let Some(cache) = &self.cache {
            cache.save();
        }
    }

    /// Allocates a storage buffer of at least `bytes` bytes (rounded up to a multiple of 4), which reads as zero.
    ///
    /// # Errors
    /// [`Error::Environment`] if the adapter cannot have a buffer of this size or is out of memory.
    pub fn buffer(&self, label: &str, bytes: u64) -> Result<Buffer> {
        self.allocate(label, bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST)
    }

    /// Allocates a uniform buffer of at least `bytes` bytes (rounded up to a multiple of 4).
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub fn uniform(&self, label: &str, bytes: u64) -> Result<Buffer> {
        self.allocate(label, bytes, BufferUsages::UNIFORM | BufferUsages::COPY_SRC | BufferUsages::COPY_DST)
    }

    pub(super) fn allocate(&self, label: &str, bytes: u64, usage: BufferUsages) -> Result<Buffer> {
        self.faults.check()?;
        if bytes == 0 {
            return Err(Error::internal(format!("buffer '{label}' was asked for with zero bytes")));
        }
        if bytes > self.limits.max_buffer_size {
            return Err(Error::environment(format!(
                "buffer '{label}' needs {}, but {} allows at most {} in one buffer. Use a smaller batch, image size or network",
                adapter::size(bytes),
                self.info.name,
                adapter::size(self.limits.max_buffer_size)
            )));
        }
        let scope = self.device.push_error_scope(ErrorFilter::OutOfMemory);
        let raw = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes.next_multiple_of(4),
            usage,
            mapped_at_creation: false,
        });
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(out_of_memory(&format!(
                "no room for buffer '{label}' of {} on {} ({error})",
                adapter::size(bytes),
                self.info.name
            )));
        }
        self.faults.check()?;
        Ok(Buffer { raw, label: label.into() })
    }

    /// Copies bytes into a buffer before everything that is submitted later. `offset` and the length are multiples of 4.
    ///
    /// # Errors
    /// [`Error::Internal`] if the range is not in the buffer; [`Error::Environment`] if the device is lost or out of memory.
    pub fn write(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        self.faults.check()?;
        check_range("write to", buffer, offset, bytes.len() as u64)?;
        for (piece, bytes) in bytes.chunks(PIECE).enumerate() {
            if piece > 0 {
                // Lets the staging memory of the piece before go.
                let done = self.queue.submit(None);
                self.wait_for(done)?;
            }
            self.queue.write_buffer(&buffer.raw, offset + (piece * PIECE) as u64, bytes);
        }
        self.faults.check()
    }

    /// Reads bytes of a buffer, after all work submitted so far. `offset` and `len` are multiples of 4.
    ///
    /// # Errors
    /// As [`Gpu::write`].
    pub fn read(&self, buffer: &Buffer, offset: u64, len: u64) -> Result<Vec<u8>> {
        check_range("read from", buffer, offset, len)?;
        let mut bytes = Vec::with_capacity(len as usize);
        while (bytes.len() as u64) < len {
            let done = bytes.len() as u64;
            bytes.extend(self.read_later(buffer, offset + done, (len - done).min(PIECE as u64))?.wait(self)?);
        }
        Ok(bytes)
    }

    /// Orders a read of a buffer after all work submitted so far, and returns at once. `offset` and `len` are multiples of 4, `len` not 0.
    ///
    /// # Errors
    /// As [`Gpu::write`].
    pub fn read_later(&self, buffer: &Buffer, offset: u64, len: u64) -> Result<PendingRead> {
        check_range("read from", buffer, offset, len)?;
        let staging = self.allocate("readback", len, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?.raw;
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("readback") });
        encoder.copy_buffer_to_buffer(&buffer.raw, offset, &staging, 0, len);
        let submission = self.queue.submit([encoder.finish()]);
        self.faults.check()?;
        let (send, mapped) = channel();
        // The receiver may be gone by then; nobody wants the data in that case.
        staging.map_async(wgpu::MapMode::Read, .., move |result| drop(send.send(result)));
        self.faults.check()?;
        Ok(PendingRead { staging, submission, mapped, state: None })
    }

    /// Waits until the GPU has done all that was submitted.
    ///
    /// # Errors
    /// [`Error::Environment`] if the device is lost or out of memory, [`Error::Internal`] if the API rejected a command.
    pub fn wait(&self) -> Result<()> {
        self.faults.check()?;
        lock(&self.in_flight).clear();
        self.poll(PollType::wait_indefinitely())
    }

    /// Remembers a submit, after waiting for the one before the last so that at most [`IN_FLIGHT`] are under way.
    pub(super) fn throttle(&self, submit: impl FnOnce() -> SubmissionIndex) -> Result<()> {
        let oldest = {
            let mut queue = lock(&self.in_flight);
            if queue.len() < IN_FLIGHT { None } else { queue.pop_front() }
        };
        if let Some(index) = oldest {
            self.wait_for(index)?;
        }
        lock(&self.in_flight).push_back(submit());
        self.faults.check()
    }

    pub(super) fn wait_for(&self, index: SubmissionIndex) -> Result<()> {
        self.poll(PollType::Wait { submission_index: Some(index), timeout: None })
    }

    /// The one place that polls. wgpu panics there when the device is lost, which becomes an error here.
    fn poll(&self, how: PollType) -> Result<()> {
        match catch_unwind(AssertUnwindSafe(|| self.device.poll(how))) {
            Ok(Ok(_)) => self.faults.check(),
            Ok(Err(error)) => {
                self.faults.check()?;
                Err(Error::internal(format!("waiting for the GPU failed: {error}")))
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
                self.faults.lost(text.unwrap_or("waiting for it failed"));
                self.faults.check()
            }
        }
    }

    /// Whether a workgroup of [`Kernel::LANES`] is one subgroup with its lanes in invocation order, by features and by trial.
    fn lane_test(&self) -> Result<bool> {
        self.trial_of_lanes(&LANE_TEST, |lane, value| {
            let broadcasts = (0..Kernel::LANES).chain((lane & 4)..(lane & 4) + 4).chain([lane & 3, lane | 4]);
            broadcasts.map(value).collect()
        })
    }

    /// Whether a workgroup of [`Kernel::QUAD`] is one subgroup and one quad with its lanes in invocation order, by features and by trial.
    fn quad_test(&self) -> Result<bool> {
        self.trial_of_lanes(&QUAD_TEST, |_, value| (0..Kernel::QUAD).map(value).collect())
    }

    /// Whether subgroups have as many lanes as the test's workgroup, and each lane writes its number, their number and what it is `expected` to
    /// hear, given what each lane says.
    fn trial_of_lanes(&self, test: &'static Kernel, expected: impl Fn(u32, &dyn Fn(u32) -> u32) -> Vec<u32>) -> Result<bool> {
        const GROUPS: u32 = 64;
        let lanes = test.workgroup[0];
        let fixed = self.info.subgroup_min_size == lanes && self.info.subgroup_max_size == lanes;
        if !self.features.contains(Features::SUBGROUP) || !fixed {
            return Ok(false);
        }
        let expected: Vec<u32> = (0..GROUPS)
            .flat_map(|group| (0..lanes).map(move |lane| (group, lane)))
            .flat_map(|(group, lane)| [vec![lane, lanes], expected(lane, &|lane| group * 64 + 7 * lane + 1)].concat())
            .collect();
        let words = self.buffer("lane test", 4 * expected.len() as u64)?;
        let dispatch = Dispatch {
            kernel: test,
            overrides: Vec::new(),
            params: Vec::new(),
            operands: vec![words.whole()],
            workgroups: [GROUPS, 1, 1],
            cost: Cost::default(),
        };
        // A driver that cannot compile the test has no use for the kernels that depend on it.
        let Ok(sequence) = self.sequence("lane test", vec![("lane test".to_string(), dispatch)], None) else {
            return self.faults.check().map(|()| false);
        };
        self.submit(&sequence, 0..1)?;
        let got: Vec<u32> = bytemuck::pod_collect_to_vec(&self.read(&words, 0, words.size())?);
        Ok(expected == got)
    }
}

/// The start-up lane test, whose result is [`Caps::fixed_subgroup`].
pub static LANE_TEST: Kernel = Kernel {
    name: "lane_test",
    variant: "",
    parts: &[crate::part!("lane_test")],
    bindings: &[Bind::Out],
    workgroup: [Kernel::LANES, 1, 1],
    // Its result is what `Feature::Subgroup` means, so it cannot ask for it.
    features: &[],
};

/// The start-up test of quads, whose result is [`Caps::quads`] where subgroups have four lanes.
pub static QUAD_TEST: Kernel = Kernel {
    name: "quad_test",
    variant: "",
    parts: &[crate::part!("quad_test")],
    bindings: &[Bind::Out],
    workgroup: [Kernel::QUAD, 1, 1],
    // As with the lane test, for `Feature::Quad`.
    features: &[],
};

impl PendingRead {
    /// Whether [`PendingRead::wait`] would return at once. Does not block.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn is_ready(&mut self, gpu: &Gpu) -> Result<bool> {
        gpu.poll(PollType::Poll)?;
        if self.state.is_none() {
            self.state = match self.mapped.try_recv() {
                Ok(state) => Some(state),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(Err(wgpu::BufferAsyncError)),
            };
        }
        Ok(self.state.is_some())
    }

    /// Waits for the data.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn wait(self, gpu: &Gpu) -> Result<Vec<u8>> {
        gpu.faults.check()?;
        let mapped = match self.state {
            Some(state) => state,
            None => {
                gpu.wait_for(self.submission)?;
                // Another thread's poll may run the callback, so this waits for the message rather than take its absence for a failure.
                self.mapped.recv().unwrap_or(Err(wgpu::BufferAsyncError))
            }
        };
        gpu.faults.check()?;
        let failed = |e: &dyn std::fmt::Display| Error::internal(format!("mapping a readback buffer failed: {e}"));
        mapped.map_err(|e| failed(&e))?;
        let bytes = self.staging.slice(..).get_mapped_range().map_err(|e| failed(&e))?.to_vec();
        self.staging.unmap();
        Ok(bytes)
    }
}

fn check_range(what: &str, buffer: &Buffer, offset: u64, len: u64) -> Result<()> {
    let end = offset.checked_add(len);
    if end.is_none_or(|end| end > buffer.size()) || !offset.is_multiple_of(4) || !len.is_multiple_of(4) || len == 0 {
        return Err(Error::internal(format!(
            "cannot {what} buffer '{}' of {} bytes at offset {offset}, length {len}: the range must be non-empty, inside, and in whole words",
            buffer.label(),
            buffer.size()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing;

    #[test]
    fn a_lost_device_is_an_error_and_no_panic() {
        if testing::gpu().is_none() {
            return;
        }
        let gpu = Gpu::open(&GpuOptions { pipeline_cache: false, ..GpuOptions::default() }).unwrap();
        let buffer = gpu.buffer("before", 64).unwrap();
        let pending = gpu.read_later(&buffer, 0, 64).unwrap();
        gpu.device.destroy();
        let lost = |result: Result<()>| match result {
            Err(Error::Environment(text)) => assert!(text.contains("device was lost") && text.contains("checkpoint"), "{text}"),
            other => panic!("{other:?}"),
        };
        lost(gpu.wait());
        lost(gpu.buffer("after", 64).map(drop));
        lost(gpu.write(&buffer, 0, &[0; 4]));
        lost(gpu.read(&buffer, 0, 4).map(drop));
        lost(gpu.pipeline(&LANE_TEST, &[]).map(drop));
        lost(pending.wait(&gpu).map(drop));
    }

    #[test]
    fn an_error_that_no_scope_caught_is_returned() {
        if testing::gpu().is_none() {
            return;
        }
        let gpu = Gpu::open(&GpuOptions { pipeline_cache: false, ..GpuOptions::default() }).unwrap();
        let usage = BufferUsages::MAP_READ | BufferUsages::STORAGE;
        drop(gpu.device.create_buffer(&wgpu::BufferDescriptor { label: Some("bad usage"), size: 4, usage, mapped_at_creation: false }));
        let Err(Error::Internal(text)) = gpu.wait() else { panic!("the error was lost") };
        assert!(text.contains("bad usage"), "{text}");
    }
}
