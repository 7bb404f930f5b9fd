//! Batches from a data set that is resident on the device: which images, and their normalised pixels.

use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::gpu::step::StepRow;
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::ops::case::Case;
use crate::ops::case_builder::{CaseBuilder, normals};
use crate::ops::noise::{seed_key, threefry};
use crate::part;
use bytemuck::{Pod, Zeroable};

/// Rounds of the Feistel network. Four give a pseudo-random permutation on large domains (Luby and Rackoff, 1988); small data sets have halves
/// of a few bits, and more rounds cost nothing here.
const ROUNDS: u32 = 8;

/// Largest number of segments of a resident data set.
pub const MAX_SEGMENTS: usize = 4;

/// How a resident data set stores a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Bytes, four to a 32-bit word, the first in the low bits; images follow each other without padding, and the last word is filled up.
    U8,
    /// f32, one to a word.
    F32,
}

/// A data set on the device: (images, H, W, C) without padding, in segments below the adapter's binding limit.
#[derive(Debug, Clone)]
pub struct Resident {
    /// Segments in order: [`Resident::per_segment`] images each, the last one the rest. One to [`MAX_SEGMENTS`].
    pub segments: Vec<Operand>,
    /// Number of images.
    pub images: usize,
    /// Images in a segment, from [`per_segment`].
    pub per_segment: usize,
    /// Shape of an image: (C, H, W); a point of a 2-D data set is (2, 1, 1).
    pub image: [usize; 3],
    /// Type of the values.
    pub storage: Storage,
    /// A value v becomes `scale * v + shift`; `1 / 127.5` and `-1` take bytes to [-1, 1].
    pub scale: f64,
    /// See `scale`.
    pub shift: f64,
}

/// Parameters of `batch_index`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct BatchIndexParams {
    rows: u32,
    images: u32,
    half_bits: u32,
    slot: u32,
    seed: [u32; 2],
    reserved: [u32; 2],
}

/// Parameters of `gather_batch`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct GatherBatchParams {
    items: u32,
    channels: u32,
    groups: u32,
    pixels: u32,
    data_channels: u32,
    data_pixels: u32,
    images: u32,
    per_segment: u32,
    is_float: u32,
    scale: f32,
    shift: f32,
    reserved: u32,
}

/// `batch_index`.
pub static BATCH_INDEX: Kernel = Kernel {
    name: "batch_index",
    variant: "",
    parts: &[part!("threefry"), part!("batch_index")],
    bindings: &[Bind::Params, Bind::Step, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// `gather_batch`.
pub static GATHER_BATCH: Kernel = Kernel {
    name: "gather_batch",
    variant: "",
    parts: &[part!("gather_batch")],
    bindings: &[Bind::Params, Bind::In, Bind::In, Bind::In, Bind::In, Bind::In, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// Kernels of this file.
pub static KERNELS: &[&Kernel] = &[&BATCH_INDEX, &GATHER_BATCH];

/// Half the bits of the smallest even-bit domain that holds `images` numbers; at least 1.
fn half_bits(images: u32) -> u32 {
    (u32::BITS - (images - 1).leading_zeros()).div_ceil(2).max(1)
}

/// The batch order: which image is at `position` of epoch `epoch` of a data set of `images` images. For each (seed, epoch), positions
/// 0 to `images - 1` name every image exactly once. A position past the end counts on into the next epochs.
///
/// The permutation is a Feistel network of eight Threefry rounds on the smallest domain of 4^k numbers that holds the data set, walked until
/// it is back inside (cycle walking: Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
///
/// # Panics
/// If `images` is zero.
pub fn batch_index(seed: u64, epoch: u32, images: u32, position: u32) -> u32 {
    let epoch = epoch.wrapping_add(position / images);
    let key = threefry(seed_key(seed), [epoch, 1]);
    let bits = half_bits(images);
    let half = |x: u64| (x % (1 << bits)) as u32;
    let mut x = u64::from(position % images);
    loop {
        let (mut left, mut right) = (half(x >> bits), half(x));
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ half(threefry(key, [right, round])[0].into()));
        }
        x = (u64::from(left) << bits) + u64::from(right);
        if x < u64::from(images) {
            return x as u32;
        }
    }
}

/// Epoch and position in it of the image that comes after `drawn` others: x and y of the step row's slot [`StepRow::draw`]. Epochs count
/// modulo 2^32.
///
/// # Panics
/// If `images` is zero.
pub fn batch_position(images: u32, drawn: u64) -> [u32; 2] {
    let images = u64::from(images);
    [(drawn / images) as u32, (drawn % images) as u32]
}

/// Computes the image numbers of a batch of `rows` rows at the epoch and position of the step row's slot `slot` ([`StepRow::draw`]): a u32
/// buffer for [`lower_gather_batch`]. Equals [`batch_index`] row by row.
///
/// # Errors
/// [`Error::Input`] if there are no images or rows, or more than the 32-bit positions can count.
pub fn lower_batch_index(l: &mut Lowering, rows: usize, images: usize, seed: u64, slot: u32) -> Result<Operand> {
    if rows == 0 || images == 0 || rows.checked_add(images).is_none_or(|n| n > u32::MAX as usize) {
        return Err(Error::input(format!(
            "a batch of {rows} from a data set of {images} images: both must be at least 1, and together below 2^32"
        )));
    }
    let output = l.scratch(rows);
    let params = BatchIndexParams {
        rows: rows as u32,
        images: images as u32,
        half_bits: half_bits(images as u32),
        slot,
        seed: seed_key(seed),
        reserved: [0; 2],
    };
    l.push(Dispatch {
        kernel: &BATCH_INDEX,
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![output],
        workgroups: grid(rows, 64),
        cost: Cost { flops: 0, bytes: 4 * rows as u64 },
    });
    Ok(output)
}

/// How many images of `image_bytes` bytes a segment of a resident data set holds: as many as one binding takes, in a multiple of four images so
/// that segments start at whole words.
///
/// # Errors
/// [`Error::Input`] if the data set needs more than [`MAX_SEGMENTS`] segments.
pub fn per_segment(images: usize, image_bytes: usize, max_binding: u64) -> Result<usize> {
    let most = max_binding.min(u64::from(u32::MAX)) as usize / image_bytes.max(1) / 4 * 4;
    if images <= most {
        return Ok(images);
    }
    if images > most.saturating_mul(MAX_SEGMENTS) {
        return Err(Error::input(format!(
            "the data set's {images} images of {image_bytes} bytes do not fit {MAX_SEGMENTS} buffers of {max_binding} bytes, the most \
             that the adapter binds; use smaller images or stream the data set"
        )));
    }
    Ok(most)
}

/// Gathers and normalises a batch: row r of `output`, of shape `shape` (rows, C, H, W) or (rows, C * H * W), is image `index[r]`. `index` is what
/// [`lower_batch_index`] returns, or a table of u32 image numbers.
///
/// # Errors
/// [`Error::Internal`] if `shape` is not that of images of the data set, or the segments do not add up.
pub fn lower_gather_batch(l: &mut Lowering, data: &Resident, index: Operand, output: Operand, shape: &Shape) -> Result<()> {
    let [_, channels, height, width] = shape.nchw();
    let is_flat = height * width == 1 && channels == data.image.iter().product::<usize>();
    if [channels, height, width] != data.image && !is_flat {
        return Err(Error::internal(format!("gather_batch: output {shape} for images of shape {:?}", data.image)));
    }
    let segments = data.segments.len();
    if segments == 0 || segments > MAX_SEGMENTS || data.images == 0 || data.images.div_ceil(data.per_segment.max(1)) != segments {
        return Err(Error::internal(format!(
            "gather_batch: {segments} segments of {} images for {} images; at most {MAX_SEGMENTS} segments are supported",
            data.per_segment, data.images
        )));
    }
    let items = shape.physical_len() / 4;
    let params = GatherBatchParams {
        items: items as u32,
        channels: channels as u32,
        groups: (shape.padded() / 4) as u32,
        pixels: (height * width) as u32,
        data_channels: data.image[0] as u32,
        data_pixels: (data.image[1] * data.image[2]) as u32,
        images: data.images as u32,
        per_segment: data.per_segment as u32,
        is_float: u32::from(data.storage == Storage::F32),
        scale: data.scale as f32,
        shift: data.shift as f32,
        reserved: 0,
    };
    let value_bytes = if data.storage == Storage::F32 { 4 } else { 1 };
    let segment = |i: usize| *data.segments.get(i).unwrap_or(&data.segments[0]);
    l.push(Dispatch {
        kernel: &GATHER_BATCH,
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![index, segment(0), segment(1), segment(2), segment(3), output],
        workgroups: grid(items, 64),
        cost: Cost { flops: 2 * shape.len() as u64, bytes: (value_bytes * shape.len() + 16 * items) as u64 },
    });
    Ok(())
}

/// f64 twins of the kernels that have no public host function.
pub mod twin {
    /// The batch in logical (N, C, H, W) order from values in (images, H, W, C) order.
    pub fn gather_batch(data: &[f64], [channels, height, width]: [usize; 3], index: &[u32], scale: f64, shift: f64) -> Vec<f64> {
        let mut out = Vec::new();
        for &image in index {
            for c in 0..channels {
                for h in 0..height {
                    for w in 0..width {
                        out.push(scale * data[((image as usize * height + h) * width + w) * channels + c] + shift);
                    }
                }
            }
        }
        out
    }
}

const VALID: &str = "case sizes are valid";

/// Cases of this file's kernels.
pub fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    // (images, rows, position of the first row): within an epoch, across its end, across several.
    let orders = [(1, 3, 0), (2, 1, 1), (3, 65, 2), (64, 64, 0), (65, 63, 60), (1000, 64, 999), (60_000, 65, 59_990), (4096, 1000, 17)];
    for (images, rows, start) in orders {
        cases.push(batch_index_case(caps, images, rows, start));
    }
    // Images (C, H, W) whose bytes do and do not fill whole words, in one to four segments.
    let gathers = [
        ([1, 4, 4], 9, 1, 5),
        ([3, 5, 7], 13, 2, 3),
        ([4, 3, 2], 16, 4, 2),
        ([5, 3, 3], 12, 3, 4),
        ([2, 1, 1], 1000, 1, 64),
        ([1, 1, 1], 1, 1, 1),
        ([65, 1, 1], 20, 3, 7),
    ];
    for (image, images, segments, rows) in gathers {
        for storage in [Storage::U8, Storage::F32] {
            cases.push(gather_case(caps, image, images, segments, rows, storage, false));
            cases.push(gather_case(caps, image, images, segments, rows, storage, true));
        }
    }
    cases
}

fn batch_index_case(caps: &Caps, images: u32, rows: u32, start: u32) -> Case {
    let (seed, epoch) = (0xdead_beef_0123_4567, 11);
    let mut b = CaseBuilder::new(caps);
    let slot = StepRow::draw(1);
    b.step.slots[slot as usize] = [epoch, start, 99, 0];
    let index = lower_batch_index(&mut b.lowering, rows as usize, images as usize, seed, slot).expect(VALID);
    let expected: Vec<u32> = (0..rows).map(|r| batch_index(seed, epoch, images, start + r)).collect();
    let words = b.words(vec![u32::MAX; expected.len()], expected);
    b.replace(index, words);
    b.finish(format!("batch_index {rows} rows from position {start} of {images}"))
}

fn gather_case(caps: &Caps, image: [usize; 3], images: usize, segments: usize, rows: usize, storage: Storage, flat: bool) -> Case {
    let len = image.iter().product::<usize>();
    let per_segment = images.div_ceil(segments).next_multiple_of(if segments > 1 { 4 } else { 1 });
    let values: Vec<f32> = match storage {
        // Every byte value occurs, 0 and 255 among the first.
        Storage::U8 => (0..images * len).map(|i| ((i * 255 + i / 256) % 256) as f32).collect(),
        Storage::F32 => normals(77, images * len),
    };
    let (scale, shift) = if storage == Storage::U8 { (1.0 / 127.5, -1.0) } else { (0.5, 2.0) };
    // The first and the last image, and steps between that meet every segment.
    let index: Vec<u32> = (0..rows).map(|r| ((r * (images - 1)).div_ceil(rows.max(2) - 1)) as u32).collect();
    let wide: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
    let dims: &[usize] = if flat { &[rows, len] } else { &[rows, image[0], image[1], image[2]] };
    let shape = Shape::new(dims).expect(VALID);
    let expected = Tensor::new(shape.clone(), twin::gather_batch(&wide, image, &index, scale, shift));

    let mut b = CaseBuilder::new(caps);
    let segments = values
        .chunks(per_segment * len)
        .map(|part| match storage {
            Storage::F32 => b.input(part),
            Storage::U8 => {
                let mut bytes: Vec<u8> = part.iter().map(|v| *v as u8).collect();
                bytes.resize(bytes.len().next_multiple_of(4), 0xee);
                b.input(&bytes)
            }
        })
        .collect();
    let data = Resident { segments, images, per_segment, image, storage, scale, shift };
    let index = b.input(&index);
    let output = b.output(expected.pack_f64());
    lower_gather_batch(&mut b.lowering, &data, index, output, &shape).expect(VALID);
    b.finish(format!("gather_batch {shape} of {images} {storage:?} images in {} segments", data.segments.len()))
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
    fn an_epoch_names_every_image_once() {
        for images in (1..=70).chain([255, 256, 257, 1000, 1024, 1025, 60_000]) {
            for (seed, epoch) in [(0, 0), (0, 1), (u64::MAX, 0)] {
                let mut seen = vec![false; images as usize];
                for position in 0..images {
                    let image = batch_index(seed, epoch, images, position);
                    assert!(!std::mem::replace(&mut seen[image as usize], true), "{images} images: {image} came twice");
                }
            }
        }
    }

    #[test]
    fn the_largest_data_set_has_an_order() {
        assert_eq!(half_bits(1), 1);
        assert_eq!(half_bits(4), 1);
        assert_eq!(half_bits(5), 2);
        assert_eq!(half_bits(u32::MAX), 16);
        assert!(batch_index(3, 0, u32::MAX, u32::MAX - 1) < u32::MAX);
    }

    #[test]
    fn epochs_and_seeds_have_their_own_order_and_positions_run_on() {
        let order = |seed, epoch| (0..1000).map(|p| batch_index(seed, epoch, 1000, p)).collect::<Vec<_>>();
        let first = order(7, 0);
        for other in [order(7, 1), order(8, 0), order(7 + (1 << 32), 0)] {
            // A random permutation agrees with another in about one place.
            let same = first.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!(same < 8, "{same} places agree");
        }
        assert_eq!(batch_index(7, 0, 1000, 1000 + 37), batch_index(7, 1, 1000, 37));
        assert_eq!(batch_index(7, 0, 1000, 2000), batch_index(7, 2, 1000, 0));
    }

    #[test]
    fn batches_run_across_epochs() {
        // Seven batches of 30 from 70 images are three epochs.
        let batch = |k: u64| {
            let [epoch, start] = batch_position(70, 30 * k);
            (0..30).map(move |r| batch_index(5, epoch, 70, start + r))
        };
        let all: Vec<u32> = (0..7).flat_map(batch).collect();
        for epoch in all.chunks(70) {
            let mut epoch = epoch.to_vec();
            epoch.sort_unstable();
            assert_eq!(epoch, (0..70).collect::<Vec<_>>());
        }
        assert_eq!(batch_position(70, (70 << 32) + 140 + 3), [2, 3]);
    }

    /// Over many epochs each image must be equally likely at each position, and each image equally likely to follow each other one.
    #[test]
    fn orders_are_uniform() {
        for images in [2, 3, 4, 5, 10, 16, 17] {
            const EPOCHS: u32 = 4000;
            let n = images as usize;
            let mut at = vec![0f64; n * n];
            let mut follows = vec![0f64; n * n];
            for epoch in 0..EPOCHS {
                let order: Vec<usize> = (0..images).map(|p| batch_index(1, epoch, images, p) as usize).collect();
                for (position, image) in order.iter().enumerate() {
                    at[position * n + image] += 1.0;
                }
                for pair in order.windows(2) {
                    follows[pair[0] * n + pair[1]] += 1.0;
                }
            }
            let chi2 = |counts: &[f64], mean: f64| counts.iter().map(|c| (c - mean).powi(2) / mean).sum::<f64>();
            let positions = chi2(&at, f64::from(EPOCHS) / n as f64);
            let freedom = ((n - 1) * (n - 1)) as f64;
            assert!(positions < freedom + 5.0 * (2.0 * freedom).sqrt(), "{images} images: chi^2 {positions} at {freedom} degrees");
            let off_diagonal: Vec<f64> = (0..n * n).filter(|i| i / n != i % n).map(|i| follows[i]).collect();
            let pairs = chi2(&off_diagonal, f64::from(EPOCHS) / n as f64);
            let freedom = off_diagonal.len() as f64;
            assert!(pairs < freedom + 5.0 * (2.0 * freedom).sqrt(), "{images} images: chi^2 of pairs {pairs} at {freedom} degrees");
        }
    }

    #[test]
    fn segments_hold_what_a_binding_holds() {
        let mib128 = 128 << 20;
        assert_eq!(per_segment(60_000, 1024, mib128).unwrap(), 60_000);
        let cifar = per_segment(50_000, 3072, mib128).unwrap();
        assert!(cifar < 50_000 && cifar * 2 >= 50_000 && cifar.is_multiple_of(4) && (cifar as u64) * 3072 <= mib128, "{cifar}");
        let error = per_segment(1_000_000, 3072, mib128).unwrap_err();
        assert!(matches!(error, Error::Input(_)) && error.to_string().contains("stream"), "{error}");
    }

    #[test]
    fn wrong_operands_are_refused() {
        let mut l = Lowering::new(Caps::minimal());
        assert!(matches!(lower_batch_index(&mut l, 0, 5, 0, 2), Err(Error::Input(_))));
        assert!(matches!(lower_batch_index(&mut l, 5, 0, 0, 2), Err(Error::Input(_))));
        let data = Resident {
            segments: vec![Operand::Scratch(0)],
            images: 10,
            per_segment: 5,
            image: [1, 4, 4],
            storage: Storage::U8,
            scale: 1.0,
            shift: 0.0,
        };
        let shape = Shape::new(&[2, 1, 4, 4]).unwrap();
        let gather = |data: &Resident, shape| {
            lower_gather_batch(&mut Lowering::new(Caps::minimal()), data, Operand::Scratch(1), Operand::Scratch(2), shape)
        };
        assert!(matches!(gather(&data, &shape), Err(Error::Internal(_))), "five images of ten are in no segment");
        let data = Resident { per_segment: 10, ..data };
        gather(&data, &shape).unwrap();
        assert!(matches!(gather(&data, &Shape::new(&[2, 1, 4, 5]).unwrap()), Err(Error::Internal(_))));
    }
}
