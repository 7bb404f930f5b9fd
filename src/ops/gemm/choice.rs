//! Which kernel a GPU runs a product with, and into how many parts a sum is split: from the shape alone, so that a run's bits depend on neither
//! timing nor the device.
//!
//! | constant | value | reason |
//! |---|---|---|
//! | [`FEW`] | 8 | a narrower product would waste seven eighths and more of a tile's arithmetic in that direction |
//! | [`LARGE_TILES`] | 128 | a large tile loads half as much per multiply-add, if each multiprocessor of a large GPU (128 to 144) has one |
//! | [`LARGE_WASTE`] | 5/4 | arithmetic on rows and columns that do not exist costs more than the loads that a large tile saves |
//! | [`SPLIT_TILES`] | 64 | with fewer tiles, at least half of a large GPU idles, and a second dispatch is worth its cost |
//! | [`SPLIT_STEPS`] | 32 | a sum of fewer steps is over before the second dispatch would be |
//! | [`SPLIT_TARGET`] | 256 | two workgroups for each multiprocessor of a large GPU |
//! | [`MIN_STEPS`] | 4 | a shorter part would mostly wait for its first loads |
//! | [`SOFTWARE_TARGET`] | 16 | weight gradients of image layers are 2 to 4 tiles, and more cores than that are common |
//! | [`SOFTWARE_MIN_STEPS`] | 512 | a step takes about 1 us on lavapipe, and a second dispatch 60 |
//! | [`SPLIT_ITERATIONS`] | 32768 | half of what [`Caps::can_loop`](crate::graph::lower::Caps::can_loop) allows |

/// Rows or columns up to which a product is narrow.
pub(super) const FEW: usize = 8;
/// Large tiles from which on they are preferred to small ones.
const LARGE_TILES: usize = 128;
/// How much more area than small tiles large ones may cover: numerator and denominator.
const LARGE_WASTE: [usize; 2] = [5, 4];
/// Workgroups from which on a sum is not split.
const SPLIT_TILES: usize = 64;
/// Steps of k from which on it is.
const SPLIT_STEPS: usize = 32;
/// Workgroups that splitting aims at.
const SPLIT_TARGET: usize = 256;
/// Fewest steps of a part.
const MIN_STEPS: usize = 4;

/// Workgroups that splitting aims at on software adapters.
const SOFTWARE_TARGET: usize = 16;
/// Fewest steps of a part there.
const SOFTWARE_MIN_STEPS: usize = 512;
/// Most iterations of a part's loop.
const SPLIT_ITERATIONS: usize = 32_768;

/// Rows and columns of the tiles.
pub(super) const LARGE: [usize; 2] = [128, 128];
pub(super) const SMALL: [usize; 2] = [64, 64];
/// The same of the kernels for software adapters.
pub(super) const SOFTWARE: [usize; 2] = [32, 32];
/// The same of `gemm_rows_reduce`.
pub(super) const REDUCE: [usize; 2] = [16, 4];
/// k of a step of the tile kernels.
pub(super) const TILE_STEP: usize = 16;
/// k of a step of `gemm_rows_reduce`.
pub(super) const REDUCE_STEP: usize = 64;

/// A product as the choice sees it.
#[derive(Debug, Clone)]
pub(super) struct Extents {
    /// Rows of C in each phase or group.
    pub rows: Vec<usize>,
    /// Columns of C in each.
    pub columns: usize,
    /// Steps of k in each: of [`TILE_STEP`], unless it is asked about another kernel.
    pub steps: usize,
}

/// What suits a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suits {
    Large,
    Small,
    SmallSplit,
    /// Few columns.
    Reduce,
    /// Few rows.
    Plain,
}

impl Extents {
    /// Tiles that cover C.
    pub fn tiles(&self, [rows, columns]: [usize; 2]) -> usize {
        self.rows.iter().map(|r| r.div_ceil(rows)).sum::<usize>() * self.columns.div_ceil(columns)
    }

    /// What suits the product on a GPU.
    pub fn suits(&self) -> Suits {
        let (large, small) = (self.tiles(LARGE), self.tiles(SMALL));
        let area = |tiles: usize, [rows, columns]: [usize; 2]| tiles * rows * columns;
        if self.columns <= FEW {
            Suits::Reduce
        } else if self.rows.iter().all(|r| *r <= FEW) {
            Suits::Plain
        } else if large >= LARGE_TILES && area(large, LARGE) * LARGE_WASTE[1] <= area(small, SMALL) * LARGE_WASTE[0] {
            Suits::Large
        } else if self.is_worth_splitting(SMALL) {
            Suits::SmallSplit
        } else {
            Suits::Small
        }
    }

    /// Whether splitting the sums is faster than not to.
    pub fn is_worth_splitting(&self, tile: [usize; 2]) -> bool {
        self.tiles(tile) < SPLIT_TILES && self.steps >= SPLIT_STEPS
    }

    /// Into how many parts the steps are split; 1 if they are not.
    pub fn splits(&self, tile: [usize; 2]) -> usize {
        self.parts(SPLIT_TARGET.div_ceil(self.tiles(tile).max(1)).min(self.steps / MIN_STEPS))
    }

    /// The same on a software adapter, for a kernel that does so many k in an iteration of its loop.
    pub fn software_splits(&self, stride: usize) -> usize {
        let wanted = SOFTWARE_TARGET.div_ceil(self.tiles(SOFTWARE).max(1)).min(self.steps / SOFTWARE_MIN_STEPS);
        self.parts(wanted.max(self.steps.div_ceil(SPLIT_ITERATIONS * stride / TILE_STEP)))
    }

    /// About so many parts, of which none is empty.
    fn parts(&self, wanted: usize) -> usize {
        let part = self.steps.div_ceil(wanted.max(1)).max(1);
        self.steps.div_ceil(part).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suits(rows: &[usize], columns: usize, k: usize) -> Suits {
        Extents { rows: rows.to_vec(), columns, steps: k.div_ceil(TILE_STEP) }.suits()
    }

    #[test]
    fn shapes_get_what_suits_them() {
        // Square products.
        assert_eq!(suits(&[2048], 2048, 2048), Suits::Large);
        assert_eq!(suits(&[1024], 1024, 1024), Suits::Small);
        assert_eq!(suits(&[256], 256, 256), Suits::Small);
        assert_eq!(suits(&[256], 256, 512), Suits::SmallSplit);
        // A convolution with 64 channels would fill half of a large tile, the phases of a strided input gradient share one dispatch.
        assert_eq!(suits(&[65536], 64, 1024), Suits::Small);
        assert_eq!(suits(&[8192; 4], 128, 1024), Suits::Large);
        assert_eq!(suits(&[4096; 4], 128, 1024), Suits::Large);
        assert_eq!(suits(&[2048; 4], 128, 1024), Suits::Small);
        // The weight gradient of a first layer; a dense layer; a last layer; one sample.
        assert_eq!(suits(&[64], 64, 131_072), Suits::SmallSplit);
        assert_eq!(suits(&[64], 1024, 512), Suits::SmallSplit);
        assert_eq!(suits(&[64], 4, 8192), Suits::Reduce);
        assert_eq!(suits(&[1], 8192, 100), Suits::Plain);
    }

    #[test]
    fn splits_cover_all_steps_and_none_is_empty() {
        let splits = |tiles: usize, steps| Extents { rows: vec![64; tiles], columns: 64, steps }.splits(SMALL);
        for tiles in [1, 2, 3, 7, 16, 63, 255, 256, 1000] {
            for steps in 1..700 {
                let splits = splits(tiles, steps);
                let part = steps.div_ceil(splits);
                assert!(splits * part >= steps && (splits - 1) * part < steps, "{tiles} tiles, {steps} steps: {splits} splits");
                assert!(splits == 1 || part >= MIN_STEPS && (splits - 1) * tiles < SPLIT_TARGET, "{tiles} tiles, {steps} steps: {splits}");
            }
        }
        assert_eq!(splits(1, 8192), 256);
        assert_eq!(splits(16, 32), 8);
        assert_eq!(splits(256, 8192), 1);
    }

    #[test]
    fn software_splits_feed_some_cores_and_keep_loops_short() {
        let by = |stride: usize, rows: usize, columns, pixels: usize| {
            let extents = Extents { rows: vec![rows], columns, steps: pixels.div_ceil(TILE_STEP) };
            let (splits, steps) = (extents.software_splits(stride), extents.steps);
            let part = steps.div_ceil(splits);
            assert!(splits * part >= steps && (splits - 1) * part < steps, "{extents:?}: {splits}");
            assert!(part * TILE_STEP / stride <= SPLIT_ITERATIONS, "{extents:?}: {splits}");
            splits
        };
        let splits = |rows, columns, pixels| by(4, rows, columns, pixels);
        // The first layer of `dcgan-32`, with reals and fakes; inner layers; dense layers.
        assert_eq!(splits(64, 64, 32768), 4);
        assert_eq!(splits(128, 1024, 8192), 1);
        assert_eq!(splits(512, 784, 128), 1);
        // 32 images of 100 x 100 pixels in `conv-pool-lsgan`: 80,000 steps of four pixels.
        assert_eq!(splits(16, 36, 320_000), 8);
        // However many tiles there are.
        assert_eq!(splits(4096, 4096, 1 << 20), 8);
        for pixels in (1..3_000_000).step_by(7919) {
            splits(3, 5, pixels);
            by(1, 3, 5, pixels);
        }
    }
}
