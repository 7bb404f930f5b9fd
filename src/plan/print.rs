//! The printed plan: what `ganymede plan` shows.

use super::compile::Plan;
use std::fmt::{self, Write};

impl Plan {
    /// Useful floating-point operations of one run of the plan.
    pub fn flops(&self) -> u64 {
        self.dispatches.iter().map(|(_, d)| d.cost.flops).sum()
    }

    /// Device memory of the plan in bytes: declared buffers, tables and transients.
    pub fn memory(&self) -> u64 {
        self.buffers.iter().map(|b| b.words as u64 * 4).sum()
    }

    /// Memory by kind in bytes: (declared, constant tables, transients).
    pub fn memory_by_kind(&self) -> (u64, u64, u64) {
        self.buffers.iter().fold((0, 0, 0), |(declared, tables, transients), b| {
            let bytes = b.words as u64 * 4;
            match (b.declared, b.constant.is_some()) {
                (true, _) => (declared + bytes, tables, transients),
                (_, true) => (declared, tables + bytes, transients),
                _ => (declared, tables, transients + bytes),
            }
        })
    }
}

/// A table with one line a dispatch: number, label, variant, workgroups, MFLOP, MB, and the buffers that it touches.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.dispatches.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        writeln!(f, "{:>4}  {:width$}  {:>9}  {:>15}  {:>10}  {:>8}  buffers", "#", "dispatch", "variant", "workgroups", "MFLOP", "MB")?;
        for (index, (label, d)) in self.dispatches.iter().enumerate() {
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
        let (declared, tables, transients) = self.memory_by_kind();
        writeln!(
            f,
            "{} dispatches, {:.3} GFLOP; {:.1} MB on the device: {:.1} MB stores and inputs, {:.1} MB activations and scratch, {:.2} MB tables",
            self.dispatches.len(),
            self.flops() as f64 / 1e9,
            self.memory() as f64 / 1e6,
            declared as f64 / 1e6,
            transients as f64 / 1e6,
            tables as f64 / 1e6
        )
    }
}
