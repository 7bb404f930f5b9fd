// Multiply-adds in registers and nothing else: how much arithmetic this adapter can do. No framework function equals it.
//
//   a_j <- a_j x + y, four times a round, over all rounds, for every accumulator j; then sums = sum over j of a_j
//
// | tensor | shape | direction |
// |---|---|---|
// | sums | [items] vec4 | out |
//
// a_j starts at j + (i % 8) / 8 + (0, 1/32, 2/32, 3/32) for item i. One item per invocation. The number of accumulators decides how well a
// processor's pipelines are filled, and beyond its registers everything spills, so that the host tries several; `fused` says fma instead of a product
// and a sum. The accumulators are single variables, and what the number leaves out is cut away when the pipeline is built.
// Host: src/bench/ceiling.rs. Twin: ceiling::multiply_add_twin.

struct CeilingMultiplyAddParams {
    items: u32,
    rounds: u32,
    x: f32,
    y: f32,
}

// vec4 accumulators: 1, 2, 3, 4, 8, 12 or 16.
override accumulators: u32 = 4u;
override fused: u32 = 0u;

@group(0) @binding(0) var<uniform> params: CeilingMultiplyAddParams;
@group(0) @binding(1) var<storage, read_write> sums: array<vec4<f32>>;

fn madd(a: vec4<f32>, x: vec4<f32>, y: vec4<f32>) -> vec4<f32> {
    if fused == 1u { return fma(a, x, y); }
    return a * x + y;
}

@compute @workgroup_size(64)
fn ceiling_multiply_add(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let p = params;
    let i = (wid.y * groups.x + wid.x) * 64u + lid;
    if i >= p.items { return; }

    let x = vec4<f32>(p.x);
    let y = vec4<f32>(p.y);
    let start = vec4<f32>(f32(i & 7u) * 0.125) + vec4<f32>(0.0, 0.03125, 0.0625, 0.09375);
    var a0 = start + 0.0;
    var a1 = start + 1.0;
    var a2 = start + 2.0;
    var a3 = start + 3.0;
    var a4 = start + 4.0;
    var a5 = start + 5.0;
    var a6 = start + 6.0;
    var a7 = start + 7.0;
    var a8 = start + 8.0;
    var a9 = start + 9.0;
    var a10 = start + 10.0;
    var a11 = start + 11.0;
    var a12 = start + 12.0;
    var a13 = start + 13.0;
    var a14 = start + 14.0;
    var a15 = start + 15.0;
    for (var round = 0u; round < p.rounds; round++) {
        a0 = madd(a0, x, y);
        if accumulators >= 2u { a1 = madd(a1, x, y); }
        if accumulators >= 3u { a2 = madd(a2, x, y); }
        if accumulators >= 4u { a3 = madd(a3, x, y); }
        if accumulators >= 8u { a4 = madd(a4, x, y); a5 = madd(a5, x, y); a6 = madd(a6, x, y); a7 = madd(a7, x, y); }
        if accumulators >= 12u { a8 = madd(a8, x, y); a9 = madd(a9, x, y); a10 = madd(a10, x, y); a11 = madd(a11, x, y); }
        if accumulators >= 16u { a12 = madd(a12, x, y); a13 = madd(a13, x, y); a14 = madd(a14, x, y); a15 = madd(a15, x, y); }
        a0 = madd(a0, x, y);
        if accumulators >= 2u { a1 = madd(a1, x, y); }
        if accumulators >= 3u { a2 = madd(a2, x, y); }
        if accumulators >= 4u { a3 = madd(a3, x, y); }
        if accumulators >= 8u { a4 = madd(a4, x, y); a5 = madd(a5, x, y); a6 = madd(a6, x, y); a7 = madd(a7, x, y); }
        if accumulators >= 12u { a8 = madd(a8, x, y); a9 = madd(a9, x, y); a10 = madd(a10, x, y); a11 = madd(a11, x, y); }
        if accumulators >= 16u { a12 = madd(a12, x, y); a13 = madd(a13, x, y); a14 = madd(a14, x, y); a15 = madd(a15, x, y); }
        a0 = madd(a0, x, y);
        if accumulators >= 2u { a1 = madd(a1, x, y); }
        if accumulators >= 3u { a2 = madd(a2, x, y); }
        if accumulators >= 4u { a3 = madd(a3, x, y); }
        if accumulators >= 8u { a4 = madd(a4, x, y); a5 = madd(a5, x, y); a6 = madd(a6, x, y); a7 = madd(a7, x, y); }
        if accumulators >= 12u { a8 = madd(a8, x, y); a9 = madd(a9, x, y); a10 = madd(a10, x, y); a11 = madd(a11, x, y); }
        if accumulators >= 16u { a12 = madd(a12, x, y); a13 = madd(a13, x, y); a14 = madd(a14, x, y); a15 = madd(a15, x, y); }
        a0 = madd(a0, x, y);
        if accumulators >= 2u { a1 = madd(a1, x, y); }
        if accumulators >= 3u { a2 = madd(a2, x, y); }
        if accumulators >= 4u { a3 = madd(a3, x, y); }
        if accumulators >= 8u { a4 = madd(a4, x, y); a5 = madd(a5, x, y); a6 = madd(a6, x, y); a7 = madd(a7, x, y); }
        if accumulators >= 12u { a8 = madd(a8, x, y); a9 = madd(a9, x, y); a10 = madd(a10, x, y); a11 = madd(a11, x, y); }
        if accumulators >= 16u { a12 = madd(a12, x, y); a13 = madd(a13, x, y); a14 = madd(a14, x, y); a15 = madd(a15, x, y); }
    }

    var sum = a0;
    if accumulators >= 2u { sum += a1; }
    if accumulators >= 3u { sum += a2; }
    if accumulators >= 4u { sum += a3; }
    if accumulators >= 8u { sum += a4 + a5 + a6 + a7; }
    if accumulators >= 12u { sum += a8 + a9 + a10 + a11; }
    if accumulators >= 16u { sum += a12 + a13 + a14 + a15; }
    sums[i] = sum;
}
