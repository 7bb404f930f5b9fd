//! Sums over equal groups of the channels of each row, and their adjoint: what group norm needs beyond sums over whole axes.

use super::case::Case;
use super::{op_case, random, shape};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::op::{Application, Op};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};
use crate::part;
use bytemuck::{Pod, Zeroable};

/// Sums of groups of channels.
pub static CHANNEL_GROUP_SUM: Kernel = Kernel {
    name: "channel_group_sum",
    variant: "",
    parts: &[part!("channel_group_sum")],
    bindings: &[Bind::Params, Bind::In, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// Gives every channel of a group the group's value.
pub static CHANNEL_GROUP_BROADCAST: Kernel = Kernel {
    name: "channel_group_broadcast",
    variant: "",
    parts: &[part!("channel_group_broadcast")],
    bindings: &[Bind::Params, Bind::In, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// The kernels of this file.
pub const KERNELS: &[&Kernel] = &[&CHANNEL_GROUP_SUM, &CHANNEL_GROUP_BROADCAST];

/// `ChannelGroupSumParams` of `channel_group_sum.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct ChannelGroupSumParams {
    count: u32,
    stride: u32,
    groups: u32,
    size: u32,
    columns: u32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

/// `ChannelGroupBroadcastParams` of `channel_group_broadcast.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct ChannelGroupBroadcastParams {
    count: u32,
    columns: u32,
    channels: u32,
    size: u32,
    x_stride: u32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

/// Sum over the channels of each of `groups` equal runs of channels: (N, C[, H, W]) to (N, groups[, H, W]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelGroupSum {
    /// Runs of channels; divides C.
    pub groups: usize,
}

/// The adjoint of [`ChannelGroupSum`]: (N, groups[, H, W]) to (N, channels[, H, W]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelGroupBroadcast {
    /// Channels of the output; a multiple of the input's.
    pub channels: usize,
}

/// The shape of x with `channels` channels, of which those of `x` are a multiple or a divisor.
fn regrouped(name: &str, x: &Shape, channels: usize, divides: bool) -> Result<Shape> {
    let mut dims = x.dims().to_vec();
    if x.rank() < 2 || !divides {
        return Err(Error::internal(format!("{name}: {x} has no {channels} channels or groups of them; expected (N, C) or (N, C, H, W)")));
    }
    dims[1] = channels;
    Shape::new(&dims)
}

impl Op for ChannelGroupSum {
    fn name(&self) -> &'static str {
        "channel_group_sum"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        regrouped(self.name(), x, self.groups, self.groups > 0 && x.channels().is_multiple_of(self.groups))
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let channels = graph.shape(at.inputs[0]).channels();
        Ok(vec![Some(channel_group_broadcast(graph, dy, channels)?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let x = inputs[0];
        let [n, c, h, w] = x.shape.nchw();
        let mut y = Tensor::zeros(output.clone());
        for i in 0..n {
            for j in 0..c {
                for k in 0..h * w {
                    y.data[(i * self.groups + j / (c / self.groups)) * h * w + k] += x.data[(i * c + j) * h * w + k];
                }
            }
        }
        y
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let (x, shape) = &inputs[0];
        let count = output.1.physical_len();
        let params = ChannelGroupSumParams {
            count: count as u32,
            stride: output.1.padded() as u32,
            groups: self.groups as u32,
            size: (shape.channels() / self.groups) as u32,
            columns: (shape.padded() / 4) as u32,
            reserved0: 0,
            reserved1: 0,
            reserved2: 0,
        };
        l.check_loops(&CHANNEL_GROUP_SUM, shape.channels() / self.groups / 4 + 2)?;
        l.push(Dispatch {
            kernel: &CHANNEL_GROUP_SUM,
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: vec![*x, output.0],
            workgroups: grid(count, 64),
            cost: Cost { flops: shape.len() as u64, bytes: 4 * (shape.physical_len() + count) as u64 },
        });
        Ok(())
    }
}

impl Op for ChannelGroupBroadcast {
    fn name(&self) -> &'static str {
        "channel_group_broadcast"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        regrouped(self.name(), x, self.channels, self.channels.is_multiple_of(x.channels()))
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let groups = graph.shape(at.inputs[0]).channels();
        Ok(vec![Some(channel_group_sum(graph, dy, groups)?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let x = inputs[0];
        let [_, c, h, w] = output.nchw();
        let groups = x.shape.channels();
        Tensor::from_fn(output.clone(), |i| {
            let (n, j, k) = (i / (c * h * w), i / (h * w) % c, i % (h * w));
            x.data[(n * groups + j / (c / groups)) * h * w + k]
        })
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let (x, x_shape) = &inputs[0];
        let count = output.1.physical_len() / 4;
        let params = ChannelGroupBroadcastParams {
            count: count as u32,
            columns: (output.1.padded() / 4) as u32,
            channels: self.channels as u32,
            size: (self.channels / x_shape.channels()) as u32,
            x_stride: x_shape.padded() as u32,
            reserved0: 0,
            reserved1: 0,
            reserved2: 0,
        };
        l.push(Dispatch {
            kernel: &CHANNEL_GROUP_BROADCAST,
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: vec![*x, output.0],
            workgroups: grid(count, 64),
            cost: Cost { flops: 0, bytes: 4 * (x_shape.physical_len() + 4 * count) as u64 },
        });
        Ok(())
    }
}

/// Sum over the channels of each of `groups` equal runs of channels: (N, C[, H, W]) to (N, groups[, H, W]); x itself if a run is one channel.
///
/// # Errors
/// If the groups do not divide the channels.
pub fn channel_group_sum(g: &mut Graph, x: NodeId, groups: usize) -> Result<NodeId> {
    if g.shape(x).channels() == groups { Ok(x) } else { g.apply(ChannelGroupSum { groups }, &[x]) }
}

/// (N, groups[, H, W]) to (N, channels[, H, W]), each value for a run of channels: the adjoint of [`channel_group_sum`].
///
/// # Errors
/// If the groups do not divide the channels.
pub fn channel_group_broadcast(g: &mut Graph, x: NodeId, channels: usize) -> Result<NodeId> {
    if g.shape(x).channels() == channels { Ok(x) } else { g.apply(ChannelGroupBroadcast { channels }, &[x]) }
}

/// Validated uses of the kernels of this file.
pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    // Groups of one channel, of part of a vec4, across two, of whole ones, of all channels; rows of pixels; more than one workgroup.
    let uses: [(&[usize], usize); 9] = [
        (&[1, 1], 1),
        (&[3, 5], 5),
        (&[3, 6], 3),
        (&[5, 15], 5),
        (&[5, 14], 2),
        (&[2, 32], 4),
        (&[3, 7, 2, 3], 1),
        (&[2, 12, 1, 1], 6),
        (&[37, 24, 3, 2], 8),
    ];
    for (i, (dims, groups)) in uses.into_iter().enumerate() {
        let (x, seed) = (shape(dims), i as u64);
        let mut small = dims.to_vec();
        small[1] = groups;
        cases.push(op_case(caps, &ChannelGroupSum { groups }, &[random(&x, seed, -1.0, 2.0)]));
        cases.push(op_case(caps, &ChannelGroupBroadcast { channels: dims[1] }, &[random(&shape(&small), 50 + seed, -1.0, 1.0)]));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::case_builder::assert_cases;
    use crate::ops::gradient_check::check;
    use crate::ops::new_graph;

    #[test]
    fn kernels_equal_their_twins() {
        assert_cases(KERNELS, cases);
    }

    #[test]
    fn rules_are_derivatives() {
        let x = [random(&shape(&[2, 6, 1, 2]), 1, -1.0, 1.0)];
        check("channel_group_sum", &x, |g, x| channel_group_sum(g, x[0], 3));
        check("channel_group_broadcast", &x, |g, x| channel_group_broadcast(g, x[0], 12));
    }

    #[test]
    fn groups_are_runs_of_channels() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[2, 4]), None).unwrap();
        let values = [("x".to_string(), Tensor::from_fn(shape(&[2, 4]), |i| i as f64))].into();
        let sums = channel_group_sum(&mut g, x, 2).unwrap();
        let back = channel_group_broadcast(&mut g, sums, 4).unwrap();
        let results = g.evaluate(&values, &[sums, back]).unwrap();
        assert_eq!(results[0].data, [1.0, 5.0, 9.0, 13.0]);
        assert_eq!(results[1].data, [1.0, 1.0, 5.0, 5.0, 9.0, 9.0, 13.0, 13.0]);
        assert_eq!(channel_group_sum(&mut g, x, 4).unwrap(), x);
        assert_eq!(channel_group_broadcast(&mut g, x, 4).unwrap(), x);
    }

    #[test]
    fn impossible_inputs_are_named() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[2, 4]), None).unwrap();
        let v = g.leaf("v", shape(&[4]), None).unwrap();
        let text = channel_group_sum(&mut g, x, 3).unwrap_err().to_string();
        assert!(text.contains("channel_group_sum: (2, 4) has no 3 channels or groups of them"), "{text}");
        assert!(channel_group_sum(&mut g, x, 0).is_err());
        assert!(channel_group_sum(&mut g, v, 2).is_err());
        assert!(channel_group_broadcast(&mut g, x, 6).is_err());
        assert!(channel_group_broadcast(&mut g, x, 0).is_err());
    }
}
