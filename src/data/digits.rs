//! `builtin:digits`: handwritten digits drawn by a pen model, in the framing of MNIST.
//!
//! A digit is one of several *allographs* (a 4 may be open or closed, a 2 may have a loop, a 7 a bar ...), given as the knots of its strokes.
//! 1. Each knot is jittered, and a smooth random warp bends all of them together, as a hand does.
//! 2. A natural cubic spline through the knots is the pen's path; knots marked as corners split it.
//! 3. Slant, rotation and aspect are drawn, then the digit is scaled so that its ink just fits a 20 x 20 box.
//! 4. The path is inked with a round pen whose width varies from digit to digit and a little along the stroke, with an edge about a pixel soft.
//! 5. The box is moved so that the centre of mass of the ink is the centre of the 28 x 28 image, by whole pixels.
//!
//! Steps 3 to 5 are how MNIST itself was framed (LeCun, Bottou, Bengio, Haffner: *Gradient-based learning applied to document recognition*,
//! 1998, section III.A). Frequencies of allographs, slant, aspect and pen width are set so that the images look and measure like MNIST: mean
//! intensity 0.13, about 19 % of the pixels inked, strokes of 2 to 4 pixels.

use super::draw::{self, Draw};
use super::{DataSet, Split};
use crate::error::Result;

/// Height and width in pixels.
pub const SIDE: usize = 28;
/// Raised by every change that alters a byte of the generated images.
pub const GENERATOR_VERSION: u32 = 1;

/// The digit's ink fits a box of this many pixels, as in MNIST.
const BOX: usize = 20;
/// Width in pixels of the soft edge. A box filter over a straight edge gives 1 (upright) to 1.41 (diagonal).
const EDGE: f32 = 1.15;
/// Mean width of the pen in pixels, per digit. MNIST scales every digit to the same box, so digits that were written larger come out thinner.
const PEN_WIDTH: [f32; 10] = [2.75, 2.75, 2.5, 2.65, 2.4, 2.45, 2.65, 2.75, 2.5, 2.4];
/// Straight pieces per span of the spline.
const PIECES: usize = 10;
/// Pieces from one random offset of the tremor to the next.
const TREMOR: usize = 7;

/// `count` digits with labels 0 to 9. Image i depends on seed, split and i alone.
///
/// # Errors
/// [`crate::error::Error::Input`] if `count` is 0.
pub fn generate(count: usize, seed: u64, split: Split) -> Result<DataSet> {
    let (images, labels) = draw::generate(b"gan-digi", (count, SIDE * SIDE, 10), seed, split, paint);
    let part = if split == Split::Train { "train" } else { "test" };
    let name = format!("builtin:digits?n={count}&seed={seed} (generator {GENERATOR_VERSION}, {part})");
    DataSet::new(name, (count, SIDE, SIDE, 1), images, Some(labels), (0..10).map(|digit| digit.to_string()).collect())
}

/// A knot of a stroke. x runs right in units of the digit's width, y down in units of its height.
#[derive(Debug, Clone, Copy)]
struct Knot {
    x: f32,
    y: f32,
    /// The pen changes direction here.
    corner: bool,
}

/// The strokes of one digit.
#[derive(Debug, Default)]
struct Pen {
    strokes: Vec<Vec<Knot>>,
}

impl Pen {
    /// Starts a stroke.
    fn down(&mut self, x: f32, y: f32) -> &mut Self {
        self.strokes.push(vec![Knot { x, y, corner: false }]);
        self
    }

    /// Goes on smoothly to a knot.
    fn to(&mut self, x: f32, y: f32) -> &mut Self {
        self.knot(x, y, false)
    }

    /// Goes on to a corner.
    fn corner(&mut self, x: f32, y: f32) -> &mut Self {
        self.knot(x, y, true)
    }

    fn knot(&mut self, x: f32, y: f32, corner: bool) -> &mut Self {
        // A stroke is started by `down`; without one there is nothing to go on from.
        if let Some(stroke) = self.strokes.last_mut() {
            stroke.push(Knot { x, y, corner });
        }
        self
    }
}

/// An inked point: position in pixels and the pen's radius there.
#[derive(Debug, Clone, Copy)]
struct Dot {
    x: f32,
    y: f32,
    radius: f32,
}

fn paint(draw: &mut Draw, digit: usize, image: &mut [u8]) {
    let mut pen = Pen::default();
    let aspect = match digit {
        0 => zero(&mut pen, draw),
        1 => one(&mut pen, draw),
        2 => two(&mut pen, draw),
        3 => three(&mut pen, draw),
        4 => four(&mut pen, draw),
        5 => five(&mut pen, draw),
        6 => six(&mut pen, draw),
        7 => seven(&mut pen, draw),
        8 => eight(&mut pen, draw),
        _ => nine(&mut pen, draw),
    };
    let slant = if digit == 1 { draw.normal(0.26, 0.22) } else { draw.normal(0.16, 0.19) };
    let mut paths = bend(&pen, draw, aspect, slant);
    tremble(&mut paths, draw);
    let ink = frame(&paths, draw, PEN_WIDTH[digit]);
    stamp(&ink, image);
}

// The allographs. Each draws its strokes in a box of about [0, 1] x [0, 1] and returns the width of that box over its height.

fn zero(pen: &mut Pen, draw: &mut Draw) -> f32 {
    // 0.71 is a circle's diagonal, more is squarer.
    let k = 0.5 * draw.uniform(0.69, 0.79);
    let start = draw.uniform(0.42, 0.75);
    let (end_x, end_y) = (draw.uniform(0.3, 0.62), draw.uniform(-0.02, 0.09));
    let mirrored = draw.chance(0.15);
    let side = |x: f32| if mirrored { 1.0 - x } else { x };
    pen.down(side(start), draw.uniform(0.0, 0.07))
        .to(side(0.5 - k), 0.5 - k)
        .to(side(0.0), 0.5)
        .to(side(0.5 - k), 0.5 + k)
        .to(side(0.5), 1.0)
        .to(side(0.5 + k), 0.5 + k)
        .to(side(1.0), 0.48)
        .to(side(0.5 + k), 0.5 - k)
        .to(side(end_x), end_y);
    draw.normal(0.74, 0.13).clamp(0.4, 1.05)
}

fn one(pen: &mut Pen, draw: &mut Draw) -> f32 {
    let bow = draw.normal(0.0, 0.02);
    let style = draw.unit();
    if style < 0.13 {
        let flag = draw.uniform(0.1, 0.2);
        pen.down(0.5 - flag, draw.uniform(0.14, 0.26)).corner(0.5, 0.0).to(0.5 + bow, 0.5).to(0.5, 1.0);
    } else {
        pen.down(0.5, 0.0).to(0.5 + bow, 0.5).to(0.5, 1.0);
    }
    if style < 0.06 {
        let base = draw.uniform(0.17, 0.28);
        pen.down(0.5 - base, 1.0).to(0.5, 1.0 + draw.normal(0.0, 0.01)).to(0.5 + base, 0.99);
    }
    1.0
}

fn two(pen: &mut Pen, draw: &mut Draw) -> f32 {
    let shoulder = draw.uniform(0.18, 0.28);
    pen.down(draw.uniform(0.0, 0.14), draw.uniform(0.14, 0.3)).to(draw.uniform(0.14, 0.24), 0.06).to(0.5, 0.0).to(0.87, shoulder);
    let style = draw.unit();
    if style < 0.42 {
        // The pen swings round in a loop at the lower left.
        let size = draw.uniform(0.8, 1.25);
        pen.to(0.66, 0.56)
            .to(0.34, 0.85)
            .to(0.14 - 0.04 * size, 0.97)
            .to(0.08 - 0.08 * size, 0.97 - 0.09 * size)
            .to(0.14, 0.97 - 0.17 * size)
            .to(0.42, 0.89)
            .to(0.68, 0.98)
            .to(1.05, draw.uniform(0.86, 0.98));
    } else if style < 0.8 {
        pen.to(0.7, 0.52).to(0.36, 0.8).corner(0.0, 0.98).to(0.45, draw.normal(0.95, 0.02)).to(1.0, draw.normal(0.96, 0.03));
    } else {
        pen.to(0.7, 0.52).to(0.3, 0.82).to(0.06, 0.96).to(0.18, 0.99).to(0.55, 0.95).to(1.0, draw.normal(0.95, 0.03));
    }
    draw.normal(0.76, 0.11).clamp(0.5, 1.0)
}

fn three(pen: &mut Pen, draw: &mut Draw) -> f32 {
    let waist = draw.uniform(0.41, 0.5);
    let style = draw.unit();
    if style < 0.08 {
        pen.down(0.06, 0.04).to(0.5, 0.01).corner(0.88, 0.0).to(0.62, 0.2);
        pen.corner(0.4, waist - 0.04).to(0.82, waist + 0.1);
    } else {
        pen.down(draw.uniform(0.0, 0.14), draw.uniform(0.07, 0.18)).to(0.44, 0.0).to(0.86, 0.2).to(0.7, waist - 0.08);
        let depth = draw.uniform(0.26, 0.42);
        if style < 0.72 {
            pen.corner(depth, waist);
        } else {
            pen.to(depth + 0.02, waist - 0.01).to(depth + 0.03, waist + 0.04);
        }
        pen.to(0.78, waist + 0.09);
    }
    pen.to(1.0, 0.74).to(0.8, 0.94).to(0.46, 1.0).to(draw.uniform(-0.02, 0.1), draw.uniform(0.82, 0.93));
    draw.normal(0.64, 0.09).clamp(0.42, 0.9)
}

fn four(pen: &mut Pen, draw: &mut Draw) -> f32 {
    let bar = draw.uniform(0.5, 0.63);
    let style = draw.unit();
    if style < 0.7 {
        pen.down(draw.uniform(0.12, 0.3), draw.uniform(0.0, 0.08)).to(0.1, 0.3);
        if draw.chance(0.55) {
            pen.corner(0.03, bar).to(0.5, bar - 0.01);
        } else {
            pen.to(0.06, bar - 0.06).to(0.22, bar + 0.01).to(0.55, bar - 0.02);
        }
        pen.to(draw.uniform(0.86, 1.1), bar - draw.uniform(0.0, 0.08));
        pen.down(draw.uniform(0.72, 0.86), draw.uniform(-0.02, 0.16)).to(0.75, 0.52).to(0.7, draw.uniform(0.95, 1.02));
    } else if style < 0.92 {
        let top = draw.uniform(0.62, 0.78);
        pen.down(top, 0.0).to(0.36, 0.33).corner(0.0, bar + 0.05).to(0.5, bar + 0.04).to(1.0, bar + 0.02);
        pen.down(top, 0.01).to(0.7, 0.5).to(0.68, 1.0);
    } else {
        pen.down(0.12, 0.02).to(0.04, 0.32).to(0.26, 0.53).to(0.66, 0.42).corner(0.84, 0.04).to(0.8, 0.5).to(0.74, 1.0);
    }
    draw.normal(0.7, 0.1).clamp(0.48, 0.95)
}

fn five(pen: &mut Pen, draw: &mut Draw) -> f32 {
    let neck = draw.uniform(0.36, 0.46);
    let style = draw.unit();
    let top = draw.normal(0.0, 0.03);
    if style < 0.6 {
        pen.down(0.24, 0.05).to(0.19, 0.22).corner(0.13, neck);
    } else if style < 0.88 {
        pen.down(draw.uniform(0.85, 1.05), top).to(0.6, 0.02).corner(0.26, 0.04).to(0.2, 0.22).corner(0.14, neck);
    } else {
        pen.down(draw.uniform(0.85, 1.0), top).to(0.5, 0.02).to(0.2, 0.16).to(0.22, neck - 0.04);
    }
    pen.to(0.45, neck - 0.03).to(0.84, neck + 0.16).to(0.8, 0.84).to(0.42, 1.0).to(draw.uniform(-0.05, 0.12), draw.uniform(0.84, 0.95));
    if style < 0.6 {
        let gap = draw.normal(0.02, 0.03);
        pen.down(0.22 + gap, 0.05 + 0.5 * gap).to(0.6, 0.03).to(draw.uniform(0.82, 1.12), top);
    }
    draw.normal(0.72, 0.11).clamp(0.48, 1.0)
}

fn six(pen: &mut Pen, draw: &mut Draw) -> f32 {
    let top = draw.uniform(0.46, 0.6);
    let start = draw.uniform(0.42, 0.92);
    pen.down(start, 0.0)
        .to(0.5 * start + 0.04, 0.24)
        .to(0.06, 0.6)
        .to(0.12, 0.88)
        .to(0.48, 1.0)
        .to(0.88, 0.86)
        .to(0.86, 0.5 * top + 0.42)
        .to(0.56, top)
        .to(draw.uniform(0.1, 0.26), top + draw.uniform(0.12, 0.26));
    draw.normal(0.6, 0.09).clamp(0.42, 0.85)
}

fn seven(pen: &mut Pen, draw: &mut Draw) -> f32 {
    let left = draw.normal(0.05, 0.03);
    if draw.chance(0.14) {
        pen.down(0.03, left + draw.uniform(0.07, 0.13)).corner(0.0, left);
    } else {
        pen.down(0.0, left);
    }
    pen.to(0.45, 0.03 + draw.normal(0.0, 0.02));
    if draw.chance(0.7) {
        pen.corner(0.94, 0.02);
    } else {
        pen.to(0.84, 0.03).to(0.9, 0.13);
    }
    let foot = draw.uniform(0.28, 0.52);
    let middle = 0.5 * (0.92 + foot) + draw.uniform(-0.14, 0.03);
    pen.to(middle, 0.48).to(foot, 1.0);
    if draw.chance(0.12) {
        let y = draw.uniform(0.45, 0.56);
        pen.down(middle - 0.3, y + 0.02).to(middle + 0.28, y - draw.uniform(0.0, 0.04));
    }
    draw.normal(0.68, 0.1).clamp(0.45, 0.95)
}

fn eight(pen: &mut Pen, draw: &mut Draw) -> f32 {
    let waist = draw.uniform(0.39, 0.53);
    let upper = draw.uniform(-0.03, 0.14);
    let style = draw.unit();
    if style < 0.85 {
        // An S, then back up through its middle. The end meets the start, stops short of it, or (a third) flies out past it.
        let lower = draw.uniform(-0.04, 0.1);
        pen.down(draw.uniform(0.72, 0.94), draw.uniform(0.05, 0.2))
            .to(0.5, 0.0)
            .to(0.1 + upper, 0.5 * waist - 0.02)
            .to(0.48, waist)
            .to(0.94 - lower, 0.5 * waist + 0.51)
            .to(0.48, 1.0)
            .to(0.04 + lower, 0.5 * waist + 0.52)
            .to(0.48, waist + 0.02);
        if style < 0.3 {
            pen.to(draw.uniform(0.84, 1.1), draw.uniform(0.0, 0.12));
        } else {
            pen.to(0.88 - upper, 0.5 * waist - 0.01).to(draw.uniform(0.64, 0.86), draw.uniform(0.0, 0.12));
        }
    } else {
        pen.down(0.55, 0.02)
            .to(0.14 + upper, 0.5 * waist)
            .to(0.5, waist)
            .to(0.86 - upper, 0.5 * waist)
            .to(draw.uniform(0.42, 0.55), draw.uniform(0.0, 0.04));
        pen.down(0.5, waist + 0.01)
            .to(0.06, 0.5 * waist + 0.51)
            .to(0.5, 1.0)
            .to(0.94, 0.5 * waist + 0.51)
            .to(draw.uniform(0.46, 0.58), waist + draw.uniform(0.0, 0.03));
    }
    draw.normal(0.58, 0.11).clamp(0.36, 0.9)
}

fn nine(pen: &mut Pen, draw: &mut Draw) -> f32 {
    let bottom = draw.uniform(0.42, 0.54);
    let style = draw.unit();
    pen.down(draw.uniform(0.74, 0.92), draw.uniform(0.06, 0.15))
        .to(0.48, 0.0)
        .to(0.05, 0.5 * bottom)
        .to(0.36, bottom)
        .to(0.78, 0.5 * bottom + 0.05);
    if style < 0.55 {
        pen.corner(draw.uniform(0.86, 0.96), draw.uniform(0.0, 0.12)).to(0.87, 0.5).to(draw.uniform(0.66, 0.88), 1.0);
    } else if style < 0.8 {
        pen.corner(0.94, 0.08).to(0.92, 0.5).to(0.76, 0.86).to(0.45, 1.0).to(draw.uniform(0.08, 0.25), draw.uniform(0.86, 0.95));
    } else {
        pen.to(0.88, 0.16).to(0.9, 0.28).to(0.84, 0.6).to(draw.uniform(0.58, 0.8), 1.0);
    }
    draw.normal(0.6, 0.09).clamp(0.42, 0.85)
}

/// Jitters and warps the knots, joins them by splines, and slants and turns the result: one polyline per stroke, in units of the height.
fn bend(pen: &Pen, draw: &mut Draw, aspect: f32, slant: f32) -> Vec<Vec<(f32, f32)>> {
    // A random quadratic map bends the plane smoothly; the linear part is left to aspect, slant and rotation.
    let [xx, xy, yy]: [f32; 3] = std::array::from_fn(|_| draw.normal(0.0, 0.10));
    let [ux, uy, vv]: [f32; 3] = std::array::from_fn(|_| draw.normal(0.0, 0.08));
    // Rotation by twice the angle whose tangent is t, without trigonometry.
    let t = draw.normal(0.0, 0.03);
    let (cos, sin) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
    let mut place = |knot: &Knot| {
        let x = knot.x + draw.normal(0.0, 0.027) - 0.5;
        let y = knot.y + draw.normal(0.0, 0.019) - 0.5;
        let warped_x = x + xx * x * x + xy * x * y + yy * y * y;
        let warped_y = y + ux * x * x + uy * x * y + vv * y * y;
        let slanted = warped_x * aspect - slant * warped_y;
        (cos * slanted - sin * warped_y, sin * slanted + cos * warped_y)
    };
    pen.strokes
        .iter()
        .map(|stroke| {
            let points: Vec<(f32, f32)> = stroke.iter().map(&mut place).collect();
            let mut path = vec![points[0]];
            let mut first = 0;
            for last in 1..points.len() {
                if stroke[last].corner || last + 1 == points.len() {
                    spline(&points[first..=last], &mut path);
                    first = last;
                }
            }
            path
        })
        .collect()
}

/// A hand trembles: shifts every point by noise that goes linearly from one random offset to the next, a few points apart.
fn tremble(paths: &mut [Vec<(f32, f32)>], draw: &mut Draw) {
    let strength = draw.uniform(0.0, 0.012);
    for path in paths {
        let mut offset = || (draw.normal(0.0, strength), draw.normal(0.0, strength));
        let (mut before, mut after) = (offset(), offset());
        for (index, point) in path.iter_mut().enumerate() {
            let phase = (index % TREMOR) as f32 / TREMOR as f32;
            if index > 0 && index % TREMOR == 0 {
                before = after;
                after = offset();
            }
            point.0 += before.0 + (after.0 - before.0) * phase;
            point.1 += before.1 + (after.1 - before.1) * phase;
        }
    }
}

/// Appends the natural cubic spline through `points`, parametrised by chord length, as straight pieces; the first point is already there.
fn spline(points: &[(f32, f32)], path: &mut Vec<(f32, f32)>) {
    let n = points.len();
    if n == 2 {
        path.push(points[1]);
        return;
    }
    let h: Vec<f32> = points
        .windows(2)
        .map(|pair| {
            let (dx, dy) = (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1);
            (dx * dx + dy * dy).sqrt().max(1e-3)
        })
        .collect();
    // Second derivatives m by Thomas' algorithm on the usual tridiagonal system; m is zero at both ends.
    let mut upper = vec![0.0; n];
    let mut m = vec![(0.0, 0.0); n];
    for i in 1..n - 1 {
        let slope = |a: f32, b: f32, c: f32| 6.0 * ((c - b) / h[i] - (b - a) / h[i - 1]);
        let pivot = 2.0 * (h[i - 1] + h[i]) - h[i - 1] * upper[i - 1];
        upper[i] = h[i] / pivot;
        m[i].0 = (slope(points[i - 1].0, points[i].0, points[i + 1].0) - h[i - 1] * m[i - 1].0) / pivot;
        m[i].1 = (slope(points[i - 1].1, points[i].1, points[i + 1].1) - h[i - 1] * m[i - 1].1) / pivot;
    }
    for i in (1..n - 1).rev() {
        m[i].0 -= upper[i] * m[i + 1].0;
        m[i].1 -= upper[i] * m[i + 1].1;
    }
    for i in 0..n - 1 {
        for piece in 1..=PIECES {
            let b = piece as f32 / PIECES as f32;
            let a = 1.0 - b;
            let (wa, wb) = ((a * a * a - a) * h[i] * h[i] / 6.0, (b * b * b - b) * h[i] * h[i] / 6.0);
            path.push((
                a * points[i].0 + b * points[i + 1].0 + wa * m[i].0 + wb * m[i + 1].0,
                a * points[i].1 + b * points[i + 1].1 + wa * m[i].1 + wb * m[i + 1].1,
            ));
        }
    }
}

/// Scales the paths into the box and gives each point the pen's radius, in pixels.
fn frame(paths: &[Vec<(f32, f32)>], draw: &mut Draw, pen_width: f32) -> Vec<Vec<Dot>> {
    let mut low = (f32::MAX, f32::MAX);
    let mut high = (f32::MIN, f32::MIN);
    for &(x, y) in paths.iter().flatten() {
        low = (low.0.min(x), low.1.min(y));
        high = (high.0.max(x), high.1.max(y));
    }
    let thickness = draw.normal(pen_width, 0.2 * pen_width).clamp(1.65, 4.2);
    let extent = (high.0 - low.0).max(high.1 - low.1).max(1e-3);
    let scale = (BOX as f32 - thickness) / extent;
    let middle = (0.5 * (low.0 + high.0), 0.5 * (low.1 + high.1));
    let centre = 0.5 * SIDE as f32;
    paths
        .iter()
        .map(|path| {
            // Pressure changes slowly along a stroke: linear between values at its start, middle and end.
            let pressure = [draw.normal(1.0, 0.08), draw.normal(1.02, 0.06), draw.normal(0.92, 0.1)];
            let last = (path.len() - 1).max(1) as f32;
            path.iter()
                .enumerate()
                .map(|(i, &(x, y))| {
                    let along = 2.0 * i as f32 / last;
                    let factor = if along < 1.0 {
                        pressure[0] + (pressure[1] - pressure[0]) * along
                    } else {
                        pressure[1] + (pressure[2] - pressure[1]) * (along - 1.0)
                    };
                    Dot {
                        x: (x - middle.0) * scale + centre,
                        y: (y - middle.1) * scale + centre,
                        radius: 0.5 * thickness * factor.clamp(0.7, 1.25),
                    }
                })
                .collect()
        })
        .collect()
}

/// Inks the strokes and moves the result by whole pixels, so that its centre of mass is the image's centre.
fn stamp(strokes: &[Vec<Dot>], image: &mut [u8]) {
    let mut coverage = [0.0f32; SIDE * SIDE];
    for pair in strokes.iter().flat_map(|stroke| stroke.windows(2)) {
        ink_piece(pair[0], pair[1], &mut coverage);
    }
    let (mut sum, mut sum_x, mut sum_y) = (0.0f32, 0.0f32, 0.0f32);
    for (index, &value) in coverage.iter().enumerate() {
        sum += value;
        sum_x += value * (index % SIDE) as f32;
        sum_y += value * (index / SIDE) as f32;
    }
    let centre = 0.5 * (SIDE - 1) as f32;
    // Rounds half up; the ink covers pixels, so the sum is not zero.
    let shift = |moment: f32| (centre - moment / sum + 0.5).floor() as isize;
    let (dx, dy) = (shift(sum_x), shift(sum_y));
    for (index, pixel) in image.iter_mut().enumerate() {
        let (x, y) = ((index % SIDE) as isize - dx, (index / SIDE) as isize - dy);
        let inside = (0..SIDE as isize).contains(&x) && (0..SIDE as isize).contains(&y);
        let value = if inside { coverage[y as usize * SIDE + x as usize] } else { 0.0 };
        *pixel = (255.0 * value + 0.5) as u8;
    }
}

/// Inks one straight piece: a pixel's coverage falls linearly with its distance from the pen's edge.
fn ink_piece(a: Dot, b: Dot, coverage: &mut [f32; SIDE * SIDE]) {
    let reach = a.radius.max(b.radius) + 0.5 * EDGE;
    // The pixel at index i has its centre at i + 0.5.
    let range = |p: f32, q: f32| {
        let first = (p.min(q) - reach - 0.5).ceil().max(0.0) as usize;
        let last = (p.max(q) + reach - 0.5).floor().min((SIDE - 1) as f32) as usize;
        first..last + 1
    };
    let (dx, dy) = (b.x - a.x, b.y - a.y);
    let square = (dx * dx + dy * dy).max(1e-12);
    for y in range(a.y, b.y) {
        for x in range(a.x, b.x) {
            let (px, py) = (x as f32 + 0.5 - a.x, y as f32 + 0.5 - a.y);
            let along = ((px * dx + py * dy) / square).clamp(0.0, 1.0);
            let (ox, oy) = (px - along * dx, py - along * dy);
            let distance = (ox * ox + oy * oy).sqrt();
            let radius = a.radius + along * (b.radius - a.radius);
            let value = ((radius - distance) / EDGE + 0.5).clamp(0.0, 1.0);
            let cell = &mut coverage[y * SIDE + x];
            *cell = cell.max(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn images_depend_on_seed_split_and_index_alone() {
        let set = generate(300, 1, Split::Train).unwrap();
        assert_eq!(generate(300, 1, Split::Train).unwrap(), set);
        let prefix = generate(137, 1, Split::Train).unwrap();
        assert_eq!(prefix.images[..], set.images[..137 * SIDE * SIDE]);
        assert_eq!(prefix.labels.unwrap()[..], set.labels.as_ref().unwrap()[..137]);
        for other in [generate(300, 2, Split::Train).unwrap(), generate(300, 1, Split::Test).unwrap()] {
            assert!((0..300).all(|i| other.image(i) != set.image(i)), "two streams share an image");
        }
        let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(one_thread.install(|| generate(300, 1, Split::Train)).unwrap(), set);
    }

    /// The bytes are promised to be the same on every platform, and to change only together with `GENERATOR_VERSION`.
    #[test]
    fn the_bytes_of_this_generator_version_are_pinned() {
        assert_eq!(GENERATOR_VERSION, 1, "pin the new version's fingerprint below");
        assert_eq!(
            generate(100, 0, Split::Train).unwrap().fingerprint(),
            "a5b297a8390175c717022701037500fd6536c16ae2014aefc315499049b5030c"
        );
    }

    #[test]
    fn digits_are_framed_like_mnist() {
        let set = generate(2000, 3, Split::Train).unwrap();
        for i in 0..set.count {
            let image = set.image(i);
            let (mut sum, mut sum_x, mut sum_y) = (0.0, 0.0, 0.0);
            let (mut low, mut high) = ((SIDE, SIDE), (0, 0));
            for (at, &value) in image.iter().enumerate() {
                let (x, y) = (at % SIDE, at / SIDE);
                sum += f64::from(value);
                sum_x += f64::from(value) * x as f64;
                sum_y += f64::from(value) * y as f64;
                if value > 0 {
                    low = (low.0.min(x), low.1.min(y));
                    high = (high.0.max(x), high.1.max(y));
                }
            }
            // Whole-pixel shifts leave the centre of mass within half a pixel, up to rounding to bytes.
            for centre in [sum_x / sum, sum_y / sum] {
                assert!((centre - 13.5).abs() < 0.52, "image {i}: centre of mass at {centre}");
            }
            let longest = (high.0 - low.0 + 1).max(high.1 - low.1 + 1);
            assert!((18..=22).contains(&longest), "image {i}: the longer side is {longest} pixels");
            assert_eq!(image.iter().max(), Some(&255), "image {i} has no full ink");
        }
    }

    /// The published statistics of MNIST's training images: mean 0.1307, 19.1 % of the pixels not zero.
    #[test]
    fn intensity_and_ink_measure_like_mnist() {
        let set = generate(5000, 0, Split::Train).unwrap();
        let pixels = set.images.len() as f64;
        let mean = set.images.iter().map(|&v| f64::from(v)).sum::<f64>() / (255.0 * pixels);
        let ink = set.images.iter().filter(|&&v| v > 0).count() as f64 / pixels;
        assert!((mean - 0.1307).abs() < 0.005, "mean intensity {mean}");
        assert!((ink - 0.191).abs() < 0.01, "ink fraction {ink}");
    }

    /// Nearest neighbour among 4,000 train digits reads the test split: the classes are distinct, and both splits draw the same classes.
    #[test]
    fn a_nearest_neighbour_reads_them() {
        let (train, test) = (generate(4000, 0, Split::Train).unwrap(), generate(1000, 0, Split::Test).unwrap());
        let (train_labels, test_labels) = (train.labels.as_ref().unwrap(), test.labels.as_ref().unwrap());
        let right = (0..test.count)
            .into_par_iter()
            .filter(|&i| {
                let squared = |j: usize| {
                    let pairs = test.image(i).iter().zip(train.image(j));
                    pairs.map(|(&a, &b)| (i32::from(a) - i32::from(b)).pow(2)).sum::<i32>()
                };
                let nearest = (0..train.count).min_by_key(|&j| squared(j)).unwrap();
                train_labels[nearest] == test_labels[i]
            })
            .count();
        assert!(right >= 970, "{right} of 1000 read");
    }

    #[test]
    fn a_spline_passes_through_its_knots() {
        let knots = [(0.0, 0.0), (1.0, 0.5), (1.5, 2.0), (0.5, 2.5)];
        let mut path = vec![knots[0]];
        spline(&knots, &mut path);
        assert_eq!(path.len(), 1 + 3 * PIECES);
        for (i, knot) in knots.iter().enumerate() {
            let at = path[i * PIECES];
            assert!((at.0 - knot.0).abs() < 1e-5 && (at.1 - knot.1).abs() < 1e-5, "{at:?} is not {knot:?}");
        }
        // Points on a line stay on it.
        let mut line = vec![(0.0, 0.0)];
        spline(&[(0.0, 0.0), (1.0, 2.0), (4.0, 8.0)], &mut line);
        assert!(line.iter().all(|&(x, y)| (y - 2.0 * x).abs() < 1e-5));
    }
}
