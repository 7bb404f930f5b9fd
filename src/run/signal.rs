//! Ctrl-C and SIGTERM.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Result};

/// Whether the user asked the run to stop.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From here on the first Ctrl-C or SIGTERM only sets the flag, and a second one ends the process at once with exit code 130. Works
    /// on Windows for Ctrl-C.
    ///
    /// # Errors
    /// [`Error::Environment`] if the system refuses.
    pub fn install() -> Result<Self> {
        let stop = Stop::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first looks at the flag before the second sets it.
            flag::register_conditional_shutdown(signal, 130, stop.0.clone())
                .and_then(|_| flag::register(signal, stop.0.clone()))
                .map_err(|error| Error::environment(format!("cannot listen for Ctrl-C: {error}")))?;
        }
        Ok(stop)
    }

    /// Asks the run to stop, as the first Ctrl-C does.
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether the run should stop.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
