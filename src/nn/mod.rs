//! Networks: layers as data, parameter stores, initialisers and presets. Knows no loss.

pub mod build;

pub mod init;
pub mod layer;
pub mod network;
pub mod state;
pub mod store;
pub mod summary;
