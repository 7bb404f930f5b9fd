//! The resampling of augmented images.

use crate::harness::{Golden, fixtures};
use ganymede::ops::augment::{Fill, twin};

/// The twin, with PyTorch's matrices in pixels. (The kernel's matrices come from its own draws, and it is proven by the twin on those.)
#[test]
fn resampling() {
    for fixture in fixtures("augment_", 8) {
        let (x, theta) = (fixture.get("x"), fixture.get("theta"));
        let [_, _, height, width] = x.shape.nchw();
        let (h, w) = (height as f64, width as f64);
        let matrices: Vec<twin::Matrix> =
            theta.data.chunks(6).map(|t| [[t[0], t[1] * w / h, t[2] * w / 2.0], [t[3] * h / w, t[4], t[5] * h / 2.0]]).collect();
        let fill = match fixture.parameters["padding_mode"].as_str() {
            Some("zeros") => Fill::Constant(0.0),
            Some("border") => Fill::Edge,
            other => panic!("{}: padding {other:?}", fixture.name),
        };
        let y = twin::resample(x, &matrices, fill);
        Golden::new(&fixture).compare("twin", "y", &y.data, 1e-9);
    }
}
