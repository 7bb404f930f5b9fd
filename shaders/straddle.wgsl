// Part: four channels that begin anywhere, out of the two vec4 that hold them.

// Lanes of the first vec4 in front of the four channels: the offset modulo 4. With 0 whole vec4s move, and the second is not read.
override SHIFT: u32;

fn straddle(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    switch SHIFT {
        case 1u: {
            return vec4<f32>(a.yzw, b.x);
        }
        case 2u: {
            return vec4<f32>(a.zw, b.xy);
        }
        case 3u: {
            return vec4<f32>(a.w, b.xyz);
        }
        default: {
            return a;
        }
    }
}
