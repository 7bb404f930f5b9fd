//! Scatter plots: points of the data and generated ones, over axes that stay the same from picture to picture.
//!
//! A plot is a function of its points alone. Discs, circles and lines are anti-aliased by their distance from each pixel's centre; labels are in
//! the font of [`super::caption`].

use image::{Rgb, RgbImage};

use super::caption;

/// Width and height of a plot in pixels.
pub const SIDE: u32 = 512;

/// The area inside the axes, in pixels: left, top, and the length of each side.
const LEFT: f64 = 70.0;
const TOP: f64 = 32.0;
const LENGTH: f64 = 430.0;

/// Share of the range of the data that the axes leave free on each side.
const MARGIN: f64 = 0.15;
/// Ranges of the two axes are made equal, so that circles are round, unless one is that many times the other.
const MOST_UNEQUAL: f64 = 4.0;
/// About so many ticks to an axis.
const TICKS: f64 = 6.0;
/// Size of a pixel of the font, and of one for numbers that would not fit beside the axis otherwise.
const TEXT_SCALE: i64 = 2;
const SMALL_SCALE: i64 = 1;
/// Radius of a point in pixels.
const POINT: f64 = 1.7;
/// The circle of a mode is at least that large, in pixels.
const LEAST_CIRCLE: f64 = 6.0;

type Colour = [f64; 3];

const PAPER: Colour = [255.0, 255.0, 255.0];
const LINES: Colour = [232.0, 232.0, 236.0];
const FRAME: Colour = [140.0, 140.0, 148.0];
const TEXT: Colour = [70.0, 70.0, 78.0];
/// Blue and orange: told apart by people of any colour vision.
const DATA: Colour = [38.0, 103.0, 184.0];
const GENERATED: Colour = [226.0, 94.0, 16.0];
const DATA_OPACITY: f64 = 0.45;
const GENERATED_OPACITY: f64 = 0.7;

/// The ranges that a plot shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axes {
    /// Left and right end.
    pub x: (f64, f64),
    /// Lower and upper end.
    pub y: (f64, f64),
}

impl Axes {
    /// Axes that show all `points` with a margin; points that are not finite take no part.
    pub fn covering(points: &[[f32; 2]]) -> Self {
        let range = |axis: usize| {
            let values = points.iter().filter(|p| p.iter().all(|v| v.is_finite())).map(|p| f64::from(p[axis]));
            let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
            if low > high { (0.0, 0.0) } else { (low, high) }
        };
        let (x, y) = (range(0), range(1));
        let span = |(low, high): (f64, f64)| high - low;
        let most = span(x).max(span(y));
        let wide = |range: (f64, f64)| {
            let middle = (range.0 + range.1) / 2.0;
            let near = span(range) * MOST_UNEQUAL >= most;
            let span = if near { most } else { span(range) };
            // A range of one value gets a width that its f32 can tell apart from nothing.
            let half = if span > 0.0 { span * (0.5 + MARGIN) } else { middle.abs().max(1.0) / 2.0 };
            (middle - half, middle + half)
        };
        Axes { x: wide(x), y: wide(y) }
    }

    /// Where a point is in the picture, in pixels from its upper left corner; `None` if it is outside the axes, or not finite.
    pub fn place(&self, [x, y]: [f32; 2]) -> Option<(f64, f64)> {
        let along = |value: f32, (low, high): (f64, f64)| (f64::from(value) - low) / (high - low);
        let (across, up) = (along(x, self.x), along(y, self.y));
        // Written so that a NaN is outside.
        let inside = (0.0..=1.0).contains(&across) && (0.0..=1.0).contains(&up);
        inside.then_some((LEFT + across * LENGTH, TOP + (1.0 - up) * LENGTH))
    }
}

/// What a plot shows.
#[derive(Debug, Clone, Copy)]
pub struct Plot<'a> {
    /// Points of the data: blue.
    pub data: &'a [[f32; 2]],
    /// Generated points: orange, above the others. `None` for a plot of data alone.
    pub generated: Option<&'a [[f32; 2]]>,
    /// Circles about the modes, above all points: centres and radius, in the units of the data.
    pub circles: Option<(&'a [[f32; 2]], f32)>,
    /// Names of the axes.
    pub names: Option<(&'a str, &'a str)>,
    /// The ranges that it shows.
    pub axes: Axes,
}

impl Plot<'_> {
    /// Draws it, [`SIDE`] pixels square. Points outside the axes are not drawn; the plot says how many generated ones there are.
    pub fn draw(&self) -> RgbImage {
        let mut canvas = Canvas::new();
        self.draw_axes(&mut canvas);
        let mut legend = Legend { x: LEFT as i64, canvas: &mut canvas };
        if !self.data.is_empty() {
            legend.entry(&format!("data {}", self.data.len()), Some(DATA));
        }
        if let Some(generated) = self.generated {
            legend.entry(&format!("generated {}", generated.len()), Some(GENERATED));
            let outside = generated.iter().filter(|&&point| self.axes.place(point).is_none()).count();
            if outside > 0 {
                legend.entry(&format!("{outside} outside"), None);
            }
        }
        for (points, colour, opacity) in
            [(self.data, DATA, DATA_OPACITY), (self.generated.unwrap_or_default(), GENERATED, GENERATED_OPACITY)]
        {
            for (x, y) in points.iter().filter_map(|&point| self.axes.place(point)) {
                canvas.disc(x, y, POINT, colour, opacity);
            }
        }
        if let Some((centres, radius)) = self.circles {
            let pixels = f64::from(radius) / (self.axes.x.1 - self.axes.x.0) * LENGTH;
            for (x, y) in centres.iter().filter_map(|&centre| self.axes.place(centre)) {
                canvas.circle(x, y, pixels.max(LEAST_CIRCLE), TEXT);
            }
        }
        canvas.finish()
    }

    fn draw_axes(&self, canvas: &mut Canvas) {
        let Axes { x, y } = self.axes;
        let ends = (LEFT, LEFT + LENGTH, TOP, TOP + LENGTH);
        let (across, up) = (ticks(x), ticks(y));
        let fits = across.iter().chain(&up).all(|(_, label)| width(label, TEXT_SCALE) <= LEFT as i64 - 10);
        let scale = if fits { TEXT_SCALE } else { SMALL_SCALE };
        for (value, label) in across {
            let at = LEFT + (value - x.0) / (x.1 - x.0) * LENGTH;
            canvas.vertical(at, ends.2, ends.3, LINES);
            canvas.vertical(at, ends.3, ends.3 + 5.0, FRAME);
            canvas.text(&label, (at as i64 - width(&label, scale) / 2, ends.3 as i64 + 9), scale);
        }
        for (value, label) in up {
            let at = TOP + (y.1 - value) / (y.1 - y.0) * LENGTH;
            canvas.horizontal(at, ends.0, ends.1, LINES);
            canvas.horizontal(at, ends.0 - 5.0, ends.0, FRAME);
            let middle = scale * caption::HEIGHT as i64 / 2;
            canvas.text(&label, (ends.0 as i64 - 8 - width(&label, scale), at as i64 - middle), scale);
        }
        for at in [ends.0, ends.1] {
            canvas.vertical(at, ends.2, ends.3, FRAME);
        }
        for at in [ends.2, ends.3] {
            canvas.horizontal(at, ends.0, ends.1, FRAME);
        }
        if let Some((across, up)) = self.names {
            canvas.text(across, (ends.1 as i64 - 6 - width(across, TEXT_SCALE), ends.3 as i64 - 20), TEXT_SCALE);
            canvas.text(up, (ends.0 as i64 + 8, ends.2 as i64 + 8), TEXT_SCALE);
        }
    }
}

/// Values inside a range at steps of 1, 2 or 5 times a power of ten, and their labels.
fn ticks((low, high): (f64, f64)) -> Vec<(f64, String)> {
    let rough = (high - low) / TICKS;
    let mut exponent = rough.log10().floor() as i32;
    let digits = [1.0, 2.0, 5.0].into_iter().find(|digits| digits * 10f64.powi(exponent) >= rough);
    let digits = digits.unwrap_or_else(|| {
        exponent += 1;
        1.0
    });
    let step = digits * 10f64.powi(exponent);
    // A tick at the very end of the axis may be a rounding beyond it.
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    // Very large and very small numbers as whole multiples of a power of ten.
    let largest = low.abs().max(high.abs());
    let power = if (1e-3..1e5).contains(&largest) { 0 } else { exponent };
    let decimals = (power - exponent).max(0) as usize;
    let label = |k: i64| match k as f64 * step {
        0.0 => "0".to_string(),
        value if power == 0 => format!("{value:.decimals$}"),
        value => format!("{:.0}e{power}", value / 10f64.powi(power)),
    };
    (first..=last).map(|k| (k as f64 * step, label(k))).collect()
}

/// Width of a text in pixels.
fn width(text: &str, scale: i64) -> i64 {
    text.chars().count() as i64 * caption::ADVANCE as i64 * scale - scale
}

/// The line above the axes: what is drawn in which colour.
struct Legend<'a> {
    x: i64,
    canvas: &'a mut Canvas,
}

impl Legend<'_> {
    fn entry(&mut self, text: &str, colour: Option<Colour>) {
        if let Some(colour) = colour {
            self.canvas.disc(self.x as f64 + 5.0, 16.0, 5.0, colour, 1.0);
            self.x += 15;
        }
        self.canvas.text(text, (self.x, 9), TEXT_SCALE);
        self.x += width(text, TEXT_SCALE) + 16;
    }
}

/// A picture in the making, in the linear arithmetic of its bytes.
struct Canvas {
    pixels: Vec<Colour>,
}

impl Canvas {
    fn new() -> Self {
        Canvas { pixels: vec![PAPER; (SIDE * SIDE) as usize] }
    }

    fn finish(self) -> RgbImage {
        RgbImage::from_fn(SIDE, SIDE, |x, y| Rgb(self.pixels[(y * SIDE + x) as usize].map(|value| value.round() as u8)))
    }

    /// Lays a colour over a pixel, if there is one.
    fn blend(&mut self, x: i64, y: i64, colour: Colour, opacity: f64) {
        let side = i64::from(SIDE);
        if (0..side).contains(&x) && (0..side).contains(&y) && opacity > 0.0 {
            for (value, new) in self.pixels[(y * side + x) as usize].iter_mut().zip(colour) {
                *value += (new - *value) * opacity.min(1.0);
            }
        }
    }

    /// Blends a shape about (x, y): `coverage` of the distance of a pixel's centre, up to `reach` pixels.
    fn round(&mut self, (x, y): (f64, f64), reach: f64, colour: Colour, coverage: impl Fn(f64) -> f64) {
        let pixels = |centre: f64| (centre - reach).floor() as i64..=(centre + reach).ceil() as i64;
        for row in pixels(y) {
            for column in pixels(x) {
                let distance = (column as f64 + 0.5 - x).hypot(row as f64 + 0.5 - y);
                self.blend(column, row, colour, coverage(distance));
            }
        }
    }

    fn disc(&mut self, x: f64, y: f64, radius: f64, colour: Colour, opacity: f64) {
        self.round((x, y), radius + 1.0, colour, |distance| opacity * (radius + 0.5 - distance).clamp(0.0, 1.0));
    }

    fn circle(&mut self, x: f64, y: f64, radius: f64, colour: Colour) {
        self.round((x, y), radius + 2.0, colour, |distance| (1.0 - (distance - radius).abs()).clamp(0.0, 1.0));
    }

    /// A line one pixel wide, on whole pixels, so that it is sharp.
    fn vertical(&mut self, x: f64, from: f64, to: f64, colour: Colour) {
        (from as i64..=to as i64).for_each(|y| self.blend(x as i64, y, colour, 1.0));
    }

    fn horizontal(&mut self, y: f64, from: f64, to: f64, colour: Colour) {
        (from as i64..=to as i64).for_each(|x| self.blend(x, y as i64, colour, 1.0));
    }

    fn text(&mut self, text: &str, (left, top): (i64, i64), scale: i64) {
        for (x, y) in caption::dots(text) {
            let (x, y) = (left + x as i64 * scale, top + y as i64 * scale);
            for pixel in 0..scale * scale {
                self.blend(x + pixel % scale, y + pixel / scale, TEXT, 1.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AXES: Axes = Axes { x: (-2.0, 2.0), y: (-2.0, 2.0) };

    fn plot<'a>(data: &'a [[f32; 2]], generated: Option<&'a [[f32; 2]]>) -> Plot<'a> {
        Plot { data, generated, circles: None, names: None, axes: AXES }
    }

    fn pixel(picture: &RgbImage, (x, y): (f64, f64)) -> [u8; 3] {
        picture.get_pixel(x as u32, y as u32).0
    }

    /// Pixels in which two pictures differ, inside the axes.
    fn changed(a: &RgbImage, b: &RgbImage) -> Vec<(f64, f64)> {
        let inside = |x: u32, y: u32| {
            let along = |value: u32, start: f64| (start + 1.0..start + LENGTH).contains(&f64::from(value));
            along(x, LEFT) && along(y, TOP)
        };
        let differs = a.enumerate_pixels().filter(|(x, y, pixel)| inside(*x, *y) && b.get_pixel(*x, *y) != *pixel);
        differs.map(|(x, y, _)| (f64::from(x) + 0.5, f64::from(y) + 0.5)).collect()
    }

    #[test]
    fn points_are_drawn_where_they_are_and_nowhere_else() {
        let blank = plot(&[], Some(&[])).draw();
        for point in [[0.3, 0.45f32], [-1.7, 1.2], [1.99, -1.1], [0.77, -0.6]] {
            let (x, y) = AXES.place(point).unwrap();
            // The axes' own scale: 430 pixels for 4 units, y up.
            assert!((x - (70.0 + 107.5 * (f64::from(point[0]) + 2.0))).abs() < 1e-4);
            assert!((y - (32.0 + 107.5 * (2.0 - f64::from(point[1])))).abs() < 1e-4);
            for (picture, colour) in [(plot(&[point], Some(&[])).draw(), DATA), (plot(&[], Some(&[point])).draw(), GENERATED)] {
                let hits = changed(&picture, &blank);
                assert!(hits.len() >= 6 && hits.iter().all(|&(px, py)| (px - x).hypot(py - y) <= POINT + 0.5), "{point:?}: {hits:?}");
                // Its middle is nearer to its own colour than to any other.
                let at = pixel(&picture, (x, y));
                let distance = |to: Colour| at.iter().zip(to).map(|(&v, c)| (f64::from(v) - c).powi(2)).sum::<f64>();
                let other = if colour == DATA { GENERATED } else { DATA };
                assert!(distance(colour) < distance(other), "{point:?}: {at:?}");
                // The edge is soft: several shades.
                let shades: std::collections::BTreeSet<_> = hits.iter().map(|&place| pixel(&picture, place)).collect();
                assert!(shades.len() >= 3, "{shades:?}");
            }
        }
    }

    #[test]
    fn generated_points_lie_above_the_data() {
        let point = [[0.25, 0.5f32]];
        let place = AXES.place(point[0]).unwrap();
        let [red, _, blue] = pixel(&plot(&point, Some(&point)).draw(), place);
        assert!(red > blue, "{red} {blue}");
        let [red, _, blue] = pixel(&plot(&point, None).draw(), place);
        assert!(red < blue, "{red} {blue}");
    }

    #[test]
    fn points_outside_are_counted_and_not_drawn() {
        let blank = plot(&[], Some(&[])).draw();
        let outside = [[2.1, 0.0], [0.0, -9.0], [f32::NAN, 0.0], [0.0, f32::INFINITY]];
        let picture = plot(&[], Some(&outside)).draw();
        assert!(changed(&picture, &blank).is_empty());
        assert!(outside.iter().all(|&point| AXES.place(point).is_none()));
        // The legend is longer: it has "4 outside" now.
        let text_end = |picture: &RgbImage| {
            let dark = picture.enumerate_pixels().filter(|(_, y, p)| f64::from(*y) < TOP - 2.0 && p.0 == [70, 70, 78]);
            dark.map(|(x, _, _)| x).max().unwrap()
        };
        assert!(text_end(&picture) > text_end(&blank) + 60);
    }

    #[test]
    fn circles_are_rings_of_their_radius() {
        let blank = plot(&[], None).draw();
        let centres = [[0.3, 0.4], [-1.0, -1.3]];
        let picture = Plot { circles: Some((&centres, 0.2)), ..plot(&[], None) }.draw();
        let hits = changed(&picture, &blank);
        let near = |centre: [f32; 2]| {
            let (x, y) = AXES.place(centre).unwrap();
            hits.iter().filter(|&&(px, py)| ((px - x).hypot(py - y) - 21.5).abs() <= 1.0).count()
        };
        let counts = centres.map(near);
        assert_eq!(counts.iter().sum::<usize>(), hits.len(), "nothing is drawn inside or outside the rings");
        // About the circumference, 135 pixels, times the line's width of two.
        assert!(counts.iter().all(|n| (150..350).contains(n)), "{counts:?}");
    }

    #[test]
    fn axes_cover_the_points_with_a_margin() {
        let axes = Axes::covering(&[[-1.0, 0.0], [3.0, 2.0], [f32::NAN, 99.0], [0.0, f32::INFINITY]]);
        assert_eq!(axes.x, (1.0 - 4.0 * 0.65, 1.0 + 4.0 * 0.65));
        // The same scale for both.
        assert!((axes.y.1 - axes.y.0 - (axes.x.1 - axes.x.0)).abs() < 1e-12 && (axes.y.0 + axes.y.1 - 2.0).abs() < 1e-12);
        // Unless one is far longer.
        let axes = Axes::covering(&[[0.0, 0.0], [100.0, 1.0]]);
        assert!((axes.y.0 + 0.15).abs() < 1e-12 && (axes.y.1 - 1.15).abs() < 1e-12);
        for points in [&[][..], &[[7.0, 7.0]], &[[0.0, 1e30]], &[[f32::MAX, f32::MIN], [f32::MIN, f32::MAX]]] {
            let axes = Axes::covering(points);
            for (low, high) in [axes.x, axes.y] {
                assert!(low < high && (high - low).is_finite(), "{points:?}: {axes:?}");
            }
            let picture = Plot { axes, ..plot(points, None) }.draw();
            assert_eq!(picture.dimensions(), (SIDE, SIDE));
        }
    }

    #[test]
    fn numbers_stay_in_the_picture() {
        for axes in [Axes { x: (-0.07, 0.07), y: (-0.07, 0.07) }, Axes { x: (-1234.9, -1234.2), y: (-9e-4, 1e7) }] {
            let picture = Plot { axes, ..plot(&[], None) }.draw();
            let dark = |x: u32| (0..SIDE).any(|y| picture.get_pixel(x, y).0 == TEXT.map(|value| value as u8));
            assert!(!dark(0) && !dark(1) && (2..LEFT as u32).any(dark), "{axes:?}");
        }
    }

    #[test]
    fn ticks_are_round_numbers() {
        let labels = |low, high| ticks((low, high)).into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ");
        assert_eq!(labels(-1.3, 1.3), "-1 -0.5 0 0.5 1".replace("-1 ", "-1.0 ").replace(" 1", " 1.0"));
        assert_eq!(labels(-5.2, 5.2), "-4 -2 0 2 4");
        assert_eq!(labels(0.0, 0.0006), "0 1e-4 2e-4 3e-4 4e-4 5e-4 6e-4");
        assert_eq!(labels(-3e7, 3e7), "-3e7 -2e7 -1e7 0 1e7 2e7 3e7");
        assert_eq!(labels(99.9, 100.5), "99.9 100.0 100.1 100.2 100.3 100.4 100.5");
        for (value, _) in ticks((-1.3, 1.3)) {
            assert!((-1.3..=1.3).contains(&value));
        }
    }
}
