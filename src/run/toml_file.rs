//! Reading TOML that people write: what is wrong is said with file, line, column, key and the nearest valid key.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::disk::plain;
use crate::error::{Error, Result};
use crate::suggest::nearest;

/// Largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// The text of the file `path`, which is a `what`; `hint` says where to find one.
///
/// # Errors
/// [`Error::Input`] naming the file.
pub fn read(path: &Path, what: &str, hint: &str) -> Result<String> {
    let unreadable = |why: String| Error::input(format!("cannot read the {what} {}: {why}", path.display()));
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(plain(&error)))?;
    if !metadata.is_file() {
        return Err(unreadable(format!("it is not a file; {hint}")));
    }
    if metadata.len() > MAX_BYTES {
        return Err(unreadable(format!("it has {} bytes, more than any {what} (at most {MAX_BYTES})", metadata.len())));
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(plain(&error)))?;
    String::from_utf8(bytes).map_err(|error| unreadable(format!("it is not UTF-8 text (byte {})", error.utf8_error().valid_up_to())))
}

/// Parses the text of the file `path`.
///
/// # Errors
/// [`Error::Input`] naming the file, line and column, and the key where there is one.
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let (line, column) = column(text, at);
        let before = &text[..text.floor_char_boundary(at)];
        let section = before.lines().rev().find_map(|line| line.trim().strip_prefix('[')?.split(']').next());
        Error::input(format!("{}:{line}:{column}: {}", path.display(), explain(error.message(), section, text, line)))
    })
}

/// Line and column, from 1, of a byte of a text.
pub fn column(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(at)];
    (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or("").chars().count() + 1)
}

/// What the TOML reader said, in terms of keys.
fn explain(message: &str, section: Option<&str>, text: &str, line: usize) -> String {
    if let Some((name, (what, rest))) = explain_unknown(message, None) {
        let place = section.filter(|s| !s.is_empty()).map(|section| format!(" in [{section}]")).unwrap_or_default();
        return format!("unknown {what} {name}{place}; {rest}");
    }
    let message = plain_words(message);
    let key = text.lines().nth(line - 1).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim()).filter(|key| !key.is_empty());
    match (section, key) {
        (Some(section), Some(key)) => format!("{section}.{key}: {message}"),
        _ => message,
    }
}

/// Of a message about a name that is not known: the name, what it is (`key`, or the key that it is a value of), and what could stand there.
pub fn explain_unknown(message: &str, key: Option<&str>) -> Option<(String, (String, String))> {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (name, valid) = quoted.split_first()?;
    let hint = nearest(name, valid.iter().copied()).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
    let (what, list) = if message.starts_with("unknown field") {
        ("key".to_string(), "keys here are")
    } else if message.starts_with("unknown variant") {
        let value_of = key.filter(|key| key.parse::<usize>().is_err()).unwrap_or("type");
        (value_of.to_string(), "it may be")
    } else {
        return None;
    };
    let list = if valid.is_empty() { "no key fits here".to_string() } else { format!("{list} {}", valid.join(", ")) };
    Some((name.to_string(), (what, format!("{hint}{list}"))))
}

/// What the TOML reader said, in words that do not speak of Rust.
pub fn plain_words(message: &str) -> String {
    let message = message.trim().replace('\n', " ").replace('`', "");
    let message =
        message.replace("expected u32", "expected a whole number, 0 or more").replace("expected u64", "expected a whole number, 0 or more");
    let message = message.replace("expected usize", "expected a whole number, 0 or more");
    // serde names the type: `expected struct Rotation`, `expected internally tagged enum Layer`.
    let message = ["expected struct ", "expected internally tagged enum "].iter().fold(message, |message, start| {
        let Some((before, after)) = message.split_once(start) else { return message };
        let rest = after.trim_start_matches(|c: char| c.is_alphanumeric() || c == ':');
        format!("{before}expected a table{rest}")
    });
    message
        .replace("expected f64", "expected a number")
        .replace("expected f32", "expected a number")
        .replace("expected a boolean", "expected true or false")
}
