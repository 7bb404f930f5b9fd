// Reads the images of a batch from the resident data set and normalises them. torch: (data[index].permute(0, 3, 1, 2).float() * scale + shift).
//
//   out[r][h][w][c] = scale data[index[r]][h][w][c] + shift, padding lanes zero
//
// | tensor | shape | direction |
// |---|---|---|
// | index | one u32 per row of the batch | in |
// | data0 .. data3 | segments of (images, H, W, C) without padding: u8 packed four to a word, low byte first, or f32 | in |
// | out | (N, C, H, W), or (N, C H W) in the same logical order | out |
//
// A data set above the adapter's binding limit is held in up to four segments of `per_segment` images; absent segments repeat the first.
// Four channels of one pixel per invocation. Host: src/ops/gather.rs. Twin: gather::twin::gather_batch.

struct GatherBatchParams {
    items: u32,
    channels: u32,
    groups: u32,
    pixels: u32,
    data_channels: u32,
    data_pixels: u32,
    images: u32,
    per_segment: u32,
    is_float: u32,
    scale: f32,
    shift: f32,
    reserved0: u32,
}

@group(0) @binding(0) var<uniform> params: GatherBatchParams;
@group(0) @binding(1) var<storage, read> index: array<u32>;
@group(0) @binding(2) var<storage, read> data0: array<u32>;
@group(0) @binding(3) var<storage, read> data1: array<u32>;
@group(0) @binding(4) var<storage, read> data2: array<u32>;
@group(0) @binding(5) var<storage, read> data3: array<u32>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;

fn word(segment: u32, at: u32) -> u32 {
    var value = 0u;
    switch segment {
        case 0u: { value = data0[at]; }
        case 1u: { value = data1[at]; }
        case 2u: { value = data2[at]; }
        default: { value = data3[at]; }
    }
    return value;
}

fn element(segment: u32, at: u32, is_float: u32) -> f32 {
    if is_float != 0u {
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
    let first = (image % p.per_segment) * p.data_pixels * p.data_channels;

    let channel = vec4<u32>(4u * (i % p.groups)) + vec4<u32>(0u, 1u, 2u, 3u);
    // Elements of the image in logical order, and where the data set has them.
    let logical = min(channel, vec4<u32>(p.channels - 1u)) * p.pixels + pixel % p.pixels;
    let at = first + logical % p.data_pixels * p.data_channels + logical / p.data_pixels;
    let raw = vec4<f32>(
        element(segment, at.x, p.is_float),
        element(segment, at.y, p.is_float),
        element(segment, at.z, p.is_float),
        element(segment, at.w, p.is_float),
    );
    let present = channel < vec4<u32>(p.channels);
    out[i] = select(vec4<f32>(0.0), p.scale * raw + p.shift, present);
}
