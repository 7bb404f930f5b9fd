//! Optimisers and weight averages: in-place updates of flat parameter stores.
//!
//! A store is a flat run of f32 words in which each tensor's physical image starts at a multiple of 64 words; the words between tensors are
//! zero in every store and stay zero. An update is one dispatch per segment of a store.

use crate::error::{Error, Result};
use crate::gpu::kernel::Bind::{In, InOut, Out, Params, Step, Texture};
use crate::gpu::kernel::{Cost, Dispatch, Kernel, grid};
use crate::gpu::step::StepRow;
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::ops::case::Case;
use crate::ops::case_builder::{CaseBuilder, normals, variants, widen};
use crate::ops::loaders::{Loaders, Loading, loaders};
use crate::part;
use bytemuck::{Pod, Zeroable};

/// Adam's constants (Kingma and Ba, 2015); the learning rate comes with each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
}

/// Constants of stochastic gradient descent with momentum, in PyTorch's form with dampening 0; the learning rate comes with each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Decay of the momentum buffer, in [0, 1).
    pub momentum: f64,
    /// Nesterov's form: the gradient looks one step of momentum ahead.
    pub nesterov: bool,
}

impl Adam {
    /// The step row's slot for the update number `t`, from 1, at learning rate `lr`: lr, the reciprocals of both bias corrections, and t, all
    /// computed in f64 and rounded once.
    pub fn slot(self, lr: f64, t: u64) -> [u32; 4] {
        let inverse = |beta: f64| (1.0 / (1.0 - beta.powf(t as f64))) as f32;
        let saturated = u32::try_from(t).unwrap_or(u32::MAX);
        [(lr as f32).to_bits(), inverse(self.beta1).to_bits(), inverse(self.beta2).to_bits(), saturated]
    }
}

impl Sgd {
    /// The step row's slot for the update number `t`, from 1, at learning rate `lr`.
    pub fn slot(self, lr: f64, t: u64) -> [u32; 4] {
        [(lr as f32).to_bits(), 1f32.to_bits(), 1f32.to_bits(), u32::try_from(t).unwrap_or(u32::MAX)]
    }
}

/// Parameters of `adam`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct AdamParams {
    items: u32,
    slot: u32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    eps: f32,
    ema_slot: u32,
    blocks: u32,
    reserved: [u32; 3],
}

/// Parameters of `sgd`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct SgdParams {
    items: u32,
    slot: u32,
    momentum: f32,
    nesterov: u32,
}

/// Parameters of `ema`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct EmaParams {
    items: u32,
    slot: u32,
    reserved: [u32; 2],
}

/// Parameters of `accumulate`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct AccumulateParams {
    items: u32,
    slot: u32,
    scale: f32,
    reserved: u32,
}

/// `adam`. Its state is read from textures that mirror the buffers it is written to. With items of eight floats an invocation walks a block.
pub static ADAM: Loaders = Loaders {
    vec4: Kernel {
        name: "adam",
        variant: "vec4",
        parts: &[part!("item_vec4"), part!("adam_buffers"), part!("squares_group"), part!("ema_rule"), part!("adam")],
        bindings: &[Params, Step, In, InOut, InOut, InOut, InOut, Out],
        workgroup: [64, 1, 1],
        features: &[],
    },
    ..loaders!(
        "adam",
        ["adam_textures"],
        ["adam_buffers"],
        ["squares_lane", "ema_rule"],
        &[Params, Step, Texture, Texture, Texture, Texture, InOut, InOut, InOut, InOut, Out],
        &[Params, Step, In, InOut, InOut, InOut, InOut, Out]
    )
};

/// `sgd`, as [`ADAM`].
pub static SGD: Loaders = loaders!(
    "sgd",
    ["sgd_textures"],
    ["sgd_buffers"],
    [],
    &[Params, Step, Texture, Texture, Texture, InOut, InOut],
    &[Params, Step, In, InOut, InOut]
);

/// `ema`, as [`ADAM`].
pub static EMA: Loaders =
    loaders!("ema", ["ema_textures"], ["ema_buffers"], ["ema_rule"], &[Params, Step, Texture, Texture, InOut], &[Params, Step, In, InOut]);

/// `accumulate`, as [`ADAM`].
pub static ACCUMULATE: Loaders = loaders!(
    "accumulate",
    ["accumulate_textures"],
    ["accumulate_buffers"],
    [],
    &[Params, Step, Texture, Texture, InOut],
    &[Params, Step, In, InOut]
);

/// Kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &ADAM.texture,
    &ADAM.u64,
    &ADAM.vec4,
    &SGD.texture,
    &SGD.u64,
    &SGD.vec4,
    &EMA.texture,
    &EMA.u64,
    &EMA.vec4,
    &ACCUMULATE.texture,
    &ACCUMULATE.u64,
    &ACCUMULATE.vec4,
];

/// A walk over a store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    /// How it loads and stores.
    pub loading: Loading,
    /// Items, one per invocation.
    pub items: usize,
}

impl Walk {
    /// The walk of the kernel `name` over `words` floats.
    ///
    /// # Errors
    /// [`Error::Internal`] if `words` is not a multiple of 4 or more than one binding holds.
    pub fn new(caps: &Caps, name: &str, words: usize) -> Result<Self> {
        if words == 0 || !words.is_multiple_of(4) || words > u32::MAX as usize {
            return Err(Error::internal(format!("{name} over {words} words: expected a multiple of 4 from 4 to 2^32")));
        }
        if words as u64 * 4 > caps.max_binding {
            return Err(Error::internal(format!(
                "{name} over {words} words: the adapter binds at most {} bytes; the store must be split into segments",
                caps.max_binding
            )));
        }
        let loading = Loading::new(caps, words, words);
        Ok(Walk { loading, items: words / 4 / loading.width() })
    }
}

/// Appends an update: `inputs` are read, `state` is updated in place.
fn push(l: &mut Lowering, kernel: &'static Loaders, walk: Walk, params: &[u8], [inputs, state]: [&[Operand]; 2], cost: Cost) {
    // With textures, state is read from its mirrors and written to its buffers.
    let mirrors = if walk.loading == Loading::Texture { state } else { &[] };
    l.push(Dispatch {
        kernel: kernel.kernel(walk.loading),
        overrides: Vec::new(),
        params: params.to_vec(),
        operands: [inputs, mirrors, state].concat(),
        workgroups: grid(walk.items, 64),
        cost,
    });
}

/// What an Adam update reads and writes: flat stores of one layout, or the same range of each.
#[derive(Debug, Clone, Copy)]
pub struct AdamStores {
    /// Gradients, read.
    pub grads: Operand,
    /// Parameters, updated.
    pub values: Operand,
    /// First moments, updated; zero before the first update.
    pub m: Operand,
    /// Second moments, updated; zero before the first update.
    pub v: Operand,
    /// Moving average of the parameters, if there is one: updated with the decay of the step row's slot [`StepRow::STEP`].
    pub averages: Option<Operand>,
    /// Sum of the gradients' squares in each block of [`BLOCK`] words, written; see [`crate::ops::stats::lower_step_stats`].
    pub squares: Operand,
}

/// Words of a block whose gradients are squared and added; tensors of a store start at multiples of it.
pub const BLOCK: usize = 64;

/// One Adam update of `words` words, in place. `slot` is the step row's slot of this update's scalars ([`StepRow::optimiser`]).
///
/// # Errors
/// [`Error::Internal`] if `words` is not a multiple of 4 or more than one binding holds.
pub fn lower_adam(l: &mut Lowering, stores: AdamStores, words: usize, adam: Adam, slot: u32) -> Result<()> {
    let walk = Walk::new(&l.caps, "adam", words)?;
    let blocks = words.div_ceil(BLOCK);
    let params = AdamParams {
        items: walk.items as u32,
        slot,
        beta1: adam.beta1 as f32,
        // In f64 first: 1 - 0.999 in f32 is off by 1e-5 of itself.
        one_minus_beta1: (1.0 - adam.beta1) as f32,
        beta2: adam.beta2 as f32,
        one_minus_beta2: (1.0 - adam.beta2) as f32,
        eps: adam.eps as f32,
        ema_slot: stores.averages.map_or(u32::MAX, |_| StepRow::STEP),
        blocks: blocks as u32,
        reserved: [0; 3],
    };
    let averages = stores.averages.unwrap_or_else(|| l.scratch(8));
    let (flops, bytes) = if stores.averages.is_some() { (20, 36) } else { (17, 28) };
    let cost = Cost { flops: flops * words as u64, bytes: bytes * words as u64 };
    let invocations = if walk.loading == Loading::Vec4 { walk.items } else { blocks };
    push(l, &ADAM, walk, bytemuck::bytes_of(&params), [&[stores.grads], &[stores.values, stores.m, stores.v]], cost);
    if let Some((_, dispatch)) = l.dispatches.last_mut() {
        dispatch.operands.extend([averages, stores.squares]);
        dispatch.workgroups = grid(invocations, 64);
    }
    Ok(())
}

/// One update of `words` words by gradient descent with momentum: `values` and `buf` in place from `grads`. `slot` as in [`lower_adam`].
///
/// # Errors
/// As [`lower_adam`].
pub fn lower_sgd(l: &mut Lowering, grads: Operand, values: Operand, buf: Operand, words: usize, sgd: Sgd, slot: u32) -> Result<()> {
    let walk = Walk::new(&l.caps, "sgd", words)?;
    let params = SgdParams { items: walk.items as u32, slot, momentum: sgd.momentum as f32, nesterov: u32::from(sgd.nesterov) };
    let cost = Cost { flops: if sgd.nesterov { 6 } else { 4 } * words as u64, bytes: 20 * words as u64 };
    push(l, &SGD, walk, bytemuck::bytes_of(&params), [&[grads], &[values, buf]], cost);
    Ok(())
}

/// One step of the moving average `averages` of `values`, `words` words, with the decay of the step row's slot [`StepRow::STEP`].
///
/// # Errors
/// As [`lower_adam`].
pub fn lower_ema(l: &mut Lowering, values: Operand, averages: Operand, words: usize) -> Result<()> {
    let walk = Walk::new(&l.caps, "ema", words)?;
    let params = EmaParams { items: walk.items as u32, slot: StepRow::STEP, reserved: [0; 2] };
    let cost = Cost { flops: 3 * words as u64, bytes: 12 * words as u64 };
    push(l, &EMA, walk, bytemuck::bytes_of(&params), [&[values], &[averages]], cost);
    Ok(())
}

/// Adds `scale` times the gradients of a micro-batch to `sums`, `words` words; the first micro-batch of a step (w of the step row's slot
/// [`StepRow::STEP`] is 0) starts them anew.
///
/// # Errors
/// As [`lower_adam`].
pub fn lower_accumulate(l: &mut Lowering, grads: Operand, sums: Operand, words: usize, scale: f64) -> Result<()> {
    let walk = Walk::new(&l.caps, "accumulate", words)?;
    let params = AccumulateParams { items: walk.items as u32, slot: StepRow::STEP, scale: scale as f32, reserved: 0 };
    let cost = Cost { flops: 2 * words as u64, bytes: 12 * words as u64 };
    push(l, &ACCUMULATE, walk, bytemuck::bytes_of(&params), [&[grads], &[sums]], cost);
    Ok(())
}

/// f64 twins of the kernels, one element at a time.
pub mod twin {
    use super::{Adam, Sgd};

    /// Adam at a given lr and with the reciprocals of its bias corrections, 1 / (1 - beta^t).
    pub fn adam(grads: &[f64], values: &mut [f64], m: &mut [f64], v: &mut [f64], adam: Adam, [lr, inverse_bias1, inverse_bias2]: [f64; 3]) {
        for (i, g) in grads.iter().enumerate() {
            m[i] = adam.beta1 * m[i] + (1.0 - adam.beta1) * g;
            v[i] = adam.beta2 * v[i] + (1.0 - adam.beta2) * g * g;
            values[i] -= lr * (m[i] * inverse_bias1) / ((v[i] * inverse_bias2).sqrt() + adam.eps);
        }
    }

    /// Sum of squares of each block of 64.
    pub fn squares(grads: &[f64]) -> Vec<f64> {
        grads.chunks(64).map(|block| block.iter().map(|g| g * g).sum()).collect()
    }

    /// Gradient descent with momentum.
    pub fn sgd(grads: &[f64], values: &mut [f64], buf: &mut [f64], sgd: Sgd, lr: f64) {
        for (i, g) in grads.iter().enumerate() {
            buf[i] = sgd.momentum * buf[i] + g;
            values[i] -= lr * if sgd.nesterov { g + sgd.momentum * buf[i] } else { buf[i] };
        }
    }

    /// Gradients of a batch from those of its micro-batches.
    pub fn accumulate(micro_batches: &[Vec<f64>], scale: f64) -> Vec<f64> {
        (0..micro_batches[0].len()).map(|i| micro_batches.iter().map(|g| scale * g[i]).sum()).collect()
    }

    /// Exponential moving average.
    pub fn ema(values: &[f64], averages: &mut [f64], decay: f64) {
        for (average, value) in averages.iter_mut().zip(values) {
            *average += (1.0 - decay) * (value - *average);
        }
    }
}

/// Store sizes of the cases: less than a workgroup, one item more than one, no multiple of eight floats, and enough to be worth a texture.
const SIZES: [usize; 7] = [4, 64, 68, 256, 264, 1000, 20_040];

/// Cases of this file's kernels.
pub fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    for caps in variants(caps) {
        for (k, words) in SIZES.into_iter().enumerate() {
            cases.push(adam_case(&caps, words, k as u64, k % 2 == 0));
            cases.push(sgd_case(&caps, words, k as u64, k % 2 == 1));
            cases.push(accumulate_case(&caps, words, k as u64));
            cases.push(ema_case(&caps, words, k as u64, [0.999, 0.5, 0.25, 0.0, 1.0, 0.9, 0.99][k]));
        }
    }
    cases
}

/// The cases of the kernel called `kernel` on stores of `words` words, a multiple of 4: benchmarks validate at the size that they time.
pub(crate) fn cases_of_size(caps: &Caps, kernel: &str, words: usize) -> Vec<Case> {
    match kernel {
        "adam" => vec![adam_case(caps, words, 0, false)],
        "sgd" => vec![sgd_case(caps, words, 0, false)],
        "ema" => vec![ema_case(caps, words, 0, 0.999)],
        _ => Vec::new(),
    }
}

const VALID: &str = "case sizes are multiples of 4";

/// Two updates with their own gradients and scalars: the second sees the first one's state.
fn adam_case(caps: &Caps, words: usize, seed: u64, averaged: bool) -> Case {
    let constants = Adam { beta1: 0.5, beta2: 0.999, eps: 1e-8 };
    let mut b = CaseBuilder::new(caps);
    let before = [normals(3 * seed, words), vec![0.0; words], vec![0.0; words]];
    // Gradients over many magnitudes, with exact zeros: m / sqrt(v) is about 1 for all but those.
    let grads: Vec<Vec<f32>> = (0..2)
        .map(|t| normals(1000 + 2 * seed + t, words).iter().enumerate().map(|(i, g)| g * [1e-6, 1.0, 0.0, 1e4, 1e-3][i % 5]).collect())
        .collect();
    let (decay, first_averages) = (0.75f32, normals(4000 + seed, words));
    b.step.slots[StepRow::STEP as usize][2] = decay.to_bits();
    let mut averages_after = widen(&first_averages);
    let mut after = before.clone().map(|s| widen(&s));
    for t in 1..=2usize {
        let slot = constants.slot(2e-2 / t as f64, t as u64);
        b.step.slots[StepRow::optimiser(t - 1) as usize] = slot;
        let scalars = [slot[0], slot[1], slot[2]].map(|s| f64::from(f32::from_bits(s)));
        let [values, m, v] = &mut after;
        twin::adam(&widen(&grads[t - 1]), values, m, v, constants, scalars);
        twin::ema(values, &mut averages_after, f64::from(decay));
    }
    let averages = averaged.then(|| b.state(first_averages, averages_after));
    let [values, m, v]: [Operand; 3] = std::array::from_fn(|i| b.state(before[i].clone(), after[i].clone()));
    for (t, g) in grads.iter().enumerate() {
        let grads = b.input(g);
        let squares = b.output(twin::squares(&widen(g)));
        let stores = AdamStores { grads, values, m, v, averages, squares };
        lower_adam(&mut b.lowering, stores, words, constants, StepRow::optimiser(t)).expect(VALID);
    }
    b.finish(format!("adam {words} words{}, two updates", if averaged { ", averaged" } else { "" }))
}

fn sgd_case(caps: &Caps, words: usize, seed: u64, nesterov: bool) -> Case {
    let constants = Sgd { momentum: 0.9, nesterov };
    let mut b = CaseBuilder::new(caps);
    let before = [normals(2000 + seed, words), vec![0.0; words]];
    let grads = [normals(2100 + seed, words), normals(2200 + seed, words)];
    let mut after = before.clone().map(|s| widen(&s));
    for (t, g) in grads.iter().enumerate() {
        let slot = constants.slot(0.1 / (t + 1) as f64, t as u64 + 1);
        b.step.slots[StepRow::optimiser(t) as usize] = slot;
        let [values, buf] = &mut after;
        twin::sgd(&widen(g), values, buf, constants, f64::from(f32::from_bits(slot[0])));
    }
    let [values, buf]: [Operand; 2] = std::array::from_fn(|i| b.state(before[i].clone(), after[i].clone()));
    for (t, g) in grads.iter().enumerate() {
        let grads = b.input(g);
        lower_sgd(&mut b.lowering, grads, values, buf, words, constants, StepRow::optimiser(t)).expect(VALID);
    }
    b.finish(format!("sgd {words} words{}, two updates", if nesterov { ", nesterov" } else { "" }))
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn ema_case(caps: &Caps, words: usize, seed: u64, decay: f32) -> Case {
    let mut b = CaseBuilder::new(caps);
    b.step.slots[StepRow::STEP as usize][2] = decay.to_bits();
    let (values, before) = (normals(3000 + seed, words), normals(3100 + seed, words));
    let mut after = widen(&before);
    for _ in 0..2 {
        twin::ema(&widen(&values), &mut after, f64::from(decay));
    }
    // Decay 1 keeps the average and decay 0 takes the values, both to the last bit.
    let exact = [(1.0, &before), (0.0, &values)].into_iter().find(|(d, _)| *d == decay);
    let averages = match exact {
        Some((_, expected)) => b.words(bits(&before), bits(expected)),
        None => b.state(before, after),
    };
    let values = b.input(&values);
    for _ in 0..2 {
        lower_ema(&mut b.lowering, values, averages, words).expect(VALID);
    }
    b.finish(format!("ema {words} words, decay {decay}, two steps"))
}

/// The first micro-batch of a step meets what the step before has left, and that is NaN; `is_first` or another, on sums of its own.
fn accumulate_case(caps: &Caps, words: usize, seed: u64) -> Case {
    let is_first = seed.is_multiple_of(2);
    let scale = 1.0 / 3.0;
    let mut b = CaseBuilder::new(caps);
    b.step.slots[StepRow::STEP as usize][3] = if is_first { 0 } else { 2 };
    let (grads, so_far) = (normals(4000 + seed, words), normals(4100 + seed, words));
    let earlier = widen(&so_far).iter().map(|v| v / scale).collect();
    let batches = if is_first { vec![widen(&grads)] } else { vec![earlier, widen(&grads)] };
    let expected = twin::accumulate(&batches, scale);
    let sums = b.state(if is_first { vec![f32::NAN; words] } else { so_far }, expected);
    let grads = b.input(&grads);
    lower_accumulate(&mut b.lowering, grads, sums, words, scale).expect(VALID);
    b.finish(format!("accumulate {words} words, {}", if is_first { "first" } else { "later" }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::case_builder::assert_cases;

    #[test]
    fn kernels_equal_their_twins() {
        assert_cases(KERNELS, cases);
    }

    /// Values by torch.optim.Adam(lr=0.1, betas=(0.5, 0.999), eps=1e-8) worked by hand: with a constant gradient m_hat = g and v_hat = g^2.
    #[test]
    fn adam_moves_by_lr_under_a_constant_gradient() {
        let adam = Adam { beta1: 0.5, beta2: 0.999, eps: 1e-8 };
        let (mut p, mut m, mut v) = ([1.0], [0.0], [0.0]);
        for t in 1..=5 {
            let scalars = [0.1, 1.0 / (1.0 - 0.5f64.powi(t)), 1.0 / (1.0 - 0.999f64.powi(t))];
            twin::adam(&[-3.0], &mut p, &mut m, &mut v, adam, scalars);
            assert!((p[0] - (1.0 + 0.1 * f64::from(t))).abs() < 1e-8, "step {t}: {}", p[0]);
        }
    }

    /// torch.optim.SGD(lr=0.1, momentum=0.5) from p = 1 with gradients 1, 2: buf 1, 2.5; Nesterov subtracts 0.1 (1.5, 3.25).
    #[test]
    fn sgd_is_torchs() {
        for (nesterov, expected) in [(false, 1.0 - 0.1 - 0.25), (true, 1.0 - 0.15 - 0.325)] {
            let (mut p, mut buf) = ([1.0], [0.0]);
            for g in [1.0, 2.0] {
                twin::sgd(&[g], &mut p, &mut buf, Sgd { momentum: 0.5, nesterov }, 0.1);
            }
            assert!((p[0] - expected).abs() < 1e-12, "{}", p[0]);
            assert_eq!(buf, [2.5]);
        }
    }

    #[test]
    fn slots_hold_the_reciprocal_bias_corrections() {
        let adam = Adam { beta1: 0.5, beta2: 0.999, eps: 1e-8 };
        let floats = |t| adam.slot(2e-4, t).map(f32::from_bits);
        // 1 - 0.999 in f32 would be off in the fifth digit.
        assert_eq!(floats(1)[..3], [2e-4, 2.0, 1000.0]);
        assert_eq!(floats(2)[..3], [2e-4, (1.0f64 / 0.75) as f32, (1.0f64 / (1.0 - 0.998001)) as f32]);
        assert_eq!(floats(u64::MAX)[..3], [2e-4, 1.0, 1.0]);
        assert_eq!([adam.slot(0.1, 7)[3], adam.slot(0.1, u64::MAX)[3]], [7, u32::MAX]);
    }

    #[test]
    fn stores_that_do_not_fit_are_refused() {
        for words in [0, 1, 63, (128 << 20) / 4 + 4] {
            assert!(matches!(Walk::new(&Caps::minimal(), "adam", words), Err(Error::Internal(_))), "{words}");
        }
    }
}
