//! Networks: layers as data, parameter stores, initialisers and presets. Knows no loss.

pub mod init;
pub mod network;
pub mod presets;
pub mod state;
pub mod store;
pub mod summary;
