//! What a set of vectors holds in place of pixels, and the modes of a mixture.

use super::{DataSet, MAX_BYTES, check_labels};
use crate::error::{Error, Result};

/// The values of a set of vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    /// `[count][features]`, all finite; the networks see them as they are.
    pub values: Vec<f32>,
    /// Where the data are concentrated, if that is known.
    pub modes: Option<Modes>,
}

/// The modes of a mixture of Gaussians that differ in their centres alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Modes {
    /// `[modes][features]`.
    pub centres: Vec<f32>,
    /// Standard deviation of every mode in every direction.
    pub sigma: f32,
}

impl Modes {
    /// Number of modes of vectors of `features` numbers.
    pub fn count(&self, features: usize) -> usize {
        self.centres.len() / features
    }
}

impl DataSet {
    /// A set of vectors from parts, checked: `count` vectors of `features` numbers each. It has `features` channels of 1 x 1 pixels, and no
    /// [`images`](DataSet::images).
    ///
    /// # Errors
    /// [`Error::Input`] if there are no vectors or features, a length does not fit, a number is not finite, or a label has no class name.
    pub fn of_vectors(
        name: impl Into<String>,
        (count, features): (usize, usize),
        vectors: Vectors,
        labels: Option<Vec<u32>>,
        class_names: Vec<String>,
    ) -> Result<Self> {
        let name = name.into();
        if count == 0 || features == 0 {
            return Err(Error::input(format!("data set '{name}' is empty: {count} points of {features} numbers")));
        }
        if count.checked_mul(features) != Some(vectors.values.len()) || vectors.values.len() as u64 > MAX_BYTES / 4 {
            return Err(Error::input(format!(
                "data set '{name}' holds {} numbers, which is not {count} points of {features}, or more than {} GiB",
                vectors.values.len(),
                MAX_BYTES >> 30
            )));
        }
        if let Some(at) = vectors.values.iter().position(|value| !value.is_finite()) {
            return Err(Error::input(format!(
                "data set '{name}': number {} of point {} is {}; expected finite numbers",
                at % features,
                at / features,
                vectors.values[at]
            )));
        }
        if let Some(Modes { centres, sigma }) = &vectors.modes
            && (centres.is_empty() || !centres.len().is_multiple_of(features) || !(*sigma > 0.0 && sigma.is_finite()))
        {
            return Err(Error::input(format!(
                "data set '{name}': {} numbers and a deviation of {sigma} are no modes of points of {features} numbers",
                centres.len()
            )));
        }
        check_labels(&name, "points", count, labels.as_deref(), class_names.len())?;
        Ok(DataSet {
            name,
            images: Vec::new(),
            vectors: Some(vectors),
            labels,
            count,
            height: 1,
            width: 1,
            channels: features,
            class_names,
        })
    }

    /// Refuses sets of vectors; `what` says who needs images: `padding`, `--mirror`.
    ///
    /// # Errors
    /// [`Error::Input`] naming the set.
    pub fn require_images(&self, what: &str) -> Result<()> {
        match self.vectors {
            None => Ok(()),
            Some(_) => Err(Error::input(format!(
                "{what} needs images, and '{}' holds points of {} numbers: choose a data set of images",
                self.name, self.channels
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> DataSet {
        let values = (0..12).map(|i| i as f32 / 4.0).collect();
        let modes = Some(Modes { centres: vec![0.0; 6], sigma: 0.5 });
        DataSet::of_vectors("v", (4, 3), Vectors { values, modes }, Some(vec![0, 1, 1, 0]), vec!["a".into(), "b".into()]).unwrap()
    }

    #[test]
    fn vectors_are_given_as_they_are() {
        let set = set();
        assert_eq!((set.count, set.channels, set.height, set.width, set.image_len()), (4, 3, 1, 1, 3));
        assert_eq!(set.to_f32(1), [0.75, 1.0, 1.25]);
        assert_eq!(set.gather_f32([3, 0]), [2.25, 2.5, 2.75, 0.0, 0.25, 0.5]);
        assert_eq!(set.describe(), "v: 4 points of 3 numbers, 2 classes");
        assert_eq!(set.vectors.as_ref().unwrap().modes.as_ref().unwrap().count(3), 2);
        let part = set.subset(&[2, 2], "part");
        assert_eq!(part.vectors.as_ref().unwrap().values, [1.5, 1.75, 2.0, 1.5, 1.75, 2.0]);
        assert_eq!((part.labels.unwrap(), part.count, part.channels), (vec![1, 1], 2, 3));
        let (kept, out) = set.clone().split_held_out(1, 0).unwrap();
        assert_eq!((kept.count, kept.gather_f32(0..3).len(), out.count, out.gather_f32([0]).len()), (3, 9, 1, 3));
    }

    #[test]
    fn the_fingerprint_sees_every_bit() {
        let print = set().fingerprint();
        let changed = |change: &dyn Fn(&mut DataSet)| {
            let mut other = set();
            change(&mut other);
            other.fingerprint()
        };
        assert_eq!(changed(&|s| s.name.clear()), print);
        assert_ne!(changed(&|s| s.vectors.as_mut().unwrap().values[0] = -0.0), print);
        assert_ne!(changed(&|s| s.vectors.as_mut().unwrap().values[11] = 2.7500002), print);
        assert_ne!(changed(&|s| (s.count, s.channels) = (3, 4)), print);
        assert_ne!(changed(&|s| s.labels = Some(vec![0, 1, 1, 1])), print);
        // Images of the same shape and the same bytes are another set.
        let bytes = set().vectors.unwrap().values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let images = DataSet { images: bytes, vectors: None, ..set() };
        assert_ne!(images.fingerprint(), print);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let refused = |shape, values: &[f32], modes: Option<Modes>, labels| {
            let vectors = Vectors { values: values.to_vec(), modes };
            DataSet::of_vectors("x", shape, vectors, labels, vec!["a".into()]).unwrap_err().to_string()
        };
        assert!(refused((0, 2), &[], None, None).contains("is empty"));
        assert!(refused((2, 0), &[], None, None).contains("is empty"));
        assert!(refused((2, 2), &[0.0; 3], None, None).contains("holds 3 numbers"));
        assert!(refused((usize::MAX, 2), &[0.0; 3], None, None).contains("holds 3 numbers"));
        assert!(refused((2, 2), &[0.0, 1.0, 2.0, f32::NAN], None, None).contains("number 1 of point 1 is NaN"));
        assert!(refused((1, 2), &[0.0; 2], None, Some(vec![1])).contains("label of point 0 is 1"));
        assert!(refused((2, 2), &[0.0; 4], None, Some(vec![0])).contains("2 points but 1 labels"));
        for (centres, sigma) in [(3, 1.0), (0, 1.0), (2, 0.0), (2, f32::NAN)] {
            assert!(refused((1, 2), &[0.0; 2], Some(Modes { centres: vec![0.0; centres], sigma }), None).contains("no modes"));
        }
    }

    #[test]
    fn what_needs_images_says_so() {
        let text = set().pad_to(4, 4).unwrap_err().to_string();
        assert_eq!(text, "padding needs images, and 'v' holds points of 3 numbers: choose a data set of images");
    }
}
