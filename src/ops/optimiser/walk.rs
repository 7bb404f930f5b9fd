//! How kernels walk over flat stores.

use crate::error::{Error, Result};
use crate::gpu::kernel::grid;
use crate::graph::lower::Caps;
use crate::ops::loaders::Loading;

/// A walk over a store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    /// How it loads and stores.
    pub loading: Loading,
    /// Items, one per invocation.
    pub items: usize,
}

impl Walk {
    /// The walk of the kernel `name` over `words` floats.
    ///
    /// # Errors
    /// [`Error::Internal`] if `words` is not a multiple of 4 or more than one binding holds.
    pub fn new(caps: &Caps, name: &str, words: usize) -> Result<Self> {
        if words == 0 || !words.is_multiple_of(4) || words > u32::MAX as usize {
            return Err(Error::internal(format!("{name} over {words} words: expected a multiple of 4 from 4 to 2^32")));
        }
        if words as u64 * 4 > caps.max_binding {
            return Err(Error::internal(format!(
                "{name} over {words} words: the adapter binds at most {} bytes; the store must be split into segments",
                caps.max_binding
            )));
        }
        let loading = Loading::new(caps, words, words);
        Ok(Walk { loading, items: words / 4 / loading.width() })
    }

    /// Workgroups of 64 for a kernel with an item an invocation.
    pub fn workgroups(&self) -> [u32; 3] {
        grid(self.items, 64)
    }

    /// Workgroups of 64 for a kernel that also adds up something for each of `blocks` blocks: where items are loaded lane by lane, an
    /// invocation walks a whole block.
    pub fn block_workgroups(&self, blocks: usize) -> [u32; 3] {
        grid(if self.loading == Loading::Vec4 { self.items } else { blocks }, 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_that_do_not_fit_are_refused() {
        for words in [0, 1, 63, (128 << 20) / 4 + 4] {
            assert!(matches!(Walk::new(&Caps::minimal(), "adam", words), Err(Error::Internal(_))), "{words}");
        }
    }
}
