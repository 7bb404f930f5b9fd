//! What changes along a run: schedules, and the per-step scalars (learning rates, bias corrections, moving-average decay, batch positions). They
//! depend on the position in the run alone, never on its planned length.

use super::config::GanConfig;
use crate::error::{Error, Result};
use crate::gpu::step::StepRow;
use crate::ops::gather::batch_position;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::f64::consts::PI;
use std::fmt;

/// A number that depends on the images seen.
///
/// In files it is a number, which then never changes, or a table with `start` and `shape` (`constant`, `linear`, `cosine`, `exponential` or
/// `step`), what that shape takes, and `warmup_kimg` if it warms up:
///
/// ```toml
/// lr_g = 2e-4
/// lr_d = { shape = "cosine", start = 2e-4, end = 0, over_kimg = 100, warmup_kimg = 1 }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The value at the beginning, or once it is warm.
    pub start: f64,
    /// How it goes on.
    pub shape: Shape,
    /// Thousands of images over which the value first rises from 0 to `start` in proportion to the images seen; the shape begins behind them
    /// (torch.optim.lr_scheduler.SequentialLR). The run's first step then has the value 0. 0 for no warm-up.
    pub warmup_kimg: f64,
}

/// How a [`Schedule`] goes from its start. Thousands of images count from the end of the warm-up; behind `over_kimg` the value stays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// It stays.
    Constant,
    /// Along a line to `end`: torch.optim.lr_scheduler.LinearLR.
    Linear {
        /// Last value.
        end: f64,
        /// Thousands of images to it.
        over_kimg: f64,
    },
    /// Along half a cosine to `end` (Loshchilov and Hutter, 2017): torch.optim.lr_scheduler.CosineAnnealingLR.
    Cosine {
        /// Last value.
        end: f64,
        /// Thousands of images to it.
        over_kimg: f64,
    },
    /// By equal factors in equal times to `end`: torch.optim.lr_scheduler.ExponentialLR. Both ends are above 0.
    Exponential {
        /// Last value.
        end: f64,
        /// Thousands of images to it.
        over_kimg: f64,
    },
    /// By a factor at each multiple of some images: torch.optim.lr_scheduler.StepLR.
    Step {
        /// Thousands of images between two changes.
        every_kimg: f64,
        /// Factor of each change, above 0.
        factor: f64,
        /// The value never passes this one.
        end: Option<f64>,
        /// Thousands of images behind which there are no more changes.
        over_kimg: Option<f64>,
    },
}

impl Shape {
    /// Its name in files.
    fn name(&self) -> ShapeName {
        match self {
            Shape::Constant => ShapeName::Constant,
            Shape::Linear { .. } => ShapeName::Linear,
            Shape::Cosine { .. } => ShapeName::Cosine,
            Shape::Exponential { .. } => ShapeName::Exponential,
            Shape::Step { .. } => ShapeName::Step,
        }
    }
}

impl Schedule {
    /// Always `value`.
    pub fn constant(value: f64) -> Self {
        Schedule { start: value, shape: Shape::Constant, warmup_kimg: 0.0 }
    }

    /// A line from `start` to `end`.
    pub fn linear(start: f64, end: f64, over_kimg: f64) -> Self {
        Schedule { start, shape: Shape::Linear { end, over_kimg }, warmup_kimg: 0.0 }
    }

    /// Whether a file says it as a number, not as a table.
    fn is_number(&self) -> bool {
        self.shape == Shape::Constant && self.warmup_kimg == 0.0
    }

    /// The value in the step that follows `images_seen` images.
    pub fn at(&self, images_seen: u64) -> f64 {
        let (images, start) = (images_seen as f64, self.start);
        // 0.07 * 1000 is more than 70: what comes after so many images must not come one step later for it.
        let whole = |kimg: f64| (kimg * 1000.0).round();
        let warm_up = whole(self.warmup_kimg);
        if images < warm_up {
            return start * (images / warm_up);
        }
        let images = images - warm_up;
        let share = |over_kimg: f64| (images / (over_kimg * 1000.0)).min(1.0);
        match self.shape {
            Shape::Constant => start,
            Shape::Linear { end, over_kimg } => start * (1.0 - share(over_kimg)) + end * share(over_kimg),
            Shape::Cosine { end, over_kimg } => end + (start - end) * (1.0 + (PI * share(over_kimg)).cos()) / 2.0,
            Shape::Exponential { end, over_kimg } => start * (end / start).powf(share(over_kimg)),
            Shape::Step { every_kimg, factor, end, over_kimg } => {
                let last = over_kimg.map_or(images, |over_kimg| images.min(over_kimg * 1000.0));
                let value = start * factor.powf((last / whole(every_kimg).max(1.0)).floor());
                match end {
                    None => value,
                    Some(end) if factor < 1.0 => value.max(end),
                    Some(end) => value.min(end),
                }
            }
        }
    }

    /// Checks what no type can, and that no value is below 0: no scalar of training is. `section` is what a file calls this.
    ///
    /// # Errors
    /// [`Error::Input`] that begins with the key at fault: `lr_g.over_kimg: got 0, expected …`.
    pub fn validate(&self, section: &str) -> Result<()> {
        let refuse = |key: &str, got: f64, expected: &str| {
            // What a file says as a mere number has no keys.
            let key = if self.is_number() { section.to_string() } else { format!("{section}.{key}") };
            Err(Error::input(format!("{key}: got {got}, expected {expected}")))
        };
        let value = |key: &str, value: f64| match value >= 0.0 && (value as f32).is_finite() {
            true => Ok(()),
            false => refuse(key, value, "a finite number, 0 or more"),
        };
        let above = |key: &str, value: f64| match value > 0.0 && (value as f32).is_normal() {
            true => Ok(()),
            false => refuse(key, value, "a finite number above 0, because an exponential schedule multiplies"),
        };
        let length = |key: &str, kimg: f64| match kimg > 0.0 && kimg <= 1e12 {
            true => Ok(()),
            false => refuse(key, kimg, "thousands of images, above 0"),
        };
        value("start", self.start)?;
        if !(0.0..=1e12).contains(&self.warmup_kimg) {
            refuse("warmup_kimg", self.warmup_kimg, "thousands of images, 0 or more")?;
        }
        match self.shape {
            Shape::Constant => Ok(()),
            Shape::Linear { end, over_kimg } | Shape::Cosine { end, over_kimg } => {
                value("end", end)?;
                length("over_kimg", over_kimg)
            }
            Shape::Exponential { end, over_kimg } => {
                above("start", self.start)?;
                above("end", end)?;
                length("over_kimg", over_kimg)
            }
            Shape::Step { every_kimg, factor, end, over_kimg } => {
                length("every_kimg", every_kimg)?;
                if !(factor > 0.0 && factor.is_finite()) {
                    refuse("factor", factor, "a finite number above 0 (usual: 0.1 to 0.9)")?;
                }
                if let Some(end) = end {
                    value("end", end)?;
                    if (factor < 1.0 && end > self.start) || (factor >= 1.0 && end < self.start) {
                        refuse("end", end, &format!("a limit that {} times {factor} and so on comes nearer to", self.start))?;
                    }
                }
                if factor > 1.0 && end.is_none() && over_kimg.is_none() {
                    refuse("factor", factor, "a factor of at most 1, or an end or over_kimg that bounds the growth")?;
                }
                over_kimg.map_or(Ok(()), |over_kimg| length("over_kimg", over_kimg))
            }
        }
    }
}

impl From<f64> for Schedule {
    fn from(value: f64) -> Self {
        Schedule::constant(value)
    }
}

/// `0.0002`, or `cosine from 0.0002 to 0 over 100 kimg after 1 kimg of warm-up`.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.start;
        match self.shape {
            Shape::Constant => write!(f, "{start}")?,
            Shape::Linear { end, over_kimg } | Shape::Cosine { end, over_kimg } | Shape::Exponential { end, over_kimg } => {
                write!(f, "{} from {start} to {end} over {over_kimg} kimg", self.shape.name())?;
            }
            Shape::Step { every_kimg, factor, end, over_kimg } => {
                write!(f, "step from {start} by {factor} every {every_kimg} kimg")?;
                end.map_or(Ok(()), |end| write!(f, " to {end}"))?;
                over_kimg.map_or(Ok(()), |over_kimg| write!(f, " over {over_kimg} kimg"))?;
            }
        }
        if self.warmup_kimg > 0.0 { write!(f, " after {} kimg of warm-up", self.warmup_kimg) } else { Ok(()) }
    }
}

/// The name of a [`Shape`] in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ShapeName {
    Constant,
    Linear,
    Cosine,
    Exponential,
    Step,
}

impl fmt::Display for ShapeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ShapeName::Constant => "constant",
            ShapeName::Linear => "linear",
            ShapeName::Cosine => "cosine",
            ShapeName::Exponential => "exponential",
            ShapeName::Step => "step",
        })
    }
}

/// A [`Schedule`] as a file says it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct ScheduleTable {
    /// How the value goes on from `start`.
    shape: ShapeName,
    /// The value at the beginning, or once it is warm.
    start: f64,
    /// Last value; of `step`, one that it never passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<f64>,
    /// Thousands of images to the last value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    over_kimg: Option<f64>,
    /// Thousands of images between two changes of `step`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    every_kimg: Option<f64>,
    /// Factor of each change of `step`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    factor: Option<f64>,
    /// Thousands of images over which the value first rises from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warmup_kimg: Option<f64>,
}

impl From<Schedule> for ScheduleTable {
    fn from(schedule: Schedule) -> Self {
        let Schedule { start, shape, warmup_kimg } = schedule;
        let warmup_kimg = Some(warmup_kimg).filter(|kimg| *kimg != 0.0);
        let bare = ScheduleTable { shape: shape.name(), start, end: None, over_kimg: None, every_kimg: None, factor: None, warmup_kimg };
        match shape {
            Shape::Constant => bare,
            Shape::Linear { end, over_kimg } | Shape::Cosine { end, over_kimg } | Shape::Exponential { end, over_kimg } => {
                ScheduleTable { end: Some(end), over_kimg: Some(over_kimg), ..bare }
            }
            Shape::Step { every_kimg, factor, end, over_kimg } => {
                ScheduleTable { every_kimg: Some(every_kimg), factor: Some(factor), end, over_kimg, ..bare }
            }
        }
    }
}

impl TryFrom<ScheduleTable> for Schedule {
    type Error = String;

    fn try_from(table: ScheduleTable) -> Result<Self, String> {
        let ScheduleTable { shape, start, end, over_kimg, every_kimg, factor, warmup_kimg } = table;
        let needed =
            |key: &str, value: Option<f64>| value.ok_or_else(|| format!("a schedule of shape {shape} needs {key}, which is not given"));
        let (takes_ends, takes_steps) = (shape != ShapeName::Constant, shape == ShapeName::Step);
        for (key, is_given, takes) in [
            ("end", end.is_some(), takes_ends),
            ("over_kimg", over_kimg.is_some(), takes_ends),
            ("every_kimg", every_kimg.is_some(), takes_steps),
            ("factor", factor.is_some(), takes_steps),
        ] {
            if is_given && !takes {
                return Err(format!("a schedule of shape {shape} takes no {key}; leave it out or choose another shape"));
            }
        }
        let line = || Ok::<_, String>((needed("end", end)?, needed("over_kimg", over_kimg)?));
        let shape = match shape {
            ShapeName::Constant => Shape::Constant,
            ShapeName::Linear => line().map(|(end, over_kimg)| Shape::Linear { end, over_kimg })?,
            ShapeName::Cosine => line().map(|(end, over_kimg)| Shape::Cosine { end, over_kimg })?,
            ShapeName::Exponential => line().map(|(end, over_kimg)| Shape::Exponential { end, over_kimg })?,
            ShapeName::Step => {
                Shape::Step { every_kimg: needed("every_kimg", every_kimg)?, factor: needed("factor", factor)?, end, over_kimg }
            }
        };
        Ok(Schedule { start, shape, warmup_kimg: warmup_kimg.unwrap_or(0.0) })
    }
}

impl JsonSchema for Schedule {
    fn schema_name() -> Cow<'static, str> {
        "Schedule".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number, or how it changes with the images seen.",
            "anyOf": [{ "type": "number" }, generator.subschema_for::<ScheduleTable>()],
        })
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_number() { serializer.serialize_f64(self.start) } else { ScheduleTable::from(*self).serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrTable;

        impl<'de> Visitor<'de> for NumberOrTable {
            type Value = Schedule;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number, or a table with shape, start, end, over_kimg and warmup_kimg")
            }

            fn visit_f64<E>(self, value: f64) -> Result<Schedule, E> {
                Ok(value.into())
            }

            fn visit_i64<E>(self, value: i64) -> Result<Schedule, E> {
                Ok((value as f64).into())
            }

            fn visit_u64<E>(self, value: u64) -> Result<Schedule, E> {
                Ok((value as f64).into())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Schedule, A::Error> {
                ScheduleTable::deserialize(MapAccessDeserializer::new(map))?.try_into().map_err(serde::de::Error::custom)
            }
        }

        deserializer.deserialize_any(NumberOrTable)
    }
}

/// Where a run is before a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Steps done.
    pub step: u64,
    /// Images seen: batch times steps, summed over the batch sizes that the run has had.
    pub images_seen: u64,
}

impl Position {
    /// The position `steps` steps later.
    pub fn after(self, steps: u64, batch: usize) -> Self {
        Position { step: self.step + steps, images_seen: self.images_seen + steps * batch as u64 }
    }
}

/// The row of the step at `position`, over a data set of `images` images.
pub fn row(config: &GanConfig, images: usize, position: Position) -> StepRow {
    let Position { step, images_seen } = position;
    let d_steps = config.d_steps as u64;
    let [lr_g, lr_d] = [config.lr_g, config.lr_d].map(|lr| lr.at(images_seen));
    let mut row = StepRow { slots: [[0; 4]; 32] };
    row.slots[StepRow::STEP as usize] = [step as u32, (step >> 32) as u32, (ema_decay(config, images_seen) as f32).to_bits(), 0];
    for u in 0..=config.d_steps {
        row.slots[StepRow::optimiser(u) as usize] = if u < config.d_steps {
            config.optimiser_d.slot(lr_d, step * d_steps + u as u64 + 1)
        } else {
            config.optimiser_g.slot(lr_g, step + 1)
        };
        let [epoch, start] = batch_position(images.clamp(1, u32::MAX as usize) as u32, images_seen * d_steps + (u * config.batch) as u64);
        let draw = step.wrapping_mul(d_steps + 1).wrapping_add(u as u64) as u32;
        row.slots[StepRow::draw(u) as usize] = [epoch, start, draw, 0];
    }
    row
}

/// The rows of the step at `position` of a run, one a micro-batch, from its whole row.
pub fn micro_batch_rows(config: &GanConfig, whole: &StepRow) -> impl Iterator<Item = StepRow> {
    (0..config.micro_batches()).map(move |j| whole.micro_batch(j as u32, (j * config.micro_batch) as u32))
}

/// Decay of the generator's moving average in the step that follows `images_seen` images: 0.5^(batch / half-life). 0 in the first step: the
/// average starts as a copy.
pub fn ema_decay(config: &GanConfig, images_seen: u64) -> f64 {
    let half_life = (config.ema_half_life_kimg * 1000.0).min(config.ema_ramp * images_seen as f64);
    if half_life > 0.0 { 0.5f64.powf(config.batch as f64 / half_life) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::layer::Layer;
    use crate::nn::network::{InitScheme, Network};

    fn config() -> GanConfig {
        let network = |name: &str| Network {
            name: name.into(),
            input: vec![2],
            data: vec![2],
            layers: vec![Layer::linear(2)],
            init: InitScheme::PyTorch,
            classes: None,
        };
        GanConfig { d_steps: 2, lr_d: 1e-3.into(), ..GanConfig::new(network("G"), network("D"), 64) }
    }

    fn step(every_kimg: f64, factor: f64, end: Option<f64>, over_kimg: Option<f64>) -> Shape {
        Shape::Step { every_kimg, factor, end, over_kimg }
    }

    #[test]
    fn schedules_follow_their_formulas() {
        let values = |start: f64, shape, images: [u64; 4]| images.map(|n| Schedule { start, shape, warmup_kimg: 0.0 }.at(n));
        assert_eq!(values(0.3, Shape::Constant, [0, 1, 1 << 20, 1 << 40]), [0.3; 4]);
        let line = Shape::Linear { end: 0.0, over_kimg: 10.0 };
        assert_eq!(values(1.0, line, [0, 5000, 10_000, 20_000]), [1.0, 0.5, 0.0, 0.0]);
        let up = Shape::Linear { end: 3.0, over_kimg: 2.0 };
        assert_eq!(values(1.0, up, [0, 500, 2000, 3000]), [1.0, 1.5, 3.0, 3.0]);
        let near = |got: [f64; 4], expected: [f64; 4]| {
            let apart = got.into_iter().zip(expected).map(|(g, e)| (g - e).abs()).fold(0.0, f64::max);
            assert!(apart < 1e-15, "{got:?}, expected {expected:?}");
        };
        // Cosines of 0, 60, 90 and 180 degrees.
        let cosine = Shape::Cosine { end: 0.2, over_kimg: 6.0 };
        near(values(1.0, cosine, [0, 2000, 3000, 9000]), [1.0, 0.8, 0.6, 0.2]);
        let exponential = Shape::Exponential { end: 0.01, over_kimg: 2.0 };
        near(values(1.0, exponential, [0, 500, 1000, 5000]), [1.0, 0.01f64.powf(0.25), 0.1, 0.01]);
        assert_eq!(values(1.0, step(1.0, 0.5, None, None), [999, 1000, 1999, 3000]), [1.0, 0.5, 0.5, 0.125]);
        assert_eq!(values(1.0, step(0.07, 0.5, None, None), [69, 70, 139, 140]), [1.0, 0.5, 0.5, 0.25]);
        assert_eq!(values(1.0, step(1.0, 0.5, Some(0.3), None), [0, 1000, 2000, 9000]), [1.0, 0.5, 0.3, 0.3]);
        assert_eq!(values(1.0, step(1.0, 2.0, Some(3.0), None), [0, 1000, 2000, 9000]), [1.0, 2.0, 3.0, 3.0]);
        assert_eq!(values(1.0, step(1.0, 0.5, None, Some(2.5)), [1000, 2000, 3000, 9000]), [0.5, 0.25, 0.25, 0.25]);
    }

    #[test]
    fn warm_up_comes_first() {
        let schedule = Schedule { warmup_kimg: 2.0, ..Schedule::linear(0.4, 0.0, 10.0) };
        assert_eq!([0, 500, 1000, 2000, 7000, 12_000, 1 << 40].map(|n| schedule.at(n)), [0.0, 0.1, 0.2, 0.4, 0.2, 0.0, 0.0]);
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        lr_d: Schedule,
        batch: u32,
    }

    fn read(text: &str) -> Result<Schedule> {
        let file: File = crate::run::toml_file::parse(&format!("batch = 4\nlr_d = {text}\n"), std::path::Path::new("c.toml"))?;
        Ok(file.lr_d)
    }

    #[test]
    fn files_say_a_number_or_a_table() {
        for (text, expected) in [
            ("2e-4", Schedule::constant(2e-4)),
            ("1", Schedule::constant(1.0)),
            ("{ shape = \"constant\", start = 1e-3 }", Schedule::constant(1e-3)),
            ("{ shape = \"constant\", start = 1e-3, warmup_kimg = 2 }", Schedule { warmup_kimg: 2.0, ..Schedule::constant(1e-3) }),
            ("{ shape = \"linear\", start = 1e-3, end = 0, over_kimg = 5 }", Schedule::linear(1e-3, 0.0, 5.0)),
            (
                "{ start = 2e-4, end = 0, over_kimg = 100, shape = \"cosine\", warmup_kimg = 1 }",
                Schedule { start: 2e-4, shape: Shape::Cosine { end: 0.0, over_kimg: 100.0 }, warmup_kimg: 1.0 },
            ),
            (
                "{ shape = \"exponential\", start = 1e-3, end = 1e-5, over_kimg = 5 }",
                Schedule { start: 1e-3, shape: Shape::Exponential { end: 1e-5, over_kimg: 5.0 }, warmup_kimg: 0.0 },
            ),
            (
                "{ shape = \"step\", start = 1e-3, every_kimg = 5, factor = 0.5 }",
                Schedule { start: 1e-3, shape: step(5.0, 0.5, None, None), warmup_kimg: 0.0 },
            ),
            (
                "{ shape = \"step\", start = 1e-3, every_kimg = 5, factor = 0.5, end = 1e-5, over_kimg = 50 }",
                Schedule { start: 1e-3, shape: step(5.0, 0.5, Some(1e-5), Some(50.0)), warmup_kimg: 0.0 },
            ),
        ] {
            let schedule = read(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(schedule, expected, "{text}");
            schedule.validate("lr_d").unwrap();
            let file = File { lr_d: schedule, batch: 4 };
            let again = toml::to_string(&file).unwrap();
            assert_eq!(toml::from_str::<File>(&again).unwrap(), file, "{again}");
        }
        assert_eq!(toml::to_string(&File { lr_d: 0.25.into(), batch: 4 }).unwrap(), "lr_d = 0.25\nbatch = 4\n");
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        for (text, needles) in [
            ("{ shape = \"linear\", start = 1, ende = 0, over_kimg = 5 }", &["c.toml:2:", "unknown key ende", "did you mean end?"][..]),
            ("{ shape = \"sine\", start = 1 }", &["c.toml:2:", "sine", "constant", "linear", "cosine", "exponential", "step"]),
            ("{ start = 1, end = 0 }", &["c.toml:2:", "missing field", "shape"]),
            ("{ shape = \"cosine\", end = 0, over_kimg = 5 }", &["missing field", "start"]),
            (
                "{ shape = \"linear\", start = 1, over_kimg = 5 }",
                &["c.toml:2:", "a schedule of shape linear needs end, which is not given"],
            ),
            ("{ shape = \"exponential\", start = 1, end = 0.1 }", &["shape exponential needs over_kimg"]),
            ("{ shape = \"step\", start = 1, factor = 0.1 }", &["a schedule of shape step needs every_kimg"]),
            (
                "{ shape = \"constant\", start = 1, end = 0 }",
                &["a schedule of shape constant takes no end; leave it out or choose another shape"],
            ),
            ("{ shape = \"cosine\", start = 1, end = 0, over_kimg = 1, factor = 2 }", &["a schedule of shape cosine takes no factor"]),
            ("\"2e-4\"", &["c.toml:2:8", "a number, or a table with shape, start"]),
            ("true", &["a number, or a table"]),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(needles.iter().all(|needle| error.contains(needle)), "{text}: {error}");
        }
    }

    #[test]
    fn values_out_of_range_are_refused_by_key() {
        let of = |start, shape| Schedule { start, shape, warmup_kimg: 0.0 };
        let exponential = |end| Shape::Exponential { end, over_kimg: 1.0 };
        for (schedule, needle) in [
            (Schedule::constant(-1.0), "lr_d: got -1, expected a finite number, 0 or more"),
            (Schedule::constant(f64::NAN), "lr_d: got NaN,"),
            (Schedule::constant(1e39), "lr_d: got 1"),
            (Schedule { warmup_kimg: -1.0, ..Schedule::constant(1.0) }, "lr_d.warmup_kimg: got -1,"),
            (Schedule::linear(1.0, f64::INFINITY, 1.0), "lr_d.end: got inf,"),
            (Schedule::linear(1.0, 0.0, 0.0), "lr_d.over_kimg: got 0, expected thousands of images, above 0"),
            (of(1.0, Shape::Cosine { end: -0.5, over_kimg: 1.0 }), "lr_d.end: got -0.5,"),
            (of(1.0, exponential(0.0)), "lr_d.end: got 0, expected a finite number above 0"),
            (of(0.0, exponential(1.0)), "lr_d.start: got 0, expected a finite number above 0"),
            (of(1.0, step(0.0, 0.5, None, None)), "lr_d.every_kimg: got 0,"),
            (of(1.0, step(1.0, 0.0, None, None)), "lr_d.factor: got 0,"),
            (of(1.0, step(1.0, 0.5, Some(2.0), None)), "lr_d.end: got 2, expected a limit"),
            (of(1.0, step(1.0, 2.0, Some(0.5), None)), "lr_d.end: got 0.5, expected a limit"),
            (of(1.0, step(1.0, 2.0, None, None)), "lr_d.factor: got 2, expected a factor of at most 1, or an end"),
            (of(1.0, step(1.0, 0.5, None, Some(-1.0))), "lr_d.over_kimg: got -1,"),
        ] {
            let error = schedule.validate("lr_d").expect_err(needle);
            assert!(error.exit_code() == 2 && error.to_string().starts_with(needle), "{error}");
        }
    }

    #[test]
    fn they_say_what_they_are() {
        for (schedule, expected) in [
            (Schedule::constant(2e-4), "0.0002"),
            (Schedule { warmup_kimg: 1.0, ..Schedule::constant(1.0) }, "1 after 1 kimg of warm-up"),
            (Schedule::linear(1.0, 0.0, 5.0), "linear from 1 to 0 over 5 kimg"),
            (
                Schedule { start: 1.0, shape: step(5.0, 0.5, Some(0.1), Some(20.0)), warmup_kimg: 0.0 },
                "step from 1 by 0.5 every 5 kimg to 0.1 over 20 kimg",
            ),
        ] {
            assert_eq!(schedule.to_string(), expected);
        }
    }

    #[test]
    fn its_schema_takes_numbers_and_tables() {
        let schema = schemars::schema_for!(Schedule);
        let choices = schema.get("anyOf").and_then(|choices| choices.as_array()).expect("a choice");
        assert_eq!(choices[0]["type"], "number");
        let table = &schema.get("$defs").expect("definitions")["ScheduleTable"]["properties"];
        for key in ["shape", "start", "end", "over_kimg", "every_kimg", "factor", "warmup_kimg"] {
            assert!(table.get(key).is_some(), "no {key} in {table}");
        }
    }

    #[test]
    fn each_network_has_its_own_rate() {
        let config = GanConfig { lr_g: Schedule::linear(1.0, 0.0, 1.0), lr_d: 0.5.into(), ..config() };
        let row = row(&config, 1000, Position { step: 3, images_seen: 750 });
        let lr = |update| f32::from_bits(row.slots[StepRow::optimiser(update) as usize][0]);
        assert_eq!([lr(0), lr(1), lr(2)], [0.5, 0.5, 0.25]);
    }

    #[test]
    fn the_average_has_its_half_life_and_its_ramp() {
        let config = config();
        assert_eq!(ema_decay(&config, 0), 0.0);
        // At 64,000 images the ramp rules: a half-life of 3,200 images is 50 batches.
        assert!((ema_decay(&config, 64_000).powi(50) - 0.5).abs() < 1e-12);
        assert!((ema_decay(&config, 1 << 40).powf(20_000.0 / 64.0) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn updates_draw_successive_batches() {
        let config = config();
        let position = Position::default().after(7, 64);
        let row = row(&config, 1000, position);
        // Step 7 of two updates each: the 14th and 15th batches of 64 from 1000 images.
        assert_eq!(row.slots[StepRow::draw(0) as usize][..2], [0, 896]);
        assert_eq!(row.slots[StepRow::draw(1) as usize][..2], [0, 960]);
        let draws: Vec<u32> = (0..3).map(|u| row.slots[StepRow::draw(u) as usize][2]).collect();
        assert_eq!(draws, [21, 22, 23]);
        assert_eq!(f32::from_bits(row.slots[StepRow::optimiser(0) as usize][0]), 1e-3);
        assert_eq!(f32::from_bits(row.slots[StepRow::optimiser(2) as usize][0]), 2e-4);
        assert_eq!((row.slots[StepRow::optimiser(1) as usize][3], row.slots[StepRow::optimiser(2) as usize][3]), (16, 8));
    }
}
