//! From a kernel table entry to a compiled pipeline.

use std::num::NonZeroU64;
use std::sync::Arc;

use wgpu::naga::{self, AddressSpace, StorageAccess};
use wgpu::{ErrorFilter, ShaderModule, ShaderRuntimeChecks};

use super::device::{Gpu, lock};
use super::kernel::{Bind, Kernel};
use super::step::StepRow;
use crate::error::{Error, Result};

/// Kernel label and overrides, by bits.
pub(super) type PipelineKey = (String, Vec<(&'static str, u64)>);

/// A kernel's shader module and layout, shared by the pipelines with different overrides.
#[derive(Debug)]
pub(super) struct Module {
    kernel: &'static Kernel,
    shader: ShaderModule,
    bind_group_layout: wgpu::BindGroupLayout,
    pipeline_layout: wgpu::PipelineLayout,
    /// Smallest size of each binding in bytes: the type's, with one element of a runtime-sized array.
    sizes: Vec<u64>,
}

/// A compiled kernel with fixed overrides.
#[derive(Debug)]
pub struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) module: Arc<Module>,
}

impl Module {
    pub(super) fn bind_group_layout(&self) -> &wgpu::BindGroupLayout {
        &self.bind_group_layout
    }

    /// Smallest size of each binding in bytes.
    pub(super) fn sizes(&self) -> &[u64] {
        &self.sizes
    }
}

impl Gpu {
    /// The kernel, compiled with these overrides; the same one if it was asked for before.
    ///
    /// # Errors
    /// [`Error::Internal`] if the adapter lacks a feature that the kernel needs, its text does not agree with its table entry, or it does
    /// not compile; [`Error::Environment`] if the device is lost.
    pub fn pipeline(&self, kernel: &'static Kernel, overrides: &[(&'static str, f64)]) -> Result<Arc<Pipeline>> {
        self.faults.check()?;
        let label = kernel.label();
        let key = (label.clone(), overrides.iter().map(|(name, value)| (*name, value.to_bits())).collect());
        let module = self.module(kernel, &label)?;
        if let Some(found) = lock(&self.pipelines).get(&key) {
            return Ok(found.clone());
        }
        // Pipelines are shared by layers, so that their names say what they compile.
        let switches: String = overrides.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        let raw = self.scoped(&label, || {
            self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&format!("{label}{switches}")),
                layout: Some(&module.pipeline_layout),
                module: &module.shader,
                entry_point: Some(kernel.name),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: overrides,
                    // Every kernel writes its workgroup memory before it reads it.
                    zero_initialize_workgroup_memory: false,
                },
                cache: self.cache.as_ref().map(|cache| &cache.raw),
            })
        })?;
        let pipeline = Arc::new(Pipeline { raw, module });
        Ok(lock(&self.pipelines).entry(key).or_insert(pipeline).clone())
    }

    fn module(&self, kernel: &'static Kernel, label: &str) -> Result<Arc<Module>> {
        let known = lock(&self.modules).get(label).cloned();
        let module = match known {
            Some(module) => module,
            None => {
                let made = Arc::new(self.build_module(kernel, label)?);
                // Another thread may have been first; its module stays.
                lock(&self.modules).entry(label.to_string()).or_insert(made).clone()
            }
        };
        if module.kernel.parts != kernel.parts || module.kernel.bindings != kernel.bindings {
            return Err(Error::internal(format!("two different kernels are called '{label}'")));
        }
        Ok(module)
    }

    fn build_module(&self, kernel: &'static Kernel, label: &str) -> Result<Module> {
        if !self.supports(kernel) {
            return Err(Error::internal(format!("kernel '{label}' needs {:?}, which {} lacks", kernel.features, self.info.name)));
        }
        let text = kernel.wgsl();
        let sizes = binding_sizes(kernel, &text)?;
        let entries: Vec<wgpu::BindGroupLayoutEntry> = kernel
            .bindings
            .iter()
            .zip(&sizes)
            .enumerate()
            .map(|(binding, (bind, size))| wgpu::BindGroupLayoutEntry {
                binding: binding as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: binding_type(*bind, *size),
                count: None,
            })
            .collect();
        self.scoped(label, || {
            let descriptor = wgpu::ShaderModuleDescriptor { label: Some(label), source: wgpu::ShaderSource::Wgsl(text.into()) };
            let shader = if self.options.checked {
                self.device.create_shader_module(descriptor)
            } else {
                // SAFETY: the text is one of this crate's own kernels, which bound their loops by sizes and guard their indices; hosts
                // check operand sizes when a plan is built, and the kernel cases run checked and unchecked.
                unsafe { self.device.create_shader_module_trusted(descriptor, ShaderRuntimeChecks::unchecked()) }
            };
            let bind_group_layout =
                self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(label), entries: &entries });
            let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(label),
                bind_group_layouts: &[Some(&bind_group_layout)],
                immediate_size: 0,
            });
            Module { kernel, shader, bind_group_layout, pipeline_layout, sizes }
        })
    }

    /// Runs what creates objects of a kernel; what the API says against it becomes an error that names the kernel.
    pub(super) fn scoped<T>(&self, label: &str, create: impl FnOnce() -> T) -> Result<T> {
        let internal = self.device.push_error_scope(ErrorFilter::Internal);
        let validation = self.device.push_error_scope(ErrorFilter::Validation);
        let made = create();
        let invalid = pollster::block_on(validation.pop());
        let failed = pollster::block_on(internal.pop());
        self.faults.check()?;
        match invalid.or(failed) {
            None => Ok(made),
            Some(error) => Err(Error::internal(format!("kernel '{label}' on {}: {}", self.info.name, error.to_string().trim()))),
        }
    }
}

/// `texture_storage_2d<rgba32float, read>`.
const TEXTURE: naga::TypeInner = naga::TypeInner::Image {
    dim: naga::ImageDimension::D2,
    arrayed: false,
    class: naga::ImageClass::Storage { format: naga::StorageFormat::Rgba32Float, access: StorageAccess::LOAD },
};

fn binding_type(bind: Bind, size: u64) -> wgpu::BindingType {
    let ty = match bind {
        Bind::Params | Bind::Step => wgpu::BufferBindingType::Uniform,
        Bind::In => wgpu::BufferBindingType::Storage { read_only: true },
        Bind::Out | Bind::InOut => wgpu::BufferBindingType::Storage { read_only: false },
        Bind::Texture => {
            return wgpu::BindingType::StorageTexture {
                access: wgpu::StorageTextureAccess::ReadOnly,
                format: wgpu::TextureFormat::Rgba32Float,
                view_dimension: wgpu::TextureViewDimension::D2,
            };
        }
    };
    wgpu::BindingType::Buffer { ty, has_dynamic_offset: bind == Bind::Step, min_binding_size: NonZeroU64::new(size) }
}

/// Checks the text's entry point and bindings against the table entry and returns the bindings' smallest sizes.
fn binding_sizes(kernel: &Kernel, text: &str) -> Result<Vec<u64>> {
    let label = kernel.label();
    let module = naga::front::wgsl::parse_str(text)
        .map_err(|e| Error::internal(format!("kernel '{label}' does not parse:\n{}", e.emit_to_string_with_path(text, &label))))?;
    let entry = module.entry_points.iter().find(|e| e.name == kernel.name);
    let entry = entry.ok_or_else(|| Error::internal(format!("kernel '{label}' has no entry point called '{}'", kernel.name)))?;
    if entry.workgroup_size_overrides.is_none() && entry.workgroup_size != kernel.workgroup {
        let (text, table) = (entry.workgroup_size, kernel.workgroup);
        return Err(Error::internal(format!("kernel '{label}' has workgroups of {text:?}, and of {table:?} in the kernel table")));
    }
    let mut sizes = vec![None; kernel.bindings.len()];
    for (_, variable) in module.global_variables.iter() {
        let Some(at) = variable.binding else { continue };
        let name = variable.name.as_deref().unwrap_or("?");
        let wrong = |why: String| Error::internal(format!("kernel '{label}': @group({}) @binding({}) {name}: {why}", at.group, at.binding));
        let Some(bind) = kernel.bindings.get(at.binding as usize).filter(|_| at.group == 0) else {
            return Err(wrong("is not in the kernel table".to_string()));
        };
        let agrees = match (bind, variable.space) {
            (Bind::Params | Bind::Step, AddressSpace::Uniform) => true,
            (Bind::In, AddressSpace::Storage { access }) => access == StorageAccess::LOAD,
            (Bind::Texture, AddressSpace::Handle) => module.types[variable.ty].inner == TEXTURE,
            (Bind::Out | Bind::InOut, AddressSpace::Storage { access }) => access.contains(StorageAccess::STORE),
            _ => false,
        };
        if !agrees {
            return Err(wrong(format!("is {:?} here and {bind:?} in the kernel table", variable.space)));
        }
        let size = u64::from(module.types[variable.ty].inner.size(module.to_ctx()));
        if *bind == Bind::Step && size != StepRow::BYTES as u64 {
            return Err(wrong(format!("has {size} bytes; a step row has {}", StepRow::BYTES)));
        }
        sizes[at.binding as usize] = Some(size);
    }
    sizes
        .into_iter()
        .enumerate()
        .map(|(i, size)| size.ok_or_else(|| Error::internal(format!("kernel '{label}' declares no @group(0) @binding({i})"))))
        .collect()
}
