// Part: the four inputs of column_sums as textures that mirror them: vec4 i is texel (i % 1024, i / 1024). Software adapters read textures
// many times faster than buffers, so that all four reads cost less than one of a buffer. column_sums_vec4 is its counterpart.

@group(0) @binding(1) var x0: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var x1: texture_storage_2d<rgba32float, read>;
@group(0) @binding(3) var x2: texture_storage_2d<rgba32float, read>;
@group(0) @binding(4) var x3: texture_storage_2d<rgba32float, read>;

fn load(job: u32, at: u32) -> vec4<f32> {
    let texel = vec2<u32>(at & 1023u, at >> 10u);
    switch job {
        case 0u: {
            return textureLoad(x0, texel);
        }
        case 1u: {
            return textureLoad(x1, texel);
        }
        case 2u: {
            return textureLoad(x2, texel);
        }
        default: {
            return textureLoad(x3, texel);
        }
    }
}
