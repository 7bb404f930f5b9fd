//! Batches from a data set that is resident on the device, or streamed to it: which images, and their normalised pixels.

use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::gpu::step::StepRow;
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::ops::case::Case;
use crate::ops::case_builder::{CaseBuilder, normals, widen};
use crate::ops::noise::{Distribution, Source, noise_twin, seed_key, threefry};
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

impl Storage {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Storage::U8 => 1,
            Storage::F32 => 4,
        }
    }
}

/// A data set as the device sees it: (images, H, W, C) without padding, in segments below the adapter's binding limit.
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
    /// Whether the one segment is the ring of a streamed data set: in place of the whole set it holds the batches that are drawn next, each in the
    /// order of [`batch_index`], and a step's begins at the image that slot [`StepRow::RING`] names. `images` still counts the set.
    pub streamed: bool,
}

/// Random z of a step.
#[derive(Debug, Clone)]
pub struct Latent {
    /// Where it goes.
    pub output: Operand,
    /// Its shape, (N, features).
    pub shape: Shape,
    /// Where it comes from; it equals a normal draw of [`crate::ops::noise::lower_noise`].
    pub source: Source,
}

/// Parameters of `draw_batch`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct DrawBatchParams {
    z_workgroups: u32,
    z_items: u32,
    z_features: u32,
    z_groups: u32,
    z_key: [u32; 2],
    slot: u32,
    rows: u32,
    pieces: u32,
    items: u32,
    channels: u32,
    groups: u32,
    pixels: u32,
    data_channels: u32,
    data_pixels: u32,
    images: u32,
    per_segment: u32,
    half_bits: u32,
    seed: [u32; 2],
    scale: f32,
    shift: f32,
    ring_slot: u32,
    reserved: u32,
}

/// vec4s of an image that a workgroup of `draw_batch` reads.
const PIECE: usize = 1024;

/// `draw_batch`.
pub static DRAW_BATCH: Kernel = Kernel {
    name: "draw_batch",
    variant: "",
    parts: &[part!("threefry"), part!("normal"), part!("batch_order"), part!("draw_batch")],
    bindings: &[Bind::Params, Bind::Step, Bind::In, Bind::In, Bind::In, Bind::In, Bind::Out, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// Kernels of this file.
pub static KERNELS: &[&Kernel] = &[&DRAW_BATCH];

/// Half the bits of the smallest even-bit domain that holds `images` numbers; at least 1.
pub(super) fn half_bits(images: u32) -> u32 {
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
             that the adapter binds; use smaller images, or stream the data set from host memory (--data-on host)"
        )));
    }
    Ok(most)
}

/// Draws z, and gathers and normalises a batch at the epoch and position of the step row's slot `slot` ([`StepRow::draw`]): row r of `output`, of
/// shape (rows, C, H, W) or (rows, C * H * W), is the image that [`batch_index`] names; of a streamed data set, the one that lies there in the ring.
///
/// # Errors
/// [`Error::Input`] if there are no images, or more than the 32-bit positions can count. [`Error::Internal`] if the output's shape is not that
/// of images of the data set, or the segments do not add up.
pub fn lower_draw_batch(l: &mut Lowering, z: &Latent, data: &Resident, seed: u64, slot: u32, output: (Operand, &Shape)) -> Result<()> {
    let (output, shape) = output;
    let [rows, channels, height, width] = shape.nchw();
    if data.images == 0 || rows.checked_add(data.images).is_none_or(|n| n > u32::MAX as usize) {
        return Err(Error::input(format!(
            "a batch of {rows} from a data set of {} images: both must be at least 1, and together below 2^32",
            data.images
        )));
    }
    let is_flat = height * width == 1 && channels == data.image.iter().product::<usize>();
    if [channels, height, width] != data.image && !is_flat {
        return Err(Error::internal(format!("draw_batch: output {shape} for images of shape {:?}", data.image)));
    }
    let segments = data.segments.len();
    let whole = if data.streamed { data.per_segment } else { data.images };
    if segments == 0 || segments > MAX_SEGMENTS || whole.div_ceil(data.per_segment.max(1)) != segments {
        return Err(Error::internal(format!(
            "draw_batch: {segments} segments of {} images for {whole} images; at most {MAX_SEGMENTS} segments are supported",
            data.per_segment
        )));
    }
    let z_items = z.shape.physical_len() / 4;
    let items = shape.physical_len() / 4 / rows;
    let (z_workgroups, pieces) = (z_items.div_ceil(64), items.div_ceil(PIECE));
    let params = DrawBatchParams {
        z_workgroups: z_workgroups as u32,
        z_items: z_items as u32,
        z_features: z.shape.channels() as u32,
        z_groups: (z.shape.padded() / 4) as u32,
        z_key: z.source.key(),
        slot,
        rows: rows as u32,
        pieces: pieces as u32,
        items: items as u32,
        channels: channels as u32,
        groups: (shape.padded() / 4) as u32,
        pixels: (height * width) as u32,
        data_channels: data.image[0] as u32,
        data_pixels: (data.image[1] * data.image[2]) as u32,
        images: data.images as u32,
        per_segment: data.per_segment as u32,
        half_bits: half_bits(data.images as u32),
        seed: seed_key(seed),
        scale: data.scale as f32,
        shift: data.shift as f32,
        ring_slot: StepRow::RING,
        reserved: 0,
    };
    let is_float = data.storage == Storage::F32;
    let segment = |i: usize| *data.segments.get(i).unwrap_or(&data.segments[0]);
    let switch = |on: bool| f64::from(u8::from(on));
    l.push(Dispatch {
        kernel: &DRAW_BATCH,
        overrides: vec![
            ("GREY", switch(channels == 1)),
            ("IS_FLOAT", switch(is_float)),
            ("SINGLE", switch(segments == 1)),
            ("STREAMED", switch(data.streamed)),
        ],
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![segment(0), segment(1), segment(2), segment(3), z.output, output],
        workgroups: grid(z_workgroups + rows * pieces, 1),
        cost: Cost {
            flops: (40 * z.shape.len() + 2 * shape.len()) as u64,
            bytes: (16 * (z_items + rows * items) + if is_float { 4 } else { 1 } * shape.len()) as u64,
        },
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
        cases.push(draw_case(caps, [1, 1, 1], [images, 1, rows, start], Storage::U8, false, false));
    }
    // Images (C, H, W) whose bytes do and do not fill whole words, in one to four segments; one has more than a piece.
    let gathers = [
        ([1, 4, 4], 9, 1, 5),
        ([3, 5, 7], 13, 2, 3),
        ([4, 3, 2], 16, 4, 2),
        ([5, 3, 3], 12, 3, 4),
        ([1, 40, 33], 5, 1, 3),
        ([2, 1, 1], 1000, 1, 64),
        ([65, 1, 1], 20, 3, 7),
    ];
    for (image, images, segments, rows) in gathers {
        for storage in [Storage::U8, Storage::F32] {
            for flat in [false, true] {
                cases.push(draw_case(caps, image, [images, segments, rows, images - 1], storage, flat, false));
                cases.push(draw_case(caps, image, [rows + 8, 1, rows, images - 1], storage, flat, true));
            }
        }
    }
    cases
}

/// `counts` are images, segments, rows of the batch, and the position of the first; of a streamed set, its ring takes the place of the images.
fn draw_case(caps: &Caps, image: [usize; 3], counts: [usize; 4], storage: Storage, flat: bool, streamed: bool) -> Case {
    let [images, segments, rows, start] = counts;
    let len = image.iter().product::<usize>();
    let per_segment = images.div_ceil(segments).next_multiple_of(if segments > 1 { 4 } else { 1 });
    let values: Vec<f32> = match storage {
        // Every byte value occurs, 0 and 255 among the first.
        Storage::U8 => (0..images * len).map(|i| ((i * 255 + i / 256) % 256) as f32).collect(),
        Storage::F32 => normals(77, images * len),
    };
    let (scale, shift) = if storage == Storage::U8 { (1.0 / 127.5, -1.0) } else { (0.5, 2.0) };
    let (seed, epoch, draw) = (0xdead_beef_0123_4567, 11, 99);
    // Where the step's batch begins in the ring, and the rows of the micro-batch before.
    let (begin, before) = (3, 2);
    let drawn = |r| if streamed { begin + before + r } else { batch_index(seed, epoch, images as u32, start as u32 + r) };
    let index: Vec<u32> = (0..rows as u32).map(drawn).collect();
    let dims: &[usize] = if flat { &[rows, len] } else { &[rows, image[0], image[1], image[2]] };
    let shape = Shape::new(dims).expect(VALID);
    let expected = Tensor::new(shape.clone(), twin::gather_batch(&widen(&values), image, &index, scale, shift));
    let (source, z_shape) = (Source { seed, stream: 3 }, Shape::new(&[rows, 1 + images % 70]).expect(VALID));
    let skipped = before as usize * z_shape.channels();
    let z = noise_twin(source, Distribution::Normal, draw, skipped + z_shape.len());
    let z = Tensor::new(z_shape.clone(), z[skipped..].to_vec());

    let mut b = CaseBuilder::new(caps);
    let slot = StepRow::draw(1);
    b.step.slots[slot as usize] = [epoch, start as u32, draw, before];
    b.step.slots[StepRow::RING as usize][0] = begin;
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
    let data = Resident { segments, images, per_segment, image, storage, scale, shift, streamed };
    let latent = Latent { output: b.output(z.pack_f64()), shape: z_shape, source };
    let output = b.output(expected.pack_f64());
    lower_draw_batch(&mut b.lowering, &latent, &data, seed, slot, (output, &shape)).expect(VALID);
    let place = if streamed { "in a ring".to_string() } else { format!("in {} segments", data.segments.len()) };
    b.finish(format!("draw_batch {shape} from position {start} of {images} {storage:?} images {place}"))
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
        let data = Resident {
            segments: vec![Operand::Scratch(0)],
            images: 10,
            per_segment: 5,
            image: [1, 4, 4],
            storage: Storage::U8,
            scale: 1.0,
            shift: 0.0,
            streamed: false,
        };
        let shape = Shape::new(&[2, 1, 4, 4]).unwrap();
        let z = Latent { output: Operand::Scratch(1), shape: Shape::new(&[2, 3]).unwrap(), source: Source { seed: 0, stream: 1 } };
        let gather =
            |data: &Resident, shape| lower_draw_batch(&mut Lowering::new(Caps::minimal()), &z, data, 0, 2, (Operand::Scratch(2), shape));
        assert!(matches!(gather(&Resident { images: 0, ..data.clone() }, &shape), Err(Error::Input(_))));
        assert!(matches!(gather(&data, &shape), Err(Error::Internal(_))), "five images of ten are in no segment");
        let data = Resident { per_segment: 10, ..data };
        gather(&data, &shape).unwrap();
        assert!(matches!(gather(&data, &Shape::new(&[2, 1, 4, 5]).unwrap()), Err(Error::Internal(_))));
    }
}
