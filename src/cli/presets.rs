//! `ganymede presets`.

use crate::error::Result;
use crate::run::config::{DEFAULT_PRESET, PRESETS, preset_defaults};

/// Lists the presets, one line each.
pub fn run() -> Result<()> {
    let width = PRESETS.iter().map(|name| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for name in PRESETS {
        let d = preset_defaults(name)?;
        let mark = if *name == DEFAULT_PRESET { '*' } else { ' ' };
        text.push_str(&format!(
            "{mark} {name:width$}  {} (batch {}, lr {}, {} kimg, {})\n",
            d.summary, d.batch, d.lr, d.kimg, d.data
        ));
    }
    super::print(&text)
}
