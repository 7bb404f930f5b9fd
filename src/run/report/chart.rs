//! Line charts as SVG, drawn by hand: colours come from the page's style sheet, so that they follow its light and dark schemes.

use std::fmt::Write as _;

use super::escape;

/// Size of a chart in its own units; the page scales it.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 250.0;
/// Space for the labels of the axes.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 38.0;

/// Most points of a drawn line, so that a long run's page stays small.
const MOST_POINTS: usize = 600;

/// How values become heights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From the least value to the greatest.
    Linear,
    /// From zero to the greatest value.
    FromZero,
    /// Powers of ten where the values span more than one and a half of them, else as [`Scale::Linear`].
    Magnitude,
}

/// A line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// Thousands of images seen, and the value; what is not finite is a gap.
    pub points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// How to read it.
    pub note: &'static str,
    /// Its lines, of which at most six have colours of their own.
    pub series: Vec<Series>,
    /// How values become heights.
    pub scale: Scale,
}

impl Chart {
    /// The chart as a `figure`; empty if there is not one finite value.
    pub fn html(&self) -> String {
        let finite = || self.series.iter().flat_map(|series| &series.points).filter(|(x, y)| x.is_finite() && y.is_finite());
        let Some((x, values)) = span(finite().map(|p| p.0)).zip(span(finite().map(|p| p.1))) else { return String::new() };
        let axis = Axis::new(self.scale, values, finite().all(|p| p.1 > 0.0));
        // Ticks end at the last point: a run of one tick begins at zero all the same.
        let x = (x.0.min(0.0), if x.1 > x.0.min(0.0) { x.1 } else { 1.0 });
        let across = |value: f64| LEFT + (value - x.0) / (x.1 - x.0) * (WIDTH - LEFT - RIGHT);
        let down = |value: f64| HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM);

        let mut svg = String::new();
        for tick in &axis.ticks {
            let y = down(*tick);
            // Writing to a String cannot fail.
            let _ = write!(
                svg,
                "<line class=\"rule\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 7.0,
                y + 4.0,
                number(*tick)
            );
        }
        for tick in round_ticks(x.0, x.1, 6) {
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                across(tick),
                HEIGHT - BOTTOM + 17.0,
                number(tick)
            );
        }
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" class=\"unit\">thousands of images seen</text>",
            WIDTH - RIGHT,
            HEIGHT - 4.0
        );
        let mut legend = String::new();
        for (i, series) in self.series.iter().enumerate() {
            let (colour, name) = (i % 6, escape(&series.name));
            let last = series.points.iter().rev().find(|p| p.1.is_finite()).map_or("–".to_string(), |p| number(p.1));
            let _ = write!(legend, "<li class=\"c{colour}\"><i></i>{name} <b>{last}</b></li>");
            let _ = write!(svg, "<g class=\"c{colour}\"><title>{name}</title>{}</g>", line(&series.points, &across, &down));
        }
        format!(
            "<figure class=\"card\"><figcaption><h3>{}</h3><p>{}</p></figcaption><ul class=\"legend\">{legend}</ul>\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">{svg}</svg></figure>\n",
            escape(&self.title),
            escape(self.note),
            escape(&self.title)
        )
    }
}

/// The vertical axis.
struct Axis {
    from: f64,
    to: f64,
    logarithmic: bool,
    ticks: Vec<f64>,
}

impl Axis {
    fn new(scale: Scale, (least, greatest): (f64, f64), positive: bool) -> Self {
        if scale == Scale::Magnitude && positive && greatest / least > 30.0 {
            let (from, to) = (least.log10().floor(), greatest.log10().ceil());
            let every = ((to - from) / 6.0).ceil().max(1.0);
            let ticks = (0..).map(|i| from + f64::from(i) * every).take_while(|power| *power <= to).map(|power| 10f64.powf(power));
            return Axis { from, to, logarithmic: true, ticks: ticks.collect() };
        }
        let least = if scale == Scale::FromZero { least.min(0.0) } else { least };
        // A constant has room above and below.
        let room = if greatest > least { 0.0 } else { least.abs().max(1.0) * 0.1 };
        let (from, to) = (least - if scale == Scale::FromZero { 0.0 } else { room }, greatest + room);
        let ticks = round_ticks(from, to, 5);
        let step = if ticks.len() > 1 { ticks[1] - ticks[0] } else { to - from };
        // Out to round numbers, so that lines do not touch the frame.
        let (from, to) = ((from / step).floor() * step, (to / step).ceil() * step);
        Axis { from, to, logarithmic: false, ticks: round_ticks(from, to, 5) }
    }

    /// Where a value stands, from 0 at the bottom to 1 at the top.
    fn share(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.log10() } else { value };
        (value - self.from) / (self.to - self.from)
    }
}

/// The least and the greatest of some values.
fn span(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |span, value| {
        let (least, greatest) = span.unwrap_or((value, value));
        Some((value.min(least), value.max(greatest)))
    })
}

/// Multiples of 1, 2 or 5 times a power of ten between two numbers, about `wanted` of them.
fn round_ticks(from: f64, to: f64, wanted: u32) -> Vec<f64> {
    let rough = (to - from) / f64::from(wanted);
    if !(rough.is_finite() && rough > 0.0) {
        return vec![from];
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough * 0.999).unwrap_or(10.0 * power);
    // A little slack, because a multiple may come out an ulp beyond the end.
    let (first, last) = ((from / step - 1e-6).ceil(), (to / step + 1e-6).floor());
    // At most twice as many as wanted.
    (0..=(last - first) as i64).map(|i| (first + i as f64) * step + 0.0).collect()
}

/// A line through the points, broken where there is no value; a point without neighbours is a dot.
fn line(points: &[(f64, f64)], across: &dyn Fn(f64) -> f64, down: &dyn Fn(f64) -> f64) -> String {
    let mut drawn = String::new();
    for run in thinned(points).split(|(x, y)| !x.is_finite() || !y.is_finite()) {
        match run {
            [] => {}
            [(x, y)] => {
                let _ = write!(drawn, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>", across(*x), down(*y));
            }
            _ => {
                let place = |(x, y): &(f64, f64)| format!("{:.1},{:.1}", across(*x), down(*y));
                let places: Vec<String> = run.iter().map(place).collect();
                let _ = write!(drawn, "<polyline points=\"{}\"/>", places.join(" "));
            }
        }
    }
    drawn
}

/// The points if there are few, else the least and the greatest of each of many equal parts: no peak is lost.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let size = points.len().div_ceil(MOST_POINTS / 2);
    let extremes = |part: &[(f64, f64)]| {
        let key = |i: &usize| if part[*i].1.is_finite() { part[*i].1 } else { f64::NAN };
        let least = (0..part.len()).min_by(|a, b| key(a).total_cmp(&key(b))).unwrap_or(0);
        let greatest = (0..part.len()).max_by(|a, b| key(a).total_cmp(&key(b))).unwrap_or(0);
        let (first, second) = (least.min(greatest), least.max(greatest));
        if first == second { vec![part[first]] } else { vec![part[first], part[second]] }
    };
    points.chunks(size).flat_map(extremes).collect()
}

/// A number in few characters: three digits that count.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".to_string();
    }
    if !(1e-3..1e6).contains(&size) {
        let text = format!("{value:.2e}");
        return match text.split_once('e') {
            Some((mantissa, power)) if mantissa.contains('.') => {
                format!("{}e{power}", mantissa.trim_end_matches('0').trim_end_matches('.'))
            }
            _ => text,
        };
    }
    let digits = (2 - size.log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: &[(f64, f64)], scale: Scale) -> String {
        let series = vec![Series { name: "a <b>".into(), points: points.to_vec() }];
        Chart { title: "T & t".into(), note: "n", series, scale }.html()
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (1.0, "1"),
            (100.0, "100"),
            (1234.5, "1234"),
            (-0.04321, "-0.0432"),
            (0.00012, "1.2e-4"),
            (1e7, "1e7"),
            (0.1 + 0.2, "0.3"),
            (1.386_294, "1.39"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(round_ticks(0.0, 1.0, 5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(round_ticks(-3.0, 38.4, 5), [0.0, 10.0, 20.0, 30.0]);
        assert_eq!(round_ticks(2.0, 2.0, 5), [2.0]);
        for (from, to) in [(0.0, 1e-9), (-7.0, 1e12), (0.99, 1.01)] {
            let ticks = round_ticks(from, to, 5);
            assert!((3..=11).contains(&ticks.len()) && ticks[0] >= from - 1e-12 && ticks[ticks.len() - 1] <= to * 1.000001, "{ticks:?}");
        }
    }

    #[test]
    fn points_land_where_they_belong() {
        // From the lower left corner of the plot to the upper right one.
        let drawn = chart(&[(0.0, 0.0), (5.0, 0.5), (10.0, 1.0)], Scale::FromZero);
        let middle = (LEFT + (WIDTH - RIGHT)) / 2.0;
        assert!(drawn.contains(&format!("points=\"{LEFT:.1},212.0 {middle:.1},111.0 {:.1},10.0\"", WIDTH - RIGHT)), "{drawn}");
        assert!(drawn.contains("a &lt;b&gt; <b>1</b>") && drawn.contains("<h3>T &amp; t</h3>") && !drawn.contains("a <b>"), "{drawn}");
        // Powers of ten are evenly spaced.
        let drawn = chart(&[(0.0, 0.01), (5.0, 0.1), (10.0, 1.0)], Scale::Magnitude);
        assert!(drawn.contains(&format!("points=\"{LEFT:.1},212.0 {middle:.1},111.0 {:.1},10.0\"", WIDTH - RIGHT)), "{drawn}");
    }

    #[test]
    fn gaps_dots_and_nothing() {
        let drawn = chart(&[(1.0, 1.0), (2.0, f64::NAN), (3.0, 2.0), (4.0, 3.0)], Scale::Linear);
        assert_eq!((drawn.matches("<circle").count(), drawn.matches("<polyline").count()), (1, 1), "{drawn}");
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
        assert_eq!(chart(&[(1.0, f64::INFINITY)], Scale::Linear), "");
        assert_eq!(chart(&[], Scale::Linear), "");
        for scale in [Scale::Linear, Scale::FromZero, Scale::Magnitude] {
            for points in [&[(0.0, 0.0)][..], &[(0.0, 5.0), (1.0, 5.0)], &[(2.0, -1e-30), (3.0, 1e30)], &[(2.0, 1e-300), (3.0, 1e300)]] {
                let drawn = chart(points, scale);
                assert!(!drawn.is_empty() && !drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
            }
        }
    }

    #[test]
    fn long_lines_are_thinned_but_keep_their_peaks() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), f64::from(i % 7))).collect();
        (points[31_234].1, points[77_777].1) = (99.0, -99.0);
        let thin = thinned(&points);
        assert!(thin.len() <= MOST_POINTS && thin.contains(&(31_234.0, 99.0)) && thin.contains(&(77_777.0, -99.0)), "{}", thin.len());
        assert!(thin.is_sorted_by(|a, b| a.0 < b.0));
    }
}
