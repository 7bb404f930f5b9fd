//! The command; see [`ganymede::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    quieten_mesa();
    ExitCode::from(ganymede::cli::main(std::env::args_os()))
}

/// Where nobody is logged in (servers, containers), Mesa's device-select layer asks Wayland for the screen's GPU all the same, and Wayland's
/// library prints "error: XDG_RUNTIME_DIR is invalid or not set" on our standard error. There is no screen to ask, so the layer is turned off,
/// unless one of its own settings chooses a GPU or a screen is there.
fn quieten_mesa() {
    let speaks_to_the_layer = ["XDG_RUNTIME_DIR", "WAYLAND_DISPLAY", "DISPLAY", "DRI_PRIME", "MESA_VK_DEVICE_SELECT", "NODEVICE_SELECT"];
    if cfg!(target_os = "linux") && speaks_to_the_layer.iter().all(|name| std::env::var_os(name).is_none_or(|value| value.is_empty())) {
        // SAFETY: this is the first thing that the process does, so no other thread can be reading the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
