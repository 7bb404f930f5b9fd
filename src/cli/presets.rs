//! `ganymede presets`.

use super::args::PresetsArgs;
use crate::error::Result;
use crate::run::presets::{DEFAULT_PRESET, PRESETS, preset};
use crate::run::schema;

/// Lists the presets, one line each; prints one as a config file, or the schema of config files.
pub fn run(args: &PresetsArgs) -> Result<()> {
    if args.schema {
        return super::print(&schema::text());
    }
    if let Some(name) = &args.show {
        return super::print(preset(name)?.text.trim_end());
    }
    let width = PRESETS.iter().map(|p| p.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for p in PRESETS.iter() {
        let mark = if p.name == DEFAULT_PRESET { '*' } else { ' ' };
        let (lr, kimg) = (p.config.generator.optimizer.lr, p.config.run.kimg.unwrap_or(0.0));
        text.push_str(&format!("{mark} {:width$}  {} (batch {}, lr {lr}, {kimg} kimg, {})\n", p.name, p.summary(), p.batch(), p.data()));
    }
    super::print(&text)
}
