//! Bad input to the command: each gives one clear error and the right exit code.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ganymede::run::checkpoint;
use ganymede::run::config::TrainConfig;
use ganymede::run::folder::RunFolder;
use ganymede::run::layers::Layers;
use ganymede::run::state::{DataId, HostTensor, TrainState};

fn ganymede(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ganymede"));
    command.args(args).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

/// Runs a command that must fail with `code`, and returns its error.
#[track_caller]
fn fails(folder: &Path, args: &[&str], code: i32) -> String {
    let output = ganymede(folder, args);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    assert!(text.starts_with("ganymede: error: "), "{args:?}: {text}");
    assert_eq!(text.matches("error:").count(), 1, "{args:?} reports more than once: {text}");
    assert!(!text.contains("panicked") && !text.contains('\x1b'), "{args:?}: {text}");
    text
}

/// Runs a command that must be refused (exit code 2) with a text that has all `needles`.
#[track_caller]
fn refused(folder: &Path, args: &[&str], needles: &[&str]) {
    let text = fails(folder, args, 2);
    for needle in needles {
        assert!(text.contains(needle), "{args:?}: no {needle:?} in: {text}");
    }
}

fn settings() -> TrainConfig {
    Layers::default().resolve(None).unwrap()
}

fn state(images_seen: u64) -> TrainState {
    TrainState {
        tensors: [("G.weight".to_string(), HostTensor::f32([2, 2], vec![1.0, 2.0, 3.0, 4.0]))].into(),
        step: images_seen / 32,
        images_seen,
        recipe: settings().recipe(),
        data: DataId {
            source: "builtin:digits".into(),
            fingerprint: "0".into(),
            channels: 1,
            height: 28,
            width: 28,
            class_names: Vec::new(),
        },
        extra: Default::default(),
    }
}

/// A run of 1,200 steps that was stopped after 10, in `folder/runs`; returns its checkpoint.
fn stopped_run(folder: &Path) -> PathBuf {
    // Without the lock of a `RunFolder`: a process that another test is starting would hold a copy of it for a moment.
    let run = folder.join(RUN);
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("config.toml"), settings().to_toml().unwrap()).unwrap();
    checkpoint::write(&run, &state(320), 3).unwrap()
}

const RUN: &str = "runs/00000-digits-dcgan-28-small-b32";

#[test]
fn usage() {
    let dir = tempfile::tempdir().unwrap();
    refused(dir.path(), &["train", "--bacth", "3"], &["unexpected argument '--bacth'", "--batch"]);
    refused(dir.path(), &["trian"], &["unrecognized subcommand 'trian'"]);
    refused(dir.path(), &["train", "--batch", "many"], &["invalid value 'many' for '--batch <N>'"]);
    refused(dir.path(), &["train", "--batch", "-5"], &["invalid value '-5' for '--batch <N>'"]);
    refused(dir.path(), &["train", "--kimg", "1", "--steps", "1"], &["'--kimg <N>' cannot be used with '--steps <N>'"]);
    refused(dir.path(), &["train", "--resume", "latest", "--fork", "x"], &["cannot be used with"]);
    refused(dir.path(), &["train", "--stop-after", "0"], &["--stop-after"]);
    refused(dir.path(), &["train", "--backend", "cuda"], &["invalid value 'cuda'", "vulkan, metal, dx12"]);
    refused(dir.path(), &["sample"], &["--model"]);
    refused(dir.path(), &["sample", "--model", "x", "--seeds", "9-3"], &["runs backwards"]);
    refused(dir.path(), &["sample", "--model", "x", "--grid", "0x8"], &["ROWSxCOLUMNS"]);
    refused(dir.path(), &["sample", "--model", "x", "--seeds", "0-9", "--grid", "3x3"], &["10 images do not fit into a grid of 3x3"]);
    for args in [&["--help"][..], &["--version"], &["train", "--help"]] {
        let output = ganymede(dir.path(), args);
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{args:?}");
    }
    let help = String::from_utf8(ganymede(dir.path(), &["train", "--help"]).stdout).unwrap();
    for flag in [
        "--data",
        "--preset",
        "--config",
        "--outdir",
        "--kimg",
        "--steps",
        "--batch",
        "--seed",
        "--lr",
        "--tick",
        "--snap",
        "--keep",
        "--resume",
        "--fork",
        "--stop-after",
        "--desc",
        "-n, --dry-run",
        "--checked",
        "--adapter",
        "--backend",
    ] {
        assert!(help.contains(flag), "no {flag} in {help}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing of this writes anything");
}

#[test]
fn presets_lists_every_preset_in_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let output = ganymede(dir.path(), &["presets"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = text.lines().map(|line| line.trim_start_matches(['*', ' ']).split_whitespace().next().unwrap()).collect();
    let known: Vec<&str> = ganymede::run::presets::PRESETS.iter().map(|preset| preset.name).collect();
    assert_eq!(names, known);
    assert!(known.contains(&"dcgan-64") && known.contains(&"linear"), "{known:?}");
    assert!(!text.contains('\x1b'), "no colour in a pipe");
}

#[test]
fn closed_pipes_do_not_panic() {
    for closed in ["stdout", "stderr"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ganymede"));
        // The reading end is gone before the command writes.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (args, code) = match closed {
            "stdout" => (command.arg("presets").stdout(writer).stderr(Stdio::piped()), 0),
            _ => (command.args(["train", "--preset", "x"]).stderr(writer).stdout(Stdio::piped()), 2),
        };
        let output = args.output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{closed}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
    }
}

#[test]
fn bad_values_of_flags() {
    let dir = tempfile::tempdir().unwrap();
    let train = |args: &[&str], needles: &[&str]| refused(dir.path(), &[&["train"], args].concat(), needles);
    train(&["--preset", "dcgan28"], &["--preset: there is no preset \"dcgan28\"; did you mean dcgan-28?", "mlp, dcgan-28-small, "]);
    train(&["--preset", "stylegan"], &["there is no preset \"stylegan\"; presets are linear,"]);
    for lr in ["nan", "inf", "0", "-1e-4"] {
        train(&["--lr", lr], &["--lr: got ", "expected a finite number"]);
    }
    train(&["--lr", "nan"], &["got NaN"]);
    train(&["--batch", "0"], &["--batch: got 0, expected at least 2 images"]);
    train(&["--batch", "1"], &["--batch: got 1", "batch norm"]);
    for kimg in ["0", "-3", "nan", "inf"] {
        train(&["--kimg", kimg], &["--kimg: got ", "expected thousands of images, above 0"]);
    }
    train(&["--steps", "0"], &["--steps: got 0"]);
    train(&["--tick", "0"], &["--tick: got 0"]);
    train(&["--snap", "0"], &["--snap: got 0"]);
    train(&["--keep", "0"], &["--keep: got 0"]);
    train(&["--seed", "9223372036854775808"], &["--seed: got 9223372036854775808", "expected at most 9223372036854775807"]);
    train(&["--data", ""], &["--data"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing of this writes anything");
}

#[test]
fn bad_config_files() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    let train = |file: &str, needles: &[&str]| refused(dir.path(), &["train", "--config", file], needles);
    train("none.toml", &["cannot read the config file none.toml: No such file"]);
    train(".", &["cannot read the config file .: it is not a file"]);
    write("key.toml", b"[training]\nbacth = 1\n");
    train("key.toml", &["key.toml:2:1: unknown key bacth in [training]; did you mean batch?"]);
    write("type.toml", b"[training]\nbatch = \"x\"\n");
    train("type.toml", &["type.toml:2:1: training.batch: ", "expected a whole number"]);
    write("value.toml", b"[generator.optimizer]\nlr = nan\n");
    train("value.toml", &["value.toml:2:1: generator.optimizer.lr: got NaN"]);
    write("binary.toml", b"\xff\xfe\x00");
    train("binary.toml", &["binary.toml: it is not UTF-8 text (byte 0)"]);
    write("large.toml", &vec![b'#'; (1 << 20) + 1]);
    train("large.toml", &["large.toml: it has 1048577 bytes, more than any config file"]);
}

#[test]
fn outdirs_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), b"").unwrap();
    let mut places = vec!["file", "file/below"];
    if cfg!(target_os = "linux") {
        places.push("/proc/ganymede");
    }
    for place in places {
        let text = fails(dir.path(), &["train", "--outdir", place], 3);
        assert!(text.contains(&format!("cannot write {place}: ")) && text.contains("--outdir"), "{text}");
    }
}

#[test]
fn what_cannot_be_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let train = |args: &[&str], needles: &[&str]| refused(dir.path(), &[&["train"], args].concat(), needles);
    train(&["--resume", "latest"], &["there is no run in runs yet; start one with `ganymede train`"]);
    train(
        &["--resume", "7"],
        &["7 is neither a run folder, nor a checkpoint file, nor the name or number of a run in runs (which holds no runs)"],
    );
    train(&["--fork", "x.safetensors"], &["x.safetensors is neither a run folder"]);
    let file = stopped_run(dir.path());
    let name = file.file_name().unwrap().to_str().unwrap();
    train(&["--resume", "7"], &["(which holds 00000-digits-dcgan-28-small-b32)"]);

    // Flags that shape training.
    let fork = format!("`--fork {RUN}/{name}`");
    for (flag, value, old) in
        [("--batch", "64", "32"), ("--lr", "0.5", "0.0002"), ("--preset", "mlp", "dcgan-28-small"), ("--seed", "1", "0")]
    {
        train(&["--resume", "latest", flag, value], &[&format!("{flag} is "), value, &format!("{RUN} was trained with "), old, &fork]);
    }
    train(&["--resume", "0", "--data", "builtin:shapes"], &["--data is builtin:shapes, but", "trained with builtin:digits", &fork]);
    train(&["--resume", "latest", "--lr", "nan"], &["--lr: got NaN"]);

    // An edited config.toml.
    let config = dir.path().join(RUN).join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("beta1 = 0.5", "beta1 = 0.9")).unwrap();
    train(&["--resume", "latest"], &["config.toml differs from what", name, "undo the change", &fork]);
    fs::write(&config, text.replace("beta1", "beta_1")).unwrap();
    train(&["--resume", "latest"], &["config.toml:", "unknown key beta_1 in [generator.optimizer]; did you mean beta1?"]);
    fs::write(&config, &text).unwrap();

    // A checkpoint outside of a run.
    fs::create_dir(dir.path().join("lone")).unwrap();
    fs::copy(&file, dir.path().join("lone").join(name)).unwrap();
    train(&["--resume", &format!("lone/{name}")], &["lone is not a run folder (it has no config.toml)", "--fork"]);
    assert_eq!(fs::read_dir(dir.path().join("lone")).unwrap().count(), 1, "a folder that is no run is left as it was");

    // A run that another process has.
    let lock = RunFolder::open(&dir.path().join(RUN)).unwrap();
    train(&["--resume", "latest"], &[&format!("{RUN} is in use by another ganymede")]);
    drop(lock);
}

#[test]
fn damaged_and_foreign_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let file = stopped_run(dir.path());
    let bytes = fs::read(&file).unwrap();
    let name = file.file_name().unwrap().to_str().unwrap();
    let relative = format!("{RUN}/{name}");
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let newer = {
        let text = String::from_utf8(bytes[8..8 + header].to_vec()).unwrap();
        assert!(text.contains(r#"\"format\":1"#), "{text}");
        [&bytes[..8], text.replace(r#"\"format\":1"#, r#"\"format\":2"#).as_bytes(), &bytes[8 + header..]].concat()
    };
    let foreign =
        safetensors::serialize([("a", safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).unwrap())], None)
            .unwrap();
    let cases: [(&[u8], String); 6] = [
        (&bytes[..bytes.len() - 3], format!("it is cut short: {} bytes, and its header says {}", bytes.len() - 3, bytes.len())),
        (&bytes[..100], "it is cut short: 100 bytes".into()),
        (b"", "it is empty".into()),
        (b"\x89PNG\r\n\x1a\n and more", "it is not a safetensors file".into()),
        (&newer, "it was made by a newer ganymede: format 2, and this one reads up to 1; upgrade ganymede".into()),
        (&foreign, "it is a safetensors file, but not a checkpoint made by ganymede".into()),
    ];
    for (bad, why) in &cases {
        fs::write(&file, bad).unwrap();
        let needle = format!("{relative}: {why}");
        refused(dir.path(), &["train", "--resume", "latest"], &[&needle]);
        refused(dir.path(), &["train", "--resume", &relative], &[&needle]);
        refused(dir.path(), &["train", "--fork", &relative], &[&needle]);
        refused(dir.path(), &["sample", "--model", RUN], &[&needle]);
        refused(dir.path(), &["sample", "--model", &relative], &[&needle]);
    }
    // Where there is an older one, the error says so.
    let older = checkpoint::write(&dir.path().join(RUN), &state(32), 3).unwrap();
    let older = format!("{RUN}/{}", older.file_name().unwrap().to_str().unwrap());
    refused(
        dir.path(),
        &["train", "--resume", "latest"],
        &[&relative, &format!("The run also has {older}, which `--resume {older}` would go on from")],
    );
}

#[test]
fn a_model_must_have_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    refused(dir.path(), &["sample", "--model", "none"], &["none is neither a run folder"]);
    let file = stopped_run(dir.path());
    fs::remove_file(file).unwrap();
    refused(dir.path(), &["sample", "--model", "latest"], &[RUN, "has no checkpoint yet"]);
    refused(dir.path(), &["train", "--fork", "latest"], &[RUN, "has no checkpoint yet"]);
}

#[test]
fn a_run_of_full_length_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = stopped_run(dir.path());
    for args in [&["train", "--resume", "latest", "--steps", "10"][..], &["train", "--resume", "latest", "--kimg", "0.32"]] {
        let before = fs::read(&file).unwrap();
        let output = ganymede(dir.path(), args);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{text}");
        assert!(
            text.contains("Nothing to do: the checkpoint is at step 10, 0.32 kimg") && text.contains("give a larger --kimg or --steps"),
            "{text}"
        );
        assert_eq!(fs::read(&file).unwrap(), before);
    }
    refused(dir.path(), &["train", "--fork", "latest", "--steps", "10"], &["nothing to train: the checkpoint is at step 10"]);
}

#[test]
fn data_sets_that_do_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let few = "--batch (training.batch) is 64, but builtin:digits?n=10 has only 10 images; give --batch 10 or less, or more data";
    for verb in [&["train"][..], &["train", "-n"], &["plan"]] {
        let with = |args: &[&'static str], needles: &[&str]| refused(dir.path(), &[verb, args].concat(), needles);
        with(&["--data", "builtin:digits?n=10", "--batch", "64"], &[few]);
        with(&["--data", "builtin:digits?n=10"], &[&format!("--batch (training.batch) is {}, but", settings().training.batch)]);
        with(
            &["--data", "builtin:digts"],
            &[
                "there is no built-in data set 'builtin:digts'",
                "builtin:digits, builtin:shapes, builtin:shapes-64",
                "did you mean builtin:digits?",
            ],
        );
        with(&["--data", "digits"], &["'", "does not exist", "did you mean builtin:digits?"]);
        with(
            &["--data", "builtin:shapes-64", "--preset", "dcgan-32"],
            &["--data builtin:shapes-64: images are 64x64, and preset dcgan-32 takes at most 32x32", "`ganymede presets`"],
        );
        with(
            &["--data", "builtin:ring", "--preset", "dcgan-32"],
            &["--data builtin:ring: these are points of 2 numbers, which the networks cannot take (", "--config"],
        );
        with(&["--data", "builtin:digits?n=0"], &["'n=0' is not a number of images or points, at least 1"]);
        with(&["--data", "builtin:digits?size=3"], &["'size=3' is not a setting of a built-in set (n, seed)"]);
    }
    fs::create_dir(dir.path().join("empty")).unwrap();
    refused(dir.path(), &["train", "--data", "empty"], &["empty' ", "an IDX images file such as train-images-idx3-ubyte"]);
    let left: Vec<_> = fs::read_dir(dir.path().join("runs")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".lock"], "a run that cannot begin takes no number");
}

#[test]
fn a_dry_run_says_what_would_be_done() {
    let dir = tempfile::tempdir().unwrap();
    let dry = |args: &[&str]| {
        let output = ganymede(dir.path(), &[&["train", "--dry-run"], args].concat());
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let default = dry(&[]);
    let (training, kimg) = (settings().training, settings().run.kimg.unwrap());
    for line in [
        "source = \"builtin:digits\"",
        "preset = \"dcgan-28-small\"",
        &format!("batch = {}", training.batch),
        "lr = 0.0002",
        "beta1 = 0.5",
        &format!("kimg = {kimg}"),
        &format!("Run folder: runs/00000-digits-dcgan-28-small-b{}", training.batch),
        "Data: builtin:digits?n=10000&seed=0 (generator 1, train): 10000 images, 28 x 28 grey, 10 classes",
        "Dry run: nothing was trained or written",
    ] {
        assert!(default.lines().any(|l| l == line), "no line {line:?} in {default}");
    }
    for network in ["G: 100 ->", "D: 1x28x28 ->"] {
        assert!(default.contains(network), "{default}");
    }
    assert_eq!(default.matches("  total, of one sample").count(), 2, "{default}");
    // Flags show in what would be done; smaller images are padded, and that is said.
    let other = dry(&["--preset", "dcgan-32", "--batch", "16", "--steps", "7", "--seed", "3", "--desc", "my test", "--outdir", "a/b"]);
    for line in [
        "batch = 16",
        "seed = 3",
        "steps = 7",
        "Run folder: a/b/00000-digits-dcgan-32-b16-my-test",
        "Images of 28x28 are padded to 32x32 with black, which this preset needs",
    ] {
        assert!(other.lines().any(|l| l == line), "no line {line:?} in {other}");
    }
    assert!(!other.contains("\nkimg = "), "a length in steps is no length in kimg: {other}");
    let colour = dry(&["--preset", "dcgan-32", "--batch", "64", "--data", "builtin:shapes?n=100"]);
    assert!(colour.contains("Run folder: runs/00000-shapes-dcgan-32-b64") && colour.contains("D: 3x32x32 ->"), "{colour}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing of this writes anything");
}

/// Hides every Vulkan driver from the command.
#[cfg(target_os = "linux")]
#[test]
fn without_an_adapter_the_advice_is_how_to_get_one() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["train"][..], &["train", "--adapter", "0"], &["plan"], &["check"], &["devices"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ganymede"));
        for name in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
            command.env(name, "/nonexistent");
        }
        command.env_remove("VK_ADD_DRIVER_FILES");
        let output = command.args(args).current_dir(dir.path()).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{args:?}: {text}");
        assert!(text.starts_with("ganymede: error: no GPU adapter was found. ") && text.matches("error:").count() == 1, "{args:?}: {text}");
        for package in ["libvulkan1", "mesa-vulkan-drivers", "vulkan-swrast"] {
            assert!(text.contains(package), "{args:?}: no {package} in {text}");
        }
    }
    let left: Vec<_> = fs::read_dir(dir.path().join("runs")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".lock"], "a run that cannot begin takes no number");
}
