//! Optimisers, clipping and schedules against PyTorch. The kernels equal the twins by their cases.

use crate::common::Fixture;
use crate::harness::{fixtures, number};
use ganymede::gan::schedule::Schedule;
use ganymede::ops::optimiser::twin::{self, State};
use ganymede::ops::optimiser::{Clip, Update};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;

/// A setting, as config files have it.
fn setting<T: DeserializeOwned>(f: &Fixture, key: &str) -> T {
    serde_json::from_value(f.parameters[key].clone()).unwrap_or_else(|e| panic!("{} {key}: {e}", f.name))
}

fn close(f: &Fixture, name: &str, got: &[f64]) {
    let expected = &f.get(name).data;
    assert_eq!(got.len(), expected.len(), "{} {name}: another size", f.name);
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= 1e-12 * (1.0 + e.abs()), "{} {name}: twin gives {g} at element {i}, PyTorch {e}", f.name);
    }
}

/// Four updates of each optimiser, from PyTorch's start and gradients.
#[test]
fn updates() {
    let mut factors = BTreeSet::new();
    for f in fixtures("optimiser_", 16) {
        let update = Update { optimiser: setting(&f, "optimiser"), clip: setting(&f, "clip"), weight_clip: setting(&f, "weight_clip") };
        update.optimiser.validate("optimiser").expect("PyTorch takes it too");
        let mut state = State::new(&update.optimiser, f.get("p").data.clone());
        let moments = update.optimiser.moments();
        for t in 0..4 {
            let grads = &f.get(&format!("g.{t}")).data;
            let mut factor = 1.0;
            if let Some(Clip::Norm(max)) = update.clip {
                let [by, norm] = twin::clip_factor(&twin::squares(grads), max);
                close(&f, &format!("norm.{t}"), &[norm]);
                factor = by;
                factors.insert(by < 1.0);
            }
            let slot = |beta: f64| 1.0 / (1.0 - beta.powi(t + 1));
            let beta = |key: &str| f.parameters["optimiser"][key].as_f64().unwrap_or(0.0);
            twin::update(&update, grads, &mut state, factor, [number(&f, "lr"), slot(beta("beta1")), slot(beta("beta2"))]);
            close(&f, &format!("p.{t}"), &state.values);
            for (name, is_kept, got) in [("m", moments.m, &state.m), ("v", moments.v, &state.v)] {
                let name = format!("{name}.{t}");
                assert_eq!(f.tensors.contains_key(&name), is_kept, "{}: PyTorch and Ganymede keep other state", f.name);
                if is_kept {
                    close(&f, &name, got);
                }
            }
        }
    }
    assert_eq!(factors.len(), 2, "some gradients are too long and some are not");
}

/// Forty steps of each schedule.
#[test]
fn schedules() {
    for f in fixtures("schedule_", 6) {
        let schedule: Schedule = setting(&f, "schedule");
        schedule.validate("schedule").expect("PyTorch takes it too");
        let images = number(&f, "images") as u64;
        let expected = &f.get("lr").data;
        assert_eq!(expected.len(), 40);
        for (step, expected) in expected.iter().enumerate() {
            let got = schedule.at(step as u64 * images);
            // PyTorch's schedulers multiply from step to step.
            assert!((got - expected).abs() <= 1e-13 * (1.0 + expected.abs()), "{} in step {step}: {got}, PyTorch {expected}", f.name);
        }
    }
}
