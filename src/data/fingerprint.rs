//! What identifies the content of a data set.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// SHA-256 of shape, pixels or the bits of vectors, and labels, fed piece by piece.
#[derive(Clone)]
pub struct Fingerprint(Sha256);

impl Fingerprint {
    /// Of images with `shape` (count, height, width, channels, classes).
    pub fn of_images(shape: [usize; 5]) -> Self {
        Self::begin(b"ganymede data set 1\0", shape)
    }

    /// Of vectors; their length is the channels.
    pub fn of_vectors(shape: [usize; 5]) -> Self {
        Self::begin(b"ganymede vectors 1\0\0", shape)
    }

    fn begin(kind: &[u8], shape: [usize; 5]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(kind);
        shape.into_iter().for_each(|dimension| hasher.update((dimension as u64).to_le_bytes()));
        Self(hasher)
    }

    /// Takes the next pixels, or the next values' bytes, the lowest first.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The fingerprint in hexadecimal, after all pixels or values.
    pub fn finish(mut self, labels: Option<&[u32]>) -> String {
        labels.into_iter().flatten().for_each(|label| self.0.update(label.to_le_bytes()));
        self.0.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}
