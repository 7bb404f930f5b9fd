//! Ways between points of the latent space.

/// How to go from one z to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// Along the great circle: White, "Sampling Generative Networks" (2016). Keeps to the lengths that normal noise has.
    Slerp,
    /// Along the straight line, whose middle is shorter than noise ever is in many dimensions.
    Lerp,
}

impl Interpolation {
    /// The point at `t` in [0, 1] from `a` to `b`, which have one length.
    ///
    /// Slerp is `sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b` with `w` the angle between the two. Where that has no one great circle (parallel,
    /// opposite or zero vectors) it is the straight line.
    pub fn between(self, a: &[f32], b: &[f32], t: f64) -> Vec<f32> {
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        let straight = (1.0 - t, t);
        let (from, to) = match self {
            Interpolation::Lerp => straight,
            Interpolation::Slerp => {
                let lengths = (dot(a, a) * dot(b, b)).sqrt();
                let angle = if lengths > 0.0 { (dot(a, b) / lengths).clamp(-1.0, 1.0).acos() } else { 0.0 };
                let sine = angle.sin();
                if sine > 1e-6 { (((1.0 - t) * angle).sin() / sine, (t * angle).sin() / sine) } else { straight }
            }
        };
        a.iter().zip(b).map(|(a, b)| (from * f64::from(*a) + to * f64::from(*b)) as f32).collect()
    }

    /// A closed walk through `points`, back to the first: `frames` points from each to the next, of which the first is the point itself.
    pub fn walk(self, points: &[&[f32]], frames: usize) -> Vec<Vec<f32>> {
        let leg = |i: usize, frame: usize| self.between(points[i], points[(i + 1) % points.len()], frame as f64 / frames as f64);
        (0..points.len()).flat_map(|i| (0..frames).map(move |frame| leg(i, frame))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(have: &[f32], want: &[f64]) {
        assert_eq!(have.len(), want.len());
        for (h, w) in have.iter().zip(want) {
            assert!((f64::from(*h) - w).abs() < 1e-6, "{have:?} is not {want:?}");
        }
    }

    #[test]
    fn slerp_keeps_the_length_and_lerp_does_not() {
        let (a, b) = ([2.0, 0.0, 0.0], [0.0, 2.0, 0.0]);
        near(&Interpolation::Slerp.between(&a, &b, 0.5), &[2f64.sqrt(), 2f64.sqrt(), 0.0]);
        // A third of the right angle: 30 degrees.
        near(&Interpolation::Slerp.between(&a, &b, 1.0 / 3.0), &[3f64.sqrt(), 1.0, 0.0]);
        near(&Interpolation::Lerp.between(&a, &b, 0.5), &[1.0, 1.0, 0.0]);
        near(&Interpolation::Lerp.between(&a, &b, 0.25), &[1.5, 0.5, 0.0]);
    }

    #[test]
    fn ends_are_the_points_and_no_angle_breaks_it() {
        let a = [0.3, -1.7, 0.9];
        for b in [[1.1, 0.2, -0.4], [0.6, -3.4, 1.8], [-0.3, 1.7, -0.9], [0.0; 3]] {
            for method in [Interpolation::Slerp, Interpolation::Lerp] {
                near(&method.between(&a, &b, 0.0), &a.map(f64::from));
                near(&method.between(&a, &b, 1.0), &b.map(f64::from));
                assert!(method.between(&a, &b, 0.5).iter().all(|v| v.is_finite()));
            }
        }
    }

    #[test]
    fn walks_are_closed() {
        let points: [&[f32]; 3] = [&[1.0, 0.0], &[0.0, 1.0], &[-1.0, 0.5]];
        let walk = Interpolation::Lerp.walk(&points, 4);
        assert_eq!(walk.len(), 12);
        for (i, point) in points.iter().enumerate() {
            assert_eq!(walk[4 * i], *point);
        }
        near(&walk[11], &[0.5, 0.125]);
    }
}
