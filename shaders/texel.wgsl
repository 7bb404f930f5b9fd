// Part: where vec4 i of an operand is in a texture that mirrors it. Two vec4 of one item lie side by side.

fn texel(index: u32) -> vec2<u32> {
    return vec2<u32>(index & 1023u, index >> 10u);
}

const NEXT: vec2<u32> = vec2<u32>(1u, 0u);
