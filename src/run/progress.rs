//! What a run shows of itself: a bar with the time left on a terminal, and a line a tick everywhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::log::on_terminal;
use super::train::TickStats;

/// A progress bar on a terminal, nothing elsewhere.
#[derive(Debug, Default)]
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// Shows the bar if standard error is a terminal.
    pub fn start(&mut self, step: u64, last_step: u64) {
        self.start_counting("step", step, last_step);
    }

    /// [`Progress::start`] of something else than steps.
    pub fn start_counting(&mut self, what: &str, from: u64, to: u64) {
        if on_terminal() {
            let bar = ProgressBar::new(to).with_position(from);
            let template = format!("{{bar:32}} {{percent:>3}}%  {what} {{pos}}/{{len}}  {{elapsed}} gone, {{eta}} left  {{msg}}");
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style);
            }
            // What was done before this process must not count as its speed.
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_millis(500));
            self.0 = Some(bar);
        }
    }

    /// Moves the bar.
    pub fn at(&self, step: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(step);
        }
    }

    /// Shows a word beside the bar.
    pub fn say(&self, what: &'static str) {
        if let Some(bar) = &self.0 {
            bar.set_message(what);
        }
    }

    /// Runs `print` with the bar out of the way.
    pub fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Removes the bar.
    pub fn end(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

/// A line of `stats.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tick {
    /// Step at which the tick ended.
    pub step: u64,
    /// Images seen by then.
    pub images_seen: u64,
    /// Number of the tick, from 1.
    pub tick: u64,
    /// Whether the run ended before the tick did.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Thousands of images seen.
    pub kimg: f64,
    /// Seconds of training since the run began, pauses between stop and resume excluded.
    pub seconds: f64,
    /// Seconds of training per thousand images in this tick, snapshots excluded.
    pub seconds_per_kimg: f64,
    /// Seconds of this tick that steps waited for batches of a streamed data set; absent if it is on the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_wait_seconds: Option<f64>,
    /// Bytes of device memory.
    pub memory_bytes: u64,
    /// Means over the tick.
    #[serde(flatten)]
    pub stats: TickStats,
}

impl Tick {
    /// The line that is printed.
    pub fn line(&self) -> String {
        let s = &self.stats;
        let wait = self.data_wait_seconds.map(|seconds| format!("  data wait {seconds:.2}s")).unwrap_or_default();
        format!(
            "tick {:<4} kimg {:<8} time {:<9} s/kimg {:<7} mem {:<9} loss D {:.3} G {:.3}  \
             D(x) {:.3}  D(G(z)) {:.3} / {:.3}  grad D {:.2e} G {:.2e}{wait}",
            if self.partial { format!("{}*", self.tick) } else { self.tick.to_string() },
            format_kimg(self.images_seen),
            format_seconds(self.seconds),
            format!("{:.3}", self.seconds_per_kimg),
            format_bytes(self.memory_bytes),
            s.loss_d,
            s.loss_g,
            s.d_x,
            s.d_g_z1,
            s.d_g_z2,
            s.grad_norm_d,
            s.grad_norm_g,
        )
    }
}

/// Images in thousands, without trailing zeros.
pub fn format_kimg(images: u64) -> String {
    let text = format!("{:.3}", images as f64 / 1000.0);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// A time as `42s`, `3m 07s`, `5h 09m 00s`, `2d 01h 00m`.
pub fn format_seconds(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        3600..86400 => format!("{}h {:02}m {:02}s", s / 3600, s / 60 % 60, s % 60),
        _ => format!("{}d {:02}h {:02}m", s / 86400, s / 3600 % 24, s / 60 % 60),
    }
}

/// A size as `512 B`, `3.2 MiB`, `1.75 GiB`.
pub fn format_bytes(bytes: u64) -> String {
    let b = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", b / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", b / 1_048_576.0),
        _ => format!("{:.2} GiB", b / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!([0, 64, 1000, 76_800].map(format_kimg), ["0", "0.064", "1", "76.8"]);
        assert_eq!([0.4, 59.4, 187.0, 18_540.0, 176_400.0].map(format_seconds), ["0s", "59s", "3m 07s", "5h 09m 00s", "2d 01h 00m"]);
        assert_eq!([12, 2048, 3_355_443, 1_879_048_192].map(format_bytes), ["12 B", "2.0 KiB", "3.2 MiB", "1.75 GiB"]);
    }

    #[test]
    fn a_tick_in_print_and_in_json() {
        let stats = TickStats {
            steps: 50,
            loss_d: 1.25,
            loss_d_real: 0.5,
            loss_d_fake: 0.75,
            loss_g: 0.875,
            d_x: 0.625,
            d_g_z1: 0.375,
            d_g_z2: 0.25,
            grad_norm_d: 1.5,
            grad_norm_g: 0.015,
        };
        let mut tick = Tick {
            step: 50,
            images_seen: 3200,
            tick: 1,
            partial: false,
            kimg: 3.2,
            seconds: 61.0,
            seconds_per_kimg: 19.0625,
            data_wait_seconds: None,
            memory_bytes: 5 << 20,
            stats,
        };
        let line = tick.line();
        for part in [
            "tick 1 ",
            "kimg 3.2 ",
            "time 1m 01s",
            "s/kimg 19.062",
            "mem 5.0 MiB",
            "loss D 1.250 G 0.875",
            "D(x) 0.625",
            "D(G(z)) 0.375 / 0.250",
            "grad D 1.50e0 G 1.50e-2",
        ] {
            assert!(line.contains(part), "no {part:?} in {line}");
        }
        let json = serde_json::to_string(&tick).unwrap();
        assert!(json.starts_with(r#"{"step":50,"images_seen":3200,"tick":1,"kimg":3.2,"#) && json.contains(r#""loss_d":1.25"#), "{json}");
        assert!(!line.contains("data wait") && !json.contains("data_wait"), "{line} {json}");
        tick.data_wait_seconds = Some(0.0625);
        assert!(
            tick.line().ends_with("  data wait 0.06s") && serde_json::to_string(&tick).unwrap().contains(r#","data_wait_seconds":0.0625,"#)
        );
        tick.partial = true;
        assert!(tick.line().starts_with("tick 1* ") && serde_json::to_string(&tick).unwrap().contains(r#""partial":true"#));
    }
}
