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
use crate::ops::case_builder::{CaseBuilder, normals, widen};
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
///
/// Entries are updated by Welford's rule (Technometrics 4, 1962), which keeps its accuracy in f32 where mean and spread differ by orders of
/// magnitude; sums of squares would not. A buffer of zeros is an empty tick.
#[derive(Debug, Clone, Copy)]
pub struct StatsLayout;

impl StatsLayout {
    /// Length of the stats buffer in 32-bit words.
    pub const WORDS: usize = 4 * Stat::ALL.len();

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

/// Where the scores of logits go; `None` leaves one out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScoreTargets {
    /// Mean binary cross entropy with logits.
    pub loss: Option<Stat>,
    /// Mean sigmoid.
    pub score: Option<Stat>,
    /// Share of positive logits.
    pub signs: Option<Stat>,
}

/// What a step adds to a tick.
#[derive(Debug, Clone, PartialEq)]
pub enum Job {
    /// Mean loss, mean score and share of positive logits of a range of rows of D's logits (N, 1). Logits that are not finite are latched, and
    /// then nothing is added.
    Score {
        /// The logits.
        logits: Operand,
        /// The rows.
        rows: Range<usize>,
        /// Whether the targets are real.
        real: bool,
        /// Where the results go.
        targets: ScoreTargets,
        /// Id of the network's store.
        store: u32,
    },
    /// The norm of a network's whole gradient. The tensor of the first block whose squares are not finite is latched, and then nothing is added.
    Norm {
        /// Sums of squares of blocks, from [`crate::ops::optimiser::Update::lower`].
        squares: Operand,
        /// Number of blocks.
        blocks: usize,
        /// First block of each tensor, ascending from 0.
        tensors: Vec<usize>,
        /// Where the norm goes.
        stat: Stat,
        /// Id of the network's store.
        store: u32,
    },
}

/// Parameters of `step_stats`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct StepStatsParams {
    jobs: u32,
    slot: u32,
    reserved: [u32; 2],
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

/// `step_stats`.
pub static STEP_STATS: Kernel = Kernel {
    name: "step_stats",
    variant: "",
    parts: &[part!("tick_stats"), part!("step_stats")],
    bindings: &[Bind::Params, Bind::Step, Bind::In, Bind::In, Bind::In, Bind::In, Bind::In, Bind::InOut, Bind::InOut],
    workgroup: [256, 1, 1],
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
pub static KERNELS: &[&Kernel] = &[&STEP_STATS, &SCALAR_STATS];

/// Does jobs in order, in one dispatch: at most two different logits and two different squares.
///
/// # Errors
/// [`Error::Internal`] if there are none or too many sources, or a job has no rows, blocks or tensors.
pub fn lower_step_stats(l: &mut Lowering, jobs: &[Job], tick: TickBuffers) -> Result<()> {
    let (mut logits, mut squares): (Vec<Operand>, Vec<Operand>) = (Vec::new(), Vec::new());
    let source = |list: &mut Vec<Operand>, operand: Operand| -> u32 {
        let at = list.iter().position(|o| *o == operand).unwrap_or_else(|| {
            list.push(operand);
            list.len() - 1
        });
        at as u32
    };
    let index = |stat: Option<Stat>| stat.map_or(u32::MAX, |s| s as u32);
    let (mut table, mut starts): (Vec<[u32; 4]>, Vec<[u32; 4]>) = (Vec::new(), Vec::new());
    let mut cost = Cost::default();
    for job in jobs {
        match job {
            Job::Score { logits: from, rows, real, targets, store } => {
                if rows.is_empty() {
                    return Err(Error::internal("score statistics of no rows"));
                }
                let n = rows.len();
                table.push([0, source(&mut logits, *from), rows.start as u32, n as u32]);
                table.push([u32::from(*real), index(targets.loss), index(targets.score), index(targets.signs)]);
                table.push([*store, 0, 0, 0]);
                cost = Cost { flops: cost.flops + 25 * n as u64, bytes: cost.bytes + 16 * n as u64 };
            }
            Job::Norm { squares: from, blocks, tensors, stat, store } => {
                let ascending = tensors.windows(2).all(|w| w[0] < w[1]) && tensors.last().is_some_and(|last| last < blocks);
                if tensors.first() != Some(&0) || !ascending {
                    return Err(Error::internal(format!(
                        "the norm of {blocks} blocks with tensors at {tensors:?}: expected them to ascend from 0"
                    )));
                }
                let first = 3 * jobs.len() + starts.len();
                table.push([1, source(&mut squares, *from), first as u32, *blocks as u32]);
                table.push([*stat as u32, tensors.len() as u32, 0, 0]);
                table.push([*store, 0, 0, 0]);
                starts.extend(tensors.iter().map(|t| [*t as u32, 0, 0, 0]));
                cost = Cost { flops: cost.flops + *blocks as u64, bytes: cost.bytes + 4 * *blocks as u64 };
            }
        }
    }
    if jobs.is_empty() || logits.len() > 2 || squares.len() > 2 {
        return Err(Error::internal(format!(
            "{} jobs over {} logits and {} squares; at most two of each",
            jobs.len(),
            logits.len(),
            squares.len()
        )));
    }
    table.extend(starts);
    let table = l.constant(bytemuck::cast_slice(&table).to_vec());
    // What no job reads is bound to something that is there.
    let nth = |list: &[Operand], i: usize| list.get(i).or(list.first()).copied().unwrap_or(table);
    let operands = vec![table, nth(&logits, 0), nth(&logits, 1), nth(&squares, 0), nth(&squares, 1), tick.stats, tick.events];
    push(l, &STEP_STATS, &StepStatsParams { jobs: jobs.len() as u32, slot: StepRow::STEP, reserved: [0; 2] }, operands, 1, cost);
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

    /// Norm of a gradient into a tick, from the sums of squares of blocks. Sums beyond f32's range count as bad, as on the device.
    pub fn norm_stats(tick: &mut Tick, squares: &[f64], tensors: &[usize], stat: Stat, store: u32, step: u64) {
        let mut total = 0.0;
        for (block, sum) in squares.iter().enumerate() {
            total += sum;
            if !total.is_finite() || total > f64::from(f32::MAX) {
                let tensor = tensors.iter().filter(|first| **first <= block).count();
                return tick.latch(step, tensor as u32, store);
            }
        }
        tick.add(stat, total.sqrt());
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
    cases.extend(norm_cases(caps));
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

fn norm_cases(caps: &Caps) -> Vec<Case> {
    // Blocks, first blocks of tensors, and planted sums of squares as (block, value).
    type Plants = Vec<(usize, f32)>;
    let layouts: [(&str, usize, Vec<usize>, Plants); 7] = [
        ("one block", 1, vec![0], vec![]),
        ("awkward tensors", 90, vec![0, 1, 3, 19, 20], vec![]),
        ("many blocks", 5000, vec![0, 4999], vec![]),
        ("a NaN", 20, vec![0, 1, 3], vec![(2, f32::NAN), (7, f32::INFINITY)]),
        ("an infinity in the last tensor", 300, vec![0, 1, 299], vec![(299, f32::INFINITY)]),
        ("a bad first tensor", 3, vec![0, 1], vec![(0, f32::from_bits(0xff80_0001))]),
        ("a sum that overflows", 10, vec![0, 2, 5], vec![(1, 3e38), (6, 3e38)]),
    ];
    let mut cases = Vec::new();
    for (k, (name, blocks, tensors, plants)) in layouts.into_iter().enumerate() {
        let mut squares: Vec<f32> = normals(100 * k as u64, blocks).iter().map(|x| x * x).collect();
        for (block, value) in plants {
            squares[block] = value;
        }
        let other: Vec<f32> = vec![0.25; 9];
        cases.push(tick_case(caps, format!("step_stats norms, {name}"), |b, tick, buffers| {
            twin::norm_stats(tick, &widen(&squares), &tensors, Stat::GradNormD, 4, STEP);
            twin::norm_stats(tick, &widen(&other), &[0, 4], Stat::GradNormG, 9, STEP);
            let jobs = [
                Job::Norm { squares: b.input(&squares), blocks, tensors, stat: Stat::GradNormD, store: 4 },
                Job::Norm { squares: b.input(&other), blocks: 9, tensors: vec![0, 4], stat: Stat::GradNormG, store: 9 },
            ];
            lower_step_stats(&mut b.lowering, &jobs, buffers).expect(VALID);
        }));
    }
    cases
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
        ("more rows than lanes", moderate(600), 0..600, all),
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
            cases.push(tick_case(caps, format!("step_stats scores, {name}, real {real}"), |b, tick, buffers| {
                let logits = b.input(&physical);
                let second = b.input(&[0.5f32, 0.0, 0.0, 0.0]);
                let job = |logits, rows| Job::Score { logits, rows, real, targets, store: 1 };
                for _ in 0..2 {
                    twin::score_stats(tick, &used, real, targets, 1, STEP);
                    twin::score_stats(tick, &[0.5], real, targets, 1, STEP);
                    lower_step_stats(&mut b.lowering, &[job(logits, rows.clone()), job(second, 0..1)], buffers).expect(VALID);
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
        assert_eq!(event("norms, a NaN"), gradient(1));
        assert_eq!(event("last tensor"), gradient(2));
        assert_eq!(event("bad first tensor"), gradient(0));
        assert_eq!(event("overflows"), gradient(2));
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
    fn wrong_jobs_are_refused() {
        let tick = TickBuffers { stats: Operand::Scratch(0), events: Operand::Scratch(1) };
        let refused = |jobs: &[Job]| {
            let result = lower_step_stats(&mut Lowering::new(Caps::minimal()), jobs, tick);
            assert!(matches!(result, Err(Error::Internal(_))), "{result:?}");
        };
        let norm =
            |squares, blocks, tensors| Job::Norm { squares: Operand::Scratch(squares), blocks, tensors, stat: Stat::GradNormD, store: 0 };
        let targets = ScoreTargets::default();
        refused(&[]);
        refused(&[norm(2, 4, vec![])]);
        refused(&[norm(2, 4, vec![1])]);
        refused(&[norm(2, 4, vec![0, 2, 2])]);
        refused(&[norm(2, 4, vec![0, 4])]);
        refused(&[norm(2, 1, vec![0]), norm(3, 1, vec![0]), norm(4, 1, vec![0])]);
        refused(&[Job::Score { logits: Operand::Scratch(2), rows: 4..4, real: true, targets, store: 0 }]);
    }
}
