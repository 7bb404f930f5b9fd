//! Augmentation of real images: mirrored, flipped, rotated, scaled and moved at random, image by image, from counter-based random numbers.
//!
//! An image's augmentation depends on (seed, stream, draw counter, its number in the batch) alone, so that micro-batches see what the whole
//! batch would, and a resumed run what an uninterrupted one does. Nothing is differentiated: images of the data set are inputs.

pub mod config;

use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::gpu::step::StepRow;
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::ops::case::Case;
use crate::ops::case_builder::CaseBuilder;
use crate::ops::noise::{Draw, FIXED, Source};
use crate::ops::{random, shape};
use crate::part;
use bytemuck::{Pod, Zeroable};
pub use config::{AugmentConfig, Fill, Rotate, Scale, Translate};

/// Parameters of `augment`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct AugmentParams {
    count: u32,
    items: u32,
    columns: u32,
    channels: u32,
    height: u32,
    width: u32,
    key: [u32; 2],
    slot: u32,
    draw: u32,
    mirror: u32,
    flip: u32,
    rotate: u32,
    scale: u32,
    translate: u32,
    is_constant: u32,
    quarter_angle: f32,
    scale_low: f32,
    scale_span: f32,
    translate_y: f32,
    translate_x: f32,
    fill: f32,
    reserved: [u32; 2],
}

/// `augment`.
pub static AUGMENT: Kernel = Kernel {
    name: "augment",
    variant: "",
    parts: &[part!("threefry"), part!("augment")],
    bindings: &[Bind::Params, Bind::Step, Bind::In, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// Kernels of this file.
pub static KERNELS: &[&Kernel] = &[&AUGMENT];

/// Steps of a probability: it is rounded to a multiple of 2^-24.
const DICE: f64 = 16_777_216.0;

/// Longest side in pixels: below it, positions in f32 are whole where they should be.
const LONGEST: usize = 1 << 20;

/// Random words below this, of 24 bits, are hits.
fn threshold(p: f64) -> u32 {
    (p * DICE).round() as u32
}

/// Augments a batch: image i of `input`, (N, C, H, W), by the augmentation that `source` and `draw` give image i (of a micro-batch: its number in
/// the whole batch), into `output`, of the same shape or (N, C H W).
///
/// # Errors
/// [`Error::Input`] for a value that makes no sense, or images of 2^20 pixels along a side. [`Error::Internal`] if the shapes are not of the same
/// images.
pub fn lower_augment(
    l: &mut Lowering,
    augment: &AugmentConfig,
    (source, draw): (Source, Draw),
    input: (Operand, &Shape),
    output: (Operand, &Shape),
) -> Result<()> {
    augment.validate("augment")?;
    let (x, out) = (input.1, output.1);
    let [n, channels, height, width] = x.nchw();
    let is_flat = out.dims() == [n, channels * height * width] && x.rank() == 4;
    if x.rank() != 4 || !(is_flat || out == x) {
        return Err(Error::internal(format!("augment: from {x} to {out}; expected (N, C, H, W), and the same or (N, C H W)")));
    }
    if height.max(width) >= LONGEST {
        return Err(Error::input(format!("augment: images of {height}x{width}; expected fewer than {LONGEST} pixels along a side")));
    }
    let (slot, draw) = match draw {
        Draw::Step(slot) => (slot, 0),
        Draw::Fixed(draw) => (FIXED, draw),
    };
    let count = out.physical_len() / 4;
    let [low, high] = augment.scale.map_or([1.0, 1.0], |scale| scale.range);
    let translate = augment.translate.map_or(0.0, |translate| translate.range);
    let params = AugmentParams {
        count: count as u32,
        items: (count / n) as u32,
        columns: (x.padded() / 4) as u32,
        channels: channels as u32,
        height: height as u32,
        width: width as u32,
        key: source.key(),
        slot,
        draw,
        mirror: threshold(augment.mirror),
        flip: threshold(augment.flip),
        rotate: threshold(augment.rotate.map_or(0.0, |rotate| rotate.p)),
        scale: threshold(augment.scale.map_or(0.0, |scale| scale.p)),
        translate: threshold(augment.translate.map_or(0.0, |translate| translate.p)),
        is_constant: u32::from(augment.fill != Fill::Edge),
        quarter_angle: (augment.rotate.map_or(0.0, |rotate| rotate.degrees).to_radians() / 4.0) as f32,
        scale_low: low as f32,
        scale_span: (high - low) as f32,
        translate_y: (translate * height as f64) as f32,
        translate_x: (translate * width as f64) as f32,
        fill: match augment.fill {
            Fill::Edge => 0.0,
            Fill::Constant(value) => value as f32,
        },
        reserved: [0; 2],
    };
    l.push(Dispatch {
        kernel: &AUGMENT,
        overrides: vec![("FLAT", f64::from(u8::from(is_flat)))],
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![input.0, output.0],
        workgroups: grid(count, 64),
        // Four multiply-adds an element, and about twenty operations to place a pixel; the cipher is integer arithmetic.
        cost: Cost { flops: (8 * x.len() + 20 * n * height * width) as u64, bytes: 4 * (x.physical_len() + out.physical_len()) as u64 },
    });
    Ok(())
}

/// f64 twins: the draw, and the resampling by given matrices.
pub mod twin {
    use super::{AugmentConfig, DICE, Fill, threshold};
    use crate::graph::tensor::Tensor;
    use crate::ops::noise::{Source, threefry};

    /// Where pixels of an augmented image come from: rows for (x, y), with the offset last. Positions are in pixels from the image's centre.
    pub type Matrix = [[f64; 3]; 2];

    /// The augmentation of image `image` of a draw, for images of `height` x `width`.
    pub fn transforms(augment: &AugmentConfig, source: Source, draw: u32, image: usize, [height, width]: [usize; 2]) -> Matrix {
        let key = source.key();
        let words: Vec<[u32; 2]> = (0..4).map(|k| threefry(key, [4 * image as u32 + k, draw])).collect();
        let falls = |word: u32, p: f64| word >> 8 < threshold(p);
        let unit = |word: u32| f64::from(word >> 8) / DICE;

        let mirror = falls(words[0][0], augment.mirror);
        let flip = falls(words[1][0], augment.flip);
        let angle = match augment.rotate {
            Some(rotate) if falls(words[2][0], rotate.p) => (2.0 * unit(words[0][1]) - 1.0) * rotate.degrees.to_radians(),
            _ => 0.0,
        };
        let zoom = match augment.scale {
            Some(scale) if falls(words[3][0], scale.p) => scale.range[0] + (scale.range[1] - scale.range[0]) * unit(words[1][1]),
            _ => 1.0,
        };
        let [shift_x, shift_y] = match augment.translate {
            Some(translate) if falls(words[2][1], translate.p) => {
                [(words[3][1] & 0xffff, width), (words[3][1] >> 16, height)].map(|(half, side)| {
                    let amount = (f64::from(half) + 0.5) / 32768.0 - 1.0;
                    amount * translate.range * side as f64
                })
            }
            _ => [0.0; 2],
        };
        let back = [[angle.cos() / zoom, angle.sin() / zoom], [-angle.sin() / zoom, angle.cos() / zoom]];
        let rows = [(back[0], mirror), (back[1], flip)];
        rows.map(|([a, b], reversed)| {
            let sign = if reversed { -1.0 } else { 1.0 };
            [sign * a, sign * b, -sign * (a * shift_x + b * shift_y)]
        })
    }

    /// Each image of (N, C, H, W) resampled by its matrix, bilinearly. The matrix is PyTorch's theta (`affine_grid`, `align_corners=False`) in
    /// pixels: theta of (a, b, c) is (a, b H / W, 2 c / W) in the row of x, and (d W / H, e, 2 f / H) of (d, e, f) in that of y. The fill is its
    /// padding mode: `border`, or `zeros` if the constant is 0.
    pub fn resample(x: &Tensor, matrices: &[Matrix], fill: Fill) -> Tensor {
        let [_, channels, height, width] = x.shape.nchw();
        Tensor::from_fn(x.shape.clone(), |i| {
            let (column, line) = (i % width, i / width % height);
            let (channel, image) = (i / (width * height) % channels, i / (width * height * channels));
            let centre = [(width as f64 - 1.0) / 2.0, (height as f64 - 1.0) / 2.0];
            let [from_x, from_y] = [0, 1].map(|axis| {
                let [a, b, c] = matrices[image][axis];
                a * (column as f64 - centre[0]) + b * (line as f64 - centre[1]) + c + centre[axis]
            });
            let around = |at: f64| [(at.floor(), 1.0 - (at - at.floor())), (at.floor() + 1.0, at - at.floor())];
            let mut value = 0.0;
            for (line, weight_y) in around(from_y) {
                for (column, weight_x) in around(from_x) {
                    let nearest = [line.clamp(0.0, height as f64 - 1.0), column.clamp(0.0, width as f64 - 1.0)];
                    let pixel = match fill {
                        Fill::Constant(value) if nearest != [line, column] => value,
                        _ => x.data[((image * channels + channel) * height + nearest[0] as usize) * width + nearest[1] as usize],
                    };
                    value += weight_y * weight_x * pixel;
                }
            }
            value
        })
    }

    /// A batch augmented as [`super::lower_augment`] does it, where `skipped` images of the draw come before its first.
    pub fn augment(x: &Tensor, augment: &AugmentConfig, source: Source, draw: u32, skipped: usize) -> Tensor {
        let [n, _, height, width] = x.shape.nchw();
        let matrices: Vec<Matrix> = (0..n).map(|i| transforms(augment, source, draw, skipped + i, [height, width])).collect();
        resample(x, &matrices, augment.fill)
    }
}

const SOURCE: Source = Source { seed: 0x1234_5678_9abc_def0, stream: 2 };

/// Draw counter of the cases, and the images that come before.
const DRAWN: (u32, usize) = (0xfedc_ba98, 3);

/// Every transform, each often.
fn everything(fill: Fill) -> AugmentConfig {
    AugmentConfig {
        mirror: 0.5,
        flip: 0.25,
        fill,
        rotate: Some(Rotate { p: 0.75, degrees: 180.0 }),
        scale: Some(Scale { p: 0.75, range: [0.5, 2.0] }),
        translate: Some(Translate { p: 0.75, range: 0.3 }),
    }
}

fn only_flips() -> AugmentConfig {
    AugmentConfig { mirror: 0.5, flip: 0.5, ..AugmentConfig::default() }
}

/// Cases of this file's kernels.
pub fn cases(caps: &Caps) -> Vec<Case> {
    // One pixel, one row, H != W, C not a multiple of 4 and above 4, more than a workgroup an image.
    let shapes: [&[usize]; 7] =
        [&[3, 1, 1, 1], &[5, 3, 1, 7], &[16, 1, 4, 4], &[9, 3, 8, 5], &[4, 6, 3, 7], &[2, 8, 5, 5], &[3, 1, 28, 33]];
    let one = |config: AugmentConfig| AugmentConfig { mirror: 0.0, flip: 0.0, ..config };
    let all = everything(Fill::Edge);
    let configs = [
        ("nothing", AugmentConfig::default()),
        ("flips", only_flips()),
        ("every flip", AugmentConfig { mirror: 1.0, flip: 1.0, ..AugmentConfig::default() }),
        ("everything", all),
        ("everything, black", everything(Fill::Constant(-1.0))),
        ("rotation", one(AugmentConfig { scale: None, translate: None, ..all })),
        ("scaling, 0.25", one(AugmentConfig { rotate: None, translate: None, fill: Fill::Constant(0.25), ..all })),
        ("translation", one(AugmentConfig { rotate: None, scale: None, ..all })),
    ];
    let mut cases = Vec::new();
    for (k, dims) in shapes.into_iter().enumerate() {
        let x = random(&shape(dims), k as u64, -1.0, 1.0);
        for (what, config) in configs {
            for flat in [false, true] {
                let draw = if k % 2 == 0 { Draw::Fixed(DRAWN.0) } else { Draw::Step(StepRow::draw(k)) };
                cases.push(augment_case(caps, what, &x, &config, draw, flat));
            }
        }
    }
    cases
}

fn augment_case(caps: &Caps, what: &str, x: &Tensor, config: &AugmentConfig, draw: Draw, flat: bool) -> Case {
    const VALID: &str = "the settings of cases are written by hand";
    let mut b = CaseBuilder::new(caps);
    let skipped = match draw {
        Draw::Fixed(_) => 0,
        Draw::Step(slot) => {
            b.step.slots[slot as usize] = [1, 2, DRAWN.0, DRAWN.1 as u32];
            DRAWN.1
        }
    };
    let expected = twin::augment(x, config, SOURCE, DRAWN.0, skipped);
    let n = x.shape.dims()[0];
    let out = if flat { shape(&[n, x.shape.len() / n]) } else { x.shape.clone() };
    let expected = Tensor::new(out.clone(), expected.data);
    let input = b.input(&x.pack());
    let moves = config.rotate.is_some() || config.scale.is_some() || config.translate.is_some();
    let output = if moves {
        b.output(expected.pack_f64())
    } else {
        // Copies of pixels, compared as such.
        let words: Vec<u32> = expected.pack().iter().map(|v| v.to_bits()).collect();
        b.words(vec![u32::MAX; words.len()], words)
    };
    lower_augment(&mut b.lowering, config, (SOURCE, draw), (input, &x.shape), (output, &out)).expect(VALID);
    let mut case = b.finish(format!("augment {what} {} -> {out} {draw:?}", x.shape));
    // A position is rounded to a few ulp of the side, and noise is steep.
    case.atol = 1e-4;
    case
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing;
    use crate::ops::case::{self, CaseBuffer};
    use crate::ops::case_builder::assert_cases;

    #[test]
    fn kernels_equal_their_twins() {
        assert_cases(KERNELS, cases);
    }

    #[test]
    fn a_plain_picture_is_mirrored_flipped_turned_scaled_and_moved() {
        let x = Tensor::from_fn(shape(&[1, 1, 3, 3]), |i| i as f64);
        let by = |matrix: twin::Matrix, fill| twin::resample(&x, &[matrix], fill).data;
        assert_eq!(by([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], Fill::Edge), x.data);
        assert_eq!(by([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], Fill::Edge), [2.0, 1.0, 0.0, 5.0, 4.0, 3.0, 8.0, 7.0, 6.0]);
        assert_eq!(by([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0]], Fill::Edge), [6.0, 7.0, 8.0, 3.0, 4.0, 5.0, 0.0, 1.0, 2.0]);
        // A quarter turn: the pixel at (x, y) comes from (y, -x).
        assert_eq!(by([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]], Fill::Edge), [6.0, 3.0, 0.0, 7.0, 4.0, 1.0, 8.0, 5.0, 2.0]);
        // Twice as large, and moved by one to the right.
        assert_eq!(by([[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]], Fill::Edge), [2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0]);
        assert_eq!(by([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]], Fill::Edge), [0.0, 0.0, 1.0, 3.0, 3.0, 4.0, 6.0, 6.0, 7.0]);
        assert_eq!(by([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]], Fill::Constant(9.0)), [9.0, 0.0, 1.0, 9.0, 3.0, 4.0, 9.0, 6.0, 7.0]);
    }

    #[test]
    fn transforms_have_the_chances_and_amounts_that_were_asked_for() {
        const N: usize = 20_000;
        let config = AugmentConfig {
            mirror: 0.3,
            flip: 0.1,
            fill: Fill::Edge,
            rotate: Some(Rotate { p: 0.5, degrees: 30.0 }),
            scale: Some(Scale { p: 0.4, range: [0.8, 1.6] }),
            translate: Some(Translate { p: 0.6, range: 0.25 }),
        };
        let all: Vec<twin::Matrix> = (0..N).map(|i| twin::transforms(&config, SOURCE, (i / 50) as u32, i % 50, [20, 40])).collect();
        // Five standard errors.
        let share = |what: &str, hits: usize, of: usize, p: f64| {
            let (got, error) = (hits as f64 / of as f64, (p * (1.0 - p) / of as f64).sqrt());
            assert!((got - p).abs() < 5.0 * error, "{what}: {got}, expected {p}");
        };
        let even = |what: &str, values: &[f64], [low, high]: [f64; 2]| {
            assert!(values.iter().all(|v| (low - 1e-6..=high + 1e-6).contains(v)), "{what}: beyond {low} to {high}");
            for quarter in 0..4 {
                let bounds = [quarter, quarter + 1].map(|k| low + (high - low) * f64::from(k) / 4.0);
                share(what, values.iter().filter(|v| (bounds[0]..bounds[1]).contains(*v)).count(), values.len(), 0.25);
            }
        };
        let (mut mirrored, mut flipped) = (0, 0);
        let (mut angles, mut zooms, mut moves) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new()]);
        for [[a, b, c], [d, e, f]] in all {
            // Angles are below a quarter turn, so the signs of the diagonal are the flips.
            let (x, y) = (a.signum(), e.signum());
            mirrored += usize::from(x < 0.0);
            flipped += usize::from(y < 0.0);
            let zoom = 1.0 / a.hypot(b);
            assert!((zoom * d.hypot(e) - 1.0).abs() < 1e-12);
            if (zoom - 1.0).abs() > 1e-9 {
                zooms.push(zoom);
            }
            if b != 0.0 {
                angles.push((x * b).atan2(x * a).to_degrees());
                assert!((angles[angles.len() - 1] + (y * d).atan2(y * e).to_degrees()).abs() < 1e-9, "both rows turn by one angle");
            }
            if c != 0.0 {
                // The offset of the source is -R^-1 t / s.
                let (c, f) = (x * c, y * f);
                let (a, b, d, e) = (x * a, x * b, y * d, y * e);
                let det = a * e - b * d;
                moves[0].push(-(e * c - b * f) / det);
                moves[1].push(-(a * f - d * c) / det);
            }
        }
        share("mirror", mirrored, N, 0.3);
        share("flip", flipped, N, 0.1);
        share("rotate", angles.len(), N, 0.5);
        share("scale", zooms.len(), N, 0.4);
        share("translate", moves[0].len(), N, 0.6);
        even("angles", &angles, [-30.0, 30.0]);
        even("factors", &zooms, [0.8, 1.6]);
        even("translations along x", &moves[0], [-10.0, 10.0]);
        even("translations along y", &moves[1], [-5.0, 5.0]);
    }

    #[test]
    fn a_probability_of_one_always_happens_and_of_zero_never() {
        let always = AugmentConfig { mirror: 1.0, flip: 1.0, ..AugmentConfig::default() };
        for image in 0..1000 {
            let identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]];
            let turned = twin::transforms(&always, SOURCE, 7, image, [8, 8]);
            assert_eq!([turned[0][0], turned[1][1]], [-1.0, -1.0]);
            assert_eq!(twin::transforms(&AugmentConfig::default(), SOURCE, 7, image, [8, 8]), identity);
        }
    }

    #[test]
    fn seeds_streams_draws_and_images_differ() {
        let config = everything(Fill::Edge);
        let mut seen = std::collections::HashSet::new();
        let mut count = 0;
        for (seed, stream, draw) in [(1, 2, 0), (2, 2, 0), (1, 3, 0), (1, 2, 1)] {
            for image in 0..100 {
                let m = twin::transforms(&config, Source { seed, stream }, draw, image, [16, 16]);
                // Images to which nothing at all happens are alike.
                if m[0][1] != 0.0 {
                    seen.insert(format!("{m:?}"));
                    count += 1;
                }
            }
        }
        assert!(count > 200 && seen.len() == count, "{} of {count}", seen.len());
    }

    /// Each micro-batch takes its part of the whole batch's draw, on the device as in the twin.
    #[test]
    fn parts_are_augmented_as_in_the_whole_batch() {
        let config = everything(Fill::Edge);
        let x = random(&shape(&[6, 3, 5, 4]), 4, -1.0, 1.0);
        let whole = twin::augment(&x, &config, SOURCE, 77, 0);
        let image = 60;
        for first in [0, 2, 4] {
            let slice = |t: &Tensor| Tensor::new(shape(&[2, 3, 5, 4]), t.data[first * image..][..2 * image].to_vec());
            let part = slice(&x);
            assert_eq!(twin::augment(&part, &config, SOURCE, 77, first), slice(&whole));
            let Some(gpu) = testing::gpu() else { continue };
            let mut case = augment_case(&gpu.caps(), "a part", &part, &config, Draw::Step(StepRow::draw(0)), false);
            case.step = Zeroable::zeroed();
            case.step.slots[StepRow::draw(0) as usize][2] = 77;
            case.step = case.step.micro_batch(1, first as u32);
            case.buffers[1] = CaseBuffer::Output(slice(&whole).pack_f64());
            assert_eq!(case::run(gpu, &case).unwrap().failure, None);
        }
    }

    #[test]
    fn what_cannot_be_augmented_is_refused() {
        let lower = |config: &AugmentConfig, x: &[usize], out: &[usize]| {
            let operands = [Operand::Scratch(0), Operand::Scratch(1)];
            let (x, out) = (shape(x), shape(out));
            let l = &mut Lowering::new(Caps::minimal());
            lower_augment(l, config, (SOURCE, Draw::Fixed(0)), (operands[0], &x), (operands[1], &out))
        };
        let config = only_flips();
        lower(&config, &[2, 3, 4, 5], &[2, 60]).unwrap();
        for (x, out) in [(&[2, 3, 4, 5][..], &[2, 3, 5, 4][..]), (&[2, 60], &[2, 60]), (&[2, 3, 4, 5], &[1, 120])] {
            assert!(matches!(lower(&config, x, out), Err(Error::Internal(_))), "{x:?} {out:?}");
        }
        let long = [1, 1, 1, 1 << 20];
        assert!(lower(&config, &long, &long).unwrap_err().to_string().contains("fewer than 1048576 pixels"));
        let wrong = AugmentConfig { mirror: 2.0, ..config };
        assert!(lower(&wrong, &[1, 1, 2, 2], &[1, 4]).unwrap_err().to_string().starts_with("augment.mirror: got 2"));
    }
}
