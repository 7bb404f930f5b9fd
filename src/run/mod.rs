//! A training run on disk and on screen: its settings, its folder, its checkpoints, its log, and the loop that drives an engine through
//! it.
//!
//! The loop is [`train::train`]. It knows the trainer only as an [`train::Engine`], and the trainer knows no files, so that everything
//! here is tested without a GPU. What a run promises, and where it is kept:
//!
//! | promise | kept by |
//! |---|---|
//! | `train --config` on a run's `config.toml` reproduces the run | [`config`]: every setting is resolved before anything starts |
//! | equal runs write equal checkpoint bytes | [`checkpoint`] and [`state`]: nothing timed, no path, no run length is stored |
//! | a resumed run equals one that never stopped | [`train`]: ticks and snapshots fall on steps that the settings alone decide |
//! | a kill at any moment loses no checkpoint | [`disk`]: temporary file, fsync, rename, fsync of the folder; then older ones go |
//! | two processes never write one folder | [`folder`]: created exclusively, locked while open |
//! | log and statistics never tell of steps that were lost | [`log`]: every line carries its step, and a resume cuts what lies beyond |

pub mod animation;
pub mod caption;
pub mod checkpoint;
pub mod classes;
pub mod config;
pub mod disk;
pub mod events;
pub mod export;
pub mod folder;
pub mod grid;
pub mod layers;
pub mod log;
pub mod metrics;
pub mod optimizer;
pub mod outputs;
pub mod picture;
pub mod presets;
pub mod progress;
pub mod report;
pub mod scatter;
pub mod schema;
pub mod self_test;
pub mod signal;
pub mod state;
pub mod toml_file;
pub mod toml_writer;
pub mod train;
pub mod view;
