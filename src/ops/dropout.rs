//! Dropout: a counter-based mask, drawn where it is applied and never stored.

use super::case::Case;
use super::case_builder::CaseBuilder;
use super::loaders::{Loaders, Loading, loaders};
use super::noise::{Draw, FIXED, Source, threefry};
use super::reduce::check_groups;
use super::{random, shape, widths};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::gpu::step::StepRow;
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::op::{Application, Op};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};
use bytemuck::{Pod, Zeroable};

/// x times the mask.
pub static DROPOUT: Loaders = loaders!(
    "dropout",
    ["in2_texture"],
    ["in2_buffer"],
    ["threefry"],
    &[Bind::Params, Bind::Step, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::Step, Bind::In, Bind::Out]
);

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&DROPOUT.texture, &DROPOUT.u64, &DROPOUT.vec4];

/// `DropoutParams` of `dropout.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct DropoutParams {
    count: u32,
    columns: u32,
    channels: u32,
    pixels: u32,
    key: [u32; 2],
    slot: u32,
    draw: u32,
    threshold: u32,
    scale: f32,
    groups: u32,
    images: u32,
}

/// `x * mask`, where the mask is 0 with probability p and 1 / (1 - p) otherwise, for each element by itself (Srivastava et al. 2014,
/// scaled in training as torch.nn.functional.dropout does).
///
/// Linear in x, and its own gradient: the mask is drawn again wherever it is needed, from the source, the draw and the element's place in
/// the *logical* order of (N, C, H, W), so that layouts and micro-batches do not change it. Ops that are equal drop the same elements:
/// every layer needs a source of its own.
///
/// The twin takes a step row of zeros for [`Draw::Step`]: draw counter 0, no images skipped. [`dropout_mask`] gives the masks of other
/// rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Probability of a zero, in [0, 1); rounded to a multiple of 2^-32.
    pub p: f64,
    /// Random numbers of this layer.
    pub source: Source,
    /// Draw counter.
    pub draw: Draw,
    /// Equal runs of the batch (reals and fakes), whose images are numbered in turn: a micro-batch of all of them takes its part of the
    /// whole batch's mask.
    pub groups: usize,
}

impl Dropout {
    /// Elements whose random word is below are dropped.
    fn threshold(&self) -> u32 {
        (self.p * 2f64.powi(32)).round() as u32
    }

    /// What the others are multiplied by.
    fn scale(&self) -> f32 {
        (1.0 / (1.0 - self.p)) as f32
    }
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        if !(0.0..1.0).contains(&self.p) {
            return Err(Error::input(format!("dropout: p is {}, expected a probability from 0 to below 1", self.p)));
        }
        check_groups(self.name(), x, self.groups)?;
        Ok(x.clone())
    }

    fn gradient(&self, g: &mut Graph, _at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        Ok(vec![Some(g.apply(*self, &[dy])?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let counter = match self.draw {
            Draw::Fixed(counter) => counter,
            Draw::Step(_) => 0,
        };
        let mask = dropout_mask(self, output, counter, 0);
        Tensor::from_fn(output.clone(), |i| inputs[0].data[i] * mask.data[i])
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let shape = output.1;
        let loading = Loading::new(&l.caps, shape.physical_len(), shape.physical_len());
        let count = shape.physical_len() / 4 / loading.width();
        let [images, channels, height, width] = shape.nchw();
        let (slot, draw) = match self.draw {
            Draw::Step(slot) => (slot, 0),
            Draw::Fixed(draw) => (FIXED, draw),
        };
        let params = DropoutParams {
            count: count as u32,
            columns: (shape.padded() / 4) as u32,
            channels: channels as u32,
            pixels: (height * width) as u32,
            key: self.source.key(),
            slot,
            draw,
            threshold: self.threshold(),
            scale: self.scale(),
            groups: self.groups as u32,
            images: (images / self.groups) as u32,
        };
        l.push(Dispatch {
            kernel: DROPOUT.kernel(loading),
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: vec![inputs[0].0, output.0],
            workgroups: grid(count, 64),
            // The cipher is integer arithmetic.
            cost: Cost { flops: shape.len() as u64, bytes: 8 * shape.physical_len() as u64 },
        });
        Ok(())
    }
}

/// The mask of a batch of the given shape, in logical order, under a step row with this draw counter and so many images of each group
/// skipped.
pub fn dropout_mask(dropout: &Dropout, shape: &Shape, counter: u32, skipped: usize) -> Tensor {
    let image_len = shape.len() / shape.nchw()[0];
    let images = shape.nchw()[0] / dropout.groups;
    let key = dropout.source.key();
    Tensor::from_fn(shape.clone(), |i| {
        let (group, image) = (i / image_len / images, i / image_len % images);
        let element = ((skipped + image) * dropout.groups + group) * image_len + i % image_len;
        let word = threefry(key, [(element / 2) as u32, counter])[element % 2];
        if word < dropout.threshold() { 0.0 } else { f64::from(dropout.scale()) }
    })
}

/// Dropout of a batch in one group; x itself for p = 0.
///
/// # Errors
/// If `p` is not in [0, 1).
pub fn dropout(g: &mut Graph, x: NodeId, p: f64, source: Source, draw: Draw) -> Result<NodeId> {
    dropout_groups(g, x, p, source, draw, 1)
}

/// Dropout of a batch of `groups` equal runs; x itself for p = 0. See [`Dropout::groups`].
///
/// # Errors
/// If `p` is not in [0, 1), or the batch does not divide.
pub fn dropout_groups(g: &mut Graph, x: NodeId, p: f64, source: Source, draw: Draw, groups: usize) -> Result<NodeId> {
    if p == 0.0 { Ok(x) } else { g.apply(Dropout { p, source, draw, groups }, &[x]) }
}

/// Cases of this file's kernels. What they write is compared exactly.
pub fn cases(caps: &Caps) -> Vec<Case> {
    // One element, an odd count, C not a multiple of 4, C = 8 (wide rows), H != W, more than one row of texels.
    let shapes: [(&[usize], usize); 7] =
        [(&[1, 1], 1), (&[3, 63], 1), (&[4, 64], 2), (&[2, 5, 3, 7], 2), (&[6, 8, 3, 1], 3), (&[4, 6, 5, 5], 1), (&[38, 13, 7, 5], 2)];
    let mut cases = Vec::new();
    for caps in widths(caps) {
        for (k, (dims, groups)) in shapes.into_iter().enumerate() {
            let source = Source { seed: 0x0123_4567_89ab_cdef, stream: 5 + k as u32 };
            let x = random(&shape(dims), k as u64, -2.0, 2.0);
            for (p, draw) in [(0.3, Draw::Step(StepRow::draw(k))), (0.5, Draw::Fixed(9)), (0.999, Draw::Fixed(1)), (1e-9, Draw::Fixed(2))] {
                cases.push(dropout_case(&caps, &x, Dropout { p, source, draw, groups }));
            }
        }
    }
    cases
}

fn dropout_case(caps: &Caps, x: &Tensor, op: Dropout) -> Case {
    let mut b = CaseBuilder::new(caps);
    let (counter, skipped) = match op.draw {
        Draw::Fixed(counter) => (counter, 0),
        Draw::Step(slot) => {
            b.step.slots[slot as usize] = [1, 2, 0xfedc_ba98, 3];
            (0xfedc_ba98, 3)
        }
    };
    let mask = dropout_mask(&op, &x.shape, counter, skipped);
    // One multiplication, rounded once.
    let expected = Tensor::from_fn(x.shape.clone(), |i| f64::from(x.data[i] as f32 * mask.data[i] as f32));
    let words: Vec<u32> = expected.pack().iter().map(|v| v.to_bits()).collect();
    let input = b.input(&x.pack());
    let output = b.words(vec![u32::MAX; words.len()], words);
    op.lower(&mut b.lowering, &[(input, x.shape.clone())], (output, x.shape.clone())).expect("the inputs of cases are written by hand");
    b.finish(format!("{op:?} {}", x.shape))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing;
    use crate::ops::case::{self, CaseBuffer};
    use crate::ops::case_builder::assert_cases;
    use crate::ops::gradient_check::check;
    use crate::ops::new_graph;

    const SOURCE: Source = Source { seed: 42, stream: 7 };

    fn op(p: f64) -> Dropout {
        Dropout { p, source: SOURCE, draw: Draw::Step(StepRow::draw(0)), groups: 1 }
    }

    #[test]
    fn kernels_equal_their_twins() {
        assert_cases(KERNELS, cases);
    }

    #[test]
    fn rules_are_derivatives() {
        let x = [random(&shape(&[4, 3, 2, 2]), 1, -2.0, 2.0)];
        for groups in [1, 2] {
            check("dropout", &x, |g, x| dropout_groups(g, x[0], 0.4, SOURCE, Draw::Fixed(3), groups));
        }
    }

    #[test]
    fn the_gradient_is_the_same_op() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[2, 3]), None).unwrap();
        let dy = g.leaf("dy", shape(&[2, 3]), None).unwrap();
        let y = dropout(&mut g, x, 0.5, SOURCE, Draw::Step(4)).unwrap();
        let dx = g.gradients(&[(y, dy)], &[x]).unwrap()[0].unwrap();
        assert_eq!(g.op::<Dropout>(dx), g.op::<Dropout>(y));
        assert_eq!(g.inputs(dx), [dy]);
        assert_eq!(dropout(&mut g, x, 0.0, SOURCE, Draw::Step(4)).unwrap(), x);
    }

    #[test]
    fn the_share_of_zeros_is_p_and_the_mean_one() {
        let n = 200_000.0f64;
        for (p, counter) in [(0.1, 0), (0.5, 1), (0.9, u32::MAX)] {
            let mask = dropout_mask(&op(p), &shape(&[200, 1000]), counter, 0);
            let zeros = mask.data.iter().filter(|v| **v == 0.0).count() as f64;
            let mean = mask.data.iter().sum::<f64>() / n;
            // Five standard errors.
            assert!((zeros / n - p).abs() < 5.0 * (p * (1.0 - p) / n).sqrt(), "p {p}: {zeros} zeros of {n}");
            assert!((mean - 1.0).abs() < 5.0 * (p / (1.0 - p) / n).sqrt(), "p {p}: mean {mean}");
            assert!(mask.data.iter().all(|v| *v == 0.0 || *v == f64::from((1.0 / (1.0 - p)) as f32)));
            // Neighbours share a block of the cipher, and next-but-ones have adjacent counters.
            for lag in 1..4 {
                let both = mask.data.iter().zip(&mask.data[lag..]).filter(|(a, b)| **a == 0.0 && **b == 0.0).count() as f64;
                let q = p * p;
                assert!((both / n - q).abs() < 5.0 * (3.0 * q * (1.0 - q) / n).sqrt(), "p {p} lag {lag}: {both} pairs");
            }
        }
    }

    #[test]
    fn seeds_streams_and_draws_differ() {
        let shape = shape(&[10, 100]);
        let mut masks = Vec::new();
        for (seed, stream, counter) in [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)] {
            masks.push(dropout_mask(&Dropout { source: Source { seed, stream }, ..op(0.5) }, &shape, counter, 0));
        }
        for i in 0..masks.len() {
            for j in 0..i {
                let equal = masks[i].data.iter().zip(&masks[j].data).filter(|(a, b)| a == b).count();
                // 500 expected; five standard deviations are 79.
                assert!((421..580).contains(&equal), "masks {i} and {j} agree in {equal} of 1000 elements");
            }
        }
    }

    /// Micro-batches of a pair: each sees the images of its number of both halves, on the device as in the twin.
    #[test]
    fn parts_reproduce_the_mask_of_the_whole_batch() {
        let whole = shape(&[12, 5, 3, 2]);
        let op = Dropout { groups: 2, ..op(0.5) };
        let mask = dropout_mask(&op, &whole, 77, 0);
        let ones = Tensor::from_fn(shape(&[4, 5, 3, 2]), |_| 1.0);
        let image = 30;
        for first in [0, 2, 4] {
            let slice = |half: usize| mask.data[(half * 6 + first) * image..][..2 * image].to_vec();
            let expected = Tensor::new(ones.shape.clone(), [slice(0), slice(1)].concat());
            assert_eq!(dropout_mask(&op, &ones.shape, 77, first), expected, "images {first} and {}", first + 1);
            let Some(gpu) = testing::gpu() else { continue };
            for caps in widths(&gpu.caps()) {
                let mut case = super::super::op_case(&caps, &op, std::slice::from_ref(&ones));
                case.step.slots[StepRow::draw(0) as usize][2] = 77;
                case.step = case.step.micro_batch(1, first as u32);
                let words: Vec<u32> = expected.pack().iter().map(|v| v.to_bits()).collect();
                case.buffers[1] = CaseBuffer::Words(vec![u32::MAX; words.len()], words);
                assert_eq!(case::run(gpu, &case).unwrap().failure, None);
            }
        }
    }

    #[test]
    fn impossible_parameters_are_named() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[6, 3]), None).unwrap();
        for p in [1.0, -0.1, f64::NAN, f64::INFINITY] {
            let text = dropout(&mut g, x, p, SOURCE, Draw::Fixed(0)).unwrap_err().to_string();
            assert!(text.contains(&format!("dropout: p is {p}, expected a probability from 0 to below 1")), "{text}");
        }
        let text = dropout_groups(&mut g, x, 0.5, SOURCE, Draw::Fixed(0), 4).unwrap_err().to_string();
        assert!(text.contains("dropout: a batch of 6 does not divide into 4 groups"), "{text}");
    }
}
