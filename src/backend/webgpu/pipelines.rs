//! Permutations to compute pipelines, each compiled once.

use std::collections::HashMap;
use std::rc::Rc;

use super::device::Gpu;
use super::wgsl::{Access, Permutation, bindings};

/// A compiled permutation.
pub struct Kernel {
    pub name: &'static str,
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    /// Binding numbers, ascending.
    bindings: Vec<u32>,
}

/// One entry of a plan: replayed as it is, but for the grid of kernels that grow with the context.
#[derive(Clone)]
pub struct Dispatch {
    pub kernel: Rc<Kernel>,
    bind_group: wgpu::BindGroup,
    pub grid: [u32; 3],
}

#[derive(Default)]
pub struct Pipelines {
    compiled: HashMap<Permutation, Rc<Kernel>>,
}

impl Pipelines {
    /// Compiles at first use; in a browser that goes on in the background. Errors in a shader reach [`Gpu::check`].
    pub fn get(&mut self, gpu: &Gpu, permutation: Permutation) -> Rc<Kernel> {
        self.compiled
            .entry(permutation)
            .or_insert_with_key(|permutation| Rc::new(Kernel::compile(gpu, permutation)))
            .clone()
    }

    pub fn permutations(&self) -> impl Iterator<Item = &Permutation> {
        self.compiled.keys()
    }
}

impl Kernel {
    fn compile(gpu: &Gpu, permutation: &Permutation) -> Kernel {
        let name = permutation.kernel;
        let sabotaged = gpu.options.sabotage.as_deref() == Some(name);
        let wgsl = permutation.clone().flag_if(sabotaged, "SABOTAGE").link(cfg!(target_arch = "wasm32"));
        let declared = bindings(&wgsl);
        let entries: Vec<wgpu::BindGroupLayoutEntry> =
            declared.iter().map(|&(binding, access)| entry(binding, access)).collect();
        let device = &gpu.device;
        let layout =
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(name), entries: &entries });
        let module = wgpu::ShaderModuleDescriptor { label: Some(name), source: wgpu::ShaderSource::Wgsl(wgsl.into()) };
        // Our kernels guard their indices themselves, and are tested; in a browser this is the checked call anyway.
        let checks = wgpu::ShaderRuntimeChecks { force_loop_bounding: false, ..wgpu::ShaderRuntimeChecks::checked() };
        // SAFETY: only endless loops are left unchecked, and every loop here has a bound.
        let module = unsafe { device.create_shader_module_trusted(module, checks) };
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(name),
            bind_group_layouts: &[Some(&layout)],
            ..Default::default()
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every kernel writes what it reads of workgroup memory.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Kernel { name, pipeline, layout, bindings: declared.iter().map(|&(binding, _)| binding).collect() }
    }

    /// `buffers` in the order of the binding numbers.
    pub fn bind(self: &Rc<Kernel>, gpu: &Gpu, buffers: &[&wgpu::Buffer], grid: [u32; 3]) -> Dispatch {
        assert_eq!(buffers.len(), self.bindings.len(), "buffers of {}", self.name);
        let entries: Vec<wgpu::BindGroupEntry> = self
            .bindings
            .iter()
            .zip(buffers)
            .map(|(&binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        gpu.count(|counts| counts.bind_groups += 1);
        let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(self.name),
            layout: &self.layout,
            entries: &entries,
        });
        Dispatch { kernel: self.clone(), bind_group, grid }
    }
}

impl Dispatch {
    pub fn encode(&self, pass: &mut wgpu::ComputePass) {
        self.encode_grid(pass, self.grid);
    }

    pub fn encode_grid(&self, pass: &mut wgpu::ComputePass, grid: [u32; 3]) {
        pass.set_pipeline(&self.kernel.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
    }
}

fn entry(binding: u32, access: Access) -> wgpu::BindGroupLayoutEntry {
    let ty = match access {
        Access::Uniform => wgpu::BufferBindingType::Uniform,
        access => wgpu::BufferBindingType::Storage { read_only: access == Access::Read },
    };
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}
