//! `ganymede bench compare`: whether a report is worse than an older one.

use super::report::{Better, Measurement, Report};
use super::statistics::ratio_of_medians;
use crate::error::{Error, Result};

/// Fewest samples on either side that an interval can be made of.
const LEAST: usize = 3;

/// What became of a result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// New against old, above 1 where the new one is better; and the interval that holds 90 % of its resamples.
    Ratio { ratio: f64, interval: [f64; 2] },
    /// Too few samples to tell.
    TooFew,
    /// Only in the old report.
    Gone,
    /// Only in the new report.
    New,
}

impl Verdict {
    /// Whether the whole interval says worse.
    pub fn is_worse(self) -> bool {
        matches!(self, Verdict::Ratio { interval: [_, high], .. } if high < 1.0)
    }

    /// Whether the whole interval says better.
    pub fn is_better(self) -> bool {
        matches!(self, Verdict::Ratio { interval: [low, _], .. } if low > 1.0)
    }
}

/// One line of the comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Group and name of the result.
    pub name: String,
    /// Median of the old report and of the new one, where there is one.
    pub medians: [Option<f64>; 2],
    /// Unit of both.
    pub unit: String,
    /// What became of it.
    pub verdict: Verdict,
}

/// Compares every result of two reports, in the new one's order; results that are gone come last.
///
/// # Errors
/// [`Error::Input`] if the reports are of different adapters, have no result in common, or disagree on a unit.
pub fn compare(old: &Report, new: &Report) -> Result<Vec<Line>> {
    if old.adapter.name != new.adapter.name {
        return Err(Error::input(format!(
            "the reports are of different adapters: '{}' and '{}'; compare reports of one adapter",
            old.adapter.name, new.adapter.name
        )));
    }
    let find = |report: &'_ Report, of: &Measurement| report.results.iter().position(|r| (r.group, &r.name) == (of.group, &of.name));
    let mut lines = Vec::new();
    let mut common = 0;
    for result in &new.results {
        let Some(before) = find(old, result).map(|i| &old.results[i]) else {
            lines.push(line(result, [None, Some(result.median)], Verdict::New));
            continue;
        };
        if (&before.unit, before.better) != (&result.unit, result.better) {
            return Err(Error::input(format!("'{}' is in {} in one report and in {} in the other", result.name, before.unit, result.unit)));
        }
        common += 1;
        let verdict = if before.samples.len().min(result.samples.len()) < LEAST {
            Verdict::TooFew
        } else {
            let [over, under] = match result.better {
                Better::Higher => [result, before],
                Better::Lower => [before, result],
            };
            let (ratio, interval) = ratio_of_medians(&over.samples, &under.samples);
            Verdict::Ratio { ratio, interval }
        };
        lines.push(line(result, [Some(before.median), Some(result.median)], verdict));
    }
    if common == 0 {
        return Err(Error::input("the reports have no result in common; run the same groups, presets and filter for both"));
    }
    let gone = old.results.iter().filter(|r| find(new, r).is_none());
    lines.extend(gone.map(|r| line(r, [Some(r.median), None], Verdict::Gone)));
    Ok(lines)
}

/// A line that says so if the two reports are of different kernel tables.
pub fn tables(old: &Report, new: &Report) -> Option<String> {
    let kernels = |report: &Report| report.variants.as_ref().map(|table| table.kernels.clone()).unwrap_or_default();
    let named = |report: &Report| report.variants.as_ref().map_or("the built-in choice".to_string(), |table| table.file.clone());
    (kernels(old) != kernels(new)).then(|| format!("Kernels: old is of {}, new of {}", named(old), named(new)))
}

fn line(result: &Measurement, medians: [Option<f64>; 2], verdict: Verdict) -> Line {
    Line { name: format!("{} {}", result.group.name(), result.name), medians, unit: result.unit.clone(), verdict }
}

/// The comparison as a table.
pub fn table(lines: &[Line]) -> String {
    let width = lines.iter().map(|l| l.name.len()).max().unwrap_or(0);
    let mut text = format!("{:width$} {:>10} {:>10}  {:9} {:>7}  {:15}\n", "result", "old", "new", "unit", "ratio", "90 % interval");
    for line in lines {
        let [old, new] = line.medians.map(|m| m.map_or("-".to_string(), |m| format!("{m:.3}")));
        let (ratio, interval, word) = match line.verdict {
            Verdict::Ratio { ratio, interval: [low, high] } => {
                let word = if line.verdict.is_worse() {
                    "WORSE"
                } else if line.verdict.is_better() {
                    "better"
                } else {
                    ""
                };
                (format!("{ratio:.3}"), format!("{low:.3} to {high:.3}"), word)
            }
            Verdict::TooFew => ("-".to_string(), String::new(), "too few samples"),
            Verdict::Gone => ("-".to_string(), String::new(), "only in the old report"),
            Verdict::New => ("-".to_string(), String::new(), "only in the new report"),
        };
        let row = format!("{:width$} {old:>10} {new:>10}  {:9} {ratio:>7}  {interval:15} {word}", line.name, line.unit);
        text += row.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::report::{Adapter, Group, Host, Table};
    use super::*;

    fn report(adapter: &str, results: &[(&str, Better, &[f64])]) -> Report {
        Report {
            schema: 1,
            ganymede: "0".into(),
            command: vec![],
            adapter: Adapter {
                name: adapter.into(),
                backend: "vulkan".into(),
                driver: "d".into(),
                driver_info: "i".into(),
                device_type: "Cpu".into(),
            },
            host: Host { os: "linux".into(), arch: "x86_64".into(), cpus: 2 },
            variants: None,
            results: results
                .iter()
                .map(|(name, better, samples)| Measurement::new(Group::Kernels, name, "k", "u", *better, samples.to_vec()).unwrap())
                .collect(),
        }
    }

    const FAST: &[f64] = &[20.0, 21.0, 20.5, 19.5, 20.2];
    const SLOW: &[f64] = &[10.0, 10.5, 9.5, 10.2, 9.9];

    #[test]
    fn rates_and_times_are_judged_by_what_is_good() {
        let old = report("a", &[("rate", Better::Higher, FAST), ("time", Better::Lower, FAST), ("same", Better::Lower, FAST)]);
        let new = report("a", &[("rate", Better::Higher, SLOW), ("time", Better::Lower, SLOW), ("same", Better::Lower, FAST)]);
        let lines = compare(&old, &new).unwrap();
        let judged: Vec<(bool, bool)> = lines.iter().map(|l| (l.verdict.is_worse(), l.verdict.is_better())).collect();
        assert_eq!(judged, [(true, false), (false, true), (false, false)]);
        let Verdict::Ratio { ratio, .. } = lines[0].verdict else { panic!("{:?}", lines[0]) };
        assert!((ratio - 10.0 / 20.2).abs() < 1e-12, "{ratio}");
        let text = table(&lines);
        assert!(text.contains("WORSE") && text.contains("better"), "{text}");
    }

    #[test]
    fn tables_that_differ_are_named() {
        let table = |file: &str, kernel: &str| {
            let kernels = [("matmul_nn 8x16 16x12".to_string(), kernel.to_string())].into();
            Report { variants: Some(Table { file: file.into(), adapter: "a".into(), kernels }), ..report("a", &[]) }
        };
        let (default, first, same, other) = (report("a", &[]), table("v.toml", "x"), table("w.toml", "x"), table("w.toml", "y"));
        assert_eq!(tables(&first, &same), None, "the kernels count, wherever they are from");
        assert_eq!(tables(&default, &default), None);
        assert_eq!(tables(&default, &first).unwrap(), "Kernels: old is of the built-in choice, new of v.toml");
        assert_eq!(tables(&first, &other).unwrap(), "Kernels: old is of v.toml, new of w.toml");
    }

    #[test]
    fn what_cannot_be_judged_is_said() {
        let old = report("a", &[("few", Better::Higher, FAST), ("gone", Better::Higher, FAST)]);
        let new = report("a", &[("few", Better::Higher, &[1.0, 1.1]), ("new", Better::Higher, FAST)]);
        let verdicts: Vec<(String, Verdict)> = compare(&old, &new).unwrap().into_iter().map(|l| (l.name, l.verdict)).collect();
        let expected = [("kernels few", Verdict::TooFew), ("kernels new", Verdict::New), ("kernels gone", Verdict::Gone)];
        assert_eq!(verdicts, expected.map(|(name, v)| (name.to_string(), v)));
        assert!(verdicts.iter().all(|(_, v)| !v.is_worse()));
    }

    #[test]
    fn reports_that_cannot_be_compared_are_refused() {
        let a = report("a", &[("x", Better::Higher, FAST)]);
        let other = compare(&a, &report("b", &[("x", Better::Higher, FAST)])).unwrap_err().to_string();
        assert!(other.contains("different adapters: 'a' and 'b'"), "{other}");
        let nothing = compare(&a, &report("a", &[("y", Better::Higher, FAST)])).unwrap_err().to_string();
        assert!(nothing.contains("no result in common"), "{nothing}");
        let unit = compare(&a, &report("a", &[("x", Better::Lower, FAST)])).unwrap_err();
        assert!(matches!(unit, Error::Input(_)));
    }
}
