//! What the fields of a line of `stats.jsonl` are called elsewhere. By their form, so that a new statistic is shown without being told of here.

use serde_json::{Map, Value};

/// Fields that say where a line stands, and are no statistics.
const POSITION: [&str; 6] = ["step", "images_seen", "tick", "partial", "kimg", "steps"];

/// Groups by the beginning of a field's name.
const GROUPS: [(&str, &str); 3] = [("loss_", "loss"), ("grad_norm_", "grad_norm"), ("lr_", "lr")];

/// The group of a field, and its name in that group: `loss_d_real` is (`loss`, `D_real`), `d_x` (`score`, `D_x`). `None` for what is no statistic.
pub fn name(field: &str) -> Option<(&'static str, String)> {
    if POSITION.contains(&field) {
        return None;
    }
    for (prefix, group) in GROUPS {
        if let Some(rest) = field.strip_prefix(prefix) {
            return Some((group, networks(rest)));
        }
    }
    Some(match field {
        "d_x" => ("score", "D_x".into()),
        "d_g_z1" => ("score", "D_G_z_before".into()),
        "d_g_z2" => ("score", "D_G_z_after".into()),
        "seconds" | "seconds_per_kimg" | "data_wait_seconds" => ("time", field.to_string()),
        "memory_bytes" => ("device", field.to_string()),
        _ => ("other", field.to_string()),
    })
}

/// `d` and `g` as the networks are written: `d_real` is `D_real`.
fn networks(text: &str) -> String {
    let part = |part: &str| if matches!(part, "d" | "g") { part.to_uppercase() } else { part.to_string() };
    text.split('_').map(part).collect::<Vec<_>>().join("_")
}

/// Images a second in the tick of a line.
pub fn images_per_second(line: &Map<String, Value>) -> Option<f64> {
    let seconds = line.get("seconds_per_kimg")?.as_f64()?;
    (seconds > 0.0).then(|| 1000.0 / seconds)
}

/// All statistics of a line as `group/name`, images a second among them.
pub fn scalars(line: &Map<String, Value>) -> Vec<(String, f64)> {
    let named = |(field, value): (&String, &Value)| {
        let (group, name) = name(field)?;
        Some((format!("{group}/{name}"), value.as_f64()?))
    };
    let speed = images_per_second(line).map(|speed| ("time/images_per_second".to_string(), speed));
    line.iter().filter_map(named).chain(speed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (field, want) in [
            ("loss_d", Some(("loss", "D"))),
            ("loss_d_real", Some(("loss", "D_real"))),
            ("grad_norm_g", Some(("grad_norm", "G"))),
            ("d_g_z1", Some(("score", "D_G_z_before"))),
            ("lr_d", Some(("lr", "D"))),
            ("data_wait_seconds", Some(("time", "data_wait_seconds"))),
            ("novelty", Some(("other", "novelty"))),
            ("images_seen", None),
        ] {
            assert_eq!(name(field), want.map(|(group, name)| (group, name.to_string())), "{field}");
        }
    }

    #[test]
    fn scalars_of_a_line() {
        let line = serde_json::json!({"step": 5, "loss_g": 0.5, "seconds_per_kimg": 4.0, "d_x": null, "note": "text"});
        let scalars = scalars(line.as_object().unwrap());
        let want = [("loss/G", 0.5), ("time/seconds_per_kimg", 4.0), ("time/images_per_second", 250.0)];
        assert_eq!(scalars, want.map(|(name, value)| (name.to_string(), value)));
    }
}
