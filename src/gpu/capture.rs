//! Captures for graphics debuggers. A program that shows no frames has to say itself where a capture begins and ends.

use crate::error::{Error, Result};

use super::device::Gpu;

/// A tool that is attached to this process and takes captures when asked.
enum Tool {
    #[cfg(not(target_vendor = "apple"))]
    RenderDoc(renderdoc::RenderDoc<renderdoc::V110>),
    #[cfg(windows)]
    Pix(windows::Win32::Graphics::Dxgi::IDXGraphicsAnalysis),
    #[cfg(target_vendor = "apple")]
    Xcode,
}

/// A capture tool, found attached.
pub struct CaptureTool(Tool);

impl CaptureTool {
    /// Finds the tool. Call it before the device is opened: tools must be there first.
    ///
    /// # Errors
    /// [`Error::Environment`] with advice if there is none.
    pub fn find() -> Result<Self> {
        #[cfg(not(target_vendor = "apple"))]
        if let Ok(api) = renderdoc::RenderDoc::new() {
            return Ok(CaptureTool(Tool::RenderDoc(api)));
        }
        #[cfg(windows)]
        // SAFETY: no flags, and the interface is the one that the call is typed for.
        if let Ok(analysis) = unsafe { windows::Win32::Graphics::Dxgi::DXGIGetDebugInterface1(0) } {
            return Ok(CaptureTool(Tool::Pix(analysis)));
        }
        #[cfg(target_vendor = "apple")]
        if std::env::var_os("MTL_CAPTURE_ENABLED").is_some_and(|value| value == "1") {
            return Ok(CaptureTool(Tool::Xcode));
        }
        Err(Error::environment(format!(
            "no capture tool is attached to this process, so that there is nothing to capture a step with. {ADVICE}"
        )))
    }

    /// The tool's name.
    pub fn name(&self) -> &'static str {
        match &self.0 {
            #[cfg(not(target_vendor = "apple"))]
            Tool::RenderDoc(_) => "RenderDoc",
            #[cfg(windows)]
            Tool::Pix(_) => "PIX",
            #[cfg(target_vendor = "apple")]
            Tool::Xcode => "Xcode",
        }
    }
}

#[cfg(target_vendor = "apple")]
const ADVICE: &str = "Run the command from Xcode with MTL_CAPTURE_ENABLED=1 in the scheme's environment; docs/PROFILING.md has the steps";
#[cfg(windows)]
const ADVICE: &str = "Run the command under RenderDoc (renderdoccmd capture -w -c FILE ganymede ...), or launch it from PIX for GPU capture; \
                      docs/PROFILING.md has the steps, and those for tools that need no --capture-step";
#[cfg(not(any(target_vendor = "apple", windows)))]
const ADVICE: &str = "Run the command under RenderDoc: `renderdoccmd capture -w -c /absolute/path/step ganymede ...`; docs/PROFILING.md has the \
                      steps, and those for tools that need no --capture-step";

impl Gpu {
    /// Captures what `work` submits, with nothing of earlier work in it, and says where the capture went.
    ///
    /// The device should have been opened with [`super::GpuOptions::debug`], which names what is captured.
    ///
    /// # Errors
    /// [`Error::Environment`] if the tool took no capture; what `work` returns.
    pub fn capture(&self, tool: &mut CaptureTool, work: impl FnOnce() -> Result<()>) -> Result<String> {
        self.wait()?;
        match &mut tool.0 {
            #[cfg(not(target_vendor = "apple"))]
            Tool::RenderDoc(api) => {
                let before = api.get_num_captures();
                api.start_frame_capture(std::ptr::null(), std::ptr::null());
                let done = work().and_then(|()| self.wait());
                api.end_frame_capture(std::ptr::null(), std::ptr::null());
                done?;
                if api.get_num_captures() <= before {
                    return Err(Error::environment(format!(
                        "RenderDoc is attached, but took no capture on {}. {ADVICE}",
                        self.adapter_summary()
                    )));
                }
                Ok(match api.get_capture(before) {
                    Some((path, _)) => format!("RenderDoc capture: {}", path.display()),
                    None => "RenderDoc took a capture".to_string(),
                })
            }
            #[cfg(windows)]
            Tool::Pix(analysis) => {
                // SAFETY: the interface is alive, and begin and end are called in pairs.
                unsafe { analysis.BeginCapture() };
                let done = work().and_then(|()| self.wait());
                // SAFETY: as above.
                unsafe { analysis.EndCapture() };
                done.map(|()| "PIX has the capture".to_string())
            }
            #[cfg(target_vendor = "apple")]
            Tool::Xcode => {
                // SAFETY: the capture is stopped below, and none is under way, because a tool is borrowed for as long as it captures.
                unsafe { self.device.start_graphics_debugger_capture() };
                let done = work().and_then(|()| self.wait());
                // SAFETY: as above.
                unsafe { self.device.stop_graphics_debugger_capture() };
                done.map(|()| "Xcode has the capture".to_string())
            }
        }
    }
}
