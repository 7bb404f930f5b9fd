//! The GPU layer on whatever adapter is there.

use std::sync::OnceLock;

use bytemuck::Zeroable;
use ganymede::error::{Error, Result};
use ganymede::gpu::kernel::{Bind, Cost, Dispatch, Kernel};
use ganymede::gpu::step::StepRow;
use ganymede::gpu::{Backend, BufferRange, Gpu, GpuOptions, Sequence, adapters, describe_devices, testing};

const fn assert_shareable<T: Send + Sync>() {}
const _: () = assert_shareable::<Gpu>();
const _: () = assert_shareable::<Sequence>();

/// log[s] = 3 * log[s - 1] + s + bias for the step number s of the row: only rows run in order give the right last value.
const CHAIN_TEXT: &str = "
    struct P { bias: u32, reserved0: u32, reserved1: u32, reserved2: u32 }
    struct StepRow { slots: array<vec4<u32>, 32> }
    @group(0) @binding(0) var<uniform> params: P;
    @group(0) @binding(1) var<uniform> row: StepRow;
    @group(0) @binding(2) var<storage, read_write> log: array<u32>;
    @compute @workgroup_size(1)
    fn chain() {
        let s = row.slots[0].x;
        log[s] = 3u * log[s - 1u] + s + params.bias;
    }";

static CHAIN: Kernel = Kernel {
    name: "chain",
    variant: "",
    parts: &[("chain", CHAIN_TEXT)],
    bindings: &[Bind::Params, Bind::Step, Bind::InOut],
    workgroup: [1, 1, 1],
    features: &[],
};

/// y = x + 1, one word an invocation.
const NEXT_TEXT: &str = "
    @group(0) @binding(0) var<storage, read> x: array<u32>;
    @group(0) @binding(1) var<storage, read_write> y: array<u32>;
    @compute @workgroup_size(64)
    fn next(@builtin(global_invocation_id) id: vec3<u32>) {
        y[id.x] = x[id.x] + 1u;
    }";

static NEXT: Kernel = Kernel {
    name: "next",
    variant: "",
    parts: &[("next", NEXT_TEXT)],
    bindings: &[Bind::In, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

fn dispatch(kernel: &'static Kernel, params: &[u32], operands: Vec<BufferRange>) -> Dispatch<BufferRange> {
    Dispatch {
        kernel,
        overrides: Vec::new(),
        params: bytemuck::cast_slice(params).to_vec(),
        operands,
        workgroups: [1, 1, 1],
        cost: Cost::default(),
    }
}

fn one(gpu: &Gpu, dispatch: Dispatch<BufferRange>) -> Result<Sequence> {
    gpu.sequence("test", vec![("the dispatch".to_string(), dispatch)], None)
}

/// The text of an internal error.
fn defect<T>(result: Result<T>) -> String {
    match result {
        Err(Error::Internal(text)) => text,
        Err(other) => panic!("another kind of error: {other:?}"),
        Ok(_) => panic!("no error"),
    }
}

fn words(gpu: &Gpu, range: &BufferRange) -> Vec<u32> {
    bytemuck::pod_collect_to_vec(&gpu.read(&range.buffer, range.offset, range.len).unwrap())
}

#[test]
fn the_capabilities_fit_the_adapter() {
    let Some(gpu) = testing::gpu() else { return };
    let caps = gpu.caps();
    assert!(caps.max_binding >= 128 << 20, "{caps:?}");
    assert_eq!(caps.software, gpu.adapter_summary().contains("(software"), "{}", gpu.adapter_summary());
    // A driver on which the lane test is known to pass must not lose the kernels that depend on it.
    if gpu.adapter_summary().contains("256 bits") {
        assert!(caps.fixed_subgroup && caps.int64, "{caps:?} on {}", gpu.adapter_summary());
    }
}

#[test]
fn devices_are_listed_and_unknown_ones_refused() {
    let Some(gpu) = testing::gpu() else { return };
    let infos = adapters(None).unwrap();
    let text = describe_devices(None).unwrap();
    for info in &infos {
        assert!(text.contains(&info.name), "{text}");
    }
    assert!(text.starts_with("0: ") && text.matches("[default]").count() == 1, "{text}");

    let open =
        |adapter: &str| Gpu::open(&GpuOptions { adapter: Some(adapter.to_string()), pipeline_cache: false, ..GpuOptions::default() });
    let Err(Error::Input(text)) = open("no such adapter") else { panic!("an adapter that is not there was opened") };
    assert!(text.contains("no such adapter") && text.contains(&infos[0].name), "{text}");
    let again = open("0").unwrap();
    assert!(again.adapter_summary().starts_with(&infos[0].name));
    drop(again);
    assert!(!gpu.adapter_summary().is_empty());

    let absent = if cfg!(target_os = "macos") { Backend::Dx12 } else { Backend::Metal };
    let Err(Error::Environment(text)) = Gpu::open(&GpuOptions { backend: Some(absent), ..GpuOptions::default() }) else {
        panic!("a backend of another platform was opened")
    };
    assert!(text.contains("--backend"), "{text}");
}

#[test]
fn buffers_keep_what_is_written() {
    let Some(gpu) = testing::gpu() else { return };
    let buffer = gpu.buffer("words", 1022).unwrap();
    assert_eq!(buffer.size(), 1024);
    assert_eq!(gpu.read(&buffer, 0, 1024).unwrap(), vec![0; 1024]);
    let bytes: Vec<u8> = (0..100).collect();
    gpu.write(&buffer, 400, &bytes).unwrap();
    let back = gpu.read(&buffer, 396, 108).unwrap();
    assert_eq!((&back[..4], &back[4..104], &back[104..]), ([0; 4].as_slice(), bytes.as_slice(), [0; 4].as_slice()));

    for (offset, len) in [(1024, 4), (1020, 8), (2, 4), (0, 6), (0, 0), (u64::MAX - 3, 4)] {
        assert!(defect(gpu.read(&buffer, offset, len)).contains("words"), "{offset} {len}");
    }
    assert!(defect(gpu.write(&buffer, 1000, &[0; 28])).contains("1024 bytes at offset 1000"));
    assert!(defect(gpu.buffer("nothing", 0)).contains("nothing"));
}

#[test]
fn transfers_larger_than_a_piece_are_whole() {
    let Some(gpu) = testing::gpu() else { return };
    let len = (64 << 20) + 4096;
    let buffer = gpu.buffer("large", len).unwrap();
    let bytes: Vec<u8> = (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    gpu.write(&buffer, 0, &bytes).unwrap();
    assert!(gpu.read(&buffer, 0, len).unwrap() == bytes);
}

#[test]
fn a_buffer_that_the_adapter_cannot_have_is_refused() {
    let Some(gpu) = testing::gpu() else { return };
    let Err(Error::Environment(text)) = gpu.buffer("activations", 1 << 60) else { panic!("an exabyte was allocated") };
    assert!(text.contains("activations") && text.contains("smaller batch"), "{text}");
    // It is no fault of the device.
    gpu.buffer("small", 4).unwrap();
    gpu.wait().unwrap();
}

#[test]
fn allocations_are_counted() {
    if testing::gpu().is_none() {
        return;
    }
    // A device of its own, so that tests beside this one do not count.
    let gpu = Gpu::open(&GpuOptions { pipeline_cache: false, adapter: test_adapter(), ..GpuOptions::default() }).unwrap();
    let Some(before) = gpu.memory_allocated() else { return };
    let buffers: Vec<_> = (0..4).map(|i| gpu.buffer(&format!("counted {i}"), 4 << 20).unwrap()).collect();
    let grown = gpu.memory_allocated().unwrap() - before;
    assert!((16 << 20..17 << 20).contains(&grown), "{before} grew by {grown}");
    drop(buffers);
}

#[test]
fn a_read_sees_what_was_there_when_it_was_ordered() {
    let Some(gpu) = testing::gpu() else { return };
    let buffer = gpu.buffer("changing", 256).unwrap();
    gpu.write(&buffer, 0, &[1; 256]).unwrap();
    let first = gpu.read_later(&buffer, 0, 256).unwrap();
    gpu.write(&buffer, 0, &[2; 256]).unwrap();
    let mut second = gpu.read_later(&buffer, 4, 8).unwrap();
    assert_eq!(first.wait(gpu).unwrap(), [1; 256]);
    while !second.is_ready(gpu).unwrap() {
        std::thread::yield_now();
    }
    assert_eq!(second.wait(gpu).unwrap(), [2; 8]);
}

/// A chain over `rows` rows with step numbers from 1.
fn chain(gpu: &Gpu, rows: u32, bias: u32) -> (Sequence, BufferRange) {
    let steps: Vec<StepRow> = (1..=rows)
        .map(|s| {
            let mut row = StepRow::zeroed();
            row.slots[0][0] = s;
            row
        })
        .collect();
    let table = gpu.uniform("rows", (rows as usize * StepRow::BYTES) as u64).unwrap();
    gpu.write(&table, 0, bytemuck::cast_slice(&steps)).unwrap();
    let log = gpu.buffer("log", u64::from(rows + 1) * 4).unwrap().whole();
    let dispatches = vec![("chain".to_string(), dispatch(&CHAIN, &[bias, 0, 0, 0], vec![log.clone()]))];
    (gpu.sequence("chain", dispatches, Some(&table)).unwrap(), log)
}

fn chain_twin(rows: u32, bias: u32) -> Vec<u32> {
    (1..=rows).fold(vec![0u32], |mut log, s| {
        log.push(log[log.len() - 1].wrapping_mul(3).wrapping_add(s + bias));
        log
    })
}

#[test]
fn every_row_runs_once_and_in_order() {
    let Some(gpu) = testing::gpu() else { return };
    let (sequence, log) = chain(gpu, 40, 5);
    assert_eq!((sequence.len(), sequence.is_empty()), (1, false));
    gpu.submit(&sequence, 0..7).unwrap();
    gpu.submit(&sequence, 7..7).unwrap();
    for row in 7..30 {
        gpu.submit(&sequence, row..row + 1).unwrap();
    }
    gpu.submit(&sequence, 30..40).unwrap();
    gpu.wait().unwrap();
    assert_eq!(words(gpu, &log), chain_twin(40, 5));
    assert!(defect(gpu.submit(&sequence, 39..41)).contains("39..41"));
}

#[test]
fn sequences_submitted_from_several_threads_are_independent() {
    let Some(gpu) = testing::gpu() else { return };
    std::thread::scope(|scope| {
        for bias in 0..4 {
            scope.spawn(move || {
                let (sequence, log) = chain(gpu, 32, bias);
                for row in 0..32 {
                    gpu.submit(&sequence, row..row + 1).unwrap();
                }
                assert_eq!(words(gpu, &log), chain_twin(32, bias));
            });
        }
    });
}

#[test]
fn dispatches_see_the_results_of_those_before() {
    let Some(gpu) = testing::gpu() else { return };
    let buffers: Vec<BufferRange> = (0..5).map(|i| gpu.buffer(&format!("stage {i}"), 256).unwrap().whole()).collect();
    let dispatches = buffers.windows(2).map(|w| (String::new(), dispatch(&NEXT, &[], w.to_vec()))).collect();
    gpu.submit(&gpu.sequence("stages", dispatches, None).unwrap(), 0..1).unwrap();
    assert_eq!(words(gpu, &buffers[4]), [4; 64]);
}

#[test]
fn a_range_of_a_buffer_is_bound_where_it_is() {
    let Some(gpu) = testing::gpu() else { return };
    let x = gpu.buffer("x", 256).unwrap().whole();
    let y = BufferRange { buffer: gpu.buffer("y", 768).unwrap(), offset: 256, len: 256 };
    gpu.submit(&one(gpu, dispatch(&NEXT, &[], vec![x, y.clone()])).unwrap(), 0..1).unwrap();
    let all = words(gpu, &y.buffer.whole());
    assert_eq!((&all[..64], &all[64..128], &all[128..]), ([0; 64].as_slice(), [1; 64].as_slice(), [0; 64].as_slice()));
}

#[test]
fn operands_that_do_not_fit_are_named() {
    let Some(gpu) = testing::gpu() else { return };
    let x = gpu.buffer("operand x", 1024).unwrap().whole();
    let y = gpu.buffer("operand y", 1024).unwrap().whole();
    let part = |offset, len| BufferRange { buffer: y.buffer.clone(), offset, len };
    let check = |operands: Vec<BufferRange>, expected: &str| {
        let text = defect(one(gpu, dispatch(&NEXT, &[], operands)));
        assert!(text.contains("the dispatch") && text.contains("'next'") && text.contains(expected), "{text}");
    };
    check(vec![x.clone()], "no operand for binding 1");
    check(vec![x.clone(), y.clone(), x.clone()], "3 operands; it takes 2");
    check(vec![x.clone(), part(128, 256)], "offset 128 is not a multiple of 256");
    check(vec![x.clone(), part(768, 512)], "beyond its 1024 bytes");
    check(vec![x.clone(), part(0, 0)], "needs at least 4");
    check(vec![x.clone(), x.clone()], "both read and written");
    check(vec![part(0, 256), part(256, 256)], "both read and written");
    let text = defect(one(gpu, Dispatch { workgroups: [1, 0, 1], ..dispatch(&NEXT, &[], vec![x.clone(), y.clone()]) }));
    assert!(text.contains("[1, 0, 1] workgroups"), "{text}");
    let text = defect(one(gpu, dispatch(&CHAIN, &[0, 0, 0, 0], vec![y.clone()])));
    assert!(text.contains("the sequence has none"), "{text}");
    let rows = gpu.uniform("one row", 512).unwrap();
    let text = defect(gpu.sequence("test", vec![(String::new(), dispatch(&CHAIN, &[0, 0], vec![y.clone()]))], Some(&rows)));
    assert!(text.contains("8 bytes of parameters; the shader's struct has 16"), "{text}");
}

#[test]
fn kernels_that_disagree_with_their_table_entry_are_named() {
    let Some(gpu) = testing::gpu() else { return };
    const OPEN: Kernel = Kernel { name: "", variant: "", parts: &[], bindings: &[], workgroup: [64, 1, 1], features: &[] };
    static SYNTAX: Kernel = Kernel { name: "syntax", parts: &[("syntax", "fn syntax( {")], ..OPEN };
    static EXTRA: Kernel = Kernel { name: "next", variant: "extra", parts: NEXT.parts, bindings: &[Bind::In], ..OPEN };
    static MISSING: Kernel =
        Kernel { name: "next", variant: "missing", parts: NEXT.parts, bindings: &[Bind::In, Bind::Out, Bind::Out], ..OPEN };
    static SWAPPED: Kernel = Kernel { name: "next", variant: "swapped", parts: NEXT.parts, bindings: &[Bind::Out, Bind::In], ..OPEN };
    static ENTRY: Kernel = Kernel { name: "entry", parts: NEXT.parts, bindings: NEXT.bindings, ..OPEN };
    static GROUP: Kernel =
        Kernel { name: "next", variant: "group", workgroup: [32, 1, 1], parts: NEXT.parts, bindings: NEXT.bindings, features: &[] };
    static TYPES: Kernel = Kernel {
        workgroup: [1, 1, 1],
        name: "types",
        parts: &[("types", "@compute @workgroup_size(1) fn types() { let x: u32 = 1.5; }")],
        ..OPEN
    };
    static IMPOSTOR: Kernel = Kernel { name: "next", parts: CHAIN.parts, bindings: CHAIN.bindings, workgroup: [1, 1, 1], ..OPEN };
    gpu.pipeline(&NEXT, &[]).unwrap();
    for (kernel, expected) in [
        (&SYNTAX, "does not parse"),
        (&EXTRA, "@binding(1) y: is not in the kernel table"),
        (&MISSING, "declares no @group(0) @binding(2)"),
        (&SWAPPED, "Out in the kernel table"),
        (&ENTRY, "no entry point called 'entry'"),
        (&GROUP, "workgroups of [64, 1, 1], and of [32, 1, 1] in the kernel table"),
        (&TYPES, "types"),
        (&IMPOSTOR, "two different kernels are called 'next'"),
    ] {
        let text = defect(gpu.pipeline(kernel, &[]));
        assert!(text.contains(&kernel.label()) && text.contains(expected), "{text}");
    }
    assert!(defect(gpu.pipeline(&NEXT, &[("no_such_override", 1.0)])).contains("no_such_override"));
    // None of it is a fault of the device.
    gpu.wait().unwrap();
}

#[test]
fn pipelines_are_built_once() {
    let Some(gpu) = testing::gpu() else { return };
    let (a, b) = (gpu.pipeline(&NEXT, &[]).unwrap(), gpu.pipeline(&NEXT, &[]).unwrap());
    assert!(std::sync::Arc::ptr_eq(&a, &b));
}

#[test]
fn checked_shaders_give_the_same_words() {
    let Some(gpu) = testing::gpu() else { return };
    let options = GpuOptions { checked: true, debug: true, pipeline_cache: false, adapter: test_adapter(), ..GpuOptions::default() };
    let checked = Gpu::open(&options).unwrap();
    assert_eq!(checked.caps(), gpu.caps());
    let (sequence, log) = chain(&checked, 20, 1);
    checked.submit(&sequence, 0..20).unwrap();
    assert_eq!(words(&checked, &log), chain_twin(20, 1));
}

#[test]
fn spans_are_positive_or_missing() {
    let Some(gpu) = testing::gpu() else { return };
    let (sequence, log) = chain(gpu, 3, 0);
    gpu.submit(&sequence, 0..2).unwrap();
    let spans = gpu.submit_timed(&sequence, 2, gpu.clock()).unwrap().spans;
    assert_eq!(words(gpu, &log), chain_twin(3, 0));
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].label, "chain");
    assert!(spans[0].ns.is_none_or(|ns| ns > 0.0 && ns < 60e9), "{spans:?}");
    defect(gpu.submit_timed(&sequence, 3, gpu.clock()));
}

/// The adapter that the shared test GPU was opened on.
fn test_adapter() -> Option<String> {
    static NAME: OnceLock<Option<String>> = OnceLock::new();
    NAME.get_or_init(|| std::env::var("GANYMEDE_TEST_ADAPTER").ok()).clone()
}

#[test]
fn a_damaged_pipeline_cache_is_made_anew() {
    if testing::gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("cache");
    let options = GpuOptions { cache_dir: Some(inner.clone()), adapter: test_adapter(), ..GpuOptions::default() };
    let use_it = || {
        let gpu = Gpu::open(&options).unwrap();
        let (sequence, log) = chain(&gpu, 5, 2);
        gpu.submit(&sequence, 0..5).unwrap();
        assert_eq!(words(&gpu, &log), chain_twin(5, 2));
        gpu.save_pipeline_cache();
    };
    let files =
        || -> Vec<std::path::PathBuf> { std::fs::read_dir(&inner).map(|all| all.map(|f| f.unwrap().path()).collect()).unwrap_or_default() };
    use_it();
    let Some(file) = files().pop() else {
        assert!(!testing::gpu().unwrap().adapter_summary().contains("vulkan"), "Vulkan has a pipeline cache");
        return;
    };
    let good = std::fs::read(&file).unwrap();
    use_it();
    assert_eq!(std::fs::read(&file).unwrap(), good, "an unchanged cache is left alone");
    for damage in [Vec::new(), b"rubbish".to_vec(), good[..good.len() - 1].to_vec(), good.iter().map(|b| b ^ 0x55).collect()] {
        std::fs::write(&file, &damage).unwrap();
        use_it();
        assert_ne!(std::fs::read(&file).unwrap(), damage);
    }
    assert_eq!(files(), [file]);
    // A place where no folder can be made is no reason to fail either.
    let blocked = folder.path().join("a file");
    std::fs::write(&blocked, b"").unwrap();
    Gpu::open(&GpuOptions { cache_dir: Some(blocked.join("cache")), ..options.clone() }).unwrap().save_pipeline_cache();
}
