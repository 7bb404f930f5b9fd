//! Statistics of training: they accumulate on the device and are read once a tick.
//!
//! Two small buffers hold them. The *stats* buffer ([`StatsLayout`]) has one entry per [`Stat`] and is cleared by
//! the host when it has read it, once a tick.
//! The *events* buffer (four words) keeps the first bad event of the run ([`BadEvent`]) and is never cleared: what follows a NaN is noise.

use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::gpu::step::StepRow;
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::ops::case::Case;
use crate::ops::case_builder::{CaseBuilder, normals, variants, widen};
use crate::ops::loaders::{Loaders, loaders};
use crate::ops::optimiser::Walk;
use crate::part;
use bytemuck::{Pod, Zeroable};
use std::ops::Range;

/// A quantity that is followed over the steps of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stat {
    /// D's loss on reals.
    LossDReal,
    /// D's loss on fakes.
    LossDFake,
    /// G's loss.
    LossG,
    /// D's penalty (gradient penalty, R1, R2), weighted as it enters the loss.
    Penalty,
    /// Mean sigmoid of D's logits on reals, D(x).
    DX,
    /// Mean sigmoid of D's logits on fakes before D's update, D(G(z1)).
    DGZ1,
    /// Mean sigmoid of D's logits on fakes after D's update, D(G(z2)).
    DGZ2,
    /// Share of positive logits on reals.
    SignsReal,
    /// Share of positive logits on fakes.
    SignsFake,
    /// Norm of D's gradient.
    GradNormD,
    /// Norm of G's gradient.
    GradNormG,
}

impl Stat {
    /// All of them, in the order of the buffer.
    pub const ALL: [Stat; 11] = [
        Stat::LossDReal,
        Stat::LossDFake,
        Stat::LossG,
        Stat::Penalty,
        Stat::DX,
        Stat::DGZ1,
        Stat::DGZ2,
        Stat::SignsReal,
        Stat::SignsFake,
        Stat::GradNormD,
        Stat::GradNormG,
    ];

    /// Name in logs: `"loss_d_real"`, `"d_g_z1"`.
    pub fn name(self) -> &'static str {
        match self {
            Stat::LossDReal => "loss_d_real",
            Stat::LossDFake => "loss_d_fake",
            Stat::LossG => "loss_g",
            Stat::Penalty => "penalty",
            Stat::DX => "d_x",
            Stat::DGZ1 => "d_g_z1",
            Stat::DGZ2 => "d_g_z2",
            Stat::SignsReal => "signs_real",
            Stat::SignsFake => "signs_fake",
            Stat::GradNormD => "grad_norm_d",
            Stat::GradNormG => "grad_norm_g",
        }
    }
}

/// Layout of the stats buffer, f32 words.
///
/// | words | content |
/// |---|---|
/// | 4 s .. 4 s + 4, s the index of a [`Stat`] | count, mean, sum of squared deviations from the mean, latest value |
/// | the last 4 | scratch of `norm_stats`: sum of squares and bad tensors of the segments so far, 0, 0 |
///
/// Entries are updated by Welford's rule (Technometrics 4, 1962), which keeps its accuracy in f32 where mean and spread differ by orders of
/// magnitude; sums of squares would not. A buffer of zeros is an empty tick.
#[derive(Debug, Clone, Copy)]
pub struct StatsLayout;

impl StatsLayout {
    /// Entry that `norm_stats` keeps its running sum in.
    const CARRY: u32 = Stat::ALL.len() as u32;
    /// Length of the stats buffer in 32-bit words.
    pub const WORDS: usize = 4 * (Stat::ALL.len() + 1);

    /// What a tick's buffer says, for each statistic that has a value.
    ///
    /// # Errors
    /// [`Error::Internal`] if `words` is not a stats buffer.
    pub fn read(words: &[f32]) -> Result<Vec<(Stat, Summary)>> {
        if words.len() != Self::WORDS {
            return Err(Error::internal(format!("a stats buffer of {} words, expected {}", words.len(), Self::WORDS)));
        }
        let entries = Stat::ALL.into_iter().zip(words.chunks_exact(4));
        Ok(entries
            .filter(|(_, w)| w[0] > 0.0)
            .map(|(stat, w)| {
                let [count, mean, m2, latest] = [w[0], w[1], w[2], w[3]].map(f64::from);
                (stat, Summary { count: count as u64, mean, std: (m2 / count).max(0.0).sqrt(), latest })
            })
            .collect())
    }
}

/// A statistic over a tick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Number of values.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation (of the values themselves: divided by count).
    pub std: f64,
    /// The latest value.
    pub latest: f64,
}

/// What was not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Culprit {
    /// The gradient of a tensor, by its index in the store.
    Gradient(u32),
    /// D's logits.
    Logits,
    /// A scalar of the graph.
    Scalar(Stat),
}

/// The first bad event of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadEvent {
    /// Step in which it happened.
    pub step: u64,
    /// Id of the network's store, as given to the lowering function.
    pub store: u32,
    /// What was not finite.
    pub culprit: Culprit,
}

impl BadEvent {
    /// Length of the events buffer in 32-bit words: step low, step high, culprit, store. A culprit of 0 means that nothing happened.
    pub const WORDS: usize = 4;

    /// The event in a buffer, if there is one.
    pub fn read(words: [u32; Self::WORDS]) -> Option<BadEvent> {
        let [low, high, culprit, store] = words;
        let scalar = (u32::MAX - 1).checked_sub(culprit).and_then(|i| Stat::ALL.get(i as usize));
        let culprit = match (culprit, scalar) {
            (0, _) => return None,
            (u32::MAX, _) => Culprit::Logits,
            (_, Some(stat)) => Culprit::Scalar(*stat),
            (tensor, None) => Culprit::Gradient(tensor - 1),
        };
        Some(BadEvent { step: u64::from(low) | u64::from(high) << 32, store, culprit })
    }
}

impl Culprit {
    /// How the events buffer says it: tensors count from 1, everything else from the top.
    fn code(self) -> u32 {
        match self {
            Culprit::Gradient(tensor) => tensor + 1,
            Culprit::Logits => u32::MAX,
            Culprit::Scalar(stat) => u32::MAX - 1 - stat as u32,
        }
    }
}

/// The two buffers of statistics.
#[derive(Debug, Clone, Copy)]
pub struct TickBuffers {
    /// [`StatsLayout::WORDS`] f32 words.
    pub stats: Operand,
    /// [`BadEvent::WORDS`] u32 words.
    pub events: Operand,
}

/// A segment of a network's gradient store.
#[derive(Debug, Clone)]
pub struct GradSegment {
    /// The gradients.
    pub grads: Operand,
    /// Length in words, a multiple of 64. Words that belong to no tensor are zero.
    pub words: usize,
    /// Word ranges of the tensors, each starting at a multiple of 64.
    pub tensors: Vec<Range<usize>>,
}

/// Where `score_stats` puts what it finds; `None` leaves it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScoreTargets {
    /// Mean binary cross entropy with logits.
    pub loss: Option<Stat>,
    /// Mean sigmoid.
    pub score: Option<Stat>,
    /// Share of positive logits.
    pub signs: Option<Stat>,
}

/// Parameters of `grad_blocks` and `tensor_norms`: the number of blocks or runs.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct CountParams {
    count: u32,
    reserved: [u32; 3],
}

/// Parameters of `norm_stats`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct NormStatsParams {
    tensors: u32,
    first_tensor: u32,
    store: u32,
    slot: u32,
    stat: u32,
    carry: u32,
    starts: u32,
    ends: u32,
}

/// Parameters of `score_stats`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct ScoreStatsParams {
    start: u32,
    rows: u32,
    is_real: u32,
    slot: u32,
    loss_stat: u32,
    score_stat: u32,
    sign_stat: u32,
    culprit: u32,
    store: u32,
    reserved: [u32; 3],
}

/// Parameters of `scalar_stats`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct ScalarStatsParams {
    stat: u32,
    slot: u32,
    culprit: u32,
    store: u32,
}

/// `grad_blocks`.
pub static GRAD_BLOCKS: Loaders = loaders!(
    "grad_blocks",
    ["in1_texture"],
    ["in1_buffer"],
    [],
    &[Bind::Params, Bind::Texture, Bind::Out, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out, Bind::Out]
);

/// `tensor_norms`.
pub static TENSOR_NORMS: Kernel = Kernel {
    name: "tensor_norms",
    variant: "",
    parts: &[part!("tensor_norms")],
    bindings: &[Bind::Params, Bind::In, Bind::In, Bind::In, Bind::Out, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// `norm_stats`.
pub static NORM_STATS: Kernel = Kernel {
    name: "norm_stats",
    variant: "",
    parts: &[part!("tick_stats"), part!("norm_stats")],
    bindings: &[Bind::Params, Bind::Step, Bind::In, Bind::In, Bind::InOut, Bind::InOut],
    workgroup: [1, 1, 1],
    features: &[],
};

/// `score_stats`.
pub static SCORE_STATS: Kernel = Kernel {
    name: "score_stats",
    variant: "",
    parts: &[part!("tick_stats"), part!("score_stats")],
    bindings: &[Bind::Params, Bind::Step, Bind::In, Bind::InOut, Bind::InOut],
    workgroup: [1, 1, 1],
    features: &[],
};

/// `scalar_stats`.
pub static SCALAR_STATS: Kernel = Kernel {
    name: "scalar_stats",
    variant: "",
    parts: &[part!("tick_stats"), part!("scalar_stats")],
    bindings: &[Bind::Params, Bind::Step, Bind::In, Bind::InOut, Bind::InOut],
    workgroup: [1, 1, 1],
    features: &[],
};

/// Kernels of this file.
pub static KERNELS: &[&Kernel] =
    &[&GRAD_BLOCKS.texture, &GRAD_BLOCKS.u64, &GRAD_BLOCKS.vec4, &TENSOR_NORMS, &NORM_STATS, &SCORE_STATS, &SCALAR_STATS];

/// Words of a block of `grad_blocks`; tensors of a store start at multiples of it.
pub const BLOCK: usize = 64;

/// Most partial sums that one invocation of `tensor_norms` adds.
const RUN: usize = 64;

/// Adds the norm of a network's whole gradient to `stat`, and latches the first tensor whose gradient is not finite, or whose sum of squares is
/// not. Tensors are numbered through the segments in order. A norm that is not finite is not counted.
///
/// # Errors
/// [`Error::Internal`] if there is no tensor, a tensor does not start at a multiple of [`BLOCK`], is empty, or reaches beyond its segment; or if
/// a segment is no multiple of [`BLOCK`] or more than one binding holds.
pub fn lower_grad_norm(l: &mut Lowering, segments: &[GradSegment], tick: TickBuffers, stat: Stat, store: u32) -> Result<()> {
    let mut first_tensor = 0;
    for (i, segment) in segments.iter().enumerate() {
        let (sumsq, bad) = lower_tensor_norms(l, segment)?;
        let tensors = segment.tensors.len();
        let params = NormStatsParams {
            tensors: tensors as u32,
            first_tensor: first_tensor as u32,
            store,
            slot: StepRow::STEP,
            stat: stat as u32,
            carry: StatsLayout::CARRY,
            starts: u32::from(i == 0),
            ends: u32::from(i + 1 == segments.len()),
        };
        let cost = Cost { flops: tensors as u64, bytes: 8 * tensors as u64 };
        push(l, &NORM_STATS, &params, vec![sumsq, bad, tick.stats, tick.events], 1, cost);
        first_tensor += tensors;
    }
    if segments.is_empty() { Err(Error::internal("the gradient norm of a store without segments")) } else { Ok(()) }
}

/// Per tensor of a segment, the sum of squares of its finite gradients (f32) and the number of others (u32).
fn lower_tensor_norms(l: &mut Lowering, segment: &GradSegment) -> Result<(Operand, Operand)> {
    let GradSegment { grads, words, tensors } = segment;
    let fits = |t: &Range<usize>| t.start.is_multiple_of(BLOCK) && t.start < t.end && t.end <= *words;
    if tensors.is_empty() || !tensors.iter().all(fits) || !words.is_multiple_of(BLOCK) {
        return Err(Error::internal(format!(
            "gradient segment of {words} words with tensors at {tensors:?}: expected whole blocks of {BLOCK} words, and at least one tensor, \
             each starting a block and inside the segment"
        )));
    }
    let kernel = GRAD_BLOCKS.kernel(Walk::new(&l.caps, "grad_blocks", *words)?.loading);
    let blocks = words / BLOCK;
    let (mut sumsq, mut bad) = (l.scratch(blocks), l.scratch(blocks));
    let cost = Cost { flops: 2 * *words as u64, bytes: (4 * words + 8 * blocks) as u64 };
    push(l, kernel, &CountParams { count: blocks as u32, reserved: [0; 3] }, vec![*grads, sumsq, bad], blocks, cost);

    let mut parts: Vec<Range<usize>> = tensors.iter().map(|t| t.start / BLOCK..t.end.div_ceil(BLOCK)).collect();
    loop {
        let mut table: Vec<[u32; 2]> = Vec::new();
        let mut sums = Vec::with_capacity(parts.len());
        for part in &parts {
            let start = table.len();
            table.extend(part.clone().step_by(RUN).map(|first| [first as u32, RUN.min(part.end - first) as u32]));
            sums.push(start..table.len());
        }
        let runs = table.len();
        let added: u64 = table.iter().map(|[_, count]| u64::from(*count)).sum();
        let table = l.constant(bytemuck::cast_slice(&table).to_vec());
        let (sumsq_out, bad_out) = (l.scratch(runs), l.scratch(runs));
        let cost = Cost { flops: added, bytes: 8 * added + 16 * runs as u64 };
        let operands = vec![table, sumsq, bad, sumsq_out, bad_out];
        push(l, &TENSOR_NORMS, &CountParams { count: runs as u32, reserved: [0; 3] }, operands, runs, cost);
        (sumsq, bad, parts) = (sumsq_out, bad_out, sums);
        if parts.iter().all(|p| p.len() == 1) {
            return Ok((sumsq, bad));
        }
    }
}

/// Adds the mean loss, mean score and share of positive logits of the rows `rows` of D's logits (N, 1) to a tick, with real or fake targets.
/// Logits that are not finite are latched, and then nothing is added.
///
/// # Errors
/// [`Error::Internal`] if `rows` is empty.
pub fn lower_score_stats(
    l: &mut Lowering,
    logits: Operand,
    rows: Range<usize>,
    real: bool,
    targets: ScoreTargets,
    tick: TickBuffers,
    store: u32,
) -> Result<()> {
    if rows.is_empty() {
        return Err(Error::internal("score statistics of no rows"));
    }
    let index = |stat: Option<Stat>| stat.map_or(u32::MAX, |s| s as u32);
    let n = rows.len();
    let params = ScoreStatsParams {
        start: rows.start as u32,
        rows: n as u32,
        is_real: u32::from(real),
        slot: StepRow::STEP,
        loss_stat: index(targets.loss),
        score_stat: index(targets.score),
        sign_stat: index(targets.signs),
        culprit: Culprit::Logits.code(),
        store,
        reserved: [0; 3],
    };
    let cost = Cost { flops: 25 * n as u64, bytes: 16 * n as u64 };
    push(l, &SCORE_STATS, &params, vec![logits, tick.stats, tick.events], 1, cost);
    Ok(())
}

/// Adds a scalar of the graph to a tick; if it is not finite, latches that instead.
///
/// # Errors
/// None today; the signature is that of all lowering functions.
pub fn lower_scalar_stats(l: &mut Lowering, value: Operand, stat: Stat, tick: TickBuffers, store: u32) -> Result<()> {
    let params = ScalarStatsParams { stat: stat as u32, slot: StepRow::STEP, culprit: Culprit::Scalar(stat).code(), store };
    push(l, &SCALAR_STATS, &params, vec![value, tick.stats, tick.events], 1, Cost { flops: 7, bytes: 48 });
    Ok(())
}

fn push<P: Pod>(l: &mut Lowering, kernel: &'static Kernel, params: &P, operands: Vec<Operand>, invocations: usize, cost: Cost) {
    l.push(Dispatch {
        kernel,
        overrides: Vec::new(),
        params: bytemuck::bytes_of(params).to_vec(),
        operands,
        workgroups: grid(invocations, kernel.workgroup[0]),
        cost,
    });
}

/// f64 twins of the kernels.
pub mod twin {
    use super::{BadEvent, ScoreTargets, Stat, StatsLayout};

    /// The state of a tick: the stats buffer as f64, and the events buffer.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Tick {
        /// As [`StatsLayout`].
        pub stats: Vec<f64>,
        /// As [`BadEvent`].
        pub events: [u32; BadEvent::WORDS],
    }

    impl Tick {
        /// An empty tick of a run in which nothing bad happened.
        pub fn new() -> Self {
            Tick { stats: vec![0.0; StatsLayout::WORDS], events: [0; BadEvent::WORDS] }
        }

        /// One more value of a statistic.
        pub fn add(&mut self, stat: Stat, x: f64) {
            let w = &mut self.stats[4 * stat as usize..][..4];
            let (count, mean, m2) = (w[0] + 1.0, (w[0] * w[1] + x) / (w[0] + 1.0), w[2] + w[0] / (w[0] + 1.0) * (x - w[1]).powi(2));
            w.copy_from_slice(&[count, mean, m2, x]);
        }

        fn latch(&mut self, step: u64, culprit: u32, store: u32) {
            if self.events[2] == 0 {
                self.events = [(step % (1 << 32)) as u32, (step / (1 << 32)) as u32, culprit, store];
            }
        }
    }

    impl Default for Tick {
        fn default() -> Self {
            Tick::new()
        }
    }

    /// Sum of squares of the finite values and number of the others, per block of 64.
    pub fn grad_blocks(grads: &[f64]) -> Vec<(f64, u32)> {
        grads
            .chunks(64)
            .map(|block| {
                let finite = block.iter().filter(|g| g.is_finite());
                (finite.clone().map(|g| g * g).sum(), (block.len() - finite.count()) as u32)
            })
            .collect()
    }

    /// Sums of runs of partials, as (first, count).
    pub fn tensor_norms(partials: &[(f64, u32)], table: &[(usize, usize)]) -> Vec<(f64, u32)> {
        table
            .iter()
            .map(|(first, count)| {
                let run = &partials[*first..first + count];
                (run.iter().map(|p| p.0).sum(), run.iter().map(|p| p.1).sum())
            })
            .collect()
    }

    /// Norm over the tensors of all segments into a tick. Sums beyond f32's range count as bad, as on the device.
    pub fn norm_stats(tick: &mut Tick, tensors: &[(f64, u32)], stat: Stat, store: u32, step: u64) {
        let mut total = (0.0, 0.0);
        for (t, (sumsq, bad)) in tensors.iter().enumerate() {
            if *bad > 0 || *sumsq > f64::from(f32::MAX) {
                tick.latch(step, t as u32 + 1, store);
                total.1 += 1.0;
            } else {
                total.0 += sumsq;
            }
        }
        let carry = tick.stats.len() - 4;
        tick.stats[carry..].copy_from_slice(&[total.0, total.1, 0.0, 0.0]);
        if total.1 == 0.0 && total.0 <= f64::from(f32::MAX) {
            tick.add(stat, total.0.sqrt());
        }
    }

    /// Loss, score and signs of logits into a tick.
    pub fn score_stats(tick: &mut Tick, logits: &[f64], real: bool, targets: ScoreTargets, store: u32, step: u64) {
        if logits.iter().any(|x| !x.is_finite()) {
            return tick.latch(step, u32::MAX, store);
        }
        let mean = |f: &dyn Fn(f64) -> f64| logits.iter().map(|x| f(*x)).sum::<f64>() / logits.len() as f64;
        let softplus = |t: f64| if t > 0.0 { t + (-t).exp().ln_1p() } else { t.exp().ln_1p() };
        if let Some(stat) = targets.loss {
            tick.add(stat, mean(&|x| softplus(if real { -x } else { x })));
        }
        if let Some(stat) = targets.score {
            tick.add(stat, mean(&|x| 1.0 / (1.0 + (-x).exp())));
        }
        if let Some(stat) = targets.signs {
            tick.add(stat, mean(&|x| f64::from(u8::from(x > 0.0))));
        }
    }

    /// A scalar into a tick.
    pub fn scalar_stats(tick: &mut Tick, value: f64, stat: Stat, store: u32, step: u64) {
        if value.is_finite() {
            tick.add(stat, value);
        } else {
            tick.latch(step, u32::MAX - 1 - stat as u32, store);
        }
    }
}

const VALID: &str = "case sizes are valid";

/// A step number whose halves differ.
const STEP: u64 = (3 << 32) + 77;

/// Cases of this file's kernels.
pub fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    for caps in variants(caps) {
        cases.extend(grad_norm_cases(&caps));
    }
    cases.extend(score_cases(caps));
    for (k, values) in [[0.5, -2.0], [f32::NAN, 1.5], [1.0, f32::NEG_INFINITY]].into_iter().enumerate() {
        cases.push(tick_case(caps, format!("scalar_stats {values:?}"), |b, tick, buffers| {
            for x in values {
                twin::scalar_stats(tick, f64::from(x), Stat::Penalty, 5, STEP);
                let value = b.input(&[x, 0.0, 0.0, 0.0]);
                lower_scalar_stats(&mut b.lowering, value, Stat::Penalty, buffers, 5).expect(VALID);
            }
            assert_eq!(BadEvent::read(tick.events).is_some(), k > 0, "a case of its own kind");
        }));
    }
    cases
}

/// A case on a tick that already has values. `run` advances the twin's tick and lowers the same onto the buffers.
fn tick_case(caps: &Caps, name: String, run: impl FnOnce(&mut CaseBuilder, &mut twin::Tick, TickBuffers)) -> Case {
    let mut tick = twin::Tick::new();
    for stat in Stat::ALL {
        for x in normals(stat as u64, 3) {
            tick.add(stat, f64::from(x));
        }
    }
    let before: Vec<f32> = tick.stats.iter().map(|v| *v as f32).collect();
    tick.stats = widen(&before);
    let mut b = CaseBuilder::new(caps);
    b.step.slots[StepRow::STEP as usize] = [STEP as u32, (STEP >> 32) as u32, 0, 0];
    // What comes out is known only after `run`, so the buffers are declared first and filled in last.
    let stats = b.state(before.clone(), widen(&before));
    let events = b.words(tick.events.to_vec(), tick.events.to_vec());
    run(&mut b, &mut tick, TickBuffers { stats, events });
    b.expect_state(stats, tick.stats);
    b.expect_words(events, tick.events.to_vec());
    // The entries differ by orders of magnitude, so each is held to its own.
    Case { atol: 1e-9, ..b.finish(name) }
}

fn grad_norm_cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    // Tensor lengths of each segment, and planted values as (segment, tensor, word, value).
    type Plants = Vec<(usize, usize, usize, f32)>;
    let layouts: [(&str, Vec<Vec<usize>>, Plants); 8] = [
        ("one word", vec![vec![1]], vec![]),
        ("awkward tensors", vec![vec![63, 64, 65, 1000, 1, 4097]], vec![]),
        ("three stages", vec![vec![64 * 64 * 64 + 1, 5]], vec![]),
        ("two segments", vec![vec![1000, 64], vec![130, 1]], vec![]),
        ("a NaN", vec![vec![63, 65, 1000]], vec![(0, 1, 64, f32::NAN), (0, 2, 3, f32::INFINITY)]),
        ("an infinity in the second segment", vec![vec![63, 65], vec![128, 1000]], vec![(1, 1, 999, f32::NEG_INFINITY)]),
        ("a bad first segment", vec![vec![63, 65], vec![128]], vec![(0, 0, 0, f32::from_bits(0xff80_0001))]),
        ("a sum of squares that overflows", vec![vec![64, 64]], vec![(0, 1, 0, 3e19)]),
    ];
    for (k, (name, lengths, plants)) in layouts.into_iter().enumerate() {
        let mut segments = Vec::new();
        for (s, lengths) in lengths.iter().enumerate() {
            let mut tensors = Vec::new();
            let mut words = 0;
            for len in lengths {
                tensors.push(words..words + len);
                words = (words + len).next_multiple_of(BLOCK);
            }
            let mut grads = vec![0.0; words];
            for (t, range) in tensors.iter().enumerate() {
                grads[range.clone()].copy_from_slice(&normals(100 * k as u64 + 10 * s as u64 + t as u64, range.len()));
            }
            for (_, t, word, value) in plants.iter().filter(|p| p.0 == s) {
                grads[tensors[*t].start + word] = *value;
            }
            segments.push((grads, tensors));
        }
        // The twin sums each tensor in one go, whatever the stages of the device.
        let sums: Vec<(f64, u32)> = segments
            .iter()
            .flat_map(|(grads, tensors)| {
                let table: Vec<_> = tensors.iter().map(|t| (t.start / BLOCK, t.len().div_ceil(BLOCK))).collect();
                twin::tensor_norms(&twin::grad_blocks(&widen(grads)), &table)
            })
            .collect();
        cases.push(tick_case(caps, format!("grad norm, {name}, twice"), |b, tick, buffers| {
            let segments: Vec<GradSegment> = segments
                .iter()
                .map(|(grads, tensors)| GradSegment { grads: b.input(grads), words: grads.len(), tensors: tensors.clone() })
                .collect();
            for (stat, store) in [(Stat::GradNormD, 4), (Stat::GradNormG, 9)] {
                twin::norm_stats(tick, &sums, stat, store, STEP);
                lower_grad_norm(&mut b.lowering, &segments, buffers, stat, store).expect(VALID);
            }
        }));
    }
    cases.push(tensor_norms_case(caps));
    cases
}

/// The sums of each tensor and its count of bad values, compared themselves.
fn tensor_norms_case(caps: &Caps) -> Case {
    let mut grads = normals(55, 64 * 300);
    for (at, value) in [(0, f32::NAN), (1, f32::INFINITY), (64 * 299 + 63, f32::NEG_INFINITY), (200, f32::MAX.sqrt() / 2.0)] {
        grads[at] = value;
    }
    let tensors = [0..64usize, 64..128, 128..64 * 299, 64 * 299..64 * 300];
    let table: Vec<_> = tensors.iter().map(|t| (t.start / BLOCK, t.len() / BLOCK)).collect();
    let sums = twin::tensor_norms(&twin::grad_blocks(&widen(&grads)), &table);
    let mut b = CaseBuilder::new(caps);
    let operand = b.input(&grads);
    let (sumsq, bad) =
        lower_tensor_norms(&mut b.lowering, &GradSegment { grads: operand, words: grads.len(), tensors: tensors.to_vec() }).expect(VALID);
    let outputs = [b.output(sums.iter().map(|s| s.0).collect()), b.words(vec![9; 4], sums.iter().map(|s| s.1).collect())];
    b.replace(sumsq, outputs[0]);
    b.replace(bad, outputs[1]);
    b.finish("tensor_norms of 4 tensors with bad values")
}

fn score_cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    let all = ScoreTargets { loss: Some(Stat::LossDReal), score: Some(Stat::DX), signs: Some(Stat::SignsReal) };
    let some = ScoreTargets { loss: Some(Stat::LossG), score: None, signs: None };
    let moderate = |n: usize| normals(n as u64, n).iter().map(|x| 3.0 * x).collect::<Vec<f32>>();
    let extreme = vec![0.0, -0.0, 1e-4, -20.0, 20.0, 88.0, -88.0, 200.0, -200.0];
    let confident: Vec<f32> = (0..40).map(|i| 10.0 + i as f32 / 8.0).collect();
    let mut with_nan = moderate(20);
    with_nan[13] = f32::NAN;
    let inputs = [
        ("one row", moderate(1), 0..1, all),
        ("64 rows", moderate(64), 0..64, all),
        ("the second half", moderate(130), 65..130, some),
        ("extreme logits", extreme, 0..9, all),
        ("a confident D", confident, 0..40, all),
        ("a NaN among the rows", with_nan.clone(), 10..20, all),
        ("a NaN outside the rows", with_nan, 0..13, all),
    ];
    for (name, logits, rows, targets) in inputs {
        for real in [true, false] {
            let physical: Vec<f32> = logits.iter().flat_map(|x| [*x, 0.0, 0.0, 0.0]).collect();
            let used = widen(&logits[rows.clone()]);
            cases.push(tick_case(caps, format!("score_stats {name}, real {real}"), |b, tick, buffers| {
                let operand = b.input(&physical);
                for _ in 0..2 {
                    twin::score_stats(tick, &used, real, targets, 1, STEP);
                    lower_score_stats(&mut b.lowering, operand, rows.clone(), real, targets, buffers, 1).expect(VALID);
                }
            }));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::case_builder::assert_cases;

    #[test]
    fn kernels_equal_their_twins() {
        assert_cases(KERNELS, cases);
    }

    #[test]
    fn cases_of_bad_gradients_latch_the_first() {
        let event = |name: &str| {
            let cases = cases(&Caps::minimal());
            let case = cases.iter().find(|c| c.name.contains(name)).unwrap();
            let words = case.buffers.iter().find_map(|b| match b {
                crate::ops::case::CaseBuffer::Words(_, after) => Some(<[u32; 4]>::try_from(after.as_slice()).unwrap()),
                _ => None,
            });
            BadEvent::read(words.unwrap())
        };
        let gradient = |tensor| Some(BadEvent { step: STEP, store: 4, culprit: Culprit::Gradient(tensor) });
        assert_eq!(event("awkward tensors"), None);
        assert_eq!(event("grad norm, a NaN"), gradient(1));
        assert_eq!(event("second segment"), gradient(3));
        assert_eq!(event("bad first segment"), gradient(0));
        assert_eq!(event("overflows"), gradient(1));
        assert_eq!(event("a NaN among the rows"), Some(BadEvent { step: STEP, store: 1, culprit: Culprit::Logits }));
        assert_eq!(event("a NaN outside the rows"), None);
        assert_eq!(event("scalar_stats [NaN"), Some(BadEvent { step: STEP, store: 5, culprit: Culprit::Scalar(Stat::Penalty) }));
    }

    #[test]
    fn culprits_survive_their_code() {
        let all = Stat::ALL.map(Culprit::Scalar).into_iter().chain([Culprit::Logits, Culprit::Gradient(0), Culprit::Gradient(12345)]);
        for culprit in all {
            let event = BadEvent::read([1, 2, culprit.code(), 3]).unwrap();
            assert_eq!(event, BadEvent { step: (2 << 32) + 1, store: 3, culprit });
        }
        assert_eq!(BadEvent::read([1, 2, 0, 3]), None);
    }

    #[test]
    fn summaries_are_the_moments() {
        let mut tick = twin::Tick::new();
        let values = [0.95, 0.97, 0.96, 0.93];
        for x in values {
            tick.add(Stat::DX, x);
        }
        let words: Vec<f32> = tick.stats.iter().map(|v| *v as f32).collect();
        let [(stat, summary)] = StatsLayout::read(&words).unwrap()[..] else { panic!("one statistic has values") };
        let mean = values.iter().sum::<f64>() / 4.0;
        let std = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 4.0).sqrt();
        assert_eq!((stat, summary.count, summary.latest), (Stat::DX, 4, f64::from(0.93f32)));
        assert!((summary.mean - mean).abs() < 1e-6 && (summary.std - std).abs() < 1e-6, "{summary:?}");
        assert!(StatsLayout::read(&words[1..]).is_err());
        for (i, stat) in Stat::ALL.into_iter().enumerate() {
            assert_eq!(stat as usize, i);
        }
    }

    #[test]
    fn no_invocation_walks_a_long_tensor() {
        let mut l = Lowering::new(Caps::minimal());
        let words = 1 << 23;
        let segment = GradSegment { grads: Operand::Scratch(0), words, tensors: vec![0..words - 64, words - 64..words] };
        lower_tensor_norms(&mut l, &segment).unwrap();
        // 2^17 blocks, 2^11 sums of 64, 32, 1.
        assert_eq!(l.dispatches.len(), 4);
        for table in &l.constants {
            let runs: Vec<[u32; 2]> = bytemuck::pod_collect_to_vec(table);
            assert!(runs.iter().all(|[_, count]| (1..=64).contains(count)));
        }
    }

    #[test]
    fn wrong_segments_are_refused() {
        let tick = TickBuffers { stats: Operand::Scratch(0), events: Operand::Scratch(1) };
        let refused = |words, tensors: Vec<Range<usize>>| {
            let segment = GradSegment { grads: Operand::Scratch(2), words, tensors };
            let result = lower_grad_norm(&mut Lowering::new(Caps::minimal()), &[segment], tick, Stat::GradNormD, 0);
            assert!(matches!(result, Err(Error::Internal(_))), "{result:?}");
        };
        refused(64, vec![]);
        refused(60, std::iter::once(0..60).collect());
        refused(128, std::iter::once(32..64).collect());
        refused(128, std::iter::once(64..129).collect());
        refused(128, std::iter::once(64..64).collect());
        let mut l = Lowering::new(Caps::minimal());
        assert!(lower_grad_norm(&mut l, &[], tick, Stat::GradNormD, 0).is_err());
        assert!(lower_score_stats(&mut l, Operand::Scratch(2), 4..4, true, ScoreTargets::default(), tick, 0).is_err());
    }
}
