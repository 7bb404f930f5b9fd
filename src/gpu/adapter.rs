//! Which adapter a run uses.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use wgpu::{AdapterInfo, DeviceType, Features};

use super::matrix::Fragments;
use crate::error::{Error, Result};

/// A graphics API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Vulkan: Linux, Windows, Android.
    Vulkan,
    /// Metal: Apple.
    Metal,
    /// Direct3D 12: Windows.
    Dx12,
}

impl Backend {
    /// All of them, in the order in which they are preferred for one physical device.
    pub const ALL: [Backend; 3] = [Backend::Vulkan, Backend::Metal, Backend::Dx12];

    fn bits(self) -> wgpu::Backends {
        match self {
            Backend::Vulkan => wgpu::Backends::VULKAN,
            Backend::Metal => wgpu::Backends::METAL,
            Backend::Dx12 => wgpu::Backends::DX12,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Vulkan => "vulkan",
            Backend::Metal => "metal",
            Backend::Dx12 => "dx12",
        })
    }
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Backend::ALL
            .into_iter()
            .find(|b| b.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| Error::input(format!("unknown backend '{text}': expected vulkan, metal or dx12")))
    }
}

/// How to open a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuOptions {
    /// Index in the list of `ganymede devices`, or a part of the adapter's name in any case; the best-ranked adapter if `None`.
    pub adapter: Option<String>,
    /// Only this API; all that the platform has if `None`.
    pub backend: Option<Backend>,
    /// Compile the shaders with all runtime checks (bounds, loop bounds, integer division). Results must not change.
    pub checked: bool,
    /// Keep compiled pipelines on disk between runs (Vulkan).
    pub pipeline_cache: bool,
    /// Where to keep them; `GANYMEDE_CACHE_DIR` or the platform's cache folder if `None`.
    pub cache_dir: Option<PathBuf>,
    /// Name every object, pass and dispatch for debuggers and profilers, and keep shader debug information. The environment variable `WGPU_DEBUG=1`
    /// asks for it too. DX12 compiles shaders without optimisation then.
    pub debug: bool,
    /// Ask the device for matrix units, for the kernels with [`super::kernel::Feature::Matrix`]. They are an experimental feature of wgpu, so nothing
    /// does by default. [`Gpu::matrix_fault`](super::Gpu::matrix_fault) tells what came of it.
    pub matrix: Option<Fragments>,
}

impl Default for GpuOptions {
    fn default() -> Self {
        GpuOptions { adapter: None, backend: None, checked: false, pipeline_cache: true, cache_dir: None, debug: false, matrix: None }
    }
}

/// The adapters, best first and unusable ones last: an adapter's index is its place in this list.
pub(super) fn enumerate(backend: Option<Backend>, debug: bool) -> Vec<wgpu::Adapter> {
    let backends = backend.map_or(wgpu::Backends::PRIMARY, Backend::bits);
    // Explicit, so that debug and release builds behave alike and no indirect-dispatch validation is inserted.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        flags: flags(debug),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let mut adapters = pollster::block_on(instance.enumerate_adapters(backends));
    adapters.sort_by_key(|a| (usable(a).is_err(), rank(&a.get_info())));
    adapters
}

/// wgpu's flags; its environment variables can add to them.
fn flags(debug: bool) -> wgpu::InstanceFlags {
    let flags = if debug { wgpu::InstanceFlags::DEBUG } else { wgpu::InstanceFlags::empty() };
    flags.with_env()
}

/// Whether names reach debuggers and profilers.
pub(super) fn names_are_kept(options: &GpuOptions) -> bool {
    flags(options.debug).contains(wgpu::InstanceFlags::DEBUG)
}

/// Sort key: discrete, integrated, virtual, other, software; then the preferred API.
fn rank(info: &AdapterInfo) -> (u8, u8) {
    let kind = match info.device_type {
        _ if is_software(info) => 4,
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    };
    let api = match info.backend {
        wgpu::Backend::Vulkan => 0,
        wgpu::Backend::Metal => 1,
        wgpu::Backend::Dx12 => 2,
        _ => 3,
    };
    (kind, api)
}

/// Software rasterisers, also where the driver claims to be a GPU (WARP has been seen to).
pub(super) fn is_software(info: &AdapterInfo) -> bool {
    let name = info.name.to_lowercase();
    info.device_type == DeviceType::Cpu
        || ["llvmpipe", "swiftshader", "microsoft basic render driver"].iter().any(|known| name.contains(known))
}

/// The index of the adapter that the options ask for; `infos` is best first.
pub(super) fn choose(infos: &[AdapterInfo], options: &GpuOptions) -> Result<usize> {
    if infos.is_empty() {
        return Err(none_found(options.backend));
    }
    let Some(wanted) = &options.adapter else { return Ok(0) };
    if let Some(index) = wanted.trim().parse::<usize>().ok().filter(|i| *i < infos.len()) {
        return Ok(index);
    }
    let needle = wanted.trim().to_lowercase();
    let exact: Vec<usize> = (0..infos.len()).filter(|i| infos[*i].name.to_lowercase() == needle).collect();
    let matches = if exact.is_empty() {
        (0..infos.len()).filter(|i| !needle.is_empty() && infos[*i].name.to_lowercase().contains(&needle)).collect()
    } else {
        exact
    };
    match matches.as_slice() {
        [] => Err(Error::input(format!("no adapter matches '{wanted}'. There are:\n{}", list(infos, 0..infos.len())))),
        [one] => Ok(*one),
        [best, ..] if one_device(infos, &matches) => Ok(*best),
        _ => Err(Error::input(format!(
            "'{wanted}' matches several adapters; name one by its index or a longer part of its name:\n{}",
            list(infos, matches.iter().copied())
        ))),
    }
}

/// No adapter, with what to do about it.
fn none_found(backend: Option<Backend>) -> Error {
    let only = match backend {
        Some(backend) => format!("no {backend} adapter was found; leave out --backend to see those of other APIs"),
        None => "no GPU adapter was found".to_string(),
    };
    Error::environment(format!(
        "{only}. Install the driver of your GPU. Without a GPU, on Linux, install a software adapter: the packages libvulkan1 and \
         mesa-vulkan-drivers (Debian, Ubuntu), mesa-vulkan-drivers (Fedora) or vulkan-swrast (Arch)"
    ))
}

/// Checks that the adapter has what every kernel may use: WebGPU's default limits of compute.
pub(super) fn usable(adapter: &wgpu::Adapter) -> Result<()> {
    let short = short_of(&adapter.limits());
    if short.is_empty() {
        return Ok(());
    }
    Err(Error::environment(format!("{} cannot run ganymede: it has {}", one_line(&adapter.get_info()), short.join("; "))))
}

/// Limits of compute that are below WebGPU's defaults.
fn short_of(has: &wgpu::Limits) -> Vec<String> {
    let needs = wgpu::Limits::default();
    [
        ("storage buffers per shader", has.max_storage_buffers_per_shader_stage, needs.max_storage_buffers_per_shader_stage),
        ("invocations per workgroup", has.max_compute_invocations_per_workgroup, needs.max_compute_invocations_per_workgroup),
        ("invocations in x", has.max_compute_workgroup_size_x, needs.max_compute_workgroup_size_x),
        ("bytes of workgroup memory", has.max_compute_workgroup_storage_size, needs.max_compute_workgroup_storage_size),
        ("workgroups per dimension", has.max_compute_workgroups_per_dimension, needs.max_compute_workgroups_per_dimension),
    ]
    .into_iter()
    .filter(|(_, has, needs)| has < needs)
    .map(|(what, has, needs)| format!("{has} {what}, needs {needs}"))
    .collect()
}

/// The adapters of one API or of all, best first: an adapter's index is its place here, and 0 is the default.
///
/// # Errors
/// [`Error::Environment`] if there is none.
pub fn adapters(backend: Option<Backend>) -> Result<Vec<AdapterInfo>> {
    let infos: Vec<AdapterInfo> = enumerate(backend, false).iter().map(wgpu::Adapter::get_info).collect();
    if infos.is_empty() { Err(none_found(backend)) } else { Ok(infos) }
}

/// The text of `ganymede devices`: every adapter with its driver, and the features and limits that matter here.
///
/// # Errors
/// [`Error::Environment`] if there is no adapter.
pub fn describe_devices(backend: Option<Backend>) -> Result<String> {
    let adapters = enumerate(backend, false);
    if adapters.is_empty() {
        return Err(none_found(backend));
    }
    Ok(adapters.iter().enumerate().map(|(i, adapter)| describe(i, adapter)).collect::<Vec<_>>().join("\n"))
}

fn describe(index: usize, adapter: &wgpu::Adapter) -> String {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    let yes = |feature: Features| if features.contains(feature) { "yes" } else { "no" };
    let subgroups = match (features.contains(Features::SUBGROUP), info.subgroup_min_size, info.subgroup_max_size) {
        (false, ..) => "no".to_string(),
        (true, min, max) if min == max => format!("of {min} lanes"),
        (true, min, max) => format!("of {min} to {max} lanes"),
    };
    let timestamps = if features.contains(Features::TIMESTAMP_QUERY_INSIDE_PASSES) {
        "per dispatch"
    } else if features.contains(Features::TIMESTAMP_QUERY) {
        "per pass"
    } else {
        "no"
    };
    let matrices = match Fragments::KERNELS.fault(&info, features, &adapter.cooperative_matrix_properties()) {
        None => "yes".to_string(),
        Some(_) if !features.contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX) => "no".to_string(),
        Some(fault) => format!("unused ({fault})"),
    };
    let driver = driver(&info);
    let mut lines = vec![
        format!("{index}: {}{}", info.name, if index == 0 { " [default]" } else { "" }),
        format!("   type      {}", kind(&info)),
        format!("   backend   {}", info.backend),
        format!("   driver    {}", if driver.is_empty() { "unknown" } else { &driver }),
        format!(
            "   features  subgroups {subgroups}, int64 {}, f16 {}, timestamps {timestamps}, cooperative matrix {matrices}, pipeline cache {}",
            yes(Features::SHADER_INT64),
            yes(Features::SHADER_F16),
            yes(Features::PIPELINE_CACHE)
        ),
        format!(
            "   limits    buffer {}, storage binding {}, workgroup {} invocations and {} of memory",
            size(limits.max_buffer_size),
            size(limits.max_storage_buffer_binding_size),
            limits.max_compute_invocations_per_workgroup,
            size(u64::from(limits.max_compute_workgroup_storage_size))
        ),
    ];
    let short = short_of(&limits);
    if !short.is_empty() {
        lines.push(format!("   unusable  it has {}", short.join("; ")));
    }
    lines.join("\n") + "\n"
}

/// A size for people.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        b if b < 1 << 10 => format!("{b} bytes"),
        b if b < 1 << 20 => format!("{:.1} KiB", b as f64 / f64::from(1 << 10)),
        b if b < 1 << 30 => format!("{:.1} MiB", b as f64 / f64::from(1 << 20)),
        b => format!("{:.1} GiB", b as f64 / f64::from(1 << 30)),
    }
}

/// Whether the adapters are one physical device seen through several APIs: same ids, and no API twice.
fn one_device(infos: &[AdapterInfo], of: &[usize]) -> bool {
    of.iter().enumerate().all(|(k, &i)| {
        of[..k]
            .iter()
            .all(|&j| (infos[i].vendor, infos[i].device) == (infos[j].vendor, infos[j].device) && infos[i].backend != infos[j].backend)
    })
}

/// One line an adapter: index, name, type, API.
fn list(infos: &[AdapterInfo], which: impl IntoIterator<Item = usize>) -> String {
    which.into_iter().map(|i| format!("  {i}: {}", one_line(&infos[i]))).collect::<Vec<_>>().join("\n")
}

/// Name, type, API and driver.
pub(super) fn one_line(info: &AdapterInfo) -> String {
    let driver = driver(info);
    let separator = if driver.is_empty() { "" } else { ", " };
    format!("{} ({}, {}{separator}{driver})", info.name, kind(info), info.backend)
}

fn kind(info: &AdapterInfo) -> &'static str {
    match info.device_type {
        _ if is_software(info) => "software",
        DeviceType::DiscreteGpu => "discrete",
        DeviceType::IntegratedGpu => "integrated",
        DeviceType::VirtualGpu => "virtual",
        DeviceType::Other | DeviceType::Cpu => "other",
    }
}

/// Driver name and version, as far as the API tells.
pub(super) fn driver(info: &AdapterInfo) -> String {
    [info.driver.as_str(), info.driver_info.as_str()].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, device_type: DeviceType, backend: wgpu::Backend, device: u32) -> AdapterInfo {
        AdapterInfo { name: name.to_string(), device, ..AdapterInfo::new(device_type, backend) }
    }

    fn pick(infos: &[AdapterInfo], wanted: &str) -> Result<usize> {
        choose(infos, &GpuOptions { adapter: Some(wanted.to_string()), ..GpuOptions::default() })
    }

    #[test]
    fn real_gpus_rank_before_software_whatever_it_calls_itself() {
        let (v, d) = (wgpu::Backend::Vulkan, wgpu::Backend::Dx12);
        let mut infos = [
            adapter("llvmpipe", DeviceType::Cpu, v, 0),
            adapter("Microsoft Basic Render Driver", DeviceType::IntegratedGpu, d, 1),
            adapter("Iris", DeviceType::IntegratedGpu, d, 2),
            adapter("Iris", DeviceType::IntegratedGpu, v, 2),
            adapter("RTX", DeviceType::DiscreteGpu, d, 3),
            adapter("virtio", DeviceType::VirtualGpu, v, 4),
        ];
        infos.sort_by_key(rank);
        let order: Vec<(u32, wgpu::Backend)> = infos.iter().map(|i| (i.device, i.backend)).collect();
        assert_eq!(order, [(3, d), (2, v), (2, d), (4, v), (0, v), (1, d)]);
    }

    #[test]
    fn adapters_are_chosen_by_index_and_name() {
        let (v, d) = (wgpu::Backend::Vulkan, wgpu::Backend::Dx12);
        let infos = [
            adapter("NVIDIA GeForce RTX 4090", DeviceType::DiscreteGpu, v, 7),
            adapter("NVIDIA GeForce RTX 4090", DeviceType::DiscreteGpu, d, 7),
            adapter("Intel Arc", DeviceType::IntegratedGpu, v, 8),
            adapter("Intel Arc Pro", DeviceType::IntegratedGpu, v, 9),
        ];
        assert_eq!(choose(&infos, &GpuOptions::default()).unwrap(), 0);
        assert_eq!(pick(&infos, "1").unwrap(), 1);
        // Not an index, so it is part of a name; one device on two APIs is no ambiguity.
        assert_eq!(pick(&infos, "4090").unwrap(), 0);
        assert_eq!(pick(&infos, "geforce").unwrap(), 0);
        assert_eq!(pick(&infos, "arc pro").unwrap(), 3);
        // A full name wins over names that contain it.
        assert_eq!(pick(&infos, "intel arc").unwrap(), 2);
        let Err(Error::Input(text)) = pick(&infos, "Intel") else { panic!("'Intel' is ambiguous") };
        assert!(text.contains("2: Intel Arc (integrated") && text.contains("3: Intel Arc Pro") && !text.contains("NVIDIA"), "{text}");
        for unknown in ["Radeon", "", "8"] {
            let Err(Error::Input(text)) = pick(&infos, unknown) else { panic!("'{unknown}' matches nothing") };
            assert!(text.contains("0: NVIDIA") && text.contains("3: Intel Arc Pro"), "{text}");
        }
    }

    #[test]
    fn two_cards_of_one_kind_are_ambiguous() {
        let card = adapter("RTX 4090", DeviceType::DiscreteGpu, wgpu::Backend::Vulkan, 7);
        assert!(matches!(pick(&[card.clone(), card], "4090"), Err(Error::Input(_))));
    }

    #[test]
    fn no_adapter_says_what_to_install() {
        let Err(Error::Environment(text)) = choose(&[], &GpuOptions::default()) else { panic!("there is none to choose") };
        assert!(text.contains("mesa-vulkan-drivers"), "{text}");
        let options = GpuOptions { backend: Some(Backend::Metal), ..GpuOptions::default() };
        let Err(Error::Environment(text)) = choose(&[], &options) else { panic!("there is none to choose") };
        assert!(text.contains("no metal adapter") && text.contains("--backend"), "{text}");
    }

    #[test]
    fn small_limits_are_named() {
        assert!(short_of(&wgpu::Limits::default()).is_empty());
        let small = wgpu::Limits { max_storage_buffers_per_shader_stage: 4, max_texture_dimension_2d: 4096, ..wgpu::Limits::default() };
        assert_eq!(short_of(&small), ["4 storage buffers per shader, needs 8"]);
    }

    #[test]
    fn backends_parse_as_they_print() {
        for backend in Backend::ALL {
            assert_eq!(backend.to_string().to_uppercase().parse::<Backend>().unwrap(), backend);
        }
        assert!(matches!("opengl".parse::<Backend>(), Err(Error::Input(_))));
    }
}
