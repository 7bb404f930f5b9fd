//! Running statistics of batch normalisation: the state that a training step leaves behind for evaluation.

use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::ops::case::Case;
use crate::ops::case_builder::{CaseBuilder, normals, widen};
use crate::part;
use bytemuck::{Pod, Zeroable};

/// Parameters of `running_stats`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct RunningStatsParams {
    items: u32,
    groups: u32,
    momentum: f32,
    keep: f32,
    unbias: f32,
    reserved: [u32; 3],
}

/// `running_stats`.
pub static RUNNING_STATS: Kernel = Kernel {
    name: "running_stats",
    variant: "",
    parts: &[part!("running_stats")],
    bindings: &[Bind::Params, Bind::In, Bind::In, Bind::InOut, Bind::InOut],
    workgroup: [64, 1, 1],
    features: &[],
};

/// Kernels of this file.
pub static KERNELS: &[&Kernel] = &[&RUNNING_STATS];

/// The buffers of an update of running statistics.
#[derive(Debug, Clone, Copy)]
pub struct RunningStats {
    /// Means of this batch, (groups, C).
    pub mean: Operand,
    /// Biased variances of this batch, (groups, C).
    pub variance: Operand,
    /// Running mean (C), updated.
    pub running_mean: Operand,
    /// Running variance (C), unbiased, updated.
    pub running_var: Operand,
}

/// Updates running statistics from those of a batch: (1 - momentum) running + momentum batch, for one group after another, as if each group
/// had been a batch of its own. `shape` is (groups, C), and `count` the number of elements that each mean was taken over.
///
/// # Errors
/// [`Error::Input`] if `count` is 1: the unbiased variance of one value does not exist, and PyTorch refuses it too. [`Error::Internal`] if
/// `shape` is not of rank 2.
pub fn lower_running_stats(l: &mut Lowering, buffers: RunningStats, shape: &Shape, count: usize, momentum: f64) -> Result<()> {
    let [groups, channels] = shape.dims()[..] else {
        return Err(Error::internal(format!("running_stats of statistics of shape {shape}; expected (groups, C)")));
    };
    if count < 2 {
        return Err(Error::input(format!(
            "batch normalisation over {count} value per channel: expected more than 1 when training; use a larger batch"
        )));
    }
    let items = shape.padded() / 4;
    let params = RunningStatsParams {
        items: items as u32,
        groups: groups as u32,
        momentum: momentum as f32,
        keep: (1.0 - momentum) as f32,
        unbias: (count as f64 / (count - 1) as f64) as f32,
        reserved: [0; 3],
    };
    l.push(Dispatch {
        kernel: &RUNNING_STATS,
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![buffers.mean, buffers.variance, buffers.running_mean, buffers.running_var],
        workgroups: grid(items, 64),
        cost: Cost { flops: 7 * (groups * channels) as u64, bytes: (16 * items * (2 * groups + 4)) as u64 },
    });
    Ok(())
}

/// f64 twin of the kernel.
pub mod twin {
    /// `mean` and `variance` are (groups, C), the running statistics (C).
    pub fn running_stats(mean: &[f64], variance: &[f64], running_mean: &mut [f64], running_var: &mut [f64], count: usize, momentum: f64) {
        let channels = running_mean.len();
        let n = count as f64;
        for group in 0..mean.len() / channels {
            for c in 0..channels {
                let unbiased = variance[group * channels + c] * n / (n - 1.0);
                running_mean[c] = (1.0 - momentum) * running_mean[c] + momentum * mean[group * channels + c];
                running_var[c] = (1.0 - momentum) * running_var[c] + momentum * unbiased;
            }
        }
    }
}

/// Cases of this file's kernels.
pub fn cases(caps: &Caps) -> Vec<Case> {
    [(1, 1, 2, 0.1), (2, 63, 3, 0.1), (1, 64, 1024, 0.1), (3, 65, 2, 0.9), (2, 257, 64, 1.0), (1, 1000, 5, 0.0)]
        .map(|(groups, channels, count, momentum)| running_stats_case(caps, groups, channels, count, momentum))
        .to_vec()
}

/// Two updates in a row, from the values that layers start with.
fn running_stats_case(caps: &Caps, groups: usize, channels: usize, count: usize, momentum: f64) -> Case {
    const VALID: &str = "case shapes are valid";
    let shape = Shape::new(&[groups, channels]).expect(VALID);
    let state = Shape::new(&[channels]).expect(VALID);
    let mut b = CaseBuilder::new(caps);
    let (mut running_mean, mut running_var) = (vec![0.0; channels], vec![1.0; channels]);
    let batches = [1, 2].map(|seed| {
        let mean = normals(seed, groups * channels);
        let variance: Vec<f32> = normals(seed + 10, groups * channels).iter().map(|v| v * v).collect();
        (widen(&mean), widen(&variance))
    });
    for (mean, variance) in &batches {
        twin::running_stats(mean, variance, &mut running_mean, &mut running_var, count, momentum);
    }
    let image = |values: &[f64]| Tensor::new(state.clone(), values.to_vec());
    let running_mean = b.state(image(&vec![0.0; channels]).pack(), image(&running_mean).pack_f64());
    let running_var = b.state(image(&vec![1.0; channels]).pack(), image(&running_var).pack_f64());
    for (mean, variance) in batches {
        let [mean, variance] = [mean, variance].map(|v| b.input(&Tensor::new(shape.clone(), v).pack()));
        let buffers = RunningStats { mean, variance, running_mean, running_var };
        lower_running_stats(&mut b.lowering, buffers, &shape, count, momentum).expect(VALID);
    }
    b.finish(format!("running_stats {shape} of {count} values, momentum {momentum}, twice"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::case_builder::assert_cases;

    #[test]
    fn kernels_equal_their_twins() {
        assert_cases(KERNELS, cases);
    }

    /// torch.nn.BatchNorm1d(1, momentum=0.1) on the batch [1, 3]: mean 2, unbiased variance 2 (biased 1).
    #[test]
    fn the_running_variance_is_unbiased() {
        let (mut mean, mut var) = ([0.0], [1.0]);
        twin::running_stats(&[2.0], &[1.0], &mut mean, &mut var, 2, 0.1);
        assert!((mean[0] - 0.2f64).abs() < 1e-12);
        assert!((var[0] - (0.9 + 0.1 * 2.0f64)).abs() < 1e-12);
    }

    #[test]
    fn one_value_per_channel_is_refused() {
        let mut l = Lowering::new(Caps::minimal());
        let at = Operand::Scratch(0);
        let buffers = RunningStats { mean: at, variance: at, running_mean: at, running_var: at };
        let shape = Shape::new(&[1, 8]).unwrap();
        assert!(matches!(lower_running_stats(&mut l, buffers, &shape, 1, 0.1), Err(Error::Input(_))));
        assert!(matches!(lower_running_stats(&mut l, buffers, &Shape::new(&[8]).unwrap(), 2, 0.1), Err(Error::Internal(_))));
        assert!(l.dispatches.is_empty());
    }
}
