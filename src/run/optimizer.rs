//! `[generator.optimizer]` and `[discriminator.optimizer]`: which optimiser, its learning rate, and how gradients are kept small.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::json;
use toml::Table;

use crate::error::Result;
use crate::gan::schedule::Schedule;
use crate::ops::optimiser::{Clip, Optimiser, validate_weight_clip};

/// How a network learns: the keys of an [`Optimiser`] with `lr`, `clip` and `weight_clip` beside them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptimizerConfig {
    /// The rule and its constants.
    pub optimiser: Optimiser,
    /// Learning rate: a number, or a table with shape, start, end and `over_kimg`.
    pub lr: Schedule,
    /// Gradients are clipped by norm, `{ norm = 1.0 }`, or by value, `{ value = 0.5 }`.
    pub clip: Option<Clip>,
    /// Discriminator: after each update, parameters are clipped to [-`weight_clip`, `weight_clip`] (WGAN).
    pub weight_clip: Option<f64>,
}

/// The keys that every kind of optimiser has.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Common {
    /// Learning rate: a number, or a table with shape, start, end and over_kimg.
    lr: Schedule,
    /// Gradients are clipped by norm, or by value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clip: Option<Clip>,
    /// Discriminator: after each update, parameters are clipped to this (WGAN).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight_clip: Option<f64>,
}

/// Names of [`Common`]'s keys.
pub(super) const COMMON: [&str; 3] = ["lr", "clip", "weight_clip"];

impl OptimizerConfig {
    /// Checks every value. `section` is the table's name.
    ///
    /// # Errors
    /// [`crate::error::Error::Input`] that begins with the key at fault.
    pub fn validate(&self, section: &str) -> Result<()> {
        self.optimiser.validate(section)?;
        self.lr.validate(&format!("{section}.lr"))?;
        self.clip.map_or(Ok(()), |clip| clip.validate(&format!("{section}.clip")))?;
        self.weight_clip.map_or(Ok(()), |bound| validate_weight_clip(bound, &format!("{section}.weight_clip")))
    }
}

impl Serialize for OptimizerConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let OptimizerConfig { optimiser, lr, clip, weight_clip } = *self;
        let mut table = Table::try_from(optimiser).map_err(ser::Error::custom)?;
        table.extend(Table::try_from(Common { lr, clip, weight_clip }).map_err(ser::Error::custom)?);
        table.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for OptimizerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = Table::deserialize(deserializer)?;
        let (common, own): (Table, Table) = table.into_iter().partition(|(key, _)| COMMON.contains(&key.as_str()));
        let wrong = |error: toml::de::Error| <D::Error as de::Error>::custom(error.message());
        let optimiser = own.try_into().map_err(|error: toml::de::Error| match error.message() {
            // The rule knows its own keys alone.
            message if message.starts_with("unknown field") => {
                de::Error::custom(format!("{message}, `kind`, {}", COMMON.map(|key| format!("`{key}`")).join(", ")))
            }
            _ => wrong(error),
        })?;
        let Common { lr, clip, weight_clip } = common.try_into().map_err(wrong)?;
        Ok(OptimizerConfig { optimiser, lr, clip, weight_clip })
    }
}

impl JsonSchema for OptimizerConfig {
    fn schema_name() -> Cow<'static, str> {
        "OptimizerConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = serde_json::Value::from(Optimiser::json_schema(generator));
        let common = serde_json::Value::from(Common::json_schema(generator));
        for kind in schema.get_mut("oneOf").and_then(|kinds| kinds.as_array_mut()).into_iter().flatten() {
            let (Some(own), Some(common)) = (kind.pointer_mut("/properties").and_then(|p| p.as_object_mut()), common.get("properties"))
            else {
                continue;
            };
            own.extend(common.as_object().cloned().unwrap_or_default());
        }
        Schema::try_from(schema).unwrap_or_else(|_| schemars::json_schema!({ "type": "object", "properties": json!({}) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<OptimizerConfig, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_string())
    }

    #[test]
    fn keys_of_the_rule_and_of_every_rule_stand_side_by_side() {
        let text = "kind = \"sgd\"\nmomentum = 0.9\nnesterov = true\nlr = { shape = \"cosine\", start = 0.1, end = 0, over_kimg = 5 }\nclip = { norm = 1.0 }\nweight_clip = 0.01\n";
        let config = read(text).unwrap();
        assert_eq!(config.optimiser, Optimiser::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.0 });
        assert_eq!((config.clip, config.weight_clip, config.lr.start), (Some(Clip::Norm(1.0)), Some(0.01), 0.1));
        config.validate("o").unwrap();
        assert_eq!(read(&toml::to_string(&config).unwrap()).unwrap(), config);
        for (text, needle) in [
            ("kind = \"adam\"\nlr = 1e-3\nmomentum = 0.9", "unknown field `momentum`"),
            ("kind = \"adam\"\nlr = 1e-3\nclip_norm = 1", "`weight_decay`, `kind`, `lr`, `clip`, `weight_clip`"),
            ("kind = \"adam\"", "missing field `lr`"),
            ("lr = 1", "missing field `kind`"),
            ("kind = \"adamm\"\nlr = 1", "unknown variant `adamm`"),
            ("kind = \"adam\"\nlr = true", "a number, or a table"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(needle), "{text}: {error}");
        }
    }
}
