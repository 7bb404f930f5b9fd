//! How many dispatches a training step takes: on a GPU each one costs latency, on a software adapter a wake-up of all threads. Needs no GPU.

use ganymede::gan::config::GanConfig;
use ganymede::gan::step::Inputs;
use ganymede::gan::trainer;
use ganymede::graph::lower::Caps;
use ganymede::ops::augment::AugmentConfig;
use ganymede::run::presets::PRESETS;
use std::collections::BTreeMap;

/// Most dispatches of a preset's step: (preset, channels of an image, on a GPU, on a software adapter). On a GPU, a product that is split to fill
/// the device has a second dispatch, which the goals (mlp 30, dcgan-64 70) do not count.
const MOST: [(&str, usize, usize, usize); 5] =
    [("mlp", 1, 30, 30), ("dcgan-28-small", 1, 33, 33), ("dcgan-28", 1, 57, 55), ("dcgan-32", 3, 49, 49), ("dcgan-64", 3, 63, 63)];

fn config(name: &str, channels: usize) -> GanConfig {
    let preset = PRESETS.iter().find(|p| p.name == name).unwrap_or_else(|| panic!("no preset is called {name}"));
    preset.gan_config(channels, preset.batch())
}

#[test]
fn presets_stay_below_their_numbers() {
    let software = Caps { fixed_subgroup: true, software: true, int64: true, ..Caps::minimal() };
    let mut faults = Vec::new();
    for (name, channels, gpu, cpu) in MOST {
        for (adapter, caps, most) in [("a GPU", Caps::minimal(), gpu), ("a software adapter", software.clone(), cpu)] {
            let plan = trainer::plan(&config(name, channels), &Inputs::Device { images: 1000 }, &caps)
                .unwrap_or_else(|e| panic!("{name} does not compile for {adapter}: {e}"));
            let count = plan.dispatches.iter().filter(|(_, d)| d.kernel.name != "gemm_split_finish").count();
            if count > most {
                let mut kernels: BTreeMap<&str, usize> = BTreeMap::new();
                plan.dispatches.iter().for_each(|(_, d)| *kernels.entry(d.kernel.name).or_default() += 1);
                faults.push(format!("{name} takes {count} dispatches on {adapter}, at most {most} are allowed: {kernels:?}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Augmentation is one more dispatch for each batch of reals, and changes no other.
#[test]
fn augmentation_takes_one_dispatch_a_batch() {
    for d_steps in [1, 3] {
        let labels = |mirror: f64| {
            let augment = AugmentConfig { mirror, ..AugmentConfig::default() };
            let config = GanConfig { d_steps, augment, ..config("dcgan-28", 1) };
            let plan = trainer::plan(&config, &Inputs::Device { images: 1000 }, &Caps::minimal()).expect("it compiles");
            plan.dispatches.into_iter().map(|(label, _)| label).collect::<Vec<_>>()
        };
        let (off, mut on) = (labels(0.0), labels(0.5));
        on.retain(|label| !label.starts_with("step/data/draw.augment"));
        assert_eq!((&on, labels(0.5).len()), (&off, off.len() + d_steps));
    }
}
