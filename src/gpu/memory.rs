//! How much memory an adapter has left, as far as that can be known before anything is allocated.

use wgpu::AdapterInfo;

use super::adapter;

/// Bytes that a process can still allocate on an adapter: what Vulkan's memory budget leaves, or the size of the largest heap where there is no
/// budget; what is left of the main memory for a software adapter. `None` where nobody says (Metal, DX12, software adapters elsewhere than on
/// Linux).
pub(super) fn available(adapter: &wgpu::Adapter, info: &AdapterInfo) -> Option<u64> {
    if adapter::is_software(info) { main_memory() } else { device_memory(adapter) }
}

#[cfg(any(target_os = "linux", windows))]
fn device_memory(adapter: &wgpu::Adapter) -> Option<u64> {
    use ash::vk;

    // SAFETY: the adapter is only asked for properties, nothing of it is destroyed, and it lives until the end of this function.
    let adapter = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let capabilities = adapter.physical_device_capabilities();
    let instance = adapter.shared_instance().raw_instance();
    let has_budget = capabilities.supports_extension(ash::ext::memory_budget::NAME)
        && capabilities.properties().api_version >= vk::API_VERSION_1_1
        && adapter.shared_instance().instance_api_version() >= vk::API_VERSION_1_1;
    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let heaps = if has_budget {
        let mut properties = vk::PhysicalDeviceMemoryProperties2::default().push_next(&mut budget);
        // SAFETY: instance and physical device belong together, and the chain holds what the device has said it knows.
        unsafe { instance.get_physical_device_memory_properties2(adapter.raw_physical_device(), &mut properties) };
        properties.memory_properties
    } else {
        // SAFETY: instance and physical device belong together.
        unsafe { instance.get_physical_device_memory_properties(adapter.raw_physical_device()) }
    };
    let heaps = heaps.memory_heaps_as_slice().iter().enumerate();
    heaps
        .filter(|(_, heap)| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL))
        .map(|(i, heap)| if has_budget { budget.heap_budget[i].saturating_sub(budget.heap_usage[i]) } else { heap.size })
        .max()
}

#[cfg(not(any(target_os = "linux", windows)))]
fn device_memory(_: &wgpu::Adapter) -> Option<u64> {
    None
}

#[cfg(target_os = "linux")]
fn main_memory() -> Option<u64> {
    let of_machine = mem_available(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    let of_group = std::fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| group_available(&text));
    Some(of_group.map_or(of_machine, |group| group.min(of_machine)))
}

#[cfg(not(target_os = "linux"))]
fn main_memory() -> Option<u64> {
    None
}

/// `MemAvailable` of /proc/meminfo, in bytes.
#[cfg(target_os = "linux")]
fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What the control group of a process (version 2: containers, batch systems) may still allocate: its limit without what programs hold. Files in
/// the page cache are given up when memory is short.
#[cfg(target_os = "linux")]
fn group_available(cgroup: &str) -> Option<u64> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = std::path::Path::new("/sys/fs/cgroup").join(path);
    let limit: u64 = std::fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse().ok()?;
    let stat = std::fs::read_to_string(folder.join("memory.stat")).ok()?;
    let held: u64 = stat.lines().find_map(|line| line.strip_prefix("anon "))?.trim().parse().ok()?;
    Some(limit.saturating_sub(held))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_kilobytes() {
        let text = "MemTotal:       24684732 kB\nMemFree:        14986880 kB\nMemAvailable:   22567424 kB\nBuffers:          112 kB\n";
        assert_eq!(mem_available(text), Some(22_567_424 * 1024));
        assert_eq!(mem_available("MemTotal: 1 kB\n"), None);
        assert_eq!(mem_available("MemAvailable: many kB\n"), None);
    }

    /// Software adapters are asked otherwise, but theirs is the driver that every test machine has.
    #[test]
    fn every_vulkan_adapter_says_what_its_heaps_have() {
        if crate::gpu::testing::gpu().is_none() {
            return;
        }
        for adapter in adapter::enumerate(Some(crate::gpu::Backend::Vulkan), false) {
            let left = device_memory(&adapter);
            assert!(left.is_some_and(|bytes| bytes >= 1 << 20), "{}: {left:?}", adapter.get_info().name);
        }
    }

    #[test]
    fn this_machine_has_some_memory_left() {
        let left = main_memory().unwrap();
        assert!((1 << 20..1 << 50).contains(&left), "{left}");
    }
}
