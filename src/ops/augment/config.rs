//! `[augment]` of a config file: what is done to real images before the discriminator sees them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Result};

/// Augmentation of the data set: each real image is changed at random each time that it is drawn, by each of these with its own probability.
///
/// Only reals are augmented, so the generator learns to make augmented images too: choose what could as well have been in the data set. (That
/// is not DiffAugment or ADA, which change reals and fakes alike and let gradients through.)
///
/// In order: mirror, flip, rotate, scale, translate; the last three together are one resampling with bilinear weights. Images that are shrunk
/// are not smoothed first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentConfig {
    /// Probability that left and right are exchanged.
    pub mirror: f64,
    /// Probability that top and bottom are exchanged.
    pub flip: f64,
    /// What is beyond the image's edge: "edge" for its nearest pixel, or a shade from -1 (black) to 1 (white), whatever the
    /// range of the networks.
    pub fill: Fill,
    /// Rotation about the centre by a uniform angle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotate: Option<Rotate>,
    /// Scaling about the centre by a uniform factor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// Translation by a uniform distance along each axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub translate: Option<Translate>,
}

/// Rotation about the centre.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// Probability.
    pub p: f64,
    /// Largest angle in either direction, up to 180.
    pub degrees: f64,
}

/// Scaling about the centre.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Probability.
    pub p: f64,
    /// Smallest and largest factor, from 0.1 to 10; above 1 enlarges.
    #[serde(deserialize_with = "two")]
    pub range: [f64; 2],
}

/// Two numbers: TOML's reader would overlook a third.
fn two<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[f64; 2], D::Error> {
    let all = Vec::<f64>::deserialize(deserializer)?;
    all.try_into().map_err(|all: Vec<f64>| de::Error::custom(format!("got {} numbers, expected [smallest, largest]", all.len())))
}

/// Translation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Translate {
    /// Probability.
    pub p: f64,
    /// Largest distance in either direction along each axis, as a share of the side, up to 1.
    pub range: f64,
}

/// What is beyond an image's edge.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Fill {
    /// The nearest pixel of the image: right for photographs, and for any even background.
    #[default]
    Edge,
    /// A constant. In settings a shade, from -1 for black to 1 for white; for the kernel, a value as the images have them.
    Constant(f64),
}

impl Serialize for Fill {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Fill::Edge => serializer.serialize_str("edge"),
            Fill::Constant(value) => serializer.serialize_f64(*value),
        }
    }
}

impl<'de> Deserialize<'de> for Fill {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Fill;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"edge\" or a number from -1 to 1")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Fill, E> {
                if text == "edge" { Ok(Fill::Edge) } else { Err(E::invalid_value(de::Unexpected::Str(text), &self)) }
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Fill, E> {
                Ok(Fill::Constant(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Fill, E> {
                Ok(Fill::Constant(value as f64))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Fill {
    fn schema_name() -> Cow<'static, str> {
        "Fill".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "oneOf": [{ "const": "edge" }, { "type": "number", "minimum": -1, "maximum": 1 }] })
    }
}

impl AugmentConfig {
    /// Whether anything can happen to an image.
    pub fn is_on(&self) -> bool {
        let own = [self.rotate.map(|r| r.p), self.scale.map(|s| s.p), self.translate.map(|t| t.p)];
        self.mirror > 0.0 || self.flip > 0.0 || own.into_iter().flatten().any(|p| p > 0.0)
    }

    /// Checks every value. `section` is what a file calls this.
    ///
    /// # Errors
    /// [`Error::Input`] that begins with the key at fault: `augment.rotate.degrees: got 200, expected …`.
    pub fn validate(&self, section: &str) -> Result<()> {
        let wrong = |key: &str, got: &dyn fmt::Display, expected: &str| {
            Err(Error::input(format!("{section}.{key}: got {got}, expected {expected}")))
        };
        let probabilities = [
            ("mirror", Some(self.mirror)),
            ("flip", Some(self.flip)),
            ("rotate.p", self.rotate.map(|r| r.p)),
            ("scale.p", self.scale.map(|s| s.p)),
            ("translate.p", self.translate.map(|t| t.p)),
        ];
        for (key, p) in probabilities {
            if let Some(p) = p.filter(|p| !(0.0..=1.0).contains(p)) {
                return wrong(key, &p, "a probability from 0 to 1");
            }
        }
        if let Some(degrees) = self.rotate.map(|r| r.degrees).filter(|degrees| !(*degrees > 0.0 && *degrees <= 180.0)) {
            return wrong("rotate.degrees", &degrees, "an angle above 0, up to 180");
        }
        if let Some([low, high]) = self.scale.map(|s| s.range).filter(|[low, high]| !(*low >= 0.1 && low <= high && *high <= 10.0)) {
            return wrong("scale.range", &format!("[{low}, {high}]"), "the smallest and the largest factor, from 0.1 to 10");
        }
        if let Some(range) = self.translate.map(|t| t.range).filter(|range| !(*range > 0.0 && *range <= 1.0)) {
            return wrong("translate.range", &range, "a share of the side above 0, up to 1");
        }
        match self.fill {
            Fill::Constant(value) if !(-1.0..=1.0).contains(&value) => {
                wrong("fill", &value, "\"edge\", or a value from -1 (black) to 1 (white)")
            }
            _ => Ok(()),
        }
    }

    /// Refuses data without two dimensions of pixels. `sample` is the shape of a sample: (C, H, W) of images.
    ///
    /// # Errors
    /// [`Error::Input`] that begins with `section`.
    pub fn check_sample(&self, sample: &[usize], section: &str) -> Result<()> {
        match *sample {
            _ if !self.is_on() => Ok(()),
            [_, h, w] if h > 1 && w > 1 => Ok(()),
            _ => Err(Error::input(format!(
                "{section}: got data of shape {sample:?}, expected images (channels, height, width); only images can be augmented, so leave \
                 it out or choose a data set of images"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<AugmentConfig, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_string())
    }

    #[test]
    fn files_say_what_they_mean() {
        assert_eq!(read("").unwrap(), AugmentConfig::default());
        assert!(!AugmentConfig::default().is_on());
        let text = "mirror = 0.5\nfill = -1\nrotate = { p = 0.5, degrees = 15 }\nscale = { p = 0.25, range = [0.9, 1.1] }\n\
                    translate = { p = 1, range = 0.1 }\n";
        let config = read(text).unwrap();
        assert_eq!(
            config,
            AugmentConfig {
                mirror: 0.5,
                flip: 0.0,
                fill: Fill::Constant(-1.0),
                rotate: Some(Rotate { p: 0.5, degrees: 15.0 }),
                scale: Some(Scale { p: 0.25, range: [0.9, 1.1] }),
                translate: Some(Translate { p: 1.0, range: 0.1 }),
            }
        );
        for config in [config, AugmentConfig::default()] {
            assert_eq!(read(&toml::to_string(&config).unwrap()).unwrap(), config);
        }
        for (text, needle) in [
            ("mirrors = 0.5", "unknown field `mirrors`"),
            ("fill = \"black\"", "expected \"edge\" or a number"),
            ("fill = true", "expected \"edge\" or a number"),
            ("rotate = { degrees = 15 }", "missing field `p`"),
            ("scale = { p = 1, range = [1, 2, 3] }", "got 3 numbers, expected [smallest, largest]"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(needle), "{text}: {error}");
        }
    }

    #[test]
    fn any_transform_switches_it_on() {
        for text in [
            "mirror = 0.1",
            "flip = 0.1",
            "rotate = { p = 0.1, degrees = 1 }",
            "scale = { p = 0.1, range = [1, 1] }",
            "translate = { p = 1, range = 1 }",
        ] {
            let config = read(text).unwrap();
            assert!(config.is_on() && config.validate("augment").is_ok(), "{text}");
            config.check_sample(&[1, 2, 2], "augment").unwrap();
            for sample in [&[2][..], &[3, 1, 8], &[3, 8, 1], &[]] {
                let error = config.check_sample(sample, "augment").unwrap_err();
                assert!(error.to_string().starts_with("augment: got data of shape ") && error.exit_code() == 2, "{error}");
                AugmentConfig::default().check_sample(sample, "augment").unwrap();
            }
        }
        assert!(!read("rotate = { p = 0, degrees = 1 }").unwrap().is_on());
    }

    #[test]
    fn values_are_refused_by_key() {
        for (text, start) in [
            ("mirror = 1.5", "a.mirror: got 1.5,"),
            ("flip = -0.1", "a.flip: got -0.1,"),
            ("rotate = { p = nan, degrees = 15 }", "a.rotate.p: got NaN,"),
            ("rotate = { p = 1, degrees = 0 }", "a.rotate.degrees: got 0,"),
            ("rotate = { p = 1, degrees = 181 }", "a.rotate.degrees: got 181,"),
            ("scale = { p = 2, range = [1, 1] }", "a.scale.p: got 2,"),
            ("scale = { p = 1, range = [1.1, 0.9] }", "a.scale.range: got [1.1, 0.9],"),
            ("scale = { p = 1, range = [0, 1] }", "a.scale.range: got [0, 1],"),
            ("scale = { p = 1, range = [1, nan] }", "a.scale.range: got [1, NaN],"),
            ("translate = { p = 7, range = 0.1 }", "a.translate.p: got 7,"),
            ("translate = { p = 1, range = 1.5 }", "a.translate.range: got 1.5,"),
            ("fill = 128", "a.fill: got 128,"),
        ] {
            let error = read(text).unwrap().validate("a").expect_err(text);
            assert!(error.exit_code() == 2 && error.to_string().starts_with(start), "{text}: {error}");
        }
    }
}
