//! `report.html`: a run on one page, which needs nothing beside itself and runs no script.
//!
//! It is made of what the run folder holds (`stats.jsonl`, the pictures), so that a resumed run's page tells of all of it. Every text from outside is
//! escaped. Pictures are embedded, as many as fit into `MOST_PICTURES` and `MOST_BYTES`: the first, the last, and some between.

mod chart;
mod verdict;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::config::TrainConfig;
use super::disk;
use super::folder::{pictures, read_if_there};
use super::metrics;
use super::progress::{format_bytes, format_kimg, format_seconds};
use crate::error::Result;
use chart::{Chart, Scale, Series, number};
pub use verdict::Status;

/// Most pictures in the strip of the run's course.
const MOST_PICTURES: usize = 12;

/// Most bytes of the pictures in that strip, before they become text.
const MOST_BYTES: u64 = 8 << 20;

/// What the folder does not tell.
pub struct Facts<'a> {
    /// The run's settings.
    pub config: &'a TrainConfig,
    /// Adapter and driver.
    pub device: &'a str,
    /// Where the run stands.
    pub status: Status,
    /// Steps and images seen.
    pub position: (u64, u64),
}

/// Writes `report.html` into a run folder.
///
/// # Errors
/// [`crate::error::Error::Environment`] if the folder cannot be read or written.
pub fn write(folder: &Path, facts: &Facts<'_>) -> Result<()> {
    let page = page(folder, facts)?;
    disk::replace(&folder.join("report.html"), page.as_bytes())
}

/// Text as it is written in HTML, between tags or in a quoted attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Control characters are not allowed in HTML.
            c if c.is_control() && c != '\n' && c != '\t' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

fn page(folder: &Path, facts: &Facts<'_>) -> Result<String> {
    let config = facts.config;
    let lines = lines(folder)?;
    let name = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    let name = name.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
    let (word, class) = facts.status.word();
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{} – Ganymede</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n<h1>{}</h1>\n<p class=\"soft\">{}</p>\n\
         <p class=\"verdict {class}\"><b>{word}</b> <span>{}</span></p>\n",
        escape(&name),
        include_str!("style.css"),
        escape(&name),
        escape(&format!("{} on {}, batch {}", config.preset, config.data.source, config.training.batch)),
        escape(&verdict_line(facts, &lines)),
    );
    html.push_str(&samples(folder)?);
    let charts: String = charts(&lines).iter().map(Chart::html).collect();
    if !charts.is_empty() {
        let _ = write!(html, "<h2>Curves</h2>\n<div class=\"pair\">\n{charts}</div>\n");
    }
    let _ = write!(
        html,
        "<h2>Time and device</h2>\n<div class=\"pair\">\n<div class=\"card\">{}</div>\n<div class=\"card\">{}</div>\n</div>\n",
        table(&timing(&lines, facts)),
        table(&run_table(facts, &lines))
    );
    let _ = write!(html, "<h2>Settings</h2>\n<pre>{}</pre>\n", escape(config.to_toml()?.trim_end()));
    let _ = write!(html, "<footer>Written by ganymede {}.</footer>\n</main>\n</body>\n</html>\n", env!("CARGO_PKG_VERSION"));
    Ok(html)
}

/// What is known of the run so far, in one or two sentences.
fn verdict_line(facts: &Facts<'_>, lines: &[Map<String, Value>]) -> String {
    let (step, images) = facts.position;
    let mut text = format!("{} kimg, step {step}", format_kimg(images));
    if let Some(seconds) = lines.last().and_then(|line| line.get("seconds")?.as_f64()) {
        let _ = write!(text, ", {} of training", format_seconds(seconds));
    }
    text.push_str(". ");
    match &facts.status {
        Status::Failed(why) => text.push_str(why),
        _ => text.push_str(verdict::balance(lines).unwrap_or_default()),
    }
    text
}

/// The lines of `stats.jsonl`; a torn or foreign one is left out.
fn lines(folder: &Path) -> Result<Vec<Map<String, Value>>> {
    let bytes = read_if_there(&folder.join("stats.jsonl"))?.unwrap_or_default();
    Ok(bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

/// Reals beside the newest fakes, then the strip of the run's course.
fn samples(folder: &Path) -> Result<String> {
    let mut html = String::new();
    let fakes = pictures(folder)?;
    let reals = folder.join("reals.png");
    let newest = fakes.last().map(|(images, path)| (format!("Generated, {}", moment(*images)), path.clone()));
    let pair = [Some(("Real images".to_string(), reals)).filter(|(_, path)| path.exists()), newest];
    let cards: String = pair
        .into_iter()
        .flatten()
        .map(|(title, path)| {
            Ok(format!("<figure class=\"card\"><figcaption><h3>{title}</h3></figcaption>{}</figure>\n", image(&path, &title)?))
        })
        .collect::<Result<_>>()?;
    if !cards.is_empty() {
        let _ = write!(html, "<h2>Samples</h2>\n<div class=\"pair\">\n{cards}</div>\n");
    }
    let sizes: Vec<u64> = fakes.iter().map(|(_, path)| fs::metadata(path).map_or(0, |metadata| metadata.len())).collect();
    let chosen = chosen(&sizes);
    if chosen.len() > 1 {
        let left_out = if chosen.len() < fakes.len() { format!(" {} of {} pictures.", chosen.len(), fakes.len()) } else { String::new() };
        let _ = write!(
            html,
            "<h2>Over training</h2>\n<p class=\"soft lead\">The same noise each time, through the averaged generator.{left_out}</p>\n<div class=\"strip\">\n"
        );
        for index in chosen {
            let (images, path) = &fakes[index];
            let title = moment(*images);
            let _ = writeln!(html, "<figure class=\"card\">{}<figcaption>{title}</figcaption></figure>", image(path, &title)?);
        }
        html.push_str("</div>\n");
    }
    Ok(html)
}

/// When a picture was made.
fn moment(images: u64) -> String {
    if images == 0 { "before training".to_string() } else { format!("{} kimg", format_kimg(images)) }
}

/// Which pictures the strip shows: evenly spread, the first and the last among them, as many as the bounds allow.
fn chosen(sizes: &[u64]) -> Vec<usize> {
    for n in (2..=MOST_PICTURES.min(sizes.len())).rev() {
        let spread: Vec<usize> = (0..n).map(|i| i * (sizes.len() - 1) / (n - 1)).collect();
        if n == 2 || spread.iter().map(|i| sizes[*i]).sum::<u64>() <= MOST_BYTES {
            return spread;
        }
    }
    (0..sizes.len()).collect()
}

/// An embedded picture.
fn image(path: &Path, title: &str) -> Result<String> {
    let bytes = read_if_there(path)?.unwrap_or_default();
    Ok(format!("<img alt=\"{}\" src=\"data:image/png;base64,{}\">", escape(title), base64(&bytes)))
}

/// RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// The charts that there is something to draw in.
fn charts(lines: &[Map<String, Value>]) -> Vec<Chart> {
    let kimg = |line: &Map<String, Value>| line.get("images_seen").and_then(Value::as_f64).map_or(f64::NAN, |images| images / 1000.0);
    let series = |name: String, value: &dyn Fn(&Map<String, Value>) -> Option<f64>| {
        let points = lines.iter().map(|line| (kimg(line), value(line).unwrap_or(f64::NAN))).collect();
        Series { name, points }
    };
    let mut fields: Vec<&String> = lines.iter().flat_map(Map::keys).collect();
    fields.sort();
    fields.dedup();
    let of_group = |wanted: &str| -> Vec<Series> {
        let named = fields.iter().filter_map(|field| Some((*field, metrics::name(field).filter(|(group, _)| *group == wanted)?.1)));
        named.map(|(field, name)| series(name.replace('_', " "), &|line| line.get(field)?.as_f64())).collect()
    };
    let known = |field: &str, name: &str| {
        fields.iter().any(|there| *there == field).then(|| series(name.to_string(), &|line| line.get(field)?.as_f64()))
    };
    let scores = [known("d_x", "D(x)"), known("d_g_z1", "D(G(z)), before D's update"), known("d_g_z2", "after it")];
    let speed = series("images/s".to_string(), &metrics::images_per_second);
    let mut charts = vec![
        Chart { title: "Losses".into(), note: "mean of each tick", series: of_group("loss"), scale: Scale::Linear },
        Chart {
            title: "What the discriminator says".into(),
            note: "of real images, D(x), and of generated ones",
            series: scores.into_iter().flatten().collect(),
            scale: Scale::FromZero,
        },
        Chart {
            title: "Gradient norms".into(),
            note: "L2 norm over all of a network's weights",
            series: of_group("grad_norm"),
            scale: Scale::Magnitude,
        },
        Chart {
            title: "Speed".into(),
            note: "images per second, pictures and checkpoints left out",
            series: vec![speed],
            scale: Scale::FromZero,
        },
        Chart { title: "Learning rates".into(), note: "", series: of_group("lr"), scale: Scale::FromZero },
    ];
    charts.extend(of_group("other").into_iter().map(|series| Chart {
        title: series.name.clone(),
        note: "",
        series: vec![series],
        scale: Scale::Linear,
    }));
    charts
}

type Rows = Vec<(&'static str, String)>;

fn table(rows: &Rows) -> String {
    let row = |(name, value): &(&str, String)| format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape(name), escape(value));
    format!("<table>{}</table>", rows.iter().map(row).collect::<String>())
}

fn timing(lines: &[Map<String, Value>], facts: &Facts<'_>) -> Rows {
    let mut rows = Rows::new();
    let seconds = lines.last().and_then(|line| line.get("seconds")?.as_f64());
    rows.push(("Training", seconds.map_or("not a tick yet".to_string(), format_seconds)));
    let mut speeds: Vec<f64> = lines.iter().filter_map(metrics::images_per_second).collect();
    speeds.sort_by(f64::total_cmp);
    if let (Some(slowest), Some(fastest)) = (speeds.first(), speeds.last()) {
        let median = speeds[speeds.len() / 2];
        rows.push(("Images per second, median tick", number(median)));
        rows.push(("Slowest and fastest tick", format!("{} and {}", number(*slowest), number(*fastest))));
        rows.push(("Seconds per kimg", number(1000.0 / median)));
        rows.push(("Steps per second", number(median / f64::from(facts.config.training.batch))));
    }
    rows.push(("Ticks", lines.len().to_string()));
    rows
}

fn run_table(facts: &Facts<'_>, lines: &[Map<String, Value>]) -> Rows {
    let (step, images) = facts.position;
    let length = match (facts.config.run.steps, facts.config.run.kimg) {
        (Some(steps), _) => format!("{steps} steps"),
        (None, kimg) => format!("{} kimg", number(kimg.unwrap_or(0.0))),
    };
    let mut rows = vec![
        ("Device", if facts.device.is_empty() { "unknown".to_string() } else { facts.device.to_string() }),
        ("Step", step.to_string()),
        ("Images seen", images.to_string()),
        ("Length of the run", length),
    ];
    if let Some(bytes) = lines.last().and_then(|line| line.get("memory_bytes")?.as_u64()) {
        rows.push(("Device memory", format_bytes(bytes)));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::layers::Layers;

    #[test]
    fn base64_of_rfc_4648() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy")];
        for (plain, encoded) in cases {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xfb, 0xef]), "//vv");
    }

    #[test]
    fn escaping() {
        assert_eq!(escape("<a href='x' title=\"y\">&\u{7}\n"), "&lt;a href=&#39;x&#39; title=&quot;y&quot;&gt;&amp;\u{fffd}\n");
    }

    #[test]
    fn pictures_are_spread_and_bounded() {
        assert_eq!(chosen(&[]), [0usize; 0]);
        assert_eq!(chosen(&[9]), [0]);
        assert_eq!(chosen(&[1; 5]), [0, 1, 2, 3, 4]);
        let many = chosen(&[1; 1000]);
        assert_eq!((many.len(), many[0], many[11]), (12, 0, 999));
        assert_eq!(chosen(&[MOST_BYTES / 3; 30]), [0, 14, 29]);
        assert_eq!(chosen(&[MOST_BYTES; 30]), [0, 29], "the two that matter are there at any size");
    }

    #[test]
    fn the_page_escapes_whatever_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("<script>alert(1)<");
        fs::create_dir(&folder).unwrap();
        let mut config = Layers::default().resolve(None).unwrap();
        config.data.source = "\"><script>alert(2)</script>".into();
        config.run.desc = "</pre><script>".into();
        let bad = "{\"images_seen\":1000,\"<script>alert(3)\":1.5,\"loss_<script>\":2.5,\"d_x\":1e999}\n";
        fs::write(folder.join("stats.jsonl"), format!("{{\"images_seen\":500,\"loss_<script>\":2}}\n{bad}torn")).unwrap();
        let status = Status::Failed("<script>alert(4)</script>".into());
        let facts = Facts { config: &config, device: "<script>alert(5)</script>", status, position: (1, 1000) };
        write(&folder, &facts).unwrap();
        let page = fs::read_to_string(folder.join("report.html")).unwrap();
        assert!(!page.contains("<script"), "{page}");
        for text in [1, 2, 4, 5] {
            assert!(page.contains(&format!("&lt;script&gt;alert({text})")), "{text}: {page}");
        }
    }
}
