//! `ganymede presets`.

use crate::error::Result;
use crate::nn::presets::{DEFAULT_PRESET, PRESETS};

/// Lists the presets, one line each.
pub fn run() -> Result<()> {
    let width = PRESETS.iter().map(|p| p.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for p in PRESETS {
        let mark = if p.name == DEFAULT_PRESET { '*' } else { ' ' };
        text.push_str(&format!("{mark} {:width$}  {} (batch {}, lr {}, {} kimg, {})\n", p.name, p.summary, p.batch, p.lr, p.kimg, p.data));
    }
    super::print(&text)
}
