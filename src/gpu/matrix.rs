//! Matrix units: what the kernels need of them, and whether an adapter has it.

use wgpu::{AdapterInfo, CooperativeMatrixProperties, CooperativeScalarType, Features};

/// What a device is asked for beside its other features: an experimental one of wgpu.
pub(super) const FEATURES: Features = Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(Features::SHADER_F16);

/// Square fragments of f16 that a subgroup multiplies together, with sums in f32: A, B and the sums have `size` by `size` numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragments {
    /// Rows, columns and k.
    pub size: u32,
    /// Lanes of a subgroup, which must have no other size: a text divides its tiles among so many.
    pub lanes: u32,
}

impl Fragments {
    /// Those of `shaders/gemm_fragment_16.wgsl`.
    pub const KERNELS: Fragments = Fragments { size: 16, lanes: 32 };

    /// Why an adapter with these features and configurations has none such; `None` if it has.
    pub(super) fn fault(self, info: &AdapterInfo, features: Features, configurations: &[CooperativeMatrixProperties]) -> Option<String> {
        let Fragments { size, lanes } = self;
        if !features.contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX) || configurations.is_empty() {
            return Some("its driver offers no cooperative matrices".to_string());
        }
        let fits = |c: &CooperativeMatrixProperties| {
            [c.m_size, c.n_size, c.k_size] == [size; 3]
                && (c.ab_type, c.cr_type) == (CooperativeScalarType::F16, CooperativeScalarType::F32)
        };
        if !configurations.iter().any(fits) {
            let mut there: Vec<String> = configurations.iter().map(named).collect();
            there.sort();
            there.dedup();
            return Some(format!("its matrix units multiply {}, not {size}x{size}x{size} f16 to f32", there.join(" and ")));
        }
        if !features.contains(Features::SHADER_F16) {
            return Some("its shaders cannot compute in f16".to_string());
        }
        let (min, max) = (info.subgroup_min_size, info.subgroup_max_size);
        if !features.contains(Features::SUBGROUP) || (min, max) != (lanes, lanes) {
            let of = if min == max { min.to_string() } else { format!("{min} to {max}") };
            return Some(format!("its subgroups have {of} lanes, not always {lanes}"));
        }
        None
    }
}

/// `8x8x8 f16 to f32`.
fn named(c: &CooperativeMatrixProperties) -> String {
    let name = |scalar| match scalar {
        CooperativeScalarType::F32 => "f32",
        CooperativeScalarType::F16 => "f16",
        CooperativeScalarType::I32 => "i32",
        CooperativeScalarType::U32 => "u32",
    };
    format!("{}x{}x{} {} to {}", c.m_size, c.n_size, c.k_size, name(c.ab_type), name(c.cr_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Features = FEATURES.union(Features::SUBGROUP);

    fn adapter(min: u32, max: u32) -> AdapterInfo {
        AdapterInfo {
            subgroup_min_size: min,
            subgroup_max_size: max,
            ..AdapterInfo::new(wgpu::DeviceType::DiscreteGpu, wgpu::Backend::Vulkan)
        }
    }

    fn configuration(size: u32, ab_type: CooperativeScalarType, cr_type: CooperativeScalarType) -> CooperativeMatrixProperties {
        CooperativeMatrixProperties { m_size: size, n_size: size, k_size: size, ab_type, cr_type, saturating_accumulation: false }
    }

    #[test]
    fn only_what_the_text_is_written_for_fits() {
        use CooperativeScalarType::{F16, F32};
        let fits = [configuration(16, F16, F16), configuration(16, F16, F32)];
        let fault = |info: &AdapterInfo, features, there: &[_]| Fragments::KERNELS.fault(info, features, there);
        assert_eq!(fault(&adapter(32, 32), ALL, &fits), None);
        let says = |fault: Option<String>, words: &str| {
            let fault = fault.unwrap_or_default();
            assert!(fault.contains(words), "'{fault}' does not say '{words}'");
        };
        says(fault(&adapter(32, 32), Features::SUBGROUP, &[]), "offers no cooperative matrices");
        says(fault(&adapter(32, 32), ALL, &[]), "offers no cooperative matrices");
        // Apple's; of the right size, with sums in f16; of another type.
        let apple = [configuration(8, F32, F32), configuration(8, F16, F32), configuration(8, F16, F32)];
        says(fault(&adapter(32, 32), ALL, &apple), "multiply 8x8x8 f16 to f32 and 8x8x8 f32 to f32, not 16x16x16 f16 to f32");
        says(fault(&adapter(32, 32), ALL, &fits[..1]), "multiply 16x16x16 f16 to f16, not");
        says(fault(&adapter(32, 32), ALL, &[configuration(16, F32, F32)]), "not 16x16x16 f16 to f32");
        says(fault(&adapter(32, 32), ALL - Features::SHADER_F16, &fits), "cannot compute in f16");
        // AMD's, which a driver divides as it likes; another size.
        says(fault(&adapter(32, 64), ALL, &fits), "have 32 to 64 lanes, not always 32");
        says(fault(&adapter(16, 16), ALL, &fits), "have 16 lanes");
        let small = Fragments { size: 8, lanes: 8 };
        assert_eq!(small.fault(&adapter(8, 8), ALL, &[configuration(8, F16, F32)]), None);
    }
}
