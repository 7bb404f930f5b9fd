//! Random draws for the generators, the same on every platform.
//!
//! The source is ChaCha8, whose stream is specified. Gaussians are sums of uniforms, or quantiles of our own, rather than ziggurat or Box-Muller,
//! because `exp`, `ln` and `cos` may round differently from one platform's mathematical library to the next, while +, -, *, / and sqrt may not
//! (IEEE 754).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use super::Split;
use super::normal::quantile;

/// A stream of draws.
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream numbered `index` of the family (`domain`, `seed`, `part`). Streams never overlap.
    pub fn new(domain: &[u8; 8], seed: u64, part: u64, index: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(domain);
        key[8..16].copy_from_slice(&seed.to_le_bytes());
        key[16..24].copy_from_slice(&part.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(index);
        Self(rng)
    }

    /// Uniform in [0, 1), in steps of 2^-24, each exactly an f32.
    pub fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1 << 24) as f32
    }

    /// Uniform in [low, high).
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Nearly Gaussian, and bounded: the sum of six uniforms (Irwin-Hall), which never leaves mean +- 4.25 deviations.
    pub fn normal(&mut self, mean: f32, deviation: f32) -> f32 {
        let sum: f32 = (0..6).map(|_| self.unit()).sum();
        // Six uniforms have variance 6 / 12.
        mean + deviation * std::f32::consts::SQRT_2 * (sum - 3.0)
    }

    /// Standard normal, by the quantile of a uniform of 53 bits: exact to rounding, within +- 8.2 deviations.
    pub fn standard_normal(&mut self) -> f64 {
        // The middle of its cell, so that neither 0 nor 1 is met.
        quantile(((self.0.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64)
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }

    /// Uniform in 0..n, for n up to 2^32. The bias of the multiply-shift, n / 2^32, is of no consequence here.
    pub fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.0.next_u32()) * n as u64) >> 32) as usize
    }

    /// A uniform direction: (cosine, sine) of a uniform angle, by rejection from the square, so that no trigonometry is needed.
    pub fn direction(&mut self) -> (f32, f32) {
        loop {
            let (x, y) = (self.uniform(-1.0, 1.0), self.uniform(-1.0, 1.0));
            let square = x * x + y * y;
            if (0.01..=1.0).contains(&square) {
                let length = square.sqrt();
                return (x / length, y / length);
            }
        }
    }
}

/// Values and labels of `count` images or points, of `len` values each, in `classes` classes. `fill` writes the values of one.
///
/// Image `i` depends on (domain, seed, split, i) alone: the first k images of n are the same for every n, and for any number of threads. Each
/// run of `classes` images holds every class once, in an order of its own, so every prefix is balanced.
pub fn generate<T: Copy + Default + Send>(
    domain: &[u8; 8],
    (count, len, classes): (usize, usize, usize),
    seed: u64,
    split: Split,
    fill: impl Fn(&mut Draw, usize, &mut [T]) + Sync,
) -> (Vec<T>, Vec<u32>) {
    // Four families per seed: images and class orders, of train and of test.
    let part = match split {
        Split::Train => 0,
        Split::Test => 2,
    };
    let mut labels: Vec<u32> = (0..count.div_ceil(classes))
        .into_par_iter()
        .flat_map_iter(|block| {
            let mut draw = Draw::new(domain, seed, part + 1, block as u64);
            let mut order: Vec<u32> = (0..classes as u32).collect();
            for place in (1..classes).rev() {
                order.swap(place, draw.below(place + 1));
            }
            order
        })
        .collect();
    labels.truncate(count);
    let mut values = vec![T::default(); count * len];
    values.par_chunks_exact_mut(len).enumerate().for_each(|(index, values)| {
        fill(&mut Draw::new(domain, seed, part, index as u64), labels[index] as usize, values);
    });
    (values, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_their_moments_and_bounds() {
        let mut draw = Draw::new(b"moments_", 1, 0, 0);
        let values: Vec<f64> = (0..100_000).map(|_| f64::from(draw.normal(2.0, 3.0))).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / values.len() as f64;
        assert!((mean - 2.0).abs() < 0.05, "{mean}");
        assert!((variance.sqrt() - 3.0).abs() < 0.05, "{variance}");
        assert!(values.iter().all(|v| (v - 2.0).abs() <= 3.0 * 4.25));
        let mut seen = [0; 7];
        for _ in 0..7000 {
            seen[draw.below(7)] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1150).contains(&n)), "{seen:?}");
        for _ in 0..1000 {
            let (c, s) = draw.direction();
            assert!((c * c + s * s - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn standard_normals_follow_the_normal_distribution_into_its_tails() {
        let mut draw = Draw::new(b"normals_", 2, 0, 0);
        const N: usize = 200_000;
        let mut values: Vec<f64> = (0..N).map(|_| draw.standard_normal()).collect();
        let moment = |power| values.iter().map(|v| v.powi(power)).sum::<f64>() / N as f64;
        // Expected 0, 1, 0, 3, and five standard errors (the variances of these powers are 1, 2, 15 and 96).
        for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0f64)] {
            assert!((moment(power) - expected).abs() < 5.0 * (variance / N as f64).sqrt(), "{power}: {}", moment(power));
        }
        values.sort_unstable_by(f64::total_cmp);
        // Kolmogorov and Smirnov's distance at quantiles from tables; 1.95 / sqrt(n) is passed once in a thousand samples.
        for (p, quantile) in
            [(0.00135, -3.0), (0.02275, -2.0), (0.158655, -1.0), (0.5, 0.0), (0.691462, 0.5), (0.97725, 2.0), (0.99865, 3.0)]
        {
            let below = values.partition_point(|&v| v < quantile) as f64 / N as f64;
            assert!((below - p).abs() < 1.95 / (N as f64).sqrt(), "{quantile}: {below}");
        }
        // Three in a million lie beyond 4.5 deviations on either side, 6.8 in a million in all.
        assert!(values[0] < -4.0 && values[0] > -6.5 && values[N - 1] > 4.0 && values[N - 1] < 6.5, "{} {}", values[0], values[N - 1]);
    }

    #[test]
    fn streams_differ_in_every_part_of_their_name() {
        let first = |domain, seed, part, index| Draw::new(domain, seed, part, index).unit();
        let base = first(b"aaaaaaaa", 0, 0, 0);
        for other in [first(b"aaaaaaab", 0, 0, 0), first(b"aaaaaaaa", 1, 0, 0), first(b"aaaaaaaa", 0, 1, 0), first(b"aaaaaaaa", 0, 0, 1)] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn every_block_holds_every_class_once() {
        let (images, labels) = generate(b"blocks__", (25, 2, 10), 9, Split::Train, |_, label, image: &mut [u8]| image.fill(label as u8));
        assert_eq!((images.len(), labels.len()), (50, 25));
        for block in labels.chunks_exact(10) {
            let mut sorted = block.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(labels[..10], labels[10..20]);
        assert!(images.chunks(2).zip(&labels).all(|(image, &label)| image == [label as u8; 2]));
    }
}
