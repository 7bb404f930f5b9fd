//! Device clocks against the host's.
//!
//! wgpu reads the two clocks apart, so that their distance must be inferred. Nothing of a submit can run before the host has called submit, and
//! all of it has run when the host's wait is over. Each timed step thus bounds the distance from both sides, and the steps together bound it
//! more closely than any one. The middle of what is left is taken; half its width is the error. If a drift between the clocks leaves nothing,
//! each step is placed by its own bounds.

/// What is known of one step, in nanoseconds of each clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    /// Host: the submit was called, the wait was over.
    pub host: (f64, f64),
    /// Device: the first dispatch began, the last ended.
    pub device: (f64, f64),
}

/// Where the device clock is put.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Alignment {
    /// For each window, what to add to a device time to get host time.
    pub offsets: Vec<f64>,
    /// How far an offset may be off.
    pub error: f64,
}

pub(super) fn align(windows: &[Window]) -> Alignment {
    let bounds = windows.iter().map(|w| (w.host.0 - w.device.0, w.host.1 - w.device.1));
    let (low, high) = bounds.clone().fold((f64::NEG_INFINITY, f64::INFINITY), |(low, high), (l, h)| (low.max(l), high.min(h)));
    if low <= high {
        return Alignment { offsets: vec![(low + high) / 2.0; windows.len()], error: (high - low) / 2.0 };
    }
    let error = bounds.clone().map(|(low, high)| (high - low).abs() / 2.0).fold(0.0, f64::max);
    Alignment { offsets: bounds.map(|(low, high)| (low + high) / 2.0).collect(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of 1 ms every 2 ms whose submits start late by `late` and whose waits end late by `after`; host = device + 5e6, plus drift.
    fn windows(late: &[f64], after: &[f64], drift: f64) -> Vec<Window> {
        late.iter()
            .zip(after)
            .enumerate()
            .map(|(i, (late, after))| {
                let begin = i as f64 * 2e6;
                let host = |device: f64| device * (1.0 + drift) + 5e6;
                Window { host: (host(begin) - late, host(begin + 1e6) + after), device: (begin, begin + 1e6) }
            })
            .collect()
    }

    #[test]
    fn the_tightest_bounds_of_all_steps_count() {
        let found = align(&windows(&[9e4, 2e4, 8e4], &[7e4, 6e4, 1e4], 0.0));
        assert!((found.error - 1.5e4).abs() < 1e-3, "{found:?}");
        assert!(found.offsets.iter().all(|offset| (offset - 5e6).abs() <= found.error), "{found:?}");
        assert!(found.offsets.iter().all(|offset| *offset == found.offsets[0]));
    }

    #[test]
    fn clocks_that_drift_are_aligned_step_by_step() {
        let windows = windows(&[1e3, 1e3, 1e3], &[1e3, 1e3, 1e3], 0.01);
        let found = align(&windows);
        for (window, offset) in windows.iter().zip(&found.offsets) {
            let middle = (window.device.0 + window.device.1) / 2.0;
            assert!((middle * 1.01 + 5e6 - (middle + offset)).abs() <= found.error, "{found:?}");
        }
        assert!(found.offsets[0] < found.offsets[1] && found.error < 1e4, "{found:?}");
    }

    #[test]
    fn no_steps_are_no_error() {
        assert!(align(&[]).offsets.is_empty());
    }
}
