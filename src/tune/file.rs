//! The file that `ganymede tune` writes and `--variants` reads.
//!
//! TOML, for people to read and to edit: what was timed where, and for every product the chosen kernel beside the times of all candidates. Only
//! the kernels count when it is read; whether they exist and can run their products is checked when a plan is made of them.

use super::{Outcome, Tuned};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::variants::Variants;
use crate::run::config::VariantsConfig;
use crate::run::disk;
use crate::run::toml_file::{parse, read};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The format version that this program writes and reads.
pub const FORMAT: i64 = 1;

/// Contents of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariantsFile {
    /// [`FORMAT`].
    pub format: i64,
    /// Version of the program that wrote it.
    #[serde(default)]
    pub ganymede: String,
    /// Name of the adapter that was timed.
    pub adapter: String,
    /// Its driver.
    #[serde(default)]
    pub driver: String,
    /// Preset that the products are from.
    #[serde(default)]
    pub preset: String,
    /// Batch that the products are for.
    #[serde(default)]
    pub batch: u32,
    /// The choice, by product.
    pub products: BTreeMap<String, Entry>,
}

/// What is chosen for a product, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Label of the kernel to use.
    pub kernel: String,
    /// How often a step computes the product.
    #[serde(default)]
    pub uses: usize,
    /// Best time of each candidate.
    #[serde(default)]
    pub microseconds: BTreeMap<String, f64>,
}

impl VariantsFile {
    /// What tuning found out for a preset and batch.
    pub fn new(gpu: &Gpu, preset: &str, batch: u32, outcome: &Outcome) -> Self {
        let entry = |tuned: &Tuned| Entry {
            kernel: tuned.times[tuned.chosen].0.clone(),
            uses: tuned.uses,
            microseconds: tuned.times.iter().filter_map(|(label, us)| us.map(|us| (label.clone(), (us * 10.0).round() / 10.0))).collect(),
        };
        VariantsFile {
            format: FORMAT,
            ganymede: env!("CARGO_PKG_VERSION").to_string(),
            adapter: gpu.adapter_name().to_string(),
            driver: gpu.driver(),
            preset: preset.to_string(),
            batch,
            products: outcome.products.iter().map(|tuned| (tuned.product.clone(), entry(tuned))).collect(),
        }
    }

    /// Writes the file, in place of one that is there.
    ///
    /// # Errors
    /// [`Error::Environment`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let body = toml::to_string(self).map_err(|error| Error::internal(format!("a table of variants has no TOML form: {error}")))?;
        let text = format!(
            "# Kernels by product, for `ganymede train --variants`. Only `kernel` counts: it may be any that has a time here, and a product\n\
             # without an entry is left to the built-in choice.\n\n{body}"
        );
        disk::replace(path, text.as_bytes())
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Input`] naming the file, and for what is wrong inside it the line and key.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read(path, "variants file", "`ganymede tune` writes one")?;
        // The version first: of another one, nothing else is known.
        let table: toml::Table = parse(&text, path)?;
        let bad = |why: String| Err(Error::input(format!("{}: {why}", path.display())));
        match table.get("format").and_then(toml::Value::as_integer) {
            Some(FORMAT) => parse(&text, path),
            Some(other) => bad(format!("format {other}, and this ganymede reads format {FORMAT}; make the file anew with `ganymede tune`")),
            None => bad(format!("it has no `format = {FORMAT}`, so it is no variants file; `ganymede tune` writes one")),
        }
    }
}

/// The settings that `--variants` stands for: those of a file, or, for `default`, the built-in choice.
///
/// # Errors
/// As [`VariantsFile::read`].
pub fn setting(path: &Path) -> Result<VariantsConfig> {
    if path == Path::new("default") {
        return Ok(VariantsConfig::default());
    }
    let file = VariantsFile::read(path)?;
    let kernels = file.products.into_iter().map(|(product, entry)| (product, entry.kernel)).collect();
    Ok(VariantsConfig { adapter: Some(file.adapter), kernels: Variants { kernels, origin: path.display().to_string() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> VariantsFile {
        let entry = Entry { kernel: "gemm_rows_plain/n".into(), uses: 2, microseconds: [("gemm_rows_plain/n".to_string(), 1.5)].into() };
        VariantsFile {
            format: FORMAT,
            ganymede: "0.1.0".into(),
            adapter: "Some \"GPU\"".into(),
            driver: "1.2".into(),
            preset: "mlp".into(),
            batch: 64,
            products: [("matmul_nn 8x16 16x12".to_string(), entry)].into(),
        }
    }

    #[test]
    fn a_file_survives_writing_and_reading() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.toml");
        file().write(&path).unwrap();
        assert_eq!(VariantsFile::read(&path).unwrap(), file());
        let setting = setting(&path).unwrap();
        assert_eq!(setting.adapter.as_deref(), Some("Some \"GPU\""));
        assert_eq!(setting.kernels.kernels, [("matmul_nn 8x16 16x12".to_string(), "gemm_rows_plain/n".to_string())].into());
        assert_eq!(setting.kernels.origin, path.display().to_string());
    }

    #[test]
    fn mistakes_are_located() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.toml");
        let refused = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let error = VariantsFile::read(&path).expect_err(text);
            assert_eq!(error.exit_code(), 2, "{error}");
            error.to_string()
        };
        let head = "format = 1\nadapter = \"x\"\n";
        for (text, needle) in [
            ("", "v.toml: it has no `format = 1`".to_string()),
            ("[training]\nbatch = 3\n", "no variants file".to_string()),
            ("format = 2\nwhat = 3\n", "format 2, and this ganymede reads format 1".to_string()),
            ("format = 1\nadapter = \n", "v.toml:2:".to_string()),
            ("format = 1\n[products]\n", "missing field adapter".to_string()),
            (
                &format!("{head}[products.\"a\"]\nkernle = \"b\"\n"),
                "v.toml:4:1: unknown key kernle in [products.\"a\"]; did you mean kernel?".to_string(),
            ),
            (&format!("{head}[products.\"a\"]\nkernel = 3\n"), "v.toml:4:10: products.\"a\".kernel: invalid type: integer".to_string()),
            (&format!("{head}[products]\n\"a\" = \"b\"\n"), "v.toml:4:7: products.\"a\": invalid type: string".to_string()),
        ] {
            let error = refused(text);
            assert!(error.contains(&needle), "{text:?} gave: {error}");
        }
        std::fs::remove_file(&path).unwrap();
        let text = VariantsFile::read(&path).unwrap_err().to_string();
        assert!(text.starts_with("cannot read the variants file") && text.contains("v.toml: No such file"), "{text}");
        assert_eq!(setting(Path::new("default")).unwrap(), VariantsConfig::default());
    }
}
