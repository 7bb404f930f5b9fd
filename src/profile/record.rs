//! What the host did, and when.

use crate::error::Result;
use std::time::Instant;

/// A piece of the host's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What: `build`, `data`, `timed step 3`.
    pub name: String,
    /// When it began.
    pub begin: Instant,
    /// When it ended.
    pub end: Instant,
}

/// Collects events that do not overlap.
#[derive(Debug)]
pub struct Recorder {
    /// The beginning of time in traces.
    pub origin: Instant,
    /// The events, in order.
    pub events: Vec<Event>,
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder { origin: Instant::now(), events: Vec::new() }
    }
}

impl Recorder {
    /// Does some work and notes when; returns its result, and begin and end.
    ///
    /// # Errors
    /// Those of the work.
    pub fn time<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<(T, (Instant, Instant))> {
        let begin = Instant::now();
        let result = work()?;
        let end = Instant::now();
        self.events.push(Event { name: name.to_string(), begin, end });
        Ok((result, (begin, end)))
    }
}
