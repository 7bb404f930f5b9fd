// Part: the four inputs of column_sums as buffers. column_sums_texture is its counterpart.

@group(0) @binding(1) var<storage, read> x0: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> x1: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> x2: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> x3: array<vec4<f32>>;

fn load(job: u32, at: u32) -> vec4<f32> {
    switch job {
        case 0u: {
            return x0[at];
        }
        case 1u: {
            return x1[at];
        }
        case 2u: {
            return x2[at];
        }
        default: {
            return x3[at];
        }
    }
}
