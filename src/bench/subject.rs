//! A kernel case at full size: uploaded, validated, and then timed on the same buffers.

use super::timing::{Budget, MOST_REPEATS};
use super::{Better, Group, Measurement};
use crate::error::{Error, Result};
use crate::gpu::step::StepRow;
use crate::gpu::{BufferRange, Gpu, Sequence};
use crate::ops::case::{Case, CaseBuffer, compare, compare_words};

/// Expected values of some elements of a buffer that a case writes.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Index into the case's buffers; the buffer is a [`CaseBuffer::Scratch`].
    pub buffer: usize,
    /// Positions in the physical image.
    pub indices: Vec<usize>,
    /// What the twin expects there.
    pub expected: Vec<f64>,
}

/// How a case was or will be validated.
#[derive(Debug, Clone)]
pub enum Check {
    /// Every output of the case, as the case says.
    Whole,
    /// The samples.
    Samples(Vec<Sample>),
    /// Smaller cases of the same kernels have passed; this one only runs.
    Elsewhere,
}

/// What is timed.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Stable name.
    pub name: String,
    /// Dispatches and buffers.
    pub case: Case,
    /// What its results are compared with.
    pub check: Check,
    /// Whether arithmetic is its measure; else traffic.
    pub is_product: bool,
}

/// This adapter's ceilings, from the same run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceilings {
    /// GFLOP/s of multiply-adds in registers.
    pub gflops: f64,
    /// GB/s of copies, reads and writes together.
    pub gigabytes: f64,
}

impl Subject {
    /// Kernels with their variants, in order.
    pub fn kernels(&self) -> String {
        let labels: Vec<String> = self.case.dispatches.iter().map(|d| d.kernel.label()).collect();
        labels.join(" + ")
    }

    /// Validates, then times.
    ///
    /// # Errors
    /// [`Error::SelfTest`] if the kernels compute anything but what the twin says.
    pub fn measure(&self, gpu: &Gpu, budget: &Budget, ceilings: Option<Ceilings>) -> Result<Measurement> {
        let sequence = self.validated(gpu)?;
        let seconds = budget.samples(|repeats| gpu.seconds_of(&sequence, 0..repeats))?;
        let (flops, bytes) = self.case.dispatches.iter().fold((0.0, 0.0), |(f, b), d| (f + d.cost.flops as f64, b + d.cost.bytes as f64));
        let (work, unit) = if self.is_product { (flops, "GFLOP/s") } else { (bytes, "GB/s") };
        let samples = seconds.iter().map(|s| work / s * 1e-9).collect();
        let m = Measurement::new(Group::Kernels, &self.name, &self.kernels(), unit, Better::Higher, samples)?;
        let best = seconds.iter().copied().fold(f64::INFINITY, f64::min);
        let m = m.with("microseconds", best * 1e6).with("flops", flops).with("bytes", bytes);
        let (gflops, gigabytes) = (flops / best * 1e-9, bytes / best * 1e-9);
        let m = m.with("gflops", gflops).with("gigabytes", gigabytes).with("dispatches", self.case.dispatches.len() as f64);
        Ok(match ceilings {
            None => m,
            Some(c) => {
                let (arithmetic, traffic) = (gflops / c.gflops, gigabytes / c.gigabytes);
                let share = if self.is_product { arithmetic } else { traffic };
                m.with("arithmetic_share", arithmetic).with("traffic_share", traffic).with("ceiling_share", share)
            }
        })
    }

    /// Uploads the case, runs it once and compares the results. The sequence that is returned can run again and again.
    fn validated(&self, gpu: &Gpu) -> Result<Sequence> {
        let case = &self.case;
        let mut buffers = Vec::with_capacity(case.buffers.len());
        for content in &case.buffers {
            let words = content.initial()?;
            let buffer = gpu.buffer(&case.name, words.len() as u64 * 4)?;
            gpu.write(&buffer, 0, bytemuck::cast_slice(&words))?;
            buffers.push(buffer.whole());
        }
        // Runs in one submit go through the rows of step scalars, which are all the same here.
        let rows = gpu.uniform("benchmark: step rows", u64::from(MOST_REPEATS) * StepRow::BYTES as u64)?;
        gpu.write(&rows, 0, bytemuck::cast_slice(&vec![case.step; MOST_REPEATS as usize]))?;
        let dispatches = case.dispatches.iter().map(|d| (d.kernel.label(), d.clone().map(|i| buffers[i].clone()))).collect();
        let sequence = gpu.sequence(&case.name, dispatches, Some(&rows))?;
        gpu.submit(&sequence, 0..1)?;
        gpu.wait()?;
        let faults = self.faults(gpu, &buffers)?;
        if !faults.is_empty() {
            return Err(Error::SelfTest(format!(
                "{} [{}] computes wrong numbers on {}, so that it is not timed: {}",
                self.name,
                self.kernels(),
                gpu.adapter_summary(),
                faults.join("; ")
            )));
        }
        Ok(sequence)
    }

    fn faults(&self, gpu: &Gpu, buffers: &[BufferRange]) -> Result<Vec<String>> {
        let case = &self.case;
        let read = |i: usize| -> Result<Vec<u32>> { Ok(bytemuck::pod_collect_to_vec(&gpu.read(&buffers[i].buffer, 0, buffers[i].len)?)) };
        let mut faults = Vec::new();
        let mut compared = 0;
        match &self.check {
            Check::Elsewhere => return Ok(faults),
            Check::Samples(samples) => {
                for sample in samples {
                    let got = read(sample.buffer)?;
                    let got: Vec<u32> = sample.indices.iter().map(|&i| got[i]).collect();
                    compared += got.len();
                    faults.extend(compare(&got, &sample.expected, case.rtol, case.atol).1);
                }
            }
            Check::Whole => {
                for (i, content) in case.buffers.iter().enumerate() {
                    match content {
                        CaseBuffer::Input(_) | CaseBuffer::Scratch(_) => {}
                        CaseBuffer::Output(expected) | CaseBuffer::State(_, expected) => {
                            compared += expected.len();
                            faults.extend(compare(&read(i)?, expected, case.rtol, case.atol).1);
                        }
                        CaseBuffer::Words(_, expected) => {
                            compared += expected.len();
                            faults.extend(compare_words(&read(i)?, expected));
                        }
                    }
                }
            }
        }
        if compared == 0 {
            faults.push("nothing is compared".to_string());
        }
        Ok(faults)
    }
}
