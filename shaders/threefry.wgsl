// Threefry-2x32 with 20 rounds, four counters at a time: two random words for each pair (key, counter).
// Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
// Joined in front of the kernels that draw random numbers. Twin: noise::threefry.

struct Words {
    a: vec4<u32>,
    b: vec4<u32>,
}

fn mix_round(w: Words, bits: u32) -> Words {
    let a = w.a + w.b;
    let b = ((w.b << vec4<u32>(bits)) | (w.b >> vec4<u32>(32u - bits))) ^ a;
    return Words(a, b);
}

// Lane j is the block of counter (c0[j], c1[j]).
fn threefry(key: vec2<u32>, c0: vec4<u32>, c1: vec4<u32>) -> Words {
    let k0 = vec4<u32>(key.x);
    let k1 = vec4<u32>(key.y);
    let k2 = vec4<u32>(key.x ^ key.y ^ 0x1bd11bdau);

    var w = Words(c0 + k0, c1 + k1);
    w = mix_round(mix_round(mix_round(mix_round(w, 13u), 15u), 26u), 6u);
    w = Words(w.a + k1, w.b + k2 + vec4<u32>(1u));
    w = mix_round(mix_round(mix_round(mix_round(w, 17u), 29u), 16u), 24u);
    w = Words(w.a + k2, w.b + k0 + vec4<u32>(2u));
    w = mix_round(mix_round(mix_round(mix_round(w, 13u), 15u), 26u), 6u);
    w = Words(w.a + k0, w.b + k1 + vec4<u32>(3u));
    w = mix_round(mix_round(mix_round(mix_round(w, 17u), 29u), 16u), 24u);
    w = Words(w.a + k1, w.b + k2 + vec4<u32>(4u));
    w = mix_round(mix_round(mix_round(mix_round(w, 13u), 15u), 26u), 6u);
    return Words(w.a + k2, w.b + k0 + vec4<u32>(5u));
}
