//! Settings from several places: defaults, a preset, what a run was trained with, a `--config` file, `--set`, flags; later ones win.
//!
//! Each place gives some keys of one tree. They are merged key by key, lists as a whole, and what comes out must be a [`TrainConfig`]. What is wrong
//! is said where it was written: by file, line and column, or by flag.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::config::{TrainConfig, VariantsConfig};
use super::optimizer::COMMON;
use super::presets;
use super::toml_file::{column, explain_unknown, parse, plain_words, read};
use crate::error::{Error, Result};

/// What settings are called that begin with no preset, because they bring both networks.
const CUSTOM: &str = "custom";

/// The key of tables of kernels.
const VARIANTS: &str = "variants";

/// What holds where nothing else says otherwise.
const DEFAULTS: &str = include_str!("defaults.toml");

/// A place that settings come from.
#[derive(Debug, Clone, PartialEq)]
enum Source {
    /// A config file.
    File { path: PathBuf, text: String, table: Table },
    /// `--set KEY=VALUE`, or a flag that stands for a key.
    Assign { flag: String, key: Vec<String>, value: Value },
    /// The table of kernels of `--variants`.
    Kernels(VariantsConfig, Value),
}

/// The settings that a command gives, the weakest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layers {
    sources: Vec<Source>,
}

impl Layers {
    /// The settings of a config file.
    ///
    /// # Errors
    /// [`Error::Input`] naming the file, if it cannot be read or is no TOML.
    pub fn of_file(path: &Path) -> Result<Self> {
        let mut layers = Layers::default();
        layers.file(path)?;
        Ok(layers)
    }

    /// Adds the settings of a config file.
    ///
    /// # Errors
    /// As [`Layers::of_file`].
    pub fn file(&mut self, path: &Path) -> Result<()> {
        let text = read(path, "config file", "a run's settings are in its config.toml")?;
        self.text(path, text)
    }

    /// Adds the settings of a config file that has been read.
    ///
    /// # Errors
    /// As [`Layers::of_file`].
    pub fn text(&mut self, path: &Path, text: String) -> Result<()> {
        let table: Table = parse(&text, path)?;
        self.sources.push(Source::File { path: path.to_path_buf(), text, table });
        Ok(())
    }

    /// Adds `KEY=VALUE`, as `--set` takes it: `generator.optimizer.lr=1e-3`, `generator.layers.0.channels=128`. A value that is no TOML is text.
    ///
    /// # Errors
    /// [`Error::Input`] if there is no key or no value.
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        let wrong = || Error::input(format!("--set {assignment}: expected KEY=VALUE, as in --set training.batch=32"));
        let (key, value) = assignment.split_once('=').ok_or_else(wrong)?;
        let (key, value) = (key.trim(), value.trim());
        if value.is_empty() || key.split('.').any(|part| part.trim().is_empty()) {
            return Err(wrong());
        }
        let parsed = toml::from_str::<Table>(&format!("v = {value}")).ok().and_then(|mut table| table.remove("v"));
        self.assign(&format!("--set {key}"), key, parsed.unwrap_or_else(|| Value::String(value.to_string())));
        Ok(())
    }

    /// Adds the value of a flag, if it was given.
    pub fn flag(&mut self, flag: &str, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.assign(flag, key, value.into());
        }
    }

    /// Adds the table of kernels that `--variants` names.
    ///
    /// # Errors
    /// [`Error::Internal`] if it has no TOML form.
    pub fn kernels(&mut self, variants: VariantsConfig) -> Result<()> {
        let value = variants.value()?;
        self.sources.push(Source::Kernels(variants, value));
        Ok(())
    }

    /// Where the table of kernels is from, for messages.
    fn origin_of_kernels(&self, base: Option<&TrainConfig>) -> String {
        let named = self.sources.iter().rev().find_map(|source| match source {
            Source::Kernels(variants, _) => Some(variants.kernels.origin.clone()),
            Source::File { path, table, .. } => table.contains_key(VARIANTS).then(|| path.display().to_string()),
            Source::Assign { flag, key, .. } => (key.first().is_some_and(|key| key == VARIANTS)).then(|| flag.clone()),
        });
        named.or_else(|| base.map(|base| base.variants.kernels.origin.clone())).unwrap_or_default()
    }

    fn assign(&mut self, flag: &str, key: &str, value: Value) {
        let key = key.split('.').map(|part| part.trim().to_string()).collect();
        self.sources.push(Source::Assign { flag: flag.to_string(), key, value });
    }

    /// The value of a key, if these settings give one.
    pub fn value(&self, key: &str) -> Option<&Value> {
        let path: Vec<&str> = key.split('.').collect();
        self.sources.iter().rev().find_map(|source| source.value(&path))
    }

    /// A key's text, if these settings give one.
    pub fn text_of(&self, key: &str) -> Option<String> {
        self.value(key).and_then(Value::as_str).map(str::to_string)
    }

    /// Merges the layers, over `base` if there is one (what a run was trained with), and checks every value.
    ///
    /// # Errors
    /// [`Error::Input`] naming the flag, or the file with line and column, the key, what was got, what was expected and what to do.
    pub fn resolve(&self, base: Option<&TrainConfig>) -> Result<TrainConfig> {
        let mut merged: Table = parse(DEFAULTS, Path::new("the built-in defaults"))?;
        let stored = base.map(|base| base.table()).transpose()?;
        let stored_name = base.map(|base| base.preset.clone());
        let preset = match self.value("preset") {
            Some(Value::String(name)) => Some(name.clone()),
            Some(_) | None => None,
        };
        let default = merged.get("preset").and_then(Value::as_str).unwrap_or_default().to_string();
        // Settings that bring both networks begin with none.
        let whole = ["generator.layers", "discriminator.layers"].iter().all(|key| self.value(key).is_some());
        let default = if whole { CUSTOM.to_string() } else { default };
        let name = preset.clone().or(stored_name.clone()).unwrap_or(default);
        let from_preset = match presets::settings(&name) {
            Ok(settings) => Some(settings),
            Err(_) if name == CUSTOM => None,
            // A run knows its networks, whatever became of the preset that they were taken from.
            Err(_) if stored.is_some() && preset.as_ref().is_none_or(|name| Some(name) == stored_name.as_ref()) => None,
            Err(error) => return Err(Error::input(format!("{}: {error}", self.label("preset")))),
        };
        // A preset that is asked for anew wins over what a run was trained with.
        let anew = preset.is_some() && preset != stored_name;
        let under = if anew { [stored, from_preset] } else { [from_preset, stored] };
        for table in under.into_iter().flatten() {
            hide_length(&mut merged, find(&table, &["run", "kimg"]).or(find(&table, &["run", "steps"])).is_some());
            merge(&mut merged, table);
        }
        for source in &self.sources {
            source.onto(&mut merged)?;
        }
        merged.insert("preset".into(), Value::String(name));
        let mut config: TrainConfig = serde_path_to_error::deserialize(Value::Table(merged)).map_err(|error| {
            let path: Vec<String> = error.path().iter().filter_map(step).collect();
            self.located(&path, error.inner().message())
        })?;
        config.variants.kernels.origin = self.origin_of_kernels(base);
        TrainConfig::settled(config, self)
    }

    /// The error of a key.
    fn located(&self, path: &[String], message: &str) -> Error {
        let words = plain_words(message);
        let at = |path: &[String]| {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            self.sources.iter().rev().find_map(|source| source.place(&path))
        };
        if let Some((name, (what, rest))) = explain_unknown(message, path.last().map(String::as_str)) {
            // The path of an unknown key ends with it, that of an unknown value with its key; inside a list of layers, either may be missing.
            let is_key = message.starts_with("unknown field");
            let ends = path.last().is_some_and(|last| if is_key { *last == name } else { *last == what });
            let section = if ends { &path[..path.len() - 1] } else { path };
            let mut full = section.to_vec();
            full.push(if is_key { name.clone() } else { what.clone() });
            let place = at(&full).or_else(|| self.sources.iter().rev().find_map(|source| source.search(path, &name))).or_else(|| at(path));
            let inside = if section.is_empty() { String::new() } else { format!(" in [{}]", section.join(".")) };
            return Error::input(format!("{}unknown {what} {name}{inside}; {rest}", prefix(place)));
        }
        Error::input(format!("{}{}: {words}", prefix(at(path)), path.join(".")))
    }

    /// How to name a setting in a message: by the flag if it was given as one, by file and place if it comes from there.
    pub fn label(&self, key: &str) -> String {
        let path: Vec<&str> = key.split('.').collect();
        match self.sources.iter().rev().find_map(|source| source.place(&path)) {
            Some(Place::Flag(flag)) => flag,
            Some(place @ Place::File(..)) => format!("{place}: {key}"),
            None => match FLAGS.iter().find(|(k, _)| *k == key) {
                Some((_, flag)) => format!("{flag} ({key})"),
                None => key.to_string(),
            },
        }
    }

    /// An error that begins with a key, with what the key is called here in place of it.
    pub(super) fn relabel(&self, error: Error) -> Error {
        match error {
            Error::Input(text) => Error::Input(match text.split_once(": ") {
                Some((key, rest)) => format!("{}: {rest}", self.label(key)),
                None => text,
            }),
            other => other,
        }
    }

    /// Refuses settings that shape training and differ from what a run was trained with. `run` says which run, and `checkpoint` is the
    /// file that a fork would start from.
    ///
    /// # Errors
    /// [`Error::Input`] naming the flag, both values and `--fork`.
    pub fn check_unchanged(&self, resolved: &TrainConfig, stored: &TrainConfig, run: &Path, checkpoint: Option<&Path>) -> Result<()> {
        let changed = |key: &str, new: &str, old: &str| {
            let fork = match checkpoint {
                Some(file) => format!("`--fork {}`", file.display()),
                None => "`--fork FILE` with a checkpoint".to_string(),
            };
            Error::input(format!(
                "{} is {new}, but {} was trained with {old}; a resumed run continues exactly as it began, so leave it out, or start \
                 a new run from the checkpoint with {fork} instead of --resume",
                self.label(key),
                run.display(),
            ))
        };
        if resolved.preset != stored.preset && self.value("preset").is_some() {
            return Err(changed("preset", &resolved.preset, &stored.preset));
        }
        let (mut new, mut old) = (resolved.table()?, stored.table()?);
        for section in ["run", "variants", "summary", "preset"] {
            new.remove(section);
            old.remove(section);
        }
        // Two paths may hold the same data; their fingerprints decide once they are read.
        let builtin = |source: &str| source.starts_with("builtin:");
        if !builtin(&resolved.data.source) && !builtin(&stored.data.source) {
            for table in [&mut new, &mut old] {
                if let Some(Value::Table(data)) = table.get_mut("data") {
                    data.remove("source");
                }
            }
        }
        if let Some(key) = difference(&new, &old) {
            let show =
                |table: &Table| find(table, &key.iter().map(String::as_str).collect::<Vec<_>>()).map_or("nothing".to_string(), shown);
            return Err(changed(&key.join("."), &show(&new), &show(&old)));
        }
        let (new, old) = (&resolved.variants.kernels.kernels, &stored.variants.kernels.kernels);
        if let Some(product) = new.keys().chain(old.keys()).find(|product| new.get(*product) != old.get(*product)) {
            let show = |kernel: Option<&String>| format!("{} for {product:?}", kernel.map_or("the built-in choice", String::as_str));
            return Err(changed("variants", &show(new.get(product)), &show(old.get(product))));
        }
        Ok(())
    }
}

/// Flags that stand for keys, for messages about keys that nobody gave.
const FLAGS: &[(&str, &str)] = &[
    ("data.source", "--data"),
    ("data.resize", "--resize"),
    ("data.size", "--size"),
    ("preset", "--preset"),
    ("training.batch", "--batch"),
    ("training.micro_batch", "--micro-batch"),
    ("training.seed", "--seed"),
    ("generator.optimizer.lr", "--lr"),
    ("discriminator.optimizer.lr", "--lr"),
    ("training.precision", "--precision"),
    ("augment.mirror", "--mirror"),
    ("run.kimg", "--kimg"),
    ("run.steps", "--steps"),
    ("run.tick_kimg", "--tick"),
    ("run.snap_ticks", "--snap"),
    ("run.keep", "--keep"),
    ("run.outdir", "--outdir"),
    ("run.desc", "--desc"),
    ("run.adapter", "--adapter"),
    ("run.backend", "--backend"),
    ("run.memory_limit", "--memory-limit"),
    ("run.data_on", "--data-on"),
    ("run.checked", "--checked"),
    ("variants", "--variants"),
];

/// Where a key was written.
#[derive(Debug, Clone, PartialEq)]
enum Place {
    File(PathBuf, usize, usize),
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path, line, column) => write!(f, "{}:{line}:{column}", path.display()),
            Place::Flag(flag) => f.write_str(flag),
        }
    }
}

fn prefix(place: Option<Place>) -> String {
    place.map(|place| format!("{place}: ")).unwrap_or_default()
}

fn step(segment: &serde_path_to_error::Segment) -> Option<String> {
    match segment {
        serde_path_to_error::Segment::Map { key } => Some(key.clone()),
        serde_path_to_error::Segment::Seq { index } => Some(index.to_string()),
        _ => None,
    }
}

impl Source {
    fn value(&self, path: &[&str]) -> Option<&Value> {
        match self {
            Source::File { table, .. } => find(table, path),
            Source::Kernels(_, value) => {
                let (first, rest) = path.split_first()?;
                (*first == VARIANTS).then(|| below(value, rest))?
            }
            Source::Assign { key, value, .. } => {
                let rest = path.get(..key.len()).filter(|head| *head == key.as_slice()).map(|_| &path[key.len()..])?;
                below(value, rest)
            }
        }
    }

    /// Where it gives a key, or, for an assignment, something around or below it.
    fn place(&self, path: &[&str]) -> Option<Place> {
        match self {
            Source::File { path: file, text, .. } => {
                let document = DeTable::parse(text).ok()?;
                let at = span(document.get_ref(), path)?;
                let (line, column) = column(text, at);
                Some(Place::File(file.clone(), line, column))
            }
            Source::Kernels(..) => path.first().is_none_or(|first| *first == VARIANTS).then(|| Place::Flag("--variants".into())),
            Source::Assign { flag, key, .. } => {
                let common = key.len().min(path.len());
                (key[..common] == path[..common]).then(|| Place::Flag(flag.clone()))
            }
        }
    }

    /// Where a key of that name lies anywhere below a path.
    fn search(&self, path: &[String], name: &str) -> Option<Place> {
        let Source::File { path: file, text, .. } = self else { return None };
        let document = DeTable::parse(text).ok()?;
        let (first, rest) = path.split_first()?;
        let top: &DeValue<'_> = document.get_ref().get(first.as_str())?.get_ref();
        let value = rest.iter().try_fold(top, |value, part| match value {
            DeValue::Table(table) => Some(table.get(part.as_str())?.get_ref()),
            DeValue::Array(list) => Some(list.get(part.parse::<usize>().ok()?)?.get_ref()),
            _ => None,
        })?;
        let (line, column) = column(text, key_below(value, name)?);
        Some(Place::File(file.clone(), line, column))
    }

    fn onto(&self, merged: &mut Table) -> Result<()> {
        let lengths = ["kimg", "steps"].map(|key| self.value(&["run", key]).is_some());
        if lengths == [true, true] {
            let [kimg, steps] = ["kimg", "steps"].map(|key| prefix(self.place(&["run", key])));
            return Err(Error::input(format!("{kimg}run.kimg and {steps}run.steps are both given; a run has one length")));
        }
        hide_length(merged, lengths.contains(&true));
        match self {
            Source::File { table, .. } => merge(merged, table.clone()),
            Source::Kernels(_, value) => {
                merged.insert(VARIANTS.into(), value.clone());
            }
            Source::Assign { flag, key, value } => {
                let mut table = merged;
                let wrong = |why: String| Error::input(format!("{flag}: {why}"));
                let Some((last, outer)) = key.split_last() else { return Ok(()) };
                let mut outer = outer.iter();
                while let Some(part) = outer.next() {
                    let entry = table.entry(part.clone()).or_insert_with(|| Value::Table(Table::new()));
                    table = match entry {
                        Value::Table(table) => table,
                        Value::Array(list) => {
                            let index = outer.next().unwrap_or(last);
                            let count = list.len();
                            let item = index.parse::<usize>().ok().and_then(|index| list.get_mut(index));
                            match item {
                                Some(Value::Table(table)) => table,
                                _ => {
                                    return Err(wrong(format!(
                                        "{part} is a list of {count} tables; expected a number from 0 to {}, got {index}",
                                        count.max(1) - 1
                                    )));
                                }
                            }
                        }
                        // The number of a schedule becomes a table, say.
                        other => {
                            *other = Value::Table(Table::new());
                            let Value::Table(table) = other else { return Ok(()) };
                            table
                        }
                    };
                }
                merge(table, Table::from_iter([(last.clone(), value.clone())]));
            }
        }
        Ok(())
    }
}

/// The run has one length: a layer that gives either form hides both forms of the layers below.
fn hide_length(merged: &mut Table, given: bool) {
    if let (Some(Value::Table(run)), true) = (merged.get_mut("run"), given) {
        run.remove("kimg");
        run.remove("steps");
    }
}

/// Puts `over` over `under`: tables key by key, everything else as a whole.
fn merge(under: &mut Table, over: Table) {
    if let (Some(old), Some(new)) = (under.get("kind"), over.get("kind"))
        && old != new
    {
        // The other keys belong to the kind that they were given for.
        under.retain(|key, _| COMMON.contains(&key));
    }
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            // Two tables of kernels mixed would be neither.
            (Some(Value::Table(old)), Value::Table(new)) if key != VARIANTS => merge(old, new),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

fn find<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    below(table.get(*first)?, rest)
}

fn below<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, part| match value {
        Value::Table(table) => table.get(*part),
        Value::Array(list) => list.get(part.parse::<usize>().ok()?),
        _ => None,
    })
}

/// First byte of a key (of a list's item: of the item) in a document.
fn span(table: &DeTable<'_>, path: &[&str]) -> Option<usize> {
    let (first, rest) = path.split_first()?;
    let (key, value) = table.get_key_value(*first)?;
    if rest.is_empty() { Some(key.span().start) } else { span_below(value.get_ref(), rest) }
}

fn span_below(value: &DeValue<'_>, path: &[&str]) -> Option<usize> {
    match value {
        DeValue::Table(table) => span(table, path),
        DeValue::Array(list) => {
            let (first, rest) = path.split_first()?;
            let item = list.get(first.parse::<usize>().ok()?)?;
            if rest.is_empty() { Some(item.span().start) } else { span_below(item.get_ref(), rest) }
        }
        _ => None,
    }
}

/// First byte of the first key, or text value, of that name anywhere in a value.
fn key_below(value: &DeValue<'_>, name: &str) -> Option<usize> {
    match value {
        DeValue::Table(table) => table.iter().find_map(|(key, value)| {
            let is_text = matches!(value.get_ref(), DeValue::String(text) if text == name);
            match (key.get_ref() == name, is_text) {
                (true, _) => Some(key.span().start),
                (false, true) => Some(value.span().start),
                (false, false) => key_below(value.get_ref(), name),
            }
        }),
        DeValue::Array(list) => list.iter().find_map(|item| key_below(item.get_ref(), name)),
        _ => None,
    }
}

/// Path of the first key whose values differ.
fn difference(a: &Table, b: &Table) -> Option<Vec<String>> {
    let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    keys.into_iter().find_map(|key| between(a.get(key), b.get(key)).map(|rest| [vec![key.clone()], rest].concat()))
}

/// The rest of the path to where two values differ.
fn between(a: Option<&Value>, b: Option<&Value>) -> Option<Vec<String>> {
    match (a, b) {
        (Some(Value::Table(a)), Some(Value::Table(b))) => difference(a, b),
        (Some(Value::Array(a)), Some(Value::Array(b))) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(i, (a, b))| between(Some(a), Some(b)).map(|rest| [vec![i.to_string()], rest].concat()))
        }
        (a, b) => (a != b).then(Vec::new),
    }
}

/// A value for a message.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) if list.len() > 4 => format!("a list of {}", list.len()),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::precision::Precision;
    use crate::graph::variants::Variants;
    use crate::ops::optimiser::Optimiser;
    use crate::run::presets::PRESETS;

    const FILE: &str = "some/config.toml";

    fn of_text(text: &str) -> Result<Layers> {
        let mut layers = Layers::default();
        layers.text(Path::new(FILE), text.to_string())?;
        Ok(layers)
    }

    fn resolve(text: &str) -> Result<TrainConfig> {
        of_text(text)?.resolve(None)
    }

    fn flags(given: &[(&str, &str, Value)]) -> Layers {
        let mut layers = Layers::default();
        for (flag, key, value) in given {
            layers.flag(flag, key, Some(value.clone()));
        }
        layers
    }

    fn refused(text: &str) -> String {
        let error = resolve(text).expect_err(text);
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    }

    fn table(entries: &[(&str, &str)]) -> VariantsConfig {
        let kernels = entries.iter().map(|(product, label)| (product.to_string(), label.to_string())).collect();
        VariantsConfig { adapter: Some("a \"GPU\"".into()), kernels: Variants { kernels, origin: "v.toml".into() } }
    }

    #[test]
    fn a_table_of_kernels_is_replaced_as_a_whole_and_pinned() {
        let with = |variants: &VariantsConfig| {
            let mut layers = Layers::default();
            layers.kernels(variants.clone()).unwrap();
            layers
        };
        let [one, other] = [table(&[("a", "x"), ("b", "y")]), table(&[("b", "y")])];
        let stored = with(&one).resolve(None).unwrap();
        assert_eq!(stored.recipe().variants, one.kernels);
        assert_eq!(stored.variants.kernels.origin, "v.toml");
        let resumed = Layers::default().resolve(Some(&stored)).unwrap();
        assert_eq!((&resumed, resumed.variants.kernels.origin.as_str()), (&stored, "v.toml"), "a resumed run keeps it");
        let of_file = of_text("variants.kernels.a = \"x\"").unwrap().resolve(Some(&stored)).unwrap();
        assert_eq!(of_file.variants.kernels.origin, "some/config.toml");
        assert_eq!(with(&other).resolve(Some(&stored)).unwrap().variants, other);
        assert!(with(&VariantsConfig::default()).resolve(Some(&stored)).unwrap().variants.is_empty());

        let run = Path::new("runs/00000-digits");
        let check = |layers: Layers, stored: &TrainConfig| {
            layers.check_unchanged(&layers.resolve(Some(stored)).unwrap(), stored, run, None).map_err(|error| error.to_string())
        };
        check(Layers::default(), &stored).unwrap();
        let elsewhere = VariantsConfig { adapter: Some("another".into()), ..one.clone() };
        check(with(&elsewhere), &stored).unwrap();
        let text = check(with(&other), &stored).unwrap_err();
        assert!(
            text.starts_with("--variants is the built-in choice for \"a\", but runs/00000-digits was trained with x for \"a\""),
            "{text}"
        );
        let text = check(with(&one), &resolve("").unwrap()).unwrap_err();
        assert!(text.contains("--variants is x for \"a\"") && text.contains("trained with the built-in choice"), "{text}");
    }

    #[test]
    fn the_default_run_is_1200_steps_of_the_small_dcgan() {
        let config = resolve("").unwrap();
        assert_eq!((config.preset.as_str(), config.data.source.as_str()), ("dcgan-28-small", "builtin:digits"));
        let adam = &config.generator.optimizer;
        assert_eq!((config.training.batch, adam.lr, adam.optimiser), (32, 2e-4.into(), Optimiser::adam(0.5)));
        assert_eq!(config.last_step(0, 0), 1200);
        assert_eq!(config.last_step(700, 700 * 32), 1200, "the length counts from the first step, wherever the run stands");
        assert_eq!(config.tick_steps(), 100);
    }

    #[test]
    fn every_preset_resolves_and_survives_its_own_toml() {
        for preset in PRESETS.iter() {
            let mut config = resolve(preset.text).unwrap();
            assert_eq!(TrainConfig { preset: preset.name.into(), ..config.clone() }, preset.config, "the file alone is the whole preset");
            config.generator.optimizer.lr = (0.1 + 0.2).into(); // needs all 17 digits
            config.training.ema_half_life_kimg = Some(1.0 / 3.0);
            config.run.adapter = Some("llvm \"pipe\"".into());
            config.variants = table(&[("matmul_nn 8x16 16x12", "gemm_rows_plain/n")]);
            let text = config.to_toml().unwrap();
            assert_eq!(resolve(&text).unwrap(), config, "{text}");
        }
    }

    #[test]
    fn flags_win_over_assignments_those_over_the_file_and_the_file_over_the_preset() {
        let mut layers = of_text("[training]\nbatch = 32\nseed = 4\n[generator.optimizer]\nlr = 0.01\n[run]\nkimg = 5\n").unwrap();
        layers.set("training.seed=5").unwrap();
        layers.set("run.desc = two words").unwrap();
        layers.set("generator.layers.0.channels=48").unwrap();
        layers.flag("--batch", "training.batch", Some(16));
        layers.flag("--steps", "run.steps", Some(7));
        let config = layers.resolve(None).unwrap();
        assert_eq!((config.training.batch, config.training.seed, config.run.desc.as_str()), (16, 5, "two-words"));
        assert_eq!((config.generator.optimizer.lr, config.discriminator.optimizer.lr), (0.01.into(), 2e-4.into()));
        assert_eq!((config.run.kimg, config.run.steps), (None, Some(7)), "a length given by flag hides the file's other form");
        assert_eq!(config.last_step(0, 0), 7);
        assert!(config.generator.layers[0].to_string().contains("48"), "{}", config.generator.layers[0]);
    }

    #[test]
    fn settings_with_both_networks_need_no_preset() {
        let networks = "[generator]\nlayers = [{ type = \"linear\", features = \"data\" }]\n[discriminator]\nlayers = [{ type = \"linear\", features = 1 }]\n";
        let config = resolve(&format!("{networks}[data]\nsource = \"builtin:ring\"\n[run]\nkimg = 1\n")).unwrap();
        assert_eq!((config.preset.as_str(), config.data.size, config.training.batch), ("custom", None, 64));
        assert_eq!(resolve(&config.to_toml().unwrap()).unwrap(), config);
        let text = refused(networks);
        assert!(text.contains("data") && text.contains("source"), "{text}");
    }

    #[test]
    fn a_list_of_layers_replaces_the_presets() {
        let config = resolve("preset = \"mlp\"\n[discriminator]\nlayers = [{ type = \"dense\", features = 1 }]\n").unwrap();
        assert_eq!((config.discriminator.layers.len(), config.generator.layers.len()), (1, 9));
    }

    #[test]
    fn bad_assignments() {
        let refused = |assignment: &str| {
            let mut layers = Layers::default();
            let error = layers.set(assignment).and_then(|()| layers.resolve(None).map(drop)).expect_err(assignment);
            assert_eq!(error.exit_code(), 2, "{error}");
            error.to_string()
        };
        for (assignment, needle) in [
            ("training.batch", "--set training.batch: expected KEY=VALUE"),
            ("=3", "expected KEY=VALUE"),
            ("training.batch=", "expected KEY=VALUE"),
            ("training.batch=many", "--set training.batch: training.batch: invalid type: string \"many\", expected a whole number"),
            ("training.bacth=3", "--set training.bacth: unknown key bacth in [training]; did you mean batch?"),
            ("training.batch=0", "--set training.batch: got 0, expected at least 2 images"),
            (
                "generator.layers.99.channels=3",
                "--set generator.layers.99.channels: layers is a list of 8 tables; expected a number from 0 to 7",
            ),
            ("generator.layers.0.type=conv3", "unknown type conv3 in [generator.layers.0]; did you mean conv?"),
        ] {
            let text = refused(assignment);
            assert!(text.contains(needle), "{assignment} gave: {text}");
        }
    }

    #[test]
    fn mistakes_in_a_file_are_located() {
        let text = refused("# settings\n[training]\n  bacth = 3\n");
        assert!(
            text.starts_with(
                "some/config.toml:3:3: unknown key bacth in [training]; did you mean batch? keys here are batch, micro_batch, seed,"
            ),
            "{text}"
        );
        let text = refused("[trianing]\nbatch = 3\n");
        assert!(text.contains("some/config.toml:1:2: unknown key trianing; did you mean training?"), "{text}");
        let text = refused("[training]\nbatch = \"many\"\n");
        assert!(text.contains(":2:1: training.batch: invalid type: string \"many\", expected a whole number, 0 or more"), "{text}");
        let text = refused("[training]\nbatch = -3\n");
        assert!(text.contains("training.batch") && text.contains("-3"), "{text}");
        let text = refused("[training\n");
        assert!(text.contains("some/config.toml:1:"), "{text}");
        let layer = |text: &str| refused(&format!("[generator]\nlayers = [\n  {{ type = \"tanh\" }},\n  {text},\n]\n"));
        let text = layer("{ type = \"conv2d\", channels = 3, kernl = 4 }");
        assert!(
            text.starts_with("some/config.toml:4:36: unknown key kernl in [generator.layers.1]; did you mean kernel? keys here are"),
            "{text}"
        );
        let text = layer("{ type = \"conv2\", channels = 3 }");
        assert!(text.starts_with("some/config.toml:4:5: unknown type conv2 in [generator.layers.1]; did you mean conv"), "{text}");
        let text = layer("{ type = \"conv2d\", channels = \"many\", kernel = 3 }");
        assert!(text.starts_with("some/config.toml:4:3: generator.layers.1: expected a whole number of at least 1, or \"data\""), "{text}");
        let text = layer("{ type = \"residual\", layers = [{ type = \"relu\", slope = 1 }] }");
        assert!(text.starts_with("some/config.toml:4:51: unknown key slope in [generator.layers.1]; no key fits here"), "{text}");
    }

    #[test]
    fn bad_values_name_the_file_the_key_and_what_was_expected() {
        for (text, needles) in [
            ("[generator.optimizer]\nlr = nan", &["some/config.toml:2:1: generator.optimizer.lr: got NaN", "finite number, 0 or more"][..]),
            ("[discriminator.optimizer]\nlr = inf", &["discriminator.optimizer.lr: got inf"]),
            ("[generator.optimizer]\nlr = 0", &["generator.optimizer.lr: got 0,"]),
            ("[generator.optimizer]\nlr = -1e-4", &["got -0.0001"]),
            ("[generator.optimizer]\nlr = 1e-60", &["generator.optimizer.lr", "above 0"]),
            ("[generator]\nz = 0", &["generator.z: got 0, expected 1 to 65536"]),
            ("[generator]\nlayers = []", &["some/config.toml:2:1: generator.layers: got no layers"]),
            ("[data]\nsize = 0", &["data.size: got 0"]),
            ("[loss]\nkind = \"bse\"", &["some/config.toml:2:1: ", "bse", "did you mean bce?"]),
            ("[loss]\nreal_label = 2", &["some/config.toml:2:1: loss.real_label: got 2, expected a label from 0 to 1"]),
            ("[loss]\nkind = \"hinge\"\nreal_label = 0.9", &["loss.real_label: got 0.9, expected no label"]),
            (
                "[loss]\nfeature_matching = 0.5",
                &["some/config.toml:2:1: loss.feature_matching: invalid type: floating point 0.5, expected a table"],
            ),
            ("[loss]\nkind = \"bce_probabilities\"", &["some/config.toml:2:1: loss.kind: got bce_probabilities, expected bce, for a"]),
            (
                "preset = \"mlp-cnn\"\n[loss]\nkind = \"bce\"",
                &["some/config.toml:3:1: loss.kind: got bce, expected bce_probabilities, for a"],
            ),
            (
                "[training]\nbatch = 35\n[discriminator]\nlayers = [{ type = \"minibatch_stddev\" }, { type = \"linear\", features = 1 }]",
                &[
                    "some/config.toml:2:1: training.batch: got batches of 35, expected batches that minibatch_stddev can split into groups of 2 to 4",
                ],
            ),
            ("[augment]\nmirror = 2", &["some/config.toml:2:1: augment.mirror: got 2, expected a probability"]),
            ("[augment.rotate]\np = 1\ndegrees = 720", &["some/config.toml:3:1: augment.rotate.degrees: got 720"]),
            ("[augment]\nscale = { p = 1 }", &["some/config.toml:2:1: augment.scale: ", "range"]),
            ("[augment]\nfill = \"black\"", &["some/config.toml:2:1: augment.fill: ", "black", "\"edge\" or a number"]),
            ("[augment]\nmiror = 0.5", &["some/config.toml:2:1: unknown key miror in [augment]; did you mean mirror?"]),
            ("[training]\nbatch = 0", &["training.batch: got 0", "at least 2"]),
            ("[training]\nbatch = 1", &["training.batch: got 1", "batch norm"]),
            ("[training]\nmicro_batch = 0", &["training.micro_batch: got 0, expected a divisor of the batch of 32"]),
            ("[training]\nmicro_batch = 12", &["training.micro_batch: got 12, expected a divisor of the batch of 32"]),
            ("[training]\nmicro_batch = 64", &["training.micro_batch: got 64, expected a divisor of the batch of 32"]),
            ("[training]\nmicro_batch = 1", &["training.micro_batch: got 1", "batch norm"]),
            ("[generator.optimizer]\nbeta1 = 1.0", &["generator.optimizer.beta1: got 1,"]),
            ("[generator.optimizer]\nbeta2 = 0.9999999999", &["generator.optimizer.beta2: got 0.9999999999,"]),
            ("[generator.optimizer]\neps = 0", &["generator.optimizer.eps: got 0,"]),
            ("[training]\nd_steps = 0", &["training.d_steps: got 0, expected 1 to 14"]),
            ("[training]\nema_half_life_kimg = -1", &["training.ema_half_life_kimg: got -1"]),
            ("[training]\nema_ramp = 0", &["training.ema_ramp: got 0"]),
            ("[run]\nkimg = 0", &["run.kimg: got 0, expected thousands of images, above 0"]),
            ("[run]\nkimg = nan", &["run.kimg: got NaN"]),
            ("[run]\nsteps = 0", &["run.steps: got 0"]),
            ("[run]\nkimg = 1\nsteps = 1", &["run.kimg", "run.steps", "both given"]),
            ("[run]\ntick_kimg = -1", &["run.tick_kimg: got -1"]),
            ("[run]\nsnap_ticks = 0", &["run.snap_ticks: got 0"]),
            ("[run]\nkeep = 0", &["run.keep: got 0"]),
            ("[run]\nmemory_limit = 0", &["run.memory_limit: got 0, expected MiB of device memory"]),
            ("[run]\nbackend = \"cuda\"", &["run.backend: got \"cuda\", expected vulkan, metal or dx12"]),
            (
                "preset = \"dcgan28\"",
                &["some/config.toml:1:1: preset", "no preset \"dcgan28\"; did you mean dcgan-28?", "mlp, dcgan-28-small"],
            ),
        ] {
            let message = refused(text);
            for needle in needles {
                assert!(message.contains(needle), "{text:?} gave: {message}");
            }
        }
    }

    #[test]
    fn a_flag_is_named_as_a_flag() {
        let layers = flags(&[("--lr", "generator.optimizer.lr", Value::Float(f64::NAN))]);
        let message = layers.resolve(None).unwrap_err().to_string();
        assert!(message.starts_with("--lr: got NaN, expected a finite number, 0 or more"), "{message}");
    }

    #[test]
    fn a_precision_is_one_of_three() {
        assert_eq!(resolve("").unwrap().training.precision, Precision::F32);
        let half = resolve("[training]\nprecision = \"f16\"").unwrap();
        assert_eq!(half.recipe().gan_config(&[1, 28, 28], None).precision, Precision::F16);
        let matrix = resolve("[training]\nprecision = \"f16-matrix\"").unwrap();
        assert_eq!(matrix.recipe().gan_config(&[1, 28, 28], None).precision, Precision::F16Matrix);
        let message = refused("[training]\nprecision = \"f8\"");
        assert!(["precision", "f32", "f16,", "f16-matrix"].iter().all(|word| message.contains(word)), "{message}");
    }

    #[test]
    fn a_batch_must_fit_into_the_data() {
        let config = resolve("").unwrap();
        config.check_data(32).unwrap();
        let message = config.check_data(31).unwrap_err().to_string();
        assert!(message.contains("--batch") && message.contains("32") && message.contains("only 31 images"), "{message}");
    }

    #[test]
    fn a_micro_batch_of_the_whole_batch_is_none() {
        assert_eq!(resolve("[training]\nmicro_batch = 32").unwrap(), resolve("").unwrap());
        let split = resolve("[training]\nmicro_batch = 8").unwrap();
        let gan = split.recipe().gan_config(&[1, 28, 28], None);
        assert_eq!((gan.batch, gan.micro_batch, gan.micro_batches()), (32, 8, 4));
        assert_eq!(resolve(&split.to_toml().unwrap()).unwrap(), split);
        // A dense network has no norm.
        resolve("preset = \"mlp\"\n[training]\nmicro_batch = 1").unwrap();
    }

    #[test]
    fn resuming_refuses_changes_that_shape_training_and_takes_the_others() {
        let stored = resolve("").unwrap();
        let run = Path::new("runs/00000-digits");
        let check = |assignments: &[(&str, &str, Value)]| {
            let layers = flags(assignments);
            let resolved = layers.resolve(Some(&stored)).unwrap();
            layers.check_unchanged(&resolved, &stored, run, Some(Path::new("x.safetensors")))
        };
        check(&[]).unwrap();
        check(&[("--batch", "training.batch", 32.into())]).unwrap();
        check(&[
            ("--kimg", "run.kimg", 500.into()),
            ("--tick", "run.tick_kimg", 1.0.into()),
            ("--snap", "run.snap_ticks", 2.into()),
            ("--keep", "run.keep", 9.into()),
            ("--outdir", "run.outdir", "elsewhere".into()),
            ("--adapter", "run.adapter", "0".into()),
            ("--checked", "run.checked", true.into()),
        ])
        .unwrap();
        let text = check(&[("--batch", "training.batch", 64.into())]).unwrap_err().to_string();
        assert!(
            text.contains("--batch is 64, but runs/00000-digits was trained with 32") && text.contains("--fork x.safetensors"),
            "{text}"
        );
        let text = check(&[("--micro-batch", "training.micro_batch", 8.into())]).unwrap_err().to_string();
        assert!(text.contains("--micro-batch is 8") && text.contains("trained with nothing"), "{text}");
        let text = check(&[("--lr", "discriminator.optimizer.lr", 1e-3.into())]).unwrap_err().to_string();
        assert!(text.contains("--lr is 0.001") && text.contains("0.0002"), "{text}");
        let text = check(&[("--set", "generator.layers.1.type", "tanh".into())]).unwrap_err().to_string();
        assert!(text.contains("is tanh") && text.contains("trained with batch_norm"), "{text}");
        let text = check(&[("--data", "data.source", "builtin:shapes".into())]).unwrap_err().to_string();
        assert!(text.contains("--data is builtin:shapes") && text.contains("builtin:digits"), "{text}");
        let text = check(&[("--preset", "preset", "mlp".into())]).unwrap_err().to_string();
        assert!(text.contains("--preset is mlp, but runs/00000-digits was trained with dcgan-28-small"), "{text}");
    }
}
