//! Which adapter a run uses.

use std::fmt;
use std::str::FromStr;

use wgpu::{AdapterInfo, DeviceType};

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
    /// Name every dispatch for graphics debuggers and keep shader debug information.
    pub debug: bool,
}

impl Default for GpuOptions {
    fn default() -> Self {
        GpuOptions {
            adapter: None,
            backend: None,
            checked: false,
            pipeline_cache: true,
            debug: false,
        }
    }
}

/// The instance and its adapters, best first: an adapter's index is its place in this list.
pub(super) fn enumerate(options: &GpuOptions) -> Vec<wgpu::Adapter> {
    let backends = options.backend.map_or(wgpu::Backends::PRIMARY, Backend::bits);
    // Explicit, so that debug and release builds behave alike and no indirect-dispatch validation is inserted.
    let flags = if options.debug {
        wgpu::InstanceFlags::DEBUG
    } else {
        wgpu::InstanceFlags::empty()
    };
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        flags: flags.with_env(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let mut adapters = pollster::block_on(instance.enumerate_adapters(backends));
    adapters.sort_by_key(|a| rank(&a.get_info()));
    adapters
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
        || ["llvmpipe", "swiftshader", "microsoft basic render driver"]
            .iter()
            .any(|known| name.contains(known))
}

/// The index of the adapter that the options ask for; `infos` is best first.
pub(super) fn choose(infos: &[AdapterInfo], options: &GpuOptions) -> Result<usize> {
    if infos.is_empty() {
        let only = match options.backend {
            Some(backend) => format!("no {backend} adapter was found; leave out --backend to see those of other APIs"),
            None => "no GPU adapter was found".to_string(),
        };
        return Err(Error::environment(format!(
            "{only}. Install your GPU's driver; on Linux a software adapter comes with the package mesa-vulkan-drivers (vulkan-swrast on \
             Arch), and the loader with libvulkan1"
        )));
    }
    let Some(wanted) = &options.adapter else { return Ok(0) };
    if let Some(index) = wanted.trim().parse::<usize>().ok().filter(|i| *i < infos.len()) {
        return Ok(index);
    }
    let needle = wanted.trim().to_lowercase();
    let exact: Vec<usize> = (0..infos.len()).filter(|i| infos[*i].name.to_lowercase() == needle).collect();
    let matches = if exact.is_empty() {
        (0..infos.len())
            .filter(|i| !needle.is_empty() && infos[*i].name.to_lowercase().contains(&needle))
            .collect()
    } else {
        exact
    };
    match matches.as_slice() {
        [] => Err(Error::input(format!(
            "no adapter matches '{wanted}'. There are:\n{}",
            list(infos, 0..infos.len())
        ))),
        [one] => Ok(*one),
        [best, ..] if one_device(infos, &matches) => Ok(*best),
        _ => Err(Error::input(format!(
            "'{wanted}' matches several adapters; name one by its index or a longer part of its name:\n{}",
            list(infos, matches.iter().copied())
        ))),
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
    which
        .into_iter()
        .map(|i| format!("  {i}: {}", one_line(&infos[i])))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Name, type, API and driver.
pub(super) fn one_line(info: &AdapterInfo) -> String {
    let kind = match info.device_type {
        _ if is_software(info) => "software",
        DeviceType::DiscreteGpu => "discrete",
        DeviceType::IntegratedGpu => "integrated",
        DeviceType::VirtualGpu => "virtual",
        DeviceType::Other | DeviceType::Cpu => "other",
    };
    let driver = [info.driver.as_str(), info.driver_info.as_str()]
        .into_iter()
        .filter(|s| !s.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    let driver = if driver.is_empty() { String::new() } else { format!(", {driver}") };
    format!("{} ({kind}, {}{driver})", info.name, info.backend)
}
