//! Random numbers: counter-based, so that a draw depends on (seed, stream, draw counter, element) alone, on any device and on the host.

use crate::error::Result;
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::gpu::step::StepRow;
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::ops::case::Case;
use crate::ops::case_builder::CaseBuilder;
use crate::part;
use bytemuck::{Pod, Zeroable};

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Distribution {
    /// Raw 32-bit words.
    Bits = 0,
    /// Uniform on [0, 1), multiples of 2^-24.
    Uniform = 1,
    /// Uniform on [-1, 1), multiples of 2^-23.
    UniformSigned = 2,
    /// Standard normal (Box-Muller on 24-bit uniforms: nothing beyond 5.77).
    Normal = 3,
}

/// Where the draw counter comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw {
    /// z of a slot of the step row ([`StepRow::draw`]): a fresh draw each step, from which w images are skipped.
    Step(u32),
    /// A constant: the same numbers each time (the z of a sample grid). Needs a stream of its own, or a step would draw them again.
    Fixed(u32),
}

/// A source of random numbers. Sources with different seeds or streams are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Seed of the run.
    pub seed: u64,
    /// Which of a run's sources this is: z, dropout of a layer, an augmentation.
    pub stream: u32,
}

/// Parameters of `noise`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct NoiseParams {
    items: u32,
    channels: u32,
    groups: u32,
    pixels: u32,
    key: [u32; 2],
    slot: u32,
    draw: u32,
    distribution: u32,
    reserved: [u32; 3],
}

/// Slot number that means "take the draw counter from the parameters".
pub(super) const FIXED: u32 = u32::MAX;

/// `noise`.
pub static NOISE: Kernel = Kernel {
    name: "noise",
    variant: "",
    parts: &[part!("threefry"), part!("normal"), part!("noise")],
    bindings: &[Bind::Params, Bind::Step, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// Kernels of this file.
pub static KERNELS: &[&Kernel] = &[&NOISE];

/// Threefry-2x32 with 20 rounds: two random words for each pair of key and counter (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as
/// easy as 1, 2, 3", SC 2011).
pub fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
    let schedule = [key[0], key[1], key[0] ^ key[1] ^ 0x1bd1_1bda];
    let mut x = [counter[0].wrapping_add(schedule[0]), counter[1].wrapping_add(schedule[1])];
    for round in 0..20 {
        x[0] = x[0].wrapping_add(x[1]);
        x[1] = x[1].rotate_left(ROTATIONS[round % 8]) ^ x[0];
        if round % 4 == 3 {
            let injection = round / 4 + 1;
            x[0] = x[0].wrapping_add(schedule[injection % 3]);
            x[1] = x[1].wrapping_add(schedule[(injection + 1) % 3]).wrapping_add(injection as u32);
        }
    }
    x
}

/// The two words of a seed: its low and high half, the key that all keys are derived from.
pub fn seed_key(seed: u64) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32]
}

impl Source {
    /// The source's key: Threefry of (stream, 0) under the seed's key. Counters (epoch, 1) under that key belong to the batch order
    /// ([`crate::ops::gather::batch_index`]).
    pub fn key(self) -> [u32; 2] {
        threefry(seed_key(self.seed), [self.stream, 0])
    }
}

/// Fills `output`, of logical shape `shape`, with a draw; padding lanes become zero. [`noise_twin`] gives the same numbers on the host.
///
/// # Errors
/// None today; the signature is that of all lowering functions.
pub fn lower_noise(l: &mut Lowering, output: Operand, shape: &Shape, source: Source, distribution: Distribution, draw: Draw) -> Result<()> {
    let [_, channels, height, width] = shape.nchw();
    let items = shape.physical_len() / 4;
    let (slot, draw) = match draw {
        Draw::Step(slot) => (slot, 0),
        Draw::Fixed(draw) => (FIXED, draw),
    };
    let params = NoiseParams {
        items: items as u32,
        channels: channels as u32,
        groups: (shape.padded() / 4) as u32,
        pixels: (height * width) as u32,
        key: source.key(),
        slot,
        draw,
        distribution: distribution as u32,
        reserved: [0; 3],
    };
    l.push(Dispatch {
        kernel: &NOISE,
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![output],
        workgroups: grid(items, 64),
        // Floating-point operations of Box-Muller with its logarithm and sine; the cipher is integer arithmetic.
        cost: Cost { flops: if distribution == Distribution::Normal { 40 * shape.len() as u64 } else { 0 }, bytes: 16 * items as u64 },
    });
    Ok(())
}

/// The words of a draw's first `len` elements, in logical order.
pub fn noise_words(source: Source, draw: u32, len: usize) -> Vec<u32> {
    let key = source.key();
    (0..len).map(|e| threefry(key, [(e / 2) as u32, draw])[e % 2]).collect()
}

/// The first `len` elements of a draw, in logical order: what [`lower_noise`] puts on the device. Bits and uniforms agree exactly, normals to
/// f32 rounding.
pub fn noise_twin(source: Source, distribution: Distribution, draw: u32, len: usize) -> Vec<f64> {
    let key = source.key();
    let unit = |word: u32| f64::from(word >> 8) / f64::from(1 << 24);
    (0..len)
        .map(|e| {
            let words = threefry(key, [(e / 2) as u32, draw]);
            let word = words[e % 2];
            match distribution {
                Distribution::Bits => f64::from(word),
                Distribution::Uniform => unit(word),
                Distribution::UniformSigned => 2.0 * unit(word) - 1.0,
                Distribution::Normal => {
                    let (u1, u2) = (unit(words[0]) + 1.0 / f64::from(1 << 24), unit(words[1]));
                    let angle = 2.0 * std::f64::consts::PI * u2;
                    (-2.0 * u1.ln()).sqrt() * if e % 2 == 0 { angle.cos() } else { angle.sin() }
                }
            }
        })
        .collect()
}

/// Cases of this file's kernels.
pub fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    let shapes: [&[usize]; 8] = [&[1], &[1, 1], &[3, 63], &[2, 64], &[5, 65], &[1, 1000], &[3, 5, 3, 7], &[2, 8, 4, 1]];
    for (k, dims) in shapes.into_iter().enumerate() {
        let shape = Shape::new(dims).expect("case shapes are valid");
        for distribution in [Distribution::Uniform, Distribution::UniformSigned, Distribution::Normal] {
            let draw = if k % 2 == 0 { Draw::Fixed(7) } else { Draw::Step(StepRow::draw(k)) };
            cases.push(noise_case(caps, &shape, distribution, draw));
        }
    }
    cases.push(known_answers(caps));
    cases
}

fn noise_case(caps: &Caps, shape: &Shape, distribution: Distribution, draw: Draw) -> Case {
    let source = Source { seed: 0x1234_5678_9abc_def0, stream: 3 };
    let mut b = CaseBuilder::new(caps);
    let (counter, images_before) = match draw {
        Draw::Fixed(counter) => (counter, 0),
        Draw::Step(slot) => {
            b.step.slots[slot as usize] = [1, 2, 0xfedc_ba98, 3];
            (0xfedc_ba98, 3)
        }
    };
    let before = images_before * shape.len() / shape.dims()[0];
    let whole = noise_twin(source, distribution, counter, before + shape.len());
    let expected = Tensor::new(shape.clone(), whole[before..].to_vec());
    let name = format!("noise {shape} {distribution:?} {draw:?}");
    if distribution == Distribution::Normal {
        let output = b.output(expected.pack_f64());
        lower_noise(&mut b.lowering, output, shape, source, distribution, draw).expect("cannot fail");
    } else {
        // Uniforms are exact, and compared so.
        let words: Vec<u32> = expected.pack().iter().map(|v| v.to_bits()).collect();
        let output = b.words(vec![u32::MAX; words.len()], words);
        lower_noise(&mut b.lowering, output, shape, source, distribution, draw).expect("cannot fail");
    }
    b.finish(name)
}

/// The known answers of the Random123 distribution for threefry2x32 with 20 rounds, as (counter, key, result).
const KNOWN_ANSWERS: [[[u32; 2]; 3]; 3] = [
    [[0, 0], [0, 0], [0x6b20_0159, 0x99ba_4efe]],
    [[u32::MAX; 2], [u32::MAX; 2], [0x1cb9_96fc, 0xbb00_2be7]],
    [[0x243f_6a88, 0x85a3_08d3], [0x1319_8a2e, 0x0370_7344], [0xc492_3a9c, 0x483d_f7a0]],
];

/// Raw words under the known answers' keys and counters. The kernel's pair number is made from a position in a tensor, so a tensor of two rows is
/// described whose second row starts at the pair wanted; pairs of 2^31 and more belong to no tensor, and that answer is left to the twin.
fn known_answers(caps: &Caps) -> Case {
    let mut b = CaseBuilder::new(caps);
    for [counter, key, answer] in KNOWN_ANSWERS {
        let channels = counter[0].checked_mul(2).filter(|c| *c > 0).unwrap_or(8);
        let words = (0..2)
            .flat_map(|image| (0..4).map(move |lane| image * channels + lane))
            .map(|e| {
                let known = e / 2 == counter[0];
                if known { answer[e as usize % 2] } else { threefry(key, [e / 2, counter[1]])[e as usize % 2] }
            })
            .collect();
        let output = b.words(vec![u32::MAX; 8], words);
        let shape = Shape::new(&[2, 4]).expect("case shapes are valid");
        let draw = Draw::Fixed(counter[1]);
        lower_noise(&mut b.lowering, output, &shape, Source { seed: 0, stream: 0 }, Distribution::Bits, draw).expect("cannot fail");
        let (_, dispatch) = b.lowering.dispatches.last_mut().expect("was just pushed");
        let mut params: NoiseParams = bytemuck::pod_read_unaligned(&dispatch.params);
        (params.key, params.channels) = (key, channels);
        dispatch.params = bytemuck::bytes_of(&params).to_vec();
    }
    b.finish("noise Bits, known answers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::case_builder::assert_cases;
    use std::collections::HashSet;

    #[test]
    fn kernels_equal_their_twins() {
        assert_cases(KERNELS, cases);
    }

    #[test]
    fn threefry_gives_the_known_answers() {
        for [counter, key, answer] in KNOWN_ANSWERS {
            assert_eq!(threefry(key, counter), answer);
        }
    }

    #[test]
    fn normals_have_the_moments_of_a_normal() {
        const N: usize = 100_000;
        for draw in [0, 1, u32::MAX] {
            let x = noise_twin(Source { seed: 42, stream: 1 }, Distribution::Normal, draw, N);
            let moment = |k: i32| x.iter().map(|v| v.powi(k)).sum::<f64>() / N as f64;
            // Five standard errors: sqrt(Var(x^k) / N) with E x^2, x^4, x^6, x^8 = 1, 3, 15, 105.
            for (k, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0f64)] {
                let bound = 5.0 * (variance / N as f64).sqrt();
                assert!((moment(k) - expected).abs() < bound, "draw {draw}: moment {k} is {}", moment(k));
            }
            // Neighbours come from one Box-Muller pair, and next-but-ones from adjacent counters.
            for lag in 1..4 {
                let r = x.iter().zip(&x[lag..]).map(|(a, b)| a * b).sum::<f64>() / N as f64;
                assert!(r.abs() < 5.0 / (N as f64).sqrt(), "draw {draw}: correlation {r} at lag {lag}");
            }
            assert!(x.iter().all(|v| v.abs() < 5.78));
        }
    }

    #[test]
    fn uniforms_fill_their_interval_evenly() {
        const N: usize = 100_000;
        for (distribution, low) in [(Distribution::Uniform, 0.0), (Distribution::UniformSigned, -1.0)] {
            let mut bins = [0usize; 64];
            for v in noise_twin(Source { seed: 9, stream: 0 }, distribution, 5, N) {
                bins[((v - low) / (1.0 - low) * 64.0) as usize] += 1;
                assert_eq!(f64::from(v as f32), v, "not exact in f32");
            }
            let mean = N as f64 / 64.0;
            let chi2: f64 = bins.iter().map(|b| (*b as f64 - mean).powi(2) / mean).sum();
            // 63 degrees of freedom: mean 63, standard deviation 11.2.
            assert!((63.0 - 45.0..63.0 + 56.0).contains(&chi2), "{distribution:?}: chi^2 {chi2}");
        }
    }

    #[test]
    fn draws_streams_and_seeds_differ() {
        let mut seen = HashSet::new();
        let mut count = 0;
        for seed in [0, 1, 1 << 32, u64::MAX] {
            for stream in 0..4 {
                for draw in [0, 1, 2, u32::MAX] {
                    for pair in noise_words(Source { seed, stream }, draw, 200).chunks(2) {
                        seen.insert([pair[0], pair[1]]);
                        count += 1;
                    }
                }
            }
        }
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn a_longer_draw_extends_a_shorter_one() {
        let source = Source { seed: 5, stream: 2 };
        let long = noise_twin(source, Distribution::Normal, 3, 101);
        assert_eq!(noise_twin(source, Distribution::Normal, 3, 50), long[..50]);
    }
}
