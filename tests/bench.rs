//! `ganymede bench` as a command: its JSON, its flags, and the verdicts of `compare`. No test depends on how fast anything is.
//!
//! What needs an adapter is skipped where there is none, which is said on standard error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ganymede::bench::{Better, Group, Report};
use ganymede::gpu::testing;
use serde_json::{Value, json};

fn ganymede(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ganymede"));
    command.args(args).current_dir(folder).env("NODEVICE_SELECT", "1").stdin(Stdio::null());
    if let (Ok(adapter), false) = (std::env::var("GANYMEDE_TEST_ADAPTER"), args.contains(&"compare")) {
        command.args(["--adapter", &adapter]);
    }
    command.output().expect("the command starts")
}

/// Runs a command that must end with `code`; returns standard output and standard error.
#[track_caller]
fn ends(folder: &Path, args: &[&str], code: i32) -> (String, String) {
    let output = ganymede(folder, args);
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}\n{err}");
    (out, err)
}

#[track_caller]
fn refused(folder: &Path, args: &[&str], needles: &[&str]) {
    let (_, text) = ends(folder, args, 2);
    assert!(text.starts_with("ganymede: error: ") && text.matches("error:").count() == 1, "{args:?}: {text}");
    for needle in needles {
        assert!(text.contains(needle), "{args:?}: no {needle:?} in: {text}");
    }
}

/// Runs a benchmark with `--json -` and reads standard output, which must be the report and nothing else.
#[track_caller]
fn report(args: &[&str]) -> (Report, Value, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (out, err) = ends(folder.path(), &[&["bench"], args, &["--json", "-"]].concat(), 0);
    let value: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}: {out}"));
    let report: Report = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}: {out}"));
    assert_eq!((report.schema, report.ganymede.as_str()), (1, env!("CARGO_PKG_VERSION")));
    assert_eq!(report.command[0], "bench");
    assert!(report.host.cpus > 0 && !report.adapter.name.is_empty());
    assert_eq!(report.to_json().expect("finite figures"), out, "what is read back writes the same text");
    for m in &report.results {
        assert!(m.samples.iter().all(|s| s.is_finite() && *s > 0.0), "{m:?}");
        let (least, most) = (m.samples.iter().fold(f64::INFINITY, |a, b| a.min(*b)), m.samples.iter().fold(0.0f64, |a, b| a.max(*b)));
        assert_eq!(m.best, if m.better == Better::Higher { most } else { least }, "{m:?}");
        assert!(least <= m.low && m.low <= m.median && m.median <= m.high && m.high <= most, "{m:?}");
        assert!(err.lines().any(|line| line.starts_with(&m.name)), "the table lacks {}: {err}", m.name);
    }
    (report, value, err)
}

/// `benches/peers` reads the parameters of both networks from `summary` and the operations of a step's products from `plan`.
#[test]
fn what_the_comparison_with_peers_reads_is_there() {
    const TOTAL: &str = "total, of one sample";
    let harness = fs::read_to_string("benches/peers/harness/contenders.py").expect("the harness");
    assert!(harness.contains(TOTAL) && harness.contains(r"\.gemm_"), "the harness looks for something else");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (text, _) = ends(folder.path(), &["summary", "--preset", "dcgan-32"], 0);
    let totals = text.lines().filter_map(|line| line.trim().strip_prefix(TOTAL)?.split_whitespace().next());
    let totals: Vec<u64> = totals.map(|number| number.parse().unwrap_or_else(|e| panic!("{e}: {text}"))).collect();
    assert_eq!(totals, [1_066_880, 661_248], "{text}");
    if testing::gpu().is_none() {
        return eprintln!("skipped: there is no adapter to plan for");
    }
    let (text, _) = ends(folder.path(), &["plan", "--preset", "dcgan-32", "--batch", "64"], 0);
    // Label, variant unless there is none, workgroups, MFLOP.
    let is_grid = |word: &&str| word.split('x').count() == 3 && word.split('x').all(|n| n.parse::<u32>().is_ok());
    let products = text.lines().filter(|line| line.contains(".gemm_"));
    let mflop = products.map(|line| line.split_whitespace().skip_while(|word| !is_grid(word)).nth(1));
    let mflop: f64 = mflop.map(|number| number.and_then(|n| n.parse::<f64>().ok()).unwrap_or_else(|| panic!("{text}"))).sum();
    assert!((mflop - 24_030.0).abs() < 24.0, "{mflop} MFLOP\n{text}");
}

#[test]
fn kernels_are_validated_timed_and_set_against_the_ceilings() {
    if testing::gpu().is_none() {
        return;
    }
    let args = ["kernels", "--preset", "mlp", "--batch", "4", "--filter", "256x512", "--seconds", "0.01", "--runs", "2"];
    let (report, value, _) = report(&args);
    let mut names: Vec<&str> = report.results.iter().map(|m| m.name.as_str()).collect();
    // D's second layer on the pair of batches and on the fakes alone; G's second layer; what flows back through both.
    assert!(names.contains(&"matmul 4x256x512 nt +bias leaky_relu"), "{names:?}");
    assert!(names.contains(&"matmul 8x256x512 *leaky_relu'"), "{names:?}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), report.results.len(), "a name stands for one result");
    for (m, raw) in report.results.iter().zip(value["results"].as_array().expect("a list")) {
        assert_eq!((m.group, m.unit.as_str(), m.samples.len()), (Group::Kernels, "GFLOP/s", 2), "{m:?}");
        assert!(m.kernel.starts_with("gemm_"), "{m:?}");
        assert!(m.extra["ceiling_share"] > 0.0 && raw["microseconds"].as_f64() > Some(0.0), "{raw}");
        let flops = raw["flops"].as_f64().expect("a number");
        assert!((m.best - flops / m.extra["microseconds"] * 1e-3).abs() < 1e-6 * m.best, "{raw}");
    }
}

#[test]
fn every_kernel_of_a_preset_is_a_result() {
    if testing::gpu().is_none() {
        return;
    }
    // The smallest preset with every kind of layer; the presets' tests see that plans hold no other kernels than these.
    let args = ["kernels", "--preset", "dcgan-28-small", "--batch", "2", "--seconds", "0.001", "--runs", "1"];
    let (report, ..) = report(&args);
    let kernels: Vec<&str> = report.results.iter().flat_map(|m| m.kernel.split(" + ")).map(|k| k.split('/').next().unwrap_or(k)).collect();
    let (plan, _) = ends(Path::new("."), &["plan", "--preset", "dcgan-28-small", "--batch", "2"], 0);
    // Labels end with the kernel and a number: `step/G/fake/conv3.forward.gemm_rows_broadcast#2`, `step/G/adam`.
    let rows = plan.lines().filter(|l| l.split_whitespace().next().is_some_and(|n| n.parse::<u32>().is_ok()));
    let mut checked = 0;
    for label in rows.filter_map(|l| l.split_whitespace().nth(1)) {
        let Some(kernel) = label.split('#').next().and_then(|l| l.rsplit(['.', '/']).next()).filter(|_| label != "dispatches,") else {
            continue;
        };
        assert!(kernels.contains(&kernel), "{label} is no result of {kernels:?}");
        checked += 1;
    }
    assert!(checked > 30, "{plan}");
    assert!(report.results.iter().any(|m| m.name.starts_with("ceiling multiply-add")) && kernels.contains(&"adam"), "{kernels:?}");
}

#[test]
fn steps_overheads_and_starts_are_measured() {
    if testing::gpu().is_none() {
        return;
    }
    let (steps, ..) = report(&["step", "--preset", "mlp", "--batch", "4", "--seconds", "0.05", "--runs", "3"]);
    let [m] = &steps.results[..] else { panic!("{steps:?}") };
    assert_eq!((m.group, m.name.as_str(), m.unit.as_str(), m.samples.len()), (Group::Step, "mlp, batch 4", "images/s", 3));
    assert!(m.extra["dispatches"] > 20.0 && m.extra["planned_mb"] > 10.0 && m.extra["host_us_per_dispatch"] > 0.0, "{m:?}");

    let (overheads, ..) = report(&["overhead", "--runs", "2"]);
    assert_eq!(overheads.results.len(), 6, "{overheads:?}");
    assert!(overheads.results.iter().all(|m| m.unit == "us" && m.better == Better::Lower && m.samples.len() == 2), "{overheads:?}");

    let (starts, ..) = report(&["start", "--preset", "mlp", "--batch", "4", "--runs", "1"]);
    let names: Vec<&str> = starts.results.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["first step, cold, mlp, batch 4", "first step, warm, mlp, batch 4"]);
    for m in &starts.results {
        let stages = m.extra["open_s"] + m.extra["build_s"] + m.extra["step_s"];
        assert!(stages > 0.0 && stages <= m.best, "a process takes longer than its stages: {m:?}");
    }
}

#[test]
fn results_go_to_a_file_and_the_table_to_standard_output() {
    if testing::gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (out, err) = ends(folder.path(), &["bench", "overhead", "--filter", "readback", "--runs", "1", "--json", "r.json"], 0);
    assert!(out.contains("readback of 256 bytes") && err.is_empty(), "{out}\n{err}");
    let report = Report::read(&folder.path().join("r.json")).expect("a report");
    assert_eq!(report.results.len(), 1);
}

#[test]
fn bad_flags_are_named() {
    let here = tempfile::tempdir().expect("a temporary folder");
    for (flags, needle) in [
        (["--batch", "0"], "--batch"),
        (["--runs", "-3"], "--runs"),
        (["--seconds", "-1"], "--seconds"),
        (["--seconds", "nan"], "--seconds"),
        (["--preset", "dcgan-23"], "did you mean dcgan-2"),
        (["--json", "no/such/folder/r.json"], "--json no/such/folder/r.json"),
    ] {
        refused(here.path(), &[&["bench", "kernels"][..], &flags].concat(), &[needle]);
    }
    refused(here.path(), &["bench", "everything"], &["everything"]);
    if testing::gpu().is_some() {
        let args = ["bench", "kernels", "--filter", "no such kernel", "--json", "r.json"];
        refused(here.path(), &args, &["--filter no such kernel", "matmul 512x512x512"]);
        assert!(!here.path().join("r.json").exists());
    }
}

/// Writes a report with one result of these samples.
fn written(folder: &Path, name: &str, adapter: &str, better: &str, samples: &[f64]) -> PathBuf {
    let result = json!({
        "group": "step", "name": "mlp, batch 64", "kernel": "", "unit": "images/s", "better": better, "best": samples[0],
        "median": samples[0], "low": samples[0], "high": samples[0], "samples": samples, "steps": 12.0
    });
    let report = json!({
        "schema": 1, "ganymede": "0.1.0", "command": ["bench", "step"],
        "adapter": {"name": adapter, "backend": "vulkan", "driver": "d", "driver_info": "1", "device_type": "Cpu"},
        "host": {"os": "linux", "arch": "x86_64", "cpus": 2}, "results": [result]
    });
    let path = folder.join(name);
    fs::write(&path, report.to_string()).expect("a temporary file");
    path
}

#[test]
fn compare_fails_on_what_is_surely_worse_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let here = folder.path();
    let old: Vec<f64> = (0..9).map(|i| 100.0 + f64::from(i)).collect();
    let scaled = |by: f64| -> Vec<f64> { old.iter().map(|s| s * by).collect() };
    written(here, "old.json", "a", "higher", &old);
    written(here, "slower.json", "a", "higher", &scaled(0.5));
    written(here, "alike.json", "a", "higher", &scaled(0.99));
    written(here, "faster.json", "a", "higher", &scaled(1.5));
    written(here, "few.json", "a", "higher", &[1.0]);
    let (out, err) = ends(here, &["bench", "compare", "old.json", "slower.json"], 1);
    assert!(out.contains("WORSE") && out.contains("0.500"), "{out}");
    assert!(err.starts_with("ganymede: error: 1 of 1 results are worse than in old.json: step mlp, batch 64"), "{err}");
    for (new, word) in [("alike.json", "0.990"), ("faster.json", "better"), ("few.json", "too few samples"), ("old.json", "1.000")] {
        let (out, err) = ends(here, &["bench", "compare", "old.json", new], 0);
        assert!(out.contains(word) && err.is_empty(), "{new}: {out}\n{err}");
    }
    // The same numbers as times: half as long is better.
    written(here, "time.json", "a", "lower", &old);
    written(here, "shorter.json", "a", "lower", &scaled(0.5));
    let (out, _) = ends(here, &["bench", "compare", "time.json", "shorter.json"], 0);
    assert!(out.contains("2.000") && out.contains("better"), "{out}");
    ends(here, &["bench", "compare", "shorter.json", "time.json"], 1);
}

#[test]
fn compare_refuses_what_cannot_be_compared() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let here = folder.path();
    written(here, "a.json", "a", "higher", &[1.0, 2.0, 3.0]);
    written(here, "b.json", "b", "higher", &[1.0, 2.0, 3.0]);
    written(here, "zero.json", "a", "higher", &[0.0, 2.0, 3.0]);
    let next = fs::read_to_string(here.join("a.json")).expect("just written").replace("\"schema\":1", "\"schema\":2");
    fs::write(here.join("next.json"), next).expect("a temporary file");
    fs::write(here.join("text.json"), "{}").expect("a temporary file");
    refused(here, &["bench", "compare", "a.json", "b.json"], &["different adapters", "'a'", "'b'"]);
    refused(here, &["bench", "compare", "a.json", "none.json"], &["none.json"]);
    refused(here, &["bench", "compare", "text.json", "a.json"], &["text.json", "is no benchmark report"]);
    refused(here, &["bench", "compare", "a.json", "next.json"], &["next.json", "schema 2"]);
    refused(here, &["bench", "compare", "a.json", "zero.json"], &["zero.json", "positive"]);
    refused(here, &["bench", "compare", "a.json"], &["NEW.json"]);
}
