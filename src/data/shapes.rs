//! `builtin:shapes`: coloured shapes on plain or graded backgrounds, RGB, for trying a network on colour without a download.
//!
//! One anti-aliased shape per image, labelled by its kind. Position, size, rotation, colours and the background's gradient vary; the shape lies
//! inside the frame, and its colour is kept apart from the background's, so that every image can be read.

use super::draw::{self, Draw};
use super::{DataSet, Split};
use crate::error::Result;

/// Raised by every change that alters a byte of the generated images.
pub const GENERATOR_VERSION: u32 = 1;
/// The kinds of shape, in the order of their labels.
pub const CLASSES: [&str; 8] = ["circle", "ring", "square", "triangle", "star", "cross", "heart", "crescent"];

/// `count` images of `side` x `side` RGB pixels. Image i depends on seed, split and i alone; 32 and 64 pixels show the same scenes.
///
/// # Errors
/// [`crate::error::Error::Input`] if `count` or `side` is 0.
pub fn generate(count: usize, side: usize, seed: u64, split: Split) -> Result<DataSet> {
    let (images, labels) = if side == 0 {
        (Vec::new(), Vec::new())
    } else {
        draw::generate(b"gan-shap", (count, side * side * 3, CLASSES.len()), seed, split, |draw, class, image| {
            paint(draw, class, side, image)
        })
    };
    let part = if split == Split::Train { "train" } else { "test" };
    let suffix = if side == 32 { String::new() } else { format!("-{side}") };
    let name = format!("builtin:shapes{suffix}?n={count}&seed={seed} (generator {GENERATOR_VERSION}, {part})");
    DataSet::new(name, (count, side, side, 3), images, Some(labels), CLASSES.map(String::from).to_vec())
}

type Colour = [f32; 3];

fn paint(draw: &mut Draw, class: usize, side: usize, image: &mut [u8]) {
    let size = side as f32;
    let radius = size * draw.uniform(0.25, 0.42);
    // No shape reaches further than 1.11 radii from its centre.
    let margin = 1.11 * radius + 0.02 * size;
    let centre = (draw.uniform(margin, size - margin), draw.uniform(margin, size - margin));
    let (cos, sin) = match CLASSES[class] {
        // A heart on its head is no longer read as one.
        "heart" => {
            let t = draw.uniform(-0.2, 0.2);
            ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t))
        }
        _ => draw.direction(),
    };
    let (ink, grounds) = colours(draw);
    let towards = draw.direction();
    for (index, pixel) in image.chunks_exact_mut(3).enumerate() {
        let (x, y) = ((index % side) as f32 + 0.5, (index / side) as f32 + 0.5);
        let (u, v) = ((x - centre.0) / radius, (y - centre.1) / radius);
        let coverage = (0.5 - radius * distance(class, cos * u + sin * v, cos * v - sin * u)).clamp(0.0, 1.0);
        // 0 to 1 across the frame, along the gradient.
        let ramp = (0.5 + ((x / size - 0.5) * towards.0 + (y / size - 0.5) * towards.1) / 1.42).clamp(0.0, 1.0);
        // Light from above makes the shape a little brighter at its top.
        let light = 1.0 - 0.1 * v.clamp(-1.0, 1.0);
        for channel in 0..3 {
            let ground = grounds.0[channel] + (grounds.1[channel] - grounds.0[channel]) * ramp;
            let value = ground + ((ink[channel] * light).min(1.0) - ground) * coverage;
            pixel[channel] = (255.0 * value.clamp(0.0, 1.0) + 0.5) as u8;
        }
    }
}

/// The shape's colour, and the background's at both ends of its gradient, with enough contrast between them.
fn colours(draw: &mut Draw) -> (Colour, (Colour, Colour)) {
    let hue = draw.unit();
    let ink = hsv(hue, draw.uniform(0.7, 1.0), draw.uniform(0.8, 1.0));
    let mut best = (f32::MIN, (ink, ink));
    // The first background that stands out is taken; of eight that do not, the best.
    for _ in 0..8 {
        let ground_hue = hue + draw.uniform(0.2, 0.8);
        let (saturation, value) = match draw.below(3) {
            0 => (draw.uniform(0.3, 0.8), draw.uniform(0.1, 0.3)),
            1 => (draw.uniform(0.08, 0.35), draw.uniform(0.85, 1.0)),
            _ => (draw.uniform(0.4, 0.75), draw.uniform(0.4, 0.7)),
        };
        let near = hsv(ground_hue, saturation, value);
        let far = if draw.chance(0.4) {
            near
        } else {
            hsv(
                ground_hue + draw.uniform(-0.12, 0.12),
                (saturation + draw.uniform(-0.2, 0.2)).clamp(0.0, 1.0),
                (value + draw.uniform(-0.2, 0.2)).clamp(0.05, 1.0),
            )
        };
        let contrast = (luminance(ink) - luminance(near)).abs().min((luminance(ink) - luminance(far)).abs());
        if contrast > best.0 {
            best = (contrast, (near, far));
        }
        if contrast >= 0.25 {
            break;
        }
    }
    (ink, best.1)
}

/// Rec. 709 weights, on the display values; good enough to compare two colours.
fn luminance(colour: Colour) -> f32 {
    0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]
}

/// Hue in turns (any real number), saturation and value in [0, 1].
fn hsv(hue: f32, saturation: f32, value: f32) -> Colour {
    let hue = hue - hue.floor();
    // Red, green and blue are tents over the colour circle, a third of a turn apart.
    [0.0, 2.0 / 3.0, 1.0 / 3.0].map(|offset: f32| {
        let turned = hue + offset - (hue + offset).floor();
        let tent = (6.0 * (turned - 0.5).abs() - 1.0).clamp(0.0, 1.0);
        value * (1.0 - saturation * (1.0 - tent))
    })
}

/// Signed distance from (x, y) to the outline of a shape of unit size, negative inside.
fn distance(class: usize, x: f32, y: f32) -> f32 {
    let circle = |cx: f32, cy: f32, radius: f32| ((x - cx) * (x - cx) + (y - cy) * (y - cy)).sqrt() - radius;
    let rectangle = |half_width: f32, half_height: f32| {
        let (dx, dy) = (x.abs() - half_width, y.abs() - half_height);
        let (ox, oy) = (dx.max(0.0), dy.max(0.0));
        (ox * ox + oy * oy).sqrt() + dx.max(dy).min(0.0)
    };
    match CLASSES[class] {
        "circle" => circle(0.0, 0.0, 0.92),
        "ring" => circle(0.0, 0.0, 0.72).abs() - 0.22,
        "square" => rectangle(0.76, 0.76),
        "triangle" => polygon(&TRIANGLE, x, y),
        "star" => polygon(&STAR, x, y),
        "cross" => rectangle(0.96, 0.3).min(rectangle(0.3, 0.96)),
        "heart" => {
            // A square on its corner with a half disc on each upper side.
            let half = 0.76;
            let square = (x.abs() + (y - 0.1).abs() - half) * std::f32::consts::FRAC_1_SQRT_2;
            let radius = half * std::f32::consts::FRAC_1_SQRT_2;
            square.min(circle(0.5 * half, 0.1 - 0.5 * half, radius)).min(circle(-0.5 * half, 0.1 - 0.5 * half, radius))
        }
        _ => circle(0.0, 0.0, 0.95).max(-circle(0.42, 0.0, 0.74)),
    }
}

/// Corners at a distance of 1.06 from the centre, an edge at the bottom.
const TRIANGLE: [(f32, f32); 3] = [(0.0, -1.06), (0.917_99, 0.53), (-0.917_99, 0.53)];

/// Five tips at a distance of 1.05, five notches at 0.48: cosines and sines of multiples of 36 degrees.
const STAR: [(f32, f32); 10] = [
    (0.0, -1.05),
    (0.282_14, -0.388_33),
    (0.998_61, -0.324_47),
    (0.456_51, 0.148_33),
    (0.617_17, 0.849_47),
    (0.0, 0.48),
    (-0.617_17, 0.849_47),
    (-0.456_51, 0.148_33),
    (-0.998_61, -0.324_47),
    (-0.282_14, -0.388_33),
];

/// Signed distance to a simple polygon: the nearest edge, negative where the even-odd rule says inside.
fn polygon(corners: &[(f32, f32)], x: f32, y: f32) -> f32 {
    let mut nearest = f32::MAX;
    let mut inside = false;
    for (i, &(ax, ay)) in corners.iter().enumerate() {
        let (bx, by) = corners[(i + 1) % corners.len()];
        let (ex, ey, px, py) = (bx - ax, by - ay, x - ax, y - ay);
        let along = ((px * ex + py * ey) / (ex * ex + ey * ey)).clamp(0.0, 1.0);
        let (ox, oy) = (px - along * ex, py - along * ey);
        nearest = nearest.min(ox * ox + oy * oy);
        if (ay > y) != (by > y) && px < ex * py / ey {
            inside = !inside;
        }
    }
    if inside { -nearest.sqrt() } else { nearest.sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_depend_on_seed_split_and_index_alone() {
        let set = generate(200, 32, 1, Split::Train).unwrap();
        let prefix = generate(77, 32, 1, Split::Train).unwrap();
        assert_eq!(prefix.images[..], set.images[..77 * 32 * 32 * 3]);
        assert_eq!(prefix.labels.unwrap()[..], set.labels.as_ref().unwrap()[..77]);
        for other in [generate(200, 32, 2, Split::Train).unwrap(), generate(200, 32, 1, Split::Test).unwrap()] {
            assert!((0..200).all(|i| other.image(i) != set.image(i)), "two streams share an image");
        }
        assert!(generate(8, 0, 0, Split::Train).unwrap_err().to_string().contains("empty"));
    }

    /// The bytes are promised to be the same on every platform, and to change only together with `GENERATOR_VERSION`.
    #[test]
    fn the_bytes_of_this_generator_version_are_pinned() {
        assert_eq!(GENERATOR_VERSION, 1, "pin the new version's fingerprint below");
        assert_eq!(
            generate(64, 32, 0, Split::Train).unwrap().fingerprint(),
            "ae669f72d1226dc5f0599b6a1f66a5c60ee291f781da5e3b51a77386e176e605"
        );
        assert_eq!(
            generate(16, 64, 0, Split::Train).unwrap().fingerprint(),
            "dbd9604ef80dd3506e950eae83280ce44dc2f436252e94143b8eec5381b95890"
        );
    }

    /// What the random fields promise: along the frame's edge there is background only, and the shape differs from it.
    #[test]
    fn shapes_stay_inside_and_stand_out() {
        let side = 32;
        let set = generate(800, side, 5, Split::Train).unwrap();
        let mut faint = 0;
        for i in 0..set.count {
            let image = set.image(i);
            let pixel = |x: usize, y: usize| &image[3 * (y * side + x)..3 * (y * side + x) + 3];
            // Along an edge a linear gradient has no jumps; a shape that was cut would make one.
            for k in 1..side {
                for (a, b) in [((k - 1, 0), (k, 0)), ((k - 1, 31), (k, 31)), ((0, k - 1), (0, k)), ((31, k - 1), (31, k))] {
                    let jump = pixel(a.0, a.1).iter().zip(pixel(b.0, b.1)).map(|(&p, &q)| p.abs_diff(q)).max().unwrap();
                    assert!(jump <= 8, "image {i} ({}) is cut at {b:?}", CLASSES[set.labels.as_ref().unwrap()[i] as usize]);
                }
            }
            let farthest =
                image.chunks_exact(3).map(|p| p.iter().zip(pixel(0, 0)).map(|(&p, &q)| u32::from(p.abs_diff(q))).sum::<u32>()).max();
            faint += usize::from(farthest.unwrap() < 120);
        }
        assert_eq!(faint, 0, "shapes that do not stand out from their background");
    }

    /// Each outline against the area it must have (unit: radius squared), counted on a fine grid.
    #[test]
    fn outlines_enclose_their_areas() {
        let steps = 1000;
        let area = |class: usize| {
            let at = |k: usize| (k as f32 + 0.5) / steps as f32 * 2.4 - 1.2;
            let inside = (0..steps * steps).filter(|i| distance(class, at(i % steps), at(i / steps)) < 0.0).count();
            inside as f64 * (2.4 / steps as f64).powi(2)
        };
        let pi = std::f64::consts::PI;
        // Circle; ring; square; triangle (half base times height); star (10 triangles with 36 degrees at the centre); cross; heart (square and
        // two half discs). The crescent's lens has no short form: it lies between its disc less the whole bite, and its disc.
        let star = 10.0 * 0.5 * 1.05 * 0.48 * (pi / 5.0).sin();
        let heart = 2.0 * 0.76 * 0.76 + pi * 0.76 * 0.76 / 2.0;
        let exact = [pi * 0.92 * 0.92, pi * (0.94 * 0.94 - 0.25), 1.52 * 1.52, 0.917_99 * 1.59, star, 2.0 * 1.92 * 0.6 - 0.36, heart];
        for (class, expected) in exact.into_iter().enumerate() {
            let got = area(class);
            assert!((got - expected).abs() < 0.01, "{}: {got} is not {expected}", CLASSES[class]);
        }
        let crescent = area(7);
        assert!(crescent > pi * (0.95 * 0.95 - 0.74 * 0.74) && crescent < 0.6 * pi * 0.95 * 0.95, "{crescent}");
        // Nothing reaches further than the margin that `paint` leaves.
        for (class, name) in CLASSES.iter().enumerate() {
            for k in 0..360 {
                let (x, y) = (1.11 * (f64::from(k) * pi / 180.0).cos() as f32, 1.11 * (f64::from(k) * pi / 180.0).sin() as f32);
                assert!(distance(class, x, y) > 0.0, "{name} reaches too far");
            }
        }
    }

    #[test]
    fn colours_of_the_circle() {
        let close = |a: Colour, b: Colour| a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-5);
        assert!(close(hsv(0.0, 1.0, 1.0), [1.0, 0.0, 0.0]));
        assert!(close(hsv(1.0 / 3.0, 1.0, 0.5), [0.0, 0.5, 0.0]));
        assert!(close(hsv(-1.0 / 3.0, 1.0, 1.0), [0.0, 0.0, 1.0]));
        assert!(close(hsv(1.0 / 6.0, 0.5, 1.0), [1.0, 1.0, 0.5]));
        assert!(close(hsv(0.7, 0.0, 0.3), [0.3; 3]));
    }
}
