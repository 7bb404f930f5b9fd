// The images of a batch: row r reads position start + r of a keyed permutation of the data set. torch.utils.data.RandomSampler, counter-based.
//
//   position = start + r; epoch and position move on together past the end, so that batches run across epochs
//   index    = the first of F(position), F(F(position)), ... that is below `images`
//   F        = a Feistel network of 8 rounds over 2 half_bits bits, the smallest such domain that holds the data set:
//              (left, right) <- (right, left ^ (threefry(key, (right, round)).a mod 2^half_bits)),  key = threefry(seed, (epoch, 1))
//
// F is a bijection, and walking its cycles until they re-enter [0, images) restricts it to a bijection there (Black and Rogaway, 2002): every
// image comes exactly once an epoch. The domain is less than four times the data set, so a walk takes less than four turns on average.
//
// | tensor | shape | direction |
// |---|---|---|
// | out | one u32 per row of the batch | out |
//
// Epoch and start come from the step row. One row per invocation.
// Parts: threefry. Host: src/ops/gather.rs. Twin: gather::batch_index.

struct BatchIndexParams {
    rows: u32,
    images: u32,
    half_bits: u32,
    slot: u32,
    seed0: u32,
    seed1: u32,
    reserved0: u32,
    reserved1: u32,
}

struct StepRow { slots: array<vec4<u32>, 32> }

@group(0) @binding(0) var<uniform> params: BatchIndexParams;
@group(0) @binding(1) var<uniform> row: StepRow;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

fn block(key: vec2<u32>, c0: u32, c1: u32) -> vec2<u32> {
    let words = threefry(key, vec4<u32>(c0), vec4<u32>(c1));
    return vec2<u32>(words.a.x, words.b.x);
}

@compute @workgroup_size(64)
fn batch_index(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let p = params;
    let r = (wid.y * groups.x + wid.x) * 64u + lid;
    if r >= p.rows { return; }

    let at = row.slots[p.slot];
    // start < images and rows + images fits 32 bits (checked by the host), so the sum cannot wrap.
    let position = at.y + r;
    let epoch = at.x + position / p.images;
    let key = block(vec2<u32>(p.seed0, p.seed1), epoch, 1u);
    let mask = (1u << p.half_bits) - 1u;

    var x = position % p.images;
    loop {
        var left = x >> p.half_bits;
        var right = x & mask;
        for (var round = 0u; round < 8u; round++) {
            let next = left ^ (block(key, right, round).x & mask);
            left = right;
            right = next;
        }
        x = (left << p.half_bits) | right;
        if x < p.images { break; }
    }
    out[r] = x;
}
