//! `ganymede tune` and the tables that it writes: a run uses the table that it is given, keeps it, and goes on with it; a table that does not fit is
//! refused with one error. Nothing here depends on which kernel is the fastest.
//!
//! Where there is no adapter, or `GANYMEDE_TEST_GPU=off`, everything that needs one is skipped, which is said on standard error.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ganymede::bench::Report;
use ganymede::gan::step::Inputs;
use ganymede::gan::trainer;
use ganymede::gpu::testing;
use ganymede::graph::variants::Variants;
use ganymede::plan::ProductSite;
use ganymede::run::checkpoint;
use ganymede::run::layers::Layers;
use ganymede::tune::file::VariantsFile;

/// The training step of every command here.
const MODEL: [&str; 6] = ["--preset", "mlp", "--batch", "4", "--data", "builtin:digits?n=30"];
/// Length and snapshots of the runs.
const LENGTH: [&str; 8] = ["--steps", "6", "--tick", "0.008", "--snap", "1", "--keep", "100"];

fn ganymede(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ganymede"));
    command.args(args).current_dir(folder).stdin(Stdio::null());
    if let Ok(adapter) = std::env::var("GANYMEDE_TEST_ADAPTER") {
        command.args(["--adapter", &adapter]);
    }
    command.output().expect("the command starts")
}

/// Runs a command that must succeed without a word on standard error, and returns what it printed.
#[track_caller]
fn ok(folder: &Path, args: &[&str]) -> String {
    let output = ganymede(folder, args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && err.is_empty(), "{args:?}: {}\n{err}\n{out}", output.status);
    out
}

/// Runs a command that must be refused with one error that has all `needles`.
#[track_caller]
fn refused(folder: &Path, args: &[&str], needles: &[&str]) {
    let output = ganymede(folder, args);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
    assert!(text.starts_with("ganymede: error: ") && text.matches("error:").count() == 1, "{args:?}: {text}");
    assert!(!text.contains("panicked") && !text.contains("defect"), "{args:?}: {text}");
    for needle in needles {
        assert!(text.contains(needle), "{args:?}: no {needle:?} in: {text}");
    }
}

fn with<'a>(verb: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [verb].into_iter().chain(MODEL).chain(more.iter().copied()).collect()
}

/// A run in `outdir`; returns its folder.
#[track_caller]
fn train(folder: &Path, outdir: &str, more: &[&str]) -> PathBuf {
    let args: Vec<&str> = with("train", &["--outdir", outdir]).into_iter().chain(LENGTH).chain(more.iter().copied()).collect();
    ok(folder, &args);
    let mut runs: Vec<PathBuf> = fs::read_dir(folder.join(outdir)).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    runs.retain(|path| path.is_dir());
    runs.sort();
    runs.pop().expect("a run")
}

/// Checkpoints of a run by images seen, as bytes.
fn checkpoints(run: &Path) -> BTreeMap<u64, Vec<u8>> {
    checkpoint::list(run).expect("a run folder").into_iter().map(|c| (c.images_seen, fs::read(c.path).expect("a file"))).collect()
}

/// The products of the step of [`MODEL`], with their candidates here. `None` where tests do not use a GPU, or where no product has a choice.
fn sites() -> Option<Vec<ProductSite>> {
    let gpu = testing::gpu()?;
    let mut layers = Layers::default();
    layers.flag("--preset", "preset", Some("mlp"));
    layers.flag("--batch", "training.batch", Some(4));
    let config = layers.resolve(None).expect("settings");
    let gan = config.recipe().gan_config(&[1, 28, 28], None);
    let mut sites = trainer::step_products(&gan, &Inputs::Device { images: 30 }, &gpu.caps()).expect("a step");
    sites.retain(|site| site.trials.len() > 1);
    (!sites.is_empty()).then_some(sites)
}

/// The text of a table that chooses the given candidate of every product (the last one where there are fewer).
fn table(sites: &[ProductSite], candidate: usize) -> String {
    let mut text = format!("format = 1\nadapter = {:?}\n[products]\n", testing::gpu().expect("an adapter").adapter_name());
    for site in sites {
        let trial = site.trials.get(candidate).or(site.trials.last()).expect("a candidate");
        text.push_str(&format!("[products.{:?}]\nkernel = {:?}\n", site.product, trial.kernel.label()));
    }
    text
}

#[test]
fn tuning_writes_a_table_that_plans_and_runs_take() {
    let Some(sites) = sites() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let printed = ok(dir.path(), &with("tune", &["--seconds", "0.5", "--out", "t.toml"]));
    let file = VariantsFile::read(&dir.path().join("t.toml")).expect("a table");
    let gpu = testing::gpu().expect("an adapter");
    assert_eq!((file.adapter.as_str(), file.preset.as_str(), file.batch), (gpu.adapter_name(), "mlp", 4));
    assert_eq!(file.ganymede, env!("CARGO_PKG_VERSION"));
    assert!(!file.products.is_empty() && printed.contains("Wrote t.toml"), "{printed}");
    for (product, entry) in &file.products {
        let site = sites.iter().find(|site| site.product == *product).unwrap_or_else(|| panic!("{product} is in no step"));
        assert_eq!(entry.uses, site.uses);
        let labels: Vec<String> = site.trials.iter().map(|trial| trial.kernel.label()).collect();
        assert!(labels.contains(&entry.kernel) && printed.contains(product), "{product}: {}\n{printed}", entry.kernel);
        assert!(entry.microseconds.iter().all(|(label, us)| labels.contains(label) && *us >= 0.0), "{entry:?}");
        assert!(entry.microseconds.contains_key(&entry.kernel), "{entry:?}");
    }
    let plan = ok(dir.path(), &with("plan", &["--variants", "t.toml"]));
    assert!(plan.contains(&format!("Kernels: {} products as t.toml chooses\n", file.products.len())), "{plan}");
    let run = train(dir.path(), "runs", &["--variants", "t.toml"]);
    let pinned = Layers::of_file(&run.join("config.toml")).expect("settings").resolve(None).expect("settings").variants;
    assert_eq!(pinned.adapter.as_deref(), Some(gpu.adapter_name()));
    let kernels: BTreeMap<String, String> = file.products.into_iter().map(|(product, entry)| (product, entry.kernel)).collect();
    assert_eq!(pinned.kernels.kernels, kernels);
}

#[test]
fn a_plan_has_the_kernels_of_the_table() {
    let Some(sites) = sites() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("last.toml"), table(&sites, usize::MAX)).expect("a file");
    let lines = |plan: &str, name: &str| plan.lines().filter(|line| line.contains(&format!(".{name} "))).count();
    let default = ok(dir.path(), &with("plan", &[]));
    let plan = ok(dir.path(), &with("plan", &["--variants", "last.toml"]));
    let mut expected: BTreeMap<&str, usize> = BTreeMap::new();
    let mut lost: BTreeMap<&str, usize> = BTreeMap::new();
    for site in &sites {
        *expected.entry(site.trials.last().expect("a candidate").kernel.name).or_default() += site.uses;
        *lost.entry(site.trials[0].kernel.name).or_default() += site.uses;
    }
    for (name, uses) in &expected {
        assert!(lines(&plan, name) >= *uses, "{name} runs less than {uses} times:\n{plan}");
    }
    for (name, uses) in lost.into_iter().filter(|(name, _)| !expected.contains_key(name)) {
        assert_eq!(lines(&default, name), lines(&plan, name) + uses, "{name}:\n{default}\n{plan}");
    }
    assert_eq!(ok(dir.path(), &with("plan", &["--variants", "default"])), default);

    // Kernels that were timed elsewhere are used, and that is said once.
    let elsewhere = table(&sites, usize::MAX).replacen("adapter = \"", "adapter = \"Another ", 1);
    fs::write(dir.path().join("elsewhere.toml"), elsewhere).expect("a file");
    let noted = ok(dir.path(), &with("plan", &["--variants", "elsewhere.toml"]));
    assert_eq!(noted.matches("chooses; they were timed on Another ").count(), 1, "{noted}");
}

#[test]
fn a_run_keeps_its_table() {
    let Some(sites) = sites() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path();
    let text = table(&sites, usize::MAX);
    fs::write(path.join("last.toml"), &text).expect("a file");
    let whole = checkpoints(&train(path, "whole", &["--variants", "last.toml"]));
    assert_eq!(whole.len(), 3);

    // Stopped, and gone on with when the file is no more.
    fs::write(path.join("gone.toml"), &text).expect("a file");
    let run = train(path, "parts", &["--variants", "gone.toml", "--stop-after", "3"]);
    fs::remove_file(path.join("gone.toml")).expect("the file was there");
    let stopped = checkpoint::list(&run).expect("a run folder").pop().expect("a checkpoint").path;
    let state = checkpoint::read(&stopped).expect("a checkpoint");
    let kernels: BTreeMap<String, String> =
        sites.iter().map(|site| (site.product.clone(), site.trials.last().expect("a candidate").kernel.label())).collect();
    assert_eq!(state.recipe.variants, Variants { kernels, origin: String::new() });

    let resume = ["train", "--outdir", "parts", "--resume", "latest"];
    let resume_with = |file: &'static str| [resume.as_slice(), &["--variants", file]].concat();
    fs::write(path.join("first.toml"), table(&sites, 0)).expect("a file");
    let fork = format!(
        "--fork {}",
        Path::new("parts").join(run.file_name().expect("a name")).join(stopped.file_name().expect("a name")).display()
    );
    let product = format!("{:?}", sites.iter().map(|site| &site.product).min().expect("a product"));
    refused(path, &resume_with("first.toml"), &["--variants is gemm_", &product, "was trained with gemm_", &fork]);
    refused(path, &resume_with("default"), &["--variants is the built-in choice for", "was trained with gemm_", &fork]);

    // A table that was edited in the run folder is not what the run was trained with.
    let settings = fs::read_to_string(run.join("config.toml")).expect("settings");
    fs::write(run.join("config.toml"), settings.split("[variants]").next().expect("a part")).expect("a file");
    refused(path, &resume, &["config.toml differs from what", "was trained with"]);
    fs::write(run.join("config.toml"), settings).expect("a file");

    ok(path, &resume);
    let parts = checkpoints(&run);
    for (images, bytes) in &whole {
        assert!(parts.get(images) == Some(bytes), "the resumed run differs at {images} images");
    }

    // A run's settings reproduce it, table and all.
    let config = run.join("config.toml").display().to_string();
    ok(path, &["train", "--config", &config, "--outdir", "again"]);
    let again = fs::read_dir(path.join("again")).expect("a folder").map(|e| e.expect("an entry").path()).find(|p| p.is_dir());
    assert!(checkpoints(&again.expect("a run")) == whole, "the same settings gave other bytes");

    // The table is of use: other kernels add in another order.
    let default = train(path, "default", &[]);
    let last = checkpoint::list(&default).expect("a run folder").pop().expect("a checkpoint");
    assert!(checkpoint::read(&last.path).expect("a checkpoint").recipe.variants.is_empty());
    if testing::gpu().is_some_and(|gpu| gpu.caps().software) {
        let tensors = |bytes: &[u8]| checkpoint::decode(bytes, &last.path).expect("a checkpoint").tensors;
        let ours = whole.get(&last.images_seen).expect("the same length");
        assert!(tensors(ours) != tensors(&fs::read(&last.path).expect("a file")), "the kernels of the table did not run");
    }

    // Another batch has other products.
    let stopped = stopped.display().to_string();
    let other = ["train", "--fork", &stopped, "--batch", "6", "--steps", "8", "--outdir", "forked"];
    refused(path, &other, &["checkpoint-", "nothing here computes this product", "--variants default"]);
    ok(path, &[other.as_slice(), &["--variants", "default"]].concat());
}

/// Runs a quick benchmark of the step of [`MODEL`]; returns its table and its report.
#[track_caller]
fn bench(folder: &Path, group: &str, more: &[&str]) -> (String, Report) {
    let quick = ["bench", group, "--preset", "mlp", "--batch", "4", "--seconds", "0.001", "--runs", "1", "--json", "r.json"];
    let printed = ok(folder, &[&quick[..], more].concat());
    (printed, Report::read(&folder.join("r.json")).expect("a report"))
}

#[test]
fn benchmarks_time_the_kernels_of_the_table_and_say_so() {
    let Some(sites) = sites() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path();
    fs::write(path.join("last.toml"), table(&sites, usize::MAX)).expect("a file");
    let last: BTreeMap<String, String> =
        sites.iter().map(|site| (site.product.clone(), site.trials.last().expect("a candidate").kernel.label())).collect();
    let line = format!("Kernels: {} products as last.toml chooses\n", sites.len());
    let used = |report: &Report| {
        let table = report.variants.clone().expect("a table");
        assert_eq!((table.file.as_str(), table.adapter.as_str()), ("last.toml", report.adapter.name.as_str()));
        assert_eq!(table.kernels, last);
    };

    // Every product of the step is timed with the kernel that the table names, the ops' own first choice among the others.
    let (printed, report) = bench(path, "kernels", &["--filter", "gemm_", "--all-variants", "--variants", "last.toml"]);
    assert!(printed.contains(&line), "{printed}");
    used(&report);
    let first = |text: &str| text.split(" + ").next().unwrap_or_default().to_string();
    let (plain, others): (Vec<_>, Vec<_>) = report.results.iter().partition(|m| !m.name.ends_with(']'));
    assert!(!plain.is_empty() && plain.iter().all(|m| last.values().any(|label| *label == first(&m.kernel))), "{plain:?}");
    for site in &sites {
        let default = site.trials[0].kernel.label();
        assert!(others.iter().any(|m| first(&m.kernel) == default), "{default} is not among {others:?}");
    }
    let (printed, report) = bench(path, "kernels", &["--filter", "gemm_", "--variants", "default"]);
    assert!(!printed.contains("Kernels: ") && report.variants.is_none(), "{printed}");
    let defaults: Vec<String> = report.results.iter().map(|m| first(&m.kernel)).collect();
    assert!(sites.iter().all(|site| defaults.contains(&site.trials[0].kernel.label())), "{defaults:?}");

    let (printed, with_table) = bench(path, "step", &["--variants", "last.toml"]);
    assert!(printed.contains(&line), "{printed}");
    used(&with_table);
    let (_, without) = bench(path, "step", &[]);
    assert!(without.variants.is_none());
    if testing::gpu().is_some_and(|gpu| gpu.caps().software) {
        // The last candidates read no textures.
        let textures = [&with_table, &without].map(|report| report.results[0].extra["texture_mb"]);
        assert!(textures[0] < textures[1], "{textures:?}");
    }
    let (printed, _) = bench(path, "start", &["--variants", "last.toml"]);
    assert!(printed.contains(&line), "{printed}");

    // Another batch has other products.
    let other = ["bench", "step", "--preset", "mlp", "--batch", "6", "--variants", "last.toml"];
    refused(path, &other, &["last.toml: ", "nothing here computes this product", "--variants default"]);
}

#[test]
fn bad_files_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path();
    let try_on = |text: &str, needles: &[&str]| {
        fs::write(path.join("v.toml"), text).expect("a file");
        for verb in ["plan", "train"] {
            refused(path, &with(verb, &["--variants", "v.toml"]), needles);
        }
        for group in ["step", "kernels"] {
            refused(path, &["bench", group, "--preset", "mlp", "--batch", "4", "--variants", "v.toml"], needles);
        }
    };
    refused(path, &with("plan", &["--variants", "none.toml"]), &["cannot read the variants file none.toml: No such file"]);
    refused(path, &["bench", "step", "--variants", "none.toml"], &["cannot read the variants file none.toml: No such file"]);
    refused(path, &with("plan", &["--variants", "."]), &["variants file .: it is not a file; `ganymede tune` writes one"]);
    try_on("format = 1\nadapter = \n", &["v.toml:2:"]);
    try_on("format = 2\n", &["v.toml: format 2, and this ganymede reads format 1"]);
    try_on("[run]\nsteps = 3\n", &["v.toml: it has no `format = 1`"]);
    try_on("format = 1\nadapter = \"x\"\n[products.\"a\"]\nkernle = \"b\"\n", &["v.toml:4:1: unknown key kernle", "did you mean kernel?"]);
    refused(path, &with("tune", &["--seconds", "0"]), &["--seconds: got 0, expected seconds of measuring"]);
    refused(path, &with("tune", &["--seconds", "nan"]), &["--seconds: got NaN"]);

    let Some(sites) = sites() else { return };
    let entry = |product: &str, kernel: &str| format!("format = 1\nadapter = \"x\"\n[products.{product:?}]\nkernel = {kernel:?}\n");
    let site = sites.iter().find(|site| site.product.starts_with("matmul_nn")).expect("an MLP multiplies matrices");
    let named = format!("v.toml: {:?}: ", site.product);
    try_on(
        &entry(&site.product, "gemm_rows_plane/n"),
        &[&named, "there is no kernel \"gemm_rows_plane/n\"; did you mean gemm_rows_plain/n?"],
    );
    try_on(
        &entry(&site.product, "gemm_cols_plain"),
        &[&named, "kernel gemm_cols_plain cannot run this product", &site.trials[0].kernel.label()],
    );
    let stranger = format!("{}9", site.product);
    let meant = format!("did you mean {:?}?", site.product);
    try_on(&entry(&stranger, "gemm_rows_plain/n"), &[&format!("v.toml: {stranger:?}: nothing here computes"), &meant]);
    let of_one_preset = ["--variants v.toml: a table is for the products of one preset and batch", "--preset"];
    refused(path, &["bench", "step", "--variants", "v.toml"], &of_one_preset);
    refused(path, &["bench", "overhead", "--preset", "mlp", "--variants", "v.toml"], &["`bench overhead` computes no products"]);
    assert!(
        !path.join("runs").is_dir() || fs::read_dir(path.join("runs")).expect("a folder").all(|e| !e.expect("an entry").path().is_dir())
    );
}
