//! The printed plan: what `ganymede plan` shows.

use super::compile::{Plan, Slot};
use crate::gpu::kernel::Dispatch;
use crate::gpu::texture_bytes;
use std::fmt::{self, Write};

impl Plan {
    /// Useful floating-point operations of one run of the plan.
    pub fn flops(&self) -> u64 {
        let part = |dispatches: &[(String, Dispatch<Slot>)]| dispatches.iter().map(|(_, d)| d.cost.flops).sum::<u64>();
        self.by_part().zip(&self.parts).map(|(dispatches, of)| u64::from(of.times) * part(dispatches)).sum()
    }

    /// Dispatches of one run of the plan.
    pub fn dispatch_count(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.times) * part.dispatches.len() as u64).sum()
    }

    /// Device memory that an executor of the plan will allocate.
    pub fn memory(&self) -> Memory {
        let mut memory = Memory { textures: texture_bytes(self.by_part()), ..Memory::default() };
        for buffer in &self.buffers {
            let kind = match (buffer.declared, buffer.constant.is_some()) {
                (true, _) => &mut memory.declared,
                (_, true) => &mut memory.tables,
                _ => &mut memory.transients,
            };
            *kind += buffer.words as u64 * 4;
        }
        memory
    }
}

/// Device memory of a plan by kind, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Declared buffers: parameter stores, inputs, state, the resident data set.
    pub declared: u64,
    /// Constant tables.
    pub tables: u64,
    /// Activations, gradients on their way and scratch.
    pub transients: u64,
    /// Textures that operands are mirrored into.
    pub textures: u64,
}

impl Memory {
    /// Bytes of all buffers.
    pub fn buffers(&self) -> u64 {
        self.declared + self.tables + self.transients
    }

    /// Bytes of all buffers and textures.
    pub fn total(&self) -> u64 {
        self.buffers() + self.textures
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        write!(
            f,
            "{:.1} MB on the device: {:.1} MB stores and inputs, {:.1} MB activations and scratch, {:.2} MB tables, {:.1} MB textures",
            mb(self.total()),
            mb(self.declared),
            mb(self.transients),
            mb(self.tables),
            mb(self.textures)
        )
    }
}

/// A table with one line a dispatch, and a line where a part begins if there are several: number, label, variant, workgroups, MFLOP, MB, and the buffers that it touches.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.dispatches.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        writeln!(f, "{:>4}  {:width$}  {:>9}  {:>15}  {:>10}  {:>8}  buffers", "#", "dispatch", "variant", "workgroups", "MFLOP", "MB")?;
        for (index, (label, d)) in self.dispatches.iter().enumerate() {
            if let Some(part) = self.parts.iter().find(|part| part.dispatches.start == index).filter(|_| self.parts.len() > 1) {
                writeln!(f, "----  {}", if part.times == 1 { "once".to_string() } else { format!("{} times", part.times) })?;
            }
            let [x, y, z] = d.workgroups;
            let mut buffers = String::new();
            for slot in &d.operands {
                let sep = if buffers.is_empty() { "" } else { " " };
                write!(buffers, "{sep}{}", slot.buffer)?;
                if slot.offset > 0 {
                    write!(buffers, "+{}", slot.offset)?;
                }
            }
            writeln!(
                f,
                "{index:>4}  {label:width$}  {:>9}  {:>15}  {:>10.3}  {:>8.3}  {buffers}",
                d.kernel.variant,
                format!("{x}x{y}x{z}"),
                d.cost.flops as f64 / 1e6,
                d.cost.bytes as f64 / 1e6,
            )?;
        }
        writeln!(f, "{} dispatches, {:.3} GFLOP; {}", self.dispatch_count(), self.flops() as f64 / 1e9, self.memory())
    }
}
