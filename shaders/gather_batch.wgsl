// Reads the images of a batch from the resident data set and normalises them. torch: (data[index].permute(0, 3, 1, 2).float() * scale + shift).
//
//   out[r][h][w][c] = scale data[index[r]][h][w][c] + shift, padding lanes zero
//
// | tensor | shape | direction |
// |---|---|---|
// | index | one u32 per row of the batch | in |
// | data0 .. data3 | segments of (images, H, W, C) without padding: u8 packed four to a word, low byte first, or f32 | in |
// | out | (N, C, H, W) | out |
//
// A data set above the adapter's binding limit is held in up to four segments of `per_segment` images; absent segments repeat the first.
// Four channels of one pixel per invocation. Host: src/ops/gather.rs. Twin: gather::twin::gather_batch.

struct GatherBatchParams {
    items: u32,
    channels: u32,
    groups: u32,
    pixels: u32,
    images: u32,
    per_segment: u32,
    scale: f32,
    shift: f32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
    reserved3: u32,
}

@group(0) @binding(0) var<uniform> params: GatherBatchParams;
@group(0) @binding(1) var<storage, read> index: array<u32>;
@group(0) @binding(2) var<storage, read> data0: array<u32>;
@group(0) @binding(3) var<storage, read> data1: array<u32>;
@group(0) @binding(4) var<storage, read> data2: array<u32>;
@group(0) @binding(5) var<storage, read> data3: array<u32>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;

// Switches that cost a software adapter all their branches: one segment only, f32 values, one channel only.
override SINGLE: u32;
override IS_FLOAT: u32;
override GREY: u32;

fn word(segment: u32, at: u32) -> u32 {
    if SINGLE != 0u {
        return data0[at];
    }
    var value = 0u;
    switch segment {
        case 0u: { value = data0[at]; }
        case 1u: { value = data1[at]; }
        case 2u: { value = data2[at]; }
        default: { value = data3[at]; }
    }
    return value;
}

fn element(segment: u32, at: u32) -> f32 {
    if IS_FLOAT != 0u {
        return bitcast<f32>(word(segment, at));
    }
    return f32((word(segment, at >> 2u) >> (8u * (at & 3u))) & 0xffu);
}

@compute @workgroup_size(64)
fn gather_batch(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let p = params;
    let i = (wid.y * groups.x + wid.x) * 64u + lid;
    if i >= p.items { return; }

    let pixel = i / p.groups;
    let image = min(index[pixel / p.pixels], p.images - 1u);
    let segment = image / p.per_segment;
    let first = ((image % p.per_segment) * p.pixels + pixel % p.pixels) * p.channels;

    let channel = 4u * (i % p.groups);
    let last = p.channels - 1u;
    var raw = vec4<f32>(element(segment, first + channel));
    if GREY == 0u {
        raw.y = element(segment, first + min(channel + 1u, last));
        raw.z = element(segment, first + min(channel + 2u, last));
        raw.w = element(segment, first + min(channel + 3u, last));
    }
    let present = vec4<u32>(channel) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.channels);
    out[i] = select(vec4<f32>(0.0), p.scale * raw + p.shift, present);
}
