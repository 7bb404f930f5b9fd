//! The contract between the WGSL texts, the kernel table, the hosts that fill parameters, and every back end. Needs no GPU.
//!
//! What the presets dispatch is compiled here for Vulkan, Metal and DX12, so that a kernel that only one of them refuses fails on every machine.

mod lint;

use ganymede::error::Result;
use ganymede::gan::config::GanConfig;
use ganymede::gan::step::Inputs;
use ganymede::gan::trainer;
use ganymede::gpu::kernel::{Bind, Dispatch, Feature, Kernel};
use ganymede::gpu::step::StepRow;
use ganymede::graph::lower::Caps;
use ganymede::graph::precision::Precision;
use ganymede::run::presets::PRESETS;
use naga::back::{PipelineConstants, hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Binding, BuiltIn, Module, ResourceBinding, ScalarKind, ShaderStage, StorageAccess, TypeInner};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};

// ---- What is checked ----

/// A kernel with pipeline overrides that some dispatch uses.
struct Specialisation {
    kernel: &'static Kernel,
    overrides: Vec<(&'static str, f64)>,
    /// Sizes of the parameter structs that hosts upload to it; empty for the defaults, which nothing dispatches.
    uploads: BTreeSet<usize>,
}

impl Display for Specialisation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.kernel.label())?;
        self.overrides.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

/// Every kernel: those of the ops, those that only benchmarks run, and the start-up tests of the lanes.
fn kernels() -> Vec<&'static Kernel> {
    let mut kernels = ganymede::ops::kernels();
    kernels.extend(ganymede::bench::kernels());
    kernels.extend([&ganymede::gpu::LANE_TEST, &ganymede::gpu::QUAD_TEST]);
    kernels
}

/// What the presets' training steps and the kernel cases dispatch, and each kernel with its defaults (0, then 1, where an override has none).
fn specialisations() -> Vec<Specialisation> {
    let mut found: BTreeMap<String, Specialisation> = BTreeMap::new();
    let mut add = |kernel, mut overrides: Vec<(&'static str, f64)>, upload: Option<usize>| {
        overrides.sort_by_key(|(name, _)| *name);
        let specialisation = Specialisation { kernel, overrides, uploads: BTreeSet::new() };
        found.entry(specialisation.to_string()).or_insert(specialisation).uploads.extend(upload);
    };
    for kernel in kernels() {
        for value in [0.0, 1.0] {
            let module = parse(kernel).unwrap_or_default();
            let missing = module.overrides.iter().filter(|(_, o)| o.init.is_none());
            add(kernel, missing.map(|(_, o)| (leaked(o.name.clone().unwrap_or_default()), value)).collect(), None);
        }
    }
    fn upload<B>(dispatch: &Dispatch<B>) -> (&'static Kernel, Vec<(&'static str, f64)>, Option<usize>) {
        (dispatch.kernel, dispatch.overrides.clone(), Some(dispatch.params.len()))
    }
    for caps in adapters() {
        let planned = planned(&caps).unwrap_or_else(|e| panic!("a preset does not compile for {caps:?}: {e}"));
        let cases = ganymede::ops::cases(&caps).into_iter().flat_map(|case| case.dispatches);
        for (kernel, overrides, size) in planned.iter().map(upload).chain(cases.map(|d| upload(&d))) {
            add(kernel, overrides, size);
        }
    }
    found.into_values().collect()
}

/// Every dispatch of one training step of every preset, on grey and on colour images.
fn planned(caps: &Caps) -> Result<Vec<Dispatch<ganymede::plan::Slot>>> {
    let mut dispatches = Vec::new();
    for preset in PRESETS.iter() {
        // Without matrix units, the last precision's plan is that of the one before.
        for precision in Precision::ALL.into_iter().take(if caps.matrix { 3 } else { 2 }) {
            for channels in [1, 3] {
                let config = GanConfig { precision, ..preset.gan_config(channels, preset.batch()) };
                // What draws z and gathers batches on the device comes with the kernel cases, in all its switches.
                let plan = trainer::plan(&config, &Inputs::Device { images: 1000 }, caps)?;
                dispatches.extend(plan.dispatches.into_iter().map(|(_, dispatch)| dispatch));
            }
        }
    }
    Ok(dispatches)
}

/// Adapters that lead to different kernels: any GPU, without and with f16 in storage and matrix units, and software ones with four lanes and with
/// eight and 64-bit integers.
fn adapters() -> [Caps; 4] {
    let software = Caps { quads: true, software: true, ..Caps::minimal() };
    let matrix = Caps { float16: true, matrix: true, ..Caps::minimal() };
    [Caps::minimal(), matrix, software.clone(), Caps { fixed_subgroup: true, int64: true, ..software }]
}

// ---- Helpers ----

/// Collects what is wrong, so that a run reports all of it.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn check(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.0.push(fault());
        }
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        // Kernels that share a part share its faults.
        self.0.dedup();
        if !self.0.is_empty() && !std::thread::panicking() {
            panic!("{} faults:\n{}", self.0.len(), self.0.join("\n"));
        }
    }
}

/// Names of overrides live as long as a test.
fn leaked(name: String) -> &'static str {
    Box::leak(name.into_boxed_str())
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn parse(kernel: &Kernel) -> std::result::Result<Module, String> {
    let text = kernel.wgsl();
    naga::front::wgsl::parse_str(&text).map_err(|e| e.emit_to_string_with_path(&text, &kernel.label()))
}

fn capability(feature: Feature) -> Capabilities {
    match feature {
        Feature::Subgroup | Feature::Quad => Capabilities::SUBGROUP,
        Feature::Int64 => Capabilities::SHADER_INT64,
        Feature::Float16 => Capabilities::SHADER_FLOAT16_IN_FLOAT32,
        Feature::Matrix => Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16 | Capabilities::SUBGROUP,
    }
}

/// What a kernel may use: its features, and no more.
fn capabilities(kernel: &Kernel) -> Capabilities {
    let mut capabilities: Capabilities = kernel.features.iter().map(|f| capability(*f)).collect();
    // The lane tests find out whether an adapter has the feature, so they cannot ask for it.
    if ["lane_test", "quad_test"].contains(&kernel.name) {
        capabilities |= Capabilities::SUBGROUP;
    }
    capabilities
}

/// The module with overrides resolved, as a pipeline sees it, and validated for the kernel's features.
fn specialise(specialisation: &Specialisation) -> std::result::Result<(Module, ModuleInfo), String> {
    let Specialisation { kernel, overrides, .. } = specialisation;
    let text = kernel.wgsl();
    let module = parse(kernel)?;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities(kernel));
    let info = validator.validate(&module).map_err(|e| e.emit_to_string_with_path(&text, &kernel.label()))?;
    let constants: PipelineConstants = overrides.iter().map(|(name, value)| (name.to_string(), *value)).collect();
    let entry = Some((ShaderStage::Compute, kernel.name));
    let (module, _) = naga::back::pipeline_constants::process_overrides(&module, &info, entry, &constants).map_err(|e| e.to_string())?;
    let module = module.into_owned();
    let info = validator.validate(&module).map_err(|e| e.emit_to_string_with_path(&text, &kernel.label()))?;
    Ok((module, info))
}

/// `shaders/adam.wgsl:34`: where an offset into a kernel's joined text is in its parts.
fn place(kernel: &Kernel, offset: usize) -> String {
    let mut start = kernel.directives().len();
    for (stem, text) in kernel.parts {
        if offset <= start + text.len() {
            let line = text[..offset - start].matches('\n').count() + 1;
            return format!("shaders/{stem}.wgsl:{line}");
        }
        start += text.len() + 1;
    }
    format!("behind the end of {}", kernel.label())
}

// ---- The table ----

#[test]
fn files_and_kernels_name_each_other() {
    let mut faults = Faults::default();
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(root().join("shaders")).expect("shaders/ can be listed") {
        let path = entry.expect("shaders/ can be listed").path();
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_string();
        let is_shader = path.extension().is_some_and(|e| e == "wgsl");
        faults.check(is_shader, || format!("{}: only .wgsl files belong into shaders/; move it", path.display()));
        files.insert(stem);
    }
    let mut labels = BTreeSet::new();
    let mut named = BTreeSet::new();
    for kernel in kernels() {
        let label = kernel.label();
        faults.check(labels.insert(label.clone()), || format!("{label} is in the table twice; give one of them another variant"));
        let last = kernel.parts.last().map_or("nothing", |(stem, _)| stem);
        faults.check(last == kernel.name, || {
            format!("{label}: its last part is {last}; the file with the entry point comes last and is called {}", kernel.name)
        });
        for (stem, _) in kernel.parts {
            faults.check(files.contains(*stem), || format!("{label}: there is no shaders/{stem}.wgsl"));
            named.insert(stem.to_string());
        }
    }
    for stem in files.difference(&named) {
        faults.check(false, || format!("shaders/{stem}.wgsl is part of no kernel; add it to a table or delete it"));
    }
}

#[test]
fn table_describes_the_text() {
    let mut faults = Faults::default();
    for kernel in kernels() {
        let label = kernel.label();
        let module = match parse(kernel) {
            Ok(module) => module,
            Err(e) => {
                faults.0.push(format!("{label} does not parse; mend the text:\n{e}"));
                continue;
            }
        };
        let [entry] = &module.entry_points[..] else {
            faults.0.push(format!("{label} has {} entry points; a kernel has one", module.entry_points.len()));
            continue;
        };
        faults.check(entry.stage == ShaderStage::Compute, || format!("{label}: its entry point is not @compute"));
        faults.check(entry.name == kernel.name, || format!("{label}: its entry point is called {}; rename it", entry.name));
        faults.check(entry.workgroup_size == kernel.workgroup, || {
            format!("{label}: @workgroup_size is {:?}, the table says {:?}; correct one", entry.workgroup_size, kernel.workgroup)
        });
        faults.check(entry.workgroup_size_overrides.is_none(), || {
            format!("{label}: @workgroup_size is an override; the table needs a number")
        });
        bindings(kernel, &module, &mut faults);
        for feature in kernel.features {
            let others = capabilities(kernel) - capability(*feature);
            let needed = Validator::new(ValidationFlags::all(), others).validate(&module).is_err();
            faults.check(needed, || format!("{label} is valid without {feature:?}; take it off the table, so that more adapters run it"));
        }
    }
}

/// Bindings and their structs are what the table and the conventions say.
fn bindings(kernel: &Kernel, module: &Module, faults: &mut Faults) {
    let label = kernel.label();
    let mut declared = BTreeMap::new();
    for (_, variable) in module.global_variables.iter() {
        let name = variable.name.as_deref().unwrap_or("?");
        let Some(at) = variable.binding else { continue };
        faults.check(at.group == 0, || format!("{label}: {name} is in group {}; all bindings are in group 0", at.group));
        let twin = declared.insert(at.binding, variable);
        faults.check(twin.is_none(), || format!("{label}: binding {} is declared twice", at.binding));
    }
    let numbers: Vec<u32> = declared.keys().copied().collect();
    let expected: Vec<u32> = (0..kernel.bindings.len() as u32).collect();
    faults.check(numbers == expected, || {
        format!("{label}: its bindings are {numbers:?}, the table lists {expected:?}; number them in order from 0")
    });
    let textures = kernel.bindings.iter().filter(|b| **b == Bind::Texture).count();
    faults.check(textures <= 4, || format!("{label}: {textures} storage textures; adapters need not offer more than 4"));
    let storage = kernel.bindings.iter().filter(|b| matches!(b, Bind::In | Bind::Out | Bind::InOut)).count();
    faults.check(storage <= 8, || format!("{label}: {storage} storage buffers; adapters need not offer more than 8"));

    let mut rank = 0;
    for (number, bind) in kernel.bindings.iter().enumerate() {
        let Some(variable) = declared.get(&(number as u32)) else { continue };
        let name = variable.name.as_deref().unwrap_or("?");
        let here = match bind {
            Bind::Params => 0,
            Bind::Step => 1,
            Bind::In | Bind::Texture => 2,
            Bind::Out | Bind::InOut => 3,
        };
        faults.check(here >= rank, || format!("{label}: {name} at binding {number} is out of order; params, step row, inputs, outputs"));
        rank = rank.max(here);
        let agrees = match (bind, variable.space) {
            (Bind::Params | Bind::Step, AddressSpace::Uniform) => true,
            (Bind::In, AddressSpace::Storage { access }) => access == StorageAccess::LOAD,
            (Bind::Texture, AddressSpace::Handle) => matches!(module.types[variable.ty].inner, TypeInner::Image { .. }),
            (Bind::Out | Bind::InOut, AddressSpace::Storage { access }) => access == StorageAccess::LOAD | StorageAccess::STORE,
            _ => false,
        };
        faults
            .check(agrees, || format!("{label}: {name} at binding {number} is {:?}, the table says {bind:?}; correct one", variable.space));
        let ty = &module.types[variable.ty];
        let struct_name = ty.name.as_deref().unwrap_or("?");
        match (bind, &ty.inner) {
            (Bind::Params, TypeInner::Struct { members, span }) => {
                faults.check(struct_name.ends_with("Params"), || format!("{label}: {name} is a {struct_name}; call it <Name>Params"));
                faults.check(span % 16 == 0, || {
                    format!("{label}: {struct_name} has {span} bytes; fill it up to a multiple of 16 with reserved fields")
                });
                for (i, member) in members.iter().enumerate() {
                    let scalar =
                        matches!(module.types[member.ty].inner, TypeInner::Scalar(s) if s.width == 4 && s.kind != ScalarKind::Bool);
                    let field = member.name.as_deref().unwrap_or("?");
                    faults.check(scalar && member.offset == 4 * i as u32, || {
                        format!("{label}: {struct_name}.{field} is not a packed u32, i32 or f32; Rust's #[repr(C)] struct needs it so")
                    });
                }
            }
            (Bind::Step, TypeInner::Struct { span, .. }) => {
                faults.check(*span as usize == StepRow::BYTES, || {
                    format!("{label}: {struct_name} has {span} bytes, a step row has {}", StepRow::BYTES)
                });
            }
            (Bind::Params | Bind::Step, _) => faults.0.push(format!("{label}: {name} is not a struct")),
            _ => {}
        }
    }
}

#[test]
fn hosts_upload_what_kernels_declare() {
    let mut faults = Faults::default();
    let mut uploads = 0;
    for specialisation in specialisations() {
        let Ok(module) = parse(specialisation.kernel) else { continue };
        let params = specialisation.kernel.bindings.iter().position(|b| *b == Bind::Params);
        let declared = params.map_or(0, |number| {
            let at = Some(ResourceBinding { group: 0, binding: number as u32 });
            let variable = module.global_variables.iter().find(|(_, v)| v.binding == at);
            variable.map_or(0, |(_, v)| module.types[v.ty].inner.size(module.to_ctx()) as usize)
        });
        for size in &specialisation.uploads {
            uploads += 1;
            faults.check(*size == declared, || {
                format!(
                    "{specialisation}: the host uploads {size} bytes of parameters, the text declares {declared}; compare the two structs"
                )
            });
        }
    }
    faults.check(uploads > 0, || "no dispatch was found; planned() and cases() are empty".to_string());
}

#[test]
fn every_kernel_is_dispatched_somewhere() {
    let mut faults = Faults::default();
    let used: BTreeSet<String> = specialisations().iter().filter(|s| !s.uploads.is_empty()).map(|s| s.kernel.label()).collect();
    for kernel in ganymede::ops::kernels() {
        let label = kernel.label();
        faults.check(used.contains(&label), || format!("{label}: no preset and no kernel case dispatches it; add a case, or delete it"));
    }
}

// ---- The texts ----

#[test]
fn headers_say_host_and_twin() {
    let mut faults = Faults::default();
    let names: BTreeSet<&str> = kernels().iter().map(|k| k.name).collect();
    let sources = sources(&root().join("src")).to_lowercase();
    let parts: BTreeMap<&str, &str> = kernels().iter().flat_map(|k| k.parts).copied().collect();
    for (stem, text) in parts {
        let file = format!("shaders/{stem}.wgsl");
        let header: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//")).map(str::trim).collect();
        let first = header.first().copied().unwrap_or_default();
        let sentence = first.starts_with(stem) || first.starts_with(|c: char| c.is_uppercase());
        faults.check(sentence && first.len() > stem.len() + 2, || format!("{file}: its first line is no comment that says what it is"));
        if !names.contains(stem) {
            continue;
        }
        let header = header.join(" ");
        let Some(host) = after(&header, &["Host:"]) else {
            faults.0.push(format!("{file}: its header has no 'Host: src/….rs'"));
            continue;
        };
        let host = host.split([',', ' ']).next().unwrap_or_default().trim_end_matches('.');
        faults.check(host.starts_with("src/") && root().join(host).is_file(), || format!("{file}: Host names {host}, which is not a file"));
        match after(&header, &["Twin:", "Twins:"]) {
            None => faults.0.push(format!("{file}: its header has no 'Twin: <function>'")),
            Some(twin) => {
                // `a, b` or `module::a`; anything longer is prose, such as why there is none.
                let twin = twin.split(". ").next().unwrap_or_default().trim_end_matches('.');
                let listed: Vec<&str> = twin.split(',').map(str::trim).collect();
                let prose = listed.iter().any(|name| name.contains(' '));
                for path in listed.into_iter().filter(|_| !prose) {
                    let name = path.rsplit("::").next().unwrap_or_default();
                    faults.check(is_known(&sources, name), || {
                        format!("{file}: its twin '{path}' is nowhere in src/; write it or correct the header")
                    });
                }
            }
        }
    }
}

/// What stands behind one of the keys.
fn after<'a>(header: &'a str, keys: &[&str]) -> Option<&'a str> {
    let found = keys.iter().find_map(|key| header.find(key).map(|at| header[at + key.len()..].trim()));
    found.filter(|text| !text.is_empty())
}

/// Whether the lower-case sources define a function of this name, or an op: `conv2d_forward` is the twin method of `Conv2dForward`.
fn is_known(sources: &str, name: &str) -> bool {
    let op = name.replace('_', "");
    [format!("fn {name}("), format!("fn {name}<"), format!("struct {op}"), format!("enum {op}")].iter().any(|text| sources.contains(text))
}

fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).expect("src/ can be listed") {
        let path = entry.expect("src/ can be listed").path();
        if path.is_dir() {
            text += &sources(&path);
        } else {
            text += &fs::read_to_string(&path).expect("sources are text");
        }
    }
    text
}

#[test]
fn texts_use_no_more_than_the_conventions_allow() {
    const BUILTINS: [BuiltIn; 8] = [
        BuiltIn::WorkGroupId,
        BuiltIn::NumWorkGroups,
        BuiltIn::LocalInvocationId,
        BuiltIn::LocalInvocationIndex,
        BuiltIn::GlobalInvocationId,
        BuiltIn::SubgroupInvocationId,
        BuiltIn::SubgroupSize,
        BuiltIn::SubgroupId,
    ];
    let mut faults = Faults::default();
    for kernel in kernels() {
        let label = kernel.label();
        for (stem, text) in kernel.parts {
            for (i, line) in text.lines().enumerate() {
                let directive = ["enable", "requires", "diagnostic"].iter().any(|word| line.trim_start().starts_with(&format!("{word} ")));
                faults.check(!directive, || {
                    format!("shaders/{stem}.wgsl:{}: directives are not portable; the kernel table says what a kernel needs", i + 1)
                });
            }
        }
        let Ok(module) = parse(kernel) else { continue };
        for argument in module.entry_points.iter().flat_map(|e| &e.function.arguments) {
            let known = matches!(argument.binding, Some(Binding::BuiltIn(builtin)) if BUILTINS.contains(&builtin));
            faults.check(known, || format!("{label}: argument {:?} is no builtin that kernels use; {:?}", argument.name, argument.binding));
        }
        for (_, ty) in module.types.iter() {
            let float_atomic = matches!(ty.inner, TypeInner::Atomic(scalar) if scalar.kind == ScalarKind::Float);
            faults.check(!float_atomic, || format!("{label}: float atomics add in no fixed order; reduce in two stages"));
        }
    }
}

// ---- Control flow ----

#[test]
fn barriers_and_subgroup_operations_are_reached_together() {
    let mut faults = Faults::default();
    for specialisation in specialisations() {
        let kernel = specialisation.kernel;
        // What does not compile is reported by the translation test.
        let Ok((module, _)) = specialise(&specialisation) else { continue };
        let mut parted: BTreeMap<usize, Vec<lint::Fault>> = BTreeMap::new();
        for fault in lint::check(&module) {
            parted.entry(fault.since).or_default().push(fault);
        }
        for (since, unreached) in parted {
            let (what, at, since, count) = (unreached[0].what, place(kernel, unreached[0].at), place(kernel, since), unreached.len());
            faults.0.push(format!(
                "{specialisation}: {at}: {what} that not all invocations reach (and {} more): they part at {since}; guard loads and stores, not the flow",
                count - 1
            ));
        }
    }
}

/// The lint would notice an early return of some lanes in each kernel that has subgroup operations.
#[test]
fn lint_notices_a_planted_return() {
    let mut planted = 0;
    for kernel in kernels().into_iter().filter(|k| k.features.iter().any(|f| matches!(f, Feature::Subgroup | Feature::Quad))) {
        let label = kernel.label();
        let text = kernel.wgsl();
        let lane = after(&text, &["@builtin(local_invocation_index)", "@builtin(subgroup_invocation_id)"])
            .and_then(|t| t.split(':').next())
            .unwrap_or_else(|| panic!("{label} has no lane"));
        let entry = text.find(&format!("fn {}(", kernel.name)).unwrap_or_else(|| panic!("{label} has no entry point"));
        let body = entry + text[entry..].find(") {").unwrap_or_else(|| panic!("{label}: its entry point has no body")) + 3;
        let text = format!("{} if {lane} == 0u {{ return; }} {}", &text[..body], &text[body..]);
        let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
        assert!(!lint::check(&module).is_empty(), "{label}: an early return of lane 0 in front of its subgroup operations goes unnoticed");
        planted += 1;
    }
    assert!(planted > 0, "no kernel asks for subgroups");
}

// ---- Back ends ----

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Vulkan,
    Metal,
    Dx12,
}

/// Kernel labels that a back end refuses although it may offer their features, each with the reason. The planner must not pick them there.
///
/// An entry that compiles, or that is about no kernel, fails the test: delete it then.
const EXCEPTIONS: &[(Target, &str, &str)] = &[];

/// Whether no adapter of a back end ever has a feature, because its language has no words for it: HLSL has none for cooperative matrices, and wgpu
/// offers them on no adapter of DX12.
fn is_absent(target: Target, feature: Feature) -> bool {
    target == Target::Dx12 && feature == Feature::Matrix
}

#[test]
fn every_back_end_takes_every_kernel() {
    let mut faults = Faults::default();
    let mut met = BTreeSet::new();
    let mut exempt = 0;
    for specialisation in specialisations() {
        let (module, info) = match specialise(&specialisation) {
            Ok(valid) => valid,
            Err(e) => {
                faults.0.push(format!(
                    "{specialisation} is not valid for features {:?}; mend it or its table entry:\n{e}",
                    specialisation.kernel.features
                ));
                continue;
            }
        };
        for target in [Target::Vulkan, Target::Metal, Target::Dx12] {
            if specialisation.kernel.features.iter().any(|feature| is_absent(target, *feature)) {
                exempt += 1;
                continue;
            }
            let excused = EXCEPTIONS.iter().position(|(t, label, _)| *t == target && *label == specialisation.kernel.label());
            for checked in [false, true] {
                met.extend(excused);
                match (translate(target, checked, specialisation.kernel, &module, &info), excused) {
                    (Ok(()), None) | (Err(_), Some(_)) => {}
                    (Err(e), None) => {
                        faults.0.push(format!("{specialisation}: {target:?} (checks: {checked}) refuses it: {e}; say it otherwise in WGSL"))
                    }
                    (Ok(()), Some(_)) => faults.0.push(format!("{specialisation}: {target:?} takes it now; delete it from EXCEPTIONS")),
                }
            }
        }
    }
    for (i, exception) in EXCEPTIONS.iter().enumerate() {
        faults.check(met.contains(&i), || format!("{exception:?} is about no kernel; delete it from EXCEPTIONS"));
    }
    faults.check(exempt > 0, || "no kernel has a feature that a back end never offers; delete is_absent".to_string());
    println!("{} exceptions, {exempt} translations of features that the back end never offers", EXCEPTIONS.len());
}

/// Translates as wgpu does on an adapter that has just what the kernel needs: bindings in order, checks all or none.
fn translate(target: Target, checked: bool, kernel: &Kernel, module: &Module, info: &ModuleInfo) -> std::result::Result<(), String> {
    let caps = capabilities(kernel);
    let plain = caps.is_empty();
    let policy = if checked { BoundsCheckPolicy::Restrict } else { BoundsCheckPolicy::Unchecked };
    let policies = BoundsCheckPolicies { index: policy, buffer: policy, image_load: policy, binding_array: BoundsCheckPolicy::Unchecked };
    let bindings = (0..kernel.bindings.len() as u32).map(|binding| ResourceBinding { group: 0, binding });
    match target {
        Target::Vulkan => {
            let mut allowed = vec![spv::Capability::Shader, spv::Capability::Matrix];
            if caps.contains(Capabilities::SUBGROUP) {
                use spv::Capability as C;
                allowed.extend([
                    C::GroupNonUniform,
                    C::GroupNonUniformVote,
                    C::GroupNonUniformArithmetic,
                    C::GroupNonUniformBallot,
                    C::GroupNonUniformShuffle,
                    C::GroupNonUniformQuad,
                ]);
            }
            if checked && kernel.bindings.contains(&Bind::Texture) {
                // The check asks for the size; wgpu has this on every adapter.
                allowed.push(spv::Capability::ImageQuery);
            }
            if caps.contains(Capabilities::COOPERATIVE_MATRIX) {
                // What wgpu allows on such a device.
                use spv::Capability as C;
                allowed.extend([C::CooperativeMatrixKHR, C::VulkanMemoryModel, C::Float16]);
            }
            if caps.contains(Capabilities::SHADER_INT64) {
                allowed.push(spv::Capability::Int64);
            }
            let options = spv::Options {
                // Vulkan 1.1 brought subgroups; lavapipe is newer.
                lang_version: if plain { (1, 0) } else { (1, 3) },
                fake_missing_bindings: false,
                binding_map: bindings
                    .map(|b| (b, spv::BindingInfo { descriptor_set: b.group, binding: b.binding, binding_array_size: None }))
                    .collect(),
                capabilities: Some(allowed.into_iter().collect()),
                bounds_check_policies: policies,
                zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
                force_loop_bounding: checked,
                emit_int_div_checks: checked,
                ..spv::Options::default()
            };
            let entry = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: kernel.name.to_string() };
            spv::write_vec(module, info, &options, Some(&entry)).map(drop).map_err(|e| e.to_string())
        }
        Target::Metal => {
            let slot = |b: ResourceBinding| {
                let bind = kernel.bindings[b.binding as usize];
                let number = Some(b.binding as u8);
                let target = match bind {
                    Bind::Texture => msl::BindTarget { texture: number, ..msl::BindTarget::default() },
                    _ => msl::BindTarget { buffer: number, mutable: matches!(bind, Bind::Out | Bind::InOut), ..msl::BindTarget::default() },
                };
                (b, target)
            };
            let resources = msl::EntryPointResources {
                resources: bindings.map(slot).collect(),
                immediates_buffer: None,
                sizes_buffer: Some(kernel.bindings.len() as u8),
            };
            let options = msl::Options {
                // 64-bit integers came with 2.3, and every system that has SIMD groups has 2.4.
                lang_version: if plain { (2, 0) } else { (2, 4) },
                per_entry_point_map: [(kernel.name.to_string(), resources)].into_iter().collect(),
                fake_missing_bindings: false,
                bounds_check_policies: policies,
                zero_initialize_workgroup_memory: false,
                force_loop_bounding: checked,
                emit_int_div_checks: checked,
                ..msl::Options::default()
            };
            let entry = msl::PipelineOptions {
                entry_point: Some((ShaderStage::Compute, kernel.name.to_string())),
                ..msl::PipelineOptions::default()
            };
            let (_, names) = msl::write_string(module, info, &options, &entry).map_err(|e| e.to_string())?;
            names.entry_point_names.into_iter().try_for_each(|name| name.map(drop).map_err(|e| e.to_string()))
        }
        Target::Dx12 => {
            let register =
                |b: ResourceBinding| (b, hlsl::BindTarget { register: b.binding, restrict_indexing: true, ..hlsl::BindTarget::default() });
            let options = hlsl::Options {
                // FXC compiles 5.1; the optional features need DXC.
                shader_model: if plain { hlsl::ShaderModel::V5_1 } else { hlsl::ShaderModel::V6_2 },
                binding_map: bindings.map(register).collect(),
                fake_missing_bindings: false,
                // Carries the number of workgroups.
                special_constants_binding: Some(hlsl::BindTarget { register: kernel.bindings.len() as u32, ..hlsl::BindTarget::default() }),
                zero_initialize_workgroup_memory: false,
                restrict_indexing: checked,
                force_loop_bounding: checked,
                ..hlsl::Options::default()
            };
            let entry = hlsl::PipelineOptions { entry_point: Some((ShaderStage::Compute, kernel.name.to_string())) };
            let mut text = String::new();
            let names = hlsl::Writer::new(&mut text, &options, &entry).write(module, info, None).map_err(|e| e.to_string())?;
            names.entry_point_names.into_iter().try_for_each(|name| name.map(drop).map_err(|e| e.to_string()))
        }
    }
}
