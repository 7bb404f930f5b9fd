//! The range of the values that networks see images in.

use serde::{Deserialize, Serialize};

/// In which range the bytes of images are given to the discriminator, and so made by the generator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValueRange {
    /// [-1, 1], for generators that end in tanh.
    #[default]
    Signed,
    /// [0, 1], for generators that end in a sigmoid.
    Unit,
}

impl ValueRange {
    /// Scale and shift that bring a byte into the range.
    pub fn of_bytes(self) -> (f64, f64) {
        match self {
            ValueRange::Signed => (1.0 / 127.5, -1.0),
            ValueRange::Unit => (1.0 / 255.0, 0.0),
        }
    }

    /// Values of the range as values in [-1, 1], which pictures are made of.
    pub fn to_signed(self, values: &mut [f32]) {
        if self == ValueRange::Unit {
            values.iter_mut().for_each(|v| *v = 2.0 * *v - 1.0);
        }
    }

    /// Undoes [`ValueRange::to_signed`], up to a rounding.
    pub fn from_signed(self, values: &mut [f32]) {
        if self == ValueRange::Unit {
            values.iter_mut().for_each(|v| *v = (*v + 1.0) / 2.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_fill_the_range_and_come_back() {
        for (range, ends) in [(ValueRange::Signed, [-1.0, 1.0]), (ValueRange::Unit, [0.0, 1.0])] {
            let (scale, shift) = range.of_bytes();
            let mut values = [0.0, 255.0].map(|byte: f64| (scale * byte + shift) as f32);
            assert_eq!(values, ends);
            range.to_signed(&mut values);
            assert_eq!(values, [-1.0, 1.0]);
            range.from_signed(&mut values);
            assert_eq!(values, ends);
        }
    }
}
