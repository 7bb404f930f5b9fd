//! Labels, profiles, traces and captures of a training step.
//!
//! What needs an adapter is skipped where there is none, and what needs RenderDoc where `renderdoccmd` is not on the path; both are said on standard
//! error.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use ganymede::gan::config::GanConfig;
use ganymede::gan::step::Inputs;
use ganymede::gan::trainer;
use ganymede::gpu::testing;
use ganymede::graph::lower::Caps;
use ganymede::graph::shape::Shape;
use ganymede::ops;
use ganymede::ops::elementwise::tanh;
use ganymede::ops::matmul::matmul;
use ganymede::plan::label::Label;
use ganymede::run::presets::{PRESETS, Preset};
use serde_json::Value;

/// A preset's training with `d_steps` updates of the discriminator a step, in `parts` micro-batches each.
fn config(preset: &Preset, d_steps: usize, parts: usize) -> GanConfig {
    GanConfig { micro_batch: preset.batch() / parts, d_steps, ..preset.gan_config(1, preset.batch()) }
}

#[test]
fn every_dispatch_of_every_preset_says_where_it_belongs() {
    let lavapipe = Caps { fixed_subgroup: true, quads: true, int64: true, software: true, ..Caps::minimal() };
    let kinds = [(1, 1, Caps::minimal()), (1, 1, lavapipe), (2, 1, Caps::minimal()), (1, 2, Caps::minimal())];
    for (preset, (d_steps, micro_batches, caps)) in PRESETS.iter().flat_map(|p| kinds.clone().map(|kind| (p, kind))) {
        let gan = config(preset, d_steps, micro_batches);
        let plan = trainer::plan(&gan, &Inputs::Device { images: 1000 }, &caps).unwrap();
        let labels: Vec<&str> = plan.dispatches.iter().map(|(label, _)| label.as_str()).collect();
        assert_eq!(labels.iter().collect::<HashSet<_>>().len(), labels.len(), "{}: a label twice", preset.name);
        for (label, dispatch) in &plan.dispatches {
            let parts: Vec<&str> = Label::parse(label).layer.split('/').collect();
            assert!(parts.iter().all(|part| !part.is_empty() && !part.contains(['.', '\''])), "{label}");
            assert!(matches!(parts[..], ["step", "G" | "D", _, ..] | ["step", "data" | "stats", _]), "{label}");
            assert!(label.split('#').next().unwrap().ends_with(dispatch.kernel.name), "{label} runs {}", dispatch.kernel.name);
            let layer = parts.get(3);
            let direction = Label::parse(label).direction;
            assert!(layer.is_none() || direction.is_some() || label.contains(".running_stats"), "{label} has no direction");
        }
        // A layer is known by its place in the state dict, in each pass and direction, and by the network it is of.
        let has = |start: &str| labels.iter().any(|label| label.starts_with(start));
        for (network, pass) in [(&gan.generator, "G/fake"), (&gan.discriminator, "D/pair")] {
            let tensors = network.tensors().unwrap();
            for tensor in &tensors {
                let (layer, key) = tensor.name.split_once('.').unwrap();
                let kinds = ["linear", "conv", "conv_transpose"].map(|kind| format!("step/{pass}/{kind}{layer}"));
                let class = format!("step/{pass}/class_concat{layer}");
                if has(&format!("{class}.forward.embedding")) {
                    assert!(has(&format!("{class}.backward_{key}.embedding_backward")), "{}: {class} in {labels:#?}", preset.name);
                    continue;
                }
                let product = kinds.iter().find(|start| has(&format!("{start}.forward.gemm")));
                let Some(product) = product else {
                    assert!(has(&format!("step/{pass}/batch_norm{layer}.")), "{}: {} of {pass} in {labels:#?}", preset.name, tensor.name);
                    continue;
                };
                // Sums over rows are made for all layers of a pass together: biases, and the weight of a layer with one output.
                let gradients = [format!("{product}.backward_{key}."), format!("step/{pass}/sums.backward_bias.")];
                assert!(gradients.iter().any(|start| has(start)), "{}: no gradient of {} for {product}", preset.name, tensor.name);
                // Nothing asks for the gradient of a network's input; the loss goes through D's last layer itself.
                let ends = [tensors.first(), tensors.last()].map(|t| t.is_some_and(|t| t.name.starts_with(&format!("{layer}."))));
                match ends {
                    [true, _] => assert!(!has(&format!("{product}.backward_input.")), "{}: {product}", preset.name),
                    [false, true] if pass == "D/pair" => {}
                    _ => assert!(has(&format!("{product}.backward_input.")), "{}: {product}", preset.name),
                }
            }
        }
        for start in ["step/data/draw.draw_batch", "step/stats/tick.", "step/D/adam", "step/G/adam", "step/D/loss.", "step/G/loss."] {
            assert!(has(start), "{}: no {start} in {labels:#?}", preset.name);
        }
        // G's loss goes through D, whose parameters get no gradient from it.
        assert!(labels.iter().any(|l| l.starts_with("step/G/D/") && l.contains(".backward_input.")), "{labels:#?}");
        assert!(!labels.iter().any(|l| l.starts_with("step/G/D/") && l.contains(".backward_weight.")), "{labels:#?}");
        assert_eq!(labels.contains(&"step/D/adam#2"), d_steps == 2, "{}: {labels:#?}", preset.name);
        for network in ["G", "D"] {
            assert_eq!(has(&format!("step/{network}/accumulate")), micro_batches > 1, "{}: {labels:#?}", preset.name);
        }
        // G's micro-batches are made once more for its own update, and so are the reals if its loss compares features with theirs.
        let again = micro_batches > 1;
        let reals = gan.loss.needs_reals();
        assert_eq!(labels.contains(&"step/data/draw.draw_batch#2"), d_steps == 2 || again && reals, "{}: {labels:#?}", preset.name);
        assert_eq!(has("step/data/z.noise"), again && !reals, "{}: {labels:#?}", preset.name);
    }
}

#[test]
fn gradients_are_labelled_by_what_they_are_gradients_of() {
    let mut g = ops::new_graph();
    let leaf = |g: &mut ganymede::graph::Graph, name: &str, dims: &[usize]| g.leaf(name, Shape::new(dims).unwrap(), None).unwrap();
    let (x, w) = (leaf(&mut g, "x", &[2, 3]), leaf(&mut g, "D.0.weight@1", &[3, 3]));
    let y = g.scope("D/pair", |g| g.scope("linear0", |g| matmul(g, x, w, false, true))).unwrap();
    let z = g.scope("D/pair/tanh1", |g| tanh(g, y)).unwrap();
    let seed = g.scope("seed", |g| ops::constant::ones_like(g, z)).unwrap();
    assert_eq!(g.node(y).label(), "D/pair/linear0.forward");
    let [dx, dw] = g.gradients(&[(z, seed)], &[x, w]).unwrap()[..] else { panic!() };
    let (dx, dw) = (dx.unwrap(), dw.unwrap());
    // x is asked for by its own name, w by its key in the state dict.
    assert_eq!(g.node(dx).label(), "D/pair/linear0.backward_x");
    assert_eq!(g.node(dw).label(), "D/pair/linear0.backward_weight");
    let dy = g.inputs(dx)[0];
    assert_eq!(g.node(dy).label(), "D/pair/tanh1.backward");
    // The gradient of the gradient: through the product of the first gradient, and through tanh'.
    let before = g.len();
    let seed = g.scope("penalty", |g| ops::constant::ones_like(g, dx)).unwrap();
    let second = g.gradients(&[(dx, seed)], &[w]).unwrap()[0].unwrap();
    assert!(
        g.node(second).label().starts_with("D/pair/linear0.") && g.node(second).label().contains("backward"),
        "{}",
        g.node(second).label()
    );
    let labels: HashSet<String> = (before..g.len()).map(|id| g.node(ganymede::graph::NodeId(id)).label()).collect();
    for label in ["D/pair/linear0.double_backward_weight", "D/pair/linear0.double_backward_input", "D/pair/tanh1.double_backward_input"] {
        assert!(labels.contains(label), "no {label} in {labels:?}");
    }
    // Scopes end where they end.
    let after = g.apply(ops::elementwise::Tanh, &[x]).unwrap();
    assert_eq!(g.node(after).label(), ".forward");
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ganymede"));
    command.args(args).current_dir(folder).stdin(Stdio::null());
    for name in ["XDG_RUNTIME_DIR", "WAYLAND_DISPLAY", "DISPLAY"] {
        command.env_remove(name);
    }
    if let Ok(adapter) = std::env::var("GANYMEDE_TEST_ADAPTER") {
        command.args(["--adapter", &adapter]);
    }
    command
}

#[track_caller]
fn ok(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && err.is_empty(), "{}\n{err}\n{out}", output.status);
    out
}

#[track_caller]
fn fails(folder: &Path, args: &[&str], code: i32, needles: &[&str]) {
    let output = command(folder, args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    assert!(text.starts_with("ganymede: error: ") && !text.contains("panicked"), "{args:?}: {text}");
    for needle in needles {
        assert!(text.contains(needle), "{args:?}: no {needle:?} in {text}");
    }
}

/// A small step, quick to time.
const SMALL: [&str; 4] = ["--data", "builtin:digits?n=30", "--batch", "4"];

/// A slice of a trace, in nanoseconds.
#[derive(Debug, Clone)]
struct Slice {
    name: String,
    begin: i64,
    end: i64,
    args: Value,
}

impl Slice {
    fn holds(&self, other: &Slice) -> bool {
        self.begin <= other.begin && other.end <= self.end
    }
}

/// The slices of each track, by the track's name, in order of time, outer ones first.
fn tracks(trace: &Value) -> BTreeMap<String, Vec<Slice>> {
    let events = trace["traceEvents"].as_array().unwrap();
    let mut names = BTreeMap::new();
    for event in events.iter().filter(|e| e["ph"] == "M" && e["name"] == "thread_name") {
        names.insert(event["tid"].as_u64().unwrap(), event["args"]["name"].as_str().unwrap().to_string());
    }
    let mut tracks: BTreeMap<String, Vec<Slice>> = BTreeMap::new();
    for event in events.iter().filter(|e| e["ph"] != "M") {
        assert_eq!(event["ph"], "X", "{event}");
        let ns = |key: &str| (event[key].as_f64().unwrap_or_else(|| panic!("no {key} in {event}")) * 1e3).round() as i64;
        let (begin, took) = (ns("ts"), ns("dur"));
        assert!(begin >= 0 && took >= 0, "{event}");
        let slice = Slice { name: event["name"].as_str().unwrap().to_string(), begin, end: begin + took, args: event["args"].clone() };
        tracks.entry(names[&event["tid"].as_u64().unwrap()].clone()).or_default().push(slice);
    }
    tracks.values_mut().for_each(|track| track.sort_by_key(|slice| (slice.begin, -slice.end)));
    tracks
}

/// Slices of one track are apart or one within the other, as viewers need them.
#[track_caller]
fn assert_nested(track: &[Slice]) {
    let mut open: Vec<&Slice> = Vec::new();
    for slice in track {
        while open.last().is_some_and(|outer| outer.end <= slice.begin && !outer.holds(slice)) {
            open.pop();
        }
        assert!(open.last().is_none_or(|outer| outer.holds(slice)), "{slice:?} sticks out of {:?}", open.last());
        open.push(slice);
    }
}

#[test]
fn a_profile_adds_up_and_its_trace_holds_every_dispatch() {
    if testing::gpu().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let plan = ok(&command(dir.path(), &[&["plan", "--preset", "mlp"], &SMALL[..]].concat()).output().unwrap());
    let planned: Vec<String> = plan
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1).filter(|label| label.starts_with("step/")))
        .map(str::to_string)
        .collect();
    assert!(planned.len() > 20, "{plan}");

    let args = [&["profile", "mlp", "--steps", "3", "--trace", "trace.json"], &SMALL[..]].concat();
    let table = ok(&command(dir.path(), &args).output().unwrap());
    assert!(
        table.contains("Ceilings, measured now: ") && table.contains("What bounds each kernel:") && table.contains("3 steps"),
        "{table}"
    );
    assert!(table.contains("trace.json"), "{table}");
    // The lines add up to the last.
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let head = lines.iter().position(|cells| cells.first() == Some(&"kernel")).unwrap();
    let end = lines.iter().position(|cells| cells.first() == Some(&"step")).unwrap();
    let number = |cells: &[&str], column: usize| cells[column].parse::<f64>().unwrap_or_else(|_| panic!("{cells:?}"));
    for (column, slack) in [(1, 0.0), (2, 0.05), (3, 2.0), (4, 0.05), (6, 0.05)] {
        let sum: f64 = lines[head + 1..end].iter().map(|cells| number(cells, column)).sum();
        assert!((sum - number(&lines[end], column)).abs() <= slack, "column {column} adds up to {sum} in {table}");
    }
    assert_eq!(number(&lines[end], 1), planned.len() as f64);

    let trace: Value = serde_json::from_slice(&fs::read(dir.path().join("trace.json")).unwrap()).unwrap();
    let tracks = tracks(&trace);
    assert_eq!(tracks.keys().collect::<Vec<_>>(), ["device", "host"]);
    tracks.values().for_each(|track| assert_nested(track));
    let (host, device) = (&tracks["host"], &tracks["device"]);
    for name in ["data", "build", "warm-up", "untimed steps", "tick", "ceilings"] {
        assert_eq!(host.iter().filter(|slice| slice.name == name).count(), 1, "{name}");
    }
    for step in 0..3 {
        let find = |track: &[Slice], name: String| track.iter().find(|slice| slice.name == name).cloned().unwrap();
        let outer = find(host, format!("timed step {step}"));
        let work: Vec<&Slice> = host.iter().filter(|s| outer.holds(s) && ["encode", "submit", "wait"].contains(&s.name.as_str())).collect();
        assert!(work.len() >= 3 && work.len().is_multiple_of(3), "{work:?}");
        // Nothing runs before it is submitted or after the wait for it.
        let on_device = find(device, format!("step {step}"));
        let (submit, wait) = (work.iter().find(|w| w.name == "submit").unwrap(), work.last().unwrap());
        assert!(submit.begin <= on_device.begin && on_device.end <= wait.end, "{on_device:?} not in {submit:?} to {wait:?}");
        let inner: Vec<&Slice> = device.iter().filter(|slice| on_device.holds(slice) && slice.args.get("kernel").is_some()).collect();
        assert_eq!(inner.iter().map(|slice| slice.name.as_str()).collect::<Vec<_>>(), planned, "step {step}");
        for slice in inner {
            let kernel = slice.args["kernel"].as_str().unwrap();
            assert!(slice.name.split('#').next().unwrap().ends_with(kernel.split('/').next().unwrap()), "{slice:?}");
            assert!(slice.args["flops"].is_u64() && slice.args["bytes"].as_u64().unwrap() > 0, "{slice:?}");
            let ns = &slice.args["ns"];
            assert!(ns == "not measured" || ns.as_f64().unwrap() > 0.0, "{slice:?}");
            let phase = Label::parse(&slice.name).phase();
            assert!(device.iter().any(|outer| outer.name == phase && outer.holds(slice)), "{slice:?} is in no slice of {phase}");
        }
    }
    assert!(trace["otherData"]["host and device aligned within (us)"].as_f64().unwrap() >= 0.0);
}

#[test]
fn micro_batches_count_as_often_as_they_run() {
    if testing::gpu().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let settings = [&["--preset", "mlp", "--micro-batch", "1"], &SMALL[..]].concat();
    let plan = ok(&command(dir.path(), &[&["plan"], &settings[..]].concat()).output().unwrap());
    let count = plan.lines().filter_map(|line| line.split_once(" dispatches, ")).next_back().unwrap().0;
    let flops = plan.lines().filter_map(|line| line.split_once(" GFLOP; ")).next_back().unwrap().0.rsplit(' ').next().unwrap();

    let args = [&["profile", "--steps", "2", "--by", "dispatch", "--trace", "trace.json"], &settings[..]].concat();
    let table = ok(&command(dir.path(), &args).output().unwrap());
    assert!(table.contains("each of 4 micro-batches"), "{table}");
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let calls = |name: &str| lines.iter().find(|cells| cells.first() == Some(&name)).unwrap_or_else(|| panic!("no {name} in {table}"))[1];
    for (name, times) in [("step/G/adam", "1"), ("step/D/adam", "1"), ("step/D/accumulate", "4"), ("step/G/accumulate", "4")] {
        assert_eq!(calls(name), times, "{name} in {table}");
    }
    assert_eq!(calls("step"), count, "{table}");
    let whole = lines.iter().find(|cells| cells.first() == Some(&"step")).unwrap();
    assert!((whole[4].parse::<f64>().unwrap() / 1e3 - flops.parse::<f64>().unwrap()).abs() < 1e-3, "{flops} GFLOP in {table}");

    // The trace has what was timed, once, and the host's repeats between.
    let trace: Value = serde_json::from_slice(&fs::read(dir.path().join("trace.json")).unwrap()).unwrap();
    let tracks = tracks(&trace);
    tracks.values().for_each(|track| assert_nested(track));
    // A part for each network's micro-batches, in each of two steps.
    assert_eq!(tracks["host"].iter().filter(|slice| slice.name == "repeat").count(), 4);
    let accumulate: Vec<&Slice> =
        tracks["device"].iter().filter(|slice| slice.name == "step/D/accumulate" && slice.args.get("kernel").is_some()).collect();
    assert!(accumulate.len() == 2 && accumulate.iter().all(|slice| slice.args["runs in a step"] == 4), "{accumulate:?}");
}

#[test]
fn other_tables_have_the_lines_that_they_promise() {
    if testing::gpu().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (by, wanted) in [
        ("layer", &["step/G/fake/linear2", "step/D/pair/linear5", "step/G/adam", "step/data/draw"][..]),
        ("phase", &["step/G/fake.forward", "step/D/pair.backward", "step/G/D.backward", "step/D/adam", "step/data", "step/stats"]),
        ("dispatch", &["step/data/draw.draw_batch", "step/D/adam", "step/G/fake/linear2.forward.gemm_"]),
    ] {
        let args = [&["profile", "--preset", "mlp", "--steps", "1", "--by", by], &SMALL[..]].concat();
        let table = ok(&command(dir.path(), &args).output().unwrap());
        assert!(table.lines().any(|line| line.starts_with(by)), "{table}");
        for start in wanted {
            assert!(table.lines().any(|line| line.starts_with(start)), "no {start} in {table}");
        }
    }
}

#[test]
fn what_cannot_be_profiled_or_captured_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let args = |more: &[&'static str]| [&["profile"], &SMALL[..], more].concat();
    fails(dir.path(), &args(&["--steps", "0"]), 2, &["--steps"]);
    fails(dir.path(), &args(&["mlp", "--preset", "mlp"]), 2, &["cannot be used with"]);
    fails(dir.path(), &args(&["mpl"]), 2, &["no preset \"mpl\"", "mlp"]);
    fails(dir.path(), &args(&["--by", "colour"]), 2, &["colour", "kernel, layer, phase, dispatch"]);
    fails(dir.path(), &args(&["--capture-step", "1", "--trace", "x"]), 2, &["cannot be used with"]);
    fails(dir.path(), &args(&["--trace", "no/such/folder/x.json"]), 3, &["--trace", "no/such/folder/x.json"]);
    let train = |step: &'static str| [&["train", "--steps", "3", "--capture-step", step], &SMALL[..]].concat();
    fails(dir.path(), &train("0"), 2, &["--capture-step"]);
    fails(dir.path(), &train("4"), 2, &["--capture-step 4", "steps 1 to 3"]);
    if testing::gpu().is_some() && std::env::var_os("ENABLE_VULKAN_RENDERDOC_CAPTURE").is_none() {
        fails(dir.path(), &train("2"), 3, &["no capture tool is attached", "docs/PROFILING.md"]);
        fails(dir.path(), &args(&["--capture-step", "1"]), 3, &["no capture tool is attached", "docs/PROFILING.md"]);
        let left = fs::read_dir(dir.path().join("runs")).unwrap().map(|entry| entry.unwrap().path());
        assert_eq!(left.filter(|path| path.is_dir()).count(), 0, "a refused run has left a folder");
    }
}

/// Whether RenderDoc is there; says so if not.
fn renderdoc() -> bool {
    let there = Command::new("renderdoccmd").arg("version").output().is_ok_and(|output| output.status.success());
    if !there {
        // Written directly, because the test harness hides what passing tests print.
        let _ = writeln!(
            std::io::stderr(),
            "*** CAPTURE TEST SKIPPED: renderdoccmd is not on the path (Debian: apt-get install renderdoccmd) ***"
        );
    }
    there
}

#[test]
fn a_step_can_be_captured_without_a_display() {
    if testing::gpu().is_none() || !renderdoc() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let proof = Command::new("sh")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/capture-proof.sh"))
        .arg(dir.path().join("proof"))
        .env("GANYMEDE", env!("CARGO_BIN_EXE_ganymede"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&proof.stdout), String::from_utf8_lossy(&proof.stderr));
    assert!(proof.status.success() && text.contains("Proven: "), "{text}");

    // In the midst of a run, which goes on and ends as it would have.
    let train = ["train", "--steps", "5", "--capture-step", "3", "--data", "builtin:digits?n=30", "--batch", "4"];
    let output = Command::new("renderdoccmd")
        .args(["capture", "-w", "-c"])
        .arg(dir.path().join("run"))
        .arg(env!("CARGO_BIN_EXE_ganymede"))
        .args(train)
        .args(["--outdir".as_ref(), dir.path().join("runs").as_os_str()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let capture = dir.path().join("run_capture.rdc");
    assert!(text.contains(&format!("Captured step 3. RenderDoc capture: {}", capture.display())), "{text}");
    assert!(text.contains("Finished: "), "{text}");
    assert!(fs::metadata(&capture).unwrap().len() > 100_000, "{text}");
    assert!(!dir.path().join("run_capture_1.rdc").exists(), "more than one capture");
}
