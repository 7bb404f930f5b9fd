// The batch order: which image is at a place of a batch. Joined in front of the kernels that read the data set.
//
//   position    start + r; epoch and position move on together past the end, so that batches run across epochs
//   index       the first of F(position), F(F(position)), ... that is below `images`
//   F           a Feistel network of 8 rounds over 2 half_bits bits, the smallest such domain that holds the data set:
//               (left, right) <- (right, left ^ (threefry(key, (right, round)).a mod 2^half_bits)),  key = threefry(seed, (epoch, 1))
//
// F is a bijection, and walking its cycles until they re-enter [0, images) restricts it to a bijection there (Black and Rogaway, 2002): every
// image comes exactly once an epoch. The domain is less than four times the data set, so a walk takes less than four turns on average.
// Parts: threefry. Twin: gather::batch_index.

fn block(key: vec2<u32>, c0: u32, c1: u32) -> vec2<u32> {
    let words = threefry(key, vec4<u32>(c0), vec4<u32>(c1));
    return vec2<u32>(words.a.x, words.b.x);
}

// The image at row r of a batch that begins at place.y of epoch place.x.
fn batch_index(seed: vec2<u32>, place: vec2<u32>, r: u32, images: u32, half_bits: u32) -> u32 {
    // start < images and rows + images fits 32 bits (checked by the host), so the sum cannot wrap.
    let position = place.y + r;
    let epoch = place.x + position / images;
    let key = block(seed, epoch, 1u);
    let mask = (1u << half_bits) - 1u;
    var x = position % images;
    loop {
        var left = x >> half_bits;
        var right = x & mask;
        for (var round = 0u; round < 8u; round++) {
            let next = left ^ (block(key, right, round).x & mask);
            left = right;
            right = next;
        }
        x = (left << half_bits) | right;
        if x < images { break; }
    }
    return x;
}
