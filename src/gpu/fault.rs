//! Errors that the driver reports out of turn.

use std::sync::OnceLock;

use crate::error::{Error, Result};

/// What the device reported.
#[derive(Debug, Clone)]
enum Fault {
    Lost(String),
    OutOfMemory(String),
    Invalid(String),
}

/// The first error of a device; all that follow are its consequences.
#[derive(Debug, Default)]
pub(super) struct Faults(OnceLock<Fault>);

impl Faults {
    /// Keeps what the device-lost callback or a panicking poll said.
    pub fn lost(&self, message: &str) {
        let _ = self.0.set(Fault::Lost(message.to_string()));
    }

    /// Keeps an error that no scope caught.
    pub fn uncaptured(&self, error: &wgpu::Error) {
        let fault = match error {
            wgpu::Error::OutOfMemory { source } => Fault::OutOfMemory(source.to_string()),
            wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => Fault::Invalid(description.clone()),
        };
        let _ = self.0.set(fault);
    }

    /// The error that was kept, if any.
    pub fn check(&self) -> Result<()> {
        match self.0.get() {
            None => Ok(()),
            Some(Fault::Lost(message)) => Err(Error::environment(format!(
                "the GPU device was lost: {}. The driver reset it or the GPU went away: a step that takes longer than the system's watchdog \
                 allows, too little memory, overheating or a driver update are the usual causes. Resume the run from its last checkpoint; \
                 if it happens again, try a smaller batch or fewer steps per submit",
                message.trim()
            ))),
            Some(Fault::OutOfMemory(message)) => Err(out_of_memory(message.trim())),
            Some(Fault::Invalid(message)) => Err(Error::internal(format!("the GPU API rejected a command: {}", message.trim()))),
        }
    }
}

/// Not enough device memory, with what to do about it.
pub(super) fn out_of_memory(what: &str) -> Error {
    Error::environment(format!(
        "the GPU is out of memory: {what}. Use a smaller batch, image size or network (`ganymede plan` prints what a configuration needs), \
         close other programs that use the GPU, or choose another adapter (`ganymede devices`)"
    ))
}
