// Part: standard normal numbers from pairs of random words (Box and Muller, 1958): radius(w0) * circle(w1, odd). Logarithm and sine are computed
// here: WGSL only promises an absolute error of 2^-21 for log and 2^-11 for sin, and numbers should not depend on the driver beyond f32
// rounding. Twin: noise::noise_twin.

// sqrt(-2 ln u1). The argument is (word >> 8) + 1, so u1 is in (0, 1] and the result in [0, 5.77].
fn radius(word: vec4<u32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(vec4<f32>((word >> vec4<u32>(8u)) + vec4<u32>(1u)));
    // u1 = 2^e m with m in [1/sqrt 2, sqrt 2), so that nothing cancels where u1 is near 1.
    var e = vec4<f32>(vec4<i32>(bits >> vec4<u32>(23u)) - vec4<i32>(127 + 24));
    var m = bitcast<vec4<f32>>((bits & vec4<u32>(0x007fffffu)) | vec4<u32>(0x3f800000u));
    let high = m >= vec4<f32>(1.41421356);
    m = select(m, 0.5 * m, high);
    e = select(e, e + 1.0, high);
    // ln m = 2 artanh s
    let s = (m - 1.0) / (m + 1.0);
    let s2 = s * s;
    let ln_m = 2.0 * s * (1.0 + s2 * (1.0 / 3.0 + s2 * (0.2 + s2 * (1.0 / 7.0 + s2 * (1.0 / 9.0)))));
    return sqrt(max(-2.0 * (e * 0.69314718 + ln_m), vec4<f32>(0.0)));
}

// cos(2 pi u2) where `odd` is 0, sin(2 pi u2) where it is 1; u2 = (word >> 8) / 2^24. The quadrant is exact integer arithmetic.
fn circle(word: vec4<u32>, odd: vec4<u32>) -> vec4<f32> {
    let turn = word >> vec4<u32>(8u);
    let nearest = (turn + vec4<u32>(1u << 21u)) >> vec4<u32>(22u);
    let x = vec4<f32>(vec4<i32>(turn) - vec4<i32>(nearest << vec4<u32>(22u))) * (6.28318531 / 16777216.0);
    let x2 = x * x;
    let sine = x * (1.0 + x2 * (-1.0 / 6.0 + x2 * (1.0 / 120.0 + x2 * (-1.0 / 5040.0 + x2 * (1.0 / 362880.0)))));
    let cosine = 1.0 + x2 * (-0.5 + x2 * (1.0 / 24.0 + x2 * (-1.0 / 720.0 + x2 * (1.0 / 40320.0 - x2 * (1.0 / 3628800.0)))));
    // sin is cos a quarter turn earlier; cos of the quadrants is cos, -sin, -cos, sin.
    let quadrant = (nearest + 3u * odd) & vec4<u32>(3u);
    let size = select(cosine, sine, (quadrant & vec4<u32>(1u)) == vec4<u32>(1u));
    return select(size, -size, ((quadrant + vec4<u32>(1u)) & vec4<u32>(2u)) == vec4<u32>(2u));
}
