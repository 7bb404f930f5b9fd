//! The real command on a real adapter: equal commands write equal bytes, a stopped or killed run that goes on ends like one that never stopped, and
//! what goes wrong is said once, with the right exit code.
//!
//! Where there is no adapter, or `GANYMEDE_TEST_GPU=off`, everything here is skipped, which is said on standard error.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ganymede::gpu::testing;
use ganymede::run::checkpoint;
use ganymede::run::presets::preset;
use ganymede::run::state::{HostData, TrainState};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A folder in which commands run.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    /// `None` where tests do not use a GPU.
    fn new() -> Option<Self> {
        testing::gpu()?;
        Some(Bench { dir: tempfile::tempdir().expect("a temporary folder") })
    }

    fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(relative)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ganymede"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        // As on a server, where Mesa's layers have something to say about every missing variable.
        for name in ["XDG_RUNTIME_DIR", "WAYLAND_DISPLAY", "DISPLAY"] {
            command.env_remove(name);
        }
        if let Ok(adapter) = std::env::var("GANYMEDE_TEST_ADAPTER") {
            command.args(["--adapter", &adapter]);
        }
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the command starts")
    }

    /// Runs a command that must succeed without a word on standard error, and returns what it printed.
    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        succeeded(args, &self.run(args))
    }

    /// Runs a command that must fail with `code` and one error, and returns that.
    #[track_caller]
    fn fails(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.starts_with("ganymede: error: ") && text.matches("error:").count() == 1, "{args:?}: {text}");
        assert!(!text.contains("panicked") && !text.contains("defect"), "{args:?}: {text}");
        text
    }

    /// A run of [`SMALL`] settings and some more in `outdir`; returns its folder, by the path that the command gave it.
    #[track_caller]
    fn train(&self, outdir: &str, more: &[&str]) -> PathBuf {
        self.ok(&small(outdir, more));
        latest(&self.path(outdir)).expect("a run that has begun")
    }
}

#[track_caller]
fn succeeded(args: &[&str], output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && err.is_empty(), "{args:?}: {}\n{err}\n{out}", output.status);
    out
}

/// Three ticks of five steps of four images, a snapshot at each, over a data set whose epochs end inside of batches; the last tick is cut short.
const SMALL: &[&str] =
    &["--data", "builtin:digits?n=30", "--batch", "4", "--steps", "12", "--tick", "0.02", "--snap", "1", "--keep", "100"];

/// The command of a [`SMALL`] run in `outdir`, with the settings of `more` in place of the same ones or besides.
fn small<'a>(outdir: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let kept = SMALL.chunks(2).filter(|pair| !more.contains(&pair[0])).flatten().copied();
    ["train", "--outdir", outdir].into_iter().chain(kept).chain(more.iter().copied()).collect()
}

/// The newest run in `outdir` that has settings, which is what `--resume latest` takes.
fn latest(outdir: &Path) -> Option<PathBuf> {
    let mut runs: Vec<PathBuf> = fs::read_dir(outdir).ok()?.map(|entry| entry.expect("a folder entry").path()).collect();
    runs.retain(|path| path.join("config.toml").exists());
    runs.sort();
    runs.pop()
}

/// FNV-1a, so that a failed comparison prints a number rather than a file.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// What equal runs have in common.
#[derive(Debug, Clone, PartialEq)]
struct Traces {
    checkpoints: BTreeMap<u64, u64>,
    pictures: BTreeMap<String, u64>,
    statistics: Vec<serde_json::Value>,
    ticks: Vec<String>,
}

impl Traces {
    fn of(run: &Path) -> Self {
        let list = checkpoint::list(run).expect("a run folder");
        let bytes = |path: &Path| hash(&fs::read(path).expect("a readable file"));
        let checkpoints = list.iter().map(|c| (c.images_seen, bytes(&c.path))).collect();
        let pictures = fs::read_dir(run)
            .expect("a run folder")
            .map(|entry| entry.expect("a folder entry").path())
            .filter(|path| path.extension().is_some_and(|e| e == "png"))
            .map(|path| (path.file_name().expect("a file").to_string_lossy().into_owned(), bytes(&path)))
            .collect();
        let read = |name| fs::read_to_string(run.join(name)).expect("a log");
        let timeless = |line: &str| {
            let mut value: serde_json::Value = serde_json::from_str(line).expect("a JSON object a line");
            let map = value.as_object_mut().expect("a JSON object a line");
            for timed in ["seconds", "seconds_per_kimg"] {
                map.remove(timed).expect("a timed field");
            }
            value
        };
        let tick = |line: &str| Some(line.split_once("| tick ")?.1.split_whitespace().next()?.to_string());
        Traces {
            checkpoints,
            pictures,
            statistics: read("stats.jsonl").lines().map(timeless).collect(),
            ticks: read("log.txt").lines().filter_map(tick).collect(),
        }
    }

    /// Without the checkpoints that `other` does not have: a stop leaves one more.
    fn without_stops(mut self, other: &Traces) -> Self {
        self.checkpoints.retain(|images, _| other.checkpoints.contains_key(images));
        self
    }
}

#[test]
fn equal_commands_write_equal_bytes() {
    let Some(bench) = Bench::new() else { return };
    let first = bench.train("first", &[]);
    let traces = Traces::of(&first);
    assert_eq!(traces.checkpoints.keys().collect::<Vec<_>>(), [&20, &40, &48]);
    let pictures = ["fakes-000000000020.png", "fakes-000000000040.png", "fakes-000000000048.png", "fakes_init.png", "reals.png"];
    assert_eq!(traces.pictures.keys().collect::<Vec<_>>(), pictures);
    assert_eq!(traces.pictures.values().collect::<BTreeSet<_>>().len(), 5, "each picture is another");
    assert_eq!(traces.ticks, ["1", "2", "3*"]);
    assert_eq!(traces.statistics.iter().map(|s| s["steps"].as_u64()).collect::<Vec<_>>(), [Some(5), Some(5), Some(2)]);

    assert_eq!(Traces::of(&bench.train("again", &[])), traces, "the same command twice");
    for steps in [1, 8] {
        let file = format!("{steps}.toml");
        fs::write(bench.path(&file), format!("[run]\nsteps_per_submit = {steps}\n")).expect("written");
        let run = bench.train(&file.replace(".toml", ""), &["--config", &file]);
        assert_eq!(Traces::of(&run), traces, "{steps} steps a submit");
    }
    assert_eq!(Traces::of(&bench.train("checked", &["--checked"])), traces, "with all run-time checks in the shaders");
    let config = first.join("config.toml");
    bench.ok(&["train", "--config", config.to_str().expect("a UTF-8 path"), "--outdir", "config"]);
    assert_eq!(Traces::of(&latest(&bench.path("config")).expect("a run")), traces, "from the run's config.toml");

    // The comparison can tell runs apart.
    let other = Traces::of(&bench.train("seed", &["--seed", "1"]));
    for images in traces.checkpoints.keys() {
        assert_ne!(other.checkpoints[images], traces.checkpoints[images]);
    }
    assert_ne!(other.pictures, traces.pictures);
    assert_ne!(other.statistics, traces.statistics);
}

#[test]
fn a_stopped_and_resumed_run_equals_an_uninterrupted_one() {
    let Some(bench) = Bench::new() else { return };
    // Two discriminator updates a step, rates that fall to zero before the end, and rates of their own for the two networks.
    let hard = "[training]\nd_steps = 2\n[discriminator.optimizer]\nlr = { shape = \"linear\", start = 0.001, end = 0, over_kimg = 0.044 }\n[generator.optimizer]\nlr = 0.0005\n";
    fs::write(bench.path("hard.toml"), hard).expect("written");
    fs::write(bench.path("plain.toml"), "").expect("written");
    let mut ends = BTreeSet::new();
    // Stops in the middle of a tick, at its end, in the last tick, after the first step, and twice in one tick.
    for (config, all_stops) in [("plain.toml", [&[7][..], &[5], &[11]]), ("hard.toml", [&[7], &[1], &[6, 2]])] {
        let whole = Traces::of(&bench.train(config.trim_end_matches(".toml"), &["--config", config]));
        ends.insert(whole.checkpoints[&48]);
        for (way, stops) in ["latest", "RUN", "FILE"].into_iter().zip(all_stops) {
            let outdir = format!("{config}-{way}");
            let (mut step, mut more) = (0, vec!["--config".to_string(), config.to_string()]);
            for stop in stops {
                let arguments: Vec<String> = if step == 0 { SMALL.iter().map(|s| s.to_string()).collect() } else { Vec::new() };
                let stop_after = ["--stop-after".to_string(), stop.to_string()];
                let arguments = [&["train".into(), "--outdir".into(), outdir.clone()], &arguments[..], &more, &stop_after].concat();
                let text = bench.ok(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
                step += stop;
                let run = latest(&bench.path(&outdir)).expect("a run");
                let run = run.strip_prefix(bench.dir.path()).expect("inside of the folder").to_path_buf();
                let hint = format!("Stopped at step {step} as --stop-after asks; go on with `ganymede train --resume {}`", run.display());
                assert!(text.contains(&hint), "{text}");
                let file = run.join(checkpoint::file_name(4 * step));
                let what = match way {
                    "latest" => "latest".to_string(),
                    "RUN" => run.display().to_string(),
                    _ => file.display().to_string(),
                };
                assert!(bench.path(&file).is_file());
                more = vec!["--resume".into(), what];
            }
            let arguments = [&["train".to_string(), "--outdir".into(), outdir.clone()], &more[..]].concat();
            let text = bench.ok(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
            assert!(text.contains("Resuming from ") && text.contains(&format!("(step {step}, ")), "{text}");
            let run = latest(&bench.path(&outdir)).expect("a run");
            assert_eq!(Traces::of(&run).without_stops(&whole), whole, "{config}, stopped after {stops:?}, resumed from {way}");
        }
    }
    assert_eq!(ends.len(), 2, "the second recipe makes a difference");

    // A run made longer equals one that was long from the start.
    let whole = Traces::of(&latest(&bench.path("plain")).expect("a run"));
    bench.train("longer", &["--steps", "8"]);
    bench.ok(&["train", "--outdir", "longer", "--resume", "latest", "--steps", "12"]);
    let mut longer = Traces::of(&latest(&bench.path("longer")).expect("a run")).without_stops(&whole);
    // The short run's last picture stays, and the log tells how it ended.
    assert!(longer.pictures.remove("fakes-000000000032.png").is_some());
    longer.ticks.retain(|tick| tick != "2*");
    assert_eq!(longer, whole);
}

#[test]
fn thirty_kills_cost_nothing() {
    const KILLS: usize = 30;
    let Some(bench) = Bench::new() else { return };
    let settings = ["--data", "builtin:digits?n=30", "--batch", "2", "--steps", "20", "--tick", "0.002", "--snap", "2", "--keep", "2"];
    let fresh = |outdir: &str| [&["train", "--outdir", outdir], &settings[..]].concat().iter().map(|s| s.to_string()).collect::<Vec<_>>();
    let complete = |outdir: &str| {
        let begun = Instant::now();
        bench.ok(&fresh(outdir).iter().map(String::as_str).collect::<Vec<_>>());
        (Traces::of(&latest(&bench.path(outdir)).expect("a run")), begun.elapsed())
    };
    let (whole, _) = complete("whole");
    // The first run compiled shaders that later ones find in the driver's cache.
    let (again, usual) = complete("again");
    assert_eq!(again, whole);

    let seed = std::env::var("GANYMEDE_KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_922);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut kills, mut with_checkpoint, mut between, mut ended) = (0, 0, BTreeSet::new(), 0);
    let mut outdir = "killed-0".to_string();
    let told = |what: String, kills: usize, outdir: &str| format!("{what} (GANYMEDE_KILL_SEED={seed}, after {kills} kills, in {outdir})");
    loop {
        // As a person would: go on with the run if it has begun, else start it again.
        let run = latest(&bench.path(&outdir));
        let arguments = match &run {
            Some(_) => ["train", "--outdir", &outdir, "--resume", "latest"].map(String::from).to_vec(),
            None => fresh(&outdir),
        };
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        // Less than half a run, so that a run takes several kills.
        let delay = if kills < KILLS { Some(usual.mul_f64(rng.random_range(0.0..0.45))) } else { None };
        let child = bench.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
        let output = finish(child, delay);
        let run = latest(&bench.path(&outdir));
        if output.status.code().is_some() {
            succeeded(&arguments, &output);
            let run = run.expect("a finished run");
            assert_eq!(Traces::of(&run), whole, "{}", told("a killed run ended otherwise".into(), kills, &outdir));
            ended += 1;
            if kills >= KILLS {
                break;
            }
            outdir = format!("killed-{ended}");
            continue;
        }
        kills += 1;
        let newest = run.as_ref().and_then(|run| checkpoint::list(run).expect("a run folder").pop());
        if let Some(newest) = newest {
            let state = checkpoint::read(&newest.path)
                .unwrap_or_else(|e| panic!("{}", told(format!("unreadable checkpoint: {e}"), kills, &outdir)));
            assert_eq!(state.images_seen, newest.images_seen);
            with_checkpoint += 1;
            between.insert((ended, state.step));
        }
    }
    // The kills fell into all of a run's life: before the first checkpoint, and after several different ones.
    let text = told(format!("{with_checkpoint} kills with a checkpoint, at {between:?}; {ended} runs ended"), kills, &outdir);
    println!("{text}");
    assert!(with_checkpoint >= KILLS / 4 && between.len() >= 5 && with_checkpoint < KILLS, "{text}");
}

/// Waits for a process, and kills it after `delay` if it has not ended by itself.
fn finish(mut child: Child, delay: Option<Duration>) -> Output {
    if let Some(delay) = delay {
        // What it prints in so short a time fits into the pipe.
        let end = Instant::now() + delay;
        while Instant::now() < end && child.try_wait().expect("a process of ours").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Fails only if it has ended meanwhile.
        let _ = child.kill();
    }
    child.wait_with_output().expect("a process of ours")
}

#[cfg(unix)]
#[test]
fn signals_end_a_run_with_a_checkpoint() {
    let Some(bench) = Bench::new() else { return };
    let outdir = bench.path("runs");
    let mut arguments: Vec<String> =
        ["train", "--batch", "4", "--steps", "1000000", "--tick", "0.02", "--data", "builtin:digits?n=30"].map(String::from).to_vec();
    let mut at = 0;
    for signal in ["INT", "TERM"] {
        let arguments_now: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let child = bench.command(&arguments_now).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the command starts");
        let lines = || latest(&outdir).map_or(0, |run| fs::read_to_string(run.join("stats.jsonl")).unwrap_or_default().lines().count());
        let (before, begun) = (lines(), Instant::now());
        while lines() <= before {
            assert!(begun.elapsed() < Duration::from_secs(60), "no tick in a minute");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().expect("kill").success());
        let output = child.wait_with_output().expect("a process of ours");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(130), "{text}");
        let (step, advice) = text
            .strip_prefix("ganymede: stopped at step ")
            .and_then(|rest| rest.strip_suffix("`\n")?.split_once("; go on with `ganymede "))
            .unwrap_or_else(|| panic!("SIG{signal}: {text}"));
        let step: u64 = step.parse().expect("a number");
        assert!(step > at, "{step} after {at}");
        at = step;
        let run = latest(&outdir).expect("a run");
        assert_eq!(checkpoint::list(&run).expect("a run").pop().expect("a checkpoint").images_seen, 4 * step);
        // What it advises is what is run next.
        arguments = advice.split(' ').map(String::from).collect();
    }
    arguments.extend(["--stop-after", "1"].map(String::from));
    bench.ok(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(latest(&outdir).expect("a run").join(checkpoint::file_name(4 * (at + 1))).is_file());
}

#[test]
fn divergence_stops_the_run_and_keeps_the_last_good_checkpoint() {
    let Some(bench) = Bench::new() else { return };
    let parent = bench.train("runs", &["--steps", "5"]);
    let start = checkpoint::read(&parent.join(checkpoint::file_name(20))).expect("a checkpoint");

    // From a good checkpoint straight into nonsense: the fork's own first checkpoint stays, with the parent's numbers.
    let text = bench.fails(&["train", "--fork", "latest", "--lr", "1e10", "--steps", "100"], 4);
    let fork = latest(&bench.path("runs")).expect("a run");
    assert_ne!(fork, parent);
    let left = checkpoint::list(&fork).expect("a run");
    assert_eq!(left.len(), 1);
    let name = left[0].path.strip_prefix(bench.dir.path()).expect("inside of the folder").display().to_string();
    assert_eq!(text.matches("diverged").count(), 1, "{text}");
    let culprit = ["the discriminator's output", "the gradient of G.", "the gradient of D."];
    assert!(culprit.iter().any(|c| text.starts_with(&format!("ganymede: error: training diverged: {c}"))), "{text}");
    assert!(text.contains(" is not finite in step ") && text.contains(&format!("the last good checkpoint is {name};")), "{text}");
    assert!(text.contains(&format!("`ganymede train --fork {name} --lr 5000000000`")), "{text}");
    let kept = checkpoint::read(&left[0].path).expect("a checkpoint");
    assert_eq!((kept.tensors, kept.step), (start.tensors, 5));
    let log = fs::read_to_string(fork.join("log.txt")).expect("a log");
    assert!(log.contains("| training diverged: "), "{log}");
    // Its advice with a rate that makes sense.
    bench.ok(&["train", "--fork", &name, "--lr", "0.0001", "--steps", "6"]);

    // Weights that grow until something overflows: what was written on the way is whole and finite.
    let text = bench.fails(&small("grow", &["--lr", "1.5e8", "--tick", "0.004", "--keep", "1", "--steps", "200"]), 4);
    let left = checkpoint::list(&latest(&bench.path("grow")).expect("a run")).expect("a run");
    assert_eq!(left.len(), 1, "{text}");
    let state = checkpoint::read(&left[0].path).expect("a checkpoint");
    assert!(state.step >= 1 && state.tensors.values().all(|t| t.first_non_finite().is_none()));

    // Where there is nothing to go back to, it says so.
    let text = bench.fails(&small("none", &["--lr", "1e10"]), 4);
    assert!(text.contains("no checkpoint was written yet; start again with a lower learning rate: --lr 5000000000"), "{text}");
    assert!(checkpoint::list(&latest(&bench.path("none")).expect("a run")).expect("a run").is_empty());
}

/// PyTorch's names of what a layer keeps.
fn keys(network: &str, layers: &[(usize, &[&str])]) -> BTreeSet<String> {
    layers.iter().flat_map(|(layer, names)| names.iter().map(move |name| format!("{network}.{layer}.{name}"))).collect()
}

#[test]
fn checkpoints_hold_what_they_promise_under_their_names() {
    let Some(bench) = Bench::new() else { return };
    let run = bench.train("runs", &["--steps", "3"]);
    let state = checkpoint::read(&run.join(checkpoint::file_name(12))).expect("a checkpoint");
    let (both, weight, running) = (&["weight", "bias"][..], &["weight"][..], &["running_mean", "running_var"][..]);
    let g: &[(usize, &[&str])] = &[(0, weight), (1, both), (3, weight), (4, both), (6, both)];
    let d: &[(usize, &[&str])] = &[(0, both), (2, both), (4, both)];
    let mut expected = BTreeSet::from(["tick.stats".to_string()]);
    for network in ["G", "G_ema"] {
        expected.extend(keys(network, g).into_iter().chain(keys(network, &[(1, running), (4, running)])));
    }
    expected.extend(keys("D", d));
    for moment in ["m", "v"] {
        expected.extend(keys(&format!("adam.G.{moment}"), g).into_iter().chain(keys(&format!("adam.D.{moment}"), d)));
    }
    assert_eq!(state.tensors.keys().cloned().collect::<BTreeSet<_>>(), expected);
    // A discriminator with batch norm keeps running statistics, and no average of anything.
    let of_d = bench.train("32", &["--preset", "dcgan-32", "--steps", "1"]);
    let of_d = checkpoint::read(&of_d.join(checkpoint::file_name(4))).expect("a checkpoint");
    let of_d: BTreeSet<String> = of_d.tensors.into_keys().filter(|name| name.starts_with('D')).collect();
    let d32: &[(usize, &[&str])] = &[(0, weight), (2, weight), (3, both), (3, running), (5, weight), (6, both), (6, running), (8, weight)];
    assert_eq!(of_d, keys("D", d32));
    assert_eq!(state.tensors["G.0.weight"].shape, [100, 64, 7, 7], "transposed convolutions are (in, out, height, width)");
    assert_eq!(state.tensors["adam.G.v.0.weight"].shape, [100, 64, 7, 7]);
    assert_eq!(state.tensors["D.2.weight"].shape, [64, 32, 4, 4], "convolutions are (out, in, height, width)");
    assert_eq!((state.step, state.images_seen, state.data.source.as_str()), (3, 12, "builtin:digits?n=30"));
    // Everything has moved from where it began: no tensor was left out of training.
    for (name, tensor) in state.tensors.iter().filter(|(name, _)| name.starts_with("adam.")) {
        let HostData::F32(values) = &tensor.data else { panic!("{name} holds floats") };
        // The last layers of networks that begin with N(0, 0.02) get gradients everywhere; a ReLU may be dead for three steps elsewhere.
        let live = values.iter().filter(|v| **v != 0.0).count();
        assert!(live * 2 > values.len(), "{name}: {live} of {} moments are not zero", values.len());
    }
}

#[test]
fn samples_are_the_runs_own_pictures() {
    let Some(bench) = Bench::new() else { return };
    let run = bench.train("runs", &["--steps", "5"]);
    let own = fs::read(run.join("fakes-000000000020.png")).expect("a picture");
    let file = run.join(checkpoint::file_name(20));
    for (n, model) in ["latest", "0", run.to_str().expect("UTF-8"), file.to_str().expect("UTF-8")].into_iter().enumerate() {
        let out = format!("samples/{n}.png");
        let text = bench.ok(&["sample", "--model", model, "--seeds", "0-63", "--out", &out]);
        assert!(text.starts_with("64 images of ") && text.contains(&format!("are in {out}")), "{text}");
        assert!(fs::read(bench.path(&out)).expect("a picture") == own, "--model {model} gives other pictures than the run's own");
    }
    // Without seeds or a name for the file.
    bench.ok(&["sample", "--model", "latest"]);
    assert!(fs::read(bench.path("samples.png")).expect("a picture") == own);

    // One file per seed: the cells of the grid. Seeds beyond one batch, in any order, do not change each other.
    let text = bench.ok(&["sample", "--model", "latest", "--seeds", "9,0-2,63,64-80", "--out", "each"]);
    assert!(text.starts_with("22 images of "), "{text}");
    let grid = image::load_from_memory(&own).expect("a PNG").to_luma8();
    let names: BTreeSet<String> = fs::read_dir(bench.path("each"))
        .expect("a folder")
        .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    let seeds: BTreeSet<u32> = [9, 0, 1, 2, 63].into_iter().chain(64..=80).collect();
    assert_eq!(names, seeds.iter().map(|seed| format!("seed-{seed:06}.png")).collect());
    for seed in seeds.into_iter().filter(|seed| *seed < 64) {
        let one = image::open(bench.path(format!("each/seed-{seed:06}.png"))).expect("a PNG").to_luma8();
        assert_eq!(one.dimensions(), (28, 28));
        let cell = image::imageops::crop_imm(&grid, 2 + seed % 8 * 30, 2 + seed / 8 * 30, 28, 28).to_image();
        assert!(one == cell, "seed {seed} alone is another picture than in the grid");
    }
    bench.ok(&["sample", "--model", "latest", "--grid", "2x3", "--out", "grid.png"]);
    assert_eq!(image::open(bench.path("grid.png")).expect("a PNG").to_luma8().dimensions(), (3 * 30 + 2, 2 * 30 + 2));
}

#[test]
fn checkpoints_that_do_not_belong() {
    let Some(bench) = Bench::new() else { return };
    let run = bench.train("runs", &["--steps", "10"]);
    let relative = |path: &Path| path.strip_prefix(bench.dir.path()).expect("inside of the folder").display().to_string();
    let (older, newest) = (run.join(checkpoint::file_name(20)), run.join(checkpoint::file_name(40)));
    let whole = fs::read(&newest).expect("a checkpoint");

    // Cut short: the older one is named, and going on from it ends as before.
    fs::write(&newest, &whole[..whole.len() / 2]).expect("written");
    let text = bench.fails(&["train", "--resume", "latest"], 2);
    let cut = format!("{}: it is cut short: {} bytes, and its header says {}", relative(&newest), whole.len() / 2, whole.len());
    let advice = format!("--resume {}", relative(&older));
    assert!(text.contains(&cut) && text.contains(&format!("`{advice}` would go on from")), "{text}");
    let text = bench.fails(&["sample", "--model", "latest"], 2);
    assert!(text.contains(&cut), "{text}");
    let text = bench.ok(&["train", "--resume", &relative(&older)]);
    assert!(text.contains("Set aside: "), "{text}");
    assert!(fs::read(&newest).expect("a checkpoint") == whole);

    // Of other networks: the settings of one preset with the tensors of another.
    let write = |folder: &str, change: &dyn Fn(&mut TrainState)| {
        let mut state = checkpoint::read(&newest).expect("a checkpoint");
        change(&mut state);
        fs::create_dir_all(bench.path(folder)).expect("made");
        relative(&checkpoint::write(&bench.path(folder), &state, 9).expect("written"))
    };
    let other = write("other", &|state| {
        let other = preset("mlp").expect("a preset").config.recipe();
        (state.recipe.preset, state.recipe.generator, state.recipe.discriminator) = (other.preset, other.generator, other.discriminator);
    });
    let text = bench.fails(&["sample", "--model", &other], 2);
    assert!(text.contains(&format!("{other}: tensor G_ema.")), "{text}");
    let text = bench.fails(&["train", "--fork", &other, "--steps", "20"], 2);
    assert!(text.contains(&format!("{other}: tensor ")) && text.contains("preset mlp"), "{text}");
    let shape = write("shape", &|state| {
        let tensor = state.tensors.get_mut("G_ema.1.bias").expect("a tensor");
        (tensor.shape, tensor.data) = (vec![63], HostData::F32(vec![0.0; 63]));
    });
    let text = bench.fails(&["sample", "--model", &shape], 2);
    assert!(text.contains(&format!("{shape}: ")) && text.contains("1.bias") && text.contains("63") && text.contains("64"), "{text}");
    let text = bench.fails(&["train", "--fork", &shape, "--steps", "20"], 2);
    assert!(text.contains(&format!("{shape}: tensor G_ema.1.bias is ")) && text.contains("other networks"), "{text}");

    // A checkpoint of another preset among a run's own.
    let mlp = bench.train("mlp", &["--preset", "mlp", "--steps", "2"]);
    let stray = run.join(checkpoint::file_name(8000));
    fs::copy(mlp.join(checkpoint::file_name(8)), &stray).expect("copied");
    let text = bench.fails(&["train", "--resume", "latest", "--steps", "20"], 2);
    assert!(text.contains("config.toml differs from what") && text.contains(&relative(&stray)) && text.contains("--fork"), "{text}");
    // And it is a model as good as any.
    bench.ok(&["sample", "--model", &relative(&stray), "--seeds", "0"]);
    fs::remove_file(&stray).expect("removed");

    // A preset named on the command line that the run does not have.
    let text = bench.fails(&["train", "--resume", "latest", "--preset", "mlp", "--steps", "20"], 2);
    assert!(text.contains("--preset is mlp, but ") && text.contains("--fork"), "{text}");
    assert_eq!(Traces::of(&run).checkpoints[&40], hash(&whole), "none of this touched the run");
}

/// An IDX folder of `n` noisy 28x28 images.
fn idx_folder(path: &Path, n: u32, noise: u64) {
    fs::create_dir_all(path).expect("made");
    let mut rng = ChaCha8Rng::seed_from_u64(noise);
    let header = [&[0, 0, 8, 3][..], &n.to_be_bytes(), &28u32.to_be_bytes(), &28u32.to_be_bytes()].concat();
    let pixels: Vec<u8> = (0..n * 784).map(|_| rng.random()).collect();
    fs::write(path.join("train-images-idx3-ubyte"), [header, pixels].concat()).expect("written");
}

#[test]
fn data_of_another_content_are_refused_and_moved_data_are_not() {
    let Some(bench) = Bench::new() else { return };
    idx_folder(&bench.path("noise"), 20, 0);
    let settings = &["--data", "noise", "--batch", "4", "--tick", "0.004", "--keep", "100", "--steps", "4"][..];
    bench.ok(&[&["train", "--outdir", "whole"], settings].concat());
    let run = latest(&bench.path("whole")).expect("a run");
    assert!(run.ends_with("00000-noise-dcgan-28-small-b4"), "{}", run.display());
    let whole = Traces::of(&run);
    bench.ok(&[&["train", "--stop-after", "2"], settings].concat());
    let stopped = latest(&bench.path("runs")).expect("a run");

    // Other pixels in the same place.
    fs::rename(bench.path("noise"), bench.path("moved")).expect("renamed");
    idx_folder(&bench.path("noise"), 20, 1);
    let text = bench.fails(&["train", "--resume", "latest"], 2);
    assert!(text.contains("noise is not the data set that") && text.contains("fingerprint") && text.contains("--fork "), "{text}");
    fs::remove_dir_all(bench.path("noise")).expect("removed");
    let text = bench.fails(&["train", "--resume", "latest"], 2);
    assert!(text.contains("does not exist"), "{text}");
    assert_eq!(Traces::of(&stopped).checkpoints.len(), 1, "none of this touched the run");
    // The same pixels in another place.
    bench.ok(&["train", "--resume", "latest", "--data", "moved"]);
    assert_eq!(Traces::of(&stopped).without_stops(&whole), whole);
}

/// A disk that is full is played by a limit on the size of files: the kernel refuses the write in the same place, as it does with `ulimit -f`.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_last_checkpoint() {
    let Some(bench) = Bench::new() else { return };
    let run = bench.train("runs", &["--steps", "5"]);
    let before = Traces::of(&run);
    let file = run.join(checkpoint::file_name(20));
    let size = fs::metadata(&file).expect("a checkpoint").len();
    let limited = |args: &[&str]| {
        // In blocks of 512 or 1024 bytes by shell: less than a checkpoint in both, and more than any other file of the run.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", size / 1024 / 2);
        let ours = bench.command(args);
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(ours.get_program()).args(ours.get_args()).current_dir(bench.dir.path());
        for (name, value) in ours.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command.stdin(Stdio::null()).output().expect("sh");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = limited(&["train", "--resume", "latest", "--steps", "8"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("cannot write ") && text.contains("--outdir") && text.contains("checkpoint-000000000032.safetensors"), "{text}");
    assert!(text.contains("the last checkpoint is ") && text.contains("checkpoint-000000000020.safetensors; go on from it with"), "{text}");
    assert_eq!(text.matches("error:").count(), 1, "{text}");
    assert_eq!(Traces::of(&run).checkpoints, before.checkpoints);
    let left: Vec<String> =
        fs::read_dir(&run).expect("a run").map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    assert!(!left.iter().any(|name| name.ends_with(".tmp")), "{left:?}");
    // With space again, it goes on as if nothing had been.
    bench.ok(&["train", "--resume", "latest", "--steps", "12"]);
    let whole = Traces::of(&bench.train("whole", &[]));
    let mut after = Traces::of(&run).without_stops(&whole);
    after.pictures.retain(|name, _| whole.pictures.contains_key(name));
    assert_eq!(after, whole);
}

#[test]
fn verbs_that_look_at_the_adapter() {
    let Some(bench) = Bench::new() else { return };
    let adapter = testing::gpu().map(|gpu| gpu.adapter_summary()).unwrap_or_default();
    let short = adapter.split(" (").next().unwrap_or_default().to_string();

    let devices = Command::new(env!("CARGO_BIN_EXE_ganymede")).arg("devices").output().expect("the command starts");
    let devices = succeeded(&["devices"], &devices);
    assert!(devices.starts_with("0: ") && devices.contains("[default]") && devices.contains(&short), "{devices}");
    for line in ["type ", "backend ", "driver ", "features ", "limits "] {
        assert!(devices.contains(&format!("\n   {line}")), "no {line:?} in {devices}");
    }

    let plan = bench.ok(&["plan", "--batch", "4"]);
    assert!(plan.starts_with(&adapter), "{plan}");
    assert!(plan.contains("MFLOP") && plan.contains("step/data/draw.draw_batch"), "{plan}");
    for part in ["step/G/fake/conv_transpose0.forward.gemm", "step/D/pair/conv0.", "step/D/adam", "step/G/adam"] {
        assert!(plan.contains(part), "no {part} in {plan}");
    }
    let total = plan.trim_end().lines().last().unwrap_or_default();
    assert!(total.contains(" dispatches, ") && total.contains(" GFLOP; ") && total.contains(" on the device: "), "{total}");
    let numbered = |line: &&str| line.split_whitespace().next().is_some_and(|n| n.parse::<u32>().is_ok());
    let dispatches = plan.trim_end().lines().filter(numbered).count() - 1;
    assert!(total.starts_with(&format!("{dispatches} dispatches, ")), "{dispatches} lines, but {total}");
    // Twice the batch is twice the work, up to what does not depend on it.
    let gflop = |plan: &str| -> f64 {
        let total = plan.trim_end().lines().last().unwrap_or_default();
        total.split(" GFLOP").next().and_then(|t| t.rsplit(' ').next()).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{total}"))
    };
    let (at_32, at_64) = (gflop(&bench.ok(&["plan", "--batch", "32"])), gflop(&bench.ok(&["plan", "--batch", "64"])));
    assert!((1.9..2.1).contains(&(at_64 / at_32)) && (2.0..3.0).contains(&at_64), "{at_32} and {at_64} GFLOP");

    let text = bench.fails(&["plan", "--data", "builtin:digits?n=10", "--batch", "64"], 2);
    assert!(text.contains("--batch (training.batch) is 64, but builtin:digits?n=10 has only 10 images"), "{text}");
    assert_eq!(fs::read_dir(bench.dir.path()).expect("a folder").count(), 0, "nothing of this writes anything");
}

/// Megabytes that `ganymede plan` says training takes.
fn planned(text: &str) -> f64 {
    let after = text.split("Training takes ").nth(1).and_then(|rest| rest.split(" MB").next());
    after.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no total in {text}"))
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_allocated() {
    let Some(bench) = Bench::new() else { return };
    // With the data set on the host, all of it is what a batch needs.
    let plan = ["plan", "--batch", "48", "--data-on", "host"];
    let (most, least) = (planned(&bench.ok(&plan)), planned(&bench.ok(&[&plan[..], &["--micro-batch", "2"]].concat())));
    assert!(least < 0.8 * most, "{least} and {most} MB");
    let limit = format!("{:.0}", (least + most) / 2.0 * 1e6 / f64::from(1 << 20));
    let arguments = ["train", "--batch", "48", "--data-on", "host", "--steps", "2", "--memory-limit", &limit];
    let text = bench.fails(&arguments, 3);
    assert!(
        text.contains("training needs ") && text.contains(&format!("{limit}.0 MiB --memory-limit allows. Give --micro-batch ")),
        "{text}"
    );
    assert!(text.contains("--batch") && text.contains("another adapter with --adapter"), "{text}");
    assert_eq!(latest(&bench.path("runs")), None, "no run is left behind");
    let limited = [&plan[..], &["--memory-limit", &limit]].concat();
    let output = bench.run(&limited);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stdout).contains(" dispatches, "), "the plan is printed all the same");

    // The micro-batch that is named fits, and the next larger one does not.
    let named = text.split("--micro-batch ").nth(1).and_then(|rest| rest.split(',').next()).expect("a number").to_string();
    let plan = |micro: &str| bench.run(&[&limited[..], &["--micro-batch", micro]].concat()).status.code();
    assert_eq!(plan(&named), Some(0));
    let larger = (1..=48).find(|m| 48 % m == 0 && *m > named.parse().expect("a number")).expect("the batch itself is larger");
    assert_eq!(plan(&larger.to_string()), Some(3));
    let text = bench.ok(&[&arguments[..], &["--micro-batch", &named]].concat());
    let note = format!("of {named} images an update. Batch norm takes its statistics from {named} images instead of 48");
    assert_eq!(text.matches(&note).count(), 1, "{text}");

    let text = bench.fails(&["train", "--memory-limit", "1"], 3);
    assert!(text.contains("1.0 MiB --memory-limit allows. The smallest --micro-batch would still need "), "{text}");
}

/// Everything that is equal in runs whose data set is elsewhere: all but where it is, and the time that takes.
fn wherever_the_data_are(mut traces: Traces) -> Traces {
    for line in &mut traces.statistics {
        let map = line.as_object_mut().expect("a JSON object a line");
        map.remove("data_wait_seconds");
        map.remove("memory_bytes").expect("a number of bytes");
    }
    traces
}

#[test]
fn a_data_set_that_does_not_fit_the_device_is_streamed_and_trains_to_the_same_bytes() {
    let Some(bench) = Bench::new() else { return };
    const STREAMING: &str = "Streaming the data set from host memory: ";
    let data = ["--data", "builtin:digits?n=8000"];
    let on = |place: &'static str| [&data[..], &["--data-on", place]].concat();
    let run = bench.train("device", &on("device"));
    let resident = Traces::of(&run);
    assert!(resident.statistics.iter().all(|line| line.get("data_wait_seconds").is_none()));
    let resident = wherever_the_data_are(resident);
    let log = |run: &Path| fs::read_to_string(run.join("log.txt")).expect("a log");
    assert!(!log(&run).contains(STREAMING) && !log(&run).contains("data wait"));

    let run = bench.train("host", &on("host"));
    let streamed = Traces::of(&run);
    for line in &streamed.statistics {
        assert!(line["data_wait_seconds"].as_f64().is_some_and(|wait| (0.0..600.0).contains(&wait)), "{line}");
    }
    assert_eq!(wherever_the_data_are(streamed), resident);
    assert_eq!(log(&run).matches(&format!("{STREAMING}as --data-on (run.data_on) asks")).count(), 1);
    assert_eq!(log(&run).matches("  data wait ").count(), 3, "one a tick");

    // Between what the two need there are the 6 MB of the data.
    let plan = |more: &[&str]| bench.ok(&[&["plan", "--batch", "4"], &data[..], more].concat());
    let (with, without) = (planned(&plan(&["--data-on", "device"])), planned(&plan(&["--data-on", "host"])));
    assert!((5.9..6.6).contains(&(with - without)), "{with} and {without} MB");
    let limit = format!("{:.0}", (with + without) / 2.0 * 1e6 / f64::from(1 << 20));
    let limited = ["--memory-limit", &limit];
    let text = plan(&limited);
    assert!(text.contains(STREAMING) && text.contains("MiB --memory-limit allows") && planned(&text) == without, "{text}");
    let run = bench.train("auto", &[&data[..], &limited].concat());
    assert_eq!(wherever_the_data_are(Traces::of(&run)), resident);
    assert_eq!(log(&run).matches(&format!("{STREAMING}with all of it on the device, training needs ")).count(), 1);
    let run = bench.train("roomy", &data);
    assert!(!log(&run).contains(STREAMING), "there is room");
    let text = bench.fails(&small("refused", &[&on("device")[..], &limited].concat()), 3);
    assert!(text.contains("Give --data-on host, which keeps the data set in host memory"), "{text}");

    // It may change where the run goes on.
    bench.train("moved", &[&on("host")[..], &["--stop-after", "7"]].concat());
    bench.ok(&["train", "--outdir", "moved", "--resume", "latest", "--data-on", "device"]);
    let moved = wherever_the_data_are(Traces::of(&latest(&bench.path("moved")).expect("a run")));
    assert_eq!(moved.clone().without_stops(&resident).checkpoints, resident.checkpoints);
    assert_eq!(moved.statistics, resident.statistics);

    let text = bench.fails(&small("where", &["--set", "run.data_on=tape"]), 2);
    assert!(text.contains("run.data_on") && ["auto", "device", "host", "disk"].iter().all(|known| text.contains(known)), "{text}");
    let text = bench.fails(&small("where", &["--data-on", "disk"]), 2);
    assert!(text.contains("only folders and ZIPs of pictures") && text.contains("give --data-on host"), "{text}");
}

#[test]
fn pictures_may_stay_on_disk() {
    let Some(bench) = Bench::new() else { return };
    ["photos/dark", "photos/light"].iter().for_each(|class| fs::create_dir_all(bench.path(class)).expect("a folder"));
    for i in 0..20u32 {
        let picture = image::GrayImage::from_fn(40 + i, 36, |x, y| image::Luma([(x * i + y * 5) as u8]));
        let class = if i < 8 { "dark" } else { "light" };
        picture.save(bench.path(format!("photos/{class}/{i:02}.png"))).expect("a picture");
    }
    bench.ok(&["data", "convert", "photos", "--size", "28", "--resize", "crop", "--out", "photos.zip"]);
    let crop = ["--data", "photos", "--set", "data.resize=crop"];
    let held = bench.train("held", &crop);
    let want = wherever_the_data_are(Traces::of(&held));
    for (outdir, data) in [("folder", &crop[..]), ("zip", &["--data", "photos.zip"])] {
        let run = bench.train(outdir, &[data, &["--data-on", "disk"]].concat());
        let got = Traces::of(&run);
        assert!(got.statistics.iter().all(|line| line["data_wait_seconds"].is_f64()), "{outdir}");
        let got = wherever_the_data_are(got);
        assert_eq!((&got.pictures, &got.statistics), (&want.pictures, &want.statistics), "{outdir}");
        let log = fs::read_to_string(run.join("log.txt")).expect("a log");
        assert_eq!(log.matches("Streaming the data set from disk, 15.3 KiB of pixels: as --data-on").count(), 1, "{log}");
        assert_eq!(got.checkpoints.keys().collect::<Vec<_>>(), want.checkpoints.keys().collect::<Vec<_>>());
        // The ZIP is another recipe: its pictures have their size already.
        assert!(outdir == "zip" || got.checkpoints == want.checkpoints, "{outdir}");
    }
    // What the refusal advises does the same.
    let text = bench.fails(&small("odd", &["--data", "photos"]), 2);
    assert!(text.contains("choose how to resize with --resize fit, crop or stretch and --size N"), "{text}");
    let flags = bench.train("flags", &["--data", "photos", "--resize", "crop", "--size", "28"]);
    assert_eq!(wherever_the_data_are(Traces::of(&flags)), want);
    // With classes, by which the real images are shown.
    let classes = [&crop[..], &["--preset", "cgan-28", "--set", "data.labels=folders"]].concat();
    let want_classes = wherever_the_data_are(Traces::of(&bench.train("classes", &classes)));
    let got = wherever_the_data_are(Traces::of(&bench.train("classes-on-disk", &[&classes[..], &["--data-on", "disk"]].concat())));
    assert_eq!(got, want_classes);
    assert_ne!(want_classes.pictures["reals.png"], want.pictures["reals.png"]);
    // Where they are may change with a resume, and other pictures are noticed.
    bench.train("moved", &[&crop[..], &["--data-on", "disk", "--stop-after", "7"]].concat());
    bench.ok(&["train", "--outdir", "moved", "--resume", "latest", "--data-on", "auto"]);
    let moved = wherever_the_data_are(Traces::of(&latest(&bench.path("moved")).expect("a run")));
    assert_eq!(moved.without_stops(&want).checkpoints, want.checkpoints);
    bench.train("other", &[&crop[..], &["--stop-after", "7"]].concat());
    fs::remove_file(bench.path("photos/dark/07.png")).expect("it is there");
    let text = bench.fails(&["train", "--outdir", "other", "--resume", "latest", "--data-on", "disk"], 2);
    assert!(text.contains("is not the data set that"), "{text}");

    fs::create_dir(bench.path("wide")).expect("a folder");
    for i in 0..9 {
        image::GrayImage::from_pixel(8, 6, image::Luma([20 * i])).save(bench.path(format!("wide/{i}.png"))).expect("a picture");
    }
    let networks = "generator.layers = [{ type = \"linear\", features = \"data\" }, { type = \"unflatten\", shape = \"data\" }]\n\
                    discriminator.layers = [{ type = \"flatten\" }, { type = \"linear\", features = 1 }]\n";
    fs::write(bench.path("wide.toml"), networks).expect("written");
    let wide = ["--data", "wide", "--config", "wide.toml"];
    let text = bench.fails(&small("wide-disk", &[&wide[..], &["--data-on", "disk"]].concat()), 2);
    assert!(text.contains("pictures of 6x8 that stay on disk are not padded") && text.contains("give data.size and data.resize"), "{text}");
    bench.train("wide-host", &wide);
}

#[test]
fn a_run_in_f16_resumes_in_f16() {
    let Some(bench) = Bench::new() else { return };
    let settings = ["--preset", "mlp", "--precision", "f16"];
    let out = bench.ok(&small("whole", &settings));
    let whole = latest(&bench.path("whole")).expect("a run that has begun");
    assert!(out.contains("precision = \"f16\"") && out.contains("products of a step read activations and weights in f16"), "{out}");
    let full = bench.train("full", &["--preset", "mlp"]);
    assert_ne!(Traces::of(&full).checkpoints, Traces::of(&whole).checkpoints, "f16 gives the bits of f32");
    bench.train("stopped", &[&settings[..], &["--stop-after", "5"]].concat());
    let text = bench.fails(&["train", "--outdir", "stopped", "--resume", "latest", "--precision", "f32"], 2);
    assert!(text.contains("--precision is f32, but") && text.contains("was trained with f16"), "{text}");
    bench.ok(&["train", "--outdir", "stopped", "--resume", "latest"]);
    let stopped = latest(&bench.path("stopped")).expect("a run that has begun");
    assert_eq!(Traces::of(&stopped).without_stops(&Traces::of(&whole)), Traces::of(&whole));
}

/// Where there are no matrix units, one line says why, and what runs instead.
#[test]
fn a_run_that_asks_for_matrix_units_says_what_it_gets() {
    let Some(bench) = Bench::new() else { return };
    let out = bench.ok(&["plan", "--preset", "mlp", "--precision", "f16-matrix"]);
    let lines: Vec<&str> = out.lines().filter(|line| line.contains("Precision: ")).collect();
    let [line] = lines[..] else { panic!("{out}") };
    let (dropped, used) = (line.starts_with("--precision f16-matrix is dropped for f16: "), line.contains(" of them by matrix units"));
    assert!(dropped != used, "{line}");
    assert_eq!(out.contains("gemm_rows_matrix"), used, "{out}");
}

#[test]
fn a_run_of_micro_batches_resumes_as_one() {
    let Some(bench) = Bench::new() else { return };
    let whole = bench.train("whole", &["--micro-batch", "2"]);
    assert!(fs::read_to_string(whole.join("config.toml")).expect("settings").contains("micro_batch = 2\n"));
    let traces = Traces::of(&whole);
    assert_eq!(traces.statistics.iter().map(|s| s["steps"].as_u64()).collect::<Vec<_>>(), [Some(5), Some(5), Some(2)]);
    bench.train("stopped", &["--micro-batch", "2", "--stop-after", "7"]);
    let text = bench.fails(&["train", "--outdir", "stopped", "--resume", "latest", "--micro-batch", "4"], 2);
    assert!(text.contains("was trained with 2"), "{text}");
    bench.ok(&["train", "--outdir", "stopped", "--resume", "latest"]);
    let resumed = latest(&bench.path("stopped")).expect("a run");
    assert_eq!(Traces::of(&resumed).without_stops(&traces), traces);
}

#[test]
fn a_run_with_augmentation_resumes_as_one() {
    let Some(bench) = Bench::new() else { return };
    let settings = ["--mirror", "--set", "augment.rotate={ p = 0.5, degrees = 20 }", "--preset", "mlp"];
    let plain = bench.train("plain", &settings[3..]);
    let whole = bench.train("whole", &settings);
    let config = fs::read_to_string(whole.join("config.toml")).expect("settings");
    assert!(config.contains("mirror = 0.5\n") && config.contains("degrees = 20"), "{config}");
    let traces = Traces::of(&whole);
    assert_ne!(Traces::of(&plain).checkpoints, traces.checkpoints, "augmentation changes nothing");
    bench.train("stopped", &[&settings[..], &["--stop-after", "5"]].concat());
    let text = bench.fails(&["train", "--outdir", "stopped", "--resume", "latest", "--set", "augment.mirror=0.1"], 2);
    assert!(text.contains("--set augment.mirror is 0.1, but") && text.contains("was trained with 0.5"), "{text}");
    let text = bench.fails(&["train", "--outdir", "plain", "--resume", "latest", "--steps", "20", "--mirror"], 2);
    assert!(text.contains("--mirror is 0.5, but") && text.contains("was trained with 0.0"), "{text}");
    bench.ok(&["train", "--outdir", "stopped", "--resume", "latest"]);
    let stopped = latest(&bench.path("stopped")).expect("a run that has begun");
    assert_eq!(Traces::of(&stopped).without_stops(&traces), traces);
}

#[test]
fn augmentation_can_be_looked_at() {
    let Some(bench) = Bench::new() else { return };
    let data = ["--data", "builtin:digits?n=30"];
    let look = |more: &[&str]| bench.ok(&[&["augment", "--grid", "4x7"], &data[..], more].concat());
    let text = look(&["--mirror", "--out", "look/here.png"]);
    assert!(text.contains("4 images, each with 6 augmentations beside it, are in look"), "{text}");
    look(&["--mirror", "--out", "again.png"]);
    look(&["--set", "augment.rotate={ p = 1, degrees = 45 }", "--out", "turned.png"]);
    let bytes = |path: &str| fs::read(bench.path(path)).expect("a picture");
    assert!(bytes("look/here.png") == bytes("again.png") && bytes("again.png") != bytes("turned.png"));
    let picture = image::open(bench.path("again.png")).expect("a picture").to_luma8();
    assert_eq!((picture.width(), picture.height()), (7 * 30 + 2, 4 * 30 + 2));

    assert!(bench.fails(&[&["augment"], &data[..]].concat(), 2).contains("expected some to show; give --mirror"));
    assert!(bench.fails(&["augment", "--mirror", "--grid", "4x1"], 2).contains("expected at least 2 columns"));
    assert!(bench.fails(&["augment", "--mirror", "--out", "folder"], 2).contains("ends in .png"));
    let text = bench.fails(&["train", "--data", "builtin:ring", "--mirror"], 2);
    assert!(text.contains("--data builtin:ring: these are points of 2 numbers, and only images can be augmented"), "{text}");
}

#[test]
fn adapters_that_are_not_there() {
    let Some(bench) = Bench::new() else { return };
    if std::env::var_os("GANYMEDE_TEST_ADAPTER").is_some() {
        // The command line has an adapter already.
        return;
    }
    let run = bench.train("runs", &["--steps", "1"]);
    for args in
        [&["train", "--adapter", "voodoo"][..], &["plan", "--adapter", "voodoo"], &["sample", "--model", "latest", "--adapter", "voodoo"]]
    {
        let text = bench.fails(args, 2);
        assert!(text.contains("no adapter matches 'voodoo'. There are:\n  0: "), "{text}");
    }
    assert_eq!(latest(&bench.path("runs")), Some(run), "no run folder is made where there is no adapter");
    assert_eq!(fs::read_dir(bench.path("runs")).expect("a folder").filter(|e| e.as_ref().is_ok_and(|e| e.path().is_dir())).count(), 1);
}
