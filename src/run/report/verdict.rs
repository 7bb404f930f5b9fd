//! One line on how a run stands, for people who look at its report.

use serde_json::{Map, Value};

/// Where a run stands when its report is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Under way.
    Running,
    /// At its full length.
    Finished,
    /// Stopped before that, by the user; it can be resumed.
    Stopped,
    /// Ended by an error.
    Failed(String),
}

impl Status {
    /// A word for it, and the class of its colour in the style sheet.
    pub fn word(&self) -> (&'static str, &'static str) {
        match self {
            Status::Running => ("Training", "busy"),
            Status::Finished => ("Finished", "good"),
            Status::Stopped => ("Stopped", "warn"),
            Status::Failed(_) => ("Failed", "bad"),
        }
    }
}

/// Ticks that the reading is over.
const TICKS: usize = 5;

/// What the last statistics say of the balance between the networks. `None` where the discriminator's outputs are no probabilities.
///
/// Goodfellow et al. (2014), section 4: where the generator's distribution is the data's, D is 1/2 everywhere. The bounds around that are rules of thumb.
pub fn balance(lines: &[Map<String, Value>]) -> Option<&'static str> {
    let last = &lines[lines.len().saturating_sub(TICKS)..];
    let mean = |field: &str| {
        let values: Option<Vec<f64>> = last.iter().map(|line| line.get(field)?.as_f64().filter(|v| (0.0..=1.0).contains(v))).collect();
        values.filter(|values| !values.is_empty()).map(|values| values.iter().sum::<f64>() / values.len() as f64)
    };
    let (real, fake) = (mean("d_x")?, mean("d_g_z1")?);
    Some(match real - fake {
        gap if gap > 0.9 => "The discriminator tells real from generated images almost without fail: the generator learns little from it.",
        gap if gap > 0.6 => "The discriminator is well ahead of the generator.",
        gap if gap > 0.1 => "Discriminator and generator keep each other busy.",
        gap if gap > -0.1 => "The discriminator can hardly tell generated images from real ones: either they are good, or it is weak.",
        _ => "The discriminator takes generated images for real ones more often than the real ones.",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(values: &[(f64, f64)]) -> Vec<Map<String, Value>> {
        values.iter().map(|(real, fake)| serde_json::json!({"d_x": real, "d_g_z1": fake}).as_object().unwrap().clone()).collect()
    }

    #[test]
    fn readings() {
        for (real, fake, word) in [
            (0.99, 0.01, "almost without fail"),
            (0.9, 0.1, "well ahead"),
            (0.6, 0.4, "busy"),
            (0.5, 0.5, "hardly"),
            (0.2, 0.6, "for real ones"),
        ] {
            assert!(balance(&lines(&[(real, fake)])).unwrap().contains(word), "{real} {fake}");
        }
        // Of the last ticks, not of the whole run.
        let mut long = vec![(0.99, 0.01); 50];
        long.extend([(0.6, 0.4); TICKS]);
        assert!(balance(&lines(&long)).unwrap().contains("busy"));
    }

    #[test]
    fn critics_are_not_read_as_probabilities() {
        assert_eq!(balance(&lines(&[(3.0, -2.0)])), None);
        assert_eq!(balance(&lines(&[(f64::NAN, 0.5)])), None);
        assert_eq!(balance(&[]), None);
        assert_eq!(balance(&[Map::new()]), None);
    }
}
