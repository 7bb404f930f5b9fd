//! Cases of this family's kernels.

use super::twin::{self, State};
use super::update::BLOCK;
use super::{Clip, FACTOR_WORDS, Optimiser, Update, UpdateStores, lower_accumulate, lower_clip_factor, lower_ema, lower_grad_squares};
use crate::gpu::step::StepRow;
use crate::graph::lower::Caps;
use crate::ops::case::Case;
use crate::ops::case_builder::{CaseBuilder, normals, variants, widen};

/// Store sizes of the cases: less than a workgroup, one item more than one, no multiple of eight floats, and enough to be worth a texture.
const SIZES: [usize; 7] = [4, 64, 68, 256, 264, 1000, 20_040];
/// A size for each way to load.
const FEW_SIZES: [usize; 3] = [68, 264, 20_040];

/// Optimisers without anything else, as most runs use them.
fn plain() -> [Update; 3] {
    [
        Optimiser::adam(0.5),
        Optimiser::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 },
        Optimiser::RmsProp { alpha: 0.9, eps: 1e-8, momentum: 0.0, weight_decay: 0.0 },
    ]
    .map(Update::new)
}

/// Every switch of every optimiser, several at once: each is a pipeline of its own, and they do not depend on each other.
fn switched() -> [Update; 7] {
    let (by_value, by_norm) = (Some(Clip::Value(0.5)), Some(Clip::Norm(3.0)));
    let sgd = |momentum, nesterov, weight_decay| Optimiser::Sgd { momentum, nesterov, weight_decay };
    let rmsprop = |momentum, weight_decay| Optimiser::RmsProp { alpha: 0.99, eps: 1e-6, momentum, weight_decay };
    [
        Update { optimiser: Optimiser::Adam { beta1: 0.9, beta2: 0.99, eps: 1e-6, weight_decay: 0.1 }, clip: by_norm, weight_clip: None },
        Update {
            optimiser: Optimiser::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.5 },
            clip: by_value,
            weight_clip: Some(1.0),
        },
        Update { optimiser: sgd(0.9, false, 0.0), clip: None, weight_clip: None },
        Update { optimiser: sgd(0.9, false, 0.1), clip: by_value, weight_clip: None },
        Update { optimiser: sgd(0.9, true, 0.0), clip: by_norm, weight_clip: Some(0.5) },
        Update { optimiser: rmsprop(0.9, 0.1), clip: by_norm, weight_clip: None },
        Update { optimiser: rmsprop(0.0, 0.0), clip: by_value, weight_clip: Some(0.01) },
    ]
}

/// Cases of this family's kernels.
pub fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    for caps in variants(caps) {
        for (k, words) in SIZES.into_iter().enumerate() {
            for (j, update) in plain().iter().enumerate() {
                cases.push(update_case(&caps, update, words, k as u64, (k + j) % 2 == 0));
            }
            cases.push(accumulate_case(&caps, words, k as u64));
            cases.push(ema_case(&caps, words, k as u64, [0.999, 0.5, 0.25, 0.0, 1.0, 0.9, 0.99][k]));
        }
        for (k, words) in FEW_SIZES.into_iter().enumerate() {
            for (j, update) in switched().iter().enumerate() {
                cases.push(update_case(&caps, update, words, 10 + k as u64, (k + j) % 2 == 0));
            }
        }
        // More blocks than the workgroup has lanes.
        cases.push(clip_factor_case(&caps, 1));
        cases.push(clip_factor_case(&caps, 700));
    }
    cases
}

/// The cases of the kernel called `kernel` on stores of `words` words, a multiple of 4: benchmarks validate at the size that they time.
pub(crate) fn cases_of_size(caps: &Caps, kernel: &str, words: usize) -> Vec<Case> {
    if kernel == "ema" {
        return vec![ema_case(caps, words, 0, 0.999)];
    }
    let update = plain().into_iter().find(|update| update.optimiser.kernel() == kernel);
    update.iter().map(|update| update_case(caps, update, words, 0, false)).collect()
}

const VALID: &str = "case sizes are multiples of 4";

/// Two updates with their own gradients and scalars: the second sees the first one's state.
fn update_case(caps: &Caps, update: &Update, words: usize, seed: u64, averaged: bool) -> Case {
    let optimiser = update.optimiser;
    let mut b = CaseBuilder::new(caps);
    let before = normals(3 * seed, words);
    // With clipping by norm the first gradient is too long and the second is not. Else they go over many magnitudes, with exact zeros: for
    // Adam m / sqrt(v) is about 1 for all but those.
    let shrunk = |t: u64| if t == 0 { 1.0 } else { 0.5 / (words as f32).sqrt() };
    let scales: [f32; 5] = if optimiser.kernel() == "sgd" { [1e-3, 1.0, 0.0, -2.0, 0.5] } else { [1e-6, 1.0, 0.0, 1e4, 1e-3] };
    let grads: Vec<Vec<f32>> = (0..2)
        .map(|t| {
            let normal = normals(1000 + 2 * seed + t, words).into_iter();
            match update.clip {
                Some(Clip::Norm(_)) => normal.map(|g| g * shrunk(t)).collect(),
                _ => normal.enumerate().map(|(i, g)| g * scales[i % 5]).collect(),
            }
        })
        .collect();
    let (decay, first_averages) = (0.75f32, normals(4000 + seed, words));
    b.step.slots[StepRow::STEP as usize][2] = decay.to_bits();
    let mut averages_after = widen(&first_averages);
    let mut after = State::new(&optimiser, widen(&before));
    let mut factors = Vec::new();
    for t in 1..=2usize {
        let slot = optimiser.slot(2e-2 / t as f64, t as u64);
        b.step.slots[StepRow::optimiser(t - 1) as usize] = slot;
        let scalars = [slot[0], slot[1], slot[2]].map(|s| f64::from(f32::from_bits(s)));
        let g = widen(&grads[t - 1]);
        if let Some(Clip::Norm(max)) = update.clip {
            factors.push(twin::clip_factor(&twin::squares(&g), max));
        }
        let factor = factors.last().map_or(1.0, |[factor, _]| *factor);
        twin::update(update, &g, &mut after, factor, scalars);
        twin::ema(&after.values, &mut averages_after, f64::from(decay));
    }
    let averages = averaged.then(|| b.state(first_averages, averages_after));
    let zeros = vec![0.0; words];
    let values = b.state(before, after.values);
    let [m, v] = [after.m, after.v].map(|after| (!after.is_empty()).then(|| b.state(zeros.clone(), after)));
    for (t, g) in grads.iter().enumerate() {
        let grads = b.input(g);
        let squares = b.output(twin::squares(&widen(g)));
        let factor = match (update.clip, factors.get(t)) {
            (Some(Clip::Norm(max)), Some([factor, norm])) => {
                let factor = b.output(vec![*factor, *norm, 0.0, 0.0]);
                lower_grad_squares(&mut b.lowering, grads, squares, words).expect(VALID);
                lower_clip_factor(&mut b.lowering, squares, words.div_ceil(BLOCK), max, factor).expect(VALID);
                Some(factor)
            }
            _ => None,
        };
        let stores = UpdateStores { grads, values, m, v, averages, squares, factor };
        update.lower(&mut b.lowering, stores, words, StepRow::optimiser(t)).expect(VALID);
    }
    let clip = update.clip.map_or(String::new(), |clip| format!(", clipped to {clip}"));
    let bound = update.weight_clip.map_or(String::new(), |bound| format!(", weights within {bound}"));
    b.finish(format!("{optimiser} {words} words{clip}{bound}{}, two updates", if averaged { ", averaged" } else { "" }))
}

fn clip_factor_case(caps: &Caps, blocks: usize) -> Case {
    let mut b = CaseBuilder::new(caps);
    let sums: Vec<f32> = normals(5000, blocks).iter().map(|x| x * x).collect();
    let [factor, norm] = twin::clip_factor(&widen(&sums), 0.1);
    let squares = b.input(&sums);
    let output = b.output([&[factor, norm], &[0.0; FACTOR_WORDS - 2][..]].concat());
    lower_clip_factor(&mut b.lowering, squares, blocks, 0.1, output).expect("there are blocks");
    b.finish(format!("clip_factor {blocks} blocks"))
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
    use super::super::KERNELS;
    use super::*;
    use crate::ops::case_builder::assert_cases;

    #[test]
    fn kernels_equal_their_twins() {
        assert_cases(KERNELS, cases);
    }
}
