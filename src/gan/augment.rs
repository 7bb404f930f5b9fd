//! What augmentation makes of images, to look at before a run.

use super::sampler::Images;
use super::step::AUGMENT_STREAM;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::step::StepRow;
use crate::graph::lower::{Lowering, Operand};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::ops::augment::{AugmentConfig, lower_augment};
use crate::ops::noise::{Draw, Source};
use crate::plan::{Executor, Program, compile};
use bytemuck::Zeroable;
use std::collections::HashMap;

/// Each image followed by `draws` augmentations of it, made by the kernel and the random stream of training: column k is what the images would
/// become as the first of a batch at draw counter k - 1 of a run with this seed.
///
/// # Errors
/// [`Error::Input`] if the settings make no sense or change nothing, or there is no image. [`Error::Environment`] as for a training step.
pub fn preview(gpu: &Gpu, augment: &AugmentConfig, seed: u64, images: &Images, draws: usize) -> Result<Images> {
    let Images { n, c, h, w, ref data } = *images;
    augment.validate("augment")?;
    augment.check_sample(&[c, h, w], "augment")?;
    if !augment.is_on() {
        return Err(Error::input(
            "augment: got no augmentation, expected some to show; give --mirror, or keys of [augment] in a --config file or by --set, as in \
             --set augment.mirror=0.5",
        ));
    }
    let shape = Shape::new(&[n, c, h, w])?;
    let mut program = Program::new("augment");
    let plain = program.tensor_buffer("plain", &shape);
    let augmented = program.tensor_buffer("augmented", &shape);
    let (config, of, source) = (*augment, shape.clone(), Source { seed, stream: AUGMENT_STREAM });
    program.effect("images", move |l: &mut Lowering| {
        let [plain, augmented] = [plain, augmented].map(|place| (Operand::Place(place), &of));
        lower_augment(l, &config, (source, Draw::Step(StepRow::draw(0))), plain, augmented)
    });
    let plan = compile(&mut program, &gpu.caps())?;
    let rows: Vec<StepRow> = (0..draws as u32)
        .map(|counter| {
            let mut row = StepRow::zeroed();
            row.slots[StepRow::draw(0) as usize][2] = counter;
            row
        })
        .collect();
    let table = gpu.uniform("augment.rows", (rows.len().max(1) * StepRow::BYTES) as u64)?;
    gpu.write(&table, 0, bytemuck::cast_slice(&rows))?;
    let executor = Executor::new(gpu, "augment", &plan, &HashMap::new(), Some(&table))?;
    let given = Tensor::new(shape.clone(), data.iter().map(|&v| f64::from(v)).collect());
    executor.write(gpu, plain, &given.pack())?;

    let mut columns = vec![data.clone()];
    for run in 0..draws as u32 {
        executor.submit(gpu, run..run + 1)?;
        let column = Tensor::unpack(&shape, &executor.read(gpu, augmented)?);
        columns.push(column.data.iter().map(|&v| v as f32).collect());
    }
    let size = c * h * w;
    let rows = (0..n).flat_map(|i| columns.iter().flat_map(move |column| &column[i * size..(i + 1) * size])).copied();
    Ok(Images { n: n * columns.len(), c, h, w, data: rows.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing;
    use crate::ops::augment::{Rotate, twin};

    #[test]
    fn rows_begin_with_the_image_and_go_on_with_its_draws() {
        let Some(gpu) = testing::gpu() else { return };
        let (n, c, h, w) = (3, 1, 5, 4);
        let images = Images { n, c, h, w, data: (0..n * c * h * w).map(|i| i as f32 / 30.0 - 1.0).collect() };
        let augment = AugmentConfig { mirror: 0.5, rotate: Some(Rotate { p: 0.5, degrees: 40.0 }), ..AugmentConfig::default() };
        let preview = preview(gpu, &augment, 9, &images, 4).unwrap();
        assert_eq!((preview.n, preview.c, preview.h, preview.w), (15, 1, 5, 4));
        let x = Tensor::new(Shape::new(&[n, c, h, w]).unwrap(), images.data.iter().map(|&v| f64::from(v)).collect());
        let mut changed = 0;
        for row in 0..n {
            let original = images.image(row).data;
            assert_eq!(preview.image(row * 5).data, original);
            for draw in 0..4 {
                let expected = twin::augment(&x, &augment, Source { seed: 9, stream: AUGMENT_STREAM }, draw, 0);
                let got = preview.image(row * 5 + 1 + draw as usize).data;
                changed += usize::from(got != original);
                for (got, expected) in got.iter().zip(&expected.data[row * 20..]) {
                    assert!((f64::from(*got) - expected).abs() < 1e-4, "image {row}, draw {draw}: {got} for {expected}");
                }
            }
        }
        assert!((4..12).contains(&changed), "{changed} of 12 are changed");
    }

    #[test]
    fn what_shows_nothing_is_refused() {
        let Some(gpu) = testing::gpu() else { return };
        let images = Images { n: 1, c: 1, h: 2, w: 2, data: vec![0.0; 4] };
        let refused = |augment: AugmentConfig, images: &Images| preview(gpu, &augment, 0, images, 1).unwrap_err().to_string();
        assert!(refused(AugmentConfig::default(), &images).contains("expected some to show; give --mirror"));
        let mirror = AugmentConfig { mirror: 0.5, ..AugmentConfig::default() };
        assert!(refused(mirror, &Images { h: 1, data: vec![0.0; 2], ..images.clone() }).contains("only images can be augmented"));
        assert!(refused(AugmentConfig { mirror: 5.0, ..mirror }, &images).starts_with("augment.mirror: got 5"));
    }
}
