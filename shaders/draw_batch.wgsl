// What a step draws: z, and a batch of images from the data set, resident or streamed. torch.randn; and with the indices of a RandomSampler,
// (data[index].permute(0, 3, 1, 2).float() * scale + shift). Both are counter-based.
//
//   z[e]        standard normal number e of the draw, as noise has it
//   out[r]      scale data[index(r)] + shift, padding lanes zero
//   index       of batch_order, at the batch's epoch and start
//
// | tensor | shape | direction |
// |---|---|---|
// | data0 .. data3 | segments of (images, H, W, C) without padding: u8 packed four to a word, low byte first, or f32 | in |
// | z | (N, features), padding lanes zero | out |
// | out | (N, C, H, W), or (N, C H W) in the same logical order | out |
//
// A data set above the adapter's binding limit is held in up to four segments of `per_segment` images; absent segments repeat the first.
// Of a streamed one, data0 holds the batches that the next steps draw, put in this very order by the host, and index(r) is just the place there:
// where the step's batch begins (slot `ring_slot` of the step row), plus r.
// Epoch, start, draw counter and how many rows of z come before this micro-batch's first are in the step row. Work: the first workgroups draw four features of z per invocation; each of the others
// reads a piece of one image, whose index its invocations compute alike, 64 vec4s at a time.
// Parts: threefry, normal, batch_order. Host: src/ops/gather.rs. Twins: noise::noise_twin, gather::batch_index, gather::twin::gather_batch.

struct DrawBatchParams {
    z_workgroups: u32,
    z_items: u32,
    z_features: u32,
    z_groups: u32,     // vec4s of a row of z
    z_key0: u32,
    z_key1: u32,
    slot: u32,
    rows: u32,
    pieces: u32,       // workgroups of an image
    items: u32,        // vec4s of an image
    channels: u32,     // of out, without padding
    groups: u32,       // vec4s of a pixel of out
    pixels: u32,       // of out
    data_channels: u32,
    data_pixels: u32,
    images: u32,
    per_segment: u32,
    half_bits: u32,
    seed0: u32,
    seed1: u32,
    scale: f32,
    shift: f32,
    ring_slot: u32,
    reserved0: u32,
}

struct StepRow { slots: array<vec4<u32>, 32> }

@group(0) @binding(0) var<uniform> params: DrawBatchParams;
@group(0) @binding(1) var<uniform> row: StepRow;
@group(0) @binding(2) var<storage, read> data0: array<u32>;
@group(0) @binding(3) var<storage, read> data1: array<u32>;
@group(0) @binding(4) var<storage, read> data2: array<u32>;
@group(0) @binding(5) var<storage, read> data3: array<u32>;
@group(0) @binding(6) var<storage, read_write> z: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> out: array<vec4<f32>>;

// Rounds of 64 vec4s that a workgroup reads of an image.
const ROUNDS = 16u;

// Switches that cost a software adapter all their branches: one segment only, f32 values, one channel only, a streamed data set.
override SINGLE: u32;
override IS_FLOAT: u32;
override GREY: u32;
override STREAMED: u32;

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

// Where the image at a row of the batch is.
fn index_of(r: u32, p: DrawBatchParams) -> u32 {
    let at = row.slots[p.slot];
    if STREAMED != 0u {
        return row.slots[p.ring_slot].x + at.w + r;
    }
    return batch_index(vec2<u32>(p.seed0, p.seed1), at.xy, r, p.images, p.half_bits);
}

fn draw_z(i: u32, p: DrawBatchParams) {
    if i >= p.z_items { return; }
    let feature = vec4<u32>(4u * (i % p.z_groups)) + vec4<u32>(0u, 1u, 2u, 3u);
    let at = row.slots[p.slot];
    let element = (at.w + i / p.z_groups) * p.z_features + feature;
    let words = threefry(vec2<u32>(p.z_key0, p.z_key1), element >> vec4<u32>(1u), vec4<u32>(at.z));
    let value = radius(words.a) * circle(words.b, element & vec4<u32>(1u));
    z[i] = select(vec4<f32>(0.0), value, feature < vec4<u32>(p.z_features));
}

fn read_image(r: u32, first_item: u32, p: DrawBatchParams) {
    let image = index_of(r, p);
    let segment = image / p.per_segment;
    let first = image % p.per_segment * p.data_pixels * p.data_channels;
    for (var k = 0u; k < ROUNDS; k++) {
        let i = first_item + 64u * k;
        if i >= p.items { break; }
        let channel = vec4<u32>(4u * (i % p.groups)) + vec4<u32>(0u, 1u, 2u, 3u);
        // Elements of the image in logical order, and where the data set has them.
        let logical = min(channel, vec4<u32>(p.channels - 1u)) * p.pixels + i / p.groups;
        let at = first + logical % p.data_pixels * p.data_channels + logical / p.data_pixels;
        var raw = vec4<f32>(element(segment, at.x));
        if GREY == 0u {
            raw.y = element(segment, at.y);
            raw.z = element(segment, at.z);
            raw.w = element(segment, at.w);
        }
        out[r * p.items + i] = select(vec4<f32>(0.0), p.scale * raw + p.shift, channel < vec4<u32>(p.channels));
    }
}

@compute @workgroup_size(64)
fn draw_batch(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let p = params;
    let workgroup = wid.y * groups.x + wid.x;
    if workgroup < p.z_workgroups {
        draw_z(workgroup * 64u + lid, p);
        return;
    }
    let piece = workgroup - p.z_workgroups;
    let r = piece / p.pieces;
    if r < p.rows {
        read_image(r, piece % p.pieces * 64u * ROUNDS + lid, p);
    }
}
