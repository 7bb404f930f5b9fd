//! Writes a table as people would: a key a line, lists of tables with a table a line.

use toml::{Table, Value};

/// The text of a table.
pub fn write(table: &Table) -> String {
    let mut text = String::new();
    section(&mut text, "", table);
    text.trim_start().to_string()
}

/// The keys of one section, then the sections inside it.
fn section(text: &mut String, path: &str, table: &Table) {
    let (inner, own): (Vec<_>, Vec<_>) = table.iter().partition(|(_, value)| value.is_table());
    if !path.is_empty() && (!own.is_empty() || inner.is_empty()) {
        text.push_str(&format!("\n[{path}]\n"));
    }
    for (name, value) in own {
        let lines = match value {
            Value::Array(list) if list.iter().any(Value::is_table) => {
                let items: String = list.iter().map(|item| format!("    {item},\n")).collect();
                format!("[\n{items}]")
            }
            other => other.to_string(),
        };
        text.push_str(&format!("{} = {lines}\n", key(name)));
    }
    for (name, value) in inner {
        if let Value::Table(table) = value {
            let path = if path.is_empty() { key(name) } else { format!("{path}.{}", key(name)) };
            section(text, &path, table);
        }
    }
}

/// A key, quoted where it must be.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { name.to_string() } else { Value::String(name.to_string()).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let text = r#"
            a = 1.5
            "b c" = "x\"y"
            [d]
            list = [{ type = "relu" }, { type = "residual", layers = [{ type = "tanh" }], n = [1, 2] }]
            [d.e."f g"]
            h = true
            [empty]
        "#;
        let table: Table = toml::from_str(text).unwrap();
        let written = write(&table);
        assert_eq!(toml::from_str::<Table>(&written).unwrap(), table, "{written}");
        assert!(written.contains("\n    { type = \"relu\" },\n"), "{written}");
    }
}
