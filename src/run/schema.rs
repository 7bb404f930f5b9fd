//! The JSON schema of config files, from the types that read them, so that editors can complete and check.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::config::TrainConfig;

/// The schema as JSON text.
pub fn text() -> String {
    let schema = SchemaGenerator::new(SchemaSettings::draft2020_12()).into_root_schema_for::<TrainConfig>();
    let mut schema = Value::from(schema);
    relax(&mut schema);
    // A JSON value always has a text.
    serde_json::to_string_pretty(&schema).unwrap_or_default()
}

/// A file may leave out any key of a section, which then has its value from the preset: only layers and terms must be whole.
fn relax(root: &mut Value) {
    let sections: Vec<String> = root
        .pointer("/$defs")
        .and_then(Value::as_object)
        .map(|defs| defs.keys().filter(|name| is_section(name)).cloned().collect())
        .unwrap_or_default();
    let forget = |schema: Option<&mut Value>| {
        if let Some(object) = schema.and_then(Value::as_object_mut) {
            object.remove("required");
        }
    };
    forget(Some(root));
    for name in sections {
        forget(root.pointer_mut(&format!("/$defs/{name}")));
    }
}

fn is_section(name: &str) -> bool {
    name.ends_with("Config")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys<'a>(schema: &'a Value, pointer: &str) -> Vec<&'a str> {
        let object = schema.pointer(pointer).and_then(Value::as_object).unwrap_or_else(|| panic!("no {pointer}"));
        object.keys().map(String::as_str).collect()
    }

    #[test]
    fn it_knows_every_section_and_layer() {
        let schema: Value = serde_json::from_str(&text()).unwrap();
        let sections = keys(&schema, "/properties");
        for section in ["preset", "data", "generator", "discriminator", "loss", "training", "run"] {
            assert!(sections.contains(&section), "{section} in {sections:?}");
        }
        assert!(schema.pointer("/required").is_none() && schema.pointer("/$defs/TrainingConfig/required").is_none());
        let layers = schema.pointer("/$defs/Layer/oneOf").and_then(Value::as_array).unwrap();
        let name = |layer: &Value| layer.pointer("/properties/type/const").and_then(Value::as_str).map(str::to_string);
        let names: Vec<String> = layers.iter().filter_map(name).collect();
        assert!(names.len() == layers.len() && names.contains(&"conv2d".to_string()), "{names:?}");
        let text = text();
        assert!(text.contains("Height and width of the kernel"), "keys are documented");
    }
}
