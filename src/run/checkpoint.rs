//! Checkpoints: one safetensors file with the whole [`TrainState`], equal bytes for equal runs.
//!
//! The file has a single metadata key, [`METADATA_KEY`], whose value is JSON with sorted keys: the format version, the counters, the data
//! set's identity and the settings that shape training. One key, because the safetensors writer orders several at random. The settings
//! are TOML text inside that JSON, because the TOML reader gives back every bit of a float and the JSON reader may not.
//!
//! Nothing here tells of time, paths, run length, tick, adapter or anything else in which two equal runs may differ.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, SafeTensorError, View};
use serde::{Deserialize, Serialize};

use super::config::Recipe;
use super::disk;
use super::state::{DataId, HostData, HostTensor, Tensors, TrainState};
use crate::error::{Error, Result};

/// The format version that this program writes, and the newest that it reads.
pub const FORMAT: u64 = 1;

/// The one metadata key.
pub const METADATA_KEY: &str = "ganymede";

/// A checkpoint file in a run folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckpointFile {
    /// Images seen, from its name.
    pub images_seen: u64,
    /// Where it is.
    pub path: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    format: u64,
    step: u64,
    images_seen: u64,
    /// [`Recipe`] as TOML.
    config: String,
    data: DataId,
    extra: BTreeMap<String, String>,
}

/// The file name of the checkpoint after `images_seen` images.
pub fn file_name(images_seen: u64) -> String {
    format!("checkpoint-{images_seen:012}.safetensors")
}

/// Images seen, from a name made by [`file_name`].
fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("checkpoint-")?.strip_suffix(".safetensors")?;
    let images_seen = digits.parse().ok()?;
    // Only the exact form: anything else in the folder is the user's own file, and is neither resumed from nor removed.
    (file_name(images_seen) == name).then_some(images_seen)
}

/// The checkpoints in `folder`, oldest first.
///
/// # Errors
/// [`Error::Input`] if the folder cannot be read.
pub fn list(folder: &Path) -> Result<Vec<CheckpointFile>> {
    let unreadable = |error: std::io::Error| Error::input(format!("cannot read the folder {}: {}", folder.display(), disk::plain(&error)));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if let Some(images_seen) = path.file_name().and_then(|name| name.to_str()).and_then(parse_name) {
            found.push(CheckpointFile { images_seen, path });
        }
    }
    found.sort();
    Ok(found)
}

/// Writes tensors as a plain safetensors file, without the metadata that makes a checkpoint.
///
/// # Errors
/// [`Error::Environment`] if the file cannot be written; an old one is left alone then.
pub fn write_tensors(path: &Path, tensors: &Tensors) -> Result<()> {
    let bytes = safetensors::serialize(tensors, None)
        .map_err(|error| Error::internal(format!("{}: tensors have no safetensors form: {error}", path.display())))?;
    disk::replace(path, &bytes)
}

/// Writes the checkpoint of `state` into `folder`, and once it is safely on disk removes all but the `keep` newest.
///
/// # Errors
/// [`Error::Diverged`] naming the tensor if a value is not finite, [`Error::Environment`] if the disk refuses. Either way the checkpoints
/// that were there still are.
pub fn write(folder: &Path, state: &TrainState, keep: usize) -> Result<PathBuf> {
    let bytes = encode(state)?;
    let path = folder.join(file_name(state.images_seen));
    disk::replace(&path, &bytes)?;
    let all = list(folder)?;
    for old in &all[..all.len().saturating_sub(keep.max(1))] {
        fs::remove_file(&old.path).map_err(|error| {
            Error::environment(format!("cannot remove the old checkpoint {}: {}", old.path.display(), disk::plain(&error)))
        })?;
    }
    Ok(path)
}

/// Reads a checkpoint. Nothing is allocated beyond the file's real size.
///
/// # Errors
/// [`Error::Input`] naming the file and what is wrong with it.
pub fn read(path: &Path) -> Result<TrainState> {
    let unreadable = |why: &str| Error::input(format!("cannot read the checkpoint {}: {why}", path.display()));
    let metadata = fs::metadata(path).map_err(|error| unreadable(&disk::plain(&error)))?;
    if !metadata.is_file() {
        return Err(unreadable("it is not a file"));
    }
    let bytes = fs::read(path).map_err(|error| unreadable(&disk::plain(&error)))?;
    decode(&bytes, path)
}

/// The bytes of the checkpoint of `state`.
///
/// # Errors
/// [`Error::Diverged`] naming the first tensor with a value that is not finite.
pub fn encode(state: &TrainState) -> Result<Vec<u8>> {
    for (name, tensor) in &state.tensors {
        if let Some((index, value)) = tensor.first_non_finite() {
            return Err(Error::Diverged(format!("tensor {name} holds {value} (element {index}) at step {}", state.step)));
        }
    }
    let config = toml::to_string(&state.recipe).map_err(|error| Error::internal(format!("settings have no TOML form: {error}")))?;
    let metadata = Metadata {
        format: FORMAT,
        step: state.step,
        images_seen: state.images_seen,
        config,
        data: state.data.clone(),
        extra: state.extra.clone(),
    };
    // By way of a `Value`, whose maps are sorted, so that the order of the struct's fields does not matter.
    let metadata = serde_json::to_value(&metadata)
        .and_then(|value| serde_json::to_string(&value))
        .map_err(|error| Error::internal(format!("checkpoint metadata has no JSON form: {error}")))?;
    safetensors::serialize(&state.tensors, Some(HashMap::from([(METADATA_KEY.to_string(), metadata)])))
        .map_err(|error| Error::internal(format!("checkpoint cannot be encoded: {error}")))
}

/// The state in the bytes of a checkpoint; `origin` names the file in messages.
///
/// # Errors
/// [`Error::Input`] naming the file and what is wrong with it.
pub fn decode(bytes: &[u8], origin: &Path) -> Result<TrainState> {
    let bad = |why: String| Error::input(format!("{}: {why}", origin.display()));
    let (_, listing) = SafeTensors::read_metadata(bytes).map_err(|error| bad(explain(bytes, &error)))?;
    let text = listing.metadata().as_ref().and_then(|map| map.get(METADATA_KEY)).ok_or_else(|| {
        bad(format!("it is a safetensors file, but not a checkpoint made by ganymede (its metadata has no key {METADATA_KEY:?})"))
    })?;
    let damaged = |error: &dyn std::fmt::Display| bad(format!("its metadata is damaged ({error}); use another checkpoint"));
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| damaged(&error))?;
    let format = value.get("format").and_then(serde_json::Value::as_u64).ok_or_else(|| damaged(&"no format version"))?;
    if format > FORMAT {
        return Err(bad(format!("it was made by a newer ganymede: format {format}, and this one reads up to {FORMAT}; upgrade ganymede")));
    }
    let metadata: Metadata = serde_json::from_value(value).map_err(|error| damaged(&error))?;
    let mut recipe: Recipe = toml::from_str(&metadata.config).map_err(|error| damaged(&error.message().replace('\n', " ")))?;
    recipe.variants.origin = origin.display().to_string();
    let file = SafeTensors::deserialize(bytes).map_err(|error| bad(explain(bytes, &error)))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let words = view.data().chunks_exact(4).map(|w| [w[0], w[1], w[2], w[3]]);
        let data = match view.dtype() {
            Dtype::F32 => HostData::F32(words.map(f32::from_le_bytes).collect()),
            Dtype::U32 => HostData::U32(words.map(u32::from_le_bytes).collect()),
            other => {
                return Err(bad(format!("tensor {name} has type {other:?}, but checkpoints hold F32 and U32 only")));
            }
        };
        tensors.insert(name.to_string(), HostTensor { shape: view.shape().to_vec(), data });
    }
    Ok(TrainState { tensors, step: metadata.step, images_seen: metadata.images_seen, recipe, data: metadata.data, extra: metadata.extra })
}

/// What is wrong with a file that the safetensors reader refused.
fn explain(bytes: &[u8], error: &SafeTensorError) -> String {
    let stranger = || "it is not a safetensors file, so not a checkpoint".to_string();
    let cut = |expected: u64| {
        format!(
            "it is cut short: {} bytes, and its header says {expected}; it was not copied whole, so copy it again or \
             use another checkpoint",
            bytes.len()
        )
    };
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return if bytes.is_empty() { "it is empty; use another checkpoint".into() } else { stranger() };
    };
    let header = u64::from_le_bytes(*length);
    match error {
        // A safetensors header is JSON, so it starts with a brace; anything else has eight bytes here that are no length.
        SafeTensorError::InvalidHeaderLength if rest.first() == Some(&b'{') => cut(header.saturating_add(8)),
        SafeTensorError::MetadataIncompleteBuffer => match declared_size(bytes, header) {
            Some(declared) if declared > bytes.len() as u64 => cut(declared),
            Some(declared) => {
                format!("it is damaged: {} bytes, and its header says {declared}; copy it again or use another checkpoint", bytes.len())
            }
            None => "it is damaged: its header does not fit its length; use another checkpoint".into(),
        },
        _ if rest.first() != Some(&b'{') => stranger(),
        other => format!("it is damaged ({other}); copy it again or use another checkpoint"),
    }
}

/// The file size that a safetensors header promises.
fn declared_size(bytes: &[u8], header: u64) -> Option<u64> {
    let text = bytes.get(8..8usize.checked_add(usize::try_from(header).ok()?)?)?;
    let listing: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(text).ok()?;
    let ends = listing.values().filter_map(|tensor| tensor.get("data_offsets")?.get(1)?.as_u64());
    ends.max()?.checked_add(8)?.checked_add(header)
}

impl View for &HostTensor {
    fn dtype(&self) -> Dtype {
        match self.data {
            HostData::F32(_) => Dtype::F32,
            HostData::U32(_) => Dtype::U32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match &self.data {
            HostData::F32(values) if cfg!(target_endian = "little") => bytemuck::cast_slice(values).into(),
            HostData::U32(values) if cfg!(target_endian = "little") => bytemuck::cast_slice(values).into(),
            HostData::F32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into(),
            HostData::U32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into(),
        }
    }

    fn data_len(&self) -> usize {
        self.data.len() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::layers::Layers;

    fn state() -> TrainState {
        let mut config = Layers::default().resolve(None).unwrap();
        // Floats that need all their digits, and that a hasty decimal reader gets wrong in the last bit.
        config.generator.optimizer.lr = (0.1 + 0.2).into();
        config.discriminator.optimizer.lr = 1.000_000_000_000_000_2e-8.into();
        TrainState {
            tensors: BTreeMap::from([
                ("G.main.0.weight".into(), HostTensor::f32([2, 3], vec![1.0, -2.5, 3e-41, f32::MIN_POSITIVE, -0.0, 7.0])),
                ("D.main.0.weight".into(), HostTensor::f32([1], vec![0.5])),
                ("stats.count".into(), HostTensor::u32([], vec![u32::MAX])),
            ]),
            step: 700,
            images_seen: 44_800,
            recipe: config.recipe(),
            data: DataId {
                source: "builtin:digits".into(),
                fingerprint: "f00d".into(),
                channels: 1,
                height: 28,
                width: 28,
                class_names: Vec::new(),
            },
            extra: BTreeMap::from([("b".into(), "2".into()), ("a".into(), "1".into())]),
        }
    }

    fn refused(bytes: &[u8]) -> String {
        let error = decode(bytes, Path::new("c.safetensors")).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        let text = error.to_string();
        assert!(text.starts_with("c.safetensors: "), "{text}");
        text
    }

    /// A file like `state()`'s with other metadata.
    fn with_metadata(metadata: &str) -> Vec<u8> {
        safetensors::serialize(&state().tensors, Some(HashMap::from([(METADATA_KEY.to_string(), metadata.to_string())]))).unwrap()
    }

    #[test]
    fn a_state_survives_bit_for_bit_and_encodes_the_same_every_time() {
        let state = state();
        let bytes = encode(&state).unwrap();
        for _ in 0..20 {
            assert_eq!(encode(&state).unwrap(), bytes);
        }
        let read = decode(&bytes, Path::new("x")).unwrap();
        assert_eq!(read, state);
        assert_eq!(encode(&read).unwrap(), bytes);
        assert_eq!(read.tensors["G.main.0.weight"].as_f32().unwrap()[4].to_bits(), (-0.0f32).to_bits());
    }

    #[test]
    fn metadata_is_one_key_of_sorted_compact_json_without_run_settings() {
        let bytes = encode(&state()).unwrap();
        let (_, listing) = SafeTensors::read_metadata(&bytes).unwrap();
        let map = listing.metadata().clone().unwrap();
        assert_eq!(map.keys().collect::<Vec<_>>(), [METADATA_KEY]);
        let text = &map[METADATA_KEY];
        let positions: Vec<usize> = ["config", "data", "extra", "format", "images_seen", "step"]
            .iter()
            .map(|key| text.find(&format!("\"{key}\":")).unwrap_or_else(|| panic!("no {key} in {text}")))
            .collect();
        assert!(positions.is_sorted(), "{text}");
        assert!(text.contains(r#""extra":{"a":"1","b":"2"}"#), "{text}");
        let conditional = DataId { class_names: vec!["cat".into(), "dog".into()], ..state().data };
        let read = decode(&encode(&TrainState { data: conditional.clone(), ..state() }).unwrap(), Path::new("x")).unwrap();
        assert_eq!((read.data.classes(), read.data), (Some(2), conditional));
        // So that checkpoints of networks without classes are what they were.
        for absent in ["class_names", "outdir", "kimg\\n", "tick", "snap", "keep", "adapter", "runs", "time"] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(file_name(76_800), "checkpoint-000000076800.safetensors");
        for images in [0, 1, 76_800, 1_234_567_890_123_456] {
            assert_eq!(parse_name(&file_name(images)), Some(images));
        }
        for name in [
            "checkpoint-64.safetensors",
            ".checkpoint-000000000064.safetensors.tmp",
            "checkpoint-000000000064.safetensors.bak",
            "best.safetensors",
        ] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }

    #[test]
    fn every_cut_is_refused_and_said_to_be_one() {
        let bytes = encode(&state()).unwrap();
        for length in (0..bytes.len()).rev() {
            let text = refused(&bytes[..length]);
            if length > 8 {
                assert!(text.contains(&format!("cut short: {length} bytes")), "{length}: {text}");
            }
        }
        let text = refused(&bytes[..bytes.len() - 1]);
        assert!(text.contains(&format!("its header says {}", bytes.len())), "{text}");
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(refused(&longer).contains("damaged"));
    }

    #[test]
    fn strangers_are_refused_without_allocating_what_they_claim() {
        assert!(refused(b"\x89PNG\r\n\x1a\n0123456789").contains("not a safetensors file"));
        assert!(refused(b"hello").contains("not a safetensors file"));
        assert!(refused(&[0xff; 64]).contains("not a safetensors file"));
        let plain = safetensors::serialize(&state().tensors, None).unwrap();
        assert!(refused(&plain).contains("not a checkpoint made by ganymede"));
        // A header that promises an exabyte.
        let header = r#"{"a":{"dtype":"F32","shape":[268435456,1073741824],"data_offsets":[0,1152921504606846976]}}"#;
        let mut huge = (header.len() as u64).to_le_bytes().to_vec();
        huge.extend(header.bytes());
        assert!(refused(&huge).contains("cut short"), "{}", refused(&huge));
        // Shapes whose product overflows.
        let header = r#"{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,8]}}"#;
        let mut overflow = (header.len() as u64).to_le_bytes().to_vec();
        overflow.extend(header.bytes());
        overflow.extend([0; 8]);
        assert!(refused(&overflow).contains("damaged"), "{}", refused(&overflow));
    }

    #[test]
    fn versions_types_and_damaged_metadata() {
        let text = refused(&with_metadata(r#"{"format":2,"something":"new"}"#));
        assert!(text.contains("made by a newer ganymede: format 2, and this one reads up to 1; upgrade ganymede"), "{text}");
        assert!(refused(&with_metadata("{")).contains("metadata is damaged"));
        assert!(refused(&with_metadata(r#"{"step":1}"#)).contains("no format version"));
        assert!(refused(&with_metadata(r#"{"format":1}"#)).contains("metadata is damaged (missing field"));
        let bytes = encode(&state()).unwrap();
        let wrong = String::from_utf8_lossy(&bytes[8..]).replace("\"F32\"", "\"I32\"");
        let end = wrong.find("}}").unwrap();
        let mut wrong_type = bytes.clone();
        wrong_type[8..8 + end].copy_from_slice(&wrong.as_bytes()[..end]);
        assert!(refused(&wrong_type).contains("has type I32"), "{}", refused(&wrong_type));
    }

    #[test]
    fn tensors_must_be_those_of_the_networks() {
        let state = state();
        let origin = "c.safetensors";
        state.check_tensors(&state.tensors, &origin).unwrap();
        let refused = |change: &dyn Fn(&mut BTreeMap<String, HostTensor>)| {
            let mut expected = state.tensors.clone();
            change(&mut expected);
            let error = state.check_tensors(&expected, &origin).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        };
        let text = refused(&|t| drop(t.insert("G.main.0.weight".into(), HostTensor::f32([3, 2], vec![0.0; 6]))));
        assert!(text.contains("c.safetensors: tensor G.main.0.weight is F32 (2, 3), but here it must be F32 (3, 2)"), "{text}");
        let text = refused(&|t| drop(t.insert("stats.count".into(), HostTensor::f32([], vec![0.0]))));
        assert!(text.contains("stats.count is U32 (), but here it must be F32 ()"), "{text}");
        let text = refused(&|t| drop(t.insert("G.new".into(), HostTensor::f32([1], vec![0.0]))));
        assert!(text.contains("tensor G.new is missing, which preset dcgan-28-small needs as F32 (1)"), "{text}");
        let text = refused(&|t| drop(t.remove("D.main.0.weight")));
        assert!(text.contains("tensor D.main.0.weight has no place in preset dcgan-28-small"), "{text}");
    }

    #[test]
    fn non_finite_tensors_never_replace_a_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let good = state();
        let path = write(folder.path(), &good, 1).unwrap();
        let before = fs::read(&path).unwrap();
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut bad = good.clone();
            bad.images_seen += 64;
            bad.tensors.insert("G.main.3.bias".into(), HostTensor::f32([3], vec![0.0, value, 0.0]));
            let error = write(folder.path(), &bad, 1).unwrap_err();
            assert_eq!(error.exit_code(), 4);
            assert!(error.to_string().contains("tensor G.main.3.bias holds") && error.to_string().contains("element 1"), "{error}");
        }
        assert_eq!(list(folder.path()).unwrap().len(), 1);
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn keeps_the_newest_and_leaves_other_files_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("checkpoint-best.safetensors"), b"mine").unwrap();
        for i in 1..=5u64 {
            let mut state = state();
            state.images_seen = i * 64;
            write(folder.path(), &state, 3).unwrap();
        }
        let left: Vec<u64> = list(folder.path()).unwrap().iter().map(|c| c.images_seen).collect();
        assert_eq!(left, [192, 256, 320]);
        assert!(folder.path().join("checkpoint-best.safetensors").exists());
    }
}
