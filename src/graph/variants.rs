//! Which kernel computes which product, where that is not left to the ops.

use crate::error::{Error, Result};
use crate::gpu::kernel::Kernel;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A table of kernels by product, which overrides the ops' own order of preference. An empty one changes nothing.
///
/// Bits depend on it, so a run keeps it in its settings and in its checkpoints. Two tables are equal if their kernels are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Variants {
    /// Kernel labels ([`Kernel::label`]) by product ([`Choice::product`]).
    pub kernels: BTreeMap<String, String>,
    /// The file that they are from, for messages.
    #[serde(skip)]
    pub origin: String,
}

impl PartialEq for Variants {
    fn eq(&self, other: &Self) -> bool {
        self.kernels == other.kernels
    }
}

/// A product of which several kernels may exist, and the one that it is lowered to.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Op, shapes and geometry, as the op writes them: `"conv2d_forward 64x64x16x16 128x64x4x4 s2 p1"`. The same for every epilogue.
    pub product: String,
    /// The kernels that can run it on this adapter, in the op's order of preference; never empty.
    pub candidates: Vec<&'static Kernel>,
    /// The one that runs it.
    pub kernel: &'static Kernel,
}

impl Variants {
    /// A table of one entry.
    pub fn one(product: &str, kernel: &Kernel) -> Self {
        Variants { kernels: BTreeMap::from([(product.to_string(), kernel.label())]), origin: String::new() }
    }

    /// True if it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.kernels.is_empty()
    }

    /// How to name an entry in a message: file and product.
    pub fn entry(&self, product: &str) -> String {
        let file = if self.origin.is_empty() { "variants" } else { &self.origin };
        format!("{file}: {product:?}")
    }

    /// The kernel for a product: the table's, else the first candidate.
    ///
    /// # Errors
    /// [`Error::Input`] if the table names a kernel that is not among the candidates.
    pub fn choose(&self, product: String, candidates: Vec<&'static Kernel>) -> Result<Choice> {
        let kernel = match self.kernels.get(&product) {
            None => candidates.first().copied().ok_or_else(|| Error::internal(format!("no kernel can run {product}")))?,
            Some(label) => candidates.iter().copied().find(|k| k.label() == *label).ok_or_else(|| {
                let labels: Vec<String> = candidates.iter().map(|k| k.label()).collect();
                Error::input(format!(
                    "{}: kernel {label} cannot run this product on this adapter, where {} can; choose one of these, or make a new table \
                     with `ganymede tune`",
                    self.entry(&product),
                    labels.join(", ")
                ))
            })?,
        };
        Ok(Choice { product, candidates, kernel })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(name: &'static str) -> &'static Kernel {
        Box::leak(Box::new(Kernel { name, variant: "", parts: &[], bindings: &[], workgroup: [1; 3], features: &[] }))
    }

    #[test]
    fn the_table_wins_over_the_order_and_is_held_to_the_candidates() {
        let candidates = vec![kernel("fast"), kernel("plain")];
        let chosen = |table: &Variants| table.choose("matmul_nn 2x3 3x4".into(), candidates.clone());
        assert_eq!(chosen(&Variants::default()).unwrap().kernel.name, "fast");
        assert_eq!(chosen(&Variants::one("matmul_nn 2x3 3x4", candidates[1])).unwrap().kernel.name, "plain");
        assert_eq!(chosen(&Variants::one("matmul_nn 2x3 3x5", candidates[1])).unwrap().kernel.name, "fast");
        let table = Variants { origin: "v.toml".into(), ..Variants::one("matmul_nn 2x3 3x4", kernel("tile")) };
        let error = chosen(&table).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.starts_with("v.toml: \"matmul_nn 2x3 3x4\": kernel tile cannot run") && text.contains("fast, plain can"), "{text}");
    }

    #[test]
    fn equality_is_of_kernels_alone() {
        let table = Variants::one("a", kernel("fast"));
        assert_eq!(table, Variants { origin: "elsewhere".into(), ..table.clone() });
        assert_ne!(table, Variants::default());
    }
}
