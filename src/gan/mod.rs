//! Adversarial training: the step as a program, its schedules, and the trainer that runs it.
//!
//! What happens in a step is one function: [`step::build`].

pub mod augment;
pub mod config;
pub mod inputs;
pub mod latent;
pub mod loss;
pub mod precision;
pub mod range;
pub mod sampler;
pub mod schedule;
pub mod step;
pub mod stores;
pub mod trainer;
