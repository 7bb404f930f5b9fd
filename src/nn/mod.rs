//! Networks: layers, parameter stores, initialisers.

pub mod init;
